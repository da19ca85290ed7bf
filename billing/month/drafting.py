"""Draft the documents of a month (rule 19)."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Final

import polars as pl

from billing.documents.change_list import with_upgrades_at_once
from billing.documents.content_lists import COMPARED_DOCUMENT, COMPARED_LINE
from billing.documents.credit_notes import refund_notes
from billing.documents.drafts import (
    BY_SUBSCRIPTION,
    Drafts,
    Issued,
    ToDraft,
    draft_ranges,
    with_notes,
)
from billing.documents.merged_drafts import in_key_order, merged_drafts
from billing.model.calendar import months_after
from billing.model.codes import PACKAGE_CHANGES, Outcome
from billing.model.tables import CYCLES, DECISIONS, DRAFT_LINES, DRAFT_TAXES, DRAFTS, DUES, PACKAGES, PARKED, USAGE
from billing.month.business import Business
from billing.month.checks import answers_not_given_once, dates_not_billed_once, not_adding_up
from billing.month.context import required_table, without_parked
from billing.month.credits import credits_in_order
from billing.month.held_offers import held_add_ons
from billing.month.invoice_formats import accounts_with_formats, in_their_formats, without_format_parked
from billing.month.parking import park, park_for_format, park_without_rate
from billing.month.recorded_inputs.record import Record, month_record, read_record, write_record
from billing.month.shards import shard_homes
from billing.month.true_ups import (
    approved_refunds,
    billed_lines,
    billed_subscriptions,
    differences_with_lines,
    month_differences,
    taxes_left,
)
from billing.register.issued_documents import IssuedRows
from billing.rules.credited_documents import by_billing_document
from billing.rules.own_documents import shown_subscription_id
from billing.rules.prepaid_credits import CreditsInOrder
from billing.rules.tax import without_rate
from billing.store.files import write_file
from billing.store.frames import scan_frames, write_frames, write_rows
from billing.store.home import Home
from billing.store.monthly import keep_whole, write_month
from billing.store.resources import keep_resources

_DRAFTED: Final = "drafted"
_DRAFTS_OF_A_SHARD: Final = 1_000


def write_drafts(business: Business, month: str) -> Drafts:
    """The documents of the month's open billing dates: DRAFTS (returned without content), DRAFT_LINES, DRAFT_TAXES.

    Park an account whose documents are inconsistent, and draft the others (rule 28).
    """
    unanswered = answers_not_given_once(business, month)
    if not unanswered.is_empty():
        park(business, month, unanswered.select("account_id", detail=pl.format("{}: {}", "id", "problem")))
    drafts, not_in_format = _write_drafts(business, month)
    problems = _problems_of_drafts(business, month, drafts)
    if not problems.is_empty():
        park(business, month, problems)
    if not not_in_format.is_empty():
        park_for_format(business, month, not_in_format)
    own = drafts.lines.filter(pl.col("gives_back").is_null())
    untaxed = without_rate(own, business.inputs.accounts, business.inputs.tax_rates)
    if not untaxed.is_empty():
        park_without_rate(business, month, untaxed)
    if not all(found.is_empty() for found in (problems, not_in_format, untaxed)):
        drafts, _ = _write_drafts(business, month)
    return drafts


def _problems_of_drafts(business: Business, month: str, drafts: Drafts) -> pl.DataFrame:
    """account_id, detail: accounts whose drafts do not add up, or that are not billed once on each date."""
    keys = ["account_id", "subscription_id", "billing_date"]
    wrong = not_adding_up(drafts.documents, drafts.lines, drafts.taxes, keys).with_columns(
        problem=pl.lit("its draft does not add up")
    )
    problems = pl.concat([wrong, dates_not_billed_once(business, month)], how="diagonal")
    return problems.select(
        "account_id",
        detail=pl.format(
            "{} on {}: {}",
            pl.coalesce(shown_subscription_id(), "account_id"),
            pl.col("billing_date").dt.to_string("%Y-%m-%d"),
            "problem",
        ),
    )


def _write_drafts(business: Business, month: str) -> tuple[Drafts, pl.DataFrame]:
    """The drafts, written, and as the accounts of `in_their_formats`."""
    keep_resources(business.home, business.catalogue.resources)
    seen = business.register.state()
    rows = business.register.rows(month)
    # What refunds give back can pay documents of the month.
    credits = credits_in_order(business, pl.col("billing_month") < month)
    notes = drafted_refund_notes(business, month, rows, credits)
    scheduled = _drafts(business, month, rows, credits)
    parts: list[Drafts] = []
    not_in_format: list[pl.DataFrame] = []

    def pages() -> Iterator[pl.DataFrame]:
        for batch in with_notes(scheduled, notes):
            # Contents are large: write each batch and free it.
            drafts, refused = in_their_formats(business, month, batch)
            not_in_format.append(refused)
            parts.append(Drafts(drafts.documents.drop("content"), drafts.lines, drafts.taxes))
            yield drafts.documents

    write_frames(business.home.partition(DRAFTS, month), pages(), DRAFTS, _rows_at_once(business))
    keep_whole(business.home, DRAFTS, month)
    drafts = Drafts(
        pl.concat(part.documents for part in parts),
        pl.concat(part.lines for part in parts),
        pl.concat(part.taxes for part in parts),
    )
    for table, frame in ((DRAFT_LINES, drafts.lines), (DRAFT_TAXES, drafts.taxes)):
        write_month(business.home, table, month, frame, rows_at_once=_rows_at_once(business))
    # Write the state last: drafts that a killed run left beside an older state are never issued.
    write_record(
        month_record(business.home, month, _DRAFTED), Record({"register": seen, "as of": business.as_of.isoformat()})
    )
    return drafts, pl.concat(not_in_format)


def drafted_as_of(business: Business, month: str) -> date | None:
    """The as-of day of the run that made the month's drafts; None when there are none, or of several runs."""
    days = {inputs.get("as of") for inputs in _drafted_inputs(business, month)}
    day = days.pop() if len(days) == 1 else None
    return date.fromisoformat(day) if day else None


