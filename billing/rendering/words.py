"""Words on paper: gettext catalogues by language, those of the release and those of a home beside them.

Message ids are whole English sentences with placeholders in braces: `Due by {date}`. A process reads a catalogue once.
"""

import gettext
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from billing.rendering.errors import ContentError
from billing.rendering.fonts import TEMPLATES

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog, Message

LANGUAGES: Final = ("en", "de", "fr", "es", "it", "nl", "pt", "pl", "ja")
"""Languages of the release, complete."""
RIGHT_TO_LEFT: Final = frozenset({"ar", "fa", "he", "ur", "yi"})
DOCUMENTS: Final = "v2/translations"
"""Folder below `invoice_templates`: the words of documents, which belong to their template version."""
OTHERS: Final = "translations"
"""Folder below `invoice_templates`: the words of mails, reminders, statements and profile pages."""

LARGEST_CATALOGUE: Final = 1_000_000
_LINE: Final = re.compile(r'(#.*|((msgctxt|msgid|msgid_plural|msgstr|msgstr\[\d\])\s*)?"([^"\\]|\\.)*")?')
_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")

Key = tuple[str | None, str]


def N_(message: str) -> str:  # noqa: N802 - the name that pybabel extracts
    """Mark a text for translation where it is not yet translated."""
    return message


@dataclass(frozen=True)
class Words:
    """The texts of one language; a text without a translation is English.

    Attributes
    ----------
    language
        BCP 47 code, such as `de`.
    texts
        Translations by context (None for most) and message id; a plural has one for each form.
    form
        Function from a number to the index of its plural form.
    """

    language: str
    texts: Mapping[Key, tuple[str, ...]]
    form: Callable[[int], int]

    @property
    def direction(self) -> str:
        return "rtl" if self.language.split("-")[0] in RIGHT_TO_LEFT else "ltr"

    def gettext(self, message: str, /, **values: str) -> str:
        return filled(self.texts.get((None, message), (message,))[0], values)

    def pgettext(self, context: str, message: str, /, **values: str) -> str:
        """A text whose English is ambiguous without its context."""
        return filled(self.texts.get((context, message), (message,))[0], values)

    def ngettext(self, singular: str, plural: str, count: int, /, **values: str) -> str:
        """A text with a number; `values` hold the number as it is written."""
        forms = self.texts.get((None, singular))
        if forms is None:
            return filled(singular if count == 1 else plural, values)
        return filled(forms[min(self.form(count), len(forms) - 1)], values)


