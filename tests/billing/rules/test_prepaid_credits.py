"""Prepaid credits agree with a plain reading of rule 33, document by document and grant by grant."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from billing.model.columns import CREDITS_OF_A_DOCUMENT, MONEY
from billing.rules.allocations import with_open_amounts
from billing.rules.credit_balances import credit_balances, expired_credits, next_expiries, not_covered
from billing.rules.prepaid_credits import USES, CreditsInOrder, is_prepayment, prepayment_dues
from tests.sizes import sized

FIRST = date(2026, 1, 1)
Issued = tuple[str, str, int, int, str | None]
KEYS = ["account_id", "subscription_id", "billing_date"]
ACCOUNTS = ("acme", "beta")


@dataclass
class Grant:
    """A grant, its days as days after the first."""

    name: str
    account: str
    amount: int
    on: int
    until: int | None
    kind: str
    priority: int
    paid: int | None
    currency: str = "USD"

    def is_usable(self, day: int) -> bool:
        starts = self.on if self.kind == "granted" else None if self.paid is None else max(self.on, self.paid)
        return starts is not None and starts <= day and (self.until is None or day < self.until)

    @property
    def order(self) -> tuple[object, ...]:
        return (self.priority, self.until is None, self.until or 0, self.kind == "purchased", self.on, self.name)


@dataclass
class Document:
    """A document above 0, or a credit note of the document at place `credits`, of which `unpaid` is unpaid."""

    account: str
    day: int
    total: int
    credits: int | None = None
    unpaid: int = 0
    is_prepayment: bool = False
    corrects: str | None = None


def by_hand(grants: Sequence[Grant], documents: Sequence[Document]) -> list[list[tuple[str, int]]]:
    """What each document takes of each grant, in the words of the rule."""
    left = {grant.name: grant.amount for grant in grants}
    kept: list[list[tuple[str, int]]] = []
    found: list[list[tuple[str, int]]] = []
    for document in documents:
        taken: list[tuple[str, int]] = []
        if document.credits is not None:
            rest = max(0, -document.total - document.unpaid)
            credited = kept[document.credits]
            for place, (name, amount) in reversed(list(enumerate(credited))):
                back = min(rest, amount)
                if back:
                    taken.append((name, -back))
                    credited[place] = (name, amount - back)
                    left[name] += back
                    rest -= back
        elif not document.is_prepayment:
            rest = document.total
            for grant in sorted(grants, key=lambda each: each.order):
                if grant.account != document.account or not grant.is_usable(document.day):
                    continue
                part = min(rest, left[grant.name])
                if part:
                    taken.append((grant.name, part))
                    left[grant.name] -= part
                    rest -= part
        found.append(taken)
        kept.append(list(taken))
    return found


def day_of(days: int | None) -> date | None:
    return None if days is None else FIRST + timedelta(days=days)


def grant_frame(grants: Sequence[Grant]) -> pl.DataFrame:
    rows = [
        {
            "grant_id": each.name,
            "account_id": each.account,
            "amount": Decimal(each.amount),
            "currency": each.currency,
            "granted_on": day_of(each.on),
            "expires_on": day_of(each.until),
            "kind": each.kind,
            "priority": each.priority,
            "description": None,
            "left": Decimal(each.amount),
            "usable_from": day_of(each.on)
            if each.kind == "granted"
            else day_of(None if each.paid is None else max(each.on, each.paid)),
        }
        for each in grants
    ]
    schema: dict[str, Any] = dict.fromkeys(("grant_id", "account_id", "currency", "kind", "description"), pl.String)
    schema |= dict.fromkeys(("granted_on", "expires_on", "usable_from"), pl.Date)
    return pl.DataFrame(rows, schema=schema | {"amount": MONEY, "left": MONEY, "priority": pl.Int64})


def document_frame(documents: Sequence[Document], since: int = 0) -> pl.DataFrame:
    rows = [
        {
            "account_id": each.account,
            "subscription_id": f"{each.account}/{since + place}/prepayment"
            if each.is_prepayment
            else str(since + place),
            "billing_date": day_of(each.day),
            "currency": "USD",
            "total": Decimal(each.total),
            "usable_on": day_of(each.day),
            "corrects": each.corrects,
        }
        for place, each in enumerate(documents)
    ]
    schema: dict[str, Any] = dict.fromkeys(("account_id", "subscription_id", "currency", "corrects"), pl.String)
    schema |= {"billing_date": pl.Date, "usable_on": pl.Date, "total": MONEY}
    return pl.DataFrame(rows, schema=schema)


def as_uses(paid: pl.DataFrame) -> pl.DataFrame:
    """What the register would keep of documents, whose numbers are their subscription ids."""
    rows = [
        (
            row["subscription_id"],
            position,
            credit["grant_id"],
            credit["amount"],
            credit["gives_back"],
            row["account_id"],
            "USD",
            row["billing_date"],
            row["billing_date"],
            True,
        )
        for row in paid.iter_rows(named=True)
        for position, credit in enumerate(row["credits"] or [], 1)
    ]
    return pl.DataFrame(rows, schema=USES, orient="row")


def taken(paid: pl.DataFrame) -> list[list[tuple[str, int]]]:
    return [
        [(each["grant_id"], int(each["amount"])) for each in credits or []] for credits in paid["credits"].to_list()
    ]


NO_NOTES = pl.DataFrame(
    schema={"account_id": pl.String, "subscription_id": pl.String, "billing_date": pl.Date, "number": pl.String}
)
GRANTS = st.lists(
    st.builds(
        Grant,
        name=st.sampled_from("abcdef"),
        account=st.sampled_from(ACCOUNTS),
        amount=st.integers(1, 40),
        on=st.integers(0, 4),
        until=st.none() | st.integers(6, 12),
        kind=st.sampled_from(["granted", "purchased"]),
        priority=st.integers(1, 2),
        paid=st.integers(0, 4) | st.none(),
    ),
    max_size=6,
    unique_by=lambda grant: grant.name,
)
DOCUMENTS = st.lists(
    st.builds(
        Document,
        account=st.sampled_from(ACCOUNTS),
        day=st.integers(2, 8),
        total=st.integers(1, 90),
        is_prepayment=st.sampled_from([False, False, False, True]),
    ),
    max_size=7,
).map(lambda documents: sorted(documents, key=lambda each: each.day))


@settings(max_examples=sized(usual=80, long=1_000), deadline=None)
@given(
    grants=GRANTS,
    documents=DOCUMENTS,
    notes=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 80), st.integers(0, 40)), max_size=4),
)
@example(
    grants=[Grant("a", "acme", 30, 0, None, "granted", 1, None), Grant("b", "acme", 50, 1, None, "granted", 1, None)],
    documents=[Document("acme", 2, 60)],
    notes=[(0, 40, 5)],
)
def test_documents_and_notes_agree_with_the_rule(
    grants: list[Grant], documents: list[Document], notes: list[tuple[int, int, int]]
) -> None:
    invoices = by_hand(grants, documents)
    in_order = CreditsInOrder(grant_frame(grants), pl.DataFrame(schema=USES), no_unpaid())
    paid = in_order.applied(document_frame(documents), NO_NOTES)
    assert taken(paid) == invoices
    assert (paid["due"] == paid["total"] - paid["credits_applied"]).all()
    assert paid.filter(pl.col("due") < 0).is_empty()
    assert paid.filter(is_prepayment() & (pl.col("credits_applied") != 0)).is_empty()
    # Notes of those documents in a later run: one a document, as a run reads what is unpaid before its first note.
    of_documents = {place: (total, unpaid) for place, total, unpaid in notes if place < len(documents)}
    credit_notes = [
        Document(documents[place].account, 9, -total, credits=place, unpaid=unpaid)
        for place, (total, unpaid) in of_documents.items()
    ]
    expected = by_hand(grants, [*documents, *credit_notes])[len(documents) :]
    uses = as_uses(paid)
    back = document_frame(credit_notes, since=len(documents))
    numbers = paid["subscription_id"]
    given_back = back.select(
        *KEYS, number=pl.Series([numbers[each.credits or 0] for each in credit_notes], dtype=pl.String)
    )
    # Each in an account of its own here, so that what one note has over pays no other document.
    unpaid = unpaid_of(*((numbers[place], open_amount, str(place)) for place, (_, open_amount) in of_documents.items()))
    later = CreditsInOrder(grant_frame([]), uses, unpaid)
    returned = later.applied(back, given_back)
    assert taken(returned) == expected
    assert (returned["due"] <= 0).all()
    # used + left + expired = granted, on every day
    all_uses = pl.concat([uses, as_uses(returned)])
    for day in (4, 9, 20):
        credits = credit_balances(
            grant_frame(grants).drop("left", "usable_from"), all_uses, FIRST + timedelta(days=day)
        )
        assert (credits["used"] + credits["left"] + credits["expired"] == credits["amount"]).all()
        assert credits["amount"].sum() == sum(grant.amount for grant in grants)
        assert (credits.select(pl.min_horizontal("used", "left", "expired") >= 0).to_series()).all()


@settings(max_examples=sized(usual=40, long=500), deadline=None)
@given(grants=GRANTS, documents=DOCUMENTS, cut=st.integers(0, 7))
def test_documents_paid_in_parts_are_paid_as_at_once(grants: list[Grant], documents: list[Document], cut: int) -> None:
    whole = document_frame(documents)
    at_once = CreditsInOrder(grant_frame(grants), pl.DataFrame(schema=USES), no_unpaid()).applied(whole, NO_NOTES)
    in_order = CreditsInOrder(grant_frame(grants), pl.DataFrame(schema=USES), no_unpaid())
    parts = [in_order.applied(part, NO_NOTES) for part in (whole.head(cut), whole.slice(cut))]
    assert pl.concat(parts).equals(at_once)


@settings(max_examples=sized(usual=60, long=500), deadline=None)
@given(
    amount=st.integers(1, 50),
    until=st.integers(2, 6),
    moves=st.lists(st.tuples(st.integers(0, 9), st.integers(-20, 20)), max_size=5),
)
def test_what_comes_less_what_goes_and_expires_is_nothing_after_the_end(
    amount: int, until: int, moves: list[tuple[int, int]]
) -> None:
    def moved(*rows: tuple[int, int]) -> pl.DataFrame:
        return pl.DataFrame(
            [("g", "acme", day_of(day), Decimal(value)) for day, value in rows],
            schema={"grant_id": pl.String, "account_id": pl.String, "day": pl.Date, "amount": MONEY},
            orient="row",
        )

    added, used = moved((0, amount)), moved(*moves)
    more = not_covered(added, used)
    expiry = pl.DataFrame({"grant_id": ["g"], "expires_on": [day_of(until)]})
    expired = expired_credits([added, more], used, expiry)
    assert (expired["day"] >= day_of(until)).all()
    moved_frames = (added, more, used, expired)
    for day in range(max(until, 9), 11):
        here = pl.col("day") <= day_of(day)
        up, also, down, gone = (frame.filter(here).select(pl.col("amount").sum()).item() for frame in moved_frames)
        assert up + also - down - gone == 0


def test_another_currency_pays_nothing() -> None:
    grants = [Grant("a", "acme", 30, 0, None, "granted", 1, None, "EUR")]
    in_order = CreditsInOrder(grant_frame(grants), pl.DataFrame(schema=USES), no_unpaid())
    paid = in_order.applied(document_frame([Document("acme", 2, 60)]), NO_NOTES)
    assert taken(paid) == [[]]


def test_only_purchased_grants_of_the_month_are_billed() -> None:
    grants = [
        Grant("a", "acme", 30, 0, None, "granted", 1, None),
        Grant("b", "acme", 40, 30, None, "purchased", 1, None),
        Grant("c", "acme", 50, 31, None, "purchased", 1, None),
    ]
    dues = prepayment_dues("2026-01", grant_frame(grants))
    assert dues.select(
        "subscription_id", "billing_date", "kind", "due_item", "amount", "description", "tax_category"
    ).rows() == [("acme/b/prepayment", date(2026, 1, 31), "prepayment", "b", Decimal(40), "Prepaid credit", "O")]


def test_what_expires_next_is_what_is_left_of_the_soonest() -> None:
    grants = [
        Grant("a", "acme", 30, 0, 8, "granted", 1, None),
        Grant("b", "acme", 40, 0, 8, "purchased", 1, 0),
        Grant("c", "acme", 50, 0, 9, "granted", 1, None),
        Grant("d", "acme", 60, 0, 2, "granted", 1, None),
        Grant("e", "beta", 70, 0, None, "granted", 1, None),
    ]
    credits = credit_balances(
        grant_frame(grants).drop("left", "usable_from"), pl.DataFrame(schema=USES), date(2026, 1, 3)
    )
    assert next_expiries(credits).sort("account_id").rows() == [
        ("acme", "USD", Decimal(120), date(2026, 1, 9), Decimal(70)),
        ("beta", "USD", Decimal(70), None, None),
    ]


def unpaid_of(*rows: tuple[str, int, str]) -> pl.DataFrame:
    """number, open and account of unpaid documents, which were issued in this order."""
    return pl.DataFrame(
        [(number, account, "USD", day_of(place), Decimal(left)) for place, (number, left, account) in enumerate(rows)],
        schema={
            **dict.fromkeys(("number", "account_id", "currency"), pl.String),
            "issued_on": pl.Date,
            "open": MONEY,
        },
        orient="row",
    )


def no_unpaid() -> pl.DataFrame:
    return unpaid_of()


def usual(name: str, **others: Any) -> Grant:
    members: dict[str, Any] = {"account": "acme", "amount": 10, "on": 1, "until": None, "kind": "granted"}
    return Grant(name, **{**members, "priority": 100, "paid": None, **others})


@pytest.mark.parametrize(
    ("grants", "order"),
    [
        ([usual("a", priority=2, until=9), usual("b", priority=1)], "ba"),
        ([usual("a", until=9, on=0), usual("b", until=8, on=1)], "ba"),
        ([usual("a"), usual("b", until=9, on=2)], "ba"),
        ([usual("a", kind="purchased", paid=1, on=0), usual("b", on=1)], "ba"),
        ([usual("a", kind="purchased", paid=1, until=8), usual("b", until=9)], "ab"),
        ([usual("a", on=2), usual("b", on=1)], "ba"),
        ([usual("b"), usual("a")], "ab"),
        ([usual("c", priority=3), usual("b", priority=2), usual("a", priority=1)], "abc"),
    ],
)
def test_the_order_of_grants(grants: list[Grant], order: str) -> None:
    for rows in (grants, grants[::-1]):
        in_order = CreditsInOrder(grant_frame(rows), pl.DataFrame(schema=USES), no_unpaid())
        paid = in_order.applied(document_frame([Document("acme", 3, 10 * len(rows) - 9)]), NO_NOTES)
        assert taken(paid) == [[*((name, 10) for name in order[:-1]), (order[-1], 1)]]
        (credits,) = paid["credits"].to_list()
        assert [each["gives_back"] for each in credits] == [None] * len(rows)
        assert paid["credits_applied"].to_list() == [10 * len(rows) - 9]


def note(total: int, *credited: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A credit note of acme, and the documents that it credits."""
    frame = document_frame([Document("acme", 9, total)], since=90)
    return frame, frame.join(pl.DataFrame({"number": list(credited)}), how="cross").select(*KEYS, "number")


