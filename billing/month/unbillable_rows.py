"""Rows of one-off charges and purchased credits that cannot be billed, with file and row (rules 24, 30 and 33)."""

from datetime import date
from typing import Final

import polars as pl

from billing.inputs.input_files import input_files, read_rows
from billing.model.codes import GrantKind, LineKind
from billing.month.business import Business
from billing.rules.one_off_charges import with_billing_dates
from billing.rules.tax import WITH_A_RATE, without_rate

_MOST_TOLD: Final = 20


def rows_before_billing_start(business: Business) -> list[str]:
    """Charges and purchased grants whose document would be of a month before billing_start: no month bills them.

    A charge of a subscription that moved in is none: it is due on the first billing date here (rules 30 and 38).
    """
    start = business.catalogue.policy.billing_start
    why = pl.lit(f"{start} (policy.billing_start) or later: it is never billed").alias("expected")
    charges = business.inputs.one_off_charges.filter(pl.col("on") < start)
    if not charges.is_empty():
        charges = _dated(business, pl.col("on") < start).filter(pl.col("billing_date") < start)
    grants = business.inputs.credit_grants.filter(pl.col("granted_on") < start, pl.col("kind") == GrantKind.PURCHASED)
    return [
        *_in_words(business, "one_off_charges", "charge_id", "on", charges.with_columns(why)),
        *_in_words(business, "credit_grants", "grant_id", "granted_on", grants.with_columns(why)),
    ]


def charges_without_rate(business: Business) -> list[str]:
    """Charges not issued yet whose category says a rate that no row of the tax table gives: they park their account."""
    with_a_rate = pl.col("tax_category").is_in(WITH_A_RATE)
    if business.inputs.one_off_charges.filter(with_a_rate).is_empty():
        return []
    dated = _dated(business, with_a_rate).with_columns(subscription_id="charge_id")
    lacking = without_rate(dated, business.inputs.accounts, business.inputs.tax_rates)
    lines = business.register.lines_of_accounts(lacking["account_id"].unique().to_list(), date.min, date.max)
    issued = lines.filter(pl.col("kind") == LineKind.CHARGE).select("charge_id")
    expected = pl.format(
        "a category that has a row of tax_rates.csv for {} that holds on {}: the account is parked then",
        "country",
        pl.col("billing_date").dt.to_string("%Y-%m-%d"),
    )
    open_ones = lacking.join(issued, on="charge_id", how="anti", maintain_order="left").with_columns(expected=expected)
    return _in_words(business, "one_off_charges", "charge_id", "tax_category", open_ones)


def _dated(business: Business, which: pl.Expr) -> pl.DataFrame:
    """As `with_billing_dates`, of some charges."""
    shards = map(business.of, business.new_shards) if len(business.new_shards) > 1 else [business]
    return pl.concat(
        with_billing_dates(shard.inputs.one_off_charges.filter(which), shard.lives.subscriptions, shard.catalogue)
        for shard in shards
    )


def _in_words(business: Business, name: str, identity: str, column: str, wrong: pl.DataFrame) -> list[str]:
    """One line for each row of a file that is among `wrong`, which says what is `expected`."""
    if wrong.is_empty():
        return []
    columns = [identity, "account_id", column]
    files = input_files(business.home, name)
    places = (
        read_rows(files, columns, identity, business.home, business.catalogue.encoding, [])
        .join(wrong.select(*columns[:2], "expected"), on=columns[:2], how="inner", maintain_order="left")
        .unique(identity, keep="first", maintain_order=True)
    )
    lines = [
        f"{file}: row {row}: {column}: found {value!r} ({found} of {account}), expected {expected}"
        for file, row, value, found, account, expected in places.select(
            "file", "row", column, *columns[:2], "expected"
        ).iter_rows()
    ]
    further = len(lines) - _MOST_TOLD
    return lines[:_MOST_TOLD] + ([f"{name}: {further} more rows like these"] if further > 0 else [])
