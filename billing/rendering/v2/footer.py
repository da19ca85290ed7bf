"""The seller's footer: legal form, register and whatever the law wants on every business letter."""

from math import ceil
from typing import Final

from billing.rendering.content import Fields
from billing.rendering.fonts import width_in_ems
from billing.rendering.v2.lines import MILLIMETRES_PER_POINT, TABLE

FOOTER_LINES: Final = 3
FOOTER_POINTS: Final = 7.5


def footer_lines(seller: Fields) -> list[str]:
    """The lines of the footer; sellers of earlier versions have none."""
    return [line.strip() for line in seller.texts("footer") if line.strip()] if seller.holds("footer") else []


def footer_of(seller: Fields) -> tuple[str, list[str]]:
    """The text at the foot of every page, and the lines that are too long for it and end the document."""
    lines = footer_lines(seller)
    if not lines:
        return "", []
    line = TABLE / (FOOTER_POINTS * MILLIMETRES_PER_POINT)
    if sum(ceil(width_in_ems(text) / line) for text in lines) <= FOOTER_LINES:
        return "\n".join(lines) + "\n", []
    joined = " · ".join(lines)
    # A line of text ends before its last word: leave some room.
    return (f"{joined}\n", []) if width_in_ems(joined) <= 0.9 * FOOTER_LINES * line else ("", lines)
