"""The journal for accounting: what was issued and paid as balanced postings, by the calendar month they belong to.

A document is posted on the day it was issued and a payment on the day it was made, so a month of the books that is
over never changes because a later run issued something for it. Fees are paid in advance: they are deferred, and
released day by day over the cycle they pay for.
"""

import hashlib
import shutil
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from billing.model.account_tables import JOURNAL
from billing.model.buckets import in_buckets
from billing.model.calendar import first_day, last_day, months_between
from billing.model.catalogue import Catalogue
from billing.model.codes import RETURNED, LedgerAccount, LineKind, PaymentStatus, PostingKind
from billing.model.columns import MONEY
from billing.model.errors import InterruptedRunError
from billing.model.money import minor_units, round_fraction
from billing.model.tables import LINES
from billing.month.business import Business
from billing.month.recorded_inputs.record import Record, read_record, write_record
from billing.month.shards import each_new_shard
from billing.reports.credit_postings import credit_postings
from billing.reports.profiles import balances
from billing.rules.opening_balances import posted_differences, versions_to_record
from billing.rules.prepaid_credits import is_prepayment
from billing.rules.receivables import shown_number
from billing.store.files import remove_file
from billing.store.frames import scan_frames
from billing.store.home import Home
from billing.store.monthly import keep_parts, scan_months, write_month

LEDGER_ACCOUNTS: Final = tuple(LedgerAccount)
FORMAT: Final = 1
"""Raised when the journal of a month would come out differently for equal input."""

_MONEY_UNIT: Final = 10**4
_BALANCE: Final = ["account_id", "currency"]
_SOLD_BESIDE: Final = (
    *(LineKind.ADD_ON, LineKind.SEATS, LineKind.PRORATION),
    *(LineKind.MINIMUM_SPEND, LineKind.COUPON),
)


def write_journal(business: Business) -> list[str]:
    """Bring the journal up to date: JOURNAL, a file for every calendar month up to the as-of day.

    Rewrite a month only if a document was issued or a payment was made in it since, or it has ended.

    Returns
    -------
    list of str
        The months that were looked at again.

    Raises
    ------
    InterruptedRunError
        When the lake does not have the lines of an issued document yet.
    """
    home, by_day = business.home, business.register.documents_by_day()
    opening, credits = _post_opening_balances(business), credit_postings(business)
    found = (by_day["issued_on"], business.payments["on"], opening["posted_on"], credits["posted_on"])
    days = [day for column in found for day in (column.min(), column.max())]
    known = [day for day in days if isinstance(day, date)]
    today = max([business.as_of, *known])
    months = months_between(f"{min(known):%Y-%m}", f"{today:%Y-%m}") if known else []
    _remove_other_months(home, months)
    moved: dict[str, Record] = {}
    for month in months:
        record = Record({"postings": _built_from(business, by_day, opening, credits, month, today)})
        if read_record(_record_of(home, month), may_be_lost=True) != record or not home.parts(JOURNAL, month):
            moved[month] = record
    _write_postings(business, opening, credits, list(moved), today)
    for month, record in moved.items():
        write_record(_record_of(home, month), record, may_be_lost=True)
    return list(moved)


def _write_postings(
    business: Business, opening: pl.DataFrame, credits: pl.DataFrame, months: Sequence[str], today: date
) -> None:
    """Write the postings of some calendar months, shard by shard."""
    home, ranges = business.home, business.new_shards
    if len(ranges) > 1:
        for month in months:
            # A month of which some parts are written is known by its lack.
            remove_file(_record_of(home, month))
            keep_parts(home, JOURNAL, month, ranges)
    for shard in each_new_shard(business) if months else ():
        documents = shard.register.documents().select(
            *("number", "account_id", "issued_on", "billing_month", "billing_date", "currency"),
            *("tax", "credits_applied", "due"),
            bought=is_prepayment(),
        )
        its_opening, its_credits = (in_buckets(each, shard.home.buckets) for each in (opening, credits))
        for month in months:
            postings = _month_postings(shard, documents, its_opening, its_credits, month, today)
            write_month(shard.home, JOURNAL, month, postings)


def _record_of(home: Home, month: str) -> Path:
    return home.month_folder(JOURNAL, month) / "built_from.json"


def trial_balance(business: Business) -> pl.DataFrame:
    """billing_month, currency, ledger_account, debit, credit (MONEY): the sums of the journal, sorted."""
    keys = ["billing_month", "currency", "ledger_account"]
    return _whole(business.home).group_by(keys).agg(pl.col("debit", "credit").sum().cast(MONEY)).sort(keys).collect()


