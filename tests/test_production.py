"""docs/production: the files for a cluster say what the program has, and what they are read by allows."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.executor_choice import ExecutorName, chosen_executor
from tests import sizes

ROOT = Path(__file__).parents[1]
PRODUCTION = ROOT / "docs" / "production"
COMPOSE = yaml.safe_load((PRODUCTION / "compose.yaml").read_text())
VALUES = yaml.safe_load((PRODUCTION / "helm-values.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"].startswith("overage")}


def environment() -> dict[str, str]:
    """The settings that compose.yaml gives to every process."""
    lines = (PRODUCTION / "cluster.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_the_settings_of_a_cluster_are_those_that_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(PRODUCTION / "dagster.yaml", tmp_path)
    for name, value in (environment() | {"DAGSTER_HOME": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    assert chosen_executor() == ExecutorName.CELERY
    code = "\n".join(
        path.read_text() for room in ("assets", "pipeline", "billing") for path in (ROOT / room).rglob("*.py")
    )
    page = (ROOT / "docs" / "cluster.md").read_text()
    in_values = VALUES["dagster-user-deployments"]["deployments"][0]["env"]
    named = {*environment(), *in_values, *re.findall(r"`(OVERAGE_[A-Z_]+)`", page)} - {"DAGSTER_POSTGRES_URL"}
    assert [name for name in sorted(named) if name not in code and name != "OVERAGE_WORK"] == []
    assert "DAGSTER_POSTGRES_URL" in (PRODUCTION / "dagster.yaml").read_text()


def test_every_process_of_the_compose_file_can_be_started_and_finds_its_files() -> None:
    assert {"daemon", "webserver", "worker", "prepare"} == OURS.keys()
    programs = {path.name for path in Path(sys.executable).parent.iterdir()}
    for service in OURS.values():
        program, *arguments = service["command"]
        assert program in programs
        helped = {"overage": arguments[:1], "dagster": arguments, "dagster-daemon": arguments[:1]}.get(program)
        if helped is not None:
            done = subprocess.run([Path(sys.executable).with_name(program), *helped, "--help"], capture_output=True)
            assert done.returncode == 0, done.stderr
        else:
            assert arguments[:2] == ["-m", "pipeline.webserver"]
        assert service["env_file"] == "cluster.env"
    # what the operator brings
    theirs = {
        "./home",
        "./overage.users",
        "./certificates/billing.example.com.pem",
        "./certificates/billing.example.com.key",
    }
    mounted = {
        volume.partition(":")[0]
        for service in COMPOSE["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith(".")
    }
    assert {name for name in mounted if not (PRODUCTION / name).exists()} == theirs
    waited_for = {name for service in COMPOSE["services"].values() for name in service.get("depends_on", {})}
    assert waited_for <= COMPOSE["services"].keys()


def test_nobody_reaches_the_webserver_but_through_the_proxy() -> None:
    webserver = COMPOSE["services"]["webserver"]
    assert webserver["command"][-4:] == ["--host", "127.0.0.1", "--port", "3000"]
    assert webserver["ports"] == ["443:443"]
    assert COMPOSE["services"]["proxy"]["network_mode"] == "service:webserver"
    assert all("ports" not in service for name, service in COMPOSE["services"].items() if name != "webserver")


def test_the_broker_waits_longer_than_a_run_may_take() -> None:
    (timeout,) = re.findall(r"^consumer_timeout = (\d+)$", (PRODUCTION / "rabbitmq.conf").read_text(), re.M)
    monitoring = yaml.safe_load((PRODUCTION / "dagster.yaml").read_text())["run_monitoring"]
    assert int(timeout) > monitoring["max_runtime_seconds"] * 1000


# --- the image -------------------------------------------------------------------------------------------------------


def steps_of_image() -> list[str]:
    """The commands of the Dockerfile."""
    text = (PRODUCTION / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(r"^RUN (.+)$", text, re.M)


def test_the_image_has_the_libraries_and_the_versions_that_the_tests_have(tmp_path: Path) -> None:
    libraries, users, program = steps_of_image()
    for step in (libraries, users, program):
        subprocess.run(["/bin/sh", "-n"], input=step, text=True, check=True)
    (wanted,) = re.findall(r"^LIBRARIES +:= (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert set(wanted.split()) <= set(libraries.split())
    assert "useradd" in users
    # the first part of the step, as it stands
    pin = program.partition("&&")[0].replace("versions.txt", str(tmp_path / "versions.txt"))
    subprocess.run(["/bin/sh", "-ec", pin], cwd=ROOT, check=True)
    pinned = (tmp_path / "versions.txt").read_text().splitlines()
    lock = (ROOT / "requirements.lock").read_text()
    assert {"dagster==1.13.27", "celery==5.7.0"} <= {line.partition(" ")[0] for line in pinned}
    # pip takes no extras there
    assert not any("[" in line for line in pinned)
    assert len(pinned) == len(re.findall(r"^[a-z0-9].*==", lock, re.M))


@pytest.mark.skipif(not sizes.LONG, reason="installs everything: pytest --long")
def test_the_steps_of_the_image_make_a_program(tmp_path: Path) -> None:
    *_, program = steps_of_image()
    place, environment = tmp_path / "place", tmp_path / "environment"
    subprocess.run(["git", "clone", "--quiet", ROOT, place], check=True)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    step = program.replace("versions.txt", str(tmp_path / "versions.txt"))
    path = f"{environment / 'bin'}:/usr/bin:/bin"
    subprocess.run(["/bin/sh", "-ec", step], cwd=place, env={"PATH": path, "HOME": str(tmp_path)}, check=True)
    for words in (("overage", "--version"), ("dagster-daemon", "--help"), ("overage", "worker", "--help")):
        subprocess.run([environment / "bin" / words[0], *words[1:]], cwd=tmp_path, env={"PATH": path}, check=True)


# --- Dagster's chart -------------------------------------------------------------------------------------------------

_IMAGE = {"repository": str, "tag": str, "pullPolicy": ("Always", "IfNotPresent", "Never")}
_SOURCES = [{"name": str}]
ALLOWED: dict[str, Any] = {
    "global": {"postgresqlSecretName": str, "dagsterHome": str, "serviceAccountName": str},
    "serviceAccount": {"create": bool, "name": str, "annotations": dict},
    "generatePostgresqlPasswordSecret": bool,
    "postgresql": {
        "enabled": bool,
        "postgresqlHost": str,
        "postgresqlUsername": str,
        "postgresqlDatabase": str,
        "postgresqlScheme": str,
    },
    "dagster-user-deployments": {
        "enabled": bool,
        "deployments": [
            {
                "name": str,
                "image": _IMAGE,
                "dagsterApiGrpcArgs": [str],
                "port": int,
                "includeConfigInLaunchedRuns": {"enabled": bool},
                "env": dict,
                "envSecrets": _SOURCES,
                "resources": {"requests": dict, "limits": dict},
            }
        ],
    },
    "runLauncher": {
        "type": ("K8sRunLauncher",),
        "config": {
            "k8sRunLauncher": {
                "imagePullPolicy": _IMAGE["pullPolicy"],
                "envSecrets": _SOURCES,
                "runK8sConfig": {"containerConfig": dict, "jobSpecConfig": dict, "podSpecConfig": dict},
            }
        },
    },
    "dagsterDaemon": {
        "enabled": bool,
        "runCoordinator": {
            "enabled": bool,
            "type": ("QueuedRunCoordinator",),
            "config": {
                "queuedRunCoordinator": {
                    "maxConcurrentRuns": int,
                    "tagConcurrencyLimits": [{"key": str, "value": str, "limit": int}],
                }
            },
        },
        "runMonitoring": dict,
        "runRetries": {"enabled": bool, "maxRetries": int, "retryOnAssetOrOpFailure": bool},
    },
    "dagsterWebserver": {"enableReadOnly": bool, "image": _IMAGE},
    "telemetry": {"enabled": bool},
}
"""What the schema of Dagster's chart allows of what is used here; most of it allows nothing else."""


