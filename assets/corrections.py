"""Assets for corrections: credit and debit notes at once, instead of lines on the next document."""

from dataclasses import dataclass, field

import polars as pl

from assets.declared import Check, Checked, Made, Step, Yielded, asset
from assets.metadata import amounts, keys_by_currency, money_type, one_currency, summary
from assets.months import computed
from assets.resources import BillingHome
from billing.model.calendar import months_after
from billing.model.errors import RefusedError
from billing.model.tables import DOCUMENTS, DUES, LINES, TAXES
from billing.month.business import Business
from billing.month.corrections import correction_drafts, issue_corrections, refuse_unissued_month
from billing.month.pdf_files import render_documents
from billing.month.reasons import printable_reason
from billing.month.recorded_inputs.months import moved_inputs, record_month
from billing.reports.month_report import month_report
from billing.reports.month_report_page import write_report


@dataclass(frozen=True)
class Correction:
    """Run configuration of a correction: reason and accounts.

    Attributes
    ----------
    reason
        Printed on every note.
    accounts
        Only these accounts; empty means all.
    """

    reason: str
    accounts: list[str] = field(default_factory=list)


@asset(
    group="documents",
    deps=[DOCUMENTS.name, LINES.name, TAXES.name, DUES.name],
    kinds={"sqlite", "pdf"},
    description="Credit and debit notes that correct an issued month at once: amount due now minus amount issued.",
    checks=[
        Check(
            "corrected_documents_agree_with_what_is_due",
            asset="corrections",
            description="Every document of the month, for the selected accounts, matches what is due.",
        )
    ],
    config=Correction,
)
def corrections(context: Step, config: Correction, billing_home: BillingHome) -> Yielded:
    """Issue the correction notes; idempotent: a second run finds nothing left to correct."""
    reason = printable_reason(config.reason)

    def step(business: Business, month: str) -> pl.DataFrame:
        refuse_unissued_month(business, month)
        moved = moved_inputs(business, month)
        if moved:
            raise RefusedError(f"{month} is not up to date ({', '.join(moved)}): bill it first, then correct it")
        issued = issue_corrections(business, month, reason, config.accounts)
        render_documents(business, month)
        if issued.height:
            write_report(business, month_report(business, month))
        record_month(business, month)
        return issued

    business, issued = computed(context, billing_home, step)
    month = context.month
    notes = business.register.documents([month]).join(issued, on="number", how="semi")
    sums = [pl.col(name).sum().cast(money_type(business)) for name in ("net", "tax", "total")]
    keys = keys_by_currency(business, "kind")
    by_kind = notes.group_by(keys).agg(pl.len().alias("notes"), *sums).sort(keys)
    yield Made(
        metadata={
            **summary(
                by_kind, one_currency(business), notes=notes.height, **amounts(notes, business, "total", "total")
            ),
            "reason": reason,
        }
    )
    left = correction_drafts(business, month, reason, config.accounts).documents.height
    yield Checked(
        name="corrected_documents_agree_with_what_is_due",
        passed=left == 0,
        metadata={"still to correct": left, "list them": f"overage preview {months_after(month, 1)}"},
    )
