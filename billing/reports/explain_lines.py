"""Explain one line: its events, how they were measured, and the arithmetic."""

import json
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any, Final

import polars as pl

from billing.ingest import scan_account_events
from billing.model.catalogue import Catalogue, DimensionRule, Metric, rule_words
from billing.model.codes import LineKind
from billing.model.columns import BASE_QUANTITY, INSTANT, QUANTITY
from billing.model.plain_rows import plain_number, plain_rows
from billing.model.quantities import in_units, unit_billionths
from billing.model.tables import LEVELS
from billing.model.text import counted
from billing.month.business import Business
from billing.month.lost_deliveries import missing_usage
from billing.reports.settlement_words import why_settled
from billing.rules.cycles import MonthCycles, month_cycles
from billing.rules.dimensions import IN_FORCE, rated_by, rules_of
from billing.rules.gauges import gauges_of, level_before, level_path
from billing.rules.measurement import account_key
from billing.rules.terms import with_terms
from billing.rules.usage import UsageInputs, month_usage
from billing.store.monthly import read_month

_REMOVED: Final = "the catalogue has no such metric any more: its events are not known now"
_REMOVED_RULE: Final = "the catalogue has no such rule any more: its events are not known now"
# No month has so few days.
_CYCLES_OF_A_YEAR: Final = "12"
_WITHOUT_ALLOWANCE: Final = {LineKind.CHARGE, LineKind.PRORATION, LineKind.ADD_ON}
_NOT_REPEATED: Final = pl.LazyFrame(
    schema={
        "account_id": pl.String,
        "metric": pl.String,
        "time": INSTANT,
        "repeats": pl.Int64,
        "dimensions": pl.List(pl.String),
    }
)


class AccountEvents:
    """Events of the document's account, cached by calendar month: the scan dominates the cost."""

    def __init__(self, business: Business, document: dict[str, Any]) -> None:
        self._home = business.home
        self._account = document["account_id"]
        self._as_of = max(business.as_of, document["issued_on"])
        self._months: dict[str, pl.DataFrame] = {}

    def of(self, metric: Metric, days: Iterable[date], as_of: date) -> pl.LazyFrame:
        """EVENTS of a metric in the calendar months of some days, delivered up to a day."""
        months = sorted({f"{day:%Y-%m}" for day in days})
        for month in months:
            if month not in self._months:
                found = scan_account_events(self._home, [month], self._account, self._as_of)
                self._months[month] = found.collect(engine="streaming")
        is_known = (pl.col("metric") == metric.name) & (pl.col("delivery_day") <= as_of)
        return pl.concat([self._months[month] for month in months]).lazy().filter(is_known)


def metric_named(business: Business, name: str) -> Metric | None:
    """A metric of the catalogue, or None where it was removed since."""
    return next((metric for metric in business.catalogue.metrics if metric.name == name), None)


def explained_line(
    business: Business,
    document: dict[str, Any],
    known: AccountEvents,
    line: dict[str, Any],
    shown: dict[str, Any],
    most_events: int,
) -> dict[str, Any]:
    decimals = business.catalogue.minor_units
    columns = ("number", "line", "kind", "metric", "rule", "package", "cycle_start", "cycle_end", "quantity", "amount")
    row = plain_rows(pl.DataFrame([line], schema_overrides={"quantity": QUANTITY}).select(columns), decimals)[0]
    row["amount"] = shown["amount"]
    never_billed = shown.get("settles") is not None and not shown["settles"]["documents"]
    billed_then = _measured_then(business, document, line) if never_billed else []
    explained = row | {"description": line["description"], "arithmetic": _arithmetic(shown, billed_then)}
    nothing: dict[str, Any] = {"days": [], "events": [], "events_total": 0}
    if line["kind"] == LineKind.REFUND:
        explained["arithmetic"] = [*_paid_back(business, document, line), f"paid back: {shown['amount']}"]
    if line["due_kind"] != LineKind.OVERAGE:
        return explained | nothing
    metric = metric_named(business, line["metric"])
    if metric is None:
        explained["arithmetic"] = [_REMOVED, *explained["arithmetic"]]
        return explained | nothing
    if line["rule"] is not None and rule_named(business, document, line, metric) is None:
        explained["arithmetic"] = [_REMOVED_RULE, *explained["arithmetic"]]
        return explained | nothing
    events = events_of(business, document, known, line, metric)
    measured = _measured(business, document, known, line, metric, events)
    explained["arithmetic"] = [*measured, *explained["arithmetic"]]
    return explained | listed_files(business, events, most_events)


