"""Text of others commands no terminal and is no formula; files are their owner's; a password stands in no message."""

import csv
import io
import json
import os
import re
import stat
import unicodedata
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.model.errors import RefusedError
from billing.model.plain_rows import as_json, without_controls
from billing.register.register import Register
from billing.reports.profile_pages import ids_alike, page_name
from billing.store.home import Home
from pipeline.private_files import umask_of
from pipeline.terminal import csv_cell, printable, printable_cell
from tests.pipeline.outside import Landing, bill, overage

EVIL = "\x1b]0;title\x07\x9b31m\u202egnp"


@pytest.mark.parametrize("written", [printable, printable_cell])
@given(text=st.text())
def test_no_control_character_reaches_a_terminal(written: object, text: str) -> None:
    assert callable(written)
    found = written(text)
    controls = [each for each in found if unicodedata.category(each) == "Cc" and each not in "\n\t"]
    assert not controls
    assert json.loads(without_controls(json.dumps(text, ensure_ascii=False))) == text
    if text.isprintable():
        assert found == text or any(each in text for each in "\u061c")


def test_a_message_keeps_its_lines_and_a_cell_is_one() -> None:
    assert printable("a\nb\tc\rd\x00") == "a\nb\tc\\rd\\x00"
    assert printable_cell("a\nb\tc") == "a\\nb\\tc"
    assert printable(EVIL) == r"\x1b]0;title\x07\x9b31m\u202egnp"
    assert json.loads(as_json([{"a": EVIL}])) == [{"a": EVIL}]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", as_json([{"a": EVIL}]))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "-1+1", "=", "-"])
def test_a_text_that_a_spreadsheet_takes_for_a_formula_is_quoted(text: str) -> None:
    assert csv_cell(text, is_text=True) == f"'{text}"
    if text != "-1":
        assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-9.90", "102.00", "2026-01-31", None, 7, "a-b", "1=1", ""])
def test_numbers_stay_numbers_and_other_texts_themselves(value: object) -> None:
    assert csv_cell(value, is_text=False) == value
    assert csv_cell(value) == value


@pytest.fixture(scope="module")
def billed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    landing = Landing(tmp_path_factory.mktemp("hostile") / "home")
    for account in ("=cmd|' /C calc'!A0", "acme"):
        landing.customer(account)
    landing.request("acme", "cancel", "2026-01-20T09:00:00Z", "email", reason=EVIL)
    (landing.root / "landing" / "usage" / "2026-01-21").mkdir(parents=True)
    line = json.dumps({"id": f"x{EVIL}", "subject": "acme", "type": "no such type", "time": EVIL})
    (landing.root / "landing" / "usage" / "2026-01-21" / "a.jsonl").write_text(f"{line}\n{EVIL}\n")
    before = os.umask(0o022)
    try:
        bill(landing.root, "2026-01", "2026-01-31", profiles=True)
    finally:
        os.umask(before)
    return landing.root


def test_a_formula_in_a_column_of_text_is_quoted_in_csv_unless_raw(billed: Path) -> None:
    def rows(*options: str) -> list[dict[str, str]]:
        ended = overage("show", "documents", "--format", "csv", "--home", billed, *options)
        assert ended.status == 0, ended.messages
        return list(csv.DictReader(io.StringIO(ended.output)))

    assert {row["account_id"] for row in rows()} == {"'=cmd|' /C calc'!A0", "acme"}
    assert {row["account_id"] for row in rows("--raw")} == {"=cmd|' /C calc'!A0", "acme"}
    assert {row["total"] for row in rows()} == {"99.00"}


@pytest.mark.parametrize("style", ["table", "json", "csv"])
def test_what_was_set_aside_is_shown_without_commanding_the_terminal(billed: Path, style: str) -> None:
    ended = overage("show", "rejects", "--format", style, "--home", billed)
    assert ended.status == 0
    assert "title" in ended.output
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", ended.output + ended.messages)


def test_files_are_their_owners(billed: Path) -> None:
    made = [
        billed / "register.db",
        *(path for name in ("documents", "profiles", "lake") for path in (billed / name).rglob("*")),
    ]
    made += [billed / name for name in ("documents", "profiles", "lake")]
    assert len(made) > 30
    open_to_others = [path for path in made if stat.S_IMODE(path.lstat().st_mode) & 0o077]
    assert not open_to_others


