"""`sources:` of the catalogue: every wrong key is refused with line, found and expected."""

from collections.abc import Iterator
from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest
import yaml

from billing.model.sources import EPOCHS, Identity, Keep, TextRule, TimeRule, ValueRule
from tests import sizes
from tests.billing.ingest.raw_logs import one_source, read, sources_of

EVENT = (
    "id: {field: host}, type: {const: http.request}, subject: {field: host}, time: "
    "{field: time}, data.bytes: {field: bytes, null_is: 0}"
)


def problems(text: str) -> list[str]:
    return [str(problem) for problem in read(text)[1]]


def test_an_entry_is_read_key_by_key() -> None:
    (source,) = sources_of("""
sources:
  - name: edge
    files: ["edge/**", "*.access.log*"]
    format: combined
    event:
      source:  {const: edges}
      id:      {fields: [host, time]}
      type:    {field: method, map: {GET: http.request, no: email.sent}}
      subject: {field: host, alias: host}
      time:    {field: time, format: "%d.%m.%Y %H:%M", zone: Europe/Berlin, ambiguous: latest}
      data.bytes: {field: bytes, null_is: 0, times: "0.5"}
      data.count: {const: 1}
    keep: [{field: status, in: [200, null, no]}, {field: path, matches: "^/a"}, {field: agent, not_in: [bot]}]
    set_aside_at_most: 2.5%
    last_line: count
    comment: "//"
""")
    assert source.files == ("edge/**", "*.access.log*")
    assert source.id == Identity("fields", ("host", "time"))
    assert (source.source, source.subject) == (TextRule(const="edges"), TextRule("host", alias="host"))
    assert source.type == TextRule("method", map=(("GET", "http.request"), ("no", "email.sent")))
    assert source.time == TimeRule("time", "%d.%m.%Y %H:%M", "Europe/Berlin", "latest")
    assert source.values == (
        ValueRule(("data", "bytes"), "bytes", null_is="0", times=Decimal("0.5")),
        ValueRule(("data", "count"), const="1"),
    )
    assert source.keep == (
        Keep("status", is_in=("200", "null", "no")),
        Keep("path", matches="^/a"),
        Keep("agent", not_in=("bot",)),
    )
    assert (source.set_aside_at_most, source.counts_last_line, source.comment) == (Decimal("0.025"), True, "//")


def test_an_unquoted_null_key_and_its_unquoted_texts_are_texts() -> None:
    (source,) = sources_of(one_source("csv", EVENT, null="[NULL, null, ~, no, -]", separator='"\\t"'))
    assert source.nulls == ("NULL", "null", "~", "no", "-")
    assert source.separator == "\t"


@pytest.mark.parametrize(
    ("format", "time"),
    [
        ("combined", TimeRule("time", "%d/%b/%Y:%H:%M:%S %z")),
        ("w3c", TimeRule("time", zone="UTC")),
        ("alb", TimeRule("time")),
        ("s3_access", TimeRule("time", "%d/%b/%Y:%H:%M:%S %z")),
        ("zeek", TimeRule("ts", "epoch_s")),
        ("cloudevents", TimeRule("time")),
    ],
)
def test_named_formats_know_their_time(format: str, time: TimeRule) -> None:
    (source,) = sources_of(one_source(format, "id: content, type: {const: a}, subject: {const: b}"))
    assert source.time == time


def test_the_variables_of_nginx_know_theirs() -> None:
    for variable, format in (("time_iso8601", "rfc3339"), ("msec", "epoch_s"), ("time_local", "%d/%b/%Y:%H:%M:%S %z")):
        event = f"id: content, type: {{const: a}}, subject: {{const: b}}, time: {{field: {variable}}}"
        (source,) = sources_of(one_source(f"{{nginx: '${variable} $host'}}", event))
        assert source.time.format == format


def test_an_id_has_no_default_and_the_three_ways_are_told() -> None:
    (words,) = problems(one_source("combined", EVENT.partition(", ")[2]))
    assert words.startswith("catalogue.yaml: line 5, sources[0].event: found none, expected a key `id`")
    assert all(way in words for way in ("{field: NAME}", "id: content", "id: position"))


