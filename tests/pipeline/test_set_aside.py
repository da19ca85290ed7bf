"""What runs set aside or cannot read: counted and named, by `overage bill` and `overage show`, and mended later."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from tests.pipeline.outside import Ended, Landing, bill, event, one, overage, show


def _of_nobody(id_: str) -> str:
    return event(id_, "nobody", "email.sent", {"count": 1}, "2026-01-20T10:00:00Z")


@pytest.fixture(scope="module")
def set_aside(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """Two months billed where rows of two deliveries and a request are set aside."""
    landing = Landing(tmp_path_factory.mktemp("set_aside") / "home")
    landing.customer("acme")
    landing.use("acme", "2026-01-20", emails=16_000)
    twice = event("twice", "acme", "email.sent", {"count": 5}, "2026-01-21T10:00:00Z")
    landing.deliver(
        [
            twice,
            twice,
            "",
            "no JSON at all",
            "nor this",
            _of_nobody("1"),
            event("negative", "acme", "email.sent", {"count": -5}, "2026-01-21T10:00:00Z"),
            event("twice", "acme", "email.sent", {"count": 6}, "2026-01-21T10:00:00Z"),
        ],
        "2026-01-21",
    )
    landing.deliver([_of_nobody(f"x{number}") for number in range(12)], "2026-01-22")
    landing.use("acme", "2026-01-22", emails=7)
    landing.request("acme", "upgrade", "2026-01-20T10:00:00Z")
    return landing.root, bill(landing.root, "2026-02", "2026-02-10")


def test_every_delivered_row_is_counted_a_duplicate_or_set_aside(set_aside: tuple[Path, Ended]) -> None:
    home, ended = set_aside
    assert ended.status == 0, "rows that are merely set aside are no failure"
    delivered = show(home, "ingest")
    assert [(row["rows"], row["counted"], row["duplicates"], row["rejected"]) for row in delivered] == [
        (1, 1, 0, 0),
        (7, 1, 1, 5),
        (13, 1, 0, 12),
    ]
    rejects = show(home, "rejects", delivery_day="2026-01-21")
    assert [(row["row"], row["reason"]) for row in rejects] == [
        (4, "unparseable"),
        (5, "unparseable"),
        (6, "unknown_account"),
        (7, "impossible_value"),
        (8, "conflicting"),
    ], "a row is found by its line; a blank line is no row"
    assert one(show(home, "usage", metric="emails"))["quantity"] == "16012"


FIRST, SECOND = "usage/2026-01-21/usage.jsonl", "usage/2026-01-22/usage.jsonl"


def test_what_is_set_aside_is_told_by_reason_and_file_and_shown_of_one(set_aside: tuple[Path, Ended]) -> None:
    home, ended = set_aside
    told = [text for text in ended.messages.splitlines() if text.startswith("  ")]
    assert told == [
        f"  unknown_account: 12 rows of {SECOND}",
        f"  unparseable: 2 rows of {FIRST}",
        "  missing_field: 1 row of requests.jsonl",
        f"  conflicting: 1 row of {FIRST}",
        f"  impossible_value: 1 row of {FIRST}",
        f"  unknown_account: 1 row of {FIRST}",
    ]
    assert len(show(home, "rejects", "--reason", "unknown_account")) == 13
    assert len(show(home, "rejects", "--file", FIRST)) == 5
    assert show(home, "rejects", "--file", SECOND, "--reason", "unparseable") == []
    assert len(show(home, "ingest", "--file", SECOND)) == 1
    limited = overage("show", "rejects", "--limit", "2", "--home", home)
    assert "the first 2 of 18 rows\n" in limited.messages
    single = "conflicting (1 row), impossible_value (1 row), missing_field (1 row)"
    for option, value, there_are in (
        ("--reason", "unparsable", f"unknown_account (13 rows), unparseable (2 rows), {single}"),
        ("--file", "usage/2026-01-21/usage.json", f"requests.jsonl, {FIRST}, {SECOND}"),
    ):
        mistyped = overage("show", "rejects", option, value, "--home", home)
        assert (mistyped.status, mistyped.output) == (2, "")
        assert f"unknown {option[2:]}: found {value!r}" in mistyped.messages and mistyped.messages.endswith(
            f"{there_are}\n"
        )
    # a reason that no row has now, and a file without such rows, are no mistakes
    assert show(home, "rejects", "--reason", "too_late") == []
    assert show(home, "rejects", "--file", "accounts.csv") == []
    assert show(home, "rejects", "--file", "usage/2026-01-20/usage.jsonl") == []
    refused = overage("show", "documents", "--reason", "unparseable", "--home", home)
    assert (refused.status, "leave --reason out" in refused.messages) == (2, True)


def test_rejects_that_an_earlier_version_wrote_without_a_column_are_read(
    set_aside: tuple[Path, Ended], tmp_path: Path
) -> None:
    home = shutil.copytree(set_aside[0], tmp_path / "home")
    before = show(home, "rejects")
    (path,) = (home / "lake" / "rejects").glob("delivery_day=2026-01-21/*.parquet")
    pl.read_parquet(path, hive_partitioning=False).drop("detail").write_parquet(path)
    assert show(home, "rejects") == [
        row | {"detail": None if row["delivery_day"] == "2026-01-21" else row["detail"]} for row in before
    ]
    assert {row["delivery_day"] for row in before} == {None, "2026-01-21", "2026-01-22"}


@dataclass(frozen=True)
class NotRead:
    """A home where some things that were given cannot be read, how `check` and three runs ended, and the mended home.

    Attributes
    ----------
    home
        As the first two runs left it.
    mended
        After the third, before which everything was taken away or delivered again in a state that can be read.
    """

    home: Path
    mended: Path
    checked: Ended
    runs: Sequence[Ended]
    last: Ended


@pytest.fixture(scope="module")
def not_read(tmp_path_factory: pytest.TempPathFactory) -> NotRead:
    """A broken file, files and folders that stand elsewhere, a file of nobody's rows, and a request set aside."""
    folder = tmp_path_factory.mktemp("not_read")
    landing = Landing(folder / "home")
    landing.customer("acme")
    landing.use("acme", "2026-01-20", emails=16_000)
    usage = landing.folder / "usage"
    usage.joinpath("2026-01-20").rename(usage / "day=2026-01-22")
    usage.joinpath("January").mkdir()
    misplaced = [landing.folder / name for name in ("usage/20260121/a.jsonl", "usage/a.jsonl", "payment.csv")]
    misplaced.append(landing.folder / "payments" / "a.txt")
    for path in misplaced:
        path.parent.mkdir(exist_ok=True)
        path.write_text("anything\n")
    of_nobody = landing.deliver([_of_nobody("e")], "2026-01-21", "b.jsonl")
    no_json = landing.deliver(["no JSON at all"], "2026-01-21", "c.jsonl")
    broken = usage / "2026-01-23" / "broken.parquet"
    broken.parent.mkdir()
    broken.write_bytes(b"this is no Parquet")
    asked = landing.folder / "requests.jsonl"
    requests = asked.read_text()
    landing.request("acme", "upgrade", "2026-01-20T10:00:00Z")
    checked = overage("check", "--home", landing.root)
    runs = [bill(landing.root, "2026-02", "2026-02-28") for _ in range(2)]
    home = shutil.copytree(landing.root, folder / "before")
    for path in (of_nobody, no_json):
        path.write_text("")
    for path in misplaced:
        path.unlink()
    for emptied in ("20260121", "January"):
        usage.joinpath(emptied).rmdir()
    asked.write_text(requests)
    pl.DataFrame(
        {
            "id": ["late"],
            "source": ["/app"],
            "type": ["email.sent"],
            "subject": ["acme"],
            "time": ["2026-01-21T10:00:00Z"],
            "value": [10],
        }
    ).write_parquet(broken)
    return NotRead(home, landing.root, checked, runs, bill(landing.root, "2026-02", "2026-02-28"))


