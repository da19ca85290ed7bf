"""A mail server: its URL, an encrypted session, and what it answers to a mail (rule 41)."""

import re
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

from billing.model.codes import MailOutcome
from billing.model.errors import InterruptedRunError, RefusedError

VARIABLE: Final = "OVERAGE_SMTP_URL"
TIMEOUT_SECONDS: Final = 30
_EXPECTED: Final = "smtp://user:password@host:587 (STARTTLS) or smtps://user:password@host:465"
_LONGEST_REPLY: Final = 300


class PlainConnectionError(Exception):
    """A password would be sent over an unencrypted connection."""


@dataclass(frozen=True)
class MailServer:
    """Where mail is handed in, and as whom; printing it shows no password.

    Attributes
    ----------
    is_encrypted
        TLS from the first byte (smtps); else STARTTLS, if the server offers it.
    allows_plain
        Whether a password may go over a connection without encryption.
    """

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    is_encrypted: bool = False
    allows_plain: bool = False

    def __str__(self) -> str:
        return f"{'smtps' if self.is_encrypted else 'smtp'}://{self.host}:{self.port}"


@dataclass(frozen=True)
class Delivery:
    """How an attempt ended, and in words why it did not succeed."""

    outcome: MailOutcome
    error: str = ""


def read_mail_server(url: str | None) -> MailServer:
    """The mail server of a URL.

    Raises
    ------
    RefusedError
        When there is no URL, or it is none of a mail server; the message shows no password.
    """
    if not url:
        raise RefusedError(
            f"{VARIABLE}: found nothing, expected the mail server that documents are sent through: {_EXPECTED}"
        )
    try:
        found = urlsplit(url)
        host, port = found.hostname, found.port
    except ValueError:
        host, port = None, None
    else:
        if found.scheme in ("smtp", "smtps") and host and found.path in ("", "/") and port != 0:
            is_encrypted = found.scheme == "smtps"
            return MailServer(
                host,
                port or (465 if is_encrypted else 587),
                unquote(found.username or ""),
                unquote(found.password or ""),
                is_encrypted,
                parse_qs(found.query).get("insecure") == ["1"],
            )
    raise RefusedError(
        f"{VARIABLE}: found no address of a mail server (it is not shown: it may hold a password), expected {_EXPECTED}"
    )


def connected(server: MailServer, timeout: float = TIMEOUT_SECONDS) -> smtplib.SMTP:
    """A session with the server, encrypted where it offers that, and logged in.

    Raises
    ------
    PlainConnectionError
        When the server offers no encryption, and a password would go over none.
    OSError
        When it cannot be reached, is not who it says it is, or refuses the login.
    """
    context = ssl.create_default_context()
    session = (
        smtplib.SMTP_SSL(server.host, server.port, timeout=timeout, context=context)
        if server.is_encrypted
        else smtplib.SMTP(server.host, server.port, timeout=timeout)
    )
    try:
        session.ehlo_or_helo_if_needed()
        is_encrypted = server.is_encrypted
        if not is_encrypted and session.has_extn("starttls"):
            session.starttls(context=context)
            session.ehlo()
            is_encrypted = True
        if server.user:
            if not is_encrypted and not server.allows_plain:
                raise PlainConnectionError
            session.login(server.user, server.password)
    except BaseException:
        session.close()
        raise
    return session


