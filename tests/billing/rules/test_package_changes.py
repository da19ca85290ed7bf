"""Package changes at the close of a cycle: automatic, requested, both, and what waits for a term's end."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import polars as pl
import pytest

from billing.model.catalogue import Agreement, Catalogue
from billing.model.columns import QUANTITY
from billing.model.tables import CYCLES, DECISIONS, USAGE
from billing.rules.package_changes import CLOSED_SCHEMA, PackageMonth, decide_packages
from billing.rules.terms import terms_frames

NOON: Final = datetime(2026, 1, 20, 12, tzinfo=UTC)
DUE: Final = date(2026, 2, 10)
ACME: Final = "acme/2026-01-10"
UNIT: Final = {"bandwidth": 10**9}
ANSWER: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "request_id": pl.String,
    "subscription_id": pl.String,
    "at": pl.Datetime("ns", "UTC"),
    "on": pl.Date,
    "kind": pl.String,
    "package": pl.String,
    "outcome": pl.String,
    "effective_on": pl.Date,
}
Row = Mapping[str, Any]


def cycle(account: str = "acme", **more: object) -> Row:
    """The second billing date of a monthly subscription of 10 January 2026."""
    dates = {"billing_date": DUE, "term_end": DUE, "cycle_start": date(2026, 1, 10), "cycle_end": DUE}
    identity = {"account_id": account, "subscription_id": f"{account}/2026-01-10", "billing_month": "2026-02"}
    return {**identity, **dates, "billing_index": 1, "term": "monthly", "status": "active", "is_last": False, **more}


def asked(request_id: str, kind: str, package: str | None = None, account: str = "acme", **more: object) -> Row:
    """A package change that waits for the close on 10 February; an id that sorts later was asked for later."""
    at = NOON + timedelta(seconds=sum(request_id.encode()))
    identity = {"request_id": request_id, "subscription_id": f"{account}/2026-01-10", "at": at, "on": at.date()}
    return {**identity, "kind": kind, "package": package, "outcome": "pending", "effective_on": DUE, **more}


def used(account: str = "acme", since: date = date(2026, 1, 10), **quantities: int | str) -> list[Row]:
    """What was used in the closing cycle, in units; nothing of a metric that is not named."""
    metrics = dict.fromkeys(("leads", "custom_domains", "emails", "bandwidth"), Decimal(0))
    metrics |= {metric: Decimal(quantity) for metric, quantity in quantities.items()}
    identity = {"account_id": account, "subscription_id": f"{account}/2026-01-10", "billing_month": "2026-02"}
    return [
        {**identity, "cycle_start": since, "metric": metric, "quantity": q, "base_quantity": q * UNIT.get(metric, 1)}
        for metric, q in metrics.items()
    ]


def decide(
    catalogue: Catalogue,
    usage: Sequence[Row],
    *answers: Row,
    cycles: Sequence[Row] = (),
    packages: Mapping[str, str] | None = None,
    waiting: Mapping[str, str] | None = None,
    first: Mapping[str, str] | None = None,
    levels: Mapping[str, int] | None = None,
    closed: Sequence[Row] = (),
) -> PackageMonth:
    """Close February: of acme on starter, unless said otherwise; `levels` are acme's gauges at the close."""
    packages = {"acme": "starter"} if packages is None else packages
    begins = next((each["billing_date"] for each in cycles if each["billing_index"] == 0), None)
    return decide_packages(
        "2026-02",
        cycles=pl.DataFrame(list(cycles) or [cycle()], schema=CYCLES.schema),
        usage=pl.DataFrame(list(usage), schema=USAGE.schema),
        levels=pl.DataFrame(
            [(ACME, metric, Decimal(level)) for metric, level in (levels or {}).items()],
            schema={"subscription_id": pl.String, "metric": pl.String, "level": QUANTITY},
            orient="row",
        ),
        previous=pl.DataFrame(
            [(f"{name}/2026-01-10", package, (waiting or {}).get(name)) for name, package in packages.items()],
            schema={"subscription_id": pl.String, "opening_package": pl.String, "waiting_package": pl.String},
            orient="row",
        ),
        first_packages=pl.DataFrame(
            [(f"{name}/2026-01-10", package, begins) for name, package in (first or {}).items()],
            schema={"subscription_id": pl.String, "first_package": pl.String, "first_billing_date": pl.Date},
            orient="row",
        ),
        answers=pl.DataFrame(list(answers), schema=ANSWER),
        closed=pl.DataFrame(list(closed), schema=CLOSED_SCHEMA),
        terms=terms_frames(catalogue),
    )


