"""The lives of subscriptions: every kind of request on both sides of its boundaries, and random histories against an
oracle that follows one account at a time in plain Python."""

import calendar
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import TypeVar

import polars as pl
import pytest

from billing.model.calendar import months_between
from billing.model.catalogue import Catalogue
from billing.model.columns import INSTANT
from billing.rules.cycles import access_spans, month_cycles
from billing.rules.subscriptions import Lives, read_lives
from billing.rules.terms import terms_frames
from tests.sizes import sized

ONE_DAY = timedelta(days=1)
MONTHS = months_between("2026-01", "2029-01")
HALF_A_YEAR = months_between("2026-01", "2026-07")
ACCOUNTS = 300
HORIZON = date(2029, 2, 1)
NO_SUSPENSIONS = pl.DataFrame(schema={"account_id": pl.String, "suspended_from": INSTANT, "suspended_until": INSTANT})
CHANNEL = {"cancel": "email", "subscribe": "self_service", "upgrade": "self_service", "change_card": "self_service"}


@dataclass(frozen=True)
class Request:
    """One request; what is left out is what a customer would usually do."""

    on: date
    kind: str
    package: str | None = None
    channel: str = ""
    term: str = "monthly"
    trial_days: int = 0
    brand: str | None = "Visa"
    last4: str | None = "4242"
    billed_through: date | None = None
    usage_from: date | None = None

    @property
    def sent_by(self) -> str:
        return self.channel or CHANNEL.get(self.kind, "support")


def requests_frame(histories: Mapping[str, Sequence[Request]]) -> pl.DataFrame:
    """As `Inputs.requests`; request n of an account is made n seconds after noon."""
    rows = [
        (
            f"{account_id}-{turn:03d}",
            account_id,
            datetime.combine(request.on, time(12), tzinfo=UTC) + timedelta(seconds=turn),
            request.on,
            request.kind,
            request.sent_by,
            request.package,
            request.term,
            request.trial_days,
            None,
            request.brand,
            request.last4,
            request.billed_through,
            request.usage_from,
        )
        for account_id, history in histories.items()
        for turn, request in enumerate(history)
    ]
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "request_id": pl.String,
        "account_id": pl.String,
        "at": INSTANT,
        "on": pl.Date,
        "kind": pl.String,
        "channel": pl.String,
        "package": pl.String,
        "term": pl.String,
        "trial_days": pl.Int32,
        "reason": pl.String,
        "brand": pl.String,
        "last4": pl.String,
        "billed_through": pl.Date,
        "usage_from": pl.Date,
    }
    return pl.DataFrame(rows, schema=schema, orient="row").sort("at", "request_id")


def lives_of(histories: Mapping[str, Sequence[Request]], catalogue: Catalogue) -> Lives:
    return read_lives(requests_frame(histories), catalogue, terms_frames(catalogue))


@dataclass(frozen=True)
class Story:
    """What came of a subscription, as its customer sees it."""

    fees: list[date]
    hold_fees: list[date]
    billing_dates: list[date]
    access: list[date]


def stories(lives: Lives, catalogue: Catalogue, months: Sequence[str] = MONTHS) -> dict[str, Story]:
    """Every subscription's fees, billing dates and days of billable access, as the cycles have them."""
    subscriptions = lives.subscriptions
    dated = pl.concat([month_cycles(month, subscriptions, NO_SUSPENSIONS, catalogue).cycles for month in months])
    found = {identity: Story([], [], [], []) for identity in subscriptions["subscription_id"]}
    for identity, day, share, hold_fee in (
        dated.sort("billing_date")
        .select("subscription_id", "billing_date", "fee_share_numerator", "hold_fee_due")
        .iter_rows()
    ):
        found[identity].billing_dates.append(day)
        if share > 0:
            found[identity].fees.append(day)
        if hold_fee:
            found[identity].hold_fees.append(day)
    spans = access_spans(subscriptions, NO_SUSPENSIONS, catalogue).with_columns(
        pl.col("span_start", "span_end").dt.convert_time_zone(catalogue.time_zone).dt.date()
    )
    for identity, first, until in spans.select("subscription_id", "span_start", "span_end").iter_rows():
        last = until or HORIZON
        found[identity].access.extend(first + timedelta(days=day) for day in range((last - first).days))
    return found


def life(
    *history: Request, catalogue: Catalogue, months: Sequence[str] = HALF_A_YEAR
) -> tuple[list[tuple[str, str]], list[Story]]:
    """One account's answers (outcome and reason) in order, and the story of each of its subscriptions."""
    lives = lives_of({"acme": history}, catalogue)
    return _in_order(lives), list(stories(lives, catalogue, months).values())


def answers_to(*history: Request, catalogue: Catalogue) -> list[tuple[str, str]]:
    """One account's answers (outcome and reason) in order."""
    return _in_order(lives_of({"acme": history}, catalogue))


def _in_order(lives: Lives) -> list[tuple[str, str]]:
    return [(outcome, reason) for outcome, reason in lives.answers.select("outcome", "reason").iter_rows()]


def days(*texts: str) -> list[date]:
    return [date.fromisoformat(text) for text in texts]


