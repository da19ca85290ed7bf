"""Template versions: immutable folders with everything that makes their pages (rule 19).

A document is drawn with the version stored with it. A released version never changes: any change of layout or wording
is a new version, with its own folder and, where the wording differs, its own functions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from billing.rendering import page_text, v2
from billing.rendering.content import Fields
from billing.rendering.errors import ContentError
from billing.rendering.fonts import ALL_FACES, FACES
from billing.rendering.v2.page import Page


@dataclass(frozen=True)
class Edition:
    """A template version.

    Attributes
    ----------
    folder
        Below `invoice_templates`: page, sheets and the mark.
    page
        Function from stored content and the files that it names by SHA-256 to the page.
    sheets, other_scripts
        Style sheets of pages in Latin, Greek and Cyrillic, and the additional one for other scripts.
    faces
        Bundled fonts: characters that none of them covers print as an empty box.
    by_language
        The additional sheet of languages that prefer other fonts for the same characters.
    """

    folder: str
    page: Callable[[Mapping[str, object], Mapping[str, bytes]], Page]
    sheets: tuple[str, ...]
    other_scripts: str
    faces: tuple[str, ...]
    by_language: Mapping[str, str] = field(default_factory=dict)


def _first(content: Mapping[str, object], resources: Mapping[str, bytes]) -> Page:
    """Version 1 names no files."""
    return Page(page_text.page_of(content))


EDITIONS: Final = {
    "1": Edition("v1", _first, ("v1/invoice.css",), "v1/other_scripts.css", FACES),
    "2": Edition(
        "v2",
        v2.page_of,
        ("v2/invoice.css",),
        "v2/other_scripts.css",
        ALL_FACES,
        {"ja": "v2/japanese.css"},
    ),
}


def edition_of(content: Mapping[str, object]) -> Edition:
    """The version that draws a document.

    Raises
    ------
    ContentError
        When this release does not have the version.
    """
    version = Fields(content).text("template_version")
    if version not in EDITIONS:
        raise ContentError(
            f"template_version: found {version!r}, expected {' or '.join(map(repr, EDITIONS))}; the release that "
            "issued it draws it"
        )
    return EDITIONS[version]
