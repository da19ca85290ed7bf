"""Which rows of delivered usage would be set aside, found without ingesting them."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from billing.ingest import dry_run as trying
from billing.ingest.landing import delivered_files
from billing.ingest.validation import Rules
from tests.billing.ingest import raw_logs
from tests.billing.ingest.small_business import Business, line


def tried(business: Business, every_row: bool = False) -> list[str]:
    rules = Rules.of(business.metrics, pl.Series(sorted(business.accounts)), business.time_zone, business.lateness_days)
    return trying.usage_that_would_be_set_aside(
        business.home, delivered_files(business.home, None), rules, every_row=every_row
    )


def test_every_reason_is_told_with_its_rows_and_what_was_found_first(business: Business) -> None:
    business.deliver(
        [line("1"), line("2", subject="nobody"), line("3", subject="none"), "no JSON", line("4", type="x")]
    )
    business.deliver([line("5", time="2025-01-01T00:00:00Z"), line("6", time="2026-02-01T00:00:00Z")], name="b.jsonl")
    business.deliver([line("7", data={"count": "many"}), line("8", time="noon")], name="c.jsonl")
    first = "rows would be set aside"
    for told, begins in zip(
        tried(business),
        [
            f"a.jsonl: 2 of the first 5 {first}: unknown_account, first in row 2: subject: found 'nobody', expected",
            f"a.jsonl: 1 of the first 5 {first}: unparseable, first in row 4: ",
            f"a.jsonl: 1 of the first 5 {first}: unknown_type, first in row 5: type: found 'x', expected one of",
            f"b.jsonl: 1 of the first 2 {first}: too_late, first in row 1: time: found '2025-01-01T",
            f"b.jsonl: 1 of the first 2 {first}: future_dated, first in row 2: time: found '2026-02-01T",
            f"c.jsonl: 1 of the first 2 {first}: impossible_value, first in row 1: data.count: found 'many', expected",
            f"c.jsonl: 1 of the first 2 {first}: invalid_time, first in row 2: time: found 'noon', expected",
        ],
        strict=True,
    ):
        assert told.startswith(f"usage/2026-01-02/{begins}")
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


@pytest.mark.parametrize("every_row", [False, True])
def test_of_many_small_files_the_same_is_told_as_of_each_alone(
    business: Business, monkeypatch: pytest.MonkeyPatch, every_row: bool
) -> None:
    monkeypatch.setattr(trying, "FIRST_ROWS", 2)
    for each in range(40):
        rows = [
            [line(f"e{each}")],
            [line(f"e{each}", subject="nobody"), "no JSON"],
            [line(f"e{each}"), line(f"f{each}", type="x"), line(f"g{each}", type="x")],
            [line(f"e{each}", data={"count": -1}), line(f"f{each}", time="2025-01-01T00:00:00Z")],
            ["PK\x03\x04 a workbook"],
        ][each % 5]
        business.deliver(rows, day=f"2026-01-0{2 + each % 2}", name=f"{each:02d}.json")
    together = tried(business, every_row)
    monkeypatch.setattr(trying, "_MANY", 10**9)
    assert (len(together), together) == (48, tried(business, every_row))


@pytest.mark.parametrize(
    ("times", "are_days"),
    [
        (["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"], True),
        (["2026-01-01T23:00:00Z", "2026-01-01T23:00:00Z", "2026-01-02T23:00:00Z"], True),
        (["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"], True),
        # Equal lines of one instant are requests of one instant.
        (["2026-01-01T23:00:00Z", "2026-01-01T23:00:00Z"], False),
        (["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-02T12:00:00Z"], False),
        (["2026-01-01T00:00:00Z"], False),
    ],
)
def test_equal_records_of_a_log_with_days_only_are_told(tmp_path: Path, times: list[str], are_days: bool) -> None:
    event = (
        "id: content, type: {const: http.request}, subject: {const: acme}, time: {field: at}, data.bytes: {const: 1}"
    )
    home = raw_logs.business(tmp_path, raw_logs.one_source("csv", event))
    home.deliver(["n,at", *(f"{n},{at}" for n, at in enumerate(times))], name="a.csv")
    rules = Rules.of(home.metrics, pl.Series(sorted(home.accounts)), home.time_zone, 90, sources=home.sources)
    found = trying.usage_that_would_be_set_aside(home.home, delivered_files(home.home, None), rules, every_row=False)
    assert [" takes equal records of a day " in line for line in found] == [True] * are_days
    for each in range(16):
        home.deliver(["n,at", *(f"{n}-{each},{at}" for n, at in enumerate(times))], name=f"{each}.csv")
    found = trying.usage_that_would_be_set_aside(home.home, delivered_files(home.home, None), rules, every_row=False)
    assert [" takes equal records of a day " in line for line in found] == [True] * are_days * 17
