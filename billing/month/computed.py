"""What is computed of a business once, and asked for by several steps."""

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Computed:
    """Keeps one answer per name, as long as the key, of all that it was made of, stays the same."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, tuple[Hashable, Any]] = {}

    def once(self, name: Hashable, key: Hashable, compute: Callable[[], T]) -> T:
        """The answer of this name, computed unless it was for the same key."""
        known, answer = self._answers.get(name, (None, None))
        if name not in self._answers or known != key:
            # free the old answer first: it can be large
            self._answers.pop(name, None)
            answer = compute()
            self._answers[name] = (key, answer)
        found: T = answer
        return found

    def forget(self, name: Hashable) -> None:
        """Give back the memory of an answer that nobody asks for again."""
        self._answers.pop(name, None)


def file_stamp(path: Path) -> tuple[int, ...] | None:
    """What the file system says of a file of the lake, which is only ever replaced; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size)
