"""Which rule of a tariff by dimension rates an event (rule 34), against the rules' words read one event at a time."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.catalogue import (
    Agreement,
    Catalogue,
    DimensionRule,
    Metric,
    Package,
    Tariff,
    Terms,
    default_rule_name,
)
from billing.model.columns import BASE_QUANTITY, INSTANT, QUANTITY
from billing.model.tables import USAGE
from billing.rules.dimensions import IN_FORCE, SIGNATURE, RuleBook, over_all_rules, rated_by
from billing.rules.measurement import account_key, measured_counters
from billing.rules.rating import rate
from billing.rules.terms import terms_frames

SINCE = date(2026, 1, 1)
BY = tuple((name, ("data", name)) for name in "abc")
TOKENS = Metric("tokens", "llm.used", "counter", "sum", ("data", "n"), None, None, Decimal(1), "Tokens", by=BY)
FREE = Tariff("block", Decimal(1), Decimal(0))


def rule(**when: str) -> DimensionRule:
    """A rule of values written in one text each: a="xy" names x and y."""
    named = tuple((name, tuple(values)) for name, values in when.items())
    return DimensionRule(default_rule_name(named), named, Decimal(0), FREE)


def catalogue(ref_1: Catalogue, *rules: DimensionRule, agreed: tuple[DimensionRule, ...] = ()) -> Catalogue:
    overage = {"tokens": replace(FREE, by=rules)}
    terms = Terms(SINCE, Decimal(9), None, {"tokens": Decimal(0), "plain": None}, overage, ())
    own = Agreement("own", "basic", SINCE, None, None, {}, {"tokens": replace(FREE, by=agreed)})
    return replace(
        ref_1,
        metrics=(TOKENS, replace(TOKENS, name="plain", by=())),
        packages=(Package("basic", 1, "Basic", (terms,)),),
        agreements=(own,) if agreed else (),
    )


def in_force(*accounts: str) -> pl.DataFrame:
    rows = [(name, "own" if name == "own" else "", "basic", SINCE) for name in accounts]
    return pl.DataFrame(rows, schema=IN_FORCE, orient="row")


def read_by_hand(rules: tuple[DimensionRule, ...], values: dict[str, str | None]) -> str | None:
    """The name of the matching rule with the most keys."""
    matching = [each for each in rules if all(values[name] in named for name, named in each.when)]
    best = max(matching, key=lambda each: len(each.when), default=None)
    return best.name if best else None


def is_decided(rules: tuple[DimensionRule, ...], values: dict[str, str | None]) -> bool:
    """Whether one rule has more keys than every other that matches, as the catalogue demands it."""
    ranks = sorted(len(each.when) for each in rules if all(values[name] in named for name, named in each.when))
    return len(ranks) < 2 or ranks[-1] > ranks[-2]


VALUES = st.one_of(st.none(), st.sampled_from("uvwxyz"), st.text(max_size=3))
WHENS = st.dictionaries(st.sampled_from("abc"), st.sets(st.sampled_from("uvwxy"), min_size=1), min_size=1)
RULES = st.lists(
    WHENS.map(lambda when: rule(**{name: "".join(sorted(values)) for name, values in when.items()})),
    min_size=1,
    max_size=6,
    unique_by=lambda each: each.name,
).map(tuple)


@settings(max_examples=150)
@given(rules=RULES, agreed=RULES, events=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=20))
def test_the_rule_with_the_most_keys_that_match_wins(
    ref_1: Catalogue,
    rules: tuple[DimensionRule, ...],
    agreed: tuple[DimensionRule, ...],
    events: list[tuple[str | None, str | None, str | None]],
) -> None:
    book = RuleBook.of(catalogue(ref_1, *rules, agreed=agreed))
    assert book is not None
    both = [(name, own) for name, own in (("all", rules), ("own", agreed))]
    rows = [(name, own, values) for name, own in both for values in events]
    frame = pl.DataFrame(
        {"subscription_id": [name for name, _, _ in rows], "dimensions": [list(values) for *_, values in rows]},
        schema={"subscription_id": pl.String, "dimensions": pl.List(pl.String)},
    ).with_columns(metric=pl.lit("tokens"))
    signed = frame.with_columns(book.signature().alias(SIGNATURE))
    found = book.with_rules(signed.drop("dimensions"), in_force("all", "own"))["rule"]
    for (_, own, values), won in zip(rows, found, strict=True):
        named = dict(zip("abc", values, strict=True))
        if is_decided(own, named):
            assert won == read_by_hand(own, named)


@settings(max_examples=60)
@given(rules=RULES, events=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=20))
def test_explain_tells_the_same_events(
    rules: tuple[DimensionRule, ...], events: list[tuple[str | None, str | None, str | None]]
) -> None:
    decided = [values for values in events if is_decided(rules, dict(zip("abc", values, strict=True)))]
    frame = pl.DataFrame(
        {"dimensions": [list(values) for values in decided]}, schema={"dimensions": pl.List(pl.String)}
    )
    for name in (None, *(each.name for each in rules)):
        told = frame.select(rated_by(TOKENS, rules, name)).to_series().to_list()
        expected = [read_by_hand(rules, dict(zip("abc", values, strict=True))) == name for values in decided]
        assert told == expected


def measured(ref_1: Catalogue, events: pl.DataFrame, *rules: DimensionRule) -> pl.DataFrame:
    of_all = catalogue(ref_1, *rules)
    book = RuleBook.of(of_all)
    instants = pl.DataFrame({"span_start": [date(2026, 1, 1)], "span_end": [date(2026, 2, 1)]}).cast(pl.Datetime("ns"))
    spans = instants.with_columns(
        account_id=pl.lit("acme"), subscription_id=pl.lit("all"), cycle_start=pl.lit(SINCE)
    ).with_columns(pl.col("span_start", "span_end").dt.replace_time_zone("UTC").cast(INSTANT))
    key = account_key(spans["account_id"])
    own = events.with_columns(
        account_id=pl.lit("acme"), time=pl.lit(date(2026, 1, 5)).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC")
    ).cast({"value": BASE_QUANTITY, "time": INSTANT})
    return measured_counters(spans, [own.lazy()], of_all.metrics, key, book, in_force("all"))


def test_a_value_that_no_rule_names_makes_no_group(ref_1: Catalogue) -> None:
    """A million distinct values cost no memory: what is grouped grows with the rules, never with the values."""
    rules = (rule(a="x"), rule(a="y", b="z"))
    for distinct in (10, 100_000):
        events = pl.DataFrame({"value": range(100_000)}).select(
            "value",
            metric=pl.lit("tokens"),
            member=pl.lit(None, pl.String),
            dimensions=pl.concat_list(
                pl.format("a{}", pl.col("value") % distinct), pl.format("b{}", pl.col("value") % distinct), pl.lit("c")
            ),
        )
        book = RuleBook.of(catalogue(ref_1, *rules))
        assert book is not None
        assert events.select(book.signature().n_unique()).item() == 1
        found = measured(ref_1, events, *rules)
        assert found.select("rule", "base_quantity", "events").rows() == [(None, 4999950000, 100_000)]


def test_values_that_the_same_lists_name_are_one_class(ref_1: Catalogue) -> None:
    book = RuleBook.of(catalogue(ref_1, rule(a="uvwx"), rule(a="uvwx", b="yz"), rule(a="y")))
    assert book is not None
    values = pl.DataFrame({"a": list("uvwxyz")}).select(
        metric=pl.lit("tokens"), dimensions=pl.concat_list("a", pl.lit(None, pl.String), pl.lit(None, pl.String))
    )
    signatures = values.select(book.signature()).to_series().to_list()
    assert len(set(signatures[:4])) == 1
    assert len(set(signatures)) == 3


def test_metrics_without_dimensions_are_left_alone(ref_1: Catalogue) -> None:
    events = pl.DataFrame({"value": [1, 2]}).with_columns(
        metric=pl.lit("plain"), member=pl.lit(None, pl.String), dimensions=pl.lit(None, pl.List(pl.String))
    )
    assert measured(ref_1, events, rule(a="x")).select("metric", "rule", "events").rows() == [("plain", None, 2)]


def test_subscriptions_without_known_terms_have_no_rules(ref_1: Catalogue) -> None:
    book = RuleBook.of(catalogue(ref_1, rule(a="x")))
    assert book is not None
    frame = pl.DataFrame({"subscription_id": ["all", "other"], "metric": "tokens", SIGNATURE: [4, 4]})
    signature = pl.DataFrame({"metric": ["tokens"], "dimensions": [["x", None, None]]}).select(book.signature()).item()
    keyed = frame.with_columns(pl.lit(signature, pl.UInt64).alias(SIGNATURE))
    assert book.with_rules(keyed, in_force("all"))["rule"].to_list() == ["a=x", None]


def test_every_rule_in_force_has_a_row(ref_1: Catalogue) -> None:
    book = RuleBook.of(catalogue(ref_1, rule(a="x"), rule(b="y"), agreed=(rule(c="z"),)))
    assert book is not None
    found = book.rows(in_force("all", "own")).sort("subscription_id", "rule")
    assert found.rows() == [("all", "tokens", "a=x"), ("all", "tokens", "b=y"), ("own", "tokens", "c=z")]


def test_each_rule_is_rated_by_its_own_allowance_and_tariff(ref_1: Catalogue) -> None:
    price = Tariff("block", Decimal(10), Decimal(3))
    rules = (
        replace(rule(a="x"), allowance=Decimal(5), tariff=replace(price, minimum=Decimal(7))),
        replace(rule(a="y"), allowance=None, tariff=price),
        replace(rule(b="z"), tariff=None),
        replace(
            rule(a="x", b="z"), tariff=Tariff("percentage", percent=Decimal(10), per_event=Decimal(1), free_events=1)
        ),
    )
    terms = terms_frames(catalogue(ref_1, *rules))
    used: list[tuple[str | None, int, int]] = [
        ("a=x", 5, 1),
        ("a=x", 6, 1),
        ("a=x", 60, 1),
        (None, 7, 1),
        ("a=y", 10**6, 1),
        ("b=z", 50, 1),
        ("a=x,b=z", 50, 1),
        ("a=x,b=z", 50, 3),
        ("a=x,b=z", 0, 3),
    ]
    frame = pl.DataFrame(
        [(name, Decimal(n), Decimal(n), events, "", "basic", SINCE, "tokens") for name, n, events in used],
        schema={
            "rule": pl.String(),
            "base_quantity": BASE_QUANTITY,
            "quantity": QUANTITY,
            "events": pl.Int64(),
            **{name: IN_FORCE[name] for name in ("terms_key", "package", "since")},
            "metric": pl.String(),
        },
        orient="row",
    )
    found = rate(frame, terms)
    assert found["amount"].to_list() == [0, 7, 18, 0, 0, 0, 5, 7, 2]
    assert found["excess"].to_list() == [0, 1, 55, 7, 0, 50, 50, 50, 0]
    assert found["allowance_units"].to_list() == [5, 5, 5, 0, None, 0, 0, 0, 0]
    assert found["billed_units"].to_list() == [0, 1, 6, 7, 0, 0, 50, 50, 0]
    assert not found["out_of_range"].any()


def test_what_a_rule_may_cost_at_most_ends_where_it_can_be_rated(ref_1: Catalogue) -> None:
    dear = replace(rule(a="x"), tariff=Tariff("percentage", percent=Decimal(0), per_event=Decimal(10) ** 13))
    terms = terms_frames(catalogue(ref_1, dear))
    (most,) = terms.rules["event_limit"]
    events = [most, most + 1]
    frame = pl.DataFrame({"events": events}, schema={"events": pl.Int64}).with_columns(
        pl.lit(0).cast(BASE_QUANTITY).alias("base_quantity"),
        pl.lit(0).cast(QUANTITY).alias("quantity"),
        terms_key=pl.lit(""),
        package=pl.lit("basic"),
        since=pl.lit(SINCE),
        metric=pl.lit("tokens"),
        rule=pl.lit("a=x"),
    )
    found = rate(frame, terms)
    assert found["out_of_range"].to_list() == [False, True]
    assert found["amount"].to_list() == [most * 10**13, None]


class TestSums:
    """Upgrades, downgrades and the profile look at the sum over all rules."""

    @staticmethod
    def usage(*rows: tuple[str, str | None, str | None]) -> pl.DataFrame:
        schema = pl.Schema({"metric": pl.String(), "rule": pl.String(), "quantity": QUANTITY})
        frame = pl.DataFrame(
            [(metric, name, None if quantity is None else Decimal(quantity)) for metric, name, quantity in rows],
            schema=schema,
            orient="row",
        )
        lacking = [pl.lit(None, dtype).alias(name) for name, dtype in USAGE.schema.items() if name not in frame.columns]
        return USAGE.conform(
            frame.with_columns(lacking).with_columns(
                subscription_id=pl.lit("acme/1"),
                cycle_start=pl.lit(SINCE),
                base_quantity=pl.col("quantity").cast(BASE_QUANTITY),
            )
        )

    def test_of_rules(self) -> None:
        found = over_all_rules(self.usage(("tokens", None, "1"), ("tokens", "a=x", "2"), ("emails", None, "5")))
        assert sorted(found.select("metric", "rule", "quantity").rows()) == [("emails", None, 5), ("tokens", None, 3)]

    def test_without_rules_it_is_the_same_frame(self) -> None:
        usage = self.usage(("tokens", None, "1"), ("emails", None, "5"))
        assert over_all_rules(usage) is usage

    def test_what_cannot_be_measured_stays_unknown(self) -> None:
        found = over_all_rules(self.usage(("tokens", None, "1"), ("tokens", "a=x", None)))
        assert found["quantity"].to_list() == [None]


@pytest.mark.parametrize("named", [None, "Own words"])
def test_a_rule_in_words(named: str | None) -> None:
    plain = rule(a="xy", b="z")
    assert replace(plain, name=named or plain.name).words == (named or "a x/y, b z")
