"""Reminders of overdue documents: which are due, their PDFs and mails, and the table REMINDERS (rule 41)."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import polars as pl

from billing.mailing.message import Attachment
from billing.mailing.smtp import MailServer
from billing.model.account_tables import REMINDERS
from billing.model.codes import MailKind, MailStatus
from billing.model.columns import MONEY
from billing.model.money import minor_units
from billing.month.business import Business
from billing.register.sent_mails import MadeReminder
from billing.rendering.errors import ContentError, RenderingError
from billing.rendering.letters import amount_text, reminder_mail, reminder_pdf
from billing.rendering.mails import MailText
from billing.reports.letter_parties import customers_of, logo_of, own_words, seller_of
from billing.reports.mail_delivery import Sending, SkippedError, Wanted, send_mails, sender_of
from billing.reports.profile_pages import page_name
from billing.rules.mail_attempts import mail_states, may_be_sent
from billing.rules.prepaid_credits import is_prepayment
from billing.rules.receivables import shown_number
from billing.rules.reminders import overdue_documents, reminders_due, still_open
from billing.store.files import write_bytes
from billing.store.frames import write_frame
from billing.store.home import Home

_PLAN: Final = ("account_id", "level", "oldest_document", "documents", "currency", "amount", "fee")


def reminders(business: Business) -> pl.DataFrame:
    """The table REMINDERS, from the register."""
    made = business.register.reminders().drop("content")
    states = mail_states(business.register.mail_attempts(MailKind.REMINDER)).drop("account_id")
    rows = made.join(states, left_on="reminder_id", right_on="mail_id", how="left", maintain_order="left")
    files = [
        reminder_file(business.home, account, day).relative_to(business.home.root).as_posix()
        for account, day in made.select("account_id", "reminded_on").iter_rows()
    ]
    documents = pl.col("documents").str.json_decode(pl.List(pl.String))
    return REMINDERS.conform(
        rows.with_columns(
            shown_number("oldest_document"),
            pl.Series("file", files, pl.String),
            documents=documents,
            attempts=pl.col("attempts").fill_null(0),
            on="reminded_on",
        )
    )


def reminder_file(home: Home, account_id: str, day: Any) -> Path:
    """The PDF of an account's reminder of a day: `documents/reminders/<month>/a-<escaped account_id>-<day>.pdf`."""
    # As if another id differed in capital letters only: the name never depends on other accounts.
    name = page_name(account_id, is_alike=account_id != account_id.lower()).removesuffix(".html")
    return home.documents / "reminders" / f"{day:%Y-%m}" / f"{name}-{day:%Y-%m-%d}.pdf"


def planned_reminders(business: Business) -> pl.DataFrame:
    """The reminders that are due as of the business's day: account_id, level, oldest_document, documents, currency,
    amount, fee (MONEY); sorted."""
    levels = business.catalogue.policy.reminders
    overdue = _overdue(business)
    due = reminders_due(
        overdue,
        accounts=business.inputs.accounts.select("account_id", "dunning"),
        levels=levels,
        reminded=business.register.reminders().select("account_id", "oldest_document", "level"),
    )
    # A fee that is not in the currency is left out (rule 36).
    fees = [
        (code, number, level.fee)
        for code in due["currency"].unique().sort()
        for number, level in enumerate(business.catalogue.in_currency(code).policy.reminders, 1)
    ]
    of_levels = pl.DataFrame(
        fees, schema={"currency": pl.String, "level": due.schema["level"], "fee": MONEY}, orient="row"
    )
    priced = due.join(of_levels, on=["currency", "level"], how="left", maintain_order="left")
    return priced.with_columns(pl.col("fee").fill_null(0).cast(MONEY)).select(_PLAN)


def _overdue(business: Business) -> pl.DataFrame:
    receivables = business.receivables
    # The credits of a prepayment cannot be used before it is paid.
    kept_back = receivables.filter(is_prepayment())["number"]
    overdue = overdue_documents(receivables, business.payments, business.as_of)
    return overdue.filter(~pl.col("number").is_in(kept_back.implode()))


