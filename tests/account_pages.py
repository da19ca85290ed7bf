"""The pages of all accounts of a business of one shard, written in one call."""

from datetime import date

import polars as pl

from billing.month.business import Business
from billing.reports import profiles
from billing.reports.portal_pages import PortalPages
from billing.reports.profile_pages import ProfilePages
from billing.reports.profiles import NextBills


def next_bills(business: Business, as_of: date) -> NextBills:
    """What the next bills of all accounts are made of."""
    [(_, bills)] = profiles.next_bills(business, as_of)
    return bills


def write_portal_pages(business: Business, bills: NextBills) -> int:
    """Write the accounts' own pages; returns how many were written."""
    pages = PortalPages(business)
    written = pages.write(business, bills)
    pages.finish()
    return written


def write_profile_pages(business: Business, profiles: pl.DataFrame, names: dict[str, str | None]) -> None:
    """Write the pages for finance, all of them anew."""
    pages = ProfilePages(business.home, business.catalogue, profiles["account_id"])
    called = pl.DataFrame(list(names.items()), {"account_id": pl.String, "name": pl.String}, orient="row")
    pages.write(profiles, profiles.clear(), called)
    pages.finish()
