"""docs/production/nginx.conf: nobody reaches the UI without a login, a page of another site not at all."""

import base64
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.outside import Landing

PRODUCTION = Path(__file__).parents[1] / "docs" / "production"
PATIENCE = 120
NAME = "billing.example.com"
LOOK = {"query": "{ version permissions { permission value } }"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    last = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < last, log.read_text()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The example's proxy before a webserver of a home: their ports. Never skipped in CI."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    openssl = shutil.which("openssl")
    if nginx is None or openssl is None:
        if os.environ.get("CI") == "true":
            pytest.fail("nginx or openssl is missing in CI")
        pytest.skip("nginx or openssl is not installed")
    root = tmp_path_factory.mktemp("proxy")
    landing = Landing(root / "home")
    (landing.root / "reports").mkdir(parents=True)
    (landing.root / "reports" / "2026-01.html").write_text("the report")
    port, behind = free_port(), free_port()
    subprocess.run(
        [
            openssl,
            *[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-keyout",
                "key.pem",
                "-out",
                "cert.pem",
                "-subj",
            ],
            f"/CN={NAME}",
        ],
        cwd=root,
        check=True,
        capture_output=True,
    )
    hashed = subprocess.run([openssl, "passwd", "-apr1", "secret"], check=True, capture_output=True, text=True).stdout
    (root / "users").write_text(f"anna:{hashed}")
    text = (PRODUCTION / "nginx.conf").read_text("utf-8")
    for found, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/certs/billing.example.com.pem", str(root / "cert.pem")),
        ("/etc/ssl/private/billing.example.com.key", str(root / "key.pem")),
        ("/etc/nginx/overage.users", str(root / "users")),
        ("127.0.0.1:3000", f"127.0.0.1:{behind}"),
    ):
        assert found in text
        text = text.replace(found, here)
    paths = " ".join(
        f"{kind}_temp_path {root / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (root / "nginx.conf").write_text(
        f"{user} daemon off; pid {root / 'pid'}; error_log {root / 'error.log'}; events {{}}\n"
        f"http {{ access_log off; {paths}\n{text}\n}}\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OVERAGE_", "DAGSTER_"))}
    instance = root / "dagster"
    instance.mkdir()
    shutil.copy(PRODUCTION.parents[1] / "dagster.yaml", instance)
    environment = kept | {
        "OVERAGE_HOME": str(landing.root),
        "DAGSTER_HOME": str(instance),
        "OVERAGE_UI_URL": f"https://{NAME}:{port}",
        "OVERAGE_MONTHS_AHEAD": "1",
    }
    unit = (PRODUCTION / "overage-webserver.service").read_text("utf-8")
    (start,) = re.findall(r"^ExecStart=/opt/overage/.venv/bin/python (.+)$", unit, re.M)
    log = root / "log"
    with log.open("wb") as said:
        arguments = [*start.replace("--port 3000", f"--port {behind}").split(), "--read-only"]
        server = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=said, stderr=said)
        before = subprocess.Popen([nginx, "-c", root / "nginx.conf", "-p", root], stdout=said, stderr=said)
        try:
            wait_for(port, before, log)
            wait_for(behind, server, log)
            yield port, behind
        finally:
            for process in (before, server):
                process.terminate()
            for process in (before, server):
                process.wait(timeout=30)


def asked(port: int, method: str = "POST", path: str = "/graphql", body: Any = LOOK, **headers: str) -> tuple[int, Any]:
    """The answer of the proxy to a request for its name."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    connection = HTTPSConnection("127.0.0.1", port, context=unchecked, timeout=60)
    given = {"Host": f"{NAME}:{port}", "Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    connection.request(method, path, json.dumps(body) if method == "POST" else None, given)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if answer.status == 200 and method == "POST" else content


LOGIN = {"Authorization": "Basic " + base64.b64encode(b"anna:secret").decode()}
SOCKET = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
    "Sec-WebSocket-Protocol": "graphql-ws",
}


def test_nobody_enters_without_a_login(proxy: tuple[int, int]) -> None:
    port, _ = proxy
    for headers in ({}, {"Authorization": "Basic " + base64.b64encode(b"anna:wrong").decode()}):
        assert asked(port, **headers)[0] == 401
        assert asked(port, "GET", "/", **headers)[0] == 401
        assert asked(port, "GET", "/overage/reports/2026-01.html", **headers)[0] == 401
        assert asked(port, "GET", "/graphql", **SOCKET, **headers)[0] == 401


def test_who_has_logged_in_sees_the_pages_and_those_of_the_home(proxy: tuple[int, int]) -> None:
    port, _ = proxy
    status, answer = asked(port, **LOGIN)
    assert status == 200
    assert answer["data"]["version"]
    assert {each["value"] for each in answer["data"]["permissions"]} == {False}, "it was started read-only"
    # the first picture is the month's lineage
    assert asked(port, "GET", "/", **LOGIN)[0] in (200, 307)
    assert asked(port, "GET", "/overage/reports/2026-01.html", **LOGIN) == (200, b"the report")


def test_a_page_of_another_site_commands_nothing(proxy: tuple[int, int]) -> None:
    port, behind = proxy
    evil = {"Origin": "https://evil.example.com"}
    assert asked(port, **LOGIN, **evil)[0] == 403
    assert asked(port, **LOGIN, Origin=f"https://{NAME}:{port}")[0] == 200
    assert asked(port, "GET", "/graphql?query=mutation+%7Ba%7D", **LOGIN)[0] == 405
    direct = HTTPConnection("127.0.0.1", behind, timeout=60)
    direct.request(
        "POST", "/graphql", json.dumps(LOOK), {"Host": "evil.example.com", "Content-Type": "application/json"}
    )
    assert direct.getresponse().status == 400
    direct.close()


def test_pages_are_kept_up_to_date_through_the_proxy(proxy: tuple[int, int]) -> None:
    port, _ = proxy
    for origin, answered in ((f"https://{NAME}:{port}", b"101"), ("https://evil.example.com", b"403")):
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
            unchecked.wrap_socket(plain) as opened,
        ):
            lines = [f"Host: {NAME}:{port}", f"Origin: {origin}"]
            lines += [f"{name}: {value}" for name, value in (SOCKET | LOGIN).items()]
            opened.sendall(("GET /graphql HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode())
            assert opened.recv(4096).split()[1] == answered
