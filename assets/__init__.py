"""Dagster assets: what each reads, which billing function it calls, what it reports."""

import billing as billing  # ahead of Polars: it settles how memory is taken
