"""Accounts behind the names in raw logs: each name stands for an account over half-open dates (rule 39)."""

from typing import Final

import polars as pl

from billing.ingest.parsed_rows import ALIAS_KIND
from billing.ingest.required_columns import shown

ALIAS: Final = "alias"
"""Column of rows whose account was looked up: the name that the log has."""
_DAY: Final = "_alias_day"


def with_accounts(rows: pl.DataFrame, aliases: pl.DataFrame, time_zone: str) -> pl.DataFrame:
    """Replace the names in `subject` by the accounts that they stand for on the date of the event.

    Parameters
    ----------
    rows
        Parsed rows with subject and time; rows without ALIAS_KIND come back as they are.
    aliases
        ALIASES, no two of a name overlapping.
    time_zone
        The billing time zone: an event's date is its date there.

    Returns
    -------
    polars.DataFrame
        `rows` with the account id as `subject`, null where the name is unknown, and the name as ALIAS.
    """
    if ALIAS_KIND not in rows.columns:
        return rows
    named = rows.with_columns(
        pl.col("subject").str.strip_chars().alias(ALIAS),
        pl.col("time").dt.convert_time_zone(time_zone).dt.date().alias(_DAY),
    )
    keys = [ALIAS_KIND, ALIAS, _DAY]
    starts = pl.col("from").is_null() | (pl.col("from") <= pl.col(_DAY))
    ends = pl.col("to").is_null() | (pl.col(_DAY) < pl.col("to"))
    # Names on a day are few: look each up once.
    known = (
        named.select(keys)
        .unique()
        .join(aliases.rename({"kind": ALIAS_KIND, "alias": ALIAS}), on=[ALIAS_KIND, ALIAS])
        .filter(starts & ends)
        .select(*keys, "account_id")
    )
    return (
        named.join(known, on=keys, how="left", maintain_order="left")
        .with_columns(subject="account_id")
        .drop("account_id", _DAY)
    )


def alias_words() -> pl.Expr:
    """Fault description of a row whose name stands for no account; null for other rows."""
    words = pl.format(
        "subject: found no account of the {} {} on this day, expected one in landing/aliases.csv",
        pl.col(ALIAS_KIND),
        shown(pl.col(ALIAS)),
    )
    return pl.when(pl.col(ALIAS).is_not_null() & pl.col("subject").is_null()).then(words)


def changed_names(before: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Names (kind, alias) that stand for another account, or over other dates, than before."""
    columns = now.columns
    gone = before.join(now, on=columns, how="anti", nulls_equal=True)
    added = now.join(before, on=columns, how="anti", nulls_equal=True)
    return pl.concat([gone, added]).select("kind", "alias").unique().sort("kind", "alias")
