"""Move a home between a folder and an object store: every file is read back and compared, and a killed move goes on.

The home that it leaves cannot be billed any more: two homes would issue the same documents twice.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from billing.ingest.landing import delivered_files
from billing.ingest.state import delivery_label, read_state, state_path, write_state
from billing.model.errors import InterruptedRunError, RefusedError
from billing.register.copying import copy_register
from billing.register.register import Register
from billing.store.content_trees import Entry, Tree, changed_tree, read_tree
from billing.store.files import file_hash, remove_file, write_bytes
from billing.store.home import Home
from billing.store.home_objects import in_parallel, object_key
from billing.store.landing_copy import LANDING, RemoteFile
from billing.store.lock import lock
from billing.store.object_store import ObjectStore, Version
from billing.store.temporary_folder import temporary_folder
from billing.store.working_copy import (
    MANIFEST,
    MOVED_TO,
    MOVING,
    manifest_content,
    working_copy,
)
from billing.store.working_files import DOCUMENTS, FOLDERS

_LEFT: Final = "landing.moved"
_COMING: Final = "landing.coming"
_MOVING: Final = ".moving.json"
_SCRATCH: Final = "overage-move-"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Moved:
    """What a move did: files and bytes by kind, and documents of a register that was copied (None: it stays)."""

    inputs: int
    documents: int
    tables: int
    bytes: int
    register: int | None


def move_into_store(root: Path, url: str, register_url: str | None, say: Say) -> Moved:
    """Move a home from a folder into a store.

    Raises
    ------
    RefusedError
        When the folder is no home, the store holds another one, or the register cannot move.
    InterruptedRunError
        When a file read back has other bytes, or the store fails: run again.
    """
    home, store = Home(root), ObjectStore(url)
    source = {"from": str(root.resolve())}
    moving, found = store.get(MOVING), store.get(MANIFEST)
    resumed = moving is not None and json.loads(moving[0]) == source
    if resumed and found is not None and (root / _LEFT).is_dir() and not home.landing.exists():
        # Killed at its last steps.
        tree = read_tree(json.loads(found[0])["tree"], lambda names: [_object(store, name) for name in names])
        return _left(home, store, dict(tree.files()), None)
    if working_copy(root) is not None:
        raise RefusedError(f"{root}: found the working copy of a home in a store, expected the folder of a home")
    if not home.landing.is_dir():
        raise RefusedError(f"{root}: this is no billing home: expected a folder `landing` in it")
    if not resumed and (moving or found or next(store.objects(""), None)):
        raise RefusedError(f"{url}: found objects of another home, expected an empty prefix")
    inputs = _inputs(home)
    with lock(home), _register_alone(home, register_url) as registers:
        store.put_new(MOVING, json.dumps(source).encode())
        copied = copy_register(*registers) if registers else None
        say(f"moving {root} to {url}")
        sent = _send_inputs(home, store, inputs)
        entries, paths = _entries(home), dict[str, Path]()
        with _portable_state(home, store, sent) as state:
            if state is not None:
                name = str(state_path(home).relative_to(root))
                entries[name], paths[name] = _entry(state), state
            tree, objects = changed_tree(Tree(), entries)
            _send_files(store, entries, {name: paths.get(name, root / name) for name in entries}, objects)
        _require_same(store, {f"{LANDING}/{name}": sha256 for name, sha256 in sent.items()})
        _require_same(store, {_key(name, entry): entry.sha256 for name, entry in entries.items()})
        _require_same(store, {object_key(name): name for name in objects})
        store.replace(MANIFEST, manifest_content(tree.root, 1), found[1] if found else None)
        home.landing.rename(root / _LEFT)
        return _left(home, store, entries, copied)


def _left(home: Home, store: ObjectStore, entries: Mapping[str, Entry], copied: int | None) -> Moved:
    """The last steps, after which nothing bills the folder by mistake."""
    if home.register_path.exists():
        home.register_path.rename(home.register_path.with_name("register.db.moved"))
    store.delete(MOVING)
    left = home.root / _LEFT
    inputs = {str(path.relative_to(left)): path.stat().st_size for path in left.rglob("*") if path.is_file()}
    return _moved(entries, inputs, copied)


def move_into_folder(url: str, root: Path, register_url: str | None, say: Say) -> Moved:
    """Move a home from a store into a folder; its register stays where `register_url` has it.

    Raises
    ------
    RefusedError
        When the store holds no home, or the folder another one.
    InterruptedRunError
        When a file has other bytes than it should, or the store fails: run again.
    """
    home, store = Home(root), ObjectStore(url)
    note = root / _MOVING
    if root.exists() and any(root.iterdir()) and _read_json(note) != {"from": url}:
        raise RefusedError(f"{root}: found files, expected an empty folder or one that is not there yet")
    found = store.get(MANIFEST)
    manifest: dict[str, Any] = json.loads(found[0]) if found else {}
    is_complete = manifest.get(MOVED_TO) == str(root.resolve())
    if found is None or (MOVED_TO in manifest and not is_complete) or store.get(MOVING) is not None:
        where = f" (it was moved to {manifest[MOVED_TO]})" if MOVED_TO in manifest else ""
        raise RefusedError(f"{url}: found no home that can be moved{where}")
    root.mkdir(parents=True, mode=0o700, exist_ok=True)
    write_bytes(note, json.dumps({"from": url}).encode())
    _refuse_other_register(url, register_url)
    with Register.open(home, register_url).alone():
        say(f"moving {url} to {root}")
        tree = read_tree(manifest["tree"], lambda names: in_parallel(lambda name: _object(store, name), names))
        entries = dict(tree.files())
        in_parallel(lambda name: _receive(store, root / name, _key(name, entries[name]), entries[name].sha256), entries)
        coming = root / _COMING
        inputs = {each.key.removeprefix(f"{LANDING}/"): each for each in store.objects(LANDING)}
        inputs = {name: each for name, each in inputs.items() if not _is_folder(name, inputs)}
        if not home.landing.exists():
            in_parallel(lambda name: _receive_input(store, coming / name, f"{LANDING}/{name}"), inputs)
        other = [name for name, entry in entries.items() if file_hash(root / name) != entry.sha256]
        if other:
            raise InterruptedRunError(f"{root / other[0]}: found other bytes than {url} has: run again")
        if not home.landing.exists():
            coming.mkdir(exist_ok=True)
            coming.rename(home.landing)
        _leave(store, manifest, found[1], str(root.resolve()))
        remove_file(note)
    return _moved(entries, {name: each.size for name, each in inputs.items()}, None)


@contextmanager
def _register_alone(home: Home, register_url: str | None) -> Iterator[tuple[Register, Register] | None]:
    """Hold the lock of the register; gives both where the one of the folder has to be copied."""
    _refuse_other_register(str(home.root), register_url)
    target = Register.open(home, register_url)
    with target.alone():
        yield (Register.open(home), target) if home.register_path.exists() else None


def _refuse_other_register(name: str, register_url: str | None) -> None:
    if register_url is None or not register_url.startswith("postgresql"):
        raise RefusedError(
            f"{name}: a home in a store has its register on a PostgreSQL server: set OVERAGE_REGISTER_URL to that of "
            "the home, or to an empty database, into which register.db is copied"
        )


def _inputs(home: Home) -> list[str]:
    """Every file of landing, by its path there.

    Raises
    ------
    RefusedError
        At a link, a name or a kind of file that cannot be an object.
    """
    found: list[str] = []
    for folder, folders, files in os.walk(home.landing):
        for name in (*folders, *files):
            path = Path(folder) / name
            if path.is_symlink() or not (path.is_file() or path.is_dir()) or not name.isprintable():
                raise RefusedError(
                    f"{path}: found a link, no file, or a name that no object can have: replace it first"
                )
        found += [str((Path(folder) / name).relative_to(home.landing)) for name in files]
    return sorted(found)


def _send_inputs(home: Home, store: ObjectStore, inputs: list[str]) -> dict[str, str]:
    """Upload the files of landing; returns the SHA-256 of each."""

    def send(name: str) -> str:
        path, key = home.landing / name, f"{LANDING}/{name}"
        sha256 = file_hash(path)
        # What a killed move has sent may have changed here since.
        if not store.put_new(key, path) and store.digest(key) != sha256:
            store.delete(key)
            store.put_new(key, path)
        return sha256

    return dict(zip(inputs, in_parallel(send, inputs), strict=True))


def _entries(home: Home) -> dict[str, Entry]:
    """Every file of the home besides landing, by its path."""
    names = [
        str(path.relative_to(home.root))
        for folder in FOLDERS
        for path in sorted((home.root / folder).rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(home.root).parts)
    ]
    return dict(zip(names, in_parallel(lambda name: _entry(home.root / name), names), strict=True))


def _entry(path: Path) -> Entry:
    return Entry(file_hash(path), path.stat().st_size)


@contextmanager
def _portable_state(home: Home, store: ObjectStore, sent: Mapping[str, str]) -> Iterator[Path | None]:
    """The state of ingest with the stamps of the store's objects, so that no usage log is read again; None without."""
    state = read_state(home)
    if state is None:
        yield None
        return
    marks = {each.key: each for each in store.objects(f"{LANDING}/usage")}
    stamps: dict[str, tuple[int, ...]] = {}
    for file in delivered_files(home, None).files:
        below = str(file.place.relative_to(home.landing))
        known = state.days[file.day].files.get(file.name) if file.day in state.days else None
        each = marks.get(f"{LANDING}/{below}")
        if each is not None and known is not None and sent.get(below) == known.sha256:
            remote = RemoteFile(store.url, each.key, each.size, each.mark, home.lake)
            stamps[delivery_label(file.day, file.name)] = remote.stamp
    with temporary_folder(_SCRATCH) as folder:
        write_state(Home(folder), replace(state, stamps=stamps))
        yield state_path(Home(folder))


