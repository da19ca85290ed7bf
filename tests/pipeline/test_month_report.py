"""The report of a month: its figures agree with the documents, it explains the change, and names what to look at."""

import re
import shutil
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from billing.month.business import Business
from billing.rendering import draw_page
from billing.reports.month_report import MonthReport, month_report
from billing.reports.month_report_page import report_page
from billing.sample import write_sample
from pipeline.definitions import defs
from tests.by_steps import bill_by_steps
from tests.landing import keep_few_deliveries
from tests.pipeline import outside
from tests.pipeline.outside import Ended, Landing, bill, blank_files, blank_page, overage, show, total_of
from tests.sizes import sized

pytestmark = pytest.mark.usefixtures("profiles")


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    """In February acme outgrows its package, bolt sends more mails, cone is new and dale has left."""
    landing = Landing(tmp_path_factory.mktemp("business") / "home")
    for name in ("acme", "bolt", "dale"):
        landing.customer(name)
    landing.request("dale", "cancel", "2026-01-15T09:00:00Z", "email")
    landing.customer("cone", on="2026-02-20")
    landing.use("acme", "2026-01-20", leads=3_000)
    landing.use("bolt", "2026-01-21", emails=17_000)
    landing.use("bolt", "2026-01-05", emails=7, delivered="2026-02-03")
    landing.deliver(["nonsense"], "2026-02-03")
    assert bill(landing.root, "2026-02", "2026-02-28").status == 0
    return landing


@pytest.fixture
def copied(landing: Landing, tmp_path: Path) -> Landing:
    """The same business, to go on with."""
    copied = Landing(tmp_path / "home", written=landing.written)
    shutil.copytree(landing.root, copied.root, dirs_exist_ok=True)
    return copied


def report_of(landing: Landing, month: str = "2026-02", as_of: str = "2026-02-28") -> MonthReport:
    return month_report(Business.load(landing.root, date.fromisoformat(as_of)), month)


def test_the_totals_are_those_of_the_documents(landing: Landing) -> None:
    report = report_of(landing)
    documents = show(landing.root, "documents", "--month", "2026-02")
    assert report.by_package["total"].sum() == total_of(documents, "total")
    assert [(row["package"], row["accounts"], str(row["total"])) for row in report.by_package.to_dicts()] == [
        ("starter", 2, "204.0000"),
        ("silver", 1, "199.0000"),
    ]


def test_the_causes_add_up_to_the_change(landing: Landing) -> None:
    report = report_of(landing)
    assert {row["cause"]: str(row["change"]) for row in report.causes.to_dicts()} == {
        "new customers": "99.0000",
        "customers without a bill now": "-99.0000",
        "moved to a larger package": "100.0000",
        "overage": "6.0000",
    }
    assert report.causes["change"].sum() == report.by_package["change"].sum() == Decimal(106)
    assert [row["account_id"] for row in report.movements.to_dicts()] == ["acme", "cone", "dale", "bolt"]


def test_late_and_rejected_usage_and_what_is_owed_are_in_it(landing: Landing) -> None:
    report = report_of(landing)
    (late,) = report.late.to_dicts()
    assert (late["metric"], late["events"], late["quantity"]) == ("emails", 1, Decimal(7))
    assert report.rejected.select("reason", "rows").rows() == [("unparseable", 1)]
    assert report.receivables.rows() == [("not_due", 6, Decimal(700))]
    assert report.by_day["events"].sum() == 0, "nothing was used in February"


def test_every_check_holds(landing: Landing) -> None:
    # the customers' PDFs are stand-ins, but they are there
    assert [each.text for each in report_of(landing).checks if not each.holds] == []


def test_drafts_are_part_of_the_month_and_said_to_be_drafts(copied: Landing) -> None:
    copied.customer("emil", on="2026-03-05")
    assert bill(copied.root, "2026-03", "2026-03-08", "--draft").status == 0
    report = report_of(copied, "2026-03", "2026-03-08")
    assert (report.documents, report.drafts) == (0, 4)
    page = (copied.root / "reports" / "2026-03.html").read_text()
    catalogue = Business.load(copied.root, date(2026, 3, 8)).catalogue
    assert "4 drafts of the month are not issued yet" in page
    assert "1 draft of the month is not issued yet. It is part" in report_page(catalogue, replace(report, drafts=1))


def test_the_page_is_whole_by_itself(landing: Landing) -> None:
    page = (landing.root / "reports" / "2026-02.html").read_text()
    assert not re.search(r"(src|href)=|url\(|@import|<script|<link", page)
    assert page.count("<svg") >= 3
    for said in ("Billing of 2026-02", "403.00", "+106.00", "moved to a larger package", "Receivables on 2026-02-28"):
        assert said in page, said


def test_the_same_month_gives_the_same_bytes_whenever_it_is_written(copied: Landing) -> None:
    page = (copied.root / "reports" / "2026-02.html").read_bytes()
    bill_by_steps(copied.root, "2026-03", "2026-03-31")
    catalogue = Business.load(copied.root, date(2026, 4, 15)).catalogue
    assert report_page(catalogue, report_of(copied, as_of="2026-04-15")).encode() == page


