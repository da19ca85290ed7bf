"""Bundled fonts, and the characters they cover."""

import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain
from pathlib import Path

import invoice_templates

TEMPLATES = Path(invoice_templates.__file__).parent
FACES = (
    "Inter-Regular.ttf",
    "Inter-SemiBold.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "DroidSansFallback-Han.ttf",
    "DroidSansFallback-Hangul.ttf",
)


BOX = "\N{WHITE SQUARE}"
# Remove bidirectional controls: in a name they could reorder the rest of a line.
DIRECTION_CONTROLS = frozenset(chain(range(0x202A, 0x202F), range(0x2066, 0x206A)))


@cache
def _characters(face: str) -> frozenset[int]:
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # fontTools has no types.

    with TTFont(TEMPLATES / "fonts" / face, lazy=True) as font:
        return frozenset(font.getBestCmap())


def covered_by_inter(text: str) -> bool:
    return _characters(FACES[0]).issuperset(map(ord, set(text)))


@cache
def _covered(faces: tuple[str, ...]) -> frozenset[str]:
    found = map(chr, frozenset().union(*map(_characters, faces)) - DIRECTION_CONTROLS)
    # Exclude control characters, which a font may map but no page may hold.
    return frozenset(it for it in found if unicodedata.category(it) not in ("Cc", "Cs", "Cn")) | frozenset("\n\r\t")


def uncovered(text: str) -> set[str]:
    """Characters that no font covers; reads further fonts only if the first one does not cover the text."""
    others = set(text) - _covered(FACES[:1])
    return others - _covered(FACES) if others else others


def stand_in(character: str) -> str:
    """Replacement for a character that no font covers: an empty box, or nothing for an invisible one."""
    return "" if unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f" else BOX


@contextmanager
def only_bundled_faces() -> Iterator[None]:
    """Restrict fontconfig to the bundle: it reads its configuration from the environment once, at start."""
    before = os.environ.get("FONTCONFIG_FILE")
    os.environ["FONTCONFIG_FILE"] = str(TEMPLATES / "fonts.conf")
    try:
        yield
    finally:
        if before is None:
            del os.environ["FONTCONFIG_FILE"]
        else:
            os.environ["FONTCONFIG_FILE"] = before
