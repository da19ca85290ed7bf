"""Billing dates against a calendar walked day by day in plain Python."""

import calendar
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import polars as pl
import pytest

from billing.model.calendar import first_day, midnight, month_of, months_after, months_between
from billing.rules.billing_dates import Grid
from tests.sizes import sized

THIRTY_YEARS = [date(2024, 1, 1) + timedelta(days=day) for day in range(30 * 365 + 8)]
UNKNOWN_TO_POLARS = {"Factory", "localtime"}
AT_MIDNIGHT = ("America/Asuncion", "America/Havana", "America/Sao_Paulo", "Asia/Amman", "Asia/Beirut", "Asia/Tehran")


def billing_date(start: date, k: int, *, first_of_month: bool = False) -> date:
    """The oracle: months are counted one by one, the day is looked up in the standard library's calendar."""
    year, month = start.year, start.month
    for _ in range(k):
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    if first_of_month and k > 0:
        return date(year, month, 1)
    return date(year, month, min(start.day, calendar.monthrange(year, month)[1]))


def dates(grid: Grid, starts: list[date], ks: list[int]) -> list[date]:
    frame = pl.DataFrame({"start": starts, "k": ks}, schema={"start": pl.Date, "k": pl.Int32})
    return frame.select(grid.date(pl.col("start"), pl.col("k"))).to_series().to_list()


@pytest.mark.parametrize("first_of_month", [False, True])
def test_billing_dates_from_every_day_of_thirty_years_stand_where_a_calendar_has_them(first_of_month: bool) -> None:
    pairs = [(start, k) for start in THIRTY_YEARS for k in (0, 1, 2, 13, 24)]
    found = dates(Grid(first_of_month), [start for start, _ in pairs], [k for _, k in pairs])
    assert found == [billing_date(start, k, first_of_month=first_of_month) for start, k in pairs]


def test_a_subscription_of_the_31st_never_drifts() -> None:
    assert dates(Grid(False), [date(2026, 1, 31)] * 6, list(range(6))) == [
        date(2026, 1, 31),
        date(2026, 2, 28),
        date(2026, 3, 31),
        date(2026, 4, 30),
        date(2026, 5, 31),
        date(2026, 6, 30),
    ]
    assert dates(Grid(False), [date(2024, 2, 29)] * 3, [12, 24, 48]) == [
        date(2025, 2, 28),
        date(2026, 2, 28),
        date(2028, 2, 29),
    ]


@pytest.mark.parametrize("anchor", range(1, 32))
@pytest.mark.parametrize("first_of_month", [False, True])
def test_the_next_billing_date_of_every_day_of_thirty_years_is_the_first_one_after_it(
    anchor: int, first_of_month: bool
) -> None:
    start = date(2024, 1, anchor)
    every = [billing_date(start, k, first_of_month=first_of_month) for k in range(30 * 12 + 2)]
    expected_next: list[date] = []
    expected_index: list[int] = []
    k = 0
    for day in THIRTY_YEARS:
        while every[k] <= day:
            k += 1
        expected_next.append(every[k])
        expected_index.append(k)
    grid = Grid(first_of_month)
    found = pl.DataFrame({"day": THIRTY_YEARS, "start": [start] * len(THIRTY_YEARS)}).select(
        next=grid.next_date(pl.col("start"), pl.col("day")), k=grid.next_index(pl.col("start"), pl.col("day"))
    )
    assert found["next"].to_list() == expected_next
    assert found["k"].to_list() == expected_index


@pytest.mark.parametrize("first_of_month", [False, True])
@pytest.mark.parametrize("start", [date(2026, 1, 31), date(2026, 3, 1), date(2024, 2, 29), date(2026, 12, 10)])
def test_before_a_trial_ends_the_next_billing_date_is_the_first_one(start: date, first_of_month: bool) -> None:
    days = [start - timedelta(days=back) for back in range(1, 800)]
    found = pl.DataFrame({"day": days}).select(Grid(first_of_month).next_date(pl.lit(start), pl.col("day")).alias("n"))
    assert found["n"].unique().to_list() == [start]


@pytest.mark.parametrize("start", [date(2024, 2, 29), date(2025, 1, 31), date(2025, 6, 10)])
def test_a_yearly_fee_falls_due_every_twelfth_billing_date(start: date) -> None:
    fees = [billing_date(start, 12 * year) for year in range(8)]
    days = [start + timedelta(days=day) for day in range(-400, 6 * 365)]
    expected = [next(fee for fee in fees if fee > day) for day in days]
    found = pl.DataFrame({"day": days}).select(
        n=Grid(False).next_fee_date(pl.lit(start), pl.lit("yearly"), pl.col("day"))
    )
    assert found["n"].to_list() == expected


