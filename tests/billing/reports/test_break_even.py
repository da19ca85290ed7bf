"""Along a price: the currency that its path names, and the lines that follow an assumption of demand."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from billing.inputs.catalogue_variation import Variation
from billing.model.errors import RefusedError
from billing.month.business import Business
from billing.reports.what_if import Grid, Question, compare_along
from tests.several_currencies import CATALOGUE, SeveralCurrencies

MONTHLY = "packages.starter.price.monthly"


@pytest.fixture(scope="module")
def business(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """jpy and euro pay by the month, yearly by the year."""
    landing = SeveralCurrencies(tmp_path_factory.mktemp("break-even"))
    landing.buy("jpy", "JPY")
    landing.buy("euro", "EUR")
    landing.buy("yearly", "EUR", term="yearly")
    return Business.load(landing.root, date(2026, 1, 20), issues=False)


def along(business: Business, *variations: str, candidate: Path | None = None, elasticity: str = "-1") -> Grid:
    path = candidate or business.home.landing / "catalogue.yaml"
    asked = [Variation.of(text) for text in variations]
    return compare_along(business, path, asked, Question("2026-01", "2026-01"), Decimal(elasticity))[1]


def found(grid: Grid) -> list[tuple[str, str, str, int]]:
    return [(row["value_1"], row["after"], row["expected"], row["accounts_more"]) for row in grid.rows()]


def test_amounts_are_in_the_currency_that_the_path_ends_with(business: Business) -> None:
    grid = along(business, f"{MONTHLY}.JPY=15000..16500/1500")
    assert grid.currency == "JPY"
    # A tenth less is sold at a price that is a tenth higher.
    assert found(grid) == [("15000", "15000", "15000", 0), ("16500", "16500", "14850", 1)]
    with pytest.raises(RefusedError, match="one currency"):
        along(business, f"{MONTHLY}.JPY=1..1/1", f"{MONTHLY}.EUR=1..1/1")


def test_demand_follows_the_lines_of_the_price_of_a_term_only(business: Business) -> None:
    # A fee of 89 beside one of 890.
    assert found(along(business, f"{MONTHLY}.EUR=178..178/1")) == [("178", "1068.00", "890.00", 1)]
    yearly = along(business, "packages.starter.price.yearly.EUR=1780..1780/1")
    assert found(yearly) == [("1780", "1869.00", "89.00", 1)]


def test_demand_is_compared_with_the_price_at_which_the_usage_was(business: Business, tmp_path: Path) -> None:
    candidate = tmp_path / "candidate.yaml"
    text = CATALOGUE.replace('JPY: "15000"', 'JPY: "30000"')
    assert text != CATALOGUE
    candidate.write_text(text)
    grid = along(business, f"{MONTHLY}.JPY=15000..30000/15000", candidate=candidate, elasticity="-0.5")
    assert grid.in_force == [Decimal(15000)]
    assert found(grid) == [("15000", "15000", "15000", 0), ("30000", "30000", "15000", 1)]
