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

    def __init__(self, message: str, problems: Sequence[Problem] = (), refusals: "Sequence[RefusedError]" = ()) -> None:
        self.message = message
        self.problems: tuple[Problem, ...] = (
            *problems,
            *(problem for refusal in refusals for problem in refusal.problems),
        )
        of_several = [line for refusal in refusals for line in refusal.told]
        self.told: list[str] = of_several or [str(problem) for problem in self.problems] or [message]
        """Every problem in words, of all files that are refused; the message where it names the only one."""
        super().__init__("\n".join([message, *(f"  {line}" for line in self.told if line != message)]))


class InterruptedRunError(Exception):
    """An interrupted run: run again to complete it (exit status 1)."""
