"""Made-up usage for the benchmarks, of a month unless told otherwise: gzipped JSON lines by day, and the business.

Accounts differ by a log-normal factor. Of a million events about 3,000 are delivered twice on the same day, 1,500
again on a later day, 200 again with another value, 1,000 late, 400 written unusually, and 500 cannot count, for one of
seven reasons. The same arguments give the same bytes.
"""

import gzip
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.measuring import run_measured

DAYS: Final = 31
MONTH: Final = "2026-01"
BILLED_MONTH: Final = "2026-02"
FIRST_INSTANT: Final = np.datetime64("2026-01-01T00:00:00", "ms")
EVENTS_PER_ACCOUNT: Final = 100
SOURCES: Final = ("/collectors/eu-1", "/collectors/eu-2", "/collectors/us-1", "/collectors/us-2")
TYPES: Final = ("email.sent", "bandwidth.served", "leads.changed")
MEMBERS: Final = ("count", "bytes", "delta")
TYPE_SHARES: Final = (0.62, 0.26, 0.12)
PACKAGES: Final = ("starter", "silver", "gold")

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

CATALOGUE: Final = """\
currency: USD
time_zone: UTC
seller: {name: Example Ltd, address: [1 Example Street], country: US, tax_id: "12-3456789",
         support_email: help@example.com, billing_policy_url: "https://example.com/billing"}
policy: {billing_start: 2026-01-01}
metrics:
  emails:    {event: email.sent,       kind: counter, measure: sum,  value: data.count}
  bandwidth: {event: bandwidth.served, kind: counter, measure: sum,  value: data.bytes, unit: GB, unit_size: 1000000000}
  leads:     {event: leads.changed,    kind: gauge,   measure: peak, value: data.delta, carries: delta}
packages:
"""

OFFERS: Final = """\
coupons:
  - {name: welcome, title: Welcome offer, percent: "10", documents: 3}
add_ons:
  - name: support
    title: Premium support
    versions: [{effective_from: 2026-01-01, price: {monthly: "30.00"}, allowances: {emails: 5000}}]
"""
BY: Final = ", by: {region: data.region, model: data.model, kind: data.kind}"
RULES: Final = ('{when: {region: eu, model: large, kind: bulk}, model: block, size: 100, price: "0.50"}',)
"""What accounts with offers have beside packages: a coupon and an add-on each, and emails by three dimensions."""
_DIMENSIONS: Final = {"region": ("eu", "us", "ap"), "model": ("large", "small"), "kind": ("bulk", "single")}

TARIFFS: Final = pl.DataFrame(
    [
        ("starter", "emails", 15_000, 1_000, "3.00"),
        ("starter", "bandwidth", 50 * 10**9, 10**9, "0.50"),
        ("starter", "leads", 250, 10, "1.00"),
        ("silver", "emails", 100_000, 1_000, "2.00"),
        ("silver", "bandwidth", 250 * 10**9, 10**9, "0.40"),
        ("silver", "leads", 1_250, 10, "0.80"),
        ("gold", "emails", 200_000, 1_000, "1.50"),
        ("gold", "bandwidth", 500 * 10**9, 10**9, "0.30"),
        ("gold", "leads", 2_500, 10, "0.70"),
    ],
    schema=["package", "metric", "allowance", "block", "price"],
    orient="row",
)
"""Allowances and blocks in base units: what the catalogue says, for peers that read no catalogue."""


@dataclass(frozen=True)
class Month:
    """Where a made-up month stands, and how large it is."""

    home: Path
    events: int
    accounts: int
    days: int = DAYS

    @property
    def usage(self) -> Path:
        """The folder of delivery days."""
        return self.home / "landing" / "usage"


