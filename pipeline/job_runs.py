"""Jobs that a command runs: by itself, by Dagster in its process, or submitted to a cluster and followed."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from assets.declared import Link, Markdown, Place, Value
from assets.homes import PATIENCE_SECONDS
from assets.resources import BillingHome
from assets.run_tags import BY_COMMAND_LINE
from billing.model.errors import InterruptedRunError, RefusedError
from billing.month.business import Business
from billing.reports.repair import damage_in_words
from billing.store.home import Home
from billing.store.lock import BusyError
from billing.store.object_store import LostRaceError, StoreError
from pipeline.direct_runs import execute
from pipeline.job_lists import SERIAL
from pipeline.run_results import INTERRUPTED, ErrorFound, Evaluation, Result, failed_checks
from pipeline.run_state import Say

# Skip checks that are reported at the end (the first two), or that matter to schedules only (the last).
_NOT_SAID = ("every_account_could_be_billed", "every_file_could_be_read", "expected_deliveries_are_there")
_IN_WORDS = tuple(each.__name__ for each in (RefusedError, InterruptedRunError, BusyError, StoreError, LostRaceError))
# An OSError names what a library failed at: a full disk, where Polars reports a damaged file.
_NAMED = (*_IN_WORDS, OSError.__name__)
_EXPECTED = (*_IN_WORDS, INTERRUPTED)


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
    records
        Folder of the records of runs that are executed here without Dagster; None: they are not recorded.
    dagster
        What executes the jobs instead.
    """

    resource: BillingHome
    say: Say
    records: Path | None = None
    dagster: "DagsterJobs | None" = None

    def drafting(self) -> "Jobs":
        """The same, issuing nothing."""
        return replace(self, resource=replace(self.resource, draft=True))

    def without_pdf_of_report(self) -> "Jobs":
        """The same without the PDF of the month's report: `overage report` draws it."""
        return replace(self, resource=replace(self.resource, pdf_of_report=False))

    def sending(self) -> "Jobs":
        """The same for mails: what a run computes only, it does not send."""
        return replace(self, resource=replace(self.resource, draft=False))

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
                        "pdf_of_report": self.resource.pdf_of_report,
                    }
                }
            },
            "ops": dict(operations or {}),
        }
        tags = {"overage/as_of": self.resource.as_of, **(tags or {})}
        result = self._result_of(job, config, partition, tags)
        for evaluation in result.evaluations:
            if not evaluation.passed and evaluation.is_warning:
                for warning in _warnings(evaluation):
                    self.say(f"warning: {warning}")
        if not result.success:
            damage = damage_in_words(Home(self.resource.root)) if _is_broken(result) else ""
            raise InterruptedRunError(damage or _failure(result, partition))

    def _result_of(self, job: str, config: dict[str, Any], partition: str | None, tags: Mapping[str, str]) -> Result:
        if self.dagster is None:
            tags = {**SERIAL, **tags, **BY_COMMAND_LINE}
            return execute(job, self.resource, self.records, partition=partition, tags=tags, config=config)
        return self.dagster.execute(job, config, partition, tags)


class DagsterJobs(Protocol):
    """Executes jobs by Dagster: in this process, or on a cluster."""

    def execute(self, job: str, config: dict[str, Any], partition: str | None, tags: Mapping[str, str]) -> Result:
        """Run a job to its end."""
        ...


def _warnings(evaluation: Evaluation) -> list[str]:
    """Warnings in a check's metadata, else a message that it failed."""
    if evaluation.name in _NOT_SAID:
        return []
    warnings = evaluation.metadata.get("warnings")
    if isinstance(warnings, list):
        return [str(warning) for warning in warnings]
    return [f"{evaluation.asset}: {_sentence(evaluation)}"]


def _sentence(evaluation: Evaluation) -> str:
    # Leave out tables, which are for the asset's page: a message is one line.
    details = ", ".join(
        f"{name}: {_plain(value)}" for name, value in evaluation.metadata.items() if not isinstance(value, Markdown)
    )
    return f"check {evaluation.name} does not hold ({details})"


def _plain(value: Value) -> object:
    return value.url if isinstance(value, Link) else value.path if isinstance(value, Place) else value


def _is_broken(result: Result) -> bool:
    """Whether a step failed with an unexpected error, for example on a damaged file."""
    return any(_cause(failed.error).name not in _EXPECTED for failed in result.failures if failed.error is not None)


def _cause(error: ErrorFound) -> ErrorFound:
    """The error behind those of Dagster: the first that names its cause, else the innermost."""
    while error.cause is not None and error.name not in _NAMED:
        error = error.cause
    return error


def _failure(result: Result, partition: str | None) -> str:
    where = f"{partition}: " if partition else ""
    for evaluation in failed_checks(result.evaluations):
        return f"{where}{evaluation.asset}: {_sentence(evaluation)}; nothing was issued after it"
    for failed in result.failures:
        if failed.words:
            return f"{where}{failed.step} failed: {failed.words}"
        if failed.error is None:
            continue
        cause = _cause(failed.error)
        if cause.name == INTERRUPTED:
            return f"{where}stopped by the keyboard or a signal at {failed.step}"
        words = cause.message.strip()
        if cause.name in _IN_WORDS:
            words = words.partition(": ")[2]
        return f"{where}{failed.step} failed: {words}"
    if result.error is not None:
        return f"{where}the run failed: {_cause(result.error).message.strip()}"
    return f"{where}the run failed"
