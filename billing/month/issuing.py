"""Issue documents: numbers, notes, and completing an issue that was interrupted (rule 19)."""

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date

import polars as pl

from billing.documents.drafts import Drafts, joined_drafts
from billing.model.buckets import BucketRange
from billing.model.calendar import first_day, months_after
from billing.model.catalogue import AFTER_ISSUE
from billing.model.codes import ADD_ON_CHANGES, PACKAGE_CHANGES, DecisionKind, DecisionReason, DocumentStatus
from billing.model.columns import Table
from billing.model.errors import RefusedError
from billing.model.offers import AT_ONCE
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
from billing.month.credits import credits_in_order
from billing.month.drafting import (
    drafted_as_of,
    drafted_from,
    drafted_refund_notes,
    keep_drafts_after,
    rows_through,
)
from billing.month.issued_settings import settings_to_keep
from billing.month.lost_deliveries import newly_measured
from billing.month.parking import park
from billing.month.shards import each_shard, shard_homes
from billing.month.steps import ClosedNow, decided_packages, write_decisions, write_packages
from billing.month.true_ups import refunds_of_month
from billing.month.unbilled import accounts_that_lost_events
from billing.register.issued_documents import NOTHING, IssuedRows
from billing.register.numbers import unknown_files
from billing.register.register import Issue, IssuedPart, issued_rows
from billing.rules.missing_accounts import PASSES_DATES
from billing.rules.own_documents import shown_subscription_id
from billing.rules.package_changes import CLOSED_SCHEMA
from billing.store.monthly import is_one_file, scan_month, write_month


def issue_documents(business: Business, month: str, *, only_drafts: bool = False) -> int:
    """Issue the drafts that have fallen due, close their dates, and write DOCUMENTS, LINES and TAXES of the month.

    Parameters
    ----------
    only_drafts
        Issue the drafts only; else also refunds of first documents that are issued here.

    Returns
    -------
    int
        How many documents this call issued.
    """
    through = business.closes_through(month)
    if not business.issues or through < first_day(month):
        write_issued_of_shards(business, month)
        return 0
    issue, refunding = issue_of_month(business, month, through)
    before = business.register.closed_through(month)
    is_due = issue.has_rows or before is None or before < through
    # Else complete a run that was killed after issuing.
    issued = _issue_now(business, issue) if is_due and not _is_issued(business, month, issue) else _Issued()
    if not is_due and not _was_issued_since(business, month):
        write_issued_of_shards(business, month)
        return 0
    del issue
    # A first document that was just issued may be refunded already.
    refunds = NOTHING if only_drafts else _issue_refunds(business, month, refunding, issued)
    for shard in each_shard(business, month):
        rows = issued.rows(shard, month)
        if issued.is_all:
            rows = rows.and_then(refunds.of(shard.home.buckets))  # else the register, which knows them already
        _write_what_issuing_moved(shard, month, through, issued.parts.get(shard.home.buckets))
        write_issued(shard, month, rows)
    return issued.count + refunds.documents.height


@dataclass(frozen=True)
class _Issued:
    """What was just issued.

    Attributes
    ----------
    parts, given
        By the buckets of a shard: what was issued of it, and what `Register.issue` returned.
    is_all
        Whether nothing of the month was issued before.
    """

    parts: Mapping[BucketRange | None, IssuedPart] = field(default_factory=dict)
    given: Mapping[BucketRange | None, pl.DataFrame] = field(default_factory=dict)
    is_all: bool = False

    @property
    def count(self) -> int:
        """The number of documents."""
        return sum(each.height for each in self.given.values())

    def rows(self, shard: Business, month: str) -> IssuedRows:
        """The issued rows of a month; of drafts where possible, as reading a large month back is expensive."""
        buckets = shard.home.buckets
        if not self.is_all:
            return shard.register.rows(month)
        return issued_rows(self.parts[buckets], self.given[buckets], shard.as_of)


def _issue_now(business: Business, issue: Issue) -> _Issued:
    month, register = issue.month, business.register
    refuse_lost_documents(business)
    inputs = business.inputs
    settings = settings_to_keep(register, business.catalogue, inputs.currencies, inputs.requests_of_everyone)
    is_all = register.count(month, since=month) == 0
    given = register.issue(replace(issue, settings=settings))
    buckets = [home.buckets for home in shard_homes(business, month)]
    return _Issued(dict(zip(buckets, issue.parts, strict=True)), dict(zip(buckets, given, strict=True)), is_all)


def _issue_refunds(
    business: Business, month: str, refunding: Collection[BucketRange | None], issued: _Issued
) -> IssuedRows:
    """Issue the notes of refunds, of all shards together: they are numbered in one order."""
    if not refunding:
        return NOTHING
    seen = business.register.state()
    notes = joined_drafts(
        drafted_refund_notes(
            shard, month, issued.rows(shard, month), credits_in_order(shard, pl.col("billing_month") < month)
        )
        for shard in each_shard(business, month, refunding)
    )
    return NOTHING if notes.documents.is_empty() else issue_notes(business, month, notes, seen)


