"""Write pipeline/dagster_databases/*.sql: the empty databases of the installed Dagster, as it makes them itself."""

import os
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final
from unittest import mock

import dagster as dg

FOLDER: Final = Path(__file__).parents[1] / "pipeline" / "dagster_databases"
MADE: Final = {"runs": "history/runs.db", "index": "history/runs/index.db", "schedules": "schedules/schedules.db"}
"""The databases of a new instance, by the names that they have here."""

_ON = "'2026-01-01 00:00:00'"
_INSTANT: Final = re.compile(r"'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?'")


def scripts() -> dict[str, str]:
    """The SQL that makes each database, by file name; instants are fixed."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, DAGSTER_HOME=folder):
        Path(folder, "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
        dg.DagsterInstance.get().dispose()
        found = {}
        for name, path in MADE.items():
            with closing(sqlite3.connect(Path(folder, path))) as database:
                statements = [_INSTANT.sub(_ON, statement) for statement in database.iterdump()]
            # Dagster makes indexes in any order.
            statements[1:-1] = [
                *(each for each in statements[1:-1] if not _is_index(each)),
                *sorted(filter(_is_index, statements)),
            ]
            head = f"-- Dagster {dg.__version__}; written by `make docs`"
            found[f"{name}.sql"] = "\n".join([head, *statements, ""])
    return found


def _is_index(statement: str) -> bool:
    return re.match(r"CREATE (UNIQUE )?INDEX ", statement) is not None


if __name__ == "__main__":
    for name, script in scripts().items():
        (FOLDER / name).write_text(script)
