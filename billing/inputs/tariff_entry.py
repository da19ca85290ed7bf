"""Tariffs of catalogue.yaml, their rules by dimension, and the dimensions of a metric (rules 3, 5 and 34)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import combinations, product
from typing import Final

from billing.inputs.yaml_reader import Place, decimals
from billing.model.catalogue import (
    MAXIMUM_QUANTITY,
    TARIFF_MODELS,
    DimensionRule,
    Metric,
    Tariff,
    Tier,
    default_rule_name,
)

MOST_DIMENSIONS: Final = 4
_MOST_CLASSES: Final = 10**15
"""What the numbers of values that rules name, one dimension by the other, stay below: events are grouped by them."""
_LARGEST_PERCENT: Final = 10_000
_PERCENT_DECIMALS: Final = 10
_LIMITS: Final = ("minimum", "maximum")
_OF_RULE: Final = ("allowance", "name")

When = Mapping[str, Sequence[str]]


def read_dimensions(place: Place, *, may_have: bool) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The dimensions of a metric, each with its path; only metrics that add up by event may have them."""
    if not place.has_value():
        return ()
    found: list[tuple[str, tuple[str, ...]]] = []
    for name, item in place.named():
        path = tuple(item.text("").split("."))
        if not all(path):
            item.problem("a path such as data.model")
        elif name in dict(found):
            item.problem("the dimension once", found=f"{name} twice")
        else:
            found.append((name, path))
    if not may_have:
        place.problem("no key `by`: only counters with the measure sum or count have dimensions")
        return ()
    if not 1 <= len(found) <= MOST_DIMENSIONS:
        place.problem(f"from 1 to {MOST_DIMENSIONS} dimensions such as {{model: data.model}}", found=str(len(found)))
    return tuple(found[:MOST_DIMENSIONS])


def read_tariff(place: Place, metric: Metric) -> Tariff:
    """A tariff of a metric, with its rules by dimension."""
    tariff = read_plain_tariff(place, metric, optional=("by",))
    rules = place.at("by")
    if not place.is_mapping() or not rules.has_value():
        return tariff
    if not metric.by:
        rules.problem(f"no key `by`: the metric {metric.name} has no dimensions (its own key `by`)", found="rules")
        return tariff
    places = list(rules.items())
    read = [_rule(item, metric) for item in places]
    if not read:
        rules.problem("at least one rule")
    _refuse_ambiguous(places, read)
    if _classes(read, metric) > _MOST_CLASSES:
        rules.problem("fewer different values: those of one dimension by those of the others stay below 10^15")
    return replace(tariff, by=tuple(read))


def _classes(rules: Sequence[DimensionRule], metric: Metric) -> int:
    most = 1
    for dimension, _ in metric.by:
        named = {value for rule in rules for name, values in rule.when if name == dimension for value in values}
        most *= len(named) + 1
    return most


def _rule(place: Place, metric: Metric) -> DimensionRule:
    if place.has("model") or not place.has("tariff"):
        tariff: Tariff | None = read_plain_tariff(place, metric, required=("when",), optional=_OF_RULE)
    else:
        place.keys(required=("when", "tariff"), optional=_OF_RULE)
        priced = place.at("tariff")
        tariff = None if priced.is_text("none") else read_plain_tariff(priced, metric)
    when = _when(place.at("when"), metric)
    included = place.at("allowance")
    allowance: Decimal | None = Decimal(0)
    if included.has_value():
        allowance = None if included.is_null() else included.quantity(metric.unit_size, MAXIMUM_QUANTITY)
    name = place.at("name").text("", empty=True) or default_rule_name(when)
    return DimensionRule(name, when, allowance, tariff)


def _when(place: Place, metric: Metric) -> tuple[tuple[str, tuple[str, ...]], ...]:
    dimensions = [name for name, _ in metric.by]
    before = place.reported()
    place.keys(required=(), optional=dimensions, what="dimension")
    found: dict[str, tuple[str, ...]] = {}
    for name, item in place.named():
        if name in dimensions:
            values = tuple(dict.fromkeys(each.text("") for each in item.items_or_one()))
            if not values:
                item.problem("at least one value")
            found[name] = values
    if not found and place.reported() == before and place.has_value():
        place.problem(f"at least one of the dimensions {', '.join(dimensions)}", found="none")
    return tuple(found.items())


def _refuse_ambiguous(places: Sequence[Place], rules: Sequence[DimensionRule]) -> None:
    """Refuse rules of which several could win: of those that match an event one has the most keys (rule 34)."""
    names = [rule.name for rule in rules]
    for number, rule in enumerate(rules):
        if rule.name in names[:number]:
            places[number].problem("every rule by a name of its own", found=f"{rule.name!r} twice")
    for (first, one), (second, other) in combinations(enumerate(rules), 2):
        if len(one.when) != len(other.when) or not one.when or names[first] == names[second]:
            continue
        met = next(_met_alone(dict(one.when), dict(other.when), rules), None)
        if met is not None:
            both = ", ".join(f"{dimension}: {value}" for dimension, value in met.items())
            places[second].problem(
                "rules of which one wins: others values, or a rule with more keys for what both match",
                found=f"{one.name!r} and {other.name!r}, which both match {both}",
            )


