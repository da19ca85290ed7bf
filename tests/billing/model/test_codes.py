"""Codes: what a column's description lists, and what a frame holds."""

import re
from enum import StrEnum

import polars as pl
import pytest

from billing.model import codes
from billing.model.codes import (
    REQUEST_KINDS,
    SCHEDULED,
    Age,
    AllocationSource,
    BalanceStatus,
    DecisionFlag,
    DecisionKind,
    DecisionReason,
    DocumentKind,
    DocumentStatus,
    FeeReason,
    LedgerAccount,
    LineKind,
    MailStatus,
    Outcome,
    ParkedReason,
    PostingKind,
    SubscriptionStatus,
    TaxCategory,
    TaxReason,
    Term,
    UnbilledReason,
)
from billing.model.tables import TABLES

ENUMS = [value for value in vars(codes).values() if isinstance(value, type) and issubclass(value, StrEnum)]
PROFILE_ONLY = {SubscriptionStatus.TRIAL, SubscriptionStatus.NONE, SubscriptionStatus.PARKED}
LISTED = [
    ("documents", "kind", set(DocumentKind)),
    ("drafts", "kind", set(DocumentKind)),
    ("documents", "status", set(DocumentStatus)),
    ("lines", "kind", set(LineKind)),
    ("dues", "kind", set(SCHEDULED)),
    ("draft_lines", "due_kind", set(SCHEDULED)),
    ("taxes", "reason", set(TaxReason)),
    ("cycles", "term", set(Term)),
    # nothing ends a subscription without a status: the description leaves the safeguard out
    ("cycles", "fee_reason", set(FeeReason) - {FeeReason.ENDED}),
    ("cycles", "status", set(SubscriptionStatus) - PROFILE_ONLY),
    ("packages", "status", set(SubscriptionStatus) - PROFILE_ONLY),
    # a parked account has a status in its profile since profiles show them, and the description none
    ("profile", "status", set(SubscriptionStatus) - {SubscriptionStatus.PARKED}),
    ("packages", "change_reason", {DecisionKind.AUTO_UPGRADE, DecisionKind.UPGRADE, DecisionKind.DOWNGRADE}),
    ("decisions", "outcome", set(Outcome) - {Outcome.PENDING}),
    ("decisions", "flags", set(DecisionFlag)),
    ("unbilled", "reason", set(UnbilledReason)),
    ("balances", "status", set(BalanceStatus)),
    ("collections", "age", set(Age)),
    ("mails", "status", set(MailStatus)),
    ("reminders", "status", set(MailStatus)),
    ("allocations", "source_kind", set(AllocationSource)),
    ("journal", "kind", set(PostingKind)),
    ("journal", "ledger_account", set(LedgerAccount)),
]


def listed(description: str) -> set[str]:
    """The longest list of codes in a description."""
    plain = re.sub(r" \([^)]*\)", "", description)
    lists = re.findall(r"(?:\w+, )*\w+ or \w+|\w+(?:, \w+)+", plain)
    return set(re.split(r", | or ", max(lists, key=len)))


@pytest.mark.parametrize(("table", "column", "expected"), LISTED)
def test_a_description_lists_the_codes_of_its_column(table: str, column: str, expected: set[str]) -> None:
    description = next(each.description for each in TABLES[table].columns if each.name == column)
    assert listed(description) == expected


def test_a_decision_is_of_a_kind_that_the_description_names_or_leaves_open() -> None:
    description = next(each.description for each in TABLES["decisions"].columns if each.name == "kind")
    assert listed(description) <= set(DecisionKind)
    assert set(REQUEST_KINDS) == set(DecisionKind) - {DecisionKind.AUTO_UPGRADE}


@pytest.mark.parametrize("codes_of_a_column", ENUMS)
def test_a_code_is_the_text_of_its_name(codes_of_a_column: type[StrEnum]) -> None:
    # The codes of a tax category are those of EN 16931.
    if codes_of_a_column not in (Age, TaxCategory):
        assert [code.value for code in codes_of_a_column] == [code.name.lower() for code in codes_of_a_column]


@pytest.mark.parametrize("codes_of_a_column", ENUMS)
def test_polars_takes_a_code_as_its_text(codes_of_a_column: type[StrEnum]) -> None:
    texts = pl.DataFrame({"code": [code.value for code in codes_of_a_column]})
    for code in codes_of_a_column:
        found = texts.filter(pl.col("code") == code).with_columns(written=pl.lit(code))
        assert found.schema == {"code": pl.String, "written": pl.String}
        assert found.row(0) == (code.value, code.value)
    answers = {code: code for code in codes_of_a_column}
    replaced = texts.select(pl.col("code").replace_strict(answers, return_dtype=pl.String))
    assert replaced.equals(texts)
    assert texts.select(pl.col("code").is_in(list(codes_of_a_column)).all()).item()


def test_a_refused_first_subscription_parks_its_account_with_the_reason_of_the_refusal() -> None:
    both = set(ParkedReason) & set(DecisionReason)
    assert {str(reason) for reason in both} == {
        *("unknown_package", "package_not_sold_yet", "not_sold_in_currency", "before_billing_start"),
    }