def bought(on: str = "2026-01-10", package: str = "starter", **more: object) -> Request:
    return replace(Request(date.fromisoformat(on), "subscribe", package), **more)  # type: ignore[arg-type] # fields of it


def asks(kind: str, on: str, package: str | None = None, **more: object) -> Request:
    return replace(Request(date.fromisoformat(on), kind, package), **more)  # type: ignore[arg-type] # fields of it


# --- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "reason", "fees", "last"),
    [
        ("2026-02-27", "in_time", ["2026-01-10", "2026-02-10"], "2026-03-10"),  # 11 days
        ("2026-02-28", "in_time", ["2026-01-10", "2026-02-10"], "2026-03-10"),  # 10 days (S11)
        ("2026-03-01", "late_notice", ["2026-01-10", "2026-02-10", "2026-03-10"], "2026-04-10"),  # 9 days (S12)
        ("2026-03-09", "late_notice", ["2026-01-10", "2026-02-10", "2026-03-10"], "2026-04-10"),
        # on a billing date: its fee is due already, and the notice is for the next one
        ("2026-03-10", "in_time", ["2026-01-10", "2026-02-10", "2026-03-10"], "2026-04-10"),
    ],
)
def test_a_cancellation_is_in_time_ten_days_before_the_next_fee(
    ref_1: Catalogue, asked: str, reason: str, fees: list[str], last: str
) -> None:
    answers, (story,) = life(bought(), asks("cancel", asked), catalogue=ref_1)
    assert answers == [("approved", "subscribed"), ("approved", reason)]
    assert story.fees == days(*fees)
    assert story.billing_dates[-1] == date.fromisoformat(last)
    assert story.access[-1] == date.fromisoformat(asked)


def test_with_access_to_the_end_of_the_paid_cycle_a_late_notice_pays_for_one_more(
    ref_1_with: Callable[..., Catalogue],
) -> None:
    catalogue = ref_1_with(access_after_cancellation="end_of_paid_cycle")
    _, (in_time,) = life(bought(), asks("cancel", "2026-02-28"), catalogue=catalogue)
    _, (late,) = life(bought(), asks("cancel", "2026-03-01"), catalogue=catalogue)
    assert (in_time.access[-1], in_time.billing_dates[-1]) == (date(2026, 3, 9), date(2026, 3, 10))
    assert (late.access[-1], late.billing_dates[-1]) == (date(2026, 4, 9), date(2026, 4, 10))


def test_a_cancellation_counts_by_email_only(ref_1: Catalogue) -> None:
    answers, (story,) = life(
        bought(),
        asks("cancel", "2026-02-01", channel="self_service"),
        asks("cancel", "2026-02-02", channel="support"),
        catalogue=ref_1,
    )
    assert answers[1:] == [("refused", "wrong_channel")] * 2
    assert len(story.fees) == len(HALF_A_YEAR)


def test_cancelling_in_a_trial_never_charges(ref_1: Catalogue) -> None:
    answers, (story,) = life(bought(trial_days=14), asks("cancel", "2026-01-23"), catalogue=ref_1)
    assert answers[1] == ("approved", "cancelled_in_trial")
    assert story == Story([], [], [], [])


def test_after_a_cancellation_there_is_nothing_left_to_cancel_change_or_hold(ref_1: Catalogue) -> None:
    answers = answers_to(
        bought(),
        asks("cancel", "2026-02-01"),
        asks("cancel", "2026-02-02"),
        asks("upgrade", "2026-02-02", "silver"),
        asks("hold", "2026-02-02"),
        catalogue=ref_1,
    )
    assert answers[2:] == [
        ("refused", "already_ended"),
        ("refused", "no_live_subscription"),
        ("refused", "no_live_subscription"),
    ]


def test_a_notice_longer_than_a_cycle_still_charges_the_yearly_fee_that_it_misses(
    ref_1_with: Callable[..., Catalogue],
) -> None:
    catalogue = ref_1_with(cancellation_notice_days=90)
    _, (story,) = life(bought(term="yearly"), asks("cancel", "2026-11-01"), catalogue=catalogue, months=MONTHS)
    assert story.fees == days("2026-01-10", "2027-01-10")
    assert story.billing_dates[-1] == date(2027, 2, 10)


# --- subscribing ------------------------------------------------------------------------------------------------------


def test_a_live_subscription_admits_no_second_one(ref_1: Catalogue) -> None:
    answers, found = life(bought(), bought("2026-01-10", "gold"), bought("2026-05-01", "gold"), catalogue=ref_1)
    assert answers[1:] == [("refused", "already_subscribed")] * 2
    assert len(found) == 1


def test_subscribing_again_after_a_cancellation_starts_anew_and_leaves_the_shared_day_to_the_old_one(
    ref_1: Catalogue,
) -> None:
    _, (old, new) = life(bought(), asks("cancel", "2026-02-28"), bought("2026-02-28", "gold"), catalogue=ref_1)
    assert old.access[-1] == date(2026, 2, 28)
    assert new.access[0] == date(2026, 3, 1)
    assert old.billing_dates[-1] == date(2026, 3, 10)
    assert new.fees[:3] == days("2026-02-28", "2026-03-28", "2026-04-28")


