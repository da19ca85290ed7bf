"""Rating against exact fractions computed one quantity at a time, and the worked scenarios' arithmetic."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal, localcontext
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.catalogue import Agreement, Catalogue, Metric, Package, Tariff, Terms, Tier
from billing.model.columns import BASE_QUANTITY, QUANTITY
from billing.model.quantities import in_units, unit_billionths
from billing.rules.rating import rate
from billing.rules.terms import TERMS_OF_A_METRIC, terms_frames, with_terms

SINCE = date(2026, 1, 1)
UNIT_SIZES = [Decimal(1), Decimal(1000), Decimal(10**9), Decimal(1073741824), Decimal(3600)]


def metric(unit_size: Decimal = Decimal(1), name: str = "emails") -> Metric:
    return Metric(name, f"{name}.used", "counter", "sum", ("data", "value"), None, "unit", unit_size, name)


def catalogue_of(ref_1: Catalogue, tariff: Tariff | None, allowance: Decimal | None, unit_size: Decimal) -> Catalogue:
    """One package of one metric."""
    terms = Terms(SINCE, Decimal("9.00"), None, {"emails": allowance}, {"emails": tariff}, ())
    package = Package("basic", 1, "Basic", (terms,))
    return replace(ref_1, metrics=(metric(unit_size),), packages=(package,), agreements=())


def rated(catalogue: Catalogue, base_quantities: Sequence[Decimal], decimals: int = 2) -> pl.DataFrame:
    (only,) = catalogue.metrics
    terms = terms_frames(replace(catalogue, minor_units=decimals))
    quantities = pl.DataFrame({"base_quantity": base_quantities}, schema={"base_quantity": BASE_QUANTITY})
    used = quantities.join(terms.metrics.select(TERMS_OF_A_METRIC), how="cross", maintain_order="left")
    return rate(with_units(used, only), terms)


def with_units(used: pl.DataFrame, only: Metric) -> pl.DataFrame:
    quantity = in_units(pl.col("base_quantity").to_physical(), unit_billionths(only))
    return used.with_columns(quantity=quantity)


# --- the oracle -------------------------------------------------------------------------------------------------------


def rounded(amount: Fraction, decimals: int) -> Fraction:
    scaled = abs(amount) * 10**decimals
    whole = math.floor(scaled)
    whole += scaled - whole >= Fraction(1, 2)
    return Fraction(whole if amount >= 0 else -whole, 10**decimals)


def exact_amount(tariff: Tariff, excess: Fraction) -> Fraction:
    """What an excess in units costs before rounding, read off the rules' words."""
    if excess <= 0:
        return Fraction(0)
    if tariff.model == "block":
        assert tariff.size is not None
        assert tariff.price is not None
        amount = math.ceil(excess / Fraction(tariff.size)) * Fraction(tariff.price)
    elif tariff.model == "graduated":
        amount, below = Fraction(0), Fraction(0)
        for tier in tariff.tiers:
            if excess > below:
                top = excess if tier.up_to is None else min(excess, Fraction(tier.up_to))
                amount += (top - below) * Fraction(tier.unit_price) + Fraction(tier.flat)
                below = top
                if tier.up_to is None or excess <= tier.up_to:
                    break
    else:
        reached = next(tier for tier in tariff.tiers if tier.up_to is None or excess <= Fraction(tier.up_to))
        amount = Fraction(reached.flat)
        if tariff.model == "volume":
            amount += excess * Fraction(reached.unit_price)
    if tariff.minimum is not None:
        amount = max(amount, Fraction(tariff.minimum))
    if tariff.maximum is not None:
        amount = min(amount, Fraction(tariff.maximum))
    return amount


# --- strategies -------------------------------------------------------------------------------------------------------


def amounts(decimals: int = 12, most: int = 1000) -> st.SearchStrategy[Decimal]:
    return st.integers(0, most * 10**decimals).map(lambda n: Decimal(n).scaleb(-decimals))


@st.composite
def tariffs(draw: st.DrawFn, unit_size: Decimal, models: Sequence[str], price_decimals: int = 12) -> Tariff:
    model = draw(st.sampled_from(models))
    prices = st.one_of(amounts(2), amounts(4, 2), amounts(price_decimals, 1))
    limits = sorted(draw(st.lists(amounts(2, 500), min_size=2, max_size=2)))
    minimum = limits[0] if draw(st.booleans()) else None
    maximum = limits[1] if draw(st.booleans()) else None
    # at most nine decimals of the base unit; a size that is a whole number of units stays one in base units
    sizes = st.one_of(st.integers(1, 5000).map(Decimal), st.just(Decimal("0.5")), st.just(Decimal("0.125")))
    if model == "block":
        return Tariff("block", draw(sizes), draw(prices), (), minimum, maximum)
    bounds = sorted(draw(st.lists(st.integers(1, 10**6), max_size=4, unique=True)))
    tiers = [
        Tier(None if bound is None else Decimal(bound) / 8, draw(prices), draw(st.one_of(st.just(Decimal(0)), prices)))
        for bound in [*bounds, None]
    ]
    if model == "stairstep":
        tiers = [replace(tier, unit_price=Decimal(0)) for tier in tiers]
    return Tariff(model, None, None, tuple(tiers), minimum, maximum)  # type: ignore[arg-type] # one of the four models


