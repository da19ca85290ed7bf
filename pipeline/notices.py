"""Notifications: a run failed, a month is ready. Counts and sums only, never a customer's row.

Environment variables:

OVERAGE_SMTP_URL
    `smtp://user:password@host:587` (STARTTLS) or `smtps://host:465`. A name and a password go over an encrypted
    connection only, unless the URL ends in `?insecure=1`.
OVERAGE_MAIL_FROM, OVERAGE_MAIL_TO
    Sender, and recipients separated by commas.
OVERAGE_WEBHOOK_URL
    Receives the notice as JSON by POST: id, subject, text, facts. Redirects are not followed.
OVERAGE_WEBHOOK_SECRET
    Signs webhook requests as in https://www.standardwebhooks.com: headers webhook-id, webhook-timestamp and
    webhook-signature (`v1,` and the HMAC-SHA256 of `id.timestamp.body` as base64). `whsec_` and base64, or any text.
OVERAGE_UI_URL
    Public address of the Dagster UI; default http://127.0.0.1:3000.
"""

import base64
import hashlib
import hmac
import json
import smtplib
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from urllib.parse import urlsplit

import dagster as dg

from billing.mailing.smtp import PlainConnectionError, connected, read_mail_server
from billing.model.calendar import first_day, months_after
from billing.model.errors import RefusedError
from billing.model.money import in_currencies, sums_by_currency
from billing.model.text import counted
from billing.month.business import Business
from billing.month.review import review_of

_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Notice:
    """A notification.

    Attributes
    ----------
    event
        Unique key of the event: each event is sent once.
    run_id
        The run to link to.
    """

    event: str
    subject: str
    facts: Mapping[str, str]
    run_id: str

    @property
    def id(self) -> str:
        """Idempotency key: the same for repeated notices of one event, so that receivers can deduplicate."""
        return hashlib.sha256(self.event.encode()).hexdigest()[:32]


def is_configured(environment: Mapping[str, str]) -> bool:
    """Whether any channel is configured."""
    return bool(environment.get("OVERAGE_SMTP_URL") or environment.get("OVERAGE_WEBHOOK_URL"))


def failure_notice(run: dg.DagsterRun, instance: dg.DagsterInstance) -> Notice:
    """Notice of a failed run: where it failed, without the error message, which may quote a customer's row."""
    events = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event]
    steps = sorted({event.step_key for event in events if event.is_step_failure and event.step_key})
    checks = sorted(
        {
            f"{each.asset_key.to_user_string()}: {each.check_name}"
            for event in events
            if event.event_type_value == "ASSET_CHECK_EVALUATION"
            and not (each := event.asset_check_evaluation_data).passed
        }
    )
    what = run.tags.get("dagster/partition") or run.tags.get("dagster/asset_partition_range_start") or ""
    facts = {
        "job": run.job_name,
        "for": what,
        "as of": run.tags.get("overage/as_of", ""),
        "failed steps": ", ".join(steps) or "none: the run itself broke",
        "checks that do not hold": ", ".join(checks),
    }
    subject = f"Billing run failed: {run.job_name} {what}".strip()
    return Notice(f"failed {run.run_id}", subject, {name: fact for name, fact in facts.items() if fact}, run.run_id)


def ready_notice(run: dg.DagsterRun, business: Business, month: str) -> Notice | None:
    """Notice that a month is complete, or its drafts ready to review; None while it has billing dates ahead."""
    last_day = first_day(months_after(month, 1)).toordinal() - 1
    closed = business.register.closed_through(month)
    if closed is not None and closed.toordinal() >= last_day:
        documents = business.register.documents([month])
        totals = sums_by_currency(documents, "total", business.catalogue.currency)
        facts = {"documents": f"{documents.height}", "total": in_currencies(totals)}
        return Notice(
            f"ready {month} {facts}", f"{month} is billed: {counted(documents.height, 'document')}", facts, run.run_id
        )
    if business.catalogue.policy.auto_issue:
        return None
    review = review_of(business.at(business.as_of, issues=False), month)
    if review.through.toordinal() < last_day:
        return None
    facts = {
        "drafts": f"{review.documents}",
        "total": in_currencies(review.totals),
        "issue exactly these": f"overage issue {month} --reviewed {review.identity}",
    }
    return Notice(
        f"review {review.identity}", f"{month}: {counted(review.documents, 'draft')} to review", facts, run.run_id
    )


