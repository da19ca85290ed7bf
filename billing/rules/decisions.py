"""Decisions: the one answer to every request, and the automatic upgrades, in words a customer understands (rule 17)."""

from typing import Final, Literal

import polars as pl

from billing.model.catalogue import Catalogue
from billing.model.codes import DecisionFlag, DecisionKind, DecisionReason, Outcome
from billing.model.columns import MEASUREMENT
from billing.model.empty_frames import skip_if_empty
from billing.model.tables import DECISIONS

_VOIDED: Final = " The smaller package that waited for the end of the term is void."

# Placeholders: {from}, {to}, {coupon}, {add_on}, {quantity}, {effective}. "*" is the fallback for any kind.
_SENTENCES: Final[dict[tuple[DecisionKind | Literal["*"], DecisionReason], str]] = {
    (DecisionKind.AUTO_UPGRADE, DecisionReason.USAGE_OVER_ALLOWANCE): (
        "Your usage in the last cycle was over the allowance of {from}, so your package is {to} from {effective}."
    ),
    (DecisionKind.AUTO_UPGRADE, DecisionReason.NO_LARGER_PACKAGE): (
        "Your usage in the last cycle was over the allowance of {from}. There is no larger package, so you stay on it."
    ),
    (DecisionKind.AUTO_UPGRADE, DecisionReason.SATISFIED_BY_HIGHER): (
        "Your usage asked for {to}, and the change that you requested covers that."
    ),
    ("*", DecisionReason.REQUESTED): "As you asked, your package is {to} from {effective}.",
    ("*", DecisionReason.USAGE_FITS): "Your usage fits {to}, so as you asked it is your package from {effective}.",
    (
        "*",
        DecisionReason.SUPERSEDED_BY_LATER_REQUEST,
    ): "You asked for another change later in the same cycle, and the latest one counts.",
    (
        "*",
        DecisionReason.SATISFIED_BY_HIGHER,
    ): "Your usage moved you to a package at least as large as {to} in the same cycle.",
    ("*", DecisionReason.UNKNOWN_PACKAGE): "There is no package called {to}.",
    ("*", DecisionReason.PACKAGE_NOT_SOLD_YET): "{to} is not sold on that date.",
    ("*", DecisionReason.NOT_SOLD_IN_CURRENCY): "{to} is not sold in the currency of your account.",
    ("*", DecisionReason.PACKAGE_HIDDEN): "{to} is not offered any more.",
    ("*", DecisionReason.NO_YEARLY_PRICE): "{to} has no yearly price.",
    ("*", DecisionReason.YEARLY_NOT_OFFERED): "Yearly terms are not offered.",
    ("*", DecisionReason.BEFORE_BILLING_START): "That date is before the first month that is billed.",
    ("*", DecisionReason.BEFORE_MOVE): "The request was made before the subscription was billed here.",
    ("*", DecisionReason.BILLED_ELSEWHERE): "The package fee was billed by another system, which gives it back.",
    ("*", DecisionReason.NOT_AN_UPGRADE): "{to} is not larger than {from}, so this is no upgrade.",
    ("*", DecisionReason.NOT_A_DOWNGRADE): "{to} is not smaller than {from}, so this is no downgrade.",
    ("*", DecisionReason.AUTOMATIC_UPGRADE): "Your usage outgrew {from} in the same cycle, so it does not fit {to}.",
    (
        "*",
        DecisionReason.USAGE_EXCEEDS_PACKAGE,
    ): "Your usage does not fit {to}: what stands in the way is listed with its limit.",
    ("*", DecisionReason.VOIDED_BY_CANCELLATION): "The subscription was cancelled before the change took effect.",
    ("*", DecisionReason.VOIDED_BY_HOLD): "The subscription was put on hold before the change took effect.",
    ("*", DecisionReason.VOIDED_BY_REFUND): "The subscription was refunded before the change took effect.",
    (
        DecisionKind.WITHDRAW,
        DecisionReason.TAKEN_BACK,
    ): "The request that you named is taken back, as if it had never been made.",
    ("*", DecisionReason.WITHDRAWN): "This request was taken back.",
    ("*", DecisionReason.UNKNOWN_REQUEST): "You have no request of that id.",
    ("*", DecisionReason.ALREADY_WITHDRAWN): "That request was taken back already.",
    ("*", DecisionReason.SUBSCRIBED): "Your subscription to {to} starts on {effective}.",
    ("*", DecisionReason.ALREADY_SUBSCRIBED): "You already have a subscription.",
    ("*", DecisionReason.NO_LIVE_SUBSCRIPTION): "There is no live subscription.",
    ("*", DecisionReason.NO_SUBSCRIPTION): "There is no subscription.",
    ("*", DecisionReason.ALREADY_ENDED): "The subscription has ended already.",
    ("*", DecisionReason.ON_HOLD): "The subscription is on hold: resume it first.",
    ("*", DecisionReason.ALREADY_HELD): "The subscription is on hold already.",
    ("*", DecisionReason.NOT_HELD): "The subscription is not on hold.",
    (DecisionKind.CANCEL, DecisionReason.WRONG_CHANNEL): "A cancellation has to be sent by e-mail.",
    ("*", DecisionReason.WRONG_CHANNEL): "This has to be asked for through support.",
    (DecisionKind.CANCEL, DecisionReason.IN_TIME): "Cancelled in time: no further package fee falls due.",
    (
        DecisionKind.CANCEL,
        DecisionReason.LATE_NOTICE,
    ): "Cancelled with less than the notice asked for: one more package fee falls due.",
    (DecisionKind.CANCEL, DecisionReason.CANCELLED_IN_TRIAL): "Cancelled in the trial: nothing is charged.",
    (DecisionKind.HOLD, DecisionReason.IN_TIME): "On hold in time: no package fee falls due while it lasts.",
    (
        DecisionKind.HOLD,
        DecisionReason.LATE_NOTICE,
    ): "On hold with less than the notice asked for: one more package fee falls due.",
    ("*", DecisionReason.HOLD_UNDONE): "Resumed within the paid cycle: the subscription goes on as before.",
    (
        "*",
        DecisionReason.NEW_SUBSCRIPTION,
    ): "Resumed after the paid cycle: a new subscription to the same package starts on {effective}.",
    ("*", DecisionReason.WITHIN_REFUND_WINDOW): "The package fee is paid back with its tax; overages stay due.",
    ("*", DecisionReason.KNOWN_AFTER_THE_CLOSE): (
        "The request became known after the billing date it was meant for had been closed: please ask again."
    ),
    ("*", DecisionReason.ALREADY_REFUNDED): "This subscription was refunded already.",
    ("*", DecisionReason.YEARLY_TERM): "A yearly term is not refunded.",
    ("*", DecisionReason.NOTHING_PAID): "No package fee was charged yet.",
    ("*", DecisionReason.NO_REFUND_WINDOW): "A resumed subscription has no new refund window.",
    ("*", DecisionReason.NOT_FIRST_CYCLE): "The first cycle is over.",
    ("*", DecisionReason.REFUND_WINDOW_OVER): "The refund window is over.",
    (DecisionKind.ADD, DecisionReason.REQUESTED): "As you asked, you have {quantity} of {add_on} from {effective}.",
    (DecisionKind.REMOVE, DecisionReason.REQUESTED): "As you asked, {add_on} ends on {effective}.",
    (DecisionKind.ADD, DecisionReason.NO_YEARLY_PRICE): "{add_on} has no yearly price.",
    (
        DecisionKind.REMOVE,
        DecisionReason.NOT_ALLOWED_BY_PACKAGE,
    ): "{to} does not allow {add_on}: it ends on {effective}.",
    ("*", DecisionReason.NOT_ALLOWED_BY_PACKAGE): "{to} does not allow {add_on}.",
    ("*", DecisionReason.UNKNOWN_ADD_ON): "There is no add-on called {add_on}.",
    ("*", DecisionReason.ADD_ON_NOT_SOLD_YET): "{add_on} is not sold on that date.",
    ("*", DecisionReason.ABOVE_MAXIMUM): "{quantity} of {add_on} are more than there may be.",
    ("*", DecisionReason.NOT_ADDED): "You have no {add_on} that could be removed.",
    ("*", DecisionReason.REDEEMED): "The coupon {coupon} lowers your documents from {effective} on.",
    ("*", DecisionReason.REVOKED): "The coupon {coupon} lowers no document from {effective} on.",
    ("*", DecisionReason.UNKNOWN_COUPON): "There is no coupon called {coupon}.",
    ("*", DecisionReason.COUPON_EXPIRED): "The coupon {coupon} could be redeemed up to an earlier day.",
    ("*", DecisionReason.ALREADY_REDEEMED): "You have redeemed the coupon {coupon} already.",
    ("*", DecisionReason.NOT_FOR_THIS_PACKAGE): "The coupon {coupon} is not for your package.",
    ("*", DecisionReason.COUPON_EXHAUSTED): "The coupon {coupon} has been redeemed as often as it may be.",
    ("*", DecisionReason.NOT_REDEEMED): "You have no coupon {coupon} that could be revoked.",
    ("*", DecisionReason.CARD_CHANGED): "The card was changed.",
    ("*", DecisionReason.CARD_BRAND_NOT_ACCEPTED): "This brand of card is not accepted.",
    ("*", DecisionReason.CARD_DIGITS_MISSING): "The last four digits of the card are missing.",
    ("*", DecisionReason.OWNERSHIP_TRANSFER_NOT_OFFERED): "An account cannot be transferred to another owner.",
    ("*", DecisionReason.SPLIT_PAYMENT_NOT_OFFERED): "A document is paid by one card: payments cannot be split.",
}


