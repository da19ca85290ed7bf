"""Changes of add-ons: decided when a cycle closes, effective on the next one, as package changes are (rule 31)."""

from typing import Final

import polars as pl

from billing.model.codes import ADD_ON_CHANGES, DecisionKind, DecisionReason, Outcome, Term
from billing.model.columns import INSTANT, MEASUREMENT
from billing.model.empty_frames import skip_if_empty
from billing.model.offers import QUANTITIES
from billing.model.tables import DECISIONS
from billing.rules.add_ons import AddOnFrames, held_on
from billing.rules.refusals import first_that_holds

ASKED_SCHEMA: Final = pl.Schema(
    {
        "decision_id": pl.String(),
        "request_id": pl.String(),
        "account_id": pl.String(),
        "subscription_id": pl.String(),
        "at": INSTANT,
        "on": pl.Date(),
        "kind": pl.String(),
        "add_on": pl.String(),
        "quantity": pl.Int64(),
        "effective_on": pl.Date(),
    }
)
_DATE: Final = ["subscription_id", "billing_date"]
_ONE: Final = ["subscription_id", "add_on"]


def asked_add_ons(requests: pl.DataFrame, answers: pl.DataFrame, subscriptions: pl.DataFrame) -> pl.DataFrame:
    """ASKED_SCHEMA: what is asked of add-ons and waits for its billing date; sorted by at, decision_id.

    Quantities are new totals, null where the add-on is removed. What comes with a subscription is asked for its first
    billing date here, and has no request_id: the request's own answer is that of the subscription.

    Parameters
    ----------
    requests
        As `Inputs.requests`.
    answers, subscriptions
        As in `Lives`.
    """
    own = requests.filter(pl.col("kind").is_in(ADD_ON_CHANGES)).select("request_id", "add_on", quantity=_quantity())
    bought = requests.filter((pl.col("kind") == DecisionKind.SUBSCRIBE) & pl.col("add_ons").is_not_null())
    if own.is_empty() and bought.is_empty():
        return pl.DataFrame(schema=ASKED_SCHEMA)
    waiting = (
        answers.filter(pl.col("outcome") == Outcome.PENDING)
        .join(own, on="request_id")
        .with_columns(decision_id="request_id")
    )
    given = (
        bought.select("request_id", named=pl.col("add_ons").str.json_decode(QUANTITIES))
        .explode("named", empty_as_null=False)
        .unnest("named")
        .join(answers.filter(pl.col("outcome") == Outcome.APPROVED), on="request_id")
        .join(subscriptions.select("subscription_id", "first_billing_date"), on="subscription_id")
        .with_columns(
            kind=pl.lit(DecisionKind.ADD),
            decision_id=pl.format("{}/add_on/{}", "request_id", "name"),
            request_id=pl.lit(None, pl.String),
            add_on="name",
            effective_on="first_billing_date",
        )
    )
    return pl.concat([frame.select(ASKED_SCHEMA.names()) for frame in (waiting, given)]).sort("at", "decision_id")


