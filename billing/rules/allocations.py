"""Allocations: which payments and credits pay which document (rules 15, 16 and 25).

Amounts owed, statuses, collections and suspensions all come from here, so they cannot disagree.
"""

from typing import Final

import polars as pl

from billing.model.account_tables import ALLOCATIONS
from billing.model.codes import (
    ATTEMPTS,
    RETURNED,
    AllocationSource,
    DocumentKind,
    DocumentStatus,
    PaymentStatus,
    PostingKind,
)
from billing.model.columns import MONEY
from billing.model.empty_frames import skip_if_empty
from billing.rules.receivables import ON_ACCOUNT, shown_number

DEBITS: Final = (DocumentKind.INVOICE, DocumentKind.DEBIT_NOTE)
OWED: Final = tuple(kind.value for kind in (*DEBITS, PostingKind.OPENING_BALANCE))
"""Kinds of what an account owes where its due is above 0."""
_ZERO: Final = pl.lit(0).cast(MONEY)
_NO_CURRENCY: Final = pl.Series(dtype=pl.String)


def allocate(documents: pl.DataFrame, payments: pl.DataFrame) -> pl.DataFrame:
    """Allocate payments and credits to the documents of each account: the table ALLOCATIONS.

    A credit note pays the document it corrects, a payment the document it names, less its refunds and disputes.
    The surplus, and a payment on account, is the account's credit and pays its oldest open document first.

    Parameters
    ----------
    documents
        number, account_id, kind, issued_on, due (total less prepaid credits), corrects: all documents of the accounts,
        opening balances as documents (`with_opening_balances`).
    payments
        payment_id, account_id, document, at, on, amount, status: of these documents, or on account.
    """
    allocations = _all_allocated(documents, payments)
    return ALLOCATIONS.conform(allocations.with_columns(shown_number("number"), shown_number("source")))


def covered_amounts(documents: pl.DataFrame, payments: pl.DataFrame) -> pl.DataFrame:
    """number, covered (MONEY), on: what payments and credits pay of each document, and the day of the last of them.

    Parameters
    ----------
    documents, payments
        As in `allocate`.
    """
    allocated = _all_allocated(documents, payments)
    return allocated.group_by("number").agg(covered=pl.col("amount").sum().cast(MONEY), on=pl.col("on").max())


def _all_allocated(documents: pl.DataFrame, payments: pl.DataFrame) -> pl.DataFrame:
    """Allocated account by account and currency by currency: what is in one pays nothing in another (rule 36)."""
    several = pl.concat(
        [frame["currency"] for frame in (documents, payments) if "currency" in frame.columns] or [_NO_CURRENCY]
    )
    if several.n_unique() < 2:
        return _allocated(
            _claims(documents, payments).with_columns(group="account_id"),
            _sources(documents, payments).with_columns(group="account_id"),
        )
    group = pl.concat_str("account_id", "currency", separator="/")
    keyed, paid = (frame.with_columns(group=group) for frame in (documents, payments))
    return _allocated(_claims(keyed, paid, ["group"]), _sources(keyed, paid, ["group"]))


@skip_if_empty("documents")
def with_open_amounts(documents: pl.DataFrame, payments: pl.DataFrame) -> pl.DataFrame:
    """`documents` with open (MONEY: what is still owed, 0 on credit notes) and status.

    Status is `paid` where nothing is owed any more, `credited` where credits alone cover the document, `refunded` where
    everything that was paid on it went back, else `open`. The amounts of `open` of an account add up to what it owes,
    or to 0 where it is in credit.

    Parameters
    ----------
    documents, payments
        As in `allocate`; what is added stands in the order of `documents`.
    """
    covered = (
        _all_allocated(documents, payments)
        .group_by("number")
        .agg(
            covered=pl.col("amount").sum().cast(MONEY),
            by_payments=pl.col("amount").filter(pl.col("source_kind") == AllocationSource.PAYMENT).sum().cast(MONEY),
        )
    )
    claims = _claims(documents, payments).select("number", "claim")
    returned = paid_amounts(payments).select("number", "paid", "returned", "last_returned")
    known = (
        documents.join(claims, on="number", how="left", maintain_order="left")
        .join(covered, on="number", how="left", maintain_order="left")
        .join(returned, on="number", how="left", maintain_order="left")
        .with_columns(pl.col("claim", "covered", "by_payments", "paid", "returned").fill_null(_ZERO))
        .with_columns(open=(pl.col("claim") - pl.col("covered")).cast(MONEY))
    )
    sent_back = (pl.col("returned") > 0) & (pl.col("paid") <= pl.col("returned"))
    # a disputed payment is owed again
    is_owed_again = (pl.col("open") > 0) & (pl.col("last_returned") == PaymentStatus.DISPUTED)
    status = (
        pl.when(sent_back & ~is_owed_again.fill_null(value=False))
        .then(pl.lit(PaymentStatus.REFUNDED))
        .when((pl.col("due") < 0) | (pl.col("open") > 0))
        .then(pl.lit(DocumentStatus.OPEN))
        .when((pl.col("covered") > 0) & (pl.col("by_payments") == 0))
        .then(pl.lit(DocumentStatus.CREDITED))
        .otherwise(pl.lit(DocumentStatus.PAID))
    )
    return known.with_columns(status=status).select(*documents.columns, "open", "status")


