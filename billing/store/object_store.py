"""Object store: objects of a bucket below a prefix, with conditional puts and errors in words (obstore).

Credentials and endpoint come from the usual variables of each store (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, GOOGLE_*,
AZURE_*), which the client reads itself.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from billing.model.errors import InterruptedRunError, RefusedError
from billing.store.files import SCRATCH_PREFIX

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

SCHEMES: Final = ("s3", "gs", "az")
PATIENCE: Final[dict[str, timedelta]] = {
    "connect": timedelta(seconds=5),
    "stall": timedelta(seconds=60),
    "request": timedelta(minutes=15),
    "retries": timedelta(minutes=3),
}
"""How long to wait: for a connection, for the next bytes, for one request, and for a store that fails for a while."""

_MOST_RETRIES: Final = 12
_MOST_PUTS: Final = 4
_FIRST_PAUSE: Final = 0.2
IN_ONE_PUT: Final = 32 * 1024 * 1024
"""The size in bytes up to which a file is uploaded in one request, from memory."""
_CHUNK: Final = 4 * 1024 * 1024
_DELETED_AT_ONCE: Final = 1_000

Result = TypeVar("Result")


class StoreError(InterruptedRunError):
    """The store cannot be used: its URL, what went wrong, and what to set."""


class LostRaceError(InterruptedRunError):
    """A conditional put lost: another process has written the object."""


@dataclass(frozen=True)
class Version:
    """The version of an object that a conditional put replaces."""

    e_tag: str | None
    version: str | None


@dataclass(frozen=True)
class Object:
    """An object as the store lists it; `mark` changes whenever its bytes do."""

    key: str
    size: int
    mark: str


def is_url(text: str) -> bool:
    """Whether a home is named by a URL, and not by a folder."""
    return "://" in text


def checked_url(text: str) -> str:
    """The URL of a home in a store, without a slash at its end.

    Raises
    ------
    RefusedError
        When it is none, or has a user, a query or a fragment.
    """
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        found = "a URL with a user, a query or a fragment" if "@" in text or "?" in text else repr(text)
        raise RefusedError(
            f"--home: found {found}, expected a folder, or a store such as s3://bucket/prefix, gs://bucket/prefix or "
            "az://container/prefix (credentials belong in the environment)"
        )
    steps = [step for step in parts.path.split("/") if step]
    if any(step in (".", "..") for step in steps):
        raise RefusedError(f"--home: found {text!r}, expected a prefix without . and ..")
    return "/".join([f"{parts.scheme}://{parts.netloc}", *steps])


class ObjectStore:
    """The objects below the prefix of a URL."""

    def __init__(self, url: str) -> None:
        self.url = checked_url(url)
        self._opened: Any = None

    def get(self, key: str, unless: str | None = None) -> tuple[bytes, Version] | None:
        """The bytes and the version of an object; None when there is none. No bytes when its tag is still `unless`."""
        import obstore

        def read() -> tuple[bytes, Version] | None:
            try:
                found = obstore.get(self._store, key, options={"if_none_match": unless} if unless else {})
                meta = found.meta
                return bytes(found.bytes()), Version(meta["e_tag"], meta["version"])
            except obstore.exceptions.NotModifiedError:
                return b"", Version(unless, None)
            except FileNotFoundError as error:
                self._refuse_missing_bucket(error)
                return None

        return self._in_words("read", key, read)

    def size(self, key: str) -> int | None:
        """The size of an object in bytes; None when there is none."""
        import obstore

        def look() -> int | None:
            try:
                return int(obstore.head(self._store, key)["size"])
            except FileNotFoundError:
                # A response to HEAD has no body: it does not tell a missing bucket from a missing object.
                return None

        return self._in_words("read", key, look)

    def fetch(self, key: str, path: Path, *, mark: str | None = None) -> str:
        """Download an object into a file, which appears whole or not at all; returns the SHA-256 of its bytes.

        Parameters
        ----------
        mark
            Of `objects`: the version that is expected.

        Raises
        ------
        FileNotFoundError
            When there is no such object.
        LostRaceError
            When the object has changed since it was listed.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f"{SCRATCH_PREFIX}{os.getpid()}-{threading.get_ident()}")

        def read() -> str:
            with scratch.open("wb") as file:
                return self._stream(key, file.write, mark)

        try:
            sha256 = self._in_words("read", key, lambda: _again(read))
            scratch.replace(path)
            return sha256
        finally:
            scratch.unlink(missing_ok=True)

    def digest(self, key: str) -> str:
        """The SHA-256 of an object's bytes, read back from the store.

        Raises
        ------
        FileNotFoundError
            When there is no such object.
        """
        return self._in_words("read", key, lambda: _again(lambda: self._stream(key, len, None)))

    def _stream(self, key: str, write: Callable[[bytes], object], mark: str | None) -> str:
        """Read an object in chunks; returns the SHA-256 of its bytes."""
        import obstore

        digest, size = hashlib.sha256(), 0
        try:
            found = obstore.get(self._store, key)
            if mark is not None and _mark(found.meta) != mark:
                raise LostRaceError(f"{self.url}/{key} was changed while it was read: run again")
            for chunk in found.stream(min_chunk_size=_CHUNK):
                digest.update(chunk)
                write(bytes(chunk))
                size += len(chunk)
        except FileNotFoundError as error:
            self._refuse_missing_bucket(error)
            raise FileNotFoundError(2, "the object does not exist", f"{self.url}/{key}") from error
        if size != found.meta["size"]:
            raise obstore.exceptions.GenericError(f"{size} of {found.meta['size']} bytes arrived")
        return digest.hexdigest()

    def put_new(self, key: str, content: bytes | Path) -> bool:
        """Create an object; returns False, and leaves it as it is, when it exists already.

        A file beyond the size of one request is uploaded in parts, and then replaces an object that appeared meanwhile:
        its key must name its content.
        """
        import obstore

        def create() -> bool:
            data, options = content, {"mode": "create", "use_multipart": False}
            if isinstance(content, Path) and content.stat().st_size > IN_ONE_PUT:
                if self.size(key) == content.stat().st_size:
                    return False
                options = {}
            elif isinstance(content, Path):
                data = content.read_bytes()
            try:
                obstore.put(self._store, key, data, **options)  # type: ignore[arg-type]
            except obstore.exceptions.AlreadyExistsError:
                # S3 answers so to writers at the same time, too, of which all may fail.
                if self.size(key) is None:
                    raise obstore.exceptions.GenericError(f"another writer of {key} has failed") from None
                return False
            return True

        return self._in_words("written", key, lambda: _again(create))

    def replace(self, key: str, content: bytes, expected: Version | None) -> Version:
        """Replace an object if it still has the expected version; None expects that there is none.

        A put whose answer was lost counts if the object has exactly these bytes.

        Raises
        ------
        LostRaceError
            When another process has written it since.
        """
        import obstore

        refused = (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError)
        mode: Any = "create"
        if expected is not None:
            mode = {name: value for name, value in vars(expected).items() if value is not None}

        def put() -> Version:
            try:
                found = obstore.put(self._store, key, content, mode=mode, use_multipart=False)
            except (*refused, FileNotFoundError) as error:
                self._refuse_missing_bucket(error)
                there = self.get(key)
                if there is not None and there[0] == content:
                    return there[1]
                raise LostRaceError(f"{self.url}/{key}: another process has written it") from error
            return Version(found["e_tag"], found["version"])

        return self._in_words("written", key, lambda: _again(put))

    def overwrite(self, key: str, content: bytes) -> None:
        """Write an object, whatever there is."""
        import obstore

        self._in_words("written", key, lambda: obstore.put(self._store, key, content))

    def objects(self, prefix: str) -> Iterator[Object]:
        """The objects below a folder of the prefix, in no order; keys are relative to the URL."""
        import obstore

        def pages() -> Iterator[Any]:
            return iter(obstore.list(self._store, prefix, chunk_size=1000))

        listing = self._in_words("listed", prefix, pages)
        while (page := self._in_words("listed", prefix, lambda: next(listing, None))) is not None:
            for meta in page:
                yield Object(meta["path"], meta["size"], _mark(meta))

    def folder(self, prefix: str) -> tuple[list[Object], list[str]]:
        """The objects in a folder of the prefix, and the folders in it."""
        import obstore

        found = self._in_words("listed", prefix, lambda: obstore.list_with_delimiter(self._store, prefix))
        objects = [Object(meta["path"], meta["size"], _mark(meta)) for meta in found["objects"]]
        return objects, [str(folder).rstrip("/") for folder in found["common_prefixes"]]

    def delete_all(self, keys: Sequence[str]) -> None:
        """Delete many objects, of which some may be missing."""
        import obstore

        for start in range(0, len(keys), _DELETED_AT_ONCE):
            some = list(keys[start : start + _DELETED_AT_ONCE])
            try:
                self._in_words("deleted", some[0], lambda: obstore.delete(self._store, some))  # noqa: B023 # used at once
            except FileNotFoundError:
                # Unlike S3, Google's store and Azure's stop at an object that is gone.
                for key in some:
                    self.delete(key)

    def delete(self, key: str) -> None:
        """Delete an object, which may be missing."""
        import obstore

        def remove() -> None:
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                return

        self._in_words("deleted", key, remove)

    @property
    def _store(self) -> Any:
        if self._opened is None:
            from obstore.store import from_url

            client: ClientConfig = {
                "allow_http": True,
                "connect_timeout": PATIENCE["connect"],
                "read_timeout": PATIENCE["stall"],
                "timeout": PATIENCE["request"],
            }
            retries: RetryConfig = {"max_retries": _MOST_RETRIES, "retry_timeout": PATIENCE["retries"]}
            self._opened = from_url(self.url, client_options=client, retry_config=retries)
        return self._opened

    def _in_words(self, what: str, key: str, work: Callable[[], Result]) -> Result:
        """Do the work; convert an error of the client to one that names the URL and what to set.

        Raises
        ------
        StoreError
            When the store cannot be used.
        """
        import obstore

        try:
            return work()
        except obstore.exceptions.BaseError as error:
            raise StoreError(f"{self.url}: {key} cannot be {what}: {_reason(self.url, error)}") from error
        except FileNotFoundError as error:
            self._refuse_missing_bucket(error)
            raise

    def _refuse_missing_bucket(self, error: BaseException) -> None:
        if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
            raise StoreError(f"{self.url}: {_missing_bucket(self.url)}") from error


