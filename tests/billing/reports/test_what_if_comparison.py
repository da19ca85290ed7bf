"""The sums of a what-if: every table adds up to the same totals, and accounts are counted once."""

from decimal import Decimal

import polars as pl
import pytest

from billing.model.columns import MONEY
from billing.reports.what_if.comparison import PERCENTILES, Sums

_TEXT = ("currency", "account_id", "subscription_id", "kind", "metric", "rule", "package", "add_on", "term", "cause")


def changes(*rows: tuple[str, str, str | None]) -> pl.DataFrame:
    """A line of each account: before, after and cause."""
    found = [
        {"account_id": f"a{place}", "before": Decimal(before), "after": Decimal(after), "cause": cause}
        for place, (before, after, cause) in enumerate(rows)
    ]
    frame = pl.DataFrame(found, schema={"account_id": pl.String, "before": MONEY, "after": MONEY, "cause": pl.String})
    fixed = {"currency": "USD", "kind": "package_fee", "package": "starter"}
    return frame.with_columns(
        **{name: pl.lit(value) for name, value in fixed.items()},
        **{name: pl.lit(None, pl.String) for name in _TEXT if name not in (*fixed, *frame.columns)},
    )


def tables(
    frame: pl.DataFrame, flag_above: str | None = None, kept: list[str] | None = None
) -> dict[str, pl.DataFrame]:
    sums = Sums()
    issued = frame.select("currency", "account_id", issued="before")
    parked = pl.DataFrame(schema=dict.fromkeys(("account_id", "reason", "detail", "side", "currency"), pl.String))
    sums.add("2026-01", frame, issued, parked)
    upgrades = pl.DataFrame(schema={"currency": pl.String, "what": pl.String})
    grandfathered = None if kept is None else pl.Series("account_id", kept, pl.String)
    return sums.tables(upgrades, None if flag_above is None else Decimal(flag_above), grandfathered)


@pytest.mark.parametrize(
    ("before", "after", "bounds"),
    [
        ("100", "100", (0, 0)),
        ("100", "100.01", (0, 5)),
        ("100", "105", (0, 5)),
        ("100", "105.01", (5, 10)),
        ("100", "150", (20, 50)),
        ("100", "150.01", (50, None)),
        ("100", "99.99", (-5, 0)),
        ("100", "95", (-5, 0)),
        ("100", "94.99", (-10, -5)),
        ("100", "50", (-50, -20)),
        ("100", "0", (None, -50)),
        ("0", "10", (None, None)),
        ("-5", "10", (None, None)),
    ],
)
def test_an_account_is_counted_by_how_much_its_bill_changes(
    before: str, after: str, bounds: tuple[int | None, int | None]
) -> None:
    found = tables(changes((before, after, "fee" if before != after else None)))["distribution"]
    assert found.select("from_percent", "to_percent", "accounts").rows() == [(*bounds, 1)]


def test_changes_stand_in_their_order_with_unchanged_accounts_between() -> None:
    rows = [("100", after, "fee") for after in ("10", "60", "85", "93", "98", "103", "108", "115", "140", "190")]
    found = tables(changes(*rows, ("100", "100", None), ("0", "1", "fee")))["distribution"]
    assert found.select("from_percent", "to_percent").rows() == [
        *((None, -50), (-50, -20), (-20, -10), (-10, -5), (-5, 0), (0, 0), (0, 5), (5, 10), (10, 20), (20, 50)),
        *((50, None), (None, None)),
    ]
    assert found["accounts"].to_list() == [1] * 12


def test_a_percentile_is_the_smallest_difference_that_so_many_do_not_exceed() -> None:
    rows = [("100", str(100 + number), "fee") for number in range(1, 101)]
    found = tables(changes(*rows))["percentiles"]
    assert found.select("percentile", pl.col("difference").cast(pl.Int64)).rows() == [(p, p) for p in PERCENTILES]
    assert tables(changes(("1", "3", "fee")))["percentiles"]["difference"].unique().to_list() == [2]


@pytest.mark.parametrize(
    ("before", "after", "above", "is_flagged"),
    [
        ("100", "120", "20", False),
        ("100", "120.01", "20", True),
        ("100", "79.99", "20", True),
        ("100", "80", "20", False),
        ("100", "101", "0.99", True),
        ("100", "101", "1", False),
        ("0", "1", "20", True),
        ("0", "0", "0", False),
    ],
)
def test_an_account_is_flagged_above_the_percentage(before: str, after: str, above: str, is_flagged: bool) -> None:
    assert tables(changes((before, after, "fee")), above)["flagged"].height == is_flagged


def test_causes_add_up_to_the_difference_of_an_account_the_largest_named_first() -> None:
    rows = pl.concat(
        [
            changes(("100", "110", "fee")),
            changes(("50", "20", "tariff")),
            changes(("5", "5", None)),
            changes(("0", "30", "allowance")),
        ]
    )
    found = tables(rows)
    assert found["accounts"].select("before", "after", "difference", "why").rows() == [
        (155, 165, 10, "allowance, tariff, fee")
    ]
    assert found["causes"]["difference"].sum() == 10


def test_sums_of_all_tables_agree() -> None:
    found = tables(changes(("100", "110", "fee"), ("50", "20", "tariff"), ("7", "7", None)), kept=["a0", "a2"])
    for name in ("totals", "months", "packages", "lines", "details", "accounts"):
        assert (found[name]["before"].sum(), found[name]["after"].sum()) == (157, 137), name
    assert found["metrics"].is_empty()
    assert found["grandfathered"].rows() == [("USD", 2, 107, 117, 10)]
    assert found["totals"]["issued"].to_list() == [157]
