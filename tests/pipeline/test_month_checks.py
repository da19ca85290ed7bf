"""Checks on a month: what would be wrong is never issued, and what is odd is pointed out."""

from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from billing.documents.drafts import Drafts, draft_month
from billing.model.columns import MONEY
from billing.model.tables import DUES
from billing.rules.charges import month_charges, month_dues
from billing.rules.cycles import _closing_spans as closing_spans
from billing.rules.decisions import month_decisions
from tests.by_steps import bill_by_steps
from tests.long_runs import long_only
from tests.pipeline.outside import Landing, bill, bill_once, overage, show
from tests.sizes import LONG


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    """January billed to two customers; in February one of them outgrows the starter package."""
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    landing.customer("bolt", on="2026-01-12")
    landing.use("acme", "2026-01-20", leads=3_000)
    assert bill_once(landing.root, "2026-01", "2026-01-31").status == 0
    return landing


def parked_with(landing: Landing, *parked: str) -> str:
    """February is billed to everybody but those who are parked for a contradiction; returns why."""
    ended = bill(landing.root, "2026-02", "2026-02-28")
    assert ended.status == 1
    found = show(landing.root, "parked", "--month", "2026-02")
    assert {row["account_id"]: row["reason"] for row in found} == dict.fromkeys(parked, "contradiction"), ended.messages
    billed = {row["account_id"] for row in show(landing.root, "documents", "--month", "2026-02")}
    assert billed == {"acme", "bolt"} - set(parked), ended.messages
    return " ".join(row["detail"] for row in found)


def test_a_fee_that_is_left_out_parks_its_account(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    forgetful = pl.col("account_id") != "bolt"
    monkeypatch.setattr(
        "billing.month.dues.month_dues",
        lambda *given, **named: DUES.conform(month_dues(*given, **named).filter(forgetful)),
    )
    assert "bolt/2026-01-12 on 2026-02-12: no fee" in parked_with(landing, "bolt")


def test_a_draft_that_is_left_out_parks_its_account_until_it_is_there(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:

    def forgetful(*given: object) -> Drafts:
        drafts = draft_month(*given)  # type: ignore[arg-type]  # passed on as it came
        kept = pl.col("account_id") != "bolt"
        return Drafts(drafts.documents.filter(kept), drafts.lines.filter(kept), drafts.taxes.filter(kept))

    with monkeypatch.context() as broken:
        broken.setattr("billing.documents.drafts.draft_month", forgetful)
        assert "no draft" in parked_with(landing, "bolt")
    assert bill(landing.root, "2026-02", "2026-02-28").status == 0
    assert [row["account_id"] for row in show(landing.root, "documents", "--month", "2026-02")] == ["acme", "bolt"]


def test_an_amount_that_does_not_add_up_parks_its_account(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:

    def spoilt(*given: object) -> Drafts:
        drafts = draft_month(*given)  # type: ignore[arg-type]  # passed on as it came
        more = pl.when(pl.col("account_id") == "bolt").then(pl.lit(Decimal("0.01"))).otherwise(pl.lit(Decimal(0)))
        net = (pl.col("net") + more).cast(MONEY)
        return Drafts(drafts.documents.with_columns(net=net), drafts.lines, drafts.taxes)

    monkeypatch.setattr("billing.documents.drafts.draft_month", spoilt)
    assert "its draft does not add up" in parked_with(landing, "bolt")


def test_a_quantity_without_its_charge_parks_its_account(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten = (pl.col("metric") == "emails") & (pl.col("account_id") == "bolt")
    monkeypatch.setattr("billing.month.steps.month_charges", lambda rated: month_charges(rated).filter(~forgotten))
    assert "emails of bolt/2026-01-12: its quantity has not one charge" in parked_with(landing, "bolt")


def test_usage_that_no_cycle_and_no_reason_holds_parks_its_account(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing.use("acme", "2026-02-09", emails=1)

    def end_too_early(*arguments: object) -> pl.DataFrame:
        spans = closing_spans(*arguments)  # type: ignore[arg-type] # passed on as it came
        return spans.with_columns(pl.col("span_end") - pl.duration(days=15))

    # of the cycles as they are measured, and as the check looks for them
    monkeypatch.setattr("billing.rules.cycles._closing_spans", end_too_early)
    assert "1 emails events of 2026-02 are counted" in parked_with(landing, "acme")


def test_a_change_of_package_without_its_decision_parks_its_account(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    automatic = pl.col("kind") == "auto_upgrade"
    monkeypatch.setattr(
        "billing.month.steps.month_decisions", lambda *given: month_decisions(*given).filter(~automatic)
    )
    assert "a change of package without its decision" in parked_with(landing, "acme")


def test_a_request_without_an_answer_parks_its_account(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    landing.request("acme", "transfer", "2026-02-05T09:00:00Z")
    monkeypatch.setattr(
        "billing.month.steps.month_decisions",
        lambda *given: month_decisions(*given).filter(pl.col("kind") != "transfer"),
    )
    assert "no answer" in parked_with(landing, "acme")


@long_only("test_rules.py has a smaller package that waits, and thirteen months take long")
def test_a_smaller_package_that_waited_for_the_end_of_a_year_was_decided_months_before(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    landing.customer("acme", "silver", term="yearly")
    landing.request("acme", "downgrade", "2026-11-20T09:00:00Z", package="starter")
    bill_by_steps(landing.root, "2027-01", "2027-01-31")
    (decision,) = (row for row in show(landing.root, "decisions") if row["kind"] == "downgrade")
    assert (decision["billing_month"], decision["effective_on"]) == ("2026-12", "2027-01-10")
    documents = show(landing.root, "documents")
    assert [(row["billing_date"], row["total"]) for row in documents] == [
        ("2026-01-10", "1990.00"),
        ("2027-01-10", "990.00"),
    ]


def test_a_bill_ten_times_the_last_is_pointed_out_and_listed_before_it_is_issued(landing: Landing) -> None:
    landing.use("bolt", "2026-01-20", emails=15_000 + 297_001)
    ended = bill(landing.root, "2026-02", "2026-02-28", "--draft")
    assert ended.status == 0
    assert "2026-02: 1 account with a bill ten times the last: overage show surges --month 2026-02" in ended.messages
    (surge,) = show(landing.root, "surges")
    assert (surge["account_id"], surge["number"], surge["total"], surge["last_total"]) == (
        "bolt",
        None,
        "993.00",
        "99.00",
    )
    assert bill(landing.root, "2026-02", "2026-02-28").status == 0
    (surge,) = show(landing.root, "surges", "--month", "2026-02")
    assert surge["number"] == "INV-2026-000004"
    assert show(landing.root, "surges", "--month", "2026-01") == []


def test_a_bill_just_under_ten_times_the_last_is_not_pointed_out(landing: Landing) -> None:
    # 99.00 + 297 blocks of 3.00 are ten times 99.00; one block less is not
    landing.use("bolt", "2026-01-20", emails=15_000 + 296_000)
    assert "ten times" not in bill(landing.root, "2026-02", "2026-02-28").messages
    assert show(landing.root, "surges") == []


def test_a_bill_that_says_why_it_is_higher_is_not_pointed_out(landing: Landing) -> None:
    landing.use("acme", "2026-01-21", emails=400_000)
    assert "ten times" not in bill(landing.root, "2026-02", "2026-02-28", profiles=LONG).messages
    assert show(landing.root, "surges") == []
    assert not LONG or overage("verify", "--home", landing.root).status == 0
