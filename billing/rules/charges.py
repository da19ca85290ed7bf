"""Charges and dues: what closed cycles cost, and what falls due on each billing date (rules 1 to 6 and 18)."""

from typing import Final

import polars as pl

from billing.model.catalogue import Catalogue
from billing.model.codes import UPGRADES, FeeReason, LineKind, ParkedReason, SubscriptionStatus, Term
from billing.model.columns import MONEY, PRICE, QUANTITY
from billing.model.empty_frames import skip_if_empty
from billing.model.money import round_fraction
from billing.model.tables import CHARGES, DUES
from billing.rules.add_ons import HeldAddOns
from billing.rules.dimensions import with_rule_words
from billing.rules.rating import rate
from billing.rules.terms import PRICE_SCALE, TermsFrames, with_terms

_PRICE_UNIT: Final = pl.lit(PRICE_SCALE, pl.Int128)


def rated_usage(
    usage: pl.DataFrame, packages: pl.DataFrame, terms: TermsFrames, held: HeldAddOns | None = None
) -> pl.DataFrame:
    """Every measured quantity with its tariff and amount: the package as closed, the version at the cycle's start.

    Parameters
    ----------
    held
        What subscriptions hold of add-ons: their allowances add to those of the package (rule 31).

    Returns
    -------
    polars.DataFrame
        The columns of USAGE, package, and those of `rate`; `out_of_range` marks what cannot be rated.
    """
    in_force = packages.select("subscription_id", package="closing_package")
    packaged = usage.join(in_force, on="subscription_id", maintain_order="left")
    keyed = with_terms(packaged, terms, on="cycle_start", or_first=True)
    if held is None:
        return rate(keyed, terms)
    # rule 34: what add-ons add goes to what no rule matches.
    added = held.added_in(usage).with_columns(rule=pl.lit(None, pl.String))
    keys = ["subscription_id", "metric", "rule"]
    keyed = keyed.join(added, on=keys, how="left", nulls_equal=True, maintain_order="left")
    return rate(keyed, terms).drop("added", "added_units", "is_unlimited")


def month_charges(rated: pl.DataFrame) -> pl.DataFrame:
    """The table CHARGES: within the allowance, too, at 0."""
    return CHARGES.conform(rated.rename({"allowance_units": "allowance"}))


