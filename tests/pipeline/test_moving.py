"""The commands of a move, as a person types them."""

import json
from pathlib import Path

from tests.billing.month.test_moving_in import catalogue
from tests.pipeline.outside import Landing, bill, one, overage, show


def test_a_business_moves_in_is_compared_and_billed(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home", catalogue=catalogue())
    old = tmp_path / "old.csv"
    old.write_text(
        "account_id,name,country,package,started_on,billed_through,balance,reference\n"
        "acme,Acme Inc.,US,starter,2023-05-10,2026-02-10,120.50,OLD-1\n"
    )
    landing.use("acme", "2026-01-12", emails=27_350)
    as_of = ("--as-of", "2026-02-10", "--home", landing.root)
    ended = overage("move-in", old, "--format", "json", *as_of)
    assert ended.status == 0, ended.messages
    moved = json.loads(ended.output)
    assert (moved["counts"], one(moved["drafts"])["total"]) == (
        {"accounts": 1, "requests": 1, "opening_balances": 1},
        "138.00",
    )
    assert "1 account, 1 request, 1 opening balance; written: opening_balances/move-in-" in ended.messages
    again = overage("move-in", old, *as_of)
    assert (again.status, again.output) == (2, "")
    assert "expected a new account" in again.messages

    invoices = tmp_path / "invoices.csv"
    invoices.write_text("account_id,kind,amount\nacme,package_fee,99.00\nacme,overage,42.00\n")
    ended = overage("compare-invoices", invoices, "--format", "json", *as_of)
    assert ended.status == 0, ended.messages
    assert [(row["kind"], row["difference"]) for row in json.loads(ended.output)] == [("overage", "-3.00")]
    assert "1 difference in 1 account" in ended.messages
    invoices.write_text("account_id,kind,amount\nother,package_fee,99.00\n")
    ended = overage("compare-invoices", invoices, "--month", "2026-02", *as_of)
    assert "1 account billed here and not in invoices.csv: acme" in ended.messages
    assert not (landing.root / "lake").exists(), "nothing is billed by looking at it"

    assert bill(landing.root, "2026-02", "2026-02-10", profiles=True).status == 0
    balance = one(show(landing.root, "balances"))
    assert (balance["opening"], balance["invoiced"], balance["outstanding"]) == ("120.50", "138.00", "258.50")
    postings = show(landing.root, "journal", kind="opening_balance")
    assert [(row["ledger_account"], row["debit"]) for row in postings] == [
        ("opening_balances", "0.00"),
        ("receivable", "120.50"),
    ]


def test_payments_of_a_statement_are_added_once(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home", catalogue=catalogue())
    landing.customer("acme", on="2026-02-03")
    assert bill(landing.root, "2026-02", "2026-02-10").status == 0
    statement = tmp_path / "statement.csv"
    statement.write_text("payment_id,at,amount,currency,text\na,2026-02-12,99.00,USD,INV-2026-000001\nb,x,1,USD,\n")
    how = ("--format", "csv", "--home", landing.root)
    ended = overage("import-payments", statement, "--json", *how)
    assert ended.status == 0, ended.messages
    found = json.loads(ended.output)
    assert (found["matched"], [each["row"] for each in found["unmatched"]]) == ({"number": 1}, [2])
    assert "1 payment added (1 by number): payments/import-csv-" in ended.messages
    again = overage("import-payments", statement, *how)
    assert "0 payments added\n1 known already, 1 not matched" in again.messages
    assert bill(landing.root, "2026-02", "2026-02-28", profiles=True).status == 0
    assert one(show(landing.root, "balances"))["paid"] == "99.00"
    assert (
        overage("import-payments", statement, "--map", statement, "--format", "stripe", "--home", landing.root).status
        == 2
    )
