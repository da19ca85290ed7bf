"""Runs after the first: a late file costs little, and leaves the bytes that a run without any record leaves."""

import os
import shutil
from pathlib import Path

import pytest

from tests.pipeline.outside import Landing, bill, bill_once, content_of, overage
from tests.sizes import sized

pytestmark = pytest.mark.usefixtures("profiles")

_UNSYNCED = ("last_run.json", "profile_pages.json", "profile_portal.parquet", "fingerprint.json")
"""Files that a power cut after the first run of a home may take, or leave as zeros."""


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    """Three customers billed for two months; one is on trial until April."""
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    landing.customer("bolt", "silver", on="2026-01-20")
    landing.customer("cone", on="2026-02-20", trial_days=45)
    for day in ("2026-01-15", "2026-02-03", "2026-02-21"):
        landing.use("acme", day, emails=1_200)
        landing.use("bolt", day, emails=40)
    bill_once(landing.root, "2026-02", "2026-02-28")
    return landing


def made(home: Path) -> dict[str, str]:
    """What was made of the landing folder; without what a run records of itself, and the times of delivered files."""
    folders, left_out = ("lake/", "profiles/", "reports/", "documents/"), ("ingest_state", "fingerprints/")
    return {
        name: digest
        for name, digest in content_of(home).items()
        if name.startswith(folders) and not any(each in name for each in left_out)
    }


def test_a_late_file_leaves_the_bytes_of_a_run_without_records(landing: Landing, tmp_path: Path) -> None:
    before = made(landing.root)
    landing.use("acme", "2026-02-21", emails=3_000, delivered="2026-02-26")
    anew = landing.copied(tmp_path / "anew")
    assert bill(landing.root, "2026-02", "2026-02-28").status == 0
    for gone in ("fingerprints", "profile", "profile_pages.json", "profile_portal.parquet", "last_run.json"):
        path = anew.root / "lake" / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(anew.root / "profiles")
    assert bill(anew.root, "2026-02", "2026-02-28").status == 0
    now = made(landing.root)
    assert now == made(anew.root)
    moved = {name for name in now if now[name] != before.get(name)}
    assert "profiles/a-acme.html" in moved
    assert "profiles/a-bolt.html" not in moved


@pytest.mark.parametrize(
    "left", sized([b"\0" * 500], [b"", b"\0" * 500, None]), ids=sized(["zeros"], ["empty", "zeros", "missing"])
)
def test_what_a_power_cut_took_of_the_first_run_is_made_again(landing: Landing, left: bytes | None) -> None:
    before = made(landing.root)
    taken = [path for path in sorted((landing.root / "lake").rglob("*")) if path.name in _UNSYNCED]
    assert {path.name for path in taken} == set(_UNSYNCED)
    for path in taken:
        path.unlink() if left is None else path.write_bytes(left)
    ended = bill(landing.root, "2026-02", "2026-02-28")
    assert ended.status == 0, ended.messages
    assert "0 documents issued" in ended.messages
    assert made(landing.root) == before


def test_a_first_month_syncs_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    assert overage("init", tmp_path / "home").status == 0
    monkeypatch.setattr(os, "fsync", synced.append)
    assert bill(tmp_path / "home", "2026-01", "2026-01-31").status == 0
    # With the register's four transactions and two drawn PDFs, which this test does not see, it is 100.
    assert len(synced) <= 82
