"""A business of 1,000 customers moves in from one table, in the middle of all their cycles.

What it should come to is followed customer by customer in plain Python, which shares nothing with the program.
"""

import calendar
import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from billing.model.account_tables import JOURNAL
from billing.month.business import Business
from billing.reports.journal import receivable_differences, unbalanced_entries, write_journal
from billing.reports.moving_in import move_in
from billing.reports.profiles import account_profiles, balances
from billing.store.frames import read_frame
from tests import sizes
from tests.billing.month.test_moving_in import catalogue
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing, event

CUSTOMERS = 1_000
MOVED_ON = date(2026, 2, 1)
RUNS = (date(2026, 2, 28), date(2026, 3, 31))
AS_OF = RUNS[-1]
CENT = Decimal("0.01")
ZERO = Decimal(0)
# fee of a month and of a year, leads and emails included, price of 1,000 emails more
PACKAGES = {
    "starter": (Decimal(99), Decimal(990), 2_500, 15_000, Decimal(3)),
    "silver": (Decimal(199), Decimal(1990), 12_500, 100_000, Decimal(2)),
    "gold": (Decimal(299), Decimal(2990), 25_000, 200_000, Decimal("1.5")),
}


def cents(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_UP)


@dataclass
class Document:
    on: date
    fees: list[tuple[Decimal, date, date]] = field(default_factory=list)
    overage: Decimal = ZERO
    rate: Decimal = ZERO

    @property
    def net(self) -> Decimal:
        return sum((amount for amount, _, _ in self.fees), self.overage)

    @property
    def tax(self) -> Decimal:
        return cents(self.net * self.rate)

    @property
    def total(self) -> Decimal:
        return self.net + self.tax

    @property
    def issued_on(self) -> date:
        return next(day for day in RUNS if day >= self.on)


