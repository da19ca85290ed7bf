"""Catalogues: good ones are read as written, others refused with line, place, what was found and what was expected."""

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.inputs.catalogue_file import billing_calendar, load_catalogue
from billing.model.catalogue import Catalogue, Policy, ReminderLevel, Tariff, Tier, terms_periods
from billing.model.errors import Problem, RefusedError
from billing.rules.terms import terms_frames
from billing.starter import starter_catalogue

SMALL = """\
currency: USD
time_zone: Europe/Berlin
seller: {name: Example, address: ["1 Example Street"], country: US}
policy:
  lateness_days: 30
metrics:
  leads: {event: leads.changed, kind: gauge, value: data.delta, carries: delta}
  bandwidth: {event: bandwidth.served, kind: counter, measure: sum, value: data.bytes, unit: GB, unit_size: 1000000000}
packages:
  - name: basic
    rank: 1
    versions:
      - effective_from: 2026-01-01
        price: {monthly: "99.00", yearly: "990.00"}
        allowances: {leads: 100, bandwidth: 50}
        overage:
          bandwidth: {model: block, size: 1, price: "0.50"}
        auto_upgrade_on: [leads]
  - name: large
    rank: 2
    versions:
      - effective_from: 2026-01-01
        price: {monthly: "199.00"}
        allowances: {leads: 1000, bandwidth: null}
        overage: {leads: none}
agreements:
  - {account_id: acme, package: basic, effective_from: 2026-03-01, price: {monthly: "80.00"}}
"""
BLOCK = '{model: block, size: 1, price: "0.50"}'
OPEN = '{up_to: null, unit_price: "0.1"}'

Read = Callable[[str], Catalogue]


@pytest.fixture
def read(catalogue_file: Callable[[str], Path]) -> Read:
    return lambda text: load_catalogue(catalogue_file(text))


def problems_of(read: Read, text: str) -> tuple[Problem, ...]:
    with pytest.raises(RefusedError) as refused:
        read(text)
    assert refused.value.problems
    for problem in refused.value.problems:
        assert problem.file == "catalogue.yaml"
        assert problem.found
        assert problem.expected
    return refused.value.problems


# --- good catalogues --------------------------------------------------------------------------------------------------


def test_a_catalogue_is_read_as_it_is_written(read: Read) -> None:
    found = read(SMALL)
    assert (found.currency, found.minor_units, found.time_zone) == ("USD", 2, "Europe/Berlin")
    assert found.policy == Policy(lateness_days=30)
    leads, bandwidth = found.metrics
    assert (leads.kind, leads.measure, leads.carries, leads.value) == ("gauge", "peak", "delta", ("data", "delta"))
    assert (bandwidth.unit, bandwidth.unit_size, bandwidth.carries) == ("GB", Decimal(10**9), None)
    basic, large = found.packages
    (terms,) = basic.versions
    assert (terms.monthly, terms.yearly) == (Decimal("99.00"), Decimal("990.00"))
    assert terms.allowances == {"leads": Decimal(100), "bandwidth": Decimal(50)}
    assert terms.overage == {"bandwidth": Tariff("block", Decimal(1), Decimal("0.50"))}
    assert terms.auto_upgrade_on == ("leads",)
    assert large.versions[0].yearly is None
    assert large.versions[0].allowances["bandwidth"] is None
    assert large.versions[0].overage == {"leads": None}
    assert found.agreements[0].monthly == Decimal("80.00")
    assert (found.metric("leads"), found.package("large")) == (leads, large)


@pytest.mark.parametrize("amount", ["99.10", '"99.10"', "'99.10'"])
def test_a_decimal_keeps_its_digits_with_and_without_quotes(read: Read, amount: str) -> None:
    found = read(SMALL.replace('monthly: "99.00"', f"monthly: {amount}"))
    assert str(found.package("basic").versions[0].monthly) == "99.10"


