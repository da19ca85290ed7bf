"""A preview says what billing would change, and why; it changes nothing, and billing then does just that."""

import json
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import polars as pl
import pytest
import yaml

from assets.progress import listening
from billing.month.business import Business
from billing.month.scratch_copy import scratch_copy
from pipeline import runs
from pipeline.definitions import defs
from tests.by_steps import bill_by_steps
from tests.long_runs import long_only
from tests.pipeline.outside import (
    Landing,
    Row,
    bill,
    bill_once,
    blank_files,
    blank_page,
    content_of,
    event,
    one,
    overage,
    show,
)
from tests.sizes import LONG

# late usage is of February: January stays as it was billed
EMAILS = "Emails, cycle 2026-01-10 to 2026-02-10"


def preview(home: Path, month: str, as_of: str, *arguments: str) -> dict[str, Any]:
    ended = overage("preview", month, "--as-of", as_of, "--format", "json", "--home", home, *arguments)
    assert ended.status == 0, ended.messages
    found: dict[str, Any] = json.loads(ended.output)
    return found


def preview_both_ways(home: Path, month: str, as_of: str) -> tuple[dict[str, Any], list[str]]:
    """What a preview prints as JSON, and what it says to a person; it is computed once."""
    with mock.patch.object(runs, "preview", cache(runs.preview)):
        found = preview(home, month, as_of)
        ended = overage("preview", month, "--as-of", as_of, "--home", home)
    assert ended.status == 0
    return found, ended.messages.splitlines()


def changes(found: dict[str, Any], account: str, what: str) -> list[Row]:
    return [
        change
        for each in found["accounts"]
        if each["account_id"] == account
        for change in each["changes"]
        if change["what"] == what
    ]


def billed_business(home: Path) -> Landing:
    """Three customers with 16,000 emails each, and a larger one with 101,000, billed up to 2026-02-15."""
    landing = Landing(home)
    for name, package, emails in (
        ("late", "starter", 16_000),
        ("other", "starter", 16_000),
        ("noted", "starter", 16_000),
        ("big", "silver", 101_000),
    ):
        landing.customer(name, package)
        landing.use(name, emails=emails)
    assert bill_once(home, "2026-02", "2026-02-15").status == 0
    return landing


@pytest.fixture
def business(tmp_path: Path) -> Landing:
    return billed_business(tmp_path)