def month_dues(
    month: str,
    *,
    cycles: pl.DataFrame,
    packages: pl.DataFrame,
    first_packages: pl.DataFrame,
    rated: pl.DataFrame,
    terms: TermsFrames,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """What falls due on the month's billing dates: the table DUES.

    Rule 6: a fee that is due stands there whatever its amount and whatever the usage; an overage where it costs
    something.

    Parameters
    ----------
    first_packages
        subscription_id, first_package: of subscriptions that begin in the month.
    """
    dated = with_packages(cycles, packages).join(
        first_packages.select("subscription_id", "first_package"),
        on="subscription_id",
        how="left",
        maintain_order="left",
    )
    fees = [
        _package_fees(dated, terms, catalogue),
        _late_yearly_fees(with_late_dates(dated), terms, catalogue),
        _yearly_upgrades(dated.filter(_is_upgrade_within_a_year(catalogue)), terms, catalogue),
        _hold_fees(dated.filter("hold_fee_due"), catalogue),
        _overages(dated, rated, catalogue),
    ]
    columns = [name for name in DUES.column_names if name != "billing_month"]
    own = [fee.select(name for name in columns if name in fee.columns) for fee in fees]
    dues = pl.concat(own, how="diagonal").with_columns(billing_month=pl.lit(month))
    lacking = [pl.lit(None, dtype).alias(name) for name, dtype in DUES.schema.items() if name not in dues.columns]
    return DUES.conform(dues.with_columns(lacking))


def with_packages(cycles: pl.DataFrame, packages: pl.DataFrame) -> pl.DataFrame:
    """CYCLES of a month with closing_package, opening_package and change_reason."""
    columns = ["subscription_id", "closing_package", "opening_package", "change_reason"]
    return cycles.join(packages.select(columns), on="subscription_id")


def _package_fees(dated: pl.DataFrame, terms: TermsFrames, catalogue: Catalogue) -> pl.DataFrame:
    """The fee of the cycle that starts, at the version effective on the billing date (rule 2)."""
    due = with_terms(
        dated.filter((pl.col("fee_share_numerator") > 0) & pl.col("opening_package").is_not_null()).with_columns(
            package="opening_package"
        ),
        terms,
        on="billing_date",
        or_first=True,
    )
    priced = due.join(terms.packages, on=["terms_key", "package", "since"], how="left", maintain_order="left")
    is_yearly = pl.col("term") == Term.YEARLY
    price = pl.when(is_yearly).then("yearly").otherwise("monthly").to_physical()
    denominator = pl.col("fee_share_denominator").cast(pl.Int128) * _PRICE_UNIT
    fee = round_fraction(price * pl.col("fee_share_numerator").cast(pl.Int128), denominator, catalogue.minor_units)
    partly = pl.col("fee_share_denominator") > 1
    return _line(
        priced.with_columns(
            amount=fee,
            cycle_end=pl.when(is_yearly).then("following_term").otherwise("next_billing_date"),
            whole_fee=pl.when(partly).then("monthly"),
            fee_part=pl.when(partly).then("fee_share_numerator"),
            fee_parts=pl.when(partly).then("fee_share_denominator"),
        ),
        kind=LineKind.PACKAGE_FEE,
        cycle_start=pl.col("billing_date"),
        description=pl.concat_str(
            _title("package", catalogue),
            pl.when(is_yearly).then(pl.lit(", yearly fee")).otherwise(pl.lit(", monthly fee")),
            pl.when(partly)
            .then(pl.format(", {} of {} days", "fee_share_numerator", "fee_share_denominator"))
            .otherwise(pl.lit("")),
        ),
    )


@skip_if_empty("late")
def _late_yearly_fees(late: pl.DataFrame, terms: TermsFrames, catalogue: Catalogue) -> pl.DataFrame:
    """A yearly fee that a suspension kept, on the day access comes back, at the version of that day (rule 16)."""
    late = late.with_columns(package=pl.coalesce("opening_package", "closing_package"))
    priced = with_terms(late, terms, on="billing_date", or_first=True).join(
        terms.packages, on=["terms_key", "package", "since"], how="left", maintain_order="left"
    )
    fee = round_fraction(pl.col("yearly").to_physical(), _PRICE_UNIT, catalogue.minor_units)
    return _line(
        priced.with_columns(amount=fee, cycle_end=pl.col("late_term_end")),
        kind=LineKind.PACKAGE_FEE,
        cycle_start=pl.col("late_term_start"),
        description=pl.format("{}, yearly fee", _title("package", catalogue)),
    )


def with_late_dates(dated: pl.DataFrame) -> pl.DataFrame:
    """The dates on which late yearly fees fall due, as billing dates of their own: the other columns of `dated`.

    Parameters
    ----------
    dated
        subscription_id, billing_date, next_billing_date, late_fee_on, opening_package, closing_package, of a month.

    Returns
    -------
    polars.DataFrame
        billing_date is the day the fee falls due, next_billing_date the regular one after it, and both packages are
        the one in force on the day.
    """
    back = pl.col("late_fee_on")
    is_before = back < pl.col("billing_date")
    in_force = pl.when(is_before).then("closing_package").otherwise("opening_package")
    return dated.filter(back.is_not_null()).with_columns(
        billing_date=back,
        next_billing_date=pl.when(is_before).then("billing_date").otherwise("next_billing_date"),
        closing_package=in_force,
        opening_package=in_force,
    )


def _is_upgrade_within_a_year(catalogue: Catalogue) -> pl.Expr:
    return (
        (pl.col("term") == Term.YEARLY)
        & (pl.col("billing_index") % 12 != 0)
        & pl.col("change_reason").is_in(UPGRADES)
        & (pl.col("fee_reason") == FeeReason.TERM)
        # The difference is a fee: none falls due while suspended (rule 16).
        & ((pl.col("status") != SubscriptionStatus.SUSPENDED) | pl.lit(catalogue.policy.charge_while_suspended))
        # A late fee on the same day is already the whole fee of the higher package.
        & pl.col("late_fee_on").ne_missing(pl.col("billing_date"))
    )


@skip_if_empty("upgraded")
def _yearly_upgrades(upgraded: pl.DataFrame, terms: TermsFrames, catalogue: Catalogue) -> pl.DataFrame:
    """A higher package inside a yearly term: the difference of the fees for the whole cycles left (rule 18)."""
    price = terms.packages.select("terms_key", "since", "package", "yearly")
    both = with_terms(upgraded.with_columns(package="opening_package"), terms, on="billing_date", or_first=True).join(
        price, on=["terms_key", "package", "since"], how="left", maintain_order="left"
    )
    both = with_terms(
        both.drop("terms_key", "since"), terms, on="billing_date", package="closing_package", or_first=True
    ).join(
        price.rename({"package": "closing_package", "yearly": "yearly_before"}),
        on=["terms_key", "closing_package", "since"],
        how="left",
        maintain_order="left",
    )
    left = 12 - pl.col("billing_index") % 12
    difference = pl.col("yearly").to_physical() - pl.col("yearly_before").to_physical()
    amount = round_fraction(
        difference * left.cast(pl.Int128), pl.lit(12 * PRICE_SCALE, pl.Int128), catalogue.minor_units
    )
    return _line(
        both.with_columns(
            amount=amount,
            cycle_end=pl.col("term_end"),
            whole_fee="yearly",
            replaced_fee="yearly_before",
            fee_part=left,
            fee_parts=pl.lit(12, pl.Int32),
        ),
        kind=LineKind.PACKAGE_FEE,
        cycle_start=pl.col("billing_date"),
        description=pl.format(
            "{} instead of {}, difference of the yearly fees for {} of 12 cycles",
            _title("opening_package", catalogue),
            _title("closing_package", catalogue),
            left,
        ),
    )


@skip_if_empty("held")
def _hold_fees(held: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """A held subscription keeps its billing dates where the policy has a hold fee (rule 13)."""
    fee = pl.lit(catalogue.policy.hold_fee).cast(PRICE).to_physical()
    return _line(
        held.with_columns(
            # Held during its trial and ended before the second date: it has no cycle, so no closing package.
            package=pl.coalesce("opening_package", "closing_package", "first_package"),
            amount=round_fraction(fee, _PRICE_UNIT, catalogue.minor_units),
            cycle_end=pl.col("next_billing_date"),
        ),
        kind=LineKind.HOLD_FEE,
        cycle_start=pl.col("billing_date"),
        description=pl.lit("Subscription on hold"),
    )


def _overages(dated: pl.DataFrame, rated: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """The overages of the cycle that ended, each with its arithmetic; those of each rule by themselves (rule 34)."""
    over = rated.filter(pl.col("amount") != 0).join(
        dated.select("subscription_id", "billing_date"), on="subscription_id"
    )
    titles = {metric.name: metric.title for metric in catalogue.metrics}
    return over.select(
        "account_id",
        "subscription_id",
        "billing_date",
        "metric",
        "package",
        "cycle_start",
        "cycle_end",
        "quantity",
        "excess",
        "billed_units",
        "unit_price",
        "amount",
        "rule",
        kind=pl.lit(LineKind.OVERAGE),
        due_item="rule",
        allowance="allowance_units",
        description=pl.format(
            "{} over the allowance of {}",
            with_rule_words(pl.col("metric").replace(titles), catalogue),
            _title("package", catalogue),
        ),
    )


@skip_if_empty("frame")
def _line(frame: pl.DataFrame, kind: LineKind, cycle_start: pl.Expr, description: pl.Expr) -> pl.DataFrame:
    nothing = pl.lit(None, QUANTITY)
    return frame.with_columns(
        kind=pl.lit(kind),
        metric=pl.lit(None, pl.String),
        cycle_start=cycle_start,
        quantity=nothing,
        allowance=nothing,
        excess=nothing,
        billed_units=nothing,
        unit_price=pl.lit(None, PRICE),
        amount=pl.col("amount").cast(MONEY),
        description=description,
        package=pl.col("package"),
    )


def _title(column: str, catalogue: Catalogue) -> pl.Expr:
    return pl.col(column).replace({package.name: package.title for package in catalogue.packages})


def parked_by_rating(rated: pl.DataFrame, month: str) -> pl.DataFrame:
    """account_id, billing_month, reason, detail: accounts with a quantity that cannot be measured or rated exactly."""
    beyond = rated.filter(pl.col("quantity").is_null() | pl.col("out_of_range").fill_null(value=False))
    return beyond.select(
        "account_id",
        billing_month=pl.lit(month),
        reason=pl.lit(ParkedReason.QUANTITY_OUT_OF_RANGE),
        detail=pl.format(
            "{} of {} in the cycle from {} is {} base units: more than can be rated exactly; correct the events",
            "metric",
            "subscription_id",
            pl.col("cycle_start").dt.to_string("%Y-%m-%d"),
            pl.col("base_quantity").cast(pl.String),
        ),
    ).unique("account_id", keep="first", maintain_order=True)
