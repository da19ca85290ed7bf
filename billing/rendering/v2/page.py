"""Page of template version 2: content of version 2 in the words, numbers and customs of the document's language."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import Final

from billing.model.codes import DocumentKind
from billing.rendering.content import Fields
from billing.rendering.errors import ContentError
from billing.rendering.fonts import covered_by_inter, width_in_ems
from billing.rendering.own_templates import unpacked
from billing.rendering.v2.comparison import change_of, comparison_of
from billing.rendering.v2.footer import footer_of
from billing.rendering.v2.formats import SPACE, Formats
from billing.rendering.v2.lines import (
    MILLIMETRES_PER_POINT,
    Quantities,
    columns_of,
    line_of,
    spelt_out,
    with_one_row_a_coupon,
)
from billing.rendering.v2.parties import address_lines, mail_link, page_link, pay_address, registration, tax_ids
from billing.rendering.v2.payment_code import qr_image, transfer_text
from billing.rendering.v2.taxes import tax_in_other_currency, tax_notes, tax_row
from billing.rendering.words import Words, words

FACTS: Final = 76.0  # Millimetres of names and values beside the customer's address.
FACT_POINTS: Final = 8.6
LONGEST_FACT: Final = 44.0
TITLE: Final = 74.0
TITLE_POINTS: Final = 23.0
METRIC: Final = 37.0  # Millimetres of a usage row's name and of its text beside the bar.
SHARE: Final = 69.0
BAR_MILLIMETRES: Final = Decimal(62)
MOST_CORRECTED: Final = 3
"""Documents that the facts of a credit note name; each line names its own."""


@dataclass(frozen=True)
class Page:
    """What a template draws from.

    Attributes
    ----------
    context
        Names of the template; every value is a text, except lists, flags and lengths.
    images
        Images of this document alone by address, with their media type.
    language
        The language whose words the page says.
    own, own_name
        Files of the home's own template by name, and the SHA-256 of their archive; empty for the release's.
    """

    context: dict[str, object]
    images: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    language: str = "en"
    own: Mapping[str, bytes] = field(default_factory=dict)
    own_name: str = ""


def page_of(content: Mapping[str, object], resources: Mapping[str, bytes] | None = None) -> Page:
    """Template context of a document.

    Parameters
    ----------
    content
        Content of version 2.
    resources
        The files that the content names by SHA-256: logo, translation, template.

    Raises
    ------
    ContentError
        Names the value that cannot be printed, or the file that is missing.
    """
    document = Fields(content)
    kind = document.text("kind")
    if kind not in tuple(DocumentKind):
        raise ContentError(f"kind: found {kind!r}, expected invoice, credit_note or debit_note")
    said = words(document.optional("language") or "en", own=_resource(document, "translation", resources or {}))
    out = Formats(
        document.optional("locale"), said.language, document.text("currency"), document.integer("minor_units")
    )
    images: dict[str, tuple[bytes, str]] = {}
    logo = _resource(document, "logo", resources or {})
    if logo is not None:
        address = f"overage:logo/{document.fields('resources').text('logo')}"
        images[address] = logo, "image/png" if logo.startswith(b"\x89PNG") else "image/svg+xml"
    context = _context(document, kind, said, out)
    context["logo"] = next(iter(images), "")
    code = _transfer_code(document, kind)
    if code:
        images["overage:transfer-code"] = qr_image(code), "image/png"
    context["transfer_code"] = "overage:transfer-code" if code else ""
    archive = _resource(document, "template", resources or {})
    if archive is None:
        return Page(context, images, said.language)
    name = document.fields("resources").text("template")
    return Page(context, images, said.language, unpacked(archive), name)


def _resource(document: Fields, name: str, resources: Mapping[str, bytes]) -> bytes | None:
    if not document.holds("resources") or not document.fields("resources").holds(name):
        return None
    sha256 = document.fields("resources").text(name)
    if sha256 not in resources:
        raise ContentError(f"resources.{name}: found no file {sha256}, expected the one kept when it was issued")
    return resources[sha256]


def _context(document: Fields, kind: str, said: Words, out: Formats) -> dict[str, object]:
    # rule 19: a credit note is negative in the tables, positive on paper
    sign = -1 if kind == DocumentKind.CREDIT_NOTE else 1
    total, due = document.decimal("total") * sign, document.decimal("due") * sign
    seller, customer = document.fields("seller"), document.fields("customer")
    subscription, number = document.fields("subscription"), document.text("number")
    title, term = _title(kind, said), subscription.optional("term")
    lines = [line_of(row, said, out, sign, term) for row in with_one_row_a_coupon(document.rows("lines"))]
    columns = columns_of(lines, out.money(total, "total"), out.money_with_currency(total, "total"))
    taxes = document.rows("taxes")
    before, between, after = _page_numbers(said)
    footer, closing = footer_of(seller)
    name = customer.optional("name") or customer.text("account_id")
    return {
        "_": said.gettext,
        "gettext": said.gettext,
        "ngettext": said.ngettext,
        "pgettext": said.pgettext,
        "language": said.language,
        "direction": said.direction,
        "number": number,
        "kind": kind,
        "title": title,
        "is_long_title": width_in_ems(title, bold=True) * TITLE_POINTS * MILLIMETRES_PER_POINT > TITLE,
        "running": f"{footer}{_shortened(seller.text('name'))} · {title} {number} · {before}",
        "page_between": between,
        "page_after": after,
        "created": document.day("issued_on").isoformat(),
        "currency": out.currency,
        "accent": _accent(seller),
        "seller": _seller(seller, said, out),
        "customer": {
            "heading": said.gettext("Credited to") if sign < 0 else said.gettext("Billed to"),
            "account": said.gettext("Account {account}", account=customer.text("account_id")),
            "account_id": customer.text("account_id"),
            "name": name,
            "email": customer.optional("email"),
            "address": address_lines(customer, said, out),
            "ids": [text for text in (*tax_ids(customer, said), registration(customer, said)) if text],
        },
        "facts": _facts(document, subscription, said, out),
        "amount": _amount(document, kind, due, said, out),
        "why": _why(document, said),
        "compared": comparison_of(document, out, said) if document.holds("comparison") else None,
        "changes": [change_of(row, said, out) for row in document.rows("changes")],
        "lines": [spelt_out(line, said) for line in lines] if columns.spelt else lines,
        "columns": columns,
        "net": out.money(document.decimal("net") * sign, "net"),
        "taxes": [tax_row(row, said, out, sign) for row in taxes] or [_no_tax(document, said, out, sign)],
        "tax_in_other_currency": tax_in_other_currency(document, said, out, sign),
        "tax_notes": tax_notes(document, taxes, said),
        "total": out.money_with_currency(total, "total"),
        "credits": _credits(document, said, out, sign),
        "due": out.money_with_currency(due, "due"),
        "usage": _usage(document.rows("usage"), said, out),
        "payment": _payment(document, kind, due, said, out),
        "notes": [*document.texts("notes"), *closing],
        # An unchanged number per document, for templates that count or compare.
        "sign": sign,
    }


def _title(kind: str, said: Words) -> str:
    if kind == DocumentKind.CREDIT_NOTE:
        return said.gettext("Credit note")
    return said.gettext("Debit note") if kind == DocumentKind.DEBIT_NOTE else said.gettext("Invoice")


def _shortened(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:79]}…"


def _page_numbers(said: Words) -> tuple[str, str, str]:
    """The text around the page's number and the number of pages, which only the page itself can count."""
    text = said.gettext("Page {page} of {pages}")
    before, _, rest = text.partition("{page}")
    between, _, after = rest.partition("{pages}")
    return before, between, after


