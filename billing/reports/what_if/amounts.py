"""Amounts of a comparison in words, for its page and for the month's report."""

from collections.abc import Mapping
from decimal import Decimal


def before_after(row: Mapping[str, str]) -> list[str]:
    """The amounts before and after of a plain row, and their difference with its sign."""
    difference = Decimal(row["after"]) - Decimal(row["before"])
    return [grouped(row["before"]), grouped(row["after"]), signed(f"{difference:f}")]


def grouped(text: str) -> str:
    """An amount with its thousands apart."""
    return f"{Decimal(text):,}"


def signed(text: str) -> str:
    """As `grouped`, with a sign where it is not 0."""
    return f"{Decimal(text):+,}" if Decimal(text) else f"{Decimal(text):,}"
