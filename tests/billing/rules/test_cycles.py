"""The cycles around a month, and access less pauses and suspensions, against plain sets of hours."""

import calendar
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.calendar import months_between
from billing.model.catalogue import Catalogue
from billing.model.columns import INSTANT
from billing.rules.cycles import SPAN_SCHEMA, access_spans, month_cycles

HOUR = timedelta(hours=1)
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
HOURS = [FIRST + HOUR * n for n in range(24 * 70)]
LAST = HOURS[-1] + HOUR

SUBSCRIPTION: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "account_id": pl.String,
    "subscription_id": pl.String,
    "started_on": pl.Date,
    "grid_start": pl.Date,
    "term": pl.String,
    "resumed_from": pl.String,
    "access_from": pl.Date,
    "access_last": pl.Date,
    "fees_until": pl.Date,
    "hold_fees_until": pl.Date,
    "paid_until": pl.Date,
    "held_on": pl.Date,
    "ended_on": pl.Date,
    "end": pl.String,
    "last_billing_date": pl.Date,
    "pauses": pl.List(pl.Struct({"first": pl.Date, "until": pl.Date})),
    "first_billing_date": pl.Date,
    "measured_from": pl.Date,
}
Suspension = tuple[datetime, datetime | None]


def subscription(start: date = date(2026, 3, 10), **values: object) -> pl.DataFrame:
    """A live monthly subscription of acme; the values given replace its own."""
    identity = {"account_id": "acme", "subscription_id": f"acme/{start}", "term": "monthly", "pauses": []}
    row = {**identity, "started_on": start, "grid_start": start, "access_from": start, **values}
    return pl.DataFrame([row], schema=SUBSCRIPTION).with_columns(pl.coalesce("first_billing_date", "grid_start"))


def suspensions(periods: Sequence[Suspension] = (), account_id: str = "acme") -> pl.DataFrame:
    return pl.DataFrame(
        [(account_id, since, until) for since, until in periods],
        schema={"account_id": pl.String, "suspended_from": INSTANT, "suspended_until": INSTANT},
        orient="row",
    )


def hours_in(spans: pl.DataFrame) -> list[datetime]:
    """Every hour that the spans cover, in their order; an hour that two of them cover stands there twice."""
    found = []
    for start, end in (
        spans.with_columns(pl.col("span_start", "span_end").dt.cast_time_unit("us"))
        .select("span_start", "span_end")
        .iter_rows()
    ):
        hour = start
        while hour < min(end or LAST, LAST):
            found.append(hour)
            hour += HOUR
    return found


# --- access -----------------------------------------------------------------------------------------------------------


@st.composite
def interrupted_lives(
    draw: st.DrawFn,
) -> tuple[date, date | None, list[tuple[date, date]], list[Suspension]]:
    """First and last day of access, holds that were undone, and suspensions that may overlap each other and them."""
    first = date(2026, 3, draw(st.integers(2, 28)))
    last = draw(st.one_of(st.none(), st.integers(0, 40).map(lambda n: first + timedelta(days=n))))
    days = sorted(draw(st.lists(st.integers(0, 45), max_size=6)))
    pauses = [
        (first + timedelta(days=a), first + timedelta(days=b)) for a, b in zip(days[::2], days[1::2], strict=False)
    ]
    hours = st.integers(0, len(HOURS) - 1)
    periods = [
        (HOURS[since], None if length > 400 else HOURS[since] + HOUR * length)
        for since, length in draw(st.lists(st.tuples(hours, st.integers(0, 420)), max_size=6))
    ]
    return first, last, pauses, periods


@settings(max_examples=150)
@given(life=interrupted_lives(), zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]))
def test_access_is_every_hour_of_its_days_that_no_pause_and_no_suspension_covers(
    ref_1_in: Callable[[str], Catalogue],
    life: tuple[date, date | None, list[tuple[date, date]], list[Suspension]],
    zone: str,
) -> None:
    first, last, pauses, periods = life
    lives = subscription(first, access_last=last, pauses=[{"first": since, "until": until} for since, until in pauses])
    spans = access_spans(lives, suspensions(periods), ref_1_in(zone))
    local = ZoneInfo(zone)

    def has_access(hour: datetime) -> bool:
        day = hour.astimezone(local).date()
        return (
            first <= day
            and (last is None or day <= last)
            and not any(since <= day < until for since, until in pauses)
            and not any(since <= hour and (until is None or hour < until) for since, until in periods)
        )

    assert hours_in(spans) == [hour for hour in HOURS if has_access(hour)]
    assert spans.schema == pl.Schema(SPAN_SCHEMA)
    # spans that touch or are empty would be counted as interruptions
    assert spans.filter(pl.col("span_start") >= pl.col("span_end")).is_empty()