def with_asked_add_ons(answers: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    """`answers` with add_on and quantity of the requests that change add-ons, if there are any."""
    asked = requests.filter(pl.col("kind").is_in(ADD_ON_CHANGES))
    if asked.is_empty():
        return answers
    asked = asked.select("request_id", "add_on", quantity=_quantity())
    return answers.join(asked, on="request_id", how="left", maintain_order="left")


def late_add_on_answers(asked: pl.DataFrame, closed: pl.DataFrame, decided: pl.Series) -> pl.DataFrame:
    """What came with a subscription and became known when its billing date had been closed, refused (rule 9).

    Parameters
    ----------
    closed
        subscription_id, billing_date: the billing dates that have been closed.
    decided
        decision_id of what was decided at closed dates.

    Returns
    -------
    polars.DataFrame
        ASKED_SCHEMA, outcome and reason.
    """
    return (
        asked.filter(pl.col("request_id").is_null() & ~pl.col("decision_id").is_in(decided.implode()))
        .join(
            closed.select(subscription_id="subscription_id", effective_on="billing_date"),
            on=["subscription_id", "effective_on"],
            how="semi",
            maintain_order="left",
        )
        .with_columns(
            outcome=pl.lit(Outcome.REFUSED),
            reason=pl.lit(DecisionReason.KNOWN_AFTER_THE_CLOSE),
            effective_on=pl.lit(None, pl.Date),
        )
    )


@skip_if_empty("asked", "holdings")
def decide_add_ons(
    month: str,
    *,
    cycles: pl.DataFrame,
    packages: pl.DataFrame,
    holdings: pl.DataFrame,
    asked: pl.DataFrame,
    previous: pl.DataFrame,
    add_ons: AddOnFrames,
) -> pl.DataFrame:
    """Decide what is asked for the open billing dates of a month: the table DECISIONS, without explanation.

    A package that does not allow an add-on ends it where the package changes.

    Parameters
    ----------
    cycles, packages
        The tables CYCLES and PACKAGES of the month.
    holdings
        As `add_on_holdings`, of decisions of earlier billing dates.
    asked
        As `asked_add_ons`.
    previous
        subscription_id, opening_package: of the month before. An upgrade at once changes the package within the cycle.
    """
    dates = cycles.select(*_DATE, "account_id", "billing_index", "term", "term_end").join(
        packages.filter(~pl.col("closed")).select(*_DATE, "closing_package", "opening_package"), on=_DATE
    )
    goes_on = dates.filter(pl.col("opening_package").is_not_null())
    held = held_on(goes_on, holdings, "billing_date")
    judged = _judged(asked, dates, held, add_ons)
    ended = held.join(
        add_ons.allowed.rename({"package": "opening_package"}), on=["opening_package", "add_on"], how="anti"
    )
    before = previous.select("subscription_id", before="opening_package")
    ended = ended.join(before, on="subscription_id", how="left", maintain_order="left").filter(
        pl.coalesce("before", "closing_package") != pl.col("opening_package")
    )
    return pl.concat([_as_decisions(rows, month) for rows in (_settled(judged), _voided(ended))])


@skip_if_empty("asked")
def _judged(asked: pl.DataFrame, dates: pl.DataFrame, held: pl.DataFrame, add_ons: AddOnFrames) -> pl.DataFrame:
    """What is asked for the dates, with refusal (null: valid) and held."""
    rows = (
        asked.join(
            dates.drop("account_id"), left_on=["subscription_id", "effective_on"], right_on=_DATE, maintain_order="left"
        )
        .with_columns(billing_date="effective_on")
        .join(held.select(*_ONE, "held"), on=_ONE, how="left", maintain_order="left")
        .join(
            add_ons.allowed.select(opening_package="package", add_on="add_on", is_allowed=pl.lit(value=True)),
            on=["opening_package", "add_on"],
            how="left",
            maintain_order="left",
        )
        .with_columns(
            is_known=pl.col("add_on").is_in(add_ons.versions["add_on"].implode()), held=pl.col("held").fill_null(0)
        )
    )
    is_more, is_yearly = pl.col("kind") == DecisionKind.ADD, pl.col("term") == Term.YEARLY
    refusal = first_that_holds(
        [
            (pl.col("opening_package").is_null(), DecisionReason.NO_LIVE_SUBSCRIPTION),
            (~pl.col("is_known") & (pl.col("held") == 0), DecisionReason.UNKNOWN_ADD_ON),
            (~is_more & (pl.col("held") == 0), DecisionReason.NOT_ADDED),
            (is_more & pl.col("version").is_null(), DecisionReason.ADD_ON_NOT_SOLD_YET),
            (is_more & pl.col("monthly").is_null(), DecisionReason.NOT_SOLD_IN_CURRENCY),
            (is_more & pl.col("is_allowed").is_null(), DecisionReason.NOT_ALLOWED_BY_PACKAGE),
            (is_more & is_yearly & pl.col("yearly").is_null(), DecisionReason.NO_YEARLY_PRICE),
            (is_more & (pl.col("quantity") > pl.col("maximum")), DecisionReason.ABOVE_MAXIMUM),
        ]
    )
    return add_ons.with_version(rows, "billing_date").with_columns(refusal=refusal)


@skip_if_empty("judged")
def _settled(judged: pl.DataFrame) -> pl.DataFrame:
    """`judged` with outcome, reason and effective_on: of several valid ones of an add-on the latest counts (rule 8)."""
    valid = pl.col("refusal").is_null()
    latest = (
        judged.filter(valid)
        .sort("at", "decision_id")
        .group_by(_ONE, maintain_order=True)
        .last()
        .select(*_ONE, latest="decision_id")
    )
    is_latest = pl.col("decision_id") == pl.col("latest")
    # A lower quantity waits for the end of a yearly term (rule 18).
    waits = (
        (pl.col("term") == Term.YEARLY)
        & (pl.col("billing_index") % 12 != 0)
        & (pl.col("quantity").fill_null(0) < pl.col("held"))
    )
    return judged.join(latest, on=_ONE, how="left", maintain_order="left").with_columns(
        outcome=pl.when(~valid)
        .then(pl.lit(Outcome.REFUSED))
        .when(is_latest)
        .then(pl.lit(Outcome.APPROVED))
        .otherwise(pl.lit(Outcome.SUPERSEDED)),
        reason=pl.when(~valid)
        .then("refusal")
        .when(is_latest)
        .then(pl.lit(DecisionReason.REQUESTED))
        .otherwise(pl.lit(DecisionReason.SUPERSEDED_BY_LATER_REQUEST)),
        effective_on=pl.when(valid & is_latest).then(pl.when(waits).then("term_end").otherwise("billing_date")),
    )


def _quantity() -> pl.Expr:
    """The new total that a request asks for; null where it removes the add-on."""
    return pl.when(pl.col("kind") == DecisionKind.ADD).then(pl.col("quantity").fill_null(1))


@skip_if_empty("ended")
def _voided(ended: pl.DataFrame) -> pl.DataFrame:
    """The add-ons that a change of package ends."""
    day = pl.col("billing_date").dt.to_string("%Y-%m-%d")
    return ended.with_columns(
        decision_id=pl.format("{}/{}/add_on/{}", "subscription_id", day, "add_on"),
        request_id=pl.lit(None, pl.String),
        kind=pl.lit(DecisionKind.REMOVE),
        quantity=pl.lit(None, pl.Int64),
        outcome=pl.lit(Outcome.APPROVED),
        reason=pl.lit(DecisionReason.NOT_ALLOWED_BY_PACKAGE),
        effective_on="billing_date",
    )


@skip_if_empty("rows")
def _as_decisions(rows: pl.DataFrame, month: str) -> pl.DataFrame:
    nothing = {name: pl.lit(None, DECISIONS.schema[name]) for name in ("explanation", "amount", "coupon")}
    days = {name: pl.lit(None, pl.Date) for name in ("expected_from", "expected_by")}
    return DECISIONS.conform(
        rows.with_columns(
            **nothing,
            **days,
            billing_month=pl.lit(month),
            from_package=pl.lit(None, pl.String),
            # Name the package that does not allow it.
            to_package=pl.when(pl.col("reason") == DecisionReason.NOT_ALLOWED_BY_PACKAGE).then("opening_package"),
            decided_on="billing_date",
            evidence=pl.lit([], MEASUREMENT),
            flags=pl.lit([], pl.List(pl.String)),
        )
    )
