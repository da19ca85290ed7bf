"""Compare another system's invoices with the documents and drafts here: by account and line kind, what differs and why.

A row of the other system is compared with the document here of the same billing date; without a date, with the
account's first one here.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import polars as pl

from billing.inputs.old_invoices import DUE, SUMS, TAX, TOTAL, read_old_invoices
from billing.model.calendar import month_of, months_after
from billing.model.codes import LineKind
from billing.model.columns import MONEY
from billing.model.plain_rows import plain_rows
from billing.model.tables import DRAFT_LINES, DRAFT_TAXES, DRAFTS
from billing.month.business import Business
from billing.month.scratch_copy import bring_up_to_date, scratch_copy
from billing.month.steps import ingest_usage
from billing.reports.row_decimals import decimals_of

COMPARED: Final = ("account_id", "billing_date", "kind", "metric", "old", "new", "difference", "why")
_KEYS: Final = ["account_id", "billing_date", "kind", "metric"]
_HERE: Final = pl.Schema(
    {
        "account_id": pl.String(),
        "billing_date": pl.Date(),
        "kind": pl.String(),
        "metric": pl.String(),
        "new": MONEY,
        "words": pl.String(),
    }
)
_ZERO: Final = pl.lit(0).cast(MONEY)
_MEASURED: Final = (LineKind.OVERAGE, LineKind.SEATS, LineKind.PRIOR_CYCLE)
_NOT_HERE: Final[Mapping[str, str]] = {
    LineKind.OVERAGE: "nothing went over an allowance here",
    LineKind.COUPON: "no coupon takes anything off here",
    LineKind.ADD_ON: "no add-on is held here",
    LineKind.SEATS: "no seats beyond those included here",
    LineKind.CHARGE: "no one-off charge falls due here",
    LineKind.MINIMUM_SPEND: "there is no minimum spend here, or what was due came to it",
    DUE: "prepaid credits pay all of it here",
}


@dataclass(frozen=True)
class Compared:
    """What differs from the invoices of another system.

    Attributes
    ----------
    differences
        COMPARED, sorted; no row where everything agrees.
    only_here
        Ids of accounts that have documents or drafts in the months that are compared, and are not in the other table.
    """

    differences: pl.DataFrame
    only_here: list[str]


def compare_invoices(business: Business, path: Path, month: str | None = None) -> Compared:
    """Compare with a table of another system's invoices.

    Parameters
    ----------
    path
        A table of account_id, amount and, if it has them, kind (of a line, tax, total or due), metric, billing_date and
        quantity.
    month
        Compare with all documents of this billing month together, whatever their dates in the table.

    Raises
    ------
    RefusedError
        When a row of the table is wrong, or the month unknown.
    """
    old = read_old_invoices(path, business.catalogue)
    dates = _first_dates(business, old["account_id"].unique(), month)
    months = _months(business, old, dates, month)
    here = _here(business, months)
    only_here = here.join(old, on="account_id", how="anti")["account_id"].unique().sort().to_list()
    chosen = dates if month is None else _dates_in(here, dates)
    if month is not None:
        # One date for all documents of the month: one of its own has another than the scheduled one.
        first = here.join(chosen, on="account_id").with_columns(billing_date="first_date")
        here = _summed(first.select(here.columns))
    dated = old.join(chosen, on="account_id", how="left", maintain_order="left").with_columns(
        billing_date=pl.col("first_date") if month else pl.coalesce("billing_date", "first_date")
    )
    kinds = dated.select("account_id", "billing_date", "kind").unique()
    wanted = _of_the_same_kinds(here, kinds)
    # Overages without a metric are compared in sum.
    has_metric = dated.filter(pl.col("metric").is_not_null()).select("account_id", "billing_date", "kind").unique()
    wanted = _without_metric(wanted, has_metric)
    both = dated.join(wanted, on=_KEYS, how="full", coalesce=True, nulls_equal=True).with_columns(
        old=pl.col("amount").fill_null(_ZERO), new=pl.col("new").fill_null(_ZERO)
    )
    differing = both.with_columns(difference=(pl.col("new") - pl.col("old")).cast(MONEY)).filter(
        pl.col("difference") != 0
    )
    known = _Known.of(business, here)
    reasons = [_why(row, known) for row in differing.iter_rows(named=True)]
    named = differing.with_columns(why=pl.Series(reasons, dtype=pl.String)).select(COMPARED)
    return Compared(named.sort(_KEYS, nulls_last=True), only_here)


def as_plain(compared: pl.DataFrame, business: Business) -> list[dict[str, Any]]:
    """The rows as plain values."""
    return plain_rows(compared, decimals_of(business, compared))


def _first_dates(business: Business, accounts: pl.Series, month: str | None) -> pl.DataFrame:
    """account_id, first_date: the first billing date here of each account's latest subscription."""
    if month is not None:
        business.refuse_unknown_month(month)
    found = (
        business.lives.subscriptions.filter(pl.col("account_id").is_in(accounts.implode()))
        .sort("started_on")
        .group_by("account_id", maintain_order=True)
        .agg(first_date=pl.col("first_billing_date").last())
    )
    # Charges and purchased credits are billed without a subscription, too.
    return accounts.to_frame("account_id").join(found, on="account_id", how="left", maintain_order="left")


