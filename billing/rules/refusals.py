"""Who refuses a request: every reason for which one is refused, superseded or voided, in the order of the tables.

A request is answered in three places of time: when it is made (`refusal_when_asked`), when the cycle of a package
change closes (`refusal_at_close`), and when it becomes known after that close (`refused_after_close`). A cancellation,
hold or refund voids the package changes that were pending (`voided`). Reasons are texts of `DECISIONS.reason`.
"""

from collections.abc import Sequence
from typing import Final

import polars as pl

from billing.model.catalogue import Policy
from billing.rules.billing_dates import Grid

ONLY_BY_SUPPORT: Final = ("downgrade", "hold", "resume", "refund")
_VOIDED_BY: Final = {"cancel": "voided_by_cancellation", "hold": "voided_by_hold", "refund": "voided_by_refund"}


def first_that_holds(rules: Sequence[tuple[pl.Expr, str]]) -> pl.Expr:
    """The text of the first condition that holds; null where none does."""
    return pl.coalesce(pl.when(condition.fill_null(False)).then(pl.lit(text)) for condition, text in rules)


def refusal_when_asked(policy: Policy) -> pl.Expr:
    """Why a request is refused on the day it is made; null where it is not (rules 11 to 18).

    Of a frame with the columns of requests, those of the account's latest subscription, and billing_date,
    second_billing_date, in_trial, blocks_new, is_active, is_held, known_package, terms_key, sells_yearly, term_held.
    """
    day, start, kind = pl.col("on"), pl.col("grid_start"), pl.col("kind")
    exists = pl.col("started_on").is_not_null()
    yearly_asked = pl.col("term") == "yearly"
    rules: list[tuple[str, pl.Expr, str]] = [
        ("subscribe", pl.col("blocks_new"), "already_subscribed"),
        ("subscribe", ~pl.col("known_package"), "unknown_package"),
        ("subscribe", pl.col("terms_key").is_null(), "package_not_sold_yet"),
        ("subscribe", day < policy.billing_start, "before_billing_start"),
        ("subscribe", yearly_asked & pl.lit(Grid.of(policy).first_of_month), "yearly_not_offered"),
        ("subscribe", yearly_asked & ~pl.col("sells_yearly"), "no_yearly_price"),
        ("cancel", pl.col("channel") != "email", "wrong_channel"),
        *((name, pl.col("channel") != "support", "wrong_channel") for name in ONLY_BY_SUPPORT),
        ("cancel", pl.col("end").is_not_null(), "already_ended"),
        ("hold", pl.col("is_held"), "already_held"),
        ("resume", ~pl.col("is_held"), "not_held"),
        # Rule 14: once, of a monthly subscription, in its first cycle and within the days of the window
        ("refund", ~exists, "no_subscription"),
        ("refund", pl.col("end") == "refunded", "already_refunded"),
        ("refund", pl.col("term_held") == "yearly", "yearly_term"),
        ("refund", pl.col("in_trial") | (pl.col("fees_until") <= start), "nothing_paid"),
        ("refund", ~pl.col("is_refundable"), "no_refund_window"),
        ("refund", day >= pl.col("second_billing_date"), "not_first_cycle"),
        ("refund", (day - start).dt.total_days() > policy.refund_window_days, "refund_window_over"),
        *((name, ~pl.col("is_active"), "no_live_subscription") for name in ("cancel", "hold", "upgrade", "downgrade")),
        *((name, pl.col("is_held"), "on_hold") for name in ("upgrade", "downgrade")),
        ("change_card", ~_brand().is_in(policy.accepted_cards).fill_null(False), "card_brand_not_accepted"),
        ("change_card", pl.col("last4").is_null(), "card_digits_missing"),
        ("transfer", pl.lit(True), "ownership_transfer_not_offered"),
        ("split_payment", pl.lit(True), "split_payment_not_offered"),
    ]
    return first_that_holds([((kind == name) & condition, reason) for name, condition, reason in rules])


def refusal_at_close() -> pl.Expr:
    """Why a package change is refused when its cycle closes; null where it is not (rules 8 to 10 and 18).

    Of a frame with kind, term, terms_key, yearly, rank and current_rank of the packages, upgraded and fits.
    """
    upgrade, downgrade = pl.col("kind") == "upgrade", pl.col("kind") == "downgrade"
    return first_that_holds(
        [
            (pl.col("rank").is_null(), "unknown_package"),
            (pl.col("terms_key").is_null(), "package_not_sold_yet"),
            ((pl.col("term") == "yearly") & pl.col("yearly").is_null(), "no_yearly_price"),
            (upgrade & (pl.col("rank") <= pl.col("current_rank")), "not_an_upgrade"),
            (downgrade & (pl.col("rank") >= pl.col("current_rank")), "not_a_downgrade"),
            # an automatic upgrade in the same cycle refuses a downgrade
            (downgrade & pl.col("upgraded"), "automatic_upgrade"),
            (downgrade & ~pl.col("fits"), "usage_exceeds_package"),
        ]
    )


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
    pending = answers.filter(pl.col("outcome") == "pending")
    late = pending.join(
        closed.select("subscription_id", effective_on="billing_date"),
        on=["subscription_id", "effective_on"],
        how="semi",
        maintain_order="left",
    )
    return late.filter(~pl.col("request_id").is_in(decided.implode())).with_columns(
        outcome=pl.lit("refused"), reason=pl.lit("known_after_the_close"), effective_on=pl.lit(None, pl.Date)
    )


def voided(answers: pl.DataFrame) -> pl.DataFrame:
    """`answers`, with pending package changes superseded that a cancellation, hold or refund voids (rules 12 to 14)."""
    stops = (
        answers.filter((pl.col("outcome") == "approved") & pl.col("kind").is_in(list(_VOIDED_BY)))
        .sort("at", "request_id")
        .select("subscription_id", stopped_at="at", stopped_on="on", stopped_by="kind")
    )
    found = answers.sort("at").join_asof(
        stops, left_on="at", right_on="stopped_at", by="subscription_id", strategy="forward", check_sortedness=False
    )
    void = (pl.col("outcome") == "pending") & (pl.col("stopped_on") < pl.col("effective_on")).fill_null(False)
    return found.with_columns(
        outcome=pl.when(void).then(pl.lit("superseded")).otherwise("outcome"),
        reason=pl.when(void)
        .then(pl.col("stopped_by").replace_strict(_VOIDED_BY, return_dtype=pl.String))
        .otherwise("reason"),
        effective_on=pl.when(~void).then("effective_on"),
    ).select(answers.columns)


def without_decided_voids(answers: pl.DataFrame, decided: pl.Series) -> pl.DataFrame:
    """`answers` without voids of changes that were decided: one learnt after the close voids nothing (rule 9)."""
    is_void = pl.col("outcome") == "superseded"
    return answers.filter(~(is_void & pl.col("request_id").is_in(decided.implode())))


def _brand() -> pl.Expr:
    """A card brand in the catalogue's spelling, however it was spelt (rule 11)."""
    letters = pl.col("brand").str.to_lowercase().str.replace_all("[^a-z]", "")
    return letters.replace(
        {"americanexpress": "amex", "mc": "mastercard", "discovercard": "discover", "visacard": "visa"}
    )
