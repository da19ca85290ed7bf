"""Months of many small days are read once by a process, and again when a day is another."""

import polars as pl
import pytest

from billing.ingest import events as reading
from billing.ingest.events import event_files, scan_events
from billing.model.tables import EVENTS
from billing.store.frames import scan_frames
from billing.store.home import Home
from tests.billing.ingest.small_business import Business, line
from tests.billing.ingest.test_deliveries import NewBusiness

DAYS = tuple(f"2026-01-{day:02}" for day in range(2, 14))
ORDER = ("delivery_day", "file", "row")


@pytest.fixture
def business(new_business: NewBusiness) -> Business:
    """Twelve days of one event each."""
    business = new_business("home")
    for day in DAYS:
        business.deliver([line(f"of {day}", time=f"{day}T10:00:00Z")], day)
    business.ingest()
    reading._held_events.cache_clear()
    return business


def as_files(home: Home) -> pl.DataFrame:
    """EVENTS as they stand in the files."""
    return scan_frames(event_files(home, ["2026-01"]), EVENTS).sort(ORDER).collect()


def found(business: Business) -> pl.DataFrame:
    return scan_events(business.home, ["2026-01"]).sort(ORDER).collect()


def test_a_month_of_small_days_is_read_once_and_is_what_its_files_hold(business: Business) -> None:
    for _ in range(3):
        assert found(business).equals(as_files(business.home))
    assert found(business).height == len(DAYS)
    assert reading._held_events.cache_info().misses == 1


def test_a_day_that_is_written_again_is_read_again(business: Business) -> None:
    assert found(business).height == len(DAYS)
    business.deliver([line("another", time="2026-01-05T11:00:00Z")], "2026-01-05", "late.jsonl")
    business.ingest()
    assert found(business).equals(as_files(business.home))
    assert found(business).height == len(DAYS) + 1


def test_few_or_large_files_are_not_held(business: Business, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_FEW_BYTES", 100)
    assert found(business).equals(as_files(business.home))
    monkeypatch.undo()
    monkeypatch.setattr(reading, "_MANY_FILES", len(DAYS) + 1)
    assert found(business).equals(as_files(business.home))
    assert reading._held_events.cache_info().misses == 0
