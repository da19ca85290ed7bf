"""What an ingest has to do: the current version of every delivered file, and those that are not parsed yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path, PurePosixPath

from billing.ingest import parsed_files as parsing
from billing.ingest.landing import DeliveredFile, Landing, delivered_files, delivery_day
from billing.ingest.parsed_deliveries import Each, ParsedDeliveries, ParseJob, Progress
from billing.ingest.parsed_locations import ParsedFolder
from billing.ingest.row_hashes import RowHashes
from billing.ingest.settings import Settings
from billing.ingest.state import State, delivery_label, read_state, settled_before, stamp
from billing.ingest.validation import Rules
from billing.model.tables import INGEST
from billing.store.files import file_hash, remove_scratch_files
from billing.store.frames import read_frame
from billing.store.home import Home

Key = tuple[date, str]
"""A delivered file: its day and its name there."""


@dataclass(frozen=True)
class IngestPlan:
    """What an ingest works on; may be handed to another process of the same home.

    Attributes
    ----------
    root
        Where the home stands that was looked at: a worker's may stand elsewhere.
    landing
        What is delivered up to the as-of day.
    kept
        Versions of delivered files that are still compared with their replacements: their parsed files stay.
    current
        Hash of the current version of every file, also of those that are delivered no more.
    stamps
        By label: the file system metadata of a delivered file when it was hashed.
    sizes
        Bytes of the delivered files.
    jobs
        What is to be parsed.
    """

    root: Path
    settings: Settings
    landing: Landing
    kept: tuple[parsing.FileVersion, ...]
    current: Mapping[Key, str]
    stamps: Mapping[str, tuple[int, ...]]
    sizes: Mapping[Key, int]
    warnings: tuple[str, ...]
    jobs: tuple[ParseJob, ...] = field(default=())

    @property
    def files_to_parse(self) -> int:
        """How many files the jobs parse."""
        return sum(len(job.versions) for job in self.jobs)

    def parsed(self, home: Home, hashes: RowHashes) -> ParsedDeliveries:
        """Where the rows of the delivered files are in a home."""
        delivered = {(file.day, file.name): at_home(file, self.root, home) for file in self.landing.files}
        return ParsedDeliveries(home, hashes=hashes, delivered=delivered, stamps=self.stamps)


def at_home(file: DeliveredFile, root: Path, home: Home) -> DeliveredFile:
    """A delivered file of a home that may stand elsewhere."""
    if root == home.root:
        return file
    remote = file.remote and replace(file.remote, cache=_moved(file.remote.cache, root, home))
    return replace(file, place=_moved(file.place, root, home), remote=remote)


def _moved(path: Path, root: Path, home: Home) -> Path:
    return home.root / path.relative_to(root) if path.is_relative_to(root) else path


def plan(
    home: Home,
    rules: Rules,
    *,
    through: date | None,
    kept: Sequence[parsing.FileVersion],
    each: Each,
    progress: Progress,
) -> IngestPlan:
    """Look at what is delivered, and hash what may have changed; see `stages.plan_ingest`."""
    for folder in ("parsed_files", "events", "rejects", "ingest", "repeats"):
        remove_scratch_files(home.lake / folder)
    state = read_state(home)
    landing = delivered_files(home, through)
    known = _known_versions(home, state)
    looking = _Looking(home, landing, state, each, progress)
    current = looking.current_versions(known)
    settings = Settings.store(home, rules, state)
    found = IngestPlan(
        home.root, settings, landing, tuple(kept), current, looking.stamps, looking.sizes, tuple(looking.warnings)
    )
    jobs = found.parsed(home, RowHashes(rules, settings.key)).jobs(current, looking.sizes)
    return replace(found, jobs=tuple(jobs))


def _known_versions(home: Home, state: State | None) -> dict[Key, str]:
    """Hash of every file in the lake, by day and name: from the state, else from the manifests."""
    known: dict[Key, str] = {}
    if state is not None:
        known = {(day, name): file.sha256 for day, found in state.days.items() for name, file in found.files.items()}
        if not state.pending:
            return known
    for folder in sorted(parsing.parsed_files_root(home).glob("delivery_day=*")):
        day = delivery_day(folder.name.partition("=")[2])
        if day is not None:
            known |= {
                (day, name): sha256 for name, sha256 in ParsedFolder(home, day).versions() if (day, name) not in known
            }
    for path in sorted((home.lake / INGEST.name).glob(f"delivery_day=*/{INGEST.name}.parquet")):
        manifest = read_frame(path, INGEST)
        known |= {(day, name): sha for day, name, sha in manifest.select("delivery_day", "file", "sha256").iter_rows()}
    return known


class _Looking:
    """Finds the current version of every delivered file."""

    def __init__(self, home: Home, landing: Landing, state: State | None, each: Each, progress: Progress) -> None:
        self.home = home
        self.delivered = {(file.day, file.name): file for file in landing.files}
        self.each = each
        self.progress = progress
        self.warnings: list[str] = []
        self.stamps: dict[str, tuple[int, ...]] = dict(state.stamps) if state else {}
        self.sizes: dict[Key, int] = {}

    def current_versions(self, known: Mapping[Key, str]) -> dict[Key, str]:
        """Hash of the current version of every file: as delivered, or as last seen before it vanished (rule 22)."""
        current = dict(known)
        if "" in known.values():
            # An earlier version recorded a folder inside a day as an unreadable file.
            folders = {(day, str(each)) for day, name in self.delivered for each in PurePosixPath(name).parents}
            current = {key: digest for key, digest in known.items() if digest or key not in folders}
        settled = settled_before(self.home)
        found: dict[Key, tuple[int, ...] | None] = {}
        for key, file in self.delivered.items():
            now = _stamp(file)
            if now is not None:
                self.sizes[key] = now[0]
                if key in known and self.stamps.get(delivery_label(*key)) == now and now[2] < settled:
                    continue
            found[key] = now
        digests = self.each(
            lambda key: _digest(self.delivered[key]), list(found), sum(self.sizes.get(key, 0) for key in found)
        )
        for done, ((key, now), digest) in enumerate(zip(found.items(), digests, strict=True)):
            self.progress("looking at deliveries", done, len(found))
            label = delivery_label(*key)
            if now is None or digest is None:
                # An unreadable file is not known to have changed.
                self.stamps.pop(label, None)
                current.setdefault(key, "")
                continue
            self.stamps[label] = now
            if known.get(key) and known[key] != digest:
                self.warnings.append(
                    f"usage/{label}: its bytes changed after it was ingested; it was ingested again and the difference "
                    "is settled like late usage"
                )
            current[key] = digest
        for label in set(self.stamps) - {delivery_label(day, name) for day, name in self.delivered}:
            del self.stamps[label]
        return current


def _stamp(file: DeliveredFile) -> tuple[int, ...] | None:
    """As `state.stamp`; None when the file cannot be read."""
    try:
        return None if file.fault else stamp(file)
    except OSError:
        return None


def _digest(file: DeliveredFile) -> str | None:
    """SHA-256 of a delivered file; None when it cannot be read."""
    try:
        return None if file.fault else file_hash(file.path)
    except OSError:
        return None
