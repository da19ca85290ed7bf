"""The forecast of the next months is what billing them issues, if usage goes on as it was foreseen."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from billing.model.errors import RefusedError
from billing.month.business import Business
from billing.reports.forecast import Forecast, forecast
from billing.starter import starter_catalogue
from tests import sizes
from tests.billing.month.token_business import CATALOGUE, TokenBusiness
from tests.by_steps import bill_by_steps, rows
from tests.forecast_oracle import Series
from tests.landing import Landing
from tests.several_currencies import CURRENCIES, SeveralCurrencies, four_customers
from tests.sizes import sized

LATER = """\
      - effective_from: 2026-09-01
        price: {monthly: "109.00", yearly: "1090.00"}
        allowances: {leads: 2500, emails: 15000, bandwidth: 50, custom_domains: 1}
        overage:
          emails:         {model: block, size: 1000, price: "4.00"}
          bandwidth:      {model: block, size: 1, price: "0.50"}
          custom_domains: {model: block, size: 1, price: "10.00"}
          leads: none
        auto_upgrade_on: [leads]
"""


def forecast_of(root: Path, as_of: str, months: int = 3, shards: int | None = None) -> Forecast:
    return forecast(Business.load(root, date.fromisoformat(as_of), issues=False, shards=shards), months)


def expected(found: Forecast, account: str) -> dict[str, str]:
    """By month."""
    return {row["month"]: row["expected"] for row in found.as_plain() if row["account_id"] == account}


def spread(found: Forecast, account: str, month: str) -> tuple[str, str, str]:
    (row,) = [row for row in found.as_plain() if (row["account_id"], row["month"]) == (account, month)]
    return row["low"], row["expected"], row["high"]


def said_of(found: Forecast) -> dict[tuple[str, str], Decimal]:
    """By month and account, where something is billed."""
    amounts = {(row["month"], row["account_id"]): Decimal(row["expected"]) for row in found.as_plain()}
    return {key: amount for key, amount in amounts.items() if amount}


def issued_in(business: Business, months: Sequence[str]) -> dict[tuple[str, str], Decimal]:
    """The nets of documents by month and account."""
    issued: dict[tuple[str, str], Decimal] = {}
    for month, account, net in rows(business, "documents", "billing_month", "account_id", "net"):
        if month in months:
            issued[month, account] = issued.get((month, account), Decimal(0)) + Decimal(net)
    return {key: amount for key, amount in issued.items() if amount}


def basis(found: Forecast, account: str) -> set[str]:
    return {row["basis"] for row in found.as_plain() if row["account_id"] == account}


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    """Customers with the same usage in each of three cycles, billed up to 2026-05-15; before, they were elsewhere."""
    landing = Landing(tmp_path_factory.mktemp("forecast"))
    for name in ("constant", "silver", "downgrade", "cancelled", "late", "held", "ending", "charged", "grown"):
        package = "silver" if name in ("silver", "downgrade") else "starter"
        landing.customer(name, package, billed_through="2026-03-10")
    landing.customer("yearly", term="yearly", on="2025-07-10", billed_through="2026-03-10")
    landing.customer("new", on="2026-05-01")
    landing.customer("trial", on="2026-05-10", trial_days=40)
    for name in ("failed", "unpaid"):
        landing.customer(name, on="2026-05-10")
    for cycle in range(2, 6):
        for name in ("constant", "yearly", "late", "cancelled", "held"):
            landing.use(name, f"2026-{cycle:02}-12", emails=27_350)
    landing.use("constant", "2026-01-12", leads=2_000, domains=3)
    landing.use("grown", "2026-05-14", leads=14_000, emails=16_500)
    landing.use("new", "2026-05-12", emails=7_500)
    landing.use("failed", "2026-05-12", emails=16_000)
    landing.request("downgrade", "downgrade", "2026-05-12T09:00:00Z", "support", package="starter")
    landing.request("silver", "upgrade", "2026-05-12T09:00:00Z", "self_service", package="gold")
    landing.request("cancelled", "cancel", "2026-05-13T09:00:00Z", "email")
    landing.request("held", "hold", "2026-05-13T09:00:00Z", "support")
    (landing.folder / "one_off_charges.csv").write_text(
        "charge_id,account_id,on,description,amount,at_once\n"
        "set-up,charged,2026-06-20,Set-up,250.00,no\n"
        "visit,charged,2026-07-20,Visit,80.00,yes\n"
    )
    business = bill_by_steps(landing.root, "2026-05", "2026-05-15")
    landing.pay("failed", number_of(business, "failed"), "99.00", "2026-05-13T09:00:00Z", "failed")
    return landing


def number_of(business: Business, account: str) -> str:
    ((number,),) = rows(business, "documents", "number", account_id=account)
    return str(number)


@pytest.fixture(scope="module")
def found(landing: Landing) -> Forecast:
    return forecast_of(landing.root, "2026-05-15")


def test_it_begins_with_the_next_billing_date(found: Forecast) -> None:
    assert (found.as_of, found.months) == (date(2026, 5, 15), ("2026-06", "2026-07", "2026-08"))


def test_usage_that_goes_on_is_billed_as_before(found: Forecast, landing: Landing) -> None:
    business = Business.load(landing.root, date(2026, 5, 15), issues=False)
    (*_, last) = rows(business, "documents", "net", account_id="constant")
    assert last == ("158.00",)
    assert expected(found, "constant") == dict.fromkeys(found.months, "158.00")
    assert spread(found, "constant", "2026-08") == ("158.00", "158.00", "158.00")
    assert basis(found, "constant") == {"history"}


def test_changes_that_are_pending_come(found: Forecast) -> None:
    assert expected(found, "downgrade") == dict.fromkeys(found.months, "99.00")
    assert expected(found, "silver") == dict.fromkeys(found.months, "299.00")


def test_a_cancelled_subscription_ends_with_what_it_used(found: Forecast) -> None:
    # Cancelled in time: no fee; access ended with 27,350 emails in the cycle.
    assert expected(found, "cancelled") == {"2026-06": "39.00"}
    assert basis(found, "cancelled") == {"measured"}


def test_a_held_subscription_pays_its_usage_and_no_fee(found: Forecast) -> None:
    assert {month: amount for month, amount in expected(found, "held").items() if amount != "0.00"} == {
        "2026-06": "39.00"
    }


def test_a_yearly_fee_is_in_its_month_only(found: Forecast) -> None:
    assert expected(found, "yearly") == {"2026-06": "39.00", "2026-07": "1029.00", "2026-08": "39.00"}


def test_charges_that_are_dated_in_these_months_are_billed(found: Forecast) -> None:
    assert expected(found, "charged") == {"2026-06": "99.00", "2026-07": "429.00", "2026-08": "99.00"}


def test_an_automatic_upgrade_comes_with_the_usage_so_far(found: Forecast) -> None:
    # 14,000 leads so far in the running cycle, and they stay: gold, as in the scenario of rule 7.
    assert expected(found, "grown") == {"2026-06": "305.00", "2026-07": "299.00", "2026-08": "299.00"}


def test_a_first_cycle_is_scaled_to_all_of_its_days(found: Forecast) -> None:
    # 7,500 emails in 15 of 31 days: 15,500 of them.
    assert expected(found, "new") == dict.fromkeys(found.months, "102.00")
    assert basis(found, "new") == {"running_cycle"}


def test_a_trial_pays_from_its_end(found: Forecast) -> None:
    assert expected(found, "trial") == {"2026-06": "99.00", "2026-07": "99.00", "2026-08": "99.00"}
    assert basis(found, "trial") == {"no_history"}


def test_the_back_test_compares_past_months_with_what_they_came_to(found: Forecast) -> None:
    tested = found.backtest.select("month", "currency", "actual", "expected", "is_between").rows()
    assert [row[:2] for row in tested] == [("2026-04", "USD"), ("2026-05", "USD")]
    assert all(actual == said and inside for *_, actual, said, inside in tested)
    words = " ".join(found.in_words())
    assert "0.00 % off on average" in words
    assert f"{len(tested)} of {len(tested)} months between low and high" in words


def test_the_same_home_gives_the_same_forecast(found: Forecast, landing: Landing, tmp_path: Path) -> None:
    again = forecast_of(landing.root, "2026-05-15", shards=2)
    assert again.rows.equals(found.rows)
    assert again.backtest.equals(found.backtest)
    assert again.methods.equals(found.methods)
    written = [
        [path.read_bytes() for path in each.write(tmp_path / name)] for name, each in (("one", found), ("other", again))
    ]
    assert written[0] == written[1]


def test_what_was_forecast_is_issued(landing: Landing, found: Forecast, tmp_path: Path) -> None:
    """The past of a twin goes on as it was foreseen: what is issued then is what was expected."""
    twin = landing.copied(tmp_path / "twin")
    for month in (6, 7):
        for name in ("constant", "yearly", "late"):
            twin.use(name, f"2026-{month:02}-12", emails=27_350)
    twin.use("new", "2026-05-20", emails=8_000)
    twin.use("new", "2026-06-20", emails=15_500)
    twin.use("new", "2026-07-20", emails=15_500)
    business = bill_by_steps(twin.root, "2026-08", "2026-08-31")
    assert said_of(found) == issued_in(business, found.months)


def test_whatever_is_sold_is_forecast_as_it_is_issued(sold_in_february: Path, tmp_path: Path) -> None:
    """Coupons, add-ons, seats, minimum spends, charges and purchases to come: what is used fits or is there already."""
    home = shutil.copytree(sold_in_february, tmp_path / "home")
    later = sized(usual="2026-03", long="2026-04")
    with (home / "landing" / "one_off_charges.csv").open("a") as file:
        file.write(f"later,own,{later}-15,Visit,,,80.00,true,\nnext,usual,2026-03-05,Hours,,,40.00,,\n")
    with (home / "landing" / "credit_grants.csv").open("a") as file:
        file.write(f"bought,own,100.00,USD,{later}-03,,purchased\n")
    found = forecast_of(home, "2026-02-28", months=sized(usual=1, long=3))
    month = found.months[-1]
    business = bill_by_steps(home, month, f"{month}-31")
    assert {row["account_id"] for row in found.as_plain()} == {"usual", "upgraded", "least", "own", "whole"}
    assert said_of(found) == issued_in(business, found.months)


@pytest.fixture(scope="module")
def delivered_late(landing: Landing, tmp_path_factory: pytest.TempPathFactory) -> Forecast:
    """The forecast of a twin that got usage and a payment late, and in which things of a later day are written."""
    twin = landing.copied(tmp_path_factory.mktemp("late") / "twin")
    twin.use("late", "2026-03-20", emails=2_000, delivered="2026-05-15")
    number = number_of(Business.load(twin.root, date(2026, 5, 15), issues=False), "failed")
    twin.pay("failed", number, "99.00", "2026-05-14T09:00:00Z")
    twin.use("constant", "2026-05-20", emails=500_000)
    twin.request("constant", "upgrade", "2026-05-20T09:00:00Z", "self_service", package="gold")
    return forecast_of(twin.root, "2026-05-15", months=2)


def test_late_usage_is_settled_in_the_first_month(delivered_late: Forecast) -> None:
    # 2,000 more in one of the last three cycles: 28,016 a cycle from now on, and 6.00 once.
    assert expected(delivered_late, "late") == {"2026-06": "147.00", "2026-07": "141.00"}
    assert delivered_late.not_issued == 0


def test_currencies_do_not_mix(tmp_path: Path) -> None:
    if sizes.LONG:
        business = four_customers(tmp_path)
        for name in CURRENCIES:
            business.use(name, "2026-02-20", emails=2_500)
    else:
        business = SeveralCurrencies(tmp_path)
        for name in ("jpy", "kwd"):
            business.buy(name, CURRENCIES[name], billed_through="2026-02-10")
            business.use(name, "2026-01-20", emails=2_500)
    day = sized(usual="2026-02-15", long="2026-03-15")
    bill_by_steps(tmp_path, day[:7], day)
    found = forecast_of(tmp_path, day, months=1)
    wanted = {"eur": ("EUR", "94.50"), "jpy": ("JPY", "15900"), "kwd": ("KWD", "32.405"), "usd": ("USD", "105.00")}
    wanted = {name: row for name, row in wanted.items() if name in business.accounts}
    assert {row["account_id"]: (row["currency"], row["expected"]) for row in found.as_plain()} == wanted
    words = found.in_words()
    assert words[: len(wanted)] == [
        f"{found.months[0]}: {currency} {amount} expected, {amount} to {amount}" for currency, amount in wanted.values()
    ]
    assert set(found.backtest["currency"]) == sized(usual=set(), long={"EUR", "JPY", "KWD", "USD"})


# The last cycles of it in a usual run.
_ALL_USED: Mapping[str, list[int]] = {
    "up": [15_100, 16_400, 17_300, 18_900, 19_800, 21_500],
    "down": [40_000, 34_000, 29_000, 22_500, 18_200, 15_200],
    "noise": [16_000, 48_000, 15_500, 31_000, 9_000, 22_000],
    "short": [12_000, 19_000],
}
USED = {name: used[-sized(usual=3, long=6) :] for name, used in _ALL_USED.items()}


TERMS = {"2026-08": (99, 3), "2026-09": (109, 3), "2026-10": (109, 4)}
"""What the fee and 1,000 emails cost by month, where a later version holds from September.

