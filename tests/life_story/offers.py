"""What a business of a story sells beside packages, and what its accounts ask for: switched on at random by its seed.

Nothing of the product is used here.
"""

import csv
import io
import random
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

Json = dict[str, Any]
Money = Callable[[str], str]
FEATURES: Final = (
    "coupons",
    "charges",
    "add_ons",
    "minimum_spend",
    "dimensions",
    "percentage",
    "seats",
    "at_once",
    "credits",
)
MODELS: Final = ("small", "large", "Large")
CURRENCIES: Final = "currencies"
"""A feature of its own: some accounts have a second currency."""
TOKEN_KINDS: Final = ("input", "output", "cached")


def features_of(rng: random.Random) -> frozenset[str]:
    """What a business uses of FEATURES."""
    return frozenset(name for name in FEATURES if rng.random() < 0.7)


def add_offers(rng: random.Random, catalogue: Json, features: frozenset[str], money: Money) -> None:
    """Put what a business sells beside packages into its catalogue."""
    if "dimensions" in features:
        _add_tokens(rng, catalogue, money)
    if "percentage" in features:
        _add_sales(rng, catalogue, money)
    if "seats" in features:
        _add_users(rng, catalogue, money)
    if "minimum_spend" in features:
        _add_minimums(rng, catalogue, money)
    if "add_ons" in features:
        _add_add_ons(rng, catalogue, money)
    if "coupons" in features:
        catalogue["coupons"] = [_coupon(rng, number, catalogue, money) for number in range(6)]
    if "at_once" in features:
        catalogue["policy"]["requested_upgrades"] = "at_once"


def _versions(catalogue: Json) -> list[tuple[int, Json]]:
    return [(package["rank"], version) for package in catalogue["packages"] for version in package["versions"]]


def _add_tokens(rng: random.Random, catalogue: Json, money: Money) -> None:
    catalogue["metrics"]["tokens"] = {
        "event": "tokens",
        "kind": "counter",
        "measure": "sum",
        "value": "data.value",
        "by": {"model": "data.model", "kind": "data.kind"},
    }
    for rank, version in _versions(catalogue):
        version["allowances"]["tokens"] = 1000 * rank
        rules: list[Json] = [
            {
                "when": {"model": "large"},
                "model": "graduated",
                "tiers": [
                    {"up_to": 2000, "unit_price": money("0.0021"), "flat": "0"},
                    {"up_to": None, "unit_price": money("0.0013"), "flat": money("0.25")},
                ],
            },
            {
                "when": {"model": "large", "kind": ["output", "cached"]},
                "allowance": str(100 * rank),
                "model": "block",
                "size": 100,
                "price": money("0.37"),
                "minimum": money("1"),
            },
        ]
        if rng.random() < 0.5:
            rules.append(
                {
                    "name": "input of any other model",
                    "when": {"kind": "input", "model": ["small", "Large"]},
                    "model": "block",
                    "size": 500,
                    "price": money("0.5"),
                    "maximum": money("2.5"),
                }
            )
        version["overage"]["tokens"] = {"model": "block", "size": 1000, "price": money("0.9"), "by": rules}


def _add_sales(rng: random.Random, catalogue: Json, money: Money) -> None:
    catalogue["metrics"]["sales"] = {"event": "sales", "kind": "counter", "measure": "sum", "value": "data.value"}
    for rank, version in _versions(catalogue):
        version["allowances"]["sales"] = rng.choice([0, 100 * rank, None if rank == 3 else 50])
        tariff: Json = {"model": "percentage", "percent": "2.9", "per_event": money("0.3")}
        if rng.random() < 0.5:
            tariff["free_events"] = rng.choice([1, 3])
        if rng.random() < 0.3:
            tariff |= {"minimum": money("1"), "maximum": money("5")}
        version["overage"]["sales"] = tariff


