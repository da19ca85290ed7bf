"""Seats: levels that are charged in advance, and those that are added within a cycle for the days left (rule 35)."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import polars as pl

from billing.model.calendar import midnight
from billing.model.catalogue import Catalogue, Seats, Tariff, Tier, terms_periods
from billing.model.codes import FeeReason, LineKind, ParkedReason, SubscriptionStatus
from billing.model.columns import BASE_QUANTITY, MONEY, PRICE, QUANTITY
from billing.model.money import scaled_to_decimal
from billing.model.quantities import INTEGER, exactly, in_units, unit_billionths
from billing.rules.gauges import gauges_of, level_path
from billing.rules.measurement import ZERO, account_key
from billing.rules.terms import TermsFrames, tariff_integers, with_terms

_KEYS: Final = ["account_id", "subscription_id", "billing_date", "metric"]
_PRICED: Final = ["terms_key", "package", "since", "metric"]
# Days, their share, and doubling for rounding: what is counted stays this far below what a tariff can rate.
_ROOM: Final = 2 * 366 * 366


@dataclass(frozen=True)
class SeatLevels:
    """Levels of the metrics that are charged in advance, as BASE_QUANTITY; one below zero counts as 0.

    Attributes
    ----------
    at_dates
        account_id, subscription_id, billing_date, metric, level: at the first instant of the date, events of that
        instant included.
    by_day
        account_id, subscription_id, billing_date (on which the cycle ends), metric, day, level: the highest level of
        each local day with access on which it changed; of the cycle's first instant, too, with no day.
    """

    at_dates: pl.DataFrame
    by_day: pl.DataFrame


def seat_levels(
    cycles: pl.DataFrame,
    spans: pl.DataFrame,
    levels: pl.DataFrame,
    events: pl.LazyFrame,
    accounts: pl.Series,
    catalogue: Catalogue,
) -> SeatLevels:
    """The levels at the billing dates of a month, and through the cycles that end there.

    Parameters
    ----------
    cycles, levels
        The tables CYCLES and LEVELS of the month.
    spans, events, accounts
        As in `UsageInputs`.
    """
    metrics = [metric for metric in catalogue.metrics if metric.is_in_advance]
    zone = catalogue.time_zone
    known = gauges_of(cycles["account_id"], levels, metrics)
    path = level_path(events, known, metrics, account_key(accounts, known["account_id"]))
    dates = cycles.select("account_id", "subscription_id", "billing_date", at=midnight(pl.col("billing_date"), zone))
    begun = spans.select(
        "account_id", "subscription_id", "cycle_start_instant", billing_date="cycle_end", at="span_start"
    )
    at_dates = _level_at(dates.join(known, on="account_id"), path)
    carried = _level_at(begun.join(known, on="account_id"), path)
    day = pl.col("time").dt.convert_time_zone(zone).dt.date()
    within = (
        path.join(
            spans.select("account_id", "subscription_id", "span_start", "span_end", billing_date="cycle_end").join(
                known.select("account_id", "metric", "gauge"), on="account_id"
            ),
            on="gauge",
        )
        .filter((pl.col("time") >= pl.col("span_start")) & (pl.col("time") < pl.col("span_end")))
        .select(*_KEYS, "level", day=day)
    )
    # What a later span of access begins with counts on its first day; what the cycle begins with was charged before,
    # or, where access was suspended then, is not charged later (rule 16).
    at_start = _level_at(
        begun.select("account_id", "subscription_id", "billing_date", at="cycle_start_instant")
        .unique(maintain_order=True)
        .join(known, on="account_id"),
        path,
    ).select(*_KEYS, "level", day=pl.lit(None, pl.Date))
    opening = carried.filter(pl.col("at") > pl.col("cycle_start_instant")).select(
        *_KEYS, "level", day=pl.col("at").dt.convert_time_zone(zone).dt.date()
    )
    counted = pl.max_horizontal("level", ZERO).cast(BASE_QUANTITY)
    by_day = (
        pl.concat([at_start, opening, within.select(opening.columns)])
        .group_by(*_KEYS, "day")
        .agg(pl.col("level").max())
        .with_columns(level=counted)
    )
    return SeatLevels(at_dates.select(*_KEYS, level=counted), by_day)


def _level_at(rows: pl.DataFrame, path: pl.DataFrame) -> pl.DataFrame:
    """`rows` (gauge, opening_level, at) with `level`: what stands at that instant, its events included."""
    numbered = rows.with_row_index("_row")
    last = (
        path.join(numbered.select("_row", "gauge", "at"), on="gauge", maintain_order="left")
        .filter(pl.col("time") <= pl.col("at"))
        .group_by("_row")
        .agg(pl.col("level").last())
    )
    return numbered.join(last, on="_row", how="left", maintain_order="left").with_columns(
        level=pl.coalesce("level", "opening_level")
    )


def seat_dues(dated: pl.DataFrame, levels: SeatLevels, terms: TermsFrames, catalogue: Catalogue) -> pl.DataFrame:
    """What seats add to the table DUES of a month: of the cycles that start, and of seats added in those that ended.

    A billing date on which the fee is due, monthly also within a yearly term, charges the level. Each rise of a day's
    highest level above the highest charged so far costs the difference for the days left from its day; all of a cycle
    are one line, rounded once. The amount is null beyond what can be rated exactly.

    Parameters
    ----------
    dated
        The table CYCLES of the month with closing_package, opening_package and is_resumed.
    """
    prices = _prices(catalogue)
    lines = [_of_starting_cycles(dated, levels, prices, terms, catalogue)]
    lines.append(_of_added_seats(dated, levels, prices, terms, catalogue))
    return pl.concat(lines, how="diagonal")


def _of_starting_cycles(
    dated: pl.DataFrame, levels: SeatLevels, prices: "_Prices", terms: TermsFrames, catalogue: Catalogue
) -> pl.DataFrame:
    within_term = (pl.col("fee_reason") == FeeReason.TERM) & ~pl.col("is_last")
    charged = (pl.col("status") != SubscriptionStatus.SUSPENDED) | pl.lit(catalogue.policy.charge_while_suspended)
    due = dated.filter(
        pl.col("opening_package").is_not_null() & ((pl.col("fee_share_numerator") > 0) | (within_term & charged))
    ).with_columns(
        package="opening_package",
        _part=pl.when(pl.col("fee_share_numerator") > 0).then("fee_share_numerator").otherwise(1).cast(INTEGER),
        _parts=pl.col("fee_share_denominator").cast(INTEGER),
    )
    priced = _priced(with_terms(due, terms, on="billing_date", or_first=True), prices).join(
        levels.at_dates, on=_KEYS, maintain_order="left"
    )
    costs = _with_cost(priced, "level", "_cost", prices)
    unit = pl.col("unit_billionths")
    excess = pl.max_horizontal(pl.col("level").to_physical().cast(INTEGER) - pl.col("included"), 0)
    partly = pl.col("_parts") > 1
    title = _titles(catalogue)
    return (
        costs.with_columns(
            amount=_from_minor_units(pl.col("_cost") * pl.col("_part"), pl.col("divisor") * pl.col("_parts"), catalogue)
        )
        .filter((pl.col("amount") != 0).fill_null(value=True))
        .select(
            *_KEYS,
            "package",
            "amount",
            "unit_price",
            kind=pl.lit(LineKind.SEATS),
            cycle_start="billing_date",
            cycle_end="next_billing_date",
            quantity=in_units(pl.col("level").to_physical().cast(INTEGER), unit).cast(QUANTITY),
            allowance=in_units(pl.col("included"), unit).cast(QUANTITY),
            excess=in_units(excess, unit).cast(QUANTITY),
            billed_units=in_units(excess, unit).cast(QUANTITY),
            description=pl.concat_str(
                pl.format("{} in advance", title),
                pl.when(partly).then(pl.format(", {} of {} days", "_part", "_parts")).otherwise(pl.lit("")),
            ),
        )
    )


def seat_rises(dated: pl.DataFrame, levels: SeatLevels, terms: TermsFrames, catalogue: Catalogue) -> pl.DataFrame:
    """The rises that `seat_dues` charges, by day.

    Returns
    -------
    polars.DataFrame
        account_id, subscription_id, billing_date, metric, day, before, level (BASE_QUANTITY), left and days (of the
        cycle), divisor, cost_before and cost_after: what the levels cost a cycle, times divisor, in minor units.
    """
    found = _rises(dated, levels, _prices(catalogue), terms, catalogue)
    columns = {"_before": "cost_before", "_after": "cost_after"}
    wanted = [*_KEYS, "day", "before", "level", "left", "days", "divisor", *columns.values()]
    return found.rename(columns).select(wanted) if found.height else pl.DataFrame(schema=dict.fromkeys(wanted, pl.Null))


def _rises(
    dated: pl.DataFrame, levels: SeatLevels, prices: "_Prices", terms: TermsFrames, catalogue: Catalogue
) -> pl.DataFrame:
    """`levels.by_day` where it rises above what is charged, with prices; no columns but account_id where none does."""
    closed = dated.filter(
        pl.col("cycle_start").is_not_null()
        & pl.col("closing_package").is_not_null()
        & (pl.col("fee_reason") != FeeReason.REFUNDED)
    ).with_columns(package="closing_package")
    before = pl.col("level").cum_max().shift(1).over(_KEYS)
    rises = (
        levels.by_day.sort(*_KEYS, "day", nulls_last=False)
        .with_columns(before=before)
        .filter(pl.col("day").is_not_null() & (pl.col("level") > pl.col("before").fill_null(ZERO)))
        .with_columns(pl.col("before").fill_null(ZERO))
    )
    if rises.is_empty():
        return pl.DataFrame(schema={"account_id": pl.String})
    priced = _priced(with_terms(closed, terms, on="cycle_start", or_first=True), prices)
    raised = rises.join(priced, on=_KEYS, maintain_order="left")
    costs = _with_cost(_with_cost(raised, "level", "_after", prices), "before", "_before", prices)
    # A first cycle whose fee is a part of the calendar month; that of a resumed subscription is whole (rule 13).
    is_short = (
        pl.lit(catalogue.policy.billing_anchor == "first_of_month" and catalogue.policy.first_cycle == "prorated")
        & (pl.col("billing_index") == 1)
        & ~pl.col("is_resumed")
    )
    month_days = pl.col("cycle_start").dt.month_end().dt.day().cast(INTEGER)
    days = (
        pl.when(is_short).then(month_days).otherwise((pl.col("billing_date") - pl.col("cycle_start")).dt.total_days())
    )
    left = (pl.col("billing_date") - pl.col("day")).dt.total_days()
    levels_at = (pl.col(name).to_physical().cast(INTEGER) for name in ("level", "before"))
    charged, charged_before = (pl.max_horizontal(each - pl.col("included"), 0) for each in levels_at)
    scale = 10 ** (PRICE.scale - catalogue.minor_units)
    return costs.with_columns(
        days=days.cast(INTEGER),
        left=left.cast(INTEGER),
        added=charged - charged_before,
        whole=(pl.col("_after") - pl.col("_before")) * scale,
    )


def _of_added_seats(
    dated: pl.DataFrame, levels: SeatLevels, prices: "_Prices", terms: TermsFrames, catalogue: Catalogue
) -> pl.DataFrame:
    rises = _rises(dated, levels, prices, terms, catalogue)
    if rises.is_empty():
        return pl.DataFrame(schema={"account_id": pl.String})
    unit = pl.col("unit_billionths")
    cost = (pl.col("_after") - pl.col("_before")) * pl.col("left")
    # One rise is a part of what the added seats cost for a whole cycle.
    is_one = pl.len() == 1
    return (
        rises.group_by(*_KEYS, maintain_order=True)
        .agg(
            pl.col("package", "cycle_start", "divisor", "days", "unit_billionths").first(),
            # A sum leaves out what is null: one that cannot be rated exactly would cost nothing.
            cost=pl.when(cost.is_not_null().all()).then(cost.sum()),
            added=pl.col("added").sum(),
            unit_price=pl.when(is_one).then(pl.col("unit_price").first()),
            part=pl.when(is_one).then(pl.col("left").first()),
            whole=pl.when(is_one & (pl.col("whole").first() % pl.col("divisor").first() == 0)).then(
                pl.col("whole").first() // pl.col("divisor").first()
            ),
        )
        .with_columns(amount=_from_minor_units(pl.col("cost"), pl.col("divisor") * pl.col("days"), catalogue))
        .filter((pl.col("amount") != 0).fill_null(value=True))
        .select(
            *_KEYS,
            "package",
            "amount",
            "cycle_start",
            "unit_price",
            kind=pl.lit(LineKind.PRORATION),
            cycle_end="billing_date",
            billed_units=in_units(pl.col("added"), unit).cast(QUANTITY),
            whole_fee=scaled_to_decimal(pl.col("whole"), PRICE.scale).cast(PRICE),
            fee_part=pl.col("part").cast(pl.Int32),
            fee_parts=pl.when(pl.col("part").is_not_null()).then("days").cast(pl.Int32),
            description=pl.format("{} added within the cycle", _titles(catalogue)),
        )
    )


@dataclass(frozen=True)
class _Prices:
    """Seats of every terms, with the integers of their tariff, and the tiers.

    What `units` in billionths cost is (units x price + fixed) / divisor minor units, with price and fixed of the tier.
    """

    seats: pl.DataFrame
    tiers: pl.DataFrame


def _prices(catalogue: Catalogue) -> _Prices:
    rows: list[tuple[object, ...]] = []
    tiers: list[tuple[object, ...]] = []
    metrics = {metric.name: metric for metric in catalogue.metrics}
    for period in terms_periods(catalogue):
        for seats in period.terms.seats:
            metric = metrics[seats.metric]
            numbers = tariff_integers(_tariff_of(seats), metric, catalogue.minor_units)
            half, limit = numbers.divisor // 2, (numbers.limit or 0) // _ROOM
            included = int(exactly(seats.included, unit_billionths(metric)))
            rows.append(
                (
                    *(period.account_id, period.package, period.since, seats.metric),
                    *(unit_billionths(metric), included, numbers.divisor, limit, len(tiers), seats.price),
                )
            )
            uppers = [0, *numbers.uppers]
            tiers += [
                (len(rows) - 1, lower, tier.price, tier.fixed - half)
                for lower, tier in zip(uppers, numbers.tiers, strict=False)
            ]
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        **dict.fromkeys(("terms_key", "package"), pl.String),
        "since": pl.Date,
        "metric": pl.String,
        **dict.fromkeys(("unit_billionths", "included", "divisor", "limit"), INTEGER),
        "first": pl.UInt32,
        "unit_price": PRICE,
    }
    return _Prices(
        pl.DataFrame(rows, schema=schema, orient="row").with_row_index("_seats").drop("first"),
        pl.DataFrame(
            tiers, schema={"_seats": pl.UInt32, "_lower": INTEGER, "_price": INTEGER, "_fixed": INTEGER}, orient="row"
        ),
    )


def _tariff_of(seats: Seats) -> Tariff:
    if seats.tariff is not None:
        return seats.tariff
    return Tariff("graduated", tiers=(Tier(None, seats.price or Decimal(0), Decimal(0)),))


def _priced(frame: pl.DataFrame, prices: _Prices) -> pl.DataFrame:
    """`frame` (terms_key, package, since) for every metric of which its package sells seats."""
    return frame.drop("metric", strict=False).join(prices.seats, on=_PRICED[:3], maintain_order="left")


def _with_cost(frame: pl.DataFrame, level: str, name: str, prices: _Prices) -> pl.DataFrame:
    """`frame` with what a level costs, times `divisor`, in minor units; null beyond what can be rated exactly."""
    units = pl.max_horizontal(pl.col(level).to_physical().cast(INTEGER) - pl.col("included"), 0)
    rows = frame.with_columns(_units=units).with_row_index("_row")
    # The last tier that begins below the excess: `up_to` is inclusive.
    reached = (
        rows.select("_row", "_seats", "_units")
        .join(prices.tiers, on="_seats")
        .filter(pl.col("_lower") < pl.col("_units"))
        .sort("_row", "_lower")
        .group_by("_row", maintain_order=True)
        .last()
        .select("_row", "_price", "_fixed")
    )
    cost = pl.col("_units") * pl.col("_price") + pl.col("_fixed")
    return (
        rows.join(reached, on="_row", how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("_units") == 0)
            .then(pl.lit(0, INTEGER))
            .when(pl.col("_units") <= pl.col("limit"))
            .then(cost)
            .alias(name)
        )
        .drop("_row", "_units", "_price", "_fixed")
    )


def _from_minor_units(numerator: pl.Expr, denominator: pl.Expr, catalogue: Catalogue) -> pl.Expr:
    """A fraction of minor units, rounded half-up, as MONEY."""
    whole = (numerator * 2 + denominator) // (denominator * 2)
    return scaled_to_decimal(whole * 10 ** (MONEY.scale - catalogue.minor_units), MONEY.scale).cast(MONEY)


def _titles(catalogue: Catalogue) -> pl.Expr:
    return pl.col("metric").replace({metric.name: metric.title for metric in catalogue.metrics})


def seats_out_of_range(dues: pl.DataFrame) -> pl.DataFrame:
    """account_id, reason, detail: accounts with seats that cannot be rated exactly."""
    return dues.select(
        "account_id",
        reason=pl.lit(ParkedReason.QUANTITY_OUT_OF_RANGE),
        detail=pl.format(
            "{} of {} on {} is more than can be rated exactly; correct the events",
            "metric",
            "subscription_id",
            pl.col("billing_date").dt.to_string("%Y-%m-%d"),
        ),
    ).unique("account_id", keep="first", maintain_order=True)
