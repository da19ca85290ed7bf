from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from billing.model.tables import EVENTS
from billing.store.parquet_writer import TableFile, row_groups, write_row_groups


def events(count: int) -> pl.DataFrame:
    row = pl.int_range(1, count + 1, dtype=pl.Int64)
    frame = pl.select(row=row, id=pl.format("event-{}", row), account_id=pl.format("a{}", row % 2), file=pl.lit("x"))
    return EVENTS.fit(pl.concat([EVENTS.empty(), frame], how="diagonal"))


def test_a_table_tells_what_its_columns_hold_and_between_which_values(tmp_path: Path) -> None:
    write(tmp_path / "events.parquet", events(8))
    metadata = pq.read_metadata(tmp_path / "events.parquet")
    assert metadata.metadata[b"column:account_id"] == EVENTS.columns[0].description.encode()
    statistics = metadata.row_group(0).column(0).statistics
    assert (statistics.min, statistics.max) == ("a0", "a1")


def test_pieces_without_rows_are_a_file_without_rows(tmp_path: Path) -> None:
    write_row_groups(tmp_path / "none.parquet", [events(0), events(0)], {"of": "nothing"})
    assert row_groups(tmp_path / "none.parquet") == []
    assert pl.read_parquet(tmp_path / "none.parquet").equals(events(0))


def test_a_file_that_is_not_closed_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    assert write(path, events(2))
    before = path.read_bytes()
    with pytest.raises(LookupError, match="the delivery was changed"), TableFile(path, EVENTS) as file:
        file.add(events(5))
        raise LookupError("the delivery was changed")
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["events.parquet"]


def test_equal_rows_are_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    assert write(path, events(2))
    before = path.stat()
    assert not write(path, events(2))
    assert path.stat() == before
    assert write(path, events(2), events(1))
    assert row_groups(path) == [2, 1]


def write(path: Path, *groups: pl.DataFrame) -> bool:
    with TableFile(path, EVENTS) as file:
        for rows in groups:
            file.add(rows)
        return file.close()