def _add_users(rng: random.Random, catalogue: Json, money: Money) -> None:
    catalogue["metrics"]["users"] = {
        "event": "users",
        "kind": "gauge",
        "measure": "peak",
        "value": "data.value",
        "carries": "level",
        "charged": "in_advance",
    }
    graduated = {
        "model": "graduated",
        "tiers": [{"up_to": 3, "unit_price": money("7")}, {"up_to": None, "unit_price": money("5.55")}],
    }
    volume = {
        "model": "volume",
        "tiers": [
            {"up_to": 4, "unit_price": money("6"), "flat": money("1")},
            {"up_to": None, "unit_price": money("5.1")},
        ],
    }
    for rank, version in _versions(catalogue):
        version["allowances"]["users"] = None
        seats: Json = {"metric": "users", "included": rank}
        seats |= rng.choice([{"price": money("12")}, {"price": money("12")}, {"tariff": graduated}, {"tariff": volume}])
        version["seats"] = seats


def _add_minimums(rng: random.Random, catalogue: Json, money: Money) -> None:
    kinds = ["package_fee", "overage", "add_on", "seats"]
    for rank, version in _versions(catalogue):
        if rng.random() < 0.6:
            counts = rng.choice([kinds, ["package_fee", "overage"], ["overage"], rng.sample(kinds, 3)])
            version["minimum_spend"] = {"amount": money(str(37 * rank)), "counts": counts}
    if catalogue["agreements"] and rng.random() < 0.5:
        catalogue["agreements"][0]["minimum_spend"] = {"amount": money("61"), "counts": kinds}


def _add_add_ons(rng: random.Random, catalogue: Json, money: Money) -> None:
    monthly_only = catalogue["policy"]["billing_anchor"] == "first_of_month"

    def version(since: str, price: str, allowances: Json, maximum: int | None) -> Json:
        prices = {"monthly": money(price)}
        if not monthly_only:
            prices["yearly"] = money(str(Decimal(price) * 10))
        found: Json = {"effective_from": since, "price": prices, "allowances": allowances}
        return found if maximum is None else found | {"maximum": maximum}

    later = (date(2024, 3, 1) + timedelta(rng.randint(0, 500))).isoformat()
    catalogue["add_ons"] = [
        {
            "name": "boost",
            "versions": [
                version("2024-01-01", "6.5", {"emails": 700, "leads": 500, "calls": 2}, 5),
                version(later, "7.25", {"emails": 900, "leads": 500, "calls": 2}, 4),
            ],
        },
        {"name": "dedicated", "versions": [version("2024-01-01", "11", {}, None)]},
        {"name": "endless", "versions": [version("2024-01-01", "23", {"visitors": None, "domains": 1}, 1)]},
    ]
    if rng.random() < 0.5:
        catalogue["packages"][1]["add_ons"] = ["boost", "dedicated"]


def _coupon(rng: random.Random, number: int, catalogue: Json, money: Money) -> Json:
    coupon: Json = {"name": f"coupon-{number}"}
    if rng.random() < 0.6:
        coupon["percent"] = rng.choice(["10", "33.3", "100", "5"])
    else:
        coupon["amount"] = money(rng.choice(["10", "4", "250"]))
    if rng.random() < 0.6:
        kinds = ["package_fee", "overage", "overage.emails", "overage.calls", "charge", "minimum_spend", "seats"]
        if "add_ons" in catalogue:
            kinds += ["add_on", "add_on.boost"]
        coupon["applies_to"] = rng.sample(kinds, rng.randint(1, 4))
    if rng.random() < 0.25:
        coupon["packages"] = rng.sample(["small", "medium", "large"], rng.randint(1, 2))
    if rng.random() < 0.6:
        coupon["documents"] = rng.choice([1, 2, 3])
    if rng.random() < 0.2:
        coupon["redeem_until"] = (date(2024, 2, 1) + timedelta(rng.randint(0, 500))).isoformat()
    if rng.random() < 0.5:
        coupon["redemptions"] = {"account": rng.choice([1, 2])}
        if rng.random() < 0.4:
            coupon["redemptions"]["all"] = rng.choice([2, 5])
    if rng.random() < 0.4:
        coupon["priority"] = rng.choice([10, 200])
    return coupon


def likely_kinds(features: frozenset[str]) -> dict[str, int]:
    """Kinds of requests that the features bring, and their weights."""
    kinds: dict[str, int] = {}
    if "coupons" in features:
        kinds |= {"redeem": 24, "revoke": 7}
    if "add_ons" in features:
        kinds |= {"add": 24, "remove": 8}
    return kinds


