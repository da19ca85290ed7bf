"""Mails of documents: each is sent once, whatever the server answers and wherever a run is killed."""

import smtplib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from billing.mailing.message import Mail, message_bytes, message_id
from billing.mailing.smtp import MailServer, read_mail_server
from billing.model.errors import InterruptedRunError, RefusedError
from billing.month.business import Business
from billing.reports.mail_delivery import Sending, SkippedError
from billing.reports.sending import composed, mails, mails_after_issue, mails_of_month, send_documents
from billing.reports.show import read_table
from tests.by_steps import bill_by_steps
from tests.landing import Landing
from tests.mail_servers import Exim, Scripted, free_port

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
MONTH = "2026-01"


@pytest.fixture(scope="module")
def billed(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    """Three customers with an invoice each; the PDFs are stand-ins."""
    landing = Landing(tmp_path_factory.mktemp("billed"))
    for name in ("alpha", "beta", "gamma"):
        landing.customer(name)
    business = bill_by_steps(landing.root, MONTH, "2026-01-31")
    for number in business.register.documents()["number"]:
        path = business.home.document_file(MONTH, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"%PDF-1.7 {number}".encode())
    return landing


@pytest.fixture
def landing(billed: Landing, tmp_path: Path) -> Landing:
    return billed.copied(tmp_path / "home")


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as scripted:
        yield scripted


def load(landing: Landing) -> Business:
    return Business.load(landing.root, NOW.date(), issues=False)


def send(landing: Landing, url: str, now: datetime = NOW, *, again: bool = False) -> Sending:
    business = load(landing)
    planned = mails_of_month(business, MONTH, now, again=again)
    return send_documents(business, planned, read_mail_server(url), lambda: now)


def statuses(landing: Landing) -> dict[str, tuple[str, int]]:
    rows = mails(load(landing)).select("account_id", "status", "attempts").iter_rows()
    return {account: (status, attempts) for account, status, attempts in rows}


def test_every_document_is_sent_once(landing: Landing, server: Scripted) -> None:
    assert send(landing, server.url).sent == 3
    assert send(landing, server.url).sent == 0
    assert [mail["To"] for mail in server.mails] == [f"billing@{it}.example.com" for it in ("alpha", "beta", "gamma")]
    assert statuses(landing) == dict.fromkeys(("alpha", "beta", "gamma"), ("sent", 1))
    first = server.mails[0]
    assert first["From"].addresses[0].addr_spec == load(landing).catalogue.seller.support_email
    assert "INV-2026-000001" in first["Subject"]
    attached = list(first.iter_attachments())
    assert [(it.get_filename(), it.get_content()) for it in attached] == [
        ("INV-2026-000001.pdf", b"%PDF-1.7 INV-2026-000001")
    ]
    said = first.get_body(("plain",))
    assert said is not None and "99.00" in said.get_content()
    # As for any table that repeats the register, the lake has the same rows.
    kept = pl.read_parquet(load(landing).home.lake / "mails" / "mails.parquet")
    assert kept.equals(mails(load(landing)))
    assert read_table(load(landing), name="mails", account="beta")["status"].to_list() == ["sent"]


def test_an_xml_file_beside_the_pdf_is_attached(landing: Landing, server: Scripted) -> None:
    path = load(landing).home.document_file(MONTH, "INV-2026-000002").with_suffix(".xml")
    path.write_bytes(b"<Invoice/>")
    send(landing, server.url)
    assert [it.get_filename() for it in server.mails[1].iter_attachments()] == [
        "INV-2026-000002.pdf",
        "INV-2026-000002.xml",
    ]


def test_again_sends_again_with_the_same_message_id(landing: Landing, server: Scripted) -> None:
    send(landing, server.url)
    assert send(landing, server.url, again=True).sent == 3
    ids = [mail["Message-ID"] for mail in server.mails]
    assert ids[:3] == ids[3:] and len(set(ids)) == 3
    assert statuses(landing)["alpha"] == ("sent", 2)


def test_a_mail_that_is_refused_for_now_waits_longer_each_time(landing: Landing, server: Scripted) -> None:
    server.on_recipient = lambda address: "450 greylisted" if "beta" in address else None
    found = send(landing, server.url)
    assert (found.sent, found.failed) == (2, 1)
    assert "450 greylisted" in found.problems[0] and "beta" in found.problems[0]
    waits = {4: 0, 5: 1, 14: 1, 15: 2, 34: 2, 35: 3}
    # Tried after 5 minutes, after 10 more, after 20 more.
    for minutes, tries in waits.items():
        send(landing, server.url, NOW + timedelta(minutes=minutes))
        assert sum("beta" in address for address in server.asked) == 1 + tries, minutes
    server.on_recipient = lambda _: None
    assert send(landing, server.url, NOW + timedelta(days=2)).sent == 1
    assert statuses(landing)["beta"] == ("sent", 5)


@pytest.mark.parametrize("answer", ["550 no such user", "552 mailbox full"])
def test_a_recipient_that_is_refused_for_good_is_not_tried_again(
    landing: Landing, server: Scripted, answer: str
) -> None:
    server.on_recipient = lambda address: answer if "beta" in address else None
    assert send(landing, server.url).failed == 1
    server.on_recipient = lambda _: None
    assert send(landing, server.url, NOW + timedelta(days=30)).sent == 0
    row = read_table(load(landing), name="mails", account="beta").row(0, named=True)
    assert (row["status"], row["error"], row["next_attempt_at"]) == ("failed", answer, None)
    assert send(landing, server.url, again=True).sent == 3


def test_a_mail_that_is_refused_after_its_data_stops_no_other(landing: Landing, server: Scripted) -> None:
    server.on_mail = lambda mail: "554 looks like spam" if "beta" in mail["To"] else None
    found = send(landing, server.url)
    assert (found.sent, found.failed) == (2, 1)
    assert statuses(landing)["beta"] == ("failed", 1)


@pytest.mark.parametrize(("answer", "again"), [("451 try later", 1), ("554 looks like spam", 0)])
def test_a_server_that_hangs_up_after_its_answer_has_answered(
    landing: Landing, server: Scripted, monkeypatch: pytest.MonkeyPatch, answer: str, again: int
) -> None:
    def hung_up(_: smtplib.SMTP) -> None:
        raise smtplib.SMTPServerDisconnected("Connection unexpectedly closed")

    server.on_mail = lambda mail: answer if "beta" in mail["To"] else None
    with monkeypatch.context() as patch:
        patch.setattr(smtplib.SMTP, "rset", hung_up)
        found = send(landing, server.url)
    assert (found.sent, found.failed, statuses(landing)["beta"]) == (2, 1, ("failed", 1))
    server.on_mail = lambda _: None
    assert send(landing, server.url, NOW + timedelta(minutes=5)).sent == again


def test_a_connection_that_is_cut_before_the_mail_is_tried_again(landing: Landing, server: Scripted) -> None:
    server.on_recipient = lambda address: "cut" if "beta" in address else None
    assert (send(landing, server.url).sent, statuses(landing)["beta"]) == (2, ("failed", 1))
    server.on_recipient = lambda _: None
    assert send(landing, server.url, NOW + timedelta(minutes=5)).sent == 1
    assert len(server.mails) == 3


def test_a_connection_that_is_cut_after_the_mail_leaves_it_unknown(landing: Landing, server: Scripted) -> None:
    server.on_mail = lambda mail: "cut" if "beta" in mail["To"] else None
    found = send(landing, server.url)
    assert (found.sent, found.unknown, found.is_partial) == (2, 1, True)
    assert send(landing, server.url, NOW + timedelta(days=9)).sent == 0
    assert len(server.mails) == 3
    assert statuses(landing)["beta"] == ("unknown", 1)


def test_a_server_out_of_reach_stops_trying_after_three(landing: Landing) -> None:
    for name in ("delta", "epsilon"):
        landing.customer(name)
    business = bill_by_steps(landing.root, MONTH, "2026-01-31")
    for number in business.register.documents()["number"]:
        business.home.document_file(MONTH, number).write_bytes(b"%PDF-1.7")
    found = send(landing, f"smtp://127.0.0.1:{free_port()}")
    assert (found.failed, found.waiting) == (3, 2)
    assert {status for status, _ in statuses(landing).values()} == {"failed"}
    assert len(statuses(landing)) == 3


@pytest.mark.parametrize(
    ("address", "reason"),
    [("", "no mail address"), ("two@example.com; three@example.com", "expected one mail address"), ("x", "expected")],
)
def test_an_account_without_an_address_is_skipped_until_it_has_one(
    landing: Landing, server: Scripted, address: str, reason: str
) -> None:
    accounts = landing.folder / "accounts.csv"
    text = accounts.read_text()
    accounts.write_text(text.replace("billing@beta.example.com", address))
    for _ in range(2):
        found = send(landing, server.url)
        assert found.skipped == 1 and reason in found.problems[-1]
    assert statuses(landing)["beta"] == ("skipped", 0)
    assert load(landing).register.mail_attempts("document").height == 3  # type: ignore[arg-type] # as the database has it
    accounts.write_text(text)
    assert send(landing, server.url).sent == 1
    assert statuses(landing)["beta"] == ("sent", 1)


def test_a_document_whose_pdf_is_missing_waits_for_it(landing: Landing, server: Scripted) -> None:
    path = load(landing).home.document_file(MONTH, "INV-2026-000002")
    content = path.read_bytes()
    path.unlink()
    found = send(landing, server.url)
    assert (found.sent, found.skipped) == (2, 1)
    path.write_bytes(content)
    assert send(landing, server.url).sent == 1


def test_a_document_whose_e_invoice_is_missing_waits_for_it(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    landing.customer("alpha")
    business = bill_by_steps(landing.root, MONTH, "2026-01-31")
    home, number = business.home, "INV-2026-000001"
    path = home.document_file(MONTH, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"%PDF-1.7")
    ((_, content),) = business.register.contents([number])
    with pytest.raises(SkippedError, match="e-invoice"):
        composed(home, MONTH, number, content.replace('"format":"pdf"', '"format":"ubl"'))
    home.invoice_file(MONTH, number).write_bytes(b"<Invoice/>")
    _, attached = composed(home, MONTH, number, content.replace('"format":"pdf"', '"format":"ubl"'))
    assert [each.subtype for each in attached] == ["pdf", "xml"]


def test_only_what_was_issued_to_be_sent_is_sent_after_issue(landing: Landing, server: Scripted) -> None:
    assert mails_after_issue(load(landing), MONTH, NOW).is_empty()
    catalogue = landing.folder / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace("policy:\n", "policy:\n  send: after_issue\n", 1))
    landing.customer("delta", on="2026-01-30")
    business = bill_by_steps(landing.root, MONTH, "2026-01-31")
    assert mails_after_issue(business, MONTH, NOW)["account_id"].to_list() == ["delta"]
    # A later month looks after those that failed before.
    server.on_recipient = lambda _: "450 later"
    business.home.document_file(MONTH, "INV-2026-000004").write_bytes(b"%PDF-1.7")
    send_documents(business, mails_after_issue(business, MONTH, NOW), read_mail_server(server.url), lambda: NOW)
    assert mails_after_issue(business, "2026-02", NOW).is_empty()
    assert mails_after_issue(business, "2026-02", NOW + timedelta(minutes=5))["account_id"].to_list() == ["delta"]


def test_a_real_server_takes_mails_over_starttls(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    with Exim.running() as exim:
        monkeypatch.setenv("SSL_CERT_FILE", str(exim.certificate))
        accounts = landing.folder / "accounts.csv"
        accounts.write_text(
            accounts.read_text()
            .replace("billing@beta.", "nobody@beta.")
            .replace("billing@gamma.", "later@gamma.")
            .replace("Alpha Inc.", "Ålpha 株式会社")
        )
        found = send(landing, exim.url)
        assert (found.sent, found.failed) == (1, 2)
        assert statuses(landing) == {"alpha": ("sent", 1), "beta": ("failed", 1), "gamma": ("failed", 1)}
        (mail,) = exim.mails()
        assert mail["Message-ID"] == message_id("INV-2026-000001", mail["From"].addresses[0].addr_spec)
        assert "with esmtpsa" in mail["Received"]
        with pytest.raises(InterruptedRunError, match="refuses the login") as refused:
            send(landing, exim.url.replace("s%20e", "wrong"), NOW + timedelta(days=1))
        assert "wrong" not in str(refused.value)
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(InterruptedRunError, match="cannot be trusted"):
            send(landing, exim.url, NOW + timedelta(days=1))
        assert len(exim.mails()) == 1


def test_a_password_goes_over_no_plain_connection(landing: Landing, server: Scripted) -> None:
    with pytest.raises(InterruptedRunError, match="no encryption"):
        send(landing, server.url.replace("smtp://", "smtp://user:secret@"))
    assert not server.mails


@pytest.mark.parametrize(
    "url",
    [None, "", "mail.example.com", "http://user:secret@host", "smtp://", "smtp://user:secret@host:port", "smtp://h:0"],
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str | None) -> None:
    with pytest.raises(RefusedError, match="OVERAGE_SMTP_URL") as refused:
        read_mail_server(url)
    assert "secret" not in str(refused.value)


def test_a_mail_server_is_printed_without_its_password() -> None:
    server = read_mail_server("smtps://us%40er:sec%2Fret@mail.example.com")
    assert server == MailServer("mail.example.com", 465, "us@er", "sec/ret", is_encrypted=True)
    assert "sec/ret" not in f"{server}{server!r}"


HOSTILE = ("Evil\r\nBcc: victim@example.com", 'Quote " and <angle>, (comma)', "Жадный 株式会社 🎉", "x" * 900)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_inside_their_header(name: str) -> None:
    mail = Mail(
        message_id(name, "billing@example.com"),
        name,
        "billing@example.com",
        "to@example.com",
        f"Invoice of {name}",
        "text",
        "<p>text</p>",
        "en",
    )
    content = message_bytes(mail, NOW)
    head = content.split(b"\r\n\r\n", 1)[0]
    assert {line.split(b":")[0].lower() for line in head.split(b"\r\n") if line[:1].isalpha()} == {
        *(b"from", b"to", b"subject", b"date", b"message-id", b"content-language", b"auto-submitted"),
        *(b"mime-version", b"content-type"),
    }
    assert all(len(line) < 998 and line.isascii() for line in content.split(b"\r\n"))
    assert content == message_bytes(replace(mail), NOW)
