"""A scratch copy of a home: to compute as of another day, or what would change, without writing into the home."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

from billing.business import Business
from billing.fingerprint import moved_inputs, record_fingerprint
from billing.home import Home
from billing.month import (
    billed_months,
    write_charges,
    write_cycles,
    write_decisions,
    write_drafts,
    write_levels,
    write_packages,
    write_usage,
)


@contextmanager
def scratch_copy(business: Business, as_of: date) -> Iterator[Business]:
    """The business as of a day in a copy of its lake; nothing can be issued from it, and it is gone afterwards.

    Files of the lake are never changed in place, so the copy is made of links where the file system allows.
    """
    root = Path(tempfile.mkdtemp(prefix="overage-scratch-"))
    try:
        (root / "landing").symlink_to(business.home.landing.resolve())
        if business.home.lake.is_dir():
            shutil.copytree(business.home.lake, root / "lake", copy_function=_link)
        yield replace(business, home=Home(root), as_of=as_of, issues=False, _by_count={})
    finally:
        shutil.rmtree(root)


def bring_up_to_date(business: Business, through: str) -> None:
    """Compute every month up to `through` whose inputs moved, drafts included; issue and render nothing."""
    for month in billed_months(business, through):
        if moved_inputs(business, month):
            for step in (
                write_cycles,
                write_levels,
                write_usage,
                write_packages,
                write_decisions,
                write_charges,
                write_drafts,
            ):
                step(business, month)
            record_fingerprint(business, month)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
