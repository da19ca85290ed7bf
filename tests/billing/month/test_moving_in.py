"""A running business moves in: nothing billed elsewhere is billed again, and nothing else is lost (rule 38)."""

from calendar import monthrange
from datetime import date, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest

from billing.month.business import Business
from billing.reports.profiles import account_profiles
from billing.reports.verify import disagreements
from billing.starter import starter_catalogue
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing
from tests.sizes import sized

FIRST_DATES = [
    ("2023-05-10", "2026-02-11", "2026-03-10"),
    ("2023-05-10", "2026-02-01", "2026-02-10"),
    ("2024-01-31", "2026-02-28", "2026-02-28"),
    ("2024-01-31", "2026-03-01", "2026-03-31"),
    ("2024-02-29", "2026-02-28", "2026-02-28"),
    ("2026-02-20", "2026-02-01", "2026-02-20"),
]
STOPS = [("2025-06-01", "cancel"), ("2026-01-25", "cancel"), ("2026-02-08", "hold")]
REFUNDS = [("monthly", "2026-01-20"), ("monthly", "2026-02-05"), ("yearly", "2026-03-01")]


def catalogue(start: str = "2026-02-01", **policy: str) -> str:
    """The starting catalogue of a business that begins to bill here on a day."""
    lines = starter_catalogue().splitlines()
    changed = {"billing_start": start, **policy}
    return "\n".join(
        next((f"  {key}: {value}" for key, value in changed.items() if line.startswith(f"  {key}:")), line)
        for line in lines
    )


def move_in(landing: Landing, name: str, on: str, billed_through: str, **members: str) -> None:
    """A customer since `on`, billed elsewhere for what fell due before `billed_through`."""
    landing.customer(name, on=on, billed_through=billed_through, **members)


def documents(business: Business, account: str) -> list[tuple[str, str]]:
    """The billing date and net of an account's documents."""
    found = rows(business, "documents", "billing_date", "net", account_id=account)
    return [(str(day), net) for day, net in sorted(found)]


def answers(business: Business, account: str) -> list[tuple[str, str, str]]:
    """kind, outcome and reason of what was decided of an account, its subscription left out."""
    return rows(business, "decisions", "kind", "outcome", "reason", account_id=account)[1:]


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """Everyone in one home, which bills from February on."""
    landing = Landing(tmp_path_factory.mktemp("moving"), catalogue=catalogue())

    move_in(landing, "m12", "2023-05-10", "2026-02-10")
    landing.use("m12", "2026-01-10", emails=7_000)
    landing.use("m12", "2026-02-05", emails=20_350)
    landing.use("m12", "2026-01-09", emails=90_000)

    move_in(landing, "m12-later", "2023-05-10", "2026-02-10", usage_from="2026-02-01")
    landing.use("m12-later", "2026-01-20", emails=20_000)
    landing.use("m12-later", "2026-02-01", emails=7_350)

    move_in(landing, "m12-yearly", "2025-09-15", "2026-02-15", term="yearly")
    landing.use("m12-yearly", "2026-01-20", emails=27_350)
    landing.use("m12-yearly", "2026-03-01", emails=16_000)

    for place, (started, billed_through, _) in enumerate(FIRST_DATES):
        move_in(landing, f"first-{place}", started, billed_through)

    move_in(landing, "level", "2023-05-10", "2026-02-10")
    landing.use("level", "2026-01-09", domains=3)
    landing.use("level", "2026-01-20", domains=-2)

    move_in(landing, "outgrown", "2023-05-10", "2026-02-10")
    landing.use("outgrown", "2026-01-09", leads=2_501)

    move_in(landing, "changes", "2023-05-10", "2026-02-10")
    landing.request("changes", "upgrade", "2025-06-01T09:00:00Z", package="silver")
    landing.request("changes", "downgrade", "2026-02-09T09:00:00Z", package="starter")
    landing.request("changes", "upgrade", "2026-02-10T09:00:00Z", package="gold")

    for day, kind in STOPS:
        move_in(landing, f"stop-{day}", "2023-05-10", "2026-02-10")
        landing.use(f"stop-{day}", "2026-01-12", emails=27_350)
        landing.request(f"stop-{day}", kind, f"{day}T09:00:00Z", "email" if kind == "cancel" else "support")

    move_in(landing, "resumed", "2023-05-10", "2026-02-10")
    landing.request("resumed", "hold", "2025-03-01T09:00:00Z")
    landing.request("resumed", "resume", "2025-08-20T09:00:00Z")
    landing.use("resumed", "2026-01-25", emails=16_000)

    move_in(landing, "resumed-here", "2023-05-10", "2026-02-10")
    landing.request("resumed-here", "hold", "2025-12-01T09:00:00Z")
    landing.request("resumed-here", "resume", "2026-02-20T09:00:00Z")

    move_in(landing, "cancelled-here", "2023-05-10", "2026-02-01")
    landing.use("cancelled-here", "2026-01-12", emails=27_350)
    landing.request("cancelled-here", "cancel", "2026-02-05T09:00:00Z", "email")

    for term, day in REFUNDS:
        move_in(landing, f"refund-{day}", "2026-01-15", "2026-02-10", term=term)
        landing.request(f"refund-{day}", "refund", f"{day}T09:00:00Z", reason="unused")
    move_in(landing, "trial", "2026-01-20", "2026-02-01", trial_days="14")
    landing.request("trial", "refund", "2026-02-10T09:00:00Z", reason="unused")

    move_in(landing, "unbilled", "2023-05-20", "2026-02-20", usage_from="2026-02-05")
    landing.use("unbilled", "2026-02-03", emails=20)
    landing.use("unbilled", "2026-02-07", emails=3)
    return bill_by_steps(landing.root, "2026-03", "2026-03-31")


