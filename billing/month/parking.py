"""Accounts that cannot be billed this month are parked; the others go on (rule 28)."""

import polars as pl

from billing.model.codes import ParkedReason
from billing.model.tables import CYCLES, PACKAGES, PARKED
from billing.month.business import Business
from billing.month.context import required_table
from billing.month.invoice_formats import as_missing, parked_for_format
from billing.rules.charges import parked_by_rating
from billing.rules.terms import with_terms
from billing.store.monthly import write_month


def parked_accounts(business: Business, month: str, rated: pl.DataFrame) -> pl.DataFrame:
    """The accounts that cannot be billed, as far as is known before anything is drafted: PARKED.

    Parameters
    ----------
    rated
        As `rated_charges`, of the month.
    """
    cycles, packages = required_table(business, CYCLES, month), required_table(business, PACKAGES, month)
    without_package = cycles.join(packages, on="subscription_id", how="anti").select(
        "account_id",
        detail=pl.format("the package in force of {} is not known: bill the month before again", "subscription_id"),
    )
    return as_parked(
        month,
        business.parked_in(month),
        parked_by_rating(rated, month),
        contradictory_accounts(without_package),
        parked_for_format(business, month),
        *(_unsold(part, month) for part in business.by_currency if not part.catalogue.sells_all),
    )


def _unsold(business: Business, month: str) -> pl.DataFrame:
    """account_id, reason, detail: accounts in a package that has no amounts in their currency (any more)."""
    dates = required_table(business, CYCLES, month).select("subscription_id", "cycle_start")
    inside = required_table(business, PACKAGES, month).filter(~pl.col("closed")).join(dates, on="subscription_id")
    columns = ["account_id", "subscription_id"]
    asked = pl.concat(
        [
            inside.select(*columns, package="opening_package", on="billing_date"),
            inside.select(*columns, package="closing_package", on="cycle_start"),
        ]
    ).filter(pl.all_horizontal(pl.col("package", "on").is_not_null()))
    prices = business.terms.packages.filter(pl.col("monthly").is_null())
    found = with_terms(asked, business.terms, on="on", or_first=True).join(
        prices, on=["terms_key", "package", "since"], how="semi", maintain_order="left"
    )
    return found.select(
        "account_id",
        reason=pl.lit(ParkedReason.NOT_SOLD_IN_CURRENCY),
        detail=pl.format(
            "{} is in the package {}, which has no price in {} on {}: expected one in the catalogue",
            "subscription_id",
            "package",
            pl.lit(business.catalogue.currency),
            pl.col("on").dt.to_string("%Y-%m-%d"),
        ),
    ).unique("account_id", keep="first", maintain_order=True)


def as_parked(month: str, *found: pl.DataFrame) -> pl.DataFrame:
    """PARKED of account_id, reason, detail: one row for an account and a reason."""
    columns = ["account_id", "reason", "detail"]
    rows = pl.concat([frame.select(columns) for frame in found]).unique(columns[:2], keep="first", maintain_order=True)
    return PARKED.conform(rows.with_columns(billing_month=pl.lit(month)))


def contradictory_accounts(problems: pl.DataFrame) -> pl.DataFrame:
    """account_id, reason, detail of accounts with contradictory data."""
    return problems.drop_nulls("account_id").select(
        "account_id",
        reason=pl.lit(ParkedReason.CONTRADICTION),
        detail=pl.format("{}; the others are billed, and it is looked at again by every run", "detail"),
    )


def park(business: Business, month: str, problems: pl.DataFrame) -> pl.DataFrame:
    """Park accounts with a contradiction (rule 28): account_id, detail. Return the updated PARKED."""
    return _with_more_parked(business, month, contradictory_accounts(problems))


def park_for_format(business: Business, month: str, problems: pl.DataFrame) -> pl.DataFrame:
    """Park accounts whose format cannot say what they are billed: account_id, detail. Return the updated PARKED."""
    return _with_more_parked(business, month, as_missing(problems))


def park_without_rate(business: Business, month: str, lines: pl.DataFrame) -> pl.DataFrame:
    """Park accounts with lines of a category of tax that says a rate and has none: return the updated PARKED.

    Parameters
    ----------
    lines
        As `without_rate`.
    """
    found = lines.select(
        "account_id",
        reason=pl.lit(ParkedReason.MISSING_TAX_RATE),
        detail=pl.format(
            "tax_rates.csv: found no row of category {} for {} that holds on {}, expected one for the charge {}, or "
            "another tax_category of it; the others are billed, and it is looked at again by every run",
            "tax_category",
            "country",
            pl.col("billing_date").dt.to_string("%Y-%m-%d"),
            "charge_id",
        ),
    )
    return _with_more_parked(business, month, found)


def _with_more_parked(business: Business, month: str, found: pl.DataFrame) -> pl.DataFrame:
    known = required_table(business, PARKED, month)
    parked = as_parked(month, known, found)
    write_month(business.home, PARKED, month, parked, in_order=True)
    return parked
