"""`overage bill`: what is issued when, what a second run does, and what the movable clock hides."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from billing.starter import starter_catalogue
from billing.store.home import Home
from pipeline.run_state import marked
from tests.by_steps import bill_by_steps
from tests.pipeline.outside import GB, Ended, Landing, bill, bill_once, content_of, one, overage, show, total_of
from tests.sizes import LONG, sized

ROOT = Path(__file__).parents[2]
NOTHING_MOVED = "2026-01: nothing moved\n2026-02: nothing moved\n0 documents issued\n"


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    """One customer of the starter package, bought on 2026-01-10, and 16,000 emails of the first cycle."""
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    landing.use("acme", "2026-01-20", emails=16_000)
    return landing


def issued(home: Path) -> Sequence[tuple[str, str, str]]:
    """number, billing date and total of every document."""
    return [(row["number"], row["billing_date"], row["total"]) for row in show(home, "documents")]


def test_a_run_brings_earlier_months_up_to_date_first_and_says_so(landing: Landing) -> None:
    ended = bill_once(landing.root, "2026-02", "2026-02-28")
    assert ended.status == 0
    assert ended.output == "", "messages go to standard error"
    assert ended.messages.splitlines() == [
        "ingesting deliveries of 2026-01-20",
        "2026-01: 1 issued",
        "2026-02: 1 issued",
        "2 documents issued",
    ]
    assert issued(landing.root) == [
        ("INV-2026-000001", "2026-01-10", "99.00"),
        ("INV-2026-000002", "2026-02-10", "102.00"),
    ]


@pytest.mark.parametrize(
    ("through", "said"),
    [
        ("2026-02", "2026-02 has not begun as of 2026-01-31: nothing is issued there, only drafts are made"),
        (
            "2026-03",
            "2026-02 to 2026-03 have not begun as of 2026-01-31: nothing is issued there, only drafts are made",
        ),
    ][: sized(usual=1, long=2)],
)
def test_a_month_that_has_not_begun_is_drafted_and_the_run_says_that_nothing_is_issued(
    landing: Landing, through: str, said: str
) -> None:
    for again in (False, True):
        ended = (bill if again else bill_once)(landing.root, "2026-01", "2026-01-31", "--through", through)
        assert (ended.status, ended.messages.splitlines()[0]) == (0, said)
        assert [row[1] for row in issued(landing.root)] == ["2026-01-10"]
        assert ("0 documents issued" in ended.messages) == again
    assert show(landing.root, "drafts")[0]["billing_date"] == "2026-02-10"
    ended = bill(landing.root, "2026-01", "2026-01-31")
    assert "begun" not in ended.messages


def test_a_second_run_changes_nothing(landing: Landing) -> None:
    bill_once(landing.root, "2026-02", "2026-02-28")
    before = content_of(landing.root)
    ended = bill(landing.root, "2026-02", "2026-02-28")
    assert (ended.status, ended.messages) == (0, NOTHING_MOVED)
    assert content_of(landing.root) == before


def test_dagster_is_not_loaded(landing: Landing) -> None:
    arguments = ["bill", "2026-02", "--as-of", "2026-02-28", "--home", str(landing.root)]
    bill_once(landing.root, "2026-02", "2026-02-28")
    landing.use("acme", "2026-02-03", emails=5)
    usage = landing.folder / "usage"
    late = (usage / "2026-02-03").rename(landing.root.parent / "late")
    command = f"""
import os, sys
from pipeline.cli import main
for _ in range(2):
    try:
        main({arguments})
    except SystemExit as ended:
        print(ended.code, "dagster" in sys.modules)
    if os.path.exists({str(late)!r}):
        print("then", file=sys.stderr, flush=True)
        os.rename({str(late)!r}, {str(usage / "2026-02-03")!r})
