"""What a document leaves out does not depend on the other lines that are written with it."""

import polars as pl
import pytest

from billing.documents import left_out
from billing.documents.left_out import entries_of_numbers, written

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
    lists = written(rows, _KEYS, "lines", {name: pl.col(name) for name in _MEMBERS}, apart=pl.lit(value=False))
    return dict(lists.iter_rows())


@pytest.mark.parametrize("name", _LINES)
def test_a_line_is_written_alike_alone_and_beside_others(name: str) -> None:
    assert _texts(name)[name] == _texts(*_LINES)[name]


def test_only_nulls_that_are_left_out_are() -> None:
    assert _texts("plain")["plain"] == '[{"line":1,"metric":null}]'
    assert _texts("settles what has no kind")["settles what has no kind"] == (
        '[{"line":5,"due_kind":null,"due_on":"2026-01-10","metric":"emails"}]'
    )


def test_lines_keep_their_order_in_each_document() -> None:
    rows = pl.DataFrame({"account_id": ["b", "a", "b"], "line": [1, 2, 3]})
    lists = written(rows, _KEYS, "lines", {"line": pl.col("line")}, apart=pl.lit(value=False))
    assert lists.rows() == [("b", '[{"line":1},{"line":3}]'), ("a", '[{"line":2}]')]


def test_many_lines_are_written_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pl.DataFrame(
        [
            ("a", 1, None, None, "9.00", None),
            ("a", 2, "emails", None, "1.00", [{"up_to": "5"}]),
            ("b", 1, None, None, "9.00", None),
            ("b", 2, None, "spring", "-0.90", None),
            ("c", 1, None, "spring", "-0.90", None),
            ("c", 2, "emails", None, "1.00", None),
            ("d", 1, None, None, "9.00", [{"up_to": None}]),
        ],
        schema={
            "account_id": pl.String,
            "line": pl.Int32,
            "metric": pl.String,
            "coupon": pl.String,
            "amount": pl.String,
            "settles": pl.List(pl.Struct({"up_to": pl.String})),
        },
        orient="row",
    )
    members = {name: pl.col(name) for name in rows.columns[1:]}

    def lists() -> list[tuple[str, str]]:
        return written(rows, _KEYS, "lines", members, apart=pl.col("metric").is_not_null()).rows()

    one_by_one = lists()
    monkeypatch.setattr(left_out, "_MANY", 1)
    assert lists() == one_by_one
    assert one_by_one[2] == (
        "c",
        '[{"line":1,"metric":null,"coupon":"spring","amount":"-0.90"},{"line":2,"metric":"emails","amount":"1.00"}]',
    )


def test_entries_of_numbers_are_written_alike_many_or_few(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pl.DataFrame(
        {"metric": ["emails", None, "emails"], "unit": ['a "unit"', None, 'a "unit"'], "used": ["5", None, "7"]}
    )
    members, numbers = {"metric": pl.col("metric"), "of": pl.col("unit")}, {"quantity": pl.col("used")}
    few = entries_of_numbers(rows, members, numbers).to_list()
    monkeypatch.setattr(left_out, "_MANY", 1)
    assert entries_of_numbers(rows, members, numbers).to_list() == few
    assert few == [
        '{"metric":"emails","of":"a \\"unit\\"","quantity":"5"}',
        '{"metric":null,"of":null,"quantity":null}',
        '{"metric":"emails","of":"a \\"unit\\"","quantity":"7"}',
    ]
