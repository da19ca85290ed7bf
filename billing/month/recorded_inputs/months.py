"""Recorded inputs of months: a month is rebuilt only when it is stale.

They cover everything that the month's tables depend on. Once all of its billing dates are closed, leave out accounts,
tax rates and earlier dues: they cannot change it any more.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Final

import polars as pl

from billing import __version__
from billing.ingest import events_digest
from billing.ingest.state import state_path
from billing.model.calendar import first_day, month_of, months_after, months_between
from billing.model.codes import ParkedReason
from billing.model.columns import Table
from billing.model.tables import ADD_ONS, CHARGES, CYCLES, DRAFTS, DUES, LEVELS, PACKAGES, PARKED
from billing.month.business import Business
from billing.month.computed import file_stamp
from billing.month.held_offers import packages_of_redemptions
from billing.month.invoice_formats import format_problems
from billing.month.lost_deliveries import losses_that_stand
from billing.month.recorded_inputs.record import Record, month_record, read_record, write_record
from billing.month.shards import each_shard, is_sharded, shard_homes
from billing.month.steps import event_months
from billing.month.true_ups import refunds_of_month
from billing.rules.coupons import counted_documents
from billing.rules.minimum_spend import has_minimum_spend
from billing.store.files import file_hash
from billing.store.monthly import read_month

FORMAT: Final = 3
"""Raised when the tables of a month would come out differently for equal input."""

STEPS: Final[Mapping[str, tuple[str, ...]]] = {
    "cycles": (),
    "levels": (),
    "usage": ("levels",),
    "packages": ("cycles", "levels", "usage"),
    "decisions": ("cycles", "levels", "usage", "packages"),
    "charges": ("cycles", "usage", "packages"),
    "unbilled": (),
    "drafts": ("cycles", "usage", "packages", "decisions", "charges"),
}
"""The steps of a month that compute, each with the steps whose tables it reads."""

_WHOLE_MONTH: Final = "fingerprint"

# Issuing changes these itself, after the steps have read them.
_MOVED_BY_ISSUING: Final = ("closed dates", "documents issued", "closed through")
# The step that computes charges changes this itself.
_MOVED_BY_STEPS: Final = ("parked no more", "formats")


def month_inputs(business: Business, month: str) -> dict[str, str]:
    """Current inputs of the month: a hash or a plain value by name.

    Where the month has several shards: a hash of each shard's, by name.
    """
    if is_sharded(business, month):
        found = [month_inputs(shard, month) for shard in each_shard(business, month)]
        # Inputs that not all homes have may be those of some shards only.
        names = dict.fromkeys(name for each in found for name in each)
        return {name: _digest([each.get(name, "") for each in found]) for name in names}
    home, before = business.home, months_after(month, -1)
    earlier = {*months_between(business.first_month or month, before), before}
    tables = (LEVELS, PACKAGES, ADD_ONS, DUES, CHARGES, CYCLES)
    files = [part for each in sorted(earlier) for table in tables for part in home.parts(table, each)]
    key = (
        business.register.revision(),
        *map(file_stamp, [state_path(home), home.partition(PARKED, month), *files]),
    )
    return dict(business.computed.once(("inputs", month), key, lambda: _month_inputs(business, month)))


def _month_inputs(business: Business, month: str) -> dict[str, str]:
    before = months_after(month, -1)
    last_day = date.fromordinal(first_day(months_after(month, 1)).toordinal() - 1)
    closed_through = business.register.closed_through(month)
    first = pl.lit(business.first_month or month)
    inputs = {
        "format": f"{__version__}/{FORMAT}",
        "catalogue": business.catalogue.content_hash,
        "usage": events_digest(business.home, _event_months(business, month), business.as_of),
        # Requests after the month cannot change a billing date in it.
        "requests": _input_hash(
            business, ("requests", last_day), lambda: business.requests.filter(pl.col("on") <= last_day)
        ),
        "payments": _input_hash(
            business,
            ("payments", last_day, business.register.count()),
            lambda: business.payments.filter(pl.col("on") <= last_day).drop("file", "row", "text", "reference"),
        ),
        # But a later cancellation or hold voids, and so answers, a pending change of this month.
        "answers": _input_hash(
            business,
            ("answers", month),
            lambda: business.lives.answers.filter(pl.max_horizontal(month_of(pl.col("on")), first) == month),
        ),
        # Credit notes can end a suspension.
        "suspensions": _frame_hash(business.suspensions.filter(pl.col("suspended_from").dt.date() <= last_day)),
        # A refund corrects the first document, whenever it is requested.
        "refunds": _frame_hash(refunds_of_month(business, month)),
        "first_month": str(business.first_month),
        "accepted losses": str(losses_that_stand(business).height),
        # Recheck a month with contradictions.
        "contradictions": "0",
        # Rebuild a month without the dues of an account that is no longer parked.
        "parked no more": _parked_no_more(business, month),
        "levels of the month before": _file(business, LEVELS, before),
        "packages of the month before": _file(business, PACKAGES, before),
        "closed dates": _frame_hash(business.register.closed_dates(month)),
        # Corrections add notes to past months.
        "documents issued": str(business.register.count(month, since=month)),
        "closed through": str(closed_through),
    }
    inputs |= _offer_inputs(business, month, last_day)
    if business.has_moved_in_of_all and month == business.first_month:
        # Of a shard: its own requests do not say it.
        inputs["moved in"] = "True"
    if formats := _formats(business, month):
        inputs["formats"] = formats
    passed = business.register.passed_dates(month)
    is_closed = closed_through is not None and closed_through >= last_day
    parked = business.parked.join(passed, on="account_id", how="semi") if is_closed else business.parked_in(month)
    inputs["parked"] = _frame_hash(pl.concat([parked["account_id"], passed["account_id"]]).to_frame())
    if not is_closed:
        inputs |= _open_month_inputs(business, month, last_day)
    return inputs


def _offer_inputs(business: Business, month: str, last_day: date) -> dict[str, str]:
    """Inputs of what is sold beside packages; those that a business does not use are left out."""
    before, inputs = months_after(month, -1), dict[str, str]()
    for name, what, day in (("one-off charges", "one_off_charges", "on"), ("credits", "credit_grants", "granted_on")):
        rows = _up_to(getattr(business.inputs, what), day, last_day)
        if not rows.is_empty():
            inputs[name] = _frame_hash(rows)
    if drafted := _credits_in_drafts(business, month):
        inputs["credits in drafts"] = drafted
    fees = _up_to(business.register.reminder_fees(), "charged_on", last_day)
    if not fees.is_empty():
        inputs["reminder fees"] = _frame_hash(fees)
    if has_minimum_spend(business.catalogue):
        counted = months_between(months_after(month, -12), before)
        inputs["dues that count for minimums"] = _digest([_file(business, DUES, each) for each in counted])
    if held := [each for each in business.home.months(ADD_ONS) if each < month]:
        inputs["add-ons of earlier months"] = _digest([_file(business, ADD_ONS, each) for each in held])
    if business.catalogue.coupons:
        asked = business.asked_coupons
        own = business.exhausted_redemptions.join(asked, on="account_id", how="semi", maintain_order="left")
        tested = packages_of_redemptions(business, asked, month)
        # A coupon may be for some packages only, and other accounts may have redeemed it before.
        inputs["redemptions"] = _digest([_frame_hash(own), _frame_hash(tested)])
    if any(coupon.documents for coupon in business.catalogue.coupons):
        # Some hold for a number of documents: late usage may change which those are.
        built = [each for each in business.home.months(DUES) if each < month]
        inputs["documents with coupons"] = _frame_hash(counted_documents(business.scan_months(DUES, built)))
    return inputs


def _open_month_inputs(business: Business, month: str, last_day: date) -> dict[str, str]:
    """Inputs that stop counting once the month is closed."""
    before = months_after(month, -1)
    earlier = months_between(business.first_month or month, before)
    inputs = {
        "as of": f"{min(business.as_of, last_day)}, {'issue' if business.issues else 'draft'} through "
        f"{business.closes_through(month)}",
        "accounts": _input_hash(business, ("accounts",), lambda: business.inputs.accounts),
        "tax rates": _input_hash(business, ("tax rates",), lambda: business.inputs.tax_rates),
        # True-up lines contain the calculation of earlier cycles.
        "dues of earlier months": _digest(
            [_file(business, table, each) for each in earlier for table in (DUES, CHARGES, CYCLES)]
        ),
        "documents of earlier months": str(business.register.count(before)),
    }
    if not business.inputs.exchange_rates.is_empty():
        inputs["exchange rates"] = _frame_hash(business.inputs.exchange_rates)
    if shadow := business.catalogue.policy.shadow:
        file = business.home.root / shadow
        inputs["shadow"] = file_hash(file) if file.is_file() else ""
    if business.catalogue.resources.digest:
        inputs["resources"] = business.catalogue.resources.digest
    return inputs


def profiles_digest(business: Business) -> str:
    """A hash of what profiles and balances as of the as-of day depend on."""
    month = business.as_of.strftime("%Y-%m")
    return _digest(
        [
            *(json.dumps(month_inputs(business, each), sort_keys=True) for each in (month, months_after(month, 1))),
            _frame_hash(business.inputs.accounts),
            _frame_hash(business.inputs.tax_rates),
            _frame_hash(business.payments.drop("file", "row", "text", "reference")),
            *([] if business.opening_balances.is_empty() else [_frame_hash(business.opening_balances)]),
            str(business.register.count()),
            str(business.as_of),
        ]
    )


def recorded_month(business: Business, month: str) -> Record | None:
    """The recorded inputs of a month or shard; None when it was never completed."""
    return read_record(_path(business, month), may_be_lost=True)


def record_step(business: Business, month: str, step: str) -> None:
    """Record the inputs of one of STEPS after it ran for a shard: the month's inputs, and the steps it read."""
    current = {
        name: value
        for name, value in month_inputs(business, month).items()
        if name not in (*_MOVED_BY_ISSUING, *_MOVED_BY_STEPS)
    }
    record = Record(current | _steps_read(business, month, step))
    write_record(month_record(business.home, month, step), record, may_be_lost=True)


