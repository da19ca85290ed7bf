"""Reader of all inputs except usage (rules 11, 24, 26, 27).

A wrong row is rejected with its reason, and the rest is read. An unreadable file or a wrong tax table is refused before
any computation: a lost cancellation or tax would make amounts wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import polars as pl

from billing.inputs.accounts import accounts_without_regional_rate, read_accounts, untaxed_accounts
from billing.inputs.aliases import read_aliases
from billing.inputs.credit_grants import GRANT_SCHEMA, read_credit_grants
from billing.inputs.divided_rows import FOLDER, DividedRows
from billing.inputs.exchange_rates import EXCHANGE_SCHEMA, read_exchange_rates
from billing.inputs.one_off_charges import ONE_OFF_SCHEMA, read_one_off_charges
from billing.inputs.opening_balances import OPENING_SCHEMA, read_opening_balances
from billing.inputs.payments import read_payments
from billing.inputs.requests import read_requests
from billing.inputs.row_checks import RowsRead
from billing.inputs.row_currencies import RowCurrencies
from billing.inputs.tax_rates import TAX_SCHEMA, read_tax_rates
from billing.model.buckets import BucketRange, buckets_of
from billing.model.catalogue import Catalogue
from billing.model.errors import RefusedError
from billing.model.sources import ALIASES
from billing.model.tables import REJECTS
from billing.rules.currencies import Currencies
from billing.store.home import Home
from billing.store.temporary_folder import ScratchFolder

INPUTS: Final = (
    *("accounts", "requests", "payments", "aliases", "opening_balances"),
    *("one_off_charges", "credit_grants"),
)
"""Tables that are one file or a folder of files."""
_SMALL: Final = ("opening_balances", "one_off_charges", "credit_grants")


@dataclass(frozen=True)
class Inputs:
    """Valid input rows, rejects and warnings.

    Attributes
    ----------
    all_accounts, all_requests, all_payments, all_known_accounts
        What `accounts`, `requests`, `payments` and `known_accounts` are rows of: in memory, or on disk.
    tax_rates
        As TAX_SCHEMA; region is null for the whole country, category and both exemptions where not said; sorted. Names
        in other languages are columns `name_<language>`.
    rejects
        As the table REJECTS.
    unusable
        Messages about files of which no row counts.
    aliases
        As ALIASES, sorted.
    opening_balances
        account_id, currency, reference, amount (MONEY; below 0: in credit), on; sorted.
    exchange_rates
        As `read_exchange_rates`.
    one_off_charges
        As `read_one_off_charges`.
    credit_grants
        As `read_credit_grants`.
    currencies
        The currencies in use, that of the catalogue first; empty stands for it alone.
    """

    all_accounts: pl.DataFrame | DividedRows
    all_requests: pl.DataFrame | DividedRows
    all_payments: pl.DataFrame | DividedRows
    tax_rates: pl.DataFrame
    rejects: pl.DataFrame
    warnings: tuple[str, ...]
    unusable: tuple[str, ...] = ()
    aliases: pl.DataFrame = field(default_factory=ALIASES.empty)
    all_known_accounts: pl.DataFrame | DividedRows = field(
        default_factory=lambda: pl.DataFrame(schema={"account_id": pl.String})
    )
    opening_balances: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=OPENING_SCHEMA))
    exchange_rates: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EXCHANGE_SCHEMA))
    one_off_charges: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ONE_OFF_SCHEMA))
    credit_grants: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=GRANT_SCHEMA))
    currencies: tuple[str, ...] = ()
    buckets: BucketRange | None = None
    everyones_requests: pl.LazyFrame | None = field(default=None, compare=False)

    @property
    def accounts(self) -> pl.DataFrame:
        """ACCOUNT_COLUMNS as text, one row per account, sorted.

        tax_exempt and dunning (null: not said) are Boolean, payment_days is Int16.
        """
        return self._rows("all_accounts")

    @property
    def requests(self) -> pl.DataFrame:
        """Requests, sorted by at, request_id.

        request_id, account_id, at (UTC), on (local date), kind, channel, package, term, trial_days (Int32), reason,
        brand, last4, withdraws, billed_through, usage_from (dates), coupon, add_on, quantity (Int64), add_ons (null,
        or text that decodes to QUANTITIES).
        """
        return self._rows("all_requests")

    @property
    def payments(self) -> pl.DataFrame:
        """Payments, sorted by at, payment_id.

        payment_id, account_id, document (null: on account), at (UTC), on (local date), amount (MONEY), currency,
        status, card_brand, card_last4, reference.
        """
        return self._rows("all_payments")

    @property
    def known_accounts(self) -> pl.Series:
        """account_id, sorted: accounts with a row, and accounts with issued documents."""
        return self._rows("all_known_accounts")["account_id"]

    @property
    def request_ids(self) -> pl.LazyFrame:
        """request_id of the requests of everyone: of a shard, those of other accounts, too."""
        return self.requests_of_everyone.select("request_id")

    @property
    def requests_of_everyone(self) -> pl.LazyFrame:
        """The requests of everyone, in no order: of a shard, those of other accounts, too."""
        if self.everyones_requests is not None:
            return self.everyones_requests
        rows = self.all_requests
        return rows.lazy() if isinstance(rows, pl.DataFrame) else rows.scan()

    def _rows(self, name: str) -> pl.DataFrame:
        rows: pl.DataFrame | DividedRows = getattr(self, name)
        if isinstance(rows, pl.DataFrame):
            return rows
        # Those of all shards are large: hold only what a shard reads.
        if self.buckets is None:
            return rows.read(None)
        if name not in self._held:
            self._held[name] = rows.read(self.buckets)
        return self._held[name]

    @cached_property
    def _held(self) -> dict[str, pl.DataFrame]:
        return {}

    def divided(self, ranges: Sequence[BucketRange]) -> "Inputs":
        """The same inputs, the large ones on disk: memory follows the shard that reads them."""
        folder = ScratchFolder(FOLDER)
        return replace(
            self,
            all_accounts=DividedRows.write(self.accounts, "accounts", ["account_id"], ranges, folder),
            all_requests=DividedRows.write(self.requests, "requests", ["at", "request_id"], ranges, folder),
            all_payments=DividedRows.write(self.payments, "payments", ["at", "payment_id"], ranges, folder),
            all_known_accounts=DividedRows.write(
                self.known_accounts.to_frame("account_id"), "known_accounts", ["account_id"], ranges, folder
            ),
        )

    def of(self, buckets: BucketRange) -> "Inputs":
        """The inputs of a shard: the rows of accounts in some buckets; aliases, tax and exchange rates whole.

        Also all rejects of requests: what is set aside may lack its account, or name another than it had.
        """
        if buckets.is_whole:
            return self

        def own(name: str) -> Any:
            rows: pl.DataFrame | DividedRows = getattr(self, name)
            return rows.filter(buckets.holds(self._buckets[name])) if isinstance(rows, pl.DataFrame) else rows

        requests, everyones = self.all_requests, self.everyones_requests
        if everyones is None:
            everyones = requests.lazy() if isinstance(requests, pl.DataFrame) else requests.scan()
        return replace(
            self,
            all_accounts=own("all_accounts"),
            all_requests=own("all_requests"),
            all_payments=own("all_payments"),
            rejects=self.rejects.filter(
                buckets.holds(self._buckets["rejects"]).fill_null(value=False)
                | pl.col("file").str.starts_with("requests")
            ),
            all_known_accounts=own("all_known_accounts"),
            opening_balances=own("opening_balances"),
            one_off_charges=own("one_off_charges"),
            credit_grants=own("credit_grants"),
            buckets=buckets,
            everyones_requests=everyones,
        )

    def of_currency(self, currency: str, currencies: Currencies) -> "Inputs":
        """The rows of accounts in a currency, and of charges and grants in it; what no currency bears on is whole."""

        def given(rows: pl.DataFrame) -> pl.DataFrame:
            return rows.filter(pl.col("currency") == currency)

        return replace(
            self,
            all_accounts=currencies.rows(self.accounts, currency),
            all_requests=currencies.rows(self.requests, currency),
            one_off_charges=given(self.one_off_charges),
            credit_grants=given(self.credit_grants),
        )

    @cached_property
    def _buckets(self) -> Mapping[str, pl.Series]:
        """The bucket of every row: found once for all shards."""
        names = ("all_accounts", "all_requests", "all_payments", "all_known_accounts", "rejects", *_SMALL)
        rows = {name: getattr(self, name) for name in names}
        return {name: buckets_of(each["account_id"]) for name, each in rows.items() if isinstance(each, pl.DataFrame)}


class _Refused:
    """Refusals of files: one that is refused does not keep the others from being read, so that all are named."""

    def __init__(self) -> None:
        self._refusals: list[RefusedError] = []

    def read(self, read: Callable[[], pl.DataFrame], schema: Mapping[str, Any] | None = None) -> pl.DataFrame:
        """What is read; no rows where it is refused, which `stop` tells."""
        try:
            return read()
        except RefusedError as refusal:
            self._refusals.append(refusal)
            return pl.DataFrame(schema=schema)

    def stop(self, home: Home) -> None:
        """Raise what was refused, if anything was."""
        if len(self._refusals) == 1:
            raise self._refusals[0]
        if self._refusals:
            raise RefusedError(f"{home.landing}: several of its files are refused", refusals=self._refusals)


def read_inputs(
    home: Home, catalogue: Catalogue, billed: pl.Series | None = None, issued: pl.DataFrame | None = None
) -> Inputs:
    """Read everything in the landing folder except usage and catalogue.

    Parameters
    ----------
    billed
        account_id: accounts with issued documents. Their requests and payments count even without an account row.
    issued
        account_id, currency: of issued documents; None where all of them are in the catalogue's currency.

    Raises
    ------
    RefusedError
        When there is no accounts file, a file cannot be read, or a table is wrong; lists the problems of all of them.
    """
    noticed, refused = RowsRead(), _Refused()
    accounts = read_accounts(home, catalogue, noticed)
    tax_rates = refused.read(lambda: read_tax_rates(home.landing / "tax_rates.csv", catalogue.encoding), TAX_SCHEMA)
    noticed.warnings += [*untaxed_accounts(accounts, tax_rates), *accounts_without_regional_rate(accounts, tax_rates)]
    ids = accounts["account_id"]
    known = ids if billed is None else pl.concat([ids, billed]).unique().sort()
    currencies = RowCurrencies.of(catalogue, accounts, issued)
    requests = refused.read(lambda: read_requests(home, catalogue, known, noticed))
    payments = refused.read(lambda: read_payments(home, catalogue, known, noticed, currencies))
    aliases = refused.read(lambda: read_aliases(home, catalogue, noticed))
    opening_balances = refused.read(lambda: read_opening_balances(home, catalogue, known, noticed, currencies))
    exchange_rates = refused.read(lambda: read_exchange_rates(home.landing / "exchange_rates.csv", catalogue.encoding))
    one_off_charges = refused.read(lambda: read_one_off_charges(home, catalogue, known, noticed, currencies))
    credit_grants = refused.read(lambda: read_credit_grants(home, catalogue, known, noticed, currencies))
    refused.stop(home)
    return Inputs(
        all_accounts=accounts,
        all_requests=requests,
        all_payments=payments,
        tax_rates=tax_rates,
        rejects=REJECTS.conform(pl.concat([REJECTS.empty(), *noticed.rejects])),
        warnings=tuple(noticed.warnings),
        unusable=tuple(noticed.unusable),
        aliases=aliases,
        all_known_accounts=known.to_frame("account_id"),
        opening_balances=opening_balances,
        exchange_rates=exchange_rates,
        one_off_charges=one_off_charges,
        credit_grants=credit_grants,
        currencies=currencies.codes,
    )
