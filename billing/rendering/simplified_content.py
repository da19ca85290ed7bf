"""Simplified content for a document that cannot be drawn as it is: long words broken, long texts truncated.

Today's inputs have length limits that fit a page; documents issued before these limits may hold longer texts.
"""

from collections.abc import Mapping
from typing import Any, Final

LONGEST_TEXT: Final = 1_000
LONGEST_WORD: Final = 100
# Do not try to draw longer texts: breaking one word into lines takes quadratic time.
BEYOND_PAPER: Final = 5_000


def plainer(content: Mapping[str, object]) -> dict[str, object]:
    """Truncate texts to what fits a page and break long words; returns equal content when nothing is too long."""
    shortened: dict[str, object] = _shortened(content)
    return shortened


def is_beyond_paper(value: object) -> bool:
    """Whether a text of the content is longer than any page can hold."""
    if isinstance(value, str):
        return len(value) > BEYOND_PAPER
    if isinstance(value, Mapping):
        return any(map(is_beyond_paper, value.values()))
    return isinstance(value, list) and any(map(is_beyond_paper, value))


def _shortened(value: object) -> Any:
    if isinstance(value, str):
        return _short(value)
    if isinstance(value, Mapping):
        return {name: _shortened(each) for name, each in value.items()}
    return [_shortened(each) for each in value] if isinstance(value, list) else value


def _short(text: str) -> str:
    if len(text) <= LONGEST_WORD:
        return text
    cut = text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}\N{HORIZONTAL ELLIPSIS}"
    pieces = cut.split(" ")
    if max(map(len, pieces)) <= LONGEST_WORD:
        return cut
    starts = (range(0, len(piece) or 1, LONGEST_WORD) for piece in pieces)
    return " ".join(
        piece[start : start + LONGEST_WORD] for piece, each in zip(pieces, starts, strict=True) for start in each
    )
