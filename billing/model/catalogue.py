"""Validated catalogue: packages, tariffs, agreements, metrics, policy and seller."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo

from billing.model.file_limits import DEFAULT_LIMITS, MEBIBYTE, Limits
from billing.model.money import minor_units
from billing.model.numbering import Numbering
from billing.model.offers import IN_ADVANCE, AddOn, Coupon
from billing.model.resources import Resources
from billing.model.seller import Seller
from billing.model.sources import Source

COUNTER_MEASURES = ("sum", "count", "unique", "max")
GAUGE_MEASURES = ("peak", "last", "time_weighted")
TARIFF_MODELS = ("block", "graduated", "volume", "stairstep", "percentage")
CARD_BRANDS = ("visa", "mastercard", "discover", "amex")
MINIMUM_COUNTS = ("package_fee", "overage", "add_on", "seats")
MONTHLY = "monthly fee"
MINIMUM_SPEND = "minimum spend"
SEATS = "seats"
AFTER_ISSUE = "after_issue"
SENDING = ("off", AFTER_ISSUE)
MAXIMUM_QUANTITY = Decimal(10) ** 18


@dataclass(frozen=True)
class Metric:
    """A metric: what is measured (rules section 1).

    Attributes
    ----------
    value
        Path of the value from the event's root; None for a counting metric, which needs none.
    unit_size
        Base units per unit: 1000000000 when the unit is GB and events count bytes.
    unit_code
        Code of the unit in e-invoices (UN/ECE Recommendation 20).
    decimals
        Most decimals of a quantity on paper; tables stay exact.
    titles
        Titles by language, where there are several.
    charged
        `in_advance`: a level that is charged for the cycle that starts (rule 35); None: by usage, in arrears.
    by
        Dimensions that tariffs may tell apart, each with its path from the event's root (rule 34).
    """

    name: str
    event: str
    kind: Literal["counter", "gauge"]
    measure: Literal["sum", "count", "unique", "max", "peak", "last", "time_weighted"]
    value: tuple[str, ...] | None
    carries: Literal["delta", "level"] | None
    unit: str | None
    unit_size: Decimal
    title: str
    unit_code: str = "C62"
    decimals: int = 3
    titles: Mapping[str, str] = field(default_factory=dict)
    charged: str | None = None
    by: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def is_in_advance(self) -> bool:
        """Whether its level is charged in advance, as seats; such a metric has no overage."""
        return self.charged == IN_ADVANCE


@dataclass(frozen=True)
class Tier:
    """A tier of a tariff; `up_to` is in units of the excess, cumulative and inclusive; None is open."""

    up_to: Decimal | None
    unit_price: Decimal
    flat: Decimal


@dataclass(frozen=True)
class DimensionRule:
    """What a tariff rates by itself (rule 34): the usage whose dimensions have the values that it names.

    Attributes
    ----------
    when
        The values of each dimension that match, as text.
    allowance
        In units; None is unlimited.
    tariff
        None when the excess is free.
    """

    name: str
    when: tuple[tuple[str, tuple[str, ...]], ...]
    allowance: Decimal | None = Decimal(0)
    tariff: "Tariff | None" = None

    @property
    def words(self) -> str:
        """The rule in words: its name, or what it names where it has no name of its own."""
        if self.name != default_rule_name(self.when):
            return self.name
        return ", ".join(f"{dimension} {'/'.join(values)}" for dimension, values in self.when)


def rule_words(catalogue: "Catalogue") -> dict[tuple[str, str], str]:
    """The words of every rule of a tariff by dimension, by metric and name."""
    if not any(metric.by for metric in catalogue.metrics):
        return {}
    terms: list[Terms | Agreement] = [version for package in catalogue.packages for version in package.versions]
    return {
        (metric, rule.name): rule.words
        for each in [*terms, *catalogue.agreements]
        for metric, tariff in each.overage.items()
        if tariff is not None
        for rule in tariff.by
    }


def default_rule_name(when: Sequence[tuple[str, Sequence[str]]]) -> str:
    """The name of a rule that has none of its own: model=large,kind=output|cached."""
    return ",".join(f"{dimension}={'|'.join(values)}" for dimension, values in when)


@dataclass(frozen=True)
class Tariff:
    """The price of an excess (rule 3). `size` and `price` belong to the block model, `tiers` to most others.

    Attributes
    ----------
    percent, per_event, free_events
        Of the percentage model (rule 34): of the excess, and for each event beyond those that are free.
    by
        Rules that rate their own part of the usage; what matches none is rated by this tariff.
    """

    model: Literal["block", "graduated", "volume", "stairstep", "percentage"]
    size: Decimal | None = None
    price: Decimal | None = None
    tiers: tuple[Tier, ...] = ()
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    percent: Decimal | None = None
    per_event: Decimal = Decimal(0)
    free_events: int = 0
    by: tuple[DimensionRule, ...] = ()

    def __repr__(self) -> str:
        """Its members, those that earlier versions did not know only where they are set: months are recorded by it."""
        known = [each.name for each in fields(self)]
        later = [name for name in known[known.index("percent") :] if getattr(self, name) != getattr(type(self), name)]
        said = [name for name in known if name in later or known.index(name) < known.index("percent")]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in said)})"


@dataclass(frozen=True)
class MinimumSpend:
    """What a cycle has to come to before coupons (rule 32); `counts` are of MINIMUM_COUNTS. An amount of 0 is none."""

    amount: Decimal
    counts: tuple[str, ...] = MINIMUM_COUNTS


@dataclass(frozen=True)
class Seats:
    """The price of a level that is charged in advance (rule 35): `price` per unit above `included`, or a tariff."""

    metric: str
    included: Decimal = Decimal(0)
    price: Decimal | None = None
    tariff: Tariff | None = None


@dataclass(frozen=True)
class Terms:
    """Terms of a package from a date on: a version of the catalogue, with agreements applied.

    Attributes
    ----------
    allowances
        In units, per metric; None is unlimited.
    overage
        Tariff per metric, or None when the excess is free.
    seats
        At most one per metric that is charged in advance.
    lacking
        What has no amount in the currency of the catalogue: MONTHLY, MINIMUM_SPEND, SEATS, or the name of the metric of
        a tariff. With any, the package is not sold in it (rule 36).
    """

    effective_from: date
    monthly: Decimal
    yearly: Decimal | None
    allowances: Mapping[str, Decimal | None]
    overage: Mapping[str, Tariff | None]
    auto_upgrade_on: tuple[str, ...]
    minimum_spend: MinimumSpend | None = None
    seats: tuple[Seats, ...] = ()
    lacking: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def is_sold(self) -> bool:
        """Whether it has all its amounts in the catalogue's currency."""
        return not self.lacking


