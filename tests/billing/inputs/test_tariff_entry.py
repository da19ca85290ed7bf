"""Tariffs by dimension and percentage tariffs in the catalogue: what is read, and what is refused and why (rule 34)."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from billing.inputs.catalogue_file import load_catalogue
from billing.model.catalogue import Catalogue, DimensionRule, Tariff, rule_words
from billing.model.errors import RefusedError
from billing.rules.dimensions import RuleBook

Read = Callable[[str], Catalogue]

TOKENS = "tokens: {event: llm.used, kind: counter, measure: sum, value: data.tokens, by: BY}"
BY = "{model: data.model, kind: data.kind}"
OPEN = 'tiers: [{up_to: null, unit_price: "0.002"}]'
BLOCK = 'model: block, size: 1000, price: "1.00"'


def catalogue(rules: str, by: str = BY, more: str = "") -> str:
    return f"""\
currency: USD
seller: {{name: Example, address: ["1 Example Street"], country: US}}
metrics:
  {TOKENS.replace("BY", by)}
  users: {{event: users.changed, kind: gauge, value: data.delta, carries: delta}}
packages:
  - name: basic
    rank: 1
    versions:
      - effective_from: 2026-01-01
        price: {{monthly: "99.00"}}
        allowances: {{tokens: 1000, users: null}}
        overage:
          tokens: {{{BLOCK}, by: {rules}}}
{more}
"""


@pytest.fixture
def read(catalogue_file: Callable[[str], Path]) -> Read:
    return lambda text: load_catalogue(catalogue_file(text))


def refused(read: Read, text: str) -> str:
    with pytest.raises(RefusedError) as error:
        read(text)
    return " | ".join(f"{each.place}: {each.found} -> {each.expected}" for each in error.value.problems)


def rules_of(found: Catalogue) -> tuple[DimensionRule, ...]:
    tariff = found.packages[0].versions[0].overage["tokens"]
    assert tariff is not None
    return tariff.by


class TestRead:
    def test_a_rule_has_its_own_allowance_and_tariff(self, read: Read) -> None:
        text = f"[{{when: {{model: large, kind: [output, cached]}}, model: graduated, {OPEN}, minimum: '1.00'}}]"
        (rule,) = rules_of(read(catalogue(text)))
        assert rule.name == "model=large,kind=output|cached"
        assert rule.when == (("model", ("large",)), ("kind", ("output", "cached")))
        assert (rule.allowance, rule.tariff and rule.tariff.minimum) == (Decimal(0), Decimal("1.00"))
        assert rule.words == "model large, kind output/cached"

    def test_a_tariff_may_stand_under_a_key_of_its_own(self, read: Read) -> None:
        inline = rules_of(read(catalogue(f"[{{when: {{model: large}}, {BLOCK}}}]")))
        assert rules_of(read(catalogue(f"[{{when: {{model: large}}, tariff: {{{BLOCK}}}}}]"))) == inline

    def test_allowance_may_be_unlimited_and_a_rule_free(self, read: Read) -> None:
        found = rules_of(read(catalogue("[{when: {model: a}, allowance: null, name: Free, tariff: none}]")))
        assert found == (DimensionRule("Free", (("model", ("a",)),), None, None),)
        assert found[0].words == "Free"

    def test_values_are_texts_as_they_are_written(self, read: Read) -> None:
        (rule,) = rules_of(read(catalogue(f"[{{when: {{model: [4, true, '4.50', No]}}, {BLOCK}}}]")))
        assert rule.when == (("model", ("4", "true", "4.50", "No")),)

    def test_a_metric_keeps_its_paths(self, read: Read) -> None:
        metric = read(catalogue(f"[{{when: {{model: a}}, {BLOCK}}}]")).metric("tokens")
        assert metric.by == (("model", ("data", "model")), ("kind", ("data", "kind")))

    def test_a_percentage(self, read: Read) -> None:
        text = catalogue('[{when: {model: a}, model: percentage, percent: "2.9", per_event: "0.30", free_events: 10}]')
        (rule,) = rules_of(read(text))
        expected = Tariff("percentage", percent=Decimal("2.9"), per_event=Decimal("0.30"), free_events=10)
        assert rule.tariff == expected

    def test_what_others_do_not_use_is_not_in_the_record_of_their_tariffs(self) -> None:
        plain = Tariff("block", Decimal(1), Decimal("0.50"))
        written = (
            "Tariff(model='block', size=Decimal('1'), price=Decimal('0.50'), tiers=(), minimum=None, maximum=None)"
        )
        assert repr(plain) == written
        assert "percent=" in repr(Tariff("percentage", percent=Decimal(1)))

    def test_words_of_the_rules_of_packages_and_agreements(self, read: Read) -> None:
        more = (
            "agreements: [{account_id: acme, package: basic, effective_from: 2026-02-01, overage: "
            f"{{tokens: {{{BLOCK}, by: [{{when: {{kind: x}}, {BLOCK}}}]}}}}}}]"
        )
        found = rule_words(read(catalogue(f"[{{when: {{model: a}}, {BLOCK}}}]", more=more)))
        assert found == {("tokens", "model=a"): "model a", ("tokens", "kind=x"): "kind x"}

    def test_without_rules_there_is_no_book(self, read: Read) -> None:
        text = catalogue("[]").replace(", by: []", "")
        assert RuleBook.of(read(text)) is None


class TestRefused:
    @pytest.mark.parametrize(
        ("rules", "expected"),
        [
            (f"[{{when: {{region: a}}, {BLOCK}}}]", "the unknown dimension region"),
            (f"[{{when: {{}}, {BLOCK}}}]", "at least one of the dimensions model, kind"),
            (f"[{{{BLOCK}}}]", "a key `when`"),
            (f"[{{when: {{model: []}}, {BLOCK}}}]", "at least one value"),
            (f"[{{when: {{model: null}}, {BLOCK}}}]", "null -> a text"),
            (f"[{{when: {{model: ''}}, {BLOCK}}}]", "a text"),
            ("[{when: {model: a}}]", "a key `size`"),
            ("[{when: {model: a}, tariff: {model: stairs}}]", "one of: block, graduated"),
            (f"[{{when: {{model: a}}, tariff: {{{BLOCK}}}, size: 3}}]", "the unknown key size"),
            (f"[{{when: {{model: a}}, {BLOCK}, by: []}}]", "the unknown key by"),
            (f"[{{when: {{model: a}}, {BLOCK}, allowance: '-1'}}]", "a quantity from 0"),
            ("[]", "at least one rule"),
            (f"[{{when: {{model: a}}, {BLOCK}}}, {{when: {{kind: b}}, {BLOCK}, name: model=a}}]", "a name of its own"),
            ("[{when: {model: a}, model: percentage}]", "a key `percent`"),
            ("[{when: {model: a}, model: percentage, percent: '-1'}]", "a number from 0 to 10000"),
            ("[{when: {model: a}, model: percentage, percent: '0.12345678901'}]", "at most 10 decimals"),
            ("[{when: {model: a}, model: percentage, percent: '1', free_events: -1}]", "a whole number from 0"),
        ],
    )
    def test_of_a_rule(self, read: Read, rules: str, expected: str) -> None:
        assert expected in refused(read, catalogue(rules))

    def test_rules_of_a_metric_without_dimensions(self, read: Read) -> None:
        text = catalogue(f"[{{when: {{model: a}}, {BLOCK}}}]").replace(", by: {model: data.model, kind: data.kind}", "")
        assert "the metric tokens has no dimensions" in refused(read, text)

    @pytest.mark.parametrize("measure", ["unique", "max"])
    def test_dimensions_of_other_measures(self, read: Read, measure: str) -> None:
        text = catalogue("[]").replace(", by: []", "").replace("measure: sum", f"measure: {measure}")
        assert "only counters with the measure sum or count have dimensions" in refused(read, text)

    def test_dimensions_of_gauges(self, read: Read) -> None:
        text = catalogue("[]").replace(", by: []", "").replace("carries: delta", "carries: delta, by: {a: data.a}")
        assert "only counters with the measure sum or count have dimensions" in refused(read, text)

    def test_more_than_four_dimensions(self, read: Read) -> None:
        by = "{a: data.a, b: data.b, c: data.c, d: data.d, e: data.e}"
        assert "from 1 to 4 dimensions" in refused(read, catalogue(f"[{{when: {{a: x}}, {BLOCK}}}]", by))

    def test_a_percentage_of_a_level(self, read: Read) -> None:
        text = catalogue("[]").replace(", by: []", "")
        text = text.replace(
            "        overage:\n", "        overage:\n          users: {model: percentage, percent: '1'}\n"
        )
        assert "a level is no amount of money" in refused(read, text)


class TestOverlaps:
    """Rules of equal rank that match one event are refused, unless a larger rule decides."""

    ONE, OTHER = f"{{when: {{model: [a, b]}}, {BLOCK}}}", f"{{when: {{kind: [x, y]}}, {BLOCK}}}"

    def test_others_values_do_not_overlap(self, read: Read) -> None:
        rules = f"[{{when: {{model: a}}, {BLOCK}}}, {{when: {{model: b}}, {BLOCK}}}]"
        assert len(rules_of(read(catalogue(rules)))) == 2

    def test_the_same_value_twice(self, read: Read) -> None:
        rules = f"[{{when: {{model: [a, b]}}, {BLOCK}}}, {{when: {{model: [b, c]}}, {BLOCK}}}]"
        assert "which both match model: b" in refused(read, catalogue(rules))

    def test_different_dimensions(self, read: Read) -> None:
        assert "which both match model: a, kind: x" in refused(read, catalogue(f"[{self.ONE}, {self.OTHER}]"))

    def test_a_larger_rule_covers_part(self, read: Read) -> None:
        third = f"{{when: {{model: a, kind: [x, y]}}, {BLOCK}}}"
        assert "which both match model: b" in refused(read, catalogue(f"[{self.ONE}, {self.OTHER}, {third}]"))

    def test_a_larger_rule_covers_all(self, read: Read) -> None:
        third = f"{{when: {{model: [a, b], kind: [x, y, z]}}, {BLOCK}}}"
        assert len(rules_of(read(catalogue(f"[{self.ONE}, {self.OTHER}, {third}]")))) == 3

    def test_several_larger_rules_cover_it_together(self, read: Read) -> None:
        more = ", ".join(f"{{when: {{model: {model}, kind: [x, y]}}, {BLOCK}}}" for model in "ab")
        assert len(rules_of(read(catalogue(f"[{self.ONE}, {self.OTHER}, {more}]")))) == 4

    def test_a_larger_rule_of_a_further_dimension_does_not(self, read: Read) -> None:
        by = "{model: data.model, kind: data.kind, region: data.region}"
        third = f"{{when: {{model: [a, b], kind: [x, y], region: eu}}, {BLOCK}}}"
        assert "both match" in refused(read, catalogue(f"[{self.ONE}, {self.OTHER}, {third}]", by))
