"""Homes in a store, around a command: check out what it needs, then upload the inputs that it wrote."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from assets.environment import register_url
from assets.homes import check_out
from billing.store.landing_copy import put_inputs
from billing.store.working_copy import working_copy
from billing.store.working_files import EVERYTHING, NOTHING, TABLES, Needs

if TYPE_CHECKING:
    from billing.reports.repair import Damage

_WRITE_INPUTS: Final = ("init", "move_in", "import_payments")
_NEEDS: Final[Mapping[str, Needs]] = {
    "init": NOTHING,
    "try_": NOTHING,
    "check": Needs(("lake/*", "lake/ingest/**", "lake/rejects/**")),
    "move_in": TABLES,
    "import_payments": TABLES,
    # What a page or a step reads is checked out when it is asked for.
    "ui": NOTHING,
    "worker": NOTHING,
}


@contextmanager
def checked_out(command: str, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Check out what a command needs of a home in a store; does nothing for a home that is a folder itself.

    Raises
    ------
    RefusedError
        When the store cannot be used, or the register is not on a server.
    """
    root: Path | None = arguments.get("home")
    if command == "init":
        root = arguments.get("directory") or root
    copy = None if root is None else working_copy(root)
    if root is None or copy is None:
        yield
        return
    copy.tolerates_loss = command == "repair"
    check_out(root, _needs(command, arguments))
    if command == "verify":
        copy.fetch_documents()
    yield
    if command in _WRITE_INPUTS:
        put_inputs(copy)


def repaired(root: Path) -> tuple[list["Damage"], list["Damage"], int]:
    """Repair a home; of one in a store also leave out lost documents, and delete objects of earlier states.

    Returns
    -------
    tuple
        As `billing.reports.repair.repair`, and how many objects were deleted.
    """
    from billing.reports.repair import repair
    from billing.store.home import Home
    from billing.store.lock import lock

    home, copy = Home(root), working_copy(root)
    if copy is None:
        with lock(home):
            return *repair(home), 0
    from billing.month.locking import alone
    from billing.register.register import Register

    with alone(home, Register.open(home, register_url())):
        copy.fetch_documents()
        removed, left = repair(home)
        copy.commit()
        return removed, left, copy.remove_old_objects()


def _needs(command: str, arguments: Mapping[str, Any]) -> Needs:
    # As of another day tables are computed: that reads everything.
    if command == "show" and arguments.get("as_of") is None and arguments.get("table") != "events":
        return TABLES
    return _NEEDS.get(command, EVERYTHING)
