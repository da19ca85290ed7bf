"""CSV, and the columns that the values of flat files stand in."""

import gzip
import io
import time
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as some

from billing.ingest.formats.compression import Content
from billing.ingest.formats.csv_events import csv_chunks, split_record
from billing.model.file_limits import DEFAULT_LIMITS
from tests.billing.ingest.small_business import Business, line, metric

HEADER = "id,source,type,subject,time,value\n"


def row(id: str = "1", value: str = "1", subject: str = "acme", type: str = "email.sent") -> str:
    return f"{id},/mail,{type},{subject},2026-01-01T12:00:00Z,{value}\n"


TWO_VALUES = (
    metric("bandwidth", "served", "data.bytes", unit_size=10**9),
    metric("duration", "served", "data.ms"),
    metric("emails", "email.sent", "data.count"),
)


def with_columns(
    business: Business, form: str, columns: Mapping[str, Sequence[str | None]], types: Sequence[str]
) -> None:
    """Deliver flat rows with these value columns."""
    rows = len(types)
    table = pa.table(
        {
            "id": [str(number) for number in range(rows)],
            "source": ["/mail"] * rows,
            "type": list(types),
            "subject": ["acme"] * rows,
            "time": ["2026-01-01T12:00:00Z"] * rows,
        }
        | {name: pa.array(values, pa.string()) for name, values in columns.items()}
    )
    path = business.deliver(b"", name=f"a.{form}")
    if form == "csv":
        pl.DataFrame(pl.from_arrow(table)).write_csv(path)
    else:
        pq.write_table(table, path)


@pytest.mark.parametrize("form", ["csv", "parquet"])
class TestValueColumns:
    def test_one_value_is_not_taken_for_each_of_several(self, business: Business, form: str) -> None:
        business.metrics = TWO_VALUES
        with_columns(business, form, {"value": ["5000000000", "3"]}, ["served", "email.sent"])
        business.ingest()
        assert business.events().select("metric", "value").rows() == [("emails", Decimal(3))]
        reject = business.table("rejects").row(0, named=True)
        assert (reject["reason"], reject["quantity"]) == ("missing_field", None)
        assert reject["detail"] == (
            "data.bytes, data.ms: found no such column, expected one: several values are measured of served, so the "
            "column value could be any of them"
        )

    def test_each_of_several_has_a_column_of_its_own(self, business: Business, form: str) -> None:
        business.metrics = TWO_VALUES
        columns = {"data.bytes": ["5000000000", None], "data.ms": ["17", None], "value": [None, "3"]}
        with_columns(business, form, columns, ["served", "email.sent"])
        outcome = business.ingest()
        assert (outcome.counted, outcome.rejected) == (2, 0)
        assert business.events().select("metric", "value").rows() == [
            ("bandwidth", Decimal(5_000_000_000)),
            ("duration", Decimal(17)),
            ("emails", Decimal(3)),
        ]

    def test_a_row_without_one_of_them_misses_it(self, business: Business, form: str) -> None:
        business.metrics = TWO_VALUES
        with_columns(business, form, {"data.bytes": ["5"], "data.ms": [None]}, ["served"])
        business.ingest()
        assert business.table("rejects")["detail"][0].startswith("data.ms: found nothing, expected a decimal number")

    def test_a_column_named_by_the_path_needs_no_other(self, business: Business, form: str) -> None:
        with_columns(business, form, {"data.count": ["4"]}, ["email.sent"])
        business.ingest()
        assert business.events()["value"].to_list() == [Decimal(4)]

    def test_the_column_named_by_the_path_goes_first(self, business: Business, form: str) -> None:
        with_columns(business, form, {"value": ["9"], "data.count": ["4"]}, ["email.sent"])
        business.ingest()
        assert business.events()["value"].to_list() == [Decimal(4)]

    def test_the_same_event_in_json_is_a_duplicate(self, business: Business, form: str) -> None:
        business.metrics = TWO_VALUES
        with_columns(business, form, {"data.bytes": ["5.0"], "data.ms": ["17"]}, ["served"])
        business.deliver(line("0", type="served", data={"ms": 17, "bytes": 5}), name="b.jsonl")
        outcome = business.ingest()
        assert (outcome.counted, outcome.duplicates, outcome.rejected) == (1, 1, 0)

    def test_a_file_without_any_value_is_unreadable(self, business: Business, form: str) -> None:
        with_columns(business, form, {"data.other": ["4"]}, ["email.sent"])
        (words,) = business.ingest().unreadable_files
        assert "expected each of id, source, type, subject, time, value once (in place of value: data.bytes, " in words

    def test_decimals_beyond_the_ninth_are_rounded_half_even_and_counted(self, business: Business, form: str) -> None:
        texts = ["0.0000000005", "0.0000000015", "1.123456789012345678", "2.5", "3.1234567890000", "4", "-0.1234567891"]
        with_columns(business, form, {"value": texts}, ["email.sent"] * 6 + ["leads.changed"])
        outcome = business.ingest()
        assert (outcome.counted, outcome.rejected) == (7, 0)
        assert business.events().sort("row")["value"].to_list() == [
            *(Decimal("0"), Decimal("0.000000002"), Decimal("1.123456789"), Decimal("2.5"), Decimal("3.123456789")),
            *(Decimal(4), Decimal("-0.123456789")),
        ]
        assert business.table("ingest")["rounded"].to_list() == [4]


