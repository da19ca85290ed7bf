"""Accounts in several currencies in one home: each is billed in its own, and nothing of two is added up (rule 36)."""

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from facturx import get_xml_from_pdf

from billing.documents.drafts import Drafts
from billing.documents.merged_drafts import merged_drafts
from billing.model.plain_rows import plain_rows
from billing.model.tables import DRAFT_LINES, DRAFT_TAXES, DRAFTS
from billing.month.business import Business
from billing.month.corrections import correction_drafts
from billing.month.pdf_files import render_documents
from billing.month.plan import Plan, plan_month, planned_shard
from billing.reports.check import problems_of
from billing.reports.explain import explain_document
from billing.reports.journal import receivable_differences, trial_balance, unbalanced_entries, write_journal
from billing.reports.month_report import month_report
from billing.reports.month_report_page import report_page
from billing.reports.preview import preview_month
from billing.reports.profiles import account_profiles, allocations, balances, collections
from billing.reports.reminders import planned_reminders
from billing.reports.row_decimals import decimals_of
from billing.reports.show import read_table
from billing.reports.statements import statement
from billing.reports.verify import disagreements
from tests import sizes
from tests.by_steps import bill_by_steps
from tests.european_business import RATES, SELLER, change_catalogue, write_accounts
from tests.invoice_rules import findings
from tests.several_currencies import CATALOGUE, CURRENCIES, SeveralCurrencies, four_customers, january_in_shards
from tests.sizes import sized


def totals(business: Business, **wanted: object) -> list[tuple[str, str, str]]:
    """Account, currency and total of issued documents, in the order of their numbers, as `overage show` has them."""
    frame = read_table(business, name="documents").sort("number")
    frame = frame.filter(*(pl.col(name) == value for name, value in wanted.items()))
    return [
        (row["account_id"], row["currency"], row["total"]) for row in plain_rows(frame, decimals_of(business, frame))
    ]


def amounts(business: Business, account: str, kind: str) -> list[str]:
    """The amounts of an account's lines of a kind."""
    numbers = read_table(business, name="documents").filter(pl.col("account_id") == account)["number"]
    lines = read_table(business, name="lines")
    lines = lines.filter(pl.col("number").is_in(numbers.implode()) & (pl.col("kind") == kind)).sort("number", "line")
    return [row["amount"] for row in plain_rows(lines, decimals_of(business, lines))]


def answers(business: Business, account: str) -> list[tuple[str, str, str]]:
    decisions = read_table(business, name="decisions").filter(pl.col("account_id") == account)
    return list(decisions.select("kind", "outcome", "reason").iter_rows())


@pytest.fixture(scope="module")
def two_months(tmp_path_factory: pytest.TempPathFactory) -> SeveralCurrencies:
    """Four customers, billed for January and February. Copy it to go on."""
    home = four_customers(tmp_path_factory.mktemp("two-months"))
    bill_by_steps(home.root, "2026-02", "2026-02-28")
    return home


@pytest.fixture(scope="module")
def three_months(
    two_months: SeveralCurrencies, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SeveralCurrencies, Business]:
    """A month more: payments, a payment in a wrong currency, upgrades and late usage."""
    home = two_months.copied(tmp_path_factory.mktemp("currencies") / "home")
    rates = "on,currency,to,rate\n2026-01-01,EUR,USD,1.1\n2026-02-01,JPY,USD,0.0067\n2026-05-01,JPY,USD,1\n"
    (home.folder / "exchange_rates.csv").write_text(rates)
    home.pay_in("eur", "INV-2026-000001", "89.00", "EUR", "2026-03-01T10:00:00Z")
    home.pay_in("jpy", "INV-2026-000002", "100", "JPY", "2026-03-01T10:00:00Z")
    home.pay_in("jpy", "INV-2026-000002", "15000", "USD", "2026-03-01T10:00:00Z")
    home.pay_in("kwd", "INV-2026-000003", "30.555", "KWD", "2026-03-01T10:00:00Z")
    for account in ("kwd", "usd"):
        home.use(account, "2026-02-20", leads=50)
    home.use("eur", "2026-01-25", emails=1000, delivered="2026-03-02")
    business = bill_by_steps(home.root, "2026-03", "2026-03-31")
    write_journal(business)
    return home, business


