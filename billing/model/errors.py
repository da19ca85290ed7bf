"""Errors that users can cause and fix."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One problem in the input: file, place, found and expected."""

    file: str
    place: str
    found: str
    expected: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.place}" if self.place else self.file
        return f"{where}: found {self.found}, expected {self.expected}"


class RefusedError(Exception):
    """Invalid input: nothing was computed or written; fix it and run again (exit status 2)."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        self.message = message
        self.problems = tuple(problems)
        super().__init__("\n".join([message, *(f"  {problem}" for problem in self.problems)]))


class InterruptedRunError(Exception):
    """An interrupted run: run again to complete it (exit status 1)."""
