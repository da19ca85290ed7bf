"""A synthetic business: made-up customers and a few months of their usage, with the dirt that real logs carry.

Everything is drawn from integers by a counter-based generator (splitmix64 over account, day and position), so equal
arguments give equal bytes in any process, at any number of threads, and a day is made without looking at another.
Usage is written file by file; memory holds one file's rows and the rows that are delivered late.
"""

import gzip
import hashlib
import io
import math
import shutil
from calendar import monthrange
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

import polars as pl
import zstandard

from billing.errors import RefusedError
from billing.starter import SCRATCH_LANDING, refuse_existing_landing, starter_catalogue


def _words(text: str) -> Sequence[str]:
    return text.split()


ROWS_PER_FILE: Final = 250_000
DELIVERY_DAYS_AFTER_THE_END: Final = 5
MAXIMUM_ACCOUNTS: Final = 2**24
MAXIMUM_EVENTS_PER_ACCOUNT_DAY: Final = 10_000

RARE_SEQUENCE: Final = 2**25

MILLION: Final = 1_000_000
MILLISECONDS_PER_DAY: Final = 86_400_000
CARD_NUMBER: Final = "4111 1111 1111 1111"
"""The card networks' public test number: it passes every check and belongs to nobody."""

DIRT_PER_MILLION: Final[Mapping[str, int]] = {
    # the same event once more
    "duplicate_same_day": 2000,
    "duplicate_later_day": 800,
    "conflicting_duplicate": 150,
    # counted, but not where or how one expects them
    "late": 1500,
    "card_number": 100,
    "number_as_string": 200,
    "members_reordered": 200,
    # set aside
    "too_old": 100,
    "malformed": 150,
    "missing_field": 100,
    "time_without_zone": 100,
    "negative_counter": 100,
    "unknown_account": 150,
    "unknown_type": 100,
    "future_dated": 100,
}
"""How many of a million events get which dirt; an event gets one kind at most."""

DUPLICATES: Final = ("duplicate_same_day", "duplicate_later_day")
REJECTED: Final = (
    "conflicting_duplicate",
    "too_old",
    "malformed",
    "missing_field",
    "time_without_zone",
    "negative_counter",
    "unknown_account",
    "unknown_type",
    "future_dated",
)
ONLY_IN_JSON: Final = ("malformed", "card_number", "number_as_string", "members_reordered")

# Mostly gzipped JSON lines, as collectors deliver them; every tenth file or so is of another kind.
FORMATS: Final = (
    *("jsonl.gz", "jsonl.gz", "csv", "jsonl.gz", "parquet", "jsonl.gz"),
    *("jsonl.zst", "jsonl.gz", "jsonl.gz", "csv.gz", "jsonl.gz", "jsonl"),
)
SOURCES: Final = ("/collector/eu-1", "/collector/us-1", "/collector/us-2")

EMAILS: Final = 0
BANDWIDTH: Final = 1
LEADS: Final = 2
DOMAINS: Final = 3
EVENT_TYPES: Final = ("email.sent", "bandwidth.served", "leads.changed", "domains.changed")
DATA_MEMBERS: Final = ("count", "bytes", "delta", "delta")
TYPE_PER_MILLE: Final = (620, 260, 120)
"""Shares of emails, bandwidth and leads among the daily events; domains change on days of their own."""

PACKAGES: Final = ("starter", "silver", "gold", "platinum")
# What a typical customer of a package would fill; platinum's emails and bandwidth are unlimited: these are its habits.
PACKAGE_LEADS: Final = (2_500, 12_500, 25_000, 50_000)
PACKAGE_EMAILS: Final = (15_000, 100_000, 200_000, 400_000)
PACKAGE_GIGABYTES: Final = (50, 250, 500, 800)
PACKAGE_DOMAINS: Final = (1, 3, 5, 10)