def life(found: PackageMonth) -> list[tuple[object, ...]]:
    """Closing and opening package and why it changed."""
    return found.packages.select("closing_package", "opening_package", "change_reason").rows()


def answered(found: PackageMonth) -> list[tuple[object, ...]]:
    """Who asked for what, and what came of it."""
    columns = ("request_id", "kind", "outcome", "reason", "to_package", "effective_on")
    return found.decisions.sort("request_id", nulls_last=True).select(columns).rows()


def evidence(found: PackageMonth) -> list[tuple[object, ...]]:
    """The evidence of the one decision there is."""
    (row,) = found.decisions.rows(named=True)
    return [(one["metric"], one["quantity"], one["allowance"]) for one in row["evidence"]]


def with_terms_of(catalogue: Catalogue, package: str, since: str, **changed: object) -> Catalogue:
    """The catalogue with a further version of a package from a date on."""

    def versions(one: Any) -> Any:
        later = replace(one.versions[-1], effective_from=date.fromisoformat(since), **changed)
        return replace(one, versions=(*one.versions, later)) if one.name == package else one

    return replace(catalogue, packages=tuple(versions(one) for one in catalogue.packages))


# --- automatic upgrades -----------------------------------------------------------------------------------------------


def test_at_the_allowance_nothing_is_upgraded(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(leads=2500))
    assert (life(found), answered(found)) == ([("starter", "starter", None)], [])


@pytest.mark.parametrize(
    ("leads", "target"),
    [(2501, "silver"), (12500, "silver"), (12501, "gold"), (25000, "gold"), (25001, "platinum"), (50000, "platinum")],
)
def test_an_upgrade_goes_to_the_smallest_package_that_fits(ref_1: Catalogue, leads: int, target: str) -> None:
    found = decide(ref_1, used(leads=leads))
    assert life(found) == [("starter", target, "auto_upgrade")]
    assert answered(found) == [(None, "auto_upgrade", "approved", "usage_over_allowance", target, DUE)]
    assert evidence(found) == [("leads", leads, 2500)]
    (row,) = found.decisions.rows(named=True)
    assert (row["decision_id"], row["from_package"]) == (f"{ACME}/2026-02-10/auto_upgrade", "starter")
    assert (row["decided_on"], row["billing_month"], row["flags"]) == (DUE, "2026-02", [])


def test_what_is_no_trigger_upgrades_nothing(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(emails=10**6, bandwidth=10**6, custom_domains=99))
    assert (life(found), answered(found)) == ([("starter", "starter", None)], [])


def test_what_outgrows_every_package_goes_to_the_top_one_and_is_flagged(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(leads=50001))
    assert life(found) == [("starter", "platinum", "auto_upgrade")]
    assert found.decisions["flags"].to_list() == [["exceeds_catalogue"]]


def test_on_top_there_is_no_larger_package(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(leads=61000), packages={"acme": "platinum"})
    assert life(found) == [("platinum", "platinum", None)]
    assert answered(found) == [(None, "auto_upgrade", "refused", "no_larger_package", "platinum", None)]
    assert found.decisions["flags"].to_list() == [["exceeds_catalogue"]]


def test_the_closing_version_is_exceeded_and_the_version_of_the_billing_date_must_fit(ref_1: Catalogue) -> None:
    silver = ref_1.package("silver").versions[0].allowances
    smaller = with_terms_of(ref_1, "silver", "2026-02-10", allowances={**silver, "leads": Decimal(3000)})
    assert life(decide(smaller, used(leads=3001))) == [("starter", "gold", "auto_upgrade")]
    later = with_terms_of(ref_1, "silver", "2026-02-11", allowances={**silver, "leads": Decimal(3000)})
    assert life(decide(later, used(leads=3001))) == [("starter", "silver", "auto_upgrade")]


