"""Reader of the catalogue's `policy`."""

from datetime import date
from pathlib import Path

from billing.inputs.offer_entries import currency_amount
from billing.inputs.yaml_reader import Place
from billing.model.catalogue import CARD_BRANDS, SENDING, Policy, ReminderLevel
from billing.model.mail_addresses import is_mail_address
from billing.model.offers import REQUESTED_UPGRADES
from billing.model.seller import FORMAT_MISSING, INVOICE_FORMATS


def read_policy(place: Place, minor: int | None, lacking: list[str]) -> Policy:
    """The policy; adds the names of amounts that are not in the currency that is read to `lacking`."""
    default = Policy()
    place.keys(required=(), optional=tuple(Policy.__dataclass_fields__))
    cards = tuple(item.choice(CARD_BRANDS) for item in place.at("accepted_cards").items())
    before = place.lacking()
    hold_fee = place.at("hold_fee").amount(default.hold_fee)
    lacking += ["hold_fee"] if place.lacking() > before else []
    policy = Policy(
        billing_start=place.at("billing_start").date(default.billing_start),
        billing_anchor=place.at("billing_anchor").choice(("signup_day", "first_of_month"), default.billing_anchor),
        first_cycle=place.at("first_cycle").choice(("prorated", "full"), default.first_cycle),
        cancellation_notice_days=place.at("cancellation_notice_days").integer(default.cancellation_notice_days, 0, 365),
        refund_window_days=place.at("refund_window_days").integer(default.refund_window_days, 0, 366),
        access_after_cancellation=place.at("access_after_cancellation").choice(
            ("ends_at_once", "end_of_paid_cycle"), default.access_after_cancellation
        ),
        charge_while_suspended=place.at("charge_while_suspended").boolean(default=default.charge_while_suspended),
        hold_fee=hold_fee,
        lateness_days=place.at("lateness_days").integer(default.lateness_days, 0, 3660),
        issue_after_days=place.at("issue_after_days").integer(default.issue_after_days, 0, 3660),
        auto_issue=place.at("auto_issue").boolean(default=default.auto_issue),
        accepted_cards=cards if place.has("accepted_cards") else default.accepted_cards,
        payment_days=place.at("payment_days").integer(default.payment_days, 0, 365),
        invoice_format=place.at("invoice_format").choice(INVOICE_FORMATS, default.invoice_format),
        format_missing=place.at("format_missing").choice(FORMAT_MISSING, default.format_missing),
        requested_upgrades=place.at("requested_upgrades").choice(REQUESTED_UPGRADES, default.requested_upgrades),
        # YAML takes `off` for a boolean: as it is written it is one of the options.
        send=place.at("send").choice(SENDING, default.send),
        mail_from=_mail_from(place.at("mail_from")),
        reminders=_reminders(place.at("reminders"), minor, lacking),
        shadow=_shadow(place.at("shadow")),
        longest_record_mib=place.at("longest_record_mib").integer(default.longest_record_mib, 1, 1024),
        largest_ratio=place.at("largest_ratio").integer(default.largest_ratio, 1, 1_000_000),
    )
    if policy.billing_start.day != 1 or not can_be_first(policy.billing_start):
        place.at("billing_start").problem("the first day of a month, YYYY-MM-01, from 1970 to 2099")
    return policy


def _shadow(place: Place) -> str:
    path = place.text("", empty=True).strip()
    parts = Path(path).parts
    if path and (parts[:1] != ("landing",) or len(parts) < 2 or ".." in parts):  # a folder and a file
        place.problem("a file in the home's landing folder, such as landing/candidate.yaml")
        return ""
    return path


def _mail_from(place: Place) -> str:
    address = place.text("", empty=True).strip()
    if address and not is_mail_address(address):
        place.problem("a mail address, such as billing@example.com")
        return ""
    return address


def _reminders(places: Place, minor: int | None, lacking: list[str]) -> tuple[ReminderLevel, ...]:
    """The levels; adds the names of fees that are not in the currency that is read to `lacking`."""
    levels: list[ReminderLevel] = []
    for place in places.items():
        place.keys(required=("days",), optional=("fee", "final"))
        before = place.lacking()
        fee = currency_amount(place.at("fee"), minor)
        lacking += [f"reminders[{len(levels)}].fee"] if place.lacking() > before else []
        level = ReminderLevel(place.at("days").integer(1, 1, 3650), fee, place.at("final").boolean(default=False))
        if levels and levels[-1].is_final:
            place.problem("no reminder after the final one")
        elif levels and level.days <= levels[-1].days:
            place.at("days").problem(f"more than {levels[-1].days} days: reminders are in the order of their days")
        levels.append(level)
    return tuple(levels)


def can_be_first(day: date) -> bool:
    """Whether billing can start in the year of a day: the calendar of partitions must stay finite."""
    return 1970 <= day.year <= 2099
