"""Nobody gets into a hidden package; those inside stay, and so do those who move in with it (rule 38)."""

from pathlib import Path

import pytest

from billing.month.business import Business
from billing.reports.verify import disagreements
from tests.billing.month.test_moving_in import answers, catalogue, documents, move_in
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing
from tests.sizes import sized


def hide(landing: Landing, *packages: str) -> None:
    text = catalogue()
    for name in packages:
        text = text.replace(f"  - name: {name}\n", f"  - name: {name}\n    hidden: true\n")
    (landing.folder / "catalogue.yaml").write_text(text)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Business, dict[str, list[object]]]:
    """February and March, billed one after the other, of a business that hides silver and platinum from the start.

    And by run: the documents of `new`, and who was parked.
    """
    landing = Landing(tmp_path_factory.mktemp("hidden") / "home", catalogue=catalogue())
    hide(landing, "silver", "platinum")
    landing.customer("new", "silver", on="2026-02-03")
    landing.customer("other", "starter", on="2026-02-03")
    package = {"asks": "starter", "grows": "starter", "shrinks": "gold", "top": "gold"}
    for name in ("moved", "asks", "grows", "shrinks", "fits", "outgrows", "top", "held"):
        move_in(landing, name, "2023-05-10", "2026-02-10", package=package.get(name, "silver"))
    landing.request("asks", "upgrade", "2026-02-12T09:00:00Z", package="silver")
    landing.request("shrinks", "downgrade", "2026-02-12T09:00:00Z", package="silver")
    landing.request("held", "hold", "2026-02-12T09:00:00Z")
    landing.request("held", "resume", "2026-03-20T09:00:00Z")
    for name, leads in (("grows", 2_501), ("fits", 12_500), ("outgrows", 12_501), ("top", 30_000)):
        landing.use(name, "2026-01-12", leads=leads)
    landing.use("moved", "2026-02-12", leads=2_501)
    found: dict[str, list[object]] = {}
    for as_of in ("2026-02-28", *sized(usual=(), long=("2026-03-15",)), "2026-03-31"):
        business = bill_by_steps(landing.root, as_of[:7], as_of)
        found[as_of] = [*documents(business, "new"), *business.parked["account_id"]]
    return business, found


@pytest.fixture
def months(runs: tuple[Business, dict[str, list[object]]]) -> Business:
    return runs[0]


def test_nobody_gets_in_and_those_who_move_in_with_it_stay(months: Business) -> None:
    assert rows(months, "decisions", "outcome", "reason", account_id="new") == [("refused", "package_hidden")]
    assert documents(months, "new") == []
    assert "new" not in months.parked["account_id"]
    assert documents(months, "moved") == [("2026-02-10", "199.00"), ("2026-03-10", "199.00")]
    assert answers(months, "asks") == [("upgrade", "refused", "package_hidden")]
    assert answers(months, "shrinks") == [("downgrade", "refused", "package_hidden")]
    assert documents(months, "grows")[0] == ("2026-02-10", "299.00"), "an automatic upgrade skips it"


def test_who_was_refused_stays_refused_in_every_later_run(runs: tuple[Business, dict[str, list[object]]]) -> None:
    months, found = runs
    assert len(found) > 1
    assert [as_of for as_of, documents_or_parked in found.items() if documents_or_parked] == []
    assert rows(months, "decisions", "outcome", "reason", account_id="new") == [("refused", "package_hidden")]
    assert [each for each in disagreements(months) if "the PDF of" not in each] == []


def test_who_outgrows_a_hidden_package_goes_on_to_one_that_is_offered(months: Business) -> None:
    opened = rows(months, "packages", "account_id", "opening_package", billing_month="2026-02")
    assert {name: package for name, package in opened if name in ("fits", "outgrows", "top")} == {
        "fits": "silver",
        "outgrows": "gold",
        "top": "gold",
    }
    assert answers(months, "top")[0] == ("auto_upgrade", "refused", "no_larger_package")


def test_those_inside_stay_when_it_is_hidden_in_a_trial_too(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home", catalogue=catalogue())
    landing.customer("paying", "silver", on="2026-02-03")
    landing.customer("trying", "silver", on="2026-02-20", trial_days=30)
    bill_by_steps(landing.root, "2026-02", "2026-02-28")
    hide(landing, "silver")
    landing.customer("late", "silver", on="2026-03-02")
    months = sized(usual=[("2026-03", "2026-03-31")], long=[("2026-03", "2026-03-31"), ("2026-04", "2026-04-30")])
    for month, as_of in months:
        business: Business = bill_by_steps(landing.root, month, as_of)
    assert len(documents(business, "paying")) == 1 + len(months)
    assert documents(business, "trying") == [(f"{month}-22", "199.00") for month, _ in months]
    assert documents(business, "late") == []
    assert business.parked.is_empty()


def test_a_hold_and_a_resume_keep_the_package(months: Business) -> None:
    assert documents(months, "held") == [("2026-02-10", "199.00"), ("2026-03-20", "199.00")]
