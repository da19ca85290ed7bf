"""Rating: from quantities and terms to exact amounts (rules 1 to 5).

Everything is counted in billionths of a base unit, as Int128. A tariff becomes one wide row of integers over one
common denominator, so an amount is an exact fraction until the single rounding. `limit` is the largest quantity for
which no intermediate result of that row can overflow and the amount stays below 10^14; what exceeds it is not rated
but reported by `out_of_range`, so an overflow cannot happen unseen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from math import gcd

import polars as pl

from billing.catalogue import Catalogue, Metric, Tariff, TermsPeriod, terms_periods
from billing.money import MAXIMUM_AMOUNT, round_fraction, scaled_to_decimal
from billing.tables import BASE_QUANTITY, PRICE, QUANTITY

BILLIONTHS = 10**9
PRICE_SCALE = 10**12
_OPEN = 2**126
_INTEGER = pl.Int128


@dataclass(frozen=True)
class TermsFrames:
    """The catalogue's terms as frames to join.

    Attributes
    ----------
    packages
        terms_key, package, rank, since, until (null is open), monthly, yearly (PRICE, null where not sold).
        `terms_key` is empty, or the account id for an account with an agreement on that package.
    metrics
        The same key and, per metric: allowance (BASE_QUANTITY, null is unlimited), is_trigger, has_tariff, model,
        price (PRICE, where one unit price holds) and the tariff's integers.
    own_terms
        account_id, package: who has terms of their own.
    """

    packages: pl.DataFrame
    metrics: pl.DataFrame
    own_terms: pl.DataFrame
    tiers: int


def terms_frames(catalogue: Catalogue) -> TermsFrames:
    """The terms of every package by date, with one wide row per tariff."""
    periods = terms_periods(catalogue)
    tariffs = [tariff for period in periods for tariff in period.terms.overage.values() if tariff is not None]
    tiers = max([1, *(len(tariff.tiers) for tariff in tariffs)])
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
    rows = [
        _metric_row(period, metric, tiers, catalogue.minor_units) for period in periods for metric in catalogue.metrics
    ]
    metrics = pl.DataFrame(rows, schema=_metric_schema(tiers), orient="row")
    own_terms = packages.filter(pl.col("terms_key") != "").select(account_id="terms_key", package="package").unique()
    return TermsFrames(packages, metrics, own_terms.sort("account_id", "package"), tiers)


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


def rate(frame: pl.DataFrame, tiers: int, decimals: int) -> pl.DataFrame:
    """`frame` with what each quantity costs, before the one rounding of rule 4.

    Rule 1: the tariff of what is over the allowance, of a quantity that was aggregated before.

    Parameters
    ----------
    frame
        base_quantity (BASE_QUANTITY) beside the columns of `TermsFrames.metrics`.
    tiers
        Tier columns in the frame.
    decimals
        Of the currency's minor unit.

    Returns
    -------
    polars.DataFrame
        With quantity, allowance_units, excess, billed_units (QUANTITY), unit_price (PRICE), amount (MONEY; 0 where
        nothing is over, or no tariff holds) and out_of_range (the quantity is beyond `limit`: amount is null).
    """
    quantity = pl.col("base_quantity").to_physical()
    allowance = pl.col("allowance").to_physical()
    # "over" is strictly more than the allowance; null is unlimited
    over = (quantity - allowance).clip(lower_bound=0).fill_null(0)
    frame = frame.with_columns(_excess=over.cast(_INTEGER))
    excess = pl.col("_excess")
    is_block = pl.col("model") == "block"
    size = pl.col("block_size")
    frame = frame.with_columns(
        out_of_range=pl.col("has_tariff") & (excess > pl.col("limit")),
        # every started block is charged in full
        _units=pl.when(is_block).then((excess + size - 1) // size).otherwise(excess),
    ).with_columns(_safe=pl.when(~pl.col("out_of_range")).then("_units"))
    units = pl.col("_safe")
    # Rule 3: the tariff models. A block is one open tier, counted in blocks
    graduated = pl.sum_horizontal(
        pl.when(units > pl.col(f"lower_{k}")).then(
            (pl.min_horizontal(units, f"upper_{k}") - pl.col(f"lower_{k}")) * pl.col(f"price_{k}") + pl.col(f"flat_{k}")
        )
        for k in range(tiers)
    )
    whole = _of_the_tier_reached(units, [units * pl.col(f"price_{k}") + pl.col(f"flat_{k}") for k in range(tiers)])
    numerator = (
        pl.when(pl.col("model").is_in(["volume", "stairstep"]))
        .then(whole)
        .otherwise(graduated)
        .clip(pl.col("minimum"), pl.col("maximum"))
    )
    # zero overage costs nothing, whatever flats and minimum exist
    numerator = pl.when(units > 0).then(numerator).otherwise(0)
    tier_price = _of_the_tier_reached(units, [pl.col(f"list_price_{k}") for k in range(tiers)])
    frame = frame.with_columns(_numerator=numerator.cast(_INTEGER)).with_columns(
        quantity=in_units(quantity, pl.col("unit_billionths")),
        allowance_units=in_units(allowance, pl.col("unit_billionths")),
        excess=in_units(excess, pl.col("unit_billionths")),
        billed_units=pl.when(is_block)
        .then(scaled_to_decimal(units * BILLIONTHS, 9).cast(QUANTITY))
        .when(pl.col("has_tariff"))
        .then(in_units(excess, pl.col("unit_billionths")))
        .otherwise(pl.lit(Decimal(0)).cast(QUANTITY)),
        unit_price=pl.when(units > 0).then(
            pl.when(pl.col("model") == "volume").then(tier_price).otherwise(pl.col("single_price"))
        ),
        amount=pl.when(~pl.col("out_of_range")).then(
            round_fraction(pl.col("_numerator"), pl.col("denominator"), decimals)
        ),
    )
    return frame.drop("_excess", "_units", "_safe", "_numerator")


def _of_the_tier_reached(units: pl.Expr, values: Sequence[pl.Expr]) -> pl.Expr:
    """The value of the first tier that is not exceeded."""
    return pl.coalesce(pl.when(units <= pl.col(f"upper_{k}")).then(value) for k, value in enumerate(values))


def in_units(billionths: pl.Expr, unit_billionths: pl.Expr) -> pl.Expr:
    """Billionths of a base unit in the metric's unit, half-up at 18 decimals (exact where the unit is a power of ten).

    `unit_billionths` stays below 10^24 (a unit of 10^15 base units), so no step can overflow.
    """
    magnitude = billionths.abs()
    rest = (magnitude % unit_billionths) * BILLIONTHS
    high = rest // unit_billionths
    low = ((rest % unit_billionths) * BILLIONTHS + unit_billionths // 2) // unit_billionths
    fraction = scaled_to_decimal(high * BILLIONTHS + low, 18)
    return ((magnitude // unit_billionths).cast(QUANTITY) + fraction) * billionths.sign().cast(QUANTITY)


def unit_billionths(metric: Metric) -> int:
    """Billionths of a base unit in one unit of the metric."""
    return int(_exactly(metric.unit_size, BILLIONTHS))


def _metric_schema(tiers: int) -> dict[str, pl.DataType | type[pl.DataType]]:
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "terms_key": pl.String,
        "package": pl.String,
        "since": pl.Date,
        "metric": pl.String,
        "unit_billionths": _INTEGER,
        "allowance": BASE_QUANTITY,
        "is_trigger": pl.Boolean,
        "has_tariff": pl.Boolean,
        "model": pl.String,
        "block_size": _INTEGER,
        "single_price": PRICE,
        "denominator": _INTEGER,
        "minimum": _INTEGER,
        "maximum": _INTEGER,
        "limit": _INTEGER,
    }
    for k in range(tiers):
        schema |= {f"{name}_{k}": _INTEGER for name in ("lower", "upper", "price", "flat")}
        schema |= {f"list_price_{k}": PRICE}
    return schema


def _metric_row(period: TermsPeriod, metric: Metric, tiers: int, decimals: int) -> tuple[object, ...]:
    allowance = period.terms.allowances[metric.name]
    tariff = period.terms.overage.get(metric.name)
    return (
        period.account_id,
        period.package,
        period.since,
        metric.name,
        unit_billionths(metric),
        None if allowance is None else _exactly(allowance, metric.unit_size),
        metric.name in period.terms.auto_upgrade_on,
        tariff is not None,
        tariff.model if tariff else None,
        *(_tariff_integers(tariff, metric, tiers, decimals) if tariff else _no_integers(tiers, limit=None)),
    )


def _no_integers(tiers: int, limit: int | None) -> Sequence[object]:
    """Where nothing can become due: 0 / 1."""
    return [None, None, 1, None, None, limit, *([None] * 5 * tiers)]


def _tariff_integers(tariff: Tariff, metric: Metric, tiers: int, decimals: int) -> Sequence[object]:
    """block_size, single_price, denominator, minimum, maximum, limit and the tiers, over one common denominator."""
    unit = unit_billionths(metric)
    if tariff.size is not None and tariff.price is not None:
        counted, block = 1, _billionths(tariff.size, metric)
        bounds: list[int | None] = [None]
        prices, flats = [tariff.price], [Decimal(0)]
    else:
        counted, block = unit, 1
        bounds = [None if t.up_to is None else _billionths(t.up_to, metric) for t in tariff.tiers]
        prices, flats = [t.unit_price for t in tariff.tiers], [t.flat for t in tariff.tiers]
    # an amount is (sum of units x price + flats x counted) / (counted x PRICE_SCALE), cancelled down
    price_numerators = [_scaled(price) for price in prices]
    flat_numerators = [_scaled(flat) * counted for flat in flats]
    minimum = _scaled(tariff.minimum or Decimal(0)) * counted
    maximum = None if tariff.maximum is None else _scaled(tariff.maximum) * counted
    denominator = counted * PRICE_SCALE
    common = gcd(denominator, minimum, maximum or 0, *price_numerators, *flat_numerators)
    denominator //= common
    price_numerators = [value // common for value in price_numerators]
    flat_numerators = [value // common for value in flat_numerators]
    # rounding needs 2 x numerator x 10^decimals + denominator < 2^126, and an amount stays below 10^14
    room = min((_OPEN - denominator) // (2 * 10**decimals), int(MAXIMUM_AMOUNT) * denominator)
    fixed = max(minimum // common, sum(flat_numerators))
    dearest = max(price_numerators)
    if fixed > room:  # not even the smallest excess can be computed, and no such number may reach a column
        return _no_integers(tiers, limit=0)
    limit = _OPEN if dearest == 0 else min(_OPEN, (room - fixed) // dearest * block)
    single = tariff.price if tariff.model == "block" else prices[0] if len(prices) == 1 and any(prices) else None
    lowers = [0, *(bound for bound in bounds if bound is not None)]
    columns: list[object] = []
    for lower, upper, price, flat, listed in zip(
        lowers, bounds, price_numerators, flat_numerators, prices, strict=True
    ):
        columns += [lower, _OPEN if upper is None else upper, price, flat, listed]
    unused = [None] * 5 * (tiers - len(bounds))
    top = min(_OPEN, room if maximum is None else maximum // common)
    return [block, single, denominator, min(minimum // common, top), top, limit, *columns, *unused]


def _billionths(quantity: Decimal, metric: Metric) -> int:
    return int(_exactly(quantity, unit_billionths(metric)))


def _scaled(price: Decimal) -> int:
    return int(_exactly(price, PRICE_SCALE))


def _exactly(amount: Decimal, factor: Decimal | int) -> Decimal:
    """The product to its last digit, whatever precision the caller computes with."""
    with localcontext(prec=100):
        return amount * factor
