"""JSON record reader: converts arrays, pretty-printed objects and concatenated objects to JSON lines.

Every record becomes one line for the line reader. For files of lines only the first record is parsed here.
"""

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple, cast

from billing.ingest.formats.compression import ChunkStream, Content, TooLargeError, chunks_of

_HEAD: Final = 64 * 1024
_LET_GO: Final = 128 * 1024
_MOST_BYTES: Final = 4
"""Most bytes of a character in UTF-8."""
_BLANK: Final = " \t\r\n\ufeff"
_BETWEEN: Final = re.compile(r"[\s\ufeff,\[\]]*")
# Resynchronize after a malformed record: at an object on a new line, or after the end of another object.
_NEXT: Final = re.compile(r"\n[ \t]*(?=\{)|\}[ \t\r\n]*(?:,[ \t\r\n]*)?(?=\{)")
_LINE_END: Final = re.compile(r"[\r\n]+[ \t]*")
_ENDS_INSIDE: Final = b"[ the file ends here, inside of an array"
_NEAR_THE_END: Final = 12
"""Errors within so many characters of the end may be a truncated number or word."""

# Keep numbers as text: finding the end of a number needs no conversion.
_DECODER: Final = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)


def holds_records(content: Content, longest: int) -> bool:
    """Whether a JSON file is read record by record; otherwise every line is a record.

    True when it starts with an array, when its first object spans lines, or when another object follows on its line.
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
    """End of a value, or position of its fault and whether truncation may be the cause."""

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
    """Convert a file of JSON records to lines: one record per line, line ends inside it replaced by blanks.

    The last line has no line end when the file ends inside an array or a record.
    """
    return cast(BinaryIO, ChunkStream(_record_lines(content, longest)))


def _texts(content: Content) -> Iterator[str]:
    """Text of a file in chunks; bytes that are not UTF-8 become lone surrogates, so none is lost."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    yield from map(decoder.decode, chunks_of(cast(BinaryIO, content)))
    yield decoder.decode(b"", final=True)


def _record_lines(content: Content, longest: int) -> Iterator[bytes]:
    """Lines of the records of a file; the last one lacks its newline when the file ends inside an array or record."""
    text = ""
    depth = tried = 0
    is_last = is_cut = False
    chunks = _texts(content)
    while not is_last:
        chunk = next(chunks, None)
        is_last = chunk is None
        text += chunk or ""
        # Retry a long record only after its text has doubled: linear time in total.
        if not is_last and len(text) < 2 * tried:
            continue
        records: list[str] = []
        place = 0
        while True:
            start = place
            place = _BETWEEN.match(text, start).end()  # type: ignore[union-attr]  # It always matches, maybe nothing.
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
                    # Treat closing brackets as part of the malformed text.
                    is_cut, depth = found.is_cut, 0
            elif end == len(text) and not is_last and text[place] != "{":
                # The number may continue in the next chunk.
                break
            records.append(text[place:end])
            place = end
            if place > _LET_GO:
                # Drop consumed text: the decoder counts the lines before an error.
                text, place = text[place:], 0
        yield _lines(records, longest).removesuffix(b"\n" if is_cut else b"")
        text = text[place:]
        tried = len(text)
        _require_shorter(tried, longest)
    if depth > 0:
        yield _ENDS_INSIDE


def _end_of_broken(text: str, start: int, found: _Found, *, is_last: bool) -> int | None:
    """End of a malformed record; None when more text is needed to find it.

    It ends where the next record seems to start, so that the error affects no other record.
    """
    if found.is_cut and not is_last:
        return None
    # What the decoder expected may be missing before a line end or comma.
    place = start + len(text[start : found.fault].rstrip(_BLANK + ","))
    # The closing brace of its last object may also end the record.
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
