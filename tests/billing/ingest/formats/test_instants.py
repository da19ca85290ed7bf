"""Instants as they are written in usage: the usual form is read by a way of its own, with the same result."""

import random
import re
from datetime import UTC, datetime

import polars as pl
import pytest

from billing.ingest.formats.instants import parse_instants
from tests.sizes import sized

SHAPE = re.compile(
    r"(?:19[7-9][0-9]|2[01][0-9]{2})-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)"
    r"(?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
WRITTEN = [
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00.123Z",
    "2026-01-01T00:00:00.123456789Z",
    "2026-01-01T00:00:00+00Z",
    "2026-01-01T00:00:00.Z",
    "2026-01-01T00:00:00+02:00Z",
    "1969-12-31T23:59:59Z",
    "2200-01-01T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-02-30T00:00:00Z",
    " 2026-01-01T00:00:00Z",
    "+026-01-01T00:00:00Z",
]


def almost(random_: random.Random) -> str:
    """A text that is, or nearly is, an instant in the usual form."""
    text = list(random_.choice(WRITTEN))
    for _ in range(random_.choice([0, 1, 1, 2])):
        place = random_.randrange(len(text))
        letter = random_.choice("0123456789-+:.TZ tz,é٣")
        text[place : place + random_.choice([0, 1])] = [letter]
    return "".join(text)


def test_what_is_read_in_the_usual_form_has_the_shape_of_an_instant() -> None:
    random_ = random.Random(7)  # noqa: S311  # nothing secret
    texts = sorted({almost(random_) for _ in range(sized(usual=500, long=2_000))})
    for text in texts:
        (row,) = parse_instants(pl.Series([text], dtype=pl.String)).rows()
        if row[0] is not None and SHAPE.fullmatch(text) is None:
            # the forms that are read though they are no RFC 3339 as it is usually written
            assert re.search(r"[tz ]|\.[0-9]{10}", text), text


def test_one_text_of_another_form_changes_no_other() -> None:
    usual = ["2026-01-01T00:00:00Z", None, "2026-03-01T12:30:00.5Z"]
    odd = [
        "2026-01-01T02:00:00+02:00",
        "2026-01-01T00:00:00",
        "yesterday",
        "2016-12-31T23:59:60Z",
        "",
        "2026-02-30T00:00:00Z",
    ]
    together = parse_instants(pl.Series([*usual, *odd], dtype=pl.String))
    apart = pl.concat([parse_instants(pl.Series([text], dtype=pl.String)) for text in [*usual, *odd]])
    assert together.equals(apart)
    assert together["time_fault"].to_list() == [None] * 4 + [
        "time_without_zone",
        "invalid_time",
        None,
        None,
        "invalid_time",
    ]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("2199-12-31T23:59:59.999999999Z", datetime(2199, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("1969-12-31T23:59:59Z", None),
        ("2200-01-01T00:00:00Z", None),
    ],
)
def test_years_are_1970_to_2199(text: str, instant: datetime | None) -> None:
    assert parse_instants(pl.Series([text]))["time"].to_list() == [instant]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-03-11 00:00:00+00", "2026-03-11 00:00:00"),
        ("2026-03-11 00:00:00.123456+00", "2026-03-11 00:00:00.123456"),
        ("2026-03-11 00:00:00-0330", "2026-03-11 03:30:00"),
        ("2026-03-11 00:00:00+0000", "2026-03-11 00:00:00"),
        ("2026-03-11 00:00:00 +0100", "2026-03-10 23:00:00"),
        ("2026-03-11 00:00:00 +0000 UTC", "2026-03-11 00:00:00"),
        ("2026-03-11 00:00:00 UTC", "2026-03-11 00:00:00"),
        ("2026-03-11 00:00:00.000001 UTC", "2026-03-11 00:00:00.000001"),
        ("2026-03-11 00:00:00 Z", "2026-03-11 00:00:00"),
        ("2026-03-11T00:00Z", "2026-03-11 00:00:00"),
        ("2026-03-11 00:00+01:00", "2026-03-10 23:00:00"),
        ("2026-03-11t00:00:00z", "2026-03-11 00:00:00"),
    ],
)
def test_times_are_read_as_databases_and_languages_write_them(text: str, instant: str) -> None:
    found = parse_instants(pl.Series([text]))
    assert found["time"].dt.to_string("%Y-%m-%d %H:%M:%S%.f").to_list() == [instant]
    assert found["time_fault"].to_list() == found["time_found"].to_list() == [None]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("2026-03-11 00:00:00", "time_without_zone"),
        ("2026-03-11T00:00", "time_without_zone"),
        ("2026-03-11", "time_without_zone"),
        ("2026-03-11 00:00:00+0", "invalid_time"),
        ("2026-03-11 00:00:00+00:", "invalid_time"),
        ("2026-03-11 00:00:00+24", "invalid_time"),
        ("2026-03-11 00:00:00  UTC", "invalid_time"),
        ("2026-03-11 00:00:00 CET", "invalid_time"),
        ("2026-03-11 00:00:00 UTC+1", "invalid_time"),
        ("2026-03-11 0:00:00Z", "invalid_time"),
        ("2026-02-30 00:00:00+00", "invalid_time"),
        ("1767225600", "invalid_time"),
    ],
)
def test_what_names_no_instant_is_told_as_it_was_found(text: str, fault: str) -> None:
    assert parse_instants(pl.Series([text])).rows() == [(None, fault, text)]
