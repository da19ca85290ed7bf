"""Reader of aliases: the accounts behind names in raw logs, over half-open dates (rule 39)."""

from datetime import date
from typing import Final

import polars as pl

from billing.inputs.input_files import input_files, read_rows
from billing.inputs.row_checks import (
    RowsRead,
    card_number_rule,
    control_characters_rule,
    first_wrong_rule,
    found_text,
    hides_card_number,
    missing_rule,
    too_long_rule,
    unparseable_rule,
)
from billing.model.catalogue import Catalogue
from billing.model.codes import RejectReason
from billing.model.errors import Problem, RefusedError
from billing.model.sources import ALIASES
from billing.store.home import Home

ALIAS_COLUMNS: Final = ("kind", "alias", "account_id", "from", "to")
_MOST_TOLD: Final = 20


def read_aliases(home: Home, catalogue: Catalogue, noticed: RowsRead) -> pl.DataFrame:
    """ALIASES, sorted; a wrong row is rejected with its reason.

    Raises
    ------
    RefusedError
        When two rows of one kind and alias hold on the same date: either account would be a guess.
    """
    files = input_files(home, "aliases")
    if not files:
        return ALIASES.empty()
    frame = read_rows(files, ALIAS_COLUMNS, "alias", home, catalogue.encoding, noticed.warnings)
    days = {name: pl.col(name).str.to_date("%Y-%m-%d", strict=False) for name in ("from", "to")}
    is_no_day = {name: pl.col(name).is_not_null() & day.is_null() for name, day in days.items()}
    is_empty = days["from"] >= days["to"]
    frame = first_wrong_rule(
        frame.with_columns(hides_card_number(frame)),
        unparseable_rule(),
        missing_rule("kind", "alias", "account_id"),
        *control_characters_rule(("kind", "alias", "account_id"), ALIAS_COLUMNS),
        too_long_rule(ALIAS_COLUMNS),
        *(
            (RejectReason.IMPOSSIBLE_VALUE, wrong, found_text(name, "a date, YYYY-MM-DD, or nothing"))
            for name, wrong in is_no_day.items()
        ),
        (RejectReason.IMPOSSIBLE_VALUE, is_empty, found_text("to", "a date after `from`: on `to` it holds no more")),
        card_number_rule(),
    )
    noticed.set_aside(frame, id_column=None)
    valid = frame.filter(pl.col("reason").is_null()).with_columns(**days)
    # The same row twice says the same thing twice.
    valid = valid.unique(ALIASES.column_names, keep="first", maintain_order=True)
    _refuse_overlaps(valid, home)
    return ALIASES.conform(valid)


def _refuse_overlaps(rows: pl.DataFrame, home: Home) -> None:
    first = pl.col("from").fill_null(date.min)
    name = ["kind", "alias"]
    ordered = rows.with_columns(_first=first, _end=pl.col("to").fill_null(date.max)).sort(
        *name, "_first", "file", "row"
    )
    # Compare with the latest end of all rows before: a long row may reach over several short ones.
    latest = pl.col("_end").cum_max().shift().over(name)
    overlaps = ordered.with_columns(
        latest=latest, other=pl.col("account_id").shift().over(name), other_row=pl.col("row").shift().over(name)
    ).filter(pl.col("_first") < pl.col("latest"))
    if overlaps.is_empty():
        return
    told = overlaps.head(_MOST_TOLD).select("file", "row", "kind", "alias", "account_id", "other", "other_row")
    raise RefusedError(
        f"{home.landing}: the aliases are refused",
        [
            Problem(
                file,
                f"row {row}",
                f"the {kind} {alias!r} of {account} on dates on which it is of {other}, too (row {other_row})",
                "one account on each date: `to` is the first date on which a row holds no more",
            )
            for file, row, kind, alias, account, other, other_row in told.iter_rows()
        ],
    )
