"""Measure counters, once per cycle and metric."""

from collections.abc import Sequence
from itertools import count
from typing import Final

import polars as pl

from billing.model.catalogue import Metric
from billing.model.columns import BASE_QUANTITY
from billing.model.empty_frames import skip_if_empty
from billing.rules.dimensions import SIGNATURE, RuleBook

ZERO: Final = pl.lit(0).cast(BASE_QUANTITY)
EXTREME_QUANTITY: Final = pl.lit(10**20).cast(BASE_QUANTITY)
"""From here on a quantity is not measured in units but left null, and its account is parked (rule 28)."""


MEASURED: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "subscription_id": pl.String,
    "cycle_start": pl.Date,
    "metric": pl.String,
    "rule": pl.String,
    "base_quantity": BASE_QUANTITY,
    "closing_base": BASE_QUANTITY,
    "lowest_base": BASE_QUANTITY,
    "events": pl.Int64,
    "event_sum": BASE_QUANTITY,
}


@skip_if_empty("spans")
def measured_counters(
    spans: pl.DataFrame,
    events: Sequence[pl.LazyFrame],
    counters: Sequence[Metric],
    key: pl.Expr,
    book: RuleBook | None = None,
    in_force: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Sum counters over the spans of access of each cycle; with a book by the rules in force, as `RuleBook`."""
    if not counters:
        return pl.DataFrame(schema=MEASURED)
    counted, distinct_members, highest = (measured_by(counters, measure) for measure in ("count", "unique", "max"))
    names = pl.Series("metric", [metric.name for metric in counters])
    numbered = spans.with_row_index("span").with_columns(pl.col("span").cast(pl.UInt64))
    is_counted = pl.col("metric").is_in(names.implode())
    inside = [within_spans(part.filter(is_counted), numbered, key) for part in events]
    keys = ["subscription_id", "cycle_start", "metric"]
    # Group by one integer key per (span, metric): faster than grouping by two strings.
    place = pl.col("metric").cast(pl.Enum(names)).to_physical().cast(pl.UInt64)
    number = (pl.col("span") * len(names) + place).alias("number")
    groups = [number] if book is None else [number, book.signature().alias(SIGNATURE)]
    parts = [
        part.group_by(groups)
        .agg(
            events=pl.len().cast(pl.Int64),
            event_sum=pl.col("value").sum(),
            **({"highest": pl.col("value").max()} if highest else {}),
        )
        .collect(engine="streaming")
        for part in inside
    ]
    cycles = (
        pl.concat(parts)
        .with_columns(span=pl.col("number") // len(names), metric=pl.lit(names).gather(pl.col("number") % len(names)))
        .join(numbered.select("span", "subscription_id", "cycle_start"), on="span")
    )
    rule = []
    if book is not None and in_force is not None:
        cycles, rule = book.with_rules(cycles, in_force), ["rule"]
    totals = cycles.group_by(*keys, *rule).agg(
        pl.col("events", "event_sum").sum(),
        highest=pl.col("highest").max() if highest else pl.lit(None, BASE_QUANTITY).first(),
    )
    distinct = pl.DataFrame(schema={name: MEASURED[name] for name in keys} | {"distinct": pl.Int64})
    if distinct_members:
        distinct = (
            pl.concat(inside)
            .filter(pl.col("metric").is_in(distinct_members))
            .group_by(keys)
            .agg(distinct=pl.col("member").n_unique().cast(pl.Int64))
            .collect(engine="streaming")
        )
    metric = pl.col("metric")
    return (
        totals.join(distinct, on=keys, how="left")
        .with_columns(
            base_quantity=pl.when(metric.is_in(counted))
            .then(pl.col("events").cast(BASE_QUANTITY))
            .when(metric.is_in(distinct_members))
            .then(pl.col("distinct").cast(BASE_QUANTITY))
            .when(metric.is_in(highest))
            .then("highest")
            .otherwise("event_sum"),
            closing_base=pl.lit(None, BASE_QUANTITY),
            lowest_base=pl.lit(None, BASE_QUANTITY),
            **({} if rule else {"rule": pl.lit(None, pl.String)}),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in MEASURED.items())
    )


def as_measured(usage: pl.DataFrame, counters: Sequence[Metric]) -> pl.DataFrame:
    """Turn rows of USAGE of counters back into MEASURED."""
    return usage.filter(pl.col("metric").is_in([m.name for m in counters]), pl.col("events") > 0).select(
        pl.lit(None, dtype).alias(name) if name.endswith("_base") else name for name, dtype in MEASURED.items()
    )


def added_up(parts: Sequence[pl.DataFrame], counters: Sequence[Metric]) -> pl.DataFrame:
    """Combine MEASURED of counters from batches of events: sums are added, maxima compared."""
    is_highest = pl.col("metric").first().is_in(measured_by(counters, "max"))
    quantity = pl.col("base_quantity")
    return (
        pl.concat(parts)
        .group_by("subscription_id", "cycle_start", "metric", "rule")
        .agg(
            pl.when(is_highest).then(quantity.max()).otherwise(quantity.sum()).alias("base_quantity"),
            pl.col("closing_base", "lowest_base").first(),
            pl.col("events", "event_sum").sum(),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in MEASURED.items())
    )


def measured_by(metrics: Sequence[Metric], measure: str) -> list[str]:
    return [metric.name for metric in metrics if metric.measure == measure]


def account_key(*accounts: pl.Series) -> pl.Expr:
    """A 64-bit hash of `account_id`, free of collisions among these accounts: joins faster than strings."""
    ids = pl.concat(each.alias("account_id") for each in accounts).unique().to_frame()
    keys = (pl.col("account_id").hash(seed) for seed in count())
    # Retry with another seed on a collision: with 10 million accounts about one seed in 100,000 has one.
    return next(key for key in keys if ids.select(key.n_unique() == pl.len()).item())


def within_spans(events: pl.LazyFrame, spans: pl.DataFrame, key: pl.Expr) -> pl.LazyFrame:
    """Events inside a span of access, with the span's columns.

    Parameters
    ----------
    key
        As `account_key` of all accounts of both.
    """
    keyed = spans.lazy().with_columns(_account=key).drop("account_id")
    return (
        events.with_columns(_account=key)
        .join(keyed, on="_account")
        .filter((pl.col("time") >= pl.col("span_start")) & (pl.col("time") < pl.col("span_end")))
        .drop("_account")
    )
