"""Checks of what a home lays beside for its documents: its own template and its own words."""

from billing.model.codes import DocumentKind
from billing.rendering.errors import RenderingError
from billing.rendering.logos import logo_problem
from billing.rendering.own_templates import TemplateError
from billing.rendering.preview import TEMPLATE_FOLDER, TRANSLATIONS
from billing.rendering.words import catalogue_problems
from billing.reports.template_preview import home_preview
from billing.store.home import Home


def paper_problems(home: Home, logo: str = "") -> list[str]:
    """Problems of `landing/translations/`, `landing/templates/` and the logo, each with file, place and expected."""
    problems = []
    if logo and (problem := logo_problem((home.landing / logo).read_bytes())):
        problems.append(f"{logo}: {problem}")
    for path in sorted((home.landing / TRANSLATIONS).glob("*.po")):
        errors, warnings = catalogue_problems(path)
        problems += [f"{TRANSLATIONS}/{problem}" for problem in (*errors, *warnings)]
    if (home.landing / TEMPLATE_FOLDER).is_dir():
        problems += _template_problems(home)
    return list(dict.fromkeys(problems))


def _template_problems(home: Home) -> list[str]:
    """What a trial of every kind of document says; a template that cannot be drawn would stop all PDFs."""
    said: list[str] = []
    for kind in DocumentKind:
        try:
            said += home_preview(home, language="en", kind=kind, as_html=False).warnings
        except TemplateError as error:
            return [str(error)]
        except RenderingError as error:
            return [*said, f"{TEMPLATE_FOLDER}: {error.cause}"]
    return [f"{TEMPLATE_FOLDER}/{warning}" for warning in said]
