"""Explain what is sold beside packages: coupons, one-off charges, seats and minimum spends, down to their events."""

from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import polars as pl

from billing.model.calendar import midnight
from billing.model.catalogue import Metric
from billing.model.codes import LineKind
from billing.model.offers import Coupon
from billing.model.plain_rows import plain_number
from billing.model.quantities import in_units, unit_billionths
from billing.model.tables import LEVELS, PACKAGES
from billing.model.text import counted
from billing.month.business import Business
from billing.month.dues import counted_for_minimum, seat_cycles
from billing.month.held_offers import coupon_holdings
from billing.reports.explain_lines import (
    AccountEvents,
    events_of,
    explained_line,
    listed_files,
    metric_named,
    own_cycles,
    with_unit,
)
from billing.rules.own_documents import shown_subscription_id
from billing.rules.redemptions import HOLDING_SCHEMA
from billing.rules.seats import seat_levels, seat_rises
from billing.store.monthly import read_month

Line = dict[str, Any]
Page = dict[int, Line]


def explained_offer(
    business: Business, document: Line, known: AccountEvents, line: Line, page: Page, most_events: int
) -> Line:
    """As `explained_line`, with the arithmetic of what is sold beside packages; `page` has the lines as stored."""
    shown = page[line["line"]]
    explained = explained_line(business, document, known, line, shown, most_events)
    if shown.get("settles") is not None:
        return explained
    if line["kind"] == LineKind.COUPON and line["applies_to_line"] is not None:
        return explained | {"arithmetic": _coupon(business, document, shown, page)}
    if line["kind"] == LineKind.CHARGE:
        return explained | {"arithmetic": _charge(business, shown)}
    if line["kind"] == LineKind.MINIMUM_SPEND:
        return explained | {"arithmetic": [*_counted(business, document, shown), *explained["arithmetic"]]}
    metric = None if line["metric"] is None else metric_named(business, line["metric"])
    if metric is not None and line["kind"] == LineKind.SEATS:
        events = _events_before(business, document, known, line, metric)
        since = "" if events.is_empty() else f" after {counted(events.height, 'event')}"
        level = f"{with_unit(shown['quantity'], shown['unit'])} at the beginning of {line['due_on']}{since}"
        steps = [level, *_seats(shown)]
        return explained | {"arithmetic": steps} | listed_files(business, events, most_events)
    if metric is not None and line["kind"] == LineKind.PRORATION:
        events = events_of(business, document, known, line, metric)
        steps = _rises(business, document, known, line, metric, shown)
        return explained | {"arithmetic": steps} | listed_files(business, events, most_events)
    return explained


def _coupon(business: Business, document: Line, shown: Line, page: Page) -> list[str]:
    """Which lines a coupon lowers, in which order coupons are taken, and the share of this line."""
    lowered = [each for each in page.values() if each["kind"] == LineKind.COUPON and each.get("applies_to_line")]
    order = _order(business, document, list(dict.fromkeys(each["coupon"] for each in lowered)))
    own, before = shown["coupon"], order[: order.index(shown["coupon"])]
    off: dict[tuple[str, int], Decimal] = {}
    for each in lowered:
        off[each["coupon"], each["applies_to_line"]] = -Decimal(each["amount"])
    places = sorted(place for coupon, place in off if coupon == own)
    left = {
        place: Decimal(page[place]["amount"]) - sum((off.get((each, place), Decimal(0)) for each in before), Decimal(0))
        for place in places
    }
    total, taken = sum(left.values(), Decimal(0)), sum((off[own, place] for place in places), Decimal(0))
    place = shown["applies_to_line"]
    steps = [f"coupon {own} on line {place}: {page[place]['description']}"]
    if len(order) > 1:
        steps.append(f"coupons are taken in this order: {', '.join(order)}")
    still = " still" if before else ""
    if len(places) == 1:
        return [*steps, *_taken(business, own, f"{left[place]} that the line{still} costs", total, taken)]
    named = f"lines {', '.join(map(str, places))}{still} cost " + " + ".join(f"{left[each]}" for each in places)
    share = f"{taken} x {left[place]} / {total} by the largest remainder = {off[own, place]} off this line"
    return [*steps, f"{named} = {total}", *_taken(business, own, f"{total}", total, taken), share]


