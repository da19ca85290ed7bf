"""A business that sells everything beside packages, from coupons to credits."""

import re
from pathlib import Path
from typing import Final

from billing.starter import starter_catalogue
from tests.landing import ACCOUNT_HEADER, Landing, event

OFFERS: Final = """
coupons:
  - {name: spring, title: {en: Spring offer, de: Frühlingsangebot, ja: 春の割引}, percent: "10", documents: 3}
  - {name: tenner, title: Ten off, amount: "10.00", priority: 200}
add_ons:
  - name: more_emails
    title: {en: More emails, de: Mehr E-Mails, ja: メール追加}
    versions: [{effective_from: 2026-01-01, price: {monthly: "30.00"}, allowances: {emails: 50000}, maximum: 5}]
agreements:
  - account_id: least
    package: starter
    effective_from: 2026-01-01
    minimum_spend: {amount: "200.00", counts: [package_fee, overage]}
  - account_id: short
    package: starter
    effective_from: 2026-01-01
    minimum_spend: {amount: "200.00", counts: [package_fee, overage]}
  - account_id: whole
    package: silver
    effective_from: 2026-01-01
    minimum_spend: {amount: "500.00"}
"""
CHARGES: Final = """charge_id,account_id,on,description,quantity,unit_price,amount,at_once,reason
set-up,usual,2026-01-20,Set-up,1,250.00,,,
hours,usual,2026-01-25,Consulting,3,40.00,,,
sorry,usual,2026-02-01,Outage in January,,,-20.00,,credit
alone,own,2026-01-20,Training,,,80.00,true,
whole-set-up,whole,2026-02-01,Set-up,3,10.00,,,
"""
GRANTS: Final = (
    "grant_id,account_id,amount,currency,granted_on,expires_on,kind\nwelcome,usual,50.00,USD,2026-02-01,,granted\n"
)
TAX: Final = "country,region,rate,name,effective_from\nUS,,0.20,Sales tax,2024-01-01\n"
DAYS: Final = (
    ("2026-01", "2026-01-10"),
    ("2026-01", "2026-01-31"),
    ("2026-02", "2026-02-28"),
    ("2026-03", "2026-03-31"),
)


def sold_catalogue() -> str:
    """The starting catalogue with seats in every package, upgrades at once, and `OFFERS`."""
    text = starter_catalogue().replace("policy:\n", "policy:\n  requested_upgrades: at_once\n", 1)
    users = "{event: users.changed, kind: gauge, carries: level, value: data.level, charged: in_advance}"
    text = text.replace("metrics:\n", f"metrics:\n  users: {users}\n", 1)
    text = re.sub(r"(?m)^( +)(allowances: *\{)", r"\1\2users: null, ", text)
    seats = '{metric: users, included: 5, price: "12.00"}'
    return re.sub(r"(?m)^( +)overage:$", rf"\1seats: {seats}\n\1overage:", text) + OFFERS


def level(landing: Landing, account: str, users: int, at: str, delivered: str = "") -> None:
    landing.written += 1
    row = event(f"users-{landing.written}", account, "users.changed", {"level": users}, at)
    landing.deliver([row], delivered or at[:10])


def sold_landing(root: Path) -> Landing:
    """The landing folder of the business, from January to March 2026.

    usual: a coupon with its subscription and one later, an add-on, charges and a credit by hand, seats, a grant.
    upgraded: from starter to silver at once on 20 January. least, short: minimum spends (short is cancelled).
    own: a charge at once. whole: everything on one document, on 10 February; german and japanese likewise.
    """
    landing = Landing(root, sold_catalogue())
    (landing.folder / "accounts.csv").write_text(f"{ACCOUNT_HEADER}\n")
    landing.customer("usual", coupon="spring")
    landing.request("usual", "redeem", "2026-01-11T09:00:00Z", "self_service", coupon="tenner")
    landing.request("usual", "add", "2026-01-20T09:00:00Z", "self_service", add_on="more_emails", quantity=2)
    landing.use("usual", "2026-02-20", emails=116_001)
    level(landing, "usual", 8, "2026-02-09T10:00:00Z")
    level(landing, "usual", 10, "2026-02-20T10:00:00Z")
    landing.customer("upgraded")
    landing.use("upgraded", emails=20_000)
    landing.request("upgraded", "upgrade", "2026-01-20T10:00:00Z", "self_service", package="silver")
    for name in ("least", "short", "own"):
        landing.customer(name)
    landing.use("least", emails=27_350)
    landing.request("short", "cancel", "2026-01-25T09:00:00Z", "email")
    landing.customer("whole", coupon="spring")
    landing.request("whole", "upgrade", "2026-01-20T10:00:00Z", "self_service", package="silver")
    landing.request("whole", "redeem", "2026-01-11T09:00:00Z", "self_service", coupon="tenner")
    landing.request("whole", "add", "2026-01-20T11:00:00Z", "self_service", add_on="more_emails", quantity=2)
    landing.use("whole", emails=130_000)
    level(landing, "whole", 8, "2026-01-15T10:00:00Z")
    (landing.folder / "one_off_charges.csv").write_text(CHARGES)
    (landing.folder / "credit_grants.csv").write_text(GRANTS)
    (landing.folder / "tax_rates.csv").write_text(TAX)
    return landing
