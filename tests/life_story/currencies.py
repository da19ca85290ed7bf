"""A second currency in a story: some accounts have it, and nearly every amount of the catalogue is one for each.

What is sold in the first currency only is drawn, too. Nothing of the product is used here.
"""

import random
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final

Json = dict[str, Any]
MINOR_UNITS: Final = {"USD": 2, "JPY": 0, "KWD": 3}
AMOUNTS: Final = (
    *("monthly", "yearly", "price", "unit_price", "flat", "minimum", "maximum", "per_event", "amount", "hold_fee"),
)
"""Keys of the catalogue under which an amount of money stands, as text."""
TWICE: Final = 2
"""What costs one dollar costs two of the other currency's: no amount is taken for one of the other by mistake."""


def add_second_currency(
    rng: random.Random,
    catalogue: Json,
    accounts: Sequence[dict[str, str]],
    requests: Sequence[tuple[date, Json]],
    charges: Sequence[tuple[date, Json]],
    grants: Sequence[tuple[date, Json]],
) -> None:
    """Give a story a second currency, in its catalogue and of some accounts; what they ask for changes with it."""
    first = str(catalogue["currency"])
    second = rng.choice([code for code in MINOR_UNITS if code != first])
    for account in accounts:
        account["currency"] = second if rng.random() < 0.4 else rng.choice(["", first])
    others = {account["account_id"] for account in accounts if account["currency"] == second}
    _give_both(catalogue, first, second)
    _sell_less(rng, catalogue, first)
    large = next(each for each in catalogue["packages"] if each["name"] == "large")
    is_unsold = any(second not in version["price"]["monthly"] for version in large["versions"])
    if is_unsold:
        # A first subscription to what is not sold parks its account.
        for _, request in requests:
            if request["account_id"] in others and request["kind"] == "subscribe" and request["package"] == "large":
                request["package"] = "medium"
        catalogue["agreements"] = [
            each for each in catalogue["agreements"] if each["account_id"] not in others or each["package"] != "large"
        ]
    for _, row in (*charges, *grants):
        if row["account_id"] in others:
            for name in ("amount", "unit_price"):
                if row.get(name):
                    row[name] = _other(row[name], first, second)


def _give_both(node: Any, first: str, second: str) -> None:
    """Write every amount as one for each currency."""
    if isinstance(node, list):
        for each in node:
            _give_both(each, first, second)
    if not isinstance(node, dict):
        return
    for name, value in node.items():
        # An amount of 0 is 0 in every currency.
        if name in AMOUNTS and isinstance(value, str) and Decimal(value):
            node[name] = {first: value, second: _other(value, first, second)}
        else:
            _give_both(value, first, second)


def _sell_less(rng: random.Random, catalogue: Json, first: str) -> None:
    """Leave amounts out of the second currency: what has none is not sold there."""

    def only_first(node: Json, name: str) -> None:
        if isinstance(node.get(name), dict):
            node[name] = {first: node[name][first]}

    if rng.random() < 0.5:
        only_first(catalogue["policy"], "hold_fee")
    for package in catalogue["packages"]:
        if package["name"] == "medium" and rng.random() < 0.4:
            for version in package["versions"]:
                only_first(version["price"], "yearly")
        if package["name"] == "large" and rng.random() < 0.4:
            for version in package["versions"]:
                only_first(version["price"], "monthly")
                only_first(version["price"], "yearly")
    for coupon in catalogue.get("coupons", ()):
        if rng.random() < 0.3:
            only_first(coupon, "amount")
    for add_on in catalogue.get("add_ons", ()):
        if add_on["name"] == "dedicated" and rng.random() < 0.4:
            for version in add_on["versions"]:
                only_first(version["price"], "monthly")
                only_first(version["price"], "yearly")


def _other(amount: str, first: str, second: str) -> str:
    dollars = Decimal(amount) / (100 if first == "JPY" else 1) * TWICE
    return f"{(dollars * (100 if second == 'JPY' else 1)).normalize():f}"


def in_currency(node: Any, code: str) -> Any:
    """The catalogue as an account in one currency reads it: what has no amount in it is left out."""
    if isinstance(node, list):
        return [in_currency(each, code) for each in node]
    if not isinstance(node, Mapping):
        return node
    return {name: in_currency(_amount(value, code), code) for name, value in node.items() if _is_there(value, code)}


def _is_amounts(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and set(value) <= set(MINOR_UNITS)


def _is_there(value: Any, code: str) -> bool:
    return not _is_amounts(value) or code in value


def _amount(value: Any, code: str) -> Any:
    return value[code] if _is_amounts(value) else value
