"""Times of raw logs: counts since 1970, local times in a zone, and what is none."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.ingest.sources.times import expected_time, instants
from billing.model.sources import ACCESS_LOG_TIME, EPOCHS, TimeRule
from tests.billing.ingest.raw_logs import one_source, sources_of

BERLIN = TimeRule("t", "%d.%m.%Y %H:%M", "Europe/Berlin")


def read(rule: TimeRule, *texts: str | None) -> list[str | None]:
    """The instants, or the faults."""
    found = instants(pl.Series(texts, dtype=pl.String), rule)
    time = found["time"].dt.to_string("%Y-%m-%dT%H:%M:%S%.fZ")
    return [fault or text for text, fault in zip(time, found["time_fault"], strict=True)]


def test_a_local_time_that_is_skipped_or_twice_is_invalid() -> None:
    texts = (
        "29.03.2026 01:59",
        "29.03.2026 02:30",
        "29.03.2026 03:00",
        "25.10.2026 02:30",
        "25.10.2026 03:00",
        None,
        "x",
    )
    assert read(BERLIN, *texts) == [
        "2026-03-29T00:59:00Z",
        "invalid_time",
        "2026-03-29T01:00:00Z",
        "invalid_time",
        "2026-10-25T02:00:00Z",
        None,
        "invalid_time",
    ]


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("%Y-%m-%dT%H:%M:%S%z", "2026-01-15T10:00:00+0130"),
        ("%Y-%m-%dT%H:%M:%S%:z", "2026-01-15T10:00:00+01:30"),
        ("%Y-%m-%dT%H:%M:%S%#z", "2026-01-15T10:00:00+01:30"),
        ("%+", "2026-01-15T10:00:00+01:30"),
    ],
)
def test_an_offset_in_any_form_counts_whatever_the_zone(format: str, text: str) -> None:
    assert read(TimeRule("t", format, "Europe/Berlin"), text) == ["2026-01-15T08:30:00Z"]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (TimeRule("t"), "2026-07-01T10:00:00Z"),
        (TimeRule("t", "rfc3339", "UTC"), "2026-07-01 10:00:00"),
        (TimeRule("t", "epoch_s"), "1782900000"),
        (TimeRule("t", ACCESS_LOG_TIME), "01/Jul/2026:10:00:00 +0000"),
        (BERLIN, "01.07.2026 12:00"),
    ],
)
def test_blanks_around_a_time_are_no_part_of_it(rule: TimeRule, text: str) -> None:
    instant = "2026-07-01T10:00:00Z"
    assert read(rule, text, f" {text}\t", None, "x", f"{text} x", " ") == [
        instant,
        instant,
        None,
        "invalid_time",
        "invalid_time",
        "invalid_time",
    ]


def test_a_fraction_of_a_second_is_read_as_python_reads_it() -> None:
    event = "id: content, type: {const: email.sent}, subject: {field: a}, "
    event += "time: {field: t, format: '%Y-%m-%d %H:%M:%S.%f', zone: UTC}, data.count: {const: 1}"
    (source,) = sources_of(one_source("json", event))
    assert read(source.time, "2026-01-15 10:00:00.25") == ["2026-01-15T10:00:00.250Z"]


@pytest.mark.parametrize(
    ("ambiguous", "skipped", "twice"),
    [
        ("earliest", "2026-03-29T00:30:00Z", "2026-10-25T00:30:00Z"),
        ("latest", "2026-03-29T01:30:00Z", "2026-10-25T01:30:00Z"),
    ],
)
def test_the_source_may_say_which_instant_counts(ambiguous: str, skipped: str, twice: str) -> None:
    rule = TimeRule("t", BERLIN.format, BERLIN.zone, ambiguous)
    assert read(rule, "29.03.2026 02:30", "25.10.2026 02:30", "01.07.2026 12:00") == [
        skipped,
        twice,
        "2026-07-01T10:00:00Z",
    ]


def test_rfc_3339_takes_its_own_offset_and_else_the_zone() -> None:
    rule = TimeRule("t", zone="Asia/Kolkata")
    texts = (
        "2026-01-01T10:00:00Z",
        "2026-01-01 10:00:00.123456789",
        "2026-01-01 10:00",
        "2026-01-01",
        "2026-01-01T10:00:00+01:00",
    )
    assert read(rule, *texts) == [
        "2026-01-01T10:00:00Z",
        "2026-01-01T04:30:00.123456789Z",
        "2026-01-01T04:30:00Z",
        "2025-12-31T18:30:00Z",
        "2026-01-01T09:00:00Z",
    ]
    assert read(TimeRule("t"), "2026-01-01 10:00:00") == ["time_without_zone"]


@pytest.mark.parametrize(
    ("format", "text", "expected"),
    [
        ("epoch_s", "1767261600", "2026-01-01T10:00:00Z"),
        ("epoch_s", "1767261600.123456789", "2026-01-01T10:00:00.123456789Z"),
        ("epoch_s", "1767261600.1234567899", "2026-01-01T10:00:00.123456789Z"),
        ("epoch_ms", "1767261600123", "2026-01-01T10:00:00.123Z"),
        ("epoch_ms", "1767261600123.5", "2026-01-01T10:00:00.123500Z"),
        ("epoch_us", "1767261600123456", "2026-01-01T10:00:00.123456Z"),
        ("epoch_ns", "1767261600123456789", "2026-01-01T10:00:00.123456789Z"),
        ("epoch_ns", "1767261600123456789.9", "2026-01-01T10:00:00.123456789Z"),
        ("epoch_s", "0", "1970-01-01T00:00:00Z"),
        ("epoch_s", "7258118399.999999999", "2199-12-31T23:59:59.999999999Z"),
        ("epoch_s", "7258118400", "invalid_time"),
        ("epoch_s", "1767261600123", "invalid_time"),
        ("epoch_s", "-1", "invalid_time"),
        ("epoch_s", "1e9", "invalid_time"),
        ("epoch_s", "", "invalid_time"),
        ("epoch_s", "99999999999999999999", "invalid_time"),
    ],
)
def test_counts_since_1970_are_exact(format: str, text: str, expected: str) -> None:
    assert read(TimeRule("t", format), text) == [expected]


@settings(deadline=None)
@given(st.integers(0, 7258118400 * 10**9 - 1), st.sampled_from(sorted(EPOCHS)))
def test_no_nanosecond_is_lost(nanoseconds: int, format: str) -> None:
    whole, rest = divmod(nanoseconds, 10 ** EPOCHS[format])
    text = f"{whole}.{rest:0{EPOCHS[format]}}" if EPOCHS[format] else str(whole)
    found = instants(pl.Series([text]), TimeRule("t", format))["time"].dt.epoch("ns")
    assert found.to_list() == [nanoseconds]


@settings(deadline=None)
@given(st.integers(0, 7258118399), st.integers(-14 * 60, 14 * 60))
def test_access_log_times_are_those_that_python_reads(seconds: int, offset: int) -> None:
    local = datetime.fromtimestamp(seconds, UTC) + timedelta(minutes=offset)
    sign, (hours, minutes) = "-" if offset < 0 else "+", divmod(abs(offset), 60)
    text = (
        f"{local:%d/%b/}{local.year:04}{local:%H:%M:%S}".replace(f"{local.year:04}", f"{local.year:04}:", 1)
        + f" {sign}{hours:02}{minutes:02}"
    )
    found = instants(pl.Series([text]), TimeRule("t", ACCESS_LOG_TIME))["time"].dt.epoch("s")
    assert found.to_list() == [seconds]


@settings(deadline=None, max_examples=50)
@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1)),
    st.sampled_from(["America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_local_times_are_those_that_python_reads(local: datetime, zone: str) -> None:
    local = local.replace(microsecond=0)
    options = {local.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)}
    real = {each for each in options if each.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == local}
    expected = f"{real.pop():%Y-%m-%dT%H:%M:%SZ}" if len(real) == 1 else "invalid_time"
    assert read(TimeRule("t", "%Y-%m-%d %H:%M:%S", zone), f"{local:%Y-%m-%d %H:%M:%S}") == [expected]


@pytest.mark.parametrize(
    ("format", "text"), [("%d.%m.%Y %H:%M", "01.01.9999 10:00"), ("%d.%m.%Y", "01.01.1816"), ("%d.%m.%Y", "31.02.2026")]
)
def test_years_that_wrap_and_days_that_are_none_are_invalid(format: str, text: str) -> None:
    assert read(TimeRule("t", format, "UTC"), text) == ["invalid_time"]


def test_a_day_alone_is_its_first_instant_in_the_zone() -> None:
    assert read(TimeRule("t", "%d.%m.%Y", "Europe/Berlin"), "01.07.2026") == ["2026-06-30T22:00:00Z"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (TimeRule("at", "rfc3339"), "an instant such as 2026-01-31T14:30:00Z"),
        (
            TimeRule("at", "rfc3339", "Europe/Berlin"),
            "an instant such as 2026-01-31T14:30:00Z, or a time without offset that occurs exactly once in "
            "Europe/Berlin",
        ),
        (TimeRule("at", "epoch_ms"), "a number such as 1769869800000 (epoch_ms)"),
        (
            TimeRule("at", "%d.%m.%Y %H:%M", "Europe/Berlin"),
            "a time such as 31.01.2026 14:30 (%d.%m.%Y %H:%M) that occurs exactly once in Europe/Berlin",
        ),
        (TimeRule("at", "%d.%m.%Y", "Asia/Tokyo", "latest"), "a day such as 31.01.2026 (%d.%m.%Y) in Asia/Tokyo"),
        (TimeRule("at", "%d/%m/%Y %H:%M %z"), "a time such as 31/01/2026 14:30 +0000 (%d/%m/%Y %H:%M %z)"),
        (TimeRule("at", "%H:%M %#z", "UTC"), "a time in the format %H:%M %#z"),
    ],
)
def test_what_is_expected_is_told_with_an_example(rule: TimeRule, expected: str) -> None:
    assert expected_time(rule) == f"{expected}, between 1970 and 2199"
