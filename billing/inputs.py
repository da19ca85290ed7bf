"""What others write beside usage: accounts, requests, payments and tax rates (rules 11, 24, 26 and 27).

A row that is wrong is set aside with its reason and never stops the rest. A file that cannot be read at all, or a
wrong tax table, is refused before anything is computed: a cancellation or a tax left out is money that is wrong.
"""

import csv
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Final

import polars as pl
from polars.exceptions import ComputeError, NoDataError, PolarsError

from billing.cards import MAYBE_CARD_NUMBER, contains_card_number, mask_card_number_column, mask_card_numbers
from billing.catalogue import Catalogue
from billing.errors import Problem, RefusedError
from billing.home import Home
from billing.json_lines import read_json_lines
from billing.tables import INSTANT, MONEY, RATE, REJECTS
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
TAX_COLUMNS: Final = ("country", "region", "rate", "name", "effective_from")

TAX_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "country": pl.String,
    "region": pl.String,
    "rate": RATE,
    "name": pl.String,
    "effective_from": pl.Date,
}

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
_RFC3339 = r"^(?:19[7-9]\d|20\d\d|21\d\d)-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$"
# a member's name in a line of JSON, with what follows it
_MEMBER = r'"[^"\\]{1,60}"[ \t]*:'
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
        brand, last4; sorted by at, request_id.
    payments
        payment_id, account_id, document, at (UTC), on (local date), amount (MONEY), currency, status, card_brand,
        card_last4; sorted by at, payment_id.
    tax_rates
        country, region (null: the whole country), rate (RATE), name, effective_from; sorted.
    rejects
        As the table REJECTS.
    """

    accounts: pl.DataFrame
    requests: pl.DataFrame
    payments: pl.DataFrame
    tax_rates: pl.DataFrame
    rejects: pl.DataFrame
    warnings: tuple[str, ...]


def read_inputs(home: Home, catalogue: Catalogue) -> Inputs:
    """Read everything in the landing folder that is no usage and no catalogue.

    Raises
    ------
    RefusedError
        When there is no accounts file, a file cannot be read, or the tax table is wrong; every problem is named.
    """
    rejects: list[pl.DataFrame] = []
    warnings: list[str] = []
    accounts = _accounts(home, rejects, warnings)
    tax_rates = _tax_rates(home.landing / "tax_rates.csv")
    warnings += _untaxed(accounts, tax_rates)
    requests = _requests(home, catalogue, accounts, rejects, warnings)
    payments = _payments(home, catalogue, accounts, rejects, warnings)
    set_aside = pl.concat([REJECTS.empty(), *rejects], how="vertical") if rejects else REJECTS.empty()
    return Inputs(
        accounts=accounts,
        requests=requests,
        payments=payments,
        tax_rates=tax_rates,
        rejects=REJECTS.conform(set_aside),
        warnings=tuple(warnings),
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


def _accounts(home: Home, rejects: list[pl.DataFrame], warnings: list[str]) -> pl.DataFrame:
    found = [home.landing / f"accounts{ending}" for ending in (".csv", ".parquet", ".jsonl")]
    files = [path for path in found if path.is_file()]
    if not files:
        raise RefusedError(
            f"{home.landing}: there are no accounts: expected accounts.csv, accounts.parquet or accounts.jsonl"
        )
    frame = _read_all(files, ACCOUNT_COLUMNS, "account_id", home, warnings)
    exempt = pl.col("tax_exempt").str.to_lowercase()
    frame = _judged(
        frame.with_columns(_has_card_number(frame)),
        _unparseable(),
        _missing("account_id"),
        _too_long(ACCOUNT_COLUMNS),
        _one_of("tax_exempt", ["true", "false", "1", "0", "yes", "no"], exempt),
        _card_number(),
    )
    rejects.append(_set_aside(frame, id_column=None))
    account = pl.col("account_id")
    valid = frame.filter(pl.col("reason").is_null()).sort(account, maintain_order=True)
    repeated = valid.filter(account == account.shift())["account_id"].unique().sort()
    warnings += [
        f"{files[0].name}: account {account_id} has more than one row: the last one holds"
        for account_id in repeated[:20]
    ]
    if len(repeated) > 20:
        warnings.append(f"{files[0].name}: {counted(len(repeated) - 20, 'more account')} with more than one row")
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


def _requests(
    home: Home,
    catalogue: Catalogue,
    accounts: pl.DataFrame,
    rejects: list[pl.DataFrame],
    warnings: list[str],
) -> pl.DataFrame:
    frame = _read_all(_append_only(home, "requests"), REQUEST_MEMBERS, "request_id", home, warnings)
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
        (
            "missing_field",
            kind.is_in(["subscribe", "upgrade", "downgrade"]) & pl.col("package").is_null(),
            pl.format("package: found nothing, expected the name of a package: the kind is {}", "kind"),
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
        _unknown_account(accounts),
    )
    frame = _resolve_identity(frame, "request_id", [member for member in REQUEST_MEMBERS if member != "request_id"])
    rejects.append(_set_aside(frame, "request_id"))
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
        )
        .sort("at", "request_id")
    )


def _payments(
    home: Home,
    catalogue: Catalogue,
    accounts: pl.DataFrame,
    rejects: list[pl.DataFrame],
    warnings: list[str],
) -> pl.DataFrame:
    frame = _read_all(_append_only(home, "payments"), PAYMENT_MEMBERS, "payment_id", home, warnings)
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
        _unknown_account(accounts),
    )
    frame = _resolve_identity(frame, "payment_id", [member for member in PAYMENT_MEMBERS if member != "payment_id"])
    rejects.append(_set_aside(frame, "payment_id"))
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


def _append_only(home: Home, name: str) -> list[Path]:
    """The file of that name and the files of the folder of that name."""
    single = home.landing / f"{name}.jsonl"
    folder = home.landing / name
    inside = sorted(path for path in folder.glob("*.jsonl") if path.is_file()) if folder.is_dir() else []
    return [*([single] if single.is_file() else []), *inside]


def _read_all(
    files: Sequence[Path], columns: Sequence[str], identity: str, home: Home, warnings: list[str]
) -> pl.DataFrame:
    """The rows of all files as text columns, with file, row, text and parsed; empty text is null.

    A name that looks like that of a column which is not there is told in `warnings`: it may be misspelt.
    """
    schema = {"row": pl.Int64, "text": pl.String, "parsed": pl.Boolean} | dict.fromkeys([*columns, "file"], pl.String)
    frames = [pl.DataFrame(schema=schema)]
    for path in files:
        try:
            frame, names = _read_one(path, columns, identity)
        except (OSError, PolarsError, ValueError, csv.Error) as error:
            message = f"{path}: this file cannot be read: {str(error).splitlines()[0]}"
            raise RefusedError(mask_card_numbers(message)) from error
        name = mask_card_numbers(path.relative_to(home.landing).as_posix())
        warnings += [f"{name}: {mask_card_numbers(words)}" for words in _misspelt(names, columns)]
        frames.append(frame.with_columns(file=pl.lit(name)))
    stripped = (
        pl.concat(frames)
        .with_columns(pl.col(column).str.strip_chars() for column in columns)
        .with_columns(pl.when(pl.col(column) != "").then(column) for column in columns)
    )
    # `reason` is taken by the reason for setting a row aside
    return stripped.rename({"reason": "stated_reason"}) if "reason" in columns else stripped


def _misspelt(names: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Of the names in a file those that are no column and look like one that is missing, in words."""
    missing = [column for column in columns if column not in names]
    found = []
    for name in names:
        written = re.sub(r"[\s-]+", "_", name.strip().lower())
        near = difflib.get_close_matches(written, missing, n=1, cutoff=0.75) if name not in columns else []
        if near:
            found.append(f"found the column {name!r}, which is not read, expected {near[0]!r} if that is what it holds")
    return found


