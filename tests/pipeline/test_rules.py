"""The rules one by one, through the command line: the plain case, the boundary on both sides, the collision.

Everyone buys starter (99.00) on 2026-01-10 unless the story says otherwise, so billing dates are the 10th. Four runs
follow the business, as of the 15th of February, March, April and May; some things become known between them.
"""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from tests.by_steps import bill_by_steps
from tests.pipeline.outside import GB, Landing, Row, bill, one, show
from tests.sizes import sized

USD = Decimal
FEB, MAR, APR, MAY = "2026-02-10", "2026-03-10", "2026-04-10", "2026-05-10"
TABLES = ("documents", "lines", "taxes", "decisions", "packages", "unbilled", "profile", "balances", "collections")


def before_the_first_run(landing: Landing) -> None:
    ask = landing.request
    # rule 7
    for name, leads in (
        ("fits-silver", 12_500),
        ("needs-gold", 12_501),
        ("needs-platinum", 25_001),
        ("too-big", 50_001),
    ):
        landing.customer(name)
        landing.use(name, leads=leads)
    # rule 8
    landing.customer("asks-same")
    ask("asks-same", "upgrade", "2026-01-20T10:00:00Z", "self_service", package="starter")
    landing.customer("asks-unknown")
    ask("asks-unknown", "upgrade", "2026-01-20T10:00:00Z", "self_service", package="diamond")
    landing.customer("asks-twice")
    ask("asks-twice", "upgrade", "2026-01-20T10:00:00Z", "self_service", package="gold")
    ask("asks-twice", "upgrade", "2026-01-21T10:00:00Z", "self_service", package="silver")
    landing.customer("asks-twice-once-wrong")
    ask("asks-twice-once-wrong", "upgrade", "2026-01-20T10:00:00Z", "self_service", package="silver")
    ask("asks-twice-once-wrong", "upgrade", "2026-01-21T10:00:00Z", "self_service", package="starter")
    landing.customer("asks-on-the-eve")
    ask("asks-on-the-eve", "upgrade", "2026-02-09T23:59:59Z", "self_service", package="silver")
    landing.customer("asks-on-the-date")
    ask("asks-on-the-date", "upgrade", "2026-02-10T00:00:00Z", "self_service", package="silver")
    landing.customer("asks-in-trial", on="2026-01-17", trial_days=14)
    ask("asks-in-trial", "upgrade", "2026-01-20T10:00:00Z", "self_service", package="silver")
    landing.customer("up-then-down", "silver")
    ask("up-then-down", "upgrade", "2026-01-20T10:00:00Z", "self_service", package="gold")
    ask("up-then-down", "downgrade", "2026-01-25T10:00:00Z", package="starter")
    # rule 9
    landing.customer("same-wish")
    landing.use("same-wish", leads=14_000)
    ask("same-wish", "upgrade", "2026-01-20T10:00:00Z", "self_service", package="gold")
    landing.customer("higher-wish")
    landing.use("higher-wish", leads=2_501)
    ask("higher-wish", "upgrade", "2026-01-20T10:00:00Z", "self_service", package="gold")
    landing.customer("learnt-late")
    # rule 10
    landing.customer("latest-level", "silver")
    landing.use("latest-level", "2026-01-15", domains=3)
    landing.use("latest-level", "2026-01-25", domains=-2)
    ask("latest-level", "downgrade", "2026-01-20T10:00:00Z", package="starter")
    landing.customer("outgrows-and-shrinks", "silver")
    landing.use("outgrows-and-shrinks", leads=12_501)
    ask("outgrows-and-shrinks", "downgrade", "2026-01-20T10:00:00Z", package="starter")
    landing.customer("shrinks-by-itself", "silver")
    ask("shrinks-by-itself", "downgrade", "2026-01-20T10:00:00Z", "self_service", package="starter")
    landing.customer("shrinks-upwards")
    ask("shrinks-upwards", "downgrade", "2026-01-20T10:00:00Z", package="gold")
    # rule 11
    landing.customer("moves-out")
    ask("moves-out", "transfer", "2026-01-20T10:00:00Z")
    ask("moves-out", "split_payment", "2026-01-21T10:00:00Z")
    ask("moves-out", "change_card", "2026-01-22T10:00:00Z", "self_service", brand="American Express", last4="0005")
    ask("moves-out", "change_card", "2026-01-23T10:00:00Z", "self_service", brand="Diners Club", last4="0004")
    # rule 12
    for name, day in (("ten-days", "2026-01-31"), ("nine-days", "2026-02-01"), ("leaves-on-the-date", FEB)):
        landing.customer(name)
        ask(name, "cancel", f"{day}T10:00:00Z", "email")
    landing.customer("calls-to-leave")
    ask("calls-to-leave", "cancel", "2026-01-20T10:00:00Z", "support")
    landing.customer("leaves-twice")
    ask("leaves-twice", "cancel", "2026-01-20T10:00:00Z", "email")
    ask("leaves-twice", "cancel", "2026-01-21T10:00:00Z", "email")
    landing.customer("leaves-and-uses")
    ask("leaves-and-uses", "cancel", "2026-01-20T10:00:00Z", "email")
    landing.use("leaves-and-uses", "2026-01-20", emails=16_000)
    landing.use("leaves-and-uses", "2026-01-21", emails=5_000)
    landing.customer("wish-is-void")
    ask("wish-is-void", "upgrade", "2026-02-01T10:00:00Z", "self_service", package="silver")
    ask("wish-is-void", "cancel", "2026-02-05T10:00:00Z", "email")
    landing.customer("leaves-in-trial", on="2026-01-17", trial_days=14)
    ask("leaves-in-trial", "cancel", "2026-01-30T10:00:00Z", "email")
    landing.customer("comes-back")
    ask("comes-back", "cancel", "2026-01-20T10:00:00Z", "email")
    ask("comes-back", "subscribe", "2026-01-25T10:00:00Z", "self_service", package="silver")
    landing.customer("buys-twice")
    ask("buys-twice", "subscribe", "2026-01-25T10:00:00Z", "self_service", package="silver")
    # rule 13
    for name, hold, resume in (
        ("pauses", "2026-01-15", "2026-01-25"),
        ("back-on-the-last-day", "2026-01-15", "2026-02-09"),
        ("back-a-day-later", "2026-01-15", FEB),
    ):
        landing.customer(name)
        ask(name, "hold", f"{hold}T10:00:00Z")
        ask(name, "resume", f"{resume}T10:00:00Z")
        landing.use(name, "2026-01-20", emails=20_000)
    landing.customer("holds-late")
    ask("holds-late", "hold", "2026-02-05T10:00:00Z")
    landing.customer("holds-late-and-returns")
    ask("holds-late-and-returns", "hold", "2026-02-05T10:00:00Z")
    ask("holds-late-and-returns", "resume", "2026-02-20T10:00:00Z")
    landing.customer("never-held")
    ask("never-held", "resume", "2026-01-20T10:00:00Z")
    # rule 14
    landing.account("refunded-with-tax", country="DE")
    ask("refunded-with-tax", "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter")
    ask("refunded-with-tax", "refund", "2026-02-07T10:00:00Z")
    ask("refunded-with-tax", "refund", "2026-02-08T10:00:00Z")
    landing.customer("refund-too-late")
    ask("refund-too-late", "refund", "2026-02-10T10:00:00Z")
    landing.customer("refund-of-a-year", term="yearly")
    ask("refund-of-a-year", "refund", "2026-01-20T10:00:00Z")
    landing.customer("refund-overrides-notice")
    ask("refund-overrides-notice", "cancel", "2026-02-05T10:00:00Z", "email")
    ask("refund-overrides-notice", "refund", "2026-02-06T10:00:00Z")
    # rule 15
    landing.customer("leaves-owing")
    ask("leaves-owing", "cancel", "2026-01-20T10:00:00Z", "email")
    # rule 16
    landing.customer("card-fails")
    landing.customer("card-fails-briefly")
    # rule 18
    landing.customer("by-the-year", term="yearly")
    landing.use("by-the-year", emails=16_000)
    ask("by-the-year", "upgrade", "2026-01-20T10:00:00Z", "self_service", package="silver")
    landing.customer("by-the-year-smaller", "silver", term="yearly")
    ask("by-the-year-smaller", "downgrade", "2026-01-20T10:00:00Z", package="starter")
    landing.customer("by-the-year-paused", "silver", term="yearly")
    ask("by-the-year-paused", "downgrade", "2026-01-20T10:00:00Z", package="starter")
    ask("by-the-year-paused", "hold", "2026-02-15T10:00:00Z")
    ask("by-the-year-paused", "resume", "2026-02-20T10:00:00Z")
    # rule 20
    landing.customer("left-long-ago")
    landing.customer("used-less")
    landing.use("used-less", emails=18_000)
    # rule 24
    landing.account("berlin", country="DE")
    landing.account("berlin-with-id", country="DE", tax_id="DE136695976")
    landing.account("berlin-with-wrong-id", country="DE", tax_id="DE136695977")
    for name in ("berlin", "berlin-with-id", "berlin-with-wrong-id"):
        ask(name, "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter")
    (landing.folder / "tax_rates.csv").write_text(
        "country,region,rate,name,effective_from\nDE,,0.19,VAT,2020-01-01\nDE,,0.16,VAT,2026-03-01\n"
    )