def test_a_month_that_was_never_billed_is_previewed_without_a_trace(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("acme")
    landing.use("acme", emails=16_000)
    # usage that bills nothing keeps its account from nothing
    landing.use("acme", "2026-01-09", emails=1)
    before = content_of(tmp_path)
    told: list[tuple[str, int, int]] = []
    with listening(lambda *said: told.append(said)):
        found = preview(tmp_path, "2026-02", "2026-02-15")
    # it says how far it has come
    assert [said for said in told if said[0] == "computing months"] == [
        ("computing months", done, 2) for done in range(2)
    ]
    assert show(tmp_path, "documents") == []
    assert content_of(tmp_path) == before
    assert found["totals"]["document"] == {"changes": 2, "difference": "201.00"}
    assert [(row["item"], row["old"], row["new"]) for row in changes(found, "acme", "document")] == [
        ("INV-2026-000001 invoice", None, "99.00"),
        ("INV-2026-000002 invoice", None, "102.00"),
    ]
    assert [row["causes"] for row in changes(found, "acme", "document")] == [
        ["billing date 2026-01-10 has come"],
        ["billing date 2026-02-10 has come"],
    ]


def test_folders_of_the_lake_that_may_not_be_written_are_copied_as_folders_that_may(
    business: Landing, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    folders = [lake, *(path for path in lake.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    with scratch_copy(Business.load(tmp_path, date(2026, 2, 15), issues=False), date(2026, 2, 15)) as scratch:
        copied = [scratch.home.lake / folder.relative_to(lake) for folder in folders]
        assert {oct(folder.stat().st_mode) for folder in copied} == {"0o40700"}
    assert {oct(folder.stat().st_mode) for folder in folders} == {"0o40555"}


def test_where_nothing_moved_nothing_would_change(business: Landing, tmp_path: Path) -> None:
    before = content_of(tmp_path)
    found, told = preview_both_ways(tmp_path, "2026-02", "2026-02-15")
    assert (found["moved"], found["accounts"], found["totals"]["accounts"]) == ({}, [], 0)
    assert "nothing would change in 2026-02 or before it" in told
    assert content_of(tmp_path) == before


@pytest.fixture(scope="module")
def late_delivery(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str]]:
    """The preview of usage that was delivered late, both ways."""
    landing = billed_business(tmp_path_factory.mktemp("late"))
    landing.use("late", "2026-02-05", emails=2_000, leads=2_600, delivered="2026-02-20")
    before = content_of(landing.root)
    found = preview_both_ways(landing.root, "2026-02", "2026-02-21")
    assert content_of(landing.root) == before
    return found


def test_for_a_person_the_totals_are_told_in_words_and_with_their_currency(
    late_delivery: tuple[dict[str, Any], list[str]],
) -> None:
    _, told = late_delivery
    assert "accounts with a change: 1" in told
    assert "closed cycles whose amount due is not what was billed: 1, USD 6.00 together" in told
    assert not [words for words in told if words.startswith("documents")]


def test_a_late_delivery_is_named_with_what_it_changes(late_delivery: tuple[dict[str, Any], list[str]]) -> None:
    found, _ = late_delivery
    (account,) = found["accounts"]
    # issued 1 x 3.00, due 3 x 3.00; the package of the closed date stands whatever the leads say now
    assert (account["account_id"], account["changes"]) == (
        "late",
        [
            {
                "subscription_id": "late/2026-01-10",
                "billing_month": "2026-02",
                "billing_date": "2026-02-10",
                "what": "cycle",
                "item": EMAILS,
                "old": "3.00",
                "new": "9.00",
                "difference": "6.00",
                "causes": ["delivery 2026-02-20/usage.jsonl is new"],
            }
        ],
    )
    assert found["totals"]["cycle"] == {"changes": 1, "difference": "6.00"}


@dataclass(frozen=True)
class FromPages:
    """Two customers who were billed from the pages of Dagster; then a price is another, and one wants its fee back."""

    home: Path
    request: str
    found: dict[str, Any]


@pytest.fixture(scope="module")
def from_pages(tmp_path_factory: pytest.TempPathFactory) -> FromPages:
    landing = billed_business(tmp_path_factory.mktemp("pages"))
    for name in ("third", "leaves"):
        landing.customer(name, on="2026-02-12")
    config = {"resources": {"billing_home": {"config": {"folder": str(landing.root), "as_of": "2026-02-20"}}}}
    with (
        mock.patch("billing.month.pdf_files.render_files", blank_files),
        mock.patch("billing.reports.month_report_page.draw_page", blank_page),
        dg.DagsterInstance.ephemeral() as instance,
    ):
        job = defs.resolve_job_def("billing_month")
        job.execute_in_process(run_config=config, partition_key="2026-02", instance=instance)
    request = landing.request("leaves", "refund", "2026-02-21T10:00:00Z", reason="not needed")
    catalogue = landing.folder / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace('"99.00"', '"89.00"'))
    return FromPages(landing.root, request, preview(landing.root, "2026-02", "2026-02-21"))


def test_what_was_billed_from_the_pages_of_dagster_is_no_cause(from_pages: FromPages) -> None:
    # neither its row nor its request
    version = ["catalogue package starter, version of 2026-01-01 has changed"]
    assert causes(from_pages.found, "third") == {"Package fee, cycle 2026-02-12 to 2026-03-12": version}


@pytest.fixture(scope="module")
def learnt_late(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The preview of customers who were billed alike, and of each of whom something else is learnt afterwards.

    They moved in, and were billed for two cycles.
    """
    landing = Landing(tmp_path_factory.mktemp("learnt"))
    given, again = {}, {}
    for name in ("late", "level"):
        landing.customer(name, billed_through="2026-02-10")
        landing.use(name, emails=16_000)
    for place, name in enumerate(("repeats", "copied", "emptied", "replaced", "withdrawn", "asks")):
        landing.customer(name, billed_through="2026-02-10")
        # each has a delivery of its own
        text = event(f"used-{name}", name, "email.sent", {"count": 16_000}, "2026-01-20T12:00:00Z")
        given[name] = landing.deliver([text], f"2026-01-2{place}")
        if name in ("copied", "emptied"):
            days = ("2026-01-19", "2026-01-27")
            again[name] = [landing.deliver([text], day, f"{name}.jsonl") for day in days]
            again[name].append(landing.deliver([text.replace("16000", "19000")], "2026-01-28", f"{name}.jsonl"))
    # a file all of whose rows contradict others is told
    assert bill(landing.root, "2026-03", "2026-03-15").status == 1
    landing.deliver(given["repeats"].read_text().splitlines(), "2026-02-19", "again.jsonl")
    for name in ("repeats", "copied", "emptied"):
        landing.use(name, "2026-02-05", emails=2_000, delivered="2026-02-20")
    # its rows come too late to count
    landing.use("repeats", "2026-02-06", emails=9_000, delivered="2026-05-20")
    for path in (*again["copied"], *again["emptied"], given["emptied"], given["withdrawn"]):
        path.write_text("")
    given["replaced"].write_text(given["replaced"].read_text().replace('{"count": 16000}', '{"count": 17000}'))
    landing.request("asks", "cancel", "2026-01-12T10:00:00Z", "email")
    landing.use("late", "2026-02-05", emails=2_000, delivered="2026-03-16")
    landing.use("late", "2026-02-25", emails=17_000, domains=3, delivered="2026-03-17")
    landing.use("level", "2026-02-08", domains=3, delivered="2026-03-16")
    return preview(landing.root, "2026-03", "2026-05-21")


def test_a_delivery_that_only_repeats_is_no_cause(learnt_late: dict[str, Any]) -> None:
    row = one(changes(learnt_late, "repeats", "cycle"))
    assert (row["new"], row["causes"]) == ("9.00", ["delivery 2026-02-20/usage.jsonl is new"])


def test_a_withdrawn_delivery_that_only_repeated_is_no_cause(learnt_late: dict[str, Any]) -> None:
    # the first of the three counted, and the second counts in its place
    row = one(changes(learnt_late, "copied", "cycle"))
    assert (row["new"], row["causes"]) == ("9.00", ["delivery 2026-02-20/usage.jsonl is new"])
    # with the last of them the usage goes
    row = one(changes(learnt_late, "emptied", "cycle"))
    withdrawn = ["delivery 2026-01-19/emptied.jsonl has changed"]
    assert (row["new"], row["causes"]) == ("0.00", [*withdrawn, "delivery 2026-02-20/usage.jsonl is new"])


def test_a_replaced_delivery_and_a_withdrawn_one_are_named(learnt_late: dict[str, Any]) -> None:
    for account, day, new, difference in (("replaced", 23, "6.00", "3.00"), ("withdrawn", 24, "0.00", "-3.00")):
        row = one(changes(learnt_late, account, "cycle"))
        assert (row["old"], row["new"], row["difference"]) == ("3.00", new, difference)
        assert row["causes"] == [f"delivery 2026-01-{day}/usage.jsonl has changed"]


def test_a_new_price_is_named_with_what_it_changes(business: Landing, tmp_path: Path) -> None:
    catalogue = business.folder / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace('"99.00"', '"89.00"'))
    found = preview(tmp_path, "2026-02", "2026-02-21")
    rows = changes(found, "other", "cycle")
    assert [(row["billing_date"], row["old"], row["new"]) for row in rows] == [
        ("2026-01-10", "99.00", "89.00"),
        ("2026-02-10", "99.00", "89.00"),
    ]
    assert all(len(row["causes"]) == 1 for row in rows)
    assert rows[0]["causes"][0].startswith("catalogue package starter, version of ")
    assert found["totals"]["cycle"] == {"changes": 6, "difference": "-60.00"}


def test_what_moved_of_a_version_is_named_where_it_bears_only(business: Landing, tmp_path: Path) -> None:
    catalogue = business.folder / "catalogue.yaml"
    for name, domains in (("other", 3), ("big", 30)):
        business.use(name, "2026-01-21", domains=domains, delivered="2026-02-19")
    # starter: usage, fee and the price of emails changed; silver: the price of emails only
    text = catalogue.read_text().replace('"99.00"', '"89.00"')
    for price in ("3.00", "2.50", "2.00", "1.50", "1.00"):
        text = text.replace(f'size: 1000, price: "{price}"', f'size: 1000, price: "{price[:-1]}5"')
    later = yaml.safe_load(text)
    # another fee for one of them by an agreement, and a version that holds later only
    later["agreements"] = [
        {"account_id": "late", "package": "starter", "effective_from": date(2026, 1, 1), "price": {"monthly": "79.00"}},
        {"account_id": "late", "package": "starter", "effective_from": date(2026, 4, 1), "price": {"monthly": "1.00"}},
    ]
    versions = later["packages"][0]["versions"]
    versions.append(versions[0] | {"effective_from": date(2026, 3, 1)})
    catalogue.write_text(yaml.safe_dump(later))
    starter, silver = (f"catalogue package {name}, version of 2026-01-01 has changed" for name in ("starter", "silver"))
    domains_line, delivery = "Custom domains, cycle 2026-01-10 to 2026-02-10", "delivery 2026-02-19/usage.jsonl is new"
    fees = [f"Package fee, cycle {cycle}" for cycle in ("2026-01-10 to 2026-02-10", "2026-02-10 to 2026-03-10")]
    found = preview(tmp_path, "2026-02", "2026-02-21")
    assert causes(found, "big") == {EMAILS: [silver], domains_line: [delivery]}
    assert causes(found, "other") == {fee: [starter] for fee in fees} | {EMAILS: [starter], domains_line: [delivery]}
    agreement = "catalogue agreement of late on starter from 2026-01-01 is new"
    assert causes(found, "late") == {fee: [agreement, starter] for fee in fees} | {EMAILS: [starter]}


def test_what_an_earlier_version_remembered_of_the_catalogue_is_no_cause(business: Landing, tmp_path: Path) -> None:
    path = tmp_path / "lake" / "given.parquet"
    given = pl.read_parquet(path)
    written = pl.when(pl.col("content").str.starts_with("{") & (pl.col("kind") == "catalogue")).then(pl.lit("Terms()"))
    assert given.select(written.is_not_null().sum()).item() > 4
    given.with_columns(content=pl.coalesce(written, "content")).write_parquet(path)
    business.use("late", "2026-02-05", emails=2_000, delivered="2026-02-20")
    delivery = ["delivery 2026-02-20/usage.jsonl is new"]
    assert causes(preview(tmp_path, "2026-02", "2026-02-21"), "late") == {EMAILS: delivery}
    # nor of what is kept of it for accounts that are not settled
    assert bill(tmp_path, "2026-02", "2026-02-21").status == 0
    catalogue = business.folder / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace('"99.00"', '"89.00"'))
    found = causes(preview(tmp_path, "2026-02", "2026-02-22"), "late")
    assert found.pop(EMAILS) == delivery
    version = ["catalogue package starter, version of 2026-01-01 has changed"]
    assert list(found.values()) == [version, version]


def test_a_request_that_came_late_is_named(learnt_late: dict[str, Any]) -> None:
    # in time before 2026-02-10: no fee is due from then on, and the usage after the day of the request is not billed
    cycles = {row["item"]: (row["old"], row["new"]) for row in changes(learnt_late, "asks", "cycle")}
    assert cycles == {
        "Package fee, cycle 2026-02-10 to 2026-03-10": ("99.00", "0.00"),
        "Package fee, cycle 2026-03-10 to 2026-04-10": ("99.00", "0.00"),
        EMAILS: ("3.00", "0.00"),
    }
    decision = one(changes(learnt_late, "asks", "decision"))
    assert decision["item"].startswith("cancel request-")
    assert decision["causes"] == [f"request {decision['item'].removeprefix('cancel ')} is new"]


@long_only("test_preview_law.py bills what was previewed")
def test_billing_then_does_what_was_previewed(business: Landing, tmp_path: Path) -> None:
    business.use("late", "2026-02-05", emails=2_000, delivered="2026-02-20")
    business.use("other", "2026-02-20", emails=15_500, leads=2_501)
    found = preview(tmp_path, "2026-03", "2026-03-15")
    bill(tmp_path, "2026-03", "2026-03-15")
    documents = show(tmp_path, "documents", billing_date="2026-03-10")
    wanted = {(row["item"], row["new"]) for name in ("late", "other") for row in changes(found, name, "document")}
    assert wanted == {(f"{row['number']} {row['kind']}", row["total"]) for row in documents}
    lines = [row for row in show(tmp_path, "lines") if row["number"] in {each["number"] for each in documents}]
    assert sorted(row["new"] for name in ("late", "other") for row in changes(found, name, "line")) == sorted(
        row["amount"] for row in lines
    )
    # late: 99.00 and 6.00 of January; other: silver 199.00 and one block of 1,000 emails
    assert {row["account_id"]: row["total"] for row in documents} == {"late": "105.00", "other": "202.00"}
    settled = one([row for row in changes(found, "late", "line") if "earlier cycle" in row["item"]])
    assert settled["causes"] == ["delivery 2026-02-20/usage.jsonl is new"]
    assert preview(tmp_path, "2026-03", "2026-03-15")["accounts"] == []


def test_a_draft_of_today_stands_beside_what_would_be_issued(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("late", billed_through="2026-02-10")
    assert bill(tmp_path, "2026-02", "2026-02-01").status == 0
    landing.use("late", "2026-01-20", emails=16_000, delivered="2026-02-02")
    found = preview(tmp_path, "2026-02", "2026-02-05")
    row = one(changes(found, "late", "draft"))
    assert (row["old"], row["new"], row["difference"]) == ("99.00", "102.00", "3.00")
    assert row["causes"] == ["delivery 2026-02-02/usage.jsonl is new"]
    row = one(changes(preview(tmp_path, "2026-02", "2026-02-10"), "late", "document"))
    assert (row["old"], row["new"]) == ("99.00", "102.00")


def causes(found: dict[str, Any], account: str) -> dict[str, list[str]]:
    """The causes of every cycle of an account, by its item."""
    return {row["item"]: row["causes"] for row in changes(found, account, "cycle")}


def settling(found: dict[str, Any]) -> list[Row]:
    return [
        {"account_id": each["account_id"], **change}
        for each in found["accounts"]
        for change in each["changes"]
        if change["what"] == "line" and "earlier cycle" in change["item"]
    ]


@dataclass(frozen=True)
class Weeks:
    """A business in which one thing happens after the other, and what previews said of it.

    Attributes
    ----------
    known
        After a run that knew what came late; in a long run.
    moved
        After one account was corrected, and the rows of another were withdrawn in a run that settled nothing.
    broken
        With a catalogue that cannot bill one account.
    mended
        With the catalogue as it was, a month later.
    home
        Billed as `mended` says.
    """

    home: Path
    known: dict[str, Any]
    moved: dict[str, Any]
    broken: dict[str, Any]
    mended: dict[str, Any]


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Weeks:
    """late: its usage is withdrawn and comes back. other: used more than was known. noted: so did it, and it is
    corrected. big: parked for a while.
    """
    landing = billed_business(tmp_path_factory.mktemp("weeks"))
    home, catalogue = landing.root, landing.folder / "catalogue.yaml"
    usage = landing.folder / "usage" / "2026-01-20" / "usage.jsonl"
    delivered = usage.read_text()
    for name in ("other", "noted", "big"):
        landing.use(name, "2026-02-05", emails=2_000, delivered="2026-02-20")
    correct = ("correct", "2026-02", "--as-of", "2026-02-21", "--reason", "late", "--account", "noted", "--home", home)
    known: dict[str, Any] = {}
    if LONG:
        assert overage(*correct, "--draft").status == 0
        bill_by_steps(home, "2026-02", "2026-02-21")
        known = preview(home, "2026-02", "2026-02-21")
    assert overage(*correct).status == 0
    landing.use("noted", "2026-02-06", emails=2_000, delivered="2026-02-21")
    # the rows of one account are withdrawn, in a run that settles nothing
    usage.write_text("".join(row for row in delivered.splitlines(keepends=True) if '"late"' not in row))
    assert bill(home, "2026-02", "2026-02-21").status == 0
    moved = preview(home, "2026-02", "2026-02-21")
    usage.write_text(delivered)
    landing.use("late", "2026-02-22", emails=1)
    good = catalogue.read_text()
    before, silver = good.split("- name: silver", 1)
    catalogue.write_text(f"{before}- name: silver{silver.replace('2026-01-01', '2026-03-01', 1)}")
    broken = preview(home, "2026-02", "2026-02-23")
    assert bill(home, "2026-02", "2026-02-23").status == 1
    catalogue.write_text(good)
    landing.use("late", "2026-03-01", emails=1)
    mended = preview(home, "2026-03", "2026-03-15")
    assert bill(home, "2026-03", "2026-03-15").status == 0
    return Weeks(home, known, moved, broken, mended)


def test_a_cause_stays_known_until_its_difference_is_settled(weeks: Weeks) -> None:
    late, later = ([f"delivery 2026-02-2{day}/usage.jsonl is new"] for day in (0, 1))
    if LONG:
        assert [causes(weeks.known, account) for account in ("noted", "other")] == [{EMAILS: late}] * 2
    # of one account only: the other goes on being compared with what it was billed from
    assert [causes(weeks.moved, account) for account in ("noted", "other")] == [{EMAILS: later}, {EMAILS: late}]
    assert causes(weeks.mended, "noted") == {EMAILS: later}
    assert causes(weeks.mended, "other") == {EMAILS: late}
    settled = {row["account_id"]: row["causes"] for row in settling(weeks.mended)}
    assert settled == {"noted": later, "other": late, "big": late}
    assert not LONG or preview(weeks.home, "2026-03", "2026-03-15")["accounts"] == []
    assert not (weeks.home / "lake" / "unsettled.parquet").exists()


def test_a_delivery_is_the_cause_only_where_its_rows_moved(weeks: Weeks) -> None:
    other = {EMAILS: ["delivery 2026-02-20/usage.jsonl is new"]}
    assert causes(weeks.moved, "late") == {EMAILS: ["delivery 2026-01-20/usage.jsonl has changed"]}
    assert causes(weeks.moved, "other") == other
    # back to its value at billing it is no cause, and its record is dropped
    assert causes(weeks.broken, "late") == {}
    assert len(list((weeks.home / "lake" / "parsed_files" / "delivery_day=2026-01-20").iterdir())) == 1
    assert causes(weeks.mended, "late") == {}
    assert causes(weeks.mended, "other") == other


def test_a_cycle_names_the_delivery_of_its_own_usage(learnt_late: dict[str, Any]) -> None:
    assert causes(learnt_late, "late") == {
        EMAILS: ["delivery 2026-03-16/usage.jsonl is new"],
        "Emails, cycle 2026-02-10 to 2026-03-10": ["delivery 2026-03-17/usage.jsonl is new"],
        "Custom domains, cycle 2026-02-10 to 2026-03-10": ["delivery 2026-03-17/usage.jsonl is new"],
    }


def test_the_level_that_is_carried_in_is_a_cause_of_later_cycles(learnt_late: dict[str, Any]) -> None:
    delivery = ["delivery 2026-03-16/usage.jsonl is new"]
    assert causes(learnt_late, "level") == {
        "Custom domains, cycle 2026-01-10 to 2026-02-10": delivery,
        "Custom domains, cycle 2026-02-10 to 2026-03-10": delivery,
    }


def test_a_fee_that_a_refund_pays_back_is_no_difference(from_pages: FromPages) -> None:
    found = from_pages.found
    assert causes(found, "leaves") == {}
    assert len(causes(found, "third")) == 1
    refund = one(changes(found, "leaves", "document"))
    assert (refund["item"], refund["new"]) == ("CN-2026-000001 credit note", "-99.00")
    assert refund["causes"] == [f"request {from_pages.request} is new"]
    if not LONG:
        # test_preview_law.py bills what was previewed
        return
    bill_by_steps(from_pages.home, "2026-02", "2026-02-21")
    assert one(show(from_pages.home, "documents", kind="credit_note"))["total"] == "-99.00"
    assert changes(preview(from_pages.home, "2026-03", "2026-03-31"), "leaves", "document") == []


def test_an_account_that_is_parked_and_mended_names_the_catalogue_and_keeps_its_causes(weeks: Weeks) -> None:
    versions = [f"catalogue package silver, version of 2026-0{month}-01" for month in (1, 3)]
    broken, mended = (
        [f"{versions[0]} is {first}", f"{versions[1]} is {second}"]
        for first, second in (("gone", "new"), ("new", "gone"))
    )
    assert {tuple(row["causes"]) for row in changes(weeks.broken, "big", "parked")} == {tuple(broken)}
    assert changes(weeks.broken, "big", "cycle") == []
    assert [row["causes"] for row in changes(weeks.mended, "big", "parked")] == [mended] * 2
    packages = [row["causes"] for row in changes(weeks.mended, "big", "package")]
    assert packages == [mended, mended, ["billing date 2026-03-10 has come"]]
    assert causes(weeks.mended, "big") == {EMAILS: ["delivery 2026-02-20/usage.jsonl is new"]}
    row = one(changes(weeks.mended, "big", "document"))
    assert (row["old"], row["new"]) == (None, "203.00")
    assert one(show(weeks.home, "documents", account_id="big", billing_date="2026-03-10"))["total"] == "203.00"


def test_a_preview_may_look_back_and_name_one_account(business: Landing, tmp_path: Path) -> None:
    found = preview(tmp_path, "2026-02", "2026-02-01", "--account", "late")
    assert found["totals"]["document"] == {"changes": 0, "difference": "0.00"}
    assert {each["account_id"] for each in found["accounts"]} <= {"late"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("2026-13",), "unknown month: found '2026-13'"),
        (("2026-02", "--account", "nobody"), "unknown account: found 'nobody'"),
    ],
)
def test_what_is_unknown_is_refused(business: Landing, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    ended = overage("preview", *arguments, "--as-of", "2026-02-21", "--home", tmp_path)
    assert (ended.status, said in ended.messages) == (2, True)
