"""Assets of the monthly chain: cycles, levels, usage, packages, decisions, charges; each is named after its table."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any, TypeVar

import dagster as dg
import polars as pl

from assets.ingest import PATIENCE_SECONDS, ingest
from assets.metadata import amount_sum, definition_metadata, first_of, in_words, money_type, summary
from assets.partitions import month_before
from assets.refusals import failures_in_words, refuse_month_to_come
from assets.resources import BillingHome
from billing.ingest.missing_deliveries import missing_deliveries
from billing.model.calendar import first_day, months_after
from billing.model.codes import LineKind
from billing.model.columns import Table
from billing.model.tables import CHARGES, CYCLES, DECISIONS, DUES, LEVELS, PACKAGES, PARKED, UNBILLED, USAGE
from billing.month import steps
from billing.month.business import Business
from billing.month.checks import answers_not_given_once, quantities_not_charged_once
from billing.month.recorded_inputs.months import STEPS, record_step
from billing.month.unbilled import accounts_that_lost_events, conserved, write_unbilled
from billing.store.monthly import read_month

_KINDS = {"parquet", "polars"}
Result = TypeVar("Result")
Step = Callable[..., Any]


def computed(
    context: dg.AssetExecutionContext, billing_home: BillingHome, step: Callable[[Business, str], Result]
) -> tuple[Business, Result]:
    """Run one step for the run's month under the home's lock, and record its inputs."""
    business, month, name = billing_home.business(), context.partition_key, context.op_execution_context.op.name
    with failures_in_words():
        # The command line checks this itself, and issues nothing for a month that has not begun.
        if not billing_home.in_order:
            refuse_month_to_come(business, month)
        with business.alone(PATIENCE_SECONDS):
            result = step(business, month)
            if name in STEPS:
                record_step(business, month, name)
            return business, result


def monthly(
    table: Table,
    group: str,
    description: str,
    deps: Sequence[str | dg.AssetDep],
    check_specs: Sequence[dg.AssetCheckSpec] = (),
) -> Callable[[Step], dg.AssetsDefinition]:
    """Decorator of an asset that is one monthly table."""
    return dg.asset(
        name=table.name,
        group_name=group,
        description=description,
        deps=deps,
        kinds={"parquet", "polars"},
        metadata=definition_metadata(table),
        check_specs=check_specs,
    )


def from_month_before(table: Table) -> dg.AssetDep:
    """Self-dependency of a table on the previous month: the only way state moves between months."""
    return dg.AssetDep(table.name, partition_mapping=month_before)


@monthly(
    CYCLES,
    "usage",
    "The billing dates that fall in the month, and the cycles that end and start there.",
    ["requests", "payments", "catalogue", "events"],
    check_specs=[
        dg.AssetCheckSpec(
            "expected_deliveries_are_there",
            asset=CYCLES.name,
            description="Usage was delivered on every day since the first, and no daily file has stopped.",
        )
    ],
)
def cycles(
    context: dg.AssetExecutionContext, billing_home: BillingHome
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Ingest new deliveries, then find the month's billing dates."""
    month = context.partition_key

    def step(business: Business, month: str) -> pl.DataFrame:
        for warning in first_of(ingest(business).warnings):
            context.log.warning(warning)
        return steps.write_cycles(business, month)

    business, frame = computed(context, billing_home, step)
    yield dg.MaterializeResult(
        metadata=summary(
            frame.group_by("status", "fee_reason").agg(subscriptions=pl.len()).sort("status", "fee_reason"),
            subscriptions=frame.height,
        )
    )
    # Cycles that close in this month started in the previous month.
    last = min(business.as_of, date.fromordinal(first_day(months_after(month, 1)).toordinal() - 1))
    missing = missing_deliveries(business.home, first_day(months_after(month, -1)), last)
    yield dg.AssetCheckResult(
        check_name="expected_deliveries_are_there",
        passed=not missing,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "month": month,
            "days without a delivery": len(missing.days),
            "files that stopped": len(missing.files),
            "which": in_words(missing.in_words(most=20)),
        },
    )


