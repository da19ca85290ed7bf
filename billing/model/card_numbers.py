"""Card number detection and masking in text (rule 11)."""

import re
from typing import Final

import polars as pl

# Spaces, hyphens and dashes of every width, and invisible characters; no line break, which separates values.
_BETWEEN: Final = (
    " \\-\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
    "\u2010-\u2015\u2212\ufe58\ufe63\uff0d\u00ad\u200b-\u200f\u2060\ufeff"
)
MAYBE_CARD_NUMBER: Final = rf"\d(?:[{_BETWEEN}]?\d){{12}}"
"""Pattern of candidates: thirteen digits of any script, at most one separator between two."""

# Masking accepts more separators than detection, as it rejects no row: dots, slashes and underscores of every kind.
_BETWEEN_MASKED: Final = f"{_BETWEEN}./_\u00b7\u2022\u2027\u2044\u2215\u2219\u22c5\u3002\u30fb\uff0e\uff0f\uff3f"
_MAYBE_MASKED: Final = rf"\d(?:[{_BETWEEN_MASKED}]?\d){{12}}|\\(?:u[0-9a-fA-F]{{4}}|/)"
_RUN: Final = re.compile(rf"\d(?:[{_BETWEEN}]?\d)*")
_MASKED_RUN: Final = re.compile(rf"\d(?:[{_BETWEEN_MASKED}]?\d)*")
_LETTER: Final = re.compile(r"\\u([0-9a-fA-F]{4})|\\/|.", re.DOTALL)
_SHORTEST: Final = 13
_LONGEST: Final = 19
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def contains_card_number(text: str) -> bool:
    """Whether `text` holds a card number: an accepted brand's prefix and length, and a valid Luhn digit (rule 11)."""
    return _RUN.sub(_mask_run, text) != text


def mask_card_numbers(text: str) -> str:
    """Replace every digit of a card number but the last four by `*`.

    Rule 11: only the brand and the last four digits of a card are ever stored.

    Separators inside the number stay: spaces, hyphens, dots, slashes and underscores. Digits may be of any script, or
    JSON escapes (a backslash, u0034). Brands are those accepted as cards: visa, mastercard, discover and amex.
    """
    masked = _MASKED_RUN.sub(_mask_run, text)
    return _mask_escaped(masked) if "\\" in masked else masked


def _mask_escaped(text: str) -> str:
    """Mask card numbers whose digits or separators are written as JSON escapes."""
    letters = list(_LETTER.finditer(text))
    plain = "".join(chr(int(letter[1], 16)) if letter[1] else letter[0][-1] for letter in letters)
    masked = _MASKED_RUN.sub(_mask_run, plain)
    if masked == plain:
        return text
    return "".join(
        letter[0] if before == after else after for letter, before, after in zip(letters, plain, masked, strict=True)
    )


def mask_card_number_column(texts: pl.Series) -> pl.Series:
    """Mask the card numbers in texts (rule 11); nulls stay null."""
    # Compare lengths first: 3 instead of 49 ns a text.
    if not (texts.str.len_bytes() >= _SHORTEST).any():
        return texts
    suspects = texts.str.contains(_MAYBE_MASKED).fill_null(value=False)
    if not suspects.any():
        return texts
    masked = pl.Series(texts.name, [mask_card_numbers(text) for text in texts.filter(suspects)], dtype=pl.String)
    return texts.scatter(suspects.arg_true(), masked)


def _mask_run(run: re.Match[str]) -> str:
    """Mask the card numbers within one run of digits, spaces and hyphens.

    Numbers may be adjacent ("4111 1111 1111 1111 2026"), so check every group boundary as a start and an end.
    """
    text = run.group()
    places = [place for place, character in enumerate(text) if character.isdecimal()]
    if len(places) < _SHORTEST:
        return text
    digits = [int(text[place]) for place in places]
    starts = [index for index, place in enumerate(places) if index == 0 or places[index - 1] != place - 1]
    ends = {
        index for index in range(1, len(places) + 1) if index == len(places) or places[index] != places[index - 1] + 1
    }
    characters = list(text)
    for start in starts:
        for length in range(_LONGEST, _SHORTEST - 1, -1):
            if start + length in ends and _is_card(digits[start : start + length]):
                for place in places[start : start + length - 4]:
                    characters[place] = "*"
                break
    return "".join(characters)


def _is_card(digits: list[int]) -> bool:
    return _has_brand(digits) and _passes_luhn(digits)


def _has_brand(digits: list[int]) -> bool:
    length = len(digits)
    two = digits[0] * 10 + digits[1]
    four = two * 100 + digits[2] * 10 + digits[3]
    three = four // 10
    six = four * 100 + digits[4] * 10 + digits[5]
    visa = digits[0] == 4 and length in (13, 16, 19)
    mastercard = (51 <= two <= 55 or 2221 <= four <= 2720) and length == 16
    amex = two in (34, 37) and length == 15
    discover = (
        four == 6011 or 644 <= three <= 649 or two == 65 or 622126 <= six <= 622925
    ) and 16 <= length <= _LONGEST
    return visa or mastercard or amex or discover


def _passes_luhn(digits: list[int]) -> bool:
    odd, even = digits[-1::-2], digits[-2::-2]
    return (sum(odd) + sum(_DOUBLED[digit] for digit in even)) % 10 == 0
