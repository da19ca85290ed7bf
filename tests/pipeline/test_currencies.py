"""Four currencies in one home through the command line (rule 36)."""

import json
from pathlib import Path

import pytest

from tests.pipeline import outside
from tests.pipeline.outside import bill, overage, show
from tests.several_currencies import four_customers
from tests.sizes import LONG


def test_four_currencies_in_one_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "LEFT_OUT", ())
    home = four_customers(tmp_path)
    (home.folder / "exchange_rates.csv").write_text("on,currency,to,rate\n2026-01-01,EUR,USD,1.1\n")
    ended = bill(home.root, "2026-02", "2026-02-28")
    assert ended.status == 0, ended.messages
    documents = show(home.root, "documents", billing_date="2026-02-10")
    assert [(row["account_id"], row["currency"], row["total"]) for row in documents] == [
        ("eur", "EUR", "94.50"),
        ("jpy", "JPY", "15900"),
        ("kwd", "KWD", "32.405"),
        ("usd", "USD", "105.00"),
    ]
    balances = {row["account_id"]: (row["currency"], row["outstanding"]) for row in show(home.root, "balances")}
    assert balances["kwd"] == ("KWD", "62.960")
    assert balances["jpy"] == ("JPY", "30900")
    profile = {row["account_id"]: (row["currency"], row["upcoming_amount"]) for row in show(home.root, "profile")}
    assert profile["kwd"] == ("KWD", "30.555")
    page = (home.root / "reports" / "2026-02.html").read_text()
    assert "Without a rate to USD, and so not in the total: JPY, KWD." in page
    assert "amounts in EUR, JPY, KWD, USD" in (home.root / "profiles" / "index.html").read_text()
    explained = overage("explain", documents[2]["number"], "--format", "json", "--home", home.root)
    assert [line["arithmetic"][-1] for line in json.loads(explained.output) if line["metric"]] == ["2 x 0.925 = 1.850"]
    if LONG:
        verified = overage("verify", "--home", home.root)
        assert verified.status == 0, verified.messages
    monkeypatch.undo()
    for account in ("kwd", "jpy"):
        home.use(account, "2026-02-05", emails=1000, delivered="2026-03-01")
    corrected = overage("correct", "2026-02", "--as-of", "2026-03-01", "--reason", "Late usage", "--home", home.root)
    assert corrected.status == 0, corrected.messages
    assert "debit notes: 1, JPY 450 more due" in corrected.messages
    assert "debit notes: 1, KWD 0.925 more due" in corrected.messages
