"""Synthetic sample data: made-up customers and a few months of their usage, with the dirt of real logs.

Deterministic: everything is derived from integers by a counter-based generator (splitmix64 over account, day and
position). Equal arguments give equal bytes in any process, with any number of threads, and days are independent.
Usage is written file by file; memory holds one file's rows and the rows that are delivered late.
"""

import shutil
from calendar import monthrange
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

import polars as pl

from billing.model.errors import RefusedError
from billing.sample.customers import PACKAGES, TAX_RATES, customers_of
from billing.sample.delivery import DIRT_PER_MILLION, DUPLICATES, REJECTED, write_usage
from billing.sample.files import lines
from billing.sample.payments import payments_of
from billing.sample.requests import OFFERS, charges_of, grants_of, requests_of
from billing.sample.seats_and_tokens import seats_and_tokens_of_day, with_seats_and_tokens
from billing.starter import (
    CATALOGUE_SCHEMA,
    SCRATCH_LANDING,
    catalogue_schema_file,
    refuse_existing_landing,
    starter_catalogue,
)
from billing.store.files import write_bytes

__all__ = ["DIRT_PER_MILLION", "SampleSummary", "billing_hint", "write_sample", "write_sample_payments"]

MAXIMUM_ACCOUNTS: Final = 2**24
MAXIMUM_EVENTS_PER_ACCOUNT_DAY: Final = 10_000


@dataclass(frozen=True)
class SampleSummary:
    """Counts of what `write_sample` wrote.

    Attributes
    ----------
    accounts, requests
        Rows of accounts.csv and requests.jsonl.
    events
        Distinct events, whatever happened to them in delivery.
    rows, files
        Rows and files under usage/, without header lines.
    dirt
        Number of rows with each kind of `DIRT_PER_MILLION`; lists every kind, also with 0.
    first_day, last_day, last_delivery_day
        Span of the usage, and the last delivery day.
    bill_month, bill_as_of
        Month and as-of day to bill for as many months of documents as there are months of usage.
    closing_month, closing_as_of
        Month and as-of day to bill afterwards: closes the last cycles and settles late deliveries.
    """

    directory: Path
    accounts: int
    requests: int
    events: int
    rows: int
    files: int
    dirt: Mapping[str, int]
    first_day: date
    last_day: date
    last_delivery_day: date
    bill_month: str
    bill_as_of: date
    closing_month: str
    closing_as_of: date

    @property
    def duplicates(self) -> int:
        """Rows that repeat an event with the same content (rule 26)."""
        return sum(self.dirt[kind] for kind in DUPLICATES)

    @property
    def rejected(self) -> int:
        """Rows expected to be rejected with a reason (rules 26 and 27)."""
        return sum(self.dirt[kind] for kind in REJECTED)

    @property
    def counted(self) -> int:
        """Rows expected to count as usage once everything is delivered."""
        return self.rows - self.duplicates - self.rejected


def billing_hint(months: int, first_month: str = "2026-01") -> tuple[str, date]:
    """Last billing month of a sample and its last day: bill it to get `months` months of documents."""
    last = _month_after(_first_day(first_month), months - 1)
    return f"{last:%Y-%m}", _last_day_of_month(last)


def _write_inputs(
    folder: Path, customers: pl.DataFrame, first_day: date, last_day: date, *, seats_and_tokens: bool
) -> int:
    """Write everything but usage; returns the number of requests."""
    requests = requests_of(customers, first_day, last_day)
    catalogue = _catalogue(customers, first_day)
    if seats_and_tokens:
        catalogue = with_seats_and_tokens(catalogue)
    (folder / "catalogue.yaml").write_text(catalogue, encoding="utf-8")
    (folder / CATALOGUE_SCHEMA).write_bytes(catalogue_schema_file().read_bytes())
    customers.select(
        *("account_id", "name", "email", "address_line1", "address_line2", "city", "region"),
        *("postal_code", "country", "tax_id", "tax_exempt", "tax_exempt_reason", "locale"),
    ).write_csv(folder / "accounts.csv")
    (folder / "tax_rates.csv").write_text(_tax_rates(first_day), encoding="utf-8")
    (folder / "requests.jsonl").write_bytes(lines(requests))
    (folder / "payments.jsonl").write_bytes(b"")
    charges_of(customers, first_day, last_day).write_csv(folder / "one_off_charges.csv")
    grants_of(customers, first_day, last_day).write_csv(folder / "credit_grants.csv")
    return requests.len()


def _checked_sizes(accounts: int, months: int, events_per_account_day: Decimal | float) -> Decimal:
    daily_events = Decimal(str(events_per_account_day))
    if not 1 <= accounts <= MAXIMUM_ACCOUNTS:
        raise RefusedError(f"accounts is {accounts}: expected 1 to {MAXIMUM_ACCOUNTS:,}")
    if not 1 <= months <= 120:
        raise RefusedError(f"months is {months}: expected 1 to 120")
    if not (daily_events.is_finite() and 0 < daily_events <= MAXIMUM_EVENTS_PER_ACCOUNT_DAY):
        raise RefusedError(
            f"events per account and day is {events_per_account_day}: "
            f"expected more than 0, at most {MAXIMUM_EVENTS_PER_ACCOUNT_DAY:,}"
        )
    return daily_events


