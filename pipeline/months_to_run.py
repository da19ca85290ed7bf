"""Selection of stale months, before any run starts: only these get a run."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from pathlib import Path

from assets.environment import register_url, shards
from billing.model.calendar import months_after
from billing.model.errors import RefusedError
from billing.month.business import Business
from billing.month.recorded_inputs.months import moved_inputs
from billing.month.steps import billed_months, days_to_ingest


@contextmanager
def loaded(root: Path, as_of: date) -> Iterator[Business | None]:
    """The business as of a day, without connections afterwards: its process goes on for weeks.

    None when there is none or its inputs are refused (the runs then report why).
    """
    try:
        business = Business.load(root, as_of, register_url(), shards=shards())
    except RefusedError:
        yield None
        return
    with closing(business.register):
        yield business


def months_to_run(business: Business | None, through: str) -> list[str]:
    """The months to run, in order: `through`, the previous one, and every earlier one that may be stale.

    Deliveries that are not ingested yet may hold usage as old as the policy's lateness allows.
    """
    months = {months_after(through, -1), through}
    if business is not None:
        billed = billed_months(business, through)
        pending = days_to_ingest(business)
        reached = min(pending, default=date.max) - timedelta(days=business.catalogue.policy.lateness_days)
        months |= {each for each in billed if (pending and each >= f"{reached:%Y-%m}") or moved_inputs(business, each)}
    return sorted(months)
