"""Cases in which money was wrong in billing engines that people use; REF-1, bought 2026-01-10 unless said otherwise."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from billing.month.business import Business
from billing.month.corrections import issue_corrections
from billing.month.scratch_copy import bring_up_to_date
from billing.month.steps import ingest_usage
from billing.reports.verify import disagreements
from tests import sizes
from tests.billing.month.test_moving_in import catalogue
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing
from tests.sizes import sized

RATES = """country,region,rate,name,effective_from
DE,,0.19,VAT,2020-01-01
DE,,0.25,VAT,2026-03-01
AT,,0.20,VAT,2020-01-01
CA,,0.05,GST,2020-01-01
CA,,0.06,GST,2026-02-01
"""
GIVEN_BACK = ("at-exempt", "at-id", "de")
PAID = {"part": "40.00", "whole": "99.00", "nothing": None}
MONTHS = ("2026-01", "2026-02")


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "home")


def account_row(landing: Landing, name: str, **changes: str) -> None:
    """Change the row of an account."""
    path = landing.folder / "accounts.csv"
    header, *lines = path.read_text().splitlines()
    columns = header.split(",")
    changed = []
    for line in lines:
        values = dict(zip(columns, line.split(","), strict=True))
        changed.append(",".join((values | changes if values["account_id"] == name else values).values()))
    path.write_text("\n".join([header, *changed]) + "\n")


def correct(home: Path, month: str, as_of: str, reason: str = "as agreed") -> Business:
    """Correct a month at once."""
    business = Business.load(home, date.fromisoformat(as_of), issues=False)
    bring_up_to_date(business, month)
    issue_corrections(business, month, reason)
    return business


class Lives:
    """Accounts from January to March, one per case; what was issued of them in between."""

    def __init__(self, root: Path) -> None:
        self.landing = landing = Landing(root)
        self.catalogue = landing.folder / "catalogue.yaml"
        self.text = self.catalogue.read_text()
        (landing.folder / "tax_rates.csv").write_text(RATES)
        countries = {"de": "DE", "at-id": "AT", "at-exempt": "AT", "live": "DE", "notes": "CA", "settled": "CA"}
        for name in ("de", "at-id", "at-exempt", "live", "notes", "settled", *PAID, "taken-back", "kept"):
            self._buy(name, "2026-01-10", countries.get(name, "US"))
        self._january()
        self._february()
        self._march()

    def _january(self) -> None:
        landing = self.landing
        settled = ("settled", "2026-01-01", "2.20")
        self._agree(("notes", "2026-01-01", "3.30"), settled)
        numbers = dict(rows(bill_by_steps(landing.root, "2026-01", "2026-01-10"), "documents", "account_id", "number"))
        for name, paid in PAID.items():
            if paid:
                landing.pay(name, numbers[name], paid, "2026-01-12T10:00:00Z")
            landing.request(name, "refund", "2026-01-15T09:00:00Z")
        self.refund = landing.request("taken-back", "refund", "2026-01-15T09:00:00Z")
        self._agree(("notes", "2026-01-01", "2.20"), settled)
        business = bill_by_steps(landing.root, "2026-01", "2026-01-15")
        issue_corrections(business, "2026-01", "as agreed")
        for price in ("1.10", "0.00"):
            self._agree(("notes", "2026-01-01", price), settled)
            correct(landing.root, "2026-01", "2026-01-15")
        self.kept = numbers["kept"]
        landing.pay("kept", self.kept, "99.00", "2026-02-01T10:00:00Z", "failed")

    def _february(self) -> None:
        landing = self.landing
        landing.request("taken-back", "withdraw", "2026-01-20T09:00:00Z", withdraws=self.refund)
        landing.use("live", emails=18_000)
        self._buy("credited", "2026-02-10")
        notes = ("notes", "2026-01-01", "0.00")
        self._agree(notes, ("settled", "2026-01-01", "9.99"))
        business = bill_by_steps(landing.root, "2026-02", "2026-02-10")
        self.february = self._taxed(business, "2026-02")
        ((number,),) = rows(business, "documents", "number", account_id="credited")
        landing.pay("credited", number, "99.00", "2026-02-10T10:00:00Z", "failed")
        self._agree(notes, ("settled", "2026-01-01", "3.33"), ("credited", "2026-02-10", "0.00"))
        business = Business.load(landing.root, date(2026, 2, 15), issues=False)
        bring_up_to_date(business, "2026-02")
        issue_corrections(business, "2026-01", "as agreed")
        self.corrected_of_january = rows(business, "documents", "net", kind="credit_note", account_id="settled")
        self.corrected_of_february = issue_corrections(business, "2026-02", "as agreed")["account_id"].to_list()
        self.corrected_again = issue_corrections(business, "2026-02", "as agreed")

    def _march(self) -> None:
        landing = self.landing
        landing.pay("kept", self.kept, "99.00", "2026-02-20T10:00:00Z")
        for name in GIVEN_BACK:
            landing.request(name, "cancel", "2026-01-25T09:00:00Z", "email")
        account_row(landing, "at-id", tax_id="ATU13585627")
        account_row(landing, "at-exempt", tax_exempt="true")
        (landing.folder / "usage/2026-01-20/usage.jsonl").write_text("")
        credited = (("credited", "2026-02-10", "0.00"), ("credited", "2026-03-10", "99.00"))
        self._agree(("notes", "2026-01-01", "0.00"), ("settled", "2026-01-01", "3.33"), *credited)
        landing.use("credited", "2026-02-20", emails=20_000)
        self.business = bill_by_steps(landing.root, "2026-03", "2026-03-10")
        self.march = self._taxed(self.business, "2026-03")

    def _buy(self, name: str, on: str, country: str = "US") -> None:
        self.landing.account(name, country=country)
        self.landing.request(name, "subscribe", f"{on}T09:00:00Z", "self_service", package="starter")

    def _agree(self, *agreed: tuple[str, str, str]) -> None:
        """Accounts' own monthly prices of the starter package, each from a day."""
        written = yaml.safe_load(self.text)
        written["agreements"] = [
            {"account_id": account, "package": "starter", "effective_from": since, "price": {"monthly": price}}
            for account, since, price in agreed
        ]
        self.catalogue.write_text(yaml.safe_dump(written))

    @staticmethod
    def _taxed(business: Business, month: str) -> dict[str, tuple[str, ...]]:
        """By account: number, kind, net, tax and total."""
        columns = ("account_id", "number", "kind", "net", "tax", "total")
        found = rows(business, "documents", *columns, billing_month=month)
        return {account: tuple(rest) for account, *rest in found if account in (*GIVEN_BACK, "live")}


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    return Lives(tmp_path_factory.mktemp("lives") / "home")


