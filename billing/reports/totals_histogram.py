"""Histogram of what documents come to."""

import polars as pl


def totals_histogram(documents: pl.DataFrame) -> pl.DataFrame:
    """How many documents have which total, in six buckets with rounded bounds.

    Parameters
    ----------
    documents
        total (MONEY).

    Returns
    -------
    polars.DataFrame
        bound (the highest total of a bucket; the last one takes all above it) and documents.
    """
    totals = documents.filter(pl.col("total") > 0)["total"]
    if totals.is_empty():
        return pl.DataFrame(schema={"bound": pl.Int64, "documents": pl.Int64})
    # Derive the width from the median: the last bucket takes all outliers.
    middle = int(totals.sort()[totals.len() // 2])
    width = _readable(middle // 2 + 1)
    bounds = [width * step for step in range(1, 7)]
    edges = [0, *bounds[:-1]]
    counts = [
        int(((totals > low) & ((totals <= high) if high != bounds[-1] else totals.is_not_null())).sum())
        for low, high in zip(edges, bounds, strict=True)
    ]
    return pl.DataFrame({"bound": bounds, "documents": counts}, schema={"bound": pl.Int64, "documents": pl.Int64})


def _readable(number: int) -> int:
    """The next number of the kind 1, 2, 5, 10, 20, 50 and so on."""
    power: int = 10 ** (len(str(number)) - 1)
    return next(bound for bound in (power, 2 * power, 5 * power, 10 * power) if bound >= number)
