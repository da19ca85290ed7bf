"""The tax of a document in the currency of the tax's country."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from billing.documents.tax_currency import tax_in_its_currency
from billing.inputs.exchange_rates import EXCHANGE_SCHEMA, read_exchange_rates
from billing.model.catalogue import Catalogue
from billing.model.columns import MONEY
from billing.model.country_currencies import currency_of_country
from billing.model.errors import RefusedError

DAY = date(2026, 2, 10)
RATES = pl.DataFrame(
    [
        (date(2026, 1, 1), "USD", "EUR", Decimal("0.9")),
        (date(2026, 2, 10), "USD", "EUR", Decimal("0.915")),
        (date(2026, 2, 11), "USD", "EUR", Decimal("0.5")),
        (date(2026, 2, 1), "USD", "JPY", Decimal("150.5")),
        (date(2026, 2, 1), "USD", "TND", Decimal("3.123456789")),
        (date(2026, 2, 1), "EUR", "CHF", Decimal("0.95")),
    ],
    schema=EXCHANGE_SCHEMA,
    orient="row",
)


def taxed(*rows: tuple[str, str, str]) -> pl.DataFrame:
    """Taxes of one document: country, amount, reason."""
    return pl.DataFrame(
        [("acme", "acme/1", DAY, country, Decimal(amount), reason) for country, amount, reason in rows],
        schema={
            "account_id": pl.String,
            "subscription_id": pl.String,
            "billing_date": pl.Date,
            "country": pl.String,
            "amount": MONEY,
            "reason": pl.String,
        },
        orient="row",
    )


def said(ref_1: Catalogue, *rows: tuple[str, str, str], rates: pl.DataFrame = RATES) -> list[dict[str, Any]]:
    found = tax_in_its_currency(taxed(*rows), rates.sort("currency", "to", "on"), ref_1)
    return [row["tax_currency"] for row in found.iter_rows(named=True)]


@pytest.mark.parametrize(
    ("country", "amount", "currency", "tax", "rate", "rate_on"),
    [
        ("DE", "19.05", "EUR", "17.43", "0.915", "2026-02-10"),
        ("DE", "-19.05", "EUR", "-17.43", "0.915", "2026-02-10"),
        ("JP", "0.05", "JPY", "8", "150.5", "2026-02-01"),
        ("TN", "1.00", "TND", "3.123", "3.123456789", "2026-02-01"),
        ("DE", "99999999999999.99", "EUR", "91499999999999.99", "0.915", "2026-02-10"),
    ],
)
def test_it_is_the_tax_at_the_latest_rate_on_or_before_the_billing_date_rounded_once(
    ref_1: Catalogue, country: str, amount: str, currency: str, tax: str, rate: str, rate_on: str
) -> None:
    assert said(ref_1, (country, amount, "charged")) == [
        {"currency": currency, "tax": tax, "rate": rate, "rate_on": rate_on}
    ]


def test_without_a_rate_there_is_the_currency_alone(ref_1: Catalogue) -> None:
    nothing = {"tax": None, "rate": None, "rate_on": None}
    assert said(ref_1, ("CH", "1.00", "charged")) == [{"currency": "CHF", **nothing}]
    later = RATES.filter(pl.col("on") > DAY)
    assert said(ref_1, ("DE", "1.00", "charged"), rates=later) == [{"currency": "EUR", **nothing}]


def test_a_tax_in_the_currency_of_the_document_or_of_nothing_says_nothing(ref_1: Catalogue) -> None:
    assert said(ref_1, ("US", "1.00", "charged")) == []
    assert said(ref_1, ("DE", "0.00", "reverse_charge")) == []
    assert said(ref_1, ("DE", "0.00", "charged")) == []
    assert said(ref_1, ("DE", "1.00", "charged"), ("CH", "1.00", "charged")) == []
    assert said(ref_1, ("DE", "1.00", "charged"), ("DE", "0.50", "charged"))[0]["tax"] == "1.37"
    in_euro = replace(ref_1, currency="EUR")
    assert tax_in_its_currency(taxed(("DE", "1.00", "charged")), RATES, in_euro).is_empty()


def test_exchange_rates_are_read_or_refused_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "exchange_rates.csv"
    assert read_exchange_rates(path, "").is_empty()
    path.write_text("on,currency,to,rate\n2026-02-01,USD,EUR,0.91\n2026-01-01,USD,EUR,0.9\n")
    assert read_exchange_rates(path, "").rows() == [
        (date(2026, 1, 1), "USD", "EUR", Decimal("0.9")),
        (date(2026, 2, 1), "USD", "EUR", Decimal("0.91")),
    ]
    path.write_text(
        "on,currency,to,rate\n1.2.2026,USD,EUR,0.91\n2026-01-01,US,XXX,0\n2026-01-02,USD,EUR,1\n2026-01-02,USD,EUR,2\n"
        "2026-01-03,USD,EUR,1000000\n"
    )
    with pytest.raises(RefusedError) as refused:
        read_exchange_rates(path, "")
    assert [f"{each.place}: {each.found}" for each in refused.value.problems] == [
        "row 1, on: '1.2.2026'",
        "row 2, currency: 'US'",
        "row 2, to: 'XXX'",
        "row 2, rate: '0'",
        "row 5, rate: '1000000'",
        "row 3: another row of the same day and currencies",
        "row 4: another row of the same day and currencies",
    ]
    path.write_text("on,currency,rate\n")
    with pytest.raises(RefusedError, match="found no column to"):
        read_exchange_rates(path, "")


@pytest.mark.parametrize(
    ("country", "currency"), [("BG", "EUR"), ("HR", "EUR"), ("CH", "CHF"), ("XI", "GBP"), ("AQ", None)]
)
def test_the_currency_of_a_country_is_its_legal_tender_of_today(country: str, currency: str | None) -> None:
    assert currency_of_country(country) == currency