def _paid_back(business: Business, document: dict[str, Any], line: dict[str, Any]) -> list[str]:
    """The refunded fee, as billed and corrected."""
    billed = business.register.lines_of_accounts([document["account_id"]], line["due_on"], line["due_on"])
    fee = billed.filter(
        (pl.col("subscription_id") == document["subscription_id"]) & (pl.col("due_kind") == LineKind.PACKAGE_FEE)
    )
    decimals = business.catalogue.minor_units
    return [
        f"billed before: {amount:.{decimals}f} on {number} line {place}: {description}"
        for amount, number, place, description in fee.select("amount", "number", "line", "description").iter_rows()
    ]


def _measured_then(business: Business, document: dict[str, Any], line: dict[str, Any]) -> list[str]:
    """The quantity on the page of the cycle's document, if it billed nothing for it."""
    scheduled = business.register.documents([f"{line['due_on']:%Y-%m}"]).filter(
        (pl.col("subscription_id") == document["subscription_id"])
        & (pl.col("billing_date") == line["due_on"])
        & pl.col("corrects").is_null()
    )
    for number, content in business.register.contents(scheduled["number"].to_list()):
        for row in json.loads(content)["usage"]:
            if (row["metric"], row.get("rule")) == (line["metric"], line["rule"]):
                used, allowance = with_unit(row["quantity"], row["unit"]), with_unit(row["allowance"], row["unit"])
                included = allowance if row["allowance"] is None else f"{allowance} included"
                return [f"billed before: nothing on {number}: {used} used, {included}"]
    return ["billed before: nothing"]


def listed_files(business: Business, events: pl.DataFrame, most_events: int) -> dict[str, Any]:
    """days, events, events_total of some events."""
    decimals = business.catalogue.minor_units
    day = pl.col("time").dt.convert_time_zone(business.catalogue.time_zone).dt.date()
    days = events.group_by(day=day).agg(quantity=pl.col("quantity").sum(), events=pl.len().cast(pl.Int64)).sort("day")
    listed = events.head(most_events).select("source", "id", "file", "row", "delivery_day", "time", "quantity")
    return {
        "days": plain_rows(days, decimals),
        "events": plain_rows(listed, decimals),
        "events_total": events.height,
    }


def events_of(
    business: Business, document: dict[str, Any], known: AccountEvents, line: dict[str, Any], metric: Metric
) -> pl.DataFrame:
    """The events of the line's cycle in their order, each with what it adds (or, of a gauge, changes) in units.

    Of a tariff by dimension those that the line's rule rates.
    """
    spans = spans_of(business, document, line)
    events = (
        known.of(metric, (line["cycle_start"], line["cycle_end"]), business.as_of)
        .join(spans.lazy().select("account_id", "span_start", "span_end"), on="account_id")
        .filter((pl.col("time") >= pl.col("span_start")) & (pl.col("time") < pl.col("span_end")))
        .filter(rated_by(metric, _rules_in_force(business, document, line, metric), line["rule"]))
        .collect()
        .sort("time", "source", "id")
    )
    value = pl.lit(1).cast(BASE_QUANTITY) if metric.measure in ("count", "unique") else pl.col("value")
    return events.with_columns(quantity=in_units(value.to_physical(), unit_billionths(metric)))