@dataclass(frozen=True)
class Package:
    """A package for sale; a larger `rank` is a larger package. Nobody gets into a hidden one; those inside stay.

    Attributes
    ----------
    titles
        Titles by language, where there are several.
    add_ons
        Names of the add-ons that may be added to it; None for all.
    """

    name: str
    rank: int
    title: str
    versions: tuple[Terms, ...]
    hidden: bool = False
    titles: Mapping[str, str] = field(default_factory=dict)
    add_ons: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Agreement:
    """An account's own price, allowances, overage or minimum for a package, in force over `[effective_from, until)`.

    Keys it leaves out are those of the package.
    """

    account_id: str
    package: str
    effective_from: date
    monthly: Decimal | None
    yearly: Decimal | None
    allowances: Mapping[str, Decimal | None]
    overage: Mapping[str, Tariff | None]
    until: date | None = None
    minimum_spend: MinimumSpend | None = None
    lacking: frozenset[str] = field(default=frozenset(), repr=False)

    def holds_on(self, day: date) -> bool:
        """Whether it is in force on a day."""
        return self.effective_from <= day and (self.until is None or day < self.until)


@dataclass(frozen=True)
class ReminderLevel:
    """A reminder that is due so many days after the due date; a `fee` of 0 is none."""

    days: int
    fee: Decimal = Decimal(0)
    is_final: bool = False


