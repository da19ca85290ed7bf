"""Changes of add-ons on frames: what is asked, refused, superseded, and ended by a package (rule 31)."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest

from billing.model.catalogue import Catalogue
from billing.model.columns import INSTANT
from billing.model.offers import AddOn, AddOnVersion
from billing.model.tables import CYCLES, DECISIONS, PACKAGES
from billing.rules.add_on_changes import (
    ASKED_SCHEMA,
    asked_add_ons,
    decide_add_ons,
    late_add_on_answers,
    with_asked_add_ons,
)
from billing.rules.add_ons import HELD_SCHEMA, AddOnFrames, approved_changes

ACME = "acme/2026-01-10"
B = date(2026, 3, 10)
TERM_END = date(2027, 1, 10)
ONE = Decimal(1)
ADD_ONS = (
    AddOn("small", "Small", (AddOnVersion(date(2026, 1, 1), ONE, Decimal(10), {}, 5),)),
    AddOn("monthly", "Monthly", (AddOnVersion(date(2026, 1, 1), ONE, None, {}),)),
    AddOn("late", "Late", (AddOnVersion(date(2026, 3, 11), ONE, Decimal(10), {}),)),
    AddOn("from_today", "From today", (AddOnVersion(B, ONE, Decimal(10), {}),)),
)
PREVIOUS = dict.fromkeys(("subscription_id", "opening_package"), pl.String)
Row = dict[str, object]
Answer = tuple[str, str, str, date | None]


@pytest.fixture
def add_ons(ref_1: Catalogue) -> AddOnFrames:
    packages = [replace(each, add_ons=("monthly",) if each.name == "silver" else None) for each in ref_1.packages]
    return AddOnFrames.of(replace(ref_1, packages=tuple(packages), add_ons=ADD_ONS))


def asked(*rows: Row) -> pl.DataFrame:
    base: Row = {
        "account_id": "acme",
        "subscription_id": ACME,
        "at": datetime(2026, 3, 1, tzinfo=UTC),
        "on": date(2026, 3, 1),
        "kind": "add",
        "add_on": "small",
        "quantity": 1,
        "effective_on": B,
    }
    named = [base | {"decision_id": f"r{place}", "request_id": f"r{place}"} | row for place, row in enumerate(rows)]
    return pl.DataFrame(named, schema=ASKED_SCHEMA)


def held(add_on: str = "small", quantity: int = 1, since: date = date(2026, 2, 10), until: date | None = None) -> Row:
    return {"subscription_id": ACME, "add_on": add_on, "quantity": quantity, "since": since, "until": until}


def decide(
    add_ons: AddOnFrames,
    what: pl.DataFrame,
    *holdings: Row,
    opening: str | None = "starter",
    before: str = "starter",
    term: str = "monthly",
    index: int = 2,
    closed: bool = False,
    month_before: str | None = "",
) -> pl.DataFrame:
    """Decide at 10 March; the closing package is `before`, as is that of the month before unless said otherwise."""
    earlier = before if month_before == "" else month_before
    cycle: Row = dict.fromkeys(CYCLES.column_names) | {
        **{"account_id": "acme", "subscription_id": ACME, "billing_date": B},
        **{"billing_index": index, "term": term, "term_end": TERM_END},
    }
    package: Row = dict.fromkeys(PACKAGES.column_names) | {
        **{"account_id": "acme", "subscription_id": ACME, "billing_date": B, "closed": closed},
        **{"closing_package": before, "opening_package": opening},
    }
    return decide_add_ons(
        "2026-03",
        cycles=pl.DataFrame([cycle], schema=CYCLES.schema),
        packages=pl.DataFrame([package], schema=PACKAGES.schema),
        holdings=pl.DataFrame(list(holdings), schema=HELD_SCHEMA),
        asked=what,
        previous=pl.DataFrame([(ACME, earlier)] if earlier else [], schema=PREVIOUS, orient="row"),
        add_ons=add_ons,
    )


def answers(decisions: pl.DataFrame) -> list[Answer]:
    return list(decisions.sort("decision_id").select("decision_id", "outcome", "reason", "effective_on").iter_rows())


def test_what_is_asked_takes_effect_on_the_billing_date(add_ons: AddOnFrames) -> None:
    decisions = decide(add_ons, asked({"quantity": 3}))
    assert answers(decisions) == [("r0", "approved", "requested", B)]
    (row,) = decisions.select(DECISIONS.column_names).rows(named=True)
    assert row == dict.fromkeys(DECISIONS.column_names) | {
        **{"decision_id": "r0", "request_id": "r0", "billing_month": "2026-03", "account_id": "acme"},
        **{"subscription_id": ACME, "kind": "add", "outcome": "approved", "reason": "requested", "add_on": "small"},
        **{"quantity": 3, "decided_on": B, "effective_on": B, "evidence": [], "flags": []},
    }
    (change,) = approved_changes(decisions).rows(named=True)
    assert change == {
        **{"account_id": "acme", "subscription_id": ACME, "billing_month": "2026-03", "billing_date": B},
        **{"add_on": "small", "quantity": 3, "effective_on": B, "is_given": False},
    }


def test_the_latest_valid_one_of_each_add_on_counts(add_ons: AddOnFrames) -> None:
    later = datetime(2026, 3, 2, tzinfo=UTC)
    what = asked(
        {"at": later, "quantity": 2},
        {"quantity": 4},
        {"at": later, "quantity": 6},
        {"add_on": "monthly"},
        {"kind": "remove", "add_on": "monthly", "quantity": None, "at": later},
    )
    assert answers(decide(add_ons, what)) == [
        ("r0", "approved", "requested", B),
        ("r1", "superseded", "superseded_by_later_request", None),
        ("r2", "refused", "above_maximum", None),
        ("r3", "approved", "requested", B),
        ("r4", "refused", "not_added", None),
    ]


def test_of_two_at_one_instant_the_later_id_counts(add_ons: AddOnFrames) -> None:
    found = answers(decide(add_ons, asked({"quantity": 2}, {"quantity": 3}).reverse()))
    assert [(name, outcome) for name, outcome, *_ in found] == [("r0", "superseded"), ("r1", "approved")]


@pytest.mark.parametrize(
    ("row", "more", "reason"),
    [
        ({"add_on": "nothing"}, {}, "unknown_add_on"),
        ({"add_on": "nothing", "kind": "remove", "quantity": None}, {}, "unknown_add_on"),
        ({"kind": "remove", "quantity": None}, {}, "not_added"),
        ({"add_on": "late"}, {}, "add_on_not_sold_yet"),
        ({"add_on": "from_today"}, {}, None),
        ({"quantity": 5}, {}, None),
        ({"quantity": 6}, {}, "above_maximum"),
        ({"add_on": "monthly", "quantity": 100_000}, {}, None),
        ({}, {"opening": "silver", "before": "silver"}, "not_allowed_by_package"),
        ({"add_on": "monthly"}, {"opening": "silver", "before": "silver"}, None),
        ({"add_on": "monthly"}, {"term": "yearly"}, "no_yearly_price"),
        ({}, {"term": "yearly"}, None),
        ({}, {"opening": None}, "no_live_subscription"),
    ],
)
def test_what_stands_in_the_way(add_ons: AddOnFrames, row: Row, more: dict[str, str], reason: str | None) -> None:
    ((_, outcome, said, effective_on),) = answers(decide(add_ons, asked(row), **more))  # type: ignore[arg-type]
    assert (outcome, said) == (("refused", reason) if reason else ("approved", "requested"))
    assert effective_on == (None if reason else B)


def test_what_the_catalogue_has_no_more_can_be_removed(add_ons: AddOnFrames) -> None:
    what = asked({"kind": "remove", "add_on": "gone", "quantity": None})
    assert answers(decide(add_ons, what, held("gone"))) == [("r0", "approved", "requested", B)]


@pytest.mark.parametrize(
    ("row", "had", "index", "effective_on"),
    [
        ({"quantity": 1}, 2, 2, TERM_END),
        ({"quantity": 2}, 2, 2, B),
        ({"quantity": 3}, 2, 2, B),
        ({"kind": "remove", "quantity": None}, 2, 2, TERM_END),
        ({"kind": "remove", "quantity": None}, 1, 2, TERM_END),
        ({"quantity": 1}, 2, 12, B),
        ({"quantity": 1}, 2, 11, TERM_END),
    ],
)
def test_inside_a_yearly_term_less_waits_for_its_end(
    add_ons: AddOnFrames, row: Row, had: int, index: int, effective_on: date
) -> None:
    found = decide(add_ons, asked(row), held(quantity=had), term="yearly", index=index)
    assert answers(found)[0][3] == effective_on
    assert answers(decide(add_ons, asked(row), held(quantity=had), index=index))[0][3] == B


def test_a_package_that_does_not_allow_one_ends_it(add_ons: AddOnFrames) -> None:
    decisions = decide(add_ons, asked(), held(), held("monthly"), opening="silver")
    assert answers(decisions) == [(f"{ACME}/2026-03-10/add_on/small", "approved", "not_allowed_by_package", B)]
    (row,) = decisions.rows(named=True)
    assert (row["kind"], row["request_id"], row["quantity"], row["to_package"]) == ("remove", None, None, "silver")
    assert approved_changes(decisions)["quantity"].to_list() == [0]


def test_a_package_that_stays_ends_nothing_and_what_is_held_no_more_is_not_ended(add_ons: AddOnFrames) -> None:
    assert decide(add_ons, asked(), held(), opening="silver", before="silver").is_empty()
    assert decide(add_ons, asked(), held(until=B), opening="silver").is_empty()
    assert decide(add_ons, asked(), held(), opening=None).is_empty()


def test_an_upgrade_at_once_ends_it_on_the_next_date(add_ons: AddOnFrames) -> None:
    at_once = decide(add_ons, asked(), held(), opening="silver", before="silver", month_before="starter")
    assert [reason for *_, reason, _ in answers(at_once)] == ["not_allowed_by_package"]
    # Without a month before, on the first date after a move, the closing package is the one before.
    assert decide(add_ons, asked(), held(), opening="silver", before="starter", month_before=None).height == 1
    assert decide(add_ons, asked(), held(), opening="silver", before="silver", month_before=None).is_empty()


def test_closed_dates_are_decided_already(add_ons: AddOnFrames) -> None:
    assert decide(add_ons, asked({}), held(), opening="silver", closed=True).is_empty()


def test_a_removal_and_a_package_that_ends_it_are_one_change(add_ons: AddOnFrames) -> None:
    what = asked({"kind": "remove", "quantity": None})
    decisions = decide(add_ons, what, held(), opening="silver")
    assert [outcome for _, outcome, *_ in answers(decisions)] == ["approved", "approved"]
    assert approved_changes(decisions).height == 1


# --- what is asked ----------------------------------------------------------------------------------------------------


def request(identity: str, kind: str, **more: object) -> Row:
    return {"request_id": identity, "kind": kind, "add_on": None, "quantity": None, "add_ons": None} | more


REQUESTS = pl.DataFrame(
    [
        request("a", "add", add_on="small", quantity=2),
        request("b", "add", add_on="small"),
        request("c", "remove", add_on="small", quantity=4),
        request("d", "subscribe", add_ons='[{"name": "small", "quantity": 3}, {"name": "monthly", "quantity": 1}]'),
        request("e", "subscribe"),
        request("f", "add", add_on="small"),
        request("g", "upgrade"),
    ],
    schema={
        "request_id": pl.String,
        "kind": pl.String,
        "add_on": pl.String,
        "quantity": pl.Int64,
        "add_ons": pl.String,
    },
)
ANSWERS = pl.DataFrame(
    [
        (identity, "acme", ACME, datetime(2026, 3, 1, hour, tzinfo=UTC), date(2026, 3, 1), kind, outcome, B)
        for hour, (identity, kind, outcome) in enumerate(
            [
                ("a", "add", "pending"),
                ("b", "add", "pending"),
                ("c", "remove", "pending"),
                ("d", "subscribe", "approved"),
                ("e", "subscribe", "approved"),
                ("f", "add", "refused"),
                ("g", "upgrade", "pending"),
            ]
        )
    ],
    schema={
        **{"request_id": pl.String, "account_id": pl.String, "subscription_id": pl.String, "at": INSTANT},
        **{"on": pl.Date, "kind": pl.String, "outcome": pl.String, "effective_on": pl.Date},
    },
    orient="row",
)
FIRST = pl.DataFrame({"subscription_id": [ACME], "first_billing_date": [date(2026, 1, 24)]})


def test_what_waits_and_what_came_with_a_subscription_is_asked() -> None:
    found = asked_add_ons(REQUESTS, ANSWERS, FIRST)
    assert found.select("decision_id", "request_id", "kind", "add_on", "quantity", "effective_on").rows() == [
        ("a", "a", "add", "small", 2, B),
        ("b", "b", "add", "small", 1, B),
        ("c", "c", "remove", "small", None, B),
        ("d/add_on/monthly", None, "add", "monthly", 1, date(2026, 1, 24)),
        ("d/add_on/small", None, "add", "small", 3, date(2026, 1, 24)),
    ]
    assert asked_add_ons(REQUESTS.filter(pl.col("kind") == "upgrade"), ANSWERS, FIRST).is_empty()
    assert asked_add_ons(REQUESTS, ANSWERS, FIRST.clear()).height == 3


def test_answers_name_what_was_asked_for() -> None:
    found = with_asked_add_ons(ANSWERS, REQUESTS)
    assert found.filter(pl.col("kind").is_in(["add", "remove"])).select("add_on", "quantity").rows() == [
        ("small", 2),
        ("small", 1),
        ("small", None),
        ("small", 1),
    ]
    assert found["add_on"].null_count() == 3


def test_what_came_with_a_subscription_after_its_date_was_closed_is_refused() -> None:
    closed = pl.DataFrame({"subscription_id": [ACME], "billing_date": [date(2026, 1, 24)]})
    found = late_add_on_answers(asked_add_ons(REQUESTS, ANSWERS, FIRST), closed, pl.Series(["d/add_on/small"]))
    assert found.select("decision_id", "outcome", "reason", "effective_on").rows() == [
        ("d/add_on/monthly", "refused", "known_after_the_close", None)
    ]
    nothing = pl.Series(dtype=pl.String)
    assert late_add_on_answers(asked_add_ons(REQUESTS, ANSWERS, FIRST), closed.clear(), nothing).is_empty()
