"""Fingerprints: what a month was built from, so that a month in which nothing moved is not built again.

A month's fingerprint covers everything its tables depend on. Once all of its billing dates are closed, later accounts,
tax rates and earlier dues can change nothing in it and are left out.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from billing import __version__
from billing.business import Business
from billing.calendar import first_day, month_of, months_after, months_between
from billing.home import file_hash, write_bytes
from billing.ingest import events_fingerprint
from billing.month import approved_refunds, event_months
from billing.tables import DUES, LEVELS, PACKAGES, Table

FORMAT: Final = 1
"""Raised when the tables of a month would come out differently for equal input."""


def month_fingerprint(business: Business, month: str) -> dict[str, str]:
    """What the month would be built from now, by the name of the input.

    Returns
    -------
    dict
        A hash or a plain value for each input.
    """
    before = months_after(month, -1)
    last_day = date.fromordinal(first_day(months_after(month, 1)).toordinal() - 1)
    closed_through = business.register.closed_through(month)
    first = pl.lit(business.first_month or month)
    inputs = {
        "format": f"{__version__}/{FORMAT}",
        "catalogue": business.catalogue.content_hash,
        "usage": events_fingerprint(business.home, _event_months(business, month), business.as_of),
        # what is asked for after the month cannot change a billing date in it
        "requests": _frame_hash(business.requests.filter(pl.col("on") <= last_day)),
        "payments": _frame_hash(business.payments.filter(pl.col("on") <= last_day).drop("file", "row", "text")),
        # a cancellation or hold of a later month voids what was asked for in this one, and answers it
        "answers": _frame_hash(
            business.lives.answers.filter(pl.max_horizontal(month_of(pl.col("on")), first) == month)
        ),
        # a refund corrects the first document, whenever it is asked for
        "refunds": _frame_hash(_refunds_of(business, month)),
        "first_month": str(business.first_month),
        "levels of the month before": _file(business, LEVELS, before),
        "packages of the month before": _file(business, PACKAGES, before),
        "closed dates": _frame_hash(business.register.closed_dates(month)),
        # a correction adds a note to a month that is over
        "documents issued": str(business.register.count(month, since=month)),
        "closed through": str(closed_through),
    }
    if closed_through is None or closed_through < last_day:
        earlier = months_between(business.first_month or month, before)
        inputs |= {
            "as of": f"{min(business.as_of, last_day)}, {'issue' if business.issues else 'draft'} through "
            f"{business.closes_through(month)}",
            "accounts": _frame_hash(business.inputs.accounts),
            "tax rates": _frame_hash(business.inputs.tax_rates),
            "dues of earlier months": _digest([_file(business, DUES, each) for each in earlier]),
            "documents of earlier months": str(business.register.count(before)),
        }
    return inputs


def profiles_fingerprint(business: Business) -> str:
    """A hash of what profiles and balances as of the as-of day depend on."""
    month = business.as_of.strftime("%Y-%m")
    return _digest(
        [
            *(
                json.dumps(month_fingerprint(business, each), sort_keys=True)
                for each in (month, months_after(month, 1))
            ),
            _frame_hash(business.inputs.accounts),
            _frame_hash(business.inputs.tax_rates),
            _frame_hash(business.payments.drop("file", "row", "text")),
            str(business.register.count()),
            str(business.as_of),
        ]
    )


def recorded_fingerprint(business: Business, month: str) -> dict[str, str] | None:
    """What the month was built from; None when it was never built to the end."""
    path = _path(business, month)
    if not path.exists():
        return None
    recorded: dict[str, str] = json.loads(path.read_text())
    return recorded


def record_fingerprint(business: Business, month: str) -> None:
    """Remember what the month was built from, once everything in it is written."""
    content = json.dumps(month_fingerprint(business, month), indent=1, sort_keys=True) + "\n"
    write_bytes(_path(business, month), content.encode())


def moved_inputs(business: Business, month: str) -> list[str]:
    """Names of the inputs that moved since the month was built; `everything` when it was never built."""
    recorded = recorded_fingerprint(business, month)
    return ["everything"] if recorded is None else _differences(recorded, month_fingerprint(business, month))


def built_months(business: Business) -> list[str]:
    """The months that have been built."""
    folder = business.home.lake / "fingerprints"
    return sorted(path.parent.name.removeprefix("billing_month=") for path in folder.glob("*/fingerprint.json"))


def _refunds_of(business: Business, month: str) -> pl.DataFrame:
    """The approved refunds of subscriptions whose first document belongs to the month."""
    first = business.lives.subscriptions.filter(month_of(pl.col("grid_start")) == month)
    return approved_refunds(business).join(first, on="subscription_id", how="semi").sort("request_id")


def _event_months(business: Business, month: str) -> list[str]:
    """Months whose events a month reads: its own, the one before, and in the first month all there are before."""
    before = months_after(month, -1)
    is_first = business.first_month is None or month <= business.first_month
    return [*(event_months(business.home, before) if is_first else []), before, month]


def _differences(recorded: Mapping[str, str], current: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*recorded, *current} if recorded.get(name) != current.get(name))


def _path(business: Business, month: str) -> Path:
    return business.home.lake / "fingerprints" / f"billing_month={month}" / "fingerprint.json"


def _file(business: Business, table: Table, month: str) -> str:
    path = business.home.partition(table, month)
    return file_hash(path) if path.exists() else "none"


def _frame_hash(frame: pl.DataFrame) -> str:
    return hashlib.sha256(frame.write_json().encode()).hexdigest()


def _digest(values: list[str]) -> str:
    return hashlib.sha256("\n".join(values).encode()).hexdigest()