@st.composite
def cases(
    draw: st.DrawFn, models: Sequence[str] = ("block", "graduated", "volume", "stairstep"), price_decimals: int = 12
) -> tuple[Tariff, Decimal | None, Decimal, list[Decimal]]:
    """A tariff, an allowance in units, a unit size, and quantities in base units around everything that matters."""
    unit_size = draw(st.sampled_from(UNIT_SIZES))
    tariff = draw(tariffs(unit_size, models, price_decimals))
    allowance = draw(st.one_of(st.none(), st.integers(0, 10**6).map(Decimal), st.just(Decimal("0.125"))))
    smallest = Decimal("0.000000001")
    edges = [Decimal(0), *(tier.up_to for tier in tariff.tiers if tier.up_to is not None)]
    if tariff.size is not None:
        edges += [tariff.size, tariff.size * draw(st.integers(1, 10**6))]
    boundaries = [((allowance or 0) + edge) * unit_size for edge in edges]
    near = [quantity + step for quantity in boundaries for step in (-smallest, Decimal(0), smallest, unit_size)]
    free = draw(st.lists(st.integers(0, 10**27).map(lambda n: Decimal(n).scaleb(-9)), max_size=4))
    return tariff, allowance, unit_size, [quantity for quantity in [*near, *free] if quantity >= 0]


def assert_exact(
    found: pl.DataFrame, tariff: Tariff, allowance: Decimal | None, unit_size: Decimal, decimals: int, limit: int
) -> None:
    for quantity, excess, amount, out_of_range in found.select(
        "base_quantity", "excess", "amount", "out_of_range"
    ).iter_rows():
        base_excess = Fraction(0)
        if allowance is not None:
            base_excess = max(Fraction(0), Fraction(quantity) - Fraction(allowance) * Fraction(unit_size))
        assert out_of_range == (base_excess * 10**9 > limit)
        assert abs(Fraction(excess) - base_excess / Fraction(unit_size)) <= Fraction(1, 2 * 10**18)
        if out_of_range:
            assert amount is None
        else:
            exact = exact_amount(tariff, base_excess / Fraction(unit_size))
            assert Fraction(amount) == rounded(exact, decimals)
            assert exact <= 10**14


# --- laws -------------------------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(case=cases(), decimals=st.sampled_from([0, 2, 3, 4]))
def test_every_amount_is_the_exact_one_rounded_once(
    ref_1: Catalogue, case: tuple[Tariff, Decimal | None, Decimal, list[Decimal]], decimals: int
) -> None:
    tariff, allowance, unit_size, quantities = case
    catalogue = catalogue_of(replace(ref_1, minor_units=decimals), tariff, allowance, unit_size)
    (limit,) = terms_frames(catalogue).metrics["limit"]
    assert_exact(rated(catalogue, quantities, decimals), tariff, allowance, unit_size, decimals, limit)


@settings(max_examples=60)
@given(case=cases(price_decimals=4), decimals=st.sampled_from([0, 2, 3]))
def test_amounts_below_a_trillion_are_always_rated_where_prices_have_four_decimals(
    ref_1: Catalogue, case: tuple[Tariff, Decimal | None, Decimal, list[Decimal]], decimals: int
) -> None:
    tariff, allowance, unit_size, quantities = case
    found = rated(catalogue_of(ref_1, tariff, allowance, unit_size), quantities, decimals)
    for quantity, out_of_range in found.select("base_quantity", "out_of_range").iter_rows():
        excess = 0 if allowance is None else (Fraction(quantity) / Fraction(unit_size) - Fraction(allowance))
        without_limits = exact_amount(replace(tariff, minimum=None, maximum=None), Fraction(excess))
        dearest = max([tier.unit_price for tier in tariff.tiers], default=Decimal(0))
        if max(without_limits, Fraction(excess) * Fraction(dearest)) < 10**12:
            assert not out_of_range


@settings(max_examples=60)
@given(case=cases(models=("block", "graduated")))
def test_more_usage_never_costs_less_under_block_and_graduated_tariffs(
    ref_1: Catalogue, case: tuple[Tariff, Decimal | None, Decimal, list[Decimal]]
) -> None:
    tariff, allowance, unit_size, quantities = case
    found = rated(catalogue_of(ref_1, replace(tariff, maximum=None), allowance, unit_size), sorted(quantities))
    assert found["amount"].drop_nulls().is_sorted()
    # beyond what can be rated there is nothing more that can
    assert found["out_of_range"].is_sorted()


