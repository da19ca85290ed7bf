"""Cache of answers that several steps of a business share."""

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Computed:
    """A cache with one entry per name, valid as long as its key, of all inputs, stays the same."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, tuple[Hashable, Any]] = {}

    def once(self, name: Hashable, key: Hashable, compute: Callable[[], T]) -> T:
        """The cached answer of this name, or compute it when the key has changed."""
        known, answer = self._answers.get(name, (None, None))
        if name not in self._answers or known != key:
            # Free the stale entry first: it can be large.
            self._answers.pop(name, None)
            answer = compute()
            self._answers[name] = (key, answer)
        found: T = answer
        return found

    def take_over(self, name: Hashable, other: "Computed") -> None:
        """Take the entry of another cache, if it has one: its key says whether it holds here, too."""
        if name in other._answers:
            self._answers[name] = other._answers[name]

    def forget(self, name: Hashable) -> None:
        """Drop an entry that is not needed again."""
        self._answers.pop(name, None)


def file_stamp(path: Path) -> tuple[int, ...] | None:
    """Cache key of a file of the lake, from its metadata: files are only ever replaced. None if it does not exist."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)
