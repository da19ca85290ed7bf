"""Mail addresses: which texts are one, and how it is written to a mail server."""

import re
from typing import Final

# RFC 5321: the parts of an address that servers take; quoted local parts and address literals are nobody's.
_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN: Final = re.compile(
    r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_LONGEST: Final = 254


def is_mail_address(text: str) -> bool:
    """Whether a text is one mail address."""
    return sendable_address(text) is not None


def sendable_address(text: str) -> str | None:
    """The address with its domain in ASCII (`info@bücher.example` has one in Punycode); None when it is none."""
    local, at, domain = text.strip().rpartition("@")
    if not at or not _LOCAL.fullmatch(local) or len(local) > 64:
        return None
    try:
        domain = domain.encode("idna").decode("ascii") if not domain.isascii() else domain
    except UnicodeError:
        return None
    address = f"{local}@{domain}"
    return address if _DOMAIN.fullmatch(domain) and len(address) <= _LONGEST else None
