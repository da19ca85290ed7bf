"""Every ready-made source on a sample of what its system writes, against a reader in plain Python."""

import gzip
import json
import re
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import polars as pl
import pytest

from billing.model.catalogue import Catalogue
from billing.store.home import Home
from tests.billing.ingest.raw_logs import aliases, counts
from tests.billing.ingest.small_business import Business
from tests.billing.ingest.sources.plain_readers import ACCOUNTS, NAMES, READERS, NotKept, Used, documents
from tests.billing.ingest.sources.ready_sources import SAMPLES, ready_catalogue

KINDS = ("counted", "duplicates", "rejected", "ignored")
Sums = dict[tuple[str, str], Decimal]
Times = Counter[tuple[str, str, datetime]]
NINTH = Decimal("1e-9")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return ready_catalogue(tmp_path_factory.mktemp("catalogue"))


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue) -> Business:
    """A business to which every sample was delivered."""
    names = [(kind, alias, account, None, None) for kind, known in NAMES.items() for alias, account in known.items()]
    home = Business(
        Home(tmp_path_factory.mktemp("home")),
        accounts=set(ACCOUNTS),
        metrics=catalogue.metrics,
        sources=catalogue.sources,
        aliases=aliases(*names),
    )
    for name, (sample, _) in READERS.items():
        home.deliver((SAMPLES / sample).read_bytes(), day="2026-01-12", name=f"{name}/{sample}")
    home.ingest()
    return home


@pytest.fixture(scope="module")
def twice(once: Business) -> tuple[dict[str, Sums], Business]:
    """What was billed before, and the business after every sample came again, compressed and under another name."""
    before = found_sums(once)
    for name, (sample, _) in READERS.items():
        content = gzip.compress((SAMPLES / sample).read_bytes(), mtime=0)
        once.deliver(content, day="2026-01-13", name=f"{name}/again/{sample}.gz")
    once.ingest()
    return before, once


def expected(name: str) -> tuple[Counter[str], Sums, Times]:
    """How many records of a sample are what, and by metric and account what they add up to, and their times."""
    sample, reader = READERS[name]
    number: Counter[str] = Counter()
    sums: Sums = defaultdict(Decimal)
    times: Times = Counter()
    seen: dict[object, Used] = {}
    for found in reader(SAMPLES / sample):
        number["rows"] += 1
        if not isinstance(found, Used):
            number["ignored" if found is NotKept else "rejected"] += 1
        elif found.account is None:
            number["rejected"] += 1
        elif found.id is not None and found.id in seen:
            number["duplicates" if found == seen[found.id] else "rejected"] += 1
        else:
            seen[found.id] = found
            number["counted"] += 1
            for metric, value in found.values:
                sums[metric, found.account] += Decimal(value).quantize(NINTH, ROUND_HALF_EVEN)
                times[metric, found.account, found.time.astimezone(UTC)] += 1
    return number, sums, times


def found_sums(home: Business) -> dict[str, Sums]:
    """By source: what was billed."""
    found: dict[str, Sums] = defaultdict(lambda: defaultdict(Decimal))
    for source, metric, account, value in home.events().select("source", "metric", "account_id", "value").iter_rows():
        found[source][metric, account] += 1 if value is None else value
    return found


def found_times(home: Business, name: str) -> Times:
    """By metric, account and microsecond: how many events of a source were billed."""
    events = home.events().filter(pl.col("source") == name).with_columns(pl.col("time").dt.truncate("1us"))
    return Counter(events.select("metric", "account_id", pl.col("time").dt.cast_time_unit("us")).iter_rows())


