"""What tests do in place of Dagster and of billing again leaves the same: files, messages and exit status."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from billing.model.errors import RefusedError
from billing.rules.charges import month_charges
from tests.pipeline.outside import Ended, Landing, bill, bill_once, content_of, overage

pytestmark = pytest.mark.usefixtures("profiles")

BOTH = (True, False)


def said(ended: Ended, home: Path) -> tuple[int, str]:
    return ended.status, ended.messages.replace(str(home), "home")


def facts(home: Path) -> dict[str, str]:
    """Every file but those that hold when they were written."""
    own = ("register.db", "lake/ingest_state.json", "drafted.json")
    return {name: found for name, found in content_of(home).items() if not name.endswith(own)}


def landing_at(home: Path) -> Landing:
    landing = Landing(home)
    for name in ("acme", "bolt"):
        landing.customer(name)
    landing.use("acme", emails=16_000, leads=2_600)
    landing.use("bolt", "2026-01-21", emails=400_000)
    landing.deliver(["no JSON at all"], "2026-01-22")
    return landing


def test_months_and_corrections_are_the_same_with_and_without_dagster(tmp_path: Path) -> None:
    told, made = {}, {}
    for dagster in BOTH:
        home = tmp_path / str(dagster)
        landing = landing_at(home)
        ended = [bill(home, "2026-02", "2026-02-15", dagster=dagster)]
        landing.use("bolt", "2026-01-25", emails=2_000, delivered="2026-02-20")
        landing.pay("acme", "INV-2026-000001", "99.00", "2026-02-16T10:00:00Z", "failed")
        # it bills ten times the last, and is told to the person
        landing.customer("surges", on="2026-02-20")
        landing.use("surges", "2026-02-25", emails=400_000)
        correct = ("correct", "2026-02", "--as-of", "2026-02-21", "--reason", "The log came late.", "--home", home)
        ended.append(overage(*correct, dagster=dagster))
        ended.append(bill(home, "2026-03", "2026-03-25", dagster=dagster))
        told[dagster], made[dagster] = [said(each, home) for each in ended], facts(home)
    assert told[True] == told[False]
    assert any("warning: " in messages for _, messages in told[True])
    assert made[True] == made[False]


def lose_charges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a check that blocks fail: no account that could be parked stands for what is missing."""
    monkeypatch.setattr("assets.months.quantities_not_charged_once", lambda *_: pl.DataFrame({"metric": ["emails"]}))


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise RefusedError("the catalogue is another now")

    monkeypatch.setattr("assets.documents.review_of", refused)


def break_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(rated: pl.DataFrame) -> pl.DataFrame:
        return month_charges(rated).select("no such column")

    monkeypatch.setattr("billing.month.steps.month_charges", broken)


@pytest.mark.parametrize("spoil", [lose_charges, refuse, break_down])
def test_a_run_that_fails_is_told_the_same_with_and_without_dagster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    spoil(monkeypatch)
    told, made = {}, {}
    for dagster in BOTH:
        home = tmp_path / str(dagster)
        landing_at(home)
        told[dagster], made[dagster] = said(bill(home, "2026-01", "2026-01-31", dagster=dagster), home), facts(home)
    assert told[True] == told[False]
    assert told[True][0] == 1
    assert made[True] == made[False]


def test_a_home_that_is_copied_goes_on_as_the_one_that_was_billed(tmp_path: Path) -> None:
    told, made = {}, {}
    for name in ("billed", "copied"):
        home = tmp_path / name
        landing = landing_at(home)
        first = bill_once(home, "2026-01", "2026-01-31")
        again = bill(home, "2026-01", "2026-01-31")
        assert "nothing moved" in again.messages
        landing.use("bolt", "2026-01-26", emails=2_000, delivered="2026-02-03")
        ended = [first, again, bill(home, "2026-02", "2026-02-15")]
        told[name], made[name] = [said(each, home) for each in ended], facts(home)
    assert told["billed"] == told["copied"]
    assert made["billed"] == made["copied"]