def _terms_in_force(business: Business, document: dict[str, Any], line: dict[str, Any]) -> pl.DataFrame:
    """The terms that rate the line's cycle: IN_FORCE."""
    of_line = {name: line[name] for name in ("package", "cycle_start")}
    own = {name: document[name] for name in ("account_id", "subscription_id")}
    frame = pl.DataFrame([own | of_line], schema_overrides={"cycle_start": pl.Date, "package": pl.String})
    return with_terms(frame, business.terms, on="cycle_start", or_first=True).select(list(IN_FORCE))


def _rules_in_force(
    business: Business, document: dict[str, Any], line: dict[str, Any], metric: Metric
) -> Sequence[DimensionRule]:
    if business.rule_book is None or not metric.by:
        return ()
    ((_, *terms),) = _terms_in_force(business, document, line).iter_rows()
    periods = (each for each in business.rule_book.periods if [each.account_id, each.package, each.since] == terms)
    return next((rules_of(period, metric) for period in periods), ())


def rule_named(
    business: Business, document: dict[str, Any], line: dict[str, Any], metric: Metric
) -> DimensionRule | None:
    """The rule of a line, or None where the terms of its cycle have it no more."""
    rules = _rules_in_force(business, document, line, metric)
    return next((rule for rule in rules if rule.name == line["rule"]), None)


def title_of(metric: Metric, rule: str | None, catalogue: Catalogue) -> str:
    """The title of a metric, with the words of a rule of its tariff by dimension."""
    return metric.title if rule is None else f"{metric.title} ({rule_words(catalogue).get((metric.name, rule), rule)})"


def own_cycles(business: Business, document: dict[str, Any], month: str) -> MonthCycles:
    own = business.lives.subscriptions.filter(pl.col("account_id") == document["account_id"])
    return month_cycles(month, own, business.suspensions, business.catalogue)


def spans_of(business: Business, document: dict[str, Any], line: dict[str, Any]) -> pl.DataFrame:
    spans = own_cycles(business, document, line["due_on"].strftime("%Y-%m")).spans
    return spans.filter(
        (pl.col("subscription_id") == document["subscription_id"]) & (pl.col("cycle_start") == line["cycle_start"])
    )


def _measured(
    business: Business,
    document: dict[str, Any],
    known: AccountEvents,
    line: dict[str, Any],
    metric: Metric,
    events: pl.DataFrame,
) -> list[str]:
    """How the quantity was measured from the events."""
    if line["quantity"] is None:
        # Credits of earlier versions have no quantity, nor has a cycle that no longer exists.
        are_known = "is known now" if events.height == 1 else "are known now"
        return [f"{counted(events.height, 'event')} of the cycle {are_known}"]
    then, now = (
        with_unit(plain_number(each), metric.unit)
        for each in (line["quantity"], _quantity_now(business, document, known, line, metric))
    )
    # Changes since then, in deliveries up to the day of issue.
    moved = None if now == then else _what_moved(business, document, line, metric)
    if metric.kind == "counter":
        one, several = {
            "sum": ("adds up to", "add up to"),
            "count": ("counts", "count"),
            "unique": ("holds", "hold"),
            "max": ("reaches", "reach"),
        }[metric.measure]
        noun = " different values" if metric.measure == "unique" else ""
        found = f"{counted(events.height, 'event')} {one if events.height == 1 else several}"
        if moved is None:
            return [f"{found} {now}{noun}"]
        return [f"measured when this was issued: {then}{noun}", f"{moved}{found} {now}{noun}"]
    carried = f"{_carried_in(business, document, known, line, metric)} carried in, {counted(events.height, 'change')}"
    words = {"peak": "highest level", "last": "level at the end", "time_weighted": "level averaged over the cycle"}[
        metric.measure
    ]
    if moved is None:
        return [carried, f"{words}: {now}"]
    return [f"{words} when this was issued: {then}", f"{moved}{carried}, {words} {now}"]


