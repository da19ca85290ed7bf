"""Coupons, add-ons, minimum spends and seats of a catalogue: read as written, or refused with line, found, expected."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from billing.inputs.catalogue_file import load_catalogue
from billing.model.catalogue import Catalogue, MinimumSpend, Seats, Tariff, Tier, terms_periods
from billing.model.errors import Problem, RefusedError
from billing.model.offers import COUPON_KINDS, AddOn, AddOnVersion, Coupon

OFFERS = """\
currency: USD
seller: {name: Example, address: ["1 Example Street"], country: US}
policy: {requested_upgrades: at_once}
metrics:
  emails: {event: email.sent, kind: counter, measure: sum, value: data.count}
  users: {event: users.changed, kind: gauge, value: data.delta, carries: delta, charged: in_advance}
coupons:
  - name: spring
    title: {en: Spring offer, de: Frühling}
    percent: "10"
    applies_to: [package_fee, overage.emails, add_on.dedicated_ip]
    packages: [basic]
    documents: 3
    redeem_until: 2026-06-30
    redemptions: {account: 2, all: 500}
    priority: 10
  - {name: ten, amount: "10.00"}
add_ons:
  - name: dedicated_ip
    title: Dedicated IP
    versions:
      - {effective_from: 2026-06-01, price: {monthly: "35.00"}}
      - effective_from: 2026-01-01
        price: {monthly: "30.00", yearly: "300.00"}
        allowances: {emails: 50000}
        maximum: 5
  - {name: support, versions: [{effective_from: 2026-01-01, price: {monthly: "9.00"}}]}
packages:
  - name: basic
    rank: 1
    add_ons: [dedicated_ip]
    versions:
      - effective_from: 2026-01-01
        price: {monthly: "99.00"}
        allowances: {emails: 100}
        overage: {emails: none}
        minimum_spend: {amount: "200.00", counts: [package_fee, overage]}
        seats: {metric: users, included: 5, price: "12.00"}
  - name: large
    rank: 2
    versions:
      - effective_from: 2026-01-01
        price: {monthly: "199.00"}
        allowances: {emails: null, users: 100}
agreements:
  - {account_id: acme, package: basic, effective_from: 2026-03-01, minimum_spend: {amount: "0"}}
