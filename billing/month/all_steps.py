"""The steps of a billing month in order, and the month as a whole: whatever runs one takes them from here."""

from collections.abc import Callable, Mapping
from typing import Final

from billing.month.business import Business
from billing.month.drafting import write_drafts
from billing.month.steps import (
    write_charges,
    write_cycles,
    write_decisions,
    write_levels,
    write_packages,
    write_usage,
)
from billing.month.unbilled import write_unbilled

Step = Callable[[Business, str], object]

STEPS_BEFORE_DOCUMENTS: Final[Mapping[str, Step]] = {
    "cycles": write_cycles,
    "levels": write_levels,
    "usage": write_usage,
    "packages": write_packages,
    "decisions": write_decisions,
    "charges": write_charges,
}
STEPS_OF_A_MONTH: Final[Mapping[str, Step]] = {
    **STEPS_BEFORE_DOCUMENTS,
    "unbilled": write_unbilled,
    "drafts": write_drafts,
}
"""What is computed of a month, or of a shard of it, in order; named as in `recorded_inputs.months.STEPS`."""
