"""Draws issued documents as PDF files, from their stored content and nothing else (rules 19 and 23).

The same content gives the same bytes in any process: faces come from `invoice_templates/fonts` only, the date in the
file is the issue date, and nothing is fetched. Importing this module is cheap; WeasyPrint is loaded by the first page.

Many documents are drawn by worker processes. Those are fresh interpreters that load this module, not forks of the
caller: a process that has used Polars or Pango runs threads, and a fork of it can wait for ever on a lock that one of
those threads held.
"""

import atexit
import ctypes
import ctypes.util
import gc
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Context, Decimal, DecimalException, localcontext
from functools import cache
from itertools import chain, groupby, islice
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import invoice_templates

if TYPE_CHECKING:
    from babel import Locale
    from jinja2 import Template

TEMPLATE_VERSION = "1"

_DRAWING = threading.Lock()  # Pango's font map serves one thread at a time

WEASYPRINT_VERSION = "70.0"
TEMPLATES = Path(invoice_templates.__file__).parent
FACES = (
    "Inter-Regular.ttf",
    "Inter-Medium.ttf",
    "Inter-SemiBold.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "DroidSansFallback-Han.ttf",
    "DroidSansFallback-Hangul.ttf",
)

LATIN_SHEETS = ("invoice.css",)  # Latin, Greek and Cyrillic
SHEETS = ("invoice.css", "other_scripts.css")

# `billing.home` removes what a killed run left under this prefix; it is not imported because it brings Polars along.
SCRATCH_PREFIX = ".writing-"

SECONDS_PER_DOCUMENT = 30.0
SECONDS_PER_LINE = 0.1
SECONDS_TO_START = 120.0
BYTES_PER_WORKER = 3 * 1024**3
DOCUMENTS_PER_WORKER = 500
DOCUMENTS_WITHOUT_WORKERS = 2

START_WORKER = (
    "import sys; sys.path.insert(0, sys.argv[1]); import billing.rendering as it; it._serve(int(sys.argv[2]))"
)

BAR_MILLIMETRES = Decimal(74)
BOX = "\N{WHITE SQUARE}"
# in a name they could turn the rest of a line over
DIRECTION_CONTROLS = frozenset(chain(range(0x202A, 0x202F), range(0x2066, 0x206A)))
# Babel resolves aliases into data that locales share, so some forms depend on the locales used before: abbreviated and
# stand-alone months in many languages, long dates in these only (tried for every locale of Babel 2.18)
UNSTABLE_DATES = frozenset({"yo"})
EXACT = Context(prec=100)  # Babel rounds to the context's precision, and paper must not round


@dataclass(frozen=True)
class _Library:
    """A library of the system that WeasyPrint draws with, and what brings it."""

    name: str
    files: tuple[str, ...]
    short_names: tuple[str, ...]
    without_it: str
    debian: str
    fedora: str
    macos: str

    def loads(self) -> bool:
        for file in self.files:
            with suppress(OSError):
                ctypes.CDLL(file)
                return True
        return any(ctypes.util.find_library(name) for name in self.short_names)


LIBRARIES = (
    _Library(
        "Pango",
        ("libpango-1.0.so.0", "libpango-1.0.dylib"),
        ("pango-1.0", "pango-1.0-0"),
        "no page can be drawn",
        "libpango-1.0-0",
        "pango",
        "pango",
    ),
    _Library(
        "PangoFT2",
        ("libpangoft2-1.0.so.0", "libpangoft2-1.0.dylib"),
        ("pangoft2-1.0", "pangoft2-1.0-0"),
        "no page can be drawn",
        "libpangoft2-1.0-0",
        "pango",
        "pango",
    ),
    _Library(
        "libharfbuzz-subset",
        ("libharfbuzz-subset.so.0", "libharfbuzz-subset.0.dylib"),
        ("harfbuzz-subset", "harfbuzz-subset-0"),
        "pages would take four times as long and their bytes would differ",
        "libharfbuzz-subset0",
        "harfbuzz",
        "harfbuzz",
    ),
)


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


class RenderingError(Exception):
    """A document could not be drawn; nothing stands under its name that was not there before.

    Attributes
    ----------
    number
        Number of the document.
    cause
        What went wrong, in words.
    """

    def __init__(self, number: str, cause: str) -> None:
        self.number = number
        self.cause = cause
        super().__init__(f"{number}: {cause}")

    def __reduce__(self) -> tuple[type["RenderingError"], tuple[str, str]]:
        """Errors travel from the workers; by default only the message would."""
        return type(self), (self.number, self.cause)


class _ContentError(ValueError):
    """A value of the stored content is not what the contract of a document says."""


