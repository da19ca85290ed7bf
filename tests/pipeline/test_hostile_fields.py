"""Whatever one account's rows hold: no traceback, every other account gets the same bytes, and what counts is escaped.

The hostile fields stand in one home, each at an account of its own: one of 23, each field and each value among them.
`pytest --long` takes all of them, draws every document, and bills each file alone.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import localcontext
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

from billing.inputs.accounts import ACCOUNT_COLUMNS
from billing.inputs.payments import PAYMENT_MEMBERS
from billing.inputs.requests import REQUEST_MEMBERS
from billing.inputs.tax_rates import TAX_COLUMNS, read_tax_rates
from billing.model.errors import RefusedError
from billing.rendering.drawing import engine, render_pdf
from billing.rendering.locale_formats import EXACT
from billing.rendering.simplified_content import plainer
from billing.rendering.template_versions import edition_of
from pipeline.exit_status import DONE, PARTLY
from tests.pipeline.outside import Landing, bill, overage
from tests.postgresql import register_rows
from tests.sizes import sized

EVERY = sized(usual=False, long=True)
"""Whether every value is tried in every field."""

STEP: Final = 23
"""Of so many fields with their values a usual run takes one."""
OTHERS: Final = ("acme", "beta")
CARD: Final = "4111111111111111"
TEXTS: Final[Mapping[str, str]] = {
    "control characters": "a\x01\x07\x1b[31mb\x7f",
    "a terminal's title": "\x1b]0;gone\x07",
    "a later control": "a\x9b31mb",
    "NUL": "a\x00b",
    "long": "x" * 60_000,
    "long words": "wide words " * 6_000,
    "blanks": " \t  ",
    "a byte order mark": "\ufeffa",
    "nothing but a mark": "\ufeff",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈",
    "right to left": "a\u202eb\u2066c",
    "combining": "e" + "\u0301" * 90,
    "line ends": "a\r\nb\nc\rd",
    "a paragraph": "a\u2028b\u2029c\u0085d",
    "a formula": "=cmd|' /C calc'!A0",
    "a path": "../../x",
    "an absolute path": "/etc/passwd",
    "an escape": "\\u0000",
    "quotes": '"\',""',
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "an attribute": "\" onmouseover='alert(3)",
    "a template": "{{ 31337 * 31337 }}{% raw %}",
    "a format": "{0.__class__}%s%n",
    "SQL": "'; DROP TABLE documents; --",
    "a card number": CARD,
    "a card number in groups": "4111 1111 1111 1111",
    "no date": "not-a-date",
    "a day that is none": "9999-99-99",
    "the last day": "9999-12-31T23:59:59Z",
    "the first day": "0001-01-01T00:00:00Z",
    "another century": "2199-12-31T23:59:59.999999999+14:00",
    "a number": "12",
    "a negative number": "-1",
    "a large number": "9" * 400,
    "an exponent": "1e999999",
    "no number": "NaN",
    "a boolean": "true",
    "null": "null",
    "another account": "acme",
    "a pattern": "*.[a-z]{1,}",
}
VALUES: Final[Mapping[str, object]] = {
    "an integer": 7,
    "a large integer": 10**300,
    "a large float": 1e300,
    "a negative": -1,
    "true": True,
    "nothing": None,
    "a list": ["a", {"b": 1}],
    "an object": {"a": {"b": ["c"]}},
    "a lone surrogate": "a\ud800b",
    "a surrogate's end": "\udfff",
}
"""What JSON can say besides text."""


@dataclass(frozen=True)
class Hostile:
    """A value in a field of a file."""

    field: str
    name: str
    value: object

    def __str__(self) -> str:
        return f"{self.field}: {self.name}"


def cases(fields: Sequence[str], is_json: bool) -> list[Hostile]:
    values: Mapping[str, object] = {**TEXTS, **VALUES} if is_json else TEXTS
    pairs = [(field, name) for field in fields for name in values]
    # what names another account is that account's own row
    return [
        Hostile(field, name, values[name])
        for field, name in (pairs if EVERY else pairs[::STEP])
        if not (field.endswith("_id") and name == "another account")
    ]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    written = io.StringIO()
    writer = csv.DictWriter(written, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def json_text(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def account(name: str) -> dict[str, Any]:
    row = dict.fromkeys(ACCOUNT_COLUMNS, "") | {"account_id": name, "name": f"{name} Inc.", "country": "US"}
    return row | {"email": f"billing@{name}.example.com", "address_line1": "1 Example Street", "postal_code": "00000"}


def request(name: str) -> dict[str, Any]:
    row = dict.fromkeys(REQUEST_MEMBERS, "") | {
        "request_id": f"hostile-{name}",
        "account_id": name,
        "kind": "subscribe",
    }
    return row | {"at": "2026-02-06T09:00:00Z", "channel": "self_service", "package": "starter"}


def payment(name: str) -> dict[str, Any]:
    row = dict.fromkeys(PAYMENT_MEMBERS, "") | {"payment_id": f"paid-{name}", "account_id": name, "status": "succeeded"}
    return row | {"at": "2026-02-06T10:00:00Z", "amount": "1.00", "currency": "USD"}


FILES: Final[Mapping[str, tuple[Sequence[str], Callable[[str], dict[str, Any]]]]] = {
    "accounts/hostile.csv": (ACCOUNT_COLUMNS, account),
    "accounts/hostile.jsonl": (ACCOUNT_COLUMNS, account),
    "requests/hostile.csv": (REQUEST_MEMBERS, request),
    "requests/hostile.jsonl": (REQUEST_MEMBERS, request),
    "payments/hostile.csv": (PAYMENT_MEMBERS, payment),
    "payments/hostile.jsonl": (PAYMENT_MEMBERS, payment),
}


def home_with(root: Path, hostile: Mapping[str, Sequence[Hostile]]) -> Path:
    """Two accounts that bought on 01-05, and one for each hostile field that buys on 02-06."""
    landing = Landing(root)
    for name in OTHERS:
        landing.customer(name, on="2026-01-05")
        landing.use(name, emails=16_000, leads=2_600)
    for table in ("accounts.csv", "requests.jsonl"):
        folder = landing.folder / table.partition(".")[0]
        folder.mkdir()
        (landing.folder / table).rename(folder / f"a.{table.partition('.')[2]}")
    (landing.folder / "payments").mkdir()
    whole: dict[str, list[dict[str, Any]]] = {"accounts": [], "requests": []}
    paying = 0
    for file, found in hostile.items():
        rows = []
        make = FILES[file][1]
        for place, each in enumerate(found):
            # those that pay come first, so that the numbers of their documents are known
            name = f"{'0' if make is payment else 'v'}-{file.replace('/', '-')}-{place:04d}"
            paying += make is payment
            paid = {"document": f"INV-2026-{4 + paying:06d}"} if make is payment else {}
            rows.append(make(name) | paid | {each.field: each.value})
            whole["accounts"] += [account(name)] if make is not account else []
            whole["requests"] += [request(name)] if make is not request else []
        (landing.folder / file).write_text(csv_text(rows) if file.endswith(".csv") else json_text(rows))
    for table, rows in whole.items():
        (landing.folder / table / "b.jsonl").write_text(json_text(rows))
    return root


def of_others(home: Path) -> dict[str, object]:
    """All that is known of the other accounts: rows of register and lake, documents and profiles."""
    register = register_rows(f"sqlite:///{home / 'register.db'}")
    numbers = {str(row[0]) for row in register["documents"] if not set(OTHERS).isdisjoint(map(str, row))}
    named = {*OTHERS, *numbers}
    found: dict[str, object] = {
        f"register {table}": [row for row in rows if not named.isdisjoint(map(str, row))]
        for table, rows in register.items()
    }
    for path in sorted((home / "lake").rglob("*.parquet")):
        if "account_id" in pl.read_parquet_schema(path):
            rows = pl.read_parquet(path).filter(pl.col("account_id").is_in(OTHERS))
            # a file that holds all accounts is named by its hash
            found[re.sub(r"\.[0-9a-f]{16}\.", ".", path.relative_to(home).as_posix())] = rows.rows()
    for path in (*(home / "documents").rglob("*.pdf"), *(home / "profiles").glob("a-*.html")):
        if path.stem in {*numbers, *(f"a-{name}" for name in OTHERS)}:
            found[path.name] = path.read_bytes()
    return found


NUMBERS: Final = rf"{CARD}|4111 1111 1111 1111"
MARKUP: Final = rf'<script>alert|<img src=x|" onmouseover|{31337 * 31337}|{NUMBERS}'
CONTROLS: Final = rf"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066]|{NUMBERS}"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What is known of the others where there is nobody else."""
    home = home_with(tmp_path_factory.mktemp("undisturbed") / "home", {})
    assert bill(home, "2026-02", "2026-02-07", report=True).status == DONE
    return of_others(home)


