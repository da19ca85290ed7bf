"""What billing costs: time, processor and memory, measured on generated homes."""

import pipeline as pipeline  # ahead of Polars: it settles how memory is taken
