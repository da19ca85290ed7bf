"""The month with DuckDB: files parsed two at a time into Parquet, all that follows in SQL over those.

Parsing into Parquet first takes a quarter of the memory of a table in memory, for a tenth more processor time.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import duckdb

from benchmarks.logs_to_money.answer import Answer, run
from benchmarks.month_of_usage import TARIFFS

_TYPES: Final = "('email.sent', 'bandwidth.served', 'leads.changed')"
_MEMBERS: Final = ["specversion", "id", "source", "type", "subject", "time", "data.count", "data.bytes", "data.delta"]

_PARSE: Final = f"""
COPY (
  WITH lines AS (
    SELECT line, row_number() OVER () AS row
    FROM read_csv($path, header = false, columns = {{'line': 'VARCHAR'}}, delim = '\x01', quote = '', escape = '',
                  auto_detect = false)
  ), decoded AS (
    SELECT *, CASE WHEN json_valid(line) THEN json_extract_string(line, {[f"$.{name}" for name in _MEMBERS]}) END AS j
    FROM lines
  ), named AS (
    SELECT row, line, j IS NULL AS broken, j[1] AS specversion, j[2] AS id, j[3] AS source, j[4] AS type,
           j[5] AS subject, j[6] AS time_text,
           CASE j[4] WHEN 'email.sent' THEN j[7] WHEN 'bandwidth.served' THEN j[8] WHEN 'leads.changed' THEN j[9] END
             AS value_text
    FROM decoded
  ), typed AS (
    SELECT *, TRY_CAST(time_text AS TIMESTAMPTZ) AS "time",
           CASE WHEN regexp_full_match(value_text, '-?[0-9]{{1,18}}(\\.[0-9]{{1,9}})?')
                THEN TRY_CAST(value_text AS DECIMAL(27, 9)) END AS value
    FROM named
  ), judged AS (
    SELECT *, CASE
      WHEN broken THEN 'unparseable'
      WHEN coalesce(specversion, '') <> '1.0' OR coalesce(id, '') = '' OR coalesce(source, '') = ''
        OR coalesce(type, '') = '' OR coalesce(subject, '') = '' OR coalesce(time_text, '') = ''
        OR (type IN {_TYPES} AND coalesce(value_text, '') = '') THEN 'missing_field'
      WHEN type IN {_TYPES} AND (value IS NULL OR (type <> 'leads.changed' AND value < 0)) THEN 'impossible_value'
      WHEN NOT regexp_full_match(time_text, '.*(Z|[+-][0-9][0-9]:[0-9][0-9])') THEN 'time_without_zone'
      WHEN "time" IS NULL THEN 'invalid_time'
      WHEN subject NOT IN (SELECT account_id FROM accounts) THEN 'unknown_account'
      WHEN type NOT IN {_TYPES} THEN 'unknown_type'
      WHEN "time" >= ($day::DATE + 2)::TIMESTAMPTZ THEN 'future_dated'
      WHEN "time" < ($day::DATE - 90)::TIMESTAMPTZ THEN 'too_late'
    END AS reason
    FROM typed
  )
  SELECT $day::DATE AS day, row, CASE WHEN reason IS NOT NULL THEN line END AS text, reason, source, id, type, subject,
         "time", value, hash(source, id) AS identity
  FROM judged
) TO '{{target}}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)
"""

# only rows whose hash occurs twice are compared by their whole identity
_REPEATS: Final = """
CREATE TABLE repeats AS
WITH suspects AS (SELECT identity FROM parsed WHERE reason IS NULL GROUP BY identity HAVING count(*) > 1),
ranked AS (
  SELECT day, row, source, id, row_number() OVER first_first AS rank, count(*) OVER (PARTITION BY source, id) AS rows,
         (subject, type, "time", value) IS NOT DISTINCT FROM
           first_value((subject, type, "time", value)) OVER first_first AS same
  FROM parsed WHERE reason IS NULL AND identity IN (SELECT identity FROM suspects)
  WINDOW first_first AS (PARTITION BY source, id ORDER BY day, row)
)
SELECT day, row, rank, same,
       sum(CASE WHEN rank > 1 AND same THEN 1 ELSE 0 END) OVER (PARTITION BY source, id) AS repeats
