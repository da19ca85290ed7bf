"""`check` tries a home's own template and reads its own words."""

from pathlib import Path

import pytest

from billing.reports.paper_checks import paper_problems
from billing.store.home import Home

HEADER = 'msgid ""\nmsgstr ""\n"Language: sv\\n"\n"Plural-Forms: nplurals=2; plural=(n != 1);\\n"\n\n'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    for folder in ("templates", "translations"):
        (tmp_path / "landing" / folder).mkdir(parents=True)
    return Home(tmp_path)


def test_words_and_template_without_mistakes_are_no_problem(home: Home) -> None:
    (home.landing / "templates" / "invoice.css").write_text("h1 { color: red }")
    (home.landing / "translations" / "de.po").write_text(f'{HEADER}msgid "Invoice"\nmsgstr "Beleg"\n')
    assert paper_problems(home) == []


def test_a_mistake_is_named_with_its_file_and_line(home: Home) -> None:
    (home.landing / "templates" / "invoice.css").write_text("h1 { colour: red}")
    (home.landing / "translations" / "sv.po").write_text(f'{HEADER}msgid "Invoise"\nmsgstr "Faktura"\n')
    problems = "\n".join(paper_problems(home))
    assert "translations/sv.po, line 6: found 'Invoise'" in problems
    assert "translations/sv.po: " in problems and "are printed in English" in problems
    assert "templates/invoice.css: Ignored `colour: red` at 1:6" in problems


def test_a_template_that_cannot_be_drawn_is_a_problem(home: Home) -> None:
    (home.landing / "templates" / "invoice.html.j2").write_text("<html><body>{{ nothing }}</body></html>")
    assert paper_problems(home) == ["templates: the home's template: invoice.html.j2, line 1: 'nothing' is undefined"]
    (home.landing / "templates" / "notes.txt").write_text("")
    (problem,) = paper_problems(home)
    assert "notes.txt: found a file of type .txt" in problem