def test_the_pdf_is_drawn_from_the_page_and_the_same_each_time(landing: Landing) -> None:
    page = (landing.root / "reports" / "2026-02.html").read_text()
    drawn = draw_page(page, "month_report_print.css")
    assert drawn.startswith(b"%PDF")
    assert drawn == draw_page(page, "month_report_print.css")


# --- on the pages of Dagster ----------------------------------------------------------------------------------------


def test_the_pdf_of_the_last_month_of_a_command_is_drawn_and_others_when_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "LEFT_OUT", ("profiles",))
    landing = Landing(tmp_path)
    landing.customer("acme")
    landing.use("acme", "2026-01-20", emails=16_000)
    months = ("bill", "2026-01", "--through", "2026-02", "--as-of", "2026-02-28", "--home", tmp_path)

    def drawn() -> list[str]:
        return sorted(path.name for path in (tmp_path / "reports").glob("*.pdf"))

    def asked_for(month: str) -> Ended:
        return overage("report", month, "--home", tmp_path)

    assert overage(*months).status == 0
    assert (drawn(), len(list((tmp_path / "reports").glob("*.html")))) == (["2026-02.pdf"], 2)
    path = tmp_path / "reports" / "2026-01.pdf"
    assert asked_for("2026-01") == Ended(0, f"{path}\n", "")
    page = path.with_suffix(".html").read_text()
    assert path.read_bytes() == blank_page(page, "month_report_print.css")
    path.write_bytes(b"it is there")
    assert asked_for("2026-01").status == 0
    assert path.read_bytes() == b"it is there"
    # A PDF never says what its page does not.
    landing.use("acme", "2026-01-25", emails=20_000, delivered="2026-02-27")
    assert overage(*months).status == 0
    assert path.with_suffix(".html").read_text() != page
    assert drawn() == ["2026-02.pdf"]
    assert asked_for("2026-04").status == 2
    assert "found no report" in asked_for("2026-04").messages
    assert "unknown month" in asked_for("../../2026-01").messages


def test_no_customer_is_named_on_any_page_and_no_page_is_heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.month.pdf_files.render_files", blank_files)
    monkeypatch.setattr("billing.reports.month_report_page.draw_page", blank_page)
    home = tmp_path / "home"
    write_sample(home, accounts=sized(6, 40), months=1, events_per_account_day=1)
    keep_few_deliveries(home, sized(10, 1))
    accounts = pl.read_csv(home / "landing" / "accounts.csv", infer_schema=False)
    secrets = {
        text for name in ("account_id", "name", "email") for text in accounts[name].drop_nulls() if len(text) > 3
    }
    config = {"resources": {"billing_home": {"config": {"folder": str(home), "as_of": "2026-02-28"}}}}
    seen = 0
    with dg.DagsterInstance.ephemeral() as instance:
        for month in sized(("2026-01", None), ("2026-01", "2026-02", None)):
            job = defs.resolve_job_def("billing_month" if month else "profiles")
            result = job.execute_in_process(run_config=config, partition_key=month, instance=instance)
            built = [each.step_materialization_data for each in result.get_asset_materialization_events()]
            texts = [dg.serialize_value(each) for each in built]  # as they are stored
            for text in [*texts, *map(dg.serialize_value, result.get_asset_check_evaluations())]:
                assert len(text) < 50_000, text[:300]
                assert not [secret for secret in secrets if secret in text]
                seen += 1
    assert seen > sized(25, 45)


@pytest.fixture(scope="module")
def terms(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    """Two yearly customers of which one uses too much, one by the month, and one who changes within its trial."""
    landing = Landing(tmp_path_factory.mktemp("terms") / "home")
    landing.customer("year", term="yearly")
    landing.customer("over", term="yearly")
    landing.customer("month")
    landing.use("over", "2026-02-20", emails=17_000)
    landing.customer("trying", on="2026-01-03", trial_days=14)
    landing.request("trying", "upgrade", "2026-01-12T09:00:00Z", "self_service", package="silver")
    bill_by_steps(landing.root, "2026-03", "2026-03-31")
    return landing


def test_a_change_within_a_trial_is_no_flow_between_packages(terms: Landing) -> None:
    report = report_of(terms, "2026-01", "2026-03-31")
    assert "silver" in report.by_package["package"]
    assert report.flow.is_empty()


def test_a_yearly_customer_is_one_in_the_months_without_a_fee(terms: Landing) -> None:
    def causes(month: str) -> list[tuple[str, int, str]]:
        report = report_of(terms, month, "2026-03-31")
        assert report.causes["change"].sum() == report.by_package["change"].sum()
        return [(cause, accounts, f"{change:.2f}") for cause, accounts, change in report.causes.rows()]

    assert causes("2026-02") == [("fees of yearly terms", 2, "-1980.00")]
    # nobody is new who only had nothing to pay
    assert causes("2026-03") == [("overage", 1, "6.00")]


def test_a_name_stands_beside_the_id(landing: Landing) -> None:
    names = dict(
        Business.load(landing.root, date(2026, 2, 28)).inputs.accounts.select("account_id", "name").iter_rows()
    )
    assert all(row["name"] == names[row["account_id"]] for row in report_of(landing).movements.to_dicts())
    page = (landing.root / "profiles" / "index.html").read_text()
    assert "<th>Name</th>" in page
    assert all(f"<td>{name}</td>" in page for name in names.values())
