"""A line that settles an earlier cycle answers "why am I billed this now?" on its own (rules 20, 21 and 23)."""

import json
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest
import yaml

from billing.documents.content_lists import SETTLES
from billing.month.business import Business
from billing.reports.verify import disagreements
from tests.by_steps import bill_by_steps
from tests.pipeline.outside import Landing, Row, bill, one, overage, show
from tests.sizes import LONG

TIERS: list[dict[str, Any]] = [{"up_to": 1000, "unit_price": "0.003"}, {"up_to": None, "unit_price": "0.002"}]
STEPS = [{"up_to": 1000, "flat": "5.00"}, {"up_to": None, "flat": "9.00"}]
BLOCK = {"model": "block", "size": 1000, "price": "3.00"}
TARIFFS: dict[str, dict[str, Any]] = {
    "block": BLOCK,
    "graduated": {"model": "graduated", "tiers": [TIERS[0] | {"flat": "1.00"}, TIERS[1]]},
    "volume": {"model": "volume", "tiers": TIERS},
    "stairstep": {"model": "stairstep", "tiers": STEPS},
    "minimum": {"model": "block", "size": 1000, "price": "1.00", "minimum": "10.00"},
    "maximum": {"model": "volume", "tiers": TIERS, "maximum": "4.50"},
}
# 16,000 emails were known when the cycle was billed, 15,000 of `minimum`; 18,500 and 17,500 are known now
ARITHMETIC = {
    "block": [
        "2 events add up to 18500",
        "18500 - 15000 = 3500 over the allowance",
        "4 started blocks of 1000",
        "due now: 4 x 3.00 = 12.00",
        "billed before: 3.00 on {billed} line 2: 16000 used, 15000 included",
        "12.00 due now - 3.00 billed before = 9.00",
        "More usage of the cycle counts now than when it was billed.",
    ],
    "graduated": [
        "2 events add up to 18500",
        "18500 - 15000 = 3500 over the allowance",
        "1000 x 0.003 + flat 1 = 4",
        "2500 x 0.002 = 5",
        "due now: together 9.00",
        "billed before: 4.00 on {billed} line 2: 16000 used, 15000 included",
        "9.00 due now - 4.00 billed before = 5.00",
        "More usage of the cycle counts now than when it was billed.",
    ],
    "volume": [
        "2 events add up to 18500",
        "18500 - 15000 = 3500 over the allowance",
        "3500 x 0.002 = 7",
        "due now: together 7.00",
        "billed before: 3.00 on {billed} line 2: 16000 used, 15000 included",
        "7.00 due now - 3.00 billed before = 4.00",
        "More usage of the cycle counts now than when it was billed.",
    ],
    "stairstep": [
        "2 events add up to 18500",
        "18500 - 15000 = 3500 over the allowance",
        "flat 9 = 9",
        "due now: together 9.00",
        "billed before: 5.00 on {billed} line 2: 16000 used, 15000 included",
        "9.00 due now - 5.00 billed before = 4.00",
        "More usage of the cycle counts now than when it was billed.",
    ],
    "minimum": [
        "2 events add up to 17500",
        "17500 - 15000 = 2500 over the allowance",
        "3 started blocks of 1000",
        "due now: 3 x 1.00 = 3, but at least 10.00 = 10.00",
        "billed before: nothing on {billed}: 15000 used, 15000 included",
        "10.00 due now - 0.00 billed before = 10.00",
        "It cost nothing by what was known when the cycle was billed.",
    ],
    "maximum": [
        "2 events add up to 18500",
        "18500 - 15000 = 3500 over the allowance",
        "3500 x 0.002 = 7",
        "due now: 7, but at most 4.50 = 4.50",
        "billed before: 3.00 on {billed} line 2: 16000 used, 15000 included",
        "4.50 due now - 3.00 billed before = 1.50",
        "More usage of the cycle counts now than when it was billed.",
    ],
    # an agreement that ends the limit, or names another allowance or price, was learnt late
    "unlimited": [
        "1 event adds up to 16000",
        "16000 used, unlimited in starter",
        "due now: 0.00",
        "billed before: 3.00 on {billed} line 2: 16000 used, 15000 included",
        "0.00 due now - 3.00 billed before = -3.00",
        "The usage is the same, the allowance is another now.",
    ],
    "price": [
        "1 event adds up to 16000",
        "16000 - 15000 = 1000 over the allowance",
        "1 started block of 1000",
        "due now: 1 x 2.50 = 2.50",
        "billed before: 3.00 on {billed} line 2: 16000 used, 15000 included",
        "2.50 due now - 3.00 billed before = -0.50",
        "The usage is the same, its price is another now.",
    ],
    "free": [
        "1 event adds up to 16000",
        "16000 - 15000 = 1000 over the allowance",
        "due now: 0.00, what is over costs nothing in starter",
        "billed before: 3.00 on {billed} line 2: 16000 used, 15000 included",
        "0.00 due now - 3.00 billed before = -3.00",
        "The usage is the same, its price is another now.",
    ],
    "usage and price": [
        "2 events add up to 18500",
        "18500 - 15000 = 3500 over the allowance",
        "4 started blocks of 1000",
        "due now: 4 x 2.50 = 10.00",
        "billed before: 3.00 on {billed} line 2: 16000 used, 15000 included",
        "10.00 due now - 3.00 billed before = 7.00",
        "More usage of the cycle counts now than when it was billed, and its price is another now.",
    ],
    # a delivery was replaced by one without their rows
    "less": [
        "0 events add up to 0",
        "0 used of 15000 included in starter: not over the allowance",
        "due now: 0.00",
        "billed before: 3.00 on {billed} line 2: 16000 used, 15000 included",
        "0.00 due now - 3.00 billed before = -3.00",
        "Less usage of the cycle counts now than when it was billed.",
    ],
}
LEARNT: dict[str, dict[str, Any]] = {
    "unlimited": {"allowances": {"emails": None}},
    "price": {"overage": {"emails": BLOCK | {"price": "2.50"}}},
    "free": {"overage": {"emails": "none"}},
    "usage and price": {"overage": {"emails": BLOCK | {"price": "2.50"}}},
}


