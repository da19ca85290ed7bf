"""Links from Dagster's pages to the home's own pages, which the UI serves beside them."""

from pathlib import Path
from typing import Final

import dagster as dg

from billing.store.home import Home

FILES: Final = "/overage"
"""Below it `overage ui` serves reports, documents and profiles of the home."""


def link(home: Home, path: Path) -> dg.MetadataValue:
    """A link that opens in whatever way the UI is reached: from this machine, or through a proxy."""
    return dg.MetadataValue.url(f"{FILES}/{path.relative_to(home.root).as_posix()}")
