"""Asset for what-ifs: past months under a candidate catalogue, compared with what is due for them."""

from pathlib import Path

import dagster as dg
import polars as pl
from pydantic import Field

from assets.heads import at_work
from assets.metadata import bullets, markdown_table
from assets.progress import report
from assets.refusals import failures_in_words
from assets.resources import BillingHome
from billing.inputs.catalogue_file import load_catalogue
from billing.reports.what_if import Comparison, Question, compare_catalogues, refuse_folder, write_what_if


class Trial(dg.Config):
    """Run configuration of a what-if.

    Attributes
    ----------
    candidate
        Path of the candidate catalogue; a relative one is of the billing home.
    since, through
        The first and the last month, YYYY-MM.
    out
        Folder to write tables, page and PDF to, outside the home; empty: what-if/<candidate> in the working folder.
    """

    candidate: str
    since: str
    through: str
    out: str = Field(default="")


@dg.asset(
    group_name="reports",
    deps=["documents", "usage", "packages", "catalogue"],
    kinds={"html", "parquet"},
    description="Past months under a candidate catalogue: who would have paid what, and why. Nothing is issued, and "
    "the home is not touched. The configuration takes the candidate's path and the months.",
)
def what_if(context: dg.AssetExecutionContext, config: Trial, billing_home: BillingHome) -> dg.MaterializeResult[None]:
    """Bill the months in a scratch copy; show sums, and write everything to a folder."""
    business = billing_home.business()
    candidate = business.home.root / config.candidate
    out = Path(config.out or f"what-if/{candidate.stem}")
    with at_work(context, business), failures_in_words():
        refuse_folder(out, [candidate.stem], business.home.root)
        catalogue = load_catalogue(candidate)
        question = Question(config.since, config.through)
        [found] = compare_catalogues(business, [(candidate.stem, catalogue)], question, report, is_locked=True)
        page = write_what_if(business.catalogue, [found], None, out)
    return dg.MaterializeResult(metadata=_metadata(found, page))


def _metadata(found: Comparison, page: Path) -> dict[str, dg.MetadataValue]:
    shown: dict[str, dg.MetadataValue] = {"page": dg.MetadataValue.path(str(page.resolve()))}
    for code in found.currencies:
        money = pl.Decimal(38, found.decimals(code))
        for name in ("totals", "months", "lines", "packages", "distribution"):
            frame = found.of(name, code).with_columns(pl.col(pl.Decimal).cast(money))
            shown[f"{name}, {code}"] = dg.MetadataValue.md(markdown_table(frame))
    upgrades = found.tables["upgrades"]["what"]
    for what in ("caused", "avoided", "moved"):
        shown[f"upgrades {what}"] = dg.MetadataValue.int(int((upgrades == what).sum()))
    shown["not reached"] = bullets(list(found.not_reached))
    return shown