def drafted_from(business: Business, month: str) -> str:
    """The state of the register that the month's drafts were made from.

    Raises
    ------
    FileNotFoundError
        When there are none.
    """
    inputs = _drafted_inputs(business, month)
    if not all(inputs):
        raise FileNotFoundError(f"drafts of {month} have not been computed: bill that month first")
    # Shards that were drafted from different states cannot be issued: no state of the register is two.
    return "; ".join(sorted({each["register"] for each in inputs}))


def _drafted_inputs(business: Business, month: str) -> list[Mapping[str, str]]:
    """The recorded inputs of the month's drafts, of each shard."""
    return [_drafted_inputs_of(home, month) for home in shard_homes(business, month)]


def _drafted_inputs_of(home: Home, month: str) -> Mapping[str, str]:
    path = month_record(home, month, _DRAFTED)
    record, before = read_record(path), path.with_name("drafted_from.txt")
    if record is None and before.exists():
        # Format of versions before 0.3: two lines.
        register, day = before.read_text().splitlines()
        return {"register": register, "as of": day.removeprefix("as of ")}
    return record.inputs if record else {}


def _drafts(business: Business, month: str, rows: IssuedRows, credits: CreditsInOrder | None) -> Iterator[Drafts]:
    parked = required_table(business, PARKED, month)
    open_ones = month_differences(business, business.first_month or month, month)
    differences = by_billing_document(differences_with_lines(business, open_ones), billed_lines(business, open_ones))
    change = pl.col("kind").is_in(PACKAGE_CHANGES) & (pl.col("outcome") == Outcome.APPROVED)
    whole = ToDraft(
        subscriptions=without_parked(billed_subscriptions(business), parked),
        cycles=without_parked(required_table(business, CYCLES, month), parked),
        packages=required_table(business, PACKAGES, month),
        decisions=with_upgrades_at_once(required_table(business, DECISIONS, month, change)),
        usage=without_parked(required_table(business, USAGE, month), parked),
        dues=without_parked(required_table(business, DUES, month), parked),
        differences=differences,
        accounts=accounts_with_formats(business, month),
        tax_rates=business.inputs.tax_rates,
        exchange_rates=business.inputs.exchange_rates,
        terms=business.terms,
    )
    issued = replace(issued_so_far(business, month, rows, differences["gives_back"]), credits=credits)
    return merged_drafts(
        [
            draft_ranges(month, _in_currency(whole, part, month), _issued_in_currency(issued, part), part.catalogue)
            for part in business.by_currency
        ]
    )


