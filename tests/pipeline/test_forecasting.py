"""`overage forecast` prints what the next months bill, and changes nothing in the home."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from billing.reports.forecast import Forecast
from billing.reports.forecast import forecast as computed
from tests.pipeline.outside import Landing, bill, overage

State = dict[str, tuple[int, bytes]]


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    landing = Landing(tmp_path_factory.mktemp("forecasting"))
    for name in ("acme", "parked"):
        landing.customer(name, "starter" if name == "acme" else "diamond")
    for month in ("2026-01", "2026-02"):
        landing.use("acme", f"{month}-20", emails=16_000)
    assert bill(landing.root, "2026-03", "2026-03-15").status == 1
    return landing


@pytest.fixture(scope="module")
def computed_before() -> list[Forecast]:
    """The forecast of the home, when it has been computed."""
    return []


@pytest.fixture
def forecast_once(computed_before: list[Forecast], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed is another thing than what is computed: the forecast of the home is computed once."""

    def once(*given: Any, **named: Any) -> Forecast:
        computed_before.extend([] if computed_before else [computed(*given, **named)])
        return computed_before[0]

    monkeypatch.setattr("billing.reports.forecast.forecast", once)


def state_of(home: Path) -> State:
    """The time and bytes of every file and folder."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [home, *sorted(home.rglob("*"))]
    }


@pytest.mark.usefixtures("forecast_once")
def test_it_is_as_of_the_last_run_and_changes_nothing(landing: Landing, tmp_path: Path) -> None:
    before = state_of(landing.root)
    ended = overage("forecast", "--months", 2, "--format", "json", "--home", landing.root, "--out", tmp_path / "out")
    assert ended.status == 0
    row = {"account_id": "acme", "expected": "102.00", "low": "102.00", "high": "102.00"}
    assert json.loads(ended.output) == [
        {"month": month, **row, "currency": "USD", "basis": "history"} for month in ("2026-04", "2026-05")
    ]
    told = ended.messages.splitlines()
    assert told[0] == "as of 2026-03-15: 2026-04 to 2026-05, amounts before tax"
    assert "back-test of 2026-03 to 2026-03, USD: 0.00 % off on average; 1 of 1 months between low and high" in told
    assert "emails: mean for 1" in told
    assert "1 account parked: nothing is forecast there" in told
    assert state_of(landing.root) == before
    written = {path.stem: pl.read_parquet(path) for path in (tmp_path / "out").iterdir()}
    assert {name: frame.height for name, frame in written.items()} == {"forecast": 2, "backtest": 1, "methods": 4}


@pytest.mark.usefixtures("forecast_once")
def test_it_is_a_table_for_people_and_csv_for_a_spreadsheet(landing: Landing) -> None:
    table = overage("forecast", "--months", 2, "--home", landing.root)
    assert (table.status, table.output.splitlines()[0].split()) == (
        0,
        ["month", "account_id", "expected", "low", "high", "currency", "basis"],
    )
    csv = overage("forecast", "--months", 2, "--format", "csv", "--home", landing.root)
    assert csv.output == (
        "month,account_id,expected,low,high,currency,basis\n"
        "2026-04,acme,102.00,102.00,102.00,USD,history\n"
        "2026-05,acme,102.00,102.00,102.00,USD,history\n"
    )


def test_what_is_due_and_not_issued_is_named(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("acme")
    before = state_of(tmp_path)
    ended = overage("forecast", "--months", 1, "--as-of", "2026-03-15", "--format", "json", "--home", tmp_path)
    # The running month counts as far as it is not closed.
    assert [row["month"] for row in json.loads(ended.output)] == ["2026-03"]
    assert "2 billing dates before 2026-03 not issued yet: not in the forecast" in ended.messages
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("place", ["", "forecasts", "lake/forecast"])
def test_nothing_is_written_into_the_home(landing: Landing, place: str) -> None:
    ended = overage("forecast", "--home", landing.root, "--out", landing.root / place)
    assert ended.status == 2
    assert "expected a folder that is not in the home" in ended.messages