def _what_moved(business: Business, document: dict[str, Any], line: dict[str, Any], metric: Metric) -> str:
    """Why the events known now give another quantity than the document."""
    missing = missing_usage(business, line["cycle_start"], line["due_on"])
    if missing:
        return f"{missing}; of what is left "
    others = "requests, payments, or the rules of its tariff," if metric.by else "requests, or payments,"
    return f"deliveries up to {document['issued_on']}, {others} have changed since: "


def _quantity_now(
    business: Business, document: dict[str, Any], known: AccountEvents, line: dict[str, Any], metric: Metric
) -> Decimal:
    """The quantity of the line's cycle as measured now, in units; 0 if the cycle no longer exists."""
    month = line["due_on"].strftime("%Y-%m")
    cycles = own_cycles(business, document, month)
    inputs = UsageInputs(
        month=month,
        spans=cycles.spans,
        cycles=cycles.cycles,
        levels=read_month(business.home, LEVELS, month),
        events=[known.of(metric, (line["cycle_start"], line["due_on"]), business.as_of)],
        repeated=_NOT_REPEATED,
        accounts=cycles.spans["account_id"],
        catalogue=business.catalogue,
        book=business.rule_book,
        in_force=_terms_in_force(business, document, line),
    )
    usage = month_usage(inputs)
    found = usage.filter(
        (pl.col("subscription_id") == document["subscription_id"])
        & (pl.col("cycle_start") == line["cycle_start"])
        & (pl.col("metric") == metric.name)
        & pl.col("rule").eq_missing(pl.lit(line["rule"], pl.String))
    )
    return next(iter(found["quantity"]), Decimal(0))


def _carried_in(
    business: Business, document: dict[str, Any], known: AccountEvents, line: dict[str, Any], metric: Metric
) -> str:
    month = line["due_on"].strftime("%Y-%m")
    levels = read_month(business.home, LEVELS, month)
    events = known.of(metric, (line["cycle_start"], line["due_on"]), business.as_of)
    start = spans_of(business, document, line).sort("span_start").head(1)
    if start.is_empty():
        return "0"
    gauge = gauges_of(start["account_id"], levels, [metric])
    path = level_path(events, gauge, [metric], account_key(gauge["account_id"]))
    level = level_before(start.select("account_id", "span_start").join(gauge, on="account_id"), path, "span_start")
    units = level.select(in_units(pl.col("level").to_physical(), unit_billionths(metric))).item()
    return plain_number(units)


def _arithmetic(shown: dict[str, Any], billed_then: list[str]) -> list[str]:
    """The line's price, step by step, from what was stored when it was issued.

    `billed_then` is the amount billed before, if no line has it.
    """
    # Documents of earlier versions have no details of settlements.
    settles = shown.get("settles")
    if settles is not None:
        return [*_due_now(shown, settles), *billed_then, *_billed_before(shown, settles)]
    if shown["tariff"] is None:
        product = _of_add_ons(shown) if shown["kind"] == LineKind.ADD_ON else _over(shown)
        return [*product, *(_part(shown, shown["amount"]) or [f"{shown['description']} = {shown['amount']}"])]
    bounds = shown.get("bounds") or {}
    return [*_over(shown), *_priced(shown, shown["amount"], bounds.get("minimum"), bounds.get("maximum"))]


def _of_add_ons(shown: dict[str, Any]) -> list[str]:
    """The fee of all that are held of an add-on."""
    whole = plain_number(Decimal(shown["quantity"]) * Decimal(shown["unit_price"]))
    return [f"{shown['quantity']} x {shown['unit_price']} = {whole}"]


