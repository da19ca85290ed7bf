"""Verify a home: is the register consistent with itself, with the PDFs on disk and with the lake?"""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

import polars as pl
from polars.exceptions import PolarsError

from billing.ingest.state import read_state
from billing.model.account_tables import ALLOCATIONS, BALANCES, COLLECTIONS, CREDITS, JOURNAL, PROFILE
from billing.model.codes import LineKind
from billing.model.columns import MONEY, Table
from billing.model.hashes import hash_contents
from billing.model.plain_rows import money_in_words, plain_rows
from billing.model.tables import (
    ADD_ONS,
    CHARGES,
    CYCLES,
    DECISIONS,
    DOCUMENTS,
    DUES,
    LEVELS,
    LINES,
    PACKAGES,
    PARKED,
    TAXES,
    USAGE,
)
from billing.month.all_steps import STEPS_BEFORE_DOCUMENTS
from billing.month.business import Business
from billing.month.credits import credits
from billing.month.lost_deliveries import in_words, lost_deliveries
from billing.month.recorded_inputs.months import built_months, moved_inputs, profiles_digest
from billing.month.recorded_inputs.runs import last_as_of, profiles_built_from
from billing.month.scratch_copy import scratch_copy
from billing.month.shards import each_shard
from billing.register.stored_pages import PrintedRows, printed_rows
from billing.reports.credit_checks import credit_disagreements
from billing.reports.journal import receivable_differences, unbalanced_entries
from billing.reports.profiles import account_profiles, allocations, balances, collections
from billing.reports.reminders import reminders
from billing.rules.own_documents import shown_subscription_id
from billing.store.files import file_hash
from billing.store.frames import read_frame
from billing.store.home import EXPORTS, Home
from billing.store.monthly import read_month

_KEYS = ["number"]
_PRINTED: Final = "_printed"
# Read pages in batches: parsing takes several times their size.
_PAGES_AT_ONCE: Final = 10_000
_COMPUTED = (CYCLES, LEVELS, USAGE, PACKAGES, DECISIONS, CHARGES, DUES, PARKED)


def disagreements(business: Business) -> list[str]:
    """All inconsistencies, in words; empty if there are none."""
    documents = business.register.documents()
    lines, taxes = business.register.lines(), business.register.taxes()
    unreadable = list(_unreadable(business))
    return [
        *unreadable,
        *(
            f"register: the numbers of {series} do not run from their first one without a gap"
            for series in business.register.number_gaps()
        ),
        *_sums(documents, lines, taxes, _amount(business)),
        *credit_disagreements(documents, business.register.credit_uses(), credits(business), _amount(business)),
        *_twice(documents),
        *_unprinted_facts(business, documents, lines),
        *_without_document(documents, lines, taxes),
        *_contents(business, documents, lines, taxes),
        *_files(business, documents),
        *([] if unreadable else _tables(business, documents, lines, taxes)),
    ]


def redrawn_documents(business: Business) -> list[str]:
    """Documents whose PDF or e-invoice was made again with other bytes than issued, in words."""
    redrawn = business.register.redrawn_files().join(
        business.register.documents().select("number", "billing_month"), on="number", maintain_order="left"
    )
    lines = []
    for number, sha256, day, original, with_what, month in redrawn.select(
        "number", "redrawn_sha256", "redrawn_on", "sha256", "drawn_with", "billing_month"
    ).iter_rows():
        for what, done, path in (
            ("PDF", "drawn", business.home.document_file(month, number)),
            ("e-invoice", "written", business.home.invoice_file(month, number)),
        ):
            if not path.exists() or file_hash(path) != sha256:
                continue
            lines.append(
                f"{path}: the {what} of {number} was {done} again on {day} with other bytes than it was issued with "
                f"({original[:12]}, now {sha256[:12]}, by {with_what}): put the original back if a backup has it"
            )
    return lines


def moved_months(business: Business) -> list[tuple[str, list[str]]]:
    """Stale months, which `disagreements` does not compute again, and their changed inputs."""
    views = _views(business)
    months = [(month, [moved_inputs(view, month) for view in views]) for month in built_months(business)]
    return [(month, min(inputs, key=len)) for month, inputs in months if all(inputs)]


def _views(business: Business) -> list[Business]:
    """The business as of the days on which months may have been built, issuing or not."""
    last = last_as_of(business.home.root)
    if last is None:
        return [business]
    of_last_run = (business.at(last, issues=issues) for issues in (True, False))
    return [business, *of_last_run]


