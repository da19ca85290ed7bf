"""Reader of catalogue.yaml: metrics, packages, prices and policy (rules 5 and 28).

Refuses what it does not understand, with line, place, found and expected. Numbers are read as written, never as binary
floats.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Final

from billing.inputs.numbering import read_numbering
from billing.inputs.offer_entries import (
    amount_or_none,
    read_add_ons,
    read_allowed_add_ons,
    read_coupons,
    read_minimum_spend,
    read_seats,
    refuse_repeated,
)
from billing.inputs.policy_entry import can_be_first, read_policy
from billing.inputs.seller_entry import read_seller
from billing.inputs.source_entries import read_sources
from billing.inputs.tariff_entry import read_dimensions, read_plain_tariff, read_tariff
from billing.inputs.titles import read_titles
from billing.inputs.yaml_reader import Change, Place, Pricing, decimals, read_yaml
from billing.model.catalogue import (
    COUNTER_MEASURES,
    GAUGE_MEASURES,
    MAXIMUM_QUANTITY,
    MINIMUM_SPEND,
    MONTHLY,
    SEATS,
    Agreement,
    Catalogue,
    Metric,
    MinimumSpend,
    Package,
    Policy,
    Tariff,
    Terms,
    terms_periods,
)
from billing.model.errors import Problem, RefusedError
from billing.model.money import minor_units
from billing.model.offers import IN_ADVANCE, AddOn

_USUAL_UNIT: Final = "C62"
_UNKNOWN = "the unknown metric "
_LACKS_ALLOWANCE = "an allowance for the metric "
"""Upper bound in base units of allowances, tier bounds and single events (see `billing.rules.rating`)."""


def load_catalogue(path: Path) -> Catalogue:
    """Read and validate a catalogue.

    Rule 28: refuse everything unknown, broken or unsupported before any computation.

    Raises
    ------
    RefusedError
        Listing every problem found: the file is missing, is not YAML, or breaks a rule (rules 5 and 28).
    """
    if not path.is_file():
        raise RefusedError(
            f"{path}: there is no catalogue: expected a file catalogue.yaml in the landing folder of the billing home "
            "(`overage init` writes one to start from)"
        )
    return _accepted(path, *_cached(path.name, path.read_bytes()))


def changed_catalogue(path: Path, change: Change) -> Catalogue:
    """As `load_catalogue`, of a document that is changed before it is read.

    Raises
    ------
    RefusedError
        As `load_catalogue`, and where the change cannot be made.
    """
    return _accepted(path, *_read(path.name, path.read_bytes(), change))


def _accepted(path: Path, catalogue: Catalogue | None, problems: Sequence[Problem]) -> Catalogue:
    if problems or catalogue is None:
        raise RefusedError(f"{path}: the catalogue is refused", problems)
    return catalogue


@lru_cache(maxsize=8)
def _cached(name: str, content: bytes) -> tuple[Catalogue | None, list[Problem]]:
    """As `_read`, for processes that read it for many runs."""
    return _read(name, content)


def _read(name: str, content: bytes, change: Change | None = None) -> tuple[Catalogue | None, list[Problem]]:
    """The catalogue of a file's content, and all problems found."""
    problems: list[Problem] = []
    root = read_yaml(name, content, problems, change)
    catalogue = catalogue_at(root, hashlib.sha256(content).hexdigest()) if root is not None else None
    if root is not None and catalogue is not None and not problems:
        _refuse_undeclared_excess(root.at("agreements"), catalogue)
    return catalogue, _deduplicate(problems)


def billing_calendar(path: Path) -> tuple[date, str]:
    """First month of billing (its first day) and time zone of the catalogue, if there is one.

    Falls back to the defaults for a missing or invalid value: `load_catalogue` reports what is wrong.
    """
    default = Policy().billing_start
    root = read_yaml(path.name, path.read_bytes(), []) if path.is_file() else None
    if root is None:
        return default, "UTC"
    start = root.at("policy").at("billing_start").date(default)
    return start.replace(day=1) if can_be_first(start) else default, root.at("time_zone").time_zone()


def _deduplicate(problems: list[Problem]) -> list[Problem]:
    """Deduplicate problems: report an unknown metric, or a missing allowance, at the first of its places only."""
    unknown = {problem.found.removeprefix(_UNKNOWN) for problem in problems if problem.found.startswith(_UNKNOWN)}
    told: dict[object, list[Problem]] = {}
    for problem in dict.fromkeys(problems):
        if problem.found.startswith(_UNKNOWN):
            told.setdefault(problem.found, []).append(problem)
        elif problem.expected.startswith(_LACKS_ALLOWANCE):
            told.setdefault(problem.expected, []).append(problem)
        elif ".auto_upgrade_on[" not in problem.place or problem.found.strip("'") not in unknown:
            told[problem] = [problem]
    return [
        replace(first, place=f"{first.place}, and {len(further)} more places") if further else first
        for first, *further in told.values()
    ]