def complete_issue(business: Business, month: str) -> int:
    """Recover from a run that was killed after issuing: write the tables that it did not; issues 0 documents."""
    if _was_issued_since(business, month):
        for shard in each_shard(business, month):
            _write_what_issuing_moved(shard, month, business.closes_through(month))
    write_issued_of_shards(business, month)
    return 0


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


def _write_what_issuing_moved(business: Business, month: str, through: date, part: IssuedPart | None = None) -> None:
    """Write the remaining drafts, and PACKAGES and DECISIONS with the dates closed now."""
    closed = None if part is None else _closed_now(business, month, part)
    keep_drafts_after(business, month, through)
    decided = decided_packages(business, month, closed)
    write_packages(business, month, decided)
    write_decisions(business, month, decided, closed.decisions if closed else None)


def _closed_now(business: Business, month: str, part: IssuedPart) -> ClosedNow:
    before = required_table(business, PACKAGES, month, pl.col("closed"))
    dates = pl.concat(frame.select(list(CLOSED_SCHEMA)) for frame in (before, part.closing.collect()))
    if not part.are_first_decisions:
        return ClosedNow(dates)
    return ClosedNow(dates, DECISIONS.conform(part.decisions.filter(pl.col("billing_month") == month)))


def issue_notes(business: Business, month: str, notes: Drafts, seen: str) -> IssuedRows:
    """Issue notes, which close no billing date; returns their rows."""
    closing = PACKAGES.empty().select("account_id", *CLOSED_SCHEMA)
    through = business.register.closed_through(month) or first_day(month)
    part = IssuedPart(
        notes.documents.lazy().sort(DRAFTS.key),
        notes.lines.lazy().sort(DRAFT_LINES.key),
        notes.taxes.lazy().sort(DRAFT_TAXES.key),
        closing.lazy(),
        DECISIONS.empty(),
    )
    (given,) = business.register.issue(
        Issue(
            month,
            business.as_of,
            through,
            [part],
            seen,
            measured=newly_measured(business),
            numbering=business.catalogue.numbering,
            are_sent=business.catalogue.policy.send == AFTER_ISSUE,
        )
    )
    return issued_rows(part, given, business.as_of)


def write_issued_of_shards(business: Business, month: str) -> None:
    """As `write_issued`, of all shards, from the register."""
    for shard in each_shard(business, month):
        write_issued(shard, month, shard.register.rows(month))


def write_issued(business: Business, month: str, rows: IssuedRows) -> None:
    """Write DOCUMENTS, LINES and TAXES of the month: copies of the register, for readers of the lake."""
    for table, frame in (
        (DOCUMENTS, rows.documents.with_columns(shown_subscription_id(), status=pl.lit(DocumentStatus.OPEN))),
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
        are_sent=business.catalogue.policy.send == AFTER_ISSUE,
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
    # A note closes no date.
    settled = (
        pages.filter(pl.col("corrects").is_null())
        .join(billed(PACKAGES), on=["subscription_id", "billing_date"], how="anti")
        .select(pl.col(name) if name in DRAFTS.schema else pl.lit(None, pl.String).alias(name) for name in columns)
    )
    closed_now, known = closing.collect(), business.register.closed_decisions(month)
    return IssuedPart(
        drafts=pages,
        lines=billed(DRAFT_LINES).filter(reached),
        taxes=billed(DRAFT_TAXES).filter(reached),
        closing=pl.concat([closing, settled]),
        decisions=_final_decisions(business, month, through, pl.concat([closing, settled]), known),
        are_first_decisions=known.is_empty(),
        begun=_compressed(_newly_begun(business, closed_now)),
        # No date of an account that was never billed has passed: each gets an invoice of its own.
        passed=parked.filter(
            pl.col("reason").is_in(PASSES_DATES) & pl.col("account_id").is_in(business.inputs.known_accounts.implode())
        )["account_id"],
        are_all_drafts=lost.is_empty() and is_one_file(business.home, DRAFTS, month),
    )


def _final_decisions(
    business: Business, month: str, through: date, closing: pl.LazyFrame, known: pl.DataFrame
) -> pl.DataFrame:
    """DECISIONS that are final with the dates that close: changes of packages and add-ons of their subscriptions.

    `known` are those of the month that were final before.
    """
    kinds = pl.col("kind").is_in((*PACKAGE_CHANGES, *ADD_ON_CHANGES))
    final = required_table(business, DECISIONS, month).filter(kinds & (pl.col("decided_on") <= through))
    before = months_after(month, -1)
    if business.catalogue.policy.requested_upgrades == AT_ONCE and before in business.home.months(DECISIONS):
        # An upgrade at once is decided in the month of its day, and its cycle may close in the next.
        upgrades = required_table(business, DECISIONS, before).filter(pl.col("kind") == DecisionKind.UPGRADE)
        final = pl.concat([final, upgrades])
        known = pl.concat([known, business.register.closed_decisions(before)])
    subscriptions = closing.select(shown_subscription_id()).unique().collect()
    return final.join(subscriptions, on="subscription_id", how="semi").join(known, on="decision_id", how="anti")


def _compressed(rows: pl.DataFrame) -> pl.LazyFrame:
    """The rows of a shard until it is their turn: in a first month, those of all accounts."""
    content = io.BytesIO()
    rows.write_ipc(content, compression="lz4")
    return pl.scan_ipc(content.getvalue())


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
