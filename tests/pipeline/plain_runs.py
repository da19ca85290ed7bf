"""The jobs of a command as it executes them, without what takes time and is not looked at."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from assets.resources import BillingHome
from billing.month.business import Business
from billing.reports.month_report_page import report_paths
from billing.store.files import write_bytes
from pipeline import direct_runs
from pipeline.run_results import Result


@contextmanager
def plain_runs(left_out: Sequence[str] = ()) -> Iterator[None]:
    """Let commands in this process leave no records for Dagster; jobs that are left out do nothing.

    A file stands in for the report of a month where `billing_report` is left out.
    """

    def execute(job: str, resource: BillingHome, _: Path | None, **options: Any) -> Result:
        return Result() if job in left_out else _execute(job, resource, None, **options)

    with ExitStack() as stack:
        stack.enter_context(mock.patch("pipeline.job_runs.execute", execute))
        if "billing_report" in left_out:
            stack.enter_context(mock.patch("assets.reports.month_report", lambda _, month: month))
            stack.enter_context(mock.patch("assets.reports.write_report", _blank_report))
            stack.enter_context(mock.patch("assets.reports._report_metadata", lambda *_: {}))
        yield


def _blank_report(business: Business, month: str, **_: object) -> tuple[Path, Path]:
    page, pdf = report_paths(business.home, month)
    write_bytes(page, f"the report of {month}".encode())
    return page, pdf


# found before it is replaced
_execute = direct_runs.execute
