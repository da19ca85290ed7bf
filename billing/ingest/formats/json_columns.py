"""Members of JSON lines as text columns.

Fast path: lines that share a layout are split into members at their commas (`line_layout`). The rest is decoded in
batches by Polars, which is fast but lenient and inexact: it reads decimals as binary floats, lone surrogates as zeros
and two objects on a line as two lines, and one bad line fails the batch. Lines that could hit one of these, and lines
that fail, are decoded one by one, with the same result wherever both paths apply.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_
from typing import BinaryIO, Final, cast

import polars as pl
from polars.exceptions import ComputeError

from billing.ingest.formats.compression import Content
from billing.ingest.formats.delivered_bytes import FIRST_LINE, Lines, line_blocks, numbered, split_lines
from billing.ingest.formats.inner_json import Ways, ways_of
from billing.ingest.formats.json_records import holds_records, record_lines
from billing.ingest.formats.json_values import Json, decode_line, scalar
from billing.ingest.formats.laid_out_lines import LaidOutLines
from billing.ingest.formats.line_layout import LineLayout, cut_lines, layout_of
from billing.ingest.parsed_rows import Letters
from billing.model.file_limits import Limits
from billing.model.json_paths import Path

_LINE: Final = "overage line"
"""Name of a line number inserted first into every line, to check that decoded rows match their lines."""

# Match numbers that a binary float may not hold (17 characters or more, or an exponent), and half surrogate pairs.
_INEXACT: Final = r'":\s*-?(?:[0-9.]{17,}|[0-9.]+[eE])|\\u[dD]'
_INEXACT_IN_LISTS: Final = r"[:\[,]\s*-?(?:[0-9.]{17,}|[0-9.]+[eE])|\\u[dD]"
_ONE_BY_ONE: Final = 128
_FEW: Final = 64
"""Lines up to which to decode each takes less than to prepare a batch."""
_ROWS_PER_INSERTED: Final = 400
"""Rows per row that is put among them, from which on to cut them takes less than to sort them."""
_NO_MEMBERS: Final = '{"":0}'
_MOST_LAYOUTS: Final = 8
_STRAY_SHARE: Final = 0.02
"""Share of a block below which lines of a new layout go to the decoder."""
_SAMPLES: Final = 5
_MARKS: Final = ('"', ",", r"\\", r"[\x00-\x1F]")
"""Quotation marks, commas, escapes and control characters as regular expressions, in the order of `Lines.marks`."""
_CONTROLS: Final = tuple(map(chr, range(ord(" "))))

Columns = Sequence[tuple[str, Path]]
"""Names of columns, and the paths of the members that they hold."""


@dataclass(frozen=True)
class ColumnBlock:
    """A block of a file: its records as columns.

    Attributes
    ----------
    fields
        row, unparseable, the columns as text and, where a record is broken, detail; in the order of the file.
    texts
        Returns the original texts of the rows at some positions of `fields`.
    unfinished
        Number of the last row, when it may be truncated.
    """

    fields: pl.DataFrame
    texts: "partial[pl.Series]"
    unfinished: int | None
    letters: Letters


def column_blocks(
    content: Content, columns: Columns, limits: Limits, *, looks_inside: bool = False
) -> Iterator[ColumnBlock]:
    """Read JSON records, one per line or in any other arrangement, in bounded blocks.

    `row` is the line number in the file, including blank lines; blank lines are no rows. In an array, or where objects
    are pretty-printed or share a line, it is the position of the record, from 1. An array or object in place of text
    or a number counts as missing. The first of repeated members counts. Numbers are read as exact decimals.

    Parameters
    ----------
    looks_inside
        Whether a path leads on inside of text that is a JSON object, and by name into a list of names and values.
    """
    layouts = Layouts(columns)
    row = 1
    lines, may_be_cut = as_lines(content, limits)
    for framed in line_blocks(lines, FIRST_LINE, longest=limits.longest_record):
        found = Lines(framed)
        decoded, others = layouts.decode(found, row)
        fields = merged_columns(decoded, others, columns, looks_inside=looks_inside)
        count = found.count
        is_cut = may_be_cut and not framed.endswith(b"\n") and bool(fields["unparseable"].tail(1).any())
        unfinished = row + count - 1 if is_cut else None
        letters = _letters_of_values(found, fields, others["row"], are_apart=layouts.blanks_are_apart)
        block = ColumnBlock(fields, partial(_texts, found, fields["row"] - row), unfinished, letters)
        # Free the block's frames before reading the next one.
        del framed, found, decoded, others, fields
        if len(block.fields):
            yield block
        del block
        row += count


def as_lines(content: Content, limits: Limits) -> tuple[BinaryIO, bool]:
    """A file with one record per line, and whether it may be truncated without a decoding error."""
    if holds_records(content, limits.longest_record):
        return record_lines(content, limits.longest_record), True
    return cast(BinaryIO, content), content.raw is not None


def _texts(lines: Lines, places: pl.Series, wanted: pl.Series) -> pl.Series:
    return lines.texts(places.gather(wanted))["text"]


def _letters_of_values(lines: Lines, fields: pl.DataFrame, others: pl.Series, *, are_apart: bool) -> Letters:
    """Character class of the values: blanks between members are none of theirs.

    Parameters
    ----------
    others
        Rows that have no layout.
    are_apart
        Whether all blanks of the other lines are between their members.
    """
    if lines.letters != "printable" or not are_apart or fields.is_empty():
        return lines.letters
    texts = [name for name, dtype in fields.schema.items() if dtype == pl.String]
    found = fields[fields["row"].search_sorted(others).clip(upper_bound=len(fields) - 1)]
    has_blank = found.select(pl.any_horizontal(pl.col(texts).str.contains(" ", literal=True)).any()).item()
    return "printable" if has_blank else "visible"


def merged_columns(
    decoded: Sequence[pl.DataFrame], others: pl.DataFrame, columns: Columns, *, looks_inside: bool = False
) -> pl.DataFrame:
    """Merge decoded lines with the columns of the other lines (row, text, broken); in the order of the file.

    Parameters
    ----------
    looks_inside
        As in `column_blocks`; decoded lines have no such text and no list.
    """
    text = pl.col("text")
    # Concatenated files have byte order marks of their own.
    others = others.with_columns(text.str.strip_chars_start("\ufeff")).filter(text.str.contains(r"[^ \t\r\n]"))
    decoder = Decoder(columns, looks_inside=looks_inside)
    if decoder.shape is None or len(others) <= _FEW:
        parts = [decoder.one_by_one(others)]
    else:
        plain = others.select(_is_plain(columns)).to_series()
        parts = [decoder.many(others.filter(plain)), decoder.one_by_one(others.filter(~plain))]
    found = _in_order([part for part in (*decoded, *parts) if len(part)] or [decoder.empty()])
    if len(found) != sum(map(len, decoded)) + len(others):
        raise AssertionError("rows were lost or invented while decoding JSON lines")
    if decoder.faults:
        details = pl.Series("detail", [None], dtype=pl.String).new_from_index(0, len(found))
        places = found["row"].search_sorted(pl.Series(decoder.faults.keys(), dtype=pl.Int64))
        found = found.with_columns(details.scatter(places, list(decoder.faults.values())))
    return found


def _is_plain(columns: Columns) -> pl.Expr:
    """Whether a line may be decoded together with others."""
    text = pl.col("text")
    looks_into_lists = any(isinstance(step, int) for _, path in columns for step in path)
    inexact = text.str.contains(_INEXACT_IN_LISTS if looks_into_lists else _INEXACT)
    return text.str.starts_with("{") & text.str.ends_with("}") & ~pl.col("broken") & ~inexact


def _in_order(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Frames that are each sorted by `row` as one that is."""
    whole = max(parts, key=len)
    others = [part for part in parts if part is not whole]
    few = pl.concat(others).sort("row") if others else whole.clear()
    if len(few) * _ROWS_PER_INSERTED > len(whole):
        return pl.concat(parts).sort("row")
    # Half the time of sorting.
    places = pl.DataFrame({"place": whole["row"].search_sorted(few["row"])})
    runs = places.group_by("place", maintain_order=True).len()
    pieces, start, inserted = [], 0, 0
    for place, count in runs.iter_rows():
        pieces += [whole[start:place], few[inserted : inserted + count]]
        start, inserted = place, inserted + count
    return pl.concat([*pieces, whole[start:]], rechunk=True)