def number_of(home: Path, account: str, on: str) -> str:
    return str(one(show(home, "documents", "--account", account, billing_date=on))["number"])


def before_the_second_run(landing: Landing) -> None:
    landing.use("learnt-late", "2026-01-20", leads=2_501, emails=16_000, delivered="2026-02-20")
    landing.use("leaves-owing", "2026-01-19", emails=16_000, delivered="2026-02-20")
    failing = number_of(landing.root, "card-fails", FEB)
    landing.pay("card-fails", failing, "99.00", "2026-02-12T00:00:00Z", "failed")
    landing.use("card-fails", "2026-02-11", emails=16_000, delivered="2026-02-20")
    landing.use("card-fails", "2026-02-13", emails=50_000, delivered="2026-02-20")
    briefly = number_of(landing.root, "card-fails-briefly", FEB)
    landing.pay("card-fails-briefly", briefly, "99.00", "2026-02-12T00:00:00Z", "failed")
    landing.pay("card-fails-briefly", briefly, "99.00", "2026-02-13T00:00:00Z", "succeeded")


def before_the_third_run(landing: Landing) -> None:
    landing.pay("card-fails", number_of(landing.root, "card-fails", FEB), "99.00", "2026-03-20T00:00:00Z")
    # a cancellation that is entered late: it was in time for the fee of 10 March
    landing.request("left-long-ago", "cancel", "2026-02-20T10:00:00Z", "email")
    # a delivery that is withdrawn
    for path in (landing.folder / "usage" / "2026-01-20").glob("*.jsonl"):
        kept = [row for row in path.read_text().splitlines() if '"used-less"' not in row]
        path.write_text("".join(f"{row}\n" for row in kept))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Row]]:
    """The rows of a table with the wanted values, after all four runs."""
    landing = Landing(tmp_path_factory.mktemp("rules"))
    before_the_first_run(landing)
    bill_by_steps(landing.root, "2026-02", "2026-02-15")
    before_the_second_run(landing)
    bill_by_steps(landing.root, "2026-03", "2026-03-15")
    before_the_third_run(landing)
    bill_by_steps(landing.root, "2026-04", "2026-04-15")
    assert bill(landing.root, "2026-05", "2026-05-15", profiles=True).status == 0
    tables = {name: show(landing.root, name) for name in TABLES}

    def rows(table: str, **wanted: object) -> list[Row]:
        return [row for row in tables[table] if all(row[name] == value for name, value in wanted.items())]

    return rows


