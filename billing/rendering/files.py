"""Puts documents into files, each at once or not at all."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from billing.rendering.drawing import draw
from billing.rendering.errors import RenderingError

# `billing.home` removes what a killed run left under this prefix; it is not imported because it brings Polars along.
SCRATCH_PREFIX = ".writing-"


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
    """

    path: Path
    sha256: str
    bytes: int
    pages: int
    unprintable: str = ""


def render_file(text: str, path: Path) -> RenderedFile:
    drawn = draw(read_content(text, path))
    write_file(path, drawn.pdf)
    return RenderedFile(path, hashlib.sha256(drawn.pdf).hexdigest(), len(drawn.pdf), drawn.pages, drawn.unprintable)


def read_content(text: str, path: Path) -> dict[str, object]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise RenderingError(path.stem, f"found content that is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise RenderingError(path.stem, f"found content of type {type(content).__name__}, expected an object")
    return content


def scratch_of(path: Path, process: int) -> Path:
    return path.with_name(f"{SCRATCH_PREFIX}{process}-{path.name}")


def write_file(path: Path, content: bytes) -> None:
    """Put `content` in place of `path` at once, and make that last before it is reported."""
    scratch = scratch_of(path, os.getpid())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        # a full disk reports no file name, and "No space left on device" alone helps nobody
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        scratch.unlink(missing_ok=True)
