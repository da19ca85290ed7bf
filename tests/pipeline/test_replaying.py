"""Runs of commands in Dagster's records: what is replayed is what Dagster would have written, once, and at its time."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner

from billing.model.errors import RefusedError
from billing.rules.charges import month_charges
from billing.store.home import Home
from pipeline.cli import main
from pipeline.instance import use_instance_of
from pipeline.replay_process import replay_recorded
from pipeline.replaying import KILLED, replay_into
from pipeline.run_records import FOLDER, records_in, taken
from pipeline.sqlite_storage import open_instance
from tests.landing import Landing, two_customers
from tests.pipeline.outside import Ended, blank_files, blank_page, content_of
from tests.pipeline.test_sqlite_storage import OWN, recorded
from tests.sizes import LONG, sized

ROOT = Path(__file__).parents[2]
STORED = re.compile(r'"\.dagster-": "true"(, )?')


def command(home: Path, *arguments: str, dagster: bool = False) -> Ended:
    """A command on a home with the records that it has outside of tests."""
    with (
        mock.patch.dict(os.environ),
        mock.patch("billing.month.pdf_files.render_files", blank_files),
        mock.patch("billing.reports.month_report_page.draw_page", blank_page),
        mock.patch("pipeline.runs.has_own_instance", lambda: dagster),
    ):
        for name in ("DAGSTER_HOME", "OVERAGE_HOME"):
            os.environ.pop(name, None)
        ended = CliRunner().invoke(main, [*arguments, "--home", str(home)], catch_exceptions=False)
    return Ended(ended.exit_code, ended.stdout, ended.stderr.replace(str(home), "home"))


@contextmanager
def records_of(home: Path) -> Iterator[dg.DagsterInstance]:
    with mock.patch.dict(os.environ):
        os.environ.pop("DAGSTER_HOME", None)
        with open_instance(use_instance_of(Home(home), print)) as instance:
            yield instance


def replay(home: Path) -> None:
    with records_of(home) as instance:
        replay_into(instance, home / ".dagster")


def waiting(home: Path) -> int:
    return len(records_in(home / ".dagster" / FOLDER))


def without_stacks(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_stacks(each) for name, each in value.items() if name not in ("stack", "context")}
    return [without_stacks(each) for each in value] if isinstance(value, list) else value


def told(home: Path) -> list[tuple[object, ...]]:
    """All runs and events of a home's records, without what is a run's own and without stack traces."""
    found: list[tuple[object, ...]] = []
    with records_of(home) as instance:
        for run in reversed(instance.get_runs()):
            config = OWN.sub("-", json.dumps(run.run_config))
            found.append((run.job_name, run.status, run.tags.get("dagster/partition"), config))
            for entry in instance.all_logs(run.run_id):
                said = json.dumps(without_stacks(json.loads(dg.serialize_value(entry))))
                found.append((run.job_name, entry.step_key, STORED.sub("", OWN.sub("-", said))))
    return found


def facts(home: Path) -> dict[str, str]:
    own = ("register.db", "lake/ingest_state.json", "drafted.json")
    return {
        name: digest
        for name, digest in content_of(home).items()
        if not name.endswith(own) and not name.startswith(".dagster")
    }


def lose_charges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assets.months.quantities_not_charged_once", lambda *_: pl.DataFrame({"metric": ["emails"]}))


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise RefusedError("the catalogue is another now")

    monkeypatch.setattr("assets.documents.review_of", refused)


def break_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(rated: pl.DataFrame) -> pl.DataFrame:
        return month_charges(rated).select("no such column")

    monkeypatch.setattr("billing.month.steps.month_charges", broken)


def press(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr("assets.documents.review_of", pressed)


def nothing(_: pytest.MonkeyPatch) -> None:
    """Nothing is spoilt."""


BILL = ("bill", "2026-02", "--as-of", "2026-02-15")


def both_ways(tmp_path: Path, commands: Callable[[Landing, Callable[..., Ended]], list[Ended]]) -> Path:
    """Hold commands as they are executed without Dagster, and replayed, to those that Dagster executes."""
    homes = {dagster: tmp_path / ("dagster" if dagster else "direct") for dagster in (False, True)}
    ended = {}
    for dagster, home in homes.items():
        landing = two_customers(home)

        def run(*arguments: str, home: Path = home, dagster: bool = dagster) -> Ended:
            return command(home, *arguments, dagster=dagster)

        ended[dagster] = commands(landing, run)
    assert ended[False] == ended[True]
    assert facts(homes[False]) == facts(homes[True])
    assert (waiting(homes[False]) > 0, waiting(homes[True])) == (True, 0)
    replay(homes[False])
    assert waiting(homes[False]) == 0
    assert told(homes[False]) == told(homes[True])
    return homes[False]


def test_what_commands_did_is_in_the_records_as_if_dagster_had_executed_it(tmp_path: Path) -> None:
    def commands(landing: Landing, run: Callable[..., Ended]) -> list[Ended]:
        # It bills ten times the last, and is told to the person.
        landing.customer("surges", on="2026-01-20")
        landing.use("surges", "2026-01-25", emails=400_000)
        # What cannot be billed is parked.
        landing.customer("nowhere", "bronze")
        ended = [run("bill", "2026-01", "--as-of", "2026-01-31")]
        assert "account nowhere is parked" in ended[-1].messages
        catalogue = landing.folder / "catalogue.yaml"
        catalogue.write_text(catalogue.read_text().replace('"99.00"', '"89.00"'))
        ended.append(run("correct", "2026-01", "--as-of", "2026-02-01", "--reason", "The price was wrong."))
        assert "3 notes issued" in ended[-1].messages
        if not LONG:
            return ended
        landing.use("bolt", "2026-01-25", emails=2_000, delivered="2026-02-03")
        landing.pay("acme", "INV-2026-000001", "99.00", "2026-02-16T10:00:00Z", "failed")
        accounts = landing.folder / "accounts.csv"
        accounts.write_text("".join(row for row in accounts.read_text().splitlines(True) if not row.startswith("bolt")))
        ended.append(run("bill", "2026-02", "--as-of", "2026-02-25", "--accept-missing-accounts"))
        assert any("warning: " in each.messages for each in ended)
        assert "account bolt is parked" in ended[-1].messages
        return ended

    home = both_ways(tmp_path, commands)
    ours, theirs = recorded(home), recorded(tmp_path / "dagster")
    for name, rows in ours.items():
        rows[:] = [
            tuple(STORED.sub("", value) for value in row)
            for row in rows
            if not (name == "runs: run_tags" and ".dagster-" in row)
        ]
    assert len(theirs["runs: runs"]) >= sized(5, 9)
    assert list(ours) == list(theirs)
    assert {name: rows for name, rows in ours.items() if rows != theirs[name]} == {}


@pytest.mark.parametrize("spoil", sized([break_down], [lose_charges, refuse, break_down, press]))
def test_what_failed_is_in_the_records_as_if_dagster_had_executed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    # A test in the background of a shell is given none.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        spoil(monkeypatch)
        both_ways(tmp_path, lambda _, run: [run(*BILL)])
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def billed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("billed") / "home"
    two_customers(home)
    assert "2 documents issued" in command(home, "bill", "2026-01", "--as-of", "2026-01-31").messages
    return home


@pytest.fixture
def billed(billed_once: Path, tmp_path: Path) -> Path:
    """A home whose first month was billed, and nothing replayed."""
    return shutil.copytree(billed_once, tmp_path / "home")


def runs_of(home: Path) -> list[tuple[str, str]]:
    with records_of(home) as instance:
        return [(run.job_name, run.status.value) for run in reversed(instance.get_runs())]


DONE = [("ingest", "SUCCESS"), ("billing_month", "SUCCESS"), ("profiles", "SUCCESS")]


def test_a_run_is_in_the_records_at_the_time_when_it_was_made_and_looks_new_to_sensors(billed: Path) -> None:
    (_, path, _) = records_in(billed / ".dagster" / FOLDER)
    content = path.read_text()
    hours = 5 * 3600.0
    moved = re.sub(r'(?<="(?:ended)": )\d+\.\d+', lambda found: str(float(found[0]) - hours), content)
    moved = re.sub(r'(?<="started": )\d+\.\d+', lambda found: str(float(found[0]) - hours), moved)
    path.write_text(moved)
    with taken(path) as run:
        assert run is not None
        steps = list(run.steps.values())
    before = datetime.now(UTC)
    replay(billed)
    with records_of(billed) as instance:
        (record,) = instance.get_run_records(dg.RunsFilter(job_name="billing_month"))
        assert (record.start_time, record.end_time) == pytest.approx((run.started, steps[-1].ended))
        assert record.create_timestamp.timestamp() == pytest.approx(run.started)
        assert record.update_timestamp >= before
        stats = {each.step_key: each for each in instance.get_run_step_stats(record.dagster_run.run_id)}
        ends = {name: each.end_time for name, each in stats.items()}
        assert ends == pytest.approx({each.name: each.ended for each in steps})
        event = instance.get_latest_materialization_event(dg.AssetKey("usage"))
        assert event is not None
        assert event.timestamp < before.timestamp() - hours + 1
        assert event.dagster_event is not None
        assert event.dagster_event.partition == "2026-01"


def test_a_run_whose_command_was_killed_is_a_failed_one_with_what_it_had_done(billed: Path) -> None:
    (_, path, last) = records_in(billed / ".dagster" / FOLDER)
    last.unlink()
    lines = path.read_text().splitlines(keepends=True)
    # The third step was at work; a power cut may tear the last line.
    path.write_text("".join(lines[:3]) + lines[3][:40])
    replay(billed)
    assert (runs_of(billed), waiting(billed)) == ([DONE[0], ("billing_month", "FAILURE")], 0)
    with records_of(billed) as instance:
        (run,) = instance.get_runs(dg.RunsFilter(job_name="billing_month"))
        events = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event]
    made = [event.asset_key.to_user_string() for event in events if event.is_step_materialization and event.asset_key]
    assert made == ["cycles", "levels"]
    (failed,) = [event for event in events if event.is_step_failure]
    assert failed.step_key == "unbilled"
    assert KILLED in json.dumps(json.loads(dg.serialize_value(failed)))
    assert not [event for event in events if event.is_step_start and event.step_key == "usage"]


def test_a_run_whose_command_is_at_work_waits(billed: Path) -> None:
    (path, *_) = records_in(billed / ".dagster" / FOLDER)
    with taken(path) as run:
        assert run is not None
        replay(billed)
        assert (runs_of(billed), waiting(billed)) == (DONE[1:], 1)
    replay(billed)
    assert sorted(runs_of(billed)) == sorted(DONE)


PLACES = (
    ("pipeline.sqlite_storage.PooledEventLogStorage.store_event_batch", 2),
    ("pathlib.Path.unlink", 1),
    ("pipeline.sqlite_storage.PooledRunStorage.add_run", 1),
    ("dagster.DagsterInstance.add_run_tags", 0),
    ("pipeline.replaying._show_as_changed_now", 0),
)
TRIED = sized(PLACES[:1], PLACES)


DIES = """
import os, pkgutil, sys
from unittest import mock
from pipeline import replaying

