"""The versions that the bytes of results depend on: whoever works for a run has those of its head."""

import polars as pl

from billing import __version__
from billing.model.errors import RefusedError


def versions() -> str:
    """The versions of the program and of Polars, in words."""
    return f"Overage {__version__}, Polars {pl.__version__}"


def refuse_other_versions(expected: str) -> None:
    """Refuse to work for a head of another version: the bytes of results could differ.

    Raises
    ------
    RefusedError
        Naming both.
    """
    if expected != versions():
        raise RefusedError(
            f"this worker is of other versions than the head of the run: found {versions()}, expected {expected}; "
            "nothing was done: install the same versions on every machine, then run again"
        )
