"""Detection of missing deliveries: days without files, and daily files that stopped.

A delivery is expected on every day since the first one, and every file that came on each of the seven days before.
Names are compared without day and extension: `mail-2026-01-10.jsonl` and `mail-2026-01-11.csv.gz` are one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from billing.ingest.landing import delivered_files
from billing.ingest.state import read_state
from billing.store.home import Home

HABIT_DAYS: Final = 7
_ENDING: Final = re.compile(r"\.(jsonl|ndjson|json|csv|parquet)(\.(gz|zst))?$", re.IGNORECASE)


@dataclass(frozen=True)
class MissingDeliveries:
    """Missing days and files, sorted by day.

    Attributes
    ----------
    days
        Days without any delivery.
    files
        Day and name of files that came on each of the seven days before, and not on this one.
    """

    days: tuple[date, ...]
    files: tuple[tuple[date, str], ...]

    def __bool__(self) -> bool:
        return bool(self.days or self.files)

    def in_words(self, most: int = 10) -> list[str]:
        """One line each, the latest `most` of them, and a count of the earlier ones."""
        lines = [(day, f"{day}: nothing was delivered") for day in self.days]
        lines += [(day, f"{day}: {name} did not come, as it did on every day before") for day, name in self.files]
        found = [text for _, text in sorted(lines)]
        more = len(found) - most
        return [*([f"and {more} earlier ones"] if more > 0 else []), *found[-most:]]


def missing_deliveries(home: Home, since: date, through: date) -> MissingDeliveries:
    """Expected deliveries from `since` to `through` that are neither in landing/usage nor ever ingested."""
    names = _names_by_day(home, through)
    if not names:
        return MissingDeliveries((), ())
    start = max(since, min(names))
    days = [start + timedelta(days=each) for each in range((through - start).days + 1)]
    files = []
    for day in days:
        before = [names.get(day - timedelta(days=each), frozenset()) for each in range(1, HABIT_DAYS + 1)]
        if names.get(day):
            files += [(day, name) for name in sorted(frozenset.intersection(*before) - names[day])]
    return MissingDeliveries(tuple(day for day in days if not names.get(day)), tuple(files))


def _names_by_day(home: Home, through: date) -> Mapping[date, frozenset[str]]:
    """File names of each day, without day and extension; includes files archived since."""
    state = read_state(home)
    found: dict[date, set[str]] = {}
    for day, known in state.days.items() if state else ():
        if day <= through:
            found.setdefault(day, set()).update(_name_without_day(name, day) for name in known.files)
    for file in delivered_files(home, through).files:
        found.setdefault(file.day, set()).add(_name_without_day(file.name, file.day))
    return {day: frozenset(names) for day, names in found.items()}


def _name_without_day(name: str, day: date) -> str:
    return _ENDING.sub("", name).replace(day.isoformat(), "<day>").replace(f"{day:%Y%m%d}", "<day>")