@dataclass
class Customer:
    """A customer, and what is due from them, date by date."""

    name: str
    country: str = "US"
    package: str = "starter"
    term: str = "monthly"
    started_on: date = date(2023, 5, 10)
    billed_through: date = MOVED_ON
    usage_from: date | None = None
    trial_days: int = 0
    held_on: date | None = None
    cancelled_on: date | None = None
    balance: Decimal = ZERO
    leads: int = 0
    emails: list[tuple[date, int]] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)

    def date(self, k: int) -> date:
        """Billing date k: always from the first one, on its day or the month's last."""
        first = self.started_on + timedelta(self.trial_days)
        month = first.month - 1 + k
        year, month = first.year + month // 12, month % 12 + 1
        return date(year, month, min(first.day, calendar.monthrange(year, month)[1]))

    @property
    def first(self) -> int:
        k = 0
        while self.date(k) < self.billed_through:
            k += 1
        return k

    @property
    def next(self) -> int:
        return next(k for k in range(1_000) if self.date(k) > AS_OF and k >= self.first)

    @property
    def has_stopped(self) -> bool:
        return bool(self.held_on or self.cancelled_on)

    def bill(self) -> None:
        k = self.first
        while not self.has_stopped and self.date(k) <= AS_OF:
            document, self.package = self.document(k)
            if document.net:
                self.documents.append(document)
            k += 1

    def document(self, k: int) -> tuple[Document, str]:
        """What falls due on billing date k, and the package from there on."""
        old, new, on = self.package, self.package, self.date(k)
        document = Document(on, rate=Decimal("0.2") if self.country == "GB" else ZERO)
        if k > 0:
            since = max(self.date(k - 1), self.usage_from or date.min)
            used = sum(count for day, count in self.emails if since <= day < on)
            over = max(0, used - PACKAGES[old][3])
            document.overage = -(-over // 1_000) * PACKAGES[old][4]
            # A level carried into a cycle of which nothing is measured does not count.
            if self.leads > PACKAGES[old][2] and since < on:
                new = next(name for name, terms in PACKAGES.items() if terms[2] >= self.leads)
        if self.term == "monthly":
            document.fees.append((PACKAGES[new][0], on, self.date(k + 1)))
        elif k % 12 == 0:
            document.fees.append((PACKAGES[new][1], on, self.date(k + 12)))
        elif new != old:
            difference = (PACKAGES[new][1] - PACKAGES[old][1]) * (12 - k % 12) / 12
            document.fees.append((cents(difference), on, self.date(k + 12 - k % 12)))
        return document, new


def customers() -> list[Customer]:
    """1,000 customers, some of whom are something special."""
    random = Random(7)  # noqa: S311 # made-up customers, the same on every run
    made = [
        Customer("in-trial", started_on=date(2026, 1, 20), trial_days=30, emails=[(date(2026, 2, 10), 90_000)]),
        Customer("on-hold", held_on=date(2026, 1, 15), emails=[(date(2026, 1, 12), 90_000)]),
        Customer("gone", cancelled_on=date(2025, 12, 1), balance=Decimal("77.00")),
        Customer("leap-day", started_on=date(2024, 2, 29), term="yearly", emails=[(date(2026, 2, 1), 20_000)]),
        Customer("month-end", started_on=date(2024, 1, 31), emails=[(date(2026, 2, 27), 30_000)]),
    ]
    while len(made) < CUSTOMERS:
        one = Customer(
            f"c{len(made):04d}",
            country=random.choice(["US", "US", "GB"]),
            package=random.choice(["starter", "starter", "silver", "gold"]),
            term=random.choice(["monthly", "monthly", "monthly", "yearly"]),
            started_on=date(2019, 1, 1) + timedelta(random.randrange(2_550)),
            balance=random.choice([ZERO, ZERO, ZERO, Decimal(random.randrange(1, 50_000)) / 100, Decimal("-120.50")]),
            leads=random.choice([0, 0, 0, 2_500, 2_501, 12_501, 25_000]),
        )
        # Some bill what falls due after the move, some have been billed to their next date.
        if random.random() < 0.5:
            one.billed_through = one.date(one.first)
        if random.random() < 0.1:
            one.usage_from = MOVED_ON
        days = sorted(random.randrange(96) for _ in range(3))
        one.emails = [(date(2025, 12, 25) + timedelta(day), random.randrange(1, 120_000)) for day in days]
        made.append(one)
    return made


def written(landing: Landing, everyone: list[Customer]) -> Path:
    """The table of the old system, and the usage of all of them."""
    table = landing.root.parent / "old.csv"
    columns = "account_id,name,country,package,term,started_on,billed_through,usage_from,trial_days,held_on"
    lines = [f"{columns},cancelled_on,balance,reference"]
    events: dict[date, list[str]] = defaultdict(list)
    for one in everyone:
        told: list[Any] = [one.name, one.name.title(), one.country, one.package, one.term, one.started_on]
        told += [one.billed_through, one.usage_from, one.trial_days or None, one.held_on, one.cancelled_on]
        told += [one.balance or None, f"OLD-{one.name}"]
        lines.append(",".join("" if each is None else str(each) for each in told))
        if one.leads:
            day = date(2025, 12, 20)
            at = f"{day}T12:00:00Z"
            events[day].append(event(f"{one.name}-leads", one.name, "leads.changed", {"delta": one.leads}, at))
        for place, (day, count) in enumerate(one.emails):
            at = f"{day}T12:00:00Z"
            events[day].append(event(f"{one.name}-{place}", one.name, "email.sent", {"count": count}, at))
    table.write_text("\n".join(lines) + "\n")
    for day, texts in events.items():
        # At the end of its month, as every day of deliveries takes its time; only January has many of them.
        last = calendar.monthrange(day.year, day.month)[1]
        delivered = min(last, day.day - day.day % -3) if day.month == 1 else last
        landing.deliver(texts, f"{day:%Y-%m}-{delivered:02}")
    return table


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Business, list[Customer]]:
    landing = Landing(tmp_path_factory.mktemp("thousand") / "home", catalogue=catalogue())
    (landing.folder / "accounts.csv").unlink()
    (landing.folder / "tax_rates.csv").write_text("country,region,rate,name,effective_from\nGB,,0.20,VAT,2020-01-01\n")
    everyone = customers()
    found = move_in(landing.root, written(landing, everyone), RUNS[0])
    assert found.counts["accounts"] == CUSTOMERS
    for one in everyone:
        one.bill()
    drafted = {row["account_id"]: (row["billing_date"], row["total"]) for row in found.drafts}
    first = {one.name: one.documents[0] for one in everyone if one.documents and one.documents[0].on <= RUNS[0]}
    # As of the end of February the drafts are what will be issued of it.
    shown = {name: drafted[name] for name in first if name in drafted and drafted[name][0] == str(first[name].on)}
    assert {name: (str(each.on), f"{each.total:.2f}") for name, each in first.items() if name in shown} == shown
    assert len(shown) > CUSTOMERS // 2
    for day in RUNS:
        business = bill_by_steps(landing.root, f"{day:%Y-%m}", day.isoformat())
        if sizes.LONG or day == RUNS[-1]:
            write_journal(business)
    return business, everyone


def test_every_document_is_what_it_should_come_to(moved: tuple[Business, list[Customer]]) -> None:
    business, everyone = moved
    found = rows(business, "documents", "account_id", "billing_date", "issued_on", "net", "tax", "total")
    expected = [
        (one.name, each.on, each.issued_on, f"{each.net:.2f}", f"{each.tax:.2f}", f"{each.total:.2f}")
        for one in everyone
        for each in one.documents
    ]
    assert sorted(found) == sorted(expected)
    assert len(expected) > CUSTOMERS