def _send_files(
    store: ObjectStore, entries: Mapping[str, Entry], paths: Mapping[str, Path], objects: Mapping[str, bytes]
) -> None:
    def send(name: str) -> None:
        key = _key(name, entries[name])
        is_new = store.put_new(key, paths[name])
        if not is_new and name.startswith(DOCUMENTS) and store.digest(key) != entries[name].sha256:
            raise RefusedError(f"{store.url}/{key}: found another document of this name: nothing is overwritten")

    in_parallel(send, entries)
    in_parallel(lambda name: store.put_new(object_key(name), objects[name]), objects)


def _require_same(store: ObjectStore, expected: Mapping[str, str]) -> None:
    """Read objects back and compare their bytes."""
    for key, found in zip(expected, in_parallel(store.digest, expected), strict=True):
        if found != expected[key]:
            raise InterruptedRunError(f"{store.url}/{key}: found other bytes than were sent: delete it and run again")


def _key(name: str, entry: Entry) -> str:
    return name if name.startswith(DOCUMENTS) else object_key(entry.sha256)


def _object(store: ObjectStore, name: str) -> bytes:
    found = store.get(object_key(name))
    if found is None or hashlib.sha256(found[0]).hexdigest() != name:
        raise InterruptedRunError(f"{store.url}/{object_key(name)}: the object is lost or damaged: restore it")
    return found[0]


