"""Corrections at once (rule 21): notes that name the document they correct, once, with its tax rates."""

import json
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from billing.month.business import Business
from billing.month.correctable import months_to_correct
from billing.month.issuing import issue_notes
from tests.by_steps import bill_by_steps
from tests.pipeline.outside import Ended, Landing, Row, bill, bill_once, content_of, one, overage, show
from tests.sizes import LONG, sized

REASON = "The mail log of January came late."


def correct(home: Path, month: str, as_of: str, *arguments: str, reason: str = REASON, report: bool = False) -> Ended:
    given = ("--reason", reason, "--as-of", as_of, "--home", home, *arguments)
    return overage("correct", month, *given, report=report)


def notes(ended: Ended) -> list[Row]:
    found: list[Row] = json.loads(ended.output)
    return found


NAMES = ("late", "less", "named", "other")


@pytest.fixture
def business(tmp_path: Path) -> Landing:
    """Customers with 16,000 emails each, billed up to 2026-02-15: 99.00, then 99.00 + 1 x 3.00 with 10 % tax."""
    return billed_business(tmp_path)


def billed_business(root: Path) -> Landing:
    landing = Landing(root)
    (landing.folder / "tax_rates.csv").write_text(
        "country,region,rate,name,effective_from\nUS,,0.10,Sales tax,2020-01-01\n"
    )
    for name in NAMES:
        landing.customer(name)
        landing.use(name, emails=16_000)
    assert bill_once(root, "2026-02", "2026-02-15").status == 0
    return landing


def deliver_late(landing: Landing, account: str = "late", emails: int = 2_000) -> None:
    landing.use(account, "2026-02-05", emails=emails, delivered="2026-02-20")


@dataclass(frozen=True)
class Corrected:
    """A business whose February was corrected, and how commands ended; up to `of_one` runs issue nothing."""

    landing: Landing
    of_january: list[Ended]
    correctable: dict[tuple[str, tuple[str, ...]], tuple[list[str], bool]]
    documents: list[Row]
    draft: Ended
    documents_after_draft: list[Row]
    of_one: Ended
    of_all: Ended

    def note(self, account: str) -> Row:
        """Of the second correction."""
        return one([note for note in notes(self.of_all) if note["account_id"] == account])


@pytest.fixture(scope="module")
def corrected_once(tmp_path_factory: pytest.TempPathFactory) -> Corrected:
    """late and named: usage that comes late. less: 3.00 that were billed are not due. other: as it was."""
    landing = billed_business(tmp_path_factory.mktemp("corrected") / "home")
    home, usage = landing.root, landing.folder / "usage" / "2026-01-20" / "usage.jsonl"
    for name in ("late", "named"):
        deliver_late(landing, name)
    # the delivery is replaced
    usage.write_text("".join(row for row in usage.read_text().splitlines(True) if '"less"' not in row))
    # a rate that is in force only since the document was issued changes nothing of the note
    with (landing.folder / "tax_rates.csv").open("a") as file:
        file.write("US,,0.20,Sales tax,2026-02-16\n")
    further: list[list[str]] = sized(usual=[[]], long=[["--draft"], []])
    of_january = [correct(home, "2026-01", "2026-02-21", *each) for each in further]
    now = Business.load(home, date(2026, 2, 21))
    asked: list[tuple[str, tuple[str, ...]]] = [("2026-02", ()), ("2026-02", ("other",)), ("2026-01", ())]
    correctable = {(month, accounts): months_to_correct(now, month, accounts) for month, accounts in asked}
    documents = show(home, "documents")
    set_auto_issue(landing, "false")
    as_json = ("2026-02", "2026-02-21", "--format", "json")
    draft = correct(home, *as_json, "--draft")
    after_draft = show(home, "documents")
    of_one = correct(home, *as_json, "--account", "named")
    set_auto_issue(landing, "true")
    of_all = correct(home, *as_json, report=True)
    return Corrected(landing, of_january, correctable, documents, draft, after_draft, of_one, of_all)


def set_auto_issue(landing: Landing, value: str) -> None:
    """Whether runs issue, `true` or `false`, or stop at drafts."""
    catalogue = landing.folder / "catalogue.yaml"
    catalogue.write_text(re.sub("auto_issue: (true|false)", f"auto_issue: {value}", catalogue.read_text()))


