"""The product and an independent oracle bill the same business, day after day, and must agree on everything.

The default is what every change can wait for; `pytest --long tests/life_story` tells more and longer stories. A failure
names its seed, the day and the account.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from billing.model.tables import DECISIONS, DOCUMENTS, LINES, PACKAGES
from billing.month.business import Business
from billing.month.corrections import issue_corrections
from billing.month.credits import credits
from billing.month.scratch_copy import bring_up_to_date
from billing.month.steps import billed_months, ingest_usage
from billing.month.unbilled import conserved
from billing.reports.profiles import account_profiles, balances
from billing.reports.show import read_table
from billing.store.frames import read_frame
from tests.by_steps import bill_by_steps
from tests.life_story.business import TAX_IDS, Json, Row, Story, story
from tests.life_story.credits_oracle import Use
from tests.life_story.offers import FEATURES
from tests.life_story.oracle import Oracle
from tests.life_story.oracle_facts import Answer, Document
from tests.sizes import sized

# Prefer accounts over months: they cost less time.
SEEDS: Final = sized(usual=range(5, 6), long=range(1, 13))
ACCOUNTS: Final = sized(usual=60, long=40)
MONTHS: Final = sized(usual=4, long=24)
# What is sold beside packages: everything in what every change waits for (two currencies meet in
# `tests/billing/month/test_currencies.py`), else whatever the seed says.
SOLD_SEEDS: Final = sized(usual=range(10, 11), long=range(1, 21))
SOLD_FEATURES: Final = sized(usual=frozenset(FEATURES), long=None)
SOLD_ACCOUNTS: Final = sized(usual=30, long=40)
SOLD_MONTHS: Final = sized(usual=3, long=24)
# Which of nine days compares profiles, too.
PROFILED: Final = sized(usual=1, long=5)
Views = dict[str, list[tuple[object, ...]]]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_business_is_billed_all_its_life_as_the_rules_say(seed: int, tmp_path: Path) -> None:
    told = story(seed, ACCOUNTS, MONTHS)
    told.days = sized(usual=told.days[-2:], long=told.days)
    _live(told, tmp_path)


@pytest.mark.parametrize("seed", SOLD_SEEDS)
def test_a_business_that_sells_more_than_packages_is_billed_as_the_rules_say(seed: int, tmp_path: Path) -> None:
    told = story(seed, SOLD_ACCOUNTS, SOLD_MONTHS, SOLD_FEATURES)
    # Leave out charges before `billing_start`: they are never billed, and the oracle does not know it.
    told.charges = [(written, each) for written, each in told.charges if each["on"] >= "2024-01-01"]
    told.days = sized(usual=told.days[-2:], long=told.days)
    last = told.days[-1]
    delivered = [each for each in told.deliveries if each[0] <= last]
    held_back = delivered[-60::3]
    told.deliveries = [each for each in told.deliveries if each not in held_back]
    oracle = _live(told, tmp_path)
    # What arrives after the last documents is corrected at once.
    told.deliveries += [(last, name, rows) for _, name, rows in held_back]
    told.write(tmp_path / "landing", last - timedelta(1), last)
    _run(oracle, told, last)
    business = bill_by_steps(tmp_path, f"{last:%Y-%m}", f"{last}", issues=False)
    notes = [issue_corrections(business, month, "late usage").height for month in business.register.issued_months()]
    assert sum(notes) > 0
    corrected = [month for month, height in zip(business.register.issued_months(), notes, strict=True) if height]
    for month in sized(usual=corrected[-1:], long=business.register.issued_months()):
        assert issue_corrections(business, month, "again").is_empty()
    _agree(f"seed {seed}, corrected", "what was billed for a date", _billed_by_date(business), _due_by_date(oracle))


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """Four accounts of one business, of which one test each is about."""
    at = datetime(2024, 2, 2, 12, tzinfo=ZoneInfo("UTC"))
    told = _accounts_without_usage(
        _request("account-000", 1, "2024-02-01", "subscribe", package="small", term="monthly", trial_days=14),
        _request("account-000", 2, "2024-02-03", "hold"),
        _request("account-000", 3, "2024-02-15", "resume"),
        _request("account-001", 4, "2024-02-01", "subscribe", package="medium", term="monthly", trial_days=14),
        _request("account-001", 5, "2024-02-03", "downgrade", package="small"),
        _request("account-002", 6, "2024-02-01", "subscribe", package="small", term="monthly"),
        _request("account-002", 7, "2024-02-10", "upgrade", package="medium"),
        _request("account-003", 8, "2024-02-05", "subscribe", package="small", term="monthly"),
        _request("account-003", 9, "2024-02-25", "upgrade", package="medium"),
        _request("account-003", 10, "2024-03-02", "hold"),
    )
    # The hold is written when the month of its day is closed.
    told.requests.append((date(2024, 3, 10), _request("account-002", 11, "2024-02-20", "hold")[1]))
    told.deliveries = [(at.date(), (at.date(), "a.jsonl"), [Row("app", "1", "domains", "account-001", at, "3")])]
    return _live(told, tmp_path_factory.mktemp("lived"))


def _answers(oracle: Oracle, account: str) -> dict[str, Answer]:
    return {str(answer.request): answer for answer in oracle.answers[account]}


def test_an_account_that_was_held_in_its_trial_resumes_with_the_package_it_subscribed_to(lived: Oracle) -> None:
    assert lived.cycles["account-000"][-1][1].opening == "small"


def test_a_downgrade_in_a_trial_is_refused_where_the_levels_do_not_fit(lived: Oracle) -> None:
    assert _answers(lived, "account-001")["request-5"].reason == "usage_exceeds_package"


def test_a_request_that_was_decided_at_a_close_keeps_its_one_answer_when_a_hold_is_learnt_of_later(
    lived: Oracle,
) -> None:
    answers = _answers(lived, "account-002")
    assert (answers["request-7"].outcome, answers["request-11"].outcome) == ("approved", "approved")


def test_a_change_that_a_hold_of_the_next_month_voids_is_answered(lived: Oracle) -> None:
    assert _answers(lived, "account-003")["request-9"].reason == "voided_by_hold"


def _accounts_without_usage(*requests: tuple[date, Json]) -> Story:
    """Two months of accounts without usage: billed in UTC, on signup days, with a notice of no days."""
    told = story(1, 4, 6)
    told.catalogue["time_zone"] = "UTC"
    told.catalogue["agreements"] = []
    told.catalogue["policy"] = {
        "billing_anchor": "signup_day",
        "cancellation_notice_days": 0,
        "access_after_cancellation": "ends_at_once",
        "charge_while_suspended": False,
        "hold_fee": "0",
        "issue_after_days": 0,
        "lateness_days": 90,
    }
    told.requests, told.deliveries = list(requests), []
    told.days = [date(2024, 3, 1), date(2024, 3, 28)]
    return told


def _request(account: str, number: int, day: str, kind: str, **members: object) -> tuple[date, Json]:
    request: Json = {
        "request_id": f"request-{number}",
        "account_id": account,
        "at": f"{day}T12:00:00+00:00",
        "kind": kind,
        "channel": "support",
        **members,
    }
    return date.fromisoformat(day), request


def _live(told: Story, home: Path) -> Oracle:
    """Bill a story with the product and with the oracle, day after day; fails where they disagree."""
    oracle = Oracle(told.catalogue, told.accounts, told.tax_rates, {text: owner for text, _, owner in TAX_IDS})
    previous: date | None = None
    for day in told.days:
        if previous is not None:
            told.pay(previous, day, *_unpaid_and_paid(oracle, told))
        told.write(home / "landing", previous, day)
        business = _bill(home, day)
        _run(oracle, told, day)
        where = f"seed {told.seed}, as of {day} ({home})"
        _agree(where, "documents", _documents(business), _expected_documents(oracle))
        _number(oracle, business)
        _copied(where, business)
        _settle_credits(oracle, business, told, day)
        _agree(where, "decisions", _decisions(business, day), _expected_decisions(oracle, business))
        _agree(where, "packages", _packages(business, day, oracle), _expected_packages(oracle))
        _agree(where, "balances", _balances(business), _expected_balances(oracle, told, day))
        if told.days.index(day) % 9 == PROFILED:
            _agree(where, "profiles", _profiles(business), _expected_profiles(oracle, day))
        previous = day
    return oracle


def _run(oracle: Oracle, told: Story, day: date) -> None:
    given = (told.requests_given(day), told.files_given(day), told.payments)
    oracle.run(day, *given, told.charges_given(day), told.grants_given(day))


def _bill(home: Path, as_of: date) -> Business:
    """What `overage bill` does, without Dagster and without rendering."""
    business = Business.load(home, as_of)
    ingest_usage(business)
    assert business.lives.parked.is_empty()
    for month in bring_up_to_date(business, as_of.strftime("%Y-%m")):
        found = conserved(business, month)
        assert found.filter(pl.col("counted") != pl.col("closed") + pl.col("open") + pl.col("unbilled")).is_empty()
    return business


def _unpaid_and_paid(oracle: Oracle, told: Story) -> tuple[list[tuple[str, str, Decimal]], list[str]]:
    """Documents that may still be paid, and those that were paid once and may be sent back."""
    returned = {p["document"] for p in told.payments if p["status"] in ("refunded", "disputed")}
    paid = {p["document"] for p in told.payments if p["status"] == "succeeded"}
    unpaid = [(d.number, d.account_id, d.due) for d in oracle.documents if d.number not in paid]
    return unpaid, sorted(paid - returned)


def _agree(where: str, what: str, product: Views, oracle: Views) -> None:
    """Fail with both views of the first account that differs, side by side."""
    for account in sorted({*product, *oracle}):
        ours, theirs = product.get(account, []), oracle.get(account, [])
        if sorted(ours, key=repr) == sorted(theirs, key=repr):
            continue
        told = [f"{where}: {account}: {what} differ", "only the product says:"]
        told += [f"    {row}" for row in sorted(ours, key=repr) if row not in theirs]
        told += ["only the oracle says:"]
        told += [f"    {row}" for row in sorted(theirs, key=repr) if row not in ours]
        pytest.fail("\n".join(told), pytrace=False)


def _by_account(rows: Iterator[tuple[str, tuple[object, ...]]]) -> Views:
    views: Views = {}
    for account, row in rows:
        views.setdefault(account, []).append(row)
    return views


def _quantity(value: Decimal | Fraction | None) -> str | None:
    """A quantity exactly, however it is held."""
    return None if value is None else str(Fraction(value))


def _documents(business: Business) -> Views:
    register = business.register
    documents = register.documents()
    names = {row["number"]: f"{row['kind']} of {row['billing_date']}" for row in documents.iter_rows(named=True)}
    lines: dict[str, list[tuple[object, ...]]] = {}
    for row in register.lines().iter_rows(named=True):
        lines.setdefault(row["number"], []).append(
            (
                row["kind"],
                row["metric"],
                row["package"],
                str(row["cycle_start"]),
                str(row["cycle_end"]),
                _quantity(row["quantity"]),
                _money(row["amount"]),
                *(row[name] for name in ("coupon", "add_on", "charge_id", "rule")),
            )
        )
    taxes: dict[str, list[tuple[object, ...]]] = {}
    for row in register.taxes().iter_rows(named=True):
        taxes.setdefault(row["number"], []).append(
            (
                row["name"],
                row["region"],
                _money(row["rate"]),
                _money(row["taxable"]),
                _money(row["amount"]),
                row["reason"],
            )
        )

    def views() -> Iterator[tuple[str, tuple[object, ...]]]:
        for row in documents.iter_rows(named=True):
            number = row["number"]
            yield (
                row["account_id"],
                (
                    row["subscription_id"],
                    str(row["billing_date"]),
                    row["kind"],
                    str(row["issued_on"]),
                    _money(row["net"]),
                    _money(row["tax"]),
                    _money(row["total"]),
                    names.get(row["corrects"]),
                    sorted(lines.get(number, []), key=repr),
                    sorted(taxes.get(number, []), key=repr),
                ),
            )

    return _by_account(views())


def _expected_documents(oracle: Oracle) -> Views:
    def view(document: Document) -> tuple[object, ...]:
        lines = [
            (
                line.kind,
                line.metric,
                line.package,
                str(line.cycle_start),
                str(line.cycle_end),
                _quantity(line.quantity),
                _money(line.amount),
                *(line.coupon, line.add_on, line.charge_id, line.rule),
            )
            for line in document.lines
        ]
        taxes = [(t[0], t[1], _money(t[2]), _money(t[3]), _money(t[4]), t[5]) for t in document.taxes]
        corrected = document.corrects
        return (
            document.subscription,
            str(document.billing_date),
            document.kind,
            str(document.issued_on),
            _money(document.net),
            _money(document.total - document.net),
            _money(document.total),
            f"{corrected.kind} of {corrected.billing_date}" if corrected else None,
            sorted(lines, key=repr),
            sorted(taxes, key=repr),
        )

    return _by_account((document.account_id, view(document)) for document in oracle.documents)


def _number(oracle: Oracle, business: Business) -> None:
    """Tell the oracle the numbers; they have no gap and follow the order of the documents (rule 19)."""
    documents = business.register.documents()
    numbers = {
        (row["subscription_id"], row["billing_date"], row["corrects"] is not None, row["issued_on"]): row["number"]
        for row in documents.iter_rows(named=True)
    }
    assert len(numbers) == len(oracle.documents)
    for document in oracle.documents:
        is_note = document.corrects is not None
        number = numbers[document.subscription, document.billing_date, is_note, document.issued_on]
        assert document.number in ("", number), f"{document.number} became {number}"
        document.number = number
    assert not business.register.number_gaps()


def _copied(where: str, business: Business) -> None:
    """The lake has every document and line of the register once."""
    for table, rows in ((DOCUMENTS, business.register.documents()), (LINES, business.register.lines())):
        found, wanted = (
            each.select(table.key).sort(table.key) for each in (read_table(business, name=table.name), rows)
        )
        assert found.equals(wanted), f"{where}: {table.name}"


def _settle_credits(oracle: Oracle, business: Business, told: Story, day: date) -> None:
    """Compare what grants pay of new documents; what credit notes give back is taken over, by its laws."""
    uses: dict[str, list[Use]] = {}
    for row in business.register.credit_uses().iter_rows(named=True):
        uses.setdefault(row["number"], []).append((row["grant_id"], row["amount"], row["gives_back"]))
    new = [document for document in oracle.documents if document.issued_on == day]
    order = {number: place for place, number in enumerate(business.register.documents()["number"])}
    # A refund may follow on the day on which its document is issued.
    for document in sorted(
        new, key=lambda each: (each.billing_date, each.account_id, each.corrects is not None, order[each.number])
    ):
        found = uses.get(document.number, [])
        if document.total > 0:
            wanted = oracle.credits.paid(document, told.grants_given(day), oracle.documents, told.payments)
            assert found == wanted, f"seed {told.seed}, as of {day}: {document.number} of {document.account_id}"
        oracle.credits.take(document, found)
    for row in credits(business).iter_rows(named=True):
        assert row["used"] + row["left"] + row["expired"] == row["amount"]
        assert row["used"] == oracle.credits.used[row["grant_id"]]


def _decisions(business: Business, day: date) -> Views:
    frames = [
        read_frame(business.home.partition(DECISIONS, month), DECISIONS)
        for month in billed_months(business, day.strftime("%Y-%m"))
    ]

    def views() -> Iterator[tuple[str, tuple[object, ...]]]:
        for frame in frames:
            for row in frame.iter_rows(named=True):
                evidence = [(m["metric"], _quantity(m["quantity"]), _quantity(m["allowance"])) for m in row["evidence"]]
                yield (
                    row["account_id"],
                    (
                        str(row["decided_on"]),
                        row["kind"],
                        row["request_id"] or "",
                        row["subscription_id"],
                        row["outcome"],
                        row["reason"],
                        row["from_package"],
                        row["to_package"],
                        str(row["effective_on"]),
                        sorted(evidence),
                        row["coupon"] or row["add_on"],
                    ),
                )

    return _by_account(views())


def _expected_decisions(oracle: Oracle, business: Business) -> Views:
    """The answers from the month of the first subscription on: before it there is no billing month."""
    since = business.first_month or "9999"

    def view(answer: Answer) -> tuple[object, ...]:
        decided, *middle, effective, _, offer = answer.shown()
        evidence = sorted((m, _quantity(quantity), _quantity(limit)) for m, quantity, limit in answer.evidence)
        return (str(decided), *middle, str(effective), evidence, offer)

    return _by_account(
        (account, view(answer))
        for account, answers in oracle.answers.items()
        for answer in answers
        if str(answer.decided_on or answer.asked_on) >= since
    )


def _packages(business: Business, day: date, oracle: Oracle) -> Views:
    """The table PACKAGES."""
    frames = [
        read_frame(business.home.partition(PACKAGES, month), PACKAGES).filter(pl.col("billing_date") <= day)
        for month in billed_months(business, day.strftime("%Y-%m"))
    ]
    columns = ("subscription_id", "billing_date", "closing_package", "opening_package", "status")
    return _by_account(
        (row["account_id"], tuple(str(row[name]) for name in columns))
        for frame in frames
        for row in frame.iter_rows(named=True)
    )


def _expected_packages(oracle: Oracle) -> Views:
    return _by_account(
        (account, (one.id, str(cycle.date), str(cycle.closing), str(cycle.opening), cycle.status))
        for account, cycles in oracle.cycles.items()
        for one, cycle in cycles
    )


def _billed_by_date(business: Business) -> Views:
    """What all documents billed of each billing date that has a document of its own and no refund."""
    documents = business.register.documents()
    refunded = documents.filter(pl.col("number").is_in(_refunds(business).implode()))
    dated = documents.join(refunded, on=["subscription_id", "billing_date"], how="anti")
    dated = dated.select("account_id", "subscription_id", "billing_date").unique()
    lines = business.register.lines().join(documents.select("number", "subscription_id"), on="number")
    sums = lines.group_by("subscription_id", billing_date="due_on").agg(pl.col("amount").sum())
    found = dated.join(sums, on=["subscription_id", "billing_date"], how="left").fill_null(0)
    columns = ("subscription_id", "billing_date")
    return _by_account(
        (row["account_id"], (*(str(row[name]) for name in columns), _money(row["amount"])))
        for row in found.iter_rows(named=True)
    )


def _refunds(business: Business) -> pl.Series:
    return business.register.lines().filter(pl.col("kind") == "refund")["number"].unique()


def _due_by_date(oracle: Oracle) -> Views:
    refunded = {(d.subscription, d.billing_date) for d in oracle.documents if d.corrects is not None}
    dated = {(d.account_id, d.subscription, d.billing_date) for d in oracle.documents}
    alone: dict[tuple[str, date], Decimal] = {}
    for each in oracle.documents:
        if each.subscription not in oracle.dues_of and each.corrects is None:
            for line in each.lines:
                key = each.subscription, line.due_on
                alone[key] = alone.get(key, Decimal(0)) + line.amount

    def due(subscription: str, day: date) -> Decimal:
        if subscription not in oracle.dues_of:
            return alone.get((subscription, day), Decimal(0))
        return sum((line.amount for line in oracle.dues_of[subscription].get(day, ())), Decimal(0))

    return _by_account(
        (account, (subscription, str(day), _money(due(subscription, day))))
        for account, subscription, day in sorted(dated)
        if (subscription, day) not in refunded
    )


def _balances(business: Business) -> Views:
    columns = ("invoiced", "credited", "paid", "refunded", "outstanding")
    return _by_account(
        (row["account_id"], tuple(_money(row[name]) for name in columns))
        for row in balances(business).iter_rows(named=True)
    )


def _expected_balances(oracle: Oracle, told: Story, day: date) -> Views:
    found: Mapping[str, Sequence[Decimal] | None] = {
        account: oracle.balance(account, told.payments, day) for account in oracle.accounts
    }
    return _by_account(
        (account, tuple(_money(amount) for amount in amounts)) for account, amounts in found.items() if amounts
    )


def _profiles(business: Business) -> Views:
    def view(row: Mapping[str, Any]) -> tuple[object, ...]:
        pending = row["pending_change"]
        return (
            row["package"],
            row["status"],
            str(row["next_billing_date"]),
            _money(row["upcoming_amount"]),
            None if row["previous_amount"] is None else _money(row["previous_amount"]),
            str(row["previous_date"]),
            pending and (pending["from_package"], pending["to_package"], str(pending["effective_on"])),
            sorted((used["metric"], _quantity(used["quantity"])) for used in row["usage"]),
        )

    profiles = account_profiles(business, business.as_of)
    return _by_account((row["account_id"], view(row)) for row in profiles.iter_rows(named=True))


def _expected_profiles(oracle: Oracle, day: date) -> Views:
    def view(account: str) -> tuple[object, ...]:
        package, status, following, upcoming, amount, last, pending, usage = oracle.profile(account, day)
        return (
            package,
            status,
            str(following),
            _money(upcoming),
            None if amount is None else _money(amount),
            str(last),
            pending and (pending[0], pending[1], str(pending[2])),
            sorted((metric, _quantity(quantity)) for metric, quantity in usage),
        )

    return _by_account((account, view(account)) for account in oracle.accounts)


def _money(amount: Decimal) -> str:
    return f"{amount.normalize() + 0:f}"
