"""What an oracle of the billing rules holds: usage, subscriptions, answers, lines and documents, and its arithmetic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo

Json = dict[str, Any]
Day = date
UTC: Final = ZoneInfo("UTC")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
ONE_DAY: Final = timedelta(1)
Span = tuple[int, int]  # half-open, in microseconds since the epoch
FOR_EVER: Final = 10**18
Key = tuple[date, str, str | None, str | None]
IN_ADVANCE: Final = ("package_fee", "proration", "seats", "add_on")


@dataclass(frozen=True)
class Usage:
    """A delivered row, as far as billing reads it."""

    delivery_day: date
    file: str
    row: int
    source: str
    id: str
    metric: str
    account_id: str
    at: int
    value: str
    dimensions: tuple[tuple[str, str], ...] = ()


@dataclass
class Subscription:
    """One purchase: everything that its requests made of it."""

    account_id: str
    started: date
    grid_start: date
    yearly: bool
    package: str | None
    resumed_from: "Subscription | None"
    access_from: date
    access_last: date | None = None
    no_fee_from: date | None = None
    no_hold_fee_from: date | None = None
    paid_until: date | None = None
    held_on: date | None = None
    ended_on: date | None = None
    end: str = ""
    last_date: date | None = None
    pauses: list[tuple[date, date]] = field(default_factory=list)
    holds: list[date] = field(default_factory=list)

    @property
    def id(self) -> str:
        """As the rules name it."""
        return f"{self.account_id}/{self.started}"


@dataclass
class Answer:
    """The answer to a request, or an automatic upgrade."""

    request: str | None
    subscription: str | None
    kind: str
    outcome: str
    reason: str
    package: str | None
    asked_on: date
    asked_at: int
    effective: date | None
    from_package: str | None = None
    decided_on: date | None = None
    evidence: tuple[tuple[str, Decimal | None, Decimal | None], ...] = ()
    offer: str | None = None
    quantity: int = 0
    given: Mapping[str, int] = field(default_factory=dict)
    at_once: bool = False

    def shown(self) -> tuple[object, ...]:
        """What is compared."""
        return (
            self.decided_on or self.asked_on,
            self.kind,
            self.request or "",
            self.subscription,
            self.outcome,
            self.reason,
            self.from_package,
            self.package,
            self.effective,
            self.evidence,
            self.offer if self.kind in ("redeem", "revoke", "add", "remove") else None,
        )


@dataclass(frozen=True)
class Line:
    """A line, with what fell due when (rule 20 compares by it)."""

    kind: str
    metric: str | None
    package: str | None
    cycle_start: date | None
    cycle_end: date | None
    quantity: Fraction | None
    amount: Decimal
    due_on: date
    due_kind: str
    item: str | None = None
    add_on: str | None = None
    charge_id: str | None = None
    rule: str | None = None
    coupon: str | None = None
    may_be_lowered: bool = True
    gives_back: "Document | None" = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> Key:
        """What is compared (rule 20)."""
        return self.due_on, self.due_kind, self.metric, self.item

    @property
    def lowered_kind(self) -> str:
        """What is lowered, of a coupon; else its own kind."""
        return self.item.split("/")[1] if self.coupon and self.item else self.due_kind


@dataclass
class Document:
    """An issued document; `number` is learnt from the register once both sides agree."""

    account_id: str
    subscription: str
    billing_date: date
    kind: str
    issued_on: date
    lines: list[Line]
    taxes: list[tuple[str, str | None, Decimal, Decimal, Decimal, str]]
    corrects: "Document | None" = None
    number: str = ""
    credits_applied: Decimal = Decimal(0)

    @property
    def net(self) -> Decimal:
        """Sum of the lines."""
        return sum((line.amount for line in self.lines), Decimal(0))

    @property
    def due(self) -> Decimal:
        """What is asked for, or given back in money."""
        return self.total - self.credits_applied

    @property
    def is_prepayment(self) -> bool:
        """Whether it bills a purchased grant."""
        return self.subscription.endswith("/prepayment")

    @property
    def total(self) -> Decimal:
        """Net and taxes."""
        return self.net + sum((tax[4] for tax in self.taxes), Decimal(0))


@dataclass
class Closed:
    """A billing date that has been closed: its packages stand (rule 9)."""

    closing: str | None
    opening: str | None
    changed: str | None
    waiting: str | None
    held: dict[str, int]
    lower: dict[str, tuple[int, date]]


@dataclass
class Cycle:
    """A billing date of a subscription, with what was decided there."""

    k: int
    date: date
    closing: str | None
    opening: str | None
    changed: str | None
    waiting: str | None
    status: str
    is_last: bool
    usage: dict[str, Fraction]
    held_before: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    lower: "dict[str, tuple[int, Day]]" = field(default_factory=dict)
    counters: dict[str, list[Usage]] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    upgrades: list[Answer] = field(default_factory=list)

    @property
    def package(self) -> str | None:
        """In force in the cycle that starts, after its upgrades at once."""
        return self.upgrades[-1].package if self.upgrades else self.opening


@dataclass(frozen=True)
class Terms:
    """What a package costs and includes for one account on a day; monthly is None where it is not sold to it."""

    monthly: Decimal | None
    yearly: Decimal | None
    allowances: Mapping[str, Fraction | None]
    overage: Mapping[str, Any]
    triggers: Sequence[str]
    seats: Json | None
    minimum: Json | None


def rule_name(rule: Json) -> str:
    """As lines know a rule of a tariff by dimension."""
    if "name" in rule:
        return str(rule["name"])
    listed = ((key, value if isinstance(value, list) else [value]) for key, value in rule["when"].items())
    return ",".join(f"{key}={'|'.join(values)}" for key, values in listed)


def micros(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 time."""
    return (datetime.fromisoformat(text).astimezone(UTC) - EPOCH) // timedelta(microseconds=1)


def sooner(one: date | None, other: date) -> date:
    return other if one is None else min(one, other)


def half_up(amount: Fraction, smallest: Decimal) -> Decimal:
    """Half away from zero, to a multiple of the smallest amount."""
    steps = abs(amount) / Fraction(smallest)
    whole = steps.numerator // steps.denominator
    if steps - whole >= Fraction(1, 2):
        whole += 1
    return (whole if amount >= 0 else -whole) * smallest


def shown(quantity: Fraction | None) -> Decimal | None:
    """A quantity as the tables have it; none where it is unlimited."""
    if quantity is None:
        return None
    return (Decimal(quantity.numerator) / Decimal(quantity.denominator)).quantize(Decimal("1e-9"), ROUND_HALF_UP)


def tiered(model: str, tiers: Sequence[Json], excess: Fraction) -> Fraction:
    """Graduated, volume or stairstep, before rounding."""
    amount, below = Fraction(0), Fraction(0)
    for tier in tiers:
        top = None if tier["up_to"] is None else Fraction(tier["up_to"])
        reached = top is None or excess <= top
        flat, price = Fraction(tier.get("flat", "0")), Fraction(tier.get("unit_price", "0"))
        if model == "graduated":
            amount += flat + ((excess if reached else top) - below) * price  # type: ignore[operator] # reached or bounded
        elif reached:
            return flat + excess * price
        if reached:
            return amount
        assert top is not None
        below = top
    raise AssertionError("the last tier is open")
