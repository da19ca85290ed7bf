"""The month with SQLite, row by row: each row is looked up, and inserted or set aside, as a service would do it."""

import sqlite3
from decimal import Decimal
from pathlib import Path

from benchmarks.logs_to_money.answer import Answer, run
from benchmarks.logs_to_money.in_sql import OVERAGE
from benchmarks.logs_to_money.plain_rows import lines, packages, rows
from benchmarks.month_of_usage import TARIFFS


def bill(home: Path, folder: Path) -> Answer:
    """Insert every row in one transaction a day, with journal and synchronisation off, then bill in SQL."""
    folder.mkdir(parents=True)
    db = sqlite3.connect(folder / "usage.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("PRAGMA synchronous = OFF")
    db.executescript(
        """
        CREATE TABLE events (source TEXT, id TEXT, account TEXT, metric TEXT, time TEXT, value INTEGER,
                             repeats INTEGER DEFAULT 0, PRIMARY KEY (source, id)) WITHOUT ROWID;
        CREATE TABLE rejects (day TEXT, row INTEGER, reason TEXT, text TEXT);
        CREATE TABLE subscriptions (account TEXT PRIMARY KEY, package TEXT);
        CREATE TABLE tariffs (package TEXT, metric TEXT, allowance INTEGER, block INTEGER, price INTEGER);
        """
    )
    conflicts = []
    duplicates = 0
    db.execute("BEGIN")
    for row in rows(home):
        if row.reason:
            db.execute("INSERT INTO rejects VALUES (?, ?, ?, ?)", (row.day, row.row, row.reason, row.text))
            continue
        content = (row.account, row.metric, row.time, row.value)
        first = db.execute(
            "SELECT account, metric, time, value FROM events WHERE source = ? AND id = ?", (row.source, row.id)
        ).fetchone()
        if first is None:
            db.execute(
                "INSERT INTO events (source, id, account, metric, time, value) VALUES (?, ?, ?, ?, ?, ?)",
                (row.source, row.id, *content),
            )
        elif first == content:
            duplicates += 1
            db.execute("UPDATE events SET repeats = repeats + 1 WHERE source = ? AND id = ?", (row.source, row.id))
        else:
            conflicts.append((row.day, row.row))
    for (day, number), text in lines(home, conflicts).items():
        db.execute("INSERT INTO rejects VALUES (?, ?, 'conflicting', ?)", (day, number, text))
    db.executemany("INSERT INTO subscriptions VALUES (?, ?)", packages(home))
    tariffs = [(*row[:4], int(Decimal(row[4]) * 10_000)) for row in TARIFFS.rows()]
    db.executemany("INSERT INTO tariffs VALUES (?, ?, ?, ?, ?)", tariffs)
    db.execute("COMMIT")
    return Answer.of(
        overage={metric: Decimal(amount) / 10_000 for metric, amount in db.execute(OVERAGE)},
        counted=db.execute("SELECT COUNT(*) FROM events").fetchone()[0],
        duplicates=duplicates,
        rejects=dict(db.execute("SELECT reason, COUNT(*) FROM rejects GROUP BY reason").fetchall()),
        texts=[text for (text,) in db.execute("SELECT text FROM rejects")],
    )


if __name__ == "__main__":
    run(bill)