def test_every_tariff_model_is_read(read: Read) -> None:
    tiers = '[{up_to: 10.5, unit_price: "0.003", flat: "1.00"}, {up_to: null, unit_price: "0.002"}]'
    models: tuple[Literal["graduated", "volume"], ...] = ("graduated", "volume")
    for model in models:
        tariff = f'{{model: {model}, tiers: {tiers}, minimum: "2.00", maximum: "500"}}'
        found = read(SMALL.replace(BLOCK, tariff)).package("basic").versions[0].overage["bandwidth"]
        assert found == Tariff(
            model,
            tiers=(
                Tier(Decimal("10.5"), Decimal("0.003"), Decimal("1.00")),
                Tier(None, Decimal("0.002"), Decimal(0)),
            ),
            minimum=Decimal("2.00"),
            maximum=Decimal(500),
        )
    steps = '{model: stairstep, tiers: [{up_to: 1000, flat: "5.00"}, {up_to: null, flat: "9.00"}]}'
    found = read(SMALL.replace(BLOCK, steps)).package("basic").versions[0].overage["bandwidth"]
    assert found is not None
    assert [tier.flat for tier in found.tiers] == [Decimal("5.00"), Decimal("9.00")]


def test_packages_are_ordered_by_rank_and_versions_by_date(read: Read) -> None:
    swapped = SMALL.replace("rank: 1", "rank: 3")
    assert [package.name for package in read(swapped).packages] == ["large", "basic"]


