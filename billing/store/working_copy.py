"""Working copy: the local folder through which a home in a store is used, as with a version control system.

It is checked out before a command or a step and committed after it. A commit uploads objects named by content, then
makes all of them visible by one conditional put of the manifest. The folder is a cache: it may be deleted at any time
when nothing is at work in it.
"""

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, TypeVar

from billing import __version__
from billing.model.errors import InterruptedRunError, RefusedError
from billing.store.content_trees import FORMAT, Entry, Tree, changed_tree, conflicts, read_tree
from billing.store.files import file_hash, remove_scratch_files, scratch_path, write_bytes
from billing.store.object_store import LostRaceError, ObjectStore, Version, checked_url
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

STORE: Final = ".store"
"""Folder of a working copy that holds its own records."""
MANIFEST: Final = "manifest.json"
MOVING: Final = "moving.json"
"""Object of a home that is being moved into the store."""
MOVED_TO: Final = "moved_to"
"""Member of the manifest of a home that was moved into a folder: nothing may use it any more."""

_ORIGIN: Final = f"{STORE}/origin.json"
_AT_ONCE: Final = 16
_MOST_MERGES: Final = 20

Item = TypeVar("Item")
Done = TypeVar("Done")

_opened: dict[Path, "WorkingCopy"] = {}


