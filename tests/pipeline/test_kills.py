"""Killed at any write, a command is completed by running it again: the same documents, numbers, bytes and tables."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.pipeline.killing import Killer
from tests.pipeline.outside import Landing, content_of

KILLS = int(os.environ.get("KILLS", "3"))
"""How many writes are tried, spread over the run; 0 means every one."""

BILL = ("bill", "2026-03", "--as-of", "2026-03-15")
CORRECT = ("correct", "2026-02", "--as-of", "2026-03-16", "--reason", "The mail log came late.")


def business(root: Path) -> Landing:
    """Three customers billed in February: one uses too much, one is upgraded, one is refunded."""
    landing = Landing(root)
    for name in ("acme", "grows", "leaves"):
        landing.customer(name)
    landing.use("acme", emails=16_000)
    landing.use("grows", leads=2_600)
    landing.request("leaves", "refund", "2026-01-20T10:00:00Z", reason="not needed")
    return landing


@pytest.mark.parametrize("command", ["bill", "bill again", "correct"])
def test_a_command_that_is_killed_at_any_write_is_completed_by_the_next(tmp_path: Path, command: str) -> None:
    start = tmp_path / "start"
    landing = business(start)
    with Killer() as killer:
        if command != "bill":
            assert killer.run("bill", "2026-02", "--as-of", "2026-02-15", "--home", start).status == 0
            landing.use("acme", "2026-01-25", emails=2_000, delivered="2026-02-20")
        arguments = CORRECT if command == "correct" else BILL
        undisturbed = shutil.copytree(start, tmp_path / "undisturbed")
        done = killer.run(*arguments, "--home", undisturbed)
        assert done.status == 0
        wanted = facts(undisturbed)
        # without Dagster's records of the run before, which are not looked at
        step = max(1, len(done.writes) // KILLS) if KILLS else 1
        for place in range(step // 2, len(done.writes), step):
            root = shutil.copytree(start, tmp_path / f"killed-{place}")
            assert killer.run(*arguments, "--home", root, kill_at=place).status is None, done.writes[place]
            assert killer.run(*arguments, "--home", root).status == 0, done.writes[place]
            assert facts(root) == wanted, f"killed just before write {place}: {done.writes[place]}"
            shutil.rmtree(root)


def facts(home: Path) -> dict[str, object]:
    """Everything that a home says: its files by their hashes, and the rows of the register."""
    files = content_of(home)
    # a repaired run has drafted once more, from a register that had moved: which one it was is no fact of the business
    apart = ("register.db", "ingest_state.json", "drafted_from.txt")
    found: dict[str, object] = {name: digest for name, digest in files.items() if Path(name).name not in apart}
    # when a delivered file was last changed, and where the file system keeps it, differs from copy to copy
    state = json.loads((home / "lake" / "ingest_state.json").read_bytes())
    del state["stamps"]
    found["state"] = state
    with closing(sqlite3.connect(home / "register.db")) as register:
        found["register"] = sorted(register.iterdump())
    return found