def test_at_the_allowance_of_the_closing_version_nothing_is_upgraded_though_the_next_one_is_smaller(
    ref_1: Catalogue,
) -> None:
    starter = ref_1.package("starter").versions[0].allowances
    smaller = with_terms_of(ref_1, "starter", "2026-02-10", allowances={**starter, "leads": Decimal(2400)})
    assert life(decide(smaller, used(leads=2500))) == [("starter", "starter", None)]
    assert life(decide(smaller, used(leads=2501))) == [("starter", "silver", "auto_upgrade")]


def test_a_package_whose_new_version_fits_is_not_outgrown(ref_1: Catalogue) -> None:
    starter = ref_1.package("starter").versions[0].allowances
    roomier = with_terms_of(ref_1, "starter", "2026-02-10", allowances={**starter, "leads": Decimal(4000)})
    found = decide(roomier, used(leads=4000))
    assert (life(found), answered(found)) == ([("starter", "starter", None)], [])
    assert life(decide(roomier, used(leads=4001))) == [("starter", "silver", "auto_upgrade")]


def test_a_package_that_fits_every_trigger_is_chosen_not_one_of_them(ref_1: Catalogue) -> None:
    both = with_terms_of(ref_1, "starter", "2026-01-10", auto_upgrade_on=("leads", "emails"))
    found = decide(both, used(leads=2501, emails=150000))
    assert life(found) == [("starter", "gold", "auto_upgrade")]
    assert evidence(found) == [("emails", 150000, 15000), ("leads", 2501, 2500)]
    # unlimited fits whatever there is
    most = decide(both, used(emails=10**9))
    assert (life(most), most.decisions["flags"].to_list()) == ([("starter", "platinum", "auto_upgrade")], [[]])


def test_a_package_not_sold_yet_is_no_upgrade(ref_1: Catalogue) -> None:
    silver = replace(ref_1.package("silver").versions[0], effective_from=date(2026, 2, 11))
    packages = tuple(replace(p, versions=(silver,)) if p.name == "silver" else p for p in ref_1.packages)
    assert life(decide(replace(ref_1, packages=packages), used(leads=2501))) == [("starter", "gold", "auto_upgrade")]


def test_an_agreement_decides_by_its_own_allowance(ref_1: Catalogue) -> None:
    agreed = Agreement("acme", "starter", date(2026, 1, 1), None, None, {"leads": Decimal(9000)}, {})
    found = decide(replace(ref_1, agreements=(agreed,)), used(leads=9000))
    assert life(found) == [("starter", "starter", None)]
    found = decide(replace(ref_1, agreements=(agreed,)), used(leads=9001))
    assert (life(found), evidence(found)) == ([("starter", "silver", "auto_upgrade")], [("leads", 9001, 9000)])


def test_evidence_is_in_the_metrics_unit(ref_1: Catalogue) -> None:
    traffic = with_terms_of(ref_1, "starter", "2026-01-10", auto_upgrade_on=("bandwidth",))
    assert evidence(decide(traffic, used(bandwidth="50.000000001"))) == [("bandwidth", Decimal("50.000000001"), 50)]


def test_an_upgrade_of_a_yearly_term_skips_packages_without_a_yearly_price(ref_1: Catalogue) -> None:
    monthly_only = with_terms_of(ref_1, "silver", "2026-01-02", yearly=None)
    yearly = [cycle(term="yearly", term_end=date(2027, 1, 10))]
    assert life(decide(monthly_only, used(leads=2501), cycles=yearly)) == [("starter", "gold", "auto_upgrade")]
    assert life(decide(monthly_only, used(leads=2501))) == [("starter", "silver", "auto_upgrade")]


def test_nothing_is_decided_on_billing_date_0_for_want_of_a_closing_cycle(ref_1: Catalogue) -> None:
    start = [cycle(billing_index=0, cycle_start=None, cycle_end=None)]
    found = decide(ref_1, used(leads=9999), cycles=start, first={"acme": "starter"}, packages={})
    assert (life(found), answered(found)) == ([(None, "starter", None)], [])


