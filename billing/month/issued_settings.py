"""Settings under which billing dates were closed; refuse changes that would move closed dates.

A closed date stands (rule 9). Another time zone, billing anchor or later billing start would give the same
subscriptions other dates: everything issued would be credited and billed again.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final

import polars as pl

from billing.model.calendar import first_day
from billing.model.catalogue import Catalogue
from billing.model.errors import Problem, RefusedError
from billing.register.register import Register

_FILE: Final = "catalogue.yaml"
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


def keep_settings(register: Register, catalogue: Catalogue, currencies: Sequence[str] = ()) -> None:
    """Record the settings before billing dates are closed; those of the first closing stay.

    A home billed by a version that recorded none records those of its next run.

    Parameters
    ----------
    currencies
        Those in use; none stands for that of the catalogue.
    """
    # Record packages hidden from the start, too: they were never on offer, whatever is issued later.
    hidden = {
        _hidden(package.name): (hidden_after(register, package.name) or date.min).isoformat()
        for package in catalogue.packages
        if package.hidden
    }
    used = {f"{_CURRENCY}{code}": "used" for code in currencies or (catalogue.currency,)}
    register.keep_settings({**settings_of(catalogue), **hidden, **used})


def issued_in_others(register: Register, catalogue: Catalogue) -> bool:
    """Whether documents may have been issued in another currency than that of the catalogue."""
    used = {name.removeprefix(_CURRENCY) for name in register.settings() if name.startswith(_CURRENCY)}
    if not used and register.issued_months():
        # Earlier versions recorded none.
        used = set(register.issued_currencies()["currency"])
    return bool(used - {catalogue.currency})


def hidden_after(register: Register, package: str) -> date | None:
    """The day up to which people could get into a hidden package: of the last issue before it was hidden."""
    kept = register.settings().get(_hidden(package))
    return date.fromisoformat(kept) if kept else register.last_closed_day()


def _hidden(package: str) -> str:
    return f"hidden.{package}"


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
    return problems


def _is_the_same_clock(zone: str, other: str) -> bool:
    """Whether two time zones have the same local times, such as an old and a new name of one zone."""
    instants = pl.datetime_range(_FIRST, _LAST, "1h", time_zone="UTC", eager=True)
    one, another = (instants.dt.convert_time_zone(name).dt.replace_time_zone(None) for name in (zone, other))
    return bool((one == another).all())