def month_decisions(
    month: str,
    package_decisions: pl.DataFrame,
    answers: pl.DataFrame,
    refunded: pl.DataFrame,
    first_month: str,
    catalogue: Catalogue,
    offer_answers: pl.DataFrame,
) -> pl.DataFrame:
    """The decisions of a month: package changes at their billing date, other answers on their day.

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
    offer_answers
        As `Redemptions.answers` and `late_add_on_answers`: they take the place of those in `answers`.

    Returns
    -------
    polars.DataFrame
        As the table DECISIONS.
    """
    asked_in = pl.col("on").dt.to_string("%Y-%m")
    is_given = (pl.col("outcome") != Outcome.PENDING) & (pl.max_horizontal(asked_in, pl.lit(first_month)) == month)
    offers = offer_answers.filter(is_given)
    answered = answers.filter(is_given).with_columns(decision_id="request_id")
    answered = answered.join(offers, on="decision_id", how="anti", maintain_order="left")
    given = pl.concat([answered, offers, DECISIONS.empty().select("coupon", "add_on", "quantity")], how="diagonal")
    others = _as_decisions(given, package_decisions, refunded, month)
    decisions = pl.concat([DECISIONS.fit(package_decisions), DECISIONS.fit(others)])
    return DECISIONS.conform(explained(decisions, catalogue))


