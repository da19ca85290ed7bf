"""docs/operations.md: its commands do what it says, and its example for a server is one that loads."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from tests.postgresql import Server

ROOT = Path(__file__).parents[1]
PRODUCTION = ROOT / "docs" / "production"


def test_every_command_of_the_page_runs_in_its_order(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    commands = re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S)
    assert len(commands) == 6
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OVERAGE_", "DAGSTER_"))}
    done = subprocess.run(
        ["/bin/sh", "-ex"],
        input="".join(commands),
        env=kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    papers = [
        {path.name: path.read_bytes() for path in (tmp_path / home / "documents").rglob("*.pdf")}
        for home in ("my-business", "restored")
    ]
    assert papers[0], "documents were issued"
    assert papers[0] == papers[1]


def test_the_settings_for_a_server_load_and_differ_in_the_storage_only(
    postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    server = yaml.safe_load((PRODUCTION / "dagster.yaml").read_text())
    assert {name: value for name, value in server.items() if name != "storage"} == ours
    url = postgresql.new_database().replace("postgresql+psycopg:", "postgresql+psycopg2:")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
    shutil.copy(PRODUCTION / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert type(instance.run_storage).__module__.startswith("dagster_postgres")
        assert instance.get_runs_count() == 0
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled


def test_the_services_are_units_that_systemd_understands(tmp_path: Path) -> None:
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        pytest.skip("systemd is not installed")
    for unit in sorted(PRODUCTION.glob("*.service")):
        # the programs have to be there: those of this environment stand in
        text = unit.read_text().replace("/opt/overage/.venv/bin", str(Path(sys.executable).parent))
        (tmp_path / unit.name).write_text(text)
        done = subprocess.run(
            [systemd, "verify", "--man=no", "--recursive-errors=no", str(tmp_path / unit.name)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, [line for line in done.stderr.splitlines() if unit.name in line]) == (0, [])
