"""Ingest state: what the lake holds of usage, and the inputs it was made from.

Written last, so everything it records has happened. It is a cache: when it is missing, unreadable or of another
version, everything is recomputed from landing and the parsed files.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Final

import polars as pl

from billing.ingest.landing import DeliveredFile
from billing.ingest.validation import Rules
from billing.model.file_limits import DEFAULT_LIMITS
from billing.model.sources import ALIASES
from billing.store.files import write_bytes, write_file
from billing.store.home import Home

INGEST_VERSION: Final = 3
"""Raise it when the same parsed files would give other tables: every day is then recomputed."""

_SETTLED_NANOSECONDS: Final = 2_000_000_000
_OFTEN_NOTHING: Final = ("ignored", "source", "source_name", "first_time", "last_time")


@dataclass(frozen=True)
class FileState:
    """A delivered file as last ingested; `kept` when its rows came from an earlier parsed file.

    `source` is the digest of the source that it is read by, empty where none is. The times are nanoseconds since 1970.
    """

    sha256: str
    bytes: int
    rows: int = 0
    counted: int = 0
    duplicates: int = 0
    rejected: int = 0
    unreadable: str = ""
    kept: bool = False
    rounded: int = 0
    ignored: int = 0
    source: str = ""
    source_name: str = ""
    first_time: int | None = None
    last_time: int | None = None


@dataclass(frozen=True)
class DayState:
    """Delivered files of a day, and size and hash of every lake file made from them (path relative to lake/)."""

    files: Mapping[str, FileState]
    outputs: Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class State:
    """State of the last complete ingest.

    Attributes
    ----------
    pending
        Days whose lake files may be partly rewritten: recompute them in any case.
    stamps
        By "day/name": the file system metadata of a delivered file when it was hashed.
    aliases
        Hash of the aliases that accounts were looked up with.
    """

    configuration: str
    accounts: str
    pending: tuple[date, ...] = ()
    days: Mapping[date, DayState] = field(default_factory=dict)
    stamps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    aliases: str = ""


def state_path(home: Home) -> Path:
    """Path of the state file."""
    return home.lake / "ingest_state.json"


def read_state(home: Home) -> State | None:
    """The state, or None when there is no usable one."""
    try:
        found = state_path(home).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _read_state(state_path(home), found.st_ino, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4)
def _read_state(path: Path, *_: int) -> State | None:
    """Parse the state file, cached by its stamp: a run reads it dozens of times, and it is only ever replaced."""
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
            aliases=content.get("aliases", ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def write_state(home: Home, state: State) -> None:
    """Replace the state file atomically."""
    content = {
        "version": INGEST_VERSION,
        "configuration": state.configuration,
        "accounts": state.accounts,
        "pending": [day.isoformat() for day in state.pending],
        "days": {
            day.isoformat(): {
                "files": {name: _plain(file) for name, file in sorted(found.files.items())},
                "outputs": dict(sorted(found.outputs.items())),
            }
            for day, found in sorted(state.days.items())
        },
        "stamps": dict(sorted(state.stamps.items())),
        **({"aliases": state.aliases} if state.aliases else {}),
    }
    # Do not indent: Python's own encoder takes 0.40 instead of 0.13 CPU seconds for 30,000 files.
    write_bytes(state_path(home), json.dumps(content, ensure_ascii=False).encode())


def _plain(file: FileState) -> dict[str, object]:
    """A file for the state file, without what most files do not have."""
    return {name: value for name, value in vars(file).items() if value or name not in _OFTEN_NOTHING}


def with_pending(state: State, days: frozenset[date]) -> State:
    """The state with `days` marked as pending, while their lake files are rewritten."""
    return replace(state, pending=tuple(sorted(days | set(state.pending))))


def configuration_digest(rules: Rules) -> str:
    """Fingerprint of the configuration that rows are validated with and events are made with, without the accounts."""
    metrics = [
        [
            *(metric.name, metric.event, metric.kind, metric.measure, metric.value, metric.carries),
            *(str(metric.unit_size), *([metric.by] if metric.by else [])),
        ]
        for metric in rules.metrics
    ]
    limits = [] if rules.limits == DEFAULT_LIMITS else [rules.limits.key]
    plain = json.dumps([INGEST_VERSION, metrics, rules.time_zone, rules.lateness_days, *limits])
    return hashlib.sha256(plain.encode()).hexdigest()


def accounts_digest(accounts: pl.Series) -> str:
    """Fingerprint of the account ids that rows are validated with."""
    return hashlib.sha256("\n".join(accounts.to_list()).encode()).hexdigest()


def write_accounts(home: Home, accounts: pl.Series) -> str:
    """Store the account ids that rows are validated with; returns their hash, which names the file."""
    digest = accounts_digest(accounts)
    path = accounts_path(home, digest)
    if not path.exists():
        # Where they are missing, all days are written again.
        named = accounts.to_frame("account_id")
        write_file(path, lambda scratch: named.write_parquet(scratch), may_be_missing=True)
    return digest


def read_accounts(home: Home, digest: str) -> pl.Series | None:
    """The account ids stored under a hash, or None when they are missing."""
    path = accounts_path(home, digest)
    return pl.read_parquet(path)["account_id"] if path.exists() else None


def remove_other_accounts(home: Home, digest: str) -> None:
    """Remove the account ids of earlier states."""
    for path in home.lake.glob("ingest_accounts.*.parquet"):
        if path != accounts_path(home, digest):
            path.unlink(missing_ok=True)


def aliases_digest(aliases: pl.DataFrame) -> str:
    """Fingerprint of the aliases that accounts are looked up with; empty when there are none."""
    return hashlib.sha256(aliases.write_json().encode()).hexdigest() if len(aliases) else ""


def write_aliases(home: Home, aliases: pl.DataFrame) -> str:
    """Store the aliases that accounts are looked up with; returns their hash, which names the file."""
    digest = aliases_digest(aliases)
    path = _aliases_path(home, digest)
    if digest and not path.exists():
        write_file(path, lambda scratch: aliases.write_parquet(scratch))
    return digest


def read_aliases(home: Home, digest: str) -> pl.DataFrame | None:
    """The aliases stored under a hash, or None when they are missing."""
    if not digest:
        return ALIASES.empty()
    path = _aliases_path(home, digest)
    return pl.read_parquet(path) if path.exists() else None


def remove_other_aliases(home: Home, digest: str) -> None:
    """Remove the aliases of earlier states."""
    for path in home.lake.glob("ingest_aliases.*.parquet"):
        if path != _aliases_path(home, digest):
            path.unlink(missing_ok=True)


def _aliases_path(home: Home, digest: str) -> Path:
    return home.lake / f"ingest_aliases.{digest[:16]}.parquet"


def delivery_label(day: date, name: str) -> str:
    """Label of a delivered file, day/name: used in messages and as the key of its stamp."""
    return f"{day.isoformat()}/{name}"


def stamp(file: DeliveredFile) -> tuple[int, ...]:
    """Metadata of a delivered file; changes whenever the bytes do. Of a home in a store, the same on any machine.

    Raises
    ------
    OSError
        When the file does not exist.
    """
    if file.remote is not None:
        return file.remote.stamp
    found = file.place.stat()
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)


def settled_before(home: Home) -> int:
    """Change time before which stamps are reliable, by the clock of the file system.

    A file that changes in the moment it is hashed might keep its stamp.
    """
    try:
        return state_path(home).stat().st_mtime_ns - _SETTLED_NANOSECONDS
    except OSError:
        return 0


def accounts_path(home: Home, digest: str) -> Path:
    """Path of the account ids with a hash."""
    return home.lake / f"ingest_accounts.{digest[:16]}.parquet"
