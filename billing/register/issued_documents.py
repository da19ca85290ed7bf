"""Issued documents, their lines and taxes, and the hashes of their PDFs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import polars as pl
import sqlalchemy as sa

from billing.model.buckets import BucketRange, in_buckets
from billing.model.codes import SCHEDULED, SETTLEMENTS, LineKind
from billing.model.columns import MONEY
from billing.model.hashes import hash_content
from billing.model.tables import LINES, TAXES
from billing.register import schema as stored
from billing.register.connection import Connection
from billing.register.remembered import remembered
from billing.register.rows import (
    as_drafted,
    from_integers,
    insert_rows,
    portions,
    raw_type,
)
from billing.rules.prepaid_credits import USES
from billing.rules.tax import with_tax_categories

DOCUMENT_SCHEMA: Final = {
    "number": pl.String,
    "kind": pl.String,
    "account_id": pl.String,
    "subscription_id": pl.String,
    "billing_month": pl.String,
    "billing_date": pl.Date,
    "issued_on": pl.Date,
    "due_on": pl.Date,
    "currency": pl.String,
    "net": pl.Int64,
    "tax": pl.Int64,
    "total": pl.Int64,
    "credits_applied": pl.Int64,
    "due": pl.Int64,
    "corrects": pl.String,
    "content_hash": pl.String,
}


DOCUMENT_MONEY: Final = ("net", "tax", "total", "credits_applied", "due")
_CREDITS: Final = sa.func.coalesce(stored.documents.c.credits_applied, 0)
# Documents of earlier versions were due on issue, and paid by no credits.
DUE_ON: Final = sa.func.coalesce(stored.documents.c.due_on, stored.documents.c.issued_on).label("due_on")
_DERIVED: Final = {
    "due_on": DUE_ON,
    "credits_applied": _CREDITS.label("credits_applied"),
    "due": (stored.documents.c.total - _CREDITS).label("due"),
}
_BULK = 10_000


@dataclass(frozen=True)
class IssuedRows:
    """Issued documents with their lines and taxes: as `Register.documents`, `lines` and `taxes` give them."""

    documents: pl.DataFrame
    lines: pl.DataFrame
    taxes: pl.DataFrame

    def and_then(self, *later: "IssuedRows") -> "IssuedRows":
        """Append rows that were issued later."""
        rows = [self, *later]
        return IssuedRows(
            pl.concat(each.documents for each in rows),
            pl.concat(each.lines for each in rows),
            pl.concat(each.taxes for each in rows),
        )

    def of(self, buckets: BucketRange | None) -> "IssuedRows":
        """The rows of the accounts in some buckets."""
        documents = in_buckets(self.documents, buckets)
        lines, taxes = (
            rows.join(documents, on="number", how="semi", maintain_order="left") for rows in (self.lines, self.taxes)
        )
        return IssuedRows(documents, lines, taxes)


OF_THE_DUE: Final = {"due_on": pl.Date, "due_kind": pl.String, "due_item": pl.String, "tax_category": pl.String}
"""Columns of the register's lines that are no part of LINES: what fell due that they bill."""
_TEXTS_OF_A_DUE: Final = ("package", "rule", "add_on", "charge_id", "coupon", "tax_category")
_DUE: Final = ("account_id", "subscription_id", "billing_date", "kind", "metric", "due_item")
FIRST_OF_A_DUE: Final = (*_TEXTS_OF_A_DUE, "cycle_start", "cycle_end")
NOTHING: Final = IssuedRows(
    pl.DataFrame(schema=DOCUMENT_SCHEMA | dict.fromkeys(DOCUMENT_MONEY, MONEY)),
    pl.DataFrame(schema={**LINES.schema, **OF_THE_DUE}),
    TAXES.empty(),
)


