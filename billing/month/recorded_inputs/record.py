"""The format of recorded inputs: a JSON file with inputs and outputs by name."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from billing.store.files import unsynced_if_new, write_bytes
from billing.store.home import Home


@dataclass(frozen=True)
class Record:
    """Inputs and outputs of one computation.

    Attributes
    ----------
    inputs
        A hash or a plain value by the name of each input.
    outputs
        The hash of what was made, by its name.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str] = field(default_factory=dict)

    def moved(self, current: Mapping[str, str]) -> list[str]:
        """The names of the inputs that have changed, sorted."""
        return sorted(name for name in {*self.inputs, *current} if self.inputs.get(name) != current.get(name))


def month_record(home: Home, month: str, what: str) -> Path:
    """The file that records the inputs of something in a month, or in a shard of it."""
    return home.lake / "fingerprints" / f"billing_month={month}" / f"{home.part_name(what)}.json"


def read_record(path: Path, *, may_be_lost: bool = False) -> Record | None:
    """What is recorded; None where nothing is, or where the file holds no record.

    Parameters
    ----------
    may_be_lost
        As of `write_record`: a power cut may leave an empty file, or zeros from some block on.

    Raises
    ------
    ValueError
        When the file is damaged: `overage repair` takes it away.
    """
    try:
        found = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if may_be_lost and (not found or b"\0" in found):
        return None
    content = json.loads(found)
    if not isinstance(content, dict):
        return None
    inputs = content.get("inputs")
    # Versions before 0.3 wrote the inputs alone.
    if not isinstance(inputs, dict):
        return Record({name.replace("_", " "): str(value) for name, value in content.items()})
    return Record(inputs, content.get("outputs", {}))


def write_record(path: Path, record: Record, *, may_be_lost: bool = False) -> None:
    """Write a record, replacing the previous one.

    Parameters
    ----------
    may_be_lost
        Do not sync a record that replaces none: without it the computation is repeated. Never lose one that replaces
        another: that would stand for a later table.
    """
    content: dict[str, Mapping[str, str]] = {"inputs": record.inputs}
    if record.outputs:
        content["outputs"] = record.outputs
    with unsynced_if_new(path) if may_be_lost else nullcontext():
        write_bytes(path, (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())
