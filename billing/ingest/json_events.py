"""CloudEvents as JSON lines: text to columns.

Lines that share a layout are cut into members at their quotation marks (`line_layout`). Of the others, many are
decoded at a time. That reader is fast but lenient and inexact in places (it takes numbers with a
point through binary floats, lone surrogates for zeros, two objects on a line for two lines, and fails all lines at
one bad one). Lines that could meet such a place, and lines that it fails, are decoded one by one instead, with the
same result wherever both can.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import BinaryIO, Final

import polars as pl
from polars.exceptions import ComputeError

from billing.ingest.delivered_bytes import line_blocks, lines
from billing.ingest.instants import parse_instants
from billing.ingest.line_layout import LineLayout, layout_of, read_pieces
from billing.ingest.measured import EventTypes, measured_paths, member_column

_ENVELOPE: Final = ("specversion", "id", "source", "type", "subject", "time")
_LINE: Final = "overage line"
"""A member put first into every line, so that the decoder's rows can be told to be the lines they should be."""

# A number that a binary float may not hold exactly (17 characters or more, or an exponent), or half a surrogate pair.
_INEXACT: Final = r'":\s*-?(?:[0-9.]{17,}|[0-9.]+[eE])|\\u[dD]'
_ONE_BY_ONE: Final = 128
_LONGEST_PLAIN: Final = 60
_MOST_LAYOUTS: Final = 8
_STRAY_SHARE: Final = 0.02
"""Lines of further layouts that are fewer than this share of a block are left to the decoder."""
_SAMPLES: Final = 5

Path = tuple[str, ...]
Json = Mapping[str, "Json"] | Sequence["Json"] | str | bool | None


def json_fields(file: BinaryIO, types: EventTypes) -> Iterator[pl.DataFrame]:
    """Read CloudEvents 1.0, one per line, in bounded pieces.

    `row` is the number of the line in the file, blank lines included, so that a person finds it; blank lines are no
    rows. An array or object where text or a number should stand counts as missing. Of a repeated member the first
    holds. A number is taken as the decimal it denotes: 1e3 is 1000.

    Yields
    ------
    polars.DataFrame
        `parsed_rows.FIELDS` and a value column for each member of `types`, as text.
    """
    paths = measured_paths(types)
    layouts = _Layouts(paths)
    for block, frame in _blocks(file):
        if len(frame):
            yield _fields(frame, layouts.decode(block, frame), paths)


def json_texts(file: BinaryIO) -> Iterator[pl.DataFrame]:
    """The lines of a file that are not blank (row, text, broken), in bounded pieces, undecoded."""
    for _, frame in _blocks(file):
        yield frame


def _blocks(file: BinaryIO) -> Iterator[tuple[bytes, pl.DataFrame]]:
    row = 1
    for block in line_blocks(file):
        frame = lines(block).with_row_index("row", offset=row).with_columns(pl.col("row").cast(pl.Int64))
        row += len(frame)
        yield block, frame.filter(pl.col("text").str.contains(r"[^ \t\r\n]"))


def fields_of_lines(frame: pl.DataFrame, paths: Sequence[Path]) -> pl.DataFrame:
    """Decode lines (row, text, broken) into FIELDS and the value columns of `paths`."""
    return _fields(frame, [], paths)


def _fields(frame: pl.DataFrame, decoded: Sequence[pl.DataFrame], paths: Sequence[Path]) -> pl.DataFrame:
    """FIELDS of lines, of which some are decoded already."""
    text = pl.col("text")
    rest = frame
    if decoded:
        done = pl.concat([part["row"] for part in decoded])
        rest = frame.filter(~pl.col("row").is_in(done.implode())) if len(done) < len(frame) else frame.clear()
    plain = rest.select(
        text.str.starts_with("{") & text.str.ends_with("}") & ~pl.col("broken") & ~text.str.contains(_INEXACT)
    ).to_series()
    decoder = _Decoder(paths)
    if decoder.shape is None:
        plain = pl.repeat(False, len(rest), eager=True, dtype=pl.Boolean)
    parts = [*decoded, decoder.many(rest.filter(plain)), decoder.one_by_one(rest.filter(~plain))]
    found = pl.concat([part for part in parts if len(part)]) if len(frame) else decoder.empty()
    # rows leave in the order of the file, however they were decoded
    if not found["row"].is_sorted():
        found = found.sort("row")
    if not found["row"].equals(frame["row"]):
        raise AssertionError("rows were lost or invented while decoding JSON lines")
    return (
        found.with_columns(parse_instants(found["time"]))
        .with_columns(text=frame["text"], incomplete=pl.col("specversion").fill_null("") != "1.0")
        .drop("specversion")
    )