@monthly(
    LEVELS,
    "usage",
    "The level of every gauge at the start of the previous month and of this one: the carried-over state.",
    ["events", from_month_before(LEVELS), CYCLES.name],
)
def levels(context: dg.AssetExecutionContext, billing_home: BillingHome) -> dg.MaterializeResult[None]:
    """Carry the gauge levels forward by one month."""
    _, frame = computed(context, billing_home, steps.write_levels)
    return dg.MaterializeResult(metadata=summary(pl.DataFrame(), levels=frame.height))


@monthly(
    USAGE,
    "usage",
    "Usage by account and metric in the cycle that closes in the month.",
    ["events", CYCLES.name, LEVELS.name],
)
def usage(context: dg.AssetExecutionContext, billing_home: BillingHome) -> dg.MaterializeResult[None]:
    """Measure every metric of every closing cycle."""
    _, frame = computed(context, billing_home, steps.write_usage)
    by_metric = frame.group_by("metric").agg(
        accounts=(pl.col("events") > 0).sum(),
        quantity=pl.col("quantity").sum().cast(pl.Decimal(38, 3)),
        events=pl.col("events").sum(),
        repeated=pl.col("duplicates").sum(),
    )
    return dg.MaterializeResult(metadata=summary(by_metric.sort("metric"), events=int(frame["events"].sum())))


@monthly(
    PACKAGES,
    "packages",
    "The package of every subscription: in the cycle that ended and in the one that starts.",
    [USAGE.name, CYCLES.name, "requests", "catalogue", from_month_before(PACKAGES)],
)
def packages(context: dg.AssetExecutionContext, billing_home: BillingHome) -> dg.MaterializeResult[None]:
    """Decide the package of every cycle that starts."""
    _, frame = computed(context, billing_home, steps.write_packages)
    moves = (
        frame.filter(pl.col("change_reason").is_not_null())
        .group_by("closing_package", "opening_package", "change_reason")
        .agg(subscriptions=pl.len())
        .sort("closing_package", "opening_package", "change_reason")
    )
    changes = int(frame["change_reason"].is_not_null().sum())
    return dg.MaterializeResult(metadata=summary(moves, subscriptions=frame.height, package_changes=changes))


