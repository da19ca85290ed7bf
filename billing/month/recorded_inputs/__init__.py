"""Recorded inputs: fingerprints of what a table in the lake was made from; rebuild it only when one changed.

`record` is the one format: inputs by name, and hashes of what was made. `months` records the inputs of a month and of
its steps, `usage` the events that usage was measured from, `rows` every row that was given, and `runs` the last run.
"""
