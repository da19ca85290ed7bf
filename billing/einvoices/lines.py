"""Lines of a document as EN 16931 knows them: quantity x price is the amount, and no price is below 0."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

from billing.einvoices.invoice import InexpressibleError, Line, Reduction
from billing.einvoices.tax_categories import OUTSIDE, tax_key
from billing.einvoices.xml_text import one_line
from billing.model.codes import LineKind

Entry = Mapping[str, Any]
COUPON: Final = "coupon"
ONE: Final = "C62"
_NOTHING: Final = Decimal(0)
_SINGLE: Final = Decimal(1)


class Amounts:
    """Reads stored amounts; those of a credit note are turned round, and no zero is negative (BR-AE-09)."""

    def __init__(self, *, is_turned: bool) -> None:
        self._is_turned = is_turned

    def read(self, text: str) -> Decimal:
        amount = Decimal(text)
        if not amount:
            return abs(amount)
        return -amount if self._is_turned else amount


def with_line_tax(lines: Sequence[Entry], taxes: Sequence[Entry]) -> list[Entry]:
    """Lines with their category and rate.

    Raises
    ------
    InexpressibleError
        When a line has several taxes, or is outside of the scope of VAT beside others that are not.
    """
    if any(line["tax_category"] is None for line in lines):
        raise InexpressibleError("several taxes are on one line, and e-invoices have one rate a line")
    if not taxes:
        return list(lines)
    is_outside = [line["tax_category"] == OUTSIDE for line in lines]
    if all(tax["category"] == OUTSIDE for tax in taxes):
        return list(lines)
    if sum((Decimal(line["amount"]) for line, outside in zip(lines, is_outside, strict=True) if outside), _NOTHING):
        raise InexpressibleError("it has lines outside the scope of VAT (category O) beside others")
    # Lines that add up to nothing lose their tax where others are given back: any of the taxes holds.
    usual = {"tax_category": taxes[0]["category"], "tax_rate": taxes[0]["rate"]}
    return [{**line, **usual} if outside else line for line, outside in zip(lines, is_outside, strict=True)]


def read_lines(entries: Sequence[Entry], amounts: Amounts) -> tuple[tuple[Line, ...], tuple[Reduction, ...]]:
    """The lines, and the allowances of the document: coupons stand on the line that they apply to, or on it."""
    charged = [entry for entry in entries if entry["kind"] != COUPON]
    of_lines: defaultdict[int | None, list[Reduction]] = defaultdict(list)
    for entry in entries:
        if entry["kind"] == COUPON:
            of_lines[entry.get("applies_to_line")].append(_reduction(entry, amounts))
    numbers = {entry["line"] for entry in charged}
    if unknown := [number for number in of_lines if number is not None and number not in numbers]:
        raise InexpressibleError(f"a coupon applies to line {unknown[0]}, which there is not")
    return tuple(_line(entry, amounts, of_lines[entry["line"]]) for entry in charged), tuple(of_lines[None])


def _reduction(entry: Entry, amounts: Amounts) -> Reduction:
    key = tax_key(entry["tax_category"], entry["tax_rate"])
    # A coupon lowers what is due: its amount is below 0 on the page.
    return Reduction(-amounts.read(entry["amount"]), one_line(entry.get("title") or entry["description"]), *key)


def _line(entry: Entry, amounts: Amounts, reductions: Sequence[Reduction]) -> Line:
    amount = amounts.read(entry["amount"])
    for each in reductions:
        if (each.category, each.rate) != tax_key(entry["tax_category"], entry["tax_rate"]):
            raise InexpressibleError("a coupon has another tax than the line that it applies to")
    key = tax_key(entry["tax_category"], entry["tax_rate"])
    quantity, unit, price, base = _quantity(entry, amount)
    # What is sold beside a package has a title of its own.
    name = entry["metric_title"] or entry.get("title") or entry["package_title"] or entry["description"]
    return Line(
        id=str(entry["line"]),
        name=one_line(name),
        description=one_line(entry["description"]) if entry["description"] != name else "",
        quantity=quantity,
        unit=unit,
        price=price,
        base=base,
        amount=amount - sum((each.amount for each in reductions), _NOTHING),
        category=key.category,
        rate=key.rate,
        start=_day(entry["cycle_start"]),
        # The cycle is half-open, BT-135 is the last day.
        end=_last_day(entry),
        reductions=tuple(reductions),
    )


def _quantity(entry: Entry, amount: Decimal) -> tuple[Decimal, str, Decimal, Decimal]:
    """Quantity, its unit, price and base quantity; what is no product of these is one at the amount."""
    units, price = entry["billed_units"], entry["unit_price"]
    if (
        entry["kind"] in (LineKind.OVERAGE, LineKind.ADD_ON)
        and units is not None
        and price is not None
        and Decimal(price) >= 0
    ):
        size = Decimal((entry["tariff"] or {}).get("size") or 1)
        if Decimal(units) * Decimal(price) == amount:
            return Decimal(units) * size, entry["unit_code"] or ONE, Decimal(price), size
    if amount < 0:
        return -_SINGLE, ONE, -amount, _SINGLE
    return _SINGLE, ONE, amount, _SINGLE


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _last_day(entry: Entry) -> date | None:
    start, end = _day(entry["cycle_start"]), _day(entry["cycle_end"])
    if start is None or end is None:
        return end
    return max(start, end - timedelta(days=1))
