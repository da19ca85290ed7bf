"""Cross-site request protection for Dagster's web app.

A browser sends requests to the UI's address on behalf of any open page. Dagster's app checks neither origin nor content
type, and would launch or delete runs.
"""

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers, QueryParams
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_READS: Final = ("GET", "HEAD", "OPTIONS")
_OWN: Final = ("same-origin", "none")


class SameOriginMiddleware:
    """Rejects cross-origin requests over HTTP and web sockets; links to pages are allowed.

    Parameters
    ----------
    address
        Public address of the UI (OVERAGE_UI_URL), when it differs from the address it listens on.
    """

    def __init__(self, app: ASGIApp, address: str = "") -> None:
        self.app = app
        self._address = urlsplit(address.rstrip("/").lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or reject it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refused = self._refused(scope)
        if not refused:
            await self.app(scope, receive, _without_frames(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refused[1]})
        else:
            await PlainTextResponse(f"refused: {refused[1]}\n", refused[0])(scope, receive, send)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        method = scope.get("method", "GET")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and origin.lower() not in self._own_origins(headers.get("host", "")):
            return 403, "the request comes from a page of another origin"
        follows_link = (
            scope["type"] == "http"
            and method == "GET"
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
        )
        if origin is None and site is not None and site not in _OWN and not follows_link:
            return 403, "the request comes from a page of another origin"
        if scope["type"] == "http" and method not in _READS:
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                return 415, "expected a request of content type application/json"
        if method in _READS and _changes(scope):
            return 405, "a request that changes something has to be a POST"
        return None

    def _own_origins(self, host: str) -> Iterable[str]:
        host = host.lower()
        if self._address.netloc and host == self._address.netloc:
            return (f"{self._address.scheme}://{self._address.netloc}",)
        own = [f"http://{host}", f"https://{host}"]
        # Also allow the public address: a proxy may not forward the Host header.
        return [*own, f"{self._address.scheme}://{self._address.netloc}"] if self._address.netloc else own


def _changes(scope: Scope) -> bool:
    """Whether the GraphQL query in a URL is a mutation."""
    query = QueryParams(scope.get("query_string", b"")).get("query")
    if query is None or scope["type"] != "http":
        return False
    try:
        found = parse(query, no_location=True).definitions
    except (GraphQLError, RecursionError):
        # An invalid query: Dagster reports the error and executes nothing.
        return False
    return any(isinstance(each, OperationDefinitionNode) and each.operation != OperationType.QUERY for each in found)


def _without_frames(send: Send) -> Send:
    """Forbid framing of the pages, against clickjacking."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message.get("headers", []),
                (b"x-frame-options", b"DENY"),
                (b"cross-origin-resource-policy", b"same-origin"),
            ]
        await send(message)

    return sent
