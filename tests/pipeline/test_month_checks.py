"""Checks on a month: what would be wrong is never issued, and what is odd is pointed out."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

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
from tests.pipeline.outside import Ended, Landing, Row, bill, overage, show
from tests.sizes import LONG

SPOILT = ("no-fee", "no-draft", "no-sum", "no-charge", "no-cycle", "no-decision", "no-answer")


@dataclass(frozen=True)
class Contradictions:
    """A month in which each account is computed wrong in its own way; `home` is billed again without that."""

    ended: Ended
    parked: Mapping[str, str]
    billed: set[str]
    again: Ended
    home: Path

    def detail(self, account: str) -> str:
        """Why an account is parked; everybody else is billed."""
        assert self.ended.status == 1
        assert set(self.parked) == set(SPOILT), self.ended.messages
        assert self.billed == {"acme"}, self.ended.messages
        return self.parked[account]


@pytest.fixture(scope="module")
def contradictions(tmp_path_factory: pytest.TempPathFactory) -> Contradictions:
    """January is billed to everybody as it is, and February with everything that is spoilt."""
    landing = Landing(tmp_path_factory.mktemp("contradictions") / "home")
    for name in ("acme", *SPOILT):
        landing.customer(name)
    for name in ("acme", "no-decision"):
        landing.use(name, "2026-01-20", leads=3_000)
    bill_by_steps(landing.root, "2026-01", "2026-01-31")
    landing.use("no-cycle", "2026-02-09", emails=1)
    landing.request("no-answer", "transfer", "2026-02-05T09:00:00Z")
    of = pl.col("account_id")

    def dues(*given: Any, **named: Any) -> pl.DataFrame:
        return DUES.conform(month_dues(*given, **named).filter(of != "no-fee"))

    def drafts(*given: Any) -> Drafts:
        found = draft_month(*given)
        documents, lines, taxes = (
            frame.filter(of != "no-draft") for frame in (found.documents, found.lines, found.taxes)
        )
        more = pl.when(of == "no-sum").then(pl.lit(Decimal("0.01"))).otherwise(pl.lit(Decimal(0)))
        return Drafts(documents.with_columns(net=(pl.col("net") + more).cast(MONEY)), lines, taxes)

    def charges(rated: pl.DataFrame) -> pl.DataFrame:
        return month_charges(rated).filter(~((pl.col("metric") == "emails") & (of == "no-charge")))

    def spans(*given: Any) -> pl.DataFrame:
        return closing_spans(*given).with_columns(pl.col("span_end") - pl.duration(days=15))

    def decisions(*given: Any) -> pl.DataFrame:
        automatic = (pl.col("kind") == "auto_upgrade") & (of == "no-decision")
        return month_decisions(*given).filter(~automatic & (pl.col("kind") != "transfer"))

    with (
        mock.patch("billing.month.dues.month_dues", dues),
        mock.patch("billing.documents.drafts.draft_month", drafts),
        mock.patch("billing.month.steps.month_charges", charges),
        # of the cycles as they are measured, and as the check looks for them
        mock.patch("billing.rules.cycles._closing_spans", spans),
        mock.patch("billing.month.steps.month_decisions", decisions),
    ):
        ended = bill(landing.root, "2026-02", "2026-02-28")
    rows = show(landing.root, "parked", "--month", "2026-02")
    assert {row["reason"] for row in rows} == {"contradiction"}, ended.messages
    billed = {row["account_id"] for row in show(landing.root, "documents", "--month", "2026-02")}
    parked = {row["account_id"]: row["detail"] for row in rows}
    return Contradictions(ended, parked, billed, bill(landing.root, "2026-02", "2026-02-28"), landing.root)


def test_a_fee_that_is_left_out_parks_its_account(contradictions: Contradictions) -> None:
    assert "no-fee/2026-01-10 on 2026-02-10: no fee" in contradictions.detail("no-fee")


def test_a_draft_that_is_left_out_parks_its_account_until_it_is_there(contradictions: Contradictions) -> None:
    assert "no draft" in contradictions.detail("no-draft")
    assert contradictions.again.status == 0
    billed = {row["account_id"] for row in show(contradictions.home, "documents", "--month", "2026-02")}
    assert billed == {"acme", *SPOILT}


def test_an_amount_that_does_not_add_up_parks_its_account(contradictions: Contradictions) -> None:
    assert "its draft does not add up" in contradictions.detail("no-sum")


def test_a_quantity_without_its_charge_parks_its_account(contradictions: Contradictions) -> None:
    assert "emails of no-charge/2026-01-10: its quantity has not one charge" in contradictions.detail("no-charge")


def test_usage_that_no_cycle_and_no_reason_holds_parks_its_account(contradictions: Contradictions) -> None:
    assert "1 emails events of 2026-02 are counted" in contradictions.detail("no-cycle")


def test_a_change_of_package_without_its_decision_parks_its_account(contradictions: Contradictions) -> None:
    assert "a change of package without its decision" in contradictions.detail("no-decision")


def test_a_request_without_an_answer_parks_its_account(contradictions: Contradictions) -> None:
    assert "no answer" in contradictions.detail("no-answer")


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


@pytest.fixture(scope="module")
def february(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended, list[Row], Ended]:
    """A home where February is higher for everybody; how its draft ended, what was listed then, how billing ended."""
    landing = Landing(tmp_path_factory.mktemp("surges") / "home")
    for name in ("acme", "bolt", "cone"):
        landing.customer(name)
    # the larger package that it outgrew says why
    landing.use("acme", "2026-01-20", leads=3_000, emails=400_000)
    # 99.00 + 297 blocks of 3.00 are ten times 99.00; one block less is not
    landing.use("bolt", "2026-01-20", emails=15_000 + 297_001)
    landing.use("cone", "2026-01-20", emails=15_000 + 296_000)
    bill_by_steps(landing.root, "2026-01", "2026-01-31")
    drafted = bill(landing.root, "2026-02", "2026-02-28", "--draft")
    listed = show(landing.root, "surges")
    return landing.root, drafted, listed, bill(landing.root, "2026-02", "2026-02-28", profiles=LONG)


def test_a_bill_ten_times_the_last_is_pointed_out_and_listed_before_it_is_issued(
    february: tuple[Path, Ended, list[Row], Ended],
) -> None:
    home, drafted, listed, ended = february
    assert drafted.status == 0
    said = "2026-02: 1 account with a bill ten times the last: overage show surges --month 2026-02"
    assert said in drafted.messages
    (surge,) = listed
    assert (surge["account_id"], surge["number"], surge["total"], surge["last_total"]) == (
        "bolt",
        None,
        "993.00",
        "99.00",
    )
    assert ended.status == 0
    (surge,) = show(home, "surges", "--month", "2026-02")
    (document,) = show(home, "documents", "--month", "2026-02", account_id="bolt")
    assert surge["number"] == document["number"]
    assert show(home, "surges", "--month", "2026-01") == []


def test_a_bill_just_under_ten_times_the_last_is_not_pointed_out(
    february: tuple[Path, Ended, list[Row], Ended],
) -> None:
    home, _, listed, _ = february
    (document,) = show(home, "documents", "--month", "2026-02", account_id="cone")
    assert document["total"] == "987.00"
    assert "cone" not in {row["account_id"] for row in (*listed, *show(home, "surges"))}


def test_a_bill_that_says_why_it_is_higher_is_not_pointed_out(february: tuple[Path, Ended, list[Row], Ended]) -> None:
    home, _, listed, _ = february
    (document,) = show(home, "documents", "--month", "2026-02", account_id="acme")
    assert Decimal(document["total"]) > 10 * Decimal("99.00")
    assert "acme" not in {row["account_id"] for row in (*listed, *show(home, "surges"))}
    assert not LONG or overage("verify", "--home", home).status == 0
