"""A second opinion: the billing rules in plain Python, one account at a time, without a line of the product.

Slow and literal on purpose. It reads what others have written as of a day, and remembers only what rule 9 and rule 19
make facts: the documents that were issued and the packages of the billing dates that were closed.
"""

import calendar
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from tests.life_story.credits_oracle import Credits, prepayments
from tests.life_story.currencies import MINOR_UNITS, in_currency
from tests.life_story.offers_oracle import Offers, Redemption
from tests.life_story.oracle_facts import (
    EPOCH,
    FOR_EVER,
    IN_ADVANCE,
    ONE_DAY,
    Answer,
    Closed,
    Cycle,
    Document,
    Json,
    Key,
    Line,
    Span,
    Subscription,
    Terms,
    Usage,
    half_up,
    micros,
    rule_name,
    shown,
    sooner,
    tiered,
)
from tests.life_story.taxes_oracle import Taxes, by_billing_document


class Oracle:
    """Bills a business as of one day after another."""

    def __init__(
        self,
        catalogue: Json,
        accounts: Sequence[Mapping[str, str]],
        tax_rates: Sequence[Mapping[str, str]],
        tax_ids: Mapping[str, str | None],
    ) -> None:
        self.tax_rates, self.tax_ids = tax_rates, tax_ids
        self.accounts = {row["account_id"]: row for row in accounts}
        self.zone = ZoneInfo(catalogue["time_zone"])
        self.currency: str = catalogue["currency"]
        self.usual_currency = self.currency
        self.catalogues: dict[str, Json] = {code: in_currency(catalogue, code) for code in MINOR_UNITS}
        self.rank = {package["name"]: package["rank"] for package in catalogue["packages"]}
        self.documents: list[Document] = []
        self.closed: dict[tuple[str, date], Closed] = {}
        self.final: dict[str, list[Answer]] = defaultdict(list)
        self.closed_through: date | None = None
        self.answers: dict[str, list[Answer]] = {}
        self.cycles: dict[str, list[tuple[Subscription, Cycle]]] = {}
        self.lives: dict[str, tuple[list[Subscription], dict[str, list[Cycle]], list[Span]]] = {}
        self.offers = Offers(self)
        self.given_back = Taxes()
        self.credits = Credits(lambda at: self.local(micros(at)))
        self.measured: dict[tuple[str, Key], Fraction] = {}
        self.dues_of: dict[str, dict[date, list[Line]]] = {}
        self._terms: dict[tuple[str, str, date], Terms | None] = {}

    # -- currencies (rule 36) -----------------------------------------------------------------------------------------

    def look_at(self, account: str) -> None:
        """Read the catalogue as an account does, in its currency."""
        self.currency = self.accounts[account].get("currency") or self.usual_currency

    @property
    def catalogue(self) -> Json:
        """As the account that is looked at reads it."""
        return self.catalogues[self.currency]

    @property
    def policy(self) -> Json:
        """That of the catalogue; an amount that is not in the currency is left out."""
        policy: Json = self.catalogue["policy"]
        return policy

    @property
    def minor(self) -> Decimal:
        """The smallest amount."""
        return Decimal(1).scaleb(-MINOR_UNITS[self.currency])

    # -- the run ----------------------------------------------------------------------------------------------------

    def run(
        self,
        as_of: date,
        requests: Sequence[Json],
        files: Mapping[tuple[date, str], Sequence[Any]],
        payments: Sequence[Json],
        charges: Sequence[Json] = (),
        grants: Sequence[Json] = (),
    ) -> list[Document]:
        """Bill everything up to the end of a day; returns what was issued."""
        cutoff = as_of - timedelta(self.policy["issue_after_days"])
        events = self.counted(files, as_of)
        known = {document.number: document for document in self.documents}
        issued: list[Document] = []
        known_now = [r for r in requests if self.local(micros(r["at"])) <= as_of]
        given: dict[str, list[Answer]] = {}
        for account in sorted(self.accounts):
            self.look_at(account)
            given[account] = self.replay([r for r in known_now if r["account_id"] == account])[1]
        self.offers.count_redemptions(given)
        for account in sorted(self.accounts):
            mine = [r for r in known_now if r["account_id"] == account]
            bought = [g for g in grants if g["account_id"] == account and g["granted_on"] <= as_of.isoformat()]
            own = [c for c in charges if c["account_id"] == account and c["on"] <= as_of.isoformat()]
            paid = [
                p
                for p in payments
                if p["account_id"] == account and p["document"] in known and self.local(micros(p["at"])) <= as_of
            ]
            issued += self.bill_account(account, mine, events.get(account, {}), paid, as_of, cutoff, own, bought)
        self.closed_through = max(cutoff, self.closed_through or cutoff)
        return issued

    def bill_account(
        self,
        account: str,
        requests: Sequence[Json],
        events: Mapping[str, Sequence[Usage]],
        payments: Sequence[Json],
        as_of: date,
        cutoff: date,
        charges: Sequence[Json],
        grants: Sequence[Json],
    ) -> list[Document]:
        """Everything of one account, in order."""
        self.look_at(account)
        subscriptions, answers = self.replay(requests)
        blocked = self.suspensions(account, payments)
        dated: list[tuple[Subscription, Cycle]] = []
        decided: list[Answer] = []
        issued: list[Document] = []
        by_id: dict[str, list[Cycle]] = {}
        for one in subscriptions:
            cycles, made = self.live(one, by_id, answers, events, blocked, as_of)
            by_id[one.id] = cycles
            decided += made
            dated += [(one, cycle) for cycle in cycles]
        redeemed, told_of_coupons = self.offers.redeem(account, answers, subscriptions, by_id)
        placed, alone = self.offers.place(account, charges, subscriptions, by_id)
        for one in subscriptions:
            for line in self.offers.upgrade_lines(one, by_id[one.id], blocked):
                alone[f"{one.id}/{line.item}/upgrade", line.due_on] = [line]
        for one in subscriptions:
            cycles = by_id[one.id]
            # A cycle that is there no more has no usage.
            self.measured = {key: used for key, used in self.measured.items() if key[0] != one.id}
            dues = self.offers.all_dues(one, cycles, blocked, events, placed, redeemed)
            self.dues_of[one.id] = dues
            issued += self.settle(one, cycles, dues, as_of, cutoff)
            for cycle in cycles:
                if cycle.date <= cutoff and (one.id, cycle.date) not in self.closed:
                    self.closed[one.id, cycle.date] = Closed(
                        cycle.closing, cycle.opening, cycle.changed, cycle.waiting, cycle.held, cycle.lower
                    )
                    self.final[account] += [
                        a for a in decided if a.decided_on == cycle.date and a.subscription == one.id and not a.at_once
                    ]
        for line in prepayments(grants):
            alone[f"{account}/{line.item}/prepayment", line.due_on] = [line]
        issued += self.on_their_own(account, alone, redeemed, subscriptions, by_id, as_of, cutoff)
        self.lives[account] = (subscriptions, by_id, blocked)
        self.documents += issued
        issued += self.refunds(subscriptions, answers, as_of)
        final = [*self.final[account]]
        open_now = [
            answer
            for answer in decided
            if answer.decided_on is not None
            and answer.decided_on <= as_of
            and (answer.at_once or (answer.subscription, answer.decided_on) not in self.closed)
        ]
        given = {answer.request for answer in [*final, *open_now]}
        told = [a for a in answers if a.outcome != "pending" and a.request not in given]
        told = [a for a in told if a.kind not in ("redeem", "revoke")] + told_of_coupons
        self.answers[account] = [*final, *open_now, *told]
        self.cycles[account] = [(one, cycle) for one, cycle in dated if cycle.date <= as_of]
        return issued

    # -- days and dates ---------------------------------------------------------------------------------------------

    def local(self, at: int) -> date:
        """The day of an instant in the billing time zone."""
        return (EPOCH + timedelta(microseconds=at)).astimezone(self.zone).date()

    def midnight(self, day: date) -> int:
        """The first instant of a day."""
        return micros(datetime.combine(day, time(), self.zone).isoformat())

    def billing_date(self, start: date, k: int) -> date:
        """Billing date k, from the original anchor."""
        if k == 0:
            return start
        number = start.year * 12 + start.month - 1 + k
        year, month = number // 12, number % 12 + 1
        if self.policy["billing_anchor"] == "first_of_month":
            return date(year, month, 1)
        return date(year, month, min(start.day, calendar.monthrange(year, month)[1]))

    def next_k(self, start: date, day: date) -> int:
        """The first billing date after a day."""
        k = 0
        while self.billing_date(start, k) <= day:
            k += 1
        return k

    def next_date(self, one: Subscription, day: date) -> date:
        """The first billing date after a day."""
        return self.billing_date(one.grid_start, self.next_k(one.grid_start, day))

    def next_fee_date(self, one: Subscription, day: date) -> date:
        """The first date after a day on which a fee falls due."""
        k = self.next_k(one.grid_start, day)
        while one.yearly and k % 12:
            k += 1
        return self.billing_date(one.grid_start, k)

    # -- what counts (rules 22, 26 and 27) --------------------------------------------------------------------------

    def counted(
        self, files: Mapping[tuple[date, str], Sequence[Any]], as_of: date
    ) -> dict[str, dict[str, list[Usage]]]:
        """The events that count, by account and metric, in order of time."""
        seen: set[tuple[str, str]] = set()
        found: dict[str, dict[str, list[Usage]]] = defaultdict(lambda: defaultdict(list))
        for (day, file), rows in sorted(files.items()):
            if day > as_of:
                continue
            for position, row in enumerate(rows, start=1):
                at = micros(row.at.isoformat())
                if (row.source, row.id) in seen or (day - self.local(at)).days > self.policy["lateness_days"]:
                    continue
                seen.add((row.source, row.id))
                usage = Usage(
                    day, file, position, row.source, row.id, row.type, row.account_id, at, row.value, row.dimensions
                )
                found[row.account_id][row.type].append(usage)
        for metrics in found.values():
            for events in metrics.values():
                events.sort(key=lambda event: (event.at, event.source, event.id))
        return found

    # -- requests (rules 8 and 11 to 18) ----------------------------------------------------------------------------

    def replay(self, requests: Sequence[Json]) -> tuple[list[Subscription], list[Answer]]:
        """The subscriptions that an account's requests make, and the answers."""
        subscriptions: list[Subscription] = []
        answers: list[Answer] = []
        for request in sorted(requests, key=lambda r: (micros(r["at"]), r["request_id"])):
            at = micros(request["at"])
            day = self.local(at)
            one = subscriptions[-1] if subscriptions else None
            answer = Answer(
                request["request_id"],
                one.id if one else None,
                request["kind"],
                "refused",
                "",
                request.get("package"),
                day,
                at,
                None,
                offer=request.get("coupon") or request.get("add_on"),
                quantity=request.get("quantity", 1) if request["kind"] == "add" else 0,
                given=request.get("add_ons", {}),
            )
            answers.append(answer)
            reason = self.refusal(request, day, one)
            if reason:
                answer.reason = reason
                continue
            answer.outcome, answer.effective = "approved", day
            kind = request["kind"]
            if kind == "subscribe":
                answer.reason = "subscribed"
                trial = timedelta(request.get("trial_days", 0))
                new = Subscription(
                    request["account_id"], day, day + trial, request["term"] == "yearly", request["package"], None, day
                )
                self.begin(new, one, day, subscriptions)
                answer.subscription = new.id
            elif kind == "change_card":
                answer.reason = "card_changed"
            else:
                assert one is not None
                self.change(kind, one, day, answer, subscriptions)
            if answer.outcome == "approved" and kind in ("cancel", "hold", "refund"):
                # pending package changes are void (rules 12 and 13)
                for earlier in answers:
                    if earlier.outcome == "pending" and earlier.subscription == answer.subscription:
                        assert earlier.effective is not None
                        if day < earlier.effective:
                            word = {"cancel": "cancellation", "hold": "hold", "refund": "refund"}[kind]
                            earlier.outcome, earlier.reason, earlier.effective = "superseded", f"voided_by_{word}", None
        return subscriptions, answers

    def refusal(self, request: Json, day: date, one: Subscription | None) -> str:
        """Why a request is refused at once, or nothing."""
        kind = request["kind"]
        is_held = one is not None and one.held_on is not None and not one.end
        gone = (
            one is None
            or bool(one.end)
            or (is_held and one.paid_until is not None and day >= one.paid_until and not self.has_hold_fee)
        )
        if kind == "subscribe":
            if one is None:
                live = False
            else:
                keeps_access = bool(one.end) and one.access_last is not None and one.access_last > day
                live = not gone or keeps_access or one.started == day
            if live:
                return "already_subscribed"
            terms = self.terms(request["account_id"], request["package"], day)
            if terms is not None and terms.monthly is None:
                return "not_sold_in_currency"
            return "no_yearly_price" if request["term"] == "yearly" and terms and terms.yearly is None else ""
        if kind == "cancel" and request["channel"] != "email":
            return "wrong_channel"
        if kind in ("downgrade", "hold", "resume", "refund", "revoke") and request["channel"] != "support":
            return "wrong_channel"
        if kind == "transfer":
            return "ownership_transfer_not_offered"
        if kind == "split_payment":
            return "split_payment_not_offered"
        if kind == "change_card":
            return "" if request["brand"] == "Visa" else "card_brand_not_accepted"
        if kind == "cancel" and one is not None and one.end:
            return "already_ended"
        if kind == "hold" and is_held:
            return "already_held"
        if kind == "resume":
            return "" if is_held else "not_held"
        if kind == "refund":
            return self.refund_refusal(day, one)
        if gone:
            return "no_live_subscription"
        return "on_hold" if is_held and kind in ("upgrade", "downgrade", "add", "remove") else ""

    def refund_refusal(self, day: date, one: Subscription | None) -> str:
        """Why a refund is refused (rule 14)."""
        if one is None:
            return "no_subscription"
        if one.end == "refunded":
            return "already_refunded"
        if one.yearly:
            return "yearly_term"
        if day < one.grid_start or (one.no_fee_from is not None and one.no_fee_from <= one.grid_start):
            return "nothing_paid"
        if one.resumed_from is not None:
            return "no_refund_window"
        if day >= self.billing_date(one.grid_start, 1):
            return "not_first_cycle"
        return "refund_window_over" if (day - one.grid_start).days > 30 else ""

    @property
    def has_hold_fee(self) -> bool:
        """Whether a hold costs something."""
        return Decimal(self.policy.get("hold_fee", "0")) > 0

    def begin(self, new: Subscription, old: Subscription | None, day: date, subscriptions: list[Subscription]) -> None:
        """A subscription begins; the one before, if any, is over."""
        if old is not None:
            if old.access_last is not None:
                # usage of a shared day belongs to the old one
                new.access_from = max(day, old.access_last + ONE_DAY)
            if old.last_date is None:
                k = max(self.next_k(old.grid_start, day) - 1, 0)
                old.last_date = self.billing_date(old.grid_start, k)
            if old.held_on is not None and not old.end:
                old.no_hold_fee_from = sooner(old.no_hold_fee_from, day)
        subscriptions.append(new)

    def change(
        self, kind: str, one: Subscription, day: date, answer: Answer, subscriptions: list[Subscription]
    ) -> None:
        """An approved request moves a subscription on."""
        fee_date, next_date = self.next_fee_date(one, day), self.next_date(one, day)
        if kind in ("upgrade", "downgrade", "add", "remove"):
            at_once = self.policy.get("requested_upgrades") == "at_once"
            # One that is made in a trial applies at billing date 0.
            answer.at_once = kind == "upgrade" and at_once and day >= one.grid_start
            answer.outcome, answer.effective = "pending", day if answer.at_once else next_date
            return
        if kind in ("redeem", "revoke"):
            answer.effective = next_date
            return
        in_time = (fee_date - day).days >= self.policy["cancellation_notice_days"]
        paid_end = fee_date if in_time else self.next_fee_date(one, fee_date)
        first_free = fee_date if in_time else fee_date + ONE_DAY
        notice = "in_time" if in_time else "late_notice"
        was_held = one.held_on is not None and not one.end
        if kind == "resume":
            assert one.held_on is not None and one.paid_until is not None
            if day < one.paid_until:
                answer.reason = "hold_undone"
                if one.held_on < day:
                    one.pauses.append((one.held_on + ONE_DAY, day))
                one.access_last = one.no_fee_from = one.paid_until = one.held_on = one.last_date = None
                return
            answer.reason = "new_subscription"
            new = Subscription(one.account_id, day, day, one.yearly, None, one, day)
            self.begin(new, one, day, subscriptions)
            answer.subscription = new.id
            return
        if kind == "refund":
            answer.reason = "within_refund_window"
            one.access_last = sooner(one.access_last, day)
            one.no_fee_from = sooner(one.no_fee_from, day + ONE_DAY)
            one.no_hold_fee_from = day + ONE_DAY
            one.held_on, one.ended_on, one.end, one.last_date = None, day, "refunded", next_date
            return
        if kind == "hold":
            answer.reason = notice
            one.access_last = day
            one.no_fee_from = first_free
            one.paid_until, one.held_on = paid_end, day
            one.holds.append(day)
            one.last_date = None if self.has_hold_fee else paid_end
            return
        one.end, one.ended_on = "cancelled", day
        if day < one.grid_start:
            answer.reason = "cancelled_in_trial"
            one.access_last = sooner(one.access_last, day)
            one.no_fee_from = one.grid_start
            one.last_date = one.grid_start - ONE_DAY
            return
        answer.reason = notice
        at_once = self.policy["access_after_cancellation"] == "ends_at_once"
        one.access_last = sooner(one.access_last, day if at_once else paid_end - ONE_DAY)
        one.no_fee_from = sooner(one.no_fee_from, first_free)
        one.no_hold_fee_from = next_date if in_time else next_date + ONE_DAY
        if was_held:
            one.last_date = one.last_date or next_date
        elif at_once:
            one.last_date = next_date if in_time else self.next_date(one, fee_date)
        else:
            one.last_date = paid_end

    # -- access (rules 12, 13, 16 and 18) ---------------------------------------------------------------------------

    def suspensions(self, account: str, payments: Sequence[Json]) -> list[Span]:
        """When access was suspended: from a failed payment until nothing that failed is unpaid."""
        mine = [each for each in self.documents if each.account_id == account]
        # Failed payments of prepayments suspend nobody.
        suspends = {each.number for each in mine if not each.is_prepayment}
        # A credit counts from the start of its day.
        moments = {micros(p["at"]) for p in payments} | {self.midnight(each.issued_on) for each in mine if each.due < 0}
        spans: list[Span] = []
        since: int | None = None
        for at in sorted(moments):
            made = [p for p in payments if micros(p["at"]) <= at]
            latest: dict[str, str] = {}
            for payment in sorted(made, key=lambda p: (micros(p["at"]), p["payment_id"])):
                if payment["status"] in ("succeeded", "failed"):
                    latest[payment["document"]] = payment["status"]
            failed = [number for number, status in latest.items() if status == "failed" and number in suspends]
            still_open = self.open_at(at, mine, made) if failed else {}
            blocked = any(still_open[number] > 0 for number in failed)
            if blocked and since is None:
                since = at
            elif not blocked and since is not None:
                spans.append((since, at))
                since = None
        return [*spans, (since, FOR_EVER)] if since is not None else spans

    def open_at(self, at: int, documents: Sequence[Document], payments: Sequence[Json]) -> dict[str, Decimal]:
        """What is open of each document: what is paid or credited pays its own first, and then the oldest ones."""
        kept: dict[str, Decimal] = defaultdict(Decimal)
        for payment in payments:
            if payment["status"] != "failed":
                kept[payment["document"]] += Decimal(payment["amount"]) * (
                    1 if payment["status"] == "succeeded" else -1
                )
        claims = {each.number: max(each.due, Decimal(0)) - min(kept[each.number], Decimal(0)) for each in documents}
        sources = [(number, max(amount, Decimal(0))) for number, amount in kept.items()]
        for note in documents:
            if note.due < 0 and self.midnight(note.issued_on) <= at:
                sources.append((note.corrects.number if note.corrects is not None else "", -note.due))
        over = Decimal(0)
        for number, amount in sources:
            part = min(amount, claims.get(number, Decimal(0)))
            if part:
                claims[number] -= part
            over += amount - part
        for each in sorted(documents, key=lambda each: (each.issued_on, each.number)):
            part = min(over, claims[each.number])
            claims[each.number] -= part
            over -= part
        return claims

    def access(self, one: Subscription, blocked: Sequence[Span]) -> list[Span]:
        """The spans whose usage is billed."""
        start = self.midnight(max(one.access_from, one.grid_start))
        end = FOR_EVER if one.access_last is None else self.midnight(one.access_last + ONE_DAY)
        holes = [(self.midnight(first), self.midnight(until)) for first, until in one.pauses]
        spans = [(start, end)] if start < end else []
        for hole_start, hole_end in sorted([*holes, *blocked]):
            cut: list[Span] = []
            for first, last in spans:
                cut += [(first, min(last, hole_start)), (max(first, hole_end), last)]
            spans = [(first, last) for first, last in cut if first < last]
        return spans

    # -- usage (section 1) ------------------------------------------------------------------------------------------

    def measure(self, metric: str, events: Sequence[Usage], spans: Sequence[Span], cycle: Span) -> Fraction:
        """What was used of a metric within the spans of access of a cycle, in base units."""
        about = self.catalogue["metrics"][metric]
        measure = about["measure"]
        if about["kind"] == "counter":
            inside = [event for event in events if any(first <= event.at < last for first, last in spans)]
            if measure == "count":
                return Fraction(len(inside))
            if measure == "unique":
                return Fraction(len({event.value for event in inside}))
            values = [Fraction(event.value) for event in inside]
            return sum(values, Fraction(0)) if measure == "sum" else max(values, default=Fraction(0))
        if not spans:
            return Fraction(0)
        if measure == "last":
            return max(self.level(metric, events, spans[-1][1]), Fraction(0))
        highest, area = Fraction(0), Fraction(0)
        for first, last in spans:
            moments = [first, *sorted({event.at for event in events if first <= event.at < last}), last]
            highest = max(highest, self.level(metric, events, first))
            for moment, following in itertools.pairwise(moments):
                level = max(self.level(metric, events, moment + 1), Fraction(0))
                highest = max(highest, level)
                area += level * (following - moment)
        if measure == "peak":
            return highest
        return Fraction(half_up(area / (cycle[1] - cycle[0]), Decimal(1).scaleb(-9)))

    def level(self, metric: str, events: Sequence[Usage], before: int) -> Fraction:
        """The level of a gauge just before an instant."""
        past = [event for event in events if event.at < before]
        if self.catalogue["metrics"][metric]["carries"] == "level":
            return Fraction(past[-1].value) if past else Fraction(0)
        return sum((Fraction(event.value) for event in past), Fraction(0))

    # -- terms and money (rules 1 to 6) -----------------------------------------------------------------------------

    def terms(self, account: str, package: str, day: date) -> Terms | None:
        """What a package costs and includes on a day, for one account."""
        key = (account, package, day)
        if key not in self._terms:
            self._terms[key] = self._find_terms(account, package, day)
        return self._terms[key]

    def _find_terms(self, account: str, package: str, day: date) -> Terms | None:
        about = next(p for p in self.catalogue["packages"] if p["name"] == package)
        versions = [v for v in about["versions"] if v["effective_from"] <= day.isoformat()]
        if not versions:
            return None
        version = max(versions, key=lambda v: v["effective_from"])
        price, allowances, overage = dict(version["price"]), dict(version["allowances"]), dict(version["overage"])
        minimum = version.get("minimum_spend")
        for own in self.catalogue["agreements"]:
            if (own["account_id"], own["package"]) == (account, package) and own["effective_from"] <= day.isoformat():
                price |= own["price"]
                allowances |= own["allowances"]
                overage |= own["overage"]
                minimum = own.get("minimum_spend", minimum)
        return Terms(
            Decimal(price["monthly"]) if "monthly" in price else None,
            Decimal(price["yearly"]) if "yearly" in price else None,
            {name: None if value is None else Fraction(value) for name, value in allowances.items()},
            overage,
            version["auto_upgrade_on"],
            version.get("seats"),
            minimum,
        )

    def units(self, metric: str, quantity: Fraction) -> Fraction:
        """Base units in the metric's unit."""
        size: int = self.catalogue["metrics"][metric].get("unit_size", 1)
        return quantity / size

    def overage(self, tariff: Any, allowance: Fraction | None, quantity: Fraction, events: int) -> Decimal:
        """The overage of a quantity (in units) and its events, rounded."""
        if tariff == "none":
            return Decimal(0)
        excess = Fraction(0) if allowance is None else max(quantity - allowance, Fraction(0))
        if tariff["model"] == "percentage":
            beyond = max(events - tariff.get("free_events", 0), 0) * Fraction(tariff["per_event"])
            if not excess and not beyond:
                return Decimal(0)
            amount = excess * Fraction(tariff["percent"]) / 100 + beyond
        elif not excess:
            return Decimal(0)
        elif tariff["model"] == "block":
            amount = -(-excess // tariff["size"]) * Fraction(tariff["price"])
        else:
            amount = tiered(tariff["model"], tariff["tiers"], excess)
        if "minimum" in tariff:
            amount = max(amount, Fraction(tariff["minimum"]))
        if "maximum" in tariff:
            amount = min(amount, Fraction(tariff["maximum"]))
        return half_up(amount, self.minor)

    # -- packages (rules 7 to 10 and 18) ----------------------------------------------------------------------------

    def live(
        self,
        one: Subscription,
        others: Mapping[str, Sequence[Cycle]],
        answers: Sequence[Answer],
        events: Mapping[str, Sequence[Usage]],
        blocked: Sequence[Span],
        as_of: date,
    ) -> tuple[list[Cycle], list[Answer]]:
        """Billing date after billing date: what was used, and what package follows."""
        cycles: list[Cycle] = []
        decided: list[Answer] = []
        package, waiting = one.package, None
        opened_with: str | None = None
        held: dict[str, int] = {}
        lower: dict[str, tuple[int, date]] = {}
        if package is None:
            assert one.resumed_from is not None
            before = others[one.resumed_from.id]
            # held in its trial, it never had a cycle
            package = (before[-1].opening or before[-1].closing if before else None) or one.resumed_from.package
            assert package is not None
        access = self.access(one, blocked)
        horizon = max(as_of + timedelta(40), one.grid_start)
        k = 0
        while (day := self.billing_date(one.grid_start, k)) <= horizon:
            if one.last_date is not None and day > one.last_date:
                break
            usage: dict[str, Fraction] = {}
            counters: dict[str, list[Usage]] = {}
            spans: list[Span] = []
            if k:
                start = self.billing_date(one.grid_start, k - 1)
                if any(start <= held < day for held in one.holds):
                    waiting = None
                cycle = (self.midnight(start), self.midnight(day))
                spans = [(max(a, cycle[0]), min(b, cycle[1])) for a, b in access]
                spans = [(a, b) for a, b in spans if a < b]
                for metric in self.catalogue["metrics"]:
                    usage[metric] = self.units(metric, self.measure(metric, events.get(metric, ()), spans, cycle))
                    if self.catalogue["metrics"][metric]["kind"] == "counter":
                        counters[metric] = [
                            e for e in events.get(metric, ()) if any(first <= e.at < last for first, last in spans)
                        ]
            instant = self.midnight(day)
            suspended = any(first <= instant < last for first, last in blocked)
            is_last = day == one.last_date
            status = self.status(one, day, suspended)
            closed = self.closed.get((one.id, day))
            if closed is not None:
                found = Cycle(
                    k, day, closed.closing, closed.opening, closed.changed, closed.waiting, status, is_last, usage
                )
                found.held, found.lower = closed.held, closed.lower
            else:
                target, why = package, None
                made: list[Answer] = []
                if status in ("active", "suspended") and not is_last:
                    target, why, made, waits = self.decide(
                        one, k, day, package, usage, self.latest(events, access, day, k), answers, held
                    )
                    decided += made
                    waiting = waits or (None if why else waiting)
                    if why is None and waiting is not None and (not one.yearly or k % 12 == 0):
                        target, why, waiting = waiting, "downgrade", None
                else:
                    waiting = None
                opening = None if is_last else target
                found = Cycle(k, day, package if k else None, opening, why, waiting, status, is_last, usage)
                found.held, found.lower, changes = self.offers.decide(one, found, held, lower, answers, opened_with)
                decided += changes
            found.held_before, found.counters, found.spans = held, counters, spans
            found.upgrades, upgrades = self.offers.at_once(one, found, answers)
            decided += upgrades
            if found.upgrades:
                found.waiting = None
            opened_with = found.opening
            package, waiting, held, lower = found.package or package, found.waiting, found.held, found.lower
            cycles.append(found)
            k += 1
        return cycles, decided

    def latest(
        self, events: Mapping[str, Sequence[Usage]], access: Sequence[Span], day: date, k: int
    ) -> dict[str, Fraction]:
        """The level of every gauge at the close (rule 10)."""
        instant = self.midnight(day)
        found = {}
        for metric, about in self.catalogue["metrics"].items():
            if about["kind"] == "gauge":
                level = self.level(metric, events.get(metric, ()), instant)
                found[metric] = self.units(metric, max(level, Fraction(0)))
        return found

    def status(self, one: Subscription, day: date, suspended: bool) -> str:
        """Of the subscription at a billing date."""
        over = bool(one.end) and one.ended_on is not None and one.ended_on < day
        if one.held_on is not None and one.held_on < day and not over:
            return "held"
        if any(a <= day < b for a, b in one.pauses):
            return "held"
        if one.no_fee_from is not None and day >= one.no_fee_from and one.end:
            return one.end
        if suspended:
            return "suspended"
        if one.ended_on is not None and one.ended_on < day:
            return one.end
        return "active"

    def decide(
        self,
        one: Subscription,
        k: int,
        day: date,
        package: str,
        usage: Mapping[str, Fraction],
        levels: Mapping[str, Fraction],
        answers: Sequence[Answer],
        held: Mapping[str, int],
    ) -> tuple[str, str | None, list[Answer], str | None]:
        """The package of the next cycle, why it changes, the answers, and a lower one that waits for the term's end."""
        made: list[Answer] = []
        automatic = self.automatic(one, k, day, package, usage, held)
        larger = automatic.package if automatic is not None and automatic.package != package else None
        outgrown = larger is not None
        asked = [a for a in answers if a.outcome == "pending" and a.subscription == one.id and a.effective == day]
        asked = [a for a in asked if a.kind in ("upgrade", "downgrade") and not a.at_once]
        asked.sort(key=lambda a: (a.asked_at, a.request))
        valid: list[Answer] = []
        for request in asked:
            own = Answer(
                request.request,
                one.id,
                request.kind,
                "approved",
                "",
                request.package,
                request.asked_on,
                request.asked_at,
                None,
                package,
                day,
            )
            own.reason = self.change_refusal(one, day, package, own, outgrown, usage, levels, held)
            if own.reason:
                own.outcome = "refused"
            else:
                valid.append(own)
            made.append(own)
        for earlier in valid[:-1]:
            earlier.outcome, earlier.reason = "superseded", "superseded_by_later_request"
        chosen = valid[-1] if valid else None
        target, why, waits = package, None, None
        if chosen is not None:
            assert chosen.package is not None
            if larger is not None and self.rank[larger] > self.rank[chosen.package]:
                chosen.outcome, chosen.reason = "superseded", "satisfied_by_higher"
                chosen = None
        if chosen is not None:
            chosen.reason = "requested" if chosen.kind == "upgrade" else "usage_fits"
            if chosen.kind == "downgrade" and one.yearly and k % 12:
                chosen.effective = self.billing_date(one.grid_start, -(-k // 12) * 12)
                waits = chosen.package
            else:
                chosen.effective = day
                target, why = str(chosen.package), chosen.kind
        if automatic is not None:
            made.append(automatic)
            if outgrown and chosen is not None:
                automatic.outcome, automatic.reason = "superseded", "satisfied_by_higher"
            elif outgrown:
                automatic.effective = day
                target, why = str(automatic.package), "auto_upgrade"
        return target, why, made, waits

    def automatic(
        self,
        one: Subscription,
        k: int,
        day: date,
        package: str,
        usage: Mapping[str, Fraction],
        held: Mapping[str, int],
    ) -> Answer | None:
        """Rule 7."""
        if not k:
            return None
        closing = self.terms(one.account_id, package, self.billing_date(one.grid_start, k - 1))
        assert closing is not None
        start = self.billing_date(one.grid_start, k - 1)
        included = self.offers.allowances(closing, held, start)
        limits = {metric: included[metric] for metric in closing.triggers}
        if not any(limit is not None and usage[metric] > limit for metric, limit in limits.items()):
            return None
        largest, fitting = package, None
        for name in sorted(self.rank, key=lambda each: self.rank[each]):
            terms = self.terms(one.account_id, name, day)
            if self.rank[name] < self.rank[package] or terms is None or terms.monthly is None:
                continue
            if one.yearly and terms.yearly is None:
                continue
            largest = name
            fitted = self.offers.allowances(terms, self.offers.allowed(name, held), day)
            allowed = [fitted[metric] for metric in limits]
            fits = all(a is None or usage[metric] <= a for metric, a in zip(limits, allowed, strict=True))
            if fits and fitting is None:
                fitting = name
        if fitting == package:
            return None
        target = fitting or largest
        refused = target == package
        return Answer(
            None,
            one.id,
            "auto_upgrade",
            "refused" if refused else "approved",
            "no_larger_package" if refused else "usage_over_allowance",
            target,
            day,
            0,
            None,
            package,
            day,
            tuple((m, shown(usage[m]), shown(limits[m])) for m in sorted(limits)),
        )

    def change_refusal(
        self,
        one: Subscription,
        day: date,
        package: str,
        own: Answer,
        outgrown: bool,
        usage: Mapping[str, Fraction],
        levels: Mapping[str, Fraction],
        held: Mapping[str, int],
    ) -> str:
        """Why a requested change is refused at its billing date (rules 8 and 10); sets the evidence."""
        assert own.package is not None
        terms = self.terms(one.account_id, own.package, day)
        assert terms is not None
        higher = self.rank[own.package] - self.rank[package]
        refusal = ""
        if terms.monthly is None:
            refusal = "not_sold_in_currency"
        elif one.yearly and terms.yearly is None:
            refusal = "no_yearly_price"
        elif own.kind == "upgrade" and higher <= 0:
            refusal = "not_an_upgrade"
        elif own.kind == "downgrade" and higher >= 0:
            refusal = "not_a_downgrade"
        if own.kind == "downgrade":
            limits = self.offers.allowances(terms, self.offers.allowed(own.package, held), day)
            used = {metric: levels.get(metric, usage.get(metric, Fraction(0))) for metric in limits}
            blocking = [m for m, limit in limits.items() if limit is not None and used[m] > limit]
            own.evidence = tuple((m, shown(used[m]), shown(limits[m])) for m in sorted(blocking or limits))
            if not refusal and outgrown:
                refusal = "automatic_upgrade"
            elif not refusal and blocking:
                refusal = "usage_exceeds_package"
        return refusal

    # -- what is due, and what is issued (rules 14, 18, 19, 20 and 24) ----------------------------------------------

    def dues(self, one: Subscription, cycle: Cycle, blocked: Sequence[Span]) -> Iterator[Line]:
        """What falls due on a billing date."""
        day, k = cycle.date, cycle.k
        instant = self.midnight(day)
        suspended = any(first <= instant < last for first, last in blocked)
        charged = one.no_fee_from is None or day < one.no_fee_from
        following = self.billing_date(one.grid_start, k + 1)
        costs_a_fee = not suspended or self.policy["charge_while_suspended"]
        if charged and cycle.opening is not None:
            terms = self.terms(one.account_id, cycle.opening, day)
            assert terms is not None
            if one.yearly and k % 12:
                if cycle.changed in ("auto_upgrade", "upgrade") and costs_a_fee:
                    assert cycle.closing is not None
                    old = self.terms(one.account_id, cycle.closing, day)
                    assert old is not None and old.yearly is not None and terms.yearly is not None
                    amount = half_up(Fraction(terms.yearly - old.yearly) * (12 - k % 12) / 12, self.minor)
                    end = self.billing_date(one.grid_start, -(-k // 12) * 12)
                    yield Line("package_fee", None, cycle.opening, day, end, None, amount, day, "package_fee")
            elif costs_a_fee:
                assert terms.monthly is not None
                fee = Fraction(terms.monthly)
                end = following
                if one.yearly:
                    assert terms.yearly is not None
                    fee, end = Fraction(terms.yearly), self.billing_date(one.grid_start, k + 12)
                amount = half_up(fee * self.share(one, day, k), self.minor)
                yield Line("package_fee", None, cycle.opening, day, end, None, amount, day, "package_fee")
        if (
            self.has_hold_fee
            and one.held_on is not None
            and one.paid_until is not None
            and day >= one.paid_until
            and (one.no_hold_fee_from is None or day < one.no_hold_fee_from)
        ):
            amount = half_up(Fraction(self.policy["hold_fee"]), self.minor)
            package = cycle.opening or cycle.closing or one.package
            yield Line("hold_fee", None, package, day, following, None, amount, day, "hold_fee")
        if k:
            yield from self.overages(one, cycle)

    def share(self, one: Subscription, day: date, k: int) -> Fraction:
        """What of a fee a cycle costs: a short first one its days."""
        if self.policy.get("first_cycle") == "prorated" and k == 0 and one.resumed_from is None:
            days = calendar.monthrange(day.year, day.month)[1]
            return Fraction(days - day.day + 1, days)
        return Fraction(1)

    def overages(self, one: Subscription, cycle: Cycle) -> Iterator[Line]:
        """What a cycle that closed used beyond its allowances: per metric, and of a metric by dimension per rule."""
        start, day = self.billing_date(one.grid_start, cycle.k - 1), cycle.date
        assert cycle.closing is not None
        terms = self.terms(one.account_id, cycle.closing, start)
        assert terms is not None
        included = self.offers.allowances(terms, cycle.held_before, start)
        for metric, whole in cycle.usage.items():
            quantity = whole
            tariff = terms.overage.get(metric, "none")
            events = cycle.counters.get(metric, [])
            rules: list[tuple[str | None, Any, Fraction | None, Fraction, int]] = []
            if tariff != "none" and "by" in tariff:
                groups = self.offers.by_rule(tariff["by"], events)
                for rule in tariff["by"]:
                    mine = groups.get(rule_name(rule), [])
                    used = sum((Fraction(e.value) for e in mine), Fraction(0))
                    own = Fraction(rule.get("allowance", "0"))
                    rules.append((rule_name(rule), rule, own, self.units(metric, used), len(mine)))
                events = groups.get(None, [])
                quantity = self.units(metric, sum((Fraction(e.value) for e in events), Fraction(0)))
            rules.append((None, tariff, included.get(metric), quantity, len(events)))
            for name, rated, limit, used, number in rules:
                amount = self.overage(rated, limit, used, number)
                self.measured[one.id, (day, "overage", metric, name)] = used
                if amount:
                    yield Line(
                        "overage", metric, cycle.closing, start, day, used, amount, day, "overage", item=name, rule=name
                    )

    def settle(
        self,
        one: Subscription,
        cycles: Sequence[Cycle],
        dues: Mapping[date, Sequence[Line]],
        as_of: date,
        cutoff: date,
    ) -> list[Document]:
        """The documents of a subscription's open dates up to the cutoff, with what earlier cycles are still owed."""
        issued: list[Document] = []
        targets = [c.date for c in cycles if c.date <= cutoff and (one.id, c.date) not in self.closed]
        k = 0
        while one.last_date is not None and (day := self.billing_date(one.grid_start, k)) <= cutoff:
            # one that has ended is settled on what would have been its later billing dates
            if day > one.last_date and k and (self.closed_through is None or day > self.closed_through):
                targets.append(day)
            k += 1
        closed = {day for subscription, day in self.closed if subscription == one.id}
        for target in targets:
            lines = [*dues.get(target, ())]
            lines += self.differences(one, closed, dues, issued, target)
            if any(line.amount for line in lines):
                document = Document(one.account_id, one.id, target, "", as_of, lines, [])
                document.kind = "credit_note" if document.net < 0 else "invoice"
                document.taxes = self.taxed(document, target)
                issued.append(document)
            closed.add(target)
        return issued

    def differences(
        self,
        one: Subscription,
        closed: set[date],
        dues: Mapping[date, Sequence[Line]],
        now: Sequence[Document],
        target: date,
    ) -> Iterator[Line]:
        """Due less issued, of closed dates before the target's month (rule 20)."""
        billed: dict[Key, list[Line]] = defaultdict(list)
        for document in [*self.documents, *now]:
            if document.subscription == one.id:
                for line in document.lines:
                    if line.due_kind != "refund":
                        billed[line.key].append(line)
        refunded = {d.billing_date for d in self.documents if d.subscription == one.id and d.corrects is not None}
        due = {line.key: line for day in closed for line in dues.get(day, ())}
        moved: dict[Key, Decimal] = {}
        for key in sorted({*due, *billed}, key=str):
            amount = due[key].amount if key in due else Decimal(0)
            amount -= sum((each.amount for each in billed.get(key, ())), Decimal(0))
            about = due.get(key) or billed[key][0]
            if key[0].replace(day=1) >= target.replace(day=1):
                continue
            if key[0] in refunded and about.lowered_kind in IN_ADVANCE:
                continue
            if amount:
                moved[key] = amount
        settled = {key: amount for key, amount in self.offers.of_coupons(moved).items() if amount}
        mine = [each for each in (*self.documents, *now) if each.subscription == one.id]
        for key, amount, billed_by in by_billing_document(settled, mine):
            about = due.get(key) or billed[key][0]
            yield replace(
                about,
                kind="coupon" if about.coupon is not None else "prior_cycle",
                quantity=due[key].quantity if key in due else self.measured.get((one.id, key)),
                amount=amount,
                due_on=key[0],
                due_kind=key[1],
                gives_back=billed_by,
            )

    def on_their_own(
        self,
        account: str,
        alone: Mapping[tuple[str, date], list[Line]],
        redeemed: Sequence["Redemption"],
        subscriptions: Sequence[Subscription],
        by_id: Mapping[str, Sequence[Cycle]],
        as_of: date,
        cutoff: date,
    ) -> list[Document]:
        """Documents that belong to no billing date of a subscription."""
        issued = []
        for (name, day), lines in sorted(alone.items()):
            if day > cutoff:
                continue
            lowered = self.offers.on_its_own(day, lines, redeemed, subscriptions, by_id)
            before = [d for d in self.documents if d.subscription == name and any(x.due_on == day for x in d.lines)]
            target = day
            if before:
                # Settled month by month on its day, as what a subscription that has ended is owed.
                later = [self.billing_date(day, k) for k in range(1, 40)]
                since = self.closed_through or date.min
                open_dates = [each for each in later if since < each <= cutoff]
                if not open_dates:
                    continue
                target = open_dates[0]
                if any(d.corrects is not None for d in before):
                    continue
                moved = {line.key: line.amount for line in lowered}
                for line in (line for d in before for line in d.lines if line.due_on == day):
                    moved[line.key] = moved.get(line.key, Decimal(0)) - line.amount
                about = {line.key: line for line in (*(each for d in before for each in d.lines), *lowered)}
                changed = {key: amount for key, amount in moved.items() if amount}
                mine = [d for d in self.documents if d.subscription == name]
                lowered = [
                    replace(
                        about[key],
                        kind="coupon" if about[key].coupon else "prior_cycle",
                        amount=amount,
                        gives_back=billed_by,
                    )
                    for key, amount, billed_by in by_billing_document(self.offers.of_coupons(changed), mine)
                ]
            if not any(line.amount for line in lowered):
                continue
            document = Document(account, name, target, "", as_of, lowered, [])
            document.kind = "credit_note" if document.net < 0 else "invoice"
            if not name.endswith(("/charge", "/prepayment")):
                document.taxes = self.taxed(document, target)
            issued.append(document)
        return issued

    def refunds(self, subscriptions: Sequence[Subscription], answers: Sequence[Answer], as_of: date) -> list[Document]:
        """Credit notes of approved refunds (rule 14)."""
        notes: list[Document] = []
        for one in subscriptions:
            if not any(a.kind == "refund" and a.outcome == "approved" and a.subscription == one.id for a in answers):
                continue
            own = [d for d in self.documents if d.subscription == one.id and d.corrects is None]
            first = [d for d in own if d.billing_date == one.grid_start]
            first += [d for d in self.documents if d.subscription.startswith(f"{one.id}/") and d.corrects is None]
            for document in first:
                if any(d.corrects is document for d in self.documents):
                    continue
                lines = [
                    replace(each, kind="coupon" if each.coupon else "refund", due_kind="refund", amount=-each.amount)
                    for each in document.lines
                    if each.due_on == document.billing_date and each.lowered_kind in IN_ADVANCE and each.amount
                ]
                if not lines:
                    continue
                day = document.billing_date
                note = Document(one.account_id, document.subscription, day, "credit_note", as_of, lines, [], document)
                note.taxes = self.given_back.of_note(note, self.tax)
                notes.append(note)
        self.documents += notes
        return notes

    def taxed(self, document: Document, day: date) -> list[tuple[str, str | None, Decimal, Decimal, Decimal, str]]:
        """The taxes of a document: what it bills at the rates of the day, what it gives back as it was billed."""
        own = sum((line.amount for line in document.lines if line.gives_back is None), Decimal(0))
        return self.given_back.of(document, self.taxes(document.account_id, day, own), self.tax)

    def taxes(
        self, account_id: str, day: date, net: Decimal
    ) -> list[tuple[str, str | None, Decimal, Decimal, Decimal, str]]:
        """The taxes of a document (rule 24)."""
        account = self.accounts[account_id]
        chosen: dict[str, Mapping[str, str]] = {}
        for region in ("", account["region"]):
            # a regional row replaces the country's row of the same name
            for row in sorted(self.tax_rates, key=lambda row: row["effective_from"]):
                is_here = (row["country"], row["region"]) == (account["country"], region)
                if is_here and row["effective_from"] <= day.isoformat():
                    chosen[row["name"]] = row
        owner = self.tax_ids[account["tax_id"]]
        reason = "charged"
        if account["tax_exempt"] == "true":
            reason = "exempt"
        elif owner is not None and owner != self.catalogue["seller"]["country"]:
            reason = "reverse_charge"
        return [
            (
                name,
                row["region"] or None,
                Decimal(row["rate"]),
                net,
                self.tax(Decimal(row["rate"]), net) if reason == "charged" else Decimal(0),
                reason,
            )
            for name, row in sorted(chosen.items())
        ]

    def tax(self, rate: Decimal, net: Decimal) -> Decimal:
        """Computed once per tax and document (rule 4)."""
        return half_up(Fraction(rate) * Fraction(net), self.minor)

    def profile(self, account: str, as_of: date) -> tuple[Any, ...]:
        """What the billing profile says (rule 25).

        package, status, next billing date, upcoming amount, previous amount and date, pending change (from, to, on),
        and the usage of the open cycle.
        """
        self.look_at(account)
        subscriptions, by_id, blocked = self.lives[account]
        invoices = [d for d in self.documents if d.account_id == account and d.kind == "invoice"]
        last = max(invoices, key=lambda d: (d.billing_date, d.issued_on, d.number), default=None)
        previous = (last.total, last.billing_date) if last is not None else (None, None)
        if not subscriptions:
            return None, "none", None, Decimal(0), *previous, None, ()
        one = subscriptions[-1]
        night = self.midnight(as_of + ONE_DAY)
        if one.end or one.held_on is not None:
            status = one.end or "held"
        elif one.grid_start > as_of:
            status = "trial"
        else:
            status = "suspended" if any(first < night <= until for first, until in blocked) else "active"
        past = [cycle for cycle in by_id[one.id] if cycle.date <= as_of]
        coming = [cycle for cycle in by_id[one.id] if cycle.date > as_of]
        package = one.package
        for cycle in past:
            package = cycle.package or cycle.closing or package
        if not coming:
            return package, status, None, Decimal(0), *previous, None, ()
        then = coming[0]
        net = sum((line.amount for line in self.dues_of[one.id][then.date]), Decimal(0))
        upcoming = net + sum((tax[4] for tax in self.taxes(account, then.date, net)), Decimal(0))
        goes_on = status in ("active", "suspended", "trial")
        pending = (package, then.opening, then.date) if goes_on and then.opening != package else None
        usage = tuple(sorted(then.usage.items()))
        return package, status, then.date if goes_on else None, upcoming, *previous, pending, usage

    def balance(self, account: str, payments: Sequence[Json], as_of: date) -> tuple[Decimal, ...] | None:
        """invoiced, credited, paid, refunded, outstanding; None without a document (rule 25)."""
        mine = [document for document in self.documents if document.account_id == account]
        if not mine:
            return None
        numbers = {document.number for document in mine}
        moved: dict[str, Decimal] = defaultdict(Decimal)
        for payment in payments:
            if payment["document"] in numbers and self.local(micros(payment["at"])) <= as_of:
                moved[payment["status"]] += Decimal(payment["amount"])
        invoiced = sum((d.total for d in mine if d.kind != "credit_note"), Decimal(0))
        credited = -sum((d.total for d in mine if d.kind == "credit_note"), Decimal(0))
        back = moved["refunded"] + moved["disputed"]
        applied = sum((d.credits_applied for d in mine), Decimal(0))
        return (
            *(invoiced, credited, moved["succeeded"], back),
            invoiced - credited - applied - (moved["succeeded"] - back),
        )
