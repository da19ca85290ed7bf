"""The versions of the template: each an immutable folder with what makes its pages (rule 19).

A document is drawn by the version that is stored with it. A version never changes once it was released: what should
look or read otherwise is a new one, with a folder of its own, and with functions of its own where its words differ.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from billing.rendering.content import Fields
from billing.rendering.errors import ContentError
from billing.rendering.page_text import page_of


@dataclass(frozen=True)
class Edition:
    """A version of the template.

    Attributes
    ----------
    folder
        Below `invoice_templates`: page, sheets and the mark.
    page
        Says in words what the stored content holds.
    sheets, other_scripts
        Style sheets of pages in Latin, Greek and Cyrillic, and the one that others need besides.
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
        When this program has no such version.
    """
    version = Fields(content).text("template_version")
    if version not in EDITIONS:
        raise ContentError(
            f"template_version: found {version!r}, expected {' or '.join(map(repr, EDITIONS))}; the release that "
            "issued it draws it"
        )
    return EDITIONS[version]
