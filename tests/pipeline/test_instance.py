"""Dagster's records of a home."""

import hashlib
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

from billing.store.home import Home
from docs.dagster_databases import FOLDER, scripts
from pipeline.instance import use_instance_of
from pipeline.ready_databases import is_made_for_this_dagster, make_database_of_a_run, needs_no_migration
from pipeline.settings import WRITTEN
from tests.pipeline.killing import KILLS, Killer
from tests.pipeline.outside import Landing
from tests.sizes import sized, spread

PROCESSES = sized(usual=2, long=4)
OPEN = """
from pathlib import Path
import sys
from billing.store.home import Home
from pipeline.instance import use_instance_of
import dagster as dg

sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.readline()
use_instance_of(Home(Path(sys.argv[1])), print)
with dg.DagsterInstance.get() as instance:
    instance.get_runs_count()
"""


def test_processes_that_open_a_new_home_at_once_leave_its_records_whole(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    opening = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(tmp_path)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    for process in opening:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in opening:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate()[1] for process in opening]
    assert [process.returncode for process in opening] == [0] * PROCESSES, told
    databases = sorted((tmp_path / ".dagster").rglob("*.db"))
    assert len(databases) >= 3
    for database in databases:
        with sqlite3.connect(database) as records:
            assert records.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,), database


def test_records_whose_making_is_killed_at_any_write_are_made_whole_by_the_next(tmp_path: Path, killer: Killer) -> None:
    home, kept, again = (tmp_path / name for name in ("home", "kept", "again"))
    Landing(home)
    command = ("bill", "2026-01", "--as-of", "2026-01-31", "--home", home)
    writes = killer.run(*command, records=True).writes
    wanted = made(home)
    shutil.rmtree(home / ".dagster")
    # the settings are put in place last
    settings = max(number for number, what in enumerate(writes) if what.endswith("/dagster.yaml"))
    killer.run(*command, records=True, kept=kept, kill_at=settings + 3)
    places = sorted(int(path.name) for path in kept.iterdir())
    assert len(places) > 10
    for place in (places[each] for each in spread(len(places), 2 * KILLS)):
        shutil.copytree(kept / str(place), again)
        with mock.patch.dict(os.environ):
            os.environ.pop("DAGSTER_HOME", None)
            use_instance_of(Home(again), print)
        assert made(again) == wanted, f"killed just before write {place}: {writes[place]}"
        shutil.rmtree(again)


def test_ready_databases_are_those_that_this_dagster_makes(tmp_path: Path) -> None:
    assert is_made_for_this_dagster()
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == scripts()
    with mock.patch.dict(os.environ):
        os.environ.pop("DAGSTER_HOME", None)
        use_instance_of(Home(tmp_path / "ours"), print)
        os.environ.pop("DAGSTER_HOME")
        # as where the scripts are those of another version
        with mock.patch("pipeline.instance.is_made_for_this_dagster", lambda: False):
            use_instance_of(Home(tmp_path / "theirs"), print)
    assert made(tmp_path / "ours") == made(tmp_path / "theirs")


def test_a_database_is_looked_at_by_dagster_unless_it_is_known_to_need_no_migration(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    assert not needs_no_migration(path)
    make_database_of_a_run(path)
    assert needs_no_migration(path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'earlier'")
    assert not needs_no_migration(path)
    for content in (b"", b"no database"):
        path.write_bytes(content)
        assert not needs_no_migration(path)


def opened(home: Path) -> tuple[str, list[str]]:
    """The settings of a home's records after a command has opened them, and what it said."""
    said: list[str] = []
    with mock.patch.dict(os.environ):
        os.environ.pop("DAGSTER_HOME", None)
        use_instance_of(Home(home), said.append)
        with dg.DagsterInstance.get() as instance:
            assert instance.run_launcher is not None
    return (home / ".dagster" / "dagster.yaml").read_text(), said


def test_settings_that_an_earlier_version_wrote_are_brought_up_to_date_and_changed_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".dagster").mkdir()
    path = tmp_path / ".dagster" / "dagster.yaml"
    present, said = opened(tmp_path)
    assert said == []
    # else homes with the settings as they are now would be taken for changed ones some day
    assert hashlib.sha256(present.encode()).hexdigest() == WRITTEN[-1]
    before, launcher = present.split("run_launcher:")
    earlier = before + launcher.split("\n\n", 1)[1]
    path.write_text(earlier)
    monkeypatch.setattr("pipeline.settings.WRITTEN", (hashlib.sha256(earlier.encode()).hexdigest(), *WRITTEN))
    settings, said = opened(tmp_path)
    assert (settings, len(said), said[0]) == (
        present,
        1,
        f"{path}: brought up to date: it was as an earlier version of this program wrote it",
    )
    assert opened(tmp_path) == (present, [])
    # somebody's own settings are theirs: one line says what they lack
    own = earlier.replace("max_concurrent_runs: 2", "max_concurrent_runs: 5")
    path.write_text(own)
    settings, (warning,) = opened(tmp_path)
    assert settings == own
    (line,) = re.findall("add the line `(.*?)`", warning)
    path.write_text(f"{own}\n{line}\n")
    assert opened(tmp_path)[1] == []


def made(home: Path) -> dict[str, object]:
    """The settings of the records of a home; the tables, indexes and versions of its databases; what is left over."""
    folder = home / ".dagster"
    found: dict[str, object] = {path.name: path.is_dir() for path in folder.iterdir() if path.name != "storage"}
    for name in ("history/runs.db", "history/runs/index.db", "schedules/schedules.db"):
        with closing(sqlite3.connect(folder / name)) as records:
            found[name] = [
                sorted(records.execute(query).fetchall())
                for query in (
                    "SELECT type, name, tbl_name FROM sqlite_master",
                    "SELECT version_num FROM alembic_version",
                    "SELECT name FROM secondary_indexes",
                    "PRAGMA journal_mode",
                )
            ]
    return found
