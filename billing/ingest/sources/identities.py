"""Identity of records by their content: SHA-256 of the text, and its occurrence among equal texts of the file."""

from hashlib import sha256

import polars as pl

_PREFIX = 8


class Occurrences:
    """Numbers equal texts of a file, over its blocks.

    Holds 12 bytes per distinct record of earlier blocks: the first 64 bits of the hash, and how often it occurred.
    Two texts of a file that share these 64 bits would be numbered as equal ones, and keep ids of their own.
    """

    def __init__(self) -> None:
        self._runs: list[pl.DataFrame] = []
        self._last: pl.DataFrame | None = None

    def ids(self, texts: pl.Series, of: pl.Series | None = None) -> pl.Series:
        """id of every record of the next block: `<sha256>-<occurrence from 1>`; null where the text is.

        Parameters
        ----------
        of
            The file of each text, where this one block holds all texts of several files.
        """
        digests = [None if text is None else sha256(text).digest() for text in texts.cast(pl.Binary).to_list()]
        raw = pl.Series("digest", digests, dtype=pl.Binary)
        frame = pl.DataFrame({"digest": raw}).with_columns(
            key=pl.col("digest").bin.head(_PREFIX).bin.reinterpret(dtype=pl.UInt64, endianness="big")
        )
        # Equal texts of different files do not count together.
        alike = frame.select("key") if of is None else pl.DataFrame([frame["key"], of.alias("of")])
        numbers = pl.Series("number", [1], dtype=pl.Int64).new_from_index(0, len(frame))
        # Number repeated texts only: they are few, and a window over all rows takes as long as their hashes.
        repeated = alike.is_duplicated().arg_true()
        if len(repeated):
            number = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over(alike.columns)
            numbers = numbers.scatter(repeated, alike[repeated].select(number).to_series())
        frame = frame.with_columns(numbers)
        if of is not None:
            return _named(frame)
        earlier = self._earlier(frame["key"])
        if earlier is not None:
            frame = frame.with_columns(pl.col("number") + earlier)
        self._last = frame.select("key").drop_nulls()
        return _named(frame)

    def _earlier(self, keys: pl.Series) -> pl.Series | None:
        """How often each key occurred in earlier blocks; None when none did."""
        if self._last is not None:
            counts = self._last.group_by("key").agg(count=pl.len()).sort("key")
            # Merge runs of like size: each record is merged a logarithmic number of times.
            while self._runs and len(self._runs[-1]) < 2 * len(counts):
                counts = pl.concat([self._runs.pop(), counts]).group_by("key").agg(pl.col("count").sum()).sort("key")
            if len(counts):
                self._runs.append(counts)
            self._last = None
        total: pl.Series | None = None
        for run in self._runs:
            places = run["key"].search_sorted(keys.fill_null(0)).clip(upper_bound=len(run) - 1)
            hit = run["key"].gather(places) == keys
            if hit.any():
                count = run["count"].gather(places).cast(pl.Int64) * hit.fill_null(value=False).cast(pl.Int64)
                total = count if total is None else total + count
        return total


def _named(frame: pl.DataFrame) -> pl.Series:
    digest = pl.col("digest")
    named = pl.concat_str(digest.bin.encode("hex"), pl.lit("-"), "number")
    return frame.select(pl.when(digest.is_not_null()).then(named).alias("id")).to_series()