@monthly(
    DECISIONS,
    "packages",
    "The decision on every request, and every automatic upgrade, with the evidence.",
    [PACKAGES.name, USAGE.name, "requests"],
    check_specs=[
        dg.AssetCheckSpec(
            "decisions_are_complete",
            asset=DECISIONS.name,
            blocking=True,
            description="Every request has one decision, and every package change a decision behind it (rule 17).",
        )
    ],
)
def decisions(
    context: dg.AssetExecutionContext, billing_home: BillingHome
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Report decisions and their reasons."""
    month = context.partition_key
    business, frame = computed(context, billing_home, steps.write_decisions)
    by_kind = frame.group_by("kind", "outcome", "reason").agg(decisions=pl.len()).sort("kind", "outcome", "reason")
    yield dg.MaterializeResult(metadata=summary(by_kind, decisions=frame.height))
    found = answers_not_given_once(business, month)
    problems = found["problem"].value_counts().sort("problem")
    yield dg.AssetCheckResult(
        check_name="decisions_are_complete",
        # Accounts at fault are parked, and the others continue.
        passed=found["account_id"].null_count() == 0,
        metadata={
            "month": month,
            "decisions": frame.height,
            "accounts that are parked for it": found["account_id"].n_unique(),
            "what is missing": in_words([f"{problem}: {count:,}" for problem, count in problems.iter_rows()]),
        },
    )


@dg.multi_asset(
    name="charges",
    group_name="charges",
    specs=[
        dg.AssetSpec(
            CHARGES.name,
            description="The cost of every metric of the closed cycles, including 0 within the allowance.",
            deps=[USAGE.name, PACKAGES.name, "catalogue"],
            kinds=_KINDS,
            metadata=definition_metadata(CHARGES),
        ),
        dg.AssetSpec(
            DUES.name,
            description="Amounts due on the month's billing dates: fees and overages.",
            deps=[CYCLES.name, PACKAGES.name, CHARGES.name],
            kinds=_KINDS,
            metadata=definition_metadata(DUES),
        ),
        dg.AssetSpec(
            PARKED.name,
            description="Accounts that could not be billed, with the reason. The others were billed.",
            deps=[CYCLES.name, USAGE.name],
            kinds=_KINDS,
            metadata=definition_metadata(PARKED),
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "charges_match_usage",
            asset=CHARGES.name,
            blocking=True,
            description="Every measured quantity of every account that is billed has exactly one charge.",
        ),
        dg.AssetCheckSpec(
            "every_account_could_be_billed", asset=PARKED.name, description="No account is parked (rule 28)."
        ),
    ],
)
def charges(
    context: dg.AssetExecutionContext, billing_home: BillingHome
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Rate usage against allowances and tariffs, and list what is due."""
    month = context.partition_key
    business, frame = computed(context, billing_home, steps.write_charges)
    dues = read_month(business.home, DUES, month)
    parked = read_month(business.home, PARKED, month)
    measured = read_month(business.home, USAGE, month).join(parked, on="account_id", how="anti")
    unmatched = quantities_not_charged_once(measured, frame).height
    by_metric = frame.group_by("metric").agg(
        over=(pl.col("excess") > 0).sum(), overage=pl.col("amount").sum().cast(money_type(business))
    )
    fees = dues.filter(pl.col("kind") != LineKind.OVERAGE)
    by_package = fees.group_by("package").agg(
        subscriptions=pl.len(), fees=pl.col("amount").sum().cast(money_type(business))
    )
    yield dg.MaterializeResult(
        asset_key=CHARGES.name,
        metadata=summary(by_metric.sort("metric"), business.catalogue.currency, overage=amount_sum(frame, business)),
    )
    yield dg.MaterializeResult(
        asset_key=DUES.name,
        metadata=summary(by_package.sort("package"), business.catalogue.currency, due=amount_sum(dues, business)),
    )
    yield dg.MaterializeResult(
        asset_key=PARKED.name,
        metadata=summary(parked.group_by("reason").agg(accounts=pl.len()).sort("reason"), parked=parked.height),
    )
    yield dg.AssetCheckResult(
        asset_key=CHARGES.name,
        check_name="charges_match_usage",
        passed=unmatched == 0,
        metadata={"month": month, "quantities": measured.height, "charges": frame.height, "without a match": unmatched},
    )
    yield dg.AssetCheckResult(
        asset_key=PARKED.name,
        check_name="every_account_could_be_billed",
        passed=parked.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"month": month, "parked": parked.height, "list them": f"overage show parked --month {month}"},
    )


@monthly(
    UNBILLED,
    "usage",
    "Counted usage of the calendar month that bills nothing, with the reason.",
    ["events", CYCLES.name],
    check_specs=[
        dg.AssetCheckSpec(
            "no_event_is_lost",
            asset=UNBILLED.name,
            blocking=True,
            description="Per metric: counted = used in closed cycles + in open cycles + unbilled (rule 27).",
        )
    ],
)
def unbilled(
    context: dg.AssetExecutionContext, billing_home: BillingHome
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Attribute usage that nobody is billed for, and prove that no event is lost."""
    month = context.partition_key
    business, frame = computed(context, billing_home, write_unbilled)
    found = conserved(business, month)
    by_reason = frame.group_by("metric", "reason").agg(
        accounts=pl.len(), events=pl.col("events").sum(), quantity=pl.col("quantity").sum().cast(pl.Decimal(38, 3))
    )
    yield dg.MaterializeResult(metadata=summary(by_reason.sort("metric", "reason"), events=int(frame["events"].sum())))
    lost = found.filter(pl.col("counted") != pl.col("closed") + pl.col("open") + pl.col("unbilled"))
    accounts = accounts_that_lost_events(business, month)["account_id"].drop_nulls().n_unique()
    yield dg.AssetCheckResult(
        check_name="no_event_is_lost",
        # Accounts at fault are parked, and the others continue.
        passed=lost.is_empty() or accounts > 0,
        metadata={
            "accounts that are parked for it": accounts,
            "month": month,
            **summary(found, metrics=found.height),
            "metrics that lost events": in_words(lost["metric"].to_list()),
        },
    )
