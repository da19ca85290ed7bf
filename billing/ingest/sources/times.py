"""Times of raw logs to instants: RFC 3339, counts since 1970 and local times in a zone (rule 27)."""

from datetime import UTC, datetime
from typing import Final, Literal

import polars as pl
from polars.exceptions import ComputeError

from billing.ingest.formats.instants import INVALID, WITHOUT_ZONE, parse_instants
from billing.model.columns import INSTANT
from billing.model.sources import ACCESS_LOG_TIME, EPOCHS, RFC3339, TimeRule

_FIRST: Final = 0
_LAST: Final = 7_258_118_399
"""The last second of 2199, since 1970."""
_COUNT: Final = r"^([0-9]{1,19})(?:\.([0-9]*))?$"
_LOCAL: Final = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt ]([0-9]{2}:[0-9]{2})(?::([0-9]{2})(?:\.([0-9]+))?)?)?$"
_ACCESS_LOG: Final = (
    r"^[0-9]{2}/[A-Za-z]{3}/(?:1969|19[7-9][0-9]|2[01][0-9]{2}|2200):[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}$"
)
_NANOSECONDS: Final = 9
_AROUND_A_GAP: Final = "3h"
_EXAMPLE: Final = datetime(2026, 1, 31, 14, 30, tzinfo=UTC)
_YEARS: Final = "between 1970 and 2199"


def instants(texts: pl.Series, rule: TimeRule) -> pl.DataFrame:
    """Parse the times of records by the rule of their source.

    Exact to the nanosecond, without binary floats. Blanks around a time are no part of it. A local time that the zone
    skips or has twice is invalid, unless the rule says which instant counts.

    Returns
    -------
    polars.DataFrame
        time (nanoseconds, UTC), time_fault ("time_without_zone", "invalid_time" or null) and time_found (the text of
        a fault), all null where the text is null.
    """
    found = _parsed(texts, rule)
    # Few texts have blanks around them: read those again that were not understood.
    faulty = found["time_fault"].is_not_null().arg_true()
    bare = texts.gather(faulty).str.strip_chars()
    padded = ((bare != texts.gather(faulty)) & (bare != "")).arg_true()
    if padded.is_empty():
        return found
    places, again = faulty.gather(padded), _parsed(bare.gather(padded), rule)
    return pl.DataFrame([found[name].scatter(places, again[name]) for name in ("time", "time_fault", "time_found")])


def _parsed(texts: pl.Series, rule: TimeRule) -> pl.DataFrame:
    if rule.format == RFC3339:
        return _rfc3339(texts, rule)
    if rule.format in EPOCHS:
        return _with_faults(texts, _counted(texts, EPOCHS[rule.format]))
    if rule.has_offset:
        return _with_faults(texts, _with_offset(texts, rule.format))
    naive = _strptime(texts, rule.format) if rule.has_time_of_day else _days(texts, rule.format)
    return _with_faults(texts, _in_zone(naive, rule))


def expected_time(rule: TimeRule) -> str:
    """What a time of a source should look like, in words."""
    if rule.format in EPOCHS:
        count = int(_EXAMPLE.timestamp()) * 10 ** (_NANOSECONDS - EPOCHS[rule.format])
        return f"a number such as {count} ({rule.format}), {_YEARS}"
    occurs = f" in {rule.zone}" if rule.ambiguous else f" that occurs exactly once in {rule.zone}"
    if rule.format == RFC3339:
        local = f", or a time without offset{occurs}" if rule.zone else ""
        return f"an instant such as 2026-01-31T14:30:00Z{local}, {_YEARS}"
    what = "time" if rule.has_time_of_day else "day"
    return f"a {what} {_in_format(rule.format)}{'' if rule.has_offset else occurs}, {_YEARS}"


def _in_format(format: str) -> str:
    """A time format in words, with an example; without one where times can only be read by it."""
    try:
        return f"such as {pl.Series([_EXAMPLE]).dt.strftime(format).item()} ({format})"
    except ComputeError:
        return f"in the format {format}"


def _with_faults(texts: pl.Series, time: pl.Series) -> pl.DataFrame:
    is_faulty = texts.is_not_null() & time.is_null()
    return pl.DataFrame({"text": texts, "time": time}).select(
        pl.col("time").cast(INSTANT),
        time_fault=pl.when(is_faulty).then(pl.lit(INVALID)).otherwise(pl.lit(None, pl.String)),
        time_found=pl.when(is_faulty).then("text").otherwise(pl.lit(None, pl.String)),
    )


