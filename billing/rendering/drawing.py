"""Draws one page set with WeasyPrint, within a time limit, from files of the bundle only."""

import atexit
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import localcontext
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from xml.etree import ElementTree

from billing.rendering.environment import check_rendering_environment
from billing.rendering.errors import ContentError, MachineError, RenderingError, TimeLimitError, UnableError
from billing.rendering.fonts import FACES, TEMPLATES, covered_by_inter, only_bundled_faces, stand_in, uncovered
from billing.rendering.locale_formats import EXACT
from billing.rendering.template_versions import EDITIONS, Edition, edition_of
from billing.store.temporary_folder import temporary_folder

if TYPE_CHECKING:
    from jinja2 import Template

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

LATEST = list(EDITIONS.values())[-1]

BETWEEN_BLOCKS = re.compile(r">\s+<(?=/?(?:body|div|h2|head|html|meta|p|table|td|th|thead|title|tr)\b)")

SECONDS_PER_DOCUMENT = 30.0
SECONDS_PER_LINE = 0.1

# CPython allocates its frame stack in chunks of 16 kB, and frees one whenever a call returns over its start: hundreds
# of times a page, 5 % of its time (`benchmarks invoice_documents`). A frame of this size gets one chunk of 1 MB.
VALUES_OF_HALF_A_MEGABYTE = 66_000

_DRAWING = threading.Lock()  # Pango's font map serves one thread at a time


@dataclass(frozen=True)
class Drawn:
    pdf: bytes
    pages: int
    unprintable: str


def render_pdf(content: Mapping[str, object]) -> bytes:
    """Draw one document from its stored content (rules 19 and 23).

    In the main thread a limit of processor time holds that grows with the number of lines. Other threads may call this
    too, one at a time is drawn; no limit holds there.

    Parameters
    ----------
    content
        The stored content: money and quantities are decimal strings, dates `YYYY-MM-DD`.

    Returns
    -------
    bytes
        The PDF. Equal content gives equal bytes.

    Raises
    ------
    RenderingError
        Naming the document and the value of the content that cannot be printed, or what is missing on this machine.
    """
    return draw(content).pdf


def draw(content: Mapping[str, object]) -> Drawn:
    number = number_of(content)
    try:
        with localcontext(EXACT):
            edition = edition_of(content)
            page = edition.page(content)
        with _DRAWING:
            return engine().draw(page, edition, seconds_allowed(content))
    except UnableError as error:
        raise MachineError(number, str(error)) from error
    except (ContentError, TimeLimitError) as error:
        raise RenderingError(number, str(error)) from error
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        raise RenderingError(number, f"{type(error).__name__}: {error}") from error


def draw_page(html: str, sheet: str) -> bytes:
    """Draw a page that is whole as HTML already, with one style sheet of the bundle.

    Raises
    ------
    RenderingError
        When it cannot be drawn, or something is missing on this machine.
    """
    try:
        with _DRAWING, _time_limit(10 * SECONDS_PER_DOCUMENT):
            return engine().draw_html(html, (sheet,)).pdf
    except (ContentError, TimeLimitError, UnableError) as error:
        raise RenderingError(sheet, str(error)) from error


def number_of(content: Mapping[str, object]) -> str:
    number = content.get("number")
    return number if isinstance(number, str) else "document without a number"


def seconds_allowed(content: Mapping[str, object]) -> float:
    rows = sum(len(value) for key in ("lines", "usage") if isinstance(value := content.get(key), list))
    return SECONDS_PER_DOCUMENT + SECONDS_PER_LINE * rows


