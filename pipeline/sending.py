"""Commands that send: documents by mail, and reminders of overdue ones."""

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assets.environment import smtp_url
from billing.model.errors import RefusedError
from billing.model.text import counted
from pipeline.exit_status import DONE, PARTLY, exit_status
from pipeline.options import home_option
from pipeline.output import print_rows, say

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
    from billing.model.catalogue import AFTER_ISSUE

    if business.catalogue.policy.send != AFTER_ISSUE:
        return []
    from billing.reports.sending import sent_since

    sending = sent_since(business, start)
    if not sending.is_partial:
        for problem in sending.problems:
            say(problem)
    say(sending.in_words())
    return sending.problems if sending.is_partial else []