def _met_alone(one: When, other: When, rules: Sequence[DimensionRule]) -> Iterator[dict[str, str]]:
    """Values that two rules match and no rule with more keys, which names no further dimension, does."""
    keys = {
        key: [value for value in one.get(key, other.get(key, ())) if value in other.get(key, one.get(key, ()))]
        for key in (*one, *(key for key in other if key not in one))
    }
    larger = [dict(rule.when) for rule in rules if len(rule.when) > len(one)]
    larger = [when for when in larger if when.keys() <= keys.keys()]
    told_apart: list[list[str]] = []
    for key, values in keys.items():
        # Of values that the larger rules treat alike one is enough.
        alike = {tuple(value in when[key] for when in larger if key in when): value for value in reversed(values)}
        told_apart.append(sorted(alike.values(), key=values.index))
    for chosen in product(*told_apart):
        met = dict(zip(keys, chosen, strict=True))
        if not any(all(met[key] in values for key, values in when.items()) for when in larger):
            yield met


def read_plain_tariff(
    place: Place, metric: Metric, required: Sequence[str] = (), optional: Sequence[str] = ()
) -> Tariff:
    """A tariff without rules; `required` and `optional` are further keys of its mapping."""
    if not place.is_mapping():
        place.problem('`none`, or a tariff such as {model: block, size: 1000, price: "3.00"}')
        return Tariff("block", Decimal(1), Decimal(0))
    model = place.at("model").choice(TARIFF_MODELS, "graduated" if place.has("tiers") else "block")
    limits = (*_LIMITS, *optional)
    minimum, maximum = (_amount(place.at(limit)) for limit in _LIMITS)
    if minimum is not None and maximum is not None and minimum > maximum:
        place.at("minimum").problem(f"at most the maximum, {maximum}")
    if model == "percentage":
        place.keys(required=(*required, "model", "percent"), optional=("per_event", "free_events", *limits))
        return _percentage(place, metric, Tariff("percentage", None, None, (), minimum, maximum))
    if model == "block":
        place.keys(required=(*required, "model", "size", "price"), optional=limits)
        before = place.reported()
        size = place.at("size").quantity(metric.unit_size, MAXIMUM_QUANTITY)
        if size <= 0:
            if place.has("size") and place.reported() == before:
                place.at("size").problem("a block size above 0")
            size = Decimal(1)
        return Tariff("block", size, place.at("price").amount(Decimal(0)), (), minimum, maximum)
    place.keys(required=(*required, "model", "tiers"), optional=limits)
    before = place.reported()
    tiers = tuple(_tier(item, model, metric) for item in place.at("tiers").items())
    if not place.has("tiers") or place.reported() > before:
        return Tariff("block", Decimal(1), Decimal(0))
    bounds = [tier.up_to for tier in tiers]
    finite = [bound for bound in bounds if bound is not None]
    # rule 5: the last tier is open
    if not tiers or bounds[-1] is not None or len(finite) != len(bounds) - 1:
        place.at("tiers").problem("tiers of which the last, and only the last, is open (`up_to: null`)")
    elif finite != sorted(set(finite)) or any(bound <= 0 for bound in finite):
        place.at("tiers").problem("tiers whose `up_to` rise, from above 0")
    return Tariff(model, None, None, tiers, minimum, maximum)  # type: ignore[arg-type] # `choice` has checked the model.


def _amount(place: Place) -> Decimal | None:
    return place.amount(Decimal(0)) if place.has_value() else None


def _percentage(place: Place, metric: Metric, tariff: Tariff) -> Tariff:
    """A percentage of the excess, which is in units of the currency, and a price for each event (rule 34)."""
    if metric.kind == "gauge":
        place.at("model").problem("another model: a level is no amount of money, and no event of it is charged")
    percent = place.at("percent").decimal(Decimal(0))
    if not 0 <= percent <= _LARGEST_PERCENT or decimals(percent) > _PERCENT_DECIMALS:
        place.at("percent").problem(f"a number from 0 to {_LARGEST_PERCENT}, of at most {_PERCENT_DECIMALS} decimals")
        percent = Decimal(0)
    return replace(
        tariff,
        percent=percent,
        per_event=place.at("per_event").amount(Decimal(0)),
        free_events=place.at("free_events").integer(0, 0, 10**15),
    )


def _tier(place: Place, model: str, metric: Metric) -> Tier:
    if model == "stairstep":
        place.keys(required=("up_to", "flat"), optional=())
    else:
        place.keys(required=("up_to", "unit_price"), optional=("flat",))
    up_to = place.at("up_to")
    return Tier(
        up_to=None if up_to.is_null() else up_to.quantity(metric.unit_size, MAXIMUM_QUANTITY),
        unit_price=place.at("unit_price").amount(Decimal(0)),
        flat=place.at("flat").amount(Decimal(0)),
    )
