"""Issuing in two steps: a run stops at drafts, somebody looks at them, and exactly these are issued."""

import re
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest

from billing.model.tables import TABLES
from billing.month import issuing
from billing.store.home import Home
from pipeline.definitions import defs
from tests.by_steps import bill_by_steps
from tests.pipeline.outside import Ended, Landing, bill, bill_once, content_of, know_delivered_files, overage, show
from tests.sizes import LONG, sized


def reviewing_business(home: Path) -> Landing:
    """Two customers of a business that reviews its drafts."""
    landing = Landing(home)
    path = landing.folder / "catalogue.yaml"
    path.write_text(re.sub(r"auto_issue: true", "auto_issue: false", path.read_text()))
    assert "auto_issue: false" in path.read_text()
    landing.customer("acme")
    landing.customer("bolt", on="2026-01-12")
    landing.use("acme", "2026-01-20", emails=16_000)
    return landing


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return reviewing_business(tmp_path / "home")


def named(ended: Ended, month: str) -> str:
    """The drafts that a run names, to be issued as they are."""
    (found,) = re.findall(rf"overage issue {month} --reviewed (\S+) ", ended.messages)
    return str(found)


def issue(home: Path, month: str, reviewed: str, **how: Any) -> Ended:
    return overage("issue", month, "--reviewed", reviewed, "--home", home, **how)


@pytest.fixture(scope="module")
def issued_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Landing, str]:
    landing = reviewing_business(tmp_path_factory.mktemp("issued") / "home")
    reviewed = named(bill_once(landing.root, "2026-01", "2026-01-31"), "2026-01")
    assert issue(landing.root, "2026-01", reviewed).status == 0
    return landing, reviewed


@pytest.fixture
def issued(issued_once: tuple[Landing, str], tmp_path: Path) -> tuple[Landing, str]:
    """The same business after January was issued, in a home of the test's own, and the drafts as they were named."""
    landing, reviewed = issued_once
    twin = landing.copied(tmp_path / "issued")
    know_delivered_files(twin.root)
    return twin, reviewed


def test_a_run_stops_at_drafts_and_says_how_to_issue_exactly_these(landing: Landing) -> None:
    ended = bill_once(landing.root, "2026-01", "2026-01-31")
    assert ended.status == 0
    assert "2026-01: 2 drafts to review, 198.00 USD in all:" in ended.messages
    assert show(landing.root, "documents") == []

    ended = issue(landing.root, "2026-01", named(ended, "2026-01"), profiles=LONG)
    assert (ended.status, ended.messages.splitlines()[-1]) == (0, "2 documents issued")
    assert [(row["number"], row["issued_on"], row["total"]) for row in show(landing.root, "documents")] == [
        ("INV-2026-000001", "2026-01-31", "99.00"),
        ("INV-2026-000002", "2026-01-31", "99.00"),
    ]
    assert len([*(landing.root / "documents").rglob("*.pdf")]) == 2
    assert not LONG or overage("verify", "--home", landing.root).status == 0


def test_the_months_that_follow_are_those_of_a_business_that_issues_at_once(
    issued: tuple[Landing, str], tmp_path: Path
) -> None:
    landing, _ = issued
    at_once = Landing(tmp_path / "at once")
    at_once.customer("acme")
    at_once.customer("bolt", on="2026-01-12")
    at_once.use("acme", "2026-01-20", emails=16_000)
    ended = bill(landing.root, "2026-02", "2026-02-28")
    assert issue(landing.root, "2026-02", named(ended, "2026-02")).status == 0
    for month, day in (("2026-01", "2026-01-31"), ("2026-02", "2026-02-28")):
        bill_by_steps(at_once.root, month, day)
    for table in ("documents", "lines", "packages", "charges"):
        assert show(landing.root, table) == show(at_once.root, table)
    assert "nothing moved" in bill(landing.root, "2026-02", "2026-02-28").messages