def test_late_usage_becomes_a_debit_note_at_the_rates_of_the_document(corrected_once: Corrected) -> None:
    tmp_path = corrected_once.landing.root
    assert corrected_once.of_all.status == 0
    corrected = one(show(tmp_path, "documents", account_id="late", billing_date="2026-02-10", kind="invoice"))
    note = corrected_once.note("late")
    # 18,000 emails: 3 blocks, 9.00; billed were 3.00
    assert note == {
        "number": "DN-2026-000002",
        "kind": "debit_note",
        "account_id": "late",
        "subscription_id": "late/2026-01-10",
        "billing_date": "2026-02-10",
        "corrects": corrected["number"],
        "currency": "USD",
        "net": "6.00",
        "tax": "0.60",
        "total": "6.60",
        "lines": [{"description": "Emails: 9.00 due, 3.00 billed before", "amount": "6.00"}],
    }
    document = one(show(tmp_path, "documents", number="DN-2026-000002"))
    assert (document["billing_month"], document["issued_on"]) == ("2026-02", "2026-02-21")
    line = one(show(tmp_path, "lines", number="DN-2026-000002"))
    assert (line["kind"], line["metric"], line["quantity"], line["amount"]) == ("adjustment", "emails", "18000", "6.00")
    assert (line["cycle_start"], line["cycle_end"], line["package"]) == ("2026-01-10", "2026-02-10", "starter")
    tax = one(show(tmp_path, "taxes", number="DN-2026-000002"))
    assert (tax["rate"], tax["taxable"], tax["amount"]) == ("0.1", "6.00", "0.60")
    assert "debit note" in (tmp_path / "reports" / "2026-02.html").read_text()
    page = (tmp_path / "documents" / "2026-02" / "DN-2026-000002.pdf").read_text()
    assert REASON in page
    assert one(show(tmp_path, "balances", account_id="late"))["invoiced"] == "227.70"  # 108.90 + 112.20 + 6.60
    assert overage("verify", "--home", tmp_path).status == 0


def test_a_second_correction_issues_nothing_and_says_so(corrected_once: Corrected) -> None:
    tmp_path = corrected_once.landing.root
    before = content_of(tmp_path)
    ended = correct(tmp_path, "2026-02", "2026-02-21", "--format", "json")
    assert (ended.status, notes(ended)) == (0, [])
    assert "nothing to correct: no document of 2026-02 differs from what is due" in ended.messages
    assert content_of(tmp_path) == before


def test_where_there_is_nothing_to_correct_the_months_that_differ_are_named(corrected_once: Corrected) -> None:
    # what happened in January was billed in February
    said = "nothing to correct: no document of 2026-01 differs from what is due"
    for ended in corrected_once.of_january:
        assert f"{said}; those of 2026-02 do: overage correct 2026-02" in ended.messages
    assert corrected_once.correctable == {
        ("2026-02", ()): (["2026-02"], False),
        ("2026-02", ("other",)): ([], False),
        ("2026-01", ()): ([], False),
    }


def test_what_is_corrected_is_not_billed_again(corrected_once: Corrected, tmp_path: Path) -> None:
    tmp_path = corrected_once.landing.copied(tmp_path / "home").root
    bill_by_steps(tmp_path, "2026-03", "2026-03-15")
    assert show(tmp_path, "lines", kind="prior_cycle") == []
    found = show(tmp_path, "documents", billing_date="2026-03-10")
    assert {row["account_id"]: row["net"] for row in found} == dict.fromkeys(NAMES, "99.00")


def test_only_the_accounts_that_are_named_are_corrected(corrected_once: Corrected) -> None:
    of_one = notes(corrected_once.of_one)
    assert [(note["account_id"], note["number"]) for note in of_one] == [("named", "DN-2026-000001")]
    assert sorted((note["account_id"], note["number"]) for note in notes(corrected_once.of_all)) == [
        ("late", "DN-2026-000002"),
        ("less", "CN-2026-000001"),
    ]


def test_less_usage_is_credited(corrected_once: Corrected) -> None:
    note = corrected_once.note("less")
    assert (note["number"], note["net"], note["tax"], note["total"]) == ("CN-2026-000001", "-3.00", "-0.30", "-3.30")


def test_a_draft_shows_the_notes_and_issues_none(corrected_once: Corrected) -> None:
    ended = corrected_once.draft
    assert sorted((note["account_id"], note["number"], note["total"]) for note in notes(ended)) == [
        ("late", None, "6.60"),
        ("less", None, "-3.30"),
        ("named", None, "6.60"),
    ]
    assert "3 notes would be issued" in ended.messages
    assert len(corrected_once.documents) == 2 * len(NAMES)
    assert corrected_once.documents_after_draft == corrected_once.documents


def test_finance_corrects_where_runs_stop_at_drafts(corrected_once: Corrected) -> None:
    assert one(notes(corrected_once.of_one))["total"] == "6.60"


