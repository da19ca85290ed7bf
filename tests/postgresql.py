"""A real PostgreSQL server for the tests: one per process that needs it, in a folder of its own, gone at the end."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from billing.register.schema import metadata

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
MISSING = "PostgreSQL is not installed: its tests are skipped"


def register_rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    """All that a register holds, wherever it is, by table; of links, which are drawn at random, whose they are."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = {
            table.name: [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }
    engine.dispose()
    found["profile_links"] = [row[:2] for row in found["profile_links"]]
    return found


class Server:
    """A server that listens on a socket in its folder only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._databases = 0

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["Server"]:
        """A new server; skips the test where there is none to start (CI always has one)."""
        if not _BINARIES:
            if os.environ.get("CI") == "true":
                pytest.fail("PostgreSQL is missing in CI")
            pytest.skip(MISSING)
        folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        if os.geteuid() == 0:
            # the server refuses to run as root: the user that its package made runs it
            shutil.chown(folder, "postgres")
        server = cls(folder)
        try:
            server._run("initdb", "--auth=trust", "--username=overage", "--no-sync", "-D", str(folder / "data"))
            server.start()
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                server.stop()
            shutil.rmtree(folder)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off"
        log = self.folder / "log"
        self._run("pg_ctl", "start", "-w", "-D", str(self.folder / "data"), "-l", str(log), "-o", options)

    def stop(self) -> None:
        """Pull the plug: no connection is told."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self.folder / "data"))

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"register_{self._databases}"
        engine = sa.create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            # a language that sorts text by its own habits: the register must not
            connection.exec_driver_sql(
                f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en'"
            )
        engine.dispose()
        return self._url(name)

    def new_records(self) -> str:
        """The URL of a new database for Dagster's records, by the driver that Dagster uses."""
        return self.new_database().replace("postgresql+psycopg:", "postgresql+psycopg2:")

    def copy_of(self, url: str) -> str:
        """The URL of a copy of a database. Who is connected to it is not any more."""
        self._databases += 1
        name = f"register_{self._databases}"
        engine = sa.create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(
                sa.text("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = :name"),
                {"name": sa.make_url(url).database},
            )
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {sa.make_url(url).database}")
        engine.dispose()
        return self._url(name)

    def comes_to(self, connections: int, url: str) -> bool:
        """Whether so many connections to a database are left: a server needs a moment to end one."""
        engine = sa.create_engine(self._url("postgres"))
        counted = sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = :name")
        with engine.connect() as connection:
            for _ in range(50):
                found = connection.execute(counted, {"name": sa.make_url(url).database}).scalar_one()
                if found == connections:
                    break
                # Within a transaction the answer stays what it was.
                connection.rollback()
                time.sleep(0.1)
        engine.dispose()
        return bool(found == connections)

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://overage:secret@/{database}?host={self.folder}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(_BINARIES[-1].with_name(program)), *arguments]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
        # not through pipes: the server would keep them open
        with tempfile.TemporaryFile() as said:
            ended = subprocess.run(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False
            )
            if ended.returncode:
                said.seek(0)
                raise RuntimeError(f"{program} failed: {said.read().decode()}")