@skip_if_empty("payments")
def paid_amounts(payments: pl.DataFrame) -> pl.DataFrame:
    """What was paid on each document.

    Returns
    -------
    polars.DataFrame
        number, paid (succeeded), returned (refunded or disputed), last_returned (status of the latest of those),
        last_attempt (status of the latest attempt that succeeded or failed), outcomes (attempts with an outcome).
    """
    amount, status = pl.col("amount"), pl.col("status")
    is_returned = status.is_in(RETURNED)
    return (
        payments.sort("at", "payment_id")
        .group_by(pl.col("document").alias("number"), maintain_order=True)
        .agg(
            paid=amount.filter(status == PaymentStatus.SUCCEEDED).sum().cast(MONEY),
            returned=amount.filter(is_returned).sum().cast(MONEY),
            last_returned=status.filter(is_returned).last(),
            last_attempt=status.filter(status.is_in(ATTEMPTS)).last(),
            outcomes=pl.len().cast(pl.Int64),
        )
    )


def open_at_moments(moments: pl.DataFrame, documents: pl.DataFrame, payments: pl.DataFrame) -> pl.DataFrame:
    """The amount open on each document at given instants, from payments and credits up to then.

    Parameters
    ----------
    moments
        account_id, moment: few, of few accounts.
    documents
        As in `allocate`, and credited_at: the instant from which a credit note counts. An invoice or a debit note is
        owed whenever it is looked at.
    payments
        As in `allocate`.

    Returns
    -------
    polars.DataFrame
        account_id, moment, number, open (MONEY).
    """
    at = pl.format("{}@{}", "account_id", pl.col("moment").to_physical())
    known = moments.join(documents, on="account_id").filter(
        pl.col("kind").is_in(OWED) & (pl.col("due") >= 0) | (pl.col("credited_at") <= pl.col("moment"))
    )
    paid = moments.join(payments, on="account_id").filter(pl.col("at") <= pl.col("moment"))
    keyed, keyed_payments = (
        frame.with_columns(group=pl.concat_str(at, "currency", separator="/") if "currency" in frame.columns else at)
        for frame in (known, paid)
    )
    claims = _claims(keyed, keyed_payments, ["group"])
    covered = (
        _allocated(claims, _sources(keyed, keyed_payments, ["group"]))
        .group_by("group", "number")
        .agg(covered=pl.col("amount").sum())
    )
    return (
        claims.join(covered, on=["group", "number"], how="left")
        .join(keyed.select("group", "number", "moment"), on=["group", "number"])
        .select(
            "account_id", "moment", "number", open=(pl.col("claim") - pl.col("covered").fill_null(_ZERO)).cast(MONEY)
        )
    )


