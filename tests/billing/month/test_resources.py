"""Files that documents are drawn with: kept by content, and refused before anything is issued with them."""

from pathlib import Path

import pytest

from billing.inputs.catalogue_file import load_catalogue
from billing.model.errors import RefusedError
from billing.month.resources import with_resources
from billing.store.home import Home
from billing.store.resources import keep_resources
from tests.billing.inputs.test_catalogue_file import SMALL

LOGO = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>'
HEADER = (
    'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\nPlural-Forms: nplurals=2; plural=(n != 1);\\n"\n\n'
)


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    folder = tmp_path / "landing"
    folder.mkdir()
    (folder / "catalogue.yaml").write_text(SMALL.replace("country: US}", "country: US, logo: logo.svg}"))
    (folder / "logo.svg").write_text(LOGO)
    return folder


def test_they_are_kept_once_by_their_content(tmp_path: Path, landing: Path) -> None:
    (landing / "translations").mkdir()
    (landing / "translations" / "sv.po").write_text(f'{HEADER}msgid "Invoice"\nmsgstr "Faktura"\n')
    (landing / "templates").mkdir()
    (landing / "templates" / "invoice.css").write_text("h1 { color: red }")
    found = with_resources(load_catalogue(landing / "catalogue.yaml"), landing).resources
    assert found.logo and found.template and set(found.translations) == {"sv"}
    home = Home(tmp_path)
    keep_resources(home, found)
    assert (home.resources / found.logo).read_text() == LOGO
    assert sorted(path.name for path in home.resources.iterdir()) == sorted(found.files)
    before = {path: path.stat().st_mtime_ns for path in home.resources.iterdir()}
    keep_resources(home, found)
    assert {path: path.stat().st_mtime_ns for path in home.resources.iterdir()} == before
    assert with_resources(load_catalogue(landing / "catalogue.yaml"), landing).resources.digest == found.digest


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("translations/sv.po", f'{HEADER}msgid "Corrects {{number}}"\nmsgstr "Nej"\n', "found no {number} in 'Nej'"),
        ("translations/klingonish.po", HEADER, "no language called 'klingonish'"),
        ("templates/page.exe", "", "neither invoice.html.j2 nor invoice.css"),
        ("logo.svg", "no picture", "seller.logo: logo.svg: found neither PNG nor SVG"),
        ("logo.svg", LOGO[:-20], "seller.logo: logo.svg: found an image that cannot be read"),
        ("logo.svg", LOGO + " " * 200_001, "seller.logo: logo.svg: found 200,0"),
    ],
)
def test_what_cannot_be_used_is_refused(landing: Path, file: str, content: str, problem: str) -> None:
    path = landing / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(RefusedError) as refused:
        with_resources(load_catalogue(landing / "catalogue.yaml"), landing)
    assert problem in str(refused.value)
