"""`overage try`: the first file works in one go, and what no source reads gets an entry to paste."""

import gzip
import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.pipeline.outside import Landing, content_of, overage

ENTRY = """
sources:
  - name: edge
    files: ["edge/*.log*"]
    format: combined
    event:
      id: content
      type: {const: bandwidth.served}
      subject: {field: user, alias: user}
      time: {field: time}
      data.bytes: {field: bytes, null_is: 0, times: 2}
    keep: [{field: status, in: [200]}]
"""
LINE = '192.0.2.1 - %s [12/Jan/2026:10:00:0%d +0000] "GET / HTTP/1.1" %d %s "-" "curl/8"'
LOG = [
    LINE % ("u1", 1, 200, "5"),
    LINE % ("u1", 2, 200, "-"),
    LINE % ("u2", 3, 200, "7"),
    LINE % ("u1", 4, 404, "9"),
    "cut",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("home")
    Landing(root).customer("acme")
    (root / "landing" / "aliases.csv").write_text("kind,alias,account_id,from,to\nuser,u1,acme,,\n")
    return root


@pytest.fixture(scope="module")
def with_source(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reader") / "home"
    shutil.copytree(home, root)
    catalogue = root / "landing" / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text() + ENTRY)
    return root


def tried(file: Path, home: Path, *arguments: str) -> dict[str, Any]:
    ended = overage("try", file, "--format", "json", "--home", home, *arguments)
    assert ended.status == 0, ended.messages
    found: dict[str, Any] = json.loads(ended.output)
    return found


def test_a_file_outside_of_the_home_is_shown_as_it_would_be_billed(with_source: Path, tmp_path: Path) -> None:
    file = tmp_path / "edge" / "a.log.gz"
    file.parent.mkdir()
    file.write_bytes(gzip.compress("".join(f"{line}\n" for line in LOG).encode()))
    before = content_of(with_source)
    found = tried(file, with_source)
    assert content_of(with_source) == before
    assert [found["source"], found["format"], found["day"]] == ["edge", "combined", None]
    first = found["events"][0]
    assert first["id"].endswith("-1")
    del first["id"]
    assert first == {
        "row": 1,
        "source": "edge",
        "type": "bandwidth.served",
        "subject": "u1",
        "account_id": "acme",
        "time": "2026-01-12T10:00:01Z",
        "data.bytes": "10",
        "from": {
            "id": "content",
            "source": "the name of the source",
            "type": "const bandwidth.served",
            "subject": "field user",
            "account_id": "alias user",
            "time": "field time",
            "data.bytes": "field bytes, times 2",
        },
    }
    assert [event["data.bytes"] for event in found["events"]] == ["10", "0"]
    assert [(each["row"], each["reason"], each["field"]) for each in found["rejects"]] == [
        (3, "unknown_account", "subject"),
        (5, "unparseable", "row"),
    ]
    assert found["rejects"][0]["found"] == "no account of the user 'u2' on this day"
    assert found["rejects"][0]["expected"] == "one in landing/aliases.csv"
    totals = found["totals"]
    assert [totals[name] for name in ("rows", "counted", "duplicates", "rejected", "ignored")] == [5, 2, 0, 2, 1]
    assert totals["sums"] == {"bandwidth": "10"}
    shown = overage("try", file, "--rows", "1", "--home", with_source)
    assert "5 rows: 2 counted, 2 rejected, 1 ignored" in shown.output
    assert "Taken from: id: content; source: the name of the source; type: const bandwidth.served" in shown.output


def test_times_are_told_to_the_nanosecond_and_in_their_order(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "home"
    shutil.copytree(home, root)
    catalogue = root / "landing" / "catalogue.yaml"
    event = "id: position, type: {const: email.sent}, subject: {const: acme}, time: {field: t, format: epoch_ns}"
    entry = (
        f"\nsources:\n  - {{name: ns, files: ['*.json'], format: json, event: {{{event}, data.count: {{const: 1}}}}}}\n"
    )
    catalogue.write_text(catalogue.read_text() + entry)
    file = tmp_path / "a.json"
    file.write_text('{"t": 1768471200000000001}\n{"t": 1768471200000000000}\n')
    found = tried(file, root)
    assert [event["time"] for event in found["events"]] == ["2026-01-15T10:00:00.000000001Z", "2026-01-15T10:00:00Z"]
    totals = found["totals"]
    assert (totals["first_time"], totals["last_time"]) == ("2026-01-15T10:00:00Z", "2026-01-15T10:00:00.000000001Z")


def test_a_delivered_file_is_tried_with_its_day(with_source: Path) -> None:
    file = with_source / "landing" / "usage" / "2025-01-12" / "edge" / "a.log"
    file.parent.mkdir(parents=True)
    file.write_text(f"{LOG[0]}\n")
    found = tried(file, with_source)
    assert (found["day"], found["reasons"]) == ("2025-01-12", {"future_dated": 1})


def test_a_source_may_be_named_and_an_unknown_one_is_refused(with_source: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.txt"
    file.write_text(f"{LOG[0]}\n")
    assert tried(file, with_source, "--source", "edge")["totals"]["counted"] == 1
    ended = overage("try", file, "--source", "egde", "--home", with_source)
    assert ended.status == 2
    assert "found 'egde', expected one of the catalogue's: edge" in ended.messages


def test_cloudevents_need_no_source(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    event = {"specversion": "1.0", "id": "1", "source": "/m", "type": "email.sent", "subject": "acme"}
    file.write_text(json.dumps(event | {"time": "2026-01-12T10:00:00Z", "data": {"count": 3}}) + "\n")
    found = tried(file, home)
    assert (found["source"], found["totals"]["sums"]) == (None, {"emails": "3"})


def parquet() -> bytes:
    file = BytesIO()
    at = pl.Series(["2026-01-12T10:00:00Z"]).str.to_datetime(time_zone="UTC")
    pl.DataFrame({"event_id": ["1"], "who": [{"name": "acme"}], "at": at, "bytes": [7]}).write_parquet(file)
    return file.getvalue()


FORMS: dict[str, tuple[bytes, str, dict[str, str]]] = {
    "access.log": ("\n".join(LOG[:2]).encode(), "combined", {"subject: {field": "user"}),
    "w3c.log": (
        b"#Fields: date time cs-username sc-bytes\n2026-01-12 10:00:00 acme 7\n",
        "w3c",
        {"subject: {field": "cs-username"},
    ),
    "zeek.log": (
        b"#separator \\x09\n#fields\tts\tuid\tuser\torig_bytes\n1768212000.5\tC1\tacme\t7\n1768212001.5\tC2\tacme\t8\n",
        "zeek",
        {"subject: {field": "user"},
    ),
    "report.csv": (
        b"event_id;customer;at;bytes\n1;acme;12.01.2026 10:00;7\n2;acme;12.01.2026 10:01;NULL\n",
        "csv",
        {"subject: {field": "customer", "zone:": "UTC"},
    ),
    "lines.json": (
        b'{"event_id": "1", "who": {"name": "acme"}, "ts": 1768212000123, "bytes": 7}\n',
        "json",
        {"subject: {field": "who.name"},
    ),
    "trail.json": (
        b'{"Records": [{"eventId": "1", "user": "acme", "eventTime": "2026-01-12T10:00:00Z", "bytes": 7}]}',
        "json",
        {"subject: {field": "user"},
    ),
    "rows.parquet": (parquet(), "parquet", {"subject: {field": "who.name"}),
}


@pytest.mark.parametrize("name", FORMS)
def test_an_entry_is_proposed_that_reads_the_file_once_its_questions_are_answered(
    home: Path, tmp_path: Path, name: str
) -> None:
    content, format, answers = FORMS[name]
    file = tmp_path / name
    file.write_bytes(content)
    proposal = tried(file, home)["proposal"]
    assert proposal["format"] == format
    shown = overage("try", file, "--home", home)
    assert proposal["entry"].strip() in shown.output
    assert "answer every ? and try again" in shown.output
    root = tmp_path / "home"
    catalogue = root / "landing" / "catalogue.yaml"
    catalogue.parent.mkdir(parents=True)
    for each in (home / "landing").iterdir():
        if each.is_file():
            (root / "landing" / each.name).write_bytes(each.read_bytes())
    written = catalogue.read_text()
    catalogue.write_text(f"{written}\n{proposal['entry']}")
    refused = overage("try", file, "--home", root)
    assert refused.status == 2
    assert "found '?'" in refused.messages
    entry = proposal["entry"].replace('id: "?"', "id: content").replace('{const: "?"}', "{const: bandwidth.served}")
    for key, answer in answers.items():
        entry = entry.replace(f'{key} "?"', f"{key} {answer}").replace(f'{key}: "?"', f"{key}: {answer}")
    entry = entry.replace("# data.bytes: {field: NAME}", "data.bytes: {field: orig_bytes}")
    entry = entry.replace(f"{answers['subject: {field']}}}", f"{answers['subject: {field']}, alias: user}}", 1)
    catalogue.write_text(f"{written}\n{entry}")
    (root / "landing" / "aliases.csv").write_text("kind,alias,account_id,from,to\nuser,u1,acme,,\nuser,acme,acme,,\n")
    found = tried(file, root)
    assert found["totals"]["counted"] >= 1, (entry, found["rejects"])
    assert int(found["totals"]["sums"]["bandwidth"]) >= 5


def test_what_is_of_no_known_form_is_told_with_an_example(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "odd.txt"
    file.write_text("one thing or\nanother\n")
    proposal = tried(file, home)["proposal"]
    assert proposal["format"] == "{regex: '?'}"
    assert "such as 'one thing or'" in proposal["found"]
    empty = tmp_path / "empty.txt"
    empty.touch()
    assert overage("try", empty, "--home", home).status == 2
    assert overage("try", tmp_path / "none", "--home", home).status == 2


def test_a_log_is_looked_at_before_there_is_a_home(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    file.write_text(f"{LOG[0]}\n")
    ended = overage("try", file, "--home", tmp_path / "none")
    assert ended.status == 0
    assert "is no billing home yet: `overage init` writes one" in ended.output
    assert "format: combined" in ended.output
    assert not (tmp_path / "none").exists()


def test_an_unreadable_file_is_told_and_ends_with_one(with_source: Path, tmp_path: Path) -> None:
    file = tmp_path / "edge" / "cut.log.gz"
    file.parent.mkdir()
    file.write_bytes(gzip.compress(f"{LOG[0]}\n".encode())[:-9])
    ended = overage("try", file, "--home", with_source)
    assert ended.status == 1
    assert "nothing of this file would count" in ended.messages