class IssuedDocuments(Connection):
    """Documents with their lines and taxes, as they were issued."""

    def documents(
        self,
        months: Sequence[str] | None = None,
        number: str | None = None,
        columns: Sequence[str] = tuple(DOCUMENT_SCHEMA),
    ) -> pl.DataFrame:
        """Issued documents without their content: the table DOCUMENTS less `status`, sorted by number.

        All of them, or those of some billing months, or the one with a number; all columns, or some.
        """
        schema = {name: DOCUMENT_SCHEMA[name] for name in columns}
        query = sa.select(*(_DERIVED[name] if name in _DERIVED else stored.documents.c[name] for name in schema))
        query = query.order_by(stored.documents.c.number)
        query = query.where(*self._own(stored.documents))
        if months is not None:
            query = query.where(stored.documents.c.billing_month.in_(months))
        if number is not None:
            query = query.where(stored.documents.c.number == number)
        return self._frame(query, schema).with_columns(from_integers(*(n for n in DOCUMENT_MONEY if n in schema)))

    def has_issued_in_another(self, currency: str) -> bool:
        """Whether a document was issued in another currency than this one."""
        query = sa.select(stored.documents.c.number).where(stored.documents.c.currency != currency).limit(1)
        return not self._frame(query, {"number": pl.String}).is_empty()

    def issued_currencies(self) -> pl.DataFrame:
        """account_id, subscription_id, currency: of issued documents, each once, in the order of their issue."""
        of = stored.documents.c
        names = ("account_id", "subscription_id", "currency")
        query = sa.select(*(of[name] for name in names)).where(*self._own(stored.documents))
        query = query.group_by(*(of[name] for name in names)).order_by(sa.func.max(of.issued_on), of.subscription_id)
        return self._frame(query, dict.fromkeys(names, pl.String))

    def days_of(self, numbers: Sequence[str]) -> pl.DataFrame:
        """number, issued_on: the days that documents bear."""
        schema = {"number": pl.String, "issued_on": pl.Date}
        document = stored.documents.c
        query = sa.select(document.number, document.issued_on)
        found = [self._frame(query.where(document.number.in_(some)), schema) for some in portions(numbers)]
        return pl.concat([pl.DataFrame(schema=schema), *found]).sort("number")

    def lines(
        self,
        months: Sequence[str] | None = None,
        numbers: Sequence[str] | None = None,
        columns: Sequence[str] = (*LINES.column_names, *OF_THE_DUE),
    ) -> pl.DataFrame:
        """Lines of issued documents: the table LINES with OF_THE_DUE, sorted by number and line.

        All of them, or those of some billing months, or of some numbers; all columns, or some.
        """
        schema: dict[str, Any] = {
            name: OF_THE_DUE[name] if name in OF_THE_DUE else raw_type(name, LINES.schema) for name in columns
        }
        query = sa.select(*(stored.lines.c[name] for name in schema)).order_by(
            stored.lines.c.number, stored.lines.c.line
        )
        if months is not None:
            query = self._of_months(query, stored.lines, months)
        if numbers is not None:
            query = query.where(stored.lines.c.number.in_(numbers))
        frame = self._frame(query, schema).with_columns(from_integers(*(n for n in ("amount",) if n in schema)))
        return frame.with_columns(pl.col(name).cast(LINES.schema[name]) for name in schema if name not in OF_THE_DUE)

    def taxes(self, months: Sequence[str] | None = None) -> pl.DataFrame:
        """Taxes of issued documents: the table TAXES, sorted."""
        schema: dict[str, Any] = {column.name: raw_type(column.name, TAXES.schema) for column in TAXES.columns}
        query = sa.select(*(stored.taxes.c[name] for name in schema)).order_by(
            stored.taxes.c.number, stored.taxes.c.position
        )
        if months is not None:
            query = self._of_months(query, stored.taxes, months)
        frame = self._frame(query, schema).with_columns(from_integers("taxable", "amount"))
        return with_tax_categories(
            frame.with_columns(pl.col(name).cast(TAXES.schema[name]) for name in TAXES.column_names)
        )

    def _of_months(self, query: sa.Select[Any], rows: sa.Table, months: Sequence[str]) -> sa.Select[Any]:
        """Only the rows of documents of some billing months."""
        if self._buckets is None:
            return query.join(stored.documents).where(stored.documents.c.billing_month.in_(months))
        # Begin at a shard's documents: joined, the rows of all accounts would be read in the order of their numbers.
        own = sa.select(stored.documents.c.number).where(
            stored.documents.c.billing_month.in_(months), *self._own(stored.documents)
        )
        return query.where(rows.c.number.in_(own))

    def taxes_of(self, numbers: Sequence[str]) -> pl.DataFrame:
        """Taxes of documents, and the part given back so far.

        Returns
        -------
        polars.DataFrame
            The columns of TAXES and `by`: of the documents, of their notes, and of lines of later documents that are
            taxed as they were; `number` is the document that billed and `by` the one that has the row.
        """
        schema: dict[str, Any] = {column.name: raw_type(column.name, TAXES.schema) for column in TAXES.columns}
        schema["by"] = pl.String
        batches = [pl.DataFrame(schema=schema)]
        tax, document = stored.taxes.c, stored.documents.c
        for some in portions(numbers):
            for billed_by, condition in (
                (tax.number, tax.number.in_(some) & tax.taxed_as.is_(None)),
                (document.corrects, document.corrects.in_(some)),
                (tax.taxed_as, tax.taxed_as.in_(some) & document.corrects.is_(None)),
            ):
                columns = [billed_by, *(tax[name] for name in schema if name not in ("number", "by")), tax.number]
                batches.append(self._frame(sa.select(*columns).join(stored.documents).where(condition), schema))
        taxes = pl.concat(batches).with_columns(from_integers("taxable", "amount"))
        return with_tax_categories(
            taxes.with_columns(pl.col(name).cast(TAXES.schema[name]) for name in TAXES.column_names)
        )

    def currencies_of(self, numbers: Sequence[str]) -> pl.DataFrame:
        """number, currency: of documents."""
        of, schema = stored.documents.c, {"number": pl.String, "currency": pl.String}
        found = [
            self._frame(sa.select(of.number, of.currency).where(of.number.in_(some)), schema)
            for some in portions(numbers)
        ]
        return pl.concat([pl.DataFrame(schema=schema), *found])

    def given_back(self, numbers: Sequence[str]) -> pl.DataFrame:
        """number, by, tax_category, amount: what lines of `by` give back of what `number` billed.

        Either of both is one of `numbers`.
        """
        schema = {"number": pl.String, "by": pl.String, "tax_category": pl.String, "amount": pl.Int64}
        if not numbers:
            return pl.DataFrame(schema=schema | {"amount": MONEY})
        line = stored.lines.c
        query = sa.select(line.gives_back, line.number, line.tax_category, line.amount)
        batches = [pl.DataFrame(schema=schema)]
        for some in portions(numbers):
            for condition in (line.gives_back.in_(some), line.number.in_(some) & line.gives_back.is_not(None)):
                part = self._frame(query.where(condition), schema)
                batches.append(part.group_by("number", "by", "tax_category").agg(pl.col("amount").sum()))
        # A pair is found twice if both of its documents are asked for.
        return pl.concat(batches).unique().sort("number", "by", "tax_category").with_columns(from_integers("amount"))

    @remembered
    def credit_uses(self) -> pl.DataFrame:
        """What grants paid of documents, and what credit notes gave back to them: USES, by number and position."""
        use, document = stored.credit_uses.c, stored.documents.c
        names = ("account_id", "currency", "billing_date", "issued_on", "is_scheduled")
        schema = {name: pl.Int64() if name == "amount" else dtype for name, dtype in USES.items()}
        query = (
            sa.select(*(document[name] if name in names else use[name] for name in schema))
            .join_from(stored.credit_uses, stored.documents, use.number == document.number)
            .where(*self._own(stored.documents))
            .order_by(use.number, use.position)
        )
        return self._frame(query, schema).with_columns(from_integers("amount"))

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
            due_numbers = list(connection.execute(numbers).scalars())
        return self.lines(numbers=due_numbers).filter(pl.col("due_on") == due_on)

    def lines_of_accounts(self, accounts: Sequence[str], due_from: date, due_to: date) -> pl.DataFrame:
        """The lines of some accounts that bill what fell due in `[due_from, due_to]`.

        Returns
        -------
        polars.DataFrame
            The columns of LINES, OF_THE_DUE, and of its document subscription_id, issued_on and corrects; in the
            order in which the documents were issued, as far as their days tell: what was billed on the date itself
            comes first.
        """
        schema: dict[str, Any] = {column.name: raw_type(column.name, LINES.schema) for column in LINES.columns}
        schema |= OF_THE_DUE
        document = {"subscription_id": pl.String, "issued_on": pl.Date, "corrects": pl.String}
        if not accounts:
            return pl.DataFrame(schema={**LINES.schema, **OF_THE_DUE, **document})
        batches = [pl.DataFrame(schema=schema | document)]
        for some in portions(accounts):
            query = (
                sa.select(*(stored.lines.c[name] for name in schema), *(stored.documents.c[name] for name in document))
                .join(stored.documents)
                .where(stored.documents.c.account_id.in_(some))
                .where(stored.lines.c.due_on >= due_from, stored.lines.c.due_on <= due_to)
            )
            batches.append(self._frame(query, schema | document))
        frame = pl.concat(batches).with_columns(from_integers("amount"))
        settles = pl.col("kind").is_in(SETTLEMENTS)
        return frame.with_columns(pl.col(name).cast(LINES.schema[name]) for name in LINES.column_names).sort(
            "issued_on", settles, "number", "line"
        )

    def issued_amounts(self, due_from: date, due_to: date, accounts: Sequence[str] | None = None) -> pl.DataFrame:
        """Billed amounts by the date on which they fell due, in `[due_from, due_to)`; of some accounts, or of all.

        Returns
        -------
        polars.DataFrame
            account_id, subscription_id, billing_date, kind (of DUES, or refund), metric, due_item, issued (MONEY), and
            FIRST_OF_A_DUE as on the first line.
        """
        # Of no accounts ask once, for the columns.
        chosen: list[Sequence[str] | None] = [None] if accounts is None else [*portions(accounts)] or [[]]
        found = [
            self._amounts(due_from, due_to, has_item=has_item, accounts=some)
            for has_item in (False, True)
            for some in chosen
        ]
        return pl.concat(found).with_columns(from_integers("issued"))

    def issued_sums(self, due_from: date, due_to: date) -> pl.DataFrame:
        """As `issued_amounts`, of all accounts: the key and issued (in ten-thousandths), a row per line.

        To sum and to describe them in the database takes three times as long.
        """
        line, document = stored.lines.c, stored.documents.c
        of_line = (line.due_on, line.due_kind, line.metric, line.due_item, line.amount)
        schema: dict[str, Any] = dict.fromkeys(_DUE, pl.String) | {"billing_date": pl.Date, "issued": pl.Int64}
        if self._buckets is not None:
            query = sa.select(document.account_id, document.subscription_id, *of_line).join(stored.documents)
            return self._frame(self._due_in(query, due_from, due_to, by_document=True), schema)
        # Join here: SQLite reads the page of a document for each of its lines, which takes twice as long.
        of_document = ("account_id", "subscription_id")
        billed = self._due_in(sa.select(line.number, *of_line), due_from, due_to, by_document=False)
        lines = {"number": pl.String} | {name: dtype for name, dtype in schema.items() if name not in of_document}
        numbers = dict.fromkeys(("number", *of_document), pl.String)
        of_these = self._due_in(sa.select(line.number), due_from, due_to, by_document=False)
        named = sa.select(*(document[name] for name in numbers)).where(document.number.in_(of_these))
        found, documents = self._frame(billed, lines), self._frame(named, numbers)
        return found.join(documents, on="number", how="left", validate="m:1").select(list(schema))

    def _due_in(self, query: sa.Select[Any], due_from: date, due_to: date, *, by_document: bool) -> sa.Select[Any]:
        """Only lines that bill what fell due in `[due_from, due_to)`, of a shard its own.

        Parameters
        ----------
        by_document
            Go from documents to their lines: an index of lines by day would read those of all accounts.
        """
        due_on: sa.ColumnElement[date] = stored.lines.c.due_on
        due_on = sa.func.coalesce(due_on, due_on) if by_document else due_on
        query = query.where(due_on >= due_from, due_on < due_to).where(
            stored.lines.c.due_kind.in_([*SCHEDULED, LineKind.REFUND]), *self._own(stored.documents)
        )
        if self._buckets is None:
            return query
        return query.where(stored.documents.c.billing_month.in_(sa.select(stored.issued_months.c.billing_month)))

    def _amounts(self, due_from: date, due_to: date, *, has_item: bool, accounts: Sequence[str] | None) -> pl.DataFrame:
        """As `issued_amounts`, as integers, of lines with a due_item or of those without: most registers have none."""
        line, document = stored.lines.c, stored.documents.c
        of_items = _TEXTS_OF_A_DUE[1:]
        texts = _TEXTS_OF_A_DUE if has_item else _TEXTS_OF_A_DUE[:1]
        identity = [document.account_id, document.subscription_id, line.due_on, line.due_kind, line.metric]
        identity += [line.due_item] if has_item else []
        query: sa.Select[Any] = (
            sa.select(
                *identity,
                sa.cast(sa.func.sum(line.amount), sa.BigInteger),
                *(sa.func.min(line[name]) for name in texts),
                sa.func.min(line.cycle_start, type_=sa.Date),
                sa.func.min(line.cycle_end, type_=sa.Date),
            )
            .join(stored.documents)
            .where(line.due_item.is_not(None) if has_item else line.due_item.is_(None))
            .group_by(*identity)
        )
        is_sharded = self._buckets is not None and not has_item
        query = self._due_in(query, due_from, due_to, by_document=is_sharded or accounts is not None)
        if accounts is not None:
            query = query.where(document.account_id.in_(accounts))
        names = [name for name in _DUE if has_item or name != "due_item"]
        schema: dict[str, Any] = dict.fromkeys(names, pl.String) | {"billing_date": pl.Date, "issued": pl.Int64}
        schema |= dict.fromkeys(texts, pl.String) | dict.fromkeys(("cycle_start", "cycle_end"), pl.Date)
        found = self._frame(query, schema)
        if not has_item:
            found = found.with_columns(pl.lit(None, pl.String).alias(name) for name in ("due_item", *of_items))
        return found.select(*_DUE, "issued", *FIRST_OF_A_DUE)

    @remembered
    def count(self, through_month: str | None = None, since: str | None = None) -> int:
        """How many documents have been issued, for all billing months or those from `since` to `through_month`."""
        query = sa.select(sa.func.count()).select_from(stored.documents)
        if through_month is not None:
            query = query.where(stored.documents.c.billing_month <= through_month)
        if since is not None:
            query = query.where(stored.documents.c.billing_month >= since)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def documents_by_day(self) -> pl.DataFrame:
        """issued_on, documents: how many documents bear each day, those of all shards."""
        day = stored.documents.c.issued_on
        query = sa.select(day, sa.func.count()).group_by(day).order_by(day)
        return self._frame(query, {"issued_on": pl.Date, "documents": pl.Int64})

    def latest_issued_on(self) -> date | None:
        """The latest as-of day of a run that issued anything."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.max(stored.documents.c.issued_on))).scalar()

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

    def invoice_files(self, month: str | None = None) -> dict[str, str]:
        """By the number of a document, sorted: the hash of the e-invoice beside its PDF; of a month or of all."""
        query = sa.select(stored.invoice_files.c.number, stored.invoice_files.c.sha256).order_by("number")
        if month is not None:
            numbers = sa.select(stored.documents.c.number).where(stored.documents.c.billing_month == month)
            query = query.where(stored.invoice_files.c.number.in_(numbers))
        with self._engine.connect() as connection:
            return dict(tuple(row) for row in connection.execute(query))

    def record_invoice_files(self, files: Sequence[Mapping[str, object]]) -> None:
        """Record the hash and size of e-invoices beside PDFs: number, sha256, bytes."""
        if files:
            with self._made.begin() as connection:
                rows = pl.DataFrame(files, schema=["number", "sha256", "bytes"])
                insert_rows(connection, stored.invoice_files, rows)

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
