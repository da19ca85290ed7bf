"""What the product makes of three businesses, as hashes: `python -m tests.same_bytes FILE [LANDING]`.

Run it before and after a change that must not change anything, and compare the two files. The businesses are the demo,
the starting home and, if a landing folder is named, that one, billed to the end of each month of its usage.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

from tests.landing import content_of
from tests.postgresql import register_rows

WITHOUT_TIMES = ("ingest_state.json",)
"""These hold modification times of delivered files."""


def overage(*words: object) -> None:
    """Run a command, and show whatever it prints."""
    ended = subprocess.run([Path(sys.executable).with_name("overage"), *map(str, words)], check=False)
    sys.stderr.write(f"{words} exit {ended.returncode}\n")


def hashes_of(home: Path) -> dict[str, str]:
    """Every file of a home that was made from its landing folder, and every table of its register."""
    made = ("lake/", "documents/", "profiles/")
    found = {
        name: digest
        for name, digest in content_of(home).items()
        if name.startswith(made) and not name.endswith(WITHOUT_TIMES)
    }
    for table, rows in register_rows(f"sqlite:///{home / 'register.db'}").items():
        found[f"register: {table}"] = hashlib.sha256(repr(rows).encode()).hexdigest()
    return found


def months_of_usage(landing: Path) -> list[str]:
    """The months that a landing folder has usage of."""
    return sorted({path.name[:7] for path in (landing / "usage").iterdir() if path.name[:2] == "20"})


def bill(home: Path, months: list[str]) -> None:
    """Bill each month as of its last day."""
    for month in months:
        following = date.fromisoformat(f"{month}-28") + timedelta(days=4)
        overage("bill", month, "--as-of", following - timedelta(days=following.day), "--home", home)


def write_hashes(target: Path, landing: Path | None, folder: Path) -> None:
    """Bill the businesses inside `folder`, and write the hashes of what was made."""
    demo, starting = folder / "demo", folder / "starting"
    overage("sample", demo, "--accounts", 200, "--months", 3)
    bill(demo, ["2026-01", "2026-02"])
    overage("sample", demo, "--payments")
    bill(demo, ["2026-03"])
    overage("init", starting)
    bill(starting, months_of_usage(starting / "landing"))
    homes = [demo, starting]
    if landing is not None:
        real = folder / "real"
        shutil.copytree(landing, real / "landing")
        bill(real, months_of_usage(landing))
        homes.append(real)
    found = {home.name: hashes_of(home) for home in homes}
    target.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        write_hashes(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else None, Path(temporary))