def _taken(business: Business, name: str, of: str, total: Decimal, taken: Decimal) -> list[str]:
    """What the coupon takes off its document, where the catalogue still has it as it was."""
    coupon: Coupon | None = next((each for each in business.catalogue.coupons if each.name == name), None)
    if coupon is not None and coupon.percent is not None:
        exact = total * coupon.percent / 100
        if exact.quantize(taken, ROUND_HALF_UP) == taken:
            rounded = "" if exact == taken else f" {plain_number(exact)}, rounded half-up ="
            return [f"{plain_number(coupon.percent)} % of {of} ={rounded} {taken}"]
    if coupon is not None and coupon.amount is not None and min(coupon.amount, total) == taken:
        whole = f"{coupon.amount.quantize(taken)}, but no more than "
        return [f"{whole if taken < coupon.amount else f'{taken} of '}{of}"]
    return [f"{taken} of {of}"]


def _order(business: Business, document: Line, names: list[str]) -> list[str]:
    """Coupons of a document in the order in which they are taken: by priority, then as they were redeemed."""
    priorities = {coupon.name: coupon.priority for coupon in business.catalogue.coupons}
    held = coupon_holdings(business) if business.catalogue.coupons else pl.DataFrame(schema=HOLDING_SCHEMA)
    own = held.filter(pl.col("account_id") == document["account_id"]).sort("at", "request_id")
    places = {name: place for place, name in reversed(list(enumerate(own["coupon"])))}
    return sorted(names, key=lambda name: (priorities.get(name, 0), places.get(name, 0), name))


def _charge(business: Business, shown: Line) -> list[str]:
    """The row of one_off_charges as it is now, and the product."""
    rows = business.inputs.one_off_charges.filter(pl.col("charge_id") == shown["charge_id"])
    row = next(rows.iter_rows(named=True), None)
    found = f"charge {shown['charge_id']}" + ("" if row is None else f" of {row['on']}")
    reason = f" ({row['reason']})" if row is not None and row["reason"] else ""
    if shown["quantity"] is None or shown["unit_price"] is None:
        return [f"{found}{reason}: {shown['amount']}"]
    exact = Decimal(shown["quantity"]) * Decimal(shown["unit_price"])
    rounded = "" if exact == Decimal(shown["amount"]) else f" {plain_number(exact)}, rounded half-up ="
    return [f"{found}{reason}: {shown['quantity']} x {shown['unit_price']} ={rounded} {shown['amount']}"]


def _counted(business: Business, document: Line, shown: Line) -> list[str]:
    """What counted towards a minimum spend, where it is known as it was."""
    if shown.get("part") is None or shown["part"]["replaced"] is None:
        return []
    rows = counted_for_minimum(business, document["billing_month"], document["subscription_id"])
    rows = rows.filter(pl.col("billing_date_closing") == document["billing_date"]).sort(
        "billing_date", "kind", "metric"
    )
    decimals = business.catalogue.minor_units
    steps = []
    for row in rows.iter_rows(named=True):
        share = f"{row['share']:.{decimals}f}"
        of = "" if row["share"] == row["amount"] else f" (this cycle's share of {row['amount']:.{decimals}f})"
        steps.append(f"counts: {share}{of} {row['description']}, due on {row['billing_date']}")
    moved = Decimal(shown["part"]["replaced"]) - sum(rows["share"], Decimal(0))
    if moved:
        steps.append(f"and {moved:.{decimals}f} that another system billed, or that has changed since")
    return steps


def _seats(shown: Line) -> list[str]:
    """What a level costs in advance."""
    used, included, over = (with_unit(shown[key], shown["unit"]) for key in ("quantity", "allowance", "excess"))
    steps = [f"{used} - {included} included = {over}"]
    if shown["unit_price"] is None:
        return [*steps, f"by the tariff of the seats = {shown['amount']}"]
    exact = Decimal(shown["excess"]) * Decimal(shown["unit_price"])
    product = f"{over} x {shown['unit_price']}"
    if exact == Decimal(shown["amount"]):
        return [*steps, f"{product} = {shown['amount']}"]
    return [*steps, f"{product} = {plain_number(exact)}; {shown['description']}, rounded half-up = {shown['amount']}"]


