"""Sources: what the catalogue says about raw logs, file by file (rule 39)."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Final, Literal

import polars as pl

from billing.model.columns import Column, Table

LINE: Final = "$line"
FILE: Final = "$file"
DAY: Final = "$day"
ROW: Final = "$row"
SPECIAL_FIELDS: Final = (LINE, FILE, DAY, ROW)
"""Fields that every record has: its text, its file, the day of delivery and its row."""

RFC3339: Final = "rfc3339"
EPOCHS: Final = {"epoch_s": 9, "epoch_ms": 6, "epoch_us": 3, "epoch_ns": 0}
"""Time formats that count units since 1970, with the power of ten that makes them nanoseconds."""
ACCESS_LOG_TIME: Final = "%d/%b/%Y:%H:%M:%S %z"
"""The time of Apache, nginx and S3 access logs."""

_TIME_OF_DAY: Final = re.compile(r"%[HIklTRXcrs+]")
_OFFSET: Final = re.compile(r"%(?::{0,3}|#)z|%\+")

ALIASES: Final = Table(
    "aliases",
    "Names by which raw logs know accounts, each over half-open dates in the billing time zone.",
    (
        Column("kind", pl.String, "What kind of name it is, as the `alias` of a source says"),
        Column("alias", pl.String, "The name in the log"),
        Column("account_id", pl.String, "The account it stands for"),
        Column("from", pl.Date, "First day on which it does; null: ever"),
        Column("to", pl.Date, "First day on which it no longer does; null: open"),
    ),
    ("kind", "alias", "from"),
)


@dataclass(frozen=True)
class TextRule:
    """Where a text of an event comes from: a constant, or a field of the record.

    Attributes
    ----------
    map
        Pairs of a field's value and what it stands for; a value that is not among them has no mapping.
    alias
        Kind of name in ALIASES by which an account is looked up; empty: the text is the account id.
    """

    field: str = ""
    const: str | None = None
    map: tuple[tuple[str, str], ...] = ()
    alias: str = ""


@dataclass(frozen=True)
class TimeRule:
    """Where the time comes from: a field, in RFC3339, one of EPOCHS or a strptime format.

    Attributes
    ----------
    zone
        Of times without an offset of their own; empty: such a time is rejected.
    ambiguous
        Which of two instants counts for a local time that the zone has twice or skips; empty: neither.
    """

    field: str
    format: str = RFC3339
    zone: str = ""
    ambiguous: str = ""

    @property
    def has_offset(self) -> bool:
        """Whether a strptime format reads an offset: then the time is an instant, whatever the zone."""
        return _OFFSET.search(self.format) is not None

    @property
    def has_time_of_day(self) -> bool:
        """Whether the format tells more than the day."""
        return self.format == RFC3339 or self.format in EPOCHS or _TIME_OF_DAY.search(self.format) is not None


@dataclass(frozen=True)
class ValueRule:
    """Where a value of an event comes from; `null_is` is read in place of nothing, then multiplied by `times`."""

    path: tuple[str, ...]
    field: str = ""
    const: str | None = None
    null_is: str | None = None
    times: Decimal | None = None


@dataclass(frozen=True)
class Identity:
    """What identifies a record: fields of its own, its content, or its position in the file (rule 26)."""

    kind: Literal["fields", "content", "position"]
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Keep:
    """A condition on a record; exactly one of the three is set."""

    field: str
    is_in: tuple[str, ...] | None = None
    not_in: tuple[str, ...] | None = None
    matches: str | None = None


@dataclass(frozen=True)
class Source:
    """How the records of some delivered files become events.

    Attributes
    ----------
    files
        Patterns of paths below the delivery day.
    format
        One of log_formats.NAMED_FORMATS, or "nginx" or "regex" with the `pattern` to read lines by.
    records
        JSON: the path of the records in a document; empty: each document is a record.
    header
        CSV without a header line: the names of its columns.
    nulls
        Texts that stand for nothing.
    set_aside_at_most
        Largest share of records that reading may reject, of those that are not ignored; None: any.
    """

    name: str
    files: tuple[str, ...]
    format: str
    id: Identity
    type: TextRule
    subject: TextRule
    time: TimeRule
    source: TextRule = field(default_factory=TextRule)
    values: tuple[ValueRule, ...] = ()
    keep: tuple[Keep, ...] = ()
    pattern: str = ""
    records: str = ""
    separator: str = ","
    decimal: str = "."
    thousands: str = ""
    encoding: str = ""
    header: tuple[str, ...] = ()
    skip: int = 0
    comment: str = ""
    nulls: tuple[str, ...] = ()
    set_aside_at_most: Decimal | None = None
    counts_last_line: bool = False

    @cached_property
    def digest(self) -> str:
        """A short hash of everything but `files`: a file is read again when the digest of its source changes."""
        entry = _without_nothing({name: value for name, value in asdict(self).items() if name != "files"})
        return hashlib.sha256(json.dumps(entry, sort_keys=True, default=str).encode()).hexdigest()[:12]

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Fields of a record that are read, the special ones aside, in a fixed order."""
        return tuple(dict.fromkeys(name for name in self._named if name and name not in SPECIAL_FIELDS))

    @cached_property
    def needs_texts(self) -> bool:
        """Whether the text of every record is read, not only of rejected ones."""
        return self.id.kind == "content" or LINE in self._named

    @property
    def _named(self) -> list[str]:
        """Every field that the entry names."""
        rules: list[TextRule | TimeRule | ValueRule | Keep] = [self.source, self.type, self.subject, self.time]
        rules += [*self.values, *self.keep]
        return [*self.id.fields, *(rule.field for rule in rules)]


