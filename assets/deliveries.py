"""Ingest spread over the workers of a cluster: parse files in batches, decide once, write days in batches.

Part of the graph only where steps are executed on other machines, before the assets of ingest, which then find their
work done. What makes one batch is left to these.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Final

import dagster as dg

from assets.dagster_graph import HomeResource
from assets.handovers import at_work_in, forget_handed_over, hand_over, handed_over
from assets.heads import WARNINGS, at_work_on, failures_for_dagster
from assets.progress import report
from billing.ingest.deciding import Decision
from billing.ingest.planning import IngestPlan
from billing.ingest.stages import BATCH_BYTES, batches, decide_days, finish_ingest, parse_batch, write_batch
from billing.ingest.state import DayState
from billing.model.errors import InterruptedRunError
from billing.month.steps import plan_usage
from billing.store.home import Home

INGESTED_TOGETHER: Final = "ingested_together"
BATCH: int = BATCH_BYTES
_MOST_WARNINGS: Final = 100
_PLAN: Final = "plan"
_DECISION: Final = "decision"
_LANDING: Final = ("usage_logs", "accounts", "aliases", "catalogue")


@dg.op(ins={name: dg.In(dg.Nothing) for name in _LANDING}, out=dg.DynamicOut(dg.Nothing))
def plan_deliveries(context: dg.OpExecutionContext, billing_home: HomeResource) -> Iterator[dg.DynamicOutput[None]]:
    """Look at what is delivered; a batch of files each is parsed by a worker."""
    business = billing_home.business()
    with failures_for_dagster(), at_work_on(context, business.home, business.register):
        plan = plan_usage(business, report)
        found = batches(plan.jobs, BATCH)
        # Also that there is none: a run that is executed again has the tags of the one before.
        hand_over(context, business.home, _PLAN, plan if len(found) > 1 else None)
    for place in range(len(found)) if len(found) > 1 else ():
        yield dg.DynamicOutput(None, mapping_key=str(place))


@dg.op(ins={"planned": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def parse_deliveries(context: dg.OpExecutionContext, billing_home: HomeResource) -> None:
    """Parse one batch of files."""
    with at_work_in(context, billing_home) as (home, _):
        plan = _needed(handed_over(context, home, _PLAN))
        place = int(str(context.get_mapping_key()))
        _parse(context, home, plan, place)


@dg.op(ins={"parsed": dg.In(dg.Nothing)}, out=dg.DynamicOut(dg.Nothing))
def decide_deliveries(context: dg.OpExecutionContext, billing_home: HomeResource) -> Iterator[dg.DynamicOutput[None]]:
    """Find the events that were delivered more than once; a batch of days each is written by a worker.

    Dagster leaves out mapped steps that never began when it executes a run again from where it failed: what they would
    have parsed is parsed here.
    """
    days = 0
    with at_work_in(context, billing_home) as (home, _):
        plan = handed_over(context, home, _PLAN)
        if plan is not None:
            for place in range(len(batches(plan.jobs, BATCH))):
                if handed_over(context, home, f"parsed-{place}") is None:
                    context.log.warning(f"batch {place} was not parsed by a step of its own: it is parsed here")
                    _parse(context, home, plan, place)
            decision = decide_days(home, plan, progress=report)
            hand_over(context, home, _DECISION, decision)
            days = len(batches(decision.days, BATCH))
    for place in range(days):
        yield dg.DynamicOutput(None, mapping_key=str(place))


@dg.op(ins={"decided": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def write_deliveries(context: dg.OpExecutionContext, billing_home: HomeResource) -> None:
    """Write the tables of one batch of days."""
    place = int(str(context.get_mapping_key()))
    with at_work_in(context, billing_home) as (home, _):
        plan, decision = (_needed(handed_over(context, home, name)) for name in (_PLAN, _DECISION))
        hand_over(context, home, f"written-{place}", _write(home, plan, decision, place))


@dg.op(ins={"written": dg.In(dg.Nothing)})
def finish_deliveries(context: dg.OpExecutionContext, billing_home: HomeResource) -> dg.Output[None]:
    """Make all of it count at once: write the state."""
    files, warnings = 0, list[str]()
    with at_work_in(context, billing_home) as (home, _):
        plan = handed_over(context, home, _PLAN)
        if plan is not None:
            decision = _needed(handed_over(context, home, _DECISION))
            places = range(len(batches(decision.days, BATCH)))
            batches_written = [
                handed_over(context, home, f"written-{place}") or _write(home, plan, decision, place)
                for place in places
            ]
            written = {day: state for batch in batches_written for day, state in batch.items()}
            outcome = finish_ingest(home, plan, decision, written)
            files, warnings = outcome.files_read, list(outcome.warnings)
            for warning in warnings:
                context.log.warning(warning)
        forget_handed_over(home)
        context.instance.add_run_tags(context.run_id, {WARNINGS: json.dumps(warnings[:_MOST_WARNINGS])})
    return dg.Output(None, metadata={"files parsed by workers": files})


@dg.graph_asset(
    name=INGESTED_TOGETHER,
    group_name="ingest",
    description="The deliveries, parsed and written by the workers of the cluster: a batch of files or days each.",
    ins={name: dg.AssetIn(name, dagster_type=dg.Nothing) for name in _LANDING},
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def ingested_together(usage_logs: Any, accounts: Any, aliases: Any, catalogue: Any) -> Any:
    """Plan, parse, decide, write, finish."""
    planned: Any = plan_deliveries(usage_logs=usage_logs, accounts=accounts, aliases=aliases, catalogue=catalogue)
    decided: Any = decide_deliveries(parsed=planned.map(lambda each: parse_deliveries(planned=each)).collect())
    return finish_deliveries(written=decided.map(lambda each: write_deliveries(decided=each)).collect())


def _parse(context: dg.OpExecutionContext, home: Home, plan: IngestPlan, place: int) -> None:
    parse_batch(home, plan.settings, plan.root, batches(plan.jobs, BATCH)[place])
    hand_over(context, home, f"parsed-{place}", place + 1)


def _write(home: Home, plan: IngestPlan, decision: Decision, place: int) -> Mapping[date, DayState]:
    return write_batch(home, plan.settings, batches(decision.days, BATCH)[place])


def _needed(found: Any) -> Any:
    if found is None:
        raise InterruptedRunError("what an earlier step of this run handed over is gone: run again")
    return found
