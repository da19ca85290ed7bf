"""The answers of a month: which requests it answers, with which dates, and in which words."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Final

import polars as pl
import pytest

from billing.model.catalogue import Catalogue
from billing.model.columns import MONEY
from billing.model.tables import DECISIONS
from billing.rules.decisions import explained, month_decisions
from billing.rules.redemptions import ANSWER_SCHEMA

ANSWER: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
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
Row = Mapping[str, object]


def answer(request_id: str, on: str, kind: str = "cancel", outcome: str = "approved", **more: object) -> Row:
    """One of `Lives.answers`, of acme's subscription of 10 January 2026; effective on the day of the request."""
    day = date.fromisoformat(on)
    at = datetime.combine(day, time(12), UTC)
    reason = {"cancel": "in_time", "refund": "within_refund_window"}.get(kind, "card_changed")
    identity = {"request_id": request_id, "account_id": "acme", "subscription_id": "acme/2026-01-10"}
    given = {"at": at, "on": day, "kind": kind, "outcome": outcome, "reason": reason, "effective_on": day}
    return {**identity, **given, **more}


def decided(request_id: str | None, reason: str = "requested", **more: object) -> Row:
    """A package change decided on 10 February 2026: acme moves from starter to silver."""
    identity = {"decision_id": request_id or "automatic", "request_id": request_id, "billing_month": "2026-02"}
    whose = {"account_id": "acme", "subscription_id": "acme/2026-01-10", "kind": "upgrade", "outcome": "approved"}
    change = {"from_package": "starter", "to_package": "silver", "reason": reason}
    days = {"decided_on": date(2026, 2, 10), "effective_on": date(2026, 2, 10)}
    return {**identity, **whose, **change, **days, "evidence": [], "flags": [], **more}


def month(
    catalogue: Catalogue,
    name: str,
    answers: Sequence[Row],
    *,
    changes: Sequence[Row] = (),
    refunded: Mapping[str, str] | None = None,
    first_month: str = "2026-01",
) -> pl.DataFrame:
    """What is decided in a month; `refunded` says what came back of a subscription."""
    back = pl.DataFrame(
        [(identity, Decimal(amount)) for identity, amount in (refunded or {}).items()],
        schema={"subscription_id": pl.String, "refunded": MONEY},
        orient="row",
    )
    return month_decisions(
        name,
        pl.DataFrame(list(changes), schema=DECISIONS.schema),
        pl.DataFrame(list(answers), schema=ANSWER),
        back,
        first_month,
        catalogue,
        pl.DataFrame(schema=ANSWER_SCHEMA),
    )


def words(catalogue: Catalogue, kind: str, reason: str, **more: object) -> str:
    """What a customer is told."""
    row = decided("r", reason, kind=kind, **more)
    found: str = explained(pl.DataFrame([row], schema=DECISIONS.schema), catalogue)["explanation"].item()
    return found


# --- which requests a month answers -----------------------------------------------------------------------------------


def test_a_month_answers_the_requests_made_in_it(ref_1: Catalogue) -> None:
    asked = [answer("january", "2026-01-31"), answer("first", "2026-02-01"), answer("last", "2026-02-28")]
    asked.append(answer("march", "2026-03-01"))
    assert month(ref_1, "2026-02", asked)["request_id"].to_list() == ["first", "last"]


def test_what_was_asked_before_the_first_month_that_is_billed_is_answered_in_it(ref_1: Catalogue) -> None:
    asked = [answer("before", "2025-11-03"), answer("within", "2026-01-31"), answer("later", "2026-02-01")]
    assert month(ref_1, "2026-01", asked)["request_id"].to_list() == ["before", "within"]
    assert month(ref_1, "2026-02", asked)["request_id"].to_list() == ["later"]


def test_a_change_that_waits_for_its_cycles_close_has_no_answer_yet(ref_1: Catalogue) -> None:
    waiting = answer("waiting", "2026-02-03", "upgrade", "pending", package="silver")
    assert month(ref_1, "2026-02", [waiting]).is_empty()


