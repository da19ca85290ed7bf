"""Notices to people, sent to a real mail server and a real web server: what they say, and that they say it once."""

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from pipeline import sensors
from pipeline.definitions import defs
from pipeline.notices import signature
from pipeline.sensors import month_is_ready, run_failed
from tests.pipeline.outside import Landing, blank_files, blank_page
from tests.sizes import sized


class MailServer:
    """Takes mail on a free port of this machine, from whom it knows."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.names: list[str] = []
        self._controller = Controller(
            self, hostname="127.0.0.1", port=0, authenticator=self._knows, auth_require_tls=False, ready_timeout=30
        )

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.mails.append(message)
        return "250 taken"

    def _knows(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.names.append(data.login.decode())
        return AuthResult(success=data.password == b"s e/cret")

    def __enter__(self) -> "MailServer":
        # aiosmtpd looks whether it answers on the port it was told; a free one is found first
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._controller.port = free.getsockname()[1]
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    def url(self, login: str = "") -> str:
        return f"smtp://{login}127.0.0.1:{self._controller.port}"


class HookServer:
    """Takes web hooks; can be told to refuse them."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # http.server's
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.calls.append(content | {"key": self.headers["Idempotency-Key"]})
                outer.headers.append(dict(self.headers))
                outer.bodies.append(json.dumps(content).encode())
                self.send_response(outer.status)
                if outer.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:  # http.server's
                outer.calls.append({"followed": self.path})
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> "HookServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/billing"


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def hook() -> Iterator[HookServer]:
    with HookServer() as server:
        yield server


@pytest.fixture
def landing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Landing:
    landing = Landing(tmp_path / "home")
    landing.customer("secretive")
    monkeypatch.setattr(sensors, "checked_out_home", lambda _=None: landing.root)
    return landing


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def set_environment(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"OVERAGE_{name}", value)


def configure(monkeypatch: pytest.MonkeyPatch, mail: MailServer, hook: HookServer) -> None:
    people = {"MAIL_FROM": "billing@example.com", "MAIL_TO": "month@example.com, finance@example.com"}
    set_environment(
        monkeypatch, SMTP_URL=mail.url(), WEBHOOK_URL=hook.url, UI_URL="https://billing.example.com/", **people
    )


def run(
    instance: dg.DagsterInstance, landing: Landing, as_of: str, month: str = "2026-01"
) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("billing_month").execute_in_process(
        run_config={"resources": {"billing_home": {"config": {"folder": str(landing.root), "as_of": as_of}}}},
        partition_key=month,
        tags={"overage/as_of": as_of},
        instance=instance,
        raise_on_error=False,
    )


def tell(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult, event: str
) -> None:
    """What the daemon does with a sensor when a run has ended."""
    (ended,) = [each for each in result.all_events if each.event_type_value == event]
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    context = dg.build_run_status_sensor_context(sensor.name, ended, instance, run)
    told = sensor(context.for_run_failure() if sensor is run_failed else context)
    assert told is None or isinstance(told, dg.SkipReason)


def said(mail: EmailMessage) -> Mapping[str, str]:
    return {"to": mail["To"], "subject": mail["Subject"], "text": mail.get_content().replace("\r\n", "\n")}


@dataclass
class Month:
    """A month that was run before its last day, on it, and once more.

    Attributes
    ----------
    counts
        Of mails, after each run.
    last_run
        The run that completed the month.
    """

    name: str
    mail: MailServer
    hook: HookServer
    counts: list[int]
    last_run: str


