"""The register keeps what was issued: the database itself refuses what would change it (rule 19)."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from billing.home import Home
from billing.packages import CLOSED_SCHEMA
from billing.register import Issue, Register
from billing.tables import DECISIONS, DRAFT_LINES, DRAFT_TAXES, DRAFTS, PACKAGES

FEBRUARY = date(2026, 2, 10)


def draft(account: str, amount: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A draft with one fee line."""
    keys = {
        "account_id": [account],
        "subscription_id": [f"{account}/2026-01-10"],
        "billing_month": ["2026-02"],
        "billing_date": [FEBRUARY],
    }
    money = {"net": [amount], "tax": ["0"], "total": [amount]}
    content = '{"number":null,"issued_on":null}'
    document = pl.DataFrame(
        keys | money | {"kind": ["invoice"], "currency": ["USD"], "content": [content], "content_hash": ["unknown"]}
    ).with_columns(pl.lit(None).alias(name) for name in ("issued_on", "corrects"))
    line = pl.DataFrame(
        keys | {"line": [1], "kind": ["package_fee"], "due_on": [FEBRUARY], "due_kind": ["package_fee"]}
    )
    line = line.with_columns(amount=pl.lit(amount), description=pl.lit("Starter, monthly fee"))
    rest = [name for name in DRAFT_LINES.column_names if name not in line.columns]
    return DRAFTS.conform(document), DRAFT_LINES.conform(line.with_columns(pl.lit(None).alias(name) for name in rest))


def issue(*accounts: str, as_of: date = FEBRUARY) -> Issue:
    drafts = [draft(account, "99.00") for account in accounts]
    closing_dates = PACKAGES.empty().select("account_id", *CLOSED_SCHEMA)
    return Issue(
        "2026-02",
        as_of,
        as_of,
        pl.concat(documents for documents, _ in drafts),
        pl.concat(lines for _, lines in drafts),
        DRAFT_TAXES.empty(),
        closing_dates,
        DECISIONS.empty(),
    )


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    opened = Register.open(Home(tmp_path))
    opened.issue(issue("acme", "beta"))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE documents SET total = 1, net = 1 WHERE number = 'INV-2026-000001'", "never changes"),
        ("DELETE FROM documents", "documents: what has been issued stays"),
        ("UPDATE lines SET amount = 0", "lines: what has been issued never changes"),
        ("DELETE FROM lines", "lines: what has been issued stays"),
        ("DELETE FROM issued_months", "issued_months: a day that was closed stays closed"),
        ("UPDATE issued_months SET closed_through = '2026-02-01'", "a day that was closed stays closed"),
        (
            "INSERT INTO documents SELECT 'INV-2026-000004', series, year, 4, kind, 0, account_id, subscription_id,"
            " billing_month, billing_date, issued_on, currency, net, tax, total, corrects, content, content_hash"
            " FROM documents LIMIT 1",
            "the next number of its series was expected",
        ),
        (
            "INSERT INTO documents SELECT 'INV-2026-3', series, year, 3, kind, 0, account_id, subscription_id,"
            " billing_month, billing_date, issued_on, currency, net, tax, total, corrects, content, content_hash"
            " FROM documents LIMIT 1",
            "its number is not that of its series, year and sequence",
        ),
    ],
)
def test_the_database_refuses_to_change_what_was_issued(
    register: Register, tmp_path: Path, statement: str, said: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "register.db")) as database:
        before = list(database.iterdump())
        with pytest.raises(sqlite3.IntegrityError, match=said):
            database.execute(statement)
        database.rollback()
        assert list(database.iterdump()) == before


def test_numbers_go_on_where_they_stopped_and_a_month_closes_further(register: Register) -> None:
    later = register.issue(issue("gamma", as_of=date(2026, 2, 12)))
    assert later["number"].to_list() == ["INV-2026-000003"]
    assert register.closed_through("2026-02") == date(2026, 2, 12)


def test_a_register_that_was_made_without_guards_gets_them(register: Register, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "register.db")) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.commit()
    Register.open(Home(tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / "register.db")) as database, pytest.raises(sqlite3.IntegrityError):
        database.execute("DELETE FROM documents")


def test_looking_at_a_register_that_is_not_there_makes_none(tmp_path: Path) -> None:
    register = Register.open(Home(tmp_path))
    assert (register.count(), register.documents().height, register.latest_issued_on()) == (0, 0, None)
    register.record_files([])
    assert list(tmp_path.iterdir()) == []
    # once something is issued, the same register says so
    register.issue(issue("acme"))
    assert register.count() == 1
    register.close()


def test_a_copy_issues_on_its_own(register: Register, tmp_path: Path) -> None:
    copy = register.copied_to(tmp_path / "copy.db")
    assert copy.documents().equals(register.documents())
    copy.issue(issue("gamma"))
    assert (copy.count(), register.count()) == (3, 2)
    copy.close()
