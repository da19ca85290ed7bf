"""Errors that a person can cause and mend."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with what was given: file, place, what was found and what was expected."""

    file: str
    place: str
    found: str
    expected: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.place}" if self.place else self.file
        return f"{where}: found {self.found}, expected {self.expected}"


class RefusedError(Exception):
    """Nothing was computed or written: what was given must be mended first (exit status 2)."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        self.message = message
        self.problems = tuple(problems)
        super().__init__("\n".join([message, *(f"  {problem}" for problem in self.problems)]))


class InterruptedRunError(Exception):
    """The work stopped part-way, and a plain second run completes it (exit status 1)."""
