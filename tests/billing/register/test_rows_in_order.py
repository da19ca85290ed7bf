"""Rows of several tables are read in one order, some at a time."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from billing.register.rows_in_order import RowsInOrder, ends_of_batches

KEYS = ["day", "account"]

documents = st.lists(st.tuples(st.integers(1, 3), st.text("abc", min_size=1, max_size=3)), unique=True, max_size=30)


def of_part(rows: list[tuple[int, str]], part: int, parts: int) -> pl.DataFrame:
    """The rows of accounts that are in a part, in order."""
    own = [row for row in rows if len(row[1]) % parts == part]
    return pl.DataFrame(own, schema={"day": pl.Int64, "account": pl.String}, orient="row").sort(KEYS)


@given(documents, st.integers(1, 3), st.integers(1, 40))
def test_batches_of_several_tables_are_all_rows_in_one_order(
    rows: list[tuple[int, str]], parts: int, count: int
) -> None:
    tables = [of_part(rows, part, parts) for part in range(parts)]
    # Each document has as many lines as its day says.
    lines = [RowsInOrder(table.select(pl.all().repeat_by("day").list.explode()).lazy(), KEYS) for table in tables]
    read = [RowsInOrder(table.lazy(), KEYS) for table in tables]
    found: list[tuple[int, str]] = []
    for end in ends_of_batches(read, count):
        batch = pl.concat(part.through(end) for part in read).sort(KEYS)
        its_lines = pl.concat(part.through(end) for part in lines)
        assert not batch.is_empty()
        assert its_lines.sort(KEYS).equals(batch.select(pl.all().repeat_by("day").list.explode()))
        found += batch.rows()
    assert found == sorted(rows)