@pytest.fixture
def billed(three_months: tuple[SeveralCurrencies, Business]) -> Business:
    """Do not issue in it."""
    return three_months[1]


def test_each_account_is_billed_in_its_currency_and_numbers_are_one_series(billed: Business) -> None:
    found = read_table(billed, name="documents").sort("number")
    assert found["number"].to_list() == [f"INV-2026-{number:06}" for number in range(1, 13)]
    assert totals(billed) == [
        ("eur", "EUR", "89.00"),
        ("jpy", "JPY", "15000"),
        ("kwd", "KWD", "30.555"),
        ("usd", "USD", "99.00"),
        ("eur", "EUR", "94.50"),
        ("jpy", "JPY", "15900"),
        ("kwd", "KWD", "32.405"),
        ("usd", "USD", "105.00"),
        ("eur", "EUR", "91.75"),
        ("jpy", "JPY", "15000"),
        ("kwd", "KWD", "153.250"),
        ("usd", "USD", "199.00"),
    ]


def test_overage_and_true_up_have_the_decimals_of_the_currency(billed: Business) -> None:
    found = {account: amounts(billed, account, "overage") for account in CURRENCIES}
    assert found == {"usd": ["6.00"], "eur": ["5.50"], "jpy": ["900"], "kwd": ["1.850"]}
    assert amounts(billed, "eur", "prior_cycle") == ["2.75"]


def test_an_automatic_upgrade_skips_a_package_that_is_not_sold_in_the_currency(billed: Business) -> None:
    assert ("auto_upgrade", "approved", "usage_over_allowance") in answers(billed, "kwd")
    decided = read_table(billed, name="decisions").filter(pl.col("kind") == "auto_upgrade")
    assert dict(decided.select("account_id", "to_package").iter_rows()) == {"kwd": "gold", "usd": "silver"}


def test_a_payment_in_another_currency_than_its_document_is_set_aside(billed: Business) -> None:
    assert billed.unknown_payments.select("reason", "account_id", "detail").rows() == [
        ("impossible_value", "jpy", "currency: found 'USD', expected JPY: that of the document")
    ]
    paid = allocations(billed).sort("number").select("account_id", "number", "amount")
    assert [(account, str(amount)) for account, _, amount in paid.iter_rows()] == [
        ("eur", "89.0000"),
        ("jpy", "100.0000"),
        ("kwd", "30.5550"),
    ]


def test_balances_collections_and_books_are_by_currency(billed: Business) -> None:
    owed = balances(billed)
    found = plain_rows(owed, decimals_of(billed, owed))
    assert [(row["account_id"], row["currency"], row["outstanding"]) for row in found] == [
        ("eur", "EUR", "186.25"),
        ("jpy", "JPY", "45800"),
        ("kwd", "KWD", "185.655"),
        ("usd", "USD", "403.00"),
    ]
    assert unbalanced_entries(billed.home).is_empty()
    assert receivable_differences(billed).is_empty()
    books = trial_balance(billed).group_by("currency").agg(pl.col("debit", "credit").sum())
    assert books.filter(pl.col("debit") != pl.col("credit")).is_empty()
    assert sorted(books["currency"]) == sorted(CURRENCIES.values())
    to_collect = collections(billed).group_by("currency").agg(pl.col("amount_due").sum())
    outstanding = owed.group_by("currency").agg(pl.col("outstanding").sum())
    assert dict(to_collect.iter_rows()) == dict(outstanding.iter_rows())


def test_releases_of_deferred_fees_have_the_decimals_of_the_currency(billed: Business) -> None:
    journal = read_table(billed, name="journal").filter(pl.col("kind") == "release")
    for currency, decimals in (("JPY", 0), ("USD", 2), ("KWD", 3)):
        released = journal.filter(pl.col("currency") == currency)
        assert released.height
        for amount in [*released["debit"], *released["credit"]]:
            assert amount == round(amount, decimals)