@pytest.fixture(
    scope="module",
    params=sized(
        usual=[("2028-02-10", "2028-02-28", "2028-02-29")],
        long=[
            ("2026-01-10", "2026-01-20", "2026-01-31"),
            ("2026-12-10", "2026-12-30", "2026-12-31"),
            ("2028-02-10", "2028-02-28", "2028-02-29"),
        ],
    ),
)
def month(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Month:
    bought, early, last = request.param
    landing = Landing(tmp_path_factory.mktemp("month") / "home")
    landing.customer("acme", on=bought)
    with (
        MailServer() as mail,
        HookServer() as hook,
        dg.DagsterInstance.ephemeral() as instance,
        pytest.MonkeyPatch.context() as patch,
    ):
        configure(patch, mail, hook)
        patch.setattr(sensors, "checked_out_home", lambda _=None: landing.root)
        patch.setattr("billing.month.pdf_files.render_files", blank_files)
        patch.setattr("billing.reports.month_report_page.draw_page", blank_page)
        runs, counts = [], []
        # a usual run begins in the middle of a month
        for as_of in (early, last, last):
            result = run(instance, landing, as_of, last[:7])
            tell(month_is_ready, instance, result, "PIPELINE_SUCCESS")
            runs.append(result.run_id)
            counts.append(len(mail.mails))
    return Month(last[:7], mail, hook, counts, runs[1])


def test_a_month_that_is_complete_is_told_once_by_mail_and_web_hook(month: Month) -> None:
    # the last run told nothing new
    (first,) = month.mail.mails
    assert said(first) == {
        "to": "month@example.com, finance@example.com",
        "subject": f"{month.name} is billed: 1 document",
        "text": f"{month.name} is billed: 1 document\n\ndocuments: 1\ntotal: 99.00 USD\n\n"
        f"https://billing.example.com/runs/{month.last_run}\n",
    }
    (call,) = month.hook.calls
    assert call["subject"] == first["Subject"]
    assert call["facts"] == {"documents": "1", "total": "99.00 USD"}
    assert call["id"] == call["key"] == str(first["Message-ID"]).strip("<>").removesuffix("@overage")


def test_a_month_is_complete_with_the_last_day_of_a_year_or_a_leap_day_and_not_before(month: Month) -> None:
    assert month.counts == [0, 1, 1]


def test_drafts_that_are_ready_to_review_are_told(
    landing: Landing, instance: dg.DagsterInstance, mail: MailServer, hook: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, mail, hook)
    monkeypatch.setattr("billing.reports.month_report_page.draw_page", blank_page)
    path = landing.folder / "catalogue.yaml"
    path.write_text(path.read_text().replace("auto_issue: true", "auto_issue: false"))
    tell(month_is_ready, instance, run(instance, landing, "2026-01-31"), "PIPELINE_SUCCESS")
    (told,) = mail.mails
    assert told["Subject"] == "2026-01: 1 draft to review"
    assert "issue exactly these: overage issue 2026-01 --reviewed 2026-01-31." in told.get_content()


def test_a_run_that_failed_is_told_without_what_the_error_quotes(
    landing: Landing, instance: dg.DagsterInstance, mail: MailServer, hook: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, mail, hook)
    path = landing.folder / "catalogue.yaml"
    path.write_text(path.read_text().replace("currency: USD", "currency: secretive"))
    result = run(instance, landing, "2026-01-31")
    for _ in range(2):
        tell(run_failed, instance, result, "PIPELINE_FAILURE")
    (told,) = mail.mails
    assert told["Subject"] == "Billing run failed: billing_month 2026-01"
    assert "failed steps: cycles\n" in told.get_content().replace("\r\n", "\n")
    assert "secretive" not in told.as_string() + json.dumps(hook.calls)
    assert len(hook.calls) == 1


def test_a_run_that_is_run_again_by_itself_is_not_told(
    landing: Landing, instance: dg.DagsterInstance, mail: MailServer, hook: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, mail, hook)
    (landing.folder / "catalogue.yaml").write_text("nothing")
    result = run(instance, landing, "2026-01-31")
    instance.add_run_tags(result.run_id, {"dagster/will_retry": "true"})
    tell(run_failed, instance, result, "PIPELINE_FAILURE")
    assert (mail.mails, hook.calls) == ([], [])


def test_one_who_cannot_be_reached_keeps_nobody_else_from_being_told(
    landing: Landing, instance: dg.DagsterInstance, mail: MailServer, hook: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, mail, hook)
    (landing.folder / "catalogue.yaml").write_text("nothing")
    result = run(instance, landing, "2026-01-31")
    set_environment(monkeypatch, SMTP_URL="smtp://127.0.0.1:1")
    hook.status = 500
    tell(run_failed, instance, result, "PIPELINE_FAILURE")
    assert (len(mail.mails), len(hook.calls)) == (0, 1)
    # told again, those are told who were not reached
    set_environment(monkeypatch, SMTP_URL=mail.url())
    hook.status = 200
    for _ in range(2):
        tell(run_failed, instance, result, "PIPELINE_FAILURE")
    assert (len(mail.mails), len(hook.calls)) == (1, 2)


def test_mail_is_sent_with_the_name_and_password_of_the_setting(
    landing: Landing, instance: dg.DagsterInstance, mail: MailServer, hook: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, mail, hook)
    (landing.folder / "catalogue.yaml").write_text("nothing")
    result = run(instance, landing, "2026-01-31")
    # this server offers no encryption: a password does not go there
    set_environment(monkeypatch, SMTP_URL=mail.url("billing:s%20e%2Fcret@"))
    tell(run_failed, instance, result, "PIPELINE_FAILURE")
    assert (mail.names, mail.mails) == ([], [])
    set_environment(monkeypatch, SMTP_URL=f"{mail.url('billing:wrong@')}?insecure=1")
    tell(run_failed, instance, result, "PIPELINE_FAILURE")
    assert mail.mails == []
    set_environment(monkeypatch, SMTP_URL=f"{mail.url('billing:s%20e%2Fcret@')}?insecure=1")
    tell(run_failed, instance, result, "PIPELINE_FAILURE")
    assert (mail.names, len(mail.mails)) == (["billing", "billing"], 1)


def test_nobody_is_told_where_nothing_is_configured(
    landing: Landing, instance: dg.DagsterInstance, mail: MailServer, hook: HookServer
) -> None:
    (landing.folder / "catalogue.yaml").write_text("nothing")
    tell(run_failed, instance, run(instance, landing, "2026-01-31"), "PIPELINE_FAILURE")
    assert (mail.mails, hook.calls) == ([], [])


def test_a_web_hook_is_signed_and_follows_no_redirect(
    landing: Landing, instance: dg.DagsterInstance, mail: MailServer, hook: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, WEBHOOK_URL=hook.url, WEBHOOK_SECRET="whsec_c2VjcmV0")  # noqa: S106
    (landing.folder / "catalogue.yaml").write_text("nothing")
    result = run(instance, landing, "2026-01-31")
    hook.status = 302
    tell(run_failed, instance, result, "PIPELINE_FAILURE")
    assert [call.get("followed") for call in hook.calls] == [None]
    hook.status = 200
    tell(run_failed, instance, result, "PIPELINE_FAILURE")
    assert len(hook.calls) == 2, "it was not taken the first time"
    headers = {name.lower(): value for name, value in hook.headers[1].items()}
    signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), hook.bodies[1]))
    expected = base64.b64encode(hmac.new(b"secret", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 300
    assert headers["webhook-id"] == hook.calls[1]["id"]


def test_a_signature_is_that_of_the_standard() -> None:
    # the example of the specification of Standard Webhooks
    headers = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature("any text", "1", "2", b"")["webhook-signature"] != headers["webhook-signature"]