def test_nobody_subscribes_twice_on_one_day(ref_1: Catalogue) -> None:
    answers, found = life(bought(), asks("cancel", "2026-01-10"), bought("2026-01-10", "gold"), catalogue=ref_1)
    assert answers[2] == ("refused", "already_subscribed")
    assert len(found) == 1


@pytest.mark.parametrize(
    ("request_", "reason", "parked"),
    [
        (bought(package="bronze"), "unknown_package", True),
        (bought("2025-12-31"), "package_not_sold_yet", True),
        (bought("2023-12-31", "classic"), "before_billing_start", True),
        (bought(package="classic", term="yearly"), "no_yearly_price", False),
    ],
)
def test_what_cannot_be_bought_is_refused_and_parks_the_account_when_the_catalogue_may_be_wrong(
    ref_1: Catalogue, request_: Request, reason: str, parked: bool
) -> None:
    lives = lives_of({"acme": [request_]}, selling(ref_1))
    assert lives.answers.select("outcome", "reason").row(0) == ("refused", reason)
    assert lives.subscriptions.is_empty()
    assert lives.parked.select("account_id", "reason").rows() == ([("acme", reason)] if parked else [])


def test_a_yearly_term_is_not_offered_where_everyone_is_billed_on_the_first(
    ref_1_with: Callable[..., Catalogue],
) -> None:
    answers = answers_to(bought(term="yearly"), catalogue=ref_1_with(billing_anchor="first_of_month"))
    assert answers == [("refused", "yearly_not_offered")]


def test_s10_the_billing_dates_count_from_the_end_of_the_trial(ref_1: Catalogue) -> None:
    _, (story,) = life(bought("2026-01-17", trial_days=14), catalogue=ref_1)
    assert story.billing_dates[:5] == days("2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31")
    assert story.access[0] == date(2026, 1, 31)


# --- holding and resuming ---------------------------------------------------------------------------------------------


def test_s14_a_hold_in_time_ends_the_fees_and_a_late_resumption_starts_anew(ref_1: Catalogue) -> None:
    answers, (held, resumed) = life(
        bought("2026-02-15", "silver"), asks("hold", "2026-04-01"), asks("resume", "2026-06-20"), catalogue=ref_1
    )
    assert answers[1:] == [("approved", "in_time"), ("approved", "new_subscription")]
    assert held.fees == days("2026-02-15", "2026-03-15")
    assert held.billing_dates == days("2026-02-15", "2026-03-15", "2026-04-15")
    assert held.access[-1] == date(2026, 4, 1)
    assert resumed.fees[:2] == days("2026-06-20", "2026-07-20")


@pytest.mark.parametrize(
    ("held_on", "resumed_on", "reason"),
    [
        ("2026-02-28", "2026-03-09", "hold_undone"),  # in time: the last paid day
        ("2026-02-28", "2026-03-10", "new_subscription"),  # and the day after
        ("2026-03-01", "2026-04-09", "hold_undone"),  # late: one more cycle is paid
        ("2026-03-01", "2026-04-10", "new_subscription"),
        ("2026-03-01", "2026-03-01", "hold_undone"),
    ],
)
def test_resuming_within_the_paid_cycle_undoes_a_hold(
    ref_1: Catalogue, held_on: str, resumed_on: str, reason: str
) -> None:
    answers, found = life(bought(), asks("hold", held_on), asks("resume", resumed_on), catalogue=ref_1)
    assert answers[2] == ("approved", reason)
    first, last = date.fromisoformat(held_on), date.fromisoformat(resumed_on)
    pause = [first + timedelta(days=day) for day in range(1, (last - first).days)]
    if reason == "hold_undone":
        (story,) = found
        assert len(story.fees) == len(HALF_A_YEAR)
        assert not set(pause) & set(story.access)
        assert {first, last} <= set(story.access)
    else:
        old, new = found
        assert old.access[-1] == first
        assert old.fees[-1] < last
        assert new.fees[0] == new.access[0] == last


def test_holding_again_or_resuming_what_is_not_held_is_refused(ref_1: Catalogue) -> None:
    answers = answers_to(
        bought(),
        asks("resume", "2026-01-12"),
        asks("hold", "2026-01-15", channel="email"),
        asks("hold", "2026-01-15"),
        asks("hold", "2026-01-16"),
        asks("upgrade", "2026-01-17", "silver"),
        asks("resume", "2026-01-18", channel="self_service"),
        catalogue=ref_1,
    )
    assert [reason for _, reason in answers[1:]] == [
        "not_held",
        "wrong_channel",
        "in_time",
        "already_held",
        "on_hold",
        "wrong_channel",
    ]


def test_with_a_hold_fee_a_held_subscription_keeps_its_billing_dates_until_it_is_resumed(
    ref_1_with: Callable[..., Catalogue],
) -> None:
    catalogue = ref_1_with(hold_fee=Decimal("5.00"))
    _, (held, resumed) = life(bought(), asks("hold", "2026-02-20"), asks("resume", "2026-05-10"), catalogue=catalogue)
    assert held.fees == days("2026-01-10", "2026-02-10")
    # the fee of the new subscription pays for the day on which it starts
    assert held.hold_fees == days("2026-03-10", "2026-04-10")
    assert resumed.fees[:2] == days("2026-05-10", "2026-06-10")


