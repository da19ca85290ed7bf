"""Definitions, jobs, schedules and the command line."""

import billing as billing  # ahead of Polars: it settles how memory is taken
