"""Checks of what a home lays beside for its documents: its own template and its own words."""

from billing.model.codes import DocumentKind
from billing.rendering.errors import RenderingError
from billing.rendering.own_templates import TemplateError
from billing.rendering.preview import TEMPLATE_FOLDER, TRANSLATIONS, preview
from billing.rendering.words import catalogue_problems
from billing.store.home import Home


def paper_problems(home: Home) -> list[str]:
    """Problems of `landing/translations/` and `landing/templates/`, each with file, line and what was expected."""
    problems = []
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
            said += preview(home.landing, kind=kind).warnings
        except TemplateError as error:
            return [str(error)]
        except RenderingError as error:
            return [*said, f"{TEMPLATE_FOLDER}: {error.cause}"]
    return [f"{TEMPLATE_FOLDER}/{warning}" for warning in said]
