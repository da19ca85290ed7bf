"""Ingest by workers, in runs that are executed again: what an earlier run handed over misleads nobody."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets import deliveries, shards
from assets.dagster_graph import HomeResource
from assets.deliveries import ingested_together
from assets.handovers import forget_handed_over, hand_over, handed_over
from assets.heads import WARNINGS
from assets.resources import BillingHome
from billing.ingest import scan_events
from billing.model.errors import InterruptedRunError
from billing.model.tables import DRAFTS
from billing.month.plan import Plan, bill_shard
from billing.month.steps import days_to_ingest
from billing.store.home import Home
from tests.landing import Landing


@pytest.fixture
def landing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Landing:
    """A home with two batches of usage."""
    monkeypatch.setattr(deliveries, "BATCH", 1)
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    landing.use("acme", "2026-01-20", emails=100)
    landing.use("acme", "2026-01-21", emails=100)
    return landing


def ingest(instance: dg.DagsterInstance, landing: Landing, tags: Mapping[str, str]) -> dg.DagsterRun:
    """A run that ingests; with tags of an earlier one it is executed again, as Dagster's page does."""
    home = HomeResource(folder=str(landing.root), as_of="2026-01-31")
    done = dg.materialize(
        [ingested_together], instance=instance, resources={"billing_home": home}, tags=tags, raise_on_error=False
    )
    assert done.success
    (materialized,) = done.get_asset_materialization_events()
    files = materialized.step_materialization_data.materialization.metadata["files parsed by workers"].value
    run = instance.get_run_by_id(done.run_id)
    assert run is not None
    assert (run.tags.get(WARNINGS), files) == ("[]", 0 if tags else 2)
    return run


def test_a_run_that_is_executed_again_when_all_is_ingested_has_nothing_to_do(landing: Landing) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        first = ingest(instance, landing, {})
        state = Home(landing.root).lake / "ingest_state.json"
        before = state.read_bytes()
        ingest(instance, landing, first.tags)
    assert state.read_bytes() == before


def left_out(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Do nothing when the work of place 1 is asked for first: as if its mapped step had been left out."""
    real, done = getattr(deliveries, name), set[int]()

    def work(context: Any, *arguments: Any) -> Any:
        place = arguments[-1]
        if place == 1 and place not in done:
            done.add(place)
            return {} if name == "_write" else None
        return real(context, *arguments)

    monkeypatch.setattr(deliveries, name, work)


@pytest.mark.parametrize("name", ["_parse", "_write"])
def test_mapped_steps_that_a_run_which_is_begun_again_leaves_out_are_done_by_the_next_step(
    landing: Landing, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    left_out(monkeypatch, name)
    with dg.DagsterInstance.ephemeral() as instance:
        ingest(instance, landing, {})
    business = BillingHome(folder=str(landing.root), as_of="2026-01-31").business()
    assert scan_events(business.home, ["2026-01"]).select(pl.len()).collect().item() == 2
    assert days_to_ingest(business) == []


def test_a_shard_that_a_run_which_is_begun_again_leaves_out_is_billed_when_they_are_collected(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERAGE_SHARDS", "2")
    landing.customer("zeta")
    billed: list[str] = []

    def bill(root: Path, plan: Plan, shard: str, register: str | None) -> None:
        billed.append(shard)
        if billed != ["0000-0511"]:
            bill_shard(root, plan, shard, register)

    monkeypatch.setattr("assets.shards.bill_planned_shard", bill)
    home = HomeResource(folder=str(landing.root), as_of="2026-01-31")
    with dg.DagsterInstance.ephemeral() as instance:
        tags = {"dagster/partition": "2026-01"}
        done = dg.materialize([shards.shards], instance=instance, resources={"billing_home": home}, tags=tags)
    assert done.success
    assert billed == ["0000-0511", "0512-1023", "0000-0511"]
    assert len(Home(landing.root).parts(DRAFTS, "2026-01")) == 2
    assert not [path for path in (Home(landing.root).lake / "plans").rglob("*") if path.is_file()]


def test_a_run_that_is_begun_again_goes_on_with_what_the_lost_one_handed_over(tmp_path: Path) -> None:
    home, lost = Home(tmp_path), SimpleNamespace(run_id="lost", root_run_id=None, tags={})
    again = SimpleNamespace(run_id="again", root_run_id="lost", tags=lost.tags)
    other = SimpleNamespace(run_id="other", root_run_id=None, tags={})

    def context(run: SimpleNamespace) -> Any:
        instance = SimpleNamespace(get_run_by_id=lambda _: run, add_run_tags=lambda _, tags: run.tags.update(tags))
        return SimpleNamespace(run=run, instance=instance)

    hand_over(context(lost), home, "plan", {"days": 2})
    assert [handed_over(context(run), home, "plan") for run in (lost, again, other)] == [{"days": 2}, {"days": 2}, None]
    forget_handed_over(home)
    with pytest.raises(InterruptedRunError, match="not what the run handed over: run again"):
        handed_over(context(again), home, "plan")
