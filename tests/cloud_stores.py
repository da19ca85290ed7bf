"""Stores of Google and Azure on loopback for the tests: what their documents say of the requests that we make."""

import json
import logging
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from urllib.parse import unquote
from xml.sax.saxutils import escape

from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

_MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"
_PAGE = 3
"""Objects of a page of a listing: few, so that tests meet a second page."""


class Blobs:
    """Containers of objects in memory; every write gives an object the next generation."""

    def __init__(self, containers: Iterable[str]) -> None:
        self.containers: dict[str, dict[str, tuple[bytes, int]]] = {name: {} for name in containers}
        self.parts: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self._generation = 1_000

    def write(self, container: str, key: str, content: bytes) -> int:
        """Write an object; returns its generation."""
        self._generation += 1
        self.containers[container][key] = (content, self._generation)
        return self._generation


def _read(request: Request, found: tuple[bytes, int] | None, missing: Response, names: dict[str, str]) -> Response:
    """Answer GET and HEAD of an object."""
    if found is None:
        return missing
    content, generation = found
    headers = {"ETag": _tag(generation), "Last-Modified": _MODIFIED}
    headers |= {name: value.format(generation) for name, value in names.items()}
    if request.headers.get("If-None-Match") == _tag(generation):
        return Response(status=304, headers=headers)
    return Response(content, headers=headers)


def _page(keys: Iterable[str], request: Request, after: str) -> tuple[list[str], list[str], str]:
    """The objects and the folders of a page of a listing, and where the next one begins."""
    prefix, delimiter = request.args.get("prefix", ""), request.args.get("delimiter", "")
    entries = set()
    for key in keys:
        if key.startswith(prefix):
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key[len(prefix) :], "", "")
            entries.add(prefix + head + found)
    names = sorted(name for name in entries if name > after)
    page, rest = names[:_PAGE], names[_PAGE:]
    folders = [name for name in page if delimiter and name.endswith(delimiter)]
    return [name for name in page if name not in folders], folders, page[-1] if rest else ""


def _tag(generation: int) -> str:
    return f'"tag-{generation}"'


def google(blobs: Blobs, request: Request) -> Response:
    """Answer a request to the XML interface of Google Cloud Storage."""
    container, _, key = request.path.lstrip("/").partition("/")
    if container not in blobs.containers:
        return Response("<Error><Code>NoSuchBucket</Code></Error>", 404)
    objects = blobs.containers[container]
    if not key:
        return _google_listing(blobs.containers[container], request)
    found = objects.get(key)
    missing = Response("<Error><Code>NoSuchKey</Code></Error>", 404)
    expected = request.headers.get("x-goog-if-generation-match")
    if request.method in ("GET", "HEAD"):
        return _read(request, found, missing, {"x-goog-generation": "{}"})
    if expected is not None and int(expected) != (found[1] if found else 0):
        return Response("<Error><Code>PreconditionFailed</Code></Error>", 412)
    if request.method == "DELETE":
        return missing if objects.pop(key, None) is None else Response(status=204)
    if request.method == "POST" and "uploads" in request.args:
        blobs.parts.clear()
        return Response("<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>")
    if "partNumber" in request.args:
        blobs.parts[request.args["partNumber"]] = request.data
        return Response(headers={"ETag": f'"part-{request.args["partNumber"]}"'})
    if request.method == "POST":
        numbers = re.findall(r"<PartNumber>(\d+)</PartNumber>", request.data.decode())
        generation = blobs.write(container, key, b"".join(blobs.parts[number] for number in numbers))
        answer = f"<CompleteMultipartUploadResult><ETag>{_tag(generation)}</ETag></CompleteMultipartUploadResult>"
        return Response(answer, headers={"x-goog-generation": str(generation)})
    generation = blobs.write(container, key, request.data)
    return Response(headers={"ETag": _tag(generation), "x-goog-generation": str(generation)})


def _google_listing(objects: dict[str, tuple[bytes, int]], request: Request) -> Response:
    names, folders, after = _page(objects, request, request.args.get("continuation-token", ""))
    body = "".join(
        f"<Contents><Key>{escape(name)}</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
        f"<Size>{len(objects[name][0])}</Size><ETag>{escape(_tag(objects[name][1]))}</ETag></Contents>"
        for name in names
    )
    body += "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders)
    body += f"<NextContinuationToken>{escape(after)}</NextContinuationToken>" if after else ""
    return Response(f"<ListBucketResult>{body}</ListBucketResult>")