@pytest.fixture(scope="module")
def cheaper(tmp_path_factory: pytest.TempPathFactory) -> tuple[Landing, Ended, list[Row]]:
    """Where the price was wrong and one used more: a draft for people, and the notes of February."""
    business = billed_business(tmp_path_factory.mktemp("cheaper") / "home")
    deliver_late(business)
    catalogue = business.folder / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace('"99.00"', '"89.00"'))
    draft = correct(business.root, "2026-02", "2026-02-21", "--draft")
    return business, draft, notes(correct(business.root, "2026-02", "2026-02-21", "--format", "json"))


def test_for_a_person_each_line_begins_with_what_it_charges_or_gives_back(
    cheaper: tuple[Landing, Ended, list[Row]],
) -> None:
    ended = cheaper[1]
    (late,) = [row for row in ended.output.splitlines() if row.startswith("credit_note   late")]
    assert late.split("USD")[1].split() == [
        *("-4.00", "-0.40", "-4.40"),
        *["-10.00", "Package", "fee:", "89.00", "due,", "99.00", "billed", "before"],
    ]
    assert " +6.00  Emails: 9.00 due, 3.00 billed before" in ended.output
    assert "credit notes: 4, USD 37.40 less due" in ended.messages
    assert "debit notes" not in ended.messages


def test_a_price_that_was_wrong_is_credited_on_every_document_of_the_month(
    cheaper: tuple[Landing, Ended, list[Row]], tmp_path: Path
) -> None:
    tmp_path, found = cheaper[0].root, cheaper[2]
    # 6.00 more are due of one
    assert [(note["account_id"], note["net"], note["total"]) for note in found] == [
        ("late", "-4.00", "-4.40"),
        ("less", "-10.00", "-11.00"),
        ("named", "-10.00", "-11.00"),
        ("other", "-10.00", "-11.00"),
    ]
    # January waits for its own correction
    january = notes(correct(tmp_path, "2026-01", "2026-02-21", "--format", "json"))
    assert [(note["number"], note["billing_date"], note["net"]) for note in january] == [
        (f"CN-2026-00000{number}", "2026-01-10", "-10.00") for number in range(5, 9)
    ]
    if not LONG:
        # what is corrected is not billed again: another test
        return
    bill_by_steps(tmp_path, "2026-03", "2026-03-15")
    assert {row["net"] for row in show(tmp_path, "documents", billing_date="2026-03-10")} == {"89.00"}


def test_a_refund_after_a_correction_pays_back_the_fee_as_corrected(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("acme")
    bill_by_steps(tmp_path, "2026-01", "2026-01-15")
    catalogue = landing.folder / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace('"99.00"', '"89.00"'))
    assert one(notes(correct(tmp_path, "2026-01", "2026-01-16", "--format", "json")))["net"] == "-10.00"
    landing.request("acme", "refund", "2026-01-20T10:00:00Z", reason="not needed")
    bill(tmp_path, "2026-01", "2026-01-21", profiles=LONG)
    refund = one(show(tmp_path, "documents", issued_on="2026-01-21"))
    assert (refund["kind"], refund["total"]) == ("credit_note", "-89.00")
    # what has been paid back stays as it was: another price changes it no more
    catalogue.write_text(catalogue.read_text().replace('"89.00"', '"79.00"'))
    assert notes(correct(tmp_path, "2026-01", "2026-01-22", "--format", "json")) == []
    assert one(show(tmp_path, "balances", *sized(("--as-of", "2026-01-23"), ())))["outstanding"] == "0.00"


