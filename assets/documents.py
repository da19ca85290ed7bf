"""Assets for documents: drafts, issuing through the register, and PDFs."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from assets.declared import Asset, Check, Checked, Made, Markdown, Severity, Step, Yielded, asset, assets_of
from assets.drawn_blocks import notes_of_blocks
from assets.environment import executes_elsewhere
from assets.links import link, place
from assets.metadata import (
    amounts,
    first_of,
    in_words,
    keys_by_currency,
    money_type,
    one_currency,
    summary,
)
from assets.months import computed, computed_table
from assets.progress import report
from assets.resources import BillingHome
from billing.model.columns import Table
from billing.model.errors import InterruptedRunError
from billing.model.numbering import file_name
from billing.model.tables import (
    CHARGES,
    CYCLES,
    DECISIONS,
    DOCUMENTS,
    DRAFT_LINES,
    DRAFT_TAXES,
    DRAFTS,
    DUES,
    LINES,
    PACKAGES,
    PARKED,
    TAXES,
    UNBILLED,
)
from billing.model.text import counted
from billing.month.business import Business
from billing.month.checks import dates_not_billed_once, not_adding_up, surges
from billing.month.drafting import write_drafts
from billing.month.issuing import complete_issue, issue_documents
from billing.month.pdf_files import Rendered, render_documents
from billing.month.recorded_inputs.months import first_moved_before
from billing.month.review import issued_business, review_of, reviewed_business
from billing.month.shards import each_shard
from billing.rendering.own_templates import OWN_TEMPLATE
from billing.store.monthly import read_month
from billing.store.working_files import COMPUTING

_KINDS = frozenset({"parquet", "polars"})

ISSUES = (
    "**Materializing this issues invoices**: every billing date up to the run's day that was not issued yet gets its "
    "number, for good. To look at them first, run the job `draft_month`, or set `auto_issue: false` in the catalogue's "
    "policy: then nothing is issued but what was reviewed (`issue_documents`)."
)


def _table(table: Table, deps: list[str], kinds: Collection[str] = _KINDS, warning: str = "") -> Asset:
    return Asset(
        table.name,
        description="\n\n".join(filter(None, [table.description, warning])),
        deps=deps,
        kinds=frozenset(kinds),
        table=table,
    )


@assets_of(
    name="drafts",
    group="documents",
    assets=[
        _table(
            DRAFTS,
            [
                *(CYCLES.name, PACKAGES.name, DECISIONS.name, PARKED.name, "accounts", "credit_grants"),
                *(DRAFT_LINES.name, DRAFT_TAXES.name),
            ],
        ),
        _table(DRAFT_LINES, [CHARGES.name, DUES.name]),
        _table(DRAFT_TAXES, ["tax_rates", "exchange_rates", "accounts", DRAFT_LINES.name]),
    ],
    checks=[
        Check(
            "lines_add_up_to_documents",
            asset=DRAFTS.name,
            blocking=True,
            description="For every draft: lines = net, taxes = tax, net + tax = total.",
        ),
        Check(
            "every_active_account_is_billed_once",
            asset=DRAFTS.name,
            blocking=True,
            description="Every starting cycle has a fee, every open billing date a draft, and no date two documents.",
        ),
        Check(
            "no_bill_is_ten_times_the_last_without_a_note",
            asset=DRAFTS.name,
            description="No bill is ten times the account's last one, unless a package change explains it.",
        ),
    ],
)
def drafts(context: Step, billing_home: BillingHome) -> Yielded:
    """Draft the documents of the open billing dates."""

    def write_totals(business: Business, month: str) -> pl.DataFrame:
        return write_drafts(business, month).documents

    business, rows = computed_table(context, billing_home, write_totals, DRAFTS)
    month = context.month
    totals = _by_kind(rows.drop("content", strict=False), business)
    drafted, lines, taxes, wrong = int(totals["documents"].sum()), 0, 0, 0
    for shard in each_shard(business, month):
        pages, of_lines, of_taxes = (read_month(shard.home, *each) for each in _added_up(month))
        wrong += not_adding_up(pages, of_lines, of_taxes, ["subscription_id", "billing_date"]).height
        lines, taxes = lines + of_lines.height, taxes + of_taxes.height
    review = review_of(business, month)
    due = review.totals
    due_totals = {"due_total": next(iter(due.values()))} if len(due) == 1 else {f"due_total_{c}": due[c] for c in due}
    metadata = summary(
        totals,
        one_currency(business),
        drafts=drafted,
        **amounts(totals, business, "total", "total"),
        due=review.documents,
        **due_totals,
    )
    if not business.issues and (review.documents or drafted):
        metadata["reviewed"] = review.identity
        metadata["to issue exactly these"] = Markdown(
            f"Look at them (`overage show drafts --month {review.month}`), then run the job `issue_documents` for the "
            f"month with `reviewed: {review.identity}`, or `overage issue {review.month} --reviewed {review.identity}`."
        )
    yield Made(asset=DRAFT_LINES.name, metadata={"lines": lines})
    yield Made(asset=DRAFT_TAXES.name, metadata={"taxes": taxes})
    yield Made(asset=DRAFTS.name, metadata=metadata)
    yield Checked(
        asset=DRAFTS.name,
        name="lines_add_up_to_documents",
        passed=wrong == 0,
        metadata={"month": month, "documents": drafted, "that do not add up": wrong},
    )
    found = pl.concat(dates_not_billed_once(shard, month) for shard in each_shard(business, month))
    problems = found["problem"].value_counts().sort("problem")
    yield Checked(
        asset=DRAFTS.name,
        name="every_active_account_is_billed_once",
        passed=problems.is_empty(),
        metadata={
            "month": month,
            "dates that are not": in_words([f"{problem}: {count:,}" for problem, count in problems.iter_rows()]),
        },
    )
    surging = sum(surges(shard, month)["account_id"].n_unique() for shard in each_shard(business, month))
    listed = f"overage show surges --month {month}"
    yield Checked(
        asset=DRAFTS.name,
        name="no_bill_is_ten_times_the_last_without_a_note",
        passed=surging == 0,
        severity=Severity.WARN,
        metadata={
            "month": month,
            "accounts": surging,
            "list them": listed,
            **(
                {"warnings": [f"{month}: {counted(surging, 'account')} with a bill ten times the last: {listed}"]}
                if surging
                else {}
            ),
        },
    )


@dataclass(frozen=True)
class Issuing:
    """Run configuration of issuing.

    Attributes
    ----------
    reviewed
        Identity of the reviewed drafts, as the page of `drafts` shows it: issues exactly these, even with the policy
        `auto_issue` off. Empty: issue what is due, if the policy allows.
    """

    reviewed: str = ""


@assets_of(
    name="documents",
    group="documents",
    assets=[
        # Prove usage complete before issuing anything.
        _table(
            DOCUMENTS, [DRAFTS.name, DRAFT_LINES.name, DRAFT_TAXES.name, UNBILLED.name], {"sqlite", "parquet"}, ISSUES
        ),
        _table(LINES, [DRAFT_LINES.name], {"sqlite", "parquet"}, ISSUES),
        _table(TAXES, [DRAFT_TAXES.name], {"sqlite", "parquet"}, ISSUES),
    ],
    checks=[
        Check(
            "documents_add_up",
            asset=DOCUMENTS.name,
            blocking=True,
            description="For every issued document: lines = net, taxes = tax, net + tax = total.",
        ),
        Check(
            "numbers_have_no_gap",
            asset=DOCUMENTS.name,
            blocking=True,
            description="The numbers of every series and year run from their first one without a gap (rule 19).",
        ),
        Check(
            "one_document_per_billing_date",
            asset=DOCUMENTS.name,
            blocking=True,
            description="No subscription has two scheduled documents for one billing date.",
        ),
    ],
    config=Issuing,
)
def documents(context: Step, config: Issuing, billing_home: BillingHome) -> Yielded:
    """Issue the documents that are due: the only irreversible step."""

    def step(business: Business, month: str) -> int:
        if config.reviewed:
            issued_before = issued_business(business, month, config.reviewed)
            if issued_before is not None:
                return complete_issue(issued_before, month)
            return issue_documents(reviewed_business(business, month, config.reviewed), month, only_drafts=True)
        if business.issues and not billing_home.in_order:
            first = first_moved_before(business, month)
            if first is not None:
                raise InterruptedRunError(
                    f"{month}: nothing was issued, because {first} has to be built first: run the job billing_month "
                    f"from {first} on, month by month"
                )
        return issue_documents(business, month)

    business, issued = computed(context, billing_home, step, COMPUTING)
    register, month = business.register, context.month
    by_kind: list[pl.DataFrame] = []
    lines = taxes = wrong = scheduled = twice = 0
    for shard in each_shard(business, month):
        rows = shard.register.rows(month)
        by_kind.append(_by_kind(rows.documents.lazy(), business))
        lines, taxes = lines + rows.lines.height, taxes + rows.taxes.height
        wrong += not_adding_up(rows.documents, rows.lines, rows.taxes, ["number"]).height
        dates = rows.documents.filter(pl.col("corrects").is_null()).select("subscription_id", "billing_date")
        scheduled, twice = scheduled + dates.height, twice + int(dates.is_duplicated().sum())
    keys = keys_by_currency(business, "kind")
    totals = pl.concat(by_kind).group_by(keys).agg(pl.col("documents", "net", "tax", "total").sum()).sort(keys)
    there = int(totals["documents"].sum())
    metadata = summary(
        totals,
        one_currency(business),
        documents=there,
        issued_now=issued,
        **amounts(totals, business, "total", "total"),
    )
    yield Made(asset=DOCUMENTS.name, metadata=metadata)
    yield Made(asset=LINES.name, metadata={"lines": lines})
    yield Made(asset=TAXES.name, metadata={"taxes": taxes})
    yield Checked(
        asset=DOCUMENTS.name,
        name="documents_add_up",
        passed=wrong == 0,
        metadata={"month": month, "documents": there, "that do not add up": wrong},
    )
    gaps = register.number_gaps()
    yield Checked(
        asset=DOCUMENTS.name,
        name="numbers_have_no_gap",
        passed=not gaps,
        metadata={"month": month, "series with a gap": in_words(gaps)},
    )
    yield Checked(
        asset=DOCUMENTS.name,
        name="one_document_per_billing_date",
        passed=twice == 0,
        metadata={"month": month, "documents": scheduled, "repeated": twice},
    )


@asset(
    group="documents",
    deps=[DOCUMENTS.name, LINES.name, TAXES.name, *(["drawn_files"] if executes_elsewhere() else [])],
    kinds={"pdf"},
    description="The PDF of every issued document, rendered once from the content stored at issue.",
    checks=[
        Check(
            "every_document_has_its_pdf",
            asset="invoice_files",
            blocking=True,
            description="Every issued document of the month has a PDF; documents that cannot be drawn are named.",
        )
    ],
)
def invoice_files(context: Step, billing_home: BillingHome) -> Yielded:
    """Render the PDFs that are missing."""
    month = context.month

    def step(business: Business, month: str) -> tuple[Rendered, list[dict[str, Any]]]:
        rendered = render_documents(business, month, progress=partial(report, f"rendering {month}"))
        return rendered, notes_of_blocks(business.home, month)

    business, (rendered, elsewhere) = computed(context, billing_home, step, COMPUTING)
    unprintable = sorted(
        {character for file in rendered.files for character in file.unprintable}.union(
            *(block["unprintable"] for block in elsewhere)
        )
    )
    if unprintable:
        context.warn(f"no bundled font has these characters, they print as boxes: {' '.join(unprintable)}")
    issued = business.register.documents([month]).select("number", "account_id").iter_rows()
    # By the name of the file: a number may have slashes.
    accounts = {file_name(number): account_id for number, account_id in issued}
    missing = [name for name in accounts if not business.home.document_file(month, name).exists()]
    undrawn = {file.path.stem: file.cause for file in rendered.undrawn}
    shortened = {file.path.stem: file.shortened for file in rendered.files if file.shortened}
    for block in elsewhere:
        shortened |= block["shortened"]
    warnings = [
        *(f"{it}: the document of account {accounts[it]} could not be drawn: {cause}" for it, cause in undrawn.items()),
        *(
            f"{it}: the document of account {accounts[it]} is drawn with the release's template: {cause}"
            if cause.startswith(OWN_TEMPLATE)
            else f"{it}: on the document of account {accounts[it]} long words are broken and long texts cut: {cause}"
            for it, cause in shortened.items()
        ),
        *(
            f"{it}: drawn again with other bytes than it was issued with, because a library that draws is another: "
            "the register says so, and the original is to be kept where it still is"
            for it in [*rendered.redrawn, *(number for block in elsewhere for number in block["redrawn"])]
        ),
    ]
    folder = business.home.documents / month
    yield Made(
        metadata={
            "files": len(accounts) - len(missing),
            "rendered now": len(rendered.files) + sum(block["files"] for block in elsewhere),
            "folder": place(business.home, folder),
            **(
                {"first of them": link(business.home, min(standing))}
                if (standing := sorted(folder.glob("*.pdf")))
                else {}
            ),
        }
    )
    yield Checked(
        name="every_document_has_its_pdf",
        passed=not missing and not warnings,
        # rule 19: an issued document stays issued; one that cannot be drawn does not block the others
        severity=Severity.WARN if undrawn.keys() >= set(missing) else Severity.ERROR,
        metadata={
            "month": month,
            "documents": len(accounts),
            "without a file": len(missing),
            **({"warnings": first_of(warnings)} if warnings else {}),
        },
    )


def _added_up(month: str) -> list[tuple[Table, str, list[str]]]:
    """What is read of drafts to see that their amounts add up."""
    names = ["subscription_id", "billing_date"]
    of_lines = [(table, month, [*names, "amount"]) for table in (DRAFT_LINES, DRAFT_TAXES)]
    return [(DRAFTS, month, [*names, "net", "tax", "total"]), *of_lines]


def _by_kind(documents: pl.LazyFrame, business: Business) -> pl.DataFrame:
    sums = [pl.col(name).sum().cast(money_type(business)) for name in ("net", "tax", "total")]
    keys = keys_by_currency(business, "kind")
    return documents.group_by(keys).agg(pl.len().alias("documents"), *sums).sort(keys).collect()
