"""A document is drawn by the version of the template that it was issued with, to the same bytes (rule 19)."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from billing.rendering import Job, RenderedFile, drawing_libraries, render_files, render_pdf
from billing.rendering.template_versions import EDITIONS

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / "invoice_templates"
GOLDEN = Path(__file__).parent / "golden_documents"
KINDS = ("invoice", "credit_note", "debit_note", "invoice_in_other_scripts")


def files_of(folder: str) -> dict[str, str]:
    """The hash of every file that a version draws with."""
    paths = [*(TEMPLATES / folder).rglob("*"), *(TEMPLATES / "fonts").rglob("*"), TEMPLATES / "fonts.conf"]
    return {
        path.relative_to(TEMPLATES).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
        if path.is_file()
    }


def words(pdf: Path) -> str:
    return subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, check=True, text=True).stdout


@pytest.mark.parametrize("version", EDITIONS)
def test_a_version_of_the_template_never_changes(version: str) -> None:
    folder = EDITIONS[version].folder
    kept = json.loads((GOLDEN / folder / "files.json").read_text("utf-8"))
    # a later version may bring faces of its own
    assert {name: sha256 for name, sha256 in files_of(folder).items() if name in kept} == kept
    added = set(files_of(folder)) - set(kept)
    assert not [name for name in added if name.startswith(folder)], "a new version has a folder of its own"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", EDITIONS)
def test_every_version_draws_every_kind_of_document_as_it_was_issued(version: str, kind: str, tmp_path: Path) -> None:
    folder = GOLDEN / EDITIONS[version].folder
    content = json.loads((folder / f"{kind}.json").read_text("utf-8"))
    assert content["template_version"] == version
    drawn = tmp_path / f"{kind}.pdf"
    kept = {path.name: path.read_bytes() for path in (folder / "resources").glob("*")}
    drawn.write_bytes(render_pdf(content, kept))
    golden = folder / f"{kind}.pdf"
    if drawing_libraries() == (folder / "libraries.txt").read_text("utf-8").strip():
        assert drawn.read_bytes() == golden.read_bytes()
    elif shutil.which("pdftotext"):
        assert words(drawn) == words(golden)


def test_a_file_with_other_bytes_is_told_and_never_takes_the_place_of_the_original(tmp_path: Path) -> None:
    folder = GOLDEN / "v1"
    original = (folder / "invoice.pdf").read_bytes() + b"% drawn by another version of a library\n"
    sha256 = hashlib.sha256(original).hexdigest()
    path = tmp_path / "INV-2026-000042.pdf"
    job = Job((folder / "invoice.json").read_text("utf-8"), path, sha256)
    (file,) = render_files([job])
    assert isinstance(file, RenderedFile)
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() != sha256
    path.write_bytes(original)
    (file,) = render_files([job])
    assert isinstance(file, RenderedFile)
    assert (file.sha256, path.read_bytes()) == (sha256, original)