def test_a_run_that_is_killed_after_the_notes_is_completed_by_the_next(business: Landing, tmp_path: Path) -> None:
    deliver_late(business)
    issue = issue_notes

    def issue_and_die(*arguments: Any) -> None:
        issue(*arguments)
        raise OSError(28, "No space left on device")

    with mock.patch("billing.month.corrections.issue_notes", side_effect=issue_and_die):
        assert correct(tmp_path, "2026-02", "2026-02-21").status == 1
    assert one(show(tmp_path, "documents", kind="debit_note"))["number"] == "DN-2026-000001"
    assert not (tmp_path / "documents" / "2026-02" / "DN-2026-000001.pdf").exists()
    assert bill(tmp_path, "2026-02", "2026-02-21", profiles=LONG).status == 0
    assert (tmp_path / "documents" / "2026-02" / "DN-2026-000001.pdf").exists()
    assert not LONG or overage("verify", "--home", tmp_path).status == 0


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The billed business, of which every correction is refused."""
    return billed_business(tmp_path_factory.mktemp("untouched") / "home").root


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("2026-13", "2026-02-21"), "unknown month: found '2026-13'"),
        (("2026-03", "2026-03-15"), "unknown month: found 2026-03, of which nothing was issued, expected a month from"),
        (("2025-12", "2026-02-21"), "unknown month: found 2025-12"),
        (("2030-01", "2026-02-21", "--draft"), "expected a month from 2026-01 to 2026-02"),
        (("2023-12", "2026-02-21"), "unknown month: found 2023-12, expected 2024-01 or later"),
        (("2026-02", "2026-02-14"), "documents were issued as of 2026-02-15"),
        (("2026-02", "2026-02-21", "--account", "nobody"), "unknown account: found 'nobody'"),
    ],
)
def test_what_cannot_be_corrected_is_refused(untouched: Path, arguments: tuple[str, ...], said: str) -> None:
    before = content_of(untouched)
    ended = correct(untouched, *arguments)
    assert (ended.status, said in ended.messages) == (2, True), ended.messages
    assert content_of(untouched) == before


def test_where_nothing_was_ever_issued_there_is_nothing_to_correct(tmp_path: Path) -> None:
    Landing(tmp_path).customer("acme")
    before = content_of(tmp_path)
    ended = correct(tmp_path, "2026-01", "2026-02-21", "--draft")
    assert (ended.status, "none was yet" in ended.messages) == (2, True), ended.messages
    assert content_of(tmp_path) == before


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "card 4111 1111 1111 1111", "bell \x07"])
def test_a_reason_must_be_fit_to_print(untouched: Path, reason: str) -> None:
    ended = correct(untouched, "2026-02", "2026-02-21", reason=reason)
    assert ended.status == 2
    assert "--reason" in ended.messages
    assert "4111 1111" not in ended.messages


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A home billed for March, and how a correction of February ended. ends: cancelled in time. undone: as below."""
    landing = Landing(tmp_path_factory.mktemp("later"))
    home = landing.root
    landing.customer("ends")
    # nothing is due on 2026-02-10
    landing.request("ends", "cancel", "2026-01-20T10:00:00Z", "email")
    landing.customer("undone", on="2026-02-05")
    bill_by_steps(home, "2026-02", "2026-02-15")
    landing.use("ends", "2026-01-15", emails=16_000, delivered="2026-02-20")
    ended = correct(home, "2026-02", "2026-02-21", "--format", "json")
    # a late request shows a purchase on 2026-01-20, so the later one is refused
    landing.request("undone", "subscribe", "2026-01-20T09:00:00Z", "self_service", package="starter")
    bill(home, "2026-03", "2026-03-25", profiles=LONG)
    return home, ended


def test_where_no_document_was_issued_the_difference_waits_for_the_next_one(later: tuple[Path, Ended]) -> None:
    home, ended = later
    assert notes(ended) == []
    assert one(show(home, "documents", account_id="ends", billing_date="2026-03-10"))["net"] == "3.00"


def test_documents_of_a_subscription_that_a_late_request_undid_are_credited(later: tuple[Path, Ended]) -> None:
    tmp_path = later[0]
    found = [
        (row["kind"], row["subscription_id"], row["billing_date"], row["net"])
        for row in show(tmp_path, "documents", account_id="undone")
    ]
    assert sorted(found) == [
        ("credit_note", "undone/2026-02-05", "2026-03-05", "-99.00"),
        ("invoice", "undone/2026-01-20", "2026-01-20", "99.00"),
        ("invoice", "undone/2026-01-20", "2026-02-20", "99.00"),
        ("invoice", "undone/2026-01-20", "2026-03-20", "99.00"),
        ("invoice", "undone/2026-02-05", "2026-02-05", "99.00"),
    ]
    assert not LONG or overage("verify", "--home", tmp_path).status == 0


def test_a_correction_names_the_accounts_that_their_format_stops(business: Landing, tmp_path: Path) -> None:
    deliver_late(business)
    deliver_late(business, "other")
    path = business.folder / "accounts.csv"
    header, *lines = path.read_text().splitlines()
    formats = dict.fromkeys(NAMES, "pdf") | {"late": "peppol"}
    lines = [f"{line},{formats[line.split(',')[0]]}" for line in lines]
    path.write_text("\n".join([f"{header},invoice_format", *lines, ""]))
    said = "not done: account late is parked: its format peppol needs"
    for further, found in ((["--draft"], "1 note would be issued"), ([], "1 note issued"))[sized(1, 0) :]:
        ended = correct(tmp_path, "2026-02", "2026-02-21", *further)
        assert ended.status == 1
        assert said in ended.messages and found in ended.messages
    assert [row["account_id"] for row in show(tmp_path, "documents", kind="debit_note")] == ["other"]