def _read_one(path: Path, columns: Sequence[str], identity: str) -> tuple[pl.DataFrame, list[str]]:
    """row, text, parsed and the columns of one file, and the names of what stands in it.

    Raises
    ------
    ValueError
        When the file has no column `identity`.
    """
    if path.suffix == ".jsonl":
        lines = read_json_lines(path, columns)
        members = lines.select(pl.col("text").str.extract_all(_MEMBER).explode(empty_as_null=False).unique().sort())
        return lines, members.to_series().str.strip_chars_end(": \t").str.strip_chars('"').to_list()
    frame = (
        pl.read_parquet(path, glob=False).select(pl.all().cast(pl.String)).with_columns(_parsed=pl.lit(True))
        if path.suffix == ".parquet"
        else _read_csv(path)
    )
    if identity not in frame.columns:
        raise ValueError(f"found the columns {', '.join(frame.columns[:-1])}, expected {', '.join(columns)}")
    rows = frame.select(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("row"),
        pl.concat_str(pl.exclude("_parsed").fill_null(""), separator=",").alias("text"),
        pl.col("_parsed").alias("parsed"),
        *(pl.col(column) if column in frame.columns else pl.lit(None, pl.String).alias(column) for column in columns),
    )
    return rows, frame.columns[:-1]


