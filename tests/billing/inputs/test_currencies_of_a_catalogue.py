"""Amounts by currency in a catalogue: what is sold in which currency, and what is refused (rule 36)."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from billing.inputs.catalogue_file import load_catalogue
from billing.model.catalogue import Catalogue, terms_periods
from billing.model.errors import RefusedError
from billing.rules.terms import terms_frames
from tests.several_currencies import CATALOGUE

Read = Callable[[str], Catalogue]


@pytest.fixture
def read(catalogue_file: Callable[[str], Path]) -> Read:
    return lambda text: load_catalogue(catalogue_file(text))


def problems(read: Read, text: str) -> list[str]:
    with pytest.raises(RefusedError) as refused:
        read(text)
    return [str(problem) for problem in refused.value.problems]


def test_a_catalogue_is_read_once_for_each_currency_that_it_names(read: Read) -> None:
    catalogue = read(CATALOGUE)
    assert (catalogue.currency, list(catalogue.others)) == ("USD", ["EUR", "JPY", "KWD"])
    prices = {
        code: catalogue.in_currency(code).package("starter").versions[0].monthly for code in ("USD", *catalogue.others)
    }
    assert prices == {"USD": Decimal("99.00"), "EUR": Decimal("89.00"), "JPY": Decimal(15000), "KWD": Decimal("30.555")}
    assert [catalogue.in_currency(code).minor_units for code in ("USD", "EUR", "JPY", "KWD")] == [2, 2, 0, 3]
    assert catalogue.in_currency("USD") is catalogue


def test_a_plain_amount_is_in_the_currency_of_the_catalogue_only(read: Read) -> None:
    euros = read(CATALOGUE).in_currency("EUR")
    assert [package.versions[0].is_sold for package in euros.packages] == [True, False, True]
    assert euros.package("silver").versions[0].lacking == {"monthly fee", "emails"}
    assert not euros.sells_all
    assert [coupon.is_sold for coupon in euros.coupons] == [True, False]
    assert not euros.add_ons[0].versions[0].is_sold
    assert (euros.policy.hold_fee, euros.policy.reminders[0].fee) == (Decimal("4.00"), Decimal(0))
    assert euros.lacking == ("reminders[0].fee",)


def test_what_is_not_sold_has_no_price_in_the_terms_and_keeps_its_allowances(read: Read) -> None:
    frames = terms_frames(read(CATALOGUE).in_currency("EUR"))
    prices = dict(frames.packages.select("package", "monthly").iter_rows())
    assert prices["silver"] is None
    assert prices["starter"] == Decimal("89.00")
    assert frames.metrics.filter(package="silver", metric="emails")["allowance_units"].to_list() == [Decimal(5000)]


def test_in_a_currency_that_it_does_not_name_nothing_is_sold(read: Read) -> None:
    francs = read(CATALOGUE).in_currency("CHF")
    assert (francs.currency, francs.minor_units) == ("CHF", 2)
    assert not any(package.versions[0].is_sold for package in francs.packages)
    assert [coupon.is_sold for coupon in francs.coupons] == [True, False]
    assert francs.lacking == ("hold_fee", "reminders[0].fee")
    assert francs.policy.hold_fee == 0


def test_nothing_is_nothing_in_every_currency(read: Read) -> None:
    free = CATALOGUE.replace('price: {monthly: "199.00"}', 'price: {monthly: "0"}').replace(
        'overage: {emails: {model: block, size: 1000, price: "2.00"}}', "overage: {emails: none}"
    )
    catalogue = read(free)
    assert catalogue.in_currency("EUR").package("silver").versions[0].is_sold
    assert catalogue.in_currency("CHF").package("silver").versions[0].is_sold


def test_a_tariff_without_an_amount_in_a_currency_makes_its_package_unsold_in_it(read: Read) -> None:
    catalogue = read(CATALOGUE.replace(', JPY: "450"', ""))
    assert catalogue.in_currency("JPY").package("starter").versions[0].lacking == {"emails"}
    assert catalogue.in_currency("KWD").package("starter").versions[0].is_sold


def test_a_package_may_be_sold_in_other_currencies_than_the_catalogues_only(read: Read) -> None:
    catalogue = read(CATALOGUE.replace('monthly: {USD: "499.00", EUR', "monthly: {EUR"))
    assert catalogue.package("gold").versions[0].lacking == {"monthly fee"}
    assert catalogue.in_currency("EUR").package("gold").versions[0].is_sold


def test_an_agreement_may_give_the_price_that_the_package_lacks(read: Read) -> None:
    agreements = """\
