"""Killed at any write, a command is completed by running it again: the same documents, numbers, bytes and tables."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.pipeline.killing import Killer
from tests.pipeline.outside import Landing, content_of
from tests.postgresql import Server, register_rows

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


@pytest.mark.parametrize(
    ("command", "on_a_server"), [("bill", False), ("bill again", False), ("bill again", True), ("correct", False)]
)
def test_a_command_that_is_killed_at_any_write_is_completed_by_the_next(
    tmp_path: Path, request: pytest.FixtureRequest, command: str, on_a_server: bool
) -> None:
    server: Server | None = request.getfixturevalue("postgresql") if on_a_server else None
    start = tmp_path / "start"
    start_register = server.new_database() if server else None
    landing = business(start)
    with Killer() as killer:
        if command != "bill":
            billed = killer.run("bill", "2026-02", "--as-of", "2026-02-15", "--home", start, register=start_register)
            assert billed.status == 0
            landing.use("acme", "2026-01-25", emails=2_000, delivered="2026-02-20")
        arguments = CORRECT if command == "correct" else BILL

        def again(name: str) -> tuple[Path, str | None]:
            """The business as it was before the command."""
            register = server.copy_of(start_register) if server and start_register else None
            return shutil.copytree(start, tmp_path / name), register

        undisturbed, register = again("undisturbed")
        done = killer.run(*arguments, "--home", undisturbed, register=register)
        assert done.status == 0
        wanted = facts(undisturbed, register)
        # without Dagster's records of the run before, which are not looked at
        step = max(1, len(done.writes) // KILLS) if KILLS else 1
        for place in range(step // 2, len(done.writes), step):
            root, register = again(f"killed-{place}")
            killed = killer.run(*arguments, "--home", root, kill_at=place, register=register)
            assert killed.status is None, done.writes[place]
            assert killer.run(*arguments, "--home", root, register=register).status == 0, done.writes[place]
            assert facts(root, register) == wanted, f"killed just before write {place}: {done.writes[place]}"
            shutil.rmtree(root)


def facts(home: Path, register: str | None) -> dict[str, object]:
    """Everything that a home says: its files by their hashes, and the rows of the register."""
    files = content_of(home)
    # a repaired run has drafted once more, from a register that had moved: which one it was is no fact of the business
    apart = ("register.db", "ingest_state.json", "drafted_from.txt")
    found: dict[str, object] = {name: digest for name, digest in files.items() if Path(name).name not in apart}
    # when a delivered file was last changed, and where the file system keeps it, differs from copy to copy
    state = json.loads((home / "lake" / "ingest_state.json").read_bytes())
    del state["stamps"]
    found["state"] = state
    found["register"] = register_rows(register or f"sqlite:///{home / 'register.db'}")
    return found
