"""Records of the runs that commands execute without Dagster: a file each, until it is replayed into Dagster.

Lines of JSON: what the run is, each operation that ended with what it yielded, and the end of the run. A file without
its end is of a command that is at work, and then holds the file's lock, or was killed. A power cut may cost the last
records, as it does Dagster's own; the business and the register do not need them.
"""

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from assets.declared import Checked, Link, Made, Markdown, Metadata, Place, Severity, Value
from pipeline.run_results import ErrorFound, as_plain

FOLDER: Final = "commands"
_VERSION: Final = 1
_SUFFIX: Final = ".jsonl"

Told = Made | Checked | str
"""What an operation tells: an asset that was made, a check, or a warning."""


@dataclass(frozen=True)
class RecordedStep:
    """An operation that ended.

    Attributes
    ----------
    words
        Why it failed, where it says so itself.
    error
        The error that ended it; None where it succeeded, or where a check that blocks did not hold.
    """

    name: str
    started: float
    ended: float
    told: tuple[Told, ...]
    words: str | None = None
    error: ErrorFound | None = None


@dataclass
class RecordedRun:
    """A run that a command has executed; `ended` is None where the command was killed."""

    run_id: str
    job: str
    partition: str | None
    tags: Mapping[str, str]
    config: Mapping[str, Any]
    started: float
    steps: dict[str, RecordedStep] = field(default_factory=dict)
    ended: float | None = None


class Recorder:
    """Writes the record of a run while it is at work."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def step(self, step: RecordedStep) -> None:
        """An operation has ended."""
        error = None if step.error is None else as_plain(step.error)
        told = [_plain_told(each) for each in step.told]
        times = {"started": step.started, "ended": step.ended}
        self._write({"step": step.name, **times, "told": told, "words": step.words, "error": error})

    def end(self) -> None:
        """The run has ended."""
        self._write({"end": time.time()})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()


@contextmanager
def recording(folder: Path, run: RecordedRun) -> Iterator[Recorder]:
    """Record a run in a folder of records; only a kill leaves it without its end."""
    folder.mkdir(parents=True, exist_ok=True)
    # Names sort by time: runs are replayed in their order.
    path = folder / f"{int(run.started * 1_000_000):020d}-{run.run_id}{_SUFFIX}"
    with path.open("x", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        recorder = Recorder(file)
        recorder._write(
            {
                "version": _VERSION,
                "run_id": run.run_id,
                "job": run.job,
                "partition": run.partition,
                "tags": dict(run.tags),
                "config": run.config,
                "started": run.started,
            }
        )
        yield recorder
        recorder.end()


def records_in(folder: Path) -> list[Path]:
    """The records in a folder, the oldest first."""
    return sorted(folder.glob(f"*{_SUFFIX}")) if folder.is_dir() else []


@contextmanager
def taken(path: Path) -> Iterator[RecordedRun | None]:
    """A record, under its lock; None while its command is at work, or where there is nothing to be read.

    What is not the record of a run, because a power cut took its first line, is removed.
    """
    try:
        file = path.open(encoding="utf-8")
    except FileNotFoundError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        run = _read(file)
        if run is None:
            path.unlink(missing_ok=True)
        yield run


def _read(file: IO[str]) -> RecordedRun | None:
    run: RecordedRun | None = None
    for line in file:
        try:
            found = json.loads(line)
        except ValueError:
            # Cut off: nothing follows it.
            break
        if run is None:
            if not isinstance(found, dict) or found.get("version") != _VERSION:
                return None
            names = ("run_id", "job", "partition", "tags", "config", "started")
            run = RecordedRun(**{name: found[name] for name in names})
        elif "step" in found:
            told = tuple(_told(each) for each in found["told"])
            error = _error(found["error"])
            step = RecordedStep(found["step"], found["started"], found["ended"], told, found["words"], error)
            run.steps[step.name] = step
        elif "end" in found:
            run.ended = found["end"]
    return run


def _error(found: Mapping[str, Any] | None) -> ErrorFound | None:
    return None if found is None else ErrorFound(found["name"], found["message"], _error(found["cause"]))


def _plain_told(told: Told) -> dict[str, Any]:
    match told:
        case str():
            return {"warning": told}
        case Made():
            return {"made": told.asset, "metadata": _plain_metadata(told.metadata)}
        case Checked():
            return {
                "checked": told.name,
                "asset": told.asset,
                "passed": told.passed,
                "severity": told.severity.value,
                "metadata": _plain_metadata(told.metadata),
            }


def _told(found: Mapping[str, Any]) -> Told:
    if "warning" in found:
        return str(found["warning"])
    metadata = {name: _value(value) for name, value in found["metadata"].items()}
    if "checked" in found:
        severity = Severity(found["severity"])
        return Checked(found["checked"], found["passed"], metadata, severity, found["asset"])
    return Made(metadata, found["made"])


def _plain_metadata(metadata: Metadata) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in metadata.items()}


def _plain_value(value: Value) -> object:
    match value:
        case Markdown():
            return {"markdown": value.text}
        case Link():
            return {"link": value.url}
        case Place():
            return {"place": value.path}
    return value


def _value(found: Any) -> Value:
    if not isinstance(found, dict):
        return found  # type: ignore[no-any-return] # as it was written
    ((kind, text),) = found.items()
    kinds: dict[str, Callable[[str], Value]] = {"markdown": Markdown, "link": Link, "place": Place}
    return kinds[kind](text)
