"""The jobs of a command without Dagster's machinery: the same functions, in the same order.

What Dagster adds to the run of a command are its records, and they take most of the time of a small business. What the
command is told of a job is the same: the checks, the words of a failure, and that nothing runs after what failed.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest import mock

import dagster as dg
from dagster._utils.error import serializable_error_info_from_exc_info

from assets.resources import BillingHome
from pipeline.definitions import defs

_RANGE = "dagster/asset_partition_range_"


@contextmanager
def plain_runs(left_out: Sequence[str] = ()) -> Iterator[None]:
    """Let commands in this process run their jobs plainly, without records; jobs that are left out do nothing."""

    def job(name: str) -> SimpleNamespace:
        return SimpleNamespace(execute_in_process=(lambda **_: _Result()) if name in left_out else _Job(name))

    with (
        mock.patch("dagster.DagsterInstance.get", _NoRecords),
        mock.patch("pipeline.runs.open_instance", lambda _: _NoRecords()),
        mock.patch("pipeline.job_runs.defs.resolve_job_def", job),
    ):
        yield


class _NoRecords:
    """Stands in for an instance of Dagster in which nothing was ever recorded."""

    def __enter__(self) -> "_NoRecords":
        return self

    def __exit__(self, *_: object) -> None:
        self.dispose()

    def dispose(self) -> None:
        """Nothing is open."""

    def get_runs(self, _: dg.RunsFilter) -> list[dg.DagsterRun]:
        """No run was killed."""
        return []


@dataclass
class _Result:
    """What a command asks of a job that ended."""

    evaluations: list[dg.AssetCheckEvaluation] = field(default_factory=list)
    all_events: list[SimpleNamespace] = field(default_factory=list)

    @property
    def success(self) -> bool:
        return not self.all_events

    def get_asset_check_evaluations(self) -> list[dg.AssetCheckEvaluation]:
        return self.evaluations

    def failed(self, step: str, told: dg.Failure | None) -> None:
        """Record the error that is being handled as a failure of a step."""
        in_words = None if told is None else SimpleNamespace(description=told.description)
        data = SimpleNamespace(error=serializable_error_info_from_exc_info(sys.exc_info()), user_failure_data=in_words)
        self.all_events.append(SimpleNamespace(is_step_failure=True, step_key=step, step_failure_data=data))


class _CheckFailedError(Exception):
    """A check that blocks does not hold."""


@dataclass
class _Job:
    name: str

    def __call__(
        self,
        run_config: Mapping[str, Any],
        partition_key: str | None,
        tags: Mapping[str, str],
        **_: object,
    ) -> _Result:
        """Run the steps of the job as Dagster would: a step whose work builds on a failed one is left out."""
        result, left_out = _Result(), set[str]()
        resource = BillingHome(**run_config["resources"]["billing_home"]["config"])
        for step, after in _steps(self.name).items():
            if after & left_out:
                left_out.add(step)
                continue
            context = SimpleNamespace(
                partition_key=partition_key,
                partition_keys=_days(tags),
                op_execution_context=SimpleNamespace(op=SimpleNamespace(name=step)),
                log=mock.Mock(),
                run=SimpleNamespace(tags=tags, run_id="run"),
            )
            asset = _assets()[step]
            try:
                for evaluation in _checked(asset, context, resource, run_config["ops"].get(step, {}).get("config", {})):
                    result.evaluations.append(evaluation)
                    is_broken = not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR
                    if is_broken and evaluation.blocking:
                        raise _CheckFailedError(evaluation.check_name)
            except dg.Failure as failure:
                result.failed(step, failure)
                left_out.add(step)
            except Exception:  # as Dagster: whatever is raised ends the step and is told
                result.failed(step, None)
                left_out.add(step)
        return result


def _checked(
    asset: dg.AssetsDefinition, context: object, resource: BillingHome, config: Mapping[str, Any]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Run the function of an asset; its checks, as they come."""
    function = asset.op.compute_fn.decorated_fn  # type: ignore[union-attr] # every asset here is a decorated function
    asked = inspect.signature(function).parameters
    given: dict[str, object] = {"context": context, "billing_home": resource}
    if "config" in asked:
        given["config"] = asked["config"].annotation(**config)
    made = function(**{name: given[name] for name in asked})
    for each in made if isinstance(made, Iterator) else [made]:
        if not isinstance(each, dg.AssetCheckResult):
            continue
        # an asset with one check need not name it
        spec = next(spec for spec in asset.check_specs if each.check_name in (None, spec.name))
        yield dg.AssetCheckEvaluation(
            asset_key=spec.asset_key,
            check_name=spec.name,
            passed=each.passed,
            metadata=each.metadata,
            severity=each.severity,
            blocking=spec.blocking,
        )


@cache
def _steps(job: str) -> dict[str, set[str]]:
    """The steps of a job in order, each with those it builds on."""
    found = _resolve(job)
    builds_on = found.dependency_structure.input_to_upstream_outputs_for_node
    return {
        node.name: {output.node_name for outputs in builds_on(node.name).values() for output in outputs}
        for node in found.nodes_in_topological_order
    }


@cache
def _assets() -> dict[str, dg.AssetsDefinition]:
    graph = defs.resolve_asset_graph()
    return {asset.node_def.name: asset for asset in graph.assets_defs if asset.is_executable}


# found before it is replaced
_resolve = defs.resolve_job_def


def _days(tags: Mapping[str, str]) -> list[str]:
    """The delivery days of a run that has a range of them."""
    if f"{_RANGE}start" not in tags:
        return []
    first, last = (date.fromisoformat(tags[f"{_RANGE}{end}"]) for end in ("start", "end"))
    return [(first + timedelta(days)).isoformat() for days in range((last - first).days + 1)]
