"""What is asked for before issuing, of accounts, is what is asked for of a document: two ways to say one thing."""

import copy
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from billing.einvoices import InexpressibleError, InvoiceFormat, write_xml
from billing.einvoices.formats import E_INVOICES
from billing.einvoices.lacking import lacking
from billing.einvoices.missing import FIELD, INEXPRESSIBLE, missing_for_format, problems_in_words
from billing.einvoices.reading import read_invoice
from billing.inputs.accounts import ACCOUNT_COLUMNS
from billing.inputs.catalogue_file import load_catalogue
from billing.model.catalogue import Catalogue
from billing.model.seller import Bank, Contact, Identifier, Seller
from billing.starter import starter_catalogue
from tests.invoice_rules import findings
from tests.rich_documents import Content, brief, invoice, part
from tests.sizes import sized

TAXES = {"billing_date": pl.Date, "category": pl.String, "exemption_reason": pl.String, "exemption_code": pl.String}
COMPLETE: dict[str, Any] = {
    "account_id": "acme",
    "name": "Acme",
    "email": "a@example.com",
    "address_line1": "1 Quarry Lane",
    "city": "Berlin",
    "postal_code": "10115",
    "country": "DE",
    "tax_id": "DE811907980",
    "buyer_reference": "991-1",
    "order_reference": "PO-1",
    "electronic_address": "0204:991-1",
    "registration": "0204:HRB1",
}
SELLER = Seller(
    name="Seller GmbH",
    address=(),
    country="DE",
    tax_id="DE136695976",
    support_email="s@example.com",
    billing_policy_url="",
    street="Street 1",
    city="Hamburg",
    postal_code="20457",
    registration=Identifier("0204", "HRB 2"),
    tax_number="22/123",
    contact=Contact("Billing", "+49 40 1", "billing@example.com"),
    bank=Bank("Seller GmbH", "DE89370400440532013000", "COBADEFFXXX"),
    electronic_address=Identifier("9930", "DE136695976"),
)

Case = tuple[dict[str, Any], Seller, str | None]
EVERY = sized(usual=4, long=1)
"""Each format takes every so many of the cases."""


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    path = tmp_path_factory.mktemp("catalogue") / "catalogue.yaml"
    path.write_text(starter_catalogue())
    return replace(load_catalogue(path), seller=SELLER)


def asked(
    catalogue: Catalogue,
    chosen: str,
    account: dict[str, Any],
    seller: Seller,
    category: str | None,
) -> list[str]:
    """What is asked of the account before issuing."""
    (found,) = asked_of_all(catalogue, chosen, [(account, seller, category)])
    return found[FIELD]


def asked_of_all(catalogue: Catalogue, chosen: str, cases: list[Case]) -> list[dict[str, list[str]]]:
    """What is asked of each account before issuing, by kind; the accounts of a seller are asked together."""
    found: list[dict[str, list[str]]] = [{FIELD: [], INEXPRESSIBLE: []} for _ in cases]
    for seller in {id(seller): seller for _, seller, _ in cases}.values():
        its = [(str(place), case) for place, case in enumerate(cases) if case[1] is seller]
        own = [
            dict.fromkeys(ACCOUNT_COLUMNS) | account | {"account_id": name, "invoice_format": chosen}
            for name, (account, *_) in its
        ]
        taxed = [{"account_id": name, "category": category} for name, (*_, category) in its if category is not None]
        accounts = pl.DataFrame(own, schema=dict.fromkeys(ACCOUNT_COLUMNS, pl.String))
        taxes = pl.DataFrame(taxed, schema={"account_id": pl.String, **TAXES})
        missing = missing_for_format(accounts, taxes, replace(catalogue, seller=seller))
        for name, kind, what in missing.select("account_id", "kind", "what").iter_rows():
            found[int(name)][kind].append(what)
    return found


def document(account: dict[str, Any], seller: Seller, category: str | None) -> Content:
    """A document of the account."""

    def identifier(text: str | None) -> dict[str, str] | None:
        return None if not text else dict(zip(("scheme", "id"), text.split(":", 1), strict=True))

    def of(its: Identifier | None) -> dict[str, str] | None:
        return None if its is None else {"scheme": its.scheme, "id": its.id}

    content = copy.deepcopy(brief("de"))
    said = {name: account.get(name) or "" for name in ("account_id", "name", "email", "city", "postal_code", "country")}
    said |= {"street": account.get("address_line1") or "", "tax_id": account.get("tax_id") or "", "region": ""}
    content = part(
        content,
        "customer",
        **said,
        line2="",
        registration=identifier(account.get("registration")),
        electronic_address=identifier(account.get("electronic_address")),
    )
    contact, bank = seller.contact, seller.bank
    content = part(
        content,
        "seller",
        country=seller.country,
        street=seller.street,
        address=[],
        tax_id=seller.tax_id,
        tax_number=seller.tax_number,
        city=seller.city,
        postal_code=seller.postal_code,
        support_email=seller.support_email,
        registration=of(seller.registration),
        electronic_address=of(seller.electronic_address),
        contact=None if contact is None else {"name": contact.name, "phone": contact.phone, "email": contact.email},
        bank=None if bank is None else {"holder": bank.holder, "iban": bank.iban, "bic": bank.bic},
    )
    amount = "56.81" if category == "S" else "0.00"
    row = invoice("de")["taxes"][0] | {"taxable": "299.00", "amount": amount, "category": category}
    fee = {**content["lines"][0], "tax_category": category or "O", "tax_rate": "0.19"}
    total = "355.81" if category == "S" else "299.00"
    references = {name: account.get(name) or "" for name in ("buyer_reference", "order_reference")}
    return (
        content
        | references
        | {"lines": [fee], "taxes": [row] if category else [], "tax": amount, "total": total, "due": total}
    )


