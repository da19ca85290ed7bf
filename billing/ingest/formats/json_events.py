"""JSON reader for CloudEvents: text to columns.

Files other than JSON lines are converted to lines first (`json_records`).

Fast path: lines that share a layout are split into members at their commas (`line_layout`). The rest is decoded in
batches by Polars, which is fast but lenient and inexact: it reads decimals as binary floats, lone surrogates as zeros
and two objects on a line as two lines, and one bad line fails the batch. Lines that could hit one of these, and lines
that fail, are decoded one by one, with the same result wherever both paths apply.
"""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import BinaryIO, Final, cast

import polars as pl
from polars.exceptions import ComputeError

from billing.ingest.formats.compression import Content
from billing.ingest.formats.delivered_bytes import (
    FIRST_LINE,
    Lines,
    count_lines,
    decoded_lines,
    line_blocks,
    split_lines,
)
from billing.ingest.formats.instants import parse_instants
from billing.ingest.formats.json_records import holds_records, record_lines
from billing.ingest.formats.line_layout import LineLayout, cut_lines, layout_of
from billing.ingest.metric_members import EventTypes, measured_paths, member_column
from billing.ingest.parsed_rows import Chunk
from billing.model.file_limits import DEFAULT_LIMITS, Limits

_ENVELOPE: Final = ("specversion", "id", "source", "type", "subject", "time")
_LINE: Final = "overage line"
"""Name of a line number inserted first into every line, to check that decoded rows match their lines."""

# Match numbers that a binary float may not hold (17 characters or more, or an exponent), and half surrogate pairs.
_INEXACT: Final = r'":\s*-?(?:[0-9.]{17,}|[0-9.]+[eE])|\\u[dD]'
_ONE_BY_ONE: Final = 128
_SMALL_BLOCK: Final = 512 * 1024
"""Block size for looking up a few texts: only blocks with a wanted row are split into lines."""
_LONGEST_PLAIN: Final = 60
_MOST_LAYOUTS: Final = 8
_STRAY_SHARE: Final = 0.02
"""Share of a block below which lines of a new layout go to the decoder."""
_SAMPLES: Final = 5
_MARKS: Final = ('"', ",", r"\\", r"[\x00-\x1F]")
"""Quotation marks, commas, escapes and control characters as regular expressions, in the order of `Lines.marks`."""

Path = tuple[str, ...]
Json = Mapping[str, "Json"] | Sequence["Json"] | str | bool | None


def json_chunks(content: Content, types: EventTypes, limits: Limits = DEFAULT_LIMITS) -> Iterator[Chunk]:
    """Read CloudEvents 1.0, one per line or as JSON records in any other arrangement, in bounded chunks.

    `row` is the line number in the file, including blank lines; blank lines are no rows. In an array, or where objects
    are pretty-printed or share a line, it is the position of the record, from 1. A last line without a line end counts
    if it is a complete record. An array or object in place of text or a number counts as missing. The first of repeated
    members counts. Numbers are read as exact decimals: 1e3 is 1000.

    Yields
    ------
    Chunk
        With one value column per member of `types`.
    """
    paths = measured_paths(types)
    layouts = _Layouts(paths)
    row = 1
    lines, may_be_cut = _as_lines(content, limits)
    for framed in line_blocks(lines, FIRST_LINE, longest=limits.longest_record):
        found = Lines(framed)
        decoded, others = layouts.decode(found, row)
        fields = _fields(decoded, others, paths)
        count = found.count
        is_cut = may_be_cut and not framed.endswith(b"\n") and bool(fields["unparseable"].tail(1).any())
        unfinished = row + count - 1 if is_cut else None
        chunk = Chunk(fields, partial(_texts, found, fields["row"] - row), unfinished, found.letters)
        # Free the block's frames before reading the next one.
        del framed, found, decoded, others, fields
        if len(chunk.fields):
            yield chunk
        del chunk
        row += count


def _as_lines(content: Content, limits: Limits) -> tuple[BinaryIO, bool]:
    """A file with one record per line, and whether it may be truncated without a decoding error."""
    if holds_records(content, limits.longest_record):
        return record_lines(content, limits.longest_record), True
    return cast(BinaryIO, content), content.raw is not None


