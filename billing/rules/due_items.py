"""What tells things that are due on one billing date apart: kind, metric and item (rules 20 and 29)."""

from typing import Final

import polars as pl

from billing.model.codes import LineKind

IDENTITY: Final = ("kind", "metric", "due_item")
"""Columns that tell the dues of a subscription and billing date apart; `due_item` is null where there is one.

It is the rule of an overage, the name of an add-on, the charge_id of a charge, the request_id of a proration, the
grant_id of a prepayment, and of a coupon `<coupon>/<kind>/<metric>/<item>` of what it lowers.
"""
IN_ADVANCE: Final = (LineKind.PACKAGE_FEE, LineKind.PRORATION, LineKind.SEATS, LineKind.ADD_ON)
"""Kinds that are charged in advance for a cycle: what a refund of the first cycle pays back (rule 14)."""
_OF_REFUND: Final = r"^([a-z_]+)/(.*)$"
_LOWERED: Final = r"^[^/]*/([a-z_]+)/"


def due_key(kind: str = "kind") -> pl.Expr:
    """`<kind>/<metric>/<item>` of a due, as `lowered_line` has it of a coupon."""
    return pl.concat_str([pl.col(name).fill_null("") for name in (kind, "metric", "due_item")], separator="/")


def whole_kind() -> pl.Expr:
    """The kind of what is due; of a proration that of the fee, or of the seats, of which it is a part."""
    part_of = pl.when(pl.col("metric").is_null()).then(pl.lit(LineKind.PACKAGE_FEE)).otherwise(pl.lit(LineKind.SEATS))
    return pl.when(pl.col("kind") == LineKind.PRORATION).then(part_of).otherwise("kind")


def coupon_item() -> pl.Expr:
    """`due_item` of what the coupon in `coupon` takes off a due, of its IDENTITY."""
    return pl.format("{}/{}", "coupon", due_key())


def lowered_kind(kind: str = "kind") -> pl.Expr:
    """The kind of what is due, or, of a coupon, of what it lowers."""
    return pl.when(pl.col(kind) == LineKind.COUPON).then(pl.col("due_item").str.extract(_LOWERED)).otherwise(kind)


def lowered_line(item: str = "due_item") -> pl.Expr:
    """`<kind>/<metric>/<item>` of what the coupon of a due_item lowers."""
    return pl.col(item).str.extract(r"^[^/]*/(.*)$", 1)


def refund_item() -> pl.Expr:
    """`due_item` of a refund of what was due, of its due_kind and due_item; null of a package fee."""
    of_others = pl.format("{}/{}", "due_kind", pl.col("due_item").fill_null(""))
    return pl.when(pl.col("due_kind") != LineKind.PACKAGE_FEE).then(of_others)


def refunded_kind(item: str = "due_item") -> pl.Expr:
    """The kind of what a refund pays back, of its due_item."""
    return pl.col(item).str.extract(_OF_REFUND, 1).fill_null(LineKind.PACKAGE_FEE)


def refunded_item(item: str = "due_item") -> pl.Expr:
    """The due_item of what a refund pays back, of its own."""
    inner = pl.col(item).str.extract(_OF_REFUND, 2)
    return pl.when(inner != "").then(inner)


def is_refunded() -> pl.Expr:
    """Whether a refund of the first cycle pays a due back."""
    return lowered_kind().is_in(IN_ADVANCE)