def test_the_same_bytes_have_the_same_hash_and_others_another(read: Read) -> None:
    assert read(SMALL).content_hash == read(SMALL).content_hash
    assert read(SMALL).content_hash != read(SMALL + "# a comment\n").content_hash


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "place", "found", "expected"),
    [
        ("currency: USD", "currency: DOLLARS", "currency", "'DOLLARS'", "ISO 4217"),
        ("currency: USD", "currency: XAU", "currency", "'XAU'", "with a minor unit"),
        ("currency: USD", "currency: [USD]", "currency", "a list", "a text"),
        ("Europe/Berlin", "Europe/Bonn", "time_zone", "'Europe/Bonn'", "IANA name"),
        ("Europe/Berlin", "localtime", "time_zone", "'localtime'", "IANA name"),
        ("Europe/Berlin", "../../etc/passwd", "time_zone", "'../../etc/passwd'", "IANA name"),
        ("country: US}", "country: usa}", "seller.country", "'usa'", "ISO 3166-1"),
        (
            "country: US}",
            "country: US, fax: no}",
            "seller.fax",
            "the unknown key fax",
            "one of: name, country, address",
        ),
        ("lateness_days: 30", "lateness: 30", "policy.lateness", "the unknown key lateness", "lateness_days"),
        ("lateness_days: 30", "lateness_days: -1", "policy.lateness_days", "'-1'", "a whole number from 0 to 3660"),
        ("lateness_days: 30", "lateness_days: 1.5", "policy.lateness_days", "'1.5'", "a whole number"),
        ("lateness_days: 30", "lateness_days: 9" + "9" * 5000, "policy.lateness_days", "'9", "a whole number"),
        ("lateness_days: 30", "auto_issue: maybe", "policy.auto_issue", "'maybe'", "true or false"),
        ("lateness_days: 30", "billing_anchor: last_day", "policy.billing_anchor", "'last_day'", "first_of_month"),
        ("lateness_days: 30", "first_cycle: half", "policy.first_cycle", "'half'", "one of: prorated, full"),
        ("lateness_days: 30", "hold_fee: -1", "policy.hold_fee", "'-1'", "an amount from 0"),
        ("lateness_days: 30", "hold_fee: 1e3", "policy.hold_fee", "'1e3'", "a plain decimal number"),
        ("lateness_days: 30", "billing_start: 2026-01-15", "policy.billing_start", "'2026-01-15'", "YYYY-MM-01"),
        ("lateness_days: 30", "billing_start: 2026-02-30", "policy.billing_start", "'2026-02-30'", "a date"),
        ("lateness_days: 30", "billing_start: 2026-W01-1", "policy.billing_start", "'2026-W01-1'", "a date"),
        ("lateness_days: 30", "accepted_cards: [visa, diners]", "policy.accepted_cards[1]", "'diners'", "visa"),
        ("lateness_days: 30", "accepted_cards: visa", "policy.accepted_cards", "'visa'", "a list"),
        ("kind: gauge", "kind: meter", "metrics.leads.kind", "'meter'", "one of: counter, gauge"),
        ("kind: gauge", "kind: gauge, measure: sum", "metrics.leads.measure", "'sum'", "one of: peak, last"),
        ("measure: sum", "measure: peak", "metrics.bandwidth.measure", "'peak'", "one of: sum, count"),
        ("kind: counter, measure: sum", "kind: counter", "metrics.bandwidth.measure", "none", "one of: sum, count"),
        (", carries: delta", "", "metrics.leads", "none", "a key `carries`"),
        ("carries: delta", "carries: change", "metrics.leads.carries", "'change'", "one of: delta, level"),
        ("measure: sum", "measure: sum, carries: delta", "metrics.bandwidth.carries", "'delta'", "no key `carries`"),
        ("value: data.delta", "value: data..delta", "metrics.leads.value", "'data..delta'", "a path"),
        (" value: data.bytes,", "", "metrics.bandwidth", "none", "a key `value`"),
        ("unit: GB, ", "", "metrics.bandwidth", "none", "a key `unit`"),
        ("unit_size: 1000000000", "unit_size: 0", "metrics.bandwidth.unit_size", "'0'", "a number from 1"),
        ("unit_size: 1000000000", 'unit_size: "0.001"', "metrics.bandwidth.unit_size", "'0.001'", "a number from 1"),
        ("unit_size: 1000000000", "unit_size: ten", "metrics.bandwidth.unit_size", "'ten'", "a plain decimal number"),
        ("rank: 2", "rank: first", "packages[1].rank", "'first'", "a whole number"),
        (
            '2026-01-01\n        price: {monthly: "99',
            'soon\n        price: {monthly: "99',
            "effective_from",
            "'soon'",
            "a date",
        ),
        ('monthly: "99.00", ', "", "packages[0].versions[0].price", "none", "a key `monthly`"),
        ('monthly: "99.00"', 'monthly: "99,00"', "versions[0].price.monthly", "'99,00'", "a plain decimal number"),
        ('monthly: "99.00"', 'monthly: "-99.00"', "versions[0].price.monthly", "'-99.00'", "an amount from 0"),
        ('monthly: "99.00"', "monthly: 1" + "0" * 14, "versions[0].price.monthly", "'1000", "below 10^14"),
        ('monthly: "99.00"', 'monthly: "0.0000000000001"', "versions[0].price.monthly", "'0.00", "12 decimals"),
        ('monthly: "99.00"', f'monthly: "1.{"0" * 150}1"', "versions[0].price.monthly", "'1.000", "12 decimals"),
        ('monthly: "99.00"', "monthly: null", "versions[0].price.monthly", "null", "a plain decimal number"),
        ("leads: 100,", "leads: -1,", "allowances.leads", "'-1'", "a quantity from 0"),
        ("leads: 100,", 'leads: "0.0000000001",', "allowances.leads", "'0.0000000001'", "at most 9 decimals"),
        ("leads: 100,", "leads: 1" + "0" * 18 + ",", "allowances.leads", "'1000", "below 10^18"),
        ("bandwidth: 50}", "bandwidth: 1" + "0" * 9 + "}", "allowances.bandwidth", "'1000000000'", "below 10^18 base"),
        (
            "leads: 100,",
            "leads: 100, lead: 1,",
            "allowances.lead",
            "the unknown metric lead",
            "one of: leads, bandwidth",
        ),
        ("size: 1,", "size: 0,", "overage.bandwidth.size", "'0'", "a block size above 0"),
        ("model: block", "model: blocks", "overage.bandwidth.model", "'blocks'", "one of: block, graduated"),
        (BLOCK, "free", "overage.bandwidth", "'free'", "`none`, or a tariff"),
        (BLOCK, '{model: block, price: "1"}', "overage.bandwidth", "none", "a key `size`"),
        (BLOCK, '{model: block, size: 1, price: "1", tiers: []}', "overage.bandwidth.tiers", "unknown key", "size"),
        (BLOCK, "{model: volume, tiers: []}", "overage.bandwidth.tiers", "a list", "the last, is open"),
        (
            BLOCK,
            '{model: stairstep, tiers: [{up_to: null, unit_price: "1"}]}',
            "tiers[0].unit_price",
            "the unknown key unit_price",
            "one of: up_to, flat",
        ),
        (
            BLOCK,
            '{model: block, size: 1, price: "1", minimum: "5", maximum: "4"}',
            "overage.bandwidth.minimum",
            "'5'",
            "at most the maximum, 4",
        ),
        ("auto_upgrade_on: [leads]", "auto_upgrade_on: [lead]", "auto_upgrade_on[0]", "'lead'", "one of: leads"),
        ("package: basic", "package: bronze", "agreements[0].package", "'bronze'", "one of: basic, large"),
        ("account_id: acme", "account: acme", "agreements[0].account", "the unknown key account", "account_id"),
        ("account_id: acme", "account_id: ''", "agreements[0].account_id", "''", "a text"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_its_place_what_was_found_and_what_was_expected(
    read: Read, old: str, new: str, place: str, found: str, expected: str
) -> None:
    assert old in SMALL
    text = SMALL.replace(old, new, 1)
    line = SMALL[: SMALL.index(old)].count("\n") + 1
    named = [problem for problem in problems_of(read, text) if place in problem.place]
    assert any(
        problem.place.startswith(f"line {line}, ") and found in problem.found and expected in problem.expected
        for problem in named
    ), named


def test_an_allowance_has_at_most_18_decimals_of_its_unit_however_large_the_unit(read: Read) -> None:
    terabytes = SMALL.replace("unit_size: 1000000000", "unit_size: 1000000000000")
    exact = terabytes.replace("bandwidth: 50}", f'bandwidth: "0.{"0" * 17}1"}}')
    assert read(exact).package("basic").versions[0].allowances["bandwidth"] == Decimal("1e-18")
    (problem,) = problems_of(read, terabytes.replace("bandwidth: 50}", f'bandwidth: "0.{"0" * 18}1"}}'))
    assert "18 of the unit" in problem.expected


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([10], "the last, is open"),
        ([None, 10], "the last, is open"),
        ([10, None, None], "the last, is open"),
        ([10, 10, None], "rise"),
        ([20, 10, None], "rise"),
        ([0, None], "from above 0"),
    ],
)
@pytest.mark.parametrize("model", ["graduated", "volume", "stairstep"])
def test_tiers_rise_and_the_last_one_is_open(read: Read, model: str, bounds: list[int | None], expected: str) -> None:
    price = "flat" if model == "stairstep" else "unit_price"
    tiers = ", ".join(f'{{up_to: {"null" if bound is None else bound}, {price}: "1"}}' for bound in bounds)
    text = SMALL.replace(BLOCK, f"{{model: {model}, tiers: [{tiers}]}}")
    assert [expected in problem.expected for problem in problems_of(read, text)] == [True]


