"""Add-ons: what is held of them on a date (rule 31)."""

from datetime import date

import polars as pl

from billing.rules.add_ons import HELD_SCHEMA, held_on


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
