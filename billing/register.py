"""The register of issued documents: what has been issued is a fact, and is kept here (rule 19).

Issuing is one transaction: it gives gap-free numbers, writes documents with everything their pages show, and closes
the billing dates. Amounts are whole ten-thousandths of the currency, so no database ever sees a binary float.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import polars as pl
import sqlalchemy as sa

from billing.errors import RefusedError
from billing.home import Home
from billing.tables import DECISIONS, LINES, MONEY, TAXES

SERIES: Final = {"invoice": "INV", "credit_note": "CN", "debit_note": "DN"}

_metadata = sa.MetaData()
_documents = sa.Table(
    "documents",
    _metadata,
    sa.Column("number", sa.String, primary_key=True),
    sa.Column("series", sa.String, nullable=False),
    sa.Column("year", sa.Integer, nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("is_scheduled", sa.Boolean, nullable=False),
    sa.Column("account_id", sa.String, nullable=False, index=True),
    sa.Column("subscription_id", sa.String, nullable=False),
    sa.Column("billing_month", sa.String, nullable=False, index=True),
    sa.Column("billing_date", sa.Date, nullable=False),
    sa.Column("issued_on", sa.Date, nullable=False),
    sa.Column("currency", sa.String, nullable=False),
    sa.Column("net", sa.BigInteger, nullable=False),
    sa.Column("tax", sa.BigInteger, nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("corrects", sa.String, sa.ForeignKey("documents.number")),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("content_hash", sa.String, nullable=False),
    sa.UniqueConstraint("series", "year", "sequence"),
    sa.CheckConstraint("total = net + tax", name="total_is_net_and_tax"),
    sa.CheckConstraint("sequence > 0", name="sequence_counts_from_one"),
)
# one scheduled document per subscription and billing date
sa.Index(
    "one_scheduled_document",
    _documents.c.subscription_id,
    _documents.c.billing_date,
    unique=True,
    sqlite_where=_documents.c.is_scheduled,
    postgresql_where=_documents.c.is_scheduled,
)
_lines = sa.Table(
    "lines",
    _metadata,
    sa.Column("number", sa.String, sa.ForeignKey("documents.number"), primary_key=True),
    sa.Column("line", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("due_on", sa.Date, nullable=False, index=True),
    sa.Column("due_kind", sa.String, nullable=False),
    sa.Column("metric", sa.String),
    sa.Column("package", sa.String),
    sa.Column("cycle_start", sa.Date),
    sa.Column("cycle_end", sa.Date),
    sa.Column("quantity", sa.String),
    sa.Column("allowance", sa.String),
    sa.Column("excess", sa.String),
    sa.Column("billed_units", sa.String),
    sa.Column("unit_price", sa.String),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
)
_taxes = sa.Table(
    "taxes",
    _metadata,
    sa.Column("number", sa.String, sa.ForeignKey("documents.number"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("country", sa.String, nullable=False),
    sa.Column("region", sa.String),
    sa.Column("rate", sa.String, nullable=False),
    sa.Column("taxable", sa.BigInteger, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
)
_closed_dates = sa.Table(
    "closed_dates",
    _metadata,
    sa.Column("subscription_id", sa.String, primary_key=True),
    sa.Column("billing_date", sa.Date, primary_key=True),
    sa.Column("account_id", sa.String, nullable=False),
    sa.Column("billing_month", sa.String, nullable=False, index=True),
    sa.Column("closing_package", sa.String),
    sa.Column("opening_package", sa.String),
    sa.Column("change_reason", sa.String),
    sa.Column("waiting_package", sa.String),
    sa.Column("closed_on", sa.Date, nullable=False),
)
_closed_decisions = sa.Table(
    "closed_decisions",
    _metadata,
    sa.Column("decision_id", sa.String, primary_key=True),
    sa.Column("billing_month", sa.String, nullable=False, index=True),
    sa.Column("decision", sa.Text, nullable=False),
)
_issued_months = sa.Table(
    "issued_months",
    _metadata,
    sa.Column("billing_month", sa.String, primary_key=True),
    sa.Column("closed_through", sa.Date, nullable=False),
)
_files = sa.Table(
    "files",
    _metadata,
    sa.Column("number", sa.String, sa.ForeignKey("documents.number"), primary_key=True),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
)

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
_BULK = 5_000


@dataclass(frozen=True)
class Issue:
    """What one run issues for a billing month.

    Attributes
    ----------
    drafts, lines, taxes
        As the tables DRAFTS, DRAFT_LINES and DRAFT_TAXES.
    closing
        account_id, subscription_id, billing_date, closing_package, opening_package, change_reason, waiting_package:
        the billing dates to close, whether they have a document or not.
    decisions
        As the table DECISIONS: those that are final with the closing.
    """

    month: str
    as_of: date
    closed_through: date
    drafts: pl.DataFrame
    lines: pl.DataFrame
    taxes: pl.DataFrame
    closing: pl.DataFrame
    decisions: pl.DataFrame


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
            address = sa.engine.make_url(url) if url else sa.URL.create("sqlite", database=str(home.register_path))
            engine = sa.create_engine(address)
        except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
            raise RefusedError(
                f"OVERAGE_REGISTER_URL: this register cannot be used ({error}): expected the URL of a database such as "
                "postgresql+psycopg://user@host/name, and its driver installed"
            ) from error
        if engine.dialect.name == "sqlite":
            _use_immediate_transactions(engine)
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
        _metadata.create_all(engine)
        return engine

    def _make(self) -> None:
        try:
            _metadata.create_all(self._opened)
            if self._opened.dialect.name == "sqlite":
                _guard(self._opened)
        except sa.exc.SQLAlchemyError as error:
            raise RefusedError(
                f"{self._opened.url.render_as_string()}: the register cannot be opened ({_cause(error)}): "
                "expected a database that can be reached and written"
            ) from error

    def copied_to(self, path: Path) -> "Register":
        """A copy in a new SQLite file, without the stored contents: to try out what issuing would do."""
        engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
        copy = _ScratchRegister(engine)
        with self._engine.connect() as source, copy._made.begin() as target:
            for table in _metadata.sorted_tables:
                columns = [
                    sa.literal("").label(column.name) if column is _documents.c.content else column
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

    def documents(self, months: Sequence[str] | None = None) -> pl.DataFrame:
        """Issued documents without their content: the table DOCUMENTS less `status`, sorted by number."""
        columns = [_documents.c[name] for name in _DOCUMENT_SCHEMA]
        query = sa.select(*columns).order_by(_documents.c.number)
        if months is not None:
            query = query.where(_documents.c.billing_month.in_(months))
        return self._frame(query, _DOCUMENT_SCHEMA).with_columns(_from_integers("net", "tax", "total"))

    def lines(self, months: Sequence[str] | None = None) -> pl.DataFrame:
        """Lines of issued documents: the table LINES with due_on and due_kind, sorted by number and line."""
        schema: dict[str, Any] = {column.name: _raw_type(column.name, LINES.schema) for column in LINES.columns}
        schema |= {"due_on": pl.Date, "due_kind": pl.String}
        query = sa.select(*(_lines.c[name] for name in schema)).order_by(_lines.c.number, _lines.c.line)
        if months is not None:
            query = query.join(_documents).where(_documents.c.billing_month.in_(months))
        frame = self._frame(query, schema).with_columns(_from_integers("amount"))
        return frame.with_columns(pl.col(name).cast(LINES.schema[name]) for name in LINES.column_names)

    def taxes(self, months: Sequence[str] | None = None) -> pl.DataFrame:
        """Taxes of issued documents: the table TAXES, sorted."""
        schema: dict[str, Any] = {column.name: _raw_type(column.name, TAXES.schema) for column in TAXES.columns}
        query = sa.select(*(_taxes.c[name] for name in schema)).order_by(_taxes.c.number, _taxes.c.position)
        if months is not None:
            query = query.join(_documents).where(_documents.c.billing_month.in_(months))
        frame = self._frame(query, schema).with_columns(_from_integers("taxable", "amount"))
        return frame.with_columns(pl.col(name).cast(TAXES.schema[name]) for name in TAXES.column_names)

    def lines_due(self, subscription_id: str, due_on: date) -> pl.DataFrame:
        """The lines of issued documents that bill what fell due on a billing date, as the table LINES."""
        numbers = (
            sa.select(_lines.c.number)
            .join(_documents)
            .where(_documents.c.subscription_id == subscription_id, _lines.c.due_on == due_on)
            .distinct()
        )
        with self._engine.connect() as connection:
            found = list(connection.execute(numbers).scalars())
        months = self.documents().filter(pl.col("number").is_in(found))["billing_month"].unique().to_list()
        lines = self.lines(months).filter(pl.col("number").is_in(found) & (pl.col("due_on") == due_on))
        return lines.sort("number", "line")

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
                _documents.c.account_id,
                _documents.c.subscription_id,
                _lines.c.due_on,
                _lines.c.due_kind,
                _lines.c.metric,
                sa.func.sum(_lines.c.amount),
                sa.func.min(_lines.c.package),
                sa.func.min(_lines.c.cycle_start, type_=sa.Date),
                sa.func.min(_lines.c.cycle_end, type_=sa.Date),
            )
            .join(_documents)
            .where(_lines.c.due_on >= due_from, _lines.c.due_on < due_to)
            .where(_lines.c.due_kind.in_(["package_fee", "hold_fee", "overage", "refund"]))
            .group_by(
                _documents.c.account_id,
                _documents.c.subscription_id,
                _lines.c.due_on,
                _lines.c.due_kind,
                _lines.c.metric,
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
        return self._frame(query, schema).with_columns(_from_integers("issued"))

    def closed_dates(self, month: str | None = None) -> pl.DataFrame:
        """Closed billing dates with their packages (CLOSED_SCHEMA of `billing.packages`, and account_id)."""
        names = [
            "account_id",
            "subscription_id",
            "billing_date",
            "closing_package",
            "opening_package",
            "change_reason",
            "waiting_package",
        ]
        query = sa.select(*(_closed_dates.c[name] for name in names)).order_by(
            _closed_dates.c.subscription_id, _closed_dates.c.billing_date
        )
        if month is not None:
            query = query.where(_closed_dates.c.billing_month == month)
        return self._frame(query, {name: pl.Date if name == "billing_date" else pl.String for name in names})

    def first_closed_date(self) -> date | None:
        """The earliest billing date that has been closed; None when none has."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.min(_closed_dates.c.billing_date))).scalar()

    def closed_decisions(self, month: str) -> pl.DataFrame:
        """The decisions that were final when billing dates of the month closed: the table DECISIONS."""
        query = sa.select(_closed_decisions.c.decision).where(_closed_decisions.c.billing_month == month)
        found = self._frame(query.order_by(_closed_decisions.c.decision_id), {"decision": pl.String})
        if found.is_empty():
            return DECISIONS.empty()
        shape = pl.Struct(_json_shape(DECISIONS.schema))
        decisions = found.select(pl.col("decision").str.json_decode(shape)).unnest("decision")
        dates = [name for name, dtype in DECISIONS.schema.items() if dtype == pl.Date]
        return DECISIONS.conform(decisions.with_columns(pl.col(dates).str.to_date("%Y-%m-%d")))

    def closed_decision_ids(self) -> pl.Series:
        """The ids of the decisions that were final when a billing date closed, of all months."""
        query = sa.select(_closed_decisions.c.decision_id)
        return self._frame(query, {"decision_id": pl.String})["decision_id"]

    def closed_through(self, month: str) -> date | None:
        """The day up to which billing dates of the month have been closed; None when it was never issued."""
        query = sa.select(_issued_months.c.closed_through).where(_issued_months.c.billing_month == month)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar()

    def count(self, through_month: str | None = None, since: str | None = None) -> int:
        """How many documents have been issued, for all billing months or those from `since` to `through_month`."""
        query = sa.select(sa.func.count()).select_from(_documents)
        if through_month is not None:
            query = query.where(_documents.c.billing_month <= through_month)
        if since is not None:
            query = query.where(_documents.c.billing_month >= since)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def number_gaps(self) -> list[str]:
        """Series and years whose numbers do not run from 1 without a gap, such as INV-2026; rule 19 has none."""
        highest, count = sa.func.max(_documents.c.sequence), sa.func.count()
        query = (
            sa.select(_documents.c.series, _documents.c.year)
            .group_by(_documents.c.series, _documents.c.year)
            .having(highest != count)
            .order_by(_documents.c.series, _documents.c.year)
        )
        with self._engine.connect() as connection:
            return [f"{series}-{year}" for series, year in connection.execute(query)]

    def latest_issued_on(self) -> date | None:
        """The latest as-of day of a run that issued anything."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.max(_documents.c.issued_on))).scalar()

    def issue(self, issue: Issue) -> pl.DataFrame:
        """Number and write documents, and close billing dates, in one transaction (rule 19).

        Numbers count per series and year of the as-of day, in the order of billing date, account, subscription, kind.

        Returns
        -------
        polars.DataFrame
            number, kind, account_id, subscription_id, billing_date of what was issued.

        Raises
        ------
        RefusedError
            When something was issued with a later as-of: numbers and dates never run backwards.
        """
        with self._made.begin() as connection:
            latest = connection.execute(sa.select(sa.func.max(_documents.c.issued_on))).scalar()
            if latest is not None and latest > issue.as_of:
                raise RefusedError(
                    f"nothing can be issued as of {issue.as_of}: documents were issued as of {latest}; "
                    f"expected an as-of day of {latest} or later (a draft may look back)"
                )
            numbered = self._numbered(connection, issue)
            keys = ["account_id", "subscription_id", "billing_date"]
            numbers = numbered.select(*keys, "number")
            _insert(connection, _documents, _document_rows(numbered))
            _insert(connection, _lines, _line_rows(issue.lines.join(numbers, on=keys, maintain_order="left")))
            _insert(connection, _taxes, _tax_rows(issue.taxes.join(numbers, on=keys, maintain_order="left")))
            closing = issue.closing.with_columns(billing_month=pl.lit(issue.month), closed_on=pl.lit(issue.as_of)).sort(
                "subscription_id", "billing_date"
            )
            _insert(connection, _closed_dates, closing.to_dicts())
            _insert(connection, _closed_decisions, _decision_rows(issue.decisions))
            closed = {"closed_through": issue.closed_through}
            month = _issued_months.c.billing_month == issue.month
            if not connection.execute(sa.update(_issued_months).where(month).values(closed)).rowcount:
                connection.execute(sa.insert(_issued_months).values(billing_month=issue.month, **closed))
        return numbered.select("number", "kind", *keys)

    def contents(self, numbers: Sequence[str]) -> Iterable[tuple[str, str]]:
        """(number, content) of documents, in the order of their numbers."""
        for start in range(0, len(numbers), _BULK):
            query = (
                sa.select(_documents.c.number, _documents.c.content)
                .where(_documents.c.number.in_(numbers[start : start + _BULK]))
                .order_by(_documents.c.number)
            )
            with self._engine.connect() as connection:
                rows = connection.execute(query).all()
            yield from ((number, content) for number, content in rows)

    def files(self) -> pl.DataFrame:
        """number, sha256, bytes of the PDFs that were rendered."""
        schema = {"number": pl.String, "sha256": pl.String, "bytes": pl.Int64}
        return self._frame(sa.select(*(_files.c[name] for name in schema)).order_by(_files.c.number), schema)

    def record_files(self, files: Sequence[Mapping[str, object]]) -> None:
        """Record the hash and size of rendered PDFs: number, sha256, bytes."""
        if not files:
            return
        with self._made.begin() as connection:
            _insert(connection, _files, files)

    def _numbered(self, connection: sa.Connection, issue: Issue) -> pl.DataFrame:
        year = issue.as_of.year
        taken = connection.execute(
            sa.select(_documents.c.series, sa.func.max(_documents.c.sequence))
            .where(_documents.c.year == year)
            .group_by(_documents.c.series)
        ).all()
        last = {series: int(sequence) for series, sequence in taken}
        series = pl.col("kind").replace_strict(SERIES, return_dtype=pl.String)
        ordered = issue.drafts.sort("billing_date", "account_id", "subscription_id", "kind").with_columns(series=series)
        first = pl.col("series").replace_strict(
            {code: last.get(code, 0) for code in SERIES.values()}, return_dtype=pl.Int64
        )
        numbered = ordered.with_columns(
            sequence=first + pl.int_range(1, pl.len() + 1).over("series"),
            year=pl.lit(year),
            issued_on=pl.lit(issue.as_of),
        ).with_columns(number=pl.format("{}-{}-{}", "series", "year", pl.col("sequence").cast(pl.String).str.zfill(6)))
        filled = pl.format('"number":"{}","issued_on":"{}"', "number", pl.col("issued_on").dt.to_string("%Y-%m-%d"))
        content = numbered.select(
            pl.col("content").str.replace('"number":null,"issued_on":null', filled, literal=True)
        )["content"]
        return numbered.with_columns(
            content=content, content_hash=pl.Series([hash_content(text) for text in content], dtype=pl.String)
        )

    def _frame(self, query: sa.Select[Any], schema: Mapping[str, Any]) -> pl.DataFrame:
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return pl.DataFrame([tuple(row) for row in rows], schema=dict(schema), orient="row")


class _ScratchRegister(Register):
    """A register that is thrown away: the tables alone."""

    def _make(self) -> None:
        _metadata.create_all(self._opened)


def hash_content(content: str) -> str:
    """SHA-256 of a document's content."""
    return hashlib.sha256(content.encode()).hexdigest()


