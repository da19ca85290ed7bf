"""Issue documents: numbers, notes, and completing an issue that was interrupted (rule 19)."""

from collections.abc import Collection
from datetime import date
from itertools import zip_longest

import polars as pl

from billing.documents.drafts import Drafts, joined_drafts
from billing.model.buckets import BucketRange
from billing.model.calendar import first_day
from billing.model.codes import PACKAGE_CHANGES, DecisionKind, DecisionReason, DocumentStatus
from billing.model.columns import Table
from billing.model.errors import RefusedError
from billing.model.tables import (
    DECISIONS,
    DOCUMENTS,
    DRAFT_LINES,
    DRAFT_TAXES,
    DRAFTS,
    LINES,
    PACKAGES,
    PARKED,
    TAXES,
)
from billing.model.text import counted
from billing.month.business import Business
from billing.month.context import required_table
from billing.month.drafting import (
    drafted_as_of,
    drafted_from,
    drafted_refund_notes,
    keep_drafts_after,
    rows_through,
)
from billing.month.issued_settings import keep_settings
from billing.month.lost_deliveries import newly_measured
from billing.month.parking import park
from billing.month.shards import each_shard, is_sharded
from billing.month.steps import decided_packages, write_decisions, write_packages
from billing.month.true_ups import refunds_of_month
from billing.month.unbilled import accounts_that_lost_events
from billing.register.issued_documents import IssuedRows
from billing.register.numbers import unknown_files
from billing.register.register import Issue, IssuedPart
from billing.rules.missing_accounts import PASSES_DATES
from billing.rules.package_changes import CLOSED_SCHEMA
from billing.store.monthly import scan_month, write_month

NOTHING_ISSUED = DOCUMENTS.empty().select("number", "kind", "account_id", "subscription_id", "billing_date")


def issue_documents(business: Business, month: str, *, only_drafts: bool = False) -> pl.DataFrame:
    """Issue the drafts that have fallen due, close their dates, and write DOCUMENTS, LINES and TAXES of the month.

    Parameters
    ----------
    only_drafts
        Issue the drafts only; else also refunds of first documents that are issued here.

    Returns
    -------
    polars.DataFrame
        number, kind, account_id, subscription_id, billing_date of what this call issued.
    """
    through = business.closes_through(month)
    if not business.issues or through < first_day(month):
        write_issued_of_shards(business, month)
        return NOTHING_ISSUED
    issued = NOTHING_ISSUED
    closing: list[pl.LazyFrame] = []
    issue, refunding = issue_of_month(business, month, through)
    before = business.register.closed_through(month)
    is_due = issue.has_rows or before is None or before < through
    is_issued = is_due and _is_issued(business, month, issue)
    # Read once and append what is issued: reading a large month back is expensive.
    rows = None if is_sharded(business, month) else business.register.rows(month)
    # Complete a run that was killed after issuing.
    if is_due or _was_issued_since(business, month):
        if is_due and not is_issued:
            refuse_lost_documents(business)
            keep_settings(business.register, business.catalogue)
            new = business.register.issue(issue)
            rows = rows and rows.and_then(new)
            issued = new.documents.select(NOTHING_ISSUED.columns)
            del new
            closing = [part.closing for part in issue.parts]
        del issue
        # A first document that was just issued may be refunded already.
        if not only_drafts and refunding:
            seen = business.register.state()
            notes = _refund_notes(business, month, refunding, rows)
            if not notes.documents.is_empty():
                refunds = issue_notes(business, month, notes, seen)
                rows = rows and rows.and_then(refunds)
                issued = pl.concat([issued, refunds.documents.select(NOTHING_ISSUED.columns)])
        for shard, closed_now in zip_longest(each_shard(business, month), closing):
            _write_what_issuing_moved(shard, month, through, closed_now)
            write_issued(shard, month, rows or shard.register.rows(month))
        return issued
    write_issued_of_shards(business, month, rows)
    return issued


def _refund_notes(
    business: Business, month: str, refunding: Collection[BucketRange | None], rows: IssuedRows | None
) -> Drafts:
    """The notes of refunds, of all shards together: they are numbered in one order."""
    return joined_drafts(
        drafted_refund_notes(shard, month, rows or shard.register.rows(month))
        for shard in each_shard(business, month, refunding)
    )