place, calls = sys.argv[1], int(sys.argv[2])
real = pkgutil.resolve_name(place)

def killed(*arguments, **options):
    global calls
    calls -= 1
    if calls < 0:
        os._exit(9)
    return real(*arguments, **options)

with mock.patch(place, killed):
    replaying.main()
"""


@pytest.mark.parametrize(("place", "calls"), TRIED)
def test_what_is_killed_while_it_replays_leaves_each_run_once(billed: Path, place: str, calls: int) -> None:
    undisturbed = shutil.copytree(billed, billed.with_name("undisturbed"))
    replay(undisturbed)
    killed = subprocess.run(
        [sys.executable, "-c", DIES, place, str(calls)], env=alone_with(billed), cwd=ROOT, check=False
    )
    assert killed.returncode == 9
    replay(billed)
    assert told(billed) == told(undisturbed)
    ours, theirs = recorded(billed), recorded(undisturbed)
    assert {name: len(rows) for name, rows in ours.items()} == {name: len(rows) for name, rows in theirs.items()}
    assert waiting(billed) == 0


def alone_with(home: Path) -> dict[str, str]:
    """The environment of a process that knows this home only."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OVERAGE", "DAGSTER"))}
    return kept | {"OVERAGE_HOME": str(home)}


def test_two_that_replay_at_once_write_each_run_once(billed: Path) -> None:
    both = [
        subprocess.Popen([sys.executable, "-m", "pipeline.replaying"], env=alone_with(billed), cwd=ROOT)
        for _ in range(2)
    ]
    assert [each.wait() for each in both] == [0, 0]
    assert (runs_of(billed), waiting(billed)) == (DONE, 0)


