"""Missing accounts: a billed account or request that is missing from the input is parked, never undone (rule 28).

An accounts file without a customer, or a requests file without the request that began a subscription, does not change
what was issued.
"""

from typing import Final

import polars as pl

from billing.model.calendar import month_of
from billing.model.codes import DecisionKind, ParkedReason, RejectReason
from billing.model.empty_frames import skip_if_empty
from billing.model.errors import RefusedError
from billing.model.text import counted

PASSES_DATES: Final = (
    *(ParkedReason.ACCOUNT_MISSING, ParkedReason.ACCOUNT_SET_ASIDE, ParkedReason.REQUEST_MISSING),
    ParkedReason.CURRENCY_CHANGED,
)
"""Reasons for which an account is parked while its billing dates go by: they are settled on its next document."""

_FEWEST, _SHARE = 10, 10
_PLACE: Final = pl.format("{} row {} is set aside ({}: {})", "file", "row", "reason", "detail")


def accounts_without_row(known: pl.Series, accounts: pl.DataFrame, rejects: pl.DataFrame) -> pl.DataFrame:
    """Accounts that were billed and have no valid row in the accounts file.

    Parameters
    ----------
    known
        account_id: accounts with a row, and those to which anything was issued.
    accounts, rejects
        As in `Inputs`.

    Returns
    -------
    polars.DataFrame
        account_id, reason, detail; sorted.
    """
    missing = known.to_frame("account_id").join(accounts, on="account_id", how="anti")
    without_row = missing.join(_rows_set_aside(rejects), on="account_id", how="left", maintain_order="left")
    is_aside = pl.col("file").is_not_null()
    return without_row.select(
        "account_id",
        reason=pl.when(is_aside)
        .then(pl.lit(ParkedReason.ACCOUNT_SET_ASIDE))
        .otherwise(pl.lit(ParkedReason.ACCOUNT_MISSING)),
        detail=pl.when(is_aside)
        .then(pl.format("{}: nothing is billed and nothing is given back until it is mended", _PLACE))
        .otherwise(
            pl.lit(
                "documents were issued to it and it has no row in the accounts file: nothing is billed and nothing is "
                "given back until the row is there again"
            )
        ),
    ).sort("account_id")


@skip_if_empty("rejects")
def new_accounts_set_aside(known: pl.Series, rejects: pl.DataFrame) -> pl.DataFrame:
    """Accounts that asked for something, were never billed, and whose row in the accounts file is set aside.

    Parameters and result are those of `accounts_without_row`.
    """
    asked = rejects.filter(
        pl.col("file").str.starts_with("requests") & (pl.col("reason") == RejectReason.UNKNOWN_ACCOUNT)
    )
    return (
        _rows_set_aside(rejects)
        .join(known.to_frame("account_id"), on="account_id", how="anti")
        .join(asked, on="account_id", how="semi")
        .select(
            "account_id",
            reason=pl.lit(ParkedReason.ACCOUNT_SET_ASIDE),
            detail=pl.format("{}: nothing is billed until it is mended", _PLACE),
        )
        .sort("account_id")
    )


@skip_if_empty("rejects")
def _rows_set_aside(rejects: pl.DataFrame) -> pl.DataFrame:
    """account_id, file, row, reason, detail: the last row of an account in the accounts file that is set aside."""
    return (
        rejects.filter(pl.col("file").str.starts_with("accounts") & pl.col("account_id").is_not_null())
        .group_by("account_id", maintain_order=True)
        .last()
        .select("account_id", "file", "row", "reason", "detail")
    )