def _tables(business: Business, documents: pl.DataFrame, lines: pl.DataFrame, taxes: pl.DataFrame) -> Iterator[str]:
    yield from _lake(business, documents, lines, taxes)
    lost = lost_deliveries(business.at(last_as_of(business.home.root) or business.as_of))
    if not lost.is_empty():
        yield f"usage: {in_words(lost)}: put their archive back, or accept the loss by `overage accept-loss`"
        return
    ingested = list(_ingested(business))
    yield from ingested
    yield from _journal(business)
    if not ingested:
        yield from _computed_again(business)
        yield from _profiles_and_balances(business)


def _without_document(documents: pl.DataFrame, lines: pl.DataFrame, taxes: pl.DataFrame) -> Iterator[str]:
    for what, frame in (("lines", lines), ("taxes", taxes)):
        for number in frame.join(documents, on=_KEYS, how="anti")["number"].unique().sort():
            yield f"{number}: the register has {what} of it and no such document"


def _sums(
    documents: pl.DataFrame, lines: pl.DataFrame, taxes: pl.DataFrame, amount: Callable[[Decimal], str]
) -> Iterator[str]:
    zero = pl.lit(0).cast(MONEY)
    summed = (
        documents.join(lines.group_by(_KEYS).agg(lines=pl.col("amount").sum()), on=_KEYS, how="left")
        .join(taxes.group_by(_KEYS).agg(taxes=pl.col("amount").sum()), on=_KEYS, how="left")
        .with_columns(pl.col("lines", "taxes").fill_null(zero))
        .sort("number")
    )
    for number, lines_sum, net in (
        summed.filter(pl.col("lines") != pl.col("net")).select("number", "lines", "net").iter_rows()
    ):
        yield f"{number}: its lines add up to {amount(lines_sum)}, its net says {amount(net)}"
    for number, tax_sum, tax in (
        summed.filter(pl.col("taxes") != pl.col("tax")).select("number", "taxes", "tax").iter_rows()
    ):
        yield f"{number}: its taxes add up to {amount(tax_sum)}, its tax says {amount(tax)}"
    wrong = summed.filter(pl.col("net") + pl.col("tax") != pl.col("total"))
    for number, total in wrong.select("number", "total").iter_rows():
        yield f"{number}: net and tax do not add up to its total {amount(total)}"


def _amount(business: Business) -> Callable[[Decimal], str]:
    return partial(money_in_words, decimals=business.catalogue.minor_units)


def _twice(documents: pl.DataFrame) -> Iterator[str]:
    scheduled = documents.filter(pl.col("corrects").is_null())
    twice = scheduled.filter(pl.struct("subscription_id", "billing_date").is_duplicated())
    whose = pl.coalesce(shown_subscription_id(), "account_id")
    for number, subscription, day in twice.select("number", whose, "billing_date").iter_rows():
        yield f"{number}: {subscription} has more than one scheduled document for {day}"


