"""One-off charges and credit grants: good rows are read exactly, bad ones set aside with reason and place."""

import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from billing.inputs.one_off_charges import CHARGE_MEMBERS
from billing.inputs.reading import Inputs, read_inputs
from billing.model.buckets import bucket_ranges
from billing.model.catalogue import Catalogue
from billing.store.home import Home

pytestmark = pytest.mark.usefixtures("whole_and_in_pieces")

HEADER = f"{','.join(CHARGE_MEMBERS)}\n"


class Landing:
    """A landing area to write into."""

    def __init__(self, root: Path, catalogue: Catalogue) -> None:
        self.home = Home(root)
        self.catalogue = catalogue
        self.put("accounts.csv", "account_id,name\nacme,Acme\nglobex,Globex\n")

    def put(self, name: str, text: str) -> Path:
        path = self.home.landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def put_lines(self, name: str, *rows: Mapping[str, object]) -> None:
        self.put(name, "".join(f"{json.dumps(row)}\n" for row in rows))

    def read(self) -> Inputs:
        return read_inputs(self.home, self.catalogue)


@pytest.fixture
def landing(tmp_path: Path, ref_1: Catalogue) -> Landing:
    return Landing(tmp_path, ref_1)


def charge(identity: str = "c1", **members: object) -> dict[str, object]:
    """A good charge; the members given replace or add, None takes away."""
    found: dict[str, object] = {
        "charge_id": identity,
        "account_id": "acme",
        "on": "2026-01-20",
        "description": "Set-up",
        "amount": "250.00",
    }
    return {name: value for name, value in {**found, **members}.items() if value is not None}


def grant(identity: str = "g1", **members: object) -> dict[str, object]:
    found: dict[str, object] = {
        "grant_id": identity,
        "account_id": "acme",
        "amount": "50.00",
        "granted_on": "2026-01-01",
        "kind": "granted",
    }
    return {name: value for name, value in {**found, **members}.items() if value is not None}


def amounts(inputs: Inputs) -> dict[str, Decimal]:
    return dict(inputs.one_off_charges.select("charge_id", "amount").iter_rows())


def details(inputs: Inputs) -> list[tuple[str, str]]:
    return list(inputs.rejects.select("reason", "detail").iter_rows())


def test_a_charge_is_read_as_it_is_written(landing: Landing) -> None:
    landing.put(
        "one_off_charges.csv",
        HEADER
        + "c2,globex,2026-02-01,Training,2.5,80.10,,USD,s,no,yes,\n"
        + "c1,acme,2026-01-20,Set-up,,,250.00,,,,,\n"
        + "c3,acme,2026-01-21,Apology,,,-12.50,USD,,true,,Outage in January\n",
    )
    found = landing.read()
    assert found.rejects.is_empty()
    assert found.one_off_charges.rows() == [
        ("c1", "acme", date(2026, 1, 20), "Set-up", None, None, Decimal(250), "USD", None, True, False, None),
        (
            *("c2", "globex", date(2026, 2, 1), "Training", Decimal("2.5"), Decimal("80.1"), Decimal("200.25")),
            *("USD", "S", False, True, None),
        ),
        (
            *("c3", "acme", date(2026, 1, 21), "Apology", None, None, Decimal("-12.5")),
            *("USD", None, False, False, "Outage in January"),
        ),
    ]


@pytest.mark.parametrize(
    ("quantity", "unit_price", "amount"),
    [
        ("3", "0.335", "1.01"),
        ("3", "0.334999999", "1.00"),
        ("1", "0.005", "0.01"),
        ("1", "-0.005", "-0.01"),
        ("0.000001", "1", "0"),
        ("999999999.999999", "999", "998999999999.999001"),
        ("999999999.999999", "99999.999999999", "99999999999998.9"),
        (None, "7.125", "7.13"),
    ],
)
def test_quantity_times_price_is_rounded_once_half_up(
    landing: Landing, quantity: str | None, unit_price: str, amount: str
) -> None:
    row = charge(amount=None, quantity=quantity, unit_price=unit_price, reason="x" if unit_price[0] == "-" else None)
    landing.put_lines("one_off_charges.jsonl", row)
    assert amounts(landing.read()) == {"c1": Decimal(amount).quantize(Decimal("0.01"))}


@pytest.mark.parametrize(
    ("fault", "reason", "detail"),
    [
        ({"on": None}, "missing_field", "on: found nothing, expected a value"),
        ({"amount": None}, "missing_field", "amount: found nothing, expected an amount, or a unit_price"),
        (
            {"amount": None, "quantity": 2},
            "missing_field",
            "amount: found nothing, expected an amount, or a unit_price",
        ),
        ({"on": "20 January"}, "impossible_value", "on: found '20 January', expected a date such as 2026-01-31"),
        (
            {"amount": "1.005"},
            "impossible_value",
            "amount: found '1.005', expected an amount in USD of at most 2 decimals, such as -12.50",
        ),
        (
            {"amount": "100000000000000"},
            "impossible_value",
            "amount: found one of 10^14 or more, expected less",
        ),
        (
            {"quantity": "0", "unit_price": "1", "amount": None},
            "impossible_value",
            "quantity: found '0', expected a number above 0 and below 1,000,000,000, of at most 6 decimals",
        ),
        (
            {"unit_price": "0.0000000001", "amount": None},
            "impossible_value",
            "unit_price: found '0.0000000001', expected a price below 1,000,000,000, of at most 9 decimals",
        ),
        (
            {"quantity": 2, "unit_price": "125.50"},
            "impossible_value",
            "amount: found '250.00', expected 251: quantity x unit_price",
        ),
        ({"currency": "EUR"}, "impossible_value", "currency: found 'EUR', expected USD"),
        (
            {"tax_category": "X"},
            "impossible_value",
            "tax_category: found 'X', expected one of: S, Z, E, AE, K, G, O, L, M",
        ),
        (
            {"at_once": "soon"},
            "impossible_value",
            "at_once: found 'soon', expected one of: true, false, 1, 0, yes, no",
        ),
        ({"amount": "-5"}, "missing_field", "reason: found nothing, expected why -5 is given back"),
        (
            {"account_id": "nobody"},
            "unknown_account",
            "account_id: found 'nobody', expected an account_id of the accounts file",
        ),
        (
            {"description": "card 4111111111111111"},
            "card_number",
            "found what is a card number, expected the brand and the last four digits at most",
        ),
    ],
)
def test_a_charge_that_is_set_aside_names_the_field_at_fault(
    landing: Landing, fault: dict[str, object], reason: str, detail: str
) -> None:
    landing.put_lines("one_off_charges.jsonl", {**charge(), **fault})
    found = landing.read()
    assert details(found) == [(reason, detail)]
    assert found.one_off_charges.is_empty()


