"""Mails by their attempts: what became of each, and which are tried again (rule 41)."""

from datetime import datetime, timedelta
from typing import Final

import polars as pl

from billing.model.codes import MailOutcome, MailStatus
from billing.model.columns import INSTANT

FIRST_WAIT: Final = timedelta(minutes=5)
_MOST_DOUBLINGS: Final = 8
_STATUS: Final = {
    MailOutcome.SENT: MailStatus.SENT,
    MailOutcome.REFUSED: MailStatus.FAILED,
    MailOutcome.DEFERRED: MailStatus.FAILED,
    MailOutcome.SKIPPED: MailStatus.SKIPPED,
    MailOutcome.UNKNOWN: MailStatus.UNKNOWN,
}


def mail_states(attempts: pl.DataFrame) -> pl.DataFrame:
    """What became of each mail, by its latest attempt.

    Parameters
    ----------
    attempts
        As `Register.mail_attempts`, sorted. One without an outcome was killed: the mail may have arrived.

    Returns
    -------
    polars.DataFrame
        mail_id, account_id, to, sent_at, status, attempts (without those that were skipped), message_id, error,
        next_attempt_at (of deferred mails: 5 minutes, then twice as long each time, up to a day), last (the number of
        the latest attempt), last_at (when it began); sorted by mail_id.
    """
    outcome = pl.col("outcome").fill_null(MailOutcome.UNKNOWN)
    was_deferred = outcome == MailOutcome.DEFERRED
    states = attempts.group_by("mail_id", maintain_order=True).agg(
        pl.col("account_id").last(),
        to=pl.col("recipient").last(),
        sent_at=pl.col("ended_at").filter(outcome == MailOutcome.SENT).last(),
        outcome=outcome.last(),
        may_have_arrived=outcome.is_in([MailOutcome.SENT, MailOutcome.UNKNOWN]).any(),
        attempts=(outcome != MailOutcome.SKIPPED).sum().cast(pl.Int64),
        message_id=pl.col("message_id").last(),
        error=pl.col("error").last(),
        ended_at=pl.col("ended_at").last(),
        last=pl.col("attempt").last(),
        last_at=pl.col("started_at").last(),
        doublings=(was_deferred.sum() - 1).clip(0, _MOST_DOUBLINGS).cast(pl.Int64),
        was_recorded=pl.col("outcome").last().is_not_null(),
    )
    wait = pl.duration(seconds=pl.lit(2, pl.Int64).pow("doublings") * int(FIRST_WAIT.total_seconds()))
    killed = pl.lit("the run was killed while it was sending: look whether the mail arrived")
    return states.with_columns(
        # Skipped after it was sent, or may have been: it is not sent by itself.
        status=pl.when(pl.col("may_have_arrived") & (pl.col("outcome") == MailOutcome.SKIPPED))
        .then(pl.when(pl.col("sent_at").is_null()).then(pl.lit(MailStatus.UNKNOWN)).otherwise(pl.lit(MailStatus.SENT)))
        .otherwise(pl.col("outcome").replace_strict(_STATUS, return_dtype=pl.String)),
        error=pl.when("was_recorded").then("error").otherwise(killed),
        next_attempt_at=pl.when(pl.col("outcome") == MailOutcome.DEFERRED)
        .then((pl.col("ended_at") + wait).cast(INSTANT))
        .cast(INSTANT),
    ).drop("outcome", "ended_at", "doublings", "was_recorded", "may_have_arrived")


def may_be_sent(now: datetime, *, again: bool) -> pl.Expr:
    """Of mails joined with their states: whether a run at `now` sends them.

    Those that were never tried, that were skipped, and that were deferred and have waited; with `again` all.
    """
    if again:
        return pl.lit(value=True)
    waited = pl.col("next_attempt_at") <= pl.lit(now, INSTANT)
    return pl.col("status").is_null() | (pl.col("status") == MailStatus.SKIPPED) | waited.fill_null(value=False)