def azure(blobs: Blobs, request: Request) -> Response:
    """Answer a request to Azure's blob service."""
    container, _, key = request.path.lstrip("/").partition("/")
    if container not in blobs.containers:
        return Response("<Error><Code>ContainerNotFound</Code></Error>", 404)
    objects = blobs.containers[container]
    if not key and request.args["comp"] == "batch":
        return _azure_deletions(objects, request)
    if not key:
        return _azure_listing(objects, request)
    found = objects.get(key)
    missing = Response("<Error><Code>BlobNotFound</Code></Error>", 404)
    if request.method in ("GET", "HEAD"):
        return _read(request, found, missing, {"x-ms-creation-time": _MODIFIED})
    if request.headers.get("If-None-Match") == "*" and found is not None:
        return Response("<Error><Code>BlobAlreadyExists</Code></Error>", 409)
    if "If-Match" in request.headers and request.headers["If-Match"] != (_tag(found[1]) if found else None):
        return Response("<Error><Code>ConditionNotMet</Code></Error>", 412)
    if request.method == "DELETE":
        return missing if objects.pop(key, None) is None else Response(status=202)
    content = request.data
    if request.args.get("comp") == "block":
        blobs.parts[request.args["blockid"]] = content
        return Response(status=201)
    if request.args.get("comp") == "blocklist":
        content = b"".join(blobs.parts[block] for block in re.findall(r"<\w+>([\w+/=]+)</", content.decode()))
    generation = blobs.write(container, key, content)
    return Response(status=201, headers={"ETag": _tag(generation), "Last-Modified": _MODIFIED})


def _azure_listing(objects: dict[str, tuple[bytes, int]], request: Request) -> Response:
    names, folders, after = _page(objects, request, request.args.get("marker", ""))
    body = "".join(
        f"<Blob><Name>{escape(name)}</Name><Properties><Creation-Time>{_MODIFIED}</Creation-Time>"
        f"<Last-Modified>{_MODIFIED}</Last-Modified><Content-Length>{len(objects[name][0])}</Content-Length>"
        f"<Content-Type>text/plain</Content-Type><Etag>{escape(_tag(objects[name][1]))}</Etag></Properties></Blob>"
        for name in names
    )
    body += "".join(f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>" for name in folders)
    return Response(
        f"<EnumerationResults><Blobs>{body}</Blobs><NextMarker>{escape(after)}</NextMarker></EnumerationResults>"
    )


def _azure_deletions(objects: dict[str, tuple[bytes, int]], request: Request) -> Response:
    """Delete what each part of a batch names."""
    header = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    answers = []
    for part in message_from_bytes(header + request.data).walk():
        if part.get_content_type() != "application/http":
            continue
        path = str(part.get_payload()).split()[1]
        gone = objects.pop(unquote(path.split("/", 2)[2].partition("?")[0]), None)
        status = "202 Accepted" if gone else "404 The specified blob does not exist."
        error = "" if gone else "x-ms-error-code: BlobNotFound\r\n"
        answers.append(
            f"--batch\r\nContent-Type: application/http\r\nContent-ID: {part['Content-ID']}\r\n\r\n"
            f"HTTP/1.1 {status}\r\n{error}x-ms-version: 2023-11-03\r\n\r\n\r\n"
        )
    return Response(
        "".join(answers) + "--batch--\r\n", 202, headers={"Content-Type": "multipart/mixed; boundary=batch"}
    )


@contextmanager
def running(
    answer: Callable[[Blobs, Request], Response], containers: Iterable[str]
) -> Iterator[tuple[Blobs, dict[str, str]]]:
    """A server of `google` or `azure`: its objects, and the variables by which a client finds it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    blobs = Blobs(containers)

    @Request.application
    def app(request: Request) -> Response:
        with blobs.lock:
            return answer(blobs, request)

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    key = {"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    try:
        yield (
            blobs,
            {
                "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(key),
                "AZURE_STORAGE_ACCOUNT_NAME": "example",
                "AZURE_STORAGE_ACCOUNT_KEY": b64encode(b"key").decode(),
                "AZURE_STORAGE_ENDPOINT": url,
            },
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
