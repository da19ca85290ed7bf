"""The billing dates of a subscription: monthly or yearly from a first day (rule 18)."""

from dataclasses import dataclass

import polars as pl

from billing.model.calendar import month_number
from billing.model.catalogue import Policy
from billing.model.codes import Term


@dataclass(frozen=True)
class Grid:
    """The billing dates of a subscription: date 0 is where the grid starts, date k falls k months later.

    With `first_of_month` every date but the first is the first of its month (policy `billing_anchor`).
    """

    first_of_month: bool

    @classmethod
    def of(cls, policy: Policy) -> "Grid":
        """The grid that a policy asks for."""
        return cls(policy.billing_anchor == "first_of_month")

    def date(self, start: pl.Expr, k: pl.Expr) -> pl.Expr:
        """Billing date k of a grid that starts on `start`: its anchor day, or the month's last day if earlier."""
        # Offset by months: Polars clamps to the last day of the month. Keep one copy of the expression: nested copies
        # multiply
        months = pl.format("{}mo", k)
        if self.first_of_month:
            return pl.when(k == 0).then(start).otherwise(start.dt.month_start().dt.offset_by(months))
        return start.dt.offset_by(months)

    def next_index(self, start: pl.Expr, day: pl.Expr) -> pl.Expr:
        """The k of the first billing date after `day`: a billing date belongs to the cycle that it starts."""
        k = (month_number(day) - month_number(start)).clip(lower_bound=0)
        return k + (self.date(start, k) <= day).cast(pl.Int32)

    def first_date(self, start: pl.Expr, day: pl.Expr) -> pl.Expr:
        """The first billing date on or after `day`, and never before the grid starts."""
        return self.date(start, self.first_index(start, day))

    def first_index(self, start: pl.Expr, day: pl.Expr) -> pl.Expr:
        """The k of the first billing date on or after `day`."""
        return self.next_index(start, day - pl.duration(days=1))

    def next_date(self, start: pl.Expr, day: pl.Expr) -> pl.Expr:
        """The first billing date after `day`."""
        return self.date(start, self.next_index(start, day))

    def last_fee_date(self, start: pl.Expr, term: pl.Expr, day: pl.Expr) -> pl.Expr:
        """The last date up to `day` on which a package fee fell due; before the grid starts, its first date."""
        return self.fee_date_before(start, term, self.next_index(start, day))

    def fee_date_before(self, start: pl.Expr, term: pl.Expr, k: pl.Expr) -> pl.Expr:
        """As `last_fee_date`, of the date before date k."""
        last = (k - 1).clip(lower_bound=0)
        return self.date(start, pl.when(term == Term.YEARLY).then(last // 12 * 12).otherwise(last))

    def next_fee_date(self, start: pl.Expr, term: pl.Expr, day: pl.Expr) -> pl.Expr:
        """The first date after `day` on which a package fee falls due: every twelfth one of a yearly term (rule 18)."""
        return self.fee_date_from(start, term, self.next_index(start, day))

    def fee_date_from(self, start: pl.Expr, term: pl.Expr, k: pl.Expr) -> pl.Expr:
        """As `next_fee_date`, from date k on."""
        return self.date(start, pl.when(term == Term.YEARLY).then((k + 11) // 12 * 12).otherwise(k))
