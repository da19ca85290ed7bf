"""What identifies a record: a field, its content or its position (rule 26)."""

import gzip
from hashlib import sha256
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.ingest.sources.identities import Occurrences
from tests.billing.ingest.raw_logs import business, counts, one_source

EVENT = (
    "type: {const: http.request}, subject: {field: who}, time: {field: at, format: epoch_s}, data.bytes: {field: size}"
)
PATTERN = r"{regex: '^(?P<who>\w+) (?P<at>\d+) (?P<size>\d+)$'}"
A, B, C = ("acme 1767261600 1", "acme 1767261600 2", "acme 1767261601 3")


def source(id: str) -> str:
    return one_source(PATTERN, f"id: {id}, {EVENT}")


def test_identical_lines_are_requests_of_their_own_and_a_copy_of_the_log_adds_nothing(tmp_path: Path) -> None:
    home = business(tmp_path, source("content"))
    home.deliver([A, A, B, A], name="a.log")
    home.ingest()
    assert counts(home)["a.log"] == (4, 4, 0, 0, 0, 0)
    home.deliver([A, A, B, A], name="copy.log")
    home.deliver(gzip.compress(f"{A}\n{A}\n{B}\n{A}\n".encode()), name="packed.log.gz")
    home.deliver([B, A], name="cut.log", day="2026-01-03")
    home.deliver([A, A, A, A, C], name="more.log", day="2026-01-03")
    home.ingest()
    assert counts(home) == {
        "a.log": (4, 4, 0, 0, 0, 0),
        "copy.log": (4, 0, 4, 0, 0, 0),
        "packed.log.gz": (4, 0, 4, 0, 0, 0),
        "cut.log": (2, 0, 2, 0, 0, 0),
        # The largest number of equal texts in any one file is four.
        "more.log": (5, 2, 3, 0, 0, 0),
    }
    assert f"{sha256(A.encode()).hexdigest()}-1" in home.events()["id"].to_list()


def test_a_log_cut_at_another_line_adds_nothing(tmp_path: Path) -> None:
    home = business(tmp_path, source("content"))
    lines = [f"acme {1767261600 + n} {n}" for n in range(20)]
    home.deliver(lines[:12], name="a.log")
    home.deliver(lines[12:], name="b.log")
    home.deliver(lines[:5], name="c.log", day="2026-01-03")
    home.deliver(lines[5:], name="d.log", day="2026-01-03")
    home.ingest()
    assert home.events()["id"].n_unique() == 20


def test_a_position_is_the_bytes_of_the_file_and_the_row(tmp_path: Path) -> None:
    home = business(tmp_path, source("position"))
    home.deliver([A, A], name="a.log")
    home.deliver([A, A], name="same.log")
    home.deliver([A, A, B], name="other.log")
    home.ingest()
    assert counts(home) == {
        "a.log": (2, 2, 0, 0, 0, 0),
        "same.log": (2, 0, 2, 0, 0, 0),
        "other.log": (3, 3, 0, 0, 0, 0),
    }


def test_several_fields_make_one_id_that_no_other_fields_make(tmp_path: Path) -> None:
    event = f"id: {{fields: [x, y]}}, {EVENT}".replace("{field: who}", "{const: acme}")
    home = business(tmp_path, one_source("csv", event))
    home.deliver(
        ["x,y,at,size", "a|b,c,1767261600,1", "a,b|c,1767261600,1", "a\\,|c,1767261600,1", ",c,1767261600,1"],
        name="a.csv",
    )
    home.ingest()
    assert home.reasons() == {4: "missing_field"}
    assert home.events()["id"].n_unique() == 3


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=8), max_size=12))
def test_occurrences_are_numbered_over_all_blocks(blocks: list[list[str | None]]) -> None:
    seen: dict[str, int] = {}
    numbers = Occurrences()
    for block in blocks:
        expected = []
        for text in block:
            if text is not None:
                seen[text] = seen.get(text, 0) + 1
            expected.append(None if text is None else f"{sha256(text.encode()).hexdigest()}-{seen[text]}")
        assert numbers.ids(pl.Series(block, dtype=pl.String)).to_list() == expected
