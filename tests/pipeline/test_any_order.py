"""Whatever is delivered, withdrawn, billed, corrected, paid, refunded or killed, in any order: what is due is issued or
known as open.

For every closed billing date, what a business that never issued anything would owe, less what has been issued, is the
difference that `preview` reports. Numbers have no gap, and nothing that was issued has changed.
"""

import shutil
import tempfile
from collections import defaultdict
from contextlib import closing
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from billing.register.register import Register
from billing.store.home import Home
from tests.by_steps import bill_by_steps
from tests.pipeline.killing import Killer
from tests.pipeline.outside import Landing, bill, overage, show
from tests.pipeline.test_preview import preview
from tests.pipeline.test_preview_law import KEEPER, damage, happen
from tests.sizes import sized

STORIES = sized(usual=1, long=40)
STEPS = sized(usual=4, long=12)
ACCOUNTS = ("acme", "beta")


class AnyOrder(RuleBasedStateMachine):
    """A business of two customers, and everything that may happen to what they used and owe; a third stays as is."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="any-order-"))
        self.landing = Landing(self.folder / "home")
        self.today = date(2026, 2, 10)
        self.hashes: dict[str, str] = {}
        self.killer: Killer | None = None

    @property
    def home(self) -> Path:
        return self.landing.root

    @initialize(is_simplest=st.sampled_from([True, False, False, False]))
    def two_customers_are_billed(self, is_simplest: bool) -> None:
        # Hypothesis begins with the simplest story, which tells little
        assume(not is_simplest)
        for name in (*ACCOUNTS, KEEPER):
            self.landing.customer(name)
        self.bill()

    @rule(days=st.integers(1, 25))
    @precondition(lambda self: self.today < date(2026, 5, 1))
    def days_go_by(self, days: int) -> None:
        self.today += timedelta(days=days)

    @rule(
        account=st.sampled_from(ACCOUNTS),
        ago=st.integers(0, 60),
        emails=st.sampled_from([500, 7_000, 15_000, 15_001, 16_000]),
    )
    def usage_is_delivered_today(self, account: str, ago: int, emails: int) -> None:
        used = max(self.today - timedelta(days=ago), date(2026, 1, 10))
        self.landing.use(account, used.isoformat(), emails=emails, delivered=self.today.isoformat())

    @rule(place=st.integers(0, 9))
    def a_delivery_is_withdrawn(self, place: int) -> None:
        delivered = (
            sorted((self.landing.folder / "usage").glob("*/*")) if (self.landing.folder / "usage").exists() else []
        )
        if delivered:
            delivered[place % len(delivered)].write_text("")

    @rule()
    def bill(self) -> None:
        ended = bill(self.home, f"{self.today:%Y-%m}", self.today.isoformat())
        assert ended.status == int(self.lacks()), ended.messages
        self.check()

    def lacks(self, *accounts: str) -> bool:
        """Whether an account, or any, has no row now and is parked."""
        rows = (self.landing.folder / "accounts.csv").read_text()
        return any(f"\n{account}," not in rows for account in accounts or ACCOUNTS)

    @rule(place=st.integers(0, 9), one=st.booleans())
    def correct(self, place: int, one: bool) -> None:
        with closing(Register.open(Home(self.home))) as register:
            # a month of which nothing was issued is refused
            months = register.issued_months()
        month = months[place % len(months)]
        # an account without a row is unknown
        accounts = ("--account", "acme") if one and not self.lacks("acme") else ()
        arguments = ("correct", month, "--reason", "found late", "--as-of", self.today, "--home", self.home, *accounts)
        assert overage(*arguments).status == 0
        count = len(show(self.home, "documents"))
        # a second correction issues nothing
        assert overage(*arguments).status == 0
        assert len(show(self.home, "documents")) == count
        self.check()

    @rule(place=st.integers(0, 9))
    def an_invoice_is_paid(self, place: int) -> None:
        documents = show(self.home, "documents", status="open", kind="invoice")
        if documents:
            paid = documents[place % len(documents)]
            self.landing.pay(paid["account_id"], paid["number"], paid["total"], f"{self.today}T12:00:00Z")

    @rule(account=st.sampled_from(ACCOUNTS))
    def a_refund_is_asked_for(self, account: str) -> None:
        self.landing.request(account, "refund", f"{self.today}T12:00:00Z", reason="not needed")

    @rule(account=st.sampled_from(ACCOUNTS))
    def a_row_goes_or_comes_back(self, account: str) -> None:
        damage(self.landing, "row missing", account)

    @rule(what=st.sampled_from(["many decimals", "paid", "sent back"]), account=st.sampled_from(ACCOUNTS))
    def something_else_happens(self, what: str, account: str) -> None:
        happen(self.landing, what, account, self.today, len(self.hashes))

    @rule(place=st.integers(0, 400), corrects=st.booleans())
    def a_run_is_killed(self, place: int, corrects: bool) -> None:
        if self.killer is None:
            self.killer = Killer().__enter__()
        # of this month a fee was issued at the start: it may be corrected
        command = ("correct", "2026-02", "--reason", "found late") if corrects else ("bill", f"{self.today:%Y-%m}")
        arguments = (*command, "--as-of", self.today, "--home", self.home)
        # past its last write it ends as it would have
        assert self.killer.run(*arguments, kill_at=place).status in (None, int(self.lacks() and not corrects))

    def check(self) -> None:
        as_of = self.today.isoformat()
        month = f"{self.today:%Y-%m}"
        with closing(Register.open(Home(self.home))) as register:
            closed = set(register.closed_dates().select("subscription_id", "billing_date").iter_rows())
            issued = register.issued_amounts(date(2020, 1, 1), date(2030, 1, 1))
        open_now: dict[tuple[str, date], Decimal] = defaultdict(Decimal)
        # what a business owes that knows everything and never issued anything
        fresh = self.folder / "fresh"
        shutil.copytree(self.landing.folder, fresh / "landing")
        bill_by_steps(fresh, month, as_of, issues=False)
        for row in show(fresh, "dues"):
            key = (row["subscription_id"], date.fromisoformat(row["billing_date"]))
            if key in closed:
                open_now[key] += Decimal(row["amount"])
        shutil.rmtree(fresh)
        # what was paid back is no fee that was never billed: rule 14 is a matter of its own
        fees_and_overages = issued.filter(pl.col("kind") != "refund")
        for subscription, day, amount in fees_and_overages.select(
            "subscription_id", "billing_date", "issued"
        ).iter_rows():
            open_now[subscription, day] -= amount
        reported: dict[tuple[str, date], Decimal] = defaultdict(Decimal)
        for account in preview(self.home, month, as_of)["accounts"]:
            for change in account["changes"]:
                if change["what"] == "cycle":
                    key = (change["subscription_id"], date.fromisoformat(change["billing_date"]))
                    reported[key] += Decimal(change["difference"])
        # of what is parked nothing is due or given back
        assert reported == {
            key: amount for key, amount in open_now.items() if amount and not self.lacks(key[0].partition("/")[0])
        }

    @invariant()
    def nothing_issued_has_changed_and_numbers_have_no_gap(self) -> None:
        documents = show(self.home, "documents") if (self.home / "register.db").exists() else []
        now = {row["number"]: row["content_hash"] for row in documents}
        assert {number: now.get(number) for number in self.hashes} == self.hashes
        self.hashes = now
        for series in ("INV", "CN", "DN"):
            numbers = sorted(int(number[-6:]) for number in now if number.startswith(series))
            assert numbers == list(range(1, len(numbers) + 1))

    def teardown(self) -> None:
        if self.killer is not None:
            self.killer.__exit__(None, None, None)
        shutil.rmtree(self.folder)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=STORIES, stateful_step_count=STEPS)