def remind(business: Business, server: MailServer, now: Callable[[], datetime]) -> tuple[pl.DataFrame, Sending]:
    """Make the reminders that are due, and send them and those whose sending failed and has waited.

    The caller holds the lock. A reminder and its fee are recorded before its mail is sent. One whose documents were
    paid since is not sent any more.

    Returns
    -------
    tuple
        The reminders made now, as `planned_reminders`, and what was sent.

    Raises
    ------
    RefusedError, InterruptedRunError
        As `send_documents`.
    """
    sender = sender_of(business.catalogue)
    planned = planned_reminders(business)
    _record(business, planned)
    waiting = _to_send(business, now())
    contents = dict(waiting.select("reminder_id", "content").iter_rows())
    days = dict(waiting.select("reminder_id", "reminded_on").iter_rows())
    customers = customers_of(business, waiting["account_id"])

    def compose(wanted: Wanted) -> tuple[MailText, list[Attachment]]:
        path = reminder_file(business.home, wanted.account_id, days[wanted.mail_id])
        return _composed(business, path, contents[wanted.mail_id])

    wanted = (
        Wanted(
            reminder_id,
            f"reminder {reminder_id}",
            MailKind.REMINDER,
            account_id,
            customers[account_id]["to"],
            last or 0,
            error or "" if status == MailStatus.SKIPPED else "",
        )
        for reminder_id, account_id, status, error, last in waiting.select(
            "reminder_id", "account_id", "status", "error", "last"
        ).iter_rows()
    )
    try:
        sending = send_mails(wanted, compose, register=business.register, server=server, sender=sender, now=now)
    finally:
        write_frame(business.home.whole(REMINDERS), reminders(business), REMINDERS)
    return planned, sending


def _to_send(business: Business, now: datetime) -> pl.DataFrame:
    """The latest reminder of each account, if a run sends it now: all that it names is still overdue as it says."""
    states = mail_states(business.register.mail_attempts(MailKind.REMINDER)).drop("account_id")
    open_now = _overdue(business).select("account_id", shown_number("number").alias("document"), "open")
    wanted = business.inputs.accounts.filter(pl.col("dunning").fill_null(value=True)).select("account_id")
    return (
        business.register.reminders()
        .filter(pl.col("reminded_on") <= business.as_of)
        .group_by("account_id", maintain_order=True)
        .last()
        .join(still_open(business.register.reminders(), open_now), on="reminder_id", how="semi", maintain_order="left")
        .join(wanted, on="account_id", how="semi", maintain_order="left")
        .join(states, left_on="reminder_id", right_on="mail_id", how="left", maintain_order="left")
        .filter(may_be_sent(now, again=False))
        .sort("account_id")
    )


def _record(business: Business, planned: pl.DataFrame) -> None:
    """Record reminders with what they say."""
    if planned.is_empty():
        return
    overdue = _overdue(business).with_columns(shown=shown_number("number"))
    customers, seller = customers_of(business, planned["account_id"]), seller_of(business.catalogue)
    by_account = overdue.partition_by("account_id", "currency", as_dict=True)
    for row in planned.iter_rows(named=True):
        account, documents = row["account_id"], by_account[(row["account_id"], row["currency"])]
        content = _content(business, row, documents, customers[account], seller)
        business.register.record_reminder(
            MadeReminder(
                f"{account}/{business.as_of}",
                account,
                business.as_of,
                row["level"],
                row["oldest_document"],
                json.dumps(documents["shown"].to_list(), ensure_ascii=False),
                row["currency"],
                int(row["amount"] * 10_000),
                json.dumps(content, ensure_ascii=False),
                int(row["fee"] * 10_000),
            )
        )


def _content(
    business: Business,
    row: Mapping[str, Any],
    documents: pl.DataFrame,
    customer: Mapping[str, Any],
    seller: Mapping[str, Any],
) -> dict[str, Any]:
    """What a reminder says, as its page and its mail are made from it."""
    places, levels = minor_units(row["currency"]) or 0, business.catalogue.policy.reminders
    level = levels[row["level"] - 1]
    return {
        "language": customer["language"],
        "locale": customer["locale"],
        "currency": row["currency"],
        "minor_units": places,
        "seller": seller,
        "customer": customer["customer"],
        "on": business.as_of.isoformat(),
        "title": "final" if level.is_final else "first" if row["level"] == 1 else "further",
        "amount": amount_text(row["amount"], places),
        # It is recorded, and asked for by the document that bills it.
        "fee": amount_text(Decimal(0), places),
        "documents": [
            {
                "number": number,
                "issued_on": issued_on.isoformat(),
                "due_on": due_on.isoformat(),
                "days": str(days),
                "open": amount_text(amount, places),
            }
            for number, issued_on, due_on, days, amount in documents.select(
                "shown", "issued_on", "due_on", "days", "open"
            ).iter_rows()
        ],
    }


def _composed(business: Business, path: Path, content: str) -> tuple[MailText, list[Attachment]]:
    own = own_words(business.catalogue, json.loads(content)["language"])
    try:
        pdf = reminder_pdf(content, own, logo_of(business.catalogue))
        write_bytes(path, pdf)
        return reminder_mail(content, own), [Attachment(path.name, pdf, "pdf")]
    except (ContentError, RenderingError) as error:
        raise SkippedError(f"its page cannot be drawn ({error})") from error
