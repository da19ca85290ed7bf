"""`overage init`, `check` and `sample`, and the whole way from nothing to paper in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from billing.model.text import counted
from tests.pipeline.outside import Landing, bill, content_of, overage, show, total_of

ROOT = Path(__file__).parents[2]


# --- init -----------------------------------------------------------------------------------------------------------


def test_init_writes_a_home_that_has_nothing_to_complain_about(tmp_path: Path) -> None:
    ended = overage("init", tmp_path / "home")
    assert ended.status == 0
    written = ended.output.splitlines()
    assert str(tmp_path / "home" / "landing" / "catalogue.yaml") in written
    assert all(Path(name).is_file() for name in written)
    assert "overage check --home" in ended.messages
    assert overage("check", "--home", tmp_path / "home").status == 0


def test_init_leaves_a_home_alone_that_is_there(tmp_path: Path) -> None:
    overage("init", tmp_path)
    before = content_of(tmp_path)
    ended = overage("init", tmp_path)
    assert (ended.status, ended.output) == (2, "")
    assert "is already there" in ended.messages
    assert content_of(tmp_path) == before


def test_init_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    assert overage("init", tmp_path / "home").status == 2


# --- check ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    return landing


def found_by_check(landing: Landing) -> list[str]:
    """What check prints, a problem to a line; its status says whether there is one."""
    before = content_of(landing.root)
    ended = overage("check", "--home", landing.root)
    assert content_of(landing.root) == before, "it computes and writes nothing"
    problems = ended.output.splitlines()
    assert ended.status == (1 if problems else 0)
    assert (f"{counted(len(problems), 'problem')} found" if problems else "nothing to complain about") in ended.messages
    return problems


def test_check_finds_nothing_in_a_good_home(landing: Landing) -> None:
    assert found_by_check(landing) == []


def test_check_names_every_problem_of_a_catalogue_at_once(landing: Landing) -> None:
    path = landing.folder / "catalogue.yaml"
    path.write_text(path.read_text().replace("currency: USD", "currency: GOLD").replace("rank: 2", "rank: first"))
    problems = found_by_check(landing)
    assert len(problems) == 2
    assert all("catalogue.yaml" in problem and "found" in problem and "expected" in problem for problem in problems)
    assert "'GOLD'" in problems[0]
    assert "'first'" in problems[1]


def test_check_names_rows_that_would_be_set_aside(landing: Landing) -> None:
    landing.request("nobody", "cancel", "2026-01-20T10:00:00Z", "email")
    (problem,) = found_by_check(landing)
    assert problem.startswith(
        "requests.jsonl: row 2: unknown_account: account_id: found 'nobody', expected an account_id of the accounts "
        'file: {"request_id"'
    )


def test_check_names_accounts_that_cannot_be_billed(landing: Landing) -> None:
    landing.customer("globex", "bronze")
    (problem,) = found_by_check(landing)
    assert "globex" in problem
    assert "bronze" in problem


def test_check_names_files_that_do_not_belong_to_usage(landing: Landing) -> None:
    landing.use("acme", emails=1)
    (landing.folder / "usage" / "January").mkdir()
    (landing.folder / "usage" / "2026-01-20" / "usage.xlsx").write_bytes(b"PK\x03\x04 a workbook")
    assert [problem.split(": ")[0] for problem in found_by_check(landing)] == [
        "usage/January/",
        "usage/2026-01-20/usage.xlsx",
    ]


def test_check_refuses_what_is_no_home(tmp_path: Path) -> None:
    ended = overage("check", "--home", tmp_path)
    assert (ended.status, ended.output) == (2, "")
    assert "no billing home" in ended.messages


# --- sample ---------------------------------------------------------------------------------------------------------


def test_a_sample_is_billed_as_it_says_and_keeps_every_row(tmp_path: Path) -> None:
    ended = overage("sample", tmp_path / "one", "--accounts", 20, "--months", 1, "--events-per-account-day", 5)
    assert ended.status == 0
    command = ended.messages.splitlines()[-1].partition("overage ")[2].split()
    assert command[0] == "bill"
    billed = overage(*command)
    assert billed.status == 0, billed.messages
    home = tmp_path / "one"
    numbers = [row["number"] for row in show(home, "documents") if row["kind"] == "invoice"]
    assert numbers == [f"INV-2026-{number:06d}" for number in range(1, len(numbers) + 1)]
    assert len(numbers) > 10
    files = show(home, "ingest")
    assert sum(row["rows"] for row in files) == sum(
        row["counted"] + row["duplicates"] + row["rejected"] for row in files
    )
    set_aside = [row for row in show(home, "rejects") if row["delivery_day"]]
    assert len(set_aside) == sum(row["rejected"] for row in files) > 0
    assert len(show(home, "events")) == sum(row["counted"] for row in files)
    for document in show(home, "documents"):
        assert total_of([document], "net") + total_of([document], "tax") == total_of([document], "total")


def test_equal_arguments_give_equal_samples(tmp_path: Path) -> None:
    size = ("--accounts", 2, "--months", 1, "--events-per-account-day", 1)
    for name in ("one", "other"):
        overage("sample", tmp_path / name, *size, "--seed", 7)
    assert content_of(tmp_path / "one") == content_of(tmp_path / "other")
    overage("sample", tmp_path / "third", *size, "--seed", 8)
    assert content_of(tmp_path / "one") != content_of(tmp_path / "third")


@pytest.mark.parametrize("arguments", [("--accounts", 0), ("--months", 0), ("--events-per-account-day", 0)])
def test_a_sample_of_nothing_is_refused(tmp_path: Path, arguments: tuple[object, ...]) -> None:
    assert overage("sample", tmp_path / "home", *arguments).status == 2
    assert not (tmp_path / "home").exists()


# --- from nothing to paper, each command in a process of its own ----------------------------------------------------


def command(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OVERAGE_", "DAGSTER_"))}
    return subprocess.run(
        [sys.executable, "-c", "from pipeline.cli import main; main(prog_name='overage')", *arguments],
        env=environment | {"OVERAGE_HOME": str(home), "PYTHONPATH": str(ROOT)},
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_from_nothing_to_paper(tmp_path: Path) -> None:
    home = tmp_path / "data"
    assert overage("init", home).status == 0
    billed = command("bill", "2026-01", "--as-of", "2026-01-31", home=home)
    assert (billed.returncode, billed.stdout) == (0, ""), billed.stderr
    assert billed.stderr.splitlines()[-1] == "2 documents issued"
    paper = sorted((home / "documents").rglob("*.pdf"))
    assert [path.name for path in paper] == [f"INV-2026-{number:06d}.pdf" for number in (1, 2)]
    assert all(path.read_bytes().startswith(b"%PDF-") for path in paper)
    assert [row["billing_date"] for row in show(home, "documents", "--account", "juniper-press")] == ["2026-01-10"]

    before = content_of(home)
    again = command("bill", "2026-01", "--as-of", "2026-01-31", home=home)
    assert (again.returncode, again.stderr.splitlines()[-1]) == (0, "0 documents issued")
    assert content_of(home) == before, "Dagster's own records are all that a second run may touch"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"], "nothing is written beside the home"


def test_documents_drawn_again_are_the_same_bytes(landing: Landing) -> None:
    assert bill(landing.root, "2026-01", "2026-01-31", paper=True).status == 0
    (paper,) = (landing.root / "documents").rglob("*.pdf")
    bytes_before = paper.read_bytes()
    paper.unlink()
    landing.use("acme", "2026-01-20", emails=1)
    assert bill(landing.root, "2026-01", "2026-01-31", paper=True).status == 0
    assert paper.read_bytes() == bytes_before
