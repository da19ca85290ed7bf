"""Add-ons and minimum spends through the command: documents, their arithmetic, and that all agrees (M05, M06)."""

import json
import shutil
from pathlib import Path

import pytest

from billing.starter import starter_catalogue
from tests.pipeline.outside import Landing, Row, bill, overage, show
from tests.sizes import LONG

OFFERS = """
add_ons:
  - name: more_emails
    title: More emails
    versions: [{effective_from: 2026-01-01, price: {monthly: "30.00"}, allowances: {emails: 50000}, maximum: 5}]
agreements:
  - account_id: least
    package: starter
    effective_from: 2026-01-01
    minimum_spend: {amount: "200.00", counts: [package_fee, overage]}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    landing = Landing(tmp_path_factory.mktemp("sold"), starter_catalogue() + OFFERS)
    landing.customer("adds")
    landing.request("adds", "add", "2026-01-20T09:00:00Z", "self_service", add_on="more_emails", quantity=2)
    landing.use("adds", "2026-02-20", emails=116_001)
    landing.customer("least")
    landing.use("least", "2026-01-20", emails=27_350)
    assert bill(landing.root, "2026-03", "2026-03-31", profiles=True).status == 0
    return landing.root


def explained(home: Path, number: str) -> list[Row]:
    lines: list[Row] = json.loads(overage("explain", number, "--format", "json", "--home", home).output)
    return lines


def number_of(home: Path, account: str, month: str) -> str:
    (row,) = show(home, "documents", "--account", account, "--month", month)
    return str(row["number"])


def test_m05_an_add_on_is_charged_in_advance_and_widens_the_allowance(home: Path) -> None:
    documents = show(home, "documents", "--account", "adds")
    assert [(row["billing_date"], row["total"]) for row in documents] == [
        ("2026-01-10", "99.00"),
        ("2026-02-10", "159.00"),
        ("2026-03-10", "165.00"),
    ]
    fee, add_on, over = explained(home, number_of(home, "adds", "2026-03"))
    assert (fee["kind"], add_on["kind"], over["kind"]) == ("package_fee", "add_on", "overage")
    assert add_on["arithmetic"] == ["2 x 30 = 60", "2 More emails, monthly fee = 60.00"]
    assert over["arithmetic"][1:] == [
        "116001 - 115000 = 1001 over the allowance",
        "2 started blocks of 1000",
        "2 x 3.00 = 6.00",
    ]


def test_m06_what_a_cycle_lacks_of_its_minimum_is_a_line(home: Path) -> None:
    (row,) = show(home, "documents", "--account", "least", "--month", "2026-02")
    assert row["total"] == "200.00"
    fee, over, minimum = explained(home, row["number"])
    assert [line["amount"] for line in (fee, over, minimum)] == ["99.00", "39.00", "62.00"]
    assert minimum["kind"] == "minimum_spend"
    assert minimum["arithmetic"] == [
        "counts: 99.00 Starter, monthly fee, due on 2026-01-10",
        "counts: 39.00 Emails over the allowance of Starter, due on 2026-02-10",
        "200.00 to come to - 138.00 due for the cycle = 62.00",
    ]


def test_what_was_issued_agrees_with_everything_else(home: Path) -> None:
    ended = overage("verify", "--home", home)
    assert ended.status == 0, ended.output
    assert bill(home, "2026-03", "2026-03-31").status == 0
    assert len(show(home, "documents")) == 6


def test_the_profile_shows_what_is_included_with_the_add_on(home: Path) -> None:
    (profile,) = show(home, "profile", "--account", "adds")
    (emails,) = [row for row in profile["usage"] if row["metric"] == "emails"]
    assert emails["allowance"] == "115000"
    assert profile["upcoming_amount"] == "159.00"
    held = {"add_on": "more_emails", "quantity": 2, "next_quantity": None, "effective_on": None}
    assert profile["add_ons"] == [held]
    assert "More emails: 2.</p>" in (home / "profiles" / "a-adds.html").read_text()


def test_what_was_asked_for_waits_in_the_profile(home: Path, tmp_path: Path) -> None:
    twin = Path(shutil.copytree(home, tmp_path / "twin"))
    asked = {"request_id": "later", "account_id": "adds", "at": "2026-03-20T09:00:00Z", "channel": "email"}
    with (twin / "landing" / "requests.jsonl").open("a") as file:
        file.write(json.dumps(asked | {"kind": "remove", "add_on": "more_emails"}) + "\n")
    assert bill(twin, "2026-03", "2026-03-31", profiles=True).status == 0
    (profile,) = show(twin, "profile", "--account", "adds")
    waiting = {"add_on": "more_emails", "quantity": 2, "next_quantity": 0, "effective_on": "2026-04-10"}
    assert profile["add_ons"] == [waiting]
    assert profile["upcoming_amount"] == "99.00"
    assert "later" not in {row["request_id"] for row in show(twin, "decisions", "--account", "adds")}


def test_answers_name_the_add_on(home: Path) -> None:
    (answer,) = [row for row in show(home, "decisions", "--account", "adds") if row["kind"] == "add"]
    assert (answer["add_on"], answer["quantity"], answer["effective_on"]) == ("more_emails", 2, "2026-02-10")
    assert answer["explanation"] == "As you asked, you have 2 of More emails from 2026-02-10."


def test_a_preview_names_the_price_that_moved_and_whom_it_bears_on(home: Path, tmp_path: Path) -> None:
    twin = Path(shutil.copytree(home, tmp_path / "twin"))
    path = twin / "landing" / "catalogue.yaml"
    path.write_text(path.read_text().replace('monthly: "30.00"', 'monthly: "28.00"'))
    ended = overage("preview", "2026-04", "--as-of", "2026-04-30", "--format", "json", "--home", twin)
    causes = {
        (account["account_id"], change["what"], cause)
        for account in json.loads(ended.output)["accounts"]
        for change in account["changes"]
        for cause in change["causes"]
        if "add-on" in cause
    }
    moved = "catalogue add-on more_emails has changed"
    assert causes == {("adds", what, moved) for what in ("document", "line", "cycle")}


def test_a_correction_gives_back_what_a_lower_price_would_have_cost(home: Path, tmp_path: Path) -> None:
    twin = Path(shutil.copytree(home, tmp_path / "twin"))
    path = twin / "landing" / "catalogue.yaml"
    path.write_text(path.read_text().replace('monthly: "30.00"', 'monthly: "28.00"'))
    how = ("--reason", "price", "--as-of", "2026-03-31", "--home", twin)
    corrected = overage("correct", "2026-02", *how, profiles=LONG)
    assert corrected.status == 0, corrected.messages
    (note,) = [row for row in show(twin, "documents", "--account", "adds") if row["kind"] == "credit_note"]
    assert (note["total"], note["corrects"]) == ("-4.00", number_of(home, "adds", "2026-02"))
    (line,) = [row for row in show(twin, "lines") if row["number"] == note["number"]]
    assert (line["kind"], line["add_on"], line["amount"]) == ("adjustment", "more_emails", "-4.00")
    assert not LONG or overage("verify", "--home", twin).status == 0
