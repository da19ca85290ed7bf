"""Rating: from quantities and terms to exact amounts (rules 1 to 5).

Everything is counted in billionths of a base unit, as Int128. A tariff becomes a row of integers, and one row for each
of its tiers, over one common denominator, so an amount is an exact fraction until the single rounding. `limit` is the
largest excess for which no intermediate result can overflow and the amount stays below 10^14; what exceeds it is not
rated but reported by `out_of_range`, so an overflow cannot happen unseen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from math import gcd
from typing import NamedTuple

import polars as pl

from billing.catalogue import Catalogue, Metric, Tariff, terms_periods
from billing.money import MAXIMUM_AMOUNT, round_fraction, scaled_to_decimal
from billing.tables import BASE_QUANTITY, PRICE, QUANTITY

BILLIONTHS = 10**9
PRICE_SCALE = 10**12
TERMS_OF_A_METRIC = ("terms_key", "package", "since", "metric")
_OPEN = 2**126
_INTEGER = pl.Int128
# rows that are rated at once, so that what is joined to each takes little memory; lazily it took four times as long
_PIECE = 50_000


@dataclass(frozen=True)
class TermsFrames:
    """The catalogue's terms as frames to join.

    Attributes
    ----------
    packages
        terms_key, package, rank, since, until (null is open), monthly, yearly (PRICE, null where not sold).
        `terms_key` is empty, or the account id for an account with an agreement on that package.
    metrics
        The same key and, per metric: unit_billionths, allowance (BASE_QUANTITY), allowance_units (QUANTITY; null is
        unlimited), is_trigger, has_tariff, and the tariff's integers: block_size (null where the model has no blocks),
        denominator, minimum, maximum, limit, first_tier, upper_0, upper_1 ... (how far each tier but the last reaches).
    tiers
        tier, price and fixed (what `units` in this tier cost: units x price + fixed, over the denominator), unit_price
        (PRICE; null where no one price holds for all units).
    own_terms
        account_id, package: who has terms of their own.
    """

    packages: pl.DataFrame
    metrics: pl.DataFrame
    tiers: pl.DataFrame
    own_terms: pl.DataFrame


class _Tier(NamedTuple):
    price: int
    fixed: int
    unit_price: Decimal | None


class _Integers(NamedTuple):
    """A tariff over one common denominator; `uppers` and what it counts are billionths of a base unit, or blocks."""

    block_size: int | None
    denominator: int
    minimum: int
    maximum: int
    limit: int | None
    uppers: Sequence[int]
    tiers: Sequence[_Tier]


_METRIC_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "terms_key": pl.String,
    "package": pl.String,
    "since": pl.Date,
    "metric": pl.String,
    "unit_billionths": _INTEGER,
    "allowance": BASE_QUANTITY,
    "allowance_units": QUANTITY,
    "is_trigger": pl.Boolean,
    "has_tariff": pl.Boolean,
    "block_size": _INTEGER,
    "denominator": _INTEGER,
    "minimum": _INTEGER,
    "maximum": _INTEGER,
    "limit": _INTEGER,
    "first_tier": pl.UInt32,
}
_RATED = ("allowance_units", "excess", "billed_units", "unit_price", "amount", "out_of_range")
_NONE = pl.lit(Decimal(0)).cast(QUANTITY)
# where nothing can become due: 0 / 1
_NOTHING = _Integers(None, 1, 0, 0, None, (), (_Tier(0, 0, None),))


def terms_frames(catalogue: Catalogue) -> TermsFrames:
    """The terms of every package by date, with one row per tariff and one per tier."""
    periods = terms_periods(catalogue)
    tariffs = [tariff for period in periods for tariff in period.terms.overage.values() if tariff is not None]
    bounds = max([1, *(len(tariff.tiers) for tariff in tariffs)]) - 1
    packages = pl.DataFrame(
        [(p.account_id, p.package, p.rank, p.since, p.until, p.terms.monthly, p.terms.yearly) for p in periods],
        schema={
            "terms_key": pl.String,
            "package": pl.String,
            "rank": pl.Int64,
            "since": pl.Date,
            "until": pl.Date,
            "monthly": PRICE,
            "yearly": PRICE,
        },
        orient="row",
    )
    rows: list[tuple[object, ...]] = []
    tiers: list[_Tier] = []
    for period in periods:
        for metric in catalogue.metrics:
            allowance = period.terms.allowances[metric.name]
            tariff = period.terms.overage.get(metric.name)
            integers = _NOTHING if tariff is None else _tariff_integers(tariff, metric, catalogue.minor_units)
            rows.append(
                (
                    *(period.account_id, period.package, period.since, metric.name, unit_billionths(metric)),
                    None if allowance is None else _exactly(allowance, metric.unit_size),
                    allowance,
                    metric.name in period.terms.auto_upgrade_on,
                    tariff is not None,
                    *integers[:5],
                    len(tiers),
                    *(*integers.uppers, *[_OPEN] * bounds)[:bounds],
                )
            )
            tiers += integers.tiers
    own_terms = packages.filter(pl.col("terms_key") != "").select(account_id="terms_key", package="package").unique()
    return TermsFrames(
        packages,
        pl.DataFrame(rows, schema=_METRIC_SCHEMA | {f"upper_{k}": _INTEGER for k in range(bounds)}, orient="row"),
        pl.DataFrame(
            tiers, schema={"price": _INTEGER, "fixed": _INTEGER, "unit_price": PRICE}, orient="row"
        ).with_row_index("tier"),
        own_terms.sort("account_id", "package"),
    )


def with_terms(frame: pl.DataFrame, terms: TermsFrames, on: str, package: str = "package") -> pl.DataFrame:
    """`frame` with `terms_key` and `since`: which terms of its package hold for its account on a date.

    Rule 2: usage is rated by the version at the start of its cycle, the fee is that of the version at the billing date.

    Parameters
    ----------
    frame
        account_id and the columns named by `on` (date) and `package` (both may be null: no terms then).

    Returns
    -------
    polars.DataFrame
        In the order of `frame`; terms_key and since are null where the package has no terms on that date.
    """
    own = terms.own_terms.rename({"package": package}).with_columns(_own=pl.lit(True))
    keyed = (
        frame.with_row_index("_row")
        .join(own, on=["account_id", package], how="left", maintain_order="left")
        .with_columns(_key=pl.when(pl.col("_own")).then("account_id").otherwise(pl.lit("")))
    )
    since = terms.packages.select(
        _key="terms_key", **{package: pl.col("package")}, terms_key="terms_key", since="since"
    ).sort("since")
    found = (
        keyed.filter(pl.col(on).is_not_null() & pl.col(package).is_not_null())
        .sort(on)
        .join_asof(
            since,
            left_on=on,
            right_on="since",
            by=["_key", package],
            check_sortedness=False,
        )
    )
    return (
        keyed.drop("_own", "_key")
        .join(found.select("_row", "terms_key", "since"), on="_row", how="left", maintain_order="left")
        .drop("_row")
    )


def rate(frame: pl.DataFrame, terms: TermsFrames, decimals: int) -> pl.DataFrame:
    """`frame` with what each quantity costs, before the one rounding of rule 4.

    Rule 1: the tariff of what is over the allowance, of a quantity that was aggregated before.

    Parameters
    ----------
    frame
        base_quantity (BASE_QUANTITY), quantity (QUANTITY: the same in units) and the columns TERMS_OF_A_METRIC.
    decimals
        Of the currency's minor unit.

    Returns
    -------
    polars.DataFrame
        With allowance_units, excess, billed_units (QUANTITY), unit_price (PRICE), amount (MONEY; 0 where nothing is
        over, or no tariff holds) and out_of_range (the quantity is beyond `limit`: amount is null).
    """
    tariffs = terms.metrics.with_row_index("_tariff")
    numbered = frame.join(
        tariffs.select(*TERMS_OF_A_METRIC, "_tariff"), on=TERMS_OF_A_METRIC, how="left", maintain_order="left"
    )
    integers = tariffs.drop(TERMS_OF_A_METRIC)
    return pl.concat(
        [_rated(numbered[:0], integers, terms.tiers, decimals)]
        + [_rated(piece, integers, terms.tiers, decimals) for piece in numbered.iter_slices(_PIECE)]
    ).select(*frame.columns, *_RATED)


def _rated(piece: pl.DataFrame, integers: pl.DataFrame, tiers: pl.DataFrame, decimals: int) -> pl.DataFrame:
    # "over" is strictly more than the allowance; null is unlimited
    over = (pl.col("base_quantity").to_physical() - pl.col("allowance").to_physical()).clip(lower_bound=0).fill_null(0)
    excess, units, size = pl.col("_excess"), pl.col("_units"), pl.col("block_size")
    is_block = size.is_not_null()
    # every started block is charged in full
    counted = pl.when(is_block).then((excess + size - 1) // size).otherwise(excess)
    if integers["block_size"].null_count() == integers.height:
        counted = excess
    # the first tier that is not exceeded
    reached = pl.sum_horizontal(
        "first_tier", *((units > pl.col(name)).cast(pl.UInt32) for name in integers.columns if name.startswith("upper"))
    )
    # Rule 3: under every model an amount is a line in the tier that is reached
    amount = (units * pl.col("price") + pl.col("fixed")).clip("minimum", "maximum")
    excess_units = pl.when(excess > 0).then(pl.col("quantity") - pl.col("allowance_units")).otherwise(_NONE)
    return (
        piece.join(integers, on="_tariff", how="left", maintain_order="left")
        .with_columns(_excess=over.cast(_INTEGER))
        .with_columns(out_of_range=pl.col("has_tariff") & (excess > pl.col("limit")))
        .with_columns(_units=pl.when(~pl.col("out_of_range")).then(counted), excess=excess_units)
        .with_columns(tier=reached.cast(pl.UInt32))
        .join(tiers, on="tier", how="left", maintain_order="left")
        .with_columns(
            billed_units=pl.when(is_block)
            .then(scaled_to_decimal(units, 0).cast(QUANTITY))
            .when(pl.col("has_tariff"))
            .then("excess")
            .otherwise(_NONE),
            unit_price=pl.when(units > 0).then("unit_price"),
            # zero overage costs nothing, whatever flats and minimum exist
            amount=round_fraction(pl.when(units == 0).then(0).otherwise(amount), pl.col("denominator"), decimals),
        )
    )


def in_units(billionths: pl.Expr, unit_billionths: pl.Expr) -> pl.Expr:
    """Billionths of a base unit in the metric's unit, half-up at 18 decimals (exact where the unit is a power of ten).

    `unit_billionths` stays below 10^24 (a unit of 10^15 base units), so no step can overflow.
    """
    magnitude = billionths.abs()
    whole = magnitude // unit_billionths
    rest = (magnitude - whole * unit_billionths) * BILLIONTHS
    high = rest // unit_billionths
    low = ((rest - high * unit_billionths) * BILLIONTHS + unit_billionths // 2) // unit_billionths
    sign = billionths.sign()
    return (whole * sign).cast(QUANTITY) + scaled_to_decimal((high * BILLIONTHS + low) * sign, 18)


def unit_billionths(metric: Metric) -> int:
    """Billionths of a base unit in one unit of the metric."""
    return int(_exactly(metric.unit_size, BILLIONTHS))


def _tariff_integers(tariff: Tariff, metric: Metric, decimals: int) -> _Integers:
    unit = unit_billionths(metric)
    counted, block = unit, None
    uppers = [_billionths(t.up_to, metric) for t in tariff.tiers if t.up_to is not None]
    listed, flats = [t.unit_price for t in tariff.tiers], [_scaled(t.flat) * unit for t in tariff.tiers]
    if tariff.size is not None and tariff.price is not None:
        # one open tier, counted in blocks
        counted, block = 1, _billionths(tariff.size, metric)
        listed, flats = [tariff.price], [0]
    # an amount is (sum of units x price + flats x counted) / (counted x PRICE_SCALE), cancelled down
    prices = [_scaled(price) for price in listed]
    minimum = _scaled(tariff.minimum or Decimal(0)) * counted
    maximum = None if tariff.maximum is None else _scaled(tariff.maximum) * counted
    denominator = counted * PRICE_SCALE
    common = gcd(denominator, minimum, maximum or 0, *prices, *flats)
    denominator, minimum = denominator // common, minimum // common
    prices, flats = [price // common for price in prices], [flat // common for flat in flats]
    # rounding needs 2 x numerator x 10^decimals + denominator < 2^126, and an amount stays below 10^14
    room = min((_OPEN - denominator) // (2 * 10**decimals), int(MAXIMUM_AMOUNT) * denominator)
    fixed = max(minimum, sum(flats))
    if fixed > room:  # not even the smallest excess can be computed, and no such number may reach a column
        return _NOTHING._replace(block_size=block, limit=0)
    dearest = max(prices)
    limit = _OPEN if dearest == 0 else min(_OPEN, (room - fixed) // dearest * (block or 1))
    top = min(_OPEN, room if maximum is None else maximum // common)
    tiers: list[_Tier] = []
    below = 0
    for lower, price, flat, list_price in zip([0, *uppers], prices, flats, listed, strict=True):
        if lower > limit:  # it is never reached, and its numbers might not fit
            break
        if tariff.model == "graduated":
            # what the tiers below cost in full, and the units from `lower` on
            below += flat + lower * ((tiers[-1].price if tiers else 0) - price)
            tiers.append(_Tier(price, below, list_price if len(listed) == 1 and price else None))
        else:
            tiers.append(_Tier(price, flat, None if tariff.model == "stairstep" else list_price))
    return _Integers(block, denominator, min(minimum, top), top, limit, uppers, tiers)


def _billionths(quantity: Decimal, metric: Metric) -> int:
    return int(_exactly(quantity, unit_billionths(metric)))


def _scaled(price: Decimal) -> int:
    return int(_exactly(price, PRICE_SCALE))


def _exactly(amount: Decimal, factor: Decimal | int) -> Decimal:
    """The product to its last digit, whatever precision the caller computes with."""
    with localcontext(prec=100):
        return amount * factor
