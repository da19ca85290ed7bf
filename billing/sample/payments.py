"""Synthetic payments for issued documents: the lines of payments.jsonl.

A payment names a document, so payments are made after billing; equal documents give equal payments.
"""

from typing import Final

import polars as pl

from billing.sample.random_bits import draw_bits
from billing.sample.requests import CARDS

PAID_PER_MILLE: Final = 860
FAILED_PER_MILLE: Final = 90
"""Failed payments per thousand; documents without a payment stay open."""
DAYS_UNTIL_AGAIN: Final = 6
DAYS_UNTIL_DISPUTED: Final = 9


def payments_of(documents: pl.DataFrame, seed: int = 1) -> pl.Series:
    """Return the lines of payments.jsonl, sorted by time.

    Most invoices are paid on the day of issue; some payments fail, and half of these succeed a few days later. A credit
    note on a paid invoice is refunded, and one payment is disputed. What prepaid credits pay is
    neither paid nor refunded.

    Parameters
    ----------
    documents
        number, kind, account_id, issued_on, currency, due (decimal: total less prepaid credits), corrects.
    """
    key = documents["number"].str.replace_all(r"\D", "").cast(pl.UInt64)
    chance = draw_bits(key, seed, "payment")
    drawn = documents.with_columns(
        _chance=chance % 1000,
        _comes_again=(chance // 1000) % 2 == 0,
        _card=((chance // 2000) % len(CARDS)).cast(pl.UInt32),
        _second=((chance // 8000) % (10 * 3600)).cast(pl.Int64) + 8 * 3600,
    )
    due = drawn.filter((pl.col("kind") != "credit_note") & (pl.col("due") > 0))
    is_paid = pl.col("_chance") < PAID_PER_MILLE
    has_failed = ~is_paid & (pl.col("_chance") < PAID_PER_MILLE + FAILED_PER_MILLE)
    paid, failed = due.filter(is_paid), due.filter(has_failed)
    given_back = (
        drawn.filter(pl.col("kind") == "credit_note")
        .join(paid.select("number"), left_on="corrects", right_on="number", how="semi")
        .with_columns(number="corrects", due=-pl.col("due"))
        .filter(pl.col("due") > 0)
    )
    disputed = paid.sort("issued_on", "number").head(1)
    rows = pl.concat(
        [
            _attempt(paid, "succeeded", 0),
            _attempt(failed, "failed", 0),
            _attempt(failed.filter("_comes_again"), "succeeded", DAYS_UNTIL_AGAIN),
            _attempt(given_back, "refunded", 0),
            _attempt(disputed, "disputed", DAYS_UNTIL_DISPUTED),
        ]
    ).sort("at", "document", "status")
    texts = ("payment_id", "account_id", "document", "at", "amount", "currency", "status", "card_brand", "card_last4")
    members = [pl.format(f'"{name}": "{{}}"', name) for name in texts]
    return rows.select(line=pl.concat_str(pl.lit("{"), pl.concat_str(members, separator=", "), pl.lit("}"))).to_series()


def _attempt(documents: pl.DataFrame, status: str, days: int) -> pl.DataFrame:
    cards = [pl.lit(pl.Series([card[part] for card in CARDS])).gather("_card") for part in (0, 1)]
    at = pl.col("issued_on").cast(pl.Datetime("ms")) + pl.duration(days=days, seconds="_second")
    return documents.select(
        payment_id=pl.format("pay-{}-{}", "number", pl.lit(f"{status}-{days}")),
        account_id="account_id",
        document="number",
        at=at.dt.to_string("%Y-%m-%dT%H:%M:%SZ"),
        amount=pl.col("due").cast(pl.Decimal(18, 2)).cast(pl.String),
        currency="currency",
        status=pl.lit(status),
        card_brand=cards[0],
        card_last4=cards[1],
    )