def steps_to_run(business: Business, month: str) -> list[str]:
    """The stale steps of a month: their tables were computed from other inputs or other earlier tables.

    Dagster can run a single step, even as of another day: its table is then inconsistent with the rest.
    """
    found = {
        step
        for shard in each_shard(business, month)
        for step in _steps_to_run(shard, month, month_inputs(shard, month))
    }
    return [step for step in STEPS if step in found]


def record_when_complete(business: Business, month: str) -> bool:
    """Call `record_month` if no step of the month is stale; return whether it did."""
    complete = not steps_to_run(business, month)
    if complete:
        record_month(business, month)
    return complete


def record_month(business: Business, month: str) -> None:
    """Record the inputs of a month, by shard, once all of its tables are written."""
    for shard in each_shard(business, month):
        parked = read_month(shard.home, PARKED, month, ["account_id", "reason"])
        again = parked.filter(
            pl.col("reason").is_in([ParkedReason.CONTRADICTION, ParkedReason.MISSING_TAX_RATE])
        ).height
        again += _parked_by_a_document(shard, month, parked)
        found = {"contradictions": str(again)}
        write_record(_path(shard, month), Record(month_inputs(shard, month) | found), may_be_lost=True)


def moved_inputs(business: Business, month: str) -> list[str]:
    """Names of the inputs that changed since the month was built; `everything` when it was never built."""
    if is_sharded(business, month):
        if not all(month_record(home, month, _WHOLE_MONTH).exists() for home in shard_homes(business, month)):
            return ["everything"]
        moved = {name for shard in each_shard(business, month) for name in moved_inputs(shard, month)}
        return sorted(moved, key=lambda name: (name.startswith("step "), name))
    recorded = recorded_month(business, month)
    if recorded is None:
        return ["everything"]
    current = month_inputs(business, month)
    steps = [
        f"step {step}"
        for step in _steps_to_run(business, month, current)
        if month_record(business.home, month, step).exists()
    ]
    return recorded.moved(current) or steps


