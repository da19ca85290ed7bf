"""Find issued months that differ from what is due: `overage correct` can correct them (rule 21)."""

from collections.abc import Sequence

import polars as pl

from billing.model.calendar import months_after
from billing.month.business import Business
from billing.month.true_ups import month_differences
from billing.rules.credited_documents import by_billing_document


def months_to_correct(business: Business, through: str, accounts: Sequence[str] = ()) -> tuple[list[str], bool]:
    """The billing months with documents that differ from what is due, and whether a difference has no document.

    Parameters
    ----------
    through
        The last month that is looked at; it and all before it are up to date.
    accounts
        Of these accounts only; none means all.

    Returns
    -------
    tuple
        The months, sorted; and whether a difference is of a date without a document: the next document settles it.
    """
    differences = month_differences(business, business.first_month or through, months_after(through, 1))
    if accounts:
        differences = differences.filter(pl.col("account_id").is_in(accounts))
    if differences.is_empty():
        return [], False
    days = differences["billing_date"].sort()
    of_accounts = differences["account_id"].unique().sort().to_list()
    billed = business.register.lines_of_accounts(of_accounts, days[0], days[-1])
    documents = business.register.documents().filter(pl.col("corrects").is_null())
    on_its_date = documents.select("subscription_id", "billing_date", own="number")
    different = (
        by_billing_document(differences, billed)
        .join(on_its_date, on=["subscription_id", "billing_date"], how="left")
        .select(number=pl.coalesce("gives_back", "own"))
        .join(documents.select("number", "billing_month"), on="number", how="left")
    )["billing_month"]
    return different.drop_nulls().unique().sort().to_list(), different.null_count() > 0


def nothing_to_correct(business: Business, month: str, through: str, accounts: Sequence[str] = ()) -> str:
    """Why a correction of a month issues nothing, in words, with the months that do differ."""
    whose = f" of {', '.join(accounts)}" if accounts else ""
    message = f"nothing to correct: no document of {month}{whose} differs from what is due"
    months, waits = months_to_correct(business, through, accounts)
    if months:
        return f"{message}; those of {', '.join(months)} do: overage correct {months[0]}"
    return f"{message}; what is due of dates without a document is settled on the next one" if waits else message