Story = Callable[..., list[Row]]


def totals(story: Story, account: str) -> dict[str, Decimal]:
    """Totals of an account's documents by billing date; two on one date would be two entries short."""
    found = story("documents", account_id=account, corrects=None)
    assert len({row["billing_date"] for row in found}) == len(found)
    return {row["billing_date"]: USD(row["total"]) for row in found}


def answers(story: Story, account: str) -> list[tuple[str, str, str]]:
    """kind, outcome and reason of everything decided, the first purchase left out."""
    found = story("decisions", account_id=account)
    return [(row["kind"], row["outcome"], row["reason"]) for row in found][1:]


def amounts(story: Story, account: str, on: str) -> list[tuple[str, str | None, str]]:
    number = one(story("documents", account_id=account, billing_date=on, corrects=None))["number"]
    return [(row["kind"], row["metric"], row["amount"]) for row in story("lines", number=number)]


@pytest.mark.parametrize(
    ("account", "package", "fee"),
    [
        ("fits-silver", "silver", "199.00"),
        ("needs-gold", "gold", "299.00"),
        ("needs-platinum", "platinum", "499.00"),
        ("too-big", "platinum", "499.00"),
    ],
)
def test_rule_7_the_smallest_package_that_fits_is_chosen(story: Story, account: str, package: str, fee: str) -> None:
    change = one(story("decisions", account_id=account, kind="auto_upgrade", effective_on=FEB))
    assert (change["outcome"], change["from_package"], change["to_package"]) == ("approved", "starter", package)
    assert change["flags"] == (["exceeds_catalogue"] if account == "too-big" else [])
    assert totals(story, account)[FEB] == USD(fee)