agreements:
  - account_id: acme
    package: silver
    effective_from: 2026-01-01
    price: {monthly: {EUR: "150.00"}}
    overage: {emails: none}
  - {account_id: beta, package: starter, effective_from: 2026-01-01, price: {monthly: "80.00"}}
"""
    periods = terms_periods(read(CATALOGUE + agreements).in_currency("EUR"))
    terms = {(period.account_id, period.package): period.terms for period in periods}
    assert terms["acme", "silver"].is_sold
    assert terms["acme", "silver"].monthly == Decimal("150.00")
    assert not terms["", "silver"].is_sold
    assert terms["beta", "starter"].lacking == {"monthly fee"}, "an agreed price in dollars is none in euros"


def test_seats_and_minimum_spends_have_amounts_by_currency(read: Read) -> None:
    text = CATALOGUE.replace(
        "metrics:\n",
        "metrics:\n  users: {event: u, kind: gauge, value: data.delta, carries: delta, charged: in_advance}\n",
    ).replace(
        '        price: {monthly: "199.00"}\n',
        '        price: {monthly: {USD: "199.00", EUR: "189.00"}}\n'
        '        seats: {metric: users, price: {USD: "12.00", EUR: "11.00"}}\n'
        '        minimum_spend: {amount: {USD: "200.00", EUR: "180.00"}}\n',
    )
    version = (
        read(text.replace('price: "2.00"}', 'price: {USD: "2.00", EUR: "1.80"}}')).in_currency("EUR").package("silver")
    )
    terms = version.versions[0]
    assert terms.is_sold
    assert terms.seats[0].price == Decimal("11.00")
    assert terms.minimum_spend is not None
    assert terms.minimum_spend.amount == Decimal("180.00")


@pytest.mark.parametrize(
    ("old", "new", "place", "found", "expected"),
    [
        ('EUR: "89.00"', 'EURO: "89.00"', "packages[0].versions[0].price.monthly.EURO", "EURO", "ISO 4217"),
        ('EUR: "89.00"', 'XAU: "89.00"', "packages[0].versions[0].price.monthly.XAU", "XAU", "with a minor unit"),
        ('EUR: "89.00"', 'EUR: "-1"', "packages[0].versions[0].price.monthly.EUR", "'-1'", "an amount from 0"),
        ('EUR: "89.00"', "EUR: [1]", "packages[0].versions[0].price.monthly.EUR", "a list", "a plain decimal number"),
        (
            'monthly: "199.00"',
            "monthly: {}",
            "packages[1].versions[0].price.monthly",
            "a mapping",
            "amounts by currency",
        ),
        ('EUR: "89.00"', 'EUR: "89.00", EUR: "1"', "price.monthly.EUR", "EUR twice", "the currency once"),
        ('JPY: "1000"}', 'JPY: "10.5"}', "coupons[1].amount", "a mapping", "an amount of at most 0 decimals"),
        ('JPY: "1000"}', 'JPY: "0"}', "coupons[1].amount", "a mapping", "an amount above 0"),
    ],
)
def test_a_wrong_amount_by_currency_is_refused_with_its_place(
    read: Read, old: str, new: str, place: str, found: str, expected: str
) -> None:
    assert CATALOGUE.count(old) >= 1
    told = problems(read, CATALOGUE.replace(old, new, 1))
    assert len(told) == 1
    assert "line " in told[0]
    assert all(part in told[0] for part in (place, found, expected))


def test_amounts_by_currency_change_nothing_for_the_currency_of_the_catalogue(read: Read) -> None:
    plain = CATALOGUE
    for by_currency, amount in (
        ('{USD: "5.00", EUR: "4.00"}', '"5.00"'),
        ('{USD: "10.00", JPY: "1000"}', '"10.00"'),
        ('{USD: "20.00", KWD: "6.125"}', '"20.00"'),
        ('{USD: "99.00", EUR: "89.00", JPY: "15000", KWD: "30.555"}', '"99.00"'),
        ('{USD: "990.00", EUR: "890.00"}', '"990.00"'),
        ('{USD: "3.00", EUR: "2.75", JPY: "450", KWD: "0.925"}', '"3.00"'),
        ('{USD: "499.00", EUR: "449.00", JPY: "75000", KWD: "153.250"}', '"499.00"'),
        ('{USD: "0.001", EUR: "0.0009", JPY: "0.15", KWD: "0.0003"}', '"0.001"'),
    ):
        assert by_currency in plain
        plain = plain.replace(by_currency, amount)
    one, other = read(CATALOGUE), read(plain)
    assert other.others == {}
    assert replace(one, others={}, content_hash="") == replace(other, content_hash="")
