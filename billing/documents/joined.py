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
    new = [name for name in others.columns if name not in rows.columns]
    # The usual case, the same keys in the same order: look up none.
    if all(rows[name].equals(others[name], null_equal=False) for name in on):
        return rows.hstack([others[name] for name in new])
    return rows.join(others.select(*on, *new), on=on, how="left", maintain_order="left")
