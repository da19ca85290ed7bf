"""Which rows of delivered usage would be set aside, found without ingesting them."""

import gzip

import polars as pl
import pytest

from billing.ingest import trying
from billing.ingest.judging import Rules
from billing.ingest.landing import delivered_files
from tests.billing.ingest.small_business import Business, line


def tried(business: Business, every_row: bool = False) -> list[str]:
    rules = Rules.of(business.metrics, pl.Series(sorted(business.accounts)), business.time_zone, business.lateness_days)
    return trying.usage_that_would_be_set_aside(business.home, delivered_files(business.home, None), rules, every_row)


def test_every_reason_is_told_with_its_rows_and_what_was_found_first(business: Business) -> None:
    business.deliver(
        [line("1"), line("2", subject="nobody"), line("3", subject="none"), "no JSON", line("4", type="x")]
    )
    business.deliver([line("5", time="2025-01-01T00:00:00Z"), line("6", time="2026-02-01T00:00:00Z")], name="b.jsonl")
    business.deliver([line("7", data={"count": "many"}), line("8", time="noon")], name="c.jsonl")
    assert tried(business) == [
        "usage/2026-01-02/a.jsonl: 2 of the first 5 rows would be set aside: unknown_account, first in row 2: subject "
        "nobody",
        "usage/2026-01-02/a.jsonl: 1 of the first 5 rows would be set aside: unparseable, first in row 4: no JSON",
        "usage/2026-01-02/a.jsonl: 1 of the first 5 rows would be set aside: unknown_type, first in row 5: type x",
        "usage/2026-01-02/b.jsonl: 1 of the first 2 rows would be set aside: too_late, first in row 1: time "
        "2025-01-01 00:00:00.000000000+00:00",
        "usage/2026-01-02/b.jsonl: 1 of the first 2 rows would be set aside: future_dated, first in row 2: time "
        "2026-02-01 00:00:00.000000000+00:00",
        *(
            f"usage/2026-01-02/c.jsonl: 1 of the first 2 rows would be set aside: {reason}, first in row {row}: {text}"
            for row, reason, text in (
                (1, "impossible_value", line("7", data={"count": "many"})[:120]),
                (2, "invalid_time", line("8", time="noon")[:120]),
            )
        ),
    ]
    assert not business.home.lake.exists()


def test_what_cannot_be_read_is_told(business: Business) -> None:
    business.deliver(gzip.compress(line().encode())[:-3], name="a.jsonl.gz")
    (told,) = tried(business)
    assert told.startswith("usage/2026-01-02/a.jsonl.gz: cannot be read: ")


def test_first_rows_of_new_files_are_read_unless_all_is_asked_for(
    business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "FIRST_ROWS", 2)
    business.deliver([line("1"), line("2"), line("3", subject="nobody")])
    assert tried(business) == []
    (told,) = tried(business, every_row=True)
    assert told.startswith("usage/2026-01-02/a.jsonl: 1 of its 3 rows would be set aside: unknown_account")
    business.ingest()
    business.deliver([line("4", subject="nobody")], name="b.jsonl")
    assert [each.partition(":")[0] for each in tried(business)] == ["usage/2026-01-02/b.jsonl"]
    assert len(tried(business, every_row=True)) == 2