@pytest.mark.parametrize("status", ["held", "cancelled", "refunded"])
def test_a_subscription_that_is_on_hold_or_ended_is_not_upgraded(ref_1: Catalogue, status: str) -> None:
    found = decide(ref_1, used(leads=9999), cycles=[cycle(status=status)])
    assert (life(found), answered(found)) == ([("starter", "starter", None)], [])


def test_a_suspended_subscription_is_decided_on_like_any_other(ref_1: Catalogue) -> None:
    assert life(decide(ref_1, used(leads=9999), cycles=[cycle(status="suspended")])) == [
        ("starter", "silver", "auto_upgrade")
    ]


def test_at_the_end_no_cycle_opens(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(leads=9999), cycles=[cycle(is_last=True)])
    assert (life(found), answered(found)) == ([("starter", None, None)], [])


def test_everyone_is_decided_on_by_what_they_used_themselves(ref_1: Catalogue) -> None:
    found = decide(
        ref_1,
        [*used(leads=2500), *used("beta", leads=2501), *used("gamma", leads=99999)],
        asked("r1", "upgrade", "gold"),
        asked("r2", "upgrade", "silver", account="gamma"),
        cycles=[cycle(), cycle("beta"), cycle("gamma")],
        packages={"acme": "starter", "beta": "starter", "gamma": "gold"},
    )
    assert life(found) == [
        ("starter", "gold", "upgrade"),
        ("starter", "silver", "auto_upgrade"),
        ("gold", "platinum", "auto_upgrade"),
    ]
    assert found.decisions.sort("account_id", "kind").select("account_id", "kind", "outcome", "flags").rows() == [
        ("acme", "upgrade", "approved", []),
        ("beta", "auto_upgrade", "approved", []),
        ("gamma", "auto_upgrade", "approved", ["exceeds_catalogue"]),
        ("gamma", "upgrade", "refused", []),
    ]


def test_everyone_gets_the_package_they_outgrew_their_own_into(ref_1: Catalogue) -> None:
    names = ["acme", "beta", "gamma", "delta"]
    leads = dict(zip(names, [2501, 12501, 50001, 99999], strict=True))
    found = decide(
        ref_1,
        [row for name, quantity in leads.items() for row in used(name, leads=quantity)],
        cycles=[cycle(name) for name in names],
        packages=dict.fromkeys(names, "starter"),
    )
    assert found.packages["opening_package"].to_list() == ["silver", "gold", "platinum", "platinum"]


def test_everyones_own_latest_request_counts(ref_1: Catalogue) -> None:
    found = decide(
        ref_1,
        [*used(), *used("beta")],
        asked("r1", "upgrade", "platinum"),
        asked("r2", "upgrade", "silver"),
        asked("r3", "upgrade", "silver", account="beta"),
        asked("r4", "upgrade", "gold", account="beta"),
        cycles=[cycle(), cycle("beta")],
        packages={"acme": "starter", "beta": "starter"},
    )
    assert life(found) == [("starter", "silver", "upgrade"), ("starter", "gold", "upgrade")]
    assert [outcome for _, _, outcome, *_ in answered(found)] == ["superseded", "approved"] * 2


def test_usage_of_another_cycle_decides_nothing(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(since=date(2025, 12, 10), leads=9999))
    assert (life(found), answered(found)) == ([("starter", "starter", None)], [])


# --- requested changes ------------------------------------------------------------------------------------------------


def test_a_requested_upgrade_takes_effect_on_the_billing_date(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(), asked("r", "upgrade", "gold"))
    assert life(found) == [("starter", "gold", "upgrade")]
    assert answered(found) == [("r", "upgrade", "approved", "requested", "gold", DUE)]
    (row,) = found.decisions.rows(named=True)
    assert (row["decision_id"], row["from_package"], row["decided_on"]) == ("r", "starter", DUE)
    assert (row["evidence"], row["flags"], row["account_id"], row["subscription_id"]) == ([], [], "acme", ACME)


