"""Laws of minimum spends: no cycle comes to less, and the parts of a yearly fee add up to it (rule 32)."""

from calendar import monthrange
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.catalogue import Agreement, Catalogue, MinimumSpend
from billing.model.columns import MONEY, PRICE
from billing.model.tables import CYCLES
from billing.rules.cycles import SPAN_SCHEMA
from billing.rules.minimum_spend import cycles_with_minimum, has_minimum_spend, minimum_spend_dues
from billing.rules.terms import terms_frames

START = date(2026, 1, 31)
CENTS = st.integers(0, 10**7)


def day(index: int) -> date:
    """Billing date k of a grid that starts on 31 January 2026."""
    # Without Polars, which mutation testing cannot use before it forks.
    month = START.month - 1 + index
    year, month = START.year + month // 12, month % 12 + 1
    return date(year, month, min(START.day, monthrange(year, month)[1]))


def cycle(index: int, minimum: Decimal, *counts: str) -> pl.DataFrame:
    """As `cycles_with_minimum`: the cycle from billing date k on."""
    start, end = day(index), day(index + 1)
    return pl.DataFrame(
        {
            "account_id": ["acme"],
            "subscription_id": ["acme/2026-01-31"],
            "billing_date": [end],
            "cycle_start": [start],
            "cycle_end": [end],
            "term": ["monthly"],
            "package": ["starter"],
            "whole": pl.Series([minimum], dtype=PRICE),
            "days": pl.Series([28], dtype=pl.Int32),
            "of_days": pl.Series([28], dtype=pl.Int32),
            "minimum": pl.Series([minimum], dtype=MONEY),
            "counts": [list(counts)],
            "grid_start": [START],
            "closing_index": pl.Series([index], dtype=pl.Int32),
            "elsewhere": pl.Series([Decimal(0)], dtype=MONEY),
        }
    )


def due(kind: str, first: int, end: int, cents: int, on: int | None = None) -> dict[str, object]:
    """What is due for the cycles from billing date `first` to `end`, on one of the dates."""
    return {
        "subscription_id": "acme/2026-01-31",
        "billing_date": day(first if on is None else on),
        "kind": kind,
        "cycle_start": day(first),
        "cycle_end": day(end),
        "amount": Decimal(cents) / 100,
    }


def frame(*rows: dict[str, object]) -> pl.DataFrame:
    schema = dict.fromkeys(("billing_date", "cycle_start", "cycle_end"), pl.Date)
    found = pl.DataFrame(
        list(rows), schema={"subscription_id": pl.String, **schema, "kind": pl.String, "amount": MONEY}
    )
    return found.with_columns(metric=pl.lit(None, pl.String))


@settings(max_examples=60)
@given(minimum=CENTS, fee=CENTS, over=CENTS, other=CENTS)
def test_a_cycle_never_comes_to_less_than_its_minimum(
    ref_1: Catalogue, minimum: int, fee: int, over: int, other: int
) -> None:
    rows = [
        due("package_fee", 1, 2, fee),
        due("overage", 1, 2, over, on=2),
        # What does not count: the fee of the next cycle, the overage of the one before, and an add-on.
        due("package_fee", 2, 3, other),
        due("overage", 0, 1, other, on=1),
        due("add_on", 1, 2, other),
    ]
    found = minimum_spend_dues(cycle(1, Decimal(minimum) / 100, "package_fee", "overage"), frame(*rows), ref_1)
    lacking = found["amount"].sum() or Decimal(0)
    assert lacking == max(Decimal(0), Decimal(minimum - fee - over) / 100)
    assert found.height == (minimum > fee + over)


@settings(max_examples=60)
@given(fee=CENTS, left=st.integers(1, 12))
def test_what_a_yearly_fee_counts_adds_up_to_it(ref_1: Catalogue, fee: int, left: int) -> None:
    first = 12 - left
    minimum = Decimal(10**6)
    row = due("package_fee", first, 12, fee)
    counted = [
        minimum - minimum_spend_dues(cycle(index, minimum, "package_fee"), frame(row), ref_1)["amount"].item()
        for index in range(12)
    ]
    assert sum(counted[first:]) == Decimal(fee) / 100
    assert counted[:first] == [Decimal(0)] * first
    share = (Decimal(fee) / left).quantize(Decimal(1), "ROUND_HALF_UP") / 100
    assert counted[first:-1] == [share] * (left - 1)


# --- which cycles have one, and how much of it ------------------------------------------------------------------------

BERLIN = "Europe/Berlin"


