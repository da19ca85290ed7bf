"""Rule 34: usage by the rules of tariffs by dimension, where the most specific rule that matches rates its own sum.

Events are told apart by the values that rules name, never by any others: a million values of a dimension that no rule
names are one group. Values that the same lists of all rules name are one class.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import polars as pl

from billing.model.catalogue import Catalogue, DimensionRule, Metric, TermsPeriod, rule_words, terms_periods

Rules = tuple[DimensionRule, ...]

IN_FORCE: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "subscription_id": pl.String,
    "terms_key": pl.String,
    "package": pl.String,
    "since": pl.Date,
}
"""The terms that rate the closing cycle of each subscription, as `with_terms` finds them."""

SIGNATURE: Final = "signature"
"""Which class of values an event has in each dimension, as one number; 0 where no rule names any of them."""

_BETWEEN: Final = "\x00"
_TERMS: Final = ("terms_key", "package", "since")


@dataclass(frozen=True)
class _Classes:
    """The values of a metric's dimensions that rules name, each with its class, from 1: in the order of `Metric.by`."""

    metric: Metric
    of: tuple[Mapping[str, int], ...]

    @classmethod
    def named_by(cls, metric: Metric, rules: Iterable[DimensionRule]) -> "_Classes":
        lists: dict[str, set[frozenset[str]]] = {dimension: set() for dimension, _ in metric.by}
        for rule in rules:
            for dimension, values in rule.when:
                lists[dimension].add(frozenset(values))
        return cls(metric, tuple(_classes(lists[dimension]) for dimension, _ in metric.by))

    @property
    def signature(self) -> pl.Expr:
        """SIGNATURE of an event, from its `dimensions`."""
        number = pl.lit(0, pl.UInt64)
        for place, classes in enumerate(self.of):
            if classes:
                value = pl.col("dimensions").list.get(place, null_on_oob=True)
                own = value.replace_strict(dict(classes), default=0, return_dtype=pl.UInt64)
                number = number * (max(classes.values()) + 1) + own
        return number

    def winner(self, signature: int, rules: Rules) -> str | None:
        """The name of the rule that rates events of a signature; None where none matches."""
        classes: dict[str, int] = {}
        for (dimension, _), own in reversed(list(zip(self.metric.by, self.of, strict=True))):
            if own:
                signature, classes[dimension] = divmod(signature, max(own.values()) + 1)
        of = dict(zip((dimension for dimension, _ in self.metric.by), self.of, strict=True))
        matching = [
            rule
            for rule in rules
            if all(classes[name] in {of[name][value] for value in values} for name, values in rule.when)
        ]
        # rule 34: the rule with the most keys wins; the catalogue has no two that could both win.
        best = max(matching, key=lambda rule: len(rule.when), default=None)
        return None if best is None else best.name


def _classes(lists: set[frozenset[str]]) -> dict[str, int]:
    ordered = sorted(lists, key=sorted)
    found: dict[tuple[bool, ...], int] = {}
    return {
        value: found.setdefault(tuple(value in each for each in ordered), len(found) + 1)
        for value in sorted(frozenset().union(*ordered))
    }


