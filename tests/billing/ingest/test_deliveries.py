"""Deliveries that come late, twice, in another order, that change or vanish (rules 22, 26, 27)."""

import gzip
import json
import os
import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from billing.ingest import (
    accounts_of_events,
    day_tables,
    deliveries,
    event_files,
    events,
    events_digest,
    parsed_deliveries,
    parsed_files,
    planning,
    scan_event_parts,
    scan_events,
    stages,
    state,
)
from billing.ingest.formats import delivered_bytes, json_events
from billing.ingest.formats.delivered_bytes import line_blocks
from billing.ingest.parsed_rows import PARSED
from billing.ingest.state import DayState
from billing.ingest.validation import Rules
from billing.model.errors import InterruptedRunError
from billing.store import frames, parquet_writer
from billing.store.files import SCRATCH_PREFIX, write_file
from billing.store.home import Home
from tests.billing.ingest.small_business import METRICS, Business, event, line, metric
from tests.sizes import sized, spread

NewBusiness = Callable[[str], Business]


def read_small_blocks(patch: pytest.MonkeyPatch) -> None:
    """Let delivered files be read a few lines at a time."""
    patch.setattr(delivered_bytes, "_PIECE", 600)
    patch.setattr(json_events, "line_blocks", partial(line_blocks, size=600))


