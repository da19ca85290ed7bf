"""Closed billing dates that are read as open ones, to decide them again: what a what-if does."""

from dataclasses import dataclass, field
from typing import Final

import polars as pl

_DATE: Final = ["billing_month", "subscription_id"]


@dataclass
class Reopened:
    """The billing dates of months, except those whose decisions stand.

    Attributes
    ----------
    since
        The first month whose billing dates are open again.
    """

    since: str
    _stand: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=dict.fromkeys(_DATE, pl.String)))

    def let_stand(self, month: str, subscriptions: pl.Series) -> None:
        """Let what was decided on the billing dates of some subscriptions in a month stand."""
        dates = pl.DataFrame({"subscription_id": subscriptions}).select(pl.lit(month).alias(_DATE[0]), _DATE[1])
        self._stand = pl.concat([self._stand, dates])

    def standing(self, rows: pl.DataFrame, month: pl.Expr) -> pl.DataFrame:
        """The rows about closed billing dates, with subscription_id, that are read as they are; `month` is theirs."""
        dated = rows.with_columns(_month=month)
        stands = self._stand.rename({"billing_month": "_month"}).with_columns(_stands=pl.lit(value=True))
        return (
            dated.join(stands, on=["_month", "subscription_id"], how="left", maintain_order="left")
            .filter((pl.col("_month") < self.since) | pl.col("_stands"))
            .drop("_month", "_stands")
        )
