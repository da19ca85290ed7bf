"""Requests about coupons and add-ons: read as written, or set aside with the field at fault."""

import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.inputs.quantities import named_quantities
from billing.inputs.reading import Inputs, read_inputs
from billing.model.catalogue import Catalogue
from billing.model.offers import QUANTITIES
from billing.store.home import Home

pytestmark = pytest.mark.usefixtures("whole_and_in_pieces")


class Landing:
    """A landing area to write requests into."""

    def __init__(self, root: Path, catalogue: Catalogue) -> None:
        self.home = Home(root)
        self.catalogue = catalogue
        self.home.landing.mkdir(parents=True)
        (self.home.landing / "accounts.csv").write_text("account_id,name\nacme,Acme\n")

    def read(self, *rows: Mapping[str, object], name: str = "requests.jsonl") -> Inputs:
        (self.home.landing / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return read_inputs(self.home, self.catalogue)


@pytest.fixture
def landing(tmp_path: Path, ref_1: Catalogue) -> Landing:
    return Landing(tmp_path, ref_1)


def request(identity: str = "r1", **members: object) -> dict[str, object]:
    """A good request; the members given replace or add, None takes away."""
    found: dict[str, object] = {
        "request_id": identity,
        "account_id": "acme",
        "at": "2026-01-10T12:00:00Z",
        "kind": "add",
        "channel": "self_service",
        "add_on": "dedicated_ip",
    }
    return {name: value for name, value in {**found, **members}.items() if value is not None}


def test_coupons_add_ons_and_quantities_are_read(landing: Landing) -> None:
    found = landing.read(
        request(quantity=2),
        request("r2", kind="remove"),
        request("r3", kind="redeem", add_on=None, coupon="spring"),
        request("r4", kind="revoke", add_on=None, coupon="spring", channel="support"),
        request("r5", kind="subscribe", add_on=None, package="starter", coupon="spring", add_ons={"b": 2, "a": "1"}),
    )
    assert found.rejects.is_empty()
    assert found.requests.select("kind", "coupon", "add_on", "quantity").rows() == [
        ("add", None, "dedicated_ip", 2),
        ("remove", None, "dedicated_ip", None),
        ("redeem", "spring", None, None),
        ("revoke", "spring", None, None),
        ("subscribe", "spring", None, None),
    ]
    assert found.requests["add_ons"].str.json_decode(QUANTITIES).to_list() == [
        *[None] * 4,
        [{"name": "a", "quantity": 1}, {"name": "b", "quantity": 2}],
    ]


def test_a_cell_of_a_csv_file_holds_the_add_ons_as_json(landing: Landing) -> None:
    (landing.home.landing / "requests.csv").write_text(
        "request_id,account_id,at,kind,channel,package,add_ons\n"
        'r1,acme,2026-01-10T12:00:00Z,subscribe,email,starter,"{""dedicated_ip"": 2}"\n'
    )
    found = landing.read(
        request("r1", kind="subscribe", channel="email", package="starter", add_on=None)
        | {"add_ons": {"dedicated_ip": 2}}
    )
    # The same request in another form is a duplicate.
    assert found.rejects.is_empty()
    assert found.requests.height == 1


@pytest.mark.parametrize(
    ("fault", "reason", "detail"),
    [
        ({"add_on": None}, "missing_field", "add_on: found nothing, expected the name of an add-on: the kind is add"),
        (
            {"kind": "remove", "add_on": None},
            "missing_field",
            "add_on: found nothing, expected the name of an add-on: the kind is remove",
        ),
        (
            {"kind": "redeem"},
            "missing_field",
            "coupon: found nothing, expected the name of a coupon: the kind is redeem",
        ),
        (
            {"kind": "revoke"},
            "missing_field",
            "coupon: found nothing, expected the name of a coupon: the kind is revoke",
        ),
        ({"quantity": 0}, "impossible_value", "quantity: found '0', expected a whole number from 1 to 100000"),
        (
            {"quantity": "1.5"},
            "impossible_value",
            "quantity: found '1.5', expected a whole number from 1 to 100000",
        ),
        (
            {"quantity": 100_001},
            "impossible_value",
            "quantity: found '100001', expected a whole number from 1 to",
        ),
        (
            {"add_ons": "dedicated_ip"},
            "impossible_value",
            "add_ons: found 'dedicated_ip', expected names of add-ons with",
        ),
        ({"add_ons": ["dedicated_ip"]}, "impossible_value", "add_ons: found '[\"dedicated_ip\"]', expected names of"),
        ({"add_ons": {"dedicated_ip": 0}}, "impossible_value", 'add_ons: found \'{"dedicated_ip":'),
        ({"coupon": "a\tb"}, "impossible_value", "coupon: found the control character U+0009, expected text"),
        ({"add_on": "a" * 201}, "too_long", "add_on: found 201 characters, expected at most 200"),
    ],
)
def test_a_request_that_is_set_aside_names_the_field_at_fault(
    landing: Landing, fault: dict[str, object], reason: str, detail: str
) -> None:
    found = landing.read({**request(), **fault})
    ((found_reason, found_detail),) = found.rejects.select("reason", "detail").rows()
    assert found_reason == reason
    assert found_detail.startswith(detail)


def test_a_request_with_another_quantity_under_the_same_id_is_set_aside(landing: Landing) -> None:
    found = landing.read(request(quantity=2), request(quantity="2"), request(quantity=3))
    assert found.rejects["reason"].to_list() == ["conflicting"]
    assert found.requests["quantity"].to_list() == [2]


@given(st.dictionaries(st.text('ab "\\é', min_size=1).map(str.strip).filter(bool), st.integers(1, 100_000)))
def test_names_with_quantities_are_the_same_text_in_any_order(quantities: dict[str, int]) -> None:
    turned = dict(reversed(quantities.items()))
    one, other = named_quantities(pl.Series([json.dumps(quantities), json.dumps(turned, indent=2)]))
    assert one == other
    (decoded,) = pl.Series([one]).str.json_decode(QUANTITIES)
    assert {each["name"]: each["quantity"] for each in decoded} == quantities


@pytest.mark.parametrize("text", ["", "{", "null", '{"a": 1, "a": 1}', '{"a": null}', '{"a": true}', '{"\\ud800": 1}'])
def test_what_names_no_quantities_is_none(text: str) -> None:
    assert named_quantities(pl.Series([text])).to_list() == [None]
