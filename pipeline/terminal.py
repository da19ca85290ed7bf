"""What a person reads: text of others never commands the terminal, and no cell of a CSV file is a formula."""

import json
import re
from typing import Any, Final

# controls of terminals, what turns a line over, and line ends that are none
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_IN_A_CELL: Final = re.compile(f"{_CONTROLS.pattern[:-1]}\t\n]")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


def printable(text: str) -> str:
    """Text with control characters written as escapes; it keeps its lines."""
    return _CONTROLS.sub(_escaped, text)


def printable_cell(text: str) -> str:
    """As `printable`, on one line."""
    return _IN_A_CELL.sub(_escaped, text)


def csv_cell(value: Any, *, is_text: bool | None = None) -> Any:
    """A value for a CSV file: what a spreadsheet would take for a formula begins with an apostrophe.

    Parameters
    ----------
    is_text
        Whether the column holds text; None: what is written as a number is one.
    """
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return value
    is_formula = (
        value.startswith(_FORMULA) and not (is_text is None and _NUMBER.fullmatch(value)) and is_text is not False
    )
    # what a CSV file may hold between quotes stays: tabs and line ends
    written = re.sub(_CONTROLS, lambda found: found[0] if found[0] == "\r" else _escaped(found), value)
    return f"'{written}" if is_formula else written


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