def _months(business: Business, old: pl.DataFrame, dates: pl.DataFrame, month: str | None) -> list[str]:
    """The months whose documents are compared; dates far from the first ones are left out."""
    if month is not None:
        return [month]
    days = pl.concat([old["billing_date"], dates["first_date"]]).drop_nulls()
    first, start = business.first_month, dates["first_date"].min()
    if first is None or days.is_empty():
        return []
    latest = months_after(f"{start:%Y-%m}" if isinstance(start, date) else first, 24)
    found = days.to_frame("day").select(month_of(pl.col("day")).unique()).to_series()
    return sorted(each for each in found if first <= each <= latest)


def _here(business: Business, months: Sequence[str]) -> pl.DataFrame:
    """account_id, billing_date, kind, metric, new (amount), words: lines, taxes and totals, issued or drafted."""
    if not months:
        return pl.DataFrame(schema=_HERE)
    with scratch_copy(business, business.as_of) as scratch:
        ingest_usage(scratch)
        bring_up_to_date(scratch, months[-1])
        lines = scratch.scan_months(DRAFT_LINES, months).collect()
        taxes = scratch.scan_months(DRAFT_TAXES, months).collect()
        drafts = scratch.scan_months(DRAFTS, months).select("account_id", "billing_date", "due").collect()
    documents = business.register.documents(months).select("number", "account_id", "billing_date", "due")
    sums = pl.concat([drafts, documents.select(drafts.columns)])
    documents = documents.drop("due")
    issued_lines = business.register.lines(months).join(documents, on="number")
    issued_taxes = business.register.taxes(months).join(documents, on="number")
    line_columns = ["account_id", "billing_date", "kind", "metric", "amount", "description", "quantity", "allowance"]
    tax_columns = ["account_id", "billing_date", "name", "rate", "taxable", "amount", "reason"]
    all_lines = pl.concat([lines.select(line_columns), issued_lines.select(line_columns)])
    all_taxes = pl.concat([taxes.select(tax_columns), issued_taxes.select(tax_columns)])
    no_metric = pl.lit(None, pl.String)
    parts = [
        all_lines.select("account_id", "billing_date", "kind", "metric", new="amount", words=_line_in_words()),
        all_taxes.select(
            "account_id",
            "billing_date",
            kind=pl.lit(TAX),
            metric=no_metric,
            new="amount",
            words=pl.format(
                "{} {} % on {} ({})",
                "name",
                _plain(pl.col("rate") * 100),
                pl.col("taxable").cast(pl.Decimal(38, business.catalogue.minor_units)).cast(pl.String)
                if len(business.inputs.currencies) < 2
                else _plain(pl.col("taxable")),
                "reason",
            ),
        ),
    ]
    detailed = pl.concat(parts)
    totals = detailed.select(
        "account_id", "billing_date", kind=pl.lit(TOTAL), metric=no_metric, new="new", words=pl.lit("")
    )
    dues = sums.select("account_id", "billing_date", kind=pl.lit(DUE), metric=no_metric, new="due", words=pl.lit(""))
    return _summed(pl.concat([detailed, totals, dues]))


def _summed(rows: pl.DataFrame) -> pl.DataFrame:
    """Amounts of the same keys added up, with the words of all of them."""
    words = pl.col("words").filter(pl.col("words") != "").unique(maintain_order=True).str.join("; ")
    return rows.group_by(_KEYS, maintain_order=True).agg(pl.col("new").sum().cast(MONEY), words=words)


