"""The sensors under a moved clock: which days they want ingested, which months they want built again."""

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest

from billing.store.home import Home
from billing.store.lock import lock
from pipeline import schedules, sensors
from pipeline.definitions import defs
from pipeline.run_state import marked
from pipeline.schedules import schedules_in
from pipeline.sensors import new_deliveries, recorded_runs, roll_forward
from tests.pipeline.outside import Landing, bill, show
from tests.sizes import sized


@pytest.fixture
def landing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Landing:
    """A customer, in the home that the sensors look at."""
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    for module in (sensors, schedules):
        monkeypatch.setattr(module, "checked_out_home", lambda _=None: landing.root)
    return landing


Days = Sequence[tuple[str, str]]


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Days]]:
    """First and last of the delivery days that the sensor wants ingested on a day, tick after tick."""
    cursor: list[str | None] = [None]

    def at(day: str) -> Days:
        monkeypatch.setattr(sensors, "today", lambda _: date.fromisoformat(day))
        with dg.build_sensor_context(cursor=cursor[0], repository_def=defs.get_repository_def()) as context:
            found = new_deliveries.evaluate_tick(context)
        cursor[0] = found.cursor
        requests = found.run_requests or []
        assert len({request.run_key for request in requests}) == len(requests)
        ends = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
        return [(request.tags[ends[0]], request.tags[ends[1]]) for request in requests]

    yield at


def test_what_is_delivered_is_wanted_once(landing: Landing, wanted: Callable[[str], Days]) -> None:
    landing.use("acme", "2026-01-20", emails=1)
    landing.use("acme", "2026-01-21", emails=1)
    landing.use("acme", "2026-01-25", emails=1)
    assert wanted("2026-01-26") == [("2026-01-20", "2026-01-21"), ("2026-01-25", "2026-01-25")]
    assert wanted("2026-01-26") == []


def test_a_file_that_is_replaced_or_added_is_seen_by_its_stamp(landing: Landing, wanted: Callable[[str], Days]) -> None:
    path = landing.deliver(["{}"], "2026-01-20")
    landing.deliver(["{}"], "2026-01-21")
    assert wanted("2026-01-22") == [("2026-01-20", "2026-01-21")]
    # the same size, another moment
    os.utime(path, ns=(1, 1))
    assert wanted("2026-01-22") == [("2026-01-20", "2026-01-20")]
    landing.deliver(["{}"], "2026-01-21", "more.jsonl")
    assert wanted("2026-01-22") == [("2026-01-21", "2026-01-21")]


def test_no_file_is_opened_to_see_what_is_new(
    landing: Landing, wanted: Callable[[str], Days], monkeypatch: pytest.MonkeyPatch
) -> None:
    landing.use("acme", "2026-01-20", emails=1)

    def opened(path: Path, *_: object, **__: object) -> None:
        raise AssertionError(f"{path} was opened")

    for name in ("open", "read_bytes", "read_text"):
        monkeypatch.setattr(Path, name, opened)
    assert wanted("2026-01-22") == [("2026-01-20", "2026-01-20")]


def test_a_day_that_is_archived_is_not_wanted(landing: Landing, wanted: Callable[[str], Days]) -> None:
    path = landing.deliver(["{}"], "2026-01-20")
    assert wanted("2026-01-22") == [("2026-01-20", "2026-01-20")]
    path.unlink()
    path.parent.rmdir()
    assert wanted("2026-01-22") == []


@pytest.mark.parametrize(
    ("before", "day", "after"), [("2024-12-31", "2025-01-01", "2025-01-02"), ("2024-02-28", "2024-02-29", "2024-03-01")]
)
def test_a_delivery_of_tomorrow_waits_for_its_day(
    landing: Landing, wanted: Callable[[str], Days], before: str, day: str, after: str
) -> None:
    for each in (before, day, after):
        landing.deliver(["{}"], each)
    assert wanted(before) == [(before, before)]
    assert wanted(day) == [(day, day)]
    assert wanted(after) == [(after, after)]
    assert wanted(after) == []


def test_many_scattered_days_are_one_run(landing: Landing, wanted: Callable[[str], Days]) -> None:
    for day in range(1, 29, 2):
        landing.deliver(["{}"], f"2026-01-{day:02}")
    assert wanted("2026-02-01") == [("2026-01-01", "2026-01-27")]


def test_without_a_home_the_sensor_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "checked_out_home", lambda _=None: tmp_path / "nowhere")
    with dg.build_sensor_context(repository_def=defs.get_repository_def()) as context:
        found = new_deliveries.evaluate_tick(context)
    assert (found.run_requests, bool(found.skip_message)) == ([], True)


def rolled(day: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, str]]:
    """Months and as-of days that are asked for on a day."""
    monkeypatch.setattr(sensors, "today", lambda _: date.fromisoformat(day))
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance, repository_def=defs.get_repository_def()) as context,
    ):
        found = roll_forward.evaluate_tick(context).run_requests or []
    return [(request.partition_key, request.tags["overage/as_of"]) for request in found]


