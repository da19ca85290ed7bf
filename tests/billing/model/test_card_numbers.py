"""Card numbers are found and masked, other numbers are left alone (rule 11)."""

import polars as pl
import pytest

from billing.model.card_numbers import contains_card_number, mask_card_number_column, mask_card_numbers


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("4111111111111111", "************1111"),
        ("4111 1111 1111 1111", "**** **** **** 1111"),
        ("4111-1111-1111-1111", "****-****-****-1111"),
        ("4222222222222", "*********2222"),
        ("5555555555554444", "************4444"),
        ("2223003122003222", "************3222"),
        ("378282246310005", "***********0005"),
        ("3782 822463 10005", "**** ****** *0005"),
        ("6011111111111117", "************1117"),
        ("card:4111111111111111;", "card:************1111;"),
        ("x4111111111111111y", "x************1111y"),
        ("paid 4111 1111 1111 1111 2026", "paid **** **** **** 1111 2026"),
        ("12 4111111111111111", "12 ************1111"),
        ("4111111111111111 5555555555554444", "************1111 ************4444"),
        ('{"card":4111111111111111,"n":1}', '{"card":************1111,"n":1}'),
        (
            "\uff14\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11",
            "************\uff11\uff11\uff11\uff11",
        ),  # full-width digits
        (
            "\u0664\u0661\u0661\u0661 \u0661\u0661\u0661\u0661 \u0661\u0661\u0661\u0661 \u0661\u0661\u0661\u0661",
            "**** **** **** \u0661\u0661\u0661\u0661",
        ),  # Arabic-Indic digits
        ("4111\u00a01111\u00a01111\u00a01111", "****\u00a0****\u00a0****\u00a01111"),
        ("4111\u20111111\u20131111\u22121111", "****\u2011****\u2013****\u22121111"),
        ("4111\u30001111\uff0d1111\t1111", "****\u3000****\uff0d****\t1111"),
        ("41111111\u200b1111\u00ad1111", "********\u200b****\u00ad1111"),
    ],
)
def test_a_card_number_keeps_its_last_four_digits(text: str, masked: str) -> None:
    assert contains_card_number(text)
    assert mask_card_numbers(text) == masked
    assert not contains_card_number(masked)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4111111111111112",  # no valid check digit
        "41111111111111111",  # seventeen digits
        "1234567812345670",  # no accepted brand
        "30569309025904",  # a brand that cannot be accepted
        "4111  1111  1111  1111",
        "4111\n1111\n1111\n1111",  # four values
        "411111111111111²",  # no digit
        "2026-01-01T12:00:00.123456789Z",
        "0004111111111111111",
        "acme, 3 emails",
    ],
)
def test_what_is_no_card_number_is_left_alone(text: str) -> None:
    assert not contains_card_number(text)
    assert mask_card_numbers(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("4111.1111.1111.1111", "****.****.****.1111"),
        ("4111/1111/1111/1111", "****/****/****/1111"),
        ("4111_1111_1111_1111", "****_****_****_1111"),
        ("4111\u00b71111\u00b71111\u00b71111", "****\u00b7****\u00b7****\u00b71111"),
        ("3782.822463.10005", "****.******.*0005"),
        (r"\u0034111111111111111", r"************1111"),
        ("".join(rf"\u003{digit}" for digit in "4111111111111111"), "*" * 12 + r"\u0031" * 4),
        (r"\u0034111\u002d1111\u002d1111\u002d1111", r"****\u002d****\u002d****\u002d1111"),
        (r"4111\/1111\/1111\/1111", r"****\/****\/****\/1111"),
        (r"\uff14\uFF11\uff11\uff11 1111 1111 1111", "**** **** **** 1111"),
        (r"caf\u00e9 4111111111111111", r"caf\u00e9 ************1111"),
        (r"a\\b \u12 4", r"a\\b \u12 4"),
    ],
)
def test_what_is_shown_is_masked_with_anything_between_and_as_escapes(text: str, masked: str) -> None:
    assert not contains_card_number(text) or masked == r"caf\u00e9 ************1111"
    found = mask_card_numbers(text)
    assert found == masked
    assert mask_card_number_column(pl.Series([text])).to_list() == [found]


def test_a_column_is_masked_row_by_row_and_nulls_stay() -> None:
    texts = pl.Series("text", ["4111111111111111", None, "acme", "2026-01-01T12:00:00.123456789Z"])
    masked = mask_card_number_column(texts)
    assert masked.name == "text"
    assert masked.to_list() == ["************1111", None, "acme", "2026-01-01T12:00:00.123456789Z"]
