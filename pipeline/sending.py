"""Commands for customers: documents and reminders by mail, and statements."""

import json
import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assets.environment import smtp_url
from billing.model.errors import RefusedError
from billing.model.text import counted
from pipeline.exit_status import DONE, PARTLY, exit_status
from pipeline.options import Day, as_of_option, home_option
from pipeline.output import csv_text, print_rows, say

if TYPE_CHECKING:
    from billing.month.business import Business


@click.command("send")
@click.argument("month")
@click.option("--account", "accounts", multiple=True, metavar="ACCOUNT", help="Only this account; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent to whom; send nothing.")
@click.option("--again", is_flag=True, help="Send also what was sent, what failed for good, and what is unknown.")
@home_option
@exit_status
def send(month: str, accounts: tuple[str, ...], *, dry_run: bool, again: bool, home: Path) -> int:
    """Send the issued documents of a month by mail, each once.

    Goes through $OVERAGE_SMTP_URL. A mail whose run was killed while it was sending is unknown, and not sent again
    without --again. Exit status 1 if a mail failed or is unknown.
    """
    from assets.clock import now
    from billing.mailing.smtp import read_mail_server
    from billing.model.codes import MailStatus
    from billing.reports.mail_delivery import sender_of
    from billing.reports.sending import mails_of_month, mails_with_attempts, send_documents
    from pipeline.run_state import load

    business = load(home, date.max, issues=False)
    business.refuse_unknown_month(month)
    refuse_unknown_accounts(business, accounts)
    sender_of(business.catalogue)
    if dry_run:
        rows = mails_of_month(business, month, now(), accounts=accounts, again=again).select(
            "number", "account_id", "to"
        )
        print_rows(rows.to_dicts(), rows.columns, "table")
        return DONE
    server = read_mail_server(smtp_url())
    with business.alone():
        documents = business.register.documents([month])
        if documents.is_empty():
            say(f"{month}: no document was issued, there is nothing to send")
            return DONE
        planned = mails_of_month(business, month, now(), accounts=accounts, again=again)
        sending = send_documents(business, planned, server, now)
        others = (
            mails_with_attempts(business)
            .join(documents, on="number", how="semi")
            .join(planned, on="number", how="anti")
        )
    for problem in sending.problems:
        say(problem)
    wanted = others if not accounts else others.filter(others["account_id"].is_in(list(accounts)))
    statuses = wanted["status"].to_list()
    unknown, failed = statuses.count(MailStatus.UNKNOWN), statuses.count(MailStatus.FAILED)
    if unknown:
        say(
            f"{counted(unknown, 'mail')} of an earlier run unknown: look whether they arrived; --again sends them again"
        )
    if failed:
        say(
            f"{counted(failed, 'mail')} that failed before not tried: overage show mails says why, and when one is "
            "tried again"
        )
    say(sending.in_words())
    return PARTLY if sending.is_partial or unknown or failed else DONE


@click.command("remind")
@as_of_option
@click.option("--dry-run", is_flag=True, help="Show who would be reminded of what; record and send nothing.")
@home_option
@exit_status
def remind(as_of: date | None, *, dry_run: bool, home: Path) -> int:
    """Remind accounts of their overdue documents, by the levels of `policy.reminders`.

    One reminder an account, of all that is overdue; each level once. Sends them through $OVERAGE_SMTP_URL.
    """
    from assets.clock import now, today
    from billing.mailing.smtp import read_mail_server
    from billing.model.plain_rows import plain_rows
    from billing.reports.mail_delivery import sender_of
    from billing.reports.reminders import planned_reminders
    from billing.reports.reminders import remind as send_reminders
    from billing.reports.row_decimals import decimals_of
    from billing.rules.receivables import shown_number
    from pipeline.run_state import load

    business = load(home, as_of or today(home), issues=False)
    if not business.catalogue.policy.reminders:
        say("the policy has no reminders: nobody is reminded")
        return DONE
    sender_of(business.catalogue)
    if dry_run:
        rows = planned_reminders(business).with_columns(shown_number("oldest_document")).drop("documents")
        print_rows(plain_rows(rows, decimals_of(business, rows)), rows.columns, "table")
        return DONE
    server = read_mail_server(smtp_url())
    with business.alone():
        planned, sending = send_reminders(business, server, now)
    for problem in sending.problems:
        say(problem)
    say(f"{counted(planned.height, 'reminder')} made, {sending.in_words()}")
    return PARTLY if sending.is_partial else DONE


