"""What rows are validated with, small enough to be handed to a worker: accounts and names stand in the lake."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from billing.ingest.changed_names import accounts_changed
from billing.ingest.state import (
    State,
    configuration_digest,
    read_accounts,
    read_aliases,
    write_accounts,
    write_aliases,
)
from billing.ingest.validation import Rules
from billing.model.catalogue import Metric
from billing.model.errors import InterruptedRunError
from billing.model.file_limits import Limits
from billing.model.sources import Source
from billing.store.home import Home


@dataclass(frozen=True)
class Settings:
    """`Rules` without the accounts and the aliases; see there.

    Attributes
    ----------
    configuration
        As `state.configuration_digest`.
    accounts, aliases
        Hashes of what the lake holds of both.
    """

    metrics: tuple[Metric, ...]
    time_zone: str
    lateness_days: int
    limits: Limits
    sources: tuple[Source, ...]
    configuration: str
    accounts: str
    aliases: str

    @classmethod
    def store(cls, home: Home, rules: Rules, state: State | None) -> "Settings":
        """Put the accounts and the aliases into the lake, where other ones stand in the state."""
        is_new = state is None or accounts_changed(home, rules, state)
        accounts = write_accounts(home, rules.accounts) if state is None or is_new else state.accounts
        settings = cls(
            rules.metrics,
            rules.time_zone,
            rules.lateness_days,
            rules.limits,
            rules.sources,
            configuration_digest(rules),
            accounts,
            write_aliases(home, rules.aliases),
        )
        _loaded[:] = [(home, settings.key, rules)]
        return settings

    @cached_property
    def key(self) -> str:
        """A hash of all that decides whether a row is valid."""
        return hashlib.sha256(f"{self.configuration} {self.accounts} {self.aliases}".encode()).hexdigest()[:12]

    def rules(self, home: Home) -> Rules:
        """The rules, with the accounts and the aliases that the lake holds.

        Raises
        ------
        InterruptedRunError
            When it holds them no more: a later run replaced them.
        """
        for loaded, key, rules in _loaded:
            if (loaded, key) == (home, self.key):
                return rules
        accounts, aliases = read_accounts(home, self.accounts), read_aliases(home, self.aliases)
        if accounts is None or aliases is None:
            raise InterruptedRunError("the accounts that usage was to be ingested with are there no more: run again")
        rules = Rules(self.metrics, accounts, self.time_zone, self.lateness_days, self.limits, self.sources, aliases)
        _loaded[:] = [(home, self.key, rules)]
        return rules


def forget_rules() -> None:
    """Free the last rules: with the dictionary of their accounts they take 200 bytes an account."""
    _loaded.clear()


_loaded: list[tuple[Home, str, Rules]] = []
"""The last rules of this process: loading millions of accounts takes a second."""
