"""Members of lines and taxes that a document leaves out where they are null: most have none of them."""

from collections.abc import Collection, Mapping
from typing import Final

import polars as pl

from billing.documents.tariffs import NO_PERCENTAGE

# From so many rows on, those that are alike are looked for.
_MANY: Final = 1_000
_ROW: Final = "_row"
_TEXT: Final = "_text"
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


def written(
    rows: pl.DataFrame, keys: list[str], name: str, members: Mapping[str, pl.Expr], apart: pl.Expr
) -> pl.DataFrame:
    """The keys and, as JSON text `name`, the list of the rows of each with these members, in their order.

    Of many rows those that are alike are written once.

    Parameters
    ----------
    apart
        Whether a row has something of its own: such rows are each written.
    """
    texts = _texts(rows, members) if rows.height < _MANY else _texts_of_many(rows, members, apart)
    lists = rows.select(keys).with_columns(texts.alias(name)).group_by(keys, maintain_order=True).agg(name)
    return lists.with_columns(pl.format("[{}]", pl.col(name).list.join(",")).alias(name))


def entries_of_numbers(rows: pl.DataFrame, members: Mapping[str, pl.Expr], numbers: Mapping[str, pl.Expr]) -> pl.Series:
    """The JSON of each row: an object of members, which few rows have of their own, and then of numbers as text."""
    begin = (
        pl.struct([member.alias(name) for name, member in members.items()]).struct.json_encode().str.strip_suffix("}")
    )
    if rows.height < _MANY:
        found = rows.with_columns(begin.alias(_TEXT))
    else:
        names = _columns_of(members)
        alike = rows.select(names).unique().with_columns(begin.alias(_TEXT))
        found = rows.join(alike, on=names, how="left", nulls_equal=True, maintain_order="left")
    ends = [
        pl.format(f',"{name}":{{}}', pl.coalesce(pl.format('"{}"', number), pl.lit("null")))
        for name, number in numbers.items()
    ]
    return found.select(pl.concat_str(_TEXT, *ends, pl.lit("}"))).to_series()


def _texts_of_many(rows: pl.DataFrame, members: Mapping[str, pl.Expr], apart: pl.Expr) -> pl.Series:
    names = _columns_of(members)
    numbered = rows.select(names).with_row_index(_ROW)
    nested = [name for name, dtype in numbered.schema.items() if dtype.is_nested()]
    is_apart = pl.any_horizontal(apart, *(pl.col(name).is_not_null() for name in nested))
    alike, others = numbered.filter(~is_apart), numbered.filter(is_apart)
    same = alike.drop(nested).select(pl.all().eq_missing(pl.all().first()).all()).row(0, named=True)
    told_apart = [name for name, is_same in same.items() if not is_same and name != _ROW] or [names[0]]
    groups = alike.group_by(told_apart).agg(_ROW)[_ROW]
    of_alike = pl.DataFrame([groups, _texts(numbered[groups.list.first()], members)]).explode(_ROW)
    of_others = pl.DataFrame([others[_ROW], _texts(others, members)])
    return pl.concat([of_alike, of_others]).sort(_ROW)[_TEXT]


def _columns_of(members: Mapping[str, pl.Expr]) -> list[str]:
    """The columns that members are made of."""
    return list(dict.fromkeys(name for member in members.values() for name in member.meta.root_names()))


def _texts(rows: pl.DataFrame, members: Mapping[str, pl.Expr]) -> pl.Series:
    """The JSON of each row.

    A member that is left out, and null in all rows, is no field: it would be written and removed again.
    """
    of_rows = rows.select(**members)
    nulls = of_rows.null_count().row(0, named=True)
    absent = {each for group in _LEFT_OUT if all(nulls.get(each) == rows.height for each in group) for each in group}
    said = [each for each in members if each not in absent]
    text = pl.struct(said).struct.json_encode()
    for phrase in _not_said(said):
        text = text.str.replace_all(phrase, "", literal=True)
    return of_rows.select(text.alias(_TEXT)).to_series()


def _not_said(members: Collection[str]) -> list[str]:
    """How nulls that are left out are written in JSON."""
    said = ["".join(f',"{each}":null' for each in group) for group in _LEFT_OUT if set(members).issuperset(group)]
    return [*said, NO_PERCENTAGE] if "tariff" in members else said
