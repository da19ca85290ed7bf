"""Listing of landing/usage: delivered files by delivery day, and stray paths."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from operator import attrgetter
from pathlib import Path
from typing import Final, Literal

from billing.model.card_numbers import mask_card_numbers
from billing.model.tables import INGEST
from billing.store.frames import read_frame
from billing.store.home import Home
from billing.store.landing_copy import RemoteFile, remote_usage

Format = Literal["json", "csv", "parquet", "unknown"]

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_YEAR: Final = re.compile(r"\d{4}", re.ASCII)
_TWO_DIGITS: Final = re.compile(r"\d{2}", re.ASCII)
_HIVE: Final = "day="
_FIRST_DAY, _LAST_DAY = date(1970, 1, 1), date(2099, 12, 31)
_FORMATS: Final[dict[str, Format]] = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}
COMPRESSIONS: Final = (".gz", ".zst", ".zstd", ".bz2", ".xz", ".lz4")
EXPECTED_DAYS: Final = "folders named YYYY-MM-DD, day=YYYY-MM-DD or YYYY/MM/DD, from 1970 to 2099"
_UNFINISHED: Final = (".tmp", ".part", ".crdownload", ".filepart", ".inprogress")
_CHECKSUMS: Final = (".md5", ".crc", ".sha1", ".sha256", ".sha512")
_OF_THE_SYSTEM: Final = ("thumbs.db", "desktop.ini", "lost+found")
# A manifest lists delivered files; .csv, .jsonl and .parquet hold rows, whatever their name.
_MANIFEST: Final = re.compile(r"(.*[-_.])?manifest(\.json|\.txt|\.xml|\.checksum)?(\.gz)?")


@dataclass(frozen=True, order=True)
class DeliveredFile:
    """A file of a delivery day, by its name there.

    Attributes
    ----------
    place
        Where it is listed: of a home in a store an empty file. Open `path` instead.
    fault
        The reason not to open it, or empty.
    remote
        The object of a home in a store.
    """

    day: date
    name: str
    place: Path
    fault: str = ""
    remote: RemoteFile | None = field(default=None, compare=False)

    @property
    def path(self) -> Path:
        """Path of its bytes, which are downloaded on first use from a home in a store."""
        return self.place if self.remote is None else self.remote.fetched()

    @property
    def compression(self) -> str:
        """One of COMPRESSIONS or empty, by the file extension in any case: a hint, the first bytes decide."""
        ending = Path(self.name).suffix.lower()
        return ending if ending in COMPRESSIONS else ""

    @property
    def format(self) -> Format:
        """Format of the rows, by the file extension in any case: a hint, the first bytes decide."""
        name = self.name.lower()
        return _FORMATS.get(Path(name.removesuffix(self.compression)).suffix, "unknown")


@dataclass(frozen=True)
class Landing:
    """Delivered files up to a day, and stray paths below usage/ that are no delivery day (`folder/`, or a file)."""

    files: tuple[DeliveredFile, ...]
    strays: tuple[str, ...]


@dataclass(frozen=True)
class _DayFolder:
    """A folder of a delivery day; `name` is its path below usage/, `is_plain` whether it is named YYYY-MM-DD."""

    day: date
    name: str
    path: str
    is_plain: bool
    fault: str


_LINK_OUT: Final = "is a link that leads out of landing/usage, and was not followed"


def delivered_files(home: Home, through: date | None) -> Landing:
    """List landing/usage.

    A delivery day is a folder YYYY-MM-DD, day=YYYY-MM-DD or YYYY/MM/DD. Every file in it, or in a folder inside it, is
    a delivered file, named by its path below the day's folder, even if it turns out to be unreadable. Never open what
    is no regular file, or a link out of landing/usage. Any other path in usage/ is a stray. Ignored names
    (`is_left_alone`) are neither.

    If two folders of a day hold the same name, the folder YYYY-MM-DD goes first, and the name of the other file begins
    with the path of its folder.
    """
    usage = home.landing / "usage"
    folders, strays = _day_folders(usage)
    by_day: dict[date, list[_DayFolder]] = {}
    for folder in folders:
        if through is None or folder.day <= through:
            by_day.setdefault(folder.day, []).append(folder)
    files: list[DeliveredFile] = []
    remote = remote_usage(home.landing) or {}
    for day, found in by_day.items():
        of_day = _files_of_day(home, day, sorted(found, key=lambda each: (not each.is_plain, each.name)), usage)
        files += (replace(file, remote=remote.get(_below(file, usage))) for file in of_day) if remote else of_day
    # Sort by key: comparing whole dataclasses takes ten times as long.
    return Landing(tuple(sorted(files, key=attrgetter("day", "name"))), tuple(sorted(strays)))


def _below(file: DeliveredFile, usage: Path) -> str:
    """Path of a file below landing/usage."""
    return str(file.place)[len(str(usage)) + 1 :]


def delivery_days(home: Home) -> list[date]:
    """Days with a folder in landing/usage, sorted; does not list the folders of the days."""
    return sorted({folder.day for folder in _day_folders(home.landing / "usage")[0]})


def is_left_alone(name: str) -> bool:
    """Whether to ignore a name: hidden, unfinished, a checksum, a manifest or the operating system's."""
    lower = name.lower()
    return (
        name.startswith((".", "_"))
        or lower.endswith((*_UNFINISHED, *_CHECKSUMS))
        or lower in _OF_THE_SYSTEM
        or ("manifest" in lower and _MANIFEST.fullmatch(lower) is not None)
    )


