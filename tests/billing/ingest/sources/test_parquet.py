"""Parquet of any columns, nested ones too."""

from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tests.billing.ingest.raw_logs import business, counts, one_source, sums

EVENT = (
    "id: {field: n}, type: {const: email.sent}, subject: {field: who.name}, time: {field: "
    "at}, data.count: {field: 'sizes[1]'}"
)


def written(frame: pl.DataFrame) -> bytes:
    file = BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


def rows(**others: pl.Series | pl.Expr) -> pl.DataFrame:
    at = datetime(2026, 1, 1, 10, 0, 0, 123_456, tzinfo=UTC)
    frame = pl.DataFrame(
        {"n": [1, 2], "who": [{"name": "acme"}, {"name": None}], "at": [at, at], "sizes": [[1, 5], [1]]}
    )
    return frame.with_columns(**others)


def test_members_of_nested_columns(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("parquet", EVENT))
    home.deliver(written(rows()), name="a")
    home.ingest()
    assert counts(home)["a"] == (2, 1, 0, 1, 0, 0)
    assert sums(home, "emails") == {"acme": "5"}
    assert home.events()["time"].dt.to_string("%Y-%m-%dT%H:%M:%S%.f").to_list() == ["2026-01-01T10:00:00.123456"]


def test_members_of_a_column_of_json_text(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("parquet", EVENT))
    texts = pl.Series("who", ['{"name": "acme"}', '["acme"]'])
    home.deliver(written(rows(who=texts, sizes=pl.Series([[1, 5], [1, 7]]))), name="a")
    home.ingest()
    assert home.reasons() == {2: "missing_field"}
    assert sums(home, "emails") == {"acme": "5"}


def test_a_timestamp_without_zone_and_a_date_need_one(tmp_path: Path) -> None:
    for place, (zone, column, expected) in enumerate(
        [
            ("", pl.col("at").dt.replace_time_zone(None), {1: "time_without_zone", 2: "missing_field"}),
            (", zone: UTC", pl.col("at").dt.replace_time_zone(None), {2: "missing_field"}),
            (", zone: UTC", pl.lit(date(2026, 1, 1)), {2: "missing_field"}),
        ]
    ):
        home = business(tmp_path / str(place), one_source("parquet", EVENT.replace("field: at", f"field: at{zone}")))
        home.deliver(written(rows(at=column)), name="a.parquet")
        home.ingest()
        assert home.reasons() == expected


def test_a_file_that_lacks_a_column_is_unreadable(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("parquet", EVENT))
    home.deliver(written(rows().drop("who")), name="a.parquet")
    home.deliver(b"", name="empty.parquet")
    (words,) = home.ingest().unreadable_files
    assert words.endswith("columns: found n, at, sizes, expected each of who once, which the source log reads")


def test_int96_is_read_as_microseconds(tmp_path: Path) -> None:
    # Spark's year 9999 would wrap to 1816 in nanoseconds: the row is set aside, and the others keep their times.
    times = pa.array([datetime(2026, 1, 1, 10), datetime(2026, 1, 1, 11)], pa.timestamp("us"))
    table = pa.table({"n": [1, 2], "who": [{"name": "acme"}] * 2, "at": times, "sizes": [[0, 5], [0, 6]]})
    file = BytesIO()
    pq.write_table(table, file, use_deprecated_int96_timestamps=True)
    home = business(tmp_path, one_source("parquet", EVENT.replace("field: at", "field: at, zone: UTC")))
    # The Julian day of the second time: 2461042 becomes 5373484, which is 9999-12-31.
    content = file.getvalue().replace((2461042).to_bytes(4, "little"), (5373484).to_bytes(4, "little"))
    home.deliver(content, name="a.parquet")
    home.ingest()
    assert set(home.reasons().values()) == {"invalid_time"}
    assert "9999-12-31" in home.table("rejects")["detail"][0]


def test_equal_rows_are_records_of_their_own(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("parquet", EVENT.replace("{field: n}", "content")))
    frame = rows().head(1)
    home.deliver(written(pl.concat([frame, frame])), name="a.parquet")
    home.deliver(written(frame), name="b.parquet")
    home.ingest()
    assert counts(home) == {"a.parquet": (2, 2, 0, 0, 0, 0), "b.parquet": (1, 0, 1, 0, 0, 0)}


def test_columns_of_numbers_have_no_signs_of_a_language(tmp_path: Path) -> None:
    event = EVENT.replace("'sizes[1]'", "size")
    home = business(tmp_path, one_source("parquet", event, decimal='","', thousands='"."'))
    who = pl.Series([{"name": "acme"}, {"name": "acme"}])
    for number, size in enumerate((pl.Series([1.234, 1e3]), pl.Series(["1.234", "1,5"]), pl.Series([5, 6]))):
        frame = rows(who=who, size=size, n=pl.Series([10 * number, 10 * number + 1]))
        home.deliver(written(frame), name=f"{number}.parquet")
    home.ingest()
    assert sums(home, "emails") == {"acme": "2247.734"}
