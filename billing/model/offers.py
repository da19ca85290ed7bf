"""Coupons and add-ons of the catalogue: what is sold beside packages (rules 29 and 31)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Final

import polars as pl

COUPON_KINDS: Final = ("package_fee", "overage", "add_on", "seats", "charge", "minimum_spend")
"""Kinds of lines that a coupon can lower; `overage.<metric>` and `add_on.<name>` name one of several."""
USUAL_PRIORITY: Final = 100
AT_ONCE: Final = "at_once"
REQUESTED_UPGRADES: Final = ("next_cycle", AT_ONCE)
IN_ADVANCE: Final = "in_advance"
QUANTITIES: Final = pl.List(pl.Struct({"name": pl.String, "quantity": pl.Int64}))
"""What `add_ons` of a request decodes to."""


@dataclass(frozen=True)
class Coupon:
    """A discount that accounts redeem (rule 29).

    Attributes
    ----------
    percent, amount
        One of both: percent of what its lines cost, above 0 to 100, or an amount per document. None of both where the
        amount is not in the currency of the catalogue.
    applies_to
        COUPON_KINDS, `overage.<metric>` or `add_on.<name>`.
    packages
        Packages whose lines it lowers; None for all.
    documents
        On how many documents it takes something off; None for ever.
    redeem_until
        The last day of a request that redeems it.
    account_redemptions, all_redemptions
        How often one account and all accounts together may redeem it; None without limit.
    priority
        Coupons are taken lower first.
    """

    name: str
    title: str
    percent: Decimal | None = None
    amount: Decimal | None = None
    applies_to: tuple[str, ...] = COUPON_KINDS
    packages: tuple[str, ...] | None = None
    documents: int | None = None
    redeem_until: date | None = None
    account_redemptions: int = 1
    all_redemptions: int | None = None
    priority: int = USUAL_PRIORITY
    titles: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_sold(self) -> bool:
        """Whether it has its amount in the currency of the catalogue."""
        return self.percent is not None or self.amount is not None


@dataclass(frozen=True)
class AddOnVersion:
    """Price and allowances of one unit of an add-on from a date on.

    Attributes
    ----------
    yearly
        None: not sold within a yearly term.
    allowances
        In units, per metric; what is not named adds nothing. None is unlimited.
    maximum
        The largest quantity; None without limit.
    is_sold
        Whether its price is in the currency of the catalogue.
    """

    effective_from: date
    monthly: Decimal
    yearly: Decimal | None
    allowances: Mapping[str, Decimal | None]
    maximum: int | None = None
    is_sold: bool = field(default=True, repr=False)


@dataclass(frozen=True)
class AddOn:
    """Something with a fee in advance, a quantity, and allowances that add to those of the package (rule 31)."""

    name: str
    title: str
    versions: tuple[AddOnVersion, ...]
    titles: Mapping[str, str] = field(default_factory=dict)