def test_every_metric_stands_in_every_packages_allowances(read: Read) -> None:
    (problem,) = problems_of(read, SMALL.replace("leads: 1000, bandwidth: null", "leads: 1000"))
    assert "packages[1].versions[0].allowances" in problem.place
    assert "an allowance for the metric bandwidth" in problem.expected


def test_a_finite_allowance_with_neither_tariff_nor_trigger_must_be_declared_free(read: Read) -> None:
    (problem,) = problems_of(read, SMALL.replace("        overage: {leads: none}\n", ""))
    assert "packages[1].versions[0]" in problem.place
    assert "a tariff for leads" in problem.expected
    # what is unlimited has no excess to price
    unlimited = SMALL.replace("leads: 1000, bandwidth: null", "leads: null, bandwidth: null")
    assert read(unlimited.replace("        overage: {leads: none}\n", "")).package("large").versions[0].overage == {}


def test_an_agreement_that_ends_an_unlimited_allowance_says_what_more_costs(read: Read) -> None:
    plain = "{account_id: acme, package: large, effective_from: 2026-03-01, allowances: {bandwidth: 100}"
    line = SMALL.splitlines()[-1].strip(" -")
    (problem,) = problems_of(read, SMALL.replace(line, plain + "}"))
    assert problem.place.endswith("agreements[0]")
    assert "a tariff for bandwidth" in problem.expected
    for overage in ("none", BLOCK):
        (agreement,) = read(SMALL.replace(line, plain + f", overage: {{bandwidth: {overage}}}}}")).agreements
        assert list(agreement.overage) == ["bandwidth"]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("name: large", "name: basic", "basic more than once"),
        ("rank: 2", "rank: 1", "1 more than once"),
        ("currency: USD", "currency: USD\ncurrency: EUR", "currency twice"),
        ("leads: 100,", "leads: 100, leads: 200,", "leads twice"),
        ("metrics:\n", "metrics:\n  leads: {event: other, kind: counter, measure: count}\n", "leads twice"),
        (
            "        auto_upgrade_on: [leads]\n",
            "        auto_upgrade_on: [leads]\n"
            "      - {effective_from: 2026-01-01, price: {monthly: 1}, allowances: {leads: null, bandwidth: null}}\n",
            "2026-01-01 more than once",
        ),
        (
            "agreements:\n",
            "agreements:\n  - {account_id: acme, package: basic, effective_from: 2026-03-01}\n",
            "acme, basic, 2026-03-01 more than once",
        ),
    ],
)
def test_what_stands_twice_is_refused(read: Read, old: str, new: str, found: str) -> None:
    assert found in [problem.found for problem in problems_of(read, SMALL.replace(old, new, 1))]


