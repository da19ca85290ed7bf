"""Checks of a computed month that must pass before money moves, and rows to review.

Each function returns the rows that fail its check: none when it passes.
"""

from decimal import Decimal
from typing import Final

import polars as pl

from billing.documents.drafts import open_to_documents
from billing.model.calendar import month_of, months_between
from billing.model.codes import PACKAGE_CHANGES, DocumentKind, LineKind, Outcome
from billing.model.columns import Table
from billing.model.empty_frames import skip_if_empty
from billing.model.one_collect import collected
from billing.model.tables import CYCLES, DECISIONS, DRAFTS, DUES, PACKAGES, PARKED, SURGES
from billing.month.business import Business
from billing.month.context import without_parked
from billing.store.monthly import read_month

SURGE: Final = 10
"""A bill this many times the account's last one is looked at."""

_DATE: Final = ["subscription_id", "billing_date"]


def dates_not_billed_once(business: Business, month: str) -> pl.DataFrame:
    """Every active account is billed once: account_id, subscription_id, billing_date, problem where not (rules 6, 19).

    A cycle that starts with a fee has that fee; an open date on which something falls due has a draft, or passed while
    the account was parked; and no date has two documents, drafted or issued.
    """
    parked = _read(business, PARKED, month)
    cycles = without_parked(_read(business, CYCLES, month), parked)
    dues = without_parked(_read(business, DUES, month), parked)
    starting = cycles.filter((pl.col("fee_share_numerator") > 0) & ~pl.col("is_last"))
    fees = dues.filter(pl.col("kind") == LineKind.PACKAGE_FEE)
    drafted = read_month(business.home, DRAFTS, month, ["account_id", *_DATE, "corrects"])
    drafts = drafted.filter(pl.col("corrects").is_null()).select("account_id", *_DATE)
    issued = business.register.documents([month]).filter(pl.col("corrects").is_null()).select("account_id", *_DATE)
    due = dues.filter(pl.col("amount") != 0).select("account_id", *_DATE).unique()
    due = open_to_documents(due, business.register.passed_dates(month))
    closed = business.register.closed_dates(month).select(_DATE)
    both = pl.concat([drafts, issued])
    return pl.concat(
        [
            starting.join(fees, on=_DATE, how="anti").select("account_id", *_DATE, problem=pl.lit("no fee")),
            due.join(pl.concat([closed, drafts.select(_DATE)]), on=_DATE, how="anti").select(
                "account_id", *_DATE, problem=pl.lit("no draft")
            ),
            both.filter(both.is_duplicated()).unique().select("account_id", *_DATE, problem=pl.lit("billed twice")),
        ]
    ).sort(_DATE)


def answers_not_given_once(business: Business, month: str) -> pl.DataFrame:
    """Every request is answered exactly once: account_id, id, problem where not (rule 17).

    A request that has an answer has one decision, and every change of package has the decision that made it. A package
    change that waits for its cycle to close has none yet.
    """
    first = business.first_month or month
    until_now = business.scan_months(DECISIONS, months_between(first, month))
    twice = (
        until_now.group_by("decision_id")
        .agg(pl.col("account_id").last(), times=pl.len(), here=(pl.col("billing_month") == month).any())
        .filter((pl.col("times") > 1) & pl.col("here"))
        .select("account_id", id="decision_id", problem=pl.lit("answered twice"))
        .collect()
    )
    found = [twice]
    asked = business.lives.answers.filter(
        (pl.col("outcome") != Outcome.PENDING) & (pl.max_horizontal(month_of(pl.col("on")), pl.lit(first)) == month)
    )
    if not asked.is_empty():
        known = business.scan_months(DECISIONS, business.home.months(DECISIONS)).select("request_id").collect()
        unanswered = asked.join(known, on="request_id", how="anti")
        found.append(unanswered.select("account_id", id="request_id", problem=pl.lit("no answer")))
    changed = _read(business, PACKAGES, month).filter(
        pl.col("change_reason").is_not_null() & (pl.col("billing_date") <= business.as_of)
    )
    if not changed.is_empty():
        # A package that waited for the end of a yearly term was decided in an earlier month (rule 18).
        made = ["subscription_id", "opening_package", "billing_date"]
        decided = (
            until_now.filter((pl.col("outcome") == Outcome.APPROVED) & pl.col("kind").is_in(PACKAGE_CHANGES))
            .select("subscription_id", opening_package="to_package", billing_date="effective_on")
            .collect()
        )
        undecided = changed.join(decided, on=made, how="anti")
        problem = pl.lit("a change of package without its decision")
        found.append(undecided.select("account_id", id="subscription_id", problem=problem))
    return pl.concat(found).sort("id", "problem")


