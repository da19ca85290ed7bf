"""Table schemas of the lake: columns, types, units, descriptions and sort keys.

The single source of column descriptions: Parquet metadata, Dagster's pages and the readers' checks use them.
"""

from collections.abc import Mapping
from typing import Final

import polars as pl

from billing.model.account_tables import (
    ALLOCATIONS,
    BALANCES,
    COLLECTIONS,
    CREDITS,
    JOURNAL,
    MAILS,
    PROFILE,
    REMINDERS,
)
from billing.model.columns import (
    ACCOUNT,
    BASE_QUANTITY,
    BILLING_DATE,
    CREDITS_OF_A_DOCUMENT,
    CURRENCY,
    CYCLE_END,
    CYCLE_START,
    DOCUMENT_MONEY,
    DRAFT_IDENTITY,
    DUE_ITEM,
    GIVES_BACK,
    INSTANT,
    LINE,
    MEASUREMENT,
    METRIC,
    MONEY,
    MONTH,
    NUMBER,
    PRICE,
    QUANTITY,
    SUBSCRIPTION,
    TAX,
    TAX_CATEGORY,
    TAXED_AS,
    Column,
    Table,
)

_DUE_KINDS: Final = (
    "package_fee, proration, hold_fee, seats, add_on, overage, charge, prepayment, minimum_spend or coupon"
)

DOCUMENTS = Table(
    "documents",
    "An issued document. It never changes again.",
    (
        NUMBER,
        *DRAFT_IDENTITY,
        Column("issued_on", pl.Date, "As-of day of the run that issued it"),
        Column("due_on", pl.Date, "The day by which it is to be paid: issued_on and the payment days"),
        CURRENCY,
        *DOCUMENT_MONEY,
        Column("status", pl.String, "open, paid, credited or refunded: derived from payments and credits when read"),
        Column("corrects", pl.String, "The number of the document this note corrects, or null"),
        Column("content_hash", pl.String, "SHA-256 of the stored content, which holds everything the page shows"),
    ),
    ("number",),
)

DRAFTS = Table(
    "drafts",
    "A document that is due but not issued yet.",
    (
        *DRAFT_IDENTITY,
        Column("issued_on", pl.Date, "Always null: it is not issued"),
        Column("due_on", pl.Date, "Always null: it is not issued"),
        Column("payment_days", pl.Int16, "Days from issue until it is due"),
        CURRENCY,
        *DOCUMENT_MONEY,
        Column("corrects", pl.String, "The number of the document this note corrects, or null"),
        Column("content_hash", pl.String, "SHA-256 of the content as it would be issued, without number and date"),
        Column("content", pl.String, "Everything the page would show, as JSON"),
        Column(
            "credits",
            CREDITS_OF_A_DOCUMENT,
            "The grants that pay it, in order; on a credit note those that get something back, and of which document",
        ),
    ),
    ("billing_date", "account_id", "subscription_id", "kind"),
    # A page takes more than a kilobyte.
    rows_at_once=10_000,
)

LINES = Table("lines", "A line of an issued document.", (NUMBER, *LINE, GIVES_BACK), ("number", "line"))

DRAFT_LINES = Table(
    "draft_lines",
    "A line of a draft.",
    (
        ACCOUNT,
        SUBSCRIPTION,
        MONTH,
        BILLING_DATE,
        *LINE,
        Column(
            "due_on", pl.Date, "The billing date on which the amount fell due: an earlier one on a prior_cycle line"
        ),
        Column("due_kind", pl.String, f"{_DUE_KINDS}; also where the line's kind is prior_cycle"),
        DUE_ITEM,
        TAX_CATEGORY,
        GIVES_BACK,
    ),
    ("billing_date", "account_id", "subscription_id", "line"),
)

DRAFT_TAXES = Table(
    "draft_taxes",
    "A tax of a draft.",
    (ACCOUNT, SUBSCRIPTION, MONTH, BILLING_DATE, *TAX, TAXED_AS),
    ("billing_date", "account_id", "subscription_id", "name", "rate", "region", "taxed_as"),
)

TAXES = Table(
    "taxes",
    "A tax of an issued document.",
    (NUMBER, *TAX, TAXED_AS),
    ("number", "name", "rate", "region", "taxed_as"),
)

