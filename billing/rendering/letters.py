"""Letters: reminders of overdue documents, and statements of accounts, as pages in the language of the customer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext
from functools import cache
from typing import TYPE_CHECKING, Final

from billing.model.codes import MovementKind
from billing.rendering.content import Fields
from billing.rendering.drawing import draw_letter
from billing.rendering.fonts import TEMPLATES
from billing.rendering.locale_formats import EXACT
from billing.rendering.logos import media_type
from billing.rendering.mails import Letter, MailText, bank_facts, greeting, pay_link, questions, written
from billing.rendering.v2.footer import footer_of
from billing.rendering.v2.formats import SPACE, Formats
from billing.rendering.v2.parties import address_lines, registration, tax_ids
from billing.rendering.words import OTHERS, Words, words

if TYPE_CHECKING:
    from jinja2 import Template

SHEET: Final = "letters/letter.css"
_AGES: Final = ((1, 30), (31, 60), (61, 90))


@dataclass(frozen=True)
class Table:
    """A table of a page: cells from `numbers_from` on are numbers; `totals` are rows of a name and an amount."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers_from: int
    totals: Sequence[tuple[str, str]] = ()
    empty: str = ""


@dataclass(frozen=True)
class Spoken:
    """The words and formats of a letter: its own words, those of documents, numbers and dates."""

    said: Words
    of_documents: Words
    out: Formats

    @classmethod
    def of(cls, content: Fields, own: bytes | None) -> "Spoken":
        language = content.text("language")
        said = words(language, OTHERS, own)
        out = Formats(
            content.optional("locale"), said.language, content.text("currency"), content.integer("minor_units")
        )
        return cls(said, words(language, own=own), out)


def reminder_pdf(content: str, own: bytes | None = None, logo: bytes | None = None) -> bytes:
    """Draw a reminder from its stored content.

    Parameters
    ----------
    own
        The home's catalogue of its language.
    logo
        The seller's logo; without one the name in type.
    """
    reminder = Fields(json.loads(content))
    with localcontext(EXACT):
        spoken = Spoken.of(reminder, own)
        said, out, seller = spoken.said, spoken.out, reminder.fields("seller")
        fee = reminder.decimal("fee")
        facts = [
            (said.gettext("Date"), out.day(reminder.day("on"))),
            (said.gettext("Account"), reminder.fields("customer").text("account_id")),
            (said.gettext("Total overdue"), out.money_with_currency(reminder.decimal("amount"), "amount")),
        ]
        if fee:
            facts.append((said.gettext("Reminder fee"), out.money_with_currency(fee, "fee")))
        bank = bank_facts(seller, said, out, _reference(reminder))
        html = _page(
            reminder,
            spoken,
            title=_title(reminder, said),
            created=reminder.day("on"),
            facts=facts,
            before=_asked(reminder, said, out),
            tables=[_overdue(reminder, said, out)],
            after=[_unless_paid(said), questions(seller, said)],
            bank=(said.gettext("How to pay"), bank) if bank else None,
            logo=logo,
        )
    return draw_letter(html, SHEET, spoken.said.language, _images(logo))


def reminder_mail(content: str, own: bytes | None = None) -> MailText:
    """The mail that carries a reminder."""
    reminder = Fields(json.loads(content))
    with localcontext(EXACT):
        spoken = Spoken.of(reminder, own)
        said, out, seller = spoken.said, spoken.out, reminder.fields("seller")
        overdue = _overdue(reminder, said, out)
        customer, named = reminder.fields("customer"), seller.text("name")
        subjects = {
            "first": said.gettext("Payment reminder from {seller}", seller=named),
            "further": said.gettext("Overdue notice from {seller}", seller=named),
            "final": said.gettext("Final demand for payment from {seller}", seller=named),
        }
        numbers = [row.text("number") for row in reminder.rows("documents")]
        pay = pay_link(seller, numbers[0]) if len(numbers) == 1 else ""
        letter = Letter(
            subjects[reminder.text("title")],
            greeting(customer.optional("name") or customer.text("account_id"), said),
            _asked(reminder, said, out),
            [*overdue.totals, *bank_facts(seller, said, out, _reference(reminder))],
            [overdue.columns[0], overdue.columns[2], overdue.columns[-1]],
            [(row[0], row[2], row[-1]) for row in overdue.rows],
            (said.gettext("Pay online"), pay) if pay else None,
            [_unless_paid(said), questions(seller, said)],
        )
        return written(letter, said, seller)


