"""Manifest of a home in a store: a tree of folders, each an object named by its content, below one root object.

A folder's object lists its files (SHA-256, size) and the objects of its folders. A changed file changes the objects of
its folders up to the root, and no other: the manifest stays small, however many files there are.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final, NamedTuple

FORMAT: Final = 1
"""Raised when an older version could not read a home that this one writes."""


class Entry(NamedTuple):
    """A file: the SHA-256 of its bytes, and its size."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Tree:
    """The files of a home by folder.

    Attributes
    ----------
    folders
        By path of a folder (empty: the home): its files by name.
    objects
        By path of a folder: the SHA-256 that names its object.
    """

    folders: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict)
    objects: Mapping[str, str] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """The SHA-256 of the home's own object; empty when it has no files."""
        return self.objects.get("", "")

    def get(self, path: str) -> Entry | None:
        """The entry of a file, by its path below the home."""
        folder, _, name = path.rpartition("/")
        return self.folders.get(folder, {}).get(name)

    def files(self) -> Iterator[tuple[str, Entry]]:
        """Path and entry of every file."""
        for folder, files in self.folders.items():
            for name, entry in files.items():
                yield (f"{folder}/{name}" if folder else name), entry


def read_tree(root: str, read: Callable[[list[str]], Iterable[bytes]]) -> Tree:
    """Read the tree below an object, folder by folder, all folders of a depth at once.

    Parameters
    ----------
    read
        Returns the contents of objects named by SHA-256, in order.
    """
    folders: dict[str, Mapping[str, Entry]] = {}
    objects: dict[str, str] = {}
    level = {"": root} if root else {}
    while level:
        objects |= level
        below: dict[str, str] = {}
        for (folder, _), content in zip(level.items(), read(list(level.values())), strict=True):
            found = json.loads(content)
            folders[folder] = {name: Entry(*entry) for name, entry in found["files"].items()}
            below |= {str(PurePosixPath(folder) / name): sha256 for name, sha256 in found["folders"].items()}
        level = below
    return Tree(folders, objects)


def changed_tree(base: Tree, changes: Mapping[str, Entry | None]) -> tuple[Tree, dict[str, bytes]]:
    """The tree with some files written or removed, and the contents of its new objects by SHA-256.

    Parameters
    ----------
    changes
        By path: the new entry, or None where the file is removed.
    """
    folders = dict(base.folders)
    changed: set[str] = set()
    for path, entry in changes.items():
        folder, _, name = path.rpartition("/")
        if folder not in changed:
            folders[folder] = dict(folders.get(folder, {}))
        files = dict[str, Entry](folders[folder])
        if entry is None:
            files.pop(name, None)
        else:
            files[name] = entry
        folders[folder] = files
        changed.add(folder)
    return _with_objects(Tree(folders, dict(base.objects)), changed)


def _with_objects(tree: Tree, changed: set[str]) -> tuple[Tree, dict[str, bytes]]:
    """Make the objects of the changed folders and of those above them, the deepest first."""
    folders, objects = dict(tree.folders), dict(tree.objects)
    waiting = {ancestor for folder in changed for ancestor in _and_above(folder)}
    children: dict[str, set[str]] = {}
    for folder in {*objects, *waiting} - {""}:
        children.setdefault(folder.rpartition("/")[0], set()).add(folder)
    made: dict[str, bytes] = {}
    for folder in sorted(waiting, key=lambda each: (-each.count("/") if each else 1, each)):
        files = folders.get(folder, {})
        below = {child.rpartition("/")[2]: objects[child] for child in children.get(folder, ()) if child in objects}
        if not files and not below:
            folders.pop(folder, None)
            objects.pop(folder, None)
            continue
        folders.setdefault(folder, {})
        content = json.dumps(
            {"files": dict(sorted(files.items())), "folders": dict(sorted(below.items()))},
            separators=(",", ":"),
        ).encode()
        objects[folder] = hashlib.sha256(content).hexdigest()
        made[objects[folder]] = content
    return Tree(folders, objects), made


def _and_above(folder: str) -> Iterator[str]:
    """A folder and those that it is in, the home last."""
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
    yield ""


def conflicts(base: Tree, theirs: Tree, changes: Mapping[str, Entry | None]) -> list[str]:
    """Paths that both sides changed since `base`, differently: empty when `changes` can be made to `theirs`."""
    return sorted(path for path, entry in changes.items() if theirs.get(path) not in (base.get(path), entry))