class TestM12:
    def test_the_first_document_has_the_overages_of_the_cycle_that_ends_there(self, moved: Business) -> None:
        assert moved.first_month == "2026-02"
        assert documents(moved, "m12") == [("2026-02-10", "138.00"), ("2026-03-10", "99.00")]
        packages = rows(moved, "packages", "closing_package", "opening_package", account_id="m12")
        assert packages == [("starter", "starter")] * 2

    def test_usage_counts_from_a_later_day(self, moved: Business) -> None:
        assert documents(moved, "m12-later") == [("2026-02-10", "99.00"), ("2026-03-10", "99.00")]
        used = rows(moved, "usage", "quantity", account_id="m12-later", metric="emails")
        assert used[0] == ("7350.00",)

    def test_a_yearly_term_goes_on(self, moved: Business) -> None:
        assert documents(moved, "m12-yearly") == [("2026-02-15", "39.00"), ("2026-03-15", "3.00")]

    def test_a_yearly_fee_falls_due_at_the_end_of_its_term(self, tmp_path: Path) -> None:
        landing = Landing(tmp_path, catalogue=catalogue())
        move_in(landing, "acme", "2025-09-15", "2026-08-15", term="yearly")
        business = bill_by_steps(landing.root, "2026-09", "2026-09-30")
        assert documents(business, "acme") == [("2026-09-15", "990.00")]


def test_the_home_agrees_with_its_register(moved: Business) -> None:
    assert [each for each in disagreements(moved) if "is missing: `overage bill` renders it again" not in each] == []


@pytest.mark.parametrize("place", range(len(FIRST_DATES)))
def test_the_first_billing_date_is_the_first_of_the_grid_that_was_not_billed(moved: Business, place: int) -> None:
    assert documents(moved, f"first-{place}")[0] == (FIRST_DATES[place][2], "99.00")


def test_a_cycle_older_than_the_package_uses_its_first_version(tmp_path: Path) -> None:
    landing = Landing(tmp_path, catalogue=catalogue("2025-12-01"))
    move_in(landing, "acme", "2023-05-10", "2025-12-10")
    landing.use("acme", "2025-12-01", emails=27_350, leads=2_501)
    business = bill_by_steps(landing.root, "2026-01", "2026-01-31")
    assert documents(business, "acme") == [("2025-12-10", "138.00"), ("2026-01-10", "199.00")]


def test_a_business_that_bills_on_the_first_of_the_month(tmp_path: Path) -> None:
    landing = Landing(tmp_path, catalogue=catalogue(billing_anchor="first_of_month"))
    move_in(landing, "acme", "2023-05-10", "2026-02-01")
    landing.use("acme", "2026-01-05", emails=27_350)
    business = bill_by_steps(landing.root, "2026-02", "2026-02-28")
    assert documents(business, "acme") == [("2026-02-01", "138.00")]


def test_a_profile_shows_the_cycle_before_the_first_document(tmp_path: Path) -> None:
    landing = Landing(tmp_path, catalogue=catalogue())
    move_in(landing, "acme", "2023-05-10", "2026-02-10")
    move_in(landing, "later", "2023-05-10", "2026-06-10")
    landing.use("acme", "2026-01-12", emails=18_000)
    business = bill_by_steps(landing.root, "2026-02", "2026-02-05")
    found = {row["account_id"]: row for row in account_profiles(business, business.as_of).iter_rows(named=True)}
    acme, later = found["acme"], found["later"]
    assert (acme["package"], acme["status"], str(acme["next_billing_date"])) == ("starter", "active", "2026-02-10")
    assert (str(acme["upcoming_amount"]), acme["previous_amount"]) == ("108.0000", None)
    assert (str(later["next_billing_date"]), str(later["upcoming_amount"])) == ("2026-06-10", "99.0000")


