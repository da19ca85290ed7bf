"""Reader of the table from which a business moves in: accounts, requests and opening balances in one (rule 38)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from billing.inputs.accounts import ACCOUNT_COLUMNS
from billing.inputs.input_files import read_table_as_text
from billing.inputs.opening_balances import OPENING_COLUMNS
from billing.inputs.quantities import named_quantities
from billing.inputs.row_checks import (
    RowRule,
    card_number_rule,
    control_characters_rule,
    first_wrong_rule,
    found_text,
    hides_card_number,
    missing_rule,
    not_a_day_rule,
    one_of_rule,
    parse_day,
    parse_money,
    refuse_wrong_rows,
    unparseable_rule,
)
from billing.model.catalogue import Catalogue
from billing.model.codes import Channel, DecisionKind, GrantKind, RejectReason, Term

SUBSCRIPTION_COLUMNS: Final = (
    "package",
    "term",
    "trial_days",
    "started_on",
    "billed_through",
    "usage_from",
    "held_on",
    "cancelled_on",
    "coupon",
    "add_ons",
)
BALANCE_COLUMNS: Final = ("balance", "balance_on", "reference")
CREDIT_COLUMNS: Final = ("credits", "credits_expire_on")
_DAYS: Final = (
    "started_on",
    "billed_through",
    "usage_from",
    "held_on",
    "cancelled_on",
    "balance_on",
    "credits_expire_on",
)
_OF_A_SUBSCRIPTION: Final = ("package", "term", "trial_days", "billed_through", "usage_from", "coupon", "add_ons")
_REQUESTS: Final = (
    (DecisionKind.SUBSCRIBE, "started_on", Channel.SUPPORT),
    (DecisionKind.HOLD, "held_on", Channel.SUPPORT),
    (DecisionKind.CANCEL, "cancelled_on", Channel.EMAIL),
)


@dataclass(frozen=True)
class MoveIn:
    """What one table becomes, as text.

    Attributes
    ----------
    accounts
        The columns of accounts, and further columns of the table.
    requests
        Members of requests: `subscribe`, and `hold` or `cancel` where the table has their day.
    opening_balances
        OPENING_COLUMNS.
    credit_grants
        Columns of credit_grants: what is left of prepaid credits.
    """

    accounts: pl.DataFrame
    requests: pl.DataFrame
    opening_balances: pl.DataFrame
    credit_grants: pl.DataFrame


def read_move_in(path: Path, catalogue: Catalogue, known: pl.Series) -> MoveIn:
    """Read the table (.csv, .jsonl or .parquet): a row per account; nothing of it counts where one row is wrong.

    Columns are those of accounts, SUBSCRIPTION_COLUMNS, BALANCE_COLUMNS and CREDIT_COLUMNS. An account without a
    package has no subscription. An opening balance without `balance_on` is of the first day that can be billed here,
    and so are prepaid credits.

    Parameters
    ----------
    known
        account_id: accounts that are there already.

    Raises
    ------
    RefusedError
        Naming the rows that are wrong, with what was found and what was expected.
    """
    columns = [*ACCOUNT_COLUMNS, *SUBSCRIPTION_COLUMNS, *BALANCE_COLUMNS, *CREDIT_COLUMNS]
    frame, further = read_table_as_text(path, columns, "account_id", catalogue.encoding)
    frame = frame.with_columns(
        hides_card_number(frame),
        *(parse_day(name).alias(f"_{name}") for name in _DAYS),
        _named=pl.col("account_id").is_in(known.implode()),
        _repeated=pl.col("account_id").is_duplicated(),
        _add_ons=named_quantities(frame["add_ons"]),
    )
    checked = first_wrong_rule(frame, *_rules(catalogue))
    refuse_wrong_rows(checked, f"{path}: nothing is moved in", "one per account")
    return MoveIn(
        accounts=checked.select(*ACCOUNT_COLUMNS, *further),
        requests=_requests(checked, catalogue),
        opening_balances=_opening_balances(checked, catalogue),
        credit_grants=_credit_grants(checked, catalogue),
    )


def _rules(catalogue: Catalogue) -> list[RowRule]:
    has_package = pl.col("package").is_not_null()
    packages = [package.name for package in catalogue.packages]
    add_ons = next((add_on.name for add_on in catalogue.add_ons), "dedicated_ip")
    start = catalogue.policy.billing_start
    of_subscription = [name for name in SUBSCRIPTION_COLUMNS if name != "package"]
    lonely = pl.coalesce(
        pl.when(pl.col(name).is_not_null()).then(pl.format(f"{name}: found '{{}}'", name)) for name in of_subscription
    )
    return [
        unparseable_rule(),
        missing_rule("account_id"),
        *control_characters_rule(("account_id", "reference"), [*ACCOUNT_COLUMNS, *SUBSCRIPTION_COLUMNS]),
        card_number_rule("none"),
        (
            RejectReason.CONFLICTING,
            pl.col("_named"),
            found_text("account_id", "a new account: it has a row in accounts already, and nothing is overwritten"),
        ),
        (RejectReason.CONFLICTING, pl.col("_repeated"), found_text("account_id", "a row for each account")),
        one_of_rule("package", packages),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            ~pl.col("coupon").is_in([coupon.name for coupon in catalogue.coupons]),
            found_text("coupon", "a coupon of the catalogue"),
        ),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            pl.col("add_ons").is_not_null() & ~_names_only(catalogue),
            found_text("add_ons", f'add-ons of the catalogue with whole quantities, such as {{"{add_ons}": 2}}'),
        ),
        (RejectReason.MISSING_FIELD, ~has_package & lonely.is_not_null(), pl.format("{} without a package", lonely)),
        *not_a_day_rule({name: f"_{name}" for name in _DAYS}),
        (
            RejectReason.MISSING_FIELD,
            has_package & pl.col("started_on").is_null(),
            pl.lit("started_on: found nothing, expected the day on which the subscription started"),
        ),
        (
            RejectReason.MISSING_FIELD,
            has_package & (pl.col("_started_on") < start) & pl.col("billed_through").is_null(),
            pl.format(
                "billed_through: found nothing, expected the day up to which {} was billed elsewhere, {} or later",
                "account_id",
                pl.lit(start.isoformat()),
            ),
        ),
        one_of_rule("term", tuple(Term)),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            (pl.col("_held_on") < pl.col("_started_on")) | (pl.col("_cancelled_on") < pl.col("_started_on")),
            found_text("started_on", "a day not after held_on and cancelled_on"),
        ),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            pl.col("balance").is_not_null() & parse_money("balance").is_null(),
            found_text("balance", "an amount such as 120.50, below 0 in credit"),
        ),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            pl.col("credits").is_not_null() & ~(parse_money("credits") >= 0).fill_null(value=False),
            found_text("credits", "an amount such as 50.00, what is left of prepaid credits"),
        ),
    ]


def _names_only(catalogue: Catalogue) -> pl.Expr:
    """Whether `_add_ons` names add-ons of the catalogue only, each with a quantity."""
    known = [add_on.name for add_on in catalogue.add_ons]
    named = pl.col("_add_ons").str.json_decode(pl.List(pl.Struct({"name": pl.String, "quantity": pl.Int64})))
    return named.list.eval(pl.element().struct.field("name").is_in(known)).list.all().fill_null(value=False)


def _requests(rows: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Requests at noon of their days; the stop of a subscription comes a second after what is of the same day."""
    asked = rows.filter(pl.col("package").is_not_null())
    nothing = pl.lit(None, pl.String)
    parts = []
    for place, (kind, day, channel) in enumerate(_REQUESTS):
        noon = pl.col(f"_{day}").cast(pl.Datetime("us")) + pl.duration(hours=12, seconds=place)
        at = noon.dt.replace_time_zone(catalogue.time_zone).dt.convert_time_zone("UTC")
        subscribes = kind == DecisionKind.SUBSCRIBE
        parts.append(
            asked.filter(pl.col(day).is_not_null()).select(
                request_id=pl.format("move-in/{}/{}", "account_id", pl.lit(kind)),
                account_id="account_id",
                at=at.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
                kind=pl.lit(kind),
                channel=pl.lit(channel),
                **{name: pl.col(name) if subscribes else nothing for name in _OF_A_SUBSCRIPTION},
            )
        )
    requests = pl.concat(parts).sort("account_id", "at")
    # A table without them gives the file that it gave before there were any.
    return requests.drop(name for name in ("coupon", "add_ons") if requests[name].null_count() == requests.height)


def _credit_grants(rows: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    return (
        rows.filter(parse_money("credits") > 0)
        .select(
            "account_id",
            grant_id=pl.format("move-in/{}", "account_id"),
            amount="credits",
            currency=pl.col("currency").str.to_uppercase(),
            granted_on=pl.lit(catalogue.policy.billing_start.isoformat()),
            expires_on="credits_expire_on",
            kind=pl.lit(GrantKind.GRANTED),
        )
        .sort("account_id")
    )


def _opening_balances(rows: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    is_zero = pl.col("balance").str.contains(r"^-?0*(\.0*)?$")
    return (
        rows.filter(pl.col("balance").is_not_null() & ~is_zero)
        .select(
            "account_id",
            "reference",
            currency=pl.col("currency").str.to_uppercase().fill_null(catalogue.currency),
            amount="balance",
            on=pl.col("balance_on").fill_null(catalogue.policy.billing_start.isoformat()),
        )
        .select(OPENING_COLUMNS)
        .sort("account_id")
    )
