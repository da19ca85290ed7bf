"""Dagster assets: thin wrappers that read, call one billing function, and report metadata."""
