"""The identity hashes of the rows of parsed files: those of many rows are read from beside their files, not held."""

from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from billing.ingest import hash_cache
from billing.ingest.deduplication import identity_hash
from billing.ingest.parsed_rows import ALIAS_KIND
from billing.ingest.parsed_sources import Source, read_columns
from billing.ingest.validation import Rules

_HELD: Final = 16_000_000
"""Rows whose hashes are held: an eighth of a gigabyte."""


class RowHashes:
    """The identity hashes of parsed rows, and whether the rows are valid under some rules.

    What a process has parsed itself it need not look at again; any other process finds the same.
    """

    def __init__(self, rules: Rules, key: str) -> None:
        """`key` is that of the rules' `Settings`."""
        self.rules = rules
        self.key = key
        self._held: dict[Path, pl.Series] = {}
        self._rows = 0

    def keep(self, parsed: Path, hashes: pl.Series, valid: pl.Series) -> None:
        """Keep the hash of every row of a parsed file, and whether it is valid."""
        is_kept = hash_cache.cache_hashes(parsed, hashes, {self.key: valid})
        if not is_kept or self._rows + len(hashes) <= _HELD:
            self._rows += len(hashes)
            self._held[parsed] = _where_valid(hashes, valid)

    def valid(self, source: Source, day: date) -> pl.Series:
        """The identity hash of every row of a parsed file; null for rows that are invalid or not current."""
        found = self._held.get(source.path)
        if found is None:
            found = hash_cache.valid_hashes(source.path, self.key)
        if found is None:
            names = ["source", "id", "reason", "subject", "type", "time"]
            rows = self.rules.with_accounts(read_columns(source.path, names, [ALIAS_KIND]))
            looked_at = rows.select(hash=identity_hash(), valid=self.rules.is_valid(day, len(rows)))
            self.keep(source.path, looked_at["hash"], looked_at["valid"])
            found = _where_valid(looked_at["hash"], looked_at["valid"])
        counts = source.holds(len(found))
        return found if counts is None else found.set(~counts, None)


def _where_valid(hashes: pl.Series, valid: pl.Series) -> pl.Series:
    return pl.select(pl.when(valid).then(hashes).alias("hash")).to_series()
