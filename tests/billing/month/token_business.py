"""A business that sells tokens of language models by model and kind, and takes a percentage of payments."""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.landing import Landing, event

LARGE = '{when: {model: large}, model: graduated, tiers: [{up_to: null, unit_price: "0.002"}]}'
CATALOGUE = """\
currency: USD
time_zone: UTC
seller: {name: Example, address: ["1 Example Street"], country: US}
policy: {billing_start: 2026-01-01}
metrics:
  tokens: {event: llm.used, kind: counter, measure: sum, value: data.tokens, by: {model: data.model, kind: data.kind}}
  calls: {event: llm.used, kind: counter, measure: count, by: {model: data.model}}
  payments: {event: payment.taken, kind: counter, measure: sum, value: data.amount}
packages:
  - name: starter
    rank: 1
    versions:
      - effective_from: 2026-01-01
        price: {monthly: "99.00"}
        allowances: {tokens: 1000, calls: null, payments: 0}
        overage:
          tokens: {model: block, size: 1000, price: "1.00", by: [RULES]}
          payments: {model: percentage, percent: "2.9", per_event: "0.30"}
"""
TERMS = re.compile(r"      - effective_from: .*\Z", re.DOTALL)


def catalogue(rules: str = LARGE, **replaced: str) -> str:
    """The catalogue with these rules of tokens; `replaced` by what it says instead of its other words."""
    text = CATALOGUE.replace("RULES", rules)
    for words, others in replaced.items():
        before = {"payments": 'percent: "2.9", per_event: "0.30"', "allowance": "tokens: 1000"}[words]
        assert before in text
        text = text.replace(before, others)
    return text


def customers(root: Path, text: str | None = None, *names: str) -> Landing:
    landing = Landing(root, catalogue=text or catalogue())
    for name in names or ("acme",):
        landing.customer(name)
    return landing


def tokens(
    landing: Landing, number: int, account: str = "acme", on: str = "2026-01-20", *, delivered: str = "", **data: object
) -> None:
    """An event of so many tokens; `data` are its dimensions."""
    landing.written += 1
    row = event(f"event-{landing.written}", account, "llm.used", {"tokens": number, **data}, f"{on}T12:00:00Z")
    landing.deliver([row], delivered or on)


def payment(landing: Landing, amount: str, account: str = "acme", on: str = "2026-01-20", delivered: str = "") -> None:
    landing.written += 1
    data: Mapping[str, object] = {"amount": amount}
    row = event(f"event-{landing.written}", account, "payment.taken", data, f"{on}T12:00:00Z")
    landing.deliver([row], delivered or on)