class MailSession:
    """Hands in mails one after the other, over one connection that is opened when it is needed, and again when lost."""

    def __init__(self, server: MailServer, timeout: float = TIMEOUT_SECONDS) -> None:
        self._server = server
        self._timeout = timeout
        self._open: smtplib.SMTP | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            try:
                self._open.quit()
            except OSError:
                self._open.close()

    def connect(self) -> Delivery | None:
        """Connect, unless a connection is open; None when it is, else why not.

        Raises
        ------
        InterruptedRunError
            When the server refuses the login, or offers no encryption for it: no mail can be sent.
        """
        if self._open is not None:
            return None
        try:
            self._open = connected(self._server, self._timeout)
        except PlainConnectionError as error:
            raise InterruptedRunError(
                f"{self._server}: the mail server offers no encryption, and a password goes over none: expected "
                f"STARTTLS (?insecure=1 behind {VARIABLE} lets it)"
            ) from error
        except (smtplib.SMTPAuthenticationError, smtplib.SMTPNotSupportedError) as error:
            raise InterruptedRunError(
                f"{self._server}: the mail server refuses the login ({_said(error)}): expected the user and the "
                f"password of {VARIABLE} to be right"
            ) from error
        except ssl.SSLCertVerificationError as error:
            raise InterruptedRunError(
                f"{self._server}: the certificate of the mail server cannot be trusted ({error.verify_message})"
            ) from error
        except (OSError, UnicodeError) as error:
            return Delivery(MailOutcome.DEFERRED, f"{self._server} cannot be reached ({_said(error)})")
        return None

    def deliver(self, message: bytes, sender: str, recipient: str, begin: Callable[[], bool]) -> Delivery | None:
        """Hand in one mail; `connect` first.

        Parameters
        ----------
        message
            With CRLF line ends.
        begin
            Called when the server takes sender and recipient, before anything of the mail is sent: it records the
            attempt. Where it returns False another run sends this mail, and this one does not.

        Returns
        -------
        Delivery or None
            None where another run sends it. `unknown` where the connection was lost after the whole mail was sent and
            before the server answered: it may have taken it.
        """
        session = self._open
        if session is None:
            raise ValueError("connect first")
        try:
            refused = self._envelope(session, sender, recipient)
            if refused is not None:
                return refused
            if not begin():
                session.rset()
                return None
            code, reply = session.docmd("DATA")
            if code != 354:
                return self._answered(session, code, reply)
            session.send(_body(message))
        except OSError as error:
            # Without its last line a mail is not taken.
            return self._lost(MailOutcome.DEFERRED, f"the connection was lost ({_said(error)})")
        try:
            session.send(b".\r\n")
            code, reply = session.getreply()
        except OSError as error:
            return self._lost(
                MailOutcome.UNKNOWN,
                f"the connection was lost before the server answered ({_said(error)}): look whether the mail arrived",
            )
        return Delivery(MailOutcome.SENT) if code == 250 else self._answered(session, code, reply)

    def _envelope(self, session: smtplib.SMTP, sender: str, recipient: str) -> Delivery | None:
        code, reply = session.mail(sender)
        if code != 250:
            # The sender is refused, not this recipient: another run may find the server mended.
            found = self._answered(session, code, reply)
            return Delivery(MailOutcome.DEFERRED, found.error)
        code, reply = session.rcpt(recipient)
        return None if code in (250, 251) else self._answered(session, code, reply)

    def _answered(self, session: smtplib.SMTP, code: int, reply: bytes) -> Delivery:
        """A refusal in the server's words: for good (5xx), or for now."""
        error = f"{code} {_plain(reply.decode('utf-8', 'replace'))}"
        if code == 421 or code < 0:
            return self._lost(MailOutcome.DEFERRED, error)
        answered = MailOutcome.REFUSED if 500 <= code < 600 else MailOutcome.DEFERRED
        try:
            session.rset()
        except OSError:
            # It has answered this mail, whatever it does with the connection.
            return self._lost(answered, error)
        return Delivery(answered, error)

    def _lost(self, outcome: MailOutcome, error: str) -> Delivery:
        if self._open is not None:
            self._open.close()
            self._open = None
        return Delivery(outcome, error)


def _body(message: bytes) -> bytes:
    """The mail as it is sent after DATA, up to its last line: dots at the start of a line are doubled."""
    text = re.sub(rb"(?m)^\.", b"..", message)
    return text if text.endswith(b"\r\n") else text + b"\r\n"


def _said(error: Exception) -> str:
    """An error in words, without what was sent."""
    if isinstance(error, smtplib.SMTPResponseException):
        reply = error.smtp_error
        return (
            f"{error.smtp_code} {_plain(reply.decode('utf-8', 'replace') if isinstance(reply, bytes) else str(reply))}"
        )
    if isinstance(error, TimeoutError):
        return "timed out"
    return _plain(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _plain(text: str) -> str:
    words = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return words[:_LONGEST_REPLY]
