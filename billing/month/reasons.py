"""Validate reasons that are printed or stored: of corrections and of accepted losses."""

from billing.model.card_numbers import contains_card_number
from billing.model.errors import RefusedError
from billing.model.text import counted

_LONGEST_REASON = 500


def printable_reason(text: str) -> str:
    """Validate and normalize the reason of a correction, which is printed on every note.

    Raises
    ------
    RefusedError
        When there is none, it is too long or cannot be printed, or it carries a card number (rule 11).
    """
    reason = " ".join(text.split())
    if contains_card_number(reason):
        raise RefusedError("--reason: found a card number in it, expected words that may be printed and kept")
    unprintable = next((character for character in reason if not character.isprintable()), None)
    if unprintable is not None:
        raise RefusedError(
            f"--reason: found the character U+{ord(unprintable):04X} at place {reason.index(unprintable) + 1},"
            " expected only what can be printed on a note"
        )
    if not reason or len(reason) > _LONGEST_REASON:
        raise RefusedError(
            f"--reason: found {counted(len(reason), 'character')}, expected 1 to {_LONGEST_REASON} that can be "
            "printed on a note"
        )
    return reason
