"""Options that commands share."""

from datetime import date
from pathlib import Path
from typing import Any

import click

from assets.environment import home_folder, local_home
from billing.model.errors import RefusedError
from billing.store.object_store import is_url

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


class HomeFolder(click.ParamType[Path]):
    """A billing home: a folder, or the URL of a home in a store, which stands for the folder of its working copy."""

    name = "home"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Find the folder."""
        if isinstance(value, Path):
            return value
        try:
            return local_home(value)
        except RefusedError as error:
            self.fail(str(error), param, ctx)


class PlainFolder(click.ParamType[Path]):
    """A folder; a home in a store is refused."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Take the path."""
        if is_url(str(value)):
            self.fail(f"found {value}, expected a folder: move it into a store by `overage move-home`", param, ctx)
        return Path(value)


def _default_home() -> Path:
    try:
        return home_folder()
    except RefusedError as error:
        raise click.UsageError(f"OVERAGE_HOME: {error}") from error


home_option = click.option(
    "--home",
    type=HomeFolder(),
    default=_default_home,
    show_default="$OVERAGE_HOME, else ./data",
    help="The billing home: one folder, or s3://bucket/prefix, per business.",
)

as_of_option = click.option("--as-of", type=Day(), help="The as-of day: ignore everything after it.")

format_option = click.option("--format", "style", type=click.Choice(["table", "json", "csv"]), default="table")
