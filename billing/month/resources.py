"""Files in the landing folder that documents are drawn with: logo, template and translations (rule 40)."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Final

from billing.model.catalogue import Catalogue
from billing.model.errors import Problem, RefusedError
from billing.model.resources import Resources
from billing.month.unread_files import TEMPLATES, TRANSLATIONS
from billing.rendering.errors import ContentError
from billing.rendering.logos import logo_form_problem
from billing.rendering.own_templates import pack
from billing.rendering.words import catalogue_problems

_EXPECTED: Final = "files that documents can be drawn with"


def with_resources(catalogue: Catalogue, landing: Path) -> Catalogue:
    """The catalogue with the files beside it.

    Raises
    ------
    RefusedError
        When one of them cannot be used: documents that are issued with it could not be drawn.
    """
    files: dict[str, bytes] = {}

    def kept(content: bytes) -> str:
        name = hashlib.sha256(content).hexdigest()
        files[name] = content
        return name

    try:
        logo = kept(read_logo(landing / catalogue.seller.logo)) if catalogue.seller.logo else None
        template = kept(pack(landing / TEMPLATES)) if (landing / TEMPLATES).is_dir() else None
        found = translations(landing)
        wrong = [problem for path in found for problem in catalogue_problems(path)[0]]
        by_language = {path.stem.replace("_", "-").lower(): kept(path.read_bytes()) for path in found}
    except (ContentError, OSError) as error:
        raise RefusedError(f"{landing}: what documents are drawn with is refused: {error}") from error
    if wrong:
        problems = [Problem(f"{TRANSLATIONS}/", "", problem, "a catalogue without mistakes") for problem in wrong]
        raise RefusedError(f"{landing}: what documents are drawn with is refused", problems)
    return replace(catalogue, resources=Resources(logo=logo, template=template, translations=by_language, files=files))


def read_logo(path: Path) -> bytes:
    """The seller's logo.

    Raises
    ------
    ContentError
        When the file is not there, or holds no logo.
    """
    if not path.is_file():
        raise ContentError(f"seller.logo: {path.name}: found no such file in the landing folder, expected PNG or SVG")
    content = path.read_bytes()
    if problem := logo_form_problem(content):
        raise ContentError(f"seller.logo: {path.name}: {problem}")
    return content


def translations(landing: Path) -> list[Path]:
    """The home's own translations, sorted."""
    return sorted((landing / TRANSLATIONS).glob("*.po"))