def make_working_copy(url: str, folder: Path) -> Path:
    """Folder below `folder` of the working copy of a home in a store, created if missing; one per URL.

    Raises
    ------
    RefusedError
        When the URL is invalid, or the folder cannot be written.
    """
    url = checked_url(url)
    root = folder.absolute() / f"{url.rpartition('/')[2][:40]}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
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
    try:
        url = json.loads((root / _ORIGIN).read_bytes())["url"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    _opened[root] = WorkingCopy(root, url)
    return _opened[root]


@contextmanager
def synchronized(root: Path) -> Iterator[None]:
    """As `WorkingCopy.held`; does nothing for a home that is a folder itself."""
    copy = working_copy(root)
    with nullcontext() if copy is None else copy.held():
        yield


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
    """

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.url = url
        self.store = ObjectStore(url)
        self.record = Record()
        self.tree = Tree()
        self.needs = EVERYTHING
        self._scan = Scan(root)
        self._held = 0

    @property
    def is_held(self) -> bool:
        """Whether this process holds the home's lock: nothing is checked out then."""
        return self._held > 0

    @contextmanager
    def held(self, *, merge: bool = False) -> Iterator[None]:
        """Check out, and commit at the end; the caller holds the home's lock. Nested in itself, it commits a step.

        After an exception nothing is committed: the next check-out removes what was not.

        Parameters
        ----------
        merge
            As of `commit`.
        """
        if not self._held:
            self.check_out(self.needs)
        self._held += 1
        try:
            yield
            self.commit(merge=merge)
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
            record = read_record(self._record_path)
            found = self._newer_manifest(record)
            if found is not None:
                manifest, content = found
                tree = read_tree(content["tree"], self._read_trees)
                self._remove_trees(tree)
                record = Record(manifest, content["tree"], content["generation"], record.files if record else {})
            elif record is None or record.manifest is None:
                record, tree = Record(files=record.files if record else {}), Tree()
            else:
                tree = self.tree if self.tree.root == record.tree else read_tree(record.tree, self._read_trees)
            self.tree = tree
            self._scan.forget()
            self.record = self._mended(record, needs)
            write_record(self._record_path, self.record)

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
        local = self._scan.files()
        moved = {path: stamp for path, stamp in local.items() if not self._is_known(path, stamp)}
        gone = [path for path in self.record.files if path not in local]
        if not moved and not gone:
            return False
        with self.syncing():
            hashed = dict(zip(moved, in_parallel(self._hash, moved), strict=True))
            changes: dict[str, Entry | None] = {path: Entry(sha, moved[path][0]) for path, sha in hashed.items()}
            kept = self._put_objects({path: entry for path, entry in changes.items() if entry is not None})
            # A document that the store had already keeps its bytes (rule 19).
            changes |= kept
            changes |= dict.fromkeys(gone)
            took_theirs = self._put_manifest(changes, merge=merge)
            files = {path: known for path, known in self.record.files.items() if path not in changes}
            for path, entry in changes.items():
                if entry is not None:
                    files[path] = Known(entry, stamp_of(self.root / path) if path in kept else moved[path])
            self.record = Record(self.record.manifest, self.tree.root, self.record.generation, files)
            if took_theirs:
                self._follow_others()
            write_record(self._record_path, self.record)
        return True

    def fetch_documents(self, paths: Iterable[str] | None = None) -> None:
        """Download documents that are known only by name: all, or some by path below the home.

        Their bytes are those of the store, right or wrong; one that the store has no more is removed here.
        """
        with self.syncing():
            self.record = read_record(self._record_path) or Record()
            files = dict(self.record.files)
            wanted = [path for path in (files if paths is None else paths) if path.startswith(DOCUMENTS)]
            missing = [path for path in wanted if path in files and self._is_empty(path)]
            for path, stamp in zip(missing, in_parallel(self._fetch_document, missing), strict=True):
                if stamp is not None:
                    files[path] = Known(files[path].entry, stamp)
            if missing:
                self.record = Record(self.record.manifest, self.record.tree, self.record.generation, files)
                write_record(self._record_path, self.record)

    # --- check-out --------------------------------------------------------------------------------------------------

    def _newer_manifest(self, record: Record | None) -> tuple[Version, dict[str, Any]] | None:
        """The version and content of the store's manifest; None where the record has it, or there is none."""
        known = record.manifest if record else None
        found = self.store.get(MANIFEST, unless=known.e_tag if known else None)
        if found is None and known is not None:
            raise RefusedError(
                f"{self.url}: {MANIFEST} is gone: found a home without it, expected the one that was used here before; "
                f"restore it from an earlier version of the object (or, for a new home, remove {self.root})"
            )
        if found is None:
            self._refuse_half_moved()
            return None
        if known is not None and found[1].e_tag == known.e_tag:
            return None
        content = json.loads(found[0])
        if content["format"] > FORMAT:
            raise RefusedError(
                f"{self.url}: found a home that version {content['written_by']} wrote, this is {__version__}: use that "
                "version, or a later one"
            )
        if MOVED_TO in content:
            raise RefusedError(f"{self.url}: this home was moved to {content[MOVED_TO]}: use that one")
        return found[1], content

    def _refuse_half_moved(self) -> None:
        if self.store.get(MOVING) is not None:
            raise RefusedError(f"{self.url}: this home is still being moved here: run `overage move-home` again first")

    def _mended(self, record: Record, needs: Needs) -> Record:
        """Make the files on disk those of the tree; returns the record of them."""
        for folder in FOLDERS:
            remove_scratch_files(self.root / folder)
        local = self._scan.files()
        files: dict[str, Known] = {}
        unsure: list[tuple[str, Entry, Stamp]] = []
        for path, stamp in local.items():
            entry, known = self.tree.get(path), record.files.get(path)
            if entry is not None and known == Known(entry, stamp):
                files[path] = known
            elif entry is not None and path in needs and entry.size == stamp[0]:
                unsure.append((path, entry, stamp))
        hashes = in_parallel(lambda found: file_hash(self.root / found[0]), unsure)
        for (path, entry, stamp), sha256 in zip(unsure, hashes, strict=True):
            if sha256 == entry.sha256:
                files[path] = Known(entry, stamp)
        for path in local:
            if path not in files and (path not in needs or self.tree.get(path) is None):
                (self.root / path).unlink()
        wanted = [(path, entry) for path, entry in self.tree.files() if path not in files and path in needs]
        for folder in folders_of(path for path, _ in wanted):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        stamps = in_parallel(lambda found: self._bring(*found), wanted)
        files |= {path: Known(entry, stamp) for (path, entry), stamp in zip(wanted, stamps, strict=True)}
        return Record(record.manifest, record.tree, record.generation, files)

    def _bring(self, path: str, entry: Entry) -> Stamp:
        """Download a file, or write the empty file that stands for a document."""
        target = self.root / path
        if path.startswith(DOCUMENTS):
            # Write the place-holder beside a file that it replaces: its bytes are not the store's.
            scratch = scratch_path(target, 0)
            scratch.write_bytes(b"")
            scratch.replace(target)
            return stamp_of(target)
        sha256 = self._fetch(object_key(entry.sha256), target)
        if sha256 != entry.sha256:
            target.unlink()
            raise InterruptedRunError(
                f"{self.url}/{object_key(entry.sha256)}: found other bytes ({sha256[:12]}) than its name says, for "
                f"{path}: restore the object from an earlier version"
            )
        return stamp_of(target)

    def _fetch(self, key: str, target: Path) -> str:
        try:
            return self.store.fetch(key, target)
        except FileNotFoundError as error:
            raise InterruptedRunError(
                f"{self.url}/{key}: the manifest names an object that the store does not have: restore it from an "
                "earlier version of the bucket"
            ) from error

    def _read_trees(self, names: list[str]) -> list[bytes]:
        """Objects of folders, which are kept here by name: each is downloaded once."""
        return in_parallel(self._read_tree, names)

    def _read_tree(self, name: str) -> bytes:
        path = self.root / STORE / "trees" / name
        if (not path.exists() or file_hash(path) != name) and self._fetch(object_key(name), path) != name:
            path.unlink()
            raise InterruptedRunError(
                f"{self.url}/{object_key(name)}: found other bytes than its name says: restore the object"
            )
        return path.read_bytes()

    def _remove_trees(self, tree: Tree) -> None:
        """Remove cached objects of folders that another tree has."""
        current = set(tree.objects.values())
        for path in (self.root / STORE / "trees").iterdir():
            if path.name not in current:
                path.unlink()

    def _is_empty(self, path: str) -> bool:
        """Whether an empty file stands for a document on disk."""
        try:
            return (self.root / path).stat().st_size != self.record.files[path].entry.size
        except FileNotFoundError:
            return False

    def _fetch_document(self, path: str) -> Stamp | None:
        """Download a document; returns its stamp if its bytes are those of the manifest."""
        try:
            sha256 = self.store.fetch(path, self.root / path)
        except FileNotFoundError:
            (self.root / path).unlink(missing_ok=True)
            return None
        return stamp_of(self.root / path) if sha256 == self.record.files[path].entry.sha256 else None

    # --- commit -----------------------------------------------------------------------------------------------------

    def _is_known(self, path: str, stamp: Stamp) -> bool:
        known = self.record.files.get(path)
        return known is not None and known.stamp == stamp

    def _hash(self, path: str) -> str:
        return file_hash(self.root / path)

    def _put_objects(self, changes: Mapping[str, Entry]) -> dict[str, Entry]:
        """Upload files whose objects the store lacks; returns the documents of which it keeps other bytes."""
        same = {path for path, entry in changes.items() if self.tree.get(path) == entry}
        in_parallel(
            lambda path: self.store.put_new(object_key(changes[path].sha256), self.root / path),
            [path for path in changes if path not in same and not path.startswith(DOCUMENTS)],
        )
        documents = [path for path in changes if path not in same and path.startswith(DOCUMENTS)]
        stored = in_parallel(lambda path: self._put_document(path, changes[path]), documents)
        return {path: entry for path, entry in zip(documents, stored, strict=True) if entry != changes[path]}

    def _put_document(self, path: str, entry: Entry) -> Entry:
        """Create a document under its own name; what is there already stays, and replaces the file here."""
        if self.store.put_new(path, self.root / path):
            return entry
        scratch = scratch_path(self.root / path, 0)
        try:
            sha256 = self.store.fetch(path, scratch)
            if sha256 != entry.sha256:
                scratch.replace(self.root / path)
            return Entry(sha256, entry.size if sha256 == entry.sha256 else (self.root / path).stat().st_size)
        except FileNotFoundError:
            raise InterruptedRunError(f"{self.url}/{path}: the document was removed while it was written") from None
        finally:
            scratch.unlink(missing_ok=True)

    def _put_manifest(self, changes: Mapping[str, Entry | None], *, merge: bool) -> bool:
        """Make the changes visible at once; sets the tree and the manifest's version.

        Returns
        -------
        bool
            Whether the tree has changes of other processes, too.
        """
        base, took_theirs = self.tree, False
        for _ in range(_MOST_MERGES):
            tree, made = changed_tree(self.tree, changes)
            if tree.root == self.tree.root:
                return took_theirs
            in_parallel(lambda name: self._put_tree(name, made[name]), made)  # noqa: B023
            generation = self.record.generation + 1
            content = manifest_content(tree.root, generation)
            try:
                version = self.store.replace(MANIFEST, content, self.record.manifest)
            except LostRaceError as error:
                if not merge:
                    raise InterruptedRunError(
                        f"{self.url}: another run wrote this home while this one was at work: nothing of this step was "
                        "kept. Let all runs use the same OVERAGE_REGISTER_URL, whose lock keeps them apart"
                    ) from error
                self._take_theirs(base, changes)
                took_theirs = True
                continue
            self.tree = tree
            self.record = Record(version, tree.root, generation, self.record.files)
            return took_theirs
        raise InterruptedRunError(f"{self.url}: {_MOST_MERGES} other processes wrote this home first: run again")

    def _take_theirs(self, base: Tree, changes: Mapping[str, Entry | None]) -> None:
        """Read the manifest that another process has put; refuse when both changed the same file."""
        found = self._newer_manifest(self.record)
        if found is None:
            return
        manifest, content = found
        tree = read_tree(content["tree"], self._read_trees)
        both = conflicts(base, tree, changes)
        if both:
            raise InterruptedRunError(
                f"{self.url}: another process wrote the same files with other bytes: {', '.join(both[:3])}: run again"
            )
        self.tree = tree
        self.record = Record(manifest, tree.root, content["generation"], self.record.files)

    def _put_tree(self, name: str, content: bytes) -> None:
        path = self.root / STORE / "trees" / name
        if not path.exists():
            self.store.put_new(object_key(name), content)
            write_bytes(path, content)

    def _follow_others(self) -> None:
        """After a merge: bring files that are here up to what the other process made of them."""
        files = dict(self.record.files)
        for path, known in self.record.files.items():
            entry = self.tree.get(path)
            if entry is None:
                (self.root / path).unlink(missing_ok=True)
                del files[path]
            elif entry != known.entry:
                files[path] = Known(entry, self._bring(path, entry))
        self.record = Record(self.record.manifest, self.record.tree, self.record.generation, files)

    @property
    def _record_path(self) -> Path:
        return self.root / STORE / "record.json"

    @contextmanager
    def syncing(self) -> Iterator[None]:
        """Let readers of the same working copy wait while its files are replaced."""
        with (self.root / STORE / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def was_checked_out(self) -> bool:
        """Wait until a check-out or commit of another process has ended; whether there was one yet."""
        with self.syncing():
            return self._record_path.exists()


def manifest_content(tree: str, generation: int, **others: str) -> bytes:
    """The bytes of a manifest."""
    content = {"format": FORMAT, "generation": generation, "tree": tree, "written_by": __version__, **others}
    return json.dumps(content, sort_keys=True).encode()


def in_parallel(work: Callable[[Item], Done], items: Iterable[Item]) -> list[Done]:
    """Do work that waits for the store on many items at once; returns the results in order."""
    waiting = list(items)
    if len(waiting) < 2:
        return [work(item) for item in waiting]
    with ThreadPoolExecutor(min(_AT_ONCE, len(waiting))) as pool:
        return list(pool.map(work, waiting))


def object_key(sha256: str) -> str:
    """The key of an object named by its content."""
    return f"objects/{sha256[:2]}/{sha256}"
