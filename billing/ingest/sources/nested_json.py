"""Records that lie deeper in JSON documents, such as the items of `Records[*]`: one at a time, in bounded memory.

A scanner walks to the records and hands over the text of each as it stands in the file; what lies beside the path is
skipped, or kept where a field may be looked for in it.
"""

import codecs
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from billing.ingest.formats.compression import Content, TooLargeError, chunks_of
from billing.model.file_limits import Limits
from billing.model.json_paths import EVERY, Path

_BLANK: Final = re.compile(r"[\s\ufeff]*")
_BETWEEN: Final = re.compile(r"[\s\ufeff,\[\]]*")
# Resynchronize after a fault at an object on a new line.
_NEXT: Final = re.compile(r"\n[ \t]*(?=\{)")
_LET_GO: Final = 256 * 1024
_NEAR_THE_END: Final = 12
_SHOWN: Final = 200
"""Characters before a fault that are shown where nothing is left of the document."""
# Keep numbers as text: finding the end of a number needs no conversion.
_DECODER: Final = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)


@dataclass(frozen=True)
class NestedRecord:
    """A record, or a fault.

    Attributes
    ----------
    text
        As it stands in the file.
    around
        Members of the objects around it that stand before it, as the text of one object each, from the inside out.
    fault
        What is wrong; empty for a record.
    """

    text: str
    around: tuple[str, ...] = ()
    fault: str = ""


class _BrokenError(Exception):
    """The text is no JSON, or ends inside of it."""


def nested_records(content: Content, path: Path, kept: Collection[str], limits: Limits) -> Iterator[NestedRecord]:
    """Read the records at a path of every document of a file: lines, arrays, concatenated and pretty objects alike.

    Parameters
    ----------
    kept
        Names of members of the objects around a record that a field may be looked for in.

    Raises
    ------
    TooLargeError
        When a record, or what lies beside the path, is longer than the limits.
    """
    yield from _Scanner(content, kept, limits.longest_record).records(path)