@pytest.mark.parametrize("name", READERS)
def test_a_ready_made_source_bills_its_sample_to_the_last_digit(name: str, once: Business) -> None:
    (source,) = (source for source in once.sources if source.name == name)
    sample, _ = READERS[name]
    number, sums, times = expected(name)
    rows, *found, _ = counts(once)[f"{name}/{sample}"]
    rejects = once.table("rejects").filter(pl.col("file") == f"{name}/{sample}").select("row", "reason", "detail")
    assert found == [number[key] for key in KINDS], rejects.rows()
    assert rows == number["rows"] == sum(found)
    assert found_sums(once)[name] == sums
    assert found_times(once, name) == times
    # Every sample has rows of every kind. Where the content is the id, equal lines of a file are no duplicates.
    assert 10 <= rows <= 40
    assert min(number["counted"], number["rejected"], number["ignored"]) > 0
    assert (number["duplicates"] > 0) == (source.id.kind == "fields")
    assert set(once.table("ingest").filter(pl.col("file") == f"{name}/{sample}")["source_name"]) == {name}


@pytest.mark.parametrize("name", READERS)
def test_a_log_that_is_delivered_again_adds_nothing(name: str, twice: tuple[dict[str, Sums], Business]) -> None:
    before, home = twice
    sample, _ = READERS[name]
    number, _, _ = expected(name)
    again = (number["rows"], 0, number["counted"] + number["duplicates"], number["rejected"], number["ignored"])
    assert counts(home)[f"{name}/again/{sample}.gz"][:5] == again
    assert found_sums(home)[name] == before[name]


@pytest.mark.parametrize("name", ["ses", "otel_metrics"])
def test_how_documents_are_arranged_in_a_file_changes_nothing(name: str, once: Business, tmp_path: Path) -> None:
    number, sums, _ = expected(name)
    found = [found for found in documents(SAMPLES / READERS[name][0]) if found is not None]
    home = replace(once, home=Home(tmp_path))
    home.deliver("".join(json.dumps(each, indent=2) for each in found), day="2026-01-12", name=f"{name}/pretty")
    home.ingest()
    assert found_sums(home)[name] == sums
    # The cut document is left out.
    assert counts(home)[f"{name}/pretty"][:2] == (number["rows"] - 1, number["counted"])
    home.deliver(json.dumps(found), day="2026-01-13", name=f"{name}/array")
    home.ingest()
    assert found_sums(home)[name] == sums
    assert counts(home)[f"{name}/array"][:3] == (number["rows"] - 1, 0, number["counted"] + number["duplicates"])


@pytest.mark.parametrize(
    ("name", "column"), [("focus", "ChargePeriodStart"), ("aws_cur", "line_item_usage_start_date")]
)
def test_a_cost_report_may_be_parquet(name: str, column: str, once: Business, tmp_path: Path) -> None:
    _, sums, times = expected(name)
    home = replace(once, home=Home(tmp_path))
    home.sources = tuple(replace(source, format="parquet") for source in once.sources if source.name == name)
    text = "\n".join(line for line in (SAMPLES / f"{name}.csv").read_text().splitlines() if line.count(",") > 15)
    # Such exports have times without a zone and binary floats.
    written = pl.col(column).str.strip_suffix("Z")
    time = pl.coalesce(
        written.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False),
        written.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False),
        written.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime),
    )
    table = pl.read_csv(text.encode(), infer_schema=False, null_values=["NULL", ""]).with_columns(
        time.alias(column), pl.col("^BilledCost|line_item_unblended_cost$").cast(pl.Float64)
    )
    path = home.deliver(b"", day="2026-01-12", name=f"{name}/a.parquet")
    table.write_parquet(path)
    home.ingest()
    assert found_sums(home)[name] == sums
    assert found_times(home, name) == times


def test_every_ready_made_source_is_run(catalogue: Catalogue) -> None:
    assert [source.name for source in catalogue.sources] == list(READERS)


def test_the_page_of_ready_made_sources_names_each_with_its_format_and_alias(catalogue: Catalogue) -> None:
    page = (Path(__file__).parents[4] / "docs" / "ready-made-sources.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| `(\w+)` \|[^|]*\|([^|]*)\|", page, re.MULTILINE)
    found = [(name, format, "".join(re.findall(r"alias `(\w+)`", customer))) for name, format, customer in rows]
    assert found == [(source.name, source.format, source.subject.alias) for source in catalogue.sources]
