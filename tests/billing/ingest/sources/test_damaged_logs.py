"""Damage to a log costs the records that it hits, and never ends in an error of a library."""

import json
import random
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from billing.ingest.formats.compression import UnreadableFileError
from billing.ingest.landing import DeliveredFile
from billing.ingest.metric_members import event_types
from billing.ingest.parsed_files import parse_delivered
from tests.billing.ingest.raw_logs import METRICS, one_source, sources_of
from tests.sizes import sized

REQUEST = "type: {const: http.request}, subject: {const: acme}"
ACCESS = 'h - acme [01/Jan/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 5 "-" "x"\n'
ALB = (
    "http 2026-01-01T10:00:00.1Z elb 192.0.2.1:1 10.0.0.1:2 0.1 0.1 0.1 200 200 34 366 " + '"GET / HTTP/1.1" "c" - -\n'
)
EMAIL = "type: {const: email.sent}, subject: {field: who}"
FORMATS = {
    "combined": (f"id: content, {REQUEST}, time: {{field: time}}, data.bytes: {{field: bytes}}", {}, ACCESS * 4),
    "alb": (f"id: content, {REQUEST}, time: {{field: time}}, data.bytes: {{field: sent_bytes}}", {}, ALB * 3),
    "w3c": (
        f"id: {{fields: [x, $row]}}, {REQUEST}, time: {{field: time}}, data.bytes: {{field: sc-bytes}}",
        {},
        (
            "#Fields: date time x sc-bytes\n2026-01-01 10:00:00 a 5\n#Fields: sc-bytes x date "
            "time\n7 b 2026-01-01 10:00:00\n"
        ),
    ),
    "zeek": (
        f"id: {{field: uid}}, {REQUEST}, data.bytes: {{field: b}}",
        {},
        "#separator \\x09\n#unset_field\t-\n#fields\tts\tuid\tb\n1767261600.1\tC1\t10\n1767261600.1\tC2\t-\n",
    ),
    "csv": (
        f"id: {{field: n}}, {EMAIL}, time: {{field: at, zone: Europe/Berlin}}, data.count: {{field: size, times: 3}}",
        {"separator": '";"', "decimal": '","', "thousands": '"."', "comment": '"#"'},
        'n;who;at;size\n1;acme;2026-01-01 10:00:00;1.234,5\n2;acme;"2026-01-01\n10:00:00";"1"\n# x\n3;a;2026-01-01;7\n',
    ),
    "json": (
        f"id: {{field: 'a[0].id'}}, {EMAIL}, time: {{field: at, format: epoch_ms}}, data.count: {{field: n}}",
        {},
        "".join(json.dumps({"a": [{"id": n}], "who": "acme", "at": 1767261600000, "n": n}) + "\n" for n in range(4)),
    ),
    "json of records": (
        f"id: {{field: id}}, {EMAIL}, time: {{field: at, format: epoch_ms}}, data.count: {{field: n}}",
        {"records": '"R[*].S[*]"'},
        "".join(json.dumps({"who": "a", "R": [{"S": [{"id": n, "at": 1767261600000}]}]}) + "\n" for n in range(4)),
    ),
}
ODD = ['"', "\\", "\n", "\r", "\t", " ", "\0", "{", "}", "[", "]", "#", "#Fields: a b\n", "é", "\ufeff", "-", ";", ","]
ODD += ["9" * 30, "1e5", "null", "\x85", "\u2028", '"\n"', "#fields\ta\n"]


@pytest.mark.parametrize("name", FORMATS)
def test_no_damage_ends_in_an_error_of_a_library(name: str, tmp_path: Path) -> None:
    event, keys, text = FORMATS[name]
    (source,) = sources_of(one_source(name.split()[0], event, **keys))
    file = DeliveredFile(date(2026, 1, 2), "f", tmp_path / "f")
    chosen = random.Random(name)  # noqa: S311  # Test data.
    for _ in range(sized(usual=12, long=500)):
        pieces = list(text)
        for _ in range(chosen.randrange(1, 6)):
            place = chosen.randrange(len(pieces) + 1)
            pieces[place : place + chosen.choice((0, 0, 1, 8))] = chosen.choice(([], list(chosen.choice(ODD))))
        content = "".join(pieces).encode()
        cut = chosen.randrange(len(content) + 1)
        file.path.write_bytes(content[:cut] + chosen.choice((b"", b"", b"\xe9")) + content[cut:])
        try:
            rows = pl.concat(parse_delivered(file, event_types(METRICS), source=source))
        except UnreadableFileError as error:
            assert "cannot be read (" not in str(error), (str(error), file.path.read_bytes())
        else:
            assert rows["row"].is_sorted()
            assert rows["row"].n_unique() == len(rows)
