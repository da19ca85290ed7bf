"""Sources as a whole: which files they read, what they keep, and what a changed source reads again (rule 39)."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from billing.ingest.days_to_ingest import pending_days
from billing.ingest.dry_run import usage_that_would_be_set_aside
from billing.ingest.landing import delivered_files
from billing.model.codes import RejectReason
from tests.billing.ingest.raw_logs import METRICS, aliases, business, counts, one_source, sums
from tests.billing.ingest.small_business import Business, line

PATTERN = r"{regex: '^(?P<who>\S+) (?P<at>\d+) (?P<size>\S+)(?: (?P<kind>\w+))?$'}"
TIME = "time: {field: at, format: epoch_s}"
EVENT = f"id: content, type: {{const: http.request}}, subject: {{field: who}}, {TIME}, data.bytes: {{field: size}}"
FIRST = 1767261600  # 2026-01-01T10:00:00Z


def test_the_first_source_with_a_pattern_that_matches_reads_a_file_and_the_rest_is_read_as_ever(tmp_path: Path) -> None:
    text = f"""
sources:
  - {{name: edge, files: ["edge/**", "*.log"], format: {PATTERN}, event: {{{EVENT}}}}}
  - {{name: late, files: ["**/*.log", "edge/**"], format: {PATTERN}, event: {{{EVENT}}}}}
