"""The last run: its as-of day, and the inputs of its profiles. Tables are shown as of that day."""

from datetime import date
from pathlib import Path

from billing.month.recorded_inputs.record import Record, read_record, write_record
from billing.store.home import Home


def last_as_of(root: Path) -> date | None:
    """The as-of day of the last run; None before the first."""
    try:
        record = read_record(_path(root))
        return date.fromisoformat(record.inputs["as of"]) if record else None
    except (ValueError, KeyError):
        return None


def record_run(root: Path, as_of: date, profiles: str) -> None:
    """Record the as-of day of this run, and the inputs of its profiles."""
    record = Record({"as of": as_of.isoformat(), "profiles built from": profiles})
    write_record(_path(root), record, may_be_lost=True)


def profiles_built_from(root: Path) -> str | None:
    """The inputs of the profiles of the last run; None before the first."""
    try:
        record = read_record(_path(root))
    except ValueError:
        return None
    return record.inputs.get("profiles built from") if record else None


def _path(root: Path) -> Path:
    return Home(root).lake / "last_run.json"
