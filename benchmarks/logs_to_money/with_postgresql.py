"""The month with PostgreSQL: raw rows go in by COPY, repeats, usage and overage are found in SQL.

`text IS JSON` came with version 16, so broken rows are told apart before they are copied. The server is started for
the purpose, with fsync off, which flatters it.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Final

import psycopg

from benchmarks.logs_to_money.answer import Answer, run
from benchmarks.logs_to_money.in_sql import OVERAGE
from benchmarks.logs_to_money.plain_rows import lines, packages, rows
from benchmarks.month_of_usage import TARIFFS

PROGRAMS: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
"""The servers that are installed, the newest last."""

_TABLES: Final = """
CREATE UNLOGGED TABLE delivered (day TEXT, row INT, reason TEXT, text TEXT, source TEXT, id TEXT, account TEXT,
                                 metric TEXT, time TIMESTAMPTZ, value NUMERIC);
CREATE UNLOGGED TABLE subscriptions (account TEXT, package TEXT);
CREATE UNLOGGED TABLE tariffs (package TEXT, metric TEXT, allowance BIGINT, block BIGINT, price BIGINT);
"""

_REPEATS: Final = """
CREATE UNLOGGED TABLE ranked AS
SELECT *, row_number() OVER first_first AS rank,
       (account, metric, time, value) = first_value((account, metric, time, value)) OVER first_first AS same
FROM delivered WHERE reason IS NULL WINDOW first_first AS (PARTITION BY source, id ORDER BY day, row);
CREATE UNLOGGED TABLE events AS SELECT source, id, account, metric, time, value, day, row FROM ranked WHERE rank = 1;
ANALYZE events;
"""


def bill(home: Path, folder: Path) -> Answer:
    """Copy, resolve repeats, measure and rate."""
    with _server() as socket, psycopg.connect(f"host={socket} user=overage dbname=postgres", autocommit=True) as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute("SET work_mem = '256MB'")
        for statement in _TABLES.split(";\n"):
            db.execute(statement)
        with db.cursor().copy("COPY delivered FROM STDIN") as copy:
            for row in rows(home):
                copy.write_row(row)
        with db.cursor().copy("COPY subscriptions FROM STDIN") as copy:
            for package in packages(home):
                copy.write_row(package)
        with db.cursor().copy("COPY tariffs FROM STDIN") as copy:
            for tariff in TARIFFS.rows():
                copy.write_row((*tariff[:4], int(Decimal(tariff[4]) * 10_000)))
        for statement in _REPEATS.split(";\n"):
            db.execute(statement)
        found = db.execute("SELECT day, row FROM ranked WHERE rank > 1 AND NOT same").fetchall()
        with db.cursor().copy("COPY delivered (day, row, reason, text) FROM STDIN") as copy:
            for (day, number), text in lines(home, found).items():
                copy.write_row((day, number, "conflicting", text))
        counted = db.execute("SELECT COUNT(*) FROM events").fetchone() or (0,)
        repeated = db.execute("SELECT COUNT(*) FROM ranked WHERE rank > 1 AND same").fetchone() or (0,)
        aside = db.execute("SELECT reason, text FROM delivered WHERE reason IS NOT NULL").fetchall()
        by_reason: dict[str, int] = {}
        for reason, _ in aside:
            by_reason[reason] = by_reason.get(reason, 0) + 1
        return Answer.of(
            overage={metric: Decimal(amount) / 10_000 for metric, amount in db.execute(OVERAGE).fetchall()},
            counted=counted[0],
            duplicates=repeated[0],
            rejects=by_reason,
            texts=[text for _, text in aside],
        )


@contextmanager
def _server() -> Iterator[Path]:
    """A new server in a folder of its own, as a child, so that what it takes is seen; gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    as_user = []
    if os.geteuid() == 0:
        # the server refuses to run as root: the user that its package made runs it
        shutil.chown(folder, "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    data = ["-D", str(folder / "data")]
    initdb = [str(PROGRAMS[-1].with_name("initdb")), "--auth=trust", "--username=overage", "--no-sync", *data]
    settings = ["listen_addresses=", f"unix_socket_directories={folder}", "fsync=off", "shared_buffers=1GB"]
    try:
        subprocess.run([*as_user, *initdb], check=True, cwd=folder, stdout=subprocess.DEVNULL)
        command = [*as_user, str(PROGRAMS[-1]), *data, *(part for name in settings for part in ("-c", name))]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                while not _answers(folder):
                    time.sleep(0.05)
                yield folder
            finally:
                server.send_signal(signal.SIGINT)
                server.wait()
    finally:
        shutil.rmtree(folder)


def _answers(folder: Path) -> bool:
    """Whether a server is ready: its socket is there before it takes anybody in."""
    try:
        psycopg.connect(f"host={folder} user=overage dbname=postgres").close()
    except psycopg.OperationalError:
        return False
    return True


if __name__ == "__main__":
    run(bill)
