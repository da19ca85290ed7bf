"""Members of lines and taxes that a document leaves out where they are null: most have none of them."""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from billing.documents.tariffs import NO_PERCENTAGE

# Members of one entry are left out together.
_LEFT_OUT: Final = (
    ("due_kind", "due_on"),
    ("settles",),
    ("part",),
    ("bounds",),
    ("gives_back", "gives_back_on"),
    ("taxed_as",),
    ("rule",),
    ("add_on",),
    ("charge_id",),
    ("coupon",),
    ("applies_to_line",),
    ("title",),
)


def grouped(rows: pl.DataFrame, keys: list[str], name: str, members: Mapping[str, pl.Expr]) -> pl.DataFrame:
    """The keys and, as list `name`, the rows of each with these members, in their order.

    A member that is left out, and null in all rows, is no field of the list.
    """
    of_rows = rows.select(**members)
    nulls = of_rows.null_count().row(0, named=True)
    absent = {each for group in _LEFT_OUT if all(nulls.get(each) == rows.height for each in group) for each in group}
    said = of_rows.select(pl.struct(each for each in members if each not in absent).alias(name))
    return rows.select(keys).hstack(said).group_by(keys, maintain_order=True).agg(name)


def not_said(entries: Any) -> list[str]:
    """How nulls that are left out are written in the JSON of a list, by its type."""
    fields = {field.name for field in entries.inner.fields}
    said = ["".join(f',"{each}":null' for each in group) for group in _LEFT_OUT if fields.issuperset(group)]
    return [*said, NO_PERCENTAGE] if "tariff" in fields else said
