"""Rule 34 through the steps of a month: each rule of a tariff by dimension rates its own part of the usage."""

import io
import json
import re
import shutil
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
import yaml

from billing.ingest import scan_events
from billing.month.business import Business
from billing.month.steps import event_months
from billing.reports.explain import explain_document
from billing.reports.preview import preview_month
from billing.reports.preview_causes import record_given
from tests.account_pages import next_bills, write_portal_pages
from tests.billing.month.token_business import CATALOGUE, TokenBusiness
from tests.by_steps import bill_by_steps, rows
from tests.landing import event
from tests.sizes import sized

OUTPUT = "model=large,kind=output|cached"
NUMBERS = "model=4|true"
FREE = "Free of charge"

Charge = tuple[str | None, str, str]


def used_by(landing: TokenBusiness) -> None:
    """An account for each case; every one of them bought starter unless said otherwise."""
    landing.customer("m08")
    landing.use_tokens("m08", 5000, model="large")
    landing.use_tokens("m08", 2500, model="small")
    landing.customer("within")
    landing.use_tokens("within", 1000)
    landing.customer("over")
    landing.use_tokens("over", 1001)
    landing.customer("specific")
    for number in (100, 1, 0):
        landing.use_tokens("specific", number, model="large", kind="output")
    landing.use_tokens("specific", 1099, model="large", kind="cached")
    landing.use_tokens("specific", 3, model="large", kind="input")
    landing.use_tokens("specific", 4, model="large")
    landing.use_tokens("specific", 5, kind="output")
    landing.customer("allowed")
    landing.use_tokens("allowed", 100, model="large", kind="output")
    landing.customer("least")
    landing.use_tokens("least", 1, model=4)
    landing.customer("most")
    landing.use_tokens("most", 30, model=4)
    landing.use_tokens("most", 30, model=True)
    landing.customer("texts")
    for model in ("Large", "large ", "LARGE", "4.0", "True", None, "", ["large"]):
        landing.use_tokens("texts", 1, model=model)
    landing.customer("free")
    landing.use_tokens("free", 10**9, model="gift")
    landing.use_tokens("free", 5, model=4, kind="FREE")
    landing.customer("agreed")
    landing.use_tokens("agreed", 3, kind="x", model="large")
    landing.customer("growing", "growing")
    landing.use_tokens("growing", 80, model="large")
    landing.use_tokens("growing", 80, model="small")
    landing.customer("later", on="2026-01-26")
    landing.use_tokens("later", 5, model="small", on="2026-01-28")
    landing.use_tokens("later", 5000, model="large", on="2026-01-28")
    landing.customer("twice")
    row = event("again", "twice", "llm.used", {"tokens": 7, "model": "large"}, "2026-01-20T12:00:00Z")
    landing.deliver([row, row, row], "2026-01-20")
    landing.customer("files")
    columns = "id,source,type,subject,time,value,data.model,data.tokens"
    text = "c-1,/a,llm.used,files,2026-01-20T12:00:00Z,,large,2000"
    landing.deliver([columns, text], "2026-01-20", "usage.csv")
    frame = pl.DataFrame({"id": ["p-1"], "source": "/a", "type": "llm.used", "subject": "files", "value": [300]})
    content = io.BytesIO()
    frame.with_columns(
        pl.lit("2026-01-20T12:00:00Z").alias("time"),
        pl.lit(4).alias("data.model"),
        pl.col("value").alias("data.tokens"),
    ).write_parquet(content)
    (landing.folder / "usage/2026-01-20/usage.parquet").write_bytes(content.getvalue())
    landing.customer("none")


@pytest.fixture(scope="module")
def billed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Business]:
    landing = TokenBusiness(tmp_path_factory.mktemp("by-dimension"))
    used_by(landing)
    business = bill_by_steps(landing.root, "2026-02", "2026-02-26")
    yield business
    business.register.close()


