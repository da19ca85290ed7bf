"""M08 and M09 through the command line: tokens by model, and a percentage of payments (rule 34)."""

import json
from pathlib import Path

from tests.billing.month.token_business import TokenBusiness
from tests.pipeline.outside import bill, one, overage, show
from tests.sizes import LONG

CATALOGUE = """\
currency: USD
seller: {name: Example, address: ["1 Example Street"], country: US}
metrics:
  tokens: {event: llm.used, kind: counter, measure: sum, value: data.tokens, by: {model: data.model, kind: data.kind}}
  payments: {event: payment.taken, kind: counter, measure: sum, value: data.amount}
packages:
  - name: starter
    rank: 1
    versions:
      - effective_from: 2026-01-01
        price: {monthly: "99.00"}
        allowances: {tokens: 1000, payments: 0}
        overage:
          tokens:
            {model: block, size: 1000, price: "1.00", by: [
              {when: {model: large}, model: graduated, tiers: [{up_to: null, unit_price: "0.002"}]}]}
          payments: {model: percentage, percent: "2.9", per_event: "0.30"}
"""


def test_m08_and_m09(tmp_path: Path) -> None:
    landing = TokenBusiness(tmp_path, CATALOGUE)
    landing.customer("m08")
    landing.use_tokens("m08", 5000, model="large")
    landing.use_tokens("m08", 2500, model="small")
    landing.customer("m09")
    landing.take("m09", "100.00", "50.00", "19.99")
    ended = bill(landing.root, "2026-02", "2026-02-10")
    assert ended.status == 0, ended.messages

    tokens = one(show(landing.root, "documents", "--account", "m08", billing_date="2026-02-10"))
    assert tokens["total"] == "111.00"
    lines = show(landing.root, "lines", number=tokens["number"])
    assert [(line["rule"], line["amount"]) for line in lines] == [
        (None, "99.00"),
        (None, "2.00"),
        ("model=large", "10.00"),
    ]
    explained = json.loads(overage("explain", tokens["number"], "--format", "json", "--home", landing.root).output)
    told = {line["rule"]: line for line in explained if line["metric"]}
    assert told["model=large"]["arithmetic"][-1] == "together 10.00"
    assert [event["quantity"] for event in told["model=large"]["events"]] == ["5000"]
    usage = show(landing.root, "usage", "--account", "m08", metric="tokens")
    assert [(row["rule"], row["quantity"], row["events"]) for row in usage] == [
        (None, "2500", 1),
        ("model=large", "5000", 1),
    ]

    payments = one(show(landing.root, "documents", "--account", "m09", billing_date="2026-02-10"))
    charge = one(show(landing.root, "charges", "--account", "m09", metric="payments"))
    assert (charge["quantity"], charge["amount"], payments["total"]) == ("169.99", "5.83", "104.83")

    landing.use_tokens("m08", 1000, "2026-01-21", delivered="2026-02-15", model="large")
    landing.take("m09", "0.01", on="2026-01-21", delivered="2026-02-15")
    how = ("--as-of", "2026-02-20", "--reason", "Late usage", "--home", landing.root)
    corrected = overage("correct", "2026-02", *how, profiles=LONG)
    assert corrected.status == 0, corrected.messages
    notes = {row["account_id"]: row for row in show(landing.root, "documents", kind="debit_note")}
    assert {name: row["total"] for name, row in notes.items()} == {"m08": "2.00", "m09": "0.30"}
    adjusted = one(show(landing.root, "lines", number=notes["m08"]["number"]))
    assert (adjusted["kind"], adjusted["metric"], adjusted["rule"]) == ("adjustment", "tokens", "model=large")
    assert adjusted["description"] == "Tokens (model large): 12.00 due, 10.00 billed before"
    if not LONG:
        # a correction of any tariff is made once, and verified: other tests
        return
    again = overage("correct", "2026-02", "--as-of", "2026-02-20", "--reason", "Again", "--home", landing.root)
    assert again.status == 0
    assert len(show(landing.root, "documents", kind="debit_note")) == 2
    assert overage("verify", "--home", landing.root).output == ""


def test_trying_a_file_shows_the_dimensions_of_its_events(tmp_path: Path) -> None:
    landing = TokenBusiness(tmp_path / "home", CATALOGUE)
    landing.customer("acme")
    file = tmp_path / "usage.csv"
    file.write_text(
        "id,source,type,subject,time,value,data.model\n"
        "1,/a,llm.used,acme,2026-01-20T12:00:00Z,5,large\n"
        "2,/a,llm.used,acme,2026-01-20T12:00:00Z,6,\n"
    )
    found = json.loads(overage("try", file, "--format", "json", "--home", landing.root).output)
    shown = [{name: value for name, value in event.items() if "." in name} for event in found["events"]]
    assert shown == [{"data.model": "large", "data.tokens": "5"}, {"data.tokens": "6"}]
