"""What became of mails, and which are tried again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from billing.model.codes import MailOutcome
from billing.rules.mail_attempts import mail_states, may_be_sent

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
INSTANT = pl.Datetime("us", "UTC")
ATTEMPT: dict[str, Any] = {"mail_id": pl.String, "attempt": pl.Int64, "account_id": pl.String, "recipient": pl.String}
ATTEMPT |= {"message_id": pl.String, "started_at": INSTANT, "outcome": pl.String, "ended_at": INSTANT}
ATTEMPT |= {"error": pl.String}


def state(*outcomes: MailOutcome | None) -> tuple[str, bool]:
    """Status after attempts a day before NOW, and whether a run at NOW sends the mail by itself."""
    at = NOW - timedelta(days=1)
    rows = [
        ("INV-1", place, "acme", "a@example.com", "<id>", at, outcome and outcome.value, at, None)
        for place, outcome in enumerate(outcomes, start=1)
    ]
    states = mail_states(pl.DataFrame(rows, schema=ATTEMPT, orient="row"))
    found: tuple[str, bool] = states.select("status", sent=may_be_sent(NOW, again=False)).row(0)
    return found


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([MailOutcome.SENT], ("sent", False)),
        ([None], ("unknown", False)),
        ([MailOutcome.REFUSED], ("failed", False)),
        ([MailOutcome.DEFERRED], ("failed", True)),
        ([MailOutcome.SKIPPED], ("skipped", True)),
        ([MailOutcome.SKIPPED, MailOutcome.SENT], ("sent", False)),
        # Sent with --again but skipped: do not send it again by itself.
        ([MailOutcome.SENT, MailOutcome.SKIPPED], ("sent", False)),
        ([MailOutcome.UNKNOWN, MailOutcome.SKIPPED], ("unknown", False)),
        ([None, MailOutcome.SKIPPED], ("unknown", False)),
        ([MailOutcome.DEFERRED, MailOutcome.SKIPPED], ("skipped", True)),
    ],
)
def test_a_mail_that_may_have_arrived_is_not_sent_again_by_itself(
    outcomes: list[MailOutcome | None], expected: tuple[str, bool]
) -> None:
    assert state(*outcomes) == expected