@settings(max_examples=60)
@given(life=interrupted_lives(), month=st.sampled_from(["2026-03", "2026-04", "2026-05"]))
def test_the_spans_of_a_month_are_the_access_within_the_cycle_that_closes(
    ref_1_in: Callable[[str], Catalogue],
    life: tuple[date, date | None, list[tuple[date, date]], list[Suspension]],
    month: str,
) -> None:
    first, last, pauses, periods = life
    catalogue = ref_1_in("Europe/Berlin")
    lives = subscription(first, access_last=last, pauses=[{"first": since, "until": until} for since, until in pauses])
    found = month_cycles(month, lives, suspensions(periods), catalogue)
    (row,) = found.cycles.iter_rows(named=True)
    if row["cycle_start"] is None:
        assert found.spans.is_empty()
        assert row["billing_index"] == 0
        return
    local = ZoneInfo("Europe/Berlin")
    whole = hours_in(access_spans(lives, suspensions(periods), catalogue))
    assert hours_in(found.spans) == [
        hour for hour in whole if row["cycle_start"] <= hour.astimezone(local).date() < row["cycle_end"]
    ]
    assert row["access_start"] == found.spans["span_start"].min()
    assert row["access_end"] == found.spans["span_end"].max()


def test_a_suspension_of_one_account_leaves_the_others_alone(ref_1: Catalogue) -> None:
    other = suspensions([(FIRST, None)], account_id="globex")
    (span,) = access_spans(subscription(), other, ref_1).select("span_start", "span_end").rows()
    assert span == (datetime(2026, 3, 10, tzinfo=UTC), None)


def test_a_trial_gives_no_billable_access(ref_1: Catalogue) -> None:
    trial = subscription(grid_start=date(2026, 3, 24))
    assert access_spans(trial, suspensions(), ref_1)["span_start"].to_list() == [datetime(2026, 3, 24, tzinfo=UTC)]
    ended = subscription(grid_start=date(2026, 3, 24), access_last=date(2026, 3, 20))
    assert access_spans(ended, suspensions(), ref_1).is_empty()


# --- the dates of a month ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anchor", range(1, 32))
def test_a_subscription_has_one_billing_date_in_each_month_and_its_cycles_leave_no_gap(
    ref_1: Catalogue, anchor: int
) -> None:
    start = date(2027, 12, anchor)
    ended = following = start
    for k, month in enumerate(months_between("2027-12", "2028-05")):
        (row,) = month_cycles(month, subscription(start), suspensions(), ref_1).cycles.iter_rows(named=True)
        year, number = int(month[:4]), int(month[5:])
        expected = date(year, number, min(anchor, calendar.monthrange(year, number)[1]))
        assert (row["billing_index"], row["billing_date"], row["billing_month"]) == (k, expected, month)
        assert (row["cycle_start"], row["cycle_end"]) == ((None, None) if k == 0 else (ended, expected))
        assert following == expected
        ended, following = expected, row["next_billing_date"]


def test_a_month_before_the_start_and_after_the_last_billing_date_has_no_cycle(ref_1: Catalogue) -> None:
    lives = subscription(last_billing_date=date(2026, 5, 10))
    heights = [
        month_cycles(month, lives, suspensions(), ref_1).cycles["is_last"].to_list()
        for month in months_between("2026-02", "2026-06")
    ]
    assert heights == [[], [False], [False], [True], []]


