"""True-ups of a month: issued against due, refunds, and the taxes of what is given back (rules 20 and 24)."""

from datetime import date
from typing import Final

import polars as pl

from billing.documents.true_up_lines import with_settlements
from billing.model.calendar import first_day, month_of, months_after, months_between
from billing.model.codes import DecisionKind, DecisionReason, LineKind, Outcome
from billing.model.columns import MONEY
from billing.model.offers import AT_ONCE
from billing.model.tables import CHARGES, CYCLES, DUES, PARKED
from billing.month.business import Business
from billing.month.context import joined
from billing.month.lost_deliveries import losses_that_stand
from billing.register.register import Register
from billing.rules.balances import money_sent_back
from billing.rules.coupon_true_ups import with_coupons_on_what_moved
from billing.rules.due_items import IDENTITY, refunded_item, refunded_kind
from billing.rules.missing_accounts import while_parked
from billing.rules.own_documents import shown_subscription_id
from billing.rules.tax import running_taxes
from billing.rules.true_ups import accounts_with_differences, open_differences

_DATE: Final = ["account_id", "subscription_id", "billing_date"]
# From so many documents on, read descriptions of lines for accounts with differences only, if these are fewer than
# _MANY_ACCOUNTS.
_MANY_DOCUMENTS: Final = 10_000
_MANY_ACCOUNTS: Final = 10_000
# What a cycle lacks of its minimum depends on its overages.
_OF_USAGE: Final = (LineKind.OVERAGE, LineKind.MINIMUM_SPEND)


def month_differences(business: Business, since: str, before: str, later: Register | None = None) -> pl.DataFrame:
    """As `open_differences`, of the months from `since` to the one before `before`, all of them up to date.

    Parameters
    ----------
    later
        A later state of the register: also skip fees that it has refunded, and count dates as closed that it has
        closed and that passed while the account was parked.
    """
    months = months_between(since, months_after(before, -1))
    register, days = business.register, (first_day(since), first_day(before))
    dues, closed = business.scan_months(DUES, months), register.closed_dates()
    if later is not None:
        came_back = while_parked(later.closed_dates(), register.dates_gone_by())
        closed = pl.concat([closed, came_back])
    closed = closed.select("subscription_id", "billing_date").unique()
    accounts = _differing(business, dues, closed, days)
    amounts = register.issued_amounts(*days, accounts)
    if later is not None:
        is_refund = pl.col("kind") == LineKind.REFUND
        refunds = later.issued_amounts(*days, accounts).filter(is_refund)
        amounts = pl.concat([amounts.filter(~is_refund), refunds])
    differences = open_differences(
        dues if accounts is None else dues.filter(pl.col("account_id").is_in(accounts)),
        business.scan_months(PARKED, months),
        closed,
        _with_refunds_taken_back(business, amounts),
    )
    differences = _without_accepted_losses(differences, losses_that_stand(business))
    found = [
        with_coupons_on_what_moved(part.rows(differences), part.catalogue.minor_units) for part in business.by_currency
    ]
    return joined(found, [*_DATE, *IDENTITY])


def _differing(
    business: Business, dues: pl.LazyFrame, closed: pl.DataFrame, days: tuple[date, date]
) -> list[str] | None:
    """As `accounts_with_differences`, of dues in `[days)`; None where all may be looked at: they are few, or most."""
    register = business.register
    if register.count() < _MANY_DOCUMENTS or not _taken_back(business).is_empty():
        return None
    accounts = accounts_with_differences(dues, closed, register.issued_sums(*days))
    return accounts if len(accounts) < _MANY_ACCOUNTS else None


def _taken_back(business: Business) -> pl.DataFrame:
    """Answers to requests for refunds that were withdrawn."""
    return business.lives.answers.filter(
        (pl.col("kind") == DecisionKind.REFUND) & (pl.col("reason") == DecisionReason.WITHDRAWN)
    )


def _with_refunds_taken_back(business: Business, amounts: pl.DataFrame) -> pl.DataFrame:
    """Reverse refunds that a withdrawal took back: their fee is due again (rule 17)."""
    taken_back = _taken_back(business)
    if taken_back.is_empty():
        return amounts
    is_undone = (
        (pl.col("kind") == LineKind.REFUND)
        & pl.col("account_id").is_in(taken_back["account_id"].implode())
        & ~pl.col("subscription_id").is_in(approved_refunds(business)["subscription_id"].implode())
    )
    kind = pl.when(is_undone).then(refunded_kind()).otherwise("kind")
    item = pl.when(is_undone).then(refunded_item()).otherwise("due_item")
    keys = ["account_id", "subscription_id", "billing_date", *IDENTITY]
    others = [name for name in amounts.columns if name not in (*keys, "issued")]
    return (
        amounts.with_columns(kind=kind, due_item=item)
        .group_by(keys, maintain_order=True)
        .agg(pl.col("issued").sum().cast(MONEY), pl.col(others).first())
        .select(amounts.columns)
    )


