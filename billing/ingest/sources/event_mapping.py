"""Records of a raw log to the fields of events.

Rule 39: a record becomes at most one event, by what the catalogue says and nothing else; rows = counted + duplicates +
rejected + ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from billing.ingest.metric_members import EventTypes, measured_paths, member_column
from billing.ingest.parsed_rows import Chunk
from billing.ingest.sources.identities import Occurrences
from billing.ingest.sources.json_path_records import SPECIFICATION
from billing.ingest.sources.records import Records, field_column
from billing.ingest.sources.times import expected_time, instants
from billing.ingest.sources.values import multiplied, number_form, plain_numbers
from billing.model.sources import DAY, FILE, LINE, ROW, Keep, Source, TextRule, ValueRule

_LONGEST_LIST: Final = 200


@dataclass(frozen=True)
class File:
    """The delivered file that is read: its path below the day, the day (YYYY-MM-DD) and the hash of its bytes."""

    name: str
    day: str
    sha256: str


class EventMapping:
    """Maps the blocks of one file, in order, or one block of several files; equal texts of a file are numbered."""

    def __init__(self, source: Source, types: EventTypes, *files: File) -> None:
        self.source = source
        self.files = files
        self._of: pl.Series | None = None
        self._occurrences = Occurrences()
        self._values = {rule.path: rule for rule in source.values}
        self._members = measured_paths(types)
        members = [member for own in types.values() for member in own]
        self._numbers = {member.path for member in members if member.content in ("number", "unsigned")}
        self._texts = {member.path for member in members} - self._numbers
        self._labels = _labels(source)
        self._expected_time = expected_time(source.time)
        self._number_form = number_form(source)

    def chunk(self, records: Records, of: pl.Series | None = None) -> Chunk:
        """The fields of events, one per record.

        Parameters
        ----------
        of
            Position of each record's file, where there are several; all records of a file are in one block.
        """
        fields = records.fields
        self._of = of
        places = pl.int_range(len(fields), dtype=pl.Int64, eager=True)
        text = records.texts(places) if self.source.needs_texts else None
        ignored = self._ignored(fields, text)
        kind, unmapped = self._type(fields, text)
        taken = {
            "id": self._id(fields, text),
            "source": self._source(fields, text),
            "type": kind,
            "subject": self._text(self.source.subject, fields, text),
        }
        time = instants(self._field(self.source.time.field, fields, text), self.source.time)
        values = {member_column(path): self._value(path, fields, text) for path in self._members}
        columns: dict[str, pl.Series] = {
            "row": fields["row"],
            "unparseable": fields["unparseable"],
            "incomplete": self._incomplete(fields),
            **taken,
            "time": time["time"],
            "time_fault": time["time_fault"],
            "time_found": time["time_found"],
            **values,
            "detail": self._detail(fields, kind, unmapped),
            "ignored": ignored,
            "unmapped": unmapped,
        }
        found = pl.DataFrame(columns)
        if ignored.any():
            blank = ("id", "source", "type", "subject", "time", "time_fault", "time_found", "detail", *values)
            found = found.with_columns(
                pl.when(~pl.col("ignored")).then(pl.col(name)).otherwise(None).alias(name) for name in blank
            )
        return Chunk(
            found,
            records.texts,
            None if self.source.counts_last_line else records.unfinished,
            labels=self._labels,
            expected_time=self._expected_time,
            number_form=self._number_form,
        )

    def _field(self, name: str, fields: pl.DataFrame, text: pl.Series | None) -> pl.Series:
        """Texts of a field, null where the record has none."""
        if name == LINE and text is not None:
            return text
        if name == FILE:
            return self._of_files([file.name for file in self.files], len(fields))
        if name == DAY:
            return self._of_files([file.day for file in self.files], len(fields))
        if name == ROW:
            return fields["row"].cast(pl.String)
        column = field_column(name)
        return fields[column] if column in fields.columns else _repeated(None, len(fields))

    def _of_files(self, texts: Sequence[str], length: int) -> pl.Series:
        """A text of each record's file."""
        return _repeated(texts[0], length) if self._of is None else pl.Series(texts, dtype=pl.String).gather(self._of)

    def _text(self, rule: TextRule, fields: pl.DataFrame, text: pl.Series | None) -> pl.Series:
        return _repeated(rule.const, len(fields)) if rule.const is not None else self._field(rule.field, fields, text)

    def _source(self, fields: pl.DataFrame, text: pl.Series | None) -> pl.Series:
        rule = self.source.source
        if rule.const is None and not rule.field:
            return _repeated(self.source.name, len(fields))
        return self._text(rule, fields, text)

    def _type(self, fields: pl.DataFrame, text: pl.Series | None) -> tuple[pl.Series, pl.Series]:
        """The type, and whether the field has a value that is not mapped; such a row keeps the value as its type."""
        rule = self.source.type
        found = self._text(rule, fields, text)
        if not rule.map:
            return found, pl.repeat(False, len(fields), dtype=pl.Boolean, eager=True)
        names, kinds = [name for name, _ in rule.map], [kind for _, kind in rule.map]
        mapped = found.replace_strict(names, kinds, default=None, return_dtype=pl.String)
        unmapped = found.is_not_null() & mapped.is_null()
        return mapped.zip_with(~unmapped, found), unmapped

    def _id(self, fields: pl.DataFrame, text: pl.Series | None) -> pl.Series:
        identity = self.source.id
        if identity.kind == "content" and text is not None:
            return self._occurrences.ids(text, self._of)
        if identity.kind == "position":
            hashes = self._of_files([file.sha256 for file in self.files], len(fields)).alias("sha256")
            return pl.DataFrame([hashes, fields["row"]]).select(pl.concat_str(pl.all(), separator="-")).to_series()
        parts = [self._field(name, fields, text) for name in identity.fields]
        if len(parts) == 1:
            return parts[0]
        # Escape the separator: ("a|b", "c") is another record than ("a", "b|c").
        escaped = [
            part.str.replace_all("\\", "\\\\", literal=True).str.replace_all("|", "\\|", literal=True).alias(str(place))
            for place, part in enumerate(parts)
        ]
        return pl.DataFrame(escaped).select(pl.concat_str(pl.all(), separator="|")).to_series()

    def _value(self, path: tuple[str, ...], fields: pl.DataFrame, text: pl.Series | None) -> pl.Series:
        rule = self._values.get(path)
        if rule is None:
            return _repeated(None, len(fields))
        found = _repeated(rule.const, len(fields)) if rule.const is not None else self._field(rule.field, fields, text)
        is_text = path in self._texts
        if rule.field and not is_text:
            found = plain_numbers(found, self.source)
        # What stands in the catalogue is a plain decimal, whatever the signs of the log.
        if rule.null_is is not None:
            found = found.fill_null(rule.null_is)
        return found if is_text else multiplied(found, rule)

    def _incomplete(self, fields: pl.DataFrame) -> pl.Series:
        if self.source.format != "cloudevents":
            return pl.repeat(False, len(fields), dtype=pl.Boolean, eager=True)
        return fields[field_column(SPECIFICATION)].fill_null("") != "1.0"

    def _ignored(self, fields: pl.DataFrame, text: pl.Series | None) -> pl.Series:
        """Whether a record is one that the source does not keep; an unparseable one may be any."""
        kept = pl.repeat(True, len(fields), dtype=pl.Boolean, eager=True)
        for condition in self.source.keep:
            kept &= _holds(condition, self._field(condition.field, fields, text))
        return ~kept & ~fields["unparseable"]

    def _detail(self, fields: pl.DataFrame, kind: pl.Series, unmapped: pl.Series) -> pl.Series:
        if not unmapped.any():
            return fields["detail"]
        names = ", ".join(name for name, _ in self.source.type.map)
        known = names if len(names) <= _LONGEST_LIST else f"{len(self.source.type.map)} values of the map"
        words = pl.format("type: found '{}', expected one of {}", pl.col("kind").str.slice(0, 100), pl.lit(known))
        return (
            pl.DataFrame({"detail": fields["detail"], "kind": kind, "unmapped": unmapped})
            .select(pl.when("unmapped").then(pl.coalesce("detail", words)).otherwise("detail").alias("detail"))
            .to_series()
        )


def _holds(condition: Keep, values: pl.Series) -> pl.Series:
    if condition.is_in is not None:
        return values.is_in(list(condition.is_in)).fill_null(value=False)
    if condition.not_in is not None:
        return ~values.is_in(list(condition.not_in)).fill_null(value=False)
    return values.str.contains(condition.matches or "").fill_null(value=False)


def _repeated(text: str | None, length: int) -> pl.Series:
    return pl.repeat(text, length, dtype=pl.String, eager=True)


def _labels(source: Source) -> dict[str, str]:
    """What to call a part of the event in messages: with the field that it is taken from."""
    rules: dict[str, TextRule | ValueRule] = {
        "source": source.source,
        "type": source.type,
        "subject": source.subject,
        **{".".join(rule.path): rule for rule in source.values},
    }
    labels = {name: f"{name} (field {rule.field})" for name, rule in rules.items() if rule.field}
    if source.time.field:
        labels["time"] = f"time (field {source.time.field})"
    if source.id.fields:
        labels["id"] = f"id (field {', '.join(source.id.fields)})"
    return labels