def test_an_amount_beside_quantity_and_price_has_to_be_their_product(landing: Landing) -> None:
    landing.put_lines("one_off_charges.jsonl", charge(quantity=2, unit_price="125.00"))
    assert amounts(landing.read()) == {"c1": Decimal(250)}


def test_a_charge_that_is_there_again_counts_once_and_another_one_under_its_name_not_at_all(landing: Landing) -> None:
    landing.put_lines("one_off_charges/a.jsonl", charge(), charge(amount=None, unit_price="250"))
    landing.put_lines("one_off_charges/b.jsonl", charge(currency="USD"), charge(amount="260.00"))
    found = landing.read()
    # With a price the page says something else, so the second row is another charge.
    assert amounts(found) == {"c1": Decimal(250)}
    assert found.rejects.select("file", "row", "reason").rows() == [
        ("one_off_charges/a.jsonl", 2, "conflicting"),
        ("one_off_charges/b.jsonl", 2, "conflicting"),
    ]


def test_charges_and_grants_come_as_parquet(landing: Landing) -> None:
    pl.DataFrame([charge()]).write_parquet(landing.home.landing / "one_off_charges.parquet")
    pl.DataFrame([grant(priority=5)]).write_parquet(landing.home.landing / "credit_grants.parquet")
    found = landing.read()
    assert (found.one_off_charges.height, found.credit_grants["priority"].to_list()) == (1, [5])


def test_a_grant_is_read_as_it_is_written(landing: Landing) -> None:
    landing.put_lines(
        "credit_grants.jsonl",
        grant("g2", kind="purchased", expires_on="2026-12-31", priority=1, description="Package of 50", currency="USD"),
        grant(),
    )
    found = landing.read()
    assert found.rejects.is_empty()
    assert found.credit_grants.rows() == [
        ("g1", "acme", Decimal(50), "USD", date(2026, 1, 1), None, "granted", 100, None),
        ("g2", "acme", Decimal(50), "USD", date(2026, 1, 1), date(2026, 12, 31), "purchased", 1, "Package of 50"),
    ]


@pytest.mark.parametrize(
    ("fault", "reason", "detail"),
    [
        ({"kind": None}, "missing_field", "kind: found nothing, expected a value"),
        ({"kind": "given"}, "impossible_value", "kind: found 'given', expected one of: granted, purchased"),
        ({"amount": "0.00"}, "impossible_value", "amount: found '0.00', expected an amount in USD above 0, of at most"),
        ({"amount": "-1"}, "impossible_value", "amount: found '-1', expected an amount in USD above 0, of at most"),
        (
            {"expires_on": "2026-01-01"},
            "impossible_value",
            "expires_on: found '2026-01-01', expected a day after granted_on, 2026-01-01",
        ),
        ({"priority": "-1"}, "impossible_value", "priority: found '-1', expected a whole number from 0 to 999999999"),
        ({"currency": "EUR"}, "impossible_value", "currency: found 'EUR', expected USD"),
        ({"granted_on": "2026-02-30"}, "impossible_value", "granted_on: found '2026-02-30', expected a date such as"),
    ],
)
def test_a_grant_that_is_set_aside_names_the_field_at_fault(
    landing: Landing, fault: dict[str, object], reason: str, detail: str
) -> None:
    landing.put_lines("credit_grants.jsonl", {**grant(), **fault})
    ((found_reason, found_detail),) = details(landing.read())
    assert found_reason == reason
    assert found_detail.startswith(detail)


def test_a_shard_has_the_charges_and_grants_of_its_accounts(landing: Landing) -> None:
    landing.put_lines("one_off_charges.jsonl", charge(), charge("c2", account_id="globex"))
    landing.put_lines("credit_grants.jsonl", grant(), grant("g2", account_id="globex"))
    found = landing.read()
    shards = [found.of(buckets) for buckets in bucket_ranges(256)]
    for name, key in (("one_off_charges", "charge_id"), ("credit_grants", "grant_id")):
        of_shards = [getattr(shard, name) for shard in shards]
        assert pl.concat(of_shards).sort(key).equals(getattr(found, name))
        assert max(each.height for each in of_shards) == 1
    assert all(set(shard.one_off_charges["account_id"]) <= set(shard.accounts["account_id"]) for shard in shards)
