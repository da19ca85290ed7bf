"""Codes of the tables: kinds, outcomes, reasons and statuses. A misspelt code is a type error.

The members are strings: they equal the values of the columns. Polars infers an Enum column from a list of members, so
give the type there: `pl.Series([member], dtype=pl.String)`.
"""

from enum import StrEnum
from typing import Final


class DocumentKind(StrEnum):
    """`kind` of DOCUMENTS and DRAFTS."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"
    DEBIT_NOTE = "debit_note"


class NoteReason(StrEnum):
    """Why there is a note, in a document's content; finance's own words of a correction stand beside it."""

    REFUND_WINDOW = "refund_window"
    CORRECTION = "correction"


class DocumentStatus(StrEnum):
    """`status` of DOCUMENTS (rule 16)."""

    OPEN = "open"
    PAID = "paid"
    CREDITED = "credited"
    REFUNDED = "refunded"


class LineKind(StrEnum):
    """`kind` of LINES, DRAFT_LINES and DUES, and their `due_kind`."""

    PACKAGE_FEE = "package_fee"
    HOLD_FEE = "hold_fee"
    PRORATION = "proration"
    SEATS = "seats"
    ADD_ON = "add_on"
    OVERAGE = "overage"
    CHARGE = "charge"
    PREPAYMENT = "prepayment"
    MINIMUM_SPEND = "minimum_spend"
    COUPON = "coupon"
    PRIOR_CYCLE = "prior_cycle"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"


FEES: Final = (LineKind.PACKAGE_FEE, LineKind.HOLD_FEE)
SCHEDULED: Final = (
    LineKind.PACKAGE_FEE,
    LineKind.PRORATION,
    LineKind.HOLD_FEE,
    LineKind.SEATS,
    LineKind.ADD_ON,
    LineKind.OVERAGE,
    LineKind.CHARGE,
    LineKind.PREPAYMENT,
    LineKind.MINIMUM_SPEND,
    LineKind.COUPON,
)
"""Lines due on a billing date: `kind` of DUES."""
SETTLEMENTS: Final = (LineKind.PRIOR_CYCLE, LineKind.ADJUSTMENT, LineKind.REFUND)
"""Lines that settle an earlier document."""


class TaxReason(StrEnum):
    """`reason` of TAXES and DRAFT_TAXES (rule 24)."""

    CHARGED = "charged"
    EXEMPT = "exempt"
    REVERSE_CHARGE = "reverse_charge"


class TaxCategory(StrEnum):
    """`category` of TAXES, DRAFT_TAXES and the tax table (UNCL 5305, of EN 16931)."""

    STANDARD = "S"
    ZERO = "Z"
    EXEMPT = "E"
    REVERSE_CHARGE = "AE"
    INTRA_COMMUNITY = "K"
    EXPORT = "G"
    OUTSIDE = "O"
    CANARY_ISLANDS = "L"
    CEUTA_AND_MELILLA = "M"


UNTAXED: Final = (
    TaxCategory.ZERO,
    TaxCategory.EXEMPT,
    TaxCategory.REVERSE_CHARGE,
    TaxCategory.INTRA_COMMUNITY,
    TaxCategory.EXPORT,
    TaxCategory.OUTSIDE,
)
"""Categories of rate 0."""


class Term(StrEnum):
    """`term` of CYCLES and of requests: how often the package fee is due (rule 18)."""

    MONTHLY = "monthly"
    YEARLY = "yearly"


class Channel(StrEnum):
    """`channel` of requests."""

    SELF_SERVICE = "self_service"
    SUPPORT = "support"
    EMAIL = "email"


class DecisionKind(StrEnum):
    """`kind` of requests and DECISIONS, and `change_reason` of PACKAGES."""

    AUTO_UPGRADE = "auto_upgrade"
    SUBSCRIBE = "subscribe"
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    CANCEL = "cancel"
    HOLD = "hold"
    RESUME = "resume"
    REFUND = "refund"
    CHANGE_CARD = "change_card"
    TRANSFER = "transfer"
    SPLIT_PAYMENT = "split_payment"
    WITHDRAW = "withdraw"
    REDEEM = "redeem"
    REVOKE = "revoke"
    ADD = "add"
    REMOVE = "remove"


REQUEST_KINDS: Final = tuple(kind for kind in DecisionKind if kind is not DecisionKind.AUTO_UPGRADE)
"""Kinds of requests."""
REQUESTED_CHANGES: Final = (DecisionKind.UPGRADE, DecisionKind.DOWNGRADE)
ADD_ON_CHANGES: Final = (DecisionKind.ADD, DecisionKind.REMOVE)
WAITS_FOR_CLOSE: Final = (*REQUESTED_CHANGES, *ADD_ON_CHANGES)
"""Kinds of requests that are answered when their cycle closes."""
COUPON_REQUESTS: Final = (DecisionKind.REDEEM, DecisionKind.REVOKE)
UPGRADES: Final = (DecisionKind.AUTO_UPGRADE, DecisionKind.UPGRADE)
PACKAGE_CHANGES: Final = (DecisionKind.AUTO_UPGRADE, *REQUESTED_CHANGES)
"""Kinds of decisions that change the package at a billing date."""


class Outcome(StrEnum):
    """`outcome` of DECISIONS. A package change is PENDING until its cycle closes, and not in the table until then."""

    APPROVED = "approved"
    REFUSED = "refused"
    SUPERSEDED = "superseded"
    PENDING = "pending"


class DecisionReason(StrEnum):
    """`reason` of DECISIONS; `billing.rules.decisions` has the explanation of each (rule 17)."""

    PENDING = "pending"
    # Approved package changes.
    USAGE_OVER_ALLOWANCE = "usage_over_allowance"
    REQUESTED = "requested"
    USAGE_FITS = "usage_fits"
    # Package changes that are refused or superseded.
    NO_LARGER_PACKAGE = "no_larger_package"
    SATISFIED_BY_HIGHER = "satisfied_by_higher"
    SUPERSEDED_BY_LATER_REQUEST = "superseded_by_later_request"
    UNKNOWN_PACKAGE = "unknown_package"
    PACKAGE_NOT_SOLD_YET = "package_not_sold_yet"
    NOT_SOLD_IN_CURRENCY = "not_sold_in_currency"
    PACKAGE_HIDDEN = "package_hidden"
    NO_YEARLY_PRICE = "no_yearly_price"
    NOT_AN_UPGRADE = "not_an_upgrade"
    NOT_A_DOWNGRADE = "not_a_downgrade"
    AUTOMATIC_UPGRADE = "automatic_upgrade"
    USAGE_EXCEEDS_PACKAGE = "usage_exceeds_package"
    KNOWN_AFTER_THE_CLOSE = "known_after_the_close"
    VOIDED_BY_CANCELLATION = "voided_by_cancellation"
    VOIDED_BY_HOLD = "voided_by_hold"
    VOIDED_BY_REFUND = "voided_by_refund"
    # Withdrawn requests.
    TAKEN_BACK = "taken_back"
    WITHDRAWN = "withdrawn"
    UNKNOWN_REQUEST = "unknown_request"
    ALREADY_WITHDRAWN = "already_withdrawn"
    # Subscriptions.
    SUBSCRIBED = "subscribed"
    ALREADY_SUBSCRIBED = "already_subscribed"
    BEFORE_BILLING_START = "before_billing_start"
    YEARLY_NOT_OFFERED = "yearly_not_offered"
    NO_LIVE_SUBSCRIPTION = "no_live_subscription"
    NO_SUBSCRIPTION = "no_subscription"
    WRONG_CHANNEL = "wrong_channel"
    BEFORE_MOVE = "before_move"
    # Cancellations and holds.
    IN_TIME = "in_time"
    LATE_NOTICE = "late_notice"
    CANCELLED_IN_TRIAL = "cancelled_in_trial"
    ALREADY_ENDED = "already_ended"
    ON_HOLD = "on_hold"
    ALREADY_HELD = "already_held"
    NOT_HELD = "not_held"
    HOLD_UNDONE = "hold_undone"
    NEW_SUBSCRIPTION = "new_subscription"
    # Refunds.
    WITHIN_REFUND_WINDOW = "within_refund_window"
    ALREADY_REFUNDED = "already_refunded"
    YEARLY_TERM = "yearly_term"
    NOTHING_PAID = "nothing_paid"
    NO_REFUND_WINDOW = "no_refund_window"
    NOT_FIRST_CYCLE = "not_first_cycle"
    REFUND_WINDOW_OVER = "refund_window_over"
    BILLED_ELSEWHERE = "billed_elsewhere"
    # Coupons.
    REDEEMED = "redeemed"
    REVOKED = "revoked"
    UNKNOWN_COUPON = "unknown_coupon"
    COUPON_EXPIRED = "coupon_expired"
    ALREADY_REDEEMED = "already_redeemed"
    NOT_FOR_THIS_PACKAGE = "not_for_this_package"
    COUPON_EXHAUSTED = "coupon_exhausted"
    NOT_REDEEMED = "not_redeemed"
    # Add-ons.
    UNKNOWN_ADD_ON = "unknown_add_on"
    ADD_ON_NOT_SOLD_YET = "add_on_not_sold_yet"
    NOT_ALLOWED_BY_PACKAGE = "not_allowed_by_package"
    ABOVE_MAXIMUM = "above_maximum"
    NOT_ADDED = "not_added"
    # Cards and owners.
    CARD_CHANGED = "card_changed"
    CARD_BRAND_NOT_ACCEPTED = "card_brand_not_accepted"
    CARD_DIGITS_MISSING = "card_digits_missing"
    OWNERSHIP_TRANSFER_NOT_OFFERED = "ownership_transfer_not_offered"
    SPLIT_PAYMENT_NOT_OFFERED = "split_payment_not_offered"


class DecisionFlag(StrEnum):
    """An entry of `flags` of DECISIONS."""

    EXCEEDS_CATALOGUE = "exceeds_catalogue"
    VOIDS_WAITING_DOWNGRADE = "voids_waiting_downgrade"


class SubscriptionStatus(StrEnum):
    """`status` of CYCLES, PACKAGES and PROFILE; the last three are of a profile only."""

    ACTIVE = "active"
    HELD = "held"
    SUSPENDED = "suspended"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"
    TRIAL = "trial"
    NONE = "none"
    PARKED = "parked"


class FeeReason(StrEnum):
    """`fee_reason` of CYCLES: why the package fee is due or not."""

    DUE = "due"
    TERM = "term"
    CANCELLED = "cancelled"
    HELD = "held"
    REFUNDED = "refunded"
    SUSPENDED = "suspended"
    ENDED = "ended"


class ParkedReason(StrEnum):
    """`reason` of PARKED (rule 28)."""

    ACCOUNT_MISSING = "account_missing"
    ACCOUNT_SET_ASIDE = "account_set_aside"
    REQUEST_MISSING = "request_missing"
    CONTRADICTION = "contradiction"
    QUANTITY_OUT_OF_RANGE = "quantity_out_of_range"
    MISSING_FOR_FORMAT = "missing_for_format"
    MISSING_TAX_RATE = "missing_tax_rate"
    CURRENCY_CHANGED = "currency_changed"
    # Refusals of the first subscription.
    UNKNOWN_PACKAGE = DecisionReason.UNKNOWN_PACKAGE.value
    PACKAGE_NOT_SOLD_YET = DecisionReason.PACKAGE_NOT_SOLD_YET.value
    NOT_SOLD_IN_CURRENCY = DecisionReason.NOT_SOLD_IN_CURRENCY.value
    BEFORE_BILLING_START = DecisionReason.BEFORE_BILLING_START.value


class RejectReason(StrEnum):
    """`reason` of REJECTS (rules 22 and 27)."""

    UNREADABLE_FILE = "unreadable_file"
    TOO_MANY_SET_ASIDE = "too_many_set_aside"
    UNFINISHED_LINE = "unfinished_line"
    UNPARSEABLE = "unparseable"
    MISSING_FIELD = "missing_field"
    IMPOSSIBLE_VALUE = "impossible_value"
    TIME_WITHOUT_ZONE = "time_without_zone"
    INVALID_TIME = "invalid_time"
    UNKNOWN_ACCOUNT = "unknown_account"
    UNKNOWN_TYPE = "unknown_type"
    FUTURE_DATED = "future_dated"
    TOO_LATE = "too_late"
    CONFLICTING = "conflicting"
    CARD_NUMBER = "card_number"
    UNKNOWN_DOCUMENT = "unknown_document"
    TOO_LONG = "too_long"


class UnbilledReason(StrEnum):
    """`reason` of UNBILLED."""

    NO_SUBSCRIPTION = "no_subscription"
    BEFORE_START = "before_start"
    TRIAL = "trial"
    BILLED_ELSEWHERE = "billed_elsewhere"
    ACCESS_ENDED = "access_ended"
    HELD = "held"
    SUSPENDED = "suspended"
    PARKED = "parked"


class WhySettled(StrEnum):
    """Why an earlier cycle is settled, in a document's content (rules 20 and 23)."""

    NO_BILLING_DATE = "no_billing_date"
    NO_FEE = "no_fee"
    NO_FEE_TERM = "no_fee_term"
    NO_FEE_CANCELLED = "no_fee_cancelled"
    NO_FEE_HELD = "no_fee_held"
    NO_FEE_REFUNDED = "no_fee_refunded"
    NO_FEE_SUSPENDED = "no_fee_suspended"
    NO_HOLD_FEE = "no_hold_fee"
    NOT_BILLED_WHEN_DUE = "not_billed_when_due"
    DUE_AFTER_ALL = "due_after_all"
    SAME_FEE_OTHER_PRICE = "same_fee_other_price"
    ANOTHER_FEE = "another_fee"
    METRIC_REMOVED = "metric_removed"
    NO_CYCLE = "no_cycle"
    COST_NOTHING_BEFORE = "cost_nothing_before"
    MORE_USAGE = "more_usage"
    LESS_USAGE = "less_usage"
    SAME_USAGE = "same_usage"


