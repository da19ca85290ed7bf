"""Send mails one by one: record each attempt before the mail is sent, and its outcome after (rule 41)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from billing.mailing.message import Attachment, Mail, message_bytes, message_id
from billing.mailing.smtp import MailServer, MailSession
from billing.model.catalogue import Catalogue
from billing.model.codes import MailKind, MailOutcome
from billing.model.errors import RefusedError
from billing.model.mail_addresses import sendable_address
from billing.model.text import counted
from billing.register.register import Register
from billing.register.sent_mails import Attempt
from billing.rendering.mails import MailText

MOST_LOST_IN_A_ROW: Final = 3
"""So many times in a row the server may be out of reach before a run leaves the other mails to the next one."""


@dataclass(frozen=True)
class Sender:
    """From whom mails are."""

    name: str
    address: str


@dataclass(frozen=True)
class Wanted:
    """A mail to send.

    Attributes
    ----------
    mail_id
        As `Attempt.mail_id`.
    named
        What it is called in messages.
    to
        The address as the account has it; None where it has none.
    attempts
        How many attempts there were.
    skipped_for
        Why the last attempt was skipped; empty when it was not.
    """

    mail_id: str
    named: str
    kind: MailKind
    account_id: str
    to: str | None
    attempts: int = 0
    skipped_for: str = ""


@dataclass
class Sending:
    """What a run sent.

    Attributes
    ----------
    waiting
        Mails that were not tried, because the server could not be reached.
    problems
        What did not go as it should, in words: a line for each mail.
    """

    sent: int = 0
    failed: int = 0
    skipped: int = 0
    unknown: int = 0
    waiting: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def is_partial(self) -> bool:
        """Whether something failed, waits, or may or may not have arrived."""
        return bool(self.failed or self.unknown or self.waiting)

    def in_words(self) -> str:
        words = [f"{counted(self.sent, 'mail')} sent", f"{self.failed} failed", f"{self.skipped} skipped"]
        words += [f"{self.unknown} unknown"] if self.unknown else []
        words += [f"{self.waiting} left to the next run"] if self.waiting else []
        return ", ".join(words)


class SkippedError(Exception):
    """A mail cannot be made yet: says what is missing."""


Compose = Callable[[Wanted], tuple[MailText, list[Attachment]]]


def sender_of(catalogue: Catalogue) -> Sender:
    """From whom mails are: the policy's `mail_from`, else the seller's contact, else the support address.

    Raises
    ------
    RefusedError
        When the catalogue has none of them, or one that is no address.
    """
    seller = catalogue.seller
    contact = seller.contact.email if seller.contact else ""
    found = catalogue.policy.mail_from or contact or seller.support_email
    address = sendable_address(found)
    if address is None:
        raise RefusedError(
            f"catalogue.yaml: found {repr(found) if found else 'nothing'} as the sender of mails, expected an address "
            "in policy.mail_from, seller.contact.email or seller.support_email"
        )
    return Sender(seller.name, address)


def send_mails(
    wanted: Iterable[Wanted],
    compose: Compose,
    *,
    register: Register,
    server: MailServer,
    sender: Sender,
    now: Callable[[], datetime],
) -> Sending:
    """Send mails in order. What fails for one account stops no other.

    Parameters
    ----------
    compose
        Words and files of a mail, asked for just before it is sent.
    now
        The time, in UTC.

    Raises
    ------
    InterruptedRunError
        When the server refuses the login: no mail can be sent.
    """
    sending, lost = Sending(), 0
    with MailSession(server) as session:
        for mail in wanted:
            attempt = Attempt(
                mail.mail_id,
                mail.attempts + 1,
                mail.kind,
                mail.account_id,
                mail.to,
                message_id(mail.mail_id, sender.address),
                now(),
            )
            try:
                address = _address(mail.to)
                said, files = compose(mail)
            except SkippedError as error:
                _skip(sending, register, mail, attempt, str(error))
                continue
            if lost == MOST_LOST_IN_A_ROW:
                sending.waiting += 1
                continue
            failed = session.connect()
            if failed is not None:
                lost += 1
                register.record_unsent(attempt, failed.outcome, failed.error)
                _count(sending, mail, failed.outcome, failed.error)
                continue
            lost = 0
            content = message_bytes(
                Mail(
                    attempt.message_id,
                    sender.name,
                    sender.address,
                    address,
                    said.subject,
                    said.text,
                    said.html,
                    said.language,
                    files,
                ),
                attempt.started_at,
            )
            _deliver(sending, session, register, mail, attempt, content, sender.address, address, now)
    if sending.waiting:
        sending.problems.append(
            f"the mail server {server} could not be reached {MOST_LOST_IN_A_ROW} times in a row: "
            f"{counted(sending.waiting, 'mail')} left to the next run"
        )
    return sending


def _deliver(
    sending: Sending,
    session: MailSession,
    register: Register,
    mail: Wanted,
    attempt: Attempt,
    content: bytes,
    sender: str,
    address: str,
    now: Callable[[], datetime],
) -> None:
    begun = False

    def begin() -> bool:
        nonlocal begun
        begun = register.begin_attempt(attempt)
        return begun

    delivery = session.deliver(content, sender, address, begin)
    if delivery is None:
        return
    if begun:
        register.end_attempt(attempt, delivery.outcome, now(), delivery.error)
    elif not register.record_unsent(attempt, delivery.outcome, delivery.error):
        return
    _count(sending, mail, delivery.outcome, delivery.error)


def _address(text: str | None) -> str:
    if not text or not text.strip():
        raise SkippedError("the account has no mail address")
    address = sendable_address(text)
    if address is None:
        raise SkippedError(f"found {text!r}, expected one mail address")
    return address


def _skip(sending: Sending, register: Register, mail: Wanted, attempt: Attempt, reason: str) -> None:
    # A reason that is known already is not recorded again.
    if mail.skipped_for != reason:
        register.record_unsent(attempt, MailOutcome.SKIPPED, reason)
    sending.skipped += 1
    sending.problems.append(f"{mail.named} of account {mail.account_id} was not sent: {reason}")


def _count(sending: Sending, mail: Wanted, outcome: MailOutcome, error: str) -> None:
    if outcome == MailOutcome.SENT:
        sending.sent += 1
        return
    named = f"{mail.named} of account {mail.account_id}"
    if outcome == MailOutcome.UNKNOWN:
        sending.unknown += 1
        sending.problems.append(f"{named} may or may not have been sent: {error}; --again sends it again")
        return
    sending.failed += 1
    then = "a later run tries again" if outcome == MailOutcome.DEFERRED else "only --again tries again"
    sending.problems.append(f"{named} was not sent: {error}; {then}")
