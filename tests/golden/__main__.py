"""Make a golden home with the `overage` command that stands beside this Python.

The archive holds the home as it was billed through March, and `expected.json`: the documents that the same version
issues when it bills April from there.
"""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ACCOUNTS, MONTHS = 6, 4
BILLED, NEXT = "2026-03", "2026-04"
BILLED_ON, NEXT_ON = "2026-03-31", "2026-04-30"
COLUMNS = ("number", "kind", "account_id", "billing_date", "net", "tax", "total", "corrects")
LEFT_OUT = (".dagster", ".lock")


def overage(*arguments: object) -> str:
    """What the command prints."""
    command = [str(Path(sys.executable).with_name("overage")), *map(str, arguments)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)  # our own command
    # some accounts of a made-up business have rows that are set aside
    assert ended.returncode in (0, 1), ended.stderr
    return ended.stdout


def make(archive: Path) -> None:
    """Write the archive of a home that this version billed."""
    with tempfile.TemporaryDirectory() as folder:
        home, later = Path(folder, "home"), Path(folder, "later")
        size = ("--accounts", ACCOUNTS, "--months", MONTHS, "--events-per-account-day", "0.3", "--seed", "7")
        overage("sample", home, *size)
        overage("bill", BILLED, "--as-of", BILLED_ON, "--home", home)
        shutil.copytree(home, later)
        overage("bill", NEXT, "--as-of", NEXT_ON, "--home", later)
        issued = json.loads(overage("show", "documents", "--month", NEXT, "--format", "json", "--home", later))
        expected = [{name: row[name] for name in COLUMNS} for row in issued]
        (home / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
        with tarfile.open(archive, "w:xz") as packed:
            for path in sorted(home.iterdir()):
                if path.name not in LEFT_OUT:
                    packed.add(path, path.name, filter=_plain)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    make(Path(__file__).with_name(f"{sys.argv[1]}.tar.xz"))
