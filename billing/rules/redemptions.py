"""Redemptions of coupons: who holds which coupon from when on, and the answers to requests about them (rule 29).

A coupon is redeemed by a request of its own, or with a subscription. Whether it may be is decided by the request, the
package in force on its day, and how often the account and all accounts have redeemed the coupon before.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl

from billing.model.catalogue import Catalogue
from billing.model.codes import COUPON_REQUESTS, DecisionKind, DecisionReason, Outcome
from billing.model.columns import INSTANT
from billing.model.empty_frames import skip_if_empty
from billing.rules.refusals import first_that_holds

HOLDING_SCHEMA: Final = pl.Schema(
    {
        "account_id": pl.String(),
        "subscription_id": pl.String(),
        "coupon": pl.String(),
        "request_id": pl.String(),
        "at": INSTANT,
        "effective_on": pl.Date(),
        "revoked_on": pl.Date(),
    }
)
ANSWER_SCHEMA: Final = pl.Schema(
    {
        "decision_id": pl.String(),
        "request_id": pl.String(),
        "account_id": pl.String(),
        "subscription_id": pl.String(),
        "at": INSTANT,
        "on": pl.Date(),
        "kind": pl.String(),
        "coupon": pl.String(),
        "outcome": pl.String(),
        "reason": pl.String(),
        "effective_on": pl.Date(),
    }
)
POSITION_SCHEMA: Final = pl.Schema(
    {"account_id": pl.String(), "coupon": pl.String(), "nth": pl.Int64(), "at": INSTANT, "request_id": pl.String()}
)
_POSITION: Final = ["account_id", "coupon", "nth"]
_IS_REDEEMED: Final = (pl.col("kind") == DecisionKind.REDEEM) & pl.col("refusal").is_null()


@dataclass(frozen=True)
class Redemptions:
    """Coupons of accounts, and the answers about them.

    Attributes
    ----------
    holdings
        HOLDING_SCHEMA, sorted: a row per approved redemption. The coupon counts on billing dates of the subscription
        from effective_on to before revoked_on (null: until it ends). One that is revoked before it counts has no row.
    answers
        ANSWER_SCHEMA, sorted by at, decision_id: the requests that name a coupon. request_id is null of a coupon that
        came with a subscription: the request's own answer is that of the subscription.
    """

    holdings: pl.DataFrame
    answers: pl.DataFrame


def asked_coupons(
    requests: pl.DataFrame, answers: pl.DataFrame, subscriptions: pl.DataFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """Requests that name a coupon, and why each is refused by itself; sorted by at, asked_by.

    Parameters
    ----------
    requests
        As `Inputs.requests`, cut at the as-of day.
    answers, subscriptions
        As in `Lives`.

    Returns
    -------
    polars.DataFrame
        ANSWER_SCHEMA without outcome and reason, and place (ascending), asked_by (the request), package (first of its
        subscription), refusal, and of the coupon: account_redemptions, all_redemptions, packages (null: all).
    """
    naming = requests.filter(
        pl.col("coupon").is_not_null() & pl.col("kind").is_in([DecisionKind.SUBSCRIBE, *COUPON_REQUESTS])
    )
    return _asked(answers if naming.height else answers.clear(), naming, subscriptions, catalogue)


@skip_if_empty("answers")
def _asked(
    answers: pl.DataFrame, naming: pl.DataFrame, subscriptions: pl.DataFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """As `asked_coupons`; `naming` are the requests that name a coupon."""
    given = pl.col("kind") == DecisionKind.SUBSCRIBE
    # A request that was taken back has its answer; a refused subscription has no coupon.
    counts = (pl.col("outcome") == Outcome.APPROVED) | (~given & (pl.col("outcome") == Outcome.REFUSED))
    begun = subscriptions.select("subscription_id", "grid_start", package="first_package")
    rows = (
        answers.drop("package", strict=False)
        .filter(counts)
        .join(naming.select("request_id", "coupon"), on="request_id")
        .sort("at", "request_id")
        .with_row_index("place")
        .join(begun, on="subscription_id", how="left", maintain_order="left")
        # An account that is parked has no subscription.
        .filter(~given | pl.col("grid_start").is_not_null())
        .join(_coupons(catalogue), on="coupon", how="left", maintain_order="left")
    )
    refusal = first_that_holds(
        [
            (pl.col("account_redemptions").is_null(), DecisionReason.UNKNOWN_COUPON),
            ((pl.col("kind") != DecisionKind.REVOKE) & ~pl.col("is_sold"), DecisionReason.NOT_SOLD_IN_CURRENCY),
            (
                (pl.col("kind") != DecisionKind.REVOKE) & (pl.col("on") > pl.col("redeem_until")),
                DecisionReason.COUPON_EXPIRED,
            ),
            (given & ~pl.col("packages").list.contains(pl.col("package")), DecisionReason.NOT_FOR_THIS_PACKAGE),
        ]
    )
    return rows.select(
        "place",
        *("account_id", "subscription_id", "at", "on", "coupon", "package"),
        *("account_redemptions", "all_redemptions", "packages"),
        asked_by="request_id",
        decision_id=pl.when(given).then(pl.format("{}/coupon", "request_id")).otherwise("request_id"),
        request_id=pl.when(~given).then("request_id"),
        kind=pl.when(given).then(pl.lit(DecisionKind.REDEEM)).otherwise("kind"),
        effective_on=pl.when(given).then("grid_start").otherwise("effective_on"),
        refusal=pl.coalesce(pl.when(pl.col("outcome") == Outcome.REFUSED).then("reason"), refusal),
        is_given=given,
    )


def joined_coupons(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """As `asked_coupons`, of the accounts of several currencies."""
    frames = list(parts)
    if len(frames) == 1:
        return frames[0]
    return pl.concat(frames).sort("at", "asked_by").with_columns(place=pl.int_range(pl.len(), dtype=pl.UInt32))


@skip_if_empty("asked")
def redemption_positions(asked: pl.DataFrame) -> pl.DataFrame:
    """What counts of an account for the redemptions of all accounts: POSITION_SCHEMA.

    The first redemptions that are valid by themselves, as many as an account may have, of coupons with a limit for all.
    """
    return (
        asked.filter(_IS_REDEEMED & pl.col("all_redemptions").is_not_null())
        .with_columns(nth=_nth())
        .filter(pl.col("nth") <= pl.col("account_redemptions"))
        .select(*_POSITION, "at", request_id="asked_by")
    )


@skip_if_empty("positions")
def exhausted_positions(positions: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """account_id, coupon, nth, sorted: the positions of all accounts that are beyond a coupon's limit.

    They are counted by instant and request_id.
    """
    limits = _coupons(catalogue).select("coupon", "all_redemptions")
    return (
        positions.sort("at", "request_id")
        .join(limits, on="coupon", maintain_order="left")
        .filter(pl.int_range(pl.len()).over("coupon") >= pl.col("all_redemptions"))
        .select(_POSITION)
        .sort(_POSITION)
    )


def redemptions(asked: pl.DataFrame, packages: pl.DataFrame, exhausted: pl.DataFrame) -> Redemptions:
    """Answer all requests that name a coupon.

    Parameters
    ----------
    asked
        As `asked_coupons`.
    packages
        subscription_id, billing_date, package: of the cycle that starts there, at least of subscriptions that redeem a
        coupon for some packages only.
    exhausted
        As `exhausted_positions`.
    """
    if asked.is_empty():
        return Redemptions(pl.DataFrame(schema=HOLDING_SCHEMA), pl.DataFrame(schema=ANSWER_SCHEMA))
    wrong = pl.col("refusal").is_null() & ~pl.col("is_given") & ~pl.col("packages").list.contains(pl.col("in_force"))
    judged = _with_package_in_force(asked, packages).with_columns(
        refusal=pl.coalesce(
            "refusal",
            pl.when((wrong & (pl.col("kind") == DecisionKind.REDEEM)).fill_null(value=False)).then(
                pl.lit(DecisionReason.NOT_FOR_THIS_PACKAGE)
            ),
        )
    )
    counted = judged.filter(_IS_REDEEMED).with_columns(nth=_nth())
    spent = counted.with_columns(nth=pl.min_horizontal("nth", "account_redemptions")).join(
        exhausted, on=_POSITION, how="semi"
    )["place"]
    many = counted.filter(pl.col("nth") > pl.col("account_redemptions"))["place"]
    judged = judged.with_columns(
        refusal=pl.coalesce(
            "refusal",
            pl.when(pl.col("place").is_in(spent.implode())).then(pl.lit(DecisionReason.COUPON_EXHAUSTED)),
            pl.when(pl.col("place").is_in(many.implode())).then(pl.lit(DecisionReason.ALREADY_REDEEMED)),
        )
    )
    held = _with_revocations(judged)
    without = (pl.col("kind") == DecisionKind.REVOKE) & ~pl.col("place").is_in(held["revoked_at"].implode())
    judged = judged.with_columns(
        refusal=pl.coalesce("refusal", pl.when(without).then(pl.lit(DecisionReason.NOT_REDEEMED)))
    )
    return Redemptions(_holdings(held), _answers(judged))


def _coupons(catalogue: Catalogue) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (
                *(coupon.name, coupon.redeem_until, coupon.account_redemptions, coupon.all_redemptions),
                None if coupon.packages is None else list(coupon.packages),
                coupon.is_sold,
            )
            for coupon in catalogue.coupons
        ],
        schema={
            "coupon": pl.String,
            "redeem_until": pl.Date,
            "account_redemptions": pl.Int64,
            "all_redemptions": pl.Int64,
            "packages": pl.List(pl.String),
            "is_sold": pl.Boolean,
        },
        orient="row",
    )


def _nth() -> pl.Expr:
    """The number of a redemption among those of its account and coupon, in the order of their requests."""
    return pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("account_id", "coupon", order_by="place")


@skip_if_empty("asked")
def _with_package_in_force(asked: pl.DataFrame, packages: pl.DataFrame) -> pl.DataFrame:
    """`asked` with in_force: the package on the day of the request, the first one before any billing date."""
    dated = packages.select("subscription_id", "billing_date", starts="package").sort("billing_date")
    return (
        asked.sort("on")
        .join_asof(
            dated,
            left_on="on",
            right_on="billing_date",
            by="subscription_id",
            strategy="backward",
            check_sortedness=False,
        )
        .sort("place")
        .with_columns(in_force=pl.coalesce("starts", "package"))
        .drop("starts", "billing_date")
    )


@skip_if_empty("judged")
def _with_revocations(judged: pl.DataFrame) -> pl.DataFrame:
    """The approved redemptions with the first later revocation of their coupon: revoked_at (its place), revoked_on."""
    revoking = judged.filter((pl.col("kind") == DecisionKind.REVOKE) & pl.col("refusal").is_null()).select(
        "subscription_id", "coupon", revoked_on="effective_on", revoked_at="place"
    )
    return (
        judged.filter(_IS_REDEEMED)
        .sort("place")
        .join_asof(
            revoking.sort("revoked_at"),
            left_on="place",
            right_on="revoked_at",
            by=["subscription_id", "coupon"],
            strategy="forward",
            coalesce=False,
            check_sortedness=False,
        )
    )


@skip_if_empty("held")
def _holdings(held: pl.DataFrame) -> pl.DataFrame:
    counts = pl.col("revoked_on").is_null() | (pl.col("effective_on") < pl.col("revoked_on"))
    return (
        held.filter(counts)
        .with_columns(request_id="asked_by")
        .select(HOLDING_SCHEMA.names())
        .sort("subscription_id", "at", "request_id")
    )


@skip_if_empty("judged")
def _answers(judged: pl.DataFrame) -> pl.DataFrame:
    is_approved = pl.col("refusal").is_null()
    approval = (
        pl.when(pl.col("kind") == DecisionKind.REDEEM)
        .then(pl.lit(DecisionReason.REDEEMED))
        .otherwise(pl.lit(DecisionReason.REVOKED))
    )
    return (
        judged.with_columns(
            outcome=pl.when(is_approved).then(pl.lit(Outcome.APPROVED)).otherwise(pl.lit(Outcome.REFUSED)),
            reason=pl.coalesce("refusal", approval),
            effective_on=pl.when(is_approved).then("effective_on"),
        )
        .select(ANSWER_SCHEMA.names())
        .sort("at", "decision_id")
    )