@dataclass(frozen=True)
class Policy:
    """Settings of a business; the defaults are those of the rules."""

    billing_start: date = date(2024, 1, 1)
    billing_anchor: str = "signup_day"
    first_cycle: str = "prorated"
    cancellation_notice_days: int = 10
    refund_window_days: int = 30
    access_after_cancellation: str = "ends_at_once"
    charge_while_suspended: bool = False
    hold_fee: Decimal = Decimal("0.00")
    lateness_days: int = 90
    issue_after_days: int = 0
    auto_issue: bool = True
    accepted_cards: tuple[str, ...] = CARD_BRANDS
    payment_days: int = 0
    invoice_format: str = "pdf"
    format_missing: str = "park"
    requested_upgrades: str = "next_cycle"
    # What is sent bears on no amount: it is no part of what months are computed from.
    send: str = field(default="off", repr=False)
    mail_from: str = field(default="", repr=False)
    reminders: tuple[ReminderLevel, ...] = field(default=(), repr=False)
    # A catalogue that is tried beside this one: it bears on no amount that is billed.
    shadow: str = field(default="", repr=False)
    longest_record_mib: int = DEFAULT_LIMITS.longest_record // MEBIBYTE
    largest_ratio: int = DEFAULT_LIMITS.largest_ratio

    @property
    def limits(self) -> Limits:
        """Limits on one usage file."""
        return Limits(self.longest_record_mib * MEBIBYTE, self.largest_ratio)


@dataclass(frozen=True)
class Catalogue:
    """A validated catalogue, with its amounts in one currency.

    Attributes
    ----------
    others
        The same catalogue in the other currencies that its amounts name, by code.
    lacking
        Amounts of the policy that are not in the currency: they are left out (rule 36).
    encoding
        Encoding of CSV inputs that are not UTF-8; empty when not set.
    sources
        How raw logs are read; the first that matches a file reads it.
    resources
        Files beside it that documents are drawn with.
    """

    currency: str
    minor_units: int
    time_zone: str
    seller: Seller
    policy: Policy
    metrics: tuple[Metric, ...]
    packages: tuple[Package, ...]
    agreements: tuple[Agreement, ...]
    content_hash: str
    encoding: str = ""
    sources: tuple[Source, ...] = ()
    numbering: Numbering = field(default_factory=Numbering)
    resources: Resources = field(default_factory=Resources)
    coupons: tuple[Coupon, ...] = ()
    add_ons: tuple[AddOn, ...] = ()
    others: Mapping[str, "Catalogue"] = field(default_factory=dict, repr=False)
    lacking: tuple[str, ...] = field(default=(), repr=False)

    def in_currency(self, currency: str) -> "Catalogue":
        """The catalogue with the amounts of a currency: what has none in it is not sold in it (rule 36)."""
        if currency == self.currency:
            return self
        return self.others.get(currency) or _sold_nothing(self, currency)

    @property
    def sells_all(self) -> bool:
        """Whether every package is sold in its currency, to everybody."""
        versions = [version for package in self.packages for version in package.versions]
        return not any(version.lacking for version in versions) and not any(each.lacking for each in self.agreements)

    @property
    def zone(self) -> ZoneInfo:
        """The billing time zone."""
        return ZoneInfo(self.time_zone)

    def metric(self, name: str) -> Metric:
        """Look up a metric by name."""
        return next(metric for metric in self.metrics if metric.name == name)

    def package(self, name: str) -> Package:
        """Look up a package by name."""
        return next(package for package in self.packages if package.name == name)


