"""Dagster's pages as people use them: a browser, a real webserver and a real daemon on a small home."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from playwright.sync_api import Locator, Page, sync_playwright
from playwright.sync_api import TimeoutError as NotInTimeError

from tests.pipeline.outside import Landing
from tests.sizes import sized

MONTHS = sized(usual=["2026-01", "2026-02"], long=["2026-01", "2026-02", "2026-03"])
PATIENCE = 400
"""Seconds that a busy machine may take for anything."""
RUNS = "{runsOrError {... on Runs {results {status startTime endTime tags {key value}}}}}"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of a browser."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is missing in CI")
        pytest.skip("Chromium is not installed: Dagster's pages are not tried")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        opened = playwright.chromium.launch(executable_path=browser, args=arguments)
        page = opened.new_page(viewport={"width": 1500, "height": 1000}, reduced_motion="reduce")
        page.set_default_timeout(PATIENCE * 1000)
        yield page
        opened.close()


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    landing = Landing(tmp_path_factory.mktemp("desk") / "home")
    landing.customer("acme")
    landing.use("acme", "2026-01-20", leads=3_000)
    return landing


@pytest.fixture(scope="module")
def desk(landing: Landing) -> Iterator[str]:
    """The address of `overage ui` on the home."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OVERAGE_", "DAGSTER_"))}
    command = [str(Path(sys.executable).with_name("overage")), "ui", "--home", str(landing.root), "--port", str(port)]
    log = landing.root.parent / "log"
    with log.open("wb") as said:
        serving = subprocess.Popen(
            command, env=environment | {"OVERAGE_EXECUTOR": "in_process"}, stdout=said, stderr=said
        )
    try:

        def answers() -> bool:
            assert serving.poll() is None, log.read_text()
            with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/server_info"):  # our own server
                return True
            return False

        until(answers, "the webserver answers", log.read_text)
        assert "Error loading" not in log.read_text(), log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        serving.terminate()
        serving.wait()


def until(holds: Callable[[], bool], what: str, tell: Callable[[], object] = str) -> None:
    """Wait for something, and say what has been waited for in vain."""
    last = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < last, f"{what}: not after {PATIENCE} seconds\n{tell()}"
        time.sleep(1)


def visit(page: Page, address: str, *shown: Locator) -> None:
    """Open a page and wait until it shows these; one that comes half is opened again, as people do."""

    def whole() -> bool:
        page.goto(address)
        with suppress(NotInTimeError):
            for part in shown:
                part.first.wait_for(timeout=PATIENCE * 1000 / 5)
            return True
        return False

    until(whole, f"{address} is whole", page.content)


def runs_of(page: Page, desk: str) -> list[dict[str, Any]]:
    """Runs with their month, in the order in which they were asked for."""
    answer = page.request.post(f"{desk}/graphql", data={"query": RUNS}).json()["data"]["runsOrError"]["results"]
    tags = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in answer]
    return [run | {"month": tag["dagster/partition"]} for run, tag in zip(answer, tags, strict=True)][::-1]


def launch(page: Page, months: str, count: int, desk: str) -> list[dict[str, Any]]:
    """In the open dialog choose months and launch; returns all runs when there are so many, all of them ended."""
    # Lists that drop down are dialogs, too.
    dialog = page.get_by_role("dialog").filter(has=page.get_by_role("button", name="Launch")).last
    field = dialog.get_by_placeholder("ex: ")
    if not field.is_visible():
        # a month that is chosen already has a list instead of a line to write in
        dialog.get_by_role("button", name="Custom").click()
    field.fill(months)
    field.press("Enter")
    with page.expect_response(lambda answer: "mutation Launch" in (answer.request.post_data or "")):
        dialog.get_by_role("button", name="Launch").last.click()
    return all_runs(page, count, desk)


def all_runs(page: Page, count: int, desk: str) -> list[dict[str, Any]]:
    """All runs when there are so many, all of them ended well."""
    # a page that nobody looks at asks the webserver for news all the time
    page.goto("about:blank")

    def ended() -> bool:
        runs = runs_of(page, desk)
        assert not [run for run in runs if run["status"] == "FAILURE"], runs
        return len(runs) == count and all(run["status"] == "SUCCESS" for run in runs)

    until(ended, f"{count} runs have succeeded", lambda: runs_of(page, desk))
    return runs_of(page, desk)


