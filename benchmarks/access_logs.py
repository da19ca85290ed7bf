"""Access logs to usage: combined log lines by a source, against DuckDB doing the same work.

Both keep every rejected line with its text, tell records apart by the SHA-256 of their text and its occurrence in the
file, count one delivered again once, over all days, write counted events and rejects as Parquet, and sum up bytes and
requests by account. Among the lines are cut ones, other statuses, unknown customers and a day that is delivered twice.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import run_measured, write_result

LINES: Final = 10_000_000
DAYS: Final = 31
ACCOUNTS: Final = 10_000
FIRST_DAY: Final = date(2026, 1, 1)
_AGENT: Final = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/32.0"
_CUT_EVERY: Final = 2_000
_PATTERN: Final = (
    r'^(\S+) (\S+) ([^\[]*) \[([^\]]*)\] "((?:[^"\\]|\\.)*)" (\S+) (\S+) '
    r'"((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"(?: .*)?$'
)


def measure(options: Sequence[str]) -> int:
    """Make the logs, measure both in pairs; the exit status is 1 where they do not agree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks access_logs")
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args(options)
    folder = Path(tempfile.mkdtemp(prefix="access-logs-"))
    pairs: list[dict[str, Any]] = []
    agree = True
    try:
        make_logs(folder, given.lines)
        for _ in range(given.pairs):
            answers, costs = {}, {}
            for peer in ("overage", "duckdb"):
                answers[peer], costs[peer] = run_measured([__name__, peer, str(folder)])
            agree = agree and answers["overage"] == answers["duckdb"]
            pairs.append({peer: vars(cost) for peer, cost in costs.items()})
            ours, theirs = costs["overage"], costs["duckdb"]
            told = [f"{name} {cost.cpu_seconds} CPU s, {cost.peak_mb:,} MB" for name, cost in costs.items()]
            print(f"{given.lines:,} lines: {'; '.join(told)}; CPU {ours.cpu_seconds / theirs.cpu_seconds:.2f}x")
            if not agree:
                print(
                    {peer: {name: found[name] for name in found if name != "usage"} for peer, found in answers.items()}
                )
        write_result("access_logs", {"lines": given.lines, "pairs": pairs, "agree": agree})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if agree else 1


def make_logs(folder: Path, lines: int) -> None:
    """Write a file a day, the last one once more under another name."""
    chosen = random.Random(1)  # noqa: S311  # Test data.
    usage = folder / "home" / "landing" / "usage"
    for place in range(DAYS):
        day = FIRST_DAY + timedelta(days=place)
        path = usage / (day + timedelta(days=1)).isoformat() / f"access-{day}.log"
        path.parent.mkdir(parents=True)
        count = (place + 1) * lines // DAYS - place * lines // DAYS
        with path.open("w") as file:
            for number in range(count):
                second = number * 86_400 // count
                account = min(int(chosen.paretovariate(0.6)), ACCOUNTS + 20)
                text = (
                    f"203.0.113.{chosen.randrange(256)} - a{account} "
                    f"[{day:%d/%b/%Y}:{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02} +0000] "
                    f'"GET /files/{chosen.randrange(100_000)} HTTP/1.1" {chosen.choice((200, 200, 200, 206, 404))} '
                    f'{chosen.choice(("-", chosen.randrange(10**6), chosen.randrange(10**4)))} "-" "{_AGENT}"'
                )
                file.write(f"{text[: len(text) // 2] if number % _CUT_EVERY == 1 else text}\n")
        if place == DAYS - 1:
            shutil.copyfile(path, path.with_name("again.log"))


def with_overage(folder: Path) -> dict[str, Any]:
    """Ingest by a source, and sum up the events."""
    import polars as pl

    from billing.ingest import ingest_deliveries, scan_events
    from billing.ingest.validation import Rules
    from billing.model.catalogue import Metric
    from billing.model.log_formats import TIME_FIELDS
    from billing.model.sources import Identity, Keep, Source, TextRule, TimeRule, ValueRule
    from billing.model.tables import REJECTS
    from billing.store.frames import scan_frames
    from billing.store.home import Home

    home = Home(folder / "home")
    shutil.rmtree(home.lake, ignore_errors=True)
    source = Source(
        name="edge",
        files=("*.log",),
        format="combined",
        id=Identity("content"),
        type=TextRule(const="request"),
        subject=TextRule("user"),
        time=TimeRule(*TIME_FIELDS["combined"]),
        values=(ValueRule(("data", "bytes"), "bytes", null_is="0"),),
        keep=(Keep("status", is_in=("200", "206")),),
    )
    metrics = [
        Metric("bytes", "request", "counter", "sum", ("data", "bytes"), None, None, Decimal(1), "Bytes"),
        Metric("requests", "request", "counter", "count", None, None, None, Decimal(1), "Requests"),
    ]
    accounts = pl.Series([f"a{number}" for number in range(1, ACCOUNTS + 1)])
    outcome = ingest_deliveries(home, Rules.of(metrics, accounts, "UTC", 90, sources=[source]))
    months = [path.name.partition("=")[2] for path in (home.lake / "events").glob("event_month=*")]
    usage = (
        scan_events(home, months)
        .group_by("account_id")
        .agg(requests=(pl.col("metric") == "requests").sum(), total=pl.col("value").sum())
        .sort("account_id")
        .collect(engine="streaming")
    )
    rejects = scan_frames(sorted((home.lake / REJECTS.name).glob("*/*.parquet")), REJECTS)
    return {
        "rows": outcome.rows,
        "counted": outcome.counted,
        "duplicates": outcome.duplicates,
        "ignored": outcome.ignored,
        "rejected": rejects.select(pl.len(), pl.col("text").str.len_bytes().sum().alias("bytes")).collect().row(0),
        "usage": [[account, requests, int(total)] for account, requests, total in usage.iter_rows()],
    }


