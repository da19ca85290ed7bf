"""Work of a month that a cluster spreads over its workers: the shards before its assets, the PDFs after issuing.

Part of the graph only where steps are executed on other machines. One mapped step each, and no value is handed from
step to step: what a step needs is in the home and the register, under the name of its shard or block.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from socket import gethostname
from typing import Any, Final

import dagster as dg

from assets.clock import today
from assets.dagster_graph import HomeResource
from assets.drawn_blocks import note_block
from assets.environment import register_url
from assets.handovers import at_work_in
from assets.heads import SHARDS_BILLED, at_work_on, failures_for_dagster
from assets.ingest import ingest
from assets.metadata import first_of
from assets.refusals import refuse_month_to_come
from billing.model.buckets import BucketRange
from billing.model.calendar import months_after
from billing.model.errors import InterruptedRunError
from billing.model.tables import CYCLES, DOCUMENTS, DRAFTS, LINES, TAXES
from billing.month.business import Business
from billing.month.pdf_files import render_block, render_blocks
from billing.month.plan import Plan, plan_month, read_plan, remove_plan, unbilled_shards, write_plan
from billing.month.plan import bill_shard as bill_planned_shard
from billing.month.recorded_inputs.months import first_moved_before
from billing.month.shards import is_sharded
from billing.store.monthly import read_month
from billing.store.working_copy import bring
from billing.store.working_files import EVERYTHING, FILES, Needs, of_shard

SHARDS: Final = "shards"
DRAWN: Final = "drawn_files"
_SIZES: Final = (CYCLES, DRAFTS)


@dg.op(
    ins={name: dg.In(dg.Nothing) for name in ("events", "requests", "payments", "accounts", "catalogue")},
    out=dg.DynamicOut(dg.Nothing),
)
def plan_shards(context: dg.OpExecutionContext, billing_home: HomeResource) -> Iterator[dg.DynamicOutput[None]]:
    """Ingest new deliveries, and divide the month: the inputs of each shard are written where its worker finds them."""
    business, month = billing_home.business(), context.partition_key
    with failures_for_dagster():
        if not billing_home.in_order:
            refuse_month_to_come(business, month)
        # Planning reads requests and payments: wait for runs before this one first.
        with at_work_on(context, business.home, business.register):
            plan = _planned(context, billing_home, business, month)
    for shard in plan.shards if plan is not None else ():
        yield dg.DynamicOutput(None, mapping_key=shard.replace("-", "_"))


def _planned(context: dg.OpExecutionContext, billing_home: HomeResource, business: Business, month: str) -> Plan | None:
    """The plan of a month that has several shards, and whose earlier months are there; otherwise its own assets do."""
    for warning in first_of(ingest(business).warnings):
        context.log.warning(warning)
    if not is_sharded(business, month):
        return None
    if not billing_home.in_order and (first := first_moved_before(business, month)) is not None:
        context.log.warning(f"{month} is not spread over the workers: {first} has to be built first")
        return None
    plan = plan_month(business, month)
    write_plan(business.home, plan)
    return plan


@dg.op(ins={"planned": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def bill_shard(context: dg.OpExecutionContext, billing_home: HomeResource) -> dg.Output[None]:
    """Compute one shard, from its cycles to its drafts; its run's page says how large it was, and who computed it."""
    shard = str(context.get_mapping_key()).replace("_", "-")
    with at_work_in(context, billing_home, FILES) as (home, _):
        plan = read_plan(home, context.partition_key)
        if plan is None:
            raise InterruptedRunError(f"{context.partition_key}: the plan of the run is gone: run again")
        bring(home.root, _needs(plan, shard))
        bill_planned_shard(home.root, plan, shard, register_url())
        part = replace(home, buckets=BucketRange.named(shard))
        rows = {table.name: read_month(part, table, plan.month, ["account_id"])["account_id"] for table in _SIZES}
    sizes = {"accounts": rows[CYCLES.name].n_unique(), "drafts": rows[DRAFTS.name].len()}
    return dg.Output(None, metadata={**sizes, "worker": gethostname()})


