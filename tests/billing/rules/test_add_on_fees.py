"""Fees and allowances of add-ons on frames: shares, terms, late fees, and what adds to an allowance (rule 31)."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from billing.model.catalogue import Catalogue
from billing.model.columns import BASE_QUANTITY, QUANTITY
from billing.model.offers import AddOn, AddOnVersion
from billing.model.tables import CYCLES
from billing.rules.add_on_fees import add_on_fees
from billing.rules.add_ons import HELD_SCHEMA, AddOnFrames, HeldAddOns, held_and_coming

ACME = "acme/2026-01-10"
B = date(2026, 3, 10)
OPEN = date(2026, 4, 10)
YEAR = date(2027, 1, 10)
FIRST = date(2026, 1, 1)
ADD_ONS = (
    AddOn(
        "small",
        "Small",
        (
            AddOnVersion(date(2026, 2, 1), Decimal("1.005"), Decimal("12.00"), {"emails": Decimal(100)}),
            AddOnVersion(date(2026, 3, 11), Decimal("2.00"), Decimal("24.00"), {"emails": Decimal(200)}),
        ),
    ),
    AddOn("dear", "Dear", (AddOnVersion(FIRST, Decimal(30), None, {"emails": None, "bandwidth": Decimal(5)}),)),
)
Row = dict[str, object]


def catalogue_of(ref_1: Catalogue) -> Catalogue:
    packages = [replace(each, add_ons=("dear",) if each.name == "silver" else None) for each in ref_1.packages]
    return replace(ref_1, packages=tuple(packages), add_ons=ADD_ONS)


def holdings(*rows: tuple[str, int, date, date | None]) -> pl.DataFrame:
    return pl.DataFrame([(ACME, *row) for row in rows], schema=HELD_SCHEMA, orient="row")


def dated(**changes: object) -> pl.DataFrame:
    """A billing date of acme, as `with_packages`."""
    cycle: Row = dict.fromkeys(CYCLES.column_names) | {
        **{"account_id": "acme", "subscription_id": ACME, "billing_date": B, "billing_index": 2, "term": "monthly"},
        **{"cycle_start": date(2026, 2, 10), "cycle_end": B, "next_billing_date": OPEN, "following_term": YEAR},
        **{"term_end": YEAR, "fee_share_numerator": 1, "fee_share_denominator": 1, "fee_reason": "due"},
        **{"status": "active", "closing_package": "starter", "opening_package": "starter", "change_reason": None},
    }
    packages = dict.fromkeys(("closing_package", "opening_package", "change_reason"), pl.String)
    return pl.DataFrame([cycle | changes], schema={**CYCLES.schema, **packages})


def fees(ref_1: Catalogue, held: pl.DataFrame, **changes: object) -> list[tuple[str, str, str]]:
    """add-on, quantity and amount of what falls due."""
    catalogue = catalogue_of(ref_1)
    found = add_on_fees(dated(**changes), HeldAddOns(held, AddOnFrames.of(catalogue)), catalogue)
    quantity, amount = pl.col("quantity").cast(pl.Decimal(38, 0)), pl.col("amount").cast(pl.Decimal(38, 2))
    texts = found.select("add_on", quantity.cast(pl.String), amount.cast(pl.String))
    return list(texts.iter_rows())


ONE_SMALL = holdings(("small", 1, FIRST, None))


def test_a_row_of_the_dues_has_all_that_a_line_says(ref_1: Catalogue) -> None:
    catalogue = catalogue_of(ref_1)
    found = add_on_fees(dated(), HeldAddOns(holdings(("small", 3, FIRST, None)), AddOnFrames.of(catalogue)), catalogue)
    (row,) = found.rows(named=True)
    assert row == {
        **{"account_id": "acme", "subscription_id": ACME, "billing_date": B, "kind": "add_on", "add_on": "small"},
        **{"due_item": "small", "metric": None, "package": "starter", "cycle_start": B, "cycle_end": OPEN},
        **{"quantity": Decimal(3), "billed_units": Decimal(3), "unit_price": Decimal("1.005")},
        # 3 x 1.005 = 3.015, rounded once
        **{"amount": Decimal("3.02"), "whole_fee": None, "fee_part": None, "fee_parts": None},
        "description": "3 Small, monthly fee",
    }


@pytest.mark.parametrize(
    ("held", "found"),
    [
        (("small", 1, B, None), [("small", "1", "1.01")]),
        (("small", 1, FIRST, B), []),
        (("small", 1, FIRST, date(2026, 3, 11)), [("small", "1", "1.01")]),
        (("small", 1, date(2026, 3, 11), None), []),
    ],
)
def test_what_is_held_on_the_date_is_charged(
    ref_1: Catalogue, held: tuple[str, int, date, date | None], found: list[tuple[str, str, str]]
) -> None:
    assert fees(ref_1, holdings(held)) == found


def test_several_are_charged_each(ref_1: Catalogue) -> None:
    both = holdings(("dear", 2, FIRST, None), ("small", 1, FIRST, None))
    assert sorted(fees(ref_1, both)) == [("dear", "2", "60.00"), ("small", "1", "1.01")]


@pytest.mark.parametrize(
    "changes", [{"fee_share_numerator": 0}, {"opening_package": None}], ids=["no fee falls due", "it ends"]
)
def test_without_a_package_fee_nothing_is_charged(ref_1: Catalogue, changes: Row) -> None:
    assert fees(ref_1, ONE_SMALL, **changes) == []


def test_a_version_from_the_next_day_on_is_not_the_one_of_the_date(ref_1: Catalogue) -> None:
    assert fees(ref_1, ONE_SMALL, billing_date=date(2026, 3, 11)) == [("small", "1", "2.00")]
    # Before its first version what is held costs what that one costs.
    assert fees(ref_1, ONE_SMALL, billing_date=date(2026, 1, 10)) == [("small", "1", "1.01")]


def test_a_short_cycle_is_charged_by_days(ref_1: Catalogue) -> None:
    catalogue = catalogue_of(ref_1)
    two = HeldAddOns(holdings(("dear", 2, FIRST, None)), AddOnFrames.of(catalogue))
    found = add_on_fees(dated(fee_share_numerator=22, fee_share_denominator=31), two, catalogue)
    columns = ("amount", "whole_fee", "fee_part", "fee_parts", "unit_price", "description")
    assert found.select(columns).row(0) == (
        *(Decimal("42.58"), Decimal(60), 22, 31, Decimal(30)),
        "2 Dear, monthly fee, 22 of 31 days",
    )


def test_a_yearly_term_charges_the_year(ref_1: Catalogue) -> None:
    catalogue = catalogue_of(ref_1)
    held = HeldAddOns(holdings(("dear", 1, FIRST, None), ("small", 2, FIRST, None)), AddOnFrames.of(catalogue))
    found = add_on_fees(dated(term="yearly", billing_index=0, cycle_start=None), held, catalogue)
    # What has no yearly price is not charged.
    assert found.select("add_on", "amount", "cycle_end", "description").rows() == [
        ("small", Decimal(24), YEAR, "2 Small, yearly fee")
    ]


INSIDE: Row = {"term": "yearly", "fee_share_numerator": 0, "fee_reason": "term"}
MORE = holdings(("small", 1, FIRST, B), ("small", 3, B, None))


def test_more_inside_a_yearly_term_is_charged_for_the_cycles_left(ref_1: Catalogue) -> None:
    catalogue = catalogue_of(ref_1)
    found = add_on_fees(dated(**INSIDE), HeldAddOns(MORE, AddOnFrames.of(catalogue)), catalogue)
    columns = ("quantity", "amount", "whole_fee", "fee_part", "fee_parts", "cycle_start", "cycle_end", "description")
    # 2 x 12.00 x 10 / 12
    assert found.select(columns).row(0) == (
        *(Decimal(2), Decimal(20), Decimal(24), 10, 12, B, YEAR),
        "2 Small, yearly fee, 10 of 12 cycles",
    )


@pytest.mark.parametrize(
    ("held", "changes", "found"),
    [
        (holdings(("small", 2, B, None)), {}, [("small", "2", "20.00")]),
        (holdings(("small", 2, FIRST, None)), {}, []),
        (holdings(("small", 3, FIRST, B), ("small", 1, B, None)), {}, []),
        (MORE, {"billing_index": 11}, [("small", "2", "2.00")]),
        (MORE, {"billing_index": 1}, [("small", "2", "22.00")]),
        (MORE, {"billing_index": 13}, [("small", "2", "22.00")]),
        (MORE, {"billing_index": 12}, []),
        (MORE, {"term": "monthly"}, []),
        (MORE, {"fee_reason": "held"}, []),
        (MORE, {"opening_package": None}, []),
        (MORE, {"status": "suspended"}, []),
    ],
)
def test_both_sides_of_what_a_yearly_term_adds(
    ref_1: Catalogue, held: pl.DataFrame, changes: Row, found: list[tuple[str, str, str]]
) -> None:
    assert fees(ref_1, held, **{**INSIDE, **changes}) == found


def test_where_suspended_accounts_are_charged_more_is_charged_too(ref_1: Catalogue) -> None:
    charging = replace(ref_1, policy=replace(ref_1.policy, charge_while_suspended=True))
    assert fees(charging, MORE, **{**INSIDE, "status": "suspended"}) == [("small", "2", "20.00")]


def test_a_late_yearly_fee_is_for_all_that_is_held_then(ref_1: Catalogue) -> None:
    back = date(2026, 3, 20)
    late: Row = {"late_fee_on": back, "late_term_start": B, "late_term_end": date(2027, 3, 10)}
    held = holdings(("small", 2, FIRST, None))
    suspended: Row = {"term": "yearly", "fee_share_numerator": 0, "fee_reason": "suspended", "billing_index": 12}
    catalogue = catalogue_of(ref_1)
    found = add_on_fees(dated(**suspended, **late), HeldAddOns(held, AddOnFrames.of(catalogue)), catalogue)
    assert found.select("billing_date", "cycle_start", "cycle_end", "amount", "whole_fee").rows() == [
        # The price of the day on which access came back.
        (back, B, date(2027, 3, 10), Decimal(48), None)
    ]
    same_day: Row = {**late, "late_fee_on": B}
    assert fees(ref_1, MORE, **{**INSIDE, **same_day}) == [("small", "3", "36.00")]


# --- allowances -------------------------------------------------------------------------------------------------------


def allowed(ref_1: Catalogue, held: pl.DataFrame, **how: object) -> dict[str, tuple[Decimal | None, Decimal | None]]:
    """allowance in base units and in units by metric, of a cycle that starts on 10 March."""
    frame = pl.DataFrame(
        {
            "subscription_id": [ACME] * 3,
            "metric": ["emails", "bandwidth", "leads"],
            "allowance": pl.Series([15_000, 50 * 10**9, None], dtype=BASE_QUANTITY),
            "allowance_units": pl.Series([15_000, 50, None], dtype=QUANTITY),
        }
    )
    cycles = pl.DataFrame(
        {"subscription_id": [ACME], "cycle_start": [B], "billing_date": [OPEN], "package": how.pop("target", "starter")}
    )
    frames = HeldAddOns(held, AddOnFrames.of(catalogue_of(ref_1)))
    found = frames.with_allowances(frame, cycles, ["subscription_id"], **how)  # type: ignore[arg-type]
    assert found.columns == frame.columns
    assert found.schema == frame.schema
    return {metric: (base, units) for metric, base, units in found.drop("subscription_id").iter_rows()}


def test_quantities_of_all_add_ons_add_to_the_allowance(ref_1: Catalogue) -> None:
    assert allowed(ref_1, holdings(("small", 3, FIRST, None))) == {
        "emails": (Decimal(15_300), Decimal(15_300)),
        "bandwidth": (Decimal(50 * 10**9), Decimal(50)),
        "leads": (None, None),
    }
    both = allowed(ref_1, holdings(("small", 3, FIRST, None), ("dear", 2, FIRST, None)))
    assert both == {"emails": (None, None), "bandwidth": (Decimal(60 * 10**9), Decimal(60)), "leads": (None, None)}


def test_what_is_held_at_the_start_of_the_cycle_counts(ref_1: Catalogue) -> None:
    for since, until, adds in ((B, None, 100), (FIRST, B, 0), (date(2026, 3, 11), None, 0), (FIRST, OPEN, 100)):
        assert allowed(ref_1, holdings(("small", 1, since, until)))["emails"] == (Decimal(15_000 + adds),) * 2


def test_of_another_package_its_version_at_the_date_counts_if_it_is_allowed(ref_1: Catalogue) -> None:
    how = {"package": "package", "on": "billing_date"}
    assert allowed(ref_1, ONE_SMALL, **how)["emails"] == (Decimal(15_200),) * 2
    assert allowed(ref_1, ONE_SMALL, **how, target="silver")["emails"] == (Decimal(15_000),) * 2


# --- what is held, and what comes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([("small", 2, FIRST, None)], [("small", None, None, 2)]),
        ([("small", 2, FIRST, OPEN)], [("small", 0, OPEN, 2)]),
        ([("small", 2, FIRST, OPEN), ("small", 5, OPEN, None)], [("small", 5, OPEN, 2)]),
        ([("small", 2, FIRST, OPEN), ("small", 5, YEAR, None)], [("small", 0, OPEN, 2)]),
        ([("small", 2, OPEN, None)], [("small", 2, OPEN, 0)]),
        ([("small", 2, FIRST, B)], []),
        ([("small", 2, B, None)], [("small", None, None, 2)]),
        ([("dear", 1, FIRST, None), ("small", 2, FIRST, OPEN)], [("dear", None, None, 1), ("small", 0, OPEN, 2)]),
    ],
)
def test_what_is_held_on_a_day_and_what_follows(
    rows: list[tuple[str, int, date, date | None]], found: list[tuple[str, int | None, date | None, int]]
) -> None:
    columns = ("add_on", "next_quantity", "effective_on", "quantity")
    assert held_and_coming(holdings(*rows), B).select(columns).rows() == found
