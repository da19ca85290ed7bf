"""Page text: the stored content as words and numbers of the customer's locale, and bar lengths."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from itertools import groupby
from unicodedata import east_asian_width

from billing.model.codes import DocumentKind, LineKind, TaxReason
from billing.rendering.content import Fields
from billing.rendering.errors import ContentError
from billing.rendering.locale_formats import Print, locale_named

BAR_MILLIMETRES = Decimal(74)
LABEL_WIDTHS = 44  # Letters that fit in the label column of a comparison; a Chinese one counts twice.
NUMBER_WIDTHS = 14
MOVEMENTS_KEPT_TOGETHER = 30  # Rows that fit below the letterhead; a longer box may break across pages.


def page_of(content: Mapping[str, object]) -> dict[str, object]:
    """Template context of a page: every value is a text, except lists, flags and bar lengths."""
    document = Fields(content)
    kind = document.text("kind")
    if kind not in tuple(DocumentKind):
        raise ContentError(f"kind: found {kind!r}, expected invoice, credit_note or debit_note")
    out = Print(document.optional_text("locale"), document.text("currency"), document.integer("minor_units"))
    # rule 19: a credit note is negative in the tables, positive on paper
    sign = -1 if kind == DocumentKind.CREDIT_NOTE else 1
    total = document.decimal("total") * sign
    seller = document.fields("seller")
    customer = document.fields("customer")
    subscription = document.fields("subscription")
    return {
        "number": document.text("number"),
        "kind": kind,
        "created": document.day("issued_on").isoformat(),
        "billing_month": out.month(_month(document)),
        "currency": out.currency,
        "corrects": document.optional_text("corrects"),
        "reason": document.optional_text("reason"),
        "seller": {
            "name": seller.text("name"),
            "address": _address(seller),
            "tax_id": seller.optional_text("tax_id"),
            "support_email": seller.optional_text("support_email"),
            "support_link": _link("mailto:", seller.optional_text("support_email")),
            "billing_policy_url": seller.optional_text("billing_policy_url"),
            "billing_policy_link": _link("", seller.optional_text("billing_policy_url")),
        },
        "customer": {
            "account_id": customer.text("account_id"),
            "name": customer.optional_text("name") or customer.text("account_id"),
            "email": customer.optional_text("email"),
            "address": _address(customer),
            "tax_id": customer.optional_text("tax_id"),
        },
        "facts": _facts(document, subscription, out),
        "lines": [_line(row, out, sign) for row in document.rows("lines")],
        "usage": _usage(document.rows("usage"), out),
        "changes": [_change(row, out) for row in document.rows("changes")],
        "compared": _comparison(document, out, total) if document.has("comparison") else None,
        "taxes": [_tax(row, out, sign) for row in document.rows("taxes")],
        "tax_note": document.optional_text("tax_note"),
        "net": out.money(document.decimal("net") * sign, "net"),
        "tax": out.money(document.decimal("tax") * sign, "tax"),
        "total_with_currency": out.money_with_currency(total, "total"),
        "nothing_due": total <= 0,
        "notes": document.texts("notes"),
    }


def _month(document: Fields) -> date:
    text = document.text("billing_month")
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise ContentError(f"billing_month: found {text!r}, expected a month YYYY-MM") from error


def _facts(document: Fields, subscription: Fields, out: Print) -> list[tuple[str, str]]:
    """Name and value of the facts beside the customer's address; only the last value may be of any length."""
    package = subscription.optional_text("package_title") or subscription.optional_text("package")
    term = subscription.optional_text("term")
    following = out.day(subscription.day("next_billing_date")) if subscription.has("next_billing_date") else ""
    facts = [
        ("Issued", out.day(document.day("issued_on"))),
        ("Due", "" if document.text("kind") == DocumentKind.CREDIT_NOTE else "Due on issue"),
        ("Billing date", out.day(document.day("billing_date"))),
        ("Next billing date", following),
        ("Corrects", document.optional_text("corrects")),
        ("Package", ", ".join(part for part in (package, term) if part)),
    ]
    return [(name, value) for name, value in facts if value]


def _address(party: Fields) -> list[str]:
    """Address lines, with the country name unless they already include it."""
    lines = [line for line in party.texts("address") if line.strip()]
    code = party.optional_text("country")
    country = locale_named("en_US").territories.get(code.upper(), code)
    said = {line.strip().casefold() for line in lines}
    return lines if not country or {country.casefold(), code.casefold()} & said else [*lines, country]


