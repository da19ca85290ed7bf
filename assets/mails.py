"""Assets for mails: issued documents to their customers, and reminders of overdue ones."""

from assets import clock
from assets.declared import Check, Checked, Made, Severity, Step, Yielded, asset
from assets.environment import smtp_url
from assets.months import computed
from assets.refusals import failures_in_words
from assets.resources import BillingHome
from billing.mailing.smtp import read_mail_server
from billing.model.account_tables import REMINDERS
from billing.model.catalogue import AFTER_ISSUE
from billing.model.errors import InterruptedRunError, RefusedError
from billing.month.business import Business
from billing.reports.mail_delivery import Sending
from billing.reports.reminders import remind
from billing.reports.sending import mails_after_issue, send_documents
from billing.store.working_files import COMPUTING


@asset(
    group="documents",
    deps=["invoice_files"],
    kinds={"mail"},
    description="The mail of every document that was issued under the policy `send: after_issue`, sent once. "
    "**Materializing this sends mail.** With `send: off`, the default, it does nothing. "
    "`overage show mails` says what became of each.",
    checks=[
        Check(
            "every_mail_was_sent",
            asset="mails",
            description="The mail server took every mail of this run.",
        )
    ],
)
def mails(context: Step, billing_home: BillingHome) -> Yielded:
    """Send the documents of the month, and those whose sending failed and has waited."""
    month = context.month
    broken: list[str] = []

    def step(business: Business, month: str) -> Sending:
        if business.catalogue.policy.send != AFTER_ISSUE or billing_home.draft:
            return Sending()
        planned = mails_after_issue(business, month, clock.now())
        if planned.is_empty():
            return Sending()
        try:
            return send_documents(business, planned, read_mail_server(smtp_url()), clock.now)
        except (InterruptedRunError, RefusedError) as error:
            # Issuing is done, and the months that follow do not need the mails.
            broken.append(f"{month}: no mail was sent: {error}")
            return Sending(waiting=planned.height)

    _, sending = computed(context, billing_home, step, COMPUTING)
    yield Made(metadata=_counts(sending))
    yield Checked(
        name="every_mail_was_sent",
        passed=not sending.is_partial,
        severity=Severity.WARN,
        # Which mails, and what the server answered, is in the register: it may name people.
        metadata={"month": month, **_counts(sending), "list them": "overage show mails", "warnings": broken},
    )


def _counts(sending: Sending) -> dict[str, int]:
    return {
        "sent": sending.sent,
        "failed": sending.failed,
        "skipped": sending.skipped,
        "unknown": sending.unknown,
        "waiting": sending.waiting,
    }


@asset(
    name=REMINDERS.name,
    group="reports",
    deps=["documents", "payments", "accounts", "opening_balances"],
    kinds={"mail", "parquet"},
    table=REMINDERS,
    description="Reminders of overdue documents, by the levels of `policy.reminders`. **Materializing this sends "
    "mail.** Without reminders in the policy it does nothing.",
)
def reminders(context: Step, billing_home: BillingHome) -> Yielded:
    """Make the reminders that are due as of the run's day, and send them."""
    business = billing_home.business()
    with context.at_work(business.home, business.register), failures_in_words():
        if not business.catalogue.policy.reminders or billing_home.draft:
            yield Made(metadata={"made": 0, **_counts(Sending())})
            return
        planned, sending = remind(business, read_mail_server(smtp_url()), clock.now)
    yield Made(metadata={"made": planned.height, **_counts(sending)})
