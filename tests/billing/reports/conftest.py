"""A business that sells everything, billed once for the tests that only read."""

import shutil
from datetime import date
from pathlib import Path

import pytest

from billing.month.business import Business
from tests.billed_once import billed_once
from tests.by_steps import bill_by_steps
from tests.sold_business import DAYS, sold_landing


def _bill(folder: Path) -> None:
    landing = sold_landing(folder / "sold")
    for month, day in DAYS:
        bill_by_steps(landing.root, month, day)
        if month == "2026-02":
            shutil.copytree(landing.root, folder / "february")


@pytest.fixture(scope="session")
def sold(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """Billed from January to March. Do not issue in it."""
    shared = billed_once(tmp_path_factory, "sold", _bill) / "sold"
    home = shutil.copytree(shared, tmp_path_factory.mktemp("sold") / "home")
    return Business.load(home, date.fromisoformat(DAYS[-1][1]))


@pytest.fixture(scope="session")
def sold_in_february(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home as it was when February was billed. Copy it to go on."""
    return billed_once(tmp_path_factory, "sold", _bill) / "february"