"""
SEATS = 'seats: {metric: users, included: 5, price: "12.00"}'
MINIMUM = 'minimum_spend: {amount: "200.00", counts: [package_fee, overage]}'

Read = Callable[[str], Catalogue]


@pytest.fixture
def read(catalogue_file: Callable[[str], Path]) -> Read:
    return lambda text: load_catalogue(catalogue_file(text))


def the_problem(read: Read, text: str) -> Problem:
    with pytest.raises(RefusedError) as refused:
        read(text)
    (problem,) = refused.value.problems
    assert problem.place.startswith("line ")
    return problem


def test_a_coupon_is_read_as_it_is_written(read: Read) -> None:
    spring, ten = read(OFFERS).coupons
    assert spring == Coupon(
        "spring",
        "Spring offer",
        percent=Decimal(10),
        applies_to=("package_fee", "overage.emails", "add_on.dedicated_ip"),
        packages=("basic",),
        documents=3,
        redeem_until=date(2026, 6, 30),
        account_redemptions=2,
        all_redemptions=500,
        priority=10,
        titles={"en": "Spring offer", "de": "Frühling"},
    )
    assert ten == Coupon("ten", "Ten", amount=Decimal("10.00"))


def test_a_coupon_lowers_all_kinds_of_lines_for_ever_and_once_an_account_unless_it_says_otherwise(read: Read) -> None:
    ten = read(OFFERS).coupons[1]
    assert (ten.applies_to, ten.packages, ten.documents, ten.redeem_until) == (COUPON_KINDS, None, None, None)
    assert (ten.account_redemptions, ten.all_redemptions, ten.priority) == (1, None, 100)


def test_an_add_on_has_versions_in_the_order_of_their_dates(read: Read) -> None:
    ip, support = read(OFFERS).add_ons
    first = AddOnVersion(date(2026, 1, 1), Decimal("30.00"), Decimal("300.00"), {"emails": Decimal(50000)}, 5)
    second = AddOnVersion(date(2026, 6, 1), Decimal("35.00"), None, {})
    assert ip == AddOn("dedicated_ip", "Dedicated IP", (first, second))
    assert (support.name, support.title) == ("support", "Support")


def test_a_package_allows_the_add_ons_that_it_names_or_all(read: Read) -> None:
    found = read(OFFERS)
    assert (found.package("basic").add_ons, found.package("large").add_ons) == (("dedicated_ip",), None)
    none = read(OFFERS.replace("add_ons: [dedicated_ip]", "add_ons: []"))
    assert none.package("basic").add_ons == ()


def test_a_minimum_spend_stands_on_a_version_and_an_agreement_takes_its_place(read: Read) -> None:
    found = read(OFFERS)
    minimum = MinimumSpend(Decimal("200.00"), ("package_fee", "overage"))
    assert found.package("basic").versions[0].minimum_spend == minimum
    assert found.package("large").versions[0].minimum_spend is None
    by_account = [
        (period.account_id, str(period.since), period.terms.minimum_spend)
        for period in terms_periods(found)
        if period.package == "basic"
    ]
    assert by_account == [
        ("", "2026-01-01", minimum),
        ("acme", "2026-01-01", minimum),
        ("acme", "2026-03-01", MinimumSpend(Decimal(0))),
    ]


def test_a_minimum_spend_counts_everything_unless_it_says_what(read: Read) -> None:
    found = read(OFFERS.replace(", counts: [package_fee, overage]", ""))
    minimum = found.package("basic").versions[0].minimum_spend
    assert minimum is not None
    assert minimum.counts == ("package_fee", "overage", "add_on", "seats")


def test_seats_have_a_price_or_a_tariff(read: Read) -> None:
    found = read(OFFERS)
    assert found.package("basic").versions[0].seats == (Seats("users", Decimal(5), Decimal("12.00")),)
    assert found.package("large").versions[0].seats == ()
    tariff = '{model: volume, tiers: [{up_to: 10, unit_price: "9"}, {up_to: null, unit_price: "8"}]}'
    (seats,) = (
        read(OFFERS.replace(SEATS, f"seats: [{{metric: users, tariff: {tariff}}}]")).packages[0].versions[0].seats
    )
    tiers = (Tier(Decimal(10), Decimal(9), Decimal(0)), Tier(None, Decimal(8), Decimal(0)))
    assert seats == Seats("users", tariff=Tariff("volume", tiers=tiers))


def test_a_metric_that_is_charged_in_advance_needs_neither_allowance_nor_overage(read: Read) -> None:
    found = read(OFFERS)
    assert found.metric("users").is_in_advance
    assert not found.metric("emails").is_in_advance
    assert found.package("basic").versions[0].allowances["users"] is None
    assert found.package("large").versions[0].allowances["users"] == Decimal(100)


def test_requested_upgrades_are_at_once_where_the_policy_says_so(read: Read) -> None:
    assert read(OFFERS).policy.requested_upgrades == "at_once"
    assert read(OFFERS.replace("{requested_upgrades: at_once}", "{}")).policy.requested_upgrades == "next_cycle"


@pytest.mark.parametrize(
    ("right", "wrong", "place", "found", "expected"),
    [
        ('percent: "10"', "documents_: 1", "coupons[0]", None, None),
        ('percent: "10"', 'percent: "0"', "coupons[0].percent", "'0'", "a percentage above 0, up to 100"),
        ('percent: "10"', 'percent: "100.01"', "coupons[0].percent", "'100.01'", "up to 100"),
        ('percent: "10"', 'percent: "0.0000000001"', "coupons[0].percent", "'0.0000000001'", "9 decimals"),
        ('percent: "10"', 'percent: "10"\n    amount: "5"', "coupons[0]", "both", "one of percent and amount"),
        (', amount: "10.00"', "", "coupons[1]", "none", "one of percent and amount"),
        ('amount: "10.00"', 'amount: "0.00"', "coupons[1].amount", "'0.00'", "an amount above 0"),
        ('amount: "10.00"', 'amount: "-1"', "coupons[1].amount", "'-1'", "an amount from 0"),
        ('amount: "10.00"', 'amount: "1.005"', "coupons[1].amount", "'1.005'", "at most 2 decimals"),
        ("name: ten", "name: spring", "coupons", "spring more than once", "every name once"),
        ("name: ten", "name: t/en", "coupons[1].name", "'t/en'", "without `/`"),
        ("name: ten", 'name: " ten"', "coupons[1].name", "' ten'", "without blanks at its ends"),
        ("overage.emails,", "overage.users,", "coupons[0].applies_to[1]", "'overage.users'", "overage.emails"),
        ("overage.emails,", "package_fee,", "coupons[0].applies_to", "package_fee more than once", "every name once"),
        ("[package_fee, overage.emails, add_on.dedicated_ip]", "[]", "coupons[0].applies_to", "an empty list", "one"),
        ("packages: [basic]", "packages: [basik]", "coupons[0].packages[0]", "'basik'", "one of: basic, large"),
        ("documents: 3", "documents: 0", "coupons[0].documents", "'0'", "a whole number from 1"),
        ("account: 2", "account: 0", "coupons[0].redemptions.account", "'0'", "a whole number from 1"),
        ("all: 500", "al: 500", "coupons[0].redemptions.al", "the unknown key al", "one of: account, all"),
        ("redeem_until: 2026-06-30", "redeem_until: soon", "coupons[0].redeem_until", "'soon'", "a date"),
        ("priority: 10", "priority: first", "coupons[0].priority", "'first'", "a whole number"),
        ("name: support", "name: dedicated_ip", "add_ons", "dedicated_ip more than once", "every name once"),
        (
            "allowances: {emails: 50000}",
            "allowances: {emals: 1}",
            "add_ons[0].versions[1].allowances.emals",
            None,
            None,
        ),
        ("maximum: 5", "maximum: 0", "add_ons[0].versions[1].maximum", "'0'", "a whole number from 1"),
        ("effective_from: 2026-06-01", "effective_from: 2026-01-01", "add_ons[0].versions", "more than once", "once"),
        (
            "versions: [{effective_from: 2026-01-01",
            "versions: [{from: 2026-01-01",
            "add_ons[1].versions[0]",
            None,
            None,
        ),
        ("add_ons: [dedicated_ip]", "add_ons: [gift]", "packages[0].add_ons[0]", "'gift'", "one of: dedicated_ip"),
        (MINIMUM, 'minimum_spend: {amount: "1.005"}', "versions[0].minimum_spend.amount", "'1.005'", "2 decimals"),
        (MINIMUM, 'minimum_spend: {amount: "1", counts: [charge]}', "counts[0]", "'charge'", "package_fee"),
        ('{amount: "0"}', "null", "agreements[0].minimum_spend", "null", "what is agreed"),
        (SEATS, "seats: {metric: users}", "seats", "none", "one of price and tariff"),
        (SEATS, 'seats: {metric: emails, price: "1"}', "seats.metric", "'emails'", "one of: users"),
        (SEATS, f'seats: [{SEATS.removeprefix("seats: ")}, {{metric: users, price: "1"}}]', "seats", "users", "once"),
        (
            SEATS,
            'seats: {metric: users, tariff: {model: block, size: 1, price: "1"}}',
            "seats.tariff",
            "block",
            "the model graduated or volume",
        ),
        (", charged: in_advance", "", "seats", "seats without one", "a metric with `charged: in_advance`"),
        (
            "value: data.count}",
            "value: data.count, charged: in_advance}",
            "metrics.emails.charged",
            None,
            "on a counter",
        ),
        ("charged: in_advance", "charged: later", "metrics.users.charged", "'later'", "one of: in_advance"),
        ("overage: {emails: none}", "overage: {emails: none, users: none}", "overage.users", "'none'", "no overage"),
        ("at_once", "at once", "policy.requested_upgrades", "'at once'", "next_cycle, at_once"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(
    read: Read, right: str, wrong: str, place: str, found: str | None, expected: str | None
) -> None:
    assert right in OFFERS
    with pytest.raises(RefusedError) as refused:
        read(OFFERS.replace(right, wrong, 1))
    problem = next(each for each in refused.value.problems if place in each.place)
    assert problem.place.startswith("line ")
    assert (found or "") in problem.found
    assert (expected or "") in problem.expected


def test_a_percentage_of_all_is_read(read: Read) -> None:
    assert read(OFFERS.replace('percent: "10"', 'percent: "100"')).coupons[0].percent == Decimal(100)


def test_amounts_of_a_currency_without_decimals_have_none(read: Read) -> None:
    yen = OFFERS.replace("currency: USD", "currency: JPY").replace('"10.00"', '"10.5"')
    problem = the_problem(read, yen)
    assert (problem.found, problem.expected) == ("'10.5'", "an amount of at most 0 decimals, those of the currency")


def test_a_finite_limit_of_a_metric_charged_in_advance_can_trigger_an_upgrade(read: Read) -> None:
    found = read(OFFERS.replace("allowances: {emails: 100}", "allowances: {emails: 100, users: 10}"))
    assert found.package("basic").versions[0].allowances["users"] == Decimal(10)
    agreed = read(OFFERS.replace('minimum_spend: {amount: "0"}', "allowances: {users: 20}"))
    assert agreed.agreements[0].allowances == {"users": Decimal(20)}