NAME_BEGINNINGS: Final = _words(
    "Amberfield Brightwater Cedarline Dovetail Elmhurst Foxglove Granita Harborlight Inkwell Juniper Kestrel Larkspur "
    "Marlowe Northbeam Oakhollow Pemberley Quillon Redfern Saltmarsh Thistledown Umberto Vellum Willowby Yarrow "
    "Zephyrine Grünwald Étoile Böhmer Señal Åskog"
)
NAME_TRADES: Final = _words(
    "Analytics Bakery Boats Books Ceramics Clinics Coffee Cycling Dental Design Events Foods Furniture Gardens Homes "
    "Instruments Labs Learning Logistics Media Music Outdoors Press Robotics Sports Studio Textiles Travel"
)
STREETS: Final = _words("Example Mill Harbour Station Orchard Church Market River School Garden")
# country, legal form, street pattern, locale, share, then (city, region, postal code) choices
COUNTRIES: Final = (
    ("US", "Inc.", "Street", "en_US", 50),
    ("GB", "Ltd", "Road", "en_GB", 14),
    ("DE", "GmbH", "Allee", "de_DE", 14),
    ("FR", "SAS", "Passage", "fr_FR", 12),
    ("NL", "B.V.", "Plein", "nl_NL", 5),
    ("CH", "AG", "Weg", "de_CH", 5),
)
PLACES: Final[Mapping[str, Sequence[tuple[str, str, str]]]] = {
    "US": (
        ("Springfield", "IL", "62701"),
        ("Fresno", "CA", "93650"),
        ("Albany", "NY", "12203"),
        ("Waco", "TX", "76701"),
        ("Portland", "OR", "97201"),
    ),
    "GB": (("Leeds", "", "LS1 1AA"), ("Bristol", "", "BS1 1AA")),
    "DE": (("Leipzig", "", "04103"), ("Köln", "", "50667")),
    "FR": (("Lyon", "", "69001"), ("Nîmes", "", "30000")),
    "NL": (("Utrecht", "", "3511 AA"),),
    "CH": (("Zürich", "", "8001"),),
}
TAX_RATES: Final = (
    ("US", "IL", "0.0625", "Sales tax"),
    ("US", "CA", "0.0725", "Sales tax"),
    ("US", "NY", "0.04", "Sales tax"),
    ("US", "TX", "0.0625", "Sales tax"),
    ("GB", "", "0.20", "VAT"),
    ("DE", "", "0.19", "USt"),
    ("FR", "", "0.20", "TVA"),
    ("NL", "", "0.21", "BTW"),
    ("CH", "", "0.081", "MWST"),
)
CARDS: Final = (("Visa", "4242"), ("MasterCard", "4444"), ("American Express", "0005"), ("discover", "1117"))


@dataclass(frozen=True)
class SampleSummary:
    """What `write_sample` wrote.

    Attributes
    ----------
    accounts, requests
        Rows of accounts.csv and requests.jsonl.
    events
        Events that happened, each counted once, whatever became of it in delivery.
    rows, files
        Rows and files under usage/, header lines not counted.
    dirt
        How many rows carry each kind of `DIRT_PER_MILLION`; every kind is named, also with 0.
    first_day, last_day, last_delivery_day
        The span of the usage, and the last day on which something is delivered.
    bill_month, bill_as_of
        What to bill for as many months of documents as there are months of usage.
    closing_month, closing_as_of
        What to bill afterwards to close the last cycles and settle what was delivered late.
    """

    directory: Path
    accounts: int
    requests: int
    events: int
    rows: int
    files: int
    dirt: Mapping[str, int]
    first_day: date
    last_day: date
    last_delivery_day: date
    bill_month: str
    bill_as_of: date
    closing_month: str
    closing_as_of: date

    @property
    def duplicates(self) -> int:
        """Rows that repeat an event, content and all (rule 26)."""
        return sum(self.dirt[kind] for kind in DUPLICATES)

    @property
    def rejected(self) -> int:
        """Rows that are to be set aside with a reason (rules 26 and 27)."""
        return sum(self.dirt[kind] for kind in REJECTED)

    @property
    def counted(self) -> int:
        """Rows that are to count as usage once everything is delivered."""
        return self.rows - self.duplicates - self.rejected


def billing_hint(months: int, first_month: str = "2026-01") -> tuple[str, date]:
    """Return the last billing month of a sample and its last day: what to bill to see `months` months of documents."""
    last = _month_after(_first_day(first_month), months - 1)
    return f"{last:%Y-%m}", _last_day_of_month(last)


def write_sample(
    directory: Path,
    accounts: int = 200,
    months: int = 3,
    events_per_account_day: Decimal | float = 10,
    seed: int = 1,
    first_month: str = "2026-01",
    progress: Callable[[date, int], None] | None = None,
) -> SampleSummary:
    """Write a synthetic business into `directory`/landing; equal arguments give equal bytes.

    Customers sign up over the whole time, many on the first days and some on the last days of a month. Their usage is
    spread log-normally; leads grow until several outgrow their package. Payments stay empty: they would have to name
    documents that do not exist before billing.

    Parameters
    ----------
    accounts
        1 to 16,777,216.
    months
        Calendar months of usage, from the first day of `first_month` (YYYY-MM) to the last day of the last.
    events_per_account_day
        On average over accounts and days, more than 0 and at most 10,000.
    progress
        Called after each delivery day with the day and the number of rows so far.

    Raises
    ------
    StarterError
        There is a landing area in `directory` already.
    RefusedError
        An argument is out of range.
    OSError
        The folder cannot be written; no landing area is left behind.
    """
    events_per_million_days = int(Decimal(str(events_per_account_day)) * MILLION)
    if not 1 <= accounts <= MAXIMUM_ACCOUNTS:
        raise RefusedError(f"accounts is {accounts}: expected 1 to {MAXIMUM_ACCOUNTS:,}")
    if not 1 <= months <= 120:
        raise RefusedError(f"months is {months}: expected 1 to 120")
    if not 1 <= events_per_million_days <= MAXIMUM_EVENTS_PER_ACCOUNT_DAY * MILLION:
        raise RefusedError(f"events per account and day is {events_per_account_day}: expected 0.000001 to 10,000")
    refuse_existing_landing(directory)

    first_day = _first_day(first_month)
    bill_month, last_day = billing_hint(months, first_month)
    closing_day = last_day + timedelta(days=1)
    scratch = directory / SCRATCH_LANDING
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True)
        customers = _customers(accounts, first_day, last_day, events_per_million_days, seed)
        requests = _requests(customers, first_day, last_day)
        (scratch / "catalogue.yaml").write_text(_catalogue(customers, first_day), encoding="utf-8")
        customers.select(
            *("account_id", "name", "email", "address_line1", "address_line2", "city", "region"),
            *("postal_code", "country", "tax_id", "tax_exempt", "locale"),
        ).with_columns(pl.col(pl.String).replace("", None)).write_csv(scratch / "accounts.csv")
        (scratch / "tax_rates.csv").write_text(_tax_rates(first_day), encoding="utf-8")
        (scratch / "requests.jsonl").write_bytes(_lines(requests))
        (scratch / "payments.jsonl").write_bytes(b"")
        delivered = _write_usage(scratch / "usage", customers, first_day, last_day, seed, progress)
        scratch.rename(directory / "landing")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return SampleSummary(
        directory=directory,
        accounts=accounts,
        requests=requests.len(),
        events=delivered.events,
        rows=delivered.rows,
        files=delivered.files,
        dirt=delivered.dirt,
        first_day=first_day,
        last_day=last_day,
        last_delivery_day=delivered.last_delivery_day,
        bill_month=bill_month,
        bill_as_of=last_day,
        closing_month=f"{closing_day:%Y-%m}",
        closing_as_of=_last_day_of_month(closing_day),
    )


