"""A business that sells tokens of language models by model and kind, and takes a percentage of payments."""

from pathlib import Path

from tests.landing import Landing, event

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
        allowances: {tokens: 1000, calls: 3, payments: 0}
        overage:
          tokens:
            model: block
            size: 1000
            price: "1.00"
            by:
              - when: {model: large}
                model: graduated
                tiers: [{up_to: null, unit_price: "0.002"}]
              - when: {model: large, kind: [output, cached]}
                allowance: 100
                tariff: {model: volume, tiers: [{up_to: 1000, unit_price: "0.01"}, {up_to: null, unit_price: "0.005"}]}
              - {when: {model: [4, true]}, model: block, size: 1, price: "0.10", minimum: "2.00", maximum: "5.00"}
              - {when: {model: gift}, name: Free of charge, allowance: null, tariff: none}
          calls: {model: block, size: 1, price: "0.50", by: [{when: {model: large}, model: block, size: 1, price: "1"}]}
          payments: {model: percentage, percent: "2.9", per_event: "0.30"}
      - effective_from: 2026-01-25
        price: {monthly: "99.00"}
        allowances: {tokens: 1000, calls: 3, payments: 100}
        overage:
          tokens:
            {model: block, size: 1000, price: "1.00", by: [{when: {model: small}, model: block, size: 1, price: "1"}]}
          calls: none
          payments: {model: percentage, percent: "2.9", per_event: "0.30", free_events: 2, minimum: "1.00"}
  - name: growing
    rank: 2
    versions:
      - effective_from: 2026-01-01
        price: {monthly: "10.00"}
        allowances: {tokens: 100, calls: null, payments: null}
        overage:
          tokens: {model: block, size: 1, price: "0", by: [{when: {model: large}, model: block, size: 1, price: "0"}]}
        auto_upgrade_on: [tokens]
  - name: grown
    rank: 3
    versions:
      - effective_from: 2026-01-01
        price: {monthly: "20.00"}
        allowances: {tokens: 200, calls: null, payments: null}
        overage: {tokens: none}
agreements:
  - account_id: agreed
    package: starter
    effective_from: 2026-01-01
    overage:
      tokens:
        model: block
        size: 1
        price: "0"
        by: [{when: {kind: x}, allowance: 1, model: block, size: 1, price: "7"}]
"""


class TokenBusiness(Landing):
    """Its landing folder: tokens used, and payments taken."""

    def __init__(self, root: Path, catalogue: str = CATALOGUE) -> None:
        super().__init__(root, catalogue)

    def use_tokens(
        self, account: str, number: int, on: str = "2026-01-20", *, delivered: str = "", **dimensions: object
    ) -> None:
        self.written += 1
        data = {"tokens": number, **dimensions}
        self.deliver([event(f"event-{self.written}", account, "llm.used", data, f"{on}T12:00:00Z")], delivered or on)

    def take(self, account: str, *amounts: str, on: str = "2026-01-20", delivered: str = "") -> None:
        for amount in amounts:
            self.written += 1
            row = event(f"event-{self.written}", account, "payment.taken", {"amount": amount}, f"{on}T12:00:00Z")
            self.deliver([row], delivered or on)
