"""Accounts whose subscription is refused for a reason that the catalogue or its start has (rule 28)."""

import polars as pl

from billing.model.catalogue import Catalogue
from billing.model.codes import DecisionKind, ParkedReason
from billing.model.empty_frames import skip_if_empty


@skip_if_empty("refused")
def parked_by_refusal(refused: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """account_id, reason, detail: accounts whose first subscription is refused (rule 28).

    Parameters
    ----------
    refused
        Refused requests: account_id, request_id, kind, package, on, billed_through, refusal.
    """
    names = ", ".join(package.name for package in catalogue.packages)
    start = catalogue.policy.billing_start
    details = {
        ParkedReason.UNKNOWN_PACKAGE: f"this package is not in the catalogue: expected one of {names}",
        ParkedReason.PACKAGE_NOT_SOLD_YET: (
            "no version of it is effective on that date: expected an earlier effective_from"
        ),
        ParkedReason.NOT_SOLD_IN_CURRENCY: (
            f"it has no price in {catalogue.currency}, the currency of the account: expected one in the catalogue"
        ),
        ParkedReason.BEFORE_BILLING_START: (
            "the first billing month there can be is later; expected `billed_through` on the request, "
            f"{start} or later (the day up to which another system billed it), or an earlier policy.billing_start "
            f"in the catalogue, or a start on {start} or after"
        ),
    }
    return refused.filter((pl.col("kind") == DecisionKind.SUBSCRIBE) & pl.col("refusal").is_in(list(details))).select(
        "account_id",
        reason="refusal",
        detail=pl.format(
            "request {} subscribes to {} on {}: {}",
            "request_id",
            "package",
            pl.col("on").dt.to_string("%Y-%m-%d"),
            pl.concat_str(
                pl.when(
                    pl.col("billed_through").is_not_null() & (pl.col("refusal") == ParkedReason.BEFORE_BILLING_START)
                )
                .then(
                    pl.format(
                        "billed_through {} is not late enough, ", pl.col("billed_through").dt.to_string("%Y-%m-%d")
                    )
                )
                .otherwise(pl.lit("")),
                pl.col("refusal").replace_strict(details, return_dtype=pl.String),
            ),
        ),
    )
