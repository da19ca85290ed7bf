"""Reader of the tax table, landing/tax_rates.csv (rules 24 and 28)."""

import csv
import re
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl
from polars.exceptions import PolarsError

from billing.inputs.csv_files import read_csv
from billing.model.codes import UNTAXED, TaxCategory
from billing.model.columns import RATE
from billing.model.errors import Problem, RefusedError
from billing.model.regions import with_region_keys

TAX_COLUMNS: Final = ("country", "region", "rate", "name", "effective_from")
FURTHER_COLUMNS: Final = ("category", "exemption_reason", "exemption_code")
"""Columns that a tax table may have."""

TAX_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "country": pl.String,
    "region": pl.String,
    "rate": RATE,
    "name": pl.String,
    "effective_from": pl.Date,
    **dict.fromkeys(FURTHER_COLUMNS, pl.String),
}
_CATEGORIES: Final = tuple(TaxCategory)

LONGEST_NAME: Final = 500
"""Longest name of a tax in characters, so that it fits a page."""


def read_tax_rates(path: Path, encoding: str) -> pl.DataFrame:
    """Read the tax table; refuse all of it when a row is wrong (rules 24 and 28)."""
    if not path.is_file():
        return pl.DataFrame(schema=TAX_SCHEMA)
    problems: list[Problem] = []
    try:
        frame = read_csv(path, encoding)
    except (OSError, PolarsError, ValueError, csv.Error) as error:
        raise RefusedError(f"{path}: the tax table cannot be read ({str(error).splitlines()[0]})") from error
    missing = [column for column in TAX_COLUMNS if column not in frame.columns]
    if missing:
        raise RefusedError(
            f"{path}: the tax table is refused: found the columns {', '.join(frame.columns[:-1])}, "
            f"expected {', '.join(TAX_COLUMNS)}"
        )
    whole = frame["_parsed"].to_list()
    named = [column for column in frame.columns if re.fullmatch("name_[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*", column)]
    frame = frame.with_columns(pl.lit("").alias(column) for column in FURTHER_COLUMNS if column not in frame.columns)
    frame = frame.select(pl.col(column).str.strip_chars() for column in (*TAX_COLUMNS, *FURTHER_COLUMNS, *named))
    for row, (country, _, rate, name, since, category, *texts) in enumerate(frame.iter_rows(), start=1):
        place = f"row {row}"
        if not whole[row - 1]:
            problems.append(Problem(path.name, place, "more or fewer fields than columns", "one field per column"))
            continue
        if not re.fullmatch(r"[A-Z]{2}", country or ""):
            problems.append(Problem(path.name, f"{place}, country", repr(country), "an ISO 3166-1 alpha-2 code"))
        if not re.fullmatch(r"(0(\.[0-9]{1,12})?|1(\.0{1,12})?)", rate or ""):
            problems.append(Problem(path.name, f"{place}, rate", repr(rate), "a fraction from 0 to 1, such as 0.20"))
        if category and category not in _CATEGORIES:
            expected = f"one of {', '.join(_CATEGORIES)}"
            problems.append(Problem(path.name, f"{place}, category", repr(category), expected))
        elif category in UNTAXED and (rate or "").strip("0."):
            problems.append(Problem(path.name, f"{place}, rate", repr(rate), f"0 in the category {category}"))
        elif category == TaxCategory.STANDARD and rate and not rate.strip("0."):
            problems.append(Problem(path.name, f"{place}, rate", repr(rate), "above 0 in the category S"))
        for column, text in zip((*FURTHER_COLUMNS[1:], *named), texts, strict=True):
            if len(text or "") > LONGEST_NAME:
                expected = f"at most {LONGEST_NAME}"
                problems.append(Problem(path.name, f"{place}, {column}", f"{len(text)} characters", expected))
        if len(name or "") > LONGEST_NAME:
            problems.append(Problem(path.name, f"{place}, name", f"{len(name)} characters", f"at most {LONGEST_NAME}"))
        if not name:
            problems.append(Problem(path.name, f"{place}, name", "nothing", "the name of the tax"))
        try:
            # `fromisoformat` also accepts 20260101 and weeks.
            date.fromisoformat(since if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", since or "") else "")
        except ValueError:
            problems.append(Problem(path.name, f"{place}, effective_from", repr(since), "a date, YYYY-MM-DD"))
    placed = with_region_keys(frame.with_columns(region=pl.when(pl.col("region") != "").then("region")), "rated_in")
    # Rows without a category stand for what is usually sold, as those of category S.
    usual = pl.when(pl.col("category") != "").then("category").otherwise(pl.lit(TaxCategory.STANDARD))
    keys = placed.select("country", "rated_in", "name", "effective_from", category=usual)
    for row in keys.with_row_index(offset=1).filter(keys.is_duplicated())["index"]:
        problems.append(Problem(path.name, f"row {row}", "another row of the same place, name and date", "each once"))
    if problems:
        raise RefusedError(f"{path}: the tax table is refused", problems)
    return frame.with_columns(
        *(pl.when(pl.col(name) != "").then(name).alias(name) for name in ("region", *FURTHER_COLUMNS, *named)),
        rate=pl.col("rate").cast(RATE),
        effective_from=pl.col("effective_from").str.to_date("%Y-%m-%d"),
    ).sort("country", "region", "name", "effective_from")
