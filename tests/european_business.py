"""A business that bills across Europe, with every field that e-invoices need, for tests."""

import csv
from datetime import date
from pathlib import Path
from typing import Any, Final

import yaml

from billing.month.business import Business
from billing.month.corrections import issue_corrections
from billing.month.scratch_copy import bring_up_to_date
from tests.by_steps import bill_by_steps
from tests.landing import Landing

SELLER: Final[dict[str, Any]] = {
    "name": "Beispiel Post GmbH",
    "street": "Hafenstraße 40",
    "city": "Hamburg",
    "postal_code": "20457",
    "country": "DE",
    "tax_id": "DE136695976",
    "tax_number": "22/123/00042",
    "registration": {"scheme": "0204", "id": "HRB 00042"},
    "electronic_address": "9930:DE136695976",
    "contact": {"name": "Buchhaltung", "phone": "+49 40 5550100", "email": "billing@example.com"},
    "bank": {"holder": "Beispiel Post GmbH", "iban": "DE89370400440532013000", "bic": "COBADEFFXXX"},
    "support_email": "billing@example.com",
    "billing_policy_url": "https://example.com/policy",
    "language": "de",
}
RATES: Final = """country,region,rate,name,effective_from,category,exemption_reason,exemption_code
DE,,0.19,USt,2020-01-01,,,
AT,,0.20,USt,2020-01-01,,,
FR,,0.20,TVA,2020-01-01,,,
NL,,0.21,BTW,2020-01-01,,,
IE,,0,VAT,2020-01-01,Z,,
CH,,0.081,MWST,2020-01-01,,,
GB,,0,VAT,2020-01-01,G,,
"""
# account_id, country, tax_id, further columns
CUSTOMERS: Final[list[tuple[str, str, str, dict[str, str]]]] = [
    ("de", "DE", "DE811907980", {"buyer_reference": "991-01234-44", "electronic_address": "9930:DE811907980"}),
    ("at", "AT", "", {"electronic_address": "9914:ATU13585627"}),
    ("exempt", "AT", "", {"tax_exempt": "true", "tax_exempt_reason": "Steuerbefreit nach § 6 UStG"}),
    ("fr", "FR", "FR40303265045", {"registration": "0002:303265045", "electronic_address": "0225:303265045"}),
    ("nl", "NL", "NL4495445B01", {"electronic_address": "0106:12345678"}),
    ("ie", "IE", "", {"electronic_address": "9935:IE6433435F"}),
    ("ch", "CH", "", {}),
    ("gb", "GB", "", {}),
    ("us", "US", "", {"region": "CA"}),
]
_ADDRESS: Final = ("name", "email", "address_line1", "address_line2", "city", "region", "postal_code", "country")
_REFERENCES: Final = ("buyer_reference", "order_reference", "electronic_address", "registration", "invoice_format")
COLUMNS: Final = (
    *("account_id", *_ADDRESS, "tax_id", "tax_exempt", "tax_exempt_reason", "locale", "currency", *_REFERENCES),
)


def write_accounts(landing: Landing, customers: list[tuple[str, str, str, dict[str, str]]], **every: str) -> None:
    """accounts.csv with complete addresses and references."""
    with (landing.folder / "accounts.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for name, country, tax_id, further in customers:
            row = {
                "account_id": name,
                "name": f"Muster & Söhne {name.upper()} <1>",
                "email": f"{name}@example.com",
                "address_line1": "Musterweg 1",
                "city": "Musterstadt",
                "postal_code": "12345",
                "country": country,
                "tax_id": tax_id,
                "buyer_reference": f"ref-{name}",
                "order_reference": f"PO-{name}",
                "electronic_address": "0088:7350053850118",
            }
            writer.writerow(row | every | further)


def change_catalogue(landing: Landing, **changes: Any) -> dict[str, Any]:
    """Change top members of the catalogue; mappings are merged."""
    path = landing.folder / "catalogue.yaml"
    catalogue: dict[str, Any] = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        catalogue[key] = {**catalogue[key], **value} if isinstance(value, dict) and key in catalogue else value
    path.write_text(yaml.safe_dump(catalogue, allow_unicode=True))
    return catalogue


def european(root: Path, **policy: Any) -> Landing:
    """Customers in eight countries, before anything is billed: graduated prices, a minimum, a year, blocks."""
    landing = Landing(root)
    catalogue = change_catalogue(
        landing, currency="EUR", policy={"payment_days": 14, "invoice_format": "ubl", **policy}
    )
    catalogue["seller"] = SELLER
    catalogue["metrics"]["bandwidth"]["unit_code"] = "E34"
    starter = catalogue["packages"][0]["versions"][0]["overage"]
    starter["emails"] = {
        "model": "graduated",
        "tiers": [{"up_to": 1000, "unit_price": "0.003"}, {"up_to": None, "unit_price": "0.0021"}],
        "minimum": "5.00",
    }
    (landing.folder / "catalogue.yaml").write_text(yaml.safe_dump(catalogue, allow_unicode=True))
    (landing.folder / "tax_rates.csv").write_text(RATES)
    (landing.folder / "exchange_rates.csv").write_text("on,currency,to,rate\n2026-01-01,EUR,CHF,0.9412\n")
    write_accounts(landing, CUSTOMERS)
    for name, *_ in CUSTOMERS:
        term = {"term": "yearly"} if name == "at" else {}
        landing.request(name, "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter", **term)
        landing.use(name, emails=16_500 if name != "gb" else 15_001, bytes=61_200_000_001, domains=2)
    return landing


def european_documents(root: Path, **policy: Any) -> Business:
    """Three months of it: late usage, credit notes of refunds and corrections, a debit note, a negative line."""
    landing = european(root, **policy)
    bill_by_steps(root, "2026-02", "2026-02-10")
    for name in ("de", "fr", "nl", "us"):
        landing.use(name, "2026-01-22", emails=12_345, delivered="2026-02-20")
    for name in ("ch", "ie"):
        landing.request(name, "refund", "2026-02-05T09:00:00Z", "support")
    for name, price in (("de", "79.00"), ("at", "1190.00"), ("exempt", "49.00"), ("fr", "89.00"), ("us", "109.00")):
        _agree(landing, name, price)
    business = bill_by_steps(root, "2026-02", "2026-02-28")
    business = Business.load(root, date(2026, 2, 28), issues=False)
    bring_up_to_date(business, "2026-02")
    issue_corrections(business, "2026-02", "Preis wie vereinbart", ["at", "exempt", "fr"])
    return bill_by_steps(root, "2026-03", "2026-03-10")


def _agree(landing: Landing, account: str, price: str) -> None:
    path = landing.folder / "catalogue.yaml"
    catalogue = yaml.safe_load(path.read_text())
    term = "yearly" if account == "at" else "monthly"
    own = {"account_id": account, "package": "starter", "effective_from": "2026-01-01", "price": {term: price}}
    if term == "yearly":
        own["price"] = {"monthly": "99.00", "yearly": price}
    catalogue["agreements"] = [*(catalogue.get("agreements") or []), own]
    path.write_text(yaml.safe_dump(catalogue, allow_unicode=True))
