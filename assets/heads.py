"""The head of a run and its steps: one lock for the whole run, wherever its steps are executed.

The head is the process that executes the plan of a run. It holds the lock of the home and of the register until the
run ends, and writes its name and its versions into the run's tags. A step in another process, perhaps on another
machine, holds no lock of its own: it sees that its head still holds it, and that it is of the same versions. Without
the tags nobody leads the run, and each step takes the lock itself.
"""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from socket import gethostname
from typing import Final

import dagster as dg
from dagster._core.events import EngineEventData

from assets.homes import PATIENCE_SECONDS as PATIENCE_SECONDS
from assets.progress import Listener, listening
from assets.refusals import StepFailedError
from assets.run_tags import FOLLOWED as FOLLOWED
from assets.run_tags import HEAD as HEAD
from assets.run_tags import SHARDS_BILLED as SHARDS_BILLED
from assets.run_tags import VERSIONS as VERSIONS
from assets.run_tags import WARNINGS as WARNINGS
from billing.model.errors import InterruptedRunError, RefusedError
from billing.month.business import Business
from billing.month.locking import alone, step_under
from billing.month.versions import refuse_other_versions, versions
from billing.register.register import Register
from billing.store.home import Home
from billing.store.lock import is_held_here
from billing.store.working_copy import reading
from billing.store.working_files import EVERYTHING, Needs

DOING, DONE, TOTAL = "doing", "done", "total"
"""Metadata of the events that tell the progress of a step."""
_SECONDS_BETWEEN_REPORTS: Final = 2

_led: set[str] = set()


@contextmanager
def failures_for_dagster() -> Iterator[None]:
    """Convert a refusal, an interruption or a failure in words to Dagster's failure, which is not tried again."""
    try:
        yield
    except StepFailedError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error.__cause__
    except (RefusedError, InterruptedRunError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


@contextmanager
def leading(
    instance: dg.DagsterInstance, run: dg.DagsterRun, home: Home, register: Register, patience: float = PATIENCE_SECONDS
) -> Iterator[None]:
    """Be the head of a run: hold the lock until all of its steps have ended.

    Raises
    ------
    RefusedError
        When another run holds the lock for longer than `patience` seconds, or home or register cannot be used.
    """
    name = f"overage-{uuid.uuid4()}"
    with alone(home, register, patience, name):
        _led.add(name)
        instance.add_run_tags(run.run_id, {HEAD: name, VERSIONS: versions()})
        try:
            yield
        finally:
            _led.discard(name)


@contextmanager
def at_work(context: dg.AssetExecutionContext, business: Business, needs: Needs = EVERYTHING) -> Iterator[None]:
    """As `at_work_on`, for a step that reads the whole business."""
    with at_work_on(context, business.home, business.register, needs):
        yield


@contextmanager
def at_work_on(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    home: Home,
    register: Register,
    needs: Needs = EVERYTHING,
) -> Iterator[None]:
    """Be the only run at work while a step works: under the lock of its run's head, or its own where there is none.

    Parameters
    ----------
    needs
        Of a home in a store: what a step elsewhere reads of it.

    Raises
    ------
    dg.Failure
        Never to be tried again: only a step whose process is lost is. The head of the run is gone, this process is of
        another version, or the step's own error where it works for a head elsewhere.
    """
    tags = {} if is_held_here(home) else _tags_of_now(context)
    head = tags.get(HEAD)
    if head is None or head in _led:
        with alone(home, register, PATIENCE_SECONDS):
            yield
        return
    with failures_for_dagster():
        try:
            refuse_other_versions(tags[VERSIONS])
            with reading(home.root, needs), step_under(home, register, head), listening(_telling(context)):
                yield
        except (RefusedError, InterruptedRunError, StepFailedError, dg.Failure, dg.DagsterError):
            raise
        except Exception as error:  # whatever it is, it would be so again
            words = f"{type(error).__name__}: {error} (on {gethostname()})"
            raise dg.Failure(words, allow_retries=False) from error


def _tags_of_now(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Mapping[str, str]:
    """The tags of the run: a process may have been given it as it was before its head began, or an earlier one's."""
    found = context.instance.get_run_by_id(context.run.run_id)
    return context.run.tags if found is None else found.tags


def _telling(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Listener:
    """A listener that writes progress into the records of a followed run, every few seconds."""
    last = time.monotonic()

    def tell(doing: str, done: int, total: int) -> None:
        nonlocal last
        if FOLLOWED in context.run.tags and time.monotonic() - last >= _SECONDS_BETWEEN_REPORTS:
            last = time.monotonic()
            context.instance.report_engine_event(
                f"{doing}: {done} of {total}",
                context.run,
                EngineEventData({DOING: doing, DONE: done, TOTAL: total}),
                step_key=context.get_step_execution_context().step.key,
            )

    return tell
