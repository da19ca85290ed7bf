"""A billing month, step by step: each function reads the tables it needs, computes one table and writes it.

The steps run in the order of this module. Each is a pure function of the landing folder, the register and the tables
of this month and the one before; running it again on unchanged input writes nothing.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import polars as pl

from billing.balances import money_sent_back
from billing.business import Business
from billing.calendar import first_day, midnight, month_of, months_after, months_between
from billing.cards import contains_card_number
from billing.charges import month_charges, month_dues, parked_by_rating, rated_usage
from billing.cycles import MonthCycles, access_spans, closing_spans, month_cycles
from billing.decisions import month_decisions
from billing.differences import open_differences
from billing.documents import Drafts, Issued, draft_ranges, open_to_documents, with_notes
from billing.errors import RefusedError
from billing.given import recorded_deliveries
from billing.given_back import by_billing_document
from billing.held_back import CONTRADICTION, PASSES_DATES
from billing.home import (
    Home,
    file_hash,
    read_frame,
    scan_frames,
    write_bytes,
    write_file,
    write_frame,
    write_frames,
    write_rows,
)
from billing.ingest import (
    IngestOutcome,
    Progress,
    accounts_of_events,
    event_hashes,
    events_fingerprint,
    ingest_deliveries,
    pending_days,
    repeated_events,
    scan_event_parts,
    scan_events,
)
from billing.issued_settings import keep_settings
from billing.measured_deliveries import losses_that_stand, lost_deliveries, newly_measured, refuse_lost_deliveries
from billing.measured_usage import added_events, measuring_digest, record_measured
from billing.month_checks import (
    answers_not_given_once,
    dates_not_billed_once,
    not_adding_up,
    quantities_not_charged_once,
)
from billing.notes import correction_notes, refund_notes
from billing.packages import CLOSED_SCHEMA, PackageMonth, decide_packages
from billing.rating import in_units, unit_billionths
from billing.register import SERIES, Issue, IssuedRows, Register
from billing.rendering import Job, RenderedFile, Undrawn, drawing_libraries, render_files
from billing.settlements import with_settlements
from billing.tables import (
    CHARGES,
    CYCLES,
    DECISIONS,
    DOCUMENTS,
    DRAFT_LINES,
    DRAFT_TAXES,
    DRAFTS,
    DUES,
    EVENTS,
    LEVELS,
    LINES,
    MONEY,
    PACKAGES,
    PARKED,
    TAXES,
    UNBILLED,
    USAGE,
    Table,
)
from billing.tax import running_taxes
from billing.usage import levels_at_close, month_levels, month_usage, month_usage_with_more

_LONGEST_REASON = 500
_NUMBER = re.compile(rf"(?P<series>(?:{'|'.join(SERIES.values())})-\d{{4}})-(?P<sequence>\d{{6,}})")
_NOTHING_ISSUED = DOCUMENTS.empty().select("number", "kind", "account_id", "subscription_id", "billing_date")


def billed_months(business: Business, through: str) -> list[str]:
    """The months from that of the first subscription to `through`."""
    return [] if business.first_month is None else months_between(business.first_month, through)


def event_months(home: Home, before: str) -> list[str]:
    """The calendar months before `before` in which there are events."""
    files = (home.lake / "events").glob("event_month=*/*.parquet")
    months = {path.parent.name.removeprefix("event_month=") for path in files}
    return sorted(month for month in months if month < before)


def days_to_ingest(business: Business, by_content: bool = False) -> list[date]:
    """As `pending_days`, up to the as-of day."""
    catalogue = business.catalogue
    return pending_days(
        business.home,
        catalogue.metrics,
        business.inputs.known_accounts,
        catalogue.time_zone,
        catalogue.policy.lateness_days,
        business.as_of,
        by_content,
        catalogue.policy.limits,
    )


def ingest_usage(business: Business, progress: Progress | None = None) -> IngestOutcome:
    """Ingest what has been delivered up to the as-of day and is new or changed."""
    catalogue = business.catalogue
    return ingest_deliveries(
        business.home,
        catalogue.metrics,
        business.inputs.known_accounts,
        catalogue.time_zone,
        catalogue.policy.lateness_days,
        progress=progress,
        through=business.as_of,
        kept=recorded_deliveries(business.home),
        limits=catalogue.policy.limits,
    )


def write_cycles(business: Business, month: str) -> pl.DataFrame:
    """The billing dates of the month: CYCLES."""
    cycles = _cycles(business, month).cycles
    write_frame(business.home.partition(CYCLES, month), cycles, CYCLES, in_order=True)
    return cycles


def write_levels(business: Business, month: str) -> pl.DataFrame:
    """The gauges' levels at the start of the month before and of this one: LEVELS.

    Raises
    ------
    FileNotFoundError
        When the month before has not been billed: a level cannot be guessed.
    """
    before = months_after(month, -1)
    is_first = business.first_month is None or month <= business.first_month
    refuse_lost_deliveries(business, month, date.min if is_first else None)
    previous = None if is_first else _required(business, LEVELS, before)
    earlier = event_months(business.home, before) if is_first else []
    levels = month_levels(
        month,
        previous,
        scan_events(business.home, [before], business.as_of),
        scan_events(business.home, earlier, business.as_of),
        business.catalogue,
    )
    write_frame(business.home.partition(LEVELS, month), levels, LEVELS)
    return levels


def write_usage(business: Business, month: str) -> pl.DataFrame:
    """What was used in the cycles that close in the month: USAGE."""
    refuse_lost_deliveries(business, month)
    home, cycles, levels = business.home, _cycles(business, month), _required(business, LEVELS, month)
    months, as_of = [months_after(month, -1), month], business.as_of
    files = event_hashes(home, months, as_of)
    digest = measuring_digest(cycles, levels, business.catalogue.metrics)
    inputs = (
        month,
        cycles.spans,
        cycles.cycles,
        levels,
        scan_event_parts(home, months, as_of),
        repeated_events(home, months, as_of),
        accounts_of_events(home),
        business.catalogue,
    )
    added = added_events(home, month, digest, files)
    if added is None:
        usage = month_usage(*inputs)
    else:
        usage = month_usage_with_more(
            read_frame(home.partition(USAGE, month), USAGE), scan_frames(added, EVENTS), *inputs
        )
    write_frame(home.partition(USAGE, month), usage, USAGE, in_order=True)
    record_measured(home, month, digest, files)
    return usage


def write_packages(business: Business, month: str, decided: PackageMonth | None = None) -> pl.DataFrame:
    """The package of every cycle that starts in the month: PACKAGES, as decided here or before."""
    packages = (decided or _decided(business, month)).packages
    write_frame(business.home.partition(PACKAGES, month), packages, PACKAGES, in_order=True)
    return packages


def write_decisions(business: Business, month: str, decided: PackageMonth | None = None) -> pl.DataFrame:
    """The answers to requests and the automatic upgrades of the month, those decided by the as-of day: DECISIONS."""
    changes = (decided or _decided(business, month)).decisions.filter(pl.col("decided_on") <= business.as_of)
    closed = business.register.closed_decisions(month)
    answers = business.lives.answers.filter(
        (pl.col("outcome") != "pending") | pl.col("request_id").is_in(changes["request_id"].drop_nulls().implode())
    )
    answers = pl.concat([answers, _asked_after_the_close(business)])
    # one answer stands: a cancellation or hold learnt after the close voids no change that was decided there (rule 9)
    voided = pl.col("outcome") == "superseded"
    if not answers.filter(voided).is_empty():
        decided_before = business.register.closed_decision_ids().implode()
        answers = answers.filter(~(voided & pl.col("request_id").is_in(decided_before)))
    decisions = month_decisions(
        month,
        pl.concat([closed, DECISIONS.conform(changes)]),
        answers,
        _refund_amounts(business),
        business.first_month or month,
        business.catalogue,
    )
    write_frame(business.home.partition(DECISIONS, month), decisions, DECISIONS, in_order=True)
    return decisions


def write_charges(business: Business, month: str) -> pl.DataFrame:
    """What the closed cycles cost and what falls due on the month's billing dates: CHARGES, DUES and PARKED."""
    parked = _parked(business, month)
    rated = _without(_rated(business, month), parked)
    charges = month_charges(rated)
    unmatched = quantities_not_charged_once(_without(_required(business, USAGE, month), parked), charges)
    if not unmatched.is_empty():
        parked = _as_parked(month, parked, _contradictory(unmatched))
        rated, charges = _without(rated, parked), _without(charges, parked)
    cycles = _without(_required(business, CYCLES, month), parked)
    packages = _required(business, PACKAGES, month)
    first_packages = _first_packages(business, cycles)
    dues = month_dues(month, cycles, packages, first_packages, rated, business.terms, business.catalogue)
    write_frame(business.home.partition(PARKED, month), parked, PARKED, in_order=True)
    write_frame(business.home.partition(DUES, month), dues, DUES, in_order=True)
    write_frame(business.home.partition(CHARGES, month), charges, CHARGES, in_order=True)
    return charges


