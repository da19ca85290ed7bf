"""Coupons: laws of what they take off the lines of documents, whatever the lines and coupons (rule 29)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from billing.model.catalogue import Catalogue
from billing.model.offers import COUPON_KINDS, Coupon
from billing.model.tables import CYCLES, DUES
from billing.rules.coupons import COUNTED_SCHEMA, coupon_dues
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
