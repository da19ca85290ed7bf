"""Locale-aware number and date formats."""

from datetime import date, timedelta
from decimal import Context, Decimal
from functools import cache
from typing import TYPE_CHECKING

from billing.rendering.errors import ContentError
from billing.rendering.fonts import covered_by_inter

if TYPE_CHECKING:
    from babel import Locale
    from babel.numbers import NumberPattern

# Babel shares data between locales by alias, so some formats depend on the locales used before: abbreviated and
# stand-alone months in many languages, long dates only in these (tried for every locale of Babel 2.18).
UNSTABLE_DATES = frozenset({"yo"})
EXACT = Context(prec=100)  # Babel rounds to the context's precision; printing must not round.


class Print:
    """Formats numbers and dates in the customer's locale; use it under the context `EXACT`."""

    def __init__(self, locale: str, currency: str, minor_units: int) -> None:
        self.locale = locale_named(locale)
        self.date_locale = _locale_for_dates(locale)
        self.currency = currency
        self.minor_units = minor_units

    def money(self, value: Decimal, place: str) -> str:
        """An amount in the currency's minor units. Refuses to round: only rating rounds (rule 4)."""
        if _decimals(value) > self.minor_units:
            raise ContentError(f"{place}: found {value}, expected at most {self.minor_units} decimals")
        return _format_number(value, self.locale, self.minor_units)

    def money_with_currency(self, value: Decimal, place: str) -> str:
        return f"{self.currency}\N{NO-BREAK SPACE}{self.money(value, place)}"

    def change_of_money(self, value: Decimal, place: str) -> str:
        return f"+{self.money(value, place)}" if value > 0 else self.money(value, place)

    def unit_price(self, value: Decimal) -> str:
        """A price with all its decimals: 0.003 per unit must not print as 0.00."""
        return _format_number(value, self.locale, self.minor_units)

    def quantity(self, value: Decimal, unit: str) -> str:
        number = _format_number(value, self.locale)
        return f"{number}\N{NO-BREAK SPACE}{unit}" if unit else number

    def percent(self, rate: Decimal) -> str:
        return f"{_format_number(rate * 100, self.locale)}%"

    def day(self, value: date) -> str:
        from babel.dates import format_date

        return format_date(value, "long", self.date_locale)

    def month(self, value: date) -> str:
        from babel.dates import format_date

        return format_date(value, "MMMM y", self.date_locale)

    def cycle(self, start: date, end: date) -> str:
        """A half-open cycle as an inclusive range of days."""
        return f"{self.day(start)} \N{EN DASH} {self.day(max(start, end - timedelta(days=1)))}"


def _format_number(value: Decimal, locale: "Locale", least: int = 0) -> str:
    """A number with all its decimals, at least `least`, with the locale's digits and grouping."""
    value = value if value else Decimal(0)  # Print no negative zero.
    signs = _signs(locale)
    if signs is None:
        written: str = _parsed(number_pattern(value, locale, least)).apply(value, locale)
        return written
    return f"{value:,.{max(least, _decimals(value))}f}".translate(signs)


@cache
def _signs(locale: "Locale") -> dict[int, str] | None:
    """The locale's signs for those of Python; None where it does not group by thousands.

    A number takes a fifth of the time that Babel takes: an account's page has hundreds.
    """
    from babel.numbers import get_decimal_symbol, get_group_symbol

    if _grouping(locale) != "#,##0":
        return None
    return {ord(","): get_group_symbol(locale), ord("."): get_decimal_symbol(locale)}


@cache
def _parsed(pattern: str) -> "NumberPattern":
    """A pattern, read once: there are as many as there are groupings and numbers of decimals."""
    from babel.numbers import NumberPattern, parse_pattern

    parsed: NumberPattern = parse_pattern(pattern)
    return parsed


def number_pattern(value: Decimal, locale: "Locale", least: int = 0) -> str:
    """CLDR pattern of a number with all its decimals, at least `least`."""
    decimals = max(least, _decimals(value))
    fraction = f".{'0' * decimals}" if decimals else ""
    return f"{_grouping(locale)}{fraction}"


def _decimals(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


@cache
def locale_named(name: str) -> "Locale":
    from babel import Locale, UnknownLocaleError

    try:
        locale = Locale.parse(name.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return Locale.parse("en_US")
    return locale if covered_by_inter(_format_number(Decimal("-1234567.89"), locale)) else Locale.parse("en_US")


def knows_locale(name: str) -> bool:
    """Whether Babel knows a locale."""
    from babel import Locale, UnknownLocaleError

    try:
        Locale.parse(name.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return False
    return True


@cache
def _locale_for_dates(name: str) -> "Locale":
    """The locale for dates, or English when its month names need another font than the digits beside them."""
    from babel import Locale
    from babel.dates import format_date

    locale = locale_named(name)
    months = [date(2024, month, 1) for month in range(1, 13)]
    written = "".join(format_date(day, style, locale) for day in months for style in ("long", "MMMM y"))
    return locale if covered_by_inter(written) and locale.language not in UNSTABLE_DATES else Locale.parse("en_US")


@cache
def _grouping(locale: "Locale") -> str:
    """Integer part of the locale's number pattern: `#,##0`, or `#,##,##0` in India."""
    pattern: str = locale.decimal_formats[None].pattern
    return pattern.split(";")[0].split(".")[0]