class TestGauges:
    def test_the_level_at_the_move_is_an_event_before_the_first_cycle(self, moved: Business) -> None:
        assert documents(moved, "level") == [("2026-02-10", "119.00"), ("2026-03-10", "99.00")]

    def test_an_outgrown_package_is_upgraded_when_the_cycle_closes(self, moved: Business) -> None:
        assert documents(moved, "outgrown") == [("2026-02-10", "199.00"), ("2026-03-10", "199.00")]


class TestRequestsBeforeTheMove:
    def test_package_changes_are_refused(self, moved: Business) -> None:
        assert answers(moved, "changes") == [
            ("upgrade", "refused", "before_move"),
            ("downgrade", "refused", "before_move"),
            ("upgrade", "approved", "requested"),
        ]
        assert documents(moved, "changes") == [("2026-02-10", "99.00"), ("2026-03-10", "299.00")]

    @pytest.mark.parametrize(("day", "kind"), STOPS)
    def test_a_stop_sets_the_state_and_bills_nothing(self, moved: Business, day: str, kind: str) -> None:
        assert documents(moved, f"stop-{day}") == []
        ended, held = moved.lives.subscriptions.filter(account_id=f"stop-{day}").select("ended_on", "held_on").row(0)
        assert str(ended if kind == "cancel" else held) == day

    def test_a_resume_begins_a_subscription_that_was_billed_elsewhere_too(self, moved: Business) -> None:
        assert documents(moved, "resumed") == [("2026-02-20", "102.00"), ("2026-03-20", "99.00")]

    def test_a_hold_before_it_and_a_resume_after_it(self, moved: Business) -> None:
        assert documents(moved, "resumed-here") == [("2026-02-20", "99.00"), ("2026-03-20", "99.00")]

    def test_a_cancellation_after_it_bills_as_ever(self, moved: Business) -> None:
        assert documents(moved, "cancelled-here") == [("2026-02-10", "138.00")], "five days are too late: one more fee"

    @pytest.mark.parametrize(("term", "day"), REFUNDS)
    def test_a_fee_that_was_billed_elsewhere_is_not_refunded(self, moved: Business, term: str, day: str) -> None:
        assert answers(moved, f"refund-{day}") == [("refund", "refused", "billed_elsewhere")]
        assert documents(moved, f"refund-{day}")[1:] == ([("2026-03-15", "99.00")] if term == "monthly" else [])

    def test_a_fee_that_was_billed_here_is_refunded(self, moved: Business) -> None:
        assert documents(moved, "trial") == [("2026-02-03", "-99.00"), ("2026-02-03", "99.00")]


def test_what_was_used_before_the_first_measured_day_is_listed(moved: Business) -> None:
    columns = ("billing_month", "metric", "reason", "quantity")
    assert rows(moved, "unbilled", *columns, account_id="unbilled") == [
        ("2026-02", "emails", "billed_elsewhere", "20.00")
    ]
    assert rows(moved, "unbilled", *columns, account_id="m12") == [
        ("2026-01", "emails", "billed_elsewhere", "90000.00")
    ]


@pytest.fixture(scope="module")
def parking(tmp_path_factory: pytest.TempPathFactory) -> Business:
    landing = Landing(tmp_path_factory.mktemp("parking"), catalogue=catalogue())
    landing.customer("none", on="2026-01-10")
    landing.customer("early", on="2026-01-10", billed_through="2026-01-31")
    landing.customer("native", on="2026-02-03")
    for place, members in enumerate(
        ({"billed_through": "10.02.2026"}, {"billed_through": "2026-02-30"}, {"usage_from": "2026-02-01"})
    ):
        landing.customer(f"wrong-{place}", on="2026-02-03", **members)
    return bill_by_steps(landing.root, "2026-02", "2026-02-28")


class TestParking:
    def test_a_start_before_the_first_month_is_parked_with_the_ways_out(self, parking: Business) -> None:
        parked = {account: (reason, detail) for account, reason, detail in parking.parked.iter_rows()}
        assert {account: reason for account, (reason, _) in parked.items()} == dict.fromkeys(
            ("none", "early"), "before_billing_start"
        )
        for way in ("`billed_through` on the request, 2026-02-01 or later", "policy.billing_start", "a start on"):
            assert way in parked["none"][1]
        assert "billed_through 2026-01-31 is not late enough" in parked["early"][1]
        assert documents(parking, "native") == [("2026-02-03", "99.00")], "the others are billed"

    def test_a_date_that_is_none_sets_the_request_aside(self, parking: Business) -> None:
        assert parking.inputs.rejects["detail"].to_list() == [
            "billed_through: found '10.02.2026', expected a date such as 2026-01-31",
            "billed_through: found '2026-02-30', expected a date such as 2026-01-31",
            "billed_through: found nothing beside usage_from, expected the day up to which another system billed",
        ]


