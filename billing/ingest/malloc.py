"""glibc malloc settings: reuse freed blocks during an ingest, return them to the system at the end.

By default glibc returns each large block to the system and faults in the next page by page, and a thread's arena
keeps its free memory after the thread ends. Other C libraries have no such settings and are left as they are.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_LARGEST_BLOCK: Final = 32 * 1024 * 1024
# Values from malloc.h.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3


@contextmanager
def reuse_freed_blocks() -> Iterator[None]:
    """Keep freed blocks for reuse inside the context; release all free memory at its end."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_BLOCK)
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
    try:
        yield
    finally:
        return_freed_blocks()


def return_freed_blocks() -> None:
    """Return freed memory to the system."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