def filled(text: str, values: Mapping[str, str]) -> str:
    """Put values in their placeholders; a placeholder without a value is left as it is. No attribute access."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text) if values else text


def words(language: str, folder: str = DOCUMENTS, own: bytes | None = None) -> Words:
    """The texts of a language.

    Parameters
    ----------
    language
        BCP 47 code; without a catalogue of its own the one of its first part (`de-AT`: `de`), else English.
    folder
        DOCUMENTS or OTHERS.
    own
        Bytes of a home's catalogue for the language, whose texts replace those of the release.

    Raises
    ------
    ContentError
        When `own` is no catalogue.
    """
    name = language.replace("_", "-").lower()
    return _released(name, folder) if own is None else _with_own(name, folder, own)


@cache
def _released(language: str, folder: str) -> Words:
    for name in (language, language.split("-")[0], "en"):
        path = TEMPLATES / folder / f"{name}.po"
        if re.fullmatch(r"[a-z]{2,3}(-[a-z0-9]+)*", name) and path.is_file():
            return _words_of(name, read_catalogue(path.read_bytes()))
    return Words("en", {}, _english_form)


@lru_cache(maxsize=64)
def _with_own(language: str, folder: str, own: bytes) -> Words:
    released = _released(language, folder)
    try:
        catalogue = read_catalogue(own)
    except ValueError as error:
        raise ContentError(f"resources.translation: {error}") from error
    added = _words_of(language, catalogue)
    # A language of the home alone takes its plural forms from the home; English texts have two of their own.
    base = released.texts if released.language.split("-")[0] == language.split("-")[0] else {}
    return Words(language, {**base, **added.texts}, added.form)


def _words_of(language: str, catalogue: "Catalog") -> Words:
    texts = {
        _key(message): _forms(message)
        for message in catalogue
        if message.id and not message.fuzzy and _forms(message) and all(_forms(message))
    }
    return Words(language, texts, _form(catalogue.plural_expr))


def _form(expression: str) -> Callable[[int], int]:
    # c2py compiles the C expression of a catalogue's header, and refuses any other name or call.
    return gettext.c2py(expression)


def _english_form(number: int) -> int:
    return int(number != 1)


def _key(message: "Message") -> Key:
    return message.context, _id(message)


def _id(message: "Message") -> str:
    return message.id if isinstance(message.id, str) else message.id[0]


def _forms(message: "Message") -> tuple[str, ...]:
    return (message.string,) if isinstance(message.string, str) else tuple(message.string or ())


def read_catalogue(content: bytes) -> "Catalog":
    """Read a catalogue in PO form.

    Raises
    ------
    ValueError
        Names the line that cannot be read, or what its header lacks.
    """
    from babel.messages.pofile import PoFileError, read_po

    if len(content) > LARGEST_CATALOGUE:
        raise ValueError(f"found {len(content)} bytes, expected at most {LARGEST_CATALOGUE}")
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        place = content[: error.start].count(b"\n") + 1
        raise ValueError(f"line {place}: found bytes that are not UTF-8") from error
    for number, line in enumerate(lines, 1):
        # Babel reads a line without its closing quote as a shorter text.
        if not _LINE.fullmatch(line.strip()):
            raise ValueError(f"line {number}: found {line.strip()[:60]!r}, expected a keyword and a quoted text")
    try:
        catalogue = read_po(io.BytesIO(content), charset="utf-8", abort_invalid=True)
        _form(catalogue.plural_expr)
    except PoFileError as error:
        raise ValueError(f"line {error.lineno}: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise ValueError(f"found no gettext catalogue (PO) with its header: {error}") from error
    return catalogue


@cache
def known_messages() -> Mapping[Key, "Message"]:
    """Messages of both domains of the release, by context and id."""
    found: dict[Key, Message] = {}
    for folder in (DOCUMENTS, OTHERS):
        for message in read_catalogue((TEMPLATES / folder / "en.po").read_bytes()):
            if message.id:
                found[_key(message)] = message
    return found


def catalogue_problems(path: Path) -> tuple[list[str], list[str]]:
    """What is wrong with a home's catalogue (`landing/translations/<language>.po`).

    Returns
    -------
    tuple of two lists
        Errors, for which the file is refused, and warnings. Each names the line, what was found and what was expected.
    """
    from babel import Locale, UnknownLocaleError

    language = path.stem
    try:
        Locale.parse(language.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return [f"{path.name}: found no language called {language!r}, expected a BCP 47 code such as de or pt-BR"], []
    try:
        catalogue = read_catalogue(path.read_bytes())
    except ValueError as error:
        return [f"{path.name}: {error}"], []
    errors: list[str] = []
    unknown: list[str] = []
    translated = set()
    for message in catalogue:
        if not message.id:
            continue
        place = f"{path.name}, line {message.lineno}"
        known = known_messages().get(_key(message))
        if known is None:
            # No error: a release that words a sentence anew must not stop a home's billing.
            unknown.append(
                f"{place}: found {_id(message)!r}, which no page says, expected a message id of this release"
            )
            continue
        forms = _forms(message)
        if message.fuzzy or not any(forms):
            continue
        errors += [f"{place}: {problem}" for problem in message_problems(message, known, catalogue.num_plurals)]
        translated.add(_key(message))
    missing = len(known_messages()) - len(translated)
    released = {language, language.split("-")[0]} & set(LANGUAGES)
    warnings = (
        [f"{path.name}: {missing} of {len(known_messages())} texts are not translated, and are printed in English"]
        if missing and not released
        else []
    )
    return errors, [*unknown, *warnings]


def message_problems(message: "Message", known: "Message", plurals: int) -> list[str]:
    """What is wrong with a translation: its number of forms, and the placeholders of each form."""
    forms = _forms(message)
    is_plural = not isinstance(known.id, str)
    expected = plurals if is_plural else 1
    if len(forms) != expected or not all(forms):
        filled_in = sum(map(bool, forms))
        return [f"found {filled_in} of {expected} plural forms of {_id(known)!r}, expected all of them"]
    ids = [known.id] if isinstance(known.id, str) else list(known.id)
    allowed = set().union(*(placeholders(each) for each in ids))
    # A form for one thing may say "one" without the number: only then may a placeholder be left out.
    needed = set.intersection(*(placeholders(each) for each in ids))
    problems = []
    for text in forms:
        found = placeholders(text)
        if unknown := sorted(found - allowed):
            names = ", ".join(f"{{{name}}}" for name in unknown)
            problems.append(f"found {names} in {text!r}, which {_id(known)!r} has not")
        if missing := sorted(needed - found):
            names = ", ".join(f"{{{name}}}" for name in missing)
            problems.append(f"found no {names} in {text!r}, expected it as in {_id(known)!r}")
        if re.sub(_PLACEHOLDER, "", text).count("{") or re.sub(_PLACEHOLDER, "", text).count("}"):
            problems.append(f"found a brace that is no placeholder in {text!r}")
    return problems


def placeholders(text: str) -> set[str]:
    return set(_PLACEHOLDER.findall(text))