def write_sample(
    directory: Path,
    *,
    accounts: int = 200,
    months: int = 3,
    events_per_account_day: Decimal | float = 10,
    seed: int = 1,
    first_month: str = "2026-01",
    seats_and_tokens: bool = True,
    progress: Callable[[date, int], None] | None = None,
) -> SampleSummary:
    """Write a synthetic business into `directory`/landing; equal arguments give equal bytes.

    Customers sign up over the whole span, many on the first days and some on the last days of a month. Usage is
    distributed log-normally; leads grow until several customers outgrow their package. Payments stay empty: they name
    documents, so `write_sample_payments` adds them after billing.

    Parameters
    ----------
    accounts
        1 to 16,777,216.
    months
        Calendar months of usage, from the first day of `first_month` (YYYY-MM) to the last day of the last.
    events_per_account_day
        On average over accounts and days, more than 0 and at most 10,000; no account makes fewer than 0.01.
    seats_and_tokens
        Whether some customers have users, which are charged in advance, and use tokens by model and kind.
    progress
        Called after each delivery day with the day and the number of rows so far.

    Raises
    ------
    StarterError
        `directory` already has a landing area.
    RefusedError
        An argument is out of range.
    OSError
        The folder cannot be written; no landing area is left behind.
    """
    daily_events = _checked_sizes(accounts, months, events_per_account_day)
    refuse_existing_landing(directory)

    first_day = _first_day(first_month)
    bill_month, last_day = billing_hint(months, first_month)
    closing_day = last_day + timedelta(days=1)
    scratch = directory / SCRATCH_LANDING
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True)
        customers = customers_of(accounts, first_day, last_day, float(daily_events), seed)
        requests = _write_inputs(scratch, customers, first_day, last_day, seats_and_tokens=seats_and_tokens)
        delivered = write_usage(
            scratch / "usage",
            customers,
            first_day,
            last_day,
            seed,
            progress,
            partial(seats_and_tokens_of_day, customers, first_day=first_day, seed=seed) if seats_and_tokens else None,
        )
        scratch.rename(directory / "landing")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return SampleSummary(
        directory=directory,
        accounts=accounts,
        requests=requests,
        events=delivered.events,
        rows=delivered.rows,
        files=delivered.files,
        dirt=delivered.dirt,
        first_day=first_day,
        last_day=last_day,
        last_delivery_day=delivered.last_delivery_day,
        bill_month=bill_month,
        bill_as_of=last_day,
        closing_month=f"{closing_day:%Y-%m}",
        closing_as_of=_last_day_of_month(closing_day),
    )


def write_sample_payments(directory: Path, documents: pl.DataFrame) -> int:
    """Write payments for the documents issued to a sample; earlier payments stay the same.

    Parameters
    ----------
    documents
        All issued documents, as for `payments_of`.

    Returns
    -------
    int
        Number of payments.

    Raises
    ------
    RefusedError
        When `directory` has no landing area.
    """
    landing = directory / "landing"
    if not landing.is_dir():
        raise RefusedError(f"{directory}: found no landing area, expected a sample that was billed")
    payments = payments_of(documents)
    write_bytes(landing / "payments.jsonl", lines(payments))
    return payments.len()


def _catalogue(customers: pl.DataFrame, first_day: date) -> str:
    """Return the starting catalogue, effective from the first day, with one agreement when there are gold customers."""
    text = (
        starter_catalogue()
        .replace("billing_start: 2024-01-01", f"billing_start: {first_day}")
        .replace("- effective_from: 2026-01-01", f"- effective_from: {first_day}")
    ) + OFFERS.replace("FIRST_DAY", f"{first_day}")
    gold = customers.filter(pl.col("rank") == PACKAGES.index("gold")).get_column("account_id")
    if gold.is_empty():
        return text
    return (
        f"{text}\nagreements:\n  - {{account_id: {gold[0]}, package: gold, effective_from: {first_day}, "
        'price: {monthly: "250.00"}, allowances: {emails: 300000}, '
        'minimum_spend: {amount: "275.00", counts: [package_fee, overage]}}\n'
    )


def _tax_rates(first_day: date) -> str:
    rows = [
        f"{country},{region},{rate},{name},{first_day.replace(month=1, day=1)}"
        for country, region, rate, name in TAX_RATES
    ]
    return "\n".join(["country,region,rate,name,effective_from", *rows, ""])


def _first_day(month: str) -> date:
    try:
        return date.fromisoformat(f"{month}-01")
    except ValueError as error:
        raise RefusedError(f"first month is {month!r}: expected YYYY-MM, such as 2026-01") from error


def _month_after(first: date, months: int) -> date:
    years, month = divmod(first.month - 1 + months, 12)
    return date(first.year + years, month + 1, 1)


def _last_day_of_month(day: date) -> date:
    return day.replace(day=monthrange(day.year, day.month)[1])