def test_rule_7_on_the_largest_package_the_excess_is_charged_and_said_each_time(story: Story) -> None:
    # 50,001 - 50,000 = 1 lead is one started block of 5,000
    assert totals(story, "too-big")[MAR] == USD("499.00") + 1 * USD("25.00")
    refused = story("decisions", account_id="too-big", outcome="refused")
    assert [(row["reason"], row["flags"]) for row in refused] == [("no_larger_package", ["exceeds_catalogue"])] * 3


def test_rule_8_the_same_package_is_no_upgrade(story: Story) -> None:
    assert answers(story, "asks-same") == [("upgrade", "refused", "not_an_upgrade")]
    assert totals(story, "asks-same")[FEB] == USD("99.00")


def test_rule_8_an_unknown_package_is_refused_and_the_account_billed(story: Story) -> None:
    assert answers(story, "asks-unknown") == [("upgrade", "refused", "unknown_package")]
    assert totals(story, "asks-unknown")[FEB] == USD("99.00")


def test_rule_8_of_two_requests_the_latest_counts(story: Story) -> None:
    assert sorted(answers(story, "asks-twice")) == [
        ("upgrade", "approved", "requested"),
        ("upgrade", "superseded", "superseded_by_later_request"),
    ]
    assert totals(story, "asks-twice")[FEB] == USD("199.00"), "silver was asked for last"


def test_rule_8_of_two_requests_the_latest_valid_one_counts(story: Story) -> None:
    assert sorted(answers(story, "asks-twice-once-wrong")) == [
        ("upgrade", "approved", "requested"),
        ("upgrade", "refused", "not_an_upgrade"),
    ]
    assert totals(story, "asks-twice-once-wrong")[FEB] == USD("199.00")


def test_rule_8_asked_on_the_eve_it_takes_effect_on_the_billing_date(story: Story) -> None:
    assert totals(story, "asks-on-the-eve")[FEB] == USD("199.00")


def test_rule_8_asked_on_a_billing_date_it_waits_for_the_next(story: Story) -> None:
    found = totals(story, "asks-on-the-date")
    assert (found[FEB], found[MAR]) == (USD("99.00"), USD("199.00"))


def test_rule_8_asked_in_a_trial_it_applies_when_the_trial_ends(story: Story) -> None:
    assert totals(story, "asks-in-trial")["2026-01-31"] == USD("199.00")


def test_rule_8_a_later_downgrade_supersedes_an_upgrade(story: Story) -> None:
    assert sorted(answers(story, "up-then-down")) == [
        ("downgrade", "approved", "usage_fits"),
        ("upgrade", "superseded", "superseded_by_later_request"),
    ]
    assert totals(story, "up-then-down")[FEB] == USD("99.00")


@pytest.mark.parametrize("account", ["same-wish", "higher-wish"])
def test_rule_9_a_request_that_covers_the_automatic_upgrade_is_the_one_change(story: Story, account: str) -> None:
    assert sorted(answers(story, account)) == [
        ("auto_upgrade", "superseded", "satisfied_by_higher"),
        ("upgrade", "approved", "requested"),
    ]
    assert totals(story, account)[FEB] == USD("299.00")


