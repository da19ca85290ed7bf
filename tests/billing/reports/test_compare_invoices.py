"""What another system billed, and what is billed here: by account and line kind, what differs and why."""

from datetime import date
from pathlib import Path

import pytest

from billing.model.errors import RefusedError
from billing.month.business import Business
from billing.reports.compare_invoices import as_plain, compare_invoices
from tests.billing.month.test_moving_in import catalogue, move_in
from tests.by_steps import bill_by_steps
from tests.landing import Landing, content_of


@pytest.fixture(scope="module")
def business(tmp_path_factory: pytest.TempPathFactory) -> Business:
    landing = Landing(tmp_path_factory.mktemp("compared"), catalogue=catalogue())
    (landing.folder / "tax_rates.csv").write_text("country,region,rate,name,effective_from\nDE,,0.19,VAT,2020-01-01\n")
    for name in ("acme", "same", "held", "german", "summed"):
        landing.account(name, country="DE" if name == "german" else "US")
        members = {"package": "starter", "billed_through": "2026-02-10"}
        landing.request(name, "subscribe", "2023-05-10T09:00:00Z", **members)
        landing.use(name, "2026-01-12", emails=27_350)
    landing.request("held", "hold", "2025-12-01T09:00:00Z")
    landing.account("nothing")
    landing.customer("parked", on="2020-01-01")
    move_in(landing, "later", "2023-05-10", "2026-03-10")
    return bill_by_steps(landing.root, "2026-02", "2026-02-28")


def compared(business: Business, tmp_path: Path, *rows: str, month: str | None = None) -> list[tuple[str, ...]]:
    path = tmp_path / "old.csv"
    path.write_text("\n".join(["account_id,kind,metric,billing_date,amount,quantity", *rows]) + "\n")
    before = content_of(business.home.root)
    found = as_plain(compare_invoices(business, path, month).differences, business)
    assert content_of(business.home.root) == before
    return [tuple(str(value) for value in row.values()) for row in found]


def test_what_agrees_is_not_listed(business: Business, tmp_path: Path) -> None:
    rows = (
        "same,package_fee,,,99.00,",
        "same,overage,emails,,39.00,27350",
        "summed,total,,,138.00,",
        "later,,,,99.00,",
    )
    assert compared(business, tmp_path, *rows) == []


def test_what_differs_says_why(business: Business, tmp_path: Path) -> None:
    found = compared(
        business,
        tmp_path,
        "acme,package_fee,,2026-02-10,89.00,",
        "acme,overage,emails,2026-02-10,36.00,27000",
        "acme,discount,,2026-02-10,-5.00,",
        "german,package_fee,,2026-02-10,99.00,",
        "german,tax,,2026-02-10,22.08,",
        "held,package_fee,,2026-02-10,99.00,",
        "later,package_fee,,2026-02-10,99.00,",
        "nobody,total,,,1.00,",
        "nothing,total,,,1.00,",
        "parked,total,,,1.00,",
        "summed,total,,,130.00,",
    )
    emails = "here: Emails over the allowance of Starter (27350 used, 15000 included)"
    assert [row[:7] for row in found] == [
        ("acme", "2026-02-10", "discount", "None", "-5.00", "0.00", "5.00"),
        ("acme", "2026-02-10", "overage", "emails", "36.00", "39.00", "3.00"),
        ("acme", "2026-02-10", "package_fee", "None", "89.00", "99.00", "10.00"),
        ("german", "2026-02-10", "overage", "None", "0.00", "39.00", "39.00"),
        ("german", "2026-02-10", "tax", "None", "22.08", "26.22", "4.14"),
        ("held", "2026-02-10", "package_fee", "None", "99.00", "0.00", "-99.00"),
        ("later", "2026-02-10", "package_fee", "None", "99.00", "0.00", "-99.00"),
        ("nobody", "None", "total", "None", "1.00", "0.00", "-1.00"),
        ("nothing", "None", "total", "None", "1.00", "0.00", "-1.00"),
        ("parked", "None", "total", "None", "1.00", "0.00", "-1.00"),
        ("summed", "2026-02-10", "total", "None", "130.00", "138.00", "8.00"),
    ]
    why = [row[7] for row in found]
    assert why[0].startswith("there are no lines of this kind here: expected one of package_fee")
    assert why[1:7] == [
        f"{emails}, 27000 used there",
        "here: Starter, monthly fee",
        "only here: Emails over the allowance of Starter (27350 used, 15000 included)",
        "taxed here as VAT 19 % on 138.00 (charged)",
        "no document here on 2026-02-10: on hold since 2025-12-01",
        "no document here on 2026-02-10: it is billed here from 2026-03-10 on",
    ]
    assert why[7:9] == ["there is no such account here", "it has no subscription here"]
    assert why[9].startswith("it is parked: request")
    assert why[10].startswith("compare by line kind")