def all_cases() -> dict[str, list[Hostile]]:
    return {file: cases(fields, file.endswith(".jsonl")) for file, (fields, _) in FILES.items()}


def test_hostile_fields_change_no_byte_of_another_account_and_are_escaped(
    tmp_path: Path, undisturbed: dict[str, object]
) -> None:
    home = home_with(tmp_path / "home", all_cases())
    ended = bill(home, "2026-02", "2026-02-07", report=True)
    assert ended.status == PARTLY
    found = of_others(home)
    assert {name for name in {*found, *undisturbed} if found.get(name) != undisturbed.get(name)} == set()
    said = [ended.messages]
    for words in ("check", "verify", "show rejects", "show profile"):
        again = overage(*words.split(), "--home", home)
        assert again.status in (DONE, PARTLY), words
        said += [again.output, again.messages]
    assert [found for text in said for found in re.findall(CONTROLS, text)] == []
    pages = [path.read_text() for folder in ("profiles", "reports") for path in (home / folder).rglob("*.html")]
    contents = [json.loads(path.read_text()) for path in (home / "documents").rglob("*.pdf")]
    assert len(contents) > 25
    for content in contents:
        edition = edition_of(content)
        with localcontext(EXACT):
            page = edition.page(plainer(content), {})
        pages.append(engine().template(edition).render(page.context))
        if EVERY:
            assert render_pdf(plainer(content)).startswith(b"%PDF")
    assert [found for text in pages for found in re.findall(MARKUP, text)] == []


