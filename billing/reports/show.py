"""Read the tables for `overage show`, as frames and as plain values."""

from pathlib import Path
from typing import Final

import polars as pl

from billing.ingest import scan_events
from billing.model.account_tables import ALLOCATIONS, BALANCES, COLLECTIONS, CREDITS, MAILS, PROFILE, REMINDERS
from billing.model.calendar import first_day
from billing.model.codes import RejectReason
from billing.model.columns import Table
from billing.model.errors import RefusedError
from billing.model.tables import (
    DOCUMENTS,
    DRAFT_LINES,
    DRAFT_TAXES,
    DRAFTS,
    EVENTS,
    INGEST,
    LINES,
    REJECTS,
    SURGES,
    TABLES,
    TAXES,
)
from billing.model.text import counted
from billing.month.business import Business
from billing.month.checks import surges
from billing.month.credits import credits
from billing.month.scratch_copy import bring_up_to_date, scratch_copy
from billing.reports.profiles import account_profiles, allocations, balances, collections, documents_with_open_amounts
from billing.reports.reminders import reminders
from billing.reports.sending import mails
from billing.rules.own_documents import shown_subscription_id
from billing.store.frames import read_frame, scan_frames
from billing.store.monthly import scan_months

_MOST_NAMED: Final = 20

# Technical columns: hidden in the table style.
TECHNICAL: Final = {
    "content",
    "content_hash",
    "base_quantity",
    "event_sum",
    "lowest_level",
    "following_term",
    "term_end",
}


def read_table(
    business: Business,
    *,
    name: str,
    month: str | None = None,
    account: str | None = None,
    looks_elsewhere: bool = False,
    reason: str | None = None,
    file: str | None = None,
) -> pl.DataFrame:
    """The rows of a table, of one billing month or account if asked for, sorted by the table's key.

    Parameters
    ----------
    looks_elsewhere
        The business is as of another day than the last run: profile, balances, allocations, credits, collections and
        drafts are computed without being written, other tables are known as of the last run only.
    reason, file
        Of rejects: those of one reason, and of one file, named as in the table or by its path below landing/.

    Raises
    ------
    RefusedError
        When there is no such table, account, reason or file, the month is none, the table has no such column, or it
        cannot be had as of that day.
    """
    if name not in TABLES:
        raise RefusedError(f"unknown table: found {name!r}, expected one of: {', '.join(sorted(TABLES))}")
    table = TABLES[name]
    for option, column, wanted in (("--reason", "reason", reason), ("--file", "file", file)):
        if wanted is not None and table not in ((REJECTS,) if column == "reason" else (REJECTS, INGEST)):
            raise RefusedError(f"{name} has no rows of one {column}: leave {option} out")
    if account is not None and not business.knows(account):
        raise RefusedError(f"unknown account: found {account!r}, expected an account_id of the accounts file")
    if month is not None:
        _check_month(business, table, month)
    frame = _computed(business, table, month) if looks_elsewhere else _stored(business, table, month)
    if account is not None:
        frame = _of_account(business, table, frame, account)
    if reason is not None:
        _refuse_unknown_reason(business, reason)
        frame = frame.filter(pl.col("reason") == reason)
    if file is not None:
        _refuse_unknown_file(business, table, file)
        frame = frame.filter(_is_file(file))
    if "subscription_id" in frame.columns:
        frame = frame.with_columns(shown_subscription_id())
    return frame.sort(table.key, maintain_order=True)


def _stored(business: Business, table: Table, month: str | None) -> pl.DataFrame:
    if table in (DOCUMENTS, LINES, TAXES):
        return _registered(business, table, month)
    if table is MAILS:
        found = mails(business)
        return found if month is None else found.filter(pl.col("billing_month") == month)
    if table is REMINDERS:
        made = reminders(business)
        return made if month is None else made.filter(pl.col("on").dt.strftime("%Y-%m") == month)
    if table is SURGES:
        return surges(business, month)
    if table in (PROFILE, BALANCES, COLLECTIONS, ALLOCATIONS, CREDITS):
        return read_frame(business.home.whole(table), table)
    return _in_lake(business, table, month)


def _computed(business: Business, table: Table, month: str | None) -> pl.DataFrame:
    if table is PROFILE:
        return account_profiles(business, business.as_of)
    if table is BALANCES:
        return balances(business)
    if table is COLLECTIONS:
        return collections(business)
    if table is ALLOCATIONS:
        return allocations(business)
    if table is CREDITS:
        return credits(business)
    if table in (MAILS, REMINDERS):
        return _stored(business, table, month)
    if table in (DRAFTS, DRAFT_LINES, DRAFT_TAXES):
        with scratch_copy(business, business.as_of) as scratch:
            bring_up_to_date(scratch, month or business.as_of.strftime("%Y-%m"))
            return _in_lake(scratch, table, month)
    raise RefusedError(
        f"{table.name} is known as of the last run only: found --as-of {business.as_of}; expected none, or a run as of "
        "that day first"
    )