def test_a_month_is_compared_whatever_the_dates_of_the_old_invoices(business: Business, tmp_path: Path) -> None:
    rows = ("acme,package_fee,,2026-02-28,99.00,", "acme,overage,,2026-02-28,38.00,")
    (found,) = compared(business, tmp_path, *rows, month="2026-02")
    assert found[:7] == ("acme", "2026-02-10", "overage", "None", "38.00", "39.00", "1.00")


def test_who_is_billed_here_only_is_named(business: Business, tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text("account_id,kind,amount\nsame,total,138.00\nacme,total,138.00\n")
    found = compare_invoices(business, path, "2026-02")
    assert (found.differences.height, found.only_here) == (0, ["german", "summed"]), "held and later are not billed"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("acme,package_fee,,,99,00,", "found a row that cannot be read"),
        ("acme,package_fee,,,$99,", "amount: found '$99', expected an amount such as 99.00"),
        (",package_fee,,,99,", "account_id: found nothing"),
        ("acme,package_fee,,10.2.26,99,", "billing_date: found '10.2.26', expected a date"),
    ],
)
def test_a_wrong_row_is_refused(business: Business, tmp_path: Path, row: str, problem: str) -> None:
    with pytest.raises(RefusedError, match="row 1: ") as refused:
        compared(business, tmp_path, row)
    assert problem in str(refused.value)


def test_a_month_that_is_none_is_refused(business: Business, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="unknown month"):
        compared(business, tmp_path, "acme,total,,,1,", month="2025-01")
    assert business.as_of == date(2026, 2, 28)


def test_everything_that_is_sold_is_compared(sold: Business, tmp_path: Path) -> None:
    """As another system exports it: a line for each kind, discounts below 0, and what is asked for."""
    rows = (
        "usual,package_fee,,2026-02-10,99.00,",
        "usual,add_on,,2026-02-10,60.00,2",
        "usual,seats,users,2026-02-10,36.00,8",
        "usual,proration,users,2026-02-10,1.16,",
        "usual,charge,,2026-02-10,370.00,",
        "usual,charge,,2026-02-10,-20.00,",
        "usual,coupon,,2026-02-10,-66.62,",
        "usual,tax,,2026-02-10,95.91,",
        "usual,due,,2026-02-10,525.45,",
        "least,minimum_spend,,2026-02-10,62.00,",
        "least,package_fee,,2026-02-10,99.00,",
        "least,overage,,2026-02-10,39.00,",
        "least,tax,,2026-02-10,40.00,",
        "upgraded,proration,,2026-01-20,67.74,",
        "upgraded,tax,,2026-01-20,13.55,",
        "own,total,,2026-01-20,96.00,",
    )
    assert compared(sold, tmp_path, *rows) == []
    assert compared(sold, tmp_path, "upgraded,total,,,200.09,", "own,,,,214.80,", month="2026-01") == []


def test_what_is_sold_and_differs_says_why(sold: Business, tmp_path: Path) -> None:
    found = compared(
        sold,
        tmp_path,
        "usual,add_on,,2026-02-10,30.00,1",
        "usual,seats,users,2026-02-10,24.00,7",
        "usual,due,,2026-02-10,575.45,",
        "least,coupon,,2026-02-10,-5.00,",
        "least,seats,,2026-02-10,12.00,",
        "upgraded,charge,,2026-01-20,60.00,",
    )
    why = {(row[0], row[2]): row[7] for row in found}
    assert why["usual", "add_on"] == "here: 2 More emails, monthly fee (2), 1 used there"
    assert why["usual", "seats"] == "here: Users in advance (8 used, 5 included), 7 used there"
    assert why["usual", "charge"] == "only here: Consulting (3); Set-up (1); Outage in January"
    assert why["usual", "coupon"] == "only here: Spring offer; Ten off"
    assert why["usual", "due"].startswith("compare by line kind")
    assert why["least", "coupon"] == "only there: no coupon takes anything off here"
    assert why["least", "seats"] == "only there: no seats beyond those included here"
    assert why["upgraded", "charge"] == "only there: no one-off charge falls due here"
    assert why["upgraded", "proration"] == "only here: Silver instead of Starter, 21 of 31 days"
