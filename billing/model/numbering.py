"""Numbering of documents: the format of each series, and where it begins (rules 19 and 38)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from billing.model.codes import DocumentKind

LONGEST_NUMBER: Final = 30
_MOST_DIGITS: Final = 12
_FORMAT: Final = re.compile(
    r"(?P<before>(?:[A-Za-z0-9\-_./]|\{year\})*)\{sequence(?::0(?P<width>[1-9]|1[0-2]))?\}"
    r"(?P<after>(?:[A-Za-z0-9\-_./]|\{year\})*)"
)
_DIGITS: Final = "0123456789"


class Written(NamedTuple):
    """A format in a year: what stands before and after the sequence, and the least digits of the sequence."""

    prefix: str
    suffix: str
    width: int

    def number(self, sequence: int) -> str:
        """The number of a place in the series."""
        return f"{self.prefix}{sequence:0{self.width}d}{self.suffix}"


@dataclass(frozen=True)
class NumberFormat:
    """A format such as `INV-{year}-{sequence:06}`; one without `{year}` runs on over the years.

    Raises
    ------
    ValueError
        With what was expected.
    """

    text: str

    def __post_init__(self) -> None:
        length = len(self.in_year(2000).number(1))
        if self.text.startswith("."):
            raise ValueError("a format that does not begin with a point: such files are hidden")
        if length > LONGEST_NUMBER:
            raise ValueError(f"a format of numbers of at most {LONGEST_NUMBER} characters, not {length}")

    @property
    def has_year(self) -> bool:
        """Whether the sequence begins anew every year."""
        return "{year}" in self.text

    @property
    def _parts(self) -> re.Match[str]:
        found = _FORMAT.fullmatch(self.text)
        if found is None:
            raise ValueError("letters, digits and -_./, {year}, and {sequence} or {sequence:06} once")
        return found

    def in_year(self, year: int) -> Written:
        """The format in a year."""
        found = self._parts
        before, after = (found[name].replace("{year}", f"{year:04d}") for name in ("before", "after"))
        return Written(before, after, int(found["width"] or 1))

    def pattern(self) -> re.Pattern[str]:
        """Matches the names of files of its documents; groups `year` (where it has one) and `sequence`."""
        written = re.escape(file_name(self.text.replace("{year}", "YEAR").replace("{sequence", "SEQUENCE{")))
        text = re.sub(r"SEQUENCE\\\{.*?\\\}", rf"(?P<sequence>\\d{{{self.in_year(2000).width},}})", written)
        return re.compile(text.replace("YEAR", r"(?P<year>\d{4})", 1).replace("YEAR", r"\d{4}"))

    def shapes(self) -> Iterator[tuple[str, ...]]:
        """Every shape of a file's name, as the characters there can be at each place; case does not count."""
        written, found = self.in_year(2000), self._parts
        before, after = (
            tuple(
                character
                for part in re.split(r"(\{year\})", found[name])
                for character in ([_DIGITS] * 4 if part == "{year}" else file_name(part).lower())
            )
            for name in ("before", "after")
        )
        for digits in range(written.width, _MOST_DIGITS + 1):
            first = _DIGITS if digits == written.width > 1 else _DIGITS[1:]
            yield (*before, first, *[_DIGITS] * (digits - 1), *after)


@dataclass(frozen=True)
class Numbering:
    """The formats of the series of documents, by kind, and the first number of a series that has none yet."""

    formats: Mapping[DocumentKind, NumberFormat] = field(
        default_factory=lambda: {kind: NumberFormat(text) for kind, text in USUAL.items()}
    )
    first: Mapping[DocumentKind, int] = field(default_factory=dict)


USUAL: Final[Mapping[DocumentKind, str]] = {
    DocumentKind.INVOICE: "INV-{year}-{sequence:06}",
    DocumentKind.CREDIT_NOTE: "CN-{year}-{sequence:06}",
    DocumentKind.DEBIT_NOTE: "DN-{year}-{sequence:06}",
}
"""The formats where the catalogue names none."""


def file_name(number: str) -> str:
    """The name of a document's file, without ending: a number may have slashes."""
    return number.replace("/", "_")


def can_meet(one: NumberFormat, other: NumberFormat) -> bool:
    """Whether two formats can give the same number, or the same name of a file."""
    return any(
        len(shape) == len(another) and all(set(a) & set(b) for a, b in zip(shape, another, strict=True))
        for shape in one.shapes()
        for another in other.shapes()
    )
