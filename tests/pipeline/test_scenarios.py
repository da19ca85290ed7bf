"""The worked scenarios, through the command line: what is delivered, what is billed, and the sum between them.

Everyone buys on 2026-01-10 unless the test says otherwise, so the first cycle is [01-10, 02-10). Prices are those of
the starting catalogue.
"""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from tests.by_steps import bill_by_steps
from tests.pipeline.outside import GB, Landing, Row, bill, one, show

USD = Decimal
STARTER, SILVER, GOLD, PLATINUM = USD("99.00"), USD("199.00"), USD("299.00"), USD("499.00")
FEB_10 = "2026-02-10"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everyone of S01 to S09 in one home, billed on the second billing date."""
    landing = Landing(tmp_path_factory.mktemp("scenarios"))

    landing.customer("s01-a", "starter")
    landing.use("s01-a", leads=2_500, emails=15_000, bytes=50 * GB, domains=1)
    landing.customer("s01-b", "gold")

    landing.customer("s02-a", "starter")
    landing.use("s02-a", emails=27_350, bytes=61_200_000_000, domains=3)
    landing.customer("s02-b", "starter")
    landing.use("s02-b", emails=15_001)

    landing.customer("s03", "starter")
    landing.use("s03", "2026-01-20", leads=2_501)
    landing.use("s03", "2026-02-01", leads=-1_000)

    landing.customer("s04", "starter")
    landing.use("s04", leads=14_000, emails=40_000)

    landing.customer("s05", "starter")
    landing.use("s05", "2026-01-15", emails=12_000)
    landing.request("s05", "upgrade", "2026-01-20T10:00:00Z", "self_service", package="silver")
    landing.use("s05", "2026-01-25", emails=8_000)

    landing.customer("s06", "starter")
    landing.request("s06", "upgrade", "2026-01-22T10:00:00Z", "self_service", package="silver")
    landing.use("s06", "2026-01-28", leads=20_000, domains=2)

    landing.customer("s07", "platinum")
    landing.use("s07", leads=61_000, emails=10_000_000, domains=10)

    for name, leads, emails, gigabytes, domains in (("s08", 1_900, 9_000, 20, 2), ("s09", 2_500, 15_000, 50, 1)):
        landing.customer(name, "silver")
        landing.use(name, leads=leads, emails=emails, bytes=gigabytes * GB, domains=domains)
        landing.request(name, "downgrade", "2026-01-30T10:00:00Z", "support", package="starter")

    ended = bill(landing.root, "2026-02", FEB_10)
    assert ended.status == 0, ended.messages
    return landing.root


def document(home: Path, account: str, on: str = FEB_10) -> Row:
    """The one document of an account on a billing date; no tax is due on any of them."""
    found = one(show(home, "documents", "--account", account, billing_date=on))
    assert (found["kind"], found["tax"], found["total"]) == ("invoice", "0.00", found["net"])
    return found


def total(home: Path, account: str, on: str = FEB_10) -> Decimal:
    return USD(document(home, account, on)["total"])


def lines(home: Path, account: str, on: str = FEB_10) -> list[tuple[str, str | None, str, str]]:
    """kind, metric, package and amount of the lines of an account's document."""
    number = document(home, account, on)["number"]
    return [
        (line["kind"], line["metric"], line["package"], line["amount"]) for line in show(home, "lines", number=number)
    ]


def changes(home: Path, account: str) -> list[Row]:
    """What was decided of an account's package; the purchase itself left out."""
    return [row for row in show(home, "decisions", "--account", account) if row["kind"] != "subscribe"]


def packages(home: Path, account: str) -> Sequence[tuple[str | None, str | None]]:
    """closing and opening package of each billing date."""
    return [(row["closing_package"], row["opening_package"]) for row in show(home, "packages", "--account", account)]


def test_s01_usage_exactly_at_every_limit_costs_the_fee_only(home: Path) -> None:
    assert total(home, "s01-a") == STARTER
    assert lines(home, "s01-a") == [("package_fee", None, "starter", "99.00")]
    assert changes(home, "s01-a") == []
    assert packages(home, "s01-a") == [(None, "starter"), ("starter", "starter")]
    charged = show(home, "charges", "--account", "s01-a")
    assert [(row["metric"], row["quantity"], row["allowance"], row["excess"], row["amount"]) for row in charged] == [
        ("bandwidth", "50", "50", "0", "0.00"),
        ("custom_domains", "1", "1", "0", "0.00"),
        ("emails", "15000", "15000", "0", "0.00"),
        ("leads", "2500", "2500", "0", "0.00"),
    ]