class Layouts:
    """Line layouts learned so far in a file; decodes the lines that match one."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.known: list[LineLayout] = []
        self.blanks_are_apart = False
        """Whether the values of the lines decoded last hold no blanks."""

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
        self.blanks_are_apart = False
        found = self._matches(lines) if lines.is_text else None
        if found is None:
            return [], numbered(split_lines(lines.block), row)
        matches = [laid_out.matching for laid_out in found]
        others = lines.texts(_unmatched(matches).arg_true())
        layouts = [laid_out.layout for laid_out in found]
        if not _has_only_layout_marks(lines, layouts, matches, others):
            matches = _check_each_line(lines, layouts, matches)
            others = lines.texts(_unmatched(matches).arg_true())
        self.blanks_are_apart = _hold_blanks_apart(lines, layouts, matches, others)
        rows = pl.int_range(row, row + lines.count, dtype=pl.Int64, eager=True).alias("row")
        decoded = [laid_out.read(rows, matching) for laid_out, matching in zip(found, matches, strict=True)]
        return decoded, pl.DataFrame([rows.filter(_unmatched(matches)), *others])

    def _matches(self, lines: Lines) -> list[LaidOutLines] | None:
        """Per layout the lines that seem to match it, each line at most once.

        None when no layout is known, or when splitting cannot distinguish the lines.
        """
        learned = None
        if not self.known:
            learned = self._learn(lines, pl.int_range(0, min(lines.count, _SAMPLES), eager=True))
        cut, found = pl.DataFrame(), list[LaidOutLines]()
        free = pl.repeat(True, lines.count, eager=True, dtype=pl.Boolean)
        strays = lines.count * _STRAY_SHARE
        while self.known:
            # Cut again only for more fields: layouts with fewer have been compared already, and are not affected.
            if cut.width < (width := max(len(layout.fields) for layout in self.known)):
                try:
                    cut = cut_lines(lines.framed, width)
                except ComputeError:
                    break
                if len(cut) != lines.count:
                    break
            for layout in self.known[len(found) :]:
                laid_out = LaidOutLines(cut, layout, self.columns, free if found else None)
                found.append(laid_out)
                free &= ~laid_out.matching
            if learned is not None and found[-1].matching.sum() < strays:
                self.known.pop()
                return found[:-1] or None
            learned = self._learn(lines, free.arg_true().head(_SAMPLES)) if free.sum() > strays else None
            if learned is None:
                return found
        return None

    def _learn(self, lines: Lines, places: pl.Series) -> LineLayout | None:
        """Learn the layout of the first line that has a new one."""
        if len(self.known) < _MOST_LAYOUTS:
            for text in lines.texts(places)["text"]:
                layout = layout_of(text)
                if layout is not None and layout not in self.known:
                    self.known.append(layout)
                    return layout
        return None


def _unmatched(matches: Sequence[pl.Series]) -> pl.Series:
    return ~reduce(or_, matches)


def _has_only_layout_marks(
    lines: Lines, layouts: Sequence[LineLayout], matches: Sequence[pl.Series], others: pl.DataFrame
) -> bool:
    """Whether the matched lines hold exactly the marks that their layouts need.

    Each line holds at least those, so a matching sum proves that none holds more; escapes and control characters,
    which no layout allows, must be in the other lines only.
    """
    text = "".join(others["text"])
    controls = sum(map(text.count, _CONTROLS))
    numbers = [int(matching.sum()) for matching in matches]
    quotes = sum(layout.quotes * number for layout, number in zip(layouts, numbers, strict=True))
    commas = sum(layout.commas * number for layout, number in zip(layouts, numbers, strict=True))
    own = (text.count('"') + quotes, text.count(",") + commas, text.count("\\"), controls)
    return lines.marks == own


def _hold_blanks_apart(
    lines: Lines, layouts: Sequence[LineLayout], matches: Sequence[pl.Series], others: pl.DataFrame
) -> bool:
    """Whether the matched lines hold no blanks but those of their layouts."""
    own = sum(layout.blanks * int(matching.sum()) for layout, matching in zip(layouts, matches, strict=True))
    return lines.blanks == own + "".join(others["text"]).count(" ")


def _check_each_line(lines: Lines, layouts: Sequence[LineLayout], matches: Sequence[pl.Series]) -> list[pl.Series]:
    """Matches that hold when each line is checked on its own."""
    quote, comma, escape, control = (pl.col("text").str.count_matches(mark) for mark in _MARKS)
    counts = split_lines(lines.block).select(quotes=quote, commas=comma, forbidden=escape + control)
    return [
        matching
        & (counts["quotes"] == layout.quotes)
        & (counts["commas"] == layout.commas)
        & (counts["forbidden"] == 0)
        for layout, matching in zip(layouts, matches, strict=True)
    ]


class Decoder:
    """Decodes lines to columns, all as text."""

    def __init__(self, columns: Columns, *, looks_inside: bool = False) -> None:
        self.columns = columns
        self.looks_inside = looks_inside
        self.ways = Ways()
        self.shape = _shape([path for _, path in columns])
        self.faults: dict[int, str] = {}
        """Fault by row: what was found instead of an object."""

    def many(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Decode lines in a batch; lines that fail it, one by one."""
        if len(frame) == 0:
            return self.empty()
        decoded = self._decode_batch(frame)
        if decoded is None and self._finds_ways(frame):
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
            decoded = "bytes that are no UTF-8" if broken else decode_line(text)
            objects.append(None if isinstance(decoded, str) else decoded)
            if isinstance(decoded, str):
                self.faults[row] = f"row: found {decoded}, expected one JSON object"
        found = {
            name: [scalar(event, path, looks_inside=self.looks_inside) for event in objects]
            for name, path in self.columns
        }
        return pl.DataFrame(
            {"row": frame["row"], "unparseable": [event is None for event in objects], **found},
            schema=self._schema(),
        )

    def _decode_batch(self, frame: pl.DataFrame) -> pl.DataFrame | None:
        if self.shape is None:
            return None
        number = pl.col("row").cast(pl.String)
        # Copy each line once, with its number as the first member.
        lines = frame.select(pl.concat_str(pl.lit(f'{{"{_LINE}":'), number, pl.lit(","), pl.col("text").str.slice(1)))
        try:
            objects = lines.to_series().str.json_decode(self.shape)
        except ComputeError:
            return None
        if len(objects) != len(frame):
            return None
        is_same = pl.col("object").struct.field(_LINE) == number
        decoded = pl.DataFrame({"row": frame["row"], "object": objects}).select(
            "row",
            pl.lit(False).alias("unparseable"),
            *(self.ways.value(path).alias(name) for name, path in self.columns),
            same=is_same & self.ways.hold([path for _, path in self.columns]),
        )
        if not decoded["same"].fill_null(value=False).all():
            return None
        return self._inside_of_texts(decoded.drop("same"))

    def _finds_ways(self, frame: pl.DataFrame) -> bool:
        """Learn from a few records where paths lead on inside of texts and lists; whether that is new."""
        if not self.looks_inside:
            return False
        found = self.ways
        for text in frame["text"].head(_SAMPLES):
            decoded = decode_line(text)
            if not isinstance(decoded, str):
                found = found.beside(ways_of(decoded, [path for _, path in self.columns]))
        if found == self.ways:
            return False
        self.ways = found
        paths = [path for _, path in self.columns]
        self.shape = _shape([*(found.decoded(path) for path in paths), *found.names(paths)])
        return self.shape is not None

    def _inside_of_texts(self, decoded: pl.DataFrame) -> pl.DataFrame:
        """Replace texts that hold JSON by what stands at the rest of the paths in them."""
        by_text: dict[Path, list[tuple[str, Path]]] = {}
        for name, path in self.columns:
            upto, rest = self.ways.divided(path)
            if rest:
                by_text.setdefault(upto, []).append((name, rest))
        for columns in by_text.values():
            decoded = decoded.with_columns(members_in_texts(decoded[columns[0][0]], columns))
        return decoded

    def _schema(self) -> Mapping[str, type[pl.DataType]]:
        return {"row": pl.Int64, "unparseable": pl.Boolean} | {name: pl.String for name, _ in self.columns}

    def empty(self) -> pl.DataFrame:
        """An empty frame with the decoder's schema."""
        return pl.DataFrame(schema=self._schema())


