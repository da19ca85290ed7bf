"""An account is known whatever else is looked up with it."""

import polars as pl
import pytest

from billing.ingest.validation import Rules

SUBJECTS = ["a-1", "a-999", "nobody", "", None, "A-1"]


@pytest.mark.parametrize("rows", [len(SUBJECTS), 1_000_000])
def test_few_rows_and_many_find_the_same_accounts(rows: int) -> None:
    rules = Rules.of((), pl.Series([f"a-{number}" for number in range(1_000)]), "UTC", 90)
    found = pl.DataFrame({"subject": SUBJECTS}).select(rules.is_of_known_account(rows)).to_series()
    assert found.to_list() == [True, True, False, False, False, False]


def test_without_accounts_none_is_known() -> None:
    rules = Rules.of((), pl.Series([], dtype=pl.String), "UTC", 90)
    found = pl.DataFrame({"subject": SUBJECTS}).with_columns(known=rules.is_of_known_account(len(SUBJECTS)))
    assert not found["known"].any()
