"""Assets of the monthly chain: cycles, levels, usage, packages, decisions, charges; each is named after its table."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import polars as pl

from assets.declared import (
    Asset,
    Check,
    Checked,
    Made,
    MonthBefore,
    Operation,
    Severity,
    Step,
    Work,
    Yielded,
    asset,
    assets_of,
)
from assets.environment import executes_elsewhere
from assets.ingest import ingest
from assets.metadata import (
    amounts,
    first_of,
    height,
    in_words,
    keys_by_currency,
    money_type,
    one_currency,
    summary,
)
from assets.refusals import failures_in_words, refuse_month_to_come
from assets.resources import BillingHome
from assets.run_tags import SHARDS_BILLED
from billing.ingest.missing_deliveries import missing_deliveries
from billing.model.calendar import first_day, last_day, months_after
from billing.model.codes import LineKind
from billing.model.columns import MONEY, Table
from billing.model.tables import CHARGES, CYCLES, DECISIONS, DUES, LEVELS, PACKAGES, PARKED, UNBILLED, USAGE
from billing.month import steps
from billing.month.business import Business
from billing.month.checks import answers_not_given_once, quantities_not_charged_once
from billing.month.recorded_inputs.months import record_step, steps_to_run
from billing.month.shards import begin_month, each_shard, is_sharded
from billing.month.unbilled import accounts_that_lost_events, conserved, write_unbilled
from billing.store.monthly import read_month
from billing.store.working_files import COMPUTING, EVERYTHING, Needs

_KINDS = frozenset({"parquet", "polars"})
Result = TypeVar("Result")


def computed(
    context: Step,
    billing_home: BillingHome,
    step: Callable[[Business, str], Result],
    needs: Needs = EVERYTHING,
) -> tuple[Business, Result]:
    """Run one step for the run's month under the lock of its run; of a home in a store it reads what it needs."""
    business, month = billing_home.business(needs), context.month
    with failures_in_words():
        # The command line checks this itself, and issues nothing for a month that has not begun.
        if not billing_home.in_order:
            refuse_month_to_come(business, month)
        with context.at_work(business.home, business.register, needs):
            return business, step(business, month)


def _nothing(_: Business) -> None:
    """Most tables need nothing to be done before."""


def computed_table(
    context: Step,
    billing_home: BillingHome,
    step: Callable[[Business, str], pl.DataFrame],
    table: Table,
    before: Callable[[Business], None] = _nothing,
) -> tuple[Business, pl.LazyFrame]:
    """Compute a table of the run's month, shard by shard, record the inputs of the step, and return its rows.

    On a cluster the workers have computed the shards before.

    Parameters
    ----------
    before
        What is done first, for the whole business.
    """
    name, made_by = context.name, context.tags.get(SHARDS_BILLED)

    def of_all_shards(business: Business, month: str) -> pl.LazyFrame:
        if made_by == context.run_id:
            return business.scan_months(table, [month])
        before(business)
        begin_month(business, month)
        rows = table.empty()
        for shard in each_shard(business, month):
            # A run that was begun again goes on with what the lost one has made.
            if made_by is None or name in steps_to_run(shard, month):
                rows = step(shard, month)
                record_step(shard, month, name)
        # Rows of several shards are read again: together they may be large.
        return business.scan_months(table, [month]) if is_sharded(business, month) else rows.lazy()

    return computed(context, billing_home, of_all_shards, COMPUTING if before is _nothing else EVERYTHING)


def monthly(
    table: Table,
    group: str,
    description: str,
    deps: Sequence[str | MonthBefore],
    checks: Sequence[Check] = (),
) -> Callable[[Work], Operation]:
    """Decorator of an asset that is one monthly table."""
    return asset(
        name=table.name,
        group=group,
        description=description,
        deps=deps,
        kinds={"parquet", "polars"},
        table=table,
        checks=checks,
    )


def from_month_before(table: Table) -> MonthBefore:
    """Self-dependency of a table on the previous month: the only way state moves between months."""
    return MonthBefore(table.name)


