"""What a document leaves out does not depend on the other lines that are written with it."""

import polars as pl
import pytest

from billing.documents.left_out import grouped, not_said

_KEYS = ["account_id"]
_MEMBERS = ("line", "due_kind", "due_on", "metric", "rule", "coupon", "title")
_LINES = {
    "plain": (1, None, None, None, None, None, None),
    "coupon": (2, None, None, None, None, "spring", "Spring offer"),
    "of a rule": (3, None, None, "emails", "region=eu", None, None),
    "settles": (4, "overage", "2026-01-10", "emails", None, None, None),
    "settles what has no kind": (5, None, "2026-01-10", "emails", None, None, None),
}


def _texts(*names: str) -> dict[str, str]:
    """By account, which has the name of its only line: the list as it is stored."""
    rows = pl.DataFrame([(name, *_LINES[name]) for name in names], schema=["account_id", *_MEMBERS], orient="row")
    rows = rows.with_columns(pl.exclude("account_id", "line").cast(pl.String))
    lists = grouped(rows, _KEYS, "lines", {name: pl.col(name) for name in _MEMBERS})
    text = pl.struct("lines").struct.json_encode()
    for said in not_said(lists.schema["lines"]):
        text = text.str.replace_all(said, "", literal=True)
    return dict(lists.select("account_id", text).iter_rows())


@pytest.mark.parametrize("name", _LINES)
def test_a_line_is_written_alike_alone_and_beside_others(name: str) -> None:
    assert _texts(name)[name] == _texts(*_LINES)[name]


def test_only_nulls_that_are_left_out_are() -> None:
    assert _texts("plain")["plain"] == '{"lines":[{"line":1,"metric":null}]}'
    assert _texts("settles what has no kind")["settles what has no kind"] == (
        '{"lines":[{"line":5,"due_kind":null,"due_on":"2026-01-10","metric":"emails"}]}'
    )


def test_lines_keep_their_order_in_each_document() -> None:
    rows = pl.DataFrame({"account_id": ["b", "a", "b"], "line": [1, 2, 3]})
    lists = grouped(rows, _KEYS, "lines", {"line": pl.col("line")})
    assert lists.to_dicts() == [
        {"account_id": "b", "lines": [{"line": 1}, {"line": 3}]},
        {"account_id": "a", "lines": [{"line": 2}]},
    ]