class _UnableError(Exception):
    """This machine cannot draw documents at all."""


class _TimeLimitError(Exception):
    """Drawing took longer than a document of this length may."""


def render_pdf(content: Mapping[str, object]) -> bytes:
    """Draw one document from its stored content (rules 19 and 23).

    In the main thread a time limit holds that grows with the number of lines. Other threads may call this too, one at a
    time is drawn; no time limit holds there.

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
    return _draw(content).pdf


def render_files(
    jobs: Iterable[tuple[str, Path]], workers: int = 2, documents_per_worker: int = DOCUMENTS_PER_WORKER
) -> Iterator[RenderedFile]:
    """Draw documents into files, each put in its place at once or not at all.

    Works lazily: a bounded number of jobs is taken ahead of what has been yielded, so there may be any number of them.
    One or two documents are drawn in this process; more by `workers` fresh interpreters.

    Parameters
    ----------
    jobs
        Stored content as JSON text, and the path of the PDF.
    workers
        Number of processes.
    documents_per_worker
        After so many documents a worker is replaced, because WeasyPrint does not give all memory back.

    Yields
    ------
    RenderedFile
        In the order of the jobs.

    Raises
    ------
    RenderingError
        When it is the turn of a document that cannot be drawn, naming it. Documents before it have been yielded.
    OSError
        When a file cannot be written, with its path.
    ValueError
        When `workers` or `documents_per_worker` is below 1.
    """
    if workers < 1 or documents_per_worker < 1:
        raise ValueError(f"found {workers} workers and {documents_per_worker} documents each, expected at least 1")
    remaining = iter(jobs)
    first = list(islice(remaining, DOCUMENTS_WITHOUT_WORKERS + 1))
    if len(first) <= DOCUMENTS_WITHOUT_WORKERS and threading.current_thread() is threading.main_thread():
        for text, path in first:
            yield _render_file(text, path)
    elif first:
        yield from _render_with_workers(chain(first, remaining), workers, documents_per_worker)


def check_rendering_environment() -> list[str]:
    """What keeps this machine from drawing documents: one sentence for each problem, with what to install."""
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
    missing = [name for name in FACES if not (TEMPLATES / "fonts" / name).is_file()]
    if missing:
        problems.append(
            f"{TEMPLATES / 'fonts'}: found no {', '.join(missing)}, expected the faces that come with Overage "
            "on every system (Debian, Ubuntu, Fedora, macOS): install the package again"
        )
    return problems


# --- one document ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Drawn:
    pdf: bytes
    pages: int
    unprintable: str


def _draw(content: Mapping[str, object]) -> _Drawn:
    number = _number(content)
    try:
        with localcontext(EXACT):
            page = _page(content)
        with _DRAWING:
            return _engine().draw(page, _seconds_allowed(content))
    except (_ContentError, _TimeLimitError, _UnableError) as error:
        raise RenderingError(number, str(error)) from error
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        raise RenderingError(number, f"{type(error).__name__}: {error}") from error


def _render_file(text: str, path: Path) -> RenderedFile:
    drawn = _draw(_read_content(text, path))
    _write(path, drawn.pdf)
    return RenderedFile(path, hashlib.sha256(drawn.pdf).hexdigest(), len(drawn.pdf), drawn.pages, drawn.unprintable)


def _read_content(text: str, path: Path) -> dict[str, object]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise RenderingError(path.stem, f"found content that is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise RenderingError(path.stem, f"found content of type {type(content).__name__}, expected an object")
    return content


def _number(content: Mapping[str, object]) -> str:
    number = content.get("number")
    return number if isinstance(number, str) else "document without a number"


def _seconds_allowed(content: Mapping[str, object]) -> float:
    rows = sum(len(value) for key in ("lines", "usage") if isinstance(value := content.get(key), list))
    return SECONDS_PER_DOCUMENT + SECONDS_PER_LINE * rows


def _scratch_of(path: Path, process: int) -> Path:
    return path.with_name(f"{SCRATCH_PREFIX}{process}-{path.name}")


def _write(path: Path, content: bytes) -> None:
    """Put `content` in place of `path` at once, and make that last before it is reported."""
    scratch = _scratch_of(path, os.getpid())
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


# --- the page: content in words and numbers of the customer's locale -------------------------------------------------


class _Fields:
    """An object of the stored content; every look-up names its place when the content is not as agreed."""

    def __init__(self, values: object, place: str = "") -> None:
        if not isinstance(values, Mapping):
            raise _ContentError(f"{place or 'content'}: found {values!r}, expected an object")
        self._values: Mapping[str, object] = values
        self._place = place

    def place(self, key: str) -> str:
        return f"{self._place}.{key}" if self._place else key

    def _value(self, key: str) -> object:
        if key not in self._values:
            raise _ContentError(f"{self.place(key)}: found nothing, expected a value or null")
        return self._values[key]

    def has(self, key: str) -> bool:
        return self._value(key) is not None

    def text(self, key: str) -> str:
        value = self._value(key)
        if not isinstance(value, str):
            raise _ContentError(f"{self.place(key)}: found {value!r}, expected text")
        return value

    def optional_text(self, key: str) -> str:
        return self.text(key) if self.has(key) else ""

    def integer(self, key: str) -> int:
        value = self._value(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 9:
            raise _ContentError(f"{self.place(key)}: found {value!r}, expected a whole number from 0 to 9")
        return value

    def decimal(self, key: str) -> Decimal:
        text = self.text(key)
        try:
            value = Decimal(text)
        except DecimalException as error:
            raise _ContentError(f"{self.place(key)}: found {text!r}, expected a decimal number") from error
        # beyond 50 places nothing is money or usage, and writing 1e999999 out would take all memory
        if not value.is_finite() or len(value.as_tuple().digits) > 50 or abs(value.adjusted()) > 50:
            raise _ContentError(
                f"{self.place(key)}: found {text[:60]!r}, expected a decimal number of at most 50 places"
            )
        return value

    def day(self, key: str) -> date:
        text = self.text(key)
        try:
            return date.fromisoformat(text)
        except ValueError as error:
            raise _ContentError(f"{self.place(key)}: found {text!r}, expected a date YYYY-MM-DD") from error

    def fields(self, key: str) -> "_Fields":
        return _Fields(self._value(key), self.place(key))

    def _list(self, key: str) -> list[object]:
        value = self._value(key)
        if not isinstance(value, list):
            raise _ContentError(f"{self.place(key)}: found {value!r}, expected a list")
        return value

    def rows(self, key: str) -> list["_Fields"]:
        return [_Fields(row, f"{self.place(key)}[{place}]") for place, row in enumerate(self._list(key))]

    def texts(self, key: str) -> list[str]:
        values = self._list(key)
        for place, value in enumerate(values):
            if not isinstance(value, str):
                raise _ContentError(f"{self.place(key)}[{place}]: found {value!r}, expected text")
        return [str(value) for value in values]


class _Print:
    """Writes numbers and dates as the customer's locale does; call it under the context `EXACT`."""

    def __init__(self, locale: str, currency: str, minor_units: int) -> None:
        self.locale = _locale(locale)
        self.date_locale = _locale_for_dates(locale)
        self.currency = currency
        self.minor_units = minor_units

    def money(self, value: Decimal, place: str) -> str:
        """An amount, in the currency's minor units. Rounding is the business of rating (rule 4), not of paper."""
        if _decimals(value) > self.minor_units:
            raise _ContentError(f"{place}: found {value}, expected at most {self.minor_units} decimals")
        return _written(value, self.locale, self.minor_units)

    def money_with_currency(self, value: Decimal, place: str) -> str:
        return f"{self.currency}\N{NO-BREAK SPACE}{self.money(value, place)}"

    def change_of_money(self, value: Decimal, place: str) -> str:
        return f"+{self.money(value, place)}" if value > 0 else self.money(value, place)

    def unit_price(self, value: Decimal) -> str:
        """A price with all its decimals: 0.003 a unit must not read 0.00."""
        return _written(value, self.locale, self.minor_units)

    def quantity(self, value: Decimal, unit: str) -> str:
        number = _written(value, self.locale)
        return f"{number}\N{NO-BREAK SPACE}{unit}" if unit else number

    def percent(self, rate: Decimal) -> str:
        return f"{_written(rate * 100, self.locale)}%"

    def day(self, value: date) -> str:
        from babel.dates import format_date

        return format_date(value, "long", self.date_locale)

    def month(self, value: date) -> str:
        from babel.dates import format_date

        return format_date(value, "MMMM y", self.date_locale)

    def cycle(self, start: date, end: date) -> str:
        """A half-open cycle as people read it: the first and the last day that belong to it."""
        return f"{self.day(start)} \N{EN DASH} {self.day(max(start, end - timedelta(days=1)))}"