def json_texts(content: Content, rows: pl.Series, limits: Limits = DEFAULT_LIMITS) -> pl.DataFrame:
    """Original texts (row, text) of some rows of a file; missing rows are left out."""
    wanted = rows.sort().to_list()
    lines_found: list[bytes] = []
    row = 1
    lines, _ = _as_lines(content, limits)
    for block in line_blocks(lines, size=_SMALL_BLOCK, longest=limits.longest_record):
        first, row = row, row + count_lines(block)
        found = bisect_left(wanted, row, lo=len(lines_found))
        if found > len(lines_found):
            parted = block.split(b"\n")
            lines_found += [parted[number - first] for number in wanted[len(lines_found) : found]]
        if found == len(wanted):
            break
    found_rows = pl.Series("row", wanted[: len(lines_found)], dtype=pl.Int64)
    return pl.DataFrame([found_rows, decoded_lines(lines_found)["text"]])


def _texts(lines: Lines, places: pl.Series, wanted: pl.Series) -> pl.Series:
    return lines.texts(places.gather(wanted))["text"]


def fields_of_lines(frame: pl.DataFrame, paths: Sequence[Path]) -> pl.DataFrame:
    """Decode lines (row, text, broken) into FIELDS and the value columns of `paths`."""
    return _fields([], frame, paths)


def _fields(decoded: Sequence[pl.DataFrame], others: pl.DataFrame, paths: Sequence[Path]) -> pl.DataFrame:
    """Merge decoded lines with the FIELDS of the other lines; in the order of the file."""
    text = pl.col("text")
    # Concatenated files have byte order marks of their own.
    others = others.with_columns(text.str.strip_chars_start("\ufeff")).filter(text.str.contains(r"[^ \t\r\n]"))
    plain = others.select(
        text.str.starts_with("{") & text.str.ends_with("}") & ~pl.col("broken") & ~text.str.contains(_INEXACT)
    ).to_series()
    decoder = _Decoder(paths)
    if decoder.shape is None:
        plain = pl.repeat(False, len(others), eager=True, dtype=pl.Boolean)
    parts = [*decoded, decoder.many(others.filter(plain)), decoder.one_by_one(others.filter(~plain))]
    found = pl.concat([decoder.empty(), *(part for part in parts if len(part))])
    # Restore the order of the file.
    if not found["row"].is_sorted():
        found = found.sort("row")
    if len(found) != sum(map(len, decoded)) + len(others):
        raise AssertionError("rows were lost or invented while decoding JSON lines")
    found = found.with_columns(parse_instants(found["time"]), incomplete=pl.col("specversion").fill_null("") != "1.0")
    if not found["incomplete"].any():
        found = found.drop("specversion")
    if decoder.faults:
        details = pl.DataFrame(
            list(decoder.faults.items()), schema={"row": pl.Int64, "detail": pl.String}, orient="row"
        )
        found = found.join(details, on="row", how="left", maintain_order="left")
    return found


