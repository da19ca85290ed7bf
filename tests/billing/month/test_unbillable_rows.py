"""Charges and purchased credits dated before billing_start: named, and never lost in silence (rules 30 and 33)."""

from datetime import date
from pathlib import Path

import pytest

from billing.month.business import Business
from billing.month.unbillable_rows import rows_before_billing_start
from billing.reports.check import problems_of
from billing.starter import starter_catalogue
from pipeline.run_state import warn
from tests import sizes
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing
from tests.sizes import sized

CHARGES = "charge_id,account_id,on,description,amount,at_once"
GRANTS = "grant_id,account_id,amount,granted_on,kind"


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    landing = Landing(tmp_path, starter_catalogue().replace("start: 2024-01-01", "start: 2026-02-01"))
    landing.account("none")
    moved = {"package": "starter", "billed_through": "2026-02-10"}
    landing.account("moved")
    landing.request("moved", "subscribe", "2025-05-10T09:00:00Z", "self_service", **moved)
    return landing


def write(landing: Landing, name: str, header: str, *lines: str) -> None:
    (landing.folder / f"{name}.csv").write_text("\n".join([header, *lines, ""]))


def early_rows(landing: Landing) -> list[str]:
    return [problem for problem in problems_of(landing.root) if "billing_start" in problem]


def test_a_charge_that_no_month_bills_is_named_with_its_row(landing: Landing) -> None:
    write(
        landing,
        "one_off_charges",
        CHARGES,
        "first,none,2026-02-01,Set-up,1.00,",
        "early,none,2026-01-31,Set-up,2.00,",
        "moved,moved,2025-12-24,Set-up,4.00,",
        "at-once,moved,2025-12-24,Set-up,8.00,true",
    )
    told = early_rows(landing)
    assert [line.partition(": on:")[0] for line in told] == [
        "one_off_charges.csv: row 2",
        "one_off_charges.csv: row 4",
    ]
    assert "found '2026-01-31' (early of none), expected 2026-02-01 (policy.billing_start) or later" in told[0]
    business = bill_by_steps(landing.root, "2026-02", "2026-02-28")
    # The others are billed: that of the day itself, and that of a subscription that moved in.
    assert sorted(rows(business, "lines", "charge_id", "amount", kind="charge")) == [
        ("first", "1.00"),
        ("moved", "4.00"),
    ]
    said: list[str] = []
    warn(business, said.append)
    assert [line.removeprefix("warning: ") for line in said if "billing_start" in line] == told


@pytest.mark.parametrize("shards", [1, 3])
def test_a_purchase_that_no_month_bills_is_named_and_a_gift_is_none(landing: Landing, shards: int) -> None:
    write(
        landing,
        "credit_grants",
        GRANTS,
        "gift,none,50.00,2026-01-31,granted",
        "bought,none,50.00,2026-01-31,purchased",
        "later,none,50.00,2026-02-01,purchased",
    )
    write(landing, "one_off_charges", CHARGES, *(f"c{n:02},none,2026-01-31,Set-up,1.00," for n in range(22)))
    business = Business.load(landing.root, date(2026, 2, 28), issues=False, shards=shards)
    told = rows_before_billing_start(business)
    assert told[19].startswith("one_off_charges.csv: row 20: on: found '2026-01-31' (c19 of none)")
    assert told[20] == "one_off_charges: 2 more rows like these"
    assert len(told) == 22 and told[21].startswith("credit_grants.csv: row 2: granted_on: found '2026-01-31'")


def test_a_charge_of_a_month_before_the_first_one_billed_is_still_billed(landing: Landing) -> None:
    bill_by_steps(landing.root, "2026-03", "2026-03-31")
    write(landing, "one_off_charges", CHARGES, "late,none,2026-02-05,Set-up,1.00,")
    business = bill_by_steps(landing.root, "2026-03", "2026-03-31")
    assert rows(business, "lines", "charge_id", "amount", kind="charge") == [("late", "1.00")]
    if sizes.LONG:
        business = bill_by_steps(landing.root, "2026-04", "2026-04-30")
        assert rows(business, "lines", "charge_id", "amount", kind="charge") == [("late", "1.00")]
    assert early_rows(landing) == []


RATES = "country,region,name,rate,effective_from,category"


@pytest.fixture
def taxed(tmp_path: Path) -> Landing:
    landing = Landing(tmp_path)
    landing.customer("acme")
    landing.customer("other")
    (landing.folder / "tax_rates.csv").write_text(f"{RATES}\nUS,,VAT,0.20,2025-01-01,\nUS,,IGIC,0.07,2026-03-01,L\n")
    return landing


@pytest.mark.parametrize("category", sized(usual=["L"], long=["L", "M"]))
def test_a_category_that_has_no_rate_parks_its_account_until_it_has_one(taxed: Landing, category: str) -> None:
    write(
        taxed,
        "one_off_charges",
        f"{CHARGES},tax_category",
        f"set-up,acme,2026-02-05,Set-up,100.00,,{category}",
        "usual,other,2026-02-05,Set-up,100.00,,S",
    )
    (told,) = [problem for problem in problems_of(taxed.root) if "tax_category" in problem]
    assert told == (
        f"one_off_charges.csv: row 1: tax_category: found '{category}' (set-up of acme), expected a category that has "
        "a row of tax_rates.csv for US that holds on 2026-02-10: the account is parked then"
    )
    business = bill_by_steps(taxed.root, "2026-02", "2026-02-28")
    assert rows(business, "parked", "account_id", "billing_month", "reason") == [
        ("acme", "2026-02", "missing_tax_rate")
    ]
    assert sorted(rows(business, "documents", "account_id", "net", "tax")) == [
        ("acme", "99.00", "19.80"),
        ("other", "199.00", "39.80"),
        ("other", "99.00", "19.80"),
    ]
    rates = taxed.folder / "tax_rates.csv"
    rates.write_text(f"{rates.read_text()}US,,Its own,0.10,2025-01-01,{category}\n")
    assert not [problem for problem in problems_of(taxed.root) if "tax_category" in problem]
    business = bill_by_steps(taxed.root, "2026-02", "2026-02-28")
    assert rows(business, "parked", "account_id") == []
    charged = rows(business, "taxes", "taxable", "amount", category=category)
    assert charged == [("100.00", "10.00")]


def test_a_rate_that_goes_once_its_charge_is_issued_changes_nothing(taxed: Landing) -> None:
    rates = taxed.folder / "tax_rates.csv"
    before = rates.read_text()
    rates.write_text(f"{before}US,,Its own,0.10,2025-01-01,M\n")
    charge = "set-up,acme,2026-02-05,Set-up,100.00,,M"
    write(taxed, "one_off_charges", f"{CHARGES},tax_category", charge)
    bill_by_steps(taxed.root, "2026-02", "2026-02-28")
    rates.write_text(before)
    business = bill_by_steps(taxed.root, "2026-03", "2026-03-31")
    assert rows(business, "parked", "account_id") == []
    assert rows(business, "documents", "net", "tax", account_id="acme")[-1] == ("99.00", "19.80")
    assert not [problem for problem in problems_of(taxed.root) if "tax_category" in problem]
