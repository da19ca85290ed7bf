"""`overage verify` names what was changed by hand in the register, by the pages that were issued."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from tests.by_steps import bill_by_steps
from tests.pipeline.outside import Landing, bill, overage
from tests.sizes import LONG

OF_THE_MONTH = ("usage", "charges", "packages")
OF_ACCOUNTS = {"balances": "outstanding", "collections": "amount_due", "profile": "package"}


@pytest.fixture(scope="module")
def billed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a taxed customer who was billed a fee, overages and, late, a line of an earlier cycle."""
    landing = Landing(tmp_path_factory.mktemp("billed") / "home")
    landing.customer("acme")
    rates = "country,region,rate,name,effective_from\nUS,,0.10,Sales tax,2020-01-01\n"
    (landing.folder / "tax_rates.csv").write_text(rates)
    landing.use("acme", emails=16_000, bytes=61_200_000_000)
    bill_by_steps(landing.root, "2026-02", "2026-02-15")
    landing.use("acme", "2026-01-25", emails=2_000, delivered="2026-02-20")
    landing.request("acme", "upgrade", "2026-02-20T10:00:00Z", package="silver")
    assert bill(landing.root, "2026-03", "2026-03-15", profiles=True).status == 0
    assert not LONG or overage("verify", "--home", landing.root).output == ""
    return landing.root


