"""Steps elsewhere: they work for a head that is there, of their own version, and are never tried again by mistake."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from assets.heads import HEAD, VERSIONS, at_work, leading
from billing.model.errors import RefusedError
from billing.month.business import Business
from billing.month.versions import versions
from billing.store.lock import is_held_by, lock
from tests.landing import Landing


@pytest.fixture
def business(tmp_path: Path) -> Business:
    """A business with one customer."""
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    return Business.load(landing.root, date(2026, 2, 1))


def context(**tags: str) -> Any:
    """The context of a step whose run has these tags by now; its process was given it as it was before."""
    now = SimpleNamespace(tags=tags)
    before = SimpleNamespace(tags={HEAD: "an earlier head"}, run_id="run")
    return SimpleNamespace(run=before, instance=SimpleNamespace(get_run_by_id=lambda _: now))


@contextmanager
def elsewhere(business: Business, name: str = "head") -> Iterator[dict[str, str]]:
    """A head in another process: this one holds its lock, and knows nothing of it."""
    with lock(business.home, holder=name), pytest.MonkeyPatch.context() as patch:
        patch.setattr("billing.store.lock._held", set())
        yield {HEAD: name, VERSIONS: versions()}


def test_the_head_of_a_run_holds_the_lock_and_its_own_steps_work_under_it(business: Business) -> None:
    instance = dg.DagsterInstance.ephemeral()

    @dg.job
    def nothing() -> None: ...

    run = instance.create_run_for_job(nothing)
    with leading(instance, run, business.home, business.register):
        found = instance.get_run_by_id(run.run_id)
        assert found is not None
        assert found.tags[VERSIONS] == versions()
        assert is_held_by(business.home, found.tags[HEAD])
        with at_work(context(**found.tags), business):
            pass
    with pytest.raises(dg.Failure, match="leads this run is gone"), at_work(context(**found.tags), business):
        pass


def test_a_step_elsewhere_takes_no_lock_and_one_without_a_head_takes_its_own(business: Business) -> None:
    with elsewhere(business) as tags, at_work(context(**tags), business), at_work(context(**tags), business):
        assert is_held_by(business.home, "head")
    with at_work(context(), business):
        assert is_held_by(business.home, "")


def test_a_step_of_another_version_refuses_to_work(business: Business) -> None:
    worked = False
    with elsewhere(business) as tags:
        tags[VERSIONS] = "Overage 0.0.1, Polars 0.0.1"
        with pytest.raises(dg.Failure) as refused, at_work(context(**tags), business):
            worked = True
    assert not worked
    assert refused.value.allow_retries is False
    assert str(refused.value.description).startswith(
        f"this worker is of other versions than the head of the run: found {versions()}, expected Overage 0.0.1"
    )


@pytest.mark.parametrize("error", [RefusedError("wrong data"), ZeroDivisionError("a fault"), OSError("no such file")])
def test_the_error_of_a_step_elsewhere_is_told_and_never_tried_again(business: Business, error: Exception) -> None:
    with elsewhere(business) as tags, pytest.raises(dg.Failure) as failed, at_work(context(**tags), business):
        raise error
    assert failed.value.allow_retries is False
    assert str(error) in str(failed.value.description)


def test_a_step_that_is_interrupted_says_nothing_of_its_own(business: Business) -> None:
    interrupted = dg.DagsterExecutionInterruptedError()
    with (
        elsewhere(business) as tags,
        pytest.raises(dg.DagsterExecutionInterruptedError),
        at_work(context(**tags), business),
    ):
        raise interrupted
