"""The business of a run: what a process keeps of it, and that it lets go of the rest."""

import time
from pathlib import Path

import pytest

from assets.resources import BillingHome, forget_loaded
from tests.landing import Landing
from tests.postgresql import Server


def test_one_business_at_a_time_holds_connections_to_the_server(
    tmp_path: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    Landing(tmp_path).customer("acme")
    url = postgresql.new_database()
    monkeypatch.setenv("OVERAGE_REGISTER_URL", url)

    kept = [BillingHome(str(tmp_path), f"2026-01-{day}").business() for day in (20, 21, 22)]
    assert closes_to(postgresql, url, 1)
    # whoever still holds another one may go on
    assert [business.register.documents().height for business in kept] == [0, 0, 0]
    for business in kept[:2]:
        business.register.close()
    assert closes_to(postgresql, url, 1)
    forget_loaded()
    assert closes_to(postgresql, url, 0)


def closes_to(server: Server, url: str, wanted: int) -> bool:
    """Whether so many connections are left; a server needs a moment to end others."""
    for _ in range(50):
        if server.connections(url) == wanted:
            return True
        time.sleep(0.1)
    return False
