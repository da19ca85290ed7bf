"""Folders outside of the home."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from billing.store.temporary_folder import temporary_folder

ENTER = """
import os, sys
from billing.store.temporary_folder import temporary_folder
with temporary_folder("overage-test-") as folder:
    (folder / "copy").mkdir()
    print(folder, flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, of the processes that are started, too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_gone_afterwards(folder: Path) -> None:
    with temporary_folder("overage-test-") as used:
        assert used.parent == folder
        (used / "copy").mkdir()
    assert list(folder.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_is_in_use_stays(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    other = Path(process.stdout.readline().strip())
    for left in ("overage-test-empty", "overage-rendering-other"):
        (folder / left).mkdir()
    with temporary_folder("overage-test-"):
        assert (other / "copy").is_dir()
    process.communicate("die")
    assert process.returncode == -9
    assert (other / "copy").is_dir()
    with temporary_folder("overage-test-"):
        assert not other.exists()
    # nobody says of these that they were in use
    assert sorted(path.name for path in folder.iterdir()) == ["overage-rendering-other", "overage-test-empty"]


def test_a_link_to_somewhere_else_is_not_followed(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".in-use").touch()
    (folder / "overage-test-link").symlink_to(elsewhere)
    with temporary_folder("overage-test-"):
        assert (elsewhere / ".in-use").exists()
