"""The currency of a country: in it a tax authority wants its tax (rule 24, article 230 of the VAT directive)."""

from functools import cache
from typing import Final

_NEWER: Final = {"BG": "EUR", "XI": "GBP"}
"""What CLDR does not know yet: the euro of Bulgaria since 2026, and Northern Ireland as the VAT directive names it."""


@cache
def currency_of_country(country: str) -> str | None:
    """The legal tender of a country (ISO 3166-1 alpha-2) by CLDR; None where there is none, or the code is none."""
    if country in _NEWER:
        return _NEWER[country]
    # Import lazily: few homes tax in another currency than they bill in.
    from babel.numbers import get_territory_currencies

    found = get_territory_currencies(country)
    return found[0] if found else None
