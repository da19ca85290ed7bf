"""Jobs that a command runs: in its own process, or submitted to a cluster and followed."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import dagster as dg

from assets.heads import PATIENCE_SECONDS
from assets.resources import BillingHome
from billing.model.errors import InterruptedRunError, RefusedError
from billing.month.business import Business
from billing.reports.repair import damage_in_words
from billing.store.home import Home
from billing.store.lock import BusyError
from billing.store.object_store import LostRaceError, StoreError
from pipeline.definitions import defs
from pipeline.instance import BY_COMMAND_LINE
from pipeline.run_state import Say

# Skip checks that are reported at the end (the first two), or that matter to schedules only (the last).
_NOT_SAID = ("every_account_could_be_billed", "every_file_could_be_read", "expected_deliveries_are_there")
_IN_WORDS = tuple(each.__name__ for each in (RefusedError, InterruptedRunError, BusyError, StoreError, LostRaceError))
# An OSError names what a library failed at: a full disk, where Polars reports a damaged file.
_NAMED = (*_IN_WORDS, OSError.__name__)
_EXPECTED = (*_IN_WORDS, dg.DagsterExecutionInterruptedError.__name__)


class Result(Protocol):
    """What a command asks of a job that ended."""

    @property
    def success(self) -> bool: ...

    @property
    def all_events(self) -> Any: ...

    def get_asset_check_evaluations(self) -> Any: ...


class Turn:
    """The lock of a command: given up while a submitted run, which holds it itself, is at work."""

    def __init__(self, business: Business) -> None:
        self._business = business
        self._held = ExitStack()

    def __enter__(self) -> "Turn":
        self._held.enter_context(self._business.alone())
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @contextmanager
    def given_up(self) -> Iterator[None]:
        """Let the run have it; a command that goes on takes it again."""
        self._held.close()
        yield
        self._held.enter_context(self._business.alone(PATIENCE_SECONDS))


@dataclass(frozen=True)
class Jobs:
    """The jobs of one command.

    Attributes
    ----------
    turn
        The command's lock.
    is_submitted
        Whether runs are submitted to the cluster, and not executed in this process.
    """

    resource: BillingHome
    instance: dg.DagsterInstance
    say: Say
    turn: Turn
    is_submitted: bool = False

    def drafting(self) -> "Jobs":
        """The same, issuing nothing."""
        return replace(self, resource=self.resource.model_copy(update={"draft": True}))

    def sending(self) -> "Jobs":
        """The same for mails: what a run computes only, it does not send."""
        return replace(self, resource=self.resource.model_copy(update={"draft": False}))

    def execute(
        self,
        job: str,
        *,
        partition: str | None = None,
        tags: Mapping[str, str] | None = None,
        operations: Mapping[str, object] | None = None,
    ) -> None:
        """Run a job to its end.

        Raises
        ------
        InterruptedRunError
            A step failed, or a check that blocks.
        """
        config: dict[str, Any] = {
            "resources": {
                "billing_home": {
                    "config": {
                        "folder": self.resource.folder,
                        "as_of": self.resource.as_of,
                        "draft": self.resource.draft,
                        "in_order": self.resource.in_order,
                        "accept_missing_accounts": self.resource.accept_missing_accounts,
                    }
                }
            },
            "ops": dict(operations or {}),
        }
        tags = {"overage/as_of": self.resource.as_of, **(tags or {})}
        result = self._result_of(job, config, partition, tags)
        for evaluation in result.get_asset_check_evaluations():
            if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.WARN:
                for warning in _warnings(evaluation):
                    self.say(f"warning: {warning}")
        if not result.success:
            damage = damage_in_words(Home(self.resource.root)) if _is_broken(result) else ""
            raise InterruptedRunError(damage or _failure(result, partition))

    def _result_of(self, job: str, config: dict[str, Any], partition: str | None, tags: Mapping[str, str]) -> Result:
        definition = defs.resolve_job_def(job)
        if self.is_submitted:
            # Loaded here: a command on one machine does not need it.
            from pipeline.following import follow, submit

            with self.turn.given_up():
                run = submit(self.instance, definition, _logging("INFO") | config, partition, tags)
                return follow(self.instance, run, self.say)
        result: Result = definition.execute_in_process(
            run_config=_logging("CRITICAL") | config,
            instance=self.instance,
            partition_key=partition,
            tags={**tags, **BY_COMMAND_LINE},
            raise_on_error=False,
        )
        return result


def _logging(level: str) -> dict[str, Any]:
    return {"loggers": {"console": {"config": {"log_level": level}}}}


def _warnings(evaluation: dg.AssetCheckEvaluation) -> list[str]:
    """Warnings in a check's metadata, else a message that it failed."""
    if evaluation.check_name in _NOT_SAID:
        return []
    warnings = evaluation.metadata.get("warnings")
    if warnings is not None and isinstance(warnings.value, list):
        return [str(warning) for warning in warnings.value]
    return [f"{evaluation.asset_key.to_user_string()}: {_sentence(evaluation)}"]


def _sentence(evaluation: dg.AssetCheckEvaluation) -> str:
    # Leave out tables, which are for the asset's page: a message is one line.
    details = ", ".join(
        f"{name}: {value.value}"
        for name, value in evaluation.metadata.items()
        if not isinstance(value, dg.MarkdownMetadataValue)
    )
    return f"check {evaluation.check_name} does not hold ({details})"


def _is_broken(result: Any) -> bool:
    """Whether a step failed with an unexpected error, for example on a damaged file."""
    failures = (event.step_failure_data.error for event in result.all_events if event.is_step_failure)
    return any(_cause(error).cls_name not in _EXPECTED for error in failures if error is not None)


def _cause(error: Any) -> Any:
    """The error behind those of Dagster: the first that names its cause, else the innermost."""
    while error.cause is not None and error.cls_name not in _NAMED:
        error = error.cause
    return error


def _failure(result: Any, partition: str | None) -> str:
    where = f"{partition}: " if partition else ""
    for evaluation in result.get_asset_check_evaluations():
        if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR:
            return (
                f"{where}{evaluation.asset_key.to_user_string()}: {_sentence(evaluation)}; nothing was issued after it"
            )
    for event in result.all_events:
        if event.is_step_failure:
            in_words = event.step_failure_data.user_failure_data
            if in_words is not None and in_words.description:
                return f"{where}{event.step_key} failed: {in_words.description}"
            cause = _cause(event.step_failure_data.error)
            if cause.cls_name == dg.DagsterExecutionInterruptedError.__name__:
                return f"{where}stopped by the keyboard or a signal at {event.step_key}"
            words = cause.message.strip()
            if cause.cls_name in _IN_WORDS:
                words = words.partition(": ")[2]
            return f"{where}{event.step_key} failed: {words}"
    for event in result.all_events:
        if event.is_failure and event.job_failure_data is not None and event.job_failure_data.error is not None:
            return f"{where}the run failed: {_cause(event.job_failure_data.error).message.strip()}"
    return f"{where}the run failed"