def _unprinted_facts(business: Business, documents: pl.DataFrame, lines: pl.DataFrame) -> Iterator[str]:
    """Check facts that are on no page but determine later bills: the date and fee of a line, and closed dates."""
    register = business.register
    if missing := register.missing_guards() if len(documents) else []:
        yield f"register: the database no longer guards what was issued: it lacks {', '.join(missing)}"
    for number in register.wrongly_scheduled():
        yield f"{number}: the register has it as scheduled and as a correction, or as neither"
    kind, due_kind = pl.col("kind"), pl.col("due_kind")
    scheduled = kind.is_in([LineKind.PACKAGE_FEE, LineKind.HOLD_FEE, LineKind.OVERAGE])
    # rules 2 and 6: a fee falls due where its cycle starts, an overage where its cycle ends
    due_on = (
        pl.when(due_kind == LineKind.OVERAGE)
        .then("cycle_end")
        .when(due_kind == LineKind.PACKAGE_FEE)
        .then("cycle_start")
    )
    dated = lines.join(
        documents.select("number", "subscription_id", "billing_date"), on="number", maintain_order="left"
    )
    # rule 16: a yearly fee may fall due later, on the day access came back
    is_late = (due_kind == LineKind.PACKAGE_FEE) & pl.col("due_on").is_between(
        "cycle_start", "cycle_end", closed="left"
    )
    is_late &= (pl.col("cycle_end") - pl.col("cycle_start")).dt.total_days() > 31
    is_other = (
        (scheduled & ((due_kind != kind) | (pl.col("due_on") != pl.col("billing_date"))))
        | ((due_kind == LineKind.OVERAGE) & pl.col("metric").is_null())
        | (due_kind.is_in([LineKind.PACKAGE_FEE, LineKind.HOLD_FEE]) & pl.col("metric").is_not_null())
        | ((pl.col("due_on") != due_on) & ~is_late)
    )
    for number, line, day, what in dated.filter(is_other).select("number", "line", "due_on", "due_kind").iter_rows():
        yield f"{number} line {line}: the register has it as {what} due on {day}, but it is of another date or kind"
    closed = register.closed_dates()
    keys = ["subscription_id", "billing_date"]
    of_dates = dated.filter(scheduled).join(closed, on=keys, how="left", suffix="_closed", maintain_order="left")
    for number in of_dates.filter(pl.col("account_id").is_null())["number"].unique(maintain_order=True):
        yield f"{number}: the register does not have its billing date as closed"
    for side, of_kind in (("opening_package", LineKind.PACKAGE_FEE), ("closing_package", LineKind.OVERAGE)):
        other = of_dates.filter((kind == of_kind) & (pl.col(side) != pl.col("package")))
        for number, line, package, has in other.select("number", "line", "package", side).iter_rows():
            yield f"{number} line {line}: it bills the package {package}, the closed billing date says {has}"
    for month in register.issued_months():
        through = register.closed_through(month)
        later = register.closed_dates(month).filter(pl.col("billing_date") > through)
        for subscription, day in later.select(keys).iter_rows():
            yield f"register: {month} is closed through {through}, and {day} of {subscription} is closed"


def _contents(business: Business, documents: pl.DataFrame, lines: pl.DataFrame, taxes: pl.DataFrame) -> Iterator[str]:
    """Compare stored contents with their hashes, and rows of the register with their pages."""
    for part in documents.iter_slices(_PAGES_AT_ONCE):
        stored = list(business.register.contents(part["number"].to_list()))
        contents = pl.DataFrame(stored, schema={"number": pl.String, "content": pl.String}, orient="row")
        hashed = contents.with_columns(hash_contents(contents["content"]).alias("hash")).join(
            part.select("number", "content_hash"), on="number", maintain_order="left"
        )
        is_whole = pl.col("hash") == pl.col("content_hash")
        for number in hashed.filter(~is_whole)["number"]:
            yield f"{number}: its stored content does not have the hash it was issued with"
        pages = hashed.filter(is_whole).select([*_KEYS, "content"])
        own = PrintedRows(*(frame.join(pages, on=_KEYS, how="semi") for frame in (part, lines, taxes)))
        yield from _unlike_their_pages(own, printed_rows(pages), business.catalogue.minor_units)


def _unlike_their_pages(register: PrintedRows, printed: PrintedRows, decimals: int) -> Iterator[str]:
    """Differences between rows of the register and their pages."""
    heads = register.documents.with_columns(shown_subscription_id(), page_number="number").join(
        printed.documents, on=_KEYS, suffix=_PRINTED, maintain_order="left"
    )
    for name in printed.documents.columns:
        what = name.removeprefix("page_").replace("_", " ")
        for number, here, there in _unlike(heads, name, _KEYS, decimals) if name not in _KEYS else ():
            yield f"{number}: its page says {what} {there}, the register says {here}"
    on_page = printed.lines.with_columns(is_printed=True)
    both = (
        register.lines.with_columns(is_there=True)
        .join(on_page, on=list(LINES.key), how="full", coalesce=True, suffix=_PRINTED)
        .sort(LINES.key)
    )
    for number, line in both.filter(pl.col("is_printed").is_null()).select(LINES.key).iter_rows():
        yield f"{number} line {line}: is in the register and not on its page"
    for number, line in both.filter(pl.col("is_there").is_null()).select(LINES.key).iter_rows():
        yield f"{number} line {line}: is on its page and not in the register"
    known = both.filter(pl.col("is_there") & pl.col("is_printed"))
    for name in [name for name in LINES.column_names if name not in LINES.key]:
        for number, line, here, there in _unlike(known, name, list(LINES.key), decimals):
            yield f"{number} line {line}: its page says {name.replace('_', ' ')} {there}, the register says {here}"
    rows = [frame.select(TAXES.column_names) for frame in (register.taxes, printed.taxes)]
    other = [one.join(two, on=TAXES.column_names, how="anti", nulls_equal=True) for one, two in (rows, reversed(rows))]
    for number in pl.concat(other)["number"].unique().sort():
        yield f"{number}: the taxes on its page are not those in the register"


