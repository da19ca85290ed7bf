"""docs/operations.md: its commands do what it says, and its example for a server is one that loads."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import dagster as dg
import pytest
import yaml
from dagster_postgres import PostgresRunStorage

from tests.long_runs import long_only
from tests.pipeline.outside import Landing
from tests.postgresql import Server

ROOT = Path(__file__).parents[1]
PRODUCTION = ROOT / "docs" / "production"
PATIENCE = 300
"""Seconds that a busy machine may take to start a process."""


@long_only("each command of the page has tests of its own")
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
    url = postgresql.new_records()
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
    shutil.copy(PRODUCTION / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_storage, PostgresRunStorage)
        assert instance.get_runs_count() == 0
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled


def test_the_services_are_units_that_systemd_understands(tmp_path: Path) -> None:
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        if os.environ.get("CI") == "true":
            pytest.fail("systemd is missing in CI")
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


def test_the_services_start_as_their_units_say(postgresql: Server, tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    instance = tmp_path / "dagster"
    instance.mkdir()
    shutil.copy(PRODUCTION / "dagster.yaml", instance)
    given = dict(line.split("=", 1) for line in (PRODUCTION / "environment").read_text().splitlines() if "=" in line)
    # nothing but what the file says, at the places of this test
    environment = given | {
        "PATH": os.defpath,
        "OVERAGE_HOME": str(landing.root),
        "OVERAGE_REGISTER_URL": postgresql.new_database(),
        "DAGSTER_HOME": str(instance),
        "DAGSTER_POSTGRES_URL": postgresql.new_records(),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def commands(unit: str, key: str) -> list[list[str]]:
        found = re.findall(rf"^{key}=(.+)$", (PRODUCTION / unit).read_text(), re.M)
        here = [line.replace("/opt/overage/.venv/bin", str(Path(sys.executable).parent)) for line in found]
        return [shlex.split(line.replace("--port 3000", f"--port {port}")) for line in here]

    def asked(query: str) -> Any:
        with urlopen(f"http://127.0.0.1:{port}/graphql?{urlencode({'query': query})}") as answer:  # our own server
            return json.load(answer)["data"]

    log = tmp_path / "log"
    with ExitStack() as stack:
        said = stack.enter_context(log.open("wb"))
        services = []
        for unit in ("overage-daemon.service", "overage-webserver.service"):
            for command in commands(unit, "ExecStartPre"):
                subprocess.run(command, env=environment, cwd=tmp_path, stdout=said, stderr=said, check=True)
            (command,) = commands(unit, "ExecStart")
            services.append(subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=said, stderr=said))
            stack.callback(services[-1].wait)
            stack.callback(services[-1].terminate)
        last = time.monotonic() + PATIENCE
        health_query = "{instance {daemonHealth {allDaemonStatuses {daemonType healthy required}}}}"
        health: list[dict[str, Any]] = []
        while not health or not all(each["healthy"] for each in health if each["required"]):
            assert [service.poll() for service in services] == [None, None], log.read_text()
            assert time.monotonic() < last, f"{health}\n{log.read_text()}"
            time.sleep(0.5)
            with suppress(OSError):
                health = asked(health_query)["instance"]["daemonHealth"]["allDaemonStatuses"]
        assert {"SCHEDULER", "SENSOR", "QUEUED_RUN_COORDINATOR", "BACKFILL", "MONITORING"} <= {
            each["daemonType"] for each in health if each["required"]
        }
        (repository,) = asked("{repositoriesOrError {... on RepositoryConnection {nodes {jobs {name}}}}}")[
            "repositoriesOrError"
        ]["nodes"]
        assert {"name": "billing_month"} in repository["jobs"]
    assert not list(instance.rglob("*.db")), "all records are on the server"