@pytest.mark.parametrize(
    ("kind", "package", "reason"),
    [
        ("upgrade", "silver", "not_an_upgrade"),
        ("upgrade", "starter", "not_an_upgrade"),
        ("downgrade", "silver", "not_a_downgrade"),
        ("downgrade", "gold", "not_a_downgrade"),
        ("upgrade", "bronze", "unknown_package"),
        ("downgrade", "bronze", "unknown_package"),
        ("upgrade", None, "unknown_package"),
    ],
)
def test_what_is_no_change_in_its_direction_is_refused(
    ref_1: Catalogue, kind: str, package: str | None, reason: str
) -> None:
    found = decide(ref_1, used(), asked("r", kind, package), packages={"acme": "silver"})
    assert life(found) == [("silver", "silver", None)]
    assert answered(found) == [("r", kind, "refused", reason, package, None)]


def test_a_package_that_is_not_sold_on_the_billing_date_is_refused(ref_1: Catalogue) -> None:
    def from_day(day: int) -> Catalogue:
        gold = replace(ref_1.package("gold").versions[0], effective_from=date(2026, 2, day))
        return replace(
            ref_1, packages=tuple(replace(p, versions=(gold,)) if p.name == "gold" else p for p in ref_1.packages)
        )

    assert answered(decide(from_day(11), used(), asked("r", "upgrade", "gold")))[0][3] == "package_not_sold_yet"
    assert answered(decide(from_day(10), used(), asked("r", "upgrade", "gold")))[0][3] == "requested"


def test_a_yearly_term_cannot_buy_what_has_no_yearly_price(ref_1: Catalogue) -> None:
    monthly_only = with_terms_of(ref_1, "silver", "2026-01-02", yearly=None)
    yearly = [cycle(term="yearly", term_end=date(2027, 1, 10))]
    found = decide(monthly_only, used(), asked("r", "upgrade", "silver"), cycles=yearly)
    assert answered(found) == [("r", "upgrade", "refused", "no_yearly_price", "silver", None)]
    assert answered(decide(monthly_only, used(), asked("r", "upgrade", "silver")))[0][2] == "approved"


def test_of_several_requests_the_latest_valid_one_counts(ref_1: Catalogue) -> None:
    found = decide(
        ref_1,
        used(),
        asked("r1", "upgrade", "platinum"),
        asked("r2", "downgrade", "starter"),
        asked("r3", "upgrade", "gold"),
        asked("r4", "upgrade", "starter"),
        packages={"acme": "silver"},
    )
    assert life(found) == [("silver", "gold", "upgrade")]
    assert answered(found) == [
        ("r1", "upgrade", "superseded", "superseded_by_later_request", "platinum", None),
        ("r2", "downgrade", "superseded", "superseded_by_later_request", "starter", None),
        ("r3", "upgrade", "approved", "requested", "gold", DUE),
        ("r4", "upgrade", "refused", "not_an_upgrade", "starter", None),
    ]


def test_the_latest_request_is_the_latest_in_time_whatever_its_id(ref_1: Catalogue) -> None:
    later = NOON + timedelta(seconds=1)
    found = decide(ref_1, used(), asked("a", "upgrade", "gold", at=later), asked("b", "upgrade", "silver", at=NOON))
    assert life(found) == [("starter", "gold", "upgrade")]


def test_of_two_requests_of_one_instant_the_later_id_counts(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(), asked("b", "upgrade", "gold", at=NOON), asked("a", "upgrade", "silver", at=NOON))
    assert life(found) == [("starter", "gold", "upgrade")]


def test_a_request_for_another_billing_date_waits(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(), asked("r", "upgrade", "gold", effective_on=date(2026, 3, 10)))
    assert (life(found), answered(found)) == ([("starter", "starter", None)], [])


def test_what_has_been_answered_already_is_not_decided_again(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(), asked("r", "upgrade", "gold", outcome="superseded"))
    assert (life(found), answered(found)) == ([("starter", "starter", None)], [])


# --- downgrades -------------------------------------------------------------------------------------------------------


def test_at_every_limit_of_the_target_a_downgrade_fits(ref_1: Catalogue) -> None:
    limits = used(leads=2500, emails=15000, bandwidth=50, custom_domains=1)
    found = decide(ref_1, limits, asked("r", "downgrade", "starter"), packages={"acme": "silver"})
    assert life(found) == [("silver", "starter", "downgrade")]
    assert answered(found) == [("r", "downgrade", "approved", "usage_fits", "starter", DUE)]
    assert evidence(found) == [
        ("bandwidth", 50, 50),
        ("custom_domains", 1, 1),
        ("emails", 15000, 15000),
        ("leads", 2500, 2500),
    ]


