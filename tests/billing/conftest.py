"""The catalogue of the worked scenarios, and catalogues that differ from it."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from billing.inputs.catalogue_file import load_catalogue
from billing.model.catalogue import Catalogue, Policy
from billing.month.business import Business
from billing.sample import billing_hint, write_sample
from billing.starter import starter_catalogue
from tests.billed_once import billed_once
from tests.by_steps import bill_by_steps


@pytest.fixture(scope="session")
def ref_1(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Starter to platinum, as the worked scenarios have them."""
    path = tmp_path_factory.mktemp("catalogue") / "catalogue.yaml"
    path.write_text(starter_catalogue())
    return load_catalogue(path)


@pytest.fixture(scope="session")
def ref_1_with(ref_1: Catalogue) -> Callable[..., Catalogue]:
    """REF-1 under another policy: ``ref_1_with(hold_fee=Decimal("5.00"))``."""

    def with_policy(**policy: object) -> Catalogue:
        values: Mapping[str, object] = {**vars(ref_1.policy), **policy}
        return replace(ref_1, policy=Policy(**values))  # type: ignore[arg-type] # the tests name policies freely

    return with_policy


@pytest.fixture
def catalogue_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a catalogue's text where a catalogue is read from."""

    def write(text: str) -> Path:
        path = tmp_path / "catalogue.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def ref_1_in(ref_1: Catalogue) -> Callable[[str], Catalogue]:
    """REF-1 billed in another time zone."""
    return lambda time_zone: replace(ref_1, time_zone=time_zone)


@pytest.fixture(scope="session")
def sample_billed_for_europe(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """Two months of the synthetic business, whose seller has what e-invoices need. Do not issue in it."""
    shared = billed_once(tmp_path_factory, "sample", _bill_sample) / "sample"
    home = shutil.copytree(shared, tmp_path_factory.mktemp("sample") / "home")
    return Business.load(home, billing_hint(2)[1])


def _bill_sample(folder: Path) -> None:
    root = folder / "sample"
    write_sample(root, accounts=60, months=2, events_per_account_day=1)
    path = root / "landing" / "catalogue.yaml"
    catalogue = yaml.safe_load(path.read_text())
    catalogue["seller"]["registration"] = {"scheme": "0060", "id": "123456789"}
    catalogue["policy"]["invoice_format"] = "ubl"
    path.write_text(yaml.safe_dump(catalogue, sort_keys=False))
    month, as_of = billing_hint(2)
    bill_by_steps(root, month, str(as_of))