@click.command("statement")
@click.argument("account")
@click.option("--from", "since", type=Day(), help="First day; else that of the first movement.")
@click.option("--to", "until", type=Day(), help="Last day; else that of the last run.")
@click.option("--format", "style", type=click.Choice(["pdf", "csv", "json", "table"]), default="pdf", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write; else standard output.")
@home_option
@exit_status
def statement(
    account: str, *, since: date | None, until: date | None, style: str, out: Path | None, home: Path
) -> None:
    """Print the statement of an account: opening balance, every movement, closing balance, and what is open by age.

    As PDF it is in the language of the account.
    """
    from assets.clock import today
    from billing.month.recorded_inputs.runs import last_as_of
    from billing.reports.statements import statement as statement_of
    from billing.reports.statements import statement_page
    from billing.rules.statements import MOVEMENTS
    from pipeline.run_state import load

    day = until or last_as_of(home) or today(home)
    business = load(home, day, issues=False)
    found = statement_of(business, account, since, day)
    if style == "pdf":
        _write(statement_page(business, found), out)
    elif style == "json":
        _write(f"{json.dumps(found, ensure_ascii=False, indent=1)}\n".encode(), out)
    elif style == "csv":
        _write(csv_text(found["movements"], MOVEMENTS).encode(), out)
    else:
        print_rows(found["movements"], list(MOVEMENTS), "table")
        span = f"{found['from']} to {found['to']}, {found['currency']}"
        say(f"{span}: opening {found['opening']}, closing {found['closing']}")
        say("open by age: " + ", ".join(f"{age} {amount}" for age, amount in found["aging"].items()))


def _write(content: bytes, out: Path | None) -> None:
    if out is not None:
        out.write_bytes(content)
        say(str(out))
        return
    if content.startswith(b"%PDF") and sys.stdout.isatty():
        raise RefusedError("a PDF is not for a terminal: expected --out FILE, or --format table")
    click.echo(content, nl=False)


def refuse_unknown_accounts(business: "Business", accounts: Sequence[str]) -> None:
    """Refuse an account that is not in the accounts file and was never billed."""
    unknown = sorted(account for account in set(accounts) if not business.knows(account))
    if unknown:
        raise RefusedError(f"unknown account: found {unknown[0]!r}, expected an account_id of the accounts file")


def refuse_to_send_without_server(business: "Business") -> None:
    """Under the policy `send: after_issue`, refuse a run that could send nothing, before it issues anything."""
    from billing.model.catalogue import AFTER_ISSUE

    if business.catalogue.policy.send == AFTER_ISSUE:
        from billing.mailing.smtp import read_mail_server
        from billing.reports.mail_delivery import sender_of

        read_mail_server(smtp_url())
        sender_of(business.catalogue)


def say_what_was_sent(business: "Business", start: datetime) -> list[str]:
    """Say how many mails a run sent; returns the problems that are left, in words."""
    from assets.clock import now
    from billing.model.catalogue import AFTER_ISSUE

    if business.catalogue.policy.send != AFTER_ISSUE:
        return []
    from billing.reports.sending import sent_since

    sending = sent_since(business, start, now())
    if not sending.is_partial:
        for problem in sending.problems:
            say(problem)
    say(sending.in_words())
    left = [f"{counted(sending.waiting, 'mail')} not sent yet: the next run sends them"] if sending.waiting else []
    return [*sending.problems, *left] if sending.is_partial else []
