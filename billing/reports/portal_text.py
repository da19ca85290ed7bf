"""What an account's own page says: its facts in the customer's language, numbers and dates (rules 25 and 40)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from html import escape
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote

from markupsafe import Markup

from billing.documents.titles import Titled
from billing.model.catalogue import Catalogue, Metric, rule_words
from billing.model.codes import DocumentKind, DocumentStatus, LineKind, PaymentStatus, SubscriptionStatus
from billing.rendering.v2.formats import Formats
from billing.rendering.v2.parties import mail_link, page_link
from billing.rendering.words import N_, OTHERS, Words, words
from billing.reports.svg_charts import days_path

STATUSES: Final[Mapping[str, str]] = {
    SubscriptionStatus.ACTIVE: N_("Active"),
    SubscriptionStatus.TRIAL: N_("In the trial period"),
    SubscriptionStatus.HELD: N_("On hold"),
    SubscriptionStatus.SUSPENDED: N_("Suspended until payment"),
    SubscriptionStatus.CANCELLED: N_("Cancelled"),
    SubscriptionStatus.REFUNDED: N_("Refunded and ended"),
    SubscriptionStatus.PARKED: N_("Being clarified by us"),
    SubscriptionStatus.NONE: N_("No subscription"),
}
KINDS: Final[Mapping[str, str]] = {
    "invoice": N_("Invoice"),
    "credit_note": N_("Credit note"),
    "debit_note": N_("Additional invoice"),
}
DOCUMENT_STATUSES: Final[Mapping[str, str]] = {
    DocumentStatus.OPEN: N_("To be paid"),
    DocumentStatus.PAID: N_("Paid"),
    DocumentStatus.CREDITED: N_("Offset by a credit"),
    DocumentStatus.REFUNDED: N_("Refunded"),
}
PAYMENT_STATUSES: Final[Mapping[str, str]] = {
    PaymentStatus.SUCCEEDED: N_("Received"),
    PaymentStatus.FAILED: N_("Failed"),
    PaymentStatus.REFUNDED: N_("Paid back"),
    PaymentStatus.DISPUTED: N_("Disputed"),
}
LINES: Final[Mapping[str, str]] = {
    LineKind.PACKAGE_FEE: N_("Fee of the package {package}"),
    LineKind.PRORATION: N_("Change within the cycle"),
    LineKind.HOLD_FEE: N_("Fee while the subscription is on hold"),
    LineKind.SEATS: N_("Seats"),
    LineKind.ADD_ON: N_("Add-ons"),
    LineKind.OVERAGE: N_("{metric} above the allowance, so far"),
    LineKind.CHARGE: N_("One-off charges"),
    LineKind.PREPAYMENT: N_("Prepaid credit"),
    LineKind.MINIMUM_SPEND: N_("Minimum spend"),
    LineKind.COUPON: N_("Discounts"),
    "": N_("From earlier billing dates"),
}
UNTAXED: Final[Mapping[str, str]] = {
    "reverse_charge": N_("No tax: reverse charge, you account for it"),
    "exempt": N_("No tax: exempt"),
}
PLACE: Final = "page of an account"


@dataclass(frozen=True)
class Facts:
    """What is known of one account; amounts and quantities are decimals.

    Attributes
    ----------
    profile
        Its row of PROFILE.
    account
        name, language, locale.
    cycle
        First day of the open cycle and its end; None where none is open.
    lines, taxes, days, payments
        As in `NextBills`, and payments: on, amount, status, document (null of one on account).
    files
        Of each document's number: the names of its files beside the page.
    issued
        Of each document's number: the day that it bears.
    """

    profile: Mapping[str, Any]
    account: Mapping[str, Any]
    cycle: tuple[date, date] | None
    lines: Sequence[Mapping[str, Any]]
    taxes: Sequence[Mapping[str, Any]]
    days: Sequence[Mapping[str, Any]]
    payments: Sequence[Mapping[str, Any]]
    files: Mapping[str, Sequence[str]]
    issued: Mapping[str, date]


class Speaker:
    """Words and formats of one language and locale; use it under the context `EXACT`."""

    def __init__(self, language: str, locale: str, catalogue: Catalogue) -> None:
        own = catalogue.resources.translations
        sha256 = own.get(language) or own.get(language.split("-")[0])
        self.language = language
        self.catalogue = catalogue
        self.words: Words = words(language, OTHERS, catalogue.resources.files[sha256] if sha256 else None)
        self._formats = Formats(locale, self.words.language, catalogue.currency, catalogue.minor_units)
        # A page has the same days and many equal quantities several times: CLDR patterns are slow to apply.
        self.day = lru_cache(maxsize=5_000)(self._formats.day)
        self.count = lru_cache(maxsize=20_000)(self._count)
        self.money = lru_cache(maxsize=20_000)(self._money)

    def _count(self, metric: str, quantity: Decimal) -> str:
        of = self.catalogue.metric(metric)
        return self._formats.count(quantity, of.unit or "", of.unit_code, of.decimals)

    def number(self, metric: Metric, quantity: Decimal) -> str:
        """A quantity without its unit."""
        return self._formats.count(quantity, "", "", metric.decimals)

    def title_with_unit(self, metric: Metric) -> str:
        """What stands above a column of numbers."""
        nothing = Decimal(0)
        unit = self.count(metric.name, nothing).replace(self.number(metric, nothing), "").strip()
        title = self.title(metric, metric.name)
        return f"{title}, {unit}" if unit else title

    def _money(self, amount: Decimal) -> str:
        return self._formats.money_with_currency(amount, PLACE)

    def percent(self, rate: Decimal) -> str:
        return self._formats.percent(rate)

    def named(self, messages: Mapping[str, str], code: str, **values: str) -> str:
        """The words for a code."""
        message = messages[code]
        return self.words.gettext(message, **values)

    def title(self, entry: Titled | None, name: str | None) -> str:
        """The title of a package or metric; its name where the catalogue does not know it."""
        if entry is None:
            return name or ""
        tags = (self.language, self.language.split("-")[0])
        return next((entry.titles[tag] for tag in tags if tag in entry.titles), entry.title)


def page_text(facts: Facts, speaker: Speaker, tax_names: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The values of the template `portal.html.j2`: texts, ready to be escaped."""
    profile, gettext = facts.profile, speaker.words.gettext
    seller = speaker.catalogue.seller
    packages = {each.name: each for each in speaker.catalogue.packages}
    package = speaker.title(packages.get(profile["package"]), profile["package"])
    return {
        "language": speaker.words.language,
        "direction": speaker.words.direction,
        "gettext": gettext,
        "seller": seller.name,
        "name": facts.account["name"] or profile["account_id"],
        "account_id": profile["account_id"],
        "as_of": speaker.day(profile["as_of"]),
        "package": package or gettext("No package"),
        "status": speaker.named(STATUSES, profile["status"]),
        "next_billing_date": _day(speaker, profile["next_billing_date"]),
        "upcoming": speaker.money(profile["upcoming_amount"]),
        "previous": None if profile["previous_amount"] is None else speaker.money(profile["previous_amount"]),
        "previous_date": _day(speaker, _last_invoice(facts)),
        "balance": _balance(profile["outstanding"], speaker),
        "owes": profile["outstanding"] > 0,
        "credits": _credits(profile, speaker),
        "add_ons": [held_add_on(row, speaker) for row in profile["add_ons"]],
        "coupons": [held_coupon(row, speaker) for row in profile["coupons"]],
        "covered": speaker.money(-profile["upcoming_credits"]) if profile["upcoming_credits"] else None,
        "to_pay": speaker.money(profile["upcoming_amount"] - profile["upcoming_credits"]),
        "pending": _pending(profile["pending_change"], speaker, package),
        "cycle": facts.cycle and (speaker.day(facts.cycle[0]), speaker.day(facts.cycle[1] - timedelta(days=1))),
        "metrics": [_metric(row, facts, speaker) for row in profile["usage"]],
        "by_day": _by_day(facts, speaker),
        "lines": _lines(facts, speaker, tax_names),
        "documents": [_document(row, facts, speaker) for row in profile["payment_history"]],
        "payments": [_payment(row, speaker) for row in facts.payments],
        "mail": mail_link(seller.support_email),
        "support": seller.support_email,
        "policy": page_link(seller.billing_policy_url),
    }


