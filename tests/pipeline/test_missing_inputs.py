"""What is missing is no answer: nothing that was issued is undone because a row or a request is not there (rule 28)."""

import json
import shutil
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from billing.month.business import Business
from billing.month.steps import ingest_usage
from billing.reports.check import problems_of
from billing.reports.preview import preview_month
from billing.reports.preview_causes import record_given
from billing.reports.profiles import account_profiles
from billing.reports.show import read_table
from billing.reports.verify import disagreements
from pipeline.run_state import parked
from tests.by_steps import bill_by_steps, rows
from tests.long_runs import long_only
from tests.pipeline.outside import Landing, bill
from tests.sizes import LONG

NAMES = [f"acme-{number:02}" for number in range(28)]


def without(path: Path, *starts: str) -> str:
    """Take lines away that begin with, or are JSON of, one of these; returns the whole text as it was."""
    text = path.read_text()
    kept = [
        line
        for line in text.splitlines(keepends=True)
        if not line.startswith(starts) and not any(f'"{start.rstrip(",")}"' in line for start in starts)
    ]
    path.write_text("".join(kept))
    return text


def totals(business: Business, month: str) -> list[tuple[str, ...]]:
    return sorted(rows(business, "documents", "account_id", "billing_date", "total", billing_month=month))


def account_totals(business: Business) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for account, total in rows(business, "documents", "account_id", "total"):
        found.setdefault(account, []).append(total)
    return found


@dataclass(frozen=True)
class Stage:
    """Copies of a home after a run, each with what was in its landing folder then."""

    root: Path
    as_of: str

    def business(self, as_of: str | None = None) -> Business:
        return Business.load(self.root, date.fromisoformat(as_of or self.as_of), issues=False)


@dataclass(frozen=True)
class Story:
    """A home whose accounts lack something for a while.

    Attributes
    ----------
    first
        The accounts are billed; the row of one that was never billed is set aside.
    lacking
        A month later: rows and requests are missing.
    restored
        Everything is back, and nothing was billed yet.
    back
        The month is billed again.
    settled
        The next month is billed.
    """

    first: Stage
    lacking: Stage
    restored: Stage
    back: Stage
    settled: Stage


REQUESTS_GONE = ("shrank", "undone")
ROWS_GONE = ("gone", "waits", "late")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Every account misses something else in March."""
    folder = tmp_path_factory.mktemp("story")
    landing = Landing(folder / "home")
    home, accounts, requests = landing.root, landing.folder / "accounts.csv", landing.folder / "requests.jsonl"

    def stage(name: str, as_of: str) -> Stage:
        return Stage(shutil.copytree(home, folder / name), as_of)

    landing.customer("fine", on="2026-01-15")
    for name in ("typo", "cancelled", *ROWS_GONE, *REQUESTS_GONE):
        landing.customer(name)
    for name in ("gone", "typo", "fine"):
        landing.use(name, "2026-01-20", emails=15_001)
    landing.customer("new")
    landing.account("asks-nothing")
    whole = accounts.read_text()
    before, new = whole.split("new,")
    accounts.write_text(f"{before}new,{new.replace(',US,,,', ',US,,flase,')}")
    record_given(bill_by_steps(home, "2026-02", "2026-02-20"))
    first = stage("first", "2026-02-20")

    lines = [f"{line[:-2]},flase," if line.startswith("typo,") else line for line in whole.splitlines()]
    accounts.write_text("\n".join(line for line in lines if line.partition(",")[0] not in ROWS_GONE) + "\n")
    all_requests = without(requests, *REQUESTS_GONE)
    landing.request("cancelled", "cancel", "2026-01-25T09:00:00Z", "email")
    # a change in between affects the waiting date only, and is no cause of its later bill
    landing.use("waits", "2026-02-20", emails=15_001, delivered="2026-03-02")
    landing.use("waits", "2026-02-21", emails=1_000, delivered="2026-03-20")
    # February is closed: recompute it without the customer, and again when the row is back
    landing.use("late", "2026-02-05", emails=20_000, delivered="2026-03-16")
    record_given(bill_by_steps(home, "2026-03", "2026-03-25"))
    lacking = stage("lacking", "2026-03-25")

    accounts.write_text(whole)
    requests.write_text(all_requests)
    restored = stage("restored", "2026-03-31")
    record_given(bill_by_steps(home, "2026-03", "2026-03-31"))
    back = stage("back", "2026-03-31")

    (subscribed,) = [json.loads(line)["request_id"] for line in all_requests.splitlines() if '"undone"' in line]
    landing.request("undone", "withdraw", "2026-04-02T09:00:00Z", withdraws=subscribed)
    record_given(bill_by_steps(home, "2026-04", "2026-04-30"))
    return Story(first, lacking, restored, back, Stage(home, "2026-04-30"))


def test_a_customer_without_a_row_is_parked_and_settled_when_the_row_is_back(story: Story) -> None:
    business = story.lacking.business()
    assert {row[0] for row in totals(business, "2026-03")} == {"fine", "new", "cancelled"}
    parked = dict(rows(business, "parked", "account_id", "reason", billing_month="2026-03"))
    assert {name for name, reason in parked.items() if reason == "account_missing"} == set(ROWS_GONE)
    assert {name for name, reason in parked.items() if reason == "account_set_aside"} == {"typo"}
    assert set(rows(business, "documents", "account_id", kind="credit_note")) == {("cancelled",)}
    # without a row it is no unknown account
    assert set(read_table(business, name="parked", account="gone")["reason"]) == {"account_missing"}
    assert [business.knows(name) for name in ("typo", "nobody")] == [True, False]

    business = story.settled.business()
    assert rows(business, "parked", "account_id", billing_month="2026-04") == []
    for name in ("gone", "typo"):
        # the date that went by is settled as an earlier cycle on the next document
        assert account_totals(business)[name] == ["99.00", "102.00", "198.00"]
        (number,) = rows(business, "documents", "number", billing_month="2026-04", account_id=name)
        assert rows(business, "lines", "kind", "amount", number=number[0]) == [
            ("package_fee", "99.00"),
            ("prior_cycle", "99.00"),
        ]
    assert account_totals(business)["fine"] == ["99.00", "102.00", "99.00", "99.00"]


def previewed(business: Business, month: str, account: str) -> list[tuple[Any, ...]]:
    """what, item, old, new, causes of the account's changes that are of money or of being parked."""
    found = preview_month(business, month).changes.filter(
        (pl.col("account_id") == account) & pl.col("what").is_in(["document", "line", "draft", "cycle", "parked"])
    )
    return list(found.select("what", "item", "old", "new", "causes").iter_rows())