def test_one_wrong_word_is_told_once(read: Read) -> None:
    words = list(re.finditer(r"[a-z_]{4,}", SMALL))
    assert len(words) > 50
    for word in words:
        text = f"{SMALL[: word.start()]}{word[0][:-2]}{word[0][-1]}{word[0][-2]}{SMALL[word.end() :]}"
        try:
            read(text)
        except RefusedError as error:
            assert len(error.problems) == 1, [str(problem) for problem in error.problems]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("kind: gauge", "kind: meter", "'meter'"),
        (BLOCK, '{model: tiered, tiers: [{up_to: null, unit_price: "1"}]}', "'tiered'"),
        (BLOCK, '{model: volume, tiers: [{up_to: many, unit_price: "1"}]}', "'many'"),
        (BLOCK, '{model: volume, steps: [{up_to: null, unit_price: "1"}]}', "the unknown key steps"),
        ("bandwidth: 50}", "bandwidth: much}", "'much'"),
        ("\nmetrics:", "\nmeasured:", "the unknown key measured"),
        ("  leads: ", "  prospects: ", "the unknown metric leads"),
    ],
)
def test_nothing_that_follows_from_a_wrong_word_is_told_as_well(read: Read, old: str, new: str, found: str) -> None:
    problems = problems_of(read, SMALL.replace(old, new, 1))
    assert found in problems[0].found
    # where a name is missing now, that is told, too
    assert all(problem.found == "none" for problem in problems[1:])
    assert len(problems) <= 2, [str(problem) for problem in problems]


@pytest.mark.parametrize("key", ["currency", "seller", "metrics", "packages"])
def test_a_catalogue_without_what_it_needs_is_refused(read: Read, key: str) -> None:
    missing = SMALL.replace(f"\n{key}:" if key != "currency" else f"{key}:", "\nunlike:")
    assert f"a key `{key}`" in [problem.expected for problem in problems_of(read, missing)]


def test_every_problem_is_named_at_once_and_each_one_once(read: Read) -> None:
    text = SMALL.replace("rank: 2", "rank: two").replace("country: US", "country: usa").replace("leads: 100,", "")
    found = problems_of(read, text)
    assert len(found) == len(set(found)) == 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# nothing\n",
        b"- a\n- list\n",
        b"currency: [USD\n",
        b"a: b: c\n",
        b"\xff\xfe\x00",
        b"currency: \x00\n",
        b"a: *unknown\n",
        b"a: &a [*a]\n",
        b"a: !!python/object:os.system x\n",
        b"a: " + b"[" * 20_000,
        b"? [a, b]\n: c\n",
        b"<<: {currency: USD}\n",
        b"--- a\n--- b\n",
    ],
    ids=lambda content: repr(content[:20]),
)
def test_what_is_no_catalogue_at_all_is_refused_and_never_fails(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "catalogue.yaml"
    path.write_bytes(content)
    with pytest.raises(RefusedError) as refused:
        load_catalogue(path)
    assert refused.value.problems


def test_a_missing_catalogue_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="overage init"):
        load_catalogue(tmp_path / "catalogue.yaml")


ODD = st.one_of(
    st.sampled_from(
        [
            *("null", "~", "[]", "{}", "true", ".inf", ".nan", "-0", "1e400", "0x10", "1_000", "2026-13-01", "٣", "''"),
            *("9" * 1_100_000, "0." + "9" * 200, "[[]]", "{a: {b: c}}", "&x y", "!!float 3", "|", "12:30:45"),
        ]
    ),
    st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.integers(0, len(SMALL.splitlines()) - 1), part=st.integers(0, 12), odd=ODD)
