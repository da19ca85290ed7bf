"""Ctrl-C, pressed where a library is at work: the command says so once, stops, and is completed by the next."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.outside import Landing, bill, overage, show
from tests.sizes import LONG, sized

if LONG:
    pytestmark = pytest.mark.usefixtures("profiles_without_reports")

# the interruption comes once, after the first document was issued: while a connection is closed, as the pool would
# print it; while Python tidies up, where it cannot pass it on; or, as in a terminal, at every process of the group
PRESS = """
import os, signal
from billing.month import issuing as month
from sqlalchemy.engine.default import DefaultDialect

# a test in the background of a shell is given none
signal.signal(signal.SIGINT, signal.default_int_handler)
issue, close = month.issue_documents, DefaultDialect.do_close
pressed = []

class Tidied:
    def __del__(self):
        raise KeyboardInterrupt

def interrupted(dialect, connection):
    close(dialect, connection)
    if not pressed:
        pressed.append(True)
        raise KeyboardInterrupt

def press(*arguments, **options):
    found = issue(*arguments, **options)
    if where == "closing":
        DefaultDialect.do_close = interrupted
    elif not pressed:
        pressed.append(True)
        if where == "group":
            os.killpg(0, signal.SIGINT)
        else:
            Tidied()
    return found

month.issue_documents = press
from pipeline.cli import main

main()
"""


@pytest.mark.parametrize("where", sized(["group"], ["closing", "tidying", "group"]))
def test_the_keyboard_ends_a_run_with_one_message(tmp_path: Path, where: str) -> None:
    landing = Landing(tmp_path)
    for name in ("acme", "beta"):
        landing.customer(name)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OVERAGE", "DAGSTER"))}
    if where == "closing":
        # Dagster closes connections while a command is at work.
        environment["DAGSTER_HOME"] = str(tmp_path / ".dagster")
    arguments = ["bill", "2026-02", "--as-of", "2026-02-15", "--home", str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, "-c", f"where = {where!r}{PRESS}", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        start_new_session=True,
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False), ended.stderr
    assert ended.stderr.count("interrupted") == 1, ended.stderr
    # it stopped there
    assert {row["billing_month"] for row in show(tmp_path, "documents")} < {"2026-01", "2026-02"}
    assert bill(tmp_path, "2026-02", "2026-02-15").status == 0
    assert len(show(tmp_path, "documents")) == 4
    assert not LONG or overage("verify", "--home", tmp_path).output == ""