@settings(max_examples=40)
@given(case=cases())
def test_within_the_allowance_nothing_is_due_whatever_flats_and_minimum_exist(
    ref_1: Catalogue, case: tuple[Tariff, Decimal | None, Decimal, list[Decimal]]
) -> None:
    tariff, allowance, unit_size, quantities = case
    at_most = [min(quantity, (allowance or Decimal(0)) * unit_size) for quantity in quantities]
    found = rated(catalogue_of(ref_1, tariff, allowance, unit_size), at_most)
    assert found["amount"].unique().to_list() == [Decimal(0)]
    assert found["billed_units"].unique().to_list() == [Decimal(0)]
    assert found["unit_price"].null_count() == len(found)


@settings(max_examples=40)
@given(case=cases())
def test_an_unlimited_allowance_and_a_metric_without_tariff_cost_nothing_however_much_is_used(
    ref_1: Catalogue, case: tuple[Tariff, Decimal | None, Decimal, list[Decimal]]
) -> None:
    tariff, allowance, unit_size, quantities = case
    for free in (catalogue_of(ref_1, tariff, None, unit_size), catalogue_of(ref_1, None, allowance, unit_size)):
        found = rated(free, quantities)
        assert found["amount"].unique().to_list() == [Decimal(0)]
        assert not found["out_of_range"].any()


def test_a_tariff_whose_fixed_amounts_cannot_be_computed_still_costs_nothing_within_the_allowance(
    ref_1: Catalogue,
) -> None:
    dear = Tier(None, Decimal("0.000000000001"), Decimal("99999999999999.000000000001"))
    catalogue = catalogue_of(ref_1, Tariff("volume", None, None, (dear,)), Decimal(10), Decimal(1073741824))
    found = rated(catalogue, [Decimal(0), Decimal(10737418240), Decimal("10737418240.000000001")])
    assert found["out_of_range"].to_list() == [False, False, True]
    assert found["amount"].to_list() == [Decimal(0), Decimal(0), None]


@pytest.mark.parametrize("model", ["block", "graduated", "volume"])
def test_the_largest_quantity_that_is_rated_is_the_limit_itself(ref_1: Catalogue, model: str) -> None:
    price = Decimal("0.003")
    tariff = (
        Tariff("block", Decimal(1000), price)
        if model == "block"
        else Tariff(model, None, None, (Tier(None, price, Decimal(0)),))  # type: ignore[arg-type] # one of the models
    )
    catalogue = catalogue_of(ref_1, tariff, Decimal(0), Decimal(1))
    (limit,) = terms_frames(catalogue).metrics["limit"]
    at_limit = Decimal(limit).scaleb(-9)
    with localcontext(prec=60):
        beyond = at_limit + Decimal("0.000000001")
        block = Decimal(1000) if model == "block" else Decimal(1)
    found = rated(catalogue, [at_limit, beyond])
    assert found["out_of_range"].to_list() == [False, True]
    assert Fraction(found["amount"][0]) == rounded(exact_amount(tariff, Fraction(at_limit)), 2)
    assert found["amount"][0] <= 10**14 < (Fraction(at_limit) / Fraction(block) + 1) * Fraction(price)


GIBIBYTE = Decimal(2**30)


def limit_of(ref_1: Catalogue, tariff: Tariff, unit_size: Decimal) -> int:
    """The largest excess that is rated, in billionths of a base unit."""
    (limit,) = terms_frames(catalogue_of(ref_1, tariff, Decimal(0), unit_size)).metrics["limit"]
    assert isinstance(limit, int)
    return limit


def test_gibibytes_at_fifty_cents_are_rated_up_to_a_hundred_trillion(ref_1: Catalogue) -> None:
    tariff = Tariff("graduated", None, None, (Tier(None, Decimal("0.50"), Decimal(0)),))
    # 10^14 / 0.50 gibibytes, in billionths of a byte
    assert limit_of(ref_1, tariff, GIBIBYTE) == 2 * 10**14 * 2**30 * 10**9


def test_a_price_that_cannot_be_cancelled_is_rated_while_the_rounding_fits_126_bits(ref_1: Catalogue) -> None:
    tariff = Tariff("graduated", None, None, (Tier(None, Decimal("0.000000000001"), Decimal(0)),))
    # a numerator of 1 over (billionths of a byte in a gibibyte) x (12 decimals of a price), in cents, rounded by halves
    denominator = 2**30 * 10**9 * 10**12
    assert limit_of(ref_1, tariff, GIBIBYTE) == (2**126 - denominator) // (2 * 100)


