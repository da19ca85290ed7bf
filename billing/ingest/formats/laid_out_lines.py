"""Lines of a block held against a layout: which of them have it, and the values of their members.

A field is first compared with what most of them are: text under its name, or a whole number under a name that is asked
for. Only what is neither is matched with a regular expression.
"""

from collections.abc import Collection, Sequence
from functools import lru_cache, reduce
from operator import and_
from typing import Final

import polars as pl

from billing.ingest.formats.line_layout import Field, LineLayout, column, plain_scalars
from billing.model.json_paths import Path

_FIRST_LINES: Final = 250
_COMMON_SHARE: Final = 0.99
"""Share of the lines with the same text in a field, from which on it is compared as a whole."""


class LaidOutLines:
    """Lines of a block that are held against a layout.

    Attributes
    ----------
    matching
        Whether each line of the block has the layout, assuming that its `quotes` and `commas` match.
    """

    def __init__(
        self, cut: pl.DataFrame, layout: LineLayout, columns: Sequence[tuple[str, Path]], among: pl.Series | None = None
    ) -> None:
        """Look at lines as `line_layout.cut_lines` splits them.

        Parameters
        ----------
        columns
            Names of columns, and the paths of what they hold.
        among
            Which lines to look at; all of them unless given.
        """
        self.layout = layout
        self._columns, self._among = columns, among
        cut = cut if among is None else cut.filter(among)
        paths = tuple(path for _, path in columns)
        common = _common(cut, layout)
        # Look for the names of the first lines only; look again for all of them where another line has one of the rest.
        if not self._look(cut, _expressions(layout, paths, common, _names_of_first_lines(cut, layout, paths))):
            self._look(cut, _expressions(layout, paths, common, None))
        self.matching = self._own if among is None else among.clone().scatter(among.arg_true(), self._own)

    def _look(self, cut: pl.DataFrame, expressions: "_Expressions") -> bool:
        """Look at the lines; whether no matching line has a name that the expressions leave out."""
        self._places, named, read, compared = expressions
        names = [name for place in self._places for name in place.names]
        self._looked = cut.lazy().with_columns(named).with_columns(read).with_columns(compared).select(names).collect()
        self._own, self._is_plain, others = self._match(cut)
        left_out = [pl.col(place.column).str.starts_with(each) for place in self._places for each in place.left_out]
        return not left_out or others.is_empty() or not others.select(pl.any_horizontal(left_out).any()).item()

    def read(self, rows: pl.Series, which: pl.Series) -> pl.DataFrame:
        """Read the columns of some of the matching lines.

        Parameters
        ----------
        rows
            The number of every line.

        Returns
        -------
        polars.DataFrame
            row, unparseable (false) and the columns.
        """
        texts = (self._texts(path).alias(name) for name, path in self._columns)
        if self._among is not None:
            rows, which = rows.filter(self._among), which.filter(self._among)
        found = self._looked.with_columns(rows.alias("row")).filter(which)
        return found.select("row", pl.lit(value=False).alias("unparseable"), *texts)

    def _match(self, cut: pl.DataFrame) -> tuple[pl.Series, bool, pl.DataFrame]:
        """Whether each line has the layout, and whether the bare values of all that do are read as they stand.

        Beside them the matching lines of which the expressions are not sure, if there are any.
        """
        certain = [self._looked[place.sure] for place in self._places if place.is_certain]
        doubtful = [place for place in self._places if not place.is_certain]
        matching = reduce(and_, certain) if certain else pl.repeat(value=True, n=len(cut), eager=True)
        if not doubtful:
            return matching, True, pl.DataFrame()
        sure = reduce(and_, (self._looked[place.sure] for place in doubtful))
        others = (matching & ~sure).arg_true()
        matching &= sure
        if others.is_empty():
            return matching, True, pl.DataFrame()
        texts = cut.select(place.column for place in doubtful)[others].with_columns(others.alias("line"))
        found = texts.filter(pl.all_horizontal(place.field.matches(place.column) for place in doubtful))
        bare = [place for place in doubtful if not place.field.is_text]
        is_odd = (
            any(found.select(place.field.may_be_odd(place.column).any() for place in bare).row(0)) if bare else False
        )
        return matching.scatter(found["line"], values=True), not is_odd, found

    def _texts(self, path: Path) -> pl.Expr:
        """Texts at a path; null when missing, the first of repeated members."""
        found = pl.lit(None, pl.String)
        for place in reversed(self._places):
            if not place.may_be(path):
                continue
            value = pl.col(place.value)
            if not (place.field.is_text or self._is_plain):
                value = plain_scalars(value)
            if place.field.is_fixed:
                return value
            found = pl.when(place.has(path)).then(value).otherwise(found)
        return found


