"""What lies in landing/ and is not read is named; what others leave beside it is not (rule 22)."""

from dataclasses import replace
from pathlib import Path

import pytest

from billing.inputs.catalogue_file import load_catalogue
from billing.month.unread_files import names_not_read
from billing.starter import write_starter_home
from billing.store.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    write_starter_home(tmp_path)
    return Home(tmp_path)


def put(home: Home, name: str) -> None:
    path = home.landing / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_of_a_home_to_start_from_everything_is_read(home: Home) -> None:
    assert names_not_read(home) == []


@pytest.mark.parametrize(
    "name",
    [
        *("payments.csv", "payments.parquet", "requests.parquet", "accounts.jsonl"),
        *("payments/2026-01.csv", "payments/b.jsonl", "accounts/eu.csv", "requests/x.parquet"),
        *(".gitkeep", "_SUCCESS", "Thumbs.db", "one_off_charges.csv", "credit_grants/a.jsonl"),
        *("payments.jsonl.md5", "payments.csv.part", "manifest.json"),
        *("payments/.hidden", "payments/_SUCCESS", "payments/new.csv.crdownload", "accounts/manifest.json"),
    ],
)
def test_tables_come_in_any_of_three_forms_and_what_is_left_alone_is_not_named(home: Home, name: str) -> None:
    put(home, name)
    assert names_not_read(home) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("payments.xlsx", "payments.xlsx is not read: expected one file or a folder of files that end in .csv"),
        ("Payments.csv", "Payments.csv is not read: expected one file or a folder"),
        ("payments.jsonl.gz", "payments.jsonl.gz is not read: expected one file or a folder"),
        ("requests/old/a.jsonl", "requests/old is not read: expected one file or a folder"),
        ("accounts/a.txt", "accounts/a.txt is not read: expected one file or a folder"),
        ("usages/2026-01-01/a.jsonl", "usages is not read: expected one of catalogue.yaml, tax_rates.csv, exch"),
        ("catalogue.yml", "catalogue.yml is not read: expected one of catalogue.yaml"),
        ("tax_rates.jsonl", "tax_rates.jsonl is not read: expected one of catalogue.yaml"),
        ("aliases/a.txt", "aliases/a.txt is not read: expected one file or a folder"),
        ("one_off_charges.txt", "one_off_charges.txt is not read: expected one file or a folder of files"),
        ("credit_grants/a.txt", "credit_grants/a.txt is not read: expected one file or a folder of files"),
        ("logo.svg", "logo.svg is not read: expected one of catalogue.yaml"),
    ],
)
def test_what_is_not_read_is_named_with_what_was_expected(home: Home, name: str, told: str) -> None:
    put(home, name)
    (found,) = names_not_read(home)
    assert found.startswith(told)


@pytest.mark.parametrize("name", ["exchange_rates.csv", "translations/sv.po", "templates/invoice.html.j2", "logo.svg"])
def test_what_documents_are_drawn_with_is_read(home: Home, name: str) -> None:
    put(home, name)
    catalogue = load_catalogue(home.landing / "catalogue.yaml")
    named = replace(catalogue, seller=replace(catalogue.seller, logo="logo.svg"))
    assert names_not_read(home, named) == []


def test_the_candidate_that_the_policy_tries_is_read(home: Home) -> None:
    put(home, "candidates/new.yaml")
    catalogue = load_catalogue(home.landing / "catalogue.yaml")
    assert names_not_read(home, catalogue) != []
    policy = replace(catalogue.policy, shadow="landing/candidates/new.yaml")
    assert names_not_read(home, replace(catalogue, policy=policy)) == []


def test_a_card_number_in_a_name_is_not_told(home: Home) -> None:
    put(home, "4111111111111111.csv")
    (found,) = names_not_read(home)
    assert found.startswith("************1111.csv is not read")
