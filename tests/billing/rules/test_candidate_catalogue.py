"""A candidate catalogue joined to the one in force: each holds on its own days."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from billing.inputs.catalogue_file import load_catalogue
from billing.model.catalogue import Agreement, Catalogue, terms_periods
from billing.model.errors import RefusedError
from billing.model.offers import AddOn, AddOnVersion, Coupon
from billing.rules.candidate_catalogue import joined_catalogue, not_reached
from billing.starter import STARTER_HOME

SINCE = date(2026, 3, 1)
BEFORE, ON, LATER = date(2026, 2, 28), SINCE, date(2026, 6, 1)


@pytest.fixture(scope="module")
def home() -> Catalogue:
    return load_catalogue(Path(STARTER_HOME) / "landing" / "catalogue.yaml")


def with_fees(catalogue: Catalogue, *fees: tuple[str, int]) -> Catalogue:
    """The catalogue with these versions of its first package: a day and the monthly fee."""
    first, *others = catalogue.packages
    versions = tuple(
        replace(first.versions[0], effective_from=date.fromisoformat(day), monthly=Decimal(fee)) for day, fee in fees
    )
    return replace(catalogue, packages=(replace(first, versions=versions), *others))


def fee(catalogue: Catalogue, day: date, account: str = "") -> Decimal:
    name = catalogue.packages[0].name
    found = [each for each in terms_periods(catalogue) if each.package == name and each.since <= day]
    own = [each for each in found if each.account_id == account] or found
    return own[-1].terms.monthly


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([("2026-01-01", 10)], [("2026-01-01", 20)], (10, 20, 20)),
        ([("2026-01-01", 10), ("2026-05-01", 11)], [("2026-01-01", 20)], (10, 20, 20)),
        ([("2026-01-01", 10)], [("2026-01-01", 20), ("2026-05-01", 21)], (10, 20, 21)),
        # A version that takes effect later waits: until then the catalogue in force holds.
        ([("2026-01-01", 10)], [("2026-05-01", 21)], (10, 10, 21)),
        ([("2026-01-01", 10)], [("2025-01-01", 19), ("2026-03-01", 20)], (10, 20, 20)),
        ([("2026-01-01", 10), ("2026-03-01", 11)], [("2026-03-01", 20)], (10, 20, 20)),
    ],
)
def test_versions_hold_on_their_days(
    home: Catalogue, old: list[tuple[str, int]], new: list[tuple[str, int]], expected: tuple[int, int, int]
) -> None:
    joined = joined_catalogue(with_fees(home, *old), with_fees(home, *new), SINCE)
    assert tuple(int(fee(joined, day)) for day in (BEFORE, ON, LATER)) == expected


def test_the_catalogue_itself_stays_as_it_is(home: Catalogue) -> None:
    joined = joined_catalogue(home, home, SINCE)
    for package in home.packages:
        for day in (BEFORE, ON, LATER):
            terms = [each for each in terms_periods(joined) if each.package == package.name and each.since <= day][-1]
            assert replace(terms.terms, effective_from=package.versions[0].effective_from) == package.versions[0]
    assert joined.coupons == home.coupons
    assert joined.policy == home.policy


def test_what_the_candidate_leaves_out_goes_on_for_those_inside(home: Catalogue) -> None:
    first, *others = home.packages
    coupon = Coupon("spring", "Spring", percent=Decimal(10))
    add_on = AddOn("ip", "IP", (AddOnVersion(date(2026, 1, 1), Decimal(30), None, {}),))
    rich = replace(home, coupons=(coupon,), add_ons=(add_on,))
    joined = joined_catalogue(rich, replace(home, packages=tuple(others), coupons=(), add_ons=()), SINCE)
    assert [package.name for package in joined.packages if package.hidden] == [first.name]
    assert fee(joined, LATER) == first.versions[0].monthly
    assert [each.redeem_until for each in joined.coupons] == [BEFORE]
    assert [each.name for each in joined.add_ons] == ["ip"]
    # Nobody adds it any more.
    assert all(package.add_ons == () for package in joined.packages if not package.hidden)


def test_agreements_change_on_the_day(home: Catalogue) -> None:
    name = home.packages[0].name

    def agreed(amount: int, since: str, until: date | None = None) -> Agreement:
        return Agreement("acme", name, date.fromisoformat(since), Decimal(amount), None, {}, {}, until)

    old = replace(home, agreements=(agreed(1, "2026-01-01"),))
    new = replace(home, agreements=(agreed(2, "2026-01-01"), agreed(3, "2026-02-01"), agreed(4, "2026-05-01")))
    joined = joined_catalogue(old, new, SINCE)
    assert [int(fee(joined, day, "acme")) for day in (BEFORE, ON, LATER)] == [1, 3, 4]
    without = joined_catalogue(old, home, SINCE)
    assert [fee(without, day, "acme") for day in (BEFORE, ON)] == [1, home.packages[0].versions[0].monthly]
    ended = joined_catalogue(old, replace(home, agreements=(agreed(2, "2026-01-01", date(2026, 2, 1)),)), SINCE)
    assert fee(ended, ON, "acme") == home.packages[0].versions[0].monthly


def test_a_metric_that_only_one_of_them_has_is_not_charged_by_the_other(home: Catalogue) -> None:
    extra = replace(home.metrics[0], name="extra")
    versions = tuple(
        replace(
            package,
            versions=tuple(replace(v, allowances={**v.allowances, "extra": Decimal(5)}) for v in package.versions),
        )
        for package in home.packages
    )
    more = replace(home, metrics=(*home.metrics, extra), packages=versions)
    for old, new, limits in ((home, more, [None, 5]), (more, home, [5, None])):
        joined = joined_catalogue(old, new, SINCE)
        assert "extra" in {metric.name for metric in joined.metrics}
        found = [v.allowances["extra"] for v in joined.packages[0].versions]
        assert found == limits


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"currency": "EUR"}, "currency: found EUR, expected USD"),
        ({"time_zone": "Europe/Berlin"}, "time_zone: found Europe/Berlin, expected UTC"),
    ],
)
def test_what_would_move_billing_dates_is_refused(home: Catalogue, changes: dict[str, str], told: str) -> None:
    with pytest.raises(RefusedError, match=told):
        joined_catalogue(home, replace(home, **changes), SINCE)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("billing_anchor", "first_of_month"), ("billing_start", date(2025, 1, 1))])
def test_a_policy_that_would_move_billing_dates_is_refused(home: Catalogue, name: str, value: object) -> None:
    policy = replace(home.policy, **{name: value})  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match=f"policy.{name}: found {value}"):
        joined_catalogue(home, replace(home, policy=policy), SINCE)


def test_versions_that_are_not_reached_are_named(home: Catalogue) -> None:
    candidate = with_fees(home, ("2026-01-01", 10), ("2026-06-01", 20))
    assert not_reached(candidate, date(2026, 5, 31)) == [f"{home.packages[0].name} from 2026-06-01"]
    assert not_reached(candidate, date(2026, 6, 1)) == []
