"""Options that commands share."""

from datetime import date
from pathlib import Path
from typing import Any

import click

from assets.environment import home_folder

# Limit the range: a mistyped century would compute billing dates over hundreds of years.
_FIRST_DAY, _LAST_DAY = date(1970, 1, 1), date(2099, 12, 31)


class Day(click.ParamType[date]):
    """A day, YYYY-MM-DD."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Parse the day."""
        if isinstance(value, date):
            return value
        try:
            day = date.fromisoformat(value)
        except ValueError:
            self.fail(f"found {value!r}, expected a day such as 2026-02-28", param, ctx)
        if not _FIRST_DAY <= day <= _LAST_DAY:
            self.fail(f"found {value!r}, expected a day from {_FIRST_DAY} to {_LAST_DAY}", param, ctx)
        return day


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=home_folder,
    show_default="$OVERAGE_HOME, else ./data",
    help="The billing home: one folder per business.",
)

as_of_option = click.option("--as-of", type=Day(), help="The as-of day: ignore everything after it.")

format_option = click.option("--format", "style", type=click.Choice(["table", "json", "csv"]), default="table")