"""
    home = business(tmp_path, text)
    for number, name in enumerate(("edge/a/b.txt", "top.log", "deep/er/c.log")):
        home.deliver([f"acme {FIRST} {number}"], name=name)
    home.deliver([line(type="email.sent")], name="events.jsonl")
    home.ingest()
    named = dict(home.table("ingest").select("file", "source_name").iter_rows())
    assert named == {"edge/a/b.txt": "edge", "top.log": "edge", "deep/er/c.log": "late", "events.jsonl": None}
    assert {key: numbers[1] for key, numbers in counts(home).items()} == dict.fromkeys(named, 1)
    assert home.events()["source"].unique().sort().to_list() == ["/mail", "edge", "late"]


@pytest.mark.parametrize("folder", ["day=2026-01-02", "2026/01/02", "2026-01-02"])
def test_days_may_be_named_in_three_ways(tmp_path: Path, folder: str) -> None:
    home = business(tmp_path, one_source(PATTERN, EVENT).replace('"**"', '"edge/*.log"'))
    home.deliver([f"acme {FIRST} 5"], day=folder, name="edge/a.log")
    home.ingest()
    assert sums(home, "bandwidth") == {"acme": "5"}


def test_one_record_may_have_values_of_two_metrics(tmp_path: Path) -> None:
    home = business(tmp_path, one_source(PATTERN, EVENT))
    home.deliver([f"acme {FIRST} 5", f"acme {FIRST} 6"], name="a.log")
    home.ingest()
    assert home.events().group_by("metric").len().sort("metric").rows() == [("bandwidth", 2), ("requests", 2)]
    assert counts(home)["a.log"] == (2, 2, 0, 0, 0, 0)


def test_records_that_are_not_kept_are_ignored_and_nothing_else_is_lost(tmp_path: Path) -> None:
    home = business(
        tmp_path, one_source(PATTERN, EVENT, keep="[{field: kind, in: [ok, redo]}, {field: size, not_in: [0]}]")
    )
    home.deliver(
        [
            f"acme {FIRST} 5 ok",
            f"acme {FIRST} 5 no",
            f"acme {FIRST} 0 ok",
            f"acme {FIRST} x redo",
            f"nobody {FIRST} 1 ok",
            "cut",
            f"acme {FIRST} 5",
            f"acme {FIRST} 0.1234567891 ok",
        ],
        name="a.log",
    )
    home.ingest()
    assert counts(home)["a.log"] == (8, 2, 0, 3, 3, 1)
    assert home.reasons() == {4: "impossible_value", 5: "unknown_account", 6: "unparseable"}


def test_a_file_of_ignored_records_is_not_unreadable(tmp_path: Path) -> None:
    home = business(tmp_path, one_source(PATTERN, EVENT, keep="[{field: kind, matches: '^o'}]"))
    home.deliver([f"acme {FIRST} 5 no"], name="a.log")
    outcome = home.ingest()
    assert outcome.unreadable_files == ()
    assert (outcome.rows, outcome.ignored) == (1, 1)


def test_a_value_without_a_mapping_is_an_unknown_type_even_where_it_names_one(tmp_path: Path) -> None:
    event = EVENT.replace("{const: http.request}", "{field: kind, map: {get: http.request, mail: email.sent}}")
    home = business(tmp_path, one_source(PATTERN, event))
    home.deliver([f"acme {FIRST} 5 {kind}" for kind in ("get", "email", "x")] + [f"acme {FIRST} 5"], name="a.log")
    home.deliver([f"acme {FIRST} 5 get".replace(" get", " mail")], name="b.log")
    home.ingest()
    assert home.reasons() == {2: "unknown_type", 3: "unknown_type", 4: "missing_field", 1: "missing_field"}
    words = home.table("rejects").filter(pl.col("row") == 2)["detail"].item()
    assert words == "type (field kind): found 'email', expected one of get, mail"


def test_more_rejects_than_the_source_allows_make_the_file_unreadable(tmp_path: Path) -> None:
    lines = [f"acme {FIRST} {number}" for number in range(20)]
    text = one_source(PATTERN, EVENT, set_aside_at_most="5%")
    home = business(tmp_path, text)
    home.deliver([*lines[:19], "cut"], name="fits.log")
    home.deliver([*lines[:18], "cut", "cut"], name="beyond.log")
    # Who is unknown, too late or in conflict says nothing about the reading.
    home.deliver(
        [*(f"nobody {FIRST} {n}" for n in range(9)), f"acme {FIRST - 9_000_000} 1", *lines[:9]], name="late.log"
    )
    outcome = home.ingest()
    assert counts(home) == {
        "beyond.log": (1, 0, 0, 1, 0, 0),
        "fits.log": (20, 19, 0, 1, 0, 0),
        "late.log": (19, 0, 9, 10, 0, 0),
    }
    (unreadable,) = outcome.unreadable_files
    assert "found 2 of 20 rows set aside (10.0%), expected at most 5%" in unreadable
    found = home.table("rejects").filter(pl.col("file") == "beyond.log").select("row", "reason").rows()
    assert found == [(None, RejectReason.TOO_MANY_SET_ASIDE.value)]


def test_a_share_of_what_is_not_ignored_is_allowed(tmp_path: Path) -> None:
    home = business(tmp_path, one_source(PATTERN, EVENT, set_aside_at_most="10%", keep="[{field: kind, in: [ok]}]"))
    home.deliver(
        [*(f"acme {FIRST} {n} no" for n in range(90)), *(f"acme {FIRST} {n} ok" for n in range(8)), "x", "y"], name="a"
    )
    home.ingest()
    assert counts(home)["a"] == (1, 0, 0, 1, 0, 0)


def test_a_changed_source_reads_its_own_files_again_and_no_others(tmp_path: Path) -> None:
    text = f"""
sources:
  - {{name: one, files: ["one.*"], format: {PATTERN}, event: {{{EVENT}}}}}
  - {{name: two, files: ["two.*"], format: {PATTERN}, event: {{{EVENT}}}}}