def _day_folders(usage: Path) -> tuple[list[_DayFolder], list[str]]:
    """Folders of delivery days, and stray names below usage/."""
    folders: list[_DayFolder] = []
    strays: list[str] = []
    for entry in _entries(str(usage)):
        day = delivery_day(entry.name.removeprefix(_HIVE))
        if day is not None and _is_folder(entry):
            folders.append(_day_folder(day, entry, entry.name, usage))
        elif _YEAR.fullmatch(entry.name) and _is_folder(entry) and not entry.is_symlink():
            try:
                _add_days_of_year(entry, usage, folders, strays)
            except OSError:
                strays.append(f"{entry.name}/")
        else:
            strays.append(_path_below(entry, entry.name))
    return folders, strays


def _add_days_of_year(year: "os.DirEntry[str]", usage: Path, folders: list[_DayFolder], strays: list[str]) -> None:
    """Add the delivery days of a folder YYYY, laid out as YYYY/MM/DD, and the strays in it.

    Raises
    ------
    OSError
        When a folder cannot be read.
    """
    for month in _entries(year.path):
        if not _TWO_DIGITS.fullmatch(month.name) or not _is_folder(month) or month.is_symlink():
            strays.append(_path_below(month, f"{year.name}/{month.name}"))
            continue
        for entry in _entries(month.path):
            name = f"{year.name}/{month.name}/{entry.name}"
            day = delivery_day(name.replace("/", "-"))
            if day is not None and _is_folder(entry):
                folders.append(_day_folder(day, entry, name, usage))
            else:
                strays.append(_path_below(entry, name))


def _path_below(entry: "os.DirEntry[str]", name: str) -> str:
    return readable_name(name) + ("/" if _is_folder(entry) and not entry.is_symlink() else "")


def _day_folder(day: date, entry: "os.DirEntry[str]", name: str, usage: Path) -> _DayFolder:
    fault = _LINK_OUT if _leads_out(entry, usage) else ""
    return _DayFolder(day, name, entry.path, _DAY.fullmatch(name) is not None, fault)


def _files_of_day(home: Home, day: date, folders: list[_DayFolder], usage: Path) -> Iterator[DeliveredFile]:
    """Files of a day; of names that differ only in a masked card number, later ones begin with 2~, 3~ and so on."""
    taken: set[str] = set()
    seen: Counter[str] = Counter()
    for folder in folders:
        # Names are stable: keep an assigned name even if the file with the shorter one is gone.
        prefixed = set() if folder.is_plain else _prefixed_names(home, day, folder)
        for below, path, fault in sorted(_files_below(folder, usage)):
            name = readable_name(below)
            whole = readable_name(f"{folder.name}/{below}")
            if not folder.is_plain and (name in taken or whole in prefixed):
                name = whole
            seen[name] += 1
            if seen[name] > 1:
                name = f"{seen[name]}~{name}"
            yield DeliveredFile(day, name, Path(path), fault)
        taken = set(seen)


def _prefixed_names(home: Home, day: date, folder: _DayFolder) -> set[str]:
    """Ingested names of a day that begin with the path of a folder."""
    names = read_frame(home.delivery(INGEST, day), INGEST, ["file"])["file"]
    return set(names.filter(names.str.starts_with(readable_name(folder.name) + "/")))


def _files_below(folder: _DayFolder, usage: Path) -> Iterator[tuple[str, str, str]]:
    """For every file below a folder of a day: its name relative to the folder, its path, and its fault."""
    waiting = [("", folder.path)]
    while waiting:
        prefix, path = waiting.pop()
        try:
            entries = _entries(path)
        except OSError as error:
            yield prefix.removesuffix("/") or folder.name, path, f"cannot be read ({error.strerror})"
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append((f"{prefix}{entry.name}/", entry.path))
            else:
                yield f"{prefix}{entry.name}", entry.path, folder.fault or _fault(entry, usage)


def _fault(entry: "os.DirEntry[str]", usage: Path) -> str:
    """The reason not to open an entry that is no folder, or empty."""
    if _leads_out(entry, usage):
        return _LINK_OUT
    if entry.is_symlink() and _is_folder(entry):
        return "is a link to a folder, and was not followed"
    try:
        # Never open a pipe: the read would block forever.
        return "" if entry.is_file() else "is no file"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _leads_out(entry: "os.DirEntry[str]", usage: Path) -> bool:
    """Whether an entry is a link to a target outside landing/usage."""
    if not entry.is_symlink():
        return False
    try:
        return not Path(entry.path).resolve().is_relative_to(usage.resolve())
    except (OSError, RuntimeError):
        # A link to itself has no target.
        return False


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def delivery_day(name: str) -> date | None:
    """The day that names a folder, YYYY-MM-DD from 1970 to 2099; None for any other name."""
    if not _DAY.fullmatch(name):
        return None
    try:
        day = date.fromisoformat(name)
    except ValueError:
        return None
    return day if _FIRST_DAY <= day <= _LAST_DAY else None


def readable_name(name: str) -> str:
    """A file name as text: bytes that are not UTF-8 escaped, card numbers masked (rule 11)."""
    if not name.isascii():
        name = os.fsencode(name).decode("utf-8", errors="backslashreplace")
    return mask_card_numbers(name)


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    """Entries of a folder except ignored names; empty when there is no such folder.

    Raises
    ------
    OSError
        When the folder exists and cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_left_alone(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
