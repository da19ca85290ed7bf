"""The as-of day of the last run: what is shown holds as of that day."""

import json
from datetime import date
from pathlib import Path

from billing.store.files import write_bytes
from billing.store.home import Home


def last_as_of(root: Path) -> date | None:
    """The as-of day of the last run; None before the first."""
    try:
        return date.fromisoformat(json.loads(_path(root).read_text())["as_of"])
    except (OSError, ValueError, KeyError):
        return None


def record_run(root: Path, as_of: date, built_from: str) -> None:
    """Remember the as-of day of this run, and what its profiles were built from."""
    content = {"as_of": as_of.isoformat(), "profiles_built_from": built_from}
    write_bytes(_path(root), (json.dumps(content, indent=1) + "\n").encode())


def profiles_built_from(root: Path) -> str | None:
    """What the profiles of the last run were built from; None before the first."""
    try:
        return str(json.loads(_path(root).read_text())["profiles_built_from"])
    except (OSError, ValueError, KeyError):
        return None


def _path(root: Path) -> Path:
    return Home(root).lake / "last_run.json"
