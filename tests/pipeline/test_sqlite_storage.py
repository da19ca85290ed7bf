"""Dagster's records as a command writes them, against what Dagster's own classes write."""

import logging
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from unittest import mock

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.events.log import EventLogEntry

from pipeline.cli import main
from pipeline.sqlite_storage import PooledEventLogStorage, PooledRunStorage, open_instance
from tests.pipeline.outside import Landing, blank_files, blank_page
from tests.sizes import sized

# what two commands that do the same have of their own
OWN = re.compile(r"(?<=log_key\": \")\w+|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{64}|\b\d[\d.,:T+-]*(?:ms|s)?\b|/[^\" ]*")

COMMANDS = sized([("2026-01", "2026-01-31")], [("2026-01", "2026-01-31"), ("2026-02", "2026-02-12")])
Row = tuple[str, ...]


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    landing = Landing(tmp_path / "home")
    landing.customer("alpha")
    landing.use("alpha", "2026-01-20", emails=16_000)
    landing.use("alpha", "2026-01-22", leads=10)
    landing.use("alpha", "2026-02-11", leads=10)
    return landing


def billed(home: Path, month: str, as_of: str) -> None:
    with (
        mock.patch.dict(os.environ),
        # Its records are written by Dagster.
        mock.patch("pipeline.runs.has_own_instance", lambda: True),
        mock.patch("billing.month.pdf_files.render_files", blank_files),
        mock.patch("billing.reports.month_report_page.draw_page", blank_page),
    ):
        os.environ.pop("DAGSTER_HOME", None)
        ended = CliRunner().invoke(main, ["bill", month, "--as-of", as_of, "--home", str(home)], catch_exceptions=False)
    assert ended.exit_code == 0, ended.stderr


def recorded(home: Path) -> dict[str, list[Row]]:
    """Every row of Dagster's records of a home, run by run in their order, without what is a command's own."""
    history = home / ".dagster" / "history"
    with closing(sqlite3.connect(history / "runs.db")) as database:
        runs = [run for (run,) in database.execute("SELECT run_id FROM runs ORDER BY id")]
    found = {}
    for name, path in (
        ("runs", history / "runs.db"),
        ("index", history / "runs" / "index.db"),
        *((f"run {number}", history / "runs" / f"{run}.db") for number, run in enumerate(runs)),
    ):
        with closing(sqlite3.connect(path)) as database:
            tables = [table for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in sorted(tables):
                rows = database.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608  # Dagster's own names
                found[f"{name}: {table}"] = [tuple(OWN.sub("-", str(value)) for value in row) for row in rows]
    return found


def test_a_command_records_what_dagsters_own_classes_record(landing: Landing, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(landing.root, other)
    for month, as_of in COMMANDS:
        billed(landing.root, month, as_of)
        with mock.patch("pipeline.dagster_jobs.open_instance", lambda folder: dg.DagsterInstance.get()):
            billed(other, month, as_of)
    ours, theirs = recorded(landing.root), recorded(other)
    assert len(theirs["runs: runs"]) >= 3 * len(COMMANDS) - 1
    assert len(theirs["index: asset_keys"]) > 20
    assert list(ours) == list(theirs)
    assert {name: rows for name, rows in ours.items() if rows != theirs[name]} == {}


def test_only_records_on_sqlite_are_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
    (tmp_path / "sqlite").mkdir()
    with open_instance(tmp_path / "sqlite") as instance:
        assert type(instance.event_log_storage) is PooledEventLogStorage
        assert type(instance.run_storage) is PooledRunStorage
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "dagster.yaml").write_text(f"""
event_log_storage:
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config: {{base_dir: {tmp_path}/other/events}}
""")
    with open_instance(tmp_path / "other") as instance:
        assert type(instance.event_log_storage) is not PooledEventLogStorage
        assert type(instance.run_storage) is not PooledRunStorage


def test_events_wait_for_others_until_somebody_looks_a_second_has_passed_or_the_command_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> int:
        """How many events stand on disk, for other processes to see."""
        with closing(sqlite3.connect(tmp_path / "history" / "runs" / "one.db")) as database:
            found: int = database.execute("SELECT count(*) FROM event_logs").fetchone()[0]
        return found

    with open_instance(tmp_path) as instance:

        def tell() -> None:
            entry = EventLogEntry(None, logging.INFO, "told", "one", 0.0)  # type: ignore[no-untyped-call]
            instance.handle_new_event(entry)

        assert instance.all_logs("one") == []
        tell()
        tell()
        assert told() == 0
        assert len(instance.all_logs("one")) == 2
        assert told() == 2
        tell()
        monkeypatch.setattr("pipeline.sqlite_storage._SECONDS_UNTIL_WRITTEN", 0)
        tell()
        assert told() == 4
        monkeypatch.undo()
        tell()
        assert told() == 4
    assert told() == 5


LAST = """
import atexit, gc, sys

atexit.register(lambda: sys.stdout.write(f"{gc.get_freeze_count() > 100_000}"))
import pipeline.definitions
"""


def test_a_process_that_has_loaded_dagster_ends_without_looking_at_all_of_it_again() -> None:
    ended = subprocess.run([sys.executable, "-c", LAST], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("True", "")
