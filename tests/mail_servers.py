"""Mail servers for the tests, on loopback and gone at the end: a real one with STARTTLS, and one that fails as told."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

_EXIM = Path("/usr/sbin/exim4")
MISSING = "exim is not installed: its tests are skipped"
_CONFIGURATION = """\
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/pid
primary_hostname = mail.example.com
host_lookup =
rfc1413_query_timeout = 0s
smtp_enforce_sync = false
queue_only = true
keep_environment =
tls_advertise_hosts = *
tls_certificate = {folder}/certificate.pem
tls_privatekey = {folder}/key.pem
auth_advertise_hosts = ${{if eq {{$tls_in_cipher}}{{}} {{}}{{*}}}}
acl_smtp_rcpt = recipients
acl_smtp_data = contents
begin acl
recipients:
  deny message = relaying is for known users only
       !authenticated = *
  deny message = no such customer
       local_parts = nobody
  defer message = come back later
       local_parts = later
  accept
contents:
  accept
begin authenticators
login:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and {{{{eq{{$auth2}}{{billing}}}}{{eq{{$auth3}}{{s e/cret}}}}}}}}
  server_set_id = $auth2
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Exim:
    """A real mail server that takes mail over STARTTLS from whom it knows, and keeps it in its queue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.certificate = folder / "certificate.pem"

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["Exim"]:
        """A new server; skips the test where there is none to start (CI always has one)."""
        if not _EXIM.exists():
            if os.environ.get("CI") == "true":
                pytest.fail("exim is missing in CI")
            pytest.skip(MISSING)
        folder = Path(tempfile.mkdtemp(prefix="exim-"))
        server = cls(folder)
        server._write()
        user = ["setpriv", "--reuid=Debian-exim", "--regid=Debian-exim", "--init-groups"] if os.geteuid() == 0 else []
        if user:
            subprocess.run(["chown", "-R", "Debian-exim", str(folder)], check=True)
        with (folder / "errors").open("wb") as errors:
            process = subprocess.Popen([*user, str(_EXIM), "-C", str(folder / "exim.conf"), "-bdf"], stderr=errors)
        try:
            server._wait(process)
            yield server
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(folder)

    @property
    def url(self) -> str:
        return f"smtp://billing:s%20e%2Fcret@localhost:{self.port}"

    def mails(self) -> list[EmailMessage]:
        """The mails that it has taken, in the order of their queue ids."""
        found = []
        for body in sorted((self.folder / "spool" / "input").rglob("*-D")):
            text = body.with_name(body.name.removesuffix("-D") + "-H").read_bytes()
            # A header is written as its length, a letter and its text; what is not part of the mail has an asterisk.
            headers = re.findall(rb"(?m)^(\d{3,})([A-Z* ]) ((?:.*\n)(?:[ \t].*\n)*)", text)
            lines = b"".join(line for _, kind, line in headers if kind != b"*")
            message = message_from_bytes(lines + b"\n" + body.read_bytes().split(b"\n", 1)[1], policy=policy.default)
            assert isinstance(message, EmailMessage)
            found.append(message)
        return found

    def _write(self) -> None:
        (self.folder / "spool").mkdir()
        configuration = _CONFIGURATION.format(port=self.port, folder=self.folder)
        (self.folder / "exim.conf").write_text(configuration)
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
                *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
                *("-keyout", str(self.folder / "key.pem"), "-out", str(self.certificate)),
            ],
            check=True,
            capture_output=True,
        )

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as tried:
                tried.settimeout(1)
                if tried.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"exim does not answer: {(self.folder / 'errors').read_text()}")


class Scripted:
    """A mail server that answers what the test tells it: by the local part of the recipient, or by a function."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.envelopes: list[tuple[str | None, list[str]]] = []
        self.asked: list[str] = []
        self.on_recipient: Callable[[str], str | None] = lambda _: None
        self.on_mail: Callable[[EmailMessage], str | None] = lambda _: None
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port(), ready_timeout=30)

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.asked.append(address)
        answer = self.on_recipient(address)
        if answer == "cut":
            _abort(server)
            return "421 cut"
        if answer is not None:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        answer = self.on_mail(message)
        if answer is not None and answer != "cut":
            return answer
        self.mails.append(message)
        self.envelopes.append((envelope.mail_from, list(envelope.rcpt_tos)))
        if answer == "cut":
            _abort(server)
        return "250 taken"

    def __enter__(self) -> "Scripted":
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self._controller.port}"


def _abort(server: SMTP) -> None:
    assert isinstance(server.transport, asyncio.Transport)
    server.transport.abort()
