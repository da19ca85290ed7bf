"""Dagster definitions, jobs, schedules and the command line."""

from pipeline.process_settings import set_memory_and_threads

# Set before Polars, Arrow and NumPy are imported: they read these once.
set_memory_and_threads()