ACCOUNT_FIELDS = [name for name in COMPLETE if name not in ("account_id", "name")]
SELLER_FIELDS: list[dict[str, Any]] = [
    {"tax_id": ""},
    {"tax_id": "", "tax_number": ""},
    {"tax_id": "", "registration": None},
    {"registration": None},
    {"city": ""},
    {"postal_code": ""},
    {"contact": None},
    {"contact": Contact("Billing", "", "")},
    {"contact": None, "support_email": ""},
    {"bank": None},
    {"electronic_address": None},
    {"electronic_address": None, "support_email": "", "contact": None},
    {"electronic_address": Identifier("0999", "1")},
    {"electronic_address": Identifier("0088", "7350053850119")},
    {"registration": Identifier("9930", "1")},
    {"country": "FR", "registration": Identifier("0002", "303265045"), "tax_id": "FR40303265045"},
    {"country": "FR", "registration": Identifier("0002", "30326504"), "tax_id": "FR40303265045"},
    {"country": "NL", "registration": Identifier("0106", "12345678"), "tax_id": "NL4495445B01"},
    {"country": "NL", "tax_id": "NL4495445B01", "city": "", "bank": None},
    {"country": "NL", "registration": Identifier("0106", "12345678"), "tax_id": "NL4495445B01", "street": ""},
    {"country": "IT", "tax_id": "IT00743110157", "tax_number": ""},
    {"country": "IT", "tax_id": "IT00743110157", "street": "", "tax_number": ""},
    {"country": "UK"},
]


@pytest.mark.parametrize("chosen", E_INVOICES)
@pytest.mark.parametrize("category", ["S", "E", "AE", "K", "G", None])
def test_complete_accounts_lack_only_a_reason_of_exemption(
    catalogue: Catalogue, chosen: InvoiceFormat, category: str | None
) -> None:
    found = asked(catalogue, chosen, COMPLETE, SELLER, category)
    assert [what for what in found if "exempt" not in what] == []
    assert bool(found) == (category == "E")


@pytest.mark.parametrize("chosen", E_INVOICES)
def test_both_ways_ask_for_the_same(catalogue: Catalogue, chosen: InvoiceFormat) -> None:
    """Whatever is taken away, both ask for something or neither does; where neither does, the document is valid."""
    sellers = [(changes.get("country", "FR"), replace(SELLER, **changes)) for changes in SELLER_FIELDS]
    cases: list[Case] = []
    for category in ("S", "AE", "K", "G", None):
        cases += [({**COMPLETE, name: None}, SELLER, category) for name in ACCOUNT_FIELDS]
        cases += [({**COMPLETE, "registration": None, "tax_id": None}, SELLER, category)]
        cases += [({**COMPLETE, "country": country}, SELLER, category) for country in ("GERMANY", "XK", "1A", "XI")]
        cases += [({**COMPLETE, "buyer_reference": None, "order_reference": None}, SELLER, category)]
        for country, changed in sellers:
            abroad = {**COMPLETE, "country": country, "address_line1": None}
            cases += [(COMPLETE, changed, category), (abroad, changed, category)]
    # A part of them for each format, and another part for the next one.
    cases = cases[E_INVOICES.index(chosen) % EVERY :: EVERY]
    valid, refused = 0, 0
    wanted = asked_of_all(catalogue, chosen, cases)
    for number, ((account, seller, category), of_case) in enumerate(zip(cases, wanted, strict=True)):
        before = of_case[FIELD]
        content = document(account, seller, category)
        try:
            read = read_invoice(content, chosen)
        except InexpressibleError:
            refused += 1
            assert of_case[INEXPRESSIBLE]
            continue
        assert of_case[INEXPRESSIBLE] == []
        (after,) = lacking([(read, chosen)])
        assert bool(before) == bool(after), (number, account, seller, category, before, after)
        # The rules run on a part of them: each takes a while.
        if not after and number % sized(usual=5, long=12) == 0:
            valid += 1
            assert findings(write_xml(content, chosen)) == [], (account, seller, category)
    assert valid >= 3
    assert bool(refused) == (chosen in (InvoiceFormat.XRECHNUNG, InvoiceFormat.PEPPOL))