"""
    ended = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ended.stdout == "0 False\n0 False\n"
    again, _, moved = ended.stderr.partition("then\n")
    assert again == NOTHING_MOVED
    assert "ingesting deliveries of 2026-02-03" in moved


def test_a_killed_command_is_completed_also_where_nothing_moved(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    bill_once(landing.root, "2026-02", "2026-02-28")
    with pytest.raises(SystemExit), marked(Home(landing.root)):
        raise SystemExit("as a kill does, this leaves the mark")
    monkeypatch.setattr("pipeline.runs.bring_up_to_date", lambda home, _: told.append(home))
    for _ in range(2):
        assert bill(landing.root, "2026-02", "2026-02-28").messages == NOTHING_MOVED
    assert len(told) == 1, "the second finds no mark"


def test_a_later_run_leaves_what_was_issued_and_adds_to_it(landing: Landing) -> None:
    bill_once(landing.root, "2026-01", "2026-01-31", "--through", "2026-02")
    (first,) = show(landing.root, "documents")
    paper = (landing.root / "documents" / "2026-01" / "INV-2026-000001.pdf").read_bytes()
    ended = bill(landing.root, "2026-02", "2026-02-28")
    assert "2026-01: nothing moved\n2026-02: 1 issued\n1 document issued\n" in ended.messages
    assert show(landing.root, "documents")[0] == first
    assert (landing.root / "documents" / "2026-01" / "INV-2026-000001.pdf").read_bytes() == paper


def test_a_draft_computes_everything_and_issues_nothing(landing: Landing) -> None:
    ended = bill(landing.root, "2026-02", "2026-02-28", "--draft")
    assert (ended.status, ended.messages.splitlines()[-1]) == (0, "0 documents issued (a draft issues none)")
    assert show(landing.root, "documents") == []
    assert list((landing.root / "documents").rglob("*.pdf")) == []
    drafts = show(landing.root, "drafts")
    assert [(row["billing_date"], row["total"], row["issued_on"]) for row in drafts] == [
        ("2026-01-10", "99.00", None),
        ("2026-02-10", "102.00", None),
    ]
    bill_by_steps(landing.root, "2026-02", "2026-02-28")
    assert [row[2] for row in issued(landing.root)] == ["99.00", "102.00"]
    assert show(landing.root, "drafts") == []


@dataclass(frozen=True)
class Days:
    """A home after runs as of the days, and the rows of its tables then.

    Attributes
    ----------
    ninth, tenth
        As of the days of February.
    march
        As of 2026-03-31.
    """

    ninth: Path
    tenth: Path
    march: Path


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Days:
    """acme uses what was known. late: a delivery of 11 February. asks: a request before and one on the 10th."""
    folder = tmp_path_factory.mktemp("days")
    landing = Landing(folder / "home")
    for name in ("acme", "late", "asks"):
        landing.customer(name)
        landing.use(name, "2026-01-20", emails=16_000)
    landing.use("late", "2026-02-09", emails=2_000, delivered="2026-02-11")
    landing.request("asks", "upgrade", "2026-02-09T23:59:59Z", "self_service", package="gold")
    landing.request("asks", "upgrade", "2026-02-10T00:00:00Z", "self_service", package="platinum")
    homes = []
    for month, as_of in (("2026-02", "2026-02-09"), ("2026-02", "2026-02-10"), ("2026-03", "2026-03-31")):
        bill_by_steps(landing.root, month, as_of)
        homes.append(shutil.copytree(landing.root, folder / as_of))
    return Days(*homes)


def test_billing_dates_after_the_as_of_day_stay_drafts(days: Days) -> None:
    of_acme = ("--account", "acme")
    assert [row["billing_date"] for row in show(days.ninth, "documents", *of_acme)] == ["2026-01-10"]
    assert [row["billing_date"] for row in show(days.ninth, "drafts", *of_acme)] == ["2026-02-10"]
    issued_now = show(days.tenth, "documents", *of_acme)
    assert [row["billing_date"] for row in issued_now] == ["2026-01-10", "2026-02-10"]
    assert issued_now[1]["issued_on"] == "2026-02-10"


def test_what_is_delivered_after_the_as_of_day_does_not_exist_yet(days: Days) -> None:
    assert one(show(days.tenth, "usage", "--account", "late", metric="emails"))["quantity"] == "16000"
    assert [row["delivery_day"] for row in show(days.tenth, "ingest")] == ["2026-01-20"]


def test_late_usage_is_billed_on_the_next_document_and_the_issued_one_stays(days: Days) -> None:
    before, after = (show(home, "documents", "--account", "late") for home in (days.tenth, days.march))
    assert after[:2] == before
    # 18,000 emails are 3 started blocks over 15,000; 16,000 were 1
    fee, late = show(days.march, "lines", number=after[2]["number"])
    assert (fee["kind"], fee["amount"]) == ("package_fee", "99.00")
    assert (late["kind"], late["metric"], late["amount"]) == ("prior_cycle", "emails", str(2 * Decimal("3.00")))
    assert (late["cycle_start"], late["cycle_end"]) == ("2026-01-10", "2026-02-10")


def test_a_request_made_after_the_as_of_day_does_not_exist_yet(days: Days) -> None:
    of_asks = ("--account", "asks")
    assert [row["opening_package"] for row in show(days.tenth, "packages", *of_asks)] == ["starter", "gold"]
    assert [row["opening_package"] for row in show(days.march, "packages", *of_asks)] == ["starter", "gold", "platinum"]


def test_issuing_never_looks_back_behind_what_was_issued(landing: Landing) -> None:
    bill_once(landing.root, "2026-02", "2026-02-28")
    before = content_of(landing.root)
    ended = bill(landing.root, "2026-02", "2026-02-27")
    assert (ended.status, ended.output) == (2, "")
    assert ended.messages.startswith("refused: ")
    assert "2026-02-27" in ended.messages
    assert "2026-02-28" in ended.messages
    assert content_of(landing.root) == before


def test_a_draft_may_look_back_and_issued_documents_stay_in_sight(landing: Landing) -> None:
    bill_once(landing.root, "2026-02", "2026-02-28")
    before = show(landing.root, "documents")
    assert bill(landing.root, "2026-02", "2026-01-15", "--draft").status == 0
    assert show(landing.root, "documents") == before
    # back at the present, everything is as it was
    bill_by_steps(landing.root, "2026-02", "2026-02-28")
    assert show(landing.root, "documents") == before
    assert show(landing.root, "drafts") == []


LAST_DAYS = sized(usual=range(5, 7), long=range(5, 9))
"""Of December, on each of which a customer buys and a run issues."""


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Sequence[tuple[str, str, str]]:
    """What is issued by a run on each of some days, and by one in January to which it leaves a December date."""
    landing = Landing(tmp_path_factory.mktemp("numbered"))
    for day in (*LAST_DAYS, 20):
        landing.customer(f"customer-{day:02}", on=f"2026-12-{day:02}")
    for day in LAST_DAYS:
        bill_by_steps(landing.root, "2026-12", f"2026-12-{day:02}")
    bill_by_steps(landing.root, "2027-01", "2027-01-31")
    return issued(landing.root)


def test_numbers_begin_anew_with_the_year_of_issue(numbered: Sequence[tuple[str, str, str]]) -> None:
    of_january = [row for row in numbered if row[0].startswith("INV-2027-")]
    # the first of these is of December but issued in January
    days = ["2026-12-20", *(f"2027-01-{day:02}" for day in (*LAST_DAYS, 20))]
    assert of_january == [(f"INV-2027-{number:06}", day, "99.00") for number, day in enumerate(days, 1)]


def test_numbers_have_no_gap_however_many_runs_issue_them(numbered: Sequence[tuple[str, str, str]]) -> None:
    of_december = [row for row in numbered if row not in numbered[len(LAST_DAYS) :]]
    assert of_december == [
        (f"INV-2026-{number:06}", f"2026-12-{day:02}", "99.00") for number, day in enumerate(LAST_DAYS, 1)
    ]


@pytest.fixture(scope="module")
def april(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """Three months of accounts of which one is taxed, one cannot be billed, and one used something at any time."""
    landing = Landing(tmp_path_factory.mktemp("april") / "home")
    landing.account("taxed", country="DE")
    landing.request("taxed", "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter")
    landing.use("taxed", "2026-01-20", emails=16_000)
    (landing.folder / "tax_rates.csv").write_text(
        "country,region,rate,name,effective_from\nDE,,0.0825,Sales tax,2024-01-01\n"
    )
    landing.customer("globex", "bronze")
    landing.use("globex", emails=7)
    landing.customer("acme")
    for day, emails, data in (("2026-01-09", 100, GB), ("2026-01-20", 16_000, 0), ("2026-02-09", 10, 0)):
        landing.use("acme", day, emails=emails, bytes=data)
    landing.use("acme", "2026-02-10", emails=1)
    return landing.root, bill(landing.root, "2026-01", "2026-03-31", "--through", "2026-03")


def test_through_bills_several_months_in_one_run(april: tuple[Path, Ended]) -> None:
    home, ended = april
    assert [line.partition(":")[0] for line in ended.messages.splitlines() if ": 2 issued" in line] == [
        *("2026-01", "2026-02", "2026-03")
    ]
    of_acme = show(home, "documents", "--account", "acme")
    assert [row["billing_date"] for row in of_acme] == ["2026-01-10", "2026-02-10", "2026-03-10"]


def test_tax_of_the_customers_country_is_added_once_per_document(april: tuple[Path, Ended]) -> None:
    home, _ = april
    # 8.25 % of 99.00 + 3.00 are 8.415
    document = one(show(home, "documents", account_id="taxed", billing_date="2026-02-10"))
    assert (document["net"], document["tax"], document["total"]) == ("102.00", "8.42", "110.42")
    tax = one(show(home, "taxes", number=document["number"]))
    assert (tax["name"], tax["rate"], tax["taxable"], tax["amount"]) == ("Sales tax", "0.0825", "102.00", "8.42")


@pytest.mark.usefixtures("profiles_once")
def test_damaged_tables_are_named_repaired_and_made_again_to_the_byte(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    # moved in: there is usage on the first document
    landing.customer("acme", on="2025-12-10", billed_through="2026-01-10")
    landing.use("acme", "2026-01-05", emails=16_000)
    bill(landing.root, "2026-01", "2026-01-31")
    assert one(show(landing.root, "documents"))["total"] == "102.00"
    before, lake = content_of(landing.root), landing.root / "lake"
    damaged = [
        *(min(lake.glob("usage/billing_month=2026-01/usage.*")), lake / "balances" / "balances.parquet"),
        *(min(lake.glob("fingerprints/billing_month=2026-01/usage.*")), *lake.glob("events/*/*.parquet")),
    ]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-20])
    for ended, begins in (
        (overage("show", "usage", "--home", landing.root), "found a damaged table: "),
        (bill(landing.root, "2026-01", "2026-01-31"), "interrupted: found a damaged table: "),
    ):
        assert ended.status == 1 and ended.output == ""
        assert any(line.startswith(begins) for line in ended.messages.splitlines())
        assert f"overage repair --home {landing.root}" in ended.messages
    ended = overage("repair", "--home", landing.root)
    assert ended.status == 0
    assert [line.partition(": taken away")[0] for line in ended.output.splitlines()] == sorted(map(str, damaged))
    again = bill(landing.root, "2026-01", "2026-01-31")
    assert again.status == 0 and again.messages.endswith("0 documents issued\n")
    after, records = content_of(landing.root), "lake/fingerprints/"
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} <= {
        name for name in after if name.startswith(records)
    }


def test_an_account_that_cannot_be_billed_is_parked_and_everyone_else_is_billed(april: tuple[Path, Ended]) -> None:
    home, ended = april
    assert ended.status == 1
    (problem,) = [line for line in ended.messages.splitlines() if line.startswith("not done: ")]
    assert "account globex is parked" in problem
    assert "bronze" in problem
    assert {row["account_id"] for row in show(home, "documents")} == {"acme", "taxed"}
    assert {(row["account_id"], row["reason"]) for row in show(home, "parked")} == {("globex", "unknown_package")}
    unbilled = show(home, "unbilled", "--account", "globex")
    assert [(row["reason"], row["quantity"]) for row in unbilled] == [("parked", "7")]


def test_what_is_counted_is_used_in_a_cycle_or_listed_as_unbilled(april: tuple[Path, Ended]) -> None:
    home, of_acme = april[0], ("--account", "acme")
    counted = total_of(show(home, "events", *of_acme, metric="emails"), "value")
    used = total_of(show(home, "usage", *of_acme, metric="emails"), "quantity")
    unbilled = total_of(show(home, "unbilled", *of_acme, metric="emails"), "quantity")
    assert (counted, used, unbilled) == (Decimal(16_111), Decimal(16_011), Decimal(100))


def test_the_home_is_where_the_environment_says(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(landing.root.parent)
    bill_once(landing.root, "2026-02", "2026-02-28")
    (landing.root.parent / "data").symlink_to(landing.root)
    assert overage("bill", "2026-02", "--as-of", "2026-02-28").messages == NOTHING_MOVED


CARD = "4111111111111111"


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> tuple[Landing, Ended]:
    """A month billed in which one row is set aside: a request that names a whole card number."""
    landing = Landing(tmp_path_factory.mktemp("card") / "home")
    landing.customer("acme")
    landing.use("acme", "2026-01-20", emails=16_000)
    landing.request("acme", "change_card", "2026-01-20T10:00:00Z", "self_service", brand="visa", last4=CARD)
    return landing, bill(landing.root, "2026-01", "2026-01-31", profiles=LONG)


def test_of_one_it_is_told_in_the_singular(card: tuple[Landing, Ended], tmp_path: Path) -> None:
    home, messages = card[0].root, card[1].messages
    assert f"1 row is set aside, with its reason: overage show rejects --home {home}" in messages
    assert "\n1 document issued\n" in messages
    assert overage("show", "rejects", "--home", home).messages.endswith("1 row\n")
    if not LONG:
        return
    home = card[0].copied(tmp_path / "home").root
    (pdf,) = (home / "documents").rglob("*.pdf")
    pdf.unlink()
    ended = overage("verify", "--home", home)
    assert ended.messages.endswith(": 1 document read again, 1 disagreement\n")


def test_a_card_number_in_a_request_is_in_no_file_and_no_message(card: tuple[Landing, Ended]) -> None:
    landing, ended = card
    assert CARD not in ended.messages
    assert [row["reason"] for row in show(landing.root, "rejects")] == ["impossible_value"]
    kept = [path for path in landing.root.rglob("*") if path.is_file() and landing.folder not in path.parents]
    assert len(kept) > 10
    assert [path for path in kept if CARD.encode() in path.read_bytes()] == []


def test_the_first_of_the_month_can_be_everyones_billing_date(tmp_path: Path) -> None:
    calendar = starter_catalogue().replace("billing_anchor: signup_day", "billing_anchor: first_of_month")
    landing = Landing(tmp_path, calendar)
    landing.customer("acme", on="2026-01-10")
    bill_by_steps(landing.root, "2026-02", "2026-02-28")
    # 22 of January's 31 days
    short = (Decimal("99.00") * 22 / 31).quantize(Decimal("0.01"))
    assert [row[1:] for row in issued(landing.root)] == [("2026-01-10", str(short)), ("2026-02-01", "99.00")]


def test_a_month_before_anyone_subscribed_has_nothing_to_issue(landing: Landing) -> None:
    ended = bill(landing.root, "2025-12", "2025-12-31")
    assert ended.status == 0
    assert ended.messages.splitlines()[-1] == "0 documents issued"
    assert show(landing.root, "documents") == []


def test_paper_stands_beside_every_document(landing: Landing) -> None:
    bill_once(landing.root, "2026-02", "2026-02-28")
    files = sorted(
        path.relative_to(landing.root / "documents").as_posix() for path in (landing.root / "documents").rglob("*.pdf")
    )
    assert files == ["2026-01/INV-2026-000001.pdf", "2026-02/INV-2026-000002.pdf"]
    assert all(re.fullmatch(r"[0-9a-f]{64}", row["content_hash"]) for row in show(landing.root, "documents"))


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Where issuing waits three days and a hold costs 5.00: homes as of 12 and 13 January, and of 28 February."""
    folder = tmp_path_factory.mktemp("patient")
    catalogue = starter_catalogue().replace("issue_after_days: 0", "issue_after_days: 3")
    landing = Landing(folder / "home", catalogue.replace('hold_fee: "0.00"', 'hold_fee: "5.00"'))
    landing.customer("acme")
    # on hold in the trial, and resumed as a new subscription before the second billing date
    landing.customer("held", trial_days=30)
    landing.request("held", "hold", "2026-01-15T10:00:00Z")
    landing.request("held", "resume", "2026-02-20T10:00:00Z")
    landing.account("nobody")
    for name in ("early", "gone", "paused"):
        landing.customer(name)
    landing.customer("trying", trial_days=14)
    landing.request("gone", "cancel", "2026-01-20T10:00:00Z", "email")
    landing.request("paused", "hold", "2026-01-20T10:00:00Z")
    used = {"nobody": 15, "early": 9, "trying": 12, "gone": 21, "paused": 21}
    for emails, (name, on) in enumerate(used.items(), 1):
        landing.use(name, f"2026-01-{on:02}", emails=emails)
    waiting = []
    for day in ("2026-01-12", "2026-01-13"):
        bill_by_steps(landing.root, "2026-01", day)
        waiting.append(shutil.copytree(landing.root, folder / day))
    bill_by_steps(landing.root, "2026-02", "2026-02-28")
    return waiting, landing.root


def test_issuing_waits_as_many_days_as_the_policy_says(patient: tuple[list[Path], Path]) -> None:
    (twelfth, thirteenth), _ = patient
    assert issued(twelfth) == []
    assert issued(thirteenth)[0] == ("INV-2026-000001", "2026-01-10", "99.00")
    assert show(thirteenth, "documents")[0]["account_id"] == "acme"


def test_usage_that_bills_nothing_is_listed_with_its_reason(patient: tuple[list[Path], Path]) -> None:
    assert {(row["account_id"], row["reason"], row["quantity"]) for row in show(patient[1], "unbilled")} == {
        ("nobody", "no_subscription", "1"),
        ("early", "before_start", "2"),
        ("trying", "trial", "3"),
        ("gone", "access_ended", "4"),
        ("paused", "held", "5"),
    }


def test_a_hold_fee_names_the_package_though_no_cycle_ever_began(patient: tuple[list[Path], Path]) -> None:
    _, home = patient
    numbers = [row["number"] for row in show(home, "documents", "--account", "held")]
    found = [(row["kind"], row["package"], row["amount"]) for row in show(home, "lines") if row["number"] in numbers]
    assert found == [("hold_fee", "starter", "5.00"), ("package_fee", "starter", "99.00")]
