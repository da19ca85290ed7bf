"""VAT identifiers with the prefix of their country, as EN 16931 wants them (BR-CO-09)."""

import re
from typing import Final

# Prefixes of VAT identifiers of the EU, Northern Ireland, and of neighbours that write theirs with one.
_WITH_PREFIX: Final = "AT BE BG CH CY CZ DE DK EE EL ES FI FR GB HR HU IE IT LI LT LU LV MT NL NO PL PT RO SE SI SK XI"
_PREFIXES: Final = frozenset(_WITH_PREFIX.split())
_OTHER: Final = {"GR": "EL"}


def vat_id(tax_id: str, country: str) -> str:
    """A tax id without blanks, with the prefix of its country: of one without, `country` is put before it."""
    compact = re.sub(r"[\s.]", "", tax_id).upper()
    if not compact or compact[:2] in _PREFIXES | {country}:
        return compact
    return f"{_OTHER.get(country, country)}{compact}"
