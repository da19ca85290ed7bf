"""Whole runs with the register on a PostgreSQL server: the same business, and what happens when the server is gone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import sqlalchemy as sa

from tests.long_runs import long_only
from tests.pipeline.outside import Landing, bill, content_of, overage
from tests.postgresql import Server, register_rows
from tests.sizes import LONG

COMMAND = [sys.executable, "-c", "from pipeline.cli import main; main()"]


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    """A home with three customers, one of whom uses too much."""
    landing = Landing(tmp_path / "home")
    for name in ("acme", "beta", "gamma"):
        landing.customer(name)
    landing.use("acme", emails=16_000)
    return landing


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of the test's own, which it may stop."""
    with Server.running() as server:
        yield server


def test_a_server_holds_the_same_register_as_the_home_and_the_same_bytes_come_out(
    postgresql: Server, tmp_path: Path
) -> None:
    url = postgresql.new_database()
    landing, other = Landing(tmp_path / "home"), Landing(tmp_path / "other")
    for each in (landing, other):
        for name in ("acme", "beta", "gamma"):
            each.customer(name, billed_through="2026-02-10")
        each.use("acme", emails=16_000)
    for home, register in ((landing.root, None), (other.root, url)):
        assert bill(home, "2026-02", "2026-02-10", register=register).status == 0
        arguments = ("correct", "2026-02", "--as-of", "2026-02-10", "--reason", "None.", "--home", home)
        # in a usual run test_sharded_homes.py corrects on a server
        assert not LONG or overage(*arguments, register=register).status == 0
    assert not (other.root / "register.db").exists()
    assert len(register_rows(url)["lines"]) == 4
    assert register_rows(url) == register_rows(f"sqlite:///{landing.root / 'register.db'}")
    apart = {"register.db", "lake/ingest_state.json"}
    ours, theirs = content_of(landing.root), content_of(other.root)
    assert {name: ours.get(name) for name in {*ours, *theirs} - apart} == {
        name: theirs.get(name) for name in {*ours, *theirs} - apart
    }


def test_a_server_that_vanishes_interrupts_the_run_and_a_second_one_completes_it(
    landing: Landing, server: Server
) -> None:
    url = server.new_database()
    assert bill(landing.root, "2026-01", "2026-01-31", register=url).status == 0

    def stop(*_: object, **__: object) -> None:
        server.stop()

    # just before the second month is issued
    with mock.patch("billing.register.register.insert_rows", side_effect=stop):
        ended = bill(landing.root, "2026-02", "2026-02-10", register=url)
    assert ended.status == 1
    assert "interrupted: 2026-02" in ended.messages
    assert "secret" not in ended.messages
    assert "Traceback" not in ended.messages
    refused = bill(landing.root, "2026-02", "2026-02-10", register=url)
    assert refused.status == 2
    assert "the register cannot be opened" in refused.messages
    server.start()
    assert bill(landing.root, "2026-02", "2026-02-10", register=url).status == 0
    assert [row[0] for row in register_rows(url)["documents"]] == [f"INV-2026-00000{place}" for place in range(1, 7)]


@long_only("register/test_register issues from several processes at once")
# Both places, with different months and with the same one.
@pytest.mark.parametrize(
    ("on_a_server", "months"),
    [(place, ("2026-0" + first, "2026-02")) for place in (False, True) for first in "12"],
)
def test_runs_that_are_started_together_issue_once(
    landing: Landing, request: pytest.FixtureRequest, on_a_server: bool, months: tuple[str, str]
) -> None:
    server: Server | None = request.getfixturevalue("postgresql") if on_a_server else None
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OVERAGE", "DAGSTER"))}
    url = server.new_database() if server else f"sqlite:///{landing.root / 'register.db'}"
    if server:
        environment["OVERAGE_REGISTER_URL"] = url
    runs = [
        subprocess.Popen(
            [*COMMAND, "bill", month, "--as-of", "2026-02-10", "--home", str(landing.root)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for month in months
    ]
    said = [run.communicate(timeout=300)[1] for run in runs]
    ended = sorted(run.returncode for run in runs)
    # the second was refused, or came late enough to find everything done
    assert ended in ([0, 0], [0, 2]), said
    assert all("another run is at work" in text for run, text in zip(runs, said, strict=True) if run.returncode == 2)
    assert bill(landing.root, "2026-02", "2026-02-10", register=url if server else None).status == 0
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT number, subscription_id, billing_date FROM documents ORDER BY number"
        ).all()
    engine.dispose()
    assert [row[0] for row in found] == [f"INV-2026-00000{place}" for place in range(1, 7)]
    assert len({row[1:] for row in found}) == 6
