"""CSV in any dialect: separators, signs of numbers, encodings, headers, and what stands for nothing."""

from pathlib import Path

import polars as pl
import pytest

from tests.billing.ingest.raw_logs import business, counts, one_source, sums

EVENT = (
    "id: {field: n}, type: {const: email.sent}, subject: {field: who}, time: {field: at, "
    "zone: Europe/Berlin}, data.count: {field: size}"
)


def test_a_dialect_of_its_own(tmp_path: Path) -> None:
    keys = {
        "separator": '";"',
        "decimal": '","',
        "thousands": '"."',
        "null": "[NULL, no, '']",
        "comment": '"#"',
        "skip": "2",
    }
    home = business(tmp_path, one_source("csv", EVENT.replace("field: size", "field: size, null_is: 0"), **keys))
    home.deliver(
        [
            "A report",
            "made today",
            "# a comment",
            "n;who;at;size;more",
            "1;acme;2026-01-01 10:00:00;1.234,5;x",
            "# another",
            "2;acme;2026-01-01T10:00;NULL;x",
            '3;acme;2026-01-01 10:00:00.5;"1.000.000";"a;b"',
            "4;acme;2026-01-01 10:00:00;no;",
            "5;acme;2026-01-01 10:00:00;1.23;",
            "6;acme;2026-01-01 10:00:00;1,2,3;",
            "7;acme;2026-01-01 10:00:00;2",
        ],
        name="a.csv",
    )
    home.ingest()
    assert sums(home, "emails") == {"acme": "1001234.5"}
    assert home.reasons() == {6: "impossible_value", 7: "impossible_value", 8: "unparseable"}
    assert counts(home)["a.csv"] == (7, 4, 0, 3, 0, 0)
    detail = home.table("rejects").filter(pl.col("row") == 6)["detail"].item()
    assert detail.startswith("data.count (field size): found '1.23', expected a decimal number ")
    assert detail.endswith(" before the point, such as 1.234,56")


@pytest.mark.parametrize(
    ("thousands", "text"), [('","', "1,234"), ('"\'"', "1'234"), ('" "', "1 234"), ('"\\u00a0"', "1\u00a0234")]
)
def test_numbers_with_thousands_separators(tmp_path: Path, thousands: str, text: str) -> None:
    home = business(tmp_path, one_source("csv", EVENT, thousands=thousands, separator='"\\t"'))
    home.deliver(
        ["n\twho\tat\tsize", f"1\tacme\t2026-01-01 10:00:00\t{text}", f"2\tacme\t2026-01-01 10:00:00\t{text}5"],
        name="a.tsv",
    )
    home.ingest()
    assert sums(home, "emails") == {"acme": "1234"}
    assert home.reasons() == {2: "impossible_value"}


def test_numbers_with_exponents_are_exact(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("csv", EVENT))
    texts = ["1.08E-8", "1.2345e+4", "0e0", "1e", "e5", "1e999", "-1E2"]
    rows = [f"{n},acme,2026-01-01 10:00:00,{text}" for n, text in enumerate(texts, start=1)]
    home.deliver(["n,who,at,size", *rows], name="a.csv")
    home.ingest()
    assert sums(home, "emails") == {"acme": "12345.000000011"}
    assert home.reasons() == dict.fromkeys(range(4, 8), "impossible_value")


def test_quoted_values_may_hold_line_ends_blank_lines_and_comment_signs(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("csv", EVENT, comment='"#"'))
    home.deliver(
        'n,who,at,size,text\n1,acme,2026-01-01 10:00:00,5,"a\n\n# b\n""c"", d"\n2,acme,2026-01-01 10:00:00,6,"e"\n',
        name="a.csv",
    )
    home.ingest()
    assert sums(home, "emails") == {"acme": "11"}
    assert home.events()["row"].sort().to_list() == [1, 5]


def test_an_open_quotation_mark_costs_its_own_line(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("csv", EVENT))
    home.deliver(["n,who,at,size", '1,"acme,2026-01-01 10:00:00,5', "2,acme,2026-01-01 10:00:00,6"], name="a.csv")
    home.ingest()
    assert home.reasons() == {1: "unparseable"}


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    home = business(tmp_path, one_source("csv", EVENT, encoding=encoding), accounts={"Käse"})
    home.deliver("n,who,at,size\n1,Käse,2026-01-01 10:00:00,5\n".encode(encoding), name="a.csv")
    home.ingest()
    assert sums(home, "emails") == {"Käse": "5"}