def _written(value: Decimal, locale: "Locale", least: int = 0) -> str:
    """Every decimal of a number, and at least so many, in the locale's digits and groups."""
    from babel.numbers import NumberPattern, parse_pattern

    decimals = max(least, _decimals(value))
    fraction = f".{'0' * decimals}" if decimals else ""
    pattern: NumberPattern = parse_pattern(f"{_grouping(locale)}{fraction}")
    written: str = pattern.apply(value, locale)
    return written


def _decimals(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


@cache
def _locale(name: str) -> "Locale":
    from babel import Locale, UnknownLocaleError

    try:
        locale = Locale.parse(name.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return Locale.parse("en_US")
    return locale if _covered_by_inter(_written(Decimal("-1234567.89"), locale)) else Locale.parse("en_US")


@cache
def _locale_for_dates(name: str) -> "Locale":
    """The locale, unless its months are written in a script that is set in another face than the digits beside them."""
    from babel import Locale
    from babel.dates import format_date

    locale = _locale(name)
    months = [date(2024, month, 1) for month in range(1, 13)]
    written = "".join(format_date(day, style, locale) for day in months for style in ("long", "MMMM y"))
    return locale if _covered_by_inter(written) and locale.language not in UNSTABLE_DATES else Locale.parse("en_US")


@cache
def _grouping(locale: "Locale") -> str:
    """The whole part of the locale's number pattern: `#,##0`, or `#,##,##0` in India."""
    pattern: str = locale.decimal_formats[None].pattern
    return pattern.split(";")[0].split(".")[0]


@cache
def _characters(face: str) -> frozenset[int]:
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # fontTools has no types

    with TTFont(TEMPLATES / "fonts" / face, lazy=True) as font:
        return frozenset(font.getBestCmap())


def _covered_by_inter(text: str) -> bool:
    return _characters(FACES[0]).issuperset(map(ord, text))


@cache
def _covered() -> frozenset[str]:
    covered = frozenset().union(*map(_characters, FACES)) - DIRECTION_CONTROLS
    return frozenset(map(chr, covered)) | frozenset("\n\r\t")


def _page(content: Mapping[str, object]) -> dict[str, object]:
    """What the template prints: every value a text, except the lists, the flags and the lengths of the bars."""
    document = _Fields(content)
    version = document.text("template_version")
    if version != TEMPLATE_VERSION:
        raise _ContentError(
            f"template_version: found {version!r}, expected {TEMPLATE_VERSION!r}; the release that issued it draws it"
        )
    kind = document.text("kind")
    if kind not in ("invoice", "credit_note", "debit_note"):
        raise _ContentError(f"kind: found {kind!r}, expected invoice, credit_note or debit_note")
    out = _Print(document.optional_text("locale"), document.text("currency"), document.integer("minor_units"))
    sign = -1 if kind == "credit_note" else 1  # rule 19: a credit note is negative in the tables, positive on paper
    total = document.decimal("total") * sign
    seller = document.fields("seller")
    customer = document.fields("customer")
    subscription = document.fields("subscription")
    return {
        "number": document.text("number"),
        "kind": kind,
        "created": document.day("issued_on").isoformat(),
        "billing_month": out.month(_month(document)),
        "currency": out.currency,
        "corrects": document.optional_text("corrects"),
        "reason": document.optional_text("reason"),
        "seller": {
            "name": seller.text("name"),
            "address": _address(seller),
            "tax_id": seller.optional_text("tax_id"),
            "support_email": seller.optional_text("support_email"),
            "support_link": _link("mailto:", seller.optional_text("support_email")),
            "billing_policy_url": seller.optional_text("billing_policy_url"),
            "billing_policy_link": _link("", seller.optional_text("billing_policy_url")),
        },
        "customer": {
            "account_id": customer.text("account_id"),
            "name": customer.optional_text("name") or customer.text("account_id"),
            "email": customer.optional_text("email"),
            "address": _address(customer),
            "tax_id": customer.optional_text("tax_id"),
        },
        "facts": _facts(document, subscription, out),
        "lines": [_line(row, out, sign) for row in document.rows("lines")],
        "usage": _usage(document.rows("usage"), out),
        "changes": [_change(row, out) for row in document.rows("changes")],
        "compared": _comparison(document, out, total) if document.has("comparison") else None,
        "taxes": [_tax(row, out, sign) for row in document.rows("taxes")],
        "tax_note": document.optional_text("tax_note"),
        "net": out.money(document.decimal("net") * sign, "net"),
        "tax": out.money(document.decimal("tax") * sign, "tax"),
        "total_with_currency": out.money_with_currency(total, "total"),
        "nothing_due": total <= 0,
        "notes": document.texts("notes"),
    }


def _month(document: _Fields) -> date:
    text = document.text("billing_month")
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise _ContentError(f"billing_month: found {text!r}, expected a month YYYY-MM") from error


def _facts(document: _Fields, subscription: _Fields, out: _Print) -> list[tuple[str, str]]:
    """Name and value of what a page says beside the customer; the last value alone may be of any length."""
    package = subscription.optional_text("package_title") or subscription.optional_text("package")
    term = subscription.optional_text("term")
    following = out.day(subscription.day("next_billing_date")) if subscription.has("next_billing_date") else ""
    facts = [
        ("Issued", out.day(document.day("issued_on"))),
        ("Due", "" if document.text("kind") == "credit_note" else "Due on issue"),
        ("Billing date", out.day(document.day("billing_date"))),
        ("Next billing date", following),
        ("Corrects", document.optional_text("corrects")),
        ("Package", ", ".join(part for part in (package, term) if part)),
    ]
    return [(name, value) for name, value in facts if value]


def _address(party: _Fields) -> list[str]:
    """The address lines, with the country in words unless it stands there already."""
    lines = [line for line in party.texts("address") if line.strip()]
    code = party.optional_text("country")
    country = _locale("en_US").territories.get(code.upper(), code)
    said = {line.strip().casefold() for line in lines}
    return lines if not country or {country.casefold(), code.casefold()} & said else [*lines, country]


def _link(scheme: str, target: str) -> str:
    """A link for the reader to follow, when the target is one beyond doubt; else the page shows the bare text."""
    mail = re.fullmatch(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", target, re.ASCII)
    page = re.fullmatch(r"https?://[\w.-]+(:\d+)?(/[\w./%~+?=&#-]*)?", target, re.ASCII)
    return f"{scheme}{target}" if (mail if scheme else page) else ""


def _title(row: _Fields) -> str:
    return row.optional_text("metric_title") or row.optional_text("metric")


def _line(row: _Fields, out: _Print, sign: int) -> dict[str, object]:
    unit = row.optional_text("unit")
    cycle = out.cycle(row.day("cycle_start"), row.day("cycle_end")) if row.has("cycle_start") else ""
    package = row.optional_text("package_title") or row.optional_text("package")
    title = row.text("description") or _title(row) or package
    details = [cycle, _tariff(row, out), *row.texts("arithmetic")]
    unlimited = row.has("quantity") and not row.has("allowance")
    return {
        "title": title,
        "package": "" if package.casefold() in title.casefold() else package,
        "earlier": row.text("kind") == "prior_cycle",
        "details": [detail for detail in details if detail],
        "measured": row.has("metric") and row.has("quantity"),
        "quantity": out.quantity(row.decimal("quantity"), unit) if row.has("quantity") else "",
        "allowance": "unlimited"
        if unlimited
        else out.quantity(row.decimal("allowance"), unit)
        if row.has("allowance")
        else "",
        "excess": out.quantity(row.decimal("excess"), unit) if row.has("excess") else "",
        "charged": _charged(row, out, unit),
        "price": out.unit_price(row.decimal("unit_price")) if row.has("unit_price") else "",
        "amount": out.money(row.decimal("amount") * sign, row.place("amount")),
    }


def _charged(row: _Fields, out: _Print, unit: str) -> str:
    """The units billed: blocks as a product (13 times 1,000), everything else as a quantity."""
    if not row.has("billed_units"):
        return ""
    billed = row.decimal("billed_units")
    if row.has("tariff"):
        tariff = row.fields("tariff")
        if tariff.text("model") == "block" and tariff.has("size") and tariff.decimal("size") != 1:
            return f"{out.quantity(billed, '')} \N{MULTIPLICATION SIGN} {out.quantity(tariff.decimal('size'), unit)}"
    return out.quantity(billed, unit)


def _tariff(row: _Fields, out: _Print) -> str:
    """The tiers in words (rule 3). Blocks need none: the columns say how many, how large and what one costs."""
    if not row.has("tariff"):
        return ""
    tariff = row.fields("tariff")
    model = tariff.text("model")
    unit = row.optional_text("unit")
    if model == "block":
        return ""
    tiers: list[str] = []
    for tier in tariff.rows("tiers"):
        reach = (
            f"up to {out.quantity(tier.decimal('up_to'), unit)}" if tier.has("up_to") else "above" if tiers else "all"
        )
        prices = []
        if tier.has("unit_price") and tier.decimal("unit_price"):
            prices.append(f"{out.unit_price(tier.decimal('unit_price'))} each")
        if tier.has("flat") and tier.decimal("flat"):
            prices.append(out.unit_price(tier.decimal("flat")))
        tiers.append(f"{reach}: {' plus '.join(prices) or 'free'}")
    described = {
        "graduated": "Each tier prices its own part",
        "volume": "The tier reached prices all units",
        "stairstep": "One price for the tier reached",
    }
    if model not in described:
        raise _ContentError(f"{tariff.place('model')}: found {model!r}, expected block, {', '.join(described)}")
    return f"{described[model]} ({'; '.join(tiers)})"


def _usage(rows: Sequence[_Fields], out: _Print) -> list[dict[str, object]]:
    """Usage by cycle and package, in the order of the content."""

    def heading(row: _Fields) -> tuple[str, str]:
        return out.cycle(row.day("cycle_start"), row.day("cycle_end")), row.text("package_title")

    return [
        {"span": span, "package": package, "metrics": [_usage_row(row, out) for row in group]}
        for (span, package), group in groupby(rows, key=heading)
    ]


def _usage_row(row: _Fields, out: _Print) -> dict[str, object]:
    unit = row.optional_text("unit")
    quantity = row.decimal("quantity")
    excess = row.decimal("excess") if row.has("excess") else Decimal(0)
    allowance = row.decimal("allowance") if row.has("allowance") else None
    return {
        "metric": _title(row),
        "quantity": out.quantity(quantity, unit),
        "allowance": "" if allowance is None else out.quantity(allowance, unit),
        "excess": out.quantity(excess, unit) if excess > 0 else "",
        "bar": None if allowance is None else _bar(quantity, allowance),
    }


def _bar(quantity: Decimal, allowance: Decimal) -> dict[str, str]:
    """Lengths in millimetres of usage within the allowance and of the rest of the bar, which shows the larger of both.

    The rest is the usage beyond the allowance where there is some, and otherwise the allowance that was left over.
    """
    used = max(quantity, Decimal(0))
    scale = max(used, allowance)
    within = Decimal(0)
    if scale > 0:
        within = min(used, max(allowance, Decimal(0))) / scale * BAR_MILLIMETRES
    # fixed-point on purpose: these two are the only values of a document that reach a style
    return {"within": f"{within:.2f}", "rest": f"{BAR_MILLIMETRES - within:.2f}"}


def _change(row: _Fields, out: _Print) -> dict[str, object]:
    evidence = []
    for proof in row.rows("evidence"):
        unit = proof.optional_text("unit")
        evidence.append(
            {
                "metric": _title(proof),
                "quantity": out.quantity(proof.decimal("quantity"), unit),
                "allowance": out.quantity(proof.decimal("allowance"), unit) if proof.has("allowance") else "",
            }
        )
    return {
        "origin": row.optional_text("from_title") or row.text("from_package"),
        "target": row.optional_text("to_title") or row.text("to_package"),
        "effective_on": out.day(row.day("effective_on")),
        "sentence": row.text("sentence"),
        "evidence": evidence,
    }


def _comparison(document: _Fields, out: _Print, total: Decimal) -> dict[str, object]:
    """Why it is higher, or lower, than last time (rule 23)."""
    comparison = document.fields("comparison")
    difference = comparison.decimal("difference")
    return {
        "number": comparison.text("previous_number"),
        "date": out.day(comparison.day("previous_date")),
        "previous": out.money_with_currency(comparison.decimal("previous_total"), comparison.place("previous_total")),
        "current": out.money_with_currency(total, "total"),
        "difference": out.money_with_currency(abs(difference), comparison.place("difference")),
        "direction": "higher" if difference > 0 else "lower" if difference < 0 else "same",
        "movements": [
            {
                "label": row.text("label"),
                "previous": out.money(row.decimal("previous"), row.place("previous")),
                "current": out.money(row.decimal("current"), row.place("current")),
                "difference": out.change_of_money(row.decimal("difference"), row.place("difference")),
            }
            for row in comparison.rows("movements")
        ],
    }


def _tax(row: _Fields, out: _Print, sign: int) -> dict[str, object]:
    reason = row.text("reason")
    if reason not in ("charged", "exempt", "reverse_charge"):
        raise _ContentError(f"{row.place('reason')}: found {reason!r}, expected charged, exempt or reverse_charge")
    place = (row.optional_text("country"), row.optional_text("region"))
    return {
        "name": row.text("name"),
        "place": " ".join(part for part in place if part),
        "rate": out.percent(row.decimal("rate")),
        "taxable": out.money(row.decimal("taxable") * sign, row.place("taxable")),
        "amount": out.money(row.decimal("amount") * sign, row.place("amount")),
        "reason": reason,
    }


# --- drawing ---------------------------------------------------------------------------------------------------------


class _Engine:
    """WeasyPrint with everything that documents share: faces, style sheet, template, images. One page set at a time."""

    def __init__(self) -> None:
        from jinja2 import FileSystemLoader, StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        problems = check_rendering_environment()
        if problems:
            raise _UnableError(f"no document can be drawn on this machine. {' '.join(problems)}")
        import weasyprint
        from weasyprint.text.fonts import FontConfiguration
        from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

        allowed = {"overage:logo.svg": ("logo.svg", "image/svg+xml")} | {
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
            """HTML whose every rule stands in the style sheets of the bundle.

            The rules that WeasyPrint adds for any HTML cost half the time of a page. A release without this method adds
            them again, and pages look the same.
            """

            def _ua_stylesheets(self, forms: bool = False) -> list[object]:
                return []

        self._weasyprint = weasyprint
        self._forbidden = ForbiddenAddressError
        self._page = Page
        self._new_faces = FontConfiguration
        self._fetcher = Bundle(allowed_protocols=(), allow_redirects=False)
        self._styles: dict[tuple[str, ...], tuple[object, list[object]]] = {}
        self._images: dict[str, object] = {}
        self._environment = ImmutableSandboxedEnvironment(
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        )
        self._template: Template = self._environment.get_template("invoice.html.j2")

    def draw(self, page: Mapping[str, object], seconds: float) -> _Drawn:
        with _time_limit(seconds):
            return self.draw_html(self._template.render(page))

    def _style(self, sheets: tuple[str, ...]) -> tuple[object, list[object]]:
        """The sheets with the faces they name, which are loaded once."""
        if sheets not in self._styles:
            with _only_bundled_faces():
                faces = self._new_faces()
            parsed = [
                self._weasyprint.CSS(
                    string=(TEMPLATES / sheet).read_text("utf-8"), font_config=faces, url_fetcher=self._fetcher
                )
                for sheet in sheets
            ]
            self._styles[sheets] = faces, parsed
        return self._styles[sheets]

    def draw_html(self, html: str) -> _Drawn:
        uncovered = set(html) - _covered()
        printable = html.translate({ord(it): _stand_in(it) for it in uncovered}) if uncovered else html
        latin = _covered_by_inter(printable.replace("\n", ""))
        faces, sheets = self._style(LATIN_SHEETS if latin else SHEETS)
        try:
            document = self._page(string=printable, url_fetcher=self._fetcher).render(
                stylesheets=sheets, font_config=faces, cache=self._images
            )
            pdf: bytes = document.write_pdf()
        except self._forbidden as error:
            raise _ContentError(str(error)) from error
        return _Drawn(pdf, len(document.pages), "".join(sorted(filter(_stand_in, uncovered))))


def _stand_in(character: str) -> str:
    """What prints in place of a character that no face covers: a neat box, or nothing where nothing is to be seen."""
    return "" if unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f" else BOX


@cache
def _engine() -> _Engine:
    atexit.register(_close_engine)
    return _Engine()


def _close_engine() -> None:
    """Let go of the faces while Python still runs, so that WeasyPrint removes its copies of them."""
    _engine.cache_clear()
    gc.collect()


@contextmanager
def _only_bundled_faces() -> Iterator[None]:
    """Let fontconfig see the bundle only: its configuration is read from the environment, once, when it starts."""
    before = os.environ.get("FONTCONFIG_FILE")
    os.environ["FONTCONFIG_FILE"] = str(TEMPLATES / "fonts.conf")
    try:
        yield
    finally:
        if before is None:
            del os.environ["FONTCONFIG_FILE"]
        else:
            os.environ["FONTCONFIG_FILE"] = before


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Stop after so many seconds. Signals reach the main thread only, so elsewhere there is no limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        raise _TimeLimitError(f"not drawn within {seconds:.0f} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    # again every second: WeasyPrint survives most exceptions that a resource raises
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


# --- worker processes ------------------------------------------------------------------------------------------------


def _render_with_workers(
    jobs: Iterable[tuple[str, Path]], workers: int, documents_per_worker: int
) -> Iterator[RenderedFile]:
    pool = _Pool(documents_per_worker)
    threads = ThreadPoolExecutor(workers, thread_name_prefix="rendering")
    waiting: deque[Future[RenderedFile]] = deque()
    try:
        for text, path in jobs:
            waiting.append(threads.submit(pool.render, text, path))
            if len(waiting) >= 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # also when the caller stops reading, or a document failed: nothing is left running, no scratch file remains
        for future in waiting:
            future.cancel()
        pool.stop()
        threads.shutdown()
        pool.remove_scratch()


class _Pool:
    """The workers, each used by one thread of the caller at a time."""

    def __init__(self, documents_per_worker: int) -> None:
        self._documents_per_worker = documents_per_worker
        self._scratch = tempfile.mkdtemp(prefix="overage-rendering-")
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._stopped = False

    def render(self, text: str, path: Path) -> RenderedFile:
        worker = self._take(path)
        try:
            return worker.render(text, path)
        finally:
            self._give_back(worker)

    def _take(self, path: Path) -> "_Worker":
        with self._lock:
            if self._stopped:
                raise RenderingError(path.stem, "rendering was stopped")
            if self._idle:
                return self._idle.pop()
            worker = _Worker(self._scratch)
            self._all.add(worker)
            return worker

    def _give_back(self, worker: "_Worker") -> None:
        with self._lock:
            if not self._stopped and worker.alive and worker.rendered < self._documents_per_worker:
                self._idle.append(worker)
                return
            self._all.discard(worker)
        worker.close()

    def stop(self) -> None:
        """End all workers: idle ones here, busy ones by the thread that uses them, which learns of their death.

        A connection closed by two threads could close a file of somebody else, who was given the number in between.
        """
        with self._lock:
            self._stopped = True
            idle, self._idle = self._idle, []
            busy = self._all.difference(idle)
            for worker in busy:
                worker.kill()
            self._all.clear()
        for worker in idle:
            worker.close()

    def remove_scratch(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)


class _Worker:
    """A fresh interpreter that draws documents until it is closed."""

    def __init__(self, scratch: str) -> None:
        self.rendered = 0
        self.alive = True
        self._started = False
        self._connection, theirs = Pipe()
        root = str(Path(__file__).resolve().parent.parent)
        with theirs:
            self._messages = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  closed with the worker
            # the interpreter that runs this, with arguments from above: no word of a document is among them
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-c", START_WORKER, root, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._messages,
                stderr=self._messages,
                # WeasyPrint keeps a copy of the faces in the folder for temporary files, which a killed worker leaves
                env={**os.environ, "TMPDIR": scratch},
            )

    def render(self, text: str, path: Path) -> RenderedFile:
        number = path.stem
        try:
            if not self._started:
                self._start(number)
            content = _read_content(text, path)
            number = _number(content)
            self._connection.send((text, str(path)))
            # the worker keeps the limit itself; this one is for a worker that cannot
            answer = self._receive(number, 2 * _seconds_allowed(content))
        except (EOFError, ConnectionError) as error:
            raise RenderingError(number, self._last_words()) from error
        finally:
            if not self.alive:
                _scratch_of(path, self._process.pid).unlink(missing_ok=True)
        self.rendered += 1
        if not isinstance(answer, RenderedFile):
            raise RenderingError(number, f"found {answer!r} from a worker, expected a file")
        return answer

    def _start(self, number: str) -> None:
        try:
            self._receive(number, SECONDS_TO_START)
        except RenderingError as error:  # it names the sample, which the caller has never heard of
            self.alive = False
            raise RenderingError(number, error.cause) from error
        self._started = True

    def _receive(self, number: str, seconds: float) -> object:
        try:
            if not self._connection.poll(seconds):
                self.close()
                raise RenderingError(number, f"the worker gave no answer within {seconds:.0f} seconds and was stopped")
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            self.alive = False
            raise
        if isinstance(answer, RenderingError | OSError):
            raise answer
        return answer

    def _last_words(self) -> str:
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "the worker closed its connection"
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        said = ""
        if not self._messages.closed:
            self._messages.seek(0)
            said = self._messages.read()[-2000:].decode(errors="replace").strip()
        return f"its worker {how}" + (f": {said}" if said else "")

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        self.alive = False
        self.kill()
        self._process.wait()
        self._connection.close()
        self._messages.close()


def _serve(handle: int) -> None:
    """The life of a worker: load everything once, then draw what arrives until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the caller closes its workers
    with Connection(handle) as connection:
        try:
            _limit_memory()
            sample = json.loads((TEMPLATES / "sample.json").read_text("utf-8"))
            render_pdf(sample)  # the first page loads what all others share
        except (RenderingError, OSError) as error:
            connection.send(error)
            return
        # what is loaded now stays: collecting after every document must not walk over it again
        gc.collect()
        gc.freeze()
        gc.disable()
        connection.send("ready")
        while True:
            try:
                text, path = connection.recv()
            except (EOFError, ConnectionError):
                return
            answer: RenderedFile | RenderingError | OSError
            try:
                answer = _render_file(text, Path(path))
            except (RenderingError, OSError) as error:
                answer = error
            connection.send(answer)
            gc.collect()


def _limit_memory() -> None:
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_AS, (BYTES_PER_WORKER, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (OSError, ValueError):
        return  # macOS knows no such limit; a lower one set from outside stays
