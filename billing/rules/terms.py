"""The catalogue's terms as frames: a row per terms, metric and time, with the tariff as integers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from math import gcd
from typing import NamedTuple

import polars as pl

from billing.model.catalogue import Catalogue, Metric, Tariff, Terms, TermsPeriod, terms_periods
from billing.model.columns import BASE_QUANTITY, PRICE, QUANTITY
from billing.model.empty_frames import skip_if_empty
from billing.model.money import MAXIMUM_AMOUNT
from billing.model.one_collect import collected
from billing.model.quantities import INTEGER, exactly, unit_billionths

PRICE_SCALE = 10**12
TERMS_OF_A_METRIC = ("terms_key", "package", "since", "metric")
_OPEN = 2**126
NARROW_MOST = 2**63 - 1


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
        each tier but the last reaches). Of the percentage model also event_price, free_events and event_limit (the most
        events that can be rated); null elsewhere.
    rules
        As `metrics`, of the rules of tariffs by dimension: also rule, the rule's name. None of them is a trigger.
    tiers
        price and fixed (what `units` in this tier cost, in minor units: units x price + fixed, over the divisor and
        rounded down: half of it is in `fixed`, `minimum` and `maximum` already), unit_price (PRICE; null where no one
        price holds for all units).
    own_terms
        account_id, package: who has terms of their own.
    minor_units
        Decimals of the currency's minor unit.
    hidden
        Names of packages that nobody can get into.
    """

    packages: pl.DataFrame
    metrics: pl.DataFrame
    tiers: pl.DataFrame
    own_terms: pl.DataFrame
    minor_units: int
    hidden: Sequence[str] = ()
    rules: pl.DataFrame = field(default_factory=pl.DataFrame)

    @cached_property
    def starts(self) -> pl.DataFrame:
        """_key, package, terms_key, since: the versions of every package, sorted by their start."""
        return self.packages.select("package", "terms_key", "since", _key="terms_key").sort("since")

    @cached_property
    def firsts(self) -> pl.DataFrame:
        """_key, package, _first: when the first version of every package starts."""
        return self.starts.group_by("_key", "package", maintain_order=True).agg(_first=pl.col("since").first())


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
    event_price: int | None = None
    free_events: int | None = None
    event_limit: int | None = None


_METRIC_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "terms_key": pl.String,
    "package": pl.String,
    "since": pl.Date,
    "metric": pl.String,
    "unit_billionths": INTEGER,
    "allowance": BASE_QUANTITY,
    "allowance_units": QUANTITY,
    "is_trigger": pl.Boolean,
    "has_tariff": pl.Boolean,
    "block_size": INTEGER,
    "divisor": INTEGER,
    "minimum": INTEGER,
    "maximum": INTEGER,
    "limit": INTEGER,
    "narrow": INTEGER,
    "event_price": INTEGER,
    "free_events": INTEGER,
    "event_limit": INTEGER,
    "first_tier": pl.UInt32,
}
NONE = pl.lit(Decimal(0)).cast(QUANTITY)
# Nothing can become due.
_NOTHING = _Integers(None, 1, None, None, None, 0, (), (_Tier(0, 0, None),))


