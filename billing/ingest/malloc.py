"""The memory of blocks of bytes: kept for the next ones while files are worked on, given back at the end.

Python and Arrow ask the C library for them. GNU's gives each block back to the system and asks for the next page by
page, and what a thread kept when it ended it keeps for good. Others have no such settings, and are left alone.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_LARGEST_BLOCK: Final = 32 * 1024 * 1024
# as malloc.h has them
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3


@contextmanager
def blocks_kept() -> Iterator[None]:
    """What is freed serves the next block; at the end nothing that is free is kept."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_BLOCK)
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
    try:
        yield
    finally:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