def test_rule_9_what_is_learnt_late_changes_money_and_never_a_package_that_is_closed(story: Story) -> None:
    by_date = {row["billing_date"]: row["opening_package"] for row in story("packages", account_id="learnt-late")}
    assert by_date[FEB] == "starter", "closed in February, before the leads were known"
    assert by_date[MAR] == "silver", "the leads are still there in the next cycle"
    # 16,000 - 15,000 = 1,000 emails of the cycle before are one block
    assert amounts(story, "learnt-late", MAR) == [("package_fee", None, "199.00"), ("prior_cycle", "emails", "3.00")]


def test_rule_10_gauges_count_by_their_latest_level(story: Story) -> None:
    assert answers(story, "latest-level") == [("downgrade", "approved", "usage_fits")]
    assert totals(story, "latest-level")[FEB] == USD("99.00"), "3 domains were within silver's allowance"


def test_rule_10_an_automatic_upgrade_in_the_same_cycle_refuses_a_downgrade(story: Story) -> None:
    assert sorted(answers(story, "outgrows-and-shrinks")) == [
        ("auto_upgrade", "approved", "usage_over_allowance"),
        ("downgrade", "refused", "automatic_upgrade"),
    ]
    assert totals(story, "outgrows-and-shrinks")[FEB] == USD("299.00")


@pytest.mark.parametrize(
    ("account", "kind", "reason"),
    [
        ("shrinks-by-itself", "downgrade", "wrong_channel"),
        ("shrinks-upwards", "downgrade", "not_a_downgrade"),
        ("calls-to-leave", "cancel", "wrong_channel"),
        ("never-held", "resume", "not_held"),
        ("buys-twice", "subscribe", "already_subscribed"),
        ("refund-too-late", "refund", "not_first_cycle"),
        ("refund-of-a-year", "refund", "yearly_term"),
    ],
)
def test_rule_17_what_cannot_be_is_refused_with_its_reason(story: Story, account: str, kind: str, reason: str) -> None:
    assert answers(story, account) == [(kind, "refused", reason)]
    assert all(row["explanation"] for row in story("decisions", account_id=account))


def test_rule_11_no_transfer_no_split_payment_and_only_accepted_cards(story: Story) -> None:
    assert answers(story, "moves-out") == [
        ("transfer", "refused", "ownership_transfer_not_offered"),
        ("split_payment", "refused", "split_payment_not_offered"),
        ("change_card", "approved", "card_changed"),
        ("change_card", "refused", "card_brand_not_accepted"),
    ]
    due = story("collections", account_id="moves-out")
    assert {(row["card_brand"], row["card_last4"]) for row in due} == {("American Express", "0005")}


def test_rule_12_ten_days_before_the_fee_falls_due_is_in_time(story: Story) -> None:
    assert totals(story, "ten-days") == {"2026-01-10": USD("99.00")}


def test_rule_12_nine_days_before_one_more_fee_falls_due(story: Story) -> None:
    assert totals(story, "nine-days") == {"2026-01-10": USD("99.00"), FEB: USD("99.00")}


def test_rule_12_on_a_billing_date_that_dates_fee_is_due_and_the_next_is_not(story: Story) -> None:
    assert totals(story, "leaves-on-the-date") == {"2026-01-10": USD("99.00"), FEB: USD("99.00")}


def test_rule_12_one_cancels_once(story: Story) -> None:
    assert answers(story, "leaves-twice") == [("cancel", "approved", "in_time"), ("cancel", "refused", "already_ended")]


def test_rule_12_access_ends_with_the_day_of_the_request(story: Story) -> None:
    # 16,000 - 15,000 = 1,000 emails of the last day are one block; the day after counts for nothing
    assert totals(story, "leaves-and-uses")[FEB] == USD("3.00")
    lost = one(story("unbilled", account_id="leaves-and-uses"))
    assert (lost["reason"], lost["quantity"], lost["events"]) == ("access_ended", "5000", 1)


