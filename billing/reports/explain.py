"""Explain a document: trace a line back to its arithmetic, usage by day, files and events.

Use what was known when it was issued: deliveries and requests up to the day of issue.
"""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import polars as pl

from billing.model.calendar import months_between
from billing.model.catalogue import Metric
from billing.model.codes import SCHEDULED, SETTLEMENTS, LineKind
from billing.model.errors import RefusedError
from billing.model.plain_rows import plain_number, plain_rows
from billing.model.tables import CHARGES, DUES, PARKED, REJECTS, UNBILLED
from billing.model.text import counted
from billing.month.business import Business
from billing.month.currencies import of_currency
from billing.reports.explain_credits import credits_entry
from billing.reports.explain_lines import (
    AccountEvents,
    events_of,
    listed_files,
    metric_named,
    title_of,
    with_unit,
)
from billing.reports.explain_offers import explained_offer
from billing.store.frames import scan_frames
from billing.store.monthly import read_month


def explain_document(
    business: Business, number: str, line: int | None = None, most_events: int = 1_000, *, everything: bool = False
) -> list[dict[str, Any]]:
    """Every line of a document (or one), explained.

    Parameters
    ----------
    everything
        Also what is on no line (`line` is None): metrics that cost nothing (kind `not_charged`), usage of the cycle
        delivered or settled after the document (`late`), unbilled usage (`unbilled`), and quarantined rows
        (`set_aside`). Prepaid credits that pay the document, or get something back, are an entry of kind `credits`
        without a line.

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
    # As of the day of issue: ignore later deliveries and requests.
    then = of_currency(business.at(document["issued_on"], issues=False), document["currency"])
    known = AccountEvents(business, document)
    business = of_currency(business, document["currency"])
    explained = [
        explained_offer(then, document, known, row, shown, most_events)
        for row in lines.iter_rows(named=True)
        if line is None or row["line"] == line
    ]
    explained += credits_entry(business, document) if line is None else []
    return (
        [*explained, *_off_the_page(business, document, lines, content, known, most_events)]
        if everything
        else explained
    )


def is_more_than_lines(business: Business, number: str) -> bool:
    """Whether `explain_document` with `everything` adds to the lines of a document that has been issued."""
    document, lines, content = _issued(business, number)
    # Cheap check first: a metric that costs nothing exists almost always and needs no events.
    known_now = {metric.name for metric in business.catalogue.metrics}
    used = {(row["metric"], row.get("rule")) for row in content["usage"] if row["metric"] in known_now}
    charged = set(_charges(business, document).select("metric", "rule").iter_rows()) - set(
        lines.filter(pl.col("kind") == LineKind.OVERAGE).select("metric", "rule").iter_rows()
    )
    if used & charged:
        return document["corrects"] is None
    known = AccountEvents(business, document)
    own = of_currency(business, document["currency"])
    return any(True for _ in _off_the_page(own, document, lines, content, known, 0))


def _issued(business: Business, number: str) -> tuple[dict[str, Any], pl.DataFrame, dict[str, Any]]:
    """The document of a number, its lines, and its stored content."""
    documents = business.register.documents(number=number)
    if documents.is_empty():
        raise RefusedError(f"unknown number: found {number!r}, expected the number of an issued document")
    content = json.loads(next(iter(business.register.contents([number])))[1])
    return documents.row(0, named=True), business.register.lines(numbers=[number]), content


def _off_the_page(
    business: Business,
    document: dict[str, Any],
    lines: pl.DataFrame,
    content: dict[str, Any],
    known: AccountEvents,
    most_events: int,
) -> Iterator[dict[str, Any]]:
    """What the document does not charge, and why: fees, and usage of the cycle that ended on its billing date."""
    if document["corrects"] is None:
        yield from _fees_settled(business, document, lines)
    charges = _charges(business, document)
    if document["corrects"] is not None or charges.is_empty():
        return
    # Use the page's quantities: the charges reflect what is known now.
    used = {(row["metric"], row.get("rule")): row for row in content["usage"]}
    overages = lines.filter(pl.col("kind") == LineKind.OVERAGE).select("metric", "rule", "amount")
    billed = {(metric, rule): amount for metric, rule, amount in overages.iter_rows()}
    for charge in charges.iter_rows(named=True):
        line = charge | {"due_on": charge["cycle_end"], "number": document["number"], "line": None}
        metric = metric_named(business, charge["metric"])
        # A level that is charged in advance has no overage.
        if metric is None or metric.is_in_advance:
            continue
        of_line, title = (metric.name, charge["rule"]), title_of(metric, charge["rule"], business.catalogue)
        now = events_of(business, document, known, line, metric)
        before = pl.col("delivery_day") <= document["issued_on"]
        if of_line in used and of_line not in billed:
            then = line | {name: _decimal(used[of_line][name]) for name in ("quantity", "allowance")}
            entry = _entry(then, "not_charged", f"{title}: nothing to pay", [_why_nothing(then, metric)])
            yield entry | listed_files(business, now.filter(before), most_events)
        late = now.filter(~before)
        settled = _settled_by(business, document, *of_line)
        open_amount = charge["amount"] - billed.get(of_line, 0) - settled["amount"].sum()
        if late.is_empty() and settled.is_empty() and not open_amount:
            continue
        what = "settled" if late.is_empty() else "delivered"
        steps = _where_it_went(business, settled, open_amount)
        entry = _entry(line, "late", f"{title}: {what} after {document['number']} was issued", steps)
        yield entry | listed_files(business, late, most_events)
    yield from _unbilled(business, document, charges)
    yield from _set_aside(business, document, charges, most_events)


def _charges(business: Business, document: dict[str, Any]) -> pl.DataFrame:
    """CHARGES of the cycle that ended on the document's billing date, by metric."""
    of_cycle = (pl.col("subscription_id") == document["subscription_id"]) & (
        pl.col("cycle_end") == document["billing_date"]
    )
    return business.scan_months(CHARGES, [document["billing_month"]]).filter(of_cycle).sort("metric", "rule").collect()


