"""Synthetic events of a day, before delivery."""

from datetime import date, timedelta
from typing import Final

import polars as pl

from billing.sample.random_bits import draw_bits

EMAILS: Final = 0
BANDWIDTH: Final = 1
LEADS: Final = 2
DOMAINS: Final = 3
EVENT_TYPES: Final = ("email.sent", "bandwidth.served", "leads.changed", "domains.changed")
DATA_MEMBERS: Final = ("count", "bytes", "delta", "delta")
TYPE_PER_MILLE: Final = (620, 260, 120)
"""Shares of emails, bandwidth and leads among the daily events; domains change on days of their own."""

MILLION: Final = 1_000_000
MILLISECONDS_PER_DAY: Final = 86_400_000
MAXIMUM_DAILY_EVENTS: Final = 2**24
RARE_SEQUENCE: Final = 2**25


def rare_changes(customers: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return events outside the daily routine: leads imported at the start, domains added or removed.

    Columns: index, account_id, source, day, event_type, value, sequence (RARE_SEQUENCE and up).
    """
    base = customers.select("index", "account_id", "source", "start_day", "domains", "first_leads")
    imported = base.select(
        *("index", "account_id", "source"),
        day="start_day",
        event_type=pl.lit(LEADS, dtype=pl.Int64),
        value="first_leads",
        sequence=pl.lit(0, dtype=pl.Int64),
    )
    domains = base.with_columns(number=pl.int_ranges(pl.col("domains"), dtype=pl.Int64)).explode("number")
    chance = draw_bits(domains.get_column("index") * 64 + domains.get_column("number").cast(pl.UInt64), seed, "domain")
    domains = domains.with_columns(chance=chance).with_columns(
        # Add the first domain at sign-up, most others in the first weeks.
        day=pl.col("start_day")
        + pl.when(pl.col("number") == 0).then(pl.lit(0)).otherwise(pl.col("chance") % 45).cast(pl.Int64)
    )
    added = domains.select(
        *("index", "account_id", "source", "day"),
        event_type=pl.lit(DOMAINS, dtype=pl.Int64),
        value=pl.lit(1, dtype=pl.Int64),
        sequence=2 * pl.col("number") + 1,
    )
    removed = domains.filter((pl.col("number") > 0) & (pl.col("chance") // 2**20 % 6 == 0)).select(
        *("index", "account_id", "source"),
        day=pl.col("day") + 10 + (pl.col("chance") // 2**30 % 30).cast(pl.Int64),
        event_type=pl.lit(DOMAINS, dtype=pl.Int64),
        value=pl.lit(-1, dtype=pl.Int64),
        sequence=2 * pl.col("number") + 2,
    )
    return pl.concat([imported, added, removed]).with_columns(sequence=pl.col("sequence") + RARE_SEQUENCE)


def events_of_day(
    users: pl.DataFrame, *, rare: pl.DataFrame, day: int, part: int, parts: int, first_day: date, seed: int
) -> pl.DataFrame:
    """Return the events of one file and day, sorted by time.

    Columns: id (64 bits), source, event_type, subject, at (milliseconds, UTC), value, bits (random, for later draws).
    """
    mine = pl.col("index") % parts == part
    active = users.filter(
        mine
        & (pl.col("start_day") <= day)
        & (pl.col("quiet_from").is_null() | (pl.col("quiet_from") > day) | (pl.col("resume_day") <= day))
    )
    # Fewer events at weekends.
    per_mille = 600 if (first_day + timedelta(days=day)).weekday() >= 5 else 1160
    account_day = active.get_column("index") * 2**14 + day
    chance = (draw_bits(account_day, seed, "events of the day") % MILLION).cast(pl.Int64)
    daily = (
        active.with_columns(count=(active.get_column("rate") * per_mille // 1000 + chance) // MILLION)
        .filter(pl.col("count") > 0)
        .with_columns(sequence=pl.int_ranges(pl.col("count"), dtype=pl.Int64))
        .explode("sequence")
    )
    daily = _with_values(daily, day, seed)
    happened = pl.concat(
        [daily, rare.filter(mine & (pl.col("day") == day)).select(daily.columns)],
    )
    key = _event_key(happened, day)
    # Put rare changes into the first hour of the day: an import precedes its use.
    span = (happened.get_column("sequence") >= RARE_SEQUENCE).cast(pl.UInt64) * (MILLISECONDS_PER_DAY // 24)
    span = span + (happened.get_column("sequence") < RARE_SEQUENCE).cast(pl.UInt64) * MILLISECONDS_PER_DAY
    millisecond = (draw_bits(key, seed, "time of day") % span).cast(pl.Int64)
    midnight = int((first_day - date(1970, 1, 1)).days + day) * MILLISECONDS_PER_DAY
    return happened.select(
        # Keep ids as numbers until written: late text rows would hold the string buffer of their file in memory.
        draw_bits(key, seed, "id").alias("id"),
        "source",
        "event_type",
        pl.col("account_id").alias("subject"),
        (millisecond + midnight).cast(pl.Datetime("ms")).alias("at"),
        "value",
        draw_bits(key, seed, "dirt").alias("bits"),
    ).sort("at", "id")


def _with_values(daily: pl.DataFrame, day: int, seed: int) -> pl.DataFrame:
    """Draw type and value for the events of a day."""
    key = _event_key(daily, day)
    kind = (draw_bits(key, seed, "event type") % 1000).cast(pl.Int64)
    bits = draw_bits(key, seed, "value")
    jitter = 500 + (bits % 1001).cast(pl.Int64)
    size = pl.col("size") * pl.col("jitter")
    # Leads are in thousandths: round the fraction up or down by chance, so that small changes add up.
    leads = (size // 1000 + pl.col("remainder")) // 1000
    return (
        daily.with_columns(jitter=jitter, remainder=(bits // 2**20 % 1000).cast(pl.Int64), sign=bits // 2**40 % 16)
        .with_columns(
            event_type=pl.when(pl.lit(kind) < TYPE_PER_MILLE[EMAILS])
            .then(pl.lit(EMAILS))
            .when(pl.lit(kind) < TYPE_PER_MILLE[EMAILS] + TYPE_PER_MILLE[BANDWIDTH])
            .then(pl.lit(BANDWIDTH))
            .otherwise(pl.lit(LEADS))
            .cast(pl.Int64)
        )
        .with_columns(
            size=pl.when(pl.col("event_type") == EMAILS)
            .then("email_size")
            .when(pl.col("event_type") == BANDWIDTH)
            .then("bandwidth_size")
            .otherwise("leads_size")
        )
        .with_columns(
            value=pl.when(pl.col("event_type") != LEADS)
            .then((size // 1000).clip(1))
            .when(leads == 0)
            .then(pl.when(pl.col("sign") < 8).then(pl.lit(1)).otherwise(pl.lit(-1)))
            .when(pl.col("sign") < 2)
            .then(-(leads // 3 + 1))
            .otherwise(leads)
        )
        .select("index", "account_id", "source", "event_type", "value", "sequence")
    )


def _event_key(events: pl.DataFrame, day: int) -> pl.Series:
    """Return a unique key per event: 24 bits of account, 14 of day, 26 of position in the day."""
    account_day = events.get_column("index") * 2**14 + day
    return account_day * 2**26 + events.get_column("sequence").cast(pl.UInt64)