def _reason(url: str, error: BaseException) -> str:
    """Why a request failed, in words, and what to set."""
    text = str(error).partition("\n\nDebug source")[0]
    if "NoSuchBucket" in text or "ContainerNotFound" in text or "bucket does not exist" in text:
        return _missing_bucket(url)
    scheme = urlsplit(url).scheme
    credentials = {
        "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL where "
        "they are needed)",
        "gs": "GOOGLE_SERVICE_ACCOUNT (the path of a key file) or GOOGLE_APPLICATION_CREDENTIALS",
        "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or AZURE_CLIENT_ID, AZURE_TENANT_ID and "
        "AZURE_CLIENT_SECRET)",
    }[scheme]
    # Without credentials the client asks the machine that it runs on for some.
    if any(word in text for word in ("169.254.", "/latest/", "metadata.google", "token request", "Account must be")):
        return f"no credentials were found ({_first(text)}): set {credentials}"
    names = ("PermissionDeniedError", "UnauthenticatedError")
    if type(error).__name__ in names or "403 Forbidden" in text or "401 Unauthorized" in text:
        return f"the store refuses these credentials ({_first(text)}): check {credentials}, and the bucket's policy"
    if "Server returned" in text and "50" in text:
        return f"the store fails ({_first(text)}): it was tried again for {PATIENCE['retries'].total_seconds():g} s"
    endpoint = {"s3": "AWS_ENDPOINT_URL", "gs": "the network", "az": "AZURE_STORAGE_ENDPOINT"}[scheme]
    return f"the store does not answer, or not in time ({_first(text)}): check {endpoint}, then run again"


def _missing_bucket(url: str) -> str:
    bucket = urlsplit(url).netloc
    return f"there is no bucket {bucket!r}: make it, or check the URL, AWS_REGION and AWS_ENDPOINT_URL"


def _first(text: str) -> str:
    """The first words of an error of the client; it quotes neither keys nor signatures."""
    words = " ".join(text.split("<?xml")[0].split())
    return words if len(words) <= 300 else f"{words[:300]}..."


def _again(work: Callable[[], Result]) -> Result:
    """Do the work again after a lost connection: the client repeats only what cannot write twice."""
    import obstore

    for attempt in range(_MOST_PUTS):
        try:
            return work()
        except obstore.exceptions.GenericError as error:
            if attempt == _MOST_PUTS - 1 or "Server returned" in str(error):
                raise
        time.sleep(_FIRST_PAUSE * 4**attempt)
    raise AssertionError  # The last attempt returns or raises.


def _mark(meta: Any) -> str:
    """What changes whenever the bytes of an object do: its entity tag, else its time."""
    return str(meta["e_tag"] or meta["last_modified"].isoformat())
