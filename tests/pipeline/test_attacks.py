"""Input that once broke a run: it is refused in one message, or does no harm."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.by_steps import bill_by_steps
from tests.pipeline import outside
from tests.pipeline.outside import Landing, bill, event, one, overage, show
from tests.sizes import LONG


@pytest.mark.parametrize("day", ["0001-01-01", "1600-01-01", "2262-04-12", "9999-12-31"])
def test_a_day_outside_of_any_calendar_of_billing_is_refused(tmp_path: Path, day: str) -> None:
    home = Landing(tmp_path / "home").root
    for ended in (bill(home, "2026-02", day), overage("show", "profile", "--as-of", day, "--home", str(home))):
        assert ended.status == 2
        assert f"found '{day}', expected a day from 1970-01-01 to 2099-12-31" in ended.messages


def test_a_run_that_is_killed_while_it_draws_is_completed_by_the_next(tmp_path: Path) -> None:
    homes = [tmp_path / "killed", tmp_path / "undisturbed"]
    for root in homes:
        landing = Landing(root)
        for name in ("acme", "bolt"):
            landing.customer(name)
    program = "from pipeline.cli import main; main()"
    killed = [sys.executable, "-c", program, "bill", "2026-01", "--as-of", "2026-01-31", "--home", str(homes[0])]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OVERAGE", "DAGSTER"))}
    process = subprocess.Popen(killed, env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((homes[0] / "documents").rglob("INV-*.pdf")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for root in homes:
        assert bill(root, "2026-01", "2026-01-31", paper=True, profiles=LONG and root == homes[0]).status == 0
    documents = [{path.name: path.read_bytes() for path in root.rglob("INV-*.pdf")} for root in homes]
    assert len(documents[0]) == 2
    assert documents[0] == documents[1]
    assert show(homes[0], "documents") == show(homes[1], "documents")
    if LONG:
        ended = overage("verify", "--home", homes[0])
        assert ended.status == 0, ended.output


CARD = "4111111111111111"


def told_or_kept(home: Path, *endings: outside.Ended) -> list[str]:
    """Where the number of the card can be read: in a file or a file's name outside of landing/, or in a message."""
    kept = [
        path.as_posix()
        for path in home.rglob("*")
        if "landing" not in path.parts
        and (CARD in path.name or (path.is_file() and CARD.encode() in path.read_bytes()))
    ]
    return kept + [text for ended in endings for text in (ended.output, ended.messages) if CARD in text]


