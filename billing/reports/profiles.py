"""The billing profile of every account as of a date (rule 25)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import polars as pl

from billing.ingest import accounts_of_events, scan_events
from billing.model.account_tables import ALLOCATIONS, BALANCES, PROFILE
from billing.model.calendar import midnight, months_after, months_between
from billing.model.codes import AllocationSource, DecisionKind, DocumentKind, Outcome, SubscriptionStatus
from billing.model.columns import MONEY, Table
from billing.model.tables import CYCLES, DUES, LEVELS, PACKAGES, USAGE
from billing.month.business import Business
from billing.month.credits import credits, credits_in_order
from billing.month.held_offers import coupon_holdings, held_add_ons
from billing.month.scratch_copy import bring_up_to_date, scratch_copy
from billing.month.shards import each_new_shard
from billing.month.steps import cycles_of_month
from billing.rules.add_ons import HELD_SCHEMA, held_and_coming
from billing.rules.allocations import allocate, with_open_amounts
from billing.rules.balances import account_balances, amounts_to_collect
from billing.rules.charges import rated_usage
from billing.rules.coupons import COUNTED_SCHEMA, counted_documents
from billing.rules.credit_balances import next_expiries
from billing.rules.dimensions import over_all_rules
from billing.rules.held_coupons import held_coupons
from billing.rules.missing_accounts import that_waited, while_parked
from billing.rules.receivables import is_of_a_document
from billing.rules.tax import document_taxes
from billing.rules.usage_by_day import USAGE_BY_DAY, usage_by_day
from billing.store.monthly import read_month

_KEYS: Final = ["account_id", "subscription_id", "billing_date"]
_OF_ACCOUNT: Final = ["account_id", "currency"]
_ZERO: Final = pl.lit(0).cast(MONEY)


def balances(business: Business) -> pl.DataFrame:
    """The table BALANCES: documents are facts, payments count up to the as-of day."""
    documents, payments = with_open_amounts(business.receivables, business.payments), business.payments
    own = business.catalogue.currency
    found = {*documents["currency"].unique(), *payments["currency"].unique()} - {own}
    if not found:
        return account_balances(documents, payments, own)
    return BALANCES.conform(
        pl.concat(
            account_balances(
                documents.filter(pl.col("currency") == code), payments.filter(pl.col("currency") == code), code
            )
            for code in (own, *sorted(found))
        )
    )


def documents_with_open_amounts(business: Business) -> pl.DataFrame:
    """As `with_open_amounts`, of issued documents only."""
    return with_open_amounts(business.receivables, business.payments).filter(is_of_a_document("number"))


def allocations(business: Business) -> pl.DataFrame:
    """The table ALLOCATIONS: which payments, credit notes and prepaid credits pay which document."""
    uses = business.register.credit_uses()
    by_grants = (
        uses.group_by("account_id", "number", "grant_id")
        .agg(pl.col("amount").sum(), pl.col("issued_on").first())
        .select(
            "account_id",
            "number",
            "amount",
            source="grant_id",
            source_kind=pl.lit(AllocationSource.GRANT),
            on="issued_on",
        )
    )
    allocated = allocate(business.receivables, business.payments)
    return allocated if uses.is_empty() else ALLOCATIONS.conform(pl.concat([allocated, by_grants], how="diagonal"))


def collections(business: Business) -> pl.DataFrame:
    """The table COLLECTIONS: what to charge to which card."""
    approved = business.lives.answers.filter(
        (pl.col("kind") == DecisionKind.CHANGE_CARD) & (pl.col("outcome") == Outcome.APPROVED)
    )
    changes = business.requests.join(approved.select("request_id"), on="request_id", how="semi")
    return amounts_to_collect(business.receivables, business.payments, changes, business.as_of)


@dataclass(frozen=True)
class NextBills:
    """What the accounts' own pages say beside the table PROFILE.

    Attributes
    ----------
    profiles
        The table PROFILE.
    cycles
        account_id, cycle_start, cycle_end: of the open cycles that have begun.
    lines
        account_id, kind, metric, rule, package, description, amount: what makes up `upcoming_amount` without tax.
    taxes
        account_id, name, rate, amount, reason: its taxes.
    days
        account_id, metric, day, quantity: as `usage_by_day`.
    """

    profiles: pl.DataFrame
    cycles: pl.DataFrame
    lines: pl.DataFrame
    taxes: pl.DataFrame
    days: pl.DataFrame

    def in_batches(self, accounts: int = 10_000) -> "Iterator[NextBills]":
        """The same of so many accounts at a time: whoever makes rows of Python of them needs 17 kB an account."""
        if self.profiles.height <= accounts:
            yield self
            return
        for profiles in self.profiles.iter_slices(accounts):
            others = (self.cycles, self.lines, self.taxes, self.days)
            yield NextBills(profiles, *(rows_of_accounts(each, profiles) for each in others))


def rows_of_accounts(rows: pl.DataFrame, profiles: pl.DataFrame) -> pl.DataFrame:
    """The rows (account_id) of the accounts with these profiles, in their order."""
    return rows.join(profiles.select("account_id"), on="account_id", how="semi", maintain_order="left")


def account_profiles(business: Business, as_of: date) -> pl.DataFrame:
    """Rule 25: the table PROFILE, every account, whether it ever subscribed or not.

    Compute the next document in a scratch copy, as if its cycle closed with the usage so far.
    """
    with _next_documents(business, as_of) as (scratch, months):
        found = [_profiles(shard, months, _upcoming(shard, months)) for shard in each_new_shard(scratch)]
    return found[0] if len(found) == 1 else PROFILE.conform(pl.concat(found))


def next_bills(business: Business, as_of: date) -> Iterator[tuple[Business, NextBills]]:
    """As `account_profiles`, with what the next bills are made of and the usage by day of the open cycles.

    One shard of the business after the other, with those of its accounts.
    """
    with _next_documents(business, as_of) as (scratch, months):
        for own, computed in zip(each_new_shard(business), each_new_shard(scratch), strict=True):
            yield own, _next_bills(computed, months)


def _next_bills(business: Business, months: list[str]) -> NextBills:
    upcoming = _upcoming(business, months)
    dated = upcoming.select("account_id", "subscription_id", "billing_date")
    lines, taxes = _lines_and_taxes(business, upcoming, months)
    goes_on = dated.select("subscription_id")
    return NextBills(
        _profiles(business, months, upcoming),
        upcoming.filter(pl.col("cycle_start") <= business.as_of).select(
            "account_id", "cycle_start", cycle_end="billing_date"
        ),
        lines.join(goes_on, on="subscription_id", how="semi", maintain_order="left"),
        taxes.join(goes_on, on="subscription_id", how="semi", maintain_order="left"),
        _by_day(business, dated, months),
    )


@contextmanager
def _next_documents(business: Business, as_of: date) -> Iterator[tuple[Business, list[str]]]:
    """The business in a scratch copy that is computed ahead, and the months of the next billing dates."""
    month = as_of.strftime("%Y-%m")
    with scratch_copy(business, as_of) as scratch:
        last = max([months_after(month, 1), *map(_last_next_month, each_new_shard(scratch))])
        months = months_between(month, last)
        # Drafts of later months say nothing about the next bills.
        bring_up_to_date(scratch, last, drafted_through=month)
        yield scratch, months


def _last_next_month(business: Business) -> str:
    """The last month of the first billing dates after a trial, or here after a move: it may be months away."""
    subscriptions, as_of = business.lives.subscriptions, business.as_of
    on_trial = subscriptions.filter(
        (pl.col("grid_start") > as_of) & pl.all_horizontal(pl.col("end", "held_on").is_null())
    )
    moving_in = subscriptions.filter(pl.col("billed_through") > as_of)
    days = (on_trial["grid_start"].max(), moving_in["first_billing_date"].max())
    return max((f"{day:%Y-%m}" for day in days if isinstance(day, date)), default="")


def _latest(business: Business) -> pl.DataFrame:
    """The latest subscription of each account."""
    return business.lives.subscriptions.sort("started_on").group_by("account_id", maintain_order=True).last()


def _upcoming(business: Business, months: list[str]) -> pl.DataFrame:
    """The next billing date of each latest subscription, with its packages and cycle."""
    return (
        _of_months(business, PACKAGES, months)
        .join(_of_months(business, CYCLES, months).select(*_KEYS, "billing_index", "cycle_start"), on=_KEYS)
        .join(_latest(business).select("subscription_id"), on="subscription_id", how="semi")
        .filter(pl.col("billing_date") > business.as_of)
        .sort("billing_date")
        .group_by("subscription_id", maintain_order=True)
        .first()
    )


def _profiles(business: Business, months: list[str], upcoming: pl.DataFrame) -> pl.DataFrame:
    as_of, latest = business.as_of, _latest(business)
    accounts = (
        business.currencies.with_currency(business.inputs.accounts.select("account_id"))
        .join(latest, on="account_id", how="left")
        .join(
            upcoming.select(
                "subscription_id",
                "billing_date",
                "closing_package",
                "opening_package",
                "change_reason",
                "waiting_package",
            ),
            on="subscription_id",
            how="left",
        )
        .join(_suspended(business), on="account_id", how="left")
        .join(business.parked.select("account_id", is_parked=pl.lit(True)), on="account_id", how="left")
        .join(_last_packages(business, months), on="subscription_id", how="left")
    )
    package = pl.coalesce(
        "closing_package", pl.when(pl.col("grid_start") > as_of).then("first_package"), "last_package", "first_package"
    )
    profile = (
        accounts.with_columns(status=_status(as_of), package=package)
        .join(_upcoming_amounts(business, upcoming, months), on="subscription_id", how="left")
        .join(_open_usage(business, upcoming, months), on="subscription_id", how="left")
        .join(_history(business), on="account_id", how="left")
        .join(_add_ons(business, months), on="subscription_id", how="left")
        .join(_coupons(business), on="subscription_id", how="left")
        .join(balances(business).select(*_OF_ACCOUNT, "outstanding"), on=_OF_ACCOUNT, how="left")
        .join(next_expiries(credits(business)), on=_OF_ACCOUNT, how="left")
    )
    goes_on = pl.col("status").is_in(
        [SubscriptionStatus.ACTIVE, SubscriptionStatus.SUSPENDED, SubscriptionStatus.TRIAL]
    )
    changes = goes_on & (pl.col("opening_package") != pl.col("package"))
    pending = pl.struct(
        from_package="package",
        to_package="opening_package",
        effective_on="billing_date",
        reason=pl.coalesce("change_reason", pl.lit(DecisionKind.UPGRADE)),
    )
    return PROFILE.conform(
        profile.with_columns(
            pl.col("upcoming_amount", "upcoming_credits", "credits_left").fill_null(_ZERO),
            as_of=pl.lit(as_of),
            next_billing_date=pl.when(goes_on).then("billing_date"),
            outstanding=pl.col("outstanding").fill_null(_ZERO),
            usage=pl.col("usage").fill_null([]),
            pending_change=pl.when(changes).then(pending),
            payment_history=pl.col("payment_history").fill_null([]),
            add_ons=pl.when(goes_on).then("add_ons").fill_null([]),
            coupons=pl.when(goes_on).then("coupons").fill_null([]),
        )
    )


def _add_ons(business: Business, months: list[str]) -> pl.DataFrame:
    """subscription_id, add_ons: what is held as of the day, and from the next change on."""
    held = held_add_ons(business, max(months))
    holdings = pl.DataFrame(schema=HELD_SCHEMA) if held is None else held.holdings
    found = held_and_coming(holdings, business.as_of)
    entry = pl.struct("add_on", "quantity", "next_quantity", "effective_on")
    return found.group_by("subscription_id", maintain_order=True).agg(add_ons=entry)


def _coupons(business: Business) -> pl.DataFrame:
    """subscription_id, coupons: what is held as of the day, and on how many further documents."""
    redeemed = coupon_holdings(business)
    # An amount off may be known in another currency only.
    coupons = {coupon.name: coupon for part in business.by_currency for coupon in part.catalogue.coupons}
    counted = pl.DataFrame(schema=COUNTED_SCHEMA)
    if not redeemed.is_empty():
        dues = business.scan_months(DUES, list(business.home.months(DUES)))
        counted = counted_documents(dues.filter(pl.col("billing_date") <= business.as_of))
    found = held_coupons(redeemed, counted, list(coupons.values()), business.as_of)
    entry = pl.struct("coupon", "documents_left")
    return found.group_by("subscription_id", maintain_order=True).agg(coupons=entry)


def _status(as_of: date) -> pl.Expr:
    """The status of an account as of a day: parked, none, cancelled, refunded, held, trial, suspended or active."""
    return (
        pl.when("is_parked")
        .then(pl.lit(SubscriptionStatus.PARKED))
        .when(pl.col("subscription_id").is_null())
        .then(pl.lit(SubscriptionStatus.NONE))
        .when(pl.col("end").is_not_null())
        .then("end")
        .when(pl.col("held_on").is_not_null())
        .then(pl.lit(SubscriptionStatus.HELD))
        .when(pl.col("grid_start") > as_of)
        .then(pl.lit(SubscriptionStatus.TRIAL))
        .when("is_suspended")
        .then(pl.lit(SubscriptionStatus.SUSPENDED))
        .otherwise(pl.lit(SubscriptionStatus.ACTIVE))
    )


def _upcoming_amounts(business: Business, upcoming: pl.DataFrame, months: list[str]) -> pl.DataFrame:
    """subscription_id, upcoming_amount, upcoming_credits: the next fee, the overages so far and what waited while
    parked, with tax, and what prepaid credits pay of it."""
    lines, taxes = _lines_and_taxes(business, upcoming, months)
    parts = pl.concat([each.select("subscription_id", "amount") for each in (lines, taxes)])
    amounts = parts.group_by("subscription_id").agg(upcoming_amount=pl.col("amount").sum().cast(MONEY))
    in_order = credits_in_order(business, pl.col("billing_date") <= business.as_of)
    if in_order is None:
        return amounts.with_columns(upcoming_credits=_ZERO)
    documents = (
        business.currencies.with_currency(amounts.join(upcoming.select(_KEYS), on="subscription_id"))
        .with_columns(total="upcoming_amount", usable_on="billing_date", corrects=pl.lit(None, pl.String))
        .sort(_KEYS)
    )
    paid = in_order.applied(documents, documents.clear().select(*_KEYS, number=pl.lit("")))
    return paid.select("subscription_id", "upcoming_amount", upcoming_credits="credits_applied")


def _lines_and_taxes(
    business: Business, upcoming: pl.DataFrame, months: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What the next bills are made of: lines (kind null where it waited while its account was parked), and taxes."""
    due = _of_months(business, DUES, months).select(
        *_KEYS, "kind", "metric", "rule", "package", "description", "amount", "tax_category"
    )
    lines = (
        pl.concat([due, _waiting(business, upcoming)], how="diagonal")
        .join(upcoming.select("subscription_id", "billing_date"), on=["subscription_id", "billing_date"], how="semi")
        .sort(*_KEYS, "kind", "metric", "rule", nulls_last=True, maintain_order=True)
    )
    nets = lines.group_by(*_KEYS, "tax_category").agg(net=pl.col("amount").sum())
    taxes = pl.concat(
        document_taxes(part.rows(nets), part.inputs.accounts, part.inputs.tax_rates, part.catalogue)
        for part in business.by_currency
    )
    return lines, taxes.select(*_KEYS, "name", "rate", "amount", "reason").sort(*_KEYS, "name")


