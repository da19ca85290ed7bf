"""The QR code of a SEPA transfer says what the EPC asks (EPC069-12), and exists only where such a transfer does."""

import io
from decimal import Decimal

import pytest
from PIL import Image

from billing.rendering import render_pdf
from billing.rendering.drawing import engine
from billing.rendering.v2.payment_code import is_iban, qr_image, transfer_text
from tests.rich_documents import LOGO, invoice, sha256

FILLED = {
    "holder": "Meridian Mail GmbH",
    "iban": "DE89 3704 0044 0532 0130 00",
    "bic": "COBADEFFXXX",
    "amount": Decimal("12.3"),
    "currency": "EUR",
    "reference": "INV-2026-000042",
}


def said(**changes: object) -> str:
    return transfer_text(**(FILLED | changes))  # type: ignore[arg-type]


def test_a_transfer_is_said_line_by_line() -> None:
    assert said().split("\n") == [
        *("BCD", "002", "1", "SCT", "COBADEFFXXX", "Meridian Mail GmbH", "DE89370400440532013000", "EUR12.30"),
        *("", "", "INV-2026-000042"),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"currency": "USD"},
        {"iban": "DE89370400440532013001"},
        {"iban": ""},
        {"holder": " "},
        {"amount": Decimal(0)},
        {"amount": Decimal("-1.00")},
        {"amount": Decimal("1000000000.00")},
    ],
)
def test_there_is_no_code_where_no_transfer_can_be_ordered(changes: dict[str, object]) -> None:
    assert said(**changes) == ""


def test_texts_are_cut_to_what_the_code_may_hold() -> None:
    lines = said(holder="N\n" * 80, reference="R" * 200, bic="nonsense!").split("\n")
    assert (len(lines), len(lines[5]), len(lines[-1]), lines[4]) == (11, 70, 140, "")


@pytest.mark.parametrize(
    ("iban", "expected"),
    [
        ("DE89370400440532013000", True),
        ("GB82WEST12345698765432", True),
        ("DE88370400440532013000", False),
        ("DE", False),
    ],
)
def test_an_iban_has_check_digits(iban: str, expected: bool) -> None:
    assert is_iban(iban) == expected


def test_the_image_has_a_quiet_zone_and_the_finder_patterns() -> None:
    image = Image.open(io.BytesIO(qr_image(said())))
    side = image.width // 2
    dark = [[image.getpixel((2 * x, 2 * y)) == 0 for x in range(side)] for y in range(side)]
    assert image.size == (2 * side, 2 * side)
    assert not any(dark[y][x] for y in range(side) for x in (0, 1, 2, 3, side - 1, side - 4))
    finder = ["#######", "#.....#", "#.###.#", "#.###.#", "#.###.#", "#.....#", "#######"]
    for top, left in ((4, 4), (4, side - 11), (side - 11, 4)):
        found = ["".join("#" if it else "." for it in row[left : left + 7]) for row in dark[top : top + 7]]
        assert found == finder


def test_a_text_beyond_the_largest_code_that_banks_read_has_none() -> None:
    assert Image.open(io.BytesIO(qr_image(said(holder="ä" * 70, reference="R" * 100)))).width <= 2 * (69 + 8)
    assert said(holder="ä" * 70, reference="ä" * 140) == ""


def test_every_document_has_its_own_code_and_leaves_no_image_behind() -> None:
    first, second = invoice(), invoice(number="INV-2026-000043", due="7.00")
    drawn = [render_pdf(content) for content in (first, second, first, second)]
    assert drawn[0] == drawn[2] != drawn[1] == drawn[3]
    engine()._images.clear()
    assert render_pdf(second) == drawn[1], "no pixels of the code before"
    kept = len(engine()._images)
    resources = {"logo": sha256(LOGO), "template": None, "translation": None}
    for number in range(3):
        render_pdf(invoice(number=f"INV-2026-10000{number}", resources=resources), {sha256(LOGO): LOGO})
    assert len(engine()._images) <= kept + 1, "the logo alone stays"
