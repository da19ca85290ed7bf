"""A synthetic business in which everything happens at random: what others would write into its landing folder.

Everything is drawn from one seed, so that a failure replays from it. Nothing of the product is used here.
"""

import csv
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import yaml

from tests.life_story.currencies import add_second_currency
from tests.life_story.offers import (
    CURRENCIES,
    MODELS,
    TOKEN_KINDS,
    add_offers,
    charges_file,
    charges_of,
    complete,
    features_of,
    grants_of,
    likely_kinds,
    rows_file,
)
from tests.sizes import sized

FIRST_DAY: Final = date(2024, 1, 1)
PACKAGES: Final = ("small", "medium", "large")
DAYS_OF_A_DELIVERY: Final = sized(usual=15, long=5)
"""Logs are delivered every so many days."""
# tax id, country of the customer, and the country it belongs to where it is valid in form and checksum
TAX_IDS: Final = (
    ("", "", None),
    ("DE136695976", "DE", "DE"),
    ("DE136695977", "DE", None),
    ("FR40303265045", "FR", "FR"),
    ("FR41303265045", "FR", None),
    ("NL004495445B01", "NL", "NL"),
)
Json = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A row of a delivered usage file; `value` is a number, or the member a `unique` metric tells apart."""

    source: str
    id: str
    type: str
    account_id: str
    at: datetime
    value: str
    dimensions: tuple[tuple[str, str], ...] = ()


@dataclass
class Story:
    """One business, and what happens to it day by day.

    Attributes
    ----------
    requests, deliveries
        What is written on which day; a delivery that comes again for the same day and file name replaces the first.
    """

    seed: int
    catalogue: Json
    accounts: list[dict[str, str]]
    tax_rates: list[dict[str, str]]
    requests: list[tuple[date, Json]]
    deliveries: list[tuple[date, tuple[date, str], list[Row]]]
    days: list[date]
    rng: random.Random
    payments: list[Json] = field(default_factory=list)
    charges: list[tuple[date, Json]] = field(default_factory=list)
    grants: list[tuple[date, Json]] = field(default_factory=list)

    @property
    def zone(self) -> ZoneInfo:
        """The billing time zone."""
        return ZoneInfo(self.catalogue["time_zone"])

    def currency_of(self, account_id: str) -> str:
        """In which an account is billed."""
        own = next(each for each in self.accounts if each["account_id"] == account_id).get("currency")
        return own or str(self.catalogue["currency"])

    def requests_given(self, day: date) -> list[Json]:
        """What the file of requests holds at the end of a day."""
        return [request for written, request in self.requests if written <= day]

    def charges_given(self, day: date) -> list[Json]:
        """What the file of one-off charges holds at the end of a day."""
        return [charge for written, charge in self.charges if written <= day]

    def grants_given(self, day: date) -> list[Json]:
        """What the file of prepaid credits holds at the end of a day."""
        return [grant for written, grant in self.grants if written <= day]

    def files_given(self, day: date) -> dict[tuple[date, str], list[Row]]:
        """What the delivered files hold at the end of a day."""
        files: dict[tuple[date, str], list[Row]] = {}
        for written, name, rows in self.deliveries:
            if written <= day:
                files[name] = rows
        return files

    def write(self, landing: Path, previous: date | None, day: date) -> None:
        """Write what others would have written by the end of `day`, and had not by that of `previous`."""
        landing.mkdir(parents=True, exist_ok=True)
        if previous is None:
            (landing / "catalogue.yaml").write_text(yaml.safe_dump(self.catalogue, sort_keys=False))
            for name, rows in (("accounts.csv", self.accounts), ("tax_rates.csv", self.tax_rates)):
                (landing / name).write_text(_csv(rows))
        for name, lines in (("requests.jsonl", self.requests_given(day)), ("payments.jsonl", self.payments)):
            (landing / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        if self.charges:
            (landing / "one_off_charges.csv").write_text(charges_file(self.charges_given(day)))
        if self.grants_given(day):
            (landing / "credit_grants.csv").write_text(rows_file(self.grants_given(day)))
        for written, (delivery_day, file), content in self.deliveries:
            if (previous is None or written > previous) and written <= day:
                path = landing / "usage" / delivery_day.isoformat() / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(_usage_file(file, content))

    def pay(
        self, previous: date, day: date, unpaid: Sequence[tuple[str, str, Decimal]], settled: Sequence[str]
    ) -> None:
        """Draw payments of documents (number, account_id, total) that were issued before, made in `(previous, day]`."""
        for number, account_id, total in unpaid:
            if total <= 0 or self.rng.random() < 0.25:
                continue
            at = _instant(self.rng, _between(self.rng, previous + timedelta(1), day), self.zone)
            statuses = ["succeeded"]
            if self.rng.random() < 0.22:
                statuses = self.rng.choice([["failed"], ["failed", "succeeded"], ["failed", "failed"]])
            for status in statuses:
                self._pay(number, account_id, at, total, status)
                at += timedelta(seconds=self.rng.choice([0, 1, 3600, 90_000, 400_000]))
        for number in settled:
            first = next(p for p in self.payments if p["document"] == number and p["status"] == "succeeded")
            if self.rng.random() < 0.03:
                at = _instant(self.rng, _between(self.rng, previous + timedelta(1), day), self.zone)
                paid = Decimal(first["amount"])
                back = paid if self.rng.random() < 0.5 else Decimal(int(paid / 2))
                if back > 0:
                    self._pay(number, first["account_id"], at, back, self.rng.choice(["refunded", "disputed"]))

    def _pay(self, number: str, account_id: str, at: datetime, amount: Decimal, status: str) -> None:
        self.payments.append(
            {
                "payment_id": f"pay-{len(self.payments):05d}",
                "account_id": account_id,
                "document": number,
                "at": at.isoformat(),
                "amount": str(amount),
                "currency": self.currency_of(account_id),
                "status": status,
            }
        )


def story(seed: int, accounts: int, months: int = 24, features: frozenset[str] | None = frozenset()) -> Story:
    """The business that a seed makes; with `features` as None, of what it sells beside packages, too."""
    rng = random.Random(seed)  # noqa: S311 # a story, not a secret
    catalogue = _catalogue(rng, accounts)
    # Drawn apart: a story in two currencies is that of one, in two.
    apart = random.Random(f"currencies of {seed}")  # noqa: S311 # a story, not a secret
    if features is None:
        features = features_of(rng) | ({CURRENCIES} if apart.random() < 0.7 else set())

    def money(text: str) -> str:
        return _money(text, catalogue["currency"])

    add_offers(rng, catalogue, features, money)
    zone = ZoneInfo(catalogue["time_zone"])
    last_day = _add_months(FIRST_DAY, months) - timedelta(1)
    names = [f"account-{number:03d}" for number in range(accounts)]
    requests: list[tuple[date, Json]] = []
    deliveries: list[tuple[date, tuple[date, str], list[Row]]] = []
    files: dict[tuple[date, str], list[Row]] = {}
    charges: list[tuple[date, Json]] = []
    grants: list[tuple[date, Json]] = []
    for name in names:
        start = _between(rng, FIRST_DAY, _add_months(FIRST_DAY, max(months - 4, 1)))
        if rng.random() < 0.25:
            start = start.replace(day=28) + timedelta(rng.choice([0, 1, 2, 3]))
        requests += _requests(rng, name, start, last_day, catalogue, features)
        if "charges" in features:
            charges += charges_of(rng, name, start, last_day, money)
        if "credits" in features:
            grants += grants_of(rng, name, start, last_day, money)
        for delivered, row in _usage(rng, name, start, last_day, catalogue, zone):
            file = "events.csv" if rng.random() < 0.3 else f"{rng.choice('ab')}.jsonl"
            files.setdefault((delivered, file), []).append(row)
    for key, rows in sorted(files.items()):
        deliveries.append((key[0], key, rows))
        if rng.random() < 0.01:
            kept = [] if rng.random() < 0.5 else [row for row in rows if rng.random() < 0.7]
            deliveries.append((key[0] + timedelta(rng.randint(1, 70)), key, kept))
    days = []
    for month in range(months):
        first, next_first = _add_months(FIRST_DAY, month), _add_months(FIRST_DAY, month + 1)
        for _ in range(rng.choice([0, 1, 1, 1, 1, 2])):
            days.append(_between(rng, first, next_first - timedelta(1)))
    about = [_account(rng, name) for name in names]
    if CURRENCIES in features:
        add_second_currency(apart, catalogue, about, requests, charges, grants)
    return Story(
        seed=seed,
        catalogue=catalogue,
        accounts=about,
        tax_rates=_TAX_RATES,
        requests=sorted(requests, key=lambda written: (written[0], written[1]["request_id"])),
        deliveries=sorted(deliveries, key=lambda written: written[:2]),
        days=sorted(set(days)),
        rng=rng,
        charges=sorted(charges, key=lambda written: (written[0], written[1]["charge_id"])),
        grants=sorted(grants, key=lambda written: (written[0], written[1]["grant_id"])),
    )


_TAX_RATES: Final = [
    {"country": country, "region": region, "rate": rate, "name": name, "effective_from": since}
    for country, region, rate, name, since in (
        ("DE", "", "0.19", "VAT", "2023-01-01"),
        ("DE", "", "0.16", "VAT", "2024-07-01"),
        ("FR", "", "0.20", "VAT", "2023-01-01"),
        ("NL", "", "0.21", "VAT", "2024-05-15"),
        ("US", "", "0.01", "Federal", "2023-01-01"),
        ("US", "NY", "0.04", "State", "2023-01-01"),
        ("US", "NY", "0.0425", "State", "2025-02-10"),
        ("US", "NY", "0.02", "Federal", "2024-09-01"),
        ("US", "CA", "0.0725", "State", "2023-01-01"),
    )
]


def _catalogue(rng: random.Random, accounts: int) -> Json:
    currency = rng.choice(["USD", "USD", "JPY", "KWD"])

    def money(text: str) -> str:
        return _money(text, currency)

    first_of_month = rng.random() < 0.3
    policy: Json = {
        "billing_anchor": "first_of_month" if first_of_month else "signup_day",
        "cancellation_notice_days": rng.choice([10, 10, 5, 0, 14]),
        "access_after_cancellation": rng.choice(["ends_at_once", "end_of_paid_cycle"]),
        "charge_while_suspended": rng.random() < 0.3,
        "hold_fee": rng.choice(["0", "0", money("5")]),
        "issue_after_days": rng.choice([0, 0, 3]),
        "lateness_days": rng.choice([90, 90, 30]),
    }
    if first_of_month:
        policy["first_cycle"] = rng.choice(["prorated", "full"])

    def version(since: str, rank: int, factor: Decimal, yearly: bool) -> Json:
        price = {"monthly": money(str((Decimal("31.00") * rank * factor).quantize(Decimal(1))))}
        if yearly and not first_of_month:
            price["yearly"] = money(str((Decimal("301.00") * rank * factor).quantize(Decimal(1))))
        size = {1: 1, 2: 3, 3: 8}[rank]
        graduated = [
            {"up_to": 500, "unit_price": money("0.0101"), "flat": "0"},
            {"up_to": 2000, "unit_price": money("0.0057"), "flat": money("0.5")},
            {"up_to": None, "unit_price": money("0.0031")},
        ]
        volume = [
            {"up_to": 10, "unit_price": money("0.905")},
            {"up_to": None, "unit_price": money("0.7"), "flat": money("1")},
        ]
        steps = [
            {"up_to": 2, "flat": money("3")},
            {"up_to": 5, "flat": money("7")},
            {"up_to": None, "flat": money("11")},
        ]
        top = rank == 3
        return {
            "effective_from": since,
            "price": price,
            "allowances": {
                "leads": 1000 * size,
                "domains": size,
                "seats": 2 * size,
                "emails": None if top else 2000 * size,
                "calls": 4 * size,
                "visitors": 3 * size,
                "burst": 100 * size,
                "traffic": 5 * size,
            },
            "overage": {
                "leads": {"model": "block", "size": 500, "price": money("2.5")} if top else "none",
                "domains": {"model": "block", "size": 1, "price": money("4"), "maximum": money("9")},
                "seats": {"model": "volume", "tiers": volume},
                "emails": "none" if top else {"model": "graduated", "tiers": graduated, "minimum": money("1.25")},
                "calls": {"model": "stairstep", "tiers": steps},
                "visitors": {"model": "block", "size": 2, "price": money("0.75")},
                "burst": "none",
                "traffic": {"model": "block", "size": 1, "price": money("0.5")},
            },
            "auto_upgrade_on": ["leads", "burst"] if rank == 1 else ["leads"],
        }

    yearly = dict.fromkeys(PACKAGES, True) | {"medium": rng.random() < 0.5}
    packages = []
    for rank, name in enumerate(PACKAGES, start=1):
        versions = [version("2024-01-01", rank, Decimal(1), yearly[name])]
        if rng.random() < 0.7:
            later = _between(rng, date(2024, 3, 1), date(2025, 9, 1)).isoformat()
            changed = version(later, rank, Decimal("1.1"), yearly[name])
            changed["allowances"]["leads"] = changed["allowances"]["leads"] * rng.choice([1, 2])
            changed["allowances"]["domains"] += 1
            versions.append(changed)
        packages.append({"name": name, "rank": rank, "title": name.title(), "versions": versions})
    agreements = [
        {
            "account_id": f"account-{rng.randrange(accounts):03d}",
            "package": name,
            "effective_from": _between(rng, date(2024, 2, 1), date(2025, 6, 1)).isoformat(),
            "price": {"monthly": money("17")},
            "allowances": {"leads": rng.choice([1500, 9000, 20000]), "calls": 5},
            "overage": {"traffic": {"model": "block", "size": 2, "price": money("0.6")}},
        }
        for name in PACKAGES
    ]
    return {
        "currency": currency,
        "time_zone": rng.choice(["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"]),
        "seller": {
            "name": "Example Software",
            "address": ["1 Example Street"],
            "country": rng.choice(["US", "DE"]),
            "support_email": "support@example.com",
            "billing_policy_url": "https://example.com/billing",
        },
        "policy": policy,
        "metrics": {
            "leads": {"event": "leads", "kind": "gauge", "measure": "peak", "value": "data.value", "carries": "delta"},
            "domains": {
                "event": "domains",
                "kind": "gauge",
                "measure": "last",
                "value": "data.value",
                "carries": "delta",
            },
            "seats": {
                "event": "seats",
                "kind": "gauge",
                "measure": "time_weighted",
                "value": "data.value",
                "carries": "level",
            },
            "emails": {"event": "emails", "kind": "counter", "measure": "sum", "value": "data.value"},
            "calls": {"event": "calls", "kind": "counter", "measure": "count"},
            "visitors": {"event": "visitors", "kind": "counter", "measure": "unique", "value": "data.value"},
            "burst": {"event": "burst", "kind": "counter", "measure": "max", "value": "data.value"},
            "traffic": {
                "event": "traffic",
                "kind": "counter",
                "measure": "sum",
                "value": "data.value",
                "unit": "GB",
                "unit_size": 1_000_000_000,
            },
        },
        "packages": packages,
        "agreements": agreements,
    }


def _money(text: str, currency: str) -> str:
    """An amount of dollars, in the magnitude of the currency."""
    return f"{(Decimal(text) * 100).normalize():f}" if currency == "JPY" else text


def _account(rng: random.Random, name: str) -> dict[str, str]:
    tax_id, country, _ = rng.choice(TAX_IDS)
    country = country or rng.choice(["US", "US", "FR", "JP"])
    return {
        "account_id": name,
        "name": name.title(),
        "email": f"{name}@example.com",
        "city": "Springfield",
        "region": rng.choice(["NY", "CA", ""]) if country == "US" else "",
        "country": country,
        "tax_id": tax_id,
        "tax_exempt": "true" if rng.random() < 0.1 else "false",
        "locale": "en_US",
    }


_KINDS: Final = {
    "subscribe": 9,
    "upgrade": 20,
    "downgrade": 16,
    "cancel": 10,
    "hold": 9,
    "resume": 13,
    "refund": 5,
    "change_card": 3,
    "transfer": 1,
    "split_payment": 1,
}


_LATE: Final = ("cancel", "hold", "refund", "change_card", "redeem", "revoke")


def _requests(
    rng: random.Random, account_id: str, start: date, last_day: date, catalogue: Json, features: frozenset[str]
) -> list[tuple[date, Json]]:
    """What one account asks for, and the day on which it is written down: now and then later than it was asked."""
    zone = ZoneInfo(catalogue["time_zone"])
    anchor, day = start.day, start
    found: list[tuple[date, Json]] = []
    kinds = _KINDS | likely_kinds(features)
    previous = ""
    for number in range(rng.randint(1, 16)):
        if number:
            gap = rng.choice([0, 1, 2, 7, 12, 20, 25, 33, 40, 70, 130])
            day = day + timedelta(gap)
            if rng.random() < 0.35:
                # around the billing dates: on them, the day before, and at the limit of the notice
                offset = rng.choice([-11, -10, -9, -1, 0, 1, 31])
                day = min(day, last_day).replace(day=1) + timedelta(anchor - 1 + offset)
        if day > last_day or (found and day < datetime.fromisoformat(found[-1][1]["at"]).astimezone(zone).date()):
            continue
        likely = {"hold": "resume", "cancel": "subscribe", "refund": "subscribe"}.get(previous)
        kind = "subscribe" if not number else rng.choices(list(kinds), list(kinds.values()))[0]
        if likely and rng.random() < 0.5:
            kind = likely
        at = _instant(rng, day, zone)
        if found:
            at = max(at, datetime.fromisoformat(found[-1][1]["at"]) + timedelta(seconds=1))
        if at.astimezone(zone).date() != day or day > last_day:
            continue
        request: Json = {
            "request_id": f"{account_id}-{number:02d}",
            "account_id": account_id,
            "at": at.isoformat(),
            "kind": kind,
            "channel": {"cancel": "email", "subscribe": "self_service", "upgrade": "self_service"}.get(kind, "support"),
        }
        if rng.random() < 0.06:
            request["channel"] = rng.choice(["self_service", "support", "email"])
        if kind in ("subscribe", "upgrade", "downgrade"):
            request["package"] = rng.choice(PACKAGES)
        if kind == "subscribe":
            sells = catalogue["policy"]["billing_anchor"] == "signup_day"
            request["term"] = "yearly" if sells and rng.random() < 0.25 else "monthly"
            if rng.random() < 0.25:
                request["trial_days"] = rng.choice([7, 14, 30, 45])
        if kind == "change_card":
            request |= {"brand": rng.choice(["Visa", "Diners"]), "last4": "4242"}
        complete(rng, request, catalogue)
        found.append((day, request))
        previous = kind
    if len(found) > 1 and found[-1][1]["kind"] in _LATE and rng.random() < 0.4:
        found[-1] = (found[-1][0] + timedelta(rng.randint(1, 75)), found[-1][1])
    return found


def _usage(
    rng: random.Random, account_id: str, start: date, last_day: date, catalogue: Json, zone: ZoneInfo
) -> list[tuple[date, Row]]:
    """What one account uses, and the day of delivery."""
    found: list[tuple[date, Row]] = []
    weight = rng.choice([1, 1, 2, 6])
    values: Mapping[str, Sequence[str]] = {
        "leads": [str(step * weight) for step in (100, 250, 500, 500, -250, -500, 1)],
        "domains": ["1", "1", "-1"],
        "seats": ["0", "1", "2", str(3 * weight), "2.5"],
        "emails": [str(amount * weight) for amount in (500, 250, 1, 499, 1000)],
        "calls": ["1"],
        "visitors": [f"visitor-{number}" for number in range(4 * weight)],
        "burst": [str(50 * weight), "100", "101", "7"],
        "traffic": [str(amount * weight) for amount in (1_000_000_000, 500_000_000, 1, 250_000_000)],
    }
    values = {**values, **_offered(catalogue, weight)}
    day, serial = start - timedelta(rng.choice([0, 0, 40])), 0
    busy = rng.choice([0.3, 0.6, 1.0])
    while day <= last_day:
        for metric, drawn in values.items():
            if rng.random() > busy * 0.35:
                continue
            near = day if rng.random() < 0.8 else day.replace(day=1) + timedelta(start.day - 1)
            at = _instant(rng, min(near, last_day), zone)
            row = Row(
                "app", f"{account_id}-{serial}", metric, account_id, at, rng.choice(drawn), _dimensions(rng, metric)
            )
            serial += 1
            local = at.astimezone(zone).date()
            late = rng.choices([0, rng.randint(1, 5), rng.randint(20, 80), 100], [80, 12, 6, 2])[0]
            # logs are delivered every few days, and now and then at the very limit of the lateness
            delivered = local + timedelta(late)
            delivered += timedelta(-delivered.toordinal() % DAYS_OF_A_DELIVERY)
            if rng.random() < 0.02:
                delivered = local + timedelta(catalogue["policy"]["lateness_days"] + rng.choice([0, 1]))
            found.append((delivered, row))
            if rng.random() < 0.02:
                again = row if rng.random() < 0.5 else replace(row, value=drawn[-1])
                found.append((delivered + timedelta(rng.choice([0, 5, 30])), again))
        day += timedelta(rng.randint(2, 8))
    return found


def _offered(catalogue: Json, weight: int) -> Mapping[str, Sequence[str]]:
    """Values of the metrics of what is sold beside packages."""
    values = {
        "tokens": [str(amount * weight) for amount in (500, 250, 1, 199, 1200)],
        "sales": ["100", "50.00", "19.99", str(7 * weight)],
        "users": ["1", "2", str(2 + weight), str(3 * weight), "0"],
    }
    return {name: drawn for name, drawn in values.items() if name in catalogue["metrics"]}


def _dimensions(rng: random.Random, metric: str) -> tuple[tuple[str, str], ...]:
    if metric != "tokens":
        return ()
    found = []
    if rng.random() < 0.9:
        found.append(("model", rng.choice(MODELS)))
    if rng.random() < 0.9:
        found.append(("kind", rng.choice(TOKEN_KINDS)))
    return tuple(found)


def _instant(rng: random.Random, day: date, zone: ZoneInfo) -> datetime:
    """An instant of a local day: often its first or its last one, written with the zone's offset or in UTC."""
    some = time(rng.randrange(24), rng.randrange(60))
    moment = rng.choice([time(), time(23, 59, 59, 999999), some, some, some])
    at = datetime.combine(day, moment, zone)
    # an hour that clocks skip is written as the instant it stands for
    at = at.astimezone(ZoneInfo("UTC"))
    return at if rng.random() < 0.5 else at.astimezone(zone)


def _between(rng: random.Random, first: date, last: date) -> date:
    return first + timedelta(rng.randint(0, (last - first).days))


def _add_months(day: date, months: int) -> date:
    number = day.year * 12 + day.month - 1 + months
    return date(number // 12, number % 12 + 1, day.day)


def _csv(rows: Sequence[Mapping[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _usage_file(name: str, rows: Sequence[Row]) -> str:
    if name.endswith(".csv"):
        if not rows:
            return ""
        fields = [
            {
                "id": row.id,
                "source": row.source,
                "type": row.type,
                "subject": row.account_id,
                "time": row.at.isoformat(),
                "value": row.value,
                **{f"data.{name}": dict(row.dimensions).get(name, "") for name in ("model", "kind")},
            }
            for row in rows
        ]
        return _csv(fields)
    events = [
        {
            "specversion": "1.0",
            "id": row.id,
            "source": row.source,
            "type": row.type,
            "subject": row.account_id,
            "time": row.at.isoformat(),
            "data": {"value": row.value, **dict(row.dimensions)},
        }
        for row in rows
    ]
    return "".join(json.dumps(event) + "\n" for event in events)