@skip_if_empty("payments", by=("keys",))
def _paid_by_document(payments: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """keys, document, returned, paid: sums by document."""
    amount, status = pl.col("amount"), pl.col("status")
    return payments.group_by(*keys, "document").agg(
        paid=amount.filter(status == PaymentStatus.SUCCEEDED).sum().cast(MONEY),
        returned=amount.filter(status.is_in(RETURNED)).sum().cast(MONEY),
    )


@skip_if_empty("documents", by=("keys",))
def _claims(documents: pl.DataFrame, payments: pl.DataFrame, keys: list[str] | None = None) -> pl.DataFrame:
    """What is owed, by document: group keys, account_id, number, issued_on, claim (MONEY).

    Refunds and disputes beyond what was paid are owed, too.
    """
    keys = keys or []
    sums = _paid_by_document(payments, keys).rename({"document": "number"})
    too_much = (pl.col("returned") - pl.col("paid")).fill_null(_ZERO).clip(lower_bound=0)
    own = pl.when(pl.col("kind").is_in(OWED)).then(pl.col("due").clip(lower_bound=0)).otherwise(_ZERO)
    return (
        documents.join(sums, on=[*keys, "number"], how="left", maintain_order="left")
        .select(*keys, "account_id", "number", "issued_on", claim=(own + too_much).cast(MONEY))
        .filter(pl.col("claim") > 0)
    )


@skip_if_empty("documents", "payments", by=("keys",))
def _sources(documents: pl.DataFrame, payments: pl.DataFrame, keys: list[str] | None = None) -> pl.DataFrame:
    """Payments and credits: keys, account_id, source, source_kind, on, own (the document it names), amount (MONEY)."""
    keys = keys or []
    credits = documents.filter(pl.col("due") < 0).select(
        *keys,
        "account_id",
        source="number",
        source_kind=pl.lit(AllocationSource.CREDIT),
        on="issued_on",
        own="corrects",
        amount=-pl.col("due"),
    )
    by_document = [*keys, "document"]
    returned = _paid_by_document(payments, keys).select(*by_document, "returned")
    kept = _less_returned(payments.filter(pl.col("status") == PaymentStatus.SUCCEEDED), returned, by_document)
    paid = _less_returned_on_account(kept, payments, keys).select(
        *keys,
        "account_id",
        source="payment_id",
        source_kind=pl.lit(AllocationSource.PAYMENT),
        on="on",
        own="document",
        amount="amount",
    )
    return pl.concat([credits, paid])


@skip_if_empty("kept")
def _less_returned_on_account(kept: pl.DataFrame, payments: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The payments less what was returned on account beyond what was paid so, account by account."""
    by_account = [*keys, "account_id", *(["currency"] if "currency" in payments.columns else [])]
    on_account = payments.filter(pl.col("document").str.starts_with(ON_ACCOUNT))
    sums = _paid_by_document(on_account, by_account).with_columns(pl.col("returned") - pl.col("paid"))
    beyond = sums.filter(pl.col("returned") > 0).select(*by_account, "returned")
    return kept if beyond.is_empty() else _less_returned(kept, beyond, by_account)


@skip_if_empty("paid")
def _less_returned(paid: pl.DataFrame, returned: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Payments less what was returned, by some columns: refunds and disputes reduce the latest payments first."""
    amount = pl.col("amount")
    return (
        paid.sort("at", "payment_id", descending=True)
        .join(returned, on=by, how="left", maintain_order="left")
        .with_columns(later=(amount.cum_sum().over(by) - amount).cast(MONEY))
        .with_columns(taken=(pl.col("returned").fill_null(_ZERO) - pl.col("later")).clip(lower_bound=0))
        .with_columns(amount=(amount - pl.min_horizontal("taken", "amount")).cast(MONEY))
        .filter(amount > 0)
        .drop("returned", "later", "taken")
    )


def _allocated(claims: pl.DataFrame, sources: pl.DataFrame) -> pl.DataFrame:
    """The columns of ALLOCATIONS, and `group`.

    Every source pays its own document first; the surplus pays the oldest open documents.

    Parameters
    ----------
    claims, sources
        As `_claims` and `_sources`, with `group`: amounts are matched within it only.
    """
    if claims.is_empty() or sources.is_empty():
        return ALLOCATIONS.empty().with_columns(group=pl.lit(None, pl.String))
    order = ["on", "source_kind", "source"]
    targets = claims.with_columns(target=pl.format("{}/{}", "group", "number"))
    meant = sources.with_columns(target=pl.format("{}/{}", "group", "own"))
    first = _matched(targets.sort("issued_on", "number"), meant.sort(order), "target")
    used = [first.group_by("group", name).agg(used=pl.col("amount").sum()) for name in ("number", "source")]
    left_claims = (
        claims.join(used[0], on=["group", "number"], how="left")
        .with_columns(claim=(pl.col("claim") - pl.col("used").fill_null(_ZERO)).cast(MONEY))
        .filter(pl.col("claim") > 0)
        .sort("issued_on", "number")
    )
    left_sources = (
        sources.join(used[1], on=["group", "source"], how="left")
        .with_columns(amount=(pl.col("amount") - pl.col("used").fill_null(_ZERO)).cast(MONEY))
        .filter(pl.col("amount") > 0)
        .sort(order)
    )
    rest = _matched(left_claims, left_sources, "group")
    keys = ["group", "account_id", "source", "source_kind", "number", "on"]
    return pl.concat([first, rest]).group_by(keys).agg(pl.col("amount").sum().cast(MONEY))


@skip_if_empty("claims")
@skip_if_empty("sources")
def _matched(claims: pl.DataFrame, sources: pl.DataFrame, by: str) -> pl.DataFrame:
    """Allocate the sources of a group to its claims, both in order (first in, first out).

    Returns
    -------
    polars.DataFrame
        group, account_id, number, source, source_kind, on (the later of the source's and the document's day), amount.
    """
    # `by` may be `group` itself, which is selected anyway
    claims, sources = (frame.with_columns(_by=by) for frame in (claims, sources))
    by = "_by"
    ends = [
        frame.join(other.select(by).unique(), on=by, how="semi", maintain_order="left").with_columns(
            end=pl.col(amount).cum_sum().over(by).cast(MONEY)
        )
        for frame, other, amount in ((claims, sources, "claim"), (sources, claims, "amount"))
    ]
    claimed, paying = ends
    # Cut both at every cumulative sum: each piece belongs to one claim and one source.
    pieces = (
        pl.concat([frame.select(by, "end") for frame in ends])
        .unique()
        .sort(by, "end")
        .with_columns(start=pl.col("end").shift(1).over(by).fill_null(_ZERO))
        .join(claimed.select(by, "end", "group", "account_id", "number", "issued_on"), on=[by, "end"], how="left")
        .join(paying.select(by, "end", "source", "source_kind", "on"), on=[by, "end"], how="left")
        .sort(by, "end")
        .with_columns(pl.exclude(by, "end", "start").backward_fill().over(by))
    )
    return pieces.drop_nulls(["number", "source"]).select(
        "group",
        "account_id",
        "number",
        "source",
        "source_kind",
        on=pl.max_horizontal("on", "issued_on"),
        amount=(pl.col("end") - pl.col("start")).cast(MONEY),
    )
