"""What stands in landing/usage: delivered files by day of delivery, and what does not belong there."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, Literal

from billing.cards import mask_card_numbers
from billing.home import Home

Format = Literal["json", "csv", "parquet", "unknown"]

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_FORMATS: Final[dict[str, Format]] = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}
COMPRESSIONS: Final = (".gz", ".zst", ".zstd", ".bz2", ".xz", ".lz4")
EXPECTED_ENDINGS: Final = ".jsonl, .ndjson, .json, .csv or .parquet, plain or followed by .gz, .zst, .bz2, .xz or .lz4"
_UNFINISHED: Final = (".tmp", ".part")


@dataclass(frozen=True, order=True)
class DeliveredFile:
    """A file of a delivery day, by its name there; `fault` says why it must not be opened, or nothing."""

    day: date
    name: str
    path: Path
    fault: str = ""

    @property
    def compression(self) -> str:
        """One of COMPRESSIONS or nothing, by the name's ending in any case: a hint, the first bytes decide."""
        ending = Path(self.name).suffix.lower()
        return ending if ending in COMPRESSIONS else ""

    @property
    def format(self) -> Format:
        """How the rows are written, by the name's ending in any case: a hint, the first bytes decide."""
        name = self.name.lower()
        return _FORMATS.get(Path(name.removesuffix(self.compression)).suffix, "unknown")


@dataclass(frozen=True)
class Landing:
    """The delivered files up to a day, sorted, and the names in landing/usage that are no delivery day."""

    files: tuple[DeliveredFile, ...]
    strays: tuple[str, ...]


def delivered_files(home: Home, through: date | None) -> Landing:
    """List landing/usage.

    Names that begin with "." or "_" or end in ".tmp" or ".part" are ignored: writers use them for what is not
    finished. Anything else directly in usage/ must be a folder named by a day, YYYY-MM-DD; what is not is listed as
    a stray. Anything else in a day's folder counts as a delivered file, even when it turns out to be unreadable: what
    is no regular file, or a link to what was not delivered, is never opened.
    """
    files: list[DeliveredFile] = []
    strays: list[str] = []
    usage = home.landing / "usage"
    for entry in _entries(usage):
        day = delivery_day(entry.name)
        if day is None or not _is(entry, "folder"):
            strays.append(readable_name(entry.name))
        elif through is None or day <= through:
            files += _named(day, entry, usage)
    return Landing(tuple(sorted(files)), tuple(sorted(strays)))


def _named(day: date, folder: "os.DirEntry[str]", usage: Path) -> Iterator[DeliveredFile]:
    """The files of a day; where two names differ in a card number only, the later one begins with 2~."""
    fault_of_folder = _fault_of_link(folder, usage)
    seen: Counter[str] = Counter()
    for entry in sorted(_entries(Path(folder.path)), key=lambda entry: entry.name):
        name = readable_name(entry.name)
        seen[name] += 1
        fault = fault_of_folder or _fault_of_link(entry, usage)
        if not fault and not _is(entry, "file"):
            # a pipe would be waited for, for ever
            fault = "is no file"
        yield DeliveredFile(day, name if seen[name] == 1 else f"{seen[name]}~{name}", Path(entry.path), fault)


def _fault_of_link(entry: "os.DirEntry[str]", usage: Path) -> str:
    """Why a link must not be followed: it leads to what does not stand in landing/usage, or to itself."""
    if not entry.is_symlink():
        return ""
    try:
        inside = Path(entry.path).resolve().is_relative_to(usage.resolve())
        Path(entry.path).stat()
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError):
        return "is a link that leads to itself"
    return "" if inside else "is a link that leads out of landing/usage, and was not followed"


def _is(entry: "os.DirEntry[str]", kind: Literal["file", "folder"]) -> bool:
    """Whether an entry is a regular file or a folder; a link that cannot be followed is neither."""
    try:
        return entry.is_file() if kind == "file" else entry.is_dir()
    except OSError:
        return False


def delivery_day(name: str) -> date | None:
    """The day a folder is named by, or None when it is none."""
    if not _DAY.fullmatch(name):
        return None
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None


def readable_name(name: str) -> str:
    """A file's name as text, bytes that are not UTF-8 written as escapes, card numbers masked (rule 11)."""
    return mask_card_numbers(os.fsencode(name).decode("utf-8", errors="backslashreplace"))


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [
            entry
            for entry in entries
            if not entry.name.startswith((".", "_")) and not entry.name.lower().endswith(_UNFINISHED)
        ]