def write_drafts(business: Business, month: str) -> Drafts:
    """The documents of the month's open billing dates: DRAFTS (returned without content), DRAFT_LINES, DRAFT_TAXES.

    An account whose documents contradict themselves is parked, and the others are drafted without it (rule 28).
    """
    unanswered = answers_not_given_once(business, month)
    if not unanswered.is_empty():
        park(business, month, unanswered.select("account_id", detail=pl.format("{}: {}", "id", "problem")))
    drafts = _write_drafts(business, month)
    problems = _problems_of_drafts(business, month, drafts)
    if not problems.is_empty():
        park(business, month, problems)
        drafts = _write_drafts(business, month)
    return drafts


def _problems_of_drafts(business: Business, month: str, drafts: Drafts) -> pl.DataFrame:
    """account_id, detail: accounts whose drafts do not add up, or that are not billed once on each date."""
    keys = ["account_id", "subscription_id", "billing_date"]
    wrong = not_adding_up(drafts.documents, drafts.lines, drafts.taxes, keys).with_columns(
        problem=pl.lit("its draft does not add up")
    )
    found = pl.concat([wrong, dates_not_billed_once(business, month)], how="diagonal")
    return found.select(
        "account_id",
        detail=pl.format("{} on {}: {}", "subscription_id", pl.col("billing_date").dt.to_string("%Y-%m-%d"), "problem"),
    )


def _write_drafts(business: Business, month: str) -> Drafts:
    seen = business.register.state()
    rows = business.register.rows(month)
    scheduled, notes = _drafts(business, month, rows), _refund_notes(business, month, rows)
    parts: list[Drafts] = []

    def pages() -> Iterator[pl.DataFrame]:
        for drafts in with_notes(scheduled, notes):
            # the contents are large: each is written and forgotten
            parts.append(Drafts(drafts.documents.drop("content"), drafts.lines, drafts.taxes))
            yield drafts.documents

    write_frames(business.home.partition(DRAFTS, month), pages(), DRAFTS)
    drafts = Drafts(
        pl.concat(part.documents for part in parts),
        pl.concat(part.lines for part in parts),
        pl.concat(part.taxes for part in parts),
    )
    for table, frame in ((DRAFT_LINES, drafts.lines), (DRAFT_TAXES, drafts.taxes)):
        write_frame(business.home.partition(table, month), frame, table)
    # last: drafts that a killed run left beside an older state are never issued
    write_bytes(_drafted_from(business, month), f"{seen}\nas of {business.as_of}\n".encode())
    return drafts


def drafted_as_of(business: Business, month: str) -> date | None:
    """The as-of day of the run that made the month's drafts; None when there are none."""
    path = _drafted_from(business, month)
    said = path.read_text().splitlines() if path.exists() else []
    return date.fromisoformat(said[1].removeprefix("as of ")) if len(said) > 1 else None