def test_what_is_given_back_is_taxed_as_it_was_billed(lives: Lives) -> None:
    billed = {name: lives.february[name] for name in GIVEN_BACK}
    assert {name: total for name, (*_, total) in billed.items()} == {
        "at-exempt": "118.80",
        "at-id": "118.80",
        "de": "117.81",
    }
    notes = {name: lives.march[name] for name in GIVEN_BACK}
    assert {name: (kind, net, total) for name, (_, kind, net, _, total) in notes.items()} == {
        "at-exempt": ("credit_note", "-99.00", "-118.80"),
        "at-id": ("credit_note", "-99.00", "-118.80"),
        "de": ("credit_note", "-99.00", "-117.81"),
    }
    found = dict(rows(lives.business, "taxes", "number", "taxed_as"))
    assert {notes[name][0]: found[notes[name][0]] for name in GIVEN_BACK} == {
        notes[name][0]: billed[name][0] for name in GIVEN_BACK
    }


def test_a_live_document_bills_at_todays_rate_and_gives_back_at_the_old_one(lives: Lives) -> None:
    before, kind, *amounts = lives.february["live"]
    assert (kind, *amounts) == ("invoice", "108.00", "20.52", "128.52")
    number = lives.march["live"][0]
    assert rows(lives.business, "taxes", "rate", "taxable", "amount", "taxed_as", number=number) == [
        ("0.19", "-9.00", "-1.71", before),
        ("0.25", "99.00", "24.75", None),
    ]
    assert rows(lives.business, "lines", "kind", "amount", "gives_back", number=number) == [
        ("package_fee", "99.00", None),
        ("prior_cycle", "-9.00", before),
    ]


def test_notes_of_a_document_never_give_back_more_than_it_billed(lives: Lives) -> None:
    """A fee of 3.30 that becomes 2.20, 1.10 and nothing, each corrected at once."""
    found = documents_of(lives.business, "notes", "2026-01", "total")
    totals = [Decimal(total) for (total,) in found]
    assert sorted(totals) == [Decimal("-1.16"), Decimal("-1.16"), Decimal("-1.15"), Decimal("3.47")]
    assert sum(totals) == 0


def test_a_correction_gives_back_of_a_document_what_that_document_billed(lives: Lives) -> None:
    """A fee of 2.20 that becomes 9.99 before February's invoice, and 3.33 after it."""
    wanted = {"account_id": "settled", "kind": "invoice"}
    # February's invoice bills January's difference, too
    found = [rows(lives.business, "documents", "number", "net", **wanted, billing_month=month) for month in MONTHS]
    ((_, january),), ((number, february),) = found
    assert (january, february) == ("2.20", "17.78")
    assert lives.corrected_of_january == []
    assert sorted(lives.corrected_of_february) == ["credited", "settled"]
    notes = rows(lives.business, "documents", "corrects", "net", "tax", account_id="settled", kind="credit_note")
    assert notes == [(number, "-13.32", "-0.80")]
    assert lives.corrected_again.is_empty()
    before_march = [month for (month,) in rows(lives.business, "documents", "billing_month", account_id="settled")]
    assert sorted(before_march) == ["2026-01", "2026-02", "2026-02", "2026-03"]
    assert [words for words in disagreements(lives.business) if "the PDF of" not in words] == []