def test_nothing_that_was_billed_elsewhere_is_billed_again(moved: tuple[Business, list[Customer]]) -> None:
    business, everyone = moved
    through = {one.name: one.billed_through for one in everyone}
    documents = rows(business, "documents", "account_id", "billing_date")
    assert all(day >= through[name] for name, day in documents)
    assert {name for name, _ in documents} & {"on-hold", "gone"} == set()
    fees = rows(business, "lines", "cycle_start", kind="package_fee")
    assert min(day for (day,) in fees) >= MOVED_ON


def test_balances_are_what_was_owed_and_what_was_billed_since(moved: tuple[Business, list[Customer]]) -> None:
    business, everyone = moved
    expected = {}
    for one in everyone:
        invoiced = sum((each.total for each in one.documents), ZERO)
        if one.documents or one.balance:
            expected[one.name] = (one.balance, invoiced, one.balance + invoiced, oldest_debt(one))
    found = {
        row["account_id"]: (row["opening"], row["invoiced"], row["outstanding"], row["oldest_unpaid_on"])
        for row in balances(business).iter_rows(named=True)
    }
    assert found == expected
    assert found["gone"] == (Decimal(77), ZERO, Decimal(77), MOVED_ON)


def oldest_debt(one: Customer) -> date | None:
    """The day of the oldest debt that what stood in credit does not cover."""
    credit = max(ZERO, -one.balance)
    debts = [(MOVED_ON, one.balance)] if one.balance > 0 else []
    for day, amount in sorted([*debts, *((each.issued_on, each.total) for each in one.documents)]):
        if amount > credit:
            return day
        credit -= amount
    return None


def test_profiles_say_what_comes_next(moved: tuple[Business, list[Customer]]) -> None:
    business, everyone = moved
    expected: dict[str, tuple[object, ...]] = {}
    for one in everyone:
        outstanding = one.balance + sum((each.total for each in one.documents), ZERO)
        if one.has_stopped:
            status = "held" if one.held_on else "cancelled"
            expected[one.name] = (status, one.package, None, ZERO, outstanding)
        else:
            upcoming, _ = one.document(one.next)
            expected[one.name] = ("active", one.package, one.date(one.next), upcoming.total, outstanding)
    columns = ("status", "package", "next_billing_date", "upcoming_amount", "outstanding")
    found = {
        row["account_id"]: tuple(row[name] for name in columns)
        for row in account_profiles(business, AS_OF).iter_rows(named=True)
    }
    assert found == expected


def test_the_books_agree_to_the_cent(moved: tuple[Business, list[Customer]]) -> None:
    business, everyone = moved
    documents = [each for one in everyone for each in one.documents]
    fees = [fee for each in documents for fee in each.fees]
    released = ZERO
    for amount, start, end in fees:
        whole = (end - start).days
        passed = min(max((AS_OF - start).days + 1, 0), whole)
        released += cents(amount * passed / whole)
    overage = sum((each.overage for each in documents), ZERO)
    opening = sum((one.balance for one in everyone), ZERO)
    expected = {
        "receivable": opening + sum((each.total for each in documents), ZERO),
        "opening_balances": -opening,
        "tax": -sum((each.tax for each in documents), ZERO),
        "revenue": -overage - released,
        "deferred_revenue": released - sum((amount for amount, _, _ in fees), ZERO),
    }
    files = sorted((business.home.lake / JOURNAL.name).glob("*/journal.parquet"))
    sums = (
        pl.concat([read_frame(path, JOURNAL) for path in files])
        .group_by("ledger_account")
        .agg(amount=pl.col("debit").sum() - pl.col("credit").sum())
    )
    assert dict(sums.iter_rows()) == expected
    assert unbalanced_entries(business.home).is_empty()
    assert receivable_differences(business).is_empty()


def test_usage_from_before_the_first_measured_day_bills_nothing(moved: tuple[Business, list[Customer]]) -> None:
    business, everyone = moved
    unbilled: dict[str, int] = defaultdict(int)
    for name, quantity in rows(business, "unbilled", "account_id", "quantity", metric="emails"):
        unbilled[name] += int(Decimal(quantity))
    for one in everyone:
        since = max(one.date(max(one.first - 1, 0)), one.usage_from or date.min)
        ends = one.cancelled_on or one.held_on
        if one.has_stopped:
            since = max(since, one.billed_through)
        outside = [count for day, count in one.emails if day < since or (ends is not None and day > ends)]
        assert unbilled[one.name] == sum(outside), json.dumps(one.name)
