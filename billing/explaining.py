"""From a line of an issued document back to its arithmetic, to usage by day, to files and events.

A line is explained by what counted when it was issued: deliveries and requests up to the day of issue.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any, Final

import polars as pl

from billing.business import Business
from billing.calendar import months_between
from billing.catalogue import Metric
from billing.cycles import MonthCycles, month_cycles
from billing.errors import RefusedError
from billing.home import read_frame, scan_frames
from billing.ingest import scan_events
from billing.measured_deliveries import missing_usage
from billing.plain_values import plain_number, plain_rows
from billing.rating import in_units, unit_billionths
from billing.tables import BASE_QUANTITY, CHARGES, DUES, INSTANT, LEVELS, PARKED, QUANTITY, REJECTS, UNBILLED
from billing.usage import account_key, gauges_of, level_before, level_path, month_usage
from billing.words import counted

_REMOVED: Final = "the catalogue has no such metric any more: its events are not known now"
_NOT_REPEATED: Final = pl.LazyFrame(
    schema={"account_id": pl.String, "metric": pl.String, "time": INSTANT, "repeats": pl.Int64}
)


def explain_document(
    business: Business, number: str, line: int | None = None, most_events: int = 1_000, everything: bool = False
) -> list[dict[str, Any]]:
    """Every line of a document (or one), explained.

    Parameters
    ----------
    everything
        Also what stands on no line (`line` is None): metrics that cost nothing (kind `not_charged`), what was delivered
        or settled of the cycle after the document (`late`), usage that bills nothing (`unbilled`), and that was set
        aside (`set_aside`).

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
    document, lines, content = _issued(business, number)
    if line is not None and line not in lines["line"]:
        raise RefusedError(f"unknown line: {number} has the lines 1 to {lines.height}, found {line}")
    shown = {entry["line"]: entry for entry in content["lines"]}
    # what counted then: nothing that was delivered or asked for after the day of issue
    then = replace(business, as_of=document["issued_on"], issues=False, _by_count={})
    known = _AccountEvents(business, document)
    explained = [
        _explained(then, document, known, row, shown[row["line"]], most_events)
        for row in lines.iter_rows(named=True)
        if line is None or row["line"] == line
    ]
    return (
        [*explained, *_off_the_page(business, document, lines, content, known, most_events)]
        if everything
        else explained
    )


def is_more_than_lines(business: Business, number: str) -> bool:
    """Whether `explain_document` with `everything` adds to the lines of a document that has been issued."""
    document, lines, content = _issued(business, number)
    # a metric that costs nothing is there almost always, and is told without a look at the events
    used = {row["metric"] for row in content["usage"]} & {metric.name for metric in business.catalogue.metrics}
    charged = set(_charges(business, document)["metric"]) - set(lines.filter(pl.col("kind") == "overage")["metric"])
    if used & charged:
        return document["corrects"] is None
    known = _AccountEvents(business, document)
    return any(True for _ in _off_the_page(business, document, lines, content, known, 0))


def _issued(business: Business, number: str) -> tuple[dict[str, Any], pl.DataFrame, dict[str, Any]]:
    """The document of a number, its lines, and its stored content."""
    documents = business.register.documents(number=number)
    if documents.is_empty():
        raise RefusedError(f"unknown number: found {number!r}, expected the number of an issued document")
    content = json.loads(next(iter(business.register.contents([number])))[1])
    return documents.row(0, named=True), business.register.lines(numbers=[number]), content


class _AccountEvents:
    """The events of the document's account: a calendar month is read once, since finding them costs the most."""

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
                found = scan_events(self._home, [month], self._as_of).filter(pl.col("account_id") == self._account)
                self._months[month] = found.collect(engine="streaming")
        is_known = (pl.col("metric") == metric.name) & (pl.col("delivery_day") <= as_of)
        return pl.concat([self._months[month] for month in months]).lazy().filter(is_known)


