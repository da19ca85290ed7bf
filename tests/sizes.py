"""How long tests search: what every change can wait for, or with `pytest --long` (`make test-long`) as long as needed.

`tests/conftest.py` sets `LONG` before any test module is loaded.
"""

from typing import TypeVar

Size = TypeVar("Size")

LONG = False
MORE_EXAMPLES = 10
"""How many times as many examples every property test draws in a long run."""
FEWER_EXAMPLES = 3
"""By how much fewer it draws in a usual run, beyond the first ones."""
_FIRST_EXAMPLES = 30


def sized(usual: Size, long: Size) -> Size:
    """The size of a search."""
    return long if LONG else usual


def examples(stated: int) -> int:
    """How many examples a property test draws that states a number."""
    if LONG:
        return stated * MORE_EXAMPLES
    return stated if stated <= _FIRST_EXAMPLES else max(_FIRST_EXAMPLES, stated // FEWER_EXAMPLES)


def spread(places: int, tried: int) -> range:
    """As many of some places as are tried, spread evenly over them; with 0 every one."""
    step = max(1, places // tried) if tried else 1
    return range(step // 2, places, step)