def made_month(home: Path, events: int, accounts: int | None = None, seed: int = 1, days: int = DAYS) -> Month:
    """As `make_month`, in a process of its own: what it holds is no part of what is measured afterwards."""
    month = Month(home, events, accounts or max(10, events // EVENTS_PER_ACCOUNT), days)
    run_measured(["benchmarks.month_of_usage", str(home), *map(str, (events, month.accounts, seed, days))])
    return month


def make_month(
    home: Path, events: int, accounts: int | None = None, seed: int = 1, days: int = DAYS, *, offers: bool = False
) -> Month:
    """Write the landing folder of a business with so many events from January 2026 on, unless it stands there.

    Parameters
    ----------
    offers
        Every account has a coupon and an add-on, and emails are counted by three dimensions.
    """
    accounts = accounts or max(10, events // EVENTS_PER_ACCOUNT)
    month = Month(home, events, accounts, days)
    done = home / "made"
    label = f"{events} {accounts} {seed}" + (f" {days}" if days != DAYS else "") + (" offers" if offers else "")
    if done.exists() and done.read_text() == label:
        return month
    home.joinpath("landing").mkdir(parents=True, exist_ok=True)
    _write_business(home / "landing", accounts, offers=offers)
    _write_usage(month, seed, offers=offers)
    done.write_text(label)
    return month


def account_names(accounts: int) -> pl.Series:
    """The account ids, in order."""
    number = pl.Series("account_id", range(accounts), dtype=pl.Int64).cast(pl.String).str.zfill(8)
    return "acct-" + number


def _catalogue(*, offers: bool) -> str:
    if not offers:
        return CATALOGUE + _packages(())
    by_dimensions = CATALOGUE.replace("value: data.count}", f"value: data.count{BY}}}")
    return by_dimensions.replace("packages:\n", f"{OFFERS}packages:\n") + _packages(RULES)


def _write_business(landing: Path, accounts: int, *, offers: bool) -> None:
    landing.joinpath("catalogue.yaml").write_text(_catalogue(offers=offers), encoding="utf-8")
    names = account_names(accounts)
    base = pl.DataFrame({"account_id": names, "number": range(accounts)})
    base.select(
        "account_id",
        name=pl.format("Customer {}", "number"),
        email=pl.format("billing@customer-{}.example", "number"),
        address_line1=pl.lit("1 Example Street"),
        address_line2=pl.lit(""),
        city=pl.lit("Springfield"),
        region=pl.lit("CA"),
        postal_code=pl.lit("90000"),
        country=pl.lit("US"),
        tax_id=pl.lit(""),
        tax_exempt=pl.lit("false"),
        locale=pl.lit("en-US"),
    ).write_csv(landing / "accounts.csv")
    base.select(
        request_id=pl.format("subscribe-{}", "number"),
        account_id="account_id",
        at=pl.lit("2026-01-01T00:00:00Z"),
        kind=pl.lit("subscribe"),
        channel=pl.lit("self_service"),
        package=pl.lit(pl.Series(PACKAGES)).gather(pl.col("number") % 3),
        term=pl.lit("monthly"),
        trial_days=pl.lit(0),
        **({"coupon": pl.lit("welcome"), "add_ons": pl.struct(support=pl.lit(1))} if offers else {}),
    ).write_ndjson(landing / "requests.jsonl")


def _packages(rules: Sequence[str]) -> str:
    lines = []
    by = f", by: [{', '.join(rules)}]" if rules else ""
    for rank, package in enumerate(PACKAGES, start=1):
        rows = {row["metric"]: row for row in TARIFFS.filter(package=package).to_dicts()}
        units = {"emails": 1, "bandwidth": 10**9, "leads": 1}
        allowances = ", ".join(f"{name}: {row['allowance'] // units[name]}" for name, row in rows.items())
        lines += [
            f"  - name: {package}",
            f"    rank: {rank}",
            f"    title: {package.title()}",
            "    versions:",
            "      - effective_from: 2026-01-01",
            f'        price: {{monthly: "{rank}99.00"}}',
            f"        allowances: {{{allowances}}}",
            "        overage:",
            *(
                f'          {name}: {{model: block, size: {row["block"] // units[name]}, price: "{row["price"]}"'
                f"{by if name == 'emails' else ''}}}"
                for name, row in rows.items()
            ),
            "        auto_upgrade_on: []",
        ]
    return "\n".join(lines) + "\n"


def _write_usage(month: Month, seed: int, *, offers: bool) -> None:
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


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[2:] if each != "offers"]
    made = make_month(Path(sys.argv[1]), *numbers, offers="offers" in sys.argv)
    print(json.dumps({"events": made.events}))
