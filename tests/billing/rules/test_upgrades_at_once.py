"""Upgrades that hold from their day against a plain reading of rule 37."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.catalogue import Catalogue
from billing.model.columns import INSTANT
from billing.model.tables import CYCLES, DECISIONS
from billing.rules.subscriptions import Lives
from billing.rules.terms import terms_frames
from billing.rules.upgrades_at_once import (
    AskedAtOnce,
    as_decisions,
    asked_at_once,
    packages_after,
    upgrade_dues,
    upgrades_at_once,
)
from tests.life_story.oracle_facts import half_up

START, END, NEXT = date(2026, 1, 10), date(2026, 2, 10), date(2026, 3, 10)
SUBSCRIPTION = f"acme/{START}"
PACKAGES = ("starter", "silver", "gold", "platinum")
ASKED: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(("account_id", "request_id", "subscription_id"), pl.String),
    "at": INSTANT,
    "on": pl.Date,
    "package": pl.String,
}
NO_SUSPENSIONS: dict[str, pl.DataType | type[pl.DataType]] = {
    "account_id": pl.String,
    "suspended_from": INSTANT,
    "suspended_until": INSTANT,
}


def asked(*rows: tuple[str, date, str], hour: int = 10) -> pl.DataFrame:
    """Requests of the account: request_id, day and package."""
    return pl.DataFrame(
        [
            ("acme", name, SUBSCRIPTION, datetime(day.year, day.month, day.day, hour, tzinfo=UTC), day, package)
            for name, day, package in rows
        ],
        schema=ASKED,
        orient="row",
    )


def in_force(current: str, term: str = "monthly", start: date = START, end: date = END) -> pl.DataFrame:
    return pl.DataFrame(
        [(SUBSCRIPTION, start, end, term, current)],
        schema={
            "subscription_id": pl.String,
            **dict.fromkeys(("cycle_start", "cycle_end"), pl.Date),
            **dict.fromkeys(("term", "current"), pl.String),
        },
        orient="row",
    )


def answered(
    catalogue: Catalogue,
    requests: pl.DataFrame,
    current: str = "starter",
    approved: Sequence[str] = (),
    term: str = "monthly",
) -> pl.DataFrame:
    given_requests = AskedAtOnce(requests, requests.clear(), pl.Series(list(approved), dtype=pl.String))
    return upgrades_at_once(given_requests, in_force(current, term), terms_frames(catalogue))


@settings(max_examples=60, deadline=None)
@given(
    current=st.sampled_from(PACKAGES),
    requests=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(PACKAGES)), max_size=5),
)
def test_each_is_measured_against_the_package_of_its_day(
    ref_1: Catalogue, current: str, requests: list[tuple[int, str]]
) -> None:
    rows = [(f"r{place}", START + timedelta(day), package) for place, (day, package) in enumerate(requests)]
    found = answered(ref_1, asked(*rows[::-1]), current)
    package, expected = current, []
    for name, day, wanted in sorted(rows, key=lambda row: (row[1], row[0])):
        higher = PACKAGES.index(wanted) > PACKAGES.index(package)
        expected.append(
            (name, package, wanted, *(("approved", "requested") if higher else ("refused", "not_an_upgrade")))
        )
        package = wanted if higher else package
        assert START <= day < END
    assert found.select("request_id", "from_package", "to_package", "outcome", "reason").rows() == expected
    after = packages_after(found)
    assert after["upgraded"].to_list() == ([package] if package != current else [])
    assert after.columns == ["subscription_id", "cycle_start", "upgraded"]


def test_what_is_not_sold_is_refused_and_what_was_approved_stands(ref_1: Catalogue) -> None:
    starter, silver, gold, platinum = ref_1.packages
    monthly_only = replace(silver, versions=tuple(replace(each, yearly=None) for each in silver.versions))
    later = replace(gold, versions=tuple(replace(each, effective_from=END) for each in gold.versions))
    lacking = replace(
        platinum,
        versions=tuple(replace(each, lacking=frozenset({"monthly"}), yearly=None) for each in platinum.versions),
    )
    catalogue = replace(ref_1, packages=(starter, monthly_only, later, replace(platinum, hidden=True)))
    day = date(2026, 1, 20)
    rows = asked(("a", day, "diamond"), ("b", day, "platinum"), ("c", day, "gold"), ("d", day, "silver"))
    yearly = answered(catalogue, rows, term="yearly")
    assert yearly["reason"].to_list() == [
        "unknown_package",
        "package_hidden",
        "package_not_sold_yet",
        "no_yearly_price",
    ]
    assert yearly["outcome"].unique().to_list() == ["refused"]
    assert answered(catalogue, rows)["reason"].to_list()[-1] == "requested"
    unsold = answered(replace(ref_1, packages=(starter, silver, gold, lacking)), asked(("e", day, "platinum")))
    assert unsold["reason"].to_list() == ["not_sold_in_currency"]
    stands = answered(catalogue, rows, approved=["c"], term="yearly")
    assert dict(stands.select("request_id", "outcome").iter_rows()) == {
        **dict.fromkeys("abd", "refused"),
        "c": "approved",
    }


def test_requests_of_other_cycles_and_subscriptions_are_left(ref_1: Catalogue) -> None:
    rows = asked(("before", START - timedelta(1), "silver"), ("first", START, "silver"), ("after", END, "gold"))
    assert answered(ref_1, rows)["request_id"].to_list() == ["first"]
    other = rows.with_columns(subscription_id=pl.lit("other/2026-01-10"))
    assert answered(ref_1, other).is_empty()


def test_answers_are_decisions_of_the_month_of_their_day(ref_1: Catalogue) -> None:
    found = answered(ref_1, asked(("a", date(2026, 1, 31), "silver"), ("b", date(2026, 2, 1), "starter")))
    (january,) = as_decisions(found, "2026-01").iter_rows(named=True)
    (february,) = as_decisions(found, "2026-02").iter_rows(named=True)
    assert (january["decision_id"], january["request_id"], january["billing_month"]) == ("a", "a", "2026-01")
    assert (january["kind"], january["decided_on"], january["effective_on"]) == (
        *("upgrade", date(2026, 1, 31), date(2026, 1, 31)),
    )
    assert (january["outcome"], january["from_package"], january["to_package"]) == ("approved", "starter", "silver")
    assert (january["evidence"], january["flags"], january["explanation"]) == ([], [], None)
    assert (february["request_id"], february["outcome"], february["effective_on"]) == ("b", "refused", None)


# --- which are known in time ------------------------------------------------------------------------------------------


def cycles(**others: object) -> pl.DataFrame:
    row = {
        "account_id": "acme",
        "subscription_id": SUBSCRIPTION,
        "term": "monthly",
        "billing_index": 1,
        "billing_date": END,
        "cycle_start": START,
        "next_billing_date": NEXT,
    }
    return pl.DataFrame([row | others], schema={name: CYCLES.schema[name] for name in row})


def answers(requests: pl.DataFrame, *, effective: bool = True, outcome: str = "pending") -> pl.DataFrame:
    return requests.with_columns(
        kind=pl.lit("upgrade"),
        outcome=pl.lit(outcome),
        effective_on=pl.when(pl.lit(effective)).then("on").otherwise(pl.lit(END)),
    )


def closed(*days: date) -> pl.DataFrame:
    schema = {"subscription_id": pl.String, "billing_date": pl.Date}
    return pl.DataFrame([(SUBSCRIPTION, day) for day in days], schema=schema, orient="row")


def decided(*rows: tuple[str, str]) -> pl.DataFrame:
    made = [{"request_id": name, "kind": "upgrade", "outcome": outcome} for name, outcome in rows]
    return pl.DataFrame(made, schema={name: DECISIONS.schema[name] for name in ("request_id", "kind", "outcome")})


@pytest.mark.parametrize(
    ("day", "closed_dates", "made", "known", "late"),
    [
        (date(2026, 1, 20), [START], [], True, False),
        # The cycle in which it was asked has closed: it takes effect later.
        (date(2026, 1, 20), [START, END], [], False, False),
        (date(2026, 1, 20), [START, END], [("r", "approved")], True, False),
        (date(2026, 1, 20), [START, END], [("r", "refused")], False, False),
        (date(2026, 2, 15), [START, END], [], True, False),
        (date(2026, 2, 10), [START, END, NEXT], [], False, False),
        # Of the cycle before this one.
        (date(2026, 1, 5), [START], [], False, True),
        (date(2026, 1, 5), [], [], True, False),
        (date(2026, 1, 5), [START], [("r", "approved")], True, False),
    ],
)
def test_what_is_learnt_after_its_cycle_closed_waits(
    day: date, closed_dates: list[date], made: list[tuple[str, str]], known: bool, late: bool
) -> None:
    found = asked_at_once(answers(asked(("r", day, "silver"))), cycles(), closed(*closed_dates), decided(*made))
    assert (found.asked.height, found.late.height) == (known, late)
    assert found.approved.to_list() == [name for name, outcome in made if outcome == "approved"]


def test_only_pending_upgrades_of_their_own_day_are_at_once() -> None:
    requests = asked(("r", date(2026, 1, 20), "silver"))
    nothing = (cycles(), closed(), decided())
    assert asked_at_once(answers(requests), *nothing).asked.columns == list(ASKED)
    assert asked_at_once(answers(requests, effective=False), *nothing).asked.is_empty()
    assert asked_at_once(answers(requests, outcome="refused"), *nothing).asked.is_empty()
    downgrade = answers(requests).with_columns(kind=pl.lit("downgrade"))
    assert asked_at_once(downgrade, *nothing).asked.is_empty()
    first = cycles(cycle_start=None, billing_index=0, billing_date=START, next_billing_date=END)
    assert asked_at_once(answers(requests), first, closed(), decided()).asked.height == 1
    assert asked_at_once(answers(requests), first, closed(END), decided()).asked.is_empty()


# --- what they cost ---------------------------------------------------------------------------------------------------


def dues(
    catalogue: Catalogue,
    day: date,
    target: str = "silver",
    *,
    origin: str = "starter",
    outcome: str = "approved",
    suspended: Sequence[tuple[datetime, datetime | None]] = (),
    effective_on: date | None = None,
    **cycle: object,
) -> pl.DataFrame:
    """What an upgrade of a day costs."""
    decision = {
        "account_id": "acme",
        "subscription_id": SUBSCRIPTION,
        "request_id": "r",
        "kind": "upgrade",
        "outcome": outcome,
        "from_package": origin,
        "to_package": target,
        "effective_on": effective_on or day,
    }
    decisions = pl.DataFrame([decision], schema={name: DECISIONS.schema[name] for name in decision})
    subscriptions = pl.DataFrame(
        [(SUBSCRIPTION, START)], schema={"subscription_id": pl.String, "grid_start": pl.Date}, orient="row"
    )
    lives = Lives(subscriptions, answers(asked(("r", day, target))), pl.DataFrame())
    suspensions = pl.DataFrame([("acme", *span) for span in suspended], schema=NO_SUSPENSIONS, orient="row")
    return upgrade_dues(decisions, lives, cycles(**cycle), suspensions, terms_frames(catalogue), catalogue)


@settings(max_examples=50, deadline=None)
@given(day=st.integers(0, 30), target=st.sampled_from(PACKAGES[1:]), minor=st.sampled_from([0, 2, 3]))
def test_the_difference_of_the_fees_is_charged_for_the_days_left(
    ref_1: Catalogue, day: int, target: str, minor: int
) -> None:
    fees = {"starter": 99, "silver": 199, "gold": 299, "platinum": 499}
    on = START + timedelta(day)
    (row,) = dues(replace(ref_1, minor_units=minor), on, target).iter_rows(named=True)
    left = (END - on).days
    exact = Fraction((fees[target] - fees["starter"]) * left, 31)
    assert row["amount"] == half_up(exact, Decimal(1).scaleb(-minor))
    assert (row["fee_part"], row["fee_parts"]) == (left, 31)
    assert (row["whole_fee"], row["replaced_fee"]) == (fees[target], fees["starter"])


def test_a_line_says_what_it_is(ref_1: Catalogue) -> None:
    (row,) = dues(ref_1, date(2026, 1, 20)).iter_rows(named=True)
    assert row["subscription_id"] == f"{SUBSCRIPTION}/r/upgrade"
    assert (row["account_id"], row["kind"], row["due_item"], row["package"]) == ("acme", "proration", "r", "silver")
    assert (row["billing_date"], row["cycle_start"], row["cycle_end"]) == (date(2026, 1, 20), date(2026, 1, 20), END)
    assert row["description"] == "Silver instead of Starter, 21 of 31 days"
    assert row["amount"] == Decimal("67.74")


def test_after_the_billing_date_of_the_month_it_is_of_the_next_cycle(ref_1: Catalogue) -> None:
    (row,) = dues(ref_1, END).iter_rows(named=True)
    assert (row["cycle_end"], row["fee_part"], row["fee_parts"]) == (NEXT, 28, 28)
    (row,) = dues(ref_1, date(2026, 2, 20)).iter_rows(named=True)
    assert (row["cycle_end"], row["fee_part"], row["fee_parts"]) == (NEXT, 18, 28)


@pytest.mark.parametrize(
    ("day", "index", "ends", "parts"),
    [
        (date(2026, 1, 20), 1, date(2027, 1, 10), (355, 365)),
        (date(2026, 12, 20), 12, date(2027, 1, 10), (21, 365)),
        (date(2027, 1, 10), 12, date(2028, 1, 10), (365, 365)),
    ],
)
def test_in_a_yearly_term_the_days_are_those_of_the_term(
    ref_1: Catalogue, day: date, index: int, ends: date, parts: tuple[int, int]
) -> None:
    date_ = pl.Series([START]).dt.offset_by(f"{index}mo").item()
    (row,) = dues(ref_1, day, term="yearly", billing_index=index, billing_date=date_).iter_rows(named=True)
    assert (row["cycle_end"], (row["fee_part"], row["fee_parts"])) == (ends, parts)
    assert (row["whole_fee"], row["replaced_fee"]) == (1990, 990)
    assert row["amount"] == half_up(Fraction(1000 * parts[0], parts[1]), Decimal("0.01"))


def test_the_first_of_the_month_divides_by_the_calendar_month(ref_1: Catalogue) -> None:
    catalogue = replace(ref_1, policy=replace(ref_1.policy, billing_anchor="first_of_month"))
    (row,) = dues(catalogue, date(2026, 1, 20), billing_date=date(2026, 2, 1)).iter_rows(named=True)
    assert (row["cycle_end"], row["fee_part"], row["fee_parts"]) == (date(2026, 2, 1), 12, 31)
    (row,) = dues(catalogue, date(2026, 2, 20), billing_date=date(2026, 2, 1)).iter_rows(named=True)
    assert (row["cycle_end"], row["fee_part"], row["fee_parts"]) == (date(2026, 3, 1), 9, 28)


def test_both_fees_are_of_the_version_of_the_cycle_and_never_below_zero(ref_1: Catalogue) -> None:
    starter, silver, *others = ref_1.packages
    (version,) = silver.versions
    dearer = replace(version, effective_from=date(2026, 1, 15), monthly=Decimal(900))
    catalogue = replace(ref_1, packages=(starter, replace(silver, versions=(version, dearer)), *others))
    assert dues(catalogue, date(2026, 1, 20))["whole_fee"].to_list() == [199]
    cheaper = replace(version, monthly=Decimal(50))
    catalogue = replace(ref_1, packages=(starter, replace(silver, versions=(cheaper,)), *others))
    assert dues(catalogue, date(2026, 1, 20)).is_empty()


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("suspended", "charged"),
    [
        ([(at(19), at(21))], False),
        ([(at(20), at(21))], False),
        ([(at(20, 1), at(21))], True),
        ([(at(19), at(20))], True),
        ([(at(19), at(20, 1))], False),
        ([(at(19), None)], False),
        ([(at(5), at(6)), (at(20), None)], False),
    ],
)
def test_within_a_suspension_it_costs_nothing(
    ref_1: Catalogue, suspended: list[tuple[datetime, datetime | None]], charged: bool
) -> None:
    assert dues(ref_1, date(2026, 1, 20), suspended=suspended).height == charged
    charging = replace(ref_1, policy=replace(ref_1.policy, charge_while_suspended=True))
    assert dues(charging, date(2026, 1, 20), suspended=suspended).height == 1


def test_only_what_was_approved_on_its_own_day_costs(ref_1: Catalogue) -> None:
    assert dues(ref_1, date(2026, 1, 20), outcome="refused").is_empty()
    assert dues(ref_1, date(2026, 1, 20), effective_on=END).is_empty()