def _off_the_page(
    business: Business,
    document: dict[str, Any],
    lines: pl.DataFrame,
    content: dict[str, Any],
    known: _AccountEvents,
    most_events: int,
) -> Iterator[dict[str, Any]]:
    """What the document does not charge, and why: of its fee, and of the cycle that ended on its billing date."""
    if document["corrects"] is None:
        yield from _fees_settled(business, document, lines)
    charges = _charges(business, document)
    if document["corrects"] is not None or charges.is_empty():
        return
    # what the page says was used: the charges are those of what is known now
    used = {row["metric"]: row for row in content["usage"]}
    billed = dict(lines.filter(pl.col("kind") == "overage").select("metric", "amount").iter_rows())
    for charge in charges.iter_rows(named=True):
        line = charge | {"due_on": charge["cycle_end"], "number": document["number"], "line": None}
        metric = _metric(business, charge["metric"])
        if metric is None:
            continue
        now = _events(business, document, known, line, metric)
        before = pl.col("delivery_day") <= document["issued_on"]
        if metric.name in used and metric.name not in billed:
            then = line | {name: _decimal(used[metric.name][name]) for name in ("quantity", "allowance")}
            entry = _entry(then, "not_charged", f"{metric.title}: nothing to pay", [_why_nothing(then, metric)])
            yield entry | _listed(business, now.filter(before), most_events)
        late = now.filter(~before)
        settled = _settled_by(business, document, metric.name)
        open_amount = charge["amount"] - billed.get(metric.name, 0) - settled["amount"].sum()
        if late.is_empty() and settled.is_empty() and not open_amount:
            continue
        what = "settled" if late.is_empty() else "delivered"
        steps = _where_it_went(business, settled, open_amount)
        entry = _entry(line, "late", f"{metric.title}: {what} after {document['number']} was issued", steps)
        yield entry | _listed(business, late, most_events)
    yield from _unbilled(business, document, charges)
    yield from _set_aside(business, document, charges, most_events)


def _charges(business: Business, document: dict[str, Any]) -> pl.DataFrame:
    """CHARGES of the cycle that ended on the document's billing date, by metric."""
    of_cycle = (pl.col("subscription_id") == document["subscription_id"]) & (
        pl.col("cycle_end") == document["billing_date"]
    )
    return business.scan_months(CHARGES, [document["billing_month"]]).filter(of_cycle).sort("metric").collect()


