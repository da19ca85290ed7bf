"""EPC QR code of a SEPA transfer (EPC069-12), as an image."""

import re
import struct
import zlib
from decimal import Decimal
from functools import lru_cache
from typing import Final

MOST_BYTES: Final = 331  # of the largest code that banks read (version 13)
MOST: Final = Decimal("999999999.99")
# A fixed mask: choosing the best of eight costs 3 ms, and every mask can be read.
_MASK: Final = 0
_QUIET: Final = 4
_PIXELS: Final = 2
_MODULES: Final = (b"\xff" * _PIXELS, b"\0" * _PIXELS)
"""Pixels of a light and a dark module, grey."""


def transfer_text(*, holder: str, iban: str, bic: str, amount: Decimal, currency: str, reference: str) -> str:
    """What the code says; empty where no such transfer can be ordered: other currency, no valid IBAN, nothing due."""
    plain, code = "".join(iban.split()).upper(), "".join(bic.split()).upper()
    if currency != "EUR" or not 0 < amount <= MOST or not is_iban(plain) or not holder.strip():
        return ""
    code = code if re.fullmatch(r"[A-Z]{6}[A-Z0-9]{2}([A-Z0-9]{3})?", code) else ""
    name = " ".join(holder.split())[:70]
    lines = ["BCD", "002", "1", "SCT", code, name, plain, f"EUR{amount:.2f}", "", "", " ".join(reference.split())[:140]]
    text = "\n".join(lines)
    return text if len(text.encode()) <= MOST_BYTES else ""


def is_iban(value: str) -> bool:
    """Whether a text without spaces has the form and the check digits of an IBAN (ISO 13616)."""
    if not re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", value):
        return False
    turned = value[4:] + value[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


@lru_cache(maxsize=8)
def qr_image(text: str) -> bytes:
    """A PNG of the QR code with the error correction that the EPC asks for (M), quiet zone included.

    Few grey pixels, kept sharp by the sheet: a drawing, or black and white, would cost a fifth of a page.
    """
    import segno

    code = segno.make_qr(text, error="m", encoding="utf-8", boost_error=False, mask=_MASK)
    side = len(code.matrix) + 2 * _QUIET
    margin = _MODULES[0] * _QUIET
    rows = [b"\0" + margin + b"".join(map(_MODULES.__getitem__, row)) + margin for row in code.matrix]
    white = b"\0" + _MODULES[0] * side
    lines = b"".join(line * _PIXELS for line in (*[white] * _QUIET, *rows, *[white] * _QUIET))
    header = struct.pack(">IIBBBBB", _PIXELS * side, _PIXELS * side, 8, 0, 0, 0, 0)
    # The PDF has its pixels compressed again.
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
