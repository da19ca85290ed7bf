"""Rows of several tables are read in one order, some at a time."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.register.rows_in_order import RowsInOrder, ends_of_batches

KEYS = ["day", "account"]

documents = st.lists(st.tuples(st.integers(1, 3), st.text("abc", min_size=1, max_size=3)), unique=True, max_size=30)


def of_part(rows: list[tuple[int, str]], part: int, parts: int) -> pl.DataFrame:
    """The rows of accounts that are in a part, in order."""
    own = [row for row in rows if len(row[1]) % parts == part]
    return pl.DataFrame(own, schema={"day": pl.Int64, "account": pl.String}, orient="row").sort(KEYS)


@given(documents, st.integers(1, 3), st.integers(1, 40), st.booleans())
def test_batches_of_several_tables_are_all_rows_in_one_order(
    rows: list[tuple[int, str]], parts: int, count: int, by_slices: bool
) -> None:
    tables = [of_part(rows, part, parts) for part in range(parts)]
    # Each document has as many lines as its day says.
    lines = [RowsInOrder(table.select(pl.all().repeat_by("day").list.explode()).lazy(), KEYS) for table in tables]
    read = [RowsInOrder(table.lazy(), KEYS, by_slices=by_slices) for table in tables]
    found: list[tuple[int, str]] = []
    for end in ends_of_batches(read, count):
        batch = pl.concat(part.through(end) for part in read).sort(KEYS)
        its_lines = pl.concat(part.through(end) for part in lines)
        assert not batch.is_empty()
        assert its_lines.sort(KEYS).equals(batch.select(pl.all().repeat_by("day").list.explode()))
        found += batch.rows()
    assert found == sorted(rows)


@pytest.mark.parametrize("height", [0, 999, 1_000, 2_500])
def test_slices_of_a_file_are_all_its_rows_once(height: int, tmp_path: Path) -> None:
    table = pl.DataFrame({"day": range(height), "account": "a"}, schema={"day": pl.Int64, "account": pl.String})
    table.write_parquet(tmp_path / "table.parquet", row_group_size=700)
    read = RowsInOrder(pl.scan_parquet(tmp_path / "table.parquet"), KEYS, by_slices=True)
    found = [read.through(end) for end in ends_of_batches([read], 300)]
    assert pl.concat([table.clear(), *found]).equals(table)
    assert len(found) == -(-height // 1_000)
