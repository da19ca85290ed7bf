"""What a candidate catalogue would have changed: the tables of the answer, per currency."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final

import polars as pl

from billing.model.columns import MONEY
from billing.model.money import minor_units
from billing.model.plain_rows import plain_number, plain_rows

_AMOUNTS: Final = ("before", "after")
BUCKETS: Final = (-50, -20, -10, -5, 0, 5, 10, 20, 50)
"""Bounds of the histogram: by how many percent the bill of an account changes."""
PERCENTILES: Final = (1, 5, 10, 25, 50, 75, 90, 95, 99)
MOST_SHOWN: Final = 100
"""How many of the accounts that gain and lose most are shown."""
GONE: Final = "nothing was due before"

_SUMS: Final = {
    "months": ("month",),
    "packages": ("package",),
    "metrics": ("metric",),
    "rules": ("metric", "rule"),
    "lines": ("kind",),
    "details": ("kind", "package", "metric", "rule", "add_on", "term"),
}
"""Tables of sums, each with what it sums by."""


@dataclass(frozen=True)
class Comparison:
    """What is due under a candidate catalogue, beside what is due as it is.

    Attributes
    ----------
    tables
        By name, each with a column `currency` and amounts as MONEY: totals (before, after, difference, issued), months,
        packages, metrics, rules, lines and details (before, after), accounts (account_id, before, after, difference,
        why), causes (account_id, cause, difference), upgrades (what: caused, avoided or moved), distribution,
        percentiles, flagged, grandfathered and parked.
    not_reached
        Versions of the candidate that take effect after the last month.
    """

    name: str
    since: str
    through: str
    as_of: date
    currency: str
    tables: Mapping[str, pl.DataFrame] = field(repr=False)
    not_reached: Sequence[str] = ()
    flag_above: Decimal | None = None
    grandfather_before: date | None = None

    @property
    def currencies(self) -> list[str]:
        """The currencies in which anything is due, that of the catalogue first."""
        found = self.tables["totals"]["currency"].to_list()
        return [self.currency, *(code for code in found if code != self.currency)]

    def decimals(self, currency: str | None = None) -> int:
        """Decimals of the minor unit of a currency, by default that of the catalogue."""
        return minor_units(currency or self.currency) or 0

    def of(self, table: str, currency: str | None = None) -> pl.DataFrame:
        """A table in a currency, by default that of the catalogue, without the column that names it."""
        return self.tables[table].filter(pl.col("currency") == (currency or self.currency)).drop("currency")

    def rows(self, table: str, currency: str | None = None) -> list[dict[str, Any]]:
        """A table in a currency as plain values: amounts with the decimals of its minor unit."""
        return plain_rows(self.of(table, currency), self.decimals(currency))

    def as_plain(self) -> dict[str, Any]:
        """The answer as plain values; what is in other currencies stands by itself in `others`."""
        found = {
            "name": self.name,
            "from": self.since,
            "through": self.through,
            "as_of": None if self.as_of == date.max else self.as_of.isoformat(),
            **self._in_currency(self.currency),
            "not_reached": list(self.not_reached),
        }
        if len(self.currencies) > 1:
            found["others"] = [self._in_currency(code) for code in self.currencies[1:]]
        return found

    def _in_currency(self, currency: str) -> dict[str, Any]:
        totals = self.rows("totals", currency) or plain_rows(
            pl.DataFrame({name: [0] for name in ("before", "after", "difference", "issued")}).cast(MONEY),
            self.decimals(currency),
        )
        upgrades = self.of("upgrades", currency)["what"]
        found: dict[str, Any] = {
            **totals[0],
            "currency": currency,
            **{name: self.rows(name, currency) for name in (*_SUMS, "accounts") if name != "details"},
            "upgrades": {what: int((upgrades == what).sum()) for what in ("caused", "avoided", "moved")},
            **{name: self.rows(name, currency) for name in ("distribution", "percentiles", "parked")},
        }
        if self.flag_above is not None:
            flagged = [row["account_id"] for row in self.rows("flagged", currency)]
            found["flagged"] = {"above_percent": plain_number(self.flag_above), "accounts": flagged}
        if self.grandfather_before is not None:
            kept = self.rows("grandfathered", currency)
            found["grandfathered"] = {"before_day": self.grandfather_before.isoformat(), **(kept[0] if kept else {})}
        return found


class Sums:
    """Adds up the months of a comparison, one at a time: memory follows the accounts, not the months."""

    def __init__(self) -> None:
        self._parts: dict[str, list[pl.DataFrame]] = {name: [] for name in _SUMS}
        account = {"currency": pl.String, "account_id": pl.String}
        self._accounts = pl.DataFrame(schema={**account, "before": MONEY, "after": MONEY})
        self._causes = pl.DataFrame(schema={**account, "cause": pl.String, "difference": MONEY})
        self._issued = pl.DataFrame(schema={**account, "issued": MONEY})
        self._parked: list[pl.DataFrame] = []

    def add(self, month: str, changes: pl.DataFrame, issued: pl.DataFrame, parked: pl.DataFrame) -> None:
        """Add a month, of a shard.

        Parameters
        ----------
        changes
            As `line_changes`, and currency.
        issued
            currency, account_id, issued.
        parked
            currency, account_id, reason, side (before, after).
        """
        dated = changes.with_columns(month=pl.lit(month))
        for name, keys in _SUMS.items():
            self._parts[name].append(_summed(dated.drop_nulls(keys[:1]), ["currency", *keys], _AMOUNTS))
        own = _summed(changes, ["currency", "account_id"], _AMOUNTS)
        self._accounts = _more(self._accounts, own, ["currency", "account_id"], _AMOUNTS)
        of_causes = changes.drop_nulls("cause").select(
            "currency", "account_id", "cause", difference=pl.col("after") - pl.col("before")
        )
        self._causes = _more(self._causes, of_causes, ["currency", "account_id", "cause"], ("difference",))
        self._issued = _more(self._issued, issued, ["currency", "account_id"], ("issued",))
        self._parked.append(parked.with_columns(month=pl.lit(month)))

    def tables(
        self,
        upgrades: pl.DataFrame,
        flag_above: Decimal | None,
        grandfathered: pl.Series | None,
    ) -> dict[str, pl.DataFrame]:
        """The tables of `Comparison`.

        Parameters
        ----------
        upgrades
            currency, account_id, subscription_id, to_package, before, after (their billing dates) and what.
        grandfathered
            account_id of the accounts that stay on the old versions; None without such a rule.
        """
        causes = self._causes.filter(pl.col("difference") != 0).sort("currency", "account_id", "cause")
        accounts = _with_why(self._accounts.with_columns(difference=_difference()), causes)
        issued = _summed(self._issued, ["currency"], ("issued",))
        totals = _summed(accounts, ["currency"], (*_AMOUNTS, "difference")).join(
            issued, on="currency", how="left", maintain_order="left"
        )
        by_sum = {
            name: _summed(pl.concat(parts), ["currency", *_SUMS[name]], _AMOUNTS) for name, parts in self._parts.items()
        }
        return {
            "totals": totals.with_columns(pl.col("issued").fill_null(0).cast(MONEY)),
            **by_sum,
            "accounts": accounts,
            "causes": causes,
            "upgrades": upgrades,
            "distribution": _distribution(accounts),
            "percentiles": _percentiles(accounts),
            "flagged": _flagged(accounts, flag_above),
            "grandfathered": _grandfathered(accounts, grandfathered),
            "parked": pl.concat(self._parked).sort("currency", "account_id", "month", "side"),
        }


def _summed(frame: pl.DataFrame, keys: Sequence[str], amounts: Sequence[str]) -> pl.DataFrame:
    sums = [pl.col(name).sum().cast(MONEY) for name in amounts]
    return frame.group_by(keys).agg(sums).sort(keys)


def _more(known: pl.DataFrame, more: pl.DataFrame, keys: Sequence[str], amounts: Sequence[str]) -> pl.DataFrame:
    return _summed(pl.concat([known, more.select(known.columns)]), keys, amounts)


def _difference() -> pl.Expr:
    return (pl.col("after") - pl.col("before")).cast(MONEY)


def _with_why(accounts: pl.DataFrame, causes: pl.DataFrame) -> pl.DataFrame:
    """`accounts` with why: what moved the bill, the most first; empty where nothing did."""
    largest_first = causes.sort("account_id", pl.col("difference").abs(), "cause", descending=[False, True, False])
    why = largest_first.group_by("currency", "account_id", maintain_order=True).agg(why=pl.col("cause").str.join(", "))
    return accounts.join(why, on=["currency", "account_id"], how="left", maintain_order="left").with_columns(
        pl.col("why").fill_null("")
    )


def _distribution(accounts: pl.DataFrame) -> pl.DataFrame:
    """currency, from_percent, to_percent, accounts, difference: by how much bills change; unchanged ones from 0 to 0.

    A bound belongs to the smaller change. Null is open; where nothing was due before both are null.
    """
    # In whole numbers: difference / before against a bound of so many percent.
    percent, before = pl.col("difference").to_physical() * 100, pl.col("before").to_physical()
    is_new, is_same = (pl.col("before") <= 0) & (pl.col("difference") != 0), pl.col("difference") == 0
    steps = [(low, high) for low, high in zip((None, *BUCKETS), (*BUCKETS, None), strict=True)]
    place = pl.when(is_same).then(pl.lit(-1)).when(is_new).then(pl.lit(len(steps)))
    for number, (low, high) in enumerate(steps):
        bounds = []
        if low is not None:
            bounds.append(percent > low * before if low >= 0 else percent >= low * before)
        if high is not None:
            bounds.append(percent <= high * before if high > 0 else percent < high * before)
        place = place.when(pl.all_horizontal(bounds)).then(pl.lit(number))
    names = dict(enumerate(steps)) | {-1: (0, 0), len(steps): (None, None)}
    frame = pl.DataFrame(
        [(number, *names[number]) for number in names],
        schema={"_place": pl.Int32, "from_percent": pl.Int32, "to_percent": pl.Int32},
        orient="row",
    )
    counted = (
        accounts.with_columns(_place=place.cast(pl.Int32))
        .group_by("currency", "_place")
        .agg(accounts=pl.len().cast(pl.Int64), difference=pl.col("difference").sum().cast(MONEY))
    )
    # Unchanged accounts stand between those that pay less and those that pay more.
    order = pl.when(pl.col("_place") == -1).then(BUCKETS.index(0) * 2 + 1).otherwise(pl.col("_place") * 2)
    return (
        counted.join(frame, on="_place")
        .sort("currency", order)
        .select("currency", "from_percent", "to_percent", "accounts", "difference")
    )


def _percentiles(accounts: pl.DataFrame) -> pl.DataFrame:
    """currency, percentile, difference: the smallest difference that so many percent of accounts do not exceed."""
    ranked = accounts.sort("currency", "difference").group_by("currency", maintain_order=True)
    found = [
        ranked.agg(
            percentile=pl.lit(percent, pl.Int32),
            difference=pl.col("difference").get((pl.len() * percent + 99) // 100 - 1),
        )
        for percent in PERCENTILES
    ]
    return pl.concat(found).sort("currency", "percentile")


def _flagged(accounts: pl.DataFrame, above: Decimal | None) -> pl.DataFrame:
    """The accounts whose bill changes by more than so many percent; all that had none before and have one."""
    if above is None:
        return accounts.clear()
    scale = 10 ** max(0, -int(above.as_tuple().exponent))
    change = pl.col("difference").abs().to_physical() * 100 * scale
    bound = pl.col("before").abs().to_physical() * int(above * scale)
    return accounts.filter((pl.col("difference") != 0) & (change > bound))


def _grandfathered(accounts: pl.DataFrame, kept: pl.Series | None) -> pl.DataFrame:
    """currency, accounts, before, after, cost: what the accounts that stay on the old versions do not pay."""
    own = accounts.clear() if kept is None else accounts.filter(pl.col("account_id").is_in(kept.implode()))
    return (
        own.group_by("currency")
        .agg(
            accounts=pl.len().cast(pl.Int64),
            before=pl.col("before").sum().cast(MONEY),
            after=pl.col("after").sum().cast(MONEY),
            cost=pl.col("difference").sum().cast(MONEY),
        )
        .sort("currency")
    )
