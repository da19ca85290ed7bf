"""Homes that earlier versions billed go on with the same documents, and what they issued keeps its bytes (rule 19)."""

import json
import tarfile
from datetime import date
from pathlib import Path

import pytest

from billing.month.business import Business
from billing.reports.preview import preview_month
from billing.reports.verify import disagreements
from tests import golden
from tests.by_steps import bill_by_steps, rows
from tests.golden.__main__ import BILLED, BILLED_ON, COLUMNS, NEXT, NEXT_ON
from tests.pipeline.outside import content_of
from tests.sizes import LONG, sized

ARCHIVES = sorted(Path(golden.__file__).parent.glob("*.tar.xz"))
TAKEN = sized([ARCHIVES[0], ARCHIVES[-1]], ARCHIVES)
"""In a usual run the first and the last."""


@pytest.mark.parametrize("shards", sized([1], [1, 3]))
@pytest.mark.parametrize("archive", TAKEN, ids=lambda path: path.name.removesuffix(".tar.xz"))
def test_a_home_of_an_earlier_version_goes_on_as_it_would_have(archive: Path, shards: int, tmp_path: Path) -> None:
    with tarfile.open(archive) as packed:
        # Set the attribute: Python before 3.11.4 has no parameter `filter`, later versions warn without one.
        packed.extraction_filter = getattr(tarfile, "data_filter", None)
        packed.extractall(tmp_path)  # noqa: S202
    expected = [tuple(row[name] for name in COLUMNS) for row in json.loads((tmp_path / "expected.json").read_text())]
    pages = {name: found for name, found in content_of(tmp_path).items() if name.startswith("documents/")}
    assert pages

    business = Business.load(tmp_path, date.fromisoformat(BILLED_ON), shards=shards)
    if LONG or archive == ARCHIVES[0]:
        assert disagreements(business) == []
        previewed = preview_month(business, BILLED)
        assert previewed.changes.is_empty()

    register = business.register.documents()
    business = bill_by_steps(tmp_path, NEXT, NEXT_ON, shards=shards)
    found = rows(business, "documents", *COLUMNS, billing_month=NEXT)
    assert [tuple(str(value) if isinstance(value, date) else value for value in row) for row in found] == expected
    assert business.register.documents().head(register.height).equals(register)
    assert {name: content_of(tmp_path)[name] for name in pages} == pages