@monthly(
    CYCLES,
    "usage",
    "The billing dates that fall in the month, and the cycles that end and start there.",
    ["requests", "payments", "catalogue", "events", *(["shards"] if executes_elsewhere() else [])],
    checks=[
        Check(
            "expected_deliveries_are_there",
            asset=CYCLES.name,
            description="Usage was delivered on every day since the first, and no daily file has stopped.",
        )
    ],
)
def cycles(context: Step, billing_home: BillingHome) -> Yielded:
    """Ingest new deliveries, then find the month's billing dates."""
    month = context.month

    def ingest_first(business: Business) -> None:
        for warning in first_of(ingest(business).warnings):
            context.warn(warning)

    business, rows = computed_table(context, billing_home, steps.write_cycles, CYCLES, before=ingest_first)
    by_status = rows.group_by("status", "fee_reason").agg(subscriptions=pl.len()).sort("status", "fee_reason").collect()
    yield Made(metadata=summary(by_status, subscriptions=int(by_status["subscriptions"].sum())))
    # Cycles that close in this month started in the previous month.
    last = min(business.as_of, last_day(month))
    missing = missing_deliveries(business.home, first_day(months_after(month, -1)), last)
    yield Checked(
        name="expected_deliveries_are_there",
        passed=not missing,
        severity=Severity.WARN,
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
def levels(context: Step, billing_home: BillingHome) -> Yielded:
    """Carry the gauge levels forward by one month."""
    _, rows = computed_table(context, billing_home, steps.write_levels, LEVELS)
    yield Made(metadata=summary(pl.DataFrame(), levels=height(rows)))


@monthly(
    USAGE,
    "usage",
    "Usage by account, metric and rule of its tariff in the cycle that closes in the month.",
    # Of tariffs by dimension it reads the packages of the month before, too: saying so would close a circle of assets.
    ["events", CYCLES.name, LEVELS.name],
)
def usage(context: Step, billing_home: BillingHome) -> Yielded:
    """Measure every metric of every closing cycle."""
    _, rows = computed_table(context, billing_home, steps.write_usage, USAGE)
    by_metric = (
        rows.group_by("metric")
        .agg(
            accounts=pl.col("subscription_id").filter(pl.col("events") > 0).n_unique(),
            quantity=pl.col("quantity").sum().cast(pl.Decimal(38, 3)),
            events=pl.col("events").sum(),
            repeated=pl.col("duplicates").sum(),
        )
        .sort("metric")
        .collect()
    )
    yield Made(metadata=summary(by_metric, events=int(by_metric["events"].sum())))


@monthly(
    PACKAGES,
    "packages",
    "The package of every subscription: in the cycle that ended and in the one that starts.",
    [USAGE.name, CYCLES.name, "requests", "catalogue", from_month_before(PACKAGES)],
)
def packages(context: Step, billing_home: BillingHome) -> Yielded:
    """Decide the package of every cycle that starts."""
    _, rows = computed_table(context, billing_home, steps.write_packages, PACKAGES)
    moves = (
        rows.filter(pl.col("change_reason").is_not_null())
        .group_by("closing_package", "opening_package", "change_reason")
        .agg(subscriptions=pl.len())
        .sort("closing_package", "opening_package", "change_reason")
        .collect()
    )
    changes = int(moves["subscriptions"].sum())
    yield Made(metadata=summary(moves, subscriptions=height(rows), package_changes=changes))


@monthly(
    DECISIONS,
    "packages",
    "The decision on every request, and every automatic upgrade, with the evidence.",
    [PACKAGES.name, USAGE.name, "requests"],
    checks=[
        Check(
            "decisions_are_complete",
            asset=DECISIONS.name,
            blocking=True,
            description="Every request has one decision, and every package change a decision behind it (rule 17).",
        )
    ],
)
def decisions(context: Step, billing_home: BillingHome) -> Yielded:
    """Report decisions and their reasons."""
    month = context.month
    business, rows = computed_table(context, billing_home, steps.write_decisions, DECISIONS)
    kinds = ["kind", "outcome", "reason"]
    by_kind = rows.group_by(kinds).agg(decisions=pl.len()).sort(kinds).collect()
    decided = int(by_kind["decisions"].sum())
    yield Made(metadata=summary(by_kind, decisions=decided))
    found = pl.concat(answers_not_given_once(shard, month) for shard in each_shard(business, month))
    problems = found["problem"].value_counts().sort("problem")
    yield Checked(
        name="decisions_are_complete",
        # Accounts at fault are parked, and the others continue.
        passed=found["account_id"].null_count() == 0,
        metadata={
            "month": month,
            "decisions": decided,
            "accounts that are parked for it": found["account_id"].n_unique(),
            "what is missing": in_words([f"{problem}: {count:,}" for problem, count in problems.iter_rows()]),
        },
    )


@assets_of(
    name="charges",
    group="charges",
    assets=[
        Asset(
            CHARGES.name,
            description="The cost of every metric of the closed cycles, including 0 within the allowance.",
            deps=[USAGE.name, PACKAGES.name, "catalogue"],
            kinds=_KINDS,
            table=CHARGES,
        ),
        Asset(
            DUES.name,
            description="Amounts due on the month's billing dates: fees, overages, and what else is sold.",
            deps=[CYCLES.name, PACKAGES.name, CHARGES.name, "requests", "one_off_charges", "credit_grants"],
            kinds=_KINDS,
            table=DUES,
        ),
        Asset(
            PARKED.name,
            description="Accounts that could not be billed, with the reason. The others were billed.",
            deps=[CYCLES.name, USAGE.name],
            kinds=_KINDS,
            table=PARKED,
        ),
    ],
    checks=[
        Check(
            "charges_match_usage",
            asset=CHARGES.name,
            blocking=True,
            description="Every measured quantity of every account that is billed has exactly one charge.",
        ),
        Check("every_account_could_be_billed", asset=PARKED.name, description="No account is parked (rule 28)."),
    ],
)
def charges(context: Step, billing_home: BillingHome) -> Yielded:
    """Rate usage against allowances and tariffs, and list what is due."""
    month = context.month
    business, rows = computed_table(context, billing_home, steps.write_charges, CHARGES)
    currency, money = one_currency(business), money_type(business)
    dues = business.scan_months(DUES, [month])
    if currency is None:
        dues, rows = (business.currencies.with_currency(each) for each in (dues, rows))
    parked = read_month(business.home, PARKED, month)
    measured = unmatched = 0
    for shard in each_shard(business, month):
        usage_of_shard = read_month(shard.home, USAGE, month).join(parked, on="account_id", how="anti")
        charged = read_month(shard.home, CHARGES, month)
        measured += usage_of_shard.height
        unmatched += quantities_not_charged_once(usage_of_shard, charged).height
    amount = pl.col("amount").sum().cast(MONEY)
    by_metric, by_package, all_of_it = (
        keys_by_currency(business, "metric"),
        keys_by_currency(business, "package"),
        keys_by_currency(business),
    )
    overages = rows.group_by(by_metric).agg(over=(pl.col("excess") > 0).sum(), overage=amount).sort(by_metric).collect()
    fees = (
        dues.filter(pl.col("kind") != LineKind.OVERAGE)
        .group_by(by_package)
        .agg(subscriptions=pl.len(), fees=amount.cast(money))
        .sort(by_package)
        .collect()
    )
    due = (dues.group_by(all_of_it).agg(amount) if all_of_it else dues.select(amount)).collect()
    yield Made(
        asset=CHARGES.name,
        metadata=summary(
            overages.with_columns(pl.col("overage").cast(money)),
            currency,
            **amounts(overages, business, "overage", "overage"),
        ),
    )
    yield Made(
        asset=DUES.name,
        metadata=summary(fees, currency, **amounts(due, business, "due")),
    )
    yield Made(
        asset=PARKED.name,
        metadata=summary(parked.group_by("reason").agg(accounts=pl.len()).sort("reason"), parked=parked.height),
    )
    yield Checked(
        asset=CHARGES.name,
        name="charges_match_usage",
        passed=unmatched == 0,
        metadata={"month": month, "quantities": measured, "charges": height(rows), "without a match": unmatched},
    )
    yield Checked(
        asset=PARKED.name,
        name="every_account_could_be_billed",
        passed=parked.is_empty(),
        severity=Severity.WARN,
        metadata={"month": month, "parked": parked.height, "list them": f"overage show parked --month {month}"},
    )


@monthly(
    UNBILLED,
    "usage",
    "Counted usage of the calendar month that bills nothing, with the reason.",
    ["events", CYCLES.name],
    checks=[
        Check(
            "no_event_is_lost",
            asset=UNBILLED.name,
            blocking=True,
            description="Per metric: counted = used in closed cycles + in open cycles + unbilled (rule 27).",
        )
    ],
)
def unbilled(context: Step, billing_home: BillingHome) -> Yielded:
    """Attribute usage that nobody is billed for, and prove that no event is lost."""
    month = context.month
    business, rows = computed_table(context, billing_home, write_unbilled, UNBILLED)
    found = conserved(business, month)
    by_reason = (
        rows.group_by("metric", "reason")
        .agg(accounts=pl.len(), events=pl.col("events").sum(), quantity=pl.col("quantity").sum())
        .with_columns(pl.col("quantity").cast(pl.Decimal(38, 3)))
        .sort("metric", "reason")
        .collect()
    )
    yield Made(metadata=summary(by_reason, events=int(by_reason["events"].sum())))
    lost = found.filter(pl.col("counted") != pl.col("closed") + pl.col("open") + pl.col("unbilled"))
    accounts = sum(
        accounts_that_lost_events(shard, month)["account_id"].drop_nulls().n_unique()
        for shard in each_shard(business, month)
    )
    yield Checked(
        name="no_event_is_lost",
        # Accounts at fault are parked, and the others continue.
        passed=lost.is_empty() or accounts > 0,
        metadata={
            "accounts that are parked for it": accounts,
            "month": month,
            **summary(found, metrics=found.height),
            "metrics that lost events": in_words(lost["metric"].to_list()),
        },
    )
