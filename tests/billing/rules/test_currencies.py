"""Who is billed in which currency: what the row of an account says, or what was issued as long as it has to."""

from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from billing.model.columns import MONEY
from billing.rules.currencies import Currencies, in_currencies, live_subscriptions


def of(
    rows: dict[str, str | None],
    issued: list[tuple[str, str, str]] | None = None,
    live: tuple[str, ...] = (),
    owing: tuple[tuple[str, str, str], ...] = (),
) -> Currencies:
    """`rows`: account and currency; `issued`: account, subscription and currency, in order; `owing`: with an amount."""
    texts = ("account_id", "subscription_id", "currency")
    accounts = {"account_id": pl.String, "currency": pl.String}
    return in_currencies(
        "USD",
        pl.DataFrame(list(rows.items()), schema=accounts, orient="row"),
        pl.DataFrame(issued or [], schema=dict.fromkeys(texts, pl.String), orient="row"),
        pl.Series(list(live), dtype=pl.String),
        pl.DataFrame(
            [(account, currency, Decimal(amount)) for account, currency, amount in owing],
            schema={"account_id": pl.String, "currency": pl.String, "open": MONEY},
            orient="row",
        ),
    )


def billed_in(found: Currencies, *pairs: tuple[str, str]) -> list[str]:
    frame = pl.DataFrame(list(pairs), schema=["account_id", "subscription_id"], orient="row")
    return found.with_currency(frame)["currency"].to_list()


def test_the_row_of_an_account_says_its_currency_and_none_is_that_of_the_catalogue() -> None:
    found = of({"a": "EUR", "b": None, "c": "USD", "d": "JPY"})
    assert found.accounts.rows() == [("a", "EUR"), ("d", "JPY")]
    assert found.codes == ("USD", "EUR", "JPY")
    assert billed_in(found, ("a", "a/2026-01-01"), ("b", "b/2026-01-01"), ("unknown", "x")) == ["EUR", "USD", "USD"]


@pytest.mark.parametrize(
    ("live", "owing", "why"),
    [
        (("a/2026-01-01",), (), "subscription a/2026-01-01 has billing dates to come"),
        ((), (("a", "USD", "12.50"),), "it owes USD 12.5000"),
        (("a/2026-01-01",), (("a", "USD", "12.50"),), "subscription a/2026-01-01 has billing dates to come"),
    ],
)
def test_an_account_keeps_its_currency_while_something_lives_or_is_owed(
    live: tuple[str, ...], owing: tuple[tuple[str, str, str], ...], why: str
) -> None:
    found = of({"a": "EUR"}, [("a", "a/2026-01-01", "USD")], live, owing)
    assert found.refused.select("account_id", "reason").rows() == [("a", "currency_changed")]
    detail = found.refused["detail"][0]
    assert detail.startswith(f"currency: found 'EUR', expected USD, in which documents were issued to it: {why};")
    assert found.codes == ("USD",)


def test_what_ended_and_is_paid_stays_in_its_currency_and_what_follows_is_in_the_new_one() -> None:
    found = of({"a": "EUR"}, [("a", "a/2026-01-01", "USD")])
    assert found.refused.is_empty()
    assert billed_in(found, ("a", "a/2026-01-01"), ("a", "a/2026-05-01")) == ["USD", "EUR"]
    assert found.codes == ("USD", "EUR")


def test_what_is_owed_in_the_new_currency_keeps_nobody() -> None:
    found = of({"a": "EUR"}, [("a", "a/2026-01-01", "USD")], ("a/2026-05-01",), (("a", "EUR", "5.00"),))
    assert found.refused.is_empty()


def test_an_account_may_come_back_to_its_first_currency() -> None:
    issued = [("a", "a/2026-01-01", "USD"), ("a", "a/2026-03-01", "EUR")]
    found = of({"a": None}, issued)
    assert billed_in(found, ("a", "a/2026-01-01"), ("a", "a/2026-03-01"), ("a", "a/2026-05-01")) == [
        "USD",
        "EUR",
        "USD",
    ]


def test_charges_that_share_a_document_keep_the_currency_of_their_account() -> None:
    found = of({"a": "EUR", "b": "EUR"}, [("a", "a/charges", "USD"), ("b", "b/c1/charge", "USD")])
    assert found.refused["account_id"].to_list() == ["a"]
    assert "one-off charges were billed to it" in found.refused["detail"][0]
    assert billed_in(found, ("b", "b/c1/charge"), ("b", "b/2026-05-01")) == ["USD", "EUR"]


def test_an_account_without_a_row_keeps_the_currency_of_its_latest_document() -> None:
    found = of({}, [("gone", "gone/2026-01-01", "USD"), ("gone", "gone/2026-03-01", "EUR")])
    assert found.refused.is_empty()
    assert billed_in(found, ("gone", "gone/2026-03-01"), ("gone", "gone/2026-01-01")) == ["EUR", "USD"]


def test_the_rows_of_all_currencies_are_all_rows_and_keep_their_order() -> None:
    found = of({"a": "EUR", "b": None, "c": "EUR", "d": "JPY"}, [("c", "c/1", "USD")])
    frame = pl.DataFrame(
        [("d", "d/1"), ("c", "c/1"), ("a", "a/1"), ("c", "c/2"), ("b", "b/1")],
        schema=["account_id", "subscription_id"],
        orient="row",
    ).with_row_index("place")
    parts = {code: found.rows(frame, code) for code in found.codes}
    assert {code: part["place"].to_list() for code, part in parts.items()} == {"USD": [1, 4], "EUR": [2, 3], "JPY": [0]}
    lazy = found.rows(frame.lazy(), "EUR").collect()
    assert lazy.equals(parts["EUR"])
    assert found.rows(frame.drop("subscription_id"), "EUR")["place"].to_list() == [1, 2, 3], "without one, by account"


def test_a_subscription_lives_until_its_last_billing_date_is_closed() -> None:
    subscriptions = pl.DataFrame(
        {
            "subscription_id": ["open", "to come", "past", "closed"],
            "last_billing_date": [None, date(2026, 3, 10), date(2026, 2, 10), date(2026, 2, 10)],
        }
    )
    closed = pl.DataFrame(
        {"subscription_id": ["closed", "past"], "billing_date": [date(2026, 2, 10), date(2026, 1, 10)]}
    )
    assert live_subscriptions(subscriptions, closed, date(2026, 2, 28)).to_list() == ["open", "to come", "past"]