def complete(rng: random.Random, request: Json, catalogue: Json) -> None:
    """Put what a request about offers needs into it."""
    coupons = [coupon["name"] for coupon in catalogue.get("coupons", ())]
    add_ons = [add_on["name"] for add_on in catalogue.get("add_ons", ())]
    kind = request["kind"]
    if kind in ("redeem", "revoke"):
        request["coupon"] = "nobody's" if rng.random() < 0.02 else rng.choice(coupons)
    if kind in ("add", "remove"):
        request["add_on"] = rng.choice(add_ons)
    if kind == "add" and rng.random() < 0.8:
        request["quantity"] = rng.randint(1, 5)
    if kind == "subscribe":
        if coupons and rng.random() < 0.4:
            request["coupon"] = rng.choice(coupons)
        if add_ons and rng.random() < 0.3:
            request["add_ons"] = {name: rng.randint(1, 4) for name in rng.sample(add_ons, rng.randint(1, 2))}


def charges_of(
    rng: random.Random, account_id: str, start: date, last_day: date, money: Money
) -> list[tuple[date, Json]]:
    """One-off charges of an account, and the day on which each is written: now and then long after its own."""
    found: list[tuple[date, Json]] = []
    for number in range(rng.choice([0, 0, 1, 2, 4])):
        on = start + timedelta(rng.randint(-20, max((last_day - start).days, 1)))
        if rng.random() < 0.3:
            on = on.replace(day=min(start.day, 28))
        if on > last_day:
            continue
        row: Json = {
            "charge_id": f"{account_id}-charge-{number}",
            "account_id": account_id,
            "on": on.isoformat(),
            "description": f"Work {number}",
            "quantity": "",
            "unit_price": "",
            "amount": "",
            "tax_category": "",
            "coupon_allowed": rng.choice(["", "true", "false"]),
            "at_once": "true" if rng.random() < 0.25 else "",
            "reason": "",
        }
        if rng.random() < 0.3:
            row |= {"quantity": "2.5", "unit_price": money("4.4")}
        elif rng.random() < 0.3:
            row |= {"amount": money(rng.choice(["-7", "-90"])), "reason": "goodwill"}
        else:
            row["amount"] = money(rng.choice(["25", "3", "140"]))
        if rng.random() < 0.1:
            row["tax_category"] = "O"
        written = on + timedelta(rng.choice([0, 0, 0, 3, 40])) if rng.random() < 0.9 else on - timedelta(30)
        found.append((written, row))
    return found


def grants_of(
    rng: random.Random, account_id: str, start: date, last_day: date, money: Money
) -> list[tuple[date, Json]]:
    """Prepaid credits of an account, and the day on which each is written."""
    found: list[tuple[date, Json]] = []
    for number in range(rng.choice([0, 0, 1, 2, 3])):
        on = start + timedelta(rng.randint(-5, max((last_day - start).days, 1)))
        if on > last_day or on < date(2024, 1, 1):
            continue
        expires = on + timedelta(rng.choice([20, 45, 90])) if rng.random() < 0.5 else None
        row: Json = {
            "grant_id": f"{account_id}-grant-{number}",
            "account_id": account_id,
            "amount": money(rng.choice(["20", "45", "150"])),
            "granted_on": on.isoformat(),
            "expires_on": "" if expires is None else expires.isoformat(),
            "kind": rng.choice(["granted", "granted", "purchased"]),
            "priority": rng.choice(["", "", "10", "200"]),
            "description": "",
        }
        found.append((on, row))
    return found


def rows_file(rows: Sequence[Json]) -> str:
    """Rows as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def charges_file(rows: Sequence[Json]) -> str:
    """one_off_charges.csv."""
    out = io.StringIO()
    writer = csv.DictWriter(
        out,
        [
            "charge_id",
            "account_id",
            "on",
            "description",
            "quantity",
            "unit_price",
            "amount",
            "tax_category",
            "coupon_allowed",
            "at_once",
            "reason",
        ],
    )
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
