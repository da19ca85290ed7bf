"""Usage rows read and judged with Python's standard library, for peers that bring no reader of JSON lines that survives
a broken line."""

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

METRICS: Final = {
    "email.sent": ("emails", "count"),
    "bandwidth.served": ("bandwidth", "bytes"),
    "leads.changed": ("leads", "delta"),
}
"""By event type: the metric, and the member of `data` that holds its value."""

_LATENESS: Final = timedelta(days=90)


class Row(NamedTuple):
    """A delivered row; `reason` says why it cannot count, and then `text` is the row as it was delivered."""

    day: str
    row: int
    reason: str | None
    text: str | None
    source: str | None = None
    id: str | None = None
    account: str | None = None
    metric: str | None = None
    time: str | None = None
    value: int | None = None


def accounts(home: Path) -> set[str]:
    """The known accounts."""
    with (home / "landing" / "accounts.csv").open(newline="") as file:
        return {row["account_id"] for row in csv.DictReader(file)}


def packages(home: Path) -> list[tuple[str, str]]:
    """Account and package of every subscription."""
    with (home / "landing" / "requests.jsonl").open() as file:
        requests = map(json.loads, file)
        return [(found["account_id"], found["package"]) for found in requests if found["kind"] == "subscribe"]


def rows(home: Path) -> Iterator[Row]:
    """Every delivered row, in the order of delivery."""
    known = accounts(home)
    for path in sorted((home / "landing" / "usage").glob("*/*.jsonl.gz")):
        day = path.parent.name
        midnight = datetime.fromisoformat(day).replace(tzinfo=UTC)
        bounds = (midnight - _LATENESS, midnight + timedelta(days=2))
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                yield _judged(day, number, line.rstrip("\n"), known, bounds)


def lines(home: Path, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """The texts of the rows at some places (day and number), read from the logs again."""
    wanted = set(places)
    found = {}
    for path in sorted((home / "landing" / "usage").glob("*/*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if (path.parent.name, number) in wanted:
                    found[path.parent.name, number] = line.rstrip("\n")
    return found


def _judged(day: str, number: int, line: str, known: set[str], bounds: tuple[datetime, datetime]) -> Row:
    def aside(reason: str, *fields: Any) -> Row:
        return Row(day, number, reason, line, *fields)

    try:
        event = json.loads(line)
    except ValueError:
        return aside("unparseable")
    source, identity, account, time = (event.get(name) for name in ("source", "id", "subject", "time"))
    kind, data = event.get("type"), event.get("data", {})
    metric, member = METRICS.get(kind, (None, None))
    value = data.get(member) if metric else None
    if not (source and identity and account and time and kind) or event.get("specversion") != "1.0":
        return aside("missing_field", source, identity, account)
    if metric and value is None:
        return aside("missing_field", source, identity, account)
    try:
        value = None if value is None else int(value)
    except ValueError:
        return aside("impossible_value", source, identity, account)
    if metric in ("emails", "bandwidth") and value is not None and value < 0:
        return aside("impossible_value", source, identity, account)
    instant = datetime.fromisoformat(time)
    if instant.tzinfo is None:
        return aside("time_without_zone", source, identity, account)
    if account not in known:
        return aside("unknown_account", source, identity, account)
    if metric is None:
        return aside("unknown_type", source, identity, account)
    if instant >= bounds[1]:
        return aside("future_dated", source, identity, account)
    if instant < bounds[0]:
        return aside("too_late", source, identity, account)
    return Row(day, number, None, None, source, identity, account, metric, time, value)