def test_rule_12_a_late_cancellation_voids_what_was_pending(story: Story) -> None:
    assert answers(story, "wish-is-void") == [
        ("upgrade", "superseded", "voided_by_cancellation"),
        ("cancel", "approved", "late_notice"),
    ]
    assert totals(story, "wish-is-void")[FEB] == USD("99.00"), "one more fee, of the package in force"


def test_rule_12_cancelled_in_a_trial_nothing_is_charged(story: Story) -> None:
    assert story("documents", account_id="leaves-in-trial") == []
    assert story("packages", account_id="leaves-in-trial") == []


def test_rule_12_who_comes_back_starts_anew(story: Story) -> None:
    found = story("documents", account_id="comes-back")
    assert [(row["subscription_id"], row["billing_date"], row["total"]) for row in found[:3]] == [
        ("comes-back/2026-01-10", "2026-01-10", "99.00"),
        ("comes-back/2026-01-25", "2026-01-25", "199.00"),
        ("comes-back/2026-01-25", "2026-02-25", "199.00"),
    ]


@pytest.mark.parametrize("account", ["pauses", "back-on-the-last-day"])
def test_rule_13_resumed_within_the_paid_cycle_the_hold_is_undone(story: Story, account: str) -> None:
    assert [reason for _, _, reason in answers(story, account)] == ["in_time", "hold_undone"]
    assert totals(story, account)[FEB] == USD("99.00"), "usage while held is not billed"
    assert one(story("unbilled", account_id=account))["reason"] == "held"


def test_rule_13_resumed_after_the_paid_cycle_a_new_subscription_starts(story: Story) -> None:
    assert [reason for _, _, reason in answers(story, "back-a-day-later")] == ["in_time", "new_subscription"]
    found = story("documents", account_id="back-a-day-later", billing_date=FEB)
    assert [(row["subscription_id"], row["total"]) for row in found] == [("back-a-day-later/2026-02-10", "99.00")]


def test_rule_13_held_late_one_more_fee_falls_due(story: Story) -> None:
    assert totals(story, "holds-late") == {"2026-01-10": USD("99.00"), FEB: USD("99.00")}
    profile = one(story("profile", account_id="holds-late"))
    assert (profile["status"], profile["next_billing_date"]) == ("held", None)


def test_rule_14_the_fee_goes_back_with_its_tax_and_only_once(story: Story) -> None:
    assert [reason for _, _, reason in answers(story, "refunded-with-tax")] == [
        "within_refund_window",
        "already_refunded",
    ]
    note = one(story("documents", account_id="refunded-with-tax", kind="credit_note"))
    # 99.00 x 0.19 = 18.81
    assert (note["net"], note["tax"], note["total"]) == ("-99.00", "-18.81", "-117.81")
    first = one(story("documents", account_id="refunded-with-tax", billing_date="2026-01-10", kind="invoice"))
    assert (note["corrects"], note["billing_month"]) == (first["number"], "2026-01")
    refund = one(story("decisions", account_id="refunded-with-tax", kind="refund", outcome="approved"))
    # nothing had been paid; approved on a Saturday: the fifth business day is the Friday after, the tenth a week later
    assert (refund["amount"], refund["expected_from"], refund["expected_by"]) == ("0.00", "2026-02-13", "2026-02-20")
    assert FEB not in totals(story, "refunded-with-tax"), "no further fee"


def test_rule_14_a_refund_overrides_the_notice(story: Story) -> None:
    assert totals(story, "refund-overrides-notice") == {"2026-01-10": USD("99.00")}
    assert one(story("balances", account_id="refund-overrides-notice"))["outstanding"] == "0.00"


def test_rule_15_late_usage_of_a_cancelled_account_is_still_billed(story: Story) -> None:
    # on what would have been its next billing date: one block of emails
    assert totals(story, "leaves-owing") == {"2026-01-10": USD("99.00"), MAR: USD("3.00")}
    assert one(story("balances", account_id="leaves-owing"))["outstanding"] == "102.00"


