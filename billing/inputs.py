"""What others write beside usage: accounts, requests, payments and tax rates (rules 11, 24, 26 and 27).

A row that is wrong is set aside with its reason and never stops the rest. A file that cannot be read at all, or a
wrong tax table, is refused before anything is computed: a cancellation or a tax left out is money that is wrong.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Final

import polars as pl

from billing.cards import MAYBE_CARD_NUMBER, contains_card_number, mask_card_number_column
from billing.catalogue import Catalogue
from billing.errors import RefusedError
from billing.home import Home
from billing.input_files import input_files, read_rows
from billing.regions import with_region_keys
from billing.tables import INSTANT, MONEY, REJECTS
from billing.tax_table import read_tax_rates
from billing.words import counted

ACCOUNT_COLUMNS: Final = (
    "account_id",
    "name",
    "email",
    "address_line1",
    "address_line2",
    "city",
    "region",
    "postal_code",
    "country",
    "tax_id",
    "tax_exempt",
    "locale",
)
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
)
REQUEST_KINDS: Final = (
    "subscribe",
    "upgrade",
    "downgrade",
    "cancel",
    "hold",
    "resume",
    "refund",
    "change_card",
    "transfer",
    "split_payment",
    "withdraw",
)
CHANNELS: Final = ("self_service", "support", "email")
PAYMENT_MEMBERS: Final = (
    "payment_id",
    "account_id",
    "document",
    "at",
    "amount",
    "currency",
    "status",
    "card_brand",
    "card_last4",
)
PAYMENT_STATUSES: Final = ("succeeded", "failed", "refunded", "disputed")
INPUTS: Final = ("accounts", "requests", "payments")
"""The tables that are one file or a folder of them."""

LONGEST: Final = {
    "account_id": 200,
    "name": 500,
    "email": 320,
    "address_line1": 300,
    "address_line2": 300,
    "city": 200,
    "region": 100,
    "postal_code": 40,
    "country": 100,
    "tax_id": 100,
    "locale": 100,
    "request_id": 200,
    "withdraws": 200,
    "package": 200,
    "reason": 1_000,
    "brand": 100,
    "payment_id": 200,
    "document": 200,
    "card_brand": 100,
    "card_last4": 100,
}
"""Characters that a text may have, so that it fits the pages and the names of files."""

# a reason, when it holds, and in words the field at fault, what was found and what was expected
_Rule = tuple[str, pl.Expr, pl.Expr]
_LONGEST_DETAIL: Final = 300
_BEHIND_ESCAPES: Final = "(a card number behind escapes: not kept)"
_ESCAPE: Final = re.compile(r"\\u([0-9a-fA-F]{4})")
_CODE_POINTS: Final = {chr(each): f"U+{each:04X}" for each in (*range(0x20), *range(0x7F, 0xA0))}
_RFC3339 = r"^(?:19[7-9]\d|20\d\d|21\d\d)-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$"
# an escape may hide a digit of a value, and an exponent stand for its last ones; all other digits stand in the text
_MAYBE_HIDES_CARD_NUMBER: Final = rf"{MAYBE_CARD_NUMBER}|\\|[:,\[]\s*-?[0-9][0-9.]*[eE]"
_ZONELESS = r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?$"


@dataclass(frozen=True)
class Inputs:
    """The valid rows, what was set aside, and what to tell.

    Attributes
    ----------
    accounts
        ACCOUNT_COLUMNS as text; tax_exempt Boolean. One row per account, sorted.
    requests
        request_id, account_id, at (UTC), on (local date), kind, channel, package, term, trial_days (Int32), reason,
        brand, last4, withdraws; sorted by at, request_id.
    payments
        payment_id, account_id, document, at (UTC), on (local date), amount (MONEY), currency, status, card_brand,
        card_last4; sorted by at, payment_id.
    tax_rates
        country, region (null: the whole country), rate (RATE), name, effective_from; sorted.
    rejects
        As the table REJECTS.
    unusable
        The files that hold rows of which none counts, in words.
    known_accounts
        account_id, sorted: accounts with a row, and those to which something was issued.
    """

    accounts: pl.DataFrame
    requests: pl.DataFrame
    payments: pl.DataFrame
    tax_rates: pl.DataFrame
    rejects: pl.DataFrame
    warnings: tuple[str, ...]
    unusable: tuple[str, ...] = ()
    known_accounts: pl.Series = field(default_factory=lambda: pl.Series("account_id", dtype=pl.String))


@dataclass
class _Noticed:
    """What is told of the rows beside what they hold."""

    rejects: list[pl.DataFrame] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)

    def set_aside(self, frame: pl.DataFrame, id_column: str | None) -> None:
        """Set the rejected rows of `frame` aside, and name the files that have no other rows (rule 22)."""
        rejects = _set_aside(frame, id_column)
        self.rejects.append(rejects)
        reasons = rejects.group_by("file", "reason").agg(told=pl.len()).sort("file", "reason")
        files = (
            reasons.group_by("file", maintain_order=True)
            .agg(rejected=pl.col("told").sum(), why=pl.format("{} {}", "reason", "told").str.join(", "))
            .join(frame.group_by("file").agg(rows=pl.len()), on="file", maintain_order="left")
            .filter(pl.col("rows") == pl.col("rejected"))
        )
        self.unusable += [
            f"{file}: none of its rows counts: {why}"
            for file, why, rows in files.select("file", "why", "rows").iter_rows()
        ]


def read_inputs(home: Home, catalogue: Catalogue, billed: pl.Series | None = None) -> Inputs:
    """Read everything in the landing folder that is no usage and no catalogue.

    Parameters
    ----------
    billed
        account_id: accounts to which something was issued. Their requests and payments count without a row, too.

    Raises
    ------
    RefusedError
        When there is no accounts file, a file cannot be read, or the tax table is wrong; every problem is named.
    """
    noticed = _Noticed()
    accounts = _accounts(home, catalogue, noticed)
    tax_rates = read_tax_rates(home.landing / "tax_rates.csv", catalogue.encoding)
    noticed.warnings += [*_untaxed(accounts, tax_rates), *_without_regional_rate(accounts, tax_rates)]
    ids = accounts["account_id"]
    known = ids if billed is None else pl.concat([ids, billed]).unique().sort()
    requests = _requests(home, catalogue, known, noticed)
    payments = _payments(home, catalogue, known, noticed)
    return Inputs(
        accounts=accounts,
        requests=requests,
        payments=payments,
        tax_rates=tax_rates,
        rejects=REJECTS.conform(pl.concat([REJECTS.empty(), *noticed.rejects])),
        warnings=tuple(noticed.warnings),
        unusable=tuple(noticed.unusable),
        known_accounts=known,
    )


def end_of_day(day: date, catalogue: Catalogue) -> datetime:
    """The instant at which a local day ends in the billing time zone; what happens from then on is after it."""
    return datetime.combine(day + timedelta(days=1), time.min, tzinfo=catalogue.zone)


def parse_instant(column: str) -> pl.Expr:
    """RFC 3339 text as an instant, exact to the nanosecond; null where it is none."""
    text = pl.col(column).str.to_uppercase().str.replace(" ", "T", literal=True)
    return pl.when(text.str.contains(_RFC3339)).then(
        text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_zone="UTC", time_unit="ns", strict=False)
    )


def _accounts(home: Home, catalogue: Catalogue, noticed: _Noticed) -> pl.DataFrame:
    files = input_files(home, "accounts")
    if not files:
        raise RefusedError(
            f"{home.landing}: there are no accounts: expected accounts.csv, accounts.parquet or accounts.jsonl, or a "
            "folder accounts of such files"
        )
    frame = read_rows(files, ACCOUNT_COLUMNS, "account_id", home, catalogue.encoding, noticed.warnings)
    exempt = pl.col("tax_exempt").str.to_lowercase()
    frame = _judged(
        frame.with_columns(_has_card_number(frame)),
        _unparseable(),
        _missing("account_id"),
        *_control_characters(("account_id", "name"), ACCOUNT_COLUMNS),
        _too_long(ACCOUNT_COLUMNS),
        _one_of("tax_exempt", ["true", "false", "1", "0", "yes", "no"], exempt),
        _card_number(),
    )
    noticed.set_aside(frame, id_column=None)
    account = pl.col("account_id")
    valid = frame.filter(pl.col("reason").is_null()).sort(account, maintain_order=True)
    repeated = valid.filter(account == account.shift())["account_id"].unique().sort()
    noticed.warnings += [
        f"{files[0].name}: account {account_id} has more than one row: the last one holds"
        for account_id in repeated[:20]
    ]
    if len(repeated) > 20:
        noticed.warnings.append(
            f"{files[0].name}: {counted(len(repeated) - 20, 'more account')} with more than one row"
        )
    return (
        valid.filter(account.ne_missing(account.shift(-1)))
        .select(
            *(pl.col(column) for column in ACCOUNT_COLUMNS if column not in ("country", "tax_exempt")),
            pl.col("country").str.to_uppercase(),
            exempt.is_in(["true", "1", "yes"]).fill_null(False).alias("tax_exempt"),
        )
        .select(ACCOUNT_COLUMNS)
    )


def _untaxed(accounts: pl.DataFrame, tax_rates: pl.DataFrame) -> list[str]:
    """Say which accounts no tax can be charged to, when there are taxes and an account has no country."""
    nowhere = accounts.filter(pl.col("country").is_null())["account_id"]
    if tax_rates.is_empty() or nowhere.is_empty():
        return []
    further = f" and {len(nowhere) - 5} more" if len(nowhere) > 5 else ""
    return [
        f"accounts: found no country of {', '.join(nowhere[:5])}{further}, expected one in the column country: "
        "no tax is charged to them"
    ]


def _without_regional_rate(accounts: pl.DataFrame, tax_rates: pl.DataFrame) -> list[str]:
    """Say, per country that has regional rates, which accounts are in none of these regions."""
    rated = with_region_keys(tax_rates.filter(pl.col("region").is_not_null()), "key").select("country", "region", "key")
    placed = with_region_keys(accounts.join(rated, on="country", how="semi"), "key")
    found = []
    outside = placed.join(rated, on=["country", "key"], how="anti").sort("country", "account_id")
    for (country,), there in outside.group_by("country", maintain_order=True):
        told = [
            f"{account_id} ({'no region' if region is None else repr(region)})"
            for account_id, region in there.select("account_id", "region").head(5).iter_rows()
        ]
        further = f" and {len(there) - 5} more" if len(there) > 5 else ""
        regions = rated.filter(pl.col("country") == country)["region"].unique().sort()
        found.append(
            f"accounts: found no rate for the region of {', '.join(told)}{further}, expected one of the regions of "
            f"{country} in the tax table ({', '.join(regions)}): they pay the rates of the whole country only"
        )
    return found


def _requests(
    home: Home,
    catalogue: Catalogue,
    known: pl.Series,
    noticed: _Noticed,
) -> pl.DataFrame:
    frame = read_rows(
        input_files(home, "requests"), REQUEST_MEMBERS, "request_id", home, catalogue.encoding, noticed.warnings
    )
    frame = frame.with_columns(
        _has_card_number(frame),
        instant=parse_instant("at"),
        days=pl.col("trial_days").cast(pl.Int32, strict=False),
        term=pl.col("term").fill_null("monthly"),
    )
    kind = pl.col("kind")
    frame = _judged(
        frame,
        _unparseable(),
        _missing("request_id", "account_id", "at", "kind", "channel"),
        *_control_characters(("request_id", "account_id"), REQUEST_MEMBERS),
        (
            "missing_field",
            kind.is_in(["subscribe", "upgrade", "downgrade"]) & pl.col("package").is_null(),
            pl.format("package: found nothing, expected the name of a package: the kind is {}", "kind"),
        ),
        (
            "missing_field",
            (kind == "withdraw") & pl.col("withdraws").is_null(),
            pl.lit("withdraws: found nothing, expected the request_id of the request that is taken back"),
        ),
        _too_long(REQUEST_MEMBERS),
        *_not_an_instant(),
        _one_of("kind", REQUEST_KINDS),
        _one_of("channel", CHANNELS),
        _one_of("term", ["monthly", "yearly"]),
        (
            "impossible_value",
            pl.col("trial_days").is_not_null() & ~pl.col("days").is_between(0, 3660).fill_null(False),
            _found("trial_days", "a whole number from 0 to 3660"),
        ),
        (
            "impossible_value",
            pl.col("last4").is_not_null() & ~pl.col("last4").str.contains(r"^[0-9]{4}$"),
            _found("last4", "the last four digits of a card"),
        ),
        _card_number(),
        _unknown_account(known),
    )
    frame = _resolve_identity(frame, "request_id", [member for member in REQUEST_MEMBERS if member != "request_id"])
    noticed.set_aside(frame, "request_id")
    return (
        frame.filter(pl.col("reason").is_null() & ~pl.col("duplicate"))
        .select(
            "request_id",
            "account_id",
            at="instant",
            on=_local_date("instant", catalogue),
            kind="kind",
            channel="channel",
            package="package",
            term="term",
            trial_days=pl.col("days").fill_null(0),
            reason=pl.col("stated_reason"),
            brand="brand",
            last4="last4",
            withdraws="withdraws",
        )
        .sort("at", "request_id")
    )


def _payments(
    home: Home,
    catalogue: Catalogue,
    known: pl.Series,
    noticed: _Noticed,
) -> pl.DataFrame:
    frame = read_rows(
        input_files(home, "payments"), PAYMENT_MEMBERS, "payment_id", home, catalogue.encoding, noticed.warnings
    )
    is_amount = pl.col("amount").str.contains(r"^\d{1,15}(\.\d{1,4})?$")
    frame = frame.with_columns(
        _has_card_number(frame),
        instant=parse_instant("at"),
        money=pl.when(is_amount).then(pl.col("amount")).cast(MONEY, strict=False),
    )
    smallest = 10 ** (4 - catalogue.minor_units)
    amount = f"an amount in {catalogue.currency}, not below 0, of at most {catalogue.minor_units} decimals"
    frame = _judged(
        frame,
        _unparseable(),
        _missing("payment_id", "account_id", "document", "at", "amount", "currency", "status"),
        *_control_characters(("payment_id", "account_id", "document"), PAYMENT_MEMBERS),
        _too_long(PAYMENT_MEMBERS),
        *_not_an_instant(),
        (
            "impossible_value",
            pl.col("money").is_null() | (pl.col("money").to_physical() % smallest != 0),
            _found("amount", amount),
        ),
        _one_of("status", PAYMENT_STATUSES),
        _one_of("currency", [catalogue.currency]),
        _card_number(),
        _unknown_account(known),
    )
    frame = _resolve_identity(frame, "payment_id", [member for member in PAYMENT_MEMBERS if member != "payment_id"])
    noticed.set_aside(frame, "payment_id")
    return (
        frame.filter(pl.col("reason").is_null() & ~pl.col("duplicate"))
        .select(
            "payment_id",
            "account_id",
            "document",
            at="instant",
            on=_local_date("instant", catalogue),
            amount="money",
            currency="currency",
            status="status",
            card_brand="card_brand",
            card_last4="card_last4",
            file="file",
            row="row",
            text="text",
        )
        .sort("at", "payment_id")
    )


def _judged(frame: pl.DataFrame, *rules: _Rule) -> pl.DataFrame:
    """`frame` with `reason` and `detail` of the first rule whose condition holds, else null."""
    names = pl.coalesce(pl.when(condition.fill_null(False)).then(pl.lit(name)) for name, condition, _ in rules)
    details = pl.coalesce(pl.when(condition.fill_null(False)).then(detail) for _, condition, detail in rules)
    nothing = pl.lit(None, pl.String)
    if frame.is_empty():
        return frame.with_columns(reason=nothing, detail=nothing)
    judged = frame.with_columns(reason=names, detail=nothing)
    is_wrong = judged["reason"].is_not_null()
    if not is_wrong.any():
        return judged
    # few rows are wrong: only these are put in words
    words = judged.filter(is_wrong).select(details.alias("detail")).to_series()
    return judged.with_columns(judged["detail"].scatter(is_wrong.arg_true(), words))


def _unparseable() -> _Rule:
    is_json = pl.col("file").str.ends_with(".jsonl")
    what = pl.when(is_json).then(pl.lit("one JSON object a line")).otherwise(pl.lit("one field a column"))
    return "unparseable", ~pl.col("parsed"), pl.format("found a row that cannot be read, expected {}", what)


def _missing(*columns: str) -> _Rule:
    absent = pl.concat_str(
        [pl.when(pl.col(column).is_null()).then(pl.lit(column)) for column in columns],
        separator=", ",
        ignore_nulls=True,
    )
    condition = pl.any_horizontal(pl.col(columns).is_null())
    return "missing_field", condition, pl.format("{}: found nothing, expected a value", absent)


def _control_characters(names: Sequence[str], columns: Sequence[str]) -> list[_Rule]:
    """No control character may stand in ids and names; NUL, which a server's register cannot hold, in no column."""
    rules: list[_Rule] = []
    for column in ("stated_reason" if each == "reason" else each for each in columns):
        found = pl.col(column).str.extract(r"(\p{Cc})" if column in names else r"(\x00)")
        name = pl.lit(column.removeprefix("stated_"))
        detail = pl.format("{}: found the control character {}, expected text", name, found.replace(_CODE_POINTS))
        rules.append(("impossible_value", found.is_not_null(), detail))
    return rules