def test_what_a_flat_takes_is_not_left_for_the_units(ref_1: Catalogue) -> None:
    tier = Tier(None, Decimal(1), Decimal("99999999999989.00"))
    # 10^14 less the flat of 10^14 - 11 leaves 11 units of 1.00
    tariff = Tariff("graduated", None, None, (tier,))
    assert limit_of(ref_1, tariff, Decimal(1)) == 11 * 10**9
    found = rated(catalogue_of(ref_1, tariff, Decimal(0), Decimal(1)), [Decimal(11), Decimal("11.000000001")])
    assert found["amount"].to_list() == [Decimal(10**14), None]


@pytest.mark.parametrize(
    ("minimum", "maximum", "amounts"),
    [("1.50", None, ["1.50", "2.00"]), (None, "1.50", ["1.00", "1.50"]), ("1.25", "1.75", ["1.25", "1.75"])],
)
def test_minimum_and_maximum_may_be_finer_than_the_price(
    ref_1: Catalogue, minimum: str | None, maximum: str | None, amounts: list[str]
) -> None:
    least, most = (None if limit is None else Decimal(limit) for limit in (minimum, maximum))
    tariff = Tariff("block", Decimal(1), Decimal("1.00"), (), least, most)
    found = rated(catalogue_of(ref_1, tariff, Decimal(0), Decimal(1)), [Decimal(1), Decimal(2)])
    assert found["amount"].to_list() == [Decimal(amount) for amount in amounts]


def test_a_flat_may_be_finer_than_the_price(ref_1: Catalogue) -> None:
    tariff = Tariff("graduated", None, None, (Tier(None, Decimal(0), Decimal("1.50")),))
    found = rated(catalogue_of(ref_1, tariff, Decimal(0), Decimal(1)), [Decimal(1)])
    assert found["amount"].to_list() == [Decimal("1.50")]


@pytest.mark.parametrize("large", ["flat", "minimum", "maximum"])
def test_the_largest_fixed_amounts_keep_every_cent_beside_the_smallest_price(ref_1: Catalogue, large: str) -> None:
    most = Decimal("98765432109876.53")
    tier = Tier(None, Decimal("0.000000000001"), most if large == "flat" else Decimal(0))
    tariff = Tariff("graduated", None, None, (tier,))
    if large == "minimum":
        tariff = replace(tariff, minimum=most)
    if large == "maximum":  # a second tier is dear enough to reach it
        dear = (replace(tier, up_to=Decimal(1)), Tier(None, Decimal(10**12), Decimal(0)))
        tariff = replace(tariff, tiers=dear, maximum=most)
    found = rated(catalogue_of(ref_1, tariff, Decimal(0), Decimal(1)), [Decimal(100)])
    assert found["amount"].to_list() == [most]


def test_large_allowances_and_bounds_keep_every_digit(ref_1: Catalogue) -> None:
    # 12345678901234567 x 1.000000001: 17 digits before the point and 9 after it
    size, many = Decimal("1.000000001"), Decimal(12345678901234567)
    first, second = Tier(many, Decimal(0), Decimal(0)), Tier(None, Decimal(0), Decimal("7.00"))
    tariff = Tariff("graduated", None, None, (first, second))
    catalogue = catalogue_of(ref_1, tariff, many, size)
    assert terms_frames(catalogue).metrics["allowance"].item() == Decimal("12345678913580245.901234567")
    # twice 12345678913580245.901234567 is the bound itself; a billionth more enters the second tier
    bound = [Decimal("24691357827160491.802469134"), Decimal("24691357827160491.802469135")]
    assert rated(catalogue, bound)["amount"].to_list() == [Decimal("0.00"), Decimal("7.00")]


