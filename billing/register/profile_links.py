"""Links to the accounts' own pages: an unguessable token each, drawn once and recorded (rule 25)."""

import secrets
from collections.abc import Iterable, Mapping
from typing import Final

import polars as pl
import sqlalchemy as sa

from billing.register import schema as stored
from billing.register.connection import Connection
from billing.register.rows import insert_rows

TOKEN_BYTES: Final = 16
"""128 bits, written as 32 hexadecimal digits: file systems may not tell capitals from small letters."""
_SCHEMA: Final = {"account_id": pl.String, "version": pl.Int64, "token": pl.String}


class ProfileLinks(Connection):
    """The tokens of accounts' own pages; the latest version of each holds."""

    def profile_links(self) -> pl.DataFrame:
        """account_id, version, token of every link that was ever drawn; sorted by the first two."""
        table = stored.profile_links
        return self._frame(sa.select(*(table.c[name] for name in _SCHEMA)).order_by(*list(table.c)[:2]), _SCHEMA)

    def profile_tokens(self) -> dict[str, str]:
        """The token in force of each account that has one."""
        return tokens_in_force(self.profile_links())

    def draw_profile_tokens(self, accounts: Iterable[str], known: Mapping[str, str] | None = None) -> dict[str, str]:
        """Record a token for each of these accounts that has none; returns those, and the tokens known before.

        Parameters
        ----------
        known
            The tokens in force, or those of a shard; all of them are read unless given.
        """
        known = self.profile_tokens() if known is None else known
        new = [(account, 1, secrets.token_hex(TOKEN_BYTES)) for account in sorted(set(accounts) - known.keys())]
        if new:
            with self._made.begin() as connection:
                insert_rows(connection, stored.profile_links, pl.DataFrame(new, schema=_SCHEMA, orient="row"))
        return {**known, **{account: token for account, _, token in new}}

    def renew_profile_token(self, account: str) -> str:
        """Record another token for an account, which replaces the one it has."""
        drawn = self.profile_links().filter(pl.col("account_id") == account)
        row = [(account, drawn.height + 1, secrets.token_hex(TOKEN_BYTES))]
        with self._made.begin() as connection:
            insert_rows(connection, stored.profile_links, pl.DataFrame(row, schema=_SCHEMA, orient="row"))
        return row[0][2]


def tokens_in_force(links: pl.DataFrame) -> dict[str, str]:
    """The token in force of each account, of rows as `ProfileLinks.profile_links`."""
    latest = links.unique("account_id", keep="last", maintain_order=True)
    return dict(latest.select("account_id", "token").iter_rows())
