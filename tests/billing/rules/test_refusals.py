"""Why a request is refused: the first rule of a table that holds, and every reason has its words."""

from datetime import UTC, date, datetime

import polars as pl

from billing.model.catalogue import Catalogue
from billing.model.codes import DecisionReason
from billing.rules import decisions
from billing.rules.refusals import (
    first_that_holds,
    refusal_at_close,
    refused_after_close,
    voided,
    without_decided_voids,
)

CHANGE = {
    "kind": "downgrade",
    "rank": 0,
    "current_rank": 1,
    "terms_key": "k",
    "term": "monthly",
    "monthly": 1,
    "yearly": None,
    "is_hidden": False,
    "upgraded": None,
    "fits": True,
}
SCHEMA = {"rank": pl.Int64, "terms_key": pl.String, "upgraded": pl.Boolean, "fits": pl.Boolean} | dict.fromkeys(
    ("monthly", "yearly"), pl.Int64
)


def at_close(**change: object) -> str | None:
    """The refusal of a downgrade that would be valid but for what is named."""
    reason: str | None = pl.DataFrame([CHANGE | change], schema_overrides=SCHEMA).select(refusal_at_close()).item()
    return reason


def test_the_first_rule_that_holds_gives_the_reason_and_a_rule_of_nothing_does_not() -> None:
    frame = pl.DataFrame({"a": [True, True, False, None], "b": [False, True, True, None]})
    found = frame.select(
        first_that_holds([(pl.col("a"), DecisionReason.ON_HOLD), (pl.col("b"), DecisionReason.NOT_HELD)])
    ).to_series()
    assert found.to_list() == ["on_hold", "on_hold", "not_held", None]


def test_a_package_change_is_refused_at_the_close_by_the_first_reason() -> None:
    assert at_close() is None
    assert at_close(rank=None, terms_key=None) == "unknown_package"
    assert at_close(is_hidden=True, terms_key=None) == "package_hidden"
    assert at_close(terms_key=None, fits=False) == "package_not_sold_yet"
    assert at_close(monthly=None, term="yearly") == "not_sold_in_currency"
    assert at_close(term="yearly") == "no_yearly_price"
    assert at_close(rank=1) == "not_a_downgrade"
    assert at_close(kind="upgrade", rank=1) == "not_an_upgrade"
    assert at_close(upgraded=True, fits=False) == "automatic_upgrade"
    assert at_close(fits=False) == "usage_exceeds_package"
    assert at_close(kind="upgrade", rank=2, fits=False, upgraded=True) is None, "only a downgrade has to fit"


def answers(*rows: tuple[str, str, str, int, date | None]) -> pl.DataFrame:
    """Answers as `Lives.answers`: request_id, kind, outcome, day of January, effective_on."""
    return pl.DataFrame(
        [
            {
                "request_id": name,
                "subscription_id": "acme/1",
                "at": datetime(2026, 1, day, tzinfo=UTC),
                "on": date(2026, 1, day),
                "kind": kind,
                "outcome": outcome,
                "reason": "pending",
                "effective_on": effective_on,
            }
            for name, kind, outcome, day, effective_on in rows
        ],
        schema_overrides={"effective_on": pl.Date},
    )


CLOSE = date(2026, 1, 31)


def test_a_cancellation_hold_or_refund_voids_what_was_pending_before_it() -> None:
    for kind, reason in (("cancel", "cancellation"), ("hold", "hold"), ("refund", "refund")):
        found = voided(
            answers(
                ("before", "upgrade", "pending", 5, CLOSE),
                ("stop", kind, "approved", 10, None),
                ("after", "upgrade", "pending", 15, CLOSE),
            )
        )
        reasons = dict(found.select("request_id", pl.struct("outcome", "reason", "effective_on")).iter_rows())
        assert reasons["before"] == {"outcome": "superseded", "reason": f"voided_by_{reason}", "effective_on": None}
        assert reasons["after"]["outcome"] == "pending"
    refused = voided(answers(("one", "upgrade", "pending", 5, CLOSE), ("stop", "cancel", "refused", 10, None)))
    assert refused["outcome"].to_list() == ["pending", "refused"], "a refused cancellation voids nothing"


def test_what_becomes_known_after_the_close_is_refused_unless_it_was_decided_there() -> None:
    asked = answers(("late", "upgrade", "pending", 5, CLOSE), ("decided", "upgrade", "pending", 6, CLOSE))
    closed = pl.DataFrame({"subscription_id": ["acme/1"], "billing_date": [CLOSE]})
    found = refused_after_close(asked, closed, pl.Series(["decided"]))
    assert found.select("request_id", "outcome", "reason", "effective_on").rows() == [
        ("late", "refused", "known_after_the_close", None)
    ]
    assert refused_after_close(asked, closed.clear(), pl.Series(dtype=pl.String)).is_empty()
    void = asked.with_columns(outcome=pl.lit("superseded"))
    assert without_decided_voids(void, pl.Series(["decided"]))["request_id"].to_list() == ["late"]


def test_every_reason_of_a_refusal_has_its_words(ref_1: Catalogue) -> None:
    source = [reason for _, reason in decisions._SENTENCES]
    for change in ({"rank": None}, {"terms_key": None}, {"rank": 1}, {"upgraded": True}, {"fits": False}):
        assert at_close(**change) in source