"""
    home = business(tmp_path, text)
    for name in ("one.log", "two.log"):
        home.deliver([f"acme {FIRST} 5"], name=name)
    home.deliver([line(type="email.sent")], name="events.jsonl")
    assert home.ingest().files_read == 3
    assert home.ingest().files_read == 0
    one, two = home.sources
    home.sources = (one, replace(two, values=(replace(two.values[0], times=Decimal(10)),)))
    assert pending(home) == ["2026-01-02"]
    assert home.ingest().files_read == 1
    assert sums(home, "bandwidth") == {"acme": "55"}
    # Another pattern that matches the same files changes nothing.
    home.sources = (replace(one, files=("o*",)), home.sources[1])
    assert pending(home) == []
    assert home.ingest().files_read == 0


def pending(home: Business) -> list[str]:
    return [day.isoformat() for day in pending_days(home.home, home.rules(), through=date(2026, 12, 31))]


def test_a_source_that_is_added_or_removed_reads_its_files_again(tmp_path: Path) -> None:
    home = business(tmp_path, one_source(PATTERN, EVENT))
    sources, home.sources = home.sources, ()
    home.deliver([f"acme {FIRST} 5"], name="a.log")
    assert "none of" in home.ingest().unreadable_files[0] or home.reasons() == {None: "unreadable_file"}
    home.sources = sources
    home.ingest()
    assert sums(home, "bandwidth") == {"acme": "5"}
    home.sources = ()
    home.ingest()
    assert sums(home, "bandwidth") == {}


def test_an_archived_file_keeps_what_its_source_read(tmp_path: Path) -> None:
    home = business(tmp_path, one_source(PATTERN, EVENT))
    path = home.deliver([f"acme {FIRST} 5", "cut"], name="a.log")
    home.ingest()
    path.unlink()
    for change in (home.sources, (replace(home.sources[0], nulls=("-",)),), ()):
        home.sources = change
        home.ingest()
        assert sums(home, "bandwidth") == {"acme": "5"}
        assert home.reasons() == {2: "unparseable"}
    home.metrics = (*METRICS[:2],)
    home.ingest()
    assert sums(home, "bandwidth") == {"acme": "5"}


def test_many_small_files_of_sources_share_parsed_files(tmp_path: Path) -> None:
    home = business(tmp_path, one_source(PATTERN, EVENT).replace('"**"', '"*.log"'))
    for number in range(20):
        home.deliver([f"acme {FIRST + number} 1", f"acme {FIRST} {number + 1}"], name=f"{number:02}.log")
    for number in range(20):
        home.deliver([line(str(number), type="email.sent")], name=f"{number:02}.jsonl")
    assert home.ingest().files_read == 40
    assert sums(home, "bandwidth") == {"acme": str(20 + 210)}
    assert len(list((tmp_path / "lake" / "parsed_files").rglob("*.parquet"))) == 2
    assert home.ingest().files_read == 0


ALIASED = EVENT.replace("{field: who}", "{field: who, alias: host}")


def test_a_host_that_moves_to_another_customer_on_a_day(tmp_path: Path) -> None:
    names = aliases(
        ("host", "www.example.com", "acme", None, "2026-01-02"),
        ("host", "www.example.com", "globex", "2026-01-02", None),
    )
    home = business(tmp_path, one_source(PATTERN, ALIASED), aliases=names, time_zone="Europe/Berlin")
    # 22:59:59Z is the last second of 1 January in Berlin.
    home.deliver(
        ["www.example.com 1767308399 1", "www.example.com 1767308400 2", "www.example.org 1767308400 4"], name="a.log"
    )
    home.deliver(["www.example.com 1767308400 2"], name="b.log")
    home.ingest()
    assert sums(home, "bandwidth") == {"acme": "1", "globex": "2"}
    (reject,) = home.table("rejects").select("reason", "account_id", "detail").rows()
    assert reject[:2] == ("unknown_account", None)
    assert reject[2] == (
        "subject: found no account of the host 'www.example.org' on this day, expected one in landing/aliases.csv"
    )
    assert counts(home)["b.log"] == (1, 0, 1, 0, 0, 0)


def test_rows_are_looked_at_again_when_aliases_change_and_no_file_is_read(tmp_path: Path) -> None:
    home = business(tmp_path, one_source(PATTERN, ALIASED))
    home.deliver([f"www.example.com {FIRST} 1"], name="a.log")
    home.deliver([f"www.example.org {FIRST} 2"], name="b.log", day="2026-01-03")
    home.ingest()
    assert sums(home, "bandwidth") == {}
    home.aliases = aliases(
        ("host", "www.example.com", "acme", None, None), ("other", "www.example.org", "acme", None, None)
    )
    assert pending(home) == ["2026-01-02", "2026-01-03"]
    outcome = home.ingest()
    assert (outcome.files_read, [day.isoformat() for day in outcome.days_changed]) == (0, ["2026-01-02"])
    assert sums(home, "bandwidth") == {"acme": "1"}
    home.aliases = aliases(("host", "www.example.com", "globex", None, None))
    home.ingest()
    assert sums(home, "bandwidth") == {"globex": "1"}
    # An account that is gone, and one that comes.
    home.accounts = {"acme"}
    home.ingest()
    assert sums(home, "bandwidth") == {}
    home.accounts = {"acme", "globex"}
    home.ingest()
    assert sums(home, "bandwidth") == {"globex": "1"}
    before = home.lake()
    home.ingest()
    assert home.lake() == before


def test_an_account_id_is_no_alias(tmp_path: Path) -> None:
    home = business(tmp_path, one_source(PATTERN, ALIASED))
    home.deliver([f"acme {FIRST} 1"], name="a.log")
    home.ingest()
    assert home.reasons() == {1: "unknown_account"}


def test_check_tells_what_a_source_would_set_aside(tmp_path: Path) -> None:
    home = business(tmp_path, one_source(PATTERN, ALIASED, keep="[{field: size, not_in: ['0']}]"))
    home.deliver(["cut", f"acme {FIRST} 1", f"acme {FIRST} 0"], name="a.log")
    landing = delivered_files(home.home, None)
    for every_row in (False, True):
        lines = usage_that_would_be_set_aside(home.home, landing, home.rules(), every_row=every_row)
        assert [text.partition(" would")[0] for text in lines] == [
            "usage/2026-01-02/a.log: 1 of its 3 rows" if every_row else "usage/2026-01-02/a.log: 1 of the first 3 rows"
        ] * 2


@pytest.mark.parametrize(
    ("seconds", "is_told"),
    [
        ([36_000] * 19, False),
        ([36_000, 36_000, 36_060], False),
        ([0, 0], True),
        ([82_800, 82_800, 82_800 + 86_400], True),
    ],
)
def test_check_tells_of_times_that_are_days(tmp_path: Path, seconds: list[int], *, is_told: bool) -> None:
    home = business(tmp_path, one_source(PATTERN, EVENT))
    midnight = FIRST - 36_000
    home.deliver([f"acme {midnight + each} 5" for each in seconds], name="a.log")
    landing = delivered_files(home.home, None)
    lines = usage_that_would_be_set_aside(home.home, landing, home.rules(), every_row=True)
    assert [line for line in lines if "finer than a day" not in line] == []
    assert bool(lines) == is_told


def test_texts_of_rows_that_only_others_reject_are_found_again(tmp_path: Path) -> None:
    home = business(tmp_path, one_source(PATTERN, EVENT.replace("content", "{field: at}")))
    home.deliver([f"acme {FIRST} 1", f"acme {FIRST} 2", f"nobody {FIRST} 3"], name="a.log")
    home.ingest()
    assert dict(home.table("rejects").select("reason", "text").iter_rows()) == {
        "conflicting": f"acme {FIRST} 2",
        "unknown_account": f"nobody {FIRST} 3",
    }


def test_cloudevents_of_a_source_are_read_as_ever_and_its_rules_may_replace_members(tmp_path: Path) -> None:
    text = (
        'sources:\n  - {name: mail, files: ["*.jsonl"], format: cloudevents, event: {subject: '
        "{field: subject, alias: user}}}"
    )
    home = business(tmp_path, text, aliases=aliases(("user", "u1", "acme", None, None)))
    lines = [line("1", subject="u1"), line("2", subject="u1", specversion="2"), line("3", subject="u2"), "x"]
    home.deliver(lines, name="a.jsonl")
    home.ingest()
    assert sums(home, "emails") == {"acme": "1"}
    assert home.reasons() == {2: "missing_field", 3: "unknown_account", 4: "unparseable"}


def test_special_fields_are_the_line_the_file_the_day_and_the_row(tmp_path: Path) -> None:
    event = (
        f"id: {{fields: [$file, $row]}}, type: {{const: http.request}}, source: {{field: "
        f"$day}}, subject: {{field: who}}, {TIME}, data.bytes: {{field: size}}"
    )
    home = business(tmp_path, one_source(PATTERN, event, keep="[{field: $line, matches: 'acme'}]"))
    home.deliver([f"acme {FIRST} 1", f"nobody {FIRST} 1"], name="a/b.log")
    home.ingest()
    assert home.events().select("source", "id").unique().rows() == [("2026-01-02", "a/b.log|1")]
    assert counts(home)["a/b.log"] == (2, 1, 0, 0, 1, 0)
