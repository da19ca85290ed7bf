"""`overage send`, and `bill` under the policy `send: after_issue`: what is said, and what a kill leaves behind."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest

from assets import clock
from pipeline import run_state
from tests.by_steps import bill_by_steps
from tests.landing import Landing
from tests.mail_servers import Scripted
from tests.pipeline.outside import bill, overage, show

MONTH = "2026-01"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    with Scripted() as scripted:
        monkeypatch.setenv("OVERAGE_SMTP_URL", scripted.url)
        yield scripted


@pytest.fixture(scope="module")
def billed(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    """Two customers with an invoice each; the PDFs are stand-ins."""
    landing = Landing(tmp_path_factory.mktemp("billed") / "home")
    landing.customer("alpha")
    landing.customer("beta")
    business = bill_by_steps(landing.root, MONTH, "2026-01-31")
    for number in business.register.documents()["number"]:
        path = business.home.document_file(MONTH, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%PDF-1.7")
    return landing


@pytest.fixture
def landing(billed: Landing, tmp_path: Path) -> Landing:
    """The same in a home of the test's own."""
    return billed.copied(tmp_path / "home")


def statuses(home: Path) -> dict[str, str]:
    return {row["account_id"]: row["status"] for row in show(home, "mails")}


def in_a_process_of_its_own(home: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "send", MONTH, "--home", str(home)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_send_says_what_it_did(landing: Landing, server: Scripted) -> None:
    shown = overage("send", MONTH, "--dry-run", "--home", landing.root)
    assert shown.status == 0 and "billing@alpha.example.com" in shown.output and not server.mails
    server.on_recipient = lambda address: "550 no such user" if "beta" in address else None
    found = overage("send", MONTH, "--home", landing.root)
    assert found.status == 1
    assert "INV-2026-000002 of account beta was not sent: 550 no such user" in found.messages
    assert "1 mail sent, 1 failed, 0 skipped" in found.messages
    assert statuses(landing.root) == {"alpha": "sent", "beta": "failed"}
    again = overage("send", MONTH, "--account", "alpha", "--home", landing.root)
    assert (again.status, len(server.mails)) == (0, 1)
    assert overage("send", MONTH, "--account", "alpha", "--again", "--home", landing.root).status == 0
    assert len(server.mails) == 2


@pytest.mark.parametrize("url", ["", "smtp://user:secret@", "https://example.com"])
def test_a_missing_or_wrong_server_is_refused(landing: Landing, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("OVERAGE_SMTP_URL", url)
    found = overage("send", MONTH, "--home", landing.root)
    assert found.status == 2 and "OVERAGE_SMTP_URL" in found.messages and "secret" not in found.messages


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("2019-01",), "unknown month"), ((MONTH, "--account", "nobody"), "unknown account")],
)
def test_what_is_unknown_is_refused(landing: Landing, server: Scripted, arguments: tuple[str, ...], words: str) -> None:
    found = overage("send", *arguments, "--home", landing.root)
    assert found.status == 2 and words in found.messages and not server.mails


def test_a_run_killed_after_the_server_took_a_mail_sends_it_never_again(landing: Landing, server: Scripted) -> None:
    process: subprocess.Popen[bytes] | None = None

    def kill(_: EmailMessage) -> None:
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    server.on_mail = kill
    process = in_a_process_of_its_own(landing.root)
    assert process.wait(60) == -signal.SIGKILL
    assert (len(server.mails), statuses(landing.root)) == (1, {"alpha": "unknown"})
    server.on_mail = lambda _: None
    found = overage("send", MONTH, "--home", landing.root)
    assert found.status == 1 and "1 mail of an earlier run unknown" in found.messages
    assert [mail["To"] for mail in server.mails] == ["billing@alpha.example.com", "billing@beta.example.com"]
    assert overage("send", MONTH, "--account", "alpha", "--again", "--home", landing.root).status == 0
    assert statuses(landing.root) == {"alpha": "sent", "beta": "sent"}


def test_a_run_killed_before_anything_was_sent_sends_it_next_time(landing: Landing, server: Scripted) -> None:
    process: subprocess.Popen[bytes] | None = None

    def kill(_: str) -> None:
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    server.on_recipient = kill
    process = in_a_process_of_its_own(landing.root)
    assert process.wait(60) == -signal.SIGKILL
    assert (server.mails, statuses(landing.root)) == ([], {})
    server.on_recipient = lambda _: None
    assert overage("send", MONTH, "--home", landing.root).status == 0
    assert len(server.mails) == 2


def test_of_two_runs_at_once_one_sends(landing: Landing, server: Scripted) -> None:
    is_sending, may_go_on = threading.Event(), threading.Event()

    def wait(_: EmailMessage) -> None:
        is_sending.set()
        may_go_on.wait(60)

    server.on_mail = wait
    process = in_a_process_of_its_own(landing.root)
    assert is_sending.wait(60)
    second = overage("send", MONTH, "--home", landing.root)
    may_go_on.set()
    assert second.status == 2 and "at work" in second.messages
    assert process.wait(60) == 0
    assert len(server.mails) == 2


def test_bill_sends_what_it_issues_and_tries_again_what_failed(
    tmp_path: Path, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing = Landing(tmp_path / "home")
    catalogue = landing.folder / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace("policy:\n", "policy:\n  send: after_issue\n", 1))
    landing.customer("alpha")
    landing.customer("beta")
    drafted = bill(landing.root, MONTH, "2026-01-31", "--draft")
    assert drafted.status == 0 and not server.mails
    server.on_recipient = lambda address: "450 busy" if "beta" in address else None
    first = bill(landing.root, MONTH, "2026-01-31")
    assert first.status == 1 and "1 mail sent, 1 failed" in first.messages
    assert "450 busy" in first.messages
    server.on_recipient = lambda _: None
    soon = bill(landing.root, MONTH, "2026-01-31")
    assert soon.status == 0 and len(server.mails) == 1
    later = clock.now() + timedelta(minutes=6)
    for module in (clock, run_state):
        monkeypatch.setattr(module, "now", lambda: later)
    second = bill(landing.root, MONTH, "2026-01-31")
    assert second.status == 0 and "1 mail sent, 0 failed" in second.messages
    assert [mail["To"] for mail in server.mails] == ["billing@alpha.example.com", "billing@beta.example.com"]
    monkeypatch.setenv("OVERAGE_SMTP_URL", server.url.split("?")[0].replace("//", "//user:secret@"))
    without_login = bill(landing.root, "2026-02", "2026-02-28")
    assert without_login.status == 1 and "secret" not in without_login.messages
    assert "not done: 2 mails not sent yet: the next run sends them" in without_login.messages
    assert len(server.mails) == 2
    monkeypatch.setenv("OVERAGE_SMTP_URL", "")
    refused = bill(landing.root, "2026-02", "2026-02-28")
    assert refused.status == 2 and "OVERAGE_SMTP_URL" in refused.messages
