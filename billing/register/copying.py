"""Copy a register to another database, row by row, and compare them."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, Final

import sqlalchemy as sa

from billing.model.errors import RefusedError
from billing.register import schema as stored
from billing.register.address import shown
from billing.register.register import Register

_BULK: Final = 10_000
# The guards compare a document with its number's format, its lines, its taxes and its credits, which come before it.
_FIRST: Final = (stored.numberings, stored.lines, stored.taxes, stored.credit_uses, stored.documents)


def copy_register(source: Register, target: Register) -> int:
    """Copy all rows into an empty register, in one transaction, and compare; returns the number of documents.

    A register that has exactly these rows already is left as it is.

    Raises
    ------
    RefusedError
        When the target holds other rows.
    """
    with source.writable.connect() as reading, target.writable.begin() as writing:
        if _differing(reading, writing) is None:
            return _count(reading)
        filled = [table.name for table in stored.metadata.sorted_tables if _row(writing, table) is not None]
        if filled:
            raise RefusedError(
                f"{shown(target.writable.url)}: found another register (rows in {', '.join(filled)}), expected an "
                "empty database: set OVERAGE_REGISTER_URL to one"
            )
        others = (table for table in stored.metadata.sorted_tables if table not in _FIRST)
        for table in (*_FIRST, *others):
            for rows in _batches(reading, table):
                writing.execute(sa.insert(table), [dict(row._mapping) for row in rows])
        differing = _differing(reading, writing)
        if differing is not None:
            raise RefusedError(f"{shown(target.writable.url)}: the rows of {differing} are not those that were copied")
        return _count(reading)


def _differing(one: sa.Connection, other: sa.Connection) -> str | None:
    """The first table whose rows differ; None when all are equal."""
    for table in stored.metadata.sorted_tables:
        for rows, others in zip_longest(_batches(one, table), _batches(other, table)):
            if rows is None or others is None or list(map(tuple, rows)) != list(map(tuple, others)):
                return table.name
    return None


def _batches(connection: sa.Connection, table: sa.Table) -> Iterator[list[Any]]:
    """The rows of a table some at a time: documents in the order in which they were issued, others by their key."""
    key = list(table.primary_key)
    if table is stored.documents:
        key = [table.c.issued_on, table.c.series, table.c.year, table.c.sequence]
    query = sa.select(table).order_by(*key).execution_options(stream_results=True)
    for rows in connection.execute(query).partitions(_BULK):
        yield list(rows)


def _row(connection: sa.Connection, table: sa.Table) -> object:
    return connection.execute(sa.select(table).limit(1)).first()


def _count(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(stored.documents)).scalar_one())
