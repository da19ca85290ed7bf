"""Whatever happened before: what a preview shows is what billing does then, and every difference has its cause."""

import json
import shutil
import tempfile
from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from billing.month.business import Business
from billing.reports.explain import explain_document
from billing.reports.profiles import balances, collections
from billing.reports.show import read_table
from billing.rules.missing_accounts import PASSES_DATES
from tests.by_steps import bill_by_steps
from tests.pipeline import outside
from tests.pipeline.outside import Landing, Row, bill, event, overage, show
from tests.pipeline.test_preview import preview
from tests.sizes import sized

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
    "withdraw",
    "row missing",
    "row missing",
    "row set aside",
    "first request missing",
    "paid",
    "paid",
    "failed",
    "sent back",
    "many decimals",
    "delivery lost",
)
KEEPER = "keeper"
"""An account to which nothing happens: a file without any account is refused."""


def happen(landing: Landing, what: str, account: str, today: date, draw: int) -> None:
    """Something of HAPPENINGS on a day; `draw` decides what is left open."""
    home, at = landing.root, f"{today}T10:00:00Z"
    if what == "late usage":
        used = max(today - timedelta(days=draw % 60), date(2026, 1, 10)).isoformat()
        landing.use(account, used, emails=(500, 9_000, 16_000)[draw % 3], domains=draw % 2, delivered=today.isoformat())
    elif what == "withdrawn":
        delivered = sorted((landing.folder / "usage").glob("*/*"))
        if not delivered:
            return
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
    elif what == "withdraw":
        asked = [json.loads(row) for row in (landing.folder / "requests.jsonl").read_text().splitlines()]
        own = [request["request_id"] for request in asked if request["account_id"] == account]
        if own:
            landing.request(account, what, at, withdraws=own[-1 - draw % len(own)])
    elif what in ("row missing", "row set aside", "first request missing"):
        damage(landing, what, account)
    elif what in ("paid", "failed", "sent back"):
        pay(landing, what, account, today, draw)
    elif what == "many decimals":
        # the tenth to the eighteenth decimal are rounded, here over and not over the allowance
        sent = ("15000.000000000499999999", "15000.0000000005000001", "7000.123456789012345678")[draw % 3]
        landing.written += 1
        day = max(today - timedelta(days=draw % 30), date(2026, 1, 10))
        row = event(f"event-{landing.written}", account, "email.sent", {"count": "?"}, f"{day}T12:00:00Z")
        landing.deliver([row.replace('"?"', sent)], today.isoformat())
    elif what == "delivery lost":
        delivered = sorted((landing.folder / "usage").glob("*/*"))
        if not delivered:
            return
        delivered[draw % len(delivered)].unlink()
        shutil.rmtree(home / "lake")
        assert overage("accept-loss", "--reason", "burnt", "--as-of", today, "--home", home).status == 0
    elif what == "correct":
        month = f"{today.replace(day=1) - timedelta(days=draw % 40):%Y-%m}"
        arguments = ("--reason", "late", "--as-of", today, "--account", account, "--home", home)
        # a month before the first one is refused
        assert overage("correct", month, *arguments).status in (0, 2)
    else:
        bill_by_steps(home, f"{today:%Y-%m}", today.isoformat(), issues=False).register.close()


def damage(landing: Landing, what: str, account: str) -> None:
    """Take what is there of an account out of its file, or put it back where it is out already."""
    path = landing.folder / ("requests.jsonl" if what == "first request missing" else "accounts.csv")
    text, kept = path.read_text(), path.with_name(f".{path.name}-{account}")
    own = [
        line
        for line in text.splitlines(True)
        if line.startswith(f"{account},") or (f'"{account}"' in line and '"subscribe"' in line)
    ]
    if what == "row set aside":
        for line in own:
            wrong = f"{line[:-2]}flase,\n" if "flase" not in line else line.replace("flase", "")
            path.write_text(text.replace(line, wrong))
    elif kept.exists():
        path.write_text(text + kept.read_text())
        kept.unlink()
    elif own:
        kept.write_text("".join(own))
        path.write_text("".join(line for line in text.splitlines(True) if line not in own))


def pay(landing: Landing, what: str, account: str, today: date, draw: int) -> None:
    """Pay a document of an account in full, in part or too much, let it fail, or send back what was paid."""
    issued = show(landing.root, "documents", account_id=account, kind="invoice")
    if not issued:
        return
    document = issued[draw % len(issued)]
    amount = (document["total"], "40.00", "150.00")[draw % 3]
    statuses = {"paid": "succeeded", "failed": "failed", "sent back": ("refunded", "disputed")[draw % 2]}
    landing.pay(account, document["number"], amount, f"{today}T11:00:00Z", statuses[what])


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
@settings(max_examples=sized(usual=1, long=2), phases=[Phase.explicit, Phase.generate])
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
        max_size=sized(usual=2, long=4),
        # Hypothesis begins with the simplest story, which tells little
    ).filter(lambda rounds: len({what for _, happenings in rounds for what, *_ in happenings}) > 2)
)
def test_billing_does_what_was_previewed(rounds: list[tuple[int, list[tuple[str, str, int]]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        landing = Landing(Path(folder))
        home, today = landing.root, date(2026, 2, 1)
        for account in (*ACCOUNTS, KEEPER):
            landing.customer(account)
            landing.use(account, emails=16_000)
        bill_by_steps(home, "2026-02", today.isoformat()).register.close()
        for days, happenings in rounds:
            today += timedelta(days=days)
            for what, account, draw in happenings:
                happen(landing, what, account, today, draw)
            as_of, month = today.isoformat(), f"{today:%Y-%m}"
            had = {row["number"] for row in show(home, "documents")}
            before = preview(home, month, as_of)
            business = bill_by_steps(home, month, as_of)
            # what is missing parks an account, and nothing contradicts itself
            assert set(read_table(business, name="parked")["reason"]) <= set(PASSES_DATES)
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
            for number in issued:
                check_explained(business, number, [row for row in lines if row["number"] == number])
            asked_for = collections(business).group_by("account_id").agg(asked=pl.col("amount_due").sum())
            owed = balances(business).join(asked_for, on="account_id", how="left")
            assert owed.filter(pl.max_horizontal("outstanding", 0) != pl.col("asked").fill_null(0)).is_empty()
            business.register.close()
        # the same by commands, with what steps leave out: documents, profiles and the journal
        with mock.patch.object(outside, "LEFT_OUT", outside.WITHOUT_REPORTS):
            assert bill(home, f"{today:%Y-%m}", today.isoformat()).status in (0, 1)
        verified = overage("verify", "--home", home)
        assert verified.status == 0, verified.output


def check_explained(business: Business, number: str, lines: list[Row]) -> None:
    """A document that was just issued is explained line by line: its amounts, and usage that adds up."""
    explained = explain_document(business, number)
    assert [(row["line"], row["amount"]) for row in explained] == [(row["line"], row["amount"]) for row in lines]
    for row in explained:
        # what an earlier cycle was billed by is another quantity than what is known now
        if row["kind"] == "overage" and row["metric"] == "emails":
            assert sum(Decimal(day["quantity"]) for day in row["days"]) == Decimal(row["quantity"]), row["arithmetic"]
