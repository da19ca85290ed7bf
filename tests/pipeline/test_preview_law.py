"""Whatever happened before: what a preview shows is what billing does then, and every difference has its cause."""

import tempfile
from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.pipeline.outside import Landing, Row, bill, overage, show
from tests.pipeline.test_preview import preview

ACCOUNTS = ("acme", "beta")
PRICES = ("99.00", "89.00", "109.00")
HAPPENINGS = (
    "late usage",
    "late usage",
    "withdrawn",
    "price",
    "refund",
    "cancel",
    "hold",
    "resume",
    "upgrade",
    "correct",
    "draft",
)


def happen(landing: Landing, what: str, account: str, today: date, draw: int) -> None:
    """Something of HAPPENINGS on a day; `draw` decides what is left open."""
    home, at = landing.root, f"{today}T10:00:00Z"
    if what == "late usage":
        used = max(today - timedelta(days=draw % 60), date(2026, 1, 10)).isoformat()
        landing.use(account, used, emails=(500, 9_000, 16_000)[draw % 3], domains=draw % 2, delivered=today.isoformat())
    elif what == "withdrawn":
        delivered = sorted((landing.folder / "usage").glob("*/*"))
        chosen = delivered[draw % len(delivered)]
        chosen.write_text("".join(row for row in chosen.read_text().splitlines(True) if f'"{account}"' not in row))
    elif what == "price":
        catalogue = landing.folder / "catalogue.yaml"
        text = catalogue.read_text()
        now = next(price for price in PRICES if f'"{price}"' in text)
        catalogue.write_text(text.replace(f'"{now}"', f'"{PRICES[draw % 3]}"'))
    elif what == "upgrade":
        landing.request(account, what, at, package="silver")
    elif what in ("refund", "cancel", "hold", "resume"):
        landing.request(account, what, at, "email" if what == "cancel" else "support")
    elif what == "correct":
        month = f"{today.replace(day=1) - timedelta(days=draw % 40):%Y-%m}"
        arguments = ("--reason", "late", "--as-of", today, "--account", account, "--home", home)
        # a month before the first one is refused
        assert overage("correct", month, *arguments).status in (0, 2)
    else:
        assert bill(home, f"{today:%Y-%m}", today.isoformat(), "--draft").status == 0


def of_kind(found: dict[str, Any], *kinds: str) -> list[Row]:
    return [
        {"account_id": each["account_id"], **change}
        for each in found["accounts"]
        for change in each["changes"]
        if change["what"] in kinds
    ]


def settled_by_account(rows: list[Row], amount: str) -> dict[str, Decimal]:
    found: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        found[row["account_id"]] += Decimal(row[amount])
    return {account: total for account, total in found.items() if total}


# a story takes seconds: what fails is printed as it was drawn
@settings(max_examples=2, phases=[Phase.explicit, Phase.generate])
@given(
    rounds=st.lists(
        st.tuples(
            st.integers(3, 28),
            st.lists(
                st.tuples(st.sampled_from(HAPPENINGS), st.sampled_from(ACCOUNTS), st.integers(0, 1_000)),
                min_size=1,
                max_size=4,
            ),
        ),
        min_size=2,
        max_size=4,
    )
)
def test_billing_does_what_was_previewed(rounds: list[tuple[int, list[tuple[str, str, int]]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        landing = Landing(Path(folder))
        home, today = landing.root, date(2026, 2, 1)
        for account in ACCOUNTS:
            landing.customer(account)
            landing.use(account, emails=16_000)
        assert bill(home, "2026-02", today.isoformat()).status == 0
        for days, happenings in rounds:
            today += timedelta(days=days)
            for what, account, draw in happenings:
                happen(landing, what, account, today, draw)
            as_of, month = today.isoformat(), f"{today:%Y-%m}"
            had = {row["number"] for row in show(home, "documents")}
            before = preview(home, month, as_of)
            assert bill(home, month, as_of).status == 0
            after = preview(home, month, as_of)
            issued = {row["number"]: row for row in show(home, "documents") if row["number"] not in had}
            lines = [row for row in show(home, "lines") if row["number"] in issued]
            assert {row["item"]: row["new"] for row in of_kind(before, "document")} == {
                f"{number} {row['kind'].replace('_', ' ')}": row["total"] for number, row in issued.items()
            }
            assert sorted((row["item"], row["new"]) for row in of_kind(before, "line")) == sorted(
                (f"{row['number']} line {row['line']}: {row['description']}", row["amount"]) for row in lines
            )
            # what is left is what waits, as it was; the rest was settled by what was issued
            waits = of_kind(after, "cycle")
            assert [row for row in waits if row not in of_kind(before, "cycle")] == []
            assert {row["what"] for each in after["accounts"] for row in each["changes"]} <= {"cycle"}
            gone = [row for row in of_kind(before, "cycle") if row not in waits]
            prior = [row | issued[row["number"]] for row in lines if row["kind"] == "prior_cycle"]
            assert settled_by_account(gone, "difference") == settled_by_account(prior, "amount")
            unexplained = [row for row in of_kind(before, "cycle", "document", "line", "decision") if not row["causes"]]
            assert not unexplained, unexplained
