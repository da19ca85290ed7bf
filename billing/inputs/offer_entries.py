"""Reader of the catalogue's coupons, add-ons, minimum spends and seats (rules 29, 31, 32 and 35)."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Final

from billing.inputs.titles import read_titles
from billing.inputs.yaml_reader import Place, decimals
from billing.model.catalogue import MAXIMUM_QUANTITY, MINIMUM_COUNTS, Metric, MinimumSpend, Seats, Tariff
from billing.model.offers import COUPON_KINDS, USUAL_PRIORITY, AddOn, AddOnVersion, Coupon

_LONGEST_NAME: Final = 200
_MOST: Final = 10**9
_PERCENT_DECIMALS: Final = 9
# The most of an add-on, and of its price and allowance in units: their product leaves room in every column.
_MOST_ADDED: Final = 100_000
_MOST_UNITS: Final = Decimal(10) ** 13
_MOST_PRICE: Final = Decimal(10) ** 9

Allowances = Callable[[Place], Mapping[str, Decimal | None]]


def read_add_ons(places: Place, allowances: Allowances) -> tuple[AddOn, ...]:
    """The add-ons of the catalogue; `allowances` reads a mapping of metrics."""
    add_ons: list[AddOn] = []
    for place in places.items():
        place.keys(required=("name", "versions"), optional=("title",))
        name = _name(place.at("name"))
        versions = [_add_on_version(version, allowances) for version in place.at("versions").items()]
        if not versions and place.has("versions"):
            place.at("versions").problem("at least one version")
        refuse_repeated(place.at("versions"), [version.effective_from for version in versions], "effective_from")
        title, titles = read_titles(place.at("title"), name.replace("_", " ").capitalize())
        add_ons.append(AddOn(name, title, tuple(sorted(versions, key=lambda each: each.effective_from)), titles))
    refuse_repeated(places, [add_on.name for add_on in add_ons], "name")
    return tuple(add_ons)


def _add_on_version(place: Place, allowances: Allowances) -> AddOnVersion:
    place.keys(required=("effective_from", "price"), optional=("allowances", "maximum"))
    price = place.at("price")
    price.keys(required=("monthly",), optional=("yearly",))
    before = place.lacking()
    monthly = price.at("monthly").amount(Decimal(0))
    is_sold = place.lacking() == before
    yearly = amount_or_none(price.at("yearly"))
    for name, amount in (("monthly", monthly), ("yearly", yearly or 0)):
        if amount >= _MOST_PRICE:
            price.at(name).problem("an amount below 10^9, of one")
    added = allowances(place.at("allowances"))
    for name, allowance in added.items():
        if allowance is not None and allowance > _MOST_UNITS:
            place.at("allowances").at(name).problem("at most 10^13 units")
    return AddOnVersion(
        effective_from=place.at("effective_from").date(date(1970, 1, 1)),
        monthly=monthly,
        yearly=yearly if is_sold else None,
        allowances=added,
        maximum=place.at("maximum").integer(1, 1, _MOST_ADDED) if place.has("maximum") else None,
        is_sold=is_sold,
    )


def read_coupons(
    places: Place, *, packages: Sequence[str], metrics: Sequence[str], add_ons: Sequence[str], minor: int | None
) -> tuple[Coupon, ...]:
    """The coupons of the catalogue; `packages`, `metrics` and `add_ons` are the names that they may use."""
    options = (
        *COUPON_KINDS,
        *(f"overage.{metric}" for metric in metrics),
        *(f"add_on.{add_on}" for add_on in add_ons),
    )
    coupons = [_coupon(place, options, packages, minor) for place in places.items()]
    refuse_repeated(places, [coupon.name for coupon in coupons], "name")
    return tuple(coupons)


def _coupon(place: Place, applies_to: Sequence[str], packages: Sequence[str], minor: int | None) -> Coupon:
    place.keys(
        required=("name",),
        optional=(
            *("title", "percent", "amount", "applies_to", "packages"),
            *("documents", "redeem_until", "redemptions", "priority"),
        ),
    )
    name = _name(place.at("name"))
    title, titles = read_titles(place.at("title"), name.replace("_", " ").capitalize())
    if place.has("percent") == place.has("amount"):
        found = "both" if place.has("percent") else "none"
        place.problem("one of percent and amount", found=found)
    redemptions = place.at("redemptions")
    redemptions.keys(required=(), optional=("account", "all"))
    return Coupon(
        name=name,
        title=title,
        titles=titles,
        percent=_percent(place.at("percent")) if place.has("percent") else None,
        amount=_amount_above_zero(place.at("amount"), minor) if place.has("amount") else None,
        applies_to=_some_of(place, "applies_to", applies_to) or COUPON_KINDS,
        packages=_some_of(place, "packages", packages),
        documents=place.at("documents").integer(1, 1, _MOST) if place.has("documents") else None,
        redeem_until=place.at("redeem_until").date(date.max) if place.has("redeem_until") else None,
        account_redemptions=redemptions.at("account").integer(1, 1, _MOST),
        all_redemptions=redemptions.at("all").integer(1, 1, _MOST) if redemptions.has("all") else None,
        priority=place.at("priority").integer(USUAL_PRIORITY, 0, _MOST),
    )


def _percent(place: Place) -> Decimal:
    value = place.decimal(Decimal(1))
    if not 0 < value <= 100 or decimals(value) > _PERCENT_DECIMALS:
        place.problem(f"a percentage above 0, up to 100, of at most {_PERCENT_DECIMALS} decimals")
        return Decimal(1)
    return value


def _amount_above_zero(place: Place, minor: int | None) -> Decimal | None:
    """The amount; None where it is not in the currency that is read."""
    before, lacking = place.reported(), place.lacking()
    value = currency_amount(place, minor)
    if place.lacking() > lacking:
        return None
    if value == 0 and place.reported() == before:
        place.problem("an amount above 0")
    return value


def amount_or_none(place: Place) -> Decimal | None:
    """An amount; None where there is none, or none in the currency that is read."""
    if not place.has_value():
        return None
    lacking = place.lacking()
    value = place.amount(Decimal(0))
    return value if place.lacking() == lacking else None


def currency_amount(place: Place, minor: int | None) -> Decimal:
    """An amount from 0, of no more decimals than the currency has."""
    value = place.amount(Decimal(0))
    if minor is not None and decimals(value) > minor:
        place.problem(f"an amount of at most {minor} decimals, those of the currency")
        return Decimal(0)
    return value


def _some_of(place: Place, key: str, options: Sequence[str]) -> tuple[str, ...] | None:
    """The names of a list; None where there is no such key."""
    if not place.has(key):
        return None
    before = place.reported()
    names = [item.choice(options) for item in place.at(key).items()]
    if not names and place.reported() == before:
        place.at(key).problem("at least one of them, or no such key", found="an empty list")
    refuse_repeated(place.at(key), names, "name")
    return tuple(dict.fromkeys(names))


def read_allowed_add_ons(place: Place, add_ons: Sequence[str]) -> tuple[str, ...] | None:
    """A package's `add_ons`: the names of those it allows, perhaps none; None where it allows all."""
    if not place.has("add_ons"):
        return None
    return tuple(dict.fromkeys(item.choice(add_ons) for item in place.at("add_ons").items()))


