"""The journal of what is sold beside packages: recognized over its cycle, at once, or when the cycle is over."""

from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from billing.model.codes import LedgerAccount
from billing.month.business import Business
from billing.reports.journal import unbalanced_entries, write_journal
from billing.reports.show import read_table
from tests.by_steps import rows


@pytest.fixture(scope="module")
def journal(sold: Business) -> pl.DataFrame:
    write_journal(sold)
    return read_table(sold, name="journal")


def number(business: Business, account: str, on: str) -> str:
    found = rows(business, "documents", "number", "billing_date", account_id=account)
    return str(next(number for number, day in found if str(day) == on))


def posted(journal: pl.DataFrame, entry: str, kind: str) -> dict[str, list[Decimal]]:
    """Credit less debit by ledger account, month by month."""
    own = journal.filter((pl.col("entry") == entry) & (pl.col("kind") == kind)).sort("posted_on", maintain_order=True)
    sides = own.select("ledger_account", amount=pl.col("credit") - pl.col("debit"))
    found: dict[str, list[Decimal]] = {}
    for account, amount in sides.iter_rows():
        found.setdefault(account, []).append(amount.quantize(Decimal("0.01")))
    return found


def amounts(*values: str) -> list[Decimal]:
    return [Decimal(value) for value in values]


def test_every_entry_balances(sold: Business, journal: pl.DataFrame) -> None:
    assert journal.height
    assert unbalanced_entries(sold.home).is_empty()


def test_fees_add_ons_and_seats_are_deferred_with_their_coupons_and_the_rest_is_earned(
    sold: Business, journal: pl.DataFrame
) -> None:
    found = posted(journal, number(sold, "usual", "2026-02-10"), "document")
    # 99.00 + 36.00 + 60.00 less 10 %, less their shares of the 10.00: 1.75, 0.64 and 1.06
    assert found[LedgerAccount.DEFERRED_REVENUE] == amounts("172.05")
    # Charges 120.00 and 250.00, and seats added in the cycle that is over, 1.16.
    assert found[LedgerAccount.REVENUE] == amounts("371.16")
    # The credit by hand, and the coupons on charges and on those seats.
    assert found[LedgerAccount.CREDITS] == amounts("-63.67")


def test_what_is_deferred_is_released_over_its_cycle(sold: Business, journal: pl.DataFrame) -> None:
    released = posted(journal, number(sold, "usual", "2026-02-10"), "release")
    # 19 of 28 days in February, the rest in March.
    assert released[LedgerAccount.DEFERRED_REVENUE] == amounts("-116.75", "-55.30")
    assert sum(released[LedgerAccount.REVENUE]) == Decimal("195.00")
    assert sum(released[LedgerAccount.CREDITS]) == Decimal("-22.95")


def test_an_upgrade_at_once_is_deferred_and_a_minimum_spend_is_not(sold: Business, journal: pl.DataFrame) -> None:
    upgrade = posted(journal, number(sold, "upgraded", "2026-01-20"), "document")
    assert upgrade[LedgerAccount.DEFERRED_REVENUE] == amounts("67.74")
    minimum = posted(journal, number(sold, "short", "2026-02-10"), "document")
    assert minimum[LedgerAccount.REVENUE] == amounts("4.23")
    assert LedgerAccount.DEFERRED_REVENUE not in minimum


def test_a_charge_is_earned_at_once(sold: Business, journal: pl.DataFrame) -> None:
    charge = posted(journal, number(sold, "own", "2026-01-20"), "document")
    assert charge == {
        LedgerAccount.RECEIVABLE: amounts("-96.00"),
        LedgerAccount.REVENUE: amounts("80.00"),
        LedgerAccount.TAX: amounts("16.00"),
    }
    day = journal.filter(pl.col("entry") == number(sold, "own", "2026-01-20"))["posted_on"].unique().to_list()
    assert day == [date(2026, 1, 31)]