@pytest.mark.parametrize(
    ("entry", "line", "words"),
    [
        (
            one_source("combined", EVENT, nme="x"),
            6,
            "sources[0].nme: found the unknown key nme, expected one of: name, files",
        ),
        (
            one_source("combined", EVENT, records='"a[*]"'),
            6,
            "sources[0].records: found records, of json, expected no such key",
        ),
        (
            one_source("combined", EVENT, separator='";"'),
            6,
            "found separator, of csv, expected no such key beside the format combined",
        ),
        (
            one_source("combine", EVENT),
            4,
            "sources[0].format: found 'combine', expected one of: cloudevents, json, csv",
        ),
        (one_source("{nginxx: a}", EVENT), 4, "found the unknown format nginxx, expected one of: nginx, regex"),
        (one_source("nginx", EVENT), 4, "found 'nginx', expected a pattern"),
        (
            one_source("{regex: '(?=a)b'}", EVENT),
            4,
            "look-around, including look-ahead and look-behind, is not supported",
        ),
        (one_source("{regex: '(a'}", EVENT), 4, "unclosed group"),
        (one_source("{regex: '(a)'}", EVENT), 4, "found no group with a name"),
        (one_source("{nginx: 'no variable'}", EVENT), 4, "found no variable"),
        (one_source("{nginx: '$host$status'}", EVENT), 4, "found $host$status without anything between"),
        (
            one_source("combined", EVENT.replace("host", "hots")),
            5,
            "event.id.field: found the unknown field hots, expected one of: host, ident",
        ),
        (one_source("json", EVENT.replace("host", "a..b")), 5, "found 'a..b', expected a path"),
        (
            one_source("json", EVENT.replace("host", "$host")),
            5,
            "found '$host', expected one of: $line, $file, $day, $row",
        ),
        (
            one_source("combined", EVENT, keep="[{field: status}]"),
            6,
            "sources[0].keep[0]: found none, expected one of: in, not_in, matches",
        ),
        (
            one_source("combined", EVENT, keep="[{field: status, in: [a], matches: b}]"),
            6,
            "found in, matches, expected one of",
        ),
        (one_source("combined", EVENT, keep="[{field: path, matches: '(?<!a)b'}]"), 6, "look-around"),
        (one_source("combined", EVENT, set_aside_at_most="5"), 6, "found '5', expected a share such as 5%"),
        (one_source("combined", EVENT, set_aside_at_most="101%"), 6, "expected a share such as 5%"),
        (one_source("combined", EVENT, last_line="keep"), 6, "found 'keep', expected one of: set_aside, count"),
        (one_source("combined", EVENT, encoding="nine"), 6, "expected the name of a text encoding"),
        (one_source("csv", EVENT, separator="';;'"), 6, "found ';;', expected one character"),
        (one_source("csv", EVENT, decimal='";"'), 6, "found ';', expected one of the characters . ,"),
        (one_source("csv", EVENT, thousands='"."'), 6, "found '.', expected another character than that of decimals"),
        (one_source("csv", EVENT, header="[a, a]"), 6, "sources[0].header: found a list, expected every column once"),
        (one_source("csv", EVENT, header="[a]"), 5, "found the unknown field host, expected one of: a, $line"),
        (one_source("json", EVENT, records='"a.b"'), 6, "found 'a.b', expected a path with [*]"),
        (
            one_source("combined", EVENT.replace("{field: host}", "host", 1)),
            5,
            "event.id: found 'host', expected one of three ways",
        ),
        (
            one_source("combined", EVENT.replace("{const: http.request}", "{field: host, const: a}")),
            5,
            "event.type: found a mapping, expected one of: field, const",
        ),
        (
            one_source("combined", EVENT.replace("{const: http.request}", "{const: a, map: {b: c}}")),
            5,
            "found map, expected no `map` without a `field`",
        ),
        (
            one_source("combined", EVENT.replace("{const: http.request}", "http.request")),
            5,
            "event.type: found 'http.request', expected {field: NAME} or {const: TEXT}",
        ),
        (
            one_source("combined", EVENT.replace("subject: {field: host}", "subject: {field: host, map: {a: b}}")),
            5,
            "found the unknown key map, expected one of: field, const, alias",
        ),
        (one_source("combined", EVENT.replace("subject: {field: host}, ", "")), 5, "expected a key `subject`"),
        (one_source("json", EVENT.replace(", time: {field: time}", "")), 5, "expected a key `time`"),
        (
            one_source("json", EVENT.replace("time: {field: time}", "time: {field: time, format: '%d.%m.%Y'}")),
            5,
            "event.time: found none, expected a key `zone`",
        ),
        (
            one_source("json", EVENT.replace("time: {field: time}", "time: {field: time, format: epoch}")),
            5,
            "found 'epoch', expected one of: rfc3339, epoch_s",
        ),
        (
            one_source("json", EVENT.replace("time: {field: time}", "time: {field: time, zone: Berlin}")),
            5,
            "expected the IANA name",
        ),
        (
            one_source("json", EVENT.replace("time: {field: time}", "time: {field: time, ambiguous: latest}")),
            5,
            "found latest, expected no `ambiguous` without a `zone`",
        ),
        (
            one_source("json", EVENT.replace("time: {field: time}", "time: {field: t, format: epoch_s, zone: UTC}")),
            5,
            "found UTC, expected no `zone`",
        ),
        (
            one_source("combined", EVENT.replace("data.bytes", "data.byte")),
            5,
            "found the unknown key data.byte, expected one of: id, source, type, subject, time, data.bytes",
        ),
        (one_source("combined", EVENT.replace("data.bytes", "value")), 5, "found the unknown key value"),
        (
            one_source("combined", EVENT.replace("null_is", "nullis")),
            5,
            "found the unknown key nullis, expected one of: field, const, null_is, times",
        ),
        (
            one_source("combined", EVENT.replace("null_is: 0", "times: 0")),
            5,
            "found '0', expected a number other than 0",
        ),
        (
            one_source("combined", EVENT)
            + (
                "  - {name: log, files: [a], format: json, event: {id: content, type: {const: a}, "
                "subject: {const: b}, time: {field: t}}}\n"
            ),
            2,
            "sources: found log more than once, expected every name once",
        ),
        (
            one_source("combined", EVENT).replace('["**"]', "[]"),
            3,
            "sources[0].files: found a list, expected at least one pattern",
        ),
        (one_source("combined", EVENT).replace("**", "/a/*"), 3, "expected a path below the folder of the day"),
        *(
            (
                one_source("combined", EVENT.replace("field: bytes", wrong)),
                5,
                "expected a plain decimal such as 0 or 1.5",
            )
            for wrong in ("const: abc", 'const: "1,5"', 'field: bytes, null_is: "-"')
        ),
        *(
            (
                one_source("json", EVENT.replace("field: time}", f"field: time, format: '{format}', zone: UTC}}")),
                5,
                words,
            )
            for format, words in (
                ("%Q", "expected one of: rfc3339"),
                ("%H:%M", "expected one of: rfc3339"),
                ("%b %e %T", "expected one of: rfc3339"),
                ("%Y-%m-%d%", "expected one of: rfc3339"),
                ("plain", "expected one of: rfc3339"),
                ("%F %H:%M:%S,%f", "expected a fraction of a second as %.f"),
                ("%s", "expected epoch_s"),
                ("%F %T %Z", "expected an offset (%z)"),
            )
        ),
        (one_source("csv", EVENT).replace(f"{{{EVENT}}}", ""), 5, "found nothing, expected a mapping of keys: id"),
        ("sources: [7]", 1, "sources[0]: found '7', expected a mapping of keys"),
        ("sources: {}", 1, "sources: found a mapping, expected a list"),
        ("sources:\n  - {name: a, files: [a]}", 2, "expected a key `format`"),
    ],
)
def test_what_is_wrong_is_refused_with_line_found_and_expected(entry: str, line: int, words: str) -> None:
    told = problems(entry)
    assert any(f"line {line}, " in problem and words in problem for problem in told), told