CYCLES = Table(
    "cycles",
    "A billing date of a subscription: the cycle that ends there and the one that starts there.",
    (
        ACCOUNT,
        SUBSCRIPTION,
        MONTH,
        BILLING_DATE,
        Column("billing_index", pl.Int32, "k of billing date k; 0 is the start of the paid subscription"),
        Column("started_on", pl.Date, "Local date on which the subscription started"),
        Column("term", pl.String, "monthly or yearly"),
        Column("cycle_start", pl.Date, "First day of the cycle that ends at the billing date; null at billing date 0"),
        Column("cycle_end", pl.Date, "The billing date, where a cycle ends there; else null"),
        Column("next_billing_date", pl.Date, "End of the cycle that starts at the billing date"),
        Column("access_start", INSTANT, "First instant of the closing cycle with access; null when there was none"),
        Column("access_end", INSTANT, "The instant at which access in the closing cycle ended"),
        Column("following_term", pl.Date, "The first date after the billing date on which a term's fee falls due"),
        Column("term_end", pl.Date, "The first date on or after the billing date on which a term's fee falls due"),
        Column(
            "fee_share_numerator", pl.Int32, "Days of a prorated first cycle; 1 when the full fee is due, 0 when none"
        ),
        Column("fee_share_denominator", pl.Int32, "Days of that calendar month; 1 when not prorated"),
        Column("fee_reason", pl.String, "Why the fee is due or not: due, term, cancelled, held, refunded, suspended"),
        Column("hold_fee_due", pl.Boolean, "Whether the hold fee is due instead of the package fee"),
        Column(
            "status", pl.String, "Of the subscription at the billing date: active, held, suspended, cancelled, refunded"
        ),
        Column("is_last", pl.Boolean, "Whether the subscription ends here: no cycle starts"),
        Column(
            "late_fee_on",
            pl.Date,
            "The day on which access comes back and a yearly fee that a suspension kept falls due; else null",
        ),
        Column("late_term_start", pl.Date, "The date of that fee: the first day of the term it pays for; else null"),
        Column("late_term_end", pl.Date, "The day after that term; else null"),
    ),
    ("billing_date", "account_id", "subscription_id"),
)

LEVELS = Table(
    "levels",
    "The level of every gauge of an account at the start of the month before and of this billing month.",
    (
        ACCOUNT,
        MONTH,
        METRIC,
        Column("opening_level", BASE_QUANTITY, "Level at the first instant of the month before, in base units"),
        Column("closing_level", BASE_QUANTITY, "Level at the first instant of the billing month, in base units"),
    ),
    ("account_id", "metric"),
)

RULE_OF_USAGE: Final = Column(
    "rule",
    pl.String,
    "The rule of the metric's tariff by dimension that rates it; null for the rest, and without rules",
)

USAGE = Table(
    "usage",
    "What an account used of a metric, by rule of its tariff, in the cycle that closes in the billing month.",
    (
        ACCOUNT,
        SUBSCRIPTION,
        MONTH,
        CYCLE_START,
        CYCLE_END,
        METRIC,
        Column("quantity", QUANTITY, "The metric's measure over the access in the cycle, in its unit"),
        Column("closing_level", QUANTITY, "Level of a gauge at the end of the access, in its unit; null on counters"),
        Column("events", pl.Int64, "Events counted"),
        Column("duplicates", pl.Int64, "Further deliveries of those events, counted once"),
        Column("base_quantity", BASE_QUANTITY, "The quantity in base units, exact"),
        Column("event_sum", BASE_QUANTITY, "Plain sum of the events' values in base units, for conservation"),
        Column("lowest_level", QUANTITY, "Lowest level of a gauge where it fell below zero, in its unit; else null"),
        RULE_OF_USAGE,
    ),
    ("account_id", "subscription_id", "cycle_start", "metric", "rule"),
)

PACKAGES = Table(
    "packages",
    "The life of a subscription month by month: the package of the cycle that ended and of the one that starts.",
    (
        ACCOUNT,
        SUBSCRIPTION,
        MONTH,
        BILLING_DATE,
        Column("closing_package", pl.String, "Package of the cycle that ended; null at the start"),
        Column("opening_package", pl.String, "Package of the cycle that starts; null at the end"),
        Column("status", pl.String, "active, held, suspended, cancelled or refunded after the billing date"),
        Column("closed", pl.Boolean, "Whether the billing date has been closed: its packages never change again"),
        Column(
            "change_reason", pl.String, "Why the package changes here: auto_upgrade, upgrade or downgrade; else null"
        ),
        Column("waiting_package", pl.String, "A lower package that waits for the end of a yearly term, or null"),
    ),
    ("account_id", "subscription_id", "billing_date"),
)

ADD_ONS = Table(
    "add_ons",
    "A change of an add-on: how much of it a subscription has from a billing date on.",
    (
        ACCOUNT,
        SUBSCRIPTION,
        MONTH,
        Column("billing_date", pl.Date, "The billing date at which it was decided"),
        Column("add_on", pl.String, "The add-on, as the catalogue names it"),
        Column("quantity", pl.Int64, "The new total; 0 where it ends"),
        Column("effective_on", pl.Date, "The billing date from which it holds: a lower one waits for a term's end"),
        Column("is_given", pl.Boolean, "Whether it came with the subscription"),
    ),
    ("account_id", "subscription_id", "billing_date", "add_on"),
)