def _rfc3339(texts: pl.Series, rule: TimeRule) -> pl.DataFrame:
    found = parse_instants(texts)
    local = (found["time_fault"] == WITHOUT_ZONE).arg_true() if rule.zone else pl.Series(dtype=pl.UInt32)
    if local.is_empty():
        return found
    own = texts.gather(local)
    parts = own.str.extract_groups(_LOCAL).struct.unnest()
    parts.columns = ["day", "minute", "second", "fraction"]
    text = pl.concat_str(
        "day",
        pl.lit("T"),
        pl.col("minute").fill_null("00:00"),
        pl.lit(":"),
        pl.col("second").fill_null("00"),
        pl.lit("."),
        pl.col("fraction").fill_null("0").str.slice(0, _NANOSECONDS).str.pad_end(_NANOSECONDS, "0"),
    )
    naive = _strptime(parts.select(text.alias("text")).to_series(), "%Y-%m-%dT%H:%M:%S%.f")
    repaired = _with_faults(own, _in_zone(naive, rule))
    return pl.DataFrame([found[name].scatter(local, repaired[name]) for name in ("time", "time_fault", "time_found")])


def _counted(texts: pl.Series, digits: int) -> pl.Series:
    """Instants from counts since 1970 of units of 10^digits nanoseconds; digits beyond nanoseconds are cut off."""
    parts = texts.str.extract_groups(_COUNT).struct.unnest()
    parts.columns = ["whole", "fraction"]
    whole = pl.col("whole").cast(pl.Int128) * 10**digits
    fraction = pl.col("fraction").fill_null("").str.slice(0, digits).str.pad_end(digits, "0")
    nanoseconds = whole + (fraction.cast(pl.Int128) if digits else 0)
    inside = nanoseconds.is_between(_FIRST, (_LAST + 1) * 10**_NANOSECONDS - 1)
    return (
        parts.select(pl.when(inside).then(nanoseconds).otherwise(pl.lit(None, pl.Int128)).cast(pl.Int64).alias("time"))
        .to_series()
        .cast(INSTANT)
    )


def _with_offset(texts: pl.Series, format: str) -> pl.Series:
    """Instants from texts that carry their offset."""
    if format == ACCESS_LOG_TIME:
        # Of this shape no year wraps: parse once.
        shaped = pl.when(pl.col("text").str.contains(_ACCESS_LOG)).then("text")
        texts = texts.to_frame("text").select(shaped).to_series()
        times = texts.str.to_datetime(format, time_unit="ns", time_zone="UTC", strict=False)
        return _within_years(times, times.dt.epoch("s"))
    return _strptime(texts, format, "UTC")


def _strptime(texts: pl.Series, format: str, time_zone: str | None = None) -> pl.Series:
    """Times, local ones without `time_zone`; null where the text has another form, or the year is far away."""
    # Years that nanoseconds cannot hold wrap: compare coarse times.
    coarse = texts.str.to_datetime(format, time_unit="us", time_zone=time_zone, strict=False)
    fine = texts.str.to_datetime(format, time_unit="ns", time_zone=time_zone, strict=False)
    return _within_years(fine, coarse.dt.epoch("s"))


def _within_years(times: pl.Series, seconds: pl.Series) -> pl.Series:
    """The times whose seconds since 1970 are of the years 1970 to 2199; null for others."""
    inside = seconds.is_between(_FIRST, _LAST)
    return times if inside.all() else times.to_frame("time").select(pl.when(inside).then("time")).to_series()


def _days(texts: pl.Series, format: str) -> pl.Series:
    """The local midnights of days; null where the text has another form, or the year is far away."""
    day = texts.str.to_date(format, strict=False)
    inside = (day.dt.year() >= 1970) & (day.dt.year() < 2200)
    midnight = pl.col("day").cast(pl.Datetime("ns"))
    return pl.DataFrame({"day": day}).select(pl.when(inside).then(midnight).alias("time")).to_series()


def _in_zone(naive: pl.Series, rule: TimeRule) -> pl.Series:
    """Instants of local times; null where the zone skips them or has them twice, unless the rule chooses."""
    if not rule.ambiguous:
        return naive.dt.replace_time_zone(rule.zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")
    choice: Literal["earliest", "latest"] = "earliest" if rule.ambiguous == "earliest" else "latest"
    found = naive.dt.replace_time_zone(rule.zone, ambiguous=choice, non_existent="null").dt.convert_time_zone("UTC")
    skipped = (naive.is_not_null() & found.is_null()).arg_true()
    if skipped.is_empty():
        return found
    # A skipped time has no instant of its own: read it by the offset after the gap (earlier) or before it (later).
    own = naive.gather(skipped)
    beside = own.dt.offset_by(_AROUND_A_GAP if choice == "earliest" else f"-{_AROUND_A_GAP}")
    instant = beside.dt.replace_time_zone(rule.zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")
    offset = beside.dt.replace_time_zone("UTC") - instant
    return found.scatter(skipped, own.dt.replace_time_zone("UTC") - offset)