def _by_day(business: Business, dated: pl.DataFrame, months: list[str]) -> pl.DataFrame:
    """account_id and USAGE_BY_DAY of the open cycles, so far."""
    month, home = f"{business.as_of:%Y-%m}", business.home
    end = midnight(pl.lit(business.as_of) + pl.duration(days=1), business.catalogue.time_zone)
    spans = (
        pl.concat([cycles_of_month(business, each).spans for each in months])
        .join(dated, left_on=["subscription_id", "cycle_end"], right_on=["subscription_id", "billing_date"], how="semi")
        .with_columns(span_end=pl.min_horizontal("span_end", end))
        .filter(pl.col("span_start") < pl.col("span_end"))
    )
    if spans.is_empty():
        return pl.DataFrame(schema={"account_id": pl.String, **USAGE_BY_DAY}).drop("subscription_id")
    events = scan_events(home, [months_after(month, -1), month], business.as_of)
    found = usage_by_day(spans, events, read_month(home, LEVELS, month), accounts_of_events(home), business.catalogue)
    owners = spans.select("subscription_id", "account_id").unique()
    return found.join(owners, on="subscription_id", maintain_order="left").select(
        "account_id", "metric", "day", "quantity"
    )


def _waiting(business: Business, upcoming: pl.DataFrame) -> pl.DataFrame:
    """_KEYS of the next document, amount: of unbilled dates that passed while their account was parked."""
    register = business.register
    gone_by = register.dates_gone_by()
    months = gone_by["billing_month"].unique().sort().to_list()
    due = business.scan_months(DUES, months).select(*_KEYS, "amount").collect()
    first, last = due["billing_date"].min(), due["billing_date"].max()
    if not isinstance(first, date) or not isinstance(last, date):
        return due
    issued = register.issued_amounts(first, last + timedelta(days=1))
    waited = that_waited(due, gone_by, issued).drop("billing_date")
    # If an earlier date is still open, its document bills them.
    before = upcoming.select(*_KEYS, before="cycle_start")
    closed = register.closed_dates().select("subscription_id", before="billing_date")
    follows = pl.concat(
        [
            before.join(closed, on=["subscription_id", "before"], how="semi"),
            while_parked(before, gone_by, "before"),
        ]
    ).unique()
    return waited.join(follows, on=["account_id", "subscription_id"]).select(*_KEYS, "amount")