def catalogue_at(root: Place, content_hash: str) -> Catalogue | None:
    """The catalogue of a document; None where nothing that names a metric could be checked.

    It is read once for each currency that its amounts name.
    """
    own = root.at("currency").text("USD")
    pricing = Pricing(own, own)
    catalogue = _read_catalogue(root.priced_in(pricing), content_hash, own)
    others = {code: Pricing(code, own) for code in sorted(pricing.named - {own})}
    if catalogue is None or not others:
        return catalogue
    read = {code: _read_catalogue(root.priced_in(each), content_hash, code) for code, each in others.items()}
    return replace(catalogue, others={code: each for code, each in read.items() if each is not None})


def _read_catalogue(root: Place, content_hash: str, currency: str) -> Catalogue | None:
    """The catalogue with the amounts of a currency."""
    root.keys(
        required=("currency", "seller", "metrics", "packages"),
        optional=("time_zone", "policy", "agreements", "encoding", "numbering", "sources", "coupons", "add_ons"),
    )
    exponent = minor_units(currency)
    if exponent is None:
        root.at("currency").problem("an ISO 4217 currency code with a minor unit, such as USD")
    zone = root.at("time_zone").time_zone() if root.has("time_zone") else "UTC"
    seller = read_seller(root.at("seller"))
    lacking: list[str] = []
    policy = read_policy(root.at("policy"), exponent, lacking)
    metrics = tuple(_metric(name, place) for name, place in root.at("metrics").named())
    root.at("metrics").keys(required=(), optional=[metric.name for metric in metrics], what="metric")
    if not metrics:
        # Without valid metrics, nothing that names a metric can be validated.
        if root.has("metrics"):
            root.at("metrics").problem("at least one metric")
        return None
    add_ons = read_add_ons(root.at("add_ons"), lambda place: _allowances(place, metrics))
    packages = _packages(root.at("packages"), metrics, add_ons, exponent)
    if not packages:
        if root.has("packages"):
            root.at("packages").problem("at least one package")
        return None
    agreements = tuple(_agreement(place, packages, metrics, exponent) for place in root.at("agreements").items())
    refuse_repeated(
        root.at("agreements"), [f"{a.account_id}, {a.package}, {a.effective_from}" for a in agreements], "agreement"
    )
    return Catalogue(
        currency=currency,
        minor_units=exponent or 0,
        time_zone=zone,
        seller=seller,
        policy=policy,
        metrics=metrics,
        packages=packages,
        agreements=agreements,
        content_hash=content_hash,
        encoding=root.at("encoding").encoding() if root.has("encoding") else "",
        sources=read_sources(root.at("sources"), metrics),
        numbering=read_numbering(root.at("numbering")),
        coupons=read_coupons(
            root.at("coupons"),
            packages=[package.name for package in packages],
            metrics=[metric.name for metric in metrics if not metric.is_in_advance],
            add_ons=[add_on.name for add_on in add_ons],
            minor=exponent,
        ),
        add_ons=add_ons,
        lacking=tuple(lacking),
    )