def issue_documents(business: Business, month: str, only_drafts: bool = False) -> pl.DataFrame:
    """Issue the drafts that have fallen due, close their dates, and write DOCUMENTS, LINES and TAXES of the month.

    Parameters
    ----------
    only_drafts
        Nothing but the drafts; else also the refunds of first documents that are issued here.

    Returns
    -------
    polars.DataFrame
        number, kind, account_id, subscription_id, billing_date of what this call issued.
    """
    register = business.register
    through = business.closes_through(month)
    # read before and added to: of a large month what was issued is not read back
    rows, issued = register.rows(month), _NOTHING_ISSUED
    closed: pl.DataFrame | None = None
    if business.issues and through >= first_day(month):
        issue = _issue(business, month, through)
        before = register.closed_through(month)
        is_due = not issue.closing.is_empty() or not issue.lines.is_empty() or before is None or before < through
        is_issued = is_due and _is_issued(business, month, issue)
        # a run that was killed after it had issued did not come to the rest
        if is_due or _was_issued_since(business, month):
            if is_due and not is_issued:
                refuse_lost_documents(business)
                keep_settings(register, business.catalogue)
                new = register.issue(issue)
                # known here: of a large month the closed dates are not read back either
                closed = pl.concat(
                    frame.select(list(CLOSED_SCHEMA))
                    for frame in (_required(business, PACKAGES, month, pl.col("closed")), issue.closing)
                )
                rows, issued = rows.and_then(new), new.documents.select(_NOTHING_ISSUED.columns)
            # the contents are large
            del issue
            # a first document that has just been issued may have been refunded since
            if not only_drafts and not approved_refunds(business).is_empty():
                seen = register.state()
                notes = _refund_notes(business, month, rows)
                if not notes.documents.is_empty():
                    refunds = _issue_notes(business, month, notes, seen)
                    rows = rows.and_then(refunds)
                    issued = pl.concat([issued, refunds.documents.select(_NOTHING_ISSUED.columns)])
            _write_what_issuing_moved(business, month, through, closed)
    _write_issued(business, month, rows)
    return issued


def complete_issue(business: Business, month: str) -> pl.DataFrame:
    """Write what a run that was killed after it had issued the month's drafts did not come to.

    Returns
    -------
    polars.DataFrame
        As `issue_documents`: no rows, as nothing is issued here.
    """
    if _was_issued_since(business, month):
        _write_what_issuing_moved(business, month, business.closes_through(month))
    _write_issued(business, month, business.register.rows(month))
    return _NOTHING_ISSUED


def refuse_lost_documents(business: Business) -> None:
    """Nothing is issued where PDFs stand whose numbers the register has not given yet (rule 19).

    Such a register is older than what was issued (restored from a backup, deleted, another database): it would give
    the same numbers, and bill the same dates, a second time.

    Raises
    ------
    RefusedError
        When there are such PDFs, with the first of them.
    """
    last = business.register.last_numbers()
    lost = sorted(
        path
        for path in business.home.documents.glob("*/*.pdf")
        if (number := _NUMBER.fullmatch(path.stem)) and int(number["sequence"]) > last.get(number["series"], 0)
    )
    if lost:
        raise RefusedError(
            f"{lost[0]}: found the PDF of a document that the register does not know ({len(lost)} such PDFs), expected "
            "none: the register is older than what was issued, and would give these numbers and bill these dates again."
            " Put the latest register back; where it is lost, settle these documents first, then move their PDFs away "
            "(docs/operations.md, Restore)"
        )


def correction_reason(text: str) -> str:
    """The reason of a correction as it is printed on every note.

    Raises
    ------
    RefusedError
        When there is none, it is too long or cannot be printed, or it carries a card number (rule 11).
    """
    reason = " ".join(text.split())
    if contains_card_number(reason):
        raise RefusedError("--reason: found a card number in it, expected words that may be printed and kept")
    unprintable = next((character for character in reason if not character.isprintable()), None)
    if unprintable is not None:
        raise RefusedError(
            f"--reason: found the character U+{ord(unprintable):04X} at place {reason.index(unprintable) + 1},"
            " expected only what can be printed on a note"
        )
    if not reason or len(reason) > _LONGEST_REASON:
        raise RefusedError(
            f"--reason: found {len(reason)} characters, expected 1 to {_LONGEST_REASON} that can be printed on a note"
        )
    return reason


