"""Locks of a run: the head of a run is alone at work, and its steps work under its lock."""

from collections.abc import Iterator
from contextlib import contextmanager

from billing.register.register import Register
from billing.store.home import Home
from billing.store.lock import lock, step_of
from billing.store.working_copy import step_in_store, synchronized


@contextmanager
def alone(home: Home, register: Register, patience: float = 0, holder: str = "") -> Iterator[None]:
    """As `Business.alone`, also where the inputs cannot be read."""
    with (
        lock(home, patience, holder),
        register.alone(patience, holder),
        synchronized(home.root, shared=bool(holder)),
    ):
        yield


@contextmanager
def step_under(home: Home, register: Register, holder: str) -> Iterator[None]:
    """Be a step of a run whose head, `holder`, holds the lock in another process, perhaps on another machine.

    Raises
    ------
    InterruptedRunError
        When the head does not hold the lock (any more).
    """
    alive = register.step_of(holder) if register.is_on_server else step_of(home, holder)
    with alive, step_in_store(home, holder):
        yield
