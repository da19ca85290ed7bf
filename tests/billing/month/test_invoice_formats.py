"""Accounts whose documents their format cannot be are parked, and no one else; a field that is filled in ends it."""

import json
import shutil
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from billing.einvoices.formats import InvoiceFormat
from billing.einvoices.reading import read_invoice
from billing.month.business import Business
from billing.month.corrections import issue_corrections
from billing.month.recorded_inputs.months import moved_inputs
from billing.rendering.v2.page import page_of
from billing.reports.check import problems_of
from billing.reports.verify import disagreements
from tests.by_steps import bill_by_steps, rows
from tests.european_business import RATES, SELLER, change_catalogue, write_accounts
from tests.landing import Landing
from tests.sizes import sized

Customers = list[tuple[str, str, str, dict[str, str]]]
DE: tuple[str, str, str, dict[str, str]] = ("de", "DE", "", {"electronic_address": "0204:991-01234-44"})


def home(root: Path, customers: Customers, policy: dict[str, Any] | None = None, **seller: Any) -> Landing:
    """A German seller with everything an e-invoice needs, but what `seller` takes away; each customer buys starter."""
    landing = Landing(root)
    change_catalogue(landing, currency="EUR", policy={"invoice_format": "xrechnung", **(policy or {})})
    catalogue = yaml.safe_load((landing.folder / "catalogue.yaml").read_text())
    catalogue["seller"] = {key: value for key, value in (SELLER | seller).items() if value is not None}
    (landing.folder / "catalogue.yaml").write_text(yaml.safe_dump(catalogue))
    (landing.folder / "tax_rates.csv").write_text(RATES)
    write_accounts(landing, customers)
    for name, *_ in customers:
        landing.request(name, "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter")
    return landing


def formats(business: Business) -> dict[str, str]:
    """The format of each account's documents."""
    numbers = dict(rows(business, "documents", "number", "account_id"))
    stored = business.register.contents(sorted(numbers))
    return {numbers[number]: json.loads(text)["format"] for number, text in stored}


def parked(business: Business) -> dict[str, str]:
    return {account: detail for account, reason, detail in rows(business, "parked", "account_id", "reason", "detail")}


Fields = dict[str, str]
NOTED, CORRECTED = ("noted", "noted-later"), ("corrected", "corrected-later")


@dataclass(frozen=True)
class Seen:
    """What stood in the tables after a run."""

    formats: dict[str, str]
    parked: dict[str, str]
    documents: list[tuple[Any, ...]]

    @classmethod
    def of(cls, business: Business) -> Self:
        columns = ("account_id", "billing_month", "kind", "total")
        return cls(formats(business), parked(business), rows(business, "documents", *columns))

    def kinds(self, *accounts: str) -> list[tuple[str, str]]:
        return sorted((account, kind) for account, _, kind, _ in self.documents if account in accounts)


def disagreements_of_tables(business: Business) -> list[str]:
    """What `verify` says but of PDFs and e-invoices, which steps do not write."""
    return [line for line in disagreements(business) if "PDF" not in line and "e-invoice" not in line]


class Lives:
    """Accounts that lack fields of their format at first, later or for ever: January, three times, and February twice.

    poor, longer: lack fields from the start, one longer than the other. loses: once January is issued, for ever.
    noted, corrected: for a refund and a correction, of which one account each lacks a field at first.
    """

    def __init__(self, root: Path) -> None:
        poor: dict[str, Fields] = {"poor": {"buyer_reference": "", "city": ""}, "longer": {"buyer_reference": ""}}
        self.landing = home(root, self._customers(poor))
        self.landing.use("longer", "2026-01-20", emails=17_000)
        january = self._billed("2026-01-31")
        self.january = Seen.of(january)
        self.reasons = rows(january, "parked", "account_id", "reason")
        self.disagreements, self.moved = disagreements_of_tables(january), moved_inputs(january, "2026-01")

        for name in NOTED:
            self.landing.request(name, "refund", "2026-01-25T09:00:00Z", "support")
        price = {"package": "starter", "effective_from": "2026-01-01", "price": {"monthly": "79.00"}}
        change_catalogue(self.landing, agreements=[{"account_id": name, **price} for name in CORRECTED])
        lacking: dict[str, Fields] = {name: {"buyer_reference": ""} for name in ("loses", NOTED[1], CORRECTED[1])}
        write_accounts(self.landing, self._customers(poor | lacking))
        business = self._billed("2026-01-31")
        self.lacking = Seen.of(business)
        self.corrected = issue_corrections(business, "2026-01", "as agreed")["account_id"].to_list()
        self.parked_corrections = parked(business)

        loses: dict[str, Fields] = {"loses": lacking["loses"]}
        write_accounts(self.landing, self._customers(poor | loses))
        business = self._billed("2026-01-31")
        self.filled_in = Seen.of(business)
        self.corrected_then = issue_corrections(business, "2026-01", "as agreed")["account_id"].to_list()

        write_accounts(self.landing, self._customers({"longer": poor["longer"]} | loses))
        self.february = Seen.of(self._billed("2026-02-28"))
        write_accounts(self.landing, self._customers(loses))
        self.business = self._billed("2026-02-28")

    def _billed(self, as_of: str) -> Business:
        return bill_by_steps(self.landing.root, as_of[:7], as_of)

    @staticmethod
    def _customers(changed: dict[str, Fields]) -> Customers:
        names = ("poor", "longer", "loses", *NOTED, *CORRECTED)
        return [DE, *((name, "DE", "", changed.get(name, {})) for name in names)]


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    return Lives(tmp_path_factory.mktemp("lives") / "home")