def _title(reminder: Fields, said: Words) -> str:
    return {
        "first": said.gettext("Payment reminder"),
        "further": said.gettext("Overdue notice"),
        "final": said.gettext("Final demand for payment"),
    }[reminder.text("title")]


def _asked(reminder: Fields, said: Words, out: Formats) -> list[str]:
    amount = out.money_with_currency(reminder.decimal("amount"), "amount")
    fee = reminder.decimal("fee")
    asked = {
        "first": said.gettext(
            "Perhaps you have overlooked it: we have not received your payment of {amount} yet.", amount=amount
        ),
        "further": said.gettext(
            "Your payment of {amount} is still missing. Please pay it without delay.", amount=amount
        ),
        "final": said.gettext(
            "This is our last reminder. Please pay {amount} without delay; otherwise we reserve the right to take "
            "further steps.",
            amount=amount,
        ),
    }[reminder.text("title")]
    if not fee:
        return [asked]
    costs = out.money_with_currency(fee, "fee")
    return [asked, said.gettext("A reminder fee of {amount} is charged with your next document.", amount=costs)]


def _unless_paid(said: Words) -> str:
    return said.gettext("If you have paid in the meantime, please disregard this reminder.")


def _reference(reminder: Fields) -> str:
    return ", ".join(row.text("number") for row in reminder.rows("documents")[:3])


def _overdue(reminder: Fields, said: Words, out: Formats) -> Table:
    rows = [
        (
            row.text("number"),
            out.day(row.day("issued_on")),
            out.day(row.day("due_on")),
            row.text("days"),
            out.money(row.decimal("open"), "open"),
        )
        for row in reminder.rows("documents")
    ]
    return Table(
        said.gettext("Overdue documents"),
        (
            said.gettext("Document"),
            said.gettext("Issued"),
            said.gettext("Due date"),
            said.gettext("Days overdue"),
            said.gettext("Amount open"),
        ),
        rows,
        3,
        [(said.gettext("Total overdue"), out.money_with_currency(reminder.decimal("amount"), "amount"))],
    )


def statement_pdf(content: Mapping[str, object], own: bytes | None = None, logo: bytes | None = None) -> bytes:
    """Draw the statement of an account.

    Parameters
    ----------
    content
        As `statement_content`, with language, locale, minor_units, seller and customer.
    own, logo
        As in `reminder_pdf`.
    """
    statement = Fields(content)
    with localcontext(EXACT):
        spoken = Spoken.of(statement, own)
        said, out = spoken.said, spoken.out
        until = statement.day("to")
        since = out.day(statement.day("from")) if statement.holds("from") else ""
        period = f"{since}{SPACE}\N{EN DASH}\n{out.day(until)}" if since else out.day(until)
        closing = out.money_with_currency(statement.decimal("closing"), "closing")
        html = _page(
            statement,
            spoken,
            title=said.gettext("Account statement"),
            created=until,
            facts=[
                (said.gettext("Account"), statement.fields("customer").text("account_id")),
                (said.gettext("Period"), period),
                (said.gettext("Closing balance"), closing),
            ],
            before=[said.gettext("A balance above zero is owed to us, one below zero is in your favour.")],
            tables=[_movements(statement, said, out), _ages(statement, said, out)],
            after=[questions(statement.fields("seller"), said)],
            logo=logo,
        )
    return draw_letter(html, SHEET, spoken.said.language, _images(logo))


