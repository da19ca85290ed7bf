"""An S3 server on loopback for the tests, and faults of it: it fails for a while, is slow, or drops a connection."""

import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import Any

from moto.moto_server.werkzeug_app import create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import BaseWSGIServer, make_server

_HEADERS = {
    "Content-Type": "application/octet-stream",
    # A signature: the server does not check it, but refuses requests without one.
    "Authorization": "AWS4-HMAC-SHA256 Credential=example/20260101/us-east-1/s3/aws4_request",
}

Environ = dict[str, Any]
Answer = Iterable[bytes]
Fault = Callable[[Environ, Callable[..., Any], Callable[[], Answer]], Answer]


_numbers = count(1)


class ObjectStore:
    """A server of S3, with its objects in memory.

    Attributes
    ----------
    requests
        Method and path of every request that arrived.
    fault
        Answers requests instead of the server; None for a server that is well.
    """

    def __init__(self) -> None:
        self._app = create_backend_app("s3")
        self._server: BaseWSGIServer = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.requests: list[tuple[str, str]] = []
        self.fault: Fault | None = None
        # moto checks a condition and writes in two steps: serialize writes
        self._writing = threading.Lock()

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["ObjectStore"]:
        """A new server."""
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        store = cls()
        thread = threading.Thread(target=store._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield store
        finally:
            store._server.shutdown()
            thread.join()
            store._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a client finds it."""
        return {
            "AWS_ACCESS_KEY_ID": "example",
            "AWS_SECRET_ACCESS_KEY": "example",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
        }

    def new_bucket(self) -> str:
        """The name of a new, empty bucket."""
        # all servers of a process have the same buckets
        name = f"bucket-{next(_numbers)}"
        self._request("PUT", name)
        return name

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Write an object as others do."""
        self._request("PUT", f"{bucket}/{key}", content)

    def copy_of(self, bucket: str) -> str:
        """The name of a new bucket with the same objects."""
        name = self.new_bucket()
        for key, content in self.contents(bucket).items():
            s3_backends["123456789012"]["aws"].put_object(name, key, content)
        return name

    def get(self, bucket: str, key: str) -> bytes:
        """The bytes of an object."""
        return self._request("GET", f"{bucket}/{key}")

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self._request("DELETE", f"{bucket}/{key}")

    def contents(self, bucket: str) -> dict[str, bytes]:
        """Every object of a bucket, by key."""
        keys = s3_backends["123456789012"]["aws"].buckets[bucket].keys
        return {str(key.name): bytes(key.value) for key in keys.values()}

    def _request(self, method: str, path: str, content: bytes | None = None) -> bytes:
        url = f"{self.environment['AWS_ENDPOINT_URL']}/{path}"
        # The server is this process's own, on loopback.
        with urllib.request.urlopen(urllib.request.Request(url, content, _HEADERS, method=method)) as answer:  # noqa: S310
            return bytes(answer.read())

    def _answer(self, environ: Environ, start: Callable[..., Any]) -> Answer:
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))

        def well() -> Answer:
            writes = environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE")
            with self._writing if writes else nullcontext():
                found: Answer = self._app(environ, start)
                return found

        return well() if self.fault is None else self.fault(environ, start, well)


def failing(times: int, *, method: str = "", path: str = "", status: str = "503 Slow Down") -> Fault:
    """A server that fails at the next requests of a method whose path has a text, then is well again."""
    left = [times]

    def fault(environ: Environ, start: Callable[..., Any], well: Callable[[], Answer]) -> Answer:
        if left[0] and method in environ["REQUEST_METHOD"] and path in environ["PATH_INFO"]:
            left[0] -= 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start(status, [("Content-Type", "text/plain")])
            return [b"slow down"]
        return well()

    return fault


def slow(seconds: float) -> Fault:
    """A server that lets every request wait."""

    def fault(_: Environ, __: Callable[..., Any], well: Callable[[], Answer]) -> Answer:
        time.sleep(seconds)
        return well()

    return fault


def dropping(times: int, path: str) -> Fault:
    """A server that ends the connection in the middle of the next answers to GET."""
    left = [times]

    def fault(environ: Environ, _: Callable[..., Any], well: Callable[[], Answer]) -> Answer:
        if not left[0] or environ["REQUEST_METHOD"] != "GET" or path not in environ["PATH_INFO"]:
            return well()
        left[0] -= 1

        def half() -> Iterator[bytes]:
            content = b"".join(well())
            yield content[: len(content) // 2]
            raise ConnectionAbortedError

        return half()

    return fault
