"""Input that once broke a run: it is refused in one message, or does no harm."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from billing.profile_pages import page_name
from tests.pipeline.outside import Landing, bill, overage, show


@pytest.mark.parametrize("day", ["0001-01-01", "1600-01-01", "2262-04-12", "9999-12-31"])
def test_a_day_outside_of_any_calendar_of_billing_is_refused(tmp_path: Path, day: str) -> None:
    home = Landing(tmp_path / "home").root
    for ended in (bill(home, "2026-02", day), overage("show", "profile", "--as-of", day, "--home", str(home))):
        assert ended.status == 2
        assert f"found '{day}', expected a day from 1970-01-01 to 2099-12-31" in ended.messages


def test_an_account_id_of_any_length_has_a_page_that_a_file_system_can_hold(tmp_path: Path) -> None:
    long, longer, wide = "L" * 5000, "L" * 5001, "ü" * 100
    pages = [page_name(account_id) for account_id in (long, longer, wide)]
    for page in pages:
        (tmp_path / f".writing-4194304-{page}").write_text("scratch")
    assert len(set(pages)) == 3
    # no account can be named so that it writes over the page of another one
    assert page_name(pages[0].removesuffix(".html")) not in pages


def test_a_run_that_is_killed_while_it_draws_is_completed_by_the_next(tmp_path: Path) -> None:
    homes = [tmp_path / "killed", tmp_path / "undisturbed"]
    for root in homes:
        landing = Landing(root)
        for name in ("acme", "bolt", "cord", "dune"):
            landing.customer(name)
            landing.use(name, emails=16_000)
    program = "from pipeline.cli import main; main()"
    command = [sys.executable, "-c", program, "bill", "2026-02", "--as-of", "2026-02-10", "--home"]
    killed, undisturbed = ([*command, str(root)] for root in homes)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OVERAGE", "DAGSTER"))}
    process = subprocess.Popen(killed, env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((homes[0] / "documents").rglob("INV-*.pdf")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for again in (killed, undisturbed):
        subprocess.run(again, env=environment, check=True, timeout=120, stderr=subprocess.DEVNULL)
    documents = [{path.name: path.read_bytes() for path in root.rglob("INV-*.pdf")} for root in homes]
    assert len(documents[0]) == 8
    assert documents[0] == documents[1]
    assert show(homes[0], "documents") == show(homes[1], "documents")
    ended = overage("verify", "--home", homes[0])
    assert ended.status == 0, ended.output
