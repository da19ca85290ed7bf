"""What is missing is no answer: nothing that was issued is undone because a row or a request is not there (rule 28)."""

import json
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
from tests.pipeline.outside import Landing, bill
from tests.sizes import LONG, sized


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "home")


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


def test_a_customer_without_a_row_is_parked_and_settled_when_the_row_is_back(landing: Landing) -> None:
    for name, on in (("gone", "2026-01-10"), ("typo", "2026-01-10"), ("fine", "2026-01-15")):
        landing.customer(name, on=on)
        landing.use(name, "2026-01-20", emails=15_001)
    bill_by_steps(landing.root, "2026-02", "2026-02-20")
    accounts = landing.folder / "accounts.csv"
    whole = without(accounts, "gone,")
    lines = [f"{line[:-2]},flase," if line.startswith("typo,") else line for line in accounts.read_text().splitlines()]
    accounts.write_text("\n".join(lines) + "\n")

    business = bill_by_steps(landing.root, "2026-03", "2026-03-31")
    assert [row[0] for row in totals(business, "2026-03")] == ["fine"]
    parked = sorted(rows(business, "parked", "account_id", "reason", billing_month="2026-03"))
    assert parked == [("gone", "account_missing"), ("typo", "account_set_aside")]
    assert rows(business, "documents", "number", kind="credit_note") == []
    # without a row it is no unknown account
    assert set(read_table(business, name="parked", account="gone")["reason"]) == {"account_missing"}
    assert [business.knows(name) for name in ("typo", "nobody")] == [True, False]

    accounts.write_text(whole)
    business = bill_by_steps(landing.root, "2026-04", "2026-04-30")
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
    assert bill_by_steps(landing.root, "2026-04", "2026-04-30").register.count() == business.register.count()


def previewed(business: Business, month: str, account: str) -> list[tuple[Any, ...]]:
    """what, item, old, new, causes of the account's changes that are of money or of being parked."""
    found = preview_month(business, month).changes.filter(
        (pl.col("account_id") == account) & pl.col("what").is_in(["document", "line", "draft", "cycle", "parked"])
    )
    return list(found.select("what", "item", "old", "new", "causes").iter_rows())


@pytest.mark.parametrize("billed_again", sized([True], [False, True]))
def test_a_preview_and_the_profile_show_what_waited_while_an_account_was_parked(
    landing: Landing, billed_again: bool
) -> None:
    for name in ("gone", "fine"):
        landing.customer(name)
    record_given(bill_by_steps(landing.root, "2026-02", "2026-02-20"))
    accounts = landing.folder / "accounts.csv"
    whole = without(accounts, "gone,")
    # what moves meanwhile bears on the date that waits, and is not why it is billed later
    landing.use("gone", "2026-02-20", emails=15_001, delivered="2026-03-02")
    landing.use("gone", "2026-02-21", emails=1_000, delivered="2026-03-20")
    record_given(bill_by_steps(landing.root, "2026-03", "2026-03-25"))
    accounts.write_text(whole)
    fee, emails = "Package fee, cycle 2026-03-10 to 2026-04-10", "Emails, cycle 2026-02-10 to 2026-03-10"
    waited = ["billing date 2026-03-10 went by while the account was parked"]
    due = [("cycle", emails, "0.00", "6.00", waited), ("cycle", fee, "0.00", "99.00", waited)]
    business = Business.load(landing.root, date(2026, 3, 31))
    back = [("parked", f"2026-0{month}", "account_missing", None, ["account gone is new"]) for month in (2, 3)]
    assert previewed(business, "2026-03", "gone") == [*due, *back]
    if billed_again:
        record_given(bill_by_steps(landing.root, "2026-03", "2026-03-31"))
        business = Business.load(landing.root, date(2026, 3, 31))
        assert previewed(business, "2026-03", "gone") == due
    profiles = account_profiles(business, date(2026, 3, 31)).filter(pl.col("account_id") == "gone")
    assert profiles["upcoming_amount"].to_list() == [Decimal("204.00")]
    found = previewed(Business.load(landing.root, date(2026, 4, 30)), "2026-04", "gone")
    assert [row[2:] for row in found if row[0] == "document"] == [(None, "204.00", waited)]
    assert [row[4] for row in found if row[0] == "line"] == [["billing date 2026-04-10 has come"], waited, waited]
    if not LONG:
        return
    # once it is billed, late usage of that cycle is late usage as any other
    record_given(bill_by_steps(landing.root, "2026-04", "2026-04-30"))
    landing.use("gone", "2026-02-22", emails=1_000, delivered="2026-05-01")
    business = Business.load(landing.root, date(2026, 5, 2))
    ingest_usage(business)
    late = ["delivery 2026-05-01/usage.jsonl is new"]
    assert previewed(business, "2026-04", "gone") == [("cycle", emails, "6.00", "9.00", late)]
    profiles = account_profiles(business, date(2026, 5, 2)).filter(pl.col("account_id") == "gone")
    assert profiles["upcoming_amount"].to_list() == [Decimal("99.00")]


