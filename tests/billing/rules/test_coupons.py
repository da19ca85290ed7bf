"""Coupons: laws of what they take off the lines of documents, whatever the lines and coupons (rule 29)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.model.catalogue import Catalogue
from billing.model.offers import COUPON_KINDS, Coupon
from billing.model.tables import CYCLES, DUES
from billing.rules.coupons import COUNTED_SCHEMA, counted_documents, coupon_dues
from billing.rules.redemptions import HOLDING_SCHEMA
from tests.life_story.offers_oracle import spread

SUBSCRIPTION, DAY = "acme/2026-01-10", date(2026, 2, 10)
CENT = Decimal("0.01")
LINES = st.lists(
    st.tuples(
        st.sampled_from(
            [
                ("package_fee", None),
                ("overage", "emails"),
                ("overage", "bandwidth"),
                ("charge", None),
                ("hold_fee", None),
            ]
        ),
        st.integers(-5_000, 30_000) | st.sampled_from([0, 1, 99]),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)
COUPONS = st.lists(
    st.builds(
        lambda percent, amount, kinds, priority: Coupon(
            "",
            "",
            percent=percent,
            amount=None if percent is not None else amount,
            applies_to=tuple(kinds),
            priority=priority,
        ),
        st.none() | st.sampled_from([Decimal("0.1"), Decimal(10), Decimal("33.333"), Decimal(100)]),
        st.integers(1, 20_000).map(lambda cents: cents * CENT),
        st.lists(st.sampled_from([*COUPON_KINDS, "overage.emails"]), min_size=1, max_size=3, unique=True),
        st.sampled_from([10, 100]),
    ),
    min_size=1,
    max_size=3,
)


def dues_of(drawn: Sequence[tuple[tuple[str, str | None], int, bool]]) -> pl.DataFrame:
    """One document: of a kind and metric one line, charges apart."""
    rows: dict[tuple[object, ...], Mapping[str, object]] = {}
    for number, ((kind, metric), cents, allowed) in enumerate(drawn):
        item = f"charge-{number}" if kind == "charge" else None
        rows[kind, metric, item] = {
            "account_id": "acme",
            "subscription_id": SUBSCRIPTION,
            "billing_date": DAY,
            "kind": kind,
            "metric": metric,
            "due_item": item,
            "package": "starter",
            "amount": cents * CENT,
            "coupon_allowed": allowed,
        }
    schema = pl.Schema([*DUES.schema.items(), ("coupon_allowed", pl.Boolean())])
    return pl.DataFrame(list(rows.values()), schema=schema)


def taken(catalogue: Catalogue, dues: pl.DataFrame, coupons: Sequence[Coupon]) -> pl.DataFrame:
    named = tuple(replace(coupon, name=f"coupon-{place}") for place, coupon in enumerate(coupons))
    noon = datetime(2026, 1, 10, 12, tzinfo=UTC)
    held = [
        ("acme", SUBSCRIPTION, coupon.name, f"request-{place}", noon + timedelta(minutes=place), DAY, None)
        for place, coupon in enumerate(named)
    ]
    return coupon_dues(
        dues,
        pl.DataFrame(held, schema=HOLDING_SCHEMA, orient="row"),
        pl.DataFrame(schema=COUNTED_SCHEMA),
        CYCLES.empty(),
        replace(catalogue, coupons=named),
    )


@given(lines=LINES, coupons=COUPONS)
def test_coupons_are_taken_one_after_the_other_and_never_below_zero(
    lines: Sequence[tuple[tuple[str, str | None], int, bool]], coupons: Sequence[Coupon], ref_1: Catalogue
) -> None:
    dues = dues_of(lines)
    found = taken(ref_1, dues, coupons)
    assert (found["amount"] < 0).all()
    left: dict[tuple[str, ...], Decimal] = {
        (row["kind"], row["metric"] or "", row["due_item"] or ""): row["amount"]
        for row in dues.iter_rows(named=True)
        if row["amount"] > 0 and row["coupon_allowed"]
    }
    order = sorted(range(len(coupons)), key=lambda place: (coupons[place].priority, place))
    for place in order:
        coupon, parts = coupons[place], dict[tuple[str, ...], Decimal]()
        for row in found.filter(pl.col("coupon") == f"coupon-{place}").iter_rows(named=True):
            parts[tuple(row["due_item"].split("/")[1:])] = -row["amount"]
        base = {
            key: amount
            for key, amount in left.items()
            if amount > 0 and (key[0] in coupon.applies_to or f"{key[0]}.{key[1]}" in coupon.applies_to)
        }
        whole = sum(base.values(), Decimal(0))
        percent = coupon.percent
        wanted = min(whole, coupon.amount) if coupon.amount is not None else _half_up(whole * percent / 100)  # type: ignore[operator] # one of both
        # The parts add up to the coupon, and no line is lowered by more than it costs.
        assert sum(parts.values(), Decimal(0)) == wanted
        assert parts.keys() <= base.keys()
        page = ("package_fee", "hold_fee", "overage", "charge")
        metrics = ["", *(metric.name for metric in ref_1.metrics)]
        ordered = sorted(base, key=lambda key: (page.index(key[0]), metrics.index(key[1]), key[2]))
        shares = spread(wanted, [base[key] for key in ordered], CENT)
        assert {key: share for key, share in zip(ordered, shares, strict=True) if share} == parts
        for key, part in parts.items():
            left[key] -= part
            assert left[key] >= 0


@given(lines=LINES, coupons=COUPONS)
def test_another_order_of_lines_takes_off_the_same(
    lines: Sequence[tuple[tuple[str, str | None], int, bool]], coupons: Sequence[Coupon], ref_1: Catalogue
) -> None:
    dues = dues_of(lines)
    columns = ["coupon", "due_item", "amount"]
    ways = [taken(ref_1, each, coupons).select(columns).sort(columns) for each in (dues, dues.reverse())]
    assert ways[0].equals(ways[1])


def _half_up(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_UP)


# --- which coupons a document takes -----------------------------------------------------------------------------------

NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)
GRID = tuple(date(2026, month, 10) for month in range(1, 7))


def a_coupon(name: str, percent: str | None = "10", **others: object) -> Coupon:
    of_percent = None if percent is None else Decimal(percent)
    members: dict[str, object] = {"percent": of_percent, "applies_to": COUPON_KINDS} | others
    return Coupon(name, name.title(), **members)  # type: ignore[arg-type] # the tests name members freely


def fee(subscription: str = SUBSCRIPTION, on: date = DAY, **others: object) -> dict[str, object]:
    """A line of 100.00 on a document."""
    row = {
        "account_id": "acme",
        "subscription_id": subscription,
        "billing_date": on,
        "kind": "package_fee",
        "package": "starter",
        "amount": Decimal(100),
    }
    return row | others


def holding(
    coupon: str, since: date, until: date | None = None, *, at: int = 0, of: str = SUBSCRIPTION
) -> tuple[object, ...]:
    return ("acme", of, coupon, f"request-{at}", NOON + timedelta(minutes=at), since, until)


def lowered(
    catalogue: Catalogue,
    coupons: Sequence[Coupon],
    rows: Sequence[dict[str, object]],
    held: Sequence[tuple[object, ...]],
    counted: Sequence[tuple[str, str, date]] = (),
    cycles: pl.DataFrame | None = None,
) -> list[tuple[str, Decimal]]:
    """The coupon and amount of each line that a coupon lowers, in order."""
    schema = pl.Schema([*DUES.schema.items(), ("coupon_allowed", pl.Boolean())])
    found = coupon_dues(
        pl.DataFrame(list(rows), schema=schema),
        pl.DataFrame(list(held), schema=HOLDING_SCHEMA, orient="row"),
        pl.DataFrame(list(counted), schema=COUNTED_SCHEMA, orient="row"),
        CYCLES.empty() if cycles is None else cycles,
        replace(catalogue, coupons=tuple(coupons)),
    )
    return [(coupon, amount.normalize()) for coupon, amount in found.select("coupon", "amount").iter_rows()]


@given(
    documents=st.none() | st.integers(1, 3),
    held=st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 6)), min_size=1, max_size=3),
    counted=st.sets(st.integers(0, 5)),
    on=st.integers(0, 5),
)
def test_a_coupon_holds_for_its_dates_and_its_number_of_documents(
    ref_1: Catalogue, documents: int | None, held: list[tuple[int, int | None]], counted: set[int], on: int
) -> None:
    rows = [
        holding("c", GRID[since], None if until is None else (*GRID, date(2026, 7, 10))[until], at=place)
        for place, (since, until) in enumerate(held)
    ]
    in_force = [since for since, until in held if since <= on and (until is None or on < until)]
    before = len([each for each in counted if in_force and min(in_force) <= each < on])
    holds = bool(in_force) and (documents is None or before < documents * len(in_force))
    coupon = a_coupon("c", documents=documents)
    found = lowered(ref_1, [coupon], [fee(on=GRID[on])], rows, [(SUBSCRIPTION, "c", GRID[each]) for each in counted])
    # Redeemed several times it is taken once a document.
    assert found == ([("c", Decimal(-10))] if holds else [])


def test_of_others_nothing_is_counted_and_nothing_taken(ref_1: Catalogue) -> None:
    coupon = a_coupon("c", documents=1)
    counted = [("acme/2025-01-10", "c", GRID[0]), (SUBSCRIPTION, "other", GRID[0])]
    assert lowered(ref_1, [coupon], [fee()], [holding("c", GRID[0])], counted) == [("c", Decimal(-10))]
    assert lowered(ref_1, [coupon], [fee()], [holding("c", GRID[0], of="acme/2025-01-10")]) == []
    assert lowered(ref_1, [a_coupon("c", None)], [fee()], [holding("c", GRID[0])]) == []
    assert lowered(ref_1, [], [fee()], [holding("c", GRID[0])]) == []


def test_the_lower_priority_is_first_then_what_was_redeemed_first(ref_1: Catalogue) -> None:
    coupons = [a_coupon("a", priority=100), a_coupon("b", priority=100), a_coupon("c", priority=10)]
    held = [holding("a", GRID[0], at=2), holding("b", GRID[0], at=1), holding("c", GRID[0], at=3)]
    expected = [("c", Decimal(-10)), ("b", Decimal(-9)), ("a", Decimal("-8.1"))]
    assert lowered(ref_1, coupons, [fee()], held) == expected
    # The first of several redemptions counts, whatever their order.
    again = [*held, holding("a", GRID[0], at=0)]
    expected = [("c", Decimal(-10)), ("a", Decimal(-9)), ("b", Decimal("-8.1"))]
    assert lowered(ref_1, coupons, [fee()], again) == expected
    same = [(*each[:4], NOON, *each[5:]) for each in held]
    assert [name for name, _ in lowered(ref_1, coupons, [fee()], same)] == ["c", "b", "a"]


def test_what_may_not_be_lowered_is_left(ref_1: Catalogue) -> None:
    rows = [
        fee(coupon_allowed=False),
        fee(kind="overage", metric="emails", amount=Decimal(-5)),
        fee(kind="charge", due_item="x"),
    ]
    assert lowered(ref_1, [a_coupon("c")], rows, [holding("c", GRID[0])]) == [("c", Decimal(-10))]
    assert (
        lowered(
            ref_1, [a_coupon("c", amount=Decimal(7), percent=None)], [fee(amount=Decimal(0))], [holding("c", GRID[0])]
        )
        == []
    )


def test_of_equal_remainders_the_earlier_line_of_the_page_has_the_cent(ref_1: Catalogue) -> None:
    coupon = a_coupon("c", amount=Decimal("0.01"), percent=None)
    metrics = [metric.name for metric in ref_1.metrics]
    later, earlier = (fee(kind="overage", metric=name, due_item=None) for name in (metrics[-1], metrics[0]))
    items = [fee(kind="charge", due_item=name) for name in ("b", "a")]
    for rows, wanted in (
        ([later, earlier], f"overage/{metrics[0]}/"),
        ([later, fee()], "package_fee//"),
        (items, "charge//a"),
        ([*items, later], f"overage/{metrics[-1]}/"),
        ([fee(kind="charge", due_item="a"), fee(kind="seats", metric=metrics[-1])], f"seats/{metrics[-1]}/"),
    ):
        schema = pl.Schema([*DUES.schema.items(), ("coupon_allowed", pl.Boolean())])
        found = coupon_dues(
            pl.DataFrame(rows, schema=schema),
            pl.DataFrame([holding("c", GRID[0])], schema=HOLDING_SCHEMA, orient="row"),
            pl.DataFrame(schema=COUNTED_SCHEMA),
            CYCLES.empty(),
            replace(ref_1, coupons=(coupon,)),
        )
        assert found["due_item"].to_list() == [f"c/{wanted}"]
        (row,) = found.iter_rows(named=True)
        assert (row["kind"], row["description"], row["quantity"], row["unit_price"]) == ("coupon", "C", None, None)


# --- documents of their own -------------------------------------------------------------------------------------------


def dates(*rows: tuple[str, date | None, date]) -> pl.DataFrame:
    """CYCLES: subscription, the date before, and the billing date of the month."""
    found = [
        {"account_id": one.split("/")[0], "subscription_id": one, "cycle_start": before, "billing_date": on}
        for one, before, on in rows
    ]
    return pl.DataFrame(found, schema={name: CYCLES.schema[name] for name in found[0]})


@pytest.mark.parametrize(
    ("on", "since", "documents", "counted", "taken_off"),
    [
        # On or after the month's billing date the document of that date counts, before it the one before.
        (date(2026, 2, 10), GRID[1], None, [], True),
        (date(2026, 2, 20), GRID[1], None, [], True),
        (date(2026, 2, 9), GRID[1], None, [], False),
        (date(2026, 2, 9), GRID[0], None, [], True),
        (date(2026, 2, 20), GRID[0], 1, [GRID[0]], False),
        (date(2026, 2, 9), GRID[0], 1, [GRID[0]], True),
    ],
)
def test_a_document_of_its_own_takes_what_that_of_its_cycle_took(
    ref_1: Catalogue, on: date, since: date, documents: int | None, counted: list[date], *, taken_off: bool
) -> None:
    row = fee("acme/charges", on, kind="charge", due_item="x")
    coupons = [a_coupon("c", documents=documents), a_coupon("amount", amount=Decimal(5), percent=None)]
    held = [holding("c", since), holding("amount", GRID[0], at=1)]
    grid = dates((SUBSCRIPTION, GRID[0], GRID[1]))
    found = lowered(ref_1, coupons, [row], held, [(SUBSCRIPTION, "c", each) for each in counted], grid)
    # Amounts are for scheduled documents only.
    assert found == ([("c", Decimal(-10))] if taken_off else [])


def test_an_upgrade_takes_the_coupons_of_its_subscription_and_a_charge_those_of_the_latest(ref_1: Catalogue) -> None:
    coupons = [a_coupon("old"), a_coupon("new", "20")]
    older, newer = "acme/2026-01-10", "acme/2026-02-05"
    held = [holding("old", GRID[0], of=older), holding("new", date(2026, 2, 5), at=1, of=newer)]
    grid = dates(
        (older, GRID[0], GRID[1]), (newer, None, date(2026, 2, 5)), ("other/2026-02-12", None, date(2026, 2, 12))
    )
    day = date(2026, 2, 20)

    def off(name: str) -> list[tuple[str, Decimal]]:
        row = fee(name, day, kind="proration", due_item="r")
        return lowered(ref_1, coupons, [row], held, cycles=grid)

    assert off(f"{older}/r/upgrade") == [("old", Decimal(-10))]
    assert off(f"{newer}/r/upgrade") == [("new", Decimal(-20))]
    assert off("acme/charges") == [("old", Decimal(-10))]
    # Before the first billing date there is no document whose coupons it could take.
    early = [fee("acme/charges", date(2026, 2, 1), kind="charge", due_item="x")]
    assert lowered(ref_1, coupons, early, held, cycles=dates((newer, None, date(2026, 2, 5)))) == []
    both = [fee(older, GRID[1]), fee("acme/charges", day, kind="charge", due_item="x")]
    assert lowered(ref_1, coupons[:1], both, held[:1], cycles=grid) == [("old", Decimal(-10)), ("old", Decimal(-10))]


def test_only_scheduled_documents_are_counted() -> None:
    rows = [
        fee(SUBSCRIPTION, GRID[1], kind="coupon", coupon="b"),
        fee(SUBSCRIPTION, GRID[0], kind="coupon", coupon="a"),
        fee(SUBSCRIPTION, GRID[0], kind="coupon", coupon="a", due_item="second"),
        fee("acme/charges", GRID[0], kind="coupon", coupon="a"),
        fee(SUBSCRIPTION, GRID[2]),
    ]
    found = counted_documents(pl.DataFrame(rows, schema=DUES.schema).lazy())
    assert found.rows() == [(SUBSCRIPTION, "a", GRID[0]), (SUBSCRIPTION, "b", GRID[1])]
