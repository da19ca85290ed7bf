"""Postings of prepaid credits that stand on no document: those granted, and those that expire (rule 33)."""

from typing import Final

import polars as pl

from billing.model.codes import GrantKind, LedgerAccount, PostingKind
from billing.model.columns import MONEY
from billing.month.business import Business
from billing.rules.credit_balances import expired_credits, not_covered
from billing.rules.own_documents import PREPAYMENT
from billing.rules.prepaid_credits import is_prepayment

_MOVED: Final = ["grant_id", "account_id", "day", "amount"]
_POSTING: Final = pl.Schema(
    {
        "posted_on": pl.Date(),
        "kind": pl.String(),
        "entry": pl.String(),
        "ledger_account": pl.String(),
        "account_id": pl.String(),
        "number": pl.String(),
        "amount": MONEY,
    }
)


def credit_postings(business: Business) -> pl.DataFrame:
    """Postings up to the as-of day; debits are positive.

    What is granted is owed to the customer as prepaid credits, against `credits_granted`; what is bought is posted by
    its document. What expires goes from prepaid credits to `credits_expired`. So prepaid credits are what is left of
    all grants, those that are not paid yet included.

    Returns
    -------
    polars.DataFrame
        posted_on, kind, entry (the grant_id), ledger_account, account_id, number (null), amount, currency.
    """
    grants, uses = business.credit_grants, business.register.credit_uses()
    if grants.is_empty() and uses.is_empty():
        return pl.DataFrame(schema={**_POSTING, "currency": pl.String})
    of_grants = pl.concat([each.select(entry="grant_id", currency="currency") for each in (uses, grants)])
    used = uses.select("grant_id", "account_id", "amount", day="issued_on").select(_MOVED)
    granted = grants.filter(pl.col("kind") == GrantKind.GRANTED).rename({"granted_on": "day"}).select(_MOVED)
    # An account_id may have slashes, and so may a grant_id.
    grant_id = (
        pl.col("subscription_id").str.strip_suffix(PREPAYMENT).str.slice(pl.col("account_id").str.len_chars() + 1)
    )
    bought = (
        business.register.documents()
        .filter(is_prepayment())
        .with_columns(grant_id=grant_id, day="issued_on", amount="total")
        .select(_MOVED)
    )
    granted = pl.concat([granted, not_covered(pl.concat([granted, bought]), used)])
    expired = expired_credits([granted, bought], used, grants.select("grant_id", "expires_on"))
    postings = [
        *_entries(granted, PostingKind.CREDITS_GRANTED, LedgerAccount.CREDITS_GRANTED, LedgerAccount.PREPAID_CREDITS),
        *_entries(expired, PostingKind.CREDITS_EXPIRED, LedgerAccount.PREPAID_CREDITS, LedgerAccount.CREDITS_EXPIRED),
    ]
    keys = [name for name in _POSTING if name != "amount"]
    return (
        pl.concat(postings)
        .group_by(keys, maintain_order=True)
        .agg(pl.col("amount").sum().cast(MONEY))
        .filter(pl.col("posted_on") <= business.as_of)
        .join(of_grants.unique("entry", keep="first", maintain_order=True), on="entry", how="left")
        .sort(keys)
    )


def _entries(
    moved: pl.DataFrame, kind: PostingKind, debited: LedgerAccount, credited: LedgerAccount
) -> list[pl.DataFrame]:
    """Both sides of the entries of `moved`: grant_id, account_id, day, amount."""
    return [
        moved.select(
            "account_id",
            posted_on="day",
            kind=pl.lit(kind),
            entry="grant_id",
            ledger_account=pl.lit(ledger_account),
            number=pl.lit(None, pl.String),
            amount=(pl.col("amount") * sign).cast(MONEY),
        ).select(pl.col(name).cast(dtype) for name, dtype in _POSTING.items())
        for ledger_account, sign in ((debited, 1), (credited, -1))
    ]
