"""One price changes exactly the lines that bear on it, in a business that sells everything."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from billing.inputs.catalogue_file import load_catalogue
from billing.inputs.catalogue_variation import Variation, grid
from billing.model.catalogue import Catalogue
from billing.month.business import Business
from billing.reports.what_if import Comparison, Question, compare_catalogues
from tests.sizes import sized

FEE = ("package_fee", "proration")
# What follows the lines of a price: parts of them, and what is missing up to a minimum.
FOLLOWS = ("coupon", "minimum_spend")
_ALL_PRICES = {
    "packages.starter.price.monthly": (FEE, "starter"),
    "packages.silver.price.monthly": (FEE, "silver"),
    "packages.gold.price.monthly": (FEE, "gold"),
    "packages.starter.overage.emails.price": (("overage",), "starter"),
    "packages.silver.overage.emails.price": (("overage",), "silver"),
    "packages.starter.seats.price": (("seats", "proration"), "starter"),
    "add_ons.more_emails.price.monthly": (("add_on",), None),
}
PRICES = dict(list(_ALL_PRICES.items())[:: sized(usual=3, long=1)])


@pytest.fixture(scope="module")
def found(sold: Business) -> dict[str, Comparison]:
    business = Business.load(sold.home.root, date(2026, 3, 31), issues=False)
    path = sold.home.landing / "catalogue.yaml"
    candidates = [("as it is", load_catalogue(path))]
    candidates += [(price, raised(path, price)) for price in PRICES]
    compared = compare_catalogues(business, candidates, Question("2026-01", "2026-03"))
    return {each.name: each for each in compared}


def raised(path: Path, price: str) -> Catalogue:
    [point] = grid(path, [Variation(tuple(price.split(".")), (Decimal(500),))], date(2026, 1, 1), date(2026, 3, 31))
    return point.catalogue


def moved(compared: Comparison) -> Sequence[tuple[str, str]]:
    details = compared.tables["details"].filter(pl.col("before") != pl.col("after"))
    return details.select("kind", "package").unique().sort("kind", "package").rows()


def test_the_catalogue_as_it_is_moves_nothing(found: dict[str, Comparison]) -> None:
    assert not moved(found["as it is"])
    assert found["as it is"].tables["totals"]["before"].sum() > 0


@pytest.mark.parametrize("price", PRICES)
def test_a_price_moves_its_own_lines_and_what_follows_them(found: dict[str, Comparison], price: str) -> None:
    kinds, package = PRICES[price]
    own = [each for each in moved(found[price]) if each[0] not in FOLLOWS]
    # An upgrade at once, a proration of the larger package, is the difference of two prices.
    assert all(kind in kinds and (package in (None, of) or kind == "proration") for kind, of in own), own
    # Somebody has it in these months, but for the package that nobody is in.
    assert own or "gold" in price
    # Whose lines do not move pays what they paid, and the causes of the rest add up.
    causes = found[price].tables["causes"].group_by("account_id").agg(pl.col("difference").sum().alias("sum"))
    accounts = found[price].tables["accounts"].join(causes, on="account_id", how="left")
    assert accounts.filter(pl.col("difference") != pl.col("sum").fill_null(0)).is_empty()
    assert (accounts["difference"] >= 0).all() or "minimum_spend" in {kind for kind, _ in moved(found[price])}