def quantities_not_charged_once(usage: pl.DataFrame, charges: pl.DataFrame) -> pl.DataFrame:
    """Every measured quantity has one charge: account_id, detail where it has none or a charge has no quantity.

    Parameters
    ----------
    usage, charges
        The tables USAGE and CHARGES of a month, of the same accounts.
    """
    keys = ["account_id", "subscription_id", "cycle_start", "metric", "quantity"]
    has_rules = usage["rule"].null_count() < usage.height or charges["rule"].null_count() < charges.height
    if has_rules:
        keys.append("rule")
    if usage.select(keys).equals(charges.select(keys)):
        # Both stand in the order of usage; to group them takes 80 MB more of 100,000 accounts.
        return pl.DataFrame(schema={"account_id": pl.String, "detail": pl.String})
    counted = [frame.group_by(keys).agg(times=pl.len()) for frame in (usage, charges)]
    both = (counted, reversed(counted))
    other = [one.join(two, on=[*keys, "times"], how="anti", nulls_equal=has_rules) for one, two in both]
    return pl.concat(other).select(
        "account_id", detail=pl.format("{} of {}: its quantity has not one charge", "metric", "subscription_id")
    )


def surges(business: Business, month: str | None = None) -> pl.DataFrame:
    """Bills of a month, or of all, that are SURGE times the account's last one without a change of package: SURGES.

    A change of package stands on the document with its reason; nothing explains these but usage and price.
    """
    columns = ["account_id", "subscription_id", "billing_month", "billing_date", "number", "total", "currency"]
    months = business.home.months(DRAFTS)
    drafts = (
        business.scan_months(DRAFTS, months).filter(pl.col("kind") == DocumentKind.INVOICE).drop("content").collect()
    )
    issued = business.register.documents().filter(pl.col("kind") == DocumentKind.INVOICE)
    bills = pl.concat(
        [issued.select(columns), drafts.with_columns(number=pl.lit(None, pl.String)).select(columns)]
    ).sort("account_id", "billing_date", "number", nulls_last=True)
    compared = bills.with_columns(
        pl.col(name).shift(1).over("account_id", "currency").alias(f"last_{name}")
        for name in ("number", "billing_date", "total")
    )
    noted = (
        business.scan_months(PACKAGES, months)
        .filter(pl.col("change_reason").is_not_null())
        .select("subscription_id", "billing_date")
        .collect()
    )
    found = compared.filter(
        (pl.col("last_total") > 0) & (pl.col("total") >= pl.col("last_total") * pl.lit(Decimal(SURGE)))
    ).join(noted, on=["subscription_id", "billing_date"], how="anti")
    return SURGES.conform(found if month is None else found.filter(pl.col("billing_month") == month))


@skip_if_empty("documents", by=("keys",))
def not_adding_up(documents: pl.DataFrame, lines: pl.DataFrame, taxes: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Documents or drafts of which lines are not net, taxes not tax, or net + tax not total; `keys` identify them."""
    nothing = pl.lit(Decimal(0))
    sums = (
        documents.lazy()
        .join(lines.lazy().group_by(keys).agg(lines_sum=pl.col("amount").sum()), on=keys, how="left")
        .join(taxes.lazy().group_by(keys).agg(taxes_sum=pl.col("amount").sum()), on=keys, how="left")
        .with_columns(pl.col("lines_sum", "taxes_sum").fill_null(nothing))
    )
    adds_up = (
        (pl.col("lines_sum") == pl.col("net"))
        & (pl.col("taxes_sum") == pl.col("tax"))
        & (pl.col("net") + pl.col("tax") == pl.col("total"))
    )
    return collected(sums.filter(~adds_up).select(keys))


def _read(business: Business, table: Table, month: str) -> pl.DataFrame:
    return read_month(business.home, table, month)