def with_minimum(ref_1: Catalogue, amount: str = "200.00", anchor: str = "signup_day") -> Catalogue:
    """REF-1 in Berlin, with a minimum on starter and an agreement of vip on it."""
    (starter, *others) = ref_1.packages
    (version,) = starter.versions
    minimum = MinimumSpend(Decimal(amount), ("package_fee", "overage"))
    own = Agreement("vip", "starter", START, None, None, {}, {}, minimum_spend=MinimumSpend(Decimal(500), ("overage",)))
    return replace(
        ref_1,
        time_zone=BERLIN,
        policy=replace(ref_1.policy, billing_anchor=anchor),
        packages=(replace(starter, versions=(replace(version, minimum_spend=minimum),)), *others),
        agreements=(own,),
    )


def span(account: str, start: str, end: str) -> dict[str, object]:
    first, last = (datetime.fromisoformat(f"2026-{text}").replace(tzinfo=ZoneInfo(BERLIN)) for text in (start, end))
    return {"account_id": account, "subscription_id": f"{account}/2026-01-31", "span_start": first, "span_end": last}


def closing(
    catalogue: Catalogue, *spans: dict[str, object], account: str = "acme", term: str = "monthly", **more: object
) -> pl.DataFrame:
    """The cycle from 28 February to 31 March 2026 as one that may have a minimum."""
    cycle: dict[str, object] = dict.fromkeys(CYCLES.column_names) | {
        **{"account_id": account, "subscription_id": f"{account}/2026-01-31", "billing_date": day(2)},
        **{"billing_index": 2, "term": term, "cycle_start": day(1), "cycle_end": day(2)},
    }
    life = {"subscription_id": f"{account}/2026-01-31", "grid_start": START, "billed_through": more.pop("moved", None)}
    package = {"subscription_id": f"{account}/2026-01-31", "closing_package": more.pop("package", "starter")}
    return cycles_with_minimum(
        pl.DataFrame([cycle | more], schema=CYCLES.schema),
        pl.DataFrame([package]),
        pl.DataFrame(list(spans), schema=SPAN_SCHEMA),
        pl.DataFrame([life], schema_overrides={"billed_through": pl.Date}),
        terms_frames(catalogue),
        catalogue,
    )


WHOLE = ("acme", "02-28T00:00", "03-31T00:00")


def test_a_whole_cycle_has_the_whole_minimum(ref_1: Catalogue) -> None:
    (row,) = closing(with_minimum(ref_1), span(*WHOLE)).rows(named=True)
    assert row == {
        **{"account_id": "acme", "subscription_id": "acme/2026-01-31", "billing_date": day(2), "term": "monthly"},
        **{"cycle_start": day(1), "cycle_end": day(2), "package": "starter", "whole": Decimal(200)},
        **{"days": 31, "of_days": 31, "minimum": Decimal(200), "counts": ["package_fee", "overage"]},
        **{"grid_start": START, "closing_index": 1, "elsewhere": Decimal(0)},
    }


@pytest.mark.parametrize(
    ("spans", "days"),
    [
        ([("02-28T00:00", "03-16T00:00")], 16),
        ([("02-28T00:00", "03-16T00:01")], 17),
        ([("02-28T23:59", "03-31T00:00")], 31),
        # A gap inside a day takes no day, one over a midnight none, one over a whole day one.
        ([("02-28T00:00", "03-10T08:00"), ("03-10T09:00", "03-31T00:00")], 31),
        ([("02-28T00:00", "03-10T08:00"), ("03-11T09:00", "03-31T00:00")], 31),
        ([("02-28T00:00", "03-10T08:00"), ("03-12T09:00", "03-31T00:00")], 30),
        # The day on which clocks go forward.
        ([("03-29T00:00", "03-30T00:00")], 1),
    ],
)
def test_days_with_access_are_local_days(ref_1: Catalogue, spans: list[tuple[str, str]], days: int) -> None:
    found = closing(with_minimum(ref_1), *(span("acme", *each) for each in spans))
    assert found["days"].to_list() == [days]
    exact = Decimal(200 * days) / 31
    assert found["minimum"].to_list() == [exact.quantize(Decimal("0.01"), "ROUND_HALF_UP")]


def test_without_access_there_is_no_minimum(ref_1: Catalogue) -> None:
    assert closing(with_minimum(ref_1)).is_empty()
    assert closing(with_minimum(ref_1), span("acme", "03-01T00:00", "03-01T00:00")).is_empty()


def test_other_packages_and_first_dates_have_none(ref_1: Catalogue) -> None:
    catalogue = with_minimum(ref_1)
    assert closing(catalogue, span(*WHOLE), package="silver").is_empty()
    assert closing(catalogue, span(*WHOLE), cycle_start=None).is_empty()
    assert closing(with_minimum(ref_1, "0.00"), span(*WHOLE)).is_empty()
    assert closing(ref_1, span(*WHOLE)).is_empty()
    assert (has_minimum_spend(catalogue), has_minimum_spend(ref_1)) == (True, False)


def test_an_agreement_has_its_own(ref_1: Catalogue) -> None:
    found = closing(with_minimum(ref_1), span("vip", *WHOLE[1:]), account="vip")
    assert found.select("whole", "minimum", pl.col("counts").list.join(",")).row(0) == (500, 500, "overage")


