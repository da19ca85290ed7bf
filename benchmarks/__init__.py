"""What billing costs: time, processor and memory, measured on generated homes."""

import billing as billing  # ahead of Polars: it settles how memory is taken
