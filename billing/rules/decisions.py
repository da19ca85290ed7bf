"""Decisions: the one answer to every request, and the automatic upgrades, in words a customer understands (rule 17)."""

from typing import Final

import polars as pl

from billing.model.catalogue import Catalogue
from billing.model.columns import MEASUREMENT
from billing.model.tables import DECISIONS
from billing.rules.package_changes import VOIDS_WAITING

_VOIDED: Final = " The smaller package that waited for the end of the term is void."

# {from}, {to} and {effective} are filled in; a reason not listed for its kind is looked up under "*"
_SENTENCES: Final[dict[tuple[str, str], str]] = {
    ("auto_upgrade", "usage_over_allowance"): (
        "Your usage in the last cycle was over the allowance of {from}, so your package is {to} from {effective}."
    ),
    ("auto_upgrade", "no_larger_package"): (
        "Your usage in the last cycle was over the allowance of {from}. There is no larger package, so you stay on it."
    ),
    ("auto_upgrade", "satisfied_by_higher"): (
        "Your usage asked for {to}, and the change that you requested covers that."
    ),
    ("*", "requested"): "As you asked, your package is {to} from {effective}.",
    ("*", "usage_fits"): "Your usage fits {to}, so as you asked it is your package from {effective}.",
    (
        "*",
        "superseded_by_later_request",
    ): "You asked for another change later in the same cycle, and the latest one counts.",
    ("*", "satisfied_by_higher"): "Your usage moved you to a package at least as large as {to} in the same cycle.",
    ("*", "unknown_package"): "There is no package called {to}.",
    ("*", "package_not_sold_yet"): "{to} is not sold on that date.",
    ("*", "no_yearly_price"): "{to} has no yearly price.",
    ("*", "yearly_not_offered"): "Yearly terms are not offered.",
    ("*", "before_billing_start"): "That date is before the first month that is billed.",
    ("*", "not_an_upgrade"): "{to} is not larger than {from}, so this is no upgrade.",
    ("*", "not_a_downgrade"): "{to} is not smaller than {from}, so this is no downgrade.",
    ("*", "automatic_upgrade"): "Your usage outgrew {from} in the same cycle, so it does not fit {to}.",
    ("*", "usage_exceeds_package"): "Your usage does not fit {to}: what stands in the way is listed with its limit.",
    ("*", "voided_by_cancellation"): "The subscription was cancelled before the change took effect.",
    ("*", "voided_by_hold"): "The subscription was put on hold before the change took effect.",
    ("*", "voided_by_refund"): "The subscription was refunded before the change took effect.",
    ("withdraw", "taken_back"): "The request that you named is taken back, as if it had never been made.",
    ("*", "withdrawn"): "This request was taken back.",
    ("*", "unknown_request"): "You have no request of that id.",
    ("*", "already_withdrawn"): "That request was taken back already.",
    ("*", "subscribed"): "Your subscription to {to} starts on {effective}.",
    ("*", "already_subscribed"): "You already have a subscription.",
    ("*", "no_live_subscription"): "There is no live subscription.",
    ("*", "no_subscription"): "There is no subscription.",
    ("*", "already_ended"): "The subscription has ended already.",
    ("*", "on_hold"): "The subscription is on hold: resume it first.",
    ("*", "already_held"): "The subscription is on hold already.",
    ("*", "not_held"): "The subscription is not on hold.",
    ("cancel", "wrong_channel"): "A cancellation has to be sent by e-mail.",
    ("*", "wrong_channel"): "This has to be asked for through support.",
    ("cancel", "in_time"): "Cancelled in time: no further package fee falls due.",
    ("cancel", "late_notice"): "Cancelled with less than the notice asked for: one more package fee falls due.",
    ("cancel", "cancelled_in_trial"): "Cancelled in the trial: nothing is charged.",
    ("hold", "in_time"): "On hold in time: no package fee falls due while it lasts.",
    ("hold", "late_notice"): "On hold with less than the notice asked for: one more package fee falls due.",
    ("*", "hold_undone"): "Resumed within the paid cycle: the subscription goes on as before.",
    (
        "*",
        "new_subscription",
    ): "Resumed after the paid cycle: a new subscription to the same package starts on {effective}.",
    ("*", "within_refund_window"): "The package fee is paid back with its tax; overages stay due.",
    ("*", "known_after_the_close"): (
        "The request became known after the billing date it was meant for had been closed: please ask again."
    ),
    ("*", "already_refunded"): "This subscription was refunded already.",
    ("*", "yearly_term"): "A yearly term is not refunded.",
    ("*", "nothing_paid"): "No package fee was charged yet.",
    ("*", "no_refund_window"): "A resumed subscription has no new refund window.",
    ("*", "not_first_cycle"): "The first cycle is over.",
    ("*", "refund_window_over"): "The refund window is over.",
    ("*", "card_changed"): "The card was changed.",
    ("*", "card_brand_not_accepted"): "This brand of card is not accepted.",
    ("*", "card_digits_missing"): "The last four digits of the card are missing.",
    ("*", "ownership_transfer_not_offered"): "An account cannot be transferred to another owner.",
    ("*", "split_payment_not_offered"): "A document is paid by one card: payments cannot be split.",
}


