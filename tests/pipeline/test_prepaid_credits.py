"""M07 through the command: grants pay documents in their order, and everything agrees (rule 33)."""

import re
from pathlib import Path

import yaml

from tests.landing import Landing
from tests.pipeline.outside import bill, one, overage, show
from tests.sizes import LONG

GRANTS = """grant_id,account_id,amount,currency,granted_on,expires_on,kind,priority,description
gift,m07,50.00,USD,2026-01-05,,granted,,Welcome
first,two,30.00,USD,2026-01-05,,granted,,
second,two,50.00,USD,2026-01-06,,granted,,
given,bought,30.00,USD,2026-01-06,2026-02-01,granted,,
fund,bought,70.00,USD,2026-01-03,,purchased,,Credit for the year
"""


def test_m07(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    path = landing.folder / "catalogue.yaml"
    catalogue = yaml.safe_load(path.read_text())
    catalogue["agreements"] = [
        {"account_id": name, "package": "starter", "effective_from": "2026-01-01", "price": {"monthly": price}}
        for name, price in (("two", "60.00"), ("bought", "80.00"))
    ]
    path.write_text(yaml.safe_dump(catalogue))
    for name in ("m07", "two", "bought"):
        landing.customer(name)
    (landing.folder / "credit_grants.csv").write_text(GRANTS)
    assert bill(landing.root, "2026-01", "2026-01-05").status == 0
    prepayment = one(show(landing.root, "documents"))
    assert (prepayment["account_id"], prepayment["total"], prepayment["subscription_id"]) == ("bought", "70.00", None)
    assert prepayment["tax"] == "0.00"
    landing.pay("bought", prepayment["number"], "70.00", "2026-01-08T10:00:00Z")
    ended = bill(landing.root, "2026-02", "2026-02-10", report=True)
    assert ended.status == 0, ended.messages

    documents = show(landing.root, "documents")
    amounts = {
        (each["account_id"], each["billing_date"]): (
            each["total"],
            each["credits_applied"],
            each["due"],
            each["status"],
        )
        for each in documents
    }
    assert amounts["m07", "2026-01-10"] == ("99.00", "50.00", "49.00", "open")
    assert amounts["m07", "2026-02-10"] == ("99.00", "0.00", "99.00", "open")
    assert amounts["two", "2026-01-10"] == ("60.00", "60.00", "0.00", "paid")
    assert amounts["two", "2026-02-10"] == ("60.00", "20.00", "40.00", "open")
    assert amounts["bought", "2026-01-10"] == ("80.00", "80.00", "0.00", "paid")
    numbers = {(each["account_id"], each["billing_date"]): each["number"] for each in documents}
    paid = {
        (row["number"], row["source"]): row["amount"]
        for row in show(landing.root, "allocations")
        if row["source_kind"] == "grant"
    }
    first, bought = numbers["two", "2026-01-10"], numbers["bought", "2026-01-10"]
    assert (paid[first, "first"], paid[first, "second"]) == ("30.00", "30.00")
    assert (paid[bought, "given"], paid[bought, "fund"]) == ("30.00", "50.00")
    left = {row["grant_id"]: (row["used"], row["expired"], row["left"]) for row in show(landing.root, "credits")}
    assert left["second"] == ("50.00", "0.00", "0.00")
    assert left["fund"] == ("70.00", "0.00", "0.00")
    assert left["gift"] == ("50.00", "0.00", "0.00")
    balance = one(show(landing.root, "balances", "--account", "two"))
    assert (balance["invoiced"], balance["credits_applied"], balance["outstanding"]) == ("120.00", "80.00", "40.00")
    explained = overage("explain", first, "--home", landing.root).output
    assert "30.00 by first: granted on 2026-01-05, never expires, priority 100" in explained
    report = (landing.root / "reports" / "2026-01.html").read_text()
    assert re.search("Prepaid credits, left on 2026-01-31", report)
    if LONG:
        # tests/life_story verifies homes with grants
        verified = overage("verify", "--home", landing.root)
        assert verified.status == 0, verified.output