def unbalanced_entries(home: Home) -> pl.DataFrame:
    """billing_month, entry, debit, credit: entries whose debits are not their credits; there should be none."""
    return (
        _whole(home)
        .group_by("billing_month", "kind", "entry", "currency")
        .agg(pl.col("debit", "credit").sum())
        .filter(pl.col("debit") != pl.col("credit"))
        .select("billing_month", "entry", "debit", "credit")
        .sort("billing_month", "entry")
        .collect()
    )


def receivable_differences(business: Business) -> pl.DataFrame:
    """account_id, currency, receivable, outstanding: accounts whose receivable is not their balance; none, usually."""
    found = [_receivable_differences(shard.home, balances(shard)) for shard in each_new_shard(business)]
    return pl.concat(found).sort(_BALANCE)


def _receivable_differences(home: Home, balances: pl.DataFrame) -> pl.DataFrame:
    receivable = (
        _whole(home)
        .filter(pl.col("ledger_account") == LedgerAccount.RECEIVABLE)
        .group_by(_BALANCE)
        .agg(receivable=pl.col("debit").sum() - pl.col("credit").sum())
        .collect()
    )
    nothing = pl.lit(0).cast(MONEY)
    return (
        receivable.join(balances.select(*_BALANCE, "outstanding"), on=_BALANCE, how="full", coalesce=True)
        .with_columns(pl.col("receivable", "outstanding").fill_null(nothing))
        .filter(pl.col("receivable") != pl.col("outstanding"))
    )


def _month_postings(
    business: Business,
    documents: pl.DataFrame,
    opening: pl.DataFrame,
    credits: pl.DataFrame,
    month: str,
    today: date,
) -> pl.DataFrame:
    """The postings of one calendar month: the table JOURNAL."""
    start, end = first_day(month), last_day(month)
    issued = documents.filter(pl.col("issued_on") <= end)
    lines = (
        _lines(business.home, issued["billing_month"].unique().sort().to_list())
        .select("number", "kind", "metric", "cycle_start", "cycle_end", "amount")
        .join(issued.lazy(), on="number")
        .with_columns(is_deferred=_is_deferred(business.catalogue))
        .drop("kind")
        .filter((pl.col("issued_on") >= start) | (pl.col("is_deferred") & (pl.col("cycle_end") > start)))
        .collect()
    )
    now = issued.filter(pl.col("issued_on") >= start)
    if not (without := now.join(lines, on="number", how="anti")).is_empty():
        raise InterruptedRunError(
            f"lake/{LINES.name}: the lines of {without['number'][0]} are missing: an earlier run did not end; bill "
            f"{without['billing_month'][0]} again"
        )
    payments = business.payments.filter(pl.col("on").is_between(start, end))
    posted = [each.filter(pl.col("posted_on").is_between(start, end)) for each in (opening, credits)]
    own, entries = business.catalogue.currency, []
    codes = {each for frame in (lines, now, payments, *posted) for each in frame["currency"].unique()}
    # A currency has books of its own: nothing of two is added up (rule 36).
    for code in (own, *sorted(codes - {own})):
        of = [frame.filter(pl.col("currency") == code) for frame in (now, lines, payments, *posted)]
        of_now, of_lines, of_payments, of_opening, of_credits = of
        its = [
            _document_entries(of_now, of_lines.filter(pl.col("issued_on") >= start)),
            _payment_entries(of_payments),
            _opening_entries(of_opening),
            of_credits.drop("currency"),
        ]
        if end <= today:
            # Post releases at the end of the month.
            its.append(_release_entries(of_lines.filter("is_deferred"), start, end, minor_units(code) or 0))
        entries.append(pl.concat(its).with_columns(currency=pl.lit(code)))
    nothing = pl.lit(0).cast(MONEY)
    amount = pl.col("amount")
    return JOURNAL.conform(
        pl.concat(entries)
        .filter(amount != 0)
        .with_columns(
            billing_month=pl.lit(month),
            debit=pl.when(amount > 0).then(amount).otherwise(nothing),
            credit=pl.when(amount < 0).then(-amount).otherwise(nothing),
        )
    )


# Each of the following returns posted_on, kind, entry, ledger_account, account_id, number, amount: debits are positive.