def _document_rows(numbered: pl.DataFrame) -> list[dict[str, Any]]:
    columns = [column.name for column in _documents.columns if column.name != "is_scheduled"]
    rows = numbered.with_columns(_to_integers("net", "tax", "total")).select(columns)
    return rows.with_columns(is_scheduled=pl.col("corrects").is_null()).to_dicts()


def _line_rows(lines: pl.DataFrame) -> list[dict[str, Any]]:
    texts = ["quantity", "allowance", "excess", "billed_units", "unit_price"]
    return (
        lines.with_columns(*_to_integers("amount"), *(pl.col(name).cast(pl.String) for name in texts))
        .select([column.name for column in _lines.columns])
        .sort("number", "line")
        .to_dicts()
    )


def _tax_rows(taxes: pl.DataFrame) -> list[dict[str, Any]]:
    return (
        taxes.with_columns(
            *_to_integers("taxable", "amount"),
            pl.col("rate").cast(pl.String),
            position=pl.int_range(1, pl.len() + 1).over("number"),
        )
        .select([column.name for column in _taxes.columns])
        .sort("number", "position")
        .to_dicts()
    )


def _decision_rows(decisions: pl.DataFrame) -> list[dict[str, Any]]:
    shape = _json_shape(DECISIONS.schema)
    texts = decisions.sort("decision_id").select(
        "decision_id",
        "billing_month",
        decision=pl.struct(pl.col(name).cast(dtype) for name, dtype in shape.items()).struct.json_encode(),
    )
    return texts.to_dicts()


