"""What workers noticed while they drew a block of a month's documents: files of the home, until they are read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from billing.store.files import write_bytes
from billing.store.home import Home


def note_block(home: Home, month: str, block: int, found: Mapping[str, Any]) -> None:
    """Keep what was noticed of a block."""
    write_bytes(_notes(home, month) / f"{block}.json", json.dumps(found, sort_keys=True).encode())


def notes_of_blocks(home: Home, month: str) -> list[dict[str, Any]]:
    """What the workers noticed of the files that they drew; forgotten once it is read."""
    found = []
    for path in sorted(_notes(home, month).glob("*.json")):
        found.append(json.loads(path.read_bytes()))
        path.unlink()
    return found


def _notes(home: Home, month: str) -> Path:
    return home.lake / "plans" / f"billing_month={month}" / "drawn"
