"""Check a home: validate the catalogue and the inputs, without computing anything."""

from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from billing.einvoices.missing import problems_in_words
from billing.ingest.dry_run import usage_that_would_be_set_aside
from billing.ingest.landing import delivered_files
from billing.ingest.unusable_files import STRAY
from billing.ingest.validation import Rules
from billing.inputs.catalogue_file import load_catalogue
from billing.inputs.reading import Inputs, read_inputs
from billing.model.catalogue import AFTER_ISSUE, Catalogue
from billing.model.errors import RefusedError
from billing.month.business import Business
from billing.month.invoice_formats import format_problems
from billing.month.issued_settings import issued_in_others, refuse_moved_settings
from billing.month.recorded_inputs.runs import last_as_of
from billing.month.resources import with_resources
from billing.month.unbillable_rows import charges_without_rate, rows_before_billing_start
from billing.month.unread_files import names_not_read
from billing.register.register import Register
from billing.rendering import check_rendering_environment
from billing.reports.mail_checks import mail_address_warnings
from billing.reports.mail_delivery import sender_of
from billing.reports.paper_checks import paper_problems
from billing.reports.seller_checks import seller_warnings
from billing.reports.source_checks import source_warnings
from billing.reports.tax_and_locale_checks import tax_and_locale_warnings
from billing.rules.candidate_catalogue import joined_catalogue
from billing.rules.credit_balances import lowered_grants
from billing.rules.opening_balances import changed_rows
from billing.store.home import Home

_MOST_FORMATS_TOLD: Final = 20


def problems_of(root: Path, register_url: str | None = None, *, every_row: bool = False) -> list[str]:
    """All problems, each with file, place, what was found and what was expected.

    Parameters
    ----------
    every_row
        Read all usage; else only the first rows of new and changed files.

    Raises
    ------
    RefusedError
        When there is no billing home.
    """
    home = Home(root)
    if not home.landing.is_dir():
        raise RefusedError(
            f"{root}: this is no billing home: expected a folder `landing` in it (`overage init` makes one)"
        )
    try:
        catalogue = with_resources(load_catalogue(home.landing / "catalogue.yaml"), home.landing)
        register = Register.open(home, register_url)
        issued = register.issued_currencies() if issued_in_others(register, catalogue) else None
        inputs = read_inputs(home, catalogue, register.billed_accounts(), issued)
        changed = changed_rows(inputs.opening_balances, register.opening_balances())
        changed += lowered_grants(inputs.credit_grants, register.credit_uses())
        refuse_moved_settings(register, catalogue)
    except RefusedError as error:
        return error.told
    if formats := register.changed_formats(catalogue.numbering):
        changed = [*changed, *map(str, formats)]
    business = Business(home, catalogue, inputs, register, as_of=date.max)
    return [
        *inputs.warnings,
        *changed,
        *_rejected(inputs),
        *rows_before_billing_start(business),
        *charges_without_rate(business),
        *_cannot_be_billed(business),
        *_unknown_agreements(inputs, catalogue),
        *_left_out(business),
        *source_warnings(inputs, catalogue),
        *tax_and_locale_warnings(inputs, catalogue),
        *seller_warnings(catalogue.seller),
        *mail_address_warnings(home, catalogue, inputs),
        *_not_in_their_format(business),
        *names_not_read(home, catalogue),
        *paper_problems(home, catalogue.seller.logo),
        *_usage(business, every_row=every_row),
        *check_rendering_environment(),
        *_cannot_send(catalogue),
        *_refused_shadow(home, catalogue),
    ]


def _cannot_send(catalogue: Catalogue) -> list[str]:
    """A policy that sends mails, without an address to send them from."""
    if catalogue.policy.send != AFTER_ISSUE and not catalogue.policy.reminders:
        return []
    try:
        sender_of(catalogue)
    except RefusedError as error:
        return [error.message]
    return []


def _refused_shadow(home: Home, catalogue: Catalogue) -> list[str]:
    """A candidate that the policy tries, and that cannot be billed."""
    if not catalogue.policy.shadow:
        return []
    try:
        joined_catalogue(catalogue, load_catalogue(home.root / catalogue.policy.shadow), date.max)
    except RefusedError as error:
        return [f"policy.shadow: {error}"]
    return []


def _rejected(inputs: Inputs) -> list[str]:
    rows = inputs.rejects.select("file", "row", "reason", "detail", "text").iter_rows()
    return [f"{file}: row {row}: {reason}: {detail}: {text}" for file, row, reason, detail, text in rows]


def _cannot_be_billed(business: Business) -> list[str]:
    problems = [f"account {account} cannot be billed: {detail}" for account, _, detail in business.parked.iter_rows()]
    try:
        business.refuse_lacking_accounts()
    except RefusedError as error:
        problems.append(error.message)
    return problems


def _not_in_their_format(business: Business) -> list[str]:
    """What accounts lack for the format of their documents, as of the last run or the latest request."""
    requested = business.inputs.requests["on"].max()
    day = last_as_of(business.home.root) or (requested if isinstance(requested, date) else date.min)
    problems = format_problems(business, max(day, business.catalogue.policy.billing_start).strftime("%Y-%m"))
    lines = [
        f"account {account}: missing_for_format: {detail}"
        for account, detail in problems_in_words(problems).iter_rows()
    ]
    further = len(lines) - _MOST_FORMATS_TOLD
    return lines[:_MOST_FORMATS_TOLD] + ([f"missing_for_format: {further} more accounts"] if further > 0 else [])


def _unknown_agreements(inputs: Inputs, catalogue: Catalogue) -> list[str]:
    known = inputs.accounts.select(pl.col("account_id").implode()).item()
    return [
        f"catalogue.yaml: agreements: found the account {account_id}, expected an account_id of the accounts file"
        for account_id in sorted({agreement.account_id for agreement in catalogue.agreements})
        if account_id not in known
    ]


def _left_out(business: Business) -> list[str]:
    """Amounts of the policy that are not in the currency of accounts (rule 36)."""
    found = []
    for part in business.by_currency:
        accounts = part.inputs.accounts["account_id"]
        lacking = part.catalogue.lacking
        if not lacking or accounts.is_empty():
            continue
        further = f" and {len(accounts) - _MOST_FORMATS_TOLD} more" if len(accounts) > _MOST_FORMATS_TOLD else ""
        found += [
            f"catalogue.yaml: policy.{name}: found no amount in {part.catalogue.currency}, the currency of "
            f"{', '.join(accounts[:_MOST_FORMATS_TOLD])}{further}, expected one: it is left out for them"
            for name in lacking
        ]
    return found


def _usage(business: Business, *, every_row: bool) -> list[str]:
    landing, inputs = delivered_files(business.home, date.max), business.inputs
    strays = [f"usage/{path}: {STRAY}" for path in landing.strays]
    rules = Rules.of_catalogue(business.catalogue, inputs.known_accounts, inputs.aliases)
    return [*strays, *usage_that_would_be_set_aside(business.home, landing, rules, every_row=every_row)]