def charged(business: Business, account: str, metric: str = "tokens") -> list[Charge]:
    """rule, quantity and amount of every rule that has usage or costs something."""
    found = rows(business, "charges", "rule", "quantity", "amount", account_id=account, metric=metric)
    return [each for each in found if Decimal(each[1])]


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        ("m08", [(None, "2500.00", "2.00"), ("model=large", "5000.00", "10.00")]),
        ("within", [(None, "1000.00", "0.00")]),
        ("over", [(None, "1001.00", "1.00")]),
        # 1,200 - 100 of output and cached reach the second tier: 1,100 x 0.005.
        ("specific", [(None, "5.00", "0.00"), ("model=large", "7.00", "0.01"), (OUTPUT, "1200.00", "5.50")]),
        ("allowed", [(OUTPUT, "100.00", "0.00")]),
        ("least", [(NUMBERS, "1.00", "2.00")]),
        ("most", [(NUMBERS, "60.00", "5.00")]),
        ("texts", [(None, "8.00", "0.00")]),
        ("free", [(FREE, "1000000000.00", "0.00"), (NUMBERS, "5.00", "2.00")]),
        ("agreed", [("kind=x", "3.00", "14.00")]),
        ("growing", [(None, "80.00", "0.00"), ("model=large", "80.00", "0.00")]),
        ("later", [(None, "5000.00", "4.00"), ("model=small", "5.00", "5.00")]),
        ("files", [(NUMBERS, "300.00", "5.00"), ("model=large", "2000.00", "4.00")]),
        ("none", []),
    ],
)
def test_each_rule_rates_its_own_sum(billed: Business, account: str, expected: list[Charge]) -> None:
    assert charged(billed, account) == sorted(expected, key=lambda each: each[0] or "")


def test_the_lines_name_their_rule(billed: Business) -> None:
    lines = [
        row
        for row in rows(billed, "lines", "number", "rule", "amount", "description", metric="tokens")
        if "large" in row[3] and row[2] == "10.00"
    ]
    assert [row[1:] for row in lines] == [
        ("model=large", "10.00", "Tokens (model large) over the allowance of Starter")
    ]


def test_a_rule_that_nothing_matches_has_a_row(billed: Business) -> None:
    found = rows(billed, "usage", "metric", "rule", "quantity", "events", account_id="none")
    assert found == [
        ("calls", None, "0.00", 0),
        ("calls", "model=large", "0.00", 0),
        ("payments", None, "0.00", 0),
        ("tokens", None, "0.00", 0),
        ("tokens", FREE, "0.00", 0),
        ("tokens", NUMBERS, "0.00", 0),
        ("tokens", "model=large", "0.00", 0),
        ("tokens", OUTPUT, "0.00", 0),
    ]


def test_counted_events_are_told_apart_too(billed: Business) -> None:
    # Three of the rest are included; two of the large model, which the calls' rules know, are not.
    assert charged(billed, "m08", "calls") == [(None, "1.00", "0.00"), ("model=large", "1.00", "1.00")]
    assert charged(billed, "specific", "calls") == [(None, "1.00", "0.00"), ("model=large", "6.00", "6.00")]


def test_duplicates_are_counted_with_their_rule(billed: Business) -> None:
    found = rows(billed, "usage", "rule", "quantity", "events", "duplicates", account_id="twice", metric="tokens")
    assert [row for row in found if row[3]] == [("model=large", "7.00", 1, 2)]


def test_upgrades_look_at_the_sum_over_all_rules(billed: Business) -> None:
    found = rows(billed, "decisions", "to_package", "evidence", account_id="growing", kind="auto_upgrade")
    assert [package for package, _ in found] == ["grown"]
    assert [(row["metric"], row["quantity"], row["allowance"]) for row in found[0][1]] == [("tokens", 160, 100)]


def test_the_sum_of_the_rules_is_the_quantity_of_the_metric(billed: Business) -> None:
    events = scan_events(billed.home, event_months(billed.home, "2099-12")).collect()
    tokens = events.filter(pl.col("metric") == "tokens")
    summed = dict(tokens.group_by("account_id").agg(pl.col("value").sum()).iter_rows())
    usage = pl.DataFrame(
        rows(billed, "usage", "account_id", "quantity", metric="tokens"),
        schema=["account_id", "quantity"],
        orient="row",
    ).with_columns(pl.col("quantity").cast(pl.Decimal(38, 9)))
    used = dict(usage.group_by("account_id").agg(pl.col("quantity").sum()).iter_rows())
    assert {name: quantity for name, quantity in used.items() if quantity} == summed