def bill_from_the_page(page: Page, desk: str) -> None:
    """Open the job that bills a month, and its dialog."""
    materialize = page.get_by_role("button", name="Materialize all")
    visit(page, f"{desk}/locations/pipeline.definitions/jobs/billing_month", materialize)
    materialize.click()
    confirm, field = page.get_by_role("button", name="Confirm"), page.get_by_placeholder("ex: ")
    # until deliveries have been ingested by a job of their own, the page asks whether one is sure
    confirm.or_(field).first.wait_for()
    if confirm.is_visible():
        confirm.click()
    field.wait_for()


def backfill_from_a_shell(landing: Landing, first: str, last: str) -> None:
    """The command of docs/operations.md."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"`dagster (job backfill [^`]*)`", page)
    words = command.replace("--from 2026-01 --to 2026-03", f"--from {first} --to {last}").split()
    subprocess.run(
        [str(Path(sys.executable).with_name("dagster")), *words],
        env=os.environ | {"OVERAGE_HOME": str(landing.root), "DAGSTER_HOME": str(landing.root / ".dagster")},
        check=True,
    )


def check_of_the_report(page: Page, desk: str, verdict: str) -> None:
    """The page of the check says this of the report that was built last."""
    evaluated, told = page.get_by_text("Evaluation result"), page.get_by_text(verdict, exact=True)
    visit(page, f"{desk}/assets/billing_report?view=checks", evaluated, told)


# each of these goes on where the one before it ended
def test_the_graph_opens_without_a_dialog_in_the_way(page: Page, desk: str) -> None:
    groups = ("usage", "packages", "charges", "documents", "reports")
    visit(page, f"{desk}/asset-groups", *(page.get_by_text(group, exact=True) for group in groups))
    assert page.get_by_role("dialog").count() == 0


def test_months_are_billed_from_the_page_in_order_and_one_after_the_other(
    page: Page, desk: str, landing: Landing
) -> None:
    bill_from_the_page(page, desk)
    runs = launch(page, f"[{MONTHS[0]}...{MONTHS[-1]}]", len(MONTHS), desk)
    assert [run["month"] for run in sorted(runs, key=lambda run: run["startTime"])] == MONTHS
    ends = {run["month"]: run["endTime"] for run in runs}
    starts = {run["month"]: run["startTime"] for run in runs}
    assert all(ends[one] <= starts[other] for one, other in pairwise(MONTHS))
    assert [path.name for path in sorted((landing.root / "documents").rglob("*.pdf"))] == [
        f"INV-2026-00000{number}.pdf" for number in range(1, len(MONTHS) + 1)
    ]
    link = page.get_by_text(f"/overage/reports/{MONTHS[0]}.pdf")
    visit(page, f"{desk}/assets/billing_report?view=partitions&partition={MONTHS[0]}", link)
    check_of_the_report(page, desk, "Passed")


# in a usual run `tests/assets/test_months.py` rolls forward, without a browser
@pytest.mark.skipif(not sized(usual=False, long=True), reason="minutes in a browser: pytest --long")
def test_an_older_month_is_run_again_and_later_ones_are_red_until_they_are_rolled_forward(
    page: Page, desk: str, landing: Landing
) -> None:
    *_, older, last = MONTHS
    # learnt only now: everything since that month is billed on
    landing.customer("bolt", on=f"{older}-12")
    bill_from_the_page(page, desk)
    launch(page, older, len(MONTHS) + 1, desk)
    check_of_the_report(page, desk, "Passed")
    before = dict.fromkeys(MONTHS, 1) | {older: 2}
    assert documents_by_month(landing) == before
    # the last month's report alone is no remedy
    materialize = page.get_by_role("button", name="Materialize", disabled=False)
    visit(page, f"{desk}/assets/billing_report?partition={last}", materialize)
    materialize.first.click()
    launch(page, last, len(MONTHS) + 2, desk)
    check_of_the_report(page, desk, "Failed")
    for told in ("requests", f"run billing_month from {last} to the latest month"):
        page.get_by_text(told, exact=False).first.wait_for()
    backfill_from_a_shell(landing, last, last)
    all_runs(page, len(MONTHS) + 3, desk)
    check_of_the_report(page, desk, "Passed")
    assert documents_by_month(landing) == before | {last: 2}


def documents_by_month(landing: Landing) -> dict[str, int]:
    """How many PDFs there are."""
    return {folder.name: len(list(folder.iterdir())) for folder in sorted((landing.root / "documents").iterdir())}
