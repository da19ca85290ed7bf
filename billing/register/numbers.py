"""Numbers of documents: the next one of each series, in the format of its year (rule 19)."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final, NamedTuple

import polars as pl
import sqlalchemy as sa

from billing.model.codes import DocumentKind
from billing.model.errors import Problem, RefusedError
from billing.model.numbering import USUAL, NumberFormat, Numbering, Written, file_name
from billing.register import schema as stored
from billing.register.connection import Connection
from billing.register.rows import portions

SERIES: Final = {DocumentKind.INVOICE: "INV", DocumentKind.CREDIT_NOTE: "CN", DocumentKind.DEBIT_NOTE: "DN"}


class _Next(NamedTuple):
    """The format of a series in a year, and its next sequence."""

    written: Written
    sequence: int


class _Given(NamedTuple):
    """The last sequence, and the format, of every series and year in which there are numbers."""

    last: dict[tuple[str, int], int]
    formats: dict[tuple[str, int], str]


class Numbers(Connection):
    """The numbers that were given."""

    def number_gaps(self) -> list[str]:
        """Series and years whose numbers do not run from their first without a gap, such as INV-2026."""
        table = stored.documents.c
        bounds = (sa.func.min(table.sequence), sa.func.max(table.sequence), sa.func.count())
        query = sa.select(table.series, table.year, *bounds).group_by(table.series, table.year)
        query = query.order_by(table.series, table.year)
        with self._engine.connect() as connection:
            firsts = {(row.series, row.year): row.first for row in connection.execute(sa.select(stored.numberings))}
            return [
                f"{series}-{year}"
                for series, year, least, most, count in connection.execute(query)
                if least != firsts.get((series, year), 1) or most - least + 1 != count
            ]

    def last_numbers(self) -> dict[tuple[str, int], int]:
        """The last sequence given by series and year, such as (INV, 2026): 41."""
        with self._engine.connect() as connection:
            return _given(connection).last

    def used_formats(self) -> dict[tuple[str, int], str]:
        """The format of the numbers of every series and year in which there are some."""
        with self._engine.connect() as connection:
            return _given(connection).formats

    def changed_formats(self, numbering: Numbering, year: int | None = None) -> list[Problem]:
        """Formats that are not those of documents issued in a year (default: of the latest document)."""
        used = self.used_formats()
        year = year or max((each for _, each in used), default=0)
        return [
            Problem(
                "catalogue.yaml",
                f"numbering.{kind}",
                repr(numbering.formats[kind].text),
                f"{used[series, year]!r} as before: a series that has begun keeps its format, another one begins with "
                f"the first document of {year + 1}",
            )
            for kind, series in SERIES.items()
            if (series, year) in used and used[series, year] != numbering.formats[kind].text
        ]


class NumbersInOrder:
    """Gives the next numbers to documents of a transaction, and records the formats that begin with them."""

    def __init__(self, connection: sa.Connection, numbering: Numbering, issued_on: date) -> None:
        self._connection = connection
        self._numbering = numbering
        self._issued_on = issued_on
        self._given = _given(connection)
        self._next: dict[DocumentKind, _Next] = {}

    def numbered(self, ordered: pl.DataFrame) -> pl.DataFrame:
        """Number documents in their order.

        Parameters
        ----------
        ordered
            `kind`, and other columns that are kept.

        Returns
        -------
        polars.DataFrame
            `ordered` with series, sequence, year, issued_on and number.

        Raises
        ------
        RefusedError
            When the format of a series has changed within a year, or a number was given before.
        """
        counts = dict(ordered["kind"].value_counts().iter_rows())
        places = {kind: self._place(kind) for kind in SERIES if kind in counts}
        sequence = pl.coalesce(
            pl.lit(None, pl.Int64),
            *(
                pl.when(pl.col("kind") == str(kind)).then(place.sequence + pl.int_range(pl.len()).over("kind"))
                for kind, place in places.items()
            ),
        )
        digits = pl.col("sequence").cast(pl.String)
        number = pl.coalesce(
            pl.lit(None, pl.String),
            *(
                pl.when(pl.col("kind") == str(kind)).then(
                    pl.concat_str(
                        pl.lit(place.written.prefix),
                        digits.str.zfill(place.written.width),
                        pl.lit(place.written.suffix),
                    )
                )
                for kind, place in places.items()
            ),
        )
        self._next |= {kind: place._replace(sequence=place.sequence + counts[kind]) for kind, place in places.items()}
        numbered = ordered.with_columns(
            series=pl.col("kind").replace_strict(SERIES, return_dtype=pl.String),
            sequence=sequence,
            year=pl.lit(self._issued_on.year),
            issued_on=pl.lit(self._issued_on),
        ).with_columns(number=number)
        used = {(series, text) for (series, _), text in self._given.formats.items()}
        if used - {(name, self._numbering.formats[kind].text) for kind, name in SERIES.items()}:
            _refuse_given_numbers(self._connection, numbered["number"])
        return numbered

    def _place(self, kind: DocumentKind) -> _Next:
        if kind not in self._next:
            year = self._issued_on.year
            self._next[kind] = _next_number(self._connection, kind, self._numbering, year, self._given)
        return self._next[kind]


def _next_number(
    connection: sa.Connection, kind: DocumentKind, numbering: Numbering, year: int, given: _Given
) -> _Next:
    """The next number of a series; records the format of one that begins with it, unless it is the usual one."""
    series, wanted = SERIES[kind], numbering.formats[kind]
    last = {each: sequence for (name, each), sequence in given.last.items() if name == series}
    if year in last:
        used = given.formats[series, year]
        if used != wanted.text:
            raise RefusedError(
                f"catalogue.yaml: numbering.{kind}: found {wanted.text!r}, expected {used!r} as before: a series that "
                f"has begun keeps its format; another one begins with the first document of {year + 1}"
            )
        return _Next(wanted.in_year(year), last[year] + 1)
    # Without a year in its numbers a series runs on.
    following = 1 if wanted.has_year or not last else last[max(last)] + 1
    first = following if last else numbering.first.get(kind, 1)
    written = wanted.in_year(year)
    if (wanted.text, first) != (USUAL[kind], 1):
        row = {"series": series, "year": year, "format": wanted.text, "first": first, **written._asdict()}
        connection.execute(sa.insert(stored.numberings).values(row))
    return _Next(written, first)


def _given(connection: sa.Connection) -> _Given:
    columns = (stored.documents.c.series, stored.documents.c.year)
    query = sa.select(*columns, sa.func.max(stored.documents.c.sequence)).group_by(*columns)
    last = {(series, year): int(sequence) for series, year, sequence in connection.execute(query)}
    usual = {series: USUAL[kind] for kind, series in SERIES.items()}
    own = {(row.series, row.year): row.format for row in connection.execute(sa.select(stored.numberings))}
    return _Given(last, {place: own.get(place, usual[place[0]]) for place in last})


def _refuse_given_numbers(connection: sa.Connection, numbers: pl.Series) -> None:
    """Refuse numbers that documents of another format have, or whose files would have their names."""
    name = sa.func.lower(sa.func.replace(stored.documents.c.number, "/", "_"))
    for some in portions([file_name(number).lower() for number in numbers]):
        given = connection.execute(sa.select(stored.documents.c.number).where(name.in_(some)).limit(1)).scalar()
        if given is not None:
            raise RefusedError(
                f"catalogue.yaml: numbering: the number {given} was given before under another format: expected "
                "formats whose numbers cannot meet those"
            )


def unknown_files(names: Iterable[str], register: Numbers, numbering: Numbering) -> Sequence[str]:
    """Those names of files, without ending, that are numbers beyond the last of their series."""
    last, used = register.last_numbers(), register.used_formats()
    formats: dict[str, set[str]] = {series: {USUAL[kind]} for kind, series in SERIES.items()}
    for kind, series in SERIES.items():
        formats[series] |= {numbering.formats[kind].text, *(text for (name, _), text in used.items() if name == series)}
    patterns = [(series, NumberFormat(text).pattern()) for series in formats for text in sorted(formats[series])]
    found = []
    for name in names:
        beyond = []
        for series, pattern in patterns:
            number = pattern.fullmatch(name)
            if number is None:
                continue
            year = number.groupdict().get("year")
            known = [count for (code, of), count in last.items() if code == series and (not year or of == int(year))]
            beyond.append(int(number["sequence"]) > max(known, default=0))
        if beyond and all(beyond):
            found.append(name)
    return found