class TestReasons:
    @pytest.mark.parametrize("member", ["id", "source", "type", "subject", "time", "data", "specversion"])
    @pytest.mark.parametrize("content", [None, ""])
    def test_a_missing_or_empty_member_is_a_missing_field(
        self, business: Business, member: str, content: str | None
    ) -> None:
        business.deliver([json.dumps(event() | {member: content}), line("2")])
        assert (business.ingest().counted, business.reasons()) == (1, {1: "missing_field"})

    @pytest.mark.parametrize(
        "data", [{}, {"count": None}, {"count": ""}, {"count": [1]}, {"count": {"a": 1}}, 7, "x", []]
    )
    def test_an_event_without_its_value_misses_a_field(self, business: Business, data: dict[str, int] | int) -> None:
        business.deliver([line("1", data=data), line("2")])
        assert (business.ingest().counted, business.reasons()) == (1, {1: "missing_field"})

    def test_counting_metrics_need_no_value(self, business: Business) -> None:
        business.deliver(line(type="login", data=None))
        business.ingest()
        assert business.events().select("metric", "value").rows() == [("logins", None)]

    def test_unique_metrics_keep_what_they_tell_apart(self, business: Business) -> None:
        business.deliver(
            [line("1", type="page.viewed", data={"visitor": "v1"}), line("2", type="page.viewed", data={"visitor": 7})]
        )
        business.ingest()
        assert business.events().select("value", "member").rows() == [(None, "v1"), (None, "7")]

    def test_a_gauge_may_fall_but_a_counter_may_not(self, business: Business) -> None:
        business.deliver([line("1", type="leads.changed", data={"delta": -2}), line("2", data={"count": -2})])
        business.ingest()
        assert business.events()["value"].to_list() == [Decimal(-2)]
        assert business.reasons() == {2: "impossible_value"}

    @pytest.mark.parametrize(
        ("time", "reason"),
        [
            ("2026-01-01T12:00:00", "time_without_zone"),
            ("2026-01-01 12:00", "time_without_zone"),
            ("2026-01-01", "time_without_zone"),
            ("2026-02-30T12:00:00Z", "invalid_time"),
            ("2026-01-01T24:00:00Z", "invalid_time"),
            ("2026-01-01T12:60:00Z", "invalid_time"),
            ("1969-12-31T23:59:59Z", "invalid_time"),
            ("1600-01-01T00:00:00Z", "invalid_time"),
            ("2300-01-01T00:00:00Z", "invalid_time"),
            ("20260101T120000Z", "invalid_time"),
            ("yesterday", "invalid_time"),
            (1767268800, "invalid_time"),
            ("2026-01-01T12:00:00+25:00", "invalid_time"),
        ],
    )
    def test_a_time_must_be_an_instant(self, business: Business, time: str | int, reason: str) -> None:
        business.deliver([line("1", time=time), line("2")])
        assert (business.ingest().counted, business.reasons()) == (1, {1: reason})

    @pytest.mark.parametrize(
        ("time", "nanoseconds"),
        [
            ("2026-01-01T12:00:00Z", 0),
            ("2026-01-01t12:00:00z", 0),
            ("2026-01-01 12:00:00Z", 0),
            ("2026-01-01T14:00:00+02:00", 0),
            ("2026-01-01T06:30:00-05:30", 0),
            ("2026-01-01T12:00:00-00:00", 0),
            ("2026-01-01T12:00:00.123456789Z", 123456789),
            ("2026-01-01T12:00:00.1234567899999Z", 123456789),
            ("2026-01-01T11:59:60.5Z", 500000000),
        ],
    )
    def test_instants_are_exact_to_the_nanosecond(self, business: Business, time: str, nanoseconds: int) -> None:
        business.deliver(line(time=time))
        business.ingest()
        assert business.events()["time"].to_physical().to_list() == [1767268800 * 10**9 + nanoseconds]

    def test_unknown_accounts_and_types_are_set_aside(self, business: Business) -> None:
        business.deliver(
            [line("1", subject="nobody"), line("2", type="nothing"), line("3", subject="nobody", type="nothing")]
        )
        business.ingest()
        assert business.reasons() == {1: "unknown_account", 2: "unknown_type", 3: "unknown_account"}

    @pytest.mark.parametrize(
        ("zone", "first", "last"),
        [
            ("UTC", "2025-10-04T00:00:00Z", "2026-01-03T23:59:59.999999999Z"),
            ("America/New_York", "2025-10-04T04:00:00Z", "2026-01-04T04:59:59.999999999Z"),
            ("Asia/Tokyo", "2025-10-03T15:00:00Z", "2026-01-03T14:59:59.999999999Z"),
        ],
    )
    def test_dates_are_those_of_the_billing_time_zone(
        self, business: Business, zone: str, first: str, last: str
    ) -> None:
        business.time_zone = zone
        moment = pl.Series([first, last]).str.to_datetime(time_unit="ns", time_zone="UTC").to_physical()
        texts = [
            pl.Series([value]).cast(pl.Datetime("ns", "UTC")).dt.strftime("%Y-%m-%dT%H:%M:%S%.9fZ")[0]
            for value in (moment[0] - 1, moment[0], moment[1], moment[1] + 1)
        ]
        business.deliver([line(str(number), time=text) for number, text in enumerate(texts)])
        business.ingest()
        assert business.reasons() == {1: "too_late", 4: "future_dated"}

    def test_the_first_reason_in_the_order_of_the_rules_is_given(self, business: Business) -> None:
        business.deliver(
            [
                line("", subject="nobody", data={"count": -1}, time="x"),
                line("1", subject="nobody", data={"count": -1}, time="x"),
                line("1", subject="nobody", time="x"),
                line("1", subject="nobody", type="nothing", time="2020-01-01T00:00:00Z"),
                line("1", type="nothing", time="2020-01-01T00:00:00Z"),
            ]
        )
        business.ingest()
        assert list(business.reasons().values()) == [
            "missing_field",
            "impossible_value",
            "invalid_time",
            "unknown_account",
            "unknown_type",
        ]

    def test_a_reject_says_as_much_as_is_known(self, business: Business) -> None:
        text = line("7", type="bandwidth.served", data={"bytes": 1_500_000_000}, time="2020-01-01T00:00:00Z")
        business.deliver(text)
        business.ingest()
        assert business.table("rejects").rows(named=True) == [
            {
                "delivery_day": date(2026, 1, 2),
                "file": "a.jsonl",
                "row": 1,
                "reason": "too_late",
                "text": text,
                "source": "/mail",
                "id": "7",
                "account_id": "acme",
                "metric": "bandwidth",
                "quantity": Decimal("1.5"),
                "detail": "time: found '2020-01-01T00:00:00Z', expected 2025-10-04 or later, 90 days before the "
                "delivery",
            }
        ]

    def test_card_numbers_are_masked_in_every_column_of_what_is_set_aside(self, business: Business) -> None:
        card = "4111 1111 1111 1111"
        business.deliver([line("1", subject="nobody", note=card), "broken " + card, line("4111111111111111")])
        business.deliver([line(card, source=card, subject=card, type=card)], name="b.jsonl")
        business.deliver([line("4111.1111.1111.1111", time="4111/1111/1111/1111")], name="c.jsonl")
        business.ingest()
        rejects = business.table("rejects")
        assert len(rejects) == 4
        shown = " ".join(text for text in rejects.select(pl.col(pl.String)).unpivot()["value"] if text is not None)
        assert re.search(r"4111.?1111", shown) is None
        assert (
            rejects.filter(file="b.jsonl").select("id", "source", "account_id").row(0) == ("**** **** **** 1111",) * 3
        )
        assert rejects.filter(file="c.jsonl")["detail"].str.contains("****/****/****/1111", literal=True).all()
        # what counts is looked at by nobody
        assert business.events()["id"].to_list() == ["4111111111111111"]

    def test_every_reason_says_which_field_what_was_found_and_what_was_expected(self, business: Business) -> None:
        rows = [
            (line("1", specversion="0.3"), "specversion: found '0.3', expected '1.0'"),
            (line("2", subject=None), "subject: found nothing, expected an account id"),
            (line("3", time=None), "time: found nothing, expected an instant such as 2026-01-31T12:00:00Z"),
            (line("4", data={}), "data.count: found nothing, expected a decimal number not below zero, of at most 18"),
            (line("5", data={"count": -2}), "data.count: found '-2', expected a decimal number not below zero"),
            (line("6", time="2026-01-01 12:00:00"), "time: found '2026-01-01 12:00:00', expected an offset after it"),
            (
                line("7", time="noon"),
                "time: found 'noon', expected an instant such as 2026-01-31T12:00:00Z of the years",
            ),
            (line("8", subject="nobody"), "subject: found 'nobody', expected the id of a known account"),
            (line("9", type="fax.sent"), "type: found 'fax.sent', expected one of the event types bandwidth.served, "),
            (
                line("10", time="2026-01-04T00:00:00Z"),
                "time: found '2026-01-04T00:00:00Z', expected a day no later than",
            ),
            (
                line("11", time="2020-01-01T00:00:00Z"),
                "time: found '2020-01-01T00:00:00Z', expected 2025-10-04 or later",
            ),
            (line("12") + "x", "row: found no JSON (Extra data at character 149), expected one JSON object"),
            ("[7]", "row: found JSON that is no object, expected one JSON object"),
            (line("a\tb"), "id: found 'a\ufffdb', expected no control characters"),
        ]
        business.deliver([text for text, _ in rows])
        business.deliver([line("13"), line("13", data={"count": 2})], name="b.jsonl")
        business.ingest()
        rejects = business.table("rejects").sort("file", "row")
        details = rejects["detail"].to_list()
        for detail, (_, words) in zip(details, rows, strict=False):
            assert detail.startswith(words)
        assert details[-1].startswith("id: found '13' again with other content, expected the same account, type, time")
        assert rejects["detail"].str.contains(r"^[a-z_.]+: found .+, expected .+").all()

    def test_details_that_an_earlier_version_did_not_keep_are_none(self, business: Business) -> None:
        business.deliver([line("1", data={}), line("2", subject="nobody")])
        business.ingest()
        (parsed,) = business.home.lake.glob("parsed_files/*/*.parquet")
        rows = pl.read_parquet(parsed)
        rows.drop("detail").write_parquet(parsed, metadata=pl.read_parquet_metadata(parsed))
        business.lateness_days = 80  # every day is derived anew
        business.ingest()
        assert business.reasons() == {1: "missing_field", 2: "unknown_account"}
        assert [detail is None for detail in business.table("rejects")["detail"]] == [True, False]

    def test_a_row_is_valid_where_it_has_no_reason(self) -> None:
        instants = pl.Series("time", [None, "2025-10-03", "2025-10-04", "2026-01-03", "2026-01-04"]).str.to_datetime(
            "%Y-%m-%d", time_unit="ns", time_zone="UTC"
        )
        cases = instants.to_frame()
        for name, values in {
            "subject": [None, "acme", "nobody"],
            "type": [None, "login", "unheard"],
            "reason": [None, "unparseable"],
        }.items():
            cases = cases.join(pl.DataFrame({name: values}), how="cross")
        rows = cases.select(
            pl.col(name) if name in cases.columns else pl.lit(None, dtype).alias(name) for name, dtype in PARSED.items()
        )
        rules = Rules.of(METRICS, pl.Series(["acme"]), "UTC", 90)
        for count in (len(rows), 0):
            found = rows.select(
                reason=rules.reason(date(2026, 1, 2), count), valid=rules.is_valid(date(2026, 1, 2), count)
            )
            assert found["valid"].to_list() == [reason is None for reason in found["reason"]]
            assert set(found["reason"]) == {
                None,
                "unparseable",
                "unknown_account",
                "unknown_type",
                "future_dated",
                "too_late",
            }


