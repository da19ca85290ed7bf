from decimal import Decimal, localcontext

import pytest
from babel import Locale
from babel.numbers import format_decimal

from billing.rendering.locale_formats import EXACT, Print

LOCALES = (
    *("en_US", "en_IN", "en_ZA", "de_DE", "de_AT", "de_CH", "fr_FR", "fr_CH", "es_ES", "es_MX", "it_IT", "it_CH"),
    *("nl_NL", "nl_BE", "pt_BR", "pt_PT", "pl_PL", "ja_JP", "hi_IN", "bn_BD", "ar_EG", "fa_IR", "sv_SE", "ru_RU"),
)
NUMBERS = ("0", "-0.00", "1", "-1", "999", "1000", "-1000.5", "9999.99", "1E+3", "0.000000001", "-1234567890.12345")


@pytest.mark.parametrize("name", LOCALES)
@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_is_written_as_cldr_says(name: str, number: str) -> None:
    value = Decimal(number)
    with localcontext(EXACT):
        written = Print(name, "USD", 2)
        # Compare by a pattern that Babel reads itself.
        grouping = Locale.parse(name).decimal_formats[None].pattern.split(".")[0]
        for decimals, text in (
            (2, written.unit_price(value)),
            (0, written.quantity(value, "")),
        ):
            pattern = f"{grouping}.{'0' * decimals}{'#' * (20 - decimals)}"
            expected = format_decimal(value or Decimal(0), pattern, written.locale)
            assert text == expected