def _registered(business: Business, table: Table, month: str | None) -> pl.DataFrame:
    if table is DOCUMENTS:
        # An account's credit pays documents of any month.
        documents = documents_with_open_amounts(business)
        of_month = documents if month is None else documents.filter(pl.col("billing_month") == month)
        return of_month.select(DOCUMENTS.column_names)
    months = None if month is None else [month]
    read = {LINES.name: business.register.lines, TAXES.name: business.register.taxes}[table.name]
    return read(months).select(table.column_names)


def _in_lake(business: Business, table: Table, month: str | None) -> pl.DataFrame:
    folder = business.home.lake / table.name
    if table is EVENTS:
        months = (
            [month]
            if month
            else sorted(path.name.removeprefix("event_month=") for path in folder.glob("event_month=*"))
        )
        return scan_events(business.home, months, business.as_of).collect()
    if table in (REJECTS, INGEST):
        return _delivered(business, table, month)
    return scan_months(business.home, table, [month] if month else business.home.months(table)).collect()


def _delivered(business: Business, table: Table, month: str | None) -> pl.DataFrame:
    """Tables by day of delivery; rows without one (requests, payments, accounts) belong to no month."""
    frame = _delivered_by_now(business, table)
    if month is not None:
        frame = frame.filter(pl.col("delivery_day").dt.strftime("%Y-%m") == month)
    return frame.collect()


def _delivered_by_now(business: Business, table: Table) -> pl.LazyFrame:
    folder = business.home.lake / table.name
    frame = scan_frames([*_parquet(folder, "delivery_day=*/*.parquet"), *_parquet(folder, "*.parquet")], table)
    return frame.filter(pl.col("delivery_day").is_null() | (pl.col("delivery_day") <= business.as_of))


def set_aside(business: Business) -> pl.DataFrame:
    """How many rows the table REJECTS holds, those of every month and of no delivery day.

    Returns
    -------
    polars.DataFrame
        reason, path (below landing/) and rows; the most frequent first.
    """
    counts = _delivered_by_now(business, REJECTS).group_by("reason", path=_path()).agg(rows=pl.len())
    return counts.sort("rows", "path", "reason", descending=[True, False, False]).collect()


def _path() -> pl.Expr:
    """The path below landing/ of the file that a row of REJECTS or INGEST is of."""
    return (
        pl.when(pl.col("delivery_day").is_not_null())
        .then(pl.format("usage/{}/{}", pl.col("delivery_day").dt.to_string("%Y-%m-%d"), "file"))
        .otherwise("file")
    )


def _is_file(file: str) -> pl.Expr:
    return (pl.col("file") == file) | (_path() == file)


def _refuse_unknown_reason(business: Business, reason: str) -> None:
    """Refuse a reason that no row can have: it is mistyped."""
    found = (
        set_aside(business)
        .group_by("reason")
        .agg(pl.col("rows").sum())
        .sort("rows", "reason", descending=[True, False])
    )
    if reason not in tuple(RejectReason) and reason not in found["reason"]:
        there_are = [f"{name} ({counted(rows, 'row')})" for name, rows in found.select("reason", "rows").iter_rows()]
        expected = ", ".join(there_are) or f"nothing is set aside; reasons are {', '.join(RejectReason)}"
        raise RefusedError(f"unknown reason: found {reason!r}, expected one of those there are: {expected}")


def _refuse_unknown_file(business: Business, table: Table, file: str) -> None:
    """Refuse an unknown file: it is mistyped. A known one may have no quarantined rows."""
    wanted = [_delivered_by_now(business, each).filter(_is_file(file)).head(1).collect() for each in (REJECTS, INGEST)]
    if any(found.height for found in wanted) or (business.home.landing / file).is_file():
        return
    named = _delivered_by_now(business, table).select(path=_path()).unique().sort("path").collect()["path"].to_list()
    more = f" and {len(named) - _MOST_NAMED:,} more" if len(named) > _MOST_NAMED else ""
    there_are = f"{', '.join(named[:_MOST_NAMED])}{more}" if named else "there is none"
    raise RefusedError(f"unknown file: found {file!r}, expected one of those in {table.name}: {there_are}")


def _of_account(business: Business, table: Table, frame: pl.DataFrame, account: str) -> pl.DataFrame:
    if "account_id" in frame.columns:
        return frame.filter(pl.col("account_id") == account)
    if "number" in frame.columns:
        numbers = business.register.documents().filter(pl.col("account_id") == account)["number"]
        return frame.filter(pl.col("number").is_in(numbers.implode()))
    raise RefusedError(f"{table.name} has no rows of one account: leave --account out")


def _parquet(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def _check_month(business: Business, table: Table, month: str) -> None:
    """Months of billing begin with the catalogue's; usage may have been delivered, and may have happened, before."""
    if table not in (EVENTS, REJECTS, INGEST):
        business.refuse_unknown_month(month)
        return
    try:
        first_day(month)
    except ValueError:
        raise RefusedError(f"unknown month: found {month!r}, expected a month such as 2026-01") from None