def test_a_header_may_stand_in_the_source(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("csv", EVENT, header="[n, who, at, size]"))
    home.deliver(["1,acme,2026-01-01 10:00:00,5", "2,acme,2026-01-01 10:00:00,6"], name="a.csv")
    home.ingest()
    assert sums(home, "emails") == {"acme": "11"}
    assert home.events()["row"].sort().to_list() == [1, 2]


def test_a_file_that_lacks_a_column_is_unreadable_and_says_so(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("csv", EVENT.replace("field: size", "field: size, null_is: 0")))
    home.deliver(["n,who,at", "1,acme,2026-01-01 10:00:00"], name="a.csv")
    home.deliver("", name="empty.csv")
    (words,) = home.ingest().unreadable_files
    assert words.endswith(
        "header: found n, who, at, expected each of n, who, at, size once, which the source log reads"
    )


def test_the_last_record_without_a_line_end_is_set_aside(tmp_path: Path) -> None:
    for text, expected in (
        ("1,acme,2026-01-01 10:00:00,5\n2,acme,2026-01-01 10:00:00,6", {2: "unfinished_line"}),
        ('1,acme,2026-01-01 10:00:00,5\n2,acme,2026-01-01 10:00:00,"6', {2: "unfinished_line"}),
        ("1,acme,2026-01-01 10:00:00,5\n\n", {}),
    ):
        home = business(tmp_path / str(len(text)), one_source("csv", EVENT))
        home.deliver(f"n,who,at,size\n{text}", name="a.csv")
        home.ingest()
        assert home.reasons() == expected


def test_a_number_too_long_to_be_multiplied_is_set_aside(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("csv", EVENT.replace("field: size", "field: size, times: 1000")))
    home.deliver(["n,who,at,size", f"1,acme,2026-01-01 10:00:00,5.{'0' * 1000}"], name="a.csv")
    home.ingest()
    assert home.reasons() == {1: "impossible_value"}


def test_what_stands_for_nothing_is_a_plain_decimal_whatever_the_signs_of_the_log(tmp_path: Path) -> None:
    event = EVENT.replace("field: size", "field: size, null_is: 1.5")
    home = business(tmp_path, one_source("csv", event, separator='";"', decimal='","', thousands='"."'))
    home.deliver(["n;who;at;size", "1;acme;2026-01-01 10:00:00;", "2;acme;2026-01-01 10:00:00;0,25"], name="a.csv")
    home.ingest()
    assert sums(home, "emails") == {"acme": "1.75"}


@pytest.mark.parametrize(
    ("times", "text", "expected"),
    [
        ("1000", "1.5", "1500"),
        ("1000", "12345678901234", "12345678901234000"),
        ('"0.001"', "1", "0.001"),
        ("-1", "-7", "7"),
        ("1000000000", "0.000000001", "1"),
        ("3", "0.333333333", "0.999999999"),
        ("1000", f"5.{'0' * 80}", "5000"),
    ],
)
def test_values_are_multiplied_exactly(tmp_path: Path, times: str, text: str, expected: str) -> None:
    home = business(tmp_path, one_source("csv", EVENT.replace("field: size", f"field: size, times: {times}")))
    home.deliver(["n,who,at,size", f"1,acme,2026-01-01 10:00:00,{text}"], name="a.csv")
    home.ingest()
    assert sums(home, "emails") == {"acme": expected}


def test_a_product_below_zero_and_a_text_are_impossible_and_long_decimals_are_rounded(tmp_path: Path) -> None:
    home = business(tmp_path, one_source("csv", EVENT.replace("field: size", 'field: size, times: "0.1"')))
    home.deliver(
        [
            "n,who,at,size",
            *(f"{n},acme,2026-01-01 10:00:00,{text}" for n, text in enumerate(("-5", "x", "0.123456789"))),
        ],
        name="a",
    )
    home.ingest()
    assert home.reasons() == {1: "impossible_value", 2: "impossible_value"}
    assert counts(home)["a"] == (3, 1, 0, 2, 0, 1)
