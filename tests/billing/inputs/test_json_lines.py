"""JSON lines: every member as it was written, whatever stands on the lines beside it."""

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.inputs.json_lines import read_json_lines

MEMBERS = ["a", "b"]
BROKEN = "{not json"


def read(path: Path, *lines: str) -> list[tuple[object, ...]]:
    path.write_text("\n".join(lines), encoding="utf-8")
    return read_json_lines(path, MEMBERS).select("row", "parsed", "a", "b").rows()


@pytest.mark.parametrize(
    ("line", "a"),
    [
        ('{"a": "text"}', "text"),
        ('{"a": 12}', "12"),
        ('{"a": 99.10}', "99.10"),
        ('{"a": 12345678901234567890.123456789}', "12345678901234567890.123456789"),
        ('{"a": 1e2}', "100"),
        ('{"a": 2.50E+1}', "25.0"),
        ('{"a": 5e-3}', "0.005"),
        ('{"a": 1e999999999999999999}', "1e999999999999999999"),
        ('{"a": true}', "true"),
        ('{"a": null}', None),
        ('{"b": 1}', None),
        ('{"a": {"z": ["y", null]}}', '{"z": ["y", null]}'),
        ('{"a": "caf\\u00e9"}', "café"),
        ('{"a": "first", "a": "second"}', "first"),
        ('  {"a": "indented"}  \r', "indented"),
    ],
)
@pytest.mark.parametrize("beside", ['{"a": "x"}', BROKEN, '{"a": 0.5}'])
def test_a_member_is_the_text_that_was_written_whatever_stands_beside_it(
    tmp_path: Path, line: str, a: str | None, beside: str
) -> None:
    assert read(tmp_path / "x.jsonl", beside, line)[1][1:3] == (True, a)


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        "7",
        "null",
        '"text"',
        "{'a': 1}",
        '{"a": 1',
        '{"a": 1} {"a": 2}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": 01}',
        '{"a": "\\ud800"}',
        '{"a": "�"}',
        '{"a": ' + "[" * 50_000,
    ],
    ids=lambda line: line[:20],
)
def test_what_is_no_object_is_kept_apart_and_stops_nothing(tmp_path: Path, line: str) -> None:
    found = read(tmp_path / "x.jsonl", '{"a": "before"}', line, '{"a": "after"}')
    assert [row[1] for row in found] == [True, False, True]
    assert found[1][2:] == (None, None)
    assert [row[2] for row in found] == ["before", None, "after"]


def test_bytes_that_are_no_text_cost_their_own_line_only(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": "1"}\n{"a": "\xff\xfe"}\n{"a": "3"}')
    found = read_json_lines(path, MEMBERS)
    assert found["parsed"].to_list() == [True, False, True]
    assert found["a"].to_list() == ["1", None, "3"]


def test_blank_lines_are_no_rows_and_keep_the_numbers_of_the_others(tmp_path: Path) -> None:
    assert [row[0] for row in read(tmp_path / "x.jsonl", "", '{"a": 1}', "  ", "\t\r", '{"a": 2}', "")] == [2, 5]
    assert read(tmp_path / "y.jsonl", "") == []


def test_the_line_is_kept_as_it_was_delivered(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a":  "kept" }\nbroken', encoding="utf-8")
    assert read_json_lines(path, MEMBERS)["text"].to_list() == ['{"a":  "kept" }', "broken"]


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        read_json_lines(tmp_path / "none.jsonl", MEMBERS)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(st.characters(codec="utf-8"), max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=4,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    objects=st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES), min_size=1, max_size=4),
    escaped=st.booleans(),
)
def test_lines_read_alone_and_together_are_read_alike(
    tmp_path: Path, objects: list[dict[str, object]], escaped: bool
) -> None:
    lines = [json.dumps(found, ensure_ascii=escaped) for found in objects]
    path = tmp_path / "x.jsonl"
    together = [row[1:] for row in read(path, *lines)]
    assert together == [read(path, line)[0][1:] for line in lines]
    assert together == [row[1:] for row in read(path, BROKEN, *lines)[1:]]
    for (_, a, _), found in zip(together, objects, strict=True):
        if isinstance(found.get("a"), str) and "�" not in json.dumps(found, ensure_ascii=False):
            assert a == found["a"]


def test_many_lines_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(f'{{"a": {number}}}\n' for number in range(45_000)), encoding="utf-8")
    found = read_json_lines(path, MEMBERS)
    assert found["a"].cast(pl.Int64).to_list() == list(range(45_000))
    assert found["row"].to_list() == list(range(1, 45_001))
