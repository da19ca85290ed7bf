"""Subscriptions as a state machine: apply requests in order, and answer each (rules 8 and 11 to 17).

All accounts are processed at once, in rounds: a round answers the next requests of every account from its state, up to
and including the first one that changes the state. There are as many rounds as one account has state changes, and no
loop over accounts.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

import polars as pl

from billing.model.catalogue import Catalogue, Policy
from billing.model.codes import (
    COUPON_REQUESTS,
    WAITS_FOR_CLOSE,
    DecisionKind,
    DecisionReason,
    Outcome,
    SubscriptionStatus,
)
from billing.model.empty_frames import skip_if_empty
from billing.model.offers import AT_ONCE
from billing.model.one_collect import collected
from billing.rules.billing_dates import Grid
from billing.rules.refusals import refusal_when_asked, voided
from billing.rules.refused_subscriptions import parked_by_refusal
from billing.rules.terms import TermsFrames, with_terms

# State of an account's latest subscription; also the columns of `Lives.subscriptions`.
_STATE: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "account_id": pl.String,
    "subscription_id": pl.String,
    "started_on": pl.Date,
    "grid_start": pl.Date,
    "term": pl.String,
    "first_package": pl.String,
    "resumed_from": pl.String,
    "is_refundable": pl.Boolean,
    "access_from": pl.Date,
    "access_last": pl.Date,
    "fees_until": pl.Date,
    "hold_fees_until": pl.Date,
    "paid_until": pl.Date,
    "held_on": pl.Date,
    "ended_on": pl.Date,
    "end": pl.String,
    "last_billing_date": pl.Date,
    "pauses": pl.List(pl.Struct({"first": pl.Date, "until": pl.Date})),
    "billed_through": pl.Date,
    "usage_from": pl.Date,
}
_ANSWER: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "request_id": pl.String,
    "account_id": pl.String,
    "subscription_id": pl.String,
    "at": pl.Datetime("ns", "UTC"),
    "on": pl.Date,
    "kind": pl.String,
    "package": pl.String,
    "outcome": pl.String,
    "reason": pl.String,
    "effective_on": pl.Date,
}
# These leave the state as it is; changes of package and add-ons are decided when their cycle closes.
_MOVES_NOTHING: Final = (
    *WAITS_FOR_CLOSE,
    *COUPON_REQUESTS,
    DecisionKind.CHANGE_CARD,
    DecisionKind.TRANSFER,
    DecisionKind.SPLIT_PAYMENT,
)
_TURNS: Final = 10
_ONE_DAY: Final = pl.duration(days=1)


@dataclass(frozen=True)
class Lives:
    """Subscriptions, answers and parked accounts, after all requests.

    Attributes
    ----------
    subscriptions
        One row per subscription, sorted by account and start: started_on (local date), grid_start (billing date 0:
        the start, or the end of the trial), term, first_package (null when it goes on from `resumed_from`),
        access_from and access_last (first and last local day with access; null is open), fees_until (a package fee
        falls due only before it), hold_fees_until (likewise for hold fees), held_on (last day before the hold that
        is on, or null), ended_on and end (cancelled or refunded), last_billing_date (null is open) and pauses (the
        local days without access in a hold that was undone: first included, until excluded). billed_through and
        usage_from are those of a subscription that moved in, else null (rule 38); first_billing_date is its first one
        here, measured_from the local day from which its usage counts (null: as soon as there is access).
    answers
        One row per request: outcome is approved, refused, or pending for a change of package or add-on, which the close
        of its cycle decides; superseded for such a change that a later cancellation or hold voided. Requests about
        coupons are looked at again by `billing.rules.redemptions`.
    parked
        account_id, reason, detail: accounts that cannot be billed (rule 28).
    """

    subscriptions: pl.DataFrame
    answers: pl.DataFrame
    parked: pl.DataFrame


def read_lives(
    requests: pl.DataFrame,
    catalogue: Catalogue,
    terms: TermsFrames,
    inside: pl.Series | None = None,
    billed: pl.Series | None = None,
) -> Lives:
    """Apply all requests in order, account by account.

    Parameters
    ----------
    requests
        As `Inputs.requests`, cut at the as-of day.
    inside
        request_id: subscriptions to hidden packages that began before these were hidden.
    billed
        subscription_id: those that were billed in another currency than their account has now.
    """
    may_move = ~pl.col("kind").is_in(_MOVES_NOTHING)
    has_moved = pl.col("billed_through").is_not_null()
    asked = requests.sort("at", "request_id").with_columns(sold_on=pl.coalesce("billed_through", "on"))
    asked = with_terms(asked, terms, on="sold_on", or_first=True)
    turns = _counted_before(asked, may_move).clip(upper_bound=_TURNS)
    sold = terms.packages.lazy().select(
        *("terms_key", "package", "since"),
        is_sold=pl.col("monthly").is_not_null(),
        sells_yearly=pl.col("yearly").is_not_null(),
    )
    known = asked.lazy().with_columns(
        pl.when(has_moved | (pl.col("since") <= pl.col("on"))).then(pl.col("terms_key", "since")),
        # One state-changing request per turn; the last turn holds the rest of very busy accounts.
        turn=turns,
        known_package=pl.col("package").is_in([package.name for package in catalogue.packages]),
        is_hidden=pl.col("package").is_in(terms.hidden)
        & ~has_moved
        & ~pl.col("request_id").is_in([] if inside is None else inside.to_list()),
    )
    known = known.join(sold, on=["terms_key", "package", "since"], how="left", maintain_order="left")
    asked = collected(known.drop("sold_on"))
    if billed is not None and not billed.is_empty():
        was_billed = pl.format("{}/{}", "account_id", pl.col("on").dt.to_string("%Y-%m-%d")).is_in(billed.implode())
        asked = asked.with_columns(pl.col("is_sold", "sells_yearly") | was_billed)
    state = pl.DataFrame(schema=_STATE)
    ended: list[pl.DataFrame] = []
    answers: list[pl.DataFrame] = [pl.DataFrame(schema=_ANSWER)]
    parked: list[pl.DataFrame] = [
        pl.DataFrame(schema={"account_id": pl.String, "reason": pl.String, "detail": pl.String})
    ]
    for turn in asked.sort("turn", maintain_order=True).partition_by("turn", maintain_order=True):
        open_ = turn
        while not open_.is_empty():
            held = open_.lazy().join(state.lazy(), on="account_id", how="left", suffix="_held", maintain_order="left")
            answered = collected(_answered(held, catalogue))
            moves = pl.col("refusal").is_null() & may_move
            # Requests after a state change wait for the next round.
            answered = answered.with_columns(waits=_counted_before(answered, moves) > 0)
            round_ = answered.filter(~pl.col("waits"))
            answers.append(round_.select(pl.col(name).cast(dtype) for name, dtype in _ANSWER.items()))
            parked.append(parked_by_refusal(round_.filter(pl.col("refusal").is_not_null()), catalogue))
            renewed = round_.filter(pl.col("starts_new") & pl.col("started_on").is_not_null())
            ended += [_closed_for_new(renewed, catalogue), state.join(open_, on="account_id", how="anti")]
            state = _moved(round_.filter(pl.col("account_id").is_last_distinct()), catalogue)
            open_ = answered.filter("waits").select(turn.columns)
    lives = pl.concat([*ended, state]).filter(pl.col("started_on").is_not_null())
    stopped = pl.concat(parked).unique("account_id", keep="first", maintain_order=True).sort("account_id")
    return Lives(
        subscriptions=_with_first_dates(lives.sort("account_id", "started_on"), catalogue),
        answers=voided(pl.concat(answers)).sort("at", "request_id"),
        parked=stopped,
    )


def _with_first_dates(lives: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Add first_billing_date and measured_from.

    Rule 38: nothing that was billed elsewhere is billed again, nothing that was not is lost.

    A subscription that was cancelled or put on hold before the move bills no usage from before it.
    """
    grid, start, moved = Grid.of(catalogue.policy), pl.col("grid_start"), pl.col("billed_through")
    k = grid.first_index(start, moved)
    cycle_start = grid.date(start, (k - 1).clip(lower_bound=0))
    has_stopped = (pl.min_horizontal("ended_on", "held_on") < moved).fill_null(value=False)
    measured = pl.max_horizontal(cycle_start, "usage_from", pl.when(has_stopped).then(moved))
    return lives.with_columns(
        first_billing_date=pl.coalesce(grid.date(start, k), start),
        measured_from=pl.when(moved.is_not_null()).then(measured),
    )


