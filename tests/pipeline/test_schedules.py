"""The schedules under a moved clock: which months they ask for, as of which day."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from assets.partitions import calendars
from pipeline.definitions import defs
from pipeline.schedules import schedules_in

NEW_YORK = "America/New_York"
Asked = Sequence[tuple[str | None, str]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Asked]]:
    """Month and as-of day of the runs that a schedule asks for at a tick, in their order."""

    def at(name: str, tick: str, zone: str = "UTC") -> Asked:
        [schedule] = [each for each in schedules_in(zone) if each.name == name]
        time = datetime.fromisoformat(tick)
        moved = time if time.tzinfo else time.replace(tzinfo=ZoneInfo(zone))
        with dg.build_schedule_context(
            scheduled_execution_time=moved, repository_def=defs.get_repository_def()
        ) as context:
            found = schedule.evaluate_tick(context).run_requests or []
        assert len({request.run_key for request in found}) == len(found)
        configured = [request.run_config["resources"]["billing_home"]["config"]["as_of"] for request in found]
        assert [request.tags["overage/as_of"] for request in found] == configured
        return [(request.partition_key, day) for request, day in zip(found, configured, strict=True)]

    yield at


def test_every_day_the_current_month_is_billed_after_the_one_before_it(asked: Callable[..., Asked]) -> None:
    assert asked("issue_daily", "2026-03-15T05:00:00") == [("2026-02", "2026-03-14"), ("2026-03", "2026-03-14")]


def test_on_the_first_the_month_that_ended_is_billed_up_to_its_last_day(asked: Callable[..., Asked]) -> None:
    assert asked("issue_daily", "2026-03-01T05:00:00") == [("2026-01", "2026-02-28"), ("2026-02", "2026-02-28")]


@pytest.mark.parametrize("zone", ["UTC", NEW_YORK])
def test_a_years_end_is_a_month_like_any_other(asked: Callable[..., Asked], zone: str) -> None:
    assert asked("issue_daily", "2027-01-01T05:00:00", zone) == [("2026-11", "2026-12-31"), ("2026-12", "2026-12-31")]
    assert asked("issue_daily", "2027-01-02T05:00:00", zone) == [("2026-12", "2027-01-01"), ("2027-01", "2027-01-01")]
    assert asked("complete_month", "2027-01-02T06:00:00", zone)[-1] == ("2026-12", "2027-01-01")


@pytest.mark.parametrize("zone", ["UTC", NEW_YORK])
def test_a_leap_day_is_the_last_day_of_its_month(asked: Callable[..., Asked], zone: str) -> None:
    assert asked("issue_daily", "2028-03-01T05:00:00", zone) == [("2028-01", "2028-02-29"), ("2028-02", "2028-02-29")]
    assert asked("issue_daily", "2028-02-29T05:00:00", zone)[-1] == ("2028-02", "2028-02-28")
    assert asked("complete_month", "2028-03-02T06:00:00", zone)[-1] == ("2028-02", "2028-03-01")


def test_on_the_second_the_month_before_is_completed(asked: Callable[..., Asked]) -> None:
    assert asked("complete_month", "2026-04-02T06:00:00") == [("2026-02", "2026-04-01"), ("2026-03", "2026-04-01")]


@pytest.mark.parametrize(
    ("tick", "as_of"),
    [
        # clocks go forward at two on 2026-03-08 and back on 2026-11-01
        ("2026-03-08T05:00:00-04:00", "2026-03-07"),
        ("2026-03-09T05:00:00-04:00", "2026-03-08"),
        ("2026-11-01T05:00:00-05:00", "2026-10-31"),
        ("2026-11-02T05:00:00-05:00", "2026-11-01"),
    ],
)
def test_the_day_before_is_a_calendar_day_however_long_it_was(
    asked: Callable[..., Asked], tick: str, as_of: str
) -> None:
    assert asked("issue_daily", tick, NEW_YORK)[-1] == (as_of[:7], as_of)


def test_the_day_before_is_that_of_the_billing_time_zone(asked: Callable[..., Asked]) -> None:
    # three in the morning in UTC is still the evening before in New York
    assert asked("issue_daily", "2026-03-01T03:00:00+00:00", NEW_YORK)[-1] == ("2026-02", "2026-02-27")
    assert asked("issue_daily", "2026-03-01T03:00:00+00:00", "UTC")[-1] == ("2026-02", "2026-02-28")


def test_a_schedule_asks_for_no_month_before_the_first_that_is_billed(asked: Callable[..., Asked]) -> None:
    first = calendars().months.get_first_partition_key()
    assert first == "2024-01"
    assert asked("issue_daily", "2023-12-15T05:00:00") == []
    assert asked("issue_daily", "2024-01-15T05:00:00") == [("2024-01", "2024-01-14")]
    assert asked("complete_month", "2024-02-02T06:00:00") == [("2024-01", "2024-02-01")]