def test_a_request_that_was_decided_at_a_close_is_not_answered_a_second_time(ref_1: Catalogue) -> None:
    voided = answer("upgrade", "2026-02-03", "upgrade", "superseded", reason="voided_by_hold", package="silver")
    other = answer("other", "2026-02-04")
    found = month(ref_1, "2026-02", [voided, other], changes=[decided("upgrade"), decided(None)])
    assert found.select("decision_id", "request_id", "outcome").rows() == [
        ("other", "other", "approved"),
        ("automatic", None, "approved"),
        ("upgrade", "upgrade", "approved"),
    ]


# --- what an answer says ----------------------------------------------------------------------------------------------


def test_an_answer_repeats_the_request_and_says_on_which_day_it_was_given_and_holds(ref_1: Catalogue) -> None:
    asked = answer("r", "2026-02-03", "subscribe", reason="subscribed", package="gold", effective_on=date(2026, 2, 4))
    (row,) = month(ref_1, "2026-02", [asked]).rows(named=True)
    assert row == {
        "decision_id": "r",
        "billing_month": "2026-02",
        "request_id": "r",
        "account_id": "acme",
        "subscription_id": "acme/2026-01-10",
        "kind": "subscribe",
        "outcome": "approved",
        "reason": "subscribed",
        "explanation": "Your subscription to Gold starts on 2026-02-04.",
        "from_package": None,
        "to_package": "gold",
        "decided_on": date(2026, 2, 3),
        "effective_on": date(2026, 2, 4),
        "evidence": [],
        "flags": [],
        "amount": None,
        "expected_from": None,
        "expected_by": None,
        "coupon": None,
        "add_on": None,
        "quantity": None,
    }


def test_the_month_of_an_answer_is_the_one_that_gives_it(ref_1: Catalogue) -> None:
    found = month(ref_1, "2026-01", [answer("before", "2025-11-03")])
    assert found.select("billing_month", "decided_on").rows() == [("2026-01", date(2025, 11, 3))]


@pytest.mark.parametrize(
    ("approved", "expected_from", "expected_by"),
    [
        ("2026-02-09", "2026-02-16", "2026-02-23"),  # a Monday (S13)
        ("2026-02-13", "2026-02-20", "2026-02-27"),  # a Friday
        ("2026-02-14", "2026-02-20", "2026-02-27"),  # a Saturday: its first business day is the Monday
        ("2026-02-15", "2026-02-20", "2026-02-27"),  # a Sunday
        ("2026-02-16", "2026-02-23", "2026-03-02"),
    ],
)
def test_refunded_money_is_expected_five_to_ten_business_days_after_the_approval(
    ref_1: Catalogue, approved: str, expected_from: str, expected_by: str
) -> None:
    found = month(ref_1, "2026-02", [answer("r", approved, "refund")], refunded={"acme/2026-01-10": "118.80"})
    assert found.select("amount", "expected_from", "expected_by").rows() == [
        (Decimal("118.80"), date.fromisoformat(expected_from), date.fromisoformat(expected_by))
    ]


def test_only_an_approved_refund_pays_something_back(ref_1: Catalogue) -> None:
    asked = [
        answer("cancelled", "2026-02-09"),
        answer("again", "2026-02-09", "refund", "refused", reason="already_refunded", effective_on=None),
        answer("refund", "2026-02-09", "refund"),
        answer("others", "2026-02-09", "refund", account_id="other", subscription_id="other/2026-01-10"),
    ]
    found = month(ref_1, "2026-02", asked, refunded={"acme/2026-01-10": "99.00"})
    assert found.select("request_id", "amount", "expected_from").rows() == [
        ("again", None, None),
        ("cancelled", None, None),
        ("refund", Decimal("99.00"), date(2026, 2, 16)),
        ("others", None, date(2026, 2, 16)),
    ]


def test_a_package_change_keeps_its_evidence_its_flags_and_its_packages(ref_1: Catalogue) -> None:
    evidence = [{"metric": "leads", "quantity": Decimal(61000), "allowance": Decimal(50000)}]
    change = decided(None, "no_larger_package", kind="auto_upgrade", evidence=evidence, flags=["exceeds_catalogue"])
    (row,) = month(ref_1, "2026-02", [], changes=[change]).rows(named=True)
    assert (row["flags"], row["from_package"], row["to_package"]) == (["exceeds_catalogue"], "starter", "silver")
    assert [(m["metric"], m["quantity"], m["allowance"]) for m in row["evidence"]] == [("leads", 61000, 50000)]