def _part(shown: dict[str, Any], amount: str) -> list[str]:
    """The proration of a fee: by days of a month (rule 1), or by cycles of a year (rule 18)."""
    part = shown.get("part")
    if part is None:
        return []
    share = f"{part['part']} / {part['parts']}"
    if "minimum_spend" in (shown["kind"], shown.get("due_kind")):
        minimum = f"{Decimal(amount) + Decimal(part['replaced']):f}"
        cut = [f"{part['fee']} x {share} days, rounded half-up = {minimum}"] if part["part"] != part["parts"] else []
        return [*cut, f"{minimum} to come to - {part['replaced']} due for the cycle = {amount}"]
    if part["replaced"] is None:
        unit = "cycles" if part["parts"] == _CYCLES_OF_A_YEAR else "days"
        fee, product = Decimal(part["fee"]), f"{part['fee']} x {share} {unit}"
    else:
        unit = "days" if LineKind.PRORATION in (shown["kind"], shown.get("due_kind")) else "cycles"
        fee = Decimal(part["fee"]) - Decimal(part["replaced"])
        product = f"({part['fee']} - {part['replaced']}) x {share} {unit}"
    is_exact = fee * int(part["part"]) == Decimal(amount) * int(part["parts"])
    return [f"{product} = {amount}" if is_exact else f"{product}, rounded half-up = {amount}"]


def _over(shown: dict[str, Any]) -> list[str]:
    """The excess over the allowance."""
    if shown["quantity"] is None or not _WITHOUT_ALLOWANCE.isdisjoint((shown["kind"], shown.get("due_kind"))):
        return []
    unit, package = shown["unit"], shown["package"]
    used, allowance, excess = (with_unit(shown[key], unit) for key in ("quantity", "allowance", "excess"))
    if shown["allowance"] is None:
        return [f"{used} used, unlimited in {package}"]
    if Decimal(shown["quantity"]) <= Decimal(shown["allowance"]):
        return [f"{used} used of {allowance} included in {package}: not over the allowance"]
    return [f"{used} - {allowance} = {excess} over the allowance"]


def _priced(shown: dict[str, Any], amount: str, minimum: str | None = None, maximum: str | None = None) -> list[str]:
    """The amount of the excess, by the tariff."""
    with localcontext(prec=60):
        model = shown["tariff"]["model"]
        *steps, (product, total) = _STEPS.get(model, _tiers)(shown)
        rounded = total.quantize(Decimal(amount), rounding=ROUND_HALF_UP)
    found = f"{product} = {plain_number(total)}" if product else plain_number(total)
    if minimum is not None and total < Decimal(minimum):
        last = f"{found}, but at least {minimum} = {amount}"
    elif maximum is not None and total > Decimal(maximum):
        last = f"{found}, but at most {maximum} = {amount}"
    elif rounded != Decimal(amount):
        # Lines of earlier versions have neither.
        limit = "raised to the tariff's minimum" if rounded < Decimal(amount) else "lowered to the tariff's maximum"
        last = f"{found}, {limit} = {amount}"
    else:
        exact = f"{product} = {amount}" if product else f"together {amount}"
        last = exact if total == rounded else f"{found}, rounded half-up = {amount}"
    return [*(str(step) for step in steps), last]


def _blocks(shown: dict[str, Any]) -> list[Any]:
    """Steps, and last the product in words and its value."""
    blocks, price = shown["billed_units"], shown["tariff"]["tiers"][0]["unit_price"]
    started = f"{counted(blocks, 'started block')} of {with_unit(shown['tariff']['size'], shown['unit'])}"
    return [started, (f"{blocks} x {price}", Decimal(blocks) * Decimal(price))]


def _tiers(shown: dict[str, Any]) -> list[Any]:
    """Steps, and last no words and the sum of what the tiers cost."""
    tariff, over = shown["tariff"], Decimal(shown["excess"])
    steps: list[Any] = []
    lower = total = Decimal(0)
    for tier in tariff["tiers"]:
        upper = None if tier["up_to"] is None else Decimal(tier["up_to"])
        if over > lower and (tariff["model"] == "graduated" or upper is None or over <= upper):
            part = over
            if tariff["model"] == "graduated":
                part = (over if upper is None else min(over, upper)) - lower
            price, flat = Decimal(tier["unit_price"] or 0), Decimal(tier["flat"] or 0)
            total += part * price + flat
            steps.append(_tier_step(part, price, flat, shown["unit"]))
        lower = upper if upper is not None else lower
    return [*steps, ("", total)]


