"""The last run: as of which day it was, and from what its profiles were made. What is shown holds as of that day."""

from datetime import date
from pathlib import Path

from billing.month.recorded_inputs.record import Record, read_record, write_record
from billing.store.home import Home


def last_as_of(root: Path) -> date | None:
    """The as-of day of the last run; None before the first."""
    record = read_record(_path(root))
    try:
        return date.fromisoformat(record.inputs["as of"]) if record else None
    except (ValueError, KeyError):
        return None


def record_run(root: Path, as_of: date, profiles: str) -> None:
    """Record the as-of day of this run, and what its profiles were made from."""
    write_record(_path(root), Record({"as of": as_of.isoformat(), "profiles built from": profiles}))


def profiles_built_from(root: Path) -> str | None:
    """What the profiles of the last run were made from; None before the first."""
    record = read_record(_path(root))
    return record.inputs.get("profiles built from") if record else None


def _path(root: Path) -> Path:
    return Home(root).lake / "last_run.json"
