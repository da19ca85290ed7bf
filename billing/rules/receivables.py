"""Receivables: issued documents and opening balances as what payments and credits pay (rules 25 and 38).

An opening balance takes part as a document of kind `opening_balance`. Its number holds its whole identity, as two
accounts may have the same reference; what is shown is the reference. A payment on account has such a number, too.
"""

from typing import Final

import polars as pl

from billing.model.codes import PostingKind, RejectReason
from billing.model.columns import MONEY
from billing.model.tables import REJECTS

# Identifiers hold no control characters (rule 27), so no reference looks like this.
_SEPARATOR: Final = "\x1f"
_OPENING: Final = f"opening{_SEPARATOR}"
ON_ACCOUNT: Final = f"account{_SEPARATOR}"
"""How the numbers of payments on account begin."""


def opening_number() -> pl.Expr:
    """The number of an opening balance: of account_id, currency and reference."""
    return pl.concat_str(pl.lit("opening"), "account_id", "currency", "reference", separator=_SEPARATOR)


def on_account_number() -> pl.Expr:
    """The number of what was paid without a document: of account_id and currency."""
    return pl.concat_str(pl.lit("account"), "account_id", "currency", separator=_SEPARATOR)


def is_of_a_document(number: str) -> pl.Expr:
    """Whether a number is that of an issued document."""
    return ~pl.col(number).str.contains(_SEPARATOR, literal=True)


def shown_number(number: str) -> pl.Expr:
    """The number of a document, the reference of an opening balance, null of what was paid on account."""
    text = pl.col(number)
    return (
        pl.when(text.str.starts_with(ON_ACCOUNT))
        .then(pl.lit(None, pl.String))
        .otherwise(text.str.replace(f"^{_OPENING}.*{_SEPARATOR}", ""))
        .alias(number)
    )


def matched_payments(
    made: pl.DataFrame, opening: pl.DataFrame, issued: pl.DataFrame, receivables: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The payments of documents and opening balances of their account, in their currency, or on account; and the rest.

    Parameters
    ----------
    made
        As `Inputs.payments`.
    opening
        As in `with_opening_balances`.
    issued
        As `Register.documents`.
    receivables
        As `with_opening_balances`.

    Returns
    -------
    tuple
        As `made`, with the numbers of what they pay; and the others as the table REJECTS.
    """
    numbered = with_numbers(made, opening, issued)
    known = numbered.join(
        receivables,
        left_on=["document", "account_id", "currency"],
        right_on=["number", "account_id", "currency"],
        how="semi",
        maintain_order="left",
    )
    if numbered["is_on_account"].any():
        known = pl.concat([known, numbered.filter("is_on_account")]).sort("at", "payment_id")
    known = known.drop("is_on_account")
    return known, _set_aside(numbered, known, receivables)


def _set_aside(made: pl.DataFrame, known: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """Payments that pay no document of their account in their currency: as the table REJECTS.

    Parameters
    ----------
    made, known
        As `Inputs.payments`: all of them, and those that pay a document or are on account.
    documents
        number, account_id, currency.
    """
    owed_in = documents.select("account_id", document="number", owed_in="currency")
    others = made.join(known, on="payment_id", how="anti", maintain_order="left").join(
        owed_in, on=["account_id", "document"], how="left", maintain_order="left"
    )
    is_unknown = pl.col("owed_in").is_null()
    unknown = others.with_columns(
        reason=pl.when(is_unknown)
        .then(pl.lit(RejectReason.UNKNOWN_DOCUMENT))
        .otherwise(pl.lit(RejectReason.IMPOSSIBLE_VALUE)),
        id="payment_id",
        detail=pl.when(is_unknown)
        .then(
            pl.format(
                "document: found '{}', expected the number of a document that was issued to the account", "document"
            )
        )
        .otherwise(pl.format("currency: found '{}', expected {}: that of the document", "currency", "owed_in")),
    )
    columns = ["file", "row", "reason", "text", "id", "account_id", "detail"]
    return REJECTS.conform(pl.concat([REJECTS.empty(), unknown.select(columns)], how="diagonal"))


def with_opening_balances(documents: pl.DataFrame, opening: pl.DataFrame) -> pl.DataFrame:
    """The documents, and the opening balances as documents.

    Parameters
    ----------
    documents
        As `Register.documents`.
    opening
        account_id, currency, reference, amount (MONEY; negative: in credit), on.
    """
    if opening.is_empty():
        return documents
    nothing = pl.lit(0).cast(MONEY)
    rows = opening.select(
        "account_id",
        "currency",
        number=opening_number(),
        kind=pl.lit(PostingKind.OPENING_BALANCE),
        billing_date="on",
        issued_on="on",
        due_on="on",
        net="amount",
        tax=nothing,
        total="amount",
        credits_applied=nothing,
        due="amount",
    )
    return pl.concat([documents, rows], how="diagonal")


def with_numbers(payments: pl.DataFrame, opening: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """`payments` with the numbers of what they name, and `is_on_account` where that is nothing.

    A document of the account goes before an opening balance whose reference is the same text.
    """
    names_none = pl.col("document").is_null()
    if opening.is_empty():
        numbered = payments
    else:
        issued = documents.select("account_id", document="number", is_issued=pl.lit(True))
        moved = opening.select("account_id", "currency", document="reference", opened=opening_number())
        numbered = (
            payments.join(issued, on=["account_id", "document"], how="left", maintain_order="left")
            .join(moved, on=["account_id", "currency", "document"], how="left", maintain_order="left")
            .with_columns(
                document=pl.when(pl.col("is_issued").is_null() & pl.col("opened").is_not_null())
                .then("opened")
                .otherwise("document")
            )
            .drop("is_issued", "opened")
        )
    return numbered.with_columns(
        document=pl.when(names_none).then(on_account_number()).otherwise("document"), is_on_account=names_none
    )
