"""Prepaid credits pay documents in their order, come back with credit notes and expire; REF-1, bought 2026-01-10."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
import yaml

from billing.month.business import Business
from billing.month.corrections import issue_corrections
from billing.month.credits import credits, month_credits
from billing.month.scratch_copy import bring_up_to_date
from billing.month.steps import ingest_usage
from billing.reports.credit_checks import credit_disagreements
from billing.reports.explain import explain_document
from billing.reports.journal import receivable_differences, trial_balance, unbalanced_entries, write_journal
from billing.reports.profiles import account_profiles, allocations, balances, collections
from billing.reports.reminders import planned_reminders
from billing.reports.statements import statement
from tests import sizes
from tests.account_pages import next_bills, write_portal_pages, write_profile_pages
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing
from tests.sizes import sized

HEADER = "grant_id,account_id,amount,currency,granted_on,expires_on,kind,priority,description\n"


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "home")


def grant(landing: Landing, *lines: str) -> None:
    """Write the grants: grant_id, amount, granted_on, expires_on, kind, priority of acme, or with an account first."""
    written = []
    for line in lines:
        account, name, amount, on, until, kind, priority = ["acme", *line.split(",")][-7:]
        written.append(f"{name},{account},{amount},,{on},{until},{kind},{priority},\n")
    (landing.folder / "credit_grants.csv").write_text(HEADER + "".join(written))


def paid(business: Business, **wanted: object) -> list[tuple[object, ...]]:
    """total, credits_applied and due of the documents."""
    return rows(business, "documents", "total", "credits_applied", "due", **wanted)


def of_grants(business: Business) -> dict[str, tuple[str, ...]]:
    """used, expired and left by grant."""
    found = credits(business).select(
        "grant_id", pl.col("used", "expired", "left").cast(pl.Decimal(38, 2)).cast(pl.String)
    )
    return {name: tuple(amounts) for name, *amounts in found.iter_rows()}


def is_sound(business: Business) -> bool:
    """Whether credits, journal and balances agree."""
    register = business.register
    found = list(credit_disagreements(register.documents(), register.credit_uses(), credits(business), str))
    assert not found
    write_journal(business)
    assert unbalanced_entries(business.home).is_empty()
    assert receivable_differences(business).is_empty()
    liability = trial_balance(business).filter(pl.col("ledger_account") == "prepaid_credits")
    owed = liability.select(pl.col("credit").sum() - pl.col("debit").sum()).item()
    assert (owed or 0) == credits(business)["left"].sum()
    return True


def correct(landing: Landing, month: str, as_of: str) -> Business:
    business = Business.load(landing.root, date.fromisoformat(as_of), issues=False)
    ingest_usage(business)
    bring_up_to_date(business, month)
    issue_corrections(business, month, "as agreed")
    return business


class Lives:
    """Accounts with prepaid credits, one per case, billed from their first day to 10 February; what was said then."""

    def __init__(self, root: Path) -> None:
        self.landing = Landing(root)
        path = self.landing.folder / "catalogue.yaml"
        catalogue = yaml.safe_load(path.read_text())
        catalogue.setdefault("policy", {})["reminders"] = [{"days": 7}]
        path.write_text(yaml.safe_dump(catalogue))
        for name in ("used", "bought", "waits", "unpaid", "gone", "less", "parked"):
            self.landing.customer(name)
        self._grant(
            "bought,a-bought,70.00,2026-01-03,,purchased,",
            "unpaid,u1,70.00,2026-01-03,,purchased,",
            "gone,gone,70.00,2026-01-03,,purchased,",
            "less,l1,50.00,2026-01-05,,granted,",
            "less,l2,10.00,2026-01-05,,granted,",
        )
        business = bill_by_steps(root, "2026-01", "2026-01-05")
        columns = ("number", "subscription_id", "total", "due", "status")
        self.prepayment = rows(business, "documents", *columns, account_id="bought")
        self.prepayment_lines = rows(business, "lines", "kind", "amount", number=self.prepayment[0][0])
        bought, unpaid, waits = (
            rows(business, "documents", "number", account_id=name)[0][0] for name in ("bought", "unpaid", "waits")
        )
        self.landing.pay("bought", bought, "70.00", "2026-01-10T09:00:00Z")
        self.landing.pay("unpaid", unpaid, "70.00", "2026-01-06T09:00:00Z", "failed")
        self.landing.pay("waits", waits, "20.00", "2026-01-09T09:00:00Z")
        self.landing.pay("waits", waits, "50.00", "2026-01-11T09:00:00Z")
        self._grant(
            "bought,a-bought,70.00,2026-01-03,,purchased,",
            "unpaid,u1,70.00,2026-01-03,,purchased,",
            "less,l1,50.00,2026-01-05,,granted,",
            "less,l2,10.00,2026-01-05,,granted,",
        )
        accounts = self.landing.folder / "accounts.csv"
        kept = accounts.read_text()
        accounts.write_text(kept.replace("parked,", "other,"))
        bill_by_steps(root, "2026-01", "2026-01-12")
        self._grant(
            "bought,a-bought,70.00,2026-01-03,,purchased,",
            "unpaid,u1,70.00,2026-01-03,,purchased,",
            "less,l1,30.00,2026-01-05,,granted,",
        )
        business = bill_by_steps(root, "2026-01", "2026-01-31")
        self.suspended = business.suspensions["account_id"].to_list()
        self.to_collect = collections(business).filter(account_id="unpaid")["number"].to_list()
        self.reminded = planned_reminders(business).filter(account_id="unpaid")["documents"].to_list()
        self.used_in_january = set(business.register.credit_uses()["grant_id"])
        accounts.write_text(kept)
        self.business = bill_by_steps(root, "2026-02", "2026-02-10")
        assert is_sound(self.business)

    def _grant(self, *lines: str) -> None:
        """Write the grants that change, beside those that stay."""
        grant(
            self.landing,
            "used,g1,50.00,2026-01-05,,granted,",
            "bought,gift,30.00,2026-01-05,,granted,",
            "waits,w1,70.00,2026-01-03,,purchased,",
            "parked,p1,50.00,2026-01-05,,granted,",
            "parked,p2,50.00,2026-01-05,,purchased,",
            *lines,
        )

    def uses(self, number: str) -> list[tuple[object, ...]]:
        """What paid a document."""
        return self.business.register.credit_uses().filter(number=number).select("grant_id", "amount").rows()


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    return Lives(tmp_path_factory.mktemp("lives") / "home")


def test_a_grant_pays_until_it_is_used(lives: Lives) -> None:
    business = lives.business
    assert paid(business, account_id="used") == [("99.00", "50.00", "49.00"), ("99.00", "0.00", "99.00")]
    assert of_grants(business)["g1"] == ("50.00", "0.00", "0.00")
    owed = collections(business).filter(account_id="used")
    assert [row["amount_due"] for row in owed.iter_rows(named=True)] == [Decimal(49), Decimal(99)]
    number = number_of(business, "used", date(2026, 1, 10))
    (content,) = (json.loads(text) for _, text in business.register.contents([number]))
    assert (content["total"], content["credits_applied"], content["due"]) == ("99.00", "50.00", "49.00")
    assert explain_document(business, number)[-1]["arithmetic"] == [
        "50.00 by g1: granted on 2026-01-05, never expires, priority 100",
        "total 99.00, due 49.00",
    ]


ORDERS = {
    "oldest": (["a,60.00,2026-01-05,,granted,", "b,80.00,2026-01-04,,granted,"], ["b", "a"]),
    "grant_id": (["a,60.00,2026-01-04,,granted,", "b,80.00,2026-01-04,,granted,"], ["a", "b"]),
    "soonest expiry": (["a,60.00,2026-01-04,,granted,", "b,80.00,2026-01-05,2026-12-01,granted,"], ["b", "a"]),
    "lowest priority number": (
        ["a,60.00,2026-01-04,2026-06-01,granted,", "b,80.00,2026-01-05,2026-12-01,granted,1"],
        ["b", "a"],
    ),
}
DAYS = [
    ("2026-01-10", "", "50.00"),
    ("2026-01-11", "", "0.00"),
    ("2026-01-01", "2026-01-11", "50.00"),
    ("2026-01-01", "2026-01-10", "0.00"),
]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """January of accounts with grants of their own, one per case."""
    landing = Landing(tmp_path_factory.mktemp("many") / "home")
    lines = [f"{case},{case}-{line}" for case, (own, _) in ORDERS.items() for line in own]
    for granted_on, expires_on, _ in DAYS:
        account = f"days-{granted_on}-{expires_on}"
        lines.append(f"{account},{account},50.00,{granted_on},{expires_on},granted,")
    lines += [
        "charged,long,150.00,2026-01-05,,granted,",
        "charged,short,10.00,2026-01-05,2026-01-16,granted,200",
        "shown,shown,120.00,2026-01-05,2026-03-01,granted,",
        "stated,stated,50.00,2026-01-05,,granted,",
    ]
    for account in dict.fromkeys([*(line.partition(",")[0] for line in lines), "beta"]):
        landing.customer(account)
    grant(landing, *lines)
    (landing.folder / "one_off_charges.csv").write_text(
        "charge_id,account_id,on,description,amount,currency,at_once\n"
        "c1,charged,2026-01-15,Set-up,40.00,USD,true\nc2,charged,2026-01-20,Training,60.00,USD,true\n"
    )
    business = bill_by_steps(landing.root, "2026-01", "2026-01-31")
    assert is_sound(business)
    return business


@pytest.mark.parametrize("case", ORDERS)
def test_grants_pay_in_order(many: Business, case: str) -> None:
    ((number,),) = rows(many, "documents", "number", account_id=case)
    used = many.register.credit_uses().filter(pl.col("number") == number)["grant_id"].to_list()
    assert used == [f"{case}-{name}" for name in ORDERS[case][1]]
    assert paid(many, account_id=case) == [("99.00", "99.00", "0.00")]


def test_a_purchased_grant_is_billed_and_pays_after_granted_ones_once_it_is_paid(lives: Lives) -> None:
    assert [row[1:] for row in lives.prepayment] == [(None, "70.00", "70.00", "open")]
    assert lives.prepayment_lines == [("prepayment", "70.00")]
    business = lives.business
    number = number_of(business, "bought", date(2026, 1, 10))
    assert paid(business, number=number) == [("99.00", "99.00", "0.00")]
    assert rows(business, "documents", "status", number=number) == [("paid",)]
    assert lives.uses(number) == [("gift", Decimal(30)), ("a-bought", Decimal(69))]
    # The last dollar pays of the next document.
    assert lives.uses(number_of(business, "bought", date(2026, 2, 10))) == [("a-bought", Decimal(1))]
    assert of_grants(business)["gift"] == ("30.00", "0.00", "0.00")


def test_a_purchased_grant_pays_nothing_until_the_day_it_is_paid(lives: Lives) -> None:
    wanted = {"account_id": "waits"}
    assert paid(lives.business, **wanted, billing_date=date(2026, 1, 10)) == [("99.00", "0.00", "99.00")]
    assert paid(lives.business, **wanted, billing_date=date(2026, 2, 10)) == [("99.00", "70.00", "29.00")]


def test_an_unpaid_prepayment_is_collected_but_neither_reminded_nor_does_it_suspend(lives: Lives) -> None:
    numbers = rows(lives.business, "documents", "number", "subscription_id", account_id="unpaid")
    (prepayment,) = (number for number, subscription in numbers if subscription is None)
    invoice = number_of(lives.business, "unpaid", date(2026, 1, 10))
    assert lives.suspended == []
    assert lives.to_collect == [prepayment, invoice]
    assert lives.reminded == [[invoice]]


@pytest.mark.parametrize(("granted_on", "expires_on", "applied"), DAYS)
def test_a_grant_pays_from_its_day_until_the_day_before_it_expires(
    many: Business, granted_on: str, expires_on: str, applied: str
) -> None:
    assert [row[1] for row in paid(many, account_id=f"days-{granted_on}-{expires_on}")] == [applied]


def test_a_document_of_a_month_uses_what_the_ones_before_it_left(many: Business) -> None:
    # `short` expires first, but its priority number is higher.
    assert paid(many, account_id="charged") == [
        ("99.00", "99.00", "0.00"),
        ("40.00", "40.00", "0.00"),
        ("60.00", "11.00", "49.00"),
    ]
    found = of_grants(many)
    assert (found["long"], found["short"]) == (("150.00", "0.00", "0.00"), ("0.00", "10.00", "0.00"))


def test_drafts_that_wait_come_before_those_of_later_months(landing: Landing) -> None:
    landing.customer("acme")
    grant(landing, "g1,150.00,2026-01-05,,granted,")
    draft = bill_by_steps(landing.root, "2026-02", "2026-02-10", issues=False)
    assert rows(draft, "drafts", "billing_date", "credits_applied", "due") == [
        (date(2026, 1, 10), "99.00", "0.00"),
        (date(2026, 2, 10), "51.00", "48.00"),
    ]
    assert draft.register.credit_uses().is_empty()
    business = bill_by_steps(landing.root, "2026-02", "2026-02-10")
    assert [row[1] for row in paid(business)] == ["99.00", "51.00"]
    assert is_sound(business)


def number_of(business: Business, account: str, on: date) -> str:
    ((number,),) = rows(business, "documents", "number", account_id=account, billing_date=on, kind="invoice")
    return str(number)


@pytest.fixture(scope="module")
def refunded(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """Three accounts whose first fee a grant paid in part, and that asked for a refund."""
    landing = Landing(tmp_path_factory.mktemp("refunded") / "home")
    for name in ("paid", "unpaid", "expired"):
        landing.customer(name)
    grant(
        landing,
        "paid,of-paid,50.00,2026-01-05,,granted,",
        "unpaid,of-unpaid,50.00,2026-01-05,,granted,",
        "expired,of-expired,60.00,2026-01-05,2026-01-15,granted,",
    )
    business = bill_by_steps(landing.root, "2026-01", "2026-01-10")
    for name, amount in (("paid", "49.00"), ("expired", "39.00")):
        landing.pay(name, number_of(business, name, date(2026, 1, 10)), amount, "2026-01-11T09:00:00Z")
    for name in ("paid", "unpaid", "expired"):
        landing.request(name, "refund", "2026-01-20T09:00:00Z")
    return bill_by_steps(landing.root, "2026-01", "2026-01-20")


def test_a_refund_gives_back_to_the_grant_before_money(refunded: Business) -> None:
    assert paid(refunded, kind="credit_note", account_id="paid") == [("-99.00", "-50.00", "-49.00")]
    assert of_grants(refunded)["of-paid"] == ("0.00", "0.00", "50.00")
    assert rows(refunded, "decisions", "amount", kind="refund", account_id="paid") == [("49.00",)]
    found = balances(refunded).row(by_predicate=pl.col("account_id") == "paid", named=True)
    assert (found["credits_applied"], found["credits_returned"], found["outstanding"]) == (50, 50, -49)
    ((note,),) = rows(refunded, "documents", "number", kind="credit_note", account_id="paid")
    assert explain_document(refunded, note)[-1]["arithmetic"] == [
        f"50.00 back to of-paid, which paid it of {number_of(refunded, 'paid', date(2026, 1, 10))}",
        "total -99.00, due -49.00",
    ]
    assert is_sound(refunded)


def test_a_refund_of_an_unpaid_document_lowers_what_is_unpaid_first(refunded: Business) -> None:
    assert paid(refunded, kind="credit_note", account_id="unpaid") == [("-99.00", "-50.00", "-49.00")]
    assert rows(refunded, "decisions", "amount", kind="refund", account_id="unpaid") == [("0.00",)]
    assert balances(refunded).filter(account_id="unpaid")["outstanding"].to_list() == [0]


PARTS = {"nothing": ("0.00", "0.00", "-9.00"), "most": ("55.00", "5.00", "-4.00"), "all": ("59.00", "9.00", "0.00")}
"""What was paid of a document, and what its credit note gives back to a grant and in money."""


@pytest.fixture(scope="module")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """Accounts that paid a part each of a document that two grants paid, and whose usage was delivered by mistake.

    `more` has usage that came late.
    """
    landing = Landing(tmp_path_factory.mktemp("lowered") / "home")
    path = landing.deliver(["."], "2026-01-20")
    path.unlink()
    lines = []
    for name in PARTS:
        landing.customer(name)
        landing.use(name, emails=18_000)
        lines += [f"{name},a-{name},20.00,2026-02-01,,granted,", f"{name},b-{name},29.00,2026-02-01,,granted,"]
    landing.customer("more")
    grant(landing, *lines)
    business = bill_by_steps(landing.root, "2026-02", "2026-02-10")
    lines += [
        "more,old,5.00,2026-01-05,2026-02-12,granted,",
        "more,new,5.00,2026-02-12,,granted,",
        "more,later,5.00,2026-02-13,,granted,",
    ]
    grant(landing, *lines)
    for name, (payment, *_) in PARTS.items():
        if payment != "0.00":
            landing.pay(name, number_of(business, name, date(2026, 2, 10)), payment, "2026-02-11T09:00:00Z")
    path.write_text("")
    landing.use("more", "2026-01-20", emails=18_000, delivered="2026-02-11")
    business = correct(landing, "2026-02", "2026-02-12")
    assert is_sound(business)
    return business


@pytest.mark.parametrize("name", PARTS)
def test_a_credit_note_lowers_what_is_unpaid_and_gives_the_rest_back(lowered: Business, name: str) -> None:
    _, returned, due = PARTS[name]
    assert paid(lowered, number=number_of(lowered, name, date(2026, 2, 10))) == [("108.00", "49.00", "59.00")]
    given_back = f"-{returned}" if returned != "0.00" else "0.00"
    assert paid(lowered, kind="credit_note", account_id=name) == [("-9.00", given_back, due)]
    assert of_grants(lowered)[f"a-{name}"] == ("20.00", "0.00", "0.00")
    assert of_grants(lowered)[f"b-{name}"][2] == returned


def test_what_a_credit_note_gives_back_to_an_expired_grant_expires_at_once(refunded: Business) -> None:
    assert paid(refunded, kind="credit_note", account_id="expired") == [("-99.00", "-60.00", "-39.00")]
    assert of_grants(refunded)["of-expired"] == ("0.00", "60.00", "0.00")
    assert is_sound(refunded)
    posted = rows(refunded, "journal", "posted_on", "ledger_account", "debit", "credit", kind="credits_expired")
    assert posted == [
        (date(2026, 1, 20), "credits_expired", "0.00", "60.00"),
        (date(2026, 1, 20), "prepaid_credits", "60.00", "0.00"),
    ]


@pytest.fixture(scope="module")
def fee_gone(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """Two accounts that paid their second fee, which falls away: one of them paid a part of it by a grant."""
    landing = Landing(tmp_path_factory.mktemp("gone") / "home")
    for name in ("money", "credits"):
        landing.customer(name)
    grant(landing, "money,g1,50.00,2026-01-05,,granted,", "credits,g2,120.00,2026-01-05,,granted,")
    business = bill_by_steps(landing.root, "2026-02", "2026-02-10")
    for name, month, amount in (("money", 1, "49.00"), ("money", 2, "99.00"), ("credits", 2, "78.00")):
        landing.pay(name, number_of(business, name, date(2026, month, 10)), amount, "2026-02-11T09:00:00Z")
    for name in ("money", "credits"):
        # Entered late: the fee of 10 February falls away.
        landing.request(name, "cancel", "2026-01-25T09:00:00Z", "email")
        landing.request(name, "subscribe", "2026-03-15T09:00:00Z", "self_service", package="starter")
    return bill_by_steps(landing.root, "2026-03", "2026-03-15")


def test_what_is_given_back_pays_the_next_document(fee_gone: Business) -> None:
    columns = ("kind", "total", "credits_applied")
    assert rows(fee_gone, "documents", *columns, billing_month="2026-03", account_id="money") == [
        ("credit_note", "-99.00", "0.00"),
        ("invoice", "99.00", "0.00"),
    ]


def test_a_negative_document_gives_back_to_the_grants_of_what_it_credits(fee_gone: Business) -> None:
    columns = ("kind", "credits_applied", "due")
    assert rows(fee_gone, "documents", *columns, billing_month="2026-03", account_id="credits") == [
        ("credit_note", "-21.00", "-78.00"),
        ("invoice", "21.00", "78.00"),
    ]
    assert is_sound(fee_gone)


def test_a_debit_note_is_paid_by_what_is_usable_on_the_day_of_issue(lowered: Business) -> None:
    assert paid(lowered, kind="debit_note") == [("9.00", "5.00", "4.00")]
    ((number,),) = rows(lowered, "documents", "number", kind="debit_note")
    assert lowered.register.credit_uses().filter(number=number)["grant_id"].to_list() == ["new"]


def test_a_row_that_grants_less_than_was_used_is_a_warning_and_what_was_used_stands(lives: Lives) -> None:
    business = lives.business
    assert [warning for warning in business.inputs.warnings if "used by less" in warning] == [
        "credit_grants: l1: found an amount of 30, and 50 of it was used by less: that stands, nothing is left",
        "credit_grants: l2: the row is gone, and 10 of it was used by less: that stands, the rest is void",
    ]
    assert paid(business, account_id="less") == [("99.00", "60.00", "39.00"), ("99.00", "0.00", "99.00")]
    found = of_grants(business)
    assert (found["l1"], found["l2"]) == (("50.00", "0.00", "0.00"), ("10.00", "0.00", "0.00"))


def test_a_purchased_grant_whose_row_is_gone_is_credited(lives: Lives) -> None:
    found = rows(lives.business, "documents", "kind", "total", "credits_applied", billing_date=date(2026, 2, 3))
    assert found == [("credit_note", "-70.00", "0.00")]


def test_what_is_left_and_what_expires_next_stand_in_profile_and_report(landing: Landing) -> None:
    landing.customer("acme")
    grant(
        landing,
        "g1,120.00,2026-01-05,2026-03-01,granted,",
        "g2,40.00,2026-01-06,2026-02-01,granted,",
        "g3,7.00,2026-01-07,,granted,",
    )
    business = bill_by_steps(landing.root, "2026-01", "2026-01-20")
    (found,) = account_profiles(business, business.as_of).iter_rows(named=True)
    assert (found["credits_left"], found["credits_expire_on"], found["credits_expiring"]) == (
        68,
        date(2026, 3, 1),
        61,
    )
    assert (found["upcoming_amount"], found["upcoming_credits"]) == (99, 68)
    business = bill_by_steps(landing.root, "2026-02", "2026-02-28")
    assert month_credits(business, date(2026, 1, 1), date(2026, 1, 31)).rows() == [("granted", 167, 99, 0, 68)]
    assert month_credits(business, date(2026, 2, 1), date(2026, 2, 28)).rows() == [("granted", 0, 68, 0, 0)]
    grants = allocations(business).filter(pl.col("source_kind") == "grant")
    assert grants.group_by("number").agg(pl.col("amount").sum()).sort("number").rows() == [
        ("INV-2026-000001", 99),
        ("INV-2026-000002", 68),
    ]


@pytest.mark.skipif(not sizes.LONG, reason="`test_shards.py` bills whatever is sold in shards: pytest --long")
def test_shards_pay_as_one(landing: Landing) -> None:
    names = [f"acme-{place}" for place in range(6)]
    for name in names:
        landing.customer(name)
    grant(landing, *(f"{name},g-{name},150.00,2026-01-05,,granted," for name in names))
    twin = landing.copied(landing.root.with_name("twin"))
    one = bill_by_steps(landing.root, "2026-02", "2026-02-10")
    three = bill_by_steps(twin.root, "2026-02", "2026-02-10", shards=sized(usual=2, long=3))
    assert one.register.credit_uses().equals(three.register.credit_uses())
    assert one.register.documents().equals(three.register.documents())
    assert is_sound(three)


def test_pages_of_an_account_say_what_is_left(many: Business) -> None:
    bills = next_bills(many, many.as_of)
    write_portal_pages(many, bills)
    links = many.register.profile_links()
    pages = {
        account: (many.home.profiles / token / "index.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
        for account, token in links.select("account_id", "token").iter_rows()
    }
    for said in ("Prepaid credit left", "USD 21.00 of it can be used until February 28, 2026", "USD 78.00"):
        assert said in pages["shown"]
    assert "Prepaid credit" not in pages["beta"]
    names: dict[str, str | None] = {"shown": "Shown", "beta": "Beta"}
    write_profile_pages(many, bills.profiles, names)
    page = (many.home.profiles / "a-shown.html").read_text()
    assert "USD 21.00, 21.00 of it until 2026-03-01" in page


def test_a_statement_ends_with_what_is_owed_after_credits(many: Business) -> None:
    content = statement(many, "stated", None, date(2026, 1, 31))
    assert [row["amount"] for row in content["movements"]] == ["49.00"]
    assert content["closing"] == "49.00"


def test_a_parked_account_keeps_its_grants(lives: Lives) -> None:
    assert lives.used_in_january.isdisjoint({"p1", "p2"})
    documents = paid(lives.business, billing_month="2026-02", account_id="parked")
    assert documents == [("198.00", "50.00", "148.00")]


def test_drafts_that_are_not_issued_yet_hold_their_credits(landing: Landing) -> None:
    path = landing.folder / "catalogue.yaml"
    catalogue = yaml.safe_load(path.read_text())
    catalogue.setdefault("policy", {})["issue_after_days"] = 3
    path.write_text(yaml.safe_dump(catalogue))
    landing.customer("acme")
    (landing.folder / "one_off_charges.csv").write_text(
        "charge_id,account_id,on,description,amount,currency,at_once\nc1,acme,2026-01-20,Training,60.00,USD,true\n"
    )
    grant(landing, "g1,150.00,2026-01-05,,granted,")
    business = bill_by_steps(landing.root, "2026-01", "2026-01-21")
    assert paid(business) == [("99.00", "99.00", "0.00")]
    assert rows(business, "drafts", "credits_applied", "due") == [("51.00", "9.00")]
    business = bill_by_steps(landing.root, "2026-02", "2026-02-13")
    assert paid(business) == [("99.00", "99.00", "0.00"), ("60.00", "51.00", "9.00"), ("99.00", "0.00", "99.00")]
    assert rows(business, "drafts", "due") == []
    assert is_sound(business)


def test_grants_pay_documents_of_their_currency_only(landing: Landing) -> None:
    path = landing.folder / "catalogue.yaml"
    catalogue = yaml.safe_load(path.read_text())
    for package in catalogue["packages"]:
        for version in package["versions"]:
            version["price"] = {term: {"USD": price, "EUR": price} for term, price in version["price"].items()}
            version["overage"] = {}
            version["allowances"] = dict.fromkeys(version["allowances"])
            version.pop("auto_upgrade_on", None)
    path.write_text(yaml.safe_dump(catalogue))
    landing.customer("acme")
    landing.customer("euro")
    accounts = (landing.folder / "accounts.csv").read_text().splitlines()
    with_currency = [
        f"{accounts[0]},currency",
        *(f"{row},{'EUR' if row.startswith('euro') else ''}" for row in accounts[1:]),
    ]
    (landing.folder / "accounts.csv").write_text("\n".join(with_currency) + "\n")
    (landing.folder / "credit_grants.csv").write_text(
        "grant_id,account_id,amount,currency,granted_on,kind\n"
        "a,acme,50.00,USD,2026-01-05,granted\nb,euro,30.00,EUR,2026-01-05,granted\n"
    )
    business = bill_by_steps(landing.root, "2026-01", "2026-01-31")
    assert rows(business, "documents", "account_id", "currency", "credits_applied", "due") == [
        ("acme", "USD", "50.00", "49.00"),
        ("euro", "EUR", "30.00", "69.00"),
    ]
    found = balances(business).select("account_id", "currency", "credits_applied", "outstanding").rows()
    assert found == [("acme", "USD", 50, 49), ("euro", "EUR", 30, 69)]
    assert is_sound(business)