def problems_told(ended: Ended) -> list[str]:
    return [line.removeprefix("not done: ") for line in ended.messages.splitlines() if "not done: " in line]


def test_a_run_counts_the_rows_set_aside_as_the_table_lists_them(not_read: NotRead) -> None:
    rejects = show(not_read.home, "rejects")
    assert len(rejects) == 7, rejects
    for ended in not_read.runs:
        assert "7 rows are set aside, with their reasons: overage show rejects --home " in ended.messages
    assert one([row for row in rejects if row["file"] == "requests.jsonl"])["detail"] == (
        "package: found nothing, expected the name of a package: the kind is upgrade"
    )


def test_an_unreadable_file_is_named_and_everything_else_is_billed(not_read: NotRead) -> None:
    ended = not_read.runs[0]
    assert ended.status == 1
    (problem,) = [told for told in problems_told(ended) if "2026-01-23" in told]
    assert "2026-01-23/broken.parquet" in problem
    assert [row["total"] for row in show(not_read.home, "documents")] == ["99.00", "102.00"]
    (broken,) = [row for row in show(not_read.home, "rejects") if row["delivery_day"] == "2026-01-23"]
    assert broken["reason"] == "unreadable_file"
    # delivered again in a state that can be read, it counts like late usage
    assert not_read.last.status == 0, not_read.last.messages
    assert show(not_read.mended, "rejects") == []
    assert one(show(not_read.mended, "usage", metric="emails"))["quantity"] == "16010"


def test_what_is_given_and_not_read_is_named_by_every_run_and_everything_else_is_billed(not_read: NotRead) -> None:
    expected = [
        "payment.csv is not read",
        "payments/a.txt is not read",
        "usage/20260121/: found in place of a delivery day",
        "usage/January/: found in place of a delivery day",
        "usage/a.jsonl: found in place of a delivery day",
    ]
    assert not_read.checked.status == 1
    for ended in not_read.runs:
        assert ended.status == 1
        said = problems_told(ended)
        assert len(said) == 8
        assert said[5] == "usage/2026-01-21/b.jsonl: none of its rows counts: unknown_account 1"
        assert said[6] == "usage/2026-01-21/c.jsonl: none of its rows counts: unparseable 1"
        for told, begins in zip(said, expected, strict=False):
            assert told.startswith(begins) and told in not_read.checked.output
    assert [row["total"] for row in show(not_read.home, "documents")] == ["99.00", "102.00"]
