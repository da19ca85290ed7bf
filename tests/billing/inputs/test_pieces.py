"""Large inputs are read in pieces: the same rows, rejects, warnings and messages as of the whole file."""

import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from billing.inputs import checked_rows
from billing.inputs.byte_pieces import UncertainCutError
from billing.inputs.csv_files import csv_pieces
from billing.inputs.input_files import read_rows
from billing.inputs.reading import Inputs, read_inputs
from billing.model.catalogue import Catalogue
from billing.model.errors import RefusedError
from billing.store.home import Home
from tests.billing.inputs.conftest import pieces_of
from tests.sizes import sized

COLUMNS = ("id", "name", "note")
FILES = settings(
    max_examples=sized(usual=200, long=5_000),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
BUSINESSES = settings(FILES, max_examples=sized(usual=6, long=500))
PART = st.sampled_from(
    [
        *(
            text.encode()
            for text in (*"a1 ,,,,", "\n", "\n", "\n", "\r\n", "\r", '"', '""', '"b,"', '"\n"', "\ufeff", "é")
        ),
        *(b"\xff", b"\0", b"\x1b", b"x,y,z\n", b'x,"y\n2","z"\n', b'"x ""q""",,"z"\n', b"u,v\n"),
    ]
)
HEADER = st.sampled_from(
    [b"id,name,note\n", b'id,"na\nme",note\n', b"name,id\r\n", b"id\n", b"\xef\xbb\xbfid,nane,note\n", b""]
)
LINE = st.one_of(
    st.sampled_from(
        [b"", b"  ", b"[1]", b'{"id":"a\xff"}', b'{"id" : 1.50, "nme": 2}', b'{"id":"x"}\r', b'{"id":1e2}']
    ),
    st.dictionaries(st.sampled_from([*COLUMNS, "nane"]), st.sampled_from(["a", " é ", "", 7, None]), max_size=3).map(
        lambda found: json.dumps(found, ensure_ascii=False).encode()
    ),
)


def outcome(home: Home, name: str, content: bytes, encoding: str = "") -> object:
    """All rows and warnings, or the message."""
    path = home.landing / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    warnings: list[str] = []
    try:
        return read_rows([path], COLUMNS, "id", home, encoding, warnings).to_dict(as_series=False), warnings
    except RefusedError as error:
        return str(error)


@FILES
@given(
    header=HEADER, parts=st.lists(PART, max_size=24), size=st.integers(1, 40), encoding=st.sampled_from(["", "cp1252"])
)
@example(header=b"id,name,note\n", parts=[b'a,"x\ny",z\n'] * 4, size=8, encoding="")
@example(header=b"id,name,note\n", parts=[b'5" a,"x\ny",z\n', b"a,b,c\n"] * 4, size=8, encoding="")
@example(header=b"id,name,note\r\n", parts=[b"a,b,c\r\n"] * 4 + [b"\r\n"], size=8, encoding="")
def test_a_csv_file_in_pieces_is_the_whole_file(
    tmp_path: Path, header: bytes, parts: list[bytes], size: int, encoding: str
) -> None:
    content = header + b"".join(parts)
    whole = outcome(Home(tmp_path), "t.csv", content, encoding)
    with pieces_of(size):
        assert outcome(Home(tmp_path), "t.csv", content, encoding) == whole


@FILES
@given(lines=st.lists(LINE, max_size=12), end=st.sampled_from([b"\n", b"\r\n", b"\r"]), size=st.integers(1, 60))
def test_json_lines_in_pieces_are_the_whole_file(tmp_path: Path, lines: list[bytes], end: bytes, size: int) -> None:
    content = end.join(lines)
    whole = outcome(Home(tmp_path), "t.jsonl", content)
    with pieces_of(size):
        assert outcome(Home(tmp_path), "t.jsonl", content) == whole


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quoted_line_ends_are_cut_nowhere(tmp_path: Path, end: str) -> None:
    path = tmp_path / "t.csv"
    rows = [f'{number},"first{end}second ""{number}""",x' for number in range(20)]
    path.write_bytes(end.join(["id,name,note", *rows, ""]).encode())
    with pieces_of(50):
        pieces = list(csv_pieces(path, ""))
    assert len(pieces) > 5
    assert pl.concat(pieces)["name"].to_list() == [f'first{end}second "{number}"' for number in range(20)]


@pytest.mark.parametrize("line", ['5" pipe,x,y', "a,b", "", 'a,"open,b', "a\rb,c,d", "\x1b,b,c"])
def test_what_is_uncertain_is_not_cut(tmp_path: Path, line: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "\n".join(["id,name,note", *['a,"b",c'] * 9, line, *["a,b,c"] * 9, ""]), encoding="utf-8", newline=""
    )
    with pieces_of(50), pytest.raises(UncertainCutError):
        list(csv_pieces(path, ""))


REQUEST = st.fixed_dictionaries(
    {
        "request_id": st.sampled_from(["r1", "r2", "r3", "r4", None]),
        "account_id": st.sampled_from(["acme", "globex", "nobody"]),
        "at": st.sampled_from(["2026-01-10T12:00:00Z", "2026-01-10T13:00:00+01:00", "2026-01-10"]),
        "kind": st.just("cancel"),
        "channel": st.sampled_from(["email", "support"]),
        "reason": st.sampled_from([None, "moved", "4111111111111111"]),
    }
)
PAYMENT = st.fixed_dictionaries(
    {
        "payment_id": st.sampled_from(["p1", "p2", "p3"]),
        "account_id": st.sampled_from(["acme", "acme", "nobody"]),
        "at": st.just("2026-01-10T12:00:00Z"),
        "amount": st.sampled_from(["1.00", "1", "1.005"]),
        "currency": st.just("USD"),
        "status": st.sampled_from(["succeeded", "failed"]),
    }
)
ACCOUNT = st.tuples(
    st.sampled_from(["acme", "globex", "initech", ""]), st.sampled_from(["A", "B"]), st.sampled_from("yn")
)


def everything(inputs: Inputs) -> object:
    frames = {
        name: getattr(inputs, name).to_dict(as_series=False) for name in ("accounts", "requests", "payments", "rejects")
    }
    return frames, inputs.warnings, inputs.unusable, inputs.known_accounts.to_list()


@BUSINESSES
@given(
    accounts=st.lists(ACCOUNT, min_size=1, max_size=6),
    requests=st.lists(REQUEST, max_size=9),
    payments=st.lists(PAYMENT, max_size=9),
    size=st.integers(40, 250),
)
def test_identities_and_accounts_hold_over_all_pieces(
    tmp_path: Path,
    ref_1: Catalogue,
    accounts: list[tuple[str, str, str]],
    requests: list[Mapping[str, object]],
    payments: list[Mapping[str, object]],
    size: int,
) -> None:
    home = Home(tmp_path)
    (home.landing / "requests").mkdir(parents=True, exist_ok=True)
    rows = [f"{account},{name},{'yes' if exempt == 'y' else 'maybe'}\n" for account, name, exempt in accounts]
    (home.landing / "accounts.csv").write_text("account_id,name,tax_exempt\n" + "".join(rows), encoding="utf-8")
    for name, found in {"requests/a": requests[:4], "requests/b": requests[4:], "payments": payments}.items():
        lines = "".join(f"{json.dumps(row)}\n" for row in found)
        (home.landing / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    whole = everything(read_inputs(home, ref_1))
    with pieces_of(size):
        assert everything(read_inputs(home, ref_1)) == whole


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, ref_1: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    home.landing.mkdir()
    (home.landing / "accounts.csv").write_text("account_id\nacme\n", encoding="utf-8")
    request = {"request_id": "r1", "at": "2026-01-10T12:00:00Z", "kind": "cancel", "channel": "email"}
    path = home.landing / "requests.jsonl"
    path.write_text(json.dumps({**request, "account_id": "nobody"}) + "\n", encoding="utf-8")
    real = checked_rows._read_again

    def emptied(table: checked_rows.InputTable, places: pl.Series) -> pl.DataFrame:
        path.write_text("", encoding="utf-8")
        return real(table, places)

    monkeypatch.setattr(checked_rows, "_read_again", emptied)
    with pytest.raises(RefusedError, match=r"found other rows in requests.jsonl than a moment ago"):
        read_inputs(home, ref_1)
