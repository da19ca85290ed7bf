"""The identity hashes of large parsed files, kept beside them.

Which earlier deliveries hold an event is then found without reading every id that was ever delivered. A hash is good
for the function only that made it, and another version of Polars or another processor may have another: the function's
own answer to some texts is part of the file's name. What is not there, or is damaged, is computed again.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

import polars as pl
from polars.exceptions import PolarsError

from billing.ingest.deduplication import identity_hash
from billing.ingest.formats.parquet_pieces import row_groups
from billing.store.files import remove_file, write_file

_WORTH_KEEPING: Final = 10_000
_TEXTS: Final = ("", "1", "/collectors/eu-1", "520df8a4-7a69-93e0-3a81-2b0088cafe11", "überlang " * 40)


def keep_hashes(parsed: Path, hashes: pl.Series) -> None:
    """Keep the hash of every row of a parsed file, where there are many."""
    if len(hashes) >= _WORTH_KEEPING:
        frame = hashes.to_frame("hash")
        write_file(_kept(parsed), lambda scratch: frame.write_ipc(scratch, compression="uncompressed"))


def scan_hashes(parsed: Path) -> pl.LazyFrame:
    """The identity hash of every row of a parsed file.

    Returns
    -------
    polars.LazyFrame
        place (of the row in the file, from 0) and hash (null where source or id is).
    """
    if _is_kept(parsed):
        return pl.scan_ipc(_kept(parsed), glob=False, hive_partitioning=False).with_row_index("place")
    identities = pl.scan_parquet(parsed, glob=False, hive_partitioning=False).select(hash=identity_hash())
    return identities.with_row_index("place")


def keep_missing_hashes(parsed: Path) -> None:
    """Keep the hashes of a parsed file that an earlier version, or another machine, has written, or are damaged."""
    if sum(row_groups(parsed)) >= _WORTH_KEEPING and not _is_kept(parsed):
        keep_hashes(parsed, scan_hashes(parsed).select("hash").collect().to_series())


def remove_hashes(parsed: Path) -> None:
    """Remove what is kept of a parsed file, whatever function made it."""
    for kept in parsed.parent.glob(f"{parsed.stem}.*.hashes"):
        remove_file(kept)


def _is_kept(parsed: Path) -> bool:
    """Whether a hash of every row is kept: a file that is cut off, or another's, is as good as none."""
    try:
        hashes = pl.scan_ipc(_kept(parsed), glob=False, hive_partitioning=False).select(pl.len()).collect().item()
    except (OSError, PolarsError):
        return False
    return bool(hashes == sum(row_groups(parsed)))


def _kept(parsed: Path) -> Path:
    return parsed.with_suffix(f".{_function()}.hashes")


@cache
def _function() -> str:
    texts = pl.DataFrame({"source": _TEXTS, "id": _TEXTS[::-1]})
    answers = texts.select(identity_hash()).to_series().to_list()
    return hashlib.sha256(repr(answers).encode()).hexdigest()[:12]
