"""The business of a run: what a process keeps of it, and that it lets go of the rest."""

from pathlib import Path

from assets.resources import BillingHome, forget_loaded
from tests.landing import Landing
from tests.postgresql import Server


def test_one_business_at_a_time_holds_connections_to_the_server(
    tmp_path: Path, postgresql: Server, url_on_server: str
) -> None:
    Landing(tmp_path).customer("acme")
    first, second, last = (BillingHome(str(tmp_path), f"2026-01-{day}").business() for day in (20, 21, 22))
    assert postgresql.comes_to(1, url_on_server)
    # whoever still holds another one may go on
    assert [business.register.documents().height for business in (first, second, last)] == [0, 0, 0]
    first.register.close()
    second.register.close()
    assert postgresql.comes_to(1, url_on_server)
    forget_loaded()
    assert postgresql.comes_to(0, url_on_server)