def _counted_before(requests: pl.DataFrame, flag: pl.Expr) -> pl.Series:
    """Count the account's earlier requests for which the flag holds."""
    # Most accounts have one request: window functions over the others only are far cheaper.
    several = requests.select("account_id", flag=flag.cast(pl.UInt32)).with_row_index("place")
    several = several.filter(pl.col("account_id").is_duplicated())
    if several.is_empty():
        return pl.repeat(0, requests.height, dtype=pl.UInt32, eager=True).alias("before")
    before = several.select("place", before=(pl.col("flag").cum_sum() - pl.col("flag")).over("account_id"))
    places = pl.DataFrame({"place": pl.int_range(requests.height, dtype=pl.UInt32, eager=True)})
    counted = places.join(before, on="place", how="left", maintain_order="left")
    return counted["before"].fill_null(0)


def _answered(round_: pl.LazyFrame, catalogue: Catalogue) -> pl.LazyFrame:
    """The round with outcome, reason and what moving the state needs; `starts_new` where a subscription begins."""
    policy = catalogue.policy
    grid = Grid.of(policy)
    day, start, term = pl.col("on"), pl.col("grid_start"), pl.col("term_held")
    # One step after the other: an expression that contains another one computes it again.
    following = pl.col("_following")
    round_ = round_.with_columns(_following=grid.next_index(start, day)).with_columns(
        billing_date=grid.date(start, following),
        fee_date=grid.fee_date_from(start, term, following),
        in_trial=day < start,
        first_date=grid.first_date(start, pl.col("billed_through_held")),
        paid_fee_date=grid.fee_date_before(start, term, following),
    )
    round_ = round_.with_columns(
        in_time=(pl.col("fee_date") - day).dt.total_days() >= policy.cancellation_notice_days,
        _following=grid.next_index(start, pl.col("fee_date")),
    ).with_columns(
        # "no further fee", or one more: the paid cycle ends with the next fee date, or with the one after it
        paid_end=pl.when("in_time").then("fee_date").otherwise(grid.fee_date_from(start, term, following)),
        after_fee_date=grid.date(start, following),
        second_billing_date=grid.date(start, pl.lit(1, pl.Int32)),
    )
    exists = pl.col("started_on").is_not_null()
    is_held = exists & pl.col("held_on").is_not_null() & pl.col("end").is_null()
    hold_has_ended_it = is_held & (day >= pl.col("paid_until")) & pl.lit(policy.hold_fee == 0)
    keeps_access = pl.col("end").is_not_null() & (pl.col("access_last") > day)
    is_active = exists & pl.col("end").is_null() & ~hold_has_ended_it
    blocks_new = (exists & (is_active | keeps_access)) | (pl.col("started_on") == day)
    round_ = round_.with_columns(
        is_held=is_held, is_active=is_active.fill_null(value=False), blocks_new=blocks_new.fill_null(value=False)
    )
    kind = pl.col("kind")
    round_ = round_.with_columns(refusal=refusal_when_asked(policy))
    approved = pl.col("refusal").is_null()
    # Rule 13: resuming within the paid cycle undoes a hold, later it starts a new subscription
    undoes = pl.col("on") < pl.col("paid_until")
    starts_new = approved & ((kind == DecisionKind.SUBSCRIBE) | ((kind == DecisionKind.RESUME) & ~undoes))
    # rule 37: an upgrade at once holds from its day, one that is made in a trial from billing date 0.
    at_once = (kind == DecisionKind.UPGRADE) & ~pl.col("in_trial") & pl.lit(policy.requested_upgrades == AT_ONCE)
    return round_.with_columns(
        starts_new=starts_new.fill_null(value=False),
        outcome=pl.when(~approved)
        .then(pl.lit(Outcome.REFUSED))
        .when(kind.is_in(WAITS_FOR_CLOSE))
        .then(pl.lit(Outcome.PENDING))
        .otherwise(pl.lit(Outcome.APPROVED)),
        reason=pl.coalesce("refusal", _approval(undoes)),
        effective_on=pl.when(approved).then(
            pl.when(kind.is_in((*WAITS_FOR_CLOSE, *COUPON_REQUESTS)) & ~at_once).then("billing_date").otherwise("on")
        ),
        subscription_id=pl.when(starts_new)
        .then(pl.format("{}/{}", "account_id", pl.col("on").dt.to_string("%Y-%m-%d")))
        .otherwise("subscription_id"),
        previous_id="subscription_id",
    )


