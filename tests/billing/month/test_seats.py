"""Seats: charged in advance by the level at the billing date, and by day where they are added later (rule 35)."""

import re
from pathlib import Path

import pytest

from billing.month.business import Business
from billing.reports.explain import explain_document
from billing.reports.verify import disagreements
from billing.starter import starter_catalogue
from tests import sizes
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing, event

SEATS = '{metric: users, included: 5, price: "12.00"}'
TIERS = (
    "{metric: users, included: 5, tariff: {model: graduated,"
    ' tiers: [{up_to: 2, unit_price: "12.00"}, {up_to: null, unit_price: "10.00"}]}}'
)
MONTHS = (("2026-01", "2026-01-31"), ("2026-02", "2026-02-28"), ("2026-03", "2026-03-31"))


def catalogue_with(seats: str, **policy: str) -> str:
    text = starter_catalogue().replace(
        "metrics:\n",
        "metrics:\n  users: {event: users.changed, kind: gauge, carries: level, value: data.level,"
        " charged: in_advance}\n",
        1,
    )
    text = re.sub(r"(allowances: *\{)", r"\1users: null, ", text)
    text = re.sub(r"^( +)overage:$", rf"\1seats: {seats}\n\1overage:", text, flags=re.MULTILINE)
    for name, value in policy.items():
        text = re.sub(rf"^  {name}: .*$", f"  {name}: {value}", text, flags=re.MULTILINE)
    return text


def level(landing: Landing, account: str, seats: float, at: str, delivered: str = "") -> None:
    landing.written += 1
    row = event(f"seats-{landing.written}", account, "users.changed", {"level": seats}, at)
    landing.deliver([row], delivered or at[:10])


def lines(business: Business, account: str, on: str) -> list[tuple[object, ...]]:
    """kind, level or added seats that cost, and amount of what seats cost on a billing date."""
    numbers = rows(business, "documents", "number", "billing_date", account_id=account)
    number = next(number for number, day in numbers if str(day) == on)
    found = rows(business, "lines", "kind", "metric", "quantity", "billed_units", "amount", number=number)
    return [(kind, quantity or units, amount) for kind, metric, quantity, units, amount in found if metric == "users"]


@pytest.fixture(scope="module")
def billed(tmp_path_factory: pytest.TempPathFactory) -> Business:
    landing = Landing(tmp_path_factory.mktemp("seats"), catalogue_with(SEATS))
    for name in ("usual", "instant", "twice", "fewer", "included", "cancelled", "refunded", "late"):
        landing.customer(name)
    landing.customer("yearly", term="yearly")
    landing.customer("month-end", on="2026-01-31")
    level(landing, "usual", 8, "2026-02-09T10:00:00Z")
    level(landing, "usual", 10, "2026-02-20T10:00:00Z")
    level(landing, "instant", 6, "2026-02-10T00:00:00Z")
    level(landing, "instant", 7, "2026-02-10T00:00:01Z")
    level(landing, "twice", 7, "2026-01-20T10:00:00Z")
    level(landing, "twice", 6, "2026-01-25T10:00:00Z")
    level(landing, "twice", 9, "2026-02-01T10:00:00Z")
    level(landing, "fewer", 9, "2026-01-10T00:00:00Z")
    level(landing, "fewer", 6, "2026-01-15T00:00:00Z")
    level(landing, "fewer", 9, "2026-01-20T00:00:00Z")
    level(landing, "included", 5, "2026-01-20T10:00:00Z")
    for name in ("cancelled", "refunded"):
        level(landing, name, 8, "2026-01-12T10:00:00Z")
    landing.request("cancelled", "cancel", "2026-01-15T09:00:00Z", "email")
    level(landing, "cancelled", 20, "2026-01-16T10:00:00Z")
    landing.request("refunded", "refund", "2026-01-15T09:00:00Z", "support")
    level(landing, "yearly", 7, "2026-01-10T00:00:00Z")
    level(landing, "month-end", 6, "2026-02-27T12:00:00Z")
    level(landing, "late", 6, "2026-01-12T00:00:00Z", delivered="2026-03-05")
    _comes_back(landing, "back")
    landing.customer("again")
    level(landing, "again", 8, "2026-01-15T00:00:00Z")
    landing.request("again", "cancel", "2026-01-20T09:00:00Z", "email")
    landing.request("again", "subscribe", "2026-01-20T10:00:00Z", "self_service", package="starter")
    business = bill_by_steps(landing.root, *MONTHS[0])
    _pays_late(landing, business, "back")
    for month, day in MONTHS[1:]:
        business = bill_by_steps(landing.root, month, day)
    return business


