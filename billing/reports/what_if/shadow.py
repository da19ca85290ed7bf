"""Shadow billing: every month a second time under the policy's candidate, for the month's report."""

from dataclasses import dataclass
from datetime import date

from billing.inputs.catalogue_file import load_catalogue
from billing.model.errors import RefusedError
from billing.month.business import Business
from billing.month.scratch_copy import scratch_copy
from billing.reports.what_if.comparison import Comparison
from billing.reports.what_if.running import Question, compare_in


@dataclass(frozen=True)
class Shadow:
    """A month under the policy's candidate.

    Attributes
    ----------
    path
        The candidate, as the policy names it.
    compared
        None where it cannot be billed.
    problem
        Why not.
    """

    path: str
    compared: Comparison | None
    problem: str = ""


def shadow_of_month(business: Business, month: str, on: date) -> Shadow | None:
    """What the policy's candidate would have billed of a month that has been computed, by a day; None without one.

    Each month begins in the packages that were in force: upgrades under the candidate do not carry on to the next. A
    candidate that is refused stops nothing. The home has to be locked: its files are pointed at.
    """
    path = business.catalogue.policy.shadow
    if not path:
        return None
    file = business.home.root / path
    try:
        candidate = load_catalogue(file)
        with scratch_copy(business, on, is_locked=True) as base:
            [compared] = compare_in(base, [(file.stem, candidate)], Question(month, month))
    except RefusedError as error:
        return Shadow(path, None, str(error))
    return Shadow(path, compared)
