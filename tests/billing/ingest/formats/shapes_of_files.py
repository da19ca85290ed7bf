"""Files as they are really delivered, and as somebody might deliver them to do harm: small ones, made here."""

import bz2
import gzip
import io
import json
import lzma
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tests.billing.ingest.small_business import event, line

SKIPPED = struct.pack("<II", 0x184D2A50, 4) + b"skip"
MAP = pa.map_(pa.string(), pa.binary())
LONG_LINE = b"x" * 2**20 + b"\n"
NAMES = ["acme", "nobody"]
HEADER = "id,source,type,subject,time,value\n"
ROW = "{id},/mail,email.sent,{subject},2026-01-01T12:00:00Z,1\n"


@dataclass(frozen=True)
class Shape:
    """A file, and what is to become of it.

    Attributes
    ----------
    counted, rejected
        Its rows; None and None where it is unreadable as a whole.
    """

    title: str
    name: str
    make: Callable[[], bytes]
    counted: int | None
    rejected: int | None = 0

    def __str__(self) -> str:
        return self.title


def lines(*ids: str, end: str = "\n") -> bytes:
    """Good events, one per line."""
    return end.join([*(line(f"shape-{id}") for id in ids), ""]).encode()


def events(*ids: str) -> list[object]:
    """Good events."""
    return [event(f"shape-{id}") for id in ids]


def csv_rows(*ids: str, subject: str = "acme") -> bytes:
    """A header and good rows."""
    return (HEADER + "".join(ROW.format(id=f"shape-{id}", subject=subject) for id in ids)).encode()


def parquet(good: bool = False, **columns: pa.Array) -> bytes:
    """Two rows, of which the second is of nobody unless both are to be good, and further columns."""
    table = {
        "id": ["shape-1", "shape-2"],
        "source": ["/mail"] * 2,
        "type": ["email.sent"] * 2,
        "subject": ["acme", "acme" if good else "nobody"],
        "time": pa.array([datetime(2026, 1, 1, 12, tzinfo=UTC)] * 2, pa.timestamp("us", "UTC")),
        "value": [1, 1],
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(table | columns), buffer, compression="zstd", write_statistics=False)
    return buffer.getvalue()


def lz4(content: bytes) -> bytes:
    """An LZ4 frame."""
    buffer = pa.BufferOutputStream()
    with pa.CompressedOutputStream(buffer, "lz4") as stream:
        stream.write(content)
    return bytes(buffer.getvalue())


def uuids() -> pa.Array:
    """Two UUIDs."""
    return pa.array([bytes(range(16)), bytes(range(1, 17))], pa.uuid())


def wide(*texts: str) -> pa.Array:
    """Decimals of 76 digits."""
    return pa.array([Decimal(text) for text in texts], pa.decimal256(76, 38))


def parquet_without(column: str) -> bytes:
    """Rows that lack a column."""
    buffer = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(parquet())).drop([column]), buffer)
    return buffer.getvalue()


def zeros(codec: str, mebibytes: int) -> bytes:
    """One line of so many letters."""
    buffer = pa.BufferOutputStream()
    with pa.CompressedOutputStream(buffer, codec) as stream:
        for _ in range(mebibytes):
            stream.write(b"0" * 2**20)
    return bytes(buffer.getvalue())


def bad_between() -> list[str]:
    """A record with a quotation mark too many between two good ones."""
    return [line("shape-1"), line("shape-2").replace("/mail", '/ma"il'), line("shape-3")]


def marked(content: bytes) -> bytes:
    """With a byte order mark before every line."""
    return b"".join(b"\xef\xbb\xbf" + each for each in content.splitlines(keepends=True))


def array(*ids: str, indent: int | None = None) -> bytes:
    """Good events in a JSON array."""
    return json.dumps(events(*ids), indent=indent).encode()


def one_a_line(*texts: str) -> bytes:
    """A JSON array with each text on a line of its own."""
    return ("[\n" + ",\n".join(texts) + "\n]\n").encode()


def damaged(content: bytes, place: int) -> bytes:
    """With one byte changed."""
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


TWO = ("1", "2")