def a_use(number: str, position: int, grant: str, amount: int, issued: int, back: str | None = None) -> tuple[Any, ...]:
    return (number, position, grant, Decimal(amount), back, "acme", "USD", day_of(issued), day_of(issued), True)


def kept(*rows: tuple[Any, ...]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=USES, orient="row")


LATER = (a_use("I9", 1, "e", 6, 2), a_use("I10", 1, "d", 6, 3))
USED = (
    a_use("I1", 1, "a", 5, 2),
    a_use("I1", 2, "b", 4, 2),
    a_use("I2", 1, "b", 3, 3),
    a_use("I3", 1, "c", 2, 3),
    *LATER,
)


@pytest.mark.parametrize(
    ("total", "credited", "expected"),
    [
        (-1, ["I1"], [("b", -1)]),
        (-6, ["I1"], [("b", -4), ("a", -2)]),
        (-99, ["I1"], [("b", -4), ("a", -5)]),
        # Of several documents the latest, of one day that with the later number.
        (-7, ["I1", "I2", "I3"], [("c", -2), ("b", -3), ("b", -2)]),
        (-7, ["I3", "I3"], [("c", -2)]),
        (-7, ["I9", "I10"], [("d", -6), ("e", -1)]),
        (-7, ["I4"], []),
    ],
)
def test_what_was_used_last_comes_back_first(total: int, credited: list[str], expected: list[tuple[str, int]]) -> None:
    in_order = CreditsInOrder(grant_frame([]), kept(*USED), no_unpaid())
    returned = in_order.applied(*note(total, *credited))
    assert taken(returned) == [expected]
    assert returned["due"].to_list() == [total - sum(amount for _, amount in expected)]


