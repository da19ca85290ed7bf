"""Inputs of homes that tests bill and look at: of the same files they are read once."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import polars as pl

from billing.inputs.reading import Inputs, read_inputs
from billing.model.catalogue import Catalogue
from billing.store.home import Home
from billing.store.working_copy import working_copy
from tests.sizes import LONG

_read: dict[str, Inputs] = {}
_MOST = 50


@contextmanager
def inputs_read_once(*, again: bool = False) -> Iterator[None]:
    """Let businesses share what was read of the same landing folders, wherever they are; a long run reads anew.

    Parameters
    ----------
    again
        Read it all the same, and keep it for others.
    """
    if LONG:
        yield
        return
    with mock.patch("billing.month.business.read_inputs", partial(_inputs, again=again)):
        yield


def _inputs(
    home: Home, catalogue: Catalogue, billed: pl.Series | None, issued: pl.DataFrame | None, *, again: bool
) -> Inputs:
    if working_copy(home.root) is not None:
        # its files are fetched when they are read
        return read_inputs(home, catalogue, billed, issued)
    asked = _digest(home.landing, catalogue, issued)
    kept = None if again else _read.get(asked)
    if kept is None or not _knows(kept, billed):
        kept = read_inputs(home, catalogue, billed, issued)
        if len(_read) >= _MOST:
            _read.pop(next(iter(_read)))
        _read[asked] = kept
    return kept


def _digest(landing: Path, catalogue: Catalogue, issued: pl.DataFrame | None) -> str:
    """A hash of the catalogue, and of everything in a landing folder but usage, which is not read with it."""
    found = hashlib.sha256(repr((catalogue, None if issued is None else issued.rows())).encode())
    for path in sorted(_beside_usage(landing)):
        if path.is_file():
            found.update(f"{path.relative_to(landing)}\n{path.stat().st_size}\n".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def _beside_usage(landing: Path) -> Iterator[Path]:
    for path in landing.iterdir():
        if path.name != "usage":
            yield path
            yield from path.rglob("*")


def _knows(inputs: Inputs, billed: pl.Series | None) -> bool:
    """Whether these are the inputs where these accounts were billed before: what they ask for counts without a row."""
    assert isinstance(inputs.all_accounts, pl.DataFrame)
    ids = {*inputs.all_accounts["account_id"], *([] if billed is None else billed)}
    return ids == set(inputs.known_accounts)