def test_whatever_stands_in_a_catalogue_it_is_read_or_refused_with_reasons(
    read: Read, line: int, part: int, odd: str
) -> None:
    lines = SMALL.splitlines()
    pieces = lines[line].split(": ")
    pieces[part % len(pieces)] = odd
    try:
        found = read("\n".join([*lines[:line], ": ".join(pieces), *lines[line + 1 :]]))
    except RefusedError as refused:
        assert refused.problems
    else:
        # what was read can be computed with
        assert len(terms_frames(found).packages) == len(terms_periods(found))


# --- agreements -------------------------------------------------------------------------------------------------------


def test_an_agreement_changes_what_it_names_and_later_ones_are_laid_over_it(read: Read) -> None:
    second = "  - {account_id: acme, package: basic, effective_from: 2026-05-01, allowances: {leads: null}}\n"
    found = read(SMALL + second)
    own = [period for period in terms_periods(found) if period.account_id == "acme"]
    assert [(period.since, period.until) for period in own] == [
        (date(2026, 1, 1), date(2026, 3, 1)),
        (date(2026, 3, 1), date(2026, 5, 1)),
        (date(2026, 5, 1), None),
    ]
    assert [period.terms.monthly for period in own] == [Decimal("99.00"), Decimal("80.00"), Decimal("80.00")]
    assert [period.terms.allowances["leads"] for period in own] == [Decimal(100), Decimal(100), None]
    assert [period.terms.yearly for period in own] == [Decimal("990.00")] * 3


def test_an_agreement_from_before_the_first_version_holds_from_that_version_on(read: Read) -> None:
    found = read(SMALL.replace("effective_from: 2026-03-01", "effective_from: 2025-03-01"))
    (own,) = [period for period in terms_periods(found) if period.account_id == "acme"]
    assert (own.since, own.until, own.terms.monthly) == (date(2026, 1, 1), None, Decimal("80.00"))


def test_the_starting_catalogue_is_good(read: Read) -> None:
    assert [package.name for package in read(starter_catalogue()).packages] == ["starter", "silver", "gold", "platinum"]


@pytest.mark.parametrize("written", ["2014-03-01", '"2014-03-01"', "'2014-03-01'"])
def test_the_start_of_billing_is_the_same_to_every_reader(catalogue_file: Callable[[str], Path], written: str) -> None:
    path = catalogue_file(SMALL.replace("  lateness_days: 30", f"  billing_start: {written}"))
    assert load_catalogue(path).policy.billing_start == date(2014, 3, 1)
    assert billing_calendar(path) == (date(2014, 3, 1), "Europe/Berlin")


@pytest.mark.parametrize("written", ["1969-12-01", "0001-01-01", "2100-01-01", "2014-03-02", "soon", "null"])
def test_a_start_of_billing_that_cannot_be_is_refused_and_the_calendars_are_as_without_it(
    catalogue_file: Callable[[str], Path], written: str
) -> None:
    path = catalogue_file(SMALL.replace("  lateness_days: 30", f"  billing_start: {written}"))
    with pytest.raises(RefusedError, match=r"policy\.billing_start"):
        load_catalogue(path)
    start, _ = billing_calendar(path)
    assert start in (Policy().billing_start, date(2014, 3, 1))


@pytest.mark.parametrize("text", ["", "[", "policy: []", "time_zone: Mars", "\0", "a: &a [*a]"])
def test_calendars_are_made_of_any_catalogue(catalogue_file: Callable[[str], Path], text: str) -> None:
    assert billing_calendar(catalogue_file(text)) == (Policy().billing_start, "UTC")
    assert billing_calendar(Path("nowhere")) == (Policy().billing_start, "UTC")


AGREED = "agreements:\n  - {account_id: ' acme ', package: basic, effective_from: 2026-03-01, %s}\n"


