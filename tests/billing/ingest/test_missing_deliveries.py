"""Which deliveries are missing: days without any, and files that came every day."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest

from billing.ingest.missing_deliveries import MissingDeliveries, missing_deliveries
from billing.store.home import Home


def home(root: Path, deliveries: Mapping[str, Sequence[str]]) -> Home:
    for day, names in deliveries.items():
        folder = root / "landing" / "usage" / day
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch()
    return Home(root)


def every_day(first: str, last: str, *names: str) -> dict[str, list[str]]:
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    days = [(start + timedelta(days=each)).isoformat() for each in range((end - start).days + 1)]
    return {day: [name.format(day=day, digits=day.replace("-", "")) for name in names] for day in days}


def missing(home: Home, since: str, through: str) -> MissingDeliveries:
    return missing_deliveries(home, date.fromisoformat(since), date.fromisoformat(through))


def test_nothing_is_expected_before_the_first_delivery(tmp_path: Path) -> None:
    assert not missing(home(tmp_path, {}), "2026-01-01", "2026-01-31")
    found = home(tmp_path / "a", every_day("2026-01-10", "2026-01-20", "usage.jsonl"))
    assert not missing(found, "2026-01-01", "2026-01-20")


@pytest.mark.parametrize(
    ("first", "gap", "last"),
    [("2027-12-28", "2028-01-01", "2028-01-03"), ("2028-02-26", "2028-02-29", "2028-03-02")],
)
def test_a_day_without_a_delivery_is_missing(tmp_path: Path, first: str, gap: str, last: str) -> None:
    days = every_day(first, last, "usage.jsonl")
    del days[gap]
    found = missing(home(tmp_path, days), first, last)
    assert (found.days, found.files) == ((date.fromisoformat(gap),), ())
    assert found.in_words() == [f"{gap}: nothing was delivered"]


def test_a_day_whose_folder_is_empty_is_missing(tmp_path: Path) -> None:
    days = every_day("2026-01-10", "2026-01-12", "usage.jsonl") | {"2026-01-11": []}
    assert missing(home(tmp_path, days), "2026-01-01", "2026-01-12").days == (date(2026, 1, 11),)


def test_a_file_that_came_on_seven_days_and_stopped_is_missing_once(tmp_path: Path) -> None:
    days = every_day("2026-01-01", "2026-01-07", "web.jsonl", "mail-{day}.csv", "app_{digits}.parquet")
    days |= every_day("2026-01-08", "2026-01-10", "web.jsonl", "app_{digits}.parquet")
    found = missing(home(tmp_path, days), "2026-01-01", "2026-01-10")
    assert found.files == ((date(2026, 1, 8), "mail-<day>"),)


def test_a_file_that_comes_in_another_format_has_not_stopped(tmp_path: Path) -> None:
    days = every_day("2026-01-01", "2026-01-07", "mail-{day}.jsonl.gz")
    days |= every_day("2026-01-08", "2026-01-08", "mail-{day}.PARQUET")
    days |= every_day("2026-01-09", "2026-01-09", "mail-{day}.csv.zst")
    assert not missing(home(tmp_path, days), "2026-01-01", "2026-01-09")


def test_a_file_that_did_not_come_every_day_is_not_expected(tmp_path: Path) -> None:
    days = every_day("2026-01-01", "2026-01-10", "web.jsonl")
    days["2026-01-03"] = days["2026-01-05"] = ["web.jsonl", "resent.jsonl"]
    assert not missing(home(tmp_path, days), "2026-01-01", "2026-01-10")


def test_only_the_days_that_are_asked_for_are_looked_at(tmp_path: Path) -> None:
    days = every_day("2026-01-01", "2026-01-02", "web.jsonl") | every_day("2026-03-01", "2026-03-02", "web.jsonl")
    found = missing(home(tmp_path, days), "2026-02-27", "2026-03-02")
    assert found.days == (date(2026, 2, 27), date(2026, 2, 28))


def test_many_missing_days_are_told_by_the_latest(tmp_path: Path) -> None:
    found = missing(home(tmp_path, {"2026-01-01": ["web.jsonl"]}), "2026-01-01", "2026-01-06")
    assert found.in_words(most=2) == [
        "and 3 earlier ones",
        "2026-01-05: nothing was delivered",
        "2026-01-06: nothing was delivered",
    ]