def test_with_cycles_from_the_first_the_days_of_the_calendar_month_count(ref_1: Catalogue) -> None:
    catalogue = with_minimum(ref_1, anchor="first_of_month")
    short: dict[str, Any] = {"cycle_start": date(2026, 3, 17), "cycle_end": date(2026, 4, 1)}
    found = closing(catalogue, span("acme", "03-17T00:00", "04-01T00:00"), **short)
    assert found.select("days", "of_days", "minimum").row(0) == (15, 31, Decimal("96.77"))


@pytest.mark.parametrize(
    ("term", "index", "moved", "elsewhere"),
    [
        ("monthly", 2, None, "0"),
        ("monthly", 2, day(2), "99"),
        ("monthly", 2, day(1), "0"),
        # The fee of a year was due on 31 January.
        ("yearly", 2, day(1), "82.5"),
        ("yearly", 2, START, "0"),
        ("yearly", 13, day(12), "0"),
        ("yearly", 12, day(12), "82.5"),
    ],
)
def test_the_fee_that_another_system_billed_counts(
    ref_1: Catalogue, term: str, index: int, moved: date | None, elsewhere: str
) -> None:
    found = closing(with_minimum(ref_1), span(*WHOLE), term=term, billing_index=index, moved=moved)
    assert found["elsewhere"].to_list() == [Decimal(elsewhere)]


def test_what_counts_of_a_year_that_was_billed_elsewhere_adds_up_to_its_fee(ref_1: Catalogue) -> None:
    catalogue = with_minimum(ref_1)
    (starter, *others) = catalogue.packages
    version = replace(starter.versions[0], yearly=Decimal(1000))
    catalogue = replace(catalogue, packages=(replace(starter, versions=(version,)), *others))
    found = [
        closing(catalogue, span(*WHOLE), term="yearly", billing_index=index, moved=day(1))["elsewhere"].item()
        for index in (1, 2, 11, 12)
    ]
    assert found == [Decimal("83.33")] * 3 + [1000 - 11 * Decimal("83.33")]


def test_a_minimum_without_fees_counts_none_from_elsewhere(ref_1: Catalogue) -> None:
    found = closing(with_minimum(ref_1), span("vip", *WHOLE[1:]), account="vip", moved=day(2))
    assert found["elsewhere"].to_list() == [Decimal(0)]


def test_a_row_of_the_dues_has_all_that_a_line_says(ref_1: Catalogue) -> None:
    open_ = cycle(1, Decimal(200), "package_fee").with_columns(elsewhere=pl.lit(Decimal(10)).cast(MONEY))
    (row,) = minimum_spend_dues(open_, frame(due("package_fee", 1, 2, 9_900)), ref_1).rows(named=True)
    assert row == {
        **{"account_id": "acme", "subscription_id": "acme/2026-01-31", "billing_date": day(2), "package": "starter"},
        **{"cycle_start": day(1), "cycle_end": day(2), "kind": "minimum_spend", "metric": None},
        **{"amount": Decimal(91), "whole_fee": Decimal(200), "replaced_fee": Decimal(109), "fee_part": 28},
        **{"fee_parts": 28, "description": "Minimum spend of Starter"},
    }


UPGRADE = {"kind": "proration", "subscription_id": "acme/2026-01-31/r1/upgrade"}


@pytest.mark.parametrize(
    ("row", "counts"),
    [
        # An upgrade at once stands under an id of its own, and is part of the fee.
        (
            {"kind": "proration", "subscription_id": "acme/2026-01-31/r1/upgrade", "cycle_start": date(2026, 3, 10)},
            True,
        ),
        ({"kind": "seats"}, False),
        ({"kind": "charge"}, False),
        ({"subscription_id": "acme/2025-01-31"}, False),
        # What falls due after the cycle has closed is for another one.
        ({"billing_date": date(2026, 4, 1)}, False),
        ({"billing_date": date(2026, 3, 31)}, True),
    ],
)
def test_what_counts_for_a_cycle(ref_1: Catalogue, row: dict[str, object], counts: bool) -> None:
    rows = frame({**due("package_fee", 1, 2, 9_900), **row})
    found = minimum_spend_dues(cycle(1, Decimal(200), "package_fee"), rows, ref_1)
    assert found["amount"].item() == (Decimal(101) if counts else Decimal(200))


def test_a_currency_without_decimals_shares_whole_units(ref_1: Catalogue) -> None:
    yen = replace(ref_1, currency="JPY", minor_units=0)
    row = due("package_fee", 0, 12, 100_000)
    counted = [
        Decimal(1000) - minimum_spend_dues(cycle(index, Decimal(1000), "package_fee"), frame(row), yen)["amount"].item()
        for index in range(12)
    ]
    # 1,000 yen: eleven of 83 and one of 87
    assert counted == [83] * 11 + [87]