def test_an_account_without_a_field_of_its_format_is_parked_until_it_is_there(lives: Lives) -> None:
    whole = dict.fromkeys(("de", "loses", *NOTED, *CORRECTED), "xrechnung")
    assert lives.january.formats == whole
    assert sorted(lives.reasons) == [("longer", "missing_for_format"), ("poor", "missing_for_format")]
    detail = lives.january.parked["poor"]
    assert "xrechnung needs buyer_reference in accounts; needs city in accounts" in detail
    assert lives.disagreements == []
    assert lives.moved == []

    assert lives.february.formats == whole | {"poor": "xrechnung"}
    assert {"longer"} == set(lives.february.parked) - {"loses"}
    january = [row for row in lives.february.documents if row[1] == "2026-01" and row[0] in ("de", "poor")]
    assert sorted(january) == [(name, "2026-01", "invoice", "117.81") for name in ("de", "poor")]


def test_the_months_of_a_parked_account_are_billed_one_by_one_when_the_field_is_there(lives: Lives) -> None:
    assert rows(lives.business, "documents", "billing_date", "net", account_id="longer") == [
        (date(2026, 1, 10), "99.00"),
        (date(2026, 2, 10), "105.00"),
    ]
    assert set(parked(lives.business)) == {"loses"}


def test_the_policy_pdf_gives_a_pdf_where_a_field_is_missing_and_parks_what_no_field_mends(tmp_path: Path) -> None:
    customers: Customers = [DE, ("poor", "DE", "", {"buyer_reference": ""}), ("us", "US", "", {"region": "CA"})]
    business = bill_by_steps(
        home(tmp_path / "home", customers, {"format_missing": "pdf"}).root, "2026-01", "2026-01-31"
    )
    assert formats(business) == {"de": "xrechnung", "poor": "pdf"}
    assert set(parked(business)) == {"us"}
    assert "category O" in parked(business)["us"]


EXEMPT = {"tax_exempt": "true", "invoice_format": "ubl"}
SEVERAL: Customers = [
    DE,
    ("plain", "US", "", {"invoice_format": "pdf", "city": "", "buyer_reference": ""}),
    ("cii", "US", "", {"invoice_format": "facturx", "buyer_reference": ""}),
    ("mail", "FR", "", {"invoice_format": "peppol", "electronic_address": ""}),
    ("wrong", "FR", "", {"invoice_format": "peppol", "electronic_address": "0208:0403019262"}),
    ("exempt", "AT", "", EXEMPT),
    ("buys", "DE", "", {}),
    ("gift", "DE", "", {}),
]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """January of accounts with formats, exemptions and prepaid credits of their own. Copy its home to go on."""
    landing = home(tmp_path_factory.mktemp("several") / "home", SEVERAL)
    (landing.folder / "credit_grants.csv").write_text(
        "grant_id,account_id,amount,currency,granted_on,kind\n"
        "fund,buys,70.00,EUR,2026-01-05,purchased\ngift,buys,50.00,EUR,2026-01-06,granted\n"
        "other,gift,50.00,EUR,2026-01-06,granted\n"
    )
    bill_by_steps(landing.root, "2026-01", "2026-01-10")
    landing.request("gift", "refund", "2026-01-20T09:00:00Z")
    return bill_by_steps(landing.root, "2026-01", "2026-01-31")


def contents_by_number(business: Business, account: str) -> dict[str, dict[str, Any]]:
    """The contents of the documents of an account."""
    numbers = sorted(number for (number,) in rows(business, "documents", "number", account_id=account))
    return {number: json.loads(text) for number, text in business.register.contents(numbers)}


def test_accounts_have_formats_of_their_own_and_pdf_lacks_nothing(several: Business) -> None:
    found = formats(several)
    assert {name: found.get(name) for name in ("de", "plain", "cii", "mail", "wrong")} == {
        "de": "xrechnung",
        "plain": "pdf",
        "cii": "facturx",
        "mail": None,
        "wrong": None,
    }
    assert "peppol needs electronic_address in accounts" in parked(several)["mail"]
    assert "its checksum is wrong" in parked(several)["wrong"]


