"""Killed at any write, a command is completed by running it again: the same documents, numbers, bytes and tables."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import dagster as dg
import pytest

from billing.month.recorded_inputs.usage import RECORD
from billing.store.files import file_hash
from pipeline.definitions import defs
from tests.by_steps import bill_by_steps
from tests.pipeline import outside
from tests.pipeline.killing import EVERY, KILLS, Killer
from tests.pipeline.outside import Landing, bill, blank_files, blank_page, content_of, event, overage
from tests.postgresql import Server, register_rows
from tests.sizes import sized, spread

Command = tuple[str, ...]
BILL = ("bill", "2026-03", "--as-of", "2026-03-15")
JANUARY = ("bill", "2026-01", "--as-of", "2026-01-31")
CORRECT = ("correct", "2026-02", "--as-of", "2026-03-16", "--reason", "The mail log came late.")


def business(root: Path) -> Landing:
    """Three customers billed in February: one uses too much, one is upgraded, one is refunded."""
    landing = Landing(root)
    for name in ("acme", "grows", "leaves"):
        landing.customer(name)
    landing.use("acme", emails=16_000)
    landing.use("grows", leads=2_600)
    landing.request("leaves", "refund", "2026-01-20T10:00:00Z", reason="not needed")
    return landing


def first_bills(root: Path) -> Command:
    """Everything from nothing: several months, a refund of what the same run issues, an upgrade."""
    business(root)
    return sized(usual=("bill", "2026-02", "--as-of", "2026-02-15"), long=BILL)


def late_delivery(root: Path) -> Command:
    """Usage of a cycle that was billed: a line on the next invoice."""
    landing = business(root)
    bill_by_steps(root, "2026-02", "2026-02-15")
    deliver_late(landing)
    return BILL


def deliver_late(landing: Landing) -> None:
    landing.use("acme", "2026-01-25", emails=2_000, delivered="2026-02-20")


def everything_moves(root: Path) -> Command:
    """A delivery replaced, one emptied, another price, a cancellation and a failed payment, all learnt late."""
    landing = business(root)
    landing.customer("ends")
    landing.use("ends", emails=17_000, delivered="2026-01-21")
    landing.use("ends", "2026-02-01", bytes=60 * 10**9)
    bill_by_steps(root, "2026-02", "2026-02-15")
    first = landing.folder / "usage" / "2026-01-20" / "usage.jsonl"
    first.write_text(first.read_text().replace("16000", "19500"))
    (landing.folder / "usage" / "2026-01-21" / "usage.jsonl").write_text("")
    catalogue = landing.folder / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace('"99.00"', '"89.00"'))
    landing.request("ends", "cancel", "2026-01-25T10:00:00Z", "email")
    landing.pay("acme", "INV-2026-000001", "99.00", "2026-02-20T10:00:00Z", "failed")
    landing.use("grows", "2026-02-20", emails=1_000)
    return BILL


def what_came_back(root: Path) -> Command:
    """A row that was missing is there again, a refund is taken back, payments went back, a delivery is given up."""
    landing = business(root)
    landing.customer("returns")
    bill_by_steps(root, "2026-01", "2026-01-31")
    accounts = landing.folder / "accounts.csv"
    whole = accounts.read_text()
    accounts.write_text("".join(row for row in whole.splitlines(True) if not row.startswith("returns,")))
    bill_by_steps(root, "2026-02", "2026-02-15")
    accounts.write_text(whole)
    landing.request("leaves", "withdraw", "2026-02-20T10:00:00Z", withdraws="request-6")
    for amount, status in (("150.00", "succeeded"), ("60.00", "disputed"), ("10.00", "refunded")):
        landing.pay("acme", "INV-2026-000001", amount, "2026-02-20T10:00:00Z", status)
    sent = event("event-x", "acme", "email.sent", {"count": "15000.0000000005000001"}, "2026-02-20T12:00:00Z")
    landing.deliver([sent], "2026-02-20")
    (landing.folder / "usage" / "2026-01-20" / "usage.jsonl").unlink()
    shutil.rmtree(root / "lake")
    assert overage("accept-loss", "--reason", "burnt", "--as-of", "2026-02-20", "--home", root).status == 0
    return BILL


def roll_forward(root: Path) -> Command:
    """Months more at once, the first of them built again."""
    landing = business(root)
    bill_by_steps(root, "2026-02", "2026-02-15")
    deliver_late(landing)
    landing.request("grows", "downgrade", "2026-02-25T10:00:00Z", package="starter")
    landing.use("grows", "2026-02-24", leads=-1_000)
    last = sized(usual="2026-03", long="2026-04")
    return ("bill", "2026-02", "--through", last, "--as-of", f"{last}-20")


def reviewed_drafts(root: Path) -> Command:
    """Drafts that were reviewed are issued as they are."""
    landing = business(root)
    catalogue = landing.folder / "catalogue.yaml"
    bill_by_steps(root, "2026-02", "2026-03-01")
    catalogue.write_text(catalogue.read_text().replace("auto_issue: true", "auto_issue: false"))
    deliver_late(landing)
    ended = bill(root, "2026-03", "2026-03-15")
    (reviewed,) = re.findall(r"overage issue 2026-03 --reviewed (\S+) ", ended.messages)
    return ("issue", "2026-03", "--reviewed", str(reviewed))


def corrections(root: Path) -> Command:
    """A debit note for what was learnt late."""
    late_delivery(root)
    return CORRECT


# it is killed near the end, where these are written
WITH_REPORT = ("profiles",)
"""What is left out where the job of Dagster writes the report of the month."""
WITH_PROFILES = sized(usual={"bill what moved"}, long=None)
"""Stories that write profiles, balances, amounts to collect and the journal; None: all."""
STORIES: dict[str, Callable[[Path], Command]] = {
    # a usual run kills the first while it issues, and the other while it changes a register on a server
    **sized(usual={}, long={"bill": first_bills, "bill again": late_delivery}),
    "bill what moved": everything_moves,
    **sized(
        usual={},
        long={
            "bill what came back": what_came_back,
            "bill through": roll_forward,
            # test_reviewing.py and test_corrections.py interrupt these
            "issue": reviewed_drafts,
            "correct": corrections,
        },
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_a_command_that_is_killed_at_any_write_is_completed_by_the_next(
    tmp_path: Path, killer: Killer, story: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, kept = tmp_path / "home", tmp_path / "kept"
    arguments = (*STORIES[story](home), "--home", home)
    if WITH_PROFILES is None or story in WITH_PROFILES:
        monkeypatch.setattr(outside, "LEFT_OUT", outside.WITHOUT_REPORTS)
    done = killer.run(*arguments, kept=kept, every=EVERY, left_out=outside.LEFT_OUT)
    assert done.status == 0
    wanted = facts(home)
    places = sorted(int(path.name) for path in kept.iterdir())
    # in a usual run each story is killed at another part of its way
    part = (2 * list(STORIES).index(story) + 1) * len(places) // (2 * len(STORIES))
    for place in sized(usual=[places[part]], long=places):
        put_back(home, kept / str(place))
        ended = overage(*arguments)
        assert ended.status == 0, f"killed just before write {place}: {done.writes[place]}: {ended.messages}"
        assert facts(home) == wanted, f"killed just before write {place}: {done.writes[place]}"


@dataclass(frozen=True)
class Billed:
    """A business billed for January, as it was before, and what was kept of its home before each write."""

    start: Path
    home: Path
    kept: Path
    writes: list[str]

    @property
    def places(self) -> list[int]:
        """The writes before which the home was another than before the last one."""
        return sorted(int(path.name) for path in self.kept.iterdir())


@pytest.fixture(scope="module")
def billed(killer: Killer, tmp_path_factory: pytest.TempPathFactory) -> Billed:
    """January of the business, billed once."""
    folder = tmp_path_factory.mktemp("billed")
    start, home, kept = folder / "start", folder / "home", folder / "kept"
    business(start)
    shutil.copytree(start, home)
    done = killer.run(*JANUARY, "--home", home, kept=kept, left_out=WITH_REPORT)
    assert done.status == 0
    return Billed(start, home, kept, done.writes)


def test_a_home_that_was_kept_before_a_write_is_what_a_kill_leaves(
    tmp_path: Path, killer: Killer, billed: Billed
) -> None:
    writes, places = billed.writes, billed.places
    # inside of a transaction, and while a file is put in place
    committing = next(each for each in places if writes[each] == "commit")
    renaming = next(each for each in reversed(places) if "rename" in writes[each])
    for place in sized(usual=[committing], long=[committing, renaming]):
        home = shutil.copytree(billed.start, tmp_path / str(place))
        killed = killer.run(*JANUARY, "--home", home, kill_at=place, left_out=WITH_REPORT)
        assert killed.status is None
        assert left(home) == left(billed.kept / str(place))


def test_what_dagster_retries_of_a_run_that_was_killed_while_it_issued_is_done_to_the_end(
    tmp_path: Path, billed: Billed
) -> None:
    home, writes = shutil.copytree(billed.home, tmp_path / "home"), billed.writes
    command = (*JANUARY, "--home", home)
    wanted = facts(home)
    resources = {"billing_home": {"config": {"folder": str(home), "as_of": "2026-01-31"}}}
    # a retry begins with the step that did not end: the drafts were made before
    inserted = next(place for place, what in enumerate(writes) if what.startswith("INSERT INTO lines"))
    first, last = writes.index("commit", inserted), writes.index("os.mkdir /reports")
    places = [place for place in billed.places if first < place <= last]
    assert len(places) > 10
    for place in (places[each] for each in spread(len(places), 2 * KILLS)):
        put_back(home, billed.kept / str(place))
        with (
            mock.patch("billing.month.pdf_files.render_files", blank_files),
            mock.patch("billing.reports.month_report_page.draw_page", blank_page),
            # a process of its own has read nothing yet
            mock.patch.dict("assets.resources._loaded", clear=True),
            dg.DagsterInstance.ephemeral() as instance,
        ):
            retried = defs.resolve_job_def("issue_documents").execute_in_process(
                run_config={"resources": resources, "ops": {"documents": {"config": {"reviewed": ""}}}},
                partition_key="2026-01",
                instance=instance,
                raise_on_error=False,
            )
        assert retried.success, f"killed just before write {place}: {writes[place]}"
        with mock.patch.object(outside, "LEFT_OUT", WITH_REPORT):
            assert "2026-01: nothing moved" in overage(*command).messages
        assert facts(home) == wanted, f"killed just before write {place}: {writes[place]}"


def test_a_command_that_is_killed_while_it_changes_a_register_on_a_server_is_completed_by_the_next(
    tmp_path: Path, killer: Killer, postgresql: Server
) -> None:
    start, start_register = tmp_path / "start", postgresql.new_database()
    landing = business(start)

    def again(name: str) -> tuple[Path, str]:
        """The business as it was before the command."""
        return shutil.copytree(start, tmp_path / name), postgresql.copy_of(start_register)

    bill_by_steps(start, "2026-02", "2026-02-15", register=start_register).register.close()
    deliver_late(landing)
    home, register = again("undisturbed")
    done = killer.run(*BILL, "--home", home, register=register, left_out=outside.LEFT_OUT)
    assert done.status == 0
    wanted = facts(home, register)
    places = [place for place, what in enumerate(done.writes) if "/" not in what]
    for place in (places[each] for each in spread(len(places), KILLS)):
        home, register = again(f"killed-{place}")
        killed = killer.run(*BILL, "--home", home, kill_at=place, register=register, left_out=outside.LEFT_OUT)
        assert killed.status is None, done.writes[place]
        assert overage(*BILL, "--home", home, register=register).status == 0, done.writes[place]
        assert facts(home, register) == wanted, f"killed just before write {place}: {done.writes[place]}"
        shutil.rmtree(home)


@pytest.mark.parametrize(
    "command",
    sized(
        usual=[("init",)],
        long=[("init",), ("sample", "--accounts", "5", "--months", "1", "--events-per-account-day", "1")],
    ),
)
def test_a_home_whose_making_is_killed_is_made_by_the_next(tmp_path: Path, killer: Killer, command: Command) -> None:
    def arguments(home: Path) -> tuple[object, ...]:
        return (command[0], home, *command[1:], "--home", home)

    undisturbed = tmp_path / "undisturbed"
    done = killer.run(*arguments(undisturbed))
    assert done.status == 0
    wanted = content_of(undisturbed)
    last = len(done.writes) - 1
    for place in (last, *spread(last, KILLS)) if KILLS else range(last + 1):
        home = tmp_path / str(place)
        assert killer.run(*arguments(home), kill_at=place).status is None
        is_there = (home / "landing").exists()
        # a landing area that is there is never touched
        assert overage(*arguments(home)).status == (2 if is_there else 0), done.writes[place]
        assert content_of(home) == wanted, f"killed just before write {place}: {done.writes[place]}"


def put_back(home: Path, kept: Path) -> None:
    """Let a home be again what was kept of it. Its landing folder stays as it is."""
    for path in home.iterdir():
        if path.name != "landing":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(kept, home, dirs_exist_ok=True)


def left(home: Path) -> dict[str, object]:
    """What a killed command left in a home, by names without its machine and process."""
    register = register_rows(f"sqlite:///{home / 'register.db'}")
    unlike = ("landing", "ingest_state.json", "register.db")
    found: dict[str, object] = {
        re.sub(r"\.writing-[0-9a-f]{8}-\d+-", "", name): digest
        for name, digest in content_of(home).items()
        if not any(each in name for each in unlike)
    }
    return found | {"register": register}


def facts(home: Path, register: str | None = None) -> dict[str, object]:
    """Everything that a home says: its files by their hashes, and the rows of the register."""
    files = content_of(home)
    records = "lake/fingerprints/"
    found: dict[str, object] = {name: digest for name, digest in files.items() if not name.startswith(records)}
    for path in sorted((home / records).rglob("*.json")):
        found[str(path.relative_to(home))] = made_from(path)
    found.pop("register.db", None)
    # when a delivered file was last changed, and where the file system keeps it, differs from copy to copy
    state = json.loads((home / "lake" / "ingest_state.json").read_bytes())
    del state["stamps"]
    found["lake/ingest_state.json"] = state
    found["register"] = register_rows(register or f"sqlite:///{home / 'register.db'}")
    return found


def made_from(path: Path) -> object:
    """What a month or a step of it says that it was made from.

    A step that is repeated when its month has been closed names only what can still move the month.
    """
    said = json.loads(path.read_text())
    what, _, part = path.stem.partition(".")
    of_part = f".{part}.json" if part else ".json"
    if what in ("fingerprint", RECORD, "shards"):
        return said
    inputs = said["inputs"]
    # A repaired run drafts again from a newer register state: compare the as-of day only.
    if what == "drafted":
        return inputs["as of"]
    counts = json.loads(path.with_name(f"fingerprint{of_part}").read_text())["inputs"]
    for step in (name for name in inputs if name.startswith("step ")):
        assert inputs[step] == file_hash(path.with_name(f"{step.removeprefix('step ')}{of_part}"))
    return {name: value for name, value in inputs.items() if name in counts}