READ = (
    Shape("gzip under a plain name", "a.jsonl", lambda: gzip.compress(lines(*TWO)), 2),
    Shape("zstd under a plain name", "a.jsonl", lambda: zstandard.compress(lines(*TWO)), 2),
    Shape("bzip2", "a.jsonl.bz2", lambda: bz2.compress(lines(*TWO)), 2),
    Shape("xz", "a.jsonl.xz", lambda: lzma.compress(lines(*TWO)), 2),
    Shape("lz4", "a.jsonl.lz4", lambda: lz4(lines(*TWO)), 2),
    Shape("gzip of two members", "a.jsonl.gz", lambda: gzip.compress(lines("1")) + gzip.compress(lines("2")), 2),
    Shape("zstd of two frames", "a.zst", lambda: zstandard.compress(lines("1")) + zstandard.compress(lines("2")), 2),
    Shape("zstd after a frame to skip", "a.jsonl", lambda: SKIPPED + zstandard.compress(lines("1")), 1),
    Shape("bzip2 of two streams", "a.bz2", lambda: bz2.compress(lines("1")) + bz2.compress(lines("2")), 2),
    Shape("gzip within gzip", "a.jsonl.gz.gz", lambda: gzip.compress(gzip.compress(lines(*TWO))), 2),
    Shape("plain text named gzip", "a.jsonl.gz", lambda: lines(*TWO), 2),
    Shape("no ending at all", "part-00000", lambda: lines(*TWO), 2),
    Shape("CSV named JSON", "a.jsonl", lambda: csv_rows(*TWO), 2),
    Shape("JSON named CSV", "a.csv", lambda: lines(*TWO), 2),
    Shape("Parquet named JSON", "a.json", lambda: parquet(good=True), 2),
    Shape("Parquet within gzip", "a.parquet", lambda: gzip.compress(parquet(good=True)), 2),
    Shape("JSON lines that end in CR LF", "a.jsonl", lambda: lines(*TWO, end="\r\n"), 2),
    Shape("CSV whose lines end in CR", "a.csv", lambda: csv_rows(*TWO).replace(b"\n", b"\r"), 2),
    Shape("byte order marks before all lines of a CSV", "a.csv", lambda: marked(csv_rows(*TWO)), 2),
    Shape("byte order marks before all lines of JSON", "a.jsonl", lambda: marked(lines(*TWO)), 2),
    Shape("JSON array", "a.json", lambda: array(*TWO), 2),
    Shape("JSON array, pretty-printed", "a.json", lambda: array(*TWO, indent=2), 2),
    Shape("JSON array of one event a line", "a.json", lambda: one_a_line(*map(json.dumps, events(*TWO))), 2),
    Shape("JSON arrays that follow each other", "a.json", lambda: array("1") + b"\n" + array("2") + b"\n", 2),
    Shape("empty JSON array", "a.json", lambda: b"[]\n", 0),
    Shape("pretty-printed objects", "a.json", lambda: b"\n".join(array(id, indent=4)[1:-1] for id in TWO), 2),
    Shape("objects without line ends", "a.json", lambda: b"".join(array(id)[1:-1] for id in TWO), 2),
    Shape("lines that end in commas", "a.json", lambda: lines(*TWO).replace(b"\n", b",\n"), 2),
    Shape("a last JSON record without a line end", "a.jsonl", lambda: lines(*TWO).rstrip(), 2),
    Shape("blanks around what is named", "a.csv", lambda: csv_rows("1 ", subject=" acme\u00a0\t"), 1),
    Shape("a UUID beside", "a.parquet", lambda: parquet(request=uuids()), 1, 1),
    Shape("a wide decimal beside", "a.parquet", lambda: parquet(amount=wide("1", "2.5")), 1, 1),
    Shape("a wide decimal as value", "a.parquet", lambda: parquet(True, value=wide("1", "2.5")), 2),
    Shape("fixed bytes beside", "a.parquet", lambda: parquet(key=pa.array([b"\xff\x00", b"ab"], pa.binary(2))), 1, 1),
    Shape("bytes beside", "a.parquet", lambda: parquet(body=pa.array([b"\xff", b"\xfe"])), 1, 1),
    Shape("lists of bytes beside", "a.parquet", lambda: parquet(tags=pa.array([[b"\xff"], [b"a"]])), 1, 1),
    Shape("a text view beside", "a.parquet", lambda: parquet(note=pa.array(TWO, pa.string_view())), 1, 1),
    Shape("a text view as account", "a.parquet", lambda: parquet(subject=pa.array(NAMES, pa.string_view())), 1, 1),
    Shape("a half float beside", "a.parquet", lambda: parquet(note=pa.array([1.5, 2.5], pa.float16())), 1, 1),
    Shape("a map beside", "a.parquet", lambda: parquet(tags=pa.array([[("a", b"\xff")], []], MAP)), 1, 1),
    Shape(
        "a dictionary of bytes beside",
        "a.parquet",
        lambda: parquet(k=pa.array([b"\xff"] * 2).dictionary_encode()),
        1,
        1,
    ),
    Shape(
        "a decimal of 100,000 digits beside", "a.jsonl", lambda: lines("1") + b'{"a":1.' + b"1" * 10**5 + b"}\n", 1, 1
    ),
)
"""Files that are read, and the rows of them that count and that are set aside."""

