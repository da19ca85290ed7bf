"""Rendering environment checks: WeasyPrint, its native libraries, and the fonts."""

import ctypes
import ctypes.util
import importlib.metadata
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from billing.rendering.fonts import ALL_FACES, TEMPLATES

WEASYPRINT_VERSION = "70.0"


@dataclass(frozen=True)
class Library:
    """A native library of WeasyPrint, and the packages that provide it."""

    name: str
    files: tuple[str, ...]
    short_names: tuple[str, ...]
    without_it: str
    debian: str
    fedora: str
    macos: str

    def loads(self) -> bool:
        return _is_loadable(self.files) or any(ctypes.util.find_library(name) for name in self.short_names)


LIBRARIES = (
    Library(
        "Pango",
        ("libpango-1.0.so.0", "libpango-1.0.dylib"),
        ("pango-1.0", "pango-1.0-0"),
        "no page can be drawn",
        "libpango-1.0-0",
        "pango",
        "pango",
    ),
    Library(
        "PangoFT2",
        ("libpangoft2-1.0.so.0", "libpangoft2-1.0.dylib"),
        ("pangoft2-1.0", "pangoft2-1.0-0"),
        "no page can be drawn",
        "libpangoft2-1.0-0",
        "pango",
        "pango",
    ),
    Library(
        "libharfbuzz-subset",
        ("libharfbuzz-subset.so.0", "libharfbuzz-subset.0.dylib"),
        ("harfbuzz-subset", "harfbuzz-subset-0"),
        "pages would take four times as long and their bytes would differ",
        "libharfbuzz-subset0",
        "harfbuzz",
        "harfbuzz",
    ),
)


_LOADED_BY_WEASYPRINT = tuple(
    (f"lib{name}.so.{version}", f"lib{name}.{version}.dylib")
    for name, version in (("gobject-2.0", 0), ("pango-1.0", 0), ("pangoft2-1.0", 0), ("harfbuzz", 0), ("fontconfig", 1))
)


@contextmanager
def libraries_by_file_name() -> Iterator[None]:
    """Let WeasyPrint load its libraries by their file names inside the context, where the loader finds them so.

    It tries short names first, and Python looks for each by starting `ldconfig`, a compiler and a linker: 40 processes,
    a twentieth of the CPU time of a small run.
    """
    if "weasyprint" in sys.modules or not all(map(_is_loadable, _LOADED_BY_WEASYPRINT)):
        yield
        return
    search = ctypes.util.find_library
    ctypes.util.find_library = lambda name: None
    try:
        yield
    finally:
        ctypes.util.find_library = search


def drawing_libraries() -> str:
    """Versions of the libraries that affect the bytes of a page, in one line."""
    found = [f"{name} {importlib.metadata.version(name)}" for name in ("weasyprint", "pydyf", "fonttools", "Babel")]
    for name, function, files in (
        ("Pango", "pango_version_string", LIBRARIES[0].files),
        ("HarfBuzz", "hb_version_string", ("libharfbuzz.so.0", "libharfbuzz.0.dylib")),
    ):
        for file in files:
            with suppress(OSError, AttributeError):
                version = getattr(ctypes.CDLL(file), function)
                version.restype = ctypes.c_char_p
                found.append(f"{name} {version().decode()}")
                break
    return ", ".join(found)


def _is_loadable(files: Iterable[str]) -> bool:
    for file in files:
        with suppress(OSError):
            ctypes.CDLL(file)
            return True
    return False


def check_rendering_environment() -> list[str]:
    """Problems that prevent this machine from drawing documents: one sentence each, with the package to install."""
    problems = []
    try:
        installed = importlib.metadata.version("weasyprint")
    except importlib.metadata.PackageNotFoundError:
        installed = "none"
    if installed != WEASYPRINT_VERSION:
        problems.append(
            f"WeasyPrint: found {installed}, expected {WEASYPRINT_VERSION}, the version whose pages were verified: "
            f"pip install weasyprint=={WEASYPRINT_VERSION}"
        )
    for library in LIBRARIES:
        if not library.loads():
            problems.append(
                f"{library.name} is missing: {library.without_it}. Debian, Ubuntu: apt-get install {library.debian}. "
                f"Fedora: dnf install {library.fedora}. macOS: brew install {library.macos}"
            )
    missing = [name for name in ALL_FACES if not (TEMPLATES / "fonts" / name).is_file()]
    if missing:
        problems.append(
            f"{TEMPLATES / 'fonts'}: found no {', '.join(missing)}, expected the faces that come with Overage "
            "on every system (Debian, Ubuntu, Fedora, macOS): install the package again"
        )
    return problems