def _metric(name: str, place: Place) -> Metric:
    place.keys(
        required=("event", "kind"),
        optional=(
            *("measure", "value", "carries", "unit", "unit_size", "title", "unit_code", "decimals", "charged", "by"),
        ),
    )
    kind = place.at("kind").choice(("counter", "gauge"), "gauge" if place.has("carries") else "counter")
    measures = GAUGE_MEASURES if kind == "gauge" else COUNTER_MEASURES
    measure = place.at("measure").choice(measures, "peak" if kind == "gauge" else None)
    value = place.at("value").text("", empty=True)
    if not value and measure != "count":
        place.problem(f"a key `value` naming the member that holds the value ({measure} needs one)", found="none")
    if any(not part for part in value.split(".")) and value:
        place.at("value").problem("a path such as data.bytes")
    carries = None
    if kind == "gauge":
        if place.has("carries"):
            carries = place.at("carries").choice(("delta", "level"))
        else:
            place.problem("a key `carries`: delta or level (a gauge needs it)", found="none")
    elif place.has("carries"):
        place.at("carries").problem("no key `carries` on a counter")
    charged = place.at("charged").choice((IN_ADVANCE,)) if place.has("charged") else None
    if charged is not None and kind != "gauge":
        place.at("charged").problem("no key `charged` on a counter: only a level can be charged in advance")
        charged = None
    unit_size = place.at("unit_size").decimal(Decimal(1))
    # A unit below the base unit would leave no room for the decimals of a large quantity.
    if not 1 <= unit_size <= 10**15 or decimals(unit_size) > 9:
        place.at("unit_size").problem("a number from 1 to 10^15, of at most 9 decimals")
        unit_size = Decimal(1)
    if place.has("unit_size") and not place.has("unit"):
        place.problem("a key `unit` beside `unit_size`", found="none")
    unit_code = place.at("unit_code").text(_USUAL_UNIT, empty=True)
    if not re.fullmatch("[A-Z0-9]{2,3}", unit_code):
        place.at("unit_code").problem("a unit code of UN/ECE Recommendation 20, such as C62, E34 or HUR")
    title, titles = read_titles(place.at("title"), name.replace("_", " ").capitalize())
    return Metric(
        name=name,
        event=place.at("event").text(""),
        kind=kind,  # type: ignore[arg-type] # `choice` has checked it against the two literals.
        measure=measure,  # type: ignore[arg-type] # As above.
        value=tuple(value.split(".")) if value and measure != "count" else None,
        carries=carries,  # type: ignore[arg-type] # As above.
        unit=place.at("unit").text("", empty=True) or None,
        unit_size=unit_size,
        title=title,
        unit_code=unit_code,
        decimals=place.at("decimals").integer(3, 0, 9),
        titles=titles,
        charged=charged,
        by=read_dimensions(place.at("by"), may_have=kind == "counter" and measure in ("sum", "count")),
    )


def _packages(
    places: Place, metrics: tuple[Metric, ...], add_ons: tuple[AddOn, ...], minor: int | None
) -> tuple[Package, ...]:
    packages: list[Package] = []
    for place in places.items():
        place.keys(required=("name", "rank", "versions"), optional=("title", "hidden", "add_ons"))
        name = place.at("name").text("")
        versions = [_version(version, metrics, minor) for version in place.at("versions").items()]
        if not versions and place.has("versions"):
            place.at("versions").problem("at least one version")
        refuse_repeated(place.at("versions"), [version.effective_from for version in versions], "effective_from")
        title, titles = read_titles(place.at("title"), name.capitalize())
        packages.append(
            Package(
                name=name,
                rank=place.at("rank").integer(0, -(10**6), 10**6),
                title=title,
                titles=titles,
                versions=tuple(sorted(versions, key=lambda version: version.effective_from)),
                hidden=place.at("hidden").boolean(default=False),
                add_ons=read_allowed_add_ons(place, [add_on.name for add_on in add_ons]),
            )
        )
    refuse_repeated(places, [package.name for package in packages], "name")
    refuse_repeated(places, [package.rank for package in packages], "rank")
    return tuple(sorted(packages, key=lambda package: package.rank))


def _version(place: Place, metrics: tuple[Metric, ...], minor: int | None) -> Terms:
    place.keys(
        required=("effective_from", "price", "allowances"),
        optional=("overage", "auto_upgrade_on", "minimum_spend", "seats"),
    )
    price = place.at("price")
    price.keys(required=("monthly",), optional=("yearly",))
    allowances = _allowances(place.at("allowances"), metrics)
    lacking: set[str] = set()
    overage = _overage(place.at("overage"), metrics, lacking)
    names = [metric.name for metric in metrics]
    triggers = tuple(item.choice(names) for item in place.at("auto_upgrade_on").items())
    for metric in metrics if place.has("allowances") else ():
        # A level that is charged in advance has no overage: it may have a limit for upgrades.
        if metric.is_in_advance:
            allowances.setdefault(metric.name, None)
        # Rule 5: every metric needs an allowance in every package.
        elif metric.name not in allowances:
            place.at("allowances").problem(
                f"{_LACKS_ALLOWANCE}{metric.name} (a number, or null for unlimited)", found="none"
            )
        # rule 5: a finite allowance without tariff or trigger must be declared free
        elif allowances[metric.name] is not None and metric.name not in overage and metric.name not in triggers:
            place.problem(
                f"a tariff for {metric.name} in `overage`, or `none` there, or its name in `auto_upgrade_on`",
                found="none",
            )
    monthly = amount_or_none(price.at("monthly"))
    if monthly is None and price.has("monthly"):
        lacking.add(MONTHLY)
    before = place.lacking()
    seats = read_seats(place.at("seats"), metrics, read_plain_tariff) if place.has("seats") else ()
    if place.lacking() > before:
        lacking.add(SEATS)
    return Terms(
        effective_from=place.at("effective_from").date(date(1970, 1, 1)),
        monthly=monthly or Decimal(0),
        yearly=amount_or_none(price.at("yearly")),
        allowances=allowances,
        overage=overage,
        auto_upgrade_on=triggers,
        minimum_spend=_minimum_spend(place.at("minimum_spend"), minor, lacking),
        seats=seats,
        lacking=frozenset(lacking),
    )


