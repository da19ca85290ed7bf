"""Writing into the billing home: whole or not at all, equal content not again, one run at a time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.exceptions import ComputeError

from billing.model.errors import InterruptedRunError, RefusedError
from billing.model.tables import INGEST, LEVELS, USAGE
from billing.store.files import SCRATCH_PREFIX, file_hash, remove_file, remove_scratch_files, write_bytes, write_file
from billing.store.frames import read_frame, scan_frames, write_frame, write_frames
from billing.store.home import Home
from billing.store.lock import is_held_by, lock, step_of

LEVEL = pl.DataFrame(
    {
        "account_id": ["globex", "acme"],
        "billing_month": "2026-01",
        "metric": "leads",
        "opening_level": [Decimal("1.5"), Decimal(2)],
        "closing_level": [Decimal(3), Decimal(4)],
    }
)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(0o700)


def test_everything_has_its_place_in_the_home() -> None:
    home = Home(Path("home"))
    assert home.landing == Path("home/landing")
    assert home.partition(USAGE, "2026-01") == Path("home/lake/usage/billing_month=2026-01/usage.parquet")
    assert home.delivery(INGEST, date(2026, 1, 2)) == Path("home/lake/ingest/delivery_day=2026-01-02/ingest.parquet")
    assert home.whole(LEVELS) == Path("home/lake/levels/levels.parquet")
    assert home.document_file("2026-01", "INV-2026-000001") == Path("home/documents/2026-01/INV-2026-000001.pdf")
    assert (home.profiles, home.register_path) == (Path("home/profiles"), Path("home/register.db"))


def test_a_file_is_written_with_the_folders_above_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    assert write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert files(tmp_path) == ["a/b/c.txt"]


def test_equal_content_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_bytes(path, b"same")
    os.utime(path, ns=(1, 1))
    inode = path.stat().st_ino
    assert not write_bytes(path, b"same")
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (1, inode)
    assert write_bytes(path, b"diff")
    assert path.read_bytes() == b"diff"
    assert files(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("fault", [OSError("disk full"), ComputeError("disk full"), KeyboardInterrupt(), SystemExit(1)])
def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path, fault: BaseException) -> None:
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")

    def write(scratch: Path) -> None:
        scratch.write_bytes(b"half")
        raise fault

    with pytest.raises(type(fault)):
        write_file(path, write)
    assert path.read_bytes() == b"old"
    assert files(tmp_path) == ["a.txt"]


def test_a_first_write_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def write(scratch: Path) -> None:
        scratch.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_file(tmp_path / "a.txt", write)
    assert files(tmp_path) == []


def test_a_reader_never_sees_a_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")
    seen: list[bytes] = []

    def write(scratch: Path) -> None:
        scratch.write_bytes(b"n")
        seen.append(path.read_bytes())
        scratch.write_bytes(b"new")
        seen.append(path.read_bytes())

    write_file(path, write)
    assert seen == [b"old", b"old"]
    assert path.read_bytes() == b"new"


def test_a_killed_run_leaves_only_a_scratch_file_which_the_next_one_removes(tmp_path: Path) -> None:
    path = tmp_path / "lake" / "a.txt"
    write_bytes(path, b"old")
    script = (
        "import os, signal, sys; from pathlib import Path; from billing.store.files import write_file\n"
        "def write(scratch):\n"
        "    scratch.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_file(Path(sys.argv[1]), write)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False, cwd=Path(__file__).parents[3])
    assert killed.returncode == -9
    assert path.read_bytes() == b"old"
    (left,) = remove_scratch_files(tmp_path)
    assert left.name.startswith(SCRATCH_PREFIX)
    assert files(tmp_path) == ["lake/a.txt"]
    assert remove_scratch_files(tmp_path / "nowhere") == []


def test_a_table_is_written_sorted_by_its_key_with_its_descriptions(tmp_path: Path) -> None:
    path = tmp_path / "levels.parquet"
    assert write_frame(path, LEVEL, LEVELS)
    found = read_frame(path, LEVELS)
    assert found.schema == LEVELS.schema
    assert found["account_id"].to_list() == ["acme", "globex"]
    assert found["opening_level"].to_list() == [Decimal(2), Decimal("1.5")]
    metadata = pq.read_metadata(path).metadata
    assert metadata[b"description"] == LEVELS.description.encode()
    assert metadata[b"column:opening_level"] == LEVELS.columns[3].description.encode()


def test_equal_rows_in_any_order_are_the_same_bytes(tmp_path: Path) -> None:
    write_frame(tmp_path / "one.parquet", LEVEL, LEVELS)
    write_frame(tmp_path / "other.parquet", LEVEL.reverse(), LEVELS)
    assert file_hash(tmp_path / "one.parquet") == file_hash(tmp_path / "other.parquet")
    assert not write_frame(tmp_path / "one.parquet", LEVEL.reverse(), LEVELS)
    assert write_frame(tmp_path / "one.parquet", LEVEL.head(1), LEVELS)


def test_a_table_written_a_frame_at_a_time_has_the_same_bytes(tmp_path: Path) -> None:
    table = replace(LEVELS, rows_at_once=3)
    rows = pl.concat([LEVEL.with_columns(account_id=pl.lit(f"{letter}")) for letter in "abcdefgh"]).unique("account_id")
    rows = table.conform(rows)
    write_frame(tmp_path / "whole.parquet", rows, table)
    assert [pq.read_metadata(tmp_path / "whole.parquet").row_group(each).num_rows for each in range(3)] == [3, 3, 2]
    for size in (1, 2, 5, 8):
        write_frames(tmp_path / "parts.parquet", rows.iter_slices(size), table)
        assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    write_frame(tmp_path / "whole.parquet", rows.clear(), table)
    write_frames(tmp_path / "parts.parquet", iter([rows.clear()]), table)
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_what_fails_while_frames_are_made_is_told_as_it_is_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "levels.parquet"
    write_frame(path, LEVEL, LEVELS)
    before = path.read_bytes()

    def frames() -> Iterator[pl.DataFrame]:
        yield LEVEL.head(1)
        raise LookupError("the package in force is not known")

    with pytest.raises(LookupError, match="the package in force"):
        write_frames(path, frames(), LEVELS)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["levels.parquet"]


def test_a_table_that_was_never_written_has_no_rows(tmp_path: Path) -> None:
    assert read_frame(tmp_path / "none.parquet", LEVELS).equals(LEVELS.empty())
    assert scan_frames([], LEVELS).collect().equals(LEVELS.empty())


def test_several_files_of_a_table_are_read_as_one(tmp_path: Path) -> None:
    paths = [tmp_path / "billing_month=2026-01" / "a.parquet", tmp_path / "billing_month=2026-02" / "b[1].parquet"]
    for path in paths:
        write_frame(path, LEVEL, LEVELS)
    # the folder's name adds no column, and its signs are no pattern
    assert scan_frames(paths, LEVELS).collect().equals(pl.concat([LEVELS.conform(LEVEL)] * 2))
    assert read_frame(paths[1], LEVELS).equals(LEVELS.conform(LEVEL))


def test_removing_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.txt", b"x")
    remove_file(tmp_path / "a.txt")
    remove_file(tmp_path / "a.txt")
    assert files(tmp_path) == []


OTHER_RUN = """
import sys
from pathlib import Path
from billing.store.home import Home
from billing.store.lock import lock
with lock(Home(Path(sys.argv[1]))): """


def run_beside(tmp_path: Path, what: str = "print('held')") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", OTHER_RUN + what, str(tmp_path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])


def test_one_run_at_a_time_is_at_work_in_a_home(tmp_path: Path) -> None:
    with lock(Home(tmp_path)):
        refused = run_beside(tmp_path)
        # a step of the same run holds it with it
        with lock(Home(tmp_path)):
            pass
        assert "another run is at work" in run_beside(tmp_path).stderr
    assert "another run is at work" in refused.stderr
    assert refused.stdout == ""
    assert run_beside(tmp_path).stdout == "held\n"


def test_a_killed_run_gives_the_lock_back(tmp_path: Path) -> None:
    assert run_beside(tmp_path, "import os; os.kill(os.getpid(), 9)").returncode == -9
    with lock(Home(tmp_path)):
        assert (tmp_path / ".lock").exists()


def test_a_run_that_fails_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock(Home(tmp_path)):
        _ = 1 // 0
    assert run_beside(tmp_path).stdout == "held\n"


def test_a_home_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(RefusedError, match="cannot be written") as refused, lock(Home(missing)):
        pass
    assert str(missing) in str(refused.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_home_is_refused(tmp_path: Path) -> None:
    with unwritable(tmp_path), pytest.raises(RefusedError, match="Permission denied"), lock(Home(tmp_path)):
        pass


def test_a_step_elsewhere_works_only_while_its_head_holds_the_lock_and_the_next_run_waits_for_it(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    with pytest.raises(InterruptedRunError, match="leads this run is gone"), step_of(home, "run-1"):
        pass
    with ExitStack() as head, ExitStack() as steps:
        head.enter_context(lock(home, holder="run-1"))
        steps.enter_context(step_of(home, "run-1"))
        # steps do not exclude each other, those of another run are not of this one
        with step_of(home, "run-1"):
            pass
        with pytest.raises(InterruptedRunError), step_of(home, "run-2"):
            pass
        head.close()
        assert not is_held_by(home, "run-1")
        with pytest.raises(RefusedError, match="another run is at work"), lock(home):
            pass
        steps.close()
        with lock(home), pytest.raises(InterruptedRunError), step_of(home, "run-1"):
            pass
