"""Many small logs of a source: read together, with the result of each by itself."""

import gzip
import json
import random
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from billing.ingest import small_files
from billing.ingest.landing import DeliveredFile
from billing.ingest.metric_members import event_types
from billing.ingest.parsed_files import FileVersion, parse_delivered
from billing.store.files import file_hash
from tests.billing.ingest.raw_logs import METRICS, business, counts, one_source, sources_of, sums
from tests.sizes import sized

TIME = "time: {field: at, format: epoch_s}"
REGEX = r"{regex: '^(?P<who>\w+) (?P<at>\d+) (?P<size>\S+)(?: (?P<kind>\w+))?$'}"
VALUE = "subject: {field: who, alias: user}, data.bytes: {field: size}"
SPECIAL = "source: {field: $day}, type: {const: http.request}, subject: {field: $file}, data.bytes: {field: $row}"
SOURCES = {
    "content": one_source(REGEX, f"id: content, type: {{field: kind, map: {{ok: http.request}}}}, {TIME}, {VALUE}"),
    "position": one_source(REGEX, f"id: position, {SPECIAL}, {TIME}", keep="[{field: kind, in: [ok]}]"),
    "fields": one_source(REGEX, f"id: {{fields: [$file, $row]}}, {SPECIAL}, {TIME}", last_line="count"),
    "json": one_source("json", f"id: content, type: {{const: http.request}}, {TIME}, {VALUE}"),
    "at most": one_source(REGEX, f"id: content, {SPECIAL}, {TIME}", set_aside_at_most="100%"),
}


def content(chosen: random.Random, *, is_json: bool) -> bytes:
    def line() -> str:
        who, at, size = chosen.choice(("acme", "u1", "größe")), 1767261600 + chosen.randrange(3), chosen.randrange(3)
        kind = chosen.choice(("ok", "ok", "no", ""))
        if is_json:
            return json.dumps({"who": who, "at": at, "size": size, "kind": kind}, ensure_ascii=False)
        return f"{who} {at} {size} {kind}".rstrip()

    lines = [line() for _ in range(chosen.randrange(1, 6))]
    odd = chosen.randrange(16)
    if odd < 3:
        place = chosen.randrange(len(lines) + 1)
        lines.insert(place, ("", "cut", "  ")[odd])
    end = chosen.choice(("\n", "\n", "\n", "", "\r\n"))
    text = ("\r\n" if end == "\r\n" else "\n").join(lines) + end
    if odd == 3:
        return f"\ufeff{text}".encode()
    if odd == 4:
        return text.encode("utf-16")
    if odd == 5:
        return text.encode() + b"\xe9\n"
    return gzip.compress(text.encode()) if odd == 6 else b"" if odd == 7 else text.encode()


@pytest.mark.parametrize("seed", sized(usual=range(1), long=range(3)))
@pytest.mark.parametrize("name", SOURCES)
def test_small_logs_are_read_together_as_alone(name: str, seed: int, tmp_path: Path) -> None:
    (source,) = sources_of(SOURCES[name])
    types, chosen = event_types(METRICS), random.Random(seed)  # noqa: S311  # Test data.
    jobs = []
    for number in range(24):
        path = tmp_path / f"{number}.log"
        path.write_bytes(content(chosen, is_json=name == "json"))
        day = date(2026, 1, 2 + number % 2)
        jobs.append((FileVersion(day, path.name, file_hash(path)), DeliveredFile(day, path.name, path)))
    found = {}
    most = 0
    for part in small_files.parse_together(jobs, types, source_of=lambda _: source):
        start = 0
        most = max(most, len(part.files))
        for version, rows in part.files:
            found[version.name] = part.rows.slice(start, rows)
            start += rows
    for version, file in jobs:
        alone = pl.concat(parse_delivered(file, types, source=source))
        assert found[version.name].equals(alone), (file.path.read_bytes(), found[version.name], alone)
    assert len(found) == len(jobs)
    assert most == 1 if name == "at most" else most > 4


def test_a_day_of_small_logs_counts_as_one_log(tmp_path: Path) -> None:
    home = business(tmp_path, SOURCES["content"].replace(", alias: user", ""))
    for number in range(40):
        home.deliver([f"acme {1767261600 + number} 2 ok", "acme 1767261600 1 ok"], name=f"{number:02}.log")
    home.ingest()
    # The line that every file has is one request.
    assert sums(home, "bandwidth") == {"acme": "81"}
    assert sum(numbers[2] for numbers in counts(home).values()) == 39
