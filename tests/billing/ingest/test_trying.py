"""Which rows of delivered usage would be set aside, found without ingesting them."""

import gzip

import polars as pl
import pytest

from billing.ingest import trying
from billing.ingest.judging import Rules
from billing.ingest.landing import delivered_files
from tests.billing.ingest.small_business import Business, line

UNKNOWN = "subject: found 'nobody', expected the id of a known account"
NO_JSON = "row: found no JSON (Expecting value at character 1), expected one JSON object"
TYPES = "the event types bandwidth.served, email.sent, leads.changed, login, page.viewed"
TOO_LATE = "time: found '2025-01-01T00:00:00Z', expected 2025-10-04 or later, 90 days before the delivery"
FUTURE = "time: found '2026-02-01T00:00:00Z', expected a day no later than 2026-01-03, the one after the delivery"
NUMBER = "a decimal number not below zero, of at most 18 digits before the point"
INSTANT = "an instant such as 2026-01-31T12:00:00Z of the years 1970 to 2199"


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
        f"usage/2026-01-02/{file}: {told} rows would be set aside: {reason}, first in row {row}: {words}"
        for file, told, reason, row, words in (
            ("a.jsonl", "2 of the first 5", "unknown_account", 2, UNKNOWN),
            ("a.jsonl", "1 of the first 5", "unparseable", 4, NO_JSON),
            ("a.jsonl", "1 of the first 5", "unknown_type", 5, f"type: found 'x', expected one of {TYPES}"),
            ("b.jsonl", "1 of the first 2", "too_late", 1, TOO_LATE),
            ("b.jsonl", "1 of the first 2", "future_dated", 2, FUTURE),
            ("c.jsonl", "1 of the first 2", "impossible_value", 1, f"data.count: found 'many', expected {NUMBER}"),
            ("c.jsonl", "1 of the first 2", "invalid_time", 2, f"time: found 'noon', expected {INSTANT}"),
        )
    ]
    assert not business.home.lake.exists()


def test_what_cannot_be_read_is_told(business: Business) -> None:
    business.deliver(gzip.compress(line().encode())[:-3], name="a.jsonl.gz")
    (told,) = tried(business)
    assert told.startswith("usage/2026-01-02/a.jsonl.gz: cannot be read: ")


def test_no_card_number_is_told(business: Business) -> None:
    card = "4111 1111 1111 1111"
    business.deliver([line("1", subject=card), line("2", time=card)])
    business.deliver(f"id,{card}\n", name="b.csv")
    told = " ".join(tried(business))
    assert card not in told and told.count("**** **** **** 1111") == 3


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
