"""Large inputs on disk, divided by the buckets of accounts."""

import gc
from datetime import UTC, datetime

import polars as pl
import pytest

from billing.inputs.divided_rows import FOLDER, DividedRows
from billing.model.buckets import BucketRange, bucket_ranges, in_buckets
from billing.store.temporary_folder import ScratchFolder

ROWS = pl.DataFrame(
    {
        "account_id": [f"account-{number % 37}" for number in range(200)],
        "request_id": [f"r{number:03}" for number in range(200)],
        "at": [datetime(2026, 1, 1 + number // 20, tzinfo=UTC) for number in range(200)],
    }
)


@pytest.fixture
def divided() -> DividedRows:
    return DividedRows.write(ROWS, "requests", ["at", "request_id"], bucket_ranges(4), ScratchFolder(FOLDER))


def test_all_rows_come_back_in_their_order(divided: DividedRows) -> None:
    assert divided.read(None).equals(ROWS)
    assert divided.height == ROWS.height
    assert divided.scan().collect().sort("request_id").equals(ROWS)


@pytest.mark.parametrize("shards", [1, 2, 4, 7])
def test_any_shard_reads_the_rows_of_its_accounts(divided: DividedRows, shards: int) -> None:
    for buckets in bucket_ranges(shards):
        assert divided.read(buckets).equals(in_buckets(ROWS, buckets))


def test_a_business_without_rows_has_none_in_any_shard() -> None:
    divided = DividedRows.write(ROWS.clear(), "requests", ["at"], bucket_ranges(2), ScratchFolder(FOLDER))
    assert divided.read(BucketRange(0, 10)).equals(ROWS.clear())
    assert divided.read(None).equals(ROWS.clear())


def test_the_folder_goes_with_the_rows(divided: DividedRows) -> None:
    rows = DividedRows.write(ROWS, "requests", ["at"], bucket_ranges(2), ScratchFolder(FOLDER))
    folder = rows.folder.path
    assert folder.exists()
    del rows
    gc.collect()
    assert not folder.exists()
