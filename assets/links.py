"""Links from Dagster's pages to the home's own pages, which the UI serves too."""

from pathlib import Path
from typing import Final

import dagster as dg

from billing.store.home import Home

FILES: Final = "/overage"
"""URL path below which `overage ui` serves reports, documents and profiles of the home."""


def link(home: Home, path: Path) -> dg.MetadataValue:
    """A relative link: works whether the UI is reached directly or through a proxy."""
    return dg.MetadataValue.url(f"{FILES}/{path.relative_to(home.root).as_posix()}")