class PaymentStatus(StrEnum):
    """`status` of payments (rule 16)."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUNDED = "refunded"
    DISPUTED = "disputed"


ATTEMPTS: Final = (PaymentStatus.SUCCEEDED, PaymentStatus.FAILED)
"""Outcomes of an attempt to pay."""
RETURNED: Final = (PaymentStatus.REFUNDED, PaymentStatus.DISPUTED)
"""Statuses of returned payments."""


class GrantKind(StrEnum):
    """`kind` of credit grants (rule 33): a purchased one is paid for."""

    GRANTED = "granted"
    PURCHASED = "purchased"


class BalanceStatus(StrEnum):
    """`status` of BALANCES."""

    SETTLED = "settled"
    OWING = "owing"
    IN_CREDIT = "in_credit"


class Age(StrEnum):
    """`age` of COLLECTIONS, in days."""

    NOT_DUE = "not_due"
    UP_TO_30 = "1_to_30"
    UP_TO_60 = "31_to_60"
    UP_TO_90 = "61_to_90"
    OVER_90 = "over_90"


class MailStatus(StrEnum):
    """`status` of MAILS and REMINDERS (rule 41)."""

    SENT = "sent"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"


class MailOutcome(StrEnum):
    """How an attempt to send a mail ended; `deferred` is tried again by a later run."""

    SENT = "sent"
    REFUSED = "refused"
    DEFERRED = "deferred"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"


class MailKind(StrEnum):
    """What a mail carries."""

    DOCUMENT = "document"
    REMINDER = "reminder"


class MovementKind(StrEnum):
    """`kind` of a movement of an account's statement."""

    INVOICE = "invoice"
    DEBIT_NOTE = "debit_note"
    CREDIT_NOTE = "credit_note"
    OPENING_BALANCE = "opening_balance"
    PAYMENT = "payment"
    REFUND = "refund"
    DISPUTE = "dispute"


