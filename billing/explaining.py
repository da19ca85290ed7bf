"""From a line of an issued document back to its arithmetic, to usage by day, to files and events.

A line is explained by what counted when it was issued: deliveries and requests up to the day of issue.
"""

import json
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import polars as pl

from billing.business import Business
from billing.catalogue import Metric
from billing.cycles import month_cycles
from billing.errors import RefusedError
from billing.home import read_frame
from billing.ingest import scan_events
from billing.plain_values import plain_number, plain_rows
from billing.rating import in_units, unit_billionths
from billing.tables import BASE_QUANTITY, LEVELS, QUANTITY
from billing.usage import level_before, level_path


def explain_document(
    business: Business, number: str, line: int | None = None, most_events: int = 1_000
) -> list[dict[str, Any]]:
    """Every line of a document (or one), explained.

    Returns
    -------
    list of dict
        number, line, kind, metric, package, cycle_start, cycle_end, quantity, amount, description, arithmetic (texts),
        days (day, quantity, events), events (source, id, file, row, delivery_day, time, quantity; at most
        `most_events`) and events_total; quantities in the metric's unit.

    Raises
    ------
    RefusedError
        When no such document or line has been issued.
    """
    documents = business.register.documents().filter(pl.col("number") == number)
    if documents.is_empty():
        raise RefusedError(f"unknown number: found {number!r}, expected the number of an issued document")
    document = documents.row(0, named=True)
    lines = business.register.lines([document["billing_month"]]).filter(pl.col("number") == number)
    if line is not None and line not in lines["line"]:
        raise RefusedError(f"unknown line: {number} has the lines 1 to {lines.height}, found {line}")
    content = json.loads(next(iter(business.register.contents([number])))[1])
    shown = {entry["line"]: entry for entry in content["lines"]}
    # what counted then: nothing that was delivered or asked for after the day of issue
    then = replace(business, as_of=document["issued_on"], issues=False, _by_count={})
    return [
        _explained(then, document, row, shown[row["line"]], most_events)
        for row in lines.iter_rows(named=True)
        if line is None or row["line"] == line
    ]


def _explained(
    business: Business, document: dict[str, Any], line: dict[str, Any], shown: dict[str, Any], most_events: int
) -> dict[str, Any]:
    decimals = business.catalogue.minor_units
    columns = ("number", "line", "kind", "metric", "package", "cycle_start", "cycle_end", "quantity", "amount")
    row = plain_rows(pl.DataFrame([line], schema_overrides={"quantity": QUANTITY}).select(columns), decimals)[0]
    row["amount"] = shown["amount"]
    explained = row | {"description": line["description"], "arithmetic": _arithmetic(shown)}
    nothing: dict[str, Any] = {"days": [], "events": [], "events_total": 0}
    if line["due_kind"] != "overage":
        return explained | nothing
    metric = business.catalogue.metric(line["metric"])
    events = _events(business, document, line, metric)
    day = pl.col("time").dt.convert_time_zone(business.catalogue.time_zone).dt.date()
    days = events.group_by(day=day).agg(quantity=pl.col("quantity").sum(), events=pl.len().cast(pl.Int64)).sort("day")
    listed = events.head(most_events).select("source", "id", "file", "row", "delivery_day", "time", "quantity")
    explained["arithmetic"] = [*_measured(business, document, line, metric, events), *explained["arithmetic"]]
    return explained | {
        "days": plain_rows(days, decimals),
        "events": plain_rows(listed, decimals),
        "events_total": events.height,
    }


def _events(business: Business, document: dict[str, Any], line: dict[str, Any], metric: Metric) -> pl.DataFrame:
    """The events of the line's cycle in their order, each with what it adds (or, of a gauge, changes) in units."""
    spans = _spans(business, document, line)
    months = sorted({line["cycle_start"].strftime("%Y-%m"), line["cycle_end"].strftime("%Y-%m")})
    events = (
        scan_events(business.home, months, business.as_of)
        .filter((pl.col("account_id") == document["account_id"]) & (pl.col("metric") == metric.name))
        .join(spans.lazy().select("account_id", "span_start", "span_end"), on="account_id")
        .filter((pl.col("time") >= pl.col("span_start")) & (pl.col("time") < pl.col("span_end")))
        .collect(engine="streaming")
        .sort("time", "source", "id")
    )
    counted = pl.lit(1).cast(BASE_QUANTITY) if metric.measure in ("count", "unique") else pl.col("value")
    return events.with_columns(quantity=in_units(counted.to_physical(), pl.lit(unit_billionths(metric), pl.Int128)))