def test_what_is_unpaid_is_lowered_first() -> None:
    unpaid = unpaid_of(("I1", 3, "acme"), ("I2", 1, "acme"))
    for total, expected in ((-2, []), (-3, []), (-4, []), (-5, [("b", -1)])):
        in_order = CreditsInOrder(grant_frame([]), kept(*USED), unpaid)
        assert taken(in_order.applied(*note(total, "I1", "I2"))) == [expected]


def test_a_second_note_of_a_run_knows_what_the_first_lowered() -> None:
    in_order = CreditsInOrder(grant_frame([]), kept(*USED), unpaid_of(("I1", 3, "acme"), ("I2", 1, "acme")))
    assert taken(in_order.applied(*note(-2, "I1"))) == [[]]
    # One is left unpaid: the other one comes back.
    assert taken(in_order.applied(*note(-2, "I1"))) == [[("b", -1)]]
    assert taken(in_order.applied(*note(-2, "I1"))) == [[("b", -2)]]


@settings(max_examples=sized(usual=30, long=1_000), deadline=None)
@given(
    documents=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30), st.booleans()), min_size=1, max_size=4),
    notes=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40), st.booleans()), min_size=1, max_size=5),
)
@example(documents=[(60, 60, False)], notes=[(0, 30, True), (0, 30, True)])
@example(documents=[(40, 60, False), (9, 9, False)], notes=[(0, 20, False), (1, 9, True), (0, 30, True)])
def test_notes_of_one_run_are_those_of_runs_of_their_own(
    documents: list[tuple[int, int, bool]], notes: list[tuple[int, int, bool]]
) -> None:
    """documents: what credits paid, what is due, whether that is paid; notes: the document, the amount, whether the
    note corrects it."""
    uses = kept(*(a_use(f"I{place}", 1, f"g{place}", paid, place) for place, (paid, _, _) in enumerate(documents)))
    issued: list[Issued] = [(f"I{place}", "invoice", place, due, None) for place, (_, due, _) in enumerate(documents)]
    payments = pl.DataFrame(
        [
            (f"p{place}", "acme", f"I{place}", datetime(2026, 1, 9), day_of(8), Decimal(due), "succeeded")
            for place, (_, due, is_paid) in enumerate(documents)
            if is_paid and due
        ],
        schema={
            **dict.fromkeys(("payment_id", "account_id", "document"), pl.String),
            "at": pl.Datetime,
            "on": pl.Date,
            "amount": MONEY,
            "status": pl.String,
        },
        orient="row",
    )

    def in_order(issued: list[Issued], uses: pl.DataFrame) -> CreditsInOrder:
        frame = pl.DataFrame(
            [
                (number, "acme", kind, day_of(day), Decimal(due), corrects, "USD")
                for number, kind, day, due, corrects in issued
            ],
            schema={
                **dict.fromkeys(("number", "account_id", "kind"), pl.String),
                "issued_on": pl.Date,
                "due": MONEY,
                "corrects": pl.String,
                "currency": pl.String,
            },
            orient="row",
        )
        return CreditsInOrder(grant_frame([]), uses, with_open_amounts(frame, payments))

    written = [
        (place % len(documents), Document("acme", 9, -total, corrects=f"I{place % len(documents)}" if own else None))
        for place, total, own in notes
    ]
    frame = document_frame([each for _, each in written], since=90)
    given_back = frame.select(*KEYS, number=pl.Series([f"I{place}" for place, _ in written]))
    together = in_order(issued, uses).applied(frame, given_back)
    apart = []
    for place, (_, each) in enumerate(written):
        one = in_order(issued, uses).applied(frame[place : place + 1], given_back)
        apart.append(one)
        number = one["subscription_id"].item()
        issued.append((number, "credit_note", 9, int(one["due"].item()), each.corrects))
        uses = pl.concat([uses, as_uses(one)])
    assert taken(together) == taken(pl.concat(apart))


