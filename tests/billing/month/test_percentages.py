"""Percentage tariffs through the steps of a month (rule 34): amounts and events, true-ups, explain and stored pages."""

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from billing.month.business import Business
from billing.reports.explain import explain_document
from billing.reports.profiles import account_profiles
from tests.billing.month.token_business import CATALOGUE, TokenBusiness
from tests.by_steps import bill_by_steps, rows

FEB_10 = date(2026, 2, 10)


@pytest.fixture(scope="module")
def billed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Business]:
    landing = TokenBusiness(tmp_path_factory.mktemp("percentages"))
    landing.customer("m09")
    landing.take("m09", "100.00", "50.00", "19.99")
    landing.customer("none")
    landing.customer("zero")
    landing.take("zero", "0.00")
    # The version of 01-25 includes 100.00 and two events, and asks at least 1.00.
    for name, amounts in (
        ("within", ["50.00", "50.00"]),
        ("a-third", ["50.00", "25.00", "25.00"]),
        ("a-cent", ["100.01"]),
        ("both", ["500.00", "100.00", "0.00"]),
    ):
        landing.customer(name, on="2026-01-26")
        landing.take(name, *amounts, on="2026-01-28")
    landing.customer("unlimited", "growing")
    landing.take("unlimited", "1000.00")
    business = bill_by_steps(landing.root, "2026-02", "2026-02-26")
    yield business
    business.register.close()


@pytest.mark.parametrize(
    ("account", "quantity", "events", "excess", "amount"),
    [
        ("m09", "169.99", 3, "169.99", "5.83"),
        ("none", "0.00", 0, "0.00", "0.00"),
        ("zero", "0.00", 1, "0.00", "0.30"),
        ("within", "100.00", 2, "0.00", "0.00"),
        ("a-third", "100.00", 3, "0.00", "1.00"),
        ("a-cent", "100.01", 1, "0.01", "1.00"),
        ("both", "600.00", 3, "500.00", "14.80"),
        ("unlimited", "1000.00", 1, "0.00", "0.00"),
    ],
)
def test_amounts_and_events_are_independent(
    billed: Business, account: str, quantity: str, events: int, excess: str, amount: str
) -> None:
    found = rows(billed, "charges", "quantity", "events", "excess", "amount", account_id=account, metric="payments")
    assert found == [(quantity, events, excess, amount)]


def number_of(business: Business, account: str, on: date = FEB_10) -> str:
    ((number,),) = rows(business, "documents", "number", account_id=account, billing_date=on)
    return str(number)


@pytest.mark.parametrize(
    ("account", "on", "arithmetic"),
    [
        (
            "m09",
            FEB_10,
            [
                "3 events add up to 169.99",
                "169.99 - 0 = 169.99 over the allowance",
                "2.9 % of 169.99 = 4.92971",
                "3 events x 0.30 = 0.9",
                "5.82971, rounded half-up = 5.83",
            ],
        ),
        (
            "zero",
            FEB_10,
            [
                "1 event adds up to 0",
                "0 used of 0 included in starter: not over the allowance",
                "1 event x 0.30 = 0.3",
                "together 0.30",
            ],
        ),
        (
            "a-third",
            date(2026, 2, 26),
            [
                "3 events add up to 100",
                "100 used of 100 included in starter: not over the allowance",
                "3 events - 2 free = 1: 1 event x 0.30 = 0.3",
                "0.3, but at least 1.00 = 1.00",
            ],
        ),
        (
            "both",
            date(2026, 2, 26),
            [
                "3 events add up to 600",
                "600 - 100 = 500 over the allowance",
                "2.9 % of 500 = 14.5",
                "3 events - 2 free = 1: 1 event x 0.30 = 0.3",
                "together 14.80",
            ],
        ),
    ],
)
def test_explain_shows_the_arithmetic(billed: Business, account: str, on: date, arithmetic: list[str]) -> None:
    found = explain_document(billed, number_of(billed, account, on))
    (line,) = [entry for entry in found if entry["metric"] == "payments"]
    assert line["arithmetic"] == arithmetic
    assert line["events_total"] == int(arithmetic[0].split()[0])


def test_the_stored_page_has_the_events_and_only_percentages_say_them(billed: Business) -> None:
    number = number_of(billed, "m09")
    text = dict(billed.register.contents([number]))[number]
    lines = {line["metric"]: line for line in json.loads(text)["lines"]}
    assert lines["payments"]["tariff"] == {
        "model": "percentage",
        "size": None,
        "tiers": [],
        "percent": "2.9",
        "per_event": "0.30",
        "free_events": "0",
        "events": "3",
    }
    assert lines["payments"]["unit_price"] is None
    others = dict(billed.register.contents([number_of(billed, "none", date(2026, 1, 10))]))
    assert not any("percent" in content for content in others.values())