@skip_if_empty("closed")
def subscriptions_without_request(
    closed: pl.DataFrame,
    begun: pl.DataFrame,
    requests: pl.DataFrame,
    rejects: pl.DataFrame,
    request_ids: pl.LazyFrame,
) -> pl.DataFrame:
    """Subscriptions that were billed and whose first request is missing.

    Only a request that is still there and says otherwise, or one that withdraws it, undoes a subscription.

    Parameters
    ----------
    closed
        account_id, subscription_id: subscriptions with closed billing dates that the requests do not make any more.
    begun
        subscription_id, request_id: the requests that began them, as recorded when they were first issued to.
    requests, rejects, request_ids
        As in `Inputs`, whatever the as-of day.

    Returns
    -------
    polars.DataFrame
        account_id, reason, detail; one row an account, sorted.
    """
    begins = requests.filter(pl.col("kind").is_in([DecisionKind.SUBSCRIBE, DecisionKind.RESUME]))
    recorded = closed.join(begun.select("subscription_id", "request_id"), on="subscription_id", how="left")
    gone = pl.concat(
        [
            recorded.lazy()
            .filter(pl.col("request_id").is_not_null())
            .join(request_ids, on="request_id", how="anti")
            .collect(),
            # Not recorded by earlier versions: any request of the account that begins a subscription may replace it.
            recorded.filter(pl.col("request_id").is_null()).join(begins, on="account_id", how="anti"),
        ]
    )
    aside = rejects.filter(pl.col("file").str.starts_with("requests")).select(
        "file", "row", request_id="id", aside="reason", detail="detail"
    )
    without_request = gone.join(aside.unique("request_id", keep="last"), on="request_id", how="left")
    what = (
        pl.when(pl.col("request_id").is_null())
        .then(pl.lit("the request"))
        .otherwise(pl.format("request {}", "request_id"))
    )
    where = (
        pl.when(pl.col("file").is_null())
        .then(pl.lit("missing from the requests"))
        .otherwise(pl.format("set aside ({} row {}, {}: {})", "file", "row", "aside", "detail"))
    )
    return (
        without_request.sort("account_id", "subscription_id")
        .unique("account_id", keep="first", maintain_order=True)
        .select(
            "account_id",
            reason=pl.lit(ParkedReason.REQUEST_MISSING),
            detail=pl.format(
                "{}, which began {}, is {}, and documents were issued: nothing is billed and nothing is given back "
                "until it is there again, or a request `withdraw` takes it back",
                what,
                "subscription_id",
                where,
            ),
        )
    )


@skip_if_empty("dates", by=("day",))
def while_parked(dates: pl.DataFrame, gone_by: pl.DataFrame, day: str = "billing_date") -> pl.DataFrame:
    """The billing dates that passed while their account was parked: they are settled later (rule 28).

    Parameters
    ----------
    dates
        account_id and `day`, a billing date; its columns are kept.
    gone_by
        As `Register.dates_gone_by`.
    """
    months = dates.with_columns(_month=month_of(pl.col(day)))
    return (
        months.join(
            gone_by, left_on=["account_id", "_month"], right_on=["account_id", "billing_month"], maintain_order="left"
        )
        .filter(pl.col(day) <= pl.col("passed_through"))
        .drop("_month", "passed_through")
    )


@skip_if_empty("dates", by=("day",))
def that_waited(
    dates: pl.DataFrame, gone_by: pl.DataFrame, issued: pl.DataFrame, day: str = "billing_date"
) -> pl.DataFrame:
    """As `while_parked`, only dates that have not been billed since.

    Parameters
    ----------
    dates
        account_id, subscription_id and `day`.
    issued
        As `Register.issued_amounts`.
    """
    billed = issued.select("subscription_id", pl.col("billing_date").alias(day))
    return while_parked(dates, gone_by, day).join(
        billed, on=["subscription_id", day], how="anti", maintain_order="left"
    )


def refuse_lacking_accounts(live: pl.Series, without_row: pl.DataFrame) -> None:
    """Refuse an accounts file that lacks too many accounts with live subscriptions (rule 28).

    Parameters
    ----------
    live
        account_id: of accounts with a live subscription to which something was issued.
    without_row
        As `accounts_without_row`; a row that is set aside is not lacking.

    Raises
    ------
    RefusedError
        When all of them, or at least ten and more than a tenth, have no row.
    """
    lacking = without_row.filter(
        (pl.col("reason") == ParkedReason.ACCOUNT_MISSING) & pl.col("account_id").is_in(live.implode())
    )["account_id"]
    count = len(lacking)
    if count and (count == len(live) or (count >= _FEWEST and count * _SHARE > len(live))):
        named = ", ".join(lacking.head(5)) + (", ..." if count > 5 else "")
        raise RefusedError(
            f"accounts: found no row of {counted(count, 'account')} of the {len(live)} with a live subscription "
            f"({named}), expected a row each: put the file right, or say --accept-missing-accounts to park them and "
            "bill the others"
        )