def with_duckdb(folder: Path) -> dict[str, Any]:
    """The same in SQL, a file at a time into Parquet, and over all of it for what is delivered again."""
    import duckdb

    target = folder / "duckdb"
    shutil.rmtree(target, ignore_errors=True)
    (target / "events").mkdir(parents=True)
    (target / "rejects").mkdir()
    db: Any = duckdb.connect(config={"threads": os.cpu_count() or 2, "temp_directory": str(target / "spill")})
    db.execute("SET TimeZone = 'UTC'")
    db.execute(f"CREATE TABLE accounts AS SELECT 'a' || n AS account_id FROM range(1, {ACCOUNTS + 1}) r(n)")
    files = sorted((folder / "home" / "landing" / "usage").glob("*/*.log"))
    rows = ignored = 0
    for place, path in enumerate(files):
        db.execute(
            r"""
            CREATE OR REPLACE TEMP TABLE judged AS
            WITH lines AS (
              SELECT line, row_number() OVER () AS row
              FROM read_csv($path, header = false, columns = {'line': 'VARCHAR'}, delim = '\x01', quote = '',
                            escape = '', auto_detect = false)
            ), parsed AS (
              SELECT row, line, regexp_extract(line, $pattern, ['host', 'ident', 'user', 'time', 'request', 'status',
                                                                'bytes', 'referer', 'agent']) AS f
              FROM lines
            ), typed AS (
              SELECT row, line, f.host = '' AS broken, nullif(f.user, '-') AS account, f.status AS status,
                     try_strptime(f.time, '%d/%b/%Y:%H:%M:%S %z') AS instant,
                     TRY_CAST(CASE WHEN f.bytes = '-' THEN '0' ELSE f.bytes END AS DECIMAL(27, 9)) AS bytes,
                     sha256(line) AS digest
              FROM parsed
            )
            SELECT row, line, account, instant, bytes,
                   digest || '-' || row_number() OVER (PARTITION BY digest ORDER BY row) AS id,
                   NOT broken AND status NOT IN ('200', '206') AS is_ignored,
                   CASE WHEN broken THEN 'unparseable' WHEN account IS NULL THEN 'missing_field'
                        WHEN bytes IS NULL OR bytes < 0 THEN 'impossible_value' WHEN instant IS NULL THEN 'invalid_time'
                        WHEN account NOT IN (SELECT account_id FROM accounts) THEN 'unknown_account' END AS reason
            FROM typed
            """,
            {"path": str(path), "pattern": _PATTERN},
        )
        found = db.execute("SELECT count(*), count(*) FILTER (is_ignored) FROM judged").fetchone()
        rows, ignored = rows + found[0], ignored + found[1]
        for name, columns, condition in (
            ("events", f"{place} AS file, row, account, instant, bytes, id", "reason IS NULL"),
            ("rejects", f"{place} AS file, row, reason, line", "reason IS NOT NULL"),
        ):
            db.execute(
                f"COPY (SELECT {columns} FROM judged WHERE NOT is_ignored AND {condition} ORDER BY row) "
                f"TO '{target / name / f'{place:03}.parquet'}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
            )
    db.execute("DROP TABLE judged")
    db.execute(
        f"""
        CREATE TABLE counted AS
        SELECT account, bytes FROM '{target}/events/*.parquet'
        QUALIFY row_number() OVER (PARTITION BY id ORDER BY file, row) = 1
        """
    )
    valid = db.execute(f"SELECT count(*) FROM '{target}/events/*.parquet'").fetchone()[0]
    usage = db.execute(
        "SELECT account, count(*), sum(bytes)::BIGINT FROM counted GROUP BY ALL ORDER BY account"
    ).fetchall()
    counted = sum(requests for _, requests, _ in usage)
    rejected = db.execute(f"SELECT count(*), sum(strlen(line)) FROM '{target}/rejects/*.parquet'").fetchone()
    return {
        "rows": rows,
        "counted": counted,
        "duplicates": valid - counted,
        "ignored": ignored,
        "rejected": [int(number) for number in rejected],
        "usage": [list(row) for row in usage],
    }


def main() -> None:
    """`overage FOLDER` or `duckdb FOLDER`; prints the answer as JSON."""
    peer, folder = sys.argv[1:]
    print(json.dumps((with_overage if peer == "overage" else with_duckdb)(Path(folder))))


if __name__ == "__main__":
    main()