def test_s01_an_account_without_any_event_is_billed_its_fee(home: Path) -> None:
    assert total(home, "s01-b") == GOLD
    assert changes(home, "s01-b") == []
    used = show(home, "usage", "--account", "s01-b")
    assert [(row["quantity"], row["events"]) for row in used] == [("0", 0)] * 4


def test_s02_every_started_block_over_the_allowance_is_charged(home: Path) -> None:
    # 27,350 - 15,000 = 12,350 emails are 13 blocks of 1,000; 61.2 - 50 = 11.2 GB are 12; 3 - 1 = 2 domains
    emails, bandwidth, domains = 13 * USD("3.00"), 12 * USD("0.50"), 2 * USD("10.00")
    assert total(home, "s02-a") == STARTER + emails + bandwidth + domains == USD("164.00")
    number = document(home, "s02-a")["number"]
    fee, *overages = show(home, "lines", number=number)
    assert (fee["cycle_start"], fee["cycle_end"]) == ("2026-02-10", "2026-03-10"), "the fee is prepaid"
    columns = ("metric", "quantity", "allowance", "excess", "billed_units", "unit_price", "amount")
    assert [tuple(line[column] for column in columns) for line in overages] == [
        ("custom_domains", "3", "1", "2", "2", "10", "20.00"),
        ("emails", "27350", "15000", "12350", "13", "3", "39.00"),
        ("bandwidth", "61.2", "50", "11.2", "12", "0.5", "6.00"),
    ]
    assert {(line["cycle_start"], line["cycle_end"]) for line in overages} == {("2026-01-10", "2026-02-10")}


def test_s02_one_email_over_the_allowance_is_a_whole_block(home: Path) -> None:
    assert total(home, "s02-b") == STARTER + 1 * USD("3.00") == USD("102.00")


def test_s03_one_lead_too_many_moves_the_account_up_and_is_not_charged(home: Path) -> None:
    assert total(home, "s03") == SILVER
    assert lines(home, "s03") == [("package_fee", None, "silver", "199.00")]
    assert packages(home, "s03") == [(None, "starter"), ("starter", "silver")]
    upgrade = one(changes(home, "s03"))
    assert (upgrade["kind"], upgrade["outcome"], upgrade["reason"]) == (
        "auto_upgrade",
        "approved",
        "usage_over_allowance",
    )
    assert (upgrade["from_package"], upgrade["to_package"], upgrade["effective_on"]) == ("starter", "silver", FEB_10)
    # the peak counts, although the level has fallen since
    assert upgrade["evidence"] == [{"metric": "leads", "quantity": "2501", "allowance": "2500"}]
    assert (upgrade["request_id"], upgrade["flags"]) == (None, [])
    level = one(show(home, "usage", "--account", "s03", metric="leads"))
    assert (level["quantity"], level["closing_level"]) == ("2501", "1501")


def test_s04_the_smallest_package_that_fits_is_chosen_and_overage_keeps_the_old_tariff(home: Path) -> None:
    # 40,000 - 15,000 = 25,000 emails at starter's price; silver's 12,500 leads do not hold 14,000
    assert total(home, "s04") == GOLD + 25 * USD("3.00") == USD("374.00")
    assert lines(home, "s04") == [
        ("package_fee", None, "gold", "299.00"),
        ("overage", "emails", "starter", "75.00"),
    ]
    upgrade = one(changes(home, "s04"))
    assert (upgrade["from_package"], upgrade["to_package"]) == ("starter", "gold")


def test_s05_a_requested_upgrade_waits_for_the_billing_date_and_so_does_its_allowance(home: Path) -> None:
    # 12,000 + 8,000 emails in one cycle, all of them against starter's allowance
    assert total(home, "s05") == SILVER + 5 * USD("3.00") == USD("214.00")
    assert [row["billing_date"] for row in show(home, "documents", "--account", "s05")] == ["2026-01-10", FEB_10]
    answer = one(changes(home, "s05"))
    assert (answer["kind"], answer["outcome"], answer["reason"]) == ("upgrade", "approved", "requested")
    assert (answer["decided_on"], answer["effective_on"], answer["to_package"]) == (FEB_10, FEB_10, "silver")