class _Layouts:
    """The line layouts seen so far in a file, and decoding by them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.columns = _columns(paths)
        self.known: list[LineLayout] = []

    def decode(self, block: bytes, frame: pl.DataFrame) -> list[pl.DataFrame]:
        """Decode the lines of a block that have a layout which many of them share; nothing where there is none."""
        if frame["broken"].any() or b"\r" in block or frame["row"][-1] - frame["row"][0] + 1 != len(frame):
            return []
        matches = self._matches(frame["text"])
        if not matches:
            return []
        paths = [path for _, path in self.columns]
        pieces = read_pieces(block, [layout for layout, _ in matches], paths)
        if len(pieces) != len(frame):
            return []
        pieces = pieces.with_columns(frame["row"], unparseable=pl.lit(False))
        return [
            pieces.filter(matching).select(
                "row", "unparseable", *(layout.value(path).alias(name) for name, path in self.columns)
            )
            for layout, matching in matches
        ]

    def _matches(self, texts: pl.Series) -> list[tuple[LineLayout, pl.Series]]:
        """Layouts with the lines that have them, each line in one layout at most."""
        free = pl.repeat(True, len(texts), eager=True, dtype=pl.Boolean)
        matches = []
        for known in self.known:
            matching = texts.str.contains(known.pattern) & free
            if matching.any():
                matches.append((known, matching))
                free &= ~matching
        while len(self.known) < _MOST_LAYOUTS and free.sum() > len(texts) * _STRAY_SHARE:
            samples = texts.filter(free).head(_SAMPLES)
            layout = next((found for sample in samples if (found := layout_of(sample)) is not None), None)
            if layout is None:
                break
            matching = texts.str.contains(layout.pattern) & free
            if matching.sum() < len(texts) * _STRAY_SHARE:
                break
            self.known.append(layout)
            matches.append((layout, matching))
            free &= ~matching
        return matches


def _columns(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """The columns to be decoded, with the path of each."""
    return [*((name, (name,)) for name in _ENVELOPE), *((member_column(path), path) for path in paths)]


class _Decoder:
    """Decodes lines to the envelope and the value columns of some paths, all as text."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.shape = _shape([(name,) for name in _ENVELOPE] + self.paths)
        self.columns = _columns(self.paths)

    def many(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Decode lines together; the ones the fast reader fails, one by one."""
        if len(frame) == 0:
            return self.empty()
        decoded = self._together(frame)
        if decoded is not None:
            return decoded
        if len(frame) <= _ONE_BY_ONE:
            return self.one_by_one(frame)
        return pl.concat([self.many(part) for part in frame.iter_slices(max(len(frame) // 16, _ONE_BY_ONE))])

    def one_by_one(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Decode lines one at a time, exactly."""
        objects = [
            None if broken else _decode(text)
            for text, broken in zip(frame["text"].to_list(), frame["broken"].to_list(), strict=True)
        ]
        found = {name: [_scalar(event, path) for event in objects] for name, path in self.columns}
        return pl.DataFrame(
            {"row": frame["row"], "unparseable": [event is None for event in objects], **found},
            schema=self._schema(),
        )

    def _together(self, frame: pl.DataFrame) -> pl.DataFrame | None:
        numbers = pl.col("row").cast(pl.String)
        # one copy of the line, with its number as first member
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
            *(_at(path).alias(name) for name, path in self.columns),
            same=(root.field(_LINE) == pl.col("row").cast(pl.String)),
        )
        return decoded.drop("same") if decoded["same"].fill_null(False).all() else None

    def _schema(self) -> Mapping[str, type[pl.DataType]]:
        return {"row": pl.Int64, "unparseable": pl.Boolean} | {name: pl.String for name, _ in self.columns}

    def empty(self) -> pl.DataFrame:
        """No lines."""
        return pl.DataFrame(schema=self._schema())


def _shape(paths: Sequence[Path]) -> pl.Struct | None:
    """The Polars type of an object with text at these paths; None when one path leads through another's text."""
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


def _at(path: Path) -> pl.Expr:
    expression = pl.col("object")
    for name in path:
        expression = expression.struct.field(name)
    return expression


def _decode(line: str) -> Mapping[str, Json] | None:
    """One line as an object whose numbers are text; None when it is not one JSON object."""
    try:
        line.encode()
        found = json.loads(
            line,
            object_pairs_hook=_first_of_each,
            parse_float=_plain_decimal,
            parse_int=_plain_integer,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _first_of_each(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    return dict(reversed(pairs))


def _plain_integer(text: str) -> str:
    return "0" if text == "-0" else text


def _plain_decimal(text: str) -> str:
    """A JSON number with a point or exponent as a plain decimal; unchanged when that would be very long."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > _LONGEST_PLAIN or len(exponent) > 3 or abs(int(exponent or "0")) > _LONGEST_PLAIN:
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
    """Whether there is no half of a surrogate pair in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
