"""Rating: from quantities and terms to exact amounts (rules 1 to 5).

Everything is counted in billionths of a base unit, as Int128. A tariff becomes a row of integers, and one row for each
of its tiers, over one common denominator, so an amount is an exact fraction until the single rounding. `limit` is the
largest excess for which no intermediate result can overflow and the amount stays below 10^14; what exceeds it is not
rated but reported by `out_of_range`, so an overflow cannot happen unseen. `narrow` is a smaller one for which none
overflows an Int64, either: up to there the same is computed in half the space.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from math import gcd
from typing import NamedTuple, Self

import polars as pl
import polars.selectors as cs

from billing.catalogue import Catalogue, Metric, Tariff, terms_periods
from billing.money import MAXIMUM_AMOUNT, scaled_to_decimal
from billing.tables import BASE_QUANTITY, MONEY, PRICE, QUANTITY

BILLIONTHS = 10**9
PRICE_SCALE = 10**12
TERMS_OF_A_METRIC = ("terms_key", "package", "since", "metric")
_QUANTITY_UNIT = 10**QUANTITY.scale
_OPEN = 2**126
_INTEGER = pl.Int128
_NARROW = pl.Int64
_NARROW_MOST = 2**63 - 1
# rows that are rated at once, so that what is joined to each takes little memory; lazily it took four times as long
_PIECE = 100_000


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
        divisor, minimum, maximum (null where there is none), limit, narrow, first_tier, upper_0, upper_1 ... (how far
        each tier but the last reaches).
    tiers
        price and fixed (what `units` in this tier cost, in minor units: units x price + fixed, over the divisor and
        rounded down: half of it is in `fixed`, `minimum` and `maximum` already), unit_price (PRICE; null where no one
        price holds for all units).
    own_terms
        account_id, package: who has terms of their own.
    minor_units
        Decimals of the currency's minor unit.
    """

    packages: pl.DataFrame
    metrics: pl.DataFrame
    tiers: pl.DataFrame
    own_terms: pl.DataFrame
    minor_units: int


class _Tier(NamedTuple):
    price: int
    fixed: int
    unit_price: Decimal | None


