"""The register of issued documents: what has been issued is a fact, and is kept here (rule 19).

Issuing is one transaction: it gives gap-free numbers, writes documents with everything their pages show, and closes
the billing dates. Amounts are whole ten-thousandths of the currency, so no database ever sees a binary float.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import polars as pl
import sqlalchemy as sa

from billing.model.errors import InterruptedRunError, RefusedError
from billing.model.hashes import hash_content
from billing.model.tables import DECISIONS, LINES, TAXES
from billing.register import schema as stored
from billing.register.address import read_address, shown
from billing.register.migrations import migrate
from billing.register.rows import (
    as_drafted,
    decision_rows,
    document_rows,
    from_integers,
    insert_rows,
    json_shape,
    line_rows,
    numbered_taxes,
    portions,
    raw_type,
    tax_rows,
    with_contents,
)
from billing.store.home import Home

SERIES: Final = {"invoice": "INV", "credit_note": "CN", "debit_note": "DN"}

_DOCUMENT_SCHEMA: Final = {
    "number": pl.String,
    "kind": pl.String,
    "account_id": pl.String,
    "subscription_id": pl.String,
    "billing_month": pl.String,
    "billing_date": pl.Date,
    "issued_on": pl.Date,
    "currency": pl.String,
    "net": pl.Int64,
    "tax": pl.Int64,
    "total": pl.Int64,
    "corrects": pl.String,
    "content_hash": pl.String,
}
BEGUN_SCHEMA: Final = {"subscription_id": pl.String, "account_id": pl.String, "request_id": pl.String}
_BULK = 10_000
# keys of the server's locks: one for a run, one for the transaction that gives numbers
_RUN_LOCK: Final = 7_281_002
_ISSUE_LOCK: Final = 7_281_003


@dataclass(frozen=True)
class Issue:
    """What one run issues for a billing month.

    Attributes
    ----------
    drafts
        As the table DRAFTS, sorted by its key, which is the order of the numbers: contents are read some at a time.
    lines, taxes
        As the tables DRAFT_LINES and DRAFT_TAXES.
    closing
        account_id, subscription_id, billing_date, closing_package, opening_package, change_reason, waiting_package:
        the billing dates to close, whether they have a document or not.
    decisions
        As the table DECISIONS: those that are final with the closing.
    seen
        The state of the register (`Register.state`) that the drafts were made from.
    begun
        subscription_id, account_id, request_id: of subscriptions of which no request is recorded yet.
    passed
        account_id: of parked accounts whose billing dates go by.
    measured
        As `newly_measured`: from which deliveries usage was measured.
    """

    month: str
    as_of: date
    closed_through: date
    drafts: pl.LazyFrame
    lines: pl.DataFrame
    taxes: pl.DataFrame
    closing: pl.DataFrame
    decisions: pl.DataFrame
    seen: str
    begun: pl.DataFrame | None = None
    passed: pl.Series | None = None
    measured: pl.DataFrame | None = None


@dataclass(frozen=True)
class IssuedRows:
    """Issued documents with their lines and taxes: as `Register.documents`, `lines` and `taxes` give them."""

    documents: pl.DataFrame
    lines: pl.DataFrame
    taxes: pl.DataFrame

    def and_then(self, later: "IssuedRows") -> "IssuedRows":
        """These and those that were issued after them."""
        return IssuedRows(
            pl.concat([self.documents, later.documents]),
            pl.concat([self.lines, later.lines]),
            pl.concat([self.taxes, later.taxes]),
        )


class Register:
    """The register of a home: SQLite in the home, or a server by URL."""

    def __init__(self, engine: sa.Engine) -> None:
        self._opened = engine

    @classmethod
    def open(cls, home: Home, url: str | None = None) -> "Register":
        """The register; where there is none yet, it is made when something is first issued, and read as an empty one.

        Raises
        ------
        RefusedError
            When it cannot be reached or written.
        """
        try:
            address = read_address(url) if url else sa.URL.create("sqlite", database=str(home.register_path))
            # a run that issues keeps others waiting for as long as its one transaction takes
            patience = {"timeout": 60} if address.drivername.startswith("sqlite") else {}
            engine = sa.create_engine(address, connect_args=patience)
        except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
            raise RefusedError(
                f"OVERAGE_REGISTER_URL: this register cannot be used ({error}): expected the URL of a database such as "
                "postgresql+psycopg://user@host/name, and its driver installed"
            ) from error
        if engine.dialect.name not in ("sqlite", "postgresql"):
            raise RefusedError(
                f"OVERAGE_REGISTER_URL: found a database of kind {engine.dialect.name}, expected postgresql or sqlite"
            )
        if engine.dialect.name == "sqlite":
            _use_immediate_transactions(engine)
        _name_lost_registers(engine)
        register = cls(engine)
        if url or home.register_path.exists():
            # what cannot be reached or written is refused before anything is computed
            _ = register._made
        return register

    @property
    def _engine(self) -> sa.Engine:
        """What is read: looking at a register that is not there yet makes none."""
        file = self._opened.url.database
        is_there = self._opened.dialect.name != "sqlite" or (file is not None and Path(file).exists())
        return self._made if is_there else self._empty

    @cached_property
    def _made(self) -> sa.Engine:
        """What is written, made where it is not there yet."""
        self._make()
        return self._opened

    @cached_property
    def _empty(self) -> sa.Engine:
        engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
        stored.metadata.create_all(engine)
        return engine

    def _make(self) -> None:
        try:
            migrate(self._opened)
        except (sa.exc.SQLAlchemyError, InterruptedRunError) as error:
            name, cause = shown(self._opened.url), _cause(error.__cause__ or error)
            raise RefusedError(
                f"{name}: the register cannot be opened ({cause}): expected a database that can be reached and written"
            ) from error

    def copied_to(self, path: Path) -> "Register":
        """A copy in a new SQLite file, without the stored contents: to try out what issuing would do."""
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

    def close(self) -> None:
        """Give back the connections."""
        self._opened.dispose()

    def documents(self, months: Sequence[str] | None = None, number: str | None = None) -> pl.DataFrame:
        """Issued documents without their content: the table DOCUMENTS less `status`, sorted by number.

        All of them, or those of some billing months, or the one with a number.
        """
        columns = [stored.documents.c[name] for name in _DOCUMENT_SCHEMA]
        query = sa.select(*columns).order_by(stored.documents.c.number)
        if months is not None:
            query = query.where(stored.documents.c.billing_month.in_(months))
        if number is not None:
            query = query.where(stored.documents.c.number == number)
        return self._frame(query, _DOCUMENT_SCHEMA).with_columns(from_integers("net", "tax", "total"))

    def lines(self, months: Sequence[str] | None = None, numbers: Sequence[str] | None = None) -> pl.DataFrame:
        """Lines of issued documents: the table LINES with due_on and due_kind, sorted by number and line.

        All of them, or those of some billing months, or of some numbers.
        """
        schema: dict[str, Any] = {column.name: raw_type(column.name, LINES.schema) for column in LINES.columns}
        schema |= {"due_on": pl.Date, "due_kind": pl.String}
        query = sa.select(*(stored.lines.c[name] for name in schema)).order_by(
            stored.lines.c.number, stored.lines.c.line
        )
        if months is not None:
            query = query.join(stored.documents).where(stored.documents.c.billing_month.in_(months))
        if numbers is not None:
            query = query.where(stored.lines.c.number.in_(numbers))
        frame = self._frame(query, schema).with_columns(from_integers("amount"))
        return frame.with_columns(pl.col(name).cast(LINES.schema[name]) for name in LINES.column_names)

    def taxes(self, months: Sequence[str] | None = None) -> pl.DataFrame:
        """Taxes of issued documents: the table TAXES, sorted."""
        schema: dict[str, Any] = {column.name: raw_type(column.name, TAXES.schema) for column in TAXES.columns}
        query = sa.select(*(stored.taxes.c[name] for name in schema)).order_by(
            stored.taxes.c.number, stored.taxes.c.position
        )
        if months is not None:
            query = query.join(stored.documents).where(stored.documents.c.billing_month.in_(months))
        frame = self._frame(query, schema).with_columns(from_integers("taxable", "amount"))
        return frame.with_columns(pl.col(name).cast(TAXES.schema[name]) for name in TAXES.column_names)

    def taxes_of(self, numbers: Sequence[str]) -> pl.DataFrame:
        """The taxes of documents, and what has been given back of them so far.

        Returns
        -------
        polars.DataFrame
            The columns of TAXES and `by`: of the documents, of their notes, and of lines of later documents that are
            taxed as they were; `number` is the document that billed and `by` the one that has the row.
        """
        schema: dict[str, Any] = {column.name: raw_type(column.name, TAXES.schema) for column in TAXES.columns}
        schema["by"] = pl.String
        found = [pl.DataFrame(schema=schema)]
        tax, document = stored.taxes.c, stored.documents.c
        for some in portions(numbers):
            for billed_by, condition in (
                (tax.number, tax.number.in_(some) & tax.taxed_as.is_(None)),
                (document.corrects, document.corrects.in_(some)),
                (tax.taxed_as, tax.taxed_as.in_(some) & document.corrects.is_(None)),
            ):
                columns = [billed_by, *(tax[name] for name in schema if name not in ("number", "by")), tax.number]
                found.append(self._frame(sa.select(*columns).join(stored.documents).where(condition), schema))
        taxes = pl.concat(found).with_columns(from_integers("taxable", "amount"))
        return taxes.with_columns(pl.col(name).cast(TAXES.schema[name]) for name in TAXES.column_names)

    def given_back(self, numbers: Sequence[str]) -> pl.DataFrame:
        """number, by, amount: what lines of `by` give back of what `number` billed, where either is one of these."""
        schema = {"number": pl.String, "by": pl.String, "amount": pl.Int64}
        line = stored.lines.c
        query = sa.select(line.gives_back, line.number, line.amount)
        found = [pl.DataFrame(schema=schema)]
        for some in portions(numbers):
            for condition in (line.gives_back.in_(some), line.number.in_(some) & line.gives_back.is_not(None)):
                part = self._frame(query.where(condition), schema)
                found.append(part.group_by("number", "by").agg(pl.col("amount").sum()))
        # a pair of which both are asked for is found twice
        return pl.concat(found).unique().sort("number", "by").with_columns(from_integers("amount"))

    def rows(self, month: str) -> IssuedRows:
        """The documents of a billing month with their lines and taxes."""
        return IssuedRows(self.documents([month]), self.lines([month]), self.taxes([month]))

    def lines_due(self, subscription_id: str, due_on: date) -> pl.DataFrame:
        """The lines of issued documents that bill what fell due on a billing date, as the table LINES."""
        numbers = (
            sa.select(stored.lines.c.number)
            .join(stored.documents)
            .where(stored.documents.c.subscription_id == subscription_id, stored.lines.c.due_on == due_on)
            .distinct()
        )
        with self._engine.connect() as connection:
            found = list(connection.execute(numbers).scalars())
        return self.lines(numbers=found).filter(pl.col("due_on") == due_on)

    def lines_of_accounts(self, accounts: Sequence[str], due_from: date, due_to: date) -> pl.DataFrame:
        """The lines of some accounts that bill what fell due in `[due_from, due_to]`.

        Returns
        -------
        polars.DataFrame
            The columns of LINES, due_on, due_kind, and of its document subscription_id, issued_on and corrects; in the
            order in which the documents were issued, as far as their days tell: what was billed on the date itself
            comes first.
        """
        schema: dict[str, Any] = {column.name: raw_type(column.name, LINES.schema) for column in LINES.columns}
        schema |= {"due_on": pl.Date, "due_kind": pl.String}
        document = {"subscription_id": pl.String, "issued_on": pl.Date, "corrects": pl.String}
        found = [pl.DataFrame(schema=schema | document)]
        for some in portions(accounts):
            query = (
                sa.select(*(stored.lines.c[name] for name in schema), *(stored.documents.c[name] for name in document))
                .join(stored.documents)
                .where(stored.documents.c.account_id.in_(some))
                .where(stored.lines.c.due_on >= due_from, stored.lines.c.due_on <= due_to)
            )
            found.append(self._frame(query, schema | document))
        frame = pl.concat(found).with_columns(from_integers("amount"))
        settles = pl.col("kind").is_in(["prior_cycle", "adjustment", "refund"])
        return frame.with_columns(pl.col(name).cast(LINES.schema[name]) for name in LINES.column_names).sort(
            "issued_on", settles, "number", "line"
        )

    def issued_amounts(self, due_from: date, due_to: date) -> pl.DataFrame:
        """What has been billed of what fell due in `[due_from, due_to)`.

        Returns
        -------
        polars.DataFrame
            account_id, subscription_id, billing_date, kind (package_fee, hold_fee, overage, refund), metric (null on
            fees), issued (MONEY), and package, cycle_start, cycle_end as on the first line.
        """
        query = (
            sa.select(
                stored.documents.c.account_id,
                stored.documents.c.subscription_id,
                stored.lines.c.due_on,
                stored.lines.c.due_kind,
                stored.lines.c.metric,
                sa.cast(sa.func.sum(stored.lines.c.amount), sa.BigInteger),
                sa.func.min(stored.lines.c.package),
                sa.func.min(stored.lines.c.cycle_start, type_=sa.Date),
                sa.func.min(stored.lines.c.cycle_end, type_=sa.Date),
            )
            .join(stored.documents)
            .where(stored.lines.c.due_on >= due_from, stored.lines.c.due_on < due_to)
            .where(stored.lines.c.due_kind.in_(["package_fee", "hold_fee", "overage", "refund"]))
            .group_by(
                stored.documents.c.account_id,
                stored.documents.c.subscription_id,
                stored.lines.c.due_on,
                stored.lines.c.due_kind,
                stored.lines.c.metric,
            )
        )
        schema = {
            "account_id": pl.String,
            "subscription_id": pl.String,
            "billing_date": pl.Date,
            "kind": pl.String,
            "metric": pl.String,
            "issued": pl.Int64,
            "package": pl.String,
            "cycle_start": pl.Date,
            "cycle_end": pl.Date,
        }
        return self._frame(query, schema).with_columns(from_integers("issued"))

    def closed_dates(self, month: str | None = None) -> pl.DataFrame:
        """Closed billing dates with their packages (CLOSED_SCHEMA of `billing.rules.package_changes`, and account_id)."""
        names = [
            "account_id",
            "subscription_id",
            "billing_date",
            "closing_package",
            "opening_package",
            "change_reason",
            "waiting_package",
        ]
        query = sa.select(*(stored.closed_dates.c[name] for name in names)).order_by(
            stored.closed_dates.c.subscription_id, stored.closed_dates.c.billing_date
        )
        if month is not None:
            query = query.where(stored.closed_dates.c.billing_month == month)
        return self._frame(query, {name: pl.Date if name == "billing_date" else pl.String for name in names})

    def billed_accounts(self) -> pl.Series:
        """account_id, sorted: the accounts to which anything was issued, or whose billing dates were closed."""
        begun, documents = stored.begun_subscriptions, stored.documents
        query = sa.union(sa.select(begun.c.account_id), sa.select(documents.c.account_id))
        return self._frame(query, {"account_id": pl.String})["account_id"].sort()

    def live_accounts(self) -> pl.Series:
        """account_id, sorted: of accounts with a subscription whose latest closed billing date starts a cycle."""
        closed = stored.closed_dates.c
        latest = (
            sa.select(closed.subscription_id, sa.func.max(closed.billing_date).label("billing_date"))
            .group_by(closed.subscription_id)
            .subquery()
        )
        query = (
            sa.select(closed.account_id)
            .join(
                latest,
                (latest.c.subscription_id == closed.subscription_id) & (latest.c.billing_date == closed.billing_date),
            )
            .where(closed.opening_package.is_not(None))
            .distinct()
        )
        return self._frame(query, {"account_id": pl.String})["account_id"].sort()

    def begun_subscriptions(self) -> pl.DataFrame:
        """subscription_id, account_id, request_id: which request began each subscription that was issued to."""
        columns = [stored.begun_subscriptions.c[name] for name in BEGUN_SCHEMA]
        return self._frame(sa.select(*columns).order_by(columns[0]), BEGUN_SCHEMA)

    def has_begun_subscriptions(self) -> bool:
        """Whether the requests that began subscriptions are recorded: not by earlier versions."""
        with self._engine.connect() as connection:
            query = sa.select(stored.begun_subscriptions.c.subscription_id).limit(1)
            return connection.execute(query).first() is not None

    def passed_dates(self, month: str) -> pl.DataFrame:
        """account_id, passed_through: the day up to which billing dates of a month went by while it was parked."""
        table = stored.passed_dates.c
        query = (
            sa.select(table.account_id, sa.func.max(table.passed_through, type_=sa.Date))
            .where(table.billing_month == month)
            .group_by(table.account_id)
            .order_by(table.account_id)
        )
        return self._frame(query, {"account_id": pl.String, "passed_through": pl.Date})

    def dates_gone_by(self) -> pl.DataFrame:
        """account_id, billing_month, passed_through: as `passed_dates`, of every month; sorted."""
        table = stored.passed_dates.c
        query = (
            sa.select(table.account_id, table.billing_month, sa.func.max(table.passed_through, type_=sa.Date))
            .group_by(table.account_id, table.billing_month)
            .order_by(table.account_id, table.billing_month)
        )
        return self._frame(query, {"account_id": pl.String, "billing_month": pl.String, "passed_through": pl.Date})

    def measured_digests(self) -> pl.DataFrame:
        """delivery_day, version, digest: the latest record of each day's deliveries (see `measured_deliveries`)."""
        table = stored.measured_deliveries.c
        latest = (
            sa.select(table.delivery_day, sa.func.max(table.version).label("version"))
            .group_by(table.delivery_day)
            .subquery()
        )
        query = (
            sa.select(table.delivery_day, table.version, table.digest)
            .join(latest, (latest.c.delivery_day == table.delivery_day) & (latest.c.version == table.version))
            .order_by(table.delivery_day)
        )
        return self._frame(query, {"delivery_day": pl.Date, "version": pl.Int64, "digest": pl.String})

    def measured_files(self, records: Sequence[tuple[date, int]]) -> Iterator[tuple[date, str]]:
        """(delivery_day, files) of records, by day and version."""
        table = stored.measured_deliveries.c
        for day, version in records:
            query = sa.select(table.files).where(table.delivery_day == day, table.version == version)
            with self._engine.connect() as connection:
                yield day, connection.execute(query).scalar_one()

    def accepted_losses(self) -> pl.DataFrame:
        """delivery_day, file, sha256, first_day, last_day, accepted_on, reason of deliveries that were given up."""
        dates = ("delivery_day", "first_day", "last_day", "accepted_on")
        columns = list(stored.accepted_losses.columns)
        schema = {column.name: pl.Date if column.name in dates else pl.String for column in columns}
        return self._frame(sa.select(*columns).order_by(*columns[:3]), schema)

    def accept_losses(self, lost: pl.DataFrame) -> None:
        """Record that the loss of deliveries was accepted: the columns of `accepted_losses`."""
        with self._made.begin() as connection:
            insert_rows(connection, stored.accepted_losses, lost.select(stored.accepted_losses.columns.keys()))

    def closed_subscriptions(self) -> pl.DataFrame:
        """account_id, subscription_id, first and last closed billing date; sorted by subscription."""
        table = stored.closed_dates.c
        query = sa.select(
            sa.func.min(table.account_id),
            table.subscription_id,
            sa.func.min(table.billing_date),
            sa.func.max(table.billing_date),
        )
        schema = {"account_id": pl.String, "subscription_id": pl.String, "first": pl.Date, "last": pl.Date}
        return self._frame(query.group_by(table.subscription_id).order_by(table.subscription_id), schema)

    def first_closed_date(self) -> date | None:
        """The earliest billing date that has been closed; None when none has."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.min(stored.closed_dates.c.billing_date))).scalar()

    def closed_decisions(self, month: str) -> pl.DataFrame:
        """The decisions that were final when billing dates of the month closed: the table DECISIONS."""
        query = sa.select(stored.closed_decisions.c.decision).where(stored.closed_decisions.c.billing_month == month)
        found = self._frame(query.order_by(stored.closed_decisions.c.decision_id), {"decision": pl.String})
        if found.is_empty():
            return DECISIONS.empty()
        shape = pl.Struct(json_shape(DECISIONS.schema))
        decisions = found.select(pl.col("decision").str.json_decode(shape)).unnest("decision")
        dates = [name for name, dtype in DECISIONS.schema.items() if dtype == pl.Date]
        return DECISIONS.conform(decisions.with_columns(pl.col(dates).str.to_date("%Y-%m-%d")))

    def closed_decision_ids(self) -> pl.Series:
        """The ids of the decisions that were final when a billing date closed, of all months."""
        query = sa.select(stored.closed_decisions.c.decision_id)
        return self._frame(query, {"decision_id": pl.String})["decision_id"]

    def closed_through(self, month: str) -> date | None:
        """The day up to which billing dates of the month have been closed; None when it was never issued."""
        query = sa.select(stored.issued_months.c.closed_through).where(stored.issued_months.c.billing_month == month)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar()

    def issued_months(self) -> list[str]:
        """The months of which billing dates have been closed, sorted."""
        query = sa.select(stored.issued_months.c.billing_month).order_by(stored.issued_months.c.billing_month)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def count(self, through_month: str | None = None, since: str | None = None) -> int:
        """How many documents have been issued, for all billing months or those from `since` to `through_month`."""
        query = sa.select(sa.func.count()).select_from(stored.documents)
        if through_month is not None:
            query = query.where(stored.documents.c.billing_month <= through_month)
        if since is not None:
            query = query.where(stored.documents.c.billing_month >= since)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def number_gaps(self) -> list[str]:
        """Series and years whose numbers do not run from 1 without a gap, such as INV-2026; rule 19 has none."""
        highest, count = sa.func.max(stored.documents.c.sequence), sa.func.count()
        query = (
            sa.select(stored.documents.c.series, stored.documents.c.year)
            .group_by(stored.documents.c.series, stored.documents.c.year)
            .having(highest != count)
            .order_by(stored.documents.c.series, stored.documents.c.year)
        )
        with self._engine.connect() as connection:
            return [f"{series}-{year}" for series, year in connection.execute(query)]

    def missing_guards(self) -> list[str]:
        """Triggers by which the database itself keeps what was issued, that are not there; sorted."""
        # migrations load Alembic, which nothing else here needs
        from billing.register.migrations.versions.r0002_guards import guards
        from billing.register.migrations.versions.r0004_recorded_facts import KEPT
        from billing.register.migrations.versions.r0005_redrawn_files import GUARDS
        from billing.register.migrations.versions.r0006_settings import guards as guards_of_settings

        recorded = {f"{table}_{name}" for table in KEPT for name in ("never_change", "stay")} | set(GUARDS)
        with self._engine.connect() as connection:
            dialect = connection.dialect.name
            found = connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
                if dialect == "sqlite"
                else "SELECT tgname FROM pg_trigger WHERE tgenabled <> 'D'"
            )
            names = {guard.name for guard in (*guards(dialect), *guards_of_settings())} | recorded
            return sorted(names - set(found.scalars()))

    def wrongly_scheduled(self) -> list[str]:
        """The numbers of documents that correct another and count as scheduled, or the other way round; sorted."""
        corrects = stored.documents.c.corrects.is_not(None)
        query = sa.select(stored.documents.c.number).where(stored.documents.c.is_scheduled == corrects)
        with self._engine.connect() as connection:
            return list(connection.execute(query.order_by(stored.documents.c.number)).scalars())

    def last_numbers(self) -> dict[str, int]:
        """The last number given of every series and year, such as INV-2026: 41."""
        columns = (stored.documents.c.series, stored.documents.c.year)
        query = sa.select(*columns, sa.func.max(stored.documents.c.sequence)).group_by(*columns)
        with self._engine.connect() as connection:
            return {f"{series}-{year}": int(last) for series, year, last in connection.execute(query)}

    def latest_issued_on(self) -> date | None:
        """The latest as-of day of a run that issued anything."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.max(stored.documents.c.issued_on))).scalar()

    def settings(self) -> dict[str, str]:
        """The settings under which billing dates were first closed, by name; none where none were recorded."""
        with self._engine.connect() as connection:
            found = connection.execute(sa.select(stored.settings.c.name, stored.settings.c.value))
            return {row.name: row.value for row in found}

    def keep_settings(self, settings: Mapping[str, str]) -> None:
        """Record settings: anew as long as no billing date was closed, later those of which nothing is recorded."""
        with self._made.begin() as connection:
            self._wait_for_others(connection)
            if connection.execute(sa.select(stored.issued_months.c.billing_month).limit(1)).scalar() is None:
                connection.execute(sa.delete(stored.settings))
            known = set(connection.execute(sa.select(stored.settings.c.name)).scalars())
            new = [{"name": name, "value": value} for name, value in settings.items() if name not in known]
            if new:
                connection.execute(sa.insert(stored.settings), new)

    def state(self) -> str:
        """What tells whether anything was issued or closed since: nothing is ever taken away."""
        with self._engine.connect() as connection:
            return _state(connection)

    @contextmanager
    def alone(self, patience: float = 0) -> Iterator[None]:
        """Keep runs of other homes on the same server waiting; a register in the home is kept by the home's lock.

        The lock is the server's and ends with the connection. A process that holds it may take it again.

        Parameters
        ----------
        patience
            Seconds to wait for another run to end.

        Raises
        ------
        RefusedError
            When another run holds the lock, or the server cannot be reached.
        """
        name = shown(self._opened.url)
        if self._opened.dialect.name != "postgresql" or name in _held:
            yield
            return
        with self._made.connect() as connection:
            deadline = time.monotonic() + patience
            while not connection.execute(sa.select(sa.func.pg_try_advisory_lock(_RUN_LOCK))).scalar():
                if time.monotonic() >= deadline:
                    raise RefusedError(
                        f"{name}: another run is at work with this register: wait for it to end, then run again"
                    )
                time.sleep(0.2)
            # the lock belongs to the session, not to a transaction that would stay open for the whole run
            connection.commit()
            _held.add(name)
            try:
                yield
            finally:
                _held.discard(name)
                # not back into the pool: the lock ends with the connection
                connection.invalidate()

    def issue(self, issue: Issue) -> IssuedRows:
        """Number and write documents, and close billing dates, in one transaction.

        Rule 19: what is issued never changes.

        Numbers count per series and year of the as-of day, in the order of billing date, account, subscription, kind.

        Returns
        -------
        IssuedRows
            What was issued, as it can be read from now on.

        Raises
        ------
        RefusedError
            When something was issued with a later as-of: numbers and dates never run backwards.
        InterruptedRunError
            When the register has moved since `issue.seen`: what was drafted may have been issued by another run.
        """
        with self._made.begin() as connection:
            self._wait_for_others(connection)
            if (found := _state(connection)) != issue.seen:
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
            numbered = self._numbered(connection, issue)
            keys = ["account_id", "subscription_id", "billing_date"]
            numbers = numbered.select(*keys, "number")
            # a document comes after its lines and taxes, and agrees with them: the database sees to both
            lines = issue.lines.join(numbers, on=keys, maintain_order="left").sort("number", "line")
            taxes = numbered_taxes(issue.taxes.join(numbers, on=keys, maintain_order="left"))
            insert_rows(connection, stored.lines, line_rows(lines))
            insert_rows(connection, stored.taxes, tax_rows(taxes))
            documents = []
            # the contents of a month are large: they are finished in pieces
            for start in range(0, numbered.height, _BULK):
                rows = document_rows(with_contents(numbered.slice(start, _BULK), issue.drafts.slice(start, _BULK)))
                insert_rows(connection, stored.documents, rows)
                documents.append(rows.select(list(_DOCUMENT_SCHEMA)))
            closing = issue.closing.with_columns(billing_month=pl.lit(issue.month), closed_on=pl.lit(issue.as_of)).sort(
                "subscription_id", "billing_date"
            )
            insert_rows(connection, stored.closed_dates, closing)
            insert_rows(connection, stored.closed_decisions, decision_rows(issue.decisions))
            if issue.begun is not None:
                insert_rows(connection, stored.begun_subscriptions, issue.begun.sort("subscription_id"))
            if issue.measured is not None:
                insert_rows(connection, stored.measured_deliveries, issue.measured)
            if issue.passed is not None:
                insert_rows(connection, stored.passed_dates, self._newly_passed(connection, issue, issue.passed))
            closed = {"closed_through": issue.closed_through}
            month = stored.issued_months.c.billing_month == issue.month
            if not connection.execute(sa.update(stored.issued_months).where(month).values(closed)).rowcount:
                connection.execute(sa.insert(stored.issued_months).values(billing_month=issue.month, **closed))
        return IssuedRows(
            pl.concat([pl.DataFrame(schema=_DOCUMENT_SCHEMA), *documents])
            .with_columns(from_integers("net", "tax", "total"))
            .sort("number"),
            lines.select(*LINES.column_names, "due_on", "due_kind"),
            taxes.select(TAXES.column_names),
        )

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

    def contents(self, numbers: Sequence[str]) -> Iterable[tuple[str, str]]:
        """(number, content) of documents, in the order of their numbers."""
        for start in range(0, len(numbers), _BULK):
            query = (
                sa.select(stored.documents.c.number, stored.documents.c.content)
                .where(stored.documents.c.number.in_(numbers[start : start + _BULK]))
                .order_by(stored.documents.c.number)
            )
            with self._engine.connect() as connection:
                rows = connection.execute(query).all()
            yield from ((number, content) for number, content in rows)

    def drafted_hashes(self, numbers: Sequence[str]) -> dict[str, str]:
        """By the number of a document: the hash of its content as it was drafted, without number and day."""
        return {number: hash_content(as_drafted(number, content)) for number, content in self.contents(numbers)}

    def files(self) -> pl.DataFrame:
        """number, sha256, bytes of the PDFs that were rendered."""
        schema = {"number": pl.String, "sha256": pl.String, "bytes": pl.Int64}
        return self._frame(
            sa.select(*(stored.files.c[name] for name in schema)).order_by(stored.files.c.number), schema
        )

    def filed(self, month: str) -> dict[str, str | None]:
        """The numbers of a month's documents, sorted, and of each the hash of its PDF; None where none is recorded."""
        query = (
            sa.select(stored.documents.c.number, stored.files.c.sha256)
            .outerjoin(stored.files, stored.files.c.number == stored.documents.c.number)
            .where(stored.documents.c.billing_month == month)
            .order_by(stored.documents.c.number)
        )
        with self._engine.connect() as connection:
            return dict(tuple(row) for row in connection.execute(query))

    def record_files(self, files: Sequence[Mapping[str, object]]) -> None:
        """Record the hash and size of rendered PDFs: number, sha256, bytes."""
        if not files:
            return
        with self._made.begin() as connection:
            insert_rows(connection, stored.files, pl.DataFrame(files, schema=["number", "sha256", "bytes"]))

    def redrawn_files(self) -> pl.DataFrame:
        """PDFs that were drawn again with other bytes than they were issued with, sorted.

        Returns
        -------
        polars.DataFrame
            number, redrawn_sha256, redrawn_on (as-of day of the run), sha256 (as issued), bytes, drawn_with.
        """
        columns = list(stored.redrawn_files.columns)
        schema: dict[str, Any] = dict.fromkeys((column.name for column in columns), pl.String)
        schema |= {"redrawn_on": pl.Date, "bytes": pl.Int64}
        query = sa.select(*columns).order_by(stored.redrawn_files.c.number, stored.redrawn_files.c.redrawn_sha256)
        return self._frame(query, schema)

    def record_redrawn_files(self, files: pl.DataFrame) -> None:
        """Record PDFs that were drawn again with other bytes, as `redrawn_files`; known ones are not again."""
        known = self.redrawn_files().select("number", "redrawn_sha256")
        new = files.join(known, on=["number", "redrawn_sha256"], how="anti", maintain_order="left")
        if not new.is_empty():
            with self._made.begin() as connection:
                insert_rows(connection, stored.redrawn_files, new)

    def _wait_for_others(self, connection: sa.Connection) -> None:
        """One transaction at a time gives numbers: SQLite sees to it when a transaction begins."""
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ISSUE_LOCK)))
        else:
            # registers of earlier versions look for a line's document at once
            connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")

    def _numbered(self, connection: sa.Connection, issue: Issue) -> pl.DataFrame:
        year = issue.as_of.year
        taken = connection.execute(
            sa.select(stored.documents.c.series, sa.func.max(stored.documents.c.sequence))
            .where(stored.documents.c.year == year)
            .group_by(stored.documents.c.series)
        ).all()
        last = {series: int(sequence) for series, sequence in taken}
        series = pl.col("kind").replace_strict(SERIES, return_dtype=pl.String)
        ordered = (
            issue.drafts.drop("content", "content_hash")
            .collect()
            .sort("billing_date", "account_id", "subscription_id", "kind", maintain_order=True)
            .with_columns(series=series)
        )
        first = pl.col("series").replace_strict(
            {code: last.get(code, 0) for code in SERIES.values()}, return_dtype=pl.Int64
        )
        return ordered.with_columns(
            sequence=first + pl.int_range(1, pl.len() + 1).over("series"),
            year=pl.lit(year),
            issued_on=pl.lit(issue.as_of),
        ).with_columns(number=pl.format("{}-{}-{}", "series", "year", pl.col("sequence").cast(pl.String).str.zfill(6)))

    def _frame(self, query: sa.Select[Any] | sa.CompoundSelect[Any], schema: Mapping[str, Any]) -> pl.DataFrame:
        """What a query finds, of the rows that the driver gives: an object a row costs more than to find it."""
        with self._engine.connect() as connection:
            dates_are_text = connection.dialect.name == "sqlite"
            dates = [name for name, dtype in schema.items() if dtype == pl.Date] if dates_are_text else []
            given = {name: pl.String if name in dates else dtype for name, dtype in schema.items()}
            cursor: Any = connection.execute(query).cursor
            # some at a time: as objects the rows of a month take several times their columns
            parts = [
                pl.DataFrame(rows, schema=given, orient="row") for rows in iter(partial(cursor.fetchmany, _BULK), [])
            ]
        frame = pl.concat([pl.DataFrame(schema=given), *parts], rechunk=True)
        return frame.with_columns(pl.col(dates).str.to_date("%Y-%m-%d")) if dates else frame


