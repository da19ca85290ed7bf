"""The figures of a month report: sums over accounts, added up over the shards of the month.

Each shard gives frames that add up (`Sums`); what does not add up - ranks, changes, bounds - is made of the sums.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Final

import polars as pl

from billing.model.calendar import first_day, months_after
from billing.model.codes import Age, LineKind, Term
from billing.model.columns import MONEY, Table
from billing.model.tables import CHARGES, DRAFT_LINES, DRAFTS, PACKAGES
from billing.month.business import Business
from billing.month.credits import month_credits
from billing.reports.month_by_kind import billed_by_kind, sums_by_kind
from billing.reports.totals_histogram import totals_histogram
from billing.rules.balances import amounts_to_collect
from billing.rules.receivables import is_of_a_document
from billing.store.monthly import read_month

CAUSES: Final = (
    "new customers",
    "customers without a bill now",
    "moved to a larger package",
    "moved to a smaller package",
    "fee of the same package",
    "fees of yearly terms",
    "overage",
    "corrections and refunds",
    "tax",
)
AGES: Final = tuple(Age)
_MOVEMENTS: Final = 10
_LONGEST_NAME: Final = 60
_ZERO: Final = pl.lit(0).cast(MONEY)
_AMOUNTS: Final = ("fees", "overage", "other", "tax", "total")
_COMPARED: Final = (*_AMOUNTS, "yearly")
_SETTLED: Final = "lines of earlier cycles, before tax"


@dataclass(frozen=True)
class Figures:
    """What a report adds up of one currency; money is MONEY, quantities are in the metric's unit.

    Attributes
    ----------
    by_package
        package, accounts, fees, overage, other, tax, total, before, change: a document belongs to the package whose fee
        stands on it. Sorted by the packages' rank.
    by_metric
        metric, accounts_over, excess, overage, before, change.
    causes
        cause, accounts, change: they add up to the change of the total.
    movements
        account_id, name, before, now, change: the accounts whose total changed most.
    corrections
        what, documents, total: notes, and lines of earlier cycles.
    receivables
        age, documents, amount_due.
    credits
        As `month_credits`; empty where no credit was ever granted.
    spread
        bound, documents: how many documents are up to an amount and over the bound before it.
    by_kind
        As `billed_by_kind`.
    """

    by_package: pl.DataFrame
    by_metric: pl.DataFrame
    causes: pl.DataFrame
    movements: pl.DataFrame
    corrections: pl.DataFrame
    receivables: pl.DataFrame
    credits: pl.DataFrame
    spread: pl.DataFrame
    by_kind: pl.DataFrame


@dataclass(frozen=True)
class Sums:
    """What a shard gives of one currency: frames whose rows of the same keys add up.

    Attributes
    ----------
    counts
        is_draft, documents.
    packages, packages_before
        package, accounts, fees, overage, other, tax, total; and package, before.
    charges, charges_before
        metric, accounts_over, excess, overage.
    causes
        cause, accounts, change.
    movements
        As `Figures.movements`; the largest of all shards are the largest of those of each.
    corrections
        As `Figures.corrections`.
    receivables
        As `Figures.receivables`.
    credits
        As `month_credits`.
    totals
        total: of each document.
    kinds
        As `sums_by_kind`.
    settled
        metric, settled: what lines of earlier cycles bill of it.
    """

    counts: pl.DataFrame
    packages: pl.DataFrame
    packages_before: pl.DataFrame
    charges: pl.DataFrame
    charges_before: pl.DataFrame
    causes: pl.DataFrame
    movements: pl.DataFrame
    corrections: pl.DataFrame
    receivables: pl.DataFrame
    credits: pl.DataFrame
    totals: pl.DataFrame
    kinds: pl.DataFrame
    settled: pl.DataFrame


_KEYS_OF_SUMS: Final = {
    "counts": ["is_draft"],
    "packages": ["package"],
    "packages_before": ["package"],
    "charges": ["metric"],
    "charges_before": ["metric"],
    "causes": ["cause"],
    "corrections": ["what"],
    "receivables": ["age"],
    "credits": ["kind"],
    "kinds": ["kind"],
    "settled": ["metric"],
}


def sums_of_month(business: Business, month: str, on: date) -> dict[str, Sums]:
    """The sums of a business, or shard, by currency."""
    return {part.catalogue.currency: _sums(part, month, on) for part in business.by_currency}


def _sums(business: Business, month: str, on: date) -> Sums:
    before = months_after(month, -1)
    lines = _lines(business, month)
    now, then = _billed(business, month, lines), _billed(business, before, _lines(business, before))
    return Sums(
        counts=now.group_by("is_draft").agg(documents=pl.len()),
        packages=now.group_by("package").agg(pl.col("account_id").n_unique().alias("accounts"), pl.col(_AMOUNTS).sum()),
        packages_before=then.group_by("package").agg(before=pl.col("total").sum()),
        charges=_charges(business, month),
        charges_before=_charges(business, before),
        causes=_causes(now, then, business, month),
        movements=_movements(now, then, business),
        corrections=_corrections(now, lines),
        receivables=_receivables(business, month, on),
        credits=month_credits(business, first_day(month), on),
        totals=now.select("total"),
        kinds=sums_by_kind(lines),
        settled=_settled(lines),
    )


def added_up(shards: Iterable[Mapping[str, Sums]], own: str) -> dict[str, Sums]:
    """The sums of all shards by currency, `own` first."""
    found: dict[str, list[Sums]] = {}
    for sums in shards:
        for code, of_shard in sums.items():
            found.setdefault(code, []).append(of_shard)
    return {code: _added(found[code]) for code in (own, *sorted(found.keys() - {own})) if code in found}


def _added(sums: Sequence[Sums]) -> Sums:
    if len(sums) == 1:
        return sums[0]

    def added(name: str) -> pl.DataFrame:
        frames, keys = [getattr(one, name) for one in sums], _KEYS_OF_SUMS.get(name)
        return pl.concat(frames) if keys is None else added_rows(frames, keys)

    return Sums(**{each.name: added(each.name) for each in fields(Sums)})


def added_rows(frames: Sequence[pl.DataFrame], keys: Sequence[str]) -> pl.DataFrame:
    """The rows of frames of the same columns, those of the same keys added up."""
    if len(frames) == 1:
        return frames[0]
    rows = pl.concat(frames)
    return rows.group_by(keys, maintain_order=True).agg(pl.exclude(keys).sum()).cast(rows.schema)


def figures(sums: Sums, business: Business) -> Figures:
    """What the report says, of sums of all shards."""
    ages, causes = ({name: place for place, name in enumerate(names)} for names in (AGES, CAUSES))
    return Figures(
        by_package=_by_package(sums, business),
        by_metric=_by_metric(sums, business),
        causes=sums.causes.sort(pl.col("cause").replace_strict(causes, return_dtype=pl.Int64)),
        movements=sums.movements.sort(pl.col("change").abs(), "account_id", descending=[True, False]).head(_MOVEMENTS),
        # What is settled comes last.
        corrections=sums.corrections.sort(pl.col("what") == _SETTLED, "what"),
        receivables=sums.receivables.sort(pl.col("age").replace_strict(ages, return_dtype=pl.Int64)),
        credits=sums.credits.sort("kind"),
        spread=totals_histogram(sums.totals),
        by_kind=billed_by_kind(sums.kinds),
    )


def _billed(business: Business, month: str, lines: pl.DataFrame) -> pl.DataFrame:
    """A row per document or draft: account_id, package, kind, is_draft, corrects and the amounts.

    `yearly` is the part of the fees for yearly terms: due once in twelve months.
    """
    keys = ["subscription_id", "billing_date", "number"]
    terms = business.lives.subscriptions.select("subscription_id", "term").unique("subscription_id")
    lines = lines.join(terms, on="subscription_id", how="left", maintain_order="left")
    amount, kind = pl.col("amount"), pl.col("kind")
    is_fee, is_overage = kind.is_in([LineKind.PACKAGE_FEE, LineKind.HOLD_FEE]), kind == LineKind.OVERAGE
    sums = lines.group_by(keys).agg(
        package=pl.coalesce(
            pl.col("package").filter(is_fee & pl.col("package").is_not_null()).first(),
            pl.col("package").drop_nulls().first(),
        ),
        fees=amount.filter(is_fee).sum(),
        yearly=amount.filter(is_fee & (pl.col("term") == Term.YEARLY)).sum(),
        overage=amount.filter(is_overage).sum(),
        other=amount.filter(~is_fee & ~is_overage).sum(),
    )
    columns = ["account_id", "subscription_id", "billing_date", "kind", "corrects", "tax", "total"]
    drafts = _read(business, DRAFTS, month, columns)
    documents = pl.concat(
        [
            business.rows(business.register.documents([month])).select(*columns, "number", is_draft=pl.lit(False)),
            drafts.select(*columns, number=pl.lit(None, pl.String), is_draft=pl.lit(True)),
        ]
    )
    return documents.join(sums, on=keys, how="left", nulls_equal=True).with_columns(
        pl.col("fees", "yearly", "overage", "other").fill_null(_ZERO), package=pl.col("package").fill_null("")
    )


def _lines(business: Business, month: str) -> pl.DataFrame:
    """The lines of documents and drafts: number (null on a draft), subscription_id, billing_date, and of the line."""
    columns = ["subscription_id", "billing_date", "number", "kind", "metric", "package", "amount"]
    dated = business.rows(business.register.documents([month])).select("number", "subscription_id", "billing_date")
    issued = business.register.lines([month]).join(dated, on="number", maintain_order="left")
    drafted = _read(business, DRAFT_LINES, month).with_columns(number=pl.lit(None, pl.String))
    return pl.concat([issued.select(columns), drafted.select(columns)])


def _by_package(sums: Sums, business: Business) -> pl.DataFrame:
    ranks = {package.name: package.rank for package in business.catalogue.packages}
    return (
        sums.packages.join(sums.packages_before, on="package", how="full", coalesce=True)
        .with_columns(pl.col("accounts").fill_null(0), pl.col(*_AMOUNTS, "before").fill_null(_ZERO))
        .with_columns(change=pl.col("total") - pl.col("before"))
        .sort(pl.col("package").replace_strict(ranks, default=0, return_dtype=pl.Int64), "package")
    )


def _charges(business: Business, month: str) -> pl.DataFrame:
    return (
        _read(business, CHARGES, month)
        .group_by("metric")
        .agg(
            # A metric by dimension has a charge for each rule.
            accounts_over=pl.col("subscription_id").filter(pl.col("excess") > 0).n_unique().cast(pl.Int64),
            excess=pl.col("excess").sum(),
            overage=pl.col("amount").sum(),
        )
    )


def _by_metric(sums: Sums, business: Business) -> pl.DataFrame:
    order = {metric.name: place for place, metric in enumerate(business.catalogue.metrics)}
    return (
        sums.charges.join(sums.charges_before.select("metric", before="overage"), on="metric", how="left")
        .with_columns(pl.col("before").fill_null(_ZERO))
        .with_columns(change=pl.col("overage") - pl.col("before"))
        .sort(pl.col("metric").replace_strict(order, default=len(order), return_dtype=pl.Int64), "metric")
    )


def _by_account(billed: pl.DataFrame) -> pl.DataFrame:
    return billed.group_by("account_id").agg(
        pl.col("package").filter(pl.col("fees") != 0).first(), pl.col(_COMPARED).sum()
    )


def _compared(now: pl.DataFrame, then: pl.DataFrame) -> pl.DataFrame:
    both = _by_account(now).with_columns(is_now=pl.lit(True))
    earlier = _by_account(then).with_columns(was_then=pl.lit(True))
    return both.join(earlier, on="account_id", how="full", coalesce=True, suffix="_before").with_columns(
        pl.col("is_now", "was_then").fill_null(value=False),
        pl.col(*_COMPARED, *(f"{name}_before" for name in _COMPARED)).fill_null(_ZERO),
    )


def _causes(now: pl.DataFrame, then: pl.DataFrame, business: Business, month: str) -> pl.DataFrame:
    """Causes of the change of the total against the month before, with their amounts per account.

    Compare yearly fees separately: they fall due once in twelve months. A customer without a bill in a month, because
    nothing fell due, has not left.
    """
    ranks = {package.name: package.rank for package in business.catalogue.packages}
    compared = _compared(now, then)
    lives_on = _yearly_customers(business, month)
    stays = pl.col("account_id").is_in(lives_on.implode())
    is_new, is_gone = ~pl.col("was_then") & ~stays, ~pl.col("is_now") & ~stays
    both = compared.filter(~is_new & ~is_gone).with_columns(
        rise=_rank("package", ranks) - _rank("package_before", ranks)
    )
    parts = [
        compared.filter(is_new).select(cause=pl.lit(CAUSES[0]), change="total"),
        compared.filter(is_gone).select(cause=pl.lit(CAUSES[1]), change=-pl.col("total_before")),
        both.select(
            cause=pl.when(pl.col("rise") > 0)
            .then(pl.lit(CAUSES[2]))
            .when(pl.col("rise") < 0)
            .then(pl.lit(CAUSES[3]))
            .otherwise(pl.lit(CAUSES[4])),
            change=pl.col("fees") - pl.col("yearly") - pl.col("fees_before") + pl.col("yearly_before"),
        ),
        *(
            both.select(cause=pl.lit(cause), change=pl.col(name) - pl.col(f"{name}_before"))
            for cause, name in zip(CAUSES[5:], ("yearly", "overage", "other", "tax"), strict=True)
        ),
    ]
    return (
        pl.concat(parts)
        .filter(pl.col("change") != 0)
        .group_by("cause")
        .agg(accounts=pl.len(), change=pl.col("change").sum())
    )


def _yearly_customers(business: Business, month: str) -> pl.Series:
    """The accounts with a yearly subscription that was there before the month's billing date and goes on after it."""
    packages = _read(business, PACKAGES, month).filter(
        pl.col("closing_package").is_not_null() & pl.col("opening_package").is_not_null()
    )
    yearly = business.lives.subscriptions.filter(pl.col("term") == Term.YEARLY)
    return packages.join(yearly, on="subscription_id", how="semi")["account_id"].unique()


