"""Coupons on documents: order, spread, limits, and what is learnt later (rule 29)."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from billing.month import true_ups
from billing.month.business import Business
from billing.month.corrections import issue_corrections
from billing.month.true_ups import month_differences
from billing.register.register import Register
from billing.reports.verify import disagreements
from billing.starter import starter_catalogue
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing

COUPONS = """
coupons:
  - {name: two, title: Two documents, percent: "10", documents: 2}
  - {name: ever, percent: "10"}
  - {name: large, amount: "150.00", documents: 1}
  - {name: tenner, amount: "10.00"}
  - {name: on_fee, percent: "50", applies_to: [package_fee]}
  - {name: on_emails, percent: "50", applies_to: [overage.emails]}
  - {name: of_silver, percent: "50", packages: [silver]}
  - {name: first, percent: "50", priority: 1}
  - {name: last, amount: "60.00", priority: 200}
  - {name: third, percent: "33.333"}
"""
JANUARY, FEBRUARY, MARCH, APRIL = (
    ("2026-01", "2026-01-31"),
    ("2026-02", "2026-02-28"),
    ("2026-03", "2026-03-31"),
    ("2026-04", "2026-04-30"),
)
LINE = ("line", "kind", "coupon", "applies_to_line", "amount")


def home(tmp_path: Path, *, tax: str = "") -> Landing:
    landing = Landing(tmp_path, starter_catalogue() + COUPONS)
    if tax:
        (landing.folder / "tax_rates.csv").write_text(
            f"country,region,name,rate,effective_from\nUS,,VAT,{tax},2025-01-01\n"
        )
    return landing


def redeem(landing: Landing, account: str, *coupons: str, at: str = "2026-01-10T10:00:00Z") -> None:
    for coupon in coupons:
        landing.request(account, "redeem", at, "self_service", coupon=coupon)


def nets(business: Business, account: str) -> list[str]:
    """The nets of an account's documents, by billing date."""
    found = rows(business, "documents", "billing_date", "net", account_id=account)
    return [net for _, net in sorted(found)]


def lines_of(business: Business, account: str, on: str) -> list[tuple[object, ...]]:
    numbers = rows(business, "documents", "number", "billing_date", account_id=account)
    (number,) = [number for number, day in numbers if str(day) == on]
    return rows(business, "lines", *LINE, number=number)


