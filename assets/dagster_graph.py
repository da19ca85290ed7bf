"""Dagster's assets, made of those that are declared; the only place where the two meet."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import MISSING, Field, fields
from functools import update_wrapper
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import dagster as dg

from assets.declared import (
    Asset,
    Check,
    Checked,
    Link,
    Made,
    Markdown,
    Metadata,
    MonthBefore,
    Operation,
    Place,
    Value,
)
from assets.heads import at_work_on, failures_for_dagster
from assets.lineage import Sources, sources_of
from assets.partitions import month_before
from assets.refusals import StepFailedError
from assets.resources import BillingHome
from billing.model.columns import Table
from billing.month.business import Business
from billing.register.register import Register
from billing.store.home import Home
from billing.store.working_files import EVERYTHING, Needs

Events = Iterator[Any]


class HomeResource(dg.ConfigurableResource):  # type: ignore[type-arg] # The type variable is internal to Dagster.
    """Configuration of a billing home and its as-of day.

    Attributes
    ----------
    folder
        Folder or URL of the billing home; empty: $OVERAGE_HOME, else ./data.
    as_of
        YYYY-MM-DD; empty: today in the billing time zone.
    draft
        Compute, but issue nothing.
    in_order
        The caller updates every earlier month first. Otherwise nothing is issued in a month while an earlier one is
        stale.
    accept_missing_accounts
        Park accounts whose rows are missing, however many. Otherwise refuse an accounts file that lacks too many of the
        accounts with live subscriptions.
    pdf_of_report
        Draw the month's report as a PDF, too.
    """

    folder: str = BillingHome.folder
    as_of: str = BillingHome.as_of
    draft: bool = BillingHome.draft
    in_order: bool = BillingHome.in_order
    accept_missing_accounts: bool = BillingHome.accept_missing_accounts
    pdf_of_report: bool = BillingHome.pdf_of_report

    @property
    def home(self) -> BillingHome:
        """The same, without Dagster."""
        return BillingHome(**{each.name: getattr(self, each.name) for each in fields(BillingHome)})

    @property
    def root(self) -> Path:
        """As `BillingHome.root`."""
        return self.home.root

    def business(self, needs: Needs = EVERYTHING) -> Business:
        """As `BillingHome.business`."""
        with failures_for_dagster():
            return self.home.business(needs)


class DagsterStep:
    """What an operation knows of its run, from Dagster."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context

    @property
    def name(self) -> str:
        """Name of the operation."""
        return str(self._context.op_execution_context.op.name)

    @property
    def month(self) -> str:
        """The partition of the run."""
        return str(self._context.partition_key)

    @property
    def days(self) -> Sequence[str]:
        """The partitions of the run."""
        return list(self._context.partition_keys)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._context.run.run_id

    @property
    def tags(self) -> Mapping[str, str]:
        """The run's tags, as this process was given them."""
        return self._context.run.tags

    def warn(self, message: str) -> None:
        """Write a warning to the run's log."""
        self._context.log.warning(message)

    def at_work(self, home: Home, register: Register, needs: Needs = EVERYTHING) -> AbstractContextManager[None]:
        """As `heads.at_work_on`."""
        return at_work_on(self._context, home, register, needs)


Executor = Callable[[Operation, dg.AssetExecutionContext], Events]
_instead: list[Executor] = []


@contextmanager
def executed_instead(executor: Executor) -> Iterator[None]:
    """Let every operation in this process yield what another executor has for it."""
    _instead.append(executor)
    try:
        yield
    finally:
        _instead.remove(executor)


def assets_in(modules: Iterable[ModuleType]) -> list[dg.AssetsDefinition]:
    """Dagster's assets of the operations that modules declare."""
    return [to_dagster(each) for module in modules for each in vars(module).values() if isinstance(each, Operation)]


def to_dagster(operation: Operation) -> dg.AssetsDefinition:
    """An operation as Dagster's asset, or several."""
    checks = [check_spec(each) for each in operation.checks]
    function = _function(operation)
    if operation.is_one:
        (made,) = operation.assets
        return dg.asset(
            name=made.name,
            group_name=made.group,
            description=made.description,
            deps=_deps(made),
            kinds=set(made.kinds),
            metadata=definition_metadata(made.table) if made.table is not None else None,
            check_specs=checks,
        )(function)
    return dg.multi_asset(
        name=operation.name,
        group_name=operation.assets[0].group,
        specs=[asset_spec(each, grouped=False) for each in operation.assets],
        check_specs=checks,
        backfill_policy=dg.BackfillPolicy.single_run() if operation.is_single_run else None,
    )(function)


def asset_spec(asset: Asset, *, grouped: bool = True) -> dg.AssetSpec:
    """The declaration of an asset; not grouped where what makes it names the group."""
    return dg.AssetSpec(
        asset.name,
        description=asset.description,
        deps=_deps(asset),
        kinds=set(asset.kinds),
        metadata=definition_metadata(asset.table) if asset.table is not None else {},
        group_name=asset.group if grouped else None,
    )


def check_spec(check: Check) -> dg.AssetCheckSpec:
    """The declaration of a check."""
    return dg.AssetCheckSpec(check.name, asset=check.asset, blocking=check.blocking, description=check.description)


