"""A home's own template: a folder of files, kept by its content and drawn in the same sandbox as ours.

`invoice.html.j2` replaces the page of the release, `invoice.css` is added after its sheet; either may be left out.
Files of the folder are included by name, and shown by the address `template:NAME`; nothing else is reached.
"""

import io
import re
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Final
from xml.etree import ElementTree

from billing.rendering.errors import ContentError

PAGE: Final = "invoice.html.j2"
SHEET: Final = "invoice.css"
OWN_TEMPLATE: Final = "the home's template"
"""How a message begins that names a mistake of a home's template."""
ADDRESS: Final = "template:"
MOST_FILES: Final = 50
MOST_BYTES: Final = 2_000_000
MEDIA_TYPES: Final = {
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".ttf": "font/ttf",
    ".otf": "font/otf",
}
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
_TEXTS: Final = (".j2", ".css", ".svg")
# A fixed day: the archive's bytes depend on names and contents only.
_DAY: Final = (1980, 1, 1, 0, 0, 0)


class TemplateError(ContentError):
    """A home's template cannot be drawn: names the file, the line and what is wrong."""


def pack(folder: Path) -> bytes:
    """The files of a template as one archive, whose bytes depend on their names and contents only.

    Hidden files and copies of editors (`name~`) are left out.

    Raises
    ------
    TemplateError
        Names the file that cannot be part of a template, and what was expected.
    OSError
        When a file cannot be read.
    """
    files = {path.name: path for path in folder.iterdir() if not _is_ignored(path.name)}
    if not {PAGE, SHEET} & files.keys():
        raise TemplateError(f"{folder}: found neither {PAGE} nor {SHEET}, expected at least one of them")
    if len(files) > MOST_FILES:
        raise TemplateError(f"{folder}: found {len(files)} files, expected at most {MOST_FILES}")
    contents: dict[str, bytes] = {}
    for name, path in sorted(files.items()):
        if not _NAME.fullmatch(name):
            raise TemplateError(f"{path}: found the name {name!r}, expected letters, digits, dots, hyphens and _")
        if path.is_symlink() or not path.is_file():
            raise TemplateError(f"{path}: found no plain file, expected files only: a template has no folders or links")
        if path.suffix != ".j2" and path.suffix not in MEDIA_TYPES:
            expected = ", ".join((".j2", *MEDIA_TYPES))
            raise TemplateError(f"{path}: found a file of type {path.suffix or 'none'}, expected {expected}")
        contents[name] = path.read_bytes()
        if sum(map(len, contents.values())) > MOST_BYTES:
            raise TemplateError(f"{folder}: found more than {MOST_BYTES:,} bytes, expected at most that in all files")
        if path.suffix in _TEXTS:
            _check_text(path, contents[name])
    return _archived(contents)


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.endswith(("~", ".bak", ".swp"))


def _check_text(path: Path, content: bytes) -> None:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TemplateError(f"{path}, line {line}: found bytes that are not UTF-8") from error


def _archived(contents: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, _DAY)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, contents[name])
    return file.getvalue()


@lru_cache(maxsize=8)
def unpacked(archive: bytes) -> Mapping[str, bytes]:
    """Contents by name of a packed template.

    Raises
    ------
    ContentError
        When the bytes are no packed template.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            entries = opened.infolist()
            names = [entry.filename for entry in entries]
            if sum(entry.file_size for entry in entries) > MOST_BYTES or not all(map(_NAME.fullmatch, names)):
                raise ContentError("resources.template: found an archive that is no packed template")
            return {name: opened.read(name) for name in names}
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, EOFError) as error:
        raise ContentError(f"resources.template: found no packed template ({error})") from error


def addresses(files: Mapping[str, bytes]) -> dict[str, tuple[bytes, str]]:
    """What pages and sheets may show: files by their address, with their media type."""
    return {
        f"{ADDRESS}{name}": (content, MEDIA_TYPES[Path(name).suffix])
        for name, content in files.items()
        if Path(name).suffix in MEDIA_TYPES
    }


def explained(error: Exception, files: Mapping[str, bytes], html: str = "") -> str:
    """Which file and line of a template failed, and why, in one sentence."""
    from jinja2 import TemplateNotFound, TemplateSyntaxError
    from jinja2.exceptions import SecurityError

    if isinstance(error, TemplateSyntaxError):
        return f"{error.name or PAGE}, line {error.lineno}: {error.message}"
    if isinstance(error.__cause__, ElementTree.ParseError):
        line, column = error.__cause__.position
        lines = html.splitlines()
        excerpt = lines[line - 1][max(0, column - 40) : column + 40] if 0 < line <= len(lines) else ""
        return f"{PAGE}: the page that it makes is not well-formed XML: {error.__cause__}, near {excerpt!r}"
    name, line = _place(error.__traceback__, files)
    place = f"{name}, line {line}" if name else PAGE
    if isinstance(error, TemplateNotFound):
        return f"{place}: found no file {error.name!r}, expected one of the template's: {', '.join(sorted(files))}"
    if isinstance(error, SecurityError):
        return f"{place}: {error}; a template reads its values and runs nothing else"
    return f"{place}: {error}"


def _place(traceback: TracebackType | None, files: Mapping[str, bytes]) -> tuple[str, int]:
    """The deepest line of a template in a traceback; Jinja gives its frames the template's names and lines."""
    found = "", 0
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if name in files or name.endswith(".j2"):
            found = Path(name).name, traceback.tb_lineno
        traceback = traceback.tb_next
    return found
