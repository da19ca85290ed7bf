"""One-off charges: on which document each is billed, and what is learnt later (rule 30)."""

from datetime import date
from pathlib import Path

import pytest

from billing.month.business import Business
from billing.register.sent_mails import MadeReminder
from billing.reports.verify import disagreements
from billing.starter import starter_catalogue
from tests import sizes
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing
from tests.sizes import sized

HEADER = (
    "charge_id,account_id,on,description,quantity,unit_price,amount,currency,tax_category,coupon_allowed,at_once,reason"
)


def charges(landing: Landing, *lines: str) -> None:
    path = landing.folder / "one_off_charges.csv"
    if not path.exists():
        path.write_text(f"{HEADER}\n")
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def bill(landing: Landing, *months: tuple[str, str]) -> Business:
    for month, day in months:
        business = bill_by_steps(landing.root, month, day)
    return business


JANUARY, FEBRUARY, MARCH = ("2026-01", "2026-01-31"), ("2026-02", "2026-02-28"), ("2026-03", "2026-03-31")


@pytest.fixture(scope="module")
def billed(tmp_path_factory: pytest.TempPathFactory) -> Business:
    catalogue = starter_catalogue() + '\ncoupons:\n  - {name: ever, percent: "10"}\n'
    landing = Landing(tmp_path_factory.mktemp("charges"), catalogue)
    (landing.folder / "tax_rates.csv").write_text("country,region,name,rate,effective_from\nUS,,VAT,0.20,2025-01-01\n")
    for name in ("next", "today", "cancelled", "coupon", "credit", "zero", "both"):
        landing.customer(name, **({"coupon": "ever"} if name == "coupon" else {}))
    landing.account("none")
    landing.request("cancelled", "cancel", "2026-01-20T09:00:00Z", "email")
    charges(
        landing,
        "next-1,next,2026-01-20,Set-up,,,250.00,,,,,",
        "next-2,next,2026-02-10,Help,2.5,10.01,,,,,,",
        "today-1,today,2026-01-20,At once,,,30.00,,,,true,",
        "today-2,today,2026-01-20,Too,,,12.00,,,,yes,",
        "none-1,none,2026-01-22,Training,3,100.00,,,,,,",
        "cancelled-1,cancelled,2026-01-25,After the end,,,5.00,,,,,",
        "coupon-1,coupon,2026-01-20,Lowered,,,100.00,,,,,",
        "coupon-2,coupon,2026-01-20,Not lowered,,,100.00,,,false,,",
        "credit-1,credit,2026-01-20,Goodwill,,,-150.00,,,,,Outage",
        "zero-1,zero,2026-01-20,Untaxed,,,40.00,,Z,,,",
        "both-1,both,2026-01-20,Outside,,,7.00,,O,,,",
    )
    return bill(landing, JANUARY, FEBRUARY)


def documents(business: Business, account: str) -> list[tuple[object, ...]]:
    found = rows(business, "documents", "billing_date", "kind", "subscription_id", "net", "tax", account_id=account)
    return [(str(day), *rest) for day, *rest in sorted(found, key=lambda row: (row[0], row[2] or ""))]


def test_a_charge_is_billed_on_the_next_billing_date(billed: Business) -> None:
    assert documents(billed, "next") == [
        ("2026-01-10", "invoice", "next/2026-01-10", "99.00", "19.80"),
        # 2.5 x 10.01 is 25.025; a charge of a billing date is on its document.
        ("2026-02-10", "invoice", "next/2026-01-10", "374.03", "74.81"),
    ]


def test_charges_at_once_share_a_document_of_their_own(billed: Business) -> None:
    assert documents(billed, "today")[1] == ("2026-01-20", "invoice", None, "42.00", "8.40")
    assert documents(billed, "none") == [("2026-01-22", "invoice", None, "300.00", "60.00")]


def test_without_a_live_subscription_a_charge_has_a_document_of_its_own(billed: Business) -> None:
    assert documents(billed, "cancelled")[1] == ("2026-01-25", "invoice", None, "5.00", "1.00")


def test_coupons_lower_the_charges_that_allow_it(billed: Business) -> None:
    # 10 % of 99.00 and of 100.00.
    assert documents(billed, "coupon")[1][3] == "279.10"


def test_more_credit_than_is_due_is_a_credit_note(billed: Business) -> None:
    assert documents(billed, "credit")[1] == ("2026-02-10", "credit_note", "credit/2026-01-10", "-51.00", "-10.20")


def test_a_charge_is_taxed_by_its_category(billed: Business) -> None:
    assert documents(billed, "zero")[1] == ("2026-02-10", "invoice", "zero/2026-01-10", "139.00", "19.80")
    number = rows(billed, "documents", "number", account_id="zero")[-1][0]
    found = rows(billed, "taxes", "category", "rate", "taxable", "amount", number=number)
    assert found == [("Z", "0.00", "40.00", "0.00"), ("S", "0.20", "99.00", "19.80")]
    # Outside of the scope of tax: always apart.
    assert ("2026-02-10", "invoice", None, "7.00", "0.00") in documents(billed, "both")