class _Scanner:
    def __init__(self, content: Content, kept: Collection[str], longest: int) -> None:
        self.kept = frozenset(kept)
        self.longest = longest
        self.text = ""
        self.place = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._chunks = chunks_of(cast(BinaryIO, content))
        self._is_last = False

    def records(self, path: Path) -> Iterator[NestedRecord]:
        while path and path[0] == EVERY:
            path = path[1:]  # A list of documents is read like documents one after the other.
        while self._skip(_BETWEEN):
            try:
                yield from self._walk(path, (), is_document=True)
            except _BrokenError as broken:
                yield self._broken(str(broken))

    def _walk(self, path: Path, around: tuple[str, ...], *, is_document: bool = False) -> Iterator[NestedRecord]:
        """Records at a path of the value that begins here."""
        if not path:
            yield NestedRecord(self._value(), around)
            return
        step, begins = path[0], self._peek()
        if isinstance(step, str) and begins == "{":
            yield from self._object(step, path[1:], around, is_document=is_document)
        elif isinstance(step, int) and begins == "[":
            yield from self._list(step, path[1:], around)
        else:
            text = self._value()
            if is_document or text not in ("null", "[]", "{}"):
                wanted = "an object" if isinstance(step, str) else "a list"
                yield NestedRecord(
                    text, fault=f"row: found {_named(text)} on the way to the records, expected {wanted}"
                )

    def _object(self, step: str, path: Path, around: tuple[str, ...], *, is_document: bool) -> Iterator[NestedRecord]:
        members: list[str] = []
        has_step = False
        begin = self.place
        self._take("{")
        while self._peek() != "}":
            name = json.loads(self._value(strings_only=True))
            self._skip(_BLANK)
            self._take(":")
            self._skip(_BLANK)
            if name == step:
                has_step = True
                yield from self._walk(path, (f"{{{','.join(members)}}}", *around))
            else:
                text = self._value()
                if name in self.kept:
                    members.append(f"{json.dumps(name)}:{text}")
            if self._peek() != ",":
                break
            self._take(",")
            self._skip(_BLANK)
        self._skip(_BLANK)
        self._take("}")
        if is_document and not has_step:
            text = self.text[begin : self.place] if begin < self.place else "{...}"
            yield NestedRecord(text, fault=f"row: found an object without {step}, expected the records in it")

    def _list(self, step: int, path: Path, around: tuple[str, ...]) -> Iterator[NestedRecord]:
        self._take("[")
        item = 0
        while self._peek() != "]":
            if step in (EVERY, item):
                yield from self._walk(path, around)
            else:
                self._value()
            item += 1
            if self._peek() != ",":
                break
            self._take(",")
            self._skip(_BLANK)
        self._skip(_BLANK)
        self._take("]")

    def _value(self, *, strings_only: bool = False) -> str:
        """The text of the value that begins here."""
        self._skip(_BLANK)
        while True:
            try:
                _, end = _DECODER.raw_decode(self.text, self.place)
            except json.JSONDecodeError as error:
                may_go_on = error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - _NEAR_THE_END
                if may_go_on and self._fill(double=True):
                    continue
                raise _BrokenError(error.msg) from error
            except RecursionError as error:
                raise _BrokenError("nested too deeply") from error
            if end == len(self.text) and self.text[self.place] not in '{["' and self._fill():
                continue  # A number may go on in the next chunk.
            text = self.text[self.place : end]
            if strings_only and not text.startswith('"'):
                raise _BrokenError("Expecting property name enclosed in double quotes")
            self._require_shorter(len(text))
            self.place = end
            self._let_go()
            return text

    def _peek(self) -> str:
        """The next character after blanks; empty at the end of the file."""
        self._skip(_BLANK)
        return self.text[self.place : self.place + 1]

    def _take(self, expected: str) -> None:
        if self._peek() != expected:
            raise _BrokenError(f"Expecting {expected!r}")
        self.place += 1

    def _skip(self, blanks: re.Pattern[str]) -> bool:
        """Skip blanks; whether anything follows."""
        while True:
            found = blanks.match(self.text, self.place)
            self.place = found.end() if found else self.place
            if self.place < len(self.text):
                return True
            if not self._fill():
                return False

    def _fill(self, *, double: bool = False) -> bool:
        """Read on; whether there was more. `double`: as much again as is held, so that retries take linear time."""
        wanted = len(self.text) - self.place if double else 1
        self._require_shorter(wanted)
        pieces = [self.text[self.place :]]
        self.place = 0
        read = 0
        while read < wanted and not self._is_last:
            chunk = next(self._chunks, None)
            self._is_last = chunk is None
            pieces.append(self._decoder.decode(b"", final=True) if chunk is None else self._decoder.decode(chunk))
            read += len(pieces[-1])
        self.text = "".join(pieces)
        return read > 0

    def _let_go(self) -> None:
        if self.place > _LET_GO:
            # Drop what has been read: the decoder counts the lines before an error.
            self.text, self.place = self.text[self.place :], 0

    def _require_shorter(self, size: int) -> None:
        if size > self.longest:
            raise TooLargeError(
                f"found a record of more than {self.longest:,} bytes, expected shorter ones: if they are wanted, raise "
                "longest_record_mib in the catalogue's policy"
            )

    def _broken(self, fault: str) -> NestedRecord:
        """The rest of a broken document, up to the next line that begins an object, as one fault."""
        words = f"row: found no JSON ({fault}), expected the rest of a document"
        before = self.text[: self.place].rstrip(" \t")
        if before.endswith("\n") and self.text[self.place : self.place + 1] == "{":
            # The document ends too early: what begins here is the next one.
            return NestedRecord(before[-_SHOWN:].strip(), fault=words)
        pieces: list[str] = []
        while True:
            found = _NEXT.search(self.text, self.place)
            end = found.start() if found else len(self.text)
            pieces.append(self.text[self.place : end])
            self.place = end
            if found or not self._fill():
                break
            self._require_shorter(sum(map(len, pieces)))
        return NestedRecord("".join(pieces), fault=words)


def _named(text: str) -> str:
    if text.startswith("{"):
        return "an object"
    return "a list" if text.startswith("[") else f"'{text[:40]}'"