def _document_entries(documents: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
    """Postings of a document: receivable and prepaid credits against revenue, deferred revenue, credits and tax.

    A prepayment is no revenue: it is owed to the customer as prepaid credits (rule 33).
    """
    head = {"posted_on": "issued_on", "entry": "number"}
    per_line = lines.with_columns(
        ledger_account=pl.when("bought")
        .then(pl.lit(LedgerAccount.PREPAID_CREDITS))
        .when("is_deferred")
        .then(pl.lit(LedgerAccount.DEFERRED_REVENUE))
        .otherwise(_earned()),
        amount=-pl.col("amount"),
    )
    sides = [
        documents.with_columns(ledger_account=pl.lit(LedgerAccount.RECEIVABLE), amount="due"),
        documents.with_columns(ledger_account=pl.lit(LedgerAccount.PREPAID_CREDITS), amount="credits_applied"),
        documents.with_columns(ledger_account=pl.lit(LedgerAccount.TAX), amount=-pl.col("tax")),
        per_line,
    ]
    keys = ["posted_on", "kind", "entry", "ledger_account", "account_id", "number"]
    return pl.concat(
        [
            side.with_columns(kind=pl.lit(PostingKind.DOCUMENT), **{new: pl.col(old) for new, old in head.items()})
            .group_by(keys, maintain_order=True)
            .agg(pl.col("amount").sum().cast(MONEY))
            for side in sides
        ]
    )


def _release_entries(lines: pl.DataFrame, start: date, end: date, decimals: int) -> pl.DataFrame:
    """Release deferred revenue for the days of the month, with the catch-up of late documents.

    Round the running sum, so that the releases of a fee add up to it.
    """
    released = _released_through(end, decimals) - pl.when(pl.col("issued_on") >= start).then(
        pl.lit(0).cast(MONEY)
    ).otherwise(_released_through(start - timedelta(days=1), decimals))
    sides = lines.with_columns(released=released).select(
        "number",
        "account_id",
        posted_on=pl.lit(end),
        kind=pl.lit(PostingKind.RELEASE),
        entry="number",
        earned=_earned(),
        released="released",
    )
    keys = ["posted_on", "kind", "entry", "ledger_account", "account_id", "number"]
    return pl.concat(
        [
            side.group_by(keys, maintain_order=True).agg(pl.col("amount").sum().cast(MONEY))
            for side in (
                sides.with_columns(ledger_account=pl.lit(LedgerAccount.DEFERRED_REVENUE), amount="released"),
                sides.with_columns(ledger_account="earned", amount=-pl.col("released")),
            )
        ]
    )


def _payment_entries(payments: pl.DataFrame) -> pl.DataFrame:
    """Postings of payments, and of refunded and disputed ones; a failed attempt has none."""
    came = pl.col("status") == PaymentStatus.SUCCEEDED
    moved = payments.filter(came | pl.col("status").is_in(RETURNED)).select(
        "account_id",
        number=shown_number("document"),
        posted_on="on",
        kind=pl.lit(PostingKind.PAYMENT),
        entry="payment_id",
        amount=pl.when(came).then("amount").otherwise(-pl.col("amount")).cast(MONEY),
    )
    columns = ["posted_on", "kind", "entry", "ledger_account", "account_id", "number", "amount"]
    return pl.concat(
        [
            moved.with_columns(ledger_account=pl.lit(LedgerAccount.CASH)).select(columns),
            moved.with_columns(ledger_account=pl.lit(LedgerAccount.RECEIVABLE), amount=-pl.col("amount")).select(
                columns
            ),
        ]
    )


def _post_opening_balances(business: Business) -> pl.DataFrame:
    """Record the opening balances in force, and return the postings of all: as `posted_differences`."""
    used = business.register.opening_balances()
    new = versions_to_record(business.opening_balances, used, business.as_of)
    # Where nothing was issued yet the rows can still be corrected: drafts use none of them.
    if business.issues or business.register.count():
        business.register.record_opening_balances(new)
    return posted_differences(pl.concat([used, new])).filter(pl.col("posted_on") <= business.as_of)


def _opening_entries(opening: pl.DataFrame) -> pl.DataFrame:
    """Postings of opening balances: receivable against opening balances (rule 38)."""
    columns = ["posted_on", "kind", "entry", "ledger_account", "account_id", "number", "amount"]
    sides = [
        opening.with_columns(
            kind=pl.lit(PostingKind.OPENING_BALANCE),
            entry=pl.format("{}/{}", "account_id", "reference"),
            number=pl.when(pl.col("reference") != "").then("reference"),
            ledger_account=pl.lit(account),
            amount=pl.col("amount") * sign,
        ).select(columns)
        for account, sign in ((LedgerAccount.RECEIVABLE, 1), (LedgerAccount.OPENING_BALANCES, -1))
    ]
    return pl.concat([side.with_columns(pl.col("amount").cast(MONEY)) for side in sides])


def _is_deferred(catalogue: Catalogue) -> pl.Expr:
    """Whether a line is recognized over the cycle it pays for, and not when it is billed, as an overage is.

    Coupons are recognized as what they lower; seats that were added, and a minimum spend, when the cycle is over.
    """
    has_cycle = pl.col("cycle_end").is_not_null()
    seats = [metric.name for metric in catalogue.metrics if metric.is_in_advance]
    is_fee = pl.col("metric").is_null() | pl.col("metric").is_in(seats)
    pays_ahead = (pl.col("cycle_end") > pl.col("billing_date")).fill_null(value=False)
    return has_cycle & pl.when(pl.col("kind").is_in(_SOLD_BESIDE)).then(pays_ahead).otherwise(is_fee)


def _earned() -> pl.Expr:
    """The ledger account of a line's amount; credits are separate, so that revenue can be read gross and net."""
    return pl.when(pl.col("amount") < 0).then(pl.lit(LedgerAccount.CREDITS)).otherwise(pl.lit(LedgerAccount.REVENUE))


def _released_through(day: date, decimals: int) -> pl.Expr:
    """The part of a line's amount earned by the end of a day: by days of its cycle, half-up, as MONEY."""
    whole = (pl.col("cycle_end") - pl.col("cycle_start")).dt.total_days()
    # Recognize a line without a span at once.
    passed = (pl.lit(day) - pl.col("cycle_start")).dt.total_days() + 1
    share = pl.when(whole > 0).then(passed.clip(0, whole)).otherwise(1).cast(pl.Int128)
    days = pl.when(whole > 0).then(whole).otherwise(1).cast(pl.Int128)
    # amounts are below 10^14 x 10^4 and a term has at most 366 days: far from 2^127 in round_fraction
    return round_fraction(pl.col("amount").to_physical().cast(pl.Int128) * share, days * _MONEY_UNIT, decimals)


def _built_from(
    business: Business,
    by_day: pl.DataFrame,
    opening: pl.DataFrame,
    credits: pl.DataFrame,
    month: str,
    today: date,
) -> str:
    """Inputs of a month's postings: documents never change, so their number identifies them."""
    start, end = first_day(month), last_day(month)
    payments = business.payments.filter(pl.col("on").is_between(start, end)).select(
        "payment_id", "document", "account_id", "on", "amount", "status"
    )
    issued = by_day.filter(pl.col("issued_on") <= end)["documents"].sum()
    moved = opening.filter(pl.col("posted_on").is_between(start, end))
    posted = credits.filter(pl.col("posted_on").is_between(start, end))
    return "\n".join(
        [
            f"format {FORMAT}, {', '.join(business.inputs.currencies or (business.catalogue.currency,))}",
            f"{issued} documents",
            f"payments {_hash(payments)}",
            *([] if moved.is_empty() else [f"opening balances {_hash(moved)}"]),
            *([] if posted.is_empty() else [f"credits {_hash(posted)}"]),
            "over" if end <= today else "open",
            "",
        ]
    )


def _hash(frame: pl.DataFrame) -> str:
    return hashlib.sha256(frame.write_json().encode()).hexdigest()


def _lines(home: Home, months: Sequence[str]) -> pl.LazyFrame:
    """The lines of some months, in no order; of a shard also those of others, where these had other shards."""
    return scan_frames([part for month in months for part in home.parts(LINES, month)], LINES)


def _whole(home: Home) -> pl.LazyFrame:
    """All postings, in no order."""
    months = home.months(JOURNAL)
    if home.buckets is not None:
        return scan_months(home, JOURNAL, months)
    return scan_frames([part for month in months for part in home.parts(JOURNAL, month)], JOURNAL)


def _remove_other_months(home: Home, months: list[str]) -> None:
    """Remove months of an earlier run: with payments that no longer exist, or a later as-of day."""
    for month in home.months(JOURNAL):
        if month not in months:
            shutil.rmtree(home.month_folder(JOURNAL, month))