def send(
    notice: Notice, instance: dg.DagsterInstance, environment: Mapping[str, str], warn: Callable[[str], None]
) -> None:
    """Send a notice on every configured channel, once per event; a failure to send is only a warning."""
    text = _text(notice, environment)
    for channel, setting, deliver in (
        ("mail", "OVERAGE_SMTP_URL", _send_mail),
        ("web hook", "OVERAGE_WEBHOOK_URL", _call_webhook),
    ):
        key = f"overage notice {channel} {notice.id}"
        if not environment.get(setting) or instance.daemon_cursor_storage.get_cursor_values({key}):
            continue
        try:
            deliver(notice, text, environment)
        except PlainConnectionError:
            warn(
                f"the {channel} about {notice.subject!r} was not sent: the server offers no encryption, and a password "
                "goes over none (?insecure=1 behind OVERAGE_SMTP_URL lets it)"
            )
            continue
        except (OSError, smtplib.SMTPException, ValueError, RefusedError) as error:
            # Log only the error type: the address may hold a password.
            warn(f"the {channel} about {notice.subject!r} could not be sent ({type(error).__name__})")
            continue
        # Record it after sending: at-least-once delivery.
        instance.daemon_cursor_storage.set_cursor_values({key: notice.subject})


def _text(notice: Notice, environment: Mapping[str, str]) -> str:
    address = (environment.get("OVERAGE_UI_URL") or "http://127.0.0.1:3000").rstrip("/")
    lines = [f"{name}: {fact}" for name, fact in notice.facts.items()]
    return "\n".join([notice.subject, "", *lines, "", f"{address}/runs/{notice.run_id}", ""])


def _send_mail(notice: Notice, text: str, environment: Mapping[str, str]) -> None:
    sender, recipients = environment.get("OVERAGE_MAIL_FROM", ""), environment.get("OVERAGE_MAIL_TO", "")
    if not sender or not recipients:
        raise ValueError("OVERAGE_MAIL_FROM and OVERAGE_MAIL_TO say from whom and to whom mail goes")
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = notice.subject, sender, recipients
    message["Message-ID"] = f"<{notice.id}@overage>"
    message.set_content(text)
    with connected(read_mail_server(environment["OVERAGE_SMTP_URL"]), _TIMEOUT_SECONDS) as server:
        server.send_message(message)


def _call_webhook(notice: Notice, text: str, environment: Mapping[str, str]) -> None:
    url = environment["OVERAGE_WEBHOOK_URL"]
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("OVERAGE_WEBHOOK_URL: expected http:// or https://")
    content = {"id": notice.id, "subject": notice.subject, "text": text, "facts": dict(notice.facts)}
    body = json.dumps(content).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": notice.id}
    if secret := environment.get("OVERAGE_WEBHOOK_SECRET"):
        headers |= signature(secret, notice.id, str(int(time.time())), body)
    request = urllib.request.Request(url, body, headers)  # noqa: S310  # The scheme was checked above.
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=_TIMEOUT_SECONDS):
        pass


def signature(secret: str, identity: str, timestamp: str, body: bytes) -> dict[str, str]:
    """Signature headers of a webhook: authenticate sender and time, so that a receiver can reject replays.

    Raises
    ------
    ValueError
        When the text after `whsec_` is not base64.
    """
    key = (
        base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        if secret.startswith("whsec_")
        else secret.encode()
    )
    signed = hmac.digest(key, b".".join((identity.encode(), timestamp.encode(), body)), "sha256")
    return {
        "webhook-id": identity,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Treats redirects as errors: a notice goes to its configured receiver only."""

    def redirect_request(self, *_: object) -> None:
        """Return None: follow no redirect."""
