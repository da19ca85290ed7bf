"""WeasyPrint engine: draws one document within a time limit, from bundled files only."""

import atexit
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import localcontext
from functools import cache
from hashlib import md5
from types import FrameType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from xml.etree import ElementTree

from billing.rendering.environment import check_rendering_environment, libraries_by_file_name
from billing.rendering.errors import ContentError, MachineError, RenderingError, TimeLimitError, UnableError
from billing.rendering.fonts import ALL_FACES, TEMPLATES, covered_by_inter, only_bundled_faces, stand_in, uncovered
from billing.rendering.hybrid_pdf import hybrid_options
from billing.rendering.locale_formats import EXACT
from billing.rendering.own_templates import OWN_TEMPLATE, SHEET, TemplateError, addresses, explained
from billing.rendering.template_versions import EDITIONS, Edition, edition_of
from billing.rendering.v2.page import Page
from billing.store.temporary_folder import temporary_folder

if TYPE_CHECKING:
    from jinja2 import Template

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

FIRST = EDITIONS["1"]

BETWEEN_BLOCKS = re.compile(r">\s+<(?=/?(?:body|div|h2|head|html|meta|p|table|td|th|thead|title|tr)\b)")

SECONDS_PER_DOCUMENT = 30.0
SECONDS_PER_LINE = 0.1

# One 1 MB chunk for CPython's frame stack: by default it allocates and frees 16 kB chunks hundreds of times a page,
# 5 % of its time (`benchmarks invoice_documents`).
VALUES_OF_HALF_A_MEGABYTE = 66_000

_DRAWING = threading.Lock()  # Pango's font map serves one thread at a time.


@dataclass(frozen=True)
class Drawn:
    pdf: bytes
    pages: int
    unprintable: str


def render_pdf(content: Mapping[str, object], resources: Mapping[str, bytes] | None = None) -> bytes:
    """Draw one document from its stored content (rules 19 and 23).

    In the main thread, a CPU time limit applies that grows with the number of lines. Other threads may call this too:
    one at a time draws, without a limit.

    Parameters
    ----------
    content
        The stored content: money and quantities are decimal strings, dates `YYYY-MM-DD`.
    resources
        The files of the home that it names, by SHA-256: logo, translation, template.

    Returns
    -------
    bytes
        The PDF. Equal content gives equal bytes.

    Raises
    ------
    RenderingError
        Names the document and the value that cannot be printed, or what is missing on this machine.
    """
    return draw(content, resources).pdf


def draw(
    content: Mapping[str, object], resources: Mapping[str, bytes] | None = None, xml: bytes | None = None
) -> Drawn:
    """As `render_pdf`; with `xml` a PDF/A-3 that has this e-invoice in it."""
    number = number_of(content)
    try:
        with localcontext(EXACT):
            edition = edition_of(content)
            page = edition.page(content, resources or {})
        with _DRAWING:
            options = {} if xml is None else hybrid_options(xml, str(content["issued_on"]))
            return engine().draw(page, edition, seconds_allowed(content), options)
    except UnableError as error:
        raise MachineError(number, str(error)) from error
    except (ContentError, TimeLimitError) as error:
        raise RenderingError(number, str(error)) from error
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        raise RenderingError(number, f"{type(error).__name__}: {error}") from error


def draw_page(html: str, sheet: str) -> bytes:
    """Draw a complete HTML page with one style sheet of the bundle.

    Raises
    ------
    RenderingError
        When it cannot be drawn, or something is missing on this machine.
    """
    try:
        with _DRAWING, _time_limit(10 * SECONDS_PER_DOCUMENT):
            return engine().draw_html(html, (sheet,), FIRST.other_scripts, FIRST.faces).pdf
    except (ContentError, TimeLimitError, UnableError) as error:
        raise RenderingError(sheet, str(error)) from error


def draw_letter(html: str, sheet: str, language: str, images: Mapping[str, tuple[bytes, str]] | None = None) -> bytes:
    """Draw a complete HTML page in a language with one style sheet of the bundle, and the faces of documents.

    Parameters
    ----------
    images
        Bytes and media type of its images by address.

    Raises
    ------
    RenderingError
        As `draw_page`.
    """
    edition = EDITIONS["2"]
    others = edition.by_language.get(language.split("-")[0], edition.other_scripts)
    try:
        with _DRAWING:
            return engine().draw_letter(html, sheet, others, edition.faces, images or {})
    except (ContentError, TimeLimitError, UnableError) as error:
        raise RenderingError(sheet, str(error)) from error


def logo_is_drawn(content: bytes, media_type: str) -> bool:
    """Whether an image of a home appears on a page.

    Raises
    ------
    RenderingError
        When it asks for something outside of itself, or nothing can be drawn on this machine.
    """
    try:
        with _DRAWING, _time_limit(SECONDS_PER_DOCUMENT):
            return engine().image_is_drawn(content, media_type)
    except (ContentError, TimeLimitError, UnableError) as error:
        raise RenderingError("logo", str(error)) from error