class _ScratchRegister(Register):
    """A register that is thrown away: the tables alone."""

    def _make(self) -> None:
        stored.metadata.create_all(self._opened)


_held: set[str] = set()


def _state(connection: sa.Connection) -> str:
    documents, dates = (
        connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        for table in (stored.documents, stored.closed_dates)
    )
    return f"{documents} documents, {dates} closed dates"


def _name_lost_registers(engine: sa.Engine) -> None:
    """Say which register was lost, full or locked, where the database only says what happened to it."""

    @sa.event.listens_for(engine, "handle_error")
    def on_error(context: sa.engine.ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        # a database whose file is damaged says so by the general error, not by one of its kinds
        is_damaged = type(error) is sa.exc.DatabaseError
        if context.is_disconnect or is_damaged or isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
            raise InterruptedRunError(
                f"{shown(engine.url)}: the register cannot be used any more ({_cause(error or context)})"
            ) from error


def _use_immediate_transactions(engine: sa.Engine) -> None:
    """SQLite: take the write lock when a transaction begins, so that two runs cannot read the same last number."""

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        # what a guard could still take back is noted for every row: not in a file
        connection.execute("PRAGMA temp_store = MEMORY")
        # of a register that is made here: pages of 4096 bytes would hold two documents and a gap each
        connection.execute("PRAGMA page_size = 8192")

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _cause(error: object) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
