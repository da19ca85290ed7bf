"""A month on several machines: the head plans it, workers bill its shards, and nothing else is shared.

Each worker step is a function of the plan, the lake and the register: killed, run twice or late, it writes the same
bytes. Numbers are given by the head alone, when it issues.
"""

import json
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Final

import polars as pl

from billing.inputs.catalogue_file import load_catalogue
from billing.inputs.reading import Inputs
from billing.model.buckets import BucketRange
from billing.model.catalogue import Catalogue
from billing.model.errors import InterruptedRunError
from billing.month.all_steps import STEPS_OF_A_MONTH
from billing.month.business import Business
from billing.month.recorded_inputs.months import record_step
from billing.month.resources import with_resources
from billing.month.shards import begin_month, shard_ranges
from billing.month.versions import refuse_other_versions, versions
from billing.register.register import Register
from billing.store.files import write_bytes, write_file
from billing.store.home import Home


@dataclass(frozen=True)
class Plan:
    """What a worker is told of a month: the rest is in the home and the register.

    Attributes
    ----------
    shards
        The names of the ranges of buckets; one where the month is not divided.
    first_month
        The first billing month of the whole business.
    catalogue
        The hash of the catalogue that the head read, and what documents are drawn with.
    has_moved_in
        As `Business.has_moved_in`, of the whole business.
    currencies
        As `Inputs.currencies`.
    versions
        Those of the head: with others the bytes could differ.
    """

    month: str
    as_of: date
    issues: bool
    first_month: str
    shards: tuple[str, ...]
    catalogue: str
    has_moved_in: bool = False
    currencies: tuple[str, ...] = ()
    versions: str = field(default_factory=versions)

    def to_json(self) -> str:
        """The plan as text."""
        return json.dumps(asdict(self) | {"as_of": self.as_of.isoformat()}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """The plan of a text that `to_json` made."""
        found = json.loads(text)
        lists = {name: tuple(found[name]) for name in ("shards", "currencies") if name in found}
        return cls(**found | lists | {"as_of": date.fromisoformat(found["as_of"])})


def plan_month(business: Business, month: str) -> Plan:
    """Divide a month into shards, and write the inputs of each; the head does, under the lock of the run."""
    begin_month(business, month)
    ranges = shard_ranges(business, month)
    for buckets in ranges:
        _write_inputs(business.inputs.of(buckets), replace(business.home, buckets=buckets), month)
    write_file(_exhausted_file(business.home, month), business.exhausted_redemptions.write_parquet)
    return Plan(
        month,
        business.as_of,
        business.issues,
        business.first_month or month,
        tuple(buckets.name for buckets in ranges),
        _hash_of(business.catalogue),
        business.has_moved_in,
        business.inputs.currencies,
    )


def write_plan(home: Home, plan: Plan) -> None:
    """Put the plan where the workers find it; nothing of it has been billed yet."""
    _forget_billed(home, plan.month)
    write_bytes(_plan_file(home, plan.month), plan.to_json().encode())


def read_plan(home: Home, month: str) -> Plan | None:
    """The plan of a month; None where it is not being billed by workers."""
    try:
        return Plan.from_json(_plan_file(home, month).read_text())
    except FileNotFoundError:
        return None


def bill_shard(root: Path, plan: Plan, shard: str, register_url: str | None = None) -> None:
    """Compute a shard of a planned month, cycles to drafts; any worker does, without a lock.

    Raises
    ------
    RefusedError
        When this worker is of another version than the head.
    InterruptedRunError
        When the catalogue has changed since the month was planned.
    """
    business = planned_shard(root, plan, shard, register_url)
    with closing(business.register):
        for name, step in STEPS_OF_A_MONTH.items():
            step(business, plan.month)
            record_step(business, plan.month, name)
    write_bytes(_billed(Home(root), plan.month) / shard, _identity(plan))


def unbilled_shards(home: Home, plan: Plan) -> list[str]:
    """The shards of a plan that nobody has billed: a run that is begun again may leave out steps that never began."""
    billed = _billed(home, plan.month)
    return [
        shard for shard in plan.shards if not (path := billed / shard).is_file() or path.read_bytes() != _identity(plan)
    ]


def planned_shard(root: Path, plan: Plan, shard: str, register_url: str | None = None) -> Business:
    """The business of a shard, from the inputs that the head wrote for it; see `bill_shard`."""
    refuse_other_versions(plan.versions)
    buckets = BucketRange.named(shard)
    if buckets is None:
        raise ValueError(f"{shard!r} is no range of buckets")
    home = Home(root, buckets)
    catalogue = with_resources(load_catalogue(home.landing / "catalogue.yaml"), home.landing)
    if _hash_of(catalogue) != plan.catalogue:
        raise InterruptedRunError(
            f"{plan.month}: landing/catalogue.yaml has changed since the run was planned: run again"
        )
    register = Register.open(Home(root), register_url).of(buckets)
    return Business(
        home,
        catalogue,
        _read_inputs(home, plan),
        register,
        plan.as_of,
        plan.issues,
        first_month_of_all=plan.first_month,
        has_moved_in_of_all=plan.has_moved_in,
        exhausted_of_all=pl.read_parquet(_exhausted_file(home, plan.month), hive_partitioning=False),
    )


def remove_plan(home: Home, month: str) -> None:
    """Remove the plan of a month and the inputs of its shards, once they have been billed."""
    for path in sorted(_folder(home, month).glob("*.parquet")):
        path.unlink(missing_ok=True)
    _forget_billed(home, month)
    _plan_file(home, month).unlink(missing_ok=True)


_DIVIDED: Final = ("accounts", "requests", "payments", "known_accounts")
_FRAMES: Final = (
    *_DIVIDED,
    *("tax_rates", "rejects", "aliases", "opening_balances", "exchange_rates"),
    *("one_off_charges", "credit_grants"),
)


def _write_inputs(inputs: Inputs, home: Home, month: str) -> None:
    for name in _FRAMES:
        frame = getattr(inputs, name)
        rows = frame.to_frame("account_id") if isinstance(frame, pl.Series) else frame
        write_file(_folder(home, month) / f"{home.part_name(name)}.parquet", rows.write_parquet)


def _read_inputs(home: Home, plan: Plan) -> Inputs:
    folder = _folder(home, plan.month)
    found = {
        name: pl.read_parquet(folder / f"{home.part_name(name)}.parquet", hive_partitioning=False) for name in _FRAMES
    }
    homes = [replace(home, buckets=BucketRange.named(shard)) for shard in plan.shards]
    requests = [folder / f"{each.part_name('requests')}.parquet" for each in homes]
    everyones = pl.scan_parquet(requests, hive_partitioning=False, glob=False)
    divided = {f"all_{name}": found.pop(name) for name in _DIVIDED}
    inputs = Inputs(**divided, **found, warnings=(), everyones_requests=everyones)  # type: ignore[arg-type]
    return replace(inputs, currencies=plan.currencies)


def _exhausted_file(home: Home, month: str) -> Path:
    return _folder(home, month) / "exhausted_redemptions.parquet"


def _forget_billed(home: Home, month: str) -> None:
    for path in sorted(_billed(home, month).glob("*")):
        path.unlink(missing_ok=True)


def _billed(home: Home, month: str) -> Path:
    return _folder(home, month) / "billed"


def _identity(plan: Plan) -> bytes:
    return sha256(plan.to_json().encode()).hexdigest().encode()


def _plan_file(home: Home, month: str) -> Path:
    return _folder(home, month) / "plan.json"


def _folder(home: Home, month: str) -> Path:
    return home.lake / "plans" / f"billing_month={month}"


def _hash_of(catalogue: Catalogue) -> str:
    return f"{catalogue.content_hash} {catalogue.resources.digest}".strip()