def complete_issue(business: Business, month: str) -> pl.DataFrame:
    """Recover from a run that was killed after issuing: write the tables that it did not.

    Returns
    -------
    polars.DataFrame
        As `issue_documents`: no rows, as nothing is issued here.
    """
    if _was_issued_since(business, month):
        for shard in each_shard(business, month):
            _write_what_issuing_moved(shard, month, business.closes_through(month))
    write_issued_of_shards(business, month)
    return NOTHING_ISSUED


def refuse_lost_documents(business: Business) -> None:
    """Refuse to issue when PDFs exist whose numbers the register has not assigned (rule 19).

    Such a register is stale (restored from a backup, deleted, another database): it would assign the same numbers, and
    bill the same dates, a second time.

    Raises
    ------
    RefusedError
        When there are such PDFs, with the first of them.
    """
    files = sorted(business.home.documents.glob("*/*.pdf"))
    unknown = set(unknown_files((path.stem for path in files), business.register, business.catalogue.numbering))
    lost = [path for path in files if path.stem in unknown]
    if lost:
        such = counted(len(lost), "such PDF")
        raise RefusedError(
            f"{lost[0]}: found the PDF of a document that the register does not know ({such}),"
            " expected none: the register is older than what was issued, and would give these numbers and bill these "
            "dates again."
            " Put the latest register back; where it is lost, settle these documents first, then move their PDFs away "
            "(docs/operations.md, Restore)"
        )


def _is_issued(business: Business, month: str, issue: Issue) -> bool:
    """Whether exactly these drafts are issued: by a run that was killed before it updated the lake."""
    register = business.register
    before = register.closed_through(month)
    if register.state() == issue.seen or before is None or before < issue.closed_through:
        return False
    shards = each_shard(business, month)
    return all(
        _is_part_issued(shard, month, part, issue.as_of) for shard, part in zip(shards, issue.parts, strict=True)
    )


def _is_part_issued(business: Business, month: str, part: IssuedPart, as_of: date) -> bool:
    register, keys = business.register, ["subscription_id", "billing_date"]
    if not part.closing.collect().join(register.closed_dates(month), on=keys, how="anti").is_empty():
        return False
    same = ["account_id", *keys, "kind", "corrects"]
    documents = register.documents([month]).filter(pl.col("issued_on") == as_of)
    drafts = (
        part.drafts.drop("content")
        .collect()
        .join(documents.select(*same, "number"), on=same, how="left", nulls_equal=True)
    )
    if drafts["number"].null_count():
        return False
    drafted = register.drafted_hashes(drafts["number"].to_list())
    return all(drafted[number] == found for number, found in drafts.select("number", "content_hash").iter_rows())


def _was_issued_since(business: Business, month: str) -> bool:
    """Whether anything was issued since the month was drafted as of this day.

    A month drafted as of another day may contain more than this run knows.
    """
    seen = drafted_from(business, month)
    return seen != business.register.state() and drafted_as_of(business, month) == business.as_of


def _write_what_issuing_moved(
    business: Business, month: str, through: date, closed_now: pl.LazyFrame | None = None
) -> None:
    """Write the remaining drafts, and PACKAGES and DECISIONS with the dates closed now."""
    closed = None
    if closed_now is not None:
        # Pass the closed dates on: reading a large month back is expensive.
        closed_before = required_table(business, PACKAGES, month, pl.col("closed"))
        closed = pl.concat(frame.select(list(CLOSED_SCHEMA)) for frame in (closed_before, closed_now.collect()))
    keep_drafts_after(business, month, through)
    decided = decided_packages(business, month, closed)
    write_packages(business, month, decided)
    write_decisions(business, month, decided)


def issue_notes(business: Business, month: str, notes: Drafts, seen: str) -> IssuedRows:
    """Issue notes, which close no billing date; returns what `Register.issue` does."""
    closing = PACKAGES.empty().select("account_id", *CLOSED_SCHEMA)
    through = business.register.closed_through(month) or first_day(month)
    part = IssuedPart(
        notes.documents.lazy().sort(DRAFTS.key),
        notes.lines.lazy().sort(DRAFT_LINES.key),
        notes.taxes.lazy().sort(DRAFT_TAXES.key),
        closing.lazy(),
        DECISIONS.empty(),
    )
    return business.register.issue(
        Issue(
            month,
            business.as_of,
            through,
            [part],
            seen,
            measured=newly_measured(business),
            numbering=business.catalogue.numbering,
        )
    )


