"""Prepaid credits: which grants pay which documents, and what credit notes give back to them (rule 33)."""

from typing import Final

import polars as pl

from billing.model.codes import GrantKind, LineKind, TaxCategory
from billing.model.columns import MONEY
from billing.model.empty_frames import skip_if_empty
from billing.rules.own_documents import PREPAYMENT, prepayment_id

USES: Final = pl.Schema(
    {
        "number": pl.String(),
        "position": pl.Int64(),
        "grant_id": pl.String(),
        "amount": MONEY,
        "gives_back": pl.String(),
        "account_id": pl.String(),
        "currency": pl.String(),
        "billing_date": pl.Date(),
        "issued_on": pl.Date(),
        "is_scheduled": pl.Boolean(),
    }
)
"""What grants paid of issued documents, in order of use: an amount below 0 is what a credit note gave back of the
document `gives_back`."""
_KEYS: Final = ["account_id", "subscription_id", "billing_date"]
_GRANT: Final = ["account_id", "currency", "grant_id", "left", "usable_from", "expires_on"]
_UNPAID: Final = ["number", "account_id", "currency", "issued_on", "open"]
_USE: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "_place": pl.UInt32,
    "grant_id": pl.String,
    "amount": MONEY,
    "gives_back": pl.String,
}
_ZERO: Final = pl.lit(0).cast(MONEY)


def is_prepayment() -> pl.Expr:
    """Whether a document of `subscription_id` bills a purchased grant."""
    return pl.col("subscription_id").str.ends_with(PREPAYMENT)


def prepayment_dues(month: str, grants: pl.DataFrame) -> pl.DataFrame:
    """What purchased grants add to the table DUES of a month: each on a document of its own, outside the scope of tax.

    Parameters
    ----------
    grants
        As `read_credit_grants`.

    Returns
    -------
    polars.DataFrame
        Columns of DUES, and coupon_allowed.
    """
    bought = (pl.col("kind") == GrantKind.PURCHASED) & (pl.col("granted_on").dt.strftime("%Y-%m") == month)
    return grants.filter(bought).select(
        "account_id",
        prepayment_id().alias("subscription_id"),
        billing_date="granted_on",
        kind=pl.lit(LineKind.PREPAYMENT),
        due_item="grant_id",
        amount="amount",
        description=pl.coalesce("description", pl.lit("Prepaid credit")),
        tax_category=pl.lit(TaxCategory.OUTSIDE),
        coupon_allowed=pl.lit(value=False),
    )


def in_order_of_use(grants: pl.DataFrame) -> pl.DataFrame:
    """`grants` as they pay: lowest priority number, soonest expiry, granted before purchased, oldest, grant_id."""
    is_purchased = pl.col("kind") == GrantKind.PURCHASED
    return grants.sort(
        "priority", "expires_on", is_purchased, "granted_on", "grant_id", nulls_last=True, maintain_order=True
    )


