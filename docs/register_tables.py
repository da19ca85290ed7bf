"""Write billing/register/tables.sql: the tables of a new register in SQLite, as its migrations make them."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from billing.register.migrations import READY, migrate_by_steps
from billing.register.schema import REVISION

FILE: Final = READY


def script() -> str:
    """The statements that make the tables, indexes and guards, in the order of the migrations."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "register.db")
        engine = sa.create_engine(f"sqlite:///{path}")
        migrate_by_steps(engine)
        engine.dispose()
        with closing(sqlite3.connect(path)) as database:
            made = database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    version = f"INSERT INTO alembic_version VALUES ('{REVISION}')"  # noqa: S608  # our own
    return "\n".join(["-- Written by `make docs`", *(f"{statement};" for (statement,) in made), f"{version};", ""])


if __name__ == "__main__":
    FILE.write_text(script())