def _needs(plan: Plan, shard: str) -> Needs:
    """What billing a shard reads of a home in a store: of the first month, events of all months before it, too."""
    buckets, before = BucketRange.named(shard), months_after(plan.month, -1)
    if buckets is None:
        return EVERYTHING
    is_first = plan.month <= plan.first_month
    return of_shard(None if is_first else (before, plan.month), buckets.first, buckets.last)


@dg.op(ins={"billed": dg.In(dg.Nothing)})
def collect_shards(context: dg.OpExecutionContext, billing_home: HomeResource) -> dg.Output[None]:
    """Tell the month's own assets that their tables are made.

    Dagster leaves out mapped steps that never began when it executes a run again from where it failed: bill these here.
    """
    with at_work_in(context, billing_home, FILES) as (home, _):
        plan = read_plan(home, context.partition_key)
        if plan is not None:
            for shard in unbilled_shards(home, plan):
                context.log.warning(f"shard {shard} was not billed by a step of its own: it is billed here")
                bring(home.root, _needs(plan, shard))
                bill_planned_shard(home.root, plan, shard, register_url())
            context.instance.add_run_tags(context.run_id, {SHARDS_BILLED: context.run_id})
            remove_plan(home, plan.month)
    return dg.Output(None, metadata={"shards": len(plan.shards) if plan else 1})


@dg.graph_asset(
    name=SHARDS,
    group_name="usage",
    description="The tables of the month, from cycles to drafts; each worker of the cluster has a range of accounts.",
    ins={
        name: dg.AssetIn(name, dagster_type=dg.Nothing)
        for name in ("events", "requests", "payments", "accounts", "catalogue")
    },
)
def shards(events: Any, requests: Any, payments: Any, accounts: Any, catalogue: Any) -> Any:
    """Plan, bill each shard, collect."""
    planned: Any = plan_shards(
        events=events, requests=requests, payments=payments, accounts=accounts, catalogue=catalogue
    )
    return collect_shards(billed=planned.map(lambda each: bill_shard(planned=each)).collect())


@dg.op(
    ins={name: dg.In(dg.Nothing) for name in (DOCUMENTS.name, LINES.name, TAXES.name)}, out=dg.DynamicOut(dg.Nothing)
)
def plan_blocks(context: dg.OpExecutionContext, billing_home: HomeResource) -> Iterator[dg.DynamicOutput[None]]:
    """Find the blocks of documents that have no PDF yet."""
    with at_work_in(context, billing_home, FILES) as (home, register):
        blocks = render_blocks(home, register, context.partition_key)
    # A single block is drawn by the asset of the files itself.
    for block in blocks if len(blocks) > 1 else ():
        yield dg.DynamicOutput(None, mapping_key=str(block))


@dg.op(ins={"planned": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def draw_block(context: dg.OpExecutionContext, billing_home: HomeResource) -> None:
    """Draw the PDFs of one block of documents."""
    block, month = int(str(context.get_mapping_key())), context.partition_key
    as_of = date.fromisoformat(billing_home.as_of) if billing_home.as_of else today(billing_home.root)
    with at_work_in(context, billing_home, FILES) as (home, register):
        rendered = render_block(home, register, month, block, as_of)
        found = {
            "files": len(rendered.files),
            "unprintable": sorted({character for file in rendered.files for character in file.unprintable}),
            "shortened": {file.path.stem: file.shortened for file in rendered.files if file.shortened},
            "redrawn": list(rendered.redrawn),
        }
        note_block(home, month, block, found)


@dg.op(ins={"drawn": dg.In(dg.Nothing)})
def collect_blocks(context: dg.OpExecutionContext) -> None:
    """Every block is drawn."""


@dg.graph_asset(
    name=DRAWN,
    group_name="documents",
    description="The PDFs of the month, drawn by the cluster's workers in blocks of documents.",
    ins={name: dg.AssetIn(name, dagster_type=dg.Nothing) for name in (DOCUMENTS.name, LINES.name, TAXES.name)},
)
def drawn_files(documents: Any, lines: Any, taxes: Any) -> Any:
    """Plan, draw each block, collect."""
    planned: Any = plan_blocks(documents=documents, lines=lines, taxes=taxes)
    return collect_blocks(drawn=planned.map(lambda each: draw_block(planned=each)).collect())
