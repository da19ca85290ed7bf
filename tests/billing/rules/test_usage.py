"""Usage against a plain-Python reading of every event, one account and metric at a time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.catalogue import Catalogue, Metric
from billing.model.columns import INSTANT
from billing.model.tables import CYCLES, EVENTS, LEVELS
from billing.rules.measurement import EXTREME_QUANTITY
from billing.rules.usage import UsageInputs, month_levels, month_usage, month_usage_with_more

CYCLE_START, CYCLE_END = date(2026, 3, 10), date(2026, 4, 10)
START, END = datetime(2026, 3, 10, tzinfo=UTC), datetime(2026, 4, 10, tzinfo=UTC)
MONTH_BEFORE = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ACCOUNTS = pl.Series(["acme", "beta"])
COUNTERS: tuple[Literal["sum", "count", "unique", "max"], ...] = ("sum", "count", "unique", "max")
GAUGES: tuple[Literal["peak", "last", "time_weighted"], ...] = ("peak", "last", "time_weighted")
CARRIES: tuple[Literal["delta", "level"], ...] = ("delta", "level")
METRICS = (
    *(Metric(m, m, "counter", m, ("value",), None, "GB", Decimal(10**9), m) for m in COUNTERS),
    *(
        Metric(f"{carries}_{m}", f"{carries}.{m}", "gauge", m, ("value",), carries, None, Decimal(1), m)
        for m in GAUGES
        for carries in CARRIES
    ),
)


@dataclass(frozen=True)
class Event:
    metric: str
    time: datetime
    value: Decimal | None = None
    member: str | None = None
    source: str = "a"
    id: str = "1"
    repeats: int = 0
    account_id: str = "acme"


def event_parts(events: Sequence[Event]) -> list[pl.LazyFrame]:
    """The events in two parts: whatever belongs together may stand in either."""
    return [events_frame(events[::2]), events_frame(events[1::2])]


def events_frame(events: Sequence[Event]) -> pl.LazyFrame:
    return pl.DataFrame([vars(event) for event in events], schema=EVENTS.schema).lazy()


def repeated_frame(events: Sequence[Event]) -> pl.LazyFrame:
    schema = {name: EVENTS.schema[name] for name in ("account_id", "metric", "time")} | {"repeats": pl.Int64}
    return pl.DataFrame([vars(event) for event in events if event.repeats], schema=schema).lazy()


def levels_frame(opening: dict[str, Decimal]) -> pl.DataFrame:
    """The levels at the first instant of the month before, in base units."""
    return LEVELS.conform(
        pl.DataFrame(
            [("acme", "2026-04", metric, level, None) for metric, level in opening.items()],
            schema=["account_id", "billing_month", "metric", "opening_level", "closing_level"],
            orient="row",
        )
        if opening
        else LEVELS.empty()
    )


def spans_frame(spans: Sequence[tuple[datetime, datetime]]) -> pl.DataFrame:
    instants = ("cycle_start_instant", "cycle_end_instant", "span_start", "span_end")
    return pl.DataFrame(
        [("acme", "acme/s", CYCLE_START, CYCLE_END, START, END, since, until) for since, until in sorted(spans)],
        schema={
            "account_id": pl.String,
            "subscription_id": pl.String,
            "cycle_start": pl.Date,
            "cycle_end": pl.Date,
            **dict.fromkeys(instants, INSTANT),
        },
        orient="row",
    )


def cycles_frame() -> pl.DataFrame:
    row = {"account_id": "acme", "subscription_id": "acme/s", "cycle_start": CYCLE_START, "cycle_end": CYCLE_END}
    return pl.DataFrame([row], schema=CYCLES.schema)


def measured_from(frames: Sequence[pl.DataFrame], events: Sequence[Event], catalogue: Catalogue) -> UsageInputs:
    """The inputs of April: spans, cycles and levels, and events."""
    spans, cycles, levels = frames
    return UsageInputs(
        month="2026-04",
        spans=spans,
        cycles=cycles,
        levels=levels,
        events=event_parts(events),
        repeated=repeated_frame(events),
        accounts=ACCOUNTS,
        catalogue=catalogue,
    )


def usage(
    catalogue: Catalogue,
    events: Sequence[Event],
    spans: Sequence[tuple[datetime, datetime]] = ((START, END),),
    opening: dict[str, Decimal] | None = None,
) -> dict[str, dict[str, object]]:
    """The rows of the usage table by metric."""
    frames = spans_frame(spans), cycles_frame(), levels_frame(opening or {})
    found = month_usage(measured_from(frames, events, catalogue))
    return {row["metric"]: row for row in found.iter_rows(named=True)}


@pytest.fixture(scope="module")
def measuring(ref_1: Catalogue) -> Catalogue:
    """Every measure of a counter, and every measure of gauges that carry deltas and levels."""
    return replace(ref_1, metrics=METRICS, packages=(), agreements=())


# --- the oracle -------------------------------------------------------------------------------------------------------


def half_up(value: Fraction) -> Fraction:
    return Fraction(math.floor(value * 10**9 + Fraction(1, 2)), 10**9)


def level_at(events: Sequence[Event], metric: Metric, opening: Decimal, until: datetime, *, included: bool) -> Decimal:
    """The level of a gauge just before an instant, or with all that happens at it."""
    level = opening
    for event in sorted(events, key=lambda event: (event.time, event.source, event.id)):
        if event.metric == metric.name and (event.time < until or (included and event.time == until)):
            assert event.value is not None
            level = level + event.value if metric.carries == "delta" else event.value
    return level


def expected(
    events: Sequence[Event], metric: Metric, spans: Sequence[tuple[datetime, datetime]], opening: Decimal
) -> dict[str, object]:
    inside = [
        event
        for event in events
        if event.metric == metric.name and any(since <= event.time < until for since, until in spans)
    ]
    values = [event.value or Decimal(0) for event in inside]
    facts: dict[str, object] = {
        "events": len(inside),
        "duplicates": sum(event.repeats for event in inside),
        "event_sum": sum(values, Decimal(0)),
    }
    if metric.kind == "counter":
        quantity: Fraction = {
            "sum": Fraction(sum(values, Decimal(0))),
            "count": Fraction(len(inside)),
            "unique": Fraction(len({event.member for event in inside})),
            "max": Fraction(max(values, default=Decimal(0))),
        }[metric.measure]
        return facts | {"base_quantity": quantity, "closing_level": None}
    path: list[tuple[datetime, datetime, Decimal]] = []
    for since, until in sorted(spans):
        path.append((since, since, level_at(events, metric, opening, since, included=False)))
        changes = sorted({event.time for event in inside if since <= event.time < until} | {since})
        for change, following in zip(changes, [*changes[1:], until], strict=True):
            path.append((change, following, level_at(events, metric, opening, change, included=True)))
    seen = [level for _, _, level in path]
    area = sum(
        (
            Fraction(max(level, Decimal(0))) * Fraction((until - since) // timedelta(microseconds=1))
            for since, until, level in path
        ),
        Fraction(0),
    )
    quantity = {
        "peak": Fraction(max([*seen, Decimal(0)])),
        "last": Fraction(max(seen[-1], Decimal(0))) if seen else Fraction(0),
        "time_weighted": half_up(area / ((END - START) // timedelta(microseconds=1))),
    }[metric.measure]
    lowest = min([*seen, Decimal(0)])
    return facts | {
        "base_quantity": quantity,
        "closing_level": seen[-1] if seen else None,
        "lowest_level": lowest if lowest < 0 else None,
    }


# --- laws -------------------------------------------------------------------------------------------------------------


BOUNDARIES = [
    MONTH_BEFORE,
    START - HOUR,
    START - timedelta(microseconds=1),
    START,
    START + timedelta(microseconds=1),
    START + HOUR * 24 * 7,
    START + HOUR * 24 * 14,
    START + timedelta(days=19, seconds=13, microseconds=123457),  # after a change of the clocks, in odd fractions
    END - timedelta(microseconds=1),
    END,
    END + HOUR,
]


@st.composite
def businesses(
    draw: st.DrawFn,
) -> tuple[list[Event], list[tuple[datetime, datetime]], dict[str, Decimal]]:
    """Events at and around every boundary, access with gaps, and levels carried in."""
    instants = st.one_of(
        st.sampled_from(BOUNDARIES), st.integers(0, 24 * 41).map(lambda hour: MONTH_BEFORE + HOUR * hour)
    )
    events = []
    for number in range(draw(st.integers(0, 24))):
        metric = draw(st.sampled_from(METRICS))
        least = 0 if metric.kind == "counter" or metric.carries == "level" else -(10**4)
        value = Decimal(draw(st.integers(least, 10**4))) / draw(st.sampled_from([1, 1, 8, 10**9]))
        if draw(st.integers(0, 20)) == 0:
            value *= 10**9
        events.append(
            Event(
                metric=metric.name,
                time=draw(instants),
                value=None if metric.measure in ("count", "unique") else value,
                member=draw(st.sampled_from(["x", "y", "z"])) if metric.measure == "unique" else None,
                source=draw(st.sampled_from(["a", "b"])),
                id=f"{number:02d}",
                repeats=draw(st.sampled_from([0, 0, 2])),
            )
        )
    cuts = sorted(
        draw(st.lists(st.sampled_from([t for t in BOUNDARIES if START <= t <= END]), max_size=6, unique=True))
    )
    spans = list(zip(cuts[::2], cuts[1::2], strict=False)) if draw(st.integers(0, 3)) else [(START, END)]
    gauges = [metric.name for metric in METRICS if metric.kind == "gauge"]
    carried = draw(st.lists(st.sampled_from(gauges), max_size=4, unique=True))
    return events, spans, {metric: Decimal(draw(st.integers(-50, 5000))) for metric in carried}


@settings(max_examples=120)
@given(business=businesses())
def test_every_measure_is_what_reading_the_events_one_by_one_gives(
    measuring: Catalogue,
    business: tuple[list[Event], list[tuple[datetime, datetime]], dict[str, Decimal]],
) -> None:
    events, spans, opening = business
    found = usage(measuring, events, spans, opening)
    assert sorted(found) == sorted(metric.name for metric in METRICS)
    for metric in METRICS:
        facts = expected(events, metric, spans, opening.get(metric.name, Decimal(0)))
        row = found[metric.name]
        assert {name: row[name] for name in facts} == facts, metric
        quantity = row["quantity"]
        assert isinstance(quantity, Decimal)
        assert Fraction(quantity) * Fraction(metric.unit_size) == facts["base_quantity"]


@settings(max_examples=40)
@given(business=businesses(), data=st.data())
def test_the_order_in_which_events_arrive_does_not_matter(
    measuring: Catalogue,
    business: tuple[list[Event], list[tuple[datetime, datetime]], dict[str, Decimal]],
    data: st.DataObject,
) -> None:
    events, spans, opening = business
    shuffled = data.draw(st.permutations(events))
    assert usage(measuring, events, spans, opening) == usage(measuring, shuffled, spans, opening)


@settings(max_examples=80)
@given(business=businesses(), data=st.data())
def test_what_comes_later_is_added_to_what_was_measured_before(
    measuring: Catalogue,
    business: tuple[list[Event], list[tuple[datetime, datetime]], dict[str, Decimal]],
    data: st.DataObject,
) -> None:
    events, spans, opening = business
    events = [replace(event, account_id=data.draw(st.sampled_from(["acme", "beta"]))) for event in events]
    is_late = [data.draw(st.booleans()) for _ in events]
    early = [event for event, late in zip(events, is_late, strict=True) if not late]
    added = [event for event, late in zip(events, is_late, strict=True) if late]
    both = [("acme", "acme/s"), ("beta", "beta/s")]

    def of_both(frame: pl.DataFrame) -> pl.DataFrame:
        return pl.concat(
            frame.with_columns(account_id=pl.lit(account), subscription_id=pl.lit(subscription))
            if "subscription_id" in frame.columns
            else frame.with_columns(account_id=pl.lit(account))
            for account, subscription in both
        )

    frames = of_both(spans_frame(spans)), of_both(cycles_frame()), of_both(levels_frame(opening))
    before = month_usage(measured_from(frames, early, measuring))
    inputs = measured_from(frames, events, measuring)
    assert month_usage_with_more(inputs, before=before, added=events_frame(added)).equals(month_usage(inputs))


def test_accounts_whose_hashes_are_the_same_stay_apart(measuring: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [metric.name for metric in METRICS]
    events = [
        Event(name, START + HOUR * turn, Decimal(value), "m", id=str(turn), account_id=account)
        for name in names
        for account, turn, value in (("acme", 1, 3), ("beta", 2, 50))
    ]
    both = [("acme", "acme/s"), ("beta", "beta/s")]
    spans, cycles = [
        pl.concat(frame.with_columns(account_id=pl.lit(a), subscription_id=pl.lit(s)) for a, s in both)
        for frame in (spans_frame([(START, END)]), cycles_frame())
    ]

    def used() -> pl.DataFrame:
        return month_usage(measured_from((spans, cycles, levels_frame({})), events, measuring))

    expected = used()
    proper = pl.Expr.hash
    # "acme" and "beta" have the same length
    monkeypatch.setattr(
        pl.Expr, "hash", lambda self, seed=0: self.str.len_bytes().cast(pl.UInt64) if seed < 2 else proper(self, seed)
    )
    assert used().equals(expected)
    assert set(expected.filter(pl.col("metric") == "sum")["base_quantity"]) == {3, 50}


@settings(max_examples=40)
@given(business=businesses())
def test_levels_carried_from_month_to_month_are_those_of_reading_everything_again(
    measuring: Catalogue,
    business: tuple[list[Event], list[tuple[datetime, datetime]], dict[str, Decimal]],
) -> None:
    events, _, _ = business

    def within(month: str) -> pl.LazyFrame:
        return events_frame([event for event in events if f"{event.time:%Y-%m}" == month])

    nothing = events_frame([])
    march = month_levels("2026-03", None, nothing, nothing, measuring)
    april = month_levels("2026-04", march, within("2026-03"), nothing, measuring)
    may = month_levels("2026-05", april, within("2026-04"), nothing, measuring)
    again = month_levels("2026-05", None, within("2026-04"), within("2026-03"), measuring)
    key = ["account_id", "metric"]
    # a level that never was has no row
    assert may.sort(key).equals(again.sort(key))
    found = dict(may.select("metric", "closing_level").iter_rows())
    opened = dict(may.select("metric", "opening_level").iter_rows())
    for metric in METRICS:
        if metric.kind == "gauge":
            zero = Decimal(0)
            end = datetime(2026, 5, 1, tzinfo=UTC)
            assert found.get(metric.name, zero) == level_at(events, metric, zero, end, included=False)
            start = datetime(2026, 4, 1, tzinfo=UTC)
            assert opened.get(metric.name, zero) == level_at(events, metric, zero, start, included=False)


# --- single cases -----------------------------------------------------------------------------------------------------


def delta(time: datetime, value: int, metric: str = "delta_peak", id: str = "1") -> Event:
    return Event(metric, time, Decimal(value), id=id)


def test_the_level_carried_into_a_cycle_counts_for_its_peak(measuring: Catalogue) -> None:
    found = usage(measuring, [delta(START, -40)], opening={"delta_peak": Decimal(100)})
    assert (found["delta_peak"]["quantity"], found["delta_peak"]["closing_level"]) == (100, 60)


def test_all_deltas_of_one_instant_apply_together(measuring: Catalogue) -> None:
    noon = START + HOUR * 12
    found = usage(measuring, [delta(noon, 500, id="1"), delta(noon, -500, id="2"), delta(noon, 3, id="3")])
    assert found["delta_peak"]["quantity"] == 3


def test_of_several_levels_at_one_instant_the_last_by_source_and_id_holds(measuring: Catalogue) -> None:
    noon = START + HOUR * 12
    events = [
        Event("level_peak", noon, Decimal(70), source="b", id="1"),
        Event("level_peak", noon, Decimal(90), source="a", id="9"),
    ]
    found = usage(measuring, events)
    assert found["level_peak"]["quantity"] == 70


def test_a_level_below_zero_is_kept_and_counts_as_nothing(measuring: Catalogue) -> None:
    events = [delta(START + HOUR, -5, m) for m in ("delta_peak", "delta_last", "delta_time_weighted")]
    for metric in ("delta_peak", "delta_last", "delta_time_weighted"):
        row = usage(measuring, events)[metric]
        assert (row["quantity"], row["closing_level"], row["lowest_level"]) == (0, -5, -5)


def test_a_level_of_half_the_cycle_weighs_half(measuring: Catalogue) -> None:
    middle = START + (END - START) / 2
    found = usage(measuring, [delta(middle, 10, "delta_time_weighted")])
    assert found["delta_time_weighted"]["quantity"] == 5


@pytest.mark.parametrize("late", [3, 8])
def test_a_late_event_moves_each_measure_as_if_it_had_been_there(measuring: Catalogue, late: int) -> None:
    def of_all(value: int, hours: int, member: str, id: str) -> list[Event]:
        return [
            Event(
                metric=metric.name,
                time=START + HOUR * hours,
                value=None if metric.measure in ("count", "unique") else Decimal(value),
                member=member if metric.measure == "unique" else None,
                id=id,
            )
            for metric in METRICS
        ]

    early = [*of_all(5, 2, "x", "1"), *of_all(2, 9, "y", "2")]
    added = of_all(late, 4, "y", "3")
    frames = spans_frame([(START, END)]), cycles_frame(), levels_frame({})
    before = month_usage(measured_from(frames, early, measuring))
    inputs = measured_from(frames, [*early, *added], measuring)
    found = month_usage_with_more(inputs, before=before, added=events_frame(added))
    assert found.equals(month_usage(inputs))
    quantities = dict(found.select("metric", pl.col("base_quantity").cast(pl.Int64)).iter_rows())
    assert {name: quantities[name] for name in (*COUNTERS, "delta_peak", "level_peak", "delta_last")} == {
        "sum": 7 + late,
        "count": 3,
        "unique": 2,
        "max": max(5, late),
        "delta_peak": 7 + late,
        "level_peak": max(5, late),
        "delta_last": 7 + late,
    }


def test_what_happens_while_there_is_no_access_moves_levels_and_counts_nothing(measuring: Catalogue) -> None:
    gap = START + HOUR * 24 * 10
    spans = [(START, gap), (gap + HOUR, END)]
    events = [
        delta(gap, 1000, id="1"),
        delta(gap + timedelta(minutes=30), -990, id="2"),
        Event("sum", gap, Decimal(7)),
        Event("sum", gap + HOUR, Decimal(1)),
    ]
    found = usage(measuring, events, spans)
    assert (found["delta_peak"]["quantity"], found["delta_peak"]["events"]) == (10, 0)
    assert (found["sum"]["base_quantity"], found["sum"]["events"]) == (1, 1)


def test_a_cycle_without_access_measures_nothing_though_levels_stand(measuring: Catalogue) -> None:
    found = usage(measuring, [], spans=[], opening={"delta_peak": Decimal(100), "delta_time_weighted": Decimal(9)})
    assert {row["quantity"] for row in found.values()} == {Decimal(0)}
    assert {row["closing_level"] for row in found.values()} == {None}


def test_an_account_without_events_has_a_row_for_every_metric(measuring: Catalogue) -> None:
    found = usage(measuring, [])
    assert {(row["quantity"], row["events"], row["duplicates"]) for row in found.values()} == {(Decimal(0), 0, 0)}
    assert len(found) == len(METRICS)


@pytest.mark.parametrize(
    ("zone", "start", "end"),
    [
        ("Europe/Berlin", datetime(2026, 3, 9, 23, tzinfo=UTC), datetime(2026, 4, 9, 22, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 10, 10, 4, tzinfo=UTC), datetime(2026, 11, 10, 5, tzinfo=UTC)),
    ],
)
def test_a_level_that_never_moves_weighs_what_it_is_also_where_the_clocks_change(
    ref_1_in: Callable[[str], Catalogue], zone: str, start: datetime, end: datetime
) -> None:
    catalogue = replace(ref_1_in(zone), metrics=METRICS)
    spans = spans_frame([(start, end)]).with_columns(
        cycle_start_instant=pl.col("span_start"), cycle_end_instant=pl.col("span_end")
    )
    levels = levels_frame({"delta_time_weighted": Decimal(7)})
    found = month_usage(measured_from((spans, cycles_frame(), levels), [], catalogue))
    assert found.filter(pl.col("metric") == "delta_time_weighted")["quantity"].item() == 7


def test_a_quantity_beyond_all_measure_is_left_open_instead_of_stopping_everyone(measuring: Catalogue) -> None:
    (extreme,) = pl.select(EXTREME_QUANTITY).to_series()
    many = [Event("sum", START + HOUR, Decimal(10**17), id=f"{number:04d}") for number in range(1000)]
    row = usage(measuring, many)["sum"]
    assert row["base_quantity"] == extreme
    assert row["quantity"] is None


def test_base_quantities_keep_nine_decimals(measuring: Catalogue) -> None:
    tiny = Decimal("0.000000001")
    found = usage(measuring, [Event("sum", START, Decimal(10**17), id="1"), Event("sum", START, tiny, id="2")])
    assert found["sum"]["base_quantity"] == Decimal("100000000000000000.000000001")