@pytest.mark.parametrize("billed_again", [False, True])
def test_a_preview_and_the_profile_show_what_waited_while_an_account_was_parked(
    story: Story, billed_again: bool
) -> None:
    fee, emails = "Package fee, cycle 2026-03-10 to 2026-04-10", "Emails, cycle 2026-02-10 to 2026-03-10"
    waited = ["billing date 2026-03-10 went by while the account was parked"]
    due = [("cycle", emails, "0.00", "6.00", waited), ("cycle", fee, "0.00", "99.00", waited)]
    business = (story.back if billed_again else story.restored).business()
    if not billed_again:
        back = [("parked", f"2026-0{month}", "account_missing", None, ["account waits is new"]) for month in (2, 3)]
        assert previewed(business, "2026-03", "waits") == [*due, *back]
        return
    assert not LONG or previewed(business, "2026-03", "waits") == due
    profiles = account_profiles(business, date(2026, 3, 31)).filter(pl.col("account_id") == "waits")
    assert profiles["upcoming_amount"].to_list() == [Decimal("204.00")]
    found = previewed(story.back.business("2026-04-30"), "2026-04", "waits")
    assert [row[2:] for row in found if row[0] == "document"] == [(None, "204.00", waited)]
    assert [row[4] for row in found if row[0] == "line"] == [["billing date 2026-04-10 has come"], waited, waited]


@long_only("another preview names late usage")
def test_once_it_is_billed_late_usage_of_a_date_that_waited_is_late_usage_as_any_other(
    story: Story, tmp_path: Path
) -> None:
    landing = Landing(tmp_path / "home")
    shutil.copytree(story.settled.root, landing.root, dirs_exist_ok=True)
    landing.written = 1_000
    landing.use("waits", "2026-02-22", emails=1_000, delivered="2026-05-01")
    business = Business.load(landing.root, date(2026, 5, 2))
    ingest_usage(business)
    late, emails = ["delivery 2026-05-01/usage.jsonl is new"], "Emails, cycle 2026-02-10 to 2026-03-10"
    assert previewed(business, "2026-04", "waits") == [("cycle", emails, "6.00", "9.00", late)]
    profiles = account_profiles(business, date(2026, 5, 2)).filter(pl.col("account_id") == "waits")
    assert profiles["upcoming_amount"].to_list() == [Decimal("99.00")]


def test_a_customer_that_was_never_billed_and_whose_row_is_set_aside_is_parked_until_it_is_mended(
    story: Story,
) -> None:
    business = story.first.business()
    ((account, detail),) = rows(business, "parked", "account_id", "detail", billing_month="2026-02")
    assert account == "new" and detail.startswith("accounts.csv row 9 is set aside (")
    # a row of nobody who bought anything is merely set aside (the exit status is 0)
    assert parked(business, ["2026-01", "2026-02"]) == [f"account new is parked: {detail}"]
    business = story.lacking.business()
    # nothing of it had gone by: each date has its invoice
    assert account_totals(business)["new"] == ["99.00"] * 3
    assert rows(business, "parked", "account_id", account_id="new") == []