def test_rule_16_while_a_payment_has_failed_there_is_no_access_and_no_fee(story: Story) -> None:
    # one block of the 16,000 emails before the payment failed; the 50,000 after it are not billed
    assert amounts(story, "card-fails", MAR) == [("overage", "emails", "3.00")]
    lost = one(story("unbilled", account_id="card-fails"))
    assert (lost["reason"], lost["quantity"]) == ("suspended", "50000")


def test_rule_13_a_billing_date_within_a_hold_is_held_though_the_hold_was_undone(story: Story) -> None:
    # five days before 02-10 are late: the fee of 02-10 falls due, and the hold lasts until 02-20
    statuses = {row["billing_date"]: row["status"] for row in story("packages", account_id="holds-late-and-returns")}
    assert (statuses[FEB], statuses[MAR]) == ("held", "active")
    assert totals(story, "holds-late-and-returns")[FEB] == USD("99.00")


def test_rule_16_what_was_paid_late_pays_for_what_follows(story: Story) -> None:
    assert amounts(story, "card-fails", APR) == [("package_fee", None, "99.00")], "the fee of March never comes back"


def test_rule_16_paid_before_the_billing_date_the_fee_is_due(story: Story) -> None:
    assert totals(story, "card-fails-briefly")[MAR] == USD("99.00")


def test_rule_18_a_yearly_fee_falls_due_once_and_overages_every_month(story: Story) -> None:
    # from starter to silver for 11 of 12 cycles: (1,990.00 - 990.00) x 11 / 12 = 916.67
    assert amounts(story, "by-the-year", "2026-01-10") == [("package_fee", None, "990.00")]
    assert amounts(story, "by-the-year", FEB) == [("package_fee", None, "916.67"), ("overage", "emails", "3.00")]
    assert MAR not in totals(story, "by-the-year")


def test_rule_18_a_lower_package_waits_for_the_end_of_the_term(story: Story) -> None:
    answer = one(story("decisions", account_id="by-the-year-smaller", kind="downgrade"))
    assert (answer["outcome"], answer["effective_on"]) == ("approved", "2027-01-10")
    assert {row["opening_package"] for row in story("packages", account_id="by-the-year-smaller")} == {"silver"}


def test_rule_13_a_hold_voids_what_waits_for_the_end_of_a_term_even_when_it_is_undone(story: Story) -> None:
    waiting = {name: waits(story, name) for name in ("by-the-year-smaller", "by-the-year-paused")}
    assert waiting["by-the-year-smaller"] == {"2026-01-10": None, FEB: "starter", MAR: "starter", APR: "starter"}
    assert waiting["by-the-year-paused"] == {"2026-01-10": None, FEB: "starter", MAR: None, APR: None}


def waits(story: Story, account: str) -> dict[str, str | None]:
    return {
        row["billing_date"]: row["waiting_package"]
        for row in story("packages", account_id=account)
        if row["billing_date"] < MAY
    }


def test_rule_20_a_cancellation_entered_late_gives_back_the_fee_it_would_have_avoided(story: Story) -> None:
    note = one(story("documents", account_id="left-long-ago", kind="credit_note"))
    assert (note["billing_date"], note["total"], note["corrects"]) == (APR, "-99.00", None)
    assert one(story("balances", account_id="left-long-ago"))["outstanding"] == "198.00"


def test_rule_22_a_withdrawn_delivery_lowers_the_next_document(story: Story) -> None:
    # 18,000 - 15,000 = 3,000 emails were 3 blocks
    assert amounts(story, "used-less", FEB) == [("package_fee", None, "99.00"), ("overage", "emails", "9.00")]
    assert amounts(story, "used-less", APR) == [("package_fee", None, "99.00"), ("prior_cycle", "emails", "-9.00")]
    assert amounts(story, "used-less", MAY) == [("package_fee", None, "99.00")]


@pytest.mark.parametrize(
    ("account", "on", "rate", "tax", "reason"),
    [
        ("berlin", FEB, "0.19", "18.81", "charged"),
        ("berlin", MAR, "0.16", "15.84", "charged"),
        ("berlin-with-id", FEB, "0.19", "0.00", "reverse_charge"),
        ("berlin-with-wrong-id", FEB, "0.19", "18.81", "charged"),
    ],
)
def test_rule_24_tax_by_place_date_and_tax_id(
    story: Story, account: str, on: str, rate: str, tax: str, reason: str
) -> None:
    number = one(story("documents", account_id=account, billing_date=on))["number"]
    found = one(story("taxes", number=number))
    assert (found["rate"], found["taxable"], found["amount"], found["reason"]) == (rate, "99.00", tax, reason)