@skip_if_empty("answers")
def _as_decisions(
    answers: pl.DataFrame, package_decisions: pl.DataFrame, refunded: pl.DataFrame, month: str
) -> pl.DataFrame:
    """The answers that are no `package_decisions`, with the columns of DECISIONS."""
    return (
        answers.join(package_decisions.select("request_id").drop_nulls(), on="request_id", how="anti")
        .join(refunded, on="subscription_id", how="left", maintain_order="left")
        .with_columns(is_refund=(pl.col("kind") == DecisionKind.REFUND) & (pl.col("outcome") == Outcome.APPROVED))
        .select(
            decision_id="decision_id",
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
            # Refunds arrive 5 to 10 business days after approval (rule 14).
            expected_from=pl.when("is_refund").then(pl.col("on").dt.add_business_days(5, roll="backward")),
            expected_by=pl.when("is_refund").then(pl.col("on").dt.add_business_days(10, roll="backward")),
            coupon="coupon",
            add_on="add_on",
            quantity="quantity",
        )
    )


@skip_if_empty("decisions")
def explained(decisions: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """`decisions` with `explanation`: the reason in words (rule 17)."""
    titles = {package.name: package.title for package in catalogue.packages}
    coupons = {coupon.name: coupon.title for coupon in catalogue.coupons}
    add_ons = {add_on.name: add_on.title for add_on in catalogue.add_ons}
    reasons = pl.DataFrame(
        [(kind, reason, text) for (kind, reason), text in _SENTENCES.items()],
        schema={"_kind": pl.String, "_reason": pl.String, "_sentence": pl.String},
        orient="row",
    )
    own = reasons.filter(pl.col("_kind") != "*")
    general = reasons.filter(pl.col("_kind") == "*").drop("_kind").rename({"_sentence": "_general"})

    def title(column: str) -> pl.Expr:
        return pl.col(column).replace(titles).fill_null("the package")

    worded = decisions.join(
        own, left_on=["kind", "reason"], right_on=["_kind", "_reason"], how="left", maintain_order="left"
    ).join(general, left_on="reason", right_on="_reason", how="left", maintain_order="left")
    voids = (
        pl.when(pl.col("flags").list.contains(DecisionFlag.VOIDS_WAITING_DOWNGRADE))
        .then(pl.lit(_VOIDED))
        .otherwise(pl.lit(""))
    )
    day = pl.col("effective_on").fill_null(pl.col("decided_on")).dt.to_string("%Y-%m-%d")
    return worded.with_columns(
        explanation=pl.coalesce("_sentence", "_general")
        .str.replace("{from}", title("from_package"), literal=True)
        .str.replace("{to}", title("to_package"), literal=True)
        .str.replace("{coupon}", pl.col("coupon").replace(coupons).fill_null(""), literal=True)
        .str.replace("{add_on}", pl.col("add_on").replace(add_ons).fill_null(""), literal=True)
        .str.replace("{quantity}", pl.col("quantity").cast(pl.String).fill_null("none"), literal=True)
        .str.replace("{effective}", day, literal=True)
        + voids
    ).drop("_sentence", "_general")