class AllocationSource(StrEnum):
    """`source_kind` of ALLOCATIONS."""

    PAYMENT = "payment"
    CREDIT = "credit"
    GRANT = "grant"


class PostingKind(StrEnum):
    """`kind` of JOURNAL."""

    DOCUMENT = "document"
    RELEASE = "release"
    PAYMENT = "payment"
    OPENING_BALANCE = "opening_balance"
    CREDITS_GRANTED = "credits_granted"
    CREDITS_EXPIRED = "credits_expired"


class LedgerAccount(StrEnum):
    """`ledger_account` of JOURNAL."""

    RECEIVABLE = "receivable"
    CASH = "cash"
    DEFERRED_REVENUE = "deferred_revenue"
    REVENUE = "revenue"
    CREDITS = "credits"
    TAX = "tax"
    OPENING_BALANCES = "opening_balances"
    PREPAID_CREDITS = "prepaid_credits"
    CREDITS_GRANTED = "credits_granted"
    CREDITS_EXPIRED = "credits_expired"


class ForecastMethod(StrEnum):
    """`method` of a forecast's usage; of equal errors the first is chosen."""

    MEAN = "mean"
    TREND = "trend"
    SAME_MONTH_LAST_YEAR = "same_month_last_year"


class ForecastBasis(StrEnum):
    """`basis` of a forecast: what the usage of an account is foreseen from."""

    MEASURED = "measured"
    HISTORY = "history"
    RUNNING_CYCLE = "running_cycle"
    NO_HISTORY = "no_history"
