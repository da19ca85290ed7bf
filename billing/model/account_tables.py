"""Table schemas of balances, allocations, collections, profiles and the journal."""

import polars as pl

from billing.model.columns import (
    ACCOUNT,
    CURRENCY,
    INSTANT,
    MONEY,
    NUMBER,
    QUANTITY,
    Column,
    Table,
)

BALANCES = Table(
    "balances",
    "What an account owes in a currency.",
    (
        ACCOUNT,
        CURRENCY,
        Column("invoiced", MONEY, "Invoices and debit notes"),
        Column("credited", MONEY, "Credit notes, as a positive amount"),
        Column("paid", MONEY, "Successful payments"),
        Column("refunded", MONEY, "Refunded and disputed payments"),
        Column(
            "outstanding",
            MONEY,
            "opening + invoiced - credits_applied - (credited - credits_returned) - (paid - refunded); may be negative",
        ),
        Column("oldest_unpaid_on", pl.Date, "Issue date of the oldest unpaid document, or day of an opening balance"),
        Column("status", pl.String, "settled, owing or in_credit"),
        Column("opening", MONEY, "Opening balances: what it owed when it moved in, below 0 what it had in credit"),
        Column("credits_applied", MONEY, "What prepaid credits paid of invoices and debit notes"),
        Column("credits_returned", MONEY, "What credit notes gave back to prepaid credits"),
    ),
    ("account_id", "currency"),
)

ALLOCATIONS = Table(
    "allocations",
    "What pays a document: a part of a payment, of a credit note or of a prepaid credit.",
    (
        Column("source", pl.String, "The payment_id, the number of the credit note, or the grant_id"),
        Column("source_kind", pl.String, "payment, credit or grant"),
        NUMBER,
        ACCOUNT,
        Column("amount", MONEY, "What it pays of the document; negative: what a credit note gives back to a grant"),
        Column("on", pl.Date, "The day of the payment or credit, or of the document where that is later"),
    ),
    ("account_id", "number", "on", "source"),
)

CREDITS = Table(
    "credits",
    "A prepaid credit of an account as of the day: used + left + expired = amount.",
    (
        Column("grant_id", pl.String, "The grant"),
        ACCOUNT,
        Column("amount", MONEY, "What it grants; never less than what was used of it"),
        Column("used", MONEY, "What it paid of documents, less what credit notes gave back"),
        Column("expired", MONEY, "What was left of it when it expired"),
        Column("left", MONEY, "What is left for documents to come; of a purchased one once it is paid"),
        CURRENCY,
        Column("kind", pl.String, "granted or purchased; null where its row is gone"),
        Column("granted_on", pl.Date, "From which billing date on it pays; null where its row is gone"),
        Column("expires_on", pl.Date, "The first day on which it pays nothing any more; null: it never expires"),
    ),
    ("account_id", "grant_id"),
)

COLLECTIONS = Table(
    "collections",
    "What to charge to which card: a row per unpaid document, for a payment provider.",
    (
        ACCOUNT,
        NUMBER,
        CURRENCY,
        Column("amount_due", MONEY, "What is still owed on the document after payments and credits"),
        Column("due_on", pl.Date, "The day by which it is to be paid"),
        Column("days_overdue", pl.Int64, "Days from due_on to the as-of day"),
        Column("age", pl.String, "not_due, 1_to_30, 31_to_60, 61_to_90 or over_90 days"),
        Column("card_brand", pl.String, "Brand of the account's latest card"),
        Column("card_last4", pl.String, "Its last four digits; nothing else of a card is ever stored"),
        Column("attempts_failed", pl.Boolean, "Whether the latest attempt to pay failed; null when there was none"),
        Column("idempotency_key", pl.String, "The same until an attempt to pay has an outcome or the amount moves"),
    ),
    ("account_id", "number"),
)

_PAYMENT_HISTORY = pl.List(
    pl.Struct(
        {
            "number": pl.String,
            "kind": pl.String,
            "date": pl.Date,
            "total": MONEY,
            "status": pl.String,
            "document": pl.String,
        }
    )
)

_ADD_ONS = pl.List(
    pl.Struct({"add_on": pl.String, "quantity": pl.Int64, "next_quantity": pl.Int64, "effective_on": pl.Date})
)

_COUPONS = pl.List(pl.Struct({"coupon": pl.String, "documents_left": pl.Int64}))