@pytest.fixture(scope="module")
def billed(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """Customers with one case each, billed for three months; a coupon that is redeemed on 01-10 counts from 02-10."""
    landing = home(tmp_path_factory.mktemp("coupons"))
    for name in ("two", "large", "of_silver", "ever", "tenner"):
        landing.customer(name, coupon=name) if name != "of_silver" else landing.customer(name, "silver", coupon=name)
    landing.use("two", emails=27_350)
    landing.use("tenner", emails=27_350, bytes=61_200_000_000)
    landing.customer("both", coupon="ever")
    redeem(landing, "both", "two")
    for name, coupons in (
        ("on_fee", ("on_fee",)),
        ("on_emails", ("on_emails",)),
        ("ordered", ("last", "ever", "first")),
        ("thirds", ("third",)),
        ("nothing", ("on_emails",)),
    ):
        landing.customer(name)
        redeem(landing, name, *coupons)
        if name != "nothing":
            landing.use(name, emails=27_350)
    landing.customer("revoked", coupon="ever")
    landing.request("revoked", "revoke", "2026-02-11T09:00:00Z", "support", coupon="ever")
    return bill_by_steps(landing.root, *MARCH)


def test_a_coupon_holds_for_its_number_of_documents_from_the_first(billed: Business) -> None:
    assert nets(billed, "two") == ["89.10", "124.20", "99.00"]
    assert lines_of(billed, "two", "2026-02-10") == [
        (1, "package_fee", None, None, "99.00"),
        (2, "overage", None, None, "39.00"),
        (3, "coupon", "two", 1, "-9.90"),
        (4, "coupon", "two", 2, "-3.90"),
    ]


def test_coupons_are_taken_one_after_the_other(billed: Business) -> None:
    assert nets(billed, "both") == ["89.10", "80.19", "80.19"]


def test_what_is_over_is_lost_and_the_document_is_issued(billed: Business) -> None:
    assert nets(billed, "large") == ["0.00", "99.00", "99.00"]
    assert rows(billed, "documents", "status", account_id="large", net=Decimal(0)) == [("paid",)]


def test_an_amount_is_spread_by_the_largest_remainder(billed: Business) -> None:
    assert lines_of(billed, "tenner", "2026-02-10")[-3:] == [
        (4, "coupon", "tenner", 1, "-6.87"),
        (5, "coupon", "tenner", 2, "-2.71"),
        (6, "coupon", "tenner", 3, "-0.42"),
    ]


def test_a_coupon_lowers_the_lines_that_it_names(billed: Business) -> None:
    assert nets(billed, "on_fee") == ["99.00", "88.50", "49.50"]
    assert nets(billed, "on_emails") == ["99.00", "118.50", "99.00"]
    assert nets(billed, "of_silver") == ["99.50", "99.50", "99.50"]


def test_priority_goes_before_the_day(billed: Business) -> None:
    # 138.00 - 69.00 - 6.90 - 60.00, and 99.00 - 49.50 - 4.95 - what is left.
    assert nets(billed, "ordered") == ["99.00", "2.10", "0.00"]


def test_a_percentage_is_one_rounded_amount(billed: Business) -> None:
    # 33.333 % of 138.00 is 45.99954.
    assert nets(billed, "thirds") == ["99.00", "92.00", "66.00"]
    taken = [line[-1] for line in lines_of(billed, "thirds", "2026-02-10")[2:]]
    assert taken == ["-33.00", "-13.00"]


def test_a_coupon_that_takes_off_nothing_makes_no_line(billed: Business) -> None:
    assert [line[1] for line in lines_of(billed, "nothing", "2026-02-10")] == ["package_fee"]


def test_a_revoked_coupon_ends_with_the_next_billing_date(billed: Business) -> None:
    assert nets(billed, "revoked") == ["89.10", "89.10", "99.00"]


def test_the_register_agrees(billed: Business) -> None:
    assert [told for told in disagreements(billed) if "PDF" not in told] == []


@pytest.fixture(scope="module")
def taxed(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """January and February with a tax; a correction; then March, with usage of documents that were issued."""
    landing = home(tmp_path_factory.mktemp("taxed"), tax="0.20")
    landing.customer("left", coupon="tenner")
    landing.use("left", emails=27_350, bytes=61_200_000_000)
    landing.customer("refunded", coupon="ever")
    landing.request("refunded", "refund", "2026-01-20T09:00:00Z", "support")
    for name, (coupon, before, _, _) in LATE.items():
        landing.customer(name, coupon=coupon)
        if before:
            landing.use(name, emails=before)
    landing.customer("corrected", coupon="ever")
    landing.use("corrected", emails=27_350)
    bill_by_steps(landing.root, *FEBRUARY)
    landing.use("corrected", emails=10_000, delivered="2026-02-28")
    business = bill_by_steps(landing.root, *FEBRUARY)
    issue_corrections(business, "2026-02", "Emails were missing.")
    file = next((landing.folder / "usage").glob("*/usage.jsonl"))
    for name, (_, before, after, _) in LATE.items():
        if after > before:
            landing.use(name, emails=after - before, delivered="2026-03-05")
        else:
            file.write_text(file.read_text().replace(f'"count": {before}', f'"count": {after}'))
    return bill_by_steps(landing.root, *MARCH)


# the coupon, usage as it was known at first and then, and what the next document bills
LATE = {
    # 10 % of 3.00 more.
    "more": ("ever", 27_350, 28_350, [("prior_cycle", "3.00"), ("coupon", "-0.30")]),
    # 10.00 stays 10.00, however it is spread.
    "ten": ("tenner", 27_350, 28_350, [("prior_cycle", "3.00")]),
    "less": ("ever", 28_350, 27_350, [("prior_cycle", "-3.00"), ("coupon", "0.30")]),
    # It had taken off 99.00 of 150.00: now it takes 138.00.
    "beyond": ("large", 0, 27_350, [("prior_cycle", "39.00")]),
}


def number_of(business: Business, account: str, month: str, kind: str = "invoice") -> str:
    """The number of an account's document of a month."""
    ((number,),) = rows(business, "documents", "number", account_id=account, billing_month=month, kind=kind)
    return str(number)


def test_tax_is_on_what_is_left(taxed: Business) -> None:
    wanted = {"account_id": "left", "billing_month": "2026-02"}
    found = rows(taxed, "documents", "net", "tax", "total", "due", **wanted)
    assert found == [("134.00", "26.80", "160.80", "160.80")]


@pytest.mark.parametrize("account", LATE)
def test_late_usage_takes_the_coupons_of_its_document(taxed: Business, account: str) -> None:
    coupon, _, _, expected = LATE[account]
    number = number_of(taxed, account, "2026-03")
    found = rows(taxed, "lines", "kind", "amount", "applies_to_line", number=number)
    prior = [(kind, amount) for kind, amount, _ in found[1:]]
    assert [line for line in prior if line in expected] == expected
    net = sum(Decimal(amount) for _, amount in expected)
    own = Decimal("89.10") if coupon == "ever" else Decimal("89.00") if coupon == "tenner" else Decimal("99.00")
    assert rows(taxed, "documents", "net", number=number) == [(f"{own + net:.2f}",)]


def test_the_register_agrees_with_what_was_learnt_late(taxed: Business) -> None:
    assert [told for told in disagreements(taxed) if "PDF" not in told] == []


def test_what_is_given_back_takes_its_coupon_and_its_tax_back(taxed: Business) -> None:
    number, billed = (number_of(taxed, "less", month) for month in ("2026-03", "2026-02"))
    lines = rows(taxed, "lines", "kind", "amount", "gives_back", number=number)
    assert [line for line in lines if line[2]] == [("prior_cycle", "-3.00", billed), ("coupon", "0.30", billed)]
    assert rows(taxed, "documents", "net", "tax", "total", number=number) == [("86.40", "17.28", "103.68")]


def test_a_correction_takes_the_coupon_of_its_document(taxed: Business) -> None:
    notes = rows(taxed, "documents", "kind", "net", "corrects", account_id="corrected", kind="debit_note")
    assert notes == [("debit_note", "27.00", number_of(taxed, "corrected", "2026-02"))]
    assert nets(taxed, "corrected")[-1] == "89.10"


def test_a_refund_gives_back_what_was_paid_for_the_fee(taxed: Business) -> None:
    note = rows(taxed, "documents", "number", "net", "tax", "total", kind="credit_note")
    assert note == [("CN-2026-000001", "-89.10", "-17.82", "-106.92")]
    assert rows(taxed, "lines", *LINE, number="CN-2026-000001") == [
        (1, "refund", None, None, "-99.00"),
        (2, "coupon", "ever", 1, "9.90"),
    ]


def test_a_yen_business_rounds_to_whole_yen(tmp_path: Path) -> None:
    catalogue = starter_catalogue().replace("currency: USD", "currency: JPY")
    for text, other in (('"99.00"', '"9900"'), ('"3.00"', '"300"')):
        catalogue = catalogue.replace(text, other)
    landing = Landing(tmp_path, catalogue + 'coupons:\n  - {name: some, percent: "7.5"}\n')
    landing.customer("acme", coupon="some")
    landing.use("acme", emails=16_000)
    business = bill_by_steps(landing.root, *FEBRUARY)
    # 7.5 % of 10,200 is 765; 742.5 and 22.5 become 743 and 22: the earlier line takes the unit.
    assert nets(business, "acme") == ["9157.00", "9435.00"]
    assert [line[-1] for line in lines_of(business, "acme", "2026-02-10")] == ["9900.00", "300.00", "-743.00", "-22.00"]


def test_differences_are_those_of_few_documents_where_there_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing = home(tmp_path)
    for name in ("late", "same"):
        landing.customer(name, coupon="ever")
        landing.use(name, emails=27_350)
    bill_by_steps(landing.root, *FEBRUARY)
    landing.use("late", emails=1_000, delivered="2026-03-05")
    business = bill_by_steps(landing.root, *MARCH, issues=False)
    found = month_differences(business, "2026-01", "2026-03")
    assert found.select("account_id", "kind").rows() == [("late", "coupon"), ("late", "overage")]
    described: list[object] = []
    asked = business.register.issued_amounts

    def issued_amounts(_: Register, since: date, until: date, accounts: Sequence[str] | None = None) -> pl.DataFrame:
        described.append(accounts)
        return asked(since, until, accounts)

    monkeypatch.setattr(true_ups, "_MANY_DOCUMENTS", 1)
    monkeypatch.setattr(Register, "issued_amounts", issued_amounts)
    assert_frame_equal(month_differences(business, "2026-01", "2026-03"), found)
    assert described == [["late"]]