class _Integers(NamedTuple):
    """A tariff over one common divisor; `uppers` and what it counts are billionths of a base unit, or blocks."""

    block_size: int | None
    divisor: int
    minimum: int | None
    maximum: int | None
    limit: int | None
    narrow: int
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
    "divisor": _INTEGER,
    "minimum": _INTEGER,
    "maximum": _INTEGER,
    "limit": _INTEGER,
    "narrow": _INTEGER,
    "first_tier": pl.UInt32,
}
_RATED = ("allowance_units", "excess", "billed_units", "unit_price", "amount", "out_of_range")
_NONE = pl.lit(Decimal(0)).cast(QUANTITY)
# the line of what is not over
_NO_LINE = pl.DataFrame(
    {"unit_price": [None], "amount": [Decimal(0)], "blocks": [None]},
    schema={"unit_price": PRICE, "amount": MONEY, "blocks": QUANTITY},
)
# where nothing can become due
_NOTHING = _Integers(None, 1, None, None, None, 0, (), (_Tier(0, 0, None),))


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
                    *integers[:6],
                    len(tiers),
                    *(*integers.uppers, *[_OPEN] * bounds)[:bounds],
                )
            )
            tiers += integers.tiers
    own_terms = packages.filter(pl.col("terms_key") != "").select(account_id="terms_key", package="package").unique()
    return TermsFrames(
        packages,
        pl.DataFrame(rows, schema=_METRIC_SCHEMA | {f"upper_{k}": _INTEGER for k in range(bounds)}, orient="row"),
        pl.DataFrame(tiers, schema={"price": _INTEGER, "fixed": _INTEGER, "unit_price": PRICE}, orient="row"),
        own_terms.sort("account_id", "package"),
        catalogue.minor_units,
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
        keyed.select("_row", "_key", package, on)
        .filter(pl.col(on).is_not_null() & pl.col(package).is_not_null())
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


def rate(frame: pl.DataFrame, terms: TermsFrames) -> pl.DataFrame:
    """`frame` with what each quantity costs, rounded once (rule 4).

    Rule 1: the tariff of what is over the allowance, of a quantity that was aggregated before.

    Parameters
    ----------
    frame
        base_quantity (BASE_QUANTITY), quantity (QUANTITY: the same in units) and the columns TERMS_OF_A_METRIC.

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
    """What lines are computed from, in one type of integers."""

    integer: pl.DataType | type[pl.DataType]
    tariffs: pl.DataFrame
    tiers: pl.DataFrame


class _Lookup(NamedTuple):
    """The terms as rows that are taken by their number; the numbers themselves are joined once."""

    numbers: pl.DataFrame
    allowances: pl.DataFrame
    narrow: _Prices
    wide: _Prices
    minor_units: int

    @classmethod
    def of(cls, terms: TermsFrames) -> Self:
        keyed = terms.metrics.with_row_index("_tariff")
        tariffs = keyed.select("block_size", "divisor", "minimum", "maximum", "first_tier", "^upper_.*$")
        # what no tariff has is not looked at
        tariffs = tariffs.drop(
            name for name in ("block_size", "minimum", "maximum") if tariffs[name].null_count() == len(tariffs)
        )
        # what does not fit is a number of a tier, or a maximum, that no excess up to `narrow` reaches
        fitting = cs.by_dtype(_INTEGER).clip(-_NARROW_MOST, _NARROW_MOST).cast(_NARROW)
        return cls(
            keyed.select(*TERMS_OF_A_METRIC, "_tariff"),
            keyed.select(
                pl.col("allowance").to_physical(),
                "allowance_units",
                "has_tariff",
                "limit",
                "narrow",
                has_blocks=pl.col("block_size").is_not_null(),
            ),
            _Prices(_NARROW, tariffs.with_columns(fitting), terms.tiers.with_columns(fitting)),
            _Prices(_INTEGER, tariffs, terms.tiers),
            terms.minor_units,
        )


def _rated(piece: pl.DataFrame, lookup: _Lookup) -> pl.DataFrame:
    number = piece.select(TERMS_OF_A_METRIC).join(
        lookup.numbers, on=TERMS_OF_A_METRIC, how="left", maintain_order="left"
    )["_tariff"]
    # "over" is strictly more than the allowance; null is unlimited
    over = pl.max_horizontal(pl.col("base_quantity").to_physical() - pl.col("allowance"), 0)
    excess, narrow, wide = pl.col("_excess"), pl.col("_narrow"), pl.col("_wide")
    # zero overage costs nothing, whatever flats and minimum exist
    is_priced = pl.col("has_tariff") & (excess > 0) & ~pl.col("out_of_range")
    is_narrow = excess <= pl.col("narrow")
    rows = (
        lookup.allowances[number]
        .with_columns(number, piece["base_quantity"], piece["quantity"])
        .with_columns(_excess=over)
        .with_columns(out_of_range=pl.col("has_tariff") & (excess > pl.col("limit")))
        .with_columns(
            _narrow=(is_priced & is_narrow).fill_null(False),
            _wide=(is_priced & ~is_narrow).fill_null(False),
            excess=pl.when(excess > 0).then(pl.col("quantity") - pl.col("allowance_units")).otherwise(_NONE),
        )
    )
    counted = rows.select("_tariff", "_excess", "_narrow", "_wide")
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
            .otherwise(_NONE),
        )
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
        blocks = pl.when(size.is_not_null()).then(scaled_to_decimal(units.cast(_INTEGER), 0)).cast(QUANTITY)
    # the first tier that is not exceeded
    bounds = (units > pl.col(name) for name in own.columns if name.startswith("upper"))
    reached = own.select(pl.sum_horizontal("first_tier", *(bound.cast(pl.UInt32) for bound in bounds))).to_series()
    # Rule 3: under every model an amount is a line in the tier that is reached
    amount = units * pl.col("price") + pl.col("fixed")
    if "minimum" in own.columns:
        amount = pl.max_horizontal(amount, "minimum")
    if "maximum" in own.columns:
        amount = pl.min_horizontal(amount, "maximum")
    rounded = (amount // divisor).cast(_INTEGER) * 10 ** (MONEY.scale - minor_units)
    return own.with_columns(prices.tiers[reached]).select(
        "unit_price", amount=scaled_to_decimal(rounded, MONEY.scale), blocks=blocks
    )


def in_units(billionths: pl.Expr, unit: pl.Expr | int, units: Collection[int] = ()) -> pl.Expr:
    """Billionths of a base unit in the metric's unit, as QUANTITY, half-up at 18 decimals.

    Parameters
    ----------
    unit
        Int128, as `unit_billionths`: from 10^9 to 10^24, so no step can overflow.
    units
        All that occur in `unit`, where it is no number itself. Where a billionth is a whole number of 10^-18 of each
        (of every power of ten up to 10^18), it is only multiplied, which is exact and much cheaper.

    Raises
    ------
    polars.exceptions.PolarsError
        On collecting, when a quantity takes more than 20 digits before the point.
    """
    units = [unit] if isinstance(unit, int) else units
    unit = pl.lit(unit, _INTEGER) if isinstance(unit, int) else unit
    if units and all(_QUANTITY_UNIT % each == 0 for each in units):
        # from 10^20 units on there is no QUANTITY: 10^38 is none, either, so that it is refused and does not overflow
        beyond = billionths.abs() >= unit * 10**20
        exact = pl.when(beyond).then(pl.lit(10**38, _INTEGER)).otherwise(billionths * (_QUANTITY_UNIT // unit))
        return scaled_to_decimal(exact, QUANTITY.scale)
    magnitude = billionths.abs()
    whole = magnitude // unit
    rest = (magnitude - whole * unit) * BILLIONTHS
    high = rest // unit
    low = ((rest - high * unit) * BILLIONTHS + unit // 2) // unit
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
    twice = 2 * 10**decimals
    room = min((_OPEN - denominator) // twice, int(MAXIMUM_AMOUNT) * denominator)
    fixed, dearest = max(minimum, sum(flats)), max(prices)
    if fixed > room:  # not even the smallest excess can be computed, and no such number may reach a column
        return _NOTHING._replace(block_size=block, limit=0)
    limit = min(_OPEN, _reach(room - fixed, dearest, block))
    # half-up in minor units: (numerator x times + half) / (2 x half) rounded down; times <= twice, half <= denominator
    times = twice // gcd(denominator, twice)
    half = denominator * times // twice
    # the same below 2^63. What a tier starts from, added or taken off, is at most what an excess that reaches it costs
    # at the dearest price, flats included; counting started blocks adds one less than a block
    narrow_room = min(room, (_NARROW_MOST - half) // times)
    narrow = min(limit, _NARROW_MOST - (block or 0), _reach(narrow_room - fixed, dearest, block))
    if fixed > narrow_room or 2 * half > _NARROW_MOST:
        narrow = 0
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
    return _Integers(
        block,
        2 * half,
        minimum * times + half if minimum else None,
        # an amount stays within the room by itself
        None if maximum is None else min(room, maximum // common) * times + half,
        limit,
        max(0, narrow),
        uppers,
        [tier._replace(price=tier.price * times, fixed=tier.fixed * times + half) for tier in tiers],
    )


def _reach(room: int, dearest: int, block: int | None) -> int:
    """The largest excess of which every unit, or block, at the dearest price still leaves room."""
    return _OPEN if dearest == 0 else room // dearest * (block or 1)


def _billionths(quantity: Decimal, metric: Metric) -> int:
    return int(_exactly(quantity, unit_billionths(metric)))


def _scaled(price: Decimal) -> int:
    return int(_exactly(price, PRICE_SCALE))


def _exactly(amount: Decimal, factor: Decimal | int) -> Decimal:
    """The product to its last digit, whatever precision the caller computes with."""
    with localcontext(prec=100):
        return amount * factor