class _Place:
    """A field of a layout among those of lines, and the names by which it is read."""

    def __init__(
        self, number: int, field: Field, paths: Sequence[Path], common: str | None, names: Collection[str] | None
    ) -> None:
        """Look for `names` where they vary, all that are asked for unless given; `common`: most lines' value."""
        self.field, self._common = field, common
        self.column, self.value, self.sure = column(number), f"value {number}", f"sure {number}"
        asked = [field.path[-1]] if field.is_fixed else _names_beside(field, paths)
        self._names = [name for name in asked if field.is_fixed or names is None or name in names]
        self._named = {name: f"name {number} {place}" for place, name in enumerate(self._names)}
        self.left_out = [field.opening(name) for name in asked if name not in self._names]

    @property
    def names(self) -> list[str]:
        """Columns that are looked at."""
        return [*self._named.values(), self.value, self.sure]

    @property
    def is_certain(self) -> bool:
        """Whether `compare` decides; else a field that it does not know may match all the same."""
        return self.field.is_fixed and self.field.is_text

    def may_be(self, path: Path) -> bool:
        """Whether the field may hold the value at a path."""
        return path[:-1] == self.field.path[:-1] and path[-1] in self._names

    def has(self, path: Path) -> pl.Expr:
        """Whether the member has the name at the end of a path."""
        return pl.col(self._named[str(path[-1])])

    def name(self) -> list[pl.Expr]:
        """By name, whether the field begins as the member does when it has it."""
        text = pl.col(self.column)
        if self._common is not None:
            return [(text == _with(self.field, self._common)).alias(named) for named in self._named.values()]
        return [text.str.starts_with(self.field.opening(name)).alias(named) for name, named in self._named.items()]

    def read(self) -> pl.Expr:
        """The text at the place of the value; null where the member has none of the names."""
        if self._common is not None:
            return pl.lit(self._common).alias(self.value)
        # Slice at constant offsets: half the time of offsets given by expressions.
        by_start: dict[int, list[str]] = {}
        for name, named in self._named.items():
            by_start.setdefault(len(self.field.opening(name)), []).append(named)
        value = pl.lit(None, pl.String)
        for start, named_alike in by_start.items():
            own = pl.col(self.column).str.slice(start)
            value = own if len(by_start) == 1 else pl.when(pl.any_horizontal(named_alike)).then(own).otherwise(value)
        return (value.str.head(-len(self.field.after)) if self.field.after else value).alias(self.value)

    def compare(self) -> pl.Expr:
        """Whether the field is what most fields of the layout are."""
        text, after = pl.col(self.column), self.field.after
        found = pl.any_horizontal(pl.lit(value=False), *self._named.values())
        if self._common is None:
            # Compare lengths: the opening quotation mark of an unfinished text may pass for the closing one.
            found &= (
                text.str.len_bytes() >= self._bytes_around() if self.field.is_text else _is_whole(pl.col(self.value))
            )
            found &= text.str.ends_with(after) if after else pl.lit(value=True)
        return found.fill_null(value=False).alias(self.sure)

    def _bytes_around(self) -> pl.Expr:
        after = len(self.field.after)
        return self._by_name([len(self.field.opening(name).encode()) + after for name in self._names])

    def _by_name(self, numbers: Sequence[int]) -> pl.Expr:
        if self.field.is_fixed:
            return pl.lit(numbers[0], pl.UInt32)
        found = pl.lit(None, pl.UInt32)
        for named, number in zip(self._named.values(), numbers, strict=True):
            found = pl.when(named).then(pl.lit(number, pl.UInt32)).otherwise(found)
        return found


_Expressions = tuple[list[_Place], list[pl.Expr], list[pl.Expr], list[pl.Expr]]


@lru_cache(maxsize=64)
def _expressions(
    layout: LineLayout,
    paths: tuple[Path, ...],
    common: tuple[tuple[int, str], ...],
    names: tuple[tuple[int, tuple[str, ...]], ...] | None,
) -> _Expressions:
    """The places of a layout, and what is computed of them one after the other; the files of a month are alike."""
    texts, few = dict(common), None if names is None else dict(names)
    places = [
        _Place(number, field, paths, texts.get(number), None if few is None else few.get(number, ()))
        for number, field in enumerate(layout.fields)
    ]
    return (
        places,
        [named for place in places for named in place.name()],
        [place.read() for place in places],
        [place.compare() for place in places],
    )


def _common(cut: pl.DataFrame, layout: LineLayout) -> tuple[tuple[int, str], ...]:
    """Numbers and values of the fields of text that nearly all lines share with the one that the layout is of."""
    found = {number: field for number, field in enumerate(layout.fields) if field.is_fixed and field.is_text}
    # Most fields are told apart by their first lines.
    for lines in (cut.head(_FIRST_LINES), cut):
        if not found or lines.is_empty():
            return ()
        is_same = (pl.col(column(number)) == _with(field, field.first) for number, field in found.items())
        shares = dict(zip(found, lines.select(same.mean() for same in is_same).row(0), strict=True))
        found = {number: field for number, field in found.items() if (shares[number] or 0) >= _COMMON_SHARE}
    return tuple((number, field.first) for number, field in found.items())


def _names_of_first_lines(
    cut: pl.DataFrame, layout: LineLayout, paths: Sequence[Path]
) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Numbers of the fields whose names vary, each with those names asked for that the first lines have in it."""
    asked = {
        (number, name): pl.col(column(number)).str.starts_with(field.opening(name)).any().alias(f"{number} {name}")
        for number, field in enumerate(layout.fields)
        if not field.is_fixed
        for name in _names_beside(field, paths)
    }
    if not asked:
        return ()
    are_there = cut.head(_FIRST_LINES).select(asked.values()).row(0)
    found: dict[int, list[str]] = {}
    for (number, name), is_there in zip(asked, are_there, strict=True):
        if is_there:
            found.setdefault(number, []).append(name)
    return tuple((number, tuple(names)) for number, names in found.items())


def _names_beside(field: Field, paths: Sequence[Path]) -> list[str]:
    """The names that are asked for in the object of a field."""
    beside = [path[-1] for path in paths if path[:-1] == field.path[:-1] and isinstance(path[-1], str)]
    return list(dict.fromkeys(beside))


def _with(field: Field, value: str) -> str:
    """The text of a field with a fixed name and some value."""
    return f"{field.before}{value}{field.after}"


def _is_whole(text: pl.Expr) -> pl.Expr:
    """Whether a bare value is a whole number of less than 19 digits as JSON writes it, and not -0."""
    is_written_so = (text >= "1") | (text == "0") | ((text >= "-1") & (text < "."))
    return text.str.to_integer(strict=False).is_not_null() & is_written_so
