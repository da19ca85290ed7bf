"""Objects of a home in a store: files named by content, documents by number, and the trees of the manifest."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from billing.model.errors import InterruptedRunError
from billing.store.content_trees import Entry, Tree, read_tree
from billing.store.files import file_hash, scratch_path, write_bytes
from billing.store.object_store import IN_ONE_PUT, ObjectStore
from billing.store.working_files import Stamp, stamp_of

_AT_ONCE: Final = 16

Item = TypeVar("Item")
Done = TypeVar("Done")


class LostObjectError(InterruptedRunError):
    """The manifest names an object that the store lost, or that has other bytes."""


class HomeObjects:
    """Objects of a home; those of folders are cached by name.

    Attributes
    ----------
    trees
        Folder of the cache.
    """

    def __init__(self, store: ObjectStore, root: Path, trees: Path) -> None:
        self._store = store
        self._root = root
        self._trees = trees

    def tree(self, root: str) -> Tree:
        """The tree below an object; removes cached objects of other trees."""
        found = read_tree(root, lambda names: in_parallel(self._read_tree, names))
        current = set(found.objects.values())
        for path in self._trees.iterdir() if current else ():
            if path.name not in current:
                path.unlink(missing_ok=True)
        return found

    def put_trees(self, contents: Mapping[str, bytes], base: Tree) -> None:
        """Upload objects of folders, unless the current tree has them."""
        current = set(base.objects.values())

        def put(name: str) -> None:
            # One that is only cached may have been deleted from the store.
            if name not in current:
                self._store.put_new(object_key(name), contents[name])
                write_bytes(self._trees / name, contents[name])

        in_parallel(put, contents)

    def put_file(self, path: str, known: Entry | None) -> tuple[Entry, Stamp] | None:
        """Upload a file by its content, unless it has that of `known`; None when it is gone meanwhile."""
        file = self._root / path
        while True:
            try:
                stamp = stamp_of(file)
                if stamp[0] <= IN_ONE_PUT:
                    # Hash the very bytes that are sent: another step may replace the file.
                    content = file.read_bytes()
                    entry = Entry(hashlib.sha256(content).hexdigest(), len(content))
                    if entry != known:
                        self._store.put_new(object_key(entry.sha256), content)
                else:
                    entry = Entry(file_hash(file), stamp[0])
                    if entry != known and stamp_of(file) == stamp:
                        self._store.put_new(object_key(entry.sha256), file)
                if stamp_of(file) == stamp:
                    return entry, stamp
            except FileNotFoundError:
                return None

    def put_document(self, path: str) -> tuple[Entry, Stamp] | None:
        """Create a document under its own name; what is there already stays, and replaces the file here (rule 19)."""
        file = self._root / path
        try:
            sha256 = file_hash(file)
            if not self._store.put_new(path, file):
                scratch = scratch_path(file, 0)
                try:
                    stored = self._store.fetch(path, scratch)
                    if stored != sha256:
                        sha256 = stored
                        scratch.replace(file)
                finally:
                    scratch.unlink(missing_ok=True)
            return Entry(sha256, file.stat().st_size), stamp_of(file)
        except FileNotFoundError:
            return None

    def fetch_file(self, path: str, entry: Entry) -> Stamp:
        """Download a file by its content, and compare it.

        Raises
        ------
        LostObjectError
            When the store lacks the object, or it has other bytes.
        """
        target, key = self._root / path, object_key(entry.sha256)
        sha256 = self._fetch(key, target)
        if sha256 != entry.sha256:
            target.unlink()
            raise LostObjectError(
                f"{self._store.url}/{key}: found other bytes ({sha256[:12]}) than its name says, for {path}: restore "
                "the object from an earlier version, or run `overage repair`"
            )
        return stamp_of(target)

    def stand_in(self, path: str) -> Stamp:
        """Write the empty file that stands for a document."""
        target = self._root / path
        scratch = scratch_path(target, 0)
        scratch.write_bytes(b"")
        scratch.replace(target)
        return stamp_of(target)

    def fetch_document(self, path: str, entry: Entry) -> Stamp | None:
        """Download a document; returns its stamp if its bytes are those of the manifest."""
        target = self._root / path
        try:
            sha256 = self._store.fetch(path, target)
        except FileNotFoundError:
            target.unlink(missing_ok=True)
            return None
        return stamp_of(target) if sha256 == entry.sha256 else None

    def remove_others(self, tree: Tree) -> int:
        """Delete the objects that a tree does not name; returns how many. Nobody else may be at work."""
        named = {object_key(entry.sha256) for _, entry in tree.files()} | {*map(object_key, tree.objects.values())}
        others = [each.key for each in self._store.objects("objects") if each.key not in named]
        self._store.delete_all(others)
        return len(others)

    def _read_tree(self, name: str) -> bytes:
        path = self._trees / name
        if (not path.exists() or file_hash(path) != name) and self._fetch(object_key(name), path) != name:
            path.unlink()
            raise InterruptedRunError(
                f"{self._store.url}/{object_key(name)}: found other bytes than its name says: restore the object"
            )
        return path.read_bytes()

    def _fetch(self, key: str, target: Path) -> str:
        try:
            return self._store.fetch(key, target)
        except FileNotFoundError as error:
            raise LostObjectError(
                f"{self._store.url}/{key}: the manifest names an object that the store does not have: restore it from "
                "an earlier version of the bucket, or run `overage repair`"
            ) from error


def object_key(sha256: str) -> str:
    """The key of an object named by its content."""
    return f"objects/{sha256[:2]}/{sha256}"


def in_parallel(work: Callable[[Item], Done], items: Iterable[Item]) -> list[Done]:
    """Do work that waits for the store on many items at once; returns the results in order."""
    waiting = list(items)
    if len(waiting) < 2:
        return [work(item) for item in waiting]
    with ThreadPoolExecutor(min(_AT_ONCE, len(waiting))) as pool:
        return list(pool.map(work, waiting))