def _too_long(columns: Sequence[str]) -> _Rule:
    # `reason` is taken by the reason for setting a row aside
    read = {"stated_reason" if column == "reason" else column: column for column in columns if column in LONGEST}
    lengths = {name: pl.col(name).str.len_chars() for name in read}
    beyond = {name: length > LONGEST[read[name]] for name, length in lengths.items()}
    details = [
        pl.when(beyond[name]).then(
            pl.format(f"{read[name]}: found {{}} characters, expected at most {LONGEST[read[name]]}", length)
        )
        for name, length in lengths.items()
    ]
    return "too_long", pl.any_horizontal(*(each.fill_null(False) for each in beyond.values())), pl.coalesce(details)


def _not_an_instant() -> list[_Rule]:
    detail = _found("at", "a time with its offset, such as 2026-01-31T09:00:00Z")
    return [
        ("time_without_zone", pl.col("at").str.contains(_ZONELESS), detail),
        ("invalid_time", pl.col("instant").is_null(), detail),
    ]


def _one_of(column: str, options: Sequence[str], value: pl.Expr | None = None) -> _Rule:
    wrong = ~(pl.col(column) if value is None else value).is_in(options)
    return "impossible_value", wrong, _found(column, f"one of: {', '.join(options)}" if options[1:] else options[0])


