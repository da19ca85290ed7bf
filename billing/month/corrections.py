"""Correct an issued month: a note per document whose amounts moved (rule 21)."""

from collections.abc import Sequence

import polars as pl

from billing.documents.credit_notes import correction_notes
from billing.documents.drafts import Drafts
from billing.documents.merged_drafts import in_key_order
from billing.model.calendar import months_after
from billing.model.errors import RefusedError
from billing.model.tables import CYCLES, PACKAGES
from billing.month.business import Business
from billing.month.context import required_table
from billing.month.credits import credits_in_order
from billing.month.invoice_formats import accounts_with_formats, in_their_formats, without_accounts
from billing.month.issuing import issue_notes, refuse_lost_documents, write_issued_of_shards
from billing.month.parking import park_for_format
from billing.month.shards import each_shard
from billing.month.true_ups import (
    billed_lines,
    billed_subscriptions,
    differences_with_lines,
    month_differences,
    taxes_left,
)
from billing.register.issued_documents import NOTHING
from billing.rules.credited_documents import by_billing_document
from billing.store.resources import keep_resources


def refuse_unissued_month(business: Business, month: str) -> None:
    """Refuse to correct a month of which nothing was issued (rule 21).

    Raises
    ------
    RefusedError
        When no billing date of the month has been closed.
    """
    months = business.register.issued_months()
    if month not in months:
        expected = f"a month from {months[0]} to {months[-1]}" if months else "a month that was issued: none was yet"
        raise RefusedError(f"unknown month: found {month}, of which nothing was issued, expected {expected}")


def correction_drafts(business: Business, month: str, reason: str, accounts: Sequence[str] = ()) -> Drafts:
    """The credit and debit notes that correct the month's documents now, not issued (rule 21).

    Parameters
    ----------
    accounts
        Of these accounts only; none means all.
    """
    differences = month_differences(business, business.first_month or month, months_after(month, 1))
    if accounts:
        differences = differences.filter(pl.col("account_id").is_in(accounts))
    documents = business.register.documents([month])
    documents = documents.join(differences, on="subscription_id", how="semi", maintain_order="left")
    settled = by_billing_document(differences_with_lines(business, differences), billed_lines(business, differences))
    subscriptions, taxes = billed_subscriptions(business), taxes_left(business, documents["number"])
    credits = credits_in_order(business, pl.lit(value=True))
    with_formats = accounts_with_formats(business, month)
    notes = [
        correction_notes(
            month,
            differences=part.rows(settled),
            reason=reason,
            subscriptions=part.rows(subscriptions),
            packages=required_table(part, PACKAGES, month),
            documents=part.rows(documents),
            taxes=taxes,
            accounts=with_formats,
            tax_rates=part.inputs.tax_rates,
            exchange_rates=part.inputs.exchange_rates,
            catalogue=part.catalogue,
            credits=credits,
            as_of=business.as_of,
        )
        for part in business.by_currency
    ]
    return in_key_order(notes)


def issue_corrections(business: Business, month: str, reason: str, accounts: Sequence[str] = ()) -> pl.DataFrame:
    """Issue the corrections of the month, and write DOCUMENTS, LINES and TAXES of the month (rule 21).

    Returns
    -------
    polars.DataFrame
        As `Register.documents`: the notes.
    """
    refuse_lost_documents(business)
    seen = business.register.state()
    keep_resources(business.home, business.catalogue.resources)
    notes = correction_drafts(business, month, reason, accounts)
    notes, not_in_format = in_their_formats(business, month, notes)
    for shard in each_shard(business, month) if not not_in_format.is_empty() else ():
        theirs = required_table(shard, CYCLES, month).select("account_id")
        park_for_format(shard, month, not_in_format.join(theirs, on="account_id", how="semi", maintain_order="left"))
    notes = without_accounts(notes, not_in_format)
    issued = NOTHING
    if not notes.documents.is_empty():
        issued = issue_notes(business, month, notes, seen)
    write_issued_of_shards(business, month)
    return issued.documents
