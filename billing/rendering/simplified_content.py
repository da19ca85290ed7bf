"""The content of a document that could not be drawn as it is: long words broken, long texts cut.

What an accounts file or a catalogue may hold fits the page and is drawn as it is; documents that were issued before
there were such lengths may hold more.
"""

from collections.abc import Mapping
from typing import Any, Final

LONGEST_TEXT: Final = 1_000
LONGEST_WORD: Final = 100
# beyond it a page is not even tried: to break one word into lines takes time in proportion to its square
BEYOND_PAPER: Final = 5_000


def plainer(content: Mapping[str, object]) -> dict[str, object]:
    """The content with every text cut to what fits a page, and its words broken; equal where nothing is that long."""
    shortened: dict[str, object] = _shortened(content)
    return shortened


def is_beyond_paper(value: object) -> bool:
    """Whether a text of the content is longer than any page can take."""
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
