"""Files of a delivery day: what is in them does not depend on how its rows are handed over."""

from datetime import date
from pathlib import Path
from typing import Final

import polars as pl
import pytest

from billing.ingest import day_files
from billing.ingest.day_files import PARTS, day_of, files_of_day, part_of, remove_others, write_by_month
from billing.model.buckets import BUCKETS, bucket_of
from billing.model.tables import EVENTS
from billing.store.home import Home
from billing.store.parquet_writer import row_groups
from tests.billing.ingest.small_business import Business

DAY: Final = date(2026, 2, 1)
COUNT: Final = 60


def events(count: int = COUNT, accounts: int = 20) -> pl.DataFrame:
    """Events of two months in turn."""
    row = pl.int_range(1, count + 1, dtype=pl.Int64)
    frame = pl.select(
        row=row,
        id=pl.format("event-{}", row),
        account_id=pl.format("account-{}", row * 7 % accounts),
        metric=pl.lit("emails"),
        file=pl.lit("a.jsonl"),
        delivery_day=pl.lit(DAY),
        time=pl.datetime(2026, 1, 31, 23, time_zone="UTC") + pl.duration(hours=row % 3),
    )
    return EVENTS.fit(pl.concat([EVENTS.empty(), frame], how="diagonal_relaxed"))


def write(root: Path, rows: pl.DataFrame, size: int) -> Home:
    business = Business(Home(root))
    written = write_by_month(business.home, EVENTS, DAY, rows.iter_slices(size), business.rules())
    remove_others(business.home, EVENTS, DAY, written)
    return business.home


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(home: Home) -> pl.DataFrame:
    return pl.read_parquet(files_of_day(home, EVENTS, DAY), hive_partitioning=False).sort(EVENTS.key)


@pytest.fixture(params=[False, True], ids=["one file", "parts"])
def split(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(day_files, "_MANY_ROWS", 10)
    monkeypatch.setattr(day_files, "_MANY_ACCOUNTS", 5 if request.param else COUNT)
    monkeypatch.setattr(day_files, "_SPLIT_TOGETHER", 16)
    return bool(request.param)


@pytest.mark.parametrize("size", [1, 7, 10, 16, 25])
def test_however_rows_are_handed_over_the_bytes_are_the_same(tmp_path: Path, split: bool, size: int) -> None:
    whole = write(tmp_path / "whole", events(), COUNT)
    parts = write(tmp_path / "parts", events(), size)
    assert contents(parts.lake) == contents(whole.lake)
    assert read(parts).equals(events())
    assert {part_of(path) is not None for path in files_of_day(parts, EVENTS, DAY)} == {split}
    for path in files_of_day(parts, EVENTS, DAY):
        assert day_of(path) == DAY
        found = pl.read_parquet(path, hive_partitioning=False)
        assert found.equals(found.sort(EVENTS.key))


def test_a_part_has_the_accounts_of_its_buckets_only(tmp_path: Path, split: bool) -> None:
    home = write(tmp_path, events(), COUNT)
    for path in files_of_day(home, EVENTS, DAY):
        part = part_of(path)
        accounts = pl.read_parquet(path, hive_partitioning=False)["account_id"].unique()
        assert part is None or all(part.first <= bucket_of(account) <= part.last for account in accounts)


def test_the_parts_hold_every_bucket_once() -> None:
    assert [bucket for part in PARTS for bucket in range(part.first, part.last + 1)] == list(range(BUCKETS))


@pytest.mark.parametrize("split", [True], indirect=True)
def test_files_of_another_layout_are_removed(tmp_path: Path, split: bool) -> None:
    few, many = events(accounts=2), events()
    home = write(tmp_path, few, COUNT)
    assert read(home).equals(few)
    write(tmp_path, many, COUNT)
    assert read(home).equals(many)
    write(tmp_path, few, COUNT)
    assert read(home).equals(few)
    assert len(files_of_day(home, EVENTS, DAY)) == 2
    write(tmp_path, few.clear(), COUNT)
    assert files_of_day(home, EVENTS, DAY) == []


def test_few_rows_and_few_accounts_are_one_file_in_large_row_groups(tmp_path: Path) -> None:
    rows = events(count=260_000, accounts=1_000).with_columns(time=pl.lit(DAY).cast(EVENTS.schema["time"]))
    home = write(tmp_path, rows, 100_000)
    assert [row_groups(path) for path in files_of_day(home, EVENTS, DAY)] == [[250_000, 10_000]]


def test_what_fails_while_rows_are_made_leaves_the_old_files(tmp_path: Path, split: bool) -> None:
    home = write(tmp_path, events(), COUNT)
    before = contents(home.lake)

    def rows() -> object:
        yield events(accounts=COUNT)
        raise LookupError("the delivery was changed")

    with pytest.raises(LookupError, match="the delivery was changed"):
        write_by_month(home, EVENTS, DAY, rows(), Business(home).rules())  # type: ignore[arg-type]
    assert contents(home.lake) == before
