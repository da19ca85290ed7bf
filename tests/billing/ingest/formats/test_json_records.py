"""JSON that is no lines is read as records, with the same result however it is arranged (rule 27)."""

import io
import json
import re
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from billing.ingest.formats import compression
from billing.ingest.formats.compression import Content, TooLargeError
from billing.ingest.formats.json_events import json_chunks
from billing.ingest.formats.json_records import holds_records, record_lines
from billing.model.file_limits import DEFAULT_LIMITS, Limits
from tests.billing.ingest.small_business import Business, event, line
from tests.sizes import sized


def opened(content: bytes) -> Content:
    return Content(io.BytesIO(content), len(content), DEFAULT_LIMITS)


def records(content: bytes, longest: int = DEFAULT_LIMITS.longest_record) -> list[bytes]:
    return b"".join(compression.chunks_of(record_lines(opened(content), longest))).split(b"\n")


ARRANGED = {
    "array": lambda texts: "[" + ",".join(texts) + "]",
    "array with blanks": lambda texts: "\n[ " + " ,\n ".join(texts) + " ]\n\n",
    "one a line": lambda texts: "[\n" + ",\n".join(texts) + "\n]\n",
    "one a line, the bracket beside": lambda texts: "[" + ",\n ".join(texts) + "]",
    "commas first": lambda texts: "[\n" + "\n,".join(texts) + "\n]\n",
    "pretty": lambda texts: "\n".join(json.dumps(json.loads(text), indent=2) for text in texts),
    "pretty array": lambda texts: json.dumps([json.loads(text) for text in texts], indent=4),
    "tabs, CR LF": lambda texts: json.dumps([json.loads(text) for text in texts], indent="\t").replace("\n", "\r\n"),
    "side by side": lambda texts: "".join(texts),
    "side by side with blanks": lambda texts: " ".join(texts) + "\n",
    "arrays after each other": lambda texts: "\n".join(f"[{text}]" for text in texts),
    "lines with commas": lambda texts: "".join(f"{text},\n" for text in texts),
}
TRAPS = ['},{"', "]", "\\", '"', "\n{", "}\n"]
values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=6) | some.sampled_from(TRAPS),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("arranged", ARRANGED.values(), ids=ARRANGED)
@given(notes=some.lists(values, min_size=2, max_size=5), piece=some.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_records_are_the_same_however_they_are_arranged_and_read(
    arranged: object, notes: list[object], piece: int
) -> None:
    texts = [json.dumps({"a": note}) for note in notes]
    content = arranged(texts).encode()  # type: ignore[operator]
    assert holds_records(opened(content), DEFAULT_LIMITS.longest_record)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression.chunks_of, "__defaults__", (piece,))
        found = records(content)
    assert [json.loads(text) for text in found if text] == [json.loads(text) for text in texts]


@pytest.mark.parametrize("arranged", ARRANGED.values(), ids=ARRANGED)
def test_events_count_and_rows_are_places(business: Business, arranged: object) -> None:
    texts = [line("1"), line("2", subject="nobody"), line("3")]
    business.deliver(arranged(texts), name="a.json")  # type: ignore[operator]
    outcome = business.ingest()
    assert (outcome.counted, business.reasons()) == (2, {2: "unknown_account"})
    assert json.loads(business.table("rejects")["text"][0]) == event("2", subject="nobody")
    assert business.events().sort("row")["row"].to_list() == [1, 3]


@pytest.mark.parametrize(
    "text",
    [
        line("1"),
        line("1") + "\n" + line("2"),
        "broken\n" + line("2"),
        line("1")[:-5] + "\n" + line("2"),
        '{"a":[{"b":1}\n{"c":2}]}\n',
        "",
        "\n\n",
        '{"a":1}x\n{"b":2}',
    ],
)
def test_lines_stay_lines(text: str) -> None:
    assert not holds_records(opened(text.encode()), DEFAULT_LIMITS.longest_record)


BAD = {
    '{"id":"x","a":"b': 1,
    '{"id":"x"': 1,
    "garbage": 1,
    '"text"': 1,
    "17": 1,
    "null": 1,
    '{"id":"x","data":{"a":1}': 1,
    '{"id":"x"}}': 2,
    '{"id":"x",}': 1,
    '{"id":"x" "a":1}': 1,
    '{"id":"x","a":"b"c"}': 1,
    '{"a":NaN}': 1,
}
"""Bad records, and how many rows each is."""


