"""Days to rewrite because accounts, or the names in logs that stand for them, have changed since the last ingest."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date

import polars as pl

from billing.ingest.aliases import changed_names
from billing.ingest.manifest import ParsedVersion
from billing.ingest.parsed_rows import ALIAS_KIND
from billing.ingest.parsed_sources import read_columns, sources_of
from billing.ingest.state import State, aliases_digest, read_accounts, read_aliases
from billing.ingest.validation import UNKNOWN_ACCOUNT, Rules
from billing.model.tables import REJECTS
from billing.store.frames import read_frame
from billing.store.home import Home

FilesByDay = Mapping[date, Sequence[ParsedVersion]]


def days_of_changed_names(
    home: Home, rules: Rules, state: State, files: FilesByDay, changed: AbstractSet[date]
) -> set[date]:
    """Days with rows of an account or of a name that has changed, besides days that changed anyway."""
    return _days_of_changed_aliases(home, rules, state, files, changed) | _days_of_changed_accounts(
        home, rules, state, files, changed
    )


def accounts_changed(home: Home, rules: Rules, state: State | None) -> bool:
    """Whether other accounts are known than at the last ingest."""
    if state is None:
        return False
    before = read_accounts(home, state.accounts)
    return before is None or not before.equals(rules.accounts)


def _days_of_changed_aliases(
    home: Home, rules: Rules, state: State, files: FilesByDay, changed: AbstractSet[date]
) -> set[date]:
    """Days with rows that carry a name which stands for another account, or over other dates."""
    if state.aliases == aliases_digest(rules.aliases):
        return set()
    before = read_aliases(home, state.aliases)
    if before is None:
        return set(files)
    names = changed_names(before, rules.aliases)
    found = set()
    for day in set(files) - changed:
        for source in sources_of(files[day]):
            there = read_columns(source.path, ["subject"], [ALIAS_KIND])
            if ALIAS_KIND in there.columns:
                carried = there.select(kind=ALIAS_KIND, alias=pl.col("subject").str.strip_chars())
                if not carried.join(names, on=["kind", "alias"], how="semi").is_empty():
                    found.add(day)
    return found


def _days_of_changed_accounts(
    home: Home, rules: Rules, state: State, files: FilesByDay, changed: AbstractSet[date]
) -> set[date]:
    """Days with rows of accounts that were added or removed."""
    if not accounts_changed(home, rules, state):
        return set()
    before = read_accounts(home, state.accounts)
    if before is None:
        return set(files)
    now = rules.accounts
    added = now.filter(~now.is_in(before.implode()))
    gone = before.filter(~before.is_in(now.implode()))
    found = set()
    for day in set(files) - changed:
        if len(added):
            aside = read_frame(home.delivery(REJECTS, day), REJECTS).filter(pl.col("reason") == UNKNOWN_ACCOUNT)
            if aside["account_id"].is_in(added.implode()).any():
                found.add(day)
        if len(gone) and any(
            rules.with_accounts(read_columns(source.path, ["subject", "time"], [ALIAS_KIND]))["subject"]
            .is_in(gone.implode())
            .any()
            for source in sources_of(files[day])
        ):
            found.add(day)
    return found