def _comes_back(landing: Landing, account: str) -> None:
    """A customer whose access a payment ends within a cycle, and another one brings back."""
    landing.customer(account)
    level(landing, account, 8, "2026-01-15T00:00:00Z")
    level(landing, account, 9, "2026-02-28T00:00:00Z")


def _pays_late(landing: Landing, business: Business, account: str) -> None:
    ((number,),) = rows(business, "documents", "number", account_id=account)
    landing.pay(account, number, "99.00", "2026-02-01T00:00:00Z", "failed")
    landing.pay(account, number, "99.00", "2026-02-20T00:00:00Z")


@pytest.fixture(scope="module")
def charged_while_suspended(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """Who is suspended is charged, and seats of silver have tiers."""
    text = catalogue_with(SEATS).replace("charge_while_suspended: false", "charge_while_suspended: true")
    others, _, larger = text.partition("  - name: silver\n")
    landing = Landing(
        tmp_path_factory.mktemp("charged"), f"{others}  - name: silver\n{larger.replace(SEATS, TIERS, 1)}"
    )
    _comes_back(landing, "back")
    landing.customer("tiers", "silver")
    level(landing, "tiers", 6, "2026-01-10T00:00:00Z")
    level(landing, "tiers", 9, "2026-01-26T00:00:00Z")
    _pays_late(landing, bill_by_steps(landing.root, *MONTHS[0]), "back")
    return bill_by_steps(landing.root, "2026-03", "2026-03-10")


def test_added_seats_cost_the_days_left(billed: Business) -> None:
    assert lines(billed, "usual", "2026-02-10") == [("proration", "3.00", "1.16"), ("seats", "8.00", "36.00")]
    # 2 x 12.00 x 18 / 28
    assert lines(billed, "usual", "2026-03-10") == [("proration", "2.00", "15.43"), ("seats", "10.00", "60.00")]


def test_events_of_the_first_instant_are_in_the_level_that_is_charged(billed: Business) -> None:
    assert lines(billed, "instant", "2026-02-10") == [("seats", "6.00", "12.00")]
    # One more on the first day: the whole cycle.
    assert lines(billed, "instant", "2026-03-10")[0] == ("proration", "1.00", "12.00")


def test_each_rise_above_the_highest_so_far_is_charged_once_and_rounded_together(billed: Business) -> None:
    # 2 x 12.00 x 21 / 31 + 2 x 12.00 x 9 / 31 = 23.2258
    assert lines(billed, "twice", "2026-02-10") == [("proration", "4.00", "23.23"), ("seats", "9.00", "48.00")]


def test_fewer_seats_give_nothing_back_within_the_cycle(billed: Business) -> None:
    assert lines(billed, "fewer", "2026-01-10") == [("seats", "9.00", "48.00")]
    assert lines(billed, "fewer", "2026-02-10") == [("seats", "9.00", "48.00")]


def test_included_seats_cost_nothing(billed: Business) -> None:
    assert lines(billed, "included", "2026-02-10") == []


def test_seats_that_were_added_before_the_end_are_charged(billed: Business) -> None:
    # 3 x 12.00 x 29 / 31; what was added after the access ended is not.
    assert lines(billed, "cancelled", "2026-02-10") == [("proration", "3.00", "33.68")]


def test_a_refunded_cycle_charges_no_seats(billed: Business) -> None:
    assert rows(billed, "documents", "net", account_id="refunded") == [("-99.00",), ("99.00",)]


def test_seats_are_monthly_within_a_yearly_term(billed: Business) -> None:
    for on in ("2026-01-10", "2026-02-10", "2026-03-10"):
        assert lines(billed, "yearly", on) == [("seats", "7.00", "24.00")]


def test_a_cycle_of_the_last_day_of_months(billed: Business) -> None:
    # 1 x 12.00 x 1 / 28
    assert lines(billed, "month-end", "2026-02-28") == [("proration", "1.00", "0.43"), ("seats", "6.00", "12.00")]


def test_a_level_that_becomes_known_late_is_settled(billed: Business) -> None:
    number = rows(billed, "documents", "number", "billing_date", account_id="late")[-1][0]
    found = rows(billed, "lines", "kind", "amount", "description", number=number)
    assert [(kind, amount) for kind, amount, _ in found] == [
        ("package_fee", "99.00"),
        ("seats", "12.00"),
        ("prior_cycle", "11.23"),
        ("prior_cycle", "12.00"),
    ]


def test_the_register_agrees(billed: Business) -> None:
    assert [told for told in disagreements(billed) if "PDF" not in told] == []


def test_tiers_price_the_excess_and_the_difference(charged_while_suspended: Business) -> None:
    assert lines(charged_while_suspended, "tiers", "2026-01-10") == [("seats", "6.00", "12.00")]
    # (12 + 2 x 10) x 15 / 31; then 2 x 12.00 + 2 x 10.00.
    found = lines(charged_while_suspended, "tiers", "2026-02-10")
    assert found == [("proration", "3.00", "15.48"), ("seats", "9.00", "44.00")]


@pytest.fixture(scope="module")
def first_of_month(tmp_path_factory: pytest.TempPathFactory) -> Business:
    landing = Landing(tmp_path_factory.mktemp("first"), catalogue_with(SEATS, billing_anchor="first_of_month"))
    landing.customer("acme", on="2026-01-16")
    level(landing, "acme", 7, "2026-01-16T00:00:00Z")
    level(landing, "acme", 8, "2026-01-22T00:00:00Z")
    landing.customer("held", on="2026-01-01")
    landing.request("held", "hold", "2026-01-10T09:00:00Z")
    landing.request("held", "resume", "2026-02-13T09:00:00Z")
    level(landing, "held", 7, "2026-01-01T00:00:00Z")
    level(landing, "held", 8, "2026-02-21T00:00:00Z")
    return bill_by_steps(landing.root, "2026-03", "2026-03-01")


def test_the_first_of_the_month_divides_by_the_calendar_month(first_of_month: Business) -> None:
    # 24.00 x 16 / 31, and 12.00 x 10 / 31.
    assert lines(first_of_month, "acme", "2026-01-16") == [("seats", "7.00", "12.39")]
    assert lines(first_of_month, "acme", "2026-02-01") == [("proration", "1.00", "3.87"), ("seats", "8.00", "36.00")]


def test_a_short_first_cycle_after_a_hold_is_whole_and_divides_by_its_own_days(first_of_month: Business) -> None:
    # Fee and seats of 13 to 28 February are whole (rule 13): 8 of its 16 days are left.
    assert lines(first_of_month, "held", "2026-02-13") == [("seats", "7.00", "24.00")]
    assert lines(first_of_month, "held", "2026-03-01") == [("proration", "1.00", "6.00"), ("seats", "8.00", "36.00")]
    numbers = rows(first_of_month, "documents", "number", "billing_date", account_id="held")
    number = next(number for number, day in numbers if str(day) == "2026-03-01")
    explained = [each for each in explain_document(first_of_month, number) if each["kind"] == "proration"]
    assert any("8 / 16" in step for each in explained for step in each["arithmetic"])


@pytest.mark.skipif(not sizes.LONG, reason="`test_shards.py` bills whatever is sold in shards: pytest --long")
def test_shards_make_no_difference(tmp_path: Path) -> None:
    found = []
    for shards in (1, 2):
        landing = Landing(tmp_path / str(shards), catalogue_with(SEATS))
        for place, name in enumerate(("a", "b", "c", "d")):
            landing.customer(name)
            level(landing, name, 6 + place, "2026-01-20T00:00:00Z")
        for month, day in MONTHS[:2]:
            business = bill_by_steps(landing.root, month, day, shards=shards)
        found.append(rows(business, "documents", "number", "account_id", "net", "content_hash"))
    assert found[0] == found[1]


@pytest.mark.parametrize(("charged", "expected"), [("true", [("seats", "8.00", "36.00")]), ("false", [])])
def test_access_that_comes_back_within_a_cycle_charges_no_seats_that_stood_at_its_start(
    charged: str, expected: list[tuple[object, ...]], billed: Business, charged_while_suspended: Business
) -> None:
    business = billed if charged == "false" else charged_while_suspended
    # 3 x 12.00 x 26 / 31 for January; the ninth is added for 10 of 28 days.
    assert lines(business, "back", "2026-02-10") == [("proration", "3.00", "30.19"), *expected]
    assert lines(business, "back", "2026-03-10") == [("proration", "1.00", "4.29"), ("seats", "9.00", "48.00")]


def test_seats_of_a_subscription_that_begins_on_the_day_another_one_ends_are_charged_once(billed: Business) -> None:
    assert lines(billed, "again", "2026-01-20") == [("seats", "8.00", "36.00")]
    assert lines(billed, "again", "2026-02-20") == [("seats", "8.00", "36.00")]