class _Layouts:
    """Line layouts learned so far in a file; decodes the lines that match one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.columns = _columns(paths)
        self.known: list[LineLayout] = []

    def decode(self, lines: Lines, row: int) -> tuple[list[pl.DataFrame], pl.DataFrame]:
        """Decode the lines of a block that match a common layout.

        Parameters
        ----------
        row
            Number of the block's first line.

        Returns
        -------
        tuple[list[polars.DataFrame], polars.DataFrame]
            Decoded lines, and the remaining lines (row, text, broken).
        """
        cut, matches = self._matches(lines) if lines.is_text else (None, [])
        if cut is None:
            return [], _numbered(split_lines(lines.block), row)
        others = lines.texts(_unmatched(matches).arg_true())
        if not _has_only_layout_marks(lines, matches, others):
            matches = _check_each_line(lines, matches)
            others = lines.texts(_unmatched(matches).arg_true())
        rows = pl.int_range(row, row + lines.count, dtype=pl.Int64, eager=True).alias("row")
        cut = cut.insert_column(0, rows)
        decoded = [layout.read(cut.filter(matching), self.columns) for layout, matching in matches]
        return decoded, pl.DataFrame([rows.filter(_unmatched(matches)), *others])

    def _matches(self, lines: Lines) -> tuple[pl.DataFrame | None, list[tuple[LineLayout, pl.Series]]]:
        """Lines split at commas, and per layout the lines that seem to match it, each line at most once.

        None when no layout is known, or when splitting cannot distinguish the lines.
        """
        learned = None
        if not self.known:
            learned = self._learn(lines, pl.int_range(0, min(lines.count, _SAMPLES), eager=True))
        while self.known:
            try:
                cut = cut_lines(lines.framed, max(len(layout.fields) for layout in self.known))
            except ComputeError:
                break
            if len(cut) != lines.count:
                break
            free = pl.repeat(True, lines.count, eager=True, dtype=pl.Boolean)
            matches = []
            for layout in self.known:
                matching = cut.select(layout.matches()).to_series() & free
                matches.append((layout, matching))
                free &= ~matching
            strays = lines.count * _STRAY_SHARE
            if learned is not None and matches[-1][1].sum() < strays:
                self.known.pop()
                if not self.known:
                    break
                return cut, matches[:-1]
            learned = self._learn(lines, free.arg_true().head(_SAMPLES)) if free.sum() > strays else None
            if learned is None:
                return cut, matches
        return None, []

    def _learn(self, lines: Lines, places: pl.Series) -> LineLayout | None:
        """Learn the layout of the first line that has a new one."""
        if len(self.known) < _MOST_LAYOUTS:
            for text in lines.texts(places)["text"]:
                layout = layout_of(text)
                if layout is not None and layout not in self.known:
                    self.known.append(layout)
                    return layout
        return None


def _unmatched(matches: Sequence[tuple[LineLayout, pl.Series]]) -> pl.Series:
    free = ~matches[0][1]
    for _, matching in matches[1:]:
        free &= ~matching
    return free


def _has_only_layout_marks(lines: Lines, matches: Sequence[tuple[LineLayout, pl.Series]], others: pl.DataFrame) -> bool:
    """Whether the matched lines hold exactly the marks that their layouts need.

    Each line holds at least those, so a matching sum proves that none holds more; escapes and control characters,
    which no layout allows, must be in the other lines only.
    """
    marks = others.select(pl.col("text").str.count_matches(mark).sum().alias(mark) for mark in _MARKS).row(0)
    quotes = sum(layout.quotes * int(matching.sum()) for layout, matching in matches)
    commas = sum(layout.commas * int(matching.sum()) for layout, matching in matches)
    return lines.marks == (marks[0] + quotes, marks[1] + commas, marks[2], marks[3])


def _check_each_line(
    lines: Lines, matches: Sequence[tuple[LineLayout, pl.Series]]
) -> list[tuple[LineLayout, pl.Series]]:
    """Matches that hold when each line is checked on its own."""
    quote, comma, escape, control = (pl.col("text").str.count_matches(mark) for mark in _MARKS)
    counts = split_lines(lines.block).select(quotes=quote, commas=comma, forbidden=escape + control)
    return [
        (
            layout,
            matching
            & (counts["quotes"] == layout.quotes)
            & (counts["commas"] == layout.commas)
            & (counts["forbidden"] == 0),
        )
        for layout, matching in matches
    ]


def _numbered(frame: pl.DataFrame, row: int) -> pl.DataFrame:
    return frame.with_row_index("row", offset=row).with_columns(pl.col("row").cast(pl.Int64))


def _columns(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Columns to decode, with their paths."""
    return [*((name, (name,)) for name in _ENVELOPE), *((member_column(path), path) for path in paths)]