def test_what_was_on_hold_when_it_was_billed_stays_so_when_it_is_cancelled_later(
    ref_1_with: Callable[..., Catalogue],
) -> None:
    catalogue = ref_1_with(hold_fee=Decimal("5.00"))
    lives = lives_of({"acme": [bought(), asks("hold", "2026-02-20"), asks("cancel", "2026-05-02")]}, catalogue)
    dated = [month_cycles(month, lives.subscriptions, NO_SUSPENSIONS, catalogue).cycles for month in HALF_A_YEAR]
    statuses = dict(pl.concat(dated).select("billing_date", "status").iter_rows())
    assert list(statuses) == days("2026-01-10", "2026-02-10", "2026-03-10", "2026-04-10", "2026-05-10")
    # cancelled eight days before 05-10, which is late: the hold fee of 05-10 is the last one
    assert list(statuses.values()) == ["active", "active", "held", "held", "cancelled"]


@pytest.mark.parametrize(
    ("held_on", "fees", "first_hold_fee"),
    [("2026-11-01", ["2026-01-10"], "2027-01-10"), ("2027-01-05", ["2026-01-10", "2027-01-10"], "2028-01-10")],
)
def test_a_hold_fee_begins_when_the_paid_year_is_over(
    ref_1_with: Callable[..., Catalogue], held_on: str, fees: list[str], first_hold_fee: str
) -> None:
    catalogue = ref_1_with(hold_fee=Decimal("5.00"))
    _, (story,) = life(bought(term="yearly"), asks("hold", held_on), catalogue=catalogue, months=MONTHS)
    assert story.fees == days(*fees)
    assert story.hold_fees[0] == date.fromisoformat(first_hold_fee)


# --- refunds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bought_on", "asked", "reason"),
    [
        ("2026-01-10", "2026-01-10", "within_refund_window"),
        ("2026-01-10", "2026-02-09", "within_refund_window"),  # day 30 (S13), the last of the first cycle
        ("2026-01-10", "2026-02-10", "not_first_cycle"),
        ("2026-01-31", "2026-02-27", "within_refund_window"),
        ("2026-01-31", "2026-02-28", "not_first_cycle"),  # day 28: the second billing date comes first
    ],
)
def test_a_refund_is_for_the_first_cycle(ref_1: Catalogue, bought_on: str, asked: str, reason: str) -> None:
    answers, (story,) = life(bought(bought_on), asks("refund", asked), catalogue=ref_1)
    assert answers[1] == ("approved" if reason == "within_refund_window" else "refused", reason)
    if answers[1][0] == "approved":
        assert story.fees == [date.fromisoformat(bought_on)]
        assert story.access[-1] == date.fromisoformat(asked)
        assert len(story.billing_dates) == 2


@pytest.mark.parametrize(
    ("asked", "reason"), [("2026-01-20", "within_refund_window"), ("2026-01-21", "refund_window_over")]
)
def test_a_refund_comes_too_late_after_the_refund_window(
    ref_1_with: Callable[..., Catalogue], asked: str, reason: str
) -> None:
    answers = answers_to(bought(), asks("refund", asked), catalogue=ref_1_with(refund_window_days=10))
    assert answers[1][1] == reason


def test_a_trial_does_not_shorten_the_refund_window(ref_1: Catalogue) -> None:
    trial = bought(trial_days=14)
    assert answers_to(trial, asks("refund", "2026-01-23"), catalogue=ref_1)[1] == ("refused", "nothing_paid")
    assert answers_to(trial, asks("refund", "2026-02-23"), catalogue=ref_1)[1] == ("approved", "within_refund_window")
    assert answers_to(trial, asks("refund", "2026-02-24"), catalogue=ref_1)[1] == ("refused", "not_first_cycle")


def test_a_refund_is_given_once_by_support_and_never_for_a_year_or_a_resumed_subscription(ref_1: Catalogue) -> None:
    twice = [bought(), asks("refund", "2026-01-12"), asks("refund", "2026-01-13")]
    assert answers_to(*twice, catalogue=ref_1)[2] == ("refused", "already_refunded")
    mailed = asks("refund", "2026-01-12", channel="email")
    assert answers_to(bought(), mailed, catalogue=ref_1)[1] == ("refused", "wrong_channel")
    yearly = [bought(term="yearly"), asks("refund", "2026-01-12")]
    assert answers_to(*yearly, catalogue=ref_1)[1] == ("refused", "yearly_term")
    resumed = [bought(), asks("hold", "2026-01-20"), asks("resume", "2026-03-01"), asks("refund", "2026-03-02")]
    assert answers_to(*resumed, catalogue=ref_1)[3] == ("refused", "no_refund_window")
    assert answers_to(asks("refund", "2026-03-02"), catalogue=ref_1) == [("refused", "no_subscription")]


def test_a_refund_overrides_the_notice_of_an_earlier_cancellation(ref_1: Catalogue) -> None:
    answers, (story,) = life(bought(), asks("cancel", "2026-02-05"), asks("refund", "2026-02-08"), catalogue=ref_1)
    assert answers[1:] == [("approved", "late_notice"), ("approved", "within_refund_window")]
    assert story.fees == days("2026-01-10")


# --- package changes --------------------------------------------------------------------------------------------------


