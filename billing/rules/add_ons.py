"""Rule 31: add-ons, what a subscription holds of which from when on, and what that adds to its allowances."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl

from billing.model.catalogue import Catalogue
from billing.model.codes import ADD_ON_CHANGES, DecisionKind, Outcome
from billing.model.columns import BASE_QUANTITY, PRICE, QUANTITY
from billing.model.empty_frames import skip_if_empty
from billing.model.money import scaled_to_decimal
from billing.model.quantities import exactly
from billing.model.tables import ADD_ONS

HELD_SCHEMA: Final = pl.Schema(
    {
        "subscription_id": pl.String(),
        "add_on": pl.String(),
        "quantity": pl.Int64(),
        "since": pl.Date(),
        "until": pl.Date(),
    }
)
_WHOLE_TIME: Final = date(1, 1, 1)
_ONE: Final = ["subscription_id", "add_on"]


@dataclass(frozen=True)
class AddOnFrames:
    """The add-ons of a catalogue as frames to join.

    Attributes
    ----------
    versions
        add_on, since, monthly (null: not sold in the currency), yearly (null: not sold yearly; both PRICE), maximum
        (null: no limit); sorted by since.
    allowances
        add_on, since, metric, allowance (BASE_QUANTITY), allowance_units (QUANTITY; both null: unlimited): of one.
    allowed
        package, add_on: what each package allows.
    """

    versions: pl.DataFrame
    allowances: pl.DataFrame
    allowed: pl.DataFrame

    @classmethod
    def of(cls, catalogue: Catalogue) -> "AddOnFrames":
        """The add-ons of a catalogue."""
        versions = [
            (
                *(add_on.name, version.effective_from, version.monthly if version.is_sold else None),
                *(version.yearly, version.maximum),
            )
            for add_on in catalogue.add_ons
            for version in add_on.versions
        ]
        allowances = [
            (
                *(add_on.name, version.effective_from, name),
                None if allowance is None else exactly(allowance, catalogue.metric(name).unit_size),
                allowance,
            )
            for add_on in catalogue.add_ons
            for version in add_on.versions
            for name, allowance in version.allowances.items()
        ]
        allowed = [
            (package.name, add_on.name)
            for package in catalogue.packages
            for add_on in catalogue.add_ons
            if package.add_ons is None or add_on.name in package.add_ons
        ]
        key = {"add_on": pl.String, "since": pl.Date}
        return cls(
            pl.DataFrame(
                versions, schema={**key, "monthly": PRICE, "yearly": PRICE, "maximum": pl.Int64}, orient="row"
            ).sort("since", "add_on"),
            pl.DataFrame(
                allowances,
                schema={**key, "metric": pl.String, "allowance": BASE_QUANTITY, "allowance_units": QUANTITY},
                orient="row",
            ),
            pl.DataFrame(allowed, schema={"package": pl.String, "add_on": pl.String}, orient="row"),
        )

    @skip_if_empty("frame", by=("on", "or_first"))
    def with_version(self, frame: pl.DataFrame, on: str, *, or_first: bool = False) -> pl.DataFrame:
        """`frame` (add_on) with version (null: none), monthly, yearly and maximum of the version on the date `on`.

        Parameters
        ----------
        or_first
            Use the first version on earlier dates, too.
        """
        dated = frame.with_row_index("_row").with_columns(_on=pl.col(on))
        if or_first:
            first = self.versions.group_by("add_on").agg(_first=pl.col("since").min())
            dated = dated.join(first, on="add_on", how="left").with_columns(_on=pl.max_horizontal("_on", "_first"))
        versions = self.versions.rename({"since": "version"}).sort("version")
        return (
            dated.sort("_on")
            .join_asof(versions, left_on="_on", right_on="version", by="add_on", coalesce=False, check_sortedness=False)
            .sort("_row")
            .drop("_row", "_on", "_first", strict=False)
        )


@skip_if_empty("changes")
def add_on_holdings(changes: pl.DataFrame) -> pl.DataFrame:
    """HELD_SCHEMA, sorted: what is held of each add-on over `[since, until)` (null: until the subscription ends).

    Parameters
    ----------
    changes
        ADD_ONS of all months up to one. What came with a subscription is held from its start on: a subscription that
        moved in has had it in the cycle before.
    """
    # Sorted by subscription and add-on: what follows of the same is the next row.
    follows = pl.all_horizontal(pl.col(name) == pl.col(name).shift(-1) for name in _ONE)
    ordered = changes.with_columns(since=pl.when("is_given").then(pl.lit(_WHOLE_TIME)).otherwise("effective_on")).sort(
        *_ONE, "billing_date"
    )
    # A lower quantity that waits for the end of a term is void when another one is decided before (rule 18).
    replaced = (follows & (pl.col("billing_date").shift(-1) <= pl.col("effective_on"))).fill_null(value=False)
    held = ordered.filter(~replaced).with_columns(until=pl.when(follows).then(pl.col("since").shift(-1)))
    return held.filter(pl.col("quantity") > 0).select(HELD_SCHEMA.names()).sort(*_ONE, "since")


@skip_if_empty("decisions")
def approved_changes(decisions: pl.DataFrame) -> pl.DataFrame:
    """ADD_ONS of the approved decisions about add-ons; what came with a subscription has no request_id."""
    is_more = pl.col("kind") == DecisionKind.ADD
    changes = decisions.filter(pl.col("kind").is_in(ADD_ON_CHANGES) & (pl.col("outcome") == Outcome.APPROVED))
    return ADD_ONS.conform(
        changes.with_columns(
            billing_date="decided_on",
            quantity=pl.when(is_more).then("quantity").otherwise(0),
            is_given=is_more & pl.col("request_id").is_null(),
        ).unique(["subscription_id", "billing_date", "add_on"], keep="last", maintain_order=True)
    )


@skip_if_empty("holdings", by=("on",))
@skip_if_empty("dates", by=("on",))
def held_on(dates: pl.DataFrame, holdings: pl.DataFrame, on: str) -> pl.DataFrame:
    """`dates` (subscription_id, `on`) with add_on and held: a row per add-on that is held on the date."""
    day = pl.col(on)
    # Rows of requests and terms have an add_on and a since of their own.
    held = holdings.rename({"quantity": "held", "since": "_since", "until": "_until"})
    return (
        dates.drop("add_on", strict=False)
        .join(held, on="subscription_id", maintain_order="left_right")
        .filter((pl.col("_since") <= day) & (pl.col("_until").is_null() | (day < pl.col("_until"))))
        .drop("_since", "_until")
    )


def held_and_coming(holdings: pl.DataFrame, day: date) -> pl.DataFrame:
    """subscription_id, add_on, quantity on a day (0: none yet), next_quantity and effective_on of the next change.

    Both are null where no change is known. Sorted by subscription and add-on.
    """
    key = [pl.col(name) for name in _ONE]
    on_day = pl.lit(day)
    known = holdings.filter(pl.col("until").is_null() | (pl.col("until") > on_day)).sort(*_ONE, "since")
    is_held = pl.col("since") <= on_day
    follows = pl.col("since").shift(-1).over(key) == pl.col("until")
    now = known.filter(pl.int_range(pl.len()).over(key) == 0)
    after = known.with_columns(
        next_quantity=pl.when(is_held & pl.col("until").is_not_null())
        .then(pl.when(follows.fill_null(value=False)).then(pl.col("quantity").shift(-1).over(key)).otherwise(0))
        .when(~is_held)
        .then("quantity"),
        effective_on=pl.when(is_held).then("until").otherwise("since"),
    ).select(*_ONE, "since", "next_quantity", "effective_on")
    return now.join(after, on=[*_ONE, "since"], maintain_order="left").select(
        *_ONE, "next_quantity", "effective_on", quantity=pl.when(is_held).then("quantity").otherwise(0)
    )


def added_allowances(held: pl.DataFrame, add_ons: AddOnFrames, on: str, keys: Sequence[str]) -> pl.DataFrame:
    """What add-ons add to the allowances: the columns `keys`, metric, added, added_units, is_unlimited.

    Parameters
    ----------
    held
        keys, add_on, held, and the date `on` whose version counts.
    """
    rows = add_ons.with_version(held, on, or_first=True).join(
        add_ons.allowances, left_on=["add_on", "version"], right_on=["add_on", "since"]
    )
    times = pl.col("held").cast(pl.Int128)
    return rows.group_by(*keys, "metric", maintain_order=True).agg(
        added=_added(times, "allowance", BASE_QUANTITY.scale).sum(),
        added_units=_added(times, "allowance_units", QUANTITY.scale).sum(),
        is_unlimited=pl.col("allowance").is_null().any(),
    )


def _added(times: pl.Expr, column: str, scale: int) -> pl.Expr:
    return scaled_to_decimal(pl.col(column).to_physical().cast(pl.Int128) * times, scale)


@dataclass(frozen=True)
class HeldAddOns:
    """What subscriptions hold of add-ons in the cycles of a month, and what it adds to their allowances.

    Attributes
    ----------
    holdings
        As `add_on_holdings`.
    """

    holdings: pl.DataFrame
    add_ons: AddOnFrames

    def added_in(self, usage: pl.DataFrame) -> pl.DataFrame:
        """subscription_id, metric, added, added_units, is_unlimited: what they add in the cycles that closed.

        Parameters
        ----------
        usage
            subscription_id, cycle_start.
        """
        cycles = usage.select("subscription_id", "cycle_start").unique(maintain_order=True)
        held = held_on(cycles, self.holdings, "cycle_start")
        return added_allowances(held, self.add_ons, "cycle_start", ["subscription_id"])

    def with_allowances(
        self,
        frame: pl.DataFrame,
        cycles: pl.DataFrame,
        keys: Sequence[str],
        *,
        package: str | None = None,
        on: str = "cycle_start",
    ) -> pl.DataFrame:
        """`frame` with what add-ons add in its allowance and allowance_units (null stays unlimited).

        Parameters
        ----------
        frame
            keys, metric, allowance (BASE_QUANTITY) and allowance_units.
        cycles
            keys, subscription_id, cycle_start: what is held in the cycle counts.
        package
            The column of `cycles` with the package that has to allow it; None where it is in force.
        on
            The date whose version of the add-on counts.
        """
        held = held_on(cycles, self.holdings, "cycle_start")
        if package is not None:
            held = held.join(
                self.add_ons.allowed, left_on=[package, "add_on"], right_on=["package", "add_on"], how="semi"
            )
        added = added_allowances(held, self.add_ons, on, keys)
        joined = frame.join(added, on=[*keys, "metric"], how="left", maintain_order="left")
        is_limited = ~pl.col("is_unlimited").fill_null(value=False)
        more = {"allowance": "added", "allowance_units": "added_units"}
        return joined.with_columns(
            pl.when(is_limited).then(pl.col(name) + pl.col(added_of).fill_null(0)).cast(frame.schema[name]).alias(name)
            for name, added_of in more.items()
        ).drop("added", "added_units", "is_unlimited")
