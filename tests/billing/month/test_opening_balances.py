"""What accounts owed when they moved in: balances, what pays them, and the books (rules 16, 25 and 38)."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from billing.model.account_tables import JOURNAL
from billing.month.business import Business
from billing.reports.journal import receivable_differences, unbalanced_entries, write_journal
from billing.reports.profiles import allocations, balances, collections
from billing.store.frames import read_frame
from tests.billing.month.test_moving_in import catalogue, move_in
from tests.by_steps import bill_by_steps
from tests.landing import Landing

HEADER = "account_id,currency,amount,on,reference\n"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    """What stands in landing before anything is billed. Copy it to go on."""
    landing = Landing(tmp_path_factory.mktemp("before") / "home", catalogue=catalogue())
    for name in ("debtor", "creditor", "same-reference"):
        move_in(landing, name, "2023-05-10", "2026-02-10")
    landing.account("gone")
    opening(
        landing,
        "debtor,USD,120.50,2025-12-15,OLD-1\n"
        "debtor,USD,30.00,2026-01-20,OLD-2\n"
        "creditor,USD,-150.00,2026-01-05,\n"
        "same-reference,USD,10.00,2026-01-31,OLD-1\n"
        "gone,USD,77.00,2025-06-30,OLD-9\n",
    )
    return landing


@pytest.fixture(scope="module")
def february_once(before: Landing, tmp_path_factory: pytest.TempPathFactory) -> Landing:
    landing = before.copied(tmp_path_factory.mktemp("february") / "home")
    write_journal(bill_by_steps(landing.root, "2026-02", "2026-02-28"))
    return landing


@pytest.fixture
def landing(before: Landing, tmp_path: Path) -> Landing:
    return before.copied(tmp_path / "home")


@pytest.fixture
def february(february_once: Landing, tmp_path: Path) -> Landing:
    """Billed for February, with the books of it."""
    return february_once.copied(tmp_path / "billed")


def opening(landing: Landing, rows: str) -> None:
    (landing.folder / "opening_balances.csv").write_text(HEADER + rows)


def pay(landing: Landing, account: str, document: str | None, amount: str, at: str, status: str = "succeeded") -> None:
    landing.pay(account, document or "", amount, at, status)


def balance(business: Business, account: str) -> tuple[str, ...]:
    """opening, invoiced, paid, outstanding, and the day of the oldest debt."""
    (row,) = balances(business).filter(account_id=account).iter_rows(named=True)
    amounts = (f"{row[name]:.2f}" for name in ("opening", "invoiced", "paid", "outstanding"))
    return (*amounts, str(row["oldest_unpaid_on"]), row["status"])


def posted(business: Business, **wanted: str) -> list[tuple[str, str, Decimal]]:
    """Day, ledger account and amount of postings, debits above 0."""
    files = sorted((business.home.lake / JOURNAL.name).glob("*/journal.parquet"))
    rows = pl.concat([read_frame(path, JOURNAL) for path in files]).filter(**wanted)
    signed = rows.select("posted_on", "ledger_account", amount=pl.col("debit") - pl.col("credit"))
    return [(str(day), account, Decimal(f"{amount:.2f}")) for day, account, amount in signed.iter_rows()]


def test_what_was_owed_has_a_column_of_its_own_and_ages_from_its_day(february: Landing) -> None:
    business = Business.load(february.root, date(2026, 2, 28))
    assert balance(business, "debtor") == ("150.50", "99.00", "0.00", "249.50", "2025-12-15", "owing")
    assert balance(business, "creditor") == ("-150.00", "99.00", "0.00", "-51.00", "None", "in_credit")
    assert balance(business, "gone") == ("77.00", "0.00", "0.00", "77.00", "2025-06-30", "owing")
    due = collections(business).select("account_id", "number", "amount_due", "due_on", "age")
    found = [(account, number, f"{amount:.2f}", str(day), age) for account, number, amount, day, age in due.iter_rows()]
    invoices = [row for row in found if row[1].startswith("INV")]
    assert [row for row in found if row not in invoices] == [
        ("debtor", "OLD-1", "120.50", "2025-12-15", "61_to_90"),
        ("debtor", "OLD-2", "30.00", "2026-01-20", "31_to_60"),
        ("gone", "OLD-9", "77.00", "2025-06-30", "over_90"),
        ("same-reference", "OLD-1", "10.00", "2026-01-31", "1_to_30"),
    ]
    assert [row[:3] for row in invoices] == [
        ("debtor", "INV-2026-000002", "99.00"),
        ("same-reference", "INV-2026-000003", "99.00"),
    ], "what the creditor had in credit pays its invoice"


def test_payments_reach_them_by_reference_and_on_account(landing: Landing) -> None:
    pay(landing, "debtor", "OLD-2", "30.00", "2026-02-03T09:00:00Z")
    pay(landing, "debtor", None, "200.00", "2026-02-20T09:00:00Z")
    pay(landing, "same-reference", "OLD-1", "10.00", "2026-02-03T09:00:00Z")
    pay(landing, "gone", "OLD-1", "77.00", "2026-02-03T09:00:00Z")
    business = bill_by_steps(landing.root, "2026-02", "2026-02-28")
    assert balance(business, "debtor") == ("150.50", "99.00", "230.00", "19.50", "2026-02-28", "owing")
    paid = allocations(business).filter(account_id="debtor").select("number", "amount").iter_rows()
    assert sorted((number, f"{amount:.2f}") for number, amount in paid) == [
        ("INV-2026-000002", "79.50"),
        ("OLD-1", "120.50"),
        ("OLD-2", "30.00"),
    ]
    assert balance(business, "same-reference")[:4] == ("10.00", "99.00", "10.00", "99.00")
    assert business.unknown_payments["detail"].to_list() == [
        "document: found 'OLD-1', expected the number of a document that was issued to the account"
    ], "a reference of another account is not its own"


class Lives:
    """Payments that fail, pay on account and come back, billed for February, and twice for March."""

    def __init__(self, landing: Landing) -> None:
        pay(landing, "debtor", "OLD-1", "120.50", "2026-02-03T09:00:00Z", "failed")
        pay(landing, "same-reference", None, "10.00", "2026-02-03T09:00:00Z", "failed")
        for name in ("surplus", "returned"):
            landing.customer(name, on="2026-02-05")
        pay(landing, "surplus", None, "150.00", "2026-02-20T09:00:00Z")
        february = bill_by_steps(landing.root, "2026-02", "2026-02-28")
        self.suspended, self.failed = february.suspensions.height, balance(february, "debtor")
        march = bill_by_steps(landing.root, "2026-03", "2026-03-31")
        self.surplus = balance(march, "surplus")
        pay(landing, "surplus", None, "150.00", "2026-03-20T09:00:00Z", "disputed")
        first, self.last = sorted(march.register.documents().filter(account_id="returned")["number"])
        pay(landing, "returned", first, "99.00", "2026-03-01T09:00:00Z")
        pay(landing, "returned", self.last, "99.00", "2026-03-06T09:00:00Z")
        pay(landing, "returned", None, "30.00", "2026-03-20T09:00:00Z", "refunded")
        self.business = bill_by_steps(landing.root, "2026-03", "2026-03-31")


@pytest.fixture(scope="module")
def lives(before: Landing, tmp_path_factory: pytest.TempPathFactory) -> Lives:
    return Lives(before.copied(tmp_path_factory.mktemp("lives") / "home"))


def test_a_surplus_on_account_pays_later_documents_and_comes_back_when_it_is_disputed(lives: Lives) -> None:
    assert lives.surplus[1:4] == ("198.00", "150.00", "48.00")
    assert balance(lives.business, "surplus")[3] == "198.00"
    due = collections(lives.business).filter(account_id="surplus")
    assert [f"{amount:.2f}" for amount in due["amount_due"]] == ["99.00", "99.00"]


def test_what_is_returned_on_account_opens_what_was_paid_last(lives: Lives) -> None:
    assert balance(lives.business, "returned")[3] == "30.00"
    due = collections(lives.business).filter(account_id="returned").select("number", "amount_due")
    assert due.rows() == [(lives.last, Decimal(30))]


def test_a_failed_payment_of_what_was_billed_elsewhere_suspends_nobody(lives: Lives) -> None:
    assert lives.suspended == 0
    assert lives.failed[3] == "249.50"


class TestTheBooks:
    def test_the_receivable_is_posted_against_opening_balances(self, february: Landing) -> None:
        business = Business.load(february.root, date(2026, 2, 28))
        assert posted(business, kind="opening_balance", account_id="debtor") == [
            ("2025-12-15", "opening_balances", Decimal("-120.50")),
            ("2025-12-15", "receivable", Decimal("120.50")),
            ("2026-01-20", "opening_balances", Decimal("-30.00")),
            ("2026-01-20", "receivable", Decimal("30.00")),
        ]
        assert receivable_differences(business).is_empty()
        assert unbalanced_entries(business.home).is_empty()

    def test_a_row_that_changes_after_it_was_used_is_a_posting_of_the_difference(self, february: Landing) -> None:
        landing = february
        opening(landing, "debtor,USD,100.00,2025-12-15,OLD-1\ncreditor,USD,-150.00,2026-01-05,\n")
        business = bill_by_steps(landing.root, "2026-03", "2026-03-31")
        assert [each for each in business.inputs.warnings if each.startswith("opening_balances")] == [
            "opening_balances: debtor, reference 'OLD-1': found 100 USD on 2025-12-15, was used as 120.5 USD on "
            "2025-12-15: the difference is posted",
            "opening_balances: debtor, reference 'OLD-2': the row is gone, and 30 USD on 2026-01-20 still counts; "
            "expected a row of 0 to take it back",
            "opening_balances: gone, reference 'OLD-9': the row is gone, and 77 USD on 2025-06-30 still counts; "
            "expected a row of 0 to take it back",
            "opening_balances: same-reference, reference 'OLD-1': the row is gone, and 10 USD on 2026-01-31 still "
            "counts; expected a row of 0 to take it back",
        ]
        written = write_journal(business)
        assert posted(business, kind="opening_balance", entry="debtor/OLD-1") == [
            ("2025-12-15", "opening_balances", Decimal("-120.50")),
            ("2025-12-15", "receivable", Decimal("120.50")),
            ("2026-03-31", "opening_balances", Decimal("20.50")),
            ("2026-03-31", "receivable", Decimal("-20.50")),
        ]
        assert "2025-12" not in written, "the books of a month that is over stay as they are"
        assert balance(business, "debtor")[0] == "130.00"
        assert balance(business, "gone")[0] == "77.00"
        assert receivable_differences(business).is_empty()
        again = Business.load(landing.root, date(2026, 3, 31))
        assert sum("the difference is posted" in each for each in again.inputs.warnings) == 0
        assert write_journal(again) == []

    def test_a_look_back_shows_what_counted_then(self, february: Landing) -> None:
        landing = february
        opening(landing, "debtor,USD,100.00,2025-12-15,OLD-1\n")
        write_journal(bill_by_steps(landing.root, "2026-03", "2026-03-31"))
        then = Business.load(landing.root, date(2026, 2, 28), issues=False)
        assert balance(then, "debtor")[0] == "150.50"
        write_journal(then)
        assert receivable_differences(then).is_empty()
        now = Business.load(landing.root, date(2026, 3, 31))
        assert write_journal(now) == ["2026-03"]
        assert balance(now, "debtor")[0] == "130.00"
        assert receivable_differences(now).is_empty()

    def test_a_draft_uses_nothing(self, landing: Landing) -> None:
        write_journal(bill_by_steps(landing.root, "2026-02", "2026-02-28", issues=False))
        opening(landing, "debtor,USD,100.00,2025-12-15,OLD-1\n")
        business = bill_by_steps(landing.root, "2026-02", "2026-02-28", issues=False)
        assert business.register.opening_balances().is_empty()
        assert balance(business, "debtor")[0] == "100.00"


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        ("debtor,USD,12.505,2026-01-31,A", "amount: found '12.505', expected an amount in USD of at most 2 decimals"),
        ("debtor,USD,1e3,2026-01-31,A", "amount: found '1e3', expected an amount in USD"),
        ("debtor,EUR,12.50,2026-01-31,A", "currency: found 'EUR', expected USD"),
        ("debtor,USD,12.50,31.01.2026,A", "on: found '31.01.2026', expected a date such as 2026-01-31"),
        ("nobody,USD,12.50,2026-01-31,A", "account_id: found 'nobody', expected an account_id of the accounts file"),
        ("debtor,USD,,2026-01-31,A", "amount: found nothing, expected a value"),
        ("debtor,USD,1,2026-01-31,OLD-1", "reference: found 'OLD-1' of this account again with other content"),
    ],
)
def test_a_wrong_row_is_set_aside_and_the_rest_counts(landing: Landing, row: str, detail: str) -> None:
    with (landing.folder / "opening_balances.csv").open("a") as file:
        file.write(f"{row}\n")
    business = Business.load(landing.root, date(2026, 2, 28))
    assert business.inputs.rejects["detail"].item().startswith(detail)
    assert business.opening_balances.height == 5


def test_they_may_stand_in_json_or_parquet_in_a_folder(landing: Landing) -> None:
    (landing.folder / "opening_balances.csv").unlink()
    folder = landing.folder / "opening_balances"
    folder.mkdir()
    row = '{"account_id": "debtor", "currency": "USD", "amount": "1.50", "on": "2026-01-01", "reference": "A"}\n'
    (folder / "a.jsonl").write_text(row)
    pl.DataFrame(
        {"account_id": ["gone"], "currency": ["USD"], "amount": ["2"], "on": ["2026-01-01"], "reference": ["B"]}
    ).write_parquet(folder / "b.parquet")
    business = Business.load(landing.root, date(2026, 2, 28))
    assert business.opening_balances.select("account_id", "amount").rows() == [
        ("debtor", Decimal("1.5")),
        ("gone", Decimal(2)),
    ]
