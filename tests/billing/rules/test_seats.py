"""Seats against a plain reading of rule 35: what stands at a billing date, and what rises in the cycle before it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from billing.model.catalogue import Catalogue, Metric, Seats, Tariff, Tier
from billing.model.columns import BASE_QUANTITY, INSTANT
from billing.model.tables import CYCLES, EVENTS, LEVELS
from billing.rules.seats import SeatLevels, seat_dues, seat_levels, seat_rises, seats_out_of_range
from billing.rules.terms import terms_frames
from tests.life_story.oracle_facts import half_up, tiered

START, END, NEXT = date(2026, 3, 10), date(2026, 4, 10), date(2026, 5, 10)
USERS = Metric(
    *("users", "users.changed", "gauge", "peak", ("data", "level"), "level", None, Decimal(1), "Users"),
    charged="in_advance",
)
GRADUATED = (Tier(Decimal(2), Decimal("12.00"), Decimal(0)), Tier(None, Decimal("10.00"), Decimal("1.50")))
VOLUME = (Tier(Decimal(3), Decimal("6.00"), Decimal(1)), Tier(None, Decimal("5.10"), Decimal(0)))
PRICES = {
    "price": Seats("users", Decimal(5), Decimal("12.00")),
    "graduated": Seats("users", Decimal(1), tariff=Tariff("graduated", tiers=GRADUATED)),
    "volume": Seats("users", Decimal(0), tariff=Tariff("volume", tiers=VOLUME)),
}
KEYS = {"account_id": pl.String, "subscription_id": pl.String, "billing_date": pl.Date, "metric": pl.String}
SUBSCRIPTION = "acme/2026-01-10"


def selling(ref_1: Catalogue, seats: Seats, minor_units: int = 2, **policy: object) -> Catalogue:
    """REF-1 with seats in starter, at half the price in silver, and none in the others."""
    half = replace(seats, price=None if seats.price is None else seats.price / 2)
    own: dict[str, tuple[Seats, ...]] = {"starter": (seats,), "silver": (half,)}
    packages = [
        replace(
            package,
            versions=tuple(
                replace(version, seats=own.get(package.name, ()), allowances={**version.allowances, "users": None})
                for version in package.versions
            ),
        )
        for package in ref_1.packages
    ]
    return replace(
        ref_1,
        metrics=(USERS, *ref_1.metrics),
        packages=tuple(packages),
        minor_units=minor_units,
        policy=replace(ref_1.policy, **policy),  # type: ignore[arg-type] # the tests name policies freely
    )


def dated(**others: object) -> pl.DataFrame:
    """The billing date of 10 April 2026 of a monthly subscription, with its packages."""
    row = {
        "account_id": "acme",
        "subscription_id": SUBSCRIPTION,
        "billing_date": END,
        "billing_index": 3,
        "term": "monthly",
        "cycle_start": START,
        "cycle_end": END,
        "next_billing_date": NEXT,
        "fee_share_numerator": 1,
        "fee_share_denominator": 1,
        "fee_reason": "due",
        "status": "active",
        "is_last": False,
        "opening_package": "starter",
        "closing_package": "starter",
        "is_resumed": False,
    }
    schema = {name: CYCLES.schema[name] for name in row if name in CYCLES.schema}
    schema |= {"opening_package": pl.String(), "closing_package": pl.String(), "is_resumed": pl.Boolean()}
    return pl.DataFrame([row | others], schema=schema)


def levels_of(
    at: int | None, by_day: Sequence[tuple[date | None, int]] = (), fraction: Decimal = Decimal(0)
) -> SeatLevels:
    """What stands on 10 April, and the highest level by day in the cycle before; no day is its first instant."""
    standing = [] if at is None else [("acme", SUBSCRIPTION, END, "users", Decimal(at) + fraction)]
    rising = [("acme", SUBSCRIPTION, END, "users", day, Decimal(level) + fraction) for day, level in by_day]
    return SeatLevels(
        pl.DataFrame(standing, schema={**KEYS, "level": BASE_QUANTITY}, orient="row"),
        pl.DataFrame(rising, schema={**KEYS, "day": pl.Date, "level": BASE_QUANTITY}, orient="row"),
    )


def due(catalogue: Catalogue, levels: SeatLevels, **others: object) -> pl.DataFrame:
    found = seat_dues(dated(**others), levels, terms_frames(catalogue), catalogue)
    return found if "kind" in found.columns else pl.DataFrame(schema={"kind": pl.String, "amount": pl.Decimal(38, 4)})


def amounts(found: pl.DataFrame) -> list[tuple[str, Decimal]]:
    return [(kind, amount.normalize()) for kind, amount in found.select("kind", "amount").iter_rows()]


def cost(seats: Seats, level: int) -> Fraction:
    excess = max(Fraction(level) - Fraction(seats.included), Fraction(0))
    if not excess:
        return Fraction(0)
    if seats.tariff is None:
        return excess * Fraction(seats.price or 0)
    tiers = [
        {"up_to": tier.up_to, "unit_price": str(tier.unit_price), "flat": str(tier.flat)} for tier in seats.tariff.tiers
    ]
    return tiered(seats.tariff.model, tiers, excess)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(PRICES)),
    at=st.integers(0, 12),
    opening=st.none() | st.integers(0, 9),
    days=st.dictionaries(st.integers(0, 30), st.integers(0, 12), max_size=4),
    minor=st.sampled_from([0, 2, 3]),
)
@example(name="price", at=10, opening=8, days={10: 10}, minor=2)
@example(name="graduated", at=3, opening=1, days={3: 2, 20: 1, 25: 4}, minor=2)
def test_what_stands_and_what_rises_is_charged(
    ref_1: Catalogue, name: str, at: int, opening: int | None, days: dict[int, int], minor: int
) -> None:
    seats = PRICES[name]
    smallest = Decimal(1).scaleb(-minor)
    by_day = [(START + timedelta(day), level) for day, level in sorted(days.items())]
    given_levels: list[tuple[date | None, int]] = [*([] if opening is None else [(None, opening)]), *by_day]
    found = due(selling(ref_1, seats, minor), levels_of(at, given_levels[::-1]))
    highest, more = opening or 0, Fraction(0)
    for day, level in by_day:
        if level > highest:
            more += (cost(seats, level) - cost(seats, highest)) * (END - day).days / 31
            highest = level
    expected = [("seats", half_up(cost(seats, at), smallest)), ("proration", half_up(more, smallest))]
    assert amounts(found) == [(kind, amount.normalize()) for kind, amount in expected if amount]


def test_a_line_of_seats_says_what_is_charged(ref_1: Catalogue) -> None:
    (row,) = due(selling(ref_1, PRICES["price"]), levels_of(8)).drop_nulls("amount").iter_rows(named=True)
    assert {name: row[name] for name in ("account_id", "subscription_id", "metric", "package", "kind")} == {
        "account_id": "acme",
        "subscription_id": SUBSCRIPTION,
        "metric": "users",
        "package": "starter",
        "kind": "seats",
    }
    assert (row["billing_date"], row["cycle_start"], row["cycle_end"]) == (END, END, NEXT)
    numbers = ("quantity", "allowance", "excess", "billed_units", "unit_price", "amount")
    assert [row[name] for name in numbers] == [8, 5, 3, 3, Decimal("12.00"), Decimal("36.00")]
    assert row["description"] == "Users in advance"


def test_a_line_of_added_seats_says_its_part(ref_1: Catalogue) -> None:
    levels = levels_of(None, [(None, 6), (date(2026, 4, 1), 8)])
    (row,) = due(selling(ref_1, PRICES["price"]), levels).iter_rows(named=True)
    assert (row["kind"], row["amount"], row["billed_units"], row["unit_price"]) == ("proration", Decimal("6.97"), 2, 12)
    assert (row["billing_date"], row["cycle_start"], row["cycle_end"]) == (END, START, END)
    assert (row["whole_fee"], row["fee_part"], row["fee_parts"]) == (Decimal("24.00"), 9, 31)
    assert (row["package"], row["description"]) == ("starter", "Users added within the cycle")
    # Two rises are no one part of anything.
    twice = levels_of(None, [(None, 6), (date(2026, 4, 1), 8), (date(2026, 4, 2), 9)])
    (row,) = due(selling(ref_1, PRICES["price"]), twice).iter_rows(named=True)
    assert (row["billed_units"], row["unit_price"], row["whole_fee"], row["fee_part"], row["fee_parts"]) == (
        *(3, None, None, None, None),
    )


def test_below_what_is_included_nothing_is_added(ref_1: Catalogue) -> None:
    levels = levels_of(5, [(None, 3), (date(2026, 4, 1), 5), (date(2026, 4, 6), 7)])
    (row,) = due(selling(ref_1, PRICES["price"]), levels).iter_rows(named=True)
    assert (row["kind"], row["billed_units"], row["amount"]) == (
        "proration",
        2,
        half_up(Fraction(24 * 4, 31), Decimal("0.01")),
    )


def test_parts_of_seats_are_priced_exactly(ref_1: Catalogue) -> None:
    found = due(selling(ref_1, PRICES["price"]), levels_of(7, fraction=Decimal("0.25")))
    assert amounts(found) == [("seats", Decimal(27))]
    (row,) = found.iter_rows(named=True)
    assert (row["quantity"], row["excess"]) == (Decimal("7.25"), Decimal("2.25"))


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({}, ["seats", "proration"]),
        ({"opening_package": None, "is_last": True}, ["proration"]),
        ({"opening_package": "gold"}, ["proration"]),
        ({"opening_package": "silver"}, ["seats", "proration"]),
        ({"closing_package": "gold"}, ["seats"]),
        ({"cycle_start": None, "closing_package": None}, ["seats"]),
        ({"fee_reason": "refunded", "fee_share_numerator": 0}, []),
        ({"fee_reason": "suspended", "status": "suspended", "fee_share_numerator": 0}, ["proration"]),
        # Within a yearly term seats are charged every month.
        ({"term": "yearly", "fee_reason": "term", "fee_share_numerator": 0}, ["seats", "proration"]),
        ({"term": "yearly", "fee_reason": "term", "fee_share_numerator": 0, "is_last": True}, ["proration"]),
        ({"term": "yearly", "fee_reason": "term", "fee_share_numerator": 0, "status": "suspended"}, ["proration"]),
        ({"fee_reason": "held", "fee_share_numerator": 0}, ["proration"]),
    ],
)
def test_seats_are_due_when_the_fee_is(ref_1: Catalogue, others: dict[str, object], expected: list[str]) -> None:
    levels = levels_of(8, [(None, 6), (date(2026, 4, 1), 8)])
    assert due(selling(ref_1, PRICES["price"]), levels, **others)["kind"].to_list() == expected


def test_a_suspended_account_is_charged_where_the_policy_says_so(ref_1: Catalogue) -> None:
    catalogue = selling(ref_1, PRICES["price"], charge_while_suspended=True)
    others = {"term": "yearly", "fee_reason": "term", "fee_share_numerator": 0, "status": "suspended"}
    assert due(catalogue, levels_of(8), **others)["kind"].to_list() == ["seats"]


def test_a_short_first_cycle_is_a_part_of_the_calendar_month(ref_1: Catalogue) -> None:
    catalogue = selling(ref_1, PRICES["price"], billing_anchor="first_of_month", first_cycle="prorated")
    share = {"fee_share_numerator": 21, "fee_share_denominator": 30, "billing_index": 0, "cycle_start": None}
    (row,) = due(catalogue, levels_of(8), **share, closing_package=None).iter_rows(named=True)
    assert (row["amount"], row["description"]) == (Decimal("25.20"), "Users in advance, 21 of 30 days")
    first = {"billing_date": END, "cycle_start": date(2026, 3, 27), "billing_index": 1}
    rise = [(None, 6), (date(2026, 4, 1), 7)]
    for policy, others, days in (
        (catalogue, {}, 31),
        (catalogue, {"is_resumed": True}, 14),
        (catalogue, {"billing_index": 2}, 14),
        (selling(ref_1, PRICES["price"], billing_anchor="first_of_month", first_cycle="full"), {}, 14),
        (selling(ref_1, PRICES["price"]), {}, 14),
    ):
        (row,) = due(policy, levels_of(None, rise), **{**first, **others}).iter_rows(named=True)
        assert (row["fee_part"], row["fee_parts"]) == (9, days)


def test_an_agreement_has_the_seats_of_its_package_and_prices_change_by_cycle(ref_1: Catalogue) -> None:
    catalogue = selling(ref_1, PRICES["price"])
    starter, *others = catalogue.packages
    (version,) = starter.versions
    later = replace(version, effective_from=END, seats=(replace(PRICES["price"], price=Decimal("20.00")),))
    catalogue = replace(catalogue, packages=(replace(starter, versions=(version, later)), *others))
    found = due(catalogue, levels_of(6, [(None, 5), (START, 6)]))
    # The cycle that starts has the new price, what rose before it the old one.
    assert amounts(found) == [("seats", Decimal(20)), ("proration", Decimal(12))]


def test_what_cannot_be_rated_exactly_has_no_amount(ref_1: Catalogue) -> None:
    found = due(selling(ref_1, PRICES["price"]), levels_of(10**15, [(None, 6), (START, 10**15)]))
    assert found["amount"].to_list() == [None, None]
    (row,) = seats_out_of_range(found).iter_rows()
    assert row[:2] == ("acme", "quantity_out_of_range")
    assert row[2].startswith(f"users of {SUBSCRIPTION} on 2026-04-10 is more than can be rated exactly")


def test_rises_are_told_by_day(ref_1: Catalogue) -> None:
    catalogue = selling(ref_1, PRICES["price"])
    levels = levels_of(None, [(None, 6), (date(2026, 4, 1), 8), (date(2026, 4, 2), 7), (date(2026, 4, 9), 9)])
    found = seat_rises(dated(), levels, terms_frames(catalogue), catalogue)
    told = found.select("day", "before", "level", "left", "days")
    assert told.rows() == [(date(2026, 4, 1), 6, 8, 9, 31), (date(2026, 4, 9), 8, 9, 1, 31)]
    costs = [
        (before / divisor, after / divisor)
        for before, after, divisor in found.select("cost_before", "cost_after", "divisor").iter_rows()
    ]
    assert costs == [(1200, 3600), (3600, 4800)]
    assert seat_rises(dated(), levels_of(None, [(None, 6)]), terms_frames(catalogue), catalogue).is_empty()


# --- levels, from events ----------------------------------------------------------------------------------------------

ZONE = "America/New_York"


def instant(day: date, hour: int = 0) -> datetime:
    """An hour of a day in New York, where clocks went forward on 8 March."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hour + 4)


