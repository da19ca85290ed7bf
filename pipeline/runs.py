"""Billing runs from the command line: the same jobs as in Dagster's UI, in order, in this process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from assets import clock
from assets.calendars import Reach, reach_of
from assets.environment import dagster_home, months_ahead
from assets.ingest import ingest
from assets.progress import report
from assets.resources import BillingHome, preload
from assets.run_tags import RANGE_END, RANGE_START
from billing.model.calendar import first_day
from billing.model.catalogue import AFTER_ISSUE
from billing.model.errors import InterruptedRunError, RefusedError
from billing.model.money import in_currencies
from billing.model.plain_rows import plain_rows
from billing.model.tables import DRAFTS, PARKED
from billing.model.text import counted
from billing.month.business import Business
from billing.month.correctable import nothing_to_correct
from billing.month.corrections import correction_drafts, refuse_unissued_month
from billing.month.invoice_formats import as_missing, in_their_formats, without_accounts
from billing.month.issuing import refuse_lost_documents
from billing.month.pdf_files import documents_to_render
from billing.month.reasons import printable_reason
from billing.month.recorded_inputs.months import built_months, moved_inputs, profiles_digest
from billing.month.recorded_inputs.runs import profiles_built_from
from billing.month.review import issued_business, review_of, reviewed_business
from billing.month.steps import billed_months, days_to_ingest
from billing.month.unread_files import not_read
from billing.reports.preview import Preview, preview_month
from billing.reports.row_decimals import decimals_of
from billing.reports.sending import count_to_send
from billing.rules.own_documents import shown_subscription_id
from billing.store.home import Home
from billing.store.monthly import read_month, write_month
from billing.store.working_copy import name_of
from pipeline.executor_choice import is_on_cluster
from pipeline.job_runs import Jobs, Turn
from pipeline.process_settings import loading
from pipeline.run_records import FOLDER
from pipeline.run_state import (
    Outcome,
    Say,
    begin,
    load,
    marked,
    outcome,
    parked,
    remember,
    runs_backwards,
    say_what_has_not_begun,
    warn,
    without_pdf,
)
from pipeline.settings import bring_up_to_date, instance_folder


def bill(business: Business, month: str, through: str, *, draft: bool, say: Say) -> Outcome:
    """Ingest new deliveries, then update every month up to `through`, in order.

    Raises
    ------
    RefusedError
        Before anything is written: an input is wrong.
    InterruptedRunError
        A blocking check failed or a step broke; nothing was issued after that.
    """
    for given in (month, through):
        check_month(business, given)
    if through < month:
        raise RefusedError(f"--through: found {through}, expected {month} or a later month")
    say_what_has_not_begun(business, month, through, say)
    with _locked_and_ingested(business, draft=draft, say=say) as jobs:
        before = business.register.count(through)
        months = billed_months(business, through)
        if not months:
            write_month(business.home, PARKED, through, _parked_by_requests(business, through))
        undrawn: list[str] = []
        try:
            for each in months:
                undrawn += _bill_month(business, each, jobs if each == months[-1] else jobs.without_pdf_of_report())
                if not business.catalogue.policy.auto_issue:
                    _say_what_to_review(business, each, say)
            issued = business.register.count(through) - before
            _finish(business, months, jobs)
            if not draft:
                _send_mails(business, months, jobs)
        except InterruptedRunError as error:
            raise InterruptedRunError(_with_issued(str(error), business, through, before)) from error
    found = outcome(business, months, issued, say)
    return replace(found, problems=[*found.problems, *undrawn])


def _with_issued(message: str, business: Business, through: str, before: int) -> str:
    """The message of an interrupted run, with the number of documents it had issued."""
    try:
        issued = business.register.count(through) - before
    except InterruptedRunError:
        # The register itself is damaged.
        return message
    return f"{message} ({counted(issued, 'document')} issued before that)" if issued else message


def issue(root: Path, month: str, reviewed: str, say: Say) -> Outcome:
    """Issue exactly the reviewed drafts of a month, as of the day they were made.

    If they are already issued, complete the rest of that run's work.

    Raises
    ------
    RefusedError
        When the current drafts differ, or an input changed since.
    InterruptedRunError
        As `bill`.
    """
    business = load(root, date.max, issues=False)
    business.refuse_lacking_accounts()
    check_month(business, month)
    issued_before = issued_business(business, month, reviewed)
    if issued_before is not None:
        say(f"{month}: exactly these drafts have been issued already")
        business = issued_before.at(issued_before.as_of, issues=False)
    else:
        business = business.at(review_of(business, month).as_of)
        reviewed_business(business, month, reviewed)
    with _locked_and_ingested(business, draft=False, say=say) as jobs:
        before = business.register.count()
        jobs.execute(
            "issue_documents",
            partition=month,
            operations={"documents": {"config": {"reviewed": reviewed}}},
        )
        months = billed_months(business, month)
        _finish(business, months, jobs)
        _send_mails(business, [month], jobs)
    problems = [
        *not_read(business.home, business.inputs, business.as_of, business.catalogue),
        *parked(business, [month]),
        *without_pdf(business, month),
    ]
    return Outcome(business.register.count() - before, problems)


def preview(root: Path, month: str, as_of: date, account: str | None = None) -> Preview:
    """Dry run: what billing a month as of a day would change, for all accounts or one.

    Raises
    ------
    RefusedError
        When the month or the account is unknown, or the register lacks issued documents.
    """
    business = load(root, as_of, issues=False)
    business.refuse_lacking_accounts()
    check_month(business, month)
    _check_accounts(business, [account] if account else [])
    # No lake yet: no lock needed, and a preview must not create one.
    with business.alone() if business.home.lake.exists() else nullcontext():
        found = preview_month(business, month, report)
    return replace(found, changes=found.changes.filter(pl.col("account_id") == account)) if account else found


def correct(
    root: Path, month: str, accounts: Sequence[str], reason: str, as_of: date, *, draft: bool, say: Say
) -> tuple[list[dict[str, Any]], list[str]]:
    """Update everything without issuing, then correct a month at once (rule 21).

    Returns
    -------
    tuple of two lists
        The issued notes, or with `draft` those that would be: number (None on a draft), kind, account_id,
        subscription_id, billing_date, corrects, currency, net, tax, total, lines (description, amount). And what
        could not be done: accounts that are parked, documents without a PDF.

    Raises
    ------
    RefusedError, InterruptedRunError
        As `bill`.
    """
    business = load(root, as_of, issues=False)
    business.refuse_lacking_accounts()
    check_month(business, month)
    reason = printable_reason(reason)
    _check_accounts(business, accounts)
    # Check for a lost register first: it would look like a month without issued documents.
    refuse_lost_documents(business)
    refuse_unissued_month(business, month)
    register = business.register
    with _locked_and_ingested(business, draft=draft, say=say) as jobs:
        # Issue only the notes.
        computing = jobs.drafting()
        # Include all issued months: the journal covers them even if the lake was lost.
        issued_months = [] if draft else [*built_months(business), *register.issued_months()]
        months = billed_months(business, max([month, *issued_months]))
        for done, each in enumerate(months):
            report("bringing months up to date", done, len(months))
            _bill_month(business, each, computing if each == months[-1] else computing.without_pdf_of_report())
        if draft or month not in months:
            notes = correction_drafts(business, month, reason, accounts)
            notes, refused = in_their_formats(business, month, notes)
            notes = without_accounts(notes, refused)
            if notes.documents.is_empty():
                _say_which_months_differ(business, month, accounts, months=months, jobs=computing)
            keys = ["account_id", "subscription_id", "billing_date"]
            drafted = notes.documents.with_columns(number=pl.lit(None, pl.String))
            problems = parked(business, [month], among=accounts, further=as_missing(refused))
            return _notes(drafted, notes.lines, keys, business), problems
        before = register.documents([month])
        computing.execute(
            "correct",
            partition=month,
            operations={"corrections": {"config": {"reason": reason, "accounts": list(accounts)}}},
        )
        for each in months:
            if moved_inputs(business, each):
                _bill_month(business, each, computing)
        _finish(business, months, computing)
        _send_mails(business, [month], jobs)
    issued = register.documents([month]).join(before, on="number", how="anti")
    if issued.is_empty():
        say(nothing_to_correct(business, month, months[-1], accounts))
    problems = [*without_pdf(business, month), *parked(business, [month], among=accounts)]
    return _notes(issued, register.lines([month]), ["number"], business), problems


def _say_which_months_differ(
    business: Business,
    month: str,
    accounts: Sequence[str],
    *,
    months: Sequence[str],
    jobs: Jobs,
) -> None:
    """When a month has nothing to correct, name the months that have, if all built months are up to date."""
    through = max(month, *built_months(business))
    for each in billed_months(business, through):
        if each not in months and moved_inputs(business, each):
            _bill_month(business, each, jobs)
    jobs.say(nothing_to_correct(business, month, through, accounts))


def _notes(documents: pl.DataFrame, lines: pl.DataFrame, keys: list[str], business: Business) -> list[dict[str, Any]]:
    """Notes with their lines, as plain values."""
    entries = lines.group_by(keys, maintain_order=True).agg(lines=pl.struct("description", "amount"))
    columns = ["number", "kind", "account_id", "subscription_id", "billing_date", "corrects", "currency"]
    amounts = ["net", "tax", "total"]
    found = documents.join(entries, on=keys, how="left", maintain_order="left").select(*columns, *amounts, "lines")
    found = found.with_columns(shown_subscription_id())
    return plain_rows(found, decimals_of(business, found))


def _check_accounts(business: Business, accounts: Sequence[str]) -> None:
    unknown = sorted(account for account in set(accounts) if not business.knows(account))
    if unknown:
        raise RefusedError(f"unknown account: found {unknown[0]!r}, expected an account_id of the accounts file")


@contextmanager
def _locked_and_ingested(business: Business, *, draft: bool, say: Say) -> Iterator[Jobs]:
    """Hold the lock with everything new ingested; refuse issuing with an as-of day before the last one (rule 19)."""
    if runs_backwards(business, draft=draft):
        latest = business.register.latest_issued_on()
        raise RefusedError(
            f"nothing can be issued as of {business.as_of}: documents were issued as of {latest}; expected --as-of "
            f"{latest} or later, or --draft"
        )
    home = business.home
    is_submitted = is_on_cluster()
    with Turn(business) as turn:
        begin(business, draft=draft)
        warn(business, say)
        resource = BillingHome(
            folder=name_of(home.root),
            as_of=business.as_of.isoformat(),
            draft=not business.issues,
            in_order=True,
            # The command has already checked the accounts, or was expected to accept.
            accept_missing_accounts=True,
        )
        preload(resource, business)
        with marked(home), _jobs(home, resource, say, turn, is_submitted=is_submitted) as jobs:
            _ingest(business, jobs)
            yield jobs


def has_own_instance() -> bool:
    """Whether the user has set an instance of Dagster, which then executes the jobs: its records may be on a server."""
    return dagster_home() is not None


@contextmanager
def _jobs(home: Home, resource: BillingHome, say: Say, turn: Turn, *, is_submitted: bool) -> Iterator[Jobs]:
    """The jobs of a command: executed by itself; by Dagster on a cluster, or with an instance that the user has set."""
    if not (is_submitted or has_own_instance()):
        bring_up_to_date(home, say)
        yield Jobs(resource, say, instance_folder(home) / FOLDER)
        return
    # Imported late: Dagster takes a second to load.
    with loading():
        from pipeline.dagster_jobs import jobs_by_dagster
        from pipeline.instance import use_instance_of

    records = use_instance_of(home, say)
    with jobs_by_dagster(records, say, turn, is_submitted=is_submitted) as dagster:
        yield Jobs(resource, say, dagster=dagster)


def _finish(business: Business, months: Sequence[str], jobs: Jobs) -> None:
    """Update profiles, balances and the rejects of all inputs except usage."""
    built_from = profiles_digest(business)
    if built_from != profiles_built_from(business.home.root):
        jobs.execute("profiles")
    remember(business, months, built_from)


def _send_mails(business: Business, months: Sequence[str], jobs: Jobs) -> None:
    """Send what was issued to be sent and is not sent yet: the runs of stale months have sent theirs."""
    if business.catalogue.policy.send != AFTER_ISSUE:
        return
    for month in months:
        if count_to_send(business, month, clock.now()):
            jobs.sending().execute("send_mails", partition=month)


def check_month(business: Business, month: str) -> None:
    """Refuse an unknown billing month."""
    business.refuse_unknown_month(month)
    reach = _reach(business)
    first, last = reach.first_month, reach.last_month
    if not first <= month <= last:
        raise RefusedError(f"unknown month: found {month}, expected a month of the calendar, {first} to {last}")


def _reach(business: Business) -> Reach:
    catalogue = business.catalogue
    return reach_of(business.home.root, catalogue.policy.billing_start, str(catalogue.zone), months_ahead())


def _ingest(business: Business, jobs: Jobs) -> None:
    days = days_to_ingest(business)
    if not days:
        return
    jobs.say(f"ingesting deliveries of {days[0]}" + (f" to {days[-1]}" if days[-1] > days[0] else ""))
    reach = _reach(business)
    known = [day for day in days if reach.first_day <= day <= reach.last_day]
    if not known:
        # Days outside the partitions: do the same work without a run.
        for warning in ingest(business).warnings:
            jobs.say(f"warning: {warning}")
        return
    bounds = {
        RANGE_START: known[0].isoformat(),
        RANGE_END: known[-1].isoformat(),
    }
    jobs.execute("ingest", tags=bounds)


def _bill_month(business: Business, month: str, jobs: Jobs) -> list[str]:
    """Run the jobs of a stale month; returns what could not be done, in words."""
    # A missing PDF does not make a month stale; draw it again.
    gone = len(documents_to_render(business, month))
    if not moved_inputs(business, month) and not gone:
        jobs.say(f"{month}: nothing moved")
        return []
    before, payments = business.register.count(month), business.payments
    jobs.execute("billing_month", partition=month)
    if not business.payments.equals(payments):
        # Payments of the new documents may suspend access in this same month: run it again.
        jobs.execute("billing_month", partition=month)
    issued = business.register.count(month) - before
    drafts = _draft_count(business, month)
    parts = [f"{issued} issued" if issued else "nothing to issue", *([counted(drafts, "draft")] if drafts else [])]
    if gone:
        parts.append(f"{counted(gone, 'PDF')} drawn again")
    jobs.say(f"{month}: {', '.join(parts)}")
    return without_pdf(business, month)


def _say_what_to_review(business: Business, month: str, say: Say) -> None:
    """Print what to review in a month with billing dates to issue, and the command that issues exactly that."""
    through, closed = business.closes_through(month), business.register.closed_through(month)
    if through < first_day(month) or (closed is not None and closed >= through):
        return
    review, home = review_of(business, month), business.home.root
    say(f"{month}: {counted(review.documents, 'draft')} to review, {in_currencies(review.totals)} in all:")
    say(f"  overage show drafts --month {month} --home {home}")
    say(f"  overage issue {month} --reviewed {review.identity} --home {home}    issues exactly these")


def _draft_count(business: Business, month: str) -> int:
    return read_month(business.home, DRAFTS, month, ["account_id"]).height


def _parked_by_requests(business: Business, month: str) -> pl.DataFrame:
    return business.parked.with_columns(billing_month=pl.lit(month)).select(PARKED.column_names)
