"""Dagster's records of a home."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

OPEN = """
from pathlib import Path
import sys
from billing.home import Home
from pipeline.instance import use_instance_of
import dagster as dg

sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.readline()
use_instance_of(Home(Path(sys.argv[1])))
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
        for _ in range(4)
    ]
    for process in opening:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in opening:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate()[1] for process in opening]
    assert [process.returncode for process in opening] == [0, 0, 0, 0], told
    databases = sorted((tmp_path / ".dagster").rglob("*.db"))
    assert len(databases) >= 3
    for database in databases:
        with sqlite3.connect(database) as records:
            assert records.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,), database