def test_s06_of_a_request_and_an_automatic_upgrade_the_higher_package_wins_once(home: Path) -> None:
    # one domain over starter's one
    assert total(home, "s06") == GOLD + 1 * USD("10.00") == USD("309.00")
    by_kind = {row["kind"]: row for row in changes(home, "s06")}
    assert sorted(by_kind) == ["auto_upgrade", "upgrade"]
    automatic, asked = by_kind["auto_upgrade"], by_kind["upgrade"]
    assert (automatic["outcome"], automatic["to_package"], automatic["effective_on"]) == ("approved", "gold", FEB_10)
    assert (asked["outcome"], asked["reason"], asked["to_package"]) == ("superseded", "satisfied_by_higher", "silver")
    assert asked["effective_on"] is None
    assert packages(home, "s06") == [(None, "starter"), ("starter", "gold")]


def test_s07_above_the_largest_package_nothing_changes_and_the_account_is_flagged(home: Path) -> None:
    # 61,000 - 50,000 = 11,000 leads are 3 blocks of 5,000
    assert total(home, "s07") == PLATINUM + 3 * USD("25.00") == USD("574.00")
    answer = one(changes(home, "s07"))
    assert (answer["kind"], answer["outcome"], answer["reason"]) == ("auto_upgrade", "refused", "no_larger_package")
    assert answer["flags"] == ["exceeds_catalogue"]
    assert answer["evidence"] == [{"metric": "leads", "quantity": "61000", "allowance": "50000"}]
    assert packages(home, "s07") == [(None, "platinum"), ("platinum", "platinum")]


def test_s08_a_downgrade_is_refused_with_what_stands_in_the_way(home: Path) -> None:
    assert total(home, "s08") == SILVER
    answer = one(changes(home, "s08"))
    assert (answer["kind"], answer["outcome"], answer["reason"]) == ("downgrade", "refused", "usage_exceeds_package")
    assert answer["evidence"] == [{"metric": "custom_domains", "quantity": "2", "allowance": "1"}]


def test_s09_a_downgrade_at_every_limit_is_a_fit(home: Path) -> None:
    assert total(home, "s09") == STARTER
    answer = one(changes(home, "s09"))
    assert (answer["kind"], answer["outcome"], answer["reason"]) == ("downgrade", "approved", "usage_fits")
    assert (answer["from_package"], answer["to_package"], answer["effective_on"]) == ("silver", "starter", FEB_10)


def test_every_change_is_explained_in_words(home: Path) -> None:
    decisions = show(home, "decisions")
    assert len(decisions) == 11 + 8, "eleven purchases and eight answers"
    assert [row["decision_id"] for row in decisions if not row["explanation"] or "{" in row["explanation"]] == []


def test_numbers_are_given_in_the_order_of_billing_date_and_account(home: Path) -> None:
    documents = show(home, "documents")
    order = [(row["billing_date"], row["account_id"]) for row in documents]
    assert [row["number"] for row in documents] == [f"INV-2026-{n:06d}" for n in range(1, 23)]
    assert order == sorted(order)


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """S10 to S12 and S14: trials, cancellations and a hold, month after month until June."""
    landing = Landing(tmp_path_factory.mktemp("later"))

    landing.customer("s10", "starter", "2026-01-17", trial_days=14)
    landing.use("s10", "2026-01-20", emails=30_000)
    landing.use("s10", "2026-02-10", emails=16_000)
    landing.use("s10", "2026-03-10", emails=15_000)

    for name, on, emails, served in (
        ("s11", "2026-02-28", 19_200, 0),
        ("s12", "2026-03-01", 15_000, 50 * GB + 1),
    ):
        landing.customer(name, "starter")
        landing.use(name, "2026-02-20", emails=emails, bytes=served)
        landing.request(name, "cancel", f"{on}T10:00:00Z", "email")

    landing.customer("s14", "silver", "2026-01-15")
    landing.use("s14", "2026-02-20", bytes=260_500_000_000)
    landing.request("s14", "hold", "2026-03-01T10:00:00Z")
    landing.use("s14", "2026-03-20", bytes=500 * GB)
    landing.request("s14", "resume", "2026-05-20T10:00:00Z")

    bill_by_steps(landing.root, "2026-06", "2026-06-30")
    return landing.root


def totals(home: Path, account: str) -> dict[str, str]:
    return {row["billing_date"]: row["total"] for row in show(home, "documents", "--account", account)}