def number_of(business: Business, account: str, on: date = date(2026, 2, 10)) -> str:
    ((number,),) = rows(business, "documents", "number", account_id=account, billing_date=on)
    return str(number)


def test_explain_goes_down_to_the_events_of_the_rule(billed: Business) -> None:
    found = explain_document(billed, number_of(billed, "specific"))
    lines = {entry["rule"]: entry for entry in found if entry["metric"] == "tokens"}
    assert lines.keys() == {"model=large", OUTPUT}
    assert lines[OUTPUT]["arithmetic"] == [
        "4 events add up to 1200",
        "1200 - 100 = 1100 over the allowance",
        "1100 x 0.005 = 5.5",
        "together 5.50",
    ]
    assert sorted(each["quantity"] for each in lines[OUTPUT]["events"]) == ["0", "1", "100", "1099"]
    assert [each["quantity"] for each in lines["model=large"]["events"]] == ["3", "4"]


def test_explain_everything_tells_rules_that_cost_nothing_apart(billed: Business) -> None:
    found = explain_document(billed, number_of(billed, "free"), everything=True)
    free = next(entry for entry in found if entry["rule"] == FREE)
    assert (free["kind"], free["description"]) == ("not_charged", "Tokens (Free of charge): nothing to pay")
    assert free["arithmetic"] == ["1000000000 used, unlimited in starter"]
    assert free["events_total"] == 1


def test_the_profile_shows_the_sum_and_the_next_bill_each_rule(tmp_path: Path) -> None:
    landing = TokenBusiness(tmp_path)
    landing.customer("m08")
    landing.use_tokens("m08", 5000, model="large")
    landing.use_tokens("m08", 2500, model="small")
    business = bill_by_steps(landing.root, "2026-01", "2026-01-21")
    bills = next_bills(business, date(2026, 1, 21))
    (usage,) = bills.profiles["usage"].to_list()
    tokens = usage[0]
    assert tokens["metric"] == "tokens"
    assert [tokens[name] for name in ("quantity", "allowance", "excess", "overage_amount")] == [7500, 1000, 6500, 12]
    lines = bills.lines.filter(pl.col("metric") == "tokens")
    assert lines.select("rule", "amount").rows() == [("model=large", 10), (None, 2)]
    write_portal_pages(business, bills)
    (page,) = (path for path in (landing.root / "profiles").glob("*/index.html"))
    assert "Tokens (model large)" in page.read_text()
    business.register.close()


def without_rules(text: str) -> str:
    """The catalogue as it would be without dimensions: every `by` taken out of it."""

    def plain(entry: object) -> object:
        if isinstance(entry, dict):
            return {key: plain(value) for key, value in entry.items() if key != "by"}
        return [plain(value) for value in entry] if isinstance(entry, list) else entry

    return yaml.safe_dump(plain(yaml.safe_load(text)), sort_keys=False)


ALIKE = ("acme", "fresh", "late", "moved")


def moved_in(root: Path) -> TokenBusiness:
    """A customer whose first document, of 10 January, has the usage of a cycle before the move."""
    landing = TokenBusiness(root)
    landing.customer("acme", on="2025-12-10", billed_through="2026-01-10")
    landing.use_tokens("acme", 5000, "2025-12-20", model="large")
    landing.use_tokens("acme", 2500, "2025-12-20", model="small")
    return landing


def customers(root: Path, *names: str) -> TokenBusiness:
    """Customers with the same usage; that of each is delivered in a file of its own."""
    landing = TokenBusiness(root)
    for name in names:
        landing.customer(name)
        landing.use_tokens(name, 5000, delivered=f"2026-01-{20 + ALIKE.index(name)}", model="large")
        landing.use_tokens(name, 2500, delivered=f"2026-01-{20 + ALIKE.index(name)}", model="small")
    return landing


