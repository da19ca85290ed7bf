"""How registers of earlier versions become the register of this one, step by step and never back.

Each step is a file of `versions`; what a step does never changes once it was released. A register made before there
were steps has the tables of the first one, and is taken over as it is.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from billing.model.errors import RefusedError
from billing.register.address import shown
from billing.register.schema import REVISION

_version: Final = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String))
# one key for everything that one process at a time may do to the tables
MIGRATION_LOCK: Final = 7_281_001
READY: Final = Path(__file__).parents[1] / "tables.sql"
"""The statements that make a new register in SQLite, as the steps would."""


def migrate(engine: sa.Engine) -> None:
    """Bring the tables of a register up to date, in one transaction; does nothing where they are.

    Raises
    ------
    RefusedError
        When a newer version of the program has written this register.
    """
    revision = _revision(engine)
    if revision == REVISION or (revision is None and _is_made_at_once(engine)):
        return
    migrate_by_steps(engine)


def migrate_by_steps(engine: sa.Engine) -> None:
    """As `migrate`, by Alembic: also where there are no tables yet."""
    revision = _revision(engine)
    # a third of a second, which only a register that is made or moved costs
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise RefusedError(
                f"{shown(engine.url)}: this register was written by a newer version of the program "
                f"(its tables are of revision {revision}): expected revision {REVISION} or earlier"
            ) from error


def _is_made_at_once(engine: sa.Engine) -> bool:
    """Make the tables of a new register, if it is one and in SQLite."""
    if engine.dialect.name != "sqlite":
        return False
    with engine.begin() as connection:
        if sa.inspect(connection).get_table_names():
            return False
        for statement in _statements(READY.read_text("utf-8")):
            connection.exec_driver_sql(statement)
    return True


def _statements(script: str) -> Iterator[str]:
    """The statements of a script: those of triggers have semicolons inside."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _revision(engine: sa.Engine) -> str | None:
    """The step the tables are at; None for a register that is empty or was made before there were steps."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(_version.name):
            return None
        return connection.execute(sa.select(_version.c.version_num)).scalar()