@pytest.mark.parametrize(
    ("right", "wrong"), sized([(",US,,,", ",US,,flase,")], [(",US,,,", ",US,,flase,"), ("Springfield", "S" * 201)])
)
def test_a_customer_that_was_never_billed_and_whose_row_is_set_aside_is_parked_until_it_is_mended(
    landing: Landing, right: str, wrong: str
) -> None:
    for name in ("fine", "new"):
        landing.customer(name)
    landing.account("asks-nothing")
    accounts = landing.folder / "accounts.csv"
    whole = accounts.read_text()
    before, new = whole.split("new,")
    accounts.write_text(f"{before}new,{new.replace(right, wrong)}")
    business = bill_by_steps(landing.root, "2026-02", "2026-02-20")
    ((account, detail),) = rows(business, "parked", "account_id", "detail", billing_month="2026-02")
    assert account == "new" and detail.startswith("accounts.csv row 2 is set aside (")
    # a row of nobody who bought anything is merely set aside (the exit status is 0)
    assert parked(business, ["2026-01", "2026-02"]) == [f"account new is parked: {detail}"]
    accounts.write_text(whole)
    business = bill_by_steps(landing.root, "2026-02", "2026-02-28")
    # nothing of it had gone by: each date has its invoice
    assert account_totals(business) == {"fine": ["99.00", "99.00"], "new": ["99.00", "99.00"]}
    assert parked(business, ["2026-01", "2026-02"]) == []


@pytest.mark.parametrize("left", [0, 18])
def test_an_accounts_file_that_lacks_too_many_is_refused(landing: Landing, left: int) -> None:
    names = [f"acme-{number:02}" for number in range(28)]
    for name in names:
        landing.customer(name)
    bill_by_steps(landing.root, "2026-01", "2026-01-10")
    without(landing.folder / "accounts.csv", *(f"{name}," for name in names[left:]))
    ended = bill(landing.root, "2026-02", "2026-02-10")
    assert ended.status == 2
    assert "--accept-missing-accounts" in ended.messages
    assert Business.load(landing.root, date(2026, 2, 10)).register.count() == 28


def test_nine_rows_that_are_missing_are_no_wrong_file(landing: Landing) -> None:
    names = [f"acme-{number:02}" for number in range(28)]
    for name in names:
        landing.customer(name)
    bill_by_steps(landing.root, "2026-01", "2026-01-10")
    without(landing.folder / "accounts.csv", *(f"{name}," for name in names[19:]))
    business = Business.load(landing.root, date(2026, 2, 10))
    business.refuse_lacking_accounts()
    assert business.parked["account_id"].to_list() == names[19:]


def test_with_its_word_the_others_are_billed_and_nothing_is_undone(landing: Landing) -> None:
    for name in ("acme", "beta"):
        landing.customer(name)
    bill_by_steps(landing.root, "2026-01", "2026-01-10")
    whole = without(landing.folder / "accounts.csv", "acme,", "beta,")
    ended = bill(landing.root, "2026-02", "2026-02-10", "--accept-missing-accounts")
    assert (ended.status, "0 documents issued" in ended.messages) == (1, True)
    assert "account acme is parked" in ended.messages
    (landing.folder / "accounts.csv").write_text(whole)
    business = bill_by_steps(landing.root, "2026-03", "2026-03-10")
    assert account_totals(business) == {"acme": ["99.00", "198.00"], "beta": ["99.00", "198.00"]}


