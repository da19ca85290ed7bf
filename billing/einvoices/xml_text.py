"""Text, amounts and elements of XML files."""

import re
from decimal import Decimal
from typing import Final

# XML 1.0 has no other control characters.
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def one_line(text: str | None) -> str:
    """Text as XML can hold it, on one line."""
    return " ".join(_NOT_IN_XML.sub("", text or "").split())


def plain(number: Decimal) -> str:
    """A number without exponent, trailing zeros and negative zero: 61.2, 27350."""
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def money(amount: Decimal, minor_units: int) -> str:
    """An amount with the decimals of its currency; no zero is negative."""
    return f"{amount if amount else abs(amount):.{minor_units}f}"