def test_a_package_change_waits_for_the_next_billing_date(ref_1: Catalogue) -> None:
    lives = lives_of(
        {
            "acme": [bought(), asks("upgrade", "2026-02-09", "silver"), asks("upgrade", "2026-02-10", "gold")],
            "trial": [bought(trial_days=60), asks("upgrade", "2026-01-20", "silver")],
        },
        ref_1,
    )
    asked = lives.answers.filter(pl.col("kind") == "upgrade").sort("account_id", "at")
    assert asked["outcome"].to_list() == ["pending"] * 3
    # one made on a billing date comes after that date's fee; one made in a trial applies when the trial ends
    assert asked["effective_on"].to_list() == days("2026-02-10", "2026-03-10", "2026-03-11")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("cancel", "voided_by_cancellation"), ("hold", "voided_by_hold"), ("refund", "voided_by_refund")],
)
def test_a_pending_package_change_is_void_when_the_subscription_stops_before_it(
    ref_1: Catalogue, kind: str, reason: str
) -> None:
    stopped = answers_to(bought(), asks("upgrade", "2026-01-20", "silver"), asks(kind, "2026-02-09"), catalogue=ref_1)
    assert stopped[1] == ("superseded", reason)


def test_a_package_change_that_has_taken_effect_outlives_a_later_cancellation(ref_1: Catalogue) -> None:
    answers = answers_to(
        bought(), asks("upgrade", "2026-01-20", "silver"), asks("cancel", "2026-02-10"), catalogue=ref_1
    )
    assert answers[1] == ("pending", "pending")


def test_a_downgrade_goes_through_support(ref_1: Catalogue) -> None:
    answers = answers_to(
        bought(package="silver"),
        asks("downgrade", "2026-01-20", "starter", channel="self_service"),
        asks("downgrade", "2026-01-20", "starter"),
        catalogue=ref_1,
    )
    assert answers[1:] == [("refused", "wrong_channel"), ("pending", "pending")]


# --- everything else --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("brand", ["visa", "VISA", "Master Card", "MasterCard", "American Express", "AmEx", "Discover"])
def test_accepted_card_brands_are_known_however_they_are_spelt(ref_1: Catalogue, brand: str) -> None:
    assert answers_to(asks("change_card", "2026-01-20", brand=brand), catalogue=ref_1) == [("approved", "card_changed")]


@pytest.mark.parametrize(
    ("brand", "last4", "reason"),
    [
        ("Diners Club", "1234", "card_brand_not_accepted"),
        (None, "1234", "card_brand_not_accepted"),
        ("visa", None, "card_digits_missing"),
    ],
)
def test_other_cards_are_refused(ref_1: Catalogue, brand: str | None, last4: str | None, reason: str) -> None:
    card = asks("change_card", "2026-01-20", brand=brand, last4=last4)
    assert answers_to(card, catalogue=ref_1) == [("refused", reason)]


def test_a_brand_that_the_catalogue_leaves_out_is_refused(ref_1_with: Callable[..., Catalogue]) -> None:
    card = asks("change_card", "2026-01-20", brand="American Express")
    catalogue = ref_1_with(accepted_cards=("visa",))
    assert answers_to(card, catalogue=catalogue) == [("refused", "card_brand_not_accepted")]


def test_ownership_transfers_and_split_payments_are_refused(ref_1: Catalogue) -> None:
    answers = answers_to(bought(), asks("transfer", "2026-02-01"), asks("split_payment", "2026-02-01"), catalogue=ref_1)
    assert answers[1:] == [("refused", "ownership_transfer_not_offered"), ("refused", "split_payment_not_offered")]


def test_without_requests_there_are_no_lives(ref_1: Catalogue) -> None:
    lives = lives_of({}, ref_1)
    assert lives.subscriptions.is_empty()
    assert lives.answers.is_empty()
    assert lives.parked.is_empty()
    assert lives.subscriptions.schema == lives_of({"acme": [bought()]}, ref_1).subscriptions.schema


@pytest.mark.parametrize("same_instant", [False, True])
def test_requests_are_answered_by_time_and_then_by_id_in_whatever_order_they_are_given(
    ref_1: Catalogue, same_instant: bool
) -> None:
    told = requests_frame({"acme": [bought(), asks("hold", "2026-02-01"), asks("resume", "2026-02-01")]})
    ids = ["a", "b", "c"] if same_instant else ["c", "b", "a"]
    told = told.with_columns(request_id=pl.Series(ids))
    if same_instant:
        told = told.with_columns(at=pl.col("at").max())
    answers = read_lives(told.reverse(), ref_1, terms_frames(ref_1)).answers
    assert answers.select("kind", "outcome").rows() == [
        ("subscribe", "approved"),
        ("hold", "approved"),
        ("resume", "approved"),
    ]


def test_a_very_busy_account_is_answered_request_by_request(ref_1: Catalogue) -> None:
    # twenty holds, each resumed within the paid cycle; between them a package change, refused while on hold
    day = [asks(kind, "2026-02-01") for kind in ("upgrade", "hold", "upgrade", "resume")] * 20
    found = answers_to(bought(), *day, asks("cancel", "2026-02-01"), *day[:2], catalogue=ref_1)
    assert (
        found[1:-3]
        == [
            ("superseded", "voided_by_hold"),
            ("approved", "late_notice"),
            ("refused", "on_hold"),
            ("approved", "hold_undone"),
        ]
        * 20
    )
    assert found[-3:] == [("approved", "late_notice"), *[("refused", "no_live_subscription")] * 2]