def test_billed_on_the_first_the_first_cycle_is_short_and_its_fee_in_proportion(
    ref_1_with: Callable[..., Catalogue],
) -> None:
    prorated = ref_1_with(billing_anchor="first_of_month")
    first, second = (
        month_cycles(month, subscription(), suspensions(), prorated).cycles.row(0, named=True)
        for month in ("2026-03", "2026-04")
    )
    # 10 to 31 March: 22 of 31 days
    assert (first["fee_share_numerator"], first["fee_share_denominator"]) == (22, 31)
    assert (first["billing_date"], first["next_billing_date"]) == (date(2026, 3, 10), date(2026, 4, 1))
    assert (second["fee_share_numerator"], second["fee_share_denominator"]) == (1, 1)
    assert (second["cycle_start"], second["cycle_end"]) == (date(2026, 3, 10), date(2026, 4, 1))
    full = ref_1_with(billing_anchor="first_of_month", first_cycle="full")
    whole = month_cycles("2026-03", subscription(), suspensions(), full).cycles.row(0, named=True)
    assert (whole["fee_share_numerator"], whole["fee_share_denominator"]) == (1, 1)
    on_the_first = subscription(date(2026, 3, 1))
    resumed = subscription(resumed_from="acme/2025-12-01")
    in_full = month_cycles("2026-03", resumed, suspensions(), prorated).cycles.row(0, named=True)
    # rule 13: who resumes pays the full fee
    assert (in_full["fee_share_numerator"], in_full["fee_share_denominator"]) == (1, 1)
    whole_month = month_cycles("2026-03", on_the_first, suspensions(), prorated).cycles.row(0, named=True)
    assert whole_month["fee_share_numerator"] == whole_month["fee_share_denominator"]


def test_a_yearly_fee_falls_due_once_in_twelve_months(ref_1: Catalogue) -> None:
    yearly = subscription(term="yearly")
    reasons = [
        month_cycles(month, yearly, suspensions(), ref_1).cycles["fee_reason"].item()
        for month in months_between("2026-03", "2027-04")
    ]
    assert reasons == ["due", *["term"] * 11, "due", "term"]


@pytest.mark.parametrize(
    ("month", "term_end", "following_term"),
    [
        ("2026-03", date(2026, 3, 10), date(2027, 3, 10)),  # the purchase opens the first term
        ("2026-04", date(2027, 3, 10), date(2027, 3, 10)),
        ("2027-02", date(2027, 3, 10), date(2027, 3, 10)),
        ("2027-03", date(2027, 3, 10), date(2028, 3, 10)),  # billing date 12 ends one term and opens the next
        ("2027-04", date(2028, 3, 10), date(2028, 3, 10)),
        ("2028-03", date(2028, 3, 10), date(2029, 3, 10)),
    ],
)
def test_a_yearly_term_ends_on_every_twelfth_billing_date(
    ref_1: Catalogue, month: str, term_end: date, following_term: date
) -> None:
    cycle = month_cycles(month, subscription(term="yearly"), suspensions(), ref_1).cycles
    assert cycle.select("term_end", "following_term").row(0) == (term_end, following_term)


def test_the_term_of_a_monthly_subscription_is_its_cycle(ref_1: Catalogue) -> None:
    # bought on the 31st: April has none, and May returns to it
    cycle = month_cycles("2026-04", subscription(date(2026, 3, 31)), suspensions(), ref_1).cycles
    assert cycle.select("term_end", "following_term").row(0) == (date(2026, 4, 30), date(2026, 5, 31))


@pytest.mark.parametrize(
    ("since", "until", "reason", "status"),
    [
        (datetime(2026, 4, 9, 12, tzinfo=UTC), None, "suspended", "suspended"),
        (datetime(2026, 4, 10, tzinfo=UTC), datetime(2026, 4, 10, 1, tzinfo=UTC), "suspended", "suspended"),
        (datetime(2026, 4, 9, 12, tzinfo=UTC), datetime(2026, 4, 10, tzinfo=UTC), "due", "active"),
        (datetime(2026, 4, 10, 0, 0, 1, tzinfo=UTC), None, "due", "active"),
    ],
)
def test_a_billing_date_within_a_suspension_charges_no_fee(
    ref_1: Catalogue,
    ref_1_with: Callable[..., Catalogue],
    since: datetime,
    until: datetime | None,
    reason: str,
    status: str,
) -> None:
    periods = suspensions([(since, until), (FIRST, FIRST + HOUR)])
    row = month_cycles("2026-04", subscription(), periods, ref_1).cycles.row(0, named=True)
    assert (row["fee_reason"], row["status"]) == (reason, status)
    assert row["fee_share_numerator"] == (1 if reason == "due" else 0)
    charging = ref_1_with(charge_while_suspended=True)
    assert month_cycles("2026-04", subscription(), periods, charging).cycles["fee_reason"].item() == "due"