def test_what_is_rated_in_pieces_is_rated_as_a_whole(ref_1: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = catalogue_of(ref_1, Tariff("block", Decimal(2), Decimal("3.00")), Decimal(1), Decimal(1))
    quantities = [Decimal(quantity) for quantity in (7, 0, 1, 3, 100)]
    whole = rated(catalogue, quantities)
    assert whole["amount"].to_list() == [Decimal(amount) for amount in (9, 0, 0, 3, 150)]
    monkeypatch.setattr("billing.rules.rating._PIECE", 2)
    assert rated(catalogue, quantities).equals(whole)


def test_rating_adds_what_a_line_says_and_nothing_else(ref_1: Catalogue) -> None:
    catalogue = catalogue_of(ref_1, Tariff("block", Decimal(1), Decimal(1)), Decimal(0), Decimal(1))
    given = ["base_quantity", "terms_key", "package", "since", "metric", "quantity"]
    added = ["allowance_units", "excess", "billed_units", "unit_price", "amount", "out_of_range"]
    assert rated(catalogue, [Decimal(1)]).columns == [*given, *added]
    assert rated(catalogue, []).columns == [*given, *added]


@settings(max_examples=100)
@given(case=cases(), decimals=st.sampled_from([0, 2, 3, 4]), other=st.integers(1, 10**30))
def test_up_to_where_64_bits_suffice_and_beyond_the_same_is_rated(
    ref_1: Catalogue, case: tuple[Tariff, Decimal | None, Decimal, list[Decimal]], decimals: int, other: int
) -> None:
    tariff, allowance, unit_size, quantities = case
    catalogue = catalogue_of(replace(ref_1, minor_units=decimals), tariff, allowance, unit_size)
    terms = terms_frames(catalogue)
    narrow, limit = terms.metrics.select("narrow", "limit").row(0)
    assert 0 <= narrow <= min(limit, 2**63 - 1)
    with localcontext(prec=60):
        free = (allowance or Decimal(0)) * unit_size
        edges = [free + Decimal(edge + step).scaleb(-9) for edge in (narrow, limit, other) for step in (-1, 0, 1)]
        quantities = [*quantities, *(edge for edge in edges if 0 <= edge < 10**20)]
    found = rated(catalogue, quantities, decimals)
    assert_exact(found, tariff, allowance, unit_size, decimals, limit)
    only_wide = replace(terms, metrics=terms.metrics.with_columns(narrow=pl.lit(0, pl.Int128)))
    assert rate(found.select(*TERMS_OF_A_METRIC, "base_quantity", "quantity"), only_wide).equals(
        found.select(*TERMS_OF_A_METRIC, "base_quantity", "quantity", *found.columns[6:])
    )


@pytest.mark.parametrize(
    ("tariff", "narrow"),
    [
        # in cents: 3 x billionths over 10^7, and half of that to round
        (Tariff("graduated", None, None, (Tier(None, Decimal("3.00"), Decimal(0)),)), (2**63 - 1 - 5 * 10**6) // 3),
        # a block takes one less than itself to be counted
        (Tariff("block", Decimal(1000), Decimal("0.01")), 2**63 - 1 - 10**12),
        (Tariff("stairstep", None, None, (Tier(None, Decimal(0), Decimal("5.00")),)), 2**63 - 1),
        # nothing of 10^14 fits beside billionths
        (Tariff("graduated", None, None, (Tier(None, Decimal(1), Decimal("99999999999989.00")),)), 0),
        (Tariff("stairstep", None, None, (Tier(None, Decimal(0), Decimal("99999999999999.000000000001")),)), 0),
        # half of the divisor would fit
        (Tariff("graduated", None, None, (Tier(None, Decimal("0.000000000001"), Decimal(0)),)), 0),
    ],
    ids=["graduated", "block", "stairstep", "large flat", "large step", "small price"],
)
def test_64_bits_are_used_as_far_as_they_suffice(ref_1: Catalogue, tariff: Tariff, narrow: int) -> None:
    terms = terms_frames(catalogue_of(ref_1, tariff, Decimal(0), Decimal(1)))
    assert terms.metrics["narrow"].to_list() == [narrow]


def test_rows_of_one_piece_are_rated_each_by_itself_and_stay_in_order(ref_1: Catalogue) -> None:
    block = Tariff("block", Decimal(1000), Decimal("3.00"), (), Decimal("4.50"))
    tiers = Tier(Decimal(10), Decimal("0.333"), Decimal("1.00")), Tier(None, Decimal("0.25"), Decimal(0))
    tariffs = {
        "emails": block,
        "calls": Tariff("graduated", None, None, tiers, None, Decimal(10**9)),
        "visits": Tariff("volume", None, None, tiers),
        "leads": None,
        "free": block,
    }
    metrics = tuple(metric(name=name) for name in tariffs)
    allowances = {name: None if name == "free" else Decimal(5) for name in tariffs}
    package = Package("basic", 1, "Basic", (Terms(SINCE, Decimal("9.00"), None, allowances, dict(tariffs), ()),))
    terms = terms_frames(replace(ref_1, metrics=metrics, packages=(package,), agreements=()))
    amounts = [Decimal(amount) for amount in ("0", "5", "5.000000001", "16", "1005.5", "9876543210987", "9e19")]
    used = pl.DataFrame({"base_quantity": amounts}, schema={"base_quantity": BASE_QUANTITY}).join(
        pl.DataFrame({"metric": [*tariffs, "unheard of"]}), how="cross", maintain_order="left_right"
    )
    keyed = with_units(used, metrics[0]).with_columns(package=pl.lit("basic"), terms_key=pl.lit(""), since=SINCE)
    whole = rate(keyed, terms)
    assert whole.select(keyed.columns).equals(keyed)
    assert whole.equals(pl.concat([rate(keyed[row], terms) for row in range(len(keyed))]))
    narrow = terms.metrics["narrow"].max()
    assert isinstance(narrow, int)
    wide = whole.filter((pl.col("base_quantity") > narrow / 10**9) & pl.col("amount").is_not_null())
    assert wide["metric"].unique().sort().to_list() == ["calls", "emails", "free", "leads", "visits"]
    # what no terms are known of costs nothing that could be told
    unknown = whole.filter(pl.col("metric") == "unheard of").drop(*keyed.columns).unique()
    assert unknown.row(0) == (None, Decimal(0), Decimal(0), None, None, None)
    assert whole["out_of_range"].unique().sort().to_list() == [None, False, True]


@settings(max_examples=200)
@given(
    billionths=st.integers(-(10**29) + 1, 10**29 - 1),
    unit_size=st.sampled_from([*UNIT_SIZES, Decimal("1000.5"), Decimal(10**15), Decimal(7)]),
)
def test_a_quantity_in_units_is_exact_or_rounded_half_up_at_eighteen_decimals(
    billionths: int, unit_size: Decimal
) -> None:
    unit = int(unit_size * 10**9)
    frame = pl.DataFrame({"q": [billionths], "u": [unit]}, schema={"q": pl.Int128, "u": pl.Int128})
    for found in frame.select(
        by_row=in_units(pl.col("q"), pl.col("u")),
        by_known=in_units(pl.col("q"), pl.col("u"), [unit, 10**9]),
        by_one=in_units(pl.col("q"), unit),
    ):
        assert found.dtype == QUANTITY
        assert Fraction(found.item()) == rounded(Fraction(billionths, unit), 18)


@pytest.mark.parametrize("unit", [10**9, 5 * 10**11, 3600 * 10**9])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_quantity_that_no_column_holds_is_refused_and_not_cut_off(unit: int, sign: int) -> None:
    # 2^128 x 10^-18 units are nothing at all once 128 bits are full
    for units in (10**20, 2**128 // 10**18, 10**23):
        frame = pl.DataFrame({"q": [units * unit * sign, None]}, schema={"q": pl.Int128})
        for known in ([], [unit]):
            with pytest.raises(pl.exceptions.PolarsError):
                frame.select(in_units(pl.col("q"), pl.lit(unit, pl.Int128), known))
    below = pl.DataFrame({"q": [(10**20 - 1) * unit * sign, None]}, schema={"q": pl.Int128})
    assert below.select(in_units(pl.col("q"), unit)).to_series().to_list() == [(10**20 - 1) * sign, None]


# --- worked scenarios -------------------------------------------------------------------------------------------------


def overages(catalogue: Catalogue, package: str, used: dict[str, str]) -> dict[str, tuple[Decimal, Decimal]]:
    """Billed units and amount of every metric that costs something; `used` is in base units."""
    terms = terms_frames(catalogue)
    quantities = pl.DataFrame(
        {"metric": list(used), "base_quantity": [Decimal(quantity) for quantity in used.values()]},
        schema={"metric": pl.String, "base_quantity": BASE_QUANTITY},
    )
    here = terms.metrics.filter(pl.col("package") == package)
    used_here = quantities.join(here.select(*TERMS_OF_A_METRIC, "unit_billionths"), on="metric").with_columns(
        quantity=in_units(pl.col("base_quantity").to_physical(), pl.col("unit_billionths"))
    )
    lines = rate(used_here, terms).filter(pl.col("amount") != 0)
    return {row["metric"]: (row["billed_units"], row["amount"]) for row in lines.iter_rows(named=True)}


def test_s02_every_started_block_above_the_allowance_is_charged(ref_1: Catalogue) -> None:
    used = {"emails": "27350", "bandwidth": "61200000000", "custom_domains": "3", "leads": "2500"}
    assert overages(ref_1, "starter", used) == {
        "emails": (Decimal(13), Decimal("39.00")),
        "bandwidth": (Decimal(12), Decimal("6.00")),
        "custom_domains": (Decimal(2), Decimal("20.00")),
    }
    assert overages(ref_1, "starter", {"emails": "15001"}) == {"emails": (Decimal(1), Decimal("3.00"))}
    assert overages(ref_1, "starter", {"emails": "15000"}) == {}


def test_s04_leads_above_starter_cost_nothing_and_emails_cost_starters_tariff(ref_1: Catalogue) -> None:
    assert overages(ref_1, "starter", {"leads": "14000", "emails": "40000"}) == {
        "emails": (Decimal(25), Decimal("75.00"))
    }


def test_s07_the_top_package_charges_leads_by_started_blocks_and_no_emails(ref_1: Catalogue) -> None:
    used = {"leads": "61000", "emails": "10000000", "custom_domains": "10"}
    assert overages(ref_1, "platinum", used) == {"leads": (Decimal(3), Decimal("75.00"))}


def test_s12_one_byte_above_the_allowance_starts_a_block(ref_1: Catalogue) -> None:
    used = {"emails": "15000", "bandwidth": "50000000001"}
    assert overages(ref_1, "starter", used) == {"bandwidth": (Decimal(1), Decimal("0.50"))}


def test_a_tier_that_is_not_reached_adds_not_a_billionth_of_a_unit(ref_1: Catalogue) -> None:
    cheap, dear = Tier(Decimal(1000), Decimal("0.004999999"), Decimal(0)), Tier(None, Decimal(1), Decimal(0))
    tariff = Tariff("graduated", None, None, (cheap, dear))
    # one unit costs 0.004999999: a billionth of the second tier on top would round it up to 0.01
    found = rated(catalogue_of(ref_1, tariff, Decimal(0), Decimal(1)), [Decimal(1)])
    assert found["amount"].to_list() == [Decimal("0.00")]


def test_a_line_names_the_one_price_that_holds_for_its_whole_excess(ref_1: Catalogue) -> None:
    cheap, dear = Tier(Decimal(10), Decimal("2.00"), Decimal(0)), Tier(None, Decimal("1.00"), Decimal(0))
    quantities = [Decimal(0), Decimal(10), Decimal(11)]

    def prices(tariff: Tariff) -> list[Decimal | None]:
        return rated(catalogue_of(ref_1, tariff, Decimal(0), Decimal(1)), quantities)["unit_price"].to_list()

    assert prices(Tariff("block", Decimal(5), Decimal("3.00"))) == [None, Decimal("3.00"), Decimal("3.00")]
    assert prices(Tariff("volume", None, None, (cheap, dear))) == [None, Decimal("2.00"), Decimal("1.00")]
    assert prices(Tariff("graduated", None, None, (cheap, dear))) == [None, None, None]
    assert prices(Tariff("graduated", None, None, (dear,))) == [None, Decimal("1.00"), Decimal("1.00")]


def test_a_line_says_quantity_allowance_and_excess_in_the_metrics_unit(ref_1: Catalogue) -> None:
    gigabyte = Decimal(10**9)
    catalogue = catalogue_of(ref_1, Tariff("block", gigabyte, Decimal("0.50")), Decimal(50), gigabyte)
    line = rated(catalogue, [Decimal("61200000000")]).row(0, named=True)
    assert (line["quantity"], line["allowance_units"], line["excess"]) == (
        Decimal("61.2"),
        Decimal(50),
        Decimal("11.2"),
    )


def test_a_metric_without_tariff_bills_no_units_and_names_no_price(ref_1: Catalogue) -> None:
    line = rated(catalogue_of(ref_1, None, Decimal(10), Decimal(1)), [Decimal(25)]).row(0, named=True)
    assert (line["excess"], line["billed_units"], line["unit_price"]) == (Decimal(15), Decimal(0), None)
    assert line["amount"] == Decimal("0.00")


def test_a_single_block_names_its_price(ref_1: Catalogue) -> None:
    line = rated(
        catalogue_of(ref_1, Tariff("block", Decimal(1000), Decimal("3.00")), Decimal(0), Decimal(1)), [Decimal(1)]
    )
    assert line.select("billed_units", "unit_price", "amount").row(0) == (Decimal(1), Decimal("3.00"), Decimal("3.00"))


def test_a_free_block_says_so_and_free_tiers_name_no_price(ref_1: Catalogue) -> None:
    free = Tariff("block", Decimal(1000), Decimal(0))
    assert rated(catalogue_of(ref_1, free, Decimal(0), Decimal(1)), [Decimal(1)])["unit_price"].item() == 0
    tiers = Tariff("graduated", None, None, (Tier(None, Decimal(0), Decimal("5.00")),))
    line = rated(catalogue_of(ref_1, tiers, Decimal(0), Decimal(1)), [Decimal(1)])
    assert line.select("unit_price", "amount").row(0) == (None, Decimal("5.00"))


def test_the_flat_of_a_tier_is_due_once_the_tier_is_entered_and_not_at_its_bound(ref_1: Catalogue) -> None:
    first, second = Tier(Decimal(10), Decimal("1.00"), Decimal("2.00")), Tier(None, Decimal("0.50"), Decimal("7.00"))
    tariff = Tariff("graduated", None, None, (first, second))
    found = rated(catalogue_of(ref_1, tariff, Decimal(0), Decimal(1)), [Decimal(0), Decimal(10), Decimal(11)])
    # 10 x 1.00 + 2.00, and the eleventh unit opens the second tier: + 0.50 + 7.00
    assert found["amount"].to_list() == [Decimal("0.00"), Decimal("12.00"), Decimal("19.50")]


# --- terms by date ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def versioned(ref_1: Catalogue) -> Catalogue:
    """Starter with a second version from March, and an agreement of acme on it from mid-February."""
    starter = ref_1.package("starter")
    dearer = replace(starter.versions[0], effective_from=date(2026, 3, 1), monthly=Decimal("109.00"))
    packages = tuple(
        replace(package, versions=(*package.versions, dearer)) if package.name == "starter" else package
        for package in ref_1.packages
    )
    agreement = Agreement("acme", "starter", date(2026, 2, 15), Decimal("80.00"), None, {"emails": Decimal(99)}, {})
    return replace(ref_1, packages=packages, agreements=(agreement,))


def monthly_fees(catalogue: Catalogue, asked: list[tuple[str | None, str | None, date | None]]) -> list[Decimal | None]:
    terms = terms_frames(catalogue)
    frame = pl.DataFrame(asked, schema={"account_id": pl.String, "package": pl.String, "day": pl.Date}, orient="row")
    placed = with_terms(frame, terms, on="day")
    assert placed.columns == ["account_id", "package", "day", "terms_key", "since"]
    found = placed.join(terms.packages, on=["terms_key", "package", "since"], how="left", maintain_order="left")
    assert found.select("account_id", "package", "day").equals(frame)
    return found["monthly"].to_list()


def test_the_version_in_force_on_a_date_is_the_latest_that_has_begun(versioned: Catalogue) -> None:
    days = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 2, 28), date(2026, 3, 1), date(2030, 1, 1)]
    assert monthly_fees(versioned, [("globex", "starter", day) for day in days]) == [
        None,
        Decimal("99.00"),
        Decimal("99.00"),
        Decimal("109.00"),
        Decimal("109.00"),
    ]


def test_of_agreements_that_overlap_the_earlier_one_holds_again_when_the_later_ends(versioned: Catalogue) -> None:
    promotion = replace(
        versioned.agreements[0], effective_from=date(2026, 3, 10), monthly=Decimal("10.00"), until=date(2026, 4, 10)
    )
    ending = replace(versioned.agreements[0], until=date(2026, 5, 1))
    catalogue = replace(versioned, agreements=(ending, promotion))
    days = [
        date(2026, 3, 9),
        date(2026, 3, 10),
        date(2026, 4, 9),
        date(2026, 4, 10),
        date(2026, 4, 30),
        date(2026, 5, 1),
    ]
    assert monthly_fees(catalogue, [("acme", "starter", day) for day in days]) == [
        Decimal(fee) for fee in ("80.00", "10.00", "10.00", "80.00", "80.00", "109.00")
    ]


def test_an_agreement_holds_for_its_account_and_package_from_its_date_through_later_versions(
    versioned: Catalogue,
) -> None:
    asked: list[tuple[str | None, str | None, date | None]] = [
        ("acme", "starter", date(2026, 2, 14)),
        ("acme", "starter", date(2026, 2, 15)),
        ("acme", "starter", date(2026, 4, 1)),
        ("acme", "silver", date(2026, 4, 1)),
        ("globex", "starter", date(2026, 4, 1)),
    ]
    found = monthly_fees(versioned, asked)
    assert found == [Decimal(fee) for fee in ("99.00", "80.00", "80.00", "199.00", "109.00")]


def test_what_an_agreement_leaves_out_stays_as_the_package_has_it(versioned: Catalogue) -> None:
    terms = terms_frames(versioned)
    own = terms.metrics.filter((pl.col("terms_key") == "acme") & (pl.col("since") == date(2026, 3, 1)))
    allowances = dict(own.select("metric", "allowance").iter_rows())
    assert allowances["emails"] == 99
    assert allowances["leads"] == 2500
    assert allowances["bandwidth"] == 50 * 10**9
    assert own["has_tariff"].sum() == 3


def test_without_a_package_or_a_date_there_are_no_terms_and_the_order_stays(versioned: Catalogue) -> None:
    asked: list[tuple[str | None, str | None, date | None]] = [
        ("globex", None, date(2026, 1, 1)),
        ("acme", "starter", date(2026, 5, 1)),
        ("globex", "starter", None),
        ("globex", "unheard_of", date(2026, 5, 1)),
        ("globex", "gold", date(2026, 1, 1)),
    ]
    assert monthly_fees(versioned, asked) == [None, Decimal("80.00"), None, None, Decimal("299.00")]


def test_every_version_says_until_when_it_holds_and_who_has_terms_of_their_own(versioned: Catalogue) -> None:
    first = versioned.agreements[0]
    others = [replace(first, account_id=account, package="silver") for account in ("acme", "Zeta", "beta")]
    terms = terms_frames(replace(versioned, agreements=(*others, first)))
    starter = terms.packages.filter((pl.col("package") == "starter") & (pl.col("terms_key") == ""))
    assert starter.select("since", "until").rows() == [
        (date(2026, 1, 1), date(2026, 3, 1)),
        (date(2026, 3, 1), None),
    ]
    assert terms.own_terms.rows() == [("Zeta", "silver"), ("acme", "silver"), ("acme", "starter"), ("beta", "silver")]
