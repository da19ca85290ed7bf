"""The one place where a clock is read, below which nothing reads it."""

from datetime import date, datetime
from pathlib import Path

from billing.inputs.catalogue_file import load_catalogue
from billing.store.home import Home


def today(root: Path) -> date:
    """The day in the billing time zone of the home's catalogue."""
    return datetime.now(load_catalogue(Home(root).landing / "catalogue.yaml").zone).date()