def refuse_unissued_month(business: Business, month: str) -> None:
    """A month of which nothing was ever issued holds no document to correct (rule 21).

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
    return correction_notes(
        month,
        by_billing_document(_with_settlements(business, differences), _billed_lines(business, differences)),
        reason,
        _billed_subscriptions(business),
        _required(business, PACKAGES, month),
        documents,
        _running_taxes(business, documents["number"]),
        business.inputs.accounts,
        business.catalogue,
    )


def issue_corrections(business: Business, month: str, reason: str, accounts: Sequence[str] = ()) -> pl.DataFrame:
    """Issue the corrections of the month, and write DOCUMENTS, LINES and TAXES of the month (rule 21).

    Returns
    -------
    polars.DataFrame
        number, kind, account_id, subscription_id, billing_date of the notes.
    """
    refuse_lost_documents(business)
    seen = business.register.state()
    notes = correction_drafts(business, month, reason, accounts)
    rows, issued = business.register.rows(month), _NOTHING_ISSUED
    if not notes.documents.is_empty():
        new = _issue_notes(business, month, notes, seen)
        rows, issued = rows.and_then(new), new.documents.select(_NOTHING_ISSUED.columns)
    _write_issued(business, month, rows)
    return issued


def month_differences(business: Business, since: str, before: str, later: Register | None = None) -> pl.DataFrame:
    """As `open_differences`, of the months from `since` to the one before `before`, all of them up to date.

    Parameters
    ----------
    later
        A later state of the register: a fee that it has paid back is left alone, and a date that went by while its
        account was parked, and that it has closed, is open.
    """
    months = months_between(since, months_after(before, -1))
    register, days = business.register, (first_day(since), first_day(before))
    amounts = register.issued_amounts(*days)
    closed = register.closed_dates().select("subscription_id", "billing_date")
    if later is not None:
        is_refund = pl.col("kind") == "refund"
        amounts = pl.concat([amounts.filter(~is_refund), later.issued_amounts(*days).filter(is_refund)])
        closed = pl.concat([closed, _gone_by(closed, later)])
    amounts = _with_refunds_taken_back(business, amounts)
    differences = open_differences(
        business.scan_months(DUES, months),
        business.scan_months(PARKED, months),
        closed,
        amounts,
    )
    return _without_accepted_losses(differences, losses_that_stand(business))


def _gone_by(closed: pl.DataFrame, later: Register) -> pl.DataFrame:
    """subscription_id, billing_date: closed by a later state of the register, without a document of their own."""
    dates = later.closed_dates().join(closed, on=closed.columns, how="anti")
    months = dates.with_columns(month=month_of(pl.col("billing_date"))).partition_by("month", as_dict=True)
    gone = [
        found.join(open_to_documents(found, later.passed_dates(str(month))), on=closed.columns, how="anti")
        for (month,), found in sorted(months.items())
    ]
    return pl.concat([closed.clear(), *(found.select(closed.columns) for found in gone)])


def _with_refunds_taken_back(business: Business, amounts: pl.DataFrame) -> pl.DataFrame:
    """What was billed, less what was paid back by refunds that a request took back: that fee is due again (rule 17)."""
    taken_back = business.lives.answers.filter((pl.col("kind") == "refund") & (pl.col("reason") == "withdrawn"))
    if taken_back.is_empty():
        return amounts
    is_undone = (
        (pl.col("kind") == "refund")
        & pl.col("account_id").is_in(taken_back["account_id"].implode())
        & ~pl.col("subscription_id").is_in(approved_refunds(business)["subscription_id"].implode())
    )
    fee = pl.when(is_undone).then(pl.lit("package_fee")).otherwise("kind")
    keys = ["account_id", "subscription_id", "billing_date", "kind", "metric"]
    others = [name for name in amounts.columns if name not in (*keys, "issued")]
    return (
        amounts.with_columns(kind=fee)
        .group_by(keys, maintain_order=True)
        .agg(pl.col("issued").sum().cast(MONEY), pl.col(others).first())
        .select(amounts.columns)
    )


def _without_accepted_losses(differences: pl.DataFrame, losses: pl.DataFrame) -> pl.DataFrame:
    """Overages of cycles whose usage is lost in part stand as they were issued (rule 22)."""
    if losses.is_empty() or differences.is_empty():
        return differences
    spans = losses.select("first_day", "last_day").unique()
    touched = (
        differences.filter(pl.col("kind") == "overage")
        .select("cycle_start", "cycle_end")
        .unique()
        .join_where(spans, pl.col("cycle_start") <= pl.col("last_day"), pl.col("cycle_end") > pl.col("first_day"))
        .select("cycle_start", "cycle_end", is_touched=pl.lit(True))
        .unique()
    )
    return (
        differences.join(touched, on=["cycle_start", "cycle_end"], how="left", maintain_order="left")
        .filter((pl.col("kind") != "overage") | pl.col("is_touched").is_null())
        .drop("is_touched")
    )


def accept_losses(business: Business, reason: str) -> pl.DataFrame:
    """Record that lost deliveries are given up, and return them: LOST_SCHEMA (rule 22).

    Cycles that were measured from them stand as they were issued; others are measured from what there is.

    Raises
    ------
    RefusedError
        When the reason cannot be kept, as `correction_reason`.
    """
    reason = correction_reason(reason)
    lost = lost_deliveries(business)
    if not lost.is_empty():
        business.register.accept_losses(lost.with_columns(accepted_on=pl.lit(business.as_of), reason=pl.lit(reason)))
    return lost


@dataclass(frozen=True)
class Rendered:
    """The PDFs that were drawn, and the documents that could not be.

    Attributes
    ----------
    redrawn
        Numbers of those that have other bytes than when they were issued: they are recorded beside them.
    """

    files: Sequence[RenderedFile]
    undrawn: Sequence[Undrawn]
    redrawn: Sequence[str]


def documents_to_render(business: Business, month: str) -> list[str]:
    """The numbers of the month's documents whose PDF is not there, or is not known to be theirs; sorted.

    A PDF that is not recorded is rendered again: a killed run left it, or it is not what was issued.
    """
    standing = {path.stem for path in (business.home.documents / month).glob("*.pdf")}
    return [
        number for number, sha256 in business.register.filed(month).items() if sha256 is None or number not in standing
    ]


def render_documents(
    business: Business, month: str, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> Rendered:
    """Render the PDF of every document of the month that has none yet, from stored content only (rule 19).

    A document that cannot be drawn is told of, and the others are drawn. Where a library that draws is not the
    one that a document was issued with, its file may have other bytes: the register says so.
    """
    home, register = business.home, business.register
    known = register.filed(month)
    missing = documents_to_render(business, month)
    jobs = (
        Job(content, home.document_file(month, number), known[number]) for number, content in register.contents(missing)
    )
    rendered: list[RenderedFile] = []
    undrawn: list[Undrawn] = []
    unrecorded: list[dict[str, object]] = []
    for file in render_files(jobs, workers=workers):
        if isinstance(file, Undrawn):
            undrawn.append(file)
            continue
        number = file.path.stem
        if known[number] is None:
            unrecorded.append({"number": number, "sha256": file.sha256, "bytes": file.bytes})
        rendered.append(file)
        if progress is not None:
            progress(len(rendered), len(missing))
        if len(unrecorded) == 500:
            register.record_files(unrecorded)
            unrecorded = []
    register.record_files(unrecorded)
    other = [file for file in rendered if known[file.path.stem] not in (None, file.sha256)]
    if other:
        rows = [(file.path.stem, file.sha256, known[file.path.stem], file.bytes) for file in other]
        names = ["number", "redrawn_sha256", "sha256", "bytes"]
        found = pl.DataFrame(rows, schema=names, orient="row").with_columns(
            redrawn_on=pl.lit(business.as_of), drawn_with=pl.lit(drawing_libraries())
        )
        register.record_redrawn_files(found)
    return Rendered(rendered, undrawn, [file.path.stem for file in other])


def write_unbilled(business: Business, month: str) -> pl.DataFrame:
    """The counted usage of the calendar month that bills nothing, with the reason (rule 27): UNBILLED."""
    unbilled = _unbilled(business, month)
    write_frame(business.home.partition(UNBILLED, month), unbilled, UNBILLED, in_order=True)
    return unbilled


def conserved(business: Business, month: str) -> pl.DataFrame:
    """Per metric: the counted events of the calendar month, and where they went (rule 27).

    Returns
    -------
    polars.DataFrame
        metric, counted, closed (in cycles that end in the month), open (in cycles that end after it), unbilled,
        events each; sorted by metric. counted = closed + open + unbilled unless events were lost or used twice.
    """
    path = business.home.partition(UNBILLED, month)

    def compute() -> pl.DataFrame:
        return _conserved(business, month, read_frame(path, UNBILLED))

    return _once(business, "conserved", month, [month], [path], compute)


def _conserved(
    business: Business, month: str, unbilled: pl.DataFrame, keys: Sequence[str] = ("metric",)
) -> pl.DataFrame:
    zone = business.catalogue.time_zone
    bounds = pl.select(
        start=midnight(pl.lit(first_day(month)), zone), end=midnight(pl.lit(first_day(months_after(month, 1))), zone)
    ).row(0)
    events = scan_events(business.home, [month], business.as_of).select("account_id", "metric", "time")
    counted = events.group_by(keys).agg(counted=pl.len().cast(pl.Int64)).collect(engine="streaming")
    parts = []
    for name, closing in (("closed", month), ("open", months_after(month, 1))):
        spans = closing_spans(closing, business.lives.subscriptions, business.suspensions, business.catalogue)
        inside = (
            events.join(spans.lazy().select("account_id", "span_start", "span_end"), on="account_id")
            .filter((pl.col("time") >= pl.col("span_start")) & (pl.col("time") < pl.col("span_end")))
            .filter((pl.col("time") >= bounds[0]) & (pl.col("time") < bounds[1]))
        )
        parts.append(inside.group_by(keys).agg(pl.len().cast(pl.Int64).alias(name)).collect(engine="streaming"))
    result = counted
    for part in (*parts, unbilled.group_by(keys).agg(unbilled=pl.col("events").sum())):
        result = result.join(part, on=list(keys), how="full", coalesce=True)
    return result.with_columns(pl.col("counted", "closed", "open", "unbilled").fill_null(0)).sort(keys)


def _cycles(business: Business, month: str) -> MonthCycles:
    return month_cycles(month, business.lives.subscriptions, business.suspensions, business.catalogue)


def _decided(business: Business, month: str, closed: pl.DataFrame | None = None) -> PackageMonth:
    """What is decided; `closed` is what the register holds of the month, where that is known without asking it."""
    cycles = _required(business, CYCLES, month)
    before = months_after(month, -1)
    is_first = business.first_month is None or month <= business.first_month
    previous = PACKAGES.empty() if is_first else _required(business, PACKAGES, before)
    return decide_packages(
        month,
        cycles,
        _required(business, USAGE, month),
        _levels_of_downgrades(business, cycles, month),
        previous.select("subscription_id", "opening_package", "waiting_package"),
        _first_packages(business, cycles),
        business.lives.answers,
        business.register.closed_dates(month).select(list(CLOSED_SCHEMA)) if closed is None else closed,
        business.terms,
    )


def _levels_of_downgrades(business: Business, cycles: pl.DataFrame, month: str) -> pl.DataFrame:
    """The levels at the close where a downgrade is asked for, as `levels_at_close`."""
    asked = business.lives.answers.filter((pl.col("outcome") == "pending") & (pl.col("kind") == "downgrade"))
    dates = cycles.join(
        asked, left_on=["subscription_id", "billing_date"], right_on=["subscription_id", "effective_on"], how="semi"
    )
    months = [months_after(month, -1), month] if dates.height else []
    at = tuple(dates.select("account_id", "subscription_id", "billing_date").iter_rows())

    def compute() -> pl.DataFrame:
        events = scan_events(business.home, months, business.as_of)
        accounts = accounts_of_events(business.home) if months else dates["account_id"]
        return levels_at_close(dates, _required(business, LEVELS, month), events, accounts, business.catalogue)

    levels = business.home.partition(LEVELS, month)
    return _once(business, "levels at the close", month, months, [levels], compute, at)


def _once(
    business: Business,
    what: str,
    month: str,
    events_of: Sequence[str],
    tables: Sequence[Path],
    compute: Callable[[], pl.DataFrame],
    *given: object,
) -> pl.DataFrame:
    """A small frame of a month that several steps ask for: computed once, as long as nothing moves that it is made of.

    Parameters
    ----------
    events_of
        The months of the events that are read.
    tables
        The files of the tables that are read.
    given
        Whatever else it is made of, but for the business as it was given and what was paid on issued documents.
    """
    register = business.register
    events = events_fingerprint(business.home, events_of, business.as_of)
    hashes = [path.exists() and file_hash(path) for path in tables]
    key = (what, month, id(register), register.count(), business.home.root, business.as_of, events, *hashes, *given)
    if key not in business.found:
        # what it was before is not asked for again
        for other in [each for each in business.found if each[:2] == key[:2]]:
            del business.found[other]
        business.found[key] = compute()
    return business.found[key]


def _first_packages(business: Business, cycles: pl.DataFrame) -> pl.DataFrame:
    """subscription_id, first_package of subscriptions that begin; one that was resumed goes on with its old package."""
    begun = business.lives.subscriptions.select("subscription_id", "first_package", "resumed_from").join(
        cycles.filter(pl.col("billing_index") == 0).select("subscription_id"), on="subscription_id", how="semi"
    )
    resumed = begun.filter(pl.col("resumed_from").is_not_null()).select("subscription_id", "resumed_from")
    if resumed.is_empty():
        return begun.select("subscription_id", "first_package")
    files = sorted((business.home.lake / PACKAGES.name).glob("billing_month=*/*.parquet"))
    last = (
        scan_frames(files, PACKAGES)
        .join(resumed.lazy().select(subscription_id="resumed_from").unique(), on="subscription_id", how="semi")
        .sort("billing_date")
        .group_by("subscription_id", maintain_order=True)
        .agg(old_package=pl.coalesce("opening_package", "closing_package").last())
        .collect()
    )
    # one that was put on hold in its trial never had a cycle: its package is the one that was subscribed to
    subscribed = business.lives.subscriptions.select("subscription_id", subscribed_package="first_package")
    return (
        begun.join(last, left_on="resumed_from", right_on="subscription_id", how="left", maintain_order="left")
        .join(subscribed, left_on="resumed_from", right_on="subscription_id", how="left", maintain_order="left")
        .select("subscription_id", first_package=pl.coalesce("first_package", "old_package", "subscribed_package"))
    )


def _rated(business: Business, month: str) -> pl.DataFrame:
    """The rated usage of all accounts."""
    return rated_usage(
        _required(business, USAGE, month), _required(business, PACKAGES, month), business.terms, business.catalogue
    )


def _parked(business: Business, month: str) -> pl.DataFrame:
    """The accounts that cannot be billed, as far as is known before anything is drafted: PARKED."""
    cycles, packages = _required(business, CYCLES, month), _required(business, PACKAGES, month)
    without_package = cycles.join(packages, on="subscription_id", how="anti").select(
        "account_id",
        detail=pl.format("the package in force of {} is not known: bill the month before again", "subscription_id"),
    )
    return _as_parked(
        month,
        business.parked_in(month),
        parked_by_rating(_rated(business, month), month),
        _contradictory(without_package),
    )


def _as_parked(month: str, *found: pl.DataFrame) -> pl.DataFrame:
    """PARKED of account_id, reason, detail: one row for an account and a reason."""
    columns = ["account_id", "reason", "detail"]
    rows = pl.concat([frame.select(columns) for frame in found]).unique(columns[:2], keep="first", maintain_order=True)
    return PARKED.conform(rows.with_columns(billing_month=pl.lit(month)))


def _contradictory(problems: pl.DataFrame) -> pl.DataFrame:
    """account_id, reason, detail of accounts of which two things are said that cannot both be."""
    return problems.drop_nulls("account_id").select(
        "account_id",
        reason=pl.lit(CONTRADICTION),
        detail=pl.format("{}; the others are billed, and it is looked at again by every run", "detail"),
    )


def park(business: Business, month: str, problems: pl.DataFrame) -> pl.DataFrame:
    """Park accounts of which a contradiction was found (rule 28): account_id, detail. Returns PARKED as it is now."""
    known = _required(business, PARKED, month)
    parked = _as_parked(month, known, _contradictory(problems))
    write_frame(business.home.partition(PARKED, month), parked, PARKED, in_order=True)
    return parked


def _drafts(business: Business, month: str, rows: IssuedRows) -> Iterator[Drafts]:
    parked = _required(business, PARKED, month)
    rated = _without(_rated(business, month), parked)
    open_ones = month_differences(business, business.first_month or month, month)
    differences = by_billing_document(_with_settlements(business, open_ones), _billed_lines(business, open_ones))
    change = pl.col("kind").is_in(["auto_upgrade", "upgrade", "downgrade"]) & (pl.col("outcome") == "approved")
    return draft_ranges(
        month,
        _without(_billed_subscriptions(business), parked),
        _without(_required(business, CYCLES, month), parked),
        _required(business, PACKAGES, month),
        _required(business, DECISIONS, month, change),
        rated,
        _without(_required(business, DUES, month), parked),
        differences,
        business.inputs.accounts,
        business.inputs.tax_rates,
        _issued(business, month, rows, differences["gives_back"]),
        business.catalogue,
    )


def _with_settlements(business: Business, differences: pl.DataFrame) -> pl.DataFrame:
    """The differences with what their lines say of the earlier cycles, as `with_settlements`."""
    months = differences.select(month_of(pl.col("billing_date")).unique().sort()).to_series().to_list()
    return with_settlements(
        differences,
        business.scan_months(CHARGES, months),
        business.scan_months(CYCLES, months),
        _billed_lines(business, differences),
        business.terms,
        business.catalogue,
    )


def _billed_lines(business: Business, differences: pl.DataFrame) -> pl.DataFrame:
    """As `Register.lines_of_accounts`, of the accounts and dates of the differences."""
    accounts = differences["account_id"].unique().sort().to_list()
    since, until = differences.select(pl.col("billing_date").min(), last=pl.col("billing_date").max()).row(0)
    return business.register.lines_of_accounts(accounts, since, until)


def _running_taxes(business: Business, numbers: pl.Series) -> pl.DataFrame:
    """As `running_taxes`, of documents."""
    register, wanted = business.register, numbers.drop_nulls().unique().sort()
    _, lines = register.taxes_of(wanted.to_list())
    both = pl.concat([wanted.rename("number"), lines["number"]]).unique().sort()
    found = running_taxes(*register.taxes_of(both.to_list()), business.catalogue)
    return found.filter(pl.col("number").is_in(wanted.implode()))


def _keep_drafts_after(business: Business, month: str, through: date) -> None:
    """Take away the drafts that have been issued: those up to a day, the first of the table."""
    for table in (DRAFT_LINES, DRAFT_TAXES):
        left = _required(business, table, month, pl.col("billing_date") > through)
        write_frame(business.home.partition(table, month), left, table, in_order=True)
    path = business.home.partition(DRAFTS, month)
    pages = scan_frames([path], DRAFTS)
    write_file(path, partial(write_rows, rows=pages.slice(_reached(pages, through)), table=DRAFTS))


def _reached(pages: pl.LazyFrame, through: date) -> int:
    """How many rows of DRAFTS, which is sorted by billing date, are up to a day."""
    return int(pages.select((pl.col("billing_date") <= through).sum()).collect().item())


def _is_issued(business: Business, month: str, issue: Issue) -> bool:
    """Whether exactly this has been issued already: by a run that was killed before it wrote that down in the lake."""
    register = business.register
    before = register.closed_through(month)
    if register.state() == issue.seen or before is None or before < issue.closed_through:
        return False
    keys = ["subscription_id", "billing_date"]
    if not issue.closing.join(register.closed_dates(month), on=keys, how="anti").is_empty():
        return False
    same = ["account_id", *keys, "kind", "corrects"]
    documents = register.documents([month]).filter(pl.col("issued_on") == issue.as_of)
    drafts = (
        issue.drafts.drop("content")
        .collect()
        .join(documents.select(*same, "number"), on=same, how="left", nulls_equal=True)
    )
    if drafts["number"].null_count():
        return False
    drafted = register.drafted_hashes(drafts["number"].to_list())
    return all(drafted[number] == found for number, found in drafts.select("number", "content_hash").iter_rows())


def _was_issued_since(business: Business, month: str) -> bool:
    """Whether anything was issued since the month was drafted as of this day.

    A month that was drafted as of another day holds what this run does not know.
    """
    seen = _drafted_from(business, month).read_text().splitlines()[0]
    return seen != business.register.state() and drafted_as_of(business, month) == business.as_of


def _write_what_issuing_moved(
    business: Business, month: str, through: date, closed: pl.DataFrame | None = None
) -> None:
    """Write the drafts that are left, and PACKAGES and DECISIONS with the dates that are closed now."""
    _keep_drafts_after(business, month, through)
    decided = _decided(business, month, closed)
    write_packages(business, month, decided)
    write_decisions(business, month, decided)


def _drafted_from(business: Business, month: str) -> Path:
    """The file that keeps the state of the register which the month's drafts were made from."""
    return business.home.lake / "fingerprints" / f"billing_month={month}" / "drafted_from.txt"


