"""A candidate catalogue joined to the one in force: until a day the one, from it on the other (what-if)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Final, Protocol, TypeVar

from billing.model.catalogue import Agreement, Catalogue, Metric, Package, Terms
from billing.model.errors import Problem, RefusedError
from billing.model.offers import AddOn, AddOnVersion, Coupon

_FIXED: Final = ("billing_start", "billing_anchor")
_READS: Final = ("longest_record_mib", "largest_ratio")

Version = TypeVar("Version", Terms, AddOnVersion)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Named = TypeVar("Named", bound=_Named)


def joined_catalogue(home: Catalogue, candidate: Catalogue, since: date) -> Catalogue:
    """The catalogue in force up to the day before `since`, then the candidate with its own effective dates.

    What the candidate leaves out goes on for those who have it: nobody gets into a package, coupon or add-on that it
    does not name. Sources, seller and numbers are those in force: they bear on no price. The policy is the candidate's.

    Raises
    ------
    RefusedError
        When the candidate changes the currency, the time zone, the anchor or the start of billing.
    """
    problems = list(_moved(home, candidate))
    if problems:
        raise RefusedError("the candidate catalogue is refused: it would move billing dates", problems)
    joined = _joined(home, candidate, since)
    codes = {*home.others, *candidate.others}
    others = {code: _joined(home.in_currency(code), candidate.in_currency(code), since) for code in sorted(codes)}
    return replace(joined, others=others)


def not_reached(candidate: Catalogue, last_day: date) -> list[str]:
    """Versions of packages and add-ons of a candidate that take effect after a day, in words."""
    packages = [(each.name, version.effective_from) for each in candidate.packages for version in each.versions]
    add_ons = [(each.name, version.effective_from) for each in candidate.add_ons for version in each.versions]
    return [f"{name} from {day}" for name, day in (*packages, *add_ons) if day > last_day]


def _moved(home: Catalogue, candidate: Catalogue) -> Iterator[Problem]:
    was, now = home.policy, candidate.policy
    pairs = [
        ("currency", home.currency, candidate.currency),
        ("time_zone", home.time_zone, candidate.time_zone),
        *((f"policy.{name}", str(getattr(was, name)), str(getattr(now, name))) for name in _FIXED),
    ]
    for place, old, new in pairs:
        if old != new:
            yield Problem("candidate", place, new, f"{old}, as in the catalogue in force")


def _joined(home: Catalogue, candidate: Catalogue, since: date) -> Catalogue:
    metrics = _with_missing(candidate.metrics, home.metrics)
    policy = replace(candidate.policy, **{name: getattr(home.policy, name) for name in _READS})
    return replace(
        home,
        policy=policy,
        metrics=metrics,
        packages=_packages(home, candidate, since, metrics),
        agreements=_agreements(home.agreements, candidate.agreements, since),
        coupons=_coupons(home.coupons, candidate.coupons, since),
        add_ons=_add_ons(home.add_ons, candidate.add_ons, since),
        content_hash=candidate.content_hash,
        lacking=candidate.lacking,
    )


def _with_missing(of: Sequence[Named], others: Sequence[Named]) -> tuple[Named, ...]:
    names = {each.name for each in of}
    return (*of, *(each for each in others if each.name not in names))


def _packages(home: Catalogue, candidate: Catalogue, since: date, metrics: Sequence[Metric]) -> tuple[Package, ...]:
    before = {package.name: package.versions for package in home.packages}
    after = {package.name: package.versions for package in candidate.packages}
    add_ons = tuple(each.name for each in candidate.add_ons)
    has_more = any(each.name not in add_ons for each in home.add_ons)
    found = []
    for package in _with_missing(candidate.packages, home.packages):
        versions = _versions(before.get(package.name, ()), after.get(package.name, ()), since)
        # An add-on that the candidate leaves out is allowed nowhere.
        allowed = add_ons if package.add_ons is None and has_more and package.name in after else package.add_ons
        found.append(
            replace(
                package,
                versions=tuple(_with_metrics(each, metrics) for each in versions),
                hidden=package.hidden or package.name not in after,
                add_ons=allowed,
            )
        )
    return tuple(sorted(found, key=lambda package: package.rank))


def _versions(old: Sequence[Version], new: Sequence[Version], since: date) -> Iterator[Version]:
    """The old ones until the day, or until the first new one takes effect; from then on the new ones."""
    in_force = [each for each in new if each.effective_from <= since][-1:]
    turn = since if in_force else min([each.effective_from for each in new], default=date.max)
    yield from (each for each in old if each.effective_from < turn)
    yield from (replace(each, effective_from=since) for each in in_force)
    yield from (each for each in new if each.effective_from > since)


def _with_metrics(terms: Terms, metrics: Sequence[Metric]) -> Terms:
    """Terms with an allowance of every metric: one that they do not know is not charged."""
    missing = {metric.name: None for metric in metrics if metric.name not in terms.allowances}
    return replace(terms, allowances={**terms.allowances, **missing}) if missing else terms


def _agreements(old: Sequence[Agreement], new: Sequence[Agreement], since: date) -> tuple[Agreement, ...]:
    before = [replace(each, until=min(each.until or date.max, since)) for each in old if each.effective_from < since]
    later = [
        replace(each, effective_from=max(each.effective_from, since))
        for each in sorted(new, key=lambda each: each.effective_from)
        if each.until is None or each.until > since
    ]
    return (*before, *later)


def _coupons(old: Sequence[Coupon], new: Sequence[Coupon], since: date) -> tuple[Coupon, ...]:
    names, last = {each.name for each in new}, since - timedelta(days=1)
    left_out = [
        replace(each, redeem_until=min(each.redeem_until or date.max, last)) for each in old if each.name not in names
    ]
    return (*new, *left_out)


def _add_ons(old: Sequence[AddOn], new: Sequence[AddOn], since: date) -> tuple[AddOn, ...]:
    before, after = ({each.name: each.versions for each in add_ons} for add_ons in (old, new))
    return tuple(
        replace(each, versions=tuple(_versions(before.get(each.name, ()), after.get(each.name, ()), since)))
        for each in _with_missing(new, old)
    )
