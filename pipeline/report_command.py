"""Command for the report of a month as a PDF."""

from pathlib import Path

import click

from pipeline.exit_status import exit_status
from pipeline.options import home_option
from pipeline.output import tell


@click.command("report")
@click.argument("month")
@home_option
@exit_status
def report(month: str, home: Path) -> None:
    """Draw the report of a billed month as a PDF, if it is not there, and print its path.

    A command that bills several months draws the PDF of the last one; every month has its page as HTML.
    """
    from datetime import date

    from billing.reports.month_report_page import draw_report
    from pipeline.run_state import load

    business = load(home, date.max, issues=False)
    business.refuse_unknown_month(month)
    with business.alone():
        tell(str(draw_report(business.home, month)))
