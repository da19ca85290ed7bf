"""The journal for accounting: balanced postings, fees released over the days they pay for (amounts in USD)."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from unittest import mock

import polars as pl
import pytest

from billing.month.business import Business
from billing.reports.journal import write_journal
from billing.reports.profiles import balances
from billing.reports.verify import disagreements
from tests.by_steps import bill_by_steps
from tests.pipeline import outside
from tests.pipeline.outside import Landing, bill, bill_once, one, overage, show
from tests.sizes import LONG

pytestmark = pytest.mark.usefixtures("profiles_without_reports")

STARTER = "99.00"


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    """Acme moved in with its cycle from 10 December 2025: its first document here has its usage, too."""
    landing = Landing(tmp_path / "home")
    landing.customer("acme", on="2025-12-10", billed_through="2026-01-10")
    landing.use("acme", "2026-01-05", emails=20_000)
    landing.use("acme", "2025-12-20", leads=1)
    return landing


def postings(home: Path, month: str, account: str = "acme") -> dict[tuple[str, str, str], Decimal]:
    """Debits less credits by kind, entry and ledger account of a month and an account."""
    rows = show(home, "journal", "--month", month, account_id=account)
    assert sum(Decimal(row["debit"]) - Decimal(row["credit"]) for row in rows) == 0
    found = {
        (row["kind"], row["entry"], row["ledger_account"]): Decimal(row["debit"]) - Decimal(row["credit"])
        for row in rows
    }
    assert len(found) == len(rows)
    return found


def booked(home: Path, month: str, as_of: str) -> Business:
    """Bill by steps, and bring the journal up to date."""
    business = bill_by_steps(home, month, as_of)
    write_journal(business)
    return business


def test_a_fee_is_deferred_and_released_by_the_days_of_its_cycle(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    booked(landing.root, "2026-02", "2026-03-01")
    # issued on 1 March, when the cycle [01-10, 02-10) has passed and 19 of the 28 days of [02-10, 03-10) have
    assert postings(landing.root, "2026-03") == {
        ("document", "INV-2026-000001", "receivable"): Decimal("99.00"),
        ("document", "INV-2026-000001", "deferred_revenue"): Decimal("-99.00"),
        ("document", "INV-2026-000002", "receivable"): Decimal("99.00"),
        ("document", "INV-2026-000002", "deferred_revenue"): Decimal("-99.00"),
    }
    booked(landing.root, "2026-03", "2026-04-01")
    # March is over: 99.00 and 99.00 have been earned by its last day, and nothing of a document issued in April
    assert postings(landing.root, "2026-03") | {
        ("release", "INV-2026-000001", "deferred_revenue"): Decimal("99.00"),
        ("release", "INV-2026-000001", "revenue"): Decimal("-99.00"),
        ("release", "INV-2026-000002", "deferred_revenue"): Decimal("99.00"),
        ("release", "INV-2026-000002", "revenue"): Decimal("-99.00"),
    } == postings(landing.root, "2026-03")


def test_rows_that_stand_twice_and_their_postings_are_repaired(landing: Landing) -> None:
    home = landing.root
    bill_once(home, "2026-01", "2026-01-31")
    copied = [home / "lake" / name / "billing_month=2026-01" / f"{name}.parquet" for name in ("documents", "lines")]
    books = home / "lake" / "journal" / "billing_month=2026-01" / "journal.parquet"
    before = {path: path.read_bytes() for path in (*copied, books)}
    for path, key in zip(copied, (["number"], ["number", "line"]), strict=True):
        table = pl.read_parquet(path)
        pl.concat([table, table]).sort(key).write_parquet(path)
    entries = pl.read_parquet(books).with_columns(debit=pl.col("debit") * 2)
    entries.cast(pl.Schema(pl.read_parquet_schema(books))).write_parquet(books)
    assert overage("verify", "--home", home).status == 1
    ended = overage("repair", "--home", home)
    assert [str(path) in ended.output for path in before] == [True] * 3
    assert (bill(home, "2026-01", "2026-01-31").status, overage("verify", "--home", home).status) == (0, 0)
    assert {path: path.read_bytes() for path in before} == before


@dataclass(frozen=True)
class Books:
    """The homes of a business as its books were on some days."""

    january: Path
    tenth: Path
    february: Path
    march: Path

    def number(self, account: str, kind: str = "invoice", on: str = "2026-01-10") -> str:
        """Of the document of an account and a billing date."""
        return str(one(show(self.march, "documents", account_id=account, kind=kind, billing_date=on))["number"])


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Books:
    """plain: two fees. over: overage and tax. less: billed too much. refunded. pays.

    brief: refunded by the run that bills it. later: usage that comes late.
    """
    folder = tmp_path_factory.mktemp("books")
    landing = Landing(folder / "home")
    home = landing.root
    for name in ("plain", "less", "refunded", "pays", "later"):
        landing.customer(name)
    landing.account("over", country="DE")
    landing.request("over", "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter")
    (landing.folder / "tax_rates.csv").write_text(
        "country,region,rate,name,effective_from\nDE,,0.10,Sales tax,2026-01-01\n"
    )
    landing.use("over", emails=16_000)
    landing.use("less", "2026-02-05", emails=16_000)

    def booked_on(month: str, as_of: str) -> Path:
        booked(home, month, as_of)
        return shutil.copytree(home, folder / as_of)

    january = booked_on("2026-01", "2026-01-31")
    landing.request("refunded", "refund", "2026-02-03T09:00:00Z")
    (paid,) = show(home, "documents", account_id="pays")
    for day, amount, status in (
        ("2026-02-01", STARTER, "failed"),
        ("2026-02-02", STARTER, "succeeded"),
        ("2026-02-03", "9.00", "refunded"),
        ("2026-02-04", "1.00", "disputed"),
    ):
        landing.pay("pays", paid["number"], amount, f"{day}T10:00:00Z", status)
    tenth = booked_on("2026-02", "2026-02-10")
    # the log is replaced by an empty one: 3.00 come back, at once
    (landing.folder / "usage" / "2026-02-05" / "usage.jsonl").write_text("")
    how = ("--as-of", "2026-02-11", "--reason", "The log was wrong.", "--home", home)
    with mock.patch.object(outside, "LEFT_OUT", ("profiles", "billing_report")):
        assert overage("correct", "2026-02", *how).status == 0
    landing.customer("brief", on="2026-02-20")
    landing.request("brief", "refund", "2026-02-22T10:00:00Z")
    february = booked_on("2026-02", "2026-02-28")
    landing.use("later", "2026-01-20", emails=20_000, delivered="2026-03-05")
    return Books(january, tenth, february, booked_on("2026-03", "2026-03-31"))


def test_a_cycle_over_two_months_is_earned_in_both(books: Books) -> None:
    first, second = books.number("plain"), books.number("plain", on="2026-02-10")
    # 10 to 31 January are 22 of 31 days: 99.00 x 22 / 31 = 70.258...
    assert postings(books.january, "2026-01", "plain") == {
        ("document", first, "receivable"): Decimal("99.00"),
        ("document", first, "deferred_revenue"): Decimal("-99.00"),
        ("release", first, "deferred_revenue"): Decimal("70.26"),
        ("release", first, "revenue"): Decimal("-70.26"),
    }
    february = postings(books.february, "2026-02", "plain")
    # the rest of the first fee; 10 to 28 February are 19 of 28 days: 99.00 x 19 / 28 = 67.178...
    assert february["release", first, "revenue"] == Decimal("-28.74")
    assert february["release", second, "revenue"] == Decimal("-67.18")


def test_a_yearly_fee_is_earned_over_the_year_and_to_the_cent(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    landing.customer("acme", term="yearly")
    booked(landing.root, "2026-01", "2026-01-10")
    # a month has its postings whether it was billed or not
    write_journal(Business.load(landing.root, date(2027, 1, 9), issues=False))
    released = [
        -postings(landing.root, f"2026-{month:02}")["release", "INV-2026-000001", "revenue"] for month in range(1, 13)
    ]
    # 990.00 over 365 days: 22 days of January are 59.671..., the first 50 days 135.616...
    assert released[0] == Decimal("59.67")
    assert released[1] == Decimal("135.62") - Decimal("59.67")
    write_journal(Business.load(landing.root, date(2027, 1, 31), issues=False))
    rest = -postings(landing.root, "2027-01")["release", "INV-2026-000001", "revenue"]
    assert sum(released) + rest == Decimal("990.00")


def test_overage_is_earned_at_once_and_tax_is_owed(books: Books) -> None:
    number = books.number("over", on="2026-02-10")
    # 99.00 + 1 x 3.00, 10 percent tax on 102.00
    assert postings(books.tenth, "2026-02", "over") == {
        ("document", number, "receivable"): Decimal("112.20"),
        ("document", number, "tax"): Decimal("-10.20"),
        ("document", number, "revenue"): Decimal("-3.00"),
        ("document", number, "deferred_revenue"): Decimal("-99.00"),
    }


def test_what_is_given_back_stands_apart_from_revenue(books: Books) -> None:
    number = books.number("less", "credit_note", "2026-02-10")
    found = postings(books.february, "2026-02", "less")
    assert found["document", number, "credits"] == Decimal("3.00")
    assert found["document", number, "receivable"] == Decimal("-3.00")


def test_a_refunded_fee_is_earned_no_further(books: Books) -> None:
    invoice, credit = books.number("refunded"), books.number("refunded", "credit_note")
    found = postings(books.february, "2026-02", "refunded")
    # issued in February: the part earned in January comes back with the rest of the cycle
    assert found["document", credit, "deferred_revenue"] == Decimal("99.00")
    assert found["release", credit, "credits"] == Decimal("99.00")
    assert found["release", invoice, "revenue"] == Decimal("-28.74")
    everything = [
        row
        for row in show(books.february, "journal", account_id="refunded")
        if row["ledger_account"] == "deferred_revenue"
    ]
    assert sum(Decimal(row["debit"]) - Decimal(row["credit"]) for row in everything) == 0


def test_a_fee_is_refunded_by_the_run_that_bills_it_in_a_month_with_documents(books: Books) -> None:
    home = books.february
    assert [(row["kind"], row["total"]) for row in show(home, "documents", account_id="brief")] == [
        ("credit_note", "-99.00"),
        ("invoice", "99.00"),
    ]
    assert sum(postings(home, "2026-02", "brief").values()) == 0
    found = disagreements(Business.load(home, date(2026, 2, 28), issues=False))
    # by steps nothing is drawn
    assert [words for words in found if "the PDF of" not in words] == []


def test_money_that_moves_is_cash_against_what_is_owed(books: Books) -> None:
    found = postings(books.tenth, "2026-02", "pays")
    moved = [(ledger, amount) for (kind, _, ledger), amount in found.items() if kind == "payment"]
    assert sorted(moved) == [
        ("cash", Decimal("-9.00")),
        ("cash", Decimal("-1.00")),
        ("cash", Decimal("99.00")),
        ("receivable", Decimal("-99.00")),
        ("receivable", Decimal("1.00")),
        ("receivable", Decimal("9.00")),
    ]
    business = Business.load(books.tenth, date(2026, 2, 9), issues=False)
    owed = balances(business).filter(pl.col("account_id") == "pays")["outstanding"]
    # the second fee was issued on the tenth
    assert owed.to_list() == [Decimal("109.00")]


def test_a_month_of_the_books_that_is_over_is_not_changed_by_what_is_issued_later(books: Books) -> None:
    of_february = Path("lake") / "journal" / "billing_month=2026-02" / "journal.parquet"
    before, after = (home / of_february for home in (books.february, books.march))
    # a copy keeps the time
    assert (after.read_bytes(), after.stat().st_mtime_ns) == (before.read_bytes(), before.stat().st_mtime_ns)
    number = books.number("later", on="2026-03-10")
    assert ("document", number, "revenue") in postings(books.march, "2026-03", "later")


def test_a_journal_that_does_not_agree_is_found(landing: Landing) -> None:
    bill_once(landing.root, "2026-01", "2026-01-31")
    assert not LONG or overage("verify", "--home", landing.root).status == 0
    (landing.root / "lake" / "journal" / "billing_month=2026-01" / "journal.parquet").unlink()
    ended = overage("verify", "--home", landing.root)
    assert ended.status == 1
    assert "acme owes 0.00 there, and its balance is 114.00: bill" in ended.output + ended.messages


@pytest.mark.parametrize("table", ["charges", "documents", "events"])
def test_a_table_that_cannot_be_read_is_named(landing: Landing, table: str) -> None:
    bill_once(landing.root, "2026-01", "2026-01-31")
    damaged = min((landing.root / "lake" / table).rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    ended = overage("verify", "--home", landing.root)
    assert ended.status == 1
    assert f"{damaged}: not readable as Parquet" in ended.output


def test_a_lake_that_was_taken_away_is_made_again(landing: Landing) -> None:
    bill_once(landing.root, "2026-01", "2026-01-31")
    shutil.rmtree(landing.root / "lake")
    bill(landing.root, "2026-01", "2026-01-31")
    assert overage("verify", "--home", landing.root).status == 0


def test_ingested_usage_that_was_changed_by_hand_is_named(landing: Landing) -> None:
    bill_once(landing.root, "2026-01", "2026-01-31")
    events = min((landing.root / "lake" / "events").rglob("*.parquet"))
    pl.read_parquet(events).with_columns(pl.col("value") + 1).write_parquet(events)
    ended = overage("verify", "--home", landing.root)
    assert ended.status == 1
    assert f"{events}: has other bytes than when its deliveries were ingested" in ended.output


CHANGES = {
    "usage": pl.col("quantity") + 1,
    "charges": pl.col("amount") + 1,
    "dues": pl.col("amount") + 1,
    "cycles": pl.col("cycle_end") + pl.duration(days=1),
    "packages": pl.col("opening_package") + "s",
    "levels": pl.col("closing_level") + 1,
}


def test_what_was_computed_and_then_changed_by_hand_is_named(landing: Landing) -> None:
    bill_once(landing.root, "2026-01", "2026-01-31")
    for table, change in CHANGES.items():
        path = computed_table(landing.root, table)
        changed = pl.read_parquet(path, hive_partitioning=False).with_columns(change)
        assert len(changed)
        changed.write_parquet(path)
    ended = overage("verify", "--home", landing.root)
    assert ended.status == 1
    for table in CHANGES:
        assert f"{computed_table(landing.root, table)}: has other rows than its inputs give" in ended.output, table


def computed_table(home: Path, table: str) -> Path:
    return home / "lake" / table / "billing_month=2026-01" / f"{table}.parquet"


def test_a_register_that_is_damaged_is_named(landing: Landing) -> None:
    bill_once(landing.root, "2026-01", "2026-01-31")
    register = landing.root / "register.db"
    with closing(sqlite3.connect(register)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'documents'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(register.read_bytes())
    content[(page - 1) * size : page * size] = b"x" * size
    register.write_bytes(content)
    ended = overage("verify", "--home", landing.root)
    assert ended.status == 1
    assert f"{register}: the register cannot be used any more (database disk image is malformed)" in ended.messages


def test_the_export_is_csv_with_its_columns(landing: Landing) -> None:
    bill_once(landing.root, "2026-01", "2026-01-31")
    ended = overage("show", "journal", "--month", "2026-01", "--format", "csv", "--home", landing.root)
    assert ended.output.splitlines()[:2] == [
        "billing_month,posted_on,kind,entry,ledger_account,account_id,number,currency,debit,credit",
        "2026-01,2026-01-31,document,INV-2026-000001,deferred_revenue,acme,INV-2026-000001,USD,0.00,99.00",
    ]
