"""A page of another origin commands nothing, and who has to log in does so before anything is shown."""

import asyncio
import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from billing.model.errors import RefusedError
from billing.store.home import Home
from pipeline.web_users import Login, new_user, read_users
from pipeline.webserver import guarded

LAUNCH = "mutation { launchRun(executionParams: {}) { __typename } }"
LOOK = "{ version }"
JSON = {"content-type": "application/json"}


class Asked:
    """What reached the app behind the guard, and what was answered."""

    def __init__(self, root: Path, **environment: str) -> None:
        self.reached = 0
        self.app = guarded(self._answer, Home(root), "127.0.0.1", environment)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached += 1
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"reached"})

    def __call__(
        self,
        method: str = "GET",
        path: str = "/graphql",
        query: Any = None,
        kind: str = "http",
        **headers: Any,
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status (101: the web socket was opened, 403: it was not), body and headers of an answer."""
        given = {"host": "localhost:3000"} | {name.replace("_", "-"): value for name, value in headers.items()}
        scope: dict[str, Any] = {
            "type": kind,
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": urlencode(query or {}).encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 3000),
            "http_version": "1.1",
        }
        if kind == "websocket":
            del scope["method"]
            scope["subprotocols"] = ["graphql-ws"]
        sent: list[Message] = []

        received: list[Message] = [
            {"type": "websocket.connect"} if kind == "websocket" else {"type": "http.request", "body": b"{}"}
        ]

        async def receive() -> Message:
            # whoever asked stays until the answer is there
            return received.pop() if received else await asyncio.Future()

        async def send(message: Message) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        if kind == "websocket":
            return 101 if sent[0]["type"] == "websocket.accept" else 403, b"", {}
        body = b"".join(message.get("body", b"") for message in sent[1:])
        answered = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], body, answered


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


OWN = {"origin": "http://localhost:3000", "sec_fetch_site": "same-origin"}
OTHERS = [
    {"origin": "https://evil.example.com"},
    {"origin": "http://localhost:8000"},
    {"origin": "http://localhost"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://localhost:3000.evil.example.com"},
    {"origin": "http://127.0.0.1:3000"},
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
    {"sec_fetch_site": "anything else"},
    {"origin": "https://evil.example.com", "sec_fetch_site": "same-origin"},
]


@pytest.mark.parametrize("headers", OTHERS, ids=map(str, OTHERS))
def test_what_a_page_of_another_origin_asks_for_is_refused(asked: Asked, headers: Mapping[str, str]) -> None:
    assert asked("POST", **JSON, **headers)[0] == 403
    assert asked("POST", path="/report_asset_materialization/drafts", **JSON, **headers)[0] == 403
    assert asked("GET", query={"query": LOOK}, **headers)[0] == 403
    assert asked(kind="websocket", **headers)[0] == 403
    assert asked.reached == 0


@pytest.mark.parametrize("headers", [OWN, {}, {"sec_fetch_site": "none"}], ids=str)
def test_the_own_pages_and_programs_may_ask(asked: Asked, headers: Mapping[str, str]) -> None:
    assert asked("POST", **JSON, **headers)[0] == 200
    assert asked("GET", query={"query": LOOK}, **headers)[0] == 200
    assert asked(kind="websocket", **headers)[0] == 101
    assert asked.reached == 3


def test_a_link_from_elsewhere_leads_to_a_page_and_to_no_frame(asked: Asked) -> None:
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    status, _, headers = asked("GET", path="/runs/1", **link)
    assert (status, headers["x-frame-options"]) == (200, "DENY")
    assert asked("GET", path="/runs/1", **link | {"sec_fetch_dest": "iframe"})[0] == 403
    assert asked("POST", path="/graphql", **JSON, **link)[0] == 403
    assert asked("GET", path="/graphql", query={"query": LAUNCH}, **link)[0] == 405


@pytest.mark.parametrize(
    "query",
    [LAUNCH, "query A { version } " + LAUNCH, "# {\n" + LAUNCH, "subscription { x }", "\ufeff" + LAUNCH],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_is_changed_by_reading(asked: Asked, method: str, query: str) -> None:
    assert asked(method, query={"query": query}, **OWN)[0] == 405
    assert asked.reached == 0


def test_a_query_that_is_no_query_is_left_to_dagster(asked: Asked) -> None:
    assert asked(query={"query": "mutation {"})[0] == 200
    assert asked(query={"query": "{ a" * 3_000})[0] == 200


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; b=json"])
def test_a_form_changes_nothing(asked: Asked, kind: str) -> None:
    assert asked("POST", query={"query": LAUNCH}, content_type=kind)[0] == 415
    assert asked.reached == 0


@pytest.mark.parametrize("host", ["evil.example.com", "localhost.evil.example.com", "", "127.0.0.1.evil.com:3000"])
def test_a_name_that_leads_here_by_a_trick_is_not_answered(asked: Asked, host: str) -> None:
    assert asked("POST", **JSON, host=host)[0] == 400
    assert asked.reached == 0


@pytest.mark.parametrize("host", ["localhost:3000", "127.0.0.1:3000", "[::1]:3000", "LOCALHOST"])
def test_the_own_names_are_answered(asked: Asked, host: str) -> None:
    assert asked("POST", **JSON, host=host, origin=f"http://{host}")[0] == 200


def test_behind_a_proxy_the_address_that_people_use_is_its_own(tmp_path: Path) -> None:
    asked = Asked(tmp_path, OVERAGE_UI_URL="https://billing.example.com/", OVERAGE_UI_HOSTS="b.example.com, c")
    for host in ("billing.example.com", "b.example.com", "c:80"):
        assert asked("POST", **JSON, host=host)[0] == 200
    assert asked("POST", **JSON, host="billing.example.com", origin="https://billing.example.com")[0] == 200
    # a proxy that asks by another name
    assert asked("POST", **JSON, host="127.0.0.1:3000", origin="https://billing.example.com")[0] == 200
    assert asked("POST", **JSON, host="billing.example.com", origin="http://billing.example.com")[0] == 403
    assert asked("POST", **JSON, host="billing.example.com", origin="https://b.example.com")[0] == 403


def test_the_first_page_is_the_month(asked: Asked) -> None:
    status, _, headers = asked(path="/")
    assert (status, asked.reached) == (307, 0)
    assert headers["location"].startswith("/locations/pipeline.definitions/jobs/billing_month?expanded=global@")


def basic(name: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_who_has_a_password_may_enter_and_nobody_else(tmp_path: Path) -> None:
    users = f"{new_user('anna', 'correct horse')}, {new_user('böb', 'pass:word, ü')}"
    assert "correct horse" not in users
    asked = Asked(tmp_path, OVERAGE_UI_USERS=users)
    status, _, headers = asked()
    assert (status, headers["www-authenticate"]) == (401, 'Basic realm="Overage", charset="UTF-8"')
    for wrong in (
        basic("anna", "correct hors"),
        basic("anna", ""),
        basic("nobody", "correct horse"),
        basic("böb", "correct horse"),
        {"authorization": "Basic !"},
        {"authorization": "Bearer " + users},
        {"authorization": "Basic " + base64.b64encode(b"\xff\xfe").decode()},
    ):
        assert asked(**wrong)[0] == 401
        assert asked(kind="websocket", **wrong)[0] == 403
    assert asked.reached == 0
    for right in (basic("anna", "correct horse"), basic("böb", "pass:word, ü"), basic("anna", "correct horse")):
        assert asked(**right)[0] == 200
        assert asked(kind="websocket", **right)[0] == 101


def test_a_password_that_was_right_once_costs_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    login = Login(read_users(new_user("anna", "correct horse")))
    assert login._verify(basic("anna", "correct horse")["authorization"]) == "anna"
    login._verified.clear()
    checked: list[str] = []

    def check(header: str) -> str:
        checked.append(header)
        return "anna"

    monkeypatch.setattr(login, "_verify", check)

    class Connection:
        headers = basic("anna", "correct horse")

    for _ in range(3):
        asyncio.run(login.authenticate(Connection()))  # type: ignore[arg-type]  # only its headers are read
    assert len(checked) == 1


@pytest.mark.parametrize("text", ["anna", "anna:secret", "anna:scrypt.1.2.3", ":x", "a b:" + "x" * 70])
def test_a_password_that_is_not_hashed_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(RefusedError, match="entry 2 is no user") as caught:
        read_users(f"{new_user('x', 'x' * 8)},{text}")
    assert "secret" not in str(caught.value)


@given(st.text(min_size=8, max_size=20), st.text(min_size=8, max_size=20))
@settings(max_examples=30)
def test_only_the_same_password_is_right(one: str, other: str) -> None:
    with mock.patch("pipeline.web_users._COST", 2):
        login = Login(read_users(new_user("anna", one)))
    assert login._verify(basic("anna", one)["authorization"]) == "anna"
    assert (login._verify(basic("anna", other)["authorization"]) == "anna") == (one == other)


def test_pages_of_the_home_are_served_and_nothing_else_of_it(tmp_path: Path) -> None:
    for name in ("reports/2026-01.html", "documents/2026-01/INV-2026-000001.pdf", "profiles/index.html", "secret"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "reports" / ".writing-1-2026-01.html").write_text("half a page")
    (tmp_path / "reports" / "link").symlink_to(tmp_path / "secret")
    asked = Asked(tmp_path)
    for name in ("reports/2026-01.html", "documents/2026-01/INV-2026-000001.pdf", "profiles/index.html"):
        status, body, headers = asked(path=f"/overage/{name}")
        assert (status, body) == (200, name.encode())
        assert headers["content-security-policy"].startswith("default-src 'none'")
    assert asked(path="/overage/profiles/")[1] == b"profiles/index.html"
    for name in (
        "reports/../secret",
        "reports/%2e%2e/secret",
        "reports/.writing-1-2026-01.html",
        "reports/link",
        "reports/x",
    ):
        assert asked(path=f"/overage/{name}")[0] == 404, name
    assert asked(path="/overage/secret")[1] == b"reached", "nothing of the home, but a page of Dagster's"
    assert asked(path="/overage/reports/2026-01.html", origin="https://evil.example.com")[0] == 403
    assert asked.reached == 1
