"""Files are written as a whole or not at all, and what goes wrong is named."""

import errno
import os
from operator import methodcaller
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import polars as pl
import pytest

from billing.store.files import folders_synced_once, unsynced, unsynced_if_new, write_bytes, write_file

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


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is synced to disk, in order."""
    names: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: names.append(Path(f"/proc/self/fd/{handle}").readlink().name))
    return names


def test_a_file_is_synced_before_its_folder_and_each_folder_once_where_asked(tmp_path: Path, synced: list[str]) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with folders_synced_once():
        for name in ("a", "b"):
            write_bytes(one / name, b"new")
        write_bytes(other / "c", b"new")
        assert [name.split("-")[-1] for name in synced] == ["a", "b", "c"]
    assert synced[3:] == ["one", "other"]
    write_bytes(one / "d", b"new")
    assert [name.split("-")[-1] for name in synced[5:]] == ["d", "one"]


def test_folders_are_synced_although_a_file_could_not_be_written(tmp_path: Path, synced: list[str]) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(OSError, match="b"), folders_synced_once():
        write_bytes(tmp_path / "a", b"new")
        write_bytes(tmp_path / "b" / "a" / ".." / ".." / "b", b"new")
    assert synced[-1] == tmp_path.name


def test_a_temporary_folder_is_not_synced(tmp_path: Path, synced: list[str]) -> None:
    with unsynced(tmp_path / "scratch"):
        write_bytes(tmp_path / "scratch" / "lake" / "a", b"new")
        assert synced == []
        write_bytes(tmp_path / "b", b"new")
    assert len(synced) == 2
    write_bytes(tmp_path / "scratch" / "c", b"new")
    assert len(synced) == 4


def test_a_new_file_whose_lack_is_noticed_needs_no_sync_of_its_folder(tmp_path: Path, synced: list[str]) -> None:
    for content in (b"new", b"other"):
        write_file(tmp_path / "a", methodcaller("write_bytes", content), may_be_missing=True)
    assert [name.split("-")[-1] for name in synced] == ["a", "a", tmp_path.name]


def test_a_file_that_replaces_another_is_synced_where_a_new_one_is_not(tmp_path: Path, synced: list[str]) -> None:
    for content in (b"new", b"other"):
        with unsynced_if_new(tmp_path / "a"):
            write_bytes(tmp_path / "a", content)
        assert len(synced) == (0 if content == b"new" else 2)


def test_folders_synced_once_inside_of_others_are_synced_at_their_end(tmp_path: Path, synced: list[str]) -> None:
    with folders_synced_once():
        for name in ("a", "b"):
            with folders_synced_once():
                write_bytes(tmp_path / name, b"new")
        assert tmp_path.name not in synced
    assert synced[2:] == [tmp_path.name]