def _issue_notes(business: Business, month: str, notes: Drafts, seen: str) -> IssuedRows:
    """Issue notes, which close no billing date; returns what `Register.issue` does."""
    closing = PACKAGES.empty().select("account_id", *CLOSED_SCHEMA)
    through = business.register.closed_through(month) or first_day(month)
    return business.register.issue(
        Issue(
            month,
            business.as_of,
            through,
            notes.documents.lazy(),
            notes.lines,
            notes.taxes,
            closing,
            DECISIONS.empty(),
            seen,
            measured=newly_measured(business),
        )
    )


def _write_issued(business: Business, month: str, rows: IssuedRows) -> None:
    """Write DOCUMENTS, LINES and TAXES of the month: what the register holds, for those who read the lake."""
    for table, frame in (
        (DOCUMENTS, rows.documents.with_columns(status=pl.lit("open"))),
        (LINES, rows.lines),
        (TAXES, rows.taxes),
    ):
        write_frame(business.home.partition(table, month), frame, table)


def _billed_subscriptions(business: Business) -> pl.DataFrame:
    """The subscriptions, and those that were issued to and are no more, as a request that was learnt late undid them.

    What was issued to the latter is settled like that of a subscription that has ended (rule 20).
    """
    lives = business.lives
    gone = (
        business.register.closed_subscriptions()
        .join(lives.subscriptions, on="subscription_id", how="anti", maintain_order="left")
        .join(lives.parked, on="account_id", how="anti", maintain_order="left")
        .select("account_id", "subscription_id", grid_start="first", last_billing_date="last")
    )
    return pl.concat([lives.subscriptions, gone], how="diagonal")


