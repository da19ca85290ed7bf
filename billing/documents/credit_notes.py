"""Credit and debit notes: they correct an issued document, with its tax rates (rules 14, 19 and 21)."""

from datetime import date

import polars as pl

from billing.documents.content import contents
from billing.documents.content_lists import line_list, tax_list
from billing.documents.drafts import Drafts, drafts_of, paid_by_credits
from billing.documents.field_texts import day
from billing.documents.lowered_lines import with_lowered_lines
from billing.documents.tax_currency import tax_in_its_currency
from billing.documents.titles import with_language
from billing.model.catalogue import Catalogue
from billing.model.codes import DocumentKind, LineKind, NoteReason
from billing.model.columns import MONEY
from billing.model.empty_frames import skip_if_empty
from billing.model.tables import DRAFT_LINES, DRAFT_TAXES, DRAFTS
from billing.rules.due_items import is_refunded, refund_item
from billing.rules.own_documents import is_own_document, shown_subscription_id
from billing.rules.prepaid_credits import CreditsInOrder
from billing.rules.tax import taxes_given_back
from billing.rules.true_ups import in_words

_KEYS = ["account_id", "subscription_id", "billing_date"]


def refund_notes(
    month: str,
    *,
    refunds: pl.DataFrame,
    subscriptions: pl.DataFrame,
    packages: pl.DataFrame,
    documents: pl.DataFrame,
    lines: pl.DataFrame,
    taxes: pl.DataFrame,
    accounts: pl.DataFrame,
    tax_rates: pl.DataFrame,
    exchange_rates: pl.DataFrame,
    catalogue: Catalogue,
    credits: CreditsInOrder | None,
    as_of: date,
) -> Drafts:
    """Credit notes for approved refunds: what was charged in advance for the first cycle, with its tax (rule 14).

    That is on the first document, and on those of upgrades at once.

    Parameters
    ----------
    refunds
        subscription_id of approved refunds.
    packages
        The table PACKAGES of the month.
    documents, lines
        Issued in the month: only a document that has been issued can be refunded, and only once.
    taxes
        As `running_taxes`, of the documents.
    credits
        What prepaid credits can pay; None where there are none.
    as_of
        The day on which the notes are issued.
    """
    first = _refunded_documents(refunds, subscriptions, documents, lines)
    paid_back = _paid_back(first, documents, lines)
    return _notes(
        month,
        corrected=first,
        lines=paid_back,
        taxes=taxes,
        reason=None,
        subscriptions=subscriptions,
        packages=packages,
        accounts=accounts,
        tax_rates=tax_rates,
        exchange_rates=exchange_rates,
        catalogue=catalogue,
        credits=credits,
        as_of=as_of,
    )


@skip_if_empty("documents")
def _refunded_documents(
    refunds: pl.DataFrame, subscriptions: pl.DataFrame, documents: pl.DataFrame, lines: pl.DataFrame
) -> pl.DataFrame:
    """The `documents` to refund: the first one of each subscription, and those of its upgrades at once."""
    refunded = documents.join(lines.filter(pl.col("kind") == LineKind.REFUND), on="number", how="semi")
    of_refunds = (
        documents.filter(pl.col("corrects").is_null())
        .with_columns(_of=shown_subscription_id())
        .join(refunds.select(_of="subscription_id"), on="_of", how="semi", maintain_order="left")
    )
    begins = subscriptions.select(_of="subscription_id", billing_date="grid_start")
    return (
        pl.concat(
            [
                of_refunds.filter(~is_own_document()).join(begins, on=["_of", "billing_date"], maintain_order="left"),
                of_refunds.filter(is_own_document()),
            ]
        )
        .drop("_of")
        .join(refunded.select(number="corrects"), on="number", how="anti", maintain_order="left")
    )