class TestIdentity:
    def test_an_event_delivered_again_counts_once_and_first(self, business: Business) -> None:
        business.deliver([line("1"), line("1")], day="2026-01-03")
        business.deliver(line("1"), day="2026-01-02", name="b.jsonl")
        business.deliver(line("1", time="2026-01-01T13:00:00+01:00"), day="2026-01-02", name="c.jsonl")
        outcome = business.ingest()
        assert (outcome.rows, outcome.counted, outcome.duplicates) == (4, 1, 3)
        assert business.events().select("delivery_day", "file", "row", "repeats").rows() == [
            (date(2026, 1, 2), "b.jsonl", 1, 3)
        ]

    @pytest.mark.parametrize(
        "other", [{"subject": "globex"}, {"type": "login"}, {"data": {"count": 2}}, {"time": "2026-01-01T12:00:01Z"}]
    )
    def test_other_content_under_the_same_identity_is_set_aside(
        self, business: Business, other: dict[str, str]
    ) -> None:
        business.deliver([line("1"), line("1", **other), line("1", data={"count": "1.0"})])
        outcome = business.ingest()
        assert (outcome.counted, outcome.duplicates, business.reasons()) == (1, 1, {2: "conflicting"})
        assert business.table("rejects")["text"].to_list() == [line("1", **other)]

    def test_the_same_id_of_another_source_is_another_event(self, business: Business) -> None:
        business.deliver([line("1"), line("1", source="/other")])
        assert business.ingest().counted == 2

    def test_only_rows_that_could_count_take_part(self, business: Business) -> None:
        business.deliver([line("1", subject="nobody"), line("1")])
        outcome = business.ingest()
        assert (outcome.counted, business.reasons()) == (1, {1: "unknown_account"})

    def test_an_event_may_be_measured_by_several_metrics_and_is_one_row(self, business: Business) -> None:
        business.metrics = (*METRICS, metric("sendings", "email.sent", None, measure="count"))
        business.deliver([line("1", data={"count": 5}), line("1", data={"count": 5})])
        outcome = business.ingest()
        assert (outcome.rows, outcome.counted, outcome.duplicates) == (2, 1, 1)
        assert business.events().select("metric", "value").rows() == [("emails", Decimal(5)), ("sendings", None)]