# --- random histories against an oracle -------------------------------------------------------------------------------


def selling(ref_1: Catalogue) -> Catalogue:
    """REF-1, and a package of old that is not sold by the year."""
    starter = ref_1.package("starter")
    terms = replace(starter.versions[0], effective_from=date(2020, 1, 1), yearly=None)
    return replace(ref_1, packages=(*ref_1.packages, replace(starter, name="classic", rank=0, versions=(terms,))))


@dataclass
class Subscription:
    """A subscription of the oracle: what it was, and until when each thing goes on."""

    account_id: str
    started_on: date
    first_billing_date: date
    term: str
    first_of_month: bool
    was_bought: bool
    first_access: date
    last_access: date = date.max
    last_package_fee: date = date.max
    first_hold_fee: date = date.max
    last_hold_fee: date = date.max
    last_billing_date: date = date.max
    held_on: date | None = None
    paid_until: date | None = None
    end: str = ""
    breaks: set[date] = field(default_factory=set)
    changes: list["Answer"] = field(default_factory=list)

    @property
    def identity(self) -> str:
        return f"{self.account_id}/{self.started_on.isoformat()}"

    def dates(self) -> Iterator[date]:
        """All billing dates there could be."""
        day = self.first_billing_date
        year, month = day.year, day.month
        while year < 2034:
            yield day
            year, month = (year + 1, 1) if month == 12 else (year, month + 1)
            anchor = 1 if self.first_of_month else self.first_billing_date.day
            day = date(year, month, min(anchor, calendar.monthrange(year, month)[1]))

    def fee_dates(self) -> list[date]:
        return list(self.dates())[:: 12 if self.term == "yearly" else 1]

    def next_date(self, day: date) -> date:
        return next(other for other in self.dates() if other > day)

    def next_fee(self, day: date) -> date:
        return next(other for other in self.fee_dates() if other > day)

    def story(self) -> Story:
        billing_dates = [day for day in self.dates() if day <= self.last_billing_date and day < HORIZON]
        access = []
        day = max(self.first_access, self.first_billing_date)
        while day <= self.last_access and day < HORIZON:
            if day not in self.breaks:
                access.append(day)
            day += ONE_DAY
        return Story(
            fees=[day for day in self.fee_dates() if day <= self.last_package_fee and day in billing_dates],
            hold_fees=[day for day in billing_dates if self.first_hold_fee <= day <= self.last_hold_fee],
            billing_dates=billing_dates,
            access=access,
        )


@dataclass
class Answer:
    outcome: str
    reason: str
    effective_on: date | None = None
    subscription: str | None = None