def _asked_after_the_close(business: Business) -> pl.DataFrame:
    """Package changes that became known when the billing date they were meant for had been closed (rules 9 and 17)."""
    pending = business.lives.answers.filter(pl.col("outcome") == "pending")
    if pending.is_empty():
        return pending
    closed = business.register.closed_dates().select("subscription_id", effective_on="billing_date")
    late = pending.join(closed, on=["subscription_id", "effective_on"], how="semi", maintain_order="left")
    decided = business.register.closed_decision_ids().implode()
    return late.filter(~pl.col("request_id").is_in(decided)).with_columns(
        outcome=pl.lit("refused"), reason=pl.lit("known_after_the_close"), effective_on=pl.lit(None, pl.Date)
    )


def _refund_notes(business: Business, month: str, rows: IssuedRows) -> Drafts:
    refunds = approved_refunds(business)
    numbers = rows.documents.join(refunds, on="subscription_id", how="semi")["number"]
    return refund_notes(
        month,
        refunds,
        business.lives.subscriptions,
        _required(business, PACKAGES, month),
        rows.documents,
        rows.lines,
        _running_taxes(business, numbers),
        business.inputs.accounts,
        business.catalogue,
    )


def approved_refunds(business: Business) -> pl.DataFrame:
    """request_id, subscription_id, on of the refunds approved by the as-of day."""
    answers = business.lives.answers
    return answers.filter((pl.col("kind") == "refund") & (pl.col("outcome") == "approved")).select(
        "request_id", "subscription_id", "on"
    )


