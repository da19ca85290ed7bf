"""Asset for what-ifs: past months under a candidate catalogue, compared with what is due for them."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from assets.declared import Made, Markdown, Place, Step, Value, Yielded, asset
from assets.metadata import bullets, markdown_table
from assets.progress import report
from assets.refusals import failures_in_words
from assets.resources import BillingHome
from billing.inputs.catalogue_file import load_catalogue
from billing.reports.what_if import Comparison, Question, compare_catalogues, refuse_folder, write_what_if


@dataclass(frozen=True)
class Trial:
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
    out: str = ""


@asset(
    group="reports",
    deps=["documents", "usage", "packages", "catalogue"],
    kinds={"html", "parquet"},
    description="Past months under a candidate catalogue: who would have paid what, and why. Nothing is issued, and "
    "the home is not touched. The configuration takes the candidate's path and the months.",
    config=Trial,
)
def what_if(context: Step, config: Trial, billing_home: BillingHome) -> Yielded:
    """Bill the months in a scratch copy; show sums, and write everything to a folder."""
    business = billing_home.business()
    candidate = business.home.root / config.candidate
    out = Path(config.out or f"what-if/{candidate.stem}")
    with context.at_work(business.home, business.register), failures_in_words():
        refuse_folder(out, [candidate.stem], business.home.root)
        catalogue = load_catalogue(candidate)
        question = Question(config.since, config.through)
        [found] = compare_catalogues(business, [(candidate.stem, catalogue)], question, report, is_locked=True)
        page = write_what_if(business.catalogue, [found], None, out)
    yield Made(metadata=_metadata(found, page))


def _metadata(found: Comparison, page: Path) -> dict[str, Value]:
    shown: dict[str, Value] = {"page": Place(str(page.resolve()))}
    for code in found.currencies:
        money = pl.Decimal(38, found.decimals(code))
        for name in ("totals", "months", "lines", "packages", "distribution"):
            frame = found.of(name, code).with_columns(pl.col(pl.Decimal).cast(money))
            shown[f"{name}, {code}"] = Markdown(markdown_table(frame))
    upgrades = found.tables["upgrades"]["what"]
    for what in ("caused", "avoided", "moved"):
        shown[f"upgrades {what}"] = int((upgrades == what).sum())
    shown["not reached"] = bullets(list(found.not_reached))
    return shown
