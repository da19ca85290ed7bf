"""Command that forecasts what the next months bill."""

from contextlib import nullcontext
from datetime import date
from pathlib import Path

import click

from billing.model.errors import RefusedError
from billing.model.text import counted
from pipeline.exit_status import exit_status
from pipeline.options import as_of_option, format_option, home_option
from pipeline.output import print_rows, say


@click.command()
@click.option("--months", type=click.IntRange(1, 36), default=3, show_default=True, help="How many months.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write forecast.parquet, backtest.parquet and methods.parquet to; not in the home.",
)
@as_of_option
@format_option
@home_option
@exit_status
def forecast(months: int, out: Path | None, as_of: date | None, style: str, home: Path) -> None:
    """Forecast what the next months bill if usage goes on as in the last cycles, account by account, before tax.

    By what is known as of a day, by default that of the last run. Changes nothing in the home.
    """
    from assets.clock import today
    from assets.progress import report
    from billing.month.recorded_inputs.runs import last_as_of
    from billing.reports.forecast import FORECAST
    from billing.reports.forecast import forecast as computed
    from pipeline.progress import progress_display
    from pipeline.run_state import load

    if out is not None and out.resolve().is_relative_to(home.resolve()):
        raise RefusedError(f"--out: found {out}, expected a folder that is not in the home: a forecast changes nothing")
    day = as_of or last_as_of(home) or today(home)
    business = load(home, day, issues=False)
    issued_on = business.register.latest_issued_on()
    if as_of is None and issued_on is not None and day < issued_on:
        # The last run was a draft of an earlier day.
        business = business.at(issued_on)
    business.refuse_lacking_accounts()
    # No lake yet: no lock needed, and a forecast must not create one.
    with business.alone() if business.home.lake.exists() else nullcontext(), progress_display():
        found = computed(business, months, report)
    print_rows(found.as_plain(), list(FORECAST), style)
    say(f"as of {found.as_of}: {found.months[0]} to {found.months[-1]}, amounts before tax")
    for words in found.in_words():
        say(words)
    if found.not_issued:
        say(f"{counted(found.not_issued, 'billing date')} before {found.months[0]} not issued yet: not in the forecast")
    if found.parked:
        say(f"{counted(found.parked, 'account')} parked: nothing is forecast there")
    for path in found.write(out) if out is not None else ():
        say(str(path))