def _without_accepted_losses(differences: pl.DataFrame, losses: pl.DataFrame) -> pl.DataFrame:
    """Drop what usage of cycles with accepted losses costs: it stands as issued (rule 22)."""
    if losses.is_empty() or differences.is_empty():
        return differences
    spans = losses.select("first_day", "last_day").unique()
    touched = (
        differences.filter(pl.col("kind").is_in(_OF_USAGE))
        .select("cycle_start", "cycle_end")
        .unique()
        .join_where(spans, pl.col("cycle_start") <= pl.col("last_day"), pl.col("cycle_end") > pl.col("first_day"))
        .select("cycle_start", "cycle_end", is_touched=pl.lit(True))
        .unique()
    )
    return (
        differences.join(touched, on=["cycle_start", "cycle_end"], how="left", maintain_order="left")
        .filter(~pl.col("kind").is_in(_OF_USAGE) | pl.col("is_touched").is_null())
        .drop("is_touched")
    )


def differences_with_lines(business: Business, differences: pl.DataFrame) -> pl.DataFrame:
    """The differences with the details of their lines, as `with_settlements`."""
    months = differences.select(month_of(pl.col("billing_date")).unique().sort()).to_series().to_list()
    billed = billed_lines(business, differences)
    found = []
    for part in business.by_currency:
        own = part.rows(differences)
        of_own = (
            billed if part.whole is None else billed.join(own, on="subscription_id", how="semi", maintain_order="left")
        )
        charges, cycles = (part.scan_months(table, months) for table in (CHARGES, CYCLES))
        found.append(with_settlements(own, charges, cycles, of_own, part.terms, part.catalogue))
    return joined(found, [*_DATE, *IDENTITY])


def billed_lines(business: Business, differences: pl.DataFrame) -> pl.DataFrame:
    """As `Register.lines_of_accounts`, of the accounts and dates of the differences."""
    accounts = differences["account_id"].unique().sort().to_list()
    since, until = differences.select(pl.col("billing_date").min(), last=pl.col("billing_date").max()).row(0)
    return business.register.lines_of_accounts(accounts, since, until)


def taxes_left(business: Business, numbers: pl.Series) -> pl.DataFrame:
    """As `running_taxes`, of documents."""
    wanted = numbers.drop_nulls().unique().sort()
    pairs = business.register.given_back(wanted.to_list())
    pairs = business.register.given_back(pl.concat([wanted, pairs["by"]]).unique().sort().to_list())
    all_of_them = pl.concat([wanted, pairs["by"], pairs["number"]]).unique().sort().to_list()
    taxes = business.register.taxes_of(all_of_them)
    if len(parts := business.by_currency) == 1:
        running = running_taxes(taxes, pairs, business.catalogue)
    else:
        documents = business.register.currencies_of(all_of_them)
        found = []
        for part in parts:
            own = documents.filter(pl.col("currency") == part.catalogue.currency)
            of_part = [frame.join(own, on="number", how="semi", maintain_order="left") for frame in (taxes, pairs)]
            found.append(running_taxes(of_part[0], of_part[1], part.catalogue))
        running = pl.concat(found)
    return running.filter(pl.col("number").is_in(wanted.implode()))


def billed_subscriptions(business: Business) -> pl.DataFrame:
    """Subscriptions, and billed ones that no longer exist because a late request undid them.

    The latter are settled like subscriptions that have ended (rule 20).
    """
    lives = business.lives
    gone = (
        business.register.closed_subscriptions()
        .join(lives.subscriptions, on="subscription_id", how="anti", maintain_order="left")
        .join(lives.parked, on="account_id", how="anti", maintain_order="left")
        .select("account_id", "subscription_id", grid_start="first", last_billing_date="last")
    )
    return pl.concat([lives.subscriptions, gone], how="diagonal")


def approved_refunds(business: Business) -> pl.DataFrame:
    """request_id, subscription_id, on of the refunds approved by the as-of day."""

    def approved() -> pl.DataFrame:
        is_approved = (pl.col("kind") == DecisionKind.REFUND) & (pl.col("outcome") == Outcome.APPROVED)
        return business.lives.answers.filter(is_approved).select("request_id", "subscription_id", "on")

    return business.computed.once("approved refunds", None, approved)


def refunds_of_month(business: Business, month: str) -> pl.DataFrame:
    """As `approved_refunds`, of subscriptions whose first document belongs to the month.

    Where upgrades hold at once, also to the month before: an upgrade in the first cycle may be charged in this one.
    """
    refunds, months = approved_refunds(business), [month]
    if refunds.is_empty():
        return refunds
    if business.catalogue.policy.requested_upgrades == AT_ONCE:
        months.append(months_after(month, -1))
    first = business.lives.subscriptions.filter(month_of(pl.col("grid_start")).is_in(months))
    return refunds.join(first, on="subscription_id", how="semi").sort("request_id")


def refund_amounts(business: Business) -> pl.DataFrame:
    """subscription_id, refunded: money paid back by refunds, with tax, once their credit notes are issued."""
    refunds = approved_refunds(business)
    if refunds.is_empty():
        return pl.DataFrame(schema={"subscription_id": pl.String, "refunded": MONEY})
    documents = business.register.documents().with_columns(shown_subscription_id())
    documents = documents.join(refunds, on="subscription_id", how="semi")
    numbers = business.register.lines(numbers=documents["number"].to_list()).filter(pl.col("kind") == LineKind.REFUND)
    return money_sent_back(documents, documents.join(numbers, on="number", how="semi"), business.payments, refunds)