def _receive(store: ObjectStore, path: Path, key: str, sha256: str) -> None:
    """Download a file unless it is here already."""
    if not path.exists() or file_hash(path) != sha256:
        store.fetch(key, path)


def _receive_input(store: ObjectStore, path: Path, key: str) -> None:
    if (not path.exists() or file_hash(path) != store.digest(key)) and store.fetch(key, path) != file_hash(path):
        raise InterruptedRunError(f"{path}: found other bytes than were received: run again")


def _is_folder(name: str, inputs: Mapping[str, Any]) -> bool:
    """Whether an empty object stands for a folder, as consoles of stores make them."""
    return inputs[name].size == 0 and any(other.startswith(f"{name}/") for other in inputs)


def _leave(store: ObjectStore, manifest: Mapping[str, Any], version: Version, target: str) -> None:
    """Let the manifest say where the home is now."""
    if MOVED_TO not in manifest:
        content = manifest_content(manifest["tree"], manifest["generation"] + 1, **{MOVED_TO: target})
        store.replace(MANIFEST, content, version)


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _moved(entries: Mapping[str, Entry], inputs: Mapping[str, int], register: int | None) -> Moved:
    documents = sum(name.startswith(DOCUMENTS) for name in entries)
    size = sum(entry.size for entry in entries.values()) + sum(inputs.values())
    return Moved(len(inputs), documents, len(entries) - documents, size, register)
