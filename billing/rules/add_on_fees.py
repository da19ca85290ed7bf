"""Fees of add-ons: in advance with the package's, and for what is added inside a yearly term (rule 31)."""

from typing import Final

import polars as pl

from billing.model.catalogue import Catalogue
from billing.model.codes import FeeReason, LineKind, SubscriptionStatus, Term
from billing.model.columns import MONEY, PRICE, QUANTITY
from billing.model.money import round_fraction, scaled_to_decimal
from billing.rules.add_ons import HeldAddOns, held_on
from billing.rules.charges import with_late_dates
from billing.rules.terms import PRICE_SCALE

_ONE: Final = ["subscription_id", "add_on"]


def add_on_fees(dated: pl.DataFrame, held: HeldAddOns, catalogue: Catalogue) -> pl.DataFrame:
    """Fees of add-ons that fall due on the billing dates of a month, with those of the package: rows of DUES.

    Parameters
    ----------
    dated
        As `with_packages`.
    held
        What is held on the billing dates of the month.
    """
    holdings, late = held.holdings, with_late_dates(dated)
    is_yearly = pl.col("term") == Term.YEARLY
    due = dated.filter((pl.col("fee_share_numerator") > 0) & pl.col("opening_package").is_not_null())
    whole = held_on(due, holdings, "billing_date").with_columns(
        part=pl.col("fee_share_numerator").cast(pl.Int32),
        parts=pl.col("fee_share_denominator").cast(pl.Int32),
        ends=pl.when(is_yearly).then("following_term").otherwise("next_billing_date"),
    )
    of_late = held_on(late, holdings, "billing_date").with_columns(
        part=pl.lit(1, pl.Int32), parts=pl.lit(1, pl.Int32), ends="late_term_end", starts="late_term_start"
    )
    rows = pl.concat([whole, of_late, _more_within_a_term(dated, holdings, catalogue)], how="diagonal_relaxed")
    priced = held.add_ons.with_version(rows, "billing_date", or_first=True).with_columns(
        price=pl.when(is_yearly).then("yearly").otherwise("monthly"), units=pl.col("held").cast(pl.Int128)
    )
    return _lines(priced.filter(pl.col("price").is_not_null()), catalogue)


def _more_within_a_term(dated: pl.DataFrame, holdings: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """More of an add-on inside a yearly term: the added ones, for the whole cycles left of twelve (rule 18)."""
    inside = dated.filter(
        (pl.col("term") == Term.YEARLY)
        & (pl.col("billing_index") % 12 != 0)
        & (pl.col("fee_reason") == FeeReason.TERM)
        & pl.col("opening_package").is_not_null()
        # As the difference of package fees: none falls due while suspended (rule 16).
        & ((pl.col("status") != SubscriptionStatus.SUSPENDED) | pl.lit(catalogue.policy.charge_while_suspended))
        # A late fee on the same day is for all that is held then.
        & pl.col("late_fee_on").ne_missing(pl.col("billing_date"))
    )
    before = held_on(inside, holdings, "cycle_start").select(*_ONE, had="held")
    left = 12 - pl.col("billing_index") % 12
    return (
        held_on(inside, holdings, "billing_date")
        .join(before, on=_ONE, how="left", maintain_order="left")
        .with_columns(held=pl.col("held") - pl.col("had").fill_null(0))
        .filter(pl.col("held") > 0)
        .with_columns(part=left.cast(pl.Int32), parts=pl.lit(12, pl.Int32), ends="term_end")
        .drop("had")
    )


def _lines(priced: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Rows of DUES of what is held of add-ons, price each for `part` of `parts`."""
    is_partly = pl.col("part") != pl.col("parts")
    numerator = pl.col("price").to_physical().cast(pl.Int128) * pl.col("units") * pl.col("part").cast(pl.Int128)
    denominator = pl.col("parts").cast(pl.Int128) * pl.lit(PRICE_SCALE, pl.Int128)
    titles = {add_on.name: add_on.title for add_on in catalogue.add_ons}
    term = pl.when(pl.col("term") == Term.YEARLY).then(pl.lit("yearly")).otherwise(pl.lit("monthly"))
    unit = pl.when(pl.col("parts") == 12).then(pl.lit("cycles")).otherwise(pl.lit("days"))
    share = pl.when(is_partly).then(pl.format(", {} of {} {}", "part", "parts", unit)).otherwise(pl.lit(""))
    return priced.select(
        "account_id",
        "subscription_id",
        "billing_date",
        "add_on",
        kind=pl.lit(LineKind.ADD_ON),
        due_item="add_on",
        metric=pl.lit(None, pl.String),
        package="opening_package",
        cycle_start=pl.coalesce("starts", "billing_date"),
        cycle_end="ends",
        quantity=pl.col("held").cast(QUANTITY),
        billed_units=pl.col("held").cast(QUANTITY),
        unit_price="price",
        amount=round_fraction(numerator, denominator, catalogue.minor_units).cast(MONEY),
        whole_fee=pl.when(is_partly).then(scaled_to_decimal(_whole(), PRICE.scale)),
        fee_part=pl.when(is_partly).then("part"),
        fee_parts=pl.when(is_partly).then("parts"),
        description=pl.format(
            "{} {}, {} fee{}",
            "held",
            pl.col("add_on").replace(titles),
            term,
            share,
        ),
    )


def _whole() -> pl.Expr:
    return pl.col("price").to_physical().cast(pl.Int128) * pl.col("units")