def settled_of(business: Business, account: str, *columns: str) -> list[tuple[object, ...]]:
    """What is settled of tokens on the account's document of March."""
    number = number_of(business, account, date(2026, 3, 10))
    return rows(business, "lines", *columns, kind="prior_cycle", metric="tokens", number=number)


@pytest.fixture(scope="module")
def issued_once(tmp_path_factory: pytest.TempPathFactory) -> TokenBusiness:
    landing = customers(tmp_path_factory.mktemp("issued") / "home", *ALIKE)
    bill_by_steps(landing.root, "2026-02", "2026-02-10").register.close()
    return landing


@pytest.fixture(scope="module")
def settled(issued_once: TokenBusiness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Business]:
    """March, in which usage of accounts came late, or moved from one rule to another."""
    issued = issued_once.copied(tmp_path_factory.mktemp("settled") / "home")
    issued.use_tokens("late", 1000, on="2026-01-21", delivered="2026-02-20", model="large")
    issued.use_tokens("fresh", 101, on="2026-01-21", delivered="2026-02-20", model="large", kind="cached")
    path = issued.folder / f"usage/2026-01-{20 + ALIKE.index('moved')}/usage.jsonl"
    path.write_text(path.read_text().replace('"large"', '"small"'))
    business = bill_by_steps(issued.root, "2026-03", "2026-03-10")
    yield business
    business.register.close()


@pytest.fixture(scope="module")
def rules_changed(issued_once: TokenBusiness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Business]:
    """March, under a catalogue with another price of one rule and with a rule more."""
    issued = issued_once.copied(tmp_path_factory.mktemp("rules") / "home")
    rule = "              - {when: {model: small}, allowance: 500, model: block, size: 1000, price: '3.00'}\n"
    before = "              - {when: {model: gift}"
    text = CATALOGUE.replace('unit_price: "0.002"', 'unit_price: "0.001"').replace(before, f"{rule}{before}")
    (issued.folder / "catalogue.yaml").write_text(text)
    business = bill_by_steps(issued.root, "2026-03", "2026-03-10")
    yield business
    business.register.close()


