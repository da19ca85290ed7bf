"""Columns and tables: types, units and descriptions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import polars as pl

BASE_QUANTITY: Final = pl.Decimal(38, 9)
"""A quantity in the metric's base unit (bytes, not GB), exact to nine decimals."""
QUANTITY: Final = pl.Decimal(38, 18)
"""A quantity in the metric's unit (GB). Nine decimals of a byte are eighteen decimals of a GB."""
MONEY: Final = pl.Decimal(38, 4)
"""An amount rounded to a currency's minor unit; no ISO 4217 currency has more than four decimals."""
PRICE: Final = pl.Decimal(38, 12)
"""A catalogue price, as written."""
RATE: Final = pl.Decimal(38, 12)
"""A tax rate as a fraction: 0.2 is 20 percent."""
INSTANT: Final = pl.Datetime("ns", "UTC")
MEASUREMENT: Final = pl.List(pl.Struct({"metric": pl.String, "quantity": QUANTITY, "allowance": QUANTITY}))


@dataclass(frozen=True)
class Column:
    """A column: name, Polars type and description."""

    name: str
    dtype: pl.DataType | type[pl.DataType]
    description: str


@dataclass(frozen=True)
class Table:
    """A table of the lake.

    Attributes
    ----------
    key
        Sort columns of every file of the table; together they identify a row.
    rows_at_once
        Rows per row group, the unit of a write and of a partial read.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    rows_at_once: int = 250_000

    @cached_property
    def schema(self) -> pl.Schema:
        """Column names and Polars types, in order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @property
    def column_names(self) -> Sequence[str]:
        """Column names, in order."""
        return [column.name for column in self.columns]

    def empty(self) -> pl.DataFrame:
        """A frame with all columns and no rows."""
        return self._nothing.clone()

    @cached_property
    def _nothing(self) -> pl.DataFrame:
        return pl.DataFrame(schema=self.schema)

    @cached_property
    def _casts(self) -> list[pl.Expr]:
        return [pl.col(column.name).cast(column.dtype) for column in self.columns]

    def conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Convert `frame` to exactly the table's columns, types and order, sorted by its key.

        Raises
        ------
        polars.exceptions.ColumnNotFoundError
            When a column is missing.
        polars.exceptions.InvalidOperationError
            When a value does not fit the column's type.
        """
        fitting = self.fit(frame)
        return fitting if fitting.height < 2 else fitting.sort(self.key)

    def fit(self, frame: pl.DataFrame) -> pl.DataFrame:
        """As `conform`, for a frame that is already sorted."""
        if frame.is_empty() and self.schema.keys() <= set(frame.columns):
            return self.empty()
        return frame if frame.schema == self.schema else frame.select(self._casts)


ACCOUNT = Column("account_id", pl.String, "The account")
SUBSCRIPTION = Column(
    "subscription_id",
    pl.String,
    "One purchase of the account: `<account_id>/<start date>`; null of charges apart",
)
MONTH = Column("billing_month", pl.String, "The billing month, YYYY-MM: the month that holds the billing date")
BILLING_DATE = Column("billing_date", pl.Date, "The local date on which the document falls due to be issued")
CYCLE_START = Column("cycle_start", pl.Date, "First local day of the cycle")
CYCLE_END = Column("cycle_end", pl.Date, "The local day after the cycle's last: cycles are half-open")
METRIC = Column("metric", pl.String, "What is measured, as the catalogue names it")
_PACKAGE = Column("package", pl.String, "The package in force")
CURRENCY = Column("currency", pl.String, "ISO 4217 code")
NUMBER = Column("number", pl.String, "The document's number, gap-free per series and year")

DOCUMENT_MONEY = (
    Column("net", MONEY, "Sum of the lines, before tax"),
    Column("tax", MONEY, "Sum of the taxes"),
    Column("total", MONEY, "net + tax; negative on a credit note"),
    Column("credits_applied", MONEY, "What prepaid credits pay of the total; negative: what is given back to them"),
    Column("due", MONEY, "total - credits_applied: what is asked for"),
)

LINE = (
    Column("line", pl.Int32, "Position on the document, from 1"),
    Column(
        "kind",
        pl.String,
        "package_fee, proration, hold_fee, seats, add_on, overage, charge, prepayment, minimum_spend, coupon, "
        "prior_cycle, refund or adjustment",
    ),
    Column("metric", pl.String, "The metric of an overage or of seats; null on a fee"),
    Column("rule", pl.String, "The rule of a tariff by dimension that rated it; null elsewhere"),
    Column("add_on", pl.String, "The add-on whose fee it is; null elsewhere"),
    Column("charge_id", pl.String, "The one-off charge; null elsewhere"),
    Column("coupon", pl.String, "The coupon that lowers another line; null elsewhere"),
    Column("applies_to_line", pl.Int32, "Position of the line that a coupon lowers; null elsewhere"),
    _PACKAGE,
    CYCLE_START,
    CYCLE_END,
    Column("quantity", QUANTITY, "Measured in the cycle, in the metric's unit"),
    Column("allowance", QUANTITY, "Included in the package, in the metric's unit; null is unlimited"),
    Column("excess", QUANTITY, "quantity - allowance where over, in the metric's unit"),
    Column("billed_units", QUANTITY, "Started blocks (block model), else the excess, in the metric's unit"),
    Column("unit_price", PRICE, "Price of a block or unit where one price holds for the whole excess"),
    Column("amount", MONEY, "The line's amount, rounded half-up to the minor unit"),
    Column("description", pl.String, "The line in words"),
)

TAX = (
    Column("name", pl.String, "The tax, as the tax table names it"),
    Column("country", pl.String, "ISO 3166-1 alpha-2 code of the jurisdiction"),
    Column("region", pl.String, "The region of the jurisdiction; null for the whole country"),
    Column("rate", RATE, "As a fraction: 0.2 is 20 percent"),
    Column("taxable", MONEY, "The rounded net sum the tax is computed on"),
    Column("amount", MONEY, "rate x taxable, rounded half-up"),
    Column("reason", pl.String, "charged, exempt or reverse_charge"),
    Column("category", pl.String, "Category of the tax in e-invoices (UNCL 5305): S, Z, E, AE, K, G, O, L or M"),
    Column("exemption_reason", pl.String, "Why nothing is charged, as the tax table or the account says; or null"),
    Column("exemption_code", pl.String, "Code of that reason (VATEX), as the tax table says; or null"),
)

DUE_ITEM = Column(
    "due_item",
    pl.String,
    "Which of several of its kind: the rule, the add-on, the charge_id, the request_id of a proration, the grant_id of "
    "a prepayment, or the coupon and what it lowers; null where there is one",
)
TAX_CATEGORY = Column(
    "tax_category", pl.String, "The category of tax that it is charged with; null: what the country charges as a rule"
)
CREDITS_OF_A_DOCUMENT = pl.List(pl.Struct({"grant_id": pl.String, "amount": MONEY, "gives_back": pl.String}))
GIVES_BACK = Column("gives_back", pl.String, "The document whose billing a prior_cycle line gives back; else null")
TAXED_AS = Column("taxed_as", pl.String, "The document whose tax is given back with its lines; null for an own tax")

DRAFT_IDENTITY = (
    Column("kind", pl.String, "invoice, credit_note or debit_note"),
    ACCOUNT,
    SUBSCRIPTION,
    MONTH,
    BILLING_DATE,
)
