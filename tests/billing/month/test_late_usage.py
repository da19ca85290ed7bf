"""Usage that comes late is added to what was measured: the same bytes as measuring everything at once."""

import shutil
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.ingest import scan_events
from billing.model.tables import USAGE
from billing.month import steps
from billing.month.business import Business
from billing.month.recorded_inputs.usage import RECORD
from billing.store.home import Home
from tests.billing.month.token_business import TokenBusiness
from tests.landing import Landing, event
from tests.sizes import sized

MONTHS = ("2026-01", "2026-02", "2026-03")
AS_OF = date(2026, 3, 20)
ACCOUNTS = ("acme", "beta")
Delivery = tuple[str, str, list[str]]


def customers(root: Path) -> Landing:
    landing = Landing(root)
    for name in ACCOUNTS:
        landing.customer(name)
    return landing


def measure(root: Path) -> dict[str, bytes]:
    """Ingest and measure all months; the bytes of their usage, and of what is remembered of it."""
    business = Business.load(root, AS_OF)
    try:
        steps.ingest_usage(business)
        for month in MONTHS:
            steps.write_cycles(business, month)
            steps.write_levels(business, month)
            steps.write_usage(business, month)
            # The rules of the next month's cycles are those of these packages.
            steps.write_packages(business, month)
    finally:
        business.register.close()
    paths = sorted([*(root / "lake" / "usage").rglob("*.parquet"), *(root / "lake").rglob(f"{RECORD}.json")])
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


@st.composite
def deliveries(draw: st.DrawFn) -> list[Delivery]:
    """Files of some delivery days, with events of days before, some of them delivered more than once."""
    days = st.integers(10, 69).map(lambda day: date.fromordinal(date(2026, 1, 1).toordinal() + day))
    events = []
    for number in range(draw(st.integers(1, 8))):
        type_, member = draw(st.sampled_from([("email.sent", "count"), ("leads.changed", "delta")]))
        value = draw(st.integers(1, 30_000))
        time = f"{draw(days)}T{draw(st.integers(0, 23)):02}:00:00Z"
        events.append(event(f"{number}", draw(st.sampled_from(ACCOUNTS)), type_, {member: value}, time))
    files = []
    for number in range(draw(st.integers(2, 4))):
        rows = draw(st.lists(st.sampled_from(events), min_size=1, max_size=6))
        files.append((f"2026-03-{draw(st.integers(11, 15))}", f"{number}.jsonl", rows))
    return files


@settings(max_examples=sized(usual=2, long=5))
@given(files=deliveries())
def test_deliveries_one_after_the_other_measure_what_all_at_once_do(files: Sequence[Delivery]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="late-usage-"))
    try:
        one, other = customers(folder / "one"), customers(folder / "other")
        for day, name, rows in files:
            one.deliver(rows, day, name)
            other.deliver(rows, day, name)
            found = measure(one.root)
        assert found == measure(other.root)
    finally:
        shutil.rmtree(folder)


@st.composite
def tokens_by_model(draw: st.DrawFn) -> list[Delivery]:
    """As `deliveries`, of tokens with dimensions."""
    rows = [
        event(
            f"{number}",
            draw(st.sampled_from(ACCOUNTS)),
            "llm.used",
            {
                "tokens": draw(st.integers(0, 3_000)),
                "model": draw(st.sampled_from(["large", "small", "gift", 4, None])),
                "kind": draw(st.sampled_from(["output", "cached", "x", None])),
            },
            f"2026-0{draw(st.integers(1, 2))}-{draw(st.integers(10, 28))}T{draw(st.integers(0, 23)):02}:00:00Z",
        )
        for number in range(draw(st.integers(1, 8)))
    ]
    return [
        (f"2026-03-{11 + number}", f"{number}.jsonl", draw(st.lists(st.sampled_from(rows), min_size=1, max_size=6)))
        for number in range(draw(st.integers(2, 3)))
    ]


@settings(max_examples=sized(usual=2, long=30))
@given(files=tokens_by_model())
def test_usage_by_dimension_is_added_as_if_it_had_come_at_once(files: Sequence[Delivery]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="late-usage-"))
    try:
        one, other = (TokenBusiness(folder / name) for name in ("one", "other"))
        for landing in (one, other):
            for name in ACCOUNTS:
                landing.customer(name)
        for day, name, rows in files:
            one.deliver(rows, day, name)
            other.deliver(rows, day, name)
            found = measure(one.root)
        assert found == measure(other.root)
        usage = pl.read_parquet(one.root / "lake" / "usage" / "**" / "*.parquet")
        home = Home(one.root)
        events = scan_events(home, steps.event_months(home, "2099-12")).collect()
        counted = events.filter(pl.col("metric") == "tokens", pl.col("time").dt.date() < date(2026, 3, 10))
        used = usage.filter(pl.col("metric") == "tokens")
        assert used["base_quantity"].sum() == (counted["value"].sum() or 0)
        assert used["events"].sum() == counted.height
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def measured(tmp_path: Path) -> Landing:
    """A home with usage of both customers, measured once."""
    landing = customers(tmp_path / "home")
    landing.use("acme", emails=20_000, leads=40)
    landing.use("beta", "2026-01-25", emails=3_000, leads=7)
    measure(landing.root)
    return landing


def used(landing: Landing) -> pl.DataFrame:
    return pl.read_parquet(landing.root / "lake" / "usage" / "billing_month=2026-02" / "usage.parquet")


def test_only_what_is_new_is_measured_of_counters(measured: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "month_usage", None)
    measured.use("acme", "2026-02-02", emails=500, leads=2)
    measured.use("beta", "2026-02-03", bytes=4 * 10**9)
    measure(measured.root)
    assert used(measured).filter(pl.col("events") > 0).select("account_id", "metric", "quantity", "events").rows() == [
        ("acme", "emails", 20_500, 2),
        ("acme", "leads", 42, 2),
        ("beta", "bandwidth", 4, 1),
        ("beta", "emails", 3_000, 1),
        ("beta", "leads", 7, 1),
    ]


def test_what_was_changed_is_measured_anew(measured: Landing) -> None:
    path = measured.folder / "usage" / "2026-01-20" / "usage.jsonl"
    path.write_text(path.read_text().replace("20000", "19000"))
    measure(measured.root)
    assert (
        used(measured).row(by_predicate=(pl.col("account_id") == "acme") & (pl.col("metric") == "emails"), named=True)[
            "quantity"
        ]
        == 19_000
    )


def test_nothing_is_added_to_a_table_that_is_not_what_was_measured(measured: Landing) -> None:
    before = used(measured)
    path = measured.root / "lake" / "usage" / "billing_month=2026-02" / "usage.parquet"
    USAGE.conform(before.with_columns(base_quantity=pl.col("base_quantity") + 1)).write_parquet(path)
    measure(measured.root)
    assert used(measured).equals(before)


def test_another_span_of_access_is_measured_anew(measured: Landing) -> None:
    assert used(measured)["events"].sum() == 4
    measured.request("acme", "hold", "2026-01-15T09:00:00Z")
    expected = measure(measured.root)
    for path in (measured.root / "lake").rglob(f"{RECORD}.json"):
        path.unlink()
    assert measure(measured.root) == expected
    assert used(measured)["events"].sum() < 4