def read_minimum_spend(place: Place, minor: int | None) -> MinimumSpend:
    """What a cycle has to come to; an amount of 0 is no minimum."""
    place.keys(required=("amount",), optional=("counts",))
    counts = _some_of(place, "counts", MINIMUM_COUNTS)
    return MinimumSpend(currency_amount(place.at("amount"), minor), MINIMUM_COUNTS if counts is None else counts)


def read_seats(place: Place, metrics: Sequence[Metric], tariff: Callable[[Place, Metric], Tariff]) -> tuple[Seats, ...]:
    """A package's `seats`: one entry, or a list of them for several metrics.

    Parameters
    ----------
    tariff
        Reads a tariff of a metric.
    """
    by_name = {metric.name: metric for metric in metrics if metric.is_in_advance}
    if not by_name:
        place.problem("a metric with `charged: in_advance`, or no such key", found="seats without one")
        return ()
    seats = [_seats(each, by_name, tariff) for each in ([place] if place.is_mapping() else place.items())]
    refuse_repeated(place, [each.metric for each in seats], "metric")
    return tuple(seats)


def _seats(place: Place, by_name: Mapping[str, Metric], tariff: Callable[[Place, Metric], Tariff]) -> Seats:
    place.keys(required=("metric",), optional=("included", "price", "tariff"))
    metric = by_name[place.at("metric").choice(list(by_name))]
    price, priced = place.at("price"), place.at("tariff")
    if price.has_value() == priced.has_value():
        place.problem("one of price and tariff", found="both" if price.has_value() else "none")
    rated = None
    if priced.has_value():
        before = place.reported()
        rated = tariff(priced, metric)
        if rated.model not in ("graduated", "volume") and place.reported() == before:
            priced.problem("the model graduated or volume; for one price per seat, `price`", rated.model)
    return Seats(
        metric=metric.name,
        included=place.at("included").quantity(metric.unit_size, MAXIMUM_QUANTITY),
        price=price.amount(Decimal(0)) if price.has_value() else None,
        tariff=rated,
    )


def _name(place: Place) -> str:
    """The name of a coupon or add-on; a slash would make the identity of what is due ambiguous."""
    name = place.text("")
    if name and (name != name.strip() or "/" in name or not name.isprintable() or len(name) > _LONGEST_NAME):
        place.problem(f"a name of at most {_LONGEST_NAME} characters without `/` and without blanks at its ends")
    return name


def refuse_repeated(place: Place, values: Sequence[object], what: str) -> None:
    """Report values that a list has more than once."""
    for value in sorted({str(value) for value in values if values.count(value) > 1}):
        place.problem(f"every {what} once", found=f"{value} more than once")