def test_what_is_missing_is_said_in_one_sentence_an_account(catalogue: Catalogue) -> None:
    accounts = pl.DataFrame(
        [dict.fromkeys(ACCOUNT_COLUMNS) | {"account_id": "a", "country": "DE", "invoice_format": "peppol"}],
        schema=dict.fromkeys(ACCOUNT_COLUMNS, pl.String),
    )
    taxes = pl.DataFrame([{"account_id": "a", "category": "S"}], schema={"account_id": pl.String, **TAXES})
    ((account, detail),) = problems_in_words(missing_for_format(accounts, taxes, catalogue)).iter_rows()
    assert account == "a" and detail.startswith("its format peppol needs buyer_reference in accounts; needs city in")


DUTCH = replace(SELLER, country="NL", tax_id="NL004495445B01", registration=Identifier("0106", "12345678"))
ITALIAN = replace(SELLER, country="IT", tax_id="IT00743110157", tax_number="")


@pytest.mark.parametrize(
    ("seller", "account", "asked_for"),
    [
        (DUTCH, {}, []),
        # NL-R-002 and 007: wherever the customer is.
        (
            replace(DUTCH, street="", city="", postal_code="", bank=None),
            {},
            ["seller.street", "seller.city", "seller.postal_code", "seller.bank"],
        ),
        # NL-R-003 and 005.
        (replace(DUTCH, registration=SELLER.registration), {}, ["seller.registration with the scheme 0106 or 0190"]),
        (DUTCH, {"country": "NL"}, ["registration with the scheme 0106 or 0190"]),
        (DUTCH, {"country": "NL", "registration": "0106:12345678"}, []),
        (DUTCH, {"country": "NL", "registration": None}, []),
        # NL-R-004.
        (
            DUTCH,
            {"country": "NL", "registration": None, "address_line1": None, "city": None, "postal_code": None},
            ["address_line1", "city", "postal_code"],
        ),
        # IT-R-001 to 004.
        (ITALIAN, {}, []),
        (
            replace(ITALIAN, street="", tax_number="22/123"),
            {},
            ["seller.street", "seller.tax_number of 11 to 16 letters and digits"],
        ),
    ],
)
def test_peppol_has_rules_of_the_sellers_country(
    catalogue: Catalogue, seller: Seller, account: dict[str, Any], asked_for: list[str]
) -> None:
    row = COMPLETE | account
    before = asked(catalogue, InvoiceFormat.PEPPOL, row, seller, "S")
    content = document(row, seller, "S")
    (after,) = lacking([(read_invoice(content, InvoiceFormat.PEPPOL), InvoiceFormat.PEPPOL)])
    assert list(after) == asked_for
    assert sorted(before) == sorted(
        f"needs {field} {'in catalogue.yaml' if field.startswith('seller.') else 'in accounts'}" for field in asked_for
    )
    assert findings(write_xml(content, InvoiceFormat.PEPPOL)) == []


def test_a_dutch_credit_note_names_an_invoice_in_peppol() -> None:
    """NL-R-001: a negative charge that was never billed has none to name."""
    account = COMPLETE | {"registration": None}
    content = document(account, DUTCH, "S") | {"kind": "credit_note", "corrected": None}
    content |= {key: f"-{content[key]}" for key in ("net", "tax", "total", "due")}
    content["lines"] = [{**content["lines"][0], "amount": "-299.00"}]
    content["taxes"] = [{**content["taxes"][0], "taxable": "-299.00", "amount": "-56.81"}]
    corrected = {"number": "INV-1", "issued_on": "2026-01-10", "billing_date": "2026-01-10"}
    its = [read_invoice({**content, "corrected": each}, InvoiceFormat.PEPPOL) for each in (None, corrected)]
    found = lacking([(each, InvoiceFormat.PEPPOL) for each in its])
    assert found == [("number of a document that it credits",), ()]
    assert lacking([(its[0], InvoiceFormat.UBL)]) == [()]


@pytest.mark.parametrize(
    ("category", "code", "asked_for"),
    [
        ("E", "VATEX-XX", ["does not know the exemption_code VATEX-XX in tax_rates"]),
        ("E", "VATEX-EU-132", []),
        ("S", "VATEX-XX", []),  # no reason is written of a tax that is charged
    ],
)
def test_an_unknown_code_of_an_exemption_is_named(
    catalogue: Catalogue, category: str, code: str, asked_for: list[str]
) -> None:
    row = dict.fromkeys(ACCOUNT_COLUMNS) | COMPLETE | {"invoice_format": "ubl"}
    taxes = pl.DataFrame(
        [{"account_id": "acme", "category": category, "exemption_code": code}],
        schema={"account_id": pl.String, **TAXES},
    )
    accounts = pl.DataFrame([row], schema=dict.fromkeys(ACCOUNT_COLUMNS, pl.String))
    assert missing_for_format(accounts, taxes, catalogue)["what"].to_list() == asked_for
    content = document(COMPLETE, SELLER, category)
    content["taxes"][0]["exemption_code"] = code
    assert any(lacking([(read_invoice(content, InvoiceFormat.UBL), InvoiceFormat.UBL)])) == bool(asked_for)
