"""Definitions, jobs, schedules and the command line."""

from pipeline.process_settings import set_memory_and_threads

# before Polars, Arrow and NumPy are loaded: they read these settings once
set_memory_and_threads()