def first_moved_before(business: Business, month: str) -> str | None:
    """The first missing or stale month before `month`; None when all are up to date."""
    earlier = months_between(business.first_month or month, months_after(month, -1))
    return next((earlier_month for earlier_month in earlier if moved_inputs(business, earlier_month)), None)


def is_up_to_date(business: Business, month: str) -> bool:
    """Whether a month is the latest that was built, and all months before it are up to date."""
    return month == max(built_months(business), default="") and first_moved_before(business, month) is None


def built_months(business: Business) -> list[str]:
    """The months that have been built."""
    folder = business.home.lake / "fingerprints"
    months = {path.parent.name.removeprefix("billing_month=") for path in folder.glob(f"*/{_WHOLE_MONTH}*.json")}
    return sorted(months)


def _credits_in_drafts(business: Business, month: str) -> str:
    """A hash of what drafts of earlier months use of prepaid credits; empty where there are no credits."""
    if business.credit_grants.is_empty():
        return ""
    earlier = [each for each in business.home.months(DRAFTS) if each < month]
    used = business.scan_months(DRAFTS, earlier).select("account_id", "billing_date", "credits").drop_nulls("credits")
    return _frame_hash(used.collect())


def _parked_no_more(business: Business, month: str) -> str:
    """Count accounts that were parked in the month and now are not, or for another reason."""
    parked_then = read_month(business.home, PARKED, month, ["account_id", "reason", "detail"])
    if parked_then.is_empty():
        return "0"
    standing = parked_then.filter(
        ~pl.col("reason").is_in(
            [
                ParkedReason.CONTRADICTION,
                ParkedReason.QUANTITY_OUT_OF_RANGE,
                ParkedReason.MISSING_FOR_FORMAT,
                ParkedReason.MISSING_TAX_RATE,
            ]
        )
    )
    return str(standing.join(business.parked_in(month), on=standing.columns, how="anti").height)


