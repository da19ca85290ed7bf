"""`overage bill`: what is issued when, what a second run does, and what the movable clock hides."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from billing.starter import starter_catalogue
from billing.store.home import Home
from pipeline.run_state import marked
from tests.by_steps import bill_by_steps
from tests.pipeline.outside import GB, Ended, Landing, bill, bill_once, content_of, event, one, overage, show, total_of
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
        ended = bill(landing.root, "2026-01", "2026-01-31", "--through", through)
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
    bill_once(landing.root, "2026-01", "2026-01-31")
    (first,) = show(landing.root, "documents")
    paper = (landing.root / "documents" / "2026-01" / "INV-2026-000001.pdf").read_bytes()
    ended = bill(landing.root, "2026-02", "2026-02-28")
    assert "2026-01: nothing moved\n2026-02: 1 issued\n1 document issued\n" in ended.messages
    assert show(landing.root, "documents")[0] == first
    assert (landing.root / "documents" / "2026-01" / "INV-2026-000001.pdf").read_bytes() == paper


def test_through_bills_several_months_in_one_run(landing: Landing) -> None:
    ended = bill(landing.root, "2026-01", "2026-02-28", "--through", "2026-02")
    assert ended.status == 0
    assert [row[1] for row in issued(landing.root)] == ["2026-01-10", "2026-02-10"]


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


def test_issuing_waits_as_many_days_as_the_policy_says(tmp_path: Path) -> None:
    patient = starter_catalogue().replace("issue_after_days: 0", "issue_after_days: 3")
    landing = Landing(tmp_path, patient)
    landing.customer("acme")
    bill_by_steps(landing.root, "2026-01", "2026-01-12")
    assert issued(landing.root) == []
    bill_by_steps(landing.root, "2026-01", "2026-01-13")
    assert issued(landing.root) == [("INV-2026-000001", "2026-01-10", "99.00")]


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
    bill_once(landing.root, "2026-02", "2026-02-20")
    before = content_of(landing.root)
    ended = bill(landing.root, "2026-02", "2026-02-19")
    assert (ended.status, ended.output) == (2, "")
    assert ended.messages.startswith("refused: ")
    assert "2026-02-19" in ended.messages
    assert "2026-02-20" in ended.messages
    assert content_of(landing.root) == before


def test_a_draft_may_look_back_and_issued_documents_stay_in_sight(landing: Landing) -> None:
    bill_once(landing.root, "2026-02", "2026-02-20")
    before = show(landing.root, "documents")
    assert bill(landing.root, "2026-02", "2026-01-15", "--draft").status == 0
    assert show(landing.root, "documents") == before
    # back at the present, everything is as it was
    bill_by_steps(landing.root, "2026-02", "2026-02-20")
    assert show(landing.root, "documents") == before
    assert show(landing.root, "drafts") == []


def test_numbers_begin_anew_with_the_year_of_issue(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("acme", on="2026-12-10")
    landing.customer("globex", on="2026-12-20")
    bill_by_steps(landing.root, "2026-12", "2026-12-15")
    # the second document is of December but issued in January
    bill_by_steps(landing.root, "2027-01", "2027-01-31")
    assert issued(landing.root) == [
        ("INV-2026-000001", "2026-12-10", "99.00"),
        ("INV-2027-000001", "2026-12-20", "99.00"),
        ("INV-2027-000002", "2027-01-10", "99.00"),
        ("INV-2027-000003", "2027-01-20", "99.00"),
    ]


def test_numbers_have_no_gap_however_many_runs_issue_them(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    days = sized(usual=range(5, 7), long=range(5, 9))
    for day in days:
        landing.customer(f"customer-{day}", on=f"2026-01-{day:02d}")
    for day in days:
        bill_by_steps(landing.root, "2026-01", f"2026-01-{day:02d}")
    assert [row[0] for row in issued(landing.root)] == [f"INV-2026-{n:06d}" for n in range(1, len(days) + 1)]


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
    return landing.root, bill(landing.root, "2026-03", "2026-03-31")


def test_tax_of_the_customers_country_is_added_once_per_document(april: tuple[Path, Ended]) -> None:
    home, _ = april
    # 8.25 % of 99.00 + 3.00 are 8.415
    document = one(show(home, "documents", account_id="taxed", billing_date="2026-02-10"))
    assert (document["net"], document["tax"], document["total"]) == ("102.00", "8.42", "110.42")
    tax = one(show(home, "taxes", number=document["number"]))
    assert (tax["name"], tax["rate"], tax["taxable"], tax["amount"]) == ("Sales tax", "0.0825", "102.00", "8.42")


def test_every_delivered_row_is_counted_a_duplicate_or_set_aside(landing: Landing) -> None:
    twice = event("twice", "acme", "email.sent", {"count": 5}, "2026-01-21T10:00:00Z")
    landing.deliver(
        [
            twice,
            twice,
            "",
            "no JSON at all",
            event("unknown", "nobody", "email.sent", {"count": 5}, "2026-01-21T10:00:00Z"),
            event("negative", "acme", "email.sent", {"count": -5}, "2026-01-21T10:00:00Z"),
            event("twice", "acme", "email.sent", {"count": 6}, "2026-01-21T10:00:00Z"),
        ],
        "2026-01-21",
    )
    ended = bill(landing.root, "2026-02", "2026-02-10")
    assert ended.status == 0, "rows that are merely set aside are no failure"
    delivered = show(landing.root, "ingest")
    assert [(row["rows"], row["counted"], row["duplicates"], row["rejected"]) for row in delivered] == [
        (1, 1, 0, 0),
        (6, 1, 1, 4),
    ]
    assert [(row["row"], row["reason"]) for row in show(landing.root, "rejects")] == [
        (4, "unparseable"),
        (5, "unknown_account"),
        (6, "impossible_value"),
        (7, "conflicting"),
    ], "a row is found by its line; a blank line is no row"
    assert one(show(landing.root, "usage", metric="emails"))["quantity"] == "16005"


def test_of_one_it_is_told_in_the_singular(landing: Landing) -> None:
    landing.deliver(["no JSON at all"], "2026-01-21")
    ended = bill(landing.root, "2026-01", "2026-01-22", profiles=LONG)
    assert f"1 row is set aside, with its reason: overage show rejects --home {landing.root}" in ended.messages
    assert "\n1 document issued\n" in ended.messages
    assert overage("show", "rejects", "--home", landing.root).messages.endswith("1 row\n")
    if not LONG:
        return
    (pdf,) = (landing.root / "documents").rglob("*.pdf")
    pdf.unlink()
    ended = overage("verify", "--home", landing.root)
    assert ended.messages.endswith(": 1 document read again, 1 disagreement\n")


def test_a_run_counts_the_rows_set_aside_as_the_table_lists_them(landing: Landing) -> None:
    landing.deliver(["no JSON at all", "nor this"], "2026-01-21")
    landing.request("acme", "upgrade", "2026-01-20T10:00:00Z")
    (landing.folder / "usage" / "January").mkdir()
    broken = landing.folder / "usage" / "2026-01-22" / "broken.parquet"
    broken.parent.mkdir()
    broken.write_bytes(b"this is no Parquet")
    ended = bill(landing.root, "2026-02", "2026-02-28")
    rejects = show(landing.root, "rejects")
    assert len(rejects) == 5, rejects
    assert f"5 rows are set aside, with their reasons: overage show rejects --home {landing.root}" in ended.messages
    assert one([row for row in rejects if row["file"] == "requests.jsonl"])["detail"] == (
        "package: found nothing, expected the name of a package: the kind is upgrade"
    )


def _of_nobody(id_: str) -> str:
    return event(id_, "nobody", "email.sent", {"count": 1}, "2026-01-20T10:00:00Z")


def test_what_is_set_aside_is_told_by_reason_and_file_and_shown_of_one(landing: Landing) -> None:
    landing.deliver(["no JSON at all", "nor this", _of_nobody("1")], "2026-01-21")
    landing.deliver([_of_nobody(f"x{number}") for number in range(12)], "2026-01-22")
    ended = bill(landing.root, "2026-01", "2026-01-23")
    first, second = "usage/2026-01-21/usage.jsonl", "usage/2026-01-22/usage.jsonl"
    told = [text for text in ended.messages.splitlines() if text.startswith("  ")]
    assert told == [
        f"  unknown_account: 12 rows of {second}",
        f"  unparseable: 2 rows of {first}",
        f"  unknown_account: 1 row of {first}",
    ]
    assert len(show(landing.root, "rejects", "--reason", "unknown_account")) == 13
    assert len(show(landing.root, "rejects", "--file", first)) == 3
    assert show(landing.root, "rejects", "--file", second, "--reason", "unparseable") == []
    assert len(show(landing.root, "ingest", "--file", second)) == 1
    limited = overage("show", "rejects", "--limit", "2", "--home", landing.root)
    assert "the first 2 of 15 rows\n" in limited.messages
    for option, value, there_are in (
        ("--reason", "unparsable", "unknown_account (13 rows), unparseable (2 rows)"),
        ("--file", "usage/2026-01-21/usage.json", f"{first}, {second}"),
    ):
        mistyped = overage("show", "rejects", option, value, "--home", landing.root)
        assert (mistyped.status, mistyped.output) == (2, "")
        assert f"unknown {option[2:]}: found {value!r}" in mistyped.messages and mistyped.messages.endswith(
            f"{there_are}\n"
        )
    # a reason that no row has now, and a file without such rows, are no mistakes
    assert show(landing.root, "rejects", "--reason", "too_late") == []
    assert show(landing.root, "rejects", "--file", "accounts.csv") == []
    assert show(landing.root, "rejects", "--file", "usage/2026-01-20/usage.jsonl") == []
    refused = overage("show", "documents", "--reason", "unparseable", "--home", landing.root)
    assert (refused.status, "leave --reason out" in refused.messages) == (2, True)


def test_rejects_that_an_earlier_version_wrote_without_a_column_are_read(landing: Landing) -> None:
    landing.deliver(["no JSON at all"], "2026-01-21")
    landing.request("acme", "upgrade", "2026-01-20T10:00:00Z")
    bill_once(landing.root, "2026-02", "2026-02-28")
    before = show(landing.root, "rejects")
    (path,) = (landing.root / "lake" / "rejects").glob("delivery_day=2026-01-21/*.parquet")
    pl.read_parquet(path, hive_partitioning=False).drop("detail").write_parquet(path)
    assert show(landing.root, "rejects") == [
        row | {"detail": None if row["delivery_day"] else row["detail"]} for row in before
    ]
    assert len(before) == 2


def test_an_unreadable_file_is_named_and_everything_else_is_billed(landing: Landing) -> None:
    broken = landing.folder / "usage" / "2026-01-22" / "broken.parquet"
    broken.parent.mkdir()
    broken.write_bytes(b"this is no Parquet")
    ended = bill(landing.root, "2026-02", "2026-02-28")
    assert ended.status == 1
    (problem,) = [line for line in ended.messages.splitlines() if line.startswith("not done: ")]
    assert "2026-01-22/broken.parquet" in problem
    assert [row[2] for row in issued(landing.root)] == ["99.00", "102.00"]
    assert one(show(landing.root, "rejects"))["reason"] == "unreadable_file"
    # delivered again in a state that can be read, it counts like late usage
    pl.DataFrame(
        {
            "id": ["late"],
            "source": ["/app"],
            "type": ["email.sent"],
            "subject": ["acme"],
            "time": ["2026-01-21T10:00:00Z"],
            "value": [10],
        }
    ).write_parquet(broken)
    again = bill(landing.root, "2026-02", "2026-02-28")
    assert again.status == 0, again.messages
    assert show(landing.root, "rejects") == []
    assert one(show(landing.root, "usage", metric="emails"))["quantity"] == "16010"


def test_what_is_given_and_not_read_is_named_by_every_run_and_everything_else_is_billed(landing: Landing) -> None:
    for name in ("usage/20260121/a.jsonl", "usage/a.jsonl", "payment.csv", "payments/a.txt"):
        (landing.folder / name).parent.mkdir(exist_ok=True)
        (landing.folder / name).write_text("anything\n")
    landing.deliver([event("e", "nobody", "email.sent", {"count": 5}, "2026-01-21T12:00:00Z")], "2026-01-21", "b.jsonl")
    day = landing.folder / "usage" / "day=2026-01-22"
    (landing.folder / "usage" / "2026-01-20").rename(day)
    expected = [
        "payment.csv is not read",
        "payments/a.txt is not read",
        "usage/20260121/: found in place of a delivery day",
        "usage/a.jsonl: found in place of a delivery day",
    ]
    checked = overage("check", "--home", landing.root)
    assert checked.status == 1
    for _ in range(2):
        ended = bill(landing.root, "2026-02", "2026-02-28")
        assert ended.status == 1
        said = [line.removeprefix("not done: ") for line in ended.messages.splitlines() if "not done: " in line]
        assert len(said) == 5 and said[4] == "usage/2026-01-21/b.jsonl: none of its rows counts: unknown_account 1"
        for told, begins in zip(said, expected, strict=False):
            assert told.startswith(begins) and told in checked.output
    assert [row[2] for row in issued(landing.root)] == ["99.00", "102.00"]


@pytest.mark.usefixtures("profiles_once")
def test_damaged_tables_are_named_repaired_and_made_again_to_the_byte(landing: Landing) -> None:
    bill_once(landing.root, "2026-02", "2026-02-28")
    before, lake = content_of(landing.root), landing.root / "lake"
    damaged = [
        *(min(lake.glob("usage/billing_month=2026-02/usage.*")), lake / "balances" / "balances.parquet"),
        *(min(lake.glob("fingerprints/billing_month=2026-02/usage.*")), *lake.glob("events/*/*.parquet")),
    ]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-20])
    for ended, begins in (
        (overage("show", "usage", "--home", landing.root), "found a damaged table: "),
        (bill(landing.root, "2026-02", "2026-02-28"), "interrupted: found a damaged table: "),
    ):
        assert ended.status == 1 and ended.output == ""
        assert any(line.startswith(begins) for line in ended.messages.splitlines())
        assert f"overage repair --home {landing.root}" in ended.messages
    ended = overage("repair", "--home", landing.root)
    assert ended.status == 0
    assert [line.partition(": taken away")[0] for line in ended.output.splitlines()] == sorted(map(str, damaged))
    again = bill(landing.root, "2026-02", "2026-02-28")
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


def test_usage_that_bills_nothing_is_listed_with_its_reason(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.account("nobody")
    landing.use("nobody", "2026-01-15", emails=1)
    landing.customer("early", on="2026-01-10")
    landing.use("early", "2026-01-09", emails=2)
    landing.customer("trying", on="2026-01-10", trial_days=14)
    landing.use("trying", "2026-01-12", emails=3)
    landing.customer("gone", on="2026-01-10")
    landing.request("gone", "cancel", "2026-01-20T10:00:00Z", "email")
    landing.use("gone", "2026-01-21", emails=4)
    landing.customer("paused", on="2026-01-10")
    landing.request("paused", "hold", "2026-01-20T10:00:00Z")
    landing.use("paused", "2026-01-21", emails=5)
    bill_by_steps(landing.root, "2026-01", "2026-01-31")
    assert {(row["account_id"], row["reason"], row["quantity"]) for row in show(landing.root, "unbilled")} == {
        ("nobody", "no_subscription", "1"),
        ("early", "before_start", "2"),
        ("trying", "trial", "3"),
        ("gone", "access_ended", "4"),
        ("paused", "held", "5"),
    }


def test_what_is_counted_is_used_in_a_cycle_or_listed_as_unbilled(april: tuple[Path, Ended]) -> None:
    home, of_acme = april[0], ("--account", "acme")
    counted = total_of(show(home, "events", *of_acme, metric="emails"), "value")
    used = total_of(show(home, "usage", *of_acme, metric="emails"), "quantity")
    unbilled = total_of(show(home, "unbilled", *of_acme, metric="emails"), "quantity")
    assert (counted, used, unbilled) == (Decimal(16_111), Decimal(16_011), Decimal(100))


def test_the_home_is_where_the_environment_says(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(landing.root.parent)
    (landing.root.parent / "data").symlink_to(landing.root)
    assert overage("bill", "2026-01", "--as-of", "2026-01-31").status == 0
    assert issued(landing.root) == [("INV-2026-000001", "2026-01-10", "99.00")]


def test_a_card_number_in_a_request_is_in_no_file_and_no_message(landing: Landing) -> None:
    number = "4111111111111111"
    landing.request("acme", "change_card", "2026-01-20T10:00:00Z", "self_service", brand="visa", last4=number)
    ended = bill(landing.root, "2026-01", "2026-01-31")
    assert number not in ended.messages
    assert [row["reason"] for row in show(landing.root, "rejects")] == ["impossible_value"]
    kept = [path for path in landing.root.rglob("*") if path.is_file() and landing.folder not in path.parents]
    assert [path for path in kept if number.encode() in path.read_bytes()] == []


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


def test_a_hold_fee_names_the_package_though_no_cycle_ever_began(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    catalogue = landing.folder / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace('hold_fee: "0.00"', 'hold_fee: "5.00"'))
    # on hold in the trial, and resumed as a new subscription before the second billing date
    landing.customer("acme", trial_days=30)
    landing.request("acme", "hold", "2026-01-15T10:00:00Z")
    landing.request("acme", "resume", "2026-02-20T10:00:00Z")
    bill_by_steps(landing.root, "2026-02", "2026-02-28")
    assert [(row["kind"], row["package"], row["amount"]) for row in show(landing.root, "lines")] == [
        ("hold_fee", "starter", "5.00"),
        ("package_fee", "starter", "99.00"),
    ]
