"""A small business whose usage is delivered in tests, and what can be delivered to it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from billing.ingest import IngestOutcome, day_files, ingest_deliveries, scan_events
from billing.ingest.validation import Rules
from billing.model.catalogue import Metric
from billing.model.file_limits import DEFAULT_LIMITS, Limits
from billing.model.sources import ALIASES, Source
from billing.model.tables import INGEST, REJECTS
from billing.store.home import Home

Json = Mapping[str, "Json"] | list["Json"] | str | int | float | bool | None


def metric(
    name: str, event: str, value: str | None, *, kind: str = "counter", measure: str = "sum", unit_size: int = 1
) -> Metric:
    return Metric(
        name=name,
        event=event,
        kind="gauge" if kind == "gauge" else "counter",
        measure=measure,  # type: ignore[arg-type]  # the tests name measures freely
        value=tuple(value.split(".")) if value else None,
        carries="delta" if kind == "gauge" else None,
        unit=None,
        unit_size=Decimal(unit_size),
        title=name,
    )


METRICS = (
    metric("emails", "email.sent", "data.count"),
    metric("bandwidth", "bandwidth.served", "data.bytes", unit_size=10**9),
    metric("leads", "leads.changed", "data.delta", kind="gauge", measure="peak"),
    metric("logins", "login", None, measure="count"),
    metric("visitors", "page.viewed", "data.visitor", measure="unique"),
)


def event(id: str = "1", **members: Json) -> dict[str, Json]:
    """A good event of one email; members given replace or add, None takes away."""
    found: dict[str, Json] = {
        "specversion": "1.0",
        "id": id,
        "source": "/mail",
        "type": "email.sent",
        "subject": "acme",
        "time": "2026-01-01T12:00:00Z",
        "data": {"count": 1},
    }
    found |= members
    return {name: value for name, value in found.items() if value is not None}


def line(id: str = "1", **members: Json) -> str:
    return json.dumps(event(id, **members))


def split_all(patch: pytest.MonkeyPatch) -> None:
    """Split the events of every day, as those of many accounts are."""
    patch.setattr(day_files, "_MANY_ROWS", 1)
    patch.setattr(day_files, "_MANY_ACCOUNTS", 0)
    patch.setattr(day_files, "_SPLIT_TOGETHER", 7)


@dataclass
class Business:
    """A billing home to deliver into, and to look at afterwards."""

    home: Home
    accounts: set[str] = field(default_factory=lambda: {"acme", "globex"})
    metrics: tuple[Metric, ...] = METRICS
    time_zone: str = "UTC"
    lateness_days: int = 90
    limits: Limits = DEFAULT_LIMITS
    sources: tuple[Source, ...] = ()
    aliases: pl.DataFrame = field(default_factory=ALIASES.empty)

    def deliver(self, content: bytes | str | Iterable[str], day: str = "2026-01-02", name: str = "a.jsonl") -> Path:
        path = self.home.landing / "usage" / day / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else "".join(f"{text}\n" for text in content))
        return path

    def ingest(self, through: date | None = None) -> IngestOutcome:
        return ingest_deliveries(self.home, self.rules(), through=through)

    def rules(self) -> Rules:
        return Rules.of(
            self.metrics,
            pl.Series(sorted(self.accounts)),
            self.time_zone,
            self.lateness_days,
            self.limits,
            self.sources,
            self.aliases,
        )

    def table(self, name: str) -> pl.DataFrame:
        table = {"rejects": REJECTS, "ingest": INGEST}[name]
        paths = sorted((self.home.lake / name).glob("*/*.parquet"))
        frames = [pl.read_parquet(path, hive_partitioning=False) for path in paths]
        return pl.concat([table.empty(), *frames])

    def events(self) -> pl.DataFrame:
        months = [path.name.partition("=")[2] for path in (self.home.lake / "events").glob("event_month=*")]
        repeats = [
            pl.read_parquet(path, hive_partitioning=False).select(
                "file", "row", "repeats", delivery_day=pl.lit(date.fromisoformat(path.stem))
            )
            for path in (self.home.lake / "repeats").glob("event_month=*/*.parquet")
        ]
        nothing = pl.DataFrame(
            schema={"file": pl.String, "row": pl.Int64, "repeats": pl.Int64, "delivery_day": pl.Date}
        )
        return (
            scan_events(self.home, months)
            .collect()
            .join(pl.concat([nothing, *repeats]), on=["delivery_day", "file", "row"], how="left")
            .with_columns(pl.col("repeats").fill_null(0))
            .sort("metric", "account_id", "time", "source", "id")
        )

    def reasons(self) -> dict[int | None, str]:
        return dict(self.table("rejects").select("row", "reason").iter_rows())

    def lake(self) -> dict[str, bytes]:
        """Every byte that outside readers see."""
        return {
            str(path.relative_to(self.home.lake)): path.read_bytes()
            for table in ("events", "rejects", "repeats", "ingest")
            for path in sorted((self.home.lake / table).rglob("*.parquet"))
        }
