"""Homes that tests of several processes share: the first one bills them, and each takes a copy."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def billed_once(factory: pytest.TempPathFactory, name: str, bill: Callable[[Path], object]) -> Path:
    """The folder in which `bill` made homes, once for all processes of a run.

    Copy a home before anything is done with it, reading it included: others copy it at any time.
    """
    base = factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"billed-{name}"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "is_billed").exists():
            shutil.rmtree(shared / "homes", ignore_errors=True)
            (shared / "homes").mkdir()
            bill(shared / "homes")
            (shared / "is_billed").touch()
    return shared / "homes"
