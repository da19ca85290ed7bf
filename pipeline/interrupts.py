"""Ctrl-C handling: one message, wherever in a library the interrupt arrives."""

import _thread
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds until a swallowed interrupt is raised again.
_AGAIN_AFTER = 0.05


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let a request to end (SIGTERM) interrupt the work as the keyboard does, so that it ends in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def report_interrupt_once() -> Iterator[None]:
    """Let a keyboard interrupt through, and report it once.

    A connection pool that is interrupted while it closes a connection prints a traceback, then re-raises. Inside a
    finalizer Python prints a traceback and swallows the interrupt, and the run would continue: raise it again.
    """
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL + 1)
    before = sys.unraisablehook

    def report_unraisable(lost: "sys.UnraisableHookArgs") -> None:
        # Dagster raises its own type while a step runs.
        if lost.exc_type.__name__ in ("KeyboardInterrupt", "DagsterExecutionInterruptedError"):
            threading.Timer(_AGAIN_AFTER, _thread.interrupt_main).start()
        else:
            before(lost)

    sys.unraisablehook = report_unraisable
    try:
        yield
    finally:
        sys.unraisablehook = before
