"""Collect the texts that people read from code and templates, and bring every catalogue up to date with them.

Run by `make messages`. A text is marked by gettext, ngettext, pgettext or N_. New texts get an empty translation, which
the tests refuse; texts that nobody says any more are dropped; nothing is guessed (no fuzzy entries).
"""

import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from billing.rendering.words import DOCUMENTS, LANGUAGES, OTHERS  # noqa: E402

TEMPLATES: Final = ROOT / "invoice_templates"
VERSION: Final = ("billing/rendering/v2", "invoice_templates/v2")
"""Whose texts belong to the documents' template version."""
EVERYWHERE: Final = ("billing", "pipeline", "invoice_templates")
KEYWORDS: Final[Mapping[str, tuple[int | tuple[int, str], ...] | None]] = {
    "_": None,
    "N_": None,
    "gettext": None,
    "ngettext": (1, 2),
    "pgettext": ((1, "c"), 2),
}


def messages(domain: str) -> Catalog:
    """The template catalogue of a domain: message ids in the order of files and lines, with where they stand."""
    catalogue = Catalog(project="Overage", fuzzy=False)
    for path in sorted(_files(domain)):
        method = "jinja2.ext:babel_extract" if path.suffix == ".j2" else "python"
        name = path.relative_to(ROOT).as_posix()
        with path.open("rb") as file:
            options = {"trimmed": "true", "silent": "false"}
            for line, message, comments, context in extract(method, file, KEYWORDS, ("Translators:",), options):
                ids = message if isinstance(message, str) else tuple(message)
                # No line numbers: they would change a catalogue with every edit of the code.
                catalogue.add(ids, None, [(name, 0)], auto_comments=comments, context=context)
                del line
    return catalogue


def _files(domain: str) -> Iterator[Path]:
    def is_source(path: Path) -> bool:
        return path.suffix in (".py", ".j2") and "__pycache__" not in path.parts

    own = {path for folder in VERSION for path in (ROOT / folder).rglob("*") if is_source(path)}
    if domain == DOCUMENTS:
        yield from own
        return
    for folder in EVERYWHERE:
        yield from (path for path in (ROOT / folder).rglob("*") if is_source(path) and path not in own)


def updated(domain: str, language: str, found: Catalog) -> str:
    """The catalogue of a language with exactly the texts of `found`; English ones translate themselves."""
    path = TEMPLATES / domain / f"{language}.po"
    kept = read_po(io.BytesIO(path.read_bytes()), locale=language) if path.is_file() else Catalog(locale=language)
    catalogue = Catalog(locale=language, project="Overage", fuzzy=False, header_comment="# Words of Overage.")
    for message in found:
        if not message.id:
            continue
        before = kept.get(message.id, context=message.context)
        string = message.id if language == "en" else before.string if before is not None else None
        catalogue.add(
            message.id, string, message.locations, auto_comments=message.auto_comments, context=message.context
        )
    text = io.BytesIO()
    write_po(text, catalogue, width=120, omit_header=True, include_lineno=False)
    return _header(catalogue) + text.getvalue().decode("utf-8")


def _header(catalogue: Catalog) -> str:
    """The header without dates and names of people, which would change with every run."""
    lines = (
        f"Language: {catalogue.locale_identifier}",
        f"Plural-Forms: {catalogue.plural_forms}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
    )
    return 'msgid ""\nmsgstr ""\n' + "".join(f'"{line}\\n"\n' for line in lines) + "\n"


def main() -> None:
    for domain in (DOCUMENTS, OTHERS):
        found = messages(domain)
        for language in LANGUAGES:
            path = TEMPLATES / domain / f"{language}.po"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(updated(domain, language, found), encoding="utf-8")


if __name__ == "__main__":
    main()