def test_only_what_has_fallen_due_is_reviewed_and_issued(issued: tuple[Landing, str]) -> None:
    landing, _ = issued
    ended = bill(landing.root, "2026-02", "2026-02-10")
    assert issue(landing.root, "2026-02", named(ended, "2026-02")).status == 0
    february = ("--month", "2026-02")
    assert [row["account_id"] for row in show(landing.root, "documents", *february)] == ["acme"]
    assert [row["account_id"] for row in show(landing.root, "drafts", *february)] == ["bolt"]


def refused(landing: Landing, month: str, reviewed: str, because: str) -> None:
    """Refused before anything is written."""
    before = content_of(landing.root)
    ended = issue(landing.root, month, reviewed)
    assert ended.status == 2, ended.messages
    assert because in ended.messages
    assert content_of(landing.root) == before


def test_drafts_that_came_out_otherwise_since_are_not_issued(landing: Landing) -> None:
    reviewed = named(bill_once(landing.root, "2026-01", "2026-01-31"), "2026-01")
    landing.customer("cone", on="2026-01-15")
    assert bill(landing.root, "2026-01", "2026-01-31").status == 0
    refused(landing, "2026-01", reviewed, "the drafts there are now are not those that were reviewed")


def test_a_delivery_that_arrived_since_the_drafts_were_made_forbids_to_issue_them(landing: Landing) -> None:
    reviewed = named(bill_once(landing.root, "2026-01", "2026-01-31"), "2026-01")
    landing.use("bolt", "2026-01-21", emails=20_000)
    refused(landing, "2026-01", reviewed, "inputs moved since these drafts were made (usage)")


def test_a_request_that_became_known_since_the_drafts_were_made_forbids_to_issue_them(landing: Landing) -> None:
    reviewed = named(bill_once(landing.root, "2026-01", "2026-01-31"), "2026-01")
    landing.request("bolt", "upgrade", "2026-01-20T09:00:00Z", package="silver")
    refused(landing, "2026-01", reviewed, "inputs moved since these drafts were made (answers, requests)")


def test_a_delivery_of_a_later_day_does_not(landing: Landing) -> None:
    reviewed = named(bill_once(landing.root, "2026-01", "2026-01-31"), "2026-01")
    landing.use("bolt", "2026-01-21", emails=20_000, delivered="2026-02-01")
    assert issue(landing.root, "2026-01", reviewed).status == 0


def test_months_are_issued_in_order(landing: Landing) -> None:
    ended = bill(landing.root, "2026-02", "2026-02-28")
    refused(landing, "2026-02", named(ended, "2026-02"), "billing dates of 2026-01 are open up to 2026-01-31")
    assert issue(landing.root, "2026-01", named(ended, "2026-01")).status == 0
    # what was issued before stands on the next document: it has to be drafted again
    refused(landing, "2026-02", named(ended, "2026-02"), "inputs moved since these drafts were made")
    again = named(bill(landing.root, "2026-02", "2026-02-28"), "2026-02")
    assert issue(landing.root, "2026-02", again).status == 0
    assert [row["number"] for row in show(landing.root, "documents")] == [f"INV-2026-00000{each}" for each in "1234"]


def test_what_was_issued_is_not_issued_again(issued: tuple[Landing, str]) -> None:
    landing, reviewed = issued
    before = content_of(landing.root)
    ended = issue(landing.root, "2026-01", reviewed)
    assert (ended.status, ended.messages.splitlines()[-1]) == (0, "0 documents issued")
    assert "exactly these drafts have been issued already" in ended.messages
    assert content_of(landing.root) == before