def check_result(checked: Checked) -> dg.AssetCheckResult:
    """The result of a check."""
    return dg.AssetCheckResult(
        asset_key=checked.asset,
        check_name=checked.name,
        passed=checked.passed,
        severity=dg.AssetCheckSeverity(checked.severity),
        metadata=metadata_values(checked.metadata),
    )


def to_event(yielded: Made | Checked) -> dg.MaterializeResult[None] | dg.AssetCheckResult:
    """What an operation yields, for Dagster."""
    if isinstance(yielded, Checked):
        return check_result(yielded)
    return dg.MaterializeResult(asset_key=yielded.asset, metadata=metadata_values(yielded.metadata))


def metadata_values(metadata: Metadata) -> dict[str, dg.MetadataValue]:
    """Metadata as Dagster's pages show it."""
    return {name: _value(value) for name, value in metadata.items()}


def plain_metadata(metadata: Mapping[str, dg.MetadataValue]) -> Metadata:
    """The reverse of `metadata_values`."""
    return {name: _plain(value) for name, value in metadata.items()}


def definition_metadata(table: Table) -> dict[str, object]:
    """Metadata of a table's asset: its columns, their descriptions and their sources.

    Dagster's pages do not show column lineage, so each column description names its sources too.
    """
    came = sources_of(table)
    columns = [
        dg.TableColumn(column.name, str(column.dtype), column.description + _from(came.get(column.name, [])))
        for column in table.columns
    ]
    lineage = {
        column: [dg.TableColumnDep(dg.AssetKey(source.name), name) for source, name in sources]
        for column, sources in came.items()
    }
    metadata: dict[str, object] = {"dagster/column_schema": dg.TableSchema(columns)}
    return metadata | ({"dagster/column_lineage": dg.TableColumnLineage(lineage)} if lineage else {})


def _from(sources: Sources) -> str:
    return f" (from {', '.join(f'{source.name}.{name}' for source, name in sources)})" if sources else ""


def _function(operation: Operation) -> Callable[..., Any]:
    """The function that Dagster executes; with a configuration where the operation has one."""

    def execute(context: dg.AssetExecutionContext, billing_home: HomeResource) -> Events:
        yield from _executed(operation, context, billing_home)

    def execute_configured(context: dg.AssetExecutionContext, config: Any, billing_home: HomeResource) -> Events:
        given = {each.name: getattr(config, each.name) for each in fields(operation.config)} if operation.config else {}
        yield from _executed(operation, context, billing_home, **given)

    def execute_one(context: dg.AssetExecutionContext, billing_home: HomeResource) -> dg.MaterializeResult[None]:
        (made,) = _executed(operation, context, billing_home)
        result: dg.MaterializeResult[None] = made
        return result

    function: Callable[..., Any] = execute if operation.config is None else execute_configured
    if operation.is_one and not operation.checks and operation.config is None:
        # So Dagster knows that it has no output but what it tells.
        function = execute_one
    annotations = dict(function.__annotations__)
    if operation.config is not None:
        annotations["config"] = _config_class(operation.config)
    named = update_wrapper(function, operation.work)
    del named.__wrapped__  # Dagster looks at the signature of what is wrapped.
    named.__annotations__ = annotations
    return named


def _executed(
    operation: Operation, context: dg.AssetExecutionContext, billing_home: HomeResource, **config: Any
) -> Events:
    if _instead:
        yield from _instead[-1](operation, context)
        return
    given = () if operation.config is None else (operation.config(**config),)
    try:
        for each in operation.work(DagsterStep(context), *given, billing_home.home):
            yield to_event(each)
    except StepFailedError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error.__cause__


def _config_class(declared: type[Any]) -> type[dg.Config]:
    types = get_type_hints(declared)
    annotated = {each.name: types[each.name] for each in fields(declared)}
    defaults = {each.name: _default(each) for each in fields(declared)}
    given = {name: value for name, value in defaults.items() if value is not MISSING}
    contents = {"__module__": declared.__module__, "__doc__": declared.__doc__, "__annotations__": annotated}
    make: Any = type(dg.Config)
    made: type[dg.Config] = make(declared.__name__, (dg.Config,), contents | given)
    return made


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _deps(asset: Asset) -> list[str | dg.AssetDep]:
    return [
        dg.AssetDep(each.name, partition_mapping=month_before) if isinstance(each, MonthBefore) else each
        for each in asset.deps
    ]


def _value(value: Value) -> dg.MetadataValue:
    match value:
        case Markdown():
            return dg.MetadataValue.md(value.text)
        case Link():
            return dg.MetadataValue.url(value.url)
        case Place():
            return dg.MetadataValue.path(value.path)
        case str():
            return dg.MetadataValue.text(value)
        case int():
            return dg.MetadataValue.int(value)
        case float():
            return dg.MetadataValue.float(value)
    return dg.MetadataValue.json(value)


def _plain(value: dg.MetadataValue) -> Value:
    match value:
        case dg.MarkdownMetadataValue():
            return Markdown(value.value)
        case dg.UrlMetadataValue():
            return Link(value.value)
        case dg.PathMetadataValue():
            return Place(value.value)
    found: Any = value.value
    return found  # type: ignore[no-any-return]