class Account:
    """The oracle: one account, its requests answered one after the other."""

    def __init__(self, account_id: str, catalogue: Catalogue) -> None:
        self.account_id = account_id
        self.catalogue = catalogue
        self.policy = catalogue.policy
        self.subscriptions: list[Subscription] = []
        self.parked = ""

    @property
    def latest(self) -> Subscription | None:
        return self.subscriptions[-1] if self.subscriptions else None

    def ask(self, request: Request) -> Answer:
        answer: Answer = getattr(self, f"ask_{request.kind}")(request)
        if answer.subscription is None and self.latest is not None:
            answer.subscription = self.latest.identity
        if answer.outcome == "approved" and answer.effective_on is None:
            answer.effective_on = request.on
        return answer

    def is_live(self, day: date) -> bool:
        latest = self.latest
        if latest is None or latest.end:
            return False
        over = latest.paid_until is not None and day >= latest.paid_until and self.policy.hold_fee == 0
        return not over

    def ask_subscribe(self, request: Request) -> Answer:
        latest = self.latest
        if latest is not None and (
            self.is_live(request.on)
            or (latest.end and latest.last_access > request.on)
            or latest.started_on == request.on
        ):
            return Answer("refused", "already_subscribed")
        package = next((p for p in self.catalogue.packages if p.name == request.package), None)
        reason = ""
        if package is None:
            reason = self.parked = self.parked or "unknown_package"
            return Answer("refused", "unknown_package")
        if package.versions[0].effective_from > request.on:
            reason = "package_not_sold_yet"
        elif request.on < self.policy.billing_start:
            reason = "before_billing_start"
        if reason:
            self.parked = self.parked or reason
            return Answer("refused", reason)
        if request.term == "yearly" and self.policy.billing_anchor == "first_of_month":
            return Answer("refused", "yearly_not_offered")
        if request.term == "yearly" and package.versions[0].yearly is None:
            return Answer("refused", "no_yearly_price")
        self.start(request.on, request.on + timedelta(days=request.trial_days), request.term, was_bought=True)
        return Answer("approved", "subscribed")

    def start(self, day: date, first_billing_date: date, term: str, *, was_bought: bool) -> None:
        latest, first_access = self.latest, day
        if latest is not None:
            first_access = max(day, latest.last_access + ONE_DAY)
            if latest.held_on is not None and not latest.end:
                # what is on hold goes on with hold fees only until the new one begins
                latest.last_hold_fee = min(latest.last_hold_fee, day - ONE_DAY)
                latest.last_billing_date = min(latest.last_billing_date, max(day, latest.first_billing_date))
        monthly_on_first = self.policy.billing_anchor == "first_of_month"
        self.subscriptions.append(
            Subscription(self.account_id, day, first_billing_date, term, monthly_on_first, was_bought, first_access)
        )

    def stop(self, latest: Subscription, day: date) -> tuple[bool, date]:
        """Let no fee fall due but the one that notice comes too late for; whether in time, and the paid cycle's end."""
        fee = latest.next_fee(day)
        in_time = (fee - day).days >= self.policy.cancellation_notice_days
        latest.last_package_fee = min(latest.last_package_fee, day if in_time else fee)
        for change in latest.changes:
            if change.outcome == "pending" and change.effective_on is not None and day < change.effective_on:
                change.outcome, change.effective_on = "superseded", None
        return in_time, fee if in_time else latest.next_fee(fee)

    def ask_cancel(self, request: Request) -> Answer:
        latest = self.latest
        if request.sent_by != "email":
            return Answer("refused", "wrong_channel")
        if latest is not None and latest.end:
            return Answer("refused", "already_ended")
        if latest is None or not self.is_live(request.on):
            return Answer("refused", "no_live_subscription")
        in_time, paid_until = self.stop(latest, request.on)
        self.void(latest, "voided_by_cancellation")
        latest.end = "cancelled"
        if request.on < latest.first_billing_date:
            latest.last_access = min(latest.last_access, request.on)
            latest.last_package_fee = latest.last_billing_date = date.min
            return Answer("approved", "cancelled_in_trial")
        following = latest.next_date(request.on)
        latest.last_hold_fee = (
            following if (following - request.on).days < self.policy.cancellation_notice_days else request.on
        )
        if latest.held_on is not None:
            if latest.last_billing_date == date.max:
                latest.last_billing_date = max([following, *self.fees_to_come(latest, request.on)])
        elif self.policy.access_after_cancellation == "end_of_paid_cycle":
            latest.last_access = min(latest.last_access, paid_until - ONE_DAY)
            latest.last_billing_date = paid_until
        else:
            latest.last_access = min(latest.last_access, request.on)
            latest.last_billing_date = following if in_time else latest.next_date(latest.next_fee(request.on))
        return Answer("approved", "in_time" if in_time else "late_notice")

    @staticmethod
    def fees_to_come(latest: Subscription, day: date) -> list[date]:
        return [other for other in latest.fee_dates() if day < other <= latest.last_package_fee]

    @staticmethod
    def void(latest: Subscription, reason: str) -> None:
        for change in latest.changes:
            if change.outcome == "superseded" and change.reason == "pending":
                change.reason = reason

    def ask_hold(self, request: Request) -> Answer:
        latest = self.latest
        if request.sent_by != "support":
            return Answer("refused", "wrong_channel")
        if latest is not None and latest.held_on is not None and not latest.end:
            return Answer("refused", "already_held")
        if latest is None or not self.is_live(request.on):
            return Answer("refused", "no_live_subscription")
        in_time, paid_until = self.stop(latest, request.on)
        self.void(latest, "voided_by_hold")
        latest.held_on, latest.paid_until, latest.last_access = request.on, paid_until, request.on
        if self.policy.hold_fee > 0:
            latest.first_hold_fee = paid_until
        else:
            latest.last_billing_date = paid_until
        return Answer("approved", "in_time" if in_time else "late_notice")

    def ask_resume(self, request: Request) -> Answer:
        latest = self.latest
        if request.sent_by != "support":
            return Answer("refused", "wrong_channel")
        if latest is None or latest.held_on is None or latest.end:
            return Answer("refused", "not_held")
        assert latest.paid_until is not None
        if request.on < latest.paid_until:
            latest.breaks |= {latest.held_on + timedelta(days=n) for n in range(1, (request.on - latest.held_on).days)}
            latest.held_on = latest.paid_until = None
            latest.last_access = latest.last_package_fee = latest.last_billing_date = latest.first_hold_fee = date.max
            return Answer("approved", "hold_undone")
        self.start(request.on, request.on, latest.term, was_bought=False)
        return Answer("approved", "new_subscription")

    def ask_refund(self, request: Request) -> Answer:
        latest, day = self.latest, request.on
        refusals = [
            (request.sent_by != "support", "wrong_channel"),
            (latest is None, "no_subscription"),
        ]
        if latest is not None:
            first = latest.first_billing_date
            refusals += [
                (latest.end == "refunded", "already_refunded"),
                (latest.term == "yearly", "yearly_term"),
                (day < first or latest.last_package_fee < first, "nothing_paid"),
                (not latest.was_bought, "no_refund_window"),
                (day >= latest.next_date(first), "not_first_cycle"),
                ((day - first).days > self.policy.refund_window_days, "refund_window_over"),
            ]
        for applies, reason in refusals:
            if applies:
                return Answer("refused", reason)
        assert latest is not None
        self.stop(latest, day)
        self.void(latest, "voided_by_refund")
        latest.end = "refunded"
        latest.last_package_fee = latest.first_billing_date
        latest.last_hold_fee = min(latest.last_hold_fee, day)
        latest.last_access = min(latest.last_access, day)
        latest.last_billing_date = latest.next_date(day)
        latest.held_on = None
        return Answer("approved", "within_refund_window")

    def ask_change(self, request: Request) -> Answer:
        latest = self.latest
        if request.kind == "downgrade" and request.sent_by != "support":
            return Answer("refused", "wrong_channel")
        if latest is None or not self.is_live(request.on):
            return Answer("refused", "no_live_subscription")
        if latest.held_on is not None:
            return Answer("refused", "on_hold")
        answer = Answer("pending", "pending", latest.next_date(request.on))
        latest.changes.append(answer)
        return answer

    ask_upgrade = ask_downgrade = ask_change


