"""The same input gives the same bytes: in another process, with other hash seeds and another number of threads."""

import json
import os
import subprocess
import sys
from pathlib import Path

from billing.sample import billing_hint
from tests.pipeline.outside import content_of, overage
from tests.postgresql import register_rows

PROGRAM = "from pipeline.cli import main; main()"


def billed(home: Path, seed: str, threads: str, zone: str) -> dict[str, object]:
    """Every file of a made-up business, wrong rows included, that a process of its own has billed and drawn."""
    arguments = ("sample", home, "--accounts", "12", "--months", "2", "--events-per-account-day", "4", "--seed", "7")
    assert overage(*arguments).status == 0
    month, as_of = billing_hint(2)
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
    assert len([name for name in one if name.endswith(".pdf")]) > 12
    assert one == other