@pytest.fixture
def issued(billed: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return shutil.copytree(billed, tmp_path / "home")


def change(home: Path, *statements: str) -> list[str]:
    """What `verify` says after somebody has changed the register itself, past its guards."""
    with closing(sqlite3.connect(home / "register.db")) as register, register:
        for (guard,) in register.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            register.execute(f"DROP TRIGGER {guard}")
        for statement in statements:
            register.execute(statement)
    ended = overage("verify", "--home", home)
    assert ended.status == 1
    return ended.output.splitlines()


def test_rows_of_the_register_that_were_changed_by_hand_are_named_by_their_pages(issued: Path) -> None:
    found = change(
        issued,
        "UPDATE documents SET content = replace(content, 'Acme', 'Acne') WHERE number = 'INV-2026-000001'",
        "UPDATE documents SET account_id = 'other', issued_on = '2026-02-16' WHERE number = 'INV-2026-000002'",
        "UPDATE documents SET net = net + 10000, total = total + 10000 WHERE number = 'INV-2026-000002'",
        "UPDATE lines SET description = 'A gift', quantity = '17000' WHERE number = 'INV-2026-000002' AND line = 2",
        "UPDATE lines SET metric = 'leads', cycle_end = NULL WHERE number = 'INV-2026-000002' AND line = 3",
        "UPDATE taxes SET name = 'VAT' WHERE number = 'INV-2026-000002'",
        "UPDATE lines SET line = 9 WHERE number = 'INV-2026-000003' AND line = 2",
        "UPDATE lines SET number = 'INV-2026-000009' WHERE number = 'INV-2026-000003' AND line = 1",
    )
    assert [text for text in found if text.startswith("INV-")] == [
        "INV-2026-000002: its lines add up to 108.00, its net says 109.00",
        "INV-2026-000003: its lines add up to 6.00, its net says 205.00",
        "INV-2026-000009: the register has lines of it and no such document",
        "INV-2026-000001: its stored content does not have the hash it was issued with",
        "INV-2026-000002: its page says account id 'acme', the register says 'other'",
        "INV-2026-000002: its page says issued on '2026-02-15', the register says '2026-02-16'",
        "INV-2026-000002: its page says net '108.00', the register says '109.00'",
        "INV-2026-000002: its page says total '118.80', the register says '119.80'",
        "INV-2026-000003 line 9: is in the register and not on its page",
        "INV-2026-000003 line 1: is on its page and not in the register",
        "INV-2026-000003 line 2: is on its page and not in the register",
        "INV-2026-000002 line 3: its page says metric 'bandwidth', the register says 'leads'",
        "INV-2026-000002 line 3: its page says cycle end '2026-02-10', the register says nothing",
        "INV-2026-000002 line 2: its page says quantity '16000', the register says '17000'",
        "INV-2026-000002 line 2: its page says description 'Emails over the allowance of Starter', the register says "
        "'A gift'",
        "INV-2026-000002: the taxes on its page are not those in the register",
    ]
    assert not [text for text in found if "None" in text]


def test_documents_that_were_taken_out_of_the_register_are_missed_in_the_lake(issued: Path) -> None:
    found = change(
        issued,
        "DELETE FROM files WHERE number = 'INV-2026-000003'",
        "DELETE FROM taxes WHERE number = 'INV-2026-000003'",
        "DELETE FROM lines WHERE number = 'INV-2026-000003'",
        "DELETE FROM documents WHERE number = 'INV-2026-000003'",
    )
    assert "lake/documents of 2026-03: the register says otherwise: bill that month again" in found


def test_what_no_page_says_but_the_next_bill_depends_on_is_verified(issued: Path) -> None:
    found = change(
        issued,
        "UPDATE lines SET due_on = '2026-01-01' WHERE number = 'INV-2026-000003' AND line = 2",
        "UPDATE lines SET due_kind = 'package_fee' WHERE number = 'INV-2026-000002' AND line = 2",
        "UPDATE documents SET is_scheduled = 0 WHERE number = 'INV-2026-000001'",
        "UPDATE closed_dates SET opening_package = 'gold' WHERE billing_date = '2026-01-10'",
        "UPDATE closed_dates SET closing_package = 'gold' WHERE billing_date = '2026-02-10'",
        "DELETE FROM closed_dates WHERE billing_date = '2026-03-10'",
        "UPDATE issued_months SET closed_through = '2026-02-01' WHERE billing_month = '2026-02'",
    )
    told = [text for text in found if text.startswith(("INV-", "register:"))]
    assert told[0].startswith("register: the database no longer guards what was issued: it lacks ")
    assert "closed_dates_never_change" in told[0]
    assert told[1:] == [
        "INV-2026-000001: the register has it as scheduled and as a correction, or as neither",
        "INV-2026-000002 line 2: the register has it as package_fee due on 2026-02-10, but it is of another date or "
        "kind",
        "INV-2026-000003 line 2: the register has it as overage due on 2026-01-01, but it is of another date or kind",
        "INV-2026-000003: the register does not have its billing date as closed",
        "INV-2026-000001 line 1: it bills the package starter, the closed billing date says gold",
        "INV-2026-000002 line 2: it bills the package starter, the closed billing date says gold",
        "INV-2026-000002 line 3: it bills the package starter, the closed billing date says gold",
        "register: 2026-02 is closed through 2026-02-01, and 2026-02-10 of acme/2026-01-10 is closed",
    ]


def test_a_table_of_the_open_month_is_computed_again_as_of_the_last_run(issued: Path) -> None:
    paths = [issued / "lake" / table / "billing_month=2026-03" / f"{table}.parquet" for table in OF_THE_MONTH]
    for path in paths:
        rows = pl.read_parquet(path, hive_partitioning=False)
        rows.slice(1).write_parquet(path)
    ended = overage("verify", "--home", issued)
    assert ended.status == 1
    assert {path for path in paths if f"{path}: has other rows than its inputs give" in ended.output} == set(paths)


def test_what_accounts_owe_is_computed_again(issued: Path) -> None:
    paths = {issued / "lake" / table / f"{table}.parquet": column for table, column in OF_ACCOUNTS.items()}
    for path, column in paths.items():
        rows = pl.read_parquet(path, hive_partitioning=False)
        changed = pl.lit("other") if rows.schema[column] == pl.String else pl.col(column) + 1
        rows.with_columns(changed.cast(rows.schema[column]).alias(column)).write_parquet(path)
    ended = overage("verify", "--home", issued)
    assert ended.status == 1
    assert ended.output.splitlines() == [
        f"{path}: has other rows than register and payments give: take it away, and bill the last month again"
        for path in paths
    ]
