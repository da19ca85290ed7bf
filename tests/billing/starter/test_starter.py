"""The starting home: complete, valid, and never written over a real one."""

import json
import re
from pathlib import Path

import polars as pl
import yaml

from billing.inputs.catalogue_file import load_catalogue
from billing.inputs.reading import read_inputs
from billing.starter import starter_catalogue, write_starter_home
from billing.store.home import Home

REF_1 = {
    "starter": ("99.00", [2500, 15000, 50, 1], ["none", "3.00", "0.50", "10.00"]),
    "silver": ("199.00", [12500, 100000, 250, 3], ["none", "2.00", "0.40", "8.00"]),
    "gold": ("299.00", [25000, 200000, 500, 5], ["none", "1.50", "0.30", "8.00"]),
    "platinum": ("499.00", [50000, None, None, 10], ["25.00", None, None, "5.00"]),
}
POLICY_KEYS = [
    *("payment_days", "invoice_format", "format_missing"),
    *("billing_start", "billing_anchor", "first_cycle", "cancellation_notice_days", "refund_window_days"),
    *("access_after_cancellation", "charge_while_suspended", "hold_fee", "lateness_days", "issue_after_days"),
    *("auto_issue", "accepted_cards", "longest_record_mib", "largest_ratio"),
]


def _price(tariff: str | dict[str, str] | None) -> str | None:
    return tariff["price"] if isinstance(tariff, dict) else tariff


def test_the_starting_catalogue_holds_the_illustrative_packages() -> None:
    catalogue = yaml.safe_load(starter_catalogue())
    metrics = ["leads", "emails", "bandwidth", "custom_domains"]
    found = {}
    for package in catalogue["packages"]:
        (version,) = package["versions"]
        allowances = [version["allowances"][metric] for metric in metrics]
        prices = [_price(version["overage"].get(metric)) for metric in metrics]
        found[package["name"]] = (version["price"]["monthly"], allowances, prices)
    assert found == REF_1


def test_the_starting_catalogue_shows_and_explains_every_policy() -> None:
    text = starter_catalogue()
    assert list(yaml.safe_load(text)["policy"]) == POLICY_KEYS
    for model in ("block", "graduated", "volume", "stairstep", "minimum", "maximum", "agreements"):
        assert model in text


def test_amounts_in_the_starting_catalogue_stand_in_quotes() -> None:
    bare = re.findall(r"(?<![\"\d.])\d+\.\d+(?![\"\d.])", re.sub(r"#.*", "", starter_catalogue()))
    assert bare == []


def test_a_starting_home_holds_every_input(tmp_path: Path) -> None:
    written = write_starter_home(tmp_path / "home")
    assert [str(path.relative_to(tmp_path / "home")) for path in written] == [
        "README.md",
        "landing/.catalogue.schema.json",
        "landing/accounts.csv",
        "landing/catalogue.yaml",
        "landing/credit_grants.csv",
        "landing/one_off_charges.csv",
        "landing/payments.jsonl",
        "landing/requests.jsonl",
        "landing/tax_rates.csv",
        "landing/usage/2026-01-10/events.jsonl",
        "landing/usage/2026-01-11/events.csv",
    ]
    assert all(path.is_file() for path in written)


def test_every_input_of_a_starting_home_is_valid(tmp_path: Path) -> None:
    write_starter_home(tmp_path)
    home = Home(tmp_path)
    inputs = read_inputs(home, load_catalogue(home.landing / "catalogue.yaml"))
    assert (inputs.accounts.height, inputs.requests.height, inputs.tax_rates.height) == (2, 3, 2)
    assert (inputs.one_off_charges.height, inputs.credit_grants.height) == (1, 1)
    assert inputs.rejects.is_empty()
    assert inputs.warnings == ()


def test_the_example_usage_is_of_the_accounts_that_are_there(tmp_path: Path) -> None:
    write_starter_home(tmp_path)
    landing = tmp_path / "landing"
    accounts = set(pl.read_csv(landing / "accounts.csv").get_column("account_id"))
    events = [json.loads(line) for line in (landing / "usage/2026-01-10/events.jsonl").read_text().splitlines()]
    flat = pl.read_csv(landing / "usage/2026-01-11/events.csv")
    assert {event["subject"] for event in events} | set(flat.get_column("subject")) == accounts


def test_a_readme_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("ours")
    assert tmp_path / "README.md" not in write_starter_home(tmp_path)
    assert (tmp_path / "README.md").read_text() == "ours"


def test_what_is_sold_beside_packages_is_right_once_it_is_taken_out_of_its_comments(tmp_path: Path) -> None:
    text = starter_catalogue()
    for name in ("coupons", "add_ons"):
        block = re.search(rf"(?m)^# {name}:\n(#  .*\n)+", text)
        assert block is not None
        text = text.replace(block[0], re.sub(r"(?m)^# ", "", block[0]))
    text = re.sub(r"(?m)^  # (users: |requested_upgrades: )", r"  \1", text)
    (seats,) = re.findall(r"(?m)^#  +(seats: \{.*\})$", text)
    (minimum,) = re.findall(r"(?m)^#  +(minimum_spend: \{.*\})$", text)
    text = re.sub(r"(?m)^( +)auto_upgrade_on:.*$", rf"\1{seats}\n\1{minimum}", text)
    (tmp_path / "catalogue.yaml").write_text(text)
    catalogue = load_catalogue(tmp_path / "catalogue.yaml")
    assert [coupon.name for coupon in catalogue.coupons] == ["spring"]
    assert [add_on.name for add_on in catalogue.add_ons] == ["more_emails"]
    assert catalogue.packages[0].versions[0].seats
    assert catalogue.packages[0].versions[0].minimum_spend is not None
