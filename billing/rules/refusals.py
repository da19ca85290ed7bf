"""Who refuses a request: every reason for which one is refused, superseded or voided, in the order of the tables.

A request is answered at one of three times: when it is made (`refusal_when_asked`), when the cycle of a package
change closes (`refusal_at_close`), and when it becomes known after that close (`refused_after_close`). A cancellation,
hold or refund voids the package changes that were pending (`voided`). Reasons are texts of `DECISIONS.reason`.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final

import polars as pl

from billing.model.catalogue import Policy
from billing.model.codes import (
    COUPON_REQUESTS,
    WAITS_FOR_CLOSE,
    Channel,
    DecisionKind,
    DecisionReason,
    Outcome,
    SubscriptionStatus,
    Term,
)
from billing.rules.billing_dates import Grid

ONLY_BY_SUPPORT: Final = (
    *(DecisionKind.DOWNGRADE, DecisionKind.HOLD, DecisionKind.RESUME, DecisionKind.REFUND),
    DecisionKind.REVOKE,
)
_VOIDED_BY: Final = {
    DecisionKind.CANCEL: DecisionReason.VOIDED_BY_CANCELLATION,
    DecisionKind.HOLD: DecisionReason.VOIDED_BY_HOLD,
    DecisionKind.REFUND: DecisionReason.VOIDED_BY_REFUND,
}


def first_that_holds(rules: Sequence[tuple[pl.Expr, DecisionReason]] | Sequence[tuple[pl.Expr, Outcome]]) -> pl.Expr:
    """The text of the first condition that holds; null where none does."""
    return pl.coalesce(pl.when(condition.fill_null(value=False)).then(pl.lit(text)) for condition, text in rules)


@cache
def refusal_when_asked(policy: Policy) -> pl.Expr:
    """Why a request is refused on the day it is made; null where it is not (rules 11 to 18).

    Of a frame with the columns of requests, those of the account's latest subscription, and billing_date,
    second_billing_date, first_date, paid_fee_date, in_trial, blocks_new, is_active, is_held, known_package, is_hidden,
    terms_key, is_sold, sells_yearly, term_held.
    """
    day, start, kind = pl.col("on"), pl.col("grid_start"), pl.col("kind")
    exists = pl.col("started_on").is_not_null()
    yearly_asked = pl.col("term") == Term.YEARLY
    rules: list[tuple[DecisionKind, pl.Expr, DecisionReason]] = [
        (DecisionKind.SUBSCRIBE, pl.col("blocks_new"), DecisionReason.ALREADY_SUBSCRIBED),
        (DecisionKind.SUBSCRIBE, ~pl.col("known_package"), DecisionReason.UNKNOWN_PACKAGE),
        (DecisionKind.SUBSCRIBE, pl.col("is_hidden"), DecisionReason.PACKAGE_HIDDEN),
        (DecisionKind.SUBSCRIBE, pl.col("terms_key").is_null(), DecisionReason.PACKAGE_NOT_SOLD_YET),
        (DecisionKind.SUBSCRIBE, ~pl.col("is_sold"), DecisionReason.NOT_SOLD_IN_CURRENCY),
        (
            DecisionKind.SUBSCRIBE,
            (day < policy.billing_start) & (pl.col("billed_through") < policy.billing_start).fill_null(value=True),
            DecisionReason.BEFORE_BILLING_START,
        ),
        (
            DecisionKind.SUBSCRIBE,
            yearly_asked & pl.lit(Grid.of(policy).first_of_month),
            DecisionReason.YEARLY_NOT_OFFERED,
        ),
        (DecisionKind.SUBSCRIBE, yearly_asked & ~pl.col("sells_yearly"), DecisionReason.NO_YEARLY_PRICE),
        (DecisionKind.CANCEL, pl.col("channel") != Channel.EMAIL, DecisionReason.WRONG_CHANNEL),
        *((name, pl.col("channel") != Channel.SUPPORT, DecisionReason.WRONG_CHANNEL) for name in ONLY_BY_SUPPORT),
        (DecisionKind.CANCEL, pl.col("end").is_not_null(), DecisionReason.ALREADY_ENDED),
        (DecisionKind.HOLD, pl.col("is_held"), DecisionReason.ALREADY_HELD),
        (DecisionKind.RESUME, ~pl.col("is_held"), DecisionReason.NOT_HELD),
        # Rule 14: once, of a monthly subscription, in its first cycle and within the days of the window
        (DecisionKind.REFUND, ~exists, DecisionReason.NO_SUBSCRIPTION),
        (DecisionKind.REFUND, pl.col("end") == SubscriptionStatus.REFUNDED, DecisionReason.ALREADY_REFUNDED),
        (
            # rule 38: what another system billed is given back there
            DecisionKind.REFUND,
            ~pl.col("in_trial") & (pl.col("paid_fee_date") < pl.col("first_date")),
            DecisionReason.BILLED_ELSEWHERE,
        ),
        (DecisionKind.REFUND, pl.col("term_held") == Term.YEARLY, DecisionReason.YEARLY_TERM),
        (DecisionKind.REFUND, pl.col("in_trial") | (pl.col("fees_until") <= start), DecisionReason.NOTHING_PAID),
        (DecisionKind.REFUND, ~pl.col("is_refundable"), DecisionReason.NO_REFUND_WINDOW),
        (DecisionKind.REFUND, day >= pl.col("second_billing_date"), DecisionReason.NOT_FIRST_CYCLE),
        (
            DecisionKind.REFUND,
            (day - start).dt.total_days() > policy.refund_window_days,
            DecisionReason.REFUND_WINDOW_OVER,
        ),
        *(
            (name, ~pl.col("is_active"), DecisionReason.NO_LIVE_SUBSCRIPTION)
            for name in (DecisionKind.CANCEL, DecisionKind.HOLD, *WAITS_FOR_CLOSE, *COUPON_REQUESTS)
        ),
        # rule 38: the package at the move is the one in force on the first billing date here
        *((name, day < pl.col("first_date"), DecisionReason.BEFORE_MOVE) for name in WAITS_FOR_CLOSE),
        *((name, pl.col("is_held"), DecisionReason.ON_HOLD) for name in WAITS_FOR_CLOSE),
        (
            DecisionKind.CHANGE_CARD,
            ~_brand().is_in(policy.accepted_cards).fill_null(value=False),
            DecisionReason.CARD_BRAND_NOT_ACCEPTED,
        ),
        (DecisionKind.CHANGE_CARD, pl.col("last4").is_null(), DecisionReason.CARD_DIGITS_MISSING),
        (DecisionKind.TRANSFER, pl.lit(True), DecisionReason.OWNERSHIP_TRANSFER_NOT_OFFERED),
        (DecisionKind.SPLIT_PAYMENT, pl.lit(True), DecisionReason.SPLIT_PAYMENT_NOT_OFFERED),
    ]
    return first_that_holds([((kind == name) & condition, reason) for name, condition, reason in rules])


def refusal_at_close() -> pl.Expr:
    """Why a package change is refused when its cycle closes; null where it is not (rules 8 to 10 and 18).

    Of a frame with kind, term, terms_key, monthly, yearly, rank and current_rank of the packages, is_hidden, upgraded
    and fits.
    """
    upgrade, downgrade = pl.col("kind") == DecisionKind.UPGRADE, pl.col("kind") == DecisionKind.DOWNGRADE
    return first_that_holds(
        [
            (pl.col("rank").is_null(), DecisionReason.UNKNOWN_PACKAGE),
            (pl.col("is_hidden"), DecisionReason.PACKAGE_HIDDEN),
            (pl.col("terms_key").is_null(), DecisionReason.PACKAGE_NOT_SOLD_YET),
            (pl.col("monthly").is_null(), DecisionReason.NOT_SOLD_IN_CURRENCY),
            ((pl.col("term") == Term.YEARLY) & pl.col("yearly").is_null(), DecisionReason.NO_YEARLY_PRICE),
            (upgrade & (pl.col("rank") <= pl.col("current_rank")), DecisionReason.NOT_AN_UPGRADE),
            (downgrade & (pl.col("rank") >= pl.col("current_rank")), DecisionReason.NOT_A_DOWNGRADE),
            # an automatic upgrade in the same cycle refuses a downgrade
            (downgrade & pl.col("upgraded"), DecisionReason.AUTOMATIC_UPGRADE),
            (downgrade & ~pl.col("fits"), DecisionReason.USAGE_EXCEEDS_PACKAGE),
        ]
    )


def is_at_once() -> pl.Expr:
    """Whether an answer is of an upgrade that holds from its day: of `Lives.answers` (rule 37)."""
    return (pl.col("kind") == DecisionKind.UPGRADE) & (pl.col("effective_on") == pl.col("on"))


def refused_after_close(answers: pl.DataFrame, closed: pl.DataFrame, decided: pl.Series) -> pl.DataFrame:
    """The package changes that became known when the billing date they were meant for had been closed (rule 9).

    Parameters
    ----------
    answers
        As `Lives.answers`.
    closed
        subscription_id, billing_date: the billing dates that have been closed.
    decided
        request_id of what was decided at closed dates.

    Returns
    -------
    polars.DataFrame
        As `answers`: those rows, refused.
    """
    # An upgrade at once holds from its day, or, known late, from the next open date.
    pending = answers.filter((pl.col("outcome") == Outcome.PENDING) & ~is_at_once())
    late = pending.join(
        closed.select("subscription_id", effective_on="billing_date"),
        on=["subscription_id", "effective_on"],
        how="semi",
        maintain_order="left",
    )
    return late.filter(~pl.col("request_id").is_in(decided.implode())).with_columns(
        outcome=pl.lit(Outcome.REFUSED),
        reason=pl.lit(DecisionReason.KNOWN_AFTER_THE_CLOSE),
        effective_on=pl.lit(None, pl.Date),
    )


def voided(answers: pl.DataFrame) -> pl.DataFrame:
    """`answers`, with pending package changes superseded that a cancellation, hold or refund voids (rules 12 to 14)."""
    stops = (
        answers.filter((pl.col("outcome") == Outcome.APPROVED) & pl.col("kind").is_in(list(_VOIDED_BY)))
        .sort("at", "request_id")
        .select("subscription_id", stopped_at="at", stopped_on="on", stopped_by="kind")
    )
    followed = answers.sort("at").join_asof(
        stops, left_on="at", right_on="stopped_at", by="subscription_id", strategy="forward", check_sortedness=False
    )
    void = (pl.col("outcome") == Outcome.PENDING) & (pl.col("stopped_on") < pl.col("effective_on")).fill_null(
        value=False
    )
    return followed.with_columns(
        outcome=pl.when(void).then(pl.lit(Outcome.SUPERSEDED)).otherwise("outcome"),
        reason=pl.when(void)
        .then(pl.col("stopped_by").replace_strict(_VOIDED_BY, return_dtype=pl.String))
        .otherwise("reason"),
        effective_on=pl.when(~void).then("effective_on"),
    ).select(answers.columns)


def without_decided_voids(answers: pl.DataFrame, decided: pl.Series) -> pl.DataFrame:
    """Drop voids of package changes that are decided: a void after the close has no effect (rule 9)."""
    is_void = pl.col("outcome") == Outcome.SUPERSEDED
    return answers.filter(~(is_void & pl.col("request_id").is_in(decided.implode())))


def _brand() -> pl.Expr:
    """Normalize the spelling of a card brand to the catalogue's (rule 11)."""
    letters = pl.col("brand").str.to_lowercase().str.replace_all("[^a-z]", "")
    return letters.replace(
        {"americanexpress": "amex", "mc": "mastercard", "discovercard": "discover", "visacard": "visa"}
    )