def is_named_by_content(address: str) -> bool:
    return re.search(r"/[0-9a-f]{64}(/|$)", address) is not None


def number_of(content: Mapping[str, object]) -> str:
    number = content.get("number")
    return number if isinstance(number, str) else "document without a number"


def seconds_allowed(content: Mapping[str, object]) -> float:
    rows = sum(len(value) for key in ("lines", "usage") if isinstance(value := content.get(key), list))
    return SECONDS_PER_DOCUMENT + SECONDS_PER_LINE * rows


def with_one_stack_chunk(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run a function with one chunk of the frame stack for all of its calls."""
    function.__code__ = function.__code__.replace(co_stacksize=VALUES_OF_HALF_A_MEGABYTE)
    return function


class Engine:
    """WeasyPrint with the resources that documents share: fonts, style sheets, templates, images. Not thread-safe."""

    def __init__(self) -> None:
        problems = check_rendering_environment()
        if problems:
            raise UnableError(f"no document can be drawn on this machine. {' '.join(problems)}")
        import cssselect2

        with libraries_by_file_name():
            import weasyprint
        from weasyprint.text.fonts import FontConfiguration
        from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

        allowed = {"overage:logo.svg": ("v1/logo.svg", "image/svg+xml")} | {
            f"overage:fonts/{name}": (f"fonts/{name}", "font/ttf") for name in ALL_FACES
        }
        own: dict[str, tuple[bytes, str]] = {}

        class ForbiddenAddressError(FatalURLFetchingError):  # type: ignore[misc]  # WeasyPrint has no types.
            """A page requested a resource outside the bundle; WeasyPrint would ignore any other exception."""

        class Bundle(URLFetcher):  # type: ignore[misc]  # WeasyPrint has no types.
            """Fetcher that serves only the files of the bundle, and those of the document, by exact name."""

            def fetch(self, url: str, headers: object = None) -> URLFetcherResponse:
                if url in own:
                    return URLFetcherResponse(url, own[url][0], {"Content-Type": own[url][1]})
                if url not in allowed:
                    raise ForbiddenAddressError(f"{url}: found an address outside the invoice bundle")
                name, media_type = allowed[url]
                return URLFetcherResponse(url, (TEMPLATES / name).read_bytes(), {"Content-Type": media_type})

        class Page(weasyprint.HTML):  # type: ignore[misc]  # WeasyPrint has no types.
            """Well-formed HTML with all of its rules in the style sheets of the bundle.

            Skips the HTML5 parser and WeasyPrint's default style sheet, a third of the time of a page. Overrides
            private methods, so the version of WeasyPrint is pinned.
            """

            def __init__(self, html: str, url_fetcher: URLFetcher) -> None:
                try:
                    root = ElementTree.fromstring(html)  # noqa: S314 # Our own template, every value escaped.
                except ElementTree.ParseError as error:
                    raise ContentError(f"the page is not well-formed: {error}") from error
                self.base_url, self.url_fetcher, self.media_type = None, url_fetcher, "print"
                self.wrapper_element = cssselect2.ElementWrapper.from_html_root(root, content_language=None)
                self.etree_element = self.wrapper_element.etree_element

            def _ua_stylesheets(self, forms: bool = False) -> list[object]:  # noqa: FBT001, FBT002 - WeasyPrint's
                return []

        self._own = own
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
        self._options: Mapping[str, object] = {}

    def draw(self, page: Page, edition: Edition, seconds: float, options: Mapping[str, object] | None = None) -> Drawn:
        with _time_limit(seconds), self._files({**page.images, **addresses(page.own)}), self._with(options or {}):
            others = edition.by_language.get(page.language.split("-")[0], edition.other_scripts)
            if not page.own:
                return self.draw_html(self.html(page, edition), edition.sheets, others, edition.faces)
            return self._draw_own(page, edition, others)

    def draw_letter(
        self, html: str, sheet: str, others: str, faces: tuple[str, ...], images: Mapping[str, tuple[bytes, str]]
    ) -> bytes:
        with _time_limit(SECONDS_PER_DOCUMENT), self._files(images):
            return self.draw_html(BETWEEN_BLOCKS.sub("><", html), (sheet,), others, faces).pdf

    def html(self, page: Page, edition: Edition) -> str:
        """The page as HTML, without white space between blocks: WeasyPrint would make boxes of it and discard them."""
        return BETWEEN_BLOCKS.sub("><", self.template(edition, page).render(page.context))

    def _draw_own(self, page: Page, edition: Edition, others: str) -> Drawn:
        """Draw with the template of a home; whatever fails is its fault, and named with file and line."""
        from jinja2 import TemplateError as JinjaError

        html, sheet = "", page.own.get(SHEET, b"").decode("utf-8")
        try:
            html = self.html(page, edition)
            return self.draw_html(html, edition.sheets, others, edition.faces, (page.own_name, sheet))
        except (JinjaError, ContentError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise TemplateError(f"{OWN_TEMPLATE}: {explained(error, page.own, html)}") from error

    def image_is_drawn(self, content: bytes, media_type: str) -> bool:
        address = "overage:tried-image"
        with self._files({address: (content, media_type)}):
            self.draw_html(f'<html><body><p><img src="{address}"/></p></body></html>')
            return self._images.get(address) is not None

    @contextmanager
    def _with(self, options: Mapping[str, object]) -> Iterator[None]:
        """Write one document with options of `write_pdf`."""
        self._options = options
        try:
            yield
        finally:
            self._options = {}

    @contextmanager
    def _files(self, files: Mapping[str, tuple[bytes, str]]) -> Iterator[None]:
        """Serve the files of one document; what is named by its hash stays in the cache of images."""
        self._own.update(files)
        try:
            yield
        finally:
            self._own.clear()
            for address in files:
                if not is_named_by_content(address):
                    self._forget_image(address)

    def _forget_image(self, address: str) -> None:
        """Remove an image and its pixels, which WeasyPrint keeps by a hash of the address."""
        pixels = md5(address.encode(), usedforsecurity=False).hexdigest()
        for key in [key for key in self._images if key == address or key.startswith(pixels)]:
            del self._images[key]

    def template(self, edition: Edition, page: Page | None = None) -> "Template":
        """Page template of a version, or of a home; includes are resolved in the home's files and the version's."""
        key, own = (f"{edition.folder}/{page.own_name}", page.own) if page and page.own else (edition.folder, {})
        if key not in self._templates:
            from jinja2 import ChoiceLoader, FileSystemLoader, FunctionLoader, StrictUndefined
            from jinja2.sandbox import ImmutableSandboxedEnvironment

            def text(name: str) -> tuple[str, str, None] | None:
                return (own[name].decode("utf-8"), name, None) if name in own and name.endswith(".j2") else None

            released = FileSystemLoader(TEMPLATES / edition.folder, encoding="utf-8")
            environment = ImmutableSandboxedEnvironment(
                autoescape=True,
                undefined=StrictUndefined,
                trim_blocks=True,
                lstrip_blocks=True,
                loader=ChoiceLoader([FunctionLoader(text), released]) if own else released,
            )
            self._templates[key] = environment.get_template("invoice.html.j2")
        return self._templates[key]

    def _style(self, names: tuple[str, ...], own: tuple[str, str] = ("", "")) -> tuple[Any, list[object]]:
        """Parsed style sheets with their fonts, cached: fonts are loaded once. `own` is a home's, by its name."""
        sheets = (*names, own[0])
        if sheets not in self._styles:
            with only_bundled_faces():
                faces = self._new_faces()
            # Use our temporary folder: WeasyPrint's own is never removed after a kill.
            faces._folder = self._folder / str(len(self._styles))
            faces._folder.mkdir(exist_ok=True)
            texts = [(TEMPLATES / sheet).read_text("utf-8") for sheet in names]
            parsed = [
                self._weasyprint.CSS(string=text, font_config=faces, url_fetcher=self._fetcher)
                for text in (*texts, *filter(None, own[1:]))
            ]
            self._styles[sheets] = faces, parsed
        return self._styles[sheets]

    @with_one_stack_chunk
    def draw_html(
        self,
        html: str,
        chosen: tuple[str, ...] = FIRST.sheets,
        other_scripts: str = FIRST.other_scripts,
        known_faces: tuple[str, ...] = FIRST.faces,
        own: tuple[str, str] = ("", ""),
    ) -> Drawn:
        unprintable = uncovered(html, known_faces)
        printable = html.translate({ord(it): stand_in(it) for it in unprintable}) if unprintable else html
        latin = covered_by_inter(printable.replace("\n", ""))
        try:
            faces, sheets = self._style(chosen if latin else (*chosen, other_scripts), own)
            document = self._page(printable, self._fetcher).render(
                stylesheets=sheets, font_config=faces, cache=self._images
            )
            with warnings.catch_warnings():
                # WeasyPrint leaves the file of its colour profile to the garbage collector.
                warnings.simplefilter("ignore", ResourceWarning)
                pdf: bytes = document.write_pdf(**self._options)
        except self._forbidden as error:
            raise ContentError(str(error)) from error
        return Drawn(pdf, len(document.pages), "".join(sorted(filter(stand_in, unprintable))))

    def close(self) -> None:
        """Remove WeasyPrint's copies of the fonts before the interpreter exits; the engine cannot draw afterwards."""
        for faces, _ in self._styles.values():
            # Finalize explicitly: a garbage collection would traverse every loaded object.
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
    """Limit CPU time, not elapsed time: a busy machine draws the same documents.

    Applies in the main thread only, as signals reach no other.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TimeLimitError(f"not drawn within {seconds:.0f} seconds of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    # Repeat every second: WeasyPrint catches most exceptions that are raised while it loads a resource.
    timer = signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        signal.setitimer(signal.ITIMER_PROF, *timer)