def _unknown_account(known: pl.Series) -> _Rule:
    wrong = ~pl.col("account_id").is_in(known.implode())
    return "unknown_account", wrong, _found("account_id", "an account_id of the accounts file")


def _found(column: str, expected: str) -> pl.Expr:
    return pl.format(f"{column}: found '{{}}', expected {{}}", pl.col(column), pl.lit(expected))


def _card_number() -> _Rule:
    detail = pl.lit("found what is a card number, expected the brand and the last four digits at most")
    return "card_number", pl.col("has_card_number"), detail


def _has_card_number(frame: pl.DataFrame) -> pl.Series:
    """has_card_number: whether a row carries what is a card number (rule 11)."""
    values = pl.concat_str(pl.exclude("_place", "row", "text", "parsed", "file"), separator="\n", ignore_nulls=True)
    suspects = (
        frame.with_row_index("_place")
        .filter(pl.col("text").str.contains(_MAYBE_HIDES_CARD_NUMBER))
        .select("_place", whole=pl.concat_str("text", values, separator="\n", ignore_nulls=True))
        .filter(pl.col("whole").str.contains(MAYBE_CARD_NUMBER))
    )
    found = suspects.filter(pl.Series(map(contains_card_number, suspects["whole"]), dtype=pl.Boolean))
    nowhere = pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True)
    return nowhere.scatter(found["_place"], True).alias("has_card_number")