def _unlike(both: pl.DataFrame, name: str, keys: list[str], decimals: int) -> Iterator[tuple[Any, ...]]:
    """Keys of rows that differ between register and page, with both values as text."""
    differ = both.filter(pl.col(name).ne_missing(pl.col(f"{name}{_PRINTED}")))
    for row in plain_rows(differ.select(*keys, name, f"{name}{_PRINTED}"), decimals):
        *key, here, there = row.values()
        yield *key, *("nothing" if value is None else repr(value) for value in (here, there))


def _files(business: Business, documents: pl.DataFrame) -> Iterator[str]:
    """Compare the PDFs and e-invoices on disk with the hashes recorded when they were written."""
    recorded = dict(business.register.files().select("number", "sha256").iter_rows())
    redrawn = set(business.register.redrawn_files().select("number", "redrawn_sha256").iter_rows())
    known: set[Path] = set()
    for number, month in documents.select("number", "billing_month").iter_rows():
        path = business.home.document_file(month, number)
        known.add(path)
        if not path.exists():
            yield f"{path}: the PDF of {number} is missing: `overage bill` renders it again, with the same bytes"
        elif number not in recorded:
            yield f"{path}: the PDF of {number} is not recorded: `overage bill` renders and records it"
        elif (sha256 := file_hash(path)) != recorded[number] and (number, sha256) not in redrawn:
            yield (
                f"{path}: the PDF of {number} has other bytes than when it was issued: take it away, and "
                "`overage bill` renders it again"
            )
    known |= {business.home.root / file for file in reminders(business)["file"]}
    months = dict(documents.select("number", "billing_month").iter_rows())
    for number, sha256 in business.register.invoice_files().items():
        path = business.home.invoice_file(months[number], number)
        known.add(path)
        if not path.exists():
            yield f"{path}: the e-invoice of {number} is missing: `overage bill` writes it again, with the same bytes"
        elif (found := file_hash(path)) != sha256 and (number, found) not in redrawn:
            yield (
                f"{path}: the e-invoice of {number} has other bytes than when it was issued: take it away, and "
                "`overage bill` writes it again"
            )
    for kind in ("*.pdf", "*.xml"):
        for path in sorted(business.home.documents.rglob(kind)):
            if path not in known and path.parent.name != EXPORTS:
                yield f"{path}: the register knows no such document"


def _unreadable(business: Business) -> Iterator[str]:
    """Tables in the lake with truncated or overwritten files."""
    for path in sorted(business.home.lake.rglob("*.parquet")):
        try:
            pl.scan_parquet(path, hive_partitioning=False, glob=False).collect_schema()
        except (OSError, PolarsError) as error:
            reason = str(error).splitlines()[0]
            yield f"{path}: not readable as Parquet ({reason}): `overage repair`, then `overage bill` makes it again"


def _lake(business: Business, documents: pl.DataFrame, lines: pl.DataFrame, taxes: pl.DataFrame) -> Iterator[str]:
    """Compare the tables in the lake that copy the register."""
    months = documents.select("number", "billing_month")
    shown = documents.drop("status", strict=False).with_columns(shown_subscription_id())
    for table, frame in ((DOCUMENTS, shown), (LINES, lines), (TAXES, taxes)):
        names = [name for name in table.column_names if name != "status"]
        # A line without its document belongs to no month.
        by_month = frame.join(months, on="number", suffix="_of") if table is not DOCUMENTS else frame
        parts = {str(month): part for (month,), part in by_month.group_by("billing_month")}
        there = {month for month in business.home.months(table) if business.home.parts(table, month)}
        for month in sorted({*parts, *there}):
            stored = read_month(business.home, table, month)
            # Files of earlier versions lack columns that came later: they read as null.
            later = set(names) - _columns(business.home, table, month, names)
            known = parts.get(month, by_month.clear()).with_columns(
                pl.lit(None, table.schema[name]).alias(name) for name in sorted(later)
            )
            if not _equal(stored.select(names), known.select(names), table):
                yield f"lake/{table.name} of {month}: the register says otherwise: bill that month again"


def _columns(home: Home, table: Table, month: str, wanted: Sequence[str]) -> set[str]:
    """The columns that all files of a month have, of a table; those wanted where there is none."""
    schemas = [pl.scan_parquet(part, glob=False).collect_schema() for part in home.parts(table, month)]
    return set(wanted).intersection(*schemas)