def agree(landing: Landing, agreements: dict[str, dict[str, Any]]) -> None:
    """Add agreements on starter, in force since the beginning."""
    path = landing.folder / "catalogue.yaml"
    catalogue = yaml.safe_load(path.read_text())
    catalogue.setdefault("agreements", []).extend(
        {"account_id": name, "package": "starter", "effective_from": "2026-01-01"} | terms
        for name, terms in agreements.items()
    )
    path.write_text(yaml.safe_dump(catalogue, default_flow_style=None))


def disagreements_of(home: Path) -> list[str]:
    """What `verify` finds of documents and tables; by steps nothing is drawn."""
    found = disagreements(Business.load(home, date(2026, 3, 15), issues=False))
    return [words for words in found if "the PDF of" not in words]


def explained(home: Path, number: str) -> list[Row]:
    ended = overage("explain", number, "--format", "json", "--home", home)
    assert ended.status == 0, ended.messages
    found: list[Row] = json.loads(ended.output)
    return found


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    """Customers who were billed on 2026-02-10, and of whom more, less or something else is known since."""
    landing = Landing(tmp_path_factory.mktemp("learnt"))
    tariffs = TARIFFS | {"over minimum": TARIFFS["minimum"]}
    agree(landing, {name.replace(" ", "-"): {"overage": {"emails": tariff}} for name, tariff in tariffs.items()})
    for name in ("cheaper", "cancelled", "undone", "refunded", "over-minimum"):
        landing.customer(name, on="2026-02-08" if name == "refunded" else "2026-01-10")
    landing.use("over-minimum", emails=16_000)
    for name in ARITHMETIC:
        landing.customer(name)
        day = "2026-01-21" if name == "less" else "2026-01-20"
        landing.use(name, day, emails=15_000 if name == "minimum" else 16_000)
    bill_by_steps(landing.root, "2026-02", "2026-02-15")
    for name in (*TARIFFS, "usage and price"):
        landing.use(name, "2026-01-25", emails=2_500, delivered="2026-02-20")
    (landing.folder / "usage" / "2026-01-21" / "usage.jsonl").write_text("")
    agree(landing, LEARNT | {"cheaper": {"price": {"monthly": "89.00"}}})
    landing.request("cancelled", "cancel", "2026-01-25T10:00:00Z", "email")
    # a late request shows an earlier purchase, so the one of 2026-01-10 is refused
    landing.request("undone", "subscribe", "2026-01-05T09:00:00Z", "self_service", package="starter")
    landing.request("refunded", "refund", "2026-02-20T10:00:00Z", reason="not needed")
    return landing


