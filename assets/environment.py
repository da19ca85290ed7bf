"""Environment variables: the only module that reads them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from billing.model.errors import RefusedError
from billing.store.object_store import is_url
from billing.store.working_copy import make_working_copy, name_of


def variables() -> Mapping[str, str]:
    """All variables, for callers that read several: notices and the UI."""
    return os.environ


def home_folder() -> Path:
    """Folder of the billing home: $OVERAGE_HOME, else ./data; see `local_home`."""
    return local_home(os.environ.get("OVERAGE_HOME") or "data")


def local_home(name: str) -> Path:
    """Folder of a home: itself, or the working copy of a URL, below $OVERAGE_WORK or the user's cache.

    Raises
    ------
    RefusedError
        When the URL is invalid, or the working copy cannot be written.
    """
    return make_working_copy(name, work_folder()) if is_url(name) else Path(name)


def work_folder() -> Path:
    """Folder of the working copies of homes in a store: $OVERAGE_WORK, else one in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(os.environ.get("OVERAGE_WORK") or Path(cache) / "overage")


def use_home(home: Path) -> None:
    """Set $OVERAGE_HOME for this process and its children."""
    os.environ["OVERAGE_HOME"] = name_of(home)


def register_url() -> str | None:
    """URL of the register: $OVERAGE_REGISTER_URL; None means the SQLite file in the home."""
    return os.environ.get("OVERAGE_REGISTER_URL") or None


def smtp_url() -> str | None:
    """URL of the mail server that documents and notices are sent through: $OVERAGE_SMTP_URL; it may hold a password."""
    return os.environ.get("OVERAGE_SMTP_URL") or None


def months_ahead() -> int | None:
    """Future months that the UI's calendars show: $OVERAGE_MONTHS_AHEAD; None means all."""
    asked = os.environ.get("OVERAGE_MONTHS_AHEAD", "")
    return int(asked) if asked.isdecimal() else None


def shards() -> int | None:
    """Into how many shards of accounts a new month is divided: $OVERAGE_SHARDS; None means by the number of accounts.

    Raises
    ------
    RefusedError
        When it is no number from 1 to 1024.
    """
    asked = os.environ.get("OVERAGE_SHARDS", "")
    if not asked:
        return None
    # Import late: it loads Polars, which the command line does without.
    from billing.model.buckets import BUCKETS

    if not (asked.isascii() and asked.isdecimal() and 1 <= int(asked) <= BUCKETS):
        raise RefusedError(f"OVERAGE_SHARDS: found {asked!r}, expected a whole number from 1 to {BUCKETS}")
    return int(asked)


def executor_name() -> str:
    """Name of the step executor: $OVERAGE_EXECUTOR, else processes on this machine."""
    return os.environ.get("OVERAGE_EXECUTOR", "multiprocess")


def executes_elsewhere() -> bool:
    """Whether steps are executed on other machines: the graph then has steps that are spread over them."""
    return executor_name() in ("celery", "k8s")


def broker_url() -> str | None:
    """Address of the message broker of Celery: $OVERAGE_BROKER_URL."""
    return os.environ.get("OVERAGE_BROKER_URL") or None


def code_location() -> str:
    """Name of the code location that Dagster's daemon knows: $OVERAGE_CODE_LOCATION, else that of the module."""
    return os.environ.get("OVERAGE_CODE_LOCATION") or "pipeline.definitions"


def code_image() -> str | None:
    """Image of the container that this code is in: $DAGSTER_CURRENT_IMAGE, which Dagster's Helm chart sets."""
    return os.environ.get("DAGSTER_CURRENT_IMAGE") or None


def container_context() -> Mapping[str, Any]:
    """What the pod of this code has: $DAGSTER_CONTAINER_CONTEXT, which Dagster's Helm chart sets, as for its server."""
    found: Mapping[str, Any] = json.loads(os.environ.get("DAGSTER_CONTAINER_CONTEXT") or "{}")
    return found


def accounts_per_shard() -> int:
    """Accounts that one shard may have: $OVERAGE_ACCOUNTS_PER_SHARD, else 250,000; memory is asked for them."""
    asked = os.environ.get("OVERAGE_ACCOUNTS_PER_SHARD", "")
    return int(asked) if asked.isdecimal() and int(asked) else 250_000


def dagster_home() -> Path | None:
    """Folder of the user's own Dagster instance: $DAGSTER_HOME."""
    folder = os.environ.get("DAGSTER_HOME")
    return Path(folder) if folder else None


def use_dagster_home(folder: Path) -> None:
    """Set $DAGSTER_HOME for this process and its children."""
    os.environ["DAGSTER_HOME"] = str(folder)


def set_default(name: str, value: str) -> None:
    """Set a variable for this process and its children, unless it is already set."""
    os.environ.setdefault(name, value)