def _read_csv(path: Path) -> pl.DataFrame:
    """A CSV file as text columns and `_parsed`: a row with more or fewer fields than the header is not parsed.

    Raises
    ------
    ValueError
        When two columns have the same name.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = [name.strip() for name in next(csv.reader(file), [])]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ValueError(f"found the column {repeated[0]} more than once, expected each column once")
    try:
        frame = pl.read_csv(path, infer_schema=False, glob=False)
    except (ComputeError, NoDataError):
        return _read_broken_csv(path)
    # the fast reader fills what a short row lacks, and takes a blank line for one
    if frame.to_series(-1).null_count() and not _has_whole_rows(path, len(header)):
        return _read_broken_csv(path)
    return frame.rename(str.strip).with_columns(_parsed=pl.lit(True))


def _has_whole_rows(path: Path, width: int) -> bool:
    """Whether every line has all its fields; false where quotation marks leave that open."""
    text = path.read_text(encoding="utf-8-sig", errors="replace").rstrip("\r\n")
    return '"' not in text and bool(
        (pl.Series(text.split("\n")).str.count_matches(",", literal=True) == width - 1).all()
    )


def _read_broken_csv(path: Path) -> pl.DataFrame:
    """As `_read_csv`, row by row, so that one broken row costs that row only."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.reader(file)
        header = [name.strip() for name in next(rows, [])]
        width = len(header)
        # a blank line is no row
        fields = [row for row in rows if row and row != [""]]
    return pl.DataFrame(
        [[*(row + [""] * width)[:width], len(row) == width] for row in fields],
        schema=dict.fromkeys(header, pl.String) | {"_parsed": pl.Boolean},
        orient="row",
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


def _unknown_account(accounts: pl.DataFrame) -> _Rule:
    wrong = ~pl.col("account_id").is_in(accounts["account_id"].implode())
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
    hidden = (pl.col("reason") == "card_number") & (pl.col("_masked") == pl.col("text"))

    def as_far_as_known(column: str) -> pl.Expr:
        known = pl.Series(column, mask_card_number_column(rejected[column]))
        return pl.when(pl.col("reason") != "card_number").then(known)

    return rejected.with_columns(_masked=mask_card_number_column(rejected["text"])).select(
        delivery_day=pl.lit(None, pl.Date),
        file="file",
        row="row",
        reason="reason",
        # an escape hides the number from masking, not from whoever reads it
        text=pl.when(~hidden).then("_masked").otherwise(pl.lit("(a card number behind escapes: not kept)")),
        source=pl.lit(None, pl.String),
        id=as_far_as_known(id_column) if id_column else pl.lit(None, pl.String),
        account_id=as_far_as_known("account_id"),
        metric=pl.lit(None, pl.String),
        quantity=pl.lit(None, REJECTS.schema["quantity"]),
        detail=pl.Series("detail", mask_card_number_column(rejected["detail"])).str.slice(0, _LONGEST_DETAIL),
    )


def _local_date(column: str, catalogue: Catalogue) -> pl.Expr:
    return pl.col(column).dt.convert_time_zone(catalogue.time_zone).dt.date()


def _tax_rates(path: Path) -> pl.DataFrame:
    """The tax table, refused as a whole when a row is wrong (rules 24 and 28)."""
    if not path.is_file():
        return pl.DataFrame(schema=TAX_SCHEMA)
    problems: list[Problem] = []
    try:
        frame = _read_csv(path)
    except (OSError, PolarsError, ValueError, csv.Error) as error:
        raise RefusedError(f"{path}: the tax table cannot be read ({str(error).splitlines()[0]})") from error
    missing = [column for column in TAX_COLUMNS if column not in frame.columns]
    if missing:
        raise RefusedError(
            f"{path}: the tax table is refused: found the columns {', '.join(frame.columns[:-1])}, "
            f"expected {', '.join(TAX_COLUMNS)}"
        )
    whole = frame["_parsed"].to_list()
    frame = frame.select(pl.col(column).str.strip_chars() for column in TAX_COLUMNS)
    for row, (country, _, rate, name, since) in enumerate(frame.iter_rows(), start=1):
        place = f"row {row}"
        if not whole[row - 1]:
            problems.append(Problem(path.name, place, "more or fewer fields than columns", "one field per column"))
            continue
        if not re.fullmatch(r"[A-Z]{2}", country or ""):
            problems.append(Problem(path.name, f"{place}, country", repr(country), "an ISO 3166-1 alpha-2 code"))
        if not re.fullmatch(r"(0(\.[0-9]{1,12})?|1(\.0{1,12})?)", rate or ""):
            problems.append(Problem(path.name, f"{place}, rate", repr(rate), "a fraction from 0 to 1, such as 0.20"))
        if len(name or "") > LONGEST["name"]:
            problems.append(
                Problem(path.name, f"{place}, name", f"{len(name)} characters", f"at most {LONGEST['name']}")
            )
        if not name:
            problems.append(Problem(path.name, f"{place}, name", "nothing", "the name of the tax"))
        try:
            # the standard library reads 20260101 and weeks as well
            date.fromisoformat(since if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", since or "") else "")
        except ValueError:
            problems.append(Problem(path.name, f"{place}, effective_from", repr(since), "a date, YYYY-MM-DD"))
    keys = frame.select(pl.col("country", "region", "name", "effective_from"))
    for row in keys.with_row_index(offset=1).filter(keys.is_duplicated())["index"]:
        problems.append(Problem(path.name, f"row {row}", "another row of the same place, name and date", "each once"))
    if problems:
        raise RefusedError(f"{path}: the tax table is refused", problems)
    return frame.with_columns(
        region=pl.when(pl.col("region") != "").then("region"),
        rate=pl.col("rate").cast(RATE),
        effective_from=pl.col("effective_from").str.to_date("%Y-%m-%d"),
    ).sort("country", "region", "name", "effective_from")


__all__ = ["INSTANT", "Inputs", "end_of_day", "parse_instant", "read_inputs"]
