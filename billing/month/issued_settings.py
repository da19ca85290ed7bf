"""Settings under which billing dates were closed; refuse changes that would move closed dates.

A closed date stands (rule 9). Another time zone, billing anchor or later billing start would give the same
subscriptions other dates: everything issued would be credited and billed again. A coupon or add-on that goes missing
would undo what documents say of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

import polars as pl

from billing.model.calendar import first_day
from billing.model.catalogue import Catalogue
from billing.model.codes import DecisionKind
from billing.model.errors import Problem, RefusedError
from billing.model.offers import QUANTITIES
from billing.register.register import Register

_FILE: Final = "catalogue.yaml"
_COUPON: Final = "coupon."
_ADD_ON: Final = "add_on."
_CURRENCY: Final = "currency."
# Ignore clock changes before and after: nothing is billed there.
_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def settings_of(catalogue: Catalogue) -> Mapping[str, str]:
    """The settings that billing dates depend on, by their place in the catalogue."""
    return {
        "time_zone": catalogue.time_zone,
        "policy.billing_anchor": catalogue.policy.billing_anchor,
        "policy.billing_start": catalogue.policy.billing_start.isoformat(),
    }


def keep_settings(
    register: Register,
    catalogue: Catalogue,
    currencies: Sequence[str] = (),
    requests: pl.LazyFrame | None = None,
) -> None:
    """Record `settings_to_keep`: a home billed by a version that recorded none records those of its next run."""
    register.keep_settings(settings_to_keep(register, catalogue, currencies, requests))


def settings_to_keep(
    register: Register,
    catalogue: Catalogue,
    currencies: Sequence[str] = (),
    requests: pl.LazyFrame | None = None,
) -> dict[str, str]:
    """The settings to record before billing dates are closed; those of the first closing stay.

    Parameters
    ----------
    currencies
        Those in use; none stands for that of the catalogue.
    requests
        The requests of everyone: the coupons and add-ons that they name have to stay in the catalogue.
    """
    # Record packages hidden from the start, too: they were never on offer, whatever is issued later.
    hidden = {
        _hidden(package.name): (hidden_after(register, package.name) or date.min).isoformat()
        for package in catalogue.packages
        if package.hidden
    }
    used = {f"{_CURRENCY}{code}": "used" for code in currencies or (catalogue.currency,)}
    asked = {} if requests is None else dict.fromkeys(_asked_for(catalogue, requests), "asked for")
    return {**settings_of(catalogue), **hidden, **used, **asked}


def _asked_for(catalogue: Catalogue, requests: pl.LazyFrame) -> list[str]:
    """The settings of the coupons and add-ons of the catalogue that requests name."""
    if not catalogue.coupons and not catalogue.add_ons:
        return []
    names = ("coupon", "add_on", "add_ons")
    frames = [requests.select(pl.col(name).drop_nulls().unique()) for name in names]
    coupons, singly, mapped = (frame.collect(engine="streaming").to_series() for frame in frames)
    given = mapped.str.json_decode(QUANTITIES).explode(empty_as_null=False).struct.field("name")
    add_ons = {*singly, *given}
    return sorted(
        [
            *(_coupon(each.name) for each in catalogue.coupons if each.name in coupons),
            *(_add_on(each.name) for each in catalogue.add_ons if each.name in add_ons),
        ]
    )


def issued_in_others(register: Register, catalogue: Catalogue) -> bool:
    """Whether documents may have been issued in another currency than that of the catalogue."""
    used = {name.removeprefix(_CURRENCY) for name in register.settings() if name.startswith(_CURRENCY)}
    if not used:
        # Earlier versions recorded none.
        return register.has_issued_in_another(catalogue.currency)
    return bool(used - {catalogue.currency})


def hidden_after(register: Register, package: str) -> date | None:
    """The day up to which people could get into a hidden package: of the last issue before it was hidden."""
    kept = register.settings().get(_hidden(package))
    return date.fromisoformat(kept) if kept else register.last_closed_day()


def inside_hidden_packages(register: Register, requests: pl.DataFrame, packages: Sequence[str]) -> pl.Series:
    """request_id of subscriptions to hidden packages that began before these were hidden.

    Their billing dates are closed, or they were made by the last issue before the package was hidden: in a trial.
    """
    asked = requests.filter((pl.col("kind") == DecisionKind.SUBSCRIBE) & pl.col("package").is_in(packages))
    if asked.is_empty():
        return asked["request_id"]
    hidden = {name: hidden_after(register, name) for name in packages}
    closed = register.closed_subscriptions()
    if (since := register.reopened_from) is not None:
        # What is decided again knows nothing of what came later.
        closed = closed.filter(pl.col("first") < since)
        hidden = {name: day and min(day, since - timedelta(days=1)) for name, day in hidden.items()}
    begun = closed["subscription_id"]
    return asked.filter(
        pl.format("{}/{}", "account_id", pl.col("on").dt.to_string("%Y-%m-%d")).is_in(begun.implode())
        | (pl.col("on") <= pl.col("package").replace_strict(hidden, return_dtype=pl.Date)).fill_null(value=False)
    )["request_id"]


def _hidden(package: str) -> str:
    return f"hidden.{package}"


def _coupon(name: str) -> str:
    return f"{_COUPON}{name}"


def _add_on(name: str) -> str:
    return f"{_ADD_ON}{name}"


def refuse_moved_settings(register: Register, catalogue: Catalogue) -> None:
    """Refuse a catalogue that would move closed billing dates.

    Raises
    ------
    RefusedError
        Naming each setting, its old value and why it cannot change.
    """
    problems = moved_settings(register, catalogue)
    if problems:
        raise RefusedError("landing/catalogue.yaml: the catalogue is refused: billing dates have been closed", problems)


def moved_settings(register: Register, catalogue: Catalogue) -> list[Problem]:
    """The settings that would move closed billing dates; none where nothing was issued yet."""
    months = register.issued_months()
    if not months:
        return []
    before, problems = register.settings(), []
    now = settings_of(catalogue)
    zone = before.get("time_zone", catalogue.time_zone)
    if zone != catalogue.time_zone and not _is_the_same_clock(zone, catalogue.time_zone):
        why = "documents were issued under it: under another one their days and cycles would begin at other instants"
        problems.append(Problem(_FILE, "time_zone", repr(catalogue.time_zone), f"{zone!r} as before ({why})"))
    anchor = before.get("policy.billing_anchor", catalogue.policy.billing_anchor)
    if anchor != catalogue.policy.billing_anchor:
        place, found = "policy.billing_anchor", repr(catalogue.policy.billing_anchor)
        why = "documents were issued under it: under another one subscriptions would have other billing dates"
        problems.append(Problem(_FILE, place, found, f"{anchor!r} as before ({why})"))
    start = catalogue.policy.billing_start
    if start > first_day(months[0]):
        old = before.get("policy.billing_start", now["policy.billing_start"])
        earlier = f"{old} as before" if old < start.isoformat() else f"{first_day(months[0])} or earlier"
        why = f"documents of {months[0]} were issued: under a later start that month would not exist"
        problems.append(Problem(_FILE, "policy.billing_start", start.isoformat(), f"{earlier} ({why})"))
    return [*problems, *_missing_offers(before, catalogue)]


def _missing_offers(before: Mapping[str, str], catalogue: Catalogue) -> Iterator[Problem]:
    """Coupons and add-ons that were asked for before documents were issued, and that the catalogue has no more."""
    coupons = {_coupon(each.name) for each in catalogue.coupons}
    add_ons = {_add_on(each.name) for each in catalogue.add_ons}
    for kept in sorted(before):
        if kept.startswith(_COUPON) and kept not in coupons:
            why = "without it, what it took off is charged; `redeem_until` ends it"
            yield Problem(_FILE, "coupons", f"no {kept.removeprefix(_COUPON)}", f"it as before ({why})")
        if kept.startswith(_ADD_ON) and kept not in add_ons:
            why = "without it, what was charged for it is given back; a package's `add_ons` leaves it out"
            yield Problem(_FILE, "add_ons", f"no {kept.removeprefix(_ADD_ON)}", f"it as before ({why})")


def _is_the_same_clock(zone: str, other: str) -> bool:
    """Whether two time zones have the same local times, such as an old and a new name of one zone."""
    instants = pl.datetime_range(_FIRST, _LAST, "1h", time_zone="UTC", eager=True)
    one, another = (instants.dt.convert_time_zone(name).dt.replace_time_zone(None) for name in (zone, other))
    return bool((one == another).all())
