"""The part of a fee that a line charges, as arithmetic in words: days of a cycle, cycles of a year (rule 37)."""

from decimal import Decimal
from typing import Final

from billing.model.codes import LineKind
from billing.rendering.content import Fields
from billing.rendering.v2.formats import Formats
from billing.rendering.words import Words

CYCLES_OF_A_YEAR: Final = 12  # No month has so few days.


def part_of_fee(part: Fields, words: Words, out: Formats, kind: str = "") -> str:
    """The part of a fee: days of a month, or cycles of a year at the difference of two yearly fees.

    Of a minimum spend: the minimum, for the days of the cycle with access, less what counts.
    """
    if kind == LineKind.MINIMUM_SPEND:
        return _lacking(part, words, out)
    fee, some, whole = out.unit_price(part.decimal("fee")), part.text("part"), part.text("parts")
    number = int(Decimal(whole))
    if not part.holds("replaced") and number == CYCLES_OF_A_YEAR:
        return words.ngettext(
            "{fee} \N{MULTIPLICATION SIGN} {part} of {parts} cycle",
            "{fee} \N{MULTIPLICATION SIGN} {part} of {parts} cycles",
            number,
            fee=fee,
            part=some,
            parts=whole,
        )
    if not part.holds("replaced"):
        return words.ngettext(
            "{fee} \N{MULTIPLICATION SIGN} {part} of {parts} day",
            "{fee} \N{MULTIPLICATION SIGN} {part} of {parts} days",
            number,
            fee=fee,
            part=some,
            parts=whole,
        )
    replaced = out.unit_price(part.decimal("replaced"))
    if number == CYCLES_OF_A_YEAR:
        return words.ngettext(
            "({fee} \N{MINUS SIGN} {replaced}) \N{MULTIPLICATION SIGN} {part} of {parts} cycle",
            "({fee} \N{MINUS SIGN} {replaced}) \N{MULTIPLICATION SIGN} {part} of {parts} cycles",
            number,
            fee=fee,
            replaced=replaced,
            part=some,
            parts=whole,
        )
    return words.ngettext(
        "({fee} \N{MINUS SIGN} {replaced}) \N{MULTIPLICATION SIGN} {part} of {parts} day",
        "({fee} \N{MINUS SIGN} {replaced}) \N{MULTIPLICATION SIGN} {part} of {parts} days",
        number,
        fee=fee,
        replaced=replaced,
        part=some,
        parts=whole,
    )


def _lacking(part: Fields, words: Words, out: Formats) -> str:
    counted = out.unit_price(part.decimal("replaced"))
    days, whole = part.text("part"), part.text("parts")
    minimum = out.unit_price(part.decimal("fee"))
    if days != whole:
        minimum = words.ngettext(
            "{fee} \N{MULTIPLICATION SIGN} {part} of {parts} day",
            "{fee} \N{MULTIPLICATION SIGN} {part} of {parts} days",
            int(Decimal(whole)),
            fee=minimum,
            part=days,
            parts=whole,
        )
    return f"{minimum} \N{MINUS SIGN} {counted}"