@pytest.fixture(scope="module")
def billed(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    """28 customers, billed on the day on which they bought."""
    landing = Landing(tmp_path_factory.mktemp("billed") / "home")
    for name in NAMES:
        landing.customer(name)
    bill_by_steps(landing.root, "2026-01", "2026-01-10")
    return landing


@pytest.mark.parametrize("left", [0, 18])
def test_an_accounts_file_that_lacks_too_many_is_refused(billed: Landing, tmp_path: Path, left: int) -> None:
    landing = billed.copied(tmp_path / "home")
    without(landing.folder / "accounts.csv", *(f"{name}," for name in NAMES[left:]))
    ended = bill(landing.root, "2026-02", "2026-02-10")
    assert ended.status == 2
    assert "--accept-missing-accounts" in ended.messages
    assert Business.load(landing.root, date(2026, 2, 10)).register.count() == 28


def test_nine_rows_that_are_missing_are_no_wrong_file(billed: Landing, tmp_path: Path) -> None:
    landing = billed.copied(tmp_path / "home")
    without(landing.folder / "accounts.csv", *(f"{name}," for name in NAMES[19:]))
    business = Business.load(landing.root, date(2026, 2, 10))
    business.refuse_lacking_accounts()
    assert business.parked["account_id"].to_list() == NAMES[19:]


def test_with_its_word_the_others_are_billed_and_nothing_is_undone(billed: Landing, tmp_path: Path) -> None:
    landing = billed.copied(tmp_path / "home")
    whole = without(landing.folder / "accounts.csv", *(f"{name}," for name in NAMES))
    ended = bill(landing.root, "2026-02", "2026-02-10", "--accept-missing-accounts")
    assert (ended.status, "0 documents issued" in ended.messages) == (1, True)
    assert "account acme-00 is parked" in ended.messages
    if not LONG:
        # other accounts are settled when their rows are back
        return
    (landing.folder / "accounts.csv").write_text(whole)
    business = bill_by_steps(landing.root, "2026-03", "2026-03-10")
    assert account_totals(business) == {name: ["99.00", "198.00"] for name in NAMES}


def test_a_requests_file_that_shrank_parks_the_account_and_a_withdrawal_undoes_it(story: Story) -> None:
    business = story.lacking.business()
    parked = dict(rows(business, "parked", "account_id", "reason", billing_month="2026-03"))
    assert {name for name, reason in parked.items() if reason == "request_missing"} == set(REQUESTS_GONE)
    business = story.settled.business()
    assert account_totals(business)["shrank"] == ["99.00", "99.00", "198.00"]
    assert sum(Decimal(total) for total in account_totals(business)["undone"]) == 0
    assert len(account_totals(business)["undone"]) > 2
    decided = rows(business, "decisions", "outcome", "reason", account_id="undone")
    assert sorted(decided) == [("approved", "taken_back"), ("superseded", "withdrawn")]


def test_a_cancellation_that_is_taken_back_blocks_nobody(story: Story) -> None:
    assert account_totals(story.lacking.business())["cancelled"] == ["-99.00", "99.00", "99.00"]
    business = story.settled.business()
    assert rows(business, "parked", "account_id", billing_month="2026-04") == []
    # the fee of February is due again, that of March was never billed
    assert account_totals(business)["cancelled"] == ["-99.00", "99.00", "99.00", "297.00"]
    assert len(account_totals(business)["fine"]) == 4


def test_check_says_what_a_run_would_park_or_refuse(billed: Landing, tmp_path: Path) -> None:
    landing = billed.copied(tmp_path / "home")
    whole = without(landing.folder / "accounts.csv", f"{NAMES[0]},")
    (problem,) = [words for words in problems_of(landing.root) if "cannot be billed" in words]
    assert problem.startswith("account acme-00 cannot be billed: documents were issued to it and it has no row")
    (landing.folder / "accounts.csv").write_text(whole)
    without(landing.folder / "accounts.csv", *(f"{name}," for name in NAMES))
    assert any("--accept-missing-accounts" in words for words in problems_of(landing.root))


def test_late_usage_of_a_customer_without_a_row_is_billed_when_the_row_is_back(story: Story) -> None:
    business = story.settled.business()
    # the next fee, that of the date that went by, and 5 blocks of emails
    assert account_totals(business)["late"] == ["99.00", "99.00", "213.00"]
    assert [words for words in disagreements(business) if "the PDF of" not in words] == []


def test_verify_finds_nothing_while_an_account_is_parked_or_a_payment_came_later(story: Story) -> None:
    business = story.lacking.business("2026-03-31")
    assert {"gone", "late"} <= set(business.parked["account_id"])
    assert [words for words in disagreements(business) if "the PDF of" not in words] == []
    # late usage computes the closed months again: what is due of the parked account stays as it is
    assert len(rows(business, "dues", "account_id", account_id="late")) > 0
