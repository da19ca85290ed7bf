"""What several steps of a month ask for is computed once, and again as soon as anything it is made of has moved."""

from datetime import date
from pathlib import Path
from unittest import mock

from billing.model.tables import UNBILLED
from billing.month.business import Business
from billing.month.steps import ingest_usage, write_cycles, write_decisions, write_levels, write_packages, write_usage
from billing.month.unbilled import conserved, write_unbilled
from billing.store.frames import write_frame
from tests.landing import Landing

MONTH = "2026-02"


def counted(business: Business) -> tuple[int, int]:
    """The events of emails that count and that bill nothing."""
    rows = conserved(business, "2026-01").rows_by_key("metric", named=True, unique=True)
    return rows["emails"]["counted"], rows["emails"]["unbilled"]


def test_where_usage_went_is_looked_at_again_when_usage_or_what_is_unbilled_moves(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("acme")
    landing.use("acme", "2026-01-08", emails=5, delivered="2026-01-20")
    landing.use("acme", "2026-01-20", emails=5)
    business = Business.load(tmp_path, date(2026, 1, 31))
    ingest_usage(business)
    write_unbilled(business, "2026-01")
    assert counted(business) == (2, 1)
    with mock.patch("billing.month.unbilled.scan_events") as read:
        assert counted(business) == (2, 1)
    read.assert_not_called()
    write_frame(business.home.partition(UNBILLED, "2026-01"), UNBILLED.empty(), UNBILLED)
    assert counted(business) == (2, 0)
    landing.use("acme", "2026-01-21", emails=7)
    ingest_usage(business)
    assert counted(business) == (3, 0)


def decided(business: Business) -> list[tuple[str, str]]:
    """The answers of the month, decided from the tables before them."""
    for step in (write_cycles, write_levels, write_usage, write_packages):
        step(business, MONTH)
    return write_decisions(business, MONTH).filter(kind="downgrade").select("outcome", "reason").rows()


def test_a_downgrade_is_answered_by_the_levels_of_today_however_often_it_was_answered_before(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("acme", "silver")
    landing.request("acme", "downgrade", "2026-01-25T10:00:00Z", package="starter")
    landing.use("acme", "2026-01-20", leads=10)
    business = Business.load(tmp_path, date(2026, 2, 28))
    ingest_usage(business)
    for step in (write_cycles, write_levels, write_usage, write_packages):
        step(business, "2026-01")
    assert [outcome for outcome, _ in decided(business)] == ["approved"]
    with mock.patch("billing.month.steps.levels_at_close") as computed:
        assert [outcome for outcome, _ in decided(business)] == ["approved"]
    computed.assert_not_called()
    landing.use("acme", "2026-02-03", leads=4_000)
    ingest_usage(business)
    assert [outcome for outcome, _ in decided(business)] == ["refused"]
