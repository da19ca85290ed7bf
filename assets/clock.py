"""The only reader of the clock: all other code gets the as-of day passed."""

from datetime import UTC, date, datetime
from pathlib import Path

from billing.inputs.catalogue_file import load_catalogue
from billing.store.home import Home


def today(root: Path) -> date:
    """Today in the billing time zone of the home's catalogue."""
    return datetime.now(load_catalogue(Home(root).landing / "catalogue.yaml").zone).date()


def now() -> datetime:
    """The time, in UTC: when a mail is sent."""
    return datetime.now(UTC)
