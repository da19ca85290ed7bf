"""Try a raw log: the events, rejects and sums that a file would give, without changing anything (rule 39)."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import polars as pl

from billing.ingest.aliases import ALIAS
from billing.ingest.deduplication import FIRST
from billing.ingest.deliveries import ingest_deliveries
from billing.ingest.events import scan_events
from billing.ingest.landing import delivery_day
from billing.ingest.manifest import OUTCOMES
from billing.ingest.metric_members import measured_paths, read_column
from billing.ingest.parsed_files import FileVersion
from billing.ingest.parsed_locations import ParsedFolder
from billing.ingest.state import FileState, read_state
from billing.ingest.validation import Rules
from billing.inputs.catalogue_file import load_catalogue
from billing.inputs.reading import Inputs, read_inputs
from billing.model.catalogue import Catalogue, Metric
from billing.model.errors import RefusedError
from billing.model.plain_rows import plain_number
from billing.model.sources import Source, TextRule, source_of
from billing.model.tables import REJECTS
from billing.store.frames import read_frame
from billing.store.home import Home
from billing.store.parquet_writer import row_groups
from billing.store.temporary_folder import temporary_folder

_SCRATCH: Final = "overage-try-"
# A file without a day of delivery is not judged by how late it is.
_ANY_DAY: Final = date(2099, 12, 31)
_ANY_AGE: Final = 60_000
_MOST_FOLDERS: Final = 6
_DETAIL: Final = re.compile(r"(?P<field>.+?): found (?P<found>.*?), expected (?P<expected>.*)", re.DOTALL)
_ENVELOPE: Final = ("id", "source", "type", "subject", "time")


@dataclass(frozen=True)
class Trial:
    """What a file would become.

    Attributes
    ----------
    day
        Day of delivery; None where the file lies in no delivery folder: then its age is not judged.
    events
        Events that would count, the first in the order of the file: row, id, source, type, subject, account_id, time,
        one key per value, and `from`: what each is taken from.
    rejects
        Rows that would be set aside, the first: row, reason, field, found, expected, text.
    reasons
        By reason: the number of all rejects.
    totals
        rows, counted, duplicates, rejected, ignored, rounded, and sums by metric, in base units.
    unreadable
        Why nothing of the file counts; empty where it is read.
    """

    file: str
    source: Source | None
    day: date | None
    events: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    totals: dict[str, Any] = field(default_factory=dict)
    unreadable: str = ""


@dataclass(frozen=True)
class Wanted:
    """A file to try, and the business that it is tried for."""

    path: Path
    home: Home
    catalogue: Catalogue
    inputs: Inputs
    day: date | None
    name: str

    @classmethod
    def of(cls, path: Path, root: Path) -> "Wanted":
        """A file inside or outside of the home.

        Raises
        ------
        RefusedError
            When the home or its catalogue is refused.
        """
        home = Home(root)
        catalogue = load_catalogue(home.landing / "catalogue.yaml")
        day, name = _place(path)
        return cls(path, home, catalogue, read_inputs(home, catalogue), day, name)

    def source(self, name: str | None) -> Source | None:
        """The source of some name, else the first one that matches the file; None where none does.

        A file outside of a delivery folder may lie in folders that stand for those below the day.

        Raises
        ------
        RefusedError
            When there is no source of this name.
        """
        sources = self.catalogue.sources
        if name is not None:
            found = next((source for source in sources if source.name == name), None)
            if found is None:
                known = ", ".join(source.name for source in sources) or "none"
                raise RefusedError(f"unknown source: found {name!r}, expected one of the catalogue's: {known}")
            return found
        if self.day is not None:
            return source_of(self.name, sources)
        parts = self.path.resolve().parts
        tails = ["/".join(parts[-length:]) for length in range(1, min(_MOST_FOLDERS, len(parts) - 1) + 1)]
        return next((found for tail in tails if (found := source_of(tail, sources)) is not None), None)


def try_file(wanted: Wanted, source: Source | None, rows: int) -> Trial:
    """Ingest one file into a scratch home, and tell what came of it.

    Parameters
    ----------
    source
        What reads it; None: it holds CloudEvents or flat columns.
    rows
        How many events and rejects to list; totals are of the whole file.
    """
    catalogue, day = wanted.catalogue, wanted.day or _ANY_DAY
    lateness = catalogue.policy.lateness_days if wanted.day else _ANY_AGE
    reader = () if source is None else (replace(source, files=("**",)),)
    own = Rules.of_catalogue(catalogue, wanted.inputs.known_accounts, wanted.inputs.aliases)
    rules = replace(own, lateness_days=lateness, sources=reader)
    with temporary_folder(_SCRATCH) as folder:
        scratch = Home(folder)
        place = scratch.landing / "usage" / day.isoformat() / wanted.name
        place.parent.mkdir(parents=True)
        # Copy it: another link would change the stamp by which the next run knows the file.
        shutil.copyfile(wanted.path, place)
        ingest_deliveries(scratch, rules)
        state = read_state(scratch)
        files = state.days[day].files if state and day in state.days else {}
        if not files:
            # A name that is left alone in landing (hidden, unfinished) is no delivery.
            reason = "found a name that deliveries cannot have, expected one that is not hidden or unfinished"
            return Trial(str(wanted.path), source, wanted.day, unreadable=reason)
        ((name, file),) = files.items()
        rejects = read_frame(scratch.delivery(REJECTS, day), REJECTS)
        counts = rejects.group_by("reason").len().sort("len", "reason", descending=[True, False])
        return Trial(
            file=str(wanted.path),
            source=source,
            day=wanted.day,
            events=list(_events(scratch, FileVersion(day, name, file.sha256), rules, source, rows)),
            rejects=[_reject(*row) for row in rejects.select("row", "reason", "detail", "text").head(rows).iter_rows()],
            reasons=dict(counts.iter_rows()),
            totals=_totals(scratch, file, catalogue),
            unreadable=file.unreadable,
        )


def _place(path: Path) -> tuple[date | None, str]:
    """The day of delivery and the name below it, where a file lies in a delivery folder of any home."""
    parts = path.resolve().parts
    for place in range(len(parts) - 2, 0, -1):
        if parts[place] == "usage":
            below = parts[place + 1 :]
            day = delivery_day(below[0].removeprefix("day=")) if len(below) > 1 else None
            if day is not None:
                return day, "/".join(below[1:])
            day = delivery_day("-".join(below[:3])) if len(below) > 3 else None
            if day is not None:
                return day, "/".join(below[3:])
    return None, path.name


def _events(
    home: Home, version: FileVersion, rules: Rules, source: Source | None, wanted: int
) -> Iterator[dict[str, Any]]:
    """The first events that count, in the order of the file."""
    place = ParsedFolder(home, version.day).find_any(version)
    if place is None:
        return
    others = [
        pl.read_parquet(path, hive_partitioning=False).filter(pl.col("mark") != FIRST).select("row")
        for path in sorted((home.lake / "repeats").glob("*/*.parquet"))
    ]
    repeated = pl.concat([pl.DataFrame(schema={"row": pl.Int64}), *others])
    taken = _taken_from(source, rules)
    start = found = 0
    for length in row_groups(place.path):
        if found >= wanted:
            return
        rows = rules.with_accounts(place.scan().slice(start, length).collect())
        start += length
        valid = rows.filter(rules.is_valid(version.day, len(rows))).join(repeated, on="row", how="anti")
        # A row in Python has no nanoseconds: write the time before.
        shown = valid.head(wanted - found).with_columns(_written(valid["time"].head(wanted - found)))
        for row in shown.iter_rows(named=True):
            yield _event(row, valid, rules, taken)
            found += 1


def _event(row: dict[str, Any], rows: pl.DataFrame, rules: Rules, taken: dict[str, str]) -> dict[str, Any]:
    event = {
        "row": row["row"],
        "id": row["id"],
        "source": row["source"],
        "type": row["type"],
        "subject": row.get(ALIAS, row["subject"]),
        "account_id": row["subject"],
        "time": row["time"],
    }
    for member in rules.types.get(row["type"], ()):
        # Only the value that a metric measures may stand in the one value column of a flat file.
        column = read_column(member.path, rows.columns) if member.is_required else member.column
        if column in rows.columns and row[column] is not None:
            event[".".join(member.path)] = row[column]
    return event | {"from": {name: words for name, words in taken.items() if name in event}}


def _taken_from(source: Source | None, rules: Rules) -> dict[str, str]:
    """What each part of an event is taken from, in words."""
    if source is None:
        return dict.fromkeys(_ENVELOPE, "the event itself") | {
            ".".join(path): "the event itself" for path in measured_paths(rules.types)
        }
    words = {
        "id": source.id.kind if source.id.kind != "fields" else f"field {', '.join(source.id.fields)}",
        "source": _words(source.source) or "the name of the source",
        "type": _words(source.type),
        "subject": _words(source.subject),
        "account_id": f"alias {source.subject.alias}" if source.subject.alias else "subject",
        "time": f"field {source.time.field}",
    }
    for rule in source.values:
        taken = f"field {rule.field}" if rule.field else f"const {rule.const}"
        words[".".join(rule.path)] = f"{taken}, times {rule.times}" if rule.times is not None else taken
    return words


def _words(rule: TextRule) -> str:
    if rule.const is not None:
        return f"const {rule.const}"
    return f"field {rule.field}" if rule.field else ""


def _reject(row: int | None, reason: str, detail: str | None, text: str | None) -> dict[str, Any]:
    parts = _DETAIL.fullmatch(detail or "")
    told = parts.groupdict() if parts else {"field": None, "found": detail, "expected": None}
    return {"row": row, "reason": reason, **told, "text": text}


def _totals(home: Home, file: FileState, catalogue: Catalogue) -> dict[str, Any]:
    months = [path.name.partition("=")[2] for path in sorted((home.lake / "events").glob("event_month=*"))]
    events = scan_events(home, months).collect()
    counts = {name: getattr(file, name) for name in OUTCOMES}
    # Texts of instants do not sort like instants: compare first.
    first, last = events.select(pl.col("time").min().alias("first"), pl.col("time").max().alias("last"))
    sums = {metric.name: _sum(events.filter(pl.col("metric") == metric.name), metric) for metric in catalogue.metrics}
    return counts | {
        "first_time": _written(first).item(),
        "last_time": _written(last).item(),
        "sums": {name: amount for name, amount in sums.items() if amount is not None},
    }


def _written(times: pl.Series) -> pl.Series:
    """Instants as RFC 3339, to the nanosecond."""
    return times.dt.to_string("%Y-%m-%dT%H:%M:%S%.fZ")


def _sum(events: pl.DataFrame, metric: Metric) -> str | None:
    """What a metric's events come to: their sum, highest, or number of different ones; None where there are none."""
    if events.is_empty():
        return None
    if metric.measure == "unique":
        return str(events["member"].n_unique())
    if metric.measure == "count":
        return str(len(events))
    value = events["value"].max() if metric.measure == "max" else events["value"].sum()
    return plain_number(value) if isinstance(value, Decimal) else None
