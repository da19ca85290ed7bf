"""Instants as they are written in usage: RFC 3339 text to nanoseconds UTC."""

from typing import Final

import polars as pl

from billing.tables import INSTANT

WITHOUT_ZONE: Final = "time_without_zone"
INVALID: Final = "invalid_time"

# Polars wraps silently outside 1678 to 2262 and accepts signs and surrounding space, so the shape is checked first.
_SHAPE: Final = (
    r"^(?:19[7-9][0-9]|2[01][0-9]{2})-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)"
    r"(?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$"
)
_ZONELESS: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)?$"
_FORMAT: Final = "%Y-%m-%dT%H:%M:%S%.f%#z"


def parse_instants(texts: pl.Series) -> pl.DataFrame:
    """Instants of RFC 3339 texts (rule 27).

    Years 1970 to 2199, any offset, `T` and `Z` in either case or a space for `T`; digits beyond nanoseconds are cut;
    a leap second is the second after it.

    Returns
    -------
    polars.DataFrame
        time (nanoseconds, UTC) and time_fault ("time_without_zone", "invalid_time" or null), both null where the
        text is null or empty.
    """
    shaped = texts.str.contains(_SHAPE).fill_null(False)
    if not shaped.all():
        repaired = texts.str.to_uppercase().str.replace(" ", "T", literal=True).str.replace(r"(\.[0-9]{9})[0-9]+", "$1")
        texts_shaped = repaired.zip_with(
            repaired.str.contains(_SHAPE).fill_null(False), pl.Series([None], dtype=pl.String)
        )
        texts_shaped = texts.zip_with(shaped, texts_shaped)
    else:
        texts_shaped = texts
    time = texts_shaped.str.to_datetime(_FORMAT, time_unit="ns", time_zone="UTC", strict=False)
    return pl.DataFrame({"time": time.cast(INSTANT), "text": texts}).select(
        "time",
        time_fault=pl.when(pl.col("time").is_not_null() | (pl.col("text").fill_null("") == ""))
        .then(pl.lit(None, pl.String))
        .when(pl.col("text").str.contains(_ZONELESS))
        .then(pl.lit(WITHOUT_ZONE))
        .otherwise(pl.lit(INVALID)),
    )
