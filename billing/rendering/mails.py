"""What mails say: of an issued document, and of a reminder, in the language of the customer (rules 23 and 41)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import localcontext
from functools import cache
from typing import TYPE_CHECKING, Final

from billing.model.codes import DocumentKind
from billing.rendering.content import Fields
from billing.rendering.fonts import TEMPLATES
from billing.rendering.locale_formats import EXACT
from billing.rendering.v2.footer import footer_lines
from billing.rendering.v2.formats import Formats
from billing.rendering.v2.parties import page_link, pay_address
from billing.rendering.words import OTHERS, Words, words

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER: Final = "mails"


@dataclass(frozen=True)
class MailText:
    """The words of a mail."""

    subject: str
    text: str
    html: str
    language: str


@dataclass(frozen=True)
class Letter:
    """What a mail says, before its layout.

    Attributes
    ----------
    facts
        Names and values, in order.
    rows, columns
        A table below them: heads, and rows of cells; the last cell of each is an amount.
    pay
        Text and address of the page where it is paid; empty without one.
    """

    subject: str
    greeting: str
    paragraphs: Sequence[str]
    facts: Sequence[tuple[str, str]] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pay: tuple[str, str] | None = None
    closing: Sequence[str] = field(default_factory=list)


def document_mail(content: Mapping[str, object], own: bytes | None = None) -> MailText:
    """The mail that carries an issued document.

    Parameters
    ----------
    content
        The stored content, of any version.
    own
        The home's catalogue of its language, if any.

    Raises
    ------
    ContentError
        Names the value that cannot be written.
    """
    document = Fields(content)
    said = words(language_of(document), OTHERS, own)
    out = Formats(
        document.optional("locale"), said.language, document.text("currency"), document.integer("minor_units")
    )
    with localcontext(EXACT):
        return written(_document_letter(document, said, out), said, document.fields("seller"))


def language_of(document: Fields) -> str:
    """The language of a document; one of version 1 has that of its locale."""
    return document.optional("language") or document.optional("locale").replace("-", "_").split("_")[0] or "en"


def _document_letter(document: Fields, said: Words, out: Formats) -> Letter:
    kind, number, seller = document.text("kind"), document.text("number"), document.fields("seller")
    issued = document.day("issued_on")
    on, named = out.day(issued), seller.text("name")
    total = document.decimal("due") if document.holds("due") else document.decimal("total")
    due_on = document.day("due_on") if document.holds("due_on") else issued
    if kind == DocumentKind.CREDIT_NOTE:
        # What a credit note gives back as prepaid credit is credited, too.
        amount = out.money_with_currency(-document.decimal("total"), "total")
        subject = said.gettext("Credit note {number} from {seller}", number=number, seller=named)
        first = said.gettext("Please find attached our credit note {number} of {date}.", number=number, date=on)
        paragraphs = [first, said.gettext("{amount} is credited to you; there is nothing to pay.", amount=amount)]
        facts = [(said.gettext("Credit note"), number), (said.gettext("Amount credited"), amount)]
        return _letter(document, said, subject=subject, paragraphs=paragraphs, facts=facts)
    amount = out.money_with_currency(total, "due")
    if kind == DocumentKind.DEBIT_NOTE:
        subject = said.gettext("Debit note {number} from {seller}", number=number, seller=named)
        first = said.gettext("Please find attached our debit note {number} of {date}.", number=number, date=on)
        facts = [(said.gettext("Debit note"), number)]
    else:
        subject = said.gettext("Invoice {number} from {seller}", number=number, seller=named)
        first = said.gettext("Please find attached our invoice {number} of {date}.", number=number, date=on)
        facts = [(said.gettext("Invoice"), number)]
    if total <= 0:
        paragraphs = [first, said.gettext("There is nothing to pay.")]
        return _letter(document, said, subject=subject, paragraphs=paragraphs, facts=facts)
    if due_on > issued:
        ask = said.gettext("Please pay {amount} by {date}.", amount=amount, date=out.day(due_on))
        facts += [(said.gettext("Amount due"), amount), (said.gettext("Due date"), out.day(due_on))]
    else:
        ask = said.gettext("The amount of {amount} is due now.", amount=amount)
        facts += [(said.gettext("Amount due"), amount)]
    facts += bank_facts(seller, said, out, number)
    return _letter(document, said, subject=subject, paragraphs=[first, ask], facts=facts, pay=pay_link(seller, number))


def _letter(
    document: Fields,
    said: Words,
    *,
    subject: str,
    paragraphs: Sequence[str],
    facts: Sequence[tuple[str, str]],
    pay: str = "",
) -> Letter:
    customer, seller = document.fields("customer"), document.fields("seller")
    return Letter(
        subject,
        greeting(customer.optional("name") or customer.text("account_id"), said),
        paragraphs,
        facts,
        pay=(said.gettext("Pay online"), pay) if pay else None,
        closing=[questions(seller, said)],
    )


def greeting(name: str, said: Words) -> str:
    return said.gettext("Hello {name},", name=name)


def questions(seller: Fields, said: Words) -> str:
    """Whom to ask; empty where the seller names nobody."""
    contact = seller.fields("contact") if seller.holds("contact") else None
    address = seller.optional("support_email") or (contact.optional("email") if contact else "")
    return said.gettext("Questions about it? Write to {address}.", address=address) if address else ""


def bank_facts(seller: Fields, said: Words, out: Formats, reference: str) -> list[tuple[str, str]]:
    """The seller's bank account, and what to quote; nothing without one."""
    if not seller.holds("bank"):
        return []
    bank = seller.fields("bank")
    facts = [
        (said.gettext("Account holder"), bank.optional("holder") or seller.text("name")),
        ("IBAN", out.iban(bank.optional("iban"))),
        ("BIC", bank.optional("bic")),
        (said.gettext("Payment reference"), reference),
    ]
    return [(name, value) for name, value in facts if value]


def pay_link(seller: Fields, number: str) -> str:
    """The page where a document is paid; empty without a safe one."""
    return page_link(pay_address(seller, number))


def written(letter: Letter, said: Words, seller: Fields) -> MailText:
    """Lay out a letter as text and as HTML."""
    values = {
        "language": said.language,
        "direction": said.direction,
        "letter": letter,
        "closing": [text for text in letter.closing if text],
        "regards": said.gettext("Kind regards"),
        "seller": seller.text("name"),
        "footer": footer_lines(seller),
        "facts": [said.gettext("{name}: {value}", name=name, value=value) for name, value in letter.facts],
        "pay": said.gettext("{name}: {value}", name=letter.pay[0], value=letter.pay[1]) if letter.pay else "",
    }
    plain, page = (_environment().get_template(name).render(values) for name in ("mail.txt.j2", "mail.html.j2"))
    return MailText(letter.subject, plain, page, said.language)


@cache
def _environment() -> "Environment":
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(TEMPLATES / _FOLDER, encoding="utf-8"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
