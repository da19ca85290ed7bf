"""A home's own template draws documents in the same sandbox as ours, and what is wrong with it is named by its line."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from billing.rendering import Job, RenderedFile, RenderingError, Undrawn, render_files, render_pdf
from billing.rendering.own_templates import MOST_BYTES, PAGE, SHEET, TemplateError, pack, unpacked
from billing.rendering.preview import preview, sample_document
from billing.starter import starter_catalogue
from pipeline.cli import main
from tests.rich_documents import LOGO, brief, invoice, sha256

HTML = """<html lang="{{ language }}"><head><title>{{ number }}</title></head>
<body><h1 class="own">{{ title }} {{ number }}</h1>
%s
</body></html>
"""


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    (tmp_path / "landing" / "templates").mkdir(parents=True)
    return tmp_path / "landing"


def lay(landing: Path, **files: str | bytes) -> Path:
    """Write files of a template; `invoice_html` stands for a page with this body."""
    folder = landing / "templates"
    for name, text in files.items():
        file = {"page": PAGE, "sheet": SHEET, "logo": "logo.svg", "part": "part.html.j2"}[name]
        content = HTML.replace("%s", text) if name == "page" and isinstance(text, str) else text
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def test_equal_files_make_equal_archives(landing: Path, tmp_path: Path) -> None:
    folder = lay(landing, page="{{ due }}", sheet="h1 { color: red }", logo=LOGO)
    before = pack(folder)
    again = tmp_path / "again"
    again.mkdir()
    for path in sorted(folder.iterdir(), reverse=True):
        (again / path.name).write_bytes(path.read_bytes())
        os.utime(again / path.name, (1, 1))
        (again / path.name).chmod(0o600)
    (again / ".DS_Store").write_bytes(b"x")
    (again / "invoice.css~").write_bytes(b"x")
    assert pack(again) == before
    assert unpacked(before)[SHEET] == b"h1 { color: red }"
    (again / SHEET).write_bytes(b"h1 { color: blue }")
    assert pack(again) != before


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("readme.exe", b"x", "found a file of type .exe"),
        ("in voice.css", b"x", "found the name 'in voice.css'"),
        ("big.png", b"x" * (MOST_BYTES + 1), "found more than 2,000,000 bytes"),
        ("part.html.j2", b"ok\n\xff", "part.html.j2, line 2: found bytes that are not UTF-8"),
    ],
)
def test_a_file_that_is_no_part_of_a_template_is_named(landing: Path, name: str, content: bytes, problem: str) -> None:
    folder = lay(landing, sheet="")
    (folder / name).write_bytes(content)
    with pytest.raises(TemplateError) as raised:
        pack(folder)
    assert problem in str(raised.value)


def test_links_and_empty_folders_are_no_template(landing: Path) -> None:
    with pytest.raises(TemplateError, match=r"found neither invoice\.html\.j2 nor invoice\.css"):
        pack(landing / "templates")
    (landing / "templates" / SHEET).symlink_to("/etc/passwd")
    with pytest.raises(TemplateError, match="found no plain file"):
        pack(landing / "templates")


@pytest.mark.parametrize("archive", [b"", b"PK\x03\x04", LOGO])
def test_bytes_that_are_no_packed_template_are_refused(archive: bytes) -> None:
    name = sha256(archive)
    content = invoice(resources={"logo": None, "template": name, "translation": None})
    with pytest.raises(RenderingError, match=r"resources\.template: found"):
        render_pdf(content, {name: archive})


def test_a_page_of_a_home_draws_with_its_includes_images_and_words(landing: Path) -> None:
    lay(
        landing,
        page='{% include "part.html.j2" %}<img src="template:logo.svg" alt=""/>{{ _("Net") }} {{ net }}',
        part='{% from "sections.html.j2" import usage_row %}<p>{{ seller.name }}</p>',
        sheet=".own { color: #cc0000 }",
        logo=LOGO,
    )
    drawn = preview(landing, language="de", as_html=True).content.decode()
    assert "Nettobetrag 908,00" in drawn
    assert "Meridian Mail GmbH" in drawn
    assert "data:image/svg+xml;base64," in drawn
    assert ".own { color: #cc0000 }" in drawn
    assert preview(landing).content.startswith(b"%PDF")
    assert preview(landing).content == preview(landing).content


def test_a_sheet_alone_changes_our_page(landing: Path) -> None:
    plain = preview(landing.parent / "none").content
    lay(landing, sheet="h1 { color: #cc0000 }")
    assert preview(landing).content != plain
    (landing / "templates" / SHEET).write_text("/* nothing */")
    assert preview(landing).content == plain


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("{{ sellr.name }}", "invoice.html.j2, line 3: 'sellr' is undefined"),
        ("{% for x in %}", "invoice.html.j2, line 3: Expected an expression, got 'end of statement block'"),
        ("\n{{ number | nonsense }}", "invoice.html.j2, line 4: No filter named 'nonsense'."),
        ('{% include "other.html.j2" %}', "line 3: found no file 'other.html.j2', expected one of the template's"),
        ('{% include "../v1/invoice.html.j2" %}', "found no file '../v1/invoice.html.j2'"),
        ("{{ number.__class__.__mro__ }}", "line 3: access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ _.__globals__ }}", "line 3: access to attribute '__globals__'"),
        ("{{ facts.rows.append(1) }}", "line 3: "),
        ("{{ 1 // 0 }}", "line 3: "),
        ("<p>never closed", "invoice.html.j2: the page that it makes is not well-formed XML: mismatched tag"),
        ('<img src="https://example.com/x.png" alt=""/>', "https://example.com/x.png: found an address outside"),
        ('<img src="file:///etc/passwd" alt=""/>', "file:///etc/passwd: found an address outside"),
        ('<img src="template:other.svg" alt=""/>', "template:other.svg: found an address outside"),
    ],
)
def test_what_is_wrong_with_a_template_is_named_with_its_line(landing: Path, body: str, problem: str) -> None:
    lay(landing, page=body)
    with pytest.raises(RenderingError) as raised:
        preview(landing)
    assert problem in str(raised.value)
    assert "/templates/" not in raised.value.cause


def test_an_error_in_an_included_file_names_that_file(landing: Path) -> None:
    lay(landing, page='{% include "part.html.j2" %}', part="<p>\n{{ nothing }}</p>")
    with pytest.raises(RenderingError, match=r"part\.html\.j2, line 2: 'nothing' is undefined"):
        preview(landing)


def test_a_sheet_fetches_nothing_and_what_it_says_wrong_is_a_warning(landing: Path) -> None:
    lay(landing, sheet='@import "https://example.com/x.css";')
    with pytest.raises(RenderingError, match=r"https://example\.com/x\.css: found an address outside"):
        preview(landing)
    lay(landing, sheet="h1 { color: red }\nh1 { colour: red }")
    (warning,) = preview(landing).warnings
    assert warning == "invoice.css: Ignored `colour: red ` at 2:6, unknown property."


def test_documents_are_drawn_with_the_template_kept_by_its_content(landing: Path, tmp_path: Path) -> None:
    archive = pack(lay(landing, page="<p>{{ due }}</p>"))
    kept = tmp_path / "resources"
    kept.mkdir()
    (kept / sha256(archive)).write_bytes(archive)
    resources = {"logo": None, "template": sha256(archive), "translation": None}
    paths = [tmp_path / f"{name}.pdf" for name in ("own", "again", "without")]
    content = brief(resources=resources)
    jobs = [Job(json.dumps(content), path, None, kept) for path in paths[:2]]
    jobs.append(Job(json.dumps(content), paths[2]))
    own, again, without = render_files(jobs)
    assert isinstance(own, RenderedFile) and isinstance(again, RenderedFile)
    assert own.sha256 == again.sha256 == hashlib.sha256(render_pdf(content, {sha256(archive): archive})).hexdigest()
    assert isinstance(without, Undrawn)
    assert "resources.template: found no file" in without.cause
    (kept / sha256(archive)).write_bytes(archive + b"x")
    command = (
        "import sys, json; from pathlib import Path; from billing.rendering import Job, render_files;"
        "print(next(render_files([Job(Path(sys.argv[1]).read_text(), Path(sys.argv[2]), None, Path(sys.argv[3]))])))"
    )
    (tmp_path / "content.json").write_text(json.dumps(content))
    arguments = [sys.executable, "-c", command, *map(str, (tmp_path / "content.json", tmp_path / "x.pdf", kept))]
    done = subprocess.run(arguments, capture_output=True, check=True, text=True)
    assert "found no file" in done.stdout


@pytest.mark.parametrize("kind", ["invoice", "credit_note", "debit_note"])
def test_every_kind_of_sample_can_be_drawn(kind: str) -> None:
    assert render_pdf(sample_document("fr", kind)).startswith(b"%PDF")


def test_the_command_writes_a_preview_and_explains_what_it_refuses(landing: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    lay(landing, page="{{ number }}")
    arguments = ["preview-template", "--home", str(tmp_path), "--out", str(tmp_path / "x.pdf")]
    done = run(main, [*arguments, "--language", "de"])
    assert (done.exit_code, (tmp_path / "x.pdf").read_bytes()[:4]) == (0, b"%PDF")
    assert "a sample invoice in de, drawn with its own template" in done.output
    (landing / "catalogue.yaml").write_text("nonsense: [")
    assert "a sample invoice in en" in run(main, arguments).output
    (landing / "catalogue.yaml").write_text(starter_catalogue().replace("seller:", "seller:\n  language: fr"))
    assert "a sample invoice in fr" in run(main, arguments).output
    unknown = run(main, [*arguments, "--language", "xx"])
    assert unknown.exit_code == 2 and "--language: found 'xx', expected one of en, de" in unknown.output
    (landing / "catalogue.yaml").write_text(starter_catalogue().replace("seller:", "seller:\n  logo: none.svg"))
    lacking = run(main, arguments)
    assert lacking.exit_code == 2 and "seller.logo: none.svg: found no such file" in lacking.output
    (landing / "catalogue.yaml").unlink()
    lay(landing, page="{{ nothing }}")
    refused = run(main, arguments)
    assert refused.exit_code == 2
    assert "invoice.html.j2, line 3: 'nothing' is undefined" in refused.output
    assert run(main, [*arguments[:-1], "x.docx"]).exit_code == 2


def test_an_issued_document_exists_whatever_a_template_does(landing: Path, tmp_path: Path) -> None:
    archive = pack(lay(landing, page="{{ compared.text }}"))  # no such thing on a document without a comparison
    kept = tmp_path / "resources"
    kept.mkdir()
    (kept / sha256(archive)).write_bytes(archive)
    resources = {"logo": None, "template": sha256(archive), "translation": None}
    path = tmp_path / "INV-2026-000042.pdf"
    for _ in range(2):
        (file,) = render_files([Job(json.dumps(brief(resources=resources)), path, None, kept)])
        assert isinstance(file, RenderedFile)
        assert path.read_bytes() == render_pdf(brief())
        assert file.shortened == "the home's template: invoice.html.j2, line 3: 'None' has no attribute 'text'"