class TestAfterIssue:
    """True-ups and corrections follow the identity of what is due: kind, metric and rule."""

    @pytest.fixture
    def landing(self, tmp_path: Path) -> TokenBusiness:
        return moved_in(tmp_path)

    @pytest.fixture
    def issued(self, issued_once: TokenBusiness, tmp_path: Path) -> TokenBusiness:
        """The first cycle of all of `ALIKE` is billed."""
        return issued_once.copied(tmp_path / "home")

    def test_late_usage_settles_its_rule_alone(self, settled: Business) -> None:
        assert settled_of(settled, "acme", "rule") == []
        assert settled_of(settled, "late", "metric", "rule", "amount", "description") == [
            (
                "tokens",
                "model=large",
                "2.00",
                "Tokens (model large) of an earlier cycle: 12.00 due, 10.00 billed before",
            )
        ]
        (line,) = [
            entry
            for entry in explain_document(settled, number_of(settled, "late", date(2026, 3, 10)))
            if (entry["kind"], entry["metric"]) == ("prior_cycle", "tokens")
        ]
        assert line["arithmetic"] == [
            "2 events add up to 6000",
            "6000 - 0 = 6000 over the allowance",
            "6000 x 0.002 = 12",
            "due now: together 12.00",
            f"billed before: 10.00 on {number_of(settled, 'late')} line 3: 5000 used, 0 included",
            "12.00 due now - 10.00 billed before = 2.00",
            "More usage of the cycle counts now than when it was billed.",
        ]
        again = bill_by_steps(settled.home.root, "2026-03", "2026-03-10")
        assert again.register.count() == settled.register.count()
        again.register.close()

    def test_a_rule_that_billed_nothing_before(self, settled: Business) -> None:
        assert settled_of(settled, "fresh", "rule", "amount") == [(OUTPUT, "0.01")]

    def test_usage_that_moves_from_one_rule_to_another(self, settled: Business) -> None:
        # 7,500 of the rest are 6,500 over: seven blocks in place of two.
        assert settled_of(settled, "moved", "rule", "amount") == [(None, "5.00"), ("model=large", "-10.00")]

    def test_preview_names_the_delivery_for_the_rule(self, issued: TokenBusiness) -> None:
        business = Business.load(issued.root, date(2026, 2, 10))
        record_given(business)
        business.register.close()
        issued.use_tokens("acme", 1000, on="2026-01-21", delivered="2026-02-20", model="large")
        business = Business.load(issued.root, date(2026, 2, 20))
        changes = preview_month(business, "2026-02").changes.filter(
            pl.col("what") == "cycle", pl.col("item").str.starts_with("Tokens")
        )
        assert changes.select("item", "old", "new").rows() == [
            ("Tokens (model large), cycle 2026-01-10 to 2026-02-10", "10.00", "12.00")
        ]
        assert changes["causes"].to_list() == [["delivery 2026-02-20/usage.jsonl is new"]]
        business.register.close()

    def test_a_price_of_one_rule_that_is_changed_afterwards(self, rules_changed: Business) -> None:
        for account in ALIKE:
            found = settled_of(rules_changed, account, "rule", "amount")
            assert [each for each in found if each[0] == "model=large"] == [("model=large", "-5.00")]

    def test_rules_that_are_added_afterwards_measure_again(self, rules_changed: Business) -> None:
        for account in ALIKE:
            found = settled_of(rules_changed, account, "rule", "amount")
            assert [each for each in found if each[0] != "model=large"] == [(None, "-2.00"), ("model=small", "6.00")]

    def test_a_catalogue_that_had_no_dimensions_before(self, landing: TokenBusiness) -> None:
        plain = without_rules(CATALOGUE)
        (landing.folder / "catalogue.yaml").write_text(plain)
        business = bill_by_steps(landing.root, "2026-01", "2026-01-10")
        assert rows(business, "lines", "rule", "amount", metric="tokens") == [(None, "7.00")]
        business.register.close()
        (landing.folder / "catalogue.yaml").write_text(CATALOGUE)
        business = bill_by_steps(landing.root, "2026-02", "2026-02-10")
        settled = rows(business, "lines", "metric", "rule", "amount", kind="prior_cycle", metric="tokens")
        assert ("tokens", None, "-5.00") in settled
        assert ("tokens", "model=large", "10.00") in settled
        business.register.close()

    def test_what_is_added_is_what_measuring_everything_finds(self, landing: TokenBusiness, tmp_path: Path) -> None:
        business = bill_by_steps(landing.root, "2026-01", "2026-01-09")
        assert rows(business, "usage", "events", metric="tokens", rule="model=large")
        business.register.close()
        for model, kind in (("large", "output"), ("large", None), ("gift", None), ("small", "x")):
            landing.use_tokens("acme", 300, on="2025-12-22", delivered="2026-01-08", model=model, kind=kind)
        one = bill_by_steps(landing.root, "2026-01", "2026-01-10")
        other = tmp_path / "other"
        shutil.copytree(landing.folder, other / "landing")
        two = bill_by_steps(other, "2026-01", "2026-01-10")
        columns = ("metric", "rule", "quantity", "events", "event_sum")
        assert rows(one, "usage", *columns) == rows(two, "usage", *columns)
        one.register.close()
        two.register.close()


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Business]:
    """Upgrades hold at once, the larger package has a rule of its own, and an add-on is sold."""
    text = CATALOGUE.replace("billing_start: 2026-01-01}", "billing_start: 2026-01-01, requested_upgrades: at_once}")
    bigger = """          tokens:
            model: block
            size: 1
            price: "0"
            by: [{when: {model: small}, allowance: 1, model: block, size: 1, price: "0.50"}]
"""
    before = "        overage: {tokens: none}\n"
    assert before in text
    text = (
        text.replace(before, f"        overage:\n{bigger}")
        + """add_ons:
  - name: more
    versions:
      - {effective_from: 2026-01-01, price: {monthly: "1.00"}, allowances: {tokens: 500}}
"""
    )
    landing = TokenBusiness(tmp_path_factory.mktemp("at-once"), text)
    landing.customer("upgraded")
    landing.use_tokens("upgraded", 3, "2026-01-15", model="small")
    landing.use_tokens("upgraded", 5000, "2026-01-15", model="large")
    landing.request("upgraded", "upgrade", "2026-01-20T10:00:00Z", "self_service", package="grown")
    landing.customer("more", add_ons={"more": 2})  # type: ignore[arg-type]
    landing.use_tokens("more", 2001, "2026-01-15", model="small")
    landing.use_tokens("more", 10, "2026-01-15", model="large")
    business = bill_by_steps(landing.root, "2026-02", "2026-02-10")
    yield business
    business.register.close()


