"""Guarantees that a home needs of its object store, each tried on the store itself."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from billing.store.object_store import LostRaceError, ObjectStore, StoreError, Version

_AT_ONCE = 8


@dataclass(frozen=True)
class Guarantee:
    """What was tried, whether the store keeps it, and what it answered otherwise."""

    name: str
    holds: bool
    found: str = ""


def tried_guarantees(store: ObjectStore, folder: str) -> list[Guarantee]:
    """Try every guarantee with objects below a folder of the store, which are deleted at the end.

    Raises
    ------
    StoreError
        When the store cannot be written at all.
    """
    key = f"{folder}/object"
    try:
        store.overwrite(f"{folder}/first", b"1")
        return [
            _tried("an object that was written is read at once", lambda: _read_after_write(store, key)),
            _tried("an object is created only where there is none (If-None-Match)", lambda: _created_once(store, key)),
            _tried(
                f"of {_AT_ONCE} writers that create the same object at once, one wins",
                lambda: _one_of_many(store, f"{folder}/created", None),
            ),
            _tried("an object is replaced only if it is unchanged (If-Match)", lambda: _replaced_if_same(store, key)),
            _tried(
                f"of {_AT_ONCE} writers that replace the same object at once, one wins",
                lambda: _one_of_many(store, key, _version(store, key)),
            ),
            _tried("a new object is listed at once", lambda: _listed(store, f"{folder}/listed", folder)),
            _tried("a deleted object is gone at once", lambda: _deleted(store, key)),
        ]
    finally:
        _remove(store, folder)


def _tried(name: str, test: Callable[[], str]) -> Guarantee:
    try:
        found = test()
    except (StoreError, LostRaceError, FileNotFoundError) as error:
        found = str(error)
    return Guarantee(name, not found, found)


def _read_after_write(store: ObjectStore, key: str) -> str:
    for content in (b"one", b"two"):
        store.overwrite(key, content)
        found = store.get(key)
        if found is None or found[0] != content:
            return f"found {found[0] if found else None!r}, expected {content!r}"
    return ""


def _created_once(store: ObjectStore, key: str) -> str:
    if store.put_new(key, b"other") or _content(store, key) == b"other":
        return "the store has overwritten an object that was there"
    return ""


def _replaced_if_same(store: ObjectStore, key: str) -> str:
    before = _version(store, key)
    store.replace(key, b"three", before)
    try:
        store.replace(key, b"four", before)
    except LostRaceError:
        return "" if _content(store, key) == b"three" else "the store has refused the put, and done it"
    return "the store has replaced an object that had changed"


def _one_of_many(store: ObjectStore, key: str, version: Version | None) -> str:
    def put(content: bytes) -> bytes | None:
        try:
            store.replace(key, content, version)
        except LostRaceError:
            return None
        return content

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        done = list(pool.map(put, (f"writer {each}".encode() for each in range(_AT_ONCE))))
    won = [content for content in done if content is not None]
    if len(won) != 1:
        return f"{len(won)} of them were told that they had"
    return "" if _content(store, key) == won[0] else "another one's bytes are there"


def _listed(store: ObjectStore, key: str, folder: str) -> str:
    store.put_new(key, b"1")
    return "" if key in {found.key for found in store.objects(folder)} else "the listing lacks it"


def _deleted(store: ObjectStore, key: str) -> str:
    store.delete(key)
    return "" if store.get(key) is None else "it can still be read"


def _version(store: ObjectStore, key: str) -> Version:
    found = store.get(key)
    if found is None:
        raise FileNotFoundError(key)
    return found[1]


def _content(store: ObjectStore, key: str) -> bytes | None:
    found = store.get(key)
    return found[0] if found else None


def _remove(store: ObjectStore, folder: str) -> None:
    try:
        for found in list(store.objects(folder)):
            store.delete(found.key)
    except StoreError:
        # What could not be used is reported by the tests above.
        return
