"""What a register remembers holds until somebody writes to its file."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from billing.register.register import Register
from billing.register.remembered import Remembered
from billing.store.home import Home


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "register.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE things (name TEXT)")
    connection.close()
    return path


@pytest.fixture
def memory(file: Path) -> Iterator[Remembered]:
    memory = Remembered(file)
    yield memory
    memory.close()


def add(path: Path, name: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("INSERT INTO things VALUES (?)", [name])
    connection.close()


def names(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    found = [name for (name,) in connection.execute("SELECT name FROM things")]
    connection.close()
    return found


def test_an_answer_is_read_once_until_another_connection_commits(file: Path, memory: Remembered) -> None:
    reads: list[list[str]] = []

    def read() -> list[str]:
        reads.append(names(file))
        return reads[-1]

    assert [memory.once("names", read) for _ in range(3)] == [[], [], []]
    assert len(reads) == 1
    add(file, "one")
    assert [memory.once("names", read) for _ in range(2)] == [["one"], ["one"]]
    assert len(reads) == 2


def test_a_file_that_replaces_another_has_its_own_answers(file: Path, memory: Remembered, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    shutil.copy(file, other)
    add(other, "of the other")
    assert memory.once("names", lambda: names(file)) == []
    other.replace(file)
    assert memory.once("names", lambda: names(file)) == ["of the other"]


def test_without_a_file_nothing_is_remembered(file: Path, memory: Remembered) -> None:
    assert memory.once("number", lambda: 1) == 1
    file.unlink()
    assert [memory.once("number", lambda: 2), memory.once("number", lambda: 3)] == [2, 3]


def test_frames_of_many_rows_are_read_each_time_and_of_few_can_be_changed_in_place(memory: Remembered) -> None:
    few, many = pl.DataFrame({"n": range(10)}), pl.DataFrame({"n": range(1_001)})
    memory.once("few", lambda: few).drop_in_place("n")
    assert memory.once("few", lambda: many).equals(few)
    assert memory.once("many", lambda: many).height == 1_001
    assert memory.once("many", lambda: few).height == 10


def test_a_register_sees_what_another_one_of_the_same_file_records(tmp_path: Path) -> None:
    one, two = Register.open(Home(tmp_path)), Register.open(Home(tmp_path))
    assert one.accepted_losses().is_empty()
    lost = {name: ["x"] for name in ("file", "sha256", "reason")}
    day = pl.date(2026, 1, 5)
    rows = pl.DataFrame(lost).with_columns(delivery_day=day, first_day=day, last_day=day, accepted_on=day)
    two.accept_losses(rows)
    assert one.accepted_losses().height == 1
    two.accept_losses(rows.with_columns(file=pl.lit("y")))
    assert one.accepted_losses()["file"].to_list() == ["x", "y"]
    one.close()
    two.close()
