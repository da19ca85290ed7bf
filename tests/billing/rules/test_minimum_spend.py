"""Laws of minimum spends: no cycle comes to less, and the parts of a yearly fee add up to it (rule 32)."""

from datetime import date
from decimal import Decimal

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.catalogue import Catalogue
from billing.model.columns import MONEY, PRICE
from billing.rules.minimum_spend import minimum_spend_dues

START = date(2026, 1, 31)
CENTS = st.integers(0, 10**7)


def day(index: int) -> date:
    """Billing date k of a grid that starts on 31 January 2026."""
    (found,) = pl.Series([START]).dt.offset_by(f"{index}mo")
    assert isinstance(found, date)
    return found


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
    return pl.DataFrame(list(rows), schema={"subscription_id": pl.String, **schema, "kind": pl.String, "amount": MONEY})


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