@pytest.mark.parametrize("by_earlier_version", [False, True])
@pytest.mark.parametrize("files", [1, 20])
def test_a_value_read_for_one_metric_is_none_of_another_that_comes_later(
    business: Business, by_earlier_version: bool, files: int
) -> None:
    business.metrics = (TWO_VALUES[0], TWO_VALUES[2])
    paths = [
        business.deliver(HEADER + row(f"{file}", "5", type="served") + row(f"m{file}", "3"), name=f"{file}.csv")
        for file in range(files)
    ]
    business.ingest()
    before = business.events()
    for path in paths:
        path.unlink()
    if by_earlier_version:
        for path in business.home.lake.glob("parsed_files/*/*.parquet"):
            metadata = {key: text for key, text in pl.read_parquet_metadata(path).items() if key != "event_types"}
            pl.read_parquet(path, hive_partitioning=False).write_parquet(path, metadata=metadata)
    business.metrics = TWO_VALUES
    business.ingest()
    assert business.events().equals(before)
    business.metrics = (*TWO_VALUES, metric("calls", "call.made", "data.seconds"))
    business.ingest()
    assert business.events().equals(before)
    assert len(business.table("rejects")) == 0


def test_decimals_of_json_are_rounded_and_counted_too(business: Business) -> None:
    business.deliver(
        [
            line("1", data={"count": "?"}).replace('"?"', "0.12345678950"),
            line("2", data={"count": "0.1234567885"}),
            line("3", data={"count": "?"}).replace('"?"', "1.5e-17"),
            line("4", data={"count": "?"}).replace('"?"', "5e-324"),
            line("5", type="page.viewed", data={"visitor": "0.12345678901"}),
            line("6", subject="nobody", data={"count": "0.12345678901"}),
        ]
    )
    outcome = business.ingest()
    assert outcome.counted == 5
    values = business.events().filter(metric="emails").sort("row")["value"].to_list()
    assert values == [Decimal("0.123456790"), Decimal("0.123456788"), Decimal(0), Decimal(0)]
    assert business.table("ingest")["rounded"].to_list() == [4]


@given(some.decimals(min_value=Decimal(0), max_value=Decimal(10) ** 18 - 1, allow_nan=False, places=14))
def test_a_rounded_value_is_that_of_exact_arithmetic(value: Decimal) -> None:
    text = f"{value:f}"
    exact = value.quantize(Decimal("1e-9"), ROUND_HALF_EVEN, Context(prec=60))
    assert pl.Series([text]).cast(pl.Decimal(38, 9)).to_list() == [exact]


def test_a_value_that_rounding_would_make_too_large_is_impossible(business: Business) -> None:
    business.deliver(HEADER + row("1", "999999999999999999.9999999995") + row("2", "999999999999999999.999999999499"))
    business.ingest()
    assert business.reasons() == {1: "impossible_value"}


