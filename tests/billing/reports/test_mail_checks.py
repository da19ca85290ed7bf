"""`check` names mail addresses that are none: of accounts with file and row, and of the seller."""

from pathlib import Path

import pytest

from billing.reports.check import problems_of
from tests.european_business import change_catalogue
from tests.landing import Landing

GOES = "expected a mail address: documents and reminders go there"

WRITE = "expected a mail address: customers write there"


def accounts(landing: Landing, *rows: str) -> None:
    (landing.folder / "accounts.csv").write_text("\n".join(["account_id,name,country,email,invoice_email", *rows, ""]))


def told(landing: Landing) -> list[str]:
    return [problem for problem in problems_of(landing.root) if "mail" in problem]


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "home")


def test_an_address_of_an_account_that_is_none_is_named_with_file_and_row(landing: Landing) -> None:
    accounts(
        landing,
        "good,Good,DE,a@example.com,invoices@bücher.example",
        "none,None,DE,,",
        "text,Text,DE,a@example.com,see the portal",
        "two,Two,DE,nobody@localhost,a@example.com;b@example.com",
    )
    assert told(landing) == [
        f"accounts.csv: row 3: invoice_email: found 'see the portal' (text), {GOES}",
        f"accounts.csv: row 4: invoice_email: found 'a@example.com;b@example.com' (two), {GOES}",
        f"accounts.csv: row 4: email: found 'nobody@localhost' (two), {GOES} where invoice_email is empty",
    ]


def test_of_several_rows_of_an_account_the_last_one_counts(landing: Landing) -> None:
    accounts(landing, "a,A,DE,,nobody", "a,A,DE,,a@example.com", "b,B,DE,,b@example.com", "b,B,DE,,nobody")
    assert told(landing) == [f"accounts.csv: row 4: invoice_email: found 'nobody' (b), {GOES}"]


def test_many_wrong_addresses_are_counted(landing: Landing) -> None:
    accounts(landing, *(f"a{number},A,DE,,nobody {number}" for number in range(9)))
    found = told(landing)
    assert len(found) == 6 and found[-1] == "accounts: invoice_email: 4 more like these"


def test_the_sellers_addresses_are_looked_at(landing: Landing) -> None:
    accounts(landing, "a,A,DE,,")
    contact = {"contact": {"name": "Billing", "email": "billing at example.com"}, "support_email": "example.com/help"}
    change_catalogue(landing, seller=contact)
    assert told(landing) == [
        f"catalogue.yaml: seller.contact.email: found 'billing at example.com', {WRITE}",
        f"catalogue.yaml: seller.support_email: found 'example.com/help', {WRITE}",
    ]