def test_a_group_may_read_where_a_setting_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERAGE_UMASK", "027")
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    bill(landing.root, "2026-01", "2026-01-31")
    assert stat.S_IMODE((landing.root / "register.db").stat().st_mode) == 0o640
    assert stat.S_IMODE((landing.root / "documents").stat().st_mode) == 0o750
    monkeypatch.setenv("OVERAGE_UMASK", "7777")
    assert overage("verify", "--home", landing.root).status == 2


@pytest.mark.parametrize(("given_mask", "mask"), [("", 0o77), ("077", 0o77), ("7", 7), ("0027", 0o27), ("000", 0)])
def test_a_mask_is_octal(given_mask: str, mask: int) -> None:
    assert umask_of({"OVERAGE_UMASK": given_mask}) == mask


@pytest.mark.parametrize("given_mask", ["777", "8", "-1", "0o27", "u=rwx", "0100"])
def test_what_is_no_mask_is_refused(given_mask: str) -> None:
    with pytest.raises(RefusedError, match="OVERAGE_UMASK"):
        umask_of({"OVERAGE_UMASK": given_mask})


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://billing:pa@sesame@127.0.0.1:1/db",
        "postgresql+psycopg://billing:sesame@127.0.0.1:1/db",
        "postgresql+psycopg://billing@127.0.0.1:1/db?password=sesame",
        "postgresql+psycopg://127.0.0.1:1/db?user=a&password=sesame&connect_timeout=1",
        "postgresql+psycopg://billing:p@a/sesame@127.0.0.1:1/db",
        "postgresql+psycopg://billing:p@a?sesame@127.0.0.1:1/db",
        "postgresql+psycopg://billing:sesame@127.0.0.1:sesame/db",
        "postgresql+nosuch://billing:sesame@127.0.0.1:1/db",
        "billing:sesame@127.0.0.1",
        "mysql://billing:sesame@127.0.0.1/db",
    ],
)
def test_no_part_of_a_password_of_a_register_is_told(tmp_path: Path, url: str) -> None:
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    ended = overage("show", "documents", "--home", landing.root, register=url)
    assert ended.status == 2
    assert "sesame" not in ended.output + ended.messages
    with pytest.raises(RefusedError) as caught:
        Register.open(Home(landing.root), url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "sesame" not in f"{error}{error.args}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _page_names(ids: list[str]) -> dict[str, str]:
    alike = ids_alike(pl.Series(ids, dtype=pl.String))
    return {each: page_name(each, is_alike=each in alike) for each in ids}


def test_a_page_of_every_account_has_a_file_of_its_own_on_any_disk() -> None:
    ids = [
        "index",
        "Index",
        "INDEX",
        "acme",
        ".x",
        "a/b",
        "A/B",
        "CON",
        "x" * 300,
        "X" * 300,
        "é",
        "É",
        "a%49",
        "aI",
        "ai",
    ]
    names = _page_names(ids)
    assert len({name.casefold() for name in names.values()}) == len(ids)
    assert "index.html" not in {name.casefold() for name in names.values()}
    assert names["acme"] == "a-acme.html"
    assert _page_names(["S01", "GONE"]) == {"S01": "a-S01.html", "GONE": "a-GONE.html"}


@given(st.lists(st.text("aAbBsSßé%.~/ 4_", min_size=1, max_size=6), unique=True, max_size=8))
def test_pages_never_share_a_file(ids: list[str]) -> None:
    names = _page_names(ids).values()
    assert len({name.casefold() for name in names}) == len(ids)


def test_pages_of_earlier_versions_are_removed_when_they_are_written_anew(billed: Path) -> None:
    profiles = billed / "profiles"
    assert {path.name for path in profiles.iterdir() if path.is_file()} == {
        "index.html",
        "a-acme.html",
        "a-=cmd|' %2FC calc'!A0.html".replace("|", "%7C"),
    }
    (profiles / "a-acme.html").rename(profiles / "acme.html")
    (profiles / "notes.html").write_text("somebody's own")
    assert bill(billed, "2026-01", "2026-02-01", profiles=True).status in (0, 1)
    assert {path.name for path in profiles.iterdir()} >= {"index.html", "a-acme.html", "notes.html"}
    assert not (profiles / "acme.html").exists()
    assert "a-acme.html" in (profiles / "index.html").read_text()
    assert isinstance(pl.read_parquet(billed / "lake" / "profile" / "profile.parquet"), pl.DataFrame)