@pytest.mark.parametrize(
    ("metric", "quantity", "limit"),
    [
        ("leads", "2501", 2500),
        ("emails", "15001", 15000),
        ("bandwidth", "50.000000001", 50),
        ("custom_domains", "2", 1),
    ],
)
def test_a_metric_over_its_limit_blocks_a_downgrade_and_is_its_evidence(
    ref_1: Catalogue, metric: str, quantity: str, limit: int
) -> None:
    quantities: dict[str, Any] = {metric: quantity}
    found = decide(ref_1, used(**quantities), asked("r", "downgrade", "starter"), packages={"acme": "silver"})
    assert life(found) == [("silver", "silver", None)]
    assert answered(found) == [("r", "downgrade", "refused", "usage_exceeds_package", "starter", None)]
    assert evidence(found) == [(metric, Decimal(quantity), limit)]


def test_a_downgrade_goes_by_the_latest_level_of_a_gauge_and_not_by_its_peak(ref_1: Catalogue) -> None:
    asks = asked("r", "downgrade", "starter")
    fallen = decide(ref_1, used(leads=9000), asks, packages={"acme": "silver"}, levels={"leads": 2500})
    assert life(fallen) == [("silver", "starter", "downgrade")]
    risen = decide(ref_1, used(leads=0), asks, packages={"acme": "silver"}, levels={"leads": 2501})
    assert (life(risen), evidence(risen)) == ([("silver", "silver", None)], [("leads", 2501, 2500)])


def test_what_was_not_used_fits(ref_1: Catalogue) -> None:
    found = decide(ref_1, [], asked("r", "downgrade", "starter"), packages={"acme": "silver"})
    assert (life(found), len(evidence(found))) == ([("silver", "starter", "downgrade")], 4)
    assert {quantity for _, quantity, _ in evidence(found)} == {Decimal(0)}


def test_into_an_unlimited_allowance_everything_fits(ref_1: Catalogue) -> None:
    gold = ref_1.package("gold").versions[0].allowances
    unlimited = with_terms_of(ref_1, "gold", "2026-02-10", allowances={**gold, "emails": None})
    found = decide(unlimited, used(emails=10**9), asked("r", "downgrade", "gold"), packages={"acme": "platinum"})
    assert life(found) == [("platinum", "gold", "downgrade")]
    assert ("emails", 10**9, None) in evidence(found)


def test_a_downgrade_is_measured_by_the_version_of_the_billing_date(ref_1: Catalogue) -> None:
    starter = ref_1.package("starter").versions[0].allowances
    roomier = with_terms_of(ref_1, "starter", "2026-02-10", allowances={**starter, "leads": Decimal(4000)})
    found = decide(roomier, used(leads=4000), asked("r", "downgrade", "starter"), packages={"acme": "silver"})
    assert life(found) == [("silver", "starter", "downgrade")]


def test_an_automatic_upgrade_refuses_a_downgrade(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(leads=12501), asked("r", "downgrade", "starter"), packages={"acme": "silver"})
    assert life(found) == [("silver", "gold", "auto_upgrade")]
    assert answered(found) == [
        ("r", "downgrade", "refused", "automatic_upgrade", "starter", None),
        (None, "auto_upgrade", "approved", "usage_over_allowance", "gold", DUE),
    ]


def test_on_top_an_outgrown_package_is_no_automatic_upgrade_and_refuses_no_downgrade(ref_1: Catalogue) -> None:
    found = decide(
        ref_1, used(leads=61000), asked("r", "downgrade", "gold"), packages={"acme": "platinum"}, levels={"leads": 1}
    )
    assert life(found) == [("platinum", "gold", "downgrade")]
    assert [(kind, outcome) for _, kind, outcome, *_ in answered(found)] == [
        ("downgrade", "approved"),
        ("auto_upgrade", "refused"),
    ]