def members_in_texts(texts: pl.Series, columns: Columns) -> pl.DataFrame:
    """Columns of the members of texts that are JSON objects; null where a text is none."""
    text = pl.col("text").str.strip_chars(" \t\r\n\ufeff").str.replace_all("\n", " ", literal=True)
    # Only an object holds members; any other text is one without the members that are asked for.
    text = pl.when(text.str.starts_with("{")).then(text).otherwise(pl.lit(_NO_MEMBERS))
    lines = texts.to_frame("text").select(row=pl.int_range(pl.len(), dtype=pl.Int64), text=text)
    found = merged_columns([], lines.with_columns(broken=pl.lit(value=False)), columns, looks_inside=True)
    return found.select(name for name, _ in columns)


def _shape(paths: Sequence[Path]) -> pl.Struct | None:
    """Polars type of an object with text at these paths; None when a path leads through another's text."""
    tree: dict[str | int, object] = {_LINE: None}
    for path in paths:
        node = tree
        for step in path[:-1]:
            below = node.setdefault(step, {})
            if not isinstance(below, dict):
                return None
            node = below
        if path[-1] in node and node[path[-1]] is not None:
            return None
        node[path[-1]] = None
    shape = _type_of(tree)
    return shape if isinstance(shape, pl.Struct) else None


def _type_of(node: object) -> pl.DataType | None:
    """The type of a node of a tree of steps; None where it would be an object and a list at once."""
    if not isinstance(node, dict):
        return pl.String()
    if any(isinstance(step, int) for step in node):
        kinds = [_type_of(below) for below in node.values()]
        is_list = all(isinstance(step, int) for step in node) and all(kind == kinds[0] for kind in kinds)
        return pl.List(kinds[0]) if is_list and kinds[0] is not None else None
    fields = {str(step): _type_of(below) for step, below in node.items()}
    known = {step: kind for step, kind in fields.items() if kind is not None}
    return pl.Struct(known) if len(known) == len(fields) else None