def some_deliveries(seed: int) -> list[tuple[str, str, list[str]]]:
    """Files with redeliveries, conflicts and bad rows across days."""
    chance = random.Random(seed)  # noqa: S311  # not for secrets
    files = []
    for day in ("2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02"):
        for name in ("a.jsonl", "b.jsonl"):
            rows = []
            for _ in range(chance.randint(0, 12)):
                subject = chance.choice(["acme", "globex", "nobody"])
                time = chance.choice(
                    ["2026-01-29T00:00:00Z", "2026-02-01T01:00:00+02:00", "2025-01-01T00:00:00Z", "bad"]
                )
                data = {"count": chance.randint(-1, 2)}
                rows.append(line(str(chance.randint(1, 9)), subject=subject, time=time, data=data))
            files.append((day, name, rows + chance.choice([[], ["garbage"], [""]])))
    return files


class TestOrder:
    @pytest.mark.parametrize("seed", sized(usual=range(1), long=range(8)))
    def test_the_lake_is_the_same_however_deliveries_are_batched_and_ordered(
        self, new_business: NewBusiness, seed: int
    ) -> None:
        files = some_deliveries(seed)
        once, daily, shuffled = (new_business(name) for name in ("once", "daily", "shuffled"))
        for day, name, rows in files:
            once.deliver(rows, day, name)
            daily.deliver(rows, day, name)
        for day in sorted({day for day, _, _ in files}):
            daily.ingest(through=date.fromisoformat(day))
        order = random.Random(seed).sample(files, len(files))  # noqa: S311  # not for secrets
        for place, (day, name, rows) in enumerate(order, start=1):
            shuffled.deliver(rows, day, name)
            if place % sized(usual=2, long=1) == 0:
                shuffled.ingest()
        outcome = once.ingest()
        assert outcome.rows == outcome.counted + outcome.duplicates + outcome.rejected
        assert outcome.rows == sum(text != "" for _, _, rows in files for text in rows)
        assert once.lake() == daily.lake() == shuffled.lake()
        assert once.ingest().counted == daily.ingest().counted == shuffled.ingest().counted

    @pytest.mark.parametrize("seed", sized(usual=range(2), long=range(4)))
    def test_the_lake_is_the_same_however_much_of_it_is_worked_on_at_a_time(
        self, new_business: NewBusiness, monkeypatch: pytest.MonkeyPatch, seed: int
    ) -> None:
        whole, pieces = new_business("whole"), new_business("pieces")
        for day, name, rows in some_deliveries(seed):
            whole.deliver(rows, day, name)
            pieces.deliver(rows, day, name)
        whole.ingest()
        worked: set[int] = set()
        original = day_tables.write_day

        def write_day(*arguments: Any, **named: Any) -> DayState:  # passed on as they are
            worked.add(threading.get_ident())
            return original(*arguments, **named)

        monkeypatch.setattr(stages, "write_day", write_day)
        monkeypatch.setattr(deliveries, "_WORTH_SHARING", 0)
        monkeypatch.setattr(parsed_deliveries, "_VALIDATION_BATCH", 5)
        monkeypatch.setattr(day_tables, "_HELD_TOGETHER", 3)
        read_small_blocks(monkeypatch)
        pieces.ingest()
        assert threading.get_ident() not in worked
        assert whole.lake() == pieces.lake()

    @pytest.mark.parametrize("seed", sized(usual=range(1), long=range(4)))
    def test_splitting_a_day_into_files_changes_no_count(self, new_business: NewBusiness, seed: int) -> None:
        whole, split = new_business("whole"), new_business("split")
        for day, name, rows in some_deliveries(seed):
            whole.deliver(rows, day, name)
            for number, text in enumerate(rows):
                split.deliver([text], day, f"{name}-{number:03d}.jsonl")
        one, other = whole.ingest(), split.ingest()
        assert (one.rows, one.counted, one.duplicates, one.rejected) == (
            other.rows,
            other.counted,
            other.duplicates,
            other.rejected,
        )
        told = ["account_id", "metric", "time", "value", "source", "id", "repeats"]
        assert whole.events().select(told).equals(split.events().select(told))

    @pytest.mark.parametrize("seed", sized(usual=range(2), long=range(4)))
    def test_a_changed_past_gives_the_lake_it_would_have_given_from_the_start(
        self, new_business: NewBusiness, seed: int
    ) -> None:
        moved, fresh = new_business("moved"), new_business("fresh")
        before, after = some_deliveries(seed), some_deliveries(seed + 100)
        for day, name, rows in before:
            moved.deliver(rows, day, name)
        moved.ingest()
        for number, (day, name, rows) in enumerate(before):
            kept = after[number][2] if number % 3 == 0 else rows
            moved.deliver(kept, day, name)
            fresh.deliver(kept, day, name)
        moved.ingest()
        fresh.ingest()
        assert moved.lake() == fresh.lake()