def test_s10_a_trial_bills_nothing_and_its_end_starts_the_billing_dates(later: Path) -> None:
    found = totals(later, "s10")
    assert [*found][:5] == ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]
    assert [*found.values()][:3] == ["99.00", "102.00", "99.00"]
    trial = one(show(later, "unbilled", "--account", "s10"))
    assert (trial["reason"], trial["quantity"]) == ("trial", "30000")


def test_s11_cancelled_in_time_only_overages_are_left_to_bill(later: Path) -> None:
    # 19,200 - 15,000 = 4,200 emails are 5 blocks
    assert totals(later, "s11") == {
        "2026-01-10": "99.00",
        "2026-02-10": "99.00",
        "2026-03-10": str(5 * USD("3.00")),
    }
    assert lines(later, "s11", "2026-03-10") == [("overage", "emails", "starter", "15.00")]
    assert one(changes(later, "s11"))["reason"] == "in_time"


def test_s12_cancelled_late_one_more_fee_is_due(later: Path) -> None:
    assert totals(later, "s12") == {
        "2026-01-10": "99.00",
        "2026-02-10": "99.00",
        "2026-03-10": str(STARTER + 1 * USD("0.50")),
    }
    assert one(changes(later, "s12"))["reason"] == "late_notice"


def test_s14_on_hold_no_fee_falls_due_and_resuming_starts_anew(later: Path) -> None:
    # 260.5 - 250 = 10.5 GB are 11 blocks; what was used while held bills nothing
    found = totals(later, "s14")
    assert {day: found[day] for day in sorted(found) if day > "2026-03-01"} == {
        "2026-03-15": str(11 * USD("0.40")),
        "2026-05-20": "199.00",
        "2026-06-20": "199.00",
    }
    held = one(show(later, "unbilled", "--account", "s14"))
    assert (held["billing_month"], held["reason"], held["quantity"]) == ("2026-03", "held", "500")


def test_s13_refunded_on_day_30_the_fee_goes_back_and_overages_are_still_billed(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("s13", "starter")
    landing.pay("s13", "INV-2026-000001", "99.00", "2026-01-10T12:00:00Z")
    landing.use("s13", emails=16_500)
    landing.request("s13", "refund", "2026-02-09T10:00:00Z")
    bill_by_steps(tmp_path, "2026-03", "2026-03-31")
    # 16,500 - 15,000 = 1,500 emails are 2 blocks
    assert [(row["kind"], row["billing_date"], row["total"]) for row in show(tmp_path, "documents")] == [
        ("credit_note", "2026-01-10", "-99.00"),
        ("invoice", "2026-01-10", "99.00"),
        ("invoice", "2026-02-10", str(2 * USD("3.00"))),
    ]
    refund = one(show(tmp_path, "decisions", kind="refund"))
    assert (refund["outcome"], refund["amount"]) == ("approved", "99.00")
    assert (refund["expected_from"], refund["expected_by"]) == ("2026-02-16", "2026-02-23")


@pytest.mark.usefixtures("profiles_once")
def test_s15_the_profile_says_what_comes_next(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("s15", "starter")
    landing.use("s15", "2026-02-12", leads=2_600, emails=18_000, domains=1)
    assert bill(tmp_path, "2026-02", "2026-02-25").status == 0
    profile = one(show(tmp_path, "profile"))
    assert (profile["package"], profile["next_billing_date"]) == ("starter", "2026-03-10")
    # silver and 3 blocks of emails at starter's price
    assert profile["upcoming_amount"] == str(SILVER + 3 * USD("3.00")) == "208.00"
    assert (profile["previous_amount"], profile["previous_date"]) == ("99.00", FEB_10)
    assert profile["pending_change"] == {
        "from_package": "starter",
        "to_package": "silver",
        "effective_on": "2026-03-10",
        "reason": "auto_upgrade",
    }
    over = {row["metric"]: row["excess"] for row in profile["usage"] if row["excess"] != "0"}
    assert over == {"leads": "100", "emails": "3000"}
    page = (tmp_path / "profiles" / "a-s15.html").read_text()
    assert "208.00" in page
    # another day is computed without being written
    earlier = one(show(tmp_path, "profile", "--as-of", "2026-02-11"))
    assert (earlier["upcoming_amount"], earlier["pending_change"]) == ("99.00", None)
    assert one(show(tmp_path, "profile"))["upcoming_amount"] == "208.00"
