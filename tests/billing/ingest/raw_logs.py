"""A business that bills what its raw logs say: its sources are written as in catalogue.yaml."""

from pathlib import Path

import polars as pl

from billing.inputs.source_entries import read_sources
from billing.inputs.yaml_reader import read_yaml
from billing.model.errors import Problem
from billing.model.sources import ALIASES, Source
from billing.store.home import Home
from tests.billing.ingest.small_business import Business, metric

METRICS = (
    metric("requests", "http.request", None, measure="count"),
    metric("bandwidth", "http.request", "data.bytes"),
    metric("emails", "email.sent", "data.count"),
)


def sources_of(text: str) -> tuple[Source, ...]:
    """The sources of a piece of catalogue.yaml, which must be right."""
    sources, problems = read(text)
    assert not problems, problems
    return sources


def read(text: str) -> tuple[tuple[Source, ...], list[Problem]]:
    problems: list[Problem] = []
    root = read_yaml("catalogue.yaml", text.encode(), problems)
    assert root is not None, problems
    return read_sources(root.at("sources"), METRICS), problems


def one_source(format: str, event: str, **keys: str) -> str:
    """A source `log` of every file; `event` and further keys are YAML in flow style."""
    others = "".join(f"\n    {key}: {value}" for key, value in keys.items())
    return f'sources:\n  - name: log\n    files: ["**"]\n    format: {format}\n    event: {{{event}}}{others}\n'


def business(folder: Path, sources: str, **others: object) -> Business:
    home = Home(folder)
    return Business(home, metrics=METRICS, sources=sources_of(sources), **others)  # type: ignore[arg-type]


def aliases(*rows: tuple[str, str, str, str | None, str | None]) -> pl.DataFrame:
    """Rows of kind, alias, account_id, from and to."""
    frame = pl.DataFrame(rows, schema=dict.fromkeys(ALIASES.column_names, pl.String), orient="row")
    return ALIASES.conform(frame.with_columns(pl.col("from", "to").str.to_date()))


def counts(business: Business) -> dict[str, tuple[int, ...]]:
    """By file: rows, counted, duplicates, rejected, ignored, rounded."""
    columns = ("rows", "counted", "duplicates", "rejected", "ignored", "rounded")
    return {name: tuple(numbers) for name, *numbers in business.table("ingest").select("file", *columns).iter_rows()}


def sums(business: Business, metric: str) -> dict[str, str]:
    """By account: the sum of a metric, in base units."""
    found = business.events().filter(pl.col("metric") == metric).group_by("account_id").agg(pl.col("value").sum())
    return {account: f"{value.normalize():f}" for account, value in found.sort("account_id").iter_rows()}