def _spans(business: Business, document: dict[str, Any], line: dict[str, Any]) -> pl.DataFrame:
    month = line["due_on"].strftime("%Y-%m")
    spans = month_cycles(month, business.lives.subscriptions, business.suspensions, business.catalogue).spans
    return spans.filter(
        (pl.col("subscription_id") == document["subscription_id"]) & (pl.col("cycle_start") == line["cycle_start"])
    )


def _measured(
    business: Business, document: dict[str, Any], line: dict[str, Any], metric: Metric, events: pl.DataFrame
) -> list[str]:
    """How the quantity came from the events."""
    quantity = "" if line["quantity"] is None else _with_unit(plain_number(line["quantity"]), metric.unit)
    if metric.kind == "counter":
        words = {"sum": "add up to", "count": "count", "unique": "hold", "max": "reach"}
        noun = " different values" if metric.measure == "unique" else ""
        steps = [f"{events.height} events {words[metric.measure]} {quantity}{noun}"]
        total: Decimal = events.select(pl.col("quantity").sum()).item()
        if metric.measure in ("sum", "count") and total != line["quantity"]:
            now = _with_unit(plain_number(total), metric.unit)
            steps.append(f"a delivery was replaced after this was issued: the events known now add up to {now}")
        return steps
    carried = _carried_in(business, document, line, metric)
    words = {"peak": "highest level", "last": "level at the end", "time_weighted": "level averaged over the cycle"}
    return [f"{carried} carried in, {events.height} changes", f"{words[metric.measure]}: {quantity}"]


def _carried_in(business: Business, document: dict[str, Any], line: dict[str, Any], metric: Metric) -> str:
    month = line["due_on"].strftime("%Y-%m")
    levels = read_frame(business.home.partition(LEVELS, month), LEVELS)
    of_account = (pl.col("account_id") == document["account_id"]) & (pl.col("metric") == metric.name)
    months = sorted({line["cycle_start"].strftime("%Y-%m"), month})
    events = scan_events(business.home, months, business.as_of).filter(of_account).collect()
    path = level_path(events, levels, [metric])
    start = _spans(business, document, line).sort("span_start").head(1).with_columns(metric=pl.lit(metric.name))
    if start.is_empty():
        return "0"
    level = level_before(start.select("account_id", "metric", "span_start"), path, levels, "span_start")
    units = level.select(in_units(pl.col("level").to_physical(), pl.lit(unit_billionths(metric), pl.Int128))).item()
    return plain_number(units)


def _arithmetic(shown: dict[str, Any]) -> list[str]:
    """The line's price, step by step, from what was stored when it was issued."""
    tariff = shown["tariff"]
    if tariff is None:
        return [shown["description"] + f" = {shown['amount']}"]
    unit = shown["unit"]
    used, allowance, excess = (_with_unit(shown[key], unit) for key in ("quantity", "allowance", "excess"))
    steps = [f"{used} - {allowance} = {excess} over the allowance"]
    over = Decimal(shown["excess"])
    tiers = tariff["tiers"]
    with localcontext(prec=60):
        if tariff["model"] == "block":
            steps.append(f"{shown['billed_units']} started blocks of {_with_unit(tariff['size'], unit)}")
            steps.append(f"{shown['billed_units']} x {tiers[0]['unit_price']} = {shown['amount']}")
            return steps
        lower = Decimal(0)
        total = Decimal(0)
        for tier in tiers:
            upper = None if tier["up_to"] is None else Decimal(tier["up_to"])
            reached = over > lower and (tariff["model"] == "graduated" or upper is None or over <= upper)
            if reached:
                part = over if tariff["model"] != "graduated" else (over if upper is None else min(over, upper)) - lower
                price, flat = Decimal(tier["unit_price"] or 0), Decimal(tier["flat"] or 0)
                total += part * price + flat
                steps.append(_tier_step(part, price, flat, unit))
            lower = upper if upper is not None else lower
        rounded = total.quantize(Decimal(shown["amount"]), rounding=ROUND_HALF_UP)
    limited = "" if rounded == Decimal(shown["amount"]) else ", limited by the tariff's minimum or maximum"
    return [*steps, f"{plain_number(total)}, rounded half-up = {shown['amount']}{limited}"]


def _tier_step(part: Decimal, price: Decimal, flat: Decimal, unit: str | None) -> str:
    priced = f"{_with_unit(plain_number(part), unit)} x {plain_number(price)}" if price else ""
    flat_text = f"flat {plain_number(flat)}" if flat else ""
    return " + ".join(text for text in (priced, flat_text) if text) + f" = {plain_number(part * price + flat)}"


def _with_unit(number: str | None, unit: str | None) -> str:
    if number is None:
        return "unlimited"
    return f"{number} {unit}" if unit else number