# --- in words ---------------------------------------------------------------------------------------------------------


def test_packages_bear_their_titles_and_days_their_dates(ref_1: Catalogue) -> None:
    assert words(ref_1, "auto_upgrade", "usage_over_allowance") == (
        "Your usage in the last cycle was over the allowance of Starter, so your package is Silver from 2026-02-10."
    )
    assert words(ref_1, "upgrade", "requested") == "As you asked, your package is Silver from 2026-02-10."
    assert words(ref_1, "upgrade", "not_an_upgrade") == "Silver is not larger than Starter, so this is no upgrade."


def test_a_title_is_told_and_not_the_name_behind_it(ref_1: Catalogue) -> None:
    renamed = replace(ref_1, packages=tuple(replace(p, title=f"The {p.name} plan") for p in ref_1.packages))
    assert words(renamed, "upgrade", "no_yearly_price") == "The silver plan has no yearly price."


def test_a_package_nobody_knows_is_told_as_it_was_written(ref_1: Catalogue) -> None:
    assert words(ref_1, "subscribe", "unknown_package", to_package="bronze") == "There is no package called bronze."
    assert words(ref_1, "upgrade", "not_an_upgrade", from_package=None) == (
        "Silver is not larger than the package, so this is no upgrade."
    )


def test_without_a_day_on_which_it_holds_the_day_of_the_answer_is_told(ref_1: Catalogue) -> None:
    told = words(ref_1, "upgrade", "requested", effective_on=None, decided_on=date(2026, 2, 11))
    assert told == "As you asked, your package is Silver from 2026-02-11."


def test_a_title_with_braces_is_told_as_it_stands(ref_1: Catalogue) -> None:
    odd = replace(ref_1, packages=tuple(replace(p, title="{to} $1 .*") for p in ref_1.packages))
    assert words(odd, "subscribe", "no_yearly_price") == "{to} $1 .* has no yearly price."


def test_a_kind_with_words_of_its_own_is_told_in_them(ref_1: Catalogue) -> None:
    assert words(ref_1, "cancel", "wrong_channel") == "A cancellation has to be sent by e-mail."
    assert words(ref_1, "hold", "wrong_channel") == "This has to be asked for through support."
    assert words(ref_1, "cancel", "in_time") == "Cancelled in time: no further package fee falls due."
    assert words(ref_1, "hold", "in_time") == "On hold in time: no package fee falls due while it lasts."
    assert words(ref_1, "auto_upgrade", "satisfied_by_higher") == (
        "Your usage asked for Silver, and the change that you requested covers that."
    )
    assert words(ref_1, "downgrade", "satisfied_by_higher") == (
        "Your usage moved you to a package at least as large as Silver in the same cycle."
    )


def test_decisions_stay_in_their_order_and_gain_nothing_but_words(ref_1: Catalogue) -> None:
    rows = [decided("b"), decided("a", "usage_fits"), decided("c", "nobody_wrote_this")]
    frame = pl.DataFrame(rows, schema=DECISIONS.schema)
    found = explained(frame, ref_1)
    assert found.drop("explanation").equals(frame.drop("explanation"))
    assert found["explanation"].to_list() == [
        "As you asked, your package is Silver from 2026-02-10.",
        "Your usage fits Silver, so as you asked it is your package from 2026-02-10.",
        None,
    ]


def test_a_change_that_voids_what_waited_for_the_terms_end_says_so(ref_1: Catalogue) -> None:
    found = month(ref_1, "2026-02", [], changes=[decided("r1", flags=["voids_waiting_downgrade"]), decided("r2")])
    assert found.sort("decision_id")["explanation"].to_list() == [
        "As you asked, your package is Silver from 2026-02-10. The smaller package that waited for the end of the term "
        "is void.",
        "As you asked, your package is Silver from 2026-02-10.",
    ]