def _percentage(shown: dict[str, Any]) -> list[Any]:
    """As `_tiers`: the percentage of the excess, and what events beyond those that are free cost."""
    tariff, over = shown["tariff"], Decimal(shown["excess"])
    total = over * Decimal(tariff["percent"]) / 100
    amount = f"{tariff['percent']} % of {with_unit(plain_number(over), shown['unit'])} = {plain_number(total)}"
    steps: list[Any] = [amount] if over else []
    # Documents that settle a cycle that there is no more know no events.
    if tariff["per_event"] is not None and tariff["events"] is not None:
        free, events, price = int(tariff["free_events"]), int(tariff["events"]), Decimal(tariff["per_event"])
        charged = max(events - free, 0)
        of_them = f"{counted(events, 'event')} - {free} free = {charged}: " if free else ""
        steps.append(f"{of_them}{counted(charged, 'event')} x {tariff['per_event']} = {plain_number(charged * price)}")
        total += charged * price
    return [*steps, ("", total)]


_STEPS: Final = {"block": _blocks, "percentage": _percentage}


def _due_now(shown: dict[str, Any], settles: dict[str, Any]) -> list[str]:
    """What was due for the earlier cycle when the line was issued."""
    due = settles["due"]
    if settles["fee"] is not None:
        fee = settles["fee"]
        # Version 1 stored the words alone.
        return [*_part(shown, due), f"due now: {fee if isinstance(fee, str) else fee['description']} = {due}"]
    steps = _over(shown)
    is_percentage = shown["tariff"] is not None and shown["tariff"]["model"] == "percentage"
    if shown["excess"] is None or not (Decimal(shown["excess"]) or is_percentage):
        return [*steps, f"due now: {due}"]
    if shown["tariff"] is None:
        return [*steps, f"due now: {due}, what is over costs nothing in {shown['package']}"]
    priced = _priced(shown, due, settles["minimum"], settles["maximum"])
    return [*steps, *priced[:-1], f"due now: {priced[-1]}"]


def _billed_before(shown: dict[str, Any], settles: dict[str, Any]) -> list[str]:
    """The lines that billed the cycle before, and the remaining difference."""
    steps = [
        _billed_by(document_line, shown["unit"], is_overage=shown["metric"] is not None)
        for document_line in settles["documents"]
    ]
    words = why_settled(settles["why"], shown["metric"])
    return [
        *steps,
        f"{settles['due']} due now - {settles['billed']} billed before = {shown['amount']}",
        *words,
    ]


def _billed_by(line: dict[str, Any], unit: str | None, *, is_overage: bool) -> str:
    what = f"{line['amount']} on {line['number']} line {line['line']}"
    if not is_overage:
        return f"billed before: {what}: {line['description']}"
    if line["quantity"] is None:
        return f"billed before: {what}"
    used, allowance = with_unit(line["quantity"], unit), with_unit(line["allowance"], unit)
    included = "unlimited" if line["allowance"] is None else f"{allowance} included"
    return f"billed before: {what}: {used} used, {included}"


def _tier_step(part: Decimal, price: Decimal, flat: Decimal, unit: str | None) -> str:
    priced = f"{with_unit(plain_number(part), unit)} x {plain_number(price)}" if price else ""
    flat_text = f"flat {plain_number(flat)}" if flat else ""
    return " + ".join(text for text in (priced, flat_text) if text) + f" = {plain_number(part * price + flat)}"


def with_unit(number: str | None, unit: str | None) -> str:
    if number is None:
        return "unlimited"
    return f"{number} {unit}" if unit else number