@pytest.fixture(scope="module")
def billed_next(learnt: Landing) -> Landing:
    """The differences as lines of the next documents."""
    bill_by_steps(learnt.root, "2026-03", "2026-03-15")
    return learnt


def billed_number(home: Path, account: str) -> str:
    number: str = one(show(home, "documents", account_id=account, billing_date="2026-02-10", corrects=None))["number"]
    return number


@pytest.fixture(scope="module")
def numbers(billed_next: Landing) -> dict[tuple[str, str], str]:
    """Of the documents, by account and billing date."""
    return {(row["account_id"], row["billing_date"]): row["number"] for row in show(billed_next.root, "documents")}


@pytest.fixture(scope="module")
def settling(billed_next: Landing) -> dict[str, Row]:
    """The line of an earlier cycle by the number of its document."""
    return {row["number"]: row for row in show(billed_next.root, "lines", kind="prior_cycle")}


@pytest.mark.parametrize("account", ARITHMETIC)
def test_a_line_of_an_earlier_cycle_shows_its_arithmetic_and_what_was_billed_before(
    billed_next: Landing, numbers: dict[tuple[str, str], str], settling: dict[str, Row], account: str
) -> None:
    number, billed = numbers[account, "2026-03-10"], numbers[account, "2026-02-10"]
    line = one([line for line in explained(billed_next.root, number) if line["kind"] == "prior_cycle"])
    assert line["arithmetic"] == [step.format(billed=billed) for step in ARITHMETIC[account]]
    stored = settling[number]
    assert (stored["quantity"], line["cycle_start"]) == (ARITHMETIC[account][0].split()[-1], "2026-01-10")


def test_documents_with_such_lines_verify(billed_next: Landing) -> None:
    assert disagreements_of(billed_next.root) == []


def test_only_documents_that_settle_something_say_so(billed_next: Landing) -> None:
    register = Business.load(billed_next.root, date(2026, 3, 15), issues=False).register
    settling = set(register.lines().filter(pl.col("kind") == "prior_cycle")["number"])
    assert settling
    for number, content in register.contents(register.documents()["number"].to_list()):
        keys = {key for line in json.loads(content)["lines"] for key in line}
        assert ("settles" in keys) == (number in settling), number


def test_only_an_overage_whose_tariff_has_a_minimum_or_maximum_says_so(billed_next: Landing) -> None:
    register = Business.load(billed_next.root, date(2026, 3, 15), issues=False).register
    said = {
        (page["customer"]["account_id"], line["kind"]): line["bounds"]
        for _, content in register.contents(register.documents()["number"].to_list())
        for page in [json.loads(content)]
        for line in page["lines"]
        if "bounds" in line
    }
    # of `minimum` nothing was over the allowance, and a line that settles keeps its own
    assert said == {
        ("maximum", "overage"): {"minimum": None, "maximum": "4.50"},
        ("over-minimum", "overage"): {"minimum": "10.00", "maximum": None},
    }


