"""Ingest in stages: in any order, repeated, in another process or another copy of the home, the lake is the same."""

import pickle
import random
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.ingest import duplicates, hash_cache, hash_slices, row_hashes
from billing.ingest import settings as ingest_settings
from billing.ingest.deduplication import shared_hashes
from billing.ingest.hash_slices import HashSlices
from billing.ingest.landing import DeliveredFile
from billing.ingest.planning import IngestPlan, at_home
from billing.ingest.stages import (
    IngestOutcome,
    batches,
    decide_days,
    finish_ingest,
    parse_batch,
    plan_ingest,
    write_batch,
)
from billing.ingest.state import DayState, read_state
from billing.model.errors import InterruptedRunError
from billing.store.files import SCRATCH_PREFIX
from billing.store.home import Home
from billing.store.landing_copy import RemoteFile
from tests import sizes
from tests.billing.ingest.small_business import Business, line, split_all
from tests.billing.ingest.test_deliveries import NewBusiness, some_deliveries
from tests.sizes import sized

DAY = "2026-01-02"


def handed_over(thing: Any) -> Any:
    """A thing as another process gets it, which has loaded nothing."""
    ingest_settings._loaded.clear()
    return pickle.loads(pickle.dumps(thing))  # noqa: S301  # our own


def plan_of(business: Business) -> IngestPlan:
    return plan_ingest(business.home, business.rules())