def _formats(business: Business, month: str) -> str:
    """A hash of what accounts that are parked for their format lack; empty where none is."""
    parked = read_month(business.home, PARKED, month, ["account_id", "reason"])
    accounts = parked["account_id"].filter(parked["reason"] == ParkedReason.MISSING_FOR_FORMAT)
    return "" if accounts.is_empty() else _frame_hash(format_problems(business, month, accounts))


def _parked_by_a_document(business: Business, month: str, parked: pl.DataFrame) -> int:
    """Count accounts parked for a document that their format cannot say: each run looks at them again."""
    accounts = parked.filter(pl.col("reason") == ParkedReason.MISSING_FOR_FORMAT)
    if accounts.is_empty():
        return 0
    known = format_problems(business, month, accounts["account_id"])
    return accounts.join(known, on="account_id", how="anti").height


def _event_months(business: Business, month: str) -> list[str]:
    """Months whose events a month reads: its own, the one before, and in the first month all there are before."""
    before = months_after(month, -1)
    is_first = business.first_month is None or month <= business.first_month
    return [*(event_months(business.home, before) if is_first else []), before, month]


def _path(business: Business, month: str) -> Path:
    return month_record(business.home, month, _WHOLE_MONTH)


def _steps_to_run(business: Business, month: str, current: Mapping[str, str]) -> list[str]:
    return [step for step in STEPS if not _is_current(business, month, step, current)]


def _is_current(business: Business, month: str, step: str, current: Mapping[str, str]) -> bool:
    record = read_record(month_record(business.home, month, step), may_be_lost=True)
    if record is None:
        return False
    # The record still has inputs that stopped counting when the month was closed.
    now = {**current, **_steps_read(business, month, step)}
    return all(now.get(name, value) == value for name, value in record.inputs.items())


def _steps_read(business: Business, month: str, step: str) -> dict[str, str]:
    """The digests of the records of the steps whose tables a step reads."""
    return {f"step {read_step}": _step_digest(business, month, read_step) for read_step in STEPS[step]}


def _step_digest(business: Business, month: str, step: str) -> str:
    path = month_record(business.home, month, step)
    return file_hash(path) if path.exists() else "none"


def _file(business: Business, table: Table, month: str) -> str:
    """A hash of the files of a table, of a shard those with rows of its accounts."""
    found = [(part, file_stamp(part)) for part in business.home.parts(table, month)]
    hashes = [_hash_once(part, *stamp) for part, stamp in found if stamp is not None]
    return hashes[0] if len(hashes) == 1 else _digest(hashes) if hashes else "none"


@lru_cache(maxsize=10_000)
def _hash_once(path: Path, *_: int) -> str:
    """Cached hash of a file by its metadata: every step asks for earlier months, and files are only ever replaced."""
    return file_hash(path)


def _input_hash(business: Business, what: tuple[object, ...], frame: Callable[[], pl.DataFrame]) -> str:
    """Cached hash of an input: a business loads it only once."""
    return business.computed.once(("hash", *what), None, lambda: _frame_hash(frame()))


def _up_to(rows: pl.DataFrame, column: str, last_day: date) -> pl.DataFrame:
    return rows if rows.is_empty() else rows.filter(pl.col(column) <= last_day)


def _frame_hash(frame: pl.DataFrame) -> str:
    return hashlib.sha256(frame.write_json().encode()).hexdigest()


def _digest(values: list[str]) -> str:
    return hashlib.sha256("\n".join(values).encode()).hexdigest()
