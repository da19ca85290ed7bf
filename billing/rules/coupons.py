"""Coupons: what they take off the lines of a document (rule 29).

Each is one rounded amount per document, of what its lines still cost, spread over them in proportion by the largest
remainder. Amounts are counted in minor units, as integers.
"""

from typing import Final

import polars as pl

from billing.model.catalogue import Catalogue
from billing.model.codes import SCHEDULED, LineKind
from billing.model.columns import MONEY
from billing.model.money import scaled_to_decimal
from billing.model.offers import Coupon
from billing.model.quantities import INTEGER, exactly
from billing.rules.due_items import coupon_item, whole_kind
from billing.rules.largest_remainder import spread
from billing.rules.own_documents import is_own_document, shown_subscription_id

COUNTED_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "subscription_id": pl.String,
    "coupon": pl.String,
    "billing_date": pl.Date,
}
"""Scheduled documents on which a coupon took something off."""
_PERCENT: Final = 10**9
_DOCUMENT: Final = ["account_id", "subscription_id", "billing_date"]
_LINE: Final = ("kind", "metric", "due_item")


def coupon_dues(
    dues: pl.DataFrame, redeemed: pl.DataFrame, counted: pl.DataFrame, cycles: pl.DataFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """What coupons take off the dues of a month: rows of DUES of kind coupon, their amounts negative.

    Parameters
    ----------
    dues
        DUES of the month, without coupons, and coupon_allowed (null: a coupon may lower it).
    redeemed
        HOLDING_SCHEMA of `billing.rules.redemptions`.
    counted
        COUNTED_SCHEMA, of earlier months.
    cycles
        The table CYCLES of the month.
    """
    lines = _lines(dues, catalogue)
    coupons = _in_force(lines, redeemed, counted, cycles, catalogue)
    left = lines
    parts = [dues.clear().drop("coupon_allowed")]
    places = coupons["place"].unique().sort().to_list()
    for place in places:
        taken = _taken(left, coupons.filter(pl.col("place") == place), catalogue)
        parts.append(taken.select(parts[0].columns))
        if place == places[-1]:
            break
        left = (
            left.join(taken.select("row", "off"), on="row", how="left", maintain_order="left")
            .with_columns(left=pl.col("left") - pl.col("off").fill_null(0))
            .drop("off")
        )
    return pl.concat(parts)


def counted_documents(dues: pl.LazyFrame) -> pl.DataFrame:
    """COUNTED_SCHEMA of the table DUES of some months."""
    coupons = dues.filter((pl.col("kind") == LineKind.COUPON) & ~is_own_document())
    return coupons.select(list(COUNTED_SCHEMA)).unique().sort(list(COUNTED_SCHEMA)).collect()


def _lines(dues: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """The dues that a coupon may lower, in the order of their page, numbered.

    With `left`, what they cost in minor units, and `document`, the number of their document: to group by it takes half
    the time of grouping by three texts.
    """
    begins = pl.any_horizontal(pl.col(key).ne_missing(pl.col(key).shift()) for key in _DOCUMENT)
    kinds = {kind.value: place for place, kind in enumerate(SCHEDULED)}
    metrics = {metric.name: place for place, metric in enumerate(catalogue.metrics)}
    unit = 10 ** (MONEY.scale - catalogue.minor_units)
    return (
        dues.filter((pl.col("amount") > 0) & pl.col("coupon_allowed").fill_null(value=True))
        .with_columns(
            left=pl.col("amount").to_physical().cast(INTEGER) // unit,
            _kind=pl.col("kind").replace_strict(kinds, return_dtype=pl.Int32),
            _metric=pl.col("metric").replace_strict(metrics, default=-1, return_dtype=pl.Int32),
        )
        .sort(*_DOCUMENT, "_kind", "_metric", "due_item", "cycle_start")
        .drop("_kind", "_metric")
        .with_columns(document=begins.cum_sum())
        .with_row_index("row")
    )


def _in_force(
    lines: pl.DataFrame, redeemed: pl.DataFrame, counted: pl.DataFrame, cycles: pl.DataFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """document, coupon, place: which coupons a document takes, one after the other from place 0.

    Lower priority first, then by the instant and the request_id that redeemed it. A document of its own takes the
    coupons of percent that the document of its cycle took; it does not count.
    """
    terms = pl.DataFrame(
        [(c.name, c.priority, c.documents, c.percent is not None) for c in catalogue.coupons if c.is_sold],
        schema={"coupon": pl.String, "priority": pl.Int64, "documents": pl.Int64, "is_percent": pl.Boolean},
        orient="row",
    )
    documents = _with_holders(
        lines.select("document", *_DOCUMENT).unique("document", keep="first", maintain_order=True), cycles
    )
    held = (
        documents.join(redeemed.drop("account_id"), left_on="holder", right_on="subscription_id")
        .filter(
            (pl.col("effective_on") <= pl.col("counts_on"))
            & (pl.col("revoked_on").is_null() | (pl.col("counts_on") < pl.col("revoked_on")))
        )
        .sort("at", "request_id")
        .group_by("document", "coupon", maintain_order=True)
        .agg(
            pl.col("holder", "counts_on", "is_own").first(),
            times=pl.len(),
            since=pl.col("effective_on").min(),
            at=pl.col("at").first(),
            by=pl.col("request_id").first(),
        )
        .join(terms, on="coupon")
        .filter(pl.col("is_percent") | ~pl.col("is_own"))
    )
    used = (
        held.select("document", "coupon", "holder", "counts_on", "since")
        .join(
            counted.rename({"billing_date": "used_on"}),
            left_on=["holder", "coupon"],
            right_on=["subscription_id", "coupon"],
        )
        .filter((pl.col("since") <= pl.col("used_on")) & (pl.col("used_on") < pl.col("counts_on")))
        .group_by("document", "coupon")
        .agg(used=pl.len())
    )
    return (
        held.join(used, on=["document", "coupon"], how="left")
        .filter(pl.col("documents").is_null() | (pl.col("used").fill_null(0) < pl.col("documents") * pl.col("times")))
        .sort("document", "priority", "at", "by")
        .select("document", "coupon", place=pl.int_range(pl.len()).over("document"))
    )


def _with_holders(documents: pl.DataFrame, cycles: pl.DataFrame) -> pl.DataFrame:
    """Add holder (the subscription whose coupons count), counts_on (the date of its scheduled document) and is_own."""
    is_own = is_own_document()
    scheduled = documents.filter(~is_own).with_columns(
        holder="subscription_id", counts_on="billing_date", is_own=pl.lit(value=False)
    )
    own = documents.filter(is_own)
    if own.is_empty():
        return scheduled
    dates = cycles.select("account_id", holder="subscription_id", starts_on="billing_date", started_on="cycle_start")
    counts_on = pl.when(pl.col("billing_date") >= pl.col("starts_on")).then("starts_on").otherwise("started_on")
    found = (
        own.with_columns(of_upgrade=shown_subscription_id())
        .join(dates, on="account_id")
        .filter(pl.col("of_upgrade").is_null() | (pl.col("of_upgrade") == pl.col("holder")))
        .with_columns(counts_on=counts_on, is_own=pl.lit(value=True))
        .filter(pl.col("counts_on").is_not_null())
        .sort(*_DOCUMENT, "counts_on", "holder")
        .unique(_DOCUMENT, keep="last", maintain_order=True)
    )
    return pl.concat([scheduled, found.select(scheduled.columns)])


def _taken(lines: pl.DataFrame, coupons: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """What one coupon of each document takes off: columns of DUES, row, and off in minor units."""
    wanted = [_lowers(coupon) for coupon in catalogue.coupons if coupon.name in coupons["coupon"].unique().to_list()]
    lowered = (
        lines.drop("coupon")
        .join(coupons.drop("place"), on="document", maintain_order="left")
        .filter(pl.any_horizontal(wanted) & (pl.col("left") > 0))
        .with_columns(sum=pl.col("left").sum().over("document"))
        .with_columns(whole=_whole(catalogue))
        .pipe(spread, whole="whole", weight="left", over=["document"])
        .rename({"part": "off"})
        .filter(pl.col("off") > 0)
    )
    titles = {coupon.name: coupon.title for coupon in catalogue.coupons}
    money = scaled_to_decimal(pl.col("off") * 10 ** (MONEY.scale - catalogue.minor_units), MONEY.scale)
    measured = ("quantity", "allowance", "excess", "billed_units", "unit_price")
    of_fees = ("whole_fee", "replaced_fee", "fee_part", "fee_parts")
    return lowered.with_columns(
        *(pl.lit(None, lowered.schema[name]).alias(name) for name in (*measured, *of_fees)),
        due_item=coupon_item(),
        kind=pl.lit(LineKind.COUPON),
        amount=(-money).cast(MONEY),
        description=pl.col("coupon").replace_strict(titles, return_dtype=pl.String),
    )


def _lowers(coupon: Coupon) -> pl.Expr:
    """Whether a coupon lowers a line."""
    kind = whole_kind()
    of_one = pl.format("{}.{}", kind, pl.coalesce("add_on", "metric"))
    names = pl.lit(pl.Series(coupon.applies_to)).implode()
    applies = kind.is_in(names) | of_one.is_in(names).fill_null(value=False)
    if coupon.packages is not None:
        applies &= pl.col("package").is_in(coupon.packages).fill_null(value=False)
    return (pl.col("coupon") == coupon.name) & applies


def _whole(catalogue: Catalogue) -> pl.Expr:
    """What a coupon takes off its document, of `sum`, in minor units: rounded half-up, never more than `sum`."""
    percents = {c.name: int(exactly(c.percent, _PERCENT)) for c in catalogue.coupons if c.percent is not None}
    amounts = {
        c.name: int(exactly(c.amount, 10**catalogue.minor_units)) for c in catalogue.coupons if c.amount is not None
    }
    percent, amount = (_of_coupon(of) for of in (percents, amounts))
    hundred = 100 * _PERCENT
    of_percent = (pl.col("sum") * percent * 2 + hundred) // (2 * hundred)
    return pl.min_horizontal("sum", pl.coalesce(of_percent, amount))


def _of_coupon(values: dict[str, int]) -> pl.Expr:
    if not values:
        return pl.lit(None, INTEGER)
    return pl.col("coupon").replace_strict(values, default=None, return_dtype=INTEGER)