def month_decisions(
    month: str,
    package_decisions: pl.DataFrame,
    answers: pl.DataFrame,
    refunded: pl.DataFrame,
    first_month: str,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """Everything decided in a month: package changes at their billing date, other answers on their day.

    Rule 17: every request gets exactly one answer, and a package change none before its cycle closes.

    Parameters
    ----------
    package_decisions
        As `PackageMonth.decisions`, those of closed dates included.
    answers
        As `Lives.answers`; the pending ones have no answer yet.
    refunded
        subscription_id, refunded: what the credit notes of refunds pay back, with tax.
    first_month
        The first month that is billed: requests made before it are answered there.

    Returns
    -------
    polars.DataFrame
        As the table DECISIONS.
    """
    asked_in = pl.col("on").dt.to_string("%Y-%m")
    others = (
        answers.filter((pl.col("outcome") != "pending") & (pl.max_horizontal(asked_in, pl.lit(first_month)) == month))
        .join(package_decisions.select("request_id").drop_nulls(), on="request_id", how="anti")
        .join(refunded, on="subscription_id", how="left", maintain_order="left")
        .with_columns(is_refund=(pl.col("kind") == "refund") & (pl.col("outcome") == "approved"))
        .select(
            decision_id="request_id",
            billing_month=pl.lit(month),
            request_id="request_id",
            account_id="account_id",
            subscription_id="subscription_id",
            kind="kind",
            outcome="outcome",
            reason="reason",
            explanation=pl.lit(None, pl.String),
            from_package=pl.lit(None, pl.String),
            to_package="package",
            decided_on="on",
            effective_on="effective_on",
            evidence=pl.lit([], MEASUREMENT),
            flags=pl.lit([], pl.List(pl.String)),
            amount=pl.when("is_refund").then("refunded"),
            # refunded money arrives 5 to 10 business days after the approval (rule 14)
            expected_from=pl.when("is_refund").then(pl.col("on").dt.add_business_days(5, roll="backward")),
            expected_by=pl.when("is_refund").then(pl.col("on").dt.add_business_days(10, roll="backward")),
        )
    )
    decisions = pl.concat([DECISIONS.fit(package_decisions), DECISIONS.fit(others)])
    return DECISIONS.conform(explained(decisions, catalogue))


def explained(decisions: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """`decisions` with `explanation`: the reason in words (rule 17)."""
    titles = {package.name: package.title for package in catalogue.packages}
    reasons = pl.DataFrame(
        [(kind, reason, text) for (kind, reason), text in _SENTENCES.items()],
        schema=["_kind", "_reason", "_sentence"],
        orient="row",
    )
    own = reasons.filter(pl.col("_kind") != "*")
    general = reasons.filter(pl.col("_kind") == "*").drop("_kind").rename({"_sentence": "_general"})

    def title(column: str) -> pl.Expr:
        return pl.col(column).replace(titles).fill_null("the package")

    found = decisions.join(
        own, left_on=["kind", "reason"], right_on=["_kind", "_reason"], how="left", maintain_order="left"
    ).join(general, left_on="reason", right_on="_reason", how="left", maintain_order="left")
    voids = pl.when(pl.col("flags").list.contains(VOIDS_WAITING)).then(pl.lit(_VOIDED)).otherwise(pl.lit(""))
    day = pl.col("effective_on").fill_null(pl.col("decided_on")).dt.to_string("%Y-%m-%d")
    return found.with_columns(
        explanation=pl.coalesce("_sentence", "_general")
        .str.replace("{from}", title("from_package"), literal=True)
        .str.replace("{to}", title("to_package"), literal=True)
        .str.replace("{effective}", day, literal=True)
        + voids
    ).drop("_sentence", "_general")