def not_allowed(found: Any, allowed: Any, where: str = "") -> list[str]:
    """The places of values that the chart does not know, or that are of another type."""
    if isinstance(allowed, dict):
        if not isinstance(found, dict):
            return [where]
        unknown = [f"{where}.{name}" for name in found if name not in allowed]
        known = [name for name in found if name in allowed]
        return [
            *unknown,
            *(place for name in known for place in not_allowed(found[name], allowed[name], f"{where}.{name}")),
        ]
    if isinstance(allowed, list):
        if not isinstance(found, list):
            return [where]
        return [place for each in found for place in not_allowed(each, allowed[0], f"{where}[]")]
    if isinstance(allowed, tuple):
        return [] if found in allowed else [where]
    return [] if isinstance(found, allowed) else [where]


def test_the_values_are_such_as_the_chart_knows() -> None:
    assert not_allowed(VALUES, ALLOWED) == []
    assert not_allowed(VALUES | {"dagit": {}}, ALLOWED) == [".dagit"]
    assert all(isinstance(value, str) for value in VALUES["dagster-user-deployments"]["deployments"][0]["env"].values())


def test_one_image_is_used_everywhere() -> None:
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    assert deployment["image"] == VALUES["dagsterWebserver"]["image"]
    assert deployment["env"]["OVERAGE_CODE_LOCATION"] == deployment["name"]
    assert {service["image"] for service in OURS.values()} == {f"overage:{deployment['image']['tag']}"}
    assert f"-t overage:{deployment['image']['tag']} ." in (PRODUCTION / "Dockerfile").read_text()
