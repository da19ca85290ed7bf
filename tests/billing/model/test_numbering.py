"""Formats of numbers: what can be written, and which series can meet."""

import pytest

from billing.model.numbering import NumberFormat, can_meet, file_name

USUAL = NumberFormat("INV-{year}-{sequence:06}")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("INV-{year}-{sequence:06}", "INV-2026-000041"),
        ("{year}/R/{sequence}", "2026/R/41"),
        ("R{sequence:04}.{year}", "R0041.2026"),
        ("{sequence:012}", "000000000041"),
        ("A_b-{sequence}", "A_b-41"),
        ("INVOICES-OF-ACME-INC-{year}-{sequence:06}", None),
        ("INV-{year}", None),
        ("{sequence}-{sequence}", None),
        ("INV {sequence}", None),
        ("INV-{sequence:6}", None),
        ("INV-{sequence:00}", None),
        ("INV-{month}-{sequence}", None),
        (".{sequence}", None),
        ("É{sequence}", None),
        ("", None),
    ],
)
def test_a_format_is_letters_digits_and_one_sequence(text: str, number: str | None) -> None:
    if number is None:
        with pytest.raises(ValueError, match=r"letters, digits|at most 30|point"):
            NumberFormat(text)
    else:
        assert NumberFormat(text).in_year(2026).number(41) == number


@pytest.mark.parametrize("width", [18, 19])
def test_a_number_has_at_most_thirty_characters(width: int) -> None:
    text = "X" * width + "{sequence:012}"
    if width == 18:
        assert len(NumberFormat(text).in_year(2026).number(1)) == 30
    else:
        with pytest.raises(ValueError, match="at most 30 characters, not 31"):
            NumberFormat(text)


@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [
        ("INV-{year}-{sequence:06}", "CN-{year}-{sequence:06}", False),
        ("{year}-{sequence:06}", "{year}-{sequence:04}", True),
        ("R{sequence}", "R{year}{sequence}", True),
        ("R{sequence}", "RC{sequence}", False),
        ("{year}/{sequence:04}", "{year}_{sequence:04}", True),
        ("inv-{sequence}", "INV-{sequence}", True),
        ("A{sequence}", "A0{sequence}", False),
        ("A{sequence:02}", "A0{sequence}", True),
        ("{sequence}-{year}", "{year}-{sequence}", True),
        ("{sequence}A", "{sequence}B", False),
    ],
)
def test_two_series_can_meet(one: str, other: str, meets: bool) -> None:
    found = can_meet(NumberFormat(one), NumberFormat(other)), can_meet(NumberFormat(other), NumberFormat(one))
    assert found == (meets, meets)


@pytest.mark.parametrize("text", ["INV-{year}-{sequence:06}", "{year}/R.{sequence}", "{year}{sequence:03}_{year}"])
def test_the_name_of_a_file_says_year_and_sequence(text: str) -> None:
    form = NumberFormat(text)
    for sequence in (1, 41, 1_234_567):
        name = file_name(form.in_year(2027).number(sequence))
        found = form.pattern().fullmatch(name)
        assert "/" not in name
        assert found is not None
        assert (int(found["year"]), int(found["sequence"])) == (2027, sequence)
