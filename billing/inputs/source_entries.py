"""Reader of `sources:` in catalogue.yaml (rules 28 and 39): how raw logs become events."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import polars as pl
from polars.exceptions import PolarsError

from billing.inputs.yaml_reader import Place
from billing.model.catalogue import Metric
from billing.model.json_paths import EVERY, Path, json_path
from billing.model.log_formats import (
    NAMED_FORMATS,
    PATTERN_FORMATS,
    TIME_FIELDS,
    fields_of,
    own_name,
    require_pattern,
    time_of,
)
from billing.model.sources import (
    EPOCHS,
    RFC3339,
    SPECIAL_FIELDS,
    Identity,
    Keep,
    Source,
    TextRule,
    TimeRule,
    ValueRule,
)

_OF_NUMBERS: Final = ("decimal", "thousands", "null")
_OF_LINES: Final = ("encoding", "skip", "comment")
_KEYS_OF_FORMAT: Final[Mapping[str, tuple[str, ...]]] = {
    "cloudevents": ("encoding",),
    "json": ("records", "encoding", *_OF_NUMBERS),
    "csv": ("separator", "header", *_OF_LINES, *_OF_NUMBERS),
    "parquet": _OF_NUMBERS,
    "combined": _OF_LINES,
    "common": _OF_LINES,
    "alb": _OF_LINES,
    "s3_access": _OF_LINES,
    "w3c": ("encoding",),
    "zeek": ("encoding",),
    "nginx": (*_OF_LINES, *_OF_NUMBERS),
    "regex": (*_OF_LINES, *_OF_NUMBERS),
}
OPTIONAL_KEYS: Final = ("keep", "set_aside_at_most", "last_line")
REQUIRED_KEYS: Final = ("name", "files", "format")
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]+)?")
_QUESTION: Final = "?"
"""What `overage try` writes where only people know."""
_EVENT_KEYS: Final = ("id", "source", "type", "subject", "time")
_PATHS: Final = ("json", "cloudevents", "parquet")
_THREE_WAYS: Final = (
    "one of three ways to tell records apart, of which each costs something: `id: {field: NAME}` (or `{fields: [A, "
    "B]}`), an id that the log has: exact, whatever is delivered again; `id: content`, the text of the record and how "
    "often the file has had it before: the same log under another name, compressed or cut elsewhere adds nothing, but "
    "two requests with equal texts in two files count once; `id: position`, the file's bytes and the row: nothing is "
    "taken for a duplicate, and a log delivered again in another file counts again"
)
_SOME_TIME: Final = datetime(2026, 11, 23, 13, 45, 56, 789_000, tzinfo=UTC)
_NOT_MEANT: Final = (
    (
        re.compile(r"%f"),
        "a fraction of a second as %.f with its point, or as %3f, %6f or %9f digits after another sign",
    ),
    (re.compile(r"%s"), "epoch_s for seconds since 1970: they count from an instant, in no zone"),
    (
        re.compile(r"%Z"),
        "an offset (%z), or the letters themselves (UTC) with a key `zone`: names of zones are not read",
    ),
)
_FORMATS_TEXT: Final = f"{RFC3339}, {', '.join(EPOCHS)}, or a format such as %d.%m.%Y %H:%M"


def read_sources(place: Place, metrics: Sequence[Metric]) -> tuple[Source, ...]:
    """Read the list of sources; reports what is wrong at its place."""
    sources = tuple(_source(item, metrics) for item in place.items())
    names = [source.name for source in sources]
    for name in sorted({name for name in names if name and names.count(name) > 1}):
        place.problem("every name once", found=f"{name} more than once")
    return sources


def _source(place: Place, metrics: Sequence[Metric]) -> Source:
    if not place.is_mapping():
        place.problem("a mapping of keys: name, files, format and event")
        place = place.at("nothing")
    format, pattern = _format(place.at("format"))
    own = _KEYS_OF_FORMAT[format]
    others = {key for keys in _KEYS_OF_FORMAT.values() for key in keys} - set(own)
    misplaced = sorted(key for key in others if place.has(key))
    has_event = format == "cloudevents"
    place.keys(
        required=(*REQUIRED_KEYS, *(() if has_event else ("event",))),
        optional=(*(("event",) if has_event else ()), *own, *OPTIONAL_KEYS, *misplaced),
    )
    for key in misplaced:
        formats = [name for name, keys in _KEYS_OF_FORMAT.items() if key in keys]
        place.at(key).problem(f"no such key beside the format {format}", found=f"{key}, of {', '.join(formats)}")
    name = place.at("name").text("").strip()
    if any(not character.isprintable() for character in name):
        place.at("name").problem("a name without control characters")
    header = tuple(item.text("").strip() for item in place.at("header").items())
    if len(set(header)) < len(header):
        place.at("header").problem("every column once")
    fields = _Fields(format, pattern, header)
    event = place.at("event")
    reported = event.reported()
    values = _values(event, fields, metrics)
    if place.has("event") and not event.is_mapping() and event.reported() == reported:
        event.problem("a mapping of keys: id, type, subject, time", found="nothing")
    separator = place.at("separator").written(",")
    decimal = _one_of_characters(place.at("decimal"), ".", ".,")
    thousands = _one_of_characters(place.at("thousands"), "", " .,'_\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}")
    if place.has("thousands") and thousands == decimal:
        place.at("thousands").problem(f"another character than that of decimals, {decimal}")
    if len(separator) != 1 or separator in '"\r\n\0' or not separator.isascii():
        place.at("separator").problem('one character, such as ";" or "\\t"')
        separator = ","
    return Source(
        name=name,
        files=_files(place.at("files")),
        format=format,
        id=_identity(event, fields),
        type=_text(event, "type", fields, ("map",)),
        subject=_text(event, "subject", fields, ("alias",)),
        time=_time(event, fields),
        source=_text(event, "source", fields, ()) if event.has("source") else _default("source", format),
        values=values,
        keep=tuple(_keep(item, fields) for item in place.at("keep").items()),
        pattern=pattern,
        records=_records(place.at("records")),
        separator=separator,
        decimal=decimal,
        thousands=thousands,
        encoding=_encoding(place.at("encoding")),
        header=header,
        skip=place.at("skip").integer(0, 0, 1_000_000),
        comment=place.at("comment").written(""),
        nulls=tuple(item.written("") for item in place.at("null").items_or_one()),
        set_aside_at_most=_share(place.at("set_aside_at_most")),
        counts_last_line=place.at("last_line").choice(("set_aside", "count"), "set_aside") == "count",
    )


@dataclass(frozen=True)
class _Fields:
    """The fields that records of a format have, as far as the catalogue can know."""

    format: str
    pattern: str
    header: tuple[str, ...]

    def read(self, place: Place) -> str:
        """Read the name of a field; reports one that the format does not have."""
        name = own_name(self.format, place.text("").strip())
        if not name:
            if not place.has_value():
                place.problem("the name of a field", found="none")
            return name
        known = self.known()
        if name in SPECIAL_FIELDS:
            return name
        if name == _QUESTION:
            place.problem("an answer: the name of the field")
            return name
        if name.startswith("$"):
            place.problem(f"one of: {', '.join(SPECIAL_FIELDS)}")
        elif known is not None and name not in known:
            place.problem(f"one of: {', '.join((*known, *SPECIAL_FIELDS))}", found=f"the unknown field {name}")
        elif self.format in _PATHS and EVERY in (_path(name) or (EVERY,)):
            place.problem('a path such as customer.id, items[0].name or ["name.with.dots"]')
        return name

    def known(self) -> tuple[str, ...] | None:
        if self.header:
            return self.header
        try:
            return fields_of(self.format, self.pattern)
        except ValueError:
            return None  # Reported where the pattern stands.


def _format(place: Place) -> tuple[str, str]:
    """The format and, for nginx and regex, its pattern."""
    if not place.is_mapping():
        if place.is_mistaken_for("nginx") or place.is_mistaken_for("regex"):
            place.problem("a pattern, such as {nginx: '$remote_addr ...'} or {regex: '(?P<host>\\S+) ...'}")
            return "json", ""
        return place.choice(NAMED_FORMATS) or "json", ""
    place.keys(required=(), optional=PATTERN_FORMATS, what="format")
    names = [name for name in PATTERN_FORMATS if place.has(name)]
    if len(names) != 1:
        place.problem("one of {nginx: '...'} and {regex: '...'}")
        return "json", ""
    written = place.at(names[0])
    pattern = written.text("")
    try:
        if pattern:
            fields_of(names[0], pattern)
            if names[0] == "nginx":
                require_pattern(".")
    except ValueError as error:
        written.problem("a pattern that Rust's regular expressions know", found=f"{pattern!r}: {error}")
    return names[0], pattern


def _files(place: Place) -> tuple[str, ...]:
    patterns = tuple(item.text("").strip() for item in place.items_or_one())
    if not patterns and place.has_value():
        place.problem('at least one pattern, such as "edge/**" or "*.log*"')
    for item in place.items_or_one():
        if item.text("").startswith(("/", "./")):
            item.problem("a path below the folder of the day, without a leading / or ./")
    return patterns


def _default(name: str, format: str) -> TextRule:
    """What is read where the entry is silent: the members of CloudEvents, else nothing."""
    return TextRule(field=name) if format == "cloudevents" else TextRule()


def _identity(event: Place, fields: _Fields) -> Identity:
    place = event.at("id")
    if not place.has_value():
        if fields.format == "cloudevents":
            return Identity("fields", ("id",))
        if event.is_mapping():
            event.problem(f"a key `id`: {_THREE_WAYS}", found="none")
        return Identity("content")
    if place.is_text("content") or place.is_text("position"):
        return Identity("content" if place.is_text("content") else "position")
    if not place.is_mapping():
        place.problem(_THREE_WAYS)
        return Identity("content")
    place.keys(required=(), optional=("field", "fields"))
    if place.has("field") == place.has("fields"):
        place.problem("one of: field, fields")
    names = [place.at("field")] if place.has("field") else list(place.at("fields").items())
    if not names and place.has("fields"):
        place.at("fields").problem("at least one field")
    return Identity("fields", tuple(fields.read(name) for name in names))


def _text(event: Place, name: str, fields: _Fields, extra: tuple[str, ...]) -> TextRule:
    place = event.at(name)
    if not place.has_value():
        if fields.format != "cloudevents" and event.is_mapping():
            example = {"type": "{const: http.request}", "subject": "{field: customer}"}[name]
            event.problem(f"a key `{name}`, such as {example}", found="none")
        return _default(name, fields.format)
    if not place.is_mapping():
        place.problem(f"{{field: NAME}} or {{const: TEXT}}{' or {field: NAME, map: {...}}' if 'map' in extra else ''}")
        return TextRule()
    place.keys(required=(), optional=("field", "const", *extra))
    if place.has("field") == place.has("const"):
        place.problem("one of: field, const")
    for key in extra:
        if place.has(key) and not place.has("field"):
            place.at(key).problem(f"no `{key}` without a `field`", found=key)
    if place.has("const") and not place.at("const").written("-").strip():
        place.at("const").problem("a text that is not empty")
    if place.at("const").is_mistaken_for(_QUESTION):
        place.at("const").problem(
            "an answer, such as one of the event types of the metrics" if "map" in extra else "an answer"
        )
    pairs = tuple((value, stands_for.text("")) for value, stands_for in place.at("map").named())
    if place.has("map") and not pairs:
        place.at("map").problem("a mapping of a value to what it stands for")
    place.at("map").keys(required=(), optional=[value for value, _ in pairs], what="value")
    return TextRule(
        field=fields.read(place.at("field")) if place.has("field") else "",
        const=place.at("const").written("") if place.has("const") else None,
        map=pairs,
        alias=place.at("alias").text("").strip() if place.has("alias") else "",
    )


def _time(event: Place, fields: _Fields) -> TimeRule:
    place = event.at("time")
    if not place.has_value():
        if fields.format in TIME_FIELDS:
            return TimeRule(*TIME_FIELDS[fields.format])
        if event.is_mapping():
            event.problem("a key `time`, such as {field: time, format: rfc3339}", found="none")
        return TimeRule("")
    if not place.is_mapping():
        place.problem("{field: NAME}, with `format` and `zone` where the field has no offset")
        return TimeRule("")
    place.keys(required=("field",), optional=("format", "zone", "ambiguous"))
    field = fields.read(place.at("field"))
    known, known_zone = time_of(fields.format, field)
    format = place.at("format").text(known) if place.has("format") else known
    zone = place.at("zone").time_zone() if place.has("zone") else known_zone
    if format not in (RFC3339, *EPOCHS):
        # Python's fraction of a second: the engine's %f alone counts nanoseconds.
        format = format.replace(".%f", "%.f")
        meant = next((words for pattern, words in _NOT_MEANT if pattern.search(format)), "")
        rule = TimeRule(field, format)
        if meant:
            place.at("format").problem(meant)
        elif not _is_strptime(rule):
            place.at("format").problem(f"one of: {_FORMATS_TEXT}")
        elif not rule.has_offset and not zone:
            place.problem("a key `zone`, such as UTC or Europe/Berlin: the format has no offset (%z)", found="none")
    elif format in EPOCHS and place.has("zone"):
        place.at("zone").problem(f"no `zone`: {format} counts from an instant", found=zone)
    ambiguous = place.at("ambiguous").choice(("earliest", "latest")) if place.has("ambiguous") else ""
    if ambiguous and not zone:
        place.at("ambiguous").problem("no `ambiguous` without a `zone`", found=ambiguous)
    return TimeRule(field, format, zone, ambiguous)


def _is_strptime(rule: TimeRule) -> bool:
    """Whether a time that is written in a format can be read back: it tells the day, and knows its letters."""
    written = pl.Series([_SOME_TIME], dtype=pl.Datetime("us", "UTC"))
    try:
        texts = written.dt.to_string(rule.format)
        if rule.has_offset:
            found: pl.Series = texts.str.to_datetime(rule.format, time_zone="UTC", strict=False)
        elif rule.has_time_of_day:
            found = texts.str.to_datetime(rule.format, strict=False)
        else:
            found = texts.str.to_date(rule.format, strict=False)
    except (PolarsError, ValueError):
        return False
    # A format without a year reads the year 1.
    return found.dt.year().to_list() == [_SOME_TIME.year]


def _values(event: Place, fields: _Fields, metrics: Sequence[Metric]) -> tuple[ValueRule, ...]:
    paths = [metric.value for metric in metrics if metric.value is not None]
    known = {".".join(path): path for path in [*paths, *(path for metric in metrics for _, path in metric.by)]}
    numbers = {metric.value for metric in metrics if metric.measure != "unique"}
    rules = []
    seen: set[str] = set()
    for name, place in event.named():
        if name in seen:
            place.problem("every key once", found=f"{name} twice")
        seen.add(name)
        if name in _EVENT_KEYS:
            continue
        path = tuple(name.split("."))
        meant = _is_misspelt(name, [key for key in (*known, *_EVENT_KEYS) if not event.has(key)])
        if name not in known and (path[0] != "data" or len(path) == 1 or not all(path) or meant):
            expected = ", ".join((*_EVENT_KEYS, *known))
            place.problem(f"one of: {expected}, or another path of data", found=f"the unknown key {name}")
            continue
        rules.append(_value(path, place, fields, is_number=path in numbers))
    if fields.format == "cloudevents":
        named = {rule.path for rule in rules}
        rules += [ValueRule(path, name) for name, path in sorted(known.items()) if path not in named]
    return tuple(sorted(rules, key=lambda rule: rule.path))


def _is_misspelt(name: str, lacking: Sequence[str]) -> bool:
    """Whether a name resembles one that is lacking; what both begin with says nothing (data.model is no data.delta)."""
    start = "data." if name.startswith("data.") else ""
    others = [other.removeprefix(start) for other in lacking if other.startswith(start)]
    return bool(difflib.get_close_matches(name.removeprefix(start), others, n=1, cutoff=0.8))


def _value(path: tuple[str, ...], place: Place, fields: _Fields, *, is_number: bool) -> ValueRule:
    if not place.is_mapping():
        place.problem("{field: NAME}, with `null_is` and `times` where needed, or {const: NUMBER}")
        return ValueRule(path)
    place.keys(required=(), optional=("field", "const", "null_is", "times"))
    if place.has("field") == place.has("const"):
        place.problem("one of: field, const")
    for key in ("const", "null_is"):
        if is_number and place.has(key) and not _NUMBER.fullmatch(place.at(key).written("0")):
            place.at(key).problem("a plain decimal such as 0 or 1.5: a metric reads it as a number")
    times = place.at("times").decimal(Decimal(1)) if place.has("times") else None
    if times is not None and (not 0 < abs(times) < 10**18 or len(times.as_tuple().digits) > 18):
        place.at("times").problem("a number other than 0, of at most 18 digits")
        times = None
    return ValueRule(
        path,
        fields.read(place.at("field")) if place.has("field") else "",
        place.at("const").written("") if place.has("const") else None,
        place.at("null_is").written("") if place.has("null_is") else None,
        times,
    )


def _keep(place: Place, fields: _Fields) -> Keep:
    if not place.is_mapping():
        place.problem("{field: NAME, in: [...]}, or not_in or matches in place of in")
        return Keep("", is_in=())
    place.keys(required=("field",), optional=("in", "not_in", "matches"))
    tests = [key for key in ("in", "not_in", "matches") if place.has(key)]
    if len(tests) != 1:
        place.problem("one of: in, not_in, matches", found=", ".join(tests) or "none")
    matches = place.at("matches").text("") if place.has("matches") else None
    if matches is not None:
        try:
            require_pattern(matches)
        except ValueError as error:
            place.at("matches").problem("a regular expression that Rust's engine knows", found=f"{matches!r}: {error}")
    lists: dict[str, tuple[str, ...] | None] = {}
    for key in ("in", "not_in"):
        lists[key] = tuple(item.written("") for item in place.at(key).items_or_one()) if place.has(key) else None
        if lists[key] == ():
            place.at(key).problem("at least one value")
    return Keep(fields.read(place.at("field")), lists["in"], lists["not_in"], matches)


def _records(place: Place) -> str:
    if not place.has_value():
        return ""
    text = place.text("").strip()
    path = _path(text)
    if text and path is None:
        place.problem('a path such as "Records[*]" or "logs[*].entries[*]"')
    elif path is not None and EVERY not in path:
        place.problem('a path with [*], such as "Records[*]"')
    return text


def _path(text: str) -> Path | None:
    """The path that a text is; None for any other text."""
    try:
        return json_path(text)
    except ValueError:
        return None


def _encoding(place: Place) -> str:
    return place.encoding() if place.has_value() else ""


def _one_of_characters(place: Place, default: str, known: str) -> str:
    if not place.has_value():
        return default
    value = place.written(default)
    if len(value) != 1 or value not in known:
        place.problem(f"one of the characters {' '.join(known.strip())}")
        return default
    return value


def _share(place: Place) -> Decimal | None:
    if not place.has_value():
        return None
    text = place.written("")
    if not re.fullmatch(r"\d{1,3}(\.\d{1,6})? ?%", text) or Decimal(text.rstrip(" %")) > 100:
        place.problem("a share such as 5%, from 0% to 100%")
        return None
    return Decimal(text.rstrip(" %")) / 100
