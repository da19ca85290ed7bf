"""What `overage bill` refuses before it writes anything, and how a run that was stopped half-way is completed."""

import fcntl
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.pipeline.outside import Ended, Landing, Row, bill, content_of, overage, show
from tests.sizes import sized


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    landing.use("acme", "2026-01-20", emails=16_000)
    return landing


def refusal(ended: Ended) -> str:
    """The message of a refused command."""
    assert (ended.status, ended.output) == (2, ""), ended.messages
    assert ended.messages.startswith(("refused: ", "Usage: "))
    return ended.messages


@pytest.mark.parametrize("month", ["2026-13", "2026-00", "2026-1", "26-01", "January", "2026-01-01", ""])
def test_what_is_no_month_is_refused(landing: Landing, month: str) -> None:
    before = content_of(landing.root)
    assert f"found {month!r}, expected a billing month such as 2024-01" in refusal(
        bill(landing.root, month, "2026-01-31")
    )
    assert content_of(landing.root) == before


def test_a_month_before_the_first_that_is_billed_is_refused(landing: Landing) -> None:
    message = refusal(bill(landing.root, "2023-12", "2026-01-31"))
    assert "found 2023-12, expected 2024-01 or later (policy.billing_start of the catalogue)" in message


def test_a_month_too_far_in_the_future_is_refused(landing: Landing) -> None:
    assert "2199-01" in refusal(bill(landing.root, "2199-01", "2026-01-31"))


@pytest.mark.parametrize(
    ("month", "through"),
    [("2026-02", "2026-01"), ("2026-01", "2026-13"), ("2026-1", "2026-02"), ("0000-00", "2026-01")],
)
def test_a_range_of_months_that_is_none_is_refused(landing: Landing, month: str, through: str) -> None:
    before = content_of(landing.root)
    refusal(bill(landing.root, month, "2026-01-31", "--through", through))
    assert content_of(landing.root) == before


@pytest.mark.parametrize("day", ["2026-02-30", "yesterday", "2026-02"])
def test_an_as_of_that_is_no_day_is_refused(landing: Landing, day: str) -> None:
    ended = bill(landing.root, "2026-01", day)
    assert ended.status == 2
    assert f"found {day!r}, expected a day such as 2026-02-28" in ended.messages


def test_a_folder_that_is_no_home_is_refused_and_stays_empty(tmp_path: Path) -> None:
    message = refusal(bill(tmp_path, "2026-01", "2026-01-31"))
    assert "this is no billing home: expected a folder `landing`" in message
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    refusal(bill(tmp_path / "typo", "2026-01", "2026-01-31"))
    assert not (tmp_path / "typo").exists()


def test_a_home_without_accounts_is_refused(landing: Landing) -> None:
    (landing.folder / "accounts.csv").unlink()
    assert "expected accounts.csv, accounts.parquet or accounts.jsonl" in refusal(
        bill(landing.root, "2026-01", "2026-01-31")
    )


def test_a_home_without_a_catalogue_is_refused(landing: Landing) -> None:
    (landing.folder / "catalogue.yaml").unlink()
    assert "catalogue.yaml" in refusal(bill(landing.root, "2026-01", "2026-01-31"))


@pytest.mark.parametrize(
    ("text", "instead", "named"),
    [
        ('price: {monthly: "99.00", yearly: "990.00"}', "price: {monthly: lots}", ["packages", "lots"]),
        ("rank: 2", "rank: 1", ["packages", "rank"]),
        ("leads: none\n        auto", "auto", ["packages", "leads"]),
        ("time_zone: UTC", "time_zone: Mars/Olympus", ["time_zone", "Mars/Olympus"]),
        ("currency: USD", "currency: GOLD", ["currency", "GOLD"]),
        ("lateness_days: 90", "lateness_days: many", ["policy", "lateness_days", "many"]),
        ("billing_anchor: signup_day", "billing_anchor: full_moon", ["policy", "billing_anchor", "full_moon"]),
        ("kind: gauge", "kind: barometer", ["metrics", "kind", "barometer"]),
    ],
)
def test_a_broken_catalogue_is_refused_by_place_found_and_expected(
    landing: Landing, text: str, instead: str, named: list[str]
) -> None:
    path = landing.folder / "catalogue.yaml"
    assert text in path.read_text()
    path.write_text(path.read_text().replace(text, instead, 1))
    before = content_of(landing.root)
    message = refusal(bill(landing.root, "2026-01", "2026-01-31"))
    for word in ("catalogue.yaml", "found", "expected", *named):
        assert word in message
    assert content_of(landing.root) == before


def test_what_is_no_yaml_is_refused_by_its_line(landing: Landing) -> None:
    path = landing.folder / "catalogue.yaml"
    path.write_text("currency: USD\ntime_zone: [UTC\nseller: {}\n")
    message = refusal(bill(landing.root, "2026-01", "2026-01-31"))
    assert "catalogue.yaml" in message
    assert "line 3" in message


@pytest.mark.parametrize("content", ["request_id,kind\n1,cancel\n", ""])
def test_a_tax_table_that_is_none_is_refused(landing: Landing, content: str) -> None:
    (landing.folder / "tax_rates.csv").write_text(content)
    assert "tax_rates.csv" in refusal(bill(landing.root, "2026-01", "2026-01-31"))