class _Decoder:
    """Decodes lines to the envelope and the value columns of some paths, all as text."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.shape = _shape([(name,) for name in _ENVELOPE] + self.paths)
        self.columns = _columns(self.paths)
        self.faults: dict[int, str] = {}
        """Fault by row: what was found instead of an object."""

    def many(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Decode lines in a batch; lines that fail it, one by one."""
        if len(frame) == 0:
            return self.empty()
        decoded = self._decode_batch(frame)
        if decoded is not None:
            return decoded
        if len(frame) <= _ONE_BY_ONE:
            return self.one_by_one(frame)
        return pl.concat([self.many(part) for part in frame.iter_slices(max(len(frame) // 16, _ONE_BY_ONE))])

    def one_by_one(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Decode lines one at a time, exactly."""
        objects: list[Mapping[str, Json] | None] = []
        for row, text, broken in frame.select("row", "text", "broken").iter_rows():
            decoded = "bytes that are no UTF-8" if broken else _decode(text)
            objects.append(None if isinstance(decoded, str) else decoded)
            if isinstance(decoded, str):
                self.faults[row] = f"row: found {decoded}, expected one JSON object"
        found = {name: [_scalar(event, path) for event in objects] for name, path in self.columns}
        return pl.DataFrame(
            {"row": frame["row"], "unparseable": [event is None for event in objects], **found},
            schema=self._schema(),
        )

    def _decode_batch(self, frame: pl.DataFrame) -> pl.DataFrame | None:
        numbers = pl.col("row").cast(pl.String)
        # Copy each line once, with its number as the first member.
        numbered = frame.select(
            pl.concat_str(pl.lit(f'{{"{_LINE}":'), numbers, pl.lit(","), pl.col("text").str.slice(1))
        )
        try:
            objects = numbered.to_series().str.json_decode(self.shape)
        except ComputeError:
            return None
        if len(objects) != len(frame):
            return None
        root = pl.col("object").struct
        decoded = pl.DataFrame({"row": frame["row"], "object": objects}).select(
            "row",
            pl.lit(False).alias("unparseable"),
            *(_field_at(path).alias(name) for name, path in self.columns),
            same=(root.field(_LINE) == pl.col("row").cast(pl.String)),
        )
        return decoded.drop("same") if decoded["same"].fill_null(value=False).all() else None

    def _schema(self) -> Mapping[str, type[pl.DataType]]:
        return {"row": pl.Int64, "unparseable": pl.Boolean} | {name: pl.String for name, _ in self.columns}

    def empty(self) -> pl.DataFrame:
        """An empty frame with the decoder's schema."""
        return pl.DataFrame(schema=self._schema())


def _shape(paths: Sequence[Path]) -> pl.Struct | None:
    """Polars type of an object with text at these paths; None when a path leads through another's text."""
    leaf: dict[str, object] = {}
    tree: dict[str, object] = {_LINE: leaf}
    for path in paths:
        node = tree
        for name in path[:-1]:
            below = node.setdefault(name, {})
            if below is leaf or not isinstance(below, dict):
                return None
            node = below
        if node.setdefault(path[-1], leaf) is not leaf:
            return None

    def dtype(node: dict[str, object]) -> pl.Struct:
        return pl.Struct(
            {
                name: pl.String() if below is leaf else dtype(below)
                for name, below in node.items()
                if isinstance(below, dict)
            }
        )

    return dtype(tree)


def _field_at(path: Path) -> pl.Expr:
    expression = pl.col("object")
    for name in path:
        expression = expression.struct.field(name)
    return expression


def _decode(line: str) -> Mapping[str, Json] | str:
    """Decode one line to an object with numbers as text; a fault description when it is no JSON object."""
    try:
        line.encode()
        found = json.loads(
            line,
            object_pairs_hook=_first_of_each,
            parse_float=_plain_decimal,
            parse_int=_plain_integer,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        return f"no JSON ({error.msg} at character {error.pos + 1})"
    except RecursionError:
        return "JSON that is nested too deeply"
    except ValueError as error:
        return f"no JSON ({error})"
    return found if isinstance(found, dict) else "JSON that is no object"


def _first_of_each(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    return dict(reversed(pairs))


def _plain_integer(text: str) -> str:
    return "0" if text == "-0" else text


def _plain_decimal(text: str) -> str:
    """A JSON number with a point or exponent as a plain decimal; unchanged when the result would be very long."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > _LONGEST_PLAIN or len(exponent) > 4 or int(exponent or "0") > _LONGEST_PLAIN:
        return text
    plain = f"{Decimal(text):f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _refuse_constant(text: str) -> str:
    raise ValueError(f"{text} is no JSON")


def _scalar(event: Json, path: Path) -> str | None:
    for name in path:
        if not isinstance(event, dict):
            return None
        event = event.get(name)
    if isinstance(event, bool):
        return "true" if event else "false"
    if not isinstance(event, str) or not _is_text(event):
        return None
    return event


def _is_text(text: str) -> bool:
    """Whether a text has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