def _last_invoice(facts: Facts) -> date | None:
    """The day that the newest invoice bears."""
    newest = (row for row in facts.profile["payment_history"] if row["kind"] == DocumentKind.INVOICE)
    return next((facts.issued[row["number"]] for row in newest), None)


def _day(speaker: Speaker, day: date | None) -> str | None:
    return None if day is None else speaker.day(day)


def _balance(outstanding: Decimal, speaker: Speaker) -> str:
    gettext = speaker.words.gettext
    if not outstanding:
        return gettext("Nothing to pay")
    amount = speaker.money(abs(outstanding))
    return (
        gettext("{amount} to pay", amount=amount)
        if outstanding > 0
        else gettext("{amount} in your favour", amount=amount)
    )


def _credits(profile: Mapping[str, Any], speaker: Speaker) -> tuple[str, str] | None:
    """What is left of prepaid credits, and what of it expires next, in words; None without credits."""
    if not profile["credits_left"]:
        return None
    expires_on, expiring = profile["credits_expire_on"], profile["credits_expiring"]
    left = speaker.money(profile["credits_left"])
    if expires_on is None:
        return left, ""
    # It pays bills up to the day before.
    day, amount = speaker.day(expires_on - timedelta(days=1)), speaker.money(expiring)
    return left, speaker.words.gettext("{amount} of it can be used until {date}", amount=amount, date=day)