def test_a_note_shows_its_arithmetic_and_a_later_line_what_both_documents_billed(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    for name, emails in (("more", 16_000), ("less", 18_000)):
        landing.customer(name, billed_through="2026-02-10")
        landing.use(name, "2026-01-20", emails=emails, delivered=f"2026-01-2{len(name)}")
        landing.use(name, "2026-01-22", emails=1_000, delivered=f"2026-01-2{5 + (name == 'less')}")
    bill_by_steps(tmp_path, "2026-02", "2026-02-15")
    landing.use("more", "2026-01-25", emails=1_000, delivered="2026-02-20")
    (landing.folder / "usage" / "2026-01-26" / "usage.jsonl").write_text("")
    assert (
        overage(
            "correct", "2026-02", "--reason", "The log was wrong.", "--as-of", "2026-02-21", "--home", tmp_path
        ).status
        == 0
    )
    debit = one(explained(tmp_path, "DN-2026-000001"))
    invoice = billed_number(tmp_path, "more")
    assert (debit["kind"], debit["quantity"], debit["arithmetic"]) == (
        "adjustment",
        "18000",
        [
            "3 events add up to 18000",
            "18000 - 15000 = 3000 over the allowance",
            "3 started blocks of 1000",
            "due now: 3 x 3.00 = 9.00",
            f"billed before: 6.00 on {invoice} line 2: 17000 used, 15000 included",
            "9.00 due now - 6.00 billed before = 3.00",
            "More usage of the cycle counts now than when it was billed.",
        ],
    )
    credit = one(explained(tmp_path, "CN-2026-000001"))
    assert credit["arithmetic"][3:] == [
        "due now: 3 x 3.00 = 9.00",
        f"billed before: 12.00 on {billed_number(tmp_path, 'less')} line 2: 19000 used, 15000 included",
        "9.00 due now - 12.00 billed before = -3.00",
        "Less usage of the cycle counts now than when it was billed.",
    ]
    landing.use("more", "2026-01-26", emails=1_000, delivered="2026-02-22")
    bill_by_steps(tmp_path, "2026-03", "2026-03-15")
    number = one(show(tmp_path, "documents", account_id="more", billing_date="2026-03-10"))["number"]
    later = one([line for line in explained(tmp_path, number) if line["kind"] == "prior_cycle"])
    assert later["arithmetic"][3:6] == [
        "due now: 4 x 3.00 = 12.00",
        f"billed before: 6.00 on {invoice} line 2: 17000 used, 15000 included",
        "billed before: 3.00 on DN-2026-000001 line 1: 18000 used, 15000 included",
    ]
    assert not LONG or disagreements_of(tmp_path) == []


def test_a_fee_that_is_another_now_says_in_words_what_moved(
    billed_next: Landing, numbers: dict[tuple[str, str], str]
) -> None:
    def settled(account: str, date: str) -> list[list[str]]:
        found = explained(billed_next.root, numbers[account, date])
        return [line["arithmetic"] for line in found if line["kind"] == "prior_cycle"]

    billed = {account: number for (account, date), number in numbers.items() if date == "2026-02-10"}
    assert settled("cheaper", "2026-03-10")[1] == [
        "due now: Starter, monthly fee = 89.00",
        f"billed before: 99.00 on {billed['cheaper']} line 1: Starter, monthly fee",
        "89.00 due now - 99.00 billed before = -10.00",
        "The same fee has another price now.",
    ]
    assert settled("cancelled", "2026-03-10") == [
        [
            "due now: 0.00",
            f"billed before: 99.00 on {billed['cancelled']} line 1: Starter, monthly fee",
            "0.00 due now - 99.00 billed before = -99.00",
            "No fee is due on this date: the subscription is cancelled.",
        ]
    ]
    undone = settled("undone", "2026-03-10")
    assert [steps[0] for steps in undone] == ["due now: 0.00", "due now: 0.00"]
    assert {steps[-1] for steps in undone} == {
        "This date is none of the subscription's billing dates any more: nothing is due on it."
    }


def test_a_prorated_first_cycle_names_its_days_now_and_then(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    path = landing.folder / "catalogue.yaml"
    text = path.read_text().replace("billing_anchor: signup_day", "billing_anchor: first_of_month")
    path.write_text(text.replace("first_cycle: prorated", "first_cycle: full"))
    landing.customer("acme")
    bill_by_steps(tmp_path, "2026-01", "2026-01-15")
    path.write_text(text)
    bill_by_steps(tmp_path, "2026-02", "2026-02-15")
    number = one(show(tmp_path, "documents", billing_date="2026-02-01"))["number"]
    line = one([line for line in explained(tmp_path, number) if line["kind"] == "prior_cycle"])
    assert line["arithmetic"] == [
        "99.00 x 22 / 31 days, rounded half-up = 70.26",
        "due now: Starter, monthly fee, 22 of 31 days = 70.26",
        "billed before: 99.00 on INV-2026-000001 line 1: Starter, monthly fee",
        "70.26 due now - 99.00 billed before = -28.74",
        "Another fee is due now than was billed.",
    ]


def test_a_part_of_a_fee_names_its_factors(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.customer("acme", term="yearly")
    landing.request("acme", "upgrade", "2026-01-20T10:00:00Z", package="silver")
    landing.customer("even", term="yearly")
    landing.request("even", "upgrade", "2026-02-20T10:00:00Z", package="silver")
    bill(tmp_path, "2026-03", "2026-03-15")
    rows = show(tmp_path, "documents")
    numbers = {(row["account_id"], row["billing_date"]): row["number"] for row in rows}
    wanted = {
        ("acme", "2026-01-10"): "Starter, yearly fee = 990.00",
        ("acme", "2026-02-10"): "(1990.00 - 990.00) x 11 / 12 cycles, rounded half-up = 916.67",
        ("even", "2026-03-10"): "(1990.00 - 990.00) x 10 / 12 cycles, rounded half-up = 833.33",
    }
    found = {of: explained(tmp_path, numbers[of])[0]["arithmetic"] for of in wanted}
    assert found == {of: [step] for of, step in wanted.items()}
    page = (tmp_path / "documents" / "2026-02" / f"{numbers['acme', '2026-02-10']}.pdf").read_text()
    assert '"part":{"fee":"1990.00","replaced":"990.00","part":"11","parts":"12"}' in page
    assert '"part"' not in (tmp_path / "documents" / "2026-01" / f"{numbers['acme', '2026-01-10']}.pdf").read_text()


def test_a_refund_names_what_it_pays_back(billed_next: Landing) -> None:
    billed, credit = show(billed_next.root, "documents", account_id="refunded")[:2]
    if billed["kind"] != "invoice":
        billed, credit = credit, billed
    assert one(explained(billed_next.root, credit["number"]))["arithmetic"] == [
        f"billed before: 99.00 on {billed['number']} line 1: Starter, monthly fee",
        "paid back: -99.00",
    ]


def test_a_document_that_an_earlier_version_issued_is_still_explained(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    for name, day in (("acme", "2026-01-20"), ("less", "2026-01-21")):
        landing.customer(name, billed_through="2026-02-10")
        landing.use(name, day, emails=16_000)
    bill_by_steps(tmp_path, "2026-02", "2026-02-15")
    landing.use("acme", "2026-01-25", emails=2_000, delivered="2026-02-20")
    (landing.folder / "usage" / "2026-01-21" / "usage.jsonl").write_text("")

    def silent(_: Business, differences: pl.DataFrame) -> pl.DataFrame:
        nothing = {"tariff": None, "settles": pl.lit(None, SETTLES), "billed_units": None, "unit_price": None}
        return differences.with_columns(**nothing)

    with mock.patch("billing.month.drafting.differences_with_lines", silent):
        bill_by_steps(tmp_path, "2026-03", "2026-03-15")
    more, less = (
        one([line for line in explained(tmp_path, document["number"]) if line["kind"] == "prior_cycle"])
        for document in show(tmp_path, "documents", billing_date="2026-03-10")
    )
    assert more["arithmetic"] == [
        "2 events add up to 18000",
        "18000 - 15000 = 3000 over the allowance",
        "Emails of an earlier cycle: 9.00 due, 3.00 billed before = 6.00",
    ]
    assert less["arithmetic"] == [
        "0 events of the cycle are known now",
        "Emails of an earlier cycle: 0.00 due, 3.00 billed before = -3.00",
    ]
    assert not LONG or disagreements_of(tmp_path) == []


def test_a_block_tariff_with_a_minimum_does_not_claim_a_product_that_is_wrong(
    billed_next: Landing, numbers: dict[tuple[str, str], str]
) -> None:
    found = explained(billed_next.root, numbers["over-minimum", "2026-02-10"])
    line = one([line for line in found if line["kind"] == "overage"])
    assert line["arithmetic"][2:] == [
        "1 started block of 1000",
        "1 x 1.00 = 1, but at least 10.00 = 10.00",
    ]
