"""Register rows: serialize documents, lines, taxes and decisions to integers and text, and insert them in bulk."""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any, Final

import polars as pl
import sqlalchemy as sa

from billing.model.columns import MONEY
from billing.model.empty_frames import skip_if_empty
from billing.model.hashes import hash_contents
from billing.model.tables import DECISIONS
from billing.register import schema as stored

# Start of a draft's content: number and days are null.
_NOT_ISSUED: Final = '"number":null,"issued_on":null,"due_on":null'
# As drafts of version 1 began.
_NOT_ISSUED_EARLIER: Final = '"number":null,"issued_on":null'
_ROWS_PER_STATEMENT = 200
# Limit of bound parameters: 999 in SQLite before 3.32, more than 30,000 in later versions and PostgreSQL.
_VALUES_OF_OLDER_SQLITE: Final = 999
_VALUES_PER_QUERY = 900
# Group rows by columns with at most so many distinct values.
_FEW_VALUES: Final = 16


def document_rows(numbered: pl.DataFrame) -> pl.DataFrame:
    """Rows of documents, with number and days filled into their content.

    Parameters
    ----------
    numbered
        Drafts with their numbers and issued_on; payment_days is null in drafts of earlier versions.
    """
    numbered = numbered.with_columns(due_on=due_on())
    issued = pl.format('"number":"{}","issued_on":"{}"', "number", pl.col("issued_on").dt.to_string("%Y-%m-%d"))
    filled = pl.format('{},"due_on":"{}"', issued, pl.col("due_on").dt.to_string("%Y-%m-%d"))
    is_earlier = ~pl.col("content").str.starts_with("{" + _NOT_ISSUED)
    content = pl.col("content").str.replace(_NOT_ISSUED, filled, literal=True)
    if numbered.select(is_earlier.any()).item():
        earlier = pl.col("content").str.replace(_NOT_ISSUED_EARLIER, issued, literal=True)
        content = pl.when(is_earlier).then(earlier).otherwise(content)
    rows = numbered.with_columns(*as_due(), content=content).with_columns(
        _to_integers("net", "tax", "total", "credits_applied")
    )
    columns = [column.name for column in stored.documents.columns]
    return rows.with_columns(hash_contents(rows["content"]), is_scheduled=pl.col("corrects").is_null()).select(columns)


def due_on() -> pl.Expr:
    """The day by which a draft is to be paid, of issued_on and payment_days (null in drafts of earlier versions)."""
    return pl.col("issued_on") + pl.duration(days=pl.col("payment_days").fill_null(0))


def as_due() -> list[pl.Expr]:
    """credits_applied and due of drafts: null in those of earlier versions."""
    credits_applied = pl.col("credits_applied").fill_null(pl.lit(0).cast(MONEY))
    return [credits_applied, (pl.col("total") - credits_applied).cast(MONEY).alias("due")]


def as_drafted(number: str, content: str) -> str:
    """The content of an issued document as it was drafted, without number and days."""
    issued = rf'"number":"{re.escape(number)}","issued_on":"[0-9-]{{10}}"'
    text, found = re.subn(rf'{issued},"due_on":"[0-9-]{{10}}"', _NOT_ISSUED, content, count=1)
    return text if found else re.sub(issued, _NOT_ISSUED_EARLIER, content, count=1)


def line_rows(lines: pl.DataFrame) -> pl.DataFrame:
    texts = ["quantity", "allowance", "excess", "billed_units", "unit_price"]
    return lines.with_columns(*_to_integers("amount"), *(pl.col(name).cast(pl.String) for name in texts)).select(
        [column.name for column in stored.lines.columns]
    )