def _open_usage(business: Business, upcoming: pl.DataFrame, months: list[str]) -> pl.DataFrame:
    """subscription_id, usage: every metric of the open cycle so far against its allowance.

    Of a tariff by dimension the sums over its rules, of what is over, too, and the allowance of the rest (rule 34).
    """
    order = {metric.name: position for position, metric in enumerate(business.catalogue.metrics)}
    usage = _of_months(business, USAGE, months).join(
        upcoming.select("subscription_id", cycle_end="billing_date"), on=["subscription_id", "cycle_end"], how="semi"
    )
    rated = pl.concat(
        rated_usage(part.rows(usage), part.rows(upcoming), part.terms, held_add_ons(part, max(months)))
        for part in business.by_currency
    )
    rated = over_all_rules(rated, "excess", "amount")
    entry = pl.struct(
        metric="metric",
        quantity="quantity",
        allowance="allowance_units",
        excess="excess",
        overage_amount="amount",
    )
    return (
        rated.with_columns(_order=pl.col("metric").replace_strict(order, return_dtype=pl.Int32))
        .sort("subscription_id", "_order")
        .group_by("subscription_id", maintain_order=True)
        .agg(usage=entry)
    )


def _history(business: Business) -> pl.DataFrame:
    """account_id, payment_history (newest first), previous_amount, previous_date: of the last invoice."""
    documents = documents_with_open_amounts(business).sort("billing_date", "issued_on", "number", descending=True)
    entry = pl.struct(
        number="number",
        kind="kind",
        date="billing_date",
        total="total",
        status="status",
        document=pl.format("documents/{}/{}.pdf", "billing_month", pl.col("number").str.replace_all("/", "_")),
    )
    now = business.currencies.with_currency(documents.select("account_id"), "_now")
    documents = documents.with_columns(now["_now"]).filter(pl.col("currency") == pl.col("_now"))
    is_invoice = pl.col("kind") == DocumentKind.INVOICE
    return documents.group_by("account_id", maintain_order=True).agg(
        payment_history=entry,
        previous_amount=pl.col("total").filter(is_invoice).first(),
        previous_date=pl.col("billing_date").filter(is_invoice).first(),
    )


