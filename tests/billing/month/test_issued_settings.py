"""What would move closed billing dates is refused once something was issued (rule 9)."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from billing.model.catalogue import Catalogue, Policy
from billing.model.errors import RefusedError
from billing.model.offers import AddOn, AddOnVersion, Coupon
from billing.month.issued_settings import keep_settings, moved_settings, refuse_moved_settings
from billing.register.register import Register
from billing.store.home import Home
from tests.billing.register.test_register import issue

BEFORE = "as before (documents were issued under it: under another one"


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    with closing(Register.open(Home(tmp_path))) as register:
        yield register


def changed(catalogue: Catalogue, setting: str, value: object) -> Catalogue:
    if setting == "time_zone":
        return replace(catalogue, time_zone=str(value))
    values = {**vars(catalogue.policy), setting: value}
    return replace(catalogue, policy=Policy(**values))


CHANGES = [
    ("time_zone", "America/New_York", f"catalogue.yaml: time_zone: found 'America/New_York', expected 'UTC' {BEFORE}"),
    ("time_zone", "Europe/London", f"catalogue.yaml: time_zone: found 'Europe/London', expected 'UTC' {BEFORE}"),
    (
        "billing_anchor",
        "first_of_month",
        f"catalogue.yaml: policy.billing_anchor: found 'first_of_month', expected 'signup_day' {BEFORE}",
    ),
    (
        "billing_start",
        date(2026, 3, 1),
        "catalogue.yaml: policy.billing_start: found 2026-03-01, expected 2024-01-01 as before (documents of 2026-02",
    ),
]


@pytest.mark.parametrize(("setting", "value", "said"), CHANGES)
def test_a_setting_that_moves_closed_dates_is_refused_with_its_old_value_and_why(
    register: Register, ref_1: Catalogue, setting: str, value: object, said: str
) -> None:
    later = changed(ref_1, setting, value)
    keep_settings(register, ref_1)
    # nothing was issued yet
    refuse_moved_settings(register, later)
    issue(register, "acme")
    refuse_moved_settings(register, ref_1)
    with pytest.raises(RefusedError) as refused:
        refuse_moved_settings(register, later)
    (problem,) = refused.value.problems
    assert str(problem).startswith(said)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("time_zone", "Etc/UTC"),
        ("billing_start", date(2020, 1, 1)),
        ("billing_start", date(2026, 2, 1)),
        ("first_cycle", "full"),
    ],
)
def test_what_moves_no_closed_date_may_change(
    register: Register, ref_1: Catalogue, setting: str, value: object
) -> None:
    keep_settings(register, ref_1)
    issue(register, "acme")
    assert moved_settings(register, changed(ref_1, setting, value)) == []


def test_where_an_earlier_version_recorded_nothing_the_settings_of_the_first_run_hold(
    register: Register, ref_1: Catalogue
) -> None:
    issue(register, "acme")
    tokyo = changed(ref_1, "time_zone", "Asia/Tokyo")
    refuse_moved_settings(register, tokyo)
    # what was closed says by itself that a later start cannot be
    with pytest.raises(RefusedError, match="expected 2026-02-01 or earlier"):
        refuse_moved_settings(register, changed(tokyo, "billing_start", date(2026, 3, 1)))
    keep_settings(register, tokyo)
    refuse_moved_settings(register, tokyo)
    with pytest.raises(RefusedError, match="expected 'Asia/Tokyo' as before"):
        refuse_moved_settings(register, ref_1)


# --- coupons and add-ons ----------------------------------------------------------------------------------------------

OFFERS: dict[str, Any] = {
    "coupons": (Coupon("spring", "Spring", percent=Decimal(10)), Coupon("unused", "Unused", percent=Decimal(10))),
    "add_ons": tuple(
        AddOn(name, name, (AddOnVersion(date(2026, 1, 1), Decimal(1), None, {}),)) for name in ("a", "b", "c")
    ),
}


def asked() -> pl.LazyFrame:
    schema = dict.fromkeys(("coupon", "add_on", "add_ons"), pl.String)
    mapped = '[{"name": "b", "quantity": 2}]'
    rows = [("spring", None, None), (None, "a", None), (None, None, mapped), ("nothing", "nothing", None)]
    return pl.LazyFrame(rows, schema=schema, orient="row")


def without(catalogue: Catalogue, kind: str, name: str) -> Catalogue:
    kept = tuple(each for each in getattr(catalogue, kind) if each.name != name)
    return replace(catalogue, **{kind: kept})  # type: ignore[arg-type] # a test names the field


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("coupons", "spring", "coupons: found no spring, expected it as before (without it, what it took off"),
        ("add_ons", "a", "add_ons: found no a, expected it as before (without it, what was charged for it"),
        ("add_ons", "b", "add_ons: found no b, expected it as before (without it, what was charged for it"),
    ],
)
def test_what_was_asked_for_stays_in_the_catalogue(
    register: Register, ref_1: Catalogue, kind: str, name: str, said: str
) -> None:
    catalogue = replace(ref_1, **OFFERS)
    keep_settings(register, catalogue, requests=asked())
    later = without(catalogue, kind, name)
    refuse_moved_settings(register, later)
    issue(register, "acme")
    refuse_moved_settings(register, catalogue)
    with pytest.raises(RefusedError) as refused:
        refuse_moved_settings(register, later)
    (problem,) = refused.value.problems
    assert str(problem).startswith(f"catalogue.yaml: {said}")


@pytest.mark.parametrize(("kind", "name"), [("coupons", "unused"), ("add_ons", "c")])
def test_what_nobody_asked_for_may_go(register: Register, ref_1: Catalogue, kind: str, name: str) -> None:
    catalogue = replace(ref_1, **OFFERS)
    keep_settings(register, catalogue, requests=asked())
    issue(register, "acme")
    refuse_moved_settings(register, without(catalogue, kind, name))


def test_a_catalogue_without_offers_keeps_none(register: Register, ref_1: Catalogue) -> None:
    keep_settings(register, ref_1, requests=asked())
    issue(register, "acme")
    assert not [name for name in register.settings() if name.startswith(("coupon.", "add_on."))]
    refuse_moved_settings(register, ref_1)