def _refund_amounts(business: Business) -> pl.DataFrame:
    """subscription_id, refunded: what refunds send back, with tax, once their credit notes are issued."""
    refunds = approved_refunds(business)
    if refunds.is_empty():
        return pl.DataFrame(schema={"subscription_id": pl.String, "refunded": MONEY})
    documents = business.register.documents().join(refunds, on="subscription_id", how="semi")
    numbers = business.register.lines(numbers=documents["number"].to_list()).filter(pl.col("kind") == "refund")
    return money_sent_back(documents, documents.join(numbers, on="number", how="semi"), business.payments, refunds)


def _issued(business: Business, month: str, rows: IssuedRows, given_back: pl.Series) -> Issued:
    register, before = business.register, months_after(month, -1)
    return Issued(
        closed=register.closed_dates().select("subscription_id", "billing_date"),
        documents=pl.concat([register.documents([before]), rows.documents]).sort("number"),
        lines=pl.concat([register.lines([before]), rows.lines]).sort("number", "line"),
        taxes=_running_taxes(business, given_back),
        passed=register.passed_dates(month),
        closed_through=register.closed_through(month),
        closed_through_before=register.closed_through(before),
    )


def _issue(business: Business, month: str, through: date) -> Issue:
    """The drafts up to `through`, and the billing dates up to it that are still open."""
    reached = pl.col("billing_date") <= through
    parked = _required(business, PARKED, month)
    pages = scan_frames([business.home.partition(DRAFTS, month)], DRAFTS)
    pages = pages.head(_reached(pages, through))
    lost = accounts_that_lost_events(business, month)
    if not lost.is_empty():
        parked = park(business, month, lost)
        pages = pages.join(parked.lazy(), on="account_id", how="anti", maintain_order="left")
    drafts = pages.drop("content").collect()
    packages = _without(_required(business, PACKAGES, month), parked)
    columns = ["account_id", *CLOSED_SCHEMA]
    settled = drafts.join(packages, on=["subscription_id", "billing_date"], how="anti").select(
        pl.col(name) if name in drafts.columns else pl.lit(None, pl.String).alias(name) for name in columns
    )
    final = _required(business, DECISIONS, month).filter(
        pl.col("kind").is_in(["auto_upgrade", "upgrade", "downgrade"]) & (pl.col("decided_on") <= through)
    )
    known = business.register.closed_decisions(month)
    closing = packages.filter(reached & ~pl.col("closed")).select(columns)
    return Issue(
        month=month,
        as_of=business.as_of,
        closed_through=through,
        drafts=pages,
        lines=_without(_required(business, DRAFT_LINES, month, reached), parked),
        taxes=_without(_required(business, DRAFT_TAXES, month, reached), parked),
        closing=pl.concat([closing, settled]),
        decisions=final.join(closing, on="subscription_id", how="semi").join(known, on="decision_id", how="anti"),
        seen=_drafted_from(business, month).read_text().splitlines()[0],
        begun=_newly_begun(business, closing),
        measured=newly_measured(business),
        passed=parked.filter(pl.col("reason").is_in(PASSES_DATES))["account_id"],
    )


