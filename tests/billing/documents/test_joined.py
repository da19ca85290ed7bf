"""Rows laid beside each other are those that a look-up finds."""

import polars as pl
import pytest

from billing.documents.joined import joined

ROWS = pl.DataFrame({"account_id": ["a", "b", None], "kind": ["x", "y", "z"]})


@pytest.mark.parametrize("accounts", [["a", "b", None], ["b", "a", None], ["a", "b"], ["b", "c", "a"], []])
def test_each_row_has_what_stands_under_its_key(accounts: list[str | None]) -> None:
    others = pl.DataFrame(
        {"account_id": accounts, "city": [f"city of {each}" for each in accounts]},
        schema={"account_id": pl.String, "city": pl.String},
    )
    found = joined(ROWS, others, ["account_id"])
    assert found.columns == ["account_id", "kind", "city"]
    # A null names nothing.
    assert found["city"].to_list() == [
        f"city of {each}" if each and each in accounts else None for each in ROWS["account_id"]
    ]


@pytest.mark.parametrize("accounts", [["a", "b"], ["b", "a"]])
def test_a_column_of_both_is_that_of_the_rows(accounts: list[str]) -> None:
    others = pl.DataFrame({"account_id": accounts, "kind": ["other", "other"], "city": accounts})
    found = joined(ROWS.head(2), others, ["account_id"])
    assert found.to_dicts() == [
        {"account_id": "a", "kind": "x", "city": "a"},
        {"account_id": "b", "kind": "y", "city": "b"},
    ]