def _resolve_identity(frame: pl.DataFrame, identity: str, content: Sequence[str]) -> pl.DataFrame:
    """Mark repeats of an identity (rule 26): the first valid row holds, an equal one repeats it, another conflicts."""
    renamed = ["stated_reason" if column == "reason" else column for column in content]
    compared = ["instant" if column == "at" else "money" if column == "amount" else column for column in renamed]
    valid = pl.col("reason").is_null()
    # few rows repeat an identity: only these are compared, which takes far longer than to find them
    key = pl.when(valid).then(identity)
    repeated = frame.with_row_index("_place").filter(valid & key.is_duplicated())
    first = pl.struct(compared).first().over(identity, order_by="_place")
    is_first = pl.int_range(pl.len()).over(identity, order_by="_place") == 0
    judged = repeated.select(
        "_place",
        _repeats=~is_first & pl.struct(compared).eq_missing(first),
        _conflicts=~is_first & pl.struct(compared).ne_missing(first),
    )
    return (
        frame.with_row_index("_place")
        .join(judged, on="_place", how="left", maintain_order="left")
        .with_columns(
            duplicate=pl.col("_repeats").fill_null(False),
            reason=pl.when("_conflicts").then(pl.lit("conflicting")).otherwise("reason"),
            detail=pl.when("_conflicts")
            .then(pl.format(f"{identity}: found '{{}}' again with other content, expected each once", identity))
            .otherwise("detail"),
        )
        .drop("_place", "_repeats", "_conflicts")
    )