def _movements(statement: Fields, said: Words, out: Formats) -> Table:
    kinds = {
        MovementKind.INVOICE: said.gettext("Invoice"),
        MovementKind.DEBIT_NOTE: said.gettext("Debit note"),
        MovementKind.CREDIT_NOTE: said.gettext("Credit note"),
        MovementKind.OPENING_BALANCE: said.gettext("Balance brought forward"),
        MovementKind.PAYMENT: said.gettext("Payment"),
        MovementKind.REFUND: said.gettext("Refund"),
        MovementKind.DISPUTE: said.gettext("Disputed payment"),
    }
    rows = [
        (
            out.day(row.day("date")),
            f"{kinds[MovementKind(row.text('kind'))]} {row.optional('number')}".strip(),
            out.day(row.day("due_on")) if row.holds("due_on") else "",
            out.money(row.decimal("amount"), "amount"),
            out.money(row.decimal("balance"), "balance"),
        )
        for row in statement.rows("movements")
    ]
    opening = ("", said.gettext("Opening balance"), "", "", out.money(statement.decimal("opening"), "opening"))
    return Table(
        "",
        (
            said.gettext("Date"),
            said.gettext("Movement"),
            said.gettext("Due date"),
            said.gettext("Amount"),
            said.gettext("Balance"),
        ),
        [opening, *rows],
        3,
        [(said.gettext("Closing balance"), out.money_with_currency(statement.decimal("closing"), "closing"))],
        "" if rows else said.gettext("No movements in this period."),
    )


def _ages(statement: Fields, said: Words, out: Formats) -> Table:
    aging = statement.fields("aging")
    names = [
        (said.gettext("Not due yet"), "not_due"),
        *(
            (said.gettext("{first} to {last} days overdue", first=str(first), last=str(last)), f"{first}_to_{last}")
            for first, last in _AGES
        ),
        (said.gettext("More than {days} days overdue", days=str(_AGES[-1][1])), "over_90"),
    ]
    rows = [(name, out.money(aging.decimal(key), key)) for name, key in names]
    return Table(said.gettext("Open by age"), ("", said.gettext("Amount open")), rows, 1)


def _page(
    content: Fields,
    spoken: Spoken,
    *,
    title: str,
    created: date,
    facts: Sequence[tuple[str, str]],
    before: Sequence[str],
    tables: Sequence[Table],
    after: Sequence[str],
    bank: tuple[str, Sequence[tuple[str, str]]] | None = None,
    logo: bytes | None = None,
) -> str:
    seller, customer = content.fields("seller"), content.fields("customer")
    said, out = spoken.said, spoken.out
    text = said.gettext("Page {page} of {pages}")
    start, _, rest = text.partition("{page}")
    between, _, end = rest.partition("{pages}")
    footer, closing = footer_of(seller)
    return _template().render(
        language=said.language,
        direction=said.direction,
        title=title,
        created=created.isoformat(),
        running=f"{footer}{seller.text('name')[:80]} · {title} · {start}",
        page_between=between,
        page_after=end,
        seller={
            "name": seller.text("name"),
            "address": address_lines(seller, spoken.of_documents, out),
            "ids": [*tax_ids(seller, spoken.of_documents), *filter(None, [registration(seller, spoken.of_documents)])],
        },
        customer={
            "name": customer.optional("name") or customer.text("account_id"),
            "address": address_lines(customer, spoken.of_documents, out),
        },
        facts=facts,
        before=before,
        tables=tables,
        logo=next(iter(_images(logo)), ""),
        after=[each for each in (*after, *closing) if each],
        bank=bank,
        currency=out.currency,
    )


def _images(logo: bytes | None) -> dict[str, tuple[bytes, str]]:
    """The logo by its address, with its media type."""
    return {} if logo is None else {f"overage:logo/{hashlib.sha256(logo).hexdigest()}": (logo, media_type(logo))}


@cache
def _template() -> "Template":
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(TEMPLATES / "letters", encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("letter.html.j2")


def amount_text(value: Decimal, minor_units: int) -> str:
    """An amount as contents store it."""
    return f"{value:.{minor_units}f}"
