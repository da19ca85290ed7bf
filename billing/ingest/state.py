"""What the lake holds of usage, and from what it was made.

The state is written last, so whatever it says has happened. It says nothing that cannot be found out again: when it
is missing, unreadable or of another version, everything is derived anew from landing and the parsed files.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Final

import polars as pl

from billing.ingest.landing import DeliveredFile
from billing.ingest.validation import Rules
from billing.model.file_limits import DEFAULT_LIMITS
from billing.store.files import write_bytes, write_file
from billing.store.home import Home

INGEST_VERSION: Final = 3
"""Raised whenever the same parsed files would give other tables: every day is then derived anew."""

_SETTLED_NANOSECONDS: Final = 2_000_000_000


@dataclass(frozen=True)
class FileState:
    """A delivered file as it was last ingested; `kept` when its rows came from an earlier parsed file."""

    sha256: str
    bytes: int
    rows: int = 0
    counted: int = 0
    duplicates: int = 0
    rejected: int = 0
    unreadable: str = ""
    kept: bool = False
    rounded: int = 0


@dataclass(frozen=True)
class DayState:
    """The delivered files of a day, and size and hash of every lake file made from them (path relative to lake/)."""

    files: Mapping[str, FileState]
    outputs: Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class State:
    """Everything known from the last complete ingest.

    Attributes
    ----------
    pending
        Days whose lake files may be half rewritten: they are derived anew whatever else the state says.
    stamps
        By "day/name": what the file system said of a delivered file when it was hashed.
    """

    configuration: str
    accounts: str
    pending: tuple[date, ...] = ()
    days: Mapping[date, DayState] = field(default_factory=dict)
    stamps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def state_path(home: Home) -> Path:
    """Where the state stands."""
    return home.lake / "ingest_state.json"


def read_state(home: Home) -> State | None:
    """The state, or None when there is none to rely on."""
    try:
        found = state_path(home).stat()
    except FileNotFoundError:
        return None
    return _read_state(state_path(home), found.st_ino, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4)
def _read_state(path: Path, *_: int) -> State | None:
    """The state in a file as it stands: a run asks for it dozens of times, and it is only ever replaced."""
    try:
        content = json.loads(path.read_bytes())
        if content["version"] != INGEST_VERSION:
            return None
        return State(
            configuration=content["configuration"],
            accounts=content["accounts"],
            pending=tuple(date.fromisoformat(day) for day in content["pending"]),
            days={
                date.fromisoformat(day): DayState(
                    files={name: FileState(**file) for name, file in found["files"].items()},
                    outputs={path: (size, digest) for path, (size, digest) in found["outputs"].items()},
                )
                for day, found in content["days"].items()
            },
            stamps={name: tuple(stamp) for name, stamp in content["stamps"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def write_state(home: Home, state: State) -> None:
    """Put the state in place of the last one."""
    content = {
        "version": INGEST_VERSION,
        "configuration": state.configuration,
        "accounts": state.accounts,
        "pending": [day.isoformat() for day in state.pending],
        "days": {
            day.isoformat(): {
                "files": {name: asdict(file) for name, file in sorted(found.files.items())},
                "outputs": dict(sorted(found.outputs.items())),
            }
            for day, found in sorted(state.days.items())
        },
        "stamps": dict(sorted(state.stamps.items())),
    }
    write_bytes(state_path(home), json.dumps(content, ensure_ascii=False, indent=1).encode())


def with_pending(state: State, days: frozenset[date]) -> State:
    """The state while the lake files of `days` are being rewritten."""
    return replace(state, pending=tuple(sorted(days | set(state.pending))))


def configuration_digest(rules: Rules) -> str:
    """A hash of all that rows are judged by and events are made with, the accounts aside."""
    metrics = [
        [metric.name, metric.event, metric.kind, metric.measure, metric.value, metric.carries, str(metric.unit_size)]
        for metric in rules.metrics
    ]
    limits = [] if rules.limits == DEFAULT_LIMITS else [rules.limits.key]
    plain = json.dumps([INGEST_VERSION, metrics, rules.time_zone, rules.lateness_days, *limits])
    return hashlib.sha256(plain.encode()).hexdigest()


def accounts_digest(accounts: pl.Series) -> str:
    """A hash of the account ids that rows are judged by."""
    return hashlib.sha256("\n".join(accounts.to_list()).encode()).hexdigest()


def write_accounts(home: Home, accounts: pl.Series) -> str:
    """Keep the account ids that rows are judged by; returns their hash, which names the file."""
    digest = accounts_digest(accounts)
    path = _accounts_path(home, digest)
    if not path.exists():
        write_file(path, lambda scratch: accounts.to_frame("account_id").write_parquet(scratch))
    return digest


def read_accounts(home: Home, digest: str) -> pl.Series | None:
    """The account ids kept under a hash, or None when they are gone."""
    path = _accounts_path(home, digest)
    return pl.read_parquet(path)["account_id"] if path.exists() else None


def remove_other_accounts(home: Home, digest: str) -> None:
    """Remove the account ids of earlier states."""
    for path in home.lake.glob("ingest_accounts.*.parquet"):
        if path != _accounts_path(home, digest):
            path.unlink(missing_ok=True)


def delivery_label(day: date, name: str) -> str:
    """A delivered file by its day and name, as it is told to people and as its stamp is kept."""
    return f"{day.isoformat()}/{name}"


def stamp(file: DeliveredFile) -> tuple[int, ...]:
    """What the file system says of a delivered file: it changes whenever the bytes do.

    Raises
    ------
    OSError
        When the file is not there.
    """
    found = file.path.stat()
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)


def settled_before(home: Home) -> int:
    """Stamps with a change time before this instant, by the file system's own clock, can be relied on.

    A file that was changed in the moment in which it was hashed might keep its stamp.
    """
    try:
        return state_path(home).stat().st_mtime_ns - _SETTLED_NANOSECONDS
    except OSError:
        return 0


def _accounts_path(home: Home, digest: str) -> Path:
    return home.lake / f"ingest_accounts.{digest[:16]}.parquet"
