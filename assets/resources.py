"""The billing home of a run: the business as of a day."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from assets.clock import today
from assets.environment import home_folder, local_home, register_url, shards
from assets.homes import PATIENCE_SECONDS, check_out
from assets.refusals import failures_in_words
from billing.inputs.reading import INPUTS
from billing.month.business import Business
from billing.store.home import Home
from billing.store.working_files import EVERYTHING, Needs

_loaded: dict[tuple[object, ...], Business] = {}


@dataclass(frozen=True)
class BillingHome:
    """Configuration of a billing home and its as-of day.

    Attributes
    ----------
    folder
        Folder or URL of the billing home; empty: $OVERAGE_HOME, else ./data.
    as_of
        YYYY-MM-DD; empty: today in the billing time zone.
    draft
        Compute, but issue nothing.
    in_order
        The caller updates every earlier month first. Otherwise nothing is issued in a month while an earlier one is
        stale.
    accept_missing_accounts
        Park accounts whose rows are missing, however many. Otherwise refuse an accounts file that lacks too many of the
        accounts with live subscriptions.
    pdf_of_report
        Draw the month's report as a PDF, too.
    """

    folder: str = ""
    as_of: str = ""
    draft: bool = False
    in_order: bool = False
    accept_missing_accounts: bool = False
    pdf_of_report: bool = True

    @property
    def root(self) -> Path:
        """Folder of the billing home, or of its working copy."""
        return local_home(self.folder) if self.folder else home_folder()

    def business(self, needs: Needs = EVERYTHING) -> Business:
        """The business, cached until a file in the landing folder changes.

        Parameters
        ----------
        needs
            Of a home in a store: what is read of it.
        """
        register, root = register_url(), self.root
        with failures_in_words():
            check_out(root, needs, patience=PATIENCE_SECONDS)
        as_of = date.fromisoformat(self.as_of) if self.as_of else today(root)
        key = (root, as_of, self.draft, register, shards(), _stamps(root))
        if key not in _loaded:
            forget_loaded()
            with failures_in_words():
                business = Business.load(root, as_of, register, issues=not self.draft, shards=shards())
                if not self.accept_missing_accounts:
                    business.refuse_lacking_accounts()
            _loaded[key] = business
        return _loaded[key]


def preload(resource: BillingHome, business: Business) -> None:
    """Put a business that this process has already loaded into a resource's cache."""
    register = register_url()
    forget_loaded()
    _loaded[(resource.root, business.as_of, resource.draft, register, shards(), _stamps(resource.root))] = business


def forget_loaded() -> None:
    """Read the business again when it is asked for next, and close its connections: the garbage collector is late.

    Whoever still holds it may go on: its register connects again when it is asked.
    """
    for business in _loaded.values():
        business.register.close()
    _loaded.clear()


def _stamps(root: Path) -> tuple[object, ...]:
    """Cache key: changes when an input other than usage is written."""
    landing = Home(root).landing
    files = sorted(path for pattern in ("*.*", *(f"{name}/*" for name in INPUTS)) for path in landing.glob(pattern))
    return tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files if path.is_file())
