"""Send the mails of issued documents (rule 41), and the table MAILS."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl

from billing.einvoices import format_of
from billing.einvoices.formats import XML_FILES
from billing.mailing.message import Attachment
from billing.mailing.smtp import MailServer
from billing.model.account_tables import MAILS
from billing.model.codes import MailKind, MailStatus
from billing.model.columns import INSTANT
from billing.month.business import Business
from billing.rendering import RenderingError
from billing.rendering.errors import ContentError
from billing.rendering.files import resources_of
from billing.rendering.mails import MailText, document_mail
from billing.reports.mail_delivery import Sending, SkippedError, Wanted, send_mails, sender_of
from billing.rules.mail_attempts import mail_states, may_be_sent
from billing.store.frames import write_frame
from billing.store.home import Home
from billing.store.working_copy import working_copy

PLAN: Final = ("number", "account_id", "billing_month", "to", "status", "error", "last")
_BATCH: Final = 200
_WORDS: Final = {
    MailStatus.FAILED: "was not sent",
    MailStatus.SKIPPED: "was skipped",
    MailStatus.UNKNOWN: "may or may not have been sent",
}


def mails(business: Business) -> pl.DataFrame:
    """The table MAILS, from the register."""
    months = business.register.documents().select("number", "billing_month")
    return MAILS.conform(mails_with_attempts(business).join(months, on="number", how="left"))


def mails_with_attempts(business: Business) -> pl.DataFrame:
    """As `mail_states`, of documents: mail_id is their number."""
    return mail_states(business.register.mail_attempts(MailKind.DOCUMENT)).rename({"mail_id": "number"})


def write_mails(business: Business) -> None:
    """Write the table MAILS into the lake: a copy of the register, for readers of the lake."""
    write_frame(business.home.whole(MAILS), mails(business), MAILS)


def mails_of_month(
    business: Business, month: str, now: datetime, *, accounts: Collection[str] = (), again: bool = False
) -> pl.DataFrame:
    """The documents of a month that `overage send` sends now: PLAN, sorted by number.

    Parameters
    ----------
    accounts
        Only these accounts, if any.
    again
        Those that were sent already, too, and those of which nobody knows.
    """
    documents = business.register.documents([month])
    if accounts:
        documents = documents.filter(pl.col("account_id").is_in(list(accounts)))
    return _planned(business, documents).filter(may_be_sent(now, again=again))


def mails_after_issue(business: Business, month: str, now: datetime) -> pl.DataFrame:
    """The documents that are sent after a month was issued: PLAN, sorted by number.

    Those of the month that were issued to be sent, and of any month those that were never tried, and those whose
    sending failed and has waited.
    """
    register = business.register
    numbers = register.numbers_to_send()
    if numbers.is_empty():
        return pl.DataFrame(schema=dict.fromkeys(PLAN, pl.String) | {"last": pl.Int64})
    documents = register.documents().join(numbers.to_frame(), on="number", how="semi", maintain_order="left")
    planned = _planned(business, documents).filter(may_be_sent(now, again=False))
    is_left = pl.col("status").is_null() | (pl.col("status") == MailStatus.FAILED)
    return planned.filter((pl.col("billing_month") == month) | is_left)


def count_to_send(business: Business, month: str, now: datetime) -> int:
    """How many mails `mails_after_issue` has, without those that were skipped before."""
    return mails_after_issue(business, month, now).filter(pl.col("status").ne_missing(MailStatus.SKIPPED)).height


def _planned(business: Business, documents: pl.DataFrame) -> pl.DataFrame:
    """PLAN and next_attempt_at of documents; status and what follows are null where nothing was tried."""
    accounts = business.inputs.accounts.select("account_id", to=pl.coalesce("invoice_email", "email"))
    states = mails_with_attempts(business).select("number", "status", "error", "last", "next_attempt_at")
    return (
        documents.select("number", "account_id", "billing_month")
        .join(accounts, on="account_id", how="left", maintain_order="left")
        .join(states, on="number", how="left", maintain_order="left")
        .sort("number")
    )


def send_documents(
    business: Business, planned: pl.DataFrame, server: MailServer, now: Callable[[], datetime]
) -> Sending:
    """Send documents, each once; the caller holds the lock. Writes the table MAILS.

    Parameters
    ----------
    planned
        PLAN: as `mails_of_month` or `mails_after_issue`.
    now
        The time, in UTC.

    Raises
    ------
    RefusedError
        When the catalogue names no sender.
    InterruptedRunError
        As `send_mails`.
    """
    sender = sender_of(business.catalogue)
    current: dict[str, str] = {}
    months = dict(planned.select("number", "billing_month").iter_rows())

    def compose(wanted: Wanted) -> tuple[MailText, list[Attachment]]:
        return composed(business.home, months[wanted.mail_id], wanted.mail_id, current[wanted.mail_id])

    try:
        return send_mails(
            _wanted(business, planned, current),
            compose,
            register=business.register,
            server=server,
            sender=sender,
            now=now,
        )
    finally:
        write_mails(business)


def _wanted(business: Business, planned: pl.DataFrame, current: dict[str, str]) -> Iterator[Wanted]:
    """The mails in order; `current` holds the contents of a batch of them."""
    for rows in planned.iter_slices(_BATCH):
        current.clear()
        current.update(business.register.contents(rows["number"].to_list()))
        _bring_files(business.home, rows)
        columns = rows.select("number", "account_id", "to", "status", "error", "last")
        for number, account_id, to, status, error, last in columns.iter_rows():
            skipped_for = error or "" if status == MailStatus.SKIPPED else ""
            yield Wanted(number, number, MailKind.DOCUMENT, account_id, to, last or 0, skipped_for)


def _bring_files(home: Home, rows: pl.DataFrame) -> None:
    """Of a home in a store: download what is attached; only names are here."""
    copy = working_copy(home.root)
    if copy is not None:
        files = [
            home.document_file(month, number) for number, month in rows.select("number", "billing_month").iter_rows()
        ]
        names = [path.relative_to(home.root).as_posix() for path in files]
        copy.fetch_documents([*names, *(f"{name.removesuffix('.pdf')}.xml" for name in names)])


def composed(home: Home, month: str, number: str, content: str) -> tuple[MailText, list[Attachment]]:
    """The words of a document's mail, and its files.

    Raises
    ------
    SkippedError
        When a file is not there yet, or the content cannot be written.
    """
    path = home.document_file(month, number)
    pdf = _bytes_of(path)
    if not pdf:
        raise SkippedError("its PDF is not drawn yet")
    fields: Mapping[str, object] = json.loads(content)
    try:
        said = document_mail(fields, _translation(fields, home))
    except (ContentError, RenderingError) as error:
        raise SkippedError(f"its mail cannot be written ({error})") from error
    attached = [Attachment(path.name, pdf, "pdf")]
    xml = home.invoice_file(month, number)
    if content_of_xml := _bytes_of(xml):
        attached.append(Attachment(xml.name, content_of_xml, "xml"))
    elif format_of(fields) in XML_FILES:
        raise SkippedError("its e-invoice is not written yet")
    return said, attached


def _translation(content: Mapping[str, object], home: Home) -> bytes | None:
    """The home's own catalogue that the document was issued with."""
    names = content.get("resources")
    name = names.get("translation") if isinstance(names, Mapping) else None
    return resources_of(content, home.resources).get(name) if isinstance(name, str) else None


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise SkippedError(f"{path.name} cannot be read ({error.strerror or error})") from error


def sent_since(business: Business, start: datetime, now: datetime) -> Sending:
    """What became of the mails that were tried since a time, and how many after issuing were never tried."""
    tried = mails_with_attempts(business).filter(pl.col("last_at") >= pl.lit(start, INSTANT))
    counts = dict(tried.group_by("status").len().iter_rows())
    problems = [
        f"{number} of account {account_id}: its mail {_WORDS[status]}: {error}"
        + ("" if status == MailStatus.SKIPPED else "" if next_at else "; only overage send --again tries again")
        for number, account_id, status, error, next_at in tried.filter(pl.col("status") != MailStatus.SENT)
        .select("number", "account_id", "status", "error", "next_attempt_at")
        .iter_rows()
    ]
    return Sending(
        sent=counts.get(MailStatus.SENT, 0),
        failed=counts.get(MailStatus.FAILED, 0),
        skipped=counts.get(MailStatus.SKIPPED, 0),
        unknown=counts.get(MailStatus.UNKNOWN, 0),
        waiting=mails_after_issue(business, "", now)["status"].null_count(),
        problems=problems,
    )
