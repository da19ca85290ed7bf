"""Working copy: the local folder through which a home in a store is used, as with a version control system.

It is checked out before a command or a step and committed after it. A commit uploads objects named by content, then
makes all of them visible by one conditional put of the manifest. The folder is a cache: it may be deleted at any time
when nothing is at work in it.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from billing import __version__
from billing.model.errors import InterruptedRunError, RefusedError
from billing.store.content_trees import FORMAT, Entry, Tree, changed_tree, conflicts
from billing.store.files import file_hash, remove_scratch_files, write_bytes
from billing.store.home_objects import HomeObjects, LostObjectError, in_parallel
from billing.store.object_store import LostRaceError, ObjectStore, checked_url
from billing.store.working_files import (
    DOCUMENTS,
    EVERYTHING,
    FOLDERS,
    Known,
    Needs,
    Record,
    Scan,
    Stamp,
    folders_of,
    read_record,
    stamp_of,
    write_record,
)

if TYPE_CHECKING:
    from billing.store.home import Home

STORE: Final = ".store"
"""Folder of a working copy that holds its own records."""
MANIFEST: Final = "manifest.json"
MOVING: Final = "moving.json"
"""Object of a home that is being moved into the store."""
MOVED_TO: Final = "moved_to"
"""Member of the manifest of a home that was moved into a folder: nothing may use it any more."""

_ORIGIN: Final = f"{STORE}/origin.json"
_MOST_MERGES: Final = 20
_PATIENCE_SECONDS: Final = 3_600

_opened: dict[Path, "WorkingCopy"] = {}


def make_working_copy(url: str, folder: Path) -> Path:
    """Folder below `folder` of the working copy of a home in a store, created if missing; one per URL.

    Raises
    ------
    RefusedError
        When the URL is invalid, or the folder cannot be written.
    """
    url = checked_url(url)
    root = folder.resolve() / f"{url.rpartition('/')[2][:40]}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    if not (root / _ORIGIN).exists():
        try:
            # For its owner only: it holds invoices, names and amounts.
            root.mkdir(parents=True, mode=0o700, exist_ok=True)
            write_bytes(root / _ORIGIN, json.dumps({"url": url}).encode())
        except OSError as error:
            raise RefusedError(
                f"{root}: the working copy of {url} cannot be written ({error.strerror}): set OVERAGE_WORK to a folder "
                "that can"
            ) from error
    return root


def working_copy(root: Path) -> "WorkingCopy | None":
    """The working copy in a folder; None for a home that is a folder itself."""
    if root in _opened:
        return _opened[root]
    # One object per folder: it knows whether this process is at work there.
    root = root.resolve()
    if root in _opened:
        return _opened[root]
    try:
        url = json.loads((root / _ORIGIN).read_bytes())["url"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    _opened[root] = WorkingCopy(root, url)
    return _opened[root]


@contextmanager
def synchronized(root: Path, *, shared: bool = False) -> Iterator[None]:
    """As `WorkingCopy.held`; does nothing for a home that is a folder itself. The head of a run lists landing, too."""
    copy = working_copy(root)
    if copy is not None and shared and not copy.is_held:
        # Import late: it builds on this module.
        from billing.store.landing_copy import check_out_landing

        check_out_landing(copy)
    with nullcontext() if copy is None else copy.held(shared=shared):
        yield


@contextmanager
def step_in_store(home: "Home", holder: str) -> Iterator[None]:
    """Be a step of a run whose head holds the lock: read what other steps committed, and commit.

    Steps in one working copy exclude each other, unless it is that of their head.
    """
    copy = working_copy(home.root)
    # Import late: the lock loads Polars, which the command line does without, and landing builds on this module.
    from billing.store.landing_copy import check_out_landing
    from billing.store.lock import is_held_by, lock

    if copy is None:
        yield
    elif is_held_by(home, holder):
        copy.pull()
        yield
        copy.commit(merge=True)
    else:
        with lock(home, _PATIENCE_SECONDS):
            if not copy.is_held:
                check_out_landing(copy, usage=False)
            with copy.held(shared=True):
                yield


@contextmanager
def reading(root: Path, needs: Needs) -> Iterator[None]:
    """Let the steps inside check out only what they read, of a home in a store."""
    copy = working_copy(root)
    if copy is None:
        yield
        return
    before, copy.needs = copy.needs, needs
    try:
        yield
    finally:
        copy.needs = before


def bring(root: Path, needs: Needs) -> None:
    """Check out more of a home in a store, in the middle of a step."""
    copy = working_copy(root)
    if copy is not None:
        copy.bring(needs)


def with_urls(text: str) -> str:
    """A message with the URLs of homes in place of the folders of their working copies."""
    for root, copy in _opened.items():
        text = text.replace(str(root), copy.url)
    return text


def name_of(root: Path) -> str:
    """What people call a home: its URL, or its folder."""
    copy = working_copy(root)
    return str(root) if copy is None else copy.url


class WorkingCopy:
    """A local folder with files of a home in a store.

    Attributes
    ----------
    needs
        What `held` checks out: everything, unless a step of a shard sets what it reads.
    tolerates_loss
        Leave an empty file for an object that the store has lost, for `repair` to find.
    """

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.url = url
        self.store = ObjectStore(url)
        self.needs = EVERYTHING
        self.tolerates_loss = False
        self._objects = HomeObjects(self.store, root, root / STORE / "trees")
        self._record = Record()
        self._tree = Tree()
        self._recorded: Stamp | None = None
        self._scan = Scan(root)
        self._held = 0
        self._is_shared = False

    @property
    def is_held(self) -> bool:
        """Whether this process holds the home's lock: nothing is checked out then."""
        return self._held > 0

    @contextmanager
    def held(self, *, shared: bool = False) -> Iterator[None]:
        """Check out, and commit at the end; the caller holds the home's lock. Nested in itself, it commits a step.

        After an exception nothing is committed: the next check-out removes what was not.

        Parameters
        ----------
        shared
            Steps of the same run commit elsewhere: read their files at every step, and add ours to them.
        """
        if not self._held:
            self.check_out(self.needs)
            self._is_shared = shared
        elif self._is_shared:
            self.pull()
        self._held += 1
        try:
            yield
            self.commit(merge=self._is_shared)
        finally:
            self._held -= 1

    def check_out(self, needs: Needs = EVERYTHING) -> None:
        """Make the files that are needed those of the store's manifest; the caller holds the home's lock.

        Replaces or removes whatever a killed command left uncommitted. Documents are known without a download: an empty
        file stands for each until `fetch_documents`.

        Raises
        ------
        StoreError
            When the store cannot be used.
        RefusedError
            When a newer version wrote the home, or it is being moved.
        """
        with self.syncing():
            self._reload()
            self._take_newer()
            self._scan.forget()
            self._write(self._mended(needs))

    def pull(self) -> None:
        """Commit what changed here, and take what other processes have committed: nothing uncommitted is removed."""
        self.commit(merge=True)
        with self.syncing():
            self._reload()
            is_newer = self._take_newer()
            # Also without news: a step before this one may have needed less.
            record = self._with_others()
            if is_newer or record != self._record:
                self._write(record)

    def bring(self, needs: Needs) -> None:
        """Check out what else is needed, and leave what is here."""
        self.needs = needs
        with self.syncing():
            self._reload()
            self._write(self._with_others())

    def commit(self, *, merge: bool = False) -> bool:
        """Upload what changed since the check-out, and make it visible at once; returns whether anything had.

        Parameters
        ----------
        merge
            When another process has written the home meanwhile: add the changes to its files. Otherwise refuse.

        Raises
        ------
        InterruptedRunError
            When another process has written the home, or the same files of it.
        """
        with self.syncing():
            self._reload()
            local = self._scan.files()
            moved = [path for path, stamp in local.items() if not self._is_known(path, stamp)]
            gone = [path for path in self._record.files if path not in local]
            if not moved and not gone:
                return False
            stored = dict(zip(moved, in_parallel(self._put, moved), strict=True))
            changes: dict[str, Entry | None] = dict.fromkeys(gone)
            changes |= {path: found[0] for path, found in stored.items() if found is not None}
            took_theirs = self._put_manifest(changes, merge=merge)
            files = {path: known for path, known in self._record.files.items() if path not in changes}
            files |= {path: Known(*found) for path, found in stored.items() if found is not None}
            self._record = replace(self._record, files=files)
            self._write(self._with_others() if took_theirs else self._record)
        return True

    def fetch_documents(self, paths: Iterable[str] | None = None) -> None:
        """Download documents that are known only by name: all, or some by path below the home.

        Their bytes are those of the store, right or wrong; one that the store has no more is removed here.
        """
        with self.syncing():
            self._reload()
            files = dict(self._record.files)
            wanted = [path for path in (files if paths is None else paths) if path.startswith(DOCUMENTS)]
            missing = [path for path in wanted if path in files and self._is_empty(path)]
            stamps = in_parallel(lambda path: self._objects.fetch_document(path, files[path].entry), missing)
            for path, stamp in zip(missing, stamps, strict=True):
                if stamp is not None:
                    files[path] = Known(files[path].entry, stamp)
            if missing:
                self._write(replace(self._record, files=files))

    def remove_old_objects(self) -> int:
        """Delete objects of earlier states of the home; returns how many. The caller holds every lock."""
        with self.syncing():
            self._reload()
            return self._objects.remove_others(self._tree)

    @contextmanager
    def syncing(self) -> Iterator[None]:
        """Let readers of the same working copy wait while its files are replaced."""
        with (self.root / STORE / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def holds(self, needs: Needs) -> bool:
        """Wait until a check-out or commit of another process has ended; whether all that is needed is here then."""
        with self.syncing():
            self._reload()
            here, needs = self._record.files, self._completed(needs)
            return self._recorded is not None and all(path in here for path, _ in self._tree.files() if path in needs)

    # --- record and manifest ----------------------------------------------------------------------------------------

    @property
    def _record_path(self) -> Path:
        return self.root / STORE / "record.json"

    def _reload(self) -> None:
        """Read the record again where another process of this working copy has written it."""
        stamp = stamp_of(self._record_path) if self._record_path.exists() else None
        if stamp is None or stamp != self._recorded:
            self._record = read_record(self._record_path) or Record()
            self._recorded = stamp
        if self._tree.root != self._record.tree:
            self._tree = self._objects.tree(self._record.tree)

    def _write(self, record: Record) -> None:
        self._record = record
        write_record(self._record_path, record)
        self._recorded = stamp_of(self._record_path)

    def _take_newer(self) -> bool:
        """Take the tree of the store's manifest, if it is another than the record's; returns whether it was."""
        known = self._record.manifest
        found = self.store.get(MANIFEST, unless=known.e_tag if known else None)
        if found is None and known is not None:
            raise RefusedError(
                f"{self.url}: {MANIFEST} is gone: found a home without it, expected the one that was used here before; "
                f"restore it from an earlier version of the object (or, for a new home, remove {self.root})"
            )
        if found is None:
            if self.store.get(MOVING) is not None:
                raise RefusedError(
                    f"{self.url}: this home is still being moved here: run `overage move-home` again first"
                )
            return False
        if known is not None and found[1].e_tag == known.e_tag:
            return False
        content = json.loads(found[0])
        if content["format"] > FORMAT:
            raise RefusedError(
                f"{self.url}: found a home that version {content['written_by']} wrote, this is {__version__}: use that "
                "version, or a later one"
            )
        if MOVED_TO in content:
            raise RefusedError(f"{self.url}: this home was moved to {content[MOVED_TO]}: use that one")
        self._tree = self._objects.tree(content["tree"])
        self._record = Record(found[1], content["tree"], content["generation"], self._record.files)
        return True

    # --- check-out --------------------------------------------------------------------------------------------------

    def _completed(self, needs: Needs) -> Needs:
        return needs.with_parsed_rows(path for path, _ in self._tree.files())

    def _mended(self, needs: Needs) -> Record:
        """Make the files on disk those of the tree; returns the record of them."""
        needs = self._completed(needs)
        for folder in FOLDERS:
            remove_scratch_files(self.root / folder)
        local = self._scan.files()
        files: dict[str, Known] = {}
        unsure: list[tuple[str, Entry, Stamp]] = []
        for path, stamp in local.items():
            entry, known = self._tree.get(path), self._record.files.get(path)
            if entry is not None and known == Known(entry, stamp):
                files[path] = known
            elif entry is not None and path in needs and entry.size == stamp[0]:
                unsure.append((path, entry, stamp))
        hashes = in_parallel(lambda found: file_hash(self.root / found[0]), unsure)
        for (path, entry, stamp), sha256 in zip(unsure, hashes, strict=True):
            if sha256 == entry.sha256:
                files[path] = Known(entry, stamp)
        for path in local:
            if path not in files and (path not in needs or self._tree.get(path) is None):
                (self.root / path).unlink()
        wanted = [(path, entry) for path, entry in self._tree.files() if path not in files and path in needs]
        return replace(self._record, files=files | self._brought(wanted))

    def _with_others(self) -> Record:
        """Bring files that other processes committed, and leave those that changed here."""
        local, files = self._scan.files(), dict(self._record.files)
        for path, before in self._record.files.items():
            if self._tree.get(path) is None:
                del files[path]
                if local.get(path) == before.stamp:
                    (self.root / path).unlink(missing_ok=True)
        wanted: list[tuple[str, Entry]] = []
        needs = self._completed(self.needs)
        for path, entry in self._tree.files():
            known, here = files.get(path), local.get(path)
            is_new = known is None and here is None and path in needs
            if is_new or (known is not None and known.entry != entry and here in (None, known.stamp)):
                wanted.append((path, entry))
        return replace(self._record, files=files | self._brought(wanted))

    def _brought(self, wanted: list[tuple[str, Entry]]) -> dict[str, Known]:
        """Download files; an empty file stands for a document."""
        for folder in folders_of(path for path, _ in wanted):
            (self.root / folder).mkdir(parents=True, exist_ok=True)

        def bring(found: tuple[str, Entry]) -> Stamp:
            path, entry = found
            if path.startswith(DOCUMENTS):
                return self._objects.stand_in(path)
            try:
                return self._objects.fetch_file(path, entry)
            except LostObjectError:
                if not self.tolerates_loss:
                    raise
                return self._objects.stand_in(path)

        stamps = in_parallel(bring, wanted)
        return {path: Known(entry, stamp) for (path, entry), stamp in zip(wanted, stamps, strict=True)}

    def _is_empty(self, path: str) -> bool:
        """Whether an empty file stands for a document on disk."""
        try:
            return (self.root / path).stat().st_size != self._record.files[path].entry.size
        except FileNotFoundError:
            return False

    # --- commit -----------------------------------------------------------------------------------------------------

    def _is_known(self, path: str, stamp: Stamp) -> bool:
        known = self._record.files.get(path)
        return known is not None and known.stamp == stamp

    def _put(self, path: str) -> tuple[Entry, Stamp] | None:
        if path.startswith(DOCUMENTS):
            return self._objects.put_document(path)
        return self._objects.put_file(path, self._tree.get(path))

    def _put_manifest(self, changes: Mapping[str, Entry | None], *, merge: bool) -> bool:
        """Make the changes visible at once; sets the tree and the manifest's version.

        Returns
        -------
        bool
            Whether the tree has changes of other processes, too.
        """
        base, took_theirs = self._tree, False
        for _ in range(_MOST_MERGES):
            tree, made = changed_tree(self._tree, changes)
            if tree.root == self._tree.root:
                return took_theirs
            self._objects.put_trees(made, self._tree)
            generation = self._record.generation + 1
            try:
                content = manifest_content(tree.root, generation)
                version = self.store.replace(MANIFEST, content, self._record.manifest)
            except LostRaceError as error:
                if not merge:
                    raise InterruptedRunError(
                        f"{self.url}: another run wrote this home while this one was at work: nothing of this step was "
                        "kept. Let all runs use the same OVERAGE_REGISTER_URL, whose lock keeps them apart"
                    ) from error
                took_theirs |= self._take_newer()
                self._refuse_conflicts(base, changes)
                continue
            self._tree = tree
            self._record = Record(version, tree.root, generation, self._record.files)
            return took_theirs
        raise InterruptedRunError(f"{self.url}: {_MOST_MERGES} other processes wrote this home first: run again")

    def _refuse_conflicts(self, base: Tree, changes: Mapping[str, Entry | None]) -> None:
        both = conflicts(base, self._tree, changes)
        if both:
            raise InterruptedRunError(
                f"{self.url}: another process wrote the same files with other bytes: {', '.join(both[:3])}: run again"
            )


def manifest_content(tree: str, generation: int, **others: str) -> bytes:
    """The bytes of a manifest."""
    content = {"format": FORMAT, "generation": generation, "tree": tree, "written_by": __version__, **others}
    return json.dumps(content, sort_keys=True).encode()