DECISIONS = Table(
    "decisions",
    "The one answer to a request, or an automatic upgrade, with the evidence beside it.",
    (
        Column(
            "decision_id",
            pl.String,
            "The request's id; `<subscription_id>/<billing date>/auto_upgrade`; of what a subscribe request asks for "
            "besides, `<request_id>/coupon` or `<request_id>/add_on/<name>`",
        ),
        MONTH,
        Column("request_id", pl.String, "The request answered; null when automatic, or of what it asks for besides"),
        ACCOUNT,
        SUBSCRIPTION,
        Column(
            "kind",
            pl.String,
            "auto_upgrade, subscribe, upgrade, downgrade, cancel, hold, resume, refund, add, redeem, ...",
        ),
        Column("outcome", pl.String, "approved, refused or superseded"),
        Column("reason", pl.String, "Reason code"),
        Column("explanation", pl.String, "The reason in words a customer understands"),
        Column("from_package", pl.String, "Package in force"),
        Column("to_package", pl.String, "Package asked for or chosen"),
        Column("decided_on", pl.Date, "Local date of the answer"),
        Column("effective_on", pl.Date, "Local date from which it holds; null when refused or superseded"),
        Column("evidence", MEASUREMENT, "Metric, quantity and allowance that the decision rests on, in units"),
        Column("flags", pl.List(pl.String), "exceeds_catalogue, voids_waiting_downgrade"),
        Column("amount", MONEY, "Money the decision moves (a refund), with tax; else null"),
        Column("expected_from", pl.Date, "First day on which refunded money is expected to arrive"),
        Column("expected_by", pl.Date, "Last such day"),
        Column("coupon", pl.String, "The coupon that is redeemed or revoked; else null"),
        Column("add_on", pl.String, "The add-on that is added or removed; else null"),
        Column("quantity", pl.Int64, "The quantity of the add-on that was asked for; null when it is removed"),
    ),
    ("decided_on", "account_id", "decision_id"),
)

CHARGES = Table(
    "charges",
    "What a metric of a closed cycle costs; within the allowance too, at 0.00.",
    (
        ACCOUNT,
        SUBSCRIPTION,
        MONTH,
        CYCLE_START,
        CYCLE_END,
        Column("package", pl.String, "Package in force in the cycle"),
        METRIC,
        Column("quantity", QUANTITY, "Measured, in the metric's unit"),
        Column("allowance", QUANTITY, "Included, in the metric's unit; null is unlimited"),
        Column("excess", QUANTITY, "quantity - allowance where over, else 0, in the metric's unit"),
        Column("billed_units", QUANTITY, "Started blocks (block model), else the excess, in the metric's unit"),
        Column("amount", MONEY, "Tariff of the excess, rounded half-up to the minor unit"),
        RULE_OF_USAGE,
        Column("events", pl.Int64, "Events counted"),
    ),
    ("account_id", "subscription_id", "cycle_start", "metric", "rule"),
)

PART_OF_A_FEE: Final = (
    Column("whole_fee", PRICE, "Where a part of a fee is due: the fee of the whole month or year; else null"),
    Column("replaced_fee", PRICE, "The lower yearly fee whose place it takes within the term; else null"),
    Column("fee_part", pl.Int32, "The days of the month, or the whole cycles of the year, it is due for; else null"),
    Column("fee_parts", pl.Int32, "The days of that month, or the cycles of a year; else null"),
)

DUES = Table(
    "dues",
    "What is due on a billing date: the fee of the cycle that starts and the overages of the one that ended there.",
    (
        ACCOUNT,
        SUBSCRIPTION,
        MONTH,
        BILLING_DATE,
        Column("kind", pl.String, _DUE_KINDS),
        *(column for column in LINE if column.name not in ("line", "kind", "applies_to_line")),
        DUE_ITEM,
        TAX_CATEGORY,
        *PART_OF_A_FEE,
    ),
    ("account_id", "subscription_id", "billing_date", "kind", "metric", "due_item"),
)

EVENTS = Table(
    "events",
    "A counted usage event.",
    (
        ACCOUNT,
        METRIC,
        Column("time", INSTANT, "The instant of the usage"),
        Column("value", BASE_QUANTITY, "Its numeric value in base units; null where the metric only counts"),
        Column("member", pl.String, "What a `unique` metric tells apart; null elsewhere"),
        Column(
            "dimensions",
            pl.List(pl.String),
            "Its values of the metric's dimensions, in their order, null where it lacks one; null without dimensions",
        ),
        Column("source", pl.String, "Where the event came from; identifies it together with id"),
        Column("id", pl.String, "The event's id within its source"),
        Column("delivery_day", pl.Date, "Day of delivery"),
        Column("file", pl.String, "File within the delivery day"),
        Column("row", pl.Int64, "Row in the file, from 1"),
    ),
    ("delivery_day", "file", "row", "metric"),
)

