"""The one resource: the business as of a day."""

from datetime import date
from pathlib import Path

import dagster as dg

from assets.clock import today
from assets.environment import home_folder, register_url
from assets.refusals import told_in_words
from billing.inputs.reading import INPUTS
from billing.month.business import Business
from billing.store.home import Home

_loaded: dict[tuple[object, ...], Business] = {}


class BillingHome(dg.ConfigurableResource):  # type: ignore[type-arg] # the type variable is Dagster's own business
    """Where a business lives, and as of which day it is computed.

    Attributes
    ----------
    folder
        The billing home; empty: $OVERAGE_HOME, else ./data.
    as_of
        YYYY-MM-DD; empty: today in the billing time zone.
    draft
        Compute and issue nothing.
    in_order
        Whoever runs this brings every earlier month up to date first. Otherwise nothing is issued in a month as long as
        an earlier one has to be built again.
    accept_missing_accounts
        Park accounts whose rows are missing, however many they are. Otherwise an accounts file that lacks too many of
        the accounts with live subscriptions is refused.
    """

    folder: str = ""
    as_of: str = ""
    draft: bool = False
    in_order: bool = False
    accept_missing_accounts: bool = False

    @property
    def root(self) -> Path:
        """The folder of the billing home."""
        return Path(self.folder) if self.folder else home_folder()

    def business(self) -> Business:
        """The business, read again only when something in the landing folder moved."""
        register = register_url()
        as_of = date.fromisoformat(self.as_of) if self.as_of else today(self.root)
        key = (self.root, as_of, self.draft, register, _stamps(self.root))
        if key not in _loaded:
            _loaded.clear()
            with told_in_words():
                business = Business.load(self.root, as_of, register, issues=not self.draft)
                if not self.accept_missing_accounts:
                    business.refuse_lacking_accounts()
            _loaded[key] = business
        return _loaded[key]


def preload(resource: BillingHome, business: Business) -> None:
    """Let a resource give this business, which the same process has loaded already."""
    register = register_url()
    _loaded.clear()
    _loaded[(resource.root, business.as_of, resource.draft, register, _stamps(resource.root))] = business


def _stamps(root: Path) -> tuple[object, ...]:
    """What changes when an input other than usage is written."""
    landing = Home(root).landing
    files = sorted(path for pattern in ("*.*", *(f"{name}/*" for name in INPUTS)) for path in landing.glob(pattern))
    return tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files if path.is_file())
