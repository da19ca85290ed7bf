"""What each source delivered, against the same weekday of earlier weeks."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl

from billing.ingest.volumes import low_days, low_days_in_words, rejects_by_source, volumes
from tests.billing.ingest.raw_logs import business, one_source
from tests.billing.ingest.small_business import Business, line

EVENT = (
    "id: content, type: {const: http.request}, subject: {field: who}, time: {field: at, format: epoch_s}, "
    "data.bytes: {field: size}"
)
PATTERN = r"{regex: '^(?P<who>\S+) (?P<at>\d+) (?P<size>\S+)(?: (?P<kind>\w+))?$'}"
MONDAY = date(2026, 1, 5)


def home_of(folder: Path) -> Business:
    text = one_source(PATTERN, EVENT, keep="[{field: kind, not_in: [no]}]").replace('"**"', '"edge/*"')
    return business(folder, text, lateness_days=400)


def deliver(home: Business, day: date, rows: int) -> None:
    at = 1767571200 + 86400 * (day - MONDAY).days
    home.deliver([f"acme {at + n} 1" for n in range(rows)], day=day.isoformat(), name="edge/a.log")


def test_a_day_below_a_third_of_its_weekday_is_low(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    for week, rows in enumerate((90, 90, 3, 90, 29)):
        deliver(home, MONDAY + timedelta(weeks=week), rows)
    # Sundays are always few.
    for week in range(5):
        deliver(home, MONDAY + timedelta(weeks=week, days=6), 2)
    home.ingest()
    since, through = MONDAY, MONDAY + timedelta(weeks=4, days=6)
    found = low_days(home.home, since, through)
    assert found.rows() == [(date(2026, 1, 19), "log", 3, 90), (date(2026, 2, 2), "log", 29, 90)]
    assert low_days_in_words(found)[0] == "2026-01-19: log delivered 3 rows, usually 90 on this weekday"
    assert low_days(home.home, date(2026, 2, 8), through).is_empty()


def test_a_third_is_enough_and_one_week_makes_nothing_usual(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    for week, rows in enumerate((90, 1, 90, 30)):
        deliver(home, MONDAY + timedelta(weeks=week), rows)
    home.ingest()
    assert low_days(home.home, MONDAY, MONDAY + timedelta(weeks=3)).is_empty()


def test_a_day_without_any_delivery_is_low(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    for week in (0, 1, 3):
        deliver(home, MONDAY + timedelta(weeks=week), 9)
    home.ingest()
    found = low_days(home.home, MONDAY, MONDAY + timedelta(weeks=3))
    assert found.rows() == [(date(2026, 1, 19), "log", 0, 9)]


def test_sums_by_source_with_times_and_reasons(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    lines = ["acme 1767607200 1", "acme 1767607201 0.1234567891", "acme 1767607202 1 no", "cut", "nobody 1767607200 1"]
    home.deliver(lines, day="2026-01-05", name="edge/a.log")
    home.deliver(lines[:1], day="2026-01-06", name="edge/a.log")
    home.deliver([line(type="email.sent")], day="2026-01-05")
    home.ingest()
    found = volumes(home.home, date(2026, 1, 5), date(2026, 1, 31)).with_columns(
        pl.col("first_time", "last_time").dt.to_string("%d %H:%M:%S")
    )
    assert found.rows() == [
        ("log", 2, 6, 2, 1, 2, 1, 1, "05 10:00:00", "05 10:00:01", 0),
        (None, 1, 1, 1, 0, 0, 0, 0, "01 12:00:00", "01 12:00:00", 0),
    ]
    assert rejects_by_source(home.home, date(2026, 1, 5), date(2026, 1, 31)).rows() == [
        ("log", "unknown_account", 1),
        ("log", "unparseable", 1),
    ]


def test_a_home_without_deliveries_has_no_volumes(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    home.ingest()
    assert volumes(home.home, MONDAY, MONDAY).is_empty()
    assert low_days(home.home, MONDAY, MONDAY).is_empty()
