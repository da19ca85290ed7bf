"""The catalogue of the worked scenarios, and catalogues that differ from it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from billing.inputs.catalogue_file import load_catalogue
from billing.model.catalogue import Catalogue, Policy
from billing.starter import starter_catalogue


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