def held_add_on(row: Mapping[str, Any], speaker: Speaker) -> tuple[str, str]:
    """An add-on that is held, with its quantity, and how many there will be."""
    gettext = speaker.words.gettext
    known = {each.name: each for each in speaker.catalogue.add_ons}
    title = speaker.title(known.get(row["add_on"]), row["add_on"])
    held = f"{row['quantity']} \N{MULTIPLICATION SIGN} {title}" if row["quantity"] else title
    if row["effective_on"] is None:
        return held, ""
    # It is held up to the day before.
    if not row["next_quantity"]:
        return held, gettext("until {date}", date=speaker.day(row["effective_on"] - timedelta(days=1)))
    day, quantity = speaker.day(row["effective_on"]), str(row["next_quantity"])
    return held, gettext("{quantity} from {date}", quantity=quantity, date=day)


def held_coupon(row: Mapping[str, Any], speaker: Speaker) -> tuple[str, str]:
    """A coupon that is held, and on how many further documents it takes something off."""
    known = {each.name: each for each in speaker.catalogue.coupons}
    title, left = speaker.title(known.get(row["coupon"]), row["coupon"]), row["documents_left"]
    if left is None:
        return title, ""
    ngettext = speaker.words.ngettext
    return title, ngettext("on {number} further document", "on {number} further documents", left, number=str(left))


def _pending(change: Mapping[str, Any] | None, speaker: Speaker, package: str) -> str | None:
    if change is None:
        return None
    known = {each.name: each for each in speaker.catalogue.packages}
    target = speaker.title(known.get(change["to_package"]), change["to_package"])
    on = speaker.day(change["effective_on"])
    if change["reason"] == "auto_upgrade":
        return speaker.words.gettext(
            "Your usage has outgrown {origin}: from {date} your package is {target}.",
            origin=package,
            date=on,
            target=target,
        )
    return speaker.words.gettext("From {date} your package is {target}.", date=on, target=target)