def test_an_upgrade_at_once_rates_the_whole_cycle_by_the_rules_of_the_new_package(at_once: Business) -> None:
    assert charged(at_once, "upgraded") == [(None, "5000.00", "0.00"), ("model=small", "3.00", "1.00")]
    assert rows(at_once, "charges", "package", account_id="upgraded", metric="tokens")[0] == ("grown",)


def test_add_ons_add_to_what_no_rule_matches(at_once: Business) -> None:
    found = rows(at_once, "charges", "rule", "allowance", "amount", account_id="more", metric="tokens")
    assert [each for each in found if each[0] in (None, "model=large")] == [
        (None, "2000.00", "1.00"),
        ("model=large", "0.00", "0.02"),
    ]


def test_the_page_tells_the_rule(billed: Business) -> None:
    number = number_of(billed, "m08")
    content = json.loads(dict(billed.register.contents([number]))[number])
    titles = [(line.get("rule"), line["metric_title"]) for line in content["lines"] if line["metric"] == "tokens"]
    assert titles == [(None, "Tokens"), ("model=large", "Tokens (model large)")]
    named = [entry["metric_title"] for entry in content["usage"] if entry["metric"] == "tokens"]
    assert named[0] == "Tokens"
    assert "Tokens (model large, kind output/cached)" in named


def test_shards_measure_and_bill_the_same(billed: Business, tmp_path: Path) -> None:
    shutil.copytree(billed.home.landing, tmp_path / "landing")
    divided = bill_by_steps(tmp_path, "2026-02", "2026-02-26", shards=sized(usual=2, long=3))
    for table, columns in (
        ("usage", ("account_id", "metric", "rule", "quantity", "events", "duplicates")),
        ("charges", ("account_id", "metric", "rule", "amount")),
        ("lines", ("number", "line", "metric", "rule", "amount", "description")),
    ):
        assert rows(divided, table, *columns) == rows(billed, table, *columns)
    divided.register.close()


def test_rules_and_percentages_in_another_currency(tmp_path: Path) -> None:
    amounts = re.compile(r'\b(price|unit_price|per_event|minimum|maximum|monthly): "([0-9.]+)"')
    text = amounts.sub(
        lambda found: f'{found[1]}: {{USD: "{found[2]}", EUR: "{Decimal(found[2]) * Decimal("1.5")}"}}', CATALOGUE
    )
    landing = TokenBusiness(tmp_path, text)
    header, *_ = (landing.folder / "accounts.csv").read_text().splitlines()
    (landing.folder / "accounts.csv").write_text(f"{header},currency\n")
    for name, currency in (("usd", "USD"), ("eur", "EUR")):
        with (landing.folder / "accounts.csv").open("a") as file:
            file.write(f"{name},{name},billing@example.com,1 Example Street,,Springfield,,0,US,,,,{currency}\n")
        landing.request(name, "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter")
        landing.use_tokens(name, 5000, model="large")
        landing.use_tokens(name, 2500, model="small")
        landing.take(name, "100.00")
    business = bill_by_steps(landing.root, "2026-02", "2026-02-10")
    for name, amount, event_amount in (("usd", ("2.00", "10.00"), "3.20"), ("eur", ("3.00", "15.00"), "3.35")):
        assert [each[2] for each in charged(business, name)] == list(amount)
        assert [each[2] for each in charged(business, name, "payments")] == [event_amount]
    business.register.close()
