"""Numbers are written as Babel writes them by the locale's pattern."""

from decimal import Decimal, localcontext

import pytest
from babel import Locale
from babel.localedata import locale_identifiers

from billing.rendering.locale_formats import EXACT, _by_pattern, _format_number

NUMBERS = ("0", "0.00", "-0.0", "1E+3", "999", "1000", "9999.50", "-1234.5", "1E-18", "12345678901234567890.123456789")


@pytest.mark.parametrize("least", [0, 2, 3])
def test_numbers_are_those_of_the_pattern_in_every_locale(least: int) -> None:
    powers = [Decimal(7**power).scaleb(-(power % 9)) for power in range(24)]
    with localcontext(EXACT):
        for name in locale_identifiers():
            locale = Locale.parse(name)
            for number in (*map(Decimal, NUMBERS), *powers):
                assert _format_number(number, locale, least) == _by_pattern(number, locale, least), (name, number)


@pytest.mark.parametrize(
    ("locale", "written"),
    [
        ("en_US", "1,234,567.5"),
        ("de_CH", "1\N{RIGHT SINGLE QUOTATION MARK}234\N{RIGHT SINGLE QUOTATION MARK}567.5"),
        ("hi_IN", "12,34,567.5"),
    ],
)
def test_digits_stand_in_the_groups_of_the_locale(locale: str, written: str) -> None:
    assert _format_number(Decimal("1234567.50"), Locale.parse(locale)) == written
