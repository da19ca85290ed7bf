"""Mails of documents and reminders, attempt by attempt, and the reminders that were made (rule 41).

Append-only: an attempt is recorded before the mail is sent, its outcome after.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import polars as pl
import sqlalchemy as sa

from billing.model.buckets import in_buckets
from billing.model.codes import MailKind, MailOutcome
from billing.model.columns import INSTANT
from billing.register import schema as stored
from billing.register.connection import Connection
from billing.register.remembered import remembered
from billing.register.rows import from_integers

ATTEMPT_SCHEMA: Final[dict[str, Any]] = {
    "mail_id": pl.String,
    "attempt": pl.Int64,
    "account_id": pl.String,
    "recipient": pl.String,
    "message_id": pl.String,
    "started_at": INSTANT,
    "outcome": pl.String,
    "ended_at": INSTANT,
    "error": pl.String,
}
"""An attempt to send a mail; outcome, ended_at and error are null where none was recorded."""

_INSTANT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
_PARSED: Final = "%Y-%m-%dT%H:%M:%S%.fZ"


@dataclass(frozen=True)
class Attempt:
    """An attempt to send a mail.

    Attributes
    ----------
    mail_id
        The number of a document, or the reminder_id.
    attempt
        From 1; nobody else records the same one.
    started_at
        In UTC.
    """

    mail_id: str
    attempt: int
    kind: MailKind
    account_id: str
    recipient: str | None
    message_id: str
    started_at: datetime


@dataclass(frozen=True)
class MadeReminder:
    """A reminder: what it says is `content`, as JSON. Amounts are in ten-thousandths of the currency."""

    reminder_id: str
    account_id: str
    reminded_on: date
    level: int
    oldest_document: str
    documents: str
    currency: str
    amount: int
    content: str
    fee: int = 0


class SentMails(Connection):
    """Attempts to send mails, and reminders."""

    def mail_attempts(self, kind: MailKind) -> pl.DataFrame:
        """All attempts of a kind of mail: ATTEMPT_SCHEMA, sorted by mail and attempt."""
        made, ended = stored.mail_attempts.c, stored.mail_outcomes.c
        query = (
            sa.select(
                *(made[name] for name in ("mail_id", "attempt", "account_id", "recipient", "message_id", "started_at")),
                *(ended[name] for name in ("outcome", "ended_at", "error")),
            )
            .select_from(
                stored.mail_attempts.outerjoin(
                    stored.mail_outcomes, (ended.mail_id == made.mail_id) & (ended.attempt == made.attempt)
                )
            )
            .where(made.kind == kind)
            .order_by(made.mail_id, made.attempt)
        )
        texts = {name: pl.String if dtype == INSTANT else dtype for name, dtype in ATTEMPT_SCHEMA.items()}
        return in_buckets(self._frame(query, texts), self._buckets).with_columns(
            pl.col("started_at", "ended_at").str.to_datetime(_PARSED, time_unit="ns", time_zone="UTC")
        )

    def begin_attempt(self, attempt: Attempt) -> bool:
        """Record that a mail is about to be sent; False where another run has begun the same attempt."""
        return self._record_attempt(attempt, None, "")

    def record_unsent(self, attempt: Attempt, outcome: MailOutcome, error: str) -> bool:
        """Record an attempt that ended before anything was sent; False as `begin_attempt`."""
        return self._record_attempt(attempt, outcome, error)

    def _record_attempt(self, attempt: Attempt, outcome: MailOutcome | None, error: str) -> bool:
        row = {
            "mail_id": attempt.mail_id,
            "attempt": attempt.attempt,
            "kind": attempt.kind,
            "account_id": attempt.account_id,
            "recipient": attempt.recipient,
            "message_id": attempt.message_id,
            "started_at": attempt.started_at.strftime(_INSTANT),
        }
        try:
            with self._made.begin() as connection:
                connection.execute(sa.insert(stored.mail_attempts).values(row))
                if outcome is not None:
                    self._insert_outcome(connection, attempt, outcome, attempt.started_at, error)
        except sa.exc.IntegrityError:
            return False
        return True

    def end_attempt(self, attempt: Attempt, outcome: MailOutcome, ended_at: datetime, error: str = "") -> None:
        """Record how an attempt ended."""
        with self._made.begin() as connection:
            self._insert_outcome(connection, attempt, outcome, ended_at, error)

    def _insert_outcome(
        self, connection: sa.Connection, attempt: Attempt, outcome: MailOutcome, ended_at: datetime, error: str
    ) -> None:
        connection.execute(
            sa.insert(stored.mail_outcomes).values(
                mail_id=attempt.mail_id,
                attempt=attempt.attempt,
                outcome=outcome,
                ended_at=ended_at.strftime(_INSTANT),
                error=error or None,
            )
        )

    def numbers_to_send(self) -> pl.Series:
        """The numbers of documents that were issued to be sent."""
        return self._frame(sa.select(stored.mails_to_send.c.number), {"number": pl.String})["number"]

    def reminders(self) -> pl.DataFrame:
        """The reminders that were made, sorted by day and account.

        Returns
        -------
        polars.DataFrame
            reminder_id, account_id, reminded_on, level, oldest_document, documents (a JSON list of numbers), currency,
            amount, fee (MONEY, 0 for none), content.
        """
        made, fee = stored.reminders, stored.reminder_fees
        names = ("reminder_id", "account_id", "reminded_on", "level", "oldest_document", "documents", "currency")
        query = (
            sa.select(
                *(made.c[name] for name in names),
                made.c.amount,
                sa.func.coalesce(fee.c.amount, 0),
                made.c.content,
            )
            .select_from(made.outerjoin(fee, fee.c.reminder_id == made.c.reminder_id))
            .order_by(made.c.reminded_on, made.c.account_id)
        )
        schema: dict[str, Any] = dict.fromkeys(names, pl.String) | {"reminded_on": pl.Date, "level": pl.Int64}
        schema |= {"amount": pl.Int64, "fee": pl.Int64, "content": pl.String}
        return in_buckets(self._frame(query, schema), self._buckets).with_columns(from_integers("amount", "fee"))

    @remembered
    def reminder_fees(self) -> pl.DataFrame:
        """reminder_id, account_id, currency, amount (MONEY), charged_on: what reminders cost; sorted by day."""
        schema = {
            "reminder_id": pl.String,
            "account_id": pl.String,
            "currency": pl.String,
            "amount": pl.Int64,
            "charged_on": pl.Date,
        }
        table = stored.reminder_fees.c
        query = sa.select(*(table[name] for name in schema)).order_by(table.charged_on, table.reminder_id)
        return in_buckets(self._frame(query, schema), self._buckets).with_columns(from_integers("amount"))

    def record_reminder(self, made: MadeReminder) -> bool:
        """Record a reminder and its fee, together; False where another run has made it."""
        row = {name: value for name, value in vars(made).items() if name != "fee"}
        try:
            with self._made.begin() as connection:
                connection.execute(sa.insert(stored.reminders).values(row))
                if made.fee:
                    connection.execute(
                        sa.insert(stored.reminder_fees).values(
                            reminder_id=made.reminder_id,
                            account_id=made.account_id,
                            currency=made.currency,
                            amount=made.fee,
                            charged_on=made.reminded_on,
                        )
                    )
        except sa.exc.IntegrityError:
            return False
        return True