def _newly_begun(business: Business, closing: pl.DataFrame) -> pl.DataFrame:
    """subscription_id, account_id, request_id of subscriptions that are issued to for the first time.

    Earlier versions recorded none: then of all that have closed dates.
    """
    began = business.lives.answers.filter(
        pl.col("kind").is_in(["subscribe", "resume"]) & pl.col("reason").is_in(["subscribed", "new_subscription"])
    ).select("subscription_id", "account_id", "request_id")
    first = closing.filter(pl.col("closing_package").is_null()).select("subscription_id")
    if not business.register.has_begun_subscriptions():
        first = pl.concat([first, business.register.closed_subscriptions().select("subscription_id")])
    return began.join(first, on="subscription_id", how="semi")


def accounts_that_lost_events(business: Business, month: str) -> pl.DataFrame:
    """account_id, detail: accounts with counted events that are in no cycle and not unbilled, or in two (rule 27)."""
    totals = conserved(business, month)
    if totals.filter(_is_lost()).is_empty():
        return pl.DataFrame(schema={"account_id": pl.String, "detail": pl.String})
    return (
        # the table may be of an earlier run: a preview does not write it
        _conserved(business, month, _unbilled(business, month), ["account_id", "metric"])
        .filter(_is_lost())
        .select(
            "account_id",
            detail=pl.format(
                "{} {} events of {} are counted, {} are in cycles and {} bill nothing",
                "counted",
                "metric",
                pl.lit(month),
                pl.col("closed") + pl.col("open"),
                "unbilled",
            ),
        )
    )


def _is_lost() -> pl.Expr:
    return pl.col("counted") != pl.col("closed") + pl.col("open") + pl.col("unbilled")


def _unbilled(business: Business, month: str) -> pl.DataFrame:
    catalogue, lives = business.catalogue, business.lives
    spans = access_spans(lives.subscriptions, business.suspensions, catalogue)
    events = scan_events(business.home, [month], business.as_of).select("account_id", "metric", "time", "value")
    inside = events.join(spans.lazy(), on="account_id").filter(
        (pl.col("time") >= pl.col("span_start"))
        & (pl.col("span_end").is_null() | (pl.col("time") < pl.col("span_end")))
    )
    keys = ["account_id", "metric"]
    billed = inside.group_by(keys).agg(billed=pl.len().cast(pl.Int64))
    # only accounts with usage outside of their access are looked at event by event
    touched = (
        events.group_by(keys)
        .agg(counted=pl.len().cast(pl.Int64))
        .join(billed, on=keys, how="left")
        .filter(pl.col("counted") != pl.col("billed").fill_null(0))
        .select(keys)
    )
    suspect = events.join(touched, on=keys, how="semi").collect(engine="streaming").with_row_index("event")
    used = suspect.join(spans, on="account_id").filter(
        (pl.col("time") >= pl.col("span_start"))
        & (pl.col("span_end").is_null() | (pl.col("time") < pl.col("span_end")))
    )
    outside = suspect.join(used.select("event"), on="event", how="anti")
    reasons = _unbilled_reasons(outside, business)
    metrics = pl.DataFrame(
        {
            "metric": [metric.name for metric in catalogue.metrics],
            "unit": [unit_billionths(metric) for metric in catalogue.metrics],
            "has_value": [metric.measure not in ("count", "unique") for metric in catalogue.metrics],
        },
        schema={"metric": pl.String, "unit": pl.Int128, "has_value": pl.Boolean},
    )
    counted = pl.when("has_value").then("total").otherwise(pl.col("events").cast(events.collect_schema()["value"]))
    return UNBILLED.conform(
        reasons.group_by("account_id", "metric", "reason")
        .agg(total=pl.col("value").sum(), events=pl.len().cast(pl.Int64))
        .join(metrics, on="metric")
        .with_columns(billing_month=pl.lit(month), quantity=in_units(counted.to_physical(), pl.col("unit")))
    )


def _unbilled_reasons(outside: pl.DataFrame, business: Business) -> pl.DataFrame:
    """`outside` with the reason why nobody is billed for the event."""
    zone = business.catalogue.time_zone
    lives = business.lives
    one_day = pl.duration(days=1)
    starts = lives.subscriptions.select(
        "account_id",
        "end",
        "held_on",
        "pauses",
        begins=midnight(pl.col("started_on"), zone),
        paid_from=midnight(pl.col("grid_start"), zone),
        access_until=midnight(pl.col("access_last") + one_day, zone),
    ).sort("begins")
    placed = (
        outside.sort("time")
        .join_asof(
            starts, left_on="time", right_on="begins", by="account_id", strategy="backward", check_sortedness=False
        )
        .join(starts.select("account_id").unique().with_columns(subscribes=pl.lit(True)), on="account_id", how="left")
        .join(lives.parked.select("account_id", is_parked=pl.lit(True)), on="account_id", how="left")
    )
    day = pl.col("time").dt.convert_time_zone(zone).dt.date()
    paused = (
        placed.select("event", "pauses", day=day)
        .explode("pauses", empty_as_null=False)
        .drop_nulls("pauses")
        .unnest("pauses")
        .filter((pl.col("day") >= pl.col("first")) & (pl.col("day") < pl.col("until")))
        .select("event", is_paused=pl.lit(True))
        .unique()
    )
    ended = (pl.col("time") >= pl.col("access_until")).fill_null(False)
    return placed.join(paused, on="event", how="left").with_columns(
        reason=pl.when("is_parked")
        .then(pl.lit("parked"))
        .when(pl.col("subscribes").is_null())
        .then(pl.lit("no_subscription"))
        .when(pl.col("begins").is_null())
        .then(pl.lit("before_start"))
        .when(ended & pl.col("held_on").is_not_null() & pl.col("end").is_null())
        .then(pl.lit("held"))
        .when(ended)
        .then(pl.lit("access_ended"))
        .when(pl.col("time") < pl.col("paid_from"))
        .then(pl.lit("trial"))
        .when("is_paused")
        .then(pl.lit("held"))
        .otherwise(pl.lit("suspended"))
    )


def _required(business: Business, table: Table, month: str, rows: pl.Expr | None = None) -> pl.DataFrame:
    """The table of the month, or only these rows of it."""
    path = business.home.partition(table, month)
    if not path.exists():
        raise FileNotFoundError(f"{path}: {table.name} of {month} has not been computed: bill that month first")
    return read_frame(path, table) if rows is None else scan_frames([path], table).filter(rows).collect()


def _without(frame: pl.DataFrame, parked: pl.DataFrame) -> pl.DataFrame:
    return frame.join(parked.select("account_id"), on="account_id", how="anti", maintain_order="left")
