"""Numbers, dates, units and countries as the document's language and locale write them (CLDR)."""

from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

from billing.rendering.fonts import covered_by_bundle
from billing.rendering.locale_formats import UNSTABLE_DATES, Print, number_pattern

if TYPE_CHECKING:
    from babel import Locale

SPACE: Final = "\N{NO-BREAK SPACE}"
MOST_DECIMALS: Final = 3
"""Decimals of a quantity on paper whose metric says nothing."""

# Units that CLDR can name, as people write them in a catalogue; others are printed as they stand.
_UNITS: Final[dict[str, tuple[str, Literal["short", "long"]]]] = {
    "B": ("digital-byte", "short"),
    "bytes": ("digital-byte", "long"),
    "kB": ("digital-kilobyte", "short"),
    "KB": ("digital-kilobyte", "short"),
    "MB": ("digital-megabyte", "short"),
    "GB": ("digital-gigabyte", "short"),
    "TB": ("digital-terabyte", "short"),
    "PB": ("digital-petabyte", "short"),
    "s": ("duration-second", "short"),
    "seconds": ("duration-second", "long"),
    "min": ("duration-minute", "short"),
    "minutes": ("duration-minute", "long"),
    "h": ("duration-hour", "short"),
    "hours": ("duration-hour", "long"),
    "days": ("duration-day", "long"),
    "months": ("duration-month", "long"),
    "km": ("length-kilometer", "short"),
    "kg": ("mass-kilogram", "short"),
    "kWh": ("energy-kilowatt-hour", "short"),
}
# UN/ECE Recommendation 20, for a metric that has a code and no unit.
_CODES: Final = {
    "AD": "B",
    "2P": "kB",
    "4L": "MB",
    "E34": "GB",
    "E35": "TB",
    "E36": "PB",
    "SEC": "seconds",
    "MIN": "minutes",
    "HUR": "hours",
    "DAY": "days",
    "MON": "months",
    "KMT": "km",
    "KGM": "kg",
    "KWH": "kWh",
}


class Formats(Print):
    """Formats of a document; use it under the context `EXACT`."""

    def __init__(self, locale: str, language: str, currency: str, minor_units: int) -> None:
        super().__init__("en_US", currency, minor_units)
        self.locale = self.date_locale = document_locale(locale, language)

    def money_with_currency(self, value: Decimal, place: str) -> str:
        return self.with_currency(self.money(value, place), self.currency)

    def with_currency(self, amount: str, currency: str) -> str:
        """An amount beside its ISO code, on the side where the language writes it."""
        return f"{currency}{SPACE}{amount}" if _code_first(self.locale) else f"{amount}{SPACE}{currency}"

    def day(self, value: date) -> str:
        """A date in full, never broken across lines."""
        return super().day(value).replace(" ", SPACE)

    def money(self, value: Decimal, place: str) -> str:
        return self.signed(super().money(value, place))

    def change_of_money(self, value: Decimal, place: str) -> str:
        return self.signed(super().change_of_money(value, place))

    def signed(self, written: str) -> str:
        """A text that may begin with a sign, which would stand behind it in a line from right to left."""
        is_turned = written[:1] in ("+", "-") and self.locale.text_direction == "rtl"
        return f"\N{LEFT-TO-RIGHT MARK}{written}" if is_turned else written

    def percent(self, rate: Decimal) -> str:
        pattern: str = self.locale.percent_formats[None].pattern
        gap = SPACE if pattern.rstrip("%\u061c\u200e\u200f")[-1:] in (" ", SPACE, "\N{NARROW NO-BREAK SPACE}") else ""
        return f"{self.quantity(rate * 100, '')}{gap}%"

    def count(self, value: Decimal, unit: str, code: str = "", decimals: int | None = None) -> str:
        """A quantity with at most `decimals`, half-even, and its unit; what would print as 0 is "<" the smallest."""
        places = MOST_DECIMALS if decimals is None else decimals
        smallest = _smallest(places)
        rounded = value.quantize(smallest, ROUND_HALF_EVEN)
        least = ""
        if value and not rounded:
            least, rounded = f"<{SPACE}", smallest
        named = _UNITS.get(unit) or (None if unit else _UNITS.get(_CODES.get(code, "")))
        if named is None:
            return f"{least}{self.quantity(rounded, unit)}"
        return f"{least}{self._with_unit(rounded, *named)}"

    def _with_unit(self, value: Decimal, unit: str, length: Literal["short", "long"]) -> str:
        from babel.units import format_unit

        written: str = format_unit(value, unit, length, format=number_pattern(value, self.locale), locale=self.locale)
        return written.replace(" ", SPACE)

    def country(self, code: str) -> str:
        name: str = self.locale.territories.get(code.upper(), code)
        return name if covered_by_bundle(name) else code

    def iban(self, value: str) -> str:
        """An IBAN in groups of four, on one line."""
        plain = "".join(value.split())
        return SPACE.join(plain[start : start + 4] for start in range(0, len(plain), 4))


@cache
def _smallest(places: int) -> Decimal:
    return Decimal(1).scaleb(-places)


@cache
def _code_first(locale: "Locale") -> bool:
    return str(locale.currency_formats["standard"].pattern).lstrip("\u200e\u200f").startswith("\N{CURRENCY SIGN}")


@cache
def document_locale(name: str, language: str) -> "Locale":
    """The locale of a document: its language, with the territory of `name` where CLDR knows both together.

    Falls back to English where numbers or dates need characters that no bundled face has.
    """
    from babel import Locale, UnknownLocaleError
    from babel.dates import format_date

    candidates = []
    try:
        asked = Locale.parse(name.replace("-", "_")) if name else None
    except (UnknownLocaleError, ValueError):
        asked = None
    spoken = language.replace("-", "_")
    if asked is not None and asked.language == spoken.split("_")[0].lower():
        candidates.append(str(asked))
    elif asked is not None and asked.territory:
        candidates.append(f"{spoken.split('_')[0]}_{asked.territory}")
    candidates += [spoken, spoken.split("_")[0], "en_US"]
    for candidate in candidates:
        try:
            locale = Locale.parse(candidate)
        except (UnknownLocaleError, ValueError):
            continue
        written = Print("en_US", "EUR", 2)
        written.locale = locale
        days = "".join(format_date(date(2024, month, 1), "long", locale) for month in range(1, 13))
        numbers = written.unit_price(Decimal("-1234567.8905"))
        if locale.language not in UNSTABLE_DATES and covered_by_bundle(days + numbers):
            return locale
    return Locale.parse("en_US")