class TestLandingIsTheTruth:
    def test_a_second_call_on_unchanged_input_writes_nothing(self, business: Business) -> None:
        business.deliver([line("1"), "garbage"])
        business.ingest()
        before = {path: path.stat().st_mtime_ns for path in business.home.lake.rglob("*") if path.is_file()}
        outcome = business.ingest()
        assert (outcome.days_changed, outcome.files_read, outcome.files_skipped, outcome.counted) == ((), 0, 1, 1)
        assert {path: path.stat().st_mtime_ns for path in business.home.lake.rglob("*") if path.is_file()} == before

    def test_files_known_for_long_are_not_even_hashed_again(
        self, business: Business, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        business.deliver(line("1"))
        business.ingest()
        far = business.home.lake.joinpath("ingest_state.json")
        os.utime(far, ns=(far.stat().st_atime_ns, far.stat().st_mtime_ns + 10**10))
        monkeypatch.setattr(planning, "file_hash", lambda path: pytest.fail(f"{path} was hashed"))
        assert business.ingest().counted == 1

    def test_changed_bytes_are_ingested_again_with_a_warning_that_names_the_file(self, business: Business) -> None:
        business.deliver([line("1"), line("2")])
        business.ingest()
        business.deliver([line("2"), line("3", data={"count": 9})])
        outcome = business.ingest()
        assert len(outcome.warnings) == 1 and "usage/2026-01-02/a.jsonl" in outcome.warnings[0]
        assert business.events().select("id", "row").rows() == [("2", 1), ("3", 2)]
        assert business.ingest().warnings == ()

    def test_a_vanished_file_changes_nothing(self, business: Business) -> None:
        path = business.deliver([line("1"), line("2", subject="nobody"), "garbage"])
        business.ingest()
        before = business.lake()
        path.unlink()
        outcome = business.ingest()
        assert (outcome.days_changed, outcome.warnings, outcome.counted) == ((), (), 1)
        path.parent.rmdir()
        business.ingest()
        assert business.lake() == before

    def test_a_vanished_file_that_returns_is_the_same_delivery(self, business: Business) -> None:
        path = business.deliver(line("1"))
        business.ingest()
        path.unlink()
        business.ingest()
        business.deliver(line("1"))
        outcome = business.ingest()
        assert (outcome.days_changed, outcome.files_read, outcome.warnings) == ((), 0, ())

    def test_a_vanished_file_that_returns_changed_is_a_changed_file(self, business: Business) -> None:
        path = business.deliver(line("1"))
        business.ingest()
        path.unlink()
        business.ingest()
        business.deliver(line("2"))
        assert len(business.ingest().warnings) == 1
        assert business.events()["id"].to_list() == ["2"]

    def test_an_empty_file_withdraws_a_delivery(self, business: Business) -> None:
        business.deliver([line("1"), "garbage"], day="2026-01-02")
        business.deliver(line("1"), day="2026-01-03")
        business.ingest()
        business.deliver(b"", day="2026-01-02")
        outcome = business.ingest()
        assert (outcome.rows, outcome.counted, outcome.rejected) == (1, 1, 0)
        assert business.events().select("delivery_day", "repeats").rows() == [(date(2026, 1, 3), 0)]
        assert len(business.table("rejects")) == 0

    def test_an_event_counts_from_its_next_delivery_when_the_first_is_withdrawn(self, business: Business) -> None:
        for day in ("2026-01-02", "2026-01-03", "2026-01-04"):
            business.deliver(line("1"), day=day)
        business.ingest()
        business.deliver(b"", day="2026-01-02")
        outcome = business.ingest()
        assert outcome.days_changed == (date(2026, 1, 2), date(2026, 1, 3))
        assert business.events().select("delivery_day", "repeats").rows() == [(date(2026, 1, 3), 1)]

    def test_a_redelivery_writes_the_repeats_of_the_first_day_and_nothing_else_of_it(
        self, business: Business, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written: list[date] = []
        original = day_tables.write_day

        def write_day(home: Home, *, day: date, **others: Any) -> DayState:
            written.append(day)
            return original(home, day=day, **others)

        monkeypatch.setattr(stages, "write_day", write_day)
        first, second = date(2026, 1, 2), date(2026, 1, 3)
        business.deliver([line("1"), line("2")], day="2026-01-02")
        business.ingest()
        business.deliver([line("1"), line("2", data={"count": 2})], day="2026-01-03")
        outcome = business.ingest()
        assert (outcome.counted, outcome.duplicates, outcome.rejected) == (2, 1, 1)
        assert outcome.days_changed == (first, second)
        assert written == [first, second]
        assert business.events()["repeats"].to_list() == [1, 0]
        business.deliver(b"", day="2026-01-03")
        assert business.ingest().days_changed == (first, second)
        assert written == [first, second, second]
        assert business.events()["repeats"].to_list() == [0, 0]

    def test_vanished_rows_still_take_part_in_identity(self, business: Business) -> None:
        path = business.deliver(line("1"))
        business.ingest()
        path.unlink()
        business.deliver([line("1"), line("1", data={"count": 2})], day="2026-01-03")
        outcome = business.ingest()
        assert (outcome.counted, outcome.duplicates, outcome.rejected) == (1, 1, 1)

    def test_later_deliveries_are_not_looked_at_before_their_day_but_stay_when_they_were(
        self, business: Business
    ) -> None:
        business.deliver(line("1"), day="2026-01-02")
        business.deliver(line("2"), day="2026-01-05")
        assert business.ingest(through=date(2026, 1, 4)).counted == 1
        assert business.ingest().counted == 2
        assert business.ingest(through=date(2026, 1, 4)).days_changed == ()
        assert scan_events(business.home, ["2026-01"], date(2026, 1, 4)).collect()["id"].to_list() == ["1"]

    def test_no_landing_at_all_is_no_usage(self, business: Business) -> None:
        outcome = business.ingest()
        assert (outcome.rows, outcome.days_changed, outcome.unreadable_files) == (0, (), ())


class TestAccountsAndCatalogue:
    @pytest.mark.parametrize("vanished", [False, True])
    def test_rows_of_an_account_count_when_it_becomes_known(self, business: Business, vanished: bool) -> None:
        path = business.deliver([line("1", subject="newcomer"), line("2")])
        business.ingest()
        if vanished:
            path.unlink()
        business.accounts.add("newcomer")
        outcome = business.ingest()
        assert (outcome.counted, outcome.files_read, len(business.table("rejects"))) == (2, 0, 0)

    @pytest.mark.parametrize("vanished", [False, True])
    def test_rows_of_an_account_are_set_aside_when_it_is_removed(self, business: Business, vanished: bool) -> None:
        path = business.deliver([line("1"), line("2", subject="globex")])
        business.ingest()
        if vanished:
            path.unlink()
        business.accounts.remove("globex")
        outcome = business.ingest()
        assert (outcome.counted, business.reasons()) == (1, {2: "unknown_account"})
        assert "globex" in business.table("rejects")["text"][0]

    def test_accounts_without_rows_change_no_day(self, business: Business) -> None:
        business.deliver(line("1"))
        business.ingest()
        business.accounts.add("initech")
        assert business.ingest().days_changed == ()
        business.deliver(line("2", subject="initech"), day="2026-01-03")
        assert business.ingest().counted == 2

    @pytest.mark.parametrize("vanished", [False, True])
    def test_rows_of_a_type_count_when_the_catalogue_comes_to_know_it(self, business: Business, vanished: bool) -> None:
        path = business.deliver([line("1", type="sms.sent", data={"parts": 3}), line("2"), line("3", type="sms.sent")])
        business.ingest()
        assert business.reasons() == {1: "unknown_type", 3: "unknown_type"}
        if vanished:
            path.unlink()
        business.metrics = (*METRICS, metric("sms", "sms.sent", "data.parts"))
        outcome = business.ingest()
        assert (outcome.counted, business.reasons()) == (2, {3: "missing_field"})
        assert business.events().select("metric", "value").rows() == [("emails", Decimal(1)), ("sms", Decimal(3))]

    @pytest.mark.parametrize("vanished", [False, True])
    def test_flat_rows_of_a_type_count_when_the_catalogue_comes_to_know_it(
        self, business: Business, vanished: bool
    ) -> None:
        rows = [
            "id,source,type,subject,time,value",
            "1,/sms,sms.sent,acme,2026-01-01T00:00:00Z,3",
            "2,/sms,sms.sent,acme,2026-01-01T00:00:00Z,-3",
        ]
        path = business.deliver(rows, name="a.csv")
        business.ingest()
        if vanished:
            path.unlink()
        business.metrics = (*METRICS, metric("sms", "sms.sent", "data.parts"))
        assert (business.ingest().counted, business.reasons()) == (1, {2: "impossible_value"})

    def test_a_vanished_file_that_returns_gives_a_new_metric_all_it_measures(self, business: Business) -> None:
        content = line("1", data={"count": 2, "size": 7})
        path = business.deliver(content)
        business.ingest()
        path.unlink()
        business.metrics = (*METRICS, metric("sizes", "email.sent", "data.size"))
        business.ingest()
        business.deliver(content)
        assert business.ingest().warnings == ()
        assert business.events().select("metric", "value").rows() == [("emails", Decimal(2)), ("sizes", Decimal(7))]

    def test_masking_a_kept_text_does_not_change_the_event_it_stands_for(self, business: Business) -> None:
        card = "4111111111111111"
        path = business.deliver(line(card, type="sms.sent", data={"parts": 3, "note": card}))
        business.ingest()
        path.unlink()
        business.metrics = (*METRICS, metric("sms", "sms.sent", "data.parts"))
        business.ingest()
        assert business.events().select("id", "value").rows() == [(card, Decimal(3))]

    def test_a_type_that_is_known_no_more_sets_its_rows_aside(self, business: Business) -> None:
        business.deliver([line("1"), line("2", type="login", data=None)])
        business.ingest()
        business.metrics = METRICS[:3]
        assert (business.ingest().counted, business.reasons()) == (1, {2: "unknown_type"})

    def test_a_metric_added_to_a_type_does_not_uncount_what_has_vanished(self, business: Business) -> None:
        path = business.deliver(line("1", data={"count": 2, "size": 7}))
        business.ingest()
        path.unlink()
        business.metrics = (*METRICS, metric("sizes", "email.sent", "data.size"))
        business.ingest()
        assert business.events().select("metric", "value").rows() == [("emails", Decimal(2))]

    def test_another_lateness_judges_every_row_again(self, business: Business) -> None:
        business.deliver(line("1", time="2025-12-01T00:00:00Z"))
        business.ingest()
        business.lateness_days = 10
        business.ingest()
        assert business.reasons() == {1: "too_late"}

    def test_with_no_accounts_every_row_is_set_aside(self, business: Business) -> None:
        business.accounts = set()
        business.deliver([line("1"), line("2")])
        outcome = business.ingest()
        assert (outcome.counted, outcome.rejected) == (0, 2)


class KilledError(Exception):
    """The process ends here."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Business, dict[str, bytes]]:
    """A business that loses something, and what is in its lake before and afterwards."""
    business = Business(Home(tmp_path_factory.mktemp("whole")))
    for day, name, rows in some_deliveries(3):
        business.deliver(rows, day, name)
    business.ingest()
    return business, business.lake()


class TestKilled:
    def test_a_plain_second_run_heals_a_run_killed_at_any_write(
        self, new_business: NewBusiness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def prepare(name: str) -> Business:
            business = new_business(name)
            for day, file, rows in some_deliveries(1)[:4]:
                business.deliver(rows, day, file)
            business.ingest()
            for day, file, rows in some_deliveries(2)[2:6]:
                business.deliver(rows, day, file)
            return business

        def copied(name: str) -> Business:
            business = new_business(name)
            shutil.copytree(prepared.home.root, business.home.root)
            return business

        prepared = prepare("prepared")
        undisturbed = copied("undisturbed")
        writes = count_writes(undisturbed, monkeypatch)
        assert writes > 10
        counted = undisturbed.ingest().counted
        for number in (1 + place for place in spread(writes, sized(usual=5, long=0))):
            business = copied(f"killed-{number}")
            with monkeypatch.context() as patch:
                kill_at_write(patch, number)
                with pytest.raises(KilledError):
                    business.ingest()
            outcome = business.ingest()
            assert business.lake() == undisturbed.lake(), f"killed at write {number}"
            assert business.ingest().days_changed == ()
            assert outcome.counted == counted

    @pytest.mark.parametrize("lost", ["ingest_state.json", "events", "rejects", "ingest", "repeats", "parsed_files"])
    def test_whatever_is_lost_of_the_lake_is_derived_again(
        self, whole: tuple[Business, dict[str, bytes]], lost: str
    ) -> None:
        business, before = whole
        for path in [business.home.lake / lost, *(business.home.lake / lost).rglob("*")]:
            if path.is_file():
                path.unlink()
        business.ingest()
        assert business.lake() == before

    def test_a_state_that_cannot_be_read_is_no_state(self, business: Business) -> None:
        business.deliver(line("1"))
        business.ingest()
        before = business.lake()
        state.state_path(business.home).write_text('{"version": 1, "days": 7}')
        business.ingest()
        assert business.lake() == before

    def test_a_vanished_file_survives_a_lost_state(self, business: Business) -> None:
        path = business.deliver(line("1"))
        business.ingest()
        path.unlink()
        before = business.lake()
        state.state_path(business.home).unlink()
        business.ingest()
        assert business.lake() == before


def kill_at_write(patch: pytest.MonkeyPatch, number: int) -> list[Path]:
    """End the process just before the `number`-th file is put in place."""
    seen: list[Path] = []
    original = write_file

    def write(path: Path, fill: Callable[[Path], None]) -> bool:
        seen.append(path)
        if len(seen) == number:
            path.parent.mkdir(parents=True, exist_ok=True)
            fill(path.with_name(f"{SCRATCH_PREFIX}left-{path.name}"))
            raise KilledError
        return original(path, fill)

    for module in (frames, state, parsed_files, parquet_writer):
        patch.setattr(module, "write_file", write)
    return seen


def count_writes(business: Business, monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patch:
        seen = kill_at_write(patch, 0)
        business.ingest()
    return len(seen)


class TestReading:
    def test_events_stand_by_calendar_month_of_the_billing_time_zone(self, business: Business) -> None:
        business.time_zone = "America/New_York"
        business.deliver(
            [line("1", time="2026-02-01T04:59:59Z"), line("2", time="2026-02-01T05:00:00Z")], day="2026-02-02"
        )
        business.ingest()
        assert scan_events(business.home, ["2026-01"]).collect()["id"].to_list() == ["1"]
        assert scan_events(business.home, ["2026-02"]).collect()["id"].to_list() == ["2"]
        assert len(event_files(business.home, ["2026-01", "2026-02", "2026-03"])) == 2

    def test_events_in_parts_are_the_same_events(self, business: Business, monkeypatch: pytest.MonkeyPatch) -> None:
        assert [part.collect().height for part in scan_event_parts(business.home, ["2026-01"])] == [0]
        for day in (2, 3, 4):
            business.deliver([line(f"{day}{number}") for number in range(2)], day=f"2026-01-0{day}")
        business.ingest()
        (whole,) = scan_event_parts(business.home, ["2026-01"])
        monkeypatch.setattr(events, "_READ_TOGETHER", 3)
        parts = scan_event_parts(business.home, ["2026-01"])
        assert [part.collect().height for part in parts] == [4, 2]
        assert pl.concat(parts).collect().equals(whole.collect())
        monkeypatch.setattr(events, "_READ_TOGETHER", 2)
        assert [part.collect().height for part in scan_event_parts(business.home, ["2026-01"])] == [2, 2, 2]

    def test_the_accounts_of_events_are_told_though_what_was_known_is_in_doubt(self, business: Business) -> None:
        assert accounts_of_events(business.home).to_list() == []
        business.deliver([line("1"), line("2"), line("3", subject="nobody")])
        business.ingest()
        assert accounts_of_events(business.home).to_list() == ["acme", "globex"]
        kept = state.read_state(business.home)
        assert kept is not None
        # a run that was killed may have written events of other accounts than those that are noted
        state.write_state(business.home, state.with_pending(kept, frozenset(kept.days)))
        assert accounts_of_events(business.home).to_list() == ["acme"]
        state.write_state(business.home, kept)
        for path in business.home.lake.glob("ingest_accounts.*"):
            path.unlink()
        assert accounts_of_events(business.home).to_list() == ["acme"]

    def test_the_fingerprint_moves_with_the_events_of_its_months_only(self, business: Business) -> None:
        business.deliver(line("1"), day="2026-01-02")
        business.ingest()
        before = events_digest(business.home, ["2026-01"])
        business.deliver(line("2", time="2026-02-01T00:00:00Z"), day="2026-02-02")
        business.ingest()
        assert events_digest(business.home, ["2026-01"]) == before
        business.deliver(line("3"), day="2026-01-03")
        business.ingest()
        assert events_digest(business.home, ["2026-01"]) != before
        assert events_digest(business.home, ["2026-01"], date(2026, 1, 2)) == before

    def test_a_file_that_changes_while_it_is_read_is_read_again_by_the_next_run(
        self, business: Business, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        business.deliver(line("1"))
        original = parsed_files.parse_delivered

        def parse(*arguments: Any) -> Iterator[pl.DataFrame]:  # passed on as they are
            yield from original(*arguments)
            business.deliver([line("1"), line("2")])

        with monkeypatch.context() as patch:
            patch.setattr(parsed_files, "parse_delivered", parse)
            with pytest.raises(InterruptedRunError, match=r"2026-01-02/a\.jsonl"):
                business.ingest()
        assert business.ingest().counted == 2

    def test_nothing_counts_of_a_file_that_is_damaged_behind_many_good_rows(
        self, business: Business, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read_small_blocks(monkeypatch)
        rows = [line(str(number)) for number in range(200)]
        whole = gzip.compress("".join(f"{text}\n" for text in rows).encode(), compresslevel=0)
        business.deliver(whole[:-1000], name="cut.jsonl.gz")
        outcome = business.ingest()
        assert (outcome.rows, outcome.counted, business.reasons()) == (1, 0, {None: "unreadable_file"})
        business.deliver(whole, name="cut.jsonl.gz")
        assert business.ingest().counted == 200
        assert not list(business.home.lake.rglob(".writing-*"))

    def test_a_broken_conservation_stops_everything(self, business: Business, monkeypatch: pytest.MonkeyPatch) -> None:
        original = day_tables._split_by_outcome

        def losing(*arguments: Any) -> tuple[pl.DataFrame, pl.DataFrame, int]:  # passed on as they are
            counted, rejected, duplicates = original(*arguments)
            return counted.clear(), rejected, duplicates

        monkeypatch.setattr(day_tables, "_split_by_outcome", losing)
        business.deliver(line("1"))
        with pytest.raises(AssertionError, match=r"1 rows, but 0 counted"):
            business.ingest()


def test_tables_written_bear_their_descriptions(business: Business) -> None:
    business.deliver([line("1"), "garbage"])
    business.ingest()
    written = {pl.read_parquet_metadata(business.home.lake / path)["table"] for path in business.lake()}
    assert written == {"events", "rejects", "ingest"}
