"""How far long work has come, for whoever listens: the command line draws it, Dagster's pages do without."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int], None]
_listeners: list[Listener] = []


def report(doing: str, done: int, total: int) -> None:
    """Tell the listener, if there is one, that `done` of `total` are done."""
    for listener in _listeners:
        listener(doing, done, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let a listener hear of progress."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
