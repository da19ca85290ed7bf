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
FACES = (  # of template version 1, which never changes
    "Inter-Regular.ttf",
    "Inter-SemiBold.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "DroidSansFallback-Han.ttf",
    "DroidSansFallback-Hangul.ttf",
)
ALL_FACES = (*FACES, "MPlus1-Japanese.ttf")


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


def uncovered(text: str, faces: tuple[str, ...] = FACES) -> set[str]:
    """Characters that no font covers; reads further fonts only if the first one does not cover the text."""
    others = set(text) - _covered(faces[:1])
    return others - _covered(faces) if others else others


def covered_by_bundle(text: str) -> bool:
    return not uncovered(text, ALL_FACES)


@cache
def _advances(face: str) -> dict[int, float]:
    """Advance of every character in ems; digits have one width, which `tnum` makes a little wider than the widest."""
    from fontTools.ttLib import TTFont

    with TTFont(TEMPLATES / "fonts" / face, lazy=True) as font:
        scale, metrics = font["head"].unitsPerEm, font["hmtx"]
        widths = {code: metrics[name][0] / scale for code, name in font.getBestCmap().items()}
    widest = 1.02 * max(widths[ord(digit)] for digit in "0123456789")
    return {**widths, **{ord(digit): widest for digit in "0123456789"}}


def width_in_ems(text: str, *, bold: bool = False) -> float:
    """Width of a text of one line; a character that Inter lacks counts as one em."""
    advances = _advances(FACES[1] if bold else FACES[0])
    return sum(advances.get(ord(character), 1.0) for character in text)


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
