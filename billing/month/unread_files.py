"""Unread files of the landing folder, and files without a valid row: reported by `check` and by every run."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Final

from billing.ingest.landing import delivered_files, is_left_alone, readable_name
from billing.ingest.unusable_files import unusable_deliveries
from billing.inputs.input_files import ENDINGS, EXPECTED_FILES
from billing.inputs.reading import INPUTS, Inputs
from billing.model.catalogue import Catalogue
from billing.store.home import Home

TRANSLATIONS: Final = "translations"
TEMPLATES: Final = "templates"
_READ: Final = ("catalogue.yaml", "tax_rates.csv", "exchange_rates.csv", "usage", TRANSLATIONS, TEMPLATES)
_FOLDERS: Final = ("usage", TRANSLATIONS, TEMPLATES)


def not_read(home: Home, inputs: Inputs, as_of: date, catalogue: Catalogue | None = None) -> list[str]:
    """Inputs up to a day that are not read, or have no valid row, in words (rule 22)."""
    return [
        *names_not_read(home, catalogue),
        *inputs.unusable,
        *unusable_deliveries(home, delivered_files(home, as_of)),
    ]


def names_not_read(home: Home, catalogue: Catalogue | None = None) -> list[str]:
    """Names beside usage/ that are not read, in words, sorted; what the catalogue names is read."""
    named = [] if catalogue is None else [catalogue.seller.logo, catalogue.policy.shadow.removeprefix("landing/")]
    first = {path.partition("/")[0] for path in named}
    found = []
    for path in _names(home.landing):
        name = readable_name(path.name)
        if path.name in INPUTS and path.is_dir():
            found += [
                f"{name}/{readable_name(inside.name)} is not read: expected {EXPECTED_FILES}"
                for inside in _names(path)
                if inside.suffix not in ENDINGS or not inside.is_file()
            ]
        elif not _is_read(path) and path.name not in first:
            found.append(f"{name} is not read: {_why(path)}")
    return found


def _is_read(path: Path) -> bool:
    if path.name in _READ:
        return path.is_dir() if path.name in _FOLDERS else path.is_file()
    return path.stem in INPUTS and path.suffix in ENDINGS and path.is_file()


def _why(path: Path) -> str:
    if path.name.split(".")[0].lower() in INPUTS:
        return f"expected {EXPECTED_FILES}"
    return f"expected one of {', '.join(_READ)}, {', '.join(INPUTS)} (each of the last {EXPECTED_FILES})"


def _names(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.iterdir() if not is_left_alone(path.name))
