"""What is missing is no answer: nothing that was issued is undone because a row or a request is not there (rule 28)."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from billing.month.business import Business
from billing.reports.check import problems_of
from billing.reports.verify import disagreements
from tests.by_steps import bill_by_steps, rows
from tests.pipeline.outside import Landing, bill


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
    bill_by_steps(landing.root, "2026-02", "2026-02-10")
    whole = without(requests, first)
    business = bill_by_steps(landing.root, "2026-03", "2026-03-31")
    assert rows(business, "parked", "account_id", "reason", billing_month="2026-03") == [("acme", "request_missing")]
    assert [row[0] for row in totals(business, "2026-03")] == ["beta"]
    requests.write_text(whole)
    business = bill_by_steps(landing.root, "2026-04", "2026-04-30")
    assert account_totals(business)["acme"] == ["99.00", "99.00", "198.00"]
    landing.request("acme", "withdraw", "2026-05-02T09:00:00Z", withdraws=first)
    business = bill_by_steps(landing.root, "2026-05", "2026-05-31")
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