FROM ranked WHERE rows > 1
"""

_EVENTS: Final = """
COPY (
  SELECT subject AS account_id,
         CASE type WHEN 'email.sent' THEN 'emails' WHEN 'bandwidth.served' THEN 'bandwidth' ELSE 'leads' END AS metric,
         "time", value, source, id, coalesce(repeats, 0) AS repeats, p.day, p.row
  FROM parsed p LEFT JOIN repeats r ON p.day = r.day AND p.row = r.row
  WHERE reason IS NULL AND coalesce(rank, 1) = 1
) TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)
"""

_CONFLICTS: Final = "SELECT day, row FROM repeats WHERE rank > 1 AND NOT same ORDER BY day, row"

_USAGE: Final = """
CREATE TABLE usage AS
WITH inside AS (
  SELECT * FROM '{events}' WHERE "time" >= '2026-01-01'::TIMESTAMPTZ AND "time" < '2026-02-01'::TIMESTAMPTZ
), changes AS (
  SELECT account_id, "time", sum(value) AS change, count(*) AS events, sum(repeats) AS duplicates
  FROM inside WHERE metric = 'leads' GROUP BY ALL
), levels AS (
  SELECT account_id, events, duplicates, sum(change) OVER (PARTITION BY account_id ORDER BY "time") AS level
  FROM changes
)
SELECT account_id, metric, sum(value) AS quantity, count(*) AS events, sum(repeats) AS duplicates
FROM inside WHERE metric <> 'leads' GROUP BY ALL
UNION ALL
SELECT account_id, 'leads', greatest(0, max(level)), sum(events), sum(duplicates) FROM levels GROUP BY ALL
"""

_CHARGES: Final = """
COPY (
  SELECT s.account_id, s.package, t.metric, coalesce(quantity, 0) AS quantity, allowance,
         greatest(0, coalesce(quantity, 0) - allowance) AS excess,
         ceil(greatest(0, coalesce(quantity, 0) - allowance) / block)::BIGINT * price AS amount
  FROM subscriptions s JOIN tariffs t USING (package)
  LEFT JOIN usage u ON u.account_id = s.account_id AND u.metric = t.metric
  ORDER BY 1, 3
) TO '{target}' (FORMAT parquet, COMPRESSION zstd)
"""


def bill(home: Path, folder: Path) -> Answer:
    """Parse, resolve repeats, write events and rejects, measure and rate."""
    parsed = folder / "parsed"
    parsed.mkdir(parents=True)
    landing = home / "landing"
    events, charges, rejects = (folder / f"{name}.parquet" for name in ("events", "charges", "rejects"))
    db = duckdb.connect()
    db.execute(f"SET threads = {os.cpu_count()}")
    db.execute("SET TimeZone = 'UTC'")
    db.execute(f"SET temp_directory = '{folder}/spill'")
    db.execute(
        f"CREATE TABLE accounts AS SELECT account_id FROM read_csv('{landing}/accounts.csv', all_varchar = true)"
    )
    db.execute(
        f"""CREATE TABLE subscriptions AS SELECT account_id, package FROM read_json('{landing}/requests.jsonl',
        format = 'newline_delimited', columns = {{account_id: 'VARCHAR', package: 'VARCHAR', kind: 'VARCHAR'}})
        WHERE kind = 'subscribe'"""
    )
    db.execute("CREATE TABLE tariffs (package TEXT, metric TEXT, allowance BIGINT, block BIGINT, price DECIMAL(12, 4))")
    db.executemany("INSERT INTO tariffs VALUES (?, ?, ?, ?, ?)", TARIFFS.rows())

    def parse(path: Path) -> None:
        day = path.parent.name
        target = parsed / f"{day}.parquet"
        db.cursor().execute(_PARSE.replace("{target}", str(target)), {"path": str(path), "day": day})

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(parse, sorted(landing.glob("usage/*/*.jsonl.gz"))):
            pass
    db.execute(f"CREATE VIEW parsed AS SELECT * FROM '{parsed}/*.parquet'")
    db.execute(_REPEATS)
    _write_rejects(db, home, rejects)
    db.execute(_EVENTS.format(target=events))
    db.execute(_USAGE.format(events=events))
    db.execute(_CHARGES.format(target=charges))
    return Answer.of(
        overage=dict(_rows(db, f"SELECT metric, sum(amount) FROM '{charges}' GROUP BY metric")),
        counted=_rows(db, f"SELECT count(*) FROM '{events}'")[0][0],
        duplicates=_rows(db, "SELECT count(*) FROM repeats WHERE rank > 1 AND same")[0][0],
        rejects=dict(_rows(db, f"SELECT reason, count(*) FROM '{rejects}' GROUP BY reason")),
        texts=[text for (text,) in _rows(db, f"SELECT text FROM '{rejects}'")],
    )


def _write_rejects(db: duckdb.DuckDBPyConnection, home: Path, target: Path) -> None:
    """Rows set aside; the few that contradict an earlier one are looked up in the logs again for their text."""
    db.execute("CREATE TABLE conflict_texts (day DATE, row BIGINT, text VARCHAR)")
    wanted: dict[str, list[int]] = {}
    for day, row in _rows(db, _CONFLICTS):
        wanted.setdefault(str(day), []).append(row)
    for day, rows in wanted.items():
        db.execute(
            """INSERT INTO conflict_texts
            SELECT $day::DATE, row, line FROM (
              SELECT line, row_number() OVER () AS row FROM read_csv($path, header = false,
                columns = {'line': 'VARCHAR'}, delim = '\x01', quote = '', escape = '', auto_detect = false)
            ) WHERE row IN (SELECT unnest($rows::BIGINT[]))""",
            {"day": day, "rows": rows, "path": f"{home}/landing/usage/{day}/*.jsonl.gz"},
        )
    db.execute(
        f"""COPY (
        SELECT day, row, reason, text, source, id, subject FROM parsed WHERE reason IS NOT NULL
        UNION ALL
        SELECT p.day, p.row, 'conflicting', c.text, source, id, subject
        FROM parsed p JOIN conflict_texts c ON p.day = c.day AND p.row = c.row
        ORDER BY day, row) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"""
    )


def _rows(db: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = db.execute(sql).fetchall()
    return rows


if __name__ == "__main__":
    run(bill)
