"""Progress reporting to an optional listener: the command line draws a bar, Dagster's pages have none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int], None]
_listeners: list[Listener] = []


def report(doing: str, done: int, total: int) -> None:
    """Report to the listener, if any, that `done` of `total` are done."""
    for listener in _listeners:
        listener(doing, done, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Register a progress listener inside the context."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
