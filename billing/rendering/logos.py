"""A seller's logo: whether it can be drawn, before any document is."""

from typing import Final
from xml.etree import ElementTree

from billing.rendering.drawing import logo_is_drawn
from billing.rendering.errors import RenderingError

LARGEST: Final = 200_000


def media_type(content: bytes) -> str:
    """Media type of a logo, told by its bytes; empty when it is neither PNG nor SVG."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "image/svg+xml" if b"<svg" in content[:4096] else ""


def logo_form_problem(content: bytes) -> str:
    """What is wrong with a logo at first sight, in words that follow its name; empty when nothing is."""
    if len(content) > LARGEST:
        return f"found {len(content):,} bytes, expected at most {LARGEST:,}"
    return "" if media_type(content) else "found neither PNG nor SVG, expected one of them"


def logo_problem(content: bytes) -> str:
    """What keeps a logo from being drawn, in words that follow its name; empty when nothing does."""
    if problem := logo_form_problem(content):
        return problem
    kind = media_type(content)
    if kind == "image/svg+xml" and (outside := _reference(content)):
        return f"found a reference to {outside[:60]!r}, expected a drawing that refers to nothing outside"
    try:
        drawn = logo_is_drawn(content, kind)
    except RenderingError as error:
        return f"found an image that cannot be drawn ({error.cause}), expected PNG or SVG"
    return "" if drawn else "found an image that cannot be read, expected PNG or SVG"


def _reference(content: bytes) -> str:
    """The first reference of a drawing to anything but its own parts, which pages do not follow."""
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 - as WeasyPrint reads it; no entity leads outside
    except ElementTree.ParseError:
        return ""
    values = (value for element in root.iter() for name, value in element.items() if name.rpartition("}")[2] == "href")
    return next((value for value in values if not value.startswith("#")), "")
