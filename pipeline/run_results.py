"""What a command learns of a job that ended, whoever executed it."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from assets.declared import Metadata

INTERRUPTED = "DagsterExecutionInterruptedError"
"""Name of the error of a step that was stopped by the keyboard or a signal."""


@dataclass(frozen=True)
class Evaluation:
    """The result of a check."""

    asset: str
    name: str
    passed: bool
    is_warning: bool
    blocking: bool
    metadata: Metadata


@dataclass(frozen=True)
class ErrorFound:
    """An error: the name of its class, its message as Python prints it, and the error behind it."""

    name: str
    message: str
    cause: "ErrorFound | None" = None


@dataclass(frozen=True)
class FailedStep:
    """A step that failed; `words` where it says itself why."""

    step: str
    words: str | None
    error: ErrorFound | None


@dataclass
class Result:
    """Of a job.

    Attributes
    ----------
    error
        Why the run failed, where no step did.
    """

    success: bool = True
    evaluations: list[Evaluation] = field(default_factory=list)
    failures: list[FailedStep] = field(default_factory=list)
    error: ErrorFound | None = None


def found_error(error: BaseException) -> ErrorFound:
    """An exception with what caused it, as Dagster records it."""
    name = INTERRUPTED if isinstance(error, KeyboardInterrupt) else type(error).__name__
    cause = None if error.__cause__ is None else found_error(error.__cause__)
    return ErrorFound(name, "".join(traceback.format_exception_only(error)), cause)


def as_plain(error: ErrorFound) -> dict[str, Any]:
    """An error for a file."""
    cause = None if error.cause is None else as_plain(error.cause)
    return {"name": error.name, "message": error.message, "cause": cause}


def failed_checks(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The checks that stop what follows."""
    return [each for each in evaluations if not each.passed and not each.is_warning]