def test_a_correction_of_the_same_day_does_not_hide_what_was_issued(issued: tuple[Landing, str]) -> None:
    landing, reviewed = issued
    catalogue = landing.folder / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace('"99.00"', '"89.00"'))
    correction = ("correct", "2026-01", "--as-of", "2026-01-31", "--reason", "A wrong price.", "--home", landing.root)
    assert overage(*correction, profiles=LONG).status == 0
    assert len(show(landing.root, "documents")) == 4
    assert issue(landing.root, "2026-01", reviewed).status == 0
    assert len(show(landing.root, "documents")) == 4
    assert not LONG or overage("verify", "--home", landing.root).status == 0


def test_what_was_never_drafted_is_not_issued(landing: Landing) -> None:
    refused(landing, "2026-01", "2026-01-31.0", "nothing has been drafted")


def test_the_job_of_the_ui_issues_what_the_page_of_the_drafts_names(landing: Landing) -> None:
    resources = {"billing_home": {"config": {"folder": str(landing.root), "as_of": "2026-01-31"}}}
    with dg.DagsterInstance.ephemeral() as instance:
        month = defs.resolve_job_def("billing_month").execute_in_process(
            run_config={"resources": resources}, partition_key="2026-01", instance=instance
        )
        (drafts,) = [
            event.step_materialization_data.materialization
            for event in month.get_asset_materialization_events()
            if event.asset_key == dg.AssetKey("drafts")
        ]
        assert show(landing.root, "documents") == []
        job = defs.resolve_job_def("issue_documents")

        def run(reviewed: object) -> dg.ExecuteInProcessResult:
            return job.execute_in_process(
                run_config={"resources": resources, "ops": {"documents": {"config": {"reviewed": reviewed}}}},
                partition_key="2026-01",
                instance=instance,
                raise_on_error=False,
            )

        assert not run("the ones of last week").success
        assert show(landing.root, "documents") == []
        issued = run(drafts.metadata["reviewed"].value)
    assert issued.success
    assert [check.check_name for check in issued.get_asset_check_evaluations() if not check.passed] == []
    assert len(show(landing.root, "documents")) == 2


TABLES_OF_ISSUES = ("documents", "lines", "taxes", "drafts", "draft_lines", "packages", "decisions", "charges")


# calls of each shard that are done before the kill, after the register has the documents
@pytest.mark.parametrize("write", sized(usual=["write_issued"], long=["_write_what_issuing_moved", "write_issued"]))
@pytest.mark.parametrize("done", sized(usual=[1], long=[0, 1, 2]))
def test_an_issue_of_shards_that_was_killed_between_their_writes_is_completed(
    landing: Landing, issued: tuple[Landing, str], monkeypatch: pytest.MonkeyPatch, write: str, done: int
) -> None:
    whole, _ = issued
    monkeypatch.setenv("OVERAGE_SHARDS", "2")
    reviewed = named(bill(landing.root, "2026-01", "2026-01-31"), "2026-01")
    real, calls = getattr(issuing, write), count()

    def write_or_die(*arguments: Any) -> None:
        if next(calls) == done:
            raise KeyboardInterrupt
        real(*arguments)

    with mock.patch.object(issuing, write, write_or_die):
        stopped = issue(landing.root, "2026-01", reviewed)
    assert (stopped.status, next(calls) > done) == (1, True) if done < 2 else (stopped.status == 0)
    ended = issue(landing.root, "2026-01", reviewed)
    assert (ended.status, "exactly these drafts have been issued already" in ended.messages) == (0, True)
    for table in sized(("documents", "drafts", "packages"), TABLES_OF_ISSUES):
        assert show(landing.root, table) == show(whole.root, table)
        assert [part.name for part in Home(landing.root).parts(TABLES[table], "2026-01")] == [
            f"{table}.0000-0511.parquet",
            f"{table}.0512-1023.parquet",
        ]
    assert [(row["account_id"], row["status"]) for row in show(landing.root, "documents")] == [
        ("acme", "open"),
        ("bolt", "open"),
    ]
    assert "2026-01: nothing moved" in bill(landing.root, "2026-01", "2026-01-31").messages
