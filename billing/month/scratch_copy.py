"""A scratch copy of a home: compute as of another day, or a preview, without writing into the home."""

import fnmatch
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from billing.month.all_steps import STEPS_BEFORE_DOCUMENTS, STEPS_OF_A_MONTH
from billing.month.business import Business
from billing.month.issuing import issue_documents
from billing.month.recorded_inputs.months import moved_inputs, record_month
from billing.month.recorded_inputs.usage import RECORD
from billing.month.shards import begin_month, each_shard
from billing.month.steps import billed_months
from billing.store.files import unsynced
from billing.store.home import Home
from billing.store.temporary_folder import temporary_folder


@contextmanager
def scratch_copy(
    business: Business, as_of: date, *, issues: bool = False, is_locked: bool = False
) -> Iterator[Business]:
    """The business as of a day in a temporary copy of its lake.

    Files of the lake are never changed in place: use hard links where the file system allows.

    Parameters
    ----------
    issues
        Whether the copy issues, into a copy of the register.
    is_locked
        Whether the home is locked as long as the copy lives: the copy then points at its files, on any file system.
    """
    with temporary_folder("overage-scratch-") as root, unsynced(root):
        register = business.register.copied_to(root / "register.db") if issues else business.register
        try:
            (root / "landing").symlink_to(business.home.landing.resolve())
            if business.home.lake.is_dir():
                copy_lake(business.home, Home(root), is_locked=is_locked)
            yield business.at(as_of, issues=issues, home=Home(root), register=register)
        finally:
            if issues:
                register.close()


def bring_up_to_date(
    business: Business,
    through: str,
    progress: Callable[[str, int, int], None] | None = None,
    *,
    drafted_through: str | None = None,
) -> dict[str, list[str]]:
    """Compute stale months up to `through`, drafts included; issue if the business does.

    Parameters
    ----------
    drafted_through
        Compute of later months only what falls due in them, and record nothing.

    Returns
    -------
    dict
        By month: the names of the inputs that had changed.
    """
    moved = {}
    months = billed_months(business, through)
    for done, month in enumerate(months):
        if progress is not None:
            progress("computing months", done, len(months))
        names = moved_inputs(business, month)
        if names:
            moved[month] = names
            is_drafted = drafted_through is None or month <= drafted_through
            begin_month(business, month)
            for shard in each_shard(business, month):
                for step in (STEPS_OF_A_MONTH if is_drafted else STEPS_BEFORE_DOCUMENTS).values():
                    step(shard, month)
            if is_drafted:
                issue_documents(business, month)
                record_month(business, month)
    return moved


def copy_lake(home: Home, copy: Home, *, is_locked: bool = False, whole: Collection[str] = ()) -> None:
    """A copy of the lake that is written to without touching the lake; its files are linked where that works.

    Parameters
    ----------
    is_locked
        As in `scratch_copy`.
    whole
        Folders of tables that nothing is written to: the copy points at them as a whole.
    """

    def left_out(folder: str, names: list[str]) -> set[str]:
        # Leave out the incremental state: the copy measures all usage again, which verifies the increments.
        found = set(fnmatch.filter(names, f"{RECORD}*.json"))
        return found | ({name for name in names if name in whole} if Path(folder) == home.lake else set())

    shutil.copytree(
        home.lake,
        copy.lake,
        copy_function=_point if is_locked else _link,
        ignore=left_out,
    )
    # Make the copy writable for users who may only read the lake.
    for folder, _, _ in os.walk(copy.lake):
        Path(folder).chmod(0o700)
    for name in whole:
        if (home.lake / name).exists():
            (copy.lake / name).symlink_to((home.lake / name).resolve())


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _point(source: str, target: str) -> None:
    Path(target).symlink_to(Path(source).resolve())
