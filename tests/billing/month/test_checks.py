"""Every measured quantity is charged once: what the check of a month finds, in whatever order rows stand."""

from decimal import Decimal

import polars as pl
import pytest

from billing.model.tables import CHARGES, USAGE
from billing.month.checks import quantities_not_charged_once


def _rows(*found: tuple[str, str, str]) -> pl.DataFrame:
    """Rows of account, metric and quantity with the columns that usage and charges share."""
    return pl.DataFrame(
        [
            {
                "account_id": account,
                "subscription_id": f"{account}/1",
                "cycle_start": "2026-01-01",
                "metric": metric,
                "quantity": Decimal(quantity),
                "rule": None,
            }
            for account, metric, quantity in found
        ],
        schema={
            "account_id": pl.String,
            "subscription_id": pl.String,
            "cycle_start": pl.String,
            "metric": pl.String,
            "quantity": USAGE.schema["quantity"],
            "rule": pl.String,
        },
    )


ACME = ("acme", "emails", "5")
BOLT = ("bolt", "emails", "7")


def test_usage_and_charges_have_quantities_of_one_type() -> None:
    assert USAGE.schema["quantity"] == CHARGES.schema["quantity"]


@pytest.mark.parametrize("charges", [(ACME, BOLT), (BOLT, ACME)], ids=["in the order of usage", "in another order"])
def test_quantities_that_are_charged_once_are_no_problem(charges: tuple[tuple[str, str, str], ...]) -> None:
    assert quantities_not_charged_once(_rows(ACME, BOLT), _rows(*charges)).is_empty()


@pytest.mark.parametrize(
    "charges",
    [(ACME,), (ACME, BOLT, BOLT), (ACME, ("bolt", "emails", "8")), (ACME, ("bolt", "leads", "7"))],
    ids=["none", "two", "another quantity", "another metric"],
)
def test_a_quantity_that_is_not_charged_once_is_named(charges: tuple[tuple[str, str, str], ...]) -> None:
    found = quantities_not_charged_once(_rows(ACME, BOLT), _rows(*charges))
    assert set(found["account_id"]) == {"bolt"}
    assert "emails of bolt/1: its quantity has not one charge" in found["detail"].to_list()


def test_two_equal_quantities_need_two_charges() -> None:
    assert quantities_not_charged_once(_rows(ACME, ACME), _rows(ACME, ACME)).is_empty()
    assert set(quantities_not_charged_once(_rows(ACME, ACME), _rows(ACME))["account_id"]) == {"acme"}


def test_a_charge_by_another_rule_is_another_charge() -> None:
    by_rule = _rows(ACME).with_columns(rule=pl.lit("region=eu"))
    assert quantities_not_charged_once(by_rule, by_rule).is_empty()
    assert quantities_not_charged_once(by_rule, _rows(ACME)).height == 2
