"""What a notebook uses: the example of the documentation runs, and importing the library changes nothing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import billing
from billing.model.errors import RefusedError
from tests.by_steps import bill_by_steps
from tests.pipeline.outside import Landing

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "library.md"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    landing = Landing(tmp_path_factory.mktemp("notebook") / "data")
    landing.customer("acme")
    landing.use("acme", emails=17_000)
    for month, as_of in (("2026-01", "2026-01-31"), ("2026-02", "2026-02-28")):
        bill_by_steps(landing.root, month, as_of)
    return landing.root


def test_the_example_of_the_page_runs(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "data")
    before = {path: path.read_bytes() for path in sorted((tmp_path / "data").rglob("*")) if path.is_file()}
    [example] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "2 x 3.00 = 6.00" in done.stdout
    assert "'accounts': " in done.stdout
    assert {path: path.read_bytes() for path in before} == before


def test_a_table_is_read_as_a_frame(home: Path) -> None:
    business = billing.load(home)
    documents = billing.read_table(business, "documents", month="2026-02")
    assert isinstance(documents, pl.DataFrame)
    assert documents["account_id"].to_list() == ["acme"]
    with pytest.raises(RefusedError, match="as-of day"):
        billing.preview(business, "2026-03")


def test_importing_the_library_loads_and_sets_nothing() -> None:
    script = (
        "import os, sys; before = dict(os.environ); import billing; "
        "print(before == dict(os.environ), 'polars' in sys.modules, sorted(set(dir(billing)) & {'load', 'explain'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True False ['explain', 'load']\n"
