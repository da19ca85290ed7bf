"""Quantities in input rows: whole counts, and mappings of names to counts as JSON text."""

import json
from typing import Final

import polars as pl

from billing.inputs.row_checks import LONGEST

_MOST: Final = 100_000
COUNT_EXPECTED: Final = "a whole number from 1 to 100000"
_DIGITS: Final = "^[0-9]{1,10}$"


def parse_count(column: str) -> pl.Expr:
    """Parse a whole number from 1 to 100,000 to Int64; null when invalid."""
    text = pl.col(column)
    number = pl.when(text.str.contains(_DIGITS)).then(text).cast(pl.Int64, strict=False)
    return pl.when(number.is_between(1, _MOST)).then(number)


def named_quantities(texts: pl.Series) -> pl.Series:
    """JSON objects of names and counts as texts that are equal where these are; null when invalid.

    Each is a JSON array of objects `{"name", "quantity"}`, sorted by name: QUANTITIES of `billing.model.offers`.
    """
    # The same few mappings come again and again: parse each once.
    distinct = texts.drop_nulls().unique()
    parsed = pl.DataFrame(
        {"text": distinct, "parsed": [_canonical(text) for text in distinct]},
        schema={"text": pl.String, "parsed": pl.String},
    )
    return texts.to_frame("text").join(parsed, on="text", how="left", maintain_order="left")["parsed"]


class _Members(tuple[tuple[str, object], ...]):
    """The members of a JSON object, repeated ones too."""

    __slots__ = ()


def _canonical(text: str) -> str | None:
    try:
        members = json.loads(text, object_pairs_hook=_Members, parse_float=str, parse_int=str)
        if not isinstance(members, _Members):
            return None
        found = {name.strip(): _count(value) for name, value in members}
        # Lone surrogates are no text.
        "".join(found).encode()
    except (ValueError, RecursionError):
        return None
    if len(found) < len(members) or None in found.values() or not all(map(_is_name, found)):
        return None
    return json.dumps([{"name": name, "quantity": found[name]} for name in sorted(found)], ensure_ascii=False)


def _is_name(name: str) -> bool:
    return 0 < len(name) <= LONGEST["add_on"] and name.isprintable()


def _count(value: object) -> int | None:
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 10:
        return None
    return int(value) if 1 <= int(value) <= _MOST else None