def _metric(row: Mapping[str, Any], facts: Facts, speaker: Speaker) -> dict[str, Any]:
    gettext, name = speaker.words.gettext, row["metric"]
    metric = speaker.catalogue.metric(name)
    quantity, excess = row["quantity"] or Decimal(0), row["excess"] or Decimal(0)
    allowance: Decimal | None = row["allowance"]
    used = speaker.count(name, quantity)
    whole = max(quantity, allowance or Decimal(0)) or Decimal(1)
    within = 0 if allowance is None else int((quantity - excess) * 1000 // whole)
    over = None
    if excess:
        over = gettext(
            "{quantity} above the allowance: {amount} so far",
            quantity=speaker.count(name, excess),
            amount=speaker.money(row["overage_amount"] or Decimal(0)),
        )
    return {
        "title": speaker.title(metric, name),
        "used": gettext("{quantity}, unlimited", quantity=used)
        if allowance is None
        else gettext("{quantity} of {allowance}", quantity=used, allowance=speaker.count(name, allowance)),
        "is_limited": allowance is not None,
        "within": within,
        "over_width": 1000 - within if excess else 0,
        "over": over,
        "chart": _chart(metric, facts, speaker),
    }


def _chart(metric: Metric, facts: Facts, speaker: Speaker) -> dict[str, Any] | None:
    used = {row["day"]: row["quantity"] for row in facts.days if row["metric"] == metric.name}
    if facts.cycle is None or not any(used.values()):
        return None
    start, end = facts.cycle
    days = [start + timedelta(days=each) for each in range((end - start).days)]
    highest = max(used, key=lambda day: (used[day], -day.toordinal()))
    gettext = speaker.words.gettext
    message = (
        gettext("{metric} by day: at most {quantity}, on {date}.", **_at(metric, highest, used[highest], speaker))
        if metric.kind == "counter"
        else gettext(
            "Level of {metric} by day: at most {quantity}, on {date}.", **_at(metric, highest, used[highest], speaker)
        )
    )
    return {
        "path": days_path([used.get(day, Decimal(0)) for day in days]),
        "width": 10 * len(days),
        "title": message,
        "highest": speaker.count(metric.name, used[highest]),
    }


def _at(metric: Metric, day: date, quantity: Decimal, speaker: Speaker) -> dict[str, str]:
    return {
        "metric": speaker.title(metric, metric.name),
        "quantity": speaker.count(metric.name, quantity),
        "date": speaker.day(day),
    }


def _by_day(facts: Facts, speaker: Speaker) -> dict[str, Any] | None:
    """The charts as a table: a row for each day with usage, a column for each metric."""
    used = {(row["day"], row["metric"]): row["quantity"] for row in facts.days if row["quantity"]}
    with_usage = {name for _, name in used}
    metrics = [speaker.catalogue.metric(row["metric"]) for row in facts.profile["usage"] if row["metric"] in with_usage]
    if not metrics or facts.cycle is None:
        return None
    nothing = speaker.number(metrics[0], Decimal(0))
    days = sorted({day for day, _ in used})
    # A loop of the template costs three times as much.
    rows = [
        "</td><td>".join(
            escape(speaker.number(metric, found)) if (found := used.get((day, metric.name))) else nothing
            for metric in metrics
        )
        for day in days
    ]
    body = "".join(
        f'<tr><th scope="row">{escape(speaker.day(day))}</th><td>{row}</td></tr>\n'
        for day, row in zip(days, rows, strict=True)
    )
    return {
        "metrics": [speaker.title_with_unit(metric) for metric in metrics],
        "body": Markup(body),  # noqa: S704  # escaped above
    }


def _with_rule(title: str, row: Mapping[str, Any], words: Mapping[tuple[str, str], str]) -> str:
    """The title of a metric with the words of the rule that rates the line, where one does."""
    rule = row["rule"]
    return title if rule is None else f"{title} ({words.get((row['metric'], rule), rule)})"


def _lines(facts: Facts, speaker: Speaker, tax_names: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str | None]]:
    """What the next bill is made of, in words and amounts; a tax that is not charged has no amount."""
    metrics = {each.name: each for each in speaker.catalogue.metrics}
    packages = {each.name: each for each in speaker.catalogue.packages}
    of_rules = rule_words(speaker.catalogue) if any(row["rule"] is not None for row in facts.lines) else {}
    # Coupons have a line for each line that they lower: what reads alike is one.
    sums: dict[str, Decimal] = {}
    for row in facts.lines:
        said = speaker.named(
            LINES,
            row["kind"] or "",
            package=speaker.title(packages.get(row["package"]), row["package"]),
            metric=_with_rule(speaker.title(metrics.get(row["metric"]), row["metric"]), row, of_rules),
        )
        sums[said] = sums.get(said, Decimal(0)) + row["amount"]
    found: list[tuple[str, str | None]] = [(said, speaker.money(amount)) for said, amount in sums.items()]
    tags = (speaker.language, speaker.language.split("-")[0])
    for row in facts.taxes:
        names = tax_names.get(row["name"], {})
        name = next((names[tag] for tag in tags if tag in names), row["name"])
        if row["amount"] or row["reason"] not in UNTAXED:
            found.append((f"{name} {speaker.percent(row['rate'])}", speaker.money(row["amount"])))
        elif (said := speaker.named(UNTAXED, row["reason"])) not in dict(found):
            found.append((said, None))
    return found


def _document(row: Mapping[str, Any], facts: Facts, speaker: Speaker) -> dict[str, Any]:
    seller = speaker.catalogue.seller
    is_open = row["status"] == DocumentStatus.OPEN and row["total"] > 0
    return {
        "number": row["number"],
        "kind": speaker.named(KINDS, row["kind"]),
        "date": speaker.day(facts.issued[row["number"]]),
        "total": speaker.money(row["total"]),
        "status": speaker.named(DOCUMENT_STATUSES, row["status"]),
        "is_open": is_open,
        "files": [(PurePosixPath(name).suffix[1:].upper(), quote(name)) for name in facts.files.get(row["number"], ())],
        "pay": page_link(seller.pay_url.replace("{number}", quote(row["number"], safe=""))) if is_open else "",
    }


def _payment(row: Mapping[str, Any], speaker: Speaker) -> dict[str, Any]:
    return {
        "date": speaker.day(row["on"]),
        "amount": speaker.money(row["amount"]),
        "status": speaker.named(PAYMENT_STATUSES, row["status"]),
        "document": row["document"],
    }