def _json_shape(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with decimals and dates as text, which JSON keeps exactly."""
    return {name: _as_text(dtype) for name, dtype in schema.items()}


def _as_text(dtype: Any) -> Any:
    if isinstance(dtype, pl.List):
        return pl.List(_as_text(dtype.inner))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _as_text(field.dtype) for field in dtype.fields})
    return pl.String if dtype == pl.Date or isinstance(dtype, pl.Decimal) else dtype


def _raw_type(name: str, schema: Mapping[str, Any]) -> Any:
    """The type a column has in the database: integers for money, text for other decimals."""
    dtype = schema[name]
    if dtype == MONEY:
        return pl.Int64
    return pl.String if isinstance(dtype, pl.Decimal) else dtype


def _to_integers(*names: str) -> list[pl.Expr]:
    return [pl.col(name).cast(MONEY).to_physical().cast(pl.Int64) for name in names]


def _from_integers(*names: str) -> list[pl.Expr]:
    # an Int64 of ten-thousandths has room for the point: its whole part and its rest are cast on their own
    unit = pl.lit(10_000, pl.Int64)
    return [
        ((pl.col(name) // unit).cast(MONEY) + (pl.col(name) % unit).cast(MONEY) * pl.lit("0.0001").cast(MONEY)).alias(
            name
        )
        for name in names
    ]


def _insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    for start in range(0, len(rows), _BULK):
        connection.execute(sa.insert(table), list(rows[start : start + _BULK]))


def _use_immediate_transactions(engine: sa.Engine) -> None:
    """SQLite: take the write lock when a transaction begins, so that two runs cannot read the same last number."""

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _guard(engine: sa.Engine) -> None:
    """SQLite: let the database itself refuse to change what was issued, to skip a number, or to open a month again."""
    kept = [table.name for table in _metadata.sorted_tables if table is not _issued_months]
    refusals = [
        *((f"{name}_never_change", f"UPDATE ON {name}", "1", "what has been issued never changes") for name in kept),
        *((f"{name}_stay", f"DELETE ON {name}", "1", "what has been issued stays") for name in kept),
        (
            "documents_have_no_gap",
            "INSERT ON documents",
            "NEW.sequence <> (SELECT COALESCE(MAX(sequence), 0) + 1 FROM documents"
            " WHERE series = NEW.series AND year = NEW.year)",
            "the next number of its series was expected",
        ),
        (
            "documents_bear_their_number",
            "INSERT ON documents",
            "NEW.number <> printf('%s-%d-%06d', NEW.series, NEW.year, NEW.sequence)",
            "its number is not that of its series, year and sequence",
        ),
        (
            "issued_months_go_forward",
            "UPDATE ON issued_months",
            "NEW.billing_month <> OLD.billing_month OR NEW.closed_through < OLD.closed_through",
            "a day that was closed stays closed",
        ),
        ("issued_months_stay", "DELETE ON issued_months", "1", "a day that was closed stays closed"),
    ]
    with engine.connect() as connection:
        known = set(connection.execute(sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars())
    missing = [refusal for refusal in refusals if refusal[0] not in known]
    if missing:
        with engine.begin() as connection:
            for name, change, condition, message in missing:
                connection.exec_driver_sql(
                    f"CREATE TRIGGER IF NOT EXISTS {name} BEFORE {change} WHEN {condition} "
                    f"BEGIN SELECT RAISE(ABORT, '{change.split()[-1]}: {message}'); END"
                )


def _cause(error: sa.exc.SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
