"""Copies of a register in another database: row by row, once, and never over another register."""

from pathlib import Path

import pytest

from billing.model.errors import RefusedError
from billing.register.copying import copy_register
from billing.register.register import Register
from billing.store.home import Home
from tests.by_steps import bill_by_steps
from tests.landing import Landing
from tests.postgresql import register_rows


def _billed(root: Path, *accounts: str) -> Path:
    landing = Landing(root)
    for name in accounts:
        landing.customer(name)
    bill_by_steps(root, "2026-01", "2026-01-10")
    return root / "register.db"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A register with documents of two accounts. Only read it."""
    return _billed(tmp_path_factory.mktemp("one") / "home", "acme", "beta")


def test_a_copy_has_every_row_and_is_made_once(one: Path, tmp_path: Path, register_url: str | None) -> None:
    url = register_url or f"sqlite:///{tmp_path / 'copy.db'}"
    source, target = Register.open(Home(one.parent)), Register.open(Home(tmp_path), url)
    assert copy_register(source, target) == 2
    assert register_rows(url) == register_rows(f"sqlite:///{one}")
    assert copy_register(source, target) == 2
    assert register_rows(url) == register_rows(f"sqlite:///{one}")
    # what goes on there is guarded as before
    assert target.missing_guards() == []


def test_another_register_is_left_alone(one: Path, tmp_path: Path) -> None:
    other = _billed(tmp_path / "two", "beta")
    before = register_rows(f"sqlite:///{other}")
    source, target = Register.open(Home(one.parent)), Register.open(Home(tmp_path / "two"))
    with pytest.raises(RefusedError, match=r"found another register \(rows in "):
        copy_register(source, target)
    assert register_rows(f"sqlite:///{other}") == before
