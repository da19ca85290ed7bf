"""Percentage tariffs against exact fractions computed one quantity at a time (rule 34)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.catalogue import Catalogue, Metric, Package, Tariff, Terms
from billing.model.columns import BASE_QUANTITY
from billing.model.quantities import in_units, unit_billionths
from billing.rules.rating import rate
from billing.rules.terms import TERMS_OF_A_METRIC, terms_frames
from tests.billing.rules.test_rating import rounded

Rate = Callable[..., list[tuple[Decimal | None, Decimal | None]]]
M09 = Tariff("percentage", percent=Decimal("2.9"), per_event=Decimal("0.30"))


def rated(
    ref_1: Catalogue,
    tariff: Tariff,
    used: Sequence[tuple[Decimal, int]],
    *,
    allowance: Decimal | None = Decimal(0),
    unit_size: Decimal = Decimal(1),
    decimals: int = 2,
) -> pl.DataFrame:
    """Base quantities and events of one metric, rated."""
    only = Metric("payments", "payment.taken", "counter", "sum", ("data", "amount"), None, None, unit_size, "Payments")
    terms = Terms(date(2026, 1, 1), Decimal(9), None, {"payments": allowance}, {"payments": tariff}, ())
    package = Package("basic", 1, "Basic", (terms,))
    frames = terms_frames(
        replace(ref_1, metrics=(only,), packages=(package,), agreements=(), minor_units=decimals, add_ons=())
    )
    quantities = pl.DataFrame(
        used, schema={"base_quantity": BASE_QUANTITY, "events": pl.Int64}, orient="row", strict=False
    )
    keyed = quantities.join(frames.metrics.select(TERMS_OF_A_METRIC), how="cross", maintain_order="left")
    units = in_units(pl.col("base_quantity").to_physical(), unit_billionths(only))
    return rate(keyed.with_columns(quantity=units), frames)


@pytest.fixture
def amounts(ref_1: Catalogue) -> Callable[..., list[Decimal]]:
    def found(tariff: Tariff, *used: tuple[str, int], allowance: str | None = "0") -> list[Decimal]:
        given = [(Decimal(quantity), events) for quantity, events in used]
        limit = None if allowance is None else Decimal(allowance)
        return rated(ref_1, tariff, given, allowance=limit)["amount"].to_list()

    return found


Amounts = Callable[..., list[Decimal]]


def test_m09(amounts: Amounts) -> None:
    assert amounts(M09, ("169.99", 3)) == [Decimal("5.83")]


def test_nothing_over_nothing_due(amounts: Amounts) -> None:
    least = replace(M09, minimum=Decimal("1.00"))
    assert amounts(least, ("0", 0)) == [0]


@pytest.mark.parametrize(
    ("quantity", "events", "expected"),
    [("100", 0, "0"), ("100.01", 0, "0.00"), ("100", 1, "0.30"), ("200", 2, "3.50"), ("99.99", 10, "3.00")],
)
def test_the_allowance_lowers_the_amount_alone(amounts: Amounts, quantity: str, events: int, expected: str) -> None:
    assert amounts(M09, (quantity, events), allowance="100") == [Decimal(expected)]


@pytest.mark.parametrize(
    ("events", "expected"), [(0, "0"), (9, "0"), (10, "0"), (11, "0.30"), (12, "0.60"), (1_000_010, "300000.00")]
)
def test_free_events_lower_the_events_alone(amounts: Amounts, events: int, expected: str) -> None:
    assert amounts(replace(M09, free_events=10), ("0", events)) == [Decimal(expected)]


def test_an_unlimited_amount_leaves_the_events(amounts: Amounts) -> None:
    assert amounts(M09, ("1000000", 2), allowance=None) == [Decimal("0.60")]


def test_it_is_rounded_once(amounts: Amounts) -> None:
    # Half a cent of each part: rounded by themselves they would come to 0.02.
    both = Tariff("percentage", percent=Decimal("0.5"), per_event=Decimal("0.005"))
    assert amounts(both, ("1", 1)) == [Decimal("0.01")]


def test_minimum_and_maximum_hold_for_both_together(amounts: Amounts) -> None:
    bounded = replace(M09, minimum=Decimal("1.00"), maximum=Decimal("5.00"))
    assert amounts(bounded, ("1", 0), ("0", 1), ("169.99", 3), ("100", 3)) == [1, 1, 5, Decimal("3.80")]


def test_without_a_price_events_are_over_nothing(amounts: Amounts) -> None:
    alone = Tariff("percentage", percent=Decimal("2.9"), minimum=Decimal("1.00"))
    assert amounts(alone, ("0", 5), ("1", 5)) == [0, 1]


def test_a_price_of_events_alone(amounts: Amounts) -> None:
    alone = Tariff("percentage", percent=Decimal(0), per_event=Decimal("0.25"))
    assert amounts(alone, ("1000", 3)) == [Decimal("0.75")]


def test_it_has_no_price_of_a_unit_and_bills_the_excess(ref_1: Catalogue) -> None:
    found = rated(ref_1, M09, [(Decimal(150), 1)], allowance=Decimal(50))
    assert found.select("excess", "billed_units", "unit_price").row(0) == (100, 100, None)


@pytest.mark.parametrize(("decimals", "expected"), [(0, "6"), (3, "5.830")])
def test_other_currencies(ref_1: Catalogue, decimals: int, expected: str) -> None:
    found = rated(ref_1, M09, [(Decimal("169.99"), 3)], decimals=decimals)
    assert found["amount"].to_list() == [Decimal(expected)]


def test_more_events_or_money_than_can_be_rated_is_told(ref_1: Catalogue) -> None:
    dear = Tariff("percentage", percent=Decimal(10_000), per_event=Decimal(10) ** 13)
    found = rated(ref_1, dear, [(Decimal(10) ** 18, 0), (Decimal(1), 10**6), (Decimal(1), 1)])
    assert found["out_of_range"].to_list() == [True, True, False]
    assert found["amount"].to_list()[:2] == [None, None]


def frames_of(ref_1: Catalogue, tariff: Tariff, unit_size: Decimal = Decimal(1)) -> dict[str, int | None]:
    only = Metric("payments", "payment.taken", "counter", "sum", ("data", "amount"), None, None, unit_size, "Payments")
    terms = Terms(date(2026, 1, 1), Decimal(9), None, {"payments": Decimal(0)}, {"payments": tariff}, ())
    package = Package("basic", 1, "Basic", (terms,))
    frames = terms_frames(replace(ref_1, metrics=(only,), packages=(package,), agreements=(), add_ons=()))
    return frames.metrics.row(0, named=True) | frames.tiers.row(0, named=True)


def test_excess_and_events_have_half_of_the_room_each(ref_1: Catalogue) -> None:
    # Over a common divisor of 10^12 an amount below 10^14 is below 10^26.
    found = frames_of(ref_1, replace(M09, free_events=7))
    assert (found["price"], found["event_price"]) == (29, 3 * 10**11)
    assert found["limit"] == 5 * 10**25 // 29
    assert found["event_limit"] == 7 + 5 * 10**25 // (3 * 10**11)
    assert (found["minimum"], found["maximum"], found["narrow"]) == (None, None, 0)


def test_numbers_that_have_no_room_are_not_rated(ref_1: Catalogue) -> None:
    large = replace(M09, percent=Decimal("2.9000000001"), minimum=Decimal("9000.000000000001"))
    found = frames_of(ref_1, large, Decimal(10) ** 15)
    assert (found["limit"], found["event_price"], found["free_events"], found["event_limit"]) == (0, 0, 0, 0)
    used = [(Decimal(0), 5), (Decimal(1), 0)]
    assert rated(ref_1, large, used, unit_size=Decimal(10) ** 15)["out_of_range"].to_list() == [True, True]


@settings(max_examples=120)
@given(
    percent=st.integers(0, 10**12).map(lambda n: Decimal(n).scaleb(-10)),
    per_event=st.integers(0, 10**7).map(lambda n: Decimal(n).scaleb(-5)),
    free=st.integers(0, 20),
    allowance=st.one_of(st.none(), st.integers(0, 10**7).map(lambda n: Decimal(n).scaleb(-4))),
    used=st.lists(st.tuples(st.integers(0, 10**18).map(lambda n: Decimal(n).scaleb(-9)), st.integers(0, 10**6))),
    limits=st.lists(st.integers(0, 10**6).map(lambda n: Decimal(n).scaleb(-3)), min_size=2, max_size=2).map(sorted),
    bounded=st.tuples(st.booleans(), st.booleans()),
    decimals=st.sampled_from([0, 2, 3]),
    unit_size=st.sampled_from([Decimal(1), Decimal(100), Decimal(1000)]),
)
def test_every_amount_is_the_exact_one_rounded_once(
    ref_1: Catalogue,
    percent: Decimal,
    per_event: Decimal,
    free: int,
    allowance: Decimal | None,
    used: list[tuple[Decimal, int]],
    limits: list[Decimal],
    bounded: tuple[bool, bool],
    decimals: int,
    unit_size: Decimal,
) -> None:
    least, most = (limit if is_set else None for limit, is_set in zip(limits, bounded, strict=True))
    tariff = Tariff("percentage", None, None, (), least, most, percent, per_event, free)
    found = rated(ref_1, tariff, used, allowance=allowance, unit_size=unit_size, decimals=decimals)
    for (quantity, events), amount in zip(used, found["amount"], strict=True):
        excess = Fraction(0)
        if allowance is not None:
            excess = max(Fraction(0), Fraction(quantity) / Fraction(unit_size) - Fraction(allowance))
        charged = max(0, events - free) if per_event else 0
        exact = excess * Fraction(percent) / 100 + charged * Fraction(per_event)
        if excess or charged:
            exact = exact if least is None else max(exact, Fraction(least))
            exact = exact if most is None else min(exact, Fraction(most))
        assert Fraction(amount) == rounded(exact, decimals)
