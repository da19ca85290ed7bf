"""Dagster's SQLite databases, ready-made: Dagster itself runs its migrations over each, a tenth of a first small run.

Also tells which databases need no migration: to find out, Dagster loads all of its migrations every time it opens one.
"""

import sqlite3
from contextlib import closing
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import dagster as dg

from billing.store.files import unsynced, write_bytes

DATABASES: Final = {
    "history/runs.db": "runs",
    "history/runs/index.db": "index",
    "schedules/schedules.db": "schedules",
}
"""Databases of an instance by path, with the name of the script in `dagster_databases` that makes each."""
OF_A_RUN: Final = "index"
"""The script of the events of one run: it has the tables of the index, whose migrations it does not record."""

_WRITE_AHEAD: Final = b"\x02\x02"
# Bytes 18 and 19 of the header are the versions of the format for writing and reading (sqlite.org/fileformat.html).
_VERSIONS: Final = slice(18, 20)


def is_made_for_this_dagster() -> bool:
    """Whether the scripts were written by the Dagster that is installed."""
    return _script("runs").startswith(f"-- Dagster {dg.__version__};")


def make_databases(folder: Path) -> None:
    """Write the databases that an instance lacks, each at once."""
    for path, name in DATABASES.items():
        if not (folder / path).exists():
            write_bytes(folder / path, _content(name))


def make_database_of_a_run(path: Path) -> None:
    """Write an empty database for the events of a run; SQLite syncs it with its first events."""
    with unsynced(path.parent):
        write_bytes(path, _content(OF_A_RUN, of_a_run=True))


def needs_no_migration(path: Path) -> bool:
    """Whether a database exists and is of the version of the ready-made ones."""
    if not path.exists() or not is_made_for_this_dagster():
        return False
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute("SELECT version_num FROM alembic_version").fetchall() == [(_version(),)]
    except sqlite3.Error:
        # Half made, busy or damaged: Dagster waits, repairs or says so.
        return False


@cache
def _content(name: str, *, of_a_run: bool = False) -> bytes:
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(_script(name))
        if of_a_run:
            database.executescript("DELETE FROM secondary_indexes")
        content = bytearray(database.serialize())
    content[_VERSIONS] = _WRITE_AHEAD
    return bytes(content)


@cache
def _version() -> str:
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(_script("runs"))
        found: str = database.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    return found


@cache
def _script(name: str) -> str:
    return files("pipeline").joinpath("dagster_databases", f"{name}.sql").read_text("utf-8")