def _fees_settled(business: Business, document: dict[str, Any], lines: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Later changes of the fees of the document's billing date."""
    month = document["billing_month"]
    if not business.home.parts(DUES, month):
        return
    of_date = (pl.col("subscription_id") == document["subscription_id"]) & (
        pl.col("billing_date") == document["billing_date"]
    )
    dues = business.scan_months(DUES, [month]).filter(of_date).collect()
    later = business.register.lines_due(document["subscription_id"], document["billing_date"]).filter(
        pl.col("kind").is_in(SETTLEMENTS)
    )
    is_parked = document["account_id"] in read_month(business.home, PARKED, month)["account_id"]
    for kind, title, metric, item in _kinds_of_fees(dues, lines):
        paid_back = pl.col("kind") == LineKind.REFUND if kind == LineKind.PACKAGE_FEE else pl.lit(False)
        of_one = pl.struct("metric", "due_item").eq_missing(
            pl.struct(metric=pl.lit(metric, pl.String), due_item=pl.lit(item, pl.String))
        )
        settled = later.filter(((pl.col("due_kind") == kind) & of_one) | paid_back)
        billed, due = (each.filter((pl.col("kind") == kind) & of_one) for each in (lines, dues))
        # Skip the fee of a refunded cycle (rule 20) and parked accounts: they are not settled.
        is_left = is_parked or not settled.filter(pl.col("kind") == LineKind.REFUND).is_empty()
        due_now, billed_then, settled_since = (sum(each["amount"], Decimal(0)) for each in (due, billed, settled))
        open_amount = Decimal(0) if is_left else due_now - billed_then - settled_since
        if settled.is_empty() and not open_amount:
            continue
        columns = ["package", "cycle_start", "cycle_end"]
        of_fee = pl.concat([billed.select(columns), due.select(columns), settled.select(columns)]).row(0, named=True)
        steps = _where_it_went(business, settled, open_amount)
        what = f"{title}: {'due' if settled.is_empty() else 'settled'} after {document['number']} was issued"
        yield _entry(of_fee | {"number": document["number"]}, "late", what, steps)


def _kinds_of_fees(dues: pl.DataFrame, lines: pl.DataFrame) -> list[tuple[str, str, str | None, str | None]]:
    """kind, title, metric, due_item of what can be settled, overages left out."""
    columns = ["kind", "description", "metric", "due_item"]
    fees = (LineKind.PACKAGE_FEE, LineKind.HOLD_FEE)
    others = (
        pl.concat([lines.select(columns), dues.select(columns)])
        .filter(pl.col("kind").is_in(SCHEDULED) & ~pl.col("kind").is_in([*fees, LineKind.OVERAGE]))
        .unique(["kind", "metric", "due_item"], keep="first", maintain_order=True)
    )
    return [(fees[0], "Package fee", None, None), (fees[1], "Hold fee", None, None), *others.iter_rows()]


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _entry(line: dict[str, Any], kind: str, description: str, steps: list[str]) -> dict[str, Any]:
    quantity = line.get("quantity")
    return {
        "number": line["number"],
        "line": None,
        "kind": kind,
        "metric": line.get("metric"),
        "rule": line.get("rule"),
        "package": line.get("package"),
        # A one-off charge has no cycle.
        **{name: None if line[name] is None else line[name].isoformat() for name in ("cycle_start", "cycle_end")},
        "quantity": None if quantity is None else plain_number(quantity),
        "amount": None,
        "description": description,
        "arithmetic": steps,
        "days": [],
        "events": [],
        "events_total": 0,
    }


def _why_nothing(charge: dict[str, Any], metric: Metric) -> str:
    used = with_unit(plain_number(charge["quantity"]), metric.unit)
    if charge["allowance"] is None:
        return f"{used} used, unlimited in {charge['package']}"
    allowance = with_unit(plain_number(charge["allowance"]), metric.unit)
    if charge["quantity"] <= charge["allowance"]:
        return f"{used} used of {allowance} included in {charge['package']}: not over the allowance"
    excess = with_unit(plain_number(charge["quantity"] - charge["allowance"]), metric.unit)
    return f"{used} - {allowance} = {excess} over the allowance, which costs nothing in {charge['package']}"


def _settled_by(business: Business, document: dict[str, Any], metric: str, rule: str | None) -> pl.DataFrame:
    """The lines of later documents that settle the cycle."""
    lines = business.register.lines_due(document["subscription_id"], document["billing_date"])
    return lines.filter(
        (pl.col("metric") == metric)
        & pl.col("rule").eq_missing(pl.lit(rule, pl.String))
        & pl.col("kind").is_in([LineKind.PRIOR_CYCLE, LineKind.ADJUSTMENT])
    )


def _where_it_went(business: Business, settled: pl.DataFrame, open_amount: Decimal) -> list[str]:
    """The lines that settle late usage of a cycle, and what is not settled yet."""
    decimals = business.catalogue.minor_units
    steps = [
        f"{'paid back' if kind == LineKind.REFUND else 'settled'} by {number} line {line}: {amount:.{decimals}f}"
        for kind, number, line, amount in settled.select("kind", "number", "line", "amount").iter_rows()
    ]
    if open_amount:
        steps.append(f"settled by no document yet: {open_amount:.{decimals}f}, see `overage preview`")
    return steps or ["it changes no amount"]


def _unbilled(business: Business, document: dict[str, Any], charges: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Unbilled usage of the cycle's calendar months."""
    cycle = charges.row(0, named=True)
    months = months_between(f"{cycle['cycle_start']:%Y-%m}", f"{cycle['cycle_end']:%Y-%m}")
    unbilled = business.scan_months(UNBILLED, months).filter(pl.col("account_id") == document["account_id"]).collect()
    line = {name: cycle[name] for name in ("cycle_start", "cycle_end")} | {"number": document["number"]}
    for row in unbilled.sort("billing_month", "metric", "reason").iter_rows(named=True):
        metric = metric_named(business, row["metric"])
        if metric is None:
            continue
        quantity = with_unit(plain_number(row["quantity"]), metric.unit)
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
    """Quarantined rows of the account, delivered from the cycle's start to the day of issue."""
    cycle = charges.row(0, named=True)
    days = pl.date_range(cycle["cycle_start"], document["issued_on"], eager=True)
    files = [path for day in days if (path := business.home.delivery(REJECTS, day)).exists()]
    rejects = scan_frames(files, REJECTS).filter(pl.col("account_id") == document["account_id"]).collect()
    line = {name: cycle[name] for name in ("cycle_start", "cycle_end")} | {"number": document["number"]}
    for (reason,), rows in rejects.sort("reason", *REJECTS.key).group_by("reason", maintain_order=True):
        listed = rows.head(most_events).select(
            "source", "id", "file", "row", "delivery_day", pl.lit(None, pl.String).alias("time"), "quantity"
        )
        yield _entry(line, "set_aside", f"Set aside: {reason}", [f"{counted(rows.height, 'row')}: {reason}"]) | {
            "events": plain_rows(listed, business.catalogue.minor_units),
            "events_total": rows.height,
        }
