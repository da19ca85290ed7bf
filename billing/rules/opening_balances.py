"""Opening balances: those in force, and what the books post of them (rule 38).

A row is used when a run posts it. From then on the register keeps it: a row that changes is a posting of the
difference, and one that vanishes changes nothing.
"""

from datetime import date
from typing import Final

import polars as pl

from billing.model.columns import MONEY
from billing.model.empty_frames import skip_if_empty

OPENING_POSTINGS: Final = pl.Schema(
    {
        "account_id": pl.String(),
        "currency": pl.String(),
        "reference": pl.String(),
        "version": pl.Int64(),
        "amount": MONEY,
        "on": pl.Date(),
        "posted_on": pl.Date(),
    }
)
"""A version of an opening balance: its amount as of then, and the day on which the difference to it is posted."""

_IDENTITY: Final = ["account_id", "currency", "reference"]
_ZERO: Final = pl.lit(0).cast(MONEY)


@skip_if_empty("rows", "used")
def balances_in_force(rows: pl.DataFrame, used: pl.DataFrame, as_of: date) -> pl.DataFrame:
    """The opening balances as of a day: account_id, currency, reference, amount, on; sorted.

    Parameters
    ----------
    rows
        As `Inputs.opening_balances`.
    used
        OPENING_POSTINGS, as recorded: a row that has vanished counts as it was used, and on a day before its last
        difference was posted a row counts as it did then.
    """
    is_later = pl.col("posted_on") > as_of
    later = _latest(used).filter(is_later).select(_IDENTITY)
    then = _latest(used.filter(~is_later)).join(later, on=_IDENTITY, how="semi")
    gone = _latest(used).join(rows, on=_IDENTITY, how="anti").join(later, on=_IDENTITY, how="anti")
    now = rows.join(later, on=_IDENTITY, how="anti")
    parts = [now, gone.select(rows.columns), then.select(rows.columns)]
    return pl.concat(parts).filter(pl.col("on") <= as_of).sort(_IDENTITY)


def versions_to_record(in_force: pl.DataFrame, used: pl.DataFrame, as_of: date) -> pl.DataFrame:
    """OPENING_POSTINGS that are not recorded yet: of rows used for the first time, and of rows that changed."""
    known = _latest(used)
    is_other = (pl.col("amount") != pl.col("amount_known")) | (pl.col("on") != pl.col("on_known"))
    changed = in_force.join(known, on=_IDENTITY, how="left", suffix="_known", maintain_order="left").filter(
        # A run that looks back has nothing to add to what was posted later.
        pl.col("version").is_null() | (is_other & (pl.col("posted_on") <= as_of))
    )
    return changed.select(
        *_IDENTITY,
        version=pl.col("version").fill_null(0) + 1,
        amount="amount",
        on="on",
        # The books of an earlier day stay as they are.
        posted_on=pl.when(pl.col("version").is_null())
        .then("on")
        .otherwise(pl.max_horizontal(pl.lit(as_of), "posted_on")),
    ).select(pl.col(name).cast(dtype) for name, dtype in OPENING_POSTINGS.items())


@skip_if_empty("versions")
def posted_differences(versions: pl.DataFrame) -> pl.DataFrame:
    """account_id, currency, reference, posted_on, amount (by how much each version changes the balance); sorted."""
    ordered = versions.sort(*_IDENTITY, "version")
    before = pl.col("amount").shift(1).over(_IDENTITY).fill_null(_ZERO)
    return ordered.select(*_IDENTITY, "posted_on", amount=(pl.col("amount") - before).cast(MONEY))


def changed_rows(rows: pl.DataFrame, used: pl.DataFrame) -> list[str]:
    """Warnings about rows that changed, or vanished, after they were used."""
    found = _latest(used).join(rows, on=_IDENTITY, how="left", suffix="_now", maintain_order="left")
    warnings = []
    for row in found.iter_rows(named=True):
        name = f"opening_balances: {row['account_id']}, reference {row['reference']!r}"
        was = f"{row['amount'].normalize():f} {row['currency']} on {row['on']}"
        if row["amount_now"] is None:
            warnings.append(f"{name}: the row is gone, and {was} still counts; expected a row of 0 to take it back")
        elif (row["amount_now"], row["on_now"]) != (row["amount"], row["on"]):
            now = f"{row['amount_now'].normalize():f} {row['currency']} on {row['on_now']}"
            warnings.append(f"{name}: found {now}, was used as {was}: the difference is posted")
    return warnings


@skip_if_empty("used")
def _latest(used: pl.DataFrame) -> pl.DataFrame:
    """The latest version of every opening balance, sorted."""
    return used.sort(*_IDENTITY, "version").group_by(_IDENTITY, maintain_order=True).last()
