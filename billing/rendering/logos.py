"""A seller's logo: whether it can be drawn, before any document is."""

import io
import struct
import zlib
from typing import Final
from xml.etree import ElementTree

from billing.rendering.drawing import logo_is_drawn
from billing.rendering.errors import RenderingError

LARGEST: Final = 200_000
UNREADABLE: Final = "found an image that cannot be read, expected PNG or SVG"


def media_type(content: bytes) -> str:
    """Media type of a logo, told by its bytes; empty when it is neither PNG nor SVG."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "image/svg+xml" if b"<svg" in content[:4096] else ""


def logo_form_problem(content: bytes) -> str:
    """What is wrong with a logo before it is drawn, in words that follow its name; empty when nothing is."""
    if len(content) > LARGEST:
        return f"found {len(content):,} bytes, expected at most {LARGEST:,}"
    kind = media_type(content)
    if not kind:
        return "found neither PNG nor SVG, expected one of them"
    return _drawing_problem(content) if kind == "image/svg+xml" else _picture_problem(content)


def logo_problem(content: bytes) -> str:
    """What keeps a logo from being drawn, in words that follow its name; empty when nothing does."""
    if problem := logo_form_problem(content):
        return problem
    try:
        drawn = logo_is_drawn(content, media_type(content))
    except RenderingError as error:
        return f"found an image that cannot be drawn ({error.cause}), expected PNG or SVG"
    return "" if drawn else UNREADABLE


def _drawing_problem(content: bytes) -> str:
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 - as WeasyPrint reads it; no entity leads outside
    except ElementTree.ParseError:
        return UNREADABLE
    for element in root.iter():
        names = {name.rpartition("}")[2]: value for name, value in element.items()}
        if _local(element.tag) == "script" or any(name.lower().startswith("on") for name in names):
            return "found a script, expected a drawing without one"
        if not (outside := names.get("href", "#")).startswith("#"):
            return f"found a reference to {outside[:60]!r}, expected a drawing that refers to nothing outside"
    return ""


def _local(tag: object) -> str:
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _picture_problem(content: bytes) -> str:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            picture.verify()
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error, Image.DecompressionBombError):
        return UNREADABLE
    return ""