def _without_nothing(entry: object) -> object:
    """Leave out keys without a value: a key that a later version adds changes no digest."""
    if isinstance(entry, dict):
        return {name: _without_nothing(value) for name, value in entry.items() if value not in (None, "", (), 0, False)}
    if isinstance(entry, (list, tuple)):
        return [_without_nothing(value) for value in entry]
    return entry


def digest_of(source: Source | None) -> str:
    """The digest of the source that reads a file; empty: none does."""
    return source.digest if source else ""


def source_of(name: str, sources: Sequence[Source]) -> Source | None:
    """The first source with a pattern that matches a delivered file, named by its path below the day; or None."""
    if not sources:
        return None
    path = _PREFIX.sub("", name)
    return next((source for source in sources if any(_glob(pattern).fullmatch(path) for pattern in source.files)), None)


# Two folders of a day may hold one name: its second file carries a number, or the name of its folder.
_PREFIX: Final = re.compile(r"^(?:\d+~)?(?:(?:day=)?\d{4}-\d\d-\d\d/|\d{4}/\d\d/\d\d/)?", re.ASCII)


def _glob(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression: `*` and `?` stay within a folder, `**` spans folders."""
    if pattern not in _GLOBS:
        _GLOBS[pattern] = re.compile(_translated(pattern), re.DOTALL)
    return _GLOBS[pattern]


_GLOBS: Final[dict[str, re.Pattern[str]]] = {}
_GLOB_TOKEN: Final = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)


def _translated(pattern: str) -> str:
    parts = []
    for token in _GLOB_TOKEN.findall(pattern):
        if token == "**/":  # noqa: S105  # A pattern, not a password.
            parts.append("(?:.*/)?")
        elif token == "**":  # noqa: S105
            parts.append(".*")
        elif token == "*":  # noqa: S105
            parts.append("[^/]*")
        elif token == "?":  # noqa: S105
            parts.append("[^/]")
        elif len(token) > 2 and token.startswith("["):
            inside = token[1:-1].replace("\\", "\\\\")
            parts.append(f"[^/{inside[1:]}]" if inside.startswith("!") else f"(?!/)[{inside}]")
        else:
            parts.append(re.escape(token))
    return "".join(parts)