def test_the_profile_is_in_the_currency_of_the_account(billed: Business) -> None:
    profile = account_profiles(billed, date(2026, 3, 31))
    found = plain_rows(profile, decimals_of(billed, profile))
    assert [(row["currency"], row["upcoming_amount"], row["previous_amount"]) for row in found] == [
        ("EUR", "89.00", "91.75"),
        ("JPY", "15000", "15000"),
        ("KWD", "153.250", "153.250"),
        ("USD", "199.00", "199.00"),
    ]


def test_the_report_of_a_month_adds_up_each_currency_and_says_a_missing_rate(billed: Business) -> None:
    report = month_report(billed, "2026-03")
    assert list(report.others) == ["EUR", "JPY", "KWD"]
    found = {row["currency"]: (row["total"], row["in_own"]) for row in report.by_currency.iter_rows(named=True)}
    assert found == {
        "USD": (Decimal("199.00"), Decimal("199.00")),
        "EUR": (Decimal("91.75"), Decimal("100.93")),
        "JPY": (Decimal("15000"), Decimal("100.50")),
        "KWD": (Decimal("153.250"), None),
    }
    page = report_page(billed.catalogue, report)
    assert "Without a rate to USD, and so not in the total: KWD." in page
    assert "Totals by package, KWD" in page
    assert "153.250" in page
    assert "400.43" in page


def test_a_statement_is_in_the_currency_of_the_account(billed: Business) -> None:
    found = statement(billed, "kwd", None, date(2026, 3, 31))
    assert (found["currency"], found["closing"], found["aging"]["not_due"]) == ("KWD", "185.655", "153.250")
    assert [row["amount"] for row in found["movements"]] == ["30.555", "32.405", "-30.555", "153.250"]


def test_a_line_is_explained_by_the_price_of_its_currency(billed: Business) -> None:
    number = read_table(billed, name="documents").filter(pl.col("account_id") == "kwd").sort("number")["number"][1]
    found = next(line for line in explain_document(billed, number) if line["kind"] == "overage")
    assert any("0.925" in step and "1.850" in step for step in found["arithmetic"])


def test_reminders_leave_out_a_fee_that_is_not_in_the_currency(billed: Business) -> None:
    due = planned_reminders(billed.at(date(2026, 4, 20)))
    found = {row["account_id"]: (row["currency"], str(row["fee"])) for row in due.iter_rows(named=True)}
    assert found["usd"] == ("USD", "3.0000")
    assert found["eur"] == ("EUR", "0.0000")


def test_a_check_names_the_accounts_for_whom_amounts_of_the_policy_are_left_out(
    three_months: tuple[SeveralCurrencies, Business],
) -> None:
    found = [problem for problem in problems_of(three_months[0].root) if "policy" in problem]
    assert (
        "catalogue.yaml: policy.hold_fee: found no amount in KWD, the currency of kwd, expected one: it is left out "
        "for them"
    ) in found
    assert not any("policy.hold_fee: found no amount in EUR" in problem for problem in found)


def test_what_is_previewed_is_summed_by_currency(two_months: SeveralCurrencies, tmp_path: Path) -> None:
    home = two_months.copied(tmp_path / "home")
    home.use("jpy", "2026-01-25", emails=9000, delivered="2026-03-01")
    preview = preview_month(Business.load(home.root, date(2026, 3, 5)), "2026-02")
    assert preview.in_words() == [
        "accounts with a change in JPY: 1",
        "closed cycles whose amount due is not what was billed: 1, JPY 4050 together",
    ]
    assert preview.rows()[0]["difference"] == "4050"