# --- chance ---------------------------------------------------------------------------------------------------------


def _draw(key: pl.Series, seed: int, purpose: str) -> pl.Series:
    """Return 64 random bits per key. For one purpose different keys give different bits, so these can serve as ids."""
    offset = int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "big")
    bits = key.cast(pl.UInt64) * _u64(0x9E3779B97F4A7C15) + _u64(offset)
    bits = (bits ^ (bits // 2**30)) * _u64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits // 2**27)) * _u64(0x94D049BB133111EB)
    return bits ^ (bits // 2**31)


def _u64(value: int) -> pl.Series:
    return pl.Series([value], dtype=pl.UInt64)


def _pick(choices: Sequence[str | None], bits: pl.Series) -> pl.Series:
    """Return one of the choices per row, all equally likely."""
    return pl.Series(choices, dtype=pl.String).gather((bits % len(choices)).cast(pl.UInt32))


def _normal(key: pl.Series, seed: int, purpose: str) -> pl.Series:
    """Return normally distributed numbers: sums of twelve 16-bit integers, exact until the last division."""
    total = pl.zeros(key.len(), dtype=pl.Int64, eager=True)
    for part in range(3):
        bits = _draw(key, seed, f"{purpose}/{part}")
        for position in range(4):
            total = total + (bits // 2 ** (16 * position) % 2**16).cast(pl.Int64)
    return (total - 6 * 2**16).cast(pl.Float64) / 2**16


def _log_normal(key: pl.Series, seed: int, purpose: str, sigma: float) -> pl.Series:
    """Return log-normal factors with median 1, to six decimals, so that the last bit of `exp` decides nothing."""
    return (_normal(key, seed, purpose) * sigma).exp().round(6)


# --- customers ------------------------------------------------------------------------------------------------------


def _customers(accounts: int, first_day: date, last_day: date, events_per_million_days: int, seed: int) -> pl.DataFrame:
    """Return a row per account: who it is, what it buys and when, and how it uses it; days count from `first_day`."""
    key = pl.int_range(accounts, dtype=pl.UInt64, eager=True)

    def draw(purpose: str) -> pl.Series:
        return _draw(key, seed, purpose)

    days = (last_day - first_day).days + 1
    month_days = monthrange(first_day.year, first_day.month)[1]
    later_days = max(days - month_days - 10, 1)
    countries = [country for country in COUNTRIES for _ in range(country[4])]
    country_choice = draw("country") % len(countries)
    packages = [rank for rank, share in enumerate((55, 27, 13, 5)) for _ in range(share)]
    rank = pl.Series(packages, dtype=pl.Int64).gather((draw("package") % 100).cast(pl.UInt32))

    def of_country(position: int) -> pl.Series:
        return _pick([str(country[position]) for country in countries], country_choice)

    def of_package(levels: Sequence[int]) -> pl.Series:
        return pl.Series(levels, dtype=pl.Int64).gather(rank)

    # Heavy-tailed: a few accounts make most of the events. Weights are whole numbers, so their sum is exact.
    weight = (_log_normal(key, seed, "weight", 1.2) * 1000).round().cast(pl.Int64).clip(1)
    share = Decimal(events_per_million_days) * accounts / int(weight.sum())
    rate = (weight * float(share)).round().cast(pl.Int64).clip(10_000, RARE_SEQUENCE // 2 * MILLION)

    def per_event(monthly: pl.Series, event_type: int) -> pl.Series:
        events_a_month = rate.cast(pl.Float64) * (30 * TYPE_PER_MILLE[event_type]) / (1000 * MILLION)
        return (monthly / events_a_month).clip(upper_bound=1e15)

    growth = pl.select(
        pl.when(pl.lit(draw("fast growth") % 10) == 0).then(pl.lit(6.0)).otherwise(pl.lit(1.0)).alias("growth")
    ).to_series()
    leads = of_package(PACKAGE_LEADS)
    leads_a_month = leads * growth * (5 + draw("growth") % 20).cast(pl.Int64) / 100
    tax_number = draw("tax number")

    frame = pl.DataFrame(
        {
            "index": key,
            "account_id": "acct-" + (key + 1).cast(pl.String).str.zfill(6),
            "name": _pick(NAME_BEGINNINGS, draw("name"))
            + " "
            + _pick(NAME_TRADES, draw("trade"))
            + " "
            + of_country(1),
            "address_line1": (1 + draw("house") % 180).cast(pl.String)
            + " "
            + _pick(STREETS, draw("street"))
            + " "
            + of_country(2),
            "address_line2": _pick(["", "", "", "Floor 2", "Suite 40"], draw("floor")),
            "country": of_country(0),
            "locale": of_country(3),
            "place": draw("place"),
            "tax_id": pl.repeat("", accounts, dtype=pl.String, eager=True),
            "tax_exempt": draw("tax exempt") % 12 == 0,
            "german_tax_id": "DE" + _german_vat_number(tax_number),
            "british_tax_id": "GB" + _british_vat_number(tax_number),
            "french_tax_id": "FR" + _french_vat_number(tax_number),
            "has_tax_id": draw("has tax id") % 5 < 3,
            "source": _pick(SOURCES, draw("source")),
            "rank": rank,
            "term": _pick(["yearly"] + ["monthly"] * 24, draw("term")),
            "trial_days": (draw("trial") % 12 == 0).cast(pl.Int64) * 14,
            "sign_up": draw("sign up") % 100,
            "sign_up_day": draw("sign up day"),
            "life": (draw("life") % 1000).cast(pl.Int64),
            "life_day": draw("life day"),
            "life_second": draw("life second"),
            "card": draw("card"),
            "rate": rate,
            "email_size": per_event(of_package(PACKAGE_EMAILS) * _log_normal(key, seed, "emails", 0.8) * 0.5, EMAILS)
            .round()
            .cast(pl.Int64),
            "bandwidth_size": per_event(
                of_package(PACKAGE_GIGABYTES) * _log_normal(key, seed, "bandwidth", 0.8) * 0.5e9, BANDWIDTH
            )
            .round()
            .cast(pl.Int64),
            "leads_size": (per_event(leads_a_month, LEADS) * 1000).round().cast(pl.Int64),
            "first_leads": leads * (15 + draw("first leads") % 60).cast(pl.Int64) // 100,
            "domains": (of_package(PACKAGE_DOMAINS) + (draw("domains") % 6).cast(pl.Int64) - 3).clip(1),
        }
    )
    places = pl.DataFrame(
        [(country, number, *place) for country, choices in PLACES.items() for number, place in enumerate(choices)],
        schema={
            "country": pl.String,
            "place": pl.UInt64,
            "city": pl.String,
            "region": pl.String,
            "postal_code": pl.String,
        },
        orient="row",
    )
    frame = frame.with_columns(
        pl.col("place") % pl.col("country").replace_strict({name: len(rows) for name, rows in PLACES.items()}),
        # Everybody's first cycle lies in the span; many start at once, and some on the 29th to 31st (no drift).
        start_day=pl.when(pl.col("sign_up") < 45)
        .then(pl.col("sign_up_day") % 5)
        .when(pl.col("sign_up") < 70)
        .then(pl.col("sign_up_day") % month_days)
        .when(pl.col("sign_up") < 80)
        .then(month_days - 1 - pl.col("sign_up_day") % 3)
        .when(pl.lit(days > month_days))
        .then(month_days + pl.col("sign_up_day") % later_days)
        .otherwise(pl.col("sign_up_day") % month_days)
        .cast(pl.Int64),
        email="billing@" + pl.col("account_id") + ".example.com",
        tax_exempt=pl.when((pl.col("country") == "US") & pl.col("tax_exempt"))
        .then(pl.lit("true"))
        .otherwise(pl.lit("false")),
        tax_id=pl.when(~pl.col("has_tax_id"))
        .then(pl.lit(""))
        .when(pl.col("country") == "DE")
        .then(pl.col("german_tax_id"))
        .when(pl.col("country") == "GB")
        .then(pl.col("british_tax_id"))
        .when(pl.col("country") == "FR")
        .then(pl.col("french_tax_id"))
        .otherwise(pl.lit("")),
    ).join(places, on=["country", "place"], how="left", maintain_order="left")
    # What happens to a subscription besides being used; one story per account, so that stories do not contradict.
    return frame.with_columns(
        story=pl.col("life").replace_strict(_STORIES, default=None, return_dtype=pl.String),
        story_day=pl.col("start_day")
        + pl.when(pl.col("life").is_in(_REFUND_LIVES))
        .then(3 + pl.col("life_day") % 24)
        .otherwise(5 + pl.col("life_day") % 45)
        .cast(pl.Int64),
    ).with_columns(
        resume_day=pl.when(pl.col("story") == "hold and resume").then(
            pl.col("story_day") + 8 + (pl.col("life_day") // 64 % 40).cast(pl.Int64)
        ),
        # Logs go on for two days after the end, as they do: that usage bills nothing.
        quiet_from=pl.when(pl.col("story").is_in(["cancel", "hold", "hold and resume", "refund"])).then(
            pl.col("story_day") + 3
        ),
    )


def _stories() -> dict[int, str]:
    """Return which of a thousand lives have which story; the rest just go on."""
    lengths = {
        "upgrade": 60,
        "downgrade": 45,
        "upgrade and downgrade": 20,
        "cancel": 30,
        "cancel by self service": 10,
        "hold": 15,
        "hold and resume": 25,
        "refund": 25,
        "transfer": 10,
        "split payment": 10,
        "change card": 40,
    }
    names = [name for name, length in lengths.items() for _ in range(length)]
    return dict(enumerate(names))


_STORIES: Final = _stories()
_REFUND_LIVES: Final = [life for life, story in _STORIES.items() if story == "refund"]


def _german_vat_number(bits: pl.Series) -> pl.Series:
    """Return nine digits whose last makes the number valid (ISO 7064 mod 11, 10)."""
    digits = 10_000_000 + bits % 90_000_000
    product = pl.repeat(10, bits.len(), dtype=pl.UInt64, eager=True)
    for position in range(7, -1, -1):
        total = (digits // 10**position % 10 + product) % 10
        total = total + (total == 0).cast(pl.UInt64) * 10
        product = total * 2 % 11
    return digits.cast(pl.String) + ((11 - product) % 10).cast(pl.String)


def _french_vat_number(bits: pl.Series) -> pl.Series:
    """Return two key digits and a nine-digit company number with its own check digit (Luhn)."""
    digits = 10_000_000 + bits % 90_000_000
    total = pl.zeros(bits.len(), dtype=pl.UInt64, eager=True)
    for position in range(8):
        digit = digits // 10**position % 10
        total = total + (digit * 2 // 10 + digit * 2 % 10 if position % 2 == 0 else digit)
    number = digits * 10 + (10 - total % 10) % 10
    return ((number * 3 + 12) % 97).cast(pl.String).str.zfill(2) + number.cast(pl.String)


def _british_vat_number(bits: pl.Series) -> pl.Series:
    """Return nine digits whose last two make the weighted sum a multiple of 97."""
    digits = 1_000_000 + bits % 9_000_000
    total = pl.zeros(bits.len(), dtype=pl.UInt64, eager=True)
    for position in range(7):
        total = total + digits // 10**position % 10 * (position + 2)
    return digits.cast(pl.String) + (97 - total % 97).cast(pl.String).str.zfill(2)


def _requests(customers: pl.DataFrame, first_day: date, last_day: date) -> pl.Series:
    """Return the lines of requests.jsonl in order of time; every row is valid, and some will be refused."""
    higher = pl.lit(pl.Series(PACKAGES)).gather((pl.col("rank") + 1).clip(0, 3))
    lower = pl.lit(pl.Series(PACKAGES)).gather((pl.col("rank") - 1).clip(0, 3))
    noise = pl.col("life_second")
    card_brand, card_last4 = (
        pl.lit(pl.Series([card[part] for card in CARDS])).gather(pl.col("card") % len(CARDS)) for part in (0, 1)
    )

    def request(story: str | None, day: pl.Expr, kind: str, channel: str | pl.Expr, **members: pl.Expr) -> pl.DataFrame:
        rows = customers if story is None else customers.filter(pl.col("story") == story)
        # Office hours, to the second; the last day's evening is still inside the span.
        second = 8 * 3600 + noise % (10 * 3600)
        return rows.select(
            pl.col("account_id"),
            (pl.lit(first_day).cast(pl.Datetime("ms")) + pl.duration(days=day, seconds=second)).alias("at"),
            pl.lit(kind).alias("kind"),
            (pl.lit(channel) if isinstance(channel, str) else channel).alias("channel"),
            **{name: members.get(name, pl.lit(None)).cast(pl.String) for name in _REQUEST_MEMBERS},
        )

    story_day = pl.col("story_day")
    by_support = pl.when(noise % 2 == 0).then(pl.lit("support")).otherwise(pl.lit("email"))
    frames = [
        request(
            None,
            pl.col("start_day"),
            "subscribe",
            "self_service",
            package=pl.lit(pl.Series(PACKAGES)).gather("rank"),
            term=pl.col("term"),
            trial_days=pl.when(pl.col("trial_days") > 0).then(pl.col("trial_days")),
        ),
        request("upgrade", story_day, "upgrade", "self_service", package=higher),
        request("downgrade", story_day, "downgrade", by_support, package=lower),
        request("upgrade and downgrade", story_day, "upgrade", "self_service", package=higher),
        request("upgrade and downgrade", story_day + 2, "downgrade", by_support, package=lower),
        request("cancel", story_day, "cancel", "email"),
        request("cancel by self service", story_day, "cancel", "self_service"),
        request("hold", story_day, "hold", by_support),
        request("hold and resume", story_day, "hold", by_support),
        request("hold and resume", pl.col("resume_day"), "resume", by_support),
        request("refund", story_day, "refund", by_support, reason=pl.lit("not what we expected")),
        request("transfer", story_day, "transfer", by_support),
        request("split payment", story_day, "split_payment", by_support),
        request("change card", story_day, "change_card", "self_service", brand=card_brand, last4=card_last4),
    ]
    end = datetime.combine(last_day + timedelta(days=1), datetime.min.time())
    requests = pl.concat(frames).filter(pl.col("at") < end).sort("at", "account_id", "kind").with_row_index("number", 1)
    members = [
        pl.concat_str(pl.lit(f', "{name}": "'), pl.col(name), pl.lit('"')).fill_null("")
        for name in _REQUEST_MEMBERS
        if name != "trial_days"
    ]
    return requests.select(
        pl.concat_str(
            pl.lit('{"request_id": "req-'),
            pl.col("number").cast(pl.String).str.zfill(6),
            pl.lit('", "account_id": "'),
            "account_id",
            pl.lit('", "at": "'),
            pl.col("at").dt.to_string("%Y-%m-%dT%H:%M:%S"),
            pl.lit('Z", "kind": "'),
            "kind",
            pl.lit('", "channel": "'),
            "channel",
            pl.lit('"'),
            *members,
            pl.concat_str(pl.lit(', "trial_days": '), "trial_days").fill_null(""),
            pl.lit("}"),
        ).alias("line")
    ).to_series()


_REQUEST_MEMBERS: Final = ("package", "term", "trial_days", "reason", "brand", "last4")


def _catalogue(customers: pl.DataFrame, first_day: date) -> str:
    """Return the starting catalogue, effective from the first day, with one agreement when there are gold customers."""
    text = (
        starter_catalogue()
        .replace("billing_start: 2024-01-01", f"billing_start: {first_day}")
        .replace("- effective_from: 2026-01-01", f"- effective_from: {first_day}")
    )
    gold = customers.filter(pl.col("rank") == PACKAGES.index("gold")).get_column("account_id")
    if gold.is_empty():
        return text
    return (
        f"{text}\nagreements:\n  - {{account_id: {gold[0]}, package: gold, effective_from: {first_day}, "
        'price: {monthly: "250.00"}, allowances: {emails: 300000}}\n'
    )


def _tax_rates(first_day: date) -> str:
    rows = [
        f"{country},{region},{rate},{name},{first_day.replace(month=1, day=1)}"
        for country, region, rate, name in TAX_RATES
    ]
    return "\n".join(["country,region,rate,name,effective_from", *rows, ""])


# --- usage ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Delivered:
    events: int
    rows: int
    files: int
    dirt: dict[str, int]
    last_delivery_day: date


def _write_usage(
    folder: Path,
    customers: pl.DataFrame,
    first_day: date,
    last_day: date,
    seed: int,
    progress: Callable[[date, int], None] | None,
) -> _Delivered:
    """Write every delivery day; rows that arrive on a later day wait in memory until then."""
    days = (last_day - first_day).days + 1
    users = customers.select(
        *("index", "account_id", "source", "start_day", "quiet_from", "resume_day", "rate"),
        *("email_size", "bandwidth_size", "leads_size"),
    )
    rare = _rare_changes(customers, seed)
    expected_rows = int(customers.get_column("rate").sum()) // MILLION
    waiting: dict[int, list[pl.DataFrame]] = {}
    dirt = dict.fromkeys(DIRT_PER_MILLION, 0)
    events = rows = files = last_delivery = 0
    for day in range(days + DELIVERY_DAYS_AFTER_THE_END):
        parts = max(2 + day % 2, math.ceil(expected_rows / ROWS_PER_FILE)) if day < days else 1
        for part in range(parts):
            file_format = FORMATS[(day * 5 + part) % len(FORMATS)]
            pieces = []
            if day < days:
                happened = _events_of_day(users, rare, day, part, parts, first_day, seed)
                happened = _with_dirt(happened, file_format, seed)
                events += happened.height
                for kind, count in happened.get_column("dirt").drop_nulls().value_counts().iter_rows():
                    dirt[kind] += count
                pieces = [_arriving_at_once(happened)]
                for delay, later in _arriving_later(happened, seed):
                    arrival = min(day + delay, days - 1 + DELIVERY_DAYS_AFTER_THE_END)
                    waiting.setdefault(arrival, []).append(later)
            if part == 0:
                pieces += waiting.pop(day, [])
            delivery = pl.concat(pieces) if pieces else pl.DataFrame()
            if delivery.is_empty():
                continue
            target = folder / str(first_day + timedelta(days=day)) / f"events-{part:02d}.{file_format}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_file_content(delivery, file_format))
            rows, files, last_delivery = rows + delivery.height, files + 1, day
        if progress is not None:
            progress(first_day + timedelta(days=day), rows)
    return _Delivered(events, rows, files, dirt, first_day + timedelta(days=last_delivery))


def _rare_changes(customers: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return what happens once: the leads imported at the start and every domain added, or removed again.

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
    chance = _draw(domains.get_column("index") * 64 + domains.get_column("number").cast(pl.UInt64), seed, "domain")
    domains = domains.with_columns(chance=chance).with_columns(
        # The first domain comes with the sign-up, most others in the first weeks.
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


def _events_of_day(
    users: pl.DataFrame, rare: pl.DataFrame, day: int, part: int, parts: int, first_day: date, seed: int
) -> pl.DataFrame:
    """Return one file's events of one day, in order of time.

    Columns: id, source, event_type, subject, at (milliseconds, UTC), value, bits (random, for what follows).
    """
    mine = pl.col("index") % parts == part
    active = users.filter(
        mine
        & (pl.col("start_day") <= day)
        & (pl.col("quiet_from").is_null() | (pl.col("quiet_from") > day) | (pl.col("resume_day") <= day))
    )
    # Business customers rest at weekends.
    per_mille = 600 if (first_day + timedelta(days=day)).weekday() >= 5 else 1160
    account_day = active.get_column("index") * 2**14 + day
    chance = (_draw(account_day, seed, "events of the day") % MILLION).cast(pl.Int64)
    daily = (
        active.with_columns(count=(active.get_column("rate") * per_mille // 1000 + chance) // MILLION)
        .filter(pl.col("count") > 0)
        .with_columns(sequence=pl.int_ranges(pl.col("count"), dtype=pl.Int64))
        .explode("sequence")
    )
    key = _event_key(daily, day)
    kind = (_draw(key, seed, "event type") % 1000).cast(pl.Int64)
    bits = _draw(key, seed, "value")
    jitter = 500 + (bits % 1001).cast(pl.Int64)
    size = pl.col("size") * pl.col("jitter")
    # Leads are thousandths here, and a part of a lead is a lead by chance, so that small changes add up right.
    leads = (size // 1000 + pl.col("remainder")) // 1000
    daily = (
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
    happened = pl.concat(
        [daily, rare.filter(mine & (pl.col("day") == day)).select(daily.columns)],
    )
    key = _event_key(happened, day)
    # An import comes before what is done with it, so rare changes stand in the first hour of the day.
    span = (happened.get_column("sequence") >= RARE_SEQUENCE).cast(pl.UInt64) * (MILLISECONDS_PER_DAY // 24)
    span = span + (happened.get_column("sequence") < RARE_SEQUENCE).cast(pl.UInt64) * MILLISECONDS_PER_DAY
    millisecond = (_draw(key, seed, "time of day") % span).cast(pl.Int64)
    midnight = int((first_day - date(1970, 1, 1)).days + day) * MILLISECONDS_PER_DAY
    return happened.select(
        _draw(key, seed, "id").cast(pl.String).alias("id"),
        "source",
        "event_type",
        pl.col("account_id").alias("subject"),
        (millisecond + midnight).cast(pl.Datetime("ms")).alias("at"),
        "value",
        _draw(key, seed, "dirt").alias("bits"),
    ).sort("at", "id")


def _event_key(events: pl.DataFrame, day: int) -> pl.Series:
    """Return what no two events share: 24 bits of account, 14 of day, 26 of position in the day."""
    account_day = events.get_column("index") * 2**14 + day
    return account_day * 2**26 + events.get_column("sequence").cast(pl.UInt64)


_DIRT_TABLE: Final = [kind for kind, count in DIRT_PER_MILLION.items() for _ in range(count)]


def _with_dirt(events: pl.DataFrame, file_format: str, seed: int) -> pl.DataFrame:
    """Add the column `dirt`: null, or the one thing that is wrong or unusual about the event in this kind of file."""
    place = (events.get_column("bits") % MILLION).clip(0, len(_DIRT_TABLE)).cast(pl.UInt32)
    impossible = [] if file_format.startswith("jsonl") else list(ONLY_IN_JSON)
    if file_format == "parquet":
        impossible.append("time_without_zone")
    kind = pl.Series([*_DIRT_TABLE, None], dtype=pl.String).gather(place)
    dirt = pl.lit(kind)
    counter = pl.col("event_type").is_in([EMAILS, BANDWIDTH])
    return events.with_columns(
        dirt=pl.when(~dirt.is_in(impossible) & ((dirt != "negative_counter") | counter)).then(dirt)
    )


def _arriving_at_once(events: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of the events' own file: what is not late, as it is delivered, and repetitions at the end."""
    kind = pl.col("dirt")
    noise = (pl.col("bits") // MILLION % 60).cast(pl.Int64)
    rows = events.filter(kind.ne_missing("late")).with_columns(
        at=pl.when(kind == "too_old")
        .then(pl.col("at") - pl.duration(days=91 + noise))
        .when(kind == "future_dated")
        .then(pl.col("at") + pl.duration(days=3 + noise))
        .otherwise("at"),
        value=pl.when(kind == "negative_counter").then(-pl.col("value")).otherwise("value"),
        subject=pl.when(kind == "unknown_account")
        .then("no-such-account-" + (noise % 5).cast(pl.String))
        .when(kind == "missing_field")
        .then(None)
        .otherwise("subject"),
    )
    repeated = events.filter(kind == "duplicate_same_day")
    return pl.concat([rows, repeated]).drop("bits")


def _arriving_later(events: pl.DataFrame, seed: int) -> list[tuple[int, pl.DataFrame]]:
    """Return, by delay in days, what another day's delivery carries: late events, repetitions and contradictions."""
    kind = pl.col("dirt")
    noise = (pl.col("bits") // MILLION).cast(pl.Int64)
    later = (
        events.filter(kind.is_in(["late", "duplicate_later_day", "conflicting_duplicate"]))
        .with_columns(
            delay=pl.when(kind == "late").then(2 + noise % 40).otherwise(1 + noise % 9),
            value=pl.when(kind == "conflicting_duplicate").then(pl.col("value") + 1).otherwise("value"),
            dirt=pl.lit(None, dtype=pl.String),
        )
        .drop("bits")
    )
    return [
        (int(delay), later.filter(pl.col("delay") == delay).drop("delay"))
        for delay in later.get_column("delay").unique().sort()
    ]


# --- files ----------------------------------------------------------------------------------------------------------


def _file_content(rows: pl.DataFrame, file_format: str) -> bytes:
    """Return the bytes of one delivered file; nothing in them depends on when or where it is written."""
    kind, _, compression = file_format.partition(".")
    if kind == "parquet":
        return _parquet(rows)
    content = _csv(rows, "+02:00" if compression else "Z") if kind == "csv" else _lines(_json_lines(rows))
    if compression == "gz":
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=buffer, mtime=0) as file:
            file.write(content)
        return buffer.getvalue()
    if compression == "zst":
        return zstandard.ZstdCompressor(level=3).compress(content)
    return content


def _lines(lines: pl.Series) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _type_name() -> pl.Expr:
    return (
        pl.when(pl.col("dirt") == "unknown_type")
        .then(pl.lit("page.viewed"))
        .otherwise(pl.lit(pl.Series(EVENT_TYPES)).gather("event_type"))
    )


def _json_lines(rows: pl.DataFrame) -> pl.Series:
    """Return CloudEvents, a line each."""
    kind = pl.col("dirt")
    time = pl.col("at").dt.to_string("%Y-%m-%dT%H:%M:%S%.3f")
    value = pl.col("value").cast(pl.String)
    member = pl.lit(pl.Series(DATA_MEMBERS)).gather("event_type")
    head = pl.concat_str(
        pl.lit('{"specversion":"1.0","id":"'),
        "id",
        pl.lit('","source":"'),
        "source",
        pl.lit('","type":"'),
        _type_name(),
        pl.concat_str(pl.lit('","subject":"'), "subject").fill_null(""),
        pl.lit('","time":"'),
        time,
        pl.when(kind == "time_without_zone").then(pl.lit('"')).otherwise(pl.lit('Z"')),
    )
    quote = pl.when(kind == "number_as_string").then(pl.lit('"')).otherwise(pl.lit(""))
    note = pl.when(kind == "card_number").then(pl.lit(f',"note":"{CARD_NUMBER}"')).otherwise(pl.lit(""))
    data = pl.concat_str(pl.lit('"data":{"'), member, pl.lit('":'), quote, value, quote, note, pl.lit("}"))
    line = pl.concat_str(head, pl.lit(","), data, pl.lit("}"))
    return rows.select(
        pl.when(kind == "malformed")
        .then(line.str.head(90))
        .when(kind == "members_reordered")
        .then(pl.concat_str(pl.lit("{"), data, pl.lit(", "), head.str.tail(-1), pl.lit("}")))
        .otherwise(line)
        .alias("line")
    ).to_series()


def _csv(rows: pl.DataFrame, offset: str) -> bytes:
    """Return flat rows with a header; times carry the given offset."""
    ahead = pl.duration(hours=2 if offset == "+02:00" else 0)
    zone = pl.when(pl.col("dirt") == "time_without_zone").then(pl.lit("")).otherwise(pl.lit(offset))
    time = (pl.col("at") + ahead).dt.to_string("%Y-%m-%dT%H:%M:%S%.3f")
    flat = rows.select("id", "source", _type_name().alias("type"), "subject", (time + zone).alias("time"), "value")
    return flat.write_csv().encode()


def _parquet(rows: pl.DataFrame) -> bytes:
    """Return flat rows with times in UTC."""
    flat = rows.select(
        *("id", "source"),
        _type_name().alias("type"),
        "subject",
        pl.col("at").dt.replace_time_zone("UTC").alias("time"),
        "value",
    )
    buffer = io.BytesIO()
    flat.rechunk().write_parquet(buffer, compression="zstd", compression_level=1, row_group_size=ROWS_PER_FILE)
    return buffer.getvalue()


# --- months ---------------------------------------------------------------------------------------------------------


def _first_day(month: str) -> date:
    try:
        return date.fromisoformat(f"{month}-01")
    except ValueError as error:
        raise RefusedError(f"first month is {month!r}: expected YYYY-MM, such as 2026-01") from error


def _month_after(first: date, months: int) -> date:
    years, month = divmod(first.month - 1 + months, 12)
    return date(first.year + years, month + 1, 1)


def _last_day_of_month(day: date) -> date:
    return day.replace(day=monthrange(day.year, day.month)[1])
