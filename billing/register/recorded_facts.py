"""Facts that are recorded with an issue: closed dates, decisions, subscriptions, deliveries and settings."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Final

import polars as pl
import sqlalchemy as sa

from billing.model.buckets import in_buckets
from billing.model.calendar import month_of
from billing.model.tables import DECISIONS
from billing.register import schema as stored
from billing.register.connection import Connection
from billing.register.remembered import remembered
from billing.register.rows import (
    from_integers,
    insert_rows,
    json_shape,
)
from billing.rules.opening_balances import OPENING_POSTINGS

BEGUN_SCHEMA: Final = {"subscription_id": pl.String, "account_id": pl.String, "request_id": pl.String}


def keep_settings(connection: sa.Connection, settings: Mapping[str, str]) -> None:
    """As `Register.keep_settings`, in a transaction of others."""
    if connection.execute(sa.select(stored.issued_months.c.billing_month).limit(1)).scalar() is None:
        connection.execute(sa.delete(stored.settings))
    known = set(connection.execute(sa.select(stored.settings.c.name)).scalars())
    new = [{"name": name, "value": value} for name, value in settings.items() if name not in known]
    if new:
        connection.execute(sa.insert(stored.settings), new)


class RecordedFacts(Connection):
    """Facts recorded with an issue: what was closed, decided and measured."""

    def _of_buckets(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of the accounts that this register reads, of small tables without a column `bucket`."""
        return in_buckets(rows, self._buckets)

    @remembered
    def closed_dates(self, month: str | None = None) -> pl.DataFrame:
        """Closed billing dates with their packages (`package_changes.CLOSED_SCHEMA`, and account_id)."""
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
        query = query.where(*self._own(stored.closed_dates))
        if month is not None:
            query = query.where(stored.closed_dates.c.billing_month == month)
        elif self._buckets is not None:
            # The index is by month first.
            query = query.where(stored.closed_dates.c.billing_month.in_(self.issued_months()))
        closed = self._frame(query, {name: pl.Date if name == "billing_date" else pl.String for name in names})
        return closed if self._reopened is None else self._reopened.standing(closed, month_of(pl.col("billing_date")))

    def billed_accounts(self) -> pl.Series:
        """account_id, sorted: the accounts to which anything was issued, or whose billing dates were closed."""
        begun, documents = stored.begun_subscriptions, stored.documents
        query = sa.union(sa.select(begun.c.account_id), sa.select(documents.c.account_id))
        return self._of_buckets(self._frame(query, {"account_id": pl.String}))["account_id"].sort()

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
        return self._of_buckets(self._frame(query, {"account_id": pl.String}))["account_id"].sort()

    def begun_subscriptions(self) -> pl.DataFrame:
        """subscription_id, account_id, request_id: which request began each subscription that was issued to."""
        columns = [stored.begun_subscriptions.c[name] for name in BEGUN_SCHEMA]
        return self._of_buckets(self._frame(sa.select(*columns).order_by(columns[0]), BEGUN_SCHEMA))

    def has_begun_subscriptions(self) -> bool:
        """Whether the requests that began subscriptions are recorded: not by earlier versions."""
        with self._engine.connect() as connection:
            query = sa.select(stored.begun_subscriptions.c.subscription_id).limit(1)
            return connection.execute(query).first() is not None

    @remembered
    def passed_dates(self, month: str) -> pl.DataFrame:
        """account_id, passed_through: the day up to which billing dates of a month passed while it was parked."""
        table = stored.passed_dates.c
        query = (
            sa.select(table.account_id, sa.func.max(table.passed_through, type_=sa.Date))
            .where(table.billing_month == month)
            .group_by(table.account_id)
            .order_by(table.account_id)
        )
        return self._of_buckets(self._frame(query, {"account_id": pl.String, "passed_through": pl.Date}))

    def dates_gone_by(self) -> pl.DataFrame:
        """account_id, billing_month, passed_through: as `passed_dates`, of every month; sorted."""
        table = stored.passed_dates.c
        query = (
            sa.select(table.account_id, table.billing_month, sa.func.max(table.passed_through, type_=sa.Date))
            .group_by(table.account_id, table.billing_month)
            .order_by(table.account_id, table.billing_month)
        )
        schema = {"account_id": pl.String, "billing_month": pl.String, "passed_through": pl.Date}
        return self._of_buckets(self._frame(query, schema))

    @remembered
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

    @remembered
    def accepted_losses(self) -> pl.DataFrame:
        """delivery_day, file, sha256, first_day, last_day, accepted_on, reason of accepted losses."""
        dates = ("delivery_day", "first_day", "last_day", "accepted_on")
        columns = list(stored.accepted_losses.columns)
        schema = {column.name: pl.Date if column.name in dates else pl.String for column in columns}
        return self._frame(sa.select(*columns).order_by(*columns[:3]), schema)

    def accept_losses(self, lost: pl.DataFrame) -> None:
        """Record that the loss of deliveries was accepted: the columns of `accepted_losses`."""
        with self._made.begin() as connection:
            insert_rows(connection, stored.accepted_losses, lost.select(stored.accepted_losses.columns.keys()))

    @remembered
    def closed_subscriptions(self) -> pl.DataFrame:
        """account_id, subscription_id, first and last closed billing date; sorted by subscription."""
        table = stored.closed_dates.c
        query = sa.select(
            sa.func.min(table.account_id),
            table.subscription_id,
            sa.func.min(table.billing_date),
            sa.func.max(table.billing_date),
        )
        query = query.where(*self._own(stored.closed_dates))
        if self._buckets is not None:
            query = query.where(table.billing_month.in_(self.issued_months()))
        schema = {"account_id": pl.String, "subscription_id": pl.String, "first": pl.Date, "last": pl.Date}
        return self._frame(query.group_by(table.subscription_id).order_by(table.subscription_id), schema)

    def first_closed_date(self) -> date | None:
        """The earliest billing date that has been closed; None when none has."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.min(stored.closed_dates.c.billing_date))).scalar()

    @remembered
    def closed_decisions(self, month: str) -> pl.DataFrame:
        """The decisions that were final when billing dates of the month closed: the table DECISIONS."""
        query = sa.select(stored.closed_decisions.c.decision).where(stored.closed_decisions.c.billing_month == month)
        stored_decisions = self._frame(query.order_by(stored.closed_decisions.c.decision_id), {"decision": pl.String})
        if stored_decisions.is_empty():
            return DECISIONS.empty()
        shape = pl.Struct(json_shape(DECISIONS.schema))
        decisions = stored_decisions.select(pl.col("decision").str.json_decode(shape)).unnest("decision")
        dates = [name for name, dtype in DECISIONS.schema.items() if dtype == pl.Date]
        found = self._of_buckets(DECISIONS.conform(decisions.with_columns(pl.col(dates).str.to_date("%Y-%m-%d"))))
        return found if self._reopened is None else self._reopened.standing(found, pl.col("billing_month"))

    def closed_decision_ids(self) -> pl.Series:
        """The ids of the decisions that were final when a billing date closed, of all months."""
        query = sa.select(stored.closed_decisions.c.decision_id)
        return self._frame(query, {"decision_id": pl.String})["decision_id"]

    @remembered
    def closed_through(self, month: str) -> date | None:
        """The day up to which billing dates of the month have been closed; None when it was never issued."""
        query = sa.select(stored.issued_months.c.closed_through).where(stored.issued_months.c.billing_month == month)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar()

    def last_closed_day(self) -> date | None:
        """The latest day up to which billing dates have been closed; None when none has."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.max(stored.issued_months.c.closed_through))).scalar()

    def issued_months(self) -> list[str]:
        """The months of which billing dates have been closed, sorted."""
        query = sa.select(stored.issued_months.c.billing_month).order_by(stored.issued_months.c.billing_month)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def opening_balances(self) -> pl.DataFrame:
        """The opening balances as they were used, version by version: OPENING_POSTINGS; sorted."""
        table = stored.opening_balances
        schema = {name: pl.Int64 if name == "amount" else dtype for name, dtype in OPENING_POSTINGS.items()}
        query = sa.select(*(table.c[name] for name in schema)).order_by(*list(table.c)[:4])
        return self._of_buckets(self._frame(query, schema)).with_columns(from_integers("amount"))

    def record_opening_balances(self, versions: pl.DataFrame) -> None:
        """Record versions of opening balances that a run posts: OPENING_POSTINGS."""
        if versions.is_empty():
            return
        rows = versions.with_columns(pl.col("amount").to_physical().cast(pl.Int64))
        with self._made.begin() as connection:
            # `on` is a word of SQL: let the library quote it.
            connection.execute(sa.insert(stored.opening_balances), list(rows.iter_rows(named=True)))

    def settings(self) -> dict[str, str]:
        """The settings under which billing dates were first closed, by name; none where none were recorded."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(stored.settings.c.name, stored.settings.c.value))
            return {row.name: row.value for row in rows}

    def keep_settings(self, settings: Mapping[str, str]) -> None:
        """Record settings: replace them until a billing date is closed, then only add missing ones."""
        with self._made.begin() as connection:
            self._wait_for_others(connection)
            keep_settings(connection, settings)
