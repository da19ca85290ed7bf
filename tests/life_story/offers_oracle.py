"""The second opinion about what is sold beside packages: coupons, charges, add-ons, minimum spends and seats.

In plain Python from rules 29 to 37, without a line of the product.
"""

import calendar
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from tests.life_story.oracle_facts import (
    ONE_DAY,
    Answer,
    Cycle,
    Json,
    Key,
    Line,
    Span,
    Subscription,
    Terms,
    Usage,
    half_up,
    rule_name,
    tiered,
)

if TYPE_CHECKING:
    from tests.life_story.oracle import Oracle

PAGE: Final = (
    "package_fee",
    "proration",
    "hold_fee",
    "seats",
    "add_on",
    "overage",
    "charge",
    "minimum_spend",
)
LOWERED: Final = ("package_fee", "overage", "add_on", "seats", "charge", "minimum_spend")
Dues = dict[date, list[Line]]


@dataclass
class Redemption:
    """An approved redemption of a coupon."""

    subscription: str
    coupon: str
    at: int
    request: str
    effective: date
    revoked: date | None = None


class Offers:
    """What an oracle knows of what is sold beside packages."""

    def __init__(self, oracle: "Oracle") -> None:
        self.oracle = oracle
        self.metrics = list(oracle.catalogue["metrics"])
        self.exhausted: set[tuple[str, str, int]] = set()

    @property
    def catalogue(self) -> Json:
        """As the account that is looked at reads it."""
        return self.oracle.catalogue

    @property
    def coupons(self) -> dict[str, Json]:
        """By name; an amount that is not in the currency is left out."""
        return {each["name"]: each for each in self.catalogue.get("coupons", ())}

    @property
    def add_ons(self) -> dict[str, Json]:
        """By name; prices that are not in the currency are left out."""
        return {each["name"]: each for each in self.catalogue.get("add_ons", ())}

    # -- add-ons (rule 31) --------------------------------------------------------------------------------------------

    def version(self, add_on: str, day: date) -> Json | None:
        """Of an add-on on a day."""
        found = [v for v in self.add_ons[add_on]["versions"] if v["effective_from"] <= day.isoformat()]
        return max(found, key=lambda v: v["effective_from"]) if found else None

    def allowed(self, package: str, held: Mapping[str, int]) -> dict[str, int]:
        """What a package allows of what is held."""
        about = next(p for p in self.catalogue["packages"] if p["name"] == package)
        return {name: number for name, number in held.items() if name in about.get("add_ons", list(self.add_ons))}

    def allowances(self, terms: Terms, held: Mapping[str, int], day: date) -> dict[str, Fraction | None]:
        """Those of the package and of the add-ons that are held."""
        found = dict(terms.allowances)
        for name, number in held.items():
            version = self.version(name, day)
            assert version is not None
            for metric, more in version["allowances"].items():
                now = found[metric]
                found[metric] = None if now is None or more is None else now + number * Fraction(more)
        return found

    def decide(
        self,
        one: Subscription,
        cycle: Cycle,
        held: Mapping[str, int],
        lower: Mapping[str, tuple[int, date]],
        answers: Sequence[Answer],
        opened_with: str | None,
    ) -> tuple[dict[str, int], dict[str, tuple[int, date]], list[Answer]]:
        """What is held from a billing date on, lower quantities that wait for the term's end, and the answers."""
        day, now, waits, made = cycle.date, dict(held), dict(lower), list[Answer]()
        for name, (number, since) in lower.items():
            if since == day:
                now[name] = number
                del waits[name]
        before = {name: number for name, number in now.items() if number}
        now = dict(before)
        asked = [a for a in answers if a.outcome == "pending" and a.subscription == one.id and a.effective == day]
        asked = [a for a in asked if a.kind in ("add", "remove")]
        if not cycle.k:
            for answer in answers:
                if answer.kind == "subscribe" and answer.outcome == "approved" and answer.subscription == one.id:
                    asked += [
                        replace(answer, request=None, kind="add", package=None, offer=name, quantity=number, given={})
                        for name, number in sorted(answer.given.items())
                    ]
        asked.sort(key=lambda a: (a.asked_at, a.request or ""))
        valid: dict[str, Answer] = {}
        for request in asked:
            own = replace(request, outcome="refused", effective=None, package=None, decided_on=day)
            made.append(own)
            assert own.offer is not None
            own.reason = self.refusal(one, cycle, own, before)
            if own.reason == "not_allowed_by_package":
                own.package = cycle.opening
            if own.reason:
                continue
            if own.offer in valid:
                superseded = valid[own.offer]
                superseded.outcome, superseded.reason = "superseded", "superseded_by_later_request"
            own.outcome, own.reason = "approved", "requested"
            valid[own.offer] = own
        for name, own in valid.items():
            for each in made:
                if each.outcome == "superseded":
                    each.effective = None
            own.effective = day
            waits.pop(name, None)
            if one.yearly and cycle.k % 12 and own.quantity < before.get(name, 0):
                own.effective = self.oracle.billing_date(one.grid_start, -(-cycle.k // 12) * 12)
                waits[name] = (own.quantity, own.effective)
            else:
                now[name] = own.quantity
        if cycle.opening is not None and opened_with is not None and cycle.opening != opened_with:
            for name in sorted(set(before) - set(self.allowed(cycle.opening, before))):
                now[name] = 0
                waits.pop(name, None)
                made.append(
                    Answer(
                        None,
                        one.id,
                        "remove",
                        "approved",
                        "not_allowed_by_package",
                        cycle.opening,
                        day,
                        0,
                        day,
                        decided_on=day,
                        offer=name,
                    )
                )
        return {name: number for name, number in now.items() if number}, waits, made

    def refusal(self, one: Subscription, cycle: Cycle, own: Answer, held: Mapping[str, int]) -> str:
        """Why what is asked of an add-on is refused at its billing date."""
        assert own.offer is not None
        if cycle.opening is None:
            return "no_live_subscription"
        if own.kind == "remove":
            return "" if held.get(own.offer) else "not_added"
        version = self.version(own.offer, cycle.date)
        if version is None:
            return "add_on_not_sold_yet"
        if "monthly" not in version["price"]:
            return "not_sold_in_currency"
        if not self.allowed(cycle.opening, {own.offer: 1}):
            return "not_allowed_by_package"
        if one.yearly and "yearly" not in version["price"]:
            return "no_yearly_price"
        return "above_maximum" if own.quantity > version.get("maximum", own.quantity) else ""

    def add_on_fees(self, one: Subscription, cycle: Cycle, fee: Line | None, costs_a_fee: bool) -> list[Line]:
        """What add-ons cost on a billing date: with the package's fee, and for more of them inside a yearly term."""
        day, k = cycle.date, cycle.k
        found = []
        for name, number in sorted(cycle.held.items()):
            version = self.version(name, day)
            assert version is not None
            part, end = self.oracle.share(one, day, k), self.oracle.billing_date(one.grid_start, k + 1)
            price = Fraction(version["price"]["yearly" if one.yearly else "monthly"])
            if one.yearly and k % 12:
                number -= cycle.held_before.get(name, 0)
                part, end = Fraction(12 - k % 12, 12), self.oracle.billing_date(one.grid_start, -(-k // 12) * 12)
            elif one.yearly:
                end = self.oracle.billing_date(one.grid_start, k + 12)
            if number > 0 and costs_a_fee and cycle.opening is not None and (fee is not None or one.yearly):
                amount = half_up(price * number * part, self.oracle.minor)
                found.append(
                    Line(
                        "add_on",
                        None,
                        cycle.opening,
                        day,
                        end,
                        Fraction(number),
                        amount,
                        day,
                        "add_on",
                        item=name,
                        add_on=name,
                    )
                )
        return [line for line in found if line.amount]

    # -- upgrades at once (rule 37) -----------------------------------------------------------------------------------

    def at_once(self, one: Subscription, cycle: Cycle, answers: Sequence[Answer]) -> tuple[list[Answer], list[Answer]]:
        """Upgrades of the cycle that starts at a billing date: the approved ones, and all answers."""
        following = self.oracle.billing_date(one.grid_start, cycle.k + 1)
        approved: list[Answer] = []
        made: list[Answer] = []
        package = cycle.opening
        for answer in sorted(answers, key=lambda a: (a.asked_at, a.request or "")):
            if answer.subscription != one.id or not answer.at_once or answer.outcome != "pending":
                continue
            if not cycle.date <= answer.asked_on < following or package is None:
                continue
            own = replace(answer, outcome="refused", effective=None, decided_on=answer.asked_on, from_package=package)
            assert own.package is not None
            terms = self.oracle.terms(one.account_id, own.package, own.asked_on)
            assert terms is not None
            if terms.monthly is None:
                own.reason = "not_sold_in_currency"
            elif one.yearly and terms.yearly is None:
                own.reason = "no_yearly_price"
            elif self.oracle.rank[own.package] <= self.oracle.rank[package]:
                own.reason = "not_an_upgrade"
            else:
                own.outcome, own.reason, own.effective = "approved", "requested", own.asked_on
                package = own.package
                approved.append(own)
            made.append(own)
        return approved, made

    def upgrade_lines(self, one: Subscription, cycles: Sequence[Cycle], blocked: Sequence[Span]) -> list[Line]:
        """The difference of the fees for the days left of the cycle, or of the yearly term."""
        found = []
        for cycle in cycles:
            k = cycle.k // 12 * 12 if one.yearly else cycle.k
            first = self.oracle.billing_date(one.grid_start, k)
            last = self.oracle.billing_date(one.grid_start, k + 12 if one.yearly else k + 1)
            for upgrade in cycle.upgrades:
                on, instant = upgrade.asked_on, self.oracle.midnight(upgrade.asked_on)
                suspended = any(begin <= instant < end for begin, end in blocked)
                if suspended and not self.oracle.policy["charge_while_suspended"]:
                    continue
                assert upgrade.package is not None and upgrade.from_package is not None
                fees = []
                for name in (upgrade.package, upgrade.from_package):
                    terms = self.oracle.terms(one.account_id, name, first)
                    assert terms is not None
                    fees.append(terms.yearly if one.yearly else terms.monthly)
                assert fees[0] is not None and fees[1] is not None
                days = (last - first).days
                if self.oracle.policy["billing_anchor"] == "first_of_month":
                    days = calendar.monthrange(on.year, on.month)[1]
                more = max(Fraction(fees[0] - fees[1]), Fraction(0)) * (last - on).days / days
                amount = half_up(more, self.oracle.minor)
                if amount:
                    found.append(
                        Line(
                            "proration",
                            None,
                            upgrade.package,
                            on,
                            last,
                            None,
                            amount,
                            on,
                            "proration",
                            item=upgrade.request,
                        )
                    )
        return found

    # -- tariffs by dimension (rule 34) -------------------------------------------------------------------------------

    def by_rule(self, rules: Sequence[Json], events: Sequence[Usage]) -> dict[str | None, list[Usage]]:
        """The events of each rule: the one with the most keys that match, of None the rest."""
        groups: dict[str | None, list[Usage]] = defaultdict(list)
        for event in events:
            values = dict(event.dimensions)
            matching = [
                rule
                for rule in rules
                if all(
                    values.get(key) in (wanted if isinstance(wanted, list) else [wanted])
                    for key, wanted in rule["when"].items()
                )
            ]
            best = max(matching, key=lambda rule: len(rule["when"]), default=None)
            groups[rule_name(best) if best is not None else None].append(event)
        return groups

    # -- seats (rule 35) ----------------------------------------------------------------------------------------------

    def seats(self, one: Subscription, cycle: Cycle, events: Mapping[str, Sequence[Usage]], due: bool) -> list[Line]:
        """Seats of the cycle that starts, and those that were added in the one that closed."""
        day, k, found = cycle.date, cycle.k, list[Line]()
        opening = self.oracle.terms(one.account_id, cycle.opening, day) if cycle.opening is not None else None
        if opening is not None and opening.seats is not None and due:
            metric = opening.seats["metric"]
            level = self.standing(metric, events, self.oracle.midnight(day))
            cost = self.seat_cost(opening.seats, level) * self.oracle.share(one, day, k)
            following = self.oracle.billing_date(one.grid_start, k + 1)
            amount = half_up(cost, self.oracle.minor)
            found.append(Line("seats", metric, cycle.opening, day, following, level, amount, day, "seats"))
        if k and cycle.closing is not None and one.end != "refunded":
            start = self.oracle.billing_date(one.grid_start, k - 1)
            terms = self.oracle.terms(one.account_id, cycle.closing, start)
            assert terms is not None
            if terms.seats is not None:
                found += self.risen(one, cycle, terms.seats, start, events)
        return [line for line in found if line.amount]

    def risen(
        self, one: Subscription, cycle: Cycle, seats: Json, start: date, events: Mapping[str, Sequence[Usage]]
    ) -> list[Line]:
        """Seats that were added in a cycle, each for the days left from its day."""
        metric, day = seats["metric"], cycle.date
        charged = self.standing(metric, events, self.oracle.midnight(start))
        days = (day - start).days
        if self.oracle.share(one, start, cycle.k - 1) != 1:
            days = calendar.monthrange(start.year, start.month)[1]
        highest: dict[date, Fraction] = {}
        for first, last in cycle.spans:
            moments = [first, *(e.at for e in events.get(metric, ()) if first <= e.at < last)]
            for moment in moments:
                local = self.oracle.local(moment)
                level = self.standing(metric, events, moment)
                highest[local] = max(level, highest.get(local, Fraction(0)))
        cost = Fraction(0)
        for local, level in sorted(highest.items()):
            if level > charged:
                more = self.seat_cost(seats, level) - self.seat_cost(seats, charged)
                cost += more * (day - local).days / days
                charged = level
        amount = half_up(cost, self.oracle.minor)
        return [Line("proration", metric, cycle.closing, start, day, None, amount, day, "proration")]

    def standing(self, metric: str, events: Mapping[str, Sequence[Usage]], at: int) -> Fraction:
        """The level at an instant, its events included."""
        return max(self.oracle.level(metric, events.get(metric, ()), at + 1), Fraction(0))

    def seat_cost(self, seats: Json, level: Fraction) -> Fraction:
        """What a level costs a whole cycle, before rounding."""
        excess = max(level - Fraction(seats["included"]), Fraction(0))
        if not excess:
            return Fraction(0)
        if "price" in seats:
            return excess * Fraction(seats["price"])
        return tiered(seats["tariff"]["model"], seats["tariff"]["tiers"], excess)

    # -- minimum spend (rule 32) --------------------------------------------------------------------------------------

    def minimum(self, one: Subscription, cycle: Cycle, so_far: Sequence[Line]) -> list[Line]:
        """What the cycle that closed lacks of its minimum."""
        if not cycle.k or cycle.closing is None:
            return []
        start, day = self.oracle.billing_date(one.grid_start, cycle.k - 1), cycle.date
        terms = self.oracle.terms(one.account_id, cycle.closing, start)
        if terms is None or terms.minimum is None:
            return []
        days: set[date] = set()
        for first, last in cycle.spans:
            local = self.oracle.local(first)
            while self.oracle.midnight(local) < last:
                days.add(local)
                local += ONE_DAY
        whole = (day - start).days
        if self.oracle.policy["billing_anchor"] == "first_of_month":
            whole = calendar.monthrange(start.year, start.month)[1]
        wanted = half_up(Fraction(terms.minimum["amount"]) * len(days) / whole, self.oracle.minor)
        counted = Decimal(0)
        for line in so_far:
            kind = line.kind
            if line.due_on > day:
                continue
            if kind == "proration":
                kind = "package_fee" if line.metric is None else "seats"
            if kind not in terms.minimum["counts"] or line.cycle_start is None or line.cycle_end is None:
                continue
            grid = [self.oracle.billing_date(one.grid_start, k) for k in range(cycle.k + 14)]
            covered = [
                begin for begin, end in itertools.pairwise(grid) if end > line.cycle_start and begin < line.cycle_end
            ]
            if start in covered:
                each = half_up(Fraction(line.amount) / len(covered), self.oracle.minor)
                counted += line.amount - each * (len(covered) - 1) if start == covered[-1] else each
        if counted >= wanted:
            return []
        return [Line("minimum_spend", None, cycle.closing, start, day, None, wanted - counted, day, "minimum_spend")]

    # -- one-off charges (rule 30) ------------------------------------------------------------------------------------

    def place(
        self,
        account: str,
        charges: Sequence[Json],
        subscriptions: Sequence[Subscription],
        by_id: Mapping[str, Sequence[Cycle]],
    ) -> tuple[dict[tuple[str, date], list[Line]], dict[tuple[str, date], list[Line]]]:
        """Charges by subscription and billing date, and those on documents of their own."""
        placed: dict[tuple[str, date], list[Line]] = defaultdict(list)
        alone: dict[tuple[str, date], list[Line]] = defaultdict(list)
        for row in charges:
            on, number = date.fromisoformat(row["on"]), Fraction(row["quantity"]) if row["quantity"] else None
            exact = Fraction(row["amount"]) if row["amount"] else (number or 1) * Fraction(row["unit_price"])
            line = Line(
                "charge",
                None,
                None,
                None,
                None,
                number,
                half_up(exact, self.oracle.minor),
                on,
                "charge",
                item=row["charge_id"],
                charge_id=row["charge_id"],
                may_be_lowered=row["coupon_allowed"] != "false",
            )
            when = None if row["at_once"] == "true" else self.billed_with(on, subscriptions)
            if when is not None:
                one, day = when
                cycle = next((c for c in by_id[one.id] if c.date == day), None)
                package = (cycle.opening or cycle.closing) if cycle is not None else None
                line = replace(line, due_on=day, package=package)
            if row["tax_category"] == "O":
                alone[f"{account}/{row['charge_id']}/charge", line.due_on].append(line)
            elif when is None:
                alone[f"{account}/charges", on].append(line)
            else:
                placed[when[0].id, line.due_on].append(line)
        return placed, alone

    def billed_with(self, on: date, subscriptions: Sequence[Subscription]) -> tuple[Subscription, date] | None:
        """The first billing date on or after a day of the subscription that is live then."""
        found = []
        for one in subscriptions:
            ends = max(d for d in (one.ended_on, one.access_last) if d is not None) if one.end else None
            if one.started > on or (ends is not None and on > ends):
                continue
            day = self.oracle.next_date(one, on - ONE_DAY)
            if one.last_date is None or day <= one.last_date:
                found.append((day, one.id, one))
        return (found[0][2], found[0][0]) if found and found.sort(key=lambda each: each[:2]) is None else None

    # -- everything that is due ---------------------------------------------------------------------------------------

    def all_dues(
        self,
        one: Subscription,
        cycles: Sequence[Cycle],
        blocked: Sequence[Span],
        events: Mapping[str, Sequence[Usage]],
        placed: Mapping[tuple[str, date], Sequence[Line]],
        redeemed: Sequence[Redemption],
    ) -> Dues:
        """What falls due on the billing dates of a subscription, in the order of calculation."""
        dues: Dues = {}
        so_far: list[Line] = self.upgrade_lines(one, cycles, blocked)
        mine = [each for each in redeemed if each.subscription == one.id]
        counted: dict[str, list[date]] = defaultdict(list)
        for cycle in cycles:
            lines = list(self.oracle.dues(one, cycle, blocked))
            instant = self.oracle.midnight(cycle.date)
            suspended = any(first <= instant < last for first, last in blocked)
            costs_a_fee = not suspended or self.oracle.policy["charge_while_suspended"]
            charged = one.no_fee_from is None or cycle.date < one.no_fee_from
            fee = next((line for line in lines if line.kind == "package_fee"), None)
            is_due = charged and costs_a_fee and cycle.opening is not None
            lines += self.add_on_fees(one, cycle, fee, is_due)
            lines += self.seats(one, cycle, events, is_due)
            so_far += lines
            lines += self.minimum(one, cycle, so_far)
            lines += placed.get((one.id, cycle.date), ())
            coupons = self.in_force(cycle.date, mine, counted)
            taken = self.taken(lines, coupons)
            for name in {line.coupon for line in taken}:
                assert name is not None
                counted[name].append(cycle.date)
            dues[cycle.date] = [*lines, *taken]
        return dues

    # -- coupons (rule 29) --------------------------------------------------------------------------------------------

    def count_redemptions(self, answers: Mapping[str, Sequence[Answer]]) -> None:
        """Which redemptions are beyond the limit over all accounts: counted by instant and request_id."""
        self.exhausted = set()
        for name, coupon in self.coupons.items():
            limits = coupon.get("redemptions", {})
            if "all" not in limits:
                continue
            positions: list[tuple[int, str, str, int]] = []
            for account, made in answers.items():
                self.oracle.look_at(account)
                valid = [a for a in made if self.names(a) == name and not self.invalid_by_itself(a)]
                valid = valid[: limits.get("account", 1)]
                positions += [(a.asked_at, str(a.request), account, nth) for nth, a in enumerate(valid)]
            for _, _, account, nth in sorted(positions)[limits["all"] :]:
                self.exhausted.add((account, name, nth))

    def names(self, answer: Answer) -> str | None:
        """The coupon that an answer is about to redeem."""
        if answer.kind == "redeem" or (answer.kind == "subscribe" and answer.outcome == "approved"):
            return answer.offer
        return None

    def invalid_by_itself(self, answer: Answer) -> str:
        """Why a redemption is refused, whatever packages and others say."""
        assert answer.offer is not None
        if answer.outcome == "refused":
            return answer.reason
        coupon = self.coupons.get(answer.offer)
        if coupon is None:
            return "unknown_coupon"
        if "percent" not in coupon and "amount" not in coupon:
            return "not_sold_in_currency"
        if answer.asked_on.isoformat() > coupon.get("redeem_until", "9999"):
            return "coupon_expired"
        if answer.kind == "subscribe" and answer.package not in coupon.get("packages", [answer.package]):
            return "not_for_this_package"
        return ""

    def redeem(
        self,
        account: str,
        answers: Sequence[Answer],
        subscriptions: Sequence[Subscription],
        by_id: Mapping[str, Sequence[Cycle]],
    ) -> tuple[list[Redemption], list[Answer]]:
        """Who holds which coupon from when on, and the answers."""
        held: list[Redemption] = []
        told: list[Answer] = []
        used: dict[str, int] = defaultdict(int)
        begun = {one.id: one for one in subscriptions}
        for answer in answers:
            if answer.kind not in ("redeem", "revoke") and not (self.names(answer) and answer.outcome == "approved"):
                continue
            own = replace(answer, package=None, given={})
            one = begun.get(str(own.subscription))
            if own.kind == "subscribe":
                assert one is not None
                own.kind, own.request, own.effective = "redeem", None, one.grid_start
            told.append(own)
            name = str(own.offer)
            refusal = self.invalid_by_itself(answer)
            if own.kind == "revoke":
                refusal = own.reason if own.outcome == "refused" else ""
                if not refusal and name not in self.coupons:
                    refusal = "unknown_coupon"
                mine = [
                    r for r in held if r.coupon == name and r.subscription == own.subscription and r.revoked is None
                ]
                if not refusal and not mine:
                    refusal = "not_redeemed"
                if not refusal:
                    own.outcome, own.reason = "approved", "revoked"
                    for each in mine:
                        each.revoked = own.effective
            else:
                coupon = self.coupons.get(name, {})
                if not refusal and answer.kind == "redeem":
                    assert one is not None
                    package = one.package
                    for cycle in by_id[one.id]:
                        if cycle.date <= own.asked_on and cycle.opening is not None:
                            package = cycle.opening
                            for upgrade in cycle.upgrades:
                                package = upgrade.package if upgrade.asked_on <= own.asked_on else package
                    if package not in coupon.get("packages", [package]):
                        refusal = "not_for_this_package"
                if not refusal:
                    nth, most = used[name], coupon.get("redemptions", {}).get("account", 1)
                    used[name] += 1
                    if (account, name, min(nth, most - 1)) in self.exhausted:
                        refusal = "coupon_exhausted"
                    elif nth >= most:
                        refusal = "already_redeemed"
                if not refusal:
                    own.outcome, own.reason = "approved", "redeemed"
                    assert own.effective is not None
                    held.append(
                        Redemption(str(own.subscription), name, own.asked_at, str(answer.request), own.effective)
                    )
            if refusal:
                own.outcome, own.reason, own.effective = "refused", refusal, None
        return held, told

    def in_force(
        self, day: date, mine: Sequence[Redemption], counted: Mapping[str, Sequence[date]], percent_only: bool = False
    ) -> list[Json]:
        """The coupons of a document of a billing date, in the order in which they are taken."""
        found = []
        for name, coupon in self.coupons.items():
            holding = [
                r for r in mine if r.coupon == name and r.effective <= day and (r.revoked is None or day < r.revoked)
            ]
            if not holding or (percent_only and "percent" not in coupon):
                continue
            since = min(r.effective for r in holding)
            before = len([d for d in counted.get(name, ()) if since <= d < day])
            if "documents" in coupon and before >= coupon["documents"] * len(holding):
                continue
            first = min(holding, key=lambda r: (r.at, r.request))
            found.append((coupon.get("priority", 100), first.at, first.request, coupon))
        return [each[3] for each in sorted(found, key=lambda each: each[:3])]

    def taken(self, lines: Sequence[Line], coupons: Sequence[Json]) -> list[Line]:
        """What coupons take off the lines of a document, one after the other."""
        ordered = sorted((line for line in lines if line.amount > 0 and line.may_be_lowered), key=self.place_on_page)
        left = {line.key: line.amount for line in ordered}
        found = []
        for coupon in coupons:
            lowered = [line for line in ordered if self.lowers(coupon, line) and left[line.key] > 0]
            base = sum((left[line.key] for line in lowered), Decimal(0))
            if "percent" in coupon:
                whole = half_up(Fraction(base) * Fraction(coupon["percent"]) / 100, self.oracle.minor)
            else:
                whole = min(Decimal(coupon["amount"]), base)
            parts = spread(whole, [left[line.key] for line in lowered], self.oracle.minor)
            for line, part in zip(lowered, parts, strict=True):
                left[line.key] -= part
                if part:
                    item = f"{coupon['name']}/{line.kind}/{line.metric or ''}/{line.item or ''}"
                    found.append(
                        replace(
                            line,
                            kind="coupon",
                            due_kind="coupon",
                            quantity=None,
                            amount=-part,
                            item=item,
                            coupon=coupon["name"],
                        )
                    )
        return found

    def place_on_page(self, line: Line) -> tuple[Any, ...]:
        """The order of lines on a page."""
        metric = -1 if line.metric is None else self.metrics.index(line.metric)
        return PAGE.index(line.kind), metric, line.item or "", line.cycle_start or date.min

    def lowers(self, coupon: Json, line: Line) -> bool:
        """Whether a coupon applies to a line."""
        kind = line.kind
        if kind == "proration":
            kind = "package_fee" if line.metric is None else "seats"
        if line.package not in coupon.get("packages", [line.package]):
            return False
        names = coupon.get("applies_to", LOWERED)
        return kind in names or f"{kind}.{line.add_on or line.metric}" in names

    def on_its_own(
        self,
        day: date,
        lines: Sequence[Line],
        redeemed: Sequence[Redemption],
        subscriptions: Sequence[Subscription],
        by_id: Mapping[str, Sequence[Cycle]],
    ) -> list[Line]:
        """The lines of a document of its own, with what coupons of percent take off: those of its cycle's document."""
        for one in reversed(subscriptions):
            dates = [cycle.date for cycle in by_id[one.id] if cycle.date <= day and cycle.opening is not None]
            following = [cycle.date for cycle in by_id[one.id] if cycle.date > day]
            if dates and following:
                mine = [each for each in redeemed if each.subscription == one.id]
                counted: dict[str, list[date]] = defaultdict(list)
                for date_, due in self.oracle.dues_of[one.id].items():
                    for name in {line.coupon for line in due if line.coupon is not None}:
                        counted[name].append(date_)
                return [*lines, *self.taken(lines, self.in_force(dates[-1], mine, counted, percent_only=True))]
        return list(lines)

    def of_coupons(self, moved: Mapping[Key, Decimal]) -> dict[Key, Decimal]:
        """Differences of closed dates: what coupons take off a document now less then, on the lines that moved."""
        found = {key: amount for key, amount in moved.items() if key[1] != "coupon"}
        by_coupon: dict[tuple[date, str], dict[Key, Decimal]] = defaultdict(dict)
        for key, amount in moved.items():
            if key[1] == "coupon":
                by_coupon[key[0], str(key[3]).split("/")[0]][key] = amount
        for parts in by_coupon.values():
            whole = sum(parts.values(), Decimal(0))
            weights = {key: abs(moved.get(lowered_by(key), Decimal(0))) for key in parts}
            if not whole:
                continue
            if not any(weights.values()):
                found |= parts
                continue
            sizes = spread(abs(whole), list(weights.values()), self.oracle.minor)
            found |= {key: size if whole > 0 else -size for key, size in zip(weights, sizes, strict=True)}
        return found


def lowered_by(key: Key) -> Key:
    """What a coupon lowers."""
    _, kind, metric, item = str(key[3]).split("/", 3)
    return key[0], kind, metric or None, item or None


def spread(whole: Decimal, weights: Sequence[Decimal], smallest: Decimal) -> list[Decimal]:
    """An amount in proportion to weights, by the largest remainder; of equal ones the earlier is first."""
    total = Fraction(sum(weights, Decimal(0)))
    if not total:
        return [Decimal(0) for _ in weights]
    steps = [Fraction(whole) / Fraction(smallest) * Fraction(weight) / total for weight in weights]
    parts = [step.numerator // step.denominator for step in steps]
    over = int(Fraction(whole) / Fraction(smallest)) - sum(parts)
    order = sorted(range(len(steps)), key=lambda place: (parts[place] - steps[place], place))
    for place in order[:over]:
        parts[place] += 1
    return [part * smallest for part in parts]
