"""Synthetic requests: the lines of requests.jsonl."""

from datetime import date, datetime, timedelta
from typing import Final

import polars as pl

from billing.sample.customers import PACKAGES

CARDS: Final = (("Visa", "4242"), ("MasterCard", "4444"), ("American Express", "0005"), ("discover", "1117"))
REQUEST_MEMBERS: Final = ("package", "term", "trial_days", "reason", "brand", "last4", "coupon", "add_on", "quantity")
_NUMBERS: Final = ("trial_days", "quantity")
OFFERS: Final = """
coupons:
  - {name: welcome, title: Welcome offer, percent: "10", documents: 2}
add_ons:
  - name: more_emails
    title: More emails
    versions:
      - effective_from: FIRST_DAY
        price: {monthly: "30.00", yearly: "300.00"}
        allowances: {emails: 50000}
        maximum: 5
"""
"""What the sample's catalogue sells beside packages."""


def requests_of(customers: pl.DataFrame, first_day: date, last_day: date) -> pl.Series:
    """Return the lines of requests.jsonl, sorted by time; every row is valid, and some requests will be refused."""
    higher = pl.lit(pl.Series(PACKAGES)).gather((pl.col("rank") + 1).clip(0, 3))
    lower = pl.lit(pl.Series(PACKAGES)).gather((pl.col("rank") - 1).clip(0, 3))
    noise = pl.col("story_second")
    card_brand, card_last4 = (
        pl.lit(pl.Series([card[part] for card in CARDS])).gather(pl.col("card") % len(CARDS)) for part in (0, 1)
    )

    def request(
        story: str | pl.Expr | None, day: pl.Expr, kind: str, channel: str | pl.Expr, **members: pl.Expr
    ) -> pl.DataFrame:
        wanted = pl.lit(value=True) if story is None else pl.col("story") == story if isinstance(story, str) else story
        rows = customers.filter(wanted)
        # Use office hours: the last day's evening is still inside the span.
        second = 8 * 3600 + noise % (10 * 3600)
        return rows.select(
            pl.col("account_id"),
            (pl.lit(first_day).cast(pl.Datetime("ms")) + pl.duration(days=day, seconds=second)).alias("at"),
            pl.lit(kind).alias("kind"),
            (pl.lit(channel) if isinstance(channel, str) else channel).alias("channel"),
            **{name: members.get(name, pl.lit(None)).cast(pl.String) for name in REQUEST_MEMBERS},
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
        # A twelfth takes a coupon, a fifteenth has more emails, whatever else they do.
        request(noise % 12 == 0, pl.col("start_day") + 1, "redeem", "self_service", coupon=pl.lit("welcome")),
        request(
            noise % 15 == 1,
            pl.col("start_day") + 5,
            "add",
            "self_service",
            add_on=pl.lit("more_emails"),
            quantity=1 + noise % 2,
        ),
        request("change card", story_day, "change_card", "self_service", brand=card_brand, last4=card_last4),
    ]
    end = datetime.combine(last_day + timedelta(days=1), datetime.min.time())
    requests = pl.concat(frames).filter(pl.col("at") < end).sort("at", "account_id", "kind").with_row_index("number", 1)
    return _lines(requests)


def charges_of(customers: pl.DataFrame, first_day: date, last_day: date) -> pl.DataFrame:
    """The rows of one_off_charges.csv: a twentieth has a set-up, and a few of them a credit by hand."""
    noise = pl.col("story_second")
    day = pl.lit(first_day) + pl.duration(days=pl.col("start_day") + 3)
    is_credit = noise % 60 == 2
    return (
        customers.filter(noise % 20 == 2)
        .select(
            pl.format("charge-{}", "account_id").alias("charge_id"),
            "account_id",
            day.cast(pl.Date).alias("on"),
            pl.when(is_credit).then(pl.lit("Goodwill")).otherwise(pl.lit("Set-up")).alias("description"),
            pl.when(is_credit).then(pl.lit("-15.00")).otherwise(pl.lit("80.00")).alias("amount"),
            pl.when(is_credit).then(pl.lit("slow support")).alias("reason"),
        )
        .filter(pl.col("on") <= last_day)
        .sort("charge_id")
    )


def grants_of(customers: pl.DataFrame, first_day: date, last_day: date) -> pl.DataFrame:
    """The rows of credit_grants.csv: a thirtieth has a welcome credit that expires, a sixtieth buys one."""
    noise = pl.col("story_second")
    day = (pl.lit(first_day) + pl.duration(days=pl.col("start_day") + 2)).cast(pl.Date)
    is_bought = noise % 60 == 5
    return (
        customers.filter((noise % 30 == 4) | is_bought)
        .select(
            pl.format("grant-{}", "account_id").alias("grant_id"),
            "account_id",
            amount=pl.when(is_bought).then(pl.lit("200.00")).otherwise(pl.lit("50.00")),
            granted_on=day,
            expires_on=pl.when(~is_bought).then(day + pl.duration(days=90)),
            kind=pl.when(is_bought).then(pl.lit("purchased")).otherwise(pl.lit("granted")),
            description=pl.when(is_bought).then(pl.lit("Prepaid credit")).otherwise(pl.lit("Welcome credit")),
        )
        .filter(pl.col("granted_on") <= last_day)
        .sort("grant_id")
    )


def _lines(requests: pl.DataFrame) -> pl.Series:
    """Requests as JSON lines."""
    members = [
        pl.concat_str(pl.lit(f', "{name}": "'), pl.col(name), pl.lit('"')).fill_null("")
        for name in REQUEST_MEMBERS
        if name not in _NUMBERS
    ]
    numbers = [pl.concat_str(pl.lit(f', "{name}": '), pl.col(name)).fill_null("") for name in _NUMBERS]
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
            *numbers,
            pl.lit("}"),
        ).alias("line")
    ).to_series()