def _fees_settled(business: Business, document: dict[str, Any], lines: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """What became of the fees of the document's billing date after it was issued."""
    month = document["billing_month"]
    if not business.home.partition(DUES, month).exists():
        return
    of_date = (pl.col("subscription_id") == document["subscription_id"]) & (
        pl.col("billing_date") == document["billing_date"]
    )
    dues = business.scan_months(DUES, [month]).filter(of_date).collect()
    later = business.register.lines_due(document["subscription_id"], document["billing_date"]).filter(
        pl.col("kind").is_in(["prior_cycle", "adjustment", "refund"])
    )
    is_parked = document["account_id"] in read_frame(business.home.partition(PARKED, month), PARKED)["account_id"]
    for kind, title in (("package_fee", "Package fee"), ("hold_fee", "Hold fee")):
        paid_back = pl.col("kind") == "refund" if kind == "package_fee" else pl.lit(False)
        settled = later.filter((pl.col("due_kind") == kind) | paid_back)
        billed, due = lines.filter(pl.col("kind") == kind), dues.filter(pl.col("kind") == kind)
        # the fee of a refunded cycle stays as it was paid back (rule 20), and a parked account is left alone
        is_left = is_parked or not settled.filter(pl.col("kind") == "refund").is_empty()
        due_now, billed_then, settled_since = (sum(each["amount"], Decimal(0)) for each in (due, billed, settled))
        open_amount = Decimal(0) if is_left else due_now - billed_then - settled_since
        if settled.is_empty() and not open_amount:
            continue
        columns = ["package", "cycle_start", "cycle_end"]
        of_fee = pl.concat([billed.select(columns), due.select(columns), settled.select(columns)]).row(0, named=True)
        steps = _where_it_went(business, settled, open_amount)
        what = f"{title}: {'due' if settled.is_empty() else 'settled'} after {document['number']} was issued"
        yield _entry(of_fee | {"number": document["number"]}, "late", what, steps)


def _metric(business: Business, name: str) -> Metric | None:
    """A metric of the catalogue, or None where it was removed since."""
    return next((metric for metric in business.catalogue.metrics if metric.name == name), None)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _entry(line: dict[str, Any], kind: str, description: str, steps: list[str]) -> dict[str, Any]:
    quantity = line.get("quantity")
    return {
        "number": line["number"],
        "line": None,
        "kind": kind,
        "metric": line.get("metric"),
        "package": line.get("package"),
        "cycle_start": line["cycle_start"].isoformat(),
        "cycle_end": line["cycle_end"].isoformat(),
        "quantity": None if quantity is None else plain_number(quantity),
        "amount": None,
        "description": description,
        "arithmetic": steps,
        "days": [],
        "events": [],
        "events_total": 0,
    }


def _why_nothing(charge: dict[str, Any], metric: Metric) -> str:
    used = _with_unit(plain_number(charge["quantity"]), metric.unit)
    if charge["allowance"] is None:
        return f"{used} used, unlimited in {charge['package']}"
    allowance = _with_unit(plain_number(charge["allowance"]), metric.unit)
    if charge["quantity"] <= charge["allowance"]:
        return f"{used} used of {allowance} included in {charge['package']}: not over the allowance"
    excess = _with_unit(plain_number(charge["quantity"] - charge["allowance"]), metric.unit)
    return f"{used} - {allowance} = {excess} over the allowance, which costs nothing in {charge['package']}"


def _settled_by(business: Business, document: dict[str, Any], metric: str) -> pl.DataFrame:
    """The lines of later documents that settle the cycle."""
    lines = business.register.lines_due(document["subscription_id"], document["billing_date"])
    return lines.filter((pl.col("metric") == metric) & pl.col("kind").is_in(["prior_cycle", "adjustment"]))


def _where_it_went(business: Business, settled: pl.DataFrame, open_amount: Decimal) -> list[str]:
    """The lines that settle what was learnt later of a cycle, and what none does yet."""
    decimals = business.catalogue.minor_units
    steps = [
        f"{'paid back' if kind == 'refund' else 'settled'} by {number} line {line}: {amount:.{decimals}f}"
        for kind, number, line, amount in settled.select("kind", "number", "line", "amount").iter_rows()
    ]
    if open_amount:
        steps.append(f"settled by no document yet: {open_amount:.{decimals}f}, see `overage preview`")
    return steps or ["it changes no amount"]


def _unbilled(business: Business, document: dict[str, Any], charges: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Usage of the cycle's calendar months that bills nothing."""
    cycle = charges.row(0, named=True)
    months = months_between(f"{cycle['cycle_start']:%Y-%m}", f"{cycle['cycle_end']:%Y-%m}")
    found = business.scan_months(UNBILLED, months).filter(pl.col("account_id") == document["account_id"]).collect()
    line = {name: cycle[name] for name in ("cycle_start", "cycle_end")} | {"number": document["number"]}
    for row in found.sort("billing_month", "metric", "reason").iter_rows(named=True):
        metric = _metric(business, row["metric"])
        if metric is None:
            continue
        quantity = _with_unit(plain_number(row["quantity"]), metric.unit)
        step = f"{row['billing_month']}: {quantity} in {counted(row['events'], 'event')} bill nothing: {row['reason']}"
        yield _entry(
            line | {"metric": metric.name, "quantity": row["quantity"]},
            "unbilled",
            f"{metric.title}: not billed",
            [step],
        )


def _set_aside(
    business: Business, document: dict[str, Any], charges: pl.DataFrame, most_events: int
) -> Iterator[dict[str, Any]]:
    """Rows of the account that were set aside, of the deliveries from the cycle's start to the day of issue."""
    cycle = charges.row(0, named=True)
    days = pl.date_range(cycle["cycle_start"], document["issued_on"], eager=True)
    files = [path for day in days if (path := business.home.delivery(REJECTS, day)).exists()]
    found = scan_frames(files, REJECTS).filter(pl.col("account_id") == document["account_id"]).collect()
    line = {name: cycle[name] for name in ("cycle_start", "cycle_end")} | {"number": document["number"]}
    for (reason,), rows in found.sort("reason", *REJECTS.key).group_by("reason", maintain_order=True):
        listed = rows.head(most_events).select(
            "source", "id", "file", "row", "delivery_day", pl.lit(None, pl.String).alias("time"), "quantity"
        )
        yield _entry(line, "set_aside", f"Set aside: {reason}", [f"{counted(rows.height, 'row')}: {reason}"]) | {
            "events": plain_rows(listed, business.catalogue.minor_units),
            "events_total": rows.height,
        }


def _explained(
    business: Business,
    document: dict[str, Any],
    known: _AccountEvents,
    line: dict[str, Any],
    shown: dict[str, Any],
    most_events: int,
) -> dict[str, Any]:
    decimals = business.catalogue.minor_units
    columns = ("number", "line", "kind", "metric", "package", "cycle_start", "cycle_end", "quantity", "amount")
    row = plain_rows(pl.DataFrame([line], schema_overrides={"quantity": QUANTITY}).select(columns), decimals)[0]
    row["amount"] = shown["amount"]
    never_billed = shown.get("settles") is not None and not shown["settles"]["documents"]
    billed_then = _measured_then(business, document, line) if never_billed else []
    explained = row | {"description": line["description"], "arithmetic": _arithmetic(shown, billed_then)}
    nothing: dict[str, Any] = {"days": [], "events": [], "events_total": 0}
    if line["kind"] == "refund":
        explained["arithmetic"] = [*_paid_back(business, document, line), f"paid back: {shown['amount']}"]
    if line["due_kind"] != "overage":
        return explained | nothing
    metric = _metric(business, line["metric"])
    if metric is None:
        explained["arithmetic"] = [_REMOVED, *explained["arithmetic"]]
        return explained | nothing
    events = _events(business, document, known, line, metric)
    measured = _measured(business, document, known, line, metric, events)
    explained["arithmetic"] = [*measured, *explained["arithmetic"]]
    return explained | _listed(business, events, most_events)


def _paid_back(business: Business, document: dict[str, Any], line: dict[str, Any]) -> list[str]:
    """The fee that a refund pays back, as it was billed and corrected."""
    billed = business.register.lines_of_accounts([document["account_id"]], line["due_on"], line["due_on"])
    fee = billed.filter(
        (pl.col("subscription_id") == document["subscription_id"]) & (pl.col("due_kind") == "package_fee")
    )
    decimals = business.catalogue.minor_units
    return [
        f"billed before: {amount:.{decimals}f} on {number} line {place}: {description}"
        for amount, number, place, description in fee.select("amount", "number", "line", "description").iter_rows()
    ]


def _measured_then(business: Business, document: dict[str, Any], line: dict[str, Any]) -> list[str]:
    """What the document of the cycle says was used, where it billed nothing of it."""
    scheduled = business.register.documents([f"{line['due_on']:%Y-%m}"]).filter(
        (pl.col("subscription_id") == document["subscription_id"])
        & (pl.col("billing_date") == line["due_on"])
        & pl.col("corrects").is_null()
    )
    for number, content in business.register.contents(scheduled["number"].to_list()):
        for row in json.loads(content)["usage"]:
            if row["metric"] == line["metric"]:
                used, allowance = _with_unit(row["quantity"], row["unit"]), _with_unit(row["allowance"], row["unit"])
                included = allowance if row["allowance"] is None else f"{allowance} included"
                return [f"billed before: nothing on {number}: {used} used, {included}"]
    return ["billed before: nothing"]


def _listed(business: Business, events: pl.DataFrame, most_events: int) -> dict[str, Any]:
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


def _events(
    business: Business, document: dict[str, Any], known: _AccountEvents, line: dict[str, Any], metric: Metric
) -> pl.DataFrame:
    """The events of the line's cycle in their order, each with what it adds (or, of a gauge, changes) in units."""
    spans = _spans(business, document, line)
    events = (
        known.of(metric, (line["cycle_start"], line["cycle_end"]), business.as_of)
        .join(spans.lazy().select("account_id", "span_start", "span_end"), on="account_id")
        .filter((pl.col("time") >= pl.col("span_start")) & (pl.col("time") < pl.col("span_end")))
        .collect()
        .sort("time", "source", "id")
    )
    value = pl.lit(1).cast(BASE_QUANTITY) if metric.measure in ("count", "unique") else pl.col("value")
    return events.with_columns(quantity=in_units(value.to_physical(), unit_billionths(metric)))


def _own_cycles(business: Business, document: dict[str, Any], month: str) -> MonthCycles:
    own = business.lives.subscriptions.filter(pl.col("account_id") == document["account_id"])
    return month_cycles(month, own, business.suspensions, business.catalogue)


def _spans(business: Business, document: dict[str, Any], line: dict[str, Any]) -> pl.DataFrame:
    spans = _own_cycles(business, document, line["due_on"].strftime("%Y-%m")).spans
    return spans.filter(
        (pl.col("subscription_id") == document["subscription_id"]) & (pl.col("cycle_start") == line["cycle_start"])
    )


def _measured(
    business: Business,
    document: dict[str, Any],
    known: _AccountEvents,
    line: dict[str, Any],
    metric: Metric,
    events: pl.DataFrame,
) -> list[str]:
    """How the quantity came from the events."""
    if line["quantity"] is None:
        # credits of earlier versions do not say what was measured, and a cycle that is no more measured nothing
        are_known = "is known now" if events.height == 1 else "are known now"
        return [f"{counted(events.height, 'event')} of the cycle {are_known}"]
    then, now = (
        _with_unit(plain_number(each), metric.unit)
        for each in (line["quantity"], _quantity_now(business, document, known, line, metric))
    )
    # what came or went since, of deliveries up to the day of issue
    moved = None if now == then else _what_moved(business, document, line)
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


def _what_moved(business: Business, document: dict[str, Any], line: dict[str, Any]) -> str:
    """Why the events that are known now measure something else than the document says."""
    missing = missing_usage(business, line["cycle_start"], line["due_on"])
    if missing:
        return f"{missing}; of what is left "
    return f"deliveries up to {document['issued_on']}, or requests, have changed since: "


def _quantity_now(
    business: Business, document: dict[str, Any], known: _AccountEvents, line: dict[str, Any], metric: Metric
) -> Decimal:
    """What the deliveries and requests that are known now measure of the line's cycle, in units; 0 where it is none."""
    month = line["due_on"].strftime("%Y-%m")
    cycles = _own_cycles(business, document, month)
    usage = month_usage(
        month,
        cycles.spans,
        cycles.cycles,
        read_frame(business.home.partition(LEVELS, month), LEVELS),
        [known.of(metric, (line["cycle_start"], line["due_on"]), business.as_of)],
        _NOT_REPEATED,
        cycles.spans["account_id"],
        business.catalogue,
    )
    found = usage.filter(
        (pl.col("subscription_id") == document["subscription_id"])
        & (pl.col("cycle_start") == line["cycle_start"])
        & (pl.col("metric") == metric.name)
    )
    return next(iter(found["quantity"]), Decimal(0))


def _carried_in(
    business: Business, document: dict[str, Any], known: _AccountEvents, line: dict[str, Any], metric: Metric
) -> str:
    month = line["due_on"].strftime("%Y-%m")
    levels = read_frame(business.home.partition(LEVELS, month), LEVELS)
    events = known.of(metric, (line["cycle_start"], line["due_on"]), business.as_of)
    start = _spans(business, document, line).sort("span_start").head(1)
    if start.is_empty():
        return "0"
    gauge = gauges_of(start["account_id"], levels, [metric])
    path = level_path(events, gauge, [metric], account_key(gauge["account_id"]))
    level = level_before(start.select("account_id", "span_start").join(gauge, on="account_id"), path, "span_start")
    units = level.select(in_units(pl.col("level").to_physical(), unit_billionths(metric))).item()
    return plain_number(units)


def _arithmetic(shown: dict[str, Any], billed_then: list[str]) -> list[str]:
    """The line's price, step by step, from what was stored when it was issued.

    `billed_then` says what was billed before, where no line did.
    """
    # documents that were issued by earlier versions do not say what their lines settle
    settles = shown.get("settles")
    if settles is not None:
        return [*_due_now(shown, settles), *billed_then, *_billed_before(shown, settles)]
    if shown["tariff"] is None:
        return [*_over(shown), *(_part(shown, shown["amount"]) or [f"{shown['description']} = {shown['amount']}"])]
    bounds = shown.get("bounds") or {}
    return [*_over(shown), *_priced(shown, shown["amount"], bounds.get("minimum"), bounds.get("maximum"))]


def _part(shown: dict[str, Any], amount: str) -> list[str]:
    """How a part of a fee comes about: of the days of a month (rule 1), or of the cycles of a year (rule 18)."""
    part = shown.get("part")
    if part is None:
        return []
    share = f"{part['part']} / {part['parts']}"
    if part["replaced"] is None:
        fee, product = Decimal(part["fee"]), f"{part['fee']} x {share} days"
    else:
        fee = Decimal(part["fee"]) - Decimal(part["replaced"])
        product = f"({part['fee']} - {part['replaced']}) x {share} cycles"
    is_exact = fee * int(part["part"]) == Decimal(amount) * int(part["parts"])
    return [f"{product} = {amount}" if is_exact else f"{product}, rounded half-up = {amount}"]


def _over(shown: dict[str, Any]) -> list[str]:
    """What is over the allowance."""
    if shown["quantity"] is None:
        return []
    unit, package = shown["unit"], shown["package"]
    used, allowance, excess = (_with_unit(shown[key], unit) for key in ("quantity", "allowance", "excess"))
    if shown["allowance"] is None:
        return [f"{used} used, unlimited in {package}"]
    if Decimal(shown["quantity"]) <= Decimal(shown["allowance"]):
        return [f"{used} used of {allowance} included in {package}: not over the allowance"]
    return [f"{used} - {allowance} = {excess} over the allowance"]


def _priced(shown: dict[str, Any], amount: str, minimum: str | None = None, maximum: str | None = None) -> list[str]:
    """From what is over to an amount, by the tariff."""
    with localcontext(prec=60):
        *steps, (product, total) = _blocks(shown) if shown["tariff"]["model"] == "block" else _tiers(shown)
        rounded = total.quantize(Decimal(amount), rounding=ROUND_HALF_UP)
    found = f"{product} = {plain_number(total)}" if product else plain_number(total)
    if minimum is not None and total < Decimal(minimum):
        last = f"{found}, but at least {minimum} = {amount}"
    elif maximum is not None and total > Decimal(maximum):
        last = f"{found}, but at most {maximum} = {amount}"
    elif rounded != Decimal(amount):
        # the lines of earlier versions keep neither of them
        limit = "raised to the tariff's minimum" if rounded < Decimal(amount) else "lowered to the tariff's maximum"
        last = f"{found}, {limit} = {amount}"
    else:
        exact = f"{product} = {amount}" if product else f"together {amount}"
        last = exact if total == rounded else f"{found}, rounded half-up = {amount}"
    return [*(str(step) for step in steps), last]


def _blocks(shown: dict[str, Any]) -> list[Any]:
    """Steps, and last the product in words and its value."""
    blocks, price = shown["billed_units"], shown["tariff"]["tiers"][0]["unit_price"]
    started = f"{counted(blocks, 'started block')} of {_with_unit(shown['tariff']['size'], shown['unit'])}"
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


def _due_now(shown: dict[str, Any], settles: dict[str, Any]) -> list[str]:
    """What is due of the earlier cycle, by what was known when the line was issued."""
    due = settles["due"]
    if settles["fee"] is not None:
        return [*_part(shown, due), f"due now: {settles['fee']} = {due}"]
    steps = _over(shown)
    if shown["excess"] is None or not Decimal(shown["excess"]):
        return [*steps, f"due now: {due}"]
    if shown["tariff"] is None:
        return [*steps, f"due now: {due}, what is over costs nothing in {shown['package']}"]
    priced = _priced(shown, due, settles["minimum"], settles["maximum"])
    return [*steps, *priced[:-1], f"due now: {priced[-1]}"]


def _billed_before(shown: dict[str, Any], settles: dict[str, Any]) -> list[str]:
    """The lines that billed the cycle before, and what is left."""
    steps = [_billed_by(each, shown["unit"], shown["metric"] is not None) for each in settles["documents"]]
    words = [] if settles["why"] is None else [settles["why"]]
    return [
        *steps,
        f"{settles['due']} due now - {settles['billed']} billed before = {shown['amount']}",
        *words,
    ]


def _billed_by(line: dict[str, Any], unit: str | None, is_overage: bool) -> str:
    what = f"{line['amount']} on {line['number']} line {line['line']}"
    if not is_overage:
        return f"billed before: {what}: {line['description']}"
    if line["quantity"] is None:
        return f"billed before: {what}"
    used, allowance = _with_unit(line["quantity"], unit), _with_unit(line["allowance"], unit)
    included = "unlimited" if line["allowance"] is None else f"{allowance} included"
    return f"billed before: {what}: {used} used, {included}"


def _tier_step(part: Decimal, price: Decimal, flat: Decimal, unit: str | None) -> str:
    priced = f"{_with_unit(plain_number(part), unit)} x {plain_number(price)}" if price else ""
    flat_text = f"flat {plain_number(flat)}" if flat else ""
    return " + ".join(text for text in (priced, flat_text) if text) + f" = {plain_number(part * price + flat)}"


def _with_unit(number: str | None, unit: str | None) -> str:
    if number is None:
        return "unlimited"
    return f"{number} {unit}" if unit else number
