"""Ctrl-C ends a command with one message, wherever in the work of libraries it is pressed."""

import _thread
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# an interruption that nobody could pass on is made again after so many seconds
_AGAIN_AFTER = 0.05


@contextmanager
def heard_once() -> Iterator[None]:
    """Let an interruption by the keyboard come through, and be told once.

    A pool of connections that is interrupted while it closes one would print a traceback and then pass the interruption
    on. Where Python cannot pass it on (while it tidies up objects) it would print a traceback and lose it: the run
    would go on.
    """
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL + 1)
    before = sys.unraisablehook

    def told(lost: "sys.UnraisableHookArgs") -> None:
        # Dagster's own, while a step is at work
        if lost.exc_type.__name__ in ("KeyboardInterrupt", "DagsterExecutionInterruptedError"):
            threading.Timer(_AGAIN_AFTER, _thread.interrupt_main).start()
        else:
            before(lost)

    sys.unraisablehook = told
    try:
        yield
    finally:
        sys.unraisablehook = before
