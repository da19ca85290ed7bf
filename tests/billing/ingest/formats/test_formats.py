"""Every format and compression in which usage may be delivered."""

import gzip
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.billing.ingest.small_business import Business, event, line, metric

HEADER = "id,source,type,subject,time,value\n"


def csv_row(id: str = "1", value: str = "1", time: str = "2026-01-01T12:00:00Z", subject: str = "acme") -> str:
    return f"{id},/mail,email.sent,{subject},{time},{value}\n"


def parquet_table(**columns: pa.Array) -> pa.Table:
    size = max(map(len, columns.values()), default=1)
    return pa.table(
        {
            "id": [str(number) for number in range(size)],
            "source": ["/mail"] * size,
            "type": ["email.sent"] * size,
            "subject": ["acme"] * size,
            "time": ["2026-01-01T12:00:00Z"] * size,
            "value": [1] * size,
        }
        | columns
    )


def deliver_parquet(business: Business, table: pa.Table, name: str = "a.parquet") -> None:
    pq.write_table(table, business.deliver(b"", name=name))


@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".GZ"])
@pytest.mark.parametrize("form", [".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".JSONL"])
def test_every_format_is_read_plain_and_compressed(business: Business, form: str, ending: str, tmp_path: Path) -> None:
    plain = {".csv": (HEADER + csv_row()).encode(), ".parquet": b""}.get(form, line().encode())
    if form == ".parquet":
        pq.write_table(parquet_table(), tmp_path / "plain")
        plain = (tmp_path / "plain").read_bytes()
    packed = {"": plain, ".gz": gzip.compress(plain), ".zst": zstandard.compress(plain)}[ending.lower()]
    business.deliver(packed, name=f"usage{form}{ending}")
    outcome = business.ingest()
    assert (outcome.rows, outcome.counted, outcome.unreadable_files) == (1, 1, ())
    assert business.events()["value"].to_list() == [Decimal("1")]


def test_the_same_event_in_three_formats_counts_once(business: Business) -> None:
    business.deliver(line("0"), name="a.jsonl")
    business.deliver(HEADER + csv_row("0", "1.000"), name="b.csv")
    deliver_parquet(business, parquet_table(value=pa.array([Decimal("1.0")])), name="c.parquet")
    outcome = business.ingest()
    assert (outcome.counted, outcome.duplicates) == (1, 2)
    assert business.events()["repeats"].to_list() == [2]


class TestJsonLines:
    def test_blank_lines_are_no_rows_and_rows_bear_their_line_number(self, business: Business) -> None:
        business.deliver("\ufeff" + line("1") + "\r\n\r\n  \n" + line("2") + "\r\n{\r\n" + line("3"))
        outcome = business.ingest()
        assert (outcome.rows, outcome.counted) == (4, 3)
        assert business.events()["row"].sort().to_list() == [1, 4, 6]
        assert business.reasons() == {5: "unparseable"}

    def test_bytes_that_are_no_text_spoil_their_line_only(self, business: Business) -> None:
        business.deliver(line("1").encode() + b"\n" + line("2").encode()[:-3] + b"\xff}}\n" + line("3").encode())
        outcome = business.ingest()
        assert (outcome.counted, outcome.rejected) == (2, 1)
        assert business.reasons() == {2: "unparseable"}

    def test_members_stand_in_any_order_and_others_are_ignored(self, business: Business) -> None:
        shuffled = dict(reversed(event(data={"region": [1, {"count": 7}], "count": 3}).items())) | {
            "extension": {"a": 1}
        }
        business.deliver(json.dumps(shuffled))
        business.ingest()
        assert business.events()["value"].to_list() == [Decimal("3")]

    def test_of_a_repeated_member_the_first_holds_however_the_line_is_decoded(self, business: Business) -> None:
        good = line("1", data=None)[:-1]
        business.deliver(
            [
                good + ', "data": {"count": 1, "count": 2}}',
                good.replace('"1"', '"2"') + ', "data": {"count": 1e0, "count": 2}}',
            ]
        )
        business.ingest()
        assert business.events()["value"].to_list() == [Decimal("1"), Decimal("1")]

    @pytest.mark.parametrize(
        ("written", "exact"),
        [
            ("5", "5"),
            ('"5"', "5"),
            ("12345678.123456789", "12345678.123456789"),
            ("0.1", "0.1"),
            ("1e3", "1000"),
            ("1E-9", "0.000000001"),
            ("999999999999999999.999999999", "999999999999999999.999999999"),
            ("9007199254740993", "9007199254740993"),
            ("-0", "0"),
            ('"0012.50"', "12.5"),
            ("1.0000000000", "1"),
            ('"1.0000000000"', "1"),
        ],
    )
    def test_a_number_is_the_decimal_it_denotes(self, business: Business, written: str, exact: str) -> None:
        business.deliver(line(data={"count": "?"}).replace('"?"', written))
        business.ingest()
        assert business.events()["value"].to_list() == [Decimal(exact)]

    @pytest.mark.parametrize(
        "written",
        [
            *('"1e3"', '"+5"', '"1,000"', '" 5"', '"5."', '".5"', '"NaN"', '"0x10"', '"\N{ARABIC-INDIC DIGIT ONE}"'),
            *("true", "-1", "-0.5", "18446744073709551616", "1e18", "1e400", "1e999999999"),
        ],
    )
    def test_what_is_no_exact_decimal_is_an_impossible_value(self, business: Business, written: str) -> None:
        business.deliver([line("1", data={"count": "?"}).replace('"?"', written), line("2")])
        outcome = business.ingest()
        assert (outcome.counted, business.reasons()) == (1, {1: "impossible_value"})

    @pytest.mark.parametrize("written", ["NaN", "Infinity", "01", "+1", "1.", ".5", "0x10", "1_000"])
    def test_a_line_that_is_no_json_is_unparseable(self, business: Business, written: str) -> None:
        business.deliver([line("1", data={"count": "?"}).replace('"?"', written), line("2")])
        outcome = business.ingest()
        assert (outcome.counted, business.reasons()) == (1, {1: "unparseable"})

    @pytest.mark.parametrize(
        "bad",
        [
            *("null", "[]", "7", '"text"', "{}x", "{'id': 1}", "{", "}", "\x00", '{"a":"\t"}', "/* */ {}"),
            *('{"a":1},{"b":2}', '{"a":[{"b":1}', '{"c":2}]}', '{"data":' * 5000 + "1" + "}" * 5000),
        ],
    )
    def test_a_bad_line_never_bears_on_its_neighbours(self, business: Business, bad: str) -> None:
        business.deliver([line("1"), bad, line("2"), bad, line("3")])
        outcome = business.ingest()
        assert (outcome.rows, outcome.counted, outcome.rejected) == (5, 3, 2)
        assert set(business.reasons()) == {2, 4}

    def test_two_halves_of_an_object_on_two_lines_are_two_bad_rows(self, business: Business) -> None:
        business.deliver([line("1"), '{"a":[{"b":1}', '{"c":2}]}', '{"d":1},{"e":2}', line("2")])
        outcome = business.ingest()
        assert (outcome.counted, list(business.reasons())) == (2, [2, 3, 4])

    def test_half_a_surrogate_pair_is_no_id(self, business: Business) -> None:
        business.deliver([line("1").replace('"1"', '"\\ud83d"'), line("1").replace('"1"', '"\\ud83d\\ude00"')])
        business.ingest()
        assert business.reasons() == {1: "missing_field"}
        assert business.events()["id"].to_list() == ["\N{GRINNING FACE}"]

    def test_a_very_long_line_is_a_row_like_others(self, business: Business) -> None:
        business.deliver([line("1", note="x" * 9_000_000), line("2")])
        assert business.ingest().counted == 2

    def test_one_member_may_be_the_value_and_another_lie_in_it(self, business: Business) -> None:
        business.metrics = (metric("whole", "a", "data", measure="unique"), metric("part", "b", "data.count"))
        business.deliver([line("1", type="a", data="x"), line("2", type="b", data={"count": 4})])
        business.ingest()
        assert business.events().select("metric", "member", "value").rows() == [
            ("part", None, Decimal(4)),
            ("whole", "x", None),
        ]


class TestCsv:
    def test_quotes_and_commas_inside_a_field_belong_to_it(self, business: Business) -> None:
        business.accounts |= {'say "hi", please'}
        business.deliver(HEADER + csv_row("1", subject='"say ""hi"", please"') + csv_row("2"), name="a.csv")
        business.ingest()
        assert business.events().sort("row")["account_id"].to_list() == ['say "hi", please', "acme"]

    def test_a_quoted_record_may_span_lines(self, business: Business) -> None:
        noted = "note," + HEADER + '"two\nlines",' + csv_row("1") + "\nnone," + csv_row("2")
        business.deliver(noted, name="a.csv")
        outcome = business.ingest()
        assert (outcome.rows, outcome.counted) == (2, 2)
        assert business.events()["row"].sort().to_list() == [1, 4]

    def test_a_quote_that_is_never_closed_spoils_its_line_only(self, business: Business) -> None:
        business.deliver(HEADER + csv_row("1", subject='"acme') + csv_row("2") + csv_row("3"), name="a.csv")
        outcome = business.ingest()
        assert (outcome.counted, business.reasons()) == (2, {1: "unparseable"})

    def test_a_record_of_another_length_is_unparseable(self, business: Business) -> None:
        business.deliver(HEADER + "1,2\n" + csv_row("2") + csv_row("3").strip() + ",more\n", name="a.csv")
        business.ingest()
        assert business.reasons() == {1: "unparseable", 3: "unparseable"}

    def test_columns_stand_in_any_order_among_others(self, business: Business) -> None:
        business.deliver(
            "value,note,id,source,type,subject,time\n2,x,1,/mail,email.sent,acme,2026-01-01T12:00:00Z\n", name="a.csv"
        )
        business.ingest()
        assert business.events()["value"].to_list() == [Decimal("2")]

    def test_a_file_without_a_column_is_unreadable_and_says_which_are_expected(self, business: Business) -> None:
        business.deliver("id,source,type,subject,value\n1,/mail,email.sent,acme,1\n", name="a.csv")
        outcome = business.ingest()
        assert outcome.rows == outcome.rejected == 1
        assert "expected each of id, source, type, subject, time, value" in outcome.unreadable_files[0]

    def test_the_text_of_a_rejected_record_is_as_delivered(self, business: Business) -> None:
        text = csv_row("1", value='"-1"').strip()
        business.deliver(HEADER + text + "\r\n", name="a.csv")
        business.ingest()
        assert business.table("rejects")["text"].to_list() == [text]


class TestParquet:
    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    def test_time_may_be_a_timestamp_of_any_unit_with_a_zone(self, business: Business, unit: str) -> None:
        moment = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
        deliver_parquet(business, parquet_table(time=pa.array([moment], pa.timestamp(unit, "Europe/Athens"))))
        business.ingest()
        assert business.events()["time"].to_list() == [datetime(2026, 1, 1, 10, tzinfo=UTC)]

    def test_time_without_zone_is_no_instant(self, business: Business) -> None:
        deliver_parquet(business, parquet_table(time=pa.array([datetime(2026, 1, 1)], pa.timestamp("us"))))
        business.ingest()
        assert business.reasons() == {1: "time_without_zone"}

    def test_years_outside_the_calendar_of_usage_are_invalid_not_wrapped(self, business: Business) -> None:
        seconds = pa.array([-1, 7_258_118_400, 253_402_300_799, 1_767_268_800], pa.timestamp("s", "UTC"))
        deliver_parquet(business, parquet_table(time=seconds))
        business.ingest()
        assert business.reasons() == dict.fromkeys((1, 2, 3), "invalid_time")

    @pytest.mark.parametrize(
        ("values", "exact"),
        [
            (pa.array([7], pa.uint64()), "7"),
            (pa.array([Decimal("1.50")], pa.decimal128(10, 2)), "1.5"),
            (pa.array([0.1], pa.float64()), "0.1"),
            (pa.array([0.1], pa.float32()), "0.1"),
            (pa.array([1e16], pa.float64()), "10000000000000000"),
            (pa.array([1e-7], pa.float64()), "0.0000001"),
            (pa.array([3.0], pa.float64()), "3"),
            (pa.array(["2.5"], pa.string()), "2.5"),
            (pa.array(["2.5"]).dictionary_encode(), "2.5"),
        ],
    )
    def test_a_value_of_any_numeric_type_is_exact(self, business: Business, values: pa.Array, exact: str) -> None:
        deliver_parquet(business, parquet_table(value=values))
        business.ingest()
        assert business.events()["value"].to_list() == [Decimal(exact)]

    def test_nan_is_an_impossible_value_and_null_is_missing(self, business: Business) -> None:
        deliver_parquet(business, parquet_table(value=pa.array([float("nan"), None, float("inf")], pa.float64())))
        business.ingest()
        assert business.reasons() == {1: "impossible_value", 2: "missing_field", 3: "impossible_value"}

    def test_the_text_of_a_rejected_row_is_its_columns_as_json(self, business: Business) -> None:
        deliver_parquet(business, parquet_table(value=pa.array([-1])))
        business.ingest()
        assert json.loads(business.table("rejects")["text"][0])["value"] == -1


class TestUnreadableFiles:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.jsonl.gz", gzip.compress(line().encode() * 1000)[:-9]),
            ("a.jsonl.zst", zstandard.compress(line().encode() * 1000)[:-3]),
            ("a.jsonl.gz", b"no gzip at all"),
            ("a.jsonl.zst", b"no zstandard at all"),
            ("a.parquet", b"no parquet at all"),
            ("a.csv", b"no,header\n"),
            ("a.xlsx", b"anything"),
            ("a", b"anything"),
        ],
    )
    def test_an_unreadable_file_is_one_reject_that_names_it(
        self, business: Business, name: str, content: bytes
    ) -> None:
        business.deliver(content, name=name)
        business.deliver(line(), name="good.jsonl")
        outcome = business.ingest()
        assert (outcome.rows, outcome.counted, outcome.rejected) == (2, 1, 1)
        assert business.reasons() == {None: "unreadable_file"}
        assert business.table("rejects")["file"].to_list() == [name]
        assert len(outcome.unreadable_files) == 1 and name in outcome.unreadable_files[0]

    @pytest.mark.parametrize("day", ["2026-02-30", "january", "20260101", "2026-1-1"])
    def test_a_folder_that_is_no_day_is_reported_and_gone_when_it_is_mended(self, business: Business, day: str) -> None:
        path = business.deliver(line(), day=day)
        outcome = business.ingest()
        assert (outcome.rows, len(outcome.unreadable_files)) == (0, 1)
        assert business.table("rejects").select("delivery_day", "file").rows() == [(None, f"usage/{day}/")]
        path.unlink()
        path.parent.rmdir()
        assert business.ingest().unreadable_files == ()
        assert len(business.table("rejects")) == 0

    @pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.jsonl.gz", "a.csv.zst", "a.parquet.gz"])
    def test_an_empty_file_has_no_rows(self, business: Business, name: str) -> None:
        business.deliver(b"", name=name)
        outcome = business.ingest()
        assert (outcome.rows, outcome.unreadable_files) == (0, ())
        assert len(business.table("ingest")) == 1

    @pytest.mark.parametrize(
        "name", ["ü/ %?*.jsonl".replace("/", ""), "a b.jsonl", "x" * 200 + ".jsonl", "a.b.c.jsonl"]
    )
    def test_odd_file_names_are_kept_as_they_are(self, business: Business, name: str) -> None:
        business.deliver(line(), name=name)
        business.ingest()
        assert business.events()["file"].to_list() == [name]


def test_what_the_readers_yield_is_typed_alike(business: Business) -> None:
    business.deliver(line("1"), name="a.jsonl")
    business.deliver(HEADER + csv_row("2"), name="b.csv")
    deliver_parquet(business, parquet_table(), name="c.parquet")
    business.ingest()
    schemas = [
        pl.read_parquet_schema(path).items()
        for path in sorted((business.home.lake / "parsed_files").rglob("*.parquet"))
    ]
    common = [{name: kind for name, kind in schema if not name.startswith("value")} for schema in schemas]
    assert common[0] == common[1] == common[2]
