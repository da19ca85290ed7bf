"""The layout that a producer's JSON lines share, and reading members by their place in it.

A producer writes the same members in the same order on every line, with other content. Where a regular expression
made from one such line matches another as a whole, every quotation mark of it is known, so members can be cut out at
quotation marks, several times faster than JSON is decoded, and numbers stay the text they are. Lines of no known
layout are left to the decoder; for the others both give the same.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import polars as pl

_STRING: Final = r'[^"\\\x00-\x1F]*'
_SCALAR: Final = r"(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|true|false|null)"
_TOKEN: Final = re.compile(rf"[{{}}:,]|{_SCALAR}|[ \t]+", re.ASCII)
_AROUND_SCALAR: Final = "{}:, \t"
_MOST_MEMBERS: Final = 100


@dataclass(frozen=True)
class _Slot:
    """Where a value stands among the pieces between quotation marks.

    `key_piece` is the piece that names it where names may differ from line to line; None where `path` is the path.
    """

    path: tuple[str, ...]
    piece: int
    is_text: bool
    key_piece: int | None


@dataclass(frozen=True)
class LineLayout:
    """How a line is built: what matches it, and where its values stand."""

    pattern: str
    slots: tuple[_Slot, ...]
    pieces: int

    def slots_of(self, path: tuple[str, ...]) -> list[_Slot]:
        """Where the value at `path` may stand, in the order of the line."""
        return [
            slot
            for slot in self.slots
            if slot.path[:-1] == path[:-1] and (slot.key_piece is not None or slot.path[-1] == path[-1])
        ]

    def value(self, path: tuple[str, ...]) -> pl.Expr:
        """The text at `path`, from the columns that `read_pieces` yields; of a repeated member the first."""
        found = pl.lit(None, pl.String)
        for slot in reversed(self.slots_of(path)):
            value = pl.col(_column(slot.piece)) if slot.is_text else _scalar_text(slot.piece)
            found = value if slot.key_piece is None else pl.when(_named(slot, path)).then(value).otherwise(found)
        return found

    def needed(self, paths: Sequence[tuple[str, ...]]) -> set[int]:
        """The pieces that the values at `paths` are read from."""
        slots = [slot for path in paths for slot in self.slots_of(path)]
        return {slot.piece for slot in slots} | {slot.key_piece for slot in slots if slot.key_piece is not None}


def layout_of(line: str) -> LineLayout | None:
    """The layout of a line: an object of text, numbers and further objects; None where it is built otherwise."""
    if "\\" in line:
        return None
    try:
        json.loads(line)
        return _Reader(line).layout()
    except (ValueError, IndexError, RecursionError):
        return None


def read_pieces(block: bytes, layouts: Sequence[LineLayout], paths: Sequence[tuple[str, ...]]) -> pl.DataFrame:
    """The pieces between quotation marks that layouts need, one row per line of the block, blank lines left out.

    What a line of another layout yields means nothing.
    """
    width = max(layout.pieces for layout in layouts)
    needed = sorted(set().union(*(layout.needed(paths) for layout in layouts)))
    # the reader takes the first line's width for that of all, so a line of the full width goes first
    return pl.read_csv(
        b'"'.join([b"-"] * width) + b"\n" + block,
        has_header=False,
        separator='"',
        quote_char=None,
        truncate_ragged_lines=True,
        empty_string_is_null=False,
        schema={_column(piece): pl.String for piece in range(width)},
        columns=needed,
    ).slice(1)


def _column(piece: int) -> str:
    return f"piece {piece}"


def _named(slot: _Slot, path: tuple[str, ...]) -> pl.Expr:
    return pl.col(_column(slot.key_piece or 0)) == path[-1]


def _scalar_text(piece: int) -> pl.Expr:
    """A bare value as text: numbers without needless zeros, null for null."""
    text = pl.col(_column(piece)).str.strip_chars(_AROUND_SCALAR)
    shortened = text.str.replace(r"(\.[0-9]*?)0+$", "$1").str.strip_suffix(".")
    plain = pl.when(text.str.contains(".", literal=True)).then(shortened).otherwise(text)
    return pl.when(text == "-0").then(pl.lit("0")).when(text != "null").then(plain)


class _Reader:
    """Reads one line into its layout; raises ValueError where it has none."""

    def __init__(self, line: str) -> None:
        self.tokens: list[tuple[int, str]] = []
        self.strings = line.split('"')
        for piece, text in enumerate(self.strings):
            if piece % 2:
                self.tokens.append((piece, '"'))
            else:
                self._split(piece, text)
        self.place = 0
        self.slots: list[_Slot] = []
        self.pattern: list[str] = []

    @cached_property
    def width(self) -> int:
        return len(self.strings)

    def layout(self) -> LineLayout:
        self._object((), free_names=False)
        if self.place != len(self.tokens) or len(self.slots) > _MOST_MEMBERS:
            raise ValueError
        return LineLayout(f"^{''.join(self.pattern)}$", tuple(self.slots), self.width)

    def _split(self, piece: int, text: str) -> None:
        position = 0
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None:
                raise ValueError
            self.tokens.append((piece, found.group()))
            position = found.end()

    def _object(self, path: tuple[str, ...], free_names: bool) -> None:
        names: set[str] = set()
        self._take("{")
        while True:
            piece = self._take('"', keep=False)
            name = self.strings[piece]
            if name in names:
                raise ValueError
            names.add(name)
            self.pattern.append(f'"{_STRING}"' if free_names else f'"{re.escape(name)}"')
            self._take(":")
            self._value((*path, name), piece if free_names else None)
            if self._peek() != ",":
                break
            self._take(",")
        self._take("}")

    def _value(self, path: tuple[str, ...], key_piece: int | None) -> None:
        kind = self._peek()
        if kind == "{":
            self._object(path, free_names=self._is_flat())
            return
        piece = self._take(kind, keep=False)
        self.pattern.append(f'"{_STRING}"' if kind == '"' else _SCALAR)
        self.slots.append(_Slot(path, piece, kind == '"', key_piece))

    def _is_flat(self) -> bool:
        """Whether the object that starts here holds no further one: then its members may have any names."""
        for _, mark in self.tokens[self.place + 1 :]:
            if mark in "{}":
                return mark == "}"
        return False

    def _peek(self) -> str:
        place = self.place
        while self.tokens[place][1].isspace():
            place += 1
        return self.tokens[place][1]

    def _take(self, expected: str, keep: bool = True) -> int:
        self._space()
        piece, token = self.tokens[self.place]
        if token != expected:
            raise ValueError
        if keep:
            self.pattern.append(re.escape(token))
        self.place += 1
        self._space()
        return piece

    def _space(self) -> None:
        while self.place < len(self.tokens) and self.tokens[self.place][1].isspace():
            self.pattern.append(self.tokens[self.place][1])
            self.place += 1