SPOILT = (
    Shape(
        "a wide decimal that is too large", "a.parquet", lambda: parquet(True, value=wide("1", "1" + "0" * 20)), 1, 1
    ),
    Shape("a line of garbage", "a.jsonl", lambda: lines("1") + b"\xff\xfe garbage\n" + lines("2"), 2, 1),
    Shape("gzip under a plain name, a bad row", "a.jsonl", lambda: gzip.compress(lines("1") + b"{}\n"), 1, 1),
    Shape("a NUL in an account id", "a.jsonl", lambda: (line("1", subject="ac\0me") + "\n").encode(), 0, 1),
    Shape("a NUL in an account id of a CSV", "a.csv", lambda: csv_rows("1", subject="ac\0me"), 0, 1),
    Shape("an escape in an id", "a.jsonl", lambda: (line("\x1b[2J") + "\n").encode(), 0, 1),
    Shape("a line feed in a source", "a.csv", lambda: csv_rows("1").replace(b"/mail", b'"/ma\nil"'), 0, 1),
    Shape("a control character in an event type", "a.jsonl", lambda: lines("1").replace(b".sent", b".\x9dsent"), 0, 1),
    Shape("a deep nest", "a.jsonl", lambda: lines("1") + b'{"a":' * 100_000 + b"}" * 100_000 + b"\n", 1, 1),
    Shape(
        "a deep nest in an array",
        "a.json",
        lambda: array("1")[:-1] + b"," + b'{"a":' * 100_000 + b"}" * 100_000 + b"]",
        1,
        1,
    ),
    Shape("an array with a bad record on a line", "a.json", lambda: one_a_line(*bad_between()), 2, 1),
    Shape("an array that is cut in a record", "a.json", lambda: array(*TWO)[:-9], 1, 1),
    Shape("an array that is cut between records", "a.json", lambda: array(*TWO)[:-1], 2, 1),
    Shape("a JSON line that is cut", "a.jsonl", lambda: lines(*TWO)[:-9], 1, 1),
    Shape("a CSV that is cut", "a.csv", lambda: csv_rows(*TWO)[:-1], 1, 1),
    Shape("a CSV that is cut within quotation marks", "a.csv", lambda: csv_rows("1") + b'2,"/mail,email', 1, 1),
)
"""Files of which some rows cannot count, for what they are themselves."""

UNREADABLE = (
    Shape("gzip that is cut off", "a.jsonl", lambda: gzip.compress(lines(*TWO) * 99)[:-9], None),
    Shape("gzip that is damaged", "a.jsonl.gz", lambda: damaged(gzip.compress(lines(*TWO) * 99), 60), None),
    Shape("zstd that is cut off", "a.jsonl", lambda: zstandard.compress(lines(*TWO) * 99)[:-3], None),
    Shape("zstd that is damaged", "a.jsonl", lambda: damaged(zstandard.compress(lines(*TWO)), 30), None),
    Shape("bzip2 that is cut off", "a.jsonl", lambda: bz2.compress(lines(*TWO) * 99)[:-3], None),
    Shape("bzip2 that is damaged", "a.jsonl", lambda: damaged(bz2.compress(lines(*TWO) * 99), 60), None),
    Shape("xz that is cut off", "a.jsonl", lambda: lzma.compress(lines(*TWO) * 99)[:-3], None),
    Shape("lz4 that is cut off", "a.jsonl", lambda: lz4(lines(*TWO) * 99)[:-7], None),
    Shape("a name that says gzip, and other bytes", "a.jsonl.gz", lambda: b"\x8b\x1f\x08 garbage", None),
    Shape("Parquet that is cut off", "a.parquet", lambda: parquet()[:-40], None),
    Shape("Parquet whose footer is damaged", "a.parquet", lambda: damaged(parquet(), -6), None),
    Shape("Parquet whose pages are damaged", "a.parquet", lambda: damaged(parquet(), 8), None),
    Shape("Parquet without an account", "a.parquet", lambda: parquet_without("subject"), None),
    Shape("CSV without a time", "a.csv", lambda: b"id,source,type,subject,value\n1,/m,email.sent,acme,1\n", None),
    Shape("a workbook", "a.xlsx", lambda: b"PK\x03\x04 and so on", None),
    Shape("a workbook named CSV", "a.csv", lambda: b"PK\x03\x04 and so on", None),
    Shape("an Avro file", "a.avro", lambda: b"Obj\x01 and so on", None),
    Shape("an ORC file", "a.orc", lambda: b"ORC and so on", None),
    Shape("text in UTF-16", "a.jsonl", lambda: lines("1").decode().encode("utf-16"), None),
    Shape("a letter", "readme.txt", lambda: b"Dear all, ...\n", None),
    Shape("16 kB that unpack to one line of 512 MiB", "a.jsonl.zst", lambda: zeros("zstd", 512), None),
    Shape("gzip of one line of 40 MiB", "a.jsonl.gz", lambda: zeros("gzip", 40), None),
    Shape(
        "a record of 20 MiB in an array",
        "a.json.gz",
        lambda: gzip.compress(b'[{"a":"' + b"x" * 20 * 2**20 + b'"}]'),
        None,
    ),
    Shape(
        "Parquet whose pages unpack to much",
        "a.parquet",
        lambda: parquet(note=pa.array(["x" * 2**25, "y" * 2**26])),
        None,
    ),
    Shape("lines that unpack to 500 times as many", "a.jsonl.zst", lambda: zstandard.compress(LONG_LINE * 80), None),
)
"""Files that cannot be read as a whole."""