@pytest.mark.skipif(not EVERY, reason="each file alone: pytest --long")
@pytest.mark.parametrize("file", FILES)
def test_hostile_fields_of_one_file_change_nothing_of_another_account(
    tmp_path: Path, undisturbed: dict[str, object], file: str
) -> None:
    home = home_with(tmp_path / "home", {file: all_cases()[file]})
    assert bill(home, "2026-02", "2026-02-07").status in (DONE, PARTLY)
    found = of_others(home)
    assert {name for name in {*found, *undisturbed} if found.get(name) != undisturbed.get(name)} == set()


def test_a_hostile_field_of_the_tax_table_is_refused_in_words_or_is_the_name_of_a_tax(tmp_path: Path) -> None:
    rate = {"country": "DE", "region": "", "rate": "0.19", "name": "VAT", "effective_from": "2024-01-01"}
    path = tmp_path / "tax_rates.csv"
    counted = set()
    for field in TAX_COLUMNS:
        for name, value in TEXTS.items():
            path.write_text(csv_text([rate, rate | {"country": "FR", field: value}]))
            try:
                rates = read_tax_rates(path, "")
            except RefusedError as error:
                assert "tax_rates.csv" in str(error), (field, name)
            else:
                counted.add(field)
                assert rates.filter(pl.col("country") == "DE").height == 1, (field, name)
    assert counted <= {"name", "region"}