KINDS = ["subscribe", "subscribe", "cancel", "hold", "hold", "resume", "resume", "refund", "upgrade", "downgrade"]
GAPS = [0, 1, 2, 8, 9, 10, 11, 15, 19, 20, 21, 22, 28, 29, 30, 31, 32, 40, 59, 61, 90, 330, 355, 366]


T = TypeVar("T")


def history(seed: str, turns: int = 9) -> list[Request]:
    """A made-up history; the same seed always tells the same one."""

    def pick(what: str, options: Sequence[T]) -> T:
        return options[int.from_bytes(sha256(f"{seed}/{what}".encode()).digest()[:8]) % len(options)]

    day = date(2026, 1, 1) + timedelta(days=pick("start", range(70)))
    found = []
    for turn in range(pick("turns", range(2, turns + 1))):
        kinds = ["subscribe"] * 9 + KINDS if turn == 0 else KINDS
        found.append(
            Request(
                on=day,
                kind=pick(f"{turn}/kind", kinds),
                package=pick(f"{turn}/package", ["starter", "starter", "silver", "classic", "bronze"]),
                channel=pick(f"{turn}/channel", [""] * 7 + ["self_service"]),
                term=pick(f"{turn}/term", ["monthly", "monthly", "yearly"]),
                trial_days=pick(f"{turn}/trial", [0, 0, 0, 14, 45]),
            )
        )
        day += timedelta(days=pick(f"{turn}/gap", GAPS))
    return [request for request in found if request.on < date(2028, 6, 1)]


POLICIES = [
    (10, "0.00", "ends_at_once", "signup_day", 30),
    (10, "0.00", "end_of_paid_cycle", "signup_day", 5),
    (28, "5.00", "end_of_paid_cycle", "signup_day", 30),
    (90, "5.00", "ends_at_once", "signup_day", 30),
    (0, "5.00", "end_of_paid_cycle", "first_of_month", 5),
    (10, "0.00", "ends_at_once", "first_of_month", 30),
]
FURTHER_POLICIES = [(10, "5.00", "ends_at_once", "signup_day", 30), (45, "0.00", "ends_at_once", "signup_day", 30)]


@pytest.mark.parametrize(
    ("notice", "hold_fee", "access", "anchor", "refund_window"),
    sized(usual=POLICIES, long=[*POLICIES, *FURTHER_POLICIES]),
)
def test_any_history_comes_to_what_following_it_request_by_request_comes_to(
    ref_1_with: Callable[..., Catalogue], notice: int, hold_fee: str, access: str, anchor: str, refund_window: int
) -> None:
    catalogue = selling(
        ref_1_with(
            cancellation_notice_days=notice,
            hold_fee=Decimal(hold_fee),
            access_after_cancellation=access,
            billing_anchor=anchor,
            refund_window_days=refund_window,
        )
    )
    told = {f"account-{number:03d}": history(f"{anchor}/{notice}/{number}") for number in range(ACCOUNTS)}
    lives = lives_of(told, catalogue)
    found_stories = stories(lives, catalogue)
    found_answers = {
        account_id: frame.select("outcome", "reason", "effective_on", "subscription_id").rows()
        for (account_id,), frame in lives.answers.sort("request_id").partition_by("account_id", as_dict=True).items()
    }
    found_parked = dict(lives.parked.select("account_id", "reason").iter_rows())
    subscriptions = set()
    for account_id, requests in told.items():
        account = Account(account_id, catalogue)
        answers = [account.ask(request) for request in requests]
        expected = [(a.outcome, a.reason, a.effective_on, a.subscription) for a in answers]
        assert found_answers[account_id] == expected, requests
        assert found_parked.get(account_id, "") == account.parked
        for subscription in account.subscriptions:
            assert found_stories[subscription.identity] == subscription.story(), (subscription, requests)
            subscriptions.add(subscription.identity)
    assert found_stories.keys() == subscriptions


def test_accounts_do_not_touch_one_another(ref_1: Catalogue) -> None:
    told = {f"account-{number:03d}": history(f"alone/{number}") for number in range(5)}
    together = lives_of(told, ref_1)
    for account_id, requests in told.items():
        alone = lives_of({account_id: requests}, ref_1)
        assert alone.subscriptions.equals(together.subscriptions.filter(pl.col("account_id") == account_id))
        assert alone.answers.equals(together.answers.filter(pl.col("account_id") == account_id))
