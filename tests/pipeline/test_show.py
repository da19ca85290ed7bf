"""`overage show`: the tables and columns that others rely on, in three formats, as of which day."""

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import polars as pl
import pytest
import yaml

from billing.model.tables import TABLES
from billing.model.text import counted
from billing.reports.show import TECHNICAL
from tests.by_steps import bill_by_steps
from tests.pipeline.outside import GB, Ended, Landing, Row, bill, content_of, event, one, overage, show
from tests.sizes import LONG

# what is promised to those who read the tables; there may be more columns
PROMISED = {
    "documents": "number kind account_id subscription_id billing_month billing_date issued_on currency net tax total "
    "status corrects content_hash",
    "drafts": "kind account_id subscription_id billing_month billing_date issued_on currency net tax total corrects "
    "content_hash",
    "lines": "number line kind metric package cycle_start cycle_end quantity allowance excess billed_units unit_price "
    "amount description",
    "usage": "account_id subscription_id billing_month cycle_start cycle_end metric quantity closing_level events "
    "duplicates",
    "charges": "account_id subscription_id billing_month cycle_start cycle_end package metric quantity allowance "
    "excess billed_units amount",
    "taxes": "number name country region rate taxable amount reason",
    "decisions": "decision_id billing_month request_id account_id subscription_id kind outcome reason from_package "
    "to_package decided_on effective_on evidence flags amount expected_from expected_by",
    "packages": "account_id subscription_id billing_month billing_date closing_package opening_package status",
    "profile": "account_id as_of package status next_billing_date upcoming_amount previous_amount previous_date "
    "outstanding usage pending_change payment_history",
    "balances": "account_id currency invoiced credited paid refunded outstanding oldest_unpaid_on status",
    "rejects": "delivery_day file row reason text source id account_id metric quantity",
    "ingest": "delivery_day file bytes sha256 rows counted duplicates rejected",
    "unbilled": "account_id billing_month metric reason quantity events",
    "parked": "account_id billing_month reason detail",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two customers, one of them parked, something set aside, a payment, a tax; billed for two months, drafts left."""
    landing = Landing(tmp_path_factory.mktemp("shown"))
    landing.customer("acme")
    landing.customer("globex", "silver", "2026-01-20")
    landing.customer("parked", "bronze")
    landing.use("acme", "2026-01-09", emails=1)
    landing.use("acme", "2026-01-20", emails=16_000, leads=2_600, bytes=1_500_000_001)
    landing.use("parked", emails=1)
    landing.deliver([event("x", "nobody", "email.sent", {"count": 5}, "2026-01-20T12:00:00Z")], "2026-01-21")
    (landing.folder / "tax_rates.csv").write_text("country,region,rate,name,effective_from\nUS,,0.1,Tax,2024-01-01\n")
    landing.pay("acme", "INV-2026-000001", "108.90", "2026-01-12T08:00:00.25+01:00")
    assert bill(landing.root, "2026-02", "2026-02-15", profiles=True).status == 1, "one account is parked"
    return landing.root


def refusal(ended: Ended) -> str:
    assert (ended.status, ended.output) == (2, "")
    return ended.messages


@cache
def printed(home: Path, table: str, style: str) -> Ended:
    """What `show` prints of the home that no test of it changes."""
    return overage("show", table, "--format", style, "--home", home)


def shown(home: Path, table: str) -> list[Row]:
    ended = printed(home, table, "json")
    assert (ended.status, ended.messages) == (0, "")
    rows: list[Row] = json.loads(ended.output)
    return rows


@pytest.mark.parametrize("table", PROMISED)
def test_every_promised_table_has_its_promised_columns_and_shows_a_row(home: Path, table: str) -> None:
    rows = shown(home, table)
    assert rows, "a table nobody has seen a row of is not tested"
    assert [name for name in PROMISED[table].split() if name not in rows[0]] == []


@pytest.mark.parametrize("table", [name for name in PROMISED if name not in ("profile", "balances")])
def test_the_lake_holds_the_same_columns_in_parquet(home: Path, table: str) -> None:
    files = sorted((home / "lake" / table).rglob("*.parquet"))
    assert files
    for path in files:
        schema = pl.read_parquet_schema(path)
        assert [name for name in PROMISED[table].split() if name not in schema] == []
        assert [name for name, dtype in schema.items() if dtype.is_float()] == [], "money and quantities are decimals"


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_table_prints_in_every_format(home: Path, table: str) -> None:
    rows = shown(home, table)
    comma_separated = printed(home, table, "csv")
    assert comma_separated.status == 0
    header, *cells = csv.reader(io.StringIO(comma_separated.output))
    assert len(cells) == len(rows)
    assert header == list(TABLES[table].column_names)
    for row, cell in zip(rows, cells, strict=True):
        assert len(cell) == len(row)
    people = printed(home, table, "table")
    assert (people.status, people.messages.strip()) == (0, counted(len(rows), "row"))


@pytest.mark.parametrize("table", sorted(TABLES))
def test_a_table_for_people_breaks_no_word(home: Path, table: str) -> None:
    words = set(printed(home, table, "table").output.split())
    header, *found = csv.reader(io.StringIO(printed(home, table, "csv").output))
    lists = {name for name, dtype in TABLES[table].schema.items() if dtype.is_nested()}
    shown = [place for place, name in enumerate(header) if name not in TECHNICAL | lists]
    assert {word for row in found for place in shown for word in row[place].split()} <= words


def test_values_are_written_so_that_nothing_is_lost(home: Path) -> None:
    document = one(show(home, "documents", number="INV-2026-000003"))
    assert (document["net"], document["tax"], document["total"]) == ("202.00", "20.20", "222.20")
    assert (document["billing_date"], document["issued_on"], document["corrects"]) == ("2026-02-10", "2026-02-15", None)
    assert one(show(home, "usage", "--account", "acme", metric="bandwidth"))["quantity"] == "1.500000001"
    assert one(show(home, "taxes", number="INV-2026-000003"))["rate"] == "0.1"
    assert one(show(home, "events", "--account", "acme", metric="leads"))["time"] == "2026-01-20T12:00:00Z"
    evidence = one(show(home, "decisions", kind="auto_upgrade"))["evidence"]
    assert evidence == [{"metric": "leads", "quantity": "2600", "allowance": "2500"}]


def test_no_number_is_a_binary_float_in_any_table(home: Path) -> None:
    def floats(value: object) -> Iterator[object]:
        if isinstance(value, float):
            yield value
        elif isinstance(value, list):
            for item in value:
                yield from floats(item)
        elif isinstance(value, dict):
            for item in value.values():
                yield from floats(item)

    assert [(table, found) for table in TABLES for found in floats(shown(home, table))] == []


def test_a_month_and_an_account_narrow_a_table_down(home: Path) -> None:
    assert {row["billing_month"] for row in show(home, "documents", "--month", "2026-01")} == {"2026-01"}
    assert {row["account_id"] for row in show(home, "documents", "--account", "globex")} == {"globex"}
    numbers = {row["number"] for row in show(home, "documents", "--account", "acme")}
    assert {row["number"] for row in show(home, "lines", "--account", "acme")} == numbers
    assert show(home, "documents", "--month", "2031-01") == []
    assert {row["delivery_day"] for row in show(home, "ingest", "--month", "2026-01")} == {
        "2026-01-09",
        "2026-01-20",
        "2026-01-21",
    }


def test_a_payment_makes_a_document_paid_and_leaves_its_content(home: Path) -> None:
    paid = one(show(home, "documents", number="INV-2026-000001"))
    assert (paid["account_id"], paid["status"]) == ("acme", "paid")
    assert {row["status"] for row in show(home, "documents") if row["number"] != "INV-2026-000001"} == {"open"}


def test_a_draft_has_no_number_and_no_status(home: Path) -> None:
    draft = one(show(home, "drafts"))
    assert (draft["account_id"], draft["billing_date"], draft["total"]) == ("globex", "2026-02-20", "218.90")
    assert not {"number", "status"} & set(draft)


def test_a_profile_is_that_of_the_last_run(home: Path) -> None:
    profile = one(show(home, "profile", "--account", "acme"))
    assert (profile["as_of"], profile["package"], profile["next_billing_date"]) == (
        "2026-02-15",
        "silver",
        "2026-03-10",
    )
    assert (profile["previous_amount"], profile["previous_date"]) == ("222.20", "2026-02-10")
    assert profile["outstanding"] == "222.20", "the first document is paid, the second is open"


def test_profiles_balances_and_drafts_can_be_had_as_of_another_day_without_being_written(home: Path) -> None:
    before = content_of(home)
    profile = one(show(home, "profile", "--account", "acme", "--as-of", "2026-01-31"))
    assert (profile["as_of"], profile["package"]) == ("2026-01-31", "starter")
    assert profile["pending_change"]["to_package"] == "silver"
    assert one(show(home, "balances", "--account", "globex", "--as-of", "2026-01-31"))["currency"] == "USD"
    assert {row["billing_date"] for row in show(home, "drafts", "--as-of", "2026-03-31")} == {
        "2026-02-20",
        "2026-03-10",
        "2026-03-20",
    }
    assert content_of(home) == before


@pytest.mark.parametrize("table", ["documents", "usage", "decisions", "rejects"])
def test_other_tables_are_refused_as_of_another_day(home: Path, table: str) -> None:
    assert "2026-01-31" in refusal(overage("show", table, "--as-of", "2026-01-31", "--home", home))
    assert overage("show", table, "--as-of", "2026-02-15", "--home", home).status == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("invoices",), ["unknown table", "'invoices'", "documents"]),
        (("documents", "--account", "nobody"), ["unknown account", "'nobody'"]),
        (("documents", "--month", "2026-13"), ["unknown month", "'2026-13'"]),
        (("documents", "--month", "January"), ["unknown month", "'January'"]),
        (("ingest", "--month", "January"), ["unknown month", "'January'"]),
        (("documents", "--month", "1926-01"), ["unknown month", "1926-01", "expected 2024-01 or later"]),
        (("ingest", "--account", "acme"), ["ingest has no rows of one account"]),
    ],
)
def test_what_is_unknown_is_refused_by_name(home: Path, arguments: tuple[str, ...], named: list[str]) -> None:
    message = refusal(overage("show", *arguments, "--home", home))
    assert [word for word in named if word not in message] == []


def test_a_format_that_is_none_is_refused(home: Path) -> None:
    assert overage("show", "documents", "--format", "xml", "--home", home).status == 2


def test_before_the_first_run_every_table_is_empty(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("acme")
    assert {table: show(landing.root, table) for table in PROMISED} == {table: [] for table in PROMISED}


def test_json_is_one_list_of_objects(home: Path) -> None:
    printed = overage("show", "documents", "--format", "json", "--home", home)
    assert isinstance(json.loads(printed.output), list)
    assert (
        json.loads(overage("show", "documents", "--month", "2031-01", "--format", "json", "--home", home).output) == []
    )


def test_a_person_reads_no_hashes(home: Path) -> None:
    printed = overage("show", "documents", "--home", home)
    assert "INV-2026-000001" in printed.output
    assert "222.20" in printed.output
    assert re.search(r"[0-9a-f]{64}", printed.output) is None


@dataclass(frozen=True)
class Told:
    """A business of which more became known, as it was then.

    Attributes
    ----------
    drafted
        After a run that learnt something and issued nothing.
    corrected
        After the correction of one account.
    settled
        After the next month was billed.
    """

    drafted: Path
    corrected: Path
    settled: Path

    def explained(self, home: Path, number: str, *options: object) -> list[Row]:
        """What `explain` says of a document as JSON."""
        ended = overage("explain", number, *options, "--format", "json", "--home", home)
        assert ended.status == 0, ended.messages
        found: list[Row] = json.loads(ended.output)
        return found

    def number(self, account: str, kind: str = "invoice", on: str = "2026-02-10") -> str:
        """Of the document of an account and a billing date."""
        return str(one(show(self.settled, "documents", account_id=account, kind=kind, billing_date=on))["number"])


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """acme: late and wrong usage. more, full: corrected, or with every metric on a line. dozen: twelve events.

    left: cancelled, and settled later. tries: for 90 days.
    """
    folder = tmp_path_factory.mktemp("told")
    landing = Landing(folder / "home")
    home, catalogue = landing.root, landing.folder / "catalogue.yaml"
    catalogue.write_text(
        catalogue.read_text().replace("leads: none", 'leads: {model: block, size: 1000, price: "1.00"}')
    )
    for name in ("acme", "more", "full", "dozen"):
        landing.customer(name)
    landing.use("acme", emails=16_000, leads=2_400, bytes=GB)
    landing.use("acme", "2026-01-05", emails=5)
    landing.deliver(
        [event("broken", "acme", "email.sent", {"count": -1}, "2026-01-20T00:00:00Z")], "2026-01-20", "b.jsonl"
    )
    for name in ("more", "full"):
        landing.use(name, emails=16_000)
    landing.use("full", leads=3_000, bytes=51 * GB, domains=2)
    landing.deliver(
        [event(f"e-{number}", "dozen", "email.sent", {"count": 2_000}, "2026-01-20T12:00:00Z") for number in range(12)],
        "2026-01-22",
    )
    for account, emails, domains, day in (
        ("backfilled", 16_000, 0, "2026-01-20"),
        ("level", 0, 2, "2026-01-20"),
        ("withdrawn", 16_000, 0, "2026-01-21"),
        ("within", 14_000, 0, "2026-01-20"),
    ):
        landing.customer(account)
        landing.use(account, day, emails=emails, domains=domains)
    landing.customer("left")
    landing.use("left", "2026-01-20", leads=2_600)
    landing.request("left", "cancel", "2026-02-15T09:00:00Z", "email")
    landing.customer("tries", trial_days=90)
    landing.request("tries", "upgrade", "2026-01-12T09:00:00Z", "self_service", package="silver")
    bill_by_steps(home, "2026-02", "2026-02-15")
    # 1,000 emails over starter's allowance
    landing.use("left", "2026-01-23", emails=16_000, delivered="2026-02-20")
    # written after the document was issued, into a day before
    landing.use("backfilled", "2026-01-25", emails=2_000, delivered="2026-02-14")
    landing.use("level", "2026-01-25", domains=2, delivered="2026-02-14")
    landing.use("within", "2026-01-25", emails=500, delivered="2026-02-20")
    for name in ("acme", "more"):
        landing.use(name, "2026-01-25", emails=2_000, delivered="2026-02-20")
    (landing.folder / "usage" / "2026-01-21" / "usage.jsonl").write_text("")
    bill_by_steps(home, "2026-02", "2026-02-20", issues=False)
    drafted = shutil.copytree(home, folder / "drafted")
    how = ("--reason", "late", "--as-of", "2026-02-21", "--account", "more", "--home", home)
    assert overage("correct", "2026-02", *how).status == 0
    corrected = shutil.copytree(home, folder / "corrected")
    bill_by_steps(home, "2026-03", "2026-03-15")
    return Told(drafted, corrected, home)


def test_explain_all_says_why_the_rest_costs_nothing_and_where_late_and_rejected_usage_went(told: Told) -> None:
    number = told.number("acme")
    found = told.explained(told.settled, number, "--all")
    assert [entry["line"] for entry in found[:2]] == [1, 2]
    rest = {(entry["kind"], entry["metric"]): entry for entry in found[2:]}
    assert {key: entry["arithmetic"] for key, entry in rest.items()} == {
        ("not_charged", "bandwidth"): ["1 GB used of 50 GB included in starter: not over the allowance"],
        ("not_charged", "custom_domains"): ["0 used of 1 included in starter: not over the allowance"],
        ("not_charged", "leads"): ["2400 used of 2500 included in starter: not over the allowance"],
        # 16,000 + 2,000: 3 blocks instead of 1
        ("late", "emails"): [f"settled by {told.number('acme', on='2026-03-10')} line 2: 6.00"],
        ("unbilled", "emails"): ["2026-01: 5 in 1 event bill nothing: before_start"],
        ("set_aside", None): ["1 row: impossible_value"],
    }
    (late,) = rest["late", "emails"]["events"]
    assert (late["delivery_day"], late["quantity"]) == ("2026-02-20", "2000")
    (set_aside,) = rest["set_aside", None]["events"]
    assert (set_aside["file"], set_aside["row"], set_aside["id"]) == ("b.jsonl", 1, "broken")
    # without --all: the lines, and nothing but the lines
    assert [entry["line"] for entry in told.explained(told.settled, number)] == [1, 2]


def test_explain_refers_to_all_only_where_it_adds_something(told: Told) -> None:
    def refers(account: str, kind: str, billing_date: str, home: Path = told.corrected) -> bool:
        number = told.number(account, kind, billing_date)
        ended = overage("explain", number, "--home", home)
        assert ended.output.startswith(number)
        is_more = any(entry["line"] is None for entry in told.explained(home, number, "--all"))
        assert ("--all" in ended.messages) == is_more, (number, ended.messages)
        return is_more

    assert refers("more", "invoice", "2026-02-10")
    # nothing was used before the first fee, a note has no cycle of its own, and every metric is on a line
    assert not refers("more", "invoice", "2026-01-10")
    assert not refers("more", "debit_note", "2026-02-10")
    assert not refers("full", "invoice", "2026-02-10")


def test_explain_counts_the_events_that_it_does_not_print(told: Told) -> None:
    words = ("explain", told.number("dozen"), "--line", "2", "--home", told.settled)
    for options, more in (
        ((), "and 2 more: --format json lists them"),
        (("--events", "11"), "and 2 more: --format json --events 12 lists them"),
        (("--events", "3"), "and 9 more: --format json --events 12 lists them"),
        (("--events", "0"), "and 12 more: --format json --events 12 lists them"),
    ):
        printed = overage(*words, *options).output.splitlines()
        assert printed[-1].strip() == more
        assert sum("e-" in line for line in printed) == 12 - int(more.split()[1])


def test_verify_names_the_months_whose_tables_it_does_not_compute_again(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("acme")
    landing.use("acme", emails=5)
    bill(tmp_path, "2026-01", "2026-01-31", profiles=True)
    assert not LONG or "its tables" not in overage("verify", "--home", tmp_path).messages
    landing.customer("globex", "silver", "2026-01-20")
    ended = overage("verify", "--home", tmp_path)
    assert ended.status == 0
    assert re.search(r"2026-01: its tables were not computed again \(moved since: [a-z, ]*requests", ended.messages)


def test_a_line_of_a_metric_that_was_removed_is_explained(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("acme")
    landing.use("acme", emails=16_000)
    bill_by_steps(tmp_path, "2026-02", "2026-02-15")
    path = landing.folder / "catalogue.yaml"
    catalogue = yaml.safe_load(path.read_text())
    del catalogue["metrics"]["emails"]
    for terms in [version for package in catalogue["packages"] for version in package["versions"]]:
        del terms["allowances"]["emails"]
        terms["overage"].pop("emails", None)
    path.write_text(yaml.safe_dump(catalogue, default_flow_style=None))
    ended = overage("explain", "INV-2026-000002", "--all", "--format", "json", "--home", tmp_path)
    assert ended.status == 0, ended.messages
    (line,) = [each for each in json.loads(ended.output) if each["metric"] == "emails"]
    assert line["arithmetic"] == [
        "the catalogue has no such metric any more: its events are not known now",
        "16000 - 15000 = 1000 over the allowance",
        "1 started block of 1000",
        "1 x 3.00 = 3.00",
    ]
    # what was billed for it is given back, and the line says why
    bill_by_steps(tmp_path, "2026-03", "2026-03-15")
    ended = overage("explain", "INV-2026-000003", "--line", "2", "--format", "json", "--home", tmp_path)
    assert one(json.loads(ended.output))["arithmetic"][-2:] == [
        "0.00 due now - 3.00 billed before = -3.00",
        "The catalogue in force has no emails any more: nothing is due for it.",
    ]


def test_explain_all_says_what_became_of_a_fee_that_was_issued(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    for name in ("acme", "paid-back"):
        landing.customer(name)
    bill_by_steps(tmp_path, "2026-01", "2026-01-15")
    numbers = {row["account_id"]: row["number"] for row in show(tmp_path, "documents")}

    def late(account: str, number: str | None = None) -> list[list[str]]:
        ended = overage("explain", number or numbers[account], "--all", "--format", "json", "--home", tmp_path)
        found = [each for each in json.loads(ended.output) if each["kind"] == "late"]
        assert not [each for each in found if (each["line"], each["cycle_start"]) != (None, "2026-01-10")]
        return [[each["description"], *each["arithmetic"]] for each in found]

    assert late("acme") == []
    landing.request("paid-back", "refund", "2026-01-20T10:00:00Z", reason="not needed")
    catalogue = landing.folder / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace('"99.00"', '"89.00"'))
    bill_by_steps(tmp_path, "2026-01", "2026-01-21")
    since = f"after {numbers['acme']} was issued"
    assert late("acme") == [[f"Package fee: due {since}", "settled by no document yet: -10.00, see `overage preview`"]]
    credit = one(show(tmp_path, "documents", account_id="paid-back", kind="credit_note"))["number"]
    assert late("paid-back") == [
        [f"Package fee: settled after {numbers['paid-back']} was issued", f"paid back by {credit} line 1: -99.00"]
    ]
    bill_by_steps(tmp_path, "2026-02", "2026-02-15")
    second = one(show(tmp_path, "documents", account_id="acme", billing_date="2026-02-10"))["number"]
    assert late("acme") == [[f"Package fee: settled {since}", f"settled by {second} line 2: -10.00"]]
    assert late("acme", second) == late("acme", credit) == []


def test_explain_does_not_mix_what_was_known_at_issue_with_what_is_known_now(told: Told) -> None:
    def found(account: str, metric: str) -> dict[str, list[str]]:
        entries = told.explained(told.drafted, told.number(account), "--all")
        return {each["kind"]: each["arithmetic"] for each in entries if each["metric"] == metric}

    moved = "deliveries up to 2026-02-15, requests, or payments, have changed since: "
    backfilled = found("backfilled", "emails")
    assert backfilled["overage"][:3] == [
        "measured when this was issued: 16000",
        f"{moved}2 events add up to 18000",
        "16000 - 15000 = 1000 over the allowance",
    ]
    assert backfilled["late"] == ["settled by no document yet: 6.00, see `overage preview`"]
    assert found("level", "custom_domains")["overage"][:2] == [
        "highest level when this was issued: 2",
        f"{moved}0 carried in, 2 changes, highest level 4",
    ]
    withdrawn = found("withdrawn", "emails")
    assert withdrawn["overage"][:2] == ["measured when this was issued: 16000", f"{moved}0 events add up to 0"]
    # it stands on a line, so it is none of what costs nothing
    assert withdrawn.keys() == {"overage", "late"}
    assert withdrawn["late"] == ["settled by no document yet: -3.00, see `overage preview`"]
    assert found("within", "emails") == {
        "not_charged": ["14000 used of 15000 included in starter: not over the allowance"],
        "late": ["it changes no amount"],
    }


@pytest.fixture(scope="module")
def profiles_later(told: Told) -> dict[str, Row]:
    """Of the day after the last run, by account."""
    return {row["account_id"]: row for row in show(told.settled, "profile", "--as-of", "2026-03-16")}


def test_a_cancelled_account_that_was_settled_later_shows_the_package_it_had_last(
    told: Told, profiles_later: dict[str, Row]
) -> None:
    # on what would have been the next billing date
    document = one(show(told.settled, "documents", account_id="left", billing_date="2026-03-10"))
    assert document["total"] == "3.00"
    profile = profiles_later["left"]
    assert (profile["package"], profile["status"], profile["next_billing_date"]) == ("silver", "cancelled", None)


def test_the_profile_of_a_long_trial_says_when_it_ends_and_what_it_costs_then(profiles_later: dict[str, Row]) -> None:
    profile = profiles_later["tries"]
    # 22 days of January, 28 of February, 31 of March and 9 of April
    assert (profile["status"], profile["package"], profile["next_billing_date"]) == ("trial", "starter", "2026-04-10")
    assert profile["upcoming_amount"] == "199.00"
    assert profile["pending_change"]["to_package"] == "silver"