def _ingested(business: Business) -> Iterator[str]:
    """Compare ingested files (events, repeats, rejects, manifests) with their recorded hashes."""
    state = read_state(business.home)
    # Skip what an interrupted run left half written: the next run derives it again.
    whole = [made for day, made in state.days.items() if day not in state.pending] if state else []
    outputs = sorted(output for made in whole for output in made.outputs.items())
    for name, (_, digest) in outputs:
        path = business.home.lake / name
        if not path.exists() or file_hash(path) != digest:
            what = "has other bytes than when its deliveries were ingested" if path.exists() else "is missing"
            yield f"{path}: {what}: take the lake away, and `overage bill` makes it again"


def _computed_again(business: Business) -> Iterator[str]:
    """Recompute the tables of months that are up to date, and compare."""
    left = built_months(business)
    for view in _views(business):
        months = [month for month in left if not moved_inputs(view, month)]
        left = [month for month in left if month not in months]
        if months:
            with scratch_copy(view, view.as_of, issues=view.issues) as copy:
                yield from _months_computed_again(business, copy, months)


def _months_computed_again(business: Business, copy: Business, months: Sequence[str]) -> Iterator[str]:
    for month in months:
        for shard in each_shard(copy, month):
            for step in STEPS_BEFORE_DOCUMENTS.values():
                step(shard, month)
        # Where nobody has add-ons, there is no such table.
        has_add_ons = any(each.parts(ADD_ONS, month) for each in (business.home, copy.home))
        for table in (*_COMPUTED, *([ADD_ONS] if has_add_ons else [])):
            if not _is_the_same(business.home, copy.home, table, month):
                yield (
                    f"{business.home.partition(table, month)}: has other rows than its inputs give: take the lake "
                    "away, and bill that month again"
                )


def _is_the_same(home: Home, again: Home, table: Table, month: str) -> bool:
    """Whether the files of a monthly table are what was computed again."""
    parts, parts_again = ({part.name: part for part in each.parts(table, month)} for each in (home, again))
    return (
        bool(parts)
        and parts.keys() == parts_again.keys()
        and all(
            file_hash(part) == file_hash(parts_again[name]) or _has_the_same_rows(part, parts_again[name], table)
            for name, part in parts.items()
        )
    )


def _has_the_same_rows(part: Path, again: Path, table: Table) -> bool:
    """Whether two files hold the same rows, in the columns of the one: a file of an earlier version may lack some."""
    try:
        there = pl.read_parquet_schema(part)
        names = [name for name in table.column_names if name in there]
        return read_frame(part, table, names).equals(read_frame(again, table, names))
    except PolarsError:
        return False


def _profiles_and_balances(business: Business) -> Iterator[str]:
    """Recompute balances, allocations, credits, collections and profiles, if no input changed since the last run."""
    built_from = profiles_built_from(business.home.root)
    view = next((view for view in _views(business)[1:] if profiles_digest(view) == built_from), None)
    if view is None:
        return
    tables = {
        BALANCES: balances(view),
        ALLOCATIONS: allocations(view),
        CREDITS: credits(view),
        COLLECTIONS: collections(view),
        PROFILE: account_profiles(view, view.as_of),
    }
    for table, frame in tables.items():
        path = business.home.whole(table)
        # A file of an earlier version may lack columns.
        names = [name for name in table.column_names if name in pl.read_parquet_schema(path)] if path.exists() else []
        if not names or not read_frame(path, table, names).equals(table.conform(frame).select(names)):
            yield f"{path}: has other rows than register and payments give: take it away, and bill the last month again"


def _journal(business: Business) -> Iterator[str]:
    """Check that the journal balances and agrees with the balances."""
    for month, entry in unbalanced_entries(business.home).select("billing_month", "entry").iter_rows():
        yield f"lake/journal of {month}: the debits of {entry} are not its credits: bill that month again"
    # The journal is as of the last run: later payments are not in it.
    view, amount = _views(business)[-1], _amount(business)
    if (business.home.lake / JOURNAL.name).exists():
        for account, _, receivable, outstanding in receivable_differences(view).iter_rows():
            yield (
                f"lake/journal: {account} owes {amount(receivable)} there, and its balance is {amount(outstanding)}: "
                "bill the latest month again"
            )


def _equal(one: pl.DataFrame, other: pl.DataFrame, table: Table) -> bool:
    keys = list(table.key)
    return one.sort(keys).equals(other.select(one.columns).cast(pl.Schema(one.schema)).sort(keys))