def terms_frames(catalogue: Catalogue) -> TermsFrames:
    """The terms of every package by date, with one row per tariff and one per tier."""
    periods = terms_periods(catalogue)
    given = [tariff for period in periods for tariff in period.terms.overage.values() if tariff is not None]
    tariffs = [*given, *(rule.tariff for tariff in given for rule in tariff.by if rule.tariff is not None)]
    bounds = max([1, *(len(tariff.tiers) for tariff in tariffs)]) - 1
    packages = pl.DataFrame(
        [(p.account_id, p.package, p.rank, p.since, p.until, *_prices(p.terms)) for p in periods],
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
    rules: list[tuple[object, ...]] = []
    tiers: list[_Tier] = []
    for period in periods:
        for metric in catalogue.metrics:
            tariff = period.terms.overage.get(metric.name)
            rated = _Rated(period.terms.allowances[metric.name], tariff, metric.name in period.terms.auto_upgrade_on)
            rows.append(_row(period, metric, rated, catalogue.minor_units, bounds, tiers))
            for rule in tariff.by if tariff is not None else ():
                own = _Rated(rule.allowance, rule.tariff, is_trigger=False)
                rules.append((*_row(period, metric, own, catalogue.minor_units, bounds, tiers), rule.name))
    own_terms = packages.filter(pl.col("terms_key") != "").select(account_id="terms_key", package="package").unique()
    schema = _METRIC_SCHEMA | {f"upper_{k}": INTEGER for k in range(bounds)}
    return TermsFrames(
        packages,
        pl.DataFrame(rows, schema=schema, orient="row"),
        pl.DataFrame(tiers, schema={"price": INTEGER, "fixed": INTEGER, "unit_price": PRICE}, orient="row"),
        own_terms.sort("account_id", "package"),
        catalogue.minor_units,
        [package.name for package in catalogue.packages if package.hidden],
        pl.DataFrame(rules, schema={**schema, "rule": pl.String}, orient="row"),
    )


def _prices(terms: Terms) -> tuple[Decimal | None, Decimal | None]:
    """The monthly and the yearly price; None where it is not sold."""
    return (terms.monthly, terms.yearly) if terms.is_sold else (None, None)


class _Rated(NamedTuple):
    """What rates a metric, or the part of its usage that a rule matches."""

    allowance: Decimal | None
    tariff: Tariff | None
    is_trigger: bool


def _row(
    period: TermsPeriod, metric: Metric, rated: _Rated, minor_units: int, bounds: int, tiers: list[_Tier]
) -> tuple[object, ...]:
    """A row of `TermsFrames.metrics`; adds the tiers of its tariff to `tiers`."""
    integers = _NOTHING if rated.tariff is None else tariff_integers(rated.tariff, metric, minor_units)
    first = len(tiers)
    tiers += integers.tiers
    return (
        *(period.account_id, period.package, period.since, metric.name, unit_billionths(metric)),
        None if rated.allowance is None else exactly(rated.allowance, metric.unit_size),
        rated.allowance,
        rated.is_trigger,
        rated.tariff is not None,
        *integers[:6],
        *(integers.event_price, integers.free_events, integers.event_limit),
        first,
        *(*integers.uppers, *[_OPEN] * bounds)[:bounds],
    )


@skip_if_empty("frame", by=("on", "package", "or_first"))
def with_terms(
    frame: pl.DataFrame, terms: TermsFrames, on: str, package: str = "package", *, or_first: bool = False
) -> pl.DataFrame:
    """`frame` with `terms_key` and `since`: which terms of its package hold for its account on a date.

    Rule 2: usage is rated by the version at the start of its cycle, the fee is that of the version at the billing date.

    Parameters
    ----------
    frame
        account_id and the columns named by `on` (date) and `package` (both may be null: no terms then).
    or_first
        Use the first version on earlier dates: a subscription that moved in may be older than its package (rule 38).

    Returns
    -------
    polars.DataFrame
        In the order of `frame`; terms_key and since are null where the package has no terms on that date.
    """
    chain = _with_terms_key(frame.lazy().with_row_index("_row"), terms, package)
    since = terms.starts if package == "package" else terms.starts.rename({"package": package})
    if or_first:
        chain = chain.join(
            terms.firsts.lazy(),
            left_on=["_key", package],
            right_on=["_key", "package"],
            how="left",
            maintain_order="left",
        )
        chain = chain.with_columns(_on=pl.when(pl.col(on).is_not_null()).then(pl.max_horizontal(on, "_first")))
    else:
        chain = chain.with_columns(_on=on)
    keyed = collected(chain)
    matched = (
        keyed.lazy()
        .select("_row", "_key", package, "_on")
        .filter(pl.col("_on").is_not_null() & pl.col(package).is_not_null())
        .sort("_on")
        .join_asof(
            since.lazy(),
            left_on="_on",
            right_on="since",
            by=["_key", package],
            check_sortedness=False,
        )
    )
    return collected(
        keyed.drop("_key", "_on", "_first", strict=False)
        .lazy()
        .join(matched.select("_row", "terms_key", "since"), on="_row", how="left", maintain_order="left")
        .drop("_row")
    )


def _with_terms_key(frame: pl.LazyFrame, terms: TermsFrames, package: str) -> pl.LazyFrame:
    """`frame` with `_key`: the account where it has terms of its own for the package, else empty."""
    if terms.own_terms.is_empty():
        return frame.with_columns(_key=pl.lit(""))
    own = terms.own_terms.rename({"package": package}).with_columns(_own=pl.lit(True))
    keyed = frame.join(own.lazy(), on=["account_id", package], how="left", maintain_order="left")
    return keyed.with_columns(_key=pl.when(pl.col("_own")).then("account_id").otherwise(pl.lit(""))).drop("_own")


def tariff_integers(tariff: Tariff, metric: Metric, decimals: int) -> _Integers:
    """A tariff as integers; `decimals` are those of the currency's minor unit."""
    if tariff.percent is not None:
        return _percentage_integers(tariff, tariff.percent, metric, decimals)
    unit = unit_billionths(metric)
    counted, block = unit, None
    uppers = [_billionths(t.up_to, metric) for t in tariff.tiers if t.up_to is not None]
    listed, flats = [t.unit_price for t in tariff.tiers], [_scaled(t.flat) * unit for t in tariff.tiers]
    if tariff.size is not None and tariff.price is not None:
        # One open-ended tier, counted in blocks.
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
    if fixed > room:  # Not even the smallest excess can be computed: keep such numbers out of the columns.
        return _NOTHING._replace(block_size=block, limit=0)
    limit = min(_OPEN, _reach(room - fixed, dearest, block))
    # half-up in minor units: (numerator x times + half) / (2 x half) rounded down; times <= twice, half <= denominator
    times = twice // gcd(denominator, twice)
    half = denominator * times // twice
    # the same below 2^63. What a tier starts from, added or taken off, is at most what an excess that reaches it costs
    # at the dearest price, flats included; counting started blocks adds one less than a block
    narrow_room = min(room, (NARROW_MOST - half) // times)
    narrow = min(limit, NARROW_MOST - (block or 0), _reach(narrow_room - fixed, dearest, block))
    if fixed > narrow_room or 2 * half > NARROW_MOST:
        narrow = 0
    tiers: list[_Tier] = []
    below = 0
    for lower, price, flat, list_price in zip([0, *uppers], prices, flats, listed, strict=True):
        if lower > limit:  # Never reached, and its numbers might not fit.
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
        # The amount itself stays in range.
        None if maximum is None else min(room, maximum // common) * times + half,
        limit,
        max(0, narrow),
        uppers,
        [tier._replace(price=tier.price * times, fixed=tier.fixed * times + half) for tier in tiers],
    )


def _percentage_integers(tariff: Tariff, percent: Decimal, metric: Metric, decimals: int) -> _Integers:
    """As `tariff_integers`: one tier that prices the excess, and a price for each event; always computed wide."""
    unit = unit_billionths(metric)
    price, event_price = _scaled(percent) // 100, _scaled(tariff.per_event) * unit
    minimum = _scaled(tariff.minimum or Decimal(0)) * unit
    maximum = None if tariff.maximum is None else _scaled(tariff.maximum) * unit
    denominator = unit * PRICE_SCALE
    common = gcd(denominator, minimum, maximum or 0, price, event_price)
    denominator, minimum, price, event_price = (each // common for each in (denominator, minimum, price, event_price))
    twice = 2 * 10**decimals
    room = min((_OPEN - denominator) // twice, int(MAXIMUM_AMOUNT) * denominator)
    if minimum > room:
        return _NOTHING._replace(limit=0, event_price=0, free_events=0, event_limit=0)
    times = twice // gcd(denominator, twice)
    half = denominator * times // twice
    # Excess and events have half of the room each.
    return _Integers(
        None,
        2 * half,
        minimum * times + half if minimum else None,
        None if maximum is None else min(room, maximum // common) * times + half,
        _reach(room // 2, price, None),
        0,
        (),
        [_Tier(price * times, half, None)],
        event_price * times,
        tariff.free_events,
        tariff.free_events + _reach(room // 2, event_price, None),
    )


def _reach(room: int, dearest: int, block: int | None) -> int:
    """The largest excess of which every unit, or block, at the dearest price still leaves room."""
    return _OPEN if dearest == 0 else room // dearest * (block or 1)


def _billionths(quantity: Decimal, metric: Metric) -> int:
    return int(exactly(quantity, unit_billionths(metric)))


def _scaled(price: Decimal) -> int:
    return int(exactly(price, PRICE_SCALE))