def with_agreement(text: str) -> str:
    return SMALL[: SMALL.index("agreements:")] + AGREED % text


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("price: null", ".price", "what is agreed, or no such key"),
        ("price: {}", ".price", "what is agreed, or no such key"),
        ("allowances: null", ".allowances", "what is agreed, or no such key"),
        ("allowances: {}, price: {monthly: 1}", ".allowances", "what is agreed, or no such key"),
        ("overage:", ".overage", "what is agreed, or no such key"),
        ("price: {monthly: null}", ".price.monthly", "a plain decimal number"),
        ("until: 2026-04-01", "agreements[0]", "at least one of price, allowances, overage"),
        ("until: null, price: {monthly: 1}", ".until", "a date, YYYY-MM-DD"),
        ("until: 2026-03-01, price: {monthly: 1}", ".until", "a date after effective_from, 2026-03-01"),
        ("until: 2026-02-01, price: {monthly: 1}", ".until", "a date after effective_from, 2026-03-01"),
    ],
)
def test_an_agreement_that_agrees_on_nothing_is_refused(read: Read, text: str, place: str, expected: str) -> None:
    (problem,) = problems_of(read, with_agreement(text))
    assert problem.place.endswith(place) and expected in problem.expected


def test_an_agreement_holds_until_the_day_before_it_ends(read: Read) -> None:
    catalogue = read(with_agreement("until: 2026-05-01, price: {monthly: 1}"))
    assert catalogue.agreements[0].account_id == "acme"
    theirs = [each for each in terms_periods(catalogue) if (each.account_id, each.package) == ("acme", "basic")]
    packages = [each for each in terms_periods(catalogue) if (each.account_id, each.package) == ("", "basic")]
    (listed,) = {each.terms.monthly for each in packages}
    assert [(each.since, each.until, each.terms.monthly) for each in theirs][-2:] == [
        (date(2026, 3, 1), date(2026, 5, 1), Decimal(1)),
        (date(2026, 5, 1), None, listed),
    ]


@pytest.mark.parametrize("name", ["cp1252", "latin-1", "utf-16", "shift_jis"])
def test_the_encoding_of_csv_inputs_is_named(catalogue_file: Callable[[str], Path], name: str) -> None:
    catalogue = load_catalogue(catalogue_file(starter_catalogue() + f"\nencoding: {name}\n"))
    assert catalogue.encoding == name


@pytest.mark.parametrize("name", ["windows", "rot13", "base64", "zlib", "null", "''"])
def test_what_is_no_encoding_of_text_is_refused(catalogue_file: Callable[[str], Path], name: str) -> None:
    with pytest.raises(RefusedError, match="encoding: found"):
        load_catalogue(catalogue_file(starter_catalogue() + f"\nencoding: {name}\n"))


@pytest.mark.parametrize(
    ("written", "found"), [("off", "off"), ('"off"', "off"), ("after_issue", "after_issue"), ("", "off")]
)
def test_sending_is_off_as_it_is_written(read: Read, written: str, found: str) -> None:
    policy = f"  lateness_days: 30\n  send: {written}\n" if written else "  lateness_days: 30\n"
    assert read(SMALL.replace("  lateness_days: 30\n", policy)).policy.send == found


def test_reminders_are_levels_in_the_order_of_their_days(read: Read) -> None:
    levels = '[{days: 7}, {days: 21, fee: "5.00"}, {days: 35, final: true}]'
    policy = read(SMALL.replace("lateness_days: 30", f"reminders: {levels}\n  mail_from: billing@example.com")).policy
    assert policy.reminders == (
        ReminderLevel(7),
        ReminderLevel(21, Decimal("5.00")),
        ReminderLevel(35, is_final=True),
    )
    assert policy.mail_from == "billing@example.com"


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("send: true", "policy.send"),
        ("send: on", "policy.send"),
        ("mail_from: nobody", "policy.mail_from"),
        ('mail_from: "a@b.example\\nBcc: x@y.example"', "policy.mail_from"),
        ("reminders: [{days: 0}]", "policy.reminders[0].days"),
        ("reminders: [{fee: 1}]", "policy.reminders[0]"),
        ("reminders: [{days: 7}, {days: 7}]", "policy.reminders[1].days"),
        ("reminders: [{days: 7, final: true}, {days: 9}]", "policy.reminders[1]"),
        ('reminders: [{days: 7, fee: "5.001"}]', "policy.reminders[0].fee"),
        ('reminders: [{days: 7, fee: "-5"}]', "policy.reminders[0].fee"),
        ("reminders: 7", "policy.reminders"),
    ],
)
def test_what_cannot_be_sent_is_refused(read: Read, written: str, place: str) -> None:
    assert place in problems_of(read, SMALL.replace("lateness_days: 30", written))[0].place
