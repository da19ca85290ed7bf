"""Laws that hold whatever is delivered: the order and the split of deliveries move no money, and nothing is lost.

Examples are drawn by hypothesis and computed step by step below the command line, so that many fit into a second; the
last test says the same of a home that is billed from outside.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from assets.ingest import ingest
from billing.model.columns import Table
from billing.model.tables import CHARGES, DECISIONS, DRAFT_LINES, DRAFTS, INGEST, PACKAGES, UNBILLED, USAGE
from billing.month.business import Business
from billing.month.scratch_copy import bring_up_to_date
from billing.month.unbilled import conserved, write_unbilled
from billing.store.frames import read_frame, scan_frames
from tests.by_steps import bill_by_steps
from tests.pipeline.outside import Landing, event, show
from tests.sizes import sized

FIRST, LAST = date(2026, 1, 1), date(2026, 3, 20)
MONTHS = ("2026-01", "2026-02", "2026-03")
TYPES = (
    ("leads.changed", "delta"),
    ("email.sent", "count"),
    ("bandwidth.served", "bytes"),
    ("domains.changed", "delta"),
)
# how often an event was delivered again depends on the delivery, and nothing else does
COMPARED = (USAGE, PACKAGES, DECISIONS, CHARGES, UNBILLED, DRAFTS, DRAFT_LINES)


@dataclass(frozen=True)
class Event:
    """Something that happened, as one line of JSON, and its day."""

    day: date
    text: str


Delivery = Mapping[tuple[date, str], Sequence[str]]


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    """Usage of two accounts around three billing dates: within limits, at them and over them."""
    found = []
    for number in range(draw(st.integers(1, 25))):
        day = FIRST + timedelta(draw(st.integers(0, (LAST - FIRST).days)))
        type_, member = draw(st.sampled_from(TYPES))
        value = draw(st.sampled_from([1, 2, 1_000, 2_500, 12_500, 15_001, 50_000_000_001]))
        if member == "delta":
            value = draw(st.sampled_from([1, 2, -1, 2_501, -2_000]))
        hour = draw(st.sampled_from(["00:00:00Z", "12:00:00+02:00", "23:59:59.999999999Z"]))
        account = draw(st.sampled_from(["acme", "globex", "nobody-subscribed"]))
        found.append(Event(day, event(f"event-{number}", account, type_, {member: value}, f"{day}T{hour}")))
    return found


@st.composite
def deliveries(draw: st.DrawFn, usage: Sequence[Event]) -> Delivery:
    """The same events in some order, spread over days and files, some of them more than once."""
    found: dict[tuple[date, str], list[str]] = {}
    for one in draw(st.permutations(usage)):
        for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
            day = one.day + timedelta(draw(st.integers(0, (LAST - one.day).days)))
            found.setdefault((day, draw(st.sampled_from(["a.jsonl", "b.jsonl", "c.ndjson"]))), []).append(one.text)
    return found


@contextmanager
def business(delivery: Delivery, as_of: date = LAST) -> Iterator[Business]:
    root = Path(tempfile.mkdtemp(prefix="overage-law-"))
    try:
        landing = Landing(root)
        landing.customer("acme", "starter", "2026-01-10")
        landing.customer("globex", "silver", "2026-01-31", trial_days=3)
        landing.request("globex", "downgrade", "2026-02-20T10:00:00Z", package="starter")
        landing.account("nobody-subscribed")
        for (day, name), rows in delivery.items():
            landing.deliver(rows, day.isoformat(), name)
        yield Business.load(root, as_of, issues=False)
    finally:
        shutil.rmtree(root)


def computed(found: Business) -> dict[str, pl.DataFrame]:
    """Every table of every month, computed as a draft."""
    ingest(found)
    bring_up_to_date(found, MONTHS[-1])
    for month in MONTHS:
        write_unbilled(found, month)
    return {table.name: every_month(found, table) for table in COMPARED}


def every_month(found: Business, table: Table) -> pl.DataFrame:
    frame = pl.concat([read_frame(found.home.partition(table, month), table) for month in MONTHS])
    return frame.drop("duplicates", strict=False)


@settings(max_examples=sized(usual=1, long=3))
@given(st.data())
def test_the_order_and_the_split_of_deliveries_move_nothing_and_lose_nothing(data: st.DataObject) -> None:
    usage = data.draw(events())
    # Hypothesis begins with one event, which tells little
    assume(len(usage) > 4)
    delivery = data.draw(deliveries(usage))
    with business({(LAST, "all.jsonl"): [one.text for one in usage]}) as one, business(delivery) as other:
        expected, found = computed(one), computed(other)
        for table in COMPARED:
            assert found[table.name].equals(expected[table.name]), table.name

        manifest = scan_frames(sorted((other.home.lake / INGEST.name).rglob("*.parquet")), INGEST).collect()
        totals = manifest.select(pl.col("rows", "counted", "duplicates", "rejected").sum()).row(0, named=True)
        assert totals["rows"] == sum(len(rows) for rows in delivery.values())
        assert totals["counted"] == len(usage), "each event once, however often it was delivered"
        assert totals["rows"] == totals["counted"] + totals["duplicates"] + totals["rejected"]

        balance = pl.concat([conserved(other, month) for month in MONTHS])
        assert (balance["counted"] == balance["closed"] + balance["open"] + balance["unbilled"]).all()
        assert balance["counted"].sum() == len(usage)


@settings(max_examples=sized(usual=1, long=2))
@given(st.data())
def test_what_is_delivered_later_changes_nothing_as_of_an_earlier_day(data: st.DataObject) -> None:
    usage = data.draw(events())
    # Hypothesis begins with one event, which tells little
    assume(len(usage) > 4)
    delivery = data.draw(deliveries(usage))
    day = FIRST + timedelta(data.draw(st.integers(10, (LAST - FIRST).days)))
    so_far = {place: rows for place, rows in delivery.items() if place[0] <= day}
    with business(so_far, day) as one, business(delivery, day) as other:
        expected, found = computed(one), computed(other)
    for table in COMPARED:
        assert found[table.name].equals(expected[table.name]), table.name


USAGE_OF_ACME = [
    event(f"event-{number}", "acme", "email.sent", {"count": 1_601}, f"2025-12-{number + 11:02d}T10:00:00Z")
    for number in range(12)
]


DELIVERIES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "at once": {"2025-12-31": USAGE_OF_ACME},
    "in reverse": {"2025-12-31": USAGE_OF_ACME[::-1]},
    "row by row": {f"2025-12-{day:02d}": USAGE_OF_ACME[day - 20 :: 12] for day in range(20, 32)},
    "late and twice": {"2025-12-25": USAGE_OF_ACME[6:], "2026-01-09": USAGE_OF_ACME[:6], "2026-01-10": USAGE_OF_ACME},
}


# the property test above has every order
TRIED = sized(("at once", "late and twice"), tuple(DELIVERIES))


def test_issued_documents_do_not_depend_on_how_usage_was_delivered(tmp_path: Path) -> None:
    issued = {}
    for name in TRIED:
        delivery = DELIVERIES[name]
        landing = Landing(tmp_path / name)
        # moved in: there is usage on the first document
        landing.customer("acme", on="2025-12-10", billed_through="2026-01-10")
        for day, rows in delivery.items():
            landing.deliver(rows, day)
        bill_by_steps(landing.root, "2026-01", "2026-01-10")
        issued[name] = show(landing.root, "documents")
    # 12 x 1,601 are 19,212 emails: 4,212 over, 5 started blocks of 3.00
    assert [row["total"] for row in issued["at once"]] == ["114.00"]
    # equal to the hash of everything that their pages show
    assert issued == dict.fromkeys(TRIED, issued["at once"])
