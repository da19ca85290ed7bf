"""Tax categories as EN 16931 knows them: their rate, and why nothing is charged."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from billing.model.codes import UNTAXED, TaxCategory

OUTSIDE: Final = TaxCategory.OUTSIDE.value
EXEMPTIONS: Final[Mapping[str, tuple[str, str]]] = {
    TaxCategory.EXEMPT.value: ("", ""),
    TaxCategory.REVERSE_CHARGE.value: ("Reverse charge", "VATEX-EU-AE"),
    TaxCategory.INTRA_COMMUNITY.value: ("Intra-Community supply", "VATEX-EU-IC"),
    TaxCategory.EXPORT.value: ("Export outside the EU", "VATEX-EU-G"),
    OUTSIDE: ("Not subject to VAT", "VATEX-EU-O"),
}
"""Reason and code (BT-120, BT-121) where a document has none of its own; of an exemption there is no usual one."""


class TaxKey(NamedTuple):
    """What tells a row of taxes apart: its category, and its rate in percent (None of category O)."""

    category: str
    rate: Decimal | None


def tax_key(category: str, rate: str | None) -> TaxKey:
    """The key of a tax with its stored rate, a fraction: the rate of what is not taxed is 0."""
    if category == OUTSIDE:
        return TaxKey(category, None)
    if category in UNTAXED:
        return TaxKey(category, Decimal(0))
    percent = Decimal(rate or 0) * 100
    return TaxKey(category, percent.quantize(Decimal(1)) if percent == percent.to_integral() else percent.normalize())
