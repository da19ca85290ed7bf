"""What a forecast bills is what is issued where usage comes as foreseen: random lives with everything that is sold."""

import shutil
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final
from unittest import mock

import polars as pl
import pytest

from billing.model.calendar import first_day, months_after
from billing.model.tables import USAGE
from billing.month.business import Business
from billing.month.foreseen_usage import Foresee, ForeseenUsage
from billing.reports.forecast import Forecast, forecast
from billing.rules.measurement import MEASURED
from billing.store.monthly import read_month
from tests.by_steps import bill_by_steps
from tests.life_story.business import story
from tests.life_story.offers import FEATURES
from tests.long_runs import long_only

SEEDS: Final = tuple(range(1, 13))
ACCOUNTS: Final = 25
MONTHS: Final = 12
AHEAD: Final = 3
"""How many months are forecast."""
SHARDS: Final[tuple[int, ...]] = (3,)


@long_only("reports/test_forecast compares forecasts with what plain Python says, and with what is issued then")
@pytest.mark.parametrize("seed", SEEDS)
def test_foreseen_usage_is_billed_as_measured_usage_is(seed: int, tmp_path: Path) -> None:
    told = story(seed, ACCOUNTS, MONTHS, frozenset(FEATURES))
    told.charges = [(written, each) for written, each in told.charges if each["on"] >= "2024-01-01"]
    day = told.days[-1] if told.days else date(2024, 5, 9)
    home, twin = tmp_path / "home", tmp_path / "twin"
    told.write(home / "landing", None, day)
    bill_by_steps(home, f"{day:%Y-%m}", f"{day}")
    shutil.copytree(home, twin)
    # Documents wait for late usage.
    wait = Business.load(home, day, issues=False).catalogue.policy.issue_after_days
    last = first_day(months_after(f"{day:%Y-%m}", AHEAD + 2)) + timedelta(days=wait - 1)
    billed = bill_by_steps(twin, f"{last:%Y-%m}", f"{last}")
    with mock.patch.object(ForeseenUsage, "of_month", lambda *_: _measured_in(billed)):
        found = _forecast(home, day)
    said = {(month, account): amount for month, account, amount, *_ in found.rows.iter_rows() if amount}
    assert said
    assert said == _issued(billed, Business.load(home, day, issues=False), found)
    for shards in SHARDS:
        plain = _forecast(home, day, shards=shards)
        assert plain.rows.filter(~pl.col("expected").is_between("low", "high")).is_empty()
        assert plain.rows.equals(_forecast(home, day).rows)


def _forecast(home: Path, day: date, shards: int | None = None) -> Forecast:
    return forecast(Business.load(home, day, issues=False, shards=shards), AHEAD)


def _measured_in(billed: Business) -> Foresee:
    """The usage that another home measured."""

    def foreseen(_: Business, month: str) -> pl.DataFrame:
        usage = read_month(billed.home, USAGE, month)
        levels = {name: pl.lit(None, MEASURED[name]) for name in ("closing_base", "lowest_base")}
        return usage.with_columns(**levels).select(pl.col(name).cast(dtype) for name, dtype in MEASURED.items())

    return foreseen


def _issued(billed: Business, before: Business, found: Forecast) -> dict[tuple[str, str], Decimal]:
    """By month and account: the nets of the documents that were issued after the forecast."""
    new = billed.register.documents().join(before.register.documents(), on="number", how="anti")
    nets = (
        new.filter(pl.col("billing_month").is_in(list(found.months)))
        .group_by("billing_month", "account_id")
        .agg(pl.col("net").sum())
        .filter(pl.col("net") != 0)
    )
    return {(month, account): net for month, account, net in nets.iter_rows()}