def test_a_requests_file_that_shrank_parks_the_account_and_a_withdrawal_undoes_it(landing: Landing) -> None:
    requests = landing.folder / "requests.jsonl"
    landing.customer("acme")
    (first,) = [json.loads(line)["request_id"] for line in requests.read_text().splitlines()]
    landing.customer("beta")
    bill_by_steps(landing.root, "2026-01", "2026-01-31")
    whole = without(requests, first)
    business = bill_by_steps(landing.root, "2026-02", "2026-02-28")
    assert rows(business, "parked", "account_id", "reason", billing_month="2026-02") == [("acme", "request_missing")]
    assert [row[0] for row in totals(business, "2026-02")] == ["beta"]
    requests.write_text(whole)
    business = bill_by_steps(landing.root, "2026-03", "2026-03-31")
    assert account_totals(business)["acme"] == ["99.00", "198.00"]
    landing.request("acme", "withdraw", "2026-04-02T09:00:00Z", withdraws=first)
    business = bill_by_steps(landing.root, "2026-04", "2026-04-30")
    assert sum(Decimal(total) for total in account_totals(business)["acme"]) == 0
    assert sorted(rows(business, "decisions", "request_id", "outcome", "reason", account_id="acme")) == sorted(
        [(first, "superseded", "withdrawn"), (f"request-{landing.written}", "approved", "taken_back")]
    )


def test_a_cancellation_that_is_taken_back_blocks_nobody(landing: Landing) -> None:
    requests = landing.folder / "requests.jsonl"
    landing.customer("acme")
    landing.customer("fine", on="2026-01-15")
    bill_by_steps(landing.root, "2026-02", "2026-02-20")
    before = requests.read_text()
    landing.request("acme", "cancel", "2026-01-25T09:00:00Z", "email")
    business = bill_by_steps(landing.root, "2026-03", "2026-03-31")
    assert account_totals(business)["acme"] == ["-99.00", "99.00", "99.00"]
    requests.write_text(before)
    business = bill_by_steps(landing.root, "2026-04", "2026-04-30")
    assert rows(business, "parked", "account_id") == []
    # the fee of February is due again, that of March was never billed
    assert account_totals(business)["acme"] == ["-99.00", "99.00", "99.00", "297.00"]
    assert len(account_totals(business)["fine"]) == 4


def test_check_says_what_a_run_would_park_or_refuse(landing: Landing) -> None:
    for name in ("acme", "beta"):
        landing.customer(name)
    bill_by_steps(landing.root, "2026-01", "2026-01-10")
    whole = without(landing.folder / "accounts.csv", "acme,")
    (problem,) = [words for words in problems_of(landing.root) if "cannot be billed" in words]
    assert problem.startswith("account acme cannot be billed: documents were issued to it and it has no row")
    (landing.folder / "accounts.csv").write_text(whole)
    without(landing.folder / "accounts.csv", "acme,", "beta,")
    assert any("--accept-missing-accounts" in words for words in problems_of(landing.root))


def test_late_usage_of_a_customer_without_a_row_is_billed_when_the_row_is_back(landing: Landing) -> None:
    for name in ("gone", "fine"):
        landing.customer(name)
    bill_by_steps(landing.root, "2026-03", "2026-03-15")
    whole = without(landing.folder / "accounts.csv", "gone,")
    # February is over: it is computed again without the customer, and again when the row is back
    landing.use("gone", "2026-02-05", emails=20_000, delivered="2026-03-16")
    bill_by_steps(landing.root, "2026-03", "2026-03-20")
    (landing.folder / "accounts.csv").write_text(whole)
    business = bill_by_steps(landing.root, "2026-04", "2026-04-10")
    assert account_totals(business)["gone"] == ["99.00", "99.00", "99.00", "114.00"]
    assert [words for words in disagreements(business) if "the PDF of" not in words] == []


def test_verify_finds_nothing_while_an_account_is_parked_or_a_payment_came_later(landing: Landing) -> None:
    for name in ("acme", "beta"):
        landing.customer(name)
        landing.use(name, "2026-01-20", emails=15_001)
    bill_by_steps(landing.root, "2026-02", "2026-02-28")
    without(landing.folder / "accounts.csv", "acme,")
    business = bill_by_steps(landing.root, "2026-02", "2026-02-28")
    assert business.parked["account_id"].to_list() == ["acme"]
    found = disagreements(Business.load(landing.root, date(2026, 3, 31)))
    assert [words for words in found if "the PDF of" not in words] == []
    # late usage computes the closed months again: what is due of the parked account stays as it is
    landing.use("acme", "2026-01-21", emails=5_000, delivered="2026-03-01")
    business = bill_by_steps(landing.root, "2026-02", "2026-02-28")
    assert len(rows(business, "charges", "account_id", account_id="acme")) > 0
