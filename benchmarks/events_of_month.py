"""The events of a made-up month, by delivery day: what `month_of_usage` writes, from the packages of the benchmarks.

The same arguments give the same bytes.
"""

import gzip
import io
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.month_of_usage import Month, account_names

FIRST_INSTANT: Final = np.datetime64("2026-01-01T00:00:00", "ms")
SOURCES: Final = ("/collectors/eu-1", "/collectors/eu-2", "/collectors/us-1", "/collectors/us-2")
TYPES: Final = ("email.sent", "bandwidth.served", "leads.changed")
MEMBERS: Final = ("count", "bytes", "delta")
TYPE_SHARES: Final = (0.62, 0.26, 0.12)

PLAIN, SAME_DAY, LATER_DAY, CONFLICTING, LATE = range(5)
MOVED_SHARES: Final = (0.9943, 0.003, 0.0015, 0.0002, 0.001)
WRITTEN: Final = (
    "plainly",
    "number_as_text",
    "members_reordered",
    "malformed",
    "no_subject",
    "no_zone",
    "negative",
    "unknown_account",
    "unknown_type",
    "future",
)
WRITTEN_SHARES: Final = (0.9991, 0.0002, 0.0002, 0.0001, 0.0001, 0.0001, 0.0001, 0.00005, 0.00003, 0.00002)
_DIMENSIONS: Final = {"region": ("eu", "us", "ap"), "model": ("large", "small"), "kind": ("bulk", "single")}


def write_usage(month: Month, seed: int, *, offers: bool) -> None:
    """Write the files of every delivery day."""
    random = np.random.default_rng(seed)
    weights = np.cumsum(random.lognormal(0.0, 1.5, month.accounts))
    weights /= weights[-1]
    names = account_names(month.accounts)
    waiting: dict[int, list[pl.DataFrame]] = {}
    for day in range(month.days):
        count = month.events // month.days + (day < month.events % month.days)
        happened = _events_of_day(random, day, count, weights)
        moved = pl.col("moved")
        again = happened.filter(moved == SAME_DAY)
        # what arrives later arrives within the month: no delivery day follows its last
        later = happened.filter(moved.is_in([LATER_DAY, CONFLICTING, LATE])).with_columns(
            pl.min_horizontal(pl.col("delay") + day, month.days - 1).alias("arrival"),
            value=pl.col("value") + (moved == CONFLICTING).cast(pl.Int64),
        )
        for (arrival,), rows in later.partition_by("arrival", as_dict=True).items():
            waiting.setdefault(int(arrival), []).append(rows.drop("arrival"))
        pieces = [happened.filter(moved != LATE), again, *waiting.pop(day, [])]
        folder = month.usage / f"{FIRST_INSTANT + np.timedelta64(day, 'D')}"[:-13]
        folder.mkdir(parents=True, exist_ok=True)
        content = "".join(f"{line}\n" for line in _lines(pl.concat(pieces), names, offers=offers)).encode()
        (folder / "events.jsonl.gz").write_bytes(_gzipped(content))


def _events_of_day(random: Any, day: int, count: int, weights: Any) -> pl.DataFrame:
    kind = random.choice(3, count, p=TYPE_SHARES)
    size = random.lognormal(0.0, 0.8, count)
    value = np.maximum(1, size * np.choose(kind, [200.0, 1.5e9, 12.0])).astype(np.int64)
    # of the changes of leads a third takes some away
    value = np.where((kind == 2) & (random.random(count) < 0.33), -(value // 3) - 1, value)
    offset = np.sort(random.integers(0, 86_400_000, count)) + day * 86_400_000
    digits = random.bytes(16 * count).hex().encode()
    ids = pa.Array.from_buffers(
        pa.large_string(),
        count,
        [None, pa.py_buffer(np.arange(0, 32 * count + 1, 32, dtype=np.int64)), pa.py_buffer(digits)],
    )
    return pl.DataFrame(
        {
            "digits": pl.from_arrow(ids),
            "source": random.integers(0, len(SOURCES), count),
            "kind": kind,
            "account": np.searchsorted(weights, random.random(count)),
            "at": FIRST_INSTANT + offset.astype("timedelta64[ms]"),
            "value": value,
            "moved": random.choice(len(MOVED_SHARES), count, p=MOVED_SHARES),
            "written": random.choice(len(WRITTEN_SHARES), count, p=WRITTEN_SHARES),
            "delay": random.integers(1, 20, count),
        }
    ).with_columns(
        # an event is unusual in one way at most, so that what becomes of it is plain
        written=pl.when(pl.col("moved") == PLAIN).then("written").otherwise(0)
    )


def _lines(rows: pl.DataFrame, names: pl.Series, *, offers: bool) -> pl.Series:
    written = pl.lit(pl.Series(WRITTEN)).gather("written")
    digits = pl.col("digits").str
    identity = pl.concat_str(
        digits.slice(0, 8),
        digits.slice(8, 4),
        digits.slice(12, 4),
        digits.slice(16, 4),
        digits.slice(20, 12),
        separator="-",
    )
    time = pl.col("at") + pl.when(written == "future").then(pl.duration(days=90)).otherwise(pl.duration())
    zone = pl.when(written == "no_zone").then(pl.lit("")).otherwise(pl.lit("Z"))
    event = pl.lit(pl.Series(TYPES)).gather("kind")
    subject = pl.when(written == "unknown_account").then(pl.lit("nobody")).otherwise(pl.lit(names).gather("account"))
    head = pl.concat_str(
        pl.lit('"specversion":"1.0","id":"'),
        identity,
        pl.lit('","source":"'),
        pl.lit(pl.Series(SOURCES)).gather("source"),
        pl.lit('","type":"'),
        pl.when(written == "unknown_type").then(pl.lit("page.viewed")).otherwise(event),
        pl.lit('","subject":"'),
        pl.when(written == "no_subject").then(pl.lit("")).otherwise(subject),
        pl.lit('","time":"'),
        time.dt.to_string("%Y-%m-%dT%H:%M:%S%.3f"),
        zone,
        pl.lit('"'),
    )
    number = pl.when(written == "negative").then(-pl.col("value").abs()).otherwise("value").cast(pl.String)
    quote = pl.when(written == "number_as_text").then(pl.lit('"')).otherwise(pl.lit(""))
    data = pl.concat_str(
        pl.lit('"data":{"'),
        pl.lit(pl.Series(MEMBERS)).gather("kind"),
        pl.lit('":'),
        quote,
        number,
        quote,
        _dimensions() if offers else pl.lit(""),
        pl.lit("}"),
    )
    line = pl.concat_str(pl.lit("{"), head, pl.lit(","), data, pl.lit("}"))
    return rows.select(
        line=pl.when(written == "malformed")
        .then(line.str.head(90))
        .when(written == "members_reordered")
        .then(pl.concat_str(pl.lit("{"), data, pl.lit(", "), head, pl.lit("}")))
        .otherwise(line)
    ).to_series()


def _dimensions() -> pl.Expr:
    """The members that tell emails apart, and nothing of other events."""
    place = pl.col("account") + pl.col("value")
    said = []
    for name, values in _DIMENSIONS.items():
        said += [pl.lit(f',"{name}":"'), pl.lit(pl.Series(values)).gather(place % len(values)), pl.lit('"')]
        place //= len(values)
    return pl.when(pl.col("kind") == 0).then(pl.concat_str(said)).otherwise(pl.lit(""))


def _gzipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=buffer, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()
