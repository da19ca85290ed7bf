"""Usage to come is forecast by the method that was nearest in the past, with the spread of its errors."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rules.usage_forecast import HISTORY, UsageForecast, forecast_usage
from tests.forecast_oracle import MEAN, TREND, YEAR, Series
from tests.sizes import sized

UNIT = 10**9
FIRST = 24_000


def history(**accounts: list[int]) -> pl.DataFrame:
    """The emails of accounts in consecutive cycles, as HISTORY."""
    rows = [
        (account, "emails", None, FIRST + place, value * UNIT, value)
        for account, values in accounts.items()
        for place, value in enumerate(values)
    ]
    return pl.DataFrame(rows, schema=HISTORY, orient="row")


def ahead(forecast: UsageForecast, account: str, after: int, steps: int = 3) -> list[tuple[int, int, int]]:
    """Expected, low and high emails of the cycles after `after` known ones."""
    targets = pl.DataFrame(
        {
            "account_id": [account] * steps,
            "step": range(1, steps + 1),
            "place": range(FIRST + after, FIRST + after + steps),
            "access": [1] * steps,
            "whole": [1] * steps,
        },
        schema_overrides={"place": pl.Int32, "access": pl.Int128, "whole": pl.Int128},
    )
    found = forecast.ahead(targets, ["emails"]).sort("step")
    assert found["quantity"].to_list() == [events * UNIT for events in found["events"]]
    return [tuple(value // UNIT for value in row) for row in found.select("quantity", "low", "high").iter_rows()]


def method_of(forecast: UsageForecast, account: str) -> str:
    found: str = forecast.methods.filter(pl.col("account_id") == account)["method"].item()
    return found


@pytest.mark.parametrize("cycles", [1, 2, 3, 7, 20])
def test_constant_usage_goes_on_and_has_no_spread(cycles: int) -> None:
    found = forecast_usage(history(acme=[16_001] * cycles))
    assert ahead(found, "acme", cycles) == [(16_001, 16_001, 16_001)] * 3


def test_of_equal_errors_the_mean_is_chosen() -> None:
    assert method_of(forecast_usage(history(acme=[5] * 20)), "acme") == MEAN


def test_steady_growth_goes_on_as_a_line() -> None:
    found = forecast_usage(history(acme=[100, 200, 300, 400, 500, 600, 700, 800]))
    assert method_of(found, "acme") == TREND
    assert [expected for expected, *_ in ahead(found, "acme", 8)] == [900, 1000, 1100]


def test_a_falling_line_ends_at_zero() -> None:
    found = forecast_usage(history(acme=[800, 700, 600, 500, 400, 300, 200, 100]))
    assert [expected for expected, *_ in ahead(found, "acme", 8)] == [0, 0, 0]


def test_a_season_comes_back_at_the_level_of_today() -> None:
    year = [100, 900, 100, 300, 700, 200, 800, 100, 500, 900, 100, 400]
    found = forecast_usage(history(acme=[*year, *(value * 2 for value in year)]))
    assert method_of(found, "acme") == YEAR
    # Twice as much as a year before; beyond the year that is known its months come again.
    again = [value * 4 for value in year]
    assert [expected for expected, *_ in ahead(found, "acme", 24, steps=14)] == [*again, again[0], again[1]]


def test_the_past_is_forecast_from_what_was_before_it_only() -> None:
    found = forecast_usage(history(acme=[10, 20, 30, 1_000]))
    assert found.past.select("place", pl.col("quantity") // UNIT).rows() == [
        (FIRST + 1, 10),
        (FIRST + 2, 15),
        (FIRST + 3, 20),
    ]


def test_an_account_without_errors_of_its_own_takes_those_of_all() -> None:
    found = forecast_usage(history(new=[100], old=[100, 100, 100, 150, 100, 100, 50, 100]))
    low, high = found.methods.select("low", "high").row(0)
    assert low < 0 < high
    ((expected, least, most),) = ahead(found, "new", 1, steps=1)
    assert (expected, least, most) == (100, round(100 + low / 10_000), round(100 + high / 10_000))


def test_a_part_of_a_cycle_uses_a_part() -> None:
    found = forecast_usage(history(acme=[3_000] * 4))
    half = pl.DataFrame(
        {"account_id": ["acme"], "step": [1], "place": [FIRST + 4], "access": [10], "whole": [30]},
        schema_overrides={"place": pl.Int32, "access": pl.Int128, "whole": pl.Int128},
    )
    assert found.ahead(half, ["emails"])["quantity"].to_list() == [1_000 * UNIT]
    assert found.ahead(half, [])["quantity"].to_list() == [3_000 * UNIT]


def test_fractions_stay_where_usage_has_them_and_numbers_stay_whole() -> None:
    rows = history(whole=[1, 1, 2], parts=[1, 1, 2])
    is_parts = pl.col("account_id") == "parts"
    rows = rows.with_columns(quantity=pl.when(is_parts).then(pl.col("quantity") // 2).otherwise("quantity"))
    found = forecast_usage(rows)
    assert found.series.height == 2
    targets = pl.DataFrame(
        {"account_id": ["parts", "whole"], "step": 1, "place": FIRST + 3, "access": 1, "whole": 1},
        schema_overrides={"place": pl.Int32, "access": pl.Int128, "whole": pl.Int128},
    )
    assert found.ahead(targets, [])["quantity"].to_list() == [666_666_667, UNIT]


def test_the_rules_of_a_metric_share_its_method() -> None:
    # The parts go up and down, their sum grows by 100 a cycle.
    totals = [100 * place for place in range(1, 11)]
    large = [value // 2 + (30 if place % 2 else -30) for place, value in enumerate(totals)]
    rows = [
        ("acme", "emails", rule, FIRST + place, value * UNIT, value)
        for rule, values in (("large", large), (None, [a - b for a, b in zip(totals, large, strict=True)]))
        for place, value in enumerate(values)
    ]
    found = forecast_usage(pl.DataFrame(rows, schema=HISTORY, orient="row"))
    assert found.methods.select("metric", "method").rows() == [("emails", TREND)]
    assert found.series.select("rule", "method").rows() == [("large", TREND), (None, TREND)]


def test_nothing_is_known_of_nothing() -> None:
    found = forecast_usage(pl.DataFrame(schema=HISTORY))
    assert (found.series.height, found.past.height, found.methods.height) == (0, 0, 0)


def test_the_largest_quantities_stay_numbers() -> None:
    found = forecast_usage(history(acme=[10**20 - 1] * 20, b=[10**20 - 1, 0] * 10))
    for account in ("acme", "b"):
        assert all(0 <= low <= expected <= high <= 10**20 for expected, low, high in ahead(found, account, 20))


@st.composite
def seasons(draw: st.DrawFn) -> list[int]:
    """Two to three years of the same months, at a level that changes from cycle to cycle."""
    year = draw(st.lists(st.integers(0, 10**6), min_size=12, max_size=12))
    levels = draw(st.lists(st.integers(80, 120), min_size=24, max_size=34))
    return [year[place % 12] * level // 100 for place, level in enumerate(levels)]


values = st.lists(st.integers(0, 10**7), min_size=1, max_size=30)
accounts = st.dictionaries(st.sampled_from("abcd"), st.one_of(values, seasons()), min_size=1)


@given(accounts)
@settings(max_examples=sized(usual=25, long=1_000), deadline=None)
def test_forecasts_are_those_of_plain_python(used: dict[str, list[int]]) -> None:
    found = forecast_usage(history(**used).sample(fraction=1, shuffle=True, seed=1))
    series = {
        name: Series({FIRST + place: value for place, value in enumerate(values)}) for name, values in used.items()
    }
    of_all = [error for each in series.values() for error in each.relative_errors()]
    for name, one in series.items():
        if len(one.values) > 1:
            assert method_of(found, name) == one.method()
        expected = [one.ahead(step) for step in (1, 2, 3)]
        assert ahead(found, name, len(one.values)) == [(each, *one.low_and_high(each, of_all)) for each in expected]
