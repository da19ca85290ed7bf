"""The business of Overage: plain functions over frames. Imports no Dagster and reads no clock."""

import os

__version__ = "0.2.0"

# How Polars takes memory is settled as soon as it is loaded. Of each piece of work the next one uses the memory again;
# given back in between, as it is by default, it would cost a tenth of the time. Arenas by processor would hold more.
os.environ.setdefault(
    "_RJEM_MALLOC_CONF", f"narenas:{max(1, (os.cpu_count() or 1) // 2)},dirty_decay_ms:500,muzzy_decay_ms:0"
)
# Arrow asks where Python does, see `ingest.memory`.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
# Arrow loads NumPy, whose linear algebra would start threads that wait for work that never comes, by spinning.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
