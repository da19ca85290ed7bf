"""Laws of add-ons: what is held over time follows the decisions, whatever else was decided before (rule 31)."""

from datetime import date

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.tables import ADD_ONS
from billing.rules.add_ons import HELD_SCHEMA, add_on_holdings, held_on

DATES = [date(2026 + month // 12, month % 12 + 1, 10) for month in range(30)]
Change = tuple[int, int, bool]


def changes(drawn: list[Change]) -> pl.DataFrame:
    """One decision at each billing date at most: (date, quantity, waits for the end of its term)."""
    decided = {place: (quantity, waits) for place, quantity, waits in drawn}
    rows = [
        {
            "account_id": "acme",
            "subscription_id": "acme/2026-01-10",
            "billing_month": f"{DATES[place]:%Y-%m}",
            "billing_date": DATES[place],
            "add_on": "support",
            "quantity": quantity,
            "effective_on": DATES[-(-place // 12) * 12] if waits else DATES[place],
            "is_given": False,
        }
        for place, (quantity, waits) in sorted(decided.items())
    ]
    return pl.DataFrame(rows, schema=ADD_ONS.schema)


def held_by_hand(drawn: list[Change]) -> list[int]:
    """What is held on each date, one after the other."""
    decided = {place: (quantity, waits) for place, quantity, waits in drawn}
    found, held, waiting = [], 0, None
    for place in range(len(DATES)):
        if waiting is not None and waiting[0] == place and place not in decided:
            held, waiting = waiting[1], None
        if place in decided:
            quantity, waits = decided[place]
            end = -(-place // 12) * 12
            waiting = (end, quantity) if waits and end > place else None
            held = held if waiting else quantity
        found.append(held)
    return found


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 23), st.integers(0, 3), st.booleans()), max_size=8))
def test_what_is_held_follows_the_decisions(drawn: list[Change]) -> None:
    dates = pl.DataFrame({"subscription_id": ["acme/2026-01-10"] * len(DATES), "on": DATES})
    found = held_on(dates, add_on_holdings(changes(drawn)), "on")
    held = dict(found.select("on", "held").iter_rows())
    assert found.height == len(held), "one quantity a date"
    assert [held.get(day, 0) for day in DATES] == held_by_hand(drawn)


def test_what_came_with_a_subscription_was_held_before() -> None:
    given_here = changes([(5, 2, False)]).with_columns(is_given=pl.lit(value=True))
    dates = pl.DataFrame({"subscription_id": ["acme/2026-01-10"] * 2, "on": [DATES[4], DATES[5]]})
    assert held_on(dates, add_on_holdings(given_here), "on")["held"].to_list() == [2, 2]


def test_what_is_held_depends_on_no_other_column_of_the_dates() -> None:
    one = "acme/2026-01-10"
    holdings = pl.DataFrame(
        [(one, "ip", 3, date(2026, 1, 10), date(2026, 3, 10)), (one, "boost", 1, date(2026, 4, 10), None)],
        schema=HELD_SCHEMA,
        orient="row",
    )
    # Requests name an add-on of their own, terms a day since which they hold.
    dates = pl.DataFrame(
        {"subscription_id": [one], "on": [date(2026, 2, 10)], "add_on": ["boost"], "since": [date(2026, 2, 1)]}
    )
    assert held_on(dates, holdings, "on").select("add_on", "held", "since").rows() == [("ip", 3, date(2026, 2, 1))]
