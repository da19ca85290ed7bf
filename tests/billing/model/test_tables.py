"""The tables: described once, sorted by their key, conformed to exactly their columns."""

from decimal import Decimal

import polars as pl
import pytest
from polars.exceptions import ColumnNotFoundError, InvalidOperationError
from polars.testing import assert_frame_equal

from billing.model import tables
from billing.model.columns import MONEY, Table
from billing.model.tables import DRAFT_LINES, DRAFT_TAXES, LEVELS, LINES, TAXES

ALL = [value for value in vars(tables).values() if isinstance(value, Table)]
CONTRACT = {
    "mails": "number to sent_at status attempts message_id error",
    "reminders": "account_id reminder_id level on oldest_document documents amount fee to sent_at status attempts",
    "documents": "number kind account_id subscription_id billing_month billing_date issued_on currency net tax total "
    "status corrects content_hash",
    "drafts": "kind account_id subscription_id billing_month billing_date issued_on currency net tax total corrects "
    "content_hash",
    "lines": "number line kind metric package cycle_start cycle_end quantity allowance excess billed_units unit_price "
    "amount description",
    "usage": "account_id subscription_id billing_month cycle_start cycle_end metric quantity closing_level events "
    "duplicates",
    "charges": "account_id subscription_id billing_month cycle_start cycle_end package metric quantity allowance "
    "excess billed_units amount",
    "taxes": "number name country region rate taxable amount reason",
    "decisions": "decision_id billing_month request_id account_id subscription_id kind outcome reason from_package "
    "to_package decided_on effective_on evidence flags amount expected_from expected_by",
    "packages": "account_id subscription_id billing_month billing_date closing_package opening_package status",
    "profile": "account_id as_of package status next_billing_date upcoming_amount previous_amount previous_date "
    "outstanding usage pending_change payment_history",
    "balances": "account_id currency invoiced credited paid refunded outstanding oldest_unpaid_on status",
    "rejects": "delivery_day file row reason text source id account_id metric quantity",
    "ingest": "delivery_day file bytes sha256 rows counted duplicates rejected",
    "unbilled": "account_id billing_month metric reason quantity events",
    "parked": "account_id billing_month reason detail",
}
MONEY_COLUMNS = {"amount", "net", "tax", "total", "taxable", "outstanding", "upcoming_amount", "previous_amount"}
LEVEL = pl.DataFrame(
    {
        "closing_level": [3, 4],
        "more": ["x", "y"],
        "account_id": ["globex", "acme"],
        "billing_month": "2026-01",
        "metric": "leads",
        "opening_level": [Decimal("1.5"), None],
    }
)


@pytest.mark.parametrize("name", CONTRACT)
def test_a_table_has_the_columns_that_outside_readers_rely_on(name: str) -> None:
    (table,) = [table for table in ALL if table.name == name]
    assert set(CONTRACT[name].split()) <= set(table.column_names)


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_every_table_and_column_is_described_once(table: Table) -> None:
    assert table.description
    assert len(table.column_names) == len(set(table.column_names)) == len(table.schema)
    assert all(column.description for column in table.columns)
    assert table.key
    assert set(table.key) <= set(table.column_names)


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_no_amount_and_no_quantity_is_a_binary_float(table: Table) -> None:
    def leaves(dtype: object) -> list[object]:
        if isinstance(dtype, pl.List):
            return leaves(dtype.inner)
        if isinstance(dtype, pl.Struct):
            return [leaf for field in dtype.fields for leaf in leaves(field.dtype)]
        return [dtype]

    assert not [leaf for dtype in table.schema.values() for leaf in leaves(dtype) if leaf in (pl.Float32, pl.Float64)]
    assert {table.schema[name] for name in MONEY_COLUMNS & set(table.column_names)} <= {MONEY}


def test_names_of_tables_are_their_own() -> None:
    assert len({table.name for table in ALL}) == len(ALL)


def test_a_frame_is_conformed_to_columns_types_order_and_key() -> None:
    found = LEVELS.conform(LEVEL)
    assert found.schema == LEVELS.schema
    assert found["account_id"].to_list() == ["acme", "globex"]
    assert found["opening_level"].to_list() == [None, Decimal("1.5")]
    assert_frame_equal(LEVELS.conform(LEVEL.reverse()), found)
    assert LEVELS.empty().schema == LEVELS.schema


def test_a_frame_that_lacks_a_column_or_holds_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ColumnNotFoundError, match="metric"):
        LEVELS.conform(LEVEL.drop("metric"))
    with pytest.raises(InvalidOperationError):
        LEVELS.conform(LEVEL.with_columns(opening_level=pl.lit("many")))
    with pytest.raises(InvalidOperationError):
        LEVELS.conform(LEVEL.with_columns(opening_level=pl.lit(10**30, pl.Int128)))


def test_drafts_have_the_lines_and_taxes_that_issued_documents_have() -> None:
    for drafted, issued in ((DRAFT_LINES, LINES), (DRAFT_TAXES, TAXES)):
        common = [name for name in issued.column_names if name != "number"]
        assert {name: drafted.schema[name] for name in common} == {name: issued.schema[name] for name in common}