def ingest(business: Business, order: random.Random) -> IngestOutcome:
    """Ingest by workers that share nothing but the home: each batch in any order, some of them twice."""

    def some(work: list[Any]) -> list[Any]:
        found = batches(work, order.choice([0, 300, 10**9]))
        return order.sample(found + order.sample(found, len(found) // 2), len(found) + len(found) // 2)

    plan = handed_over(plan_of(business))
    for jobs in some(list(plan.jobs)):
        parse_batch(business.home, handed_over(plan.settings), plan.root, handed_over(jobs))
    decision = handed_over(decide_days(business.home, handed_over(plan)))
    written: dict[date, DayState] = {}
    for days in some(list(decision.days)):
        written |= handed_over(write_batch(business.home, handed_over(plan.settings), handed_over(days)))
    return finish_ingest(business.home, plan, decision, written)


@pytest.mark.parametrize("is_split", sized(usual=[True], long=[False, True]))
@pytest.mark.parametrize("seed", sized(usual=range(1), long=range(3)))
def test_workers_make_the_same_lake(
    new_business: NewBusiness, monkeypatch: pytest.MonkeyPatch, seed: int, is_split: bool
) -> None:
    if is_split:
        split_all(monkeypatch)
    monkeypatch.setattr(hash_cache, "_WORTH_CACHING", 3)
    monkeypatch.setattr(row_hashes, "_HELD", 7)
    one, workers, order = new_business("one"), new_business("workers"), random.Random(seed)  # noqa: S311
    for place, (day, name, rows) in enumerate(some_deliveries(seed)):
        one.deliver(rows, day, name)
        workers.deliver(rows, day, name)
        if place % 3 == 1:
            assert ingest(workers, order) == one.ingest()
            assert workers.lake() == one.lake()
    one.accounts, workers.accounts = {"acme"}, {"acme"}
    assert ingest(workers, order) == one.ingest()
    assert workers.lake() == one.lake()
    assert ingest(workers, order).days_changed == ()
    assert read_state(workers.home).pending == ()  # type: ignore[union-attr]  # it was written


@pytest.mark.parametrize("seed", sized(usual=range(1), long=range(4)))
def test_identities_are_compared_by_slices_of_any_size(
    new_business: NewBusiness, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    whole, slices = new_business("whole"), new_business("slices")
    for place, (day, name, rows) in enumerate(some_deliveries(seed)):
        whole.deliver(rows, day, name)
        slices.deliver(rows, day, name)
        if place % 3 == 1 or sizes.LONG:
            whole.ingest()
            with monkeypatch.context() as patch:
                patch.setattr(hash_slices, "_HELD", 5)
                patch.setattr(duplicates, "_RESOLVED_TOGETHER", 2)
                patch.setattr(duplicates, "_COMPARED_TOGETHER", 3)
                patch.setattr(duplicates, "_READ_TOGETHER", 2)
                slices.ingest()
            assert slices.lake() == whole.lake()
    assert not list(slices.home.lake.rglob(f"{SCRATCH_PREFIX}*"))


@given(st.lists(st.lists(st.one_of(st.none(), st.integers(0, 2**64 - 1), st.integers(0, 40))), max_size=5))
@settings(max_examples=20, deadline=None)
def test_shared_hashes_are_the_same_held_or_on_disk(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int | None]]
) -> None:
    hashes = [pl.Series(part, dtype=pl.UInt64) for part in parts]
    folder = tmp_path_factory.mktemp("slices")
    with pytest.MonkeyPatch.context() as patch, HashSlices(folder) as slices:
        patch.setattr(hash_slices, "_HELD", 3)
        patch.setattr(hash_slices, "_SORTED_TOGETHER", 2)
        for part in hashes:
            slices.add(part)
        assert slices.shared().equals(shared_hashes([part.drop_nulls() for part in hashes]))
    assert not list(folder.iterdir())


def test_a_worker_has_a_copy_of_the_home_of_its_own(tmp_path: Path, new_business: NewBusiness) -> None:
    head, other = new_business("head"), Home(tmp_path / "worker")
    rows = [line("1"), line("2", subject="nobody"), line("1"), line("3", time="yesterday")]
    head.deliver(rows, DAY)
    plan = plan_of(head)
    shutil.copytree(head.home.root, other.root, copy_function=shutil.copyfile)  # other times, other inodes
    assert parse_batch(other, handed_over(plan.settings), plan.root, handed_over(plan.jobs)) == 1
    assert not list(head.home.lake.glob("parsed_files/*/*"))
    shutil.copytree(other.lake / "parsed_files", head.home.lake / "parsed_files")
    decision = decide_days(head.home, plan)
    shutil.copytree(head.home.lake, other.lake, dirs_exist_ok=True)
    shutil.move(head.home.root, tmp_path / "away")
    written = write_batch(other, handed_over(plan.settings), handed_over(decision.days))
    shutil.move(tmp_path / "away", head.home.root)
    shutil.copytree(other.lake, head.home.lake, dirs_exist_ok=True)
    outcome = finish_ingest(head.home, plan, decision, written)
    assert (outcome.counted, outcome.duplicates, outcome.rejected) == (1, 1, 2)
    alone = new_business("alone")
    alone.deliver(rows, DAY)
    alone.ingest()
    assert alone.lake() == head.lake()


def test_a_file_in_a_store_is_fetched_where_the_worker_is(tmp_path: Path) -> None:
    head, worker = Home(tmp_path / "head"), Home(tmp_path / "worker")
    cache = head.root / ".store" / "usage"
    remote = RemoteFile("s3://bucket/home", "landing/usage/2026-01-02/a.jsonl", 5, "mark", cache)
    (worker.root / ".store" / "usage").mkdir(parents=True)
    (worker.root / ".store" / "usage" / remote.name).write_text("bytes")
    place = head.landing / "usage" / DAY / "a.jsonl"
    file = at_home(DeliveredFile(date.fromisoformat(DAY), "a.jsonl", place, remote=remote), head.root, worker)
    assert file.place == worker.landing / "usage" / DAY / "a.jsonl"
    assert file.path.read_text() == "bytes"


def test_a_file_that_has_changed_since_is_not_parsed(business: Business) -> None:
    business.deliver(line("1"), DAY)
    plan = plan_of(business)
    business.deliver(line("2"), DAY)
    with pytest.raises(InterruptedRunError, match=f"usage/{DAY}/a.jsonl was changed while it was read: run again"):
        parse_batch(business.home, plan.settings, plan.root, plan.jobs)
    assert not list(business.home.lake.glob("parsed_files/*/*.parquet"))


def test_a_batch_that_comes_after_the_end_writes_nothing(business: Business) -> None:
    business.deliver(line("1"), DAY)
    plan = plan_of(business)
    parse_batch(business.home, plan.settings, plan.root, plan.jobs)
    decision = decide_days(business.home, plan)
    with pytest.raises(InterruptedRunError, match=f"usage of {DAY} was not written: run again"):
        finish_ingest(business.home, plan, decision, {})
    written = write_batch(business.home, plan.settings, decision.days)
    finish_ingest(business.home, plan, decision, written)
    business.deliver([line("1"), line("2")], DAY)
    business.ingest()
    before = business.lake()
    with pytest.raises(InterruptedRunError, match="another run did it"):
        write_batch(business.home, plan.settings, decision.days)
    assert business.lake() == before


def test_accounts_that_another_run_replaced_stop_a_worker(business: Business) -> None:
    business.deliver(line("1"), DAY)
    plan = plan_of(business)
    business.ingest()
    business.accounts = {"acme"}
    business.ingest()
    with pytest.raises(InterruptedRunError, match="run again"):
        parse_batch(business.home, handed_over(plan.settings), plan.root, plan.jobs)


@pytest.mark.parametrize("stage", ["plan", "parse", "decide", "write"])
def test_a_run_that_ends_after_a_stage_is_gone_over_again(new_business: NewBusiness, stage: str) -> None:
    stopped, whole = new_business("stopped"), new_business("whole")
    for business in (stopped, whole):
        business.deliver([line("1"), line("2")], DAY)
        business.ingest()
        business.deliver([line("1"), line("3")], "2026-01-03")
        business.deliver([line("2", data={"count": 5}), line("4")], DAY)
    plan = plan_of(stopped)
    if stage != "plan":
        parse_batch(stopped.home, plan.settings, plan.root, plan.jobs)
    if stage in ("decide", "write"):
        decision = decide_days(stopped.home, plan)
        if stage == "write":
            write_batch(stopped.home, plan.settings, decision.days[:1])
    assert stopped.ingest() == replace(whole.ingest(), **_done_before(stage))
    assert stopped.lake() == whole.lake()
    assert stopped.ingest().days_changed == ()


def _done_before(stage: str) -> dict[str, Any]:
    """What a run says otherwise, where another has parsed the files, or has written the day that changed."""
    parsed = {} if stage == "plan" else {"files_read": 0, "files_skipped": 2}
    return parsed | ({"warnings": ()} if stage == "write" else {})


def test_batches_handed_over_twice_at_once_are_done_as_one(new_business: NewBusiness) -> None:
    twice, once = new_business("twice"), new_business("once")
    for business in (twice, once):
        business.accounts = {f"account-{number}" for number in range(20)}
        for day in (DAY, "2026-01-03"):
            business.deliver([line(account, subject=account) for account in sorted(business.accounts)] * 40, day)
    plan = plan_of(twice)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        parsed = [pool.submit(parse_batch, twice.home, plan.settings, plan.root, plan.jobs) for _ in range(2)]
        assert [each.result() for each in parsed] == [2, 2]
        decision = decide_days(twice.home, plan)
        wrote = [pool.submit(write_batch, twice.home, plan.settings, decision.days) for _ in range(2)]
        one, other = (each.result() for each in wrote)
    assert one == other
    assert finish_ingest(twice.home, plan, decision, one) == once.ingest()
    assert twice.lake() == once.lake()


def test_batches_have_about_so_many_bytes_and_every_job_once(business: Business) -> None:
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        business.deliver(line(name), DAY, name)
    jobs = plan_of(business).jobs
    size = jobs[0].bytes
    assert [len(batch) for batch in batches(jobs, 2 * size)] == [2, 1]
    assert [len(batch) for batch in batches(jobs, 0)] == [1, 1, 1]
    assert [job for batch in batches(jobs, 2 * size) for job in batch] == list(jobs)
