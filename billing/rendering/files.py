"""Puts documents into files, each at once or not at all."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from billing.rendering.drawing import Drawn, draw
from billing.rendering.errors import MachineError, RenderingError
from billing.rendering.simplified_content import is_beyond_paper, plainer
from billing.store.files import write_bytes


class Job(NamedTuple):
    """A document to draw: its stored content as JSON text, where its PDF stands, and the hash it is known to have."""

    content: str
    path: Path
    sha256: str | None = None


@dataclass(frozen=True)
class RenderedFile:
    """A PDF that stands on disk.

    Attributes
    ----------
    path
        Where it stands.
    sha256
        Hash of its bytes, in hexadecimal.
    bytes
        Its size.
    pages
        Number of pages.
    unprintable
        Characters of the content that no face of the bundle covers, sorted; they print as an empty box.
    shortened
        Why long words are broken and long texts cut on its pages; empty where nothing is.
    """

    path: Path
    sha256: str
    bytes: int
    pages: int
    unprintable: str = ""
    shortened: str = ""


@dataclass(frozen=True)
class Undrawn:
    """A document that cannot be drawn, not even plainer; nothing stands in its place that was not there before."""

    path: Path
    number: str
    cause: str


def render_file(job: Job) -> RenderedFile:
    content = read_content(job.content, job.path)
    drawn, shortened = _drawn(content, job.sha256)
    sha256 = hashlib.sha256(drawn.pdf).hexdigest()
    # rule 19: the original stays as long as it is there
    if sha256 != job.sha256 and job.sha256 is not None and _stands(job.path, job.sha256):
        sha256 = job.sha256
    else:
        _put_in_place(job.path, drawn.pdf)
    return RenderedFile(job.path, sha256, len(drawn.pdf), drawn.pages, drawn.unprintable, shortened)


def _drawn(content: Mapping[str, object], sha256: str | None) -> tuple[Drawn, str]:
    """The page as it stands there, else plainer, and why; of both the one with the hash that is known."""
    plain = plainer(content)
    ways = [(content, ""), (plain, "")] if plain != content else [(content, "")]
    if is_beyond_paper(content):
        ways = [(plain, "it holds texts that are longer than any page"), (content, "")]
    found: tuple[Drawn, str] | None = None
    failed = RenderingError("", "")
    for way, reason in ways:
        try:
            drawn = draw(way)
        except MachineError:
            raise
        except RenderingError as error:
            failed = failed if failed.cause else error
            continue
        told = drawn, reason or (failed.cause if way is plain else "")
        if sha256 is None or hashlib.sha256(drawn.pdf).hexdigest() == sha256:
            return told
        found = found or told
    if found is None:
        raise failed
    return found


def _stands(path: Path, sha256: str) -> bool:
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
        # a full disk reports no file name, and "No space left on device" alone helps nobody
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
