"""Synthetic requests: the lines of requests.jsonl."""

from datetime import date, datetime, timedelta
from typing import Final

import polars as pl

from billing.sample.customers import PACKAGES

CARDS: Final = (("Visa", "4242"), ("MasterCard", "4444"), ("American Express", "0005"), ("discover", "1117"))
REQUEST_MEMBERS: Final = ("package", "term", "trial_days", "reason", "brand", "last4")


def requests_of(customers: pl.DataFrame, first_day: date, last_day: date) -> pl.Series:
    """Return the lines of requests.jsonl, sorted by time; every row is valid, and some requests will be refused."""
    higher = pl.lit(pl.Series(PACKAGES)).gather((pl.col("rank") + 1).clip(0, 3))
    lower = pl.lit(pl.Series(PACKAGES)).gather((pl.col("rank") - 1).clip(0, 3))
    noise = pl.col("story_second")
    card_brand, card_last4 = (
        pl.lit(pl.Series([card[part] for card in CARDS])).gather(pl.col("card") % len(CARDS)) for part in (0, 1)
    )

    def request(story: str | None, day: pl.Expr, kind: str, channel: str | pl.Expr, **members: pl.Expr) -> pl.DataFrame:
        rows = customers if story is None else customers.filter(pl.col("story") == story)
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
        request("change card", story_day, "change_card", "self_service", brand=card_brand, last4=card_last4),
    ]
    end = datetime.combine(last_day + timedelta(days=1), datetime.min.time())
    requests = pl.concat(frames).filter(pl.col("at") < end).sort("at", "account_id", "kind").with_row_index("number", 1)
    return _lines(requests)


def _lines(requests: pl.DataFrame) -> pl.Series:
    """Requests as JSON lines."""
    members = [
        pl.concat_str(pl.lit(f', "{name}": "'), pl.col(name), pl.lit('"')).fill_null("")
        for name in REQUEST_MEMBERS
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
