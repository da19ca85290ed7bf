"""What is handed over: the package, the lock, and documents that say what the program does."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder

import billing
from billing.model.catalogue import TARIFF_MODELS, Policy
from pipeline.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-").replace(".", "-")


def test_the_page_of_tables_is_what_the_tables_say() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "tables.py"))["tables_page"]()
    assert (ROOT / "docs" / "tables.md").read_text(encoding="utf-8") == page, "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documents_name_only_commands_that_exist(page: Path) -> None:
    named = set(re.findall(r"(?:`|/bin/)overage ([a-z-]+)", page.read_text(encoding="utf-8")))
    assert named <= set(main.commands)


def test_the_readme_names_every_command() -> None:
    assert set(re.findall(r"^\| `overage ([a-z-]+)", PAGES[0].read_text(encoding="utf-8"), re.M)) == set(main.commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [*re.findall(r"\]\(([^)#]+)\)", text), *re.findall(r'src="([^"]+)"', text)]
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_every_policy_is_described_with_its_default() -> None:
    text = (ROOT / "docs" / "home.md").read_text(encoding="utf-8")
    described = dict(re.findall(r"^\| `([a-z_]+)` \| (?:`([^`]+)`|all four|none) \|", text, re.M))
    defaults = {field.name: getattr(Policy(), field.name) for field in fields(Policy)}
    written = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in defaults.items()}
    written |= {"accepted_cards": "", "mail_from": "", "shadow": ""}
    assert described == written


def test_every_tariff_model_is_described() -> None:
    text = (ROOT / "docs" / "home.md").read_text(encoding="utf-8")
    section = text[text.index("### Tariffs") : text.index("### Agreements")]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.M)) == set(TARIFF_MODELS)


def test_the_lock_pins_what_the_project_asks_for_by_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = {_name(line) for line in lock.splitlines() if re.match(r"[a-z0-9._-]+(\[.*\])?==", line)}
    groups = PROJECT["dependency-groups"]
    asked = [
        *PROJECT["project"]["dependencies"],
        *(name for group in ("build", "tests", "lint") for name in groups[group]),
    ]
    assert {_name(requirement) for requirement in asked} <= pinned
    assert len(re.findall(r"--hash=sha256:", lock)) >= len(pinned)


def test_nothing_that_installs_names_a_host() -> None:
    files = [ROOT / "requirements.lock", ROOT / "Makefile", *(ROOT / ".ci").iterdir()]
    assert [
        file.name for file in files if re.search(r"https?://|(?<!emit-)index-url", file.read_text(encoding="utf-8"))
    ] == []


def test_the_wheel_carries_what_the_program_reads(tmp_path: Path) -> None:
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    carried = set(ZipFile(wheel).namelist())
    assert {
        "billing/starter/home/landing/catalogue.yaml",
        "billing/starter/home/README.md",
        "invoice_templates/v1/invoice.html.j2",
        "invoice_templates/v1/invoice.css",
        "invoice_templates/fonts/Inter-Regular.ttf",
        "pipeline/cli.py",
        "pipeline/dagster.yaml",
        "assets/months.py",
        "billing/py.typed",
        "overage_command/__init__.py",
    } <= carried
    assert not {name for name in carried if name.startswith(("tests/", "benchmarks/", "docs/"))}


INHERITS = """
import subprocess, sys
from overage_command import main
try:
    main()
except SystemExit:
    subprocess.run([sys.executable, "-c", "import os, pipeline.cli; print(os.path.dirname(pipeline.cli.__file__))"])
"""


def test_the_command_and_what_it_starts_go_before_anything_that_is_called_as_its_packages(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    for name in ("pipeline.py", "billing.py", "assets/__init__.py"):
        (tmp_path / name).write_text("raise SystemExit('not the program')")
    done = subprocess.run(
        [sys.executable, "-P", "-c", INHERITS, "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [f"overage, version {billing.__version__}", str(ROOT / "pipeline")]
