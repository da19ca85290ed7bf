"""A logo that cannot be drawn is known before any document is."""

import struct
import zlib

import pytest

from billing.rendering.logos import LARGEST, logo_form_problem, logo_problem
from tests.rich_documents import LOGO


def png(width: int = 2, height: int = 2) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + b"\xff\0\0" * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("logo", [LOGO, png()])
def test_a_drawing_and_a_picture_can_be_drawn(logo: bytes) -> None:
    assert logo_problem(logo) == ""


@pytest.mark.parametrize(
    ("logo", "problem"),
    [
        (b"GIF89a", "found neither PNG nor SVG"),
        (LOGO + b" " * LARGEST, "expected at most 200,000"),
        (LOGO[:-20], "cannot be read"),
        (png()[:40], "cannot be read"),
        (
            b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="https://example.com/x.png"/></svg>',
            "found a reference to 'https://example.com/x.png'",
        ),
        (LOGO.replace(b"</svg>", b"<script>alert(1)</script></svg>"), "found a script"),
        (LOGO.replace(b"<svg ", b'<svg onload="alert(1)" '), "found a script"),
    ],
)
def test_what_keeps_a_logo_from_being_drawn_is_named_before_it_is(logo: bytes, problem: str) -> None:
    assert problem in logo_form_problem(logo)
    assert problem in logo_problem(logo)