def _set_aside(frame: pl.DataFrame, id_column: str | None) -> pl.DataFrame:
    """Rejected rows as REJECTS, card numbers masked."""
    rejected = frame.filter(pl.col("reason").is_not_null())
    masked = {name: mask_card_number_column(rejected[name]) for name in ("text", "account_id", "detail")}
    places = rejected["has_card_number"].arg_true()
    before, after = rejected["text"].gather(places), masked["text"].gather(places)
    # an escape hides the number from masking, not from whoever reads it
    hidden = [
        one == other or contains_card_number(_without_escapes(other)) for one, other in zip(before, after, strict=True)
    ]
    text = masked["text"].scatter(places.filter(pl.Series(hidden, dtype=pl.Boolean)), _BEHIND_ESCAPES)
    return rejected.select(
        delivery_day=pl.lit(None, pl.Date),
        file="file",
        row="row",
        reason="reason",
        text=text,
        source=pl.lit(None, pl.String),
        id=mask_card_number_column(rejected[id_column]) if id_column else pl.lit(None, pl.String),
        account_id=masked["account_id"],
        metric=pl.lit(None, pl.String),
        quantity=pl.lit(None, REJECTS.schema["quantity"]),
        detail=masked["detail"].str.slice(0, _LONGEST_DETAIL),
    )


def _without_escapes(text: str) -> str:
    """JSON text with the characters that escapes such as \\u0034 stand for."""
    return _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)


def _local_date(column: str, catalogue: Catalogue) -> pl.Expr:
    return pl.col(column).dt.convert_time_zone(catalogue.time_zone).dt.date()


__all__ = ["INSTANT", "Inputs", "end_of_day", "parse_instant", "read_inputs"]
