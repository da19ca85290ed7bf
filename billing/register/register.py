"""The register of issued documents: an append-only database (rule 19).

Issuing is one transaction: it assigns gap-free numbers, writes documents with everything their pages show, and closes
the billing dates. Amounts are integers, in ten-thousandths of the currency: no database ever sees a binary float.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl
import sqlalchemy as sa

from billing.model.buckets import buckets_of
from billing.model.errors import InterruptedRunError, RefusedError
from billing.model.numbering import Numbering
from billing.model.tables import LINES, TAXES
from billing.register import schema as stored
from billing.register.connection import state_of
from billing.register.issued_documents import DOCUMENT_SCHEMA, OF_THE_DUE, IssuedDocuments, IssuedRows
from billing.register.numbers import Numbers, NumbersInOrder
from billing.register.profile_links import ProfileLinks
from billing.register.recorded_facts import RecordedFacts, keep_settings
from billing.register.rows import (
    as_due,
    credit_rows,
    decision_rows,
    document_rows,
    due_on,
    insert_rows,
    line_rows,
    numbered_lines,
    numbered_taxes,
    tax_rows,
)
from billing.register.rows_in_order import RowsInOrder, ends_of_batches
from billing.register.sent_mails import SentMails
from billing.rules.tax import with_tax_categories

_BULK = 10_000
_KEYS: Final = ["account_id", "subscription_id", "billing_date"]
_LINE: Final = [*LINES.column_names, *OF_THE_DUE]
_ORDER: Final = ["billing_date", "account_id", "subscription_id", "kind"]
_IN_ORDER: Final = _ORDER[:3]
GIVEN: Final = {"number": pl.String, "content_hash": pl.Binary}
"""What each document of a part is given when it is issued; the hash as bytes."""


@dataclass(frozen=True)
class IssuedPart:
    """What is issued to the accounts of a shard, or to all.

    Attributes
    ----------
    drafts
        As the table DRAFTS, sorted by its key, which is the order of the numbers.
    lines, taxes
        As the tables DRAFT_LINES and DRAFT_TAXES, sorted by their keys.
    closing
        account_id, subscription_id, billing_date, closing_package, opening_package, change_reason, waiting_package:
        the billing dates to close, whether they have a document or not.
    decisions
        As the table DECISIONS: those that are final with the closing.
    are_first_decisions
        Whether no decision of the month was final before.
    begun
        subscription_id, account_id, request_id: of subscriptions of which no request is recorded yet.
    passed
        account_id: of parked accounts whose billing dates go by.
    are_all_drafts
        Whether the drafts are the first rows of the table as it stands: any of them can be read by itself.
    """

    drafts: pl.LazyFrame
    lines: pl.LazyFrame
    taxes: pl.LazyFrame
    closing: pl.LazyFrame
    decisions: pl.DataFrame
    begun: pl.LazyFrame | None = None
    passed: pl.Series | None = None
    are_all_drafts: bool = False
    are_first_decisions: bool = False


@dataclass(frozen=True)
class Issue:
    """What one run issues for a billing month.

    Attributes
    ----------
    parts
        By shards of accounts, whose rows are read some at a time.
    seen
        The state of the register (`Register.state`) that the drafts were made from.
    measured
        As `newly_measured`: from which deliveries usage was measured.
    numbering
        The formats of numbers, as the catalogue has them.
    are_sent
        Whether the documents are to be sent by mail.
    settings
        As `Register.keep_settings`: recorded first.
    """

    month: str
    as_of: date
    closed_through: date
    parts: Sequence[IssuedPart]
    seen: str
    measured: pl.DataFrame | None = None
    numbering: Numbering = field(default_factory=Numbering)
    are_sent: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_rows(self) -> bool:
        """Whether a document is issued or a billing date closed."""
        return any(rows.head(1).collect().height for part in self.parts for rows in (part.closing, part.lines))


class Register(IssuedDocuments, RecordedFacts, Numbers, SentMails, ProfileLinks):
    """The register of a home: SQLite in the home, or a server by URL."""

    def copied_to(self, path: Path) -> "Register":
        """Copy into a new SQLite file, without stored contents, for a dry run of issuing."""
        engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
        copy = _ScratchRegister(engine)
        with self._engine.connect() as source, copy._made.begin() as target:
            for table in stored.metadata.sorted_tables:
                columns = [
                    sa.literal("").label(column.name) if column is stored.documents.c.content else column
                    for column in table.columns
                ]
                for rows in (
                    source.execution_options(yield_per=_BULK).execute(sa.select(*columns)).mappings().partitions()
                ):
                    target.execute(sa.insert(table), [dict(row) for row in rows])
        return copy

    def missing_guards(self) -> list[str]:
        """Missing triggers that protect issued rows from changes; sorted."""
        # Import lazily: migrations load Alembic, which nothing else needs.
        from billing.register.migrations.versions.r0002_guards import guards
        from billing.register.migrations.versions.r0004_recorded_facts import KEPT
        from billing.register.migrations.versions.r0005_redrawn_files import GUARDS as GUARDS_OF_REDRAWN
        from billing.register.migrations.versions.r0006_settings import guards as guards_of_settings
        from billing.register.migrations.versions.r0007_moving_in import guards as guards_of_moving_in
        from billing.register.migrations.versions.r0010_invoice_files import GUARDS as GUARDS_OF_INVOICE_FILES
        from billing.register.migrations.versions.r0011_mails import guards as guards_of_mails
        from billing.register.migrations.versions.r0012_profile_links import guards as guards_of_links
        from billing.register.migrations.versions.r0014_credit_uses import guards as guards_of_credits

        recorded = {f"{table}_{name}" for table in KEPT for name in ("never_change", "stay")}
        recorded |= {*GUARDS_OF_REDRAWN, *GUARDS_OF_INVOICE_FILES}
        with self._engine.connect() as connection:
            dialect = connection.dialect.name
            existing = connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
                if dialect == "sqlite"
                else "SELECT tgname FROM pg_trigger WHERE tgenabled <> 'D'"
            )
            later = (*guards_of_mails(), *guards_of_links(), *guards_of_credits())
            declared = (*guards(dialect), *guards_of_settings(), *guards_of_moving_in(dialect), *later)
            names = {guard.name for guard in declared} | recorded
            return sorted(names - set(existing.scalars()))

    def wrongly_scheduled(self) -> list[str]:
        """The numbers of documents that correct another and count as scheduled, or the other way round; sorted."""
        corrects = stored.documents.c.corrects.is_not(None)
        query = sa.select(stored.documents.c.number).where(stored.documents.c.is_scheduled == corrects)
        with self._engine.connect() as connection:
            return list(connection.execute(query.order_by(stored.documents.c.number)).scalars())

    def issue(self, issue: Issue) -> list[pl.DataFrame]:
        """Number and write documents, and close billing dates, in one transaction.

        Rule 19: what is issued never changes.

        Numbers count per series and year of the as-of day, in the order of billing date, account, subscription, kind.

        Returns
        -------
        list
            Of each part, GIVEN: what its documents were given, in their order; see `issued_rows`.

        Raises
        ------
        RefusedError
            When something was issued with a later as-of: numbers and dates never run backwards.
        InterruptedRunError
            When the register has moved since `issue.seen`: what was drafted may have been issued by another run.
        """
        with self._made.begin() as connection:
            self._wait_for_others(connection)
            if len(issue.parts) > 1:
                _index_buckets(connection)
            if (found := state_of(connection)) != issue.seen:
                raise InterruptedRunError(
                    f"{issue.month}: nothing was issued, because the register has moved since these drafts were made "
                    f"(then {issue.seen}, now {found})"
                )
            latest = connection.execute(sa.select(sa.func.max(stored.documents.c.issued_on))).scalar()
            if latest is not None and latest > issue.as_of:
                raise RefusedError(
                    f"nothing can be issued as of {issue.as_of}: documents were issued as of {latest}; "
                    f"expected an as-of day of {latest} or later (a draft may look back)"
                )
            if issue.settings:
                keep_settings(connection, issue.settings)
            given = self._write_documents(connection, issue)
            for part in issue.parts:
                self._close(connection, issue, part)
            if issue.measured is not None:
                insert_rows(connection, stored.measured_deliveries, issue.measured)
            closed = {"closed_through": issue.closed_through}
            month = stored.issued_months.c.billing_month == issue.month
            if not connection.execute(sa.update(stored.issued_months).where(month).values(closed)).rowcount:
                connection.execute(sa.insert(stored.issued_months).values(billing_month=issue.month, **closed))
        return given

    def _write_documents(self, connection: sa.Connection, issue: Issue) -> list[pl.DataFrame]:
        """Number the drafts of all parts together, and write them with their lines and taxes, some at a time."""
        numbers = NumbersInOrder(connection, issue.numbering, issue.as_of)
        together = _BULK // len(issue.parts)
        parts = [
            (
                RowsInOrder(part.drafts, _IN_ORDER, together, by_slices=part.are_all_drafts),
                RowsInOrder(part.lines, _IN_ORDER, together),
                RowsInOrder(part.taxes, _IN_ORDER, together),
            )
            for part in issue.parts
        ]
        given: list[list[pl.DataFrame]] = [[pl.DataFrame(schema=GIVEN)] for _ in parts]
        for end in ends_of_batches([drafts for drafts, _, _ in parts], _BULK):
            read = [[rows.through(end) for rows in part] for part in parts]
            drafts, lines, taxes = map(pl.concat, zip(*read, strict=True))
            places = [pl.repeat(place, own.height, dtype=pl.UInt16, eager=True) for place, (own, *_) in enumerate(read)]
            drafts = drafts.with_columns(pl.concat(places).alias("part")).sort(_ORDER, maintain_order=True)
            drafts = numbers.numbered(drafts)
            drafts = drafts.with_columns(buckets_of(drafts["account_id"]).alias("bucket"))
            keyed = drafts.select(*_KEYS, "number")
            documents = document_rows(drafts)
            # Insert documents after their lines, taxes and credits: triggers compare the sums.
            insert_rows(connection, stored.lines, line_rows(numbered_lines(lines, keyed)), in_any_order=True)
            insert_rows(connection, stored.taxes, tax_rows(numbered_taxes(taxes, keyed)))
            insert_rows(connection, stored.credit_uses, credit_rows(drafts))
            insert_rows(connection, stored.documents, documents)
            if issue.are_sent:
                insert_rows(connection, stored.mails_to_send, documents.select("number"))
            said = documents.select("number", pl.col("content_hash").str.decode("hex"), part=drafts["part"])
            for (place,), own in said.partition_by("part", maintain_order=True, as_dict=True).items():
                given[place].append(own.drop("part"))
        return [pl.concat(each) for each in given]

    def _close(self, connection: sa.Connection, issue: Issue, part: IssuedPart) -> None:
        """Close the billing dates of a part, with the decisions that are final with them."""
        closing = part.closing.collect().sort("subscription_id", "billing_date")
        rows = closing.with_columns(
            buckets_of(closing["account_id"]).alias("bucket"),
            billing_month=pl.lit(issue.month),
            closed_on=pl.lit(issue.as_of),
        )
        insert_rows(connection, stored.closed_dates, rows)
        insert_rows(connection, stored.closed_decisions, decision_rows(part.decisions))
        if part.begun is not None:
            insert_rows(connection, stored.begun_subscriptions, part.begun.collect().sort("subscription_id"))
        if part.passed is not None:
            insert_rows(connection, stored.passed_dates, self._newly_passed(connection, issue, part.passed))

    def _newly_passed(self, connection: sa.Connection, issue: Issue, accounts: pl.Series) -> pl.DataFrame:
        """The rows of passed_dates that are not there yet, sorted."""
        table = stored.passed_dates.c
        query = sa.select(table.account_id).where(
            table.billing_month == issue.month, table.passed_through == issue.closed_through
        )
        known = pl.Series(list(connection.execute(query).scalars()), dtype=pl.String)
        return (
            accounts.unique()
            .sort()
            .to_frame("account_id")
            .filter(~pl.col("account_id").is_in(known.implode()))
            .with_columns(billing_month=pl.lit(issue.month), passed_through=pl.lit(issue.closed_through))
        )


def _index_buckets(connection: sa.Connection) -> None:
    """Make the indexes by which shards find their rows, when several are issued for the first time."""
    for name, columns, replaced in stored.BUCKET_INDEXES:
        connection.exec_driver_sql(f"CREATE INDEX IF NOT EXISTS {name} ON {columns}")
        # On a server to drop it would keep all readers waiting until the issue is committed.
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"DROP INDEX IF EXISTS {replaced}")


def issued_rows(part: IssuedPart, given: pl.DataFrame, issued_on: date) -> IssuedRows:
    """What was issued of a part, as `Register.rows` would read it, from its drafts: reading rows back costs more.

    Parameters
    ----------
    given
        As `Register.issue` returns it.
    """
    drafts = part.drafts.drop("content", "content_hash").with_columns(*as_due()).collect()
    documents = drafts.with_columns(
        given["number"], given["content_hash"].bin.encode("hex"), issued_on=pl.lit(issued_on)
    ).with_columns(due_on=due_on())
    keyed = documents.select(*_KEYS, "number")
    return IssuedRows(
        documents.select(list(DOCUMENT_SCHEMA)).sort("number"),
        numbered_lines(part.lines.collect(), keyed).select(_LINE),
        with_tax_categories(numbered_taxes(part.taxes.collect(), keyed).select(TAXES.column_names)),
    )


class _ScratchRegister(Register):
    """A temporary register: tables without triggers."""

    def _make(self) -> None:
        stored.metadata.create_all(self._opened)
