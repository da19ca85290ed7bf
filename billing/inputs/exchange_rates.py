"""Reader of landing/exchange_rates.csv: what a currency was worth in another, from a day on (rule 36)."""

import csv
import re
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl
from polars.exceptions import PolarsError

from billing.inputs.csv_files import read_csv
from billing.model.columns import RATE
from billing.model.errors import Problem, RefusedError
from billing.model.money import minor_units

EXCHANGE_COLUMNS: Final = ("on", "currency", "to", "rate")
EXCHANGE_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "on": pl.Date,
    "currency": pl.String,
    "to": pl.String,
    "rate": RATE,
}
_RATE: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")


def read_exchange_rates(path: Path, encoding: str) -> pl.DataFrame:
    """EXCHANGE_COLUMNS, sorted: one `currency` is `rate` of `to` from the day `on` until the next row.

    Raises
    ------
    RefusedError
        When the file cannot be read or a row is wrong: the whole table is refused (rule 28).
    """
    if not path.is_file():
        return pl.DataFrame(schema=EXCHANGE_SCHEMA)
    try:
        frame = read_csv(path, encoding)
    except (OSError, PolarsError, ValueError, csv.Error) as error:
        raise RefusedError(f"{path}: the exchange rates cannot be read ({str(error).splitlines()[0]})") from error
    if missing := [column for column in EXCHANGE_COLUMNS if column not in frame.columns]:
        raise RefusedError(
            f"{path}: the exchange rates are refused: found no column {', '.join(missing)}, "
            f"expected {', '.join(EXCHANGE_COLUMNS)}"
        )
    rows = frame.select("_parsed", *(pl.col(column).str.strip_chars() for column in EXCHANGE_COLUMNS))
    problems = [
        Problem(path.name, f"row {row}{place}", found, expected)
        for row, values in enumerate(rows.iter_rows(), start=1)
        for place, found, expected in _wrong(*values)
    ]
    keys = rows.select("on", "currency", "to")
    for row in keys.with_row_index(offset=1).filter(keys.is_duplicated())["index"]:
        problems.append(Problem(path.name, f"row {row}", "another row of the same day and currencies", "each once"))
    if problems:
        raise RefusedError(f"{path}: the exchange rates are refused", problems)
    return rows.select(pl.col("on").str.to_date("%Y-%m-%d"), "currency", "to", pl.col("rate").cast(RATE)).sort(
        "currency", "to", "on"
    )


def _wrong(parsed: bool, on: str, currency: str, to: str, rate: str) -> list[tuple[str, str, str]]:  # noqa: FBT001 - a row
    if not parsed:
        return [("", "more or fewer fields than columns", "one field per column")]
    wrong = []
    try:
        date.fromisoformat(on if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", on or "") else "")
    except ValueError:
        wrong.append((", on", repr(on), "a date, YYYY-MM-DD"))
    wrong += [
        (f", {column}", repr(code), "an ISO 4217 currency code, such as EUR")
        for column, code in (("currency", currency), ("to", to))
        if minor_units(code or "") is None
    ]
    if not _RATE.fullmatch(rate or "") or not (rate or "").strip("0."):
        wrong.append((", rate", repr(rate), "a number above 0 and below 1,000,000, of at most 9 decimals"))
    return wrong
