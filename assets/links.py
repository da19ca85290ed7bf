"""Links from Dagster's pages to the home's own pages, which the UI serves too."""

from pathlib import Path
from typing import Final

from assets.declared import Link, Place
from billing.store.home import Home
from billing.store.working_copy import name_of, working_copy

FILES: Final = "/overage"
"""URL path below which `overage ui` serves reports, documents and profiles of the home."""


def link(home: Home, path: Path) -> Link:
    """A relative link: works whether the UI is reached directly or through a proxy."""
    return Link(f"{FILES}/{path.relative_to(home.root).as_posix()}")


def place(home: Home, path: Path) -> Place | str:
    """Where a file or folder of the home is: of a home in a store its URL, not the copy of whoever worked."""
    if working_copy(home.root) is None:
        return Place(str(path.resolve()))
    return f"{name_of(home.root)}/{path.relative_to(home.root).as_posix()}"