def _in_currency(inputs: ToDraft, part: Business, month: str) -> ToDraft:
    """What is drafted in the currency of a part of the accounts."""
    frames = {name: part.rows(getattr(inputs, name)) for name in BY_SUBSCRIPTION}
    return replace(inputs, **frames, terms=part.terms, held=held_add_ons(part, month))


def _issued_in_currency(issued: Issued, part: Business) -> Issued:
    """What was issued in the currency of a part: a document is compared with one in its own."""
    if part.whole is None:
        return issued
    documents = issued.documents.filter(pl.col("currency") == part.catalogue.currency)
    lines = issued.lines.join(documents, on="number", how="semi", maintain_order="left")
    return replace(issued, documents=documents, lines=lines)


def keep_drafts_after(business: Business, month: str, through: date) -> None:
    """Remove issued drafts: those up to a day, at the start of the table."""
    for table in (DRAFT_LINES, DRAFT_TAXES):
        rest = required_table(business, table, month, pl.col("billing_date") > through)
        write_month(business.home, table, month, rest, in_order=True, rows_at_once=_rows_at_once(business))
    path = business.home.partition(DRAFTS, month)
    pages = scan_frames([path], DRAFTS)
    left = pages.slice(rows_through(pages, through))
    write_file(path, partial(write_rows, rows=left, table=DRAFTS, rows_at_once=_rows_at_once(business)))


def _rows_at_once(business: Business) -> int | None:
    """Rows of a row group of drafts: issuing reads one of every shard at a time."""
    return None if business.home.buckets is None else _DRAFTS_OF_A_SHARD


def rows_through(pages: pl.LazyFrame, through: date) -> int:
    """How many rows of DRAFTS, which is sorted by billing date, are up to a day."""
    return int(pages.select((pl.col("billing_date") <= through).sum()).collect().item())


def drafted_refund_notes(business: Business, month: str, rows: IssuedRows, credits: CreditsInOrder | None) -> Drafts:
    """The credit notes of refunds of documents that are issued in the month."""
    refunds = approved_refunds(business)
    shown = rows.documents.with_columns(shown_subscription_id())
    numbers = shown.join(refunds, on="subscription_id", how="semi")["number"]
    taxes, accounts = taxes_left(business, numbers), accounts_with_formats(business, month)
    notes = [
        refund_notes(
            month,
            refunds=refunds,
            subscriptions=part.lives.subscriptions,
            packages=required_table(part, PACKAGES, month),
            documents=part.rows(rows.documents),
            lines=rows.lines,
            taxes=taxes,
            accounts=accounts,
            tax_rates=part.inputs.tax_rates,
            exchange_rates=part.inputs.exchange_rates,
            catalogue=part.catalogue,
            credits=credits,
            as_of=business.as_of,
        )
        for part in business.by_currency
    ]
    return without_format_parked(in_key_order(notes), business, month)


def issued_so_far(business: Business, month: str, rows: IssuedRows, given_back: pl.Series) -> Issued:
    register, before = business.register, months_after(month, -1)
    documents, lines = (list(of) for of in (COMPARED_DOCUMENT, COMPARED_LINE))
    return Issued(
        closed=register.closed_dates().select("subscription_id", "billing_date"),
        documents=pl.concat([register.documents([before], columns=documents), rows.documents.select(documents)]),
        lines=pl.concat([register.lines([before], columns=lines), rows.lines.select(lines)]),
        taxes=taxes_left(business, given_back),
        given_back=register.days_of(given_back.drop_nulls().unique().sort().to_list()),
        passed=register.passed_dates(month),
        closed_through=register.closed_through(month),
        closed_through_before=register.closed_through(before),
    )
