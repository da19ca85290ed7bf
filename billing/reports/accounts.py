"""What is written of every account as of a day: its tables and pages, shard by shard (rule 25)."""

from typing import Final, NamedTuple

import polars as pl

from billing.inputs.divided_rows import DividedRows
from billing.model.account_tables import ALLOCATIONS, BALANCES, COLLECTIONS, CREDITS, PROFILE
from billing.month.business import Business
from billing.month.credits import credits
from billing.reports.portal_pages import PortalPages
from billing.reports.profile_pages import ProfilePages
from billing.reports.profiles import allocations, balances, collections, next_bills, rows_of_accounts
from billing.store.frames import read_frame, scan_frames
from billing.store.sorted_parts import SortedParts

ACCOUNT_TABLES: Final = (PROFILE, BALANCES, ALLOCATIONS, CREDITS, COLLECTIONS)


class PagesWritten(NamedTuple):
    """How many pages were written: for finance, and the accounts' own."""

    pages: int
    own_pages: int


def write_accounts(business: Business) -> PagesWritten:
    """Write the tables of all accounts, their pages for finance, and their own pages: memory follows the shard."""
    pages = ProfilePages(business.home, business.catalogue, _account_ids(business))
    # A draft looks ahead: what customers see is of today.
    shows = business.issues or not business.catalogue.policy.auto_issue
    own_pages = PortalPages(business) if shows else None
    tables = {table: SortedParts(table.key) for table in ACCOUNT_TABLES}
    written, own_written = 0, 0
    for shard, bills in next_bills(business, business.as_of):
        computed = (bills.profiles, balances(shard), allocations(shard), credits(shard), collections(shard))
        for table, frame in zip(ACCOUNT_TABLES, computed, strict=True):
            tables[table].add(frame)
        names, previous = shard.inputs.accounts.select("account_id", "name"), _previous(business, shard, bills.profiles)
        for batch in bills.in_batches():
            its_previous, its_names = (rows_of_accounts(each, batch.profiles) for each in (previous, names))
            written += pages.write(batch.profiles, its_previous, its_names)
        own_written += 0 if own_pages is None else own_pages.write(shard, bills)
    written += pages.finish()
    if own_pages is not None:
        own_pages.finish()
    for table, parts in tables.items():
        parts.write(business.home.whole(table), table)
    return PagesWritten(written, own_written)


def _account_ids(business: Business) -> pl.Series:
    rows = business.inputs.all_accounts
    if isinstance(rows, DividedRows):
        return rows.scan().select("account_id").collect()["account_id"]
    return rows["account_id"]


def _previous(business: Business, shard: Business, now: pl.DataFrame) -> pl.DataFrame:
    """The profiles of a shard's accounts as they were written before."""
    path = business.home.whole(PROFILE)
    if shard is business or not path.exists():
        return read_frame(path, PROFILE)
    return scan_frames([path], PROFILE).join(now.lazy().select("account_id"), on="account_id", how="semi").collect()
