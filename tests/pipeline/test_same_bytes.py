"""The same input gives the same bytes: in another process, with other hash seeds and another number of threads."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from billing.model.tables import DRAFTS, PACKAGES
from billing.month.business import Business
from billing.month.scratch_copy import bring_up_to_date
from billing.month.steps import ingest_usage, write_packages
from billing.sample import billing_hint, write_sample
from billing.store.frames import read_frame
from tests.landing import keep_few_deliveries
from tests.pipeline.outside import content_of, overage
from tests.postgresql import register_rows
from tests.sizes import sized

ACCOUNTS, MONTHS = sized((2, 1), (12, 2))
RANGE = sized(3, 7)
PROGRAM = "from pipeline.cli import main; main()"


def billed(home: Path, seed: str, threads: str, zone: str) -> dict[str, object]:
    """Every file of a made-up business, wrong rows included, that a process of its own has billed and drawn."""
    arguments = (
        "sample",
        home,
        "--accounts",
        ACCOUNTS,
        "--months",
        MONTHS,
        "--events-per-account-day",
        "4",
        "--seed",
        "7",
    )
    assert overage(*arguments).status == 0
    keep_few_deliveries(home, sized(8, 1))
    month, as_of = billing_hint(MONTHS)
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("OVERAGE", "DAGSTER"))}
    surroundings = outside | {"PYTHONHASHSEED": seed, "POLARS_MAX_THREADS": threads, "TZ": zone}
    subprocess.run(
        [sys.executable, "-c", PROGRAM, "bill", month, "--as-of", str(as_of), "--home", str(home)],
        env=surroundings,
        check=True,
        timeout=300,
    )
    found: dict[str, object] = dict(content_of(home))
    found["register.db"] = register_rows(f"sqlite:///{home / 'register.db'}")
    state = json.loads((home / "lake" / "ingest_state.json").read_text())
    # when a delivered file was written, and where
    del state["stamps"]
    found["lake/ingest_state.json"] = state
    return found


def test_tables_pages_and_documents_are_the_same_bytes_wherever_they_are_made(tmp_path: Path) -> None:
    one = billed(tmp_path / "one" / "home", seed="0", threads="1", zone="UTC")
    other = billed(tmp_path / "other" / "home", seed="4242", threads="2", zone="Asia/Tokyo")
    assert len([name for name in one if name.endswith(".pdf")]) >= ACCOUNTS
    assert one == other


def made_up(home: Path) -> None:
    """A business of which some are paid back."""
    write_sample(home, accounts=sized(24, 120), months=sized(1, 2), events_per_account_day=Decimal("0.2"))
    keep_few_deliveries(home, sized(8, 1))
    subscribed = [json.loads(line) for line in (home / "landing" / "requests.jsonl").read_text().splitlines()]
    with (home / "landing" / "requests.jsonl").open("a") as requests:
        for row in subscribed:
            # whoever signed up early is paid back before the rest of the month is issued
            if row["kind"] == "subscribe" and row["at"] < "2026-01-14":
                refund = row | {"request_id": row["request_id"] + "-back", "at": "2026-01-25T00:00:00Z"}
                requests.write(json.dumps(refund | {"kind": "refund", "channel": "support"}) + "\n")


def drafted_and_issued(home: Path) -> list[dict[str, object]]:
    """Every file, and the register, of a made-up business after its drafts and after they were issued."""
    found: list[dict[str, object]] = []
    last = sized(usual=date(2026, 1, 31), long=date(2026, 2, 17))
    for as_of, issues in ((date(2026, 1, 20), True), (last, False), (last, True)):
        business = replace(Business.load(home, as_of), issues=issues)
        ingest_usage(business)
        bring_up_to_date(business, as_of.strftime("%Y-%m"))
        business.register.close()
        if not issues:
            shutil.copy(business.home.partition(DRAFTS, "2026-01"), home.with_name("drafts.parquet"))
        files: dict[str, object] = dict(content_of(home))
        files["register.db"] = register_rows(f"sqlite:///{home / 'register.db'}")
        del files["lake/ingest_state.json"]
        found.append(files)
    return found


def test_documents_are_the_same_however_few_are_drafted_written_and_issued_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DRAFTS.__dict__, "rows_at_once", sized(8, 20))
    made_up(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "in parts")
    whole = drafted_and_issued(tmp_path / "whole")
    drafts = pl.read_parquet(tmp_path / "drafts.parquet")
    assert 0 < drafts["corrects"].count() < drafts.height - RANGE, "notes and more than one range"
    monkeypatch.setattr("billing.documents.drafts._RANGE", RANGE)
    for module in ("connection", "issued_documents", "register"):
        monkeypatch.setattr(f"billing.register.{module}._BULK", 11)
    assert drafted_and_issued(tmp_path / "in parts") == whole


def test_what_has_just_been_closed_is_written_as_the_register_tells_it_later(tmp_path: Path) -> None:
    write_sample(tmp_path, accounts=sized(4, 120), months=2, events_per_account_day=Decimal("0.2"))
    keep_few_deliveries(tmp_path, sized(8, 1))
    for as_of, closed in ((date(2026, 2, 10), {False, True}), (date(2026, 2, 28), {True})):
        business = Business.load(tmp_path, as_of)
        ingest_usage(business)
        bring_up_to_date(business, "2026-02")
        path = business.home.partition(PACKAGES, "2026-02")
        written = path.read_bytes()
        assert set(read_frame(path, PACKAGES)["closed"]) == closed
        write_packages(business, "2026-02")
        assert path.read_bytes() == written
        business.register.close()
