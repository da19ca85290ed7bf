"""Process settings of the program: memory, threads and garbage collector. The library sets none of them."""

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from assets.environment import set_default

_COLLECTION_THRESHOLD: Final = 50_000


def set_memory_and_threads() -> None:
    """Set the variables that Polars, Arrow and NumPy read on import; variables already set win."""
    # Polars' jemalloc: keep freed pages for half a second (returning them costs a tenth of ingest), few arenas
    arenas = max(1, (os.cpu_count() or 1) // 2)
    set_default("_RJEM_MALLOC_CONF", f"narenas:{arenas},dirty_decay_ms:500,muzzy_decay_ms:0")
    # Arrow: use the C library's allocator, which `ingest.malloc` tunes.
    set_default("ARROW_DEFAULT_MEMORY_POOL", "system")
    # NumPy is loaded by Arrow only: its BLAS threads would spin without work.
    set_default("OPENBLAS_NUM_THREADS", "1")


def collect_less_often() -> None:
    """Raise the threshold of the garbage collector: the default costs 10 % of a run, and little of it is garbage."""
    gc.set_threshold(_COLLECTION_THRESHOLD)


@contextmanager
def loading() -> Iterator[None]:
    """Collect no garbage while modules load, and leave what is there out of later collections.

    Together a twentieth of a small run: modules are never garbage, and there are many.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def skip_last_collection() -> None:
    """Skip the collection at exit: over Dagster's modules it takes almost as long as loading them."""
    atexit.register(gc.freeze)
