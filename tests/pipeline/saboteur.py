"""A worker that stops at a chosen place until it is told to go on, or fills its disk there.

`python -m tests.pipeline.saboteur PLACE FOLDER BYTES WORDS ...` runs `overage WORDS ...`, and ingests in batches of so
many bytes. The first process that comes to the place makes the file `reached` in the folder, and waits there for the
file `go`.
"""

import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

from assets import deliveries
from billing.model.columns import Table
from billing.month import pdf_files
from billing.register.register import Register
from billing.store.home import Home

HALF_A_SHARD, BEFORE_ISSUE, IN_ISSUE, AFTER_ISSUE = (
    "half a shard",
    "before the issue",
    "in the issue",
    "after the issue",
)
NOWHERE = "nowhere"
FULL_DISK = "half a shard, on a full disk"
DOCUMENTS_OF_A_BLOCK = 4
"""So that a small business has blocks."""


def stop(folder: Path) -> None:
    """Wait at this place, the first time that a process comes to it."""
    try:
        (folder / "reached").touch(exist_ok=False)
    except FileExistsError:
        return
    while not (folder / "go").exists():
        time.sleep(0.05)


def fill(folder: Path) -> None:
    """Leave no room in the file system of a folder."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4_096))


def stopping(place: str, folder: Path) -> Any:
    """What is patched to stop at a place."""
    steps, registers = import_module("billing.month.steps"), import_module("billing.register.register")
    write, issue, insert = steps.write_month, Register.issue, registers.insert_rows

    def write_month(home: Home, table: Table, *arguments: Any, **options: Any) -> bool:
        if table.name == "dues" and home.buckets is not None:
            (fill if place == FULL_DISK else stop)(folder)
        is_changed: bool = write(home, table, *arguments, **options)
        return is_changed

    def around(register: Register, *arguments: Any) -> Any:
        if place == BEFORE_ISSUE:
            stop(folder)
        issued = issue(register, *arguments)
        if place == AFTER_ISSUE:
            stop(folder)
        return issued

    def insert_rows(*arguments: Any, **options: Any) -> Any:
        inserted = insert(*arguments, **options)
        stop(folder)
        return inserted

    if place in (HALF_A_SHARD, FULL_DISK):
        return mock.patch.object(steps, "write_month", write_month)
    if place == IN_ISSUE:
        return mock.patch.object(registers, "insert_rows", insert_rows)
    return mock.patch.object(Register, "issue", around)


if __name__ == "__main__":
    from pipeline.cli import main

    wanted, where, batch, *command = sys.argv[1:]
    # smaller than any business needs
    pdf_files.DOCUMENTS_OF_A_BLOCK = DOCUMENTS_OF_A_BLOCK  # type: ignore[misc]
    deliveries.BATCH = int(batch)
    with stopping(wanted, Path(where)):
        main(command)
