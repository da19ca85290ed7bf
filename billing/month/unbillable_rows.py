"""Rows of one-off charges and purchased credits that no month bills: dated before the policy's billing_start."""

from typing import Final

import polars as pl

from billing.inputs.input_files import input_files, read_rows
from billing.model.codes import GrantKind
from billing.month.business import Business
from billing.rules.one_off_charges import with_billing_dates

_MOST_TOLD: Final = 20


def rows_before_billing_start(business: Business) -> list[str]:
    """Charges and purchased grants whose document would be of a month before billing_start, with file and row.

    A charge of a subscription that moved in is none: it is due on the first billing date here (rules 30 and 38).
    """
    start = pl.lit(business.catalogue.policy.billing_start)
    charges = business.inputs.one_off_charges.filter(pl.col("on") < start)
    grants = business.inputs.credit_grants.filter(pl.col("granted_on") < start, pl.col("kind") == GrantKind.PURCHASED)
    if not charges.is_empty():
        several = len(business.new_shards) > 1
        shards = map(business.of, business.new_shards) if several else [business]
        charges = pl.concat(_dated(shard) for shard in shards).filter(pl.col("billing_date") < start)
    return [
        *_in_words(business, "one_off_charges", "charge_id", "on", charges),
        *_in_words(business, "credit_grants", "grant_id", "granted_on", grants),
    ]


def _dated(business: Business) -> pl.DataFrame:
    """As `with_billing_dates`, of charges before billing_start."""
    charges = business.inputs.one_off_charges.filter(pl.col("on") < business.catalogue.policy.billing_start)
    return with_billing_dates(charges, business.lives.subscriptions, business.catalogue)


def _in_words(business: Business, name: str, identity: str, day: str, early: pl.DataFrame) -> list[str]:
    if early.is_empty():
        return []
    files, catalogue = input_files(business.home, name), business.catalogue
    places = (
        read_rows(files, [identity, "account_id", day], identity, business.home, catalogue.encoding, [])
        .join(early, on=[identity, "account_id"], how="semi", maintain_order="left")
        .unique(identity, keep="first", maintain_order=True)
    )
    lines = [
        f"{file}: row {row}: {day}: found {on!r} ({found} of {account}), expected {catalogue.policy.billing_start} "
        "(policy.billing_start) or later: it is never billed"
        for file, row, on, found, account in places.select("file", "row", day, identity, "account_id").iter_rows()
    ]
    further = len(lines) - _MOST_TOLD
    return lines[:_MOST_TOLD] + ([f"{name}: {further} more rows like these"] if further > 0 else [])
