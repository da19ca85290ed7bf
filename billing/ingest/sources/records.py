"""Records of a raw log: rows with named text fields, as the readers of the formats yield them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

_FIELD: Final = "field:"


@dataclass(frozen=True)
class Records:
    """A block of records.

    Attributes
    ----------
    fields
        row, unparseable, detail (what is wrong with an unparseable record) and a text column per field that is read,
        named by `field_column`, null where the record has none; in the order of the file.
    texts
        Returns the texts of the records at some positions of `fields`.
    unfinished
        Number of the last row, when it may be cut off.
    """

    fields: pl.DataFrame
    texts: Callable[[pl.Series], pl.Series]
    unfinished: int | None = None


def field_column(field: str) -> str:
    """Name of the column of a field: apart from the columns that every record has."""
    return f"{_FIELD}{field}"


def without_nulls(fields: Sequence[str], nulls: Sequence[str]) -> list[pl.Expr]:
    """Columns of fields in which empty texts, and those that stand for nothing, are null."""
    columns = [pl.col(field_column(field)) for field in fields]
    return [pl.when(~column.is_in(["", *nulls])).then(column).name.keep() for column in columns]