def write_issued_of_shards(business: Business, month: str, rows: IssuedRows | None = None) -> None:
    """As `write_issued`, of all shards."""
    for shard in each_shard(business, month):
        write_issued(shard, month, rows or shard.register.rows(month))


def write_issued(business: Business, month: str, rows: IssuedRows) -> None:
    """Write DOCUMENTS, LINES and TAXES of the month: copies of the register, for readers of the lake."""
    for table, frame in (
        (DOCUMENTS, rows.documents.with_columns(status=pl.lit(DocumentStatus.OPEN))),
        (LINES, rows.lines),
        (TAXES, rows.taxes),
    ):
        write_month(business.home, table, month, frame)


def issue_of_month(business: Business, month: str, through: date) -> tuple[Issue, list[BucketRange | None]]:
    """The drafts up to `through`, and the billing dates up to it that are still open.

    Also the buckets of the shards with refunds of first documents of the month.
    """
    parts, refunding = [], []
    for shard in each_shard(business, month):
        parts.append(_part_of_issue(shard, month, through))
        if not refunds_of_month(shard, month).is_empty():
            refunding.append(shard.home.buckets)
    issue = Issue(
        month=month,
        as_of=business.as_of,
        closed_through=through,
        parts=parts,
        seen=drafted_from(business, month),
        measured=newly_measured(business),
        numbering=business.catalogue.numbering,
    )
    return issue, refunding


def _part_of_issue(business: Business, month: str, through: date) -> IssuedPart:
    """As `issue_of_month`, of a shard."""
    reached = pl.col("billing_date") <= through
    parked = required_table(business, PARKED, month)
    pages = scan_month(business.home, DRAFTS, month)
    pages = pages.head(rows_through(pages, through))
    lost = accounts_that_lost_events(business, month)
    if not lost.is_empty():
        parked = park(business, month, lost)
        pages = pages.join(parked.lazy(), on="account_id", how="anti", maintain_order="left")
    columns = ["account_id", *CLOSED_SCHEMA]

    def billed(table: Table) -> pl.LazyFrame:
        found = scan_month(business.home, table, month)
        return found.join(parked.lazy(), on="account_id", how="anti", maintain_order="left")

    closing = billed(PACKAGES).filter(reached & ~pl.col("closed")).select(columns)
    settled = pages.join(billed(PACKAGES), on=["subscription_id", "billing_date"], how="anti").select(
        pl.col(name) if name in DRAFTS.schema else pl.lit(None, pl.String).alias(name) for name in columns
    )
    final = required_table(business, DECISIONS, month).filter(
        pl.col("kind").is_in(PACKAGE_CHANGES) & (pl.col("decided_on") <= through)
    )
    known, closed_now = business.register.closed_decisions(month), closing.collect()
    return IssuedPart(
        drafts=pages,
        lines=billed(DRAFT_LINES).filter(reached),
        taxes=billed(DRAFT_TAXES).filter(reached),
        closing=pl.concat([closing, settled]),
        decisions=final.join(closed_now, on="subscription_id", how="semi").join(known, on="decision_id", how="anti"),
        begun=_newly_begun(business, closed_now),
        # No date of an account that was never billed has passed: each gets an invoice of its own.
        passed=parked.filter(
            pl.col("reason").is_in(PASSES_DATES) & pl.col("account_id").is_in(business.inputs.known_accounts.implode())
        )["account_id"],
    )


def _newly_begun(business: Business, closing: pl.DataFrame) -> pl.DataFrame:
    """subscription_id, account_id, request_id of subscriptions that are issued to for the first time.

    Earlier versions recorded none: then return all with closed dates.
    """
    began = business.lives.answers.filter(
        pl.col("kind").is_in([DecisionKind.SUBSCRIBE, DecisionKind.RESUME])
        & pl.col("reason").is_in([DecisionReason.SUBSCRIBED, DecisionReason.NEW_SUBSCRIPTION])
    ).select("subscription_id", "account_id", "request_id")
    begins = business.lives.subscriptions.select("subscription_id", billing_date="first_billing_date")
    dates = closing.join(begins, on=["subscription_id", "billing_date"], how="semi")
    first = pl.concat([closing.filter(pl.col("closing_package").is_null()), dates]).select("subscription_id").unique()
    if not business.register.has_begun_subscriptions():
        first = pl.concat([first, business.register.closed_subscriptions().select("subscription_id")])
    return began.join(first, on="subscription_id", how="semi")