def _link(scheme: str, target: str) -> str:
    """A link target, only if it is safe beyond doubt; otherwise the page shows plain text."""
    mail = re.fullmatch(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", target, re.ASCII)
    page = re.fullmatch(r"https?://[\w.-]+(:\d+)?(/[\w./%~+?=&#-]*)?", target, re.ASCII)
    return f"{scheme}{target}" if (mail if scheme else page) else ""


def _title(row: Fields) -> str:
    return row.optional_text("metric_title") or row.optional_text("metric")


def _line(row: Fields, out: Print, sign: int) -> dict[str, object]:
    unit = row.optional_text("unit")
    cycle = out.cycle(row.day("cycle_start"), row.day("cycle_end")) if row.has("cycle_start") else ""
    package = row.optional_text("package_title") or row.optional_text("package")
    title = row.text("description") or _title(row) or package
    details = [
        "" if package.casefold() in title.casefold() else package,
        cycle,
        _tariff(row, out),
        *(_bounds(row.fields("bounds"), out) if row.holds("bounds") else []),
        _part(row.fields("part"), out) if row.holds("part") else "",
        *row.texts("arithmetic"),
        *(_settles(row, row.fields("settles"), out) if row.holds("settles") else []),
    ]
    unlimited = row.has("quantity") and not row.has("allowance")
    return {
        "title": title,
        "earlier": row.text("kind") == LineKind.PRIOR_CYCLE,
        "details": [detail for detail in details if detail],
        "measured": row.has("metric") and row.has("quantity"),
        "quantity": out.quantity(row.decimal("quantity"), unit) if row.has("quantity") else "",
        "allowance": "unlimited"
        if unlimited
        else out.quantity(row.decimal("allowance"), unit)
        if row.has("allowance")
        else "",
        "excess": out.quantity(row.decimal("excess"), unit) if row.has("excess") else "",
        "charged": _charged(row, out, unit),
        "price": out.unit_price(row.decimal("unit_price")) if row.has("unit_price") else "",
        "amount": out.money(row.decimal("amount") * sign, row.place("amount")),
    }


def _part(part: Fields, out: Print) -> str:
    """The part of a fee: days of a month, or cycles of a year at the difference of two yearly fees."""
    share = f"{part.text('part')} / {part.text('parts')}"
    fee = out.unit_price(part.decimal("fee"))
    if not part.has("replaced"):
        return f"{fee} \N{MULTIPLICATION SIGN} {share} days"
    replaced = out.unit_price(part.decimal("replaced"))
    return f"({fee} \N{MINUS SIGN} {replaced}) \N{MULTIPLICATION SIGN} {share} cycles"


def _settles(row: Fields, settles: Fields, out: Print) -> list[str]:
    """What is due now for an earlier cycle, which document billed it, and what changed (rules 20 and 23)."""
    unit = row.optional_text("unit")
    said = _bounds(settles, out)
    fee = settles.optional_text("fee")
    before = settles.rows("documents")
    is_same = all(line.text("description") == fee for line in before)
    if fee and not is_same:
        said.append(f"Due now: {fee}")
    for line in before:
        billed = f"Billed before: {out.money(line.decimal('amount'), line.place('amount'))} on {line.text('number')}"
        used = f" for {out.quantity(line.decimal('quantity'), unit)}" if line.has("quantity") else ""
        what = "" if is_same or row.has("metric") else f": {line.text('description')}"
        said.append(f"{billed}{used}{what}")
    return [*said, settles.optional_text("why")]


def _charged(row: Fields, out: Print, unit: str) -> str:
    """Billed units: blocks as a product (13 times 1,000), anything else as a quantity."""
    if not row.has("billed_units"):
        return ""
    billed = row.decimal("billed_units")
    if row.has("tariff"):
        tariff = row.fields("tariff")
        if tariff.text("model") == "block" and tariff.has("size") and tariff.decimal("size") != 1:
            return f"{out.quantity(billed, '')} \N{MULTIPLICATION SIGN} {out.quantity(tariff.decimal('size'), unit)}"
    return out.quantity(billed, unit)


def _tariff(row: Fields, out: Print) -> str:
    """The tiers in words (rule 3); none for blocks, whose columns show number, size and price."""
    if not row.has("tariff"):
        return ""
    tariff = row.fields("tariff")
    model = tariff.text("model")
    unit = row.optional_text("unit")
    if model == "block":
        return ""
    tiers: list[str] = []
    for tier in tariff.rows("tiers"):
        reach = (
            f"up to {out.quantity(tier.decimal('up_to'), unit)}" if tier.has("up_to") else "above" if tiers else "all"
        )
        prices = []
        if tier.has("unit_price") and tier.decimal("unit_price"):
            prices.append(f"{out.unit_price(tier.decimal('unit_price'))} each")
        if tier.has("flat") and tier.decimal("flat"):
            prices.append(out.unit_price(tier.decimal("flat")))
        tiers.append(f"{reach}: {' plus '.join(prices) or 'free'}")
    described = {
        "graduated": "Each tier prices its own part",
        "volume": "The tier reached prices all units",
        "stairstep": "One price for the tier reached",
    }
    if model not in described:
        raise ContentError(f"{tariff.place('model')}: found {model!r}, expected block, {', '.join(described)}")
    return f"{described[model]} ({'; '.join(tiers)})"


def _bounds(row: Fields, out: Print) -> list[str]:
    """Minimum and maximum of the tariff (rule 3): they explain an amount that differs from its prices."""
    return [
        f"{words} {out.unit_price(row.decimal(bound))}"
        for bound, words in (("minimum", "At least"), ("maximum", "At most"))
        if row.has(bound)
    ]


def _usage(rows: Sequence[Fields], out: Print) -> list[dict[str, object]]:
    """Usage rows grouped by cycle and package, in the order of the content."""

    def heading(row: Fields) -> tuple[str, str]:
        return out.cycle(row.day("cycle_start"), row.day("cycle_end")), row.text("package_title")

    return [
        {"span": span, "package": package, "metrics": [_usage_row(row, out) for row in group]}
        for (span, package), group in groupby(rows, key=heading)
    ]


def _usage_row(row: Fields, out: Print) -> dict[str, object]:
    unit = row.optional_text("unit")
    quantity = row.decimal("quantity")
    excess = row.decimal("excess") if row.has("excess") else Decimal(0)
    allowance = row.decimal("allowance") if row.has("allowance") else None
    return {
        "metric": _title(row),
        "quantity": out.quantity(quantity, unit),
        "allowance": "" if allowance is None else out.quantity(allowance, unit),
        "excess": out.quantity(excess, unit) if excess > 0 else "",
        "bar": None if allowance is None else bar(quantity, allowance),
    }


def bar(quantity: Decimal, allowance: Decimal) -> str:
    """Length in millimetres of the second part of a usage bar, which is scaled to the larger of usage and allowance.

    The second part is the excess over the allowance, or else the unused allowance.
    """
    used = max(quantity, Decimal(0))
    scale = max(used, allowance)
    within = Decimal(0)
    if scale > 0:
        within = min(used, max(allowance, Decimal(0))) / scale * BAR_MILLIMETRES
    # Format as fixed-point: this is the only value of a document that reaches a style attribute.
    return f"{BAR_MILLIMETRES - within:.2f}"


def _change(row: Fields, out: Print) -> dict[str, object]:
    evidence = []
    for proof in row.rows("evidence"):
        unit = proof.optional_text("unit")
        evidence.append(
            {
                "metric": _title(proof),
                "quantity": out.quantity(proof.decimal("quantity"), unit),
                "allowance": out.quantity(proof.decimal("allowance"), unit) if proof.has("allowance") else "",
            }
        )
    return {
        "origin": row.optional_text("from_title") or row.text("from_package"),
        "target": row.optional_text("to_title") or row.text("to_package"),
        "effective_on": out.day(row.day("effective_on")),
        "sentence": row.text("sentence"),
        "evidence": evidence,
    }


def _comparison(document: Fields, out: Print, total: Decimal) -> dict[str, object]:
    """Comparison with the last document: why the total is higher or lower (rule 23)."""
    comparison = document.fields("comparison")
    difference = comparison.decimal("difference")
    movements = [
        {
            "label": row.text("label"),
            "previous": out.money(row.decimal("previous"), row.place("previous")),
            "current": out.money(row.decimal("current"), row.place("current")),
            "difference": out.change_of_money(row.decimal("difference"), row.place("difference")),
        }
        for row in comparison.rows("movements")
    ]
    return {
        "number": comparison.text("previous_number"),
        "date": out.day(comparison.day("previous_date")),
        "previous": out.money_with_currency(comparison.decimal("previous_total"), comparison.place("previous_total")),
        "current": out.money_with_currency(total, "total"),
        "difference": out.money_with_currency(abs(difference), comparison.place("difference")),
        "direction": "higher" if difference > 0 else "lower" if difference < 0 else "same",
        "movements": movements,
        "lined": len(movements) <= MOVEMENTS_KEPT_TOGETHER and all(map(is_one_line, movements)),
        "tall": len(movements) > MOVEMENTS_KEPT_TOGETHER,
    }


def is_one_line(movement: Mapping[str, str]) -> bool:
    """Whether a movement fits on one line in each column, so that its columns align."""
    label = movement["label"]
    widths = len(label) + sum(east_asian_width(character) in "WF" for character in label)
    numbers = [value for name, value in movement.items() if name != "label"]
    return label.isprintable() and widths <= LABEL_WIDTHS and max(map(len, numbers)) <= NUMBER_WIDTHS


def _tax(row: Fields, out: Print, sign: int) -> dict[str, object]:
    reason = row.text("reason")
    if reason not in tuple(TaxReason):
        raise ContentError(f"{row.place('reason')}: found {reason!r}, expected charged, exempt or reverse_charge")
    # A correction is taxed as billed, and names the document that billed it (rule 24).
    billed_on = f"as on {row.text('taxed_as')}" if row.holds("taxed_as") else ""
    place = " ".join(part for part in (row.optional_text("country"), row.optional_text("region")) if part)
    return {
        "name": row.text("name"),
        "place": ", ".join(part for part in (place, billed_on) if part),
        "rate": out.percent(row.decimal("rate")),
        "taxable": out.money(row.decimal("taxable") * sign, row.place("taxable")),
        "amount": out.money(row.decimal("amount") * sign, row.place("amount")),
        "reason": reason,
    }
