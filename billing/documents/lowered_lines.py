"""Which line of its document a coupon lowers (rule 29)."""

from typing import Final

import polars as pl

from billing.model.codes import LineKind
from billing.rules.due_items import due_key, lowered_line

_KEYS: Final = ["account_id", "subscription_id", "billing_date"]


def with_lowered_lines(lines: pl.DataFrame) -> pl.DataFrame:
    """`lines` with applies_to_line: the position of what the coupon of a line lowers; null elsewhere.

    It is null, too, where the document takes a coupon back, or grants it, for a line of an earlier one.

    Parameters
    ----------
    lines
        account_id, subscription_id, billing_date, line, due_on, due_kind, kind, metric, due_item.
    """
    is_coupon = pl.col("kind") == LineKind.COUPON
    if lines.is_empty() or not lines.select(is_coupon.any()).item():
        return lines.with_columns(applies_to_line=pl.lit(None, pl.Int32))
    of_line = due_key("due_kind")
    keyed = lines.with_columns(_lowers=pl.when(is_coupon).then(lowered_line()).otherwise(of_line))
    on = [*_KEYS, "due_on", "_lowers"]
    lowered = keyed.filter(~is_coupon).unique(on, keep="first", maintain_order=True).select(*on, applies_to_line="line")
    found = keyed.join(lowered, on=on, how="left", maintain_order="left")
    return found.with_columns(pl.when(is_coupon).then("applies_to_line")).drop("_lowers")
