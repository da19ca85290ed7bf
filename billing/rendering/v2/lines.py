"""Lines of a document on paper: what is charged, from what, and for a settled cycle why (rules 3, 20 and 23)."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from billing.model.codes import LineKind
from billing.rendering.content import Fields
from billing.rendering.errors import ContentError
from billing.rendering.fonts import width_in_ems
from billing.rendering.v2.fee_parts import part_of_fee
from billing.rendering.v2.formats import SPACE, Formats
from billing.rendering.words import N_, Words

MILLIMETRES_PER_POINT: Final = 25.4 / 72
TABLE: Final = 174.0
FONT_SIZES: Final = (8.6, 7.4, 6.4)  # Points of the columns of numbers: as large as all of them fit.
GRAND_POINTS: Final = 11.0
BESIDE: Final = 25.0  # What the total takes of the item's columns on a document without quantities.
LEAST_NUMBER: Final = 14.0
GAP: Final = 2.0
LEAST_ITEM: Final = 44.0
USUAL: Final[tuple[float, ...]] = (20.0, 20.0, 20.0, 20.0, 14.0, 23.0)
MEASURED: Final[tuple[str, ...]] = ("quantity", "allowance", "excess", "charged", "price", "amount")

_WHY: Final = {
    "no_billing_date": N_("This date is none of the subscription's billing dates any more: nothing is due on it."),
    "no_fee": N_("No fee is due on this date."),
    "no_fee_term": N_("No fee falls due on this date: it lies inside a term that is paid."),
    "no_fee_cancelled": N_("No fee is due on this date: the subscription is cancelled."),
    "no_fee_held": N_("No fee is due on this date: the subscription is on hold."),
    "no_fee_refunded": N_("No fee is due on this date: the subscription ended with a refund."),
    "no_fee_suspended": N_("No fee is due on this date: access was suspended."),
    "no_hold_fee": N_("No hold fee is due on this date."),
    "not_billed_when_due": N_("It was not billed when it fell due."),
    "due_after_all": N_("It is due after all: what was billed for it had been given back."),
    "same_fee_other_price": N_("The same fee has another price now."),
    "another_fee": N_("Another fee is due now than was billed."),
    "metric_removed": N_("The price list in force has no {metric} any more: nothing is due for it."),
    "no_cycle": N_("This cycle is none of the subscription's any more: nothing is due for it."),
    "cost_nothing_before": N_("It cost nothing by what was known when the cycle was billed."),
    "more_usage": N_("More usage of the cycle counts now than when it was billed."),
    "more_usage_other_allowance": N_(
        "More usage of the cycle counts now than when it was billed, and the allowance is another now."
    ),
    "more_usage_other_price": N_(
        "More usage of the cycle counts now than when it was billed, and its price is another now."
    ),
    "more_usage_other_allowance_and_price": N_(
        "More usage of the cycle counts now than when it was billed, and allowance and price are others now."
    ),
    "less_usage": N_("Less usage of the cycle counts now than when it was billed."),
    "less_usage_other_allowance": N_(
        "Less usage of the cycle counts now than when it was billed, and the allowance is another now."
    ),
    "less_usage_other_price": N_(
        "Less usage of the cycle counts now than when it was billed, and its price is another now."
    ),
    "less_usage_other_allowance_and_price": N_(
        "Less usage of the cycle counts now than when it was billed, and allowance and price are others now."
    ),
    "same_usage": N_("The usage is the same."),
    "same_usage_other_allowance": N_("The usage is the same, the allowance is another now."),
    "same_usage_other_price": N_("The usage is the same, its price is another now."),
    "same_usage_other_allowance_and_price": N_("The usage is the same, allowance and price are others now."),
}
"""Sentences by code of `settles.why`."""


def fee_title(kind: str, package: str, term: str, words: Words) -> str:
    if kind == LineKind.HOLD_FEE:
        return words.gettext("{package}, hold fee", package=package)
    if term == "monthly":
        return words.gettext("{package}, monthly fee", package=package)
    if term == "yearly":
        return words.gettext("{package}, yearly fee", package=package)
    return words.gettext("{package}, package fee", package=package)


def line_title(row: Fields, words: Words, term: str = "") -> str:
    """What a line is for, from its codes; the stored words of a kind that this version does not know.

    `term` is that of the subscription, for a fee that does not say its own.
    """
    kind, due_kind = row.text("kind"), row.optional("due_kind")
    if kind == LineKind.COUPON:
        return words.gettext("Discount: {coupon}", coupon=row.optional("title") or row.optional("coupon"))
    charge = row.optional("charge_id")
    if charge.startswith("reminder/"):
        return words.gettext("Reminder fee")
    if charge and kind != LineKind.CHARGE:
        return words.gettext("One-off charge {charge}", charge=charge)
    package = row.optional("package_title") or row.optional("package")
    metric = row.optional("metric_title") or row.optional("metric")
    if LineKind.ADD_ON in (kind, due_kind):
        return _add_on_title(row, words, term)
    if LineKind.MINIMUM_SPEND in (kind, due_kind):
        if kind == LineKind.ADJUSTMENT:
            return words.gettext("Correction of the minimum spend of {package}", package=package)
        return words.gettext("Minimum spend of {package}", package=package)
    if LineKind.PRORATION in (kind, due_kind) and kind != LineKind.ADJUSTMENT:
        if metric:
            return words.gettext("{metric}, added within the cycle", metric=metric)
        return words.gettext("{package}, change within the cycle", package=package)
    if LineKind.SEATS in (kind, due_kind) and kind != LineKind.ADJUSTMENT:
        return words.gettext("{metric}, in advance", metric=metric)
    if kind == LineKind.REFUND:
        return words.gettext("Refund of the fee for {package}", package=package)
    if kind == LineKind.ADJUSTMENT and metric:
        return words.gettext("Correction of {metric} over the allowance", metric=metric)
    if kind == LineKind.ADJUSTMENT and due_kind == LineKind.HOLD_FEE:
        return words.gettext("Correction of the hold fee for {package}", package=package)
    if kind == LineKind.ADJUSTMENT:
        return words.gettext("Correction of the fee for {package}", package=package)
    settled = due_kind if kind == LineKind.PRIOR_CYCLE and due_kind else kind
    if settled == LineKind.OVERAGE or (kind == LineKind.PRIOR_CYCLE and metric):
        return words.gettext("{metric} over the allowance", metric=metric)
    if settled in (LineKind.PACKAGE_FEE, LineKind.HOLD_FEE, LineKind.PRIOR_CYCLE):
        own = row.optional("term") or (term if kind == LineKind.PACKAGE_FEE else "")
        return fee_title(settled, package, own, words)
    return row.optional("description") or metric or package


def _add_on_title(row: Fields, words: Words, term: str) -> str:
    kind, add_on = row.text("kind"), row.optional("title") or row.optional("add_on")
    if kind == LineKind.REFUND:
        return words.gettext("Refund of the fee for {package}", package=add_on)
    if kind == LineKind.ADJUSTMENT:
        return words.gettext("Correction of the fee for {package}", package=add_on)
    return fee_title(LineKind.PACKAGE_FEE, add_on, term if kind == LineKind.ADD_ON else "", words)


class Quantities:
    """Writes the quantities of one metric."""

    def __init__(self, row: Fields, out: Formats) -> None:
        self._out = out
        self._unit, self._code = row.optional("unit"), row.optional("unit_code")
        self._decimals = row.integer("decimals") if row.holds("decimals") else None

    def __call__(self, value: Decimal) -> str:
        return self._out.count(value, self._unit, self._code, self._decimals)


def line_of(row: Fields, words: Words, out: Formats, sign: int, term: str = "") -> dict[str, object]:
    """One line: texts of its columns, its details on one line of text, and a line of text per tier."""
    amount_of = Quantities(row, out)
    cycle = out.cycle(row.day("cycle_start"), row.day("cycle_end")) if row.holds("cycle_start") else ""
    package = row.optional("package_title") or row.optional("package")
    if row.text("kind") == LineKind.CHARGE:
        package = ""
    title = line_title(row, words, term)
    stored = row.rows("tiers") if row.holds("tiers") else []
    tiers = [_tier(tier, words, out, amount_of) for tier in stored or reached_tiers(row, out.minor_units)]
    bounds = _bounds(row.fields("bounds"), words, out) if row.holds("bounds") else []
    details = [
        "" if package.casefold() in title.casefold() else package,
        cycle,
        "" if tiers else _tariff(row, words, out, amount_of),
        *([] if tiers else bounds),
        "" if row.holds("metric") else _times(row, out),
        part_of_fee(row.fields("part"), words, out, row.text("kind")) if row.holds("part") else "",
        *(_settles(row, row.fields("settles"), words, out, amount_of) if row.holds("settles") else []),
        words.gettext("Each tier prices its own part:") if tiers else "",
    ]
    # What was added within a cycle is told as a part of it; the columns are of whole cycles.
    is_added = LineKind.PRORATION in (row.text("kind"), row.optional("due_kind"))
    columns = _no_columns() if is_added else _columns(row, words, out, amount_of)
    return {
        "title": title,
        "earlier": row.text("kind") == LineKind.PRIOR_CYCLE,
        "details": [detail for detail in details if detail],
        "tiers": [*tiers, *bounds] if tiers else [],
        **columns,
        "amount": out.money(row.decimal("amount") * sign, row.place("amount")),
    }


def _columns(row: Fields, words: Words, out: Formats, amount_of: Quantities) -> dict[str, object]:
    unlimited = row.holds("quantity") and not row.holds("allowance")
    return {
        "measured": row.holds("metric") and row.holds("quantity"),
        "quantity": _amount(row, "quantity", amount_of),
        "allowance": words.gettext("unlimited") if unlimited else _amount(row, "allowance", amount_of),
        "excess": _amount(row, "excess", amount_of),
        "charged": _charged(row, out, amount_of) if row.holds("metric") else "",
        "price": out.unit_price(row.decimal("unit_price")) if row.holds("metric") and row.holds("unit_price") else "",
    }


def _no_columns() -> dict[str, object]:
    return {"measured": False, **dict.fromkeys(("quantity", "allowance", "excess", "charged", "price"), "")}


def reached_tiers(row: Fields, minor_units: int) -> list[Fields]:
    """What each tier of a graduated tariff costs, of a line that does not say it; nothing unless that is its amount."""
    if row.text("kind") != LineKind.OVERAGE or not row.holds("tariff") or not row.holds("excess"):
        return []
    tariff, excess = row.fields("tariff"), row.decimal("excess")
    if tariff.text("model") != "graduated":
        return []
    tiers, lower, total = [], Decimal(0), Decimal(0)
    for tier in tariff.rows("tiers"):
        if excess <= lower:
            break
        upper = tier.decimal("up_to") if tier.holds("up_to") else None
        quantity = (excess if upper is None else min(excess, upper)) - lower
        price = tier.decimal("unit_price") if tier.holds("unit_price") else Decimal(0)
        flat = tier.decimal("flat") if tier.holds("flat") else Decimal(0)
        amount = quantity * price + flat
        values = {"from": lower, "through": upper, "quantity": quantity, "unit_price": price, "amount": amount}
        texts = {name: None if value is None else f"{value:f}" for name, value in values.items()}
        tiers.append(Fields({**texts, "flat": f"{flat:f}"}, row.place("tariff")))
        lower, total = upper or excess, total + amount
    bounds = row.fields("bounds") if row.holds("bounds") else None
    if bounds and bounds.holds("minimum"):
        total = max(total, bounds.decimal("minimum"))
    if bounds and bounds.holds("maximum"):
        total = min(total, bounds.decimal("maximum"))
    is_amount = total.quantize(Decimal(1).scaleb(-minor_units), ROUND_HALF_UP) == row.decimal("amount")
    return tiers if is_amount else []


def with_one_row_a_coupon(rows: Sequence[Fields]) -> list[Fields]:
    """Lines with the lines of one coupon as one, where the first of them stands."""
    sums: dict[tuple[str, str], Decimal] = {}
    firsts: dict[tuple[str, str], Fields] = {}
    shown: list[Fields] = []
    for row in rows:
        if row.text("kind") != LineKind.COUPON:
            shown.append(row)
            continue
        key = row.optional("coupon"), row.optional("gives_back")
        if key not in firsts:
            firsts[key] = row
            shown.append(row)
        sums[key] = sums.get(key, Decimal(0)) + row.decimal("amount")
    return [
        _whole_coupon(row, sums[row.optional("coupon"), row.optional("gives_back")])
        if row.text("kind") == LineKind.COUPON
        else row
        for row in shown
    ]


def _whole_coupon(row: Fields, amount: Decimal) -> Fields:
    of_lines = dict.fromkeys(("cycle_start", "cycle_end", "package", "package_title", "metric", "metric_title"))
    return row.replaced({"amount": f"{amount:f}", **of_lines})


def _amount(row: Fields, key: str, amount_of: Quantities) -> str:
    return amount_of(row.decimal(key)) if row.holds(key) else ""


def _charged(row: Fields, out: Formats, amount_of: Quantities) -> str:
    """Billed units: blocks as a product (13 times 1,000), anything else as a quantity."""
    if not row.holds("billed_units"):
        return ""
    billed = row.decimal("billed_units")
    if row.holds("tariff"):
        tariff = row.fields("tariff")
        if tariff.text("model") == "block" and tariff.has("size") and tariff.decimal("size") != 1:
            size = amount_of(tariff.decimal("size"))
            return f"{out.quantity(billed, '')}{SPACE}\N{MULTIPLICATION SIGN}{SPACE}{size}"
    return amount_of(billed)


def _tariff(row: Fields, words: Words, out: Formats, amount_of: Quantities) -> str:
    """The tiers in words (rule 3); none for blocks, whose columns show number, size and price."""
    if not row.holds("tariff"):
        return ""
    tariff = row.fields("tariff")
    model = tariff.text("model")
    if model == "block":
        return ""
    if model == "percentage":
        return _percentage(row, tariff, words, out)
    if model not in ("graduated", "volume", "stairstep"):
        expected = "block, graduated, volume, stairstep or percentage"
        raise ContentError(f"{tariff.place('model')}: found {model!r}, expected {expected}")
    said: list[str] = []
    for tier in tariff.rows("tiers"):
        price = _price_of_tier(tier, words, out)
        if tier.has("up_to"):
            quantity = amount_of(tier.decimal("up_to"))
            said.append(words.gettext("up to {quantity}: {price}", quantity=quantity, price=price))
        elif said:
            said.append(words.gettext("above: {price}", price=price))
        else:
            said.append(words.gettext("all: {price}", price=price))
    tiers = "; ".join(said)
    if model == "graduated":
        return words.gettext("Each tier prices its own part ({tiers})", tiers=tiers)
    if model == "volume":
        return words.gettext("The tier reached prices all units ({tiers})", tiers=tiers)
    return words.gettext("One price for the tier reached ({tiers})", tiers=tiers)


def _percentage(row: Fields, tariff: Fields, words: Words, out: Formats) -> str:
    """A percentage of the excess, and a price for each event beyond those that are free (rule 34)."""
    said = []
    excess = row.decimal("excess") if row.holds("excess") else Decimal(0)
    percent = tariff.decimal("percent") / 100
    if excess > 0 and percent:
        said.append(
            words.gettext(
                "{percent} of {quantity}: {amount}",
                percent=out.percent(percent),
                # It is an amount of money, and no quantity of few decimals.
                quantity=out.unit_price(excess),
                amount=out.unit_price(excess * percent),
            )
        )
    if tariff.holds("per_event") and tariff.holds("events"):
        # The text of a whole number, however long it is.
        free, events = int(tariff.decimal("free_events")), int(tariff.decimal("events"))
        charged, price = max(events - free, 0), tariff.decimal("per_event")
        said.append(
            words.ngettext(
                "{count} event at {price} each: {amount}",
                "{count} events at {price} each: {amount}",
                charged,
                count=out.quantity(Decimal(charged), ""),
                price=out.unit_price(price),
                amount=out.unit_price(charged * price),
            )
        )
        if free:
            number = out.quantity(Decimal(free), "")
            said.append(words.ngettext("{count} event is free", "{count} events are free", free, count=number))
    return "; ".join(said)


def _price_of_tier(tier: Fields, words: Words, out: Formats) -> str:
    unit = tier.decimal("unit_price") if tier.holds("unit_price") else Decimal(0)
    flat = tier.decimal("flat") if tier.holds("flat") else Decimal(0)
    if unit and flat:
        return words.gettext("{price} each plus {flat}", price=out.unit_price(unit), flat=out.unit_price(flat))
    if unit:
        return words.gettext("{price} each", price=out.unit_price(unit))
    return out.unit_price(flat) if flat else words.gettext("free")


def _tier(tier: Fields, words: Words, out: Formats, amount_of: Quantities) -> str:
    """One reached tier of a graduated tariff: its part of the usage, and what that costs."""
    quantity, amount = amount_of(tier.decimal("quantity")), out.unit_price(tier.decimal("amount"))
    unit = out.unit_price(tier.decimal("unit_price")) if tier.holds("unit_price") else out.unit_price(Decimal(0))
    times = f"{quantity}{SPACE}\N{MULTIPLICATION SIGN}{SPACE}{unit}"
    if tier.holds("flat") and tier.decimal("flat"):
        times = f"{times} + {out.unit_price(tier.decimal('flat'))}"
    sum_of = f"{times} = {amount}"
    first, last = tier.decimal("from"), tier.decimal("through") if tier.holds("through") else None
    if last is None and not first:
        return words.gettext("All units: {calculation}", calculation=sum_of)
    if last is None:
        return words.gettext("Over {first}: {calculation}", first=amount_of(first), calculation=sum_of)
    if not first:
        return words.gettext("Up to {last}: {calculation}", last=amount_of(last), calculation=sum_of)
    return words.gettext(
        "Over {first} up to {last}: {calculation}", first=amount_of(first), last=amount_of(last), calculation=sum_of
    )


def _bounds(row: Fields, words: Words, out: Formats) -> list[str]:
    """Minimum and maximum of the tariff (rule 3): they explain an amount that differs from its prices."""
    said = []
    if row.holds("minimum"):
        said.append(words.gettext("At least {amount}", amount=out.unit_price(row.decimal("minimum"))))
    if row.holds("maximum"):
        said.append(words.gettext("At most {amount}", amount=out.unit_price(row.decimal("maximum"))))
    return said


def _times(row: Fields, out: Formats) -> str:
    """Quantity and unit price of a one-off charge or an add-on."""
    if not row.holds("billed_units") or not row.holds("unit_price"):
        return ""
    units, price = out.quantity(row.decimal("billed_units"), ""), out.unit_price(row.decimal("unit_price"))
    return f"{units}{SPACE}\N{MULTIPLICATION SIGN}{SPACE}{price}"


def _settles(row: Fields, settles: Fields, words: Words, out: Formats, amount_of: Quantities) -> list[str]:
    """What is due now for an earlier cycle, which document billed it, and what changed (rules 20 and 23)."""
    said = _bounds(settles, words, out)
    before = settles.rows("documents")
    is_same = True
    if settles.holds("fee"):
        fee = settles.fields("fee")
        package = fee.optional("package_title")
        is_same = all(
            (line.optional("package_title"), line.optional("kind")) == (package, fee.text("kind")) for line in before
        )
        if not is_same:
            title = fee_title(fee.text("kind"), package, fee.optional("term"), words)
            said.append(words.gettext("Due now: {fee}", fee=title))
    for line in before:
        amount, number = out.money(line.decimal("amount"), line.place("amount")), line.text("number")
        if line.holds("quantity"):
            quantity = amount_of(line.decimal("quantity"))
            text = words.gettext(
                "Billed before: {amount} on {number} for {quantity}", amount=amount, number=number, quantity=quantity
            )
        elif is_same or row.holds("metric"):
            text = words.gettext("Billed before: {amount} on {number}", amount=amount, number=number)
        else:
            fee_before = fee_title(line.optional("kind"), line.optional("package_title"), "", words)
            text = words.gettext(
                "Billed before: {amount} on {number} ({fee})", amount=amount, number=number, fee=fee_before
            )
        said.append(text)
    metric = row.optional("metric_title") or row.optional("metric")
    why = _WHY.get(settles.optional("why"), "")
    return [*said, words.gettext(why, metric=metric)] if why else said


# --- columns ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Columns:
    """How the columns of numbers are set so that no number is broken.

    Attributes
    ----------
    widths
        Millimetres of the item and of the six columns, or of the amount alone; empty for the usual ones.
    size
        Points of their text, or "" for the usual size.
    spelt
        Whether the numbers do not fit at all and stand in the details of their line.
    """

    widths: tuple[str, ...] = ()
    size: str = ""
    spelt: bool = False


def columns_of(lines: Sequence[dict[str, object]], total: str, grand: str = "") -> Columns:
    """The widths and size of the columns of numbers that hold every number on one line.

    `grand` is the total with its currency, which is set larger and spans the last two columns.
    """
    measured = [line for line in lines if line["measured"]]
    names, usual = (MEASURED, USUAL) if measured else (MEASURED[-1:], USUAL[-1:])
    needed = [max((_ems(line, name) for line in measured), default=0.0) for name in names[:-1]]
    needed.append(max([width_in_ems(total, bold=True), *(_ems(line, "amount") for line in lines)]))
    least = width_in_ems(grand, bold=True) * GRAND_POINTS * MILLIMETRES_PER_POINT + GAP
    for size in FONT_SIZES:
        widths = [ems * size * MILLIMETRES_PER_POINT + GAP for ems in needed]
        beside = max(widths[-2], usual[-2]) if measured else BESIDE
        widths[-1] = max(widths[-1], least - beside)
        wanted = [max(width, some) for width, some in zip(widths, usual, strict=True)]
        if wanted == list(usual) and size == FONT_SIZES[0]:
            return Columns()
        if not measured:
            wanted = [max(wanted[0], least)]
        # Narrow what has room to spare before taking room from the item.
        narrow = [max(width, LEAST_NUMBER) for width in widths]
        for chosen in (wanted, narrow):
            if TABLE - sum(chosen) >= LEAST_ITEM:
                millimetres = tuple(f"{width:.1f}" for width in (TABLE - sum(chosen), *chosen))
                return Columns(millimetres, "" if size == FONT_SIZES[0] else str(size))
    if measured:
        spelt = columns_of([{**line, "measured": False} for line in lines], total, grand)
        return Columns(spelt.widths, spelt.size, spelt=True)
    return Columns((f"{LEAST_ITEM:.1f}", f"{TABLE - LEAST_ITEM:.1f}"), str(FONT_SIZES[-1]))


def _ems(line: dict[str, object], name: str) -> float:
    return width_in_ems(str(line[name]), bold=name == "amount")


def spelt_out(line: dict[str, object], words: Words) -> dict[str, object]:
    """A line whose numbers are too wide for columns: they stand in its details."""
    if not line["measured"]:
        return line
    said = [
        words.gettext("Used: {quantity}", quantity=str(line["quantity"])),
        words.gettext("Allowance: {quantity}", quantity=str(line["allowance"])),
        words.gettext("Over: {quantity}", quantity=str(line["excess"])) if line["excess"] else "",
        words.gettext("Charged: {quantity}", quantity=str(line["charged"])) if line["charged"] else "",
        words.gettext("Unit price: {price}", price=str(line["price"])) if line["price"] else "",
    ]
    details = line["details"]
    assert isinstance(details, list)  # noqa: S101 - as `line_of` made it
    return {**line, "measured": False, "details": [*(text for text in said if text), *details]}
