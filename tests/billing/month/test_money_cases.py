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

GERMANY = """country,region,rate,name,effective_from
DE,,0.19,VAT,2020-01-01
DE,,0.25,VAT,2026-03-01
AT,,0.20,VAT,2020-01-01
"""


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "home")


def agreement(landing: Landing, account: str, since: str, price: str) -> None:
    """One account's own monthly price of the starter package."""
    path = landing.folder / "catalogue.yaml"
    written = yaml.safe_load(path.read_text())
    own = {"account_id": account, "package": "starter", "effective_from": since, "price": {"monthly": price}}
    written["agreements"] = [*(written.get("agreements") or []), own]
    path.write_text(yaml.safe_dump(written))


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


class Taxed:
    """Accounts with taxes, billed for two months, and then for March: what changed in between is given back."""

    def __init__(self, root: Path) -> None:
        landing = Landing(root)
        (landing.folder / "tax_rates.csv").write_text(GERMANY)
        for name, country in (("de", "DE"), ("at-id", "AT"), ("at-exempt", "AT"), ("live", "DE")):
            landing.account(name, country=country)
            landing.request(name, "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter")
        path = landing.deliver(["."], "2026-01-20")
        path.unlink()
        landing.use("live", emails=18_000)
        self.february = self._documents(bill_by_steps(landing.root, "2026-02", "2026-02-10"), "2026-02")
        for name in GIVEN_BACK:
            landing.request(name, "cancel", "2026-01-25T09:00:00Z", "email")
        account_row(landing, "at-id", tax_id="ATU13585627")
        account_row(landing, "at-exempt", tax_exempt="true")
        path.write_text("")
        self.business = bill_by_steps(landing.root, "2026-03", "2026-03-10")
        self.march = self._documents(self.business, "2026-03")

    @staticmethod
    def _documents(business: Business, month: str) -> dict[str, tuple[str, ...]]:
        """By account: number, kind, net, tax and total."""
        columns = ("account_id", "number", "kind", "net", "tax", "total")
        return {account: tuple(rest) for account, *rest in rows(business, "documents", *columns, billing_month=month)}


GIVEN_BACK = ("at-exempt", "at-id", "de")


@pytest.fixture(scope="module")
def taxed(tmp_path_factory: pytest.TempPathFactory) -> Taxed:
    return Taxed(tmp_path_factory.mktemp("taxed") / "home")


def test_what_is_given_back_is_taxed_as_it_was_billed(taxed: Taxed) -> None:
    billed = {name: taxed.february[name] for name in GIVEN_BACK}
    assert {name: total for name, (*_, total) in billed.items()} == {
        "at-exempt": "118.80",
        "at-id": "118.80",
        "de": "117.81",
    }
    notes = {name: taxed.march[name] for name in GIVEN_BACK}
    assert {name: (kind, net, total) for name, (_, kind, net, _, total) in notes.items()} == {
        "at-exempt": ("credit_note", "-99.00", "-118.80"),
        "at-id": ("credit_note", "-99.00", "-118.80"),
        "de": ("credit_note", "-99.00", "-117.81"),
    }
    found = rows(taxed.business, "taxes", "number", "taxed_as")
    named = {number: corrected for number, corrected in found if corrected and number != taxed.march["live"][0]}
    assert named == {notes[name][0]: billed[name][0] for name in GIVEN_BACK}


def test_a_live_document_bills_at_todays_rate_and_gives_back_at_the_old_one(taxed: Taxed) -> None:
    before, kind, *amounts = taxed.february["live"]
    assert (kind, *amounts) == ("invoice", "108.00", "20.52", "128.52")
    number = taxed.march["live"][0]
    assert rows(taxed.business, "taxes", "rate", "taxable", "amount", "taxed_as", number=number) == [
        ("0.19", "-9.00", "-1.71", before),
        ("0.25", "99.00", "24.75", None),
    ]
    assert rows(taxed.business, "lines", "kind", "amount", "gives_back", number=number) == [
        ("package_fee", "99.00", None),
        ("prior_cycle", "-9.00", before),
    ]


def test_notes_of_a_document_never_give_back_more_than_it_billed(landing: Landing) -> None:
    (landing.folder / "tax_rates.csv").write_text("country,region,rate,name,effective_from\nUS,,0.05,Tax,2020-01-01\n")
    agreement(landing, "acme", "2026-01-01", "3.30")
    landing.customer("acme")
    bill_by_steps(landing.root, "2026-01", "2026-01-10")
    text = (landing.folder / "catalogue.yaml").read_text()
    for price in ("2.20", "1.10", "0.00"):
        (landing.folder / "catalogue.yaml").write_text(text.replace("3.30", price))
        business = correct(landing.root, "2026-01", "2026-01-11")
    totals = [Decimal(total) for (total,) in rows(business, "documents", "total")]
    assert sorted(totals) == [Decimal("-1.16"), Decimal("-1.16"), Decimal("-1.15"), Decimal("3.47")]
    assert sum(totals) == 0


