"""Rows of large inputs, read and checked piece by piece: of good rows only used columns are kept (rules 26, 27)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl

from billing.inputs.input_files import read_pieces
from billing.inputs.row_checks import (
    RowsRead,
    conflicting_detail,
    first_wrong_rule,
    repeated_identities,
    unknown_account_rule,
)
from billing.model.codes import RejectReason
from billing.model.errors import RefusedError
from billing.store.home import Home

_IDS_LOOKED_UP = 100_000
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class InputTable:
    """The files of an input and how a row by itself is checked.

    Attributes
    ----------
    columns
        The columns to read; `identity` is one that every file has.
    check
        Adds has_card_number, reason, detail (of the first rule that a row breaks) and parsed values.
    kept
        Columns that are kept of a good row.
    """

    files: Sequence[Path]
    columns: Sequence[str]
    identity: str
    home: Home
    encoding: str
    check: Callable[[pl.DataFrame], pl.DataFrame]
    kept: Sequence[str | pl.Expr]


@dataclass(frozen=True)
class CheckedRows:
    """Rows of an input.

    Attributes
    ----------
    good
        place (UInt32: number of the row in all files, ascending) and the kept columns of rows that break no rule.
    wrong
        The other rows, with all columns.
    rows
        file and rows: the number of rows by file.
    """

    good: pl.DataFrame
    wrong: pl.DataFrame
    rows: pl.DataFrame


def read_checked(table: InputTable, warnings: list[str]) -> CheckedRows:
    """Read and check an input.

    Raises
    ------
    RefusedError
        As `read_pieces`.
    """

    def split(piece: pl.DataFrame) -> CheckedRows:
        checked = table.check(piece)
        is_wrong = checked["reason"].is_not_null()
        has_wrong = is_wrong.any()
        good = (checked.filter(~is_wrong) if has_wrong else checked).select("place", *table.kept)
        wrong = checked.filter(is_wrong) if has_wrong else checked.clear()
        return CheckedRows(_without_empty(good), wrong, piece.group_by("file").agg(rows=pl.len().cast(pl.Int64)))

    read = _read(table, warnings, split)
    return CheckedRows(
        good=pl.concat([each.good for each in read]),
        wrong=pl.concat([each.wrong for each in read], rechunk=True),
        rows=pl.concat([each.rows for each in read]).group_by("file").agg(pl.col("rows").sum()),
    )


def counting_rows(table: InputTable, known: pl.Series, content: Sequence[str], noticed: RowsRead) -> pl.DataFrame:
    """The kept columns of rows that count, of known accounts and each identity once; collects rejects of the others.

    Parameters
    ----------
    content
        Columns that are equal in rows that repeat each other (rule 26).
    """
    read = read_checked(table, noticed.warnings)
    good = read.good.rename({"place": "_place"})
    is_unknown = _not_in(good["account_id"], known)
    known_rows = good.filter(~is_unknown) if is_unknown.any() else good
    repeated = repeated_identities(known_rows, table.identity, content)
    conflicts = repeated.filter("conflicts")["_place"]
    aside = pl.concat([good["_place"].filter(is_unknown), conflicts]).sort()
    wrong = read.wrong
    if len(aside):
        again = first_wrong_rule(_read_again(table, aside).drop("reason", "detail"), unknown_account_rule(known))
        again = again.with_columns(
            reason=pl.col("reason").fill_null(pl.lit(RejectReason.CONFLICTING)),
            detail=pl.coalesce("detail", conflicting_detail(table.identity)),
        )
        wrong = pl.concat([wrong, again.select(wrong.columns)]).sort("place")
    noticed.set_aside(wrong, table.identity, read.rows)
    others = repeated.filter(pl.col("repeats") | pl.col("conflicts")).select("_place")
    counting = known_rows if others.is_empty() else known_rows.join(others, on="_place", how="anti")
    # `drop` and `select` would copy the columns.
    counting.drop_in_place("_place")
    return counting


def gathered(frame: pl.DataFrame, order: pl.Series) -> pl.DataFrame:
    """The rows of `frame` at the places `order`; takes the columns out of `frame`, to have one twice and not all."""
    columns = []
    for name in frame.columns:
        column = frame.drop_in_place(name)
        is_empty = column.null_count() == len(column)
        columns.append(column.clear(len(order)) if is_empty else column.gather(order))
    return pl.DataFrame(columns)


def _not_in(ids: pl.Series, known: pl.Series) -> pl.Series:
    """Whether each of `ids` is not in `known`: looked up by slices of their hashes, to bound the memory it takes."""
    if ids.is_empty():
        return pl.Series(dtype=pl.Boolean)
    slices = 1 + len(known) // _IDS_LOOKED_UP
    id_slice, known_slice = ids.hash() % slices, known.hash() % slices
    found = pl.repeat(False, len(ids), dtype=pl.Boolean, eager=True)
    for each in range(slices):
        places = (id_slice == each).arg_true()
        looked_up = ids.gather(places).is_in(known.filter(known_slice == each).implode())
        found = found.scatter(places.filter(~looked_up), values=True)
    return found


def _read_again(table: InputTable, places: pl.Series) -> pl.DataFrame:
    """The rows at `places` with all columns: good ones of which only the kept columns are in memory."""
    wanted = places.to_frame("place")
    found = _read(
        table, [], lambda piece: table.check(piece.join(wanted, on="place", maintain_order="left", how="semi"))
    )
    # Polars fails on some texts in several chunks of which one is empty: join them.
    rows = pl.concat(found, rechunk=True)
    if rows.height < len(places) or rows["reason"].null_count() < rows.height:
        raise RefusedError(
            f"{table.home.landing}: found other rows in {', '.join(path.name for path in table.files)} than a moment "
            "ago, expected files that do not change while they are read: run again"
        )
    return rows


def _read(table: InputTable, warnings: list[str], make: Callable[[pl.DataFrame], _Made]) -> list[_Made]:
    return read_pieces(table.files, table.columns, table.identity, table.home, table.encoding, warnings, make)


def _without_empty(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame, its empty columns made anew: these take no memory, those that were read do."""
    if frame.is_empty():
        return frame
    return frame.with_columns(column.clear(frame.height) for column in frame if column.null_count() == frame.height)
