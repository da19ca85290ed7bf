"""The month with Overage: the functions that its assets call."""

from datetime import date
from pathlib import Path

import polars as pl

from benchmarks.logs_to_money.answer import Answer, run
from benchmarks.month_of_usage import BILLED_MONTH, MONTH
from billing.model.tables import REJECTS
from billing.month import steps
from billing.month.business import Business
from billing.store.frames import scan_frames


def bill(home: Path, folder: Path) -> Answer:
    """Ingest everything delivered, and bill the cycles that it belongs to."""
    folder.mkdir(parents=True)
    folder.joinpath("landing").symlink_to(home / "landing")
    business = Business.load(folder, date(2026, 2, 10))
    outcome = steps.ingest_usage(business)
    for month in (MONTH, BILLED_MONTH):
        steps.write_cycles(business, month)
        steps.write_levels(business, month)
        steps.write_usage(business, month)
        steps.write_packages(business, month)
        charges = steps.write_charges(business, month)
    paths = sorted(business.home.lake.joinpath(REJECTS.name).glob("*/*.parquet"))
    rejects = scan_frames(paths, REJECTS).select("reason", "text").collect()
    return Answer.of(
        overage=dict(charges.group_by("metric").agg(pl.col("amount").sum()).iter_rows()),
        counted=outcome.counted,
        duplicates=outcome.duplicates,
        rejects=dict(rejects.group_by("reason").len().iter_rows()),
        texts=rejects["text"],
    )


if __name__ == "__main__":
    run(bill)
