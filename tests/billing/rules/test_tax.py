"""Taxes by jurisdiction, date and exemption."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import polars as pl
import pycountry
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.inputs.tax_rates import TAX_SCHEMA
from billing.model.catalogue import Catalogue
from billing.model.columns import MONEY, RATE
from billing.model.regions import region_key
from billing.rules.tax import (
    document_taxes,
    joined_taxes,
    running_taxes,
    tax_id_country,
    taxes_given_back,
    without_rate,
)

DAY = date(2026, 2, 10)
RateRow = tuple[str, str | None, str, str, str]
GERMAN_VAT = "DE136695976"
FRENCH_VAT = "FR40303265045"
SWISS_VAT = "CHE-107.787.577 IVA"


def tax_table(rows: Iterable[tuple[Any, ...]]) -> pl.DataFrame:
    """Rows of a tax table that says no more than it must."""
    columns = list(TAX_SCHEMA.items())
    frame = pl.DataFrame(list(rows), schema=dict(columns[:5]), orient="row")
    return frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in columns[5:])


def taxes(
    catalogue: Catalogue,
    rates: Sequence[RateRow],
    net: str = "100.00",
    *,
    country: str = "US",
    region: str | None = None,
    exempt: bool = False,
    tax_id: str | None = None,
    categories: Sequence[str | None] | None = None,
) -> pl.DataFrame:
    """The taxes of one document of 10 February 2026."""
    accounts = pl.DataFrame(
        [("acme", country, region, exempt, tax_id, None)],
        schema={
            "account_id": pl.String,
            "country": pl.String,
            "region": pl.String,
            "tax_exempt": pl.Boolean,
            "tax_id": pl.String,
            "tax_exempt_reason": pl.String,
        },
        orient="row",
    )
    documents = pl.DataFrame(
        [("acme", "acme/2026-01-10", DAY, Decimal(net))],
        schema={"account_id": pl.String, "subscription_id": pl.String, "billing_date": pl.Date, "net": MONEY},
        orient="row",
    )
    table = tax_table((*place, Decimal(rate), name, date.fromisoformat(since)) for *place, rate, name, since in rates)
    if categories is not None:
        table = table.with_columns(pl.Series("category", categories, pl.String))
    return document_taxes(documents, accounts, table, catalogue)


def charged(found: pl.DataFrame) -> list[tuple[str, str | None, Decimal]]:
    return found.select("name", "region", "amount").rows()


def test_a_tax_is_computed_on_the_net_sum_and_rounded_half_up(ref_1: Catalogue) -> None:
    found = taxes(ref_1, [("US", None, "0.0825", "Sales tax", "2020-01-01")], net="99.94")
    # 8.24505: just more than half a cent
    assert found.select("taxable", "rate", "amount", "reason").rows() == [
        (Decimal("99.94"), Decimal("0.0825"), Decimal("8.25"), "charged")
    ]
    assert charged(taxes(ref_1, [("US", None, "0.05", "T", "2020-01-01")], net="0.10")) == [
        ("T", None, Decimal("0.01"))
    ]
    assert charged(taxes(ref_1, [("US", None, "0.05", "T", "2020-01-01")], net="-0.10")) == [
        ("T", None, Decimal("-0.01"))
    ]


@pytest.mark.parametrize(("decimals", "amount"), [(0, "13"), (2, "12.50"), (3, "12.500"), (4, "12.5000")])
def test_a_tax_is_rounded_to_the_minor_unit(ref_1: Catalogue, decimals: int, amount: str) -> None:
    rates: list[RateRow] = [("US", None, "0.125", "T", "2020-01-01")]
    assert charged(taxes(replace(ref_1, minor_units=decimals), rates)) == [("T", None, Decimal(amount))]


@settings(max_examples=60)
@given(cents=st.integers(-(10**16) + 1, 10**16 - 1), rate=st.integers(0, 10**12))
def test_any_rate_of_any_sum_is_exact(ref_1: Catalogue, cents: int, rate: int) -> None:
    exact = abs(cents) * rate
    nearest = (2 * exact + 10**12) // (2 * 10**12)
    row = ("US", None, str(Decimal(rate).scaleb(-12)), "T", "2020-01-01")
    (found,) = taxes(ref_1, [row], net=str(Decimal(cents).scaleb(-2)))["amount"]
    assert found == Decimal(nearest if cents >= 0 else -nearest).scaleb(-2)


def test_a_rate_holds_from_its_date_until_the_next_one(ref_1: Catalogue) -> None:
    rates: list[RateRow] = [
        ("US", None, "0.03", "T", "2026-02-11"),
        ("US", None, "0.02", "T", "2026-02-10"),
        ("US", None, "0.01", "T", "2020-01-01"),
    ]
    assert charged(taxes(ref_1, rates)) == [("T", None, Decimal("2.00"))]
    assert charged(taxes(ref_1, rates[:1])) == []


@pytest.mark.parametrize("written", ["QC", "qc", "Quebec", "QUÉBEC", "Que\u0301bec", "CA-QC", "ca-qc", " Qc. "])
@pytest.mark.parametrize("rated", ["QC", "quebec", "CA-QC"])
def test_regions_are_compared_like_countries_by_code_or_by_name(ref_1: Catalogue, written: str, rated: str) -> None:
    rates: list[RateRow] = [
        ("CA", None, "0.05", "GST", "2020-01-01"),
        ("CA", rated, "0.09975", "QST", "2020-01-01"),
        ("CA", "ON", "0.08", "PST", "2020-01-01"),
    ]
    found = taxes(ref_1, rates, "99.00", country="CA", region=written)
    assert charged(found) == [("GST", None, Decimal("4.95")), ("QST", rated, Decimal("9.88"))]
    assert found["amount"].sum() == Decimal("14.83")


def test_the_latest_rate_of_a_region_holds_however_it_is_spelt(ref_1: Catalogue) -> None:
    rates: list[RateRow] = [("CA", "QC", "0.09", "QST", "2020-01-01"), ("CA", "Quebec", "0.10", "QST", "2021-01-01")]
    assert charged(taxes(ref_1, rates, country="CA", region="qc")) == [("QST", "Quebec", Decimal("10.00"))]


@pytest.mark.parametrize(
    ("country", "region", "key"),
    [
        ("CA", "QC", "QC"),
        ("US", "new  york", "NY"),
        ("US", "US-NY", "NY"),
        ("ES", "Illes Balears", "illes balears"),  # a province and an autonomous community
        ("ES", "La Coruna", "C"),
        ("DE", "by", "BY"),
        ("DE", "Baden Württemberg", "BW"),
        ("US", "QC", "qc"),
        ("ZZ", "Somewhere", "somewhere"),
    ],
)
def test_a_region_is_known_by_its_code_and_its_names(country: str, region: str, key: str) -> None:
    assert region_key(country, region) == key


def test_every_code_and_every_name_of_a_region_that_no_other_has_is_that_region() -> None:
    for each in pycountry.subdivisions:
        code = each.code.partition("-")[2]
        assert {region_key(each.country_code, text) for text in (code, code.lower(), each.code)} == {code}


@pytest.mark.parametrize("countrys_since", ["2019-01-01", "2020-01-01", "2025-01-01"])
def test_a_regional_rate_replaces_the_countrys_of_the_same_name_and_adds_to_others(
    ref_1: Catalogue, countrys_since: str
) -> None:
    rates: list[RateRow] = [
        ("US", None, "0.01", "State", countrys_since),
        ("US", "IL", "0.06", "State", "2020-01-01"),
        ("US", "CA", "0.07", "State", "2020-01-01"),
        ("US", None, "0.02", "Federal", "2020-01-01"),
        ("US", "IL", "0.005", "City", "2020-01-01"),
    ]
    assert charged(taxes(ref_1, rates, region="IL")) == [
        ("City", "IL", Decimal("0.50")),
        ("Federal", None, Decimal("2.00")),
        ("State", "IL", Decimal("6.00")),
    ]
    elsewhere = [("Federal", None, Decimal("2.00")), ("State", None, Decimal("1.00"))]
    assert charged(taxes(ref_1, rates, region="TX")) == elsewhere
    assert charged(taxes(ref_1, rates)) == elsewhere


def test_a_regional_rate_that_has_not_begun_leaves_the_countrys_in_force(ref_1: Catalogue) -> None:
    rates: list[RateRow] = [
        ("US", None, "0.01", "State", "2020-01-01"),
        ("US", "IL", "0.06", "State", "2026-02-11"),
    ]
    assert charged(taxes(ref_1, rates, region="IL")) == [("State", None, Decimal("1.00"))]


@pytest.mark.parametrize(
    ("rows", "region", "expected"),
    [
        # A rate of 0 without a category ends a tax, and takes a region out of it.
        ([("US", None, "0.05", "T", "2020-01-01", None), ("US", "OR", "0", "T", "2020-01-01", None)], "OR", ("0", "Z")),
        ([("US", None, "0.20", "T", "2020-01-01", None), ("US", None, "0", "T", "2026-01-01", None)], None, ("0", "Z")),
        ([("US", None, "0.20", "T", "2020-01-01", "S"), ("US", None, "0", "T", "2026-01-01", None)], None, ("0", "Z")),
        # Rows of other categories are for what names them.
        ([("US", None, "0.20", "T", "2020-01-01", None), ("US", None, "0", "T", "2026-01-01", "Z")], None, ("20", "S")),
        ([("US", None, "0", "T", "2020-01-01", "Z"), ("US", None, "0", "T", "2026-01-01", "G")], None, ("0", "G")),
        ([("US", None, "0", "T", "2020-01-01", "G")], None, ("0", "G")),
    ],
)
def test_what_is_sold_takes_the_latest_rate_of_its_category(
    ref_1: Catalogue, rows: list[tuple[str, str | None, str, str, str, str | None]], region: str | None, expected: Any
) -> None:
    categories = [row[-1] for row in rows]
    found = taxes(ref_1, [row[:5] for row in rows], region=region, categories=categories)
    assert found.select("amount", "category").rows() == [(Decimal(expected[0]), expected[1])]


@pytest.mark.parametrize(
    ("category", "rate", "exempt", "tax_id", "expected"),
    [
        ("S", "0.19", False, None, ("charged", "S")),
        ("S", "0.19", True, None, ("exempt", "E")),
        ("S", "0.19", False, SWISS_VAT, ("reverse_charge", "AE")),
        ("G", "0", False, SWISS_VAT, ("exempt", "G")),
        ("K", "0", False, SWISS_VAT, ("exempt", "K")),
        ("AE", "0", False, None, ("reverse_charge", "AE")),
        ("Z", "0", True, SWISS_VAT, ("charged", "Z")),
    ],
)
def test_the_reason_and_the_category_say_the_same(
    ref_1: Catalogue, category: str, rate: str, exempt: bool, tax_id: str | None, expected: tuple[str, str]
) -> None:
    rates: list[RateRow] = [("CH", None, rate, "VAT", "2020-01-01")]
    found = taxes(ref_1, rates, country="CH", exempt=exempt, tax_id=tax_id, categories=[category])
    assert found.select("reason", "category").rows() == [expected]


def test_every_document_is_taxed_by_its_own_account_date_and_place(ref_1: Catalogue) -> None:
    accounts = pl.DataFrame(
        [
            ("acme", "US", "NY", False, None, None),
            ("beta", "US", None, True, None, None),
            ("gamma", "DE", None, False, None, None),
        ],
        schema={
            "account_id": pl.String,
            "country": pl.String,
            "region": pl.String,
            "tax_exempt": pl.Boolean,
            "tax_id": pl.String,
            "tax_exempt_reason": pl.String,
        },
        orient="row",
    )
    documents = pl.DataFrame(
        [
            ("gamma", "gamma/1", date(2026, 2, 1), Decimal("10.00")),
            ("acme", "acme/2", date(2026, 2, 10), Decimal("20.00")),
            ("beta", "beta/1", date(2026, 2, 10), Decimal("30.00")),
            ("acme", "acme/1", date(2026, 2, 10), Decimal("40.00")),
            ("acme", "acme/1", date(2026, 3, 10), Decimal("50.00")),
        ],
        schema={"account_id": pl.String, "subscription_id": pl.String, "billing_date": pl.Date, "net": MONEY},
        orient="row",
    )
    rates = tax_table(
        [
            ("US", "NY", Decimal("0.04"), "State", date(2020, 1, 1)),
            ("US", None, Decimal("0.02"), "Federal", date(2026, 3, 1)),
            ("US", None, Decimal("0.01"), "Federal", date(2020, 1, 1)),
            ("DE", None, Decimal("0.19"), "VAT", date(2020, 1, 1)),
        ]
    )
    found = document_taxes(documents, accounts, rates, ref_1)
    columns = ("billing_date", "subscription_id", "name", "country", "region", "rate", "taxable", "amount", "reason")
    assert found.select(columns).rows() == [
        (date(2026, 2, 1), "gamma/1", "VAT", "DE", None, Decimal("0.19"), 10, Decimal("1.90"), "charged"),
        (DAY, "acme/1", "Federal", "US", None, Decimal("0.01"), 40, Decimal("0.40"), "charged"),
        (DAY, "acme/1", "State", "US", "NY", Decimal("0.04"), 40, Decimal("1.60"), "charged"),
        (DAY, "acme/2", "Federal", "US", None, Decimal("0.01"), 20, Decimal("0.20"), "charged"),
        (DAY, "acme/2", "State", "US", "NY", Decimal("0.04"), 20, Decimal("0.80"), "charged"),
        (DAY, "beta/1", "Federal", "US", None, Decimal("0.01"), 30, Decimal(0), "exempt"),
        (date(2026, 3, 10), "acme/1", "Federal", "US", None, Decimal("0.02"), 50, Decimal("1.00"), "charged"),
        (date(2026, 3, 10), "acme/1", "State", "US", "NY", Decimal("0.04"), 50, Decimal("2.00"), "charged"),
    ]
    assert found["account_id"].to_list() == ["gamma", "acme", "acme", "acme", "acme", "beta", "acme", "acme"]


def test_another_country_is_not_taxed(ref_1: Catalogue) -> None:
    assert taxes(ref_1, [("DE", None, "0.19", "VAT", "2020-01-01")]).is_empty()
    assert taxes(ref_1, []).is_empty()


def test_an_exempt_account_is_shown_the_tax_that_it_does_not_pay(ref_1: Catalogue) -> None:
    found = taxes(ref_1, [("US", None, "0.06", "T", "2020-01-01")], exempt=True)
    assert found.select("taxable", "amount", "reason").rows() == [(Decimal("100.00"), Decimal(0), "exempt")]


@pytest.mark.parametrize(
    ("country", "tax_id", "seller", "reason"),
    [
        ("DE", GERMAN_VAT, "US", "reverse_charge"),
        ("DE", "de 136 695 976", "US", "reverse_charge"),
        ("DE", GERMAN_VAT, "DE", "charged"),  # at home
        ("DE", FRENCH_VAT, "DE", "charged"),  # at home, too
        ("FR", GERMAN_VAT, "US", "reverse_charge"),
        ("DE", "DE136695977", "US", "charged"),  # the checksum is wrong
        ("DE", "136695976x", "US", "charged"),
        ("DE", None, "US", "charged"),
        ("CH", SWISS_VAT, "DE", "reverse_charge"),
        ("CH", SWISS_VAT, "CH", "charged"),
    ],
)
def test_a_valid_tax_id_of_another_country_than_the_sellers_suppresses_the_tax(
    ref_1: Catalogue, country: str, tax_id: str | None, seller: str, reason: str
) -> None:
    catalogue = replace(ref_1, seller=replace(ref_1.seller, country=seller))
    found = taxes(catalogue, [(country, None, "0.19", "VAT", "2020-01-01")], country=country, tax_id=tax_id)
    assert found["reason"].to_list() == [reason]
    assert found["amount"].to_list() == [Decimal("19.00") if reason == "charged" else Decimal(0)]


@pytest.mark.parametrize(
    ("tax_id", "country", "owner"),
    [
        (GERMAN_VAT, "DE", "DE"),
        ("EL094259216", "GR", "GR"),
        ("GR094259216", "GR", "GR"),
        ("GB980780684", "GB", "GB"),
        ("980780684", "GB", "GB"),
        ("XI980780684", "GB", "GB"),  # Northern Ireland's prefix is no country
        ("XI980780684", "IE", "GB"),
        ("411-98-7653", "US", "US"),  # no VAT there: a taxpayer's number
        (SWISS_VAT, "CH", "CH"),
        (SWISS_VAT, "DE", None),
        ("", "DE", None),
        ("136695976", "ZZ", None),
    ],
)
def test_a_tax_id_belongs_to_the_country_whose_form_and_checksum_it_has(
    tax_id: str, country: str, owner: str | None
) -> None:
    assert tax_id_country(tax_id, country) == owner


COUNTRIES = ["DE", "FR", "GB", "CH", "US", "IN", "IS", "DO", "AU", "BR", "CN", "JP", "RU", "ZA", "ZZ", "NO", "MX", "TR"]


@settings(max_examples=300)
@given(
    tax_id=st.one_of(
        st.text(max_size=16),
        st.text("0123456789ABCDEFXYZ-. ²٣é", max_size=16),
        st.tuples(st.sampled_from(COUNTRIES), st.text("0123456789²٣A", max_size=14)).map("".join),
    ),
    country=st.sampled_from(COUNTRIES),
)
def test_whatever_is_given_for_a_tax_id_it_belongs_to_a_country_or_to_none(tax_id: str, country: str) -> None:
    owner = tax_id_country(tax_id, country)
    assert owner is None or (len(owner) == 2 and owner.isupper())


def nothing_left(taxes: pl.DataFrame) -> pl.DataFrame:
    """The taxes of documents of which everything was given back."""
    return taxes.drop("account_id", "subscription_id", "billing_date").with_columns(
        pl.col("taxable", "amount") - pl.col("taxable", "amount")
    )


def test_a_note_uses_the_rates_of_the_document_it_corrects(ref_1: Catalogue) -> None:
    rates: list[RateRow] = [("US", None, "0.06", "T", "2020-01-01"), ("US", None, "0.02", "U", "2020-01-01")]
    paid = taxes(ref_1, rates).with_columns(number=pl.lit("INV-2026-000001"))
    notes = paid.select("account_id", "subscription_id", "billing_date", "number").unique()
    notes = notes.with_columns(net=pl.lit(Decimal("-10.25")).cast(MONEY))
    found = taxes_given_back(notes, nothing_left(paid), ref_1)
    assert found.select("name", "taxable", "amount").rows() == [
        ("T", Decimal("-10.25"), Decimal("-0.62")),
        ("U", Decimal("-10.25"), Decimal("-0.21")),
    ]
    exempt = taxes(ref_1, rates, exempt=True).with_columns(number=pl.lit("INV-2026-000001"))
    found = taxes_given_back(notes, nothing_left(exempt), ref_1)
    assert found["amount"].to_list() == [Decimal(0)] * 2


def test_notes_are_taxed_in_one_order_whatever_the_order_of_the_documents(ref_1: Catalogue) -> None:
    rows = [
        ("INV-2", "T", "US", None, Decimal("0.05")),
        ("INV-1", "T", "US", "NY", Decimal("0.05")),
        ("INV-1", "T", "US", None, Decimal("0.06")),
        ("INV-1", "T", "US", "CA", Decimal("0.05")),
        ("INV-1", "A", "US", None, Decimal("0.07")),
        ("INV-3", "T", "US", None, Decimal("0.05")),
    ]
    taxed = pl.DataFrame(
        rows,
        schema={"number": pl.String, "name": pl.String, "country": pl.String, "region": pl.String, "rate": RATE},
        orient="row",
    ).with_columns(
        taxable=pl.lit(0).cast(MONEY),
        amount=pl.lit(0).cast(MONEY),
        reason=pl.lit("charged"),
        category=pl.lit("S"),
        exemption_reason=pl.lit(None, pl.String),
        exemption_code=pl.lit(None, pl.String),
    )
    notes = pl.DataFrame(
        [
            ("beta", "beta/1", DAY, "INV-3", Decimal(-1)),
            ("acme", "acme/1", date(2026, 3, 10), "INV-2", Decimal(-2)),
            ("acme", "acme/1", DAY, "INV-1", Decimal(-3)),
        ],
        schema={
            "account_id": pl.String,
            "subscription_id": pl.String,
            "billing_date": pl.Date,
            "number": pl.String,
            "net": MONEY,
        },
        orient="row",
    )
    found = taxes_given_back(notes, taxed, ref_1)
    assert found.select("account_id", "billing_date", "name", "region", "rate", "taxable", "amount").rows() == [
        ("acme", DAY, "A", None, Decimal("0.07"), -3, Decimal("-0.21")),
        ("acme", DAY, "T", "CA", Decimal("0.05"), -3, Decimal("-0.15")),
        ("acme", DAY, "T", "NY", Decimal("0.05"), -3, Decimal("-0.15")),
        ("acme", DAY, "T", None, Decimal("0.06"), -3, Decimal("-0.18")),
        ("acme", date(2026, 3, 10), "T", None, Decimal("0.05"), -2, Decimal("-0.10")),
        ("beta", DAY, "T", None, Decimal("0.05"), -1, Decimal("-0.05")),
    ]
    assert "number" not in found.columns


OWN_TAX = {
    "name": "VAT",
    "country": "DE",
    "region": None,
    "rate": Decimal("0.05"),
    "reason": "charged",
    "category": "S",
}
TAX_ROW: dict[str, Any] = {
    "name": pl.String,
    "country": pl.String,
    "region": pl.String,
    "rate": RATE,
    "reason": pl.String,
    "category": pl.String,
    "exemption_reason": pl.String,
    "exemption_code": pl.String,
}
GIVES_BACK = pl.Schema({"number": pl.String(), "by": pl.String(), "amount": MONEY})
PART = {"account_id": "acme", "subscription_id": "acme/1", "billing_date": DAY, "number": "INV-1"}


def tax_of(net: Decimal, amount: Decimal) -> pl.DataFrame:
    """The one tax of INV-1."""
    row = {"number": "INV-1", **OWN_TAX, "taxable": net, "amount": amount}
    return pl.DataFrame([row], schema={"number": pl.String, **TAX_ROW, "taxable": MONEY, "amount": MONEY})


def given_back_in_turn(net: Decimal, parts: list[Decimal], catalogue: Catalogue) -> list[Decimal]:
    """The tax of each part of a document of a 5 percent tax, given back one after the other."""
    taxes, nothing = tax_of(net, rounded_tax(net)), pl.DataFrame(schema=GIVES_BACK)
    found = []
    for part in parts:
        row = pl.DataFrame([{**PART, "net": part}], schema_overrides={"net": MONEY})
        note = taxes_given_back(row, running_taxes(with_places(taxes), nothing, catalogue), catalogue)
        found.append(note["amount"].item())
        taxes = pl.concat([taxes, tax_of(part, note["amount"].item())])
    return found


def with_places(taxes: pl.DataFrame) -> pl.DataFrame:
    return taxes.with_columns(by=pl.col("number"), taxed_as=pl.lit(None, pl.String))


def rounded_tax(net: Decimal) -> Decimal:
    return (net * Decimal("0.05")).quantize(Decimal("0.01"), ROUND_HALF_UP)


def test_three_notes_give_back_the_tax_of_the_document_and_no_cent_more(ref_1: Catalogue) -> None:
    parts = [Decimal("-1.10")] * 3
    assert given_back_in_turn(Decimal("3.30"), parts, ref_1) == [Decimal("-0.06"), Decimal("-0.05"), Decimal("-0.06")]


@settings(max_examples=50)
@given(cents=st.lists(st.integers(1, 5000), min_size=1, max_size=6), again=st.integers(0, 5000))
def test_however_a_document_is_given_back_the_parts_are_its_tax(ref_1: Catalogue, cents: list[int], again: int) -> None:
    parts = [Decimal(-each) / 100 for each in cents]
    # charged once more by a debit note, and given back with the rest
    parts = [Decimal(again) / 100, *parts, Decimal(-again) / 100]
    net = -sum(parts, Decimal(0))
    assert sum(given_back_in_turn(net, parts, ref_1), Decimal(0)) == -rounded_tax(net)


@settings(max_examples=50)
@given(
    own=st.integers(0, 5000),
    given_back=st.lists(
        st.tuples(st.sampled_from("CDE"), st.sampled_from("AB"), st.integers(1, 900)),
        unique_by=lambda part: part[:2],
        max_size=6,
    ),
    first_note=st.integers(0, 400),
)
def test_what_is_taxed_together_is_told_apart_to_the_cent(
    ref_1: Catalogue, own: int, given_back: list[tuple[str, str, int]], first_note: int
) -> None:
    """Documents A and B are given back in part on C, D and E, and the rest by notes: nothing is left of any tax."""
    nets = {"A": Decimal(50), "B": Decimal(50)}
    for by in "CDE":
        parts = [cents for each, _, cents in given_back if each == by]
        nets[by] = Decimal(own - sum(parts)) / 100
    taxes = pl.concat([tax_of(net, rounded_tax(net)).with_columns(number=pl.lit(name)) for name, net in nets.items()])
    pairs = pl.DataFrame(
        [(number, by, Decimal(-cents) / 100) for by, number, cents in given_back], schema=GIVES_BACK, orient="row"
    )
    left = running_taxes(with_places(taxes), pairs, ref_1)
    assert left["amount"].sum() == taxes["amount"].sum()
    found = dict(left.select("number", pl.struct("taxable", "amount")).iter_rows())
    for by in "CDE":
        assert found[by] == {"taxable": Decimal(own) / 100, "amount": rounded_tax(Decimal(own) / 100)}
    for name in "AB":
        given = -sum(cents for _, each, cents in given_back if each == name)
        rest = Decimal(50) + Decimal(given) / 100
        assert found[name]["taxable"] == rest
        notes = [Decimal(-first_note) / 100, Decimal(first_note) / 100 - rest]
        running = left.filter(number=name)
        for note in notes:
            row = pl.DataFrame([{**PART, "number": name, "net": note}], schema_overrides={"net": MONEY})
            tax = taxes_given_back(row, running, ref_1)["amount"].item()
            running = running.with_columns((pl.col("taxable") + note).cast(MONEY), (pl.col("amount") + tax).cast(MONEY))
        assert running.select("taxable", "amount").row(0) == (0, 0)


def test_the_same_tax_stands_once_on_a_document_that_bills_and_gives_back(ref_1: Catalogue) -> None:
    own = (
        tax_of(Decimal("99.00"), Decimal("4.95"))
        .drop("number")
        .with_columns(*(pl.lit(value).alias(name) for name, value in PART.items() if name != "number"))
    )
    given_back = pl.DataFrame([{**PART, "net": Decimal("-3.30")}], schema_overrides={"net": MONEY})
    same = taxes_given_back(given_back, tax_of(Decimal("3.30"), Decimal("0.17")), ref_1)
    assert joined_taxes(own, same, ref_1).select("taxable", "amount", "taxed_as").rows() == [
        (Decimal("95.70"), Decimal("4.79"), None)
    ]
    # beside lines that come to nothing the document's own tax is given back, to the cent
    nothing = own.with_columns(taxable=pl.lit(0).cast(MONEY), amount=pl.lit(0).cast(MONEY))
    assert joined_taxes(nothing, same, ref_1).select("taxable", "amount", "taxed_as").rows() == [
        (Decimal("-3.30"), Decimal("-0.17"), "INV-1")
    ]
    lower = tax_of(Decimal("3.30"), Decimal("0.13")).with_columns(rate=pl.lit(Decimal("0.04")).cast(RATE))
    other = taxes_given_back(given_back, lower, ref_1)
    assert joined_taxes(own, other, ref_1).select("taxable", "amount", "taxed_as").rows() == [
        (Decimal("99.00"), Decimal("4.95"), None),
        (Decimal("-3.30"), Decimal("-0.13"), "INV-1"),
    ]


@pytest.mark.parametrize(
    ("category", "day", "region", "lacks"),
    [
        ("S", DAY, None, False),
        ("S", date(2026, 2, 9), None, True),
        ("L", DAY, "Canarias", False),
        ("L", DAY, "Madrid", True),
        ("M", DAY, None, True),
        ("Z", DAY, None, False),
        ("O", DAY, None, False),
        (None, date(2020, 1, 1), None, False),
    ],
)
def test_a_category_that_says_a_rate_needs_a_row_in_force(
    category: str | None, day: date, region: str | None, lacks: bool
) -> None:
    rates = tax_table([("ES", None, Decimal("0.21"), "IVA", DAY), ("ES", "Canarias", Decimal("0.07"), "IGIC", DAY)])
    rates = rates.with_columns(category=pl.Series([None, "L"]))
    accounts = pl.DataFrame(
        {"account_id": ["acme"], "country": ["ES"], "region": [region], "tax_exempt": [False], "tax_id": [None]},
        schema_overrides={"region": pl.String, "tax_id": pl.String},
    ).with_columns(tax_exempt_reason=pl.lit(None, pl.String))
    line = pl.DataFrame(
        {"account_id": ["acme"], "subscription_id": ["s"], "billing_date": [day], "tax_category": [category]},
        schema_overrides={"tax_category": pl.String},
    )
    found = without_rate(line, accounts, rates)
    assert found.to_dicts() == ([line.to_dicts()[0] | {"country": "ES"}] if lacks else [])