def numbered_lines(lines: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """The lines with the numbers of their documents (account_id, subscription_id, billing_date, number), sorted."""
    return lines.join(documents, on=documents.columns[:-1], maintain_order="left").sort("number", "line")


@skip_if_empty("taxes")
def numbered_taxes(taxes: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """As `numbered_lines`, of taxes: with their position on the document."""
    numbered = taxes.join(documents, on=documents.columns[:-1], maintain_order="left")
    return numbered.with_columns(position=pl.int_range(1, pl.len() + 1).over("number")).sort("number", "position")


@skip_if_empty("taxes")
def tax_rows(taxes: pl.DataFrame) -> pl.DataFrame:
    return taxes.with_columns(*_to_integers("taxable", "amount"), pl.col("rate").cast(pl.String)).select(
        [column.name for column in stored.taxes.columns]
    )


def credit_rows(numbered: pl.DataFrame) -> pl.DataFrame:
    """Rows of credit_uses, of drafts with their numbers: null `credits` in those that use none."""
    used = numbered.filter(pl.col("credits").is_not_null()).select("number", credit="credits").explode("credit")
    position = pl.int_range(1, pl.len() + 1).over("number")
    return (
        used.unnest("credit")
        .with_columns(*_to_integers("amount"), position=position)
        .select([column.name for column in stored.credit_uses.columns])
    )


def decision_rows(decisions: pl.DataFrame) -> pl.DataFrame:
    shape = json_shape(DECISIONS.schema)
    return decisions.sort("decision_id").select(
        "decision_id",
        "billing_month",
        decision=pl.struct(pl.col(name).cast(dtype) for name, dtype in shape.items()).struct.json_encode(),
    )


def json_shape(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with decimals and dates as text, which JSON keeps exactly."""
    return {name: _as_text(dtype) for name, dtype in schema.items()}


def _as_text(dtype: Any) -> Any:
    if isinstance(dtype, pl.List):
        return pl.List(_as_text(dtype.inner))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _as_text(field.dtype) for field in dtype.fields})
    return pl.String if dtype == pl.Date or isinstance(dtype, pl.Decimal) else dtype


def raw_type(name: str, schema: Mapping[str, Any]) -> Any:
    """The type a column has in the database: integers for money, text for other decimals."""
    dtype = schema[name]
    if dtype == MONEY:
        return pl.Int64
    return pl.String if isinstance(dtype, pl.Decimal) else dtype


def _to_integers(*names: str) -> list[pl.Expr]:
    return [pl.col(name).cast(MONEY).to_physical().cast(pl.Int64) for name in names]


def from_integers(*names: str) -> list[pl.Expr]:
    # Cast whole part and fraction separately: both are exact, without a division of decimals.
    unit = pl.lit(10_000, pl.Int64)
    return [
        ((pl.col(name) // unit).cast(MONEY) + (pl.col(name) % unit).cast(MONEY) * pl.lit("0.0001").cast(MONEY)).alias(
            name
        )
        for name in names
    ]


def insert_rows(connection: sa.Connection, table: sa.Table, rows: pl.DataFrame, *, in_any_order: bool = False) -> None:
    """Insert many rows per statement: the statement journal of the triggers costs once per statement, not per row.

    Parameters
    ----------
    in_any_order
        Whether rows that are alike may come before others.
    """
    if rows.is_empty():
        return
    # Binding values dominates the cost in SQLite: bind a value that all rows of a statement share once.
    if connection.dialect.name != "sqlite":
        _insert(connection, table, rows, _ROWS_PER_STATEMENT, shared=[])
        return
    rows = rows.with_columns(pl.col(pl.Date).dt.to_string("%Y-%m-%d"))
    for alike in _alike(rows) if in_any_order else [rows]:
        shared = _shared_columns(alike)
        most = _ROWS_PER_STATEMENT
        if sqlite3.sqlite_version_info < (3, 32):
            most = min(most, _VALUES_OF_OLDER_SQLITE // rows.width)
        _insert(connection, table, alike, most, shared=shared)


def _alike(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Rows that share all values of columns with few, where they fill a statement; then the others, in their order.

    Of the lines of four plans with a coupon and an add-on this saves two fifths of the time.
    """
    counts = rows.select(pl.all().n_unique()).row(0, named=True)
    few = [name for name, count in counts.items() if 1 < count <= _FEW_VALUES]
    if not few:
        yield rows
        return
    fills = pl.len().over(few) >= _ROWS_PER_STATEMENT
    marked = rows.with_columns(fills.alias("_fills"))
    yield from marked.filter("_fills").drop("_fills").partition_by(few, maintain_order=True)
    others = marked.filter(~pl.col("_fills")).drop("_fills")
    if not others.is_empty():
        yield others


def _insert(
    connection: sa.Connection, table: sa.Table, rows: pl.DataFrame, most: int, *, shared: Sequence[str]
) -> None:
    """Insert `most` rows per statement, with the values of `shared` columns bound once for all of them."""
    # A column that is left out is null: most lines have few of theirs.
    null = [name for name, nulls in rows.null_count().row(0, named=True).items() if nulls == rows.height]
    rows, shared = rows.drop(null), [name for name in shared if name not in null]
    is_sqlite = connection.dialect.name == "sqlite"
    once = rows.select(shared).row(0) if shared else ()
    own = rows.drop(shared)
    head = f"INSERT INTO {table.name} ({', '.join(rows.columns)}) VALUES "  # noqa: S608 # our own names
    statement = ""
    for some in own.iter_slices(most):
        if some.height < most or not statement:
            statement = head + ", ".join(_placeholders(rows.columns, shared, some.height, is_sqlite=is_sqlite))
        # Column-wise `to_list()` is faster than `iter_rows()`.
        values = chain.from_iterable(zip(*(column.to_list() for column in some.iter_columns()), strict=True))
        connection.exec_driver_sql(statement, (*once, *values))


def _shared_columns(rows: pl.DataFrame) -> list[str]:
    """Constant columns of a frame that is not empty."""
    same = rows.select(pl.all().eq_missing(pl.all().first()).all()).row(0, named=True)
    return [name for name, is_shared in same.items() if is_shared]


def _placeholders(columns: Sequence[str], shared: Sequence[str], height: int, *, is_sqlite: bool) -> list[str]:
    """Placeholders of each row in a statement: first the shared values, then those of each row."""
    numbered = {name: f"?{number}" for number, name in enumerate(shared, start=1)}
    own = count(len(shared) + 1)
    # A placeholder without a number takes the highest number so far plus one.
    first = [numbered.get(name) or (f"?{next(own)}" if is_sqlite else "%s") for name in columns]
    other = [numbered.get(name, "?" if is_sqlite else "%s") for name in columns]
    return [f"({', '.join(first)})", *[f"({', '.join(other)})"] * (height - 1)]


def portions(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split `values` into chunks that fit the parameter limit of a query."""
    return (values[start : start + _VALUES_PER_QUERY] for start in range(0, len(values), _VALUES_PER_QUERY))
