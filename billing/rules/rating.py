"""Rating: from quantities and terms to exact amounts (rules 1 to 5).

Everything is counted in billionths of a base unit, as Int128. A tariff becomes a row of integers, and one row for each
of its tiers, over one common denominator, so an amount is an exact fraction until the single rounding. `limit` is the
largest excess for which no intermediate result can overflow and the amount stays below 10^14; what exceeds it is not
rated but reported by `out_of_range`, so an overflow cannot happen unseen. `narrow` is a smaller one for which none
overflows an Int64, either: up to there the same is computed in half the space.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple, Self

import polars as pl
import polars.selectors as cs

from billing.model.columns import MONEY, PRICE, QUANTITY
from billing.model.empty_frames import skip_if_empty
from billing.model.money import scaled_to_decimal
from billing.model.quantities import INTEGER
from billing.rules.terms import NARROW_MOST, NONE, TERMS_OF_A_METRIC, TermsFrames

_NARROW = pl.Int64
# Rate in batches of so many rows to bound the memory of the joins; the lazy engine took four times as long.
_PIECE = 100_000
_RATED = ("allowance_units", "excess", "billed_units", "unit_price", "amount", "out_of_range")
# The line of a quantity within its allowance.
_NO_LINE = pl.DataFrame(
    {"unit_price": [None], "amount": [Decimal(0)], "blocks": [None]},
    schema={"unit_price": PRICE, "amount": MONEY, "blocks": QUANTITY},
)


def rate(frame: pl.DataFrame, terms: TermsFrames) -> pl.DataFrame:
    """`frame` with what each quantity costs, rounded once (rule 4).

    Rule 1: the tariff of what is over the allowance, of a quantity that was aggregated before.

    Parameters
    ----------
    frame
        base_quantity (BASE_QUANTITY), quantity (QUANTITY: the same in units) and the columns TERMS_OF_A_METRIC; rule
        where terms have rules, events where they have percentages; and, where add-ons add to the allowances, added,
        added_units and is_unlimited.

    Returns
    -------
    polars.DataFrame
        With allowance_units, excess, billed_units (QUANTITY), unit_price (PRICE), amount (MONEY; 0 where nothing is
        over, or no tariff holds) and out_of_range (the quantity is beyond `limit`: amount is null).
    """
    lookup = _Lookup.of(terms)
    pieces = [frame[:0], *frame.iter_slices(_PIECE)]
    return pl.concat([_rated(piece, lookup) for piece in pieces]).select(*frame.columns, *_RATED)


class _Prices(NamedTuple):
    """Integers of a tariff, in one type: narrow (Int64) or wide (Int128)."""

    integer: pl.DataType | type[pl.DataType]
    tariffs: pl.DataFrame
    tiers: pl.DataFrame


class _Lookup(NamedTuple):
    """Terms as rows that are gathered by index; only the index is joined."""

    numbers: pl.DataFrame
    allowances: pl.DataFrame
    narrow: _Prices
    wide: _Prices
    minor_units: int
    key: Sequence[str]

    @classmethod
    def of(cls, terms: TermsFrames) -> Self:
        key = list(TERMS_OF_A_METRIC)
        keyed = terms.metrics.with_row_index("_tariff")
        if not terms.rules.is_empty():
            # rule 34: each rule rates its own part, the metric's own tariff the rest.
            key.append("rule")
            rows = pl.concat([terms.metrics.with_columns(rule=pl.lit(None, pl.String)), terms.rules])
            keyed = rows.with_row_index("_tariff")
        tariffs = keyed.select("block_size", "divisor", "minimum", "maximum", "first_tier", "^upper_.*$")
        events = keyed.select("event_price", "free_events", "event_limit")
        if events["event_price"].null_count() == events.height:
            events = events.drop(events.columns)
        else:
            tariffs = tariffs.with_columns(events["event_price"])
        # Skip columns that no tariff uses.
        tariffs = tariffs.drop(
            name for name in ("block_size", "minimum", "maximum") if tariffs[name].null_count() == len(tariffs)
        )
        # Values that do not fit belong to a tier or maximum that no excess up to `narrow` reaches.
        fitting = cs.by_dtype(INTEGER).clip(-NARROW_MOST, NARROW_MOST).cast(_NARROW)
        return cls(
            keyed.select(*key, "_tariff"),
            keyed.select(
                *events,
                pl.col("allowance").to_physical(),
                "allowance_units",
                "has_tariff",
                "limit",
                "narrow",
                has_blocks=pl.col("block_size").is_not_null(),
            ),
            _Prices(_NARROW, tariffs.with_columns(fitting), terms.tiers.with_columns(fitting)),
            _Prices(INTEGER, tariffs, terms.tiers),
            terms.minor_units,
            key,
        )


@skip_if_empty("piece")
def _rated(piece: pl.DataFrame, lookup: _Lookup) -> pl.DataFrame:
    has_rules, has_events = "rule" in lookup.key, "event_price" in lookup.allowances.columns
    # What is not in the packages has no terms: only the rule is null where it has a meaning.
    number = piece.select(lookup.key).join(
        lookup.numbers, on=lookup.key, how="left", nulls_equal=has_rules, maintain_order="left"
    )["_tariff"]
    # "over" is strictly more than the allowance; null is unlimited
    over = pl.max_horizontal(pl.col("base_quantity").to_physical() - pl.col("allowance"), 0)
    excess, narrow, wide = pl.col("_excess"), pl.col("_narrow"), pl.col("_wide")
    # zero overage costs nothing, whatever flats and minimum exist
    is_over, is_beyond = excess > 0, excess > pl.col("limit")
    rows = lookup.allowances[number].with_columns(number, piece["base_quantity"], piece["quantity"])
    if "added" in piece.columns:
        rows = _with_added(rows, piece)
    counted_columns = ["_tariff", "_excess", "_narrow", "_wide"]
    if has_events:
        # rule 34: events beyond those that are free cost, whatever the amount.
        rows = rows.with_columns(
            piece["events"], _events=pl.max_horizontal(piece["events"].cast(INTEGER) - pl.col("free_events"), 0)
        ).with_columns(pl.when(pl.col("event_price") > 0).then("_events").otherwise(0).alias("_events"))
        is_over |= pl.col("_events") > 0
        is_beyond |= (pl.col("events") > pl.col("event_limit")).fill_null(value=False)
        counted_columns.append("_events")
    is_priced = pl.col("has_tariff") & is_over & ~pl.col("out_of_range")
    is_narrow = (excess <= pl.col("narrow")) & (pl.col("event_price").is_null() if has_events else pl.lit(True))
    rows = (
        rows.with_columns(_excess=over)
        .with_columns(out_of_range=pl.col("has_tariff") & is_beyond)
        .with_columns(
            _narrow=(is_priced & is_narrow).fill_null(value=False),
            _wide=(is_priced & ~is_narrow).fill_null(value=False),
            excess=pl.when(excess > 0).then(pl.col("quantity") - pl.col("allowance_units")).otherwise(NONE),
        )
    )
    counted = rows.select(counted_columns)
    parts = [(counted.filter(narrow), lookup.narrow), (counted.filter(wide), lookup.wide)]
    lines = [_lines(part, prices, lookup.minor_units) for part, prices in parts if not part.is_empty()]
    place = (
        pl.when(narrow)
        .then(narrow.cum_sum())
        .when(wide)
        .then(narrow.sum() + wide.cum_sum())
        .when(~pl.col("out_of_range"))
        .then(0)
    )
    line = pl.concat([_NO_LINE, *lines])[rows.select(place).to_series()]
    return piece.with_columns(
        rows.select(
            "allowance_units",
            "excess",
            line["unit_price"],
            line["amount"],
            "out_of_range",
            billed_units=pl.when(pl.col("has_blocks") & (excess > 0))
            .then(line["blocks"])
            .when("has_tariff")
            .then("excess")
            .otherwise(NONE),
        )
    )


def _with_added(rows: pl.DataFrame, piece: pl.DataFrame) -> pl.DataFrame:
    """`rows` with what add-ons add in allowance (physical) and allowance_units; null stays unlimited."""
    is_limited = ~piece["is_unlimited"].fill_null(value=False)
    return rows.with_columns(
        allowance=pl.when(is_limited).then(pl.col("allowance") + piece["added"].to_physical().fill_null(0)),
        allowance_units=pl.when(is_limited).then(
            (pl.col("allowance_units") + piece["added_units"].fill_null(0)).cast(QUANTITY)
        ),
    )


def _lines(counted: pl.DataFrame, prices: _Prices, minor_units: int) -> pl.DataFrame:
    """unit_price, amount and blocks (null unless the tariff has them) of what is over: `_excess` of `_tariff`."""
    units, size, divisor = pl.col("_units"), pl.col("block_size"), pl.col("divisor")
    own = prices.tariffs[counted["_tariff"]].with_columns(_units=counted["_excess"].cast(prices.integer))
    blocks = pl.lit(None, QUANTITY)
    if "block_size" in own.columns:
        # every started block is charged in full
        started = pl.when(size.is_not_null()).then((units + (size - 1)) // size).otherwise(units)
        own = own.with_columns(_units=started)
        blocks = pl.when(size.is_not_null()).then(scaled_to_decimal(units.cast(INTEGER), 0)).cast(QUANTITY)
    # the first tier that is not exceeded
    bounds = (units > pl.col(name) for name in own.columns if name.startswith("upper"))
    reached = own.select(pl.sum_horizontal("first_tier", *(bound.cast(pl.UInt32) for bound in bounds))).to_series()
    # Rule 3: under every model an amount is a line in the tier that is reached
    amount = units * pl.col("price") + pl.col("fixed")
    if "event_price" in own.columns:
        amount += counted["_events"].cast(prices.integer) * pl.col("event_price").fill_null(0)
    if "minimum" in own.columns:
        amount = pl.max_horizontal(amount, "minimum")
    if "maximum" in own.columns:
        amount = pl.min_horizontal(amount, "maximum")
    rounded = (amount // divisor).cast(INTEGER) * 10 ** (MONEY.scale - minor_units)
    return own.with_columns(prices.tiers[reached]).select(
        "unit_price", amount=scaled_to_decimal(rounded, MONEY.scale), blocks=blocks
    )