def test_it_is_replayed_by_a_process_of_its_own_that_may_outlive_the_wait(billed: Path) -> None:
    folder = billed / ".dagster"
    assert not replay_recorded(Home(billed), folder, 0)
    deadline = time.monotonic() + 120
    while waiting(billed) and time.monotonic() < deadline:
        time.sleep(0.1)
    with mock.patch.object(subprocess, "Popen", side_effect=AssertionError):
        assert replay_recorded(Home(billed), folder, 0), "nothing is left: no process is started"
    assert runs_of(billed) == DONE


def test_what_cannot_be_shown_is_put_aside_and_what_is_no_record_is_removed(
    billed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = billed / ".dagster" / FOLDER
    (_, path, _) = records_in(folder)
    path.write_text(path.read_text().replace('"partition": "2026-01"', '"partition": "1999-01"'))
    (folder / "0-cut.jsonl").write_text("")
    replay(billed)
    assert (runs_of(billed), [each.name for each in folder.iterdir()]) == (DONE[::2], [f"{path.stem}.refused"])
    assert "this run cannot be shown in Dagster" in capsys.readouterr().err


LOADED = """
import sys
from pipeline.cli import main
try:
    main({arguments})
except SystemExit as ended:
    heavy = ("dagster", "sqlalchemy", "alembic", "weasyprint", "pydantic", "pyarrow.dataset")
    print(ended.code, [name for name in heavy if name in sys.modules])
"""


CORRECT = ("correct", "2026-01", "--as-of", "2026-02-21", "--reason", "late")


# test_bill.py bills without Dagster
@pytest.mark.parametrize("arguments", sized([CORRECT], [BILL, CORRECT]))
def test_commands_do_not_load_dagster(billed: Path, arguments: tuple[str, ...]) -> None:
    script = LOADED.format(arguments=[*arguments, "--home", str(billed)])
    done = subprocess.run(
        [sys.executable, "-c", script], env=alone_with(billed), capture_output=True, text=True, check=True, cwd=ROOT
    )
    status, _, loaded = done.stdout.splitlines()[-1].partition(" ")
    assert status in "01", done.stderr
    assert "dagster" not in loaded
