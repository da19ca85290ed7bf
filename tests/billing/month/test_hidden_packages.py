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


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "home", catalogue=catalogue())


def test_nobody_gets_in_and_those_who_move_in_with_it_stay(landing: Landing) -> None:
    hide(landing, "silver")
    landing.customer("new", "silver", on="2026-02-03")
    move_in(landing, "moved", "2023-05-10", "2026-02-10", package="silver")
    for name in ("asks", "grows", "shrinks"):
        move_in(landing, name, "2023-05-10", "2026-02-10", package="gold" if name == "shrinks" else "starter")
    landing.request("asks", "upgrade", "2026-02-12T09:00:00Z", package="silver")
    landing.request("shrinks", "downgrade", "2026-02-12T09:00:00Z", package="silver")
    landing.use("grows", "2026-01-12", leads=2_501)
    landing.use("moved", "2026-02-12", leads=2_501)
    business = bill_by_steps(landing.root, "2026-03", "2026-03-31")
    assert rows(business, "decisions", "outcome", "reason", account_id="new") == [("refused", "package_hidden")]
    assert documents(business, "new") == []
    assert "new" not in business.parked["account_id"]
    assert documents(business, "moved") == [("2026-02-10", "199.00"), ("2026-03-10", "199.00")]
    assert answers(business, "asks") == [("upgrade", "refused", "package_hidden")]
    assert answers(business, "shrinks") == [("downgrade", "refused", "package_hidden")]
    assert documents(business, "grows")[0] == ("2026-02-10", "299.00"), "an automatic upgrade skips it"


def test_who_was_refused_stays_refused_in_every_later_run(landing: Landing) -> None:
    hide(landing, "silver")
    landing.customer("new", "silver", on="2026-02-03")
    landing.customer("other", "starter", on="2026-02-03")
    days = ["2026-02-28", *sized(usual=[], long=["2026-03-15"]), "2026-03-31"]
    for month, as_of in ((day[:7], day) for day in days):
        business = bill_by_steps(landing.root, month, as_of)
        assert documents(business, "new") == [], as_of
        assert business.parked.is_empty()
    assert rows(business, "decisions", "outcome", "reason", account_id="new") == [("refused", "package_hidden")]
    assert [each for each in disagreements(business) if "the PDF of" not in each] == []


def test_who_outgrows_a_hidden_package_goes_on_to_one_that_is_offered(landing: Landing) -> None:
    hide(landing, "silver", "platinum")
    move_in(landing, "fits", "2023-05-10", "2026-02-10", package="silver")
    move_in(landing, "grows", "2023-05-10", "2026-02-10", package="silver")
    move_in(landing, "top", "2023-05-10", "2026-02-10", package="gold")
    for name, leads in (("fits", 12_500), ("grows", 12_501), ("top", 30_000)):
        landing.use(name, "2026-01-12", leads=leads)
    business = bill_by_steps(landing.root, "2026-02", "2026-02-28")
    opened = dict(rows(business, "packages", "account_id", "opening_package"))
    assert opened == {"fits": "silver", "grows": "gold", "top": "gold"}
    assert answers(business, "top") == [("auto_upgrade", "refused", "no_larger_package")]


def test_those_inside_stay_when_it_is_hidden_in_a_trial_too(landing: Landing) -> None:
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


def test_a_hold_and_a_resume_keep_the_package(landing: Landing) -> None:
    hide(landing, "silver")
    move_in(landing, "acme", "2023-05-10", "2026-02-10", package="silver")
    landing.request("acme", "hold", "2026-02-12T09:00:00Z")
    landing.request("acme", "resume", "2026-03-20T09:00:00Z")
    business = bill_by_steps(landing.root, "2026-03", "2026-03-31")
    assert documents(business, "acme") == [("2026-02-10", "199.00"), ("2026-03-20", "199.00")]
