"""Files are written as a whole or not at all, and what goes wrong is named."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import polars as pl
import pytest

from billing.store.files import write_file

BROKEN = pl.exceptions.ComputeError("parquet: File out of specification: Invalid thrift: transport error")


@pytest.mark.parametrize("free", [0, 15, 1_000])
def test_a_full_disk_is_named_where_polars_speaks_of_a_damaged_file(tmp_path: Path, free: int) -> None:
    def write(scratch: Path) -> None:
        scratch.write_bytes(b"half")
        raise BROKEN

    path = tmp_path / "charges.parquet"
    path.write_bytes(b"before")
    with (
        mock.patch("os.statvfs", lambda _: SimpleNamespace(f_bavail=free, f_frsize=4_096)),
        pytest.raises((OSError, pl.exceptions.ComputeError)) as failed,
    ):
        write_file(path, write)
    if free == 1_000:
        assert failed.value is BROKEN
    else:
        assert isinstance(failed.value, OSError)
        assert (failed.value.errno, failed.value.filename) == (errno.ENOSPC, str(path))
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("charges.parquet", b"before")]


def test_an_error_of_the_system_stays_as_it_is(tmp_path: Path) -> None:
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "there")
    with (
        mock.patch("os.statvfs", lambda _: SimpleNamespace(f_bavail=0, f_frsize=4_096)),
        pytest.raises(PermissionError) as failed,
    ):
        write_file(tmp_path / "charges.parquet", mock.Mock(side_effect=denied))
    assert failed.value is denied
