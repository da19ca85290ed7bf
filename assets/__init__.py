"""Dagster assets: what each reads, which billing function it calls, what it reports."""
