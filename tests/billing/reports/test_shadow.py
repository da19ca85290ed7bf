"""Shadow billing: the month's report says what the policy's candidate would have billed, and stops at nothing."""

from datetime import date
from pathlib import Path

import pytest

from billing.month.business import Business
from billing.month.recorded_inputs.months import moved_inputs
from billing.reports.check import problems_of
from billing.reports.month_report import month_report
from billing.reports.month_report_page import report_page
from billing.starter import starter_catalogue
from tests.by_steps import bill_by_steps
from tests.landing import Landing

CANDIDATE = "landing/candidate.yaml"


def shadowed_home(root: Path) -> Landing:
    shadowed = starter_catalogue().replace("policy:\n", f"policy:\n  shadow: {CANDIDATE}\n", 1)
    landing = Landing(root, shadowed)
    landing.customer("acme")
    landing.customer("grows")
    landing.use("grows", leads=2_600)
    put(landing, starter_catalogue().replace('monthly: "99.00"', 'monthly: "119.00"', 1))
    return landing


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return shadowed_home(tmp_path / "home")


@pytest.fixture(scope="module")
def billed_once(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    landing = shadowed_home(tmp_path_factory.mktemp("billed") / "home")
    bill_by_steps(landing.root, "2026-02", "2026-02-28")
    return landing


@pytest.fixture
def billed(billed_once: Landing, tmp_path: Path) -> Landing:
    """The business, billed for January and February."""
    return billed_once.copied(tmp_path / "billed")


def put(landing: Landing, text: str) -> None:
    (landing.root / CANDIDATE).write_text(text)


def page(business: Business, month: str) -> str:
    return report_page(business.catalogue, month_report(business, month))


def test_the_report_says_what_the_candidate_would_have_billed(billed: Landing) -> None:
    business = bill_by_steps(billed.root, "2026-03", "2026-03-31")
    report = month_report(business, "2026-01")
    shadow = report.shadow
    assert shadow is not None and shadow.compared is not None
    assert shadow.compared.rows("totals") == [
        {"before": "198.00", "after": "238.00", "difference": "40.00", "issued": "198.00"}
    ]
    # Each month begins in the packages that were in force: grows has been in silver since February.
    later = month_report(business, "2026-03").shadow
    assert later is not None and later.compared is not None
    assert [(row["account_id"], row["difference"]) for row in later.compared.rows("accounts")] == [
        ("acme", "20.00"),
        ("grows", "0.00"),
    ]
    text = report_page(business.catalogue, report)
    assert f"Under {CANDIDATE}" in text and "+40.00" in text
    assert "overage what-if landing/candidate.yaml --from 2026-01 --through 2026-01" in text


def test_equal_reports_are_equal_bytes_and_the_home_is_not_touched(billed: Landing) -> None:
    business = Business.load(billed.root, date(2026, 2, 28))
    before = {path: path.read_bytes() for path in sorted(billed.root.rglob("*")) if path.is_file()}
    assert page(business, "2026-02") == page(business, "2026-02")
    assert {path: path.read_bytes() for path in sorted(billed.root.rglob("*")) if path.is_file()} == before


@pytest.mark.parametrize("text", [None, "packages: []", "currency: [", starter_catalogue().replace("USD", "EUR", 1)])
def test_a_candidate_that_is_refused_stops_nothing(billed: Landing, text: str | None) -> None:
    if text is None:
        (billed.root / CANDIDATE).unlink()
    else:
        put(billed, text)
    business = bill_by_steps(billed.root, "2026-02", "2026-02-28")
    report = month_report(business, "2026-02")
    shadow = report.shadow
    assert shadow is not None and shadow.compared is None and shadow.problem
    assert f"Under {CANDIDATE}: not billed" in report_page(business.catalogue, report)
    assert any("policy.shadow: " in problem for problem in problems_of(billed.root))


def test_a_change_of_the_candidate_makes_open_months_stale_and_no_closed_ones(landing: Landing) -> None:
    bill_by_steps(landing.root, "2026-02", "2026-02-15")
    put(landing, starter_catalogue().replace('monthly: "99.00"', 'monthly: "129.00"', 1))
    business = Business.load(landing.root, date(2026, 2, 15))
    assert [moved_inputs(business, month) for month in ("2026-01", "2026-02")] == [[], ["shadow"]]


def test_a_home_without_a_candidate_has_nothing_of_it(billed: Landing) -> None:
    (billed.folder / "catalogue.yaml").write_text(starter_catalogue())
    (billed.root / CANDIDATE).unlink()
    business = bill_by_steps(billed.root, "2026-02", "2026-02-28")
    report = month_report(business, "2026-02")
    assert report.shadow is None
    assert "Under landing" not in report_page(business.catalogue, report)


@pytest.mark.parametrize("path", ["candidate.yaml", "landing", "landing/../candidate.yaml", "/etc/candidate.yaml"])
def test_a_candidate_outside_of_landing_is_refused(landing: Landing, path: str) -> None:
    text = starter_catalogue().replace("policy:\n", f"policy:\n  shadow: {path}\n", 1)
    (landing.folder / "catalogue.yaml").write_text(text)
    assert any("landing/candidate.yaml" in problem for problem in problems_of(landing.root))