def test_a_correction_gives_back_of_a_document_what_that_document_billed(landing: Landing) -> None:
    (landing.folder / "tax_rates.csv").write_text(
        "country,region,rate,name,effective_from\nUS,,0.05,Tax,2020-01-01\nUS,,0.06,Tax,2026-02-01\n"
    )
    agreement(landing, "acme", "2026-01-01", "2.20")
    landing.customer("acme")
    bill_by_steps(landing.root, "2026-01", "2026-01-10")
    text = (landing.folder / "catalogue.yaml").read_text()
    (landing.folder / "catalogue.yaml").write_text(text.replace("2.20", "9.99"))
    business = bill_by_steps(landing.root, "2026-02", "2026-02-10")
    # February's invoice bills January's difference, too
    assert [net for (net,) in rows(business, "documents", "net")] == ["2.20", "17.78"]
    (landing.folder / "catalogue.yaml").write_text(text.replace("2.20", "3.33"))
    business = Business.load(landing.root, date(2026, 2, 11), issues=False)
    bring_up_to_date(business, "2026-02")
    issue_corrections(business, "2026-01", "as agreed")
    assert rows(business, "documents", "net", kind="credit_note") == []
    assert issue_corrections(business, "2026-02", "as agreed").height == 1
    assert rows(business, "documents", "corrects", "net", "tax", kind="credit_note") == [
        ("INV-2026-000002", "-13.32", "-0.80")
    ]
    assert issue_corrections(business, "2026-02", "as agreed").is_empty()
    assert business.register.count() == 3
    assert [words for words in disagreements(business) if "the PDF of" not in words] == []


def test_a_credited_document_suspends_nobody(landing: Landing) -> None:
    landing.customer("acme", on="2026-02-10")
    bill_by_steps(landing.root, "2026-02", "2026-02-10")
    landing.pay("acme", "INV-2026-000001", "99.00", "2026-02-10T10:00:00Z", "failed")
    text = (landing.folder / "catalogue.yaml").read_text()
    agreement(landing, "acme", "2026-02-10", "0.00")
    correct(landing.root, "2026-02", "2026-02-15")
    (landing.folder / "catalogue.yaml").write_text(text)
    agreement(landing, "acme", "2026-02-10", "0.00")
    agreement(landing, "acme", "2026-03-10", "99.00")
    landing.use("acme", "2026-02-20", emails=20_000)
    business = bill_by_steps(landing.root, "2026-03", "2026-03-10")
    states = dict(rows(business, "documents", "number", "status"))
    assert states["INV-2026-000001"] == "credited"
    assert rows(business, "documents", "total", billing_month="2026-03") == [("114.00",)]
    assert rows(business, "unbilled", "reason", account_id="acme") == []


def test_what_a_refund_sends_back_is_what_was_paid(landing: Landing) -> None:
    payments = {"part": "40.00", "whole": "99.00", "nothing": None}
    for name in payments:
        landing.customer(name)
    business = bill_by_steps(landing.root, "2026-01", "2026-01-10")
    numbers = dict(rows(business, "documents", "account_id", "number"))
    for name, paid in payments.items():
        if paid:
            landing.pay(name, numbers[name], paid, "2026-01-12T10:00:00Z")
        landing.request(name, "refund", "2026-01-15T09:00:00Z")
    business = bill_by_steps(landing.root, "2026-01", "2026-01-15")
    assert sorted(rows(business, "decisions", "account_id", "amount", kind="refund")) == [
        ("nothing", "0.00"),
        ("part", "40.00"),
        ("whole", "99.00"),
    ]
    # the whole fee is credited all the same
    assert [total for (total,) in rows(business, "documents", "total", kind="credit_note")] == ["-99.00"] * 3


def test_a_refund_that_is_taken_back_is_due_again(landing: Landing) -> None:
    landing.customer("acme")
    bill_by_steps(landing.root, "2026-01", "2026-01-10")
    refund = landing.request("acme", "refund", "2026-01-15T09:00:00Z")
    bill_by_steps(landing.root, "2026-01", "2026-01-15")
    landing.request("acme", "withdraw", "2026-01-20T09:00:00Z", withdraws=refund)
    business = bill_by_steps(landing.root, "2026-02", "2026-02-10")
    assert rows(business, "documents", "billing_date", "total", kind="invoice") == [
        (date(2026, 1, 10), "99.00"),
        (date(2026, 2, 10), "198.00"),
    ]
    if sizes.LONG:
        business = bill_by_steps(landing.root, "2026-03", "2026-03-10")
        assert rows(business, "documents", "total", billing_month="2026-03") == [("99.00",)]


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
    business = bill_by_steps(landing.root, "2027-01", "2027-01-31")
    # it waits until access comes back, and a late cancellation keeps the year
    for name in ("waits", "ends"):
        assert documents_of(business, name, "2027-01", "billing_date", "total") == [(date(2027, 1, 20), "990.00")]
    ((number,),) = documents_of(business, "waits", "2027-01", "number")
    assert rows(business, "lines", "kind", "cycle_start", "cycle_end", number=number) == [
        ("package_fee", date(2027, 1, 10), date(2028, 1, 10))
    ]
    # the usage was delivered by mistake: its credit brings access back as the billing date begins
    (landing.folder / "usage/2026-11-21/usage.jsonl").write_text("")
    ingest_usage(Business.load(landing.root, date(2027, 2, 10), issues=False))
    correct(landing.root, "2026-12", "2027-02-10")
    business = bill_by_steps(landing.root, "2027-02", "2027-02-28")
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


def test_a_monthly_fee_that_a_suspension_kept_is_never_charged(landing: Landing) -> None:
    landing.customer("acme")
    bill_by_steps(landing.root, "2026-01", "2026-01-31")
    landing.pay("acme", "INV-2026-000001", "99.00", "2026-02-01T10:00:00Z", "failed")
    landing.pay("acme", "INV-2026-000001", "99.00", "2026-02-20T10:00:00Z")
    business = bill_by_steps(landing.root, "2026-03", "2026-03-31")
    assert rows(business, "documents", "billing_date", "total") == [
        (date(2026, 1, 10), "99.00"),
        (date(2026, 3, 10), "99.00"),
    ]
