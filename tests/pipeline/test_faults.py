"""Whichever call of disk or database fails: one message, and the next run completes with the same bytes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.exit_status import PARTLY, REFUSED, exit_status
from tests.by_steps import bill_by_steps
from tests.long_runs import long_only
from tests.pipeline.faults import counted_calls, lost_connections
from tests.pipeline.outside import Landing, content_of
from tests.postgresql import Server, register_rows
from tests.sizes import sized, spread

EVERY = sized(usual=250, long=1)
"""Of twice so many calls of a server one fails; in a long run every one. Of a disk two fail, or every one."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return home_of_three(tmp_path_factory.mktemp("prepared") / "home")


def home_of_three(root: Path, register: str | None = None) -> Path:
    """Three accounts billed in January: one will be upgraded, one has usage that came late, one asks for a refund."""
    landing = Landing(root)
    for name in ("acme", "grows", "leaves"):
        landing.customer(name)
    landing.use("acme", emails=16_000)
    landing.use("grows", leads=2_600)
    bill_by_steps(landing.root, "2026-01", "2026-01-31", register=register).register.close()
    landing.request("leaves", "refund", "2026-02-01T10:00:00Z", reason="not needed")
    landing.use("acme", "2026-01-25", emails=2_000, delivered="2026-02-05")
    return landing.root


def run(home: Path, register: str | None = None) -> None:
    bill_by_steps(home, "2026-02", "2026-02-28", register=register).register.close()


def ended(command: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit status and the messages of a command, as the command line gives them."""
    with pytest.raises(SystemExit) as stopped:
        exit_status(command)()
    return int(str(stopped.value.code)), capsys.readouterr().err


def check_end(status: int, messages: str, failed: str) -> None:
    """A run that failed says so once, and in words."""
    if status:
        assert status in (PARTLY, REFUSED), failed
        assert messages.count("interrupted: ") + messages.count("refused: ") == 1, f"{failed}: {messages}"
        assert "Traceback" not in messages, failed


def what_is_left(home: Path, register: str | None = None) -> dict[str, object]:
    """Every file of the home, and every row of the register, by name."""
    found: dict[str, object] = {name: hashed for name, hashed in content_of(home).items() if name != "register.db"}
    # stamps are those of the file system, and drafts that were made after issuing say so
    found = {name: each for name, each in found.items() if not name.endswith(("ingest_state.json", "drafted.json"))}
    return found | register_rows(register or f"sqlite:///{home / 'register.db'}")


def test_whichever_call_fails_the_next_run_completes_it(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = tmp_path / "reference"
    shutil.copytree(prepared, reference)
    with counted_calls(reference) as whole:
        run(reference)
    expected = what_is_left(reference)
    places = range(1, len(whole.made) + 1)
    for fails in sized(usual=[places[each] for each in spread(len(places), 2)], long=places):
        home = tmp_path / "home"
        shutil.copytree(prepared, home)
        with counted_calls(home, fails) as calls:
            status, messages = ended(lambda home=home: run(home), capsys)  # type: ignore[misc] # bound on purpose
        failed = f"call {fails}: {calls.made[fails - 1]}"
        check_end(status, messages, failed)
        run(home)
        left = what_is_left(home)
        other = {name for name in {*left, *expected} if left.get(name) != expected.get(name)}
        assert not other, f"{failed}: {messages}"
        shutil.rmtree(home)


@long_only("test_server_register completes a run whose server vanished")
def test_whichever_call_loses_the_connection_to_a_server_the_next_run_completes_it(
    tmp_path: Path, postgresql: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    register = postgresql.new_database()
    prepared = home_of_three(tmp_path / "prepared", register)

    def again() -> tuple[Path, str]:
        """The business as it was before the run."""
        return shutil.copytree(prepared, tmp_path / "home"), postgresql.copy_of(register)

    home, url = again()
    with lost_connections(url) as whole:
        run(home, url)
    expected = what_is_left(home, url)
    shutil.rmtree(home)
    commits = [place for place, what in enumerate(whole.made, start=1) if what == "do_commit"]
    step = 1 if EVERY == 1 else 2 * EVERY
    lost = [(fails, True) for fails in range(1, len(whole.made) + 1, step)]
    # a commit that was done and not answered for; of others the next run cannot tell
    lost += [(fails, False) for fails in (commits if EVERY == 1 else commits[-1:])]
    for fails, answers in lost:
        home, url = again()
        with lost_connections(url, fails, answers) as calls:
            status, messages = ended(lambda home=home, url=url: run(home, url), capsys)  # type: ignore[misc] # as above
        failed = f"call {fails} {'' if answers else 'not '}answered: {calls.made[fails - 1]}"
        assert status, failed
        check_end(status, messages, failed)
        run(home, url)
        left = what_is_left(home, url)
        other = {name for name in {*left, *expected} if left.get(name) != expected.get(name)}
        assert not other, f"{failed}: {messages}"
        shutil.rmtree(home)