def _approval(undoes_hold: pl.Expr) -> pl.Expr:
    kind = pl.col("kind")
    notice = pl.when("in_time").then(pl.lit(DecisionReason.IN_TIME)).otherwise(pl.lit(DecisionReason.LATE_NOTICE))
    return (
        pl.when(kind == DecisionKind.SUBSCRIBE)
        .then(pl.lit(DecisionReason.SUBSCRIBED))
        .when((kind == DecisionKind.CANCEL) & pl.col("in_trial"))
        .then(pl.lit(DecisionReason.CANCELLED_IN_TRIAL))
        .when(kind.is_in([DecisionKind.CANCEL, DecisionKind.HOLD]))
        .then(notice)
        .when((kind == DecisionKind.RESUME) & undoes_hold)
        .then(pl.lit(DecisionReason.HOLD_UNDONE))
        .when(kind == DecisionKind.RESUME)
        .then(pl.lit(DecisionReason.NEW_SUBSCRIPTION))
        .when(kind == DecisionKind.REFUND)
        .then(pl.lit(DecisionReason.WITHIN_REFUND_WINDOW))
        .when(kind == DecisionKind.CHANGE_CARD)
        .then(pl.lit(DecisionReason.CARD_CHANGED))
        .when(kind == DecisionKind.REDEEM)
        .then(pl.lit(DecisionReason.REDEEMED))
        .when(kind == DecisionKind.REVOKE)
        .then(pl.lit(DecisionReason.REVOKED))
        .otherwise(pl.lit(DecisionReason.PENDING))
    )