def customers(root: Path) -> TokenBusiness:
    """Customers who took the same payments; those of each are delivered in a file of its own."""
    landing = TokenBusiness(root)
    for name, delivered in (("acme", "2026-01-20"), ("late", "2026-01-20"), ("withdrawn", "2026-01-21")):
        landing.customer(name)
        landing.take(name, "100.00", "50.00", delivered=delivered)
    return landing


def settled_of(business: Business, account: str, *columns: str) -> list[tuple[object, ...]]:
    """What is settled on the account's document of March."""
    number = number_of(business, account, date(2026, 3, 10))
    return rows(business, "lines", *columns, kind="prior_cycle", number=number)


@pytest.fixture(scope="module")
def issued_once(tmp_path_factory: pytest.TempPathFactory) -> TokenBusiness:
    landing = customers(tmp_path_factory.mktemp("issued") / "home")
    bill_by_steps(landing.root, "2026-02", "2026-02-10").register.close()
    return landing


@pytest.fixture(scope="module")
def settled(issued_once: TokenBusiness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Business]:
    """March, after a late event of one account and a withdrawn delivery of another one."""
    issued = issued_once.copied(tmp_path_factory.mktemp("settled") / "home")
    issued.take("late", "0.00", on="2026-01-21", delivered="2026-02-20")
    (issued.folder / "usage/2026-01-21/usage.jsonl").write_text("")
    business = bill_by_steps(issued.root, "2026-03", "2026-03-10")
    yield business
    business.register.close()


class TestAfterIssue:
    def test_a_late_event_without_an_amount(self, settled: Business) -> None:
        assert settled_of(settled, "acme", "amount") == []
        assert settled_of(settled, "late", "metric", "amount") == [("payments", "0.30")]
        (line,) = [
            entry
            for entry in explain_document(settled, number_of(settled, "late", date(2026, 3, 10)))
            if entry["kind"] == "prior_cycle"
        ]
        assert line["arithmetic"] == [
            "3 events add up to 150",
            "150 - 0 = 150 over the allowance",
            "2.9 % of 150 = 4.35",
            "3 events x 0.30 = 0.9",
            "due now: together 5.25",
            f"billed before: 4.95 on {number_of(settled, 'late')} line 2: 150 used, 0 included",
            "5.25 due now - 4.95 billed before = 0.30",
        ]

    def test_a_withdrawn_delivery_gives_both_parts_back(self, settled: Business) -> None:
        assert settled_of(settled, "withdrawn", "metric", "amount") == [("payments", "-4.95")]

    def test_another_price_of_events(self, issued_once: TokenBusiness, tmp_path: Path) -> None:
        issued = issued_once.copied(tmp_path / "home")
        text = CATALOGUE.replace('per_event: "0.30"}', 'per_event: "0.25"}')
        (issued.folder / "catalogue.yaml").write_text(text)
        business = bill_by_steps(issued.root, "2026-03", "2026-03-10")
        for account in ("acme", "late", "withdrawn"):
            assert settled_of(business, account, "amount") == [("-0.10",)]
        business.register.close()

    def test_the_profile_has_it_so_far(self, tmp_path: Path) -> None:
        landing = customers(tmp_path)
        business = bill_by_steps(landing.root, "2026-01", "2026-01-21")
        for usage in account_profiles(business, date(2026, 1, 21))["usage"].to_list():
            (payments,) = [row for row in usage if row["metric"] == "payments"]
            assert (payments["quantity"], payments["overage_amount"]) == (Decimal(150), Decimal("4.95"))
        business.register.close()


def test_a_rule_may_be_a_percentage(tmp_path: Path) -> None:
    text = CATALOGUE.replace("value: data.amount}", "value: data.amount, by: {brand: data.brand}}").replace(
        'payments: {model: percentage, percent: "2.9", per_event: "0.30"}',
        'payments: {model: percentage, percent: "2.9", per_event: "0.30", by: '
        '[{when: {brand: amex}, allowance: 10, model: percentage, percent: "3.5", per_event: "0.10", free_events: 1}]}',
        1,
    )
    landing = TokenBusiness(tmp_path, text)
    landing.customer("acme")
    landing.take("acme", "100.00", "10.00")
    path = landing.folder / "usage/2026-01-20/usage.jsonl"
    path.write_text(path.read_text().replace('"amount": "100.00"', '"amount": "100.00", "brand": "amex"'))
    landing.take("acme", "10.00")
    business = bill_by_steps(landing.root, "2026-02", "2026-02-10")
    found = rows(business, "charges", "rule", "quantity", "events", "amount", metric="payments")
    assert found == [(None, "20.00", 2, "1.18"), ("brand=amex", "100.00", 1, "3.15")]
    business.register.close()


def test_what_percentages_need_is_no_column_of_others(billed: Business) -> None:
    parts = billed.terms.metrics.filter(pl.col("metric") != "payments")
    assert parts.select(pl.col("event_price", "free_events", "event_limit").null_count()).row(0) == (parts.height,) * 3
