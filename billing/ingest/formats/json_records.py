"""JSON as people have it: arrays, and objects that are pretty-printed or follow each other without line ends.

The records of such a file are brought to one line each, so that all that reads lines reads them. Nothing is decoded
twice for a file of lines: its first record is looked at, and no other.
"""

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple, cast

from billing.ingest.formats.compression import Content, Pieces, TooLargeError, pieces_of

_HEAD: Final = 64 * 1024
_LET_GO: Final = 128 * 1024
_MOST_BYTES: Final = 4
"""So many bytes a character takes in UTF-8 at most."""
_BLANK: Final = " \t\r\n\ufeff"
_BETWEEN: Final = re.compile(r"[\s\ufeff,\[\]]*")
# Where a record may begin after one that is not well formed: on a line of its own, or after the end of another.
_NEXT: Final = re.compile(r"\n[ \t]*(?=\{)|\}[ \t\r\n]*(?:,[ \t\r\n]*)?(?=\{)")
_LINE_END: Final = re.compile(r"[\r\n]+[ \t]*")
_ENDS_INSIDE: Final = b"[ the file ends here, inside of an array"
_NEAR_THE_END: Final = 12
"""An error so few characters before the end of a text may be due to the end: a number or word that is cut."""

# Numbers stay text: a long one must not be turned into a number to find its end.
_DECODER: Final = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)


def holds_records(content: Content, longest: int) -> bool:
    """Whether a JSON file is read record by record; else every line is a record.

    It is where it begins with an array, where its first object spans lines, or where another follows on its line.
    """
    size = _HEAD
    while True:
        head = content.peek(size)
        text = head.decode("utf-8", "replace").lstrip(_BLANK)
        if text.startswith("[") or text.partition("\n")[0].strip() == "{":
            return True
        if not text.startswith("{"):
            return False
        found = _value(text, 0)
        if found.end is not None:
            rest = text[found.end :]
            goes_on = rest.partition("\n")[0].strip(_BLANK).startswith(("{", ","))
            return goes_on or "\n" in text[: found.end] or rest.lstrip(_BLANK).startswith(",")
        if not found.is_cut or len(head) < size or size > longest:
            return False
        size *= 4


class _Found(NamedTuple):
    """Where a value ends, or where its text goes wrong and whether that may be because the text ends."""

    end: int | None
    fault: int = 0
    is_cut: bool = False


def _value(text: str, start: int) -> _Found:
    try:
        _, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        is_cut = error.msg.startswith("Unterminated string") or error.pos >= len(text) - _NEAR_THE_END
        return _Found(None, error.pos, is_cut)
    except RecursionError:
        return _Found(None, start)
    return _Found(end)


def record_lines(content: Content, longest: int) -> BinaryIO:
    """A file of JSON records as lines: each record on a line of its own, line ends inside of it as blanks.

    The last line has no line end where the file ends inside an array or a record.
    """
    return cast(BinaryIO, Pieces(_record_lines(content, longest)))


def _texts(content: Content) -> Iterator[str]:
    """The text of a file, piece by piece; bytes that are no UTF-8 as lone surrogates, so that none is lost."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    yield from map(decoder.decode, pieces_of(cast(BinaryIO, content)))
    yield decoder.decode(b"", final=True)


def _record_lines(content: Content, longest: int) -> Iterator[bytes]:
    """Lines of the records of a file; the last one lacks its newline where the file ends inside an array or record."""
    text = ""
    depth = tried = 0
    is_last = is_cut = False
    pieces = _texts(content)
    while not is_last:
        piece = next(pieces, None)
        is_last = piece is None
        text += piece or ""
        # a long record is tried again when it has doubled, so that it takes linear time
        if not is_last and len(text) < 2 * tried:
            continue
        records: list[str] = []
        place = 0
        while True:
            start = place
            place = _BETWEEN.match(text, start).end()  # type: ignore[union-attr]  # it matches nothing at least
            if text[start:place] != ",":
                depth += text.count("[", start, place) - text.count("]", start, place)
            if place == len(text):
                break
            found = _value(text, place)
            end = found.end
            if end is None:
                end = _end_of_broken(text, place, found, is_last=is_last)
                if end is None:
                    break
                if end == len(text):
                    # the ends of arrays are part of what is broken
                    is_cut, depth = found.is_cut, 0
            elif end == len(text) and not is_last and text[place] != "{":
                # a number may go on
                break
            records.append(text[place:end])
            place = end
            if place > _LET_GO:
                # an error counts the lines before it
                text, place = text[place:], 0
        yield _lines(records, longest).removesuffix(b"\n" if is_cut else b"")
        text = text[place:]
        tried = len(text)
        _require_shorter(tried, longest)
    if depth > 0:
        yield _ENDS_INSIDE


def _end_of_broken(text: str, start: int, found: _Found, *, is_last: bool) -> int | None:
    """Where a record ends that is not well formed; None where that is not known before more is read.

    It ends where the next one seems to begin, so that what is wrong with it bears on no other.
    """
    if found.is_cut and not is_last:
        return None
    # what was expected may be missing before a line end or comma
    place = start + len(text[start : found.fault].rstrip(_BLANK + ","))
    # the end of its last object may be an end of another kind
    following = _NEXT.search(text, place - 1 if place - start > 1 and text[place - 1] == "}" else place)
    if following is None:
        return len(text) if is_last else None
    return following.start() + (following.group()[0] == "}")


def _lines(records: Sequence[str], longest: int) -> bytes:
    if max(map(len, records), default=0) * _MOST_BYTES > longest:
        _require_shorter(max(len(record.encode("utf-8", "surrogateescape")) for record in records), longest)
    joined = "\n".join(records)
    if "\r" in joined or joined.count("\n") >= len(records):
        joined = "\n".join(_LINE_END.sub(" ", record) for record in records)
    return f"{joined}\n".encode("utf-8", "surrogateescape") if records else b""


def _require_shorter(size: int, longest: int) -> None:
    if size > longest:
        raise TooLargeError(
            f"found a record of more than {longest:,} bytes, expected shorter ones: if they are wanted, raise "
            "longest_record_mib in the catalogue's policy"
        )