def _moved(round_: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """The state of the round's accounts after their request."""
    kind, approved = pl.col("kind"), pl.col("refusal").is_null()
    new, undone = pl.col("starts_new"), approved & (kind == DecisionKind.RESUME) & ~pl.col("starts_new")
    cancelled, held, refunded = (
        approved & (kind == name) for name in (DecisionKind.CANCEL, DecisionKind.HOLD, DecisionKind.REFUND)
    )
    moves = _Moves(new, undone, cancelled, held, refunded, cancelled & pl.col("in_trial"))
    values = {
        "account_id": pl.col("account_id"),
        "subscription_id": pl.col("subscription_id"),
        **_beginning(moves),
        **_access(moves, catalogue.policy),
        **_fees(moves),
        **_end(moves, catalogue.policy),
    }
    return round_.select(values[name].cast(dtype).alias(name) for name, dtype in _STATE.items())


class _Moves(NamedTuple):
    """Which requests move the state of their account, and how."""

    new: pl.Expr
    undone: pl.Expr
    cancelled: pl.Expr
    held: pl.Expr
    refunded: pl.Expr
    in_trial_cancel: pl.Expr


def _beginning(moves: _Moves) -> dict[str, pl.Expr]:
    """State that is fixed when a subscription starts."""
    day, subscribed = pl.col("on"), moves.new & (pl.col("kind") == DecisionKind.SUBSCRIBE)
    no_text = pl.lit(None, pl.String)
    trial_end = day + pl.duration(days=pl.col("trial_days"))
    return {
        "started_on": pl.when(moves.new).then(day).otherwise("started_on"),
        "grid_start": pl.when(subscribed).then(trial_end).when(moves.new).then(day).otherwise("grid_start"),
        "term": pl.when(subscribed).then("term").otherwise("term_held"),
        "first_package": pl.when(subscribed).then("package").when(moves.new).then(no_text).otherwise("first_package"),
        "resumed_from": pl.when(moves.new & ~subscribed)
        .then("previous_id")
        .when(moves.new)
        .then(no_text)
        .otherwise("resumed_from"),
        "is_refundable": pl.when(moves.new).then(subscribed).otherwise("is_refundable"),
        **{
            # A subscription that began by a resume before the move was billed elsewhere up to it, too.
            name: pl.when(subscribed)
            .then(name)
            .when(~moves.new | (day < pl.col("billed_through_held")))
            .then(f"{name}_held")
            for name in ("billed_through", "usage_from")
        },
    }


def _access(moves: _Moves, policy: Policy) -> dict[str, pl.Expr]:
    """Rule 12: access ends with the day of the request, or is paid for; on hold it has ended already."""
    day, no_date, restarts = pl.col("on"), pl.lit(None, pl.Date), moves.new | moves.undone
    at_once = policy.access_after_cancellation == "ends_at_once"
    last_day = day if at_once else pl.col("paid_end") - _ONE_DAY
    pause = pl.concat_list(pl.struct(first=pl.col("held_on") + _ONE_DAY, until=day))
    return {
        # Usage of a day shared by two subscriptions belongs to the old one.
        "access_from": pl.when(moves.new)
        .then(pl.max_horizontal(day, pl.col("access_last") + _ONE_DAY))
        .otherwise("access_from"),
        "access_last": pl.when(restarts)
        .then(no_date)
        .when(moves.in_trial_cancel | moves.refunded | moves.held)
        .then(pl.min_horizontal(day, "access_last"))
        .when(moves.cancelled)
        .then(pl.min_horizontal(last_day, "access_last"))
        .otherwise("access_last"),
        "pauses": pl.when(moves.new)
        .then(pl.lit([], _STATE["pauses"]))
        .when(moves.undone)
        .then(pl.concat_list(pl.col("pauses").fill_null([]), pause))
        .otherwise(pl.col("pauses").fill_null([])),
    }


def _fees(moves: _Moves) -> dict[str, pl.Expr]:
    """With the notice no further fee falls due, else one more (rules 12 and 13)."""
    day, no_date, restarts = pl.col("on"), pl.lit(None, pl.Date), moves.new | moves.undone
    fees_end = (
        # rule 38: the fee of a late notice before the move was billed elsewhere
        pl.when(day < pl.col("billed_through_held"))
        .then(day)
        .when("in_time")
        .then("fee_date")
        .otherwise(pl.col("fee_date") + _ONE_DAY)
    )
    hold_fees_end = pl.when("in_time").then("billing_date").otherwise(pl.col("billing_date") + _ONE_DAY)
    return {
        "fees_until": pl.when(restarts)
        .then(no_date)
        .when(moves.in_trial_cancel)
        .then("grid_start")
        .when(moves.refunded)
        .then(pl.min_horizontal(day + _ONE_DAY, "fees_until"))
        .when(moves.cancelled | moves.held)
        .then(pl.min_horizontal(fees_end, "fees_until"))
        .otherwise("fees_until"),
        "hold_fees_until": pl.when(restarts)
        .then(no_date)
        .when(moves.refunded)
        .then(day + _ONE_DAY)
        .when(moves.cancelled)
        .then(hold_fees_end)
        .otherwise("hold_fees_until"),
        "paid_until": pl.when(restarts).then(no_date).when(moves.held).then("paid_end").otherwise("paid_until"),
    }


def _end(moves: _Moves, policy: Policy) -> dict[str, pl.Expr]:
    """How and when it ends, and its last billing date."""
    day, no_date, restarts = pl.col("on"), pl.lit(None, pl.Date), moves.new | moves.undone
    last_if_cancelled: pl.Expr = pl.col("paid_end")
    if policy.access_after_cancellation == "ends_at_once":
        last_if_cancelled = pl.when("in_time").then("billing_date").otherwise("after_fee_date")
    return {
        "held_on": pl.when(restarts | moves.refunded).then(no_date).when(moves.held).then(day).otherwise("held_on"),
        "ended_on": pl.when(moves.new)
        .then(no_date)
        .when(moves.cancelled | moves.refunded)
        .then(day)
        .otherwise("ended_on"),
        "end": pl.when(moves.new)
        .then(pl.lit(None, pl.String))
        .when(moves.cancelled)
        .then(pl.lit(SubscriptionStatus.CANCELLED))
        .when(moves.refunded)
        .then(pl.lit(SubscriptionStatus.REFUNDED))
        .otherwise("end"),
        "last_billing_date": pl.when(restarts)
        .then(no_date)
        # cancelled in a trial: there is no billing date at all
        .when(moves.in_trial_cancel)
        .then(pl.col("grid_start") - _ONE_DAY)
        .when(moves.refunded)
        .then("billing_date")
        .when(moves.cancelled & pl.col("is_held"))
        .then(pl.coalesce("last_billing_date", "billing_date"))
        .when(moves.cancelled)
        .then(last_if_cancelled)
        .when(moves.held & pl.lit(policy.hold_fee == Decimal(0)))
        .then("paid_end")
        .otherwise("last_billing_date"),
    }


@skip_if_empty("renewed")
def _closed_for_new(renewed: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """The finished subscriptions of accounts that begin a new one in this round."""
    grid = Grid.of(catalogue.policy)
    start, day = pl.col("grid_start"), pl.col("on")
    # A hold with a hold fee keeps its billing dates until the new subscription begins.
    latest = grid.date(start, (grid.next_index(start, day) - 1).clip(lower_bound=0))
    columns: dict[str, pl.Expr] = {name: pl.col(name) for name in _STATE} | {
        "subscription_id": pl.col("previous_id"),
        "term": pl.col("term_held"),
        "billed_through": pl.col("billed_through_held"),
        "usage_from": pl.col("usage_from_held"),
        "last_billing_date": pl.coalesce("last_billing_date", latest),
        # The new subscription's fee pays for its first day.
        "hold_fees_until": pl.when("is_held")
        .then(pl.min_horizontal("hold_fees_until", day))
        .otherwise("hold_fees_until"),
    }
    return renewed.select(expression.cast(_STATE[name]).alias(name) for name, expression in columns.items())
