"""Line layouts: how the lines of a file are written, so that their members are read without decoding them.

A producer writes the same members in the same order on every line. Split at commas, such a line has fields with a known
prefix and suffix; the text between is the value, and numbers stay text. Counting proves that a line has no other
members: its fields match, and the block has no comma or quotation mark beyond those of the layouts. Lines of unknown
layout go to the decoder; both give the same result for all others.
"""

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import polars as pl

from billing.ingest.formats.delivered_bytes import MOST_FIELDS

_SCALAR: Final = r"(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|true|false|null)"
_TOKEN: Final = re.compile(rf"[{{}}:,]|{_SCALAR}|[ \t]+", re.ASCII)
_STRUCTURE: Final = "{}:"


@dataclass(frozen=True)
class Field:
    """One member of a line: the text before its value, and after it up to the comma or the end of the line.

    When names vary between lines, `before` ends before the name, and `between` is the text from the name's closing
    quotation mark to the value; otherwise `between` is empty. `first` is the value on the line that the layout is of.
    """

    path: tuple[str, ...]
    before: str
    between: str
    after: str
    is_text: bool
    first: str = field(default="", compare=False)

    @property
    def is_fixed(self) -> bool:
        """Whether the member has this name on every line."""
        return not self.between

    @cached_property
    def quotes(self) -> int:
        """Number of quotation marks in the field."""
        return f"{self.before}{self.between}{self.after}".count('"')

    @cached_property
    def blanks(self) -> int:
        """Number of blanks in the field, names aside."""
        return f"{self.before}{self.between}{self.after}".count(" ")

    def matches(self, column: str) -> pl.Expr:
        """Whether a field of a line is this member, assuming it has no further quotation mark."""
        name = "" if self.is_fixed else '[^"]*' + re.escape(self.between)
        value = '[^"]*' if self.is_text else _SCALAR
        return pl.col(column).str.contains(f"^{re.escape(self.before)}{name}{value}{re.escape(self.after)}$")

    def opening(self, name: str) -> str:
        """The text before the value when the member has this name."""
        return self.before if self.is_fixed else f"{self.before}{name}{self.between}"

    def may_be_odd(self, column: str) -> pl.Expr:
        """Whether the bare value in a field may differ from the text to read; see `plain_scalars`."""
        text = pl.col(column)
        return (
            text.str.contains(".", literal=True)
            | text.str.ends_with(f"null{self.after}")
            | text.str.ends_with(f"-0{self.after}")
        )


@dataclass(frozen=True)
class LineLayout:
    """Layout of a line: its members, in order."""

    fields: tuple[Field, ...]

    @property
    def quotes(self) -> int:
        """Number of quotation marks on a line."""
        return sum(field.quotes for field in self.fields)

    @property
    def blanks(self) -> int:
        """Number of blanks on a line, apart from its values and names that vary."""
        return sum(field.blanks for field in self.fields)

    @property
    def commas(self) -> int:
        """Number of commas on a line."""
        return len(self.fields) - 1


def layout_of(line: str) -> LineLayout | None:
    """Layout of a line: an object of text, numbers and nested objects; None for any other line."""
    if "\\" in line:
        return None
    try:
        json.loads(line)
        return _Reader(line).layout()
    except (ValueError, IndexError, RecursionError):
        return None


def cut_lines(framed: bytes, width: int) -> pl.DataFrame:
    """Split the lines of a block at commas, one row per line, blank lines left out.

    Shorter lines are padded with arbitrary values to `width` fields, longer ones are truncated.

    Parameters
    ----------
    framed
        FIRST_LINE, and the lines: the reader takes the width of the first line as the maximum.
    """
    return pl.read_csv(
        framed,
        has_header=False,
        separator=",",
        quote_char=None,
        truncate_ragged_lines=True,
        extra_columns="ignore",
        empty_string_is_null=False,
        schema={column(piece): pl.String for piece in range(width)},
    ).slice(1)


def column(piece: int) -> str:
    """Name of the column of a field in `cut_lines`."""
    return f"piece {piece}"


def plain_scalars(text: pl.Expr) -> pl.Expr:
    """Bare values as text: numbers without redundant zeros, null for null."""
    shortened = text.str.replace(r"(\.[0-9]*?)0+$", "$1").str.strip_suffix(".")
    plain = pl.when(text.str.contains(".", literal=True)).then(shortened).otherwise(text)
    return pl.when(text == "-0").then(pl.lit("0")).when(text != "null").then(plain)


class _Reader:
    """Parses one line into its layout; raises ValueError when it has none."""

    def __init__(self, line: str) -> None:
        self.tokens: list[tuple[int, str]] = []
        self.strings = line.split('"')
        for piece, text in enumerate(self.strings):
            if piece % 2:
                if "," in text:
                    raise ValueError
                self.tokens.append((piece, '"'))
            else:
                self._split(piece, text)
        self.place = 0
        self.fields: list[Field] = []
        self.literal = ""
        self.found: tuple[tuple[str, ...], str, str, bool, str] | None = None

    def layout(self) -> LineLayout:
        self._object((), free_names=False)
        self._space()
        self._end_field()
        if self.place != len(self.tokens) or len(self.fields) > MOST_FIELDS:
            raise ValueError
        return LineLayout(tuple(self.fields))

    def _split(self, piece: int, text: str) -> None:
        position = 0
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None:
                raise ValueError
            self.tokens.append((piece, found.group()))
            position = found.end()

    def _object(self, path: tuple[str, ...], *, free_names: bool) -> None:
        names: set[str] = set()
        self._take("{")
        while True:
            name = self.strings[self._take('"')]
            if name in names:
                raise ValueError
            names.add(name)
            before = self.literal + '"'
            self.literal = '"' if free_names else f'{before}{name}"'
            self._take(":")
            self._value((*path, name), before if free_names else None)
            if self._peek() != ",":
                break
            self._take(",")
            self._end_field()
        self._take("}")

    def _value(self, path: tuple[str, ...], before: str | None) -> None:
        kind = self._peek()
        if kind == "{":
            self._object(path, free_names=self._is_flat())
            return
        piece = self._take(kind)
        is_text = kind == '"'
        opening = self.literal + ('"' if is_text else "")
        first = self.strings[piece] if is_text else kind
        self.found = (path, opening, "", is_text, first) if before is None else (path, before, opening, is_text, first)
        self.literal = '"' if is_text else ""

    def _end_field(self) -> None:
        """Close the last member: the text after it is its suffix."""
        if self.found is None:
            raise ValueError
        path, before, between, is_text, first = self.found
        self.fields.append(Field(path, before, between, self.literal, is_text, first))
        self.found, self.literal = None, ""

    def _is_flat(self) -> bool:
        """Whether the object that starts here is flat: then its members may have any names."""
        for _, mark in self.tokens[self.place + 1 :]:
            if mark in "{}":
                return mark == "}"
        return False

    def _peek(self) -> str:
        place = self.place
        while self.tokens[place][1].isspace():
            place += 1
        return self.tokens[place][1]

    def _take(self, expected: str) -> int:
        """Consume a token and the space before it; everything except names, values and commas becomes literal text."""
        self._space()
        piece, token = self.tokens[self.place]
        if token != expected:
            raise ValueError
        if expected in _STRUCTURE:
            self.literal += expected
        self.place += 1
        return piece

    def _space(self) -> None:
        while self.place < len(self.tokens) and self.tokens[self.place][1].isspace():
            self.literal += self.tokens[self.place][1]
            self.place += 1
