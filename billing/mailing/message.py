"""A mail as the bytes that are handed to a mail server: the same for the same content and time."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

# Everything in ASCII: no extension of the server is needed.
_POLICY: Final = SMTP.clone(cte_type="7bit")
_LONGEST_NAME: Final = 120


@dataclass(frozen=True)
class Attachment:
    """A file of a mail."""

    name: str
    content: bytes
    subtype: str


@dataclass(frozen=True)
class Mail:
    """What a mail says and carries, and from whom it is to whom (addresses in ASCII).

    Attributes
    ----------
    message_id
        As `message_id`.
    language
        Of its text (BCP 47).
    """

    message_id: str
    sender_name: str
    sender: str
    recipient: str
    subject: str
    text: str
    html: str
    language: str
    attachments: Sequence[Attachment] = ()


def message_id(name: str, sender: str) -> str:
    """The Message-ID of what a mail carries, by its number and the seller's domain: a second copy has the same."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60]
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"<{readable}.{digest}@{sender.rpartition('@')[2].lower()}>"


def message_bytes(mail: Mail, date: datetime) -> bytes:
    """The mail with CRLF line ends: text and HTML as alternatives, then the files."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = Address(_one_line(mail.sender_name)[:_LONGEST_NAME], addr_spec=mail.sender)
    message["To"] = Address(addr_spec=mail.recipient)
    message["Subject"] = _one_line(mail.subject)
    message["Date"] = format_datetime(date, usegmt=True)
    message["Message-ID"] = mail.message_id
    # Answering machines stay quiet (RFC 3834).
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    message.add_alternative(mail.html, subtype="html")
    for attachment in mail.attachments:
        message.add_attachment(
            attachment.content, maintype="application", subtype=attachment.subtype, filename=attachment.name
        )
    # Last: it would become a header of the text alone.
    message["Content-Language"] = mail.language
    # Else boundaries are random.
    for place, part in enumerate(part for part in message.walk() if part.is_multipart()):
        part.set_boundary(f"=_{hashlib.sha256(f'{mail.message_id}{place}'.encode()).hexdigest()[:32]}")
    return message.as_bytes()


def _one_line(text: str) -> str:
    """A text without line ends and other control characters, which would begin a header of their own."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
