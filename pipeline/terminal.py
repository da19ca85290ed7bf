"""Output sanitizing: texts cannot send terminal commands, and CSV cells cannot be formulas."""

import json
import re
from typing import Any, Final

# Control characters, bidirectional controls, and unusual line ends.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_IN_A_CELL: Final = re.compile(f"{_CONTROLS.pattern[:-1]}\t\n]")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


def printable(text: str) -> str:
    """Escape control characters; keeps line ends."""
    return _CONTROLS.sub(_escaped, text)


def printable_cell(text: str) -> str:
    """As `printable`, on one line."""
    return _IN_A_CELL.sub(_escaped, text)


def csv_cell(value: Any, *, is_text: bool | None = None) -> Any:
    """A value for a CSV file: prefixes an apostrophe if a spreadsheet would take it for a formula.

    Parameters
    ----------
    is_text
        Whether the column holds text; None: treat texts that look like numbers as numbers.
    """
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return value
    is_formula = (
        value.startswith(_FORMULA) and not (is_text is None and _NUMBER.fullmatch(value)) and is_text is not False
    )
    # Keep tabs and line ends, which a quoted CSV field may hold.
    written = re.sub(_CONTROLS, lambda found: found[0] if found[0] == "\r" else _escaped(found), value)
    return f"'{written}" if is_formula else written


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
