"""The as-of day of the last run: what is shown holds as of that day."""

import json
from datetime import date
from pathlib import Path

from billing.home import Home, write_bytes


def last_as_of(root: Path) -> date | None:
    """The as-of day of the last run; None before the first."""
    try:
        return date.fromisoformat(json.loads(_path(root).read_text())["as_of"])
    except (OSError, ValueError, KeyError):
        return None


def record_as_of(root: Path, as_of: date) -> None:
    """Remember the as-of day of this run."""
    write_bytes(_path(root), (json.dumps({"as_of": as_of.isoformat()}) + "\n").encode())


def _path(root: Path) -> Path:
    return Home(root).lake / "last_run.json"