def test_a_correction_is_rolled_forward_from_the_first_month_that_moved(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bill(landing.root, "2026-02", "2026-02-28").status == 0
    assert rolled("2026-03-01", monkeypatch) == []
    landing.request("acme", "upgrade", "2026-01-20T09:00:00Z", package="silver")
    # it was learnt after its date was closed, and answered; January and February know it
    assert rolled("2026-03-01", monkeypatch) == [("2026-01", "2026-02-28"), ("2026-02", "2026-02-28")]


@pytest.mark.parametrize(
    ("bought", "asked", "last", "day"),
    [
        ("2026-12-10", "2026-12-20", "2026-12-31", "2027-01-01"),
        ("2028-02-10", "2028-02-20", "2028-02-29", "2028-03-01"),
    ][sized(usual=1, long=0) :],
)
def test_the_last_day_of_a_year_and_a_leap_day_are_rolled_forward_the_day_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bought: str, asked: str, last: str, day: str
) -> None:
    landing = Landing(tmp_path / "home")
    landing.customer("acme", on=bought)
    monkeypatch.setattr(sensors, "checked_out_home", lambda _=None: landing.root)
    assert bill(landing.root, last[:7], last).status == 0
    assert rolled(day, monkeypatch) == []
    landing.request("acme", "upgrade", f"{asked}T09:00:00Z", package="silver")
    assert rolled(day, monkeypatch) == [(last[:7], last)]


def test_a_day_that_passes_rolls_nothing_forward(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bill(landing.root, "2026-01", "2026-01-15").status == 0
    assert rolled("2026-01-18", monkeypatch) == []


def test_nothing_is_rolled_forward_while_a_run_is_at_work(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "today", lambda _: date(2026, 4, 1))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_run(dg.DagsterRun("ingest", tags={"overage/serial": "home"}, status=dg.DagsterRunStatus.STARTED))
        with dg.build_sensor_context(instance, repository_def=defs.get_repository_def()) as context:
            assert roll_forward.evaluate_tick(context).skip_message == "other runs are at work"


def test_while_a_command_is_at_work_nothing_is_rolled_forward(landing: Landing) -> None:
    def said() -> str | None:
        with (
            dg.DagsterInstance.ephemeral() as instance,
            dg.build_sensor_context(instance, repository_def=defs.get_repository_def()) as context,
        ):
            return roll_forward.evaluate_tick(context).skip_message

    home = Home(landing.root)
    home.lake.mkdir()
    with lock(home):
        assert said() != "a command is at work", "a run of Dagster's has the lock"
        with marked(home):
            assert said() == "a command is at work"
        with pytest.raises(SystemExit), marked(home):
            raise SystemExit("as a kill does, this leaves the mark")
    assert said() != "a command is at work", "it was killed"


def test_runs_of_commands_are_replayed(landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Home, Path]] = []

    def replay(home: Home, folder: Path, _: float) -> bool:
        asked.append((home, folder))
        return len(asked) == 1

    monkeypatch.setattr(sensors, "replay_recorded", replay)
    monkeypatch.setenv("OVERAGE_HOME", str(landing.root))
    (tmp_path / "dagster").mkdir()
    with (
        dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance,
        dg.build_sensor_context(instance, repository_def=defs.get_repository_def()) as context,
    ):
        said = [recorded_runs.evaluate_tick(context).skip_message for _ in range(2)]
    assert said == ["every run that has ended is recorded", "runs are being recorded"]
    assert asked == [(Home(landing.root), tmp_path / "dagster")] * 2


# --- the schedules on a home ----------------------------------------------------------------------------------------


def scheduled(tick: str) -> list[dg.RunRequest]:
    with dg.build_schedule_context(
        scheduled_execution_time=datetime.fromisoformat(tick).replace(tzinfo=UTC),
        repository_def=defs.get_repository_def(),
    ) as context:
        return list(schedules_in("UTC")[1].evaluate_tick(context).run_requests or [])


def test_the_daily_run_builds_older_months_that_moved_first(landing: Landing) -> None:
    assert bill(landing.root, "2026-02", "2026-02-28").status == 0
    landing.use("acme", "2026-01-25", emails=20_000, delivered="2026-02-20")
    months = [request.partition_key for request in scheduled("2026-03-02T05:00:00")]
    # late usage may be 90 days old: what is not ingested yet may reach back to January
    assert months == ["2026-01", "2026-02", "2026-03"]


def test_missing_deliveries_stand_on_the_run_before_it_issues_anything(landing: Landing) -> None:
    for day in (*range(1, 12), 13):
        landing.deliver([], f"2026-03-{day:02}", f"mail-2026-03-{day:02}.jsonl")
        if day < 10:
            landing.deliver([], f"2026-03-{day:02}", "web.jsonl")
    requests = scheduled("2026-03-15T05:00:00")
    # the 12th and the 14th; web.jsonl came daily until the 9th
    assert {request.tags["overage/missing"] for request in requests} == {"2 days, 1 file"}
    job = defs.resolve_job_def("billing_month")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            run_config={
                "resources": {"billing_home": {"config": {"folder": str(landing.root), "as_of": "2026-03-14"}}}
            },
            partition_key="2026-01",
            asset_selection=[dg.AssetKey("cycles")],
            instance=instance,
        )
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True], "January had no delivery yet"
    assert show(landing.root, "documents") == []