def test_rule_19_numbers_of_every_series_have_no_gap(story: Story) -> None:
    for series in ("INV", "CN"):
        numbers = sorted(row["number"] for row in story("documents") if row["number"].startswith(series))
        assert numbers == [f"{series}-2026-{position:06d}" for position in range(1, len(numbers) + 1)]


def test_rule_25_nobody_is_left_out_of_the_profiles(story: Story) -> None:
    assert len(story("profile")) == len({row["account_id"] for row in story("decisions")})


@pytest.mark.parametrize(
    ("currency", "unit_price", "amount", "total"),
    sized(
        [("JPY", "0.08", "1", "100"), ("KWD", "0.0805", "0.805", "99.805")],
        [("JPY", "0.08", "1", "100"), ("KWD", "0.0805", "0.805", "99.805"), ("USD", "0.0805", "0.81", "99.81")],
    ),
)
def test_rule_4_amounts_have_the_decimals_of_the_currency(
    tmp_path: Path, currency: str, unit_price: str, amount: str, total: str
) -> None:
    landing = Landing(tmp_path)
    block = 'emails:         {model: block, size: 1000, price: "3.00"}'
    tiers = f'emails: {{model: volume, tiers: [{{up_to: null, unit_price: "{unit_price}"}}]}}'
    assert block in landing.catalogue
    changed = landing.catalogue.replace("currency: USD", f"currency: {currency}").replace(block, tiers, 1)
    (landing.folder / "catalogue.yaml").write_text(changed)
    landing.customer("acme", billed_through=FEB)
    landing.use("acme", emails=15_010)
    bill_by_steps(tmp_path, "2026-02", FEB)
    # ten units over
    assert show(tmp_path, "lines", kind="overage")[0]["amount"] == amount
    assert show(tmp_path, "documents", billing_date=FEB)[0]["total"] == total


@pytest.fixture(scope="module")
def after_the_clocks_changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In New York: usage in the last nanosecond of 9 March, in the first of 10 March, and of a byte too much."""
    landing = Landing(tmp_path_factory.mktemp("clocks"))
    catalogue = landing.catalogue.replace("time_zone: UTC", "time_zone: America/New_York")
    assert catalogue != landing.catalogue
    (landing.folder / "catalogue.yaml").write_text(catalogue)
    rows = ["id,source,type,subject,time,value"]
    for name, instant in (("before", "2026-03-10T03:59:59.999999999Z"), ("at", "2026-03-10T04:00:00Z")):
        landing.customer(name, on=FEB, billed_through=MAR)
        rows.append(f"{name}-midnight,/app,email.sent,{name},{instant},16000")
    landing.deliver(rows, "2026-03-10", "evening.csv")
    landing.customer("heavy", "gold", on=FEB, billed_through=MAR)
    landing.use("heavy", "2026-02-20", bytes=500 * GB + 1)
    bill_by_steps(landing.root, "2026-04", APR)
    return landing.root


@pytest.mark.parametrize(("account", "on"), [("before", MAR), ("at", APR)])
def test_section_1_a_cycle_ends_at_local_midnight_also_after_the_clocks_changed(
    after_the_clocks_changed: Path, account: str, on: str
) -> None:
    numbers = {row["number"] for row in show(after_the_clocks_changed, "lines", kind="overage", metric="emails")}
    documents = show(after_the_clocks_changed, "documents", account_id=account)
    assert [row["billing_date"] for row in documents if row["number"] in numbers] == [on]


def test_section_1_bandwidth_of_five_hundred_gigabytes_is_rated_to_the_byte(after_the_clocks_changed: Path) -> None:
    over = one(show(after_the_clocks_changed, "lines", kind="overage", metric="bandwidth"))
    assert (over["excess"], over["billed_units"], over["amount"]) == ("0.000000001", "1", "0.30")