def test_a_monthly_fee_falls_due_on_every_billing_date() -> None:
    grid, start = Grid(False), pl.lit(date(2026, 1, 31))
    frame = pl.DataFrame({"day": THIRTY_YEARS})
    assert frame.select(grid.next_fee_date(start, pl.lit("monthly"), pl.col("day")).alias("n")).equals(
        frame.select(grid.next_date(start, pl.col("day")).alias("n"))
    )


def test_months_are_counted_across_years() -> None:
    assert months_after("2026-11", 2) == "2027-01"
    assert months_after("2026-01", -1) == "2025-12"
    assert months_after("2026-01", -13) == "2024-12"
    assert months_between("2025-11", "2026-02") == ["2025-11", "2025-12", "2026-01", "2026-02"]
    assert months_between("2026-02", "2026-02") == ["2026-02"]
    assert months_between("2026-02", "2026-01") == []
    assert first_day("2026-02") == date(2026, 2, 1)
    assert pl.select(month_of(pl.lit(date(2026, 2, 28)))).item() == "2026-02"


def midnights(days: list[date], zone: str) -> list[datetime]:
    found = pl.DataFrame({"day": days}).select(midnight(pl.col("day"), zone).dt.cast_time_unit("us").alias("m"))
    return found["m"].to_list()


@pytest.mark.parametrize(
    ("zone", "day", "first_instant"),
    [
        ("UTC", date(2026, 3, 29), datetime(2026, 3, 29, 0, tzinfo=UTC)),
        # both changes of the clock: the day has 23 or 25 hours
        ("Europe/Berlin", date(2026, 3, 29), datetime(2026, 3, 28, 23, tzinfo=UTC)),
        ("Europe/Berlin", date(2026, 3, 30), datetime(2026, 3, 29, 22, tzinfo=UTC)),
        ("Europe/Berlin", date(2026, 10, 25), datetime(2026, 10, 24, 22, tzinfo=UTC)),
        ("Europe/Berlin", date(2026, 10, 26), datetime(2026, 10, 25, 23, tzinfo=UTC)),
        # there is no midnight: the day begins at one o'clock
        ("America/Sao_Paulo", date(2018, 11, 4), datetime(2018, 11, 4, 3, tzinfo=UTC)),
        ("Africa/Cairo", date(2026, 4, 24), datetime(2026, 4, 23, 22, tzinfo=UTC)),
        # or at three
        ("Antarctica/Casey", date(2016, 10, 22), datetime(2016, 10, 21, 16, tzinfo=UTC)),
        # midnight comes twice: the first one counts
        ("Atlantic/Azores", date(2026, 10, 25), datetime(2026, 10, 25, 0, tzinfo=UTC)),
        ("America/Havana", date(2026, 11, 1), datetime(2026, 11, 1, 4, tzinfo=UTC)),
        # there is no such day: Samoa went from the 29th to the 31st
        ("Pacific/Apia", date(2011, 12, 30), datetime(2011, 12, 30, 10, tzinfo=UTC)),
        ("Pacific/Apia", date(2011, 12, 31), datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ],
)
def test_a_day_begins_at_its_first_instant_in_the_billing_time_zone(
    zone: str, day: date, first_instant: datetime
) -> None:
    assert midnights([day], zone) == [first_instant]


def test_in_every_time_zone_every_day_begins_where_the_calendar_turns() -> None:
    days = [date(2015, 1, 1) + timedelta(days=day) for day in range(16 * 365)]
    zones = sorted(available_timezones() - UNKNOWN_TO_POLARS)
    # Of most zones every fourth, and all whose clocks turn at midnight.
    for name in sized(usual=sorted({*zones[::4], *AT_MIDNIGHT}), long=zones):
        zone = ZoneInfo(name)
        begins = pl.DataFrame({"day": days}).with_columns(instant=midnight(pl.col("day"), name))
        assert begins["instant"].null_count() == 0
        assert begins["instant"].is_sorted(), name
        # nearly all begin at 00:00 on the clock; the others are looked at one by one
        clock = pl.col("instant").dt.convert_time_zone(name).dt.replace_time_zone(None)
        for day, instant in begins.filter(clock != pl.col("day").cast(pl.Datetime("ns"))).iter_rows():
            before = (instant - timedelta(microseconds=1)).astimezone(zone).replace(tzinfo=None)
            assert before < datetime.combine(day, time.min), name
            assert instant.astimezone(zone).date() >= day, name