SURGES = Table(
    "surges",
    "A bill ten times the account's last one, without a change of package that would explain it. Computed when shown.",
    (
        ACCOUNT,
        SUBSCRIPTION,
        MONTH,
        BILLING_DATE,
        Column("number", pl.String, "The invoice; null while it is a draft"),
        Column("total", MONEY, "Its total, with tax"),
        Column("last_number", pl.String, "The account's invoice before; null when that is a draft"),
        Column("last_billing_date", pl.Date, "Its billing date"),
        Column("last_total", MONEY, "Its total, with tax"),
    ),
    ("billing_date", "account_id", "subscription_id"),
)

REJECTS = Table(
    "rejects",
    "A delivered row that was set aside, with the reason and its text.",
    (
        Column("delivery_day", pl.Date, "Day of delivery; null for requests, payments and accounts"),
        Column("file", pl.String, "The file, relative to the delivery day (usage) or to landing/"),
        Column("row", pl.Int64, "Row in the file, from 1; null when the whole file could not be read"),
        Column("reason", pl.String, "The first reason that applies"),
        Column("text", pl.String, "The row as delivered, card numbers masked to the last four digits"),
        Column("source", pl.String, "As far as known"),
        Column("id", pl.String, "As far as known"),
        Column("account_id", pl.String, "As far as known"),
        Column("metric", pl.String, "As far as known"),
        Column("quantity", QUANTITY, "Its value in the metric's unit, as far as known"),
        Column("detail", pl.String, "The field at fault, what was found and what was expected"),
    ),
    ("delivery_day", "file", "row"),
)

INGEST = Table(
    "ingest",
    "A delivered file: rows = counted + duplicates + rejected + ignored.",
    (
        Column("delivery_day", pl.Date, "Day of delivery"),
        Column("file", pl.String, "File within the delivery day"),
        Column("bytes", pl.Int64, "Size as delivered"),
        Column("sha256", pl.String, "Hash of the bytes as delivered"),
        Column("rows", pl.Int64, "Rows, without blank lines and header"),
        Column("counted", pl.Int64, "Rows that became an event"),
        Column("duplicates", pl.Int64, "Rows that repeat an event with the same content"),
        Column("rejected", pl.Int64, "Rows set aside"),
        Column("rounded", pl.Int64, "Rows that became an event of which a quantity was rounded to nine decimals"),
        Column("source_name", pl.String, "The source of the catalogue that read the file; null where none did"),
        Column("ignored", pl.Int64, "Rows that the source does not keep"),
        Column("first_time", INSTANT, "Earliest time of the rows that became an event; null where none did"),
        Column("last_time", INSTANT, "Latest such time"),
    ),
    ("delivery_day", "file"),
)

UNBILLED = Table(
    "unbilled",
    "Counted usage that bills nothing, with the reason.",
    (
        ACCOUNT,
        Column("billing_month", pl.String, "Calendar month of the events in the billing time zone, YYYY-MM"),
        METRIC,
        Column(
            "reason",
            pl.String,
            "no_subscription, before_start, trial, billed_elsewhere, access_ended, held, suspended or parked",
        ),
        Column(
            "quantity", QUANTITY, "Sum of the events' values (their number on counting metrics), in the metric's unit"
        ),
        Column("events", pl.Int64, "Events"),
    ),
    ("account_id", "metric", "reason"),
)

PARKED = Table(
    "parked",
    "An account that could not be billed, with the reason. The others were billed.",
    (
        ACCOUNT,
        MONTH,
        Column("reason", pl.String, "Reason code"),
        Column("detail", pl.String, "What was found, what was expected, and what to do"),
    ),
    ("account_id", "reason"),
)

TABLES: Final[Mapping[str, Table]] = {
    table.name: table
    for table in (
        DOCUMENTS,
        DRAFTS,
        LINES,
        DRAFT_LINES,
        DRAFT_TAXES,
        TAXES,
        CYCLES,
        LEVELS,
        USAGE,
        PACKAGES,
        ADD_ONS,
        DECISIONS,
        CHARGES,
        DUES,
        EVENTS,
        REJECTS,
        SURGES,
        INGEST,
        UNBILLED,
        PARKED,
        BALANCES,
        ALLOCATIONS,
        CREDITS,
        COLLECTIONS,
        JOURNAL,
        PROFILE,
        MAILS,
        REMINDERS,
    )
}