@pytest.fixture(scope="module")
def learnt_later(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, Business]:
    """The documents of February, and March: usage of one account comes late, and another one moves in."""
    landing = Landing(tmp_path_factory.mktemp("later"), catalogue=catalogue())
    landing.customer("native", on="2026-02-03")
    move_in(landing, "late", "2023-05-10", "2026-02-10")
    landing.use("late", "2026-01-12", emails=15_000)
    february = bill_by_steps(landing.root, "2026-02", "2026-02-28").register.documents()
    landing.use("late", "2026-01-13", emails=1, delivered="2026-03-01")
    landing.use("late", "2026-01-09", emails=50_000, delivered="2026-03-01")
    move_in(landing, "later", "2023-05-10", "2026-03-10")
    landing.use("later", "2026-02-20", emails=27_350)
    return february, bill_by_steps(landing.root, "2026-03", "2026-03-31")


def test_late_usage_of_the_first_cycle_is_settled_on_the_next_document(
    learnt_later: tuple[pl.DataFrame, Business],
) -> None:
    _, business = learnt_later
    assert documents(business, "late") == [("2026-02-10", "99.00"), ("2026-03-10", "102.00")]
    ((number,),) = rows(business, "documents", "number", account_id="late", billing_month="2026-03")
    kinds = rows(business, "lines", "kind", "cycle_start", "amount", number=number)
    assert [(kind, str(start), amount) for kind, start, amount in kinds] == [
        ("package_fee", "2026-03-10", "99.00"),
        ("prior_cycle", "2026-01-10", "3.00"),
    ]


def test_moving_in_later_than_the_first_months_changes_nobody_else(
    learnt_later: tuple[pl.DataFrame, Business],
) -> None:
    before, business = learnt_later
    assert documents(business, "later") == [("2026-03-10", "138.00")]
    assert before.height == 2
    assert business.register.documents().head(before.height).equals(before)
    begun = business.register.begun_subscriptions()
    assert begun["subscription_id"].to_list() == ["late/2023-05-10", "later/2023-05-10", "native/2026-02-03"]


def test_what_is_billed_after_a_move_is_what_would_have_been_billed_without_it(tmp_path: Path) -> None:
    """Sixty customers bought here and stayed; the same moved in on the first of March."""
    random = Random(3)  # noqa: S311 # made-up customers, the same on every run
    start = sized(usual=date(2026, 2, 1), long=date(2026, 1, 1))
    days_before, days_after, days_of_usage = sized(usual=(28, 29, 80), long=(59, 50, 140))
    stayed = Landing(tmp_path / "stayed", catalogue=catalogue(start.isoformat()))
    moved = Landing(tmp_path / "moved", catalogue=catalogue("2026-03-01"))
    for place in range(60):
        name, day = f"c{place}", start + timedelta(random.randrange(days_before))
        term, days = random.choice(["monthly", "monthly", "yearly"]), random.choice([0, 0, 20])
        stayed.customer(name, on=day.isoformat(), term=term, trial_days=days)
        moved.customer(name, on=day.isoformat(), term=term, trial_days=days, billed_through="2026-03-01")
        for _ in range(3):
            kind = random.choice(["upgrade", "downgrade", "cancel", "hold", "resume", "nothing"])
            # From the first billing date here on: what was asked for before it is another system's.
            at = f"{date(2026, 4, 1) + timedelta(random.randrange(days_after))}T10:00:00Z"
            channel = "email" if kind == "cancel" else "support"
            package = {"package": random.choice(["silver", "gold"])} if kind in ("upgrade", "downgrade") else {}
            for landing in (stayed, moved) if kind != "nothing" else ():
                landing.request(name, kind, at, channel, **package)
        for _ in range(4):
            on = start + timedelta(1 + random.randrange(days_of_usage))
            leads = random.choice([0, 0, 2_600]) if on > date(2026, 4, 1) else 0
            emails, domains = random.randrange(1, 40_000), random.choice([0, 1])
            delivered = f"{on:%Y-%m}-{monthrange(on.year, on.month)[1]}"
            for landing in (stayed, moved):
                landing.use(name, on.isoformat(), emails=emails, domains=domains, leads=leads, delivered=delivered)
    lines = ("billing_date", "account_id", "net")
    last = sized(usual=("2026-04", "2026-04-30"), long=("2026-06", "2026-06-30"))
    found = [
        sorted(row for row in rows(bill_by_steps(landing.root, *last), "documents", *lines))
        for landing in (stayed, moved)
    ]
    since = [row for row in found[0] if row[0] >= date(2026, 3, 1)]
    assert found[1] == since
    assert len(since) > sized(usual=75, long=150)
