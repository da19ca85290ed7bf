"""Reader of requests: what customers ask for, and when (rule 28)."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import polars as pl

from billing.inputs.checked_rows import InputTable, counting_rows, gathered
from billing.inputs.input_files import input_files
from billing.inputs.quantities import COUNT_EXPECTED, named_quantities, parse_count
from billing.inputs.row_checks import (
    RowRule,
    RowsRead,
    card_number_rule,
    control_characters_rule,
    first_wrong_rule,
    found_text,
    hides_card_number,
    local_date,
    missing_rule,
    not_a_day_rule,
    not_an_instant_rule,
    one_of_rule,
    parse_day,
    parse_instant,
    too_long_rule,
    unparseable_rule,
)
from billing.model.catalogue import Catalogue
from billing.model.codes import REQUEST_KINDS, REQUESTED_CHANGES, Channel, DecisionKind, RejectReason, Term
from billing.store.home import Home

REQUEST_MEMBERS: Final = (
    "request_id",
    "account_id",
    "at",
    "kind",
    "channel",
    "package",
    "term",
    "trial_days",
    "reason",
    "brand",
    "last4",
    "withdraws",
    "billed_through",
    "usage_from",
    "coupon",
    "add_on",
    "quantity",
    "add_ons",
)
# What a request of some kinds has to name.
_NAMED_BY: Final = (
    ("coupon", "a coupon", (DecisionKind.REDEEM, DecisionKind.REVOKE)),
    ("add_on", "an add-on", (DecisionKind.ADD, DecisionKind.REMOVE)),
)


def read_requests(
    home: Home,
    catalogue: Catalogue,
    known: pl.Series,
    noticed: RowsRead,
) -> pl.DataFrame:
    # Codes take a byte a row.
    codes = {"kind": REQUEST_KINDS, "channel": tuple(Channel), "term": tuple(Term)}
    stored: dict[str, str | pl.Expr] = {
        "at": "instant",
        "reason": "stated_reason",
        "quantity": pl.col("counted").alias("quantity"),
        "add_ons": pl.col("named_add_ons").alias("add_ons"),
        **{name: pl.col(name).cast(pl.Enum([str(value) for value in values])) for name, values in codes.items()},
    }
    table = InputTable(
        input_files(home, "requests"),
        REQUEST_MEMBERS,
        "request_id",
        home,
        catalogue.encoding,
        partial(_checked, _rules()),
        kept=[stored.get(member, member) for member in REQUEST_MEMBERS],
    )
    counting = counting_rows(table, known, [member for member in REQUEST_MEMBERS if member != "request_id"], noticed)
    order = counting.select(pl.arg_sort_by("instant", "request_id")).to_series()
    return gathered(counting, order).select(
        "request_id",
        "account_id",
        at="instant",
        on=local_date("instant", catalogue),
        kind=pl.col("kind").cast(pl.String),
        channel=pl.col("channel").cast(pl.String),
        package="package",
        term=pl.col("term").cast(pl.String),
        trial_days=_days().fill_null(0),
        reason=pl.col("stated_reason"),
        brand="brand",
        last4="last4",
        withdraws="withdraws",
        billed_through=parse_day("billed_through"),
        usage_from=parse_day("usage_from"),
        coupon="coupon",
        add_on="add_on",
        quantity="quantity",
        add_ons="add_ons",
    )


def _days() -> pl.Expr:
    return pl.col("trial_days").cast(pl.Int32, strict=False)


def _checked(rules: Sequence[RowRule], frame: pl.DataFrame) -> pl.DataFrame:
    parsed = frame.with_columns(
        hides_card_number(frame),
        instant=parse_instant("at"),
        days=_days(),
        term=pl.col("term").fill_null(Term.MONTHLY),
        moved_on=parse_day("billed_through"),
        measured_on=parse_day("usage_from"),
        counted=parse_count("quantity"),
        named_add_ons=named_quantities(frame["add_ons"]),
    )
    return first_wrong_rule(parsed, *rules)


def _rules() -> list[RowRule]:
    kind = pl.col("kind")
    return [
        unparseable_rule(),
        missing_rule("request_id", "account_id", "at", "kind", "channel"),
        *control_characters_rule(("request_id", "account_id", "coupon", "add_on"), REQUEST_MEMBERS),
        (
            RejectReason.MISSING_FIELD,
            kind.is_in([DecisionKind.SUBSCRIBE, *REQUESTED_CHANGES]) & pl.col("package").is_null(),
            pl.format("package: found nothing, expected the name of a package: the kind is {}", "kind"),
        ),
        (
            RejectReason.MISSING_FIELD,
            (kind == DecisionKind.WITHDRAW) & pl.col("withdraws").is_null(),
            pl.lit("withdraws: found nothing, expected the request_id of the request that is taken back"),
        ),
        (
            RejectReason.MISSING_FIELD,
            pl.col("usage_from").is_not_null() & pl.col("billed_through").is_null(),
            pl.lit(
                "billed_through: found nothing beside usage_from, expected the day up to which another system billed"
            ),
        ),
        *(
            (
                RejectReason.MISSING_FIELD,
                kind.is_in(kinds) & pl.col(column).is_null(),
                pl.format(f"{column}: found nothing, expected the name of {what}: the kind is {{}}", "kind"),
            )
            for column, what, kinds in _NAMED_BY
        ),
        too_long_rule(REQUEST_MEMBERS),
        *not_an_instant_rule(),
        one_of_rule("kind", REQUEST_KINDS),
        one_of_rule("channel", tuple(Channel)),
        one_of_rule("term", tuple(Term)),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            pl.col("trial_days").is_not_null() & ~pl.col("days").is_between(0, 3660).fill_null(value=False),
            found_text("trial_days", "a whole number from 0 to 3660"),
        ),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            pl.col("last4").is_not_null() & ~pl.col("last4").str.contains(r"^[0-9]{4}$"),
            found_text("last4", "the last four digits of a card"),
        ),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            pl.col("quantity").is_not_null() & pl.col("counted").is_null(),
            found_text("quantity", COUNT_EXPECTED),
        ),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            pl.col("add_ons").is_not_null() & pl.col("named_add_ons").is_null(),
            found_text("add_ons", 'names of add-ons with whole quantities, such as {"dedicated_ip": 2}'),
        ),
        *not_a_day_rule({"billed_through": "moved_on", "usage_from": "measured_on"}),
        card_number_rule(),
    ]
