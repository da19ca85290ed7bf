"""Homes in a store: their working copy is checked out before anything reads it."""

import threading
import time
from pathlib import Path
from typing import Final

from assets.environment import home_folder, register_url
from billing.model.errors import InterruptedRunError, RefusedError
from billing.store.landing_copy import LANDING, check_out_landing
from billing.store.object_store import StoreError
from billing.store.working_copy import working_copy
from billing.store.working_files import Needs

PATIENCE_SECONDS: Final = 3_600
"""Seconds that a run waits for another one to end."""

_one_thread: Final = threading.Lock()
_WAIT_SECONDS: Final = 0.2


def checked_out_home(needs: Needs | None = None) -> Path:
    """As `home_folder`, brought up to date; `needs` as of `check_out`."""
    root = home_folder()
    check_out(root, needs)
    return root


def check_out(root: Path, needs: Needs | None = None, *, landing: bool = True, patience: float = 60) -> None:
    """Bring the working copy of a home up to date; does nothing for a home that is a folder itself.

    While a run of this process or another is at work in the working copy, it stays as the run has it.

    Parameters
    ----------
    needs
        Files to bring; None: those that `WorkingCopy.needs` has.
    landing
        List the inputs, too.
    patience
        Seconds to wait for a run that is at work in the working copy and does not need as much.

    Raises
    ------
    RefusedError
        When the store cannot be used, or the register is not on a server.
    """
    copy = working_copy(root)
    if copy is None or copy.is_held:
        return
    refuse_register_in_home(copy.url)
    # Import late: they load Polars, which the command line does without.
    from billing.store.home import Home
    from billing.store.lock import CHECKING_OUT, BusyError, lock

    needs = copy.needs if needs is None else needs
    deadline = time.monotonic() + patience
    while True:
        try:
            # The lock is of the process: keep its threads apart, too.
            with _one_thread, lock(Home(root), holder=CHECKING_OUT):
                if landing:
                    check_out_landing(copy)
                copy.check_out(needs)
            return
        except BusyError as error:
            # Another process is at work here: use what it has checked out.
            if copy.holds(needs):
                return
            if time.monotonic() >= deadline:
                raise RefusedError(
                    f"{root}: a run is at work in this working copy of {copy.url}, and has not checked out all that is "
                    "needed here: wait for it to end, or set OVERAGE_WORK to another folder"
                ) from error
            time.sleep(_WAIT_SECONDS)
        except StoreError as error:
            raise RefusedError(str(error)) from error


def check_out_first(root: Path) -> None:
    """Check out what the calendars read, where nothing of a home is here yet.

    A store that cannot be used is reported by what reads it next.
    """
    copy = working_copy(root)
    if copy is not None and not (root / LANDING).is_dir():
        try:
            check_out(root, Needs(("lake/fingerprints/**",)))
        except (RefusedError, InterruptedRunError):
            return


def refuse_register_in_home(url: str) -> None:
    """Refuse a home in a store without a register on a server.

    Raises
    ------
    RefusedError
        Unless $OVERAGE_REGISTER_URL is one of PostgreSQL.
    """
    register = register_url()
    if register is None or not register.startswith("postgresql"):
        found = "no OVERAGE_REGISTER_URL" if register is None else "an OVERAGE_REGISTER_URL of another database"
        raise RefusedError(
            f"{url}: found {found}: a home in a store needs its register on a PostgreSQL server, expected "
            "OVERAGE_REGISTER_URL=postgresql+psycopg://user@host/name"
        )
