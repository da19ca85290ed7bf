"""Seats in advance and tokens by model and kind: what some customers of a sample have besides (rules 34 and 35)."""

import re
from datetime import date, timedelta
from typing import Final

import polars as pl

from billing.sample.random_bits import draw_bits, pick

FILE: Final = "seats-and-tokens.jsonl.gz"
MODELS: Final = ("small", "small", "small", "large")
KINDS: Final = ("input", "input", "output", "cached")
# A sixth has users, a tenth calls models.
_WITH_USERS, _WITH_TOKENS = 6, 10
_MILLISECONDS_PER_DAY: Final = 86_400_000
_METRICS: Final = """\
  users:          {event: users.changed,    kind: gauge,   value: data.level, carries: level, charged: in_advance}
  tokens:
    {event: tokens.used, kind: counter, measure: sum, value: data.tokens, by: {model: data.model, kind: data.kind}}
"""
_TARIFF: Final = """\
          tokens:
            model: block
            size: 100000
            price: "0.50"
            by:
              - {when: {model: large}, model: block, size: 10000, price: "0.20"}
              - {when: {model: large, kind: output}, allowance: 10000, model: block, size: 10000, price: "0.60"}
"""


def with_seats_and_tokens(catalogue: str) -> str:
    """The starting catalogue's text with the metrics `users` and `tokens`, and their prices in every package."""
    text = catalogue.replace("metrics:\n", f"metrics:\n{_METRICS}", 1)
    text = re.sub(r"(?m)^( {8}allowances: \{)", r"\1users: null, tokens: 200000, ", text)
    seats = '{metric: users, included: 5, price: "12.00"}'
    return re.sub(r"(?m)^ {8}overage:\n", f"        seats: {seats}\n        overage:\n{_TARIFF}", text)


def seats_and_tokens_of_day(customers: pl.DataFrame, day: int, first_day: date, seed: int) -> pl.Series:
    """The events of a day as JSON lines: a new level of users every few weeks, and two calls of models a day.

    Parameters
    ----------
    customers
        As `customers_of`.
    day
        Days since `first_day`.
    """
    active = customers.filter(
        (pl.col("start_day") <= day)
        & (pl.col("quiet_from").is_null() | (pl.col("quiet_from") > day) | (pl.col("resume_day") <= day))
    )
    key = active["index"] * 2**14 + day
    changes = (active["start_day"] == day) | (draw_bits(key, seed, "users change") % 25 == 0)
    with_users = (active["index"] % _WITH_USERS == 3) & changes
    levels = _levels(active.filter(with_users), key.filter(with_users), seed)
    calling = active["index"] % _WITH_TOKENS == 7
    calls = [_calls(active.filter(calling), key.filter(calling), number, seed) for number in range(2)]
    time = pl.lit(first_day + timedelta(days=day)).cast(pl.Datetime("ms")) + pl.duration(milliseconds="millisecond")
    events = pl.concat([levels, *calls]).with_columns(time=time.dt.to_string("%Y-%m-%dT%H:%M:%S%.3fZ"))
    members = {"id": "id", "source": "source", "type": "type", "subject": "account_id", "time": "time"}
    texts = [pl.concat_str(pl.lit(f',"{name}":"'), column, pl.lit('"')) for name, column in members.items()]
    line = pl.concat_str(pl.lit('{"specversion":"1.0"'), *texts, pl.lit(',"data":{'), "data", pl.lit("}}"))
    return events.sort("time", "id").select(line.alias("line")).to_series()


def _levels(active: pl.DataFrame, key: pl.Series, seed: int) -> pl.DataFrame:
    """How many users there are: more in larger packages."""
    bits = draw_bits(key, seed, "users")
    level = (2 + (bits % 8).cast(pl.Int64)) * (1 + active["rank"])
    return _events(active, key, bits, "users.changed", pl.format('"level":{}', pl.lit(level)))


def _calls(active: pl.DataFrame, key: pl.Series, number: int, seed: int) -> pl.DataFrame:
    """What a call of a model used."""
    bits = draw_bits(key * 2 + number, seed, "tokens")
    tokens = 1_000 + (bits // 2**16 % 30_000).cast(pl.Int64) * (1 + active["rank"])
    model, kind = pick(MODELS, bits // 2**40), pick(KINDS, bits // 2**48)
    data = pl.format('"tokens":{},"model":"{}","kind":"{}"', pl.lit(tokens), pl.lit(model), pl.lit(kind))
    return _events(active, key * 2 + number, bits, "tokens.used", data)


def _events(active: pl.DataFrame, key: pl.Series, bits: pl.Series, type_: str, data: pl.Expr) -> pl.DataFrame:
    millisecond = (bits // 2**8 % _MILLISECONDS_PER_DAY).cast(pl.Int64)
    return active.select(
        pl.concat_str(pl.lit(type_.partition(".")[0] + "-"), pl.lit(key.cast(pl.String))).alias("id"),
        "account_id",
        source=pl.lit("/app"),
        type=pl.lit(type_),
        millisecond=pl.lit(millisecond),
        data=data,
    )