def _plain(number: pl.Expr) -> pl.Expr:
    """A decimal as text, without trailing zeros."""
    return number.cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".")


def _line_in_words() -> pl.Expr:
    """The line, with quantity and allowance where it has them; of an add-on or a charge how many."""
    quantity = _plain(pl.col("quantity"))
    measured = (
        pl.when(pl.col("quantity").is_null())
        .then(pl.lit(""))
        .when(pl.col("kind").is_in(_MEASURED))
        .then(pl.format(" ({} used, {} included)", quantity, _plain(pl.col("allowance")).fill_null("all")))
        .otherwise(pl.format(" ({})", quantity))
    )
    return pl.concat_str("description", measured.fill_null(""))


def _dates_in(here: pl.DataFrame, dates: pl.DataFrame) -> pl.DataFrame:
    """account_id, first_date: the first billing date of each account in the documents of a month."""
    first = here.group_by("account_id").agg(first_date=pl.col("billing_date").min())
    return dates.select("account_id").join(first, on="account_id", how="left", maintain_order="left")


def _of_the_same_kinds(here: pl.DataFrame, kinds: pl.DataFrame) -> pl.DataFrame:
    """What is here on dates that the other system has; lines and taxes only where it lists any line or tax."""
    is_sum = pl.col("kind").is_in(SUMS)
    keys = ["account_id", "billing_date"]
    lists = kinds.filter(~is_sum).select(keys).unique()
    return pl.concat(
        [
            here.filter(~is_sum).join(lists, on=keys, how="semi", maintain_order="left"),
            here.filter(is_sum).join(kinds, on=[*keys, "kind"], how="semi", maintain_order="left"),
        ]
    )


def _without_metric(here: pl.DataFrame, has_metric: pl.DataFrame) -> pl.DataFrame:
    """`here`, metrics added up where the other system names none of them."""
    keys = ["account_id", "billing_date", "kind"]
    named = here.join(has_metric, on=keys, how="semi", maintain_order="left")
    rest = here.join(has_metric, on=keys, how="anti", maintain_order="left").with_columns(
        metric=pl.lit(None, pl.String)
    )
    return pl.concat([named, _summed(rest)])


@dataclass(frozen=True)
class _Known:
    """What is known of accounts here: their ids, why they are parked, their documents, their latest subscription."""

    accounts: Set[str]
    parked: Mapping[str, str]
    documents: Set[tuple[str, date]]
    lives: Mapping[str, dict[str, Any]]

    @classmethod
    def of(cls, business: Business, here: pl.DataFrame) -> "_Known":
        parked = dict(business.parked.select("account_id", "detail").iter_rows())
        lives = business.lives.subscriptions.sort("started_on").unique("account_id", keep="last")
        return cls(
            {*business.inputs.known_accounts, *parked},
            parked,
            set(here.select("account_id", "billing_date").iter_rows()),
            {row["account_id"]: row for row in lives.iter_rows(named=True)},
        )


def _why(row: dict[str, Any], known: _Known) -> str:
    account, day, kind = row["account_id"], row["billing_date"], row["kind"]
    if account not in known.accounts:
        return "there is no such account here"
    if account in known.parked:
        return f"it is parked: {known.parked[account]}"
    if (account, day) not in known.documents:
        life = known.lives.get(account)
        return "it has no subscription here" if day is None or life is None else _without_document(day, life)
    words = row["words"] or ""
    if kind not in (*LineKind, TAX, *SUMS):
        return f"there are no lines of this kind here: expected one of {', '.join((*LineKind, TAX, *SUMS))}"
    if row["amount"] is None:
        return f"only here: {words}"
    if row["new"] == 0 and not words:
        return f"only there: {_NOT_HERE.get(kind, 'not due here')}"
    if kind in SUMS:
        return "compare by line kind: give the rows of the other system a kind"
    there = f", {row['quantity']} used there" if row["quantity"] else ""
    if kind == TAX:
        return f"taxed here as {words}"
    return f"here: {words}{there}"


def _without_document(day: date, life: dict[str, Any]) -> str:
    first = life["first_billing_date"]
    why = f"nothing falls due on that date; its first billing date here is {first}"
    if life["end"] is not None:
        why = f"{life['end']} on {life['ended_on']}"
    elif life["held_on"] is not None:
        why = f"on hold since {life['held_on']}"
    elif day < first:
        why = f"it is billed here from {first} on"
    return f"no document here on {day}: {why}"
