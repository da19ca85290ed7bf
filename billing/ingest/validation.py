"""Validation of parsed rows against accounts, catalogue and delivery day (rules 22 and 27)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import cached_property, lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import polars as pl

from billing.ingest.aliases import alias_words, with_accounts
from billing.ingest.metric_members import EventTypes, event_types
from billing.ingest.required_columns import shown
from billing.model.catalogue import Catalogue, Metric
from billing.model.codes import RejectReason
from billing.model.columns import INSTANT
from billing.model.file_limits import DEFAULT_LIMITS, Limits
from billing.model.sources import ALIASES, Source, source_of

UNKNOWN_ACCOUNT: Final = RejectReason.UNKNOWN_ACCOUNT.value
UNKNOWN_TYPE: Final = RejectReason.UNKNOWN_TYPE.value
FUTURE_DATED: Final = RejectReason.FUTURE_DATED.value
TOO_LATE: Final = RejectReason.TOO_LATE.value

_LONGEST_LIST: Final = 200


@dataclass(frozen=True)
class Rules:
    """The configuration that rows are validated with.

    Attributes
    ----------
    accounts
        Known account ids, sorted, each once.
    time_zone
        The billing time zone: an event's date is its date there.
    lateness_days
        Largest age of an event in days at its delivery.
    limits
        Limits on one file.
    sources
        How raw logs are read.
    aliases
        ALIASES: the accounts behind names in raw logs.
    """

    metrics: tuple[Metric, ...]
    accounts: pl.Series
    time_zone: str
    lateness_days: int
    limits: Limits = DEFAULT_LIMITS
    sources: tuple[Source, ...] = ()
    aliases: pl.DataFrame = field(default_factory=ALIASES.empty)

    @classmethod
    def of(
        cls,
        metrics: Sequence[Metric],
        accounts: pl.Series,
        time_zone: str,
        lateness_days: int,
        limits: Limits = DEFAULT_LIMITS,
        sources: Sequence[Source] = (),
        aliases: pl.DataFrame | None = None,
    ) -> "Rules":
        """Rules from metrics and accounts, sorted."""
        ids = accounts.cast(pl.String).drop_nulls().unique().sort().rename("account_id")
        names = ALIASES.empty() if aliases is None else ALIASES.conform(aliases)
        by_name = tuple(sorted(metrics, key=lambda metric: metric.name))
        return cls(by_name, ids, time_zone, lateness_days, limits, tuple(sources), names)

    @classmethod
    def of_catalogue(cls, catalogue: Catalogue, accounts: pl.Series, aliases: pl.DataFrame | None = None) -> "Rules":
        """The rules of a business: its catalogue, known accounts and ALIASES."""
        policy = catalogue.policy
        return cls.of(
            catalogue.metrics,
            accounts,
            catalogue.time_zone,
            policy.lateness_days,
            policy.limits,
            catalogue.sources,
            aliases,
        )

    def source_of(self, name: str) -> Source | None:
        """The source that reads a delivered file of some name; None: it holds CloudEvents or flat columns."""
        return source_of(name, self.sources)

    def with_accounts(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Parsed rows with the accounts that names in `subject` stand for; see `aliases.with_accounts`."""
        return with_accounts(rows, self.aliases, self.time_zone)

    @cached_property
    def types(self) -> EventTypes:
        """The event types of the catalogue with their required members."""
        return event_types(self.metrics)

    def reason(self, day: date, rows: int) -> pl.Expr:
        """The first reason of rule 27 why a parsed row (PARSED) delivered on `day` is invalid, or null.

        Parameters
        ----------
        rows
            Number of rows to validate: affects only the speed.
        """
        reason = pl.lit(None, pl.String)
        for fault, holds in reversed(self._faults(day, rows).items()):
            reason = pl.when(holds).then(pl.lit(fault)).otherwise(reason)
        return pl.when(pl.col("reason").is_not_null()).then("reason").otherwise(reason)

    def is_valid(self, day: date, rows: int) -> pl.Expr:
        """Whether `reason` would be null: faster than computing the reason."""
        return self.is_valid_if_known(day) & ~self.is_of_unknown_account(rows).fill_null(value=False)

    def is_valid_if_known(self, day: date) -> pl.Expr:
        """Whether `reason` would be null or "unknown_account"."""
        faults = self._faults_but_the_account(day)
        return pl.col("reason").is_null() & ~pl.any_horizontal(*faults.values()).fill_null(value=False)

    def is_of_unknown_account(self, rows: int) -> pl.Expr:
        """Whether the subject of each of `rows` rows is no known account."""
        if rows > len(self.accounts):
            # For more rows than accounts, build a set per batch: faster than the cached dictionary.
            return ~pl.col("subject").is_in(self.accounts.implode()).fill_null(value=False)
        return self._in_no_dictionary

    @cached_property
    def _in_no_dictionary(self) -> pl.Expr:
        return pl.col("subject").cast(pl.Enum(self.accounts), strict=False).is_null()

    def _faults(self, day: date, rows: int) -> dict[str, pl.Expr]:
        """Faults of a well-formed row, by reason, in the order of rule 27."""
        return {UNKNOWN_ACCOUNT: self.is_of_unknown_account(rows), **self._faults_but_the_account(day)}

    def _faults_but_the_account(self, day: date) -> dict[str, pl.Expr]:
        first = self.midnight(day - timedelta(days=self.lateness_days))
        after = self.midnight(day + timedelta(days=2))
        return {
            UNKNOWN_TYPE: ~pl.col("type").is_in(list(self.types)),
            FUTURE_DATED: pl.col("time") >= after,
            TOO_LATE: pl.col("time") < first,
        }

    def words(self, day: date, *, looked_up: bool = False) -> pl.Expr:
        """Fault description of rows delivered on `day` whose `reason` this module assigns; null for others.

        Parameters
        ----------
        looked_up
            Whether the accounts of the rows were looked up by names.
        """
        known = ", ".join(self.types)
        types = known if len(known) <= _LONGEST_LIST else f"{len(self.types)} of the catalogue"
        time = pl.col("time").dt.to_string("%Y-%m-%dT%H:%M:%S%.fZ")
        first, last = day - timedelta(days=self.lateness_days), day + timedelta(days=1)
        expected = {
            UNKNOWN_ACCOUNT: ("subject", pl.col("subject"), "the id of a known account"),
            UNKNOWN_TYPE: ("type", pl.col("type"), f"one of the event types {types}"),
            FUTURE_DATED: ("time", time, f"a day no later than {last}, the one after the delivery"),
            TOO_LATE: ("time", time, f"{first} or later, {self.lateness_days} days before the delivery"),
        }
        told = pl.lit(None, pl.String)
        for reason, (name, found, wanted) in expected.items():
            fault = pl.format("{}: found {}, expected {}", pl.lit(name), shown(found), pl.lit(wanted))
            told = pl.when(pl.col("reason") == reason).then(fault).otherwise(told)
        return pl.coalesce(alias_words(), told) if looked_up else told

    def midnight(self, day: date) -> pl.Expr:
        """The first instant of a day in the billing time zone."""
        return _midnight(self.time_zone, day)


@lru_cache(maxsize=256)
def _midnight(time_zone: str, day: date) -> pl.Expr:
    local = datetime.combine(day, time(), ZoneInfo(time_zone))
    return pl.lit(local.astimezone(ZoneInfo("UTC"))).cast(INSTANT)
