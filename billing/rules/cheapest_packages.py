"""The cheapest package that fits what was used: what an account would choose that looks at each bill (what-if)."""

import polars as pl

from billing.model.codes import SubscriptionStatus, Term
from billing.model.columns import PRICE
from billing.rules.dimensions import over_all_rules
from billing.rules.rating import rate
from billing.rules.terms import TermsFrames, with_terms

_CYCLES_OF_A_TERM = 12


def cheapest_packages(
    packages: pl.DataFrame, *, cycles: pl.DataFrame, usage: pl.DataFrame, terms: TermsFrames
) -> pl.DataFrame:
    """The package that each subscription would choose at the close of its cycle.

    The cheapest is the one whose fee and overages of the closed cycle's usage are lowest, in the version of the billing
    date; the smaller one where two cost the same. It fits where every metric that makes accounts outgrow it is within
    its allowance (rule 7); where none fits, nothing is chosen. Inside a yearly term nothing changes. Coupons, add-ons,
    seats and minimums are left out of the choice; of a tariff by dimension what no rule matches rates everything.

    Parameters
    ----------
    packages, cycles, usage
        The tables PACKAGES, CYCLES and USAGE of a month.

    Returns
    -------
    polars.DataFrame
        subscription_id, cheapest.
    """
    is_term_date = (pl.col("term") == Term.MONTHLY) | (pl.col("billing_index") % _CYCLES_OF_A_TERM == 0)
    chooses = (
        cycles.filter(
            pl.col("status").is_in([SubscriptionStatus.ACTIVE, SubscriptionStatus.SUSPENDED])
            & ~pl.col("is_last")
            & pl.col("cycle_start").is_not_null()
            & is_term_date
        )
        .select("account_id", "subscription_id", "billing_date", "cycle_start", "term")
        .join(packages.select("subscription_id", current="opening_package"), on="subscription_id")
    )
    names = terms.packages.select("package", "rank").unique()
    offered = (pl.col("package") == pl.col("current")) | ~pl.col("package").is_in(terms.hidden)
    pairs = with_terms(chooses.join(names, how="cross").filter(offered), terms, on="billing_date")
    price = pl.when(pl.col("term") == Term.YEARLY).then("yearly").otherwise("monthly")
    sold = (
        pairs.join(
            terms.packages.select("terms_key", "package", "since", "monthly", "yearly"),
            on=["terms_key", "package", "since"],
        )
        .with_columns(fee=price)
        .filter(pl.col("fee").is_not_null())
    )
    used = over_all_rules(usage).select("subscription_id", "cycle_start", "metric", "base_quantity", "quantity")
    rated = rate(_rows_to_rate(sold, used, usage), terms)
    per_package = rated.group_by("subscription_id", "package").agg(
        overage=pl.col("amount").cast(PRICE).sum(), is_rated=pl.col("amount").is_not_null().all()
    )
    triggers = terms.metrics.filter("is_trigger").select("terms_key", "package", "since", "metric", "allowance")
    outgrown = (
        sold.join(triggers, on=["terms_key", "package", "since"])
        .join(used, on=["subscription_id", "cycle_start", "metric"])
        .filter(pl.col("base_quantity") > pl.col("allowance"))
        .select("subscription_id", "package")
        .unique()
    )
    cycles_paid = pl.when(pl.col("term") == Term.YEARLY).then(_CYCLES_OF_A_TERM).otherwise(1)
    return (
        sold.join(outgrown, on=["subscription_id", "package"], how="anti")
        .join(per_package, on=["subscription_id", "package"], how="left")
        .filter(pl.col("is_rated").fill_null(value=True))
        .with_columns(cost=pl.col("fee").cast(PRICE) + pl.col("overage").fill_null(0).cast(PRICE) * cycles_paid)
        .sort("subscription_id", "cost", "rank")
        .group_by("subscription_id", maintain_order=True)
        .agg(cheapest=pl.col("package").first())
    )


def _rows_to_rate(sold: pl.DataFrame, used: pl.DataFrame, usage: pl.DataFrame) -> pl.DataFrame:
    rows = sold.select("subscription_id", "cycle_start", "terms_key", "package", "since").join(
        used, on=["subscription_id", "cycle_start"]
    )
    if "events" in usage.columns:
        counted = usage.group_by("subscription_id", "cycle_start", "metric").agg(pl.col("events").sum())
        rows = rows.join(counted, on=["subscription_id", "cycle_start", "metric"], how="left")
    return rows.with_columns(rule=pl.lit(None, pl.String))
