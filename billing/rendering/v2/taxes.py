"""Taxes on paper: per rate or exemption, why none is charged, and the amount in the currency of the tax's country."""

from collections.abc import Sequence
from typing import Final

from billing.model.codes import TaxReason
from billing.rendering.content import Fields
from billing.rendering.errors import ContentError
from billing.rendering.v2.formats import Formats
from billing.rendering.words import N_, Words

_ROWS: Final = {
    "E": N_("{tax}: exempt, on {amount}"),
    "AE": N_("{tax}: reverse charge, on {amount}"),
    "K": N_("{tax}: intra-Community supply, on {amount}"),
    "G": N_("{tax}: export, on {amount}"),
    "O": N_("{tax}: not subject to tax, on {amount}"),
}
"""Row of a tax that is not charged, by category of EN 16931 (UNCL 5305)."""
_NOTES: Final = {
    "Z": N_("Taxed at the zero rate."),
    "E": N_("Exempt from tax."),
    "AE": N_("Reverse charge: the customer is liable for the tax."),
    "K": N_("Intra-Community supply, exempt from tax."),
    "G": N_("Export, exempt from tax."),
    "O": N_("Not subject to tax."),
}
"""What a document has to say where no tax is charged, in the words of the law of each language."""


def tax_row(row: Fields, words: Words, out: Formats, sign: int) -> dict[str, str]:
    """A tax with its rate and what it is charged on, or why it is not charged."""
    category = _category(row)
    place = " ".join(part for part in (row.optional("country"), row.optional("region")) if part)
    name = f"{row.text('name')} ({place})" if place else row.text("name")
    taxable = out.money(row.decimal("taxable") * sign, row.place("taxable"))
    if category in _ROWS:
        text = words.gettext(_ROWS[category], tax=name, amount=taxable)
    elif row.holds("taxed_as"):
        # A correction is taxed as billed, and names the document that billed it (rule 24).
        text = words.gettext(
            "{tax} {rate} on {amount}, as on {number}",
            tax=name,
            rate=out.percent(row.decimal("rate")),
            amount=taxable,
            number=row.text("taxed_as"),
        )
    else:
        text = words.gettext(
            "{tax} {rate} on {amount}", tax=name, rate=out.percent(row.decimal("rate")), amount=taxable
        )
    return {"text": text, "amount": out.money(row.decimal("amount") * sign, row.place("amount"))}


def _category(row: Fields) -> str:
    reason = row.text("reason")
    if reason not in tuple(TaxReason):
        raise ContentError(f"{row.place('reason')}: found {reason!r}, expected charged, exempt or reverse_charge")
    category = row.optional("category")
    if reason == TaxReason.CHARGED:
        return category
    if reason == TaxReason.REVERSE_CHARGE:
        return "AE"
    return category if category in _ROWS else "E"


def tax_notes(document: Fields, taxes: Sequence[Fields], words: Words) -> list[str]:
    """Why no tax is charged: the sentence of the law, then the reason that the business gave; each once."""
    said: list[str] = []
    for row in taxes:
        category = _category(row)
        if category in _NOTES:
            said.append(words.gettext(_NOTES[category]))
        said.append(row.optional("exemption_reason"))
    if not taxes:
        lines = {row.optional("tax_category") for row in document.rows("lines")}
        (category,) = lines if len(lines) == 1 else ("",)
        said.append(words.gettext(_NOTES[category]) if category in _NOTES else "")
    return list(dict.fromkeys(text for text in said if text))


def tax_in_other_currency(document: Fields, words: Words, out: Formats, sign: int) -> str:
    """The tax amount in the currency of the tax's country, where the document is in another; else empty."""
    if not document.holds("tax_currency"):
        return ""
    other = document.fields("tax_currency")
    if not other.holds("tax"):
        return words.gettext(
            "Tax amount in {currency}: not stated, no exchange rate is known", currency=other.text("currency")
        )
    amount = out.with_currency(out.unit_price(other.decimal("tax") * sign), other.text("currency"))
    if not other.holds("rate") or not other.holds("rate_on"):
        return words.gettext("Tax amount in the currency of the tax: {amount}", amount=amount)
    return words.gettext(
        "Tax amount in the currency of the tax: {amount} (exchange rate {rate} of {date})",
        amount=amount,
        rate=out.quantity(other.decimal("rate"), ""),
        date=out.day(other.day("rate_on")),
    )