@skip_if_empty("first")
def _paid_back(first: pl.DataFrame, documents: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
    """What refunds pay back of the documents `first`, as lines of their notes."""
    # Refund corrected fees at their corrected amounts.
    of_a_due = ["number", "due_kind", "metric", "due_item"]
    corrected = (
        documents.filter(pl.col("corrects").is_not_null())
        .select("number", "corrects")
        .join(lines.filter(pl.col("due_kind") != LineKind.REFUND), on="number")
        .group_by(pl.col("corrects").alias("number"), *of_a_due[1:])
        .agg(correction=pl.col("amount").sum())
    )
    in_advance = (
        lines.filter(is_refunded())
        .join(first.select(*_KEYS, "number"), on="number")
        .join(corrected, on=of_a_due, how="left", nulls_equal=True, maintain_order="left")
        .with_columns(_of_due=pl.int_range(pl.len()).over(of_a_due))
    )
    correction = pl.when(pl.col("_of_due") == 0).then("correction").fill_null(0).cast(MONEY)
    return (
        in_advance.with_columns(amount=-(pl.col("amount") + correction))
        .filter(pl.col("amount") != 0)
        .with_columns(
            kind=pl.when(pl.col("kind") == LineKind.COUPON).then("kind").otherwise(pl.lit(LineKind.REFUND)),
            due_item=refund_item(),
            due_kind=pl.lit(LineKind.REFUND),
            description=pl.format("Refund of {}", "description"),
            line=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("number"),
        )
    )


def correction_notes(
    month: str,
    *,
    differences: pl.DataFrame,
    reason: str,
    subscriptions: pl.DataFrame,
    packages: pl.DataFrame,
    documents: pl.DataFrame,
    taxes: pl.DataFrame,
    accounts: pl.DataFrame,
    tax_rates: pl.DataFrame,
    exchange_rates: pl.DataFrame,
    catalogue: Catalogue,
    credits: CreditsInOrder | None,
    as_of: date,
) -> Drafts:
    """Rule 21: a credit or debit note per document of the month whose billing differs from what is due.

    A note credits what its document billed, of earlier cycles too, and charges what else is due on its date.

    Parameters
    ----------
    differences
        As `with_settlements` and `by_billing_document`, of this month and those before. Where nothing was issued on
        the date there is no document to correct: such a difference waits for the subscription's next document.
    packages
        The table PACKAGES of the month.
    documents
        Issued in the month.
    taxes
        As `running_taxes`, of the documents.
    credits, as_of
        As in `refund_notes`.
    """
    scheduled = documents.filter(pl.col("corrects").is_null())
    on_its_date = scheduled.select("subscription_id", "billing_date", own="number")
    is_earlier = pl.col("due_on") != pl.col("billing_date")
    adjusted = (
        differences.join(on_its_date, on=["subscription_id", "billing_date"], how="left", maintain_order="left")
        .rename({"billing_date": "due_on"})
        .with_columns(number=pl.coalesce("gives_back", "own"))
        .join(scheduled.select("number", "billing_date"), on="number", maintain_order="left")
        .sort(
            "number",
            pl.col("kind") == LineKind.COUPON,
            "due_on",
            "kind",
            "metric",
            "due_item",
            "cycle_start",
            descending=[False, False, True, True, False, False, False],
        )
        .with_columns(
            description=pl.when(is_earlier)
            .then(in_words(catalogue, " of an earlier cycle"))
            .otherwise(in_words(catalogue))
        )
        .with_columns(
            due_kind="kind",
            kind=pl.when(pl.col("kind") == LineKind.COUPON).then("kind").otherwise(pl.lit(LineKind.ADJUSTMENT)),
            line=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("number"),
        )
    )
    corrected = scheduled.join(adjusted, on="number", how="semi", maintain_order="left")
    return _notes(
        month,
        corrected=corrected,
        lines=adjusted,
        taxes=taxes,
        reason=reason,
        subscriptions=subscriptions,
        packages=packages,
        accounts=accounts,
        tax_rates=tax_rates,
        exchange_rates=exchange_rates,
        catalogue=catalogue,
        credits=credits,
        as_of=as_of,
    )


def _notes(
    month: str,
    *,
    corrected: pl.DataFrame,
    lines: pl.DataFrame,
    taxes: pl.DataFrame,
    reason: str | None,
    subscriptions: pl.DataFrame,
    packages: pl.DataFrame,
    accounts: pl.DataFrame,
    tax_rates: pl.DataFrame,
    exchange_rates: pl.DataFrame,
    catalogue: Catalogue,
    credits: CreditsInOrder | None,
    as_of: date,
) -> Drafts:
    """A note for each of the `corrected` documents that has lines; they carry the `number` they correct."""
    if corrected.is_empty():
        return Drafts(DRAFTS.empty(), DRAFT_LINES.empty(), DRAFT_TAXES.empty())
    lines = with_lowered_lines(lines.with_columns(gives_back=pl.lit(None, pl.String)))
    notes = corrected.join(
        lines.group_by("number").agg(_net=pl.col("amount").sum()), on="number", maintain_order="left"
    ).with_columns(net="_net")
    # A note uses the tax rates of the document it corrects (rule 24).
    # The note itself names that document: leave taxed_as null.
    nets = lines.group_by("number", "tax_category", maintain_order=True).agg(net=pl.col("amount").sum())
    parts_of_notes = nets.join(notes.select(*_KEYS, "number"), on="number", maintain_order="left")
    note_taxes = taxes_given_back(parts_of_notes, taxes, catalogue).with_columns(taxed_as=pl.lit(None, pl.String))
    notes = (
        notes.drop("tax", "total")
        .join(note_taxes.group_by(_KEYS).agg(tax=pl.col("amount").sum()), on=_KEYS, how="left", maintain_order="left")
        .with_columns(pl.col("tax").fill_null(0).cast(MONEY))
        .with_columns(
            total=pl.col("net") + pl.col("tax"),
            kind=pl.when(pl.col("net") > 0)
            .then(pl.lit(DocumentKind.DEBIT_NOTE))
            .otherwise(pl.lit(DocumentKind.CREDIT_NOTE)),
            billing_month=pl.lit(month),
            corrected=pl.struct(number="number", issued_on=day("issued_on"), billing_date=day("billing_date")),
            issued_on=pl.lit(None, pl.Date),
            due_on=pl.lit(None, pl.Date),
            corrects="number",
            reason=pl.lit(reason, pl.String),
            reason_code=pl.lit(NoteReason.REFUND_WINDOW if reason is None else NoteReason.CORRECTION),
        )
    )
    # A note uses and gives back credits on the day it is issued (rule 33).
    ordered = notes.sort("billing_date", "account_id", "subscription_id", maintain_order=True)
    notes = paid_by_credits(ordered, credits, as_of, ordered.select(*_KEYS, number="corrects"))
    parts = [
        line_list(with_language(lines, accounts, catalogue), None, note_taxes, catalogue),
        tax_list(note_taxes, accounts, tax_rates, catalogue),
        tax_in_its_currency(note_taxes, exchange_rates, catalogue),
    ]
    content = contents(
        notes,
        parts=parts,
        subscriptions=subscriptions,
        cycles=None,
        packages=packages,
        accounts=accounts,
        catalogue=catalogue,
    )
    return drafts_of(month, notes, lines, note_taxes, content)
