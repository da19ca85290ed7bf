"""Paths that lead on inside of text that is JSON, and by name into lists of names and values."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from billing.ingest.formats.inner_json import Ways, ways_of
from billing.ingest.formats.json_columns import Decoder, merged_columns
from billing.ingest.formats.json_values import Json, scalar
from billing.model.json_paths import json_path
from tests.sizes import sized

PATHS = (
    "id",
    "Message.mail.id",
    "Message.tags.customer[0]",
    'attributes["customer.id"].stringValue',
    "attributes.tokens.intValue",
    "attributes.plain",
    "Message.attributes.plain",
    "attributes.payload.stringValue.model",
)
COLUMNS = [(f"c{place}", json_path(path)) for place, path in enumerate(PATHS)]

scalars = some.sampled_from(["acme", "", "5", 7, 1.5, None, True, "é", "{", "{}", '{"id": 1}', 10**20])
mails = some.fixed_dictionaries({}, optional={"id": scalars, "other": scalars})
names = some.sampled_from(["customer.id", "tokens", "plain", "payload", "x", True, 3])
values = some.one_of(
    scalars,
    some.fixed_dictionaries({"stringValue": scalars}),
    some.fixed_dictionaries({"intValue": scalars}),
    some.just({"stringValue": '{"model": "small", "n": 1}'}),
)


@some.composite
def pairs(draw: some.DrawFn) -> object:
    name, value = draw(some.sampled_from([("key", "value"), ("key", "value"), ("key", "value"), ("Name", "Value")]))
    items: list[object] = [{name: draw(names), value: draw(values)} for _ in range(draw(some.integers(0, 3)))]
    if draw(some.integers(0, 9)) == 0:
        items.append(draw(some.sampled_from([7, None, {}, {"key": {}}, {"key": "a", "Name": "plain", "Value": 1}])))
    return items


attributes = some.one_of(pairs(), pairs(), some.dictionaries(names.map(str), values, max_size=2), scalars)
inner = some.fixed_dictionaries({}, optional={"mail": mails, "tags": some.just({"customer": ["acme"]})})
messages = some.one_of(
    inner.map(json.dumps),
    some.fixed_dictionaries({"attributes": pairs()}).map(lambda found: json.dumps(found, indent=1)),
    inner,
    scalars,
)
records = some.fixed_dictionaries({"id": scalars}, optional={"Message": messages, "attributes": attributes})


def together(records: list[object]) -> pl.DataFrame:
    return merged_columns([], _lines(records), COLUMNS, looks_inside=True)


def _lines(records: list[object]) -> pl.DataFrame:
    texts = [json.dumps(record) for record in records]
    return pl.DataFrame({"row": range(len(texts)), "text": texts, "broken": [False] * len(texts)})


@settings(max_examples=sized(usual=150, long=400), deadline=None)
@given(some.lists(records, min_size=1, max_size=4), some.lists(some.integers(0, 3), min_size=1, max_size=12))
def test_records_say_together_what_each_says_alone(kinds: list[object], order: list[int]) -> None:
    rows = [kinds[number % len(kinds)] for number in order]
    alone = Decoder(COLUMNS, looks_inside=True).one_by_one(_lines(rows))
    assert together(rows).select(alone.columns).to_dicts() == alone.to_dicts()


def notification(number: int, customer: str) -> dict[str, Json]:
    mail: dict[str, Json] = {"mail": {"id": str(number)}, "tags": {"customer": [customer]}}
    point: Json = {"key": "customer.id", "value": {"stringValue": customer}}
    return {
        "id": str(number),
        "Message": json.dumps(mail),
        "attributes": [{"key": "tokens", "value": {"intValue": "5"}}, point],
    }


def test_records_of_one_shape_are_decoded_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Decoder.one_by_one
    monkeypatch.setattr(Decoder, "one_by_one", lambda decoder, frame: alone(decoder, frame.clear()))
    decoder = Decoder(COLUMNS[:5], looks_inside=True)
    found = decoder.many(_lines([notification(number, f"c{number % 3}") for number in range(1_000)]))
    assert found.drop("row", "unparseable").row(7) == ("7", "7", "c1", "c1", "5")


def test_the_first_reader_looks_into_no_text_and_no_list() -> None:
    record = notification(1, "acme")
    assert scalar(record, json_path("Message.mail.id")) is None
    found = merged_columns([], _lines([record]), COLUMNS[:5])
    assert found.drop("row", "unparseable").row(0) == ("1", None, None, None, None)


def test_what_is_learned_stays_beside_what_comes_later() -> None:
    first = ways_of(notification(1, "acme"), [path for _, path in COLUMNS])
    assert first.texts == {("Message",)}
    assert dict(first.pairs) == {("attributes",): ("key", "value")}
    assert first.beside(Ways(frozenset({("attributes",)}), {("Message",): ("name", "value")})) == first