def test_what_was_given_back_is_not_given_back_again_and_pays_the_next_document() -> None:
    earlier = a_use("C1", 1, "b", -3, 5, back="I1")
    grants = grant_frame([usual("a", amount=5), usual("b", amount=7)]).with_columns(left=pl.lit(0).cast(MONEY))
    in_order = CreditsInOrder(grants, kept(*USED, earlier), no_unpaid())
    first = in_order.applied(*note(-2, "I1"))
    assert taken(first) == [[("b", -1), ("a", -1)]]
    (credits,) = first["credits"].to_list()
    assert [each["gives_back"] for each in credits] == ["I1", "I1"]
    assert taken(in_order.applied(*note(-99, "I1"))) == [[("a", -4)]]
    next_one = in_order.applied(document_frame([Document("acme", 9, 99)]), NO_NOTES)
    assert taken(next_one) == [[("a", 5), ("b", 1)]]


def test_documents_keep_their_order_and_their_other_columns() -> None:
    documents = document_frame([Document("beta", 3, 1), Document("acme", 3, 9), Document("beta", 3, 2)]).with_columns(
        credits_applied=pl.lit(7).cast(MONEY), due=pl.lit(7).cast(MONEY), credits=pl.lit(None, CREDITS_OF_A_DOCUMENT)
    )
    in_order = CreditsInOrder(
        grant_frame([usual("a", account="beta", amount=2)]), pl.DataFrame(schema=USES), no_unpaid()
    )
    paid = in_order.applied(documents, NO_NOTES)
    assert paid.select(documents.columns[:6]).equals(documents.select(documents.columns[:6]))
    assert paid.select("credits_applied", "due").rows() == [(1, 0), (0, 9), (1, 1)]
    assert paid["credits"].null_count() == 1
    assert {name: paid.schema[name] for name in ("credits_applied", "due", "credits")} == {
        "credits_applied": MONEY,
        "due": MONEY,
        "credits": CREDITS_OF_A_DOCUMENT,
    }


def test_a_prepayment_says_what_its_row_says_and_takes_no_coupon() -> None:
    grants = grant_frame([usual("b", kind="purchased")]).with_columns(description=pl.lit("Fund"))
    (due,) = prepayment_dues("2026-01", grants).iter_rows(named=True)
    assert (due["account_id"], due["description"], due["coupon_allowed"]) == ("acme", "Fund", False)


@pytest.mark.parametrize(("day", "amount"), [(0, 0), (1, 5), (3, 5), (4, 0)])
def test_a_grant_is_usable_from_its_day_to_the_day_before_its_expiry(day: int, amount: int) -> None:
    in_order = CreditsInOrder(grant_frame([usual("a", on=1, until=4)]), pl.DataFrame(schema=USES), no_unpaid())
    paid = in_order.applied(document_frame([Document("acme", day, 5)]), NO_NOTES)
    assert paid["credits_applied"].to_list() == [amount]