class TestUnfinishedLine:
    @pytest.mark.parametrize("last", ["5120", "51200000000", '"5', '"5"'])
    def test_a_last_line_without_line_end_is_set_aside_until_it_is_whole(self, business: Business, last: str) -> None:
        whole = HEADER + row("1") + row("2", "51200000000")
        business.deliver(HEADER + row("1") + row("2", last).rstrip(), name="a.csv")
        outcome = business.ingest()
        assert (outcome.counted, business.reasons()) == (1, {2: "unfinished_line"})
        business.deliver(whole, name="a.csv")
        assert (business.ingest().counted, business.reasons()) == (2, {})
        assert business.events().sort("row")["value"].to_list() == [Decimal(1), Decimal(51_200_000_000)]

    def test_blanks_after_the_last_line_end_are_no_line(self, business: Business) -> None:
        business.deliver(HEADER + row("1") + "  ", name="a.csv")
        assert (business.ingest().counted, business.reasons()) == (1, {})

    def test_a_header_alone_has_no_rows(self, business: Business) -> None:
        business.deliver(HEADER.rstrip(), name="a.csv")
        assert business.ingest().rows == 0

    def test_a_compressed_file_says_by_itself_that_it_is_whole(self, business: Business) -> None:
        business.deliver(gzip.compress((HEADER + row("1").rstrip()).encode()), name="a.csv.gz")
        assert business.ingest().counted == 1

    def test_it_stays_set_aside_when_the_file_has_vanished_and_the_catalogue_moves(self, business: Business) -> None:
        path = business.deliver(line("1") + "\n" + line("2")[:-20], name="a.jsonl")
        business.ingest()
        assert business.reasons() == {2: "unfinished_line"}
        path.unlink()
        business.metrics = (*business.metrics, metric("sms", "sms.sent", "data.parts"))
        business.ingest()
        assert business.reasons() == {2: "unfinished_line"}


def test_blanks_around_identifiers_make_no_other_event(business: Business) -> None:
    business.deliver(HEADER + row("1") + row(" 1\t", subject=" acme ", type=" email.sent").replace("/mail", "/mail "))
    business.deliver(line(" 1", source="\u00a0/mail", subject="acme\n"), name="b.jsonl")
    outcome = business.ingest()
    assert (outcome.counted, outcome.duplicates, outcome.rejected) == (1, 2, 0)


def test_a_byte_order_mark_makes_no_other_event(business: Business) -> None:
    business.deliver("\ufeff" + HEADER + "\ufeff" + row("1") + row("2"), name="a.csv")
    business.deliver(HEADER + row("1") + row("2"), name="b.csv")
    business.deliver("\ufeff" + line("1") + "\n\ufeff" + line("3") + "\n\ufeff\n", name="c.jsonl")
    outcome = business.ingest()
    assert (outcome.counted, outcome.duplicates, outcome.rejected) == (3, 3, 0)


# --- records over several lines -------------------------------------------------------------------------------------

pieces_of_lines = some.lists(
    some.sampled_from(['"', '""', ",", "a", "b,", '"x"', " ", '"a"b"x', '",x","']), min_size=0, max_size=5
).map("".join)


@given(some.lists(pieces_of_lines, max_size=12))
def test_records_end_where_reading_on_line_by_line_ends_them(lines: list[str]) -> None:
    content = (HEADER + "".join(f"{text}\n" for text in lines)).encode()
    opened = Content(io.BytesIO(content), len(content), DEFAULT_LIMITS)
    found = [number for piece in csv_chunks(opened, {}) for number in piece.fields["row"].to_list()]
    assert found == starts_of_records(lines)


def starts_of_records(lines: list[str]) -> list[int]:
    """The lines that begin a record: each is read on until it is whole, and is a line like others if it never is."""
    starts, place = [], 0
    while place < len(lines):
        if not lines[place].strip(" "):
            place += 1
            continue
        ends = range(place + 1, len(lines) + 1)
        whole = (end for end in ends if isinstance(split_record("\n".join(lines[place:end])), list))
        length = next(whole, place + 1) - place
        starts.append(place + 1)
        place += length
    return starts


@pytest.mark.parametrize("text", ['"a"b"x', '",x","', 'a,"b', '""",', '"' * 9, 'a"b'])
def test_lines_with_odd_quotation_marks_take_linear_time(text: str) -> None:
    def seconds(rows: int) -> float:
        content = (HEADER + f"{text}\n" * rows).encode()
        start = time.process_time()
        for piece in csv_chunks(Content(io.BytesIO(content), len(content), DEFAULT_LIMITS), {}):
            assert len(piece.fields) >= 0
        return time.process_time() - start

    # a quadratic reader takes 0.65 ms for each
    assert min(seconds(3_000) for _ in range(2)) < 3_000 * 0.0001


def test_a_long_field_is_a_row_like_others_and_a_quoted_one_has_a_limit(business: Business) -> None:
    noted = ["note," + HEADER, "x" * 300_000 + "," + row("1"), '"' + "x" * 300_000 + '",' + row("2")]
    business.deliver("".join(noted), name="a.csv")
    assert (business.ingest().counted, business.reasons()) == (1, {2: "unparseable"})
    assert "field larger than field limit" in business.table("rejects")["detail"][0]