def read(
    ref_1: Catalogue,
    events: Sequence[tuple[datetime, int]],
    opening: int = 0,
    spans: Sequence[tuple[datetime, datetime]] | None = None,
) -> SeatLevels:
    """The levels of April of an account whose level changes at some instants."""
    catalogue = replace(selling(ref_1, PRICES["price"]), time_zone=ZONE)
    rows = [
        {"account_id": "acme", "metric": "users", "time": at, "value": Decimal(level), "source": "a", "id": str(place)}
        for place, (at, level) in enumerate(events)
    ]
    columns = ("account_id", "metric", "time", "value", "source", "id")
    frame = pl.DataFrame(rows, schema={name: EVENTS.schema[name] for name in columns})
    opened = ("acme", "2026-04", "users", Decimal(opening), None)
    levels = pl.DataFrame([opened], schema=LEVELS.schema, orient="row")
    whole = [(instant(START), instant(END))] if spans is None else spans
    parts = pl.DataFrame(
        [("acme", SUBSCRIPTION, START, END, instant(START), instant(END), since, until) for since, until in whole],
        schema={
            **dict.fromkeys(("account_id", "subscription_id"), pl.String),
            **dict.fromkeys(("cycle_start", "cycle_end"), pl.Date),
            **dict.fromkeys(("cycle_start_instant", "cycle_end_instant", "span_start", "span_end"), INSTANT),
        },
        orient="row",
    )
    cycles = dated().select("account_id", "subscription_id", "billing_date")
    return seat_levels(cycles, parts, levels, frame.lazy(), pl.Series(["acme"]), catalogue)