def test_nothing_is_issued_on_a_register_that_is_older_than_the_documents(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("first")
    register, backup = tmp_path / "register.db", tmp_path / "backup.db"
    bill_by_steps(tmp_path, "2026-01", "2026-01-31")
    shutil.copy(register, backup)
    assert bill(tmp_path, "2026-02", "2026-02-15").status == 0
    page = tmp_path / "documents" / "2026-02" / "INV-2026-000002.pdf"
    sent, later = page.read_bytes(), register.read_bytes()
    shutil.copy(backup, register)
    # with another customer before it, the number that was sent would come to somebody else
    landing.customer("another", on="2026-01-05")
    ended = bill(tmp_path, "2026-02", "2026-02-16")
    assert ended.status == 2
    assert "INV-2026-000002.pdf: found the PDF of a document that the register does not know" in ended.messages
    assert overage("correct", "2026-01", "--reason", "x", "--as-of", "2026-02-16", "--home", tmp_path).status == 2
    # nor is looked at what would not be issued
    looked = overage("preview", "2026-02", "--as-of", "2026-02-16", "--home", tmp_path)
    assert (looked.status, looked.messages) == (2, ended.messages)
    assert (register.read_bytes(), page.read_bytes()) == (backup.read_bytes(), sent)
    # the register that belongs there mends it
    register.write_bytes(later)
    assert bill(tmp_path, "2026-02", "2026-02-16", profiles=LONG).status == 0
    assert not LONG or overage("verify", "--home", tmp_path).status == 0


def test_a_pdf_that_was_not_recorded_is_drawn_again_and_not_believed(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("first")
    assert bill(tmp_path, "2026-01", "2026-01-31").status == 0
    page = tmp_path / "documents" / "2026-01" / "INV-2026-000001.pdf"
    drawn = page.read_bytes()
    with closing(sqlite3.connect(tmp_path / "register.db")) as register, register:
        guards = register.execute("SELECT name, sql FROM sqlite_master WHERE tbl_name = 'files' AND type = 'trigger'")
        made = guards.fetchall()
        for guard, _ in made:
            register.execute(f"DROP TRIGGER {guard}")
        register.execute("DELETE FROM files")
        for _, statement in made:
            register.execute(statement)
    page.write_bytes(b"the page of another document")
    assert "1 PDF drawn again" in bill(tmp_path, "2026-01", "2026-01-31").messages
    assert page.read_bytes() == drawn
    # and so is one that was taken away, also where nothing else moved
    page.unlink()
    assert "1 PDF drawn again" in bill(tmp_path, "2026-01", "2026-01-31", profiles=LONG).messages
    assert page.read_bytes() == drawn
    assert "nothing moved" in bill(tmp_path, "2026-01", "2026-01-31", profiles=LONG).messages
    assert not LONG or overage("verify", "--home", tmp_path).status == 0


def test_a_card_number_in_a_files_name_is_kept_nowhere_and_the_file_is_billed(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    landing.customer("acme", on="2025-12-10", billed_through="2026-01-10")
    (landing.folder / "requests").mkdir()
    (landing.folder / "requests.jsonl").rename(landing.folder / "requests" / f"{CARD}.jsonl")
    # two that differ in the number only, and one that cannot be read
    for name, emails in ((CARD, 9_000), ("4012888888881111", 8_000)):
        landing.written += 1
        usage = event(f"event-{landing.written}", "acme", "email.sent", {"count": emails}, "2026-01-05T12:00:00Z")
        landing.deliver([usage, "broken"], "2026-01-05", f"of {name}.jsonl")
    landing.deliver(["x"], "2026-01-06", f"{CARD}.xlsx")
    landing.deliver(["x"], CARD, "a.jsonl")
    billed = bill(landing.root, "2026-01", "2026-01-10")
    assert "************1111.xlsx could not be read" in billed.messages
    assert one(show(landing.root, "usage", metric="emails"))["quantity"] == "17000"
    others = [overage(*words, "--home", landing.root) for words in (["check"], ["verify"], ["show", "ingest"])]
    assert told_or_kept(landing.root, billed, *others, overage("show", "rejects", "--home", landing.root)) == []


def test_a_card_number_in_digits_and_dashes_of_any_kind_is_kept_nowhere(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    written = [
        "\uff14\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11",
        "4111\u20111111\u20111111\u20111111",
        "4111\u00a01111\u00a01111\u00a01111",
    ]
    for number in written:
        landing.request("acme", "refund", "2026-01-12T09:00:00Z", reason=f"wrong card {number}")
    landing.request("acme", "change_card", "2026-01-13T09:00:00Z", brand="visa", last4="\uff14\uff12\uff14\uff12")
    assert bill(landing.root, "2026-01", "2026-01-31").status == 0
    rejects = show(landing.root, "rejects")
    assert [row["reason"] for row in rejects] == ["card_number"] * 3 + ["impossible_value"]
    assert not [row for row in rejects for number in written if number in row["text"]]
    assert one(show(landing.root, "documents", billing_month="2026-01"))["total"] == "99.00"


def test_what_was_not_delivered_is_not_read_through_a_link(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    landing.customer("acme", on="2025-12-10", billed_through="2026-01-10")
    stolen = event("event-1", "acme", "email.sent", {"count": 90_000}, "2026-01-05T12:00:00Z")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "a.jsonl").write_text(f"{stolen}\nthe secret\n")
    kept = landing.deliver([event("event-2", "acme", "email.sent", {"count": 1}, "2026-01-05T12:00:00Z")], "2026-01-05")
    (kept.parent / "link.jsonl").symlink_to(secret / "a.jsonl")
    (kept.parent / "within.jsonl").symlink_to(kept)
    (kept.parents[1] / "2026-01-06").symlink_to(secret)
    os.mkfifo(kept.parent / "pipe.jsonl")
    ended = bill(landing.root, "2026-01", "2026-01-10")
    assert ended.status == 1
    for name in ("2026-01-05/link.jsonl", "2026-01-06/a.jsonl"):
        assert f"{name} could not be read: " in ended.messages
    assert one(show(landing.root, "usage", metric="emails"))["quantity"] == "1"
    rejects = show(landing.root, "rejects")
    assert sorted((row["file"], row["reason"]) for row in rejects) == [
        ("a.jsonl", "unreadable_file"),
        ("link.jsonl", "unreadable_file"),
        ("pipe.jsonl", "unreadable_file"),
    ]
    assert "the secret" not in str(rejects) + ended.messages


def test_a_landing_folder_may_stand_elsewhere(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    landing.customer("acme", on="2025-12-10", billed_through="2026-01-10")
    landing.use("acme", "2026-01-05", emails=16_000)
    landing.folder.rename(tmp_path / "mounted")
    landing.folder.symlink_to(tmp_path / "mounted")
    bill_by_steps(landing.root, "2026-01", "2026-01-10")
    assert one(show(landing.root, "usage", metric="emails"))["quantity"] == "16000"


def test_an_unreadable_file_that_vanishes_stays_set_aside_and_is_no_failure_any_more(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    broken = landing.deliver(["anything"], "2026-01-20", "usage.xlsx")
    assert bill(landing.root, "2026-01", "2026-01-31").status == 1
    assert bill(landing.root, "2026-01", "2026-01-31").status == 1
    broken.unlink()
    assert bill(landing.root, "2026-01", "2026-01-31").status == 0
    assert one(show(landing.root, "rejects"))["reason"] == "unreadable_file"
