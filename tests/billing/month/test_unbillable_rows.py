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

CHARGES = "charge_id,account_id,on,description,amount,at_once"
GRANTS = "grant_id,account_id,amount,granted_on,kind"


def early(root: Path) -> Landing:
    """A business that bills since February, with an account that buys nothing and one that moved in."""
    landing = Landing(root, starter_catalogue().replace("start: 2024-01-01", "start: 2026-02-01"))
    landing.account("none")
    moved = {"package": "starter", "billed_through": "2026-02-10"}
    landing.account("moved")
    landing.request("moved", "subscribe", "2025-05-10T09:00:00Z", "self_service", **moved)
    return landing


def write(landing: Landing, name: str, header: str, *lines: str) -> None:
    (landing.folder / f"{name}.csv").write_text("\n".join([header, *lines, ""]))


def early_rows(landing: Landing) -> list[str]:
    return [problem for problem in problems_of(landing.root) if "billing_start" in problem]


EARLY = (
    "first,none,2026-02-01,Set-up,1.00,",
    "early,none,2026-01-31,Set-up,2.00,",
    "moved,moved,2025-12-24,Set-up,4.00,",
    "at-once,moved,2025-12-24,Set-up,8.00,true",
)


def charged(business: Business) -> list[tuple[str, str]]:
    return sorted(rows(business, "lines", "charge_id", "amount", kind="charge"))


class Charged:
    """Charges up to the first of February, and one that is written once February and March are billed."""

    def __init__(self, root: Path) -> None:
        landing = early(root)
        write(landing, "one_off_charges", CHARGES, *EARLY)
        self.told = early_rows(landing)
        business = bill_by_steps(landing.root, "2026-03", "2026-03-31")
        self.first = charged(business)
        self.said: list[str] = []
        warn(business, self.said.append)
        write(landing, "one_off_charges", CHARGES, *EARLY, "late,none,2026-02-05,Set-up,1.00,")
        self.then = [charged(bill_by_steps(landing.root, "2026-03", "2026-03-31"))]
        if sizes.LONG:
            self.then.append(charged(bill_by_steps(landing.root, "2026-04", "2026-04-30")))
        self.told_then = early_rows(landing)


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> Charged:
    return Charged(tmp_path_factory.mktemp("charged"))


def test_a_charge_that_no_month_bills_is_named_with_its_row(bills: Charged) -> None:
    assert [line.partition(": on:")[0] for line in bills.told] == [
        "one_off_charges.csv: row 2",
        "one_off_charges.csv: row 4",
    ]
    assert "found '2026-01-31' (early of none), expected 2026-02-01 (policy.billing_start) or later" in bills.told[0]
    # The others are billed: that of the day itself, and that of a subscription that moved in.
    assert bills.first == [("first", "1.00"), ("moved", "4.00")]
    assert [line.removeprefix("warning: ") for line in bills.said if "billing_start" in line] == bills.told


def test_a_charge_of_a_month_before_the_first_one_billed_is_still_billed(bills: Charged) -> None:
    # Once, in whatever months come.
    assert [found for found in bills.then if found != [("first", "1.00"), ("late", "1.00"), ("moved", "4.00")]] == []
    assert bills.told_then == bills.told


@pytest.mark.parametrize("shards", [1, 3])
def test_a_purchase_that_no_month_bills_is_named_and_a_gift_is_none(tmp_path: Path, shards: int) -> None:
    landing = early(tmp_path)
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


RATES = "country,region,name,rate,effective_from,category"
CATEGORIES = ("L", "M")


class Taxed:
    """A charge of each category without a rate, and one whose rate goes once it is issued, billed twice."""

    def __init__(self, root: Path) -> None:
        landing = Landing(root)
        for name in (*CATEGORIES, "other"):
            landing.customer(name)
        landing.account("goes", country="CA")
        landing.request("goes", "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter")
        write(
            landing,
            "one_off_charges",
            f"{CHARGES},tax_category",
            *(f"set-up-{name},{name},2026-02-05,Set-up,100.00,,{name}" for name in CATEGORIES),
            "usual,other,2026-02-05,Set-up,100.00,,S",
            "set-up-goes,goes,2026-02-05,Set-up,100.00,,M",
        )
        usual = ("US,,VAT,0.20,2025-01-01,", "US,,IGIC,0.07,2026-03-01,L", "CA,,VAT,0.20,2025-01-01,")
        write(landing, "tax_rates", RATES, *usual, "CA,,Its own,0.10,2025-01-01,M")
        self.told = self._of_categories(landing)
        business = bill_by_steps(landing.root, "2026-02", "2026-02-28")
        self.parked = rows(business, "parked", "account_id", "billing_month", "reason")
        self.documents = rows(business, "documents", "account_id", "net", "tax")
        write(landing, "tax_rates", RATES, *usual, *(f"US,,Its own,0.10,2025-01-01,{name}" for name in CATEGORIES))
        self.told_afterwards = self._of_categories(landing)
        self.business = bill_by_steps(landing.root, "2026-03", "2026-03-31")

    @staticmethod
    def _of_categories(landing: Landing) -> list[str]:
        return [problem for problem in problems_of(landing.root) if "tax_category" in problem]


@pytest.fixture(scope="module")
def taxed(tmp_path_factory: pytest.TempPathFactory) -> Taxed:
    return Taxed(tmp_path_factory.mktemp("taxed"))


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_category_that_has_no_rate_parks_its_account_until_it_has_one(taxed: Taxed, category: str) -> None:
    row = 1 + CATEGORIES.index(category)
    assert [told for told in taxed.told if f"of {category})" in told] == [
        f"one_off_charges.csv: row {row}: tax_category: found '{category}' (set-up-{category} of {category}), expected "
        "a category that has a row of tax_rates.csv for US that holds on 2026-02-10: the account is parked then"
    ]
    assert len(taxed.told) == len(CATEGORIES)
    assert sorted(taxed.parked) == [(name, "2026-02", "missing_tax_rate") for name in CATEGORIES]
    documents = {name: sorted(rest for each, *rest in taxed.documents if each == name) for name in (category, "other")}
    assert documents == {
        category: [["99.00", "19.80"]],
        "other": [["199.00", "39.80"], ["99.00", "19.80"]],
    }
    assert taxed.told_afterwards == []
    assert rows(taxed.business, "parked", "account_id") == []
    numbers = rows(taxed.business, "documents", "number", account_id=category)
    taxes = rows(taxed.business, "taxes", "number", "taxable", "amount", category=category)
    assert [amounts for number, *amounts in taxes if (number,) in numbers] == [["100.00", "10.00"]]


def test_a_rate_that_goes_once_its_charge_is_issued_changes_nothing(taxed: Taxed) -> None:
    assert ("goes", "199.00", "29.80") in taxed.documents
    assert rows(taxed.business, "parked", "account_id") == []
    assert rows(taxed.business, "documents", "net", "tax", account_id="goes")[-1] == ("99.00", "19.80")
    assert taxed.told_afterwards == []