@pytest.mark.parametrize("policy", sized(usual=["pdf"], long=["park", "pdf"]))
def test_three_decimals_and_two_taxes_are_parked_under_both_policies(tmp_path: Path, policy: str) -> None:
    landing = home(tmp_path / "home", [DE], {"format_missing": policy, "invoice_format": "ubl"})
    rates = f"{RATES}DE,,0.01,Soli,2020-01-01,,,\n"
    (landing.folder / "tax_rates.csv").write_text(rates)
    business = bill_by_steps(landing.root, "2026-01", "2026-01-31")
    assert formats(business) == {}
    assert "several taxes are charged together" in parked(business)["de"]
    (landing.folder / "tax_rates.csv").write_text(RATES)
    change_catalogue(landing, currency="KWD")
    business = bill_by_steps(landing.root, "2026-01", "2026-01-31")
    assert "two decimals, and KWD has 3" in parked(business)["de"]


def test_exempt_accounts_need_a_reason(several: Business, tmp_path: Path) -> None:
    assert "needs tax_exempt_reason in accounts, or exemption_reason in tax_rates" in parked(several)["exempt"]
    landing = Landing(tmp_path / "new")
    landing.root = shutil.copytree(several.home.root, tmp_path / "home")
    reason = ("exempt", "AT", "", {**EXEMPT, "tax_exempt_reason": "Botschaft"})
    write_accounts(landing, [reason if each[0] == "exempt" else each for each in SEVERAL])
    assert formats(bill_by_steps(landing.root, "2026-01", "2026-01-31"))["exempt"] == "ubl"


@pytest.mark.parametrize("policy", ["park", "pdf"])
def test_a_document_with_a_tax_of_its_own_is_looked_at_by_itself(tmp_path: Path, policy: str) -> None:
    """A charge is taxed by its own category, which the account's other documents say nothing about."""
    landing = home(
        tmp_path / "home", [DE, ("other", "DE", "", {})], {"invoice_format": "ubl", "format_missing": policy}
    )
    rates = landing.folder / "tax_rates.csv"
    rates.write_text(f"{RATES}DE,,0,USt,2020-01-01,E,,\n")
    charges = landing.folder / "one_off_charges.csv"
    charges.write_text(
        "charge_id,account_id,on,description,amount,tax_category,at_once\nc1,de,2026-01-20,Training,40.00,E,yes\n"
    )
    business = bill_by_steps(landing.root, "2026-01", "2026-01-31")
    found = [(account, json.loads(text)["format"]) for account, text in contents_of(business)]
    if policy == "park":
        assert found == [("other", "ubl")]
        assert "its document of 2026-01-20 cannot be ubl: found no tax_exempt_reason" in parked(business)["de"]
    else:
        assert found == [("de", "ubl"), ("other", "ubl"), ("de", "pdf")]
        assert parked(business) == {}
    rates.write_text(f"{RATES}DE,,0,USt,2020-01-01,E,Unterricht nach § 4 Nr. 21 UStG,\n")
    business = bill_by_steps(landing.root, "2026-01", "2026-01-31")
    found = [(account, json.loads(text)["format"]) for account, text in contents_of(business)]
    assert sorted(found) == [("de", "pdf" if policy == "pdf" else "ubl"), ("de", "ubl"), ("other", "ubl")]


def contents_of(business: Business) -> list[tuple[str, str]]:
    """Account and content of each document, by number."""
    numbers = dict(rows(business, "documents", "number", "account_id"))
    return [(numbers[number], text) for number, text in business.register.contents(sorted(numbers))]


def test_shards_park_and_bill_as_one(tmp_path: Path) -> None:
    shards = sized(usual=2, long=3)
    customers: Customers = [DE, *((f"c{n}", "DE", "", {"buyer_reference": "" if n % 2 else "ref"}) for n in range(8))]
    landing = home(tmp_path / "home", customers)
    business = bill_by_steps(landing.root, "2026-01", "2026-01-31", shards=shards)
    assert set(formats(business)) == {"de", "c0", "c2", "c4", "c6"}
    assert set(parked(business)) == {"c1", "c3", "c5", "c7"}
    write_accounts(landing, [DE, *((f"c{n}", "DE", "", {}) for n in range(8))])
    business = bill_by_steps(landing.root, "2026-01", "2026-01-31", shards=shards)
    assert len(formats(business)) == 9 and parked(business) == {}


