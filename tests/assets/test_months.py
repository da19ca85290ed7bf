"""Months as Dagster runs them: one after another, never on a month that is missing, and never past a broken check."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from unittest import mock

import dagster as dg
import polars as pl
import pytest

from assets import documents, ingest
from assets.dagster_graph import HomeResource
from billing.documents.drafts import Drafts
from billing.ingest import IngestOutcome
from billing.model.tables import DRAFTS, INGEST
from billing.month.business import Business
from billing.month.drafting import write_drafts
from billing.rules.charges import month_charges
from billing.store.monthly import read_month, write_month
from pipeline.definitions import defs
from tests.pipeline.outside import Landing, bill, bill_once, blank_files, blank_page, show
from tests.sizes import LONG

DAY = {"dagster/asset_partition_range_start": "2026-01-25", "dagster/asset_partition_range_end": "2026-01-25"}


def one_customer(home: Path) -> Landing:
    """A customer of the starter package whose leads outgrow it in the second cycle."""
    landing = Landing(home)
    landing.customer("acme")
    landing.use("acme", "2026-01-20", leads=2_000, emails=16_000)
    landing.use("acme", "2026-02-20", leads=1_000)
    return landing


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    """One customer, of whom nothing is billed."""
    return one_customer(tmp_path / "home")


@pytest.fixture(scope="module", autouse=True)
def no_paper() -> Iterator[None]:
    with (
        mock.patch("billing.month.pdf_files.render_files", blank_files),
        mock.patch("billing.reports.month_report_page.draw_page", blank_page),
    ):
        yield


def run(job: str, home: Path, as_of: str, month: str | None = None, **tags: str) -> dg.ExecuteInProcessResult:
    """A run of a job, as the UI starts one."""
    with dg.DagsterInstance.ephemeral() as instance:
        return defs.resolve_job_def(job).execute_in_process(
            run_config={"resources": {"billing_home": {"config": {"folder": str(home), "as_of": as_of}}}},
            partition_key=month,
            tags=tags,
            instance=instance,
            raise_on_error=False,
        )


def failures(result: dg.ExecuteInProcessResult) -> Sequence[str]:
    """What the failed steps of a run say, the cause of each."""
    found = []
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            found.append(f"{event.step_key}: {error.message.strip() if error else ''}")
    return found


@dataclass(frozen=True)
class Built:
    """A home whose latest month was billed by the job."""

    landing: Landing
    result: dg.ExecuteInProcessResult


@pytest.fixture(scope="module")
def january_once(tmp_path_factory: pytest.TempPathFactory) -> Built:
    landing = one_customer(tmp_path_factory.mktemp("january") / "home")
    return Built(landing, run("billing_month", landing.root, "2026-01-31", "2026-01"))


@pytest.fixture(scope="module")
def february_once(january_once: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    landing = january_once.landing.copied(tmp_path_factory.mktemp("february") / "home")
    return Built(landing, run("billing_month", landing.root, "2026-02-28", "2026-02"))


@pytest.fixture
def january_built(january_once: Built, tmp_path: Path) -> Landing:
    """January billed by the job."""
    assert january_once.result.success, failures(january_once.result)
    return january_once.landing.copied(tmp_path / "home")


@pytest.fixture
def two_months_built(february_once: Built, tmp_path: Path) -> Landing:
    """January and February billed by the job."""
    assert february_once.result.success, failures(february_once.result)
    return february_once.landing.copied(tmp_path / "home")


def test_three_months_rolled_forward_by_the_job_are_those_of_the_command_line(
    january_once: Built, february_once: Built, two_months_built: Landing, tmp_path: Path
) -> None:
    landing = two_months_built
    march = [run("billing_month", landing.root, "2026-03-31", "2026-03")] if LONG else []
    for result in (january_once.result, february_once.result, *march):
        assert result.success, failures(result)
        broken = [check.check_name for check in result.get_asset_check_evaluations() if not check.passed]
        # three deliveries are all there were
        assert broken == ["expected_deliveries_are_there"]
    # 3,000 leads: silver from the third billing date on
    wanted = [("2026-01-10", "99.00"), ("2026-02-10", "102.00"), *([("2026-03-10", "199.00")] if LONG else [])]
    assert [(row["billing_date"], row["total"]) for row in show(landing.root, "documents")] == wanted
    packages = ["starter", "starter", *(["silver"] if LONG else [])]
    assert [row["opening_package"] for row in show(landing.root, "packages")] == packages

    beside = one_customer(tmp_path / "beside")
    for month, day in (("2026-01", "2026-01-31"), ("2026-02", "2026-02-28"), ("2026-03", "2026-03-31"))[: len(wanted)]:
        assert bill_once(beside.root, month, day).status == 0
    for table in ("documents", "lines", "usage", "packages", "decisions", "charges"):
        assert show(landing.root, table) == show(beside.root, table)


def test_several_delivery_days_are_ingested_in_one_run(landing: Landing) -> None:
    days = {
        "dagster/asset_partition_range_start": "2026-01-20",
        "dagster/asset_partition_range_end": "2026-02-20",
    }
    result = run("ingest", landing.root, "2026-02-28", **days)
    assert result.success, failures(result)
    assert [row["delivery_day"] for row in show(landing.root, "ingest")] == ["2026-01-20", "2026-02-20"]


def test_a_month_whose_month_before_is_missing_fails_and_restarts_nobody(january_built: Landing) -> None:
    landing = january_built
    result = run("billing_month", landing.root, "2026-03-31", "2026-03")
    assert not result.success
    (failure,) = failures(result)
    assert failure.startswith("levels: FileNotFoundError: ")
    assert failure.endswith("levels of 2026-02 has not been computed: bill that month first")
    assert {row["billing_month"] for row in show(landing.root, "packages")} == {"2026-01"}
    assert len(show(landing.root, "documents")) == 1


def test_a_broken_catalogue_fails_the_run_with_its_own_message(landing: Landing) -> None:
    path = landing.folder / "catalogue.yaml"
    path.write_text(path.read_text().replace("currency: USD", "currency: GOLD"))
    result = run("billing_month", landing.root, "2026-01-31", "2026-01")
    assert not result.success
    (failure,) = failures(result)
    assert failure.startswith("cycles: billing.model.errors.RefusedError: ")
    assert "GOLD" in failure


# --- what a month was built from: known step by step ----------------------------------------------------------------


def step(home: Path, asset: str, as_of: str, month: str) -> dg.ExecuteInProcessResult:
    """One asset materialized by itself, as from its page."""
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [defs.get_assets_def(asset), *defs.get_repository_def().source_assets_by_key.values()],
            run_config={"resources": {"billing_home": {"config": {"folder": str(home), "as_of": as_of}}}},
            resources={"billing_home": HomeResource()},
            partition_key=month,
            selection=[asset],
            instance=instance,
            raise_on_error=False,
        )


def check_of_inputs(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (check,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "built_from_current_inputs"]
    return check


def is_current(result: dg.ExecuteInProcessResult) -> bool:
    return check_of_inputs(result).passed


def test_a_month_is_not_current_by_building_its_report_alone(january_once: Built, january_built: Landing) -> None:
    landing = january_built
    assert is_current(january_once.result)
    landing.use("acme", "2026-01-05", emails=1, delivered="2026-01-25")
    assert run("ingest", landing.root, "2026-01-31", **DAY).success
    assert not is_current(step(landing.root, "billing_report", "2026-01-31", "2026-01"))
    assert is_current(run("billing_month", landing.root, "2026-01-31", "2026-01"))


def test_what_moved_since_is_seen_at_any_time(two_months_built: Landing) -> None:
    landing = two_months_built

    def looked() -> dict[str, object]:
        result = run("look_for_moved_inputs", landing.root, "2026-02-28")
        (check,) = result.get_asset_check_evaluations()
        found: dict[str, object] = {name: value.value for name, value in check.metadata.items()}
        assert check.passed == (found["what to do"] == "nothing")
        return found

    nothing = {"delivered and not ingested yet": "none", "moved since a month was built": "none"}
    assert looked() == nothing | {"what to do": "nothing"}
    for delivered in landing.folder.glob("usage/*/*"):
        os.utime(delivered, (0, 0))
    assert looked() == nothing | {"what to do": "nothing"}, "what is touched has not moved"
    landing.use("acme", "2026-01-05", emails=1, delivered="2026-01-25")
    assert looked() == nothing | {
        "delivered and not ingested yet": "2026-01-25",
        "what to do": "run ingest for these days, then look again",
    }
    assert run("ingest", landing.root, "2026-02-28", **DAY).success
    found = looked()
    assert str(found["moved since a month was built"]).startswith("2026-01 (")
    assert found["what to do"] == "run billing_month from 2026-01 to the latest month"
    if not LONG:
        # another test looks at a month that was run again
        return
    for month in ("2026-01", "2026-02"):
        run("billing_month", landing.root, "2026-02-28", month)
    assert looked() == nothing | {"what to do": "nothing"}


def test_the_check_says_from_which_month_on_to_run_again(two_months_built: Landing) -> None:
    landing = two_months_built
    landing.customer("bolt", on="2026-01-12")
    check = check_of_inputs(step(landing.root, "billing_report", "2026-02-28", "2026-02"))
    assert not check.passed
    assert check.metadata["what to do"].value == "run billing_month from 2026-01 to the latest month"


def test_a_step_that_was_run_alone_as_of_another_day_is_run_again(january_built: Landing) -> None:
    landing = january_built
    landing.use("acme", "2026-02-15", emails=20_000)
    assert is_current(run("billing_month", landing.root, "2026-02-21", "2026-02"))
    # the usage of the open month, without what was delivered after its first day
    assert step(landing.root, "usage", "2026-02-01", "2026-02").success
    assert not is_current(step(landing.root, "billing_report", "2026-02-21", "2026-02"))
    assert "nothing moved" not in bill(landing.root, "2026-02", "2026-02-21").messages.splitlines()[-2]


def test_nothing_is_issued_as_long_as_an_earlier_month_has_to_be_built_again(two_months_built: Landing) -> None:
    landing = two_months_built
    landing.use("acme", "2026-01-25", emails=20_000, delivered="2026-03-05")
    result = run("billing_month", landing.root, "2026-03-31", "2026-03")
    assert not result.success
    (failure,) = failures(result)
    assert "nothing was issued, because 2026-01 has to be built first" in failure
    assert len(show(landing.root, "documents")) == 2
    if not LONG:
        # test_corrections.py bills what was late
        return
    for month in ("2026-01", "2026-02", "2026-03"):
        assert run("billing_month", landing.root, "2026-03-31", month).success
    # 16,000 emails were billed as one block, 36,000 are 21: silver's fee, and 60.00 of the cycle before
    assert [row["total"] for row in show(landing.root, "documents")] == ["99.00", "102.00", "259.00"]


# --- blocking checks: what would be wrong is never issued -----------------------------------------------------------


def interrupted_by(home: Path, check: str) -> None:
    """Billing ends with status 1, names the check, and has issued nothing."""
    ended = bill(home, "2026-02", "2026-02-28", dagster=True)
    assert ended.status == 1
    (message,) = [line for line in ended.messages.splitlines() if line.startswith("interrupted: ")]
    assert f"check {check} does not hold" in message
    assert "nothing was issued after it" in message
    assert [row["billing_date"] for row in show(home, "documents")] == ["2026-01-10"]
    assert [path.name for path in (home / "documents").rglob("*.pdf")] == ["INV-2026-000001.pdf"]


@pytest.fixture
def january(landing: Landing) -> Landing:
    """January billed; February is the month in which something goes wrong."""
    assert bill_once(landing.root, "2026-01", "2026-01-31").status == 0
    return landing


def test_an_amount_that_does_not_add_up_stops_the_month(january: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    real = write_drafts

    def spoilt(business: Business, month: str) -> Drafts:
        drafts = real(business, month)
        one_cent = pl.col("net") + pl.lit("0.01").str.to_decimal(scale=4)
        pages = read_month(business.home, DRAFTS, month).with_columns(net=one_cent)
        write_month(business.home, DRAFTS, month, pages)
        return drafts

    monkeypatch.setattr(documents, "write_drafts", spoilt)
    interrupted_by(january.root, "lines_add_up_to_documents")


def test_a_file_whose_rows_do_not_add_up_stops_before_any_month(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ingest.ingest

    def spoilt(business: Business) -> IngestOutcome:
        outcome = real(business)
        path = business.home.delivery(INGEST, date(2026, 1, 20))
        pl.read_parquet(path).with_columns(rows=pl.col("rows") + 1).write_parquet(path)
        return outcome

    monkeypatch.setattr(ingest, "ingest", spoilt)
    ended = bill(landing.root, "2026-02", "2026-02-28", dagster=True)
    assert ended.status == 1
    assert "check every_row_is_counted_or_set_aside does not hold" in ended.messages
    assert show(landing.root, "documents") == []


def test_after_a_broken_check_the_next_run_issues_what_is_due(january: Landing) -> None:
    with mock.patch("billing.month.steps.month_charges", lambda rated: month_charges(rated).head(0)):
        assert bill(january.root, "2026-02", "2026-02-28", dagster=True).status == 1
    assert bill(january.root, "2026-02", "2026-02-28").status == 0
    assert [row["total"] for row in show(january.root, "documents")] == ["99.00", "102.00"]


def test_a_month_that_has_not_begun_is_refused_before_anything_runs(landing: Landing) -> None:
    for job in ("billing_month", "draft_month"):
        (failure, *others) = failures(run(job, landing.root, "2026-03-31", "2026-04"))
        assert not others
        assert failure.endswith(
            "2026-04 has not begun: this run is as of 2026-03-31; expected 2026-03 or an earlier month. "
            "Nothing was computed or issued"
        )
    assert not (landing.root / "lake").exists()
    assert not (landing.root / "register.db").exists()


def test_a_refused_catalogue_is_told_by_its_sentence_and_its_list(landing: Landing) -> None:
    catalogue = landing.root / "landing" / "catalogue.yaml"
    catalogue.write_text(
        catalogue.read_text().replace("currency: USD", "currency: DOLLARS").replace("rank: 1", "rank: x")
    )
    result = run("billing_month", landing.root, "2026-03-31", "2026-03")
    (failure,) = (event.step_failure_data for event in result.all_events if event.is_step_failure)
    assert failure.user_failure_data is not None
    sentence, *problems = str(failure.user_failure_data.description).splitlines()
    assert sentence.endswith("the catalogue is refused")
    assert len(problems) == 2
    assert "currency: found 'DOLLARS'" in problems[0]


def test_a_month_can_be_looked_at_without_issuing_it(landing: Landing) -> None:
    assert run("draft_month", landing.root, "2026-01-31", "2026-01").success
    assert not (landing.root / "register.db").exists()
    assert [row["total"] for row in show(landing.root, "drafts")] == ["99.00"]


def test_what_issues_says_so_where_it_is_started() -> None:
    assert "ISSUE" in (defs.resolve_job_def("billing_month").description or "")
    graph = defs.resolve_asset_graph()
    for name in ("documents", "lines", "taxes"):
        assert "**Materializing this issues invoices**" in (graph.get(dg.AssetKey(name)).description or "")
