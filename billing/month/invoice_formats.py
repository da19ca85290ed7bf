"""The format of each account's documents in a month, and what parks those that cannot be written in it (rule 28)."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import polars as pl

from billing.documents.drafts import Drafts
from billing.einvoices.formats import InvoiceFormat
from billing.einvoices.invoice import InexpressibleError, Invoice
from billing.einvoices.lacking import lacking
from billing.einvoices.missing import (
    FIELD,
    INEXPRESSIBLE,
    PROBLEMS,
    missing_for_format,
    problems_in_words,
    resolved_format,
    uses_e_invoices,
)
from billing.einvoices.reading import read_invoice
from billing.model.calendar import first_day
from billing.model.codes import DocumentKind, ParkedReason
from billing.model.columns import MONEY
from billing.model.tables import CYCLES, PARKED
from billing.month.business import Business
from billing.month.context import joined, required_table
from billing.rules.tax import document_taxes
from billing.store.monthly import read_month

_KEYS = ["account_id", "subscription_id", "billing_date"]
_FOUND = {"account_id": pl.String, "detail": pl.String}
# A quote in a text is escaped: this is found nowhere but at its place.
_FORMAT: Final = re.compile(r'"format":"[a-z]+"')
_AT_ONCE: Final = 1_000
_AGAIN = "; the others are billed: change that, and bill again"


def format_problems(business: Business, month: str, among: pl.Series | None = None) -> pl.DataFrame:
    """As `missing_for_format`, of the month's billing dates; accounts without one are taxed as on its first day.

    Parameters
    ----------
    among
        account_id; none means all accounts.
    """
    accounts, catalogue = business.inputs.accounts, business.catalogue
    if among is not None:
        accounts = accounts.filter(pl.col("account_id").is_in(among.implode()))
    if accounts.is_empty() or not uses_e_invoices(accounts, catalogue):
        return pl.DataFrame(schema=PROBLEMS)
    accounts = accounts.filter(resolved_format(catalogue) != InvoiceFormat.PDF)
    dates = read_month(business.home, CYCLES, month, _KEYS).join(accounts, on="account_id", how="semi")
    others = accounts.join(dates, on="account_id", how="anti")
    there = pl.concat(
        [
            dates,
            others.select("account_id", subscription_id="account_id", billing_date=pl.lit(first_day(month))),
        ]
    )
    taxes = document_taxes(
        there.unique(["account_id", "billing_date"], maintain_order=True).with_columns(net=pl.lit(1).cast(MONEY)),
        accounts,
        business.inputs.tax_rates,
        catalogue,
    )
    found = [missing_for_format(part.rows(accounts), taxes, part.catalogue) for part in business.by_currency]
    return joined(found, ["account_id", "kind", "what"])


def accounts_with_formats(business: Business, month: str) -> pl.DataFrame:
    """The accounts, with the format of their documents in `invoice_format`: pdf where the policy falls back to it."""
    accounts, catalogue = business.inputs.accounts, business.catalogue
    if not uses_e_invoices(accounts, catalogue):
        return accounts
    accounts = accounts.with_columns(invoice_format=resolved_format(catalogue))
    if catalogue.policy.format_missing != InvoiceFormat.PDF:
        return accounts
    problems = format_problems(business, month)
    lacking = problems.filter(pl.col("kind") == FIELD).join(_standing(business, problems), on="account_id", how="anti")
    falls_back = pl.col("account_id").is_in(lacking["account_id"].implode())
    return accounts.with_columns(
        invoice_format=pl.when(falls_back).then(pl.lit(InvoiceFormat.PDF)).otherwise("invoice_format")
    )


def parked_for_format(business: Business, month: str) -> pl.DataFrame:
    """account_id, reason, detail: accounts with an open billing date whose documents their format cannot be."""
    problems = _standing(business, format_problems(business, month))
    closed = business.register.closed_dates(month).select("subscription_id", "billing_date")
    cycles = required_table(business, CYCLES, month).join(closed, on=["subscription_id", "billing_date"], how="anti")
    return as_missing(problems_in_words(problems.join(cycles, on="account_id", how="semi", maintain_order="left")))


def as_missing(problems: pl.DataFrame) -> pl.DataFrame:
    """account_id, reason, detail of account_id and detail."""
    return problems.select(
        "account_id",
        reason=pl.lit(ParkedReason.MISSING_FOR_FORMAT),
        detail=pl.format("{}{}", "detail", pl.lit(_AGAIN)),
    )


def in_their_formats(business: Business, month: str, drafts: Drafts) -> tuple[Drafts, pl.DataFrame]:
    """The drafts in formats that can say them, and accounts with one that its format cannot say.

    Parameters
    ----------
    drafts
        With the contents of the documents.

    Returns
    -------
    tuple
        `drafts`, under the policy `pdf` with PDFs where a document lacks a field; and account_id, detail.
    """
    if not uses_e_invoices(business.inputs.accounts, business.catalogue):
        return drafts, pl.DataFrame(schema=_FOUND)
    contents = drafts.documents.select(*_KEYS, "content")
    chosen = contents.filter(~pl.col("content").str.contains(f'"format":"{InvoiceFormat.PDF}"', literal=True))
    if chosen.is_empty():
        return drafts, pl.DataFrame(schema=_FOUND)
    known = _standing(business, format_problems(business, month, chosen["account_id"].unique()))
    # Usual documents have the one tax of their account and give nothing back: only the others are read.
    rows = drafts.taxes.group_by(_KEYS).agg(is_usual=(pl.len() == 1) & pl.col("taxed_as").is_null().all())
    is_apart = pl.any_horizontal(pl.col("gives_back", "tax_category").is_not_null())
    apart = drafts.lines.filter(is_apart).select(_KEYS).unique()
    is_note = pl.col("corrects").is_not_null() | (pl.col("kind") == DocumentKind.CREDIT_NOTE)
    notes = drafts.documents.filter(is_note).select(_KEYS).unique()
    usual = rows.filter("is_usual").join(apart, on=_KEYS, how="anti").join(notes, on=_KEYS, how="anti")
    unusual = chosen.join(usual, on=_KEYS, how="anti", maintain_order="left")
    unusual = unusual.join(known, on="account_id", how="anti", maintain_order="left")
    falls_back = business.catalogue.policy.format_missing == InvoiceFormat.PDF
    said: list[tuple[str, str]] = []
    as_pdf: dict[str, str] = {}
    for account, text, problem, is_field in _problems_of_documents(unusual):
        if is_field and falls_back:
            as_pdf[text] = _FORMAT.sub(f'"format":"{InvoiceFormat.PDF}"', text, count=1)
        else:
            said.append((account, problem))
    if as_pdf:
        drafts = replace(drafts, documents=drafts.documents.with_columns(pl.col("content").replace(as_pdf)))
    return drafts, pl.concat([problems_in_words(known), pl.DataFrame(said, schema=_FOUND, orient="row")])


def _problems_of_documents(documents: pl.DataFrame) -> Iterator[tuple[str, str, str, bool]]:
    """account_id, content, what is wrong with it in its format, and whether that is a field that it lacks."""
    for part in documents.select("account_id", pl.col("billing_date").cast(pl.String), "content").iter_slices(_AT_ONCE):
        read: list[tuple[str, str, str]] = []
        invoices: list[tuple[Invoice, InvoiceFormat]] = []
        for account, day, text in part.iter_rows():
            content = json.loads(text)
            numbered = content | {"number": content["number"] or "draft", "issued_on": content["issued_on"] or day}
            chosen = InvoiceFormat(content["format"])
            try:
                invoices.append((read_invoice(numbered, chosen), chosen))
            except InexpressibleError as error:
                yield account, text, f"its document of {day} cannot be {chosen}: {error}", False
                continue
            read.append((account, day, text))
        for (account, day, text), (_, chosen), lacks in zip(read, invoices, lacking(invoices), strict=True):
            if lacks:
                yield account, text, f"its document of {day} cannot be {chosen}: found no {', '.join(lacks)}", True


def _standing(business: Business, problems: pl.DataFrame) -> pl.DataFrame:
    """The problems of accounts that are parked for them: under the policy `pdf` those that no field mends."""
    if business.catalogue.policy.format_missing != InvoiceFormat.PDF:
        return problems
    whole = problems.filter(pl.col("kind") == INEXPRESSIBLE)
    return problems.join(whole, on="account_id", how="semi", maintain_order="left")


def without_format_parked(drafts: Drafts, business: Business, month: str) -> Drafts:
    """`drafts` without the documents of accounts that are parked for their format."""
    parked = read_month(business.home, PARKED, month, ["account_id", "reason"])
    return without_accounts(drafts, parked.filter(pl.col("reason") == ParkedReason.MISSING_FOR_FORMAT))


def without_accounts(drafts: Drafts, accounts: pl.DataFrame) -> Drafts:
    """`drafts` without the documents of `accounts` (account_id)."""
    if accounts.is_empty():
        return drafts
    return Drafts(
        *(
            frame.join(accounts, on="account_id", how="anti", maintain_order="left")
            for frame in (drafts.documents, drafts.lines, drafts.taxes)
        )
    )
