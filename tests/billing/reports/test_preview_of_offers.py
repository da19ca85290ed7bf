"""Previews of what is sold beside packages: every difference has the input that moved it, and a title."""

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from billing.month.business import Business
from billing.reports.preview import preview_month
from billing.reports.preview_causes import record_given
from tests.landing import event
from tests.sizes import sized

LATE = [
    event("late-users", "usual", "users.changed", {"level": 12}, "2026-02-25T10:00:00Z"),
    event("late-emails", "usual", "email.sent", {"count": 2000}, "2026-02-25T10:00:00Z"),
]


def replaced(root: Path, name: str, old: str, new: str) -> None:
    path = root / "landing" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def late(root: Path) -> None:
    path = root / "landing" / "usage" / "2026-04-01" / "late.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{row}\n" for row in LATE))


def dearer_charge(root: Path) -> None:
    replaced(root, "one_off_charges.csv", "1,250.00", "1,300.00")


def dearer_seats(root: Path) -> None:
    replaced(root, "catalogue.yaml", 'included: 5, price: "12.00"', 'included: 5, price: "13.00"')


def larger_coupon(root: Path) -> None:
    replaced(root, "catalogue.yaml", 'percent: "10", documents: 3', 'percent: "20", documents: 3')


Case = tuple[Callable[[Path], None], str, set[str]]
CASES: list[Case] = [
    (
        late,
        "delivery 2026-04-01/late.jsonl is new",
        {"Emails", "Spring offer", "Users added within the cycle", "Users in advance"},
    ),
    (dearer_charge, "charge set-up has changed", {"Charge set-up", "Spring offer"}),
    (
        dearer_seats,
        "catalogue package starter, version of 2026-01-01 has changed",
        {"Spring offer", "Users added within the cycle", "Users in advance"},
    ),
    (larger_coupon, "catalogue coupon spring has changed", {"Spring offer"}),
]


@pytest.mark.parametrize(
    ("change", "cause", "titles"),
    sized(usual=[CASES[0], CASES[3]], long=CASES),
)
def test_what_moved_is_named(
    sold: Business, tmp_path: Path, change: Callable[[Path], None], cause: str, titles: set[str]
) -> None:
    record_given(sold)
    root = Path(shutil.copytree(sold.home.root, tmp_path / "twin"))
    change(root)
    found = preview_month(Business.load(root, date(2026, 4, 1)), "2026-03")
    cycles = [row for row in found.rows() if row["what"] == "cycle" and row["account_id"] == "usual"]
    assert {row["item"].split(", cycle")[0] for row in cycles} == titles
    assert {tuple(row["causes"]) for row in cycles} == {(cause,)}
