"""However a line is decoded, together with others or alone, the same stands in it."""

import io
import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from billing.ingest.formats.compression import Content
from billing.ingest.formats.delivered_bytes import FIRST_LINE, Lines
from billing.ingest.formats.json_columns import Decoder
from billing.ingest.formats.json_events import event_columns, json_chunks
from billing.ingest.formats.laid_out_lines import LaidOutLines
from billing.ingest.formats.line_layout import cut_lines, layout_of
from billing.ingest.metric_members import EventTypes, Member
from billing.model.file_limits import DEFAULT_LIMITS

TYPES: EventTypes = {
    "email.sent": (Member(("data", "count"), "unsigned"),),
    "page.viewed": (Member(("data", "page", "visitor"), "text"), Member(("data", "count"), "number")),
    "flat": (Member(("weight",), "number"), Member(("data",), "text")),
}
WITHOUT_CLASH: EventTypes = {name: members for name, members in TYPES.items() if name != "flat"}

names = some.sampled_from(["count", "page", "visitor", "weight", "data", "id", "note", "a b", 'q"', "ü"])
texts = some.one_of(
    some.sampled_from(["", "acme", "1", "-0", "null", "{", "}}", '"', "\\", "é", "\t"]), some.text(max_size=4)
)
numbers = some.sampled_from(
    [
        "0",
        "-0",
        "1",
        "-5",
        "1.5",
        "1.50",
        "-0.0",
        "100000.0",
        "0.000000001",
        "12345678.123456789",
        "1e3",
        "1E-2",
        "9" * 25,
    ]
)
scalars = some.one_of(texts.map(json.dumps), numbers, some.sampled_from(["true", "false", "null"]))
values = some.recursive(
    scalars,
    lambda inner: some.one_of(
        some.lists(some.tuples(names.map(json.dumps), inner), max_size=3).map(
            lambda members: "{" + ", ".join(f"{name}:{value}" for name, value in members) + "}"
        ),
        some.lists(inner, max_size=2).map(lambda found: "[" + ",".join(found) + "]"),
    ),
    max_leaves=4,
)


@some.composite
def event_lines(draw: some.DrawFn) -> str:
    members = [
        ("specversion", draw(some.sampled_from(['"1.0"', '"1.0"', '"0.3"', "1.0"]))),
        ("id", draw(scalars)),
        ("source", draw(texts.map(json.dumps))),
        ("type", draw(some.sampled_from([f'"{name}"' for name in TYPES]))),
        ("subject", draw(texts.map(json.dumps))),
        ("time", '"2026-01-01T00:00:00Z"'),
        ("data", draw(values)),
    ]
    if draw(some.booleans()):
        members.append((draw(names), draw(values)))
    if draw(some.booleans()):
        members.reverse()
    separator = draw(some.sampled_from([",", ", "]))
    line = "{" + separator.join(f"{json.dumps(name)}:{value}" for name, value in members) + "}"
    return line[: draw(some.integers(1, len(line)))] if draw(some.integers(0, 9)) == 0 else line


@pytest.mark.parametrize("types", [TYPES, WITHOUT_CLASH])
@given(
    kinds=some.lists(event_lines(), min_size=1, max_size=4),
    order=some.lists(some.integers(0, 3), min_size=1, max_size=40),
)
@settings(max_examples=150, deadline=None)
def test_a_file_says_what_its_lines_say_one_by_one(types: EventTypes, kinds: list[str], order: list[int]) -> None:
    lines = [kinds[number % len(kinds)] for number in order]
    together = _fields("\n".join(lines).encode(), types)
    paths = sorted({member.path for members in types.values() for member in members})
    frame = pl.DataFrame({"row": range(1, len(lines) + 1), "text": lines, "broken": [False] * len(lines)})
    alone = Decoder(event_columns(paths)).one_by_one(frame)
    shared = [name for name in alone.columns if name not in ("time", "specversion")]
    assert together.select(shared).to_dicts() == alone.select(shared).to_dicts()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "[]",
        '{"a":[1]}',
        '{"a":"\\n"}',
        '{"a":1,"a":2}',
        '{"a":1}x',
        '{"a":1',
        '{"a":01}',
        '{"a":1e3}',
        '{"a":{}}',
        '"a"',
    ],
)
def test_lines_built_otherwise_have_no_layout(line: str) -> None:
    assert layout_of(line) is None


def test_a_layout_holds_for_other_content_and_other_names_of_what_is_measured() -> None:
    layout = layout_of('{"id":"1","data":{"count": 1,"region":"eu"}}')
    assert layout is not None
    lines = [
        '{"id":"x","data":{"bytes": -2.5,"zone":"é"}}',
        '{"id":"x","data":{"bytes":2,"zone":""}}',
        '{"ix":"x","data":{"b": 2,"z":""}}',
    ]
    cut = cut_lines(FIRST_LINE + "\n".join(lines).encode(), 3)
    found = LaidOutLines(cut, layout, event_columns([("data", "bytes")]))
    assert found.matching.to_list() == [True, False, False]