def with_one_stack_chunk(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, with one chunk of the frame stack for all that it calls."""
    function.__code__ = function.__code__.replace(co_stacksize=VALUES_OF_HALF_A_MEGABYTE)
    return function


class Engine:
    """WeasyPrint with everything that documents share: faces, style sheet, template, images. One page set at a time."""

    def __init__(self) -> None:
        problems = check_rendering_environment()
        if problems:
            raise UnableError(f"no document can be drawn on this machine. {' '.join(problems)}")
        import cssselect2
        import weasyprint
        from weasyprint.text.fonts import FontConfiguration
        from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

        allowed = {"overage:logo.svg": ("v1/logo.svg", "image/svg+xml")} | {
            f"overage:fonts/{name}": (f"fonts/{name}", "font/ttf") for name in FACES
        }

        class ForbiddenAddressError(FatalURLFetchingError):  # type: ignore[misc]  # WeasyPrint has no types
            """A page asked for something that is not part of the bundle; other exceptions would only drop it."""

        class Bundle(URLFetcher):  # type: ignore[misc]  # WeasyPrint has no types
            """Serves the files of the bundle by their exact names, and nothing else in the world."""

            def fetch(self, url: str, headers: object = None) -> URLFetcherResponse:
                if url not in allowed:
                    raise ForbiddenAddressError(f"{url}: found an address outside the invoice bundle")
                name, media_type = allowed[url]
                return URLFetcherResponse(url, (TEMPLATES / name).read_bytes(), {"Content-Type": media_type})

        class Page(weasyprint.HTML):  # type: ignore[misc]  # WeasyPrint has no types
            """Well-formed HTML whose every rule stands in the style sheets of the bundle.

            To read a page as HTML that may be written anyhow, and to add WeasyPrint's rules for any HTML, cost a
            third of the time of a page. What stands here is WeasyPrint's own affair, which is one more reason to draw
            with one version of it only.
            """

            def __init__(self, html: str, url_fetcher: URLFetcher) -> None:
                try:
                    root = ElementTree.fromstring(html)  # noqa: S314 # our own template, every value escaped
                except ElementTree.ParseError as error:
                    raise ContentError(f"the page is not well-formed: {error}") from error
                self.base_url, self.url_fetcher, self.media_type = None, url_fetcher, "print"
                self.wrapper_element = cssselect2.ElementWrapper.from_html_root(root, content_language=None)
                self.etree_element = self.wrapper_element.etree_element

            def _ua_stylesheets(self, forms: bool = False) -> list[object]:  # noqa: FBT001, FBT002 - WeasyPrint's
                return []

        self._weasyprint = weasyprint
        self._forbidden = ForbiddenAddressError
        self._page = Page
        self._new_faces = FontConfiguration
        self._fetcher = Bundle(allowed_protocols=(), allow_redirects=False)
        self._open = ExitStack()
        self._folder = self._open.enter_context(temporary_folder("overage-faces-"))
        self._styles: dict[tuple[str, ...], tuple[Any, list[object]]] = {}
        self._images: dict[str, object] = {}
        self._templates: dict[str, Template] = {}

    def draw(self, page: Mapping[str, object], edition: Edition, seconds: float) -> Drawn:
        with _time_limit(seconds):
            # white space between blocks would become boxes that are thrown away again
            html = BETWEEN_BLOCKS.sub("><", self.template(edition).render(page))
            return self.draw_html(html, edition.sheets, edition.other_scripts)

    def template(self, edition: Edition) -> "Template":
        """The page of a version; what it includes comes from its own folder."""
        if edition.folder not in self._templates:
            from jinja2 import FileSystemLoader, StrictUndefined
            from jinja2.sandbox import ImmutableSandboxedEnvironment

            environment = ImmutableSandboxedEnvironment(
                autoescape=True,
                undefined=StrictUndefined,
                trim_blocks=True,
                lstrip_blocks=True,
                loader=FileSystemLoader(TEMPLATES / edition.folder, encoding="utf-8"),
            )
            self._templates[edition.folder] = environment.get_template("invoice.html.j2")
        return self._templates[edition.folder]

    def _style(self, sheets: tuple[str, ...]) -> tuple[Any, list[object]]:
        """The sheets with the faces they name, which are loaded once."""
        if sheets not in self._styles:
            with only_bundled_faces():
                faces = self._new_faces()
            # a folder of WeasyPrint's own would outlive a process that is killed, for good
            faces._folder = self._folder / str(len(self._styles))
            faces._folder.mkdir()
            parsed = [
                self._weasyprint.CSS(
                    string=(TEMPLATES / sheet).read_text("utf-8"), font_config=faces, url_fetcher=self._fetcher
                )
                for sheet in sheets
            ]
            self._styles[sheets] = faces, parsed
        return self._styles[sheets]

    @with_one_stack_chunk
    def draw_html(
        self, html: str, chosen: tuple[str, ...] = LATEST.sheets, other_scripts: str = LATEST.other_scripts
    ) -> Drawn:
        unprintable = uncovered(html)
        printable = html.translate({ord(it): stand_in(it) for it in unprintable}) if unprintable else html
        latin = covered_by_inter(printable.replace("\n", ""))
        faces, sheets = self._style(chosen if latin else (*chosen, other_scripts))
        try:
            document = self._page(printable, self._fetcher).render(
                stylesheets=sheets, font_config=faces, cache=self._images
            )
            pdf: bytes = document.write_pdf()
        except self._forbidden as error:
            raise ContentError(str(error)) from error
        return Drawn(pdf, len(document.pages), "".join(sorted(filter(stand_in, unprintable))))

    def close(self) -> None:
        """Let WeasyPrint remove its copies of the faces while Python still runs; nothing can be drawn any more."""
        for faces, _ in self._styles.values():
            # to find all that is left of them in circles would mean to walk over everything that is loaded
            faces.__del__()
            faces._folder = None
        self._styles.clear()
        self._open.close()


@cache
def engine() -> Engine:
    atexit.register(_close_engine)
    return Engine()


def _close_engine() -> None:
    if engine.cache_info().currsize:
        engine().close()
    engine.cache_clear()


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Stop after so many seconds of processor time: a machine that is busy with other things draws the same documents.

    Signals reach the main thread only, so elsewhere there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TimeLimitError(f"not drawn within {seconds:.0f} seconds of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    # again every second: WeasyPrint survives most exceptions that a resource raises
    timer = signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        signal.setitimer(signal.ITIMER_PROF, *timer)
