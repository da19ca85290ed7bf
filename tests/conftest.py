"""Property tests draw the same examples on every machine and every run, and may take their time on a busy one."""

import gc
import os
import sqlite3
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings

from billing.model import empty_frames
from tests import sizes
from tests.postgresql import Server

settings.register_profile(
    "overage", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("overage")


_SETTINGS = "_hypothesis_internal_use_settings"
# what takes longest goes first, so that at the end no process waits for another one (`--no-loadscope-reorder`)
_FIRST = (
    "test_cluster",
    "test_finance_desk",
    "test_kills",
    "test_shards",
    "test_preview",
    "test_bill",
    "test_store_homes",
    "test_life_story",
    "test_forecast",
    "test_currencies",
    "test_sharded_homes",
    "test_what_if",
    "test_replaying",
    "test_show",
    "test_corrections",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="Search as long as it takes: every kill, many seeds (hours).")


def pytest_configure(config: pytest.Config) -> None:
    sizes.LONG = bool(config.getoption("--long"))
    # Long runs compute what is skipped of empty frames all the same, and compare.
    empty_frames.COMPARE = sizes.LONG


def pytest_collection_finish() -> None:
    """What was loaded stays: do not look through it again and again for what could be freed."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the longest files begin, and property tests draw as many examples as the run has time for."""
    items.sort(key=lambda item: _FIRST.index(item.path.stem) if item.path.stem in _FIRST else len(_FIRST))
    for function in {_function_of(item) for item in items}:
        current = getattr(function, _SETTINGS, None)
        if current is not None:
            setattr(function, _SETTINGS, settings(current, max_examples=sizes.examples(current.max_examples)))


def _function_of(item: pytest.Item) -> object:
    """The function of a test, also where it is a method."""
    function = getattr(item, "obj", None)
    return getattr(function, "__func__", function)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_disks() -> Iterator[None]:
    """Homes of tests do not have to outlive a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        sa.event.listen(sa.Engine, "connect", _without_waiting)
        yield
        sa.event.remove(sa.Engine, "connect", _without_waiting)


def _without_waiting(connection: object, _: object) -> None:
    driver = getattr(connection, "driver_connection", connection)
    if isinstance(driver, sqlite3.Connection):
        driver.execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server."""
    with Server.running() as server:
        yield server


@pytest.fixture
def url_on_server(postgresql: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new register on a server, which the environment names."""
    url = postgresql.new_database()
    monkeypatch.setenv("OVERAGE_REGISTER_URL", url)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def register_url(request: pytest.FixtureRequest) -> str | None:
    """Where the register is: in the home, or in a new database of a server."""
    if request.param == "sqlite":
        return None
    server: Server = request.getfixturevalue("postgresql")
    return server.new_database()
