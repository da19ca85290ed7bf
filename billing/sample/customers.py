"""Synthetic customers: name, address and country, purchases over time, and usage profile."""

from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import polars as pl

from billing.sample.events import BANDWIDTH, EMAILS, LEADS, MAXIMUM_DAILY_EVENTS, MILLION, TYPE_PER_MILLE
from billing.sample.random_bits import draw_bits, log_normal, pick
from billing.sample.tax_numbers import british_vat_number, french_vat_number, german_vat_number


def _words(text: str) -> Sequence[str]:
    return text.split()


SOURCES: Final = ("/collector/eu-1", "/collector/us-1", "/collector/us-2")

PACKAGES: Final = ("starter", "silver", "gold", "platinum")
PACKAGE_PERCENT: Final = (55, 27, 13, 5)
# Typical monthly usage by package; platinum's emails and bandwidth are unlimited.
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
# Country, legal form, street pattern, locale, share, then (city, region, postal code) choices.
COUNTRIES: Final = (
    ("US", "Inc.", "Street", "en_US", 50),
    ("GB", "Ltd", "Road", "en_GB", 14),
    ("DE", "GmbH", "Allee", "de_DE", 14),
    ("FR", "SAS", "Passage", "fr_FR", 12),
    ("NL", "B.V.", "Plein", "nl_NL", 5),
    ("CH", "AG", "Weg", "de_CH", 5),
)
PLACES: Final[Mapping[str, Sequence[tuple[str, str | None, str]]]] = {
    "US": (
        ("Springfield", "IL", "62701"),
        ("Fresno", "CA", "93650"),
        ("Albany", "NY", "12203"),
        ("Waco", "TX", "76701"),
        ("Portland", "OR", "97201"),
    ),
    "GB": (("Leeds", None, "LS1 1AA"), ("Bristol", None, "BS1 1AA")),
    "DE": (("Leipzig", None, "04103"), ("Köln", None, "50667")),
    "FR": (("Lyon", None, "69001"), ("Nîmes", None, "30000")),
    "NL": (("Utrecht", None, "3511 AA"),),
    "CH": (("Zürich", None, "8001"),),
}
TAX_RATES: Final = (
    ("US", "IL", "0.0625", "Sales tax"),
    ("US", "CA", "0.0725", "Sales tax"),
    ("US", "NY", "0.04", "Sales tax"),
    ("US", "TX", "0.0625", "Sales tax"),
    ("US", "OR", "0", "Sales tax"),
    ("GB", "", "0.20", "VAT"),
    ("DE", "", "0.19", "USt"),
    ("FR", "", "0.20", "TVA"),
    ("NL", "", "0.21", "BTW"),
    ("CH", "", "0.081", "MWST"),
)