@pytest.mark.parametrize("name", ["milliseconds", "cost"])
def test_values_that_no_metric_reads_yet_are_no_mistake(name: str) -> None:
    # data.cost resembles data.count only in what every value begins with.
    (source,) = sources_of(
        one_source("combined", EVENT.replace("data.bytes", f"data.{name}: {{field: status}}, data.bytes"))
    )
    assert [rule.path[-1] for rule in source.values] == ["bytes", name]


def test_every_epoch_and_format_with_an_offset_needs_no_zone() -> None:
    for format in (*EPOCHS, "%Y-%m-%dT%H:%M:%S%z"):
        assert sources_of(one_source("json", EVENT.replace("field: time}", f"field: time, format: '{format}'}}")))


def test_no_value_of_any_key_ends_in_an_error_of_a_library() -> None:
    entry = yaml.safe_load(
        one_source("combined", EVENT.replace("{const: http.request}", "{field: method, map: {GET: a}}"))
    )["sources"][0] | {
        "keep": [{"field": "status", "in": [1]}],
        "set_aside_at_most": "5%",
        "last_line": "count",
        "records": "a[*]",
        "separator": ";",
        "decimal": ",",
        "thousands": ".",
        "encoding": "cp1252",
        "header": ["a"],
        "skip": 1,
        "comment": "#",
        "null": ["x"],
    }
    odd: tuple[Any, ...] = (
        None,
        7,
        True,
        "?",
        "",
        [],
        {},
        [None],
        {"a": None},
        "a[*]",
        "9" * 50,
        "\0",
        {"regex": "(?P<a>.)"},
        "csv",
    )
    for number, path in enumerate(_paths(entry)):
        for value in odd[number % 3 :: 3] if not sizes.LONG else odd:
            changed = deepcopy(entry)
            place = changed
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = value
            for source in read(yaml.safe_dump({"sources": [changed]}))[0]:
                assert len(source.digest) == 12


def _paths(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key, below in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from _paths(below, (*path, key))