GOOD = (
    '{"specversion":"1.0","id":"1","source":"s","type":"email.sent","subject":"a",'
    '"time":"2026-01-01T00:00:00Z","data":{"count":1}}'
)


@pytest.mark.parametrize(
    "line",
    [
        GOOD.replace('"id":"1"', '"id":"1"2"'),
        GOOD.replace('"source":"s"', '"source":"s","source":"t"'),
        GOOD.replace('"subject":"a"', '"subject":"a"}"'),
        GOOD.replace('"s"', '"s\\"'),
        GOOD.replace('"s"', '"s\\u0041"'),
        GOOD.replace('"s"', '"s\t"'),
        GOOD.replace('"s"', '"s,t"'),
        GOOD + ",",
        GOOD + '"',
        GOOD[:-1],
        GOOD.replace('"count":1', '"count":01'),
        GOOD.replace('"count":1', '"count":"1"'),
        GOOD.replace('"count":1', '"count":1,"count":2'),
        GOOD.replace('"1.0","id"', '"1.0", "id"'),
        '"' + GOOD,
        " " + GOOD,
    ],
)
@pytest.mark.parametrize("around", [60, 600])
def test_one_odd_line_among_many_is_read_as_it_would_be_alone(line: str, around: int) -> None:
    lines = [*[GOOD] * around, line, *[GOOD] * around]
    frame = pl.DataFrame({"row": range(1, len(lines) + 1), "text": lines, "broken": [False] * len(lines)})
    alone = Decoder(event_columns([("data", "count")])).one_by_one(frame)
    shared = [name for name in alone.columns if name not in ("time", "specversion")]
    found = _fields("\n".join(lines).encode(), {"email.sent": (Member(("data", "count"), "unsigned"),)})
    assert found.select(shared).to_dicts() == alone.select(shared).to_dicts()


@pytest.mark.parametrize("others", [1, 20, 2_000])
def test_lines_are_read_whatever_most_of_them_share(others: int) -> None:
    other = GOOD.replace('"source":"s"', '"source":"other"').replace('"count":1', '"count":2.50')
    lines = [*[GOOD] * 2_000, *[other] * others, GOOD]
    found = _fields("\n".join(lines).encode(), TYPES)
    assert found["row"].to_list() == list(range(1, len(lines) + 1))
    assert found["source"].to_list() == [*["s"] * 2_000, *["other"] * others, "s"]
    assert found["value:data.count"].to_list() == [*["1"] * 2_000, *["2.5"] * others, "1"]


@pytest.mark.parametrize("others", [1, 20, 2_000])
@pytest.mark.parametrize("name", ["bytes", "kind", "note"])
def test_members_are_read_by_names_that_the_first_lines_do_not_have(name: str, others: int) -> None:
    first = GOOD.replace('"count":1', '"count":1,"kind":"a"')
    other = GOOD.replace('"count":1', f'"{name}":2,"count":"b"')
    lines = [*[first] * 2_000, *[other] * others, first, *[GOOD] * 100]
    members = tuple(Member(("data", asked), "text") for asked in ("count", "bytes", "kind"))
    frame = pl.DataFrame({"row": range(1, len(lines) + 1), "text": lines, "broken": [False] * len(lines)})
    alone = Decoder(event_columns([member.path for member in members])).one_by_one(frame)
    shared = [column for column in alone.columns if column not in ("time", "specversion")]
    found = _fields("\n".join(lines).encode(), {"email.sent": members})
    assert found.select(shared).to_dicts() == alone.select(shared).to_dicts()


def test_texts_of_lines_are_the_same_for_few_and_for_many_of_them() -> None:
    lines = [f"{place} {'x' * (place % 300)}" for place in range(3_000)]
    found = Lines(FIRST_LINE + "\n".join(lines).encode())
    assert found.count == 3_000
    assert found.texts(pl.Series([0, 1, 1_500, 2_999]))["text"].to_list() == [lines[at] for at in (0, 1, 1_500, 2_999)]
    assert found.texts(pl.Series(range(3_000)))["text"].to_list() == lines


def test_a_short_line_first_does_not_shorten_the_others() -> None:
    found = _fields("\n".join(['{"a":1}', *[GOOD] * 5]).encode(), TYPES)
    assert found["value:data.count"].to_list() == [None, "1", "1", "1", "1", "1"]


def _fields(content: bytes, types: EventTypes) -> pl.DataFrame:
    opened = Content(io.BytesIO(content), len(content), DEFAULT_LIMITS)
    return pl.concat([piece.fields for piece in json_chunks(opened, types)], how="diagonal")