@dataclass(frozen=True)
class TermsPeriod:
    """The terms of a package over `[since, until)`, for everybody (`account_id` empty) or for one account."""

    account_id: str
    package: str
    rank: int
    since: date
    until: date | None
    terms: Terms = field(repr=False)


def terms_periods(catalogue: Catalogue) -> list[TermsPeriod]:
    """Terms of every package by date; an account with an agreement on a package has its own history there.

    Apply the agreements in force to the package's version, the latest last: each overrides only the keys it names. When
    one ends, its keys fall back to the values without it.
    """
    periods: list[TermsPeriod] = []
    for package in catalogue.packages:
        own = [agreement for agreement in catalogue.agreements if agreement.package == package.name]
        for account_id in ["", *sorted({agreement.account_id for agreement in own})]:
            theirs = sorted((a for a in own if a.account_id == account_id), key=lambda a: a.effective_from)
            first = package.versions[0].effective_from
            bounds = {day for agreement in theirs for day in (agreement.effective_from, agreement.until) if day}
            starts = sorted({v.effective_from for v in package.versions} | {max(day, first) for day in bounds})
            for since, until in zip(starts, [*starts[1:], None], strict=True):
                terms = next(v for v in reversed(package.versions) if v.effective_from <= since)
                for agreement in theirs:
                    if agreement.holds_on(since):
                        terms = _with_agreement(terms, agreement)
                periods.append(TermsPeriod(account_id, package.name, package.rank, since, until, terms))
    return periods


def _sold_nothing(catalogue: Catalogue, currency: str) -> Catalogue:
    """The catalogue in a currency that it does not name."""
    packages = tuple(
        replace(
            package,
            versions=tuple(
                version if _is_free(version) else replace(version, lacking=frozenset({MONTHLY}), yearly=None)
                for version in package.versions
            ),
        )
        for package in catalogue.packages
    )
    add_ons = tuple(
        replace(add_on, versions=tuple(replace(each, is_sold=each.monthly == 0) for each in add_on.versions))
        for add_on in catalogue.add_ons
    )
    policy = catalogue.policy
    fees = [f"reminders[{place}].fee" for place, level in enumerate(policy.reminders) if level.fee]
    lacking = [*(["hold_fee"] if policy.hold_fee else []), *fees, *catalogue.lacking]
    return replace(
        catalogue,
        currency=currency,
        minor_units=minor_units(currency) or 0,
        policy=replace(
            policy,
            hold_fee=Decimal(0),
            reminders=tuple(replace(level, fee=Decimal(0)) for level in policy.reminders),
        ),
        lacking=tuple(dict.fromkeys(lacking)),
        packages=packages,
        agreements=tuple(replace(each, lacking=each.lacking | {MONTHLY}) for each in catalogue.agreements),
        coupons=tuple(replace(coupon, amount=None) for coupon in catalogue.coupons),
        add_ons=add_ons,
        others={},
    )


def _is_free(version: Terms) -> bool:
    """Whether it costs nothing, in whatever currency."""
    priced = (*version.overage.values(), *version.seats, version.minimum_spend)
    return version.is_sold and version.monthly == 0 and all(each is None for each in priced)


def _with_agreement(terms: Terms, agreement: Agreement) -> Terms:
    agreed = {
        *([MONTHLY] if agreement.monthly is not None else []),
        *agreement.overage,
        *([MINIMUM_SPEND] if agreement.minimum_spend is not None else []),
    }
    return replace(
        terms,
        lacking=frozenset(terms.lacking - agreed) | agreement.lacking,
        monthly=terms.monthly if agreement.monthly is None else agreement.monthly,
        yearly=terms.yearly if agreement.yearly is None else agreement.yearly,
        allowances={**terms.allowances, **agreement.allowances},
        overage={**terms.overage, **agreement.overage},
        minimum_spend=terms.minimum_spend if agreement.minimum_spend is None else agreement.minimum_spend,
    )