def _accent(seller: Fields) -> dict[str, str]:
    """The accent colour of a seller, and whether text on it is light or dark; empty for the colour of the sheet."""
    colour = seller.optional("accent")
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        return {}
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in channels]
    luminance = sum(weight * it for weight, it in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    # WCAG: white text has a contrast of 4.5 or more on colours up to this luminance.
    return {"colour": colour.lower(), "text": "light" if luminance <= 1.05 / 4.5 - 0.05 else "dark"}


def _seller(seller: Fields, said: Words, out: Formats) -> dict[str, object]:
    support, policy = seller.optional("support_email"), seller.optional("billing_policy_url")
    contact = seller.fields("contact") if seller.holds("contact") else None
    people = [contact.optional(key) for key in ("name", "phone", "email")] if contact else []
    return {
        "name": seller.text("name"),
        "address": address_lines(seller, said, out),
        "ids": [text for text in (*tax_ids(seller, said), registration(seller, said)) if text],
        "contact": [out.signed(text) for text in people if text and text != support],
        "support_email": support,
        "support_link": mail_link(support),
        "billing_policy": said.gettext("Billing policy: {address}", address=policy) if policy else "",
        "billing_policy_link": page_link(policy),
    }


def _facts(document: Fields, subscription: Fields, said: Words, out: Formats) -> dict[str, object]:
    """Names and values beside the customer's address; in two cells of lines where each fits on one line."""
    package = subscription.optional("package_title") or subscription.optional("package")
    term = subscription.optional("term")
    is_due = document.text("kind") != DocumentKind.CREDIT_NOTE and document.holds("due_on")
    following = out.day(subscription.day("next_billing_date")) if subscription.holds("next_billing_date") else ""
    if package and term == "yearly":
        package = said.gettext("{package}, yearly", package=package)
    elif package and term == "monthly":
        package = said.gettext("{package}, monthly", package=package)
    is_billed_today = document.text("billing_date") == document.text("issued_on")
    facts = [
        (said.gettext("Issued"), out.day(document.day("issued_on"))),
        (said.gettext("Due date"), out.day(document.day("due_on")) if is_due else ""),
        (said.gettext("Service period"), _service_period(document, said, out)),
        (said.gettext("Billing date"), "" if is_billed_today else out.day(document.day("billing_date"))),
        (said.gettext("Next billing date"), following),
        *(
            fact
            for number, on in _corrected(document)[:MOST_CORRECTED]
            for fact in (
                (said.gettext("Corrects"), number),
                (said.gettext("Corrected document of"), out.day(on) if on else ""),
            )
        ),
        (said.gettext("Order number"), document.optional("order_reference")),
        (said.gettext("Your reference"), document.optional("buyer_reference")),
        (said.gettext("Package"), package),
    ]
    shown = [(name, value) for name, value in facts if value]
    widest = max(width_in_ems(name) for name, _ in shown) * FACT_POINTS * MILLIMETRES_PER_POINT + 2.0
    names = min(widest, LONGEST_FACT)
    points = FACT_POINTS * MILLIMETRES_PER_POINT
    is_latin = covered_by_inter("".join(map("".join, shown)).replace("\n", ""))
    longest = max(width_in_ems(value) for _, value in shown) * points
    fits = is_latin and widest <= LONGEST_FACT and longest <= FACTS - names
    # Half of the width each costs nothing to say.
    is_usual = fits and max(widest, longest) <= FACTS / 2
    return {"rows": shown, "lined": fits, "width": "" if is_usual or not fits else f"{names:.1f}"}


def _corrected(document: Fields) -> list[tuple[str, date | None]]:
    """The document that a note corrects, with its day; of a credit note that is none those that its lines give back."""
    if document.holds("corrected"):
        row = document.fields("corrected")
        return [(row.text("number"), row.day("issued_on") if row.holds("issued_on") else None)]
    if number := document.optional("corrects"):
        return [(number, None)]
    if document.text("kind") != DocumentKind.CREDIT_NOTE:
        return []
    lines = [row for row in document.rows("lines") if row.holds("gives_back")]
    days = {row.text("gives_back"): row.day("gives_back_on") if row.holds("gives_back_on") else None for row in lines}
    return list(days.items())


def _service_period(document: Fields, said: Words, out: Formats) -> str:
    """When what is billed was supplied: the cycle that all lines share, else as each line says."""
    cycles = {
        (row.day("cycle_start"), row.day("cycle_end")) for row in document.rows("lines") if row.holds("cycle_start")
    }
    if not cycles:
        return ""
    if len(cycles) > 1:
        return said.gettext("as stated on each line")
    start, end = cycles.pop()
    return _short_cycle(start, end, out)


def _short_cycle(start: date, end: date, out: Formats) -> str:
    text = out.cycle(start, end)
    fits = width_in_ems(text) * FACT_POINTS * MILLIMETRES_PER_POINT <= FACTS - 30.0
    return text if fits else text.replace(" \N{EN DASH} ", " \N{EN DASH}\n")


def _amount(document: Fields, kind: str, due: Decimal, said: Words, out: Formats) -> dict[str, str]:
    """The one number that matters, what it is and until when it is to be paid."""
    written = out.money_with_currency(due, "due")
    if kind == DocumentKind.CREDIT_NOTE:
        detail = said.gettext("In your favour, nothing to pay")
        corrected = _corrected(document)
        if len(corrected) == 1:
            ((number, on),) = corrected
            detail = said.gettext("Corrects {number}", number=number)
            if on:
                detail = said.gettext("Corrects {number} of {date}", number=number, date=out.day(on))
        return {"heading": said.gettext("Total credited"), "detail": detail, "sum": written}
    if due <= 0:
        credited = document.decimal("credits_applied") > 0 if document.holds("credits_applied") else False
        detail = said.gettext("Covered by your credit balance") if credited else ""
        return {"heading": said.gettext("Nothing to pay"), "detail": detail, "sum": written}
    return {"heading": said.gettext("Amount due"), "detail": _due(document, said, out), "sum": written}


def _due(document: Fields, said: Words, out: Formats) -> str:
    due_on = document.day("due_on") if document.holds("due_on") else document.day("issued_on")
    if due_on <= document.day("issued_on"):
        return said.gettext("Due on issue")
    return said.gettext("Due by {date}", date=out.day(due_on))


def _why(document: Fields, said: Words) -> dict[str, str] | None:
    """Why a correction was made: the words of finance, or those of its code."""
    text = document.optional("reason")
    if document.optional("reason_code") == "refund_window":
        text = said.gettext("Refund within the refund window.")
    return {"heading": said.gettext("Why you receive this document"), "text": text} if text else None


def _no_tax(document: Fields, said: Words, out: Formats, sign: int) -> dict[str, str]:
    """The row of a document without a tax: an amount of zero is never left unexplained."""
    amount = document.decimal("tax") * sign
    text = said.gettext("Tax") if amount else said.gettext("Tax: none applies")
    return {"text": text, "amount": out.money(amount, "tax")}


def _credits(document: Fields, said: Words, out: Formats, sign: int) -> list[tuple[str, str]]:
    """Credits that lower what is due, and what is left to pay; nothing when there are none."""
    if not document.holds("credits_applied") or not document.decimal("credits_applied"):
        return []
    applied, due = document.decimal("credits_applied") * sign, document.decimal("due") * sign
    if document.text("kind") == DocumentKind.CREDIT_NOTE:
        return [
            (said.gettext("Given back as prepaid credit"), out.money(-applied, "credits_applied")),
            (said.gettext("Total credited"), out.money_with_currency(due, "due")),
        ]
    return [
        (said.gettext("Credits applied"), out.money(-applied, "credits_applied")),
        (said.gettext("Amount due"), out.money_with_currency(due, "due")),
    ]


def _payment(document: Fields, kind: str, due: Decimal, said: Words, out: Formats) -> dict[str, object]:
    """How and when to pay, the seller's bank and pay page, and what else a document has to say."""
    seller, number = document.fields("seller"), document.text("number")
    is_credit = kind == DocumentKind.CREDIT_NOTE
    heading = said.gettext("About this credit") if is_credit else said.gettext("Payment")
    terms, bank, pay = [], [], {}
    if is_credit:
        terms.append(said.gettext("This amount lowers what your account owes."))
    elif due <= 0:
        terms.append(said.gettext("There is nothing to pay."))
    else:
        terms.append(_terms(document, said, out))
        bank = _bank(seller, said, out)
        address = pay_address(seller, number)
        if page_link(address):
            pay = {"text": said.gettext("Pay online: {address}", address=address), "link": page_link(address)}
    if kind == DocumentKind.INVOICE:
        terms.append(
            said.gettext(
                "Package fees are charged in advance, for the cycle that begins on the billing date. Usage over an "
                "allowance is charged afterwards, at the prices of the package in force when it happened."
            )
        )
    if seller.optional("country").upper() == "FR":
        terms.append(said.gettext("Nature of the supply: services"))
    return {
        "heading": heading,
        "terms": terms,
        "bank": bank,
        "pay": pay,
        "scan": said.gettext("Scan to pay by bank transfer"),
        "questions": said.gettext("Questions?"),
    }


def _terms(document: Fields, said: Words, out: Formats) -> str:
    number, currency, issued = document.text("number"), out.currency, document.day("issued_on")
    due_on = document.day("due_on") if document.holds("due_on") else issued
    days = (due_on - issued).days
    if days <= 0:
        return said.gettext(
            "Payment is due on issue, in {currency}. Please quote {number}.", currency=currency, number=number
        )
    return said.ngettext(
        "Payable within {days} day of issue, by {date}, in {currency}. Please quote {number}.",
        "Payable within {days} days of issue, by {date}, in {currency}. Please quote {number}.",
        days,
        days=str(days),
        date=out.day(due_on),
        currency=currency,
        number=number,
    )


def _bank(seller: Fields, said: Words, out: Formats) -> list[str]:
    if not seller.holds("bank"):
        return []
    bank = seller.fields("bank")
    holder, iban, bic = bank.optional("holder"), bank.optional("iban"), bank.optional("bic")
    numbers = (f"IBAN {out.iban(iban)}" if iban else "", f"BIC {bic}" if bic else "")
    lines = (
        said.gettext("Account holder: {name}", name=holder) if holder else "",
        " · ".join(text.replace(" ", SPACE) for text in numbers if text),
    )
    return [text for text in lines if text]


def _transfer_code(document: Fields, kind: str) -> str:
    seller = document.fields("seller")
    if kind == DocumentKind.CREDIT_NOTE or not seller.holds("bank"):
        return ""
    bank = seller.fields("bank")
    return transfer_text(
        holder=bank.optional("holder") or seller.text("name"),
        iban=bank.optional("iban"),
        bic=bank.optional("bic"),
        amount=document.decimal("due"),
        currency=document.text("currency"),
        reference=document.text("number"),
    )


def _usage(rows: Sequence[Fields], said: Words, out: Formats) -> list[dict[str, object]]:
    """Usage rows grouped by cycle and package, in the order of the content."""

    def heading(row: Fields) -> tuple[str, str]:
        return out.cycle(row.day("cycle_start"), row.day("cycle_end")), row.text("package_title")

    return [
        {"span": span, "package": package, "metrics": [_usage_row(row, said, out) for row in group]}
        for (span, package), group in groupby(rows, key=heading)
    ]


def _usage_row(row: Fields, said: Words, out: Formats) -> dict[str, object]:
    amount_of = Quantities(row, out)
    quantity, excess = row.decimal("quantity"), row.decimal("excess") if row.holds("excess") else Decimal(0)
    allowance = row.decimal("allowance") if row.holds("allowance") else None
    if allowance is None:
        share = said.gettext("{quantity}, unlimited", quantity=amount_of(quantity))
    else:
        share = said.gettext("{quantity} of {allowance}", quantity=amount_of(quantity), allowance=amount_of(allowance))
    metric = row.optional("metric_title") or row.text("metric")
    over = said.gettext("{quantity} over", quantity=amount_of(excess)) if excess > 0 else ""
    points = FACT_POINTS * MILLIMETRES_PER_POINT
    share_width = width_in_ems(f"{share} · ") + width_in_ems(over, bold=True)
    is_one_line = width_in_ems(metric) * points <= METRIC and share_width * points <= SHARE
    return {
        "metric": metric,
        "share": share,
        "excess": over,
        "tall": not is_one_line or not covered_by_inter(f"{metric}{share}{over}"),
        "bar": None if allowance is None else bar(quantity, allowance),
    }


def bar(quantity: Decimal, allowance: Decimal) -> str:
    """Length in millimetres of the second part of a usage bar, which is scaled to the larger of usage and allowance.

    The second part is the excess over the allowance, or else the unused allowance.
    """
    used = max(quantity, Decimal(0))
    scale = max(used, allowance)
    within = min(used, max(allowance, Decimal(0))) / scale * BAR_MILLIMETRES if scale > 0 else Decimal(0)
    # Format as fixed-point: it reaches a style attribute.
    return f"{BAR_MILLIMETRES - within:.2f}"
