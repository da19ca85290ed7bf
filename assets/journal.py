"""Assets for the accounting journal, with its two consistency checks."""

from decimal import Decimal

import polars as pl

from assets.declared import Check, Checked, Made, Step, Yielded, asset
from assets.metadata import keys_by_currency, money_type, one_currency, summary
from assets.resources import BillingHome
from billing.model.account_tables import BALANCES, JOURNAL
from billing.model.codes import LedgerAccount
from billing.model.tables import DOCUMENTS, LINES, TAXES
from billing.reports.journal import (
    LEDGER_ACCOUNTS,
    receivable_differences,
    trial_balance,
    unbalanced_entries,
    write_journal,
)
from billing.store.working_copy import name_of

_SHOWN_MONTHS = 12


@asset(
    name=JOURNAL.name,
    group="reports",
    deps=[DOCUMENTS.name, LINES.name, TAXES.name, BALANCES.name, "payments", "opening_balances", "credit_grants"],
    kinds={"parquet", "polars"},
    description="Balanced postings for accounting, by calendar month: what is owed, paid, earned, deferred and tax.",
    table=JOURNAL,
    checks=[
        Check(
            "debits_equal_credits",
            asset=JOURNAL.name,
            blocking=True,
            description="Every entry of the journal balances.",
        ),
        Check(
            "receivable_equals_balances",
            asset=JOURNAL.name,
            blocking=True,
            description="The receivable of every account in the journal equals its balance.",
        ),
    ],
)
def journal(context: Step, billing_home: BillingHome) -> Yielded:
    """Update the journal, and reconcile it with the balances."""
    business = billing_home.business()
    with context.at_work(business.home, business.register):
        written = write_journal(business)
        unbalanced = unbalanced_entries(business.home)
        differences = receivable_differences(business)
    sums = trial_balance(business)
    yield Made(
        metadata={
            **summary(
                _by_month(sums, money_type(business), keys_by_currency(business, "billing_month")),
                one_currency(business),
                months_written=len(written),
            ),
            "export": f"overage show journal --month MONTH --format csv --home {name_of(business.home.root)}",
        }
    )
    yield Checked(name="debits_equal_credits", passed=unbalanced.is_empty(), metadata={"entries": unbalanced.height})
    yield Checked(
        name="receivable_equals_balances",
        passed=differences.is_empty(),
        metadata={"accounts": differences.height},
    )


def _by_month(sums: pl.DataFrame, money: pl.Decimal, keys: list[str]) -> pl.DataFrame:
    """Rows by `keys`, the newest month first: change of each ledger account.

    Of receivable, cash and credits those are debits, of the others credits.
    """
    gained = pl.col("debit") - pl.col("credit")
    normal = (
        pl.when(pl.col("ledger_account").is_in([LedgerAccount.RECEIVABLE, LedgerAccount.CASH, LedgerAccount.CREDITS]))
        .then(gained)
        .otherwise(-gained)
    )
    months = sums["billing_month"].unique().sort(descending=True).head(_SHOWN_MONTHS)
    return (
        sums.filter(pl.col("billing_month").is_in(months.implode()))
        .with_columns(amount=normal.cast(money))
        .group_by(keys)
        .agg(
            pl.col("amount").filter(pl.col("ledger_account") == account).sum().fill_null(Decimal(0)).alias(account)
            for account in LEDGER_ACCOUNTS
        )
        .sort(keys, descending=[True, False][: len(keys)])
    )