def test_a_note_of_an_account_that_lacks_a_field_waits_and_others_are_issued(lives: Lives) -> None:
    invoices = [(name, "invoice") for name in NOTED]
    assert lives.lacking.kinds(*NOTED) == [("noted", "credit_note"), *invoices]
    assert "buyer_reference" in lives.lacking.parked["noted-later"]
    assert lives.filled_in.kinds(*NOTED) == sorted([*invoices, *((name, "credit_note") for name in NOTED)])
    assert set(lives.filled_in.parked) == {"poor", "longer"}


def test_a_correction_of_an_account_that_lacks_a_field_waits_and_others_are_issued(lives: Lives) -> None:
    assert lives.corrected == ["corrected"]
    assert "buyer_reference" in lives.parked_corrections["corrected-later"]
    assert lives.corrected_then == ["corrected-later"]


def test_closed_documents_of_an_account_that_loses_a_field_stay(lives: Lives) -> None:
    for seen in (lives.lacking, lives.filled_in):
        assert [row for row in seen.documents if row[0] == "loses"] == [("loses", "2026-01", "invoice", "117.81")]
        assert "loses" not in seen.parked
    assert rows(lives.business, "parked", "account_id", billing_month="2026-02") == [("loses",)]


def test_a_document_that_only_its_lines_make_impossible_is_parked(tmp_path: Path) -> None:
    """What is given back was taxed, and what is billed now is not: category O stands beside another."""
    landing = home(tmp_path / "home", [("ie", "FR", "", {})], {"invoice_format": "ubl"})
    bill_by_steps(landing.root, "2026-01", "2026-01-31")
    # The customer moves to where no tax holds, and an agreement gives back part of the first fee.
    write_accounts(landing, [("ie", "US", "", {})])
    own = {"account_id": "ie", "package": "starter", "effective_from": "2026-01-01", "price": {"monthly": "79.00"}}
    change_catalogue(landing, agreements=[own])
    business = bill_by_steps(landing.root, "2026-02", "2026-02-28")
    assert rows(business, "documents", "account_id", billing_month="2026-02") == []
    assert "category O" in parked(business)["ie"]
    # Each run looks at it again.
    assert "contradictions" in moved_inputs(business, "2026-02")
    write_accounts(landing, [("ie", "FR", "", {})])
    business = bill_by_steps(landing.root, "2026-02", "2026-02-28")
    assert rows(business, "documents", "net", billing_month="2026-02") == [("59.00",)]


def test_check_names_the_field_and_where_to_set_it(tmp_path: Path) -> None:
    customers: Customers = [DE, ("poor", "DE", "", {"postal_code": ""})]
    landing = home(tmp_path / "home", customers, contact=None, registration={"scheme": "9930", "id": "1"})
    found = [line for line in problems_of(landing.root) if "missing_for_format" in line]
    assert [line.split(":")[0] for line in found] == ["account de", "account poor"]
    assert "needs seller.contact.name in catalogue.yaml" in found[0]
    assert "does not know the scheme 9930 of seller.registration" in found[0]
    assert "needs postal_code in accounts" in found[1] and "postal_code" not in found[0]


def test_a_home_of_pdfs_is_asked_for_nothing(tmp_path: Path) -> None:
    landing = home(tmp_path / "home", [("us", "US", "", {"city": ""})], {"invoice_format": "pdf"}, registration=None)
    assert not [line for line in problems_of(landing.root) if "missing_for_format" in line]
    business = bill_by_steps(landing.root, "2026-01", "2026-01-31")
    assert formats(business) == {"us": "pdf"}
    assert parked(business) == {}


def test_a_prepayment_is_a_pdf_and_credits_are_the_prepaid_amount(several: Business) -> None:
    assert "buys" not in parked(several)
    contents = list(contents_by_number(several, "buys").values())
    assert [content["format"] for content in contents] == ["pdf", "xrechnung"]
    assert [content["tax"] for content in contents] == ["0.00", "18.81"]
    invoice = read_invoice(contents[1], InvoiceFormat.XRECHNUNG)
    assert (invoice.total, invoice.prepaid, invoice.payable) == (Decimal("117.81"), Decimal(50), Decimal("67.81"))
    assert disagreements_of_tables(several) == []


def test_a_credit_note_says_what_it_gives_back_as_credit(several: Business) -> None:
    (content,) = (each for each in contents_by_number(several, "gift").values() if each["kind"] == "credit_note")
    assert (content["total"], content["credits_applied"], content["due"]) == ("-117.81", "-50.00", "-67.81")
    invoice = read_invoice(content, InvoiceFormat.XRECHNUNG)
    assert (invoice.total, invoice.prepaid, invoice.payable) == (Decimal("117.81"), Decimal(50), Decimal("67.81"))
    page = str(page_of({**content, "language": "en"}).context["credits"])
    assert "Given back as prepaid credit" in page
    assert "Credits applied" not in page