@dataclass(frozen=True)
class RuleBook:
    """The rules of all tariffs by dimension of a catalogue.

    Attributes
    ----------
    periods
        The terms that have rules.
    """

    catalogue: Catalogue
    periods: tuple[TermsPeriod, ...]

    @classmethod
    def of(cls, catalogue: Catalogue) -> "RuleBook | None":
        """None where no tariff has rules."""
        if not any(metric.by for metric in catalogue.metrics):
            return None
        periods = [each for each in terms_periods(catalogue) if any(rules_of(each, m) for m in catalogue.metrics)]
        return cls(catalogue, tuple(periods)) if periods else None

    @cached_property
    def _metrics(self) -> list[Metric]:
        return [metric for metric in self.catalogue.metrics if metric.by]

    @cached_property
    def _rule_sets(self) -> dict[str, dict[Rules, int]]:
        """By metric: the different lists of rules, numbered; agreements that leave them alone share the package's."""
        found: dict[str, dict[Rules, int]] = {}
        for metric in self._metrics:
            own = found.setdefault(metric.name, {})
            for period in self.periods:
                if rules := rules_of(period, metric):
                    own.setdefault(rules, len(own))
        return found

    @cached_property
    def _classes(self) -> dict[str, _Classes]:
        return {
            metric.name: _Classes.named_by(metric, (rule for rules in self._rule_sets[metric.name] for rule in rules))
            for metric in self._metrics
        }

    @cached_property
    def _sets_of_terms(self) -> pl.DataFrame:
        """terms_key, package, since, metric, rule_set: of the tariffs with rules."""
        rows = [
            (period.account_id, period.package, period.since, metric.name, self._rule_sets[metric.name][rules])
            for period in self.periods
            for metric in self._metrics
            if (rules := rules_of(period, metric))
        ]
        schema = {"terms_key": pl.String, "package": pl.String, "since": pl.Date, "metric": pl.String}
        return pl.DataFrame(rows, schema=schema | {"rule_set": pl.UInt32}, orient="row")

    @property
    def fingerprint(self) -> str:
        """Which values the rules of which terms name, in text: usage is measured by it."""
        rules = {
            name: [[(rule.name, rule.when) for rule in own] for own in sets] for name, sets in self._rule_sets.items()
        }
        dimensions = [(metric.name, metric.by) for metric in self._metrics]
        return repr((dimensions, rules, self._sets_of_terms.rows()))

    def measures_as(self, other: "RuleBook", in_force: pl.DataFrame, others_in_force: pl.DataFrame) -> bool:
        """Whether another book tells the usage of subscriptions apart by the same rules; each has its IN_FORCE."""
        if (self._metrics, self._rule_sets) != (other._metrics, other._rule_sets):
            return False
        return self._sets(in_force).equals(other._sets(others_in_force))

    def _sets(self, in_force: pl.DataFrame) -> pl.DataFrame:
        found = in_force.join(self._sets_of_terms, on=_TERMS)
        return found.select("subscription_id", "metric", "rule_set").sort("subscription_id", "metric")

    def signature(self) -> pl.Expr:
        """SIGNATURE of events (metric, dimensions); 0 for metrics without rules."""
        found = pl.lit(0, pl.UInt64)
        for name, classes in self._classes.items():
            found = pl.when(pl.col("metric") == name).then(classes.signature).otherwise(found)
        return found

    def with_rules(self, frame: pl.DataFrame, in_force: pl.DataFrame) -> pl.DataFrame:
        """`frame` (subscription_id, metric, SIGNATURE) with `rule` in place of the signature; null for the rest.

        Parameters
        ----------
        in_force
            IN_FORCE; usage of other subscriptions is the rest.
        """
        keyed = frame.join(in_force, on="subscription_id", how="left", maintain_order="left").join(
            self._sets_of_terms, on=[*_TERMS, "metric"], how="left", maintain_order="left"
        )
        met = keyed.select("metric", "rule_set", SIGNATURE).unique().drop_nulls()
        lists = {name: list(rules) for name, rules in self._rule_sets.items()}
        won = [
            (metric, rule_set, signature, self._classes[metric].winner(signature, lists[metric][rule_set]))
            for metric, rule_set, signature in met.iter_rows()
        ]
        named = pl.DataFrame(won, schema={**met.schema, "rule": pl.String}, orient="row")
        found = keyed.join(named, on=["metric", "rule_set", SIGNATURE], how="left", maintain_order="left")
        return found.select(*(name for name in frame.columns if name != SIGNATURE), "rule")

    def rows(self, in_force: pl.DataFrame) -> pl.DataFrame:
        """subscription_id, metric, rule: every rule in force, used or not."""
        names = [
            (metric, number, rule.name)
            for metric, sets in self._rule_sets.items()
            for rules, number in sets.items()
            for rule in rules
        ]
        schema = {"metric": pl.String, "rule_set": pl.UInt32, "rule": pl.String}
        return (
            in_force.join(self._sets_of_terms, on=_TERMS)
            .join(pl.DataFrame(names, schema=schema, orient="row"), on=["metric", "rule_set"])
            .select("subscription_id", "metric", "rule")
        )


def rules_of(period: TermsPeriod, metric: Metric) -> Rules:
    """The rules of a metric's tariff in some terms."""
    tariff = period.terms.overage.get(metric.name)
    return () if tariff is None else tariff.by


def over_all_rules(usage: pl.DataFrame, *others: str) -> pl.DataFrame:
    """Usage with one row per cycle and metric: its quantities summed over the rules that rate its parts.

    Parameters
    ----------
    usage
        subscription_id, cycle_start, metric, rule, quantity, base_quantity, `others` that are summed, too, and columns
        of which that of the rest holds.
    """
    if usage["rule"].null_count() == usage.height:
        return usage
    keys = ["subscription_id", "cycle_start", "metric"]
    summed = ["quantity", "base_quantity", *others]
    kept = [name for name in usage.columns if name not in (*keys, "rule", *summed)]
    return (
        usage.sort("rule", maintain_order=True)
        .group_by(keys, maintain_order=True)
        .agg(
            pl.col(kept).first(),
            # One that cannot be measured in units, or rated, makes the sum null.
            *(
                pl.when(pl.col(name).is_null().any()).then(None).otherwise(pl.col(name).sum()).alias(name)
                for name in summed
            ),
            rule=pl.lit(None, pl.String),
        )
        .select(usage.columns)
    )


def with_rule_words(title: pl.Expr, catalogue: Catalogue) -> pl.Expr:
    """A title of `metric` with the words of `rule`, where it has one: Tokens (model large)."""
    words = {f"{metric}{_BETWEEN}{rule}": said for (metric, rule), said in rule_words(catalogue).items()}
    named = pl.col("rule")
    if words:
        key = pl.concat_str("metric", pl.lit(_BETWEEN), named)
        named = pl.coalesce(key.replace_strict(words, default=None, return_dtype=pl.String), named)
    return pl.when(pl.col("rule").is_not_null()).then(pl.format("{} ({})", title, named)).otherwise(title)


def rated_by(metric: Metric, rules: Sequence[DimensionRule], rule: str | None) -> pl.Expr:
    """Whether an event (`dimensions`) of a metric is rated by a rule of a tariff; None: by none of them."""
    own = next((each for each in rules if each.name == rule), None)
    larger = [each for each in rules if own is None or len(each.when) > len(own.when)]
    matches = pl.lit(True) if own is None else _matches(metric, own)
    for each in larger:
        matches &= ~_matches(metric, each)
    return matches


def _matches(metric: Metric, rule: DimensionRule) -> pl.Expr:
    places = {dimension: place for place, (dimension, _) in enumerate(metric.by)}
    found = pl.lit(True)
    for dimension, values in rule.when:
        value = pl.col("dimensions").list.get(places[dimension], null_on_oob=True)
        found &= value.is_in(list(values)).fill_null(value=False)
    return found
