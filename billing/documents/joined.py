"""Rows of the same documents beside each other."""

import polars as pl

from billing.model.empty_frames import skip_if_empty


@skip_if_empty("rows", by=("on",))
def joined(rows: pl.DataFrame, others: pl.DataFrame, on: list[str]) -> pl.DataFrame:
    """`rows` with the columns that only `others` has, null where it has no row of the key.

    Parameters
    ----------
    others
        Of each key at most one row.
    """
    others = others.select(*on, *(name for name in others.columns if name not in rows.columns))
    # The usual case, the same keys in the same order: look up none.
    if rows.select(on).equals(others.select(on), null_equal=False):
        return rows.hstack(others.drop(on))
    return rows.join(others, on=on, how="left", maintain_order="left")