def test_the_register_agrees(billed: Business) -> None:
    assert [told for told in disagreements(billed) if "PDF" not in told] == []


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """January to March: a reminder is made in February, and charges change once they are issued."""
    catalogue = starter_catalogue() + '\ncoupons:\n  - {name: ever, percent: "10"}\n'
    landing = Landing(tmp_path_factory.mktemp("settled"), catalogue)
    landing.customer("reminded", coupon="ever")
    landing.customer("acme")
    landing.account("apart")
    charges(
        landing,
        "a-1,acme,2026-01-20,Set-up,,,250.00,,,,,",
        "a-2,acme,2026-01-20,Help,,,20.00,,,,,",
        "b-1,apart,2026-01-22,Training,,,300.00,,,,,",
    )
    business = bill(landing, JANUARY)
    ((number,),) = rows(business, "documents", "number", account_id="reminded")
    reminded = date(2026, 2, 1)
    made = MadeReminder("reminded/2026-02-01", "reminded", reminded, 1, number, "[]", "USD", 990_000, "{}", 50_000)
    assert business.register.record_reminder(made)
    bill(landing, FEBRUARY)
    path = landing.folder / "one_off_charges.csv"
    kept = [line for line in path.read_text().splitlines() if not line.startswith("a-2")]
    path.write_text("\n".join(kept).replace("250.00", "200.00").replace("300.00", "100.00") + "\n")
    charges(landing, "a-3,acme,2026-01-25,Forgotten,,,9.00,,,,,")
    return bill(landing, MARCH)


def test_what_changes_after_the_issue_is_settled(settled: Business) -> None:
    # 99.00 - 50.00 - 20.00 + 9.00; the other account is settled as one whose subscription has ended.
    assert documents(settled, "acme")[-1] == ("2026-03-10", "invoice", "acme/2026-01-10", "38.00", "0.00")
    assert documents(settled, "apart")[-1] == ("2026-03-22", "credit_note", None, "-200.00", "0.00")
    again = bill_by_steps(settled.home.root, *MARCH)
    assert documents(again, "acme") == documents(settled, "acme")
    assert [told for told in disagreements(again) if "PDF" not in told] == []


def test_the_fee_of_a_reminder_is_billed_on_the_next_document(settled: Business) -> None:
    of = "reminded/2026-01-10"
    assert documents(settled, "reminded")[1:] == [
        ("2026-02-10", "invoice", of, "94.10", "0.00"),
        ("2026-03-10", "invoice", of, "89.10", "0.00"),
    ]
    ((number,),) = rows(settled, "documents", "number", account_id="reminded", billing_month="2026-02")
    found = rows(settled, "lines", "charge_id", "amount", "description", kind="charge", number=number)
    assert found == [("reminder/reminded/2026-02-01", "5.00", "Reminder fee")]


@pytest.mark.skipif(not sizes.LONG, reason="`test_shards.py` bills whatever is sold in shards: pytest --long")
def test_shards_make_no_difference(tmp_path: Path) -> None:
    found = []
    for shards in (1, sized(usual=2, long=3)):
        landing = Landing(tmp_path / str(shards))
        for name in ("a", "b", "c", "d"):
            landing.customer(name)
            charges(
                landing,
                f"{name}-1,{name},2026-01-20,Set-up,,,25.00,,,,,",
                f"{name}-2,{name},2026-01-15,Now,,,5.00,,,,true,",
            )
        business = bill_by_steps(landing.root, *FEBRUARY, shards=shards)
        found.append(rows(business, "documents", "number", "account_id", "subscription_id", "net", "content_hash"))
    assert found[0] == found[1]


def test_a_charge_is_billed_before_anybody_subscribes_and_when_it_is_learnt_of_later(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.account("early")
    landing.customer("acme", on="2026-03-10")
    charges(landing, "one,early,2026-02-05,Training,,,25.00,,,,,")
    business = bill(landing, FEBRUARY)
    assert documents(business, "early") == [("2026-02-05", "invoice", None, "25.00", "0.00")]
    charges(landing, "two,early,2026-01-05,Training before,,,7.00,,,,,")
    business = bill(landing, MARCH)
    assert ("2026-01-05", "invoice", None, "7.00", "0.00") in documents(business, "early")


def test_a_charge_before_the_start_of_billing_starts_no_month(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("acme")
    charges(landing, "old,acme,2019-01-05,Long ago,,,25.00,,,,,")
    assert bill(landing, JANUARY).first_month == "2026-01"