STORY_PER_MILLE: Final[Mapping[str, int]] = {
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
"""Subscription stories by frequency; one per account, so that stories do not contradict each other."""
ENDING_STORIES: Final = ("cancel", "hold", "hold and resume", "refund")


def customers_of(
    accounts: int, first_day: date, last_day: date, events_per_account_day: float, seed: int
) -> pl.DataFrame:
    """Return one row per account.

    Columns: index (0 to accounts - 1), those of accounts.csv, source, and

    * the subscription: rank (of the package, from 0), term, trial_days, start_day, story, story_day, story_second,
      resume_day, quiet_from, card (days count from `first_day`);
    * the usage profile: rate (events a day, in millionths), email_size, bandwidth_size (per event), leads_size
      (per event, in thousandths), first_leads, domains.
    """
    key = pl.int_range(accounts, dtype=pl.UInt64, eager=True).alias("index")
    ranks = [rank for rank, share in enumerate(PACKAGE_PERCENT) for _ in range(share)]
    rank = pl.Series("rank", ranks, dtype=pl.Int64).gather((draw_bits(key, seed, "package") % 100).cast(pl.UInt32))
    identities = _identities(key, seed)
    subscriptions = _subscriptions(key, first_day, last_day, seed)
    return pl.concat(
        [key.to_frame(), rank.to_frame(), identities, subscriptions, _habits(key, rank, events_per_account_day, seed)],
        how="horizontal",
    )


def _identities(key: pl.Series, seed: int) -> pl.DataFrame:
    """Return the columns of accounts.csv, and source: the collector that writes the account's logs."""

    def draw(purpose: str) -> pl.Series:
        return draw_bits(key, seed, purpose)

    countries = [country for country in COUNTRIES for _ in range(country[4])]
    country = draw("country") % len(countries)

    def of_country(position: int) -> pl.Series:
        return pick([str(choice[position]) for choice in countries], country)

    places = pl.DataFrame(
        [(name, number, *place) for name, choices in PLACES.items() for number, place in enumerate(choices)],
        schema=["country", "place", "city", "region", "postal_code"],
        orient="row",
    )
    choices = {name: len(choices) for name, choices in PLACES.items()}
    house, tax_number = (1 + draw("house") % 180).cast(pl.String), draw("tax number")
    has_tax_id = pl.lit(draw("has tax id") % 5 < 3)
    return (
        pl.DataFrame(
            {
                "account_id": "acct-" + (key + 1).cast(pl.String).str.zfill(6),
                "name": pick(NAME_BEGINNINGS, draw("name"))
                + " "
                + pick(NAME_TRADES, draw("trade"))
                + " "
                + of_country(1),
                "address_line1": house + " " + pick(STREETS, draw("street")) + " " + of_country(2),
                "address_line2": pick([None, None, None, "Floor 2", "Suite 40"], draw("floor")),
                "country": of_country(0),
                "locale": of_country(3),
                "source": pick(SOURCES, draw("source")),
            }
        )
        .with_columns(
            place=pl.lit(draw("place")) % pl.col("country").replace_strict(choices, return_dtype=pl.UInt64),
            email="billing@" + pl.col("account_id") + ".example.com",
            tax_id=pl.when(has_tax_id & (pl.col("country") == "DE"))
            .then("DE" + pl.lit(german_vat_number(tax_number)))
            .when(has_tax_id & (pl.col("country") == "GB"))
            .then("GB" + pl.lit(british_vat_number(tax_number)))
            .when(has_tax_id & (pl.col("country") == "FR"))
            .then("FR" + pl.lit(french_vat_number(tax_number))),
            tax_exempt=pl.when((pl.col("country") == "US") & pl.lit(draw("tax exempt") % 12 == 0))
            .then(pl.lit("true"))
            .otherwise(pl.lit("false")),
        )
        .with_columns(tax_exempt_reason=pl.when(pl.col("tax_exempt") == "true").then(pl.lit("Non-profit organisation")))
        .join(places.cast({"place": pl.UInt64}), on=["country", "place"], how="left", maintain_order="left")
    )


def _subscriptions(key: pl.Series, first_day: date, last_day: date, seed: int) -> pl.DataFrame:
    """Return when each account signs up, and what happens to its subscription later."""

    def draw(purpose: str) -> pl.Series:
        return draw_bits(key, seed, purpose).alias(purpose)

    days = (last_day - first_day).days + 1
    month_days = monthrange(first_day.year, first_day.month)[1]
    some_day = pl.col("sign up day")
    stories = [name for name, share in STORY_PER_MILLE.items() for _ in range(share)]
    quiet_life: list[str | None] = [None] * (1000 - len(stories))
    return (
        pl.DataFrame([draw("sign up"), draw("sign up day"), draw("story day"), draw("card"), draw("story_second")])
        .with_columns(
            term=pick(["yearly"] + ["monthly"] * 24, draw("term")),
            trial_days=pl.lit((draw("trial") % 12 == 0).cast(pl.Int64) * 14),
            story=pick(stories + quiet_life, draw("story")),
            # Many start on the first day, and some on the last days of a month, where later billing dates clamp.
            start_day=pl.when(pl.col("sign up") % 100 < 45)
            .then(some_day % 5)
            .when(pl.col("sign up") % 100 < 70)
            .then(some_day % month_days)
            .when(pl.col("sign up") % 100 < 80)
            .then(month_days - 1 - some_day % 3)
            .when(pl.lit(days > month_days))
            .then(month_days + some_day % max(days - month_days - 10, 1))
            .otherwise(some_day % month_days)
            .cast(pl.Int64),
        )
        .with_columns(
            # Ask for most refunds in time, inside the first cycle.
            story_day=pl.col("start_day")
            + pl.when(pl.col("story") == "refund")
            .then(3 + pl.col("story day") % 24)
            .otherwise(5 + pl.col("story day") % 45)
            .cast(pl.Int64)
        )
        .with_columns(
            resume_day=pl.when(pl.col("story") == "hold and resume").then(
                pl.col("story_day") + 8 + (pl.col("story day") // 64 % 40).cast(pl.Int64)
            ),
            # Continue logs for two days after the end: that usage is unbilled.
            quiet_from=pl.when(pl.col("story").is_in(ENDING_STORIES)).then(pl.col("story_day") + 3),
        )
        .drop("sign up", "sign up day", "story day")
    )


def _habits(key: pl.Series, rank: pl.Series, events_per_account_day: float, seed: int) -> pl.DataFrame:
    """Return each account's events per day and its values per event, sized to fill its package."""

    def of_package(levels: Sequence[int]) -> pl.Series:
        return pl.Series(levels, dtype=pl.Int64).gather(rank)

    def draw(purpose: str, choices: int) -> pl.Series:
        return (draw_bits(key, seed, purpose) % choices).cast(pl.Int64)

    # Heavy-tailed: a few accounts make most events. Use integer weights, so that their sum is exact.
    weight = (log_normal(key, seed, "weight", 1.2) * 1000).round().cast(pl.Int64).clip(1)
    average = int(weight.sum()) / key.len()
    rate = (weight * (events_per_account_day * MILLION / average)).round().cast(pl.Int64)
    rate = rate.clip(10_000, MAXIMUM_DAILY_EVENTS * MILLION).alias("rate")

    def per_event(name: str, monthly: pl.Series, event_type: int) -> pl.Series:
        events_a_month = rate.cast(pl.Float64) * (30 * TYPE_PER_MILLE[event_type]) / (1000 * MILLION)
        return (monthly / events_a_month).clip(upper_bound=1e15).round().cast(pl.Int64).alias(name)

    # Grow leads by 5 to 24 percent of the package's per month, six times that for one account in ten.
    growth = (5 + draw("growth", 20)) * (1 + 5 * (draw("fast growth", 10) == 0).cast(pl.Int64))
    leads = of_package(PACKAGE_LEADS)
    emails = of_package(PACKAGE_EMAILS) * log_normal(key, seed, "emails", 0.8) * 0.5
    gigabytes = of_package(PACKAGE_GIGABYTES) * log_normal(key, seed, "bandwidth", 0.8) * 0.5
    return pl.DataFrame(
        [
            rate,
            per_event("email_size", emails, EMAILS),
            per_event("bandwidth_size", gigabytes * 1e9, BANDWIDTH),
            per_event("leads_size", leads * growth * 10, LEADS),
            (leads * (15 + draw("first leads", 60)) // 100).alias("first_leads"),
            (of_package(PACKAGE_DOMAINS) + draw("domains", 6) - 3).clip(1).alias("domains"),
        ]
    )
