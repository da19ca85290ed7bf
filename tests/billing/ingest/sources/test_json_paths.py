"""JSON in any arrangement, fields by paths, and records that lie deeper in a document."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.ingest.formats.compression import Content, TooLargeError
from billing.ingest.sources.nested_json import nested_records
from billing.model.file_limits import DEFAULT_LIMITS, Limits
from billing.model.json_paths import json_path
from tests.billing.ingest.raw_logs import business, counts, one_source, sums
from tests.sizes import sized

EVENT = (
    "id: {field: id}, type: {const: email.sent}, subject: {field: who.name}, time: "
    "{field: at, format: epoch_ns}, data.count: {field: n}"
)
AT = 1767261600123456789


def record(id: int, n: object = 1, **others: object) -> dict[str, object]:
    return {"id": str(id), "who": {"name": "acme", "roles": ["a", "b"]}, "at": AT, "n": n, **others}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("form", ["lines", "array", "one after the other"])
def test_records_in_any_arrangement(tmp_path: Path, form: str, indent: int | None) -> None:
    texts = [json.dumps(record(number), indent=indent) for number in range(3)]
    text = {"lines": "\n".join(texts), "array": f"[{', '.join(texts)}]", "one after the other": "".join(texts)}[form]
    home = business(tmp_path, one_source("json", EVENT))
    home.deliver(text + "\n", name="a.log")
    home.ingest()
    assert counts(home)["a.log"] == (3, 3, 0, 0, 0, 0)


def test_nanoseconds_as_numbers_are_exact(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("json", EVENT))
    odd = json.dumps(record(1)).replace(str(AT), "1.767261600123456789e18")
    home.deliver([json.dumps(record(0)), odd, json.dumps(record(2, at=str(AT)))], name="a.log")
    home.ingest()
    assert home.events()["time"].dt.epoch("ns").unique().to_list() == [AT]


@pytest.mark.parametrize("records", ["", "[*]", "all[*]"])
def test_the_signs_of_numbers_are_those_of_texts_and_a_json_number_is_what_it_is(tmp_path: Path, records: str) -> None:
    sizes = ["1.234", '"1.234"', '"1.234,5"', "1.5", "7", "-0.0", "2.5e-1"]
    texts = [json.dumps(record(n)).replace('"n": 1', f'"n": {size}') for n, size in enumerate(sizes)]
    keys = {"decimal": '","', "thousands": '"."'} | ({"records": f'"{records}"'} if records else {})
    home = business(tmp_path, one_source("json", EVENT, **keys))
    together = f"[{', '.join(texts)}]"
    home.deliver(f'{{"all": {together}}}\n' if records == "all[*]" else f"{together}\n", name="a.json")
    home.ingest()
    assert sums(home, "emails") == {"acme": "2478.484"}
    assert counts(home)["a.json"] == (7, 7, 0, 0, 0, 0)


def test_paths_lead_into_lists_and_to_names_with_dots(tmp_path: Path) -> None:
    event = (
        "id: {field: '[\"event.id\"]'}, type: {const: email.sent}, subject: {field: "
        "'tags[1].value'}, time: {field: at}, data.count: {field: 'sizes[0]'}"
    )
    home = business(tmp_path, one_source("json", event))
    row = {"event.id": "1", "tags": [{"value": "x"}, {"value": "acme"}], "at": "2026-01-01T10:00:00Z", "sizes": [7.25]}
    rows = [
        row,
        row | {"event.id": "2", "tags": []},
        row | {"event.id": "3", "tags": {"value": "acme"}},
        row | {"event.id": "4", "sizes": [1e3]},
    ]
    home.deliver([json.dumps(each) for each in rows], name="a.log")
    home.ingest()
    assert home.reasons() == {2: "missing_field", 3: "missing_field"}
    assert sums(home, "emails") == {"acme": "1007.25"}


def test_paths_lead_on_inside_of_text_and_by_name_into_lists_of_names_and_values(tmp_path: Path) -> None:
    event = (
        "id: {field: Message.mail.id}, type: {const: email.sent}, subject: {field: "
        "'tags[\"customer.id\"].text'}, time: {field: Message.at}, data.count: {field: tags.count}"
    )
    home = business(tmp_path, one_source("json", event))
    message = {"mail": {"id": "1"}, "at": "2026-01-01T10:00:00Z"}
    tags = [{"Key": "count", "Value": 7}, {"Key": "customer.id", "Value": {"text": "acme"}}]
    rows = [
        {"Message": json.dumps(message), "tags": tags},
        {"Message": message | {"mail": {"id": "2"}}, "tags": {"count": 5, "customer.id": {"text": "acme"}}},
        {"Message": "no JSON", "tags": tags},
        {"Message": json.dumps(message | {"mail": {"id": "3"}}), "tags": tags[:1]},
    ]
    home.deliver([json.dumps(row) for row in rows], name="a.log")
    home.ingest()
    assert home.reasons() == {3: "missing_field", 4: "missing_field"}
    assert sums(home, "emails") == {"acme": "12"}


def test_a_member_that_is_an_object_is_missing_and_null_is_replaced(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("json", EVENT.replace("field: n", "field: n, null_is: 5")))
    rows = [record(1, {"a": 1}), record(2, None), record(3, ""), record(4, "x"), {"id": "5"}]
    home.deliver([json.dumps(each) for each in rows], name="a.log")
    home.ingest()
    assert home.reasons() == {4: "impossible_value", 5: "missing_field"}
    assert sums(home, "emails") == {"acme": "15"}


DEEP = {"records": '"groups[*].items[*]"'}


def document(*groups: list[object], **others: object) -> str:
    return json.dumps({"who": {"name": "globex"}, "groups": [{"at": AT, "items": items} for items in groups], **others})


def test_one_line_may_hold_several_records(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("json", EVENT, **DEEP))
    home.deliver([document([record(1), record(2)], []), document([record(3, 4)])], name="a.log")
    home.ingest()
    assert counts(home)["a.log"] == (3, 3, 0, 0, 0, 0)
    assert home.events()["row"].sort().to_list() == [1, 2, 3]


def test_what_a_record_lacks_is_looked_for_around_it(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("json", EVENT, **DEEP))
    home.deliver([document([{"id": "1", "n": 1}, {"id": "2", "n": 2, "who": {"name": "acme"}}])], name="a.log")
    home.ingest()
    assert sums(home, "emails") == {"acme": "2", "globex": "1"}


def test_documents_without_records_are_told_and_broken_ones_cost_themselves(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("json", EVENT, **DEEP))
    lines = [
        document([record(1)]),
        '{"other": 1}',
        document([record(2)])[:-3],
        document([record(3)]),
        '{"groups": 7}',
        "7",
    ]
    home.deliver(lines, name="a.log")
    home.ingest()
    assert counts(home)["a.log"][1] == 3
    assert set(home.reasons().values()) == {"unparseable"}
    details = home.table("rejects")["detail"].to_list()
    assert details[0] == "row: found an object without groups, expected the records in it"
    assert "found '7' on the way to the records, expected a list" in details[2]


def test_content_of_deeper_records_is_their_text_as_it_stands(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("json", EVENT.replace("{field: id}", "content"), **DEEP))
    home.deliver([document([record(1), record(1)])], name="a.log")
    home.deliver([document([record(1)], [record(1), record(2)])], name="b.log")
    home.ingest()
    assert counts(home) == {"a.log": (2, 2, 0, 0, 0, 0), "b.log": (3, 1, 2, 0, 0, 0)}


@pytest.mark.parametrize("form", ["[%s]", '{"Records": [%s]}'])
def test_an_array_in_one_line_is_read_in_bounded_memory(form: str) -> None:
    before, after = form.split("%s")
    size = sized(usual=12, long=300) * 1024 * 1024
    item = json.dumps(record(1, pad="x" * 500)).encode() + b", "

    def pieces() -> Iterator[bytes]:
        yield before.encode()
        for _ in range(size // len(item)):
            yield item
        yield item[:-2] + after.encode()

    path = "Records[*]" if "Records" in form else "[*]"
    content = Content(_Stream(pieces()), size, DEFAULT_LIMITS)
    tracemalloc.start()
    count = sum(1 for _ in nested_records(content, json_path(path), (), DEFAULT_LIMITS))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == size // len(item) + 1
    assert peak < 10 * 1024 * 1024


def test_the_limit_is_on_one_record() -> None:
    small = Limits(longest_record=64 * 1024)
    text = json.dumps({"Records": [record(number) for number in range(3_000)]}).encode()
    path = json_path("Records[*]")
    assert len(list(nested_records(opened(text), path, (), small))) == 3_000
    with pytest.raises(TooLargeError, match="found a record of more than 65,536 bytes"):
        list(nested_records(opened(json.dumps({"Records": [{"a": "x" * 3_000_000}]}).encode()), path, (), small))


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(VALUES, max_size=4), max_size=4), st.sampled_from([None, 1]), st.integers(1, 40))
def test_every_record_is_found_whatever_its_text(groups: list[list[object]], indent: int | None, step: int) -> None:
    text = json.dumps(
        {"a": {"x": 1}, "g": [{"i": group, "z": "]}"} for group in groups]}, indent=indent, ensure_ascii=False
    )
    stream = _Stream(text.encode()[start : start + step] for start in range(0, len(text.encode()), step))
    found = nested_records(Content(stream, len(text), DEFAULT_LIMITS), json_path("g[*].i[*]"), ("a",), DEFAULT_LIMITS)
    assert [json.loads(each.text) for each in found] == [value for group in groups for value in group]


def opened(text: bytes) -> Content:
    return Content(BytesIO(text), len(text), DEFAULT_LIMITS)


class _Stream(BytesIO):
    """A file that comes in pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._waiting = b""

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._waiting:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._waiting = piece
        count = min(len(buffer), len(self._waiting))
        buffer[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count


def test_compressed_arrays_are_records_too(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("json", EVENT))
    home.deliver(gzip.compress(json.dumps([record(1), record(2)]).encode()), name="a.json.gz")
    home.ingest()
    assert counts(home)["a.json.gz"] == (2, 2, 0, 0, 0, 0)