class CreditsInOrder:
    """Pays documents by grants, one after the other: what one document used is not there for the next."""

    def __init__(self, grants: pl.DataFrame, uses: pl.DataFrame, unpaid: pl.DataFrame) -> None:
        """Begin with what is left.

        Parameters
        ----------
        grants
            grant_id, account_id, currency, kind, priority, granted_on, expires_on, left (MONEY), usable_from (null: it
            is not paid).
        uses
            USES.
        unpaid
            number, account_id, currency, issued_on, open (MONEY): of documents of these accounts.
        """
        self._grants = in_order_of_use(grants).select(_GRANT).with_row_index("_order")
        self._uses = uses_left(uses)
        self._unpaid = unpaid.filter(pl.col("open") > 0).select(_UNPAID).sort("issued_on", "number")

    @skip_if_empty("documents")
    def applied(self, documents: pl.DataFrame, given_back: pl.DataFrame) -> pl.DataFrame:
        """`documents` with credits_applied, due and credits (CREDITS_OF_A_DOCUMENT; null where there are none).

        Rule 33: a document above 0 is paid by grants usable on its day; never a prepayment. A credit note lowers what
        is unpaid of the documents it credits, then gives back to their grants, last used first.

        Parameters
        ----------
        documents
            account_id, subscription_id, billing_date, currency, total, corrects and usable_on (the billing date, of
            notes the day of issue), in the order in which they are issued.
        given_back
            account_id, subscription_id, billing_date, number: the documents that each credit note credits.
        """
        placed = documents.with_row_index("_place")
        known = pl.concat([self._grants.select("account_id"), self._uses.select("account_id")]).unique()
        asked = (
            placed.filter((pl.col("total") != 0) & ~is_prepayment())
            .filter(pl.col("account_id").is_in(known["account_id"].implode()))
            .select("_place", *_KEYS, "currency", "total", "corrects", "usable_on")
            .with_columns(_rank=pl.int_range(pl.len()).over("account_id"))
        )
        parts = [pl.DataFrame(schema=_USE)]
        # An account's documents one after the other; the accounts side by side.
        for rank in asked["_rank"].unique().sort():
            now = asked.filter(pl.col("_rank") == rank)
            notes = now.filter(pl.col("total") < 0)
            moved = [self._paid(now.filter(pl.col("total") > 0)), self._given_back(notes, given_back)]
            self._keep(pl.concat(moved))
            self._lower_unpaid(notes, moved[1])
            parts += moved
        # The rows of a group stay in their order: that of use.
        credits = (
            pl.concat(parts)
            .group_by("_place")
            .agg(
                credits_applied=pl.col("amount").sum().cast(MONEY),
                credits=pl.struct("grant_id", "amount", "gives_back"),
            )
        )
        return (
            placed.drop("credits_applied", "credits", strict=False)
            .join(credits, on="_place", how="left", maintain_order="left")
            .with_columns(pl.col("credits_applied").fill_null(_ZERO))
            .with_columns(due=(pl.col("total") - pl.col("credits_applied")).cast(MONEY))
            .drop("_place")
        )

    @skip_if_empty("documents")
    def _paid(self, documents: pl.DataFrame) -> pl.DataFrame:
        day = pl.col("usable_on")
        usable = (pl.col("usable_from") <= day) & (pl.col("expires_on").is_null() | (day < pl.col("expires_on")))
        pairs = (
            documents.join(self._grants.filter(pl.col("left") > 0), on=["account_id", "currency"])
            .filter(usable)
            .sort("_order")
        )
        return (
            _taken(pairs, of="left", whole=pl.col("total"))
            .with_columns(gives_back=pl.lit(None, pl.String))
            .select(list(_USE))
        )

    @skip_if_empty("notes")
    def _given_back(self, notes: pl.DataFrame, given_back: pl.DataFrame) -> pl.DataFrame:
        unpaid = self._unpaid.select("number", "open")
        credited = notes.join(given_back.unique(), on=_KEYS).join(unpaid, on="number", how="left")
        lowered = credited.group_by("_place").agg(unpaid=pl.col("open").fill_null(_ZERO).sum())
        pairs = (
            credited.join(lowered, on="_place")
            .join(self._uses, on="number")
            .sort("issued_on", "number", "position", descending=True)
        )
        taken = _taken(pairs, of="amount", whole=-pl.col("total") - pl.col("unpaid"))
        return taken.with_columns(amount=-pl.col("amount"), gives_back="number").select(list(_USE))

    def _lower_unpaid(self, notes: pl.DataFrame, moved: pl.DataFrame) -> None:
        """Less what notes pay: of the document they correct, then of the oldest ones, as `allocate` has it."""
        if notes.is_empty() or self._unpaid.is_empty():
            return
        back = moved.group_by("_place").agg(back=pl.col("amount").sum())
        whole = (pl.col("back").fill_null(_ZERO) - pl.col("total") - pl.col("own").fill_null(_ZERO)).cast(MONEY)
        paying = notes.join(back, on="_place", how="left").with_columns(own=_ZERO)
        theirs = self._unpaid.select("number", "open", corrects="number")
        own = self._lower(paying.join(theirs, on="corrects"), whole)
        paying = paying.drop("own").join(own, on="_place", how="left")
        self._lower(paying.join(self._unpaid, on=["account_id", "currency"]).sort("issued_on", "number"), whole)

    def _lower(self, pairs: pl.DataFrame, whole: pl.Expr) -> pl.DataFrame:
        """_place, own: what notes pay of the unpaid documents in order."""
        taken = _taken(pairs, of="open", whole=whole)
        self._unpaid = _less(self._unpaid, taken.select("number", _moved="amount"), ["number"], "open")
        return taken.select("_place", own="amount")

    def _keep(self, moved: pl.DataFrame) -> None:
        """Less what was used now, and more what was given back."""
        if moved.is_empty():
            return
        used = moved.group_by("grant_id").agg(_moved=pl.col("amount").sum())
        self._grants = _less(self._grants, used, ["grant_id"], "left")
        back = moved.filter(pl.col("amount") < 0)
        returned = back.group_by("grant_id", number="gives_back").agg(_moved=-pl.col("amount").sum())
        self._uses = _less(self._uses, returned, ["number", "grant_id"], "amount")


@skip_if_empty("uses")
def uses_left(uses: pl.DataFrame) -> pl.DataFrame:
    """number, grant_id, position, account_id, issued_on, amount: what was used, less what was given back."""
    back = uses.filter(pl.col("gives_back").is_not_null())
    returned = back.group_by("grant_id", number="gives_back").agg(_moved=-pl.col("amount").sum())
    own = uses.filter(pl.col("gives_back").is_null())
    return _less(
        own.select("number", "grant_id", "position", "account_id", "issued_on", "amount"),
        returned,
        ["number", "grant_id"],
        "amount",
    )


def _taken(pairs: pl.DataFrame, *, of: str, whole: pl.Expr) -> pl.DataFrame:
    """`pairs` with amount (above 0): what is taken of each in order until `whole` is reached."""
    before = (pl.col(of).cum_sum() - pl.col(of)).over("_place")
    taken = pairs.with_columns(amount=pl.min_horizontal(pl.col(of), whole - before).cast(MONEY))
    return taken.filter(pl.col("amount") > 0)


@skip_if_empty("frame")
def _less(frame: pl.DataFrame, moved: pl.DataFrame, keys: list[str], amount: str) -> pl.DataFrame:
    less = (pl.col(amount) - pl.col("_moved").fill_null(_ZERO)).cast(MONEY)
    return frame.join(moved, on=keys, how="left", maintain_order="left").with_columns(less.alias(amount)).drop("_moved")