@pytest.mark.parametrize(
    ("bad", "arrangement"),
    [
        *((bad, "one a line") for bad in BAD),
        # on one line something has to say where it ends
        *((bad, "side by side with blanks") for bad in BAD if bad.endswith("}")),
    ],
)
def test_a_bad_record_bears_on_no_other(business: Business, bad: str, arrangement: str) -> None:
    texts = [line("1"), bad, line("2"), line("3")]
    business.deliver(ARRANGED[arrangement](texts), name="a.json")
    outcome = business.ingest()
    assert (outcome.counted, outcome.rejected) == (3, BAD[bad])
    assert business.table("rejects")["detail"].str.contains("found .+, expected ").all()


fragments = some.sampled_from(
    [
        '{"a":1}',
        '{"a":',
        "{",
        "}",
        "[",
        "]",
        ",",
        '"',
        "\n",
        " ",
        "x",
        "12",
        "\\",
        '{"a":"b"c"}',
        '{"a":[{"b":1},{"c":2}]}',
    ]
)


@given(text=some.lists(fragments, max_size=30).map("".join), piece=some.integers(1, 30))
@settings(max_examples=300, deadline=None)
def test_what_is_not_well_formed_is_told_apart_alike_however_it_is_read(text: str, piece: int) -> None:
    together = records(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression.chunks_of, "__defaults__", (piece,))
        assert records(text.encode()) == together
    # nothing is lost but what stands between records
    told = b"".join(each for each in together if not each.startswith(b"[ the file ends here")).decode()
    assert re.sub(r"[\s\[\],]", "", told) == re.sub(r"[\s\[\],]", "", text)


def test_an_array_that_is_cut_is_told_as_unfinished(business: Business) -> None:
    whole = json.dumps([event("1"), event("2")])
    for end in (whole.index("}}") + 2, whole.index(', {"spec') + 2, len(whole) - 1, len(whole) - 2, len(whole) - 30):
        business.deliver(whole[:end], name="a.json")
        business.ingest()
        assert set(business.reasons().values()) == {"unfinished_line"}
    business.deliver(whole, name="a.json")
    assert (business.ingest().counted, business.reasons()) == (2, {})


def test_an_array_of_any_length_on_one_line_takes_a_block_of_memory() -> None:
    one = line("1", note="x" * 200).encode()
    size = sized(usual=20, long=32) * 1024 * 1024

    def pieces() -> Iterator[bytes]:
        yield b"["
        for _ in range(size // (len(one) * 100)):
            yield (one + b",") * 100
        yield one + b"]"

    file = compression.ChunkStream(pieces())
    content = Content(file, size, DEFAULT_LIMITS)  # type: ignore[arg-type]
    tracemalloc.start()
    lines = sum(piece.count(b"\n") for piece in compression.chunks_of(record_lines(content, 2**24)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert lines == size // (len(one) * 100) * 100 + 1
    assert peak < 16 * 1024 * 1024


@pytest.mark.parametrize("text", ['[{"a":"' + "x" * 5000 + '"}]', '[{"a":"' + "x" * 5000, "[1" + "0" * 5000 + "]"])
def test_a_record_that_is_too_long_makes_its_file_unreadable(text: str) -> None:
    with pytest.raises(TooLargeError, match="more than 4,096 bytes"):
        records(text.encode(), longest=4096)


def test_a_line_that_is_too_long_is_one_in_whatever_blocks_it_is_read() -> None:
    limits = Limits(longest_record=2**20)
    for length, fits in ((2**20, True), (2**20 + 1, False)):
        content = b"{}\n" * 1000 + b"x" * length + b"\n" + b"{}\n" * 1000
        pieces = json_chunks(opened(content), {}, limits)
        if fits:
            assert sum(len(piece.fields) for piece in pieces) == 2001
        else:
            with pytest.raises(TooLargeError, match=r"begins at byte 3,001"):
                list(pieces)


def test_a_raised_limit_reads_the_file_again(business: Business) -> None:
    business.deliver(line("1", note="x" * 2**20), name="a.jsonl")
    business.deliver(line("2"), name="b.jsonl")
    business.limits = Limits(longest_record=2**20)
    outcome = business.ingest()
    assert (outcome.counted, len(outcome.unreadable_files)) == (1, 1)
    assert business.ingest().files_read == 0
    business.limits = Limits(longest_record=2**21)
    outcome = business.ingest()
    assert (outcome.files_read, outcome.counted, outcome.unreadable_files) == (1, 2, ())
    # what was read stays
    business.limits = Limits(longest_record=2**20)
    assert (business.ingest().files_read, len(business.events())) == (0, 2)
