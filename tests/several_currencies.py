"""A business that sells in dollars, euros, yen and dinars: packages, tariffs, coupons, an add-on, a yearly price."""

import copy
import json
import shutil
from datetime import date
from pathlib import Path

import pytest

from billing.month.business import Business
from tests.billed_once import billed_once
from tests.by_steps import bill_by_steps
from tests.landing import ACCOUNT_HEADER, Landing

CATALOGUE = """\
currency: USD
seller:
  name: Example Services
  address: [1 Main Street]
  country: US
  tax_id: ""
  support_email: support@example.com
  billing_policy_url: https://example.com/billing
policy:
  billing_start: 2026-01-01
  hold_fee: {USD: "5.00", EUR: "4.00"}
  reminders: [{days: 7, fee: "3.00"}]
metrics:
  leads: {event: leads.changed, kind: gauge, measure: peak, value: data.delta, carries: delta}
  emails: {event: email.sent, kind: counter, measure: sum, value: data.count}
coupons:
  - {name: ten, percent: "10"}
  - {name: off, amount: {USD: "10.00", JPY: "1000"}}
add_ons:
  - name: support
    versions: [{effective_from: 2026-01-01, price: {monthly: {USD: "20.00", KWD: "6.125"}}}]
packages:
  - name: starter
    rank: 1
    versions:
      - effective_from: 2026-01-01
        price:
          monthly: {USD: "99.00", EUR: "89.00", JPY: "15000", KWD: "30.555"}
          yearly: {USD: "990.00", EUR: "890.00"}
        allowances: {emails: 1000, leads: 10}
        overage:
          emails: {model: block, size: 1000, price: {USD: "3.00", EUR: "2.75", JPY: "450", KWD: "0.925"}}
        auto_upgrade_on: [leads]
  - name: silver
    rank: 2
    versions:
      - effective_from: 2026-01-01
        price: {monthly: "199.00"}
        allowances: {emails: 5000, leads: 100}
        overage: {emails: {model: block, size: 1000, price: "2.00"}}
        auto_upgrade_on: [leads]
  - name: gold
    rank: 3
    versions:
      - effective_from: 2026-01-01
        price: {monthly: {USD: "499.00", EUR: "449.00", JPY: "75000", KWD: "153.250"}}
        allowances: {emails: 20000, leads: null}
        overage:
          emails:
            model: graduated
            tiers: [{up_to: null, unit_price: {USD: "0.001", EUR: "0.0009", JPY: "0.15", KWD: "0.0003"}}]
"""
CURRENCIES = {"usd": "USD", "eur": "EUR", "jpy": "JPY", "kwd": "KWD"}


class SeveralCurrencies(Landing):
    """The business; its accounts are named by their currency."""

    def __init__(self, root: Path, catalogue: str = CATALOGUE) -> None:
        super().__init__(root, catalogue)
        self.accounts: dict[str, tuple[str, str]] = {}
        self._write()

    def copied(self, root: Path) -> "SeveralCurrencies":
        """The same business in another folder."""
        twin = copy.copy(self)
        twin.root, twin.accounts = shutil.copytree(self.root, root), self.accounts.copy()
        return twin

    def open(self, name: str, currency: str, country: str = "US") -> None:
        """An account, or another currency for it."""
        self.accounts[name] = (currency, country)
        self._write()

    def buy(
        self, name: str, currency: str, package: str = "starter", on: str = "2026-01-10", **members: str | int
    ) -> None:
        """An account that buys a package at nine in the morning."""
        self.open(name, currency)
        self.request(name, "subscribe", f"{on}T09:00:00Z", "self_service", package=package, **members)

    def pay_in(
        self, account: str, document: str, amount: str, currency: str, at: str, status: str = "succeeded"
    ) -> str:
        """A payment; its id."""
        self.written += 1
        payment = {"payment_id": f"payment-{self.written}", "account_id": account, "document": document, "at": at}
        self._append("payments.jsonl", json.dumps(payment | {"amount": amount, "currency": currency, "status": status}))
        return f"payment-{self.written}"

    def _write(self) -> None:
        rows = [
            f"{name},{name.title()} Inc.,billing@example.com,1 Main Street,,Springfield,,00000,{country},,,,{currency}"
            for name, (currency, country) in self.accounts.items()
        ]
        (self.folder / "accounts.csv").write_text("\n".join([f"{ACCOUNT_HEADER},currency", *rows, ""]))


def four_customers(root: Path) -> SeveralCurrencies:
    """One customer of a starter package in each currency, with 2,500 emails in the first cycle: two blocks over."""
    business = SeveralCurrencies(root)
    for name, currency in CURRENCIES.items():
        business.buy(name, currency)
        business.use(name, "2026-01-20", emails=2500)
    return business


def january_in_shards(factory: pytest.TempPathFactory) -> tuple[Business, Business]:
    """January of the four customers in one piece and in two shards. Do not issue in them."""
    shared, folder = billed_once(factory, "currencies-in-shards", _bill), factory.mktemp("currencies")
    whole, shards = (
        Business.load(shutil.copytree(shared / str(count), folder / str(count)), date(2026, 1, 31), shards=count)
        for count in (1, 2)
    )
    return whole, shards


def _bill(folder: Path) -> None:
    for count in (1, 2):
        bill_by_steps(four_customers(folder / str(count)).root, "2026-01", "2026-01-31", shards=count)