# --- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "target", "kind", "requested", "automatic"),
    [
        ("silver", "gold", "auto_upgrade", "superseded", "approved"),
        ("gold", "gold", "upgrade", "approved", "superseded"),
        ("platinum", "platinum", "upgrade", "approved", "superseded"),
    ],
)
def test_of_an_automatic_and_a_requested_upgrade_the_higher_counts(
    ref_1: Catalogue, package: str, target: str, kind: str, requested: str, automatic: str
) -> None:
    found = decide(ref_1, used(leads=20000), asked("r", "upgrade", package))
    assert life(found) == [("starter", target, kind)]
    (asked_for, by_itself) = answered(found)
    assert (asked_for[2], by_itself[2]) == (requested, automatic)
    superseded = asked_for if requested == "superseded" else by_itself
    assert (superseded[3], superseded[5]) == ("satisfied_by_higher", None)


def test_what_outgrows_every_package_goes_to_the_top_one_though_a_smaller_was_asked_for(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(leads=50001), asked("r", "upgrade", "gold"))
    assert life(found) == [("starter", "platinum", "auto_upgrade")]
    assert answered(found)[0][2:4] == ("superseded", "satisfied_by_higher")


# --- yearly terms -----------------------------------------------------------------------------------------------------


def year(k: int, **more: Any) -> Row:
    """The k-th billing date of a yearly term, dated 10 February: the term ends on 10 January, or on that day."""
    return cycle(term="yearly", billing_index=k, term_end=DUE if k % 12 == 0 else date(2027, 1, 10), **more)


def test_a_lower_package_waits_for_the_end_of_a_yearly_term(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(), asked("r", "downgrade", "starter"), packages={"acme": "silver"}, cycles=[year(1)])
    assert life(found) == [("silver", "silver", None)]
    assert found.packages["waiting_package"].to_list() == ["starter"]
    assert answered(found) == [("r", "downgrade", "approved", "usage_fits", "starter", date(2027, 1, 10))]


def test_a_higher_package_does_not_wait(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(), asked("r", "upgrade", "silver"), cycles=[year(1)])
    assert life(found) == [("starter", "silver", "upgrade")]
    assert found.packages["waiting_package"].to_list() == [None]


@pytest.mark.parametrize(
    ("k", "opening", "waits"), [(11, "silver", "starter"), (12, "starter", None), (13, "silver", "starter")]
)
def test_what_waits_takes_effect_on_the_twelfth_billing_date(
    ref_1: Catalogue, k: int, opening: str, waits: str | None
) -> None:
    found = decide(ref_1, used(), packages={"acme": "silver"}, waiting={"acme": "starter"}, cycles=[year(k)])
    assert life(found) == [("silver", opening, "downgrade" if k == 12 else None)]
    assert found.packages["waiting_package"].to_list() == [waits]


def test_at_the_terms_end_a_lower_package_takes_effect_at_once(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(), asked("r", "downgrade", "starter"), packages={"acme": "silver"}, cycles=[year(12)])
    assert life(found) == [("silver", "starter", "downgrade")]
    assert answered(found)[0][5] == DUE


def test_a_later_change_takes_the_place_of_what_waits(ref_1: Catalogue) -> None:
    lower = decide(
        ref_1,
        used(),
        asked("r", "downgrade", "silver"),
        packages={"acme": "gold"},
        waiting={"acme": "starter"},
        cycles=[year(5)],
    )
    assert lower.packages["waiting_package"].to_list() == ["silver"]
    higher = decide(
        ref_1,
        used(),
        asked("r", "upgrade", "platinum"),
        packages={"acme": "gold"},
        waiting={"acme": "starter"},
        cycles=[year(5)],
    )
    assert life(higher) == [("gold", "platinum", "upgrade")]
    assert higher.packages["waiting_package"].to_list() == [None]
    # the answer that approved what waited stands: the one that takes its place says so
    assert [found.decisions["flags"].to_list() for found in (lower, higher)] == [[["voids_waiting_downgrade"]]] * 2
    refused = decide(
        ref_1,
        used(),
        asked("r", "upgrade", "silver"),
        packages={"acme": "gold"},
        waiting={"acme": "starter"},
        cycles=[year(5)],
    )
    assert refused.decisions["flags"].to_list() == [[]]
    assert refused.packages["waiting_package"].to_list() == ["starter"]


