"""Profiles of what is sold beside packages: what is held, and the next bill with all of it."""

import json
import re
import shutil
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from billing.month.business import Business
from billing.reports.portal_text import Speaker, held_add_on, held_coupon
from billing.reports.profiles import NextBills
from tests.account_pages import next_bills, write_portal_pages
from tests.by_steps import bill_by_steps
from tests.landing import Landing
from tests.sold_business import sold_catalogue


@pytest.fixture(scope="module")
def bills(sold: Business) -> NextBills:
    return next_bills(sold, date(2026, 3, 31))


def of(bills: NextBills, account: str) -> dict[str, object]:
    (row,) = bills.profiles.filter(pl.col("account_id") == account).iter_rows(named=True)
    return row


def test_coupons_that_are_used_up_are_held_no_more(bills: NextBills) -> None:
    # spring was for three documents
    assert of(bills, "usual")["coupons"] == [{"coupon": "tenner", "documents_left": None}]
    assert of(bills, "least")["coupons"] == []


def test_the_next_bill_has_everything_that_is_sold(bills: NextBills) -> None:
    # (99.00 + 10 users: 60.00 + 2 add-ons: 60.00 - 10.00) with 20 % tax
    assert of(bills, "usual")["upcoming_amount"] == Decimal("250.80")
    # 200.00 to come to, 99.00 of them counted, and the fee: 101.00 + 99.00 with 20 % tax
    assert of(bills, "least")["upcoming_amount"] == Decimal("240.00")
    kinds = bills.lines.filter(pl.col("account_id") == "whole")["kind"].unique().to_list()
    assert sorted(kinds) == ["add_on", "coupon", "minimum_spend", "package_fee", "seats"]


def test_the_package_is_that_of_the_upgrade(bills: NextBills) -> None:
    assert of(bills, "upgraded")["package"] == "silver"


@pytest.mark.parametrize("as_of", [date(2026, 1, 31), date(2026, 2, 9), date(2026, 2, 10), date(2026, 2, 28)])
def test_who_cancels_after_an_upgrade_at_once_had_the_package_of_the_upgrade(upgraded: Business, as_of: date) -> None:
    # On 10 February the last billing date has come, and nothing has closed it yet.
    gone = of(next_bills(upgraded, as_of), "gone")
    assert (gone["status"], gone["package"]) == ("cancelled", "silver")


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Business:
    landing = Landing(tmp_path_factory.mktemp("upgraded") / "home", sold_catalogue())
    landing.customer("gone")
    landing.request("gone", "upgrade", "2026-01-20T10:00:00Z", "self_service", package="silver")
    landing.request("gone", "cancel", "2026-01-25T09:00:00Z", "email")
    return bill_by_steps(landing.root, "2026-01", "2026-01-31")


def test_an_account_reads_what_it_holds_on_its_page(sold: Business, tmp_path: Path) -> None:
    copied = Business.load(shutil.copytree(sold.home.root, tmp_path / "home"), sold.as_of)
    earlier = next_bills(copied, date(2026, 1, 25))
    assert of(earlier, "usual")["coupons"] == [
        {"coupon": "spring", "documents_left": 2},
        {"coupon": "tenner", "documents_left": None},
    ]
    write_portal_pages(copied, earlier)
    tokens = copied.register.profile_tokens()
    page = (copied.home.profiles / tokens["usual"] / "index.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    held = re.findall('<span class="held">(.*?)</span>(?:</span>)?', page)
    assert held == [
        'More emails <span class="soft">2 from February 10, 2026',
        'Spring offer <span class="soft">on 2 further documents',
        "Ten off",
    ]
    least = (copied.home.profiles / tokens["least"] / "index.html").read_text()
    assert 'class="held"' not in least and "Discounts" not in least


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"quantity": 2, "next_quantity": None, "effective_on": None}, ("2 × Mehr E-Mails", "")),  # noqa: RUF001
        (
            {"quantity": 2, "next_quantity": 0, "effective_on": date(2026, 2, 10)},
            ("2 × Mehr E-Mails", "bis 9. Februar 2026"),  # noqa: RUF001
        ),
        (
            {"quantity": 2, "next_quantity": 3, "effective_on": date(2026, 2, 10)},
            ("2 × Mehr E-Mails", "3 ab 10. Februar 2026"),  # noqa: RUF001
        ),
    ],
)
def test_an_add_on_says_until_when_it_is_held(sold: Business, row: dict[str, object], said: tuple[str, str]) -> None:
    found = held_add_on({"add_on": "more_emails", **row}, Speaker("de", "de_DE", sold.catalogue))
    assert tuple(each.replace("\N{NO-BREAK SPACE}", " ") for each in found) == said


@pytest.mark.parametrize(
    ("left", "said"), [(None, ""), (1, "auf 1 weiterem Dokument"), (2, "auf 2 weiteren Dokumenten")]
)
def test_a_coupon_says_on_how_many_documents_it_is_left(sold: Business, left: int | None, said: str) -> None:
    found = held_coupon({"coupon": "spring", "documents_left": left}, Speaker("de", "de_DE", sold.catalogue))
    assert found == ("Frühlingsangebot", said)


def test_the_page_of_an_upgrade_at_once_names_the_change(sold: Business) -> None:
    documents = sold.register.documents().filter(pl.col("account_id") == "upgraded")
    changes = {
        row["billing_date"]: json.loads(content)["changes"]
        for row in documents.iter_rows(named=True)
        for _, content in sold.register.contents([row["number"]])
    }
    (change,) = changes.pop(date(2026, 1, 20))
    assert {name: change[name] for name in ("from_title", "to_title", "effective_on", "why")} == {
        "from_title": "Starter",
        "to_title": "Silver",
        "effective_on": "2026-01-20",
        "why": "requested",
    }
    assert not any(changes.values())
