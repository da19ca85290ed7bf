"""A business as of a day: its home, its inputs and its register. Every computation starts from one."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import polars as pl

from billing.ingest.malloc import return_freed_blocks
from billing.inputs.catalogue_file import load_catalogue
from billing.inputs.divided_rows import FramesOnDisk
from billing.inputs.reading import Inputs, read_inputs
from billing.model.buckets import BucketRange, bucket_ranges
from billing.model.calendar import first_day, midnight, months_after
from billing.model.catalogue import Catalogue
from billing.model.codes import DecisionKind, GrantKind
from billing.model.columns import Table
from billing.model.errors import RefusedError
from billing.model.tables import REJECTS
from billing.month.computed import Computed
from billing.month.currencies import currencies_of, joined_lives, parts_of
from billing.month.issued_settings import inside_hidden_packages, issued_in_others, refuse_moved_settings
from billing.month.locking import alone
from billing.month.resources import with_resources
from billing.register.recorded_facts import BEGUN_SCHEMA
from billing.register.register import Register
from billing.rules.add_on_changes import asked_add_ons
from billing.rules.balances import SUSPENSION_SCHEMA, suspensions
from billing.rules.credit_balances import lowered_grants
from billing.rules.currencies import Currencies, Rows
from billing.rules.dimensions import RuleBook
from billing.rules.missing_accounts import (
    accounts_without_row,
    new_accounts_set_aside,
    refuse_lacking_accounts,
    subscriptions_without_request,
)
from billing.rules.one_off_charges import fee_charges
from billing.rules.opening_balances import balances_in_force, changed_rows
from billing.rules.own_documents import is_own_document
from billing.rules.receivables import matched_payments, with_opening_balances
from billing.rules.redemptions import (
    POSITION_SCHEMA,
    asked_coupons,
    exhausted_positions,
    joined_coupons,
    redemption_positions,
)
from billing.rules.subscriptions import Lives, read_lives
from billing.rules.terms import TermsFrames, terms_frames
from billing.rules.withdrawals import without_withdrawn
from billing.store.home import Home
from billing.store.monthly import scan_months

ACCOUNTS_OF_A_SHARD: Final = 250_000


@dataclass(frozen=True)
class Business:
    """Everything a run reads, as of the end of a local day.

    Attributes
    ----------
    as_of
        The movable clock: deliveries, requests and payments after this day do not exist yet.
    issues
        Whether the run may issue; a draft run computes only.
    shards
        Into how many shards new months are divided; None: one for 250,000 accounts.
    first_month_of_all
        Of a shard: the first month of the whole business.
    has_moved_in_of_all
        Of a shard: `has_moved_in` of the whole business.
    exhausted_of_all
        Of a shard: `exhausted_redemptions` of the whole business.
    whole
        Of the accounts in one currency: the business or shard of which they are a part (`by_currency`).
    computed
        Cache of answers that several steps share.
    """

    home: Home
    catalogue: Catalogue
    inputs: Inputs
    register: Register
    as_of: date
    issues: bool = True
    shards: int | None = None
    first_month_of_all: str | None = None
    has_moved_in_of_all: bool | None = None
    exhausted_of_all: pl.DataFrame | None = field(default=None, compare=False)
    whole: "Business | None" = field(default=None, compare=False)
    computed: Computed = field(default_factory=Computed, compare=False)

    @classmethod
    def load(
        cls,
        root: Path,
        as_of: date,
        register_url: str | None = None,
        *,
        issues: bool = True,
        shards: int | None = None,
    ) -> "Business":
        """Load and validate all inputs, before anything is computed or written (rule 28).

        Raises
        ------
        RefusedError
            Naming what is missing or wrong, and where.
        """
        home = Home(root)
        if not home.landing.is_dir():
            raise RefusedError(
                f"{root}: this is no billing home: expected a folder `landing` in it (`overage init` makes one)"
            )
        catalogue = with_resources(load_catalogue(home.landing / "catalogue.yaml"), home.landing)
        register = Register.open(home, register_url)
        refuse_moved_settings(register, catalogue)
        if issues and (changed := register.changed_formats(catalogue.numbering, as_of.year)):
            raise RefusedError("landing/catalogue.yaml: the catalogue is refused: numbers have been given", changed)
        issued = register.issued_currencies() if issued_in_others(register, catalogue) else None
        inputs = read_inputs(home, catalogue, register.billed_accounts(), issued)
        warnings = changed_rows(inputs.opening_balances, register.opening_balances())
        warnings += lowered_grants(inputs.credit_grants, register.credit_uses())
        inputs = replace(inputs, warnings=(*inputs.warnings, *warnings))
        # Policy auto_issue false: runs stop at drafts until someone issues.
        business = cls(home, catalogue, inputs, register, as_of, issues and catalogue.policy.auto_issue, shards)
        return business.with_divided_inputs()

    def with_divided_inputs(self) -> "Business":
        """The same business; where it has several shards, its large inputs are on disk, divided."""
        if len(ranges := self.new_shards) == 1:
            return self
        divided = replace(self, inputs=self.inputs.divided(ranges))
        return_freed_blocks()
        return divided

    def at(self, as_of: date, *, issues: bool | None = None, **others: Any) -> "Business":
        """A copy as of another day, issuing or not, or with another home or register; its cache is empty."""
        issues = self.issues if issues is None else issues
        return replace(self, as_of=as_of, issues=issues, computed=Computed(), **others)

    def of(self, buckets: BucketRange) -> "Business":
        """A shard: the business of the accounts in some buckets. It reads and writes their rows only."""
        return replace(
            self._of(buckets, self.first_month),
            has_moved_in_of_all=self.has_moved_in,
            exhausted_of_all=self.exhausted_redemptions,
        )

    def _of(self, buckets: BucketRange, first_month: str | None) -> "Business":
        return replace(
            self,
            home=replace(self.home, buckets=buckets),
            inputs=self.inputs.of(buckets),
            register=self.register.of(buckets),
            first_month_of_all=first_month,
            # Keep the cache of a shard while others are at work: it is small, subscriptions are on disk.
            computed=self.computed.once(("shard", buckets), None, Computed),
        )

    @property
    def new_shards(self) -> list[BucketRange]:
        """The shards of a month that is computed for the first time; of a shard its own buckets."""
        if self.home.buckets is not None:
            return [self.home.buckets]
        return bucket_ranges(self.shards or max(1, -(-self.inputs.all_accounts.height // ACCOUNTS_OF_A_SHARD)))

    @contextmanager
    def alone(self, patience: float = 0, holder: str = "") -> Iterator[None]:
        """Lock the home and the register: one run at a time, from the command line and Dagster alike.

        A home in a store is brought up to date, and committed at the end; nested in another, it commits a step.

        Parameters
        ----------
        patience
            Seconds to wait for another run to end.
        holder
            Name of a run whose steps other processes execute (`step_under`).

        Raises
        ------
        RefusedError
            When another run is at work, or the home or the register cannot be used.
        """
        with alone(self.home, self.register, patience, holder):
            yield

    @cached_property
    def currencies(self) -> Currencies:
        """Who is billed in which currency (rule 36)."""
        if self.whole is not None:
            return self.whole.currencies
        return currencies_of(self) if len(self.inputs.currencies) > 1 else Currencies(self.catalogue.currency)

    @property
    def by_currency(self) -> "list[Business]":
        """The business, or shard, once for each currency of its accounts: with its catalogue, inputs and rows only.

        Where there is one currency, the business itself. What is computed of each is joined by whoever computes it.
        """
        # Do not cache this list: it holds the business, which then stays in memory until a garbage collection.
        return [self] if self.whole is not None or len(self.currencies.codes) == 1 else self._parts

    _parts = cached_property(parts_of)

    def rows(self, frame: Rows) -> Rows:
        """The rows of the accounts in the currency of this business; all of them where it is no part."""
        return frame if self.whole is None else self.currencies.rows(frame, self.catalogue.currency)

    @cached_property
    def terms(self) -> TermsFrames:
        """The catalogue's terms as frames."""
        return terms_frames(self.catalogue)

    @cached_property
    def rule_book(self) -> RuleBook | None:
        """The rules of the tariffs by dimension; None where there are none."""
        return RuleBook.of(self.catalogue)

    @cached_property
    def requests(self) -> pl.DataFrame:
        """The requests made up to the as-of day."""
        return self.inputs.requests.filter(pl.col("on") <= self.as_of)

    @cached_property
    def lives(self) -> Lives:
        """Subscriptions and answers from the requests, without parked accounts (rule 28).

        An account whose row is missing keeps them: its past stays as computed.
        """
        if self.whole is not None:
            lives = self.whole.lives
            return Lives(*map(self.rows, (lives.subscriptions, lives.answers, lives.parked)))
        if self.home.buckets is None:
            return self._lives()
        return Lives(*self.computed.once("lives", None, self._lives_on_disk).read())

    def _lives_on_disk(self) -> FramesOnDisk:
        lives = self._lives()
        return FramesOnDisk([lives.subscriptions, lives.answers, lives.parked])

    def _lives(self) -> Lives:
        takes_back = (self.requests["kind"] == DecisionKind.WITHDRAW).any()
        decided = self.register.closed_decision_ids() if takes_back else pl.Series(dtype=pl.String)
        requests, taken_back = without_withdrawn(self.requests, decided)
        lives = self._lives_of(requests)
        made = lives.subscriptions.select("subscription_id")
        closed = self.register.closed_subscriptions().filter(~is_own_document())
        closed = closed.join(made, on="subscription_id", how="anti")
        missing = subscriptions_without_request(
            closed,
            self.register.begun_subscriptions() if closed.height else pl.DataFrame(schema=BEGUN_SCHEMA),
            self.inputs.requests,
            self.inputs.rejects,
            self.inputs.request_ids,
        )
        stopped = pl.concat([lives.parked, missing]).unique("account_id", keep="first", maintain_order=True)
        return Lives(
            lives.subscriptions.join(stopped, on="account_id", how="anti", maintain_order="left"),
            pl.concat([lives.answers, taken_back], how="diagonal").sort("at", "request_id"),
            stopped.sort("account_id"),
        )

    def _lives_of(self, requests: pl.DataFrame) -> Lives:
        """As `read_lives`, of each currency with its catalogue."""
        inside, billed = (
            inside_hidden_packages(self.register, requests, self.terms.hidden),
            self.currencies.subscriptions["subscription_id"],
        )
        return joined_lives(
            read_lives(part.rows(requests), part.catalogue, part.terms, inside, billed) for part in self.by_currency
        )

    @property
    def one_off_charges(self) -> pl.DataFrame:
        """ONE_OFF_SCHEMA: the one-off charges up to the as-of day, and the fees of reminders (rules 30 and 41)."""
        charges = self.inputs.one_off_charges
        fees = self.rows(self.register.reminder_fees())
        if not fees.is_empty():
            fees = fees.filter(pl.col("currency") == self.catalogue.currency)
            charges = pl.concat([charges, fee_charges(fees).select(charges.columns)])
        return charges.filter(pl.col("on") <= self.as_of)

    @cached_property
    def without_row(self) -> pl.DataFrame:
        """As `accounts_without_row`: they are parked, and what was issued to them stands (rule 28)."""
        return accounts_without_row(self.inputs.known_accounts, self.inputs.accounts, self.inputs.rejects)

    @cached_property
    def parked(self) -> pl.DataFrame:
        """account_id, reason, detail: accounts that cannot be billed in any month; sorted."""
        if len(self.new_shards) > 1:
            return pl.concat(self._of(buckets, None).parked for buckets in self.new_shards).sort("account_id")
        new = new_accounts_set_aside(self.inputs.known_accounts, self.inputs.rejects)
        parked = pl.concat([self.without_row, self.currencies.refused, self.lives.parked, new])
        return parked.unique("account_id", keep="first", maintain_order=True).sort("account_id")

    def knows(self, account: str) -> bool:
        """Whether an account has a row in the accounts file, was billed, or is parked as its row is set aside."""
        return account in self.inputs.known_accounts or account in self.parked["account_id"]

    def parked_in(self, month: str) -> pl.DataFrame:
        """As `parked`, of a month. Once all billing dates are closed, a row that goes missing parks nobody.

        Accounts whose dates passed while they were parked stay parked until their row is back.
        """
        last_day = date.fromordinal(first_day(months_after(month, 1)).toordinal() - 1)
        through = self.register.closed_through(month)
        if through is None or through < last_day:
            return self.parked
        passed = self.register.passed_dates(month)
        held = pl.concat([self.without_row, self.currencies.refused]).join(passed, on="account_id", how="semi")
        all_parked = pl.concat([held, self.lives.parked])
        return all_parked.unique("account_id", keep="first", maintain_order=True).sort("account_id")

    def refuse_lacking_accounts(self) -> None:
        """As `refuse_lacking_accounts`, of this business.

        Raises
        ------
        RefusedError
            When the accounts file lacks too many of the accounts with live subscriptions.
        """
        if not self.without_row.is_empty():
            refuse_lacking_accounts(self.register.live_accounts(), self.without_row)

    @cached_property
    def opening_balances(self) -> pl.DataFrame:
        """As `balances_in_force`: what accounts owed when they moved in."""
        used = self.register.opening_balances()
        return balances_in_force(self.inputs.opening_balances, used, self.as_of)

    @cached_property
    def credit_grants(self) -> pl.DataFrame:
        """The prepaid credits granted up to the as-of day (rule 33)."""
        return self.inputs.credit_grants.filter(pl.col("granted_on") <= self.as_of)

    @property
    def first_own_document(self) -> date | None:
        """The first day of a purchased grant or a one-off charge, from the policy's billing_start on; None without one.

        Both may be billed before anybody subscribes.
        """
        start = self.catalogue.policy.billing_start
        bought = self.credit_grants.filter(pl.col("kind") == GrantKind.PURCHASED)["granted_on"]
        charged = self.inputs.one_off_charges.filter(pl.col("on") <= self.as_of)["on"]
        days = pl.concat([bought.rename("on"), charged])
        day = days.filter(days >= start).min()
        return day if isinstance(day, date) else None

    @property
    def receivables(self) -> pl.DataFrame:
        """As `with_opening_balances`: issued documents, and the opening balances in force as documents."""
        return with_opening_balances(self.register.documents(), self.opening_balances)

    @property
    def payments(self) -> pl.DataFrame:
        """The payments made up to the as-of day, of documents and opening balances of their account, or on account.

        `document` is a number of `receivables`; see `billing.rules.receivables` for those of opening balances.
        """
        return self._paid[0]

    @property
    def unknown_payments(self) -> pl.DataFrame:
        """Payments of an unknown document, quarantined until the register has it (rule 27): as the table REJECTS."""
        return self._paid[1]

    @property
    def suspensions(self) -> pl.DataFrame:
        """account_id, suspended_from, suspended_until: when access was suspended by a failed payment (rule 16)."""
        return self._paid[2]

    @property
    def _paid(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """Payments, unknown payments and suspensions; computed again after documents were issued."""
        if self.whole is not None:
            return self.whole._paid
        return self.computed.once("payments", self.register.count(), self._match_payments)

    def _match_payments(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        made = self.inputs.payments.filter(pl.col("on") <= self.as_of)
        if made.is_empty():
            return made, REJECTS.empty(), pl.DataFrame(schema=SUSPENSION_SCHEMA)
        if len(self.new_shards) > 1:
            found = [self._of(each, None)._paid for each in self.new_shards]
            payments = pl.concat(each[0].drop("is_on_account", strict=False) for each in found)
            unknown = pl.concat(each[1] for each in found)
            suspended = pl.concat(each[2] for each in found).sort("account_id", "suspended_from")
            return payments.sort("at", "payment_id"), REJECTS.conform(unknown), suspended
        documents = self.receivables.with_columns(credited_at=midnight(pl.col("issued_on"), self.catalogue.time_zone))
        known, aside = matched_payments(made, self.opening_balances, self.register.documents(), documents)
        return known, aside, suspensions(known, documents)

    @cached_property
    def first_month(self) -> str | None:
        """The month of the first billing date here, of all shards; None when nobody has subscribed."""
        if self.whole is not None:
            return self.whole.first_month
        if self.first_month_of_all is not None:
            return self.first_month_of_all
        first = self.register.first_closed_date()
        found = [f"{first:%Y-%m}"] if first else []
        # A subscription begins on the day of a request at the earliest, or where it was billed through before.
        earliest = pl.min_horizontal("on", "billed_through").dt.strftime("%Y-%m").min()
        for buckets in self.new_shards:
            of_shard = self._of(buckets, None) if len(self.new_shards) > 1 else self
            alone = of_shard.first_own_document
            found += [f"{alone:%Y-%m}"] if alone else []
            bound = of_shard.requests.select(earliest).item()
            if bound is not None and bound < min(found, default="9999-99"):
                found += of_shard._first_months
        return min(found, default=None)

    @cached_property
    def has_moved_in(self) -> bool:
        """Whether a subscription here, of any shard, was billed elsewhere before."""
        if self.whole is not None:
            return self.whole.has_moved_in
        if self.has_moved_in_of_all is not None:
            return self.has_moved_in_of_all
        shards = [self] if len(self.new_shards) == 1 else (self._of(each, None) for each in self.new_shards)
        return any(
            shard.requests["billed_through"].count() and shard.lives.subscriptions["billed_through"].count()
            for shard in shards
        )

    @property
    def asked_coupons(self) -> pl.DataFrame:
        """As `billing.rules.redemptions.asked_coupons`."""

        def asked() -> pl.DataFrame:
            return joined_coupons(
                asked_coupons(part.requests, part.lives.answers, part.lives.subscriptions, part.catalogue)
                for part in self.by_currency
            )

        return self.computed.once("asked coupons", None, asked)

    @property
    def asked_add_ons(self) -> pl.DataFrame:
        """As `billing.rules.add_on_changes.asked_add_ons`."""

        def asked() -> pl.DataFrame:
            lives = self.lives
            return asked_add_ons(self.requests, lives.answers, lives.subscriptions)

        return self.computed.once("asked add-ons", None, asked)

    @cached_property
    def exhausted_redemptions(self) -> pl.DataFrame:
        """As `exhausted_positions`, of the accounts of all shards."""
        if self.whole is not None:
            return self.whole.exhausted_redemptions
        if self.exhausted_of_all is not None:
            return self.exhausted_of_all
        positions = [pl.DataFrame(schema=POSITION_SCHEMA)]
        if any(coupon.all_redemptions for coupon in self.catalogue.coupons):
            shards = [self] if len(self.new_shards) == 1 else [self._of(each, None) for each in self.new_shards]
            positions += [redemption_positions(shard.asked_coupons) for shard in shards]
        return exhausted_positions(pl.concat(positions), self.catalogue)

    @property
    def _first_months(self) -> list[str]:
        begins = pl.when(pl.col("billed_through").is_null()).then("started_on").otherwise("first_billing_date")
        first = self.lives.subscriptions.select(begins.min()).item()
        return [f"{first:%Y-%m}"] if isinstance(first, date) else []

    def refuse_unknown_month(self, month: str) -> None:
        """Refuse a text that is not a billing month of this business.

        Raises
        ------
        RefusedError
            Unless it is a month YYYY-MM, from the first that may be billed.
        """
        start = self.catalogue.policy.billing_start
        if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
            raise RefusedError(f"unknown month: found {month!r}, expected a billing month such as {start:%Y-%m}")
        if first_day(month) < start:
            raise RefusedError(
                f"unknown month: found {month}, expected {start:%Y-%m} or later (policy.billing_start of the catalogue)"
            )

    def scan_months(self, table: Table, months: Sequence[str]) -> pl.LazyFrame:
        """As `billing.store.monthly.scan_months`, of the business, shard or accounts in one currency."""
        return self.rows(scan_months(self.home, table, months))

    def closes_through(self, month: str) -> date:
        """The day up to which billing dates of the month may be issued: `issue_after_days` before the as-of day."""
        last_day = first_day(months_after(month, 1)).toordinal() - 1
        return date.fromordinal(min(last_day, self.as_of.toordinal() - self.catalogue.policy.issue_after_days))