def _rank(column: str, ranks: dict[str, int]) -> pl.Expr:
    return pl.col(column).replace_strict(ranks, default=None, return_dtype=pl.Int64)


def _movements(now: pl.DataFrame, then: pl.DataFrame, business: Business) -> pl.DataFrame:
    change = pl.col("total") - pl.col("total_before")
    return (
        _compared(now, then)
        .select("account_id", before="total_before", now="total", change=change)
        .filter(pl.col("change") != 0)
        .sort(pl.col("change").abs(), "account_id", descending=[True, False])
        .head(_MOVEMENTS)
        .join(business.inputs.accounts.select("account_id", "name"), on="account_id", how="left", maintain_order="left")
        .select("account_id", pl.col("name").fill_null("").str.slice(0, _LONGEST_NAME), "before", "now", "change")
    )


def _corrections(now: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
    notes = (
        now.filter(pl.col("corrects").is_not_null())
        .group_by(what=pl.col("kind").str.replace("_", " "))
        .agg(documents=pl.len(), total=pl.col("total").sum())
    )
    earlier = lines.filter(pl.col("kind") == LineKind.PRIOR_CYCLE)
    settled = earlier.select(what=pl.lit(_SETTLED), documents=pl.len(), total=pl.col("amount").sum())
    return pl.concat([notes, settled.filter(pl.col("documents") > 0)])


def _receivables(business: Business, month: str, on: date) -> pl.DataFrame:
    """Accounts receivable at the end of `on`, of documents of the month and before."""
    is_opening = ~is_of_a_document("number") & (pl.col("issued_on") <= on)
    its = pl.col("currency") == business.catalogue.currency if business.whole is not None else pl.lit(value=True)
    documents = business.receivables.filter(((pl.col("billing_month") <= month) | is_opening) & its)
    is_known = pl.col("document").is_in(documents["number"].implode()) | ~is_of_a_document("document")
    payments = business.payments.filter((pl.col("on") <= on) & is_known & its)
    no_cards = business.requests.head(0)
    by_age = amounts_to_collect(documents, payments, no_cards, on).group_by("age")
    return by_age.agg(documents=pl.len(), amount_due=pl.col("amount_due").sum())


def _settled(lines: pl.DataFrame) -> pl.DataFrame:
    settled = lines.filter((pl.col("kind") == LineKind.PRIOR_CYCLE) & pl.col("metric").is_not_null())
    return settled.group_by("metric").agg(settled=pl.col("amount").sum())


def _read(business: Business, table: Table, month: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    return business.rows(read_month(business.home, table, month, columns))
