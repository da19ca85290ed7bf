from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from billing.model.tables import EVENTS
from billing.store.parquet_writer import row_groups, write_row_groups, write_table

TABLE = replace(EVENTS, rows_at_once=3)


def events(count: int) -> pl.DataFrame:
    row = pl.int_range(1, count + 1, dtype=pl.Int64)
    frame = pl.select(row=row, id=pl.format("event-{}", row), account_id=pl.format("a{}", row % 2), file=pl.lit("x"))
    return EVENTS.fit(pl.concat([EVENTS.empty(), frame], how="diagonal"))


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_however_rows_are_parted_the_bytes_are_the_same(tmp_path: Path, count: int, size: int) -> None:
    rows = events(count)
    write_table(tmp_path / "whole.parquet", [rows], TABLE)
    write_table(tmp_path / "parts.parquet", rows.iter_slices(size), TABLE)
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert pl.read_parquet(tmp_path / "parts.parquet").equals(rows)
    groups = row_groups(tmp_path / "parts.parquet")
    assert sum(groups) == count
    assert max(groups) <= TABLE.rows_at_once


def test_a_table_tells_what_its_columns_hold_and_between_which_values(tmp_path: Path) -> None:
    write_table(tmp_path / "events.parquet", [events(8)], EVENTS)
    metadata = pq.read_metadata(tmp_path / "events.parquet")
    assert metadata.metadata[b"column:account_id"] == EVENTS.columns[0].description.encode()
    statistics = metadata.row_group(0).column(0).statistics
    assert (statistics.min, statistics.max) == ("a0", "a1")


def test_pieces_without_rows_are_a_file_without_rows(tmp_path: Path) -> None:
    write_row_groups(tmp_path / "none.parquet", [events(0), events(0)], {"of": "nothing"})
    assert row_groups(tmp_path / "none.parquet") == []
    assert pl.read_parquet(tmp_path / "none.parquet").equals(events(0))


def test_what_fails_while_pieces_are_made_is_told_as_it_is_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    write_table(path, [events(2)], TABLE)
    before = path.read_bytes()

    def pieces() -> Iterator[pl.DataFrame]:
        yield events(5)
        raise LookupError("the delivery was changed")

    with pytest.raises(LookupError, match="the delivery was changed"):
        write_table(path, pieces(), TABLE)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["events.parquet"]