def _rises(
    business: Business, document: Line, known: AccountEvents, line: Line, metric: Metric, shown: Line
) -> list[str]:
    """What each rise of the highest level costs for the days left."""
    month = f"{line['due_on']:%Y-%m}"
    cycles = own_cycles(business, document, month)
    events = known.of(metric, (line["cycle_start"], line["due_on"]), business.as_of)
    accounts = cycles.spans["account_id"]
    of_account = pl.col("account_id") == document["account_id"]
    levels = read_month(business.home, LEVELS, month).filter(of_account)
    packages = read_month(business.home, PACKAGES, month).filter(of_account)
    found = seat_rises(
        seat_cycles(business, cycles.cycles, packages),
        seat_levels(cycles.cycles, cycles.spans, levels, events, accounts, business.catalogue),
        business.terms,
        business.catalogue,
    )
    if not found.is_empty():
        is_line = (pl.col("metric") == metric.name) & (pl.col("billing_date") == line["due_on"])
        subscription = document["subscription_id"]
        found = found.filter(is_line & (pl.col("subscription_id") == subscription)).sort("day")
    steps, total = [], Fraction(0)
    units = unit_billionths(metric)
    as_units = [in_units(pl.col(name).to_physical(), units).alias(name) for name in ("before", "level")]
    for row in found.with_columns(as_units).iter_rows(named=True) if found.height else ():
        minor = 10**business.catalogue.minor_units * int(row["divisor"])
        after, before = (Fraction(int(row[name]), minor) for name in ("cost_after", "cost_before"))
        total += (after - before) * Fraction(int(row["left"]), int(row["days"]))
        level, had = (with_unit(plain_number(row[name]), metric.unit) for name in ("level", "before"))
        more = f"{_plain(after)} - {_plain(before)} = {_plain(after - before)} more a cycle"
        steps.append(
            f"{row['day']}: {level}, the highest before {had}: {more}, x {row['left']} / {row['days']} days left"
        )
    decimals = business.catalogue.minor_units
    now = f"{Decimal(_half_up(total, decimals)).scaleb(-decimals):f}"
    if now != shown["amount"]:
        return [
            *steps,
            f"{shown['description']}: {shown['amount']} when this was issued; what is known has changed since",
        ]
    together = "together, " if found.height > 1 else ""
    return [*steps, f"{together}rounded half-up = {shown['amount']}"]


def _half_up(amount: Fraction, decimals: int) -> int:
    return int((amount * 10**decimals * 2 + 1) // 2)


def _plain(amount: Fraction) -> str:
    return plain_number(Decimal(amount.numerator) / Decimal(amount.denominator))


def _events_before(
    business: Business, document: Line, known: AccountEvents, line: Line, metric: Metric
) -> pl.DataFrame:
    """The events of the cycle that ends on a billing date, its first instant included; else of the month before."""
    dated = own_cycles(business, document, f"{line['due_on']:%Y-%m}").cycles
    dated = dated.with_columns(shown_subscription_id()).filter(
        (pl.col("subscription_id") == document["subscription_id"]) & (pl.col("billing_date") == line["due_on"])
    )
    before = next(iter(dated["cycle_start"].drop_nulls()), line["due_on"] - timedelta(days=31))
    zone = business.catalogue.time_zone
    since, until = (pl.select(midnight(pl.lit(day, pl.Date), zone)).item() for day in (before, line["due_on"]))
    events = (
        known.of(metric, (before, line["due_on"]), business.as_of)
        .filter((pl.col("account_id") == document["account_id"]) & pl.col("time").is_between(since, until))
        .collect()
        .sort("time", "source", "id")
    )
    return events.with_columns(quantity=in_units(pl.col("value").to_physical(), unit_billionths(metric)))