def test_a_correction_is_in_the_currency_of_the_document(two_months: SeveralCurrencies, tmp_path: Path) -> None:
    home = two_months.copied(tmp_path / "home")
    for account in ("kwd", "jpy"):
        home.use(account, "2026-01-25", emails=1000, delivered="2026-03-01")
    business = bill_by_steps(home.root, "2026-02", "2026-03-01")
    drafts = correction_drafts(business, "2026-02", "late usage").documents
    rows = plain_rows(drafts.drop("content"), decimals_of(business, drafts))
    assert [(row["account_id"], row["currency"], row["kind"], row["total"]) for row in rows] == [
        ("jpy", "JPY", "debit_note", "450"),
        ("kwd", "KWD", "debit_note", "0.925"),
    ]


CHARGES = """charge_id,account_id,on,description,amount,currency
c1,swiss,2026-01-20,Set-up,12.35,
c2,swiss,2026-01-20,Wrong,5.00,USD
"""
GRANTS = """grant_id,account_id,amount,currency,granted_on,kind
g1,granted-eur,50.00,,2026-01-01,granted
g2,granted-kwd,10.125,KWD,2026-01-01,granted
g3,granted-kwd,5.00,EUR,2026-01-01,granted
g4,granted-kwd,1.2345,KWD,2026-01-01,granted
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """Two months of accounts that have nothing to do with each other. Do not issue in it."""
    home = SeveralCurrencies(tmp_path_factory.mktemp("many"))
    home.buy("yearly-eur", "EUR", term="yearly")
    home.buy("yearly-jpy", "JPY", term="yearly")
    home.buy("silver-eur", "EUR", "silver")
    home.buy("silver-usd", "USD", "silver")
    home.buy("chf", "CHF")
    home.open("swiss", "CHF")
    (home.folder / "one_off_charges.csv").write_text(CHARGES)
    home.buy("asks", "EUR")
    home.request("asks", "upgrade", "2026-01-20T09:00:00Z", "self_service", package="silver")
    for name, currency in CURRENCIES.items():
        home.buy(f"offers-{name}", currency)
        home.request(f"offers-{name}", "redeem", "2026-01-12T09:00:00Z", "self_service", coupon="off")
        home.request(f"offers-{name}", "redeem", "2026-01-13T09:00:00Z", "self_service", coupon="ten")
        home.request(f"offers-{name}", "add", "2026-01-14T09:00:00Z", "self_service", add_on="support")
    for name in ("eur", "jpy"):
        home.buy(f"held-{name}", CURRENCIES[name])
        home.request(f"held-{name}", "hold", "2026-01-20T09:00:00Z")
    home.buy("plain", "")
    home.buy("lower", "eur")
    home.open("bad", "XXX")
    for name in ("eur", "kwd"):
        home.buy(f"granted-{name}", CURRENCIES[name])
    (home.folder / "credit_grants.csv").write_text(GRANTS)
    business = bill_by_steps(home.root, "2026-02", "2026-02-28")
    write_journal(business)
    return business


def totals_of(business: Business, *accounts: str) -> list[tuple[str, str]]:
    """Currency and total of the documents of some accounts, one account after the other."""
    return [(currency, total) for name in accounts for _, currency, total in totals(business, account_id=name)]


def rejected(business: Business, account: str) -> list[str]:
    """Why rows of an account are set aside."""
    return business.inputs.rejects.filter(pl.col("account_id") == account)["detail"].to_list()


def parked(business: Business, month: str, account: str) -> list[tuple[str, str]]:
    """Why an account is parked in a month."""
    rows = read_table(business, name="parked").filter(billing_month=month, account_id=account)
    return list(rows.select("reason", "detail").iter_rows())


def test_a_yearly_price_may_lack_in_a_currency(many: Business) -> None:
    assert totals_of(many, "yearly-eur", "yearly-jpy") == [("EUR", "890.00")]
    assert answers(many, "yearly-jpy") == [("subscribe", "refused", "no_yearly_price")]


def test_an_account_whose_first_package_is_not_sold_in_its_currency_is_parked(many: Business) -> None:
    assert totals_of(many, "silver-eur", "silver-usd")[:1] == [("USD", "199.00")]
    assert not totals(many, account_id="silver-eur")
    assert answers(many, "silver-eur") == [("subscribe", "refused", "not_sold_in_currency")]
    ((reason, detail),) = parked(many, "2026-01", "silver-eur")
    assert reason == "not_sold_in_currency"
    assert "it has no price in EUR, the currency of the account: expected one in the catalogue" in detail


def test_a_currency_that_the_catalogue_does_not_name_buys_nothing_but_can_be_charged(many: Business) -> None:
    assert totals_of(many, "chf", "swiss") == [("CHF", "12.35")]
    assert rejected(many, "swiss") == ["currency: found 'USD', expected CHF: that of the account"]
    assert [reason for reason, _ in parked(many, "2026-01", "chf")] == ["not_sold_in_currency"]


def test_a_requested_upgrade_to_a_package_that_is_not_sold_in_the_currency_is_refused(many: Business) -> None:
    assert answers(many, "asks")[1:] == [("upgrade", "refused", "not_sold_in_currency")]


def test_coupons_and_add_ons_are_sold_in_the_currencies_of_their_amounts(many: Business) -> None:
    answered = {name: answers(many, f"offers-{name}")[1:] for name in CURRENCIES}
    refused = {
        name: {reason for _, outcome, reason in found if outcome == "refused"} for name, found in answered.items()
    }
    assert {name: reasons for name, reasons in refused.items() if reasons} == {
        "eur": {"not_sold_in_currency"},
        "jpy": {"not_sold_in_currency"},
        "kwd": {"not_sold_in_currency"},
    }
    outcomes = {name: [outcome for _, outcome, _ in found] for name, found in answered.items()}
    assert [outcomes[name].count("refused") for name in ("usd", "eur", "jpy", "kwd")] == [0, 2, 1, 1]
    february = {account: total for account, _, total in totals(many, billing_date=date(2026, 2, 10))}
    # 99.00 + 20.00 - 10.00 = 109.00, less 10 % = 98.10; 15000 - 1000 = 14000, less 10 %; 36.680 less 10 %.
    assert {name: february[f"offers-{name}"] for name in CURRENCIES} == {
        "usd": "98.10",
        "eur": "80.10",
        "jpy": "12600",
        "kwd": "33.012",
    }


def test_a_hold_fee_holds_in_the_currencies_that_it_names(many: Business) -> None:
    assert totals_of(many, "held-eur") == [("EUR", "89.00"), ("EUR", "4.00")]
    assert totals_of(many, "held-jpy") == [("JPY", "15000")]


def test_an_account_without_currency_has_that_of_the_catalogue(many: Business) -> None:
    assert totals_of(many, "plain")[0] == ("USD", "99.00")
    assert totals_of(many, "lower")[0] == ("EUR", "89.00")
    assert rejected(many, "bad") == [
        "currency: found 'XXX', expected an ISO 4217 currency code with a minor unit, such as EUR"
    ]


def test_credits_pay_documents_of_their_currency(many: Business) -> None:
    documents = read_table(many, name="documents").filter(pl.col("account_id").str.starts_with("granted-"))
    documents = documents.filter(billing_month="2026-01").sort("account_id")
    rows = plain_rows(documents, decimals_of(many, documents))
    assert [(row["account_id"], row["credits_applied"], row["due"]) for row in rows] == [
        ("granted-eur", "50.00", "39.00"),
        ("granted-kwd", "10.125", "20.430"),
    ]
    assert rejected(many, "granted-kwd") == [
        "currency: found 'EUR', expected KWD: that of the account",
        "amount: found '1.2345', expected an amount in KWD above 0, of at most 3 decimals",
    ]
    assert unbalanced_entries(many.home).is_empty()
    left = read_table(many, name="journal").filter(pl.col("ledger_account") == "prepaid_credits")
    assert set(left["currency"]) == {"EUR", "KWD"}


def test_a_refund_is_in_the_currency_of_the_document(tmp_path: Path) -> None:
    home = SeveralCurrencies(tmp_path)
    home.buy("kwd", "KWD")
    (number,) = read_table(bill_by_steps(home.root, "2026-01", "2026-01-15"), name="documents")["number"]
    home.pay_in("kwd", number, "30.555", "KWD", "2026-01-12T09:00:00Z")
    home.request("kwd", "refund", "2026-01-20T09:00:00Z")
    business = bill_by_steps(home.root, "2026-01", "2026-01-31")
    assert totals(business, kind="credit_note") == [("kwd", "KWD", "-30.555")]
    decided = read_table(business, name="decisions").filter(pl.col("kind") == "refund")
    found = plain_rows(decided, decimals_of(business, decided))
    assert [(row["account_id"], row["amount"]) for row in found] == [("kwd", "30.555")]


def test_the_currency_cannot_change_while_a_subscription_lives_and_changes_once_nothing_is_owed(
    tmp_path: Path,
) -> None:
    home = SeveralCurrencies(tmp_path)
    home.buy("lives", "USD")
    home.buy("ends", "USD", "silver")
    home.request("ends", "cancel", "2026-01-20T09:00:00Z", "email")
    bill_by_steps(home.root, "2026-02", "2026-02-28")
    for name in ("lives", "ends"):
        home.open(name, "EUR")
    home.request("ends", "subscribe", "2026-03-05T09:00:00Z", "self_service", package="starter")
    owing = bill_by_steps(home.root, "2026-03", "2026-03-04")
    details = {account: detail for account, reason, detail in owing.parked.iter_rows() if reason == "currency_changed"}
    assert details["lives"].startswith(
        "currency: found 'EUR', expected USD, in which documents were issued to it: subscription lives/2026-01-10 has "
        "billing dates to come;"
    )
    assert details["ends"].startswith(
        "currency: found 'EUR', expected USD, in which documents were issued to it: it owes USD 199.0000"
    )
    assert totals_of(owing, "lives") == [("USD", "99.00")] * 2
    home.open("lives", "USD")
    (number,) = read_table(owing, name="documents").filter(account_id="ends")["number"]
    home.pay_in("ends", number, "199.00", "USD", "2026-03-04T10:00:00Z")
    business = bill_by_steps(home.root, "2026-03", "2026-03-31")
    assert business.parked.is_empty()
    assert totals_of(business, "lives")[2:] == [("USD", "99.00")]
    assert totals_of(business, "ends") == [("USD", "199.00"), ("EUR", "89.00")]
    assert balances(business).filter(account_id="ends").select("currency", "outstanding").rows() == [
        ("EUR", Decimal("89.0000")),
        ("USD", Decimal("0.0000")),
    ]
    # Late usage of the time before is settled in the currency of that time.
    home.use("ends", "2026-01-15", emails=6000, delivered="2026-04-01")
    again = bill_by_steps(home.root, "2026-04", "2026-04-30")
    assert totals(again, billing_month="2026-04", account_id="ends") == [
        ("ends", "EUR", "89.00"),
        ("ends", "USD", "2.00"),
    ]


def test_a_price_that_the_catalogue_loses_parks_those_inside(two_months: SeveralCurrencies, tmp_path: Path) -> None:
    home = two_months.copied(tmp_path / "home")
    (home.folder / "catalogue.yaml").write_text(CATALOGUE.replace(', KWD: "30.555"', ""))
    business = bill_by_steps(home.root, "2026-03", "2026-03-31")
    assert [reason for reason, _ in parked(business, "2026-03", "kwd")] == ["not_sold_in_currency"]
    assert totals_of(business, "kwd")[2:] == []
    assert totals_of(business, "usd")[2:] == [("USD", "99.00")]


def test_three_shards_bill_as_one(
    two_months: SeveralCurrencies, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    if sizes.LONG:
        whole = Business.load(two_months.root, date(2026, 2, 28))
        shards = bill_by_steps(four_customers(tmp_path).root, "2026-02", "2026-02-28", shards=3)
    else:
        whole, shards = january_in_shards(tmp_path_factory)
    for table in ("documents", "lines"):
        one, three = (read_table(each, name=table) for each in (whole, shards))
        assert three.height
        assert one.equals(three)


def drafts(*names: str) -> Drafts:
    rows = [{"account_id": name, "subscription_id": f"{name}/1", "billing_date": date(2026, 1, 1)} for name in names]
    frame = pl.DataFrame(rows, schema_overrides={"billing_date": pl.Date}) if rows else DRAFTS.empty()
    documents = pl.concat([DRAFTS.empty(), frame], how="diagonal")
    return Drafts(documents, DRAFT_LINES.empty(), DRAFT_TAXES.empty())


@pytest.mark.parametrize(
    "streams",
    [
        [[("a", "c"), ("e",)], [("b", "d", "f")]],
        [[()], [("a",)]],
        [[("a",), (), ("z",)], [("b", "c"), ("d",)], [()]],
        [[("d", "e")], [("a", "b")], [("c",)]],
    ],
)
def test_drafts_of_several_currencies_come_in_the_order_of_the_table(streams: list[list[tuple[str, ...]]]) -> None:
    def of(batches: list[tuple[str, ...]]) -> Iterator[Drafts]:
        return (drafts(*batch) for batch in batches)

    merged = pl.concat(batch.documents for batch in merged_drafts([of(batches) for batches in streams]))
    wanted = sorted(name for batches in streams for batch in batches for name in batch)
    assert merged["account_id"].to_list() == wanted


def test_documents_are_e_invoices_in_the_currency_of_the_account(tmp_path: Path) -> None:
    home = SeveralCurrencies(tmp_path)
    change_catalogue(home, seller=SELLER)
    (home.folder / "tax_rates.csv").write_text(RATES)
    rates = "on,currency,to,rate\n2026-01-01,USD,EUR,0.9\n2026-01-01,JPY,EUR,0.006\n"
    (home.folder / "exchange_rates.csv").write_text(rates)
    customers = [
        ("eur", "DE", "", {"currency": "EUR", "invoice_format": "ubl"}),
        ("usd", "DE", "", {"currency": "USD", "invoice_format": "ubl"}),
        ("jpy", "DE", "", {"currency": "JPY", "invoice_format": "facturx"}),
        ("kwd", "DE", "", {"currency": "KWD", "invoice_format": "ubl"}),
    ]
    # `test_invoice_formats.py` parks three decimals, too.
    customers = sized(usual=[customers[0], customers[2]], long=customers)
    write_accounts(home, customers)
    for name, *_ in customers:
        home.request(name, "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter")
    business = bill_by_steps(home.root, "2026-01", "2026-01-31")
    due = [("eur", "EUR", "105.91"), ("jpy", "JPY", "17850"), ("usd", "USD", "117.81")]
    assert totals(business) == due[: sized(usual=2, long=3)]
    if sizes.LONG:
        (parked,) = read_table(business, name="parked").select("account_id", "reason", "detail").rows()
        assert parked[:2] == ("kwd", "missing_for_format")
        assert "has amounts of two decimals, and KWD has 3" in parked[2]
    numbers = ["INV-2026-000001", "INV-2026-000002", "INV-2026-000003"][: sized(usual=2, long=3)]
    contents = {number: json.loads(text) for number, text in business.register.contents(numbers)}
    # The tax of a German document is in euros, too.
    assert [contents[number]["tax_currency"] for number in numbers] == [
        None,
        {"currency": "EUR", "tax": "17.10", "rate": "0.006", "rate_on": "2026-01-01"},
        {"currency": "EUR", "tax": "16.93", "rate": "0.9", "rate_on": "2026-01-01"},
    ][: sized(usual=2, long=3)]
    assert not render_documents(business, "2026-01").undrawn
    folder = business.home.documents / "2026-01"
    xml = (folder / "INV-2026-000001.xml").read_bytes()
    assert b"<cbc:DocumentCurrencyCode>EUR</cbc:DocumentCurrencyCode>" in xml
    assert findings(xml) == []
    if sizes.LONG:
        assert findings((folder / "INV-2026-000003.xml").read_bytes()) == []
    assert findings(get_xml_from_pdf((folder / "INV-2026-000002.pdf").read_bytes())[1]) == []
    assert disagreements(business) == []


BY_CURRENCY = (
    CATALOGUE.replace('monthly: "199.00"', 'monthly: {USD: "199.00"}')
    .replace('price: "2.00"', 'price: {USD: "2.00"}')
    .replace('fee: "3.00"', 'fee: {USD: "3.00"}')
)
"""The same prices, none of them plain: the currency of the catalogue does not matter."""


def lived(home: SeveralCurrencies, accounts: list[str]) -> dict[str, pl.DataFrame]:
    """What two months of accounts come to, without the numbers of documents: late usage, a coupon, an upgrade.

    They were billed elsewhere before, so that the first document has usage.
    """
    for name in accounts:
        home.buy(name, CURRENCIES[name], on="2025-12-10", billed_through="2026-01-10")
        home.request(name, "redeem", "2026-01-12T09:00:00Z", "self_service", coupon="ten")
        home.use(name, "2025-12-20", emails=2500, leads=50)
    bill_by_steps(home.root, "2026-01", "2026-01-31")
    for name in accounts:
        home.use(name, "2025-12-22", emails=3333, delivered="2026-02-01")
    business = bill_by_steps(home.root, "2026-02", "2026-02-28")
    write_journal(business)
    found = {name: read_table(business, name=name) for name in ("documents", "charges", "dues", "packages", "journal")}
    found["balances"] = balances(business)
    return {name: frame.drop("number", "content_hash", "entry", strict=False) for name, frame in found.items()}


def test_two_currencies_never_meet_in_a_sum(tmp_path: Path) -> None:
    """Whoever shares a home with accounts in other currencies comes to what they come to alone, to the last digit."""
    others = sized(usual=["kwd"], long=["kwd", "jpy"])
    together = lived(SeveralCurrencies(tmp_path / "together", BY_CURRENCY), ["usd", *others])
    for name in others:
        code = CURRENCIES[name]
        own = BY_CURRENCY.replace("currency: USD", f"currency: {code}")
        alone = lived(SeveralCurrencies(tmp_path / name, own), [name])
        for table, frame in together.items():
            theirs = frame.filter(pl.col("account_id") == name)
            assert theirs.height, table
            columns = [column for column in frame.columns if frame.schema[column] != pl.Object]
            assert sorted(theirs.select(columns).rows(), key=repr) == sorted(alone[table].rows(), key=repr), table


def test_a_shard_of_a_planned_month_knows_the_currencies(tmp_path: Path) -> None:
    home = four_customers(tmp_path)
    plan = Plan.from_json(plan_month(Business.load(home.root, date(2026, 1, 31), shards=3), "2026-01").to_json())
    assert plan.currencies == ("USD", "EUR", "JPY", "KWD")
    found: dict[str, str] = {}
    for shard in plan.shards:
        for part in planned_shard(home.root, plan, shard).by_currency:
            found |= dict.fromkeys(part.lives.subscriptions["account_id"], part.catalogue.currency)
    assert found == CURRENCIES


def test_another_currency_of_the_catalogue_stops_those_who_live_in_the_old_one(tmp_path: Path) -> None:
    home = SeveralCurrencies(tmp_path)
    home.buy("acme", "")
    bill_by_steps(home.root, "2026-01", "2026-01-31")
    (home.folder / "catalogue.yaml").write_text(CATALOGUE.replace("currency: USD", "currency: EUR"))
    business = bill_by_steps(home.root, "2026-02", "2026-02-28")
    assert business.parked.select("account_id", "reason").rows() == [("acme", "currency_changed")]
    assert totals(business) == [("acme", "USD", "99.00")]
    register = business.register
    assert {name for name in register.settings() if name.startswith("currency.")} >= {"currency.USD"}
    assert register.has_issued_in_another("EUR")
    assert not register.has_issued_in_another("USD")