def test_a_home_in_which_another_run_is_at_work_is_refused(landing: Landing) -> None:
    bill(landing.root, "2026-01", "2026-01-31")
    before = content_of(landing.root)
    with (landing.root / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another run is at work" in refusal(bill(landing.root, "2026-02", "2026-02-28"))
    assert content_of(landing.root) == before


# --- homes that cannot be written: root may write anywhere, so a folder's mode says nothing -------------------------


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Mounts on tmp_path/disk; gone afterwards."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with ExitStack() as stack:

        def mount(*arguments: str) -> None:
            done = subprocess.run(["mount", *arguments, str(disk)], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"this user may not mount file systems: {done.stderr.strip()}")
            # a mount that stayed would keep pytest from clearing its folders away
            stack.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)

        yield mount


def test_a_home_that_can_only_be_read_is_refused(
    landing: Landing, tmp_path: Path, mounted: Callable[..., None]
) -> None:
    before = content_of(landing.root)
    mounted("--bind", "-o", "ro", str(landing.root))
    message = refusal(bill(tmp_path / "disk", "2026-01", "2026-01-31"))
    assert "writ" in message
    assert str(tmp_path / "disk") in message
    assert content_of(landing.root) == before


def test_a_home_that_can_only_be_read_can_be_looked_at(
    landing: Landing, tmp_path: Path, mounted: Callable[..., None]
) -> None:
    bill(landing.root, "2026-01", "2026-01-31")
    mounted("--bind", "-o", "ro", str(landing.root))
    assert [row["total"] for row in show(tmp_path / "disk", "documents")] == ["99.00"]
    assert overage("check", "--home", tmp_path / "disk").status == 0


def test_a_file_where_a_folder_belongs_is_named(landing: Landing) -> None:
    (landing.root / "lake").write_text("in the way")
    ended = bill(landing.root, "2026-01", "2026-01-31")
    assert ended.status in (1, 2)
    assert "lake" in ended.messages
    assert "Traceback" not in ended.messages
    assert show(landing.root, "documents") == []


def test_a_full_disk_interrupts_and_a_second_run_completes(
    landing: Landing, tmp_path: Path, mounted: Callable[..., None]
) -> None:
    mounted("-t", "tmpfs", "-o", "size=2m", "overage-test")
    home = Landing(tmp_path / "disk", landing.catalogue)
    home.customer("acme")
    home.use("acme", "2026-01-20", emails=16_000)
    filler = tmp_path / "disk" / "filler"
    free = os.statvfs(filler.parent).f_bavail * os.statvfs(filler.parent).f_frsize
    filler.write_bytes(b"\0" * (free - 150_000))
    ended = bill(home.root, "2026-02", "2026-02-28")
    assert ended.status == 1
    assert "No space left on device" in ended.messages or "full" in ended.messages
    filler.unlink()
    assert bill(home.root, "2026-02", "2026-02-28").status == 0
    assert [(row["number"], row["total"]) for row in show(home.root, "documents")] == [
        ("INV-2026-000001", "99.00"),
        ("INV-2026-000002", "102.00"),
    ]
    assert list(home.root.rglob(".writing-*")) == []


# --- runs that are stopped half-way ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Row]]:
    """The tables of the same business, billed without an accident."""
    landing = Landing(tmp_path_factory.mktemp("undisturbed"))
    landing.customer("acme")
    landing.use("acme", "2026-01-20", emails=16_000)
    assert bill(landing.root, "2026-01", "2026-01-31").status == 0
    return {table: show(landing.root, table) for table in ("documents", "lines", "decisions", "packages", "charges")}


@pytest.mark.parametrize(
    "step",
    sized(
        ["billing.month.steps.write_charges", "assets.documents.issue_documents"],
        [
            "billing.month.steps.write_usage",
            "billing.month.steps.write_charges",
            "assets.documents.issue_documents",
            "assets.documents.render_documents",
        ],
    ),
)
def test_a_run_that_breaks_at_any_step_is_completed_by_the_next(
    landing: Landing, undisturbed: Mapping[str, list[Row]], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error", "/somewhere")

    with monkeypatch.context() as patched:
        patched.setattr(step, breaks)
        ended = bill(landing.root, "2026-01", "2026-01-31")
    assert ended.status == 1
    assert ended.messages.splitlines()[-2].startswith("interrupted: 2026-01: ")
    assert "Input/output error" in ended.messages
    assert ended.messages.splitlines()[-1].endswith("run the same command again.")
    assert bill(landing.root, "2026-01", "2026-01-31").status == 0

    assert {table: show(landing.root, table) for table in undisturbed} == undisturbed


def test_another_time_zone_is_refused_once_something_was_issued(landing: Landing) -> None:
    assert bill(landing.root, "2026-01", "2026-01-31").status == 0
    catalogue = landing.folder / "catalogue.yaml"
    catalogue.write_text(re.sub("(?m)^time_zone: UTC", "time_zone: America/New_York", catalogue.read_text()))
    before = content_of(landing.root)
    said = refusal(bill(landing.root, "2026-02", "2026-02-28"))
    assert "time_zone: found 'America/New_York', expected 'UTC' as before" in said
    assert content_of(landing.root) == before
    checked = overage("check", "--home", landing.root)
    assert checked.status == 1 and "time_zone: found 'America/New_York'" in checked.output