PROFILE = Table(
    "profile",
    "The billing profile of an account as of a date.",
    (
        ACCOUNT,
        Column("as_of", pl.Date, "The day at whose end the profile holds"),
        Column("currency", pl.String, "The currency of the account, and of all amounts of the row"),
        Column("package", pl.String, "Package in force"),
        Column("status", pl.String, "active, trial, held, suspended, cancelled, refunded or none"),
        Column("next_billing_date", pl.Date, "Null when held or cancelled"),
        Column("upcoming_amount", MONEY, "Fee decided for the next cycle + overages so far + tax"),
        Column("previous_amount", MONEY, "Total of the last document; null before the first"),
        Column("previous_date", pl.Date, "Its billing date"),
        Column("outstanding", MONEY, "What the account owes"),
        Column("upcoming_credits", MONEY, "What prepaid credits will pay of upcoming_amount"),
        Column("credits_left", MONEY, "What is left of its prepaid credits"),
        Column("credits_expire_on", pl.Date, "The next day on which some of it expires, or null"),
        Column("credits_expiring", MONEY, "What expires on that day; null where nothing does"),
        Column(
            "usage",
            pl.List(
                pl.Struct(
                    {
                        "metric": pl.String,
                        "quantity": QUANTITY,
                        "allowance": QUANTITY,
                        "excess": QUANTITY,
                        "overage_amount": MONEY,
                    }
                )
            ),
            "Every metric so far in the open cycle, in units",
        ),
        Column(
            "pending_change",
            pl.Struct(
                {"from_package": pl.String, "to_package": pl.String, "effective_on": pl.Date, "reason": pl.String}
            ),
            "The package change that will take effect, or null",
        ),
        Column("payment_history", _PAYMENT_HISTORY, "The account's documents in its currency, newest first"),
        Column(
            "add_ons",
            _ADD_ONS,
            "Add-ons held, or asked for: how many, and how many from the next change on (null where none is known)",
        ),
        Column(
            "coupons",
            _COUPONS,
            "Coupons held, and on how many further documents each takes something off (null: for ever)",
        ),
    ),
    ("account_id",),
)

_MAIL = (
    Column("to", pl.String, "The address it went to, or is meant for; null where there is none"),
    Column("sent_at", INSTANT, "When the mail server took it; null when it did not"),
    Column("status", pl.String, "sent, failed, skipped or unknown; null before the first attempt"),
    Column("attempts", pl.Int64, "How often sending was tried"),
    Column("message_id", pl.String, "Message-ID of the mail: the same each time"),
    Column("error", pl.String, "Why it failed, was skipped or is unknown; else null"),
    Column("next_attempt_at", INSTANT, "From when on a run tries again; null where none does"),
)

MAILS = Table(
    "mails",
    "The mail that carries an issued document, if sending it was tried.",
    (NUMBER, ACCOUNT, Column("billing_month", pl.String, "The billing month of the document, YYYY-MM"), *_MAIL),
    ("number",),
)

REMINDERS = Table(
    "reminders",
    "A reminder of an account's overdue documents, and the mail that carries it.",
    (
        ACCOUNT,
        Column("reminder_id", pl.String, "The account, a slash and the day: acme/2026-03-01"),
        Column("level", pl.Int64, "Which of the policy's reminders it is, from 1"),
        Column("on", pl.Date, "As-of day of the run that made it"),
        Column("oldest_document", pl.String, "The oldest overdue document, whose level it is"),
        Column("documents", pl.List(pl.String), "All overdue documents, the oldest first"),
        CURRENCY,
        Column("amount", MONEY, "What is left to pay of these documents, without the fee"),
        Column("fee", MONEY, "What the reminder costs, else 0"),
        Column("file", pl.String, "Its PDF, below the home"),
        *_MAIL,
    ),
    ("on", "account_id"),
)

JOURNAL = Table(
    "journal",
    "A posting for accounting. The postings of an entry balance: what they debit is what they credit.",
    (
        Column("billing_month", pl.String, "The calendar month of posted_on: the month of the books, YYYY-MM"),
        Column("posted_on", pl.Date, "Day of issue, payment, grant or expiry; the last day of the month for a release"),
        Column(
            "kind",
            pl.String,
            "document, release (of a fee that was deferred), payment, opening_balance, credits_granted or "
            "credits_expired",
        ),
        Column(
            "entry",
            pl.String,
            "The document's number, the payment_id, the grant_id, or an opening balance's account and reference",
        ),
        Column(
            "ledger_account",
            pl.String,
            "receivable, cash, deferred_revenue, revenue, credits (given back: less revenue), tax, opening_balances, "
            "prepaid_credits (owed to customers), credits_granted or credits_expired",
        ),
        ACCOUNT,
        Column("number", pl.String, "The document that it concerns"),
        CURRENCY,
        Column("debit", MONEY, "What the ledger account is debited, else 0"),
        Column("credit", MONEY, "What it is credited, else 0"),
    ),
    ("posted_on", "kind", "entry", "ledger_account"),
)