@pytest.mark.parametrize("more", [{"status": "cancelled"}, {"status": "held"}, {"is_last": True}])
def test_an_end_or_a_hold_voids_what_waits(ref_1: Catalogue, more: dict[str, Any]) -> None:
    found = decide(ref_1, used(), packages={"acme": "silver"}, waiting={"acme": "starter"}, cycles=[year(12, **more)])
    assert life(found)[0][1] != "starter"
    assert found.packages["waiting_package"].to_list() == [None]


@pytest.mark.parametrize(
    ("on", "kind", "outcome", "waits"),
    [
        ("2026-01-09", "hold", "approved", "starter"),
        ("2026-01-10", "hold", "approved", None),
        ("2026-02-09", "hold", "approved", None),
        ("2026-02-10", "hold", "approved", "starter"),
        ("2026-01-20", "hold", "refused", "starter"),
        ("2026-01-20", "resume", "approved", "starter"),
    ],
)
def test_a_hold_within_the_cycle_voids_what_waits_even_when_it_was_undone(
    ref_1: Catalogue, on: str, kind: str, outcome: str, waits: str | None
) -> None:
    hold = asked("h", kind, on=date.fromisoformat(on), outcome=outcome)
    found = decide(ref_1, used(), hold, packages={"acme": "silver"}, waiting={"acme": "starter"}, cycles=[year(5)])
    assert found.packages["waiting_package"].to_list() == [waits]


# --- what stands ------------------------------------------------------------------------------------------------------


def test_a_closed_billing_date_keeps_its_packages_and_decides_nothing(ref_1: Catalogue) -> None:
    stands = {
        "subscription_id": ACME,
        "billing_date": DUE,
        "closing_package": "gold",
        "opening_package": "silver",
        "change_reason": "upgrade",
        "waiting_package": "gold",
    }
    found = decide(ref_1, used(leads=20000), asked("r", "upgrade", "platinum"), closed=[stands])
    assert (life(found), answered(found)) == ([("gold", "silver", "upgrade")], [])
    assert found.packages.select("closed", "waiting_package").rows() == [(True, "gold")]


def test_another_closed_date_keeps_nothing_open_from_being_decided(ref_1: Catalogue) -> None:
    other = {"subscription_id": ACME, "billing_date": date(2026, 1, 10), "opening_package": "platinum"}
    found = decide(ref_1, used(leads=2501), asked("r", "upgrade", "gold"), closed=[other])
    assert life(found) == [("starter", "gold", "upgrade")]
    assert found.packages["closed"].to_list() == [False]


def test_a_subscription_begins_with_the_package_it_bought(ref_1: Catalogue) -> None:
    start = [cycle(billing_index=0, cycle_start=None, cycle_end=None)]
    found = decide(ref_1, [], cycles=start, first={"acme": "gold"}, packages={"acme": "starter"})
    assert life(found) == [(None, "gold", None)]
    chosen = decide(ref_1, [], asked("r", "upgrade", "platinum"), cycles=start, first={"acme": "gold"}, packages={})
    assert life(chosen) == [(None, "platinum", "upgrade")]


def test_later_the_package_of_the_month_before_is_in_force(ref_1: Catalogue) -> None:
    assert life(decide(ref_1, used(), first={"acme": "gold"})) == [("starter", "starter", None)]


def test_a_package_that_is_not_known_is_never_guessed(ref_1: Catalogue) -> None:
    # whoever reads this parks the account, and bills the others
    known = cycle("acme")
    found = decide(ref_1, used(), cycles=[cycle("lost"), known])
    assert found.packages["account_id"].to_list() == ["acme"]


def test_packages_and_decisions_come_as_their_tables_say(ref_1: Catalogue) -> None:
    found = decide(ref_1, used(leads=2501))
    assert found.packages.rows(named=True) == [
        {
            "account_id": "acme",
            "subscription_id": ACME,
            "billing_month": "2026-02",
            "billing_date": DUE,
            "closing_package": "starter",
            "opening_package": "silver",
            "status": "active",
            "closed": False,
            "change_reason": "auto_upgrade",
            "waiting_package": None,
        }
    ]
    assert found.decisions.schema == DECISIONS.schema
    (row,) = found.decisions.rows(named=True)
    assert [row[name] for name in ("explanation", "amount", "expected_from", "expected_by")] == [None] * 4