def test_a_credited_document_suspends_nobody(lives: Lives) -> None:
    """Its payment failed, and it came to nothing."""
    states = dict(rows(lives.business, "documents", "billing_month", "status", account_id="credited", kind="invoice"))
    assert states["2026-02"] == "credited"
    assert documents_of(lives.business, "credited", "2026-03", "total") == [("114.00",)]
    assert rows(lives.business, "unbilled", "reason", account_id="credited") == []


def test_what_a_refund_sends_back_is_what_was_paid(lives: Lives) -> None:
    decided = {name: rows(lives.business, "decisions", "amount", kind="refund", account_id=name) for name in PAID}
    assert decided == {"part": [("40.00",)], "whole": [("99.00",)], "nothing": [("0.00",)]}
    # the whole fee is credited all the same
    notes = {name: rows(lives.business, "documents", "total", kind="credit_note", account_id=name) for name in PAID}
    assert notes == {name: [("-99.00",)] for name in PAID}


def test_a_refund_that_is_taken_back_is_due_again(lives: Lives) -> None:
    wanted = {"account_id": "taken-back", "kind": "invoice"}
    assert rows(lives.business, "documents", "billing_date", "total", **wanted) == [
        (date(2026, 1, 10), "99.00"),
        (date(2026, 2, 10), "198.00"),
        (date(2026, 3, 10), "99.00"),
    ]


def test_a_monthly_fee_that_a_suspension_kept_is_never_charged(lives: Lives) -> None:
    """Suspended since its payment failed on the first of February, until it came on the twentieth."""
    assert rows(lives.business, "documents", "billing_date", "total", account_id="kept") == [
        (date(2026, 1, 10), "99.00"),
        (date(2026, 3, 10), "99.00"),
    ]


def documents_of(business: Business, account: str, month: str, *columns: str) -> list[tuple[Any, ...]]:
    return rows(business, "documents", *columns, account_id=account, billing_month=month)


def test_a_yearly_fee_that_a_suspension_kept_is_charged_once(landing: Landing) -> None:
    """Three accounts, suspended on the day of their yearly fee for an overage that they did not pay."""
    path = landing.folder / "catalogue.yaml"
    text = catalogue("2026-12-01").replace("ends_at_once #", "end_of_paid_cycle #")
    assert "end_of_paid_cycle #" in text
    path.write_text(text)
    overages = {}
    for name, delivered in (("waits", "2026-11-20"), ("upgrades", "2026-11-21"), ("ends", "2026-11-20")):
        landing.customer(name, term="yearly", billed_through="2026-12-10")
        landing.use(name, "2026-11-20", emails=15_001, delivered=delivered)
    business = bill_by_steps(landing.root, "2026-12", "2026-12-31")
    for name in ("waits", "upgrades", "ends"):
        ((overages[name],),) = documents_of(business, name, "2026-12", "number")
        landing.pay(name, overages[name], "3.00", "2026-12-15T10:00:00Z", "failed")
    landing.request("ends", "cancel", "2027-01-05T10:00:00Z", "email")
    if sizes.LONG:
        business = bill_by_steps(landing.root, "2027-01", "2027-01-19")
        assert rows(business, "documents", "total", billing_month="2027-01") == []
    for name in ("waits", "ends"):
        landing.pay(name, overages[name], "3.00", "2027-01-20T10:00:00Z")
    landing.request("upgrades", "upgrade", "2027-01-25T10:00:00Z", package="silver")
    # the usage of one was delivered by mistake: its credit brings access back as the billing date begins
    (landing.folder / "usage/2026-11-21/usage.jsonl").write_text("")
    ingest_usage(Business.load(landing.root, date(2027, 2, 10), issues=False))
    correct(landing.root, "2026-12", "2027-02-10")
    business = bill_by_steps(landing.root, "2027-02", "2027-02-28")
    # it waits until access comes back, and a late cancellation keeps the year
    for name in ("waits", "ends"):
        assert documents_of(business, name, "2027-01", "billing_date", "total") == [(date(2027, 1, 20), "990.00")]
    ((number,),) = documents_of(business, "waits", "2027-01", "number")
    assert rows(business, "lines", "kind", "cycle_start", "cycle_end", number=number) == [
        ("package_fee", date(2027, 1, 10), date(2028, 1, 10))
    ]
    ((number,),) = documents_of(business, "upgrades", "2027-02", "number")
    assert rows(business, "lines", "description", "amount", number=number) == [("Silver, yearly fee", "1990.00")]
    # nothing more falls due in the term, and the next fee on its date
    following = sized(usual=[], long=[(date(2028, 1, 10), "990.00")])
    if sizes.LONG:
        business = bill_by_steps(landing.root, "2028-01", "2028-01-31")
        assert documents_of(business, "waits", "2028-01", "billing_date", "total") == following
    assert len(rows(business, "documents", "number", account_id="waits")) == 2 + len(following)
    found = disagreements(business)
    assert [words for words in found if "the PDF of" not in words] == []
