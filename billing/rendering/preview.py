"""Preview of a home's template: a made-up document with everything that a page can say, as PDF or HTML."""

import base64
import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import localcontext
from html import escape
from pathlib import Path
from typing import Any, Final

from billing.model.codes import DocumentKind
from billing.rendering.drawing import engine, render_pdf
from billing.rendering.errors import RenderingError
from billing.rendering.fonts import ALL_FACES, TEMPLATES
from billing.rendering.locale_formats import EXACT
from billing.rendering.own_templates import SHEET, addresses, explained, pack
from billing.rendering.template_versions import edition_of
from billing.rendering.words import catalogue_problems

SAMPLE: Final = "sample_v2.json"
TEMPLATE_FOLDER: Final = "templates"
TRANSLATIONS: Final = "translations"
_PREFIX: Final = {DocumentKind.INVOICE: "INV", DocumentKind.CREDIT_NOTE: "CN", DocumentKind.DEBIT_NOTE: "DN"}


@dataclass(frozen=True)
class Preview:
    """A drawn sample document.

    Attributes
    ----------
    content
        Bytes of the PDF or the HTML page.
    warnings
        What the style sheet says that is not understood.
    language
        The language that was asked for.
    """

    content: bytes
    warnings: tuple[str, ...]
    language: str


def preview(
    landing: Path,
    *,
    language: str = "en",
    kind: str = DocumentKind.INVOICE,
    as_html: bool = False,
    seller: Mapping[str, object] | None = None,
    logo: bytes | None = None,
) -> Preview:
    """Draw the sample with the template and the translation of a home's landing folder, as far as they are there.

    Parameters
    ----------
    seller, logo
        As a document's content has them, in place of the sample's.

    Raises
    ------
    TemplateError
        A file that cannot be part of a template.
    RenderingError
        Names file and line of the template, and what is wrong.
    """
    content = sample_document(language, kind)
    resources: dict[str, bytes] = {}
    if seller is not None:
        content["seller"] = dict(seller)
    if logo is not None:
        content["resources"]["logo"] = _kept(resources, logo)
    folder = landing / TEMPLATE_FOLDER
    if folder.is_dir():
        archive = pack(folder)
        content["resources"]["template"] = _kept(resources, archive)
    translation = _translation(landing, language)
    if translation is not None:
        content["resources"]["translation"] = _kept(resources, translation.read_bytes())
    with _warnings() as warnings:
        drawn = _html(content, resources) if as_html else render_pdf(content, resources)
    said = tuple(catalogue_problems(translation)[0]) if translation is not None else ()
    return Preview(drawn, (*said, *dict.fromkeys(warnings)), language)


def _kept(resources: dict[str, bytes], content: bytes) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    resources[sha256] = content
    return sha256


def _translation(landing: Path, language: str) -> Path | None:
    names = (language, language.split("-")[0])
    found = (landing / TRANSLATIONS / f"{name}.po" for name in names if re.fullmatch(r"[A-Za-z0-9_-]+", name))
    return next((path for path in found if path.is_file()), None)


def sample_document(language: str, kind: str) -> dict[str, Any]:
    """The sample as an invoice, a credit note or a debit note; a note corrects the invoice."""
    content: dict[str, Any] = json.loads((TEMPLATES / SAMPLE).read_text("utf-8"))
    content |= {"language": language, "locale": language.replace("-", "_")}
    if kind == DocumentKind.INVOICE:
        return content
    corrected = {key: content[key] for key in ("number", "issued_on", "billing_date")}
    content |= {"kind": kind, "number": content["number"].replace("INV", _PREFIX[DocumentKind(kind)])}
    content |= {"corrects": corrected["number"], "corrected": corrected, "reason": "Sample", "comparison": None}
    content |= {"changes": [], "usage": [], "credits_applied": "0.00", "due": content["total"]}
    if kind == DocumentKind.CREDIT_NOTE:
        amounts = {key: f"-{content[key]}" for key in ("net", "tax", "total", "due")}
        lines = [line | {"amount": f"-{line['amount']}"} for line in content["lines"]]
        taxes = [tax | {key: f"-{tax[key]}" for key in ("taxable", "amount")} for tax in content["taxes"]]
        content |= amounts | {"lines": lines, "taxes": taxes}
    return content


def _html(content: Mapping[str, object], resources: Mapping[str, bytes]) -> bytes:
    """The page for a browser: its sheets within, its images as data, the bundled fonts by their paths."""
    edition = edition_of(content)
    with localcontext(EXACT):
        page = edition.page(content, resources)
    try:
        html = engine().html(page, edition)
    except Exception as error:  # A template may fail in any way; each is explained with its place.
        raise RenderingError(str(content.get("number")), explained(error, page.own)) from error
    sheets = [(TEMPLATES / name).read_text("utf-8") for name in (*edition.sheets, edition.other_scripts)]
    styles = "\n".join((*sheets, page.own.get(SHEET, b"").decode("utf-8")))
    files = {**page.images, **addresses(page.own)}
    data = {name: f"data:{kind};base64,{base64.b64encode(text).decode()}" for name, (text, kind) in files.items()}
    faces = {f"overage:fonts/{name}": (TEMPLATES / "fonts" / name).as_uri() for name in ALL_FACES}
    for address, target in (data | faces).items():
        html, styles = html.replace(f'"{escape(address)}"', f'"{target}"'), styles.replace(address, target)
    return html.replace("<head>", f'<head><meta charset="utf-8"/><style>{styles}</style>', 1).encode("utf-8")


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What WeasyPrint says while it draws: it ignores what it does not understand."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            found.append(f"{SHEET}: {message}" if message.startswith(("Ignored", "Invalid")) else message)

    logger, collector = logging.getLogger("weasyprint"), Collector(logging.WARNING)
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)
