"""Deliveries that are gone are noticed, and what was measured from them is not given back (rule 22)."""

import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from billing.model.errors import InterruptedRunError
from billing.month.business import Business
from billing.month.lost_deliveries import lost_deliveries
from billing.reports.verify import disagreements
from tests.by_steps import bill_by_steps, rows
from tests.pipeline.outside import Landing, bill, overage
from tests.postgresql import Server
from tests.sizes import LONG, sized

Billed = tuple[Landing, str | None]
"""A home, and the URL of its register; None: in the home."""
WHERE_IT_MATTERS_LESS = sized(["sqlite"], ["sqlite", "postgresql"])


@pytest.fixture(scope="module")
def in_home(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    """January and February are billed with overages of January."""
    return two_months(tmp_path_factory.mktemp("in-home") / "home", None)


@pytest.fixture(scope="module")
def on_server(tmp_path_factory: pytest.TempPathFactory, postgresql: Server) -> tuple[Landing, str]:
    """The same with the register on a server."""
    register = postgresql.new_database()
    return two_months(tmp_path_factory.mktemp("on-server") / "home", register), register


def two_months(home: Path, register: str | None) -> Landing:
    landing = Landing(home)
    landing.customer("acme")
    landing.use("acme", "2026-01-20", emails=18_000, leads=2_000)
    landing.use("acme", "2026-01-25", bytes=51 * 10**9)
    landing.use("acme", "2026-02-12", emails=15_001)
    bill_by_steps(home, "2026-02", "2026-02-28", register=register).register.close()
    return landing


@pytest.fixture(params=["sqlite", "postgresql"])
def billed(request: pytest.FixtureRequest, tmp_path: Path) -> Billed:
    """A home of its own for a test, January's deliveries archived, with its register wherever it may be."""
    if request.param == "sqlite":
        return archived(request.getfixturevalue("in_home"), tmp_path), None
    prepared, register = request.getfixturevalue("on_server")
    server: Server = request.getfixturevalue("postgresql")
    return archived(prepared, tmp_path), server.copy_of(register)


@pytest.fixture
def landing(in_home: Landing, tmp_path: Path) -> Landing:
    """The same with its register in the home."""
    return archived(in_home, tmp_path)


def archived(prepared: Landing, tmp_path: Path) -> Landing:
    landing = prepared.copied(tmp_path / "home")
    for folder in (landing.folder / "usage").glob("2026-01-*"):
        folder.rename(tmp_path / folder.name)
    return landing


def restore(landing: Landing) -> None:
    for folder in landing.root.parent.glob("2026-01-*"):
        folder.rename(landing.folder / "usage" / folder.name)


@dataclass(frozen=True)
class March:
    """A business whose deliveries of January were archived before it was billed for March, and what it measured."""

    before: pl.DataFrame
    business: Business


@pytest.fixture(scope="module", params=WHERE_IT_MATTERS_LESS)
def march(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> March:
    folder, register = tmp_path_factory.mktemp("march"), None
    if request.param == "sqlite":
        landing = archived(request.getfixturevalue("in_home"), folder)
    else:
        prepared, register = request.getfixturevalue("on_server")
        server: Server = request.getfixturevalue("postgresql")
        landing, register = archived(prepared, folder), server.copy_of(register)
    before = Business.load(landing.root, date(2026, 2, 28), register).register.measured_digests()
    landing.use("acme", "2026-02-12", emails=10)
    return March(before, bill_by_steps(landing.root, "2026-03", "2026-03-31", register=register))


def test_archiving_alone_changes_nothing(march: March) -> None:
    assert lost_deliveries(march.business).is_empty()
    # 15,011 e-mails are one block over, as 15,001 were
    assert rows(march.business, "documents", "total", billing_month="2026-03") == [("102.00",)]


@pytest.mark.parametrize("billed", WHERE_IT_MATTERS_LESS, indirect=True)
def test_without_archive_and_lake_nothing_is_given_back(billed: Billed) -> None:
    landing, register = billed
    shutil.rmtree(landing.root / "lake")
    ended = bill(landing.root, "2026-03", "2026-03-31", register=register)
    assert ended.status == 1
    assert "usage/2026-01-20/usage.jsonl, usage/2026-01-25/usage.jsonl (3 rows counted)" in ended.messages
    assert "overage accept-loss --reason TEXT" in ended.messages
    business = Business.load(landing.root, date(2026, 3, 31), register)
    assert business.register.count() == 2
    assert any("2 deliveries it was measured from are neither" in words for words in disagreements(business))
    # with the archive the run goes on as if nothing had been
    restore(landing)
    business = bill_by_steps(landing.root, "2026-03", "2026-03-31", register=register)
    assert [total for (total,) in rows(business, "documents", "total")] == ["99.00", "108.50", "102.00"]


@pytest.mark.parametrize("billed", sized(["postgresql"], ["sqlite", "postgresql"]), indirect=True)
def test_an_accepted_loss_is_recorded_and_leaves_what_was_issued(billed: Billed) -> None:
    landing, register = billed
    shutil.rmtree(landing.root / "lake")
    with pytest.raises(InterruptedRunError, match="neither in landing nor in the lake"):
        bill_by_steps(landing.root, "2026-03", "2026-03-31", register=register)
    told = ["--reason", "the archive burnt", "--as-of", "2026-03-31", "--home", landing.root]
    ended = overage("accept-loss", *told, register=register)
    assert (ended.status, ended.messages.strip()) == (0, "2 files given up")
    assert "nothing is lost" in overage("accept-loss", *told, register=register).messages
    business = bill_by_steps(landing.root, "2026-03", "2026-03-31", register=register)
    assert business.register.accepted_losses()["reason"].unique().to_list() == ["the archive burnt"]
    assert rows(business, "documents", "total", billing_month="2026-03") == [("102.00",)]
    # by steps nothing is drawn
    found = disagreements(Business.load(landing.root, date(2026, 3, 31), register))
    assert [words for words in found if "the PDF of" not in words] == []


@pytest.mark.parametrize("billed", WHERE_IT_MATTERS_LESS, indirect=True)
def test_a_delivery_that_was_given_up_counts_again_when_it_is_back(billed: Billed) -> None:
    landing, register = billed
    shutil.rmtree(landing.root / "lake")
    told = ["--reason", "the archive burnt", "--as-of", "2026-03-31", "--home", landing.root]
    assert overage("accept-loss", *told, register=register).status == 0
    # what comes late of a cycle whose usage is lost in part cannot be rated
    landing.use("acme", "2026-01-21", emails=3_000, delivered="2026-03-02")
    business = bill_by_steps(landing.root, "2026-03", "2026-03-31", register=register)
    assert rows(business, "documents", "total", billing_month="2026-03") == [("102.00",)]
    restore(landing)
    business = bill_by_steps(landing.root, "2026-04", "2026-04-30", register=register)
    # 21,000 e-mails where 18,000 were billed
    assert rows(business, "documents", "total", billing_month="2026-04") == [("108.00",)]


def test_a_record_names_hash_rows_and_sums_and_is_written_once(march: March) -> None:
    digests = march.before
    assert digests["delivery_day"].to_list() == [date(2026, 1, 20), date(2026, 1, 25), date(2026, 2, 12)]
    assert digests["version"].to_list() == [1, 1, 1]
    # the last delivery has a row more since
    assert march.business.register.measured_digests()["version"].to_list() == [1, 1, 2]


LOST = "usage/2026-01-20/usage.jsonl, usage/2026-01-25/usage.jsonl (3 rows counted)"


def command(landing: Landing, *words: str) -> tuple[int, str]:
    """The exit status of a command as of 03-01, and all that it said."""
    dated = ["--as-of", "2026-03-01"] if words[0] in ("correct", "preview", "accept-loss") else []
    ended = overage(*words, *dated, "--home", landing.root, profiles=words[0] == "correct")
    return ended.status, ended.output + ended.messages


def test_every_command_names_what_is_lost_and_a_correction_issues_nothing(landing: Landing) -> None:
    shutil.rmtree(landing.root / "lake")
    for asked in (("preview", "2026-02"), ("correct", "2026-01", "--reason", "x")):
        status, said = command(landing, *asked)
        assert (status, LOST in said, "overage accept-loss" in said) == (1, True, True), said
    status, said = command(landing, "verify")
    words = f"2 deliveries it was measured from are neither in landing nor in the lake: {LOST}"
    assert (status, words in said) == (1, True), said
    status, said = command(landing, "explain", "INV-2026-000002")
    assert (status, "measured when this was issued: 18000" in said, LOST in said) == (0, True, True), said
    assert "have changed since" not in said
    assert Business.load(landing.root, date(2026, 3, 1)).register.count() == 2


@pytest.mark.parametrize("is_found_again", sized([False], [False, True]))
def test_a_correction_goes_on_without_what_was_given_up_and_with_the_archive(
    landing: Landing, is_found_again: bool
) -> None:
    shutil.rmtree(landing.root / "lake")
    landing.use("acme", "2026-01-21", emails=3_000, delivered="2026-02-20")
    if is_found_again:
        restore(landing)
    else:
        assert command(landing, "accept-loss", "--reason", "the archive burnt")[0] == 0
        if LONG:
            # the month after it is made again, too: its documents are in the journal
            status, said = command(landing, "correct", "2026-01", "--reason", "found late")
            assert (status, "nothing to correct" in said) == (0, True), said
    # 21,000 e-mails where 18,000 were billed, which only the whole archive can say
    status, said = command(landing, "correct", "2026-02", "--reason", "found late")
    assert (status, ("1 note issued" if is_found_again else "nothing to correct") in said) == (0, True), said
    business = Business.load(landing.root, date(2026, 3, 1))
    totals = sorted(total for (total,) in rows(business, "documents", "total"))
    assert totals == ["108.50", *(["9.00"] if is_found_again else []), "99.00"]
    assert command(landing, "verify") == (0, f"{landing.root}: {len(totals)} documents read again, no disagreements\n")


def test_a_lake_that_is_gone_is_not_taken_for_lost_deliveries(landing: Landing) -> None:
    restore(landing)
    shutil.rmtree(landing.root / "lake")
    status, said = command(landing, "explain", "INV-2026-000002", "--line", "2")
    words = "the lake lacks 2 delivered files, which `overage bill` reads again; of what is left 0 events add up to 0"
    assert (status, words in said) == (0, True), said
    assert "neither in landing" not in command(landing, "verify")[1]


def test_an_early_month_billed_without_the_lake_names_the_later_month_that_has_to_be_billed(
    in_home: Landing, tmp_path: Path
) -> None:
    landing = in_home.copied(tmp_path / "home")
    shutil.rmtree(landing.root / "lake")
    ended = bill(landing.root, "2026-01", "2026-02-28", profiles=True)
    assert ended.status == 1
    assert "bill 2026-02 again" in ended.messages and "billing.model" not in ended.messages, ended.messages
    assert bill(landing.root, "2026-02", "2026-02-28").messages.endswith("0 documents issued\n")