def _minimum_spend(place: Place, minor: int | None, lacking: set[str]) -> MinimumSpend | None:
    if not place.has_value():
        return None
    before = place.lacking()
    minimum = read_minimum_spend(place, minor)
    if place.lacking() > before:
        lacking.add(MINIMUM_SPEND)
    return minimum


def _allowances(place: Place, metrics: tuple[Metric, ...]) -> dict[str, Decimal | None]:
    by_name = {metric.name: metric for metric in metrics}
    place.keys(required=(), optional=tuple(by_name), what="metric")
    allowances: dict[str, Decimal | None] = {}
    for name, item in place.named():
        if name in by_name:
            before = item.reported()
            quantity = None if item.is_null() else item.quantity(by_name[name].unit_size, MAXIMUM_QUANTITY)
            # An unreadable value has no follow-up problems.
            allowances[name] = quantity if item.reported() == before else None
    return allowances


def _overage(place: Place, metrics: tuple[Metric, ...], lacking: set[str]) -> dict[str, Tariff | None]:
    """Tariffs by metric; adds the names of those with an amount that is not in the currency to `lacking`."""
    by_name = {metric.name: metric for metric in metrics}
    place.keys(required=(), optional=tuple(by_name), what="metric")
    for metric in metrics:
        if metric.is_in_advance and place.has(metric.name):
            place.at(metric.name).problem("no overage of a metric that is charged in advance: it has `seats`")
    tariffs: dict[str, Tariff | None] = {}
    for name, item in place.named():
        if name in by_name:
            before = place.lacking()
            tariffs[name] = None if item.is_text("none") else read_tariff(item, by_name[name])
            lacking.update({name} if place.lacking() > before else ())
    return tariffs


def _agreement(
    place: Place, packages: tuple[Package, ...], metrics: tuple[Metric, ...], minor: int | None
) -> Agreement:
    parts = ("price", "allowances", "overage", "minimum_spend")
    place.keys(required=("account_id", "package", "effective_from"), optional=("until", *parts))
    if not any(place.has(part) for part in parts):
        place.problem(f"at least one of {', '.join(parts)}", found="an agreement that names nothing")
    for part in parts:
        # A null or empty part would change nothing, but looks as if it did.
        if place.has(part) and (place.at(part).is_null() or place.at(part).is_empty_mapping()):
            place.at(part).problem("what is agreed, or no such key")
    price = place.at("price")
    price.keys(required=(), optional=("monthly", "yearly"))
    since = place.at("effective_from").date(date(1970, 1, 1))
    until = place.at("until").date(date.max) if place.has("until") else None
    if until is not None and until <= since:
        place.at("until").problem(f"a date after effective_from, {since}: on that day it holds no more")
    lacking: set[str] = set()
    monthly = amount_or_none(price.at("monthly"))
    if monthly is None and price.has("monthly"):
        lacking.add(MONTHLY)
    return Agreement(
        account_id=place.at("account_id").text("").strip(),
        package=place.at("package").choice([package.name for package in packages], packages[0].name),
        effective_from=since,
        monthly=monthly,
        yearly=amount_or_none(price.at("yearly")),
        allowances=_allowances(place.at("allowances"), metrics),
        overage=_overage(place.at("overage"), metrics, lacking),
        until=until,
        minimum_spend=_minimum_spend(place.at("minimum_spend"), minor, lacking),
        lacking=frozenset(lacking),
    )


def _refuse_undeclared_excess(places: Place, catalogue: Catalogue) -> None:
    """Agreements follow rule 5 too: an allowance that ends needs a tariff, a trigger or the word `none`."""
    periods = terms_periods(catalogue)
    for place, agreement in zip(places.items(), catalogue.agreements, strict=True):
        theirs = [
            period.terms
            for period in periods
            if (period.account_id, period.package) == (agreement.account_id, agreement.package)
            and agreement.holds_on(period.since)
        ]
        for name in agreement.allowances:
            if not catalogue.metric(name).is_in_advance and any(
                terms.allowances[name] is not None and name not in terms.overage and name not in terms.auto_upgrade_on
                for terms in theirs
            ):
                place.problem(f"a tariff for {name} in the agreement's `overage`, or `none` there", found="none")