def by_day(levels: SeatLevels) -> list[tuple[date | None, int]]:
    return [(day, int(level)) for day, level in levels.by_day.sort("day").select("day", "level").iter_rows()]


def test_an_event_of_the_first_instant_stands_at_the_date(ref_1: Catalogue) -> None:
    found = read(ref_1, [(instant(END) - timedelta(microseconds=1), 7), (instant(END), 8), (instant(END, 1), 9)])
    assert found.at_dates.rows() == [("acme", SUBSCRIPTION, END, "users", Decimal(8))]
    assert read(ref_1, [], opening=4).at_dates["level"].to_list() == [Decimal(4)]
    assert read(ref_1, [(instant(END), -3)]).at_dates["level"].to_list() == [Decimal(0)]


def test_the_highest_level_of_each_local_day_counts(ref_1: Catalogue) -> None:
    day = date(2026, 3, 20)
    found = read(
        ref_1, [(instant(day, 1), 3), (instant(day, 19), 6), (instant(day, 19) + timedelta(minutes=1), 2)], opening=4
    )
    # 19 hours in New York are still the 20th, and the next day in UTC.
    assert by_day(found) == [(None, 4), (day, 6)]
    assert by_day(read(ref_1, [(instant(END), 9)], opening=1)) == [(None, 1)]
    assert by_day(read(ref_1, [(instant(START), 9)], opening=1)) == [(None, 9), (START, 9)]
    assert by_day(read(ref_1, [(instant(day), -1)])) == [(None, 0), (day, 0)]


def test_access_that_begins_within_the_cycle_counts_from_its_day(ref_1: Catalogue) -> None:
    back = date(2026, 3, 25)
    found = read(ref_1, [(instant(date(2026, 3, 15)), 7)], opening=4, spans=[(instant(back), instant(END))])
    # What stood when the cycle began is no rise; what stands when access comes back is one, on that day.
    assert by_day(found) == [(None, 4), (back, 7)]
    both = [(instant(START), instant(date(2026, 3, 14))), (instant(back), instant(END))]
    assert by_day(read(ref_1, [(instant(date(2026, 3, 15)), 7)], opening=4, spans=both)) == [(None, 4), (back, 7)]
