"""A number of the catalogue along a grid: where a path leads, and what else stays as it is."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from billing.inputs.catalogue_file import load_catalogue
from billing.inputs.catalogue_variation import Variation, grid, values_in_force
from billing.model.errors import RefusedError
from billing.starter import starter_catalogue

FIRST, LAST = date(2026, 2, 1), date(2026, 4, 30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "catalogue.yaml"
    found.write_text(starter_catalogue())
    return found


def test_values_run_from_the_first_to_the_last() -> None:
    assert Variation.of("a.b=79..129/10").values == tuple(map(Decimal, (79, 89, 99, 109, 119, 129)))
    assert Variation.of("a=0.1..0.35/0.1").values == tuple(map(Decimal, ("0.1", "0.2", "0.3")))
    assert Variation.of("a=5..5/1").values == (Decimal(5),)


@pytest.mark.parametrize("text", ["a", "a=1", "a=1..2", "a=1..2/0", "a=2..1/1", "a=-1..2/1", "a=1..9999/1", "=1..2/1"])
def test_what_is_no_variation_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="--vary"):
        Variation.of(text)


def test_one_number_is_changed_and_nothing_else(path: Path) -> None:
    before = load_catalogue(path)
    points = list(grid(path, [Variation.of("packages.silver.price.monthly=150..160/10")], FIRST, LAST))
    assert [point.catalogue.package("silver").versions[0].monthly for point in points] == [150, 160]
    for point in points:
        for package in before.packages:
            if package.name != "silver":
                assert point.catalogue.package(package.name) == package
    # The file was read anew for each.
    assert load_catalogue(path).package("silver") == before.package("silver")


def test_two_paths_are_crossed(path: Path) -> None:
    fee = Variation.of("packages.starter.price.monthly=90..100/10")
    price = Variation.of("packages.starter.overage.emails.price=3..5/1")
    points = list(grid(path, [fee, price], FIRST, LAST))
    assert [tuple(map(int, point.values)) for point in points] == [
        *((90, each) for each in (3, 4, 5)),
        *((100, each) for each in (3, 4, 5)),
    ]
    tariff = points[-1].catalogue.package("starter").versions[0].overage["emails"]
    assert tariff is not None and tariff.price == 5


def test_every_version_in_force_is_set_and_no_other(path: Path) -> None:
    text = path.read_text()
    start = text.index("      - effective_from: 2026-01-01", text.index("name: starter"))
    version = text[start : text.index("auto_upgrade_on: [leads]", start)] + "auto_upgrade_on: [leads]\n"
    others = "".join(version.replace("2026-01-01", day) for day in ("2025-01-01", "2026-03-15", "2026-05-01"))
    path.write_text(text[:start] + others + text[start:])
    [point] = grid(path, [Variation.of("packages.starter.price.monthly=1..1/1")], FIRST, LAST)
    versions = point.catalogue.package("starter").versions
    assert [(f"{each.effective_from}", int(each.monthly)) for each in versions] == [
        ("2025-01-01", 99),
        ("2026-01-01", 1),
        ("2026-03-15", 1),
        ("2026-05-01", 99),
    ]
    assert values_in_force(path, Variation.of("packages.starter.price.monthly=1..1/1"), FIRST, LAST) == [99]


def test_an_alias_elsewhere_keeps_its_value(path: Path) -> None:
    text = path.read_text()
    text = text.replace(
        'price: {monthly: "99.00", yearly: "990.00"}', 'price: &fee {monthly: "99.00", yearly: "990.00"}', 1
    )
    path.write_text(text.replace('price: {monthly: "199.00", yearly: "1990.00"}', "price: *fee", 1))
    [point] = grid(path, [Variation.of("packages.starter.price.monthly=7..7/1")], FIRST, LAST)
    fees = [int(point.catalogue.package(name).versions[0].monthly) for name in ("starter", "silver")]
    assert fees == [7, 99]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("packages.bronze.price.monthly", "packages has no bronze: expected one of starter, silver, gold, platinum"),
        ("packages.starter.cost", "packages.starter has no cost: expected one of effective_from, price"),
        ("packages.starter.overage.leads", "found 'none', expected a path to a number"),
        ("packages.starter.price", "found monthly, yearly, expected a path to a number"),
        ("seller.name.first", "seller.name has no first"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_with_what_there_is(path: Path, text: str, told: str) -> None:
    with pytest.raises(RefusedError, match=told):
        list(grid(path, [Variation.of(f"{text}=1..2/1")], FIRST, LAST))


def test_a_value_that_the_catalogue_refuses_is_refused(path: Path) -> None:
    with pytest.raises(RefusedError, match="the catalogue is refused"):
        list(grid(path, [Variation.of("policy.lateness_days=9000..9000/1")], FIRST, LAST))


def test_too_many_points_are_refused(path: Path) -> None:
    many = Variation.of("packages.starter.price.monthly=1..100/1")
    with pytest.raises(RefusedError, match="10,000 points"):
        list(grid(path, [many, many], FIRST, LAST))
