"""Cache of the identity hashes of large parsed files.

Finds earlier deliveries of an event without reading every id ever delivered. Another version of Polars or another
processor may hash differently: a digest of the hashes of some fixed texts is part of the file name. A missing or
damaged cache is recomputed. Whether rows are valid under some rules is kept beside their hashes.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa

from billing.ingest.deduplication import identity_hash
from billing.store.files import remove_file, write_file
from billing.store.parquet_writer import row_groups

_WORTH_CACHING: Final = 10_000
_VALID: Final = "valid under "
_TEXTS: Final = ("", "1", "/collectors/eu-1", "520df8a4-7a69-93e0-3a81-2b0088cafe11", "überlang " * 40)


def cache_hashes(parsed: Path, hashes: pl.Series, valid: Mapping[str, pl.Series] | None = None) -> bool:
    """Cache the hash of every row of a parsed file, if it has enough rows; returns whether it has.

    Parameters
    ----------
    valid
        By a key of rules: for every row whether it is valid under them, before duplicates are resolved.
    """
    if len(hashes) < _WORTH_CACHING:
        return False
    frame = pl.DataFrame({"hash": hashes, **{_VALID + key: rows for key, rows in (valid or {}).items()}})
    write_file(_cache_path(parsed), lambda scratch: frame.write_ipc(scratch, compression="uncompressed"))
    return True


def scan_hashes(parsed: Path) -> pl.LazyFrame:
    """The identity hash of every row of a parsed file.

    Returns
    -------
    polars.LazyFrame
        place (row index in the file, from 0) and hash (null where source or id is null).
    """
    return _scan(parsed, is_cached=_is_cached(parsed, sum(row_groups(parsed))))


def valid_hashes(parsed: Path, key: str) -> pl.Series | None:
    """The identity hash of every row, null where it is not valid under the rules with a key; None if it is not kept."""
    if not _is_cached(parsed, sum(row_groups(parsed))):
        return None
    kept = pl.scan_ipc(_cache_path(parsed), glob=False, hive_partitioning=False)
    if _VALID + key not in kept.collect_schema():
        return None
    return kept.select(pl.when(_VALID + key).then("hash").alias("hash")).collect().to_series()


def cache_missing_hashes(parsed: Path) -> pl.LazyFrame:
    """As `scan_hashes`; caches hashes that are missing or damaged, or that another version or machine wrote."""
    # Each file is opened once: of a year of deliveries there are a thousand.
    rows = sum(row_groups(parsed))
    is_cached = _is_cached(parsed, rows)
    if rows >= _WORTH_CACHING and not is_cached:
        is_cached = cache_hashes(parsed, _scan(parsed, is_cached=False).select("hash").collect().to_series())
    return _scan(parsed, is_cached=is_cached)


def remove_hashes(parsed: Path) -> None:
    """Remove the cached hashes of a parsed file, of every hash function."""
    for cached in parsed.parent.glob(f"{parsed.stem}.*.hashes"):
        remove_file(cached)


def _scan(parsed: Path, *, is_cached: bool) -> pl.LazyFrame:
    if is_cached:
        hashes = pl.scan_ipc(_cache_path(parsed), glob=False, hive_partitioning=False).select("hash")
        return hashes.with_row_index("place")
    identities = pl.scan_parquet(parsed, glob=False, hive_partitioning=False).select(hash=identity_hash())
    return identities.with_row_index("place")


def _is_cached(parsed: Path, rows: int) -> bool:
    """Whether the cache has a hash of each of so many rows: a truncated or foreign file counts as missing."""
    try:
        with pa.memory_map(str(_cache_path(parsed))) as file:
            batches = pa.ipc.open_file(file)
            found = sum(batches.get_batch(place).num_rows for place in range(batches.num_record_batches))
    except (OSError, pa.ArrowException):
        return False
    return bool(found == rows)


def _cache_path(parsed: Path) -> Path:
    return parsed.with_suffix(f".{_hash_function_digest()}.hashes")


@cache
def _hash_function_digest() -> str:
    texts = pl.DataFrame({"source": _TEXTS, "id": _TEXTS[::-1]})
    answers = texts.select(identity_hash()).to_series().to_list()
    return hashlib.sha256(repr(answers).encode()).hexdigest()[:12]