def _suspended(business: Business) -> pl.DataFrame:
    """account_id, is_suspended: at the end of the as-of day."""
    end = midnight(pl.lit(business.as_of) + pl.duration(days=1), business.catalogue.time_zone)
    return (
        business.suspensions.filter(
            (pl.col("suspended_from") < end)
            & (pl.col("suspended_until").is_null() | (pl.col("suspended_until") >= end))
        )
        .select("account_id", is_suspended=pl.lit(True))
        .unique()
    )


def _last_packages(business: Business, months: list[str]) -> pl.DataFrame:
    """subscription_id, last_package: of its last billing date so far, closed or not; a date of settlement has none."""
    columns = [*_KEYS, "opening_package", "closing_package"]
    closed = business.register.closed_dates()
    come = _of_months(business, PACKAGES, months).join(closed, on=_KEYS, how="anti")
    dates = pl.concat([closed.select(columns), come.select(columns)]).filter(pl.col("billing_date") <= business.as_of)
    return (
        dates.sort("billing_date")
        .group_by("subscription_id", maintain_order=True)
        .agg(last_package=pl.coalesce("opening_package", "closing_package").drop_nulls().last())
    )


def _of_months(business: Business, table: Table, months: list[str]) -> pl.DataFrame:
    return pl.concat([read_month(business.home, table, month) for month in months])
