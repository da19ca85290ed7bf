"""Template versions: immutable folders with everything that makes their pages (rule 19).

A document is drawn with the version stored with it. A released version never changes: any change of layout or wording
is a new version, with its own folder and, where the wording differs, its own functions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from billing.rendering.content import Fields
from billing.rendering.errors import ContentError
from billing.rendering.page_text import page_of


@dataclass(frozen=True)
class Edition:
    """A template version.

    Attributes
    ----------
    folder
        Below `invoice_templates`: page, sheets and the mark.
    page
        Function from stored content to the template context.
    sheets, other_scripts
        Style sheets of pages in Latin, Greek and Cyrillic, and the additional one for other scripts.
    """

    folder: str
    page: Callable[[Mapping[str, object]], dict[str, object]]
    sheets: tuple[str, ...]
    other_scripts: str


EDITIONS: Final = {"1": Edition("v1", page_of, ("v1/invoice.css",), "v1/other_scripts.css")}


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
