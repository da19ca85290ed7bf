"""Settle the package changes of a billing date: an answer for everything asked, and one change (rules 8, 9, 17)."""

from typing import Final

import polars as pl

from billing.model.codes import DecisionFlag, DecisionKind, DecisionReason, Outcome, Term
from billing.model.empty_frames import skip_if_empty
from billing.model.tables import DECISIONS
from billing.rules.refusals import first_that_holds

_NO_FLAGS: Final = pl.lit([], pl.List(pl.String))


@skip_if_empty("automatic", "requested")
def settle(automatic: pl.DataFrame, requested: pl.DataFrame, month: str) -> pl.DataFrame:
    """An answer for everything asked (rule 17); of several requests the latest valid one counts (rule 8).

    Rule 9: of an automatic and a requested change one is made, the higher.
    """
    latest = (
        requested.filter(pl.col("refusal").is_null())
        .sort("at", "request_id")
        .group_by("subscription_id", maintain_order=True)
        .last()
        .select("subscription_id", latest_request="request_id", latest_kind="kind", latest_rank="rank")
    )
    changing = automatic.filter(pl.col("target") != pl.col("current")).select(
        "subscription_id", automatic_rank="target_rank"
    )
    requested = requested.join(latest, on="subscription_id", how="left", maintain_order="left").join(
        changing, on="subscription_id", how="left", maintain_order="left"
    )
    automatic = automatic.join(latest, on="subscription_id", how="left", maintain_order="left").with_columns(
        automatic_rank="target_rank"
    )
    asked_higher = (pl.col("latest_kind") == DecisionKind.UPGRADE) & (pl.col("latest_rank") >= pl.col("automatic_rank"))
    of_request = [
        (
            pl.col("request_id") != pl.col("latest_request"),
            Outcome.SUPERSEDED,
            DecisionReason.SUPERSEDED_BY_LATER_REQUEST,
        ),
        (
            pl.col("automatic_rank").is_not_null() & ~asked_higher,
            Outcome.SUPERSEDED,
            DecisionReason.SATISFIED_BY_HIGHER,
        ),
        (pl.col("kind") == DecisionKind.UPGRADE, Outcome.APPROVED, DecisionReason.REQUESTED),
        (pl.lit(True), Outcome.APPROVED, DecisionReason.USAGE_FITS),
    ]
    by_itself = [
        (pl.col("target") == pl.col("current"), Outcome.REFUSED, DecisionReason.NO_LARGER_PACKAGE),
        (asked_higher, Outcome.SUPERSEDED, DecisionReason.SATISFIED_BY_HIGHER),
        (pl.lit(True), Outcome.APPROVED, DecisionReason.USAGE_OVER_ALLOWANCE),
    ]
    refused = pl.when(pl.col("refusal").is_not_null())
    outcome = first_that_holds([(condition, outcome) for condition, outcome, _ in of_request])
    reason = first_that_holds([(condition, reason) for condition, _, reason in of_request])
    requested = requested.with_columns(
        outcome=refused.then(pl.lit(Outcome.REFUSED)).otherwise(outcome),
        reason=refused.then("refusal").otherwise(reason),
    )
    outcome = first_that_holds([(condition, outcome) for condition, outcome, _ in by_itself])
    reason = first_that_holds([(condition, reason) for condition, _, reason in by_itself])
    automatic = automatic.with_columns(outcome=outcome, reason=reason)
    return pl.concat([DECISIONS.conform(rows) for rows in _as_decisions(requested, automatic, month)])


def _as_decisions(requested: pl.DataFrame, automatic: pl.DataFrame, month: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What was answered, with the other columns of DECISIONS."""
    approved = pl.col("outcome") == Outcome.APPROVED
    # a lower package waits for the end of a yearly term (rule 18)
    waits = (
        (pl.col("kind") == DecisionKind.DOWNGRADE)
        & (pl.col("term") == Term.YEARLY)
        & (pl.col("billing_index") % 12 != 0)
    )
    shared = {
        "billing_month": pl.lit(month),
        "from_package": pl.col("current"),
        "decided_on": pl.col("billing_date"),
        "explanation": None,
        "amount": None,
        "expected_from": None,
        "expected_by": None,
        **dict.fromkeys(("coupon", "add_on", "quantity")),
    }
    return (
        requested.with_columns(
            **shared,
            decision_id="request_id",
            to_package="package",
            effective_on=pl.when(approved).then(pl.when(waits).then("term_end").otherwise("billing_date")),
            flags=_NO_FLAGS,
        ),
        automatic.with_columns(
            **shared,
            decision_id=pl.format(
                "{}/{}/auto_upgrade", "subscription_id", pl.col("billing_date").dt.to_string("%Y-%m-%d")
            ),
            request_id=None,
            kind=pl.lit(DecisionKind.AUTO_UPGRADE),
            to_package="target",
            effective_on=pl.when(approved).then("billing_date"),
            flags=pl.when("exceeds_catalogue")
            .then(pl.lit([DecisionFlag.EXCEEDS_CATALOGUE], pl.List(pl.String)))
            .otherwise(_NO_FLAGS),
        ),
    )


@skip_if_empty("decisions")
def flagged(decisions: pl.DataFrame, deciding: pl.DataFrame) -> pl.DataFrame:
    """Flag a change that replaces the lower package waiting for the end of the term.

    The earlier approval stays as it is: a request is answered once (rules 9 and 17).
    """
    waiting = deciding.filter(pl.col("waiting_package").is_not_null()).select("subscription_id", _waits=pl.lit(True))
    takes_its_place = (pl.col("outcome") == Outcome.APPROVED) & pl.col("_waits").is_not_null()
    marked = decisions.join(waiting, on="subscription_id", how="left", maintain_order="left").with_columns(
        flags=pl.when(takes_its_place)
        .then(pl.concat_list("flags", pl.lit([DecisionFlag.VOIDS_WAITING_DOWNGRADE], pl.List(pl.String))))
        .otherwise("flags")
    )
    return marked.drop("_waits")
