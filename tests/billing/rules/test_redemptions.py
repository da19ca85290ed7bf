"""Coupons: who may redeem one, who holds it from when on, and what those are told who may not (rule 29)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.catalogue import Catalogue
from billing.model.columns import INSTANT
from billing.model.offers import Coupon
from billing.model.tables import DECISIONS
from billing.rules.decisions import month_decisions
from billing.rules.redemptions import (
    Redemptions,
    asked_coupons,
    exhausted_positions,
    redemption_positions,
    redemptions,
)
from billing.rules.subscriptions import read_lives
from billing.rules.terms import terms_frames
from billing.rules.withdrawals import without_withdrawn
from tests.sizes import sized

TEN = Decimal(10)
SPRING = Coupon("spring", "Spring offer", percent=TEN)
COUPONS = (
    SPRING,
    Coupon("twice", "Twice", percent=TEN, account_redemptions=2),
    Coupon("until_february", "Until February", percent=TEN, redeem_until=date(2026, 1, 31)),
    Coupon("for_silver", "For silver", percent=TEN, packages=("silver", "gold")),
    Coupon("two_in_all", "Two in all", percent=TEN, all_redemptions=2),
)
NO_PACKAGES = pl.DataFrame(schema={"subscription_id": pl.String, "billing_date": pl.Date, "package": pl.String})
SCHEMA: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "request_id": pl.String,
    "account_id": pl.String,
    "at": INSTANT,
    "on": pl.Date,
    "kind": pl.String,
    "channel": pl.String,
    "package": pl.String,
    "term": pl.String,
    "trial_days": pl.Int32,
    "brand": pl.String,
    "last4": pl.String,
    "withdraws": pl.String,
    "billed_through": pl.Date,
    "usage_from": pl.Date,
    "coupon": pl.String,
}
CHANNELS = {"cancel": "email", "hold": "support", "resume": "support", "revoke": "support", "withdraw": "support"}
Row = Mapping[str, object]


def request(on: str, kind: str, coupon: str | None = None, account: str = "acme", **more: object) -> Row:
    """A request at noon of a day in 2026; `name` is its id, `minutes` puts it later."""
    day = date.fromisoformat(f"2026-{on}")
    minutes = more.pop("minutes", 0)
    assert isinstance(minutes, int)
    row: dict[str, object] = {
        "request_id": more.pop("name", f"{account}-{on}-{kind}-{coupon or ''}"),
        "account_id": account,
        "at": datetime.combine(day, time(12), UTC) + timedelta(minutes=minutes),
        "on": day,
        "kind": kind,
        "channel": CHANNELS.get(kind, "self_service"),
        "term": "monthly",
        "trial_days": 0,
        "coupon": coupon,
    }
    return row | more


def bought(coupon: str | None = None, account: str = "acme", package: str = "starter", **more: object) -> Row:
    return request("01-10", "subscribe", coupon, account, package=package, **more)


def redeemed(
    catalogue: Catalogue, *rows: Row, packages: Sequence[tuple[str, str, str]] = (), coupons: Sequence[Coupon] = COUPONS
) -> Redemptions:
    """What becomes of requests; `packages` says since when a subscription is in which package."""
    catalogue = replace(catalogue, coupons=tuple(coupons))
    made = pl.DataFrame(list(rows), schema=SCHEMA).sort("at", "request_id")
    requests, _ = without_withdrawn(made, pl.Series(dtype=pl.String))
    lives = read_lives(requests, catalogue, terms_frames(catalogue))
    asked = asked_coupons(made, lives.answers, lives.subscriptions, catalogue)
    dated = [(f"{account}/2026-01-10", date.fromisoformat(f"2026-{on}"), name) for account, on, name in packages]
    in_force = pl.DataFrame(dated, schema=NO_PACKAGES.schema, orient="row")
    return redemptions(asked, in_force, exhausted_positions(redemption_positions(asked), catalogue))


def held(found: Redemptions) -> list[tuple[str, str, str | None]]:
    """coupon, from and until of all holdings."""
    days = found.holdings.select("coupon", pl.col("effective_on", "revoked_on").dt.to_string("%m-%d"))
    return list(days.iter_rows())


def reasons(found: Redemptions) -> list[tuple[str, str]]:
    return list(found.answers.select("outcome", "reason").iter_rows())


# --- from when on a coupon counts -------------------------------------------------------------------------------------


def test_a_coupon_given_with_a_subscription_holds_from_billing_date_0(ref_1: Catalogue) -> None:
    found = redeemed(ref_1, bought("spring", name="r1"))
    assert held(found) == [("spring", "01-10", None)]
    answer = found.answers.row(0, named=True)
    assert (answer["decision_id"], answer["request_id"], answer["kind"]) == ("r1/coupon", None, "redeem")
    assert (answer["outcome"], answer["reason"]) == ("approved", "redeemed")
    assert found.holdings["request_id"].to_list() == ["r1"]


def test_in_a_trial_the_package_subscribed_to_is_in_force(ref_1: Catalogue) -> None:
    asked = request("01-15", "redeem", "for_silver")
    assert reasons(redeemed(ref_1, bought(trial_days=14, package="silver"), asked)) == [("approved", "redeemed")]
    assert reasons(redeemed(ref_1, bought(trial_days=14), asked)) == [("refused", "not_for_this_package")]


def test_with_a_trial_it_holds_from_the_end_of_the_trial(ref_1: Catalogue) -> None:
    found = redeemed(ref_1, bought("spring", trial_days=14), request("01-15", "redeem", "twice"))
    assert held(found) == [("spring", "01-24", None), ("twice", "01-24", None)]


@pytest.mark.parametrize(
    ("on", "counts_from"), [("01-10", "02-10"), ("02-09", "02-10"), ("02-10", "03-10"), ("02-11", "03-10")]
)
def test_a_coupon_redeemed_later_holds_from_the_next_billing_date(ref_1: Catalogue, on: str, counts_from: str) -> None:
    found = redeemed(ref_1, bought(), request(on, "redeem", "spring", minutes=1))
    assert held(found) == [("spring", counts_from, None)]
    assert reasons(found) == [("approved", "redeemed")]


def test_a_revoked_coupon_counts_to_the_next_billing_date(ref_1: Catalogue) -> None:
    found = redeemed(ref_1, bought("spring"), request("02-15", "revoke", "spring"))
    assert held(found) == [("spring", "01-10", "03-10")]
    assert reasons(found) == [("approved", "redeemed"), ("approved", "revoked")]


def test_a_coupon_that_is_revoked_before_it_counts_never_counts(ref_1: Catalogue) -> None:
    found = redeemed(ref_1, bought(), request("01-20", "redeem", "spring"), request("01-21", "revoke", "spring"))
    assert held(found) == []
    assert reasons(found) == [("approved", "redeemed"), ("approved", "revoked")]


def test_one_revocation_takes_every_redemption_of_its_coupon_and_no_other(ref_1: Catalogue) -> None:
    found = redeemed(
        ref_1,
        bought("twice"),
        request("01-20", "redeem", "twice"),
        request("01-21", "redeem", "spring"),
        request("02-15", "revoke", "twice"),
    )
    assert held(found) == [("twice", "01-10", "03-10"), ("twice", "02-10", "03-10"), ("spring", "02-10", None)]


def test_a_coupon_ends_with_its_subscription_and_a_new_one_has_none(ref_1: Catalogue) -> None:
    found = redeemed(
        ref_1,
        bought("spring"),
        request("02-20", "cancel"),
        request("04-01", "subscribe", package="starter"),
        request("04-05", "revoke", "spring"),
    )
    assert found.holdings["subscription_id"].to_list() == ["acme/2026-01-10"]
    assert reasons(found)[1] == ("refused", "not_redeemed")


# --- who may redeem one -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ([bought(), request("01-20", "redeem", "nothing")], "unknown_coupon"),
        ([bought("nothing")], "unknown_coupon"),
        ([bought(), request("01-20", "revoke", "nothing")], "unknown_coupon"),
        ([bought(), request("01-20", "revoke", "spring")], "not_redeemed"),
        ([bought(), request("02-01", "redeem", "until_february")], "coupon_expired"),
        ([request("02-01", "subscribe", "until_february", package="starter")], "coupon_expired"),
        ([bought(), request("01-20", "redeem", "for_silver")], "not_for_this_package"),
        ([bought("for_silver")], "not_for_this_package"),
        ([request("01-09", "redeem", "spring"), bought()], "no_live_subscription"),
        ([bought(), request("01-12", "cancel"), request("01-13", "redeem", "spring")], "no_live_subscription"),
    ],
)
def test_what_stands_in_the_way_is_said(ref_1: Catalogue, requests: Sequence[Row], reason: str) -> None:
    found = redeemed(ref_1, *requests)
    assert reasons(found) == [("refused", reason)]
    assert held(found) == []


def test_only_support_revokes_and_anybody_redeems(ref_1: Catalogue) -> None:
    asked = [request("01-20", "redeem", "twice", channel=channel) for channel in ("email", "support")]
    asked = [{**row, "request_id": str(index)} for index, row in enumerate(asked)]
    found = redeemed(ref_1, bought(), *asked, request("01-21", "revoke", "twice", channel="email"))
    assert reasons(found) == [("approved", "redeemed"), ("approved", "redeemed"), ("refused", "wrong_channel")]


def test_a_coupon_is_redeemed_up_to_its_last_day_inclusive(ref_1: Catalogue) -> None:
    found = redeemed(ref_1, bought(), request("01-31", "redeem", "until_february"))
    assert held(found) == [("until_february", "02-10", None)]


def test_the_package_in_force_on_the_day_of_the_request_counts(ref_1: Catalogue) -> None:
    asked = [request(day, "redeem", "for_silver") for day in ("02-09", "02-10")]
    found = redeemed(ref_1, bought(), *asked, packages=[("acme", "01-10", "starter"), ("acme", "02-10", "silver")])
    # What was refused for the package is no redemption.
    assert reasons(found) == [("refused", "not_for_this_package"), ("approved", "redeemed")]
    assert held(found) == [("for_silver", "03-10", None)]


def test_an_account_redeems_a_coupon_as_often_as_it_may(ref_1: Catalogue) -> None:
    again = [request(day, "redeem", "twice") for day in ("02-01", "03-01")]
    found = redeemed(ref_1, bought("twice"), *again, request("02-01", "redeem", "spring"))
    assert reasons(found) == [
        ("approved", "redeemed"),
        ("approved", "redeemed"),
        ("approved", "redeemed"),
        ("refused", "already_redeemed"),
    ]


def test_a_revoked_coupon_is_redeemed_all_the_same(ref_1: Catalogue) -> None:
    later = [request("01-20", "revoke", "spring"), request("01-21", "redeem", "spring")]
    found = redeemed(ref_1, bought("spring"), *later)
    assert reasons(found)[-1] == ("refused", "already_redeemed")


def test_redemptions_of_all_accounts_are_counted_by_instant_and_request(ref_1: Catalogue) -> None:
    asked = [
        bought("two_in_all", "late", name="3", minutes=1),
        bought("two_in_all", "b", name="2"),
        bought("two_in_all", "a", name="1"),
    ]
    found = redeemed(ref_1, *asked)
    assert found.holdings["account_id"].to_list() == ["a", "b"]
    assert reasons(found)[2] == ("refused", "coupon_exhausted")


def test_refused_requests_take_no_redemption_from_others(ref_1: Catalogue) -> None:
    twice = [bought("two_in_all", "a"), request("01-11", "redeem", "two_in_all", "a")]
    nobody = request("01-11", "redeem", "two_in_all", "b")
    found = redeemed(ref_1, *twice, nobody, bought(account="c"), request("01-12", "redeem", "two_in_all", "c"))
    assert found.holdings["account_id"].to_list() == ["a", "c"]


def test_who_comes_too_late_is_told_so_each_time(ref_1: Catalogue) -> None:
    others = [bought("two_in_all", account) for account in ("a", "b")]
    late = [bought("two_in_all", "c", minutes=1), request("01-11", "redeem", "two_in_all", "c")]
    assert [reason for _, reason in reasons(redeemed(ref_1, *others, *late))][2:] == ["coupon_exhausted"] * 2


def test_a_request_that_is_taken_back_was_never_made(ref_1: Catalogue) -> None:
    asked = request("01-20", "redeem", "spring", name="r1")
    found = redeemed(ref_1, bought(), asked, request("01-21", "withdraw", withdraws="r1"))
    assert (held(found), reasons(found)) == ([], [])


def test_the_coupon_of_a_refused_subscription_has_no_answer_of_its_own(ref_1: Catalogue) -> None:
    found = redeemed(ref_1, bought(), request("01-20", "subscribe", "spring", package="silver"))
    assert reasons(found) == []


def test_a_held_subscription_may_redeem_and_keeps_its_coupon_when_the_hold_is_undone(ref_1: Catalogue) -> None:
    found = redeemed(
        ref_1, bought(), request("01-20", "hold"), request("01-21", "redeem", "spring"), request("01-22", "resume")
    )
    assert held(found) == [("spring", "02-10", None)]


# --- words ------------------------------------------------------------------------------------------------------------


def test_the_answers_stand_among_the_decisions_of_the_month_of_the_request(ref_1: Catalogue) -> None:
    catalogue = replace(ref_1, coupons=COUPONS)
    rows = [bought("spring", name="r1"), request("02-05", "redeem", "spring", name="r2")]
    made = pl.DataFrame(rows, schema=SCHEMA)
    lives = read_lives(made, catalogue, terms_frames(catalogue))
    found = redeemed(ref_1, *rows)
    none = pl.DataFrame(schema={"subscription_id": pl.String, "refunded": pl.Decimal(38, 4)})
    changes, later = (
        month_decisions(month, DECISIONS.empty(), lives.answers, none, "2026-01", catalogue, found.answers)
        for month in ("2026-01", "2026-02")
    )
    assert changes.select("decision_id", "request_id", "kind", "coupon", "reason").rows() == [
        ("r1", "r1", "subscribe", None, "subscribed"),
        ("r1/coupon", None, "redeem", "spring", "redeemed"),
    ]
    assert changes["explanation"].to_list()[1] == "The coupon Spring offer lowers your documents from 2026-01-10 on."
    assert later.select("decision_id", "outcome", "reason", "explanation").rows() == [
        ("r2", "refused", "already_redeemed", "You have redeemed the coupon Spring offer already.")
    ]


# --- laws -------------------------------------------------------------------------------------------------------------

_ACCOUNTS = ("a", "b", "c", "d")


@settings(max_examples=sized(usual=8, long=60))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(_ACCOUNTS),
            st.sampled_from(["redeem", "redeem", "revoke"]),
            st.sampled_from(["spring", "twice", "two_in_all"]),
            st.integers(11, 28),
        ),
        max_size=14,
    )
)
def test_no_limit_is_passed_and_shards_agree(ref_1: Catalogue, drawn: list[tuple[str, str, str, int]]) -> None:
    rows = [bought(account=account) for account in _ACCOUNTS]
    rows += [
        request(f"01-{day}", kind, coupon, account, name=f"r{index:02d}")
        for index, (account, kind, coupon, day) in enumerate(drawn)
    ]
    whole = redeemed(ref_1, *rows)
    approved = whole.answers.filter((pl.col("kind") == "redeem") & (pl.col("outcome") == "approved"))
    for coupon in COUPONS:
        own = approved.filter(pl.col("coupon") == coupon.name)
        assert own.height <= (coupon.all_redemptions or own.height)
        assert own.group_by("account_id").len()["len"].max() in (None, *range(1, coupon.account_redemptions + 1))
    assert whole.answers.height == len(drawn), "every request has one answer"
    # A shard knows its own requests, and which positions are beyond the limit.
    catalogue = replace(ref_1, coupons=COUPONS)
    terms = terms_frames(catalogue)
    parts = []
    for account in _ACCOUNTS:
        made = pl.DataFrame([row for row in rows if row["account_id"] == account], schema=SCHEMA)
        made = made.sort("at", "request_id")
        lives = read_lives(made, catalogue, terms)
        parts.append(asked_coupons(made, lives.answers, lives.subscriptions, catalogue))
    exhausted = exhausted_positions(pl.concat(map(redemption_positions, parts)), catalogue)
    shards = [redemptions(part, NO_PACKAGES, exhausted) for part in parts]
    assert pl.concat([shard.answers for shard in shards]).sort("at", "decision_id").equals(whole.answers)
    assert pl.concat([shard.holdings for shard in shards]).equals(whole.holdings)
