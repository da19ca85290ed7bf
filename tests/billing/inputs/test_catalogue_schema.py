"""The JSON Schema of catalogue.yaml is what the reader knows, and the catalogues that are shipped keep to it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from billing.inputs.catalogue_file import load_catalogue
from billing.inputs.catalogue_schema import catalogue_schema
from billing.model.catalogue import Policy
from billing.model.errors import RefusedError
from billing.sample import write_sample
from billing.starter import CATALOGUE_SCHEMA, catalogue_schema_file, starter_catalogue, write_starter_home
from tests.billing.ingest.sources.ready_sources import uncommented

SCHEMA: dict[str, Any] = json.loads(catalogue_schema())
KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int}
SOURCE = """
sources:
  - name: edge
    files: ["edge/**"]
    format: {nginx: '$host $msec'}
    null: [-, NULL]
    event:
      id: {fields: [host, msec]}
      type: {field: host, map: {a: email.sent}}
      subject: {field: host, alias: host}
      time: {field: msec}
      data.bytes: {const: 1, times: "0.5"}
    keep: [{field: host, not_in: [x, 7]}]
    set_aside_at_most: 5%
    last_line: count
numbering: {invoice: "R-{year}-{sequence:06}"}
"""


def faults(value: Any, schema: dict[str, Any], place: str = "") -> list[str]:
    """What of a document a schema forbids: as far as the keywords that this schema uses."""
    if "anyOf" in schema:
        each = [faults(value, option, place) for option in schema["anyOf"]]
        return [] if any(not found for found in each) else min(each, key=len)
    if "enum" in schema and value not in schema["enum"]:
        return [f"{place}: {value!r} is none of {schema['enum']}"]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return [f"{place}: {value!r} is no {' or '.join(kinds)}"]
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return [f"{place}: {value!r} does not match {schema['pattern']}"]
    if isinstance(value, dict) and "properties" in schema:
        found = [f"{place}: no {name}" for name in schema.get("required", []) if name not in value]
        for name, below in value.items():
            inside = schema["properties"].get(name, schema["additionalProperties"])
            found += [f"{place}.{name}: unknown"] if inside is False else faults(below, inside, f"{place}.{name}")
        return found
    if isinstance(value, list):
        return [fault for at, item in enumerate(value) for fault in faults(item, schema["items"], f"{place}[{at}]")]
    return []


def _is(value: Any, kind: str) -> bool:
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, KINDS[kind]) and not (kind == "integer" and isinstance(value, bool))


class _Loader(yaml.SafeLoader):
    """Reads a catalogue as an editor does: a date is a text there, and so are no, off and the key null."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML copies it before it adds to it.
        key: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":bool"))]
        for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))


def document(text: str) -> Any:
    return _with_texts_as_keys(yaml.load(text, _Loader))  # noqa: S506  # A safe loader that knows fewer types.


def _with_texts_as_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {"null" if name is None else str(name): _with_texts_as_keys(below) for name, below in value.items()}
    return [_with_texts_as_keys(item) for item in value] if isinstance(value, list) else value


def test_the_shipped_schema_is_what_the_reader_knows() -> None:
    assert catalogue_schema_file().read_text() == catalogue_schema(), "write it again: make docs"


def test_the_first_line_of_a_starting_catalogue_names_a_schema_that_is_there(tmp_path: Path) -> None:
    write_starter_home(tmp_path / "starter")
    write_sample(tmp_path / "sample", accounts=20, months=1, events_per_account_day=1, seed=1)
    for name in ("starter", "sample"):
        catalogue = tmp_path / name / "landing" / "catalogue.yaml"
        first = catalogue.read_text().splitlines()[0]
        named = first.removeprefix("# yaml-language-server: $schema=")
        assert json.loads((catalogue.parent / named).read_text()) == SCHEMA
        assert Path(named).name == CATALOGUE_SCHEMA
        assert faults(document(catalogue.read_text()), SCHEMA) == []


@pytest.mark.parametrize("text", [starter_catalogue() + SOURCE, uncommented()], ids=["every key", "ready-made"])
def test_what_the_reader_takes_is_no_fault(tmp_path: Path, text: str) -> None:
    path = tmp_path / "catalogue.yaml"
    path.write_text(text)
    load_catalogue(path)
    assert faults(document(path.read_text()), SCHEMA) == []


def test_every_value_that_the_reader_reads_has_a_schema() -> None:
    def empty(schema: Any, place: str) -> list[str]:
        if schema == {} and not place.endswith(".properties"):
            return [place]
        below = schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list) else ()
        return [found for name, each in below for found in empty(each, f"{place}.{name}")]

    assert empty(SCHEMA, "") == []


def test_every_setting_of_the_policy_is_known() -> None:
    assert set(SCHEMA["properties"]["policy"]["properties"]) == set(Policy.__dataclass_fields__)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("currency: USD", "curency: USD"),
        ("lateness_days: 90", "latenes_days: 90"),
        ("lateness_days: 90", "lateness_days: ninety"),
        ("kind: counter", "kind: countre"),
        ("rank: 1\n", "rnk: 1\n"),
        ("effective_from: 2026-01-01", "effective_from: soon"),
        ("files:", "file:"),
        ("last_line: count", "last_line: keep"),
        ("not_in: [x, 7]", "notin: [x, 7]"),
        ("fields: [host, msec]", "feilds: [host, msec]"),
        ('times: "0.5"', "times: half"),
        ("alias: host", "aliases: host"),
    ],
)
def test_what_the_reader_refuses_is_a_fault(tmp_path: Path, right: str, wrong: str) -> None:
    # Comments of the starting catalogue have the same words.
    text = re.sub(r"^ *#.*\n", "", starter_catalogue(), flags=re.MULTILINE) + SOURCE
    assert right in text
    path = tmp_path / "catalogue.yaml"
    path.write_text(text.replace(right, wrong, 1))
    with pytest.raises(RefusedError):
        load_catalogue(path)
    assert faults(document(path.read_text()), SCHEMA)
