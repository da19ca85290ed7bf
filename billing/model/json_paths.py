"""Paths into JSON and nested Parquet: `a.b`, `a[0].b`, and `["a.b"]` for a name with dots."""

import re
from typing import Final

Path = tuple[str | int, ...]

EVERY: Final = -1
"""The step `[*]`: every item of a list."""
_STEP: Final = re.compile(r"""\[(\d{1,6}|\*)\]|\[(?:"([^"]+)"|'([^']+)')\]|\.?([^.\[\]"']+)""")


def json_path(text: str) -> Path:
    """Parse a path.

    Raises
    ------
    ValueError
        When it is no path.
    """
    steps: list[str | int] = []
    place = 0
    while place < len(text):
        found = _STEP.match(text, place)
        if found is None or (place == 0 and found[0].startswith(".")) or (place > 0 and _runs_on(text, place)):
            raise ValueError(text)
        number, one, other, plain = found.groups()
        if number is not None:
            steps.append(EVERY if number == "*" else int(number))
        else:
            steps.append(one or other or plain)
        place = found.end()
    if not steps:
        raise ValueError(text)
    return tuple(steps)


def _runs_on(text: str, place: int) -> bool:
    """Whether a name follows without a dot before it."""
    return text[place] not in ".["
