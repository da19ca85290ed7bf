"""Rendered files: draws documents into files atomically."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from billing.rendering.drawing import Drawn, draw
from billing.rendering.errors import MachineError, RenderingError
from billing.rendering.own_templates import OWN_TEMPLATE
from billing.rendering.simplified_content import is_beyond_paper, plainer
from billing.store.files import write_bytes


class Job(NamedTuple):
    """A document to draw.

    Attributes
    ----------
    content
        Its stored content as JSON text.
    path
        Path of its PDF.
    sha256
        Recorded hash of the PDF, if any.
    resources
        Folder of the files that contents name by their SHA-256 (logo, translation, template), if any.
    xml
        An e-invoice to put into the PDF.
    """

    content: str
    path: Path
    sha256: str | None = None
    resources: Path | None = None
    xml: bytes | None = None


@dataclass(frozen=True)
class RenderedFile:
    """A PDF on disk.

    Attributes
    ----------
    path
        Path of the PDF.
    sha256
        SHA-256 of its bytes, in hexadecimal.
    bytes
        Its size.
    pages
        Number of pages.
    unprintable
        Characters of the content that no bundled font covers, sorted; they print as an empty box.
    shortened
        Why long words are broken and long texts truncated on its pages, or why the home's template (OWN_TEMPLATE) could
        not draw them; empty when it is drawn as it was meant.
    """

    path: Path
    sha256: str
    bytes: int
    pages: int
    unprintable: str = ""
    shortened: str = ""


@dataclass(frozen=True)
class Undrawn:
    """A document that cannot be drawn, not even simplified; its file is unchanged."""

    path: Path
    number: str
    cause: str


def render_file(job: Job) -> RenderedFile:
    content = read_content(job.content, job.path)
    drawn, shortened = draw_with_fallback(content, job.sha256, resources_of(content, job.resources), job.xml)
    sha256 = hashlib.sha256(drawn.pdf).hexdigest()
    # rule 19: the original is kept while it exists
    if sha256 != job.sha256 and job.sha256 is not None and _has_hash(job.path, job.sha256):
        sha256 = job.sha256
    else:
        _put_in_place(job.path, drawn.pdf)
    return RenderedFile(job.path, sha256, len(drawn.pdf), drawn.pages, drawn.unprintable, shortened)


def resources_of(content: Mapping[str, object], folder: Path | None) -> dict[str, bytes]:
    """The files that a content names by SHA-256; those that are not there, or have other bytes, are missing."""
    names = content.get("resources")
    if folder is None or not isinstance(names, Mapping):
        return {}
    found = {name: _resource(folder, name) for name in names.values() if isinstance(name, str)}
    return {name: content for name, content in found.items() if content is not None}


@lru_cache(maxsize=64)
def _resource(folder: Path, sha256: str) -> bytes | None:
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        return None
    try:
        content = (folder / sha256).read_bytes()
    except FileNotFoundError:
        return None
    return content if hashlib.sha256(content).hexdigest() == sha256 else None


def draw_with_fallback(
    content: Mapping[str, object], sha256: str | None, resources: Mapping[str, bytes], xml: bytes | None
) -> tuple[Drawn, str]:
    """Draw the page as it is, else simplified or with the release's template, and why.

    Prefers the result with the recorded hash.
    """
    plain = plainer(content)
    attempts = [(content, ""), (plain, "")] if plain != content else [(content, "")]
    if is_beyond_paper(content):
        attempts = [(plain, "it holds texts that are longer than any page"), (content, "")]
    if has_own_template(content):
        attempts.append((_without_template(content), ""))
    found: tuple[Drawn, str] | None = None
    failed = RenderingError("", "")
    for attempt, reason in attempts:
        # A template that is lost is looked for; one that cannot be drawn never will be.
        if has_own_template(content) and not has_own_template(attempt) and not failed.cause.startswith(OWN_TEMPLATE):
            continue
        try:
            drawn = draw(attempt, resources, xml)
        except MachineError:
            raise
        except RenderingError as error:
            failed = failed if failed.cause else error
            continue
        result = drawn, reason or (failed.cause if attempt is not content else "")
        if sha256 is None or hashlib.sha256(drawn.pdf).hexdigest() == sha256:
            return result
        found = found or result
    if found is None:
        raise failed
    return found


def has_own_template(content: Mapping[str, object]) -> bool:
    resources = content.get("resources")
    return isinstance(resources, Mapping) and resources.get("template") is not None


def _without_template(content: Mapping[str, object]) -> dict[str, object]:
    """The content as the release's template draws it: an issued document has to exist, whatever a home's does."""
    resources = content["resources"]
    return {**content, "resources": {**resources, "template": None}} if isinstance(resources, Mapping) else {**content}


def _has_hash(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except FileNotFoundError:
        return False


def read_content(text: str, path: Path) -> dict[str, object]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise RenderingError(path.stem, f"found content that is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise RenderingError(path.stem, f"found content of type {type(content).__name__}, expected an object")
    return content


def _put_in_place(path: Path, content: bytes) -> None:
    try:
        write_bytes(path, content)
    except OSError as error:
        # Add the path: on a full disk the error has none.
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