Rule 2: the fee of the version in force at the date, the tariff of the cycle's start.
"""


@pytest.fixture(scope="module")
def later_version(tmp_path_factory: pytest.TempPathFactory) -> Forecast:
    """Each with their usage of past cycles, billed up to 2026-07-15."""
    first, _, rest = starter_catalogue().partition("  - name: silver\n")
    landing = Landing(tmp_path_factory.mktemp("later"), f"{first.rstrip()}\n{LATER}\n  - name: silver\n{rest}")
    for name, values in {**USED, "acme": [16_000]}.items():
        first_month = 7 - len(values)
        landing.customer(name, on=f"2026-{first_month:02}-10", billed_through=f"2026-{first_month + 1:02}-10")
        for place, value in enumerate(values):
            landing.use(name, f"2026-{7 - len(values) + place:02}-20", emails=value)
    bill_by_steps(landing.root, "2026-07", "2026-07-15")
    return forecast_of(landing.root, "2026-07-15")


def test_a_later_version_of_the_catalogue_holds_from_its_date(later_version: Forecast) -> None:
    assert expected(later_version, "acme") == {"2026-08": "102.00", "2026-09": "112.00", "2026-10": "113.00"}


def test_it_is_what_plain_python_says_of_each_account(later_version: Forecast) -> None:
    series = {name: Series(dict(enumerate(values))) for name, values in USED.items()}
    of_all = [error for each in series.values() for error in each.relative_errors()]

    def amount(emails: int, month: str) -> str:
        fee, price = TERMS[month]
        return f"{fee + price * -(-max(0, emails - 15_000) // 1_000)}.00"

    for name, one in series.items():
        for step, month in enumerate(TERMS, 1):
            said = one.ahead(step)
            wanted = [amount(emails, month) for emails in (said, *one.low_and_high(said, of_all))]
            low, middle, high = spread(later_version, name, month)
            assert [middle, low, high] == wanted, (name, month)
    emails = later_version.methods.filter(pl.col("metric") == "emails", pl.col("account_id") != "acme")
    assert dict(emails.select("account_id", "method").iter_rows()) == {
        name: one.method() for name, one in series.items()
    }


def test_each_rule_of_a_tariff_goes_on_with_its_part_and_a_rule_that_ends_loses_none(tmp_path: Path) -> None:
    # The later version has no rule for the large model any more: its tokens are rated with the rest.
    landing = TokenBusiness(tmp_path, CATALOGUE.replace("effective_from: 2026-01-25", "effective_from: 2026-05-10"))
    landing.customer("acme", on="2026-03-10", billed_through="2026-04-10")
    landing.use_tokens("acme", 5_000, model="large", on="2026-03-20")
    landing.use_tokens("acme", 2_500, model="other", on="2026-03-20")
    landing.take("acme", "100.00", "50.00", "19.99", on="2026-03-20")
    business = bill_by_steps(tmp_path, "2026-04", "2026-04-15")
    assert rows(business, "documents", "net")[-1] == ("117.83",)
    found = forecast_of(tmp_path, "2026-04-15", months=2)
    # 99.00 + 10.00 + 2.00 + 1.00 for a call + 5.83; then 99.00 + 7 blocks + 2.9 % of 69.99 and one event of 0.30.
    assert expected(found, "acme") == {"2026-05": "117.83", "2026-06": "108.33"}


def test_who_is_suspended_pays_no_fee_until_a_payment_comes_and_nobody_else_fails_to_pay(
    found: Forecast, delivered_late: Forecast
) -> None:
    assert expected(found, "failed") == {"2026-06": "3.00", "2026-07": "0.00", "2026-08": "0.00"}
    assert expected(found, "unpaid") == dict.fromkeys(found.months, "99.00")
    # 16,000 in 5 days with access, that of the failed payment left out: 99,200 in a whole cycle.
    assert expected(delivered_late, "failed")["2026-07"] == "354.00"


def test_a_day_before_the_last_issue_is_refused(landing: Landing) -> None:
    with pytest.raises(RefusedError, match="found 2026-05-14, expected 2026-05-15 or later"):
        forecast_of(landing.root, "2026-05-14")


def test_what_is_learnt_after_the_day_is_not_known(found: Forecast, delivered_late: Forecast) -> None:
    said = expected(found, "constant")
    assert expected(delivered_late, "constant") == {month: said[month] for month in delivered_late.months}
    assert basis(delivered_late, "constant") == {"history"}


def test_nobody_has_subscribed_yet(tmp_path: Path) -> None:
    Landing(tmp_path)
    found = forecast_of(tmp_path, "2026-09-15")
    assert (found.rows.height, found.months) == (0, ("2026-09", "2026-10", "2026-11"))
    assert not (tmp_path / "lake").exists()
