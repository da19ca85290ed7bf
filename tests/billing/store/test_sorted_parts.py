"""Rows in several sorted parts are read as one sorted table, whatever the number of parts and of rows at once."""

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.store.sorted_parts import SortedParts

_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "account_id": pl.String,
    "line": pl.Int64,
    "said": pl.List(pl.String),
}


@settings(max_examples=25)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("aAbcdeé\U0001f600"), st.integers(0, 3)), max_size=8), max_size=4),
    st.integers(1, 9),
)
def test_the_rows_of_all_parts_come_out_sorted_and_those_of_an_account_together(
    parts: list[list[tuple[str, int]]], at_once: int
) -> None:
    # No two parts have rows of the same account.
    rows = [
        [(f"{account}{place}", line, [account]) for account, line in dict.fromkeys(part)]
        for place, part in enumerate(parts)
    ]
    written = SortedParts(["account_id", "line"])
    for part in rows:
        written.add(pl.DataFrame(part, schema=_SCHEMA, orient="row"))

    found = list(written.rows(at_once))

    assert [row for frame in found for row in frame.iter_rows()] == sorted(row for part in rows for row in part)
    accounts = [set(frame["account_id"]) for frame in found]
    assert sum(map(len, accounts)) == len(set().union(*accounts))
    assert len(parts) < 2 or all(len(each) <= at_once for each in accounts)
    assert not parts or written.scan().collect().height == sum(map(len, rows))


def test_no_part_gives_no_frame() -> None:
    assert list(SortedParts(["account_id"]).rows()) == []
