"""What one step hands to another, perhaps on another machine: files of the home, known by a hash in the run's tags."""

import hashlib
import pickle
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import dagster as dg
from dagster._core.storage.tags import HIDDEN_TAG_PREFIX

from assets.dagster_graph import HomeResource
from assets.environment import register_url
from assets.heads import PATIENCE_SECONDS, at_work_on, failures_for_dagster
from assets.homes import check_out
from billing.model.errors import InterruptedRunError
from billing.register.register import Register
from billing.store.files import write_bytes
from billing.store.home import Home
from billing.store.working_files import EVERYTHING, Needs

_TAG: Final = f"{HIDDEN_TAG_PREFIX}overage/handed_over"


@contextmanager
def at_work_in(
    context: dg.OpExecutionContext, billing_home: HomeResource, needs: Needs = EVERYTHING
) -> Iterator[tuple[Home, Register]]:
    """As `at_work_on`, for a worker that needs the home and the register, not everything that the business has."""
    home = Home(billing_home.root)
    with failures_for_dagster():
        if needs is EVERYTHING:
            # What is delivered, too.
            check_out(home.root, needs, patience=PATIENCE_SECONDS)
        with closing(Register.open(home, register_url())) as register, at_work_on(context, home, register, needs):
            yield home, register


def hand_over(context: dg.OpExecutionContext | dg.AssetExecutionContext, home: Home, name: str, thing: object) -> None:
    """Hand something to later steps of this run."""
    content = pickle.dumps(thing)
    write_bytes(_file(home, context.run, name), content)
    context.instance.add_run_tags(context.run.run_id, {f"{_TAG}/{name}": hashlib.sha256(content).hexdigest()})


def handed_over(context: dg.OpExecutionContext | dg.AssetExecutionContext, home: Home, name: str) -> Any:
    """What an earlier step of this run has handed over; None where it has not.

    Raises
    ------
    InterruptedRunError
        When the file is gone, or another than was handed over.
    """
    run = context.instance.get_run_by_id(context.run.run_id)
    wanted = run.tags.get(f"{_TAG}/{name}") if run is not None else None
    if wanted is None:
        return None
    try:
        content = _file(home, context.run, name).read_bytes()
    except FileNotFoundError:
        content = b""
    if hashlib.sha256(content).hexdigest() != wanted:
        raise InterruptedRunError(f"{_file(home, context.run, name)}: it is not what the run handed over: run again")
    return pickle.loads(content)  # noqa: S301 - its hash is that of what a step of this run wrote


def forget_handed_over(home: Home) -> None:
    """Remove what the steps of this run have handed over, and what lost runs left."""
    for path in sorted((home.lake / "plans" / "runs").glob("*/*.pickle")):
        path.unlink(missing_ok=True)


def _file(home: Home, run: dg.DagsterRun, name: str) -> Path:
    # A run that is begun again has the tags of the lost one, and goes on with its steps.
    return home.lake / "plans" / "runs" / (run.root_run_id or run.run_id) / f"{name}.pickle"
